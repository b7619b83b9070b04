#!/usr/bin/python
"""Gather checks into one table and fail when any of them failed."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: verification_report
short_description: Gather checks into one table and fail when any of them failed
description:
  - Takes the registered results of the modules that return C(checks), makes one table of them, and fails when any check failed, naming
    each one with what was expected, what was found and what to do.
  - Fails also when there is no check at all, since nothing was verified then.
  - A registered result that is itself failed or unreachable counts as a failed check, so that a step that broke cannot pass for one that
    found nothing wrong.
options:
  results:
    description:
      - Registered results. Each is a dictionary with C(checks), the result of a loop (a dictionary with C(results)), or a list of either.
      - Results that are skipped, empty, null or without C(checks) are ignored and counted in RV(ignored).
    type: list
    elements: raw
    required: true
  title:
    description: What the summary is about.
    type: str
    default: Verification
  options:
    description: What every C(ansible-playbook) command in a remedy needs besides, to mean the same environment.
    type: str
    default: ""
author:
  - The pipeline's authors
"""

EXAMPLES = r"""
- name: Report every check
  verification_report:
    title: "Verification of {{ pipeline_environment }}"
    results:
      - "{{ queue_checks | default(none) }}"
      - "{{ table_checks | default(none) }}"
      - "{{ probe | default(none) }}"
  register: report

# Reached when all is well; otherwise the failure above shows the same table.
- name: Show the table
  ansible.builtin.debug:
    msg: "{{ report.table }}"
"""

RETURN = r"""
table:
  description: >-
    Aligned lines (check, result, found, seconds; long values are cut; one row for all that passed of a resource), the title and the
    summary, as one text.
  returned: always
  type: str
summary:
  description: One line.
  returned: always
  type: str
  sample: 128 checks, 126 passed, 2 FAILED in 9.4 s
ignored:
  description: How many of the given results had no checks.
  returned: always
  type: int
msg:
  description: The summary, then every failed check in full, causes first, with what was expected, what was found and what to do.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pipeline.report.table import gather, make_report


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "results": {"type": "list", "elements": "raw", "required": True},
            "title": {"type": "str", "default": "Verification"},
            "options": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    gathered = gather(module.params["results"])
    report = make_report(gathered, module.params["title"], module.params["options"])
    returned = {"table": "\n".join(report.table), "summary": report.summary, "ignored": gathered.ignored}
    if report.message:
        module.fail_json(msg=report.message, **returned)
    module.exit_json(changed=False, **returned)


if __name__ == "__main__":
    main()
