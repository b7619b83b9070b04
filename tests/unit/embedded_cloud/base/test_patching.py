"""A patch replaces a name of an emulator, wherever that stands, and several patches of one name nest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from embedded_cloud.base.patching import replace, wrap


def shout(original: Any, text: str) -> str:
    return f"{original(text)}!"


def test_the_last_patch_of_a_name_is_asked_first() -> None:
    module = SimpleNamespace(say=lambda text: text)
    for patch in (wrap(module, "say", shout), wrap(module, "say", lambda original, text: f"({original(text)})")):
        patch.apply()
    assert module.say("hello") == "(hello!)"


def test_a_patch_of_a_method_is_given_the_object() -> None:
    class Backend:
        name = "moto"

        def say(self, text: str) -> str:
            return f"{self.name}: {text}"

    wrap(Backend, "say", lambda original, backend, text: shout(lambda said: original(backend, said), text)).apply()
    assert Backend().say("hello") == "moto: hello!"


def test_a_dictionary_can_be_patched_and_given_a_new_entry() -> None:
    handlers: dict[str, Any] = {"Say": lambda text: text}
    wrap(handlers, "Say", shout).apply()
    replace(handlers, "New", len).apply()
    assert (handlers["Say"]("hello"), handlers["New"]("hello")) == ("hello!", 5)


@pytest.mark.parametrize("owner", [{}, SimpleNamespace()], ids=["dictionary", "module"])
def test_what_the_emulator_does_not_have_cannot_be_wrapped(owner: Any) -> None:
    with pytest.raises((TypeError, AttributeError), match="say"):
        wrap(owner, "say", shout).apply()
