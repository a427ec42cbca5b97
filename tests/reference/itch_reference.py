"""Nasdaq TotalView-ITCH 5.0, decoded and turned into books the slow way.

Written from the specification's tables and rules alone, in plain Python, so that it can be read beside them. It shares
nothing with the compiled core: no table, no code, and no idea of how a book is kept. The best price of a side is
found by looking at every order there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

HEAD = "stock_locate:u2 tracking_number:u2 timestamp:u6"

# type: (name, total length with the type byte, fields behind the type byte in order as name:kind+length),
# u = unsigned big-endian integer, a = ASCII padded with spaces on the right.
_TABLE: dict[str, tuple[str, int, str]] = {
    "S": ("system_event_message", 12, f"{HEAD} event_code:a1"),
    "R": (
        "stock_directory_message",
        39,
        f"{HEAD} stock:a8 market_category:a1 financial_status_indicator:a1 round_lot_size:u4 round_lots_only:a1 "
        "issue_classification:a1 issue_sub_type:a2 authenticity:a1 short_sale_threshold_indicator:a1 ipo_flag:a1 "
        "luld_reference_price_tier:a1 etp_flag:a1 etp_leverage_factor:u4 inverse_indicator:a1",
    ),
    "H": ("stock_trading_action_message", 25, f"{HEAD} stock:a8 trading_state:a1 reserved:a1 reason_code:a4"),
    "Y": (
        "reg_sho_short_sale_price_test_restricted_indicator_message",
        20,
        "locate_code:u2 tracking_number:u2 timestamp:u6 stock:a8 reg_sho_action:a1",
    ),
    "L": (
        "market_participant_position_message",
        26,
        f"{HEAD} mpid:a4 stock:a8 primary_market_maker:a1 market_maker_mode:a1 market_participant_state:a1",
    ),
    "V": ("mwcb_decline_level_message", 35, f"{HEAD} level_1:u8 level_2:u8 level_3:u8"),
    "W": ("mwcb_status_level_message", 12, f"{HEAD} breached_level:a1"),
    "K": (
        "ipo_quoting_period_update",
        28,
        f"{HEAD} stock:a8 ipo_quotation_release_time:u4 ipo_quotation_release_qualifier:a1 ipo_price:u4",
    ),
    "J": (
        "luld_auction_collar_message",
        35,
        f"{HEAD} stock:a8 auction_collar_reference_price:u4 upper_auction_collar_price:u4 "
        "lower_auction_collar_price:u4 auction_collar_extension:u4",
    ),
    "h": ("operational_halt_message", 21, f"{HEAD} stock:a8 market_code:a1 operational_halt_action:a1"),
    "A": (
        "add_order_no_mpid_attribution_message",
        36,
        f"{HEAD} order_reference_number:u8 buy_sell_indicator:a1 shares:u4 stock:a8 price:u4",
    ),
    "F": (
        "add_order_with_mpid_attribution_message",
        40,
        f"{HEAD} order_reference_number:u8 buy_sell_indicator:a1 shares:u4 stock:a8 price:u4 attribution:a4",
    ),
    "E": (
        "order_executed_message",
        31,
        f"{HEAD} order_reference_number:u8 executed_shares:u4 match_number:u8",
    ),
    "C": (
        "order_executed_with_price_message",
        36,
        f"{HEAD} order_reference_number:u8 executed_shares:u4 match_number:u8 printable:a1 execution_price:u4",
    ),
    "X": ("order_cancel_message", 23, f"{HEAD} order_reference_number:u8 canceled_shares:u4"),
    "D": ("order_delete_message", 19, f"{HEAD} order_reference_number:u8"),
    "U": (
        "order_replace_message",
        35,
        f"{HEAD} original_order_reference_number:u8 new_order_reference_number:u8 shares:u4 price:u4",
    ),
    "P": (
        "non_cross_trade_message",
        44,
        f"{HEAD} order_reference_number:u8 buy_sell_indicator:a1 shares:u4 stock:a8 price:u4 match_number:u8",
    ),
    "Q": ("cross_trade_message", 40, f"{HEAD} cross_shares:u8 stock:a8 cross_price:u4 match_number:u8 cross_type:a1"),
    "B": ("broken_trade_message", 19, f"{HEAD} match_number:u8"),
    "I": (
        "net_order_imbalance_indicator_message",
        50,
        f"{HEAD} paired_shares:u8 imbalance_shares:u8 imbalance_direction:a1 stock:a8 far_price:u4 near_price:u4 "
        "current_reference_price:u4 cross_type:a1 price_variation_indicator:a1",
    ),
    "N": ("retail_price_improvement_indicator_message", 20, f"{HEAD} stock:a8 interest_flag:a1"),
    "O": (
        "direct_listing_with_capital_raise_price_discovery_message",
        48,
        f"{HEAD} stock:a8 open_eligibility_status:a1 minimum_allowable_price:u4 maximum_allowable_price:u4 "
        "near_execution_price:u4 near_execution_time:u8 lower_price_range_collar:u4 upper_price_range_collar:u4",
    ),
}


class Field(NamedTuple):
    """A field of a message: where it is and what it holds."""

    name: str
    offset: int
    length: int
    is_text: bool


class Layout(NamedTuple):
    """A message type."""

    name: str
    length: int
    fields: tuple[Field, ...]


def _layout(name: str, total: int, fields: str) -> Layout:
    offset, found = 1, []
    for entry in fields.split():
        field_name, kind = entry.split(":")
        found.append(Field(field_name, offset, int(kind[1:]), kind[0] == "a"))
        offset += int(kind[1:])
    assert offset == total, f"{name}: the fields add up to {offset} bytes, the specification says {total}"
    return Layout(name, total, tuple(found))


LAYOUTS: dict[str, Layout] = {kind: _layout(*row) for kind, row in _TABLE.items()}

Message = dict[str, int | str]


class NotItch(ValueError):
    """The bytes are not a message of the specification: an unknown type, or a length that is not the type's."""


