"""Questions to a card's driver, as `ethtool` asks them: the ioctl of include/uapi/linux/ethtool.h.

Every function takes the `ioctl` to use and raises OSError, EOPNOTSUPP where the driver does not know the question.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from .system import SIOCETHTOOL, SIOCGHWTSTAMP

__all__ = [
    "FLAG_LRO",
    "FLAG_NTUPLE",
    "Channels",
    "Coalescing",
    "Driver",
    "Ioctl",
    "Rings",
    "Stamps",
    "channels",
    "coalescing",
    "driver",
    "flags",
    "indirection",
    "is_gro",
    "rings",
    "stamps",
    "stamps_every_packet",
    "udp_hash",
]

Ioctl = Callable[[int, str, bytearray], None]
"""`ioctl(request, interface, data)`: reads and fills `data`."""

_GDRVINFO, _GCOALESCE, _GRINGPARAM, _GFLAGS, _GRXFH, _GGRO = 0x03, 0x0E, 0x10, 0x25, 0x29, 0x2B
_GCHANNELS, _GET_TS_INFO, _GRSSH = 0x3C, 0x41, 0x46
_UDP_V4_FLOW = 2
_RXNFC_BYTES = 256  # more than struct ethtool_rxnfc has
_RXFH = struct.Struct("=IIIIBB2xI")

FLAG_LRO = 1 << 15
FLAG_NTUPLE = 1 << 27


class Driver(NamedTuple):
    """Who drives the card."""

    name: str
    version: str
    firmware: str
    bus: str


class Rings(NamedTuple):
    """Descriptors of a receive queue."""

    rx: int
    rx_max: int


class Channels(NamedTuple):
    """Receive queues."""

    rx: int
    rx_max: int
    is_combined: bool


class Coalescing(NamedTuple):
    """How long the card waits before it interrupts."""

    rx_usecs: int
    rx_frames: int
    is_adaptive: bool


class Stamps(NamedTuple):
    """What the card can stamp."""

    capabilities: int
    """SOF_TIMESTAMPING_*."""
    phc: int
    """The number of its clock: /dev/ptpN; -1 for none."""
    rx_filters: int
    """A bit for each HWTSTAMP_FILTER_*."""

    @property
    def has_receive(self) -> bool:
        """Whether it stamps received packets, of any kind at all."""
        return bool(self.capabilities & 1 << 2) and bool(self.rx_filters & ~1)

    @property
    def has_every_packet(self) -> bool:
        """Whether it can stamp all packets, not only those of PTP."""
        return bool(self.capabilities & 1 << 2) and bool(self.rx_filters & 1 << 1)


def _words(ioctl: Ioctl, interface: str, command: int, count: int) -> tuple[int, ...]:
    data = bytearray(4 * count)
    struct.pack_into("=I", data, 0, command)
    ioctl(SIOCETHTOOL, interface, data)
    return struct.unpack(f"={count}I", data)


def driver(ioctl: Ioctl, interface: str) -> Driver:
    """ETHTOOL_GDRVINFO."""
    data = bytearray(196)
    struct.pack_into("=I", data, 0, _GDRVINFO)
    ioctl(SIOCETHTOOL, interface, data)
    texts = (data[start : start + 32].split(b"\0")[0].decode(errors="replace") for start in range(4, 132, 32))
    return Driver(*texts)


def rings(ioctl: Ioctl, interface: str) -> Rings:
    """ETHTOOL_GRINGPARAM."""
    words = _words(ioctl, interface, _GRINGPARAM, 9)
    return Rings(words[5], words[1])


def channels(ioctl: Ioctl, interface: str) -> Channels:
    """ETHTOOL_GCHANNELS."""
    words = _words(ioctl, interface, _GCHANNELS, 9)
    combined, combined_max = words[8], words[4]
    return Channels(words[5] + combined, words[1] + combined_max, combined > 0)


def coalescing(ioctl: Ioctl, interface: str) -> Coalescing:
    """ETHTOOL_GCOALESCE."""
    words = _words(ioctl, interface, _GCOALESCE, 23)
    return Coalescing(words[1], words[2], bool(words[10]))


def is_gro(ioctl: Ioctl, interface: str) -> bool:
    """ETHTOOL_GGRO: whether the kernel glues packets together before anyone sees them."""
    return bool(_words(ioctl, interface, _GGRO, 2)[1])


def flags(ioctl: Ioctl, interface: str) -> int:
    """ETHTOOL_GFLAGS: `FLAG_LRO`, `FLAG_NTUPLE`."""
    return _words(ioctl, interface, _GFLAGS, 2)[1]


def udp_hash(ioctl: Ioctl, interface: str) -> str:
    """ETHTOOL_GRXFH for UDP over IPv4: the fields that choose the queue, in `ethtool`'s letters (`sdfn`)."""
    data = bytearray(_RXNFC_BYTES)
    struct.pack_into("=II", data, 0, _GRXFH, _UDP_V4_FLOW)
    ioctl(SIOCETHTOOL, interface, data)
    (fields,) = struct.unpack_from("=Q", data, 8)
    return "".join(letter for bit, letter in ((4, "s"), (5, "d"), (6, "f"), (7, "n")) if fields & 1 << bit)


def indirection(ioctl: Ioctl, interface: str) -> tuple[int, ...]:
    """ETHTOOL_GRSSH: the queues that hash values lead to; empty where the card has no such table."""
    data = bytearray(_RXFH.size)
    _RXFH.pack_into(data, 0, _GRSSH, 0, 0, 0, 0, 0, 0)
    ioctl(SIOCETHTOOL, interface, data)
    size, key = _RXFH.unpack(data)[2:4]
    if not 0 < size <= 1 << 16 or key > 1 << 12:
        return ()
    data = bytearray(_RXFH.size + 4 * size + key)
    _RXFH.pack_into(data, 0, _GRSSH, 0, size, key, 0, 0, 0)
    ioctl(SIOCETHTOOL, interface, data)
    return struct.unpack_from(f"={size}I", data, _RXFH.size)


def stamps(ioctl: Ioctl, interface: str) -> Stamps:
    """ETHTOOL_GET_TS_INFO."""
    words = _words(ioctl, interface, _GET_TS_INFO, 11)
    phc = words[2] - (1 << 32) if words[2] >> 31 else words[2]
    return Stamps(words[1], phc, words[7])


def stamps_every_packet(ioctl: Ioctl, interface: str) -> bool:
    """SIOCGHWTSTAMP: whether the card stamps every received packet now."""
    data = bytearray(12)
    ioctl(SIOCGHWTSTAMP, interface, data)
    return bool(struct.unpack_from("=i", data, 8)[0] == 1)
