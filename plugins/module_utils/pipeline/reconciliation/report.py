"""A reconciliation as checks and as a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from ..core.checks import Check, make_check
from .entry_store import Named
from .matching import VERDICTS
from .run import Reconciliation

# Ids named in a check; the report has them all, but of what is in flight only the oldest thousand.
NAMED, IN_FLIGHT_NAMED = 5, 1000
COUNTED = (*VERDICTS, "doubled", "unknown")


def counts(run: Reconciliation) -> dict[str, int | None]:
    """COUNTED; None for what is not known: everything if the run failed, `unknown` if the table was only asked for ids."""
    if run.error:
        return dict.fromkeys(COUNTED)
    matcher, scanned = run.matcher, run.plan["method"] == "scan"
    return {**matcher.counts(), "doubled": matcher.count("doubled"), "unknown": matcher.count("unknown") if scanned else None}


def checks(run: Reconciliation, seconds: float, report: str) -> list[Check]:
    """All checks; `report` is the file that names everything of which a check names only some."""
    found = [_ledgers(run), _read_whole(run, seconds)]
    if run.error:
        return found
    matcher, number = run.matcher, counts(run)
    wrong: dict[str, tuple[Iterable[str], str]] = {
        "lost": (
            map(_resendable, matcher.lost()),
            "ansible-playbook reconcile.yml -e reconcile_resend_lost=true sends them again. "
            "What cannot be sent again has to be entered anew; a kept ledger has the bodies of its producer.",
        ),
        "altered": (
            (f"{_resendable(one.named)} ({_fields(one.fields)})" for one in matcher.altered()),
            "Find out who writes to the table; ansible-playbook reconcile.yml -e reconcile_repair_altered=true sends these again. "
            "What cannot be sent again has to be corrected by hand.",
        ),
        "doubled": (
            (f"{_name(named)} (in the {place} as {other})" for named, other, place in matcher.doubled()),
            "Delete the second record, or purge the quarantined message, which names the same transaction by another id.",
        ),
    }
    found += [
        make_check(
            "reconciliation: sent = stored + quarantined + in flight",
            not number["lost"] and not number["altered"],
            f"{number['sent']:,} sent",
            f"{number['stored']:,} stored + {number['quarantined']:,} quarantined + {number['in_flight']:,} in flight"
            + (f", {number['archived']:,} of the quarantined in archives only" if number["archived"] else ""),
            remedy=f"The checks below name what is missing; {report} has all of it.",
        ),
        *(_none(f"nothing is {kind}", kind, number[kind], named, remedy) for kind, (named, remedy) in wrong.items()),
        _in_a_ledger(run, "item of the table", number["unknown"], matcher.unknown()),
        _in_a_ledger(run, "quarantined message", len(foreign := matcher.foreign_messages(run.ledgers_as_of)), foreign),
        _overdue(run),
        _old_messages(run),
    ]
    if run.options.await_unsent:
        waiting = (number["unsent"] or 0) + (number["in_flight"] or 0)
        remedy = "Make sure that the producers' service runs, then run ansible-playbook reconcile.yml again."
        found.append(_none("all that was to be sent has arrived", "not stored yet", waiting, map(_name, matcher.waiting()), remedy))
    return found


def _ledgers(run: Reconciliation) -> Check:
    missing, there = run.options.missing_ledgers, len(run.options.ledgers + run.options.kept_ledgers)
    return make_check(
        "reconciliation: every producer's ledger is there",
        there > 0 and not missing,
        f"{there + len(missing)} of {there + len(missing)} ledgers" if there or missing else "at least one ledger",
        f"{there}" + (f", none of {', '.join(missing)}" if missing else ""),
        remedy="What these sent was not looked for: make sure that the host is reachable and its service is deployed.",
    )


def _read_whole(run: Reconciliation, seconds: float) -> Check:
    quarantine = f"the quarantine was not read whole: {run.quarantine.error}" if run.quarantine.error else ""
    units = f"{run.reader.capacity.used:,.0f} read units by {run.plan.get('method', 'nothing')}"
    return make_check(
        "reconciliation: table, queue and quarantine were read whole",
        not run.error and not quarantine,
        "each answers",
        run.error or quarantine or units,
        seconds=seconds,
        remedy="Nothing counts as lost that may be in what was not read. Make sure that it exists and may be read, then try again.",
    )


def _none(what: str, kind: str, number: int | None, named: Iterable[str], remedy: str) -> Check:
    some = ", ".join(islice(named, NAMED)) if number else ""
    more = f", and {(number or 0) - NAMED:,} more" if (number or 0) > NAMED else ""
    return make_check(
        f"reconciliation: {what}", not number, f"0 {kind}", f"{number:,}: {some}{more}" if number else f"0 {kind}", remedy=remedy
    )


def _in_a_ledger(run: Reconciliation, what: str, number: int | None, named: Iterable[str]) -> Check:
    """Fails only if a ledger must have them: every ledger is there, from its first entry, and nobody else may send."""
    excuse = ["others may send (reconciliation_other_senders)"] if run.options.others_allowed else []
    excuse += [f"ledger {one.ledger} begins at {one.first}" for one in run.matcher.ledgers if one.first is not None and one.first > 1]
    excuse += [f"ledger {one} is missing" for one in run.options.missing_ledgers]
    found = "not looked for: asking for ids takes fewer read units than a scan"
    if number is not None:
        found = f"{number:,}: {', '.join(islice(named, NAMED))}" if number else "0 in no ledger"
        found += f" (no finding: {'; '.join(excuse)})" if number and excuse else ""
    return make_check(
        f"reconciliation: every {what} is in a ledger",
        not number or bool(excuse),
        "any number in no ledger" if run.options.others_allowed else "0 in no ledger",
        found,
        remedy="Somebody else sent these, or wrote them. If that is intended, set reconciliation_other_senders to allowed (-e does); "
        "if they are of producers that no longer exist, name the kept exports of their ledgers in reconciliation_kept_ledgers.",
    )


def _overdue(run: Reconciliation) -> Check:
    now, limit = run.clock.now().timestamp(), run.options.overdue_seconds
    oldest = next(run.matcher.in_flight(), None)
    age = max(now - (oldest.sent_at or now), 0.0) if oldest else 0.0
    number = run.matcher.missing()
    found = f"{number:,}, the oldest, {_name(oldest)}, sent {_duration(age)} ago" if oldest else "nothing in flight"
    return make_check(
        "reconciliation: nothing is in flight for too long",
        age <= limit,
        f"at most {_duration(limit)}",
        found,
        remedy="The queue has a backlog, or is never idle: ansible-playbook reconcile.yml -e reconcile_pause_producers=true "
        "lets it become idle, and tells what is lost.",
    )


def _old_messages(run: Reconciliation) -> Check:
    now, limit = run.clock.now().timestamp(), run.options.quarantine_age
    old = run.matcher.quarantined_before(now - limit)
    names = ", ".join(f"{key or message_id} ({_duration(now - sent_at)})" for message_id, key, sent_at in old[:NAMED])
    return make_check(
        "reconciliation: no quarantined message is near its end",
        not old,
        f"none older than {_duration(limit)}",
        f"{len(old):,}: {names}" if old else f"{run.matcher.count('dead_letter_messages'):,} quarantined messages, none that old",
        remedy="Replay it, or archive and purge it, before SQS deletes it: ansible-playbook quarantine.yml.",
    )


def report(run: Reconciliation) -> tuple[dict[str, Any], dict[str, Iterator[dict[str, Any]]]]:
    """The summary and the lists of the report file."""
    matcher, now = run.matcher, run.clock.now()
    summary = {
        "reconciled_at": _iso(now.timestamp()),
        "error": run.error or run.quarantine.error,
        "counts": counts(run),
        "ledgers": [asdict(one) | {"exported_at": _iso(one.exported_at)} for one in matcher.ledgers],
        "missing_ledgers": run.options.missing_ledgers,
        "read_units": run.reader.capacity.used,
        "plan": run.plan,
        "quarantine": {
            "messages": matcher.count("dead_letter_messages"),
            "in_no_ledger": len(matcher.foreign_messages(now.timestamp())),
            "reasons": matcher.reasons(),
        },
        "settled_through": {} if run.error else matcher.settled_through(),
    }
    if run.error:
        return summary, {}
    lists: dict[str, Iterator[dict[str, Any]]] = {
        "lost": ({**one.ids, "sent_at": _iso(one.sent_at), "resendable": one.resendable} for one in matcher.lost()),
        "altered": ({**one.named.ids, "resendable": one.named.resendable, "fields": one.fields} for one in matcher.altered()),
        "doubled": ({**one.ids, "also": other, "place": place} for one, other, place in matcher.doubled()),
        "unknown": ({"transaction_id": one} for one in matcher.unknown()),
        "in_flight": ({**one.ids, "sent_at": _iso(one.sent_at)} for one in islice(matcher.in_flight(), IN_FLIGHT_NAMED)),
        "conflicts": iter(run.conflicts),
        "old_in_quarantine": (
            {"message_id": message_id, "transaction_id": key, "sent_at": _iso(sent_at)}
            for message_id, key, sent_at in matcher.quarantined_before(now.timestamp() - run.options.quarantine_age)
        ),
    }
    return summary, lists


def _resendable(named: Named) -> str:
    return _name(named) + ("" if named.resendable else " (cannot be sent again: its body is pruned, or its producer is gone)")


def _name(named: Named) -> str:
    return named.transaction_id or named.outbox_id


def _fields(fields: list[dict[str, Any]]) -> str:
    shown = [f"{one['field']}: sent {one['sent'] or 'nothing'}, stored {one['stored'] or 'nothing'}" for one in fields[:3]]
    return "; ".join(shown + ([f"{len(fields) - 3} more"] if len(fields) > 3 else []))


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
