"""Readers of IAM roles, customer managed policies and instance profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..aws.paging import pages, unless_missing
from ..core.canonical import document, number, text, text_map, text_set
from .resource_type import ResourceType, always, canonicals, found_in, lacks, page, put_or_delete, tag_dict

ROLE = {
    "trust_policy": (document, "AssumeRolePolicyDocument"),
    "managed_policies": (text_set, ""),
    "inline_policies": (text_set, ""),
    "max_session_duration": (number, "MaxSessionDuration"),
    "permissions_boundary": (text, "PermissionsBoundary.PermissionsBoundaryArn"),
    "description": (text, "Description"),
    "path": (text, "Path"),
    "tags": (text_map, ""),
}


def read_role(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    iam = clients["iam"]
    answer = unless_missing(iam.get_role, RoleName=name)
    if answer is None:
        return None
    found = found_in(answer["Role"], ROLE) | {"tags": tag_dict(answer["Role"].get("Tags"))}
    if "managed_policies" in expected:
        attached = pages(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name)
        found["managed_policies"] = [policy["PolicyArn"] for policy in attached]
    if "inline_policies" in expected:
        found["inline_policies"] = pages(iam, "list_role_policies", "PolicyNames", RoleName=name)
    return found


def read_managed_policy(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    iam = clients["iam"]
    policy = next((item for item in pages(iam, "list_policies", "Policies", Scope="Local") if item["PolicyName"] == name), None)
    if policy is None:
        return None
    found: dict[str, Any] = {"path": policy.get("Path")}
    if "document" in expected:
        version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
        found["document"] = version["PolicyVersion"]["Document"]
    if "tags" in expected:
        found["tags"] = tag_dict(pages(iam, "list_policy_tags", "Tags", PolicyArn=policy["Arn"]))
    return found


def read_instance_profile(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    answer = unless_missing(clients["iam"].get_instance_profile, InstanceProfileName=name)
    if answer is None:
        return None
    profile = answer["InstanceProfile"]
    return {
        "roles": [role["RoleName"] for role in profile.get("Roles") or []],
        "path": profile.get("Path"),
        "tags": tag_dict(profile.get("Tags")),
    }


def delete_inline_policies(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> None:
    for policy in set(found["inline_policies"]) - set(wanted):
        clients["iam"].delete_role_policy(RoleName=name, PolicyName=policy)


TYPES = {
    "iam_role": ResourceType(
        label="role",
        services=("iam",),
        read=read_role,
        properties=canonicals(ROLE),
        menders={
            "inline_policies": delete_inline_policies,
            "permissions_boundary": put_or_delete(
                "iam", "RoleName", "PermissionsBoundary", "put_role_permissions_boundary", "delete_role_permissions_boundary"
            ),
        },
        remedies={"path": page("a-role")},
        stops={"exists": always, "trust_policy": lacks, "managed_policies": lacks, "permissions_boundary": always},
    ),
    "iam_managed_policy": ResourceType(
        label="policy",
        services=("iam",),
        read=read_managed_policy,
        properties={"document": document, "path": text, "tags": text_map},
        remedies={"path": page("a-role")},
        stops={"exists": always, "document": lacks},
    ),
    "iam_instance_profile": ResourceType(
        label="instance profile",
        services=("iam",),
        read=read_instance_profile,
        properties={"roles": text_set, "path": text, "tags": text_map},
        remedies={"path": page("a-role")},
    ),
}
