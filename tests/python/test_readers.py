"""Readers of a ring that wait, filter, conflate, call back, and outlive a restart of the feed."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import barewire
from barewire._strategy import Dispatcher
from barewire._symbols import Symbols

from .test_feed import WAIT, config, lines, producer, quotes, until, venue
from .venue import Venue, add, directory, random_day, small_day

__all__ = ["lines", "producer", "venue"]  # fixtures

Start = tuple[Callable[..., "subprocess.Popen[str]"], str]


def threads() -> list[str]:
    """Names of this process's threads."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found.append((task / "comm").read_text().strip())
        except FileNotFoundError:
            continue
    return found


def send_day(venue: Venue, day: list[bytes]) -> None:
    for place in range(0, len(day), 200):
        venue.send(day[place : place + 200])
        time.sleep(0.003)
    venue.end()


def stop_at_end(feed: barewire.Feed) -> threading.Thread:
    """Ends the feed, and with it its ring's readers, once the session is over."""

    def stop() -> None:
        until(lambda: feed.ended)
        feed.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    return thread


# --- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", ["sleep", "busy"])
def test_every_way_of_waiting_gives_the_same(venue: Venue, lines: list[dict[str, Any]], wait: Any) -> None:
    async def main(feed: barewire.Feed, ring: barewire.Ring) -> tuple[list[barewire.Batch], list[barewire.Batch]]:
        async def collect(source: barewire.Feed | barewire.Ring) -> list[barewire.Batch]:
            return [batch async for batch in source]

        asyncio.get_running_loop().call_later(0.1, venue.send, small_day())
        asyncio.get_running_loop().call_later(0.4, venue.end)
        one, two = await asyncio.gather(collect(feed), collect(ring))
        return one, two

    with barewire.Feed.from_config(config(*lines), wait=wait) as feed:
        found: list[barewire.Batch] = []
        ring, other = feed.reader(), feed.reader()
        reading = threading.Thread(target=lambda: found.extend(other))
        reading.start()
        ending = stop_at_end(feed)
        one, two = asyncio.run(main(feed, ring))
        reading.join(WAIT)
        ending.join(WAIT)
    assert quotes(one) == quotes(two) == quotes(found) != []
    assert "barewire-watch" not in threads()  # they end with their loops


def test_an_idle_event_loop_is_left_alone(venue: Venue, lines: list[dict[str, Any]]) -> None:
    """Some turns a second, to look after the producer: nothing polls in the loop, and no pool of threads waits."""

    async def main(feed: barewire.Feed) -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        turns = 0
        once: Any = loop._run_once  # type: ignore[attr-defined]

        def counted() -> None:
            nonlocal turns
            turns += 1
            once()

        feed.read(WAIT)  # what it says of its clock
        loop._run_once = counted  # type: ignore[attr-defined]
        waiting = asyncio.ensure_future(anext(aiter(feed)))
        await asyncio.sleep(0.5)
        idle = turns
        assert threads().count("barewire-watch") == 1
        venue.send(small_day())
        batch = await waiting
        return idle, len(batch)

    with barewire.Feed.from_config(config(*lines)) as feed:
        idle, records = asyncio.run(main(feed))
        venue.end()
    assert records > 0
    assert idle < 100
    assert not [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]


def test_a_reader_says_how_it_cannot_be_told_to_wait(lines: list[dict[str, Any]]) -> None:
    with pytest.raises(barewire.ConfigError, match="wait: expected 'sleep' or 'busy', found 'spin'"):
        barewire.Feed.from_config(config(*lines), wait="spin")  # type: ignore[arg-type]


