"""Finding EC2 instances by name."""

from __future__ import annotations

from typing import Any

from .paging import pages

# States of an instance that is not terminated or about to be. Source: "Amazon EC2 instance state changes".
LIVING_STATES = ["pending", "running", "stopping", "stopped"]


def living_instances(ec2: Any, name: str) -> list[dict[str, Any]]:
    """Every instance with that Name tag that is not terminated or about to be, as EC2 describes it."""
    filters = [{"Name": "tag:Name", "Values": [name]}, {"Name": "instance-state-name", "Values": LIVING_STATES}]
    reservations = pages(ec2, "describe_instances", "Reservations", Filters=filters)
    return [instance for reservation in reservations for instance in reservation["Instances"]]
