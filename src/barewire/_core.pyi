"""The compiled core: everything that touches a packet. Users import `barewire`, never this module."""

from collections.abc import Iterator
from typing import Any, final

class RecordBuffer:
    """A reusable block of 64-byte ring records (u64 ring sequence + 56-byte record), exposed by the buffer protocol (read-only)."""

# --- tables (generated from the Rust declarations) -----------------------------------------------
# A field row: {"name": str, "offset": int, "len": int, "kind": "uint_be"|"uint_le"|"int_le"|"text"|"bytes", "unit": str, "doc": str,
#               "codes": {code: meaning}}     (codes: only where the field is an enumeration, else {})
def record_layouts() -> dict[str, list[dict[str, Any]]]: ...
#   {"mbo": [...], "bbo": [...], "gap": [...], "status": [...]}; offsets are within the 56-byte record (numpy: +8 in a 64-byte ring record)
def protocols() -> dict[str, dict[str, Any]]: ...
#   {"itch-5.0": {"title", "source", "messages": {"A": {"name": "add_order_no_mpid_attribution_message", "len": 36, "fields": [...]}, ...}}, "moldudp64": ...}
def counters() -> list[tuple[str, str]]: ...   # every statistic: (name, meaning); order is the ring's statistics page

# --- ring ----------------------------------------------------------------------------------------
@final
class Ring:
    """A reader of one broadcast ring."""
    @staticmethod
    def attach(name: str) -> Ring: ...              # RingError (a BarewireError), FileNotFoundError, PermissionError
    name: str
    capacity: int
    epoch: int
    position: int                                   # the next ring sequence to read
    def read_into(self, buffer: Any, timeout_ns: int) -> tuple[int, int]: ...
        # writable buffer of n*64 bytes; returns (records, lost); waits up to timeout_ns for the first record with the GIL released (0 = poll);
        # (0, 0) on timeout; raises KeyboardInterrupt promptly
    def seek_oldest(self) -> None: ...
    def seek_newest(self) -> None: ...
    def lag(self) -> int: ...
    def producer_state(self) -> str: ...            # "alive" | "stale" | "closed" | "restarted"
    def directory(self) -> list[tuple[int, str]]: ... # (instrument_id, symbol), in order of announcement
    def stats(self) -> dict[str, int]: ...

# --- a live feed ---------------------------------------------------------------------------------
@final
class Feed:
    """A feed thread: receive, sequence, book, publish."""
    def __init__(self, config: dict[str, Any]) -> None: ...  # config: the validated configuration as plain dict (see below)
    def start(self) -> None: ...     # opens sockets, ring; starts the thread. OSError subclasses / ConfigError naming line, interface, group
    def stop(self) -> None: ...      # idempotent; joins the thread; raises what the thread died of, if it did
    running: bool
    ended: bool                      # the venue ended the session
    ring_name: str | None            # None: memfd, this process only
    receive_report: list[str]        # what was asked for and what was got (receive buffer, timestamps, pinning), one line each
    def reader(self) -> Ring: ...
    def stats(self) -> dict[str, int]: ...
    def directory(self) -> list[tuple[int, str]]: ...
    def top(self, instrument_id: int) -> tuple[int, int, int, int] | None: ...  # bid_price, bid_size, ask_price, ask_size; None: no such instrument
    def depth(self, instrument_id: int, levels: int) -> tuple[bytes, bytes]: ...  # bids, asks: packed <i8 price, <u8 size, <u4 orders, <u4 zero>, best first
    def orders(self, instrument_id: int) -> bytes: ...     # packed <u8 order_id, <i8 price, <u4 size, u1 side, 3 zero>, bids then asks, price-time priority

