"""Strategies as callbacks, and what calls them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Container, Iterable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from . import _core
from ._errors import ConfigError
from ._events import BboEvent, ClockEvent, Event, GapEvent, MboEvent, StatusEvent
from ._reader import WAIT_NS, Reader, check_seconds, finish
from ._records import KINDS

if TYPE_CHECKING:
    from ._batch import Batch
    from ._feed import Feed
    from ._reader import Scratch
    from ._replay import Replay
    from ._ring import Ring
    from ._symbols import Symbols

__all__ = ["Dispatcher", "RecordReader", "Strategy", "check_strategy", "run_strategy", "run_strategy_async"]


class RecordReader(Protocol):
    """Where the records come from: the reader of a feed, or a replay."""

    scratch: Scratch
    symbols: Symbols

    def fill(self, timeout_ns: int) -> tuple[int, int]: ...

    def batch(self, count: int, lost: int) -> Batch: ...


class Strategy:
    """Callbacks for events; override those you want. The others cost nothing: their records are not even decoded.

        class Spread(barewire.Strategy):
            symbols = ["AAPL"]
            def on_bbo(self, bbo):
                print(bbo.symbol, bbo.bid_price, bbo.ask_price)

        with barewire.Feed.from_config("feed.toml") as feed:
            feed.run(Spread())

    Attributes:
        symbols: set in the class or before the run: only these instruments reach `on_event`, `on_trade` and `on_bbo`.
            `None`: all.
    """

    symbols: Iterable[str] | str | None = None

    def on_start(self, source: Feed | Replay | Ring) -> None:
        """Before the first event. `source.stop()` ends the run; feeds and replays have `source.book(symbol)`."""

    def on_event(self, event: MboEvent) -> None:
        """An order was added, cancelled, modified, filled, or a trade printed: every "mbo" record."""

    def on_trade(self, trade: MboEvent) -> None:
        """A trade printed: an "mbo" record whose action is "T". Comes after `on_event` for the same record."""

    def on_bbo(self, bbo: BboEvent) -> None:
        """The best bid or offer of an instrument changed."""

    def on_gap(self, gap: GapEvent) -> None:
        """Messages were not seen; `gap.reason_name` says why, and "snapshot" that the books are right all the same."""

    def on_status(self, status: StatusEvent) -> None:
        """A trading state, a session's start or end, a line that fell silent, books that are right again.

        `status.code_name` says which.
        """

    def on_clock(self, clock: ClockEvent) -> None:
        """The clock behind `ts_recv`, or how far it may be off, changed: a strategy may refuse to hedge by a bad one.

        Told at the start of a live feed and at each change; `clock.is_good` says whether anything is known against it.
        Comes before `on_status` for the same record.
        """

    def on_lost(self, count: int) -> None:
        """The strategy fell behind: `count` records were overwritten in the ring before it read them."""

    def on_batch(self, batch: Batch) -> None:
        """All records read at once, before the callbacks for each: for vector arithmetic."""

    def on_end(self) -> None:
        """After the last event, also when a callback raised or Ctrl-C was pressed.

        Then a further run of the same feed or ring goes on behind the event at which that happened.
        """


def check_strategy(strategy: Strategy) -> None:
    """A mistake worth hearing of before the market opens. Raises ConfigError."""
    expected = "an object of a class that descends from barewire.Strategy"
    if isinstance(strategy, type):
        raise _wrong(f"{expected}, found the class itself: write {strategy.__name__}()", strategy)
    if not isinstance(strategy, Strategy):
        raise _wrong(f"{expected}, found {strategy!r}", strategy)
    known = [name for name in vars(Strategy) if name.startswith("on_")]
    for name in dir(strategy):
        if name in known and iscoroutinefunction(getattr(strategy, name)):
            raise _wrong(f"plain functions for callbacks, found async def {name}: nobody would await it", strategy)
        meant = _like(name, known) if name.startswith("on_") and name not in known else None
        if meant is not None and _overridden(strategy, meant) is None:
            # No error: a strategy may have methods of its own. Who wrote both `on_start` and `on_restart` meant both.
            message = f"{type(strategy).__name__}.{name} is called by nobody; {meant} would be"
            warnings.warn(message, UserWarning, stacklevel=2)
    given = strategy.symbols
    if isinstance(given, (bytes, bytearray)) or not (given is None or isinstance(given, Iterable)):
        raise _wrong(f"symbols to be a string, several, or None, found {given!r}", strategy)


def _like(name: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known, 1, cutoff=0.85)), None)


def _wrong(expected: str, found: object) -> ConfigError:
    return ConfigError(f"strategy: expected {expected}", key="strategy", value=found, expected=expected)


def _overridden(strategy: Strategy, name: str) -> Any:
    """The callback if somebody wrote one, in a class or on the object itself."""
    method = getattr(strategy, name)
    return None if getattr(method, "__func__", None) is getattr(Strategy, name) else method


def run_strategy(
    strategy: Strategy,
    source: Feed | Replay | Ring,
    reader: RecordReader,
    published: Iterable[str] | None,
    ended: Callable[[], bool],
    duration: float | None,
) -> None:
    """Calls the strategy for what the reader reads until `ended()` or `duration` seconds have passed."""
    dispatch = Dispatcher(strategy, reader.symbols, published)
    step = dispatch.step(reader)
    seconds = check_seconds("duration", duration)
    until = None if seconds is None else time.monotonic() + seconds
    strategy.on_start(source)
    try:
        while True:
            if not step(_wait_ns(until)) and finish(ended, lambda: step(0) or None)[0]:
                return
            if until is not None and time.monotonic() >= until:
                return
    finally:
        strategy.on_end()


async def run_strategy_async(
    strategy: Strategy,
    source: Feed | Ring,
    reader: Reader,
    published: Iterable[str] | None,
    ended: Callable[[], bool],
    duration: float | None,
) -> None:
    """The same in the event loop."""
    dispatch = Dispatcher(strategy, reader.symbols, published)
    step = dispatch.step(reader)
    seconds = check_seconds("duration", duration)
    until = None if seconds is None else time.monotonic() + seconds

    def over() -> bool:
        return ended() or (until is not None and time.monotonic() >= until)

    strategy.on_start(source)
    try:
        async for _ in reader.steps(lambda: step(0) or None, over):
            if until is not None and time.monotonic() >= until:
                return
    finally:
        strategy.on_end()


def _wait_ns(until: float | None) -> int:
    return WAIT_NS if until is None else min(WAIT_NS, max(0, int((until - time.monotonic()) * 1e9)))


class Dispatcher:
    """Turns records into calls of what a strategy overrides.

    Attributes:
        takes_batches: whether the strategy wants `Batch` objects.
    """

    def __init__(self, strategy: Strategy, symbols: Symbols, published: Iterable[str] | None) -> None:
        check_strategy(strategy)
        wanted_symbols = [strategy.symbols] if isinstance(strategy.symbols, str) else strategy.symbols
        self._names = symbols
        self._on_batch: Callable[[Batch], None] | None = _overridden(strategy, "on_batch")
        on_event, on_trade = _overridden(strategy, "on_event"), _overridden(strategy, "on_trade")
        wanted: dict[str, tuple[type[Event], Callable[[Any], None] | None, Callable[[Any], None] | None]] = {
            "mbo": (MboEvent, on_event, on_trade),
            "bbo": (BboEvent, _overridden(strategy, "on_bbo"), None),
            "gap": (GapEvent, _overridden(strategy, "on_gap"), None),
            "status": (
                StatusEvent,
                _status(_overridden(strategy, "on_clock"), _overridden(strategy, "on_status")),
                None,
            ),
        }
        calls = {KINDS[name]: call for name, call in wanted.items() if call[1] is not None or call[2] is not None}
        if published is not None:
            _check_records(strategy, published, calls)
        self.core = _core.Dispatcher(
            calls,
            on_lost=_overridden(strategy, "on_lost"),
            symbol_of=symbols.of,
            subscribed=None if wanted_symbols is None else frozenset(wanted_symbols),
        )
        self.takes_batches = self._on_batch is not None

    def step(self, reader: RecordReader) -> Callable[[int], bool]:
        """What reads once, waiting so many ns for the first record, and delivers; whether anything came."""
        if not self.takes_batches and isinstance(reader, Reader) and not reader.conflates:
            return lambda timeout_ns: reader.core.dispatch(self.core, timeout_ns)

        def step(timeout_ns: int) -> bool:
            count, lost = reader.fill(timeout_ns)
            if not count and not lost:
                return False
            if self.takes_batches:
                self.batch(reader.batch(count, lost))
            else:
                self.core.records(reader.scratch.bytes, count, lost, self._names.version)
            return True

        return step

    def batch(self, batch: Batch) -> None:
        """Delivers a batch: `on_lost`, `on_batch`, then an event each."""
        memory = batch.records.view(np.uint8)
        self.core.records(memory, 0, batch.lost, self._names.version)
        if self._on_batch is not None:
            self._on_batch(batch)
        self.core.records(memory, len(batch), 0, self._names.version)


def _status(
    on_clock: Callable[[ClockEvent], None] | None, on_status: Callable[[StatusEvent], None] | None
) -> Callable[[StatusEvent], None] | None:
    """What status records are for, where a strategy wants to hear of clocks."""
    if on_clock is None:
        return on_status
    heard = on_clock

    def status(event: StatusEvent) -> None:
        if event.code_name == "clock":
            heard(ClockEvent.of(event))
        if on_status is not None:
            on_status(event)

    return status


def _check_records(strategy: Strategy, records: Iterable[str], calls: Container[int]) -> None:
    """A callback that can never be called is a mistake worth hearing of before the market opens."""
    published = list(records)
    for kind, callbacks in (("mbo", "on_event or on_trade"), ("bbo", "on_bbo")):
        if KINDS[kind] in calls and kind not in published:
            raise ConfigError(
                f"records = {published}: {type(strategy).__name__} has {callbacks}, which needs {kind!r} among them",
                key="records",
                value=published,
                expected=f"{kind!r} among the records",
            )
