"""Live feeds, over multicast on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
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

from .venue import (
    MIDNIGHT_2020_01_30,
    OPENING,
    SMALL_DAY_BBO,
    Venue,
    add,
    delete,
    directory,
    free_line,
    random_day,
    small_day,
    write_binaryfile,
)

WAIT = 20.0  # seconds until a test gives up; no test is meant to take that long


def config(*lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A small feed of these lines."""
    return {
        "feed": {"protocol": "itch-5.0", "date": "2020-01-30", **more.pop("feed", {})},
        "lines": list(lines),
        "ring": {"capacity": 1 << 14},
        "book": {"instruments": 1024, "orders": 8192, "levels": 8192},
        **more,
    }


@pytest.fixture
def lines() -> list[dict[str, Any]]:
    return [free_line("A"), free_line("B")]


@pytest.fixture
def venue(lines: list[dict[str, Any]]) -> Iterator[Venue]:
    sender = Venue(*lines)
    yield sender
    sender.close()


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that will be."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def quotes(batches: list[barewire.Batch]) -> list[tuple[int, int, str, int, int]]:
    """What is compared: sequence, time after the opening, symbol, prices."""
    return [
        (event.sequence, event.ts_event - MIDNIGHT_2020_01_30 - OPENING, event.symbol, event.bid_price, event.ask_price)
        for batch in batches
        for event in batch.events()
        if isinstance(event, barewire.BboEvent)
    ]


def expected_quotes() -> list[tuple[int, int, str, int, int]]:
    """The small day's."""

    def price(dollars: float | None) -> int:
        return barewire.UNDEF_PRICE if dollars is None else round(dollars * 1e9)

    return [(row[0], row[1], row[2], price(row[3]), price(row[5])) for row in SMALL_DAY_BBO]


def test_a_session_from_its_first_message_to_its_end(venue: Venue, lines: list[dict[str, Any]]) -> None:
    with barewire.Feed.from_config(config(*lines)) as feed:
        running = feed.running
        named = [line.partition(":")[0] for line in feed.receive_report if line.startswith("line ")]
        assert named == ["line A", "line B"]
        begun = time.time_ns()
        venue.send(small_day())
        venue.end()
        batches = list(feed)
        assert feed.ended
    assert quotes(batches) == expected_quotes()
    received = np.concatenate([batch.mbo["ts_recv"] for batch in batches])
    assert ((received > begun) & (received < time.time_ns())).all()
    assert set(np.concatenate([batch.mbo["ts_source"] for batch in batches]).tolist()) == {3}  # the kernel's clock
    last = list(batches[-1].events())[-1]
    assert isinstance(last, barewire.StatusEvent)
    assert last.code == "Z"
    assert (running, feed.running) == (True, False)
    # Readable after the end: statistics, lines, and books as they were.
    assert [(line.name, line.packets, line.first_copies) for line in feed.lines()] == [("A", 2, 12), ("B", 2, 0)]
    assert feed.stats.messages - feed.stats.messages_duplicate == len(small_day())
    assert feed.stats.packets_duplicate == 1
    assert feed.book("AAPL").ask == (101_000_000_000, 30)


def test_async_for_gives_the_same_and_holds_nobody_up(venue: Venue, lines: list[dict[str, Any]]) -> None:
    async def main() -> tuple[list[barewire.Batch], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.002)
                ticks += 1

        other = asyncio.create_task(tick())
        loop = asyncio.get_running_loop()
        with barewire.Feed.from_config(config(*lines)) as feed:
            loop.call_later(0.2, venue.send, small_day())
            loop.call_later(0.4, venue.end)
            found = [batch async for batch in feed]
        other.cancel()
        return found, ticks

    batches, ticks = asyncio.run(main())
    assert quotes(batches) == expected_quotes()
    assert ticks > 20  # the loop went on while the feed was quiet


def test_a_cancelled_wait_loses_nothing(venue: Venue, lines: list[dict[str, Any]]) -> None:
    async def main() -> list[barewire.Batch]:
        with barewire.Feed.from_config(config(*lines)) as feed:
            feed.read(WAIT)  # what it says of its clock
            for _ in range(5):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(anext(aiter(feed)), 0.02)
            venue.send(small_day())
            venue.end()
            return [batch async for batch in feed]

    assert quotes(asyncio.run(main())) == expected_quotes()


