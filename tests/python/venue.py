"""A venue small enough to see through: ITCH 5.0 messages, in a BinaryFILE or as MoldUDP64 over multicast on loopback.

Written from the specifications' layouts and sharing no code with the package, but for `_core.encode`, which other tests
hold against messages written by hand.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from barewire import _core

MIDNIGHT_2020_01_30 = 1_580_360_400_000_000_000  # 05:00 UTC
OPENING = 34_200_000_000_000  # 09:30 in ns since midnight


def message(code: str, locate: int, at: int, **fields: Any) -> bytes:
    """A message with the usual head; `at` in ns since midnight."""
    return _core.encode("itch-5.0", code, {"stock_locate": locate, "tracking_number": 0, "timestamp": at, **fields})


def directory(locate: int, symbol: str) -> bytes:
    """A stock directory message."""
    return message(
        "R",
        locate,
        1,
        stock=symbol,
        market_category="Q",
        financial_status_indicator="N",
        round_lot_size=100,
        round_lots_only="N",
        issue_classification="C",
        issue_sub_type="Z",
        authenticity="P",
        short_sale_threshold_indicator="N",
        ipo_flag="N",
        luld_reference_price_tier="1",
        etp_flag="N",
        etp_leverage_factor=0,
        inverse_indicator="N",
    )


def add(order: int, side: str, shares: int, price: int, *, locate: int = 1, symbol: str = "AAPL", at: int = 0) -> bytes:
    """An order enters the book. `price` in 1e-4 dollars."""
    return message(
        "A",
        locate,
        OPENING + at,
        order_reference_number=order,
        buy_sell_indicator=side,
        shares=shares,
        stock=symbol,
        price=price,
    )


def execute(order: int, shares: int, *, locate: int = 1, at: int = 0) -> bytes:
    """Part of an order trades."""
    return message("E", locate, OPENING + at, order_reference_number=order, executed_shares=shares, match_number=order)


def delete(order: int, *, locate: int = 1, at: int = 0) -> bytes:
    """An order leaves the book."""
    return message("D", locate, OPENING + at, order_reference_number=order)


def halt(symbol: str, *, locate: int = 1) -> bytes:
    """Trading halts."""
    return message("H", locate, OPENING, stock=symbol, trading_state="H", reserved=" ", reason_code="LUDP")


def small_day() -> list[bytes]:
    """Two instruments, nine order messages, a halt; what the tests below know by heart."""
    return [
        directory(1, "AAPL"),
        directory(2, "MSFT"),
        add(10, "B", 100, 1_000_000, at=1),
        add(11, "S", 50, 1_010_000, at=2),
        add(12, "B", 30, 1_000_000, at=3),
        add(20, "B", 7, 2_000_000, locate=2, symbol="MSFT", at=4),
        execute(11, 20, at=5),
        delete(10, at=6),
        delete(12, at=7),
        halt("AAPL"),
        delete(20, locate=2, at=8),
        add(21, "S", 9, 2_500_000, locate=2, symbol="MSFT", at=9),
    ]


# sequence, ns after the opening, symbol, bid price (dollars), bid size, ask price, ask size
SMALL_DAY_BBO = [
    (3, 1, "AAPL", 100, 100, None, None),
    (4, 2, "AAPL", 100, 100, 101, 50),
    (5, 3, "AAPL", 100, 130, 101, 50),
    (6, 4, "MSFT", 200, 7, None, None),
    (7, 5, "AAPL", 100, 130, 101, 30),
    (8, 6, "AAPL", 100, 30, 101, 30),
    (9, 7, "AAPL", None, None, 101, 30),
    (11, 8, "MSFT", None, None, None, None),
    (12, 9, "MSFT", None, None, 250, 9),
]


def random_day(messages: int, *, instruments: int = 5, seed: int = 1) -> list[bytes]:
    """Orders that come and go at random, all of them valid."""
    rng = random.Random(seed)
    day = [directory(locate, f"SYM{locate}") for locate in range(1, instruments + 1)]
    live: dict[int, int] = {}
    for order in range(1, messages + 1):
        if live and rng.random() < 0.4:
            gone = rng.choice(list(live))
            day.append(delete(gone, locate=live.pop(gone), at=order))
            continue
        locate = rng.randint(1, instruments)
        live[order] = locate
        side = rng.choice("BS")
        price = 1_000_000 + (-1 if side == "B" else 1) * rng.randint(1, 50) * 100
        shares = rng.randint(1, 500)
        day.append(add(order, side, shares, price, locate=locate, symbol=f"SYM{locate}", at=order))
    return day


def binaryfile(messages: Iterable[bytes]) -> bytes:
    """Nasdaq's historical files: a two-byte length before each message, a zero length at the end."""
    return b"".join(struct.pack(">H", len(one)) + one for one in messages) + b"\0\0"


def write_binaryfile(path: Path, messages: Iterable[bytes]) -> Path:
    """The same, to a file."""
    path.write_bytes(binaryfile(messages))
    return path


def free_line(name: str = "A") -> dict[str, Any]:
    """A line on loopback that nobody else uses: a random group, a port the system gives."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    group = f"239.255.{random.randint(66, 254)}.{random.randint(1, 254)}"
    return {"name": name, "group": group, "port": port, "interface": "lo"}


class Venue:
    """Sends MoldUDP64 packets to one or more lines, each message numbered once."""

    def __init__(self, *lines: dict[str, Any], session: bytes = b"TEST000001") -> None:
        self.lines = lines
        self.session = session
        self.next = 1
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)

    def send(self, messages: Sequence[bytes], *, drop: bool = False) -> None:
        """Messages in as few packets as they fit into; `drop` numbers them but sends nothing."""
        while messages:
            size, count = 20, 0
            while count < len(messages) and size + 2 + len(messages[count]) <= 1400:
                size += 2 + len(messages[count])
                count += 1
            if not drop:
                blocks = b"".join(struct.pack(">H", len(one)) + one for one in messages[:count])
                self._packet(count, blocks)
            self.next += count
            messages = messages[count:]

    def heartbeat(self) -> None:
        """Tells the next sequence number."""
        self._packet(0, b"")

    def end(self) -> None:
        """Ends the session."""
        self._packet(0xFFFF, b"")

    def _packet(self, count: int, blocks: bytes) -> None:
        packet = struct.pack(">10sQH", self.session, self.next, count) + blocks
        for line in self.lines:
            self._socket.sendto(packet, (line["group"], line["port"]))

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()
