"""What a person sees of a play: real playbooks through ansible-playbook, with the project's ansible.cfg, compared to the letter."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[4]
WRAPPER = run_path(str(ROOT / "plugins/callback/pipeline.py"))["Wrapper"]
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
HOSTS = """
all:
  hosts:
    here: {ansible_connection: local}
    beside: {ansible_connection: local}
    gone: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
"""
WARNING_MODULE = r"""
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({})
module.warn("Look \x1b[31m out")
module.warn("Arch Change")
module.exit_json()
"""
KINDS = r"""
- name: Deploy
  hosts: here
  tasks:
    - name: Be fine
      ansible.builtin.assert: {that: true, quiet: true}
    - name: Skip
      ansible.builtin.fail:
      when: false
    - name: "Change {{ 'it' }}"
      ansible.builtin.assert: {that: true}
      changed_when: true
      notify: Restart
    - name: Change some
      ansible.builtin.assert: {that: true}
      loop: [one, two, "thr\eee"]
      changed_when: item != 'one'
      loop_control: {label: "{{ item }}!"}
    - name: Write a file
      ansible.builtin.copy: {content: "hel\elo\n", dest: "{{ playbook_dir }}/file", mode: "0600"}
    - name: Hide a change
      ansible.builtin.set_fact: {secret: hidden-value}
      changed_when: true
      no_log: true
    - name: Hide an item
      ansible.builtin.debug: {msg: hidden-value}
      loop: [hidden-value]
      no_log: true
    - name: Say lines
      ansible.builtin.debug:
        msg: "first\nescaped \e[2J\n\n  7 passed, 2 FAILED | pass | FAIL | unchecked"
    - name: Say a list
      ansible.builtin.debug: {msg: ["  left where it is: x", "and: - this"]}
    - name: Say what is long
      ansible.builtin.debug: {msg: "name        {{ 'word ' * 20 }}{{ 'x' * 101 }} end"}
    - name: Say a variable
      ansible.builtin.debug: {var: inventory_hostname}
    - name: Say nothing
      ansible.builtin.debug: {msg: not said}
      loop: [1]
      when: false
    - name: Warn
      careful:
    - name: Warn again
      careful:
      loop: [1]
    - name: Include
      ansible.builtin.include_tasks: included.yml
    - name: Rescued block
      block:
        - name: Break
          ansible.builtin.fail: {msg: "broken\nin two"}
      rescue:
        - name: Mend
          ansible.builtin.assert: {that: true}
          changed_when: true
    - name: Be ignored
      ansible.builtin.assert: {that: item != 'b', quiet: true, fail_msg: "no {{ item }}"}
      loop: [a, b]
      changed_when: true
      ignore_errors: true
    - name: Try again
      ansible.builtin.command: "sh -c 'echo out; echo wrong >&2; false'"
      register: tried
      until: tried.rc == 0
      retries: 2
      delay: 0
      ignore_errors: true
  handlers:
    - name: Restart
      ansible.builtin.assert: {that: true}
      changed_when: true

- name: Nowhere
  hosts: beside:!beside
  tasks: []

- name: "Quiet \e[31m"
  hosts: here
  tasks:
    - name: Be fine
      ansible.builtin.assert: {that: true}
