#!/usr/bin/python
"""List, archive, replay or purge quarantined transactions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: transaction_quarantine
short_description: List, archive, replay or purge quarantined transactions
description:
  - Works on the selected messages of the dead-letter queue. For that it receives all of them once, hides them for at most O(timeout)
    seconds, and releases those that it did not move. Messages that SQS moved there by itself have the reason C(retries_exhausted).
  - C(list) counts them by reason, with ages and samples. Of a conflict it shows the fields in which the quarantined and the stored version
    differ.
  - C(archive) writes them completely to a file in O(directory), and leaves them in the queue. C(purge) then deletes them.
  - C(replay) sends them to the transaction queue again, repaired, and then deletes them from the quarantine. It leaves and names messages
    that the function would still refuse. The attribute C(history) keeps what the dead-letter messages said before.
  - If it is killed, nothing is lost, and the next replay finishes what was begun; a journal in O(directory) records it.
options:
  action: {description: What to do., type: str, choices: [list, archive, replay, purge], default: list}
  confirm: {description: Do C(replay) and C(purge). Otherwise they only say what they would do., type: bool, default: false}
  queue_url: {description: URL of the transaction queue., type: str, required: true}
  dead_letter_queue_url: {description: URL of the dead-letter queue., type: str, required: true}
  table: {description: Name of the table., type: str, required: true}
  rules: {description: Path of the function's C(transaction.py). Its rules decide what can be replayed., type: path, required: true}
  directory: {description: Folder of the archives and the journal. Made if it is missing., type: path, required: true}
  reasons: {description: Select messages with one of these reasons., type: list, elements: str, default: []}
  ids: {description: "Select messages by transaction id, outbox id or message id.", type: list, elements: str, default: []}
  since: {description: "Select messages that were sent at this time (ISO 8601, UTC if it names no zone) or later.", type: str, default: ""}
  until: {description: Select messages that were sent before this time., type: str, default: ""}
  limit: {description: "Archive, replay or purge at most this number of the selected messages; 0 for all.", type: int, default: 0}
  repair:
    description:
      - Repairs of the body, applied in this order. C(rename OLD NEW) renames a member; C(set NAME VALUE) sets one to a JSON text;
        C(parse NAME) makes a number of C("1234.56"), C(parse NAME ,) of C("1.234,56"), C(parse NAME .) of C("1,234.56"). A text with two
        possible meanings, such as C("1.234"), needs both signs, the decimal sign first, C(parse NAME . ,) or C(parse NAME , .).
    type: list
    elements: str
    default: []
  rate: {description: "Most messages to replay in a second.", type: float, default: 20}
  timeout: {description: "Seconds for the whole action, 30 to 43195. Messages are hidden for so long.", type: int, default: 300}
  samples: {description: Messages of each reason that C(list) shows., type: int, default: 3}
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
notes:
  - Needs C(sqs:ReceiveMessage), C(sqs:ChangeMessageVisibility), C(sqs:DeleteMessage) and C(sqs:GetQueueAttributes) on the dead-letter
    queue; C(sqs:SendMessage) and C(sqs:GetQueueAttributes) on the transaction queue; C(dynamodb:BatchGetItem) on the table.
  - Receiving adds to a message's receive count.
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
lines: {description: "The result in words.", returned: always, type: list, elements: str}
complete: {description: Whether every message was received. False also if O(limit) was reached., returned: always, type: bool}
unseen: {description: About how many messages somebody else hides., returned: always, type: int}
total: {description: Messages selected., returned: for C(list), type: int}
others: {description: Messages not selected., returned: for C(list), type: int}
reasons:
  description: By reason, the most frequent first, C(count), C(oldest), C(newest), C(oldest_age_seconds), C(expires_in_seconds), C(samples).
  returned: for C(list)
  type: list
  elements: dict
archive_file: {description: The archive; none if nothing was selected., returned: for C(archive) and C(purge), type: str}
archived: {description: Messages in it., returned: for C(archive) and C(purge), type: int}
purged: {description: Messages deleted., returned: for C(purge), type: int}
sent: {description: "Messages that were, or would be, sent; C(sent_by_reason) has them by reason.", returned: for C(replay), type: int}
resumed: {description: "Messages sent as an interrupted run had begun them.", returned: for C(replay), type: int}
finished: {description: "Messages that an interrupted run had sent, and that were only deleted now.", returned: for C(replay), type: int}
gone: {description: "Messages that an interrupted run had begun, and that only the journal has now.", returned: for C(replay), type: int}
came_back: {description: Messages that this run sent and that were quarantined again during it., returned: for C(replay), type: int}
left: {description: "Up to 1,000 messages that stay, with C(why).", returned: for C(replay), type: list, elements: dict}
left_count: {description: How many there are., returned: for C(replay), type: int}
problems: {description: "The same of those moved only in part.", returned: for C(replay) and C(purge), type: list, elements: dict}
problems_count: {description: How many there are. The next replay moves them., returned: for C(replay) and C(purge), type: int}
"""