# --- filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chosen",
    [
        {"symbols": "SYM2"},
        {"symbols": ["SYM1", 3], "kinds": "bbo"},
        {"kinds": ["mbo"], "sides": "B"},
        {"symbols": ["SYM4"], "kinds": ["mbo", "bbo"], "sides": ["A", "N"]},
        {"symbols": []},
    ],
    ids=str,
)
def test_filters_pass_what_numpy_would_select(
    venue: Venue, lines: list[dict[str, Any]], chosen: dict[str, Any]
) -> None:
    with barewire.Feed.from_config(config(*lines)) as feed:
        # Before any symbol is announced.
        narrow = feed.reader(**chosen)
        begin = narrow.position
        send_day(venue, random_day(3000))
        everything = np.concatenate([batch.records for batch in feed])
        feed.stop()
        found = np.concatenate([np.empty(0, barewire.RECORD_DTYPE), *(batch.records for batch in narrow)])
        ids = dict(feed.symbols)
    everything = everything[everything["ring_sequence"] >= begin]
    kinds = {"mbo": 1, "bbo": 2, "status": 4}
    keep = np.ones(len(everything), np.bool_)
    if "symbols" in chosen:
        given = [chosen["symbols"]] if isinstance(chosen["symbols"], str) else chosen["symbols"]
        wanted = [number for number, symbol in ids.items() if symbol in given or number in given]
        assert len(wanted) == len(given)
        keep &= np.isin(everything["instrument_id"], wanted)
    if "kinds" in chosen:
        given = [chosen["kinds"]] if isinstance(chosen["kinds"], str) else chosen["kinds"]
        keep &= np.isin(everything["kind"], [kinds[name] for name in given])
    if "sides" in chosen:
        sides = everything.view(barewire.MBO_DTYPE)["side"]
        keep &= (everything["kind"] != 1) | np.isin(sides, [side.encode() for side in chosen["sides"]])
    keep |= (everything["kind"] == 3) | ((everything["kind"] == 4) & (everything["instrument_id"] == 0))
    assert found.tobytes() == everything[keep].tobytes()
    assert 0 < len(found) < len(everything)


def test_a_filtered_event_loop_sleeps_through_what_it_does_not_want(venue: Venue, lines: list[dict[str, Any]]) -> None:
    """And is not overrun by it, though it comes to many times what the ring holds."""

    async def main(feed: barewire.Feed) -> barewire.Batch:
        ring = feed.reader(symbols="LATE")
        waiting = asyncio.ensure_future(anext(aiter(ring)))
        for place in range(0, len(day), 200):
            venue.send(day[place : place + 200])
            await asyncio.sleep(0.004)
        venue.send([directory(77, "LATE"), add(77_000, "B", 1, 10_000, locate=77)])
        return await asyncio.wait_for(waiting, WAIT)

    day = random_day(12_000)
    small = config(*lines, ring={"capacity": 1024})
    with barewire.Feed.from_config(small) as feed:
        batch = asyncio.run(main(feed))
        venue.end()
        assert feed.stats.records > 4 * 1024
    assert batch.lost == 0
    assert {event.symbol for event in batch.events()} <= {"LATE", ""}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"kinds": ["quotes"]}, "kinds: expected some of mbo, bbo, gap, status, found 'quotes'"),
        ({"sides": "X"}, "sides: expected some of B, A, N, found 'X'"),
        ({"conflate": True, "kinds": ["mbo"]}, "conflate=True keeps best bids and offers: found kinds with 'mbo'"),
        ({"conflate": True, "sides": "B"}, "conflate=True keeps best bids and offers: found sides"),
        ({"symbols": b"AAPL"}, "symbols: expected a string, or several, found b'AAPL'"),
        ({"symbols": [b"AAPL"]}, "symbols: expected symbols such as 'AAPL', or instrument numbers, found b'AAPL'"),
        ({"symbols": 5}, "symbols: expected a string, or several, found 5"),
        ({"symbols": [1.5]}, "instrument numbers, found 1.5"),
        ({"symbols": [-1]}, "instrument numbers, found -1"),
        ({"kinds": "quotes"}, "kinds: expected some of mbo, bbo, gap, status, found 'quotes'"),
        ({"batch_records": "7"}, "batch_records '7': expected a number of records, 1 or more"),
    ],
)
def test_what_no_record_can_have_is_refused(lines: list[dict[str, Any]], chosen: dict[str, Any], message: str) -> None:
    with barewire.Feed.from_config(config(*lines)) as feed, pytest.raises(barewire.ConfigError, match=message):
        feed.reader(**chosen)


