"""Records as Python objects, one an event: for callbacks and for looking at a few. For many, use a batch's arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ._records import GAP_REASONS, KINDS, RECORD_BYTES, STATUS_CODES, TS_SOURCES, fields, record_struct

if TYPE_CHECKING:
    from ._symbols import Symbols

__all__ = ["KIND_AT", "BboEvent", "ClockEvent", "Event", "GapEvent", "MboEvent", "StatusEvent", "decode", "decoders"]


class MboEvent(NamedTuple):
    """One thing that happened to one order, or a trade. Prices in 1e-9 of the currency, times in ns since 1970, UTC.

    `action` is "A" add, "C" cancel, "M" modify, "T" trade, "F" fill or "R" clear; `side` "B" bid, "A" ask or "N" none.
    A book follows from A, C, M and R alone: an execution of a displayed order is told as T (the aggressor), F (the
    resting order) and C (what that took from the book). `price` is `barewire.UNDEF_PRICE` where there is none.
    `sequence` is the venue's number of the message, `ring_sequence` the record's place in the ring.
    """

    ring_sequence: int
    ts_event: int
    ts_recv: int
    sequence: int
    instrument_id: int
    publisher_id: int
    kind: int
    flags: int
    ts_source: int
    order_id: int
    price: int
    size: int
    action: str
    side: str
    symbol: str


class BboEvent(NamedTuple):
    """The best bid and offer after a message that changed them.

    Prices in 1e-9 of the currency, `barewire.UNDEF_PRICE` on an empty side; sizes summed over the level.
    """

    ring_sequence: int
    ts_event: int
    ts_recv: int
    sequence: int
    instrument_id: int
    publisher_id: int
    kind: int
    flags: int
    ts_source: int
    bid_price: int
    ask_price: int
    bid_size: int
    ask_size: int
    symbol: str


class GapEvent(NamedTuple):
    """`count` messages from `sequence` on were not seen. `reason_name` says why, `reason` as the record's number.

    "sequence_jump": nothing brought them. "late_join": they were sent before the feed was there. "session_end": the
    session ended before they came. "snapshot": a snapshot made up for them, so the books are right and only what
    happened in between is missing; after the other reasons, books may be wrong (the flag *maybe stale*).
    `symbol` is empty: a gap touches every instrument of the feed.
    """

    ring_sequence: int
    ts_event: int
    ts_recv: int
    sequence: int
    instrument_id: int
    publisher_id: int
    kind: int
    flags: int
    ts_source: int
    count: int  # type: ignore[assignment]  # the field's name in the table; hides tuple.count()
    reason: int
    symbol: str

    @property
    def reason_name(self) -> str:
        """The reason in words: one of the values of `barewire.GAP_REASONS`."""
        return GAP_REASONS.get(self.reason, "unknown")


class StatusEvent(NamedTuple):
    """What is no order and no price. `code_name` says what, `code` as the record's letter.

    Of the venue: "trading_state", "operational_halt" and "system_event" with the venue's letter in `state` and its
    reason code in `reason`; "trade_broken" with the match number in `value`; "session_start" (every book is empty),
    "session_end". Of the feed: "line_down" and "line_up" with the line's index in `value` (0 is the first configured);
    "recovered": a snapshot was loaded, and every book is right again; "clock": from now on receive times may be off by
    `value` nanoseconds either way (2^64-1: not known); `state` is the digit of their clock's number in `TS_SOURCES`,
    `reason` what PTP's daemon makes of it ("SYNC", "HOLD", "DEGR", "LOST"; empty where it is not watched).
    `symbol` is empty where the whole feed is meant.
    """

    ring_sequence: int
    ts_event: int
    ts_recv: int
    sequence: int
    instrument_id: int
    publisher_id: int
    kind: int
    flags: int
    ts_source: int
    value: int
    code: str
    state: str
    reason: str
    symbol: str

    @property
    def code_name(self) -> str:
        """The code in words: one of the values of `barewire.STATUS_CODES`."""
        return STATUS_CODES.get(self.code, "unknown")


class ClockEvent(NamedTuple):
    """From here on, how far receive times may be off: a "clock" status, read.

    `source` is the clock that stamps packets, one of the values of `barewire.TS_SOURCES`; `bound_ns` how far its times
    may be from UTC either way, `None` where nobody knows; `state` what PTP's daemon makes of the system's clock,
    "synchronised", "holdover", "degraded" or "lost", `None` where it is not watched.
    """

    ts_recv: int
    sequence: int
    source: str
    bound_ns: int | None
    state: str | None

    @property
    def is_good(self) -> bool:
        """Whether nothing is known against it: neither degraded nor lost. Records by another are flagged."""
        return self.state not in ("degraded", "lost")

    @classmethod
    def of(cls, status: StatusEvent) -> ClockEvent:
        """The one that a status of code "clock" tells of."""
        source = TS_SOURCES.get(int(status.state), "none") if status.state.isdecimal() else "none"
        bound = None if status.value == _UNKNOWN else status.value
        return cls(status.ts_recv, status.sequence, source, bound, _CLOCK_STATES.get(status.reason))


Event = MboEvent | BboEvent | GapEvent | StatusEvent

Buffer = bytes | bytearray | memoryview

_LETTER = {bytes([byte]): chr(byte) for byte in range(256)} | {b"\0": ""}
_UNKNOWN = 2**64 - 1
_CLOCK_STATES = {"SYNC": "synchronised", "HOLD": "holdover", "DEGR": "degraded", "LOST": "lost"}
_INSTRUMENT = 4  # place of instrument_id in every event
KIND_AT = next(row.offset for row in fields("mbo") if row.name == "kind")


def decoders(symbols: Symbols) -> dict[int, Callable[[Buffer, int], Event]]:
    """For each `kind` byte, what turns the record at an offset of a buffer into its event."""
    symbol_of = symbols.of
    letter = _LETTER
    mbo, bbo, gap, status = (record_struct(kind).unpack_from for kind in KINDS)

    def mbo_event(buffer: Buffer, offset: int) -> MboEvent:
        row = mbo(buffer, offset)
        return MboEvent._make((*row[:12], letter[row[12]], letter[row[13]], symbol_of(row[_INSTRUMENT])))

    def bbo_event(buffer: Buffer, offset: int) -> BboEvent:
        row = bbo(buffer, offset)
        return BboEvent._make((*row, symbol_of(row[_INSTRUMENT])))

    def gap_event(buffer: Buffer, offset: int) -> GapEvent:
        return GapEvent._make((*gap(buffer, offset), ""))

    def status_event(buffer: Buffer, offset: int) -> StatusEvent:
        row = status(buffer, offset)
        symbol = symbol_of(row[_INSTRUMENT]) if row[_INSTRUMENT] else ""
        reason = row[12].rstrip(b" \0").decode("latin-1")
        return StatusEvent._make((*row[:10], letter[row[10]], letter[row[11]], reason, symbol))

    return {KINDS["mbo"]: mbo_event, KINDS["bbo"]: bbo_event, KINDS["gap"]: gap_event, KINDS["status"]: status_event}


def decode(buffer: memoryview, symbols: Symbols) -> Iterator[Event]:
    """Every record of a buffer of whole 64-byte records, in order. Kinds of a later version are passed over."""
    make = decoders(symbols)
    for offset in range(0, len(buffer), RECORD_BYTES):
        if decoder := make.get(buffer[offset + KIND_AT]):
            yield decoder(buffer, offset)
