"""The producer as a program: its credentials, exit codes and signals, against a metadata service and a queue on the loopback."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from producer_process import PROGRAM, Cloud, Program, logged


def test_what_is_logged_as_sent_is_what_arrived(cloud: Cloud):
    code, out, err = Program(cloud, "--count", "35", "--rate", "10000").finish()
    assert (code, err) == (0, [])
    assert sorted(logged(out)) == sorted(cloud.received) and len(set(cloud.received)) == 35
    sent = [line for line in out if line["event"] == "sent"]
    assert [line["event"] for line in out] == ["started", *["sent"] * len(sent), "stopped"]
    # what came back together is one line
    assert 1 <= len(sent) <= 4 and [line["total"] for line in sent] == list(itertools.accumulate(line["count"] for line in sent))
    assert sent[-1]["total"] == 35


def test_credentials_and_endpoint_come_from_instance_metadata_and_queue_url_whatever_the_environment_says(cloud: Cloud, tmp_path: Path):
    # given every other source of credentials and endpoints, all of them wrong
    wrong = "aws_access_key_id = AKIAFILE\naws_secret_access_key = file\n"
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(f"[default]\n{wrong}[other]\n{wrong}")
    (tmp_path / "config").write_text(f"[default]\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:1\n{wrong}")
    environment = {
        "HOME": str(tmp_path),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_PROFILE": "of-nobody",
        "AWS_DEFAULT_PROFILE": "of-nobody",
        "AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT",
        "AWS_SECRET_ACCESS_KEY": "environment",
        "AWS_SESSION_TOKEN": "environment",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "config"),
        "AWS_ROLE_ARN": "arn:aws:iam::000000000000:role/other",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "many",
    }
    # when it runs
    code, _, err = Program(cloud, "--count", "3", "--rate", "1000", **environment).finish()
    # then the queue saw the instance's key, for the region that was asked for
    assert (code, err) == (0, [])
    assert set(cloud.keys) == {"ASIA1 us-east-1"} and len(cloud.received) == 3


@pytest.mark.parametrize("imds", ["no role", "v1 only"])
def test_without_credentials_one_line_says_so_and_the_exit_code_is_3(cloud: Cloud, imds: str):
    cloud.imds = imds
    code, _, err = Program(cloud, "--count", "1", AWS_ACCESS_KEY_ID="AKIAENVIRONMENT", AWS_SECRET_ACCESS_KEY="x").finish()
    assert (code, len(err), cloud.keys) == (3, 1, [])
    assert "no credentials from instance metadata" in err[0]["error"] and "instance profile" in err[0]["what_to_do"]


def test_metadata_is_never_read_without_a_token(cloud: Cloud):
    cloud.imds = "v1 only"
    Program(cloud, "--count", "1").finish()
    assert cloud.metadata_reads == []


def test_credentials_that_the_queue_no_longer_takes_are_read_anew(cloud: Cloud):
    cloud.troubles = [None, "ExpiredTokenException"]
    code, out, _ = Program(cloud, "--count", "30", "--rate", "10000").finish()
    assert code == 0 and sorted(logged(out)) == sorted(cloud.received) and len(set(cloud.received)) == 30
    assert len(cloud.keys) == 4 and cloud.keys == sorted(cloud.keys) and set(cloud.keys) == {"ASIA1 us-east-1", "ASIA2 us-east-1"}


@pytest.mark.parametrize(("trouble", "meaning"), [("QueueDoesNotExist", "no such queue"), ("AccessDeniedException", "no permission")])
def test_a_refusal_at_the_start_is_one_line_with_advice_and_exit_code_3(cloud: Cloud, trouble: str, meaning: str):
    cloud.troubles = [trouble]
    code, _, err = Program(cloud, "--count", "1", "--rate", "1000").finish()
    assert (code, len(err), err[0]["event"]) == (3, 1, "error")
    assert err[0]["error"].startswith(f"{meaning}: {cloud.origin}/000000000000/FinancialTransactionQueue") and err[0]["what_to_do"]


def test_a_bad_value_is_one_line_and_exit_code_2(cloud: Cloud):
    code, out, err = Program(cloud, "--rate", "0").finish()
    assert (code, out, len(err)) == (2, [], 1)


def test_a_connection_that_breaks_is_tried_again(cloud: Cloud):
    cloud.troubles = ["hang up", "hang up"]
    code, out, _ = Program(cloud, "--count", "10", "--rate", "1000").finish()
    assert code == 0 and sorted(logged(out)) == sorted(cloud.received) and len(cloud.received) == 10


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_with_everything_sent(cloud: Cloud, signum: signal.Signals):
    # given a producer whose open batch would wait five minutes
    program = Program(cloud, "--rate", "40", "--linger", "300")
    # when the signal comes
    seconds, code, out, err = program.stop_when(lambda: len(cloud.received) >= 30, signum)
    # then
    assert (code, err) == (0, []) and seconds < 15
    assert sorted(logged(out)) == sorted(cloud.received) and len(set(cloud.received)) == len(cloud.received)
    assert out[-1]["event"] == "stopped" and (out[-1]["unsent"], out[-1]["reason"]) == (0, "signal")


def test_a_signal_ends_the_wait_for_a_transaction_that_is_hours_away(cloud: Cloud):
    seconds, code, out, _ = Program(cloud, "--rate", "0.0001", "--seed", "1").stop_when(lambda: cloud.sessions)
    assert code == 0 and seconds < 15 and out[-1]["sent"] == 0


def test_a_signal_while_the_queue_is_away_ends_it_in_time_with_the_ids(cloud: Cloud):
    # given a queue that breaks every connection
    cloud.troubles = ["hang up"] * 10_000
    program = Program(cloud, "--rate", "20", "--linger", "1")
    # when the signal comes
    seconds, code, out, err = program.stop_when(lambda: len(cloud.keys) >= 3)
    # then
    assert code == 1 and 10 < seconds < 27 and cloud.received == []
    assert len(err) == 1 and err[0]["unsent"] == out[-1]["unsent"] > 0 and str(program.state) in err[0]["error"]


def test_importing_the_program_opens_no_connection_and_reads_no_configuration():
    guard = """