def decode(message: bytes) -> Message:
    """A message's fields: integers as on the wire, text without its padding; ``type`` and ``message`` come first."""
    kind = chr(message[0]) if message else ""
    layout = LAYOUTS.get(kind)
    if layout is None or layout.length != len(message):
        raise NotItch(f"type {kind!r}, {len(message)} bytes")
    decoded: Message = {"message": layout.name, "type": kind}
    for name, offset, length, is_text in layout.fields:
        raw = message[offset : offset + length]
        decoded[name] = raw.decode("ascii").rstrip(" ") if is_text else int.from_bytes(raw, "big")
    return decoded


def encode(kind: str, fields: Mapping[str, int | str]) -> bytes:
    """The message of that type with those fields."""
    out = kind.encode("ascii")
    for name, _, length, is_text in LAYOUTS[kind].fields:
        value = fields[name]
        out += str(value).encode("ascii").ljust(length) if is_text else int(value).to_bytes(length, "big")
    assert len(out) == LAYOUTS[kind].length
    return out


def read_binaryfile(content: bytes) -> Iterator[bytes]:
    """The messages of a BinaryFILE: two bytes of length, then the message; a length of zero ends it."""
    at = 0
    while at + 2 <= len(content):
        length = int.from_bytes(content[at : at + 2], "big")
        if length == 0 or at + 2 + length > len(content):
            return
        yield content[at + 2 : at + 2 + length]
        at += 2 + length


def write_binaryfile(messages: list[bytes]) -> bytes:
    """The same the other way, with the zero length at the end."""
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages) + b"\0\0"


@dataclass
class Order:
    """A displayed order."""

    locate: int
    side: str  # "B" or "S"
    price: int  # 1e-4 dollars
    shares: int  # left
    arrival: int  # lower has priority at the same price


class Bbo(NamedTuple):
    """Best prices (1e-4 dollars) and all shares there; ``None`` and 0 where a side is empty."""

    bid_price: int | None
    bid_size: int
    ask_price: int | None
    ask_size: int