def test_a_gap_is_an_event_and_a_count(venue: Venue, lines: list[dict[str, Any]]) -> None:
    class Gaps(barewire.Strategy):
        def __init__(self) -> None:
            self.gaps: list[barewire.GapEvent] = []
            self.codes: list[str] = []

        def on_gap(self, gap: barewire.GapEvent) -> None:
            self.gaps.append(gap)
            venue.end()

        def on_status(self, status: barewire.StatusEvent) -> None:
            self.codes.append(status.code)

        def on_start(self, source: barewire.Feed | barewire.Replay | barewire.Ring) -> None:  # noqa: ARG002
            venue.send(small_day())
            venue.send([delete(11)] * 3, drop=True)
            venue.send([add(99, "B", 1, 1_000_000)])

    strategy = Gaps()
    feed = barewire.Feed.from_config(config(*lines))
    feed.run(strategy, duration=WAIT)
    assert [(gap.sequence, gap.count, gap.reason) for gap in strategy.gaps] == [(13, 3, 1)]
    assert (feed.stats.gaps, feed.stats.messages_missing) == (1, 3)
    assert next(code for code in strategy.codes if code != "K") == "H"
    assert strategy.codes[-1] == "Z"
    assert not feed.running


def test_live_and_replayed_are_the_same(venue: Venue, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    day = random_day(5000)
    with barewire.Feed.from_config(config(*lines)) as feed:
        for place in range(0, len(day), 500):
            venue.send(day[place : place + 500])
            time.sleep(0.01)
        venue.end()
        live = [event for batch in feed for event in batch.events()]
    filed = barewire.replay(write_binaryfile(tmp_path / "x.bin", day), date="2020-01-30")
    replayed = [event for batch in filed for event in batch.events()]
    common = ("sequence", "ts_event", "symbol", "kind")
    kinds = (barewire.MboEvent, barewire.BboEvent)

    def essence(events: list[barewire.Event]) -> list[tuple[object, ...]]:
        own = [event for event in events if isinstance(event, kinds)]
        return [(*(getattr(event, name) for name in common), *event[9:]) for event in own]

    assert essence(live) == essence(replayed)
    assert len(essence(live)) > 5000


def test_what_a_slow_reader_missed_is_counted(venue: Venue, lines: list[dict[str, Any]]) -> None:
    lost: list[int] = []

    class Slow(barewire.Strategy):
        def on_lost(self, count: int) -> None:
            lost.append(count)

    small_ring = config(*lines, ring={"capacity": 1024})
    with barewire.Feed.from_config(small_ring) as feed:
        day = random_day(4000)
        for place in range(0, len(day), 200):
            venue.send(day[place : place + 200])
            time.sleep(0.002)
        venue.end()
        until(lambda: feed.ended)
        reader = feed.reader()
        reader.seek_oldest()
        feed.run(Slow())
        records = feed.stats.records
    assert sum(lost) > 0
    behind = [batch for batch in reader if len(batch)]
    assert sum(map(len, behind)) + sum(batch.lost for batch in behind) <= records


def test_books_while_the_feed_runs(venue: Venue, lines: list[dict[str, Any]]) -> None:
    with barewire.Feed.from_config(config(*lines)) as feed:
        with pytest.raises(barewire.UnknownSymbolError, match="no instrument has been announced yet"):
            feed.book("AAPL")
        threading.Timer(0.1, venue.send, (small_day()[:5],)).start()
        book = feed.book("AAPL", timeout=WAIT)
        until(lambda: book.bid == (100_000_000_000, 130))
        assert book.ask == (101_000_000_000, 50)
        bids, asks = book.depth(3)
        assert bids.tolist() == [(100_000_000_000, 130, 2)]
        assert asks.tolist() == [(101_000_000_000, 50, 1)]
        assert book.orders()["order_id"].tolist() == [10, 12, 11]
        assert dict(feed.symbols) == {1: "AAPL", 2: "MSFT"}
        with pytest.raises(barewire.UnknownSymbolError, match="did you mean MSFT"):
            feed.book("MSTF")


def test_threads_may_ask_at_once(venue: Venue, lines: list[dict[str, Any]]) -> None:
    problems: list[BaseException] = []
    with barewire.Feed.from_config(config(*lines)) as feed:
        venue.send([directory(1, "AAPL"), add(1, "B", 1, 10_000)])
        book = feed.book("AAPL", timeout=WAIT)
        stop = time.monotonic() + 0.5

        def ask(what: Callable[[], object]) -> None:
            try:
                while time.monotonic() < stop:
                    what()
            except BaseException as problem:
                problems.append(problem)

        questions = [book.top, book.depth, book.orders, lambda: feed.stats, lambda: (feed.running, feed.ended)]
        threads = [threading.Thread(target=ask, args=(question,)) for question in questions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def test_a_feed_that_is_not_started_or_started_twice(lines: list[dict[str, Any]]) -> None:
    feed = barewire.Feed.from_config(config(*lines))
    for use in (lambda: next(iter(feed)), lambda: feed.read(0), feed.reader):
        with pytest.raises(barewire.FeedError, match="not started"):
            use()
    assert feed.stats.packets == 0
    with feed, pytest.raises(barewire.FeedError, match="started before"):
        feed.start()
    feed.stop()
    with pytest.raises(barewire.FeedError, match="started before"):
        feed.start()


def test_what_the_system_refuses_keeps_its_class(lines: list[dict[str, Any]]) -> None:
    nowhere = config({**lines[0], "interface": "nosuch0"})
    with pytest.raises((OSError, barewire.FeedError), match="nosuch0"):
        barewire.Feed.from_config(nowhere).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 0))
        taken = config({**lines[0], "port": other.getsockname()[1]})
        with pytest.raises(OSError, match="in use"):
            barewire.Feed.from_config(taken).start()


