"""The compiled core: everything that touches a packet. Users import `barewire`, never this module."""

from collections.abc import Callable, Iterator
from typing import Any, final

__all__ = [
    "AlignedRows",
    "Aligner",
    "Conflated",
    "Dispatcher",
    "Feed",
    "HandoffFar",
    "HandoffSource",
    "Inspector",
    "LatencyBench",
    "NativeTarget",
    "Replay",
    "Ring",
    "Simulator",
    "__version__",
    "align_layouts",
    "bench_book",
    "bench_ring",
    "calibrate_tsc",
    "compare_phc",
    "counters",
    "drop_capabilities",
    "encode",
    "handoff_echo",
    "handoff_function",
    "handoff_in_loop",
    "handoff_round_trips",
    "protocols",
    "record_layouts",
    "system_clock",
]

__version__: str

# --- tables, generated from the Rust declarations ---

# A field row: {"name", "offset", "len", "kind": "uint_be" | "uint_le" | "int_le" | "text" | "bytes", "unit", "doc",
# "codes": {code: meaning}}; codes only where the field is an enumeration, else {}.

# {"mbo": [row, ...], "bbo": ..., "gap": ..., "status": ...}; offsets are within the 56-byte record.
def record_layouts() -> dict[str, list[dict[str, Any]]]: ...

# {"itch-5.0": {"title", "source", "messages": {"A": {"name", "len", "fields": [row, ...]}, ...}, "structures": ...}}
def protocols() -> dict[str, dict[str, Any]]: ...

# Every statistic, name and meaning, in the order of the ring's statistics page.
def counters() -> list[tuple[str, str]]: ...

# The bytes of a message; ValueError for an unknown type, a missing or unknown field, a value that does not fit.
def encode(protocol: str, type: str, fields: dict[str, Any]) -> bytes: ...

# Gives up the capabilities of all threads of this process; with `files`, that of reading and writing anybody's files stays.
# OSError where that is forbidden.
def drop_capabilities(files: bool) -> None: ...

# --- clocks ---

# What the kernel says of its clock: synchronised, max_error_us, tai_offset_s (None: it was not told), known_tai_offset_s, leap
# ("inserted", "left out" or None). OSError where that is forbidden.
def system_clock() -> dict[str, Any]: ...

# A card's clock beside the system's: method, offset_ns (the system's less the card's, as they count), bound_ns, timescale,
# is_trap, text. OSError.
def compare_phc(index: int) -> dict[str, Any]: ...

# The processor's counter as a feed would use it: frequency_hz, bound_ns, fallback (None, or why it cannot serve).
def calibrate_tsc() -> dict[str, Any]: ...

# --- ring ---

