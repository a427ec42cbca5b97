"""How well a clock does, from what its ptp4l and its kernel say: one state, a bound, and reasons.

A bound is how far the clock may be from its grandmaster: the offset's median of the last samples, its spread, what the
oscillator may have drifted by since the last sync, and how far the system's clock is from the card's. The state follows
from the bound (less what the comparison with the card's clock itself may be off by, which nobody can steer away):

- synchronised: it follows, and the bound is below `degraded_ns`.
- holdover: it follows nobody since a while, and the bound is below `degraded_ns` still.
- degraded: the bound is above that, or what it is told cannot be trusted in full.
- lost: the bound is above `lost_ns`, or there is nothing to tell by.

Nothing here reads a clock: it is told the time with each observation.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, replace
from enum import IntEnum

from .management import PtpStatus

__all__ = ["ClockState", "Judge", "Kernel", "Observation", "Reason", "State", "Thresholds"]

_WINDOW = 16
_NEEDED = 3
_FAR_OUT = 5
"""Times the usual distance from the median, which is two thirds of a standard deviation."""
_TRAP_NS = 5_000_000
"""How near an offset is to a whole UTC offset for it to be one."""
_TAI_UTC_S = 37
"""Since 2017 (IERS Bulletin C)."""
_PRIMARY_CLASSES = (6, 13)
"""Locked to its source (IEEE 1588-2019, table 4): 6 to a primary reference, 13 to a source of its own choice."""


class State(IntEnum):
    """How well a clock does; the worst has the highest number."""

    SYNCHRONISED = 0
    HOLDOVER = 1
    DEGRADED = 2
    LOST = 3


@dataclass(frozen=True)
class Thresholds:
    """What is good enough."""

    warn_ns: int = 500
    degraded_ns: int = 1_000
    lost_ns: int = 2_000
    drift_ppb: int = 100
    """What the oscillator may be off by when it is left alone."""
    silence_s: float = 3.0
    """After so long without a sync, or an answer, there is none."""
    trial: bool = False
    """Clocks are compared and never set: a port that is for ever UNCALIBRATED is as it should be, and nobody steers."""


@dataclass(frozen=True)
class Kernel:
    """What the kernel says of the system clock (adjtimex(2))."""

    synchronised: bool
    max_error_ns: int
    tai_offset_s: int


@dataclass(frozen=True)
class Observation:
    """What was seen at one moment."""

    at_s: float
    """By a clock that is never set."""
    ptp: PtpStatus | None
    """None where ptp4l did not answer."""
    kernel: Kernel | None = None
    card: str | None = None
    """The card's clock that PTP goes by, /dev/ptp0 say; None where there is none."""
    system_offset_ns: float | None = None
    """The system clock less the card's, as measured, both in UTC; None where there is no card's clock."""
    system_bound_ns: float = 0.0
    """How far off that measurement may be, either way."""
    system_error: str | None = None
    """Why the card's clock could not be compared."""
    phc2sys: bool | None = None
    """Whether a phc2sys runs; None where nobody can tell."""


@dataclass(frozen=True)
class Reason:
    """Why a clock is not as it should be, or what just changed."""

    code: str
    text: str
    state: State


@dataclass(frozen=True)
class ClockState:
    """The verdict."""

    state: State
    bound_ns: float | None
    """How far the clock may be from its grandmaster; None for unknown."""
    offset_ns: float | None
    spread_ns: float | None
    path_delay_ns: float | None
    steps_removed: int | None
    grandmaster: str | None
    grandmaster_class: int | None
    port_states: tuple[str, ...]
    reasons: tuple[Reason, ...]
    changes: tuple[str, ...]
    """What is different from the observation before: told once."""
    system_offset_ns: float | None = None
    """The system clock less the card's; None where that was not measured."""


