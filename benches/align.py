"""What alignment costs: ``python benches/align.py [--json]``.

Records of two inputs, in memory, merged into batches and made into rows: the best and the median of several runs. And
live, over loopback, from the arrival of the later of two quotes (its ``ts_recv``) until Python has the row that both
make. That later quote has nothing newer to prove that nothing older comes, so ``hold`` is part of it. Shared cores:
ratios hold.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import barewire

RUNS = 7
BATCH = 8192


def batches(count: int, instrument: int, step_ns: int, start: int) -> list[barewire.Batch]:
    """Quotes at times that another input's lie between."""
    records = np.zeros(count, barewire.BBO_DTYPE)
    records["ring_sequence"] = np.arange(count)
    rng = np.random.default_rng(instrument)
    records["ts_recv"] = start + np.cumsum(rng.integers(1, 2 * step_ns, count))
    records["kind"], records["instrument_id"] = 2, instrument
    records["bid_price"] = np.arange(count)
    whole = records.view(barewire.RECORD_DTYPE)
    symbols = barewire.Symbols(lambda first: [(1, "ONE"), (2, "TWO"), (3, "THREE")][first:])
    return [barewire.Batch(whole[at : at + BATCH], 0, symbols) for at in range(0, count, BATCH)]


def timed(work: Callable[[], int]) -> dict[str, float]:
    """ns an event: best and median."""
    found = []
    for _ in range(RUNS):
        begun = time.perf_counter_ns()
        count = work()
        found.append((time.perf_counter_ns() - begun) / count)
    return {"best_ns": min(found), "median_ns": statistics.median(found), "events": float(count)}


def recorded(events: int) -> dict[str, dict[str, float]]:
    """Merge and rows of recorded inputs."""
    start = 1_700_000_000_000_000_000
    made = {str(n): batches(events // 2, n, 1000, start) for n in (1, 2, 3)}
    two = {name: made[name] for name in ("1", "2")}
    # Runs of a packet's length rather than single events: what feeds look like.
    return {
        "merge, two inputs": timed(lambda: sum(map(len, barewire.align(two)))),
        "merge, three inputs": timed(lambda: sum(map(len, barewire.align(made)))),
        "a row for every event": timed(lambda: sum(map(len, barewire.align(two).rows([("1", "ONE"), ("2", "TWO")])))),
        "a row for every tenth or so": timed(
            lambda: sum(map(len, barewire.align(two).rows([("1", "ONE"), ("2", "TWO")], on="all", tolerance=1e-7)))
        ),
    }


def live(pairs: int, wait: str, hold: float) -> dict[str, float]:
    """Microseconds from the later quote's receive time to the row in Python."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    simple = importlib.import_module("tests.python.venue")
    lines = [simple.free_line(), simple.free_line()]
    venues = [simple.Venue(line) for line in lines]
    feeds = [
        barewire.Feed.from_config({"feed": {"protocol": "itch-5.0"}, "lines": [line]}, wait=wait)  # type: ignore[arg-type]
        for line in lines
    ]
    taken: list[float] = []
    with feeds[0], feeds[1]:
        time.sleep(0.2)
        aligned = barewire.align({"a": feeds[0], "b": feeds[1]}, hold=hold, wait=wait)  # type: ignore[arg-type]
        rows = aligned.rows([("a", "AAPL"), ("b", "AAPL")])
        for venue in venues:
            venue.send([simple.directory(1, "AAPL"), simple.add(1, "B", 1, 1_000_000)])
        time.sleep(0.1)
        for number in range(2, pairs + 2):
            for venue in venues:
                venue.send([simple.add(number, "B", 1, 1_000_000 + number)])
            end = time.monotonic() + 1
            while time.monotonic() < end:
                batch = rows.read(timeout=0.2)
                now = time.time_ns()
                if batch is None or len(batch) == 0:
                    continue
                last = batch.rows["legs"][-1]
                if (last["sequence"] == number + 1).all():
                    taken.append((now - int(last["ts_recv"].max())) / 1e3)
                    break
            time.sleep(0.0005)
    for venue in venues:
        venue.close()
    ordered = sorted(taken)
    return {
        "p50_us": ordered[len(ordered) // 2],
        "p90_us": ordered[len(ordered) * 9 // 10],
        "best_us": ordered[0],
        "pairs": float(len(ordered)),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = recorded(options.events)
    results["live pair to row, sleeping"] = live(options.pairs, "sleep", 0.0)
    results["live pair to row, busy"] = live(options.pairs, "busy", 0.0)
    results["the same, hold 100 us"] = live(options.pairs, "busy", 0.0001)
    if options.json:
        print(json.dumps(results))
        return
    for name, row in results.items():
        print(f"{name:30}", "  ".join(f"{key} {value:,.1f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