@final
class Ring:
    # At the newest record; owner: the user id that the ring must have. RingError, FileNotFoundError, PermissionError.
    @staticmethod
    def attach(name: str, owner: int | None = None) -> Ring: ...
    @property
    def name(self) -> str: ...
    @property
    def capacity(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    # The ring sequence number to read next.
    @property
    def position(self) -> int: ...
    @property
    def published(self) -> int: ...
    # A writable, 8-byte aligned buffer of n*64 bytes of format "B"; (records, lost). Waits up to timeout_ns for the first
    # record without the GIL (0: looks once); (0, 0) on timeout and when the producer has closed.
    def read_into(self, buffer: Any, timeout_ns: int) -> tuple[int, int]: ...
    # Calls back for what comes within timeout_ns (0: what is there, some hundred records at most); whether anything did.
    def dispatch(self, dispatcher: Dispatcher, timeout_ns: int) -> bool: ...
    # Ends reading: read_into and dispatch return at once, with nothing, in other threads too.
    def stop(self) -> None: ...
    @property
    def stopped(self) -> bool: ...
    # What passes: `kind` bytes, sides as letters' codes, symbols in latin-1, instrument numbers; None: all. Gaps and status
    # records of the whole feed pass always.
    def set_filter(
        self,
        kinds: list[int] | None,
        sides: list[int] | None,
        symbols: list[bytes] | None,
        ids: list[int] | None,
    ) -> None: ...
    # Whether to spin rather than nap while waiting.
    def set_busy(self, busy: bool) -> None: ...
    # Follows the ring from here on a thread of its own, with this reader's filter.
    def conflate(self) -> Conflated: ...
    # An eventfd for epoll: after arm(), readable once when there is something to read or the ring is closed. Starts the
    # thread that watches.
    def watch_fd(self) -> int: ...
    def arm(self) -> None: ...
    def clear(self) -> None: ...
    def unwatch(self) -> None: ...
    # Whether the producer has said that nothing more will come.
    @property
    def closed(self) -> bool: ...
    def seek_oldest(self) -> None: ...
    def seek_newest(self) -> None: ...
    # Begins a digest of what is read from here on.
    def digest_events(self) -> None: ...
    # 32 hexadecimal digits; None where none was begun, or a record was read too late.
    def events_digest(self) -> str | None: ...
    def lag(self) -> int: ...
    # "alive" | "stale" | "dead" | "closed" | "restarted"
    def producer_state(self) -> str: ...
    # To the ring that has the name now, at its oldest record; False where it is still the same one.
    def reattach(self) -> bool: ...
    # (instrument_id, symbol) from the first-th announcement on.
    def directory(self, first: int = 0) -> list[tuple[int, str]]: ...
    def stats(self) -> list[tuple[str, int]]: ...

# The latest quote of each instrument, and gaps and status records, as a thread reads them.
@final
class Conflated:
    # As Ring.read_into; updates: a writable buffer of n uint32, how many records each row stands for. (rows, lost, numbers of
    # the instruments whose latest quote is older than what was lost).
    def read_into(self, buffer: Any, updates: Any, timeout_ns: int) -> tuple[int, int, list[int]]: ...
    # Of the thread.
    @property
    def position(self) -> int: ...
    # Closed, and all of it read.
    @property
    def closed(self) -> bool: ...
    # As Ring's.
    def watch_fd(self) -> int: ...
    def arm(self) -> None: ...
    def clear(self) -> None: ...
    def unwatch(self) -> None: ...

# Makes an event (a tuple's subclass, its fields in the table's order, then the symbol) of each record and calls back.
@final
class Dispatcher:
    # calls: kind to (event's class, callback, callback for trades after the other).
    def __new__(
        cls,
        calls: dict[int, tuple[type[Any], Callable[[Any], None] | None, Callable[[Any], None] | None]],
        *,
        on_lost: Callable[[int], None] | None,
        symbol_of: Callable[[int], str],
        subscribed: frozenset[str] | None,
    ) -> Dispatcher: ...
    # The first `count` records of a buffer as read_into's; announced: changes whenever a symbol may have.
    def records(self, buffer: Any, count: int, lost: int, announced: int) -> None: ...

# --- several feeds as one stream ---

# What an alignment adds to a record ("aligned"; offsets behind the 64 bytes of a ring record), the head of a row ("row") and
# each of its legs ("leg"): rows as of `record_layouts`.
def align_layouts() -> dict[str, list[dict[str, Any]]]: ...

# Records or rows that were written, the input that lost records just before them (-1: none), how many.
_Given = tuple[int, int, int]

@final
class Aligner:
    # key: "ts_recv" | "ts_event". A name and an offset an input, 255 at most.
    def __new__(
        cls, names: list[str], key: str, offsets_ns: list[int], hold_ns: int, max_held: int, live: bool
    ) -> Aligner: ...
    # Reads a ring with a reader of its own, from where the ring's stands.
    def attach(self, input: int, ring: Ring) -> None: ...
    def set_busy(self, busy: bool) -> None: ...
    # Records of an input that is no ring, a writable buffer of n*64 bytes, or None; ConfigError where they have no time.
    def push(self, input: int, records: Any | None, lost: int, now_ns: int, has_more: bool) -> None: ...
    def progress(self, input: int, ts_recv: int) -> None: ...
    def end(self, input: int) -> None: ...
    # Of what is to be pushed, or ended, before anything more can be handed out.
    def wanting(self) -> list[int]: ...
    # Rings that were closed and have been read.
    def drained(self) -> list[int]: ...
    # The ring ends when it has been read.
    def finish(self, input: int) -> None: ...
    def is_through(self, input: int) -> bool: ...
    def ended(self) -> bool: ...
    # A writable buffer of n*88 bytes, or of n rows; what need not be held back any more at now_ns. goes_on: not beyond the
    # next loss.
    def release(self, buffer: Any, now_ns: int, rows: AlignedRows | None = None, goes_on: bool = False) -> _Given: ...
    # The same of rings, which it reads; waits up to timeout_ns, less where a ring is drained.
    def read_into(self, buffer: Any, timeout_ns: int, rows: AlignedRows | None = None) -> _Given: ...
    # Waits until `read_into` would give something.
    def wait(self, timeout_ns: int) -> None: ...
    # Of each input: records, late, late_max_ns, by_hold, by_room, lost, held.
    def stats(self) -> list[list[int]]: ...

@final
class AlignedRows:
    # A leg: its input, its symbol (None: its number is told by `resolve`). on: a leg's place, -1 any, -2 all.
    def __new__(cls, legs: list[tuple[int, str | None]], on: int, tolerance_ns: int | None = None) -> AlignedRows: ...
    def resolve(self, leg: int, instrument: int) -> None: ...
    def unresolved(self) -> list[int]: ...

# --- a live feed ---

@final
class Feed:
    # {"protocol": "itch-5.0", "publisher_id": int, "midnight_ns": int, "symbols": list[str] | None,
    #  "records": ["mbo", "bbo"], "receive": the [receive] table with every key, "lines": [{"name", "group", "port", "interface": str | None, "source": str | None, "allow": ["10.0.0.0/8", ...]}, ...],
    #  "sequencing": {"hold_us": int, "capacity": int, "line_timeout_us": int},
    #  "recovery": {"rerequest": {"servers": ["1.2.3.4:5", ...], "local": str | None, "max_messages", "per_second", "timeout_ns",
    #                             "attempts", "give_up_ns", "max_gap"} | None,
    #               "snapshot": {"servers", "username": str, "password": str, "timeout_ns", "attempts", "retry_ns", "max_bytes",
    #                            "last_included": bool} | None},
    #  "ring": {"name": str | None, "capacity": int, "mode": int, "group": int | None},
    #  "book": {"instruments": int, "orders": int, "levels": int}}
    def __new__(cls, config: dict[str, Any]) -> Feed: ...
    # OSError subclasses, RingError, FeedError.
    def start(self, native: NativeTarget | None = None) -> None: ...
    # Idempotent; raises what the thread died of, if it did.
    def stop(self) -> None: ...
    @property
    def running(self) -> bool: ...
    @property
    def ended(self) -> bool: ...
    @property
    def ring_name(self) -> str | None: ...
    @property
    def receive_report(self) -> list[str]: ...
    # At the oldest record.
    def reader(self) -> Ring: ...
    def stats(self) -> list[tuple[str, int]]: ...
    # A line a dictionary of `LineStats`, with its "number" for a name.
    def lines(self) -> list[dict[str, Any]]: ...
    # "unjudged", "synchronised", "holdover", "degraded" or "lost"; the bound's None: not known.
    def judge_clock(self, verdict: str, bound_ns: int | None) -> None: ...
    # As Replay.digest; the feed is held up for as long as it takes.
    def digest(self) -> str: ...
    def directory(self) -> list[tuple[int, str]]: ...
    # Bid price, bid size, ask price, ask size; None for an instrument that was not named.
    def top(self, instrument_id: int) -> tuple[int, int, int, int] | None: ...
    # Bids and asks, best first: <i8 price, <u8 size, <u4 orders, <u4 zero.
    def depth(self, instrument_id: int, levels: int) -> tuple[bytes, bytes]: ...
    # Bids then asks, in price-time priority: <u8 order_id, <i8 price, <u4 size, u1 side, 3 zero bytes.
    def orders(self, instrument_id: int) -> bytes: ...

# --- strategies in the loop ---

# Compiled functions `void f(event *, top *, state *)`, by kind ("mbo", "bbo", "gap", "status"), that a feed's thread calls.
# functions: (kind, address). state: a writable buffer of whole words. errors_at: where in it failures are counted.
# keep: what the functions need to stay there.
@final
class NativeTarget:
    def __new__(
        cls,
        functions: list[tuple[str, int]],
        state: Any,
        *,
        errors_at: int | None,
        slow_ns: int,
        keep: object,
    ) -> NativeTarget: ...
    # Whether a feed or a replay has it.
    @property
    def taken(self) -> bool: ...
    # The state as it was between two calls, into a buffer of its size. False: no such moment within a second.
    def snapshot_into(self, buffer: Any) -> bool: ...

# --- files ---

@final
class Replay:
    # source: a path or a file descriptor, which is duplicated. FormatError, ProtocolError, OSError.
    # way: {"impairments": [by line], "seed": int, "copies": int, "rerequest": [(fault, delay_ns), ...], "glimpse": the same};
    # an impairment: {"loss": float, "burst": (enter, leave, loss) | None, "duplicate": float, "reorder": float,
    # "reorder_by": int, "delay_ns": int, "jitter_ns": int, "drop": [(first, end), ...], "dead": [(begin_ns, end_ns), ...]}
    def __new__(
        cls,
        source: str | int,
        *,
        protocol: str,
        format: str | None = None,
        midnight_ns: int | None = None,
        records: list[str],
        symbols: list[str] | None = None,
        pace: float | None = None,
        book: dict[str, int] | None = None,
        group: str | None = None,
        port: int | None = None,
        hold_us: int | None = None,
        timestamps: str | None = None,
        way: dict[str, Any] | None = None,
        digest: bool = False,
        native: NativeTarget | None = None,
    ) -> Replay: ...
    # ns since 1970 of the first packet with a time; None in a BinaryFILE.
    @property
    def first_packet_time(self) -> int | None: ...
    # Before the first read.
    def set_midnight(self, midnight_ns: int) -> None: ...
    # As Ring.read_into. 0 at the end of the file, or when max_messages gave none.
    def read_into(self, buffer: Any, max_messages: int | None = None) -> int: ...
    @property
    def at_end(self) -> bool: ...
    @property
    def messages_read(self) -> int: ...
    @property
    def bytes_read(self) -> int: ...
    # None for a pipe.
    @property
    def bytes_total(self) -> int | None: ...
    @property
    def format(self) -> str: ...
    @property
    def warnings(self) -> list[str]: ...
    def stats(self) -> list[tuple[str, int]]: ...
    def directory(self) -> list[tuple[int, str]]: ...
    def top(self, instrument_id: int) -> tuple[int, int, int, int] | None: ...
    def depth(self, instrument_id: int, levels: int) -> tuple[bytes, bytes]: ...
    def orders(self, instrument_id: int) -> bytes: ...
    # Of all books, 32 hexadecimal digits.
    def digest(self) -> str: ...
    # Of all events read so far, 32 hexadecimal digits; None without `digest`.
    def events_digest(self) -> str | None: ...
    # As Feed.lines.
    def lines(self) -> list[dict[str, Any]]: ...

@final
class Inspector:
    def __new__(
        cls,
        source: str | int,
        *,
        protocol: str,
        format: str | None = None,
        json: bool,
        types: str | None = None,
        limit: int | None = None,
    ) -> Inspector: ...
    # Chunks of whole lines.
    def __iter__(self) -> Iterator[str]: ...
    def __next__(self) -> str: ...
    @property
    def warnings(self) -> list[str]: ...

# --- simulator ---

@final
class Simulator:
    # {"seed", "instruments", "live_orders", "messages": int | None, "trading_ns": int | None, "simulated_rate": int,
    #  "volatility": int, "venue": {"number", "lag_ns", "instrument_lag_ns"} | None, "duration_ns": int | None, "rate": float | None,
    #  "max_payload", "messages_per_packet": int | None, "session": str, "midnight_ns": int, "real_time": bool, "prepare": bool,
    #  "lines": [{"group", "port", "interface"}, ...], "ttl", "different_cuts": bool, "pcap": str | None,
    #  "binaryfile": str | None, "heartbeat_ns", "core": int | None, "impairments": as in Replay's way | None,
    #  "rerequest": {"address": str, "port": int, "fault": "none" | "slow" | "partial" | "silent" | "wrong", "delay_ns": int} | None,
    #  "glimpse": the same | None, "digest": bool}
    def __new__(cls, config: dict[str, Any]) -> Simulator: ...
    # In the caller's thread, without the GIL; Ctrl-C ends the session properly. The report.
    def run(self) -> dict[str, Any]: ...
    # On a thread of its own.
    def start(self) -> None: ...
    # Ends the session; the report.
    def stop(self) -> dict[str, Any]: ...
    @property
    def running(self) -> bool: ...
    def progress(self) -> dict[str, int]: ...
    # Of one of several venues, by instrument: {"symbol", "usual", "beta", "sector_beta", "sector", "own", "lag_ns"}; else [].
    def truth(self) -> list[dict[str, Any]]: ...
    # Times: u64, ns since the market began. Moves: f64, parts of the usual price.
    def moved(self, place: int, times: bytes) -> bytes: ...

# --- benchmarks ---

# source None: simulated flow.
def bench_book(
    source: str | None, *, seconds: float, messages: int, instruments: int, live_orders: int
) -> dict[str, Any]: ...
def bench_ring(*, seconds: float) -> dict[str, Any]: ...

# Times are little-endian u64, ns each.

# Publishing into a ring, with `native` called or nobody: times of single events there and back, ns an event in a row.
def handoff_in_loop(native: NativeTarget | None, *, events: int) -> tuple[bytes, float]: ...

# The address of a compiled function that counts events in the state's first word.
def handoff_function() -> int: ...

# Round trips of a bare word, and of a record through two rings, between two threads.
def handoff_round_trips(trips: int) -> tuple[bytes, bytes]: ...

# Sends back on `pong` what comes on the ring `ping`, until that is closed.
def handoff_echo(ping: str, pong: str) -> None: ...

@final
class HandoffFar:
    # begin: starts the process that calls handoff_echo(ping, pong).
    def __new__(cls, ping: str, pong: str, begin: Callable[[], object]) -> HandoffFar: ...
    # Empty where the other process has gone.
    def round_trips(self, trips: int) -> bytes: ...
    def close(self) -> None: ...

# A thread that publishes "mbo" records whose ts_recv is CLOCK_MONOTONIC: `fill` at once, then one every `pace_ns`.
@final
class HandoffSource:
    def __new__(cls, name: str, *, capacity: int, fill: int, pace_ns: int | None) -> HandoffSource: ...
    def stop(self) -> None: ...

# One order flow and one network, for run after run. A path is "legacy", "kernel", "io_uring", "packet_mmap" or "af_xdp".
@final
class LatencyBench:
    def __new__(cls, *, messages: int, instruments: int, live_orders: int) -> LatencyBench: ...
    # Why there is only loopback; None where there are namespaces.
    def loopback_because(self) -> str | None: ...
    # Why a path cannot be opened here; None where it can.
    def refusal(self, name: str, buffer_bytes: int) -> str | None: ...
    # Why no program in the kernel can send here; None where one can.
    def no_program(self) -> str | None: ...
    # cores: the sender's, the receiving thread's, and the strategy's where it has a thread of its own.
    def run(
        self,
        name: str,
        *,
        sender_name: str,
        buffer_bytes: int,
        rate: float,
        messages_per_packet: int,
        duration_ns: int,
        every_message: bool,
        cores: tuple[int | None, int | None, int | None],
    ) -> dict[str, Any]: ...
    # Packets sent, packets taken, and the ns that taking them took.
    def drain(
        self,
        name: str,
        *,
        sender_name: str,
        buffer_bytes: int,
        packets: int,
        messages_per_packet: int,
        cores: tuple[int | None, int | None, int | None],
    ) -> tuple[int, int, int]: ...
