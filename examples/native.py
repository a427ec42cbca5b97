"""A strategy that the feed's own thread calls, compiled by Numba: spreads, and signals for Python to read.

barewire run feed.toml --native examples/native.py:spread --duration 60
barewire replay day.bin --native examples/native.py:spread
python examples/native.py feed.toml 10
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

import barewire

SIGNALS = 1024
SIGNAL = np.dtype([("ts_recv", "u8"), ("instrument_id", "u4"), ("bid_price", "i8"), ("ask_price", "i8")], align=True)


@barewire.native(
    [("changes", "u8"), ("narrow", "u8"), ("count", "u8"), ("signals", SIGNAL, (SIGNALS,))],
    on="bbo",
)
def spread(event: Any, top: Any, state: Any) -> None:
    """Notes each quote whose two sides are a cent apart, at most."""
    state.changes += 1
    if top.bid_size == 0 or top.ask_size == 0 or top.ask_price - top.bid_price > 10_000_000:
        return
    state.narrow += 1
    signal = state.signals[state.count % SIGNALS]
    signal.ts_recv = event.ts_recv
    signal.instrument_id = event.instrument_id
    signal.bid_price = top.bid_price
    signal.ask_price = top.ask_price
    state.count += 1


def main() -> None:
    """Reads the signals as they come."""
    config, seconds = sys.argv[1], float(sys.argv[2])
    read = 0
    with barewire.Feed.from_config(config, native=spread) as feed:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not feed.ended:
            time.sleep(0.01)
            now = spread.snapshot()
            for number in range(max(read, int(now.count) - SIGNALS), int(now.count)):
                signal = now.signals[number % SIGNALS]
                if number % 1000 == 0:
                    print(feed.symbols.of(signal.instrument_id), signal.bid_price / 1e9, signal.ask_price / 1e9)
            read = int(now.count)
        stats = feed.stats
    print(f"{spread.state.changes} quotes, {spread.state.narrow} of them narrow, {read} signals read")
    calls = max(stats.callback_calls, 1)
    print(f"{stats.callback_ns / calls:.0f} ns a call on average, the longest {stats.callback_longest_ns / 1e3:.1f} us")


if __name__ == "__main__":
    main()
