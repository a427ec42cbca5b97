"""Any stream of messages, sensible or hostile: the same best bids and offers and the same books as the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barewire import _core

from conftest import Cli
from reference.itch_reference import Bbo, Books, bbo_rows, encode, write_binaryfile

TICK = 100_000
UNDEFINED = 2**63 - 1
MIDNIGHT = 1_719_806_400_000_000_000
BOOK = {"instruments": 65_536, "orders": 1024, "levels": 1024}

# Few orders, instruments and prices, so that every message is likely to meet another one's order or level. The
# numbers at the edges of what a field holds are among them.
references = st.one_of(st.integers(1, 12), st.sampled_from([0, 2**63, 2**64 - 1]))
locates = st.one_of(st.integers(1, 3), st.sampled_from([0, 65_535]))
prices = st.one_of(st.integers(99_990, 100_010), st.sampled_from([0, 1, 2_000_000_000, 2**32 - 1]))
sizes = st.one_of(st.integers(0, 40), st.sampled_from([2**31, 2**32 - 1]))
sides = st.sampled_from("BBBBSSSSXb ")


@st.composite
def stream_message(draw: st.DrawFn) -> tuple[str, dict[str, int | str]]:
    """A message without its time."""
    kind = draw(st.sampled_from("AAAAFECXDDUUPRQ"))
    locate = draw(locates)
    fields: dict[str, int | str] = {"stock_locate": locate, "tracking_number": 0}
    if kind in "AF":
        fields |= {
            "order_reference_number": draw(references),
            "buy_sell_indicator": draw(sides),
            "shares": draw(sizes),
            "stock": f"S{locate}",
            "price": draw(prices),
            "attribution": "NSDQ",
        }
    elif kind in "EC":
        fields |= {
            "order_reference_number": draw(references),
            "executed_shares": draw(sizes),
            "match_number": 1,
            "printable": draw(st.sampled_from("YN")),
            "execution_price": draw(prices),
        }
    elif kind == "X":
        fields |= {"order_reference_number": draw(references), "canceled_shares": draw(sizes)}
    elif kind == "D":
        fields |= {"order_reference_number": draw(references)}
    elif kind == "U":
        fields |= {
            "original_order_reference_number": draw(references),
            "new_order_reference_number": draw(references),
            "shares": draw(sizes),
            "price": draw(prices),
        }
    elif kind == "P":
        fields |= {
            "order_reference_number": draw(references),
            "buy_sell_indicator": "B",
            "shares": draw(sizes),
            "stock": f"S{locate}",
            "price": draw(prices),
            "match_number": 2,
        }
    elif kind == "Q":
        fields |= {
            "cross_shares": draw(st.sampled_from([0, 2**64 - 1])),
            "stock": f"S{locate}",
            "cross_price": draw(prices),
            "match_number": 3,
            "cross_type": "O",
        }
    else:  # the directory, late or again
        blank = "market_category financial_status_indicator round_lots_only issue_classification issue_sub_type"
        blank += " authenticity short_sale_threshold_indicator ipo_flag luld_reference_price_tier etp_flag"
        fields |= dict.fromkeys([*blank.split(), "inverse_indicator"], "")
        fields |= {"stock": f"S{locate}", "round_lot_size": 100, "etp_leverage_factor": 0}
    return kind, fields


noise = st.one_of(st.binary(max_size=5), st.binary(min_size=36, max_size=36).map(lambda tail: b"A" + tail))
streams = st.lists(st.one_of(*[stream_message()] * 15, noise), max_size=80)


def as_bytes(stream: list[tuple[str, dict[str, int | str]] | bytes]) -> list[bytes]:
    """Messages a microsecond apart. Noise of length 0 would end the file and is left out."""
    out = []
    for index, item in enumerate(stream):
        if isinstance(item, bytes):
            out += [item] if item else []
        else:
            kind, fields = item
            out.append(encode(kind, fields | {"timestamp": 34_200_000_000_000 + index * 1_000}))
    return out


def record(bbo: Bbo) -> tuple[int, int, int, int]:
    """A best bid and offer as a record carries it, where sizes stop at the greatest number there is room for."""
    most = 2**32 - 1
    return (
        UNDEFINED if bbo.bid_price is None else bbo.bid_price * TICK,
        min(bbo.bid_size, most),
        UNDEFINED if bbo.ask_price is None else bbo.ask_price * TICK,
        min(bbo.ask_size, most),
    )


def field(name: str) -> tuple[type | str, int]:
    """numpy type and offset of a field of a ring record, from the core's own table."""
    row = next(row for row in _core.record_layouts()["bbo"] if row["name"] == name)
    sign = "i" if row["kind"] == "int_le" else "u"
    return f"<{sign}{row['len']}", row["offset"] + 8


