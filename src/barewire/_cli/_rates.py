"""The runs of `bench rate`, `burst`, `sustain` and `drain`: how much a receive path takes before it loses something."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from ._latency import AGAIN, STOLEN_LIMIT, Scene
from ._terminal import note

__all__ = ["compare", "drained", "longest_burst", "loss_free_rate", "sustained"]

_KEPT_UP = 0.97  # of the rate asked for: below, it was the sender that could not
_SLACK_S = 2e-4  # by which a sender may be late beyond that: bursts are short
_STEPS = 5  # of a bisection: to 3% of the last doubling
_NAMES: tuple[str, ...] = (
    "sender",
    "sent",
    "lost",
    "packets",
    "rate_msgs_per_s",
    "messages_per_packet",
    "packets_together",
)
_NAMES += ("p50_us", "p99_us", "max_us", "stolen_pct")


def _failed(run: dict[str, Any], rate: float, seconds: float) -> str | None:
    """Who could not: the receiver lost something, or would not take more of a stream; or the sender was too slow."""
    took = run["sent"] / max(run["rate_msgs_per_s"], 1.0)
    if run["lost"] > 0:
        return "receiver"
    if run["sent"] < _KEPT_UP * rate * seconds or took > seconds / _KEPT_UP + _SLACK_S:
        return "receiver" if run["sender"] == "tcp" and run["send_refusals"] else "sender"
    return None


def _tried(scene: Scene, path: str, rate: float, seconds: float, per_packet: int) -> tuple[str | None, dict[str, Any]]:
    """Who failed, None where nobody did, and the run. What failed while the host had a core is tried again."""
    for _ in range(AGAIN):
        run = scene.run(path, rate, seconds, per_packet)
        failed = _failed(run, rate, seconds)
        if failed is None or run["stolen_pct"] == 0:
            break
    return "host" if failed and run["stolen_pct"] > STOLEN_LIMIT else failed, run


def _highest(low: float, high: float, attempt: Callable[[float], bool]) -> float | None:
    """The highest value that succeeds, to some percent: doubled until one fails, then bisected. None: `low` fails."""
    if not attempt(low):
        return None
    good = low
    while True:
        bad = min(good * 2, high)
        if not attempt(bad):
            break
        if bad >= high:
            return bad
        good = bad
    for _ in range(_STEPS):
        middle = (good + bad) / 2
        if attempt(middle):
            good = middle
        else:
            bad = middle
    return good


def _row(path: str, per_packet: int, limit: str, best: dict[str, Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"path": path, "most_messages_per_packet": per_packet}
    row |= {"limited_by": limit, "inconclusive": limit == "host"}
    nothing: dict[str, Any] = dict.fromkeys(_NAMES, 0) | {"sender": None}
    return row | {name: (best or nothing)[name] for name in _NAMES}


def loss_free_rate(
    scene: Scene, path: str, start: float, most: float, seconds: float, per_packet: int
) -> dict[str, Any]:
    """The highest rate at which a path loses nothing, or at which the sender still keeps up."""
    best: dict[str, Any] | None = None
    limit = "most asked for"

    def attempt(rate: float) -> bool:
        nonlocal best, limit
        note(f"{path}, {per_packet} a packet: {rate:,.0f} messages a second")
        failed, run = _tried(scene, path, rate, seconds, per_packet)
        if run["lost"] == 0 and (best is None or run["rate_msgs_per_s"] > best["rate_msgs_per_s"]):
            best = run
        limit = failed or limit
        return failed is None

    _highest(min(start, most), most, attempt)
    return _row(path, per_packet, limit, best)


def longest_burst(scene: Scene, path: str, rate: float, longest: float, per_packet: int) -> dict[str, Any]:
    """The longest burst at `rate` of which a path loses nothing, s; and what it loses of the longest asked for."""
    best: dict[str, Any] | None = None
    limit = "longest asked for"
    lost: dict[float, dict[str, Any]] = {}

    def attempt(seconds: float) -> bool:
        nonlocal best, limit
        note(f"{path}: {seconds * 1e3:.3g} ms at {rate:,.0f} messages a second")
        failed, run = _tried(scene, path, rate, seconds, per_packet)
        lost[seconds] = run
        if failed is None and (best is None or run["sent"] > best["sent"]):
            best = run
        limit = failed or limit
        return failed is None

    # The whole first: what survives that is not searched for.
    found: float | None = longest if attempt(longest) else _highest(min(0.001, longest), longest, attempt)
    row = _row(path, per_packet, limit, best)
    whole = lost[longest]
    row |= {"burst_ms": (found or 0.0) * 1e3, "longest_ms": longest * 1e3, "asked_msgs_per_s": rate}
    row |= {"survives": (found or 0.0) >= longest, "sent_of_longest": whole["sent"], "lost_of_longest": whole["lost"]}
    row["sender"] = whole["sender"]
    return row | {"rate_of_longest_msgs_per_s": whole["rate_msgs_per_s"]}


def sustained(scene: Scene, path: str, rate: float, seconds: float, per_packet: int) -> dict[str, Any]:
    """One run at one rate: what was sent, what of it was lost, and who could not keep up."""
    note(f"{path}: {rate:,.0f} messages a second for {seconds:g} s")
    run = scene.run(path, rate, seconds, per_packet)
    failed = _failed(run, rate, seconds)
    row = _row(path, per_packet, failed or "nobody", run)
    names = ("received", "samples", "late_packets", "max_late_us", "sender_stolen_pct", "receiver_stolen_pct", "setup")
    row |= {name: run[name] for name in names}
    return row | {"asked_msgs_per_s": rate, "seconds": run["sent"] / max(run["rate_msgs_per_s"], 1.0)}


def drained(scene: Scene, paths: Iterable[str], packets: int, per_packet: int, rounds: int) -> list[dict[str, Any]]:
    """How many packets a second each path takes out of a full queue: the best of so many rounds, and the median."""
    found: dict[str, list[tuple[int, int, int]]] = {path: [] for path in paths}
    for turn in range(rounds):
        for path, runs in found.items():
            note(f"round {turn + 1} of {rounds}: {path}")
            run = scene.bench.drain(
                path,
                sender_name=scene.sender,
                buffer_bytes=scene.buffer_bytes,
                packets=packets,
                messages_per_packet=per_packet,
                cores=scene.cores,
            )
            runs.append(run)
    rows = []
    for path, runs in found.items():
        rates = [taken * 1e9 / max(ns, 1) for _, taken, ns in runs]
        row: dict[str, Any] = {"path": path, "most_messages_per_packet": per_packet}
        row |= {"packets_per_s": max(rates), "median_packets_per_s": statistics.median(rates)}
        row |= {"sent": sum(sent for sent, _, _ in runs), "lost": sum(sent - taken for sent, taken, _ in runs)}
        rows.append(row)
    compare(rows, "packets_per_s")
    return rows


def compare(rows: Iterable[dict[str, Any]], name: str) -> None:
    """Puts beside each row's figure how many times legacy's it is, with as many messages a packet."""
    rows = list(rows)
    legacy = {row["most_messages_per_packet"]: row[name] for row in rows if row["path"] == "legacy"}
    for row in rows:
        reference = legacy.get(row["most_messages_per_packet"])
        row["times_legacy"] = row[name] / reference if reference else None
