"""What `bench latency`, `rate` and `burst` have in common: paths, cores, the machine, which runs are made.

A run is `_core.LatencyBench.run`: one receive path for so long. Here runs are repeated, turn and turn about, and put
together; figures of one run are never mixed with another's.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._errors import BarewireError, ConfigError
from ._terminal import note, warn

if TYPE_CHECKING:
    from .. import _core

__all__ = ["PATHS", "STOLEN_LIMIT", "Scene", "facts", "latencies", "longest_burst", "loss_free_rate", "open_scene"]

PATHS = ("legacy", "kernel", "io_uring", "packet_mmap", "af_xdp")

STOLEN_LIMIT = 5.0
"""A run from which the host took more of a core than this, in percent, says little."""

_MESSAGES, _INSTRUMENTS, _LIVE_ORDERS = 400_000, 500, 50_000
_KEPT_UP = 0.97  # of the rate asked for: below, it was the sender that could not
_SLACK_S = 2e-4  # by which a sender may be late beyond that: bursts are short
_AGAIN = 4  # attempts, where a failure may have been the host's doing
_STEPS = 6  # of a bisection: to 1.6% of the last doubling


@dataclass
class Scene:
    """Where the runs are made."""

    bench: _core.LatencyBench
    paths: tuple[str, ...]
    left_out: dict[str, str]
    """Paths that cannot be opened here, and why."""
    cores: tuple[int | None, int | None, int | None]
    loopback: str | None
    """Why it is not two namespaces."""
    messages_per_packet: int

    def run(self, path: str, rate: float, seconds: float) -> dict[str, Any]:
        """One run; made again where the host had the sender's core for all of it, and nothing was measured."""
        for _ in range(_AGAIN):
            run = self.bench.run(
                path,
                rate=rate,
                messages_per_packet=self.messages_per_packet,
                duration_ns=round(seconds * 1e9),
                cores=self.cores,
            )
            if run["samples"]:
                return run
        raise BarewireError(
            f"{path}: nothing was measured in {_AGAIN} runs; the machine is too busy, or --duration too short"
        )


def _chosen(text: str) -> tuple[str, ...]:
    paths = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    expected = f"names out of {', '.join(PATHS)}"
    if not paths or any(name not in PATHS for name in paths):
        raise ConfigError(f"--paths {text!r}: expected {expected}", key="--paths", value=text, expected=expected)
    return paths


def _cores(pin: str | None) -> tuple[int | None, int | None, int | None]:
    """The sender's core, the receiver's, and that of a strategy with a thread of its own: a third, if there is one."""
    allowed = sorted(os.sched_getaffinity(0))
    if pin is None:
        if len(allowed) < 2:
            return None, None, None
        sender, receiver = allowed[0], allowed[1]
    else:
        expected = f"two cores, SENDER,RECEIVER, out of {', '.join(map(str, allowed))}"
        try:
            sender, receiver = map(int, pin.split(","))
        except ValueError:
            sender = receiver = -1
        if sender not in allowed or receiver not in allowed:
            raise ConfigError(f"--pin {pin!r}: expected {expected}", key="--pin", value=pin, expected=expected)
    others = [core for core in allowed if core not in (sender, receiver)]
    return sender, receiver, others[0] if others else receiver


def open_scene(paths: str, pin: str | None, messages_per_packet: int) -> Scene:
    """Makes the network, and says which paths cannot be had in it. Raises ConfigError where none can."""
    from .. import _core

    chosen, cores = _chosen(paths), _cores(pin)
    bench = _core.LatencyBench(messages=_MESSAGES, instruments=_INSTRUMENTS, live_orders=_LIVE_ORDERS)
    loopback = bench.loopback_because()
    if loopback is not None:
        warn(f"over loopback instead of a veth pair: {loopback}")
    left_out = {}
    for path in chosen:
        why = bench.refusal(path)
        if why is None and loopback is not None and path in ("packet_mmap", "af_xdp"):
            why = "it is measured over a veth pair only"
        if why is not None:
            left_out[path] = why
            warn(f"{path} is left out: {why}")
    usable = tuple(path for path in chosen if path not in left_out)
    if not usable:
        raise ConfigError(f"--paths {paths!r}: none of them can be opened here")
    return Scene(bench, usable, left_out, cores, loopback, messages_per_packet)


