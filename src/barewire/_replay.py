"""Files through the same engine as a live feed, and nothing is ever lost to a slow reader."""

from __future__ import annotations

import datetime as dt
import io
import ipaddress
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal

import numpy as np

from . import _core, _time
from ._batch import Batch
from ._book import Book
from ._defaults import DEFAULT_PROTOCOL, RECORD_KINDS
from ._errors import ConfigError, FormatError, ProtocolError
from ._impair import LINE_LETTERS, Given, parse_impairments, parse_servers
from ._lines import LineStats, line_stats
from ._native import NativeStrategy, check_records
from ._reader import DEFAULT_BATCH_RECORDS, Scratch
from ._records import protocols
from ._stats import FeedStats, make_stats
from ._strategy import Strategy, run_strategy
from ._symbols import Symbols

__all__ = ["Replay", "check_protocol", "naming", "open_source", "replay"]

_FORMATS = ("pcap", "pcapng", "binaryfile")
_TIMESTAMPS = ("capture", "metamako", "exablaze", "arista-7280", "auto")
_LONGEST_HOLD_US = 60_000_000

Source = str | os.PathLike[str] | int | IO[bytes]


def replay(
    source: Source,
    *,
    protocol: str = DEFAULT_PROTOCOL,
    date: str | dt.date | None = None,
    records: str | Iterable[str] = RECORD_KINDS,
    symbols: Iterable[str] | None = None,
    pace: Literal["max", "original"] | float = "max",
    progress: bool = False,
    format: str | None = None,  # noqa: A002 (the word for it)
    group: str | None = None,
    port: int | None = None,
    impair: str | Iterable[str | Given] | None = None,
    recover: str | Iterable[str] | None = None,
    lines: int | None = None,
    seed: int = 1,
    hold_us: int | None = None,
    timestamps: str = "capture",
    digest: bool = False,
    batch_records: int = DEFAULT_BATCH_RECORDS,
    native: NativeStrategy | None = None,
) -> Replay:
    """Opens a capture (pcap, pcapng) or an exchange file (BinaryFILE), plain, gzip or zstd, to iterate over its events.

        for batch in barewire.replay("20200130.bin", protocol="itch-5.0"):
            print(batch.bbo["bid_price"])

    Args:
        source: a path, `"-"` for standard input, a file descriptor, or a file opened in binary mode.
        protocol: one of `barewire.protocols()`.
        date: the trading day, `YYYY-MM-DD` or a date, since venues' clocks count from midnight. Left out: the day of
            the
            first packet's time (US Eastern), else one found in the file's name, else `ts_event` counts from midnight;
            `Replay.warnings` says which.
        records: "mbo" (order events and trades), "bbo" (best bid and offer), or both.
        symbols: only these instruments; `None` for all.
        pace: "max", "original" (by the packets' or, without those, the messages' times), or how many times as fast.
        progress: draw a bar on standard error, where that is a terminal.
        format: "pcap", "pcapng" or "binaryfile"; left out: found from the contents.
        group, port: only packets to this multicast group or port of a capture.
        impair: what a network is to do to the packets before the engine sees them, e.g. "loss=1%" or
            ["A:loss=1%,jitter=20us", "B:delay=50us"]; see the page on recovery. The first destination that the capture
            shows is line A. Messages without packets (BinaryFILE) are packed.
        recover: simulated servers behind that network: "rerequest", "glimpse" or both, each with a fault where it is to
            have one: "rerequest:silent,rerequest,glimpse:slow:50ms".
        lines: send each packet on so many lines, A, B and so on, instead of on the one that the capture shows.
        seed: of the impairments: the same seed, the same losses.
        hold_us: microseconds to wait for a missing message, by the packets' times; left out: 2000.
        timestamps: where `ts_recv` comes from: "capture", the file's own times; or a capture switch's, written into
            each frame: "metamako" (Arista 7130), "exablaze" (Cisco Nexus 3550), "arista-7280"; or "auto", whichever of
            these is there beyond doubt. A packet that has none to believe keeps the file's time; `Replay.warnings` and
            the statistics `switch_times`, `switch_times_missing`, `switch_times_implausible` say how many.
        digest: compute `Replay.events_digest()`.
        batch_records: most records of one batch.
        native: a strategy that is called for each event as a live feed's thread would call it (`barewire.native`);
            `Replay.run()` without a strategy runs it to the end of the file.

    Raises ConfigError for an argument, ProtocolError, FormatError where the contents are something else, OSError.
    """
    check_protocol(protocol)
    _check_capture_options(format, group, timestamps)
    way = _way(impair, recover, lines, seed)
    if hold_us is not None and not (isinstance(hold_us, int) and 0 <= hold_us <= _LONGEST_HOLD_US):
        expected = f"a whole number of microseconds, 0 to {_LONGEST_HOLD_US}"
        raise ConfigError(f"hold_us {hold_us!r}: expected {expected}", key="hold_us", value=hold_us, expected=expected)
    chosen = [records] if isinstance(records, str) else list(records)
    if not chosen or set(chosen) - set(RECORD_KINDS):
        expected = " or ".join(map(repr, RECORD_KINDS)) + ", or both"
        raise ConfigError(f"records {chosen!r}: expected {expected}", key="records", value=chosen, expected=expected)
    if native is not None:
        check_records(native, chosen)
    name, opened = open_source(source)
    with naming(name):
        core = _core.Replay(
            opened,
            protocol=protocol,
            format=format,
            midnight_ns=None if date is None else _time.midnight_ns(_time.parse_date(date)),
            records=chosen,
            symbols=None if symbols is None else list(symbols),
            pace=_pace(pace),
            book=_capacity(name, opened),
            group=group,
            port=port,
            hold_us=hold_us,
            timestamps=timestamps,
            way=way,
            digest=digest,
            native=None if native is None else native.target,
        )
    made = Replay(core, name, chosen, frozenset(symbols or ()), batch_records, progress)
    if date is None:
        made._find_date()
    else:
        made.date = _time.parse_date(date)
    return made


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Puts the file's name before what the core says of its contents."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{name}: {error}", offset=error.offset, expected=error.expected, found=error.found) from None


