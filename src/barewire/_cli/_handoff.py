"""`barewire bench handoff`: what it takes to hand an event from the feed's thread to a strategy, wherever that runs.

Every way is measured in turn, round by round; figures of one round are never mixed with another's. Between cores and
processes with a way back, a time is half a round trip, so that no two readings of a clock are compared; where Python or
another library is at the end, it is from before the event is published until the strategy's first instruction, by
CLOCK_MONOTONIC; a callback in the loop is timed until it has returned, since the publisher goes on only then.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._errors import BarewireError, ConfigError
from .._events import MboEvent
from .._native import native
from .._ring import Ring
from .._strategy import Strategy
from ._terminal import count_text, note, table_text, warn

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float64]

__all__ = ["as_text", "measure"]

STOLEN_LIMIT = 5.0
"""A run from which the host took more of a core than this, in percent, says little."""

_TRIPS = 10_000
_EVENTS = 200_000
_FILL = 1 << 19  # events that are read in a row
_ITEMS = 20_000  # the same through a queue
_PACE_NS = 25_000  # between two events that are handed over one by one
_QUEUE_PACE_NS = 100_000  # the same for queues, which take longer
_SINGLE_S = 0.25  # for how long
_INTERRUPTED_NS = 1_000_000  # later than the median by more: the core was somebody else's
_BARE, _RING, _NOBODY = "bare cache line", "another thread", "nobody called"
_STATE = [("count", "u8")]


@dataclass
class Run:
    """One way, one round: single events one way, and how long one takes where many follow each other, ns."""

    samples: Samples
    each_ns: float | None = None

    @property
    def stolen_pct(self) -> float:
        """The share of the time by which interrupted samples exceed the median."""
        excess = self.samples - np.median(self.samples)
        return float(100 * excess[excess >= _INTERRUPTED_NS].sum() / max(float(self.samples.sum()), 1.0))

    def figures(self) -> dict[str, Any]:
        """As the other benchmarks name them, in ns."""
        ordered = np.sort(self.samples)
        kept = ordered[: max(1, len(ordered) * 99 // 100)]
        names = {"p50_ns": 50, "p90_ns": 90, "p99_ns": 99, "p999_ns": 99.9}
        found: dict[str, Any] = {name: float(np.percentile(ordered, q)) for name, q in names.items()}
        found |= {"mean_ns": float(ordered.mean()), "stddev_ns": float(ordered.std()), "max_ns": float(ordered[-1])}
        found |= {"trimmed_mean_ns": float(kept.mean()), "trimmed_stddev_ns": float(kept.std())}
        found |= {"samples": len(ordered), "stolen_pct": self.stolen_pct}
        return found | ({} if self.each_ns is None else {"each_ns": self.each_ns})


@dataclass
class Way:
    """A row of the table."""

    name: str
    how: str
    run: Callable[[], Run]
    runs: list[Run] = field(default_factory=list)


def measure(duration: float, peers: str | None) -> dict[str, Any]:
    """Every way, round by round, for about `duration` seconds; one round at least, which takes some four."""
    left_out: dict[str, str] = {}
    until = time.monotonic() + duration
    ways = _ways(peers, left_out)
    for name, why in left_out.items():
        warn(f"{name} is left out: {why}")
    rounds = 0
    while rounds < 1 or time.monotonic() < until:
        rounds += 1
        for way in ways:
            note(f"round {rounds}: {way.name}")
            way.runs.append(way.run())
    rows = [_row(way) for way in ways]
    by_name = {row["name"]: row for row in rows}
    bare, alone = by_name[_BARE]["p50_ns"], by_name[_NOBODY]["each_ns"]
    for row in rows:
        row["of_bare"] = row["p50_ns"] / bare
        if row["name"].startswith("in the loop"):
            row["overhead_ns"] = row["each_ns"] - alone
    return {
        "results": rows,
        "rounds": rounds,
        "left_out": left_out,
        "machine": _machine(),
        "cores": sorted(os.sched_getaffinity(0))[:2],
        "pace_ns": _PACE_NS,
        "clock": "CLOCK_MONOTONIC",
        "stolen_limit_pct": STOLEN_LIMIT,
    }


def _row(way: Way) -> dict[str, Any]:
    """The best run by p90 of those that nobody disturbed, and the medians of all."""
    conclusive = [run for run in way.runs if run.stolen_pct <= STOLEN_LIMIT]
    all_figures = [run.figures() for run in way.runs]
    best = min((run.figures() for run in conclusive or way.runs), key=lambda figures: figures["p90_ns"])
    if way.runs[0].each_ns is not None:
        # What follows in a row is a measurement of its own: its best need not be in the same round.
        best["each_ns"] = min(run.each_ns for run in way.runs if run.each_ns is not None)
        best["events_per_s"] = 1e9 / best["each_ns"]
    median = {name: statistics.median(figures[name] for figures in all_figures) for name in all_figures[0]}
    return {"name": way.name, "how": way.how, **best, "inconclusive": not conclusive, "median": median}


def as_text(result: dict[str, Any]) -> str:
    """The result for people."""
    columns = {"p50": "p50_ns", "p99": "p99_ns", "p99.9": "p999_ns", "max": "max_ns", "mean 99%": "trimmed_mean_ns"}
    columns |= {"stddev 99%": "trimmed_stddev_ns", "of bare": "of_bare", "ns an event": "each_ns"}
    columns |= {"events/s": "events_per_s", "overhead": "overhead_ns", "samples": "samples", "stolen %": "stolen_pct"}
    rows = []
    for row in result["results"]:
        mark = " (?)" if row["inconclusive"] else ""
        rows.append((f"{row['name']}, best{mark}", *(_figure(row.get(key)) for key in columns.values())))
        median = {**row["median"], "samples": None}
        rows.append(("  median", *(_figure(median.get(key)) for key in columns.values())))
    machine, virtual = result["machine"], ", virtual" if result["machine"]["virtual"] else ""
    hows = "\n".join(f"{row['name']}: {row['how']}." for row in result["results"])
    left_out = "".join(f"{name} is left out: {why}\n" for name, why in result["left_out"].items())
    return (
        f"{table_text(('ns', *columns), rows)}\n\n{hows}\n\n"
        "best: the run with the lowest p90 among those of which the host took at most 5%; (?): there was none.\n"
        "median: of all runs, each figure for itself. 99%: without the worst hundredth of the samples.\n"
        "of bare: p50, in halves of a bare round trip. ns an event: where many follow each other, at best;\n"
        "overhead: of it, what a call adds to publication, its two readings of the counter included.\n"
        f"{left_out}"
        f"{result['rounds']} rounds, interleaved; {machine['cpu']}, {machine['cores']} cores{virtual}, Linux "
        f"{machine['kernel']}, Python {machine['python']}; cores {', '.join(map(str, result['cores']))}; single events "
        f"{result['pace_ns'] / 1e3:g} us apart, through multiprocessing {_QUEUE_PACE_NS / 1e3:g}; {result['clock']}."
    )


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return count_text(value) if value >= 1000 else f"{value:.3g}"


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "virtual": "hypervisor" in cpuinfo,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


# --- ways ----------------------------------------------------------------------------------------


def _ways(peers: str | None, left_out: dict[str, str]) -> list[Way]:
    c, there_and_back = native(_STATE, on="mbo")(_core.handoff_function()), "published, called, returned"
    ways = [
        Way(_BARE, "half a round trip of a word between two cores", lambda: _halves(0)),
        Way(_NOBODY, "published into the ring", lambda: _in_loop(None)),
        Way("in the loop, C", there_and_back, lambda: _in_loop(c.target)),
        Way(_RING, "half a round trip, compiled readers", lambda: _halves(1)),
        Way("another process", "half a round trip, compiled readers", _process),
        Way("Python, on_event", "another process's ring, to the callback", _python_event),
        Way("Python, batches", "another process's ring, to the array", _python_batches),
        Way("multiprocessing.Pipe", "send to recv, between two processes", lambda: _queue("Pipe")),
        Way("multiprocessing.Queue", "put to get, between two processes", lambda: _queue("Queue")),
    ]
    try:
        numba = native(_STATE, on="mbo")(_count)
        ways.insert(3, Way("in the loop, Numba", there_and_back, lambda: _in_loop(numba.target)))
    except ConfigError as problem:
        left_out["in the loop, Numba"] = str(problem)
    if peers is None:
        left_out["iceoryx2, Python"] = "a Python that has iceoryx2 is given by --peers; make bench-handoff does"
    else:
        _check_peers(peers)
        ways.append(Way("iceoryx2, Python", "send to receive, between two processes", lambda: _iceoryx2(peers)))
    return ways


def _count(event: Any, top: Any, state: Any) -> None:  # noqa: ARG001 (a native function has three arguments)
    state.count += 1


def _ns(raw: bytes) -> Samples:
    return np.frombuffer(raw, "<u8").astype(np.float64)


def _halves(which: int) -> Run:
    return Run(_ns(_core.handoff_round_trips(_TRIPS)[which]) / 2)


def _in_loop(target: _core.NativeTarget | None) -> Run:
    single, each_ns = _core.handoff_in_loop(target, events=_EVENTS)
    return Run(_ns(single), each_ns)


def _process() -> Run:
    """To a process that sends back what comes, and ends when our ring does."""
    ping, pong = f"handoff-{os.getpid()}-ping", f"handoff-{os.getpid()}-pong"
    program = "import sys; from barewire import _core; _core.handoff_echo(*sys.argv[1:])"
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        started.append(subprocess.Popen([sys.executable, "-c", program, ping, pong]))

    try:
        far = _core.HandoffFar(ping, pong, begin)
        found = _ns(far.round_trips(_TRIPS)) / 2
        far.close()
        if not len(found):
            raise BarewireError("bench handoff: the process that sends back what comes has died")
        return Run(found)
    finally:
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            process.kill()
            process.wait()


# --- Python --------------------------------------------------------------------------------------


@contextmanager
def _on_second_core() -> Iterator[None]:
    """The sender has the first one. Only once it runs: threads begin where their maker is."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) > 1:
        os.sched_setaffinity(0, {sorted(allowed)[1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _source(fill: int, pace_ns: int | None) -> Iterator[Ring]:
    """A ring that another thread, without Python's lock, writes; read as another process would, by its name."""
    name = f"handoff-{os.getpid()}-source"
    source = _core.HandoffSource(name, capacity=_FILL * 2, fill=fill, pace_ns=pace_ns)
    try:
        with _on_second_core():
            yield Ring.attach(name, oldest=pace_ns is None, wait="busy")
    finally:
        source.stop()


class _Late(Strategy):
    def __init__(self) -> None:
        self.late: list[int] = []

    def on_event(self, event: MboEvent) -> None:
        self.late.append(time.monotonic_ns() - event.ts_recv)


class _Tally(Strategy):
    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.count = 0

    def on_event(self, event: MboEvent) -> None:  # noqa: ARG002 (a callback has it)
        self.count += 1
        if self.count == _FILL:
            self.ring.stop()


def _python_event() -> Run:
    with _source(0, _PACE_NS) as ring:
        late = _Late()
        ring.run(late, duration=_SINGLE_S)
    with _source(_FILL, None) as ring:
        _read_all(ring)
        ring.seek_oldest()
        tally = _Tally(ring)
        begun = time.perf_counter_ns()
        ring.run(tally)
        took = time.perf_counter_ns() - begun
    return Run(np.array(late.late, np.float64), took / tally.count)


def _python_batches() -> Run:
    late: list[int] = []
    with _source(0, _PACE_NS) as ring:
        until = time.monotonic() + _SINGLE_S
        while time.monotonic() < until:
            batch = ring.read(timeout=0.1)
            now = time.monotonic_ns()
            if batch is not None:
                late.extend(now - ts for ts in batch.records["ts_recv"].tolist())
    with _source(_FILL, None) as ring:
        _read_all(ring)  # what it takes to map the ring is taken once
        ring.seek_oldest()
        begun = time.perf_counter_ns()
        count = _read_all(ring)
        took = time.perf_counter_ns() - begun
    return Run(np.array(late, np.float64), took / max(count, 1))


def _read_all(ring: Ring) -> int:
    """Reads what is in the ring, a column of every batch included."""
    count = total = 0
    while count < _FILL and (batch := ring.read(timeout=1.0)) is not None:
        mbo = batch.mbo
        count += len(mbo)
        total += int(mbo["size"].sum())
    return count


# --- others --------------------------------------------------------------------------------------


def _send(end: Any, singles: int, items: int) -> None:
    """The other process: single times, then many in a row."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    send = getattr(end, "put", None) or end.send
    for _ in range(singles):
        # Asleep: a loop would keep Python's lock from the thread that a Queue sends with.
        time.sleep(_QUEUE_PACE_NS / 1e9)
        send(time.monotonic_ns())
    time.sleep(0.05)
    for _ in range(items):
        send(time.monotonic_ns())


def _queue(kind: str) -> Run:
    context = multiprocessing.get_context("spawn")
    receive: Callable[[], int]
    end: Any
    if kind == "Pipe":
        here, there = context.Pipe(duplex=False)
        receive, end = here.recv, there
    else:
        end = context.Queue()
        receive = partial(end.get, timeout=10)
    singles = round(_SINGLE_S * 1e9 / _QUEUE_PACE_NS)
    process = context.Process(target=_send, args=(end, singles, _ITEMS), daemon=True)
    process.start()
    if kind == "Pipe":
        end.close()  # ours: where the other process dies, reading ends
    late = []
    try:
        with _on_second_core():
            for _ in range(singles):
                sent = receive()
                late.append(time.monotonic_ns() - sent)
            receive()
            begun = time.perf_counter_ns()
            for _ in range(_ITEMS - 1):
                receive()
            took = time.perf_counter_ns() - begun
    except (EOFError, Empty):
        raise BarewireError(f"bench handoff: the process that sends through multiprocessing.{kind} has died") from None
    finally:
        process.join(timeout=5)
        process.kill()
    return Run(np.array(late, np.float64), took / (_ITEMS - 1))


def _check_peers(python: str) -> None:
    """Before anything is measured. Raises ConfigError."""
    expected = "a Python that can import iceoryx2"
    try:
        done = subprocess.run([python, "-I", "-c", "import iceoryx2"], capture_output=True, check=False, timeout=60)
    except OSError as problem:
        raise ConfigError(f"--peers {python!r}: expected {expected}: {problem}", key="--peers", value=python) from None
    if done.returncode:
        raise ConfigError(f"--peers {python!r}: expected {expected}; make bench-handoff has one", key="--peers")


def _iceoryx2(python: str) -> Run:
    script = Path(__file__).with_name("_handoff_iceoryx2.py")
    arguments = [str(round(_SINGLE_S * 1e9 / _PACE_NS)), str(_PACE_NS), str(_ITEMS)]
    # Isolated: modules beside the script are named like some of the standard library's.
    done = subprocess.run([python, "-I", script, *arguments], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it says nothing"]
        raise BarewireError(f"bench handoff: {python} {script.name} exited {done.returncode}: {said[-1]}")
    found = json.loads(done.stdout)
    return Run(np.array(found["late_ns"], np.float64), found["each_ns"])
