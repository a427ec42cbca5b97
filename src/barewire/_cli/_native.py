"""`--native`: a native strategy found by where it is, and its state in words at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._errors import ConfigError
from ._load import load_module

if TYPE_CHECKING:
    from .._native import NativeStrategy

__all__ = ["NativeOption", "load_native", "state_as_dict", "state_text"]

NativeOption = Annotated[
    str | None,
    typer.Option(
        "--native", metavar="WHERE", help="A strategy for the feed's own thread: file.py:name or package.module:name."
    ),
]

_SHOWN = 8


def load_native(where: str) -> NativeStrategy:
    """The native strategy at `file.py:name` or `package.module:name`. Raises ConfigError."""
    from .._native import NativeStrategy

    module, name = load_module("--native", where, "name")
    found = {key: value for key, value in vars(module).items() if isinstance(value, NativeStrategy)}
    if not name and len(found) == 1:
        name = next(iter(found))
    if name not in found:
        there = ", ".join(found) or "none"
        raise ConfigError(f"--native {where!r}: expected file.py:name; native strategies there: {there}")
    return found[name]


def state_as_dict(strategy: NativeStrategy) -> dict[str, Any]:
    """The state's fields, and how many calls failed."""
    state = strategy.snapshot()
    found = {name: _plain(state[name]) for name in state.dtype.names if not name.startswith("_")}
    return {**found, "errors": strategy.errors}


def state_text(strategy: NativeStrategy) -> str:
    """The same for people: long arrays cut short."""

    def text(value: Any) -> str:
        if isinstance(value, list) and len(value) > _SHOWN:
            return f"{', '.join(map(str, value[:_SHOWN]))}, ... ({len(value)})"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    rows = state_as_dict(strategy)
    return "\n".join(f"{strategy.name}.{name} = {text(value)}" for name, value in rows.items())


def _plain(value: Any) -> Any:
    """Numbers, lists and dictionaries, as JSON has them."""
    if getattr(value, "shape", ()):
        return [_plain(one) for one in value]
    if value.dtype.names:
        return {name: _plain(value[name]) for name in value.dtype.names}
    return value.item()