@dataclass
class Books:
    """Every book of the venue, as one dictionary of orders.

    The specification does not say what to make of input that contradicts itself. These are the project's rules; each
    case is counted in ``refused``:

    - E, C, X, D, U whose order is not in a book: nothing changes.
    - A, F whose reference number is in a book already: the second order is not added, the first stays.
    - A, F with no shares, or a side that is neither buy nor sell: no order is added.
    - E, C, X of no shares: nothing changes. Of more shares than are left: what is left is taken.
    - U takes its original off the book in any case. The new order is not added where its reference number is in a book
      (it may be the original's) or it has no shares.

    Only A and F say which instrument an order belongs to; the stock locate of what comes later is not looked at.
    """

    orders: dict[int, Order] = field(default_factory=dict)
    symbols: dict[int, str] = field(default_factory=dict)
    refused: int = 0
    _arrivals: int = 0

    def apply(self, message: Message) -> int | None:
        """Lets a message change the books; returns the stock locate of the book that it may have changed."""
        kind = message["type"]
        if kind == "R":
            self.symbols.setdefault(int(message["stock_locate"]), str(message["stock"]))
            return None
        if kind in ("A", "F"):
            return self._add(message)
        if kind == "E" or kind == "C":
            return self._take(message, int(message["executed_shares"]))
        if kind == "X":
            return self._take(message, int(message["canceled_shares"]))
        if kind == "D":
            order = self.orders.pop(int(message["order_reference_number"]), None)
            return self._refuse() if order is None else order.locate
        if kind == "U":
            return self._replace(message)
        return None

    def _refuse(self) -> int | None:
        self.refused += 1
        return None

    def _arrival(self) -> int:
        self._arrivals += 1
        return self._arrivals

    def _add(self, message: Message) -> int | None:
        locate, reference = int(message["stock_locate"]), int(message["order_reference_number"])
        side, shares = str(message["buy_sell_indicator"]), int(message["shares"])
        self.symbols.setdefault(locate, str(message["stock"]))
        if reference in self.orders or shares == 0 or side not in ("B", "S"):
            return self._refuse()
        self.orders[reference] = Order(locate, side, int(message["price"]), shares, self._arrival())
        return locate

    def _take(self, message: Message, shares: int) -> int | None:
        reference = int(message["order_reference_number"])
        order = self.orders.get(reference)
        if order is None or shares == 0:
            return self._refuse()
        if shares > order.shares:
            self._refuse()
        order.shares -= min(shares, order.shares)
        if order.shares == 0:
            del self.orders[reference]
        return order.locate

    def _replace(self, message: Message) -> int | None:
        original = int(message["original_order_reference_number"])
        new, shares = int(message["new_order_reference_number"]), int(message["shares"])
        order = self.orders.get(original)
        if order is None:
            return self._refuse()
        del self.orders[original]
        if new in self.orders or shares == 0:
            self._refuse()
        else:
            self.orders[new] = Order(order.locate, order.side, int(message["price"]), shares, self._arrival())
        return order.locate

    def side(self, locate: int, side: str) -> list[tuple[int, Order]]:
        """The orders of one side with their reference numbers, best price first, then in order of arrival."""
        found = [(ref, order) for ref, order in self.orders.items() if order.locate == locate and order.side == side]
        sign = -1 if side == "B" else 1
        return sorted(found, key=lambda item: (sign * item[1].price, item[1].arrival))

    def bbo(self, locate: int) -> Bbo:
        """The best of both sides."""
        return best_of(levels(self.side(locate, "B")), levels(self.side(locate, "S")))


Level = tuple[int, int, int]  # price (1e-4 dollars), all shares there, number of orders there


def levels(side: list[tuple[int, Order]]) -> list[Level]:
    """The levels of a side whose orders are given best first."""
    found: dict[int, tuple[int, int]] = {}
    for _, order in side:
        shares, count = found.get(order.price, (0, 0))
        found[order.price] = (shares + order.shares, count + 1)
    return [(price, shares, count) for price, (shares, count) in found.items()]


def best_of(bids: list[Level], asks: list[Level]) -> Bbo:
    """The best bid and offer of a book with those levels."""
    bid_price, bid_size = bids[0][:2] if bids else (None, 0)
    ask_price, ask_size = asks[0][:2] if asks else (None, 0)
    return Bbo(bid_price, bid_size, ask_price, ask_size)


class BboRow(NamedTuple):
    """A message that left a best price or its size changed."""

    sequence: int
    timestamp: int  # ns since midnight
    symbol: str
    bbo: Bbo


def bbo_rows(messages: Iterator[bytes], books: Books | None = None) -> Iterator[BboRow]:
    """A row for each message that changed its instrument's best bid or offer; messages are numbered from 1."""
    books = Books() if books is None else books
    last: dict[int, Bbo] = {}
    for sequence, raw in enumerate(messages, start=1):
        try:
            message = decode(raw)
        except NotItch:
            continue
        locate = books.apply(message)
        if locate is None:
            continue
        now = books.bbo(locate)
        if now != last.get(locate, Bbo(None, 0, None, 0)):
            last[locate] = now
            yield BboRow(sequence, int(message["timestamp"]), books.symbols.get(locate, ""), now)
