"""What card, driver and kernel counted while a feed ran: deltas, losses told apart, every driver's own names."""

from __future__ import annotations

import struct
import time
from errno import EOPNOTSUPP
from types import SimpleNamespace

import numpy as np
import pytest

import barewire
from barewire import _layers
from barewire._cli._summary import Latency
from barewire._layers import CountersBelow, layer_rows
from barewire._records import KINDS

DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes
  eth7: {bytes} {packets} 1 {dropped} 0 0          0         0     100
    lo:     100       1    0    0    0     0          0         0      100
"""
SNMP = "Ip: InHdrErrors InDiscards\nIp: 4 0\nUdp: InCsumErrors MemErrors\nUdp: {bad} 0\n"
NETSTAT = "TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 0 9\n"


class Machine:
    """/proc/net and a driver, as they are just now."""

    def __init__(self) -> None:
        self.numbers = {"bytes": 1000, "packets": 10, "dropped": 2, "bad": 3}
        self.softnet = "0000000a 00000001 00000002 0 0\n0000000a 00000000 00000000 0 0\n"
        self.driver = {"rx_packets": 10, "rx_missed_errors": 5, "rx_queue_0_xdp_drops": 0, "tx_dropped": 1}

    def own(self, name: str) -> str:
        texts = {"dev": DEV, "snmp": SNMP, "netstat": NETSTAT}
        return texts[name].format_map(self.numbers) if name in texts else self.softnet

    def ioctl(self, _: int, interface: str, data: bytearray) -> None:
        """The three questions of linux/ethtool.h that `ethtool -S` asks."""
        (command,) = struct.unpack_from("=I", data)
        if interface != "eth7":
            raise OSError(EOPNOTSUPP, "no statistics")
        if command == 0x37:
            assert struct.unpack_from("=Q", data, 8) == (1 << 1,)
            struct.pack_into("=I", data, 16, len(self.driver))
        elif command == 0x1B:
            assert len(data) == 12 + 32 * len(self.driver)
            for n, name in enumerate(self.driver):
                struct.pack_into("32s", data, 12 + 32 * n, name.encode())
        else:
            assert (command, len(data)) == (0x1D, 8 + 8 * len(self.driver))
            struct.pack_into(f"={len(self.driver)}Q", data, 8, *self.driver.values())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(_layers, "_own", machine.own)
    return machine


def test_only_what_has_changed_is_told(machine: Machine) -> None:
    below = CountersBelow(["eth7", "lo", "eth7"], machine.ioctl)
    packets = [("card", "eth7", "packets", 0, False), ("card", "lo", "packets", 0, False)]
    assert below.rows() == packets
    machine.numbers.update(packets=25, dropped=4, bad=4)
    machine.driver.update(rx_packets=25, rx_missed_errors=12, rx_queue_0_xdp_drops=1, tx_dropped=50)
    machine.softnet = "0000000a 00000003 00000006 0 0\n0000000a 00000001 00000000 0 0\n"
    assert below.rows() == [
        ("card", "eth7", "packets", 15, False),
        ("card", "eth7", "dropped", 2, True),
        ("card", "lo", "packets", 0, False),
        ("driver", "eth7", "rx_missed_errors", 7, True),
        ("driver", "eth7", "rx_queue_0_xdp_drops", 1, True),
        ("kernel", "", "bad UDP checksums", 1, True),
        ("kernel", "", "backlog full", 3, True),
        ("kernel", "", "softirq out of budget", 4, False),
    ]
    # An interface that was taken away and made anew counts from 0.
    machine.numbers.update(packets=3)
    assert below.rows()[0] == ("card", "eth7", "packets", 3, False)


def test_a_driver_that_says_nonsense_or_nothing_is_left_out(machine: Machine) -> None:
    machine.driver = {"": 1, "rx_drop\xff": 1}
    assert [row.layer for row in CountersBelow(["eth7", "gone0"], machine.ioctl).rows()] == ["card"]
    machine.driver = {}
    assert [row.layer for row in CountersBelow(["eth7"], machine.ioctl).rows()] == ["card"]


def test_the_whole_way_is_in_its_order() -> None:
    stats = dict.fromkeys([name for _, name, _, _ in _layers._ABOVE], 0)
    stats.update(packets=8, packets_delivered=5, packets_duplicate=3, kernel_drops=2, messages=50, records=70)
    card = _layers.Row("card", "eth7", "packets", 10, is_loss=False)
    assert layer_rows([card], stats, {"A": 5, "B": 3}, 1) == [
        card,
        ("socket", "", "dropped for want of room", 2, True),
        ("line", "A", "packets", 5, False),
        ("line", "B", "packets", 3, False),
        ("feed", "", "packets", 8, False),
        ("feed", "", "delivered", 5, False),
        ("feed", "", "another line's copies", 3, False),
        ("venue", "", "messages", 50, False),
        ("ring", "", "records", 70, False),
        ("ring", "", "read too late", 1, True),
    ]


def test_what_a_feed_says_of_itself_has_no_latency() -> None:
    latency = Latency()
    records = np.zeros(3, barewire.RECORD_DTYPE)
    records["ts_recv"] = time.time_ns() - 10**9
    records["kind"] = [KINDS["status"], KINDS["gap"], KINDS["status"]]
    latency.add(SimpleNamespace(records=records))  # type: ignore[arg-type]
    assert latency.percentile_us(50) is None
    records["kind"][1] = KINDS["bbo"]
    records["ts_recv"][[0, 2]] = 1
    latency.add(SimpleNamespace(records=records))  # type: ignore[arg-type]
    assert latency.percentile_us(1) == latency.percentile_us(100) == pytest.approx(1e6, rel=0.2)
