"""Runs the real plays on embedded clouds, each with a free port and a directory of its own."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
REGION = "us-east-1"
ACCOUNT = "000000000000"
PLAY_SECONDS = 300
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
AWS_INVENTORY = ("-i", "inventories/aws")
PROFILE = "[default]\naws_access_key_id = {aws_access_key_id}\naws_secret_access_key = {aws_secret_access_key}\n"


def root_keys(config: Path) -> dict[str, str]:
    """The keys of an embedded cloud's root, from the file that it made, as boto3.client takes them."""
    found = configparser.ConfigParser(interpolation=None)
    found.read_string(config.read_text())
    return dict(found["profile embedded-cloud"])


@dataclass
class Run:
    """The output and the exit status of a play."""

    status: int
    output: str

    @property
    def totals(self) -> dict[str, int]:
        """The recap, summed over the hosts: {"ok": 12, "changed": 0, ...}."""
        sums: dict[str, int] = {}
        for name, value in re.findall(r"\b(ok|changed|unreachable|failed|skipped|rescued|ignored)=(\d+)", self.output):
            sums[name] = sums.get(name, 0) + int(value)
        return sums

    @property
    def failed_checks(self) -> set[str]:
        """The checks that verify.yml's table shows as failed."""
        rows = [line.strip().split("|") for line in self.output.splitlines() if re.search(r"\|\s*FAIL\s*\|", line)]
        return {row[0].strip(" -'\"") for row in rows}

    @property
    def first_failed_check(self) -> str:
        """The check of the first row that failed."""
        row = re.search(r"^(.*)\|\s*FAIL\s*\|", self.output, re.MULTILINE)
        return row[1].split("|")[0].strip(" -'\"") if row else ""

    @property
    def message(self) -> str:
        """All that was printed, on one line: Ansible breaks long ones."""
        return " ".join(self.output.split())

    @property
    def changed_tasks(self) -> list[str]:
        """The names of the tasks that changed something, or would change it where --check was given."""
        found, task = [], ""
        for line in self.output.splitlines():
            if heading := re.match(r"TASK \[(.*?)\] \*", line):
                task = heading[1]
            elif line.startswith("changed: ["):
                found.append(task)
        return found

    def diffs(self) -> list[str]:
        """The changed lines of every diff that was printed, without their indentation."""
        return [line[0] + line[1:].strip() for line in self.output.splitlines() if re.match(r"[+-](?![+-]{2} )", line)]

    def ended_well(self) -> Run:
        assert self.status == 0, self.output[-6000:]
        return self


@dataclass
class Pipeline:
    """A pipeline on an embedded cloud of its own. `environment` is added to the environment of the operator's shell."""

    directory: Path
    port: int
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    root: Path = ROOT

    @property
    def config(self) -> Path:
        """Where its embedded cloud keeps root's key."""
        return self.directory / "aws.cfg"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def play(self, name: str, *options: str, **settings: Any) -> Run:
        """Run ansible-playbook as an operator does; `settings` go in as extra variables."""
        variables = {
            "embedded_cloud_port": self.port,
            "embedded_cloud_directory": str(self.directory),
            "teardown_export_directory": str(self.directory / "exports"),
        }
        variables |= self.settings | settings
        return self.run("ansible-playbook", f"{name}.yml", *options, "-e", json.dumps(variables))

    def run(self, *command: str) -> Run:
        """Run a command of Ansible in the root of the clone."""
        unset = {"no_proxy", "pythondontwritebytecode"}
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_") and k.lower() not in unset} | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONPATH": str(ROOT / "tests" / "support" / "short_processes"),
            # Tests look at each task, and count the recap; what a person sees has a test of its own.
            "ANSIBLE_STDOUT_CALLBACK": "default",
            # The environment of an operator's shell must not matter.
            "AWS_ACCESS_KEY_ID": "AKIAOPERATORSOWN",
            "AWS_SECRET_ACCESS_KEY": "of-the-shell",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            **dict.fromkeys(PROXIES, "http://127.0.0.1:9"),
        }
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.root,
            env=environment | self.environment,
            capture_output=True,
            text=True,
            timeout=PLAY_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Run(done.returncode, done.stdout + done.stderr)

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            REGION,
            endpoint_url=self.endpoint,
            **root_keys(self.config),
            config=Config(retries={"total_max_attempts": 2}),
        )

    def queue_url(self, suffix: str = "") -> str:
        return f"{self.endpoint}/{ACCOUNT}/FinancialTransactionQueue{suffix}"

    def answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def processes(self) -> list[str]:
        """Command lines of what runs from this pipeline's directory or serves its port."""
        commands = [command for _, command in running().values()]
        return [command for command in commands if str(self.directory) in command or self._port_option in command]

    def kill_function_workers(self) -> int:
        """Kill the processes in which the embedded cloud runs the function; returns how many there were."""
        processes = running()
        clouds = {one for one, (_, command) in processes.items() if f"embedded_cloud {self._port_option}" in command}
        return kill(one for one, (parent, _) in processes.items() if parent in clouds)

    @property
    def _port_option(self) -> str:
        return f"--port {self.port} "