def test_stop_ends_a_loop_from_another_thread(lines: list[dict[str, Any]]) -> None:
    with barewire.Feed.from_config(config(*lines)) as feed:
        threading.Timer(0.1, feed.stop).start()
        told = [event for batch in feed for event in batch.events()]
    assert [event.code for event in told if isinstance(event, barewire.StatusEvent)] == ["K"] * len(told)


# --- another process's ring ----------------------------------------------------------------------

PRODUCER = """
import sys, time, barewire
feed = barewire.Feed.from_config(sys.argv[1])
feed.start()
print("ready", flush=True)
while not feed.ended:
    time.sleep(0.01)
time.sleep(float(sys.argv[2]))
feed.stop()
"""


@pytest.fixture
def producer(lines: list[dict[str, Any]]) -> Iterator[tuple[Callable[..., subprocess.Popen[str]], str]]:
    name = f"test-{os.getpid()}-{lines[0]['port']}"
    started: list[subprocess.Popen[str]] = []
    text = "[feed]\nprotocol = 'itch-5.0'\ndate = 2020-01-30\n"
    for line in lines:
        text += "[[lines]]\n" + "".join(f"{key} = {value!r}\n" for key, value in line.items())
    text += f"[ring]\nname = '{name}'\ncapacity = 16384\n[book]\ninstruments = 1024\norders = 8192\nlevels = 8192\n"

    def start(linger: float = 1.0) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PRODUCER, text, str(linger)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start, name
    for process in started:
        process.kill()
        process.communicate()
    Path(f"/dev/shm/barewire.{name}").unlink(missing_ok=True)  # a killed producer leaves its ring behind


def test_another_process_reads_the_ring(
    producer: tuple[Callable[..., subprocess.Popen[str]], str], venue: Venue
) -> None:
    start, name = producer
    process = start()
    ring = barewire.Ring.attach(name)
    assert ring.state == "alive"
    assert ring.capacity == 16384
    assert name in repr(ring)
    assert ring.read(timeout=0) is None
    venue.send(small_day())
    venue.end()
    batches = list(ring)
    assert quotes(batches) == expected_quotes()
    assert ring.state == "closed"
    assert ring.stats["messages"] > 0
    assert process.wait(WAIT) == 0

    async def again() -> list[barewire.Batch]:
        ring.seek_oldest()
        return [batch async for batch in ring]

    assert quotes(asyncio.run(again())) == expected_quotes()


def test_late_readers_choose_where_to_begin(
    producer: tuple[Callable[..., subprocess.Popen[str]], str], venue: Venue
) -> None:
    start, name = producer
    start()
    watching = barewire.Ring.attach(name)
    venue.send(small_day())
    until(lambda: watching.lag >= 21)
    late, oldest = barewire.Ring.attach(name), barewire.Ring.attach(name, oldest=True)
    assert (late.lag, oldest.lag) == (0, watching.position + watching.lag)
    assert late.read(timeout=0) is None
    batch = oldest.read(timeout=0)
    assert batch is not None
    assert quotes([batch]) == expected_quotes()


def test_a_producer_that_dies_is_an_error_and_not_silence(
    producer: tuple[Callable[..., subprocess.Popen[str]], str], venue: Venue
) -> None:
    start, name = producer
    process = start()
    ring = barewire.Ring.attach(name)
    venue.send(small_day())
    seen: list[barewire.Batch] = []
    with pytest.raises(barewire.ProducerGone, match="attach again") as caught:
        for batch in ring:
            seen.append(batch)
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert caught.value.name == name
    assert caught.value.state in ("dead", "stale")
    assert quotes(seen) == expected_quotes()


def test_no_such_ring() -> None:
    with pytest.raises(FileNotFoundError, match="rings on this machine"):
        barewire.Ring.attach("no-such-ring")
    with pytest.raises(barewire.RingError):
        barewire.Ring.attach("../etc/passwd")
