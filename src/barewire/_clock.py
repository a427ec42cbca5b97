"""How far receive times may be off: the clock behind `ts_recv`, as a feed watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ._records import TS_SOURCES

__all__ = ["Clock", "clock_of"]

_UNKNOWN = 2**64 - 1  # as the statistics and the records say it
_MICROSECOND = 1_000
_STATES = {1: "synchronised", 2: "holdover", 3: "degraded", 4: "lost"}


@dataclass(frozen=True)
class Clock:
    """The clock behind `ts_recv` at this moment, and how far it may be off, either way.

    The bounds are told by the receive path and by the kernel, not measured from the data; docs/clocks.md says how each
    is come by.

    Attributes:
        source: which clock stamps packets: "nic", "capture", "kernel" or "user"; "none" where nothing is known.
            Of several in use, the least good; each record's own is in its `ts_source`.
        bound_ns: how far that clock may be from the system's, nanoseconds; `None` where that is not known.
        utc_bound_ns: how far the system's clock may be from UTC, nanoseconds, as PTP's daemon says where it is watched
            (`[clock]` in the configuration), else the kernel; `None` where nobody knows.
        state: what PTP's daemon makes of the system's clock: "synchronised", "holdover", "degraded" or "lost"; `None`
            where it is not watched.
    """

    source: str
    bound_ns: int | None
    utc_bound_ns: int | None
    state: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether nothing is known against it: neither degraded nor lost. Records by another are flagged."""
        return self.state not in ("degraded", "lost")

    @property
    def total_ns(self) -> int | None:
        """How far `ts_recv` may be from UTC, nanoseconds: both bounds together; `None` where one is not known."""
        if self.bound_ns is None or self.utc_bound_ns is None:
            return None
        return self.bound_ns + self.utc_bound_ns

    def __str__(self) -> str:
        unknown = "the system's own error is not known"
        utc = unknown if self.utc_bound_ns is None else _within(self.utc_bound_ns, "UTC")
        state = "" if self.state is None else f", {self.state}"
        if self.bound_ns is None:
            return f"{self.source}, of unknown error; {utc}{state}"
        return f"{self.source}, {_within(self.bound_ns, 'the system')}; {utc}{state}"


def _within(bound_ns: int, what: str) -> str:
    amount = f"{bound_ns} ns" if bound_ns < 10 * _MICROSECOND else f"{bound_ns / _MICROSECOND:,.0f} us"
    return f"within {amount} of {what}"


def clock_of(stats: Mapping[str, int]) -> Clock:
    """The clock that a feed's statistics tell of; nothing is known of a replay's, nor of one that has just begun."""

    def bound(name: str) -> int | None:
        value = stats.get(name, _UNKNOWN)
        return None if value == _UNKNOWN else value

    source = TS_SOURCES.get(stats.get("clock_source", 0), "none")
    if source == "none":
        return Clock(source, None, None)
    state = _STATES.get(stats.get("clock_verdict", 0))
    return Clock(source, bound("clock_bound_ns"), bound("clock_utc_bound_ns"), state)
