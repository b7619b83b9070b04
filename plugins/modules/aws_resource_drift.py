#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: aws_resource_drift
short_description: Compare AWS resources with what is expected, property by property
description:
  - Reads each resource and compares every property named in O(resources[].expected) with the value found. Changes nothing without O(mend).
  - Without O(mend) the result is RV(changed) when something differs, and its diff holds exactly that. Before is what was found, after is
    what is expected, each under the resource's label such as C(queue FinancialTransactionQueue).
  - A missing resource is one failed check, C(exists). So is one that cannot be read, with the error as the value found; a warning names
    it, and it is neither a difference nor a failure of the module.
  - Values are compared by meaning. The order of statements and lists in a policy document does not matter, nor does one string instead of
    a list of one; a number may be text; lists that AWS treats as sets may have any order; tags are dicts, without AWS's own (C(aws:)).
    C(null), an empty list, an empty dict and an empty text all mean "none". An additional element of a list is a difference.
options:
  remedy:
    description: What to do about a failed check, for resources that name no remedy of their own.
    type: str
    default: Run site.yml again.
  mend:
    description:
      - Restore the properties that differ and that no other module restores (such as an inline policy that nobody declared), and wait
        until everything reads back as expected. The module fails with each property that does not, and what to do about it.
      - In check mode it changes nothing and does not fail. It shows no diff, because comparing without O(mend) shows it.
    type: bool
    default: false
  settle_seconds:
    description: How many seconds AWS may take to show a change. Only queues say when they were last changed.
    type: int
    default: 0
  resources:
    description: The resources to compare.
    type: list
    elements: dict
    required: true
    suboptions:
      type:
        description:
          - The type decides which properties there are. An unknown type or property fails before any call, with those that there are.
            What needs a word about its properties is below.
          - Durations are in seconds, sizes of messages in bytes. Policies are documents. Lists are of names, but C(managed_policies),
            C(layers) and an alarm's actions of ARNs; C(role) of a function and C(permissions_boundary) are ARNs too.
          - C(iam_managed_policy), label C(policy) - a customer managed one; C(document) is that of the default version.
          - C(dynamodb_table), label C(table) - C(key_schema) is a dict of attribute and C(HASH) or C(RANGE), C(attributes) of attribute
            and type such as C(S).
          - C(sqs_queue), label C(queue) - C(sse) is C(SQS), C(KMS) or C(none); C(redrive_policy) has C(dead_letter_target_arn) and
            C(max_receive_count), C(redrive_allow_policy) has C(redrive_permission) and C(source_queue_arns).
          - C(lambda_function), label C(function) - C(memory_size) is in MiB, C(code_sha256) as M(lambda_package) returns it; C(alias) is
            where to look for code and configuration; C($LATEST) without it, and while there is no such alias.
          - C(lambda_alias), label C(alias), named as C(function:alias) - C(published) is false for C($LATEST), C(checked) is C(yes) once
            M(lambda_release) found the version right behind it; C(weights) are of versions that share its invocations,
            C(latest_differs_in) are settings in which C($LATEST) differs from the alias's version.
          - C(event_source_mappings), label C(mapping) - every mapping that has the function O(resources[].name) or the queue
            C(event_source_arn); C(count) is 1 unless named.
          - C(security_group), label C(security group) - C(ingress) and C(egress) are lists of C(protocol), C(from_port), C(to_port) and
            C(cidrs); C(protocol) C(-1) for all, without ports; C(cidrs) may name groups and prefix lists too. C(vpc_id) is where to look,
            by default the default VPC.
          - C(ec2_instances), label C(instance) - every instance whose tag Name is O(resources[].name), unless it is terminated or
            shutting down; C(count) is 1 unless named, C(root_volume_size) in GiB.
          - C(key_pair), label C(key pair) - C(public_key) is in OpenSSH's form; its comment is ignored.
          - C(cloudwatch_alarms), label C(alarms) - C(names) of all metric alarms whose name starts with O(resources[].name). Always
            exists.
          - C(sns_topic), label C(topic) - C(subscriptions) are as C(email:me@example.com), C(unconfirmed) those that their owner has not
            confirmed.
          - If several mappings or instances are found and their values of a property differ, the list of these values is found.
        type: str
        required: true
      name: {description: Name of the resource., type: str, required: true}
      expected:
        description: The properties to compare with the value expected of each. Without any, the resource must only exist.
        type: dict
        default: {}
      remedy: {description: What to do about a failed check of this resource., type: str}
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
"""

EXAMPLES = r"""
- name: Show what would change
  aws_resource_drift:
    resources:
      - type: sqs_queue
        name: FinancialTransactionQueue
        expected:
          visibility_timeout: 360
          redrive_policy:
            dead_letter_target_arn: arn:aws:sqs:us-east-1:123456789012:FinancialTransactionQueue-dlq
            max_receive_count: 10
  when: ansible_diff_mode

- name: Restore what other modules do not
  aws_resource_drift:
    mend: true
    resources:
      - type: iam_role
        name: Lambda-SQS-DynamoDB-Role
        expected:
          inline_policies: []
"""

RETURN = r"""
checks:
  description:
    - For each resource the check C(exists), and when it does, one check for each property, as M(verification_report) takes them.
    - C(found) is C(missing) for a missing resource, and the error for one that could not be read. C(seconds) is how long reading took;
      only C(exists) carries it, so that sums are right. C(cause) is whether this stops every transaction, which explains other failures.
  returned: always
  type: list
  elements: dict
  sample:
    - check: "queue FinancialTransactionQueue: visibility_timeout"
      passed: false
      expected: "360"
      found: "30"
      seconds: 0.0
      remedy: Run site.yml again.
      cause: false
differences:
  description: What differs. A missing resource is one difference, of the property C(exists).
  returned: always
  type: list
  elements: dict
  sample: [{resource: queue FinancialTransactionQueue, property: visibility_timeout, expected: 360, found: 30}]
in_sync: {description: Whether every resource was read and nothing differs., returned: always, type: bool}
unsettled:
  description: Names of resources that differ and were changed less than O(settle_seconds) ago.
  returned: always
  type: list
  elements: str
"""

from functools import cache

import boto3.session
from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.module import argument_spec, failing
from ansible.module_utils.pipeline.drift.compare import ExpectationError, compare, mend, required_services
from ansible.module_utils.pipeline.report.table import in_full
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

REVERTED = "site.yml has just set it: find out who changes it back, then run site.yml again."


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    resources, mending = module.params["resources"], module.params["mend"]
    with failing(module, "Cannot restore what differs", ExpectationError):
        # One session for all clients: each would read the descriptions of AWS's services anew.
        boto3.session.Session = cache(boto3.session.Session)
        clients = {service: module.client(service) for service in required_services(resources)}
        if mending and not module.check_mode:
            changed, drift = mend(resources, clients, system_clock(), default_remedy=REVERTED)
        else:
            drift = compare(resources, clients, default_remedy=module.params["remedy"], settle_seconds=module.params["settle_seconds"])
            changed = bool(drift.menders if mending else drift.differences)
    for unread in drift.unreadable:
        module.warn(f"Could not read {unread['resource']}: {unread['error']}")
    if mending and not module.check_mode and drift.failed:
        module.fail_json(msg="\n".join(["Not as expected:", *map(in_full, drift.failed)]), changed=changed)
    module.exit_json(
        changed=changed,
        checks=drift.checks,
        differences=drift.differences,
        in_sync=not (drift.differences or drift.unreadable),
        unsettled=drift.unsettled,
        diff={} if mending else {"before": drift.before, "after": drift.after},
    )


if __name__ == "__main__":
    main()