@pytest.mark.parametrize("chosen", [{}, {"kinds": ["mbo"], "sides": "B"}])
def test_what_a_callback_raised_before_is_not_lost(
    venue: Venue, lines: list[dict[str, Any]], chosen: dict[str, Any]
) -> None:
    """Records are read some hundred at a time; those behind the one that failed are for the next run, or read."""

    class Fails(Everything):
        def on_event(self, event: barewire.MboEvent) -> None:
            super().on_event(event)
            if len(self.events) in (3, 40):
                raise ValueError("as it says")

    with barewire.Feed.from_config(config(*lines)) as feed:
        failing, whole = feed.reader(**chosen), feed.reader(**chosen)
        send_day(venue, random_day(500))
        for _ in feed:
            pass
        feed.stop()
        fails, plain = Fails(), Everything()
        for _ in range(2):
            with pytest.raises(ValueError, match="as it says"):
                failing.run(fails)
        rest = np.concatenate([batch.records["ring_sequence"] for batch in failing])
        whole.run(plain)
    assert len(fails.events) == 40
    found = [*(event.ring_sequence for event in fails.events), *rest.tolist()]
    assert found == [event.ring_sequence for event in plain.events]


def test_what_a_callback_raised_is_told_though_another_thread_reads(venue: Venue, lines: list[dict[str, Any]]) -> None:
    """Then the records behind are that thread's affair; the error had been that one reader has one thread."""

    class Fails(barewire.Strategy):
        def on_event(self, event: barewire.MboEvent) -> None:  # noqa: ARG002
            reader.read(timeout=0)  # all that is there
            other.start()
            give_up = time.monotonic() + WAIT
            while time.monotonic() < give_up:
                try:
                    reader.read(timeout=0)
                except barewire.RingError:  # the other one waits
                    raise ValueError("as it says") from None
            pytest.fail("the other thread did not read")

    def reads() -> None:
        while not over.is_set():
            with suppress(barewire.RingError):  # the callback looks whether it does
                reader.read(timeout=WAIT)

    with barewire.Feed.from_config(config(*lines)) as feed:
        reader, over = feed.reader(), threading.Event()
        other = threading.Thread(target=reads)
        venue.send(random_day(100))
        until(lambda: feed.stats.records >= 100)
        try:
            with pytest.raises(ValueError, match="as it says"):
                reader.run(Fails(), duration=WAIT)
        finally:
            over.set()
            reader.stop()
            other.join(WAIT)
        assert not other.is_alive()


class Once(barewire.Strategy):
    """Stops at its first event."""

    events = 0

    def on_start(self, source: barewire.Feed | barewire.Replay | barewire.Ring) -> None:
        self.source = source

    def on_event(self, event: barewire.MboEvent) -> None:  # noqa: ARG002 (a callback has it)
        self.events += 1
        self.source.stop()


@pytest.mark.parametrize("seconds", [float("inf"), 1e30, 1e12, np.float32(60)])
def test_a_long_time_to_wait_is_no_error(venue: Venue, lines: list[dict[str, Any]], seconds: float) -> None:
    with barewire.Feed.from_config(config(*lines)) as feed:
        other = feed.reader()
        send_day(venue, small_day())
        strategy = Once()
        other.run(strategy, duration=seconds)
        assert strategy.events
        assert feed.read(timeout=seconds) is not None
        feed.stop()
        while feed.read(timeout=0) is not None:
            pass
        assert seconds < 1e12 or feed.read(timeout=float("inf")) is None, "the feed's end ends it"


