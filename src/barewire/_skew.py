"""Clocks compared without trust: hosts that see the same packet are clocks that look at one moment.

A packet of multicast reaches host h at T + path(h) + queueing(h), and h writes that down by its own clock. T is common,
the path is fixed, and queueing only ever adds: so the earliest of many packets say how far the clocks are apart, and
how fast they part. What is found is relative to the site: the median of all hosts counts as right, since nobody else
says what is. A host whose clock is wrong is found whatever its own PTP says of it.

Paths that differ are told apart from clocks that differ by nobody but the one who knows the cables: `paths_ns`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

from ._errors import ConfigError

__all__ = ["HostSkew", "PairSkew", "Sightings", "SkewReport", "estimate"]

_Floats = npt.NDArray[np.float64]

_MAX_PACKETS = 1 << 15
"""More are thinned out evenly: beyond that the windows' own scatter decides."""
_MIN_PACKETS = 64
_WINDOWS = 16
_ROUNDS = 8
_MANY_HOSTS = 8
"""From so many hosts on some are always early: a low quantile of them is nearer to the packet's own time."""
_EARLY = 0.1
_EARLIEST = 0.005
"""So few packets queued for nothing."""
_OUTLIER_SIGMAS = 6.0
_T_95 = 2.145
"""Student's t for 95 % and 14 degrees of freedom: windows less the line's two."""
_HOUR_NS = np.uint64(3_600 * 10**9)


@dataclass(frozen=True)
class Sightings:
    """What one host saw: messages, and when their packets came. Arrays of one length."""

    sequence: npt.NDArray[np.uint64]
    ts_recv: npt.NDArray[np.uint64]
    """Nanoseconds since 1970 by the host's clock; 0 where not known."""
    session: npt.NDArray[np.uint64] | None = None
    """What tells a message from another one of the same number, of another venue, channel or session: the same at every

    host. Records carry no session's name; the venue's own time of the message, `ts_event`, serves. None for unknown:
    then all are of one session."""


@dataclass(frozen=True)
class HostSkew:
    """One host's clock against the median of all."""

    host: str
    offset_ns: float
    """In the middle of what was seen: positive where its clock is ahead."""
    drift_ppb: float
    """How fast it gains, nanoseconds a second."""
    confidence_ns: float
    """The offset is this near to what is said, either way, with 95 %: scatter, and what its earliest packets may have

    queued for. What cables do is not in it."""
    worst_ns: float
    """The largest distance from the median, from the first packet to the last."""
    scatter_ns: float
    """How far a sixteenth of the recording is from the line of offset and drift, at most: a clock that was set."""
    packets: int
    is_wrong: bool | None
    """Whether it is the one to look at; None where there are too few hosts to say."""


@dataclass(frozen=True)
class PairSkew:
    """Two hosts' clocks against each other."""

    first: str
    second: str
    offset_ns: float
    """The first's less the second's, in the middle of what was seen."""
    drift_ppb: float
    confidence_ns: float
    packets: int


@dataclass(frozen=True)
class SkewReport:
    """What the packets tell of a site's clocks."""

    hosts: tuple[HostSkew, ...]
    pairs: tuple[PairSkew, ...]
    seconds: float
    packets: int
    """Packets that two hosts or more saw."""

    @property
    def wrong(self) -> tuple[HostSkew, ...]:
        """Hosts that are off, the worst first."""
        return tuple(sorted((one for one in self.hosts if one.is_wrong), key=lambda one: -abs(one.worst_ns)))


def estimate(
    sightings: Mapping[str, Sightings], *, paths_ns: Mapping[str, float] | None = None, tolerance_ns: float = 1_000.0
) -> SkewReport:
    """Offset and drift of every host and pair from what they saw.

    `paths_ns` is what the way to a host takes longer than to others. A host is wrong when it is further than
    `tolerance_ns` from the median, and stands out among the others: that takes three hosts.

    Raises ConfigError for fewer than two hosts, a path of an unknown host, hosts that have hardly a packet in common.
    """
    names = list(sightings)
    if len(names) < 2:
        raise ConfigError(f"expected recordings of two hosts or more, found {len(names)}")
    unknown = sorted(set(paths_ns or ()) - set(names))
    if unknown:
        raise ConfigError(f"path of {unknown[0]!r}: expected one of: {', '.join(names)}", value=unknown[0])
    seen = list(sightings.values())
    times, rough = _table(seen)
    if min(_common(times)) < _MIN_PACKETS and all(one.session is not None for one in seen):
        # A clock that is off by days had the venue's time of day be that of another day.
        hourly = [replace(one, session=one.session % _HOUR_NS) for one in seen if one.session is not None]
        times, rough = _table(hourly)
    for row, name in enumerate(names):
        times[row] -= (paths_ns or {}).get(name, 0.0)
    for name, common in zip(names, _common(times), strict=True):
        if common < _MIN_PACKETS:
            raise ConfigError(
                f"{name}: expected {_MIN_PACKETS} packets or more that another host saw as well, found {common}; are "
                "the recordings of one session and one time?",
                value=name,
            )
    return _report(names, times, rough, tolerance_ns)


