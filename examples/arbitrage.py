"""One instrument at two simulated venues: what an arbitrageur catches, by how late the quotes are seen.

Both venues follow one path of prices, the second one 300 microseconds later. Whoever sees the first one move soon
enough buys at the second, or sells there, before it does. `barewire study` has what is left out here: rivals, legs that
fail, many sessions and confidence intervals.

    python examples/arbitrage.py [SECONDS]
"""

import datetime as dt
import subprocess
import sys
import tempfile
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

import barewire

SYMBOL = "AAPL"
ORDER_NS = 15_000  # from a decision to the venues' books
FEE = 0.003  # USD a share, at each venue
LATENCIES_US = {"as they are sent": (0, 0), "kernel bypass": (22, 3), "the old way": (250, 45)}


def simulate(path: Path, venue: int, seconds: float) -> None:
    """A venue's day as a capture: the same seed for both, so that both follow the same prices."""
    shape = "--instruments 2 --live-orders 1k --volatility 1000 --simulated-rate 5k --messages-per-packet 1"
    command = f"-m barewire sim --no-send --venue {venue} --seed 3 --trading {seconds} {shape} --pcap {path}"
    subprocess.run([sys.executable, *command.split()], check=True, stdout=subprocess.DEVNULL)


def quotes(path: Path) -> np.ndarray:
    """Best bids and offers from the opening on, when both were there."""
    replay = barewire.replay(path, records="bbo", symbols=[SYMBOL])
    found = np.concatenate([batch.bbo for batch in replay])
    assert replay.date is not None  # a capture has one
    opening = dt.datetime.combine(replay.date, dt.time(9, 30), ZoneInfo("America/New_York")).timestamp()
    whole = (found["bid_price"] != barewire.UNDEF_PRICE) & (found["ask_price"] != barewire.UNDEF_PRICE)
    kept: np.ndarray = found[whole & (found["ts_recv"] >= int(opening) * 10**9)]
    return kept


def seen(venue: np.ndarray, mean_us: float, deviation_us: float, random: np.random.Generator) -> np.ndarray:
    """When each quote is seen: normal latencies, and no quote overtakes an earlier one."""
    latency = np.maximum(random.normal(mean_us, deviation_us, len(venue)), 0) * 1000
    return np.maximum.accumulate(venue["ts_recv"].astype(np.int64) + latency.astype(np.int64))


def at(times: np.ndarray, when: np.ndarray) -> np.ndarray:
    """Which quote held at these times."""
    return np.maximum(np.searchsorted(times, when, "right") - 1, 0)


def edge(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What a share brings at each pair of quotes, USD: bought at one venue and sold at the other, the better way."""
    one_way = first["bid_price"] - second["ask_price"]
    other_way = second["bid_price"] - first["ask_price"]
    best: np.ndarray = np.maximum(one_way, other_way) / 1e9 - 2 * FEE
    return best


def main() -> None:
    """Simulates, and trades once for each latency."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"venue{number}.pcap" for number in (1, 2)]
        for number, path in enumerate(files, 1):
            simulate(path, number, seconds)
        first, second = map(quotes, files)
    random = np.random.default_rng(1)
    true_times = [venue["ts_recv"].astype(np.int64) for venue in (first, second)]
    for name, (mean_us, deviation_us) in LATENCIES_US.items():
        times = [seen(venue, mean_us, deviation_us, random) for venue in (first, second)]
        events = np.unique(np.concatenate(times))
        shown = edge(first[at(times[0], events)], second[at(times[1], events)])
        # An opportunity begins where there was none at the event before.
        begins = events[(shown > 0) & (np.concatenate(([0.0], shown[:-1])) <= 0)]
        arrive = begins + ORDER_NS
        left = edge(first[at(true_times[0], arrive)], second[at(true_times[1], arrive)])
        caught = left > 0
        print(
            f"{name:>16} ({mean_us:3} +- {deviation_us:2} us): {len(begins):5} opportunities seen, "
            f"{caught.sum():5} caught, {100 * left[caught].sum():8.2f} USD on 100 shares each"
        )


if __name__ == "__main__":
    main()