@pytest.mark.parametrize("seconds", [float("nan"), "1", True])
def test_what_is_no_time_is_refused(lines: list[dict[str, Any]], seconds: Any) -> None:
    with barewire.Feed.from_config(config(*lines)) as feed:
        for call in (
            lambda: feed.read(timeout=seconds),
            lambda: feed.reader().read(timeout=seconds),
            lambda: feed.run(Once(), duration=seconds),
            lambda: barewire.align({"a": feed}).read(timeout=seconds),
        ):
            with pytest.raises(barewire.ConfigError, match="expected seconds, or None for ever"):
                call()


# --- conflation ----------------------------------------------------------------------------------


def test_the_latest_quotes_and_how_many_each_stands_for(venue: Venue, lines: list[dict[str, Any]]) -> None:
    with barewire.Feed.from_config(config(*lines)) as feed:
        slow = feed.reader(conflate=True, batch_records=16)
        begin = slow.position
        send_day(venue, random_day(3000))
        everything = np.concatenate([batch.bbo for batch in feed])
        tops = {number: feed.book(symbol).top() for number, symbol in feed.symbols.items()}
        feed.stop()
        batches = list(slow)
    everything = everything[everything["ring_sequence"] >= begin]
    rows = np.concatenate([batch.records for batch in batches])
    stands_for = np.concatenate([batch.updates for batch in batches if batch.updates is not None])
    assert len(stands_for) == len(rows)
    assert (np.diff(rows["ring_sequence"].astype(np.int64)) > 0).all()
    is_quote = rows["kind"] == 2
    assert int(stands_for[is_quote].sum()) == len(everything)
    assert (stands_for[~is_quote] == 1).all()
    assert is_quote.sum() < len(everything)
    # Every row is the record that was published, and the last of each instrument is its book.
    found = rows[is_quote].view(barewire.BBO_DTYPE)
    assert found.tobytes() == everything[np.isin(everything["ring_sequence"], found["ring_sequence"])].tobytes()
    for number in np.unique(everything["instrument_id"]).tolist():
        last = found[found["instrument_id"] == number][-1]
        for quote, price in zip(tops[number], (last["bid_price"], last["ask_price"]), strict=True):
            assert (barewire.UNDEF_PRICE if quote is None else quote.price) == price
    for batch in batches:
        assert (batch.lost, batch.stale is not None and len(batch.stale)) == (0, 0)
    del slow
    assert "barewire-conflate" not in threads()


def test_conflated_quotes_in_an_event_loop_and_a_strategy(venue: Venue, lines: list[dict[str, Any]]) -> None:
    class Last(barewire.Strategy):
        def __init__(self) -> None:
            self.quotes: dict[str, int] = {}

        def on_bbo(self, bbo: barewire.BboEvent) -> None:
            self.quotes[bbo.symbol] = bbo.bid_price

    async def main(feed: barewire.Feed) -> dict[str, int]:
        last: dict[str, int] = {}
        asyncio.get_running_loop().call_later(0.1, venue.send, small_day())
        asyncio.get_running_loop().call_later(0.3, venue.end)
        async for batch in feed.reader(conflate=True):
            for event in batch.events():
                if isinstance(event, barewire.BboEvent):
                    last[event.symbol] = event.bid_price
        return last

    strategy = Last()
    with barewire.Feed.from_config(config(*lines)) as feed:
        ring = feed.reader(conflate=True)
        stop_at_end(feed)
        looped = asyncio.run(main(feed))
        ring.run(strategy)
    assert strategy.quotes == looped != {}


# --- callbacks -----------------------------------------------------------------------------------