def _common(times: _Floats) -> list[int]:
    """How many packets of each host another one saw as well."""
    found: list[int] = np.isfinite(times).sum(axis=1).tolist()
    return found


def _table(all_sightings: list[Sightings]) -> tuple[_Floats, _Floats]:
    """Receive times by host and packet, ns, in order; not a number where a host did not see it. And what was taken out

    of each host's times before: roughly its offset. Without that a packet which one of two hosts missed would be
    elsewhere in time, by as much as the clocks are apart."""
    firsts = []
    for one, known in zip(all_sightings, _messages(all_sightings), strict=True):
        there = one.ts_recv > 0
        # A packet has several messages, and a message several records: the first stands for it.
        numbers, places = np.unique(known[there], return_index=True)
        firsts.append((numbers, one.ts_recv[there][places].astype(np.int64)))
    numbers, counts = np.unique(np.concatenate([found for found, _ in firsts]), return_counts=True)
    numbers = numbers[counts >= 2]
    # Near most of them: one clock may believe that it is 1970, and half a century of nanoseconds is no exact float.
    base = int(np.median([times.min() for _, times in firsts if times.size] or [0]))
    # Messages of one packet came at one time: one of them is enough.
    times = np.full((len(firsts), numbers.size), np.nan)
    for row, (own, received) in enumerate(firsts):
        at = np.searchsorted(numbers, own)
        there = at < numbers.size
        there[there] = numbers[at[there]] == own[there]
        times[row, at[there]] = (received[there] - base).astype(np.float64)
    if numbers.size:
        same = np.zeros(numbers.size, bool)
        before, after = times[:, :-1], times[:, 1:]
        same[1:] = ((before == after) | (np.isnan(before) & np.isnan(after))).all(axis=0)
        times = times[:, ~same]
    rough = np.zeros(len(firsts))
    first = times[np.isfinite(times).sum(axis=1).argmax()]
    for row, own in enumerate(times):
        common = np.isfinite(own) & np.isfinite(first)
        rough[row] = np.median(own[common] - first[common]) if common.any() else 0.0
    times -= rough[:, np.newaxis]
    times = times[:, np.argsort(_middle(times), kind="stable")]
    if times.shape[1] > _MAX_PACKETS:
        times = times[:, np.linspace(0, times.shape[1] - 1, _MAX_PACKETS).astype(np.intp)]
    return times, rough


def _messages(all_sightings: list[Sightings]) -> list[npt.NDArray[np.uint64]]:
    """A number for each message, the same at every host: that of its place among all sessions and sequence numbers."""
    if any(one.session is None for one in all_sightings):
        return [one.sequence for one in all_sightings]
    sequences = np.concatenate([one.sequence for one in all_sightings])
    sessions = np.concatenate([one.session for one in all_sightings if one.session is not None])
    order = np.lexsort((sequences, sessions))
    differs = np.ones(order.size, np.uint64)
    differs[1:] = (np.diff(sequences[order]) != 0) | (np.diff(sessions[order]) != 0)
    numbers = np.empty(order.size, np.uint64)
    numbers[order] = np.cumsum(differs, dtype=np.uint64)
    return np.split(numbers, np.cumsum([one.sequence.size for one in all_sightings])[:-1])


def _rank(values: _Floats, share: float) -> _Floats:
    """The value at `share` of the way along the first axis, of those that are numbers."""
    ordered = np.sort(values, axis=0)
    count = np.isfinite(values).sum(axis=0)
    at = np.maximum(np.round(share * (count - 1)), 0).astype(np.intp)
    found: _Floats = np.take_along_axis(ordered, at[np.newaxis], axis=0)[0]
    return found


def _middle(values: _Floats) -> _Floats:
    """The median along the first axis: the mean of the two in the middle."""
    ordered = np.sort(values, axis=0)
    count = np.isfinite(values).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    high = np.minimum(high, np.maximum(count - 1, 0))
    pick = [np.take_along_axis(ordered, at[np.newaxis], axis=0)[0] for at in (low, high)]
    found: _Floats = (pick[0] + pick[1]) / 2
    return found


