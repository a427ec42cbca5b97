"""Where packets went before the feed saw them: what card, driver and kernel counted while it ran.

All of it is read beside the feed's thread, twice: when the feed starts and when somebody asks.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ._doctor.system import SIOCETHTOOL, ioctl

__all__ = ["CountersBelow", "Row", "layer_rows"]

_GSSET_INFO, _GSTRINGS, _GSTATS = 0x37, 0x1B, 0x1D  # of linux/ethtool.h
_SS_STATS = 1
_NAME_BYTES = 32
_MOST_STATISTICS = 1 << 14

# A driver's names for packets that it did not pass on; every driver has its own.
_LOSS = re.compile(
    r"drop|discard|miss|err|no_?buf|out_of_buf|overr|overflow|full|crc|no_desc|alloc_fail", re.IGNORECASE
)
_SENT = re.compile(r"(^|_)(tx|xmit)", re.IGNORECASE)

# What /proc/net/dev has, in its order.
_CARD = ("bytes", "packets", "errors", "dropped", "fifo", "frame")

Counts = dict[tuple[str, str, str], int]
"""(layer, place, what) to a count since the machine's start, or the interface's."""


class Row(NamedTuple):
    """One count of one layer, from the wire upwards."""

    layer: str
    """`card`, `driver`, `kernel`, `socket`, `line`, `feed`, `venue` or `ring`."""
    where: str
    """An interface, a line, or nothing."""
    what: str
    """Of what: `packets`, or why they went no further."""
    value: int
    is_loss: bool
    """Whether packets or messages ended here that the feed was to have."""


def _own(name: str) -> str:
    # Of the namespace that this thread is in, which /proc/net need not be.
    try:
        return (Path("/proc/thread-self/net") / name).read_text()
    except OSError:
        return ""


def _card(interfaces: Iterable[str]) -> Counts:
    found = {}
    lines = dict(line.strip().split(":", 1) for line in _own("dev").splitlines() if ":" in line)
    for interface in interfaces:
        for what, value in zip(_CARD, lines.get(interface, "").split(), strict=False):
            if what != "bytes":
                found["card", interface, what] = int(value)
    return found


def _driver(interface: str, ask: Callable[[int, str, bytearray], None]) -> Counts:
    """ETHTOOL_GSTATS, those by which packets are lost; nothing where the driver keeps none."""
    data = bytearray(struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_STATS, 0))
    try:
        ask(SIOCETHTOOL, interface, data)
        count = min(struct.unpack_from("=I", data, 16)[0], _MOST_STATISTICS)
        names = bytearray(struct.pack("=III", _GSTRINGS, _SS_STATS, count) + bytes(count * _NAME_BYTES))
        ask(SIOCETHTOOL, interface, names)
        values = bytearray(struct.pack("=II", _GSTATS, count) + bytes(count * 8))
        ask(SIOCETHTOOL, interface, values)
    except OSError:
        return {}
    texts = (
        bytes(names[at : at + _NAME_BYTES]).split(b"\0")[0].decode(errors="replace").strip()
        for at in range(12, 12 + count * _NAME_BYTES, _NAME_BYTES)
    )
    counts = struct.unpack_from(f"={count}Q", values, 8)
    return {
        ("driver", interface, text): value
        for text, value in zip(texts, counts, strict=True)
        if _LOSS.search(text) and not _SENT.search(text)
    }


def _pairs(text: str) -> dict[str, int]:
    """The counts of a file like /proc/net/snmp: a line of names, a line of values."""
    found = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        kind = names.split(":")[0]
        for name, value in zip(names.split()[1:], values.split()[1:], strict=False):
            found[f"{kind}.{name}"] = int(value)
    return found


# Counts of the whole machine or namespace, by what they mean to a feed.
_KERNEL = {
    "Ip.InHdrErrors": "bad IP headers",
    "Ip.InDiscards": "dropped for want of memory",
    "Ip.ReasmFails": "fragments not put together",
    "IpExt.InNoRoutes": "no route",
    "TcpExt.IPReversePathFilter": "reverse path filter",
    "Udp.InCsumErrors": "bad UDP checksums",
    "Udp.MemErrors": "dropped for want of UDP memory",
}


def _kernel() -> Counts:
    counts = _pairs(_own("snmp")) | _pairs(_own("netstat"))
    found = {("kernel", "", text): counts[name] for name, text in _KERNEL.items() if name in counts}
    cores = [[int(word, 16) for word in line.split()[:3]] for line in _own("softnet_stat").splitlines()]
    if cores:
        found["kernel", "", "backlog full"] = sum(core[1] for core in cores)
        # No loss yet: softirqs that had more to do than they were given.
        found["kernel", "", "softirq out of budget"] = sum(core[2] for core in cores)
    return found


class CountersBelow:
    """What is counted below a feed, from its making on.

    `interfaces`: those of the feed's lines. `ask` is the ioctl to use.
    """

    def __init__(self, interfaces: Iterable[str], ask: Callable[[int, str, bytearray], None] = ioctl) -> None:
        self._interfaces = sorted(set(interfaces))
        self._ask = ask
        self._before = self._now()

    def _now(self) -> Counts:
        found = _card(self._interfaces)
        for interface in self._interfaces:
            found |= _driver(interface, self._ask)
        return found | _kernel()

    def rows(self) -> list[Row]:
        """By layer and interface: packets, and every loss that is not 0. A count that was set back counts from 0."""
        rows = []
        for key, value in self._now().items():
            before = self._before.get(key, 0)
            count = value - before if value >= before else value
            layer, where, what = key
            if count or what == "packets":
                rows.append(Row(layer, where, what, count, what not in ("packets", "softirq out of budget")))
        return rows


# Of a feed's statistics: layer, statistic, what it counts, whether packets or messages ended there unwanted.
_ABOVE = (
    ("socket", "kernel_drops", "dropped for want of room", True),
    ("socket", "kernel_truncated", "longer than the buffer", True),
    ("socket", "kernel_fragments", "fragments", True),
    ("socket", "kernel_malformed", "bad headers or checksums", True),
    ("socket", "kernel_wrong_source", "from other senders", False),
    ("socket", "kernel_unrelated", "for others", False),
    ("feed", "packets", "packets", False),
    ("feed", "packets_delivered", "delivered", False),
    ("feed", "packets_ahead", "held, ahead of their turn", False),
    ("feed", "packets_recovered", "brought by re-request servers", False),
    ("feed", "packets_duplicate", "another line's copies", False),
    ("feed", "packets_heartbeat", "heartbeats", False),
    ("feed", "packets_end_of_session", "ends of the session", False),
    ("feed", "packets_foreign_session", "of another session", True),
    ("feed", "packets_too_far", "too far ahead", True),
    ("feed", "packets_malformed", "not the protocol's", True),
    ("venue", "messages", "messages", False),
    ("venue", "messages_missing", "missing", True),
    ("venue", "messages_unknown_type", "of an unknown type", True),
    ("venue", "messages_bad_length", "of a wrong length", True),
    ("venue", "messages_filtered", "of other symbols", False),
    ("ring", "records", "records", False),
)
_ALWAYS = frozenset({"packets", "messages", "records"})


def layer_rows(below: list[Row], stats: dict[str, int], lines: dict[str, int], read_too_late: int) -> list[Row]:
    """The whole way, from the wire to the ring; what is 0 is left out.

    `lines`: packets by a line's name. `read_too_late`: records that this process missed in the ring.
    """
    above = [
        Row(layer, "", what, stats[name], is_loss)
        for layer, name, what, is_loss in _ABOVE
        if stats[name] or what in _ALWAYS
    ]
    received = [Row("line", name, "packets", count, is_loss=False) for name, count in lines.items()]
    at = sum(row.layer == "socket" for row in above)
    late = [Row("ring", "", "read too late", read_too_late, is_loss=True)] if read_too_late else []
    return [*below, *above[:at], *received, *above[at:], *late]