class Everything(barewire.Strategy):
    """Writes down every event."""

    def __init__(self) -> None:
        self.events: list[barewire.Event] = []

    def on_event(self, event: barewire.MboEvent) -> None:
        self.events.append(event)

    def on_bbo(self, bbo: barewire.BboEvent) -> None:
        self.events.append(bbo)

    def on_gap(self, gap: barewire.GapEvent) -> None:
        self.events.append(gap)

    def on_status(self, status: barewire.StatusEvent) -> None:
        self.events.append(status)


def test_callbacks_get_what_batches_hold(venue: Venue, lines: list[dict[str, Any]]) -> None:
    """Of a feed and of a ring, in a thread and in an event loop."""

    async def main(feed: barewire.Feed, ring: barewire.Ring) -> None:
        await asyncio.gather(feed.run_async(looped), ring.run_async(ringed))

    looped, ringed, threaded = Everything(), Everything(), Everything()
    with barewire.Feed.from_config(config(*lines)) as feed:
        ring, other, plain = feed.reader(), feed.reader(), feed.reader()
        running = threading.Thread(target=other.run, args=(threaded,))
        running.start()
        sending = threading.Timer(0.1, send_day, (venue, random_day(2000)))
        sending.start()
        stop_at_end(feed)
        asyncio.run(main(feed, ring))
        running.join(WAIT)
        sending.join(WAIT)
        expected = [event for batch in plain for event in batch.events()]
    assert len(expected) > 2000
    # The feed's own reader also had what came before the others were there.
    assert looped.events[-len(expected) :] == expected
    assert ringed.events == threaded.events == expected
    assert {type(event) for event in expected} >= {barewire.MboEvent, barewire.BboEvent, barewire.StatusEvent}
    assert [hash(event) for event in ringed.events] == [hash(event) for event in expected]


def test_only_what_is_overridden_is_decoded() -> None:
    class Unnamed(Symbols):
        def of(self, instrument_id: int) -> str:
            raise AssertionError(f"instrument {instrument_id} was looked up")

    class Gaps(barewire.Strategy):
        gaps = 0

        def on_gap(self, gap: barewire.GapEvent) -> None:
            self.gaps += gap.count

    records = np.zeros(3, barewire.GAP_DTYPE)
    records["kind"], records["instrument_id"], records["count"] = [1, 3, 2], [5, 0, 5], [0, 9, 0]
    strategy = Gaps()
    batch = barewire.Batch(records.view(barewire.RECORD_DTYPE), 0, Unnamed(lambda _: []))
    Dispatcher(strategy, batch.symbols, ["mbo", "bbo"]).batch(batch)
    assert strategy.gaps == 9


def test_a_name_that_comes_later_counts_from_then_on() -> None:
    class Named(barewire.Strategy):
        symbols = ("AAPL",)

        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_bbo(self, bbo: barewire.BboEvent) -> None:
            self.seen.append(bbo.symbol)

    announced: list[tuple[int, str]] = []
    symbols = Symbols(lambda first: announced[first:])
    records = np.zeros(1, barewire.BBO_DTYPE)
    records["kind"], records["instrument_id"] = 2, 7
    batch = barewire.Batch(records.view(barewire.RECORD_DTYPE), 0, symbols)
    strategy = Named()
    dispatcher = Dispatcher(strategy, symbols, ["bbo"])
    dispatcher.batch(batch)
    announced.append((7, "AAPL"))
    dispatcher.batch(batch)
    assert strategy.seen == ["AAPL"]


def test_stop_ends_a_reader_and_nobody_else(venue: Venue, lines: list[dict[str, Any]]) -> None:
    class First(Everything):
        def on_start(self, source: barewire.Feed | barewire.Replay | barewire.Ring) -> None:
            assert isinstance(source, barewire.Ring)
            self.ring = source

        def on_event(self, event: barewire.MboEvent) -> None:
            super().on_event(event)
            self.ring.stop()

    with barewire.Feed.from_config(config(*lines)) as feed:
        first, second = feed.reader(), feed.reader()
        waiting = threading.Thread(target=second.run, args=(Everything(),))
        waiting.start()
        threading.Timer(0.1, venue.send, (small_day(),)).start()
        strategy = First()
        first.run(strategy)
        assert strategy.events
        second.stop()
        waiting.join(WAIT)
        assert not waiting.is_alive()
        assert feed.running
        assert first.read(timeout=0) is None


