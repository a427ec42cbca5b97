"""What each line of a feed brought, and how far it lags behind the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["LineStats", "line_stats"]


@dataclass(frozen=True, slots=True)
class LineStats:
    """One line, since the feed began.

    A message counts for the line that brought its first copy. The lag is how much later than the first copy of the same
    messages a packet of this line arrived, by the packets' times; packets that were first themselves are not among it.
    Percentiles are at most a quarter too great, 0 where nothing was measured.

    Attributes:
        name: as configured; of a capture "A" for the destination that it shows first.
        packets: packets that came on it.
        first_copies: messages that it brought first.
        duplicates: messages that another line had brought before, or that came late.
        lagging: packets that came after another line's.
        lag_p50_ns, lag_p90_ns, lag_p99_ns, lag_max_ns: by how much, ns.
        is_down: whether it has been silent for longer than `sequencing.line_timeout_us`.
        times_down: how often that was so.
    """

    name: str
    packets: int
    first_copies: int
    duplicates: int
    lagging: int
    lag_p50_ns: int
    lag_p90_ns: int
    lag_p99_ns: int
    lag_max_ns: int
    is_down: bool
    times_down: int

    def as_dict(self) -> dict[str, Any]:
        """The same as a dictionary."""
        return asdict(self)


def line_stats(lines: Iterable[dict[str, Any]], names: Sequence[str]) -> list[LineStats]:
    """From what the core tells; the names by the number of the line."""
    return [LineStats(name=names[line.pop("number")], **line) for line in lines]
