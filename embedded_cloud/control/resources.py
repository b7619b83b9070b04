"""The resources that this account has and an empty account does not: what a teardown would leave behind."""

import importlib
from typing import Any

from embedded_cloud.base.moto_backend import MotoBackend

# MiniStack's service modules, and their stores by kind. A store's keys are (account, region, key) or (account, key).
_MINISTACK_STORES = {
    "sqs": {"queues": "_queue_name_to_url"},
    "dynamodb": {"tables": "_tables"},
    "lambda_svc": {"functions": "_functions", "event_source_mappings": "_esms"},
    "cloudwatch_logs": {"log_groups": "_log_groups"},
    "iam": {"roles": "_roles", "policies": "_policies", "instance_profiles": "_instance_profiles", "users": "_users", "groups": "_groups"},
    "ssm": {"ssm_parameters": "_parameters"},
    "sns": {"topics": "_topics"},
    "s3": {"buckets": "_buckets"},
    "secretsmanager": {"secrets": "_secrets"},
}


async def list_resources(moto: MotoBackend) -> dict[str, list[str]]:
    """The names (identifiers, where there are no names) of every resource, by kind, sorted; empty kinds included."""
    listed = {
        kind: [str(key[-1]) for key in getattr(importlib.import_module(f"ministack.services.{module}"), store).to_dict()]
        for module, stores in _MINISTACK_STORES.items()
        for kind, store in stores.items()
    }
    listed["policies"] = [arn.rpartition("/")[2] for arn in listed["policies"]]
    listed |= await moto.run(lambda: _moto_resources(moto))
    return {kind: sorted(names) for kind, names in listed.items()}


def _moto_resources(moto: MotoBackend) -> dict[str, list[str]]:
    def named(backend: Any, instance: str) -> str:
        tags = backend.tags.get(instance, {})
        return f"{instance} ({tags['Name']})" if "Name" in tags else instance

    ec2, cloudwatch = moto.backends("ec2"), moto.backends("cloudwatch")
    groups = [group for backend in ec2 for vpc in backend.groups.values() for group in vpc.values()]
    return {
        "instances": [named(backend, one.id) for backend in ec2 for one in backend.all_instances() if one.state != "terminated"],
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
