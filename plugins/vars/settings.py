"""Loads group_vars and host_vars, and gives every setting its type: in those files and in -e alike, before any play begins."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from json import loads
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleError
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.vars import host_group_vars
from ansible.utils.vars import load_extra_vars

DOCUMENTATION = """
name: settings
short_description: Loads group_vars and host_vars, and gives every setting its type
description:
  - Does what C(ansible.builtin.host_group_vars) does, and checks each setting, there and in extra variables, against the roles'
    C(meta/argument_specs.yml). What does not fit ends every play before its first task; no tag, limit or C(--start-at-task) avoids that.
  - A template is left as it is in a file, and refused in extra variables.
options:
  stage:
    description: When to run; for each task by default.
    choices: [all, inventory, task]
    ini: [{key: stage, section: vars_settings}]
"""

ROOT = Path(__file__).resolve().parents[2]
Spec = Mapping[str, Any]

LONGEST = 1_000  # characters of a text that nothing says more of
LONGEST_NUMBER = 38  # digits, of which DynamoDB keeps so many
WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
OTHERS = ("__", "ansible_")  # Ansible's own variables and the roles' internals begin with these


class Refused(ValueError):
    """A value that does not fit; the text says what would."""


@cache
def options() -> dict[str, Spec]:
    """The specification of each setting and switch, by name: the one in the role that the name begins with, where there is such a role."""
    found: dict[str, Spec] = {}
    for role, file in specifications().items():
        for entry in yaml_load(file.read_text())["argument_specs"].values():
            given = entry.get("options", {})
            found |= {name: spec for name, spec in given.items() if name not in found or prefix(name) == role}
    return found


@cache
def specifications() -> dict[str, Path]:
    """The roles' argument specifications, by what the names of a role's settings begin with: account_guard's with `pipeline`."""
    files = {file.parts[-3]: file for file in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml"))}
    files["pipeline"] = files.pop("account_guard")
    return files


def prefix(name: str) -> str:
    """The role, or `pipeline`, that a name begins with; empty for others."""
    return next((role for role in specifications() if name.startswith(f"{role}_")), "")


def typed(spec: Spec, value: Any) -> Any:
    """The value as its type has it. Raises Refused."""
    if spec.get("derived"):
        raise Refused("left alone: it follows from other settings")
    if "empty" in spec and (value is None or (isinstance(value, str) and value.strip() in ("", "null"))):
        return spec["empty"]
    convert = _decimal if spec.get("decimal") else CONVERTERS.get(spec["type"])
    return convert(spec, value) if convert else value


def _wanted(spec: Spec, otherwise: str) -> str:
    return f"one of {', '.join(map(str, spec['choices']))}" if "choices" in spec else otherwise


def _number(spec: Spec, value: Any, kind: str = "a number", form: str = r"-?[0-9]+([.][0-9]+)?") -> Decimal:
    """A finite number within the range; `form` is how its text looks."""
    shown = value.strip() if isinstance(value, str) else format(Decimal(repr(value)), "f") if isinstance(value, float) else repr(value)
    low, high = spec.get("range", (None, None))
    within = f" from {low} to {high}" if high is not None else f" of at least {low}" if low is not None else ""
    several = f", a multiple of {spec['multiple_of']}" if "multiple_of" in spec else ""
    wanted = _wanted(spec, f"{kind}{within}{several}")
    if isinstance(value, bool) or not re.fullmatch(form, shown) or sum(map(str.isdigit, shown)) > LONGEST_NUMBER:
        raise Refused(wanted)
    found = Decimal(shown)
    outside = (low is not None and found < Decimal(str(low))) or (high is not None and found > Decimal(str(high)))
    if outside or ("multiple_of" in spec and found % spec["multiple_of"]) or found not in spec.get("choices", [found]):
        raise Refused(wanted)
    return found


def _float(spec: Spec, value: Any) -> int | float:
    found = float(_number(spec, value))
    return int(found) if found.is_integer() else found


def _decimal(spec: Spec, value: Any) -> str:
    text = format(_number(spec, value, "a plain decimal number").copy_abs(), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _boolean(spec: Spec, value: Any) -> bool:
    word = str(value).strip().lower() if isinstance(value, str | bool | int) else ""
    if word not in WORDS:
        raise Refused("true or false")
    return WORDS[word]


def _text(spec: Spec, value: Any) -> str:
    wanted = _wanted(spec, spec.get("format", f"a text of at most {LONGEST} characters on one line"))
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Refused(f"{wanted}, in quotes")
    text = str(value).strip() if {"choices", "matches"} & set(spec) else str(value)
    fits = text in spec["choices"] if "choices" in spec else re.fullmatch(spec.get("matches", f".{{0,{LONGEST}}}"), text)
    if not fits or not text.isprintable():
        raise Refused(wanted)
    return text


def _path(spec: Spec, value: Any) -> str:
    path = os.path.expanduser(_text({**spec, "matches": f"[/~].{{0,{LONGEST}}}", "format": "an absolute path"}, value))
    if not os.path.isabs(path):
        raise Refused("an absolute path")
    return path


def _list(spec: Spec, value: Any) -> list[str]:
    wanted = f"a list of {spec['format']}, {spec['at_most']} at most"
    if isinstance(value, str | int) and not isinstance(value, bool):
        text = str(value).strip()
        value = _json(text) if text.startswith("[") else [text] if spec.get("whole") else text.split(",") if text else []
    if not isinstance(value, list) or len(value) > spec["at_most"]:
        raise Refused(wanted)
    try:
        return [item if is_template(item) else _text(spec, item) for item in value]
    except Refused as refusal:
        raise Refused(wanted) from refusal


def _dict(spec: Spec, value: Any) -> dict[str, str]:
    """Names and texts; a number or a boolean becomes text as YAML writes it."""
    wanted = f"at most {spec['at_most']} names and texts of {spec['format']}"
    value = _json(value.strip()) if isinstance(value, str) else value
    if not isinstance(value, dict) or len(value) > spec["at_most"]:
        raise Refused(wanted)
    made = {}
    for name, item in value.items():
        text = item if isinstance(item, str) else "" if item is None else str(item).lower() if isinstance(item, bool) else str(item)
        fits = is_template(item) or (not isinstance(item, dict | list) and re.fullmatch(spec["matches"], text))
        if not fits or not re.fullmatch(spec["names"], str(name)):
            raise Refused(wanted)
        made[str(name)] = text
    return made


def _json(text: str) -> Any:
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return None


CONVERTERS: dict[str, Callable[[Spec, Any], Any]] = {
    "int": lambda spec, value: int(_number(spec, value, "a whole number", "-?[0-9]+")),
    "float": _float,
    "bool": _boolean,
    "str": _text,
    "path": _path,
    "list": _list,
    "dict": _dict,
}


def is_template(value: Any) -> bool:
    """Whether a value, or any part of it, would be rendered by Ansible."""
    if isinstance(value, dict):
        return any(is_template(item) for pair in value.items() for item in pair)
    if isinstance(value, list):
        return any(is_template(item) for item in value)
    return isinstance(value, str) and bool(re.search("{{|{%|{#", value))


def _shown(value: Any) -> str:
    """The value on one line, with nothing that a terminal would obey."""
    text = repr(str(value)) if isinstance(value, str) else re.sub(r"[^ -~]", "?", repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def judged(variables: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any, str]]:
    """(name, typed value, problem) of each setting; the problem is empty where the value fits."""
    given = where == "-e"
    for name, value in variables.items() if isinstance(variables, dict) else ():  # what is no dictionary, Ansible itself refuses
        spec = options().get(name)
        if spec is None:
            near = stranger(str(name), given)
            if near is not None:
                hint = f"Did you mean {' or '.join(near)}?" if near else "The roles' meta/argument_specs.yml have those there are."
                yield name, value, f"{where}: {_shown(str(name))} is no setting. {hint}"
        elif given and is_template(value):
            yield name, value, f"{where}: {name} is {_shown(value)}; -e takes a plain value, a template is for a file of the inventory."
        elif not is_template(value) or (spec["type"] in ("list", "dict") and not spec.get("derived")):
            try:
                yield name, typed(spec, value), ""
            except Refused as refusal:
                yield name, value, f"{where}: {name} is {_shown(value)}; it must be {refusal} ({meaning(spec)})."


def meaning(spec: Spec) -> str:
    """The first sentence of the description, as it reads in brackets: without markup, without a capital letter but in abbreviations."""
    sentence = re.sub(r"\b[A-Z]\(([^)]*)\)", r"\1", spec["description"]).split(". ")[0].rstrip(".\n")
    first = sentence.split()[0]
    return sentence if first[1:].lower() != first[1:] else sentence[0].lower() + sentence[1:]


def stranger(name: str, given: bool) -> list[str] | None:
    """The settings that a name of none may mean, the likeliest first; None for a name that may be the operator's own."""
    if name.startswith(OTHERS):
        return None
    settable = [known for known, spec in options().items() if not spec.get("derived")]
    lower = name.lower()
    switches = tuple(f"{known.partition('_')[0]}_" for known in settable if not prefix(known))
    if prefix(lower) or (given and lower.startswith(switches)):
        return difflib.get_close_matches(lower, settable, 1, 0.9) or _likeliest(lower, settable)
    return (difflib.get_close_matches(lower, settable, 1, 0.8) or None) if given else None


def _likeliest(name: str, settable: list[str]) -> list[str]:
    """Up to three settings that have the words of a name in their own name or description, whatever role the name begins with."""
    found = sorted(((_likeness(name, known), known) for known in settable), reverse=True)[:3]
    return [known for likeness, known in found if likeness > max(1.2, 0.8 * found[0][0])]


def _likeness(name: str, known: str) -> float:
    """From 0 to 2: the share of words found, those that the description alone has counting less, and how alike the names are."""
    stem, other = (text.removeprefix(f"{prefix(text)}_") for text in (name, known))
    weights = dict.fromkeys(re.findall("[a-z]+", options()[known]["description"].lower()), 0.9) | dict.fromkeys(known.split("_"), 1.0)
    found = [max(weight * _ratio(word, one) for one, weight in weights.items()) for word in stem.split("_")]
    return sum(share for share in found if share >= 0.7) / len(found) + max(_ratio(stem, other), _ratio(stem, known))


@cache
def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


class VarsModule(host_group_vars.VarsModule):
    """The variables of hosts and groups from files, each setting of its type."""

    REQUIRES_ENABLED = True
    _checked: ClassVar[set[str]] = set()
    _typed: ClassVar[dict[tuple[str, ...], dict[str, Any]]] = {}

    def get_vars(self, loader: Any, path: str, entities: Any, cache: bool = True) -> dict[str, Any]:
        """Raises AnsibleError for what does not fit, the first time that it is called for a directory: all of it at once."""
        if path not in self._checked:
            self._check(loader, Path(path))
            self._checked.add(path)
        listed = entities if isinstance(entities, list) else [entities]
        key = (path, *(f"{entity.base_type}:{entity.name}" for entity in listed))
        if not cache or key not in self._typed:
            variables = super().get_vars(loader, path, entities, cache)
            self._typed[key] = variables | {name: value for name, value, problem in judged(variables, path) if not problem}
        return self._typed[key]

    def _check(self, loader: Any, directory: Path) -> None:
        """Every file of the directory and every -e; what -e gives becomes typed."""
        # Ansible reads -e once, into this one dictionary, which outranks whatever a file says.
        given = load_extra_vars(loader)
        found = list(judged(given, "-e"))
        given.update({name: value for name, value, problem in found if not problem})
        for file in _files(directory):
            where = os.path.relpath(file, ROOT) if file.is_relative_to(ROOT) else str(file)
            found += judged(loader.load_from_file(str(file), cache="all", unsafe=True, trusted_as_template=True) or {}, where)
        problems = [problem for _, _, problem in found if problem]
        if problems:
            heading = "settings that cannot be used. Nothing was changed. Correct them and run the same again:"
            raise AnsibleError("\n".join([heading, *problems]))


def _files(directory: Path) -> list[Path]:
    """Every file of variables that the inventory or playbook in this directory may load."""
    found = [file for folder in ("group_vars", "host_vars") for file in sorted((directory / folder).rglob("*")) if file.is_file()]
    return [file for file in found if file.suffix in ("", ".yml", ".yaml", ".json") and file.name[0] != "." and file.name[-1] != "~"]