import os, sys
def refuse(event, arguments):
    reads_configuration = event == "open" and ".aws" in str(arguments[0])
    assert event not in ("socket.connect", "socket.getaddrinfo") and not reads_configuration, (event, arguments)
sys.addaudithook(refuse)
sys.path.insert(0, sys.argv[1])
import financial_producer
"""
    command = [sys.executable, "-c", guard, str(PROGRAM)]
    done = subprocess.run(command, env={"AWS_PROFILE": "of-nobody"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize(("option", "ends"), [(["--end-with-parent"], True), ([], False)], ids=["told-to", "not-told-to"])
def test_on_a_quiet_feed_it_ends_with_its_parent_only_when_told_to(cloud: Cloud, tmp_path: Path, option: list[str], ends: bool):
    (tmp_path / "feed").touch()
    command = [sys.executable, str(PROGRAM), "run", *option, "--source", str(tmp_path / "feed"), "--state-directory", str(tmp_path / "s")]
    command += ["--queue-url", f"{cloud.origin}/000000000000/FinancialTransactionQueue", "--region", "us-east-1"]
    # Into a file: that a pipe breaks would end it at its next line, and a quiet feed has none.
    start = f"""import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=open({str(tmp_path / "log")!r}, "w"))
print(child.pid, flush=True)
child.wait()"""
    metadata = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{cloud.origin}/imds"}
    parent = subprocess.Popen([sys.executable, "-c", start, *command], env=os.environ | metadata, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    deadline = time.monotonic() + 30
    while '"started"' not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait(10)
    try:
        deadline = time.monotonic() + (20 if ends else 1)
        while is_running(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert is_running(pid) is not ends
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