def _report(names: list[str], times: _Floats, rough: _Floats, tolerance_ns: float) -> SkewReport:
    hosts, packets = times.shape
    share = _EARLY if hosts >= _MANY_HOSTS else 0.5
    at = _middle(times)
    middle = (at[0] + at[-1]) / 2
    axis = (at - middle) / 1e9
    span = float(at[-1] - at[0]) / 1e9
    edges = np.linspace(0, packets, _WINDOWS + 1).astype(int)
    centres = np.array([axis[a:b].mean() for a, b in pairwise(edges)])
    offsets, drifts = np.zeros(hosts), np.zeros(hosts)
    parts = np.zeros((hosts, _WINDOWS))
    for _ in range(_ROUNDS):
        line = offsets[:, np.newaxis] + drifts[:, np.newaxis] * axis
        consensus = _rank(times - line, share) if hosts >= _MANY_HOSTS else _middle(times - line)
        left = times - consensus
        for window, (a, b) in enumerate(pairwise(edges)):
            part = left[:, a:b].T
            parts[:, window] = _rank(part, share) if hosts >= _MANY_HOSTS else _middle(part)
        new_offsets, new_drifts = _lines(centres, parts)
        new_offsets -= np.nanmedian(new_offsets)
        new_drifts -= np.nanmedian(new_drifts)
        moved = np.nanmax(np.abs(new_offsets - offsets) + np.abs(new_drifts - drifts) * span / 2)
        offsets, drifts = new_offsets, new_drifts
        if moved < 0.1:
            break
    # The windows as they are against the final consensus, which has a median of its own.
    parts -= np.nanmedian(parts - (offsets[:, np.newaxis] + drifts[:, np.newaxis] * centres))
    apart = parts - (offsets[:, np.newaxis] + drifts[:, np.newaxis] * centres)
    count = np.isfinite(parts).sum(axis=1)
    spread = np.sqrt(np.nansum(apart**2, axis=1) / np.maximum(count - 2, 1))
    left = times - consensus - offsets[:, np.newaxis] - drifts[:, np.newaxis] * axis
    usual = _rank(left.T, share) if hosts >= _MANY_HOSTS else _middle(left.T)
    queued = usual - _rank(left.T, _EARLIEST)
    confidence = _T_95 * spread / np.sqrt(np.maximum(count, 1)) + queued + np.median(queued)
    offsets = offsets + rough
    offsets -= np.median(offsets)
    ends = np.array([axis[0], axis[-1]])
    worst = _worst(offsets[:, np.newaxis] + drifts[:, np.newaxis] * ends)
    wrong = _wrong(worst, np.nanmax(np.abs(apart), axis=1), tolerance_ns)
    seen = np.isfinite(times)
    found = tuple(
        HostSkew(
            name,
            float(offsets[row]),
            float(drifts[row]),
            float(confidence[row]),
            float(worst[row]),
            float(np.nanmax(np.abs(apart[row]))),
            int(seen[row].sum()),
            None if hosts < 3 else bool(wrong[row]),
        )
        for row, name in enumerate(names)
    )
    pairs = tuple(
        PairSkew(
            names[a],
            names[b],
            float(offsets[a] - offsets[b]),
            float(drifts[a] - drifts[b]),
            float(np.hypot(confidence[a], confidence[b])),
            int((seen[a] & seen[b]).sum()),
        )
        for a, b in combinations(range(hosts), 2)
    )
    return SkewReport(found, pairs, span, packets)


def _lines(x: _Floats, y: _Floats) -> tuple[_Floats, _Floats]:
    """Offset at 0 and slope of a line through each row's points; points far off it count less (Huber)."""
    weights = np.isfinite(y).astype(np.float64)
    values = np.where(np.isfinite(y), y, 0.0)
    offsets, slopes = np.zeros(len(y)), np.zeros(len(y))
    for _ in range(4):
        total = weights.sum(axis=1)
        mean_x, mean_y = (weights * x).sum(axis=1) / total, (weights * values).sum(axis=1) / total
        away = x - mean_x[:, np.newaxis]
        square = (weights * away**2).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.where(square > 0, (weights * away * (values - mean_y[:, np.newaxis])).sum(axis=1) / square, 0.0)
        offsets = mean_y - slopes * mean_x
        apart = np.abs(values - offsets[:, np.newaxis] - slopes[:, np.newaxis] * x)
        usual = np.nanmedian(np.where(np.isfinite(y), apart, np.nan), axis=1)[:, np.newaxis] * 1.4826 * 1.5
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.isfinite(y) * np.where(apart > usual, np.where(apart > 0, usual / apart, 1.0), 1.0)
        weights = np.maximum(weights, np.isfinite(y) * 1e-9)
    return offsets, slopes


def _worst(at_ends: _Floats) -> _Floats:
    """Of each row, the value that is furthest from 0."""
    picked: _Floats = np.take_along_axis(at_ends, np.abs(at_ends).argmax(axis=1)[:, np.newaxis], axis=1)[:, 0]
    return picked


def _wrong(worst: _Floats, scatter: _Floats, tolerance_ns: float) -> npt.NDArray[np.bool_]:
    """Who is further off than is tolerated, and than the others among themselves."""
    found = np.zeros(len(worst), bool)
    for values in (np.abs(worst), scatter):
        for row in range(len(values)):
            others = np.delete(values, row)
            usual = np.median(others) + _OUTLIER_SIGMAS * 1.4826 * np.median(np.abs(others - np.median(others)))
            found[row] |= values[row] > max(tolerance_ns, usual)
    return found