def running() -> dict[int, tuple[int, str]]:
    """By process id, the parent's id and the command line of what runs on this machine."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(entry.name)] = parent, (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def kill(processes: Iterable[int]) -> int:
    """Kill these processes; returns how many of them still ran."""
    killed = 0
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
            killed += 1
    return killed


def aws_pipeline(home: Path, endpoint: str, config: Path, **settings: Any) -> Pipeline:
    """inventories/aws on an operator's machine that has only a profile. AWS is the embedded cloud at `endpoint`.

    `config` has the key of its root.
    """
    (home / "config").write_text(PROFILE.format(**root_keys(config)))
    shutil.copy(config, home / "aws.cfg")
    settings = {
        "pipeline_account_id": ACCOUNT,
        "pipeline_sqs_endpoint": endpoint,
        "producer_instance_key_file": str(home / "ssh" / "producer"),
    } | settings
    port = int(endpoint.rpartition(":")[2])
    return Pipeline(home, port, settings, {"AWS_CONFIG_FILE": str(home / "config"), "AWS_ENDPOINT_URL": endpoint, "no_proxy": "127.0.0.1"})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Call `condition` four times a second until its answer is true, and return that. Fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.25)


def listings(pipeline: Pipeline) -> dict[str, list[str]]:
    """Raw listings of every service on both backends, through the API; terminated instances are gone, as AWS counts them."""
    iam, ec2, cloudwatch = pipeline.client("iam"), pipeline.client("ec2"), pipeline.client("cloudwatch")
    reservations = ec2.describe_instances()["Reservations"]
    instances = [instance for reservation in reservations for instance in reservation["Instances"]]
    return {
        "queues": sorted(pipeline.client("sqs").list_queues().get("QueueUrls", [])),
        "tables": sorted(pipeline.client("dynamodb").list_tables()["TableNames"]),
        "functions": sorted(item["FunctionName"] for item in pipeline.client("lambda").list_functions()["Functions"]),
        "versions": sorted(versions(pipeline.client("lambda"))),
        "mappings": sorted(item["UUID"] for item in pipeline.client("lambda").list_event_source_mappings()["EventSourceMappings"]),
        "log groups": sorted(item["logGroupName"] for item in pipeline.client("logs").describe_log_groups()["logGroups"]),
        "parameters": sorted(item["Name"] for item in pipeline.client("ssm").describe_parameters()["Parameters"]),
        "roles": sorted(item["RoleName"] for item in iam.list_roles()["Roles"]),
        "policies": sorted(item["Arn"] for item in iam.list_policies(Scope="Local")["Policies"]),
        "instance profiles": sorted(item["InstanceProfileName"] for item in iam.list_instance_profiles()["InstanceProfiles"]),
        "users": sorted(item["UserName"] for item in iam.list_users()["Users"]),
        "instances": sorted(item["InstanceId"] for item in instances if item["State"]["Name"] != "terminated"),
        "security groups": sorted(item["GroupName"] for item in ec2.describe_security_groups()["SecurityGroups"]),
        "key pairs": sorted(item["KeyName"] for item in ec2.describe_key_pairs()["KeyPairs"]),
        "volumes": sorted(item["VolumeId"] for item in ec2.describe_volumes()["Volumes"]),
        "network interfaces": sorted(item["NetworkInterfaceId"] for item in ec2.describe_network_interfaces()["NetworkInterfaces"]),
        "addresses": sorted(item["PublicIp"] for item in ec2.describe_addresses()["Addresses"]),
        "alarms": sorted(item["AlarmName"] for item in cloudwatch.describe_alarms()["MetricAlarms"]),
        "topics": sorted(item["TopicArn"] for item in pipeline.client("sns").list_topics()["Topics"]),
        "subscriptions": sorted(item["Endpoint"] for item in pipeline.client("sns").list_subscriptions()["Subscriptions"]),
        "dashboards": sorted(item["DashboardName"] for item in cloudwatch.list_dashboards()["DashboardEntries"]),
    }


def versions(client: Any) -> list[str]:
    """Every function's published versions and aliases, as name:version and name:alias."""
    found = []
    for name in [function["FunctionName"] for function in client.list_functions()["Functions"]]:
        listed = client.list_versions_by_function(FunctionName=name)["Versions"]
        found += [f"{name}:{one['Version']}" for one in listed if one["Version"] != "$LATEST"]
        found += [f"{name}:{alias['Name']}" for alias in client.list_aliases(FunctionName=name)["Aliases"]]
    return found


def confirm_alarm_address(pipeline: Pipeline) -> None:
    """Open the link in the mail, as the owner of the address does. The token is in the log of the cloud."""
    log = (pipeline.directory / "log" / "embedded_cloud.log").read_text()
    token, topic = re.findall(r"would be sent the token (\S+) of (\S+):[0-9a-f-]+$", log, re.MULTILINE)[-1]
    pipeline.client("sns").confirm_subscription(TopicArn=topic, Token=token)


def supervisorctl(pipeline: Pipeline, *words: str) -> str:
    config = pipeline.directory / "supervisor" / "supervisord.conf"
    done = subprocess.run([str(BIN / "supervisorctl"), "-c", str(config), *words], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def ended(pipeline: Pipeline) -> None:
    """Stop the processes of the pipeline that still run."""
    if (pipeline.directory / "supervisor" / "supervisord.conf").exists():
        supervisorctl(pipeline, "shutdown")
        wait_until(lambda: not pipeline.processes(), 30, f"an end of {pipeline.processes()}")


def kill_play(name: str, directory: Path) -> None:
    """Kill the ansible-playbook of this name and directory, and all its child processes."""
    processes = running()
    doomed = {one for one, (_, command) in processes.items() if name in command and str(directory) in command}
    assert doomed, f"{name} does not run"
    while below := {one for one, (parent, _) in processes.items() if parent in doomed} - doomed:
        doomed |= below
    kill(doomed)