def facts(scene: Scene) -> dict[str, Any]:
    """The machine, and how it was measured."""
    cpuinfo = _text("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    sender, receiver, strategy = scene.cores
    return {
        "machine": {
            "cpu": model[1] if model else platform.machine(),
            "cores": os.cpu_count(),
            "virtual": "hypervisor" in cpuinfo,
            "kernel": platform.release(),
        },
        "network": "veth" if scene.loopback is None else "loopback",
        "loopback_because": scene.loopback,
        "left_out": scene.left_out,
        "clock": "CLOCK_MONOTONIC on both sides; clock source "
        + _text("/sys/devices/system/clocksource/clocksource0/current_clocksource").strip(),
        "pin": {"sender": sender, "receiver": receiver, "legacy_strategy": strategy},
        "messages_per_packet": scene.messages_per_packet,
        "stolen_limit_pct": STOLEN_LIMIT,
    }


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


# --- latency ---


def latencies(scene: Scene, rate: float, seconds: float, runs: int) -> list[dict[str, Any]]:
    """A row a path: its best run by p90, the medians of all its runs, and the runs themselves."""
    found: dict[str, list[dict[str, Any]]] = {path: [] for path in scene.paths}
    for turn in range(runs):
        for path in scene.paths:
            note(f"run {turn + 1} of {runs}: {path}")
            found[path].append(scene.run(path, rate, seconds))
    rows = [_summed_up(path, found[path]) for path in scene.paths]
    legacy = next((row for row in rows if row["path"] == "legacy"), None)
    if legacy is not None:
        compared = ("mean_us", "stddev_us", "p50_us", "trimmed_mean_us", "trimmed_stddev_us")
        for row in rows:
            row["of_legacy"] = {name: row[name] / legacy[name] if legacy[name] else None for name in compared}
    return rows


def _summed_up(path: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    conclusive = [run for run in runs if run["stolen_pct"] <= STOLEN_LIMIT]
    best = min(conclusive or runs, key=lambda run: run["p90_us"])
    numbers = [name for name, value in best.items() if isinstance(value, (int, float))]
    return {
        "path": path,
        **best,
        "inconclusive": not conclusive,
        "median": {name: statistics.median(run[name] for run in runs) for name in numbers},
        "sent_all_runs": sum(run["sent"] for run in runs),
        "lost_all_runs": sum(run["lost"] for run in runs),
        "conclusive_runs": len(conclusive),
        "runs": [{name: run[name] for name in numbers} for run in runs],
    }


# --- rate and burst ---


def _tried(scene: Scene, path: str, rate: float, seconds: float) -> tuple[str | None, dict[str, Any]]:
    """Who failed: the receiver lost, the sender could not keep up, or the host had a core; None where nobody did.

    What failed while the host, or another process, had a core is tried again.
    """
    for _ in range(_AGAIN):
        run = scene.run(path, rate, seconds)
        took = run["sent"] / max(run["rate_msgs_per_s"], 1.0)
        failed = None
        if run["lost"] > 0:
            failed = "receiver"
        elif run["sent"] < _KEPT_UP * rate * seconds or took > seconds / _KEPT_UP + _SLACK_S:
            failed = "sender"
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


def loss_free_rate(scene: Scene, path: str, start: float, most: float, seconds: float) -> dict[str, Any]:
    """The highest rate at which a path loses nothing, or at which the sender still keeps up."""
    best: dict[str, Any] | None = None
    limit = "most asked for"

    def attempt(rate: float) -> bool:
        nonlocal best, limit
        note(f"{path}: {rate:,.0f} messages a second")
        failed, run = _tried(scene, path, rate, seconds)
        if run["lost"] == 0 and (best is None or run["rate_msgs_per_s"] > best["rate_msgs_per_s"]):
            best = run
        limit = failed or limit
        return failed is None

    _highest(min(start, most), most, attempt)
    row: dict[str, Any] = {"path": path, "limited_by": limit, "inconclusive": limit == "host"}
    names = ("sent", "lost", "rate_msgs_per_s", "messages_per_packet", "p50_us", "p99_us", "max_us", "stolen_pct")
    return row | {name: best[name] if best else 0 for name in names}


def longest_burst(scene: Scene, path: str, rate: float, longest: float) -> dict[str, Any]:
    """The longest burst at `rate` of which a path loses nothing, s."""
    best: dict[str, Any] | None = None
    limit = "longest asked for"

    def attempt(seconds: float) -> bool:
        nonlocal best, limit
        note(f"{path}: {seconds * 1e3:.3g} ms at {rate:,.0f} messages a second")
        failed, run = _tried(scene, path, rate, seconds)
        if failed is None and (best is None or run["sent"] > best["sent"]):
            best = run
        limit = failed or limit
        return failed is None

    found = _highest(min(0.001, longest), longest, attempt)
    row: dict[str, Any] = {"path": path, "limited_by": limit, "inconclusive": limit == "host"}
    row["burst_ms"] = (found or 0.0) * 1e3
    row |= {"survives_10_ms": (found or 0.0) >= 0.01, "asked_msgs_per_s": rate}
    names = ("sent", "lost", "rate_msgs_per_s", "messages_per_packet", "max_us", "stolen_pct")
    return row | {name: best[name] if best else 0 for name in names}
