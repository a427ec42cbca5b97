"""Alignment of live feeds, over multicast on loopback, and of their recordings."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import barewire

from .venue import Venue, add, directory, free_line, random_day, write_binaryfile

WAIT = 20.0  # seconds until a test gives up; no test is meant to take that long


def config(line: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A small feed of one line."""
    return {
        "feed": {"protocol": "itch-5.0", "date": "2020-01-30"},
        "lines": [line],
        "ring": {"capacity": 1 << 14, **more.pop("ring", {})},
        "book": {"instruments": 1024, "orders": 8192, "levels": 8192},
        **more,
    }


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that will be."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class Two:
    """Two venues, and a feed of each."""

    def __init__(self, **more: Any) -> None:
        self.lines = [free_line(), free_line()]
        self.venues = [Venue(line) for line in self.lines]
        self.feeds = [barewire.Feed.from_config(config(line, **more)) for line in self.lines]

    def __enter__(self) -> Two:
        for feed in self.feeds:
            feed.start()
        # The first thing that a feed says is how good its clock is, when its thread has come so far.
        until(lambda: all(feed.stats.records >= 1 for feed in self.feeds))
        return self

    def __exit__(self, *_: object) -> None:
        for feed in self.feeds:
            feed.stop()
        for venue in self.venues:
            venue.close()

    def inputs(self) -> dict[str, barewire.Feed]:
        return dict(zip(("x", "y"), self.feeds, strict=True))

    def days(self) -> Iterator[None]:
        """A day of each, in turns of a few messages; then the ends."""
        days = [random_day(400, seed=seed) for seed in (1, 2)]
        sizes = itertools.cycle([1, 3, 2, 7])
        while any(days):
            for venue, day in zip(self.venues, days, strict=True):
                size = next(sizes)
                venue.send(day[:size])
                del day[:size]
            yield
        for venue in self.venues:
            venue.end()


def without_clock(batches: list[barewire.AlignedBatch]) -> np.ndarray[Any, Any]:
    """All records but those in which a feed says how good its clock is, whenever it likes."""
    chosen = []
    for batch in batches:
        clock = np.zeros(len(batch), np.bool_)
        clock[batch.records["kind"] == 4] = batch.status["code"] == b"K"
        chosen.append(batch.records[~clock])
    return np.concatenate(chosen)


def placed(batches: list[barewire.AlignedBatch]) -> list[tuple[int, int]]:
    """Which record of which input, in order."""
    return [row for batch in batches for row in batch.records[["source", "ring_sequence"]].tolist()]


def check_order(batches: list[barewire.AlignedBatch], counts: list[int]) -> None:
    """Everything came once, in its input's order; `late` says where the times go back."""
    found = placed(batches)
    for source, count in enumerate(counts):
        assert [number for of, number in found if of == source] == list(range(count))
    records = np.concatenate([batch.records for batch in batches])
    newest = np.maximum.accumulate(records["ts_key"])
    assert records["late"][1:].tolist() == (records["ts_key"][1:] < newest[:-1]).tolist()


def test_two_live_feeds_are_one_stream_and_their_recordings_give_the_same() -> None:
    with Two() as two:
        aligned = barewire.align(two.inputs(), hold=WAIT)

        def send() -> None:
            for _ in two.days():
                time.sleep(0.001)

        sender = threading.Thread(target=send)
        sender.start()
        batches = list(aligned)
        sender.join()
        # The feeds' own readers were not moved.
        recordings = {name: list(feed) for name, feed in two.inputs().items()}
        assert all(symbol.startswith("SYM") for symbols in aligned.symbols.values() for symbol in symbols.values())
    check_order(batches, [sum(map(len, recording)) for recording in recordings.values()])
    records = np.concatenate([batch.records for batch in batches])
    assert (records["late"] == 0).all()
    assert set(records["released_by"].tolist()) == {0}
    # In turns, as they were sent: not one feed after the other.
    assert np.count_nonzero(np.diff(records["source"])) > 100
    assert placed(list(barewire.align(recordings))) == placed(batches)
    rows = [batch.rows for batch in barewire.align(recordings).rows([("x", "SYM1"), ("y", "SYM2")], on="any")]
    quotes = [batch.bbo for batch in batches]
    legs = np.concatenate([one[(one["source"] + 1) == one["instrument_id"]] for one in quotes])
    first = max(np.flatnonzero(legs["source"] == source)[0] for source in (0, 1))
    found = np.concatenate(rows)
    assert found["leg"].tolist() == legs["source"][first:].tolist()
    prices = found["legs"]["bid_price"][np.arange(len(found)), found["leg"]]
    assert prices.tolist() == legs["bid_price"][first:].tolist()


