"""Statistics as a plain dataclass, made from the one table of counters that the core keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, field, make_dataclass
from typing import TYPE_CHECKING

from . import _core

__all__ = ["FeedStats", "make_stats"]

if TYPE_CHECKING:

    class FeedStats:
        """The counters of a feed or a replay; their names are those of `barewire.counters()`."""

        def __init__(self, **counters: int) -> None: ...
        def __getattr__(self, name: str) -> int: ...
        def as_dict(self) -> dict[str, int]: ...

else:

    def _make() -> type:
        table = _core.counters()
        doc = "The counters of a feed or a replay.\n\nAttributes:\n" + "".join(f"    {n}: {m}\n" for n, m in table)
        return make_dataclass(
            "FeedStats",
            [(name, int, field(default=0)) for name, _ in table],
            frozen=True,
            namespace={"__doc__": doc, "__module__": "barewire", "as_dict": lambda self: asdict(self)},
        )

    FeedStats = _make()


def make_stats(counters: Iterable[tuple[str, int]]) -> FeedStats:
    """The dataclass of a core's counters."""
    return FeedStats(**dict(counters))