import secrets
import sqlite3
from pathlib import Path
from typing import Any

from ansible.module_utils.pipeline.aws.dead_letter_queue import MARGIN_SECONDS, MAX_HIDDEN_SECONDS
from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.content import KEY
from ansible.module_utils.pipeline.core.interruption import Interruption, interruptible
from ansible.module_utils.pipeline.core.module import OptionError, argument_spec, failing, require_least
from ansible.module_utils.pipeline.quarantine.actions import Quarantine
from ansible.module_utils.pipeline.quarantine.archive import BusyError
from ansible.module_utils.pipeline.quarantine.listing import Selection
from ansible.module_utils.pipeline.quarantine.repairs import Repair, Rules
from ansible.module_utils.pipeline.quarantine.replay import Request
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

LONGEST = MAX_HIDDEN_SECONDS - MARGIN_SECONDS
# Fields of Request that are options of the module by the same name.
SAME = ("action", "queue_url", "dead_letter_queue_url", "table", "limit", "rate", "samples")


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    with failing(module, "Cannot ask the queues for their attributes", OptionError, BusyError):
        request = read_request(module.params, write=not module.check_mode)
        try:
            with interruptible():
                report = Quarantine(module.client("sqs"), module.client("dynamodb"), system_clock(), request).act()
        except Interruption as signalled:
            module.fail_json(msg=f"Interrupted by {signalled}. Nothing is lost; a replay that was begun is finished by the next one.")
        except (OSError, sqlite3.Error) as error:
            module.fail_json(msg=f"Cannot write to {request.directory}: {error}. Nothing is lost; mend that, and run this again.")
    result = {"changed": report.changed, "lines": report.lines, **report.facts}
    if report.errors:
        module.fail_json(msg=f"{'. '.join(report.errors)}. Nothing is lost; mend that, and run this again.", **result)
    module.exit_json(**result)


def read_request(options: dict[str, Any], *, write: bool) -> Request:
    """What the options ask for. Raises OptionError for one that cannot be."""
    require_least(options, limit=0, rate=0.1, timeout=30, samples=0)
    if options["timeout"] > LONGEST:
        raise OptionError(f"timeout must be at most {LONGEST}: found {options['timeout']}; SQS hides messages for no longer")
    if options["repair"] and options["action"] != "replay":
        raise OptionError(f"repair is for action replay: found action {options['action']}")
    try:
        repairs = [Repair.read(text) for text in options["repair"]]
        selection = Selection.read(options["reasons"], options["ids"], options["since"], options["until"])
        rules = Rules(Path(options["rules"]))
    except (ValueError, OSError) as error:
        raise OptionError(str(error)) from error
    if any(repair.kind == "set" and repair.name == KEY for repair in repairs) and options["limit"] != 1 and len(options["ids"]) != 1:
        raise OptionError(f"a repair that sets {KEY} is for one message: give its message id in ids, or limit 1")
    return Request(
        **{name: options[name] for name in SAME},
        rules=rules,
        directory=Path(options["directory"]),
        selection=selection,
        repairs=repairs,
        seconds=options["timeout"],
        confirmed=options["confirm"],
        write=write,
        run=secrets.token_hex(4),
    )


if __name__ == "__main__":
    main()
