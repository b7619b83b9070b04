#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: verification_report
short_description: Gather checks into one table and fail when any of them failed
description:
  - Takes the registered results of the modules that return C(checks), makes one table of them, and fails when any check failed, naming
    each one with what was expected, what was found and what to do. Fails also when there is no check at all.
  - A result that itself failed or was unreachable counts as a failed check, so that a step that broke cannot pass for one that found
    nothing wrong.
options:
  results:
    description:
      - Registered results. Each is a dictionary with C(checks), the result of a loop (a dictionary with C(results)), or a list of either.
      - Results that are skipped, empty, null or without C(checks) are ignored.
    type: list
    elements: raw
    required: true
  title: {description: What the summary is about., type: str, default: Verification}
  options:
    description: What every C(ansible-playbook) command in a remedy needs besides, to mean the same environment.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Report every check
  verification_report:
    title: "Verification of {{ pipeline_environment }}"
    results: ["{{ queue_checks | default(none) }}", "{{ table_checks | default(none) }}", "{{ probe | default(none) }}"]
  register: report
"""

RETURN = r"""
table:
  description: Aligned lines, with one row for all that passed of a resource and long values cut, then title and summary, as one text.
  returned: always
  type: str
summary: {description: One line., returned: always, type: str, sample: "128 checks, 126 passed, 2 FAILED in 9.4 s"}
msg: {description: "The summary, then every failed check in full, causes first.", returned: failure, type: str}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pipeline.core.module import argument_spec
from ansible.module_utils.pipeline.report.table import make_report


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    report = make_report(module.params["results"], module.params["title"], module.params["options"])
    returned = {"table": "\n".join(report.table), "summary": report.summary}
    if report.message:
        module.fail_json(msg=report.message, **returned)
    module.exit_json(changed=False, **returned)


if __name__ == "__main__":
    main()
