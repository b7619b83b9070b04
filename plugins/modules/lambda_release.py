#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: lambda_release
short_description: Publish a function's version behind an alias, probed before and after
description:
  - With O(state=released), publishes C($LATEST) as a version, unless the alias points to one with the same code and configuration. Probes
    it by invoking it directly (M(pipeline_probe) has the checks), and moves the alias to it if every check passes. Never makes a version
    live that a rollback withdrew.
  - With O(state=checked), probes the version behind the alias through the queue, unless that was done. If a check fails, moves the alias
    back to the version before, if there is one, names what the bad version wrote, and fails.
  - The alias's description records the progress, so that the next run continues a release that was interrupted.
  - Deletes all but the newest versions; never the live one, the one before it, a withdrawn one, or one that an alias points to.
  - Supports diff mode and check mode, which publishes, probes and moves nothing, and sees C($LATEST) before the play changes it.
options:
  state: {description: Which step of a release to take., type: str, choices: [released, checked], default: released}
  function: {description: Name of the function., type: str, required: true}
  alias: {description: Name of the alias., type: str, required: true}
  versions_kept: {description: "How many of the newest versions stay, at least 1.", type: int, default: 5}
  read_units: {description: Read units that finding a bad version's records may use., type: int, default: 5000}
  records_directory: {description: Folder for the file with the records that a bad version wrote., type: path, required: true}
  queue_url: {description: As of M(pipeline_probe)., type: str, required: true}
  dead_letter_queue_url: {description: As of M(pipeline_probe)., type: str, required: true}
  table: {description: As of M(pipeline_probe)., type: str, required: true}
  log_group: {description: As of M(pipeline_probe)., type: str, required: true}
  high_value_threshold: {description: As of M(pipeline_probe)., type: str, required: true}
  medium_value_threshold: {description: As of M(pipeline_probe)., type: str, required: true}
  timeout: {description: As of M(pipeline_probe)., type: int, default: 60}
  log_timeout: {description: As of M(pipeline_probe)., type: int, default: 180}
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
"""

EXAMPLES = r"""
- name: Release the new code
  lambda_release:
    function: ProcessFinancialStream
    alias: live
    records_directory: .local/releases
    queue_url: "{{ transaction_queue_url }}"
    dead_letter_queue_url: "{{ transaction_queue_dead_letter_url }}"
    table: "{{ transaction_table_name }}"
    log_group: "{{ stream_processor_log_group }}"
    high_value_threshold: "{{ stream_processor_high_value_threshold }}"
    medium_value_threshold: "{{ stream_processor_medium_value_threshold }}"
"""

RETURN = r"""
version: {description: The version that is live at the end. Empty if there is none., returned: always, type: str, sample: "7"}
previous: {description: The version that was live before it. Empty if there is none., returned: always, type: str}
deleted: {description: Versions that were deleted., returned: always, type: list, elements: str}
checks: {description: As of M(pipeline_probe). On failure only the failed ones., returned: always, type: list, elements: dict}
"""

from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.interruption import Interruption, interruptible
from ansible.module_utils.pipeline.core.module import OptionError, argument_spec, failing, require_least, with_diff
from ansible.module_utils.pipeline.probe.run import clients_of
from ansible.module_utils.pipeline.release.probe import ReleaseProbes
from ansible.module_utils.pipeline.release.run import RefusedError, ReleaseRun, failed
from ansible.module_utils.pipeline.release.versions import ReleaseError, Releases
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    options, functions, clock = module.params, module.client("lambda"), system_clock()
    releases = Releases(functions, options["function"], options["alias"], clock)
    run = ReleaseRun(releases, options["versions_kept"], module.check_mode)
    try:
        with failing(module, f"Cannot release function {options['function']}", OptionError, ReleaseError), interruptible():
            require_least(options, versions_kept=1)
            probes = ReleaseProbes(options, clients_of(module), functions, releases, clock)
            outcome = run.release(probes.directly) if options["state"] == "released" else run.confirm(probes.through_queue, probes.written)
    except RefusedError as error:
        # Ansible prints the whole result before the message: passed checks would bury the failed ones.
        module.fail_json(msg=str(error), **with_diff(error.outcome) | {"checks": failed(error.outcome.checks)})
    except Interruption as signalled:
        module.fail_json(msg=f"Interrupted by {signalled}. The probe removed its own records; run site.yml again to continue the release.")
    module.exit_json(**with_diff(outcome))


if __name__ == "__main__":
    main()
