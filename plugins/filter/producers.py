"""What the plays know of the producers, gathered from the facts of their hosts: `groups.producers | map('extract', hostvars) | ...`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Host = Mapping[str, Any]


def exported_ledgers(hosts: Iterable[Host]) -> dict[str, list[str]]:
    """The `paths` of the ledgers that were fetched in this run, and the `missing` ones in words. One that was not asked for is missing."""
    hosts = list(hosts)
    problems = [host["reconciliation_ledger_problem"] for host in hosts if host.get("reconciliation_ledger_problem")]
    not_asked = [host["inventory_hostname"] for host in hosts if "reconciliation_ledger_problem" not in host]
    paths = [host["reconciliation_ledger"] for host in hosts if host.get("reconciliation_ledger")]
    return {"paths": paths, "missing": problems + not_asked}


def unreachable_producers(hosts: Iterable[Host], instances: Iterable[Mapping[str, str]]) -> dict[str, list[Any]]:
    """Who did not answer teardown.yml, which asks every producer and notes the fact `teardown_answers` on its host.

    `instances` are those that pipeline_data_info found, stopped ones too. Returned are

    - `instances`: those that no producer answered for;
    - `to_stop`: the running ones of these, but for those of a host that --limit left out;
    - `lines`: a sentence for each host and each instance that did not answer.
    """
    hosts = list(hosts)
    left_out = [host for host in hosts if "teardown_answers" not in host]
    silent = _without(instances, (host for host in hosts if host.get("teardown_answers")))
    lines = [f"{host['inventory_hostname']} was not asked" for host in left_out]
    lines += [f"{host['inventory_hostname']} did not answer" for host in hosts if not host.get("teardown_answers", True)]
    lines += [f"{instance['line']}, and no producer answered for it" for instance in silent]
    to_stop = _without((one for one in silent if one["state"] == "running"), left_out)
    return {"instances": silent, "to_stop": to_stop, "lines": lines}


def _without(instances: Iterable[Mapping[str, str]], hosts: Iterable[Host]) -> list[Mapping[str, str]]:
    """The instances that are none of the hosts': a host knows its instance by id or by name."""
    known = {host["producer_service_instance"] for host in hosts}
    return [one for one in instances if not known & {one["id"], one["name"]}]


def drained_producers(hosts: Iterable[Host]) -> dict[str, list[str]]:
    """What draining came to, by the facts that it notes on each host.

    - `problems`: what kept a producer from being drained, as the rescue noted it;
    - `undrained`: a sentence for each host that was not drained, for whatever reason;
    - `rejected`: the files of rejected feed lines that were fetched;
    - `held`: in words, what each producer that could be asked holds that is nowhere else.
    """
    hosts = list(hosts)
    problems = [host["teardown_problem"] for host in hosts if "teardown_problem" in host]
    undrained = [f"{host['inventory_hostname']} was not drained" for host in hosts if "teardown_drained" not in host]
    held = [line for host in hosts if "producer_service_unsent" in host for line in _held(host)]
    rejected = [host["teardown_rejected_lines"] for host in hosts if host.get("teardown_rejected_lines")]
    return {"problems": problems, "undrained": undrained, "rejected": rejected, "held": held}


def _held(host: Host) -> list[str]:
    name = host["inventory_hostname"]
    return [
        f"{name} has not sent {host['producer_service_unsent']} transactions",
        f"{name} has not read {host['producer_service_feed_unread']} lines of its feed",
        f"{name} keeps {host['producer_service_feed_rejected']} rejected lines",
    ]


def verifications(hosts: Iterable[Host], roles: Iterable[str] = ()) -> list[Any]:
    """Every fact `<role>_verification` of the hosts, in the order of the hosts and of their facts; only of `roles`, if any is named."""
    wanted = {f"{role}_verification" for role in roles}
    return [host[name] for host in hosts for name in host if (name in wanted if wanted else name.endswith("_verification"))]


class FilterModule:
    """What Ansible asks for the filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {one.__name__: one for one in (exported_ledgers, unreachable_producers, drained_producers, verifications)}
