"""`barewire bench handoff`: every way is measured, and the figures are what they are called."""

from __future__ import annotations

import json
import os
import sys

import pytest

from conftest import Cli

WAYS = [
    "bare cache line",
    "nobody called",
    "in the loop, C",
    "in the loop, Numba",
    "another thread",
    "another process",
    "Python, on_event",
    "Python, batches",
    "multiprocessing.Pipe",
    "multiprocessing.Queue",
]


def test_every_way_is_measured(barewire: Cli) -> None:
    result = json.loads(barewire("bench", "handoff", "--duration", "0.1", "--json").stdout)
    rows = {row["name"]: row for row in result["results"]}
    assert list(rows) == WAYS
    for row in rows.values():
        assert row["samples"] > 100
        assert 0 < row["p50_ns"] <= row["p90_ns"] <= row["p99_ns"] <= row["p999_ns"] <= row["max_ns"]
        assert row["trimmed_mean_ns"] <= row["mean_ns"]
        assert row["of_bare"] == pytest.approx(row["p50_ns"] / rows["bare cache line"]["p50_ns"])
    called, alone = rows["in the loop, C"], rows["nobody called"]
    assert called["overhead_ns"] == pytest.approx(called["each_ns"] - alone["each_ns"])
    assert list(result["left_out"]) == ["iceoryx2, Python"]
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("barewire.handoff-")]


def test_peers_that_cannot_be_had_are_an_error(barewire: Cli) -> None:
    done = barewire("bench", "handoff", "--duration", "0.1", "--peers", sys.executable, check=False)
    assert done.returncode != 0
    assert "iceoryx2" in done.stderr
