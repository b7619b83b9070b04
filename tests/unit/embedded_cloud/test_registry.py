"""The registry has every rule and every patch of the services, each rule names its source, and no table hides another's entry."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from embedded_cloud import registry, services
from embedded_cloud.base.rules import RuleContext, Times
from embedded_cloud.faults.deliveries import Deliveries
from embedded_cloud.rulebook import Rulebook
from embedded_cloud.services.cloudwatch.patches import Metrics


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(services.__path__, f"{services.__name__}."):
        if not found.ispkg:
            yield importlib.import_module(found.name)


RULES = {
    f"{module.__name__.removeprefix('embedded_cloud.services.')}.{name}": function
    for module in modules()
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and list(inspect.signature(function).parameters) == ["call", "context"]
    if "Refusal" in str(inspect.signature(function).return_annotation)
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_asked_and_names_its_source(name: str) -> None:
    asked = {rule for rules in registry.RULES.values() for rule in rules}
    assert RULES[name] in asked
    assert RULES[name].__doc__, "which page of AWS's documentation?"


@pytest.mark.parametrize("table", ["RULES", "NOTES", "REWRITES"])
def test_no_action_is_in_the_tables_of_two_services(table: str) -> None:
    tables = [getattr(module, table) for module in modules() if hasattr(module, table)]
    found = Counter(action for entries in tables for action in entries)
    assert found and [action for action, times in found.items() if times > 1] == []
    assert set(getattr(registry, table)) == set(found)


def test_every_patch_of_a_service_is_applied_once() -> None:
    moto: Any = None
    context = RuleContext(Times(0), moto)
    rulebook = Rulebook(registry.RULES, registry.NOTES, registry.REWRITES, context)
    applied = Counter(map(id, registry.patches("root", context, rulebook, Deliveries(), Metrics(moto, context.times))))
    listed = [patch for module in modules() for patch in getattr(module, "PATCHES", ())]
    assert listed and [patch for patch in listed if applied[id(patch)] != 1] == []
