"""A live feed: multicast in, events and books out."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _core
from ._batch import Batch
from ._book import Book
from ._clock import Clock, clock_of
from ._config import Config, load_config
from ._errors import ConfigError, FeedError
from ._lines import LineStats, line_stats
from ._native import NativeStrategy, check_records
from ._reader import DEFAULT_BATCH_RECORDS, Reader, check_seconds, check_wait, select
from ._ring import Ring
from ._stats import FeedStats, make_stats
from ._strategy import Strategy, check_strategy, run_strategy, run_strategy_async
from ._symbols import Symbols

if TYPE_CHECKING:
    from typing import Self

    from ._clock_watch import ClockWatcher
    from ._ptp.judge import ClockState
    from ._reader import Wait

__all__ = ["Feed"]


class _OneAtATime:
    """The core's feed, which refuses to be asked by two threads at once: here the second one waits."""

    def __init__(self, core: _core.Feed) -> None:
        self._core = core
        self._lock = threading.RLock()

    def start(self, native: _core.NativeTarget | None) -> None:
        with self._lock:
            self._core.start(native)

    def stop(self) -> None:
        with self._lock:
            self._core.stop()

    @property
    def running(self) -> bool:
        with self._lock:
            return self._core.running

    @property
    def ended(self) -> bool:
        with self._lock:
            return self._core.ended

    @property
    def ring_name(self) -> str | None:
        return self._core.ring_name

    @property
    def receive_report(self) -> list[str]:
        with self._lock:
            return self._core.receive_report

    def reader(self) -> _core.Ring:
        with self._lock:
            return self._core.reader()

    def stats(self) -> list[tuple[str, int]]:
        with self._lock:
            return self._core.stats()

    def judge_clock(self, verdict: str, bound_ns: int | None) -> None:
        with self._lock:
            self._core.judge_clock(verdict, bound_ns)

    def lines(self) -> list[dict[str, Any]]:
        with self._lock:
            return self._core.lines()

    def digest(self) -> str:
        with self._lock:
            return self._core.digest()

    def top(self, instrument_id: int) -> tuple[int, int, int, int] | None:
        with self._lock:
            return self._core.top(instrument_id)

    def depth(self, instrument_id: int, levels: int) -> tuple[bytes, bytes]:
        with self._lock:
            return self._core.depth(instrument_id, levels)

    def orders(self, instrument_id: int) -> bytes:
        with self._lock:
            return self._core.orders(instrument_id)


