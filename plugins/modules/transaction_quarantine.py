#!/usr/bin/python
"""List, archive, replay or purge quarantined transactions."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: transaction_quarantine
short_description: List, archive, replay or purge quarantined transactions
description:
  - Works on the messages of the dead-letter queue that are selected. All of them are received once for that, hidden for at most O(timeout)
    seconds, and made visible again unless they were moved. Messages that came there by redrive have the reason C(retries_exhausted).
  - C(list) counts them by reason, with ages and samples. Of a conflict it gives both versions, the quarantined one and the one that the
    table holds, read consistently, field by field where they differ.
  - C(archive) writes them, whole, to a file in O(directory), and leaves them where they are.
  - C(replay) sends them to the transaction queue again, repaired if O(repair) says so, at no more than O(rate) a second, and then deletes
    them from the quarantine. What the function would refuse even so is left where it is, and named. The attribute C(history) of a replayed
    message has what its letters said before.
  - C(purge) archives them, and deletes them once the archive is on the disk.
  - Killed at any point it loses nothing, and the next replay finishes what was begun; a journal in O(directory) knows what that was.
options:
  action:
    description: What to do.
    type: str
    choices: [list, archive, replay, purge]
    default: list
  confirm:
    description: Whether C(replay) and C(purge) are to be done; otherwise they only say what they would do, as in check mode.
    type: bool
    default: false
  queue_url:
    description: URL of the transaction queue.
    type: str
    required: true
  dead_letter_queue_url:
    description: URL of the dead-letter queue.
    type: str
    required: true
  table:
    description: Name of the table.
    type: str
    required: true
  rules:
    description: Path of the function's C(transaction.py), whose rules say what can be replayed and how versions differ.
    type: path
    required: true
  directory:
    description: Where archives and the journal are; made if it is not there. Only its owner may look into it.
    type: path
    required: true
  reasons:
    description: Select messages with one of these reasons.
    type: list
    elements: str
    default: []
  ids:
    description: Select messages by an id of the transaction, of the outbox or of the message.
    type: list
    elements: str
    default: []
  since:
    description: Select messages that were sent at this time (ISO 8601, UTC if it names no zone) or later.
    type: str
    default: ""
  until:
    description: Select messages that were sent before this time.
    type: str
    default: ""
  limit:
    description: Archive, replay or purge at most so many of those selected; 0 for all.
    type: int
    default: 0
  repair:
    description:
      - Repairs of the body, one after the other. C(rename OLD NEW) renames a member; C(set NAME VALUE) sets one to a JSON text;
        C(parse NAME) makes a number of a text such as C(1234.56), C(parse NAME ,) of one such as C(1.234,56), C(parse NAME .) of one such
        as C(1,234.56). A text that can be read in two ways, such as C(1.234), is left alone unless both signs are given, the decimal one
        first and then the one that groups, C(parse NAME . ,) or C(parse NAME , .).
    type: list
    elements: str
    default: []
  rate:
    description: Messages to replay in a second, at most.
    type: float
    default: 20
  timeout:
    description: Seconds for all of it, 30 to 43195. After a kill, messages stay hidden for up to so long.
    type: int
    default: 300
  samples:
    description: Messages of each reason that C(list) shows.
    type: int
    default: 3
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
notes:
  - Needs C(sqs:ReceiveMessage), C(sqs:ChangeMessageVisibility), C(sqs:DeleteMessage) and C(sqs:GetQueueAttributes) on the dead-letter
    queue; C(sqs:SendMessage) and C(sqs:GetQueueAttributes) on the transaction queue; C(dynamodb:BatchGetItem) on the table.
  - Receiving adds to a message's receive count.
author:
  - The pipeline's authors
"""

EXAMPLES = r"""
- name: Replay amounts that are text
  transaction_quarantine:
    action: replay
    confirm: true
    queue_url: "{{ transaction_queue_url }}"
    dead_letter_queue_url: "{{ transaction_queue_dead_letter_url }}"
    table: "{{ transaction_table_name }}"
    rules: "{{ pipeline_root }}/lambda_src/transaction.py"
    directory: "{{ quarantine_directory }}"
    reasons: [amount_not_a_number]
    repair: [parse amount]
"""