"""
KINDS_PRINTED = r"""Deploy
  changed  Change it
  changed  Change some: two!, thr\x1bee!
  changed  Write a file
  changed  Hide a change
  the output has been hidden due to the fact that 'no_log: true' was specified for this result
  first
  escaped \x1b[2J

    7 passed, 2 FAILED | pass | FAIL | unchecked
    left where it is: x
  and: - this
  name        word word word word word word word word word word word word word word word word word
      word word word
      {x101}
      end
  inventory_hostname: here
  warning  Look \x1b[31m out
  changed  Change what is included
  failed, rescued  Break [play.yml:51]
    broken
    in two
  changed  Mend
  changed  Be ignored: a
  failed, ignored  Be ignored: b [play.yml:57]
    no b
  failed, ignored  Try again [play.yml:62, 2 attempts]
    non-zero return code
    wrong
    out
  changed  Restart
  took 0.0 s
Nowhere                                                                 no hosts
Quiet \x1b[31m                                                             0.0 s

Done in 0.0 s: 19 ok, 9 changed, 2 ignored, 1 rescued
""".replace("{x101}", "x" * 101)
HOSTS_AND_FAILURES = r"""
- name: Side by side
  hosts: here:beside
  strategy: free
  tasks:
    - name: Change here
      ansible.builtin.assert: {that: true}
      changed_when: true
      when: inventory_hostname == 'here'

- name: Reach all
  hosts: all
  ignore_unreachable: true
  tasks:
    - name: Answer
      ansible.builtin.raw: "true"
      changed_when: true

- name: Fail
  hosts: here:beside
  tasks:
    - name: Refuse
      ansible.builtin.assert:
        that: inventory_hostname == 'here'
        quiet: true
        fail_msg: "Nothing was \e[31m removed. {{ 'Run this. ' * 10 }}"
    - name: Report
      verification_report:
        title: Environment blue
        results: [{checks: [
          {check: "a: one", passed: true, expected: 1, found: 1, seconds: 0.1},
          {check: "a: two", passed: true, expected: 2, found: 2, seconds: 0.1},
          {check: "b: three", passed: false, expected: 3, found: 4, seconds: 0.1, remedy: "ansible-playbook site.yml", cause: true}]}]
"""
HOSTS_AND_FAILURES_PRINTED = r"""Side by side
  changed  Change here
  took 0.0 s
Reach all
  changed  Answer (here)
  changed  Answer (beside)
  unreachable, ignored  Answer (gone)
    Task failed: Failed to connect to the host via ssh: ssh: connect to host 127.0.0.1 port 1:
        Connection refused
  took 0.0 s
Fail
  FAILED   Refuse (beside) [play.yml:22]
    Nothing was \x1b[31m removed. Run this. Run this. Run this. Run this. Run this. Run this. Run
        this. Run this. Run this. Run this.
  FAILED   Report (here) [play.yml:27]
    Environment blue: 3 checks, 2 passed, 1 FAILED in 0.0 s
    b: three: expected 3, found 4;
      what to do: ansible-playbook site.yml

  check    | result | found    | seconds
  ---------+--------+----------+--------
  b: three | FAIL   | 4        |     0.1
  a        | pass   | 2 checks |     0.2

  Environment blue: 3 checks, 2 passed, 1 FAILED in 0.0 s
  took 0.0 s

FAILED on beside, here in 0.0 s: 2 failed, 5 ok, 3 changed, 1 ignored
"""
WAYS = r"""
- name: Deploy
  hosts: here
  tasks:
    - name: Say
      ansible.builtin.debug: {msg: "3 passed, 1 FAILED, 2 unchecked"}
    - name: Write a file
      ansible.builtin.copy: {content: "one\n\e\n", dest: "{{ playbook_dir }}/file", mode: "0600"}

- name: Reach
  hosts: gone
  tasks:
    - name: Answer
      ansible.builtin.raw: "true"
"""
WAYS_PRINTED = r"""Deploy
  3 passed, 1 FAILED, 2 unchecked
  changed  Write a file
    --- before
    +++ after: file
    @@ -0,0 +1,2 @@
    +one
    +\x1b
  took 0.0 s
Reach
  UNREACHABLE  Answer (gone)
    Task failed: Failed to connect to the host via ssh: ssh: connect to host 127.0.0.1 port 1:
        Connection refused
  took 0.0 s

FAILED on gone in 0.0 s: 1 unreachable, 2 ok, 1 changed
"""


@pytest.fixture
def play(tmp_path: Path) -> Any:
    """Runs a playbook and gives its status and output, with every time made 0.0 s."""
    (tmp_path / "hosts.yml").write_text(HOSTS)
    (tmp_path / "included.yml").write_text(
        "- name: Change what is included\n  ansible.builtin.assert: {that: true}\n  changed_when: true\n"
    )
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "careful.py").write_text(WARNING_MODULE)

    def run(text: str, *options: str, terminal: bool = False, **environment: str) -> tuple[int, str]:
        (tmp_path / "play.yml").write_text(text)
        command = [str(ANSIBLE), "-i", str(tmp_path / "hosts.yml"), "play.yml", *options]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        kept |= {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "TERM": "xterm-256color"} | environment
        status, printed = on_terminal(command, tmp_path, kept) if terminal else piped(command, tmp_path, kept)
        printed = printed.replace(f"{tmp_path}/", "").replace("\r\n", "\n")
        # A time in the column of the plays' times is aligned at its right.
        return status, re.sub(r"( {2,}| )\d+\.\d s\b", lambda time: " 0.0 s" if time[1] == " " else "0.0 s".rjust(len(time[0])), printed)

    return run


def piped(command: list[str], directory: Path, environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def on_terminal(command: list[str], directory: Path, environment: dict[str, str], columns: int = 100) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    running = subprocess.Popen(command, cwd=directory, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        printed += part
    os.close(ours)
    return running.wait(timeout=60), printed.decode()


def test_what_changed_failed_or_is_said_is_printed_and_no_more(play: Any) -> None:
    status, printed = play(KINDS)

    assert printed.replace("The command exited with a non-zero return code.", "non-zero return code") == KINDS_PRINTED
    assert status == 0


def test_hosts_are_named_where_they_matter_and_a_failure_once(play: Any) -> None:
    status, printed = play(HOSTS_AND_FAILURES, "--forks", "1")

    assert printed == HOSTS_AND_FAILURES_PRINTED
    assert status == 2


@pytest.mark.parametrize(("terminal", "environment"), [(False, {}), (True, {"NO_COLOR": "1"}), (True, {"CI": "true"})])
def test_without_a_terminal_and_where_colour_is_not_wanted_the_text_is_plain(
    play: Any, terminal: bool, environment: dict[str, str]
) -> None:
    status, printed = play(WAYS, "--diff", terminal=terminal, **environment)

    assert printed == WAYS_PRINTED
    assert status == 4


def test_a_terminal_shows_colours_and_how_long_a_task_still_takes_on_a_line_that_is_rewritten(play: Any) -> None:
    wait = """
    - name: Wait for a while
      ansible.builtin.wait_for: {timeout: "{{ 1 + 1 }}"}
"""
    _, printed = play(WAYS.replace("\n\n", wait + "\n", 1), "--diff", terminal=True)

    assert re.search(r"\r\x1b\[K  Wait for a while: 0:0\d elapsed, about 0:0\d more at most\r", printed)
    coloured = re.sub(r"\r\x1b\[K[^\r\n]*\r|\x1b\[K", "", printed)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == WAYS_PRINTED.replace("2 ok", "3 ok")
    green, red, yellow = ("\x1b[0;32m", "\x1b[0;31m", "\x1b[0;33m")
    end = "\x1b[0m"
    assert f"  {green}3 passed{end}, {red}1 FAILED{end}, {yellow}2 unchecked{end}\n  {yellow}changed{end}  Write a file\n" in coloured
    assert f"{green}+one{end}\n" in coloured and f"\n{red}FAILED on gone in " in coloured


def test_a_narrow_terminal_wraps_earlier(play: Any) -> None:
    said = "- {hosts: here, tasks: [{debug: {msg: a line that is longer than forty}}]}"
    assert play(said, COLUMNS="30")[1].startswith("here\n  a line that is longer than\n      forty\n")


def test_a_check_says_what_would_change_and_each_playbook_of_a_command_counts_its_own(play: Any) -> None:
    _, printed = play(WAYS.partition("- name: Reach")[0], "play.yml", "--check")

    once = """Deploy
  3 passed, 1 FAILED, 2 unchecked
  would change  Write a file
  took 0.0 s

Done in 0.0 s: 2 ok, 1 would change; nothing was changed (--check)
"""
    assert printed == f"{once}\n{once}"


def test_verbose_is_the_default_callback(play: Any) -> None:
    text = WAYS.partition("    - name: Write")[0]
    ours, default = play(text, "-v")[1], play(text, "-v", ANSIBLE_STDOUT_CALLBACK="default")[1]

    assert "TASK [Say]" in ours and "PLAY RECAP" in ours
    assert [line for line in ours.splitlines() if "=>" not in line][:6] == [line for line in default.splitlines() if "=>" not in line][:6]


def test_tasks_are_listed_and_taken_in_steps(play: Any) -> None:
    assert "Write a file" in play(WAYS, "--list-tasks")[1]
    assert "(N)o/(y)es/(c)ontinue" in play(WAYS, "--step", terminal=False)[1]


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Gives what is printed of a task that has run for so long, looked at so many times."""
    spec = spec_from_file_location("pipeline_callback", ROOT / "plugins/callback/pipeline.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    callback = module.CallbackModule()
    callback._title, callback._titled = "Drain", False

    def look(times: int, *seconds_and_limits: tuple[float, float | None], retried: Any = None) -> str:
        callback._waits = {
            ("here", str(number)): module.Wait(f"Wait {number}", limit, time.monotonic() - seconds)
            for number, (seconds, limit) in enumerate(seconds_and_limits)
        }
        if retried:
            callback._key = lambda _: ("here", "0")
            callback.v2_runner_retry(retried)
        over = threading.Event()
        looks = iter([False] * times + [True])
        monkeypatch.setattr(over, "wait", lambda seconds: next(looks))
        callback._show_progress(over)
        return capsys.readouterr().out

    return look


COMMANDS = (
    "ansible-playbook site.yml",
    "ansible-playbook -i inventories/aws reconcile.yml -e reconcile_pause_producers=true -e reconcile_resend_lost=true",
    'ansible-playbook quarantine.yml -e \'{"quarantine_repairs": ["parse amount"]}\' --check',
    "ansible producers -i inventories/aws -m ansible.builtin.ping",
    "aws ec2 start-instances --profile default --region us-east-1 --instance-ids i-0123456789abcdef0 i-0123456789abcdef1",
    'AWS_CONFIG_FILE=\'/a b/.local/aws.cfg\' aws dynamodb delete-item --table-name T --key \'{"id": {"S": "<id>"}}\' --region us-east-1',
)
PROSE = st.lists(st.from_regex(r"[a-z]{1,12}", fullmatch=True), min_size=1, max_size=12).map(" ".join)


@given(
    st.lists(st.tuples(PROSE, st.sampled_from(COMMANDS), st.sampled_from(["", ", or", "; then", ").", "."])), max_size=4),
    st.integers(20, 120),
)
def test_no_line_ends_within_a_command(parts: list[tuple[str, str, str]], width: int) -> None:
    text = " ".join(f"{before} {'(' * (after == ').')}{command}{after}".strip() for before, command, after in parts)
    lines = WRAPPER(width, break_long_words=False, break_on_hyphens=False).wrap(text)
    assert " ".join(lines) == text
    assert sum(line.count(command) for line in lines for command in set(COMMANDS)) == sum(text.count(command) for command in set(COMMANDS))
    prose = [line for line in lines if not any(command in line for command in COMMANDS)]
    assert all(len(line) <= width for line in prose)


def test_off_a_terminal_a_long_wait_is_a_line_now_and_then(progress: Any) -> None:
    assert progress(1, (14, 900)) == ""
    assert progress(9, (16.5, 900)) == "Drain\n  waiting  Wait 0: 0:16 elapsed, about 14:43 more at most\n"
    assert progress(1, (20, None)) == "  waiting  Wait 0: 0:20 elapsed\n"
    assert progress(1, (100.5, 90)) == "  waiting  Wait 0: 1:40 elapsed\n"


def test_a_wait_of_several_attempts_says_what_the_last_one_found(progress: Any) -> None:
    result = SimpleNamespace(
        task=SimpleNamespace(_uuid="0"),
        host=SimpleNamespace(name="here"),
        task_fields={"delay": 0},
        result={"attempts": 1, "retries": 3, "line": "q\x1b: 5 left"},
    )
    assert progress(1, (20.5, None), retried=result) == "Drain\n  waiting  Wait 0: q\\x1b: 5 left, 0:20 elapsed, about 0:40 more at most\n"


def test_of_tasks_side_by_side_the_one_that_began_first_is_shown(progress: Any) -> None:
    assert progress(2, (20, None), (25.5, None)) == "Drain\n  waiting  Wait 1: 0:25 elapsed\n"
