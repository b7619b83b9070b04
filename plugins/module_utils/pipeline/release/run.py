"""A release from end to end: publish, probe, move the alias, probe again, and move it back if that probe fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.checks import Check
from .version_records import Written
from .versions import Note, ReleaseError, Releases, differing, is_checked, weights

# How many failed checks an error names; all are in the result.
NAMED = 5
# A version that is to process the probe's records -> the checks of the outcome.
Probe = Callable[[str], list[Check]]

FIX = "Fix lambda_src or the settings, then run site.yml again."
REPAIR = "ansible-playbook reconcile.yml -e reconcile_repair_altered=true -e reconcile_resend_lost=true"


class RefusedError(ReleaseError):
    """A version that failed a probe; `outcome` is what was done."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass
class Outcome:
    """What one step did, or would do in check mode; `version` is live at the end, "" for none."""

    changed: bool = False
    version: str = ""
    previous: str = ""
    deleted: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


def failed(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if not check["passed"]]


def named(checks: Sequence[Check]) -> str:
    """The failed checks in words, up to NAMED of them."""
    wrong = failed(checks)
    words = "; ".join(f"{check['check']}: expected {check['expected']}, found {check['found']}" for check in wrong[:NAMED])
    return words + (f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else "")


class ReleaseRun:
    """The steps of a release. A step may follow an interruption: the alias records the progress."""

    def __init__(self, releases: Releases, kept: int, check_mode: bool) -> None:
        self._releases, self._kept, self._check_mode = releases, kept, check_mode

    def release(self, probe: Probe) -> Outcome:
        """Make the content of $LATEST the live version, unless it is. Raises RefusedError if the probe fails."""
        alias = self._releases.alias()
        note = Note.of(alias)
        live = alias["FunctionVersion"] if alias else ""
        outcome = Outcome(version=live, previous=note.previous)
        latest = self._releases.configuration("$LATEST") if self._check_mode else self._releases.at_rest()
        held = self._releases.configuration(live) if live.isdecimal() else None
        if held and latest and not differing(held, latest):
            # The alias already points to the right version; remove others that share its invocations.
            if shared := weights(alias):
                outcome.changed, outcome.before, outcome.after = True, {"weights": shared}, {"weights": {}}
                if not self._check_mode:
                    self._releases.move(alias, live, note)
            return outcome
        outcome.changed = True
        outcome.before = {"version": live} if live else {}
        outcome.after = {"version": "a new one"}
        if self._check_mode or latest is None:
            return outcome

        version = self._releases.publish(latest)
        if version == note.withdrawn:
            raise ReleaseError(
                f"Version {version} of {self._releases.function} holds what this would deploy, and a rollback took it out of service. "
                f"{self._still(live)} {FIX} To have it live all the same: "
                f"ansible-playbook rollback.yml -e rollback_version={version}"
            )
        outcome.checks = probe(version)
        if failed(outcome.checks):
            outcome.deleted = self._releases.prune(self._kept)
            raise RefusedError(
                f"Version {version} of {self._releases.function} was refused before it went live: {named(outcome.checks)}. "
                f"{self._still(live)} {FIX}",
                outcome,
            )
        # A version that was never checked is no version to go back to.
        unchecked = bool(alias) and note.version == live and not note.checked
        outcome.previous = note.previous if unchecked else live if live.isdecimal() else ""
        self._releases.move(alias, version, replace(note, checked=False, previous=outcome.previous))
        outcome.version, outcome.after = version, {"version": version}
        return outcome

    def confirm(self, probe: Probe, written: Callable[[str], Written]) -> Outcome:
        """Check the live version behind its alias, unless it was; raises RefusedError, once the version before is live again."""
        alias = self._releases.alias()
        if alias is None:
            if self._check_mode:
                return Outcome(changed=True)
            raise ReleaseError(f"Function {self._releases.function} has no alias {self._releases.name}: release it first (site.yml).")
        note, version = Note.of(alias), alias["FunctionVersion"]
        outcome = Outcome(version=version, previous=note.previous)
        if is_checked(alias):
            outcome.deleted = [] if self._check_mode else self._releases.prune(self._kept)
            outcome.changed = bool(outcome.deleted)
            return outcome
        outcome.changed, outcome.before, outcome.after = True, {"checked": False}, {"checked": True}
        if self._check_mode:
            return outcome
        outcome.checks = probe(version)
        if not failed(outcome.checks):
            self._releases.move(alias, version, replace(note, checked=True))
            outcome.deleted = self._releases.prune(self._kept)
            return outcome
        wrong = f"Version {version} of {self._releases.function} failed behind alias {self._releases.name}: {named(outcome.checks)}."
        if not note.previous or self._releases.configuration(note.previous) is None:
            raise RefusedError(f"{wrong} There is no version before it to go back to, so it stays live. {FIX}", outcome)
        self._releases.move(alias, note.previous, replace(note, checked=True, previous=""))
        outcome.version, outcome.after = note.previous, {"version": note.previous}
        outcome.deleted = self._releases.prune(self._kept)
        raise RefusedError(
            f"{wrong} The alias was moved back: version {note.previous} is live again. {written(version)} Where version {version} stored "
            f"other content than was sent, put it right from the ledger: {REPAIR}. {FIX}",
            outcome,
        )

    def _still(self, live: str) -> str:
        return f"Version {live} is live as before." if live else "No version is live: the queue keeps its messages until one is."


def roll_back(releases: Releases, version: str, check_mode: bool) -> tuple[str, str, bool]:
    """Make an older version live: the previous one, or the one that is named.

    Returns the version that is live, the one that was withdrawn, and whether the alias was moved; the same call again moves nothing. Raises
    ReleaseError when there is no such version.
    """
    alias = releases.alias()
    if alias is None:
        raise ReleaseError(f"Function {releases.function} has no alias {releases.name}: nothing is live, so there is nothing to roll back.")
    existing, note, live = releases.versions(), Note.of(alias), alias["FunctionVersion"]
    if note.withdrawn and (version == live or (not version and not note.previous)):
        return live, note.withdrawn, False
    target = version or note.previous
    if not target or target not in existing:
        raise ReleaseError(
            f"{'Version ' + target if target else 'The version before'} of {releases.function} is not known. "
            f"Live is {live}; there are: {', '.join(existing) or 'none'}. Say which with -e rollback_version=N."
        )
    if target == live:
        raise ReleaseError(f"Version {live} of {releases.function} is live already. There are: {', '.join(existing)}.")
    if not check_mode:
        releases.at_rest(target)
        releases.move(alias, target, Note(checked=True, withdrawn=live if live.isdecimal() else ""))
    return target, live, True
