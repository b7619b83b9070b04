#!/usr/bin/python
"""Ansible module: compare AWS resources with what is expected, property by property."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aws_resource_drift
short_description: Compare AWS resources with what is expected, property by property
description:
  - Reads each resource and compares every property named in O(resources[].expected) with the value found. Changes nothing without O(mend).
  - Without O(mend) the result is RV(changed) when something differs, and its diff holds exactly the properties that differ. Before is
    what was found, after is what is expected, each under the resource's label such as C(queue FinancialTransactionQueue).
  - A missing resource is one failed check, C(exists). So is a resource that cannot be read, with the error as the value found. A warning
    and RV(unreadable) name it; it is neither a difference nor a failure of the module.
  - Values are compared by meaning. The order of statements and lists in a policy document does not matter, nor does one string instead of
    a list of one; a number may be text; lists that AWS treats as sets may have any order; tags are dicts, without AWS's own (C(aws:)).
    C(null), an empty list, an empty dict and an empty text all mean "none".
  - A list is compared whole, so an additional element is a difference.
  - Resources are read in parallel, and only with the calls that the named properties need.
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
          - The type decides which properties O(resources[].expected) may name. An unknown type or property fails before any call.
          - C(iam_role), label C(role) - C(trust_policy) (document), C(managed_policies) (ARNs), C(inline_policies) (names),
            C(max_session_duration) (seconds), C(permissions_boundary) (ARN), C(description), C(path), C(tags).
          - C(iam_managed_policy), label C(policy) - C(document) (of the default version), C(path), C(tags). A customer managed one, found
            by its name.
          - C(iam_instance_profile), label C(instance profile) - C(roles) (names), C(path), C(tags).
          - C(dynamodb_table), label C(table) - C(status), C(key_schema) (dict of attribute and C(HASH) or C(RANGE)), C(attributes)
            (dict of attribute and type such as C(S)), C(billing_mode), C(read_capacity), C(write_capacity) (units), C(global_indexes)
            (names), C(local_indexes) (names), C(stream_enabled), C(deletion_protection), C(tags).
          - C(sqs_queue), label C(queue) - C(visibility_timeout), C(message_retention_period), C(receive_message_wait_time),
            C(delay_seconds) (seconds), C(maximum_message_size) (bytes), C(sse) (C(SQS), C(KMS) or C(none)), C(policy) (document),
            C(redrive_policy) (dict of C(dead_letter_target_arn) and C(max_receive_count)), C(redrive_allow_policy) (dict of
            C(redrive_permission) and C(source_queue_arns)), C(fifo), C(tags).
          - C(lambda_function), label C(function) - C(runtime), C(handler), C(role) (ARN), C(memory_size) (MiB), C(timeout) (seconds),
            C(code_sha256) (base64, as M(lambda_package) returns it), C(environment) (dict), C(architectures), C(layers) (ARNs),
            C(package_type), C(state), C(last_update_status), C(reserved_concurrency), C(tracing) (C(PassThrough) or C(Active)),
            C(log_group), C(description), C(tags); C(alias) (where to look for code and configuration; C($LATEST) without it, and while
            there is no such alias).
          - C(lambda_alias), label C(alias), named as C(function:alias) - C(function_version), C(published) (false for C($LATEST)),
            C(checked) (C(yes) once M(lambda_release) found the version right behind it), C(weights) (of versions that share its
            invocations), C(latest_differs_in) (settings in which C($LATEST) differs from the alias's version).
          - C(event_source_mappings), label C(mapping) - every mapping that has the function O(resources[].name) or the queue
            C(event_source_arn). C(count) (1 unless named), C(event_source_arn), C(function_arn), C(state), C(batch_size),
            C(maximum_batching_window) (seconds), C(function_response_types), C(maximum_concurrency), C(filters) (patterns).
          - C(log_group), label C(log group) - C(retention_in_days), C(kms_key_id), C(log_group_class), C(metric_filters) (names),
            C(subscription_filters) (names), C(tags).
          - C(security_group), label C(security group) - C(description), C(ingress), C(egress) (lists of C(protocol), C(from_port),
            C(to_port), C(cidrs); C(protocol) C(-1) for all, without ports; C(cidrs) may name groups and prefix lists too), C(vpc_id)
            (where to look; by default the default VPC), C(tags).
          - C(ec2_instances), label C(instance) - every instance whose tag Name is O(resources[].name), unless it is terminated or
            shutting down. C(count) (1 unless named), C(state), C(instance_type), C(instance_profile) (name), C(http_tokens),
            C(http_hop_limit), C(security_groups) (names), C(root_volume_type), C(root_volume_encrypted), C(root_volume_size) (GiB),
            C(key_name), C(tags).
          - C(key_pair), label C(key pair) - C(public_key) (in OpenSSH's form; its comment is ignored), C(tags).
          - C(cloudwatch_alarm), label C(alarm) - C(metric_name), C(namespace), C(dimensions) (dict), C(statistic), C(period)
            (seconds), C(evaluation_periods), C(datapoints_to_alarm), C(threshold), C(comparison_operator), C(treat_missing_data),
            C(alarm_actions), C(ok_actions), C(insufficient_data_actions), C(actions_enabled), C(description), C(tags).
          - C(cloudwatch_alarms), label C(alarms) - C(names) of all metric alarms whose name starts with O(resources[].name). Always
            exists.
          - C(sns_topic), label C(topic), found by its name - C(policy) (document), C(subscriptions) (as C(email:me@example.com)),
            C(unconfirmed) (those that their owner has not confirmed), C(tags).
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
- name: Restore what other modules do not
  aws_resource_drift:
    mend: true
    resources:
      - type: iam_role
        name: Lambda-SQS-DynamoDB-Role
        expected:
          inline_policies: []

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

- name: Compare the mapping with what was deployed
  aws_resource_drift:
    remedy: Run "ansible-playbook site.yml --tags stream_processor".
    resources:
      - type: event_source_mappings
        name: ProcessFinancialStream
        expected:
          event_source_arn: arn:aws:sqs:us-east-1:123456789012:FinancialTransactionQueue
          state: Enabled
          filters: []
  register: mapping_drift
  changed_when: false
"""