NAMES = ["sequence", "ts_event", "instrument_id", "bid_price", "bid_size", "ask_price", "ask_size"]
BBO = np.dtype(
    {
        "names": NAMES,
        "formats": [field(name)[0] for name in NAMES],
        "offsets": [field(name)[1] for name in NAMES],
        "itemsize": 64,
    }
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=streams)
def test_books_are_the_reference_books(stream: list[tuple[str, dict[str, int | str]] | bytes], tmp_path: Path) -> None:
    messages = as_bytes(stream)
    path = tmp_path / "stream.bin"
    path.write_bytes(write_binaryfile(messages))

    books = Books()
    wanted = list(bbo_rows(iter(messages), books))

    replay = _core.Replay(
        str(path), protocol="itch-5.0", format="binaryfile", midnight_ns=MIDNIGHT, records=["bbo"], book=BOOK
    )
    buffer, found = np.empty(64, BBO), []
    while count := replay.read_into(buffer.view(np.uint8)):
        found += buffer[:count].tolist()

    symbols = dict(replay.directory())
    assert [(seq, ts - MIDNIGHT, symbols[id_], *bbo) for seq, ts, id_, *bbo in found] == [
        (row.sequence, row.timestamp, row.symbol, *record(row.bbo)) for row in wanted
    ]

    order = np.dtype([("order_id", "<u8"), ("price", "<i8"), ("size", "<u4"), ("side", "S1"), ("zero", "V3")])
    for locate in books.symbols:
        left = [
            (reference, resting.price * TICK, resting.shares, b"A" if side == "S" else b"B")
            for side in "BS"
            for reference, resting in books.side(locate, side)
        ]
        orders = np.frombuffer(replay.orders(locate), order)
        assert orders[["order_id", "price", "size", "side"]].tolist() == left

    counted = dict(replay.stats())
    assert counted["messages"] == len(messages)


@pytest.mark.parametrize("records", ["bbo", "mbo"])
def test_the_formats_hold_the_same_rows(records: str, barewire: Cli, tmp_path: Path) -> None:
    """CSV, JSON lines and Parquet of one replay, column for column; Parquet has two more."""
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    stream = tmp_path / "stream.bin"
    barewire("sim", "--no-send", "--binaryfile", stream, "--seed", "7", "--instruments", "20", "--messages", "5000")
    tables: dict[str, pyarrow.Table] = {}
    for suffix in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"out.{suffix}"
        barewire(
            "replay", stream, "--protocol", "itch-5.0", "--date", "2024-07-01", "--records", records, "--output", out
        )
        match suffix:
            case "csv":
                tables[suffix] = pyarrow.csv.read_csv(out)
            case "jsonl":
                tables[suffix] = pyarrow.json.read_json(out)
            case _:
                tables[suffix] = pyarrow.parquet.read_table(out)
    columns = tables["csv"].column_names
    assert tables["jsonl"].column_names == columns
    assert tables["parquet"].column_names == [*columns, "ts_recv", "flags"]
    for column in columns:
        values = [[str(value) for value in tables[suffix][column].to_pylist()] for suffix in tables]
        assert values[0] == values[1] == values[2], column
        assert len(values[0]) > 100
