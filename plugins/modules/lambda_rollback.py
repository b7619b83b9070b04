#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: lambda_rollback
short_description: Move a function's alias to an older version, and name what the withdrawn one wrote
description:
  - Moves the alias to the version that was live before, or to O(version), and records the withdrawn one in the alias's description, so
    that M(lambda_release) does not make it live again.
  - Once the last invocation of the withdrawn version has ended, finds what it wrote, by the C(processor_version) of every stored item, and
    writes the ids to a file. The same call again moves nothing and finds the same.
  - Supports diff mode and check mode, which moves nothing.
options:
  function: {description: Name of the function., type: str, required: true}
  alias: {description: Name of the alias., type: str, required: true}
  version: {description: The version to make live; by default the one that was live before., type: str, default: ""}
  table: {description: Name of the table., type: str, required: true}
  read_units:
    description: Read units that finding the records may use. A scan takes a unit for each 4 KB of the table.
    type: int
    default: 5000
  records_directory: {description: Folder for the file with the records that the withdrawn version wrote., type: path, required: true}
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
"""

EXAMPLES = r"""
- name: Make the version before live again
  lambda_rollback:
    function: ProcessFinancialStream
    alias: live
    table: RealTimeTransactions
    records_directory: .local/releases
"""

RETURN = r"""
version: {description: The version that is live., returned: always, type: str}
withdrawn: {description: The version that was live before the rollback., returned: always, type: str}
records:
  description: >-
    What the withdrawn version wrote - C(count), the first C(ids), and C(path) of the file of JSON lines with all of them. C(complete) is
    whether the whole table was read, otherwise C(error) is why not, if not for C(units), the read units used.
  returned: when not in check mode
  type: dict
summary: {description: The result in words., returned: always, type: str}
"""

from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.module import argument_spec, failing
from ansible.module_utils.pipeline.release.run import roll_back
from ansible.module_utils.pipeline.release.version_records import written_by
from ansible.module_utils.pipeline.release.versions import ReleaseError, Releases
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    options, clock = module.params, system_clock()
    releases = Releases(module.client("lambda"), options["function"], options["alias"], clock)
    with failing(module, f"Cannot roll back function {options['function']}", ReleaseError):
        version, withdrawn, moved = roll_back(releases, options["version"], module.check_mode)
        diff = {"before": {"version": withdrawn}, "after": {"version": version}} if moved else {"before": {}, "after": {}}
        found = {"changed": moved, "version": version, "withdrawn": withdrawn, "diff": diff}
        if module.check_mode:
            module.exit_json(**found, summary=f"Version {version} would be live instead of version {withdrawn}.")
        if moved:
            # An invocation that began before the alias moved may still write.
            clock.wait((releases.configuration(withdrawn) or {}).get("Timeout", 0))
        written = written_by(module.client("dynamodb"), options, withdrawn, clock)
    module.exit_json(**found, records=vars(written), summary=f"Version {version} is live, version {withdrawn} is withdrawn. {written}")


if __name__ == "__main__":
    main()