class Judge:
    """Follows one clock."""

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self.thresholds = thresholds or Thresholds()
        self._offsets: deque[float] = deque(maxlen=_WINDOW)
        self._delays: deque[float] = deque(maxlen=_WINDOW)
        self._usual_delay_ns: float | None = None
        self._last: PtpStatus | None = None
        self._seen: Observation | None = None
        self._answered_s: float | None = None
        self._synced_s: float | None = None
        self._began_s: float | None = None
        self._has_followed = False
        self._had_bound = False

    def update(self, seen: Observation) -> ClockState:
        """The verdict after one more observation. Times must not go back."""
        if self._began_s is None:
            self._began_s = seen.at_s
        ptp = seen.ptp
        if ptp is None:
            return self._unanswered(seen)
        changes = list(self._changes(ptp))
        self._answered_s = seen.at_s
        follows = ptp.follows
        self._has_followed |= follows
        fresh = follows and (self._last is None or ptp.last_sync_ns != self._last.last_sync_ns)
        if self._last is not None and ptp.grandmaster != self._last.grandmaster:
            # Samples against another clock say nothing of this one.
            self._offsets.clear()
            self._delays.clear()
            self._usual_delay_ns = None
        if fresh:
            self._synced_s = seen.at_s
            self._offsets.append(ptp.offset_ns)
            self._delays.append(ptp.path_delay_ns)
            changes += self._step()
        self._last, self._seen = ptp, seen
        return self._judged(seen, ptp, changes)

    # --- parts of the verdict --------------------------------------------------------------------

    def _judged(self, seen: Observation, ptp: PtpStatus, changes: list[str]) -> ClockState:
        follows = ptp.follows
        reasons = self._ports(ptp)
        if not follows and not ptp.client_only and not self._has_followed:
            return self._leader(seen, ptp, reasons, changes)
        reasons += self._leading(seen, ptp)
        reasons += self._trap(ptp)
        bound = self._bound(seen.at_s)
        reasons += self._distance(bound, seen, has_leader=follows and not self._is_silent(seen.at_s))
        system_reasons, bound = self._system_clock(seen, ptp, bound)
        return self._verdict(ptp, bound, [*reasons, *system_reasons], changes, seen.system_offset_ns)

    def _unanswered(self, seen: Observation) -> ClockState:
        since = self._answered_s if self._answered_s is not None else self._began_s
        assert since is not None
        silent_s = seen.at_s - since
        if silent_s < self.thresholds.silence_s and self._last is not None and self._seen is not None:
            # What was known stands, and the clock drifts meanwhile.
            return self._judged(replace(self._seen, at_s=seen.at_s), self._last, [])
        text = f"ptp4l has not answered for {silent_s:.0f} s"
        reason = Reason("no-answer", text, State.LOST)
        bound = self._bound(seen.at_s)
        return ClockState(State.LOST, bound, None, None, None, None, None, None, (), (reason,), ())

    def _changes(self, ptp: PtpStatus) -> list[str]:
        before = self._last
        if before is None:
            return []
        found = []
        if ptp.grandmaster != before.grandmaster:
            found.append(f"grandmaster changed from {before.grandmaster} to {ptp.grandmaster}")
        if ptp.grandmaster_class != before.grandmaster_class:
            found.append(f"grandmaster's class changed from {before.grandmaster_class} to {ptp.grandmaster_class}")
        if ptp.steps_removed != before.steps_removed:
            found.append(f"steps removed changed from {before.steps_removed} to {ptp.steps_removed}")
        elif ptp.parent != before.parent and ptp.grandmaster == before.grandmaster:
            found.append(f"leader changed from {before.parent} to {ptp.parent}")
        states = {port.number: port.state for port in before.ports}
        for port in ptp.ports:
            was = states.get(port.number)
            if was is not None and was != port.state:
                found.append(f"port {port.number} went from {was} to {port.state}")
        return found

    def _step(self) -> list[str]:
        """Forgets the samples from before somebody set a clock: a few that agree, far from those before, begin anew.

        Far by the scatter of those before, too: of a noisy clock's samples a few agree by chance now and then."""
        offsets = list(self._offsets)
        older, recent = offsets[:-_NEEDED], offsets[-_NEEDED:]
        far = self.thresholds.lost_ns
        if not older or max(recent) - min(recent) >= far:
            return []
        was, now = statistics.median(older), statistics.median(recent)
        usual = statistics.median(abs(one - was) for one in older)
        if abs(now - was) < max(far, _FAR_OUT * usual):
            return []
        self._offsets = deque(recent, maxlen=_WINDOW)
        return [f"the clock was set: its offset went from {_text(was)} to {_text(now)}"]

    def _ports(self, ptp: PtpStatus) -> list[Reason]:
        return [
            Reason("port-faulty", f"port {port.number} is FAULTY: its link is down or its card fails", State.DEGRADED)
            for port in ptp.ports
            if port.state == "FAULTY"
        ]

    def _leader(self, seen: Observation, ptp: PtpStatus, reasons: list[Reason], changes: list[str]) -> ClockState:
        """A clock that leads: as good as its class says."""
        if ptp.clock_class not in _PRIMARY_CLASSES:
            text = f"it leads with class {ptp.clock_class}: its own source is not there"
            reasons.append(Reason("source", text, State.DEGRADED))
        known = ptp.clock_class in _PRIMARY_CLASSES
        system_reasons, bound = self._system_clock(seen, ptp, 0.0 if known else None)
        return self._verdict(ptp, bound, [*reasons, *system_reasons], changes, seen.system_offset_ns)

    def _is_silent(self, at_s: float) -> bool:
        since = self._synced_s if self._synced_s is not None else self._began_s
        return since is not None and at_s - since >= self.thresholds.silence_s

    def _leading(self, seen: Observation, ptp: PtpStatus) -> list[Reason]:
        """What there is to say of those it follows."""
        since = self._synced_s if self._synced_s is not None else self._began_s
        assert since is not None
        silent_s = seen.at_s - since
        if not ptp.follows:
            return [Reason("no-leader", f"no clock leads it since {silent_s:.0f} s", State.HOLDOVER)]
        reasons = []
        if self._is_silent(seen.at_s):
            text = f"{ptp.parent} has sent no sync for {silent_s:.0f} s, though it counts as the leader"
            reasons.append(Reason("sync-stale", text, State.HOLDOVER))
        if ptp.grandmaster_class not in _PRIMARY_CLASSES:
            text = f"grandmaster {ptp.grandmaster} has class {ptp.grandmaster_class}: its own source is not there"
            reasons.append(Reason("grandmaster-class", text, State.DEGRADED))
        states = {port.state for port in ptp.ports}
        if not states & {"SLAVE", "UNCALIBRATED"} or ("SLAVE" not in states and not self.thresholds.trial):
            text = f"no port is SLAVE: {', '.join(port.state for port in ptp.ports)}"
            reasons.append(Reason("port-state", text, State.DEGRADED))
        return reasons

    def _trap(self, ptp: PtpStatus) -> list[Reason]:
        if not self._offsets:
            return []
        offset = self._offsets[-1]
        for seconds in {_TAI_UTC_S, ptp.utc_offset_s} - {0}:
            if abs(abs(offset) - seconds * 1e9) < _TRAP_NS:
                text = (
                    f"the offset is {offset / 1e9:+.3f} s: one side's clock is TAI and the other's UTC, {seconds} s "
                    "apart (ptpTimescale, utc_offset)"
                )
                return [Reason("utc-offset", text, State.LOST)]
        if ptp.ptp_timescale and not ptp.utc_offset_valid and not self.thresholds.trial:
            text = f"grandmaster {ptp.grandmaster} does not vouch for its UTC offset of {ptp.utc_offset_s} s"
            return [Reason("utc-unknown", text, State.DEGRADED)]
        return []

    def _spread(self) -> float | None:
        return statistics.pstdev(self._offsets) if len(self._offsets) >= _NEEDED else None

    def _bound(self, at_s: float) -> float | None:
        """How far the clock may be off: none before there are a few samples of it."""
        spread = self._spread()
        if spread is None or self._synced_s is None:
            return None
        alone_s = max(0.0, at_s - self._synced_s - 1.0)
        return abs(statistics.median(self._offsets)) + 2 * spread + alone_s * self.thresholds.drift_ppb

    def _distance(self, bound: float | None, seen: Observation, *, has_leader: bool) -> list[Reason]:
        limits = self.thresholds
        reasons = []
        if bound is None:
            # Just begun, or another grandmaster: a few samples are awaited before that is held against it.
            begun_s = seen.at_s - (self._began_s or 0.0)
            state = State.LOST if begun_s >= limits.silence_s and not self._had_bound else State.DEGRADED
            return [Reason("no-samples", "too few samples of its offset yet", state)]
        self._had_bound = True
        if bound >= limits.warn_ns:
            state = (
                State.LOST
                if bound >= limits.lost_ns
                else State.DEGRADED
                if bound >= limits.degraded_ns
                else State.SYNCHRONISED
            )
            offset, spread = statistics.median(self._offsets), self._spread() or 0.0
            alone = "" if has_leader else f", and what it may have drifted by at {limits.drift_ppb} ppb alone"
            text = f"within {_text(bound)}: offset {_text(offset)}, spread {_text(spread)}{alone}"
            reasons.append(Reason("offset", text, state))
        reasons += self._path()
        return reasons

    def _path(self) -> list[Reason]:
        """A path that became longer or shorter for good was rerouted, or is loaded on one side."""
        if len(self._delays) < _NEEDED:
            return []
        now = statistics.median(list(self._delays)[-_NEEDED:])
        if self._usual_delay_ns is None:
            if len(self._delays) == _WINDOW:
                self._usual_delay_ns = statistics.median(self._delays)
            return []
        usual = self._usual_delay_ns
        if abs(now - usual) < max(self.thresholds.degraded_ns, usual / 2):
            return []
        text = f"the path takes {_text(now)} where it took {_text(usual)}: another way, or load in one direction"
        return [Reason("path-delay", text, State.SYNCHRONISED)]

    def _system_clock(
        self, seen: Observation, ptp: PtpStatus, bound: float | None
    ) -> tuple[list[Reason], float | None]:
        """What there is to say of the system's clock, and the bound with its distance from the card's."""
        if self.thresholds.trial:
            return [], bound
        reasons = []
        if seen.kernel is not None and not seen.kernel.synchronised:
            text = f"the kernel says that nobody steers the system clock ({_steerer(seen, ptp)})"
            reasons.append(Reason("system-clock", text, State.DEGRADED))
        if seen.card is None:
            return reasons, bound
        if seen.phc2sys is False and (ptp.follows or ptp.clock_class != _PRIMARY_CLASSES[0]):
            # What is measured decides: another program may steer. Where nothing is, nobody knows.
            state = State.DEGRADED if seen.system_offset_ns is None else State.SYNCHRONISED
            text = f"no phc2sys runs: nobody is known to keep the system clock and {seen.card} together"
            reasons.append(Reason("phc2sys", text, state))
        if seen.system_offset_ns is None:
            why = seen.system_error or "it was not compared"
            text = f"how far the system clock is from {seen.card} is not known: {why}"
            reasons.append(Reason("system-unknown", text, State.DEGRADED))
            return reasons, None
        reasons += self._system(seen.system_offset_ns, bound or 0.0, seen.card)
        return reasons, None if bound is None else bound + abs(seen.system_offset_ns) + seen.system_bound_ns

    def _system(self, offset_ns: float, bound_ns: float, card: str) -> list[Reason]:
        """By how much the system's clock is off, beside what the card's may be off by: both count together."""
        limits = self.thresholds
        seconds = _TAI_UTC_S
        if abs(abs(offset_ns) - seconds * 1e9) < _TRAP_NS:
            text = (
                f"the system clock is {offset_ns / 1e9:+.3f} s from {card}: one of them is TAI and the other UTC, "
                f"{seconds} s apart (phc2sys -w, or -O)"
            )
            return [Reason("utc-offset", text, State.LOST)]
        both = abs(offset_ns) + bound_ns
        if abs(offset_ns) < limits.warn_ns and (both < limits.degraded_ns or bound_ns >= limits.lost_ns):
            return []
        state = State.LOST if both >= limits.lost_ns else State.DEGRADED
        state = State.SYNCHRONISED if both < limits.degraded_ns else state
        return [Reason("system-offset", f"the system clock is {_text(offset_ns)} from {card}", state)]

    def _verdict(
        self,
        ptp: PtpStatus,
        bound: float | None,
        reasons: list[Reason],
        changes: list[str],
        system_offset_ns: float | None = None,
    ) -> ClockState:
        state = max((reason.state for reason in reasons), default=State.SYNCHRONISED)
        offset = statistics.median(self._offsets) if self._offsets else None
        return ClockState(
            state,
            bound,
            offset,
            self._spread(),
            self._delays[-1] if self._delays else None,
            ptp.steps_removed,
            ptp.grandmaster,
            ptp.grandmaster_class,
            tuple(port.state for port in ptp.ports),
            tuple(sorted(reasons, key=lambda reason: -reason.state)),
            tuple(changes),
            system_offset_ns,
        )


def _steerer(seen: Observation, ptp: PtpStatus) -> str:
    """Who ought to."""
    if not ptp.follows:
        return "is its own source's daemon running?"
    if ptp.stamps_in_software:
        return "ptp4l would, unless it is told free_running"
    return {None: "is phc2sys running?", True: "though phc2sys runs", False: "no phc2sys runs"}[seen.phc2sys]


def _text(ns: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.0f} ns"