def _check_capture_options(file_format: str | None, group: str | None, timestamps: str) -> None:
    if timestamps not in _TIMESTAMPS:
        expected = f"one of: {', '.join(_TIMESTAMPS)}"
        raise ConfigError(
            f"timestamps {timestamps!r}: expected {expected}", key="timestamps", value=timestamps, expected=expected
        )
    if file_format not in (None, *_FORMATS):
        expected = f"one of: {', '.join(_FORMATS)}"
        raise ConfigError(
            f"format {file_format!r}: expected {expected}", key="format", value=file_format, expected=expected
        )
    if group is not None:
        try:
            ipaddress.IPv4Address(group)
        except ValueError:
            expected = "an IPv4 address, e.g. 239.255.64.1"
            raise ConfigError(
                f"group {group!r}: expected {expected}", key="group", value=group, expected=expected
            ) from None


def _way(
    impair: str | Iterable[str | Given] | None, recover: str | Iterable[str] | None, lines: int | None, seed: int
) -> dict[str, Any] | None:
    """The network between capture and engine, as the compiled core takes it; `None` where there is none."""
    if not isinstance(seed, int) or not 0 <= seed < 1 << 64:
        expected = "a whole number from 0 to 2^64 - 1"
        raise ConfigError(f"seed {seed!r}: expected {expected}", key="seed", value=seed, expected=expected)
    if lines is not None and not (isinstance(lines, int) and 1 <= lines <= len(LINE_LETTERS)):
        expected = f"a number of lines, 1 to {len(LINE_LETTERS)}"
        raise ConfigError(f"lines {lines!r}: expected {expected}", key="lines", value=lines, expected=expected)
    given = [impair] if isinstance(impair, str) else impair or ()
    letters = LINE_LETTERS[: lines or len(LINE_LETTERS)]
    impairments = parse_impairments((one if isinstance(one, Given) else Given("impair", one) for one in given), letters)
    servers = parse_servers("recover", [recover] if isinstance(recover, str) else recover or ())
    if impairments is None and lines is None and not any(servers.values()):
        return None
    return {
        "impairments": [one.to_core() for one in impairments or ()],
        "seed": seed,
        "copies": lines or 0,
        **servers,
    }


def check_protocol(protocol: str) -> None:
    """Raises ProtocolError for a name that is not among `barewire.protocols()`."""
    known = protocols()
    if protocol not in known:
        raise ProtocolError(
            f"unknown protocol {protocol!r}; expected one of: {', '.join(known)}", protocol=protocol, known=known
        )


