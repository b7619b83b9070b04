"""What a teardown would destroy, and what AWS would not delete: items of tables, instances, users of a security group."""

from __future__ import annotations

from typing import Any

from ..aws.instances import living_instances
from ..aws.paging import pages, unless_missing


def count_items(client: Any, table: str) -> dict[str, Any]:
    """The table's `name`, `state`, `item_count` and whether it is `protected` from deletion; other AWS errors are raised.

    The count is DescribeTable's own, which costs no read units and is up to six hours old.
    """
    answer = unless_missing(client.describe_table, TableName=table)
    described = answer["Table"] if answer else {}
    counted = {"item_count": described.get("ItemCount", 0), "protected": described.get("DeletionProtectionEnabled", False)}
    return {"name": table, "state": "present" if answer else "absent", **counted}


def find_instances(client: Any, name: str) -> list[dict[str, str]]:
    """Every instance with that Name tag that still is one: `id`, `name`, `state`, and a `line` in words."""
    instances = living_instances(client, name)
    found = [{"id": instance["InstanceId"], "name": name, "state": instance["State"]["Name"]} for instance in instances]
    return [one | {"line": f"instance {one['id']}: {one['state']}"} for one in sorted(found, key=lambda one: one["id"])]


def users_of_group(client: Any, name: str, instances: list[dict[str, str]]) -> list[str]:
    """What uses a security group of that name beside these instances, in words: AWS does not delete it as long as something does."""
    ours, found = {instance["id"] for instance in instances}, []
    groups = pages(client, "describe_security_groups", "SecurityGroups", Filters=[{"Name": "group-name", "Values": [name]}])
    for group in (group["GroupId"] for group in groups):
        interfaces = pages(client, "describe_network_interfaces", "NetworkInterfaces", Filters=[{"Name": "group-id", "Values": [group]}])
        found += [one["NetworkInterfaceId"] for one in interfaces if one.get("Attachment", {}).get("InstanceId") not in ours]
        for rules in ("ip-permission", "egress.ip-permission"):
            filters = [{"Name": f"{rules}.group-id", "Values": [group]}]
            others = pages(client, "describe_security_groups", "SecurityGroups", Filters=filters)
            found += [f"a rule of {one['GroupId']}" for one in others if one["GroupId"] != group]
    return sorted(set(found))


def table_line(table: dict[str, Any]) -> str:
    """One table in words."""
    if table["state"] == "absent":
        return f"table {table['name']}: absent"
    count = table["item_count"]
    return f"table {table['name']}: about {count:,} item{'' if count == 1 else 's'}"