# feed config dict: {"name": str, "protocol": "itch-5.0", "publisher_id": int, "midnight_ns": int, "symbols": list[str] | None,
#   "records": ["mbo","bbo"], "mode": "busy"|"blocking", "core": int|None, "rcvbuf_bytes": int, "busy_poll_us": int, "timestamps": bool,
#   "lines": [{"name": "A", "group": "239.1.1.1", "port": 26477, "interface": "lo"|None, "source": "10.0.0.1"|None}],
#   "ring": {"name": str|None, "capacity": int, "mode": 0o640, "group": int|None},
#   "book": {"instruments": int, "orders": int, "levels": int}}

# --- files ---------------------------------------------------------------------------------------
@final
class Replay:
    """Runs a file through the same engine in the caller's thread: nothing is ever lost to a slow reader."""
    def __init__(self, source: str | int, *, protocol: str, format: str | None = None, midnight_ns: int | None = None, records: list[str],
                 symbols: list[str] | None = None, pace: float | None = None, book: dict[str, int] | None = None,
                 group: str | None = None, port: int | None = None) -> None: ...
        # source: a path, or a file descriptor (0 = stdin). midnight_ns: UTC ns of local midnight of the trading day; None: from the capture's first
        # packet time (US/Eastern date computed by Python and handed back through first_packet_time), else ts_event counts from midnight.
        # pace: None = as fast as possible; 1.0 = original speed, 2.0 = twice. FormatError (what was found, what is expected), OSError.
    first_packet_time: int | None        # ns since 1970 of the first packet with a time (the constructor peeks), None in BinaryFILE
    def set_midnight(self, midnight_ns: int) -> None: ...   # before the first read
    def read_into(self, buffer: Any) -> int: ...     # fills with 64-byte records as far as they go (GIL released); 0 = end of file
    bytes_read: int
    bytes_total: int | None              # None on a pipe
    format: str                          # "pcap" | "pcapng" | "binaryfile", with "+gzip"/"+zstd"
    warnings: list[str]                  # after the end: a truncated tail (offset, expected, found), packets that were not the protocol's, ...
    def stats(self) -> dict[str, int]: ...
    def directory(self) -> list[tuple[int, str]]: ...
    def top(self, instrument_id: int) -> tuple[int, int, int, int] | None: ...
    def depth(self, instrument_id: int, levels: int) -> tuple[bytes, bytes]: ...
    def orders(self, instrument_id: int) -> bytes: ...
    def digest(self) -> str: ...         # of all final books, 32 hex digits

@final
class Inspector:
    """Messages of a file as text, formatted in Rust."""
    def __init__(self, source: str | int, *, protocol: str, format: str | None = None, json: bool, types: str | None = None, limit: int | None = None) -> None: ...
    def __iter__(self) -> Iterator[str]: ...          # chunks of whole lines ("...\n...\n"), up to about 64 KiB each
    warnings: list[str]

# --- simulator -----------------------------------------------------------------------------------
@final
class Simulator:
    def __init__(self, config: dict[str, Any]) -> None: ...
    # {"seed": int, "instruments": int, "live_orders": int, "messages": int|None, "duration_ns": int|None, "rate": float|None (None = as fast as it can),
    #  "max_payload": int, "messages_per_packet": int|None, "session": str, "midnight_ns": int|None (live timestamps) , "prepare": bool,
    #  "lines": [{"group","port","interface"}] , "ttl": int, "different_cuts": bool, "pcap": path|None, "binaryfile": path|None, "heartbeat_ns": int, "core": int|None}
    def run(self) -> dict[str, Any]: ...     # in the caller's thread, GIL released, Ctrl-C ends the session properly; the report
    def start(self) -> None: ...             # on a thread of its own
    def stop(self) -> dict[str, Any]: ...    # sends end of session; the report
    running: bool
    def progress(self) -> dict[str, int]: ...

# --- benchmarks ----------------------------------------------------------------------------------
def bench_book(source: str | None, *, seconds: float, messages: int, instruments: int, live_orders: int) -> dict[str, Any]: ...
#   source None: simulator flow. {"decode_msgs_per_s", "book_msgs_per_s", "messages", "live_orders", "stolen_pct", ... each with best/median lists}
def bench_ring(*, seconds: float) -> dict[str, Any]: ...

__version__: str
