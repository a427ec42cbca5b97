"""What `bench latency`, `rate`, `burst` and `sustain` have in common, and the runs of `latency`.

A run is `_core.LatencyBench.run`: one receive path for so long. Here runs are repeated, turn and turn about, and put
together; figures of one run are never mixed with another's.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._errors import BarewireError, ConfigError
from ._terminal import note, warn

if TYPE_CHECKING:
    from .. import _core

__all__ = ["AGAIN", "PATHS", "STOLEN_LIMIT", "Scene", "facts", "latencies", "open_scene"]

PATHS = ("legacy", "legacy_tcp", "kernel", "io_uring", "packet_mmap", "af_xdp")
SENDERS = ("auto", "program", "udp")

STOLEN_LIMIT = 5.0
"""A run from which the host took more of a core than this, in percent, says little."""

_MESSAGES, _INSTRUMENTS, _LIVE_ORDERS = 400_000, 500, 50_000

AGAIN = 4
"""Attempts, where a failure may have been the host's doing."""


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
    sender: str
    """What sends UDP: a program in the kernel, or a socket."""
    no_program: str | None
    """Why a program cannot."""
    buffer_bytes: int
    """Memory for packets that wait, the same for every path."""

    def run(
        self, path: str, rate: float, seconds: float, messages_per_packet: int, *, every_message: bool = False
    ) -> dict[str, Any]:
        """One run; made again where the host had the sender's core for all of it, and nothing was measured.

        Latencies are those of each packet's first message, or of every message."""
        for _ in range(AGAIN):
            run = self.bench.run(
                path,
                sender_name=self.sender,
                buffer_bytes=self.buffer_bytes,
                rate=rate,
                messages_per_packet=messages_per_packet,
                every_message=every_message,
                duration_ns=round(seconds * 1e9),
                cores=self.cores,
            )
            if run["samples"]:
                return run
        raise BarewireError(
            f"{path}: nothing was measured in {AGAIN} runs; the machine is too busy, or --duration too short"
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


def open_scene(paths: str, pin: str | None, sender: str = "auto", buffer_mib: int = 32) -> Scene:
    """Makes the network, and says which paths cannot be had in it. Raises ConfigError where none can."""
    from .. import _core

    chosen, cores = _chosen(paths), _cores(pin)
    if sender not in SENDERS:
        expected = f"one of {', '.join(SENDERS)}"
        raise ConfigError(f"--sender {sender!r}: expected {expected}", key="--sender", value=sender, expected=expected)
    bench = _core.LatencyBench(messages=_MESSAGES, instruments=_INSTRUMENTS, live_orders=_LIVE_ORDERS)
    loopback = bench.loopback_because()
    if loopback is not None:
        warn(f"over loopback instead of a veth pair: {loopback}")
    no_program = bench.no_program() if sender != "udp" else None
    if no_program is not None:
        if sender == "program":
            raise ConfigError(f"--sender program: {no_program}; choose udp")
        warn(f"sent by a UDP socket instead of a program in the kernel, which is several times as fast: {no_program}")
    buffer_bytes = buffer_mib << 20
    left_out = {}
    for path in chosen:
        why = bench.refusal(path, buffer_bytes)
        if why is None and loopback is not None and path in ("packet_mmap", "af_xdp"):
            why = "it is measured over a veth pair only"
        if why is not None:
            left_out[path] = why
            warn(f"{path} is left out: {why}")
    usable = tuple(path for path in chosen if path not in left_out)
    if not usable:
        raise ConfigError(f"--paths {paths!r}: none of them can be opened here")
    used = "udp" if sender == "udp" or no_program is not None else "program"
    return Scene(bench, usable, left_out, cores, loopback, used, no_program, buffer_bytes)


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
        "sender": scene.sender,
        "no_program_because": scene.no_program,
        "buffer_bytes": scene.buffer_bytes,
        "stolen_limit_pct": STOLEN_LIMIT,
    }


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


# --- latency ---


def latencies(scene: Scene, rate: float, seconds: float, runs: int, per_packet: int) -> list[dict[str, Any]]:
    """A row a path: its best run by p90, the medians of all its runs, and the runs themselves."""
    found: dict[str, list[dict[str, Any]]] = {path: [] for path in scene.paths}
    for turn in range(runs):
        for path in scene.paths:
            note(f"run {turn + 1} of {runs}: {path}")
            found[path].append(scene.run(path, rate, seconds, per_packet, every_message=True))
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
