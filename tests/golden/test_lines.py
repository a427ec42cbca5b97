"""One stream on two lines, cut into packets differently, packets lost: what is delivered, in which order, and the gaps.

What is missing is waited for, two milliseconds by default. Two models, each simple because the packets of a capture
come either all within that time or each after it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
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


class Told(NamedTuple):
    """What a feed tells: the numbers of the messages delivered, and (first, count) of each gap, both in order."""

    delivered: list[int]
    gaps: list[tuple[int, int]]


def patient(packets: list[Packet]) -> Told:
    """Everything comes in time: what any packet brought is delivered in the order of its numbers.

    Numbers below those of the very first packet are before the feed joined, and lost to it even if they come.
    """
    joined = packets[0].first
    end = max(packet.first + packet.size for packet in packets)
    came = {packet.first + index for packet in packets for index in range(packet.size)}
    gaps = [(1, joined - 1)] if joined > 1 else []
    number = joined
    while number < end:
        after = next((n for n in range(number, end) if n in came), end)
        if after > number:
            gaps.append((number, after - number))
        number = after + 1
    return Told(sorted(n for n in came if n >= joined), gaps)


def impatient(packets: list[Packet]) -> Told:
    """Every packet comes after the wait for what the one before it showed missing.

    It may still bring that itself, however late; what it does not bring is given up, up to the next message that came.
    A message that comes in its turn shows that what is behind it has not been missing for long.
    """
    wanted = horizon = packets[0].first
    told = Told([], [(1, wanted - 1)] if wanted > 1 else [])
    held: dict[int, int] = {}  # number: the packet that brought it
    noticed = 0

    def next_hole() -> None:
        nonlocal noticed
        behind = min((number for number in held if number >= wanted), default=None)
        if horizon > wanted and behind is not None:
            noticed = held[behind]

    def row() -> None:
        nonlocal wanted
        if wanted in held:
            while wanted in held:
                told.delivered.append(wanted)
                wanted += 1
            next_hole()

    def give_up() -> None:
        nonlocal wanted
        behind = min((number for number in held if number >= wanted), default=horizon)
        told.gaps.append((wanted, behind - wanted))
        wanted = behind
        next_hole()
        row()

    for index, packet in enumerate(packets):
        end = packet.first + packet.size
        if packet.first > wanted:
            if horizon <= wanted:
                noticed = index
            horizon = max(horizon, end)
            for number in range(packet.first, end):
                held.setdefault(number, index)
        elif end > wanted:
            told.delivered.extend(range(wanted, end))
            wanted = end
            if horizon > end:
                noticed = index
            horizon = max(horizon, end)
            row()
        while horizon > wanted and noticed < index:
            give_up()
    while horizon > wanted:
        give_up()
    return told


@pytest.mark.parametrize(("model", "apart_ns"), [(patient, 1), (impatient, 3_000_000)], ids=["patient", "impatient"])
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrived=arrivals(), different_groups=st.booleans())
def test_what_is_delivered(
    arrived: tuple[int, list[Packet]],
    different_groups: bool,
    model: Callable[[list[Packet]], Told],
    apart_ns: int,
    tmp_path: Path,
) -> None:
    length, packets = arrived
    assume(packets)
    messages = stream(length)
    frames = []
    for index, packet in enumerate(packets):
        content = messages[packet.first - 1 : packet.first - 1 + packet.size]
        # A feed that hears two lines waits for the slower one; the impatient model has one.
        group = GROUPS[packet.line if different_groups and model is patient else 0]
        payload = mold_packet(b"LINES00001", packet.first, content)
        frames.append((MIDNIGHT + 34_200_000_000_000 + index * apart_ns, frame(payload, group=group)))
    path = tmp_path / "lines.pcap"
    path.write_bytes(write_pcap(frames))
    told = model(packets)

    replay = _core.Replay(str(path), protocol="itch-5.0", midnight_ns=MIDNIGHT, records=["mbo"], book=BOOK)
    buffer, found = np.empty(4096 * 64, np.uint8), []
    while count := replay.read_into(buffer):
        found.append(buffer[: count * 64].copy())
    records = np.concatenate(found).view(HEAD) if found else np.empty(0, HEAD)

    adds = records[records["kind"] == 1]
    assert adds["sequence"].tolist() == told.delivered == adds["order_id"].tolist()
    lost = records[records["kind"] == 3]
    # A gap's count stands where an order's number does.
    assert [(row["sequence"], row["order_id"]) for row in lost] == told.gaps
    stale = [bool(row["flags"] & 4) for row in adds]
    assert stale == [any(first < number for first, _ in told.gaps) for number in told.delivered]
    # Each gap is told before what comes behind it.
    numbers = records["sequence"].tolist()
    assert numbers == sorted(numbers)

    stats = dict(replay.stats())
    assert stats["packets"] == len(packets)
    assert stats["messages"] == sum(packet.size for packet in packets)
    assert stats["messages_book"] == len(told.delivered)
    assert stats["messages_duplicate"] == stats["messages"] - len(told.delivered)
    assert (stats["gaps"], stats["messages_missing"]) == (len(told.gaps), sum(count for _, count in told.gaps))
    assert stats["packets_heartbeat"] == sum(packet.size == 0 for packet in packets)
    # As the documentation says: every packet and every message is in exactly one counter.
    names = list(stats)
    for total, first, last in (
        ("packets", "packets_delivered", "packets_refused"),
        ("messages", "messages_duplicate", "book_out_of_capacity"),
    ):
        assert stats[total] == sum(stats[name] for name in names[names.index(first) : names.index(last) + 1])


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