def test_async_for_gives_the_same_and_holds_nobody_up() -> None:
    async def main() -> tuple[list[barewire.AlignedBatch], int, list[int]]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.002)
                ticks += 1

        async def send(two: Two) -> None:
            await asyncio.sleep(0.2)
            for _ in two.days():
                await asyncio.sleep(0.001)

        with Two() as two, barewire.align(two.inputs(), hold=WAIT) as aligned:
            found, cancelled = [], 0
            for _ in range(5):
                try:
                    found.append(await asyncio.wait_for(anext(aiter(aligned)), 0.02))
                except TimeoutError:
                    cancelled += 1
            assert cancelled > 0
            tasks = [asyncio.create_task(tick()), asyncio.create_task(send(two))]
            found += [batch async for batch in aligned]
            await tasks[1]
            tasks[0].cancel()
            return found, ticks, [sum(map(len, feed)) for feed in two.feeds]

    batches, ticks, counts = asyncio.run(main())
    check_order(batches, counts)
    assert ticks > 20  # the loop went on while the feeds were quiet


def read_until(aligned: barewire.Aligned, count: int) -> list[barewire.AlignedBatch]:
    """Batches until so many records came, those about clocks not counted."""
    batches, end = list[barewire.AlignedBatch](), time.monotonic() + WAIT
    while not batches or len(without_clock(batches)) < count:
        batch = aligned.read(timeout=0.1)
        assert time.monotonic() < end
        if batch is not None:
            batches.append(batch)
    return batches


def test_a_silent_feed_holds_nothing_up_for_longer_than_hold() -> None:
    with Two() as two:
        aligned = barewire.align(two.inputs(), hold=0.05)
        two.venues[0].send([directory(1, "AAPL"), add(10, "B", 100, 1_000_000)])
        records = without_clock(read_until(aligned, 2))
        assert set(records["released_by"].tolist()) == {1}
        assert (records["held_ns"] >= 50_000_000).all()
        assert aligned.stats["x"].by_hold >= len(records)


def test_a_heartbeat_shows_that_nothing_older_comes() -> None:
    with Two() as two:
        aligned = barewire.align(two.inputs(), hold=1000.0)
        two.venues[0].send([directory(1, "AAPL"), add(10, "B", 100, 1_000_000)])
        while (batch := aligned.read(timeout=0.3)) is not None:
            assert not len(without_clock([batch]))  # nobody knows what the other one may bring
        two.venues[1].heartbeat()
        records = without_clock(read_until(aligned, 2))
        assert set(records["released_by"].tolist()) == {0}
        assert set(records["source"].tolist()) == {0}


def test_what_a_feed_had_to_wait_for_comes_late_and_says_so() -> None:
    with Two(sequencing={"hold_us": 400_000}) as two:
        one, other = two.venues
        aligned = barewire.align(two.inputs(), hold=0.01)
        for venue in two.venues:
            venue.send([directory(1, "AAPL"), add(1, "B", 100, 1_000_000)])
        read_until(aligned, 4)
        one.send([add(2, "B", 100, 1_000_100)], drop=True)
        for number in (3, 4, 5):  # one packet alone is not believed
            one.send([add(number, "B", 100, 1_000_000 + 100 * number)])
        time.sleep(0.02)
        other.send([add(2, "B", 100, 1_000_100)])
        records = without_clock(read_until(aligned, 9))
        # The other's order and quote; then the gap, and behind it what had come before those.
        assert records["source"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0]
        assert records["kind"].tolist()[2:] == [3, 1, 2, 1, 2, 1, 2]
        assert records["late"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]
        stats = aligned.stats
        assert (stats["x"].late, stats["y"].late) == (6, 0)
        # Behind its own gap, which was declared when the waiting was over.
        assert stats["x"].late_max_ns >= 300_000_000


def said(batches: list[barewire.AlignedBatch]) -> list[tuple[int, int, int]]:
    """Input, kind and the venue's number of each record."""
    records = without_clock(batches)
    return list(map(tuple, records[["source", "kind", "sequence"]].tolist()))


PRODUCER = """
import sys, time, barewire
feed = barewire.Feed.from_config(sys.argv[1])
feed.start()
print("ready", flush=True)
time.sleep(60)
"""


def test_a_feed_that_dies_ends_alone(tmp_path: Path) -> None:
    line = free_line()
    name = f"test-align-{os.getpid()}-{line['port']}"
    path = tmp_path / "feed.toml"
    path.write_text(
        "[feed]\nprotocol = 'itch-5.0'\ndate = 2020-01-30\n[[lines]]\n"
        + "".join(f"{key} = {value!r}\n" for key, value in line.items())
        + f"[ring]\nname = '{name}'\ncapacity = 16384\n[book]\ninstruments = 1024\norders = 8192\nlevels = 8192\n"
    )
    process = subprocess.Popen([sys.executable, "-c", PRODUCER, str(path)], stdout=subprocess.PIPE, text=True)
    venue = Venue(line)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with Two() as two:
            aligned = barewire.align({"far": barewire.Ring.attach(name), "near": two.feeds[0]}, hold=0.02)
            venue.send([directory(1, "AAPL"), add(10, "B", 100, 1_000_000)])
            two.venues[0].send([directory(1, "AAPL"), add(10, "B", 100, 1_000_000)])
            seen = said(read_until(aligned, 4))
            assert sorted(seen) == [(0, 1, 2), (0, 2, 2), (1, 1, 2), (1, 2, 2)]
            venue.send([add(11, "B", 100, 1_000_100)])
            time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
            process.wait()
            with pytest.raises(barewire.ProducerGone, match=name):
                for batch in aligned:
                    seen += said([batch])
            # What the dead one had brought is delivered, and the other goes on.
            assert seen[4:] == [(0, 1, 3), (0, 2, 3)]
            two.venues[0].send([add(12, "S", 100, 1_000_200)])
            two.venues[0].end()
            assert said(list(aligned))[:2] == [(1, 1, 3), (1, 2, 3)]
    finally:
        process.kill()
        process.communicate()
        venue.close()
        Path(f"/dev/shm/barewire.{name}").unlink(missing_ok=True)


