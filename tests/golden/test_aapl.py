"""10,000 real messages of one stock: the book after every one of them, and the best bid and offer.

``aapl-20200130-10k.bin`` is a BinaryFILE: the first 10,000 messages of AAPL of Nasdaq's feed of 30 January 2020.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from barewire import _core

from conftest import Cli, skip_or_fail
from reference.itch_reference import LAYOUTS, BboRow, Books, bbo_rows, best_of, decode, levels, read_binaryfile

DATE = "2020-01-30"
MIDNIGHT = 1_580_360_400_000_000_000  # of that day in New York (UTC-5)
LOCATE = 13
UNDEFINED = 2**63 - 1  # the price of an empty side
TICK = 100_000  # a price on the wire is 1e-4 dollars, a record's is 1e-9


@pytest.fixture(scope="module")
def path(captures: Path) -> Path:
    return captures / "itch50" / "aapl-20200130-10k.bin"


@pytest.fixture(scope="module")
def messages(path: Path) -> list[bytes]:
    return list(read_binaryfile(path.read_bytes()))


@pytest.fixture(scope="module")
def rows(messages: list[bytes]) -> list[BboRow]:
    return list(bbo_rows(iter(messages)))


def csv_line(row: BboRow) -> str:
    bid = (row.bbo.bid_price * TICK, row.bbo.bid_size) if row.bbo.bid_price is not None else ("", "")
    ask = (row.bbo.ask_price * TICK, row.bbo.ask_size) if row.bbo.ask_price is not None else ("", "")
    return ",".join(map(str, (row.sequence, MIDNIGHT + row.timestamp, row.symbol, *bid, *ask)))


def test_inspect(path: Path, messages: list[bytes], barewire: Cli) -> None:
    printed = barewire("inspect", path, "--protocol", "itch-5.0", "--json").stdout.splitlines()
    assert len(printed) == len(messages) == 10_000
    for sequence, (line, raw) in enumerate(zip(printed, messages, strict=True), start=1):
        row, wanted = json.loads(line), decode(raw)
        assert {key: row.get(key) for key in wanted} == wanted
        assert row["sequence"] == sequence
        fields = {field.name: row[field.name] for field in LAYOUTS[row["type"]].fields}
        assert _core.encode("itch-5.0", row["type"], fields) == raw


def test_the_book_after_every_message_is_the_reference_book(path: Path, messages: list[bytes]) -> None:
    # Room for little: listing the orders of an instrument scans all there is room for.
    room = {"instruments": 16, "orders": 1024, "levels": 1024}
    replay = _core.Replay(str(path), protocol="itch-5.0", midnight_ns=MIDNIGHT, records=["mbo", "bbo"], book=room)
    buffer = np.empty(4096 * 64, np.uint8)
    order = np.dtype([("order_id", "<u8"), ("price", "<i8"), ("size", "<u4"), ("side", "S1"), ("zero", "V3")])
    level = np.dtype([("price", "<i8"), ("size", "<u8"), ("orders", "<u4"), ("zero", "<u4")])
    reference = Books()
    for number, raw in enumerate(messages, start=1):
        replay.read_into(buffer, max_messages=1)
        reference.apply(decode(raw))

        bids, asks = reference.side(LOCATE, "B"), reference.side(LOCATE, "S")
        wanted = [
            (id_, o.price * TICK, o.shares, side) for side, orders in ((b"B", bids), (b"A", asks)) for id_, o in orders
        ]
        found = np.frombuffer(replay.orders(LOCATE), order)[["order_id", "price", "size", "side"]].tolist()
        assert found == wanted, f"message {number}: {raw!r}"

        sides = levels(bids), levels(asks)
        for packed, expected in zip(replay.depth(LOCATE, 1000), sides, strict=True):
            depth = np.frombuffer(packed, level)[["price", "size", "orders"]].tolist()
            assert depth == [(price * TICK, size, count) for price, size, count in expected], f"message {number}"

        bbo = best_of(*sides)
        assert replay.top(LOCATE) == (
            UNDEFINED if bbo.bid_price is None else bbo.bid_price * TICK,
            bbo.bid_size,
            UNDEFINED if bbo.ask_price is None else bbo.ask_price * TICK,
            bbo.ask_size,
        ), f"message {number}: {raw!r}"
    assert reference.refused == 0


def test_replay_writes_the_rows_of_the_reference(path: Path, rows: list[BboRow], barewire: Cli, tmp_path: Path) -> None:
    out = tmp_path / "bbo.csv"
    barewire("replay", path, "--protocol", "itch-5.0", "--date", DATE, "--records", "bbo", "--output", out)
    written = out.read_text().splitlines()
    assert written[0] == "sequence,ts_event,symbol,bid_price,bid_size,ask_price,ask_size"
    assert written[1:] == [csv_line(row) for row in rows]


def test_replay_writes_the_rows_of_an_independent_library(path: Path, barewire: Cli, tmp_path: Path) -> None:
    """itch-book, a C++ implementation on PyPI, writes the same best bids and offers, row for row.

    Its definitions differ in two places, of which this stream shows the first only:

    - it writes 0 for the price and size of an empty side, ours nothing;
    - its rows also tell the number of orders at the best price, and a change of that alone makes a row of its own. Here
      such a row does not occur: no message leaves the size at the best price as it was and changes the number of
      orders. Were there one, it would have to be left out, so the comparison drops rows that repeat the one before.

    Where the input contradicts itself they differ too (to it, a second order with a number that is in a book replaces
    the first; ours refuses the second). This stream does not.
    """
    try:
        import itch_book
    except ImportError:
        skip_or_fail("itch-book is not installed (it has no wheel for this platform)")
    feed = itch_book.open(str(path), date=datetime.date.fromisoformat(DATE), price_type="fixed")
    theirs: list[tuple[int, ...]] = []
    for batch in feed.batches(tables=("bbo",)):
        columns = ("seq", "ts_event", "bid_px", "bid_sz", "ask_px", "ask_sz")
        theirs += zip(*(batch.bbo[name].tolist() for name in columns), strict=True)
    lines = []
    before: tuple[int, ...] = (0, 0, 0, 0)
    for seq, ts_event, *bbo in theirs:
        if tuple(bbo) != before:
            before = tuple(bbo)
            bid_px, bid_sz, ask_px, ask_sz = bbo
            bid = (bid_px * TICK, bid_sz) if bid_sz else ("", "")
            ask = (ask_px * TICK, ask_sz) if ask_sz else ("", "")
            lines.append(",".join(map(str, (seq, ts_event, "AAPL", *bid, *ask))))

    out = tmp_path / "bbo.csv"
    barewire("replay", path, "--protocol", "itch-5.0", "--date", DATE, "--records", "bbo", "--output", out)
    assert out.read_text().splitlines()[1:] == lines


def test_the_order_events_alone_rebuild_the_book(path: Path, messages: list[bytes], barewire: Cli) -> None:
    """Adds, cancels and modifications of ``--records mbo``, applied by the book of its own definition."""
    done = barewire("replay", path, "--protocol", "itch-5.0", "--date", DATE, "--records", "mbo", "--output", "-")
    lines = done.stdout.splitlines()
    names = lines[0].split(",")
    left: Counter[int] = Counter()
    prices: dict[int, int] = {}
    for line in lines[1:]:
        row = dict(zip(names, line.split(","), strict=True))
        order, size = int(row["order_id"]), int(row["size"])
        if row["action"] == "A":
            left[order], prices[order] = size, int(row["price"])
        elif row["action"] == "C":
            left[order] -= size
        elif row["action"] == "M":
            left[order], prices[order] = size, int(row["price"])
    reference = Books()
    for raw in messages:
        reference.apply(decode(raw))
    wanted = {id_: (order.price * TICK, order.shares) for id_, order in reference.orders.items()}
    assert {id_: (prices[id_], size) for id_, size in left.items() if size} == wanted
