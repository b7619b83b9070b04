"""Settings of faults from a JSON document: every value has the type of its field."""

from typing import Any, TypeVar

# What a value must be, in words, and the types that JSON gives it. To Python a truth value is a number too.
_FORMS: dict[Any, tuple[str, tuple[type, ...]]] = {
    float: ("number", (int, float)),
    int: ("whole number", (int,)),
    bool: ("truth value", (bool,)),
    str: ("text", (str,)),
    tuple[str, ...]: ("list of texts", (list,)),
}

Settings = TypeVar("Settings")


def settings_from(kind: type[Settings], document: Any) -> Settings:
    """The settings of a JSON object of the fields of `kind`, all of them optional. Raises ValueError that says what is wrong."""
    fields: dict[str, Any] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    if not isinstance(document, dict) or document.keys() - fields.keys():
        raise ValueError(f"expected an object of {', '.join(fields)}; found {document!r}")
    for name, value in document.items():
        expected, types = _FORMS[fields[name].type]
        is_text_list = not isinstance(value, list) or all(isinstance(one, str) for one in value)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types) or not is_text_list:
            raise ValueError(f"{name} is {value!r}; it must be a {expected}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in document.items()})