def test_rows_of_live_feeds_know_symbols_that_come_later_and_how_good_the_clocks_are() -> None:
    with Two() as two:
        aligned = barewire.align(two.inputs() | {"z": two.feeds[1].reader(symbols=["MSFT"])}, hold=0.01)
        rows = aligned.rows([("x", "AAPL"), ("y", "AAPL"), ("z", "MSFT")], on=("z", "MSFT"))
        assert rows.read(timeout=0.05) is None
        day = [directory(1, "MSFT"), directory(2, "AAPL"), add(1, "B", 9, 1_000_000, locate=2)]
        two.venues[0].send(day)
        two.venues[1].send([*day, add(2, "S", 7, 1_010_000, symbol="MSFT")])
        batch = rows.read(timeout=WAIT)
        assert batch is not None
        assert batch.legs == ("x.AAPL", "y.AAPL", "z.MSFT")
        legs = batch.rows["legs"][-1]
        assert legs["bid_size"].tolist()[:2] == [9, 9]
        assert legs["ask_price"].tolist() == [barewire.UNDEF_PRICE, barewire.UNDEF_PRICE, 101_000_000_000]
        bounds = [feed.stats.clock_bound_ns for feed in (*two.feeds, two.feeds[1])]
        assert legs["bound_ns"].tolist() == bounds
        assert int(batch.rows["bound_ns"][-1]) == min(sum(sorted(bounds)[-2:]), 2**64 - 1)
        assert int(batch.rows["skew_ns"][-1]) == int(legs["ts_recv"].max()) - int(legs["ts_recv"].min())
        for feed in two.feeds:
            feed.stop()
        assert rows.read() is None
        with pytest.raises(barewire.UnknownSymbolError, match="AAPX"):
            list(barewire.align(two.inputs()).rows([("x", "AAPX"), ("y", "AAPL")]))


def test_live_and_recorded_inputs_do_not_mix_and_feeds_are_started(tmp_path: Path) -> None:
    replay = barewire.replay(write_binaryfile(tmp_path / "20200130.bin", random_day(10)))
    with pytest.raises(barewire.FeedError, match="not started"):
        barewire.align({"x": barewire.Feed.from_config(config(free_line()))})
    with Two() as two:
        with pytest.raises(barewire.ConfigError, match="'x' is live and 'file' is not"):
            barewire.align({"file": replay, "x": two.feeds[0]})
        with pytest.raises(barewire.ConfigError, match="conflate"):
            barewire.align({"x": two.feeds[0].reader(conflate=True)})


def test_stop_ends_the_loop_from_another_thread() -> None:
    with Two() as two:
        aligned = barewire.align(two.inputs())
        threading.Timer(0.1, aligned.stop).start()
        assert all(not len(without_clock([batch])) for batch in aligned)
        assert aligned.read() is None


def test_records_that_a_slow_loop_lost_are_told() -> None:
    with Two(ring={"capacity": 1024}) as two:
        aligned = barewire.align(two.inputs(), hold=0.0)
        venue = two.venues[0]
        venue.send([directory(1, "AAPL"), add(1, "B", 1, 1_000_000)])
        read_until(aligned, 2)
        seen = aligned.stats["x"].records
        venue.send([add(number, "B", 1, 1_000_000) for number in range(2, 2002)])
        venue.send([add(5000, "B", 1, 1_000_000)])
        until(lambda: two.feeds[0].stats.messages >= 2003)
        venue.end()
        two.venues[1].end()
        batches = list(aligned)
        lost = sum(batch.lost.get("x", 0) for batch in batches)
        ours = [batch.of("x") for batch in batches]
        records = np.concatenate([batch.records for batch in ours])
        assert lost == aligned.stats["x"].lost > 300
        # The first batch says what is missing before its first record.
        assert batches[0].lost == {"x": lost}
        assert records["ring_sequence"][0] == seen + lost
        assert np.diff(records["ring_sequence"].astype(np.int64)).tolist() == [1] * (len(records) - 1)