# --- another process's ring ----------------------------------------------------------------------


def test_a_feed_that_starts_again_is_a_new_epoch(producer: Start, venue: Venue) -> None:
    start, name = producer
    process = start()
    ring = barewire.Ring.attach(name, symbols=["AAPL"], kinds=["bbo"])
    first = ring.epoch
    venue.send(small_day())
    with pytest.raises(barewire.ProducerGone) as gone:
        for _ in ring:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert gone.value.state == "dead"
    with pytest.raises(FileNotFoundError, match="not back"):
        ring.reattach()
    assert ring.epoch == first
    restarted = threading.Timer(0.2, start)
    restarted.start()
    ring.reattach(timeout=WAIT)
    restarted.join()
    assert ring.epoch > first
    assert (ring.position, ring.state, len(ring.symbols)) == (0, "alive", 0)
    # The same symbol under another number, which only the new directory knows.
    venue.next = 1
    venue.send([directory(9, "AAPL"), directory(1, "OTHER"), add(1, "B", 5, 10_000, locate=9)])
    venue.send([add(2, "B", 5, 20_000, locate=1)])
    venue.end()
    told = quotes(list(ring))
    assert [(symbol, bid) for _, _, symbol, bid, _ in told] == [("AAPL", 1_000_000_000)]
    assert ring.symbols[9] == "AAPL"


def test_a_forked_process_is_told_to_attach_a_reader_of_its_own(producer: Start, venue: Venue) -> None:
    """The threads that watch and conflate stay behind; their handles must not be waited for."""
    start, name = producer
    start()
    watched, latest = barewire._core.Ring.attach(name), barewire.Ring.attach(name, conflate=True)
    watched.watch_fd()
    child = os.fork()
    if child == 0:  # pragma: no cover (no report comes from there)
        status = 1
        try:
            latest.read(timeout=0)
        except barewire.RingError:
            status = 0
        del watched, latest
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    venue.send(small_day())
    batch = latest.read(timeout=WAIT)
    assert batch is not None


def test_whose_ring_it_is(producer: Start) -> None:
    start, name = producer
    start()
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert barewire.Ring.attach(name, owner=me).epoch == barewire.Ring.attach(name, owner=os.geteuid()).epoch
    with pytest.raises(barewire.RingError, match=f"belongs to user {os.geteuid()}, expected user 64001"):
        barewire.Ring.attach(name, owner=64001)
    for nobody in ("no-such-user", -1, 1 << 40, True):
        with pytest.raises(barewire.ConfigError, match=f"owner: expected a user of this machine, found {nobody!r}"):
            barewire.Ring.attach(name, owner=nobody)


# --- other libraries -----------------------------------------------------------------------------


def test_duckdb_reads_the_arrow_table(venue: Venue, lines: list[dict[str, Any]]) -> None:
    duckdb = pytest.importorskip("duckdb")
    with barewire.Feed.from_config(config(*lines)) as feed:
        send_day(venue, small_day())
        records = np.concatenate([batch.records for batch in feed])
        quotes = barewire.Batch(records, 0, feed.symbols).to_arrow("bbo")
    found = duckdb.sql("select symbol, count(*), max(bid_price) from quotes group by symbol order by symbol").fetchall()
    expected: dict[str, list[int | None]] = {}
    for row in quotes.to_pylist():
        expected.setdefault(row["symbol"], []).append(row["bid_price"])
    assert found == [
        (symbol, len(bids), max(bid for bid in bids if bid is not None)) for symbol, bids in sorted(expected.items())
    ]