RETURN = r"""
checks:
  description: For each resource the check C(exists), and when it does, one check for each property.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: The resource's label, its name and the property.
      type: str
      sample: "queue FinancialTransactionQueue: redrive_policy"
    passed: {description: Whether what was found means the same as what was expected., type: bool}
    expected: {description: The expected value as text; C(none) for none., type: str}
    found:
      description: The value found as text, C(missing) for a missing resource, or the error for one that could not be read.
      type: str
    seconds:
      description: How long reading the resource took. Only its first check, C(exists), carries it, so that sums are right.
      type: float
    remedy: {description: What to do when the check failed., type: str}
    cause: {description: "Whether this stops every transaction, which explains other failed checks.", type: bool}
differences:
  description: What differs. A missing resource is one difference, of the property C(exists).
  returned: always
  type: list
  elements: dict
  sample:
    - resource: queue FinancialTransactionQueue
      property: visibility_timeout
      expected: 360
      found: 30
in_sync: {description: Whether every resource was read and nothing differs., returned: always, type: bool}
unsettled:
  description: Names of resources that differ and were changed less than O(settle_seconds) ago.
  returned: always
  type: list
  elements: str
unreadable:
  description: Resources that could not be read.
  returned: always
  type: list
  elements: dict
  sample:
    - resource: queue FinancialTransactionQueue
      error: "AccessDenied: not authorized to perform sqs:GetQueueAttributes"
"""

from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.module import argument_spec, failing
from ansible.module_utils.pipeline.drift.compare import ExpectationError, compare, mend, required_services
from ansible.module_utils.pipeline.report.table import in_full
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

REVERTED = "site.yml has just set it: find out who changes it back, then run site.yml again."


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    resources, mending = module.params["resources"], module.params["mend"]
    with failing(module, "Cannot restore what differs", ExpectationError):
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
        unreadable=drift.unreadable,
        unsettled=drift.unsettled,
        diff={} if mending else {"before": drift.before, "after": drift.after},
    )


if __name__ == "__main__":
    main()