class Feed:
    """One venue channel, received on a thread of its own that Python never holds up.

        with barewire.Feed.from_config("feed.toml") as feed:
            for batch in feed:                        # or: async for batch in feed
                print(len(batch), batch.bbo["bid_price"])

    The thread receives, puts in order, builds the books and publishes to a ring; this object reads the ring. A reader
    that falls behind loses records, never slows the feed, and is told (`Batch.lost`).
    """

    def __init__(
        self,
        config: Config,
        *,
        batch_records: int = DEFAULT_BATCH_RECORDS,
        digest: bool = False,
        wait: Wait = "sleep",
        native: NativeStrategy | None = None,
    ) -> None:
        self.config = config
        self._native = self._checked(native)
        self._wait: Wait = check_wait(wait)
        self._digest = digest
        self._batch_records = batch_records
        self._core = _OneAtATime(_core.Feed(config.to_core()))
        self._symbols = Symbols(self._announced)
        self._reader: Reader | None = None
        self._watcher: ClockWatcher | None = None
        self._stopping = False

    @classmethod
    def from_config(
        cls,
        config: str | os.PathLike[str] | Mapping[str, Any] | Config,
        *,
        batch_records: int = DEFAULT_BATCH_RECORDS,
        digest: bool = False,
        wait: Wait = "sleep",
        native: NativeStrategy | None = None,
    ) -> Self:
        """A feed from a TOML file's path, TOML text (a string of several lines) or a mapping of the same shape.

        Nothing is opened yet: `start()` does that, or `with`. `batch_records` is the most records of one batch;
        `digest` computes `events_digest()`, as the events are read. `wait` is how this object and its readers wait for
        records: "sleep" looks for some tens of microseconds and then between short naps, "busy" without a pause, which
        takes a core. `native` is a strategy that the feed's own thread calls for each event (`barewire.native`).

        Raises ConfigError, which names the key, the value and what was expected; OSError for a file that cannot be
        read.
        """
        return cls(load_config(config), batch_records=batch_records, digest=digest, wait=wait, native=native)

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Opens sockets and ring and starts the thread.

        Raises OSError (no such interface, no permission, address in use), RingError, FeedError when it runs already.
        """
        if self._reader is not None:
            raise FeedError("the feed was started before; make another with Feed.from_config()")
        watcher = self._clock_watcher()
        self._core.start(None if self._native is None else self._native.target)
        if watcher is not None:
            self._watcher = watcher
            watcher.start()
        if self._native is not None:
            # Its code is gone when the interpreter is: the thread must end first.
            weakref.finalize(self, self._core.stop)
        # At the oldest record: what came between the start and this line is not missed.
        core = self._core.reader()
        if self._digest:
            core.digest_events()
        self._reader = Reader(core, self._symbols, self._batch_records, wait=self._wait)

    def stop(self) -> None:
        """Ends the thread; loops over the feed come to their end. Raises what the thread died of, if it did."""
        self._stopping = True
        if self._watcher is not None:
            self._watcher.stop()
        self._core.stop()

    def _clock_watcher(self) -> ClockWatcher | None:
        if self.config.clock.ptp_socket is None:
            return None
        from ._clock_watch import ClockWatcher

        return ClockWatcher(self.config.clock, self._core)

    def __enter__(self) -> Self:
        if self._reader is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- events ----------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """Batches as they come, until the venue ends the session or `stop()` is called. One loop at a time: for more

        readers use `reader()`.
        """
        return self._started().batches(self._ended)

    def __aiter__(self) -> AsyncIterator[Batch]:
        """The same for asyncio; the event loop is never held up."""
        return self._started().batches_async(self._ended)

    def read(self, timeout: float | None = None) -> Batch | None:
        """The next batch; `None` at the feed's end, or when nothing came within `timeout` seconds."""
        return self._started().next(timeout, self._ended)

    def run(self, strategy: Strategy | NativeStrategy, *, duration: float | None = None) -> None:
        """Calls the strategy for every event, in this thread, until the session ends, `stop()` or `duration` seconds.

        Starts and stops the feed where that has not been done. A native strategy is called in the feed's own thread
        while this one waits; the feed must not have been started. Raises ConfigError when the strategy has a callback
        for records that the feed does not publish; whatever a callback raises.
        """
        if isinstance(strategy, NativeStrategy):
            if self._reader is not None:
                raise FeedError("the feed runs already; give it the strategy before: Feed.from_config(..., native=...)")
            seconds = check_seconds("duration", duration)
            self._native = self._checked(strategy)
            with self:
                until = float("inf") if seconds is None else time.monotonic() + seconds
                while not self._ended() and (left := until - time.monotonic()) > 0:
                    time.sleep(min(left, 0.02))
        elif self._reader is None:
            check_strategy(strategy)
            with self:
                self.run(strategy, duration=duration)
        else:
            run_strategy(strategy, self, self._reader, self.config.feed.records, self._ended, duration)

    async def run_async(self, strategy: Strategy, *, duration: float | None = None) -> None:
        """`run` in the event loop, which other tasks share: callbacks are plain functions, and should be short."""
        if self._reader is None:
            check_strategy(strategy)
            with self:
                await self.run_async(strategy, duration=duration)
        else:
            await run_strategy_async(strategy, self, self._reader, self.config.feed.records, self._ended, duration)

    def reader(
        self,
        *,
        symbols: Iterable[str | int] | str | None = None,
        kinds: Iterable[str] | str | None = None,
        sides: Iterable[str] | None = None,
        conflate: bool = False,
        wait: Wait | None = None,
        batch_records: int | None = None,
    ) -> Ring:
        """Another reader of the same ring, from the next record on, for another thread or task.

        The arguments are those of `Ring.attach`; `wait` and `batch_records` are the feed's where they are not given.
        """
        self._started()
        core = self._core.reader()
        core.seek_newest()
        select(core, symbols, kinds, sides, conflate=conflate)
        most = self._batch_records if batch_records is None else batch_records
        return Ring(core, batch_records=most, wait=wait or self._wait, conflate=conflate)

    # --- what is known ---------------------------------------------------------------------------

    def book(self, symbol: str, *, timeout: float = 0.0) -> Book:
        """The book of one instrument, which follows the feed.

        Waits up to `timeout` seconds for the venue to announce the instrument. Raises UnknownSymbolError, which lists
        symbols that look alike.
        """
        until = time.monotonic() + timeout
        while symbol not in self._symbols.known() and time.monotonic() < until and not self._ended():
            time.sleep(0.01)
        return Book(self._core, self._symbols.id_of(symbol), symbol)

    @property
    def symbols(self) -> Symbols:
        """The directory: instrument number to symbol, as announced so far."""
        return self._symbols

    @property
    def stats(self) -> FeedStats:
        """The statistics at this moment: every packet and message in exactly one counter. All 0 before the start."""
        return make_stats(() if self._reader is None else self._core.stats())

    @property
    def clock_state(self) -> ClockState | None:
        """What PTP's daemon makes of the system's clock, with reasons; `None` where it is not watched (`[clock]`)."""
        return None if self._watcher is None else self._watcher.state

    @property
    def clock(self) -> Clock:
        """The clock behind `ts_recv` at this moment, and how far it may be off. Nothing is known before the start."""
        return clock_of(self.stats.as_dict() if self._reader is not None else {})

    def digest(self) -> str:
        """A fingerprint of all books as they are, 32 hex digits: equal books, equal digests.

        The feed's thread computes it, and receives nothing meanwhile: for the end of a session, or a test. Raises
        FeedError before the start.
        """
        self._started()
        return self._core.digest()

    def events_digest(self) -> str | None:
        """A fingerprint of all events that this object has read, in order, 32 hex digits: equal events, equal digests.

        When and how they arrived is no part of it, nor are silent lines. `None` when records were read too late, since
        nobody knows what they held. Raises ConfigError where `digest=True` was not given, FeedError before the start.
        """
        reader = self._started()
        if not self._digest:
            raise ConfigError("events_digest(): expected Feed.from_config(..., digest=True)", key="digest")
        return reader.core.events_digest()

    def lines(self) -> list[LineStats]:
        """What each line brought, how far it lags behind the others, whether it is silent. Empty before the start."""
        names = [line.name for line in self.config.lines]
        return [] if self._reader is None else line_stats(self._core.lines(), names)

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._core.running

    @property
    def ended(self) -> bool:
        """Whether the venue ended the session."""
        return self._core.ended

    @property
    def ring_name(self) -> str | None:
        """The name that `Ring.attach` finds this feed by; `None` for a ring of this process only."""
        return self._core.ring_name

    @property
    def native(self) -> NativeStrategy | None:
        """The strategy that the feed's thread calls."""
        return self._native

    @property
    def receive_report(self) -> list[str]:
        """What was asked of the system and what was got (receive buffer, timestamps, pinning), one line each."""
        return self._core.receive_report

    def __repr__(self) -> str:
        state = "running" if self.running else "ended" if self.ended else "stopped"
        lines = ", ".join(f"{line.name} {line.group}:{line.port}" for line in self.config.lines)
        return f"<Feed {self.config.feed.name!r} {self.config.feed.protocol}: {lines}; {state}>"

    def _announced(self, first: int) -> list[tuple[int, str]]:
        """From the ring, so that the feed's thread need not be asked."""
        return [] if self._reader is None else self._reader.core.directory(first)

    def _checked(self, native: NativeStrategy | None) -> NativeStrategy | None:
        if native is not None:
            check_records(native, self.config.feed.records)
        return native

    def _started(self) -> Reader:
        if self._reader is None:
            raise FeedError("the feed is not started; use 'with feed:' or feed.start()")
        return self._reader

    def _ended(self) -> bool:
        if self._stopping or self._core.ended:
            return True
        if not self._core.running:
            self._core.stop()  # raises what the thread died of
            return True
        return False