def _pace(pace: str | float) -> float | None:
    if pace == "max":
        return None
    if pace == "original":
        return 1.0
    if isinstance(pace, (int, float)) and not isinstance(pace, bool) and 0 < pace < float("inf"):
        return float(pace)
    expected = "'max', 'original' or a number above 0 (2 is twice as fast)"
    raise ConfigError(f"pace {pace!r}: expected {expected}", key="pace", value=pace, expected=expected)


_LOCATE_CODES = 1 << 16
_SHORT_MESSAGE_BYTES = 32
_COMPRESSION = 12  # order flow shrinks to a tenth, about
_SMALL_FILE_ORDERS = 1 << 18


def _capacity(name: str, opened: str | int) -> dict[str, int] | None:
    """Books that fit a small file: to touch tables made for a whole venue takes longer than to read a small file.

    `None`, the core's own choice, for large files and pipes. The books grow where the guess is too low.
    """
    try:
        found = os.stat(opened)
    except OSError:
        return None  # the core says what is wrong with it
    if not stat.S_ISREG(found.st_mode):
        return None
    orders = found.st_size * (_COMPRESSION if name.endswith((".gz", ".zst", ".zstd")) else 1) // _SHORT_MESSAGE_BYTES
    if orders > _SMALL_FILE_ORDERS:
        return None
    return {"instruments": _LOCATE_CODES, "orders": max(orders, 4096), "levels": max(orders, 4096)}


def open_source(source: Source) -> tuple[str, str | int]:
    """A name to call the source by, and what the core opens: a path or a file descriptor."""
    if isinstance(source, int):
        return f"file descriptor {source}", source
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return ("standard input", 0) if path == "-" else (path, path)
    name = str(getattr(source, "name", "a file object"))
    try:
        descriptor = source.fileno()
    except (OSError, AttributeError):
        return name, _spool(source)
    if source.seekable():
        os.lseek(descriptor, source.tell(), os.SEEK_SET)  # Python may have read ahead of where its user is
    return name, os.dup(descriptor)