RETURN = r"""
lines:
  description: What was found or done, in words.
  returned: always
  type: list
  elements: str
complete:
  description: Whether all that the queue has was met, as far as its approximate counters can tell. False too where O(limit) ended it.
  returned: always
  type: bool
unseen:
  description: About how many messages somebody else hides.
  returned: always
  type: int
total:
  description: Messages selected.
  returned: for C(list)
  type: int
others:
  description: Messages not selected.
  returned: for C(list)
  type: int
reasons:
  description: One entry for each reason, the most frequent first.
  returned: for C(list)
  type: list
  elements: dict
  contains:
    reason: {description: The reason., type: str}
    count: {description: Messages., type: int}
    oldest: {description: When the oldest was sent., type: str}
    newest: {description: When the newest was sent., type: str}
    oldest_age_seconds: {description: Age of the oldest., type: int}
    expires_in_seconds: {description: When the queue deletes the oldest., type: int}
    samples: {description: Messages by their names; of a conflict also C(versions), by field, and C(stored_at)., type: list}
archive_file:
  description: The archive; none when nothing was selected.
  returned: for C(archive) and C(purge)
  type: str
archived:
  description: Messages in it.
  returned: for C(archive) and C(purge)
  type: int
purged:
  description: Messages deleted.
  returned: for C(purge)
  type: int
sent:
  description: Messages that were, or would be, sent.
  returned: for C(replay)
  type: int
sent_by_reason:
  description: The same by reason.
  returned: for C(replay)
  type: dict
resumed:
  description: Messages sent that an interrupted run had begun, with the content that it gave them.
  returned: for C(replay)
  type: int
finished:
  description: Messages that an interrupted run had sent, and that only had to be deleted.
  returned: for C(replay)
  type: int
gone:
  description:
    - Messages that an interrupted run had begun, and that are in the quarantine no more. Whether they were sent is not known; the journal
      has their content.
  returned: for C(replay)
  type: int
came_back:
  description: Messages that were sent by this run and quarantined again while it went on.
  returned: for C(replay)
  type: int
left:
  description: Up to 1,000 messages that stay where they are, each with C(why).
  returned: for C(replay)
  type: list
  elements: dict
left_count:
  description: How many there are.
  returned: for C(replay)
  type: int
problems:
  description: Up to 1,000 messages that could not be moved whole, each with C(why). The next replay finishes them.
  returned: for C(replay) and C(purge)
  type: list
  elements: dict
problems_count:
  description: How many there are.
  returned: for C(replay) and C(purge)
  type: int
"""

import secrets
import sqlite3
from pathlib import Path

from ansible.module_utils.pipeline.aws.dead_letter_queue import MARGIN_SECONDS, MAX_HIDDEN_SECONDS
from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.content import KEY
from ansible.module_utils.pipeline.core.errors import AWS_ERRORS
from ansible.module_utils.pipeline.core.interruption import Interruption, interruptible
from ansible.module_utils.pipeline.quarantine.actions import Quarantine, Request
from ansible.module_utils.pipeline.quarantine.archive import BusyError
from ansible.module_utils.pipeline.quarantine.listing import Selection
from ansible.module_utils.pipeline.quarantine.repairs import Repair, Rules
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

LONGEST = MAX_HIDDEN_SECONDS - MARGIN_SECONDS


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "action": {"type": "str", "choices": ["list", "archive", "replay", "purge"], "default": "list"},
            "confirm": {"type": "bool", "default": False},
            "queue_url": {"type": "str", "required": True},
            "dead_letter_queue_url": {"type": "str", "required": True},
            "table": {"type": "str", "required": True},
            "rules": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "reasons": {"type": "list", "elements": "str", "default": []},
            "ids": {"type": "list", "elements": "str", "default": []},
            "since": {"type": "str", "default": ""},
            "until": {"type": "str", "default": ""},
            "limit": {"type": "int", "default": 0},
            "repair": {"type": "list", "elements": "str", "default": []},
            "rate": {"type": "float", "default": 20},
            "timeout": {"type": "int", "default": 300},
            "samples": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    options = module.params
    for name, least in (("limit", 0), ("rate", 0.1), ("timeout", 30), ("samples", 0)):
        if options[name] < least:
            module.fail_json(msg=f"{name} must be at least {least}: found {options[name]}")
    if options["timeout"] > LONGEST:
        module.fail_json(msg=f"timeout must be at most {LONGEST}: found {options['timeout']}; SQS hides messages for no longer")
    if options["repair"] and options["action"] != "replay":
        module.fail_json(msg=f"repair is for action replay: found action {options['action']}")
    try:
        repairs = [Repair.read(text) for text in options["repair"]]
        selection = Selection.read(options["reasons"], options["ids"], options["since"], options["until"])
        rules = Rules(Path(options["rules"]))
    except (ValueError, OSError) as error:
        module.fail_json(msg=str(error))
    if any(repair.kind == "set" and repair.name == KEY for repair in repairs) and options["limit"] != 1 and len(options["ids"]) != 1:
        module.fail_json(msg=f"a repair that sets {KEY} is for one message: give its message id in ids, or limit 1")
    request = Request(
        action=options["action"],
        queue_url=options["queue_url"],
        dead_letter_queue_url=options["dead_letter_queue_url"],
        table=options["table"],
        rules=rules,
        directory=Path(options["directory"]),
        selection=selection,
        limit=options["limit"],
        repairs=repairs,
        rate=options["rate"],
        seconds=options["timeout"],
        samples=options["samples"],
        confirmed=options["confirm"],
        write=not module.check_mode,
        run=secrets.token_hex(4),
    )
    try:
        with interruptible():
            report = Quarantine(module.client("sqs"), module.client("dynamodb"), system_clock(), request).act()
    except Interruption as signalled:
        module.fail_json(msg=f"Interrupted by {signalled}. Nothing is lost; a replay that was begun is finished by the next one.")
    except BusyError as error:
        module.fail_json(msg=str(error))
    except (OSError, sqlite3.Error) as error:
        module.fail_json(msg=f"Cannot write to {options['directory']}: {error}. Nothing is lost; run this again once that is mended.")
    except AWS_ERRORS as error:
        module.fail_json_aws(error, msg="Cannot ask the queues for their attributes")
    result = {"changed": report.changed, "lines": report.lines, **report.facts}
    if report.errors:
        module.fail_json(msg=f"{'. '.join(report.errors)}. Nothing is lost; mend that, and run this again.", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
