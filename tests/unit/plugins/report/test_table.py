"""The report: every failure named in full, a table that stays readable, and no way to pass without having looked."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.module_utils.pipeline.report.table import Report, gather, make_report


def check(name: str, passed: bool = True, **more: Any) -> dict[str, Any]:
    found = "20" if passed else "3"
    return {"check": name, "passed": passed, "expected": "20", "found": found, "seconds": 0.5, "remedy": "Run site.yml."} | more


def rows(made: Report) -> list[str]:
    """The table's lines below the headings and above the summary."""
    return made.table[2:-2]


def cells(made: Report) -> list[list[str]]:
    return [[cell.strip() for cell in row.split("|")] for row in rows(made)]


def report(*results: Any, title: str = "Verification", options: str = "") -> Report:
    return make_report(list(results), title, options)


def test_passing_checks_pass() -> None:
    made = report({"checks": [check("a"), check("b")]})

    assert (made.message, made.failed, made.summary) == ("", [], "2 checks, 2 passed in 1.0 s")


def test_what_could_not_be_known_in_time_is_neither_passed_nor_failed() -> None:
    made = report({"checks": [check("queue Q: a"), check("queue Q: b"), check("queue Q: c", unchecked=True)]})

    assert (made.message, made.summary) == ("", "3 checks, 2 passed, 1 unchecked in 1.5 s")
    assert [row[:3] for row in cells(made)] == [["queue Q", "pass", "2 checks"], ["queue Q: c", "unchecked", "20"]]


def test_a_failed_check_is_named_with_expected_found_and_what_to_do() -> None:
    made = report({"checks": [check("a"), check("queue Q: retention", passed=False)]})

    assert made.failed == ["queue Q: retention: expected 20, found 3;\n  what to do: Run site.yml."]
    assert made.summary == "2 checks, 1 passed, 1 FAILED in 1.0 s"


def test_a_command_in_a_remedy_means_the_environment_that_was_verified() -> None:
    remedy = "ansible-playbook site.yml --tags transaction_queue; then ansible-playbook playbooks/other.yml"
    made = report({"checks": [check("a", passed=False, remedy=remedy)]}, options=" -i inventories/aws -e pipeline_environment=blue")

    added = "-i inventories/aws -e pipeline_environment=blue"
    assert made.message.endswith(
        f"ansible-playbook site.yml {added} --tags transaction_queue; then ansible-playbook playbooks/other.yml {added}"
    )


def test_the_cause_comes_first_in_table_and_message() -> None:
    made = report(
        {"checks": [check("symptom", passed=False), check("queue Q: tags", passed=False, cause=False), check("fine", cause=True)]},
        {"checks": [check("table T: exists", passed=False, cause=True)]},
    )

    assert [row.split(" ")[0] for row in rows(made)] == ["table", "symptom", "queue", "fine"]
    assert made.failed[0].startswith("table T: exists: expected")


def test_the_message_has_every_failure_on_lines_of_its_own() -> None:
    made = report({"checks": [check("a", passed=False), check("b", passed=False, found="two\nlines")]}, title="Title")

    assert made.message.splitlines() == [
        "Title: 2 checks, 0 passed, 2 FAILED in 1.0 s",
        "a: expected 20, found 3;",
        "  what to do: Run site.yml.",
        "b: expected 20, found two lines;",
        "  what to do: Run site.yml.",
    ]


@pytest.mark.parametrize("results", [[], [None], [{"skipped": True}], [{"checks": []}]])
def test_no_checks_at_all_is_a_failure(results: list[Any]) -> None:
    assert report(*results).message.startswith(f"0 checks: nothing was verified ({len(results)} results without checks)")


def test_results_without_checks_are_ignored() -> None:
    assert len(gather([None, "", {"skipped": True}, {"changed": False}, {"checks": [check("a")]}])) == 1


@pytest.mark.parametrize(
    "result",
    [
        {"checks": [check("a"), check("b")]},
        [{"checks": [check("a")]}, {"checks": [check("b")]}],
        {"results": [{"checks": [check("a")]}, {"skipped": True}, {"checks": [check("b")]}]},
        [{"results": [{"checks": [check("a")]}]}, {"checks": [check("b")]}],
    ],
)
def test_checks_are_found_in_every_shape_of_a_result(result: Any) -> None:
    assert [one["check"] for one in gather([result])] == ["a", "b"]


@pytest.mark.parametrize("state", ["failed", "unreachable"])
def test_a_step_that_broke_is_a_failed_check(state: str) -> None:
    made = report({"checks": [check("a")]}, {state: True, "msg": "no route"})

    assert len(made.failed) == 1 and "found no route" in made.failed[0]


@pytest.mark.parametrize("broken", ["text", {"check": "a"}, {"check": "a", "passed": "no"}])
def test_a_check_of_another_shape_is_a_failed_check(broken: Any) -> None:
    assert len(report({"checks": [broken]}).failed) == 1


def test_the_table_is_aligned() -> None:
    lines = report({"checks": [check("short"), check("one that is longer", passed=False, found="3")]}).table[:-2]

    places = [[place for place, character in enumerate(line) if character in "|+"] for line in lines]
    assert len(lines) == 4 and all(one == places[0] for one in places) and len(places[0]) == 3


def test_wide_characters_do_not_break_the_alignment() -> None:
    lines = rows(report({"checks": [check("a", found="東京"), check("b", found="1234")]}))

    assert lines[0].index("東京") == lines[1].index("1234") and lines[0].count(" ") == lines[1].count(" ")


def test_long_values_are_cut_in_the_table_and_whole_in_the_failures() -> None:
    long = "x" * 500
    made = report({"checks": [check("a" * 200, passed=False, found=long), check("b", unchecked=True, seconds=1234.5)]})

    assert max(map(len, made.table)) == 98 and "x…" in rows(made)[0] and long in made.failed[0]


def test_control_characters_stay_out_of_the_table_and_of_the_error() -> None:
    made = report({"checks": [check("a", passed=False, found="one\ntwo\x1b[31m\tthree\u202e")]})
    assert rows(made)[0].count("one two\\x1b[31m three\\u202e") == 1
    assert "found one two\\x1b[31m three\\u202e;" in made.message


def test_passing_properties_of_a_resource_are_one_row() -> None:
    made = report({"checks": [check("queue Q: a"), check("queue Q: b"), check("queue Q: c"), check("table T: a")]})

    assert cells(made) == [["queue Q", "pass", "3 checks", "1.5"], ["table T: a", "pass", "20", "0.5"]]


def test_failed_properties_have_rows_of_their_own_when_folded() -> None:
    made = report({"checks": [check("queue Q: a"), check("queue Q: b", passed=False), check("queue Q: c")]})

    assert [row[:2] for row in cells(made)] == [["queue Q", "pass"], ["queue Q: b", "FAIL"]]


def test_checks_without_a_subject_are_never_folded() -> None:
    assert len(rows(report({"checks": [check("alone"), check("alone")]}))) == 2


def test_the_summary_counts_checks_not_rows() -> None:
    assert report({"checks": [check("queue Q: a"), check("queue Q: b")]}).summary.startswith("2 checks, 2 passed")


def test_the_text_is_one_that_yaml_shows_as_a_block() -> None:
    text = "\n".join(report({"checks": [check("a", found=""), check("b: c", found="x " * 40)]}).table)

    assert yaml.safe_dump({"msg": text}, default_style="|", allow_unicode=True).startswith('"msg": |-\n')


def test_the_table_ends_with_the_summary() -> None:
    assert report({"checks": [check("a")]}).table[-2:] == ["", "Verification: 1 check, 1 passed in 0.5 s"]