def _spool(source: IO[bytes]) -> int:
    """An object that only Python can read, copied to anonymous memory, which the core reads as a file."""
    descriptor = os.memfd_create("barewire-replay", os.MFD_CLOEXEC)
    while chunk := source.read(io.DEFAULT_BUFFER_SIZE * 64):
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class Replay:
    """A file on its way through the engine: iterate for batches, or `run()` a strategy. Made by `barewire.replay()`.

    Attributes:
        name: what is being read.
        records: the kinds of records asked for.
        date: the trading day that `ts_event` was computed with; `None` where it is unknown.
        symbols: the directory, instrument number to symbol, as announced so far.
    """

    def __init__(
        self,
        core: _core.Replay,
        name: str,
        records: list[str],
        wanted: frozenset[str],
        batch_records: int,
        progress: bool,
    ) -> None:
        self._wanted = wanted
        self._core = core
        self.records = records
        self.scratch = Scratch(batch_records)
        self.symbols = Symbols(lambda first: core.directory()[first:])
        self._advance: Callable[[int], None] = lambda _: None
        self._progress = progress
        self._stopping = False
        self._step: int | None = None
        self._notes: list[str] = []
        self.name = name
        self.date: dt.date | None = None

    def _find_date(self) -> None:
        first = self._core.first_packet_time
        if first is not None:
            self.date = _time.date_of(first)
        else:
            self.date = _time.date_from_name(self.name)
            if self.date is None:
                self._notes.append(
                    "no date is known, so ts_event counts from midnight; give the trading day, e.g. date 2020-01-30"
                )
                return
            self._notes.append(f"date {self.date} taken from the file's name; give the trading day if it is another")
        self._core.set_midnight(_time.midnight_ns(self.date))

    def __iter__(self) -> Iterator[Batch]:
        """Batches to the end of the file. A second loop goes on where the first one left."""
        if not self._progress:
            yield from self._batches()
            return
        from ._progress import bar

        with bar(self.name, self._core.bytes_total) as self._advance:
            yield from self._batches()

    def _batches(self) -> Iterator[Batch]:
        while count := self.fill(0)[0]:
            yield self.batch(count, 0)

    def batch(self, count: int, lost: int) -> Batch:
        """What `fill` put into the scratch memory. For `run_strategy`."""
        return Batch(self.scratch.take(count), lost, self.symbols)

    def fill(self, timeout_ns: int) -> tuple[int, int]:  # noqa: ARG002 (a file never keeps one waiting)
        """Records into the scratch memory, (records, 0); (0, 0) at the end of the file. For `run_strategy`."""
        count = 0
        while not count and not self._stopping:
            count = self._core.read_into(self.scratch.bytes, self._step)
            self._advance(self._core.bytes_read)
            if self._core.at_end:
                break
        return count, 0

    def run(self, strategy: Strategy | None = None, *, batch_messages: int | None = 1) -> None:
        """Calls the strategy for every event of the file, in this thread. Without one, reads to the end of the file,

        for a native strategy or for the books.

        A book that a callback looks at stands exactly after the message that the event came from, as it would live; no
        look into the future. A strategy that looks at no book runs faster with a larger `batch_messages`, or `None` for
        as many messages as fill a batch.

        Raises ConfigError when the strategy has a callback for records that were not asked for; whatever a callback
        raises.
        """
        if strategy is None:
            for _ in self:
                pass
            return
        if isinstance(strategy, NativeStrategy):
            expected = "a native strategy to be given before: replay(..., native=...)"
            raise ConfigError(f"run: expected {expected}", key="strategy", value=strategy, expected=expected)
        is_whole = isinstance(batch_messages, (int, np.integer)) and not isinstance(batch_messages, bool)
        if batch_messages is not None and not (is_whole and batch_messages >= 1):
            expected = "a number of messages, 1 or more, or None"
            raise ConfigError(
                f"batch_messages {batch_messages!r}: expected {expected}",
                key="batch_messages",
                value=batch_messages,
                expected=expected,
            )
        self._step = None if batch_messages is None else int(batch_messages)
        if not self._progress:
            run_strategy(strategy, self, self, self.records, lambda: True, None)
            return
        from ._progress import bar

        with bar(self.name, self._core.bytes_total) as self._advance:
            run_strategy(strategy, self, self, self.records, lambda: True, None)

    def stop(self) -> None:
        """Ends the loop or the run after the current batch."""
        self._stopping = True

    def book(self, symbol: str) -> Book:
        """The book of one instrument as it is after the last record read. Raises UnknownSymbolError."""
        return Book(self._core, self.symbols.id_of(symbol), symbol)

    @property
    def stats(self) -> FeedStats:
        """The statistics so far: every packet and message in exactly one counter."""
        return make_stats(self._core.stats())

    @property
    def warnings(self) -> list[str]:
        """What a user should know, one line each: where the date came from, a truncated tail. Complete at the end."""
        absent = sorted(self._wanted - self.symbols.known().keys()) if self._core.at_end else []
        said = [f"no instrument {symbol!r} in this file" for symbol in absent]
        return [*self._notes, *self._core.warnings, *said]

    @property
    def format(self) -> str:
        """What the file is: "pcap", "pcapng" or "binaryfile", with "+gzip" or "+zstd"."""
        return self._core.format

    @property
    def bytes_read(self) -> int:
        """How far the file has been read, in bytes of the file as it is stored."""
        return self._core.bytes_read

    @property
    def bytes_total(self) -> int | None:
        """The file's size in bytes; `None` for a pipe."""
        return self._core.bytes_total

    def digest(self) -> str:
        """A fingerprint of all books as they are, 32 hex digits: equal books, equal digests."""
        return self._core.digest()

    def events_digest(self) -> str:
        """A fingerprint of all events read so far, in their order, 32 hex digits: what a strategy saw.

        When and how they arrived is no part of it, nor are silent lines. Raises ConfigError where `digest=True` was not
        given.
        """
        found = self._core.events_digest()
        if found is None:
            raise ConfigError("events_digest(): expected barewire.replay(..., digest=True)", key="digest")
        return found

    def lines(self) -> list[LineStats]:
        """What each line of a capture brought: a line for each destination, A the first that the capture shows."""
        return line_stats(self._core.lines(), LINE_LETTERS)

    def __repr__(self) -> str:
        return f"<Replay of {self.name}: {self.format}, {self.bytes_read} of {self.bytes_total or '?'} bytes>"
