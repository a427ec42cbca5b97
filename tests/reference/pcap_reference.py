"""Packet captures with MoldUDP64 in them, read and written the slow way.

Classic pcap (libpcap's file format, either byte order, micro- or nanoseconds), Ethernet II with any number of 802.1Q
tags, IPv4, UDP, and MoldUDP64 1.00's downstream packet. The reader expects whole, well-formed packets, as the captures
it is used on have; the writer makes those and, from its parts, damaged ones.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import NamedTuple

ETHERNET = 1
VLAN_TAGS = (0x8100, 0x88A8)


class CapturedMessage(NamedTuple):
    """A message of a MoldUDP64 packet of a capture."""

    ts_recv: int  # ns since 1970, UTC
    session: bytes
    sequence: int
    message: bytes


def read_frames(capture: bytes) -> Iterator[tuple[int, bytes]]:
    """Time (ns since 1970) and bytes of every frame."""
    order = {0xD4: "<", 0x4D: "<", 0xA1: ">"}[capture[0]]
    magic, _, _, _, _, _, link = struct.unpack_from(order + "IHHiIII", capture)
    fraction = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}[magic]
    assert link == ETHERNET
    at = 24
    while at < len(capture):
        seconds, part, length, _ = struct.unpack_from(order + "IIII", capture, at)
        yield seconds * 1_000_000_000 + part * fraction, capture[at + 16 : at + 16 + length]
        at += 16 + length


def udp_payload(frame: bytes) -> bytes:
    """What the UDP datagram of a frame carries."""
    at = 12
    while int.from_bytes(frame[at : at + 2], "big") in VLAN_TAGS:
        at += 4
    assert frame[at : at + 2] == b"\x08\x00"
    ip = frame[at + 2 :]
    assert ip[0] >> 4 == 4 and ip[9] == 17
    udp = ip[(ip[0] & 15) * 4 :]
    return udp[8 : int.from_bytes(udp[4:6], "big")]


def read_mold(payload: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Session, sequence number and bytes of every message of a downstream packet."""
    session, sequence, count = struct.unpack_from(">10sQH", payload)
    at = 20
    for index in range(0 if count == 0xFFFF else count):
        length = int.from_bytes(payload[at : at + 2], "big")
        yield session, sequence + index, payload[at + 2 : at + 2 + length]
        at += 2 + length


def read_messages(capture: bytes) -> Iterator[CapturedMessage]:
    """Every message of a capture in which every packet is MoldUDP64."""
    for ts_recv, frame in read_frames(capture):
        for session, sequence, message in read_mold(udp_payload(frame)):
            yield CapturedMessage(ts_recv, session, sequence, message)


def mold_packet(session: bytes, sequence: int, messages: list[bytes], count: int | None = None) -> bytes:
    """A downstream packet; ``count`` says otherwise than how many messages there are (0xFFFF: end of session)."""
    head = struct.pack(">10sQH", session, sequence, len(messages) if count is None else count)
    return head + b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def frame(
    payload: bytes,
    *,
    group: str = "233.54.12.111",
    port: int = 26477,
    tags: tuple[tuple[int, int], ...] = (),
    ip_options: bytes = b"",
    fragment: int = 0,
    protocol: int = 17,
) -> bytes:
    """An Ethernet frame to a multicast group. ``tags``: (0x8100 or 0x88A8, VLAN id), the outer one first.

    ``fragment`` is the IPv4 flags-and-offset word; ``ip_options`` are whole words of four bytes.
    """
    to = ipaddress.IPv4Address(group)
    source = ipaddress.IPv4Address("192.0.2.7")
    udp = struct.pack(">HHH", 40000, port, 8 + len(payload))
    pseudo = source.packed + to.packed + struct.pack(">BBH", 0, protocol, 8 + len(payload))
    checksum = _checksum(pseudo + udp + b"\0\0" + payload) or 0xFFFF
    udp += struct.pack(">H", checksum) + payload
    words = 5 + len(ip_options) // 4
    length = words * 4 + len(udp)
    head = struct.pack(">BBHHHBB", 0x40 | words, 0, length, 1, fragment, 16, protocol)
    tail = source.packed + to.packed + ip_options
    ip = head + _checksum(head + b"\0\0" + tail).to_bytes(2, "big") + tail + udp
    mac = b"\x01\x00\x5e" + bytes([to.packed[1] & 0x7F]) + to.packed[2:]
    vlan = b"".join(struct.pack(">HH", kind, identifier) for kind, identifier in tags)
    return mac + b"\x02\x00\x00\x00\x00\x07" + vlan + b"\x08\x00" + ip


def write_pcap(frames: list[tuple[int, bytes]], *, order: str = "<", nanoseconds: bool = True) -> bytes:
    """A capture of (ns since 1970, frame)."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, ETHERNET)
    for time, content in frames:
        seconds, part = divmod(time, 1_000_000_000)
        part = part if nanoseconds else part // 1000
        out += struct.pack(order + "IIII", seconds, part, len(content), len(content)) + content
    return out


def write_pcapng(frames: list[tuple[int, bytes]], *, order: str = "<", resolution: int = 9) -> bytes:
    """The same as pcapng: a section header, an interface with times of 10**-resolution s, enhanced packet blocks."""

    def block(kind: int, body: bytes) -> bytes:
        body += b"\0" * (-len(body) % 4)
        return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)

    out = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    option = struct.pack(order + "HHB3xHH", 9, 1, resolution, 0, 0)
    out += block(1, struct.pack(order + "HHI", ETHERNET, 0, 65535) + option)
    out += block(5, struct.pack(order + "III", 0, 0, 0))  # interface statistics: nothing to see
    for time, content in frames:
        ticks = time // 10 ** (9 - resolution)
        head = struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(content), len(content))
        out += block(6, head + content)
    return out
