"""An operator whose only permissions are the operator's policies, and the permissions that the plays needed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from plays import BIN, REGION, ROOT, Pipeline

NAME = "operator"
POLICIES = ["files/operator-services-policy.json.j2", "files/operator-iam-ec2-policy.json.j2"]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def rendered(template: str, directory: Path, **variables: Any) -> dict[str, Any]:
    """A policy that Ansible renders with the settings of the local inventory, overridden by `variables`."""
    destination = directory / Path(template).stem
    arguments = ["-m", "ansible.builtin.template", "-a", f"src={template} dest={destination} mode=0644", "-e", json.dumps(variables)]
    done = subprocess.run(
        [str(BIN / "ansible"), "workstation-1", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(destination.read_text())


def make_operator(pipeline: Pipeline, policies: list[dict[str, Any]]) -> str:
    """As root, make a user with these policies, and let the plays run as that user. Returns the id of its access key."""
    iam = pipeline.client("iam")
    iam.create_user(UserName=NAME)
    for number, policy in enumerate(policies):
        arn = iam.create_policy(PolicyName=f"{NAME}-{number}", PolicyDocument=json.dumps(policy))["Policy"]["Arn"]
        iam.attach_user_policy(UserName=NAME, PolicyArn=arn)
    key = iam.create_access_key(UserName=NAME)["AccessKey"]
    config = pipeline.directory / "operator.cfg"
    config.touch(mode=0o600)
    config.write_text(f"[profile {NAME}]\naws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n")
    pipeline.settings |= {
        "aws_connection": {"profile": NAME, "region": REGION, "endpoint_url": pipeline.endpoint},
        "aws_environment": {
            "AWS_CONFIG_FILE": str(config),
            "AWS_PROFILE": NAME,
            "AWS_REGION": REGION,
            "AWS_URL": pipeline.endpoint,
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
            "AWS_SESSION_TOKEN": "",
            # As in the inventory's value, which this replaces: the shell of these tests has a proxy.
            "no_proxy": "127.0.0.1",
        },
    }
    return key["AccessKeyId"]


def needed(pipeline: Pipeline, access_key: str) -> list[dict[str, Any]]:
    """All permissions that requests with this key have needed: [{"action", "resource", "context"}]."""
    with urlopen(f"{pipeline.endpoint}/_embedded_cloud/permissions?access_key={access_key}", timeout=10) as response:
        return json.load(response)
