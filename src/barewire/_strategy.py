"""Strategies as callbacks, and what calls them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ._batch import Batch
from ._errors import ConfigError
from ._events import KIND_AT, BboEvent, Buffer, Event, GapEvent, MboEvent, StatusEvent, decoders
from ._records import KINDS, RECORD_BYTES

if TYPE_CHECKING:
    import numpy.typing as npt

    from ._feed import Feed
    from ._replay import Replay
    from ._ring import Scratch
    from ._symbols import Symbols

__all__ = ["Dispatcher", "RecordReader", "Strategy", "run_strategy"]

_FEW = 32  # below this many records numpy's fixed costs outweigh what it saves


class RecordReader(Protocol):
    """Where the records come from: the reader of a feed, or a replay."""

    scratch: Scratch
    symbols: Symbols

    def fill(self, timeout_ns: int) -> tuple[int, int]: ...


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

    symbols: Iterable[str] | None = None

    def on_start(self, source: Feed | Replay) -> None:
        """Before the first event. `source.book(symbol)` gives books, `source.stop()` ends the run."""

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

    def on_lost(self, count: int) -> None:
        """The strategy fell behind: `count` records were overwritten in the ring before it read them."""

    def on_batch(self, batch: Batch) -> None:
        """All records read at once, before the callbacks for each: for vector arithmetic."""

    def on_end(self) -> None:
        """After the last event, also when a callback raised or Ctrl-C was pressed."""


def _overridden(strategy: Strategy, name: str) -> Any:
    """The callback if somebody wrote one, in a class or on the object itself."""
    method = getattr(strategy, name)
    return None if getattr(method, "__func__", None) is getattr(Strategy, name) else method


def run_strategy(
    strategy: Strategy,
    source: Feed | Replay,
    reader: RecordReader,
    published: Iterable[str],
    ended: Callable[[], bool],
    duration: float | None,
) -> None:
    """Calls the strategy for what the reader reads until `ended()` or `duration` seconds have passed."""
    dispatch = Dispatcher(strategy, reader.symbols, published)
    until = None if duration is None else time.monotonic() + duration
    strategy.on_start(source)
    try:
        while True:
            count, lost = reader.fill(_wait_ns(until))
            if count or lost:
                if dispatch.takes_batches:
                    dispatch.batch(Batch(reader.scratch.take(count), lost, reader.symbols))
                else:
                    dispatch.records(reader.scratch.records[:count], reader.scratch.memory, lost)
            elif ended():
                return
            if until is not None and time.monotonic() >= until:
                return
    finally:
        strategy.on_end()


def _wait_ns(until: float | None) -> int:
    return 100_000_000 if until is None else min(100_000_000, max(0, int((until - time.monotonic()) * 1e9)))


class Dispatcher:
    """Turns records into calls of what a strategy overrides.

    Attributes:
        takes_batches: whether the strategy wants `Batch` objects.
    """

    def __init__(self, strategy: Strategy, symbols: Symbols, published: Iterable[str]) -> None:
        self._names = symbols
        self._on_batch: Callable[[Batch], None] | None = _overridden(strategy, "on_batch")
        self._on_lost: Callable[[int], None] | None = _overridden(strategy, "on_lost")
        wanted: dict[int, Callable[[Any], None] | None] = {
            KINDS["mbo"]: _both(_overridden(strategy, "on_event"), _overridden(strategy, "on_trade")),
            KINDS["bbo"]: _overridden(strategy, "on_bbo"),
            KINDS["gap"]: _overridden(strategy, "on_gap"),
            KINDS["status"]: _overridden(strategy, "on_status"),
        }
        _check_records(strategy, published, wanted)
        make = decoders(symbols)
        self._calls: dict[int, tuple[Callable[[Buffer, int], Event], Callable[[Any], None]]] = {
            kind: (make[kind], call) for kind, call in wanted.items() if call is not None
        }
        self._wanted = np.zeros(256, np.bool_)
        self._wanted[list(self._calls)] = True
        self._subscribed = None if strategy.symbols is None else frozenset(strategy.symbols)
        self._chosen = np.empty(0, np.bool_)
        self._chosen_version = -1
        self.takes_batches = self._on_batch is not None

    def batch(self, batch: Batch) -> None:
        """Delivers a batch: `on_lost`, `on_batch`, then an event each."""
        memory = batch.records.view(np.uint8).data
        if batch.lost and self._on_lost is not None:
            self._on_lost(batch.lost)
        if self._on_batch is not None:
            self._on_batch(batch)
        self.records(batch.records, memory, 0)

    def records(self, records: npt.NDArray[np.void], memory: memoryview, lost: int) -> None:
        """Delivers records, which lie in `memory` from its first byte on, an event each; `lost` went missing before."""
        if lost and self._on_lost is not None:
            self._on_lost(lost)
        if not self._calls:
            return
        count = len(records)
        offsets: Iterable[int]
        if count <= _FEW:
            offsets = range(0, count * RECORD_BYTES, RECORD_BYTES)
        else:
            chosen = self._wanted[records["kind"]]
            if self._subscribed is not None:
                chosen &= self._is_subscribed(records)
            offsets = (np.flatnonzero(chosen) * RECORD_BYTES).tolist()
        calls, subscribed = self._calls, self._subscribed
        for offset in offsets:
            found = calls.get(memory[offset + KIND_AT])
            if found is not None:
                event = found[0](memory, offset)
                if subscribed is None or event.kind > KINDS["bbo"] or event.symbol in subscribed:
                    found[1](event)

    def _is_subscribed(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Which records are of the chosen symbols; gaps and status pass, whatever they are about."""
        positions = self._names.positions(records["instrument_id"])
        if self._chosen_version != self._names.version:
            self._chosen_version = self._names.version
            subscribed = self._subscribed or frozenset()
            self._chosen = np.array([name in subscribed for name in self._names.names], np.bool_)
        passes: npt.NDArray[np.bool_] = self._chosen[positions] | (records["kind"] > KINDS["bbo"])
        return passes


def _both(on_event: Any, on_trade: Any) -> Callable[[Any], None] | None:
    if on_trade is None:
        return on_event  # type: ignore[no-any-return]

    def call(event: MboEvent) -> None:
        if on_event is not None:
            on_event(event)
        if event.action == "T":
            on_trade(event)

    return call


def _check_records(strategy: Strategy, records: Iterable[str], wanted: dict[int, Any]) -> None:
    """A callback that can never be called is a mistake worth hearing of before the market opens."""
    published = list(records)
    for kind, callbacks in (("mbo", "on_event or on_trade"), ("bbo", "on_bbo")):
        if wanted[KINDS[kind]] is not None and kind not in published:
            raise ConfigError(
                f"records = {published}: {type(strategy).__name__} has {callbacks}, which needs {kind!r} among them",
                key="records",
                value=published,
                expected=f"{kind!r} among the records",
            )
