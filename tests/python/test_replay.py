"""Files through the engine, from Python."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import os
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import barewire
from barewire import _core
from barewire._cli.sim import simulator_config

from .venue import MIDNIGHT_2020_01_30, OPENING, SMALL_DAY_BBO, binaryfile, random_day, small_day, write_binaryfile


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_binaryfile(tmp_path_factory.mktemp("small") / "small.bin", small_day())


def quotes(replay: barewire.Replay) -> list[tuple[object, ...]]:
    """Best prices as SMALL_DAY_BBO has them."""

    def dollars(price: int) -> float | None:
        return None if price == barewire.UNDEF_PRICE else price / 1e9

    def one(event: barewire.BboEvent) -> tuple[object, ...]:
        bid, ask = dollars(event.bid_price), dollars(event.ask_price)
        sizes = (event.bid_size if bid else None, event.ask_size if ask else None)
        after = event.ts_event - MIDNIGHT_2020_01_30 - OPENING
        return (event.sequence, after, event.symbol, bid, sizes[0], ask, sizes[1])

    events = [event for batch in replay for event in batch.events()]
    return [one(event) for event in events if isinstance(event, barewire.BboEvent)]


def open_as(how: str, path: Path) -> Any:
    """The same file in every form that `replay` takes."""
    if how == "str":
        return str(path)
    if how == "path":
        return path
    if how == "descriptor":
        return os.open(path, os.O_RDONLY)
    if how == "file":
        return path.open("rb")
    if how == "gzip":
        packed = path.with_suffix(".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        return packed
    if how == "memory":
        return io.BytesIO(path.read_bytes())
    assert how == "pipe"
    read, write = os.pipe()

    def fill() -> None:
        with open(write, "wb") as file:
            file.write(path.read_bytes())

    threading.Thread(target=fill, daemon=True).start()
    return read


@pytest.mark.parametrize("how", ["str", "path", "descriptor", "file", "gzip", "memory", "pipe"])
def test_every_kind_of_source_gives_the_same(small: Path, how: str) -> None:
    source = open_as(how, small)
    assert quotes(barewire.replay(source, date="2020-01-30", records="bbo")) == SMALL_DAY_BBO
    if isinstance(source, int):
        os.close(source)
    elif hasattr(source, "close"):
        source.close()


def test_a_file_that_was_read_from_goes_on_where_its_user_is(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"HEAD" + binaryfile(small_day()))
    with path.open("rb") as file:
        assert file.read(4) == b"HEAD"
        replay = barewire.replay(file, date="2020-01-30", records="bbo")
        assert len(quotes(replay)) == len(SMALL_DAY_BBO)


def test_where_the_date_comes_from(small: Path, tmp_path: Path) -> None:
    named = write_binaryfile(tmp_path / "01302020.NASDAQ_ITCH50", small_day())
    by_name = barewire.replay(named)
    assert by_name.date == dt.date(2020, 1, 30)
    assert by_name.warnings == ["date 2020-01-30 taken from the file's name; give the trading day if it is another"]
    given = barewire.replay(small, date=dt.date(2020, 1, 30))
    assert given.warnings == []
    unknown = barewire.replay(small)
    assert unknown.date is None
    assert "ts_event counts from midnight" in unknown.warnings[0]
    times = [np.concatenate([batch.records["ts_event"] for batch in one]) for one in (by_name, given, unknown)]
    assert times[0].tolist() == times[1].tolist() == (times[2] + MIDNIGHT_2020_01_30).tolist()


def test_the_date_of_a_capture_is_its_packets(captures: Path) -> None:
    replay = barewire.replay(captures / "itch50/Nasdaq.Equities.TotalView.Itch.v5.0/Multiple.Packets.pcap")
    assert replay.date == dt.date(2023, 8, 22)
    assert replay.format == "pcap"
    batch = next(iter(replay))
    # ts_event and ts_recv are clocks of two machines, an instant apart.
    assert np.abs(batch.mbo["ts_event"].astype(np.int64) - batch.mbo["ts_recv"].astype(np.int64)).max() < 10**9


@pytest.mark.parametrize("timestamps", ["metamako", "auto"])
def test_receive_times_of_a_capture_switch(captures: Path, timestamps: str) -> None:
    path = captures / "trailers/metamako_trailer.pcap"
    if not path.exists():
        pytest.skip(f"no {path}")
    # Name look-ups, 73 of 111 frames, which are no feed; their times are read before that shows.
    replay = barewire.replay(path, timestamps=timestamps)
    assert not list(replay)
    assert replay.stats.switch_times == 73
    assert replay.stats.switch_times_missing == replay.stats.switch_times_implausible == 0
    assert replay.stats.last_packet_time == 1454635887423069000
    assert not any("time" in warning for warning in replay.warnings)


def with_trailers(capture: bytes, ahead_ns: int) -> bytes:
    """A little-endian pcap with a Metamako trailer, without FCS, behind every second frame."""
    unit = {0xA1B23C4D: 1, 0xA1B2C3D4: 1000}[struct.unpack_from("<I", capture)[0]]
    out, at, number = [capture[:24]], 24, 0
    while at < len(capture):
        seconds, fraction, length, _ = struct.unpack_from("<IIII", capture, at)
        frame = capture[at + 16 : at + 16 + length]
        at += 16 + length
        ts = seconds * 10**9 + fraction * unit
        if number % 2 == 0:
            frame += struct.pack(">IIIBHB", 0, *divmod(ts + ahead_ns, 10**9), 1, 7, 3)
        out.append(struct.pack("<IIII", seconds, fraction, len(frame), len(frame)) + frame)
        number += 1
    return b"".join(out)


def test_receive_times_are_the_switchs_or_else_the_captures(tmp_path: Path) -> None:
    plain, switched = tmp_path / "plain.pcap", tmp_path / "switched.pcap"
    _core.Simulator(simulator_config(messages=400, instruments=20, live_orders=64, pcap=str(plain))).run()
    switched.write_bytes(with_trailers(plain.read_bytes(), -12_345))

    def ts_recv(path: Path, timestamps: str) -> tuple[np.ndarray, barewire.Replay]:
        replay = barewire.replay(path, timestamps=timestamps, date="2020-01-30")
        return np.concatenate([batch.records["ts_recv"] for batch in replay]), replay

    own, _ = ts_recv(plain, "capture")
    same, _ = ts_recv(switched, "capture")
    assert same.tolist() == own.tolist()
    for timestamps in ("metamako", "auto"):
        times, replay = ts_recv(switched, timestamps)
        assert set((own - times).tolist()) == {0, 12_345}
        found, missing = replay.stats.switch_times, replay.stats.switch_times_missing
        assert found - missing in (0, 1)
        told = "metamako" if timestamps == "metamako" else "switch's"
        expected = f"{missing} of {found + missing} packets have no {told} time; theirs is the capture's own"
        assert expected in replay.warnings
    times, replay = ts_recv(switched, "exablaze")
    assert times.tolist() == own.tolist()
    assert replay.stats.switch_times == 0
    assert f"{found} of {found + missing} packets have no plausible exablaze time; theirs is the capture's own" in (
        replay.warnings
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"date": "30.1.2020"}, "date '30.1.2020': expected a calendar date as YYYY-MM-DD"),
        ({"records": "mbp"}, r"records \['mbp'\]: expected 'mbo' or 'bbo', or both"),
        ({"records": []}, r"records \[\]: expected"),
        ({"pace": "fast"}, "pace 'fast': expected 'max', 'original' or a number above 0"),
        ({"pace": 0}, "pace 0: expected"),
        ({"pace": float("nan")}, "pace nan: expected"),
        ({"format": "cap"}, "format 'cap': expected one of: pcap, pcapng, binaryfile"),
        ({"group": "x"}, "group 'x': expected an IPv4 address"),
        (
            {"timestamps": "arista"},
            "timestamps 'arista': expected one of: capture, metamako, exablaze, arista-7280, auto",
        ),
    ],
)
def test_wrong_arguments_are_named(small: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(barewire.ConfigError, match=message):
        barewire.replay(small, **options)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        barewire.replay(tmp_path / "no")
    with pytest.raises(OSError, match="directory"):
        barewire.replay(tmp_path)
    text = tmp_path / "text.csv"
    text.write_text("time,price\n1,2\n" * 100)
    with pytest.raises(barewire.FormatError, match="expected"):
        barewire.replay(text)
    with pytest.raises(barewire.ProtocolError, match=r"unknown protocol 'fix'; expected one of: itch-5\.0"):
        barewire.replay(text, protocol="fix")


def test_a_truncated_file_gives_what_is_whole_and_says_what_is_cut(tmp_path: Path) -> None:
    whole = binaryfile(small_day())
    path = tmp_path / "20200130.bin"
    path.write_bytes(whole[: len(whole) - 10])  # in the middle of the last message
    replay = barewire.replay(path, date="2020-01-30", records="bbo")
    assert quotes(replay) == SMALL_DAY_BBO[:-1]
    (warning,) = replay.warnings
    assert "cut" in warning or "truncated" in warning


def test_symbols_choose_instruments(small: Path) -> None:
    replay = barewire.replay(small, date="2020-01-30", records="bbo", symbols=["MSFT"])
    assert quotes(replay) == [row for row in SMALL_DAY_BBO if row[2] == "MSFT"]
    assert replay.stats.messages_filtered > 0
    with pytest.raises(barewire.UnknownSymbolError):
        replay.book("AAPK")


def test_symbols_that_are_not_there_are_told(small: Path) -> None:
    replay = barewire.replay(small, date="2020-01-30", symbols=["MSFT", "MSTF"])
    assert replay.warnings == []
    for _ in replay:
        pass
    assert replay.warnings == ["no instrument 'MSTF' in this file"]


def test_statistics_sum_up(small: Path) -> None:
    replay = barewire.replay(small)
    for _ in replay:
        pass
    counters = replay.stats.as_dict()
    assert counters["messages"] == len(small_day())
    names = list(counters)
    parts = names[names.index("messages_duplicate") : names.index("book_out_of_capacity") + 1]
    assert counters["messages"] == sum(counters[name] for name in parts)
    assert [name for name, _ in barewire.counters()] == list(counters)


def test_books_and_depth(small: Path) -> None:
    replay = barewire.replay(small)
    for _ in replay:
        pass
    book = replay.book("AAPL")
    assert book.bid is None
    assert book.ask == (101_000_000_000, 30)
    bids, asks = book.depth()
    assert (len(bids), asks.tolist()) == (0, [(101_000_000_000, 30, 1)])
    assert book.orders().tolist() == [(11, 101_000_000_000, 30, b"A")]
    assert "30 @ 101.0000" in repr(book)
    with pytest.raises(ValueError, match="expected 1 or more"):
        book.depth(0)
    with pytest.raises(barewire.UnknownSymbolError, match="did you mean AAPL"):
        replay.book("AAPLE")


class BookAtEachQuote(barewire.Strategy):
    """Compares the book with the quote that has just come."""

    def __init__(self) -> None:
        self.seen = self.equal = 0

    def on_start(self, source: barewire.Feed | barewire.Replay | barewire.Ring) -> None:
        self.source = source

    def on_bbo(self, bbo: barewire.BboEvent) -> None:
        assert not isinstance(self.source, barewire.Ring)
        top = self.source.book(bbo.symbol).top()
        bid = None if bbo.bid_price == barewire.UNDEF_PRICE else (bbo.bid_price, bbo.bid_size)
        ask = None if bbo.ask_price == barewire.UNDEF_PRICE else (bbo.ask_price, bbo.ask_size)
        self.seen += 1
        self.equal += top == (bid, ask)


def test_a_strategy_sees_the_book_of_its_event_and_not_of_the_future(tmp_path: Path) -> None:
    path = write_binaryfile(tmp_path / "20200130.bin", random_day(6000))
    strategy = BookAtEachQuote()
    barewire.replay(path).run(strategy)
    assert strategy.equal == strategy.seen > 100
    hasty = BookAtEachQuote()
    barewire.replay(path).run(hasty, batch_messages=None)
    assert hasty.seen == strategy.seen
    assert hasty.equal < hasty.seen  # as documented: the book is ahead of the events of a batch


def test_stop_ends_a_loop(tmp_path: Path) -> None:
    path = write_binaryfile(tmp_path / "20200130.bin", random_day(2000))
    replay = barewire.replay(path, batch_records=16)
    batches = 0
    for _ in replay:
        batches += 1
        replay.stop()
    assert batches == 1


def test_original_pace_takes_the_time_that_it_took(tmp_path: Path) -> None:
    from .venue import add, directory

    path = write_binaryfile(tmp_path / "20200130.bin", [directory(1, "AAPL"), add(1, "B", 1, 10_000)])
    message_gap = OPENING  # from the directory at 1 ns to the order at 09:30
    replay = barewire.replay(path, pace=message_gap / 0.2e9)  # 9.5 hours in 0.2 s
    import time

    begun = time.monotonic()
    assert sum(len(batch) for batch in replay) > 0
    assert time.monotonic() - begun > 0.15


def test_the_digest_tells_books_apart(small: Path, tmp_path: Path) -> None:
    def digest(path: Path) -> str:
        replay = barewire.replay(path)
        for _ in replay:
            pass
        return replay.digest()

    assert digest(small) == digest(small)
    assert digest(small) != digest(write_binaryfile(tmp_path / "other.bin", small_day()[:-1]))
