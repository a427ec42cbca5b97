"""Writes the captures of ``cases/`` and what they must decode to.

``python tests/golden/make_cases.py`` from the repository; ``test_cases.py`` checks that the files are what this script
makes, and that barewire reads them so. Each capture is built here by hand, byte by byte through the reference encoder;
nothing in it was recorded. ``NAME.inspect.jsonl`` is what ``inspect --json`` must print, ``NAME.bbo.csv`` what
``replay --records bbo`` must write.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reference.itch_reference import LAYOUTS, Books, NotItch, bbo_rows, decode, encode
from reference.pcap_reference import frame, mold_packet, write_pcap

CASES = Path(__file__).parent / "cases"
DATE = "2024-07-01"  # the trading day of every case
MIDNIGHT = 1_719_806_400_000_000_000  # its beginning in New York (UTC-4)
OPEN = 34_200_000_000_000  # 09:30, ns since midnight
SESSION = b"CASE000001"


class Case(NamedTuple):
    """A capture, the messages in it as they stand there, and those that a feed delivers."""

    name: str
    capture: bytes
    seen: list[tuple[int, int, bytes]]  # ts_recv, sequence, message
    delivered: list[tuple[int, bytes]]  # sequence, message; ascending, each once


def message(kind: str, at: int = OPEN, locate: int = 1, **fields: int | str) -> bytes:
    """A message whose fields are zero or blank where not said."""
    values: dict[str, int | str] = {field.name: "" if field.is_text else 0 for field in LAYOUTS[kind].fields}
    values |= {"timestamp": at, ("locate_code" if kind == "Y" else "stock_locate"): locate}
    return encode(kind, values | fields)


def add(reference: int, side: str, shares: int, price: int, at: int = OPEN, locate: int = 1) -> bytes:
    """An ``A`` for the stock CASE1, CASE2, ..."""
    return message(
        "A",
        at,
        locate,
        order_reference_number=reference,
        buy_sell_indicator=side,
        shares=shares,
        stock=f"CASE{locate}",
        price=price,
    )


def case(name: str, packets: list[tuple[bytes, bytes]], **options: object) -> Case:
    """A capture of (mold packet, its frame), a microsecond apart from the open on."""
    from reference.pcap_reference import read_mold

    frames, seen = [], []
    for index, (payload, content) in enumerate(packets):
        ts_recv = MIDNIGHT + OPEN + index * 1_000
        frames.append((ts_recv, content))
        if payload:
            seen += [(ts_recv, sequence, raw) for _, sequence, raw in read_mold(payload)]
    delivered = {sequence: raw for _, sequence, raw in reversed(seen)}
    return Case(name, write_pcap(frames, **options), seen, sorted(delivered.items()))  # type: ignore[arg-type]


def plain(payload: bytes, **options: object) -> tuple[bytes, bytes]:
    """A packet and its frame."""
    return payload, frame(payload, **options)  # type: ignore[arg-type]


def unread(content: bytes) -> tuple[bytes, bytes]:
    """A frame that must be passed over."""
    return b"", content


def every_type() -> Case:
    """All 23 types: each number the greatest its field holds, each text as long as its field."""
    packets = []
    for index, (kind, layout) in enumerate(sorted(LAYOUTS.items())):
        fields: dict[str, int | str] = {
            field.name: "ABCDEFGH"[: field.length] if field.is_text else 256**field.length - 1
            for field in layout.fields
        }
        # The end of a real day, so that no date arithmetic stands in the way.
        fields |= {"timestamp": 86_399_999_999_999, ("locate_code" if kind == "Y" else "stock_locate"): 65_535}
        packets.append(plain(mold_packet(SESSION, index + 1, [encode(kind, fields)])))
    return case("every_type", packets)


def book_rules() -> Case:
    """Each message that changes a book, on two stocks, in packets of several messages."""
    one = [
        message("R", stock="CASE1", round_lot_size=100),
        message("R", locate=2, stock="CASE2", round_lot_size=100),
        add(1, "B", 300, 100_000),
        add(2, "S", 200, 100_200),
        add(3, "B", 100, 100_000),
        add(4, "B", 50, 99_900),
        add(5, "S", 70, 200_000, locate=2),
    ]
    two = [
        message("E", order_reference_number=1, executed_shares=100, match_number=1),
        message(
            "C",
            order_reference_number=2,
            executed_shares=50,
            match_number=2,
            printable="N",
            execution_price=100_100,
        ),
        message("X", order_reference_number=3, canceled_shares=40),
        message("E", order_reference_number=1, executed_shares=200, match_number=3),
        message("D", order_reference_number=3),
        message("U", original_order_reference_number=4, new_order_reference_number=6, shares=500, price=100_100),
        message("P", buy_sell_indicator="B", shares=10, stock="CASE1", price=100_150, match_number=4),
        message("Q", cross_shares=2**40, stock="CASE1", cross_price=100_150, match_number=5, cross_type="O"),
        message("B", match_number=4),
        message(
            "F",
            order_reference_number=7,
            buy_sell_indicator="S",
            shares=1,
            stock="CASE1",
            price=100_150,
            attribution="NSDQ",
        ),
    ]
    # What contradicts the book: an unknown order, a second 6, and one share more than is left of 5.
    three = [
        message("D", order_reference_number=99),
        add(6, "S", 10, 90_000),
        message("E", locate=2, order_reference_number=5, executed_shares=71, match_number=6),
        message("D", order_reference_number=6),
        message("D", locate=2, order_reference_number=5),  # is gone already
    ]
    return case("book_rules", [plain(mold_packet(SESSION, *part)) for part in ((1, one), (8, two), (18, three))])


def two_lines() -> Case:
    """The same stream on two lines that cut it differently, a packet missing on each, in microseconds, big-endian."""
    stream = [message("R", stock="CASE1")] + [add(n, "BS"[n % 2], 100, 100_000 - n * (-1) ** n) for n in range(1, 8)]
    a = {"group": "233.54.12.111", "tags": ((0x8100, 141),)}
    b = {"group": "233.49.196.111", "tags": ((0x88A8, 7), (0x8100, 141))}
    packets = [
        plain(mold_packet(SESSION, 1, stream[0:2]), **a),
        plain(mold_packet(SESSION, 1, stream[0:3]), **b),
        # Line A loses 3 and 4, line B 7.
        plain(mold_packet(SESSION, 4, stream[3:6]), **b),
        plain(mold_packet(SESSION, 5, stream[4:7]), **a),
        plain(mold_packet(SESSION, 8, stream[7:8]), **b),
        plain(mold_packet(SESSION, 8, stream[7:8]), **a),
    ]
    return case("two_lines", packets, order=">", nanoseconds=False)


def session_edges() -> Case:
    """Heartbeats, an empty message that takes a number, a type nobody knows, and the end of the session."""
    packets = [
        plain(mold_packet(SESSION, 1, [])),
        plain(mold_packet(SESSION, 1, [add(1, "B", 10, 50_000), b"", b"?unknown", add(2, "S", 10, 50_100)])),
        plain(mold_packet(SESSION, 5, [])),
        plain(mold_packet(SESSION, 5, [message("S", event_code="C")])),
        plain(mold_packet(SESSION, 6, [], count=0xFFFF)),
        plain(mold_packet(SESSION, 6, [], count=0xFFFF)),
    ]
    return case("session_edges", packets)


def not_ours() -> Case:
    """Frames to pass over: a fragment, TCP, too short a payload; and IPv4 options, which are no reason to."""
    packet = mold_packet(SESSION, 1, [add(1, "B", 10, 50_000)])
    last = mold_packet(SESSION, 2, [add(2, "S", 10, 50_100)])
    packets = [
        unread(frame(packet, fragment=0x2000)),
        unread(frame(packet, protocol=6)),
        unread(frame(packet[:19])),
        plain(packet, ip_options=b"\x94\x04\x00\x00"),  # router alert
        unread(frame(last, fragment=0x0002)),
        plain(last),
    ]
    return case("not_ours", packets)


def all_cases() -> list[Case]:
    """Every case."""
    return [every_type(), book_rules(), two_lines(), session_edges(), not_ours()]


def expected_inspect(one: Case) -> list[dict[str, int | str]]:
    """An object for each message that decodes, in the order of the capture."""
    rows = []
    for ts_recv, sequence, raw in one.seen:
        try:
            decoded = decode(raw)
        except NotItch:
            continue
        head = {key: decoded.pop(key) for key in ("message", "type")}
        rows.append({**head, "sequence": sequence, "ts_recv": ts_recv, **decoded})
    return rows


def expected_bbo(one: Case) -> str:
    """The rows of ``replay --records bbo``."""
    sequences = [sequence for sequence, _ in one.delivered]
    lines = ["sequence,ts_event,symbol,bid_price,bid_size,ask_price,ask_size"]
    for row in bbo_rows((raw for _, raw in one.delivered), Books()):
        bid = (row.bbo.bid_price * 100_000, row.bbo.bid_size) if row.bbo.bid_price is not None else ("", "")
        ask = (row.bbo.ask_price * 100_000, row.bbo.ask_size) if row.bbo.ask_price is not None else ("", "")
        values = (sequences[row.sequence - 1], MIDNIGHT + row.timestamp, row.symbol, *bid, *ask)
        lines.append(",".join(map(str, values)))
    return "\n".join(lines) + "\n"


def files(one: Case) -> dict[str, bytes]:
    """What stands in the folder for a case."""
    rows = "".join(json.dumps(row) + "\n" for row in expected_inspect(one))
    return {
        f"{one.name}.pcap": one.capture,
        f"{one.name}.inspect.jsonl": rows.encode(),
        f"{one.name}.bbo.csv": expected_bbo(one).encode(),
    }


if __name__ == "__main__":
    CASES.mkdir(exist_ok=True)
    for one in all_cases():
        for name, content in files(one).items():
            (CASES / name).write_bytes(content)
            print(f"{name}: {len(content)} bytes")
