"""The resources that this account has and an empty account does not: what a teardown would leave behind."""

import importlib
from typing import Any

from embedded_cloud.base.moto_backend import MotoBackend

# Kind, MiniStack's service module, its store. A store's keys are (account, region, key) or (account, key).
_MINISTACK_STORES = (
    ("queues", "sqs", "_queue_name_to_url"),
    ("tables", "dynamodb", "_tables"),
    ("functions", "lambda_svc", "_functions"),
    ("event_source_mappings", "lambda_svc", "_esms"),
    ("log_groups", "cloudwatch_logs", "_log_groups"),
    ("roles", "iam", "_roles"),
    ("policies", "iam", "_policies"),
    ("instance_profiles", "iam", "_instance_profiles"),
    ("users", "iam", "_users"),
    ("groups", "iam", "_groups"),
    ("ssm_parameters", "ssm", "_parameters"),
    ("topics", "sns", "_topics"),
    ("buckets", "s3", "_buckets"),
    ("secrets", "secretsmanager", "_secrets"),
)


async def list_resources(moto: MotoBackend) -> dict[str, list[str]]:
    """The names (identifiers, where there are no names) of every resource, by kind, sorted; empty kinds included."""
    listed = {kind: _stored(module, store) for kind, module, store in _MINISTACK_STORES}
    listed["policies"] = [arn.rpartition("/")[2] for arn in listed["policies"]]
    listed |= await moto.run(lambda: _moto_resources(moto))
    return {kind: sorted(names) for kind, names in listed.items()}


def _stored(module: str, store: str) -> list[str]:
    stored = getattr(importlib.import_module(f"ministack.services.{module}"), store).to_dict()
    return [str(key[-1]) for key in stored]


def _moto_resources(moto: MotoBackend) -> dict[str, list[str]]:
    ec2, cloudwatch = moto.backends("ec2"), moto.backends("cloudwatch")
    groups = [group for backend in ec2 for vpc in backend.groups.values() for group in vpc.values()]
    return {
        "instances": [_named(instance) for backend in ec2 for instance in backend.all_instances() if instance.state != "terminated"],
        "security_groups": [group.name for group in groups if group.name != "default"],
        "key_pairs": [name for backend in ec2 for name in backend.key_pairs],
        "volumes": [volume for backend in ec2 for volume in backend.volumes],
        "snapshots": [snapshot.id for backend in ec2 for snapshot in backend.snapshots.values() if snapshot.owner_id == moto.account],
        "addresses": [address.public_ip for backend in ec2 for address in backend.addresses],
        "vpcs": [vpc.id for backend in ec2 for vpc in backend.vpcs.values() if not vpc.is_default],
        "launch_templates": [name for backend in ec2 for name in backend.launch_template_name_to_ids],
        "alarms": [name for backend in cloudwatch for name in backend.alarms],
        "dashboards": [name for backend in cloudwatch for name in backend.dashboards],
    }


def _named(instance: Any) -> str:
    tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
    return f"{instance.id} ({tags['Name']})" if "Name" in tags else str(instance.id)
