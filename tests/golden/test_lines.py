"""One stream on two lines, cut into packets differently, packets lost: first copies, gaps and books as counted by hand.

The model of this test keeps one number, the next message wanted: what is below it was seen, what is above it shows a
gap.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barewire import _core

from reference.itch_reference import encode
from reference.pcap_reference import frame, mold_packet, write_pcap

MIDNIGHT = 1_719_806_400_000_000_000
GROUPS = ("233.54.12.111", "233.49.196.111")
BOOK = {"instruments": 1024, "orders": 1024, "levels": 1024}


class Packet(NamedTuple):
    line: int
    first: int
    size: int  # messages; 0: a heartbeat


def stream(length: int) -> list[bytes]:
    """Adds of ever better prices on both sides: no two messages can be taken for each other."""
    head: dict[str, int | str] = {"stock_locate": 1, "tracking_number": 0, "stock": "LINES"}
    return [
        encode(
            "A",
            head
            | {
                "timestamp": 34_200_000_000_000 + number,
                "order_reference_number": number,
                "buy_sell_indicator": "BS"[number % 2],
                "shares": number,
                "price": 100_000 + number * (-1) ** number,
            },
        )
        for number in range(1, length + 1)
    ]


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[int, list[Packet]]:
    """How long the stream is, and what arrives, in that order."""
    length = draw(st.integers(1, 40))
    lines: list[list[Packet]] = []
    for line in range(2):
        edges = [1, *sorted(draw(st.sets(st.integers(2, length), max_size=12)) if length > 1 else ()), length + 1]
        packets = [Packet(line, first, end - first) for first, end in pairwise(edges)]
        for index in sorted(draw(st.sets(st.integers(0, len(packets)), max_size=3)), reverse=True):
            packets.insert(index, Packet(line, edges[index], 0))
        lost = draw(st.sets(st.integers(0, len(packets) - 1), max_size=len(packets) // 2))
        lines.append([packet for index, packet in enumerate(packets) if index not in lost])
    merged = []
    while any(lines):
        line = draw(st.integers(0, 1)) if all(lines) else int(not lines[0])
        merged.append(lines[line].pop(0))
    return length, merged


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrived=arrivals(), different_lines=st.booleans())
def test_first_copies_and_gaps(arrived: tuple[int, list[Packet]], different_lines: bool, tmp_path: Path) -> None:
    length, packets = arrived
    messages = stream(length)
    frames = []
    for index, packet in enumerate(packets):
        content = messages[packet.first - 1 : packet.first - 1 + packet.size]
        group = GROUPS[packet.line if different_lines else 0]
        payload = mold_packet(b"LINES00001", packet.first, content)
        frames.append((MIDNIGHT + 34_200_000_000_000 + index, frame(payload, group=group)))
    path = tmp_path / "lines.pcap"
    path.write_bytes(write_pcap(frames))

    wanted = 1
    delivered: list[int] = []
    gaps: list[tuple[int, int]] = []
    for packet in packets:
        if packet.first > wanted:
            gaps.append((wanted, packet.first - wanted))
            wanted = packet.first
        delivered += range(wanted, packet.first + packet.size)
        wanted = max(wanted, packet.first + packet.size)

    replay = _core.Replay(str(path), protocol="itch-5.0", midnight_ns=MIDNIGHT, records=["mbo"], book=BOOK)
    buffer, found = np.empty(4096 * 64, np.uint8), []
    while count := replay.read_into(buffer):
        found.append(buffer[: count * 64].copy())
    records = np.concatenate(found).view(HEAD) if found else np.empty(0, HEAD)

    adds = records[records["kind"] == 1]
    assert adds["sequence"].tolist() == delivered == adds["order_id"].tolist()
    lost = records[records["kind"] == 3]
    assert [
        (row["sequence"], row["order_id"]) for row in lost
    ] == gaps  # a gap's count stands where an order's number does
    stale = [bool(row["flags"] & 4) for row in adds]
    assert stale == [any(first < row for first, _ in gaps) for row in adds["sequence"].tolist()]

    stats = dict(replay.stats())
    assert stats["packets"] == len(packets)
    assert stats["messages"] == sum(packet.size for packet in packets)
    assert stats["messages_book"] == len(delivered)
    assert stats["messages_duplicate"] == stats["messages"] - len(delivered)
    assert (stats["gaps"], stats["messages_missing"]) == (len(gaps), sum(count for _, count in gaps))
    assert stats["packets_heartbeat"] == sum(packet.size == 0 for packet in packets)


HEAD = np.dtype(
    {
        "names": ["sequence", "kind", "flags", "order_id"],
        "formats": ["<u8", "u1", "u1", "<u8"],
        "offsets": [24, 37, 38, 40],
        "itemsize": 64,
    }
)


def test_the_offsets_of_this_test_are_the_core_s() -> None:
    for kind, names in (
        ("mbo", ("sequence", "kind", "flags", "order_id")),
        ("gap", ("sequence", "kind", "flags", "count")),
    ):
        offsets = {row["name"]: row["offset"] + 8 for row in _core.record_layouts()[kind]}
        assert HEAD.fields is not None
        assert [offsets[name] for name in names] == [place[1] for place in HEAD.fields.values()]
