"""Several feeds as one stream, in the order in which their packets arrived."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from . import _core
from ._align_batch import ALIGNED_DTYPE, AlignedBatch
from ._batch import Batch
from ._errors import ConfigError
from ._feed import Feed
from ._reader import DEFAULT_BATCH_RECORDS, WAIT_NS, check_batch_records, check_seconds, check_wait
from ._replay import Replay
from ._ring import Ring
from ._symbols import Symbols

if TYPE_CHECKING:
    from typing import Self

    import numpy.typing as npt

    from ._align_rows import LegGiven, Rows
    from ._reader import Wait

__all__ = ["AlignStats", "Aligned", "Found", "Input", "align"]

Input = Feed | Ring | Replay | Iterable[Batch]
Found = tuple[int, Mapping[str, int]]
"""Records or rows that were written, and what was lost before them."""

T = TypeVar("T")
_NOTHING = (0, -1, 0)
_END = object()
_MOST_INPUTS = 255
_NO_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class AlignStats:
    """What came of one input so far.

    Attributes:
        records: records delivered.
        late: those of them that were older than something that had been delivered before.
        late_max_ns: by how much the latest was: how much longer `hold` would have had to be.
        by_hold: those that were delivered because they had been held long enough.
        by_room: those that were delivered early because `max_held` was reached.
        lost: records that were overwritten in the ring before they were read.
        held: records held back now.
    """

    records: int
    late: int
    late_max_ns: int
    by_hold: int
    by_room: int
    lost: int
    held: int


def align(
    inputs: Mapping[str, Input],
    *,
    key: Literal["ts_recv", "ts_event"] = "ts_recv",
    tolerance: float | None = None,
    hold: float = 0.001,
    offset_ns: Mapping[str, int] | None = None,
    max_held: int = 1 << 20,
    wait: Wait = "sleep",
    batch_records: int = DEFAULT_BATCH_RECORDS,
) -> Aligned:
    """Merges the events of several feeds or venues into one stream, in the order in which their packets arrived.

        with barewire.Feed.from_config("nasdaq.toml") as nasdaq, barewire.Feed.from_config("arca.toml") as arca:
            aligned = barewire.align({"nasdaq": nasdaq, "arca": arca}, hold=0.0005)
            for batch in aligned.rows([("nasdaq", "AAPL"), ("arca", "SPY")], tolerance=0.001):
                print(batch.rows["skew_ns"], batch["arca.SPY"]["bid_price"])

    All inputs are live (feeds that were started, attached rings) or all are recorded (replays, or any iterable of
    batches). Each keeps its own order. Live, feeds and rings are read by readers of this alignment's own, which begin
    where the input's own reader stands. See the documentation's page on alignment.

    Args:
        inputs: name to input. The order decides between records of one and the same time.
        key: by what to align: "ts_recv", when the packet arrived, or "ts_event", when the venue says it happened.
        tolerance: seconds; how far the legs of a row may be apart. The default of `Aligned.rows`.
        hold: seconds that an event is held back for an input that says nothing. Of recorded inputs, the most that
            `held_ns` tells.
        offset_ns: name to nanoseconds that are added to the input's key: a known difference of the paths.
        max_held: how many events are held back at most; what is more is delivered early.
        wait: how to wait for live inputs: "sleep", or "busy", which takes a core.
        batch_records: most records, or rows, of one batch.

    Raises ConfigError for an argument; FeedError where a feed was not started.
    """
    if not inputs or not isinstance(inputs, Mapping):
        raise _wrong("inputs", inputs, "a mapping of names to feeds, rings, replays or iterables of batches")
    if len(inputs) > _MOST_INPUTS:
        raise _wrong("inputs", len(inputs), f"{_MOST_INPUTS} at most")
    if key not in ("ts_recv", "ts_event"):
        raise _wrong("key", key, "'ts_recv' or 'ts_event'")
    if not all(isinstance(name, str) for name in inputs):
        raise _wrong("inputs", list(inputs), "names that are strings")
    if not _is_whole(max_held) or max_held < 0:
        raise _wrong("max_held", max_held, "a number of events, 0 or more")
    expected = f"whole nanoseconds by an input's name: {', '.join(inputs)}"
    if offset_ns is not None and not isinstance(offset_ns, Mapping):
        raise _wrong("offset_ns", offset_ns, expected)
    offsets = dict(offset_ns or {})
    for name, value in offsets.items():
        if name not in inputs or not _is_whole(value) or not -(2**63) <= value < 2**63:
            raise _wrong("offset_ns", {name: value}, expected)
    return Aligned(
        inputs,
        key,
        None if tolerance is None else nanoseconds("tolerance", tolerance),
        nanoseconds("hold", hold),
        [int(offsets.get(name, 0)) for name in inputs],
        min(int(max_held), _NO_LIMIT),
        check_wait(wait),
        check_batch_records(batch_records),
    )


def _wrong(key: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"align: {key} {value!r}: expected {expected}", key=key, value=value, expected=expected)


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def nanoseconds(key: str, seconds: float) -> int:
    """Seconds as nanoseconds. Raises ConfigError for what is no duration."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float, np.number)) or not 0 <= seconds < math.inf:
        raise _wrong(key, seconds, "seconds, 0 or more")
    return round(min(float(seconds) * 1e9, float(_NO_LIMIT)))


class _Source:
    """One input, whatever it is."""

    def __init__(self, name: str, given: Input) -> None:
        self.name = name
        self.given = given
        self.ended: Callable[[], bool] = lambda: True
        self.core: _core.Ring | None = None
        self.symbols = Symbols(lambda _: [])
        self.batches: Iterator[Batch] = iter(())
        self.records: Sequence[str] | None = None
        self.is_watched = True
        match given:
            case Feed():
                reader = given._started()
                self.core, self.symbols, self.ended = reader.core, reader.symbols, given._ended
                self.records = given.config.feed.records
            case Ring():
                if given._reader.conflates:
                    raise _wrong(f"inputs[{name!r}]", given, "a ring that was not attached with conflate=True")
                self.core, self.symbols, self.ended = given._core, given.symbols, given._ended
            case Replay():
                self.symbols, self.batches, self.records = given.symbols, iter(given), given.records
            case Iterable() if not isinstance(given, (str, bytes, Mapping)):
                self.batches = iter(given)
            case _:
                raise _wrong(f"inputs[{name!r}]", given, "a Feed, a Ring, a Replay or an iterable of batches")


class Aligned:
    """Several inputs as one stream: iterate for batches, or make rows of it. Made by `barewire.align()`.

    Iteration ends when every input has ended. An input that fails is treated as one that ended; its error is raised
    once everything that it had brought was delivered, and another loop goes on with the other inputs. One loop, or one
    task, at a time.

    Attributes:
        inputs: the inputs' names; the `source` of a record is a place among them.
        is_live: whether the inputs are feeds and rings.
    """

    def __init__(
        self,
        inputs: Mapping[str, Input],
        key: str,
        tolerance_ns: int | None,
        hold_ns: int,
        offsets_ns: list[int],
        max_held: int,
        wait: Wait,
        batch_records: int,
    ) -> None:
        self.inputs = tuple(inputs)
        self.tolerance_ns = tolerance_ns
        self.batch_records = batch_records
        self.sources = [_Source(name, given) for name, given in inputs.items()]
        self.is_live = self.sources[0].core is not None
        other = next((one for one in self.sources if (one.core is not None) != self.is_live), None)
        if other is not None:
            live, not_live = (self.sources[0], other) if self.is_live else (other, self.sources[0])
            raise ConfigError(
                f"align: {live.name!r} is live and {not_live.name!r} is not: expected feeds and rings only, "
                "or replays and iterables of batches only",
                key="inputs",
                value=other.given,
            )
        twice = [name for name, given in inputs.items() if sum(given is one for one in inputs.values()) > 1]
        if twice and not self.is_live:
            raise _wrong("inputs", twice, "each a recording of its own: one that is read by two gives each a part")
        # Of what is recorded, a batch of each input is held, no more: that is how much is read.
        self.core = _core.Aligner(
            list(self.inputs), key, offsets_ns, hold_ns, max_held if self.is_live else _NO_LIMIT, self.is_live
        )
        self.core.set_busy(wait == "busy")
        for number, source in enumerate(self.sources):
            if source.core is not None:
                self.core.attach(number, source.core)
        self._failures: list[tuple[int, BaseException]] = []
        self._look_at = 0.0
        self._stopping = False
        self._memory: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._executor: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None
        self.resolvers: list[Callable[[int], None]] = []

    # --- iteration -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[AlignedBatch]:
        return self.all(self._read)

    def __aiter__(self) -> AsyncIterator[AlignedBatch]:
        """The same for asyncio; the event loop is never held up."""
        return self.all_async(self._read)

    def read(self, timeout: float | None = None) -> AlignedBatch | None:
        """The next batch; `None` at the end, or when nothing came within `timeout` seconds. Raises an input's error."""
        return self.one(self._read, timeout)

    def _read(self, timeout_ns: int) -> AlignedBatch | None:
        found = self.fill(timeout_ns, ALIGNED_DTYPE.itemsize, None)
        if found is None:
            return None
        return AlignedBatch(self.take(found[0], ALIGNED_DTYPE), found[1], self.inputs, self.directories)

    def rows(
        self,
        legs: Sequence[LegGiven] | Mapping[str, LegGiven],
        *,
        tolerance: float | None = None,
        on: str | LegGiven = "any",
    ) -> Rows:
        """Best bids and offers of a pair or a basket as rows, instead of the records: iterate over what this returns.

        Args:
            legs: (input, symbol) or (input, instrument number) of each leg; a mapping gives the legs names, which are
                else made of both: "nasdaq.AAPL".
            tolerance: seconds between the legs' keys; left out: as given to `align()`. Rows tell whether the legs are
                `within` it.
            on: what makes a row, once every leg was quoted: "any" leg's quote; "all": the same, but only rows whose
                legs are within the tolerance; or one leg, by its name or as given: rows at its quotes, the other legs
                as they stand.

        Raises ConfigError for an argument, for an input that publishes no quotes. When all inputs have ended and a
        leg's symbol was never announced, iteration raises UnknownSymbolError.
        """
        from ._align_rows import Rows

        tolerance_ns = self.tolerance_ns if tolerance is None else nanoseconds("tolerance", tolerance)
        return Rows(self, legs, tolerance_ns, on)

    # --- what is known ---------------------------------------------------------------------------

    @property
    def stats(self) -> dict[str, AlignStats]:
        """Counters of each input."""
        return {name: AlignStats(*row) for name, row in zip(self.inputs, self.core.stats(), strict=True)}

    @property
    def symbols(self) -> dict[str, Symbols]:
        """The directory of each input: instrument number to symbol. Of an iterable, that of its last batch."""
        return {source.name: source.symbols for source in self.sources}

    @property
    def directories(self) -> list[Symbols]:
        """The same, in the order of the inputs."""
        return [source.symbols for source in self.sources]

    def __repr__(self) -> str:
        return f"<Aligned {'live' if self.is_live else 'recorded'}: {', '.join(self.inputs)}>"

    # --- end -------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ends the loop after the current batch. The inputs themselves go on. For any thread."""
        self._stopping = True

    def close(self) -> None:
        """Ends the loop, and the thread that waits for an event loop, if there is one."""
        self.stop()
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- for rows as well ------------------------------------------------------------------------

    def all(self, read: Callable[[int], T | None]) -> Iterator[T]:
        """What `read` gives until the end."""
        while not self._stopping:
            made = read(WAIT_NS)
            if made is not None:
                yield made
            elif self.is_through():
                return

    def one(self, read: Callable[[int], T | None], timeout: float | None) -> T | None:
        """The next that `read` gives; `None` at the end, or after `timeout` seconds."""
        seconds = check_seconds("timeout", timeout)
        until = math.inf if seconds is None else time.monotonic() + max(0.0, seconds)
        while not self._stopping:
            left = until - time.monotonic()
            made = read(max(0, min(WAIT_NS, round(min(left, 1.0) * 1e9))))
            if made is not None or self.is_through() or time.monotonic() >= until:
                return made
        return None

    async def all_async(self, read: Callable[[int], T | None]) -> AsyncIterator[T]:
        """What `read` gives until the end, without holding up the event loop: a thread waits that holds no lock."""
        while not self._stopping:
            made = read(0) if self._pending is None else None
            if made is None and (self.is_live or self._pending is not None):
                if self._pending is None:
                    if self._executor is None:
                        self._executor = ThreadPoolExecutor(1, "barewire-align")
                    self._pending = self._executor.submit(self.core.wait, WAIT_NS)
                # Shielded: who waits for the thread can be cancelled, the thread cannot. It hands out nothing.
                await asyncio.shield(asyncio.wrap_future(self._pending))
                self._pending = None
                made = read(0)
            else:
                await asyncio.sleep(0)  # a busy feed must not starve the other tasks
            if made is not None:
                yield made
            elif self.is_through():
                return

    def is_through(self) -> bool:
        """Whether every input has ended and everything was delivered."""
        return not self._failures and self.core.ended()

    def fill(self, timeout_ns: int, item_bytes: int, rows: _core.AlignedRows | None) -> Found | None:
        """Records, or rows, of so many bytes each, a batch at most; `None` when there were none in time.

        Raises inputs' errors.
        """
        if self._pending is not None:
            self._pending.result()
            self._pending = None
        if self._memory.nbytes != item_bytes * self.batch_records:
            self._memory = np.empty(item_bytes * self.batch_records, np.uint8)
        found = self._live(timeout_ns, rows) if self.is_live else self._recorded(item_bytes, rows)
        count, source, lost = found
        if not count and not lost:
            return None
        return count, {self.inputs[source]: lost} if lost else {}

    def take(self, count: int, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
        """What `fill` wrote, as memory that nobody will write to again; little of it does not keep a large buffer."""
        used = self._memory[: count * dtype.itemsize]
        if used.nbytes * 8 <= self._memory.nbytes:
            return used.copy().view(dtype)
        self._memory = np.empty(self._memory.nbytes, np.uint8)
        return used.view(dtype)

    def _live(self, timeout_ns: int, rows: _core.AlignedRows | None) -> tuple[int, int, int]:
        for at, (number, error) in enumerate(self._failures):
            if self.core.is_through(number):
                del self._failures[at]
                raise error
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + WAIT_NS / 1e9
            self._look_after(range(len(self.sources)))
        found = self.core.read_into(self._memory, timeout_ns, rows)
        if found == _NOTHING:
            self._look_after(self.core.drained())
        return found

    def _look_after(self, numbers: Iterable[int]) -> None:
        """Finds out whether there is still somebody to wait for."""
        for number in numbers:
            source = self.sources[number]
            if not source.is_watched:
                continue
            try:
                ended = source.ended()
            except Exception as error:
                self._failures.append((number, error))
                ended = True
            if ended:
                source.is_watched = False
                self.core.finish(number)

    def _recorded(self, item_bytes: int, rows: _core.AlignedRows | None) -> tuple[int, int, int]:
        """As much as fits, so that batches are no smaller than asked for; a loss is before the first record only."""
        if self._failures:
            raise self._failures.pop()[1]
        found, used = _NOTHING, 0
        while used < self._memory.nbytes:
            count, source, lost = self.core.release(self._memory[used:], 0, rows, found != _NOTHING)
            found = (found[0] + count, *found[1:]) if found != _NOTHING else (count, source, lost)
            used += count * item_bytes
            wanting = self.core.wanting()
            if not wanting:
                break  # full, before a loss, or at the end
            try:
                for number in wanting:
                    self._feed(number)
            except BaseException as error:
                if found == _NOTHING:
                    raise
                # What was found is delivered first.
                self._failures.append((number, error))
                break
        return found

    def _feed(self, number: int) -> None:
        """One more batch of a recorded input. One that fails has ended: all that belongs before that is out."""
        source = self.sources[number]
        try:
            batch: object = next(source.batches, _END)
            if batch is not _END and not isinstance(batch, Batch):
                raise _wrong(f"inputs[{source.name!r}]", batch, "batches from an iterable")
        except BaseException:
            self.core.end(number)
            raise
        if not isinstance(batch, Batch):
            self.core.end(number)
            return
        if batch.symbols is not source.symbols:
            source.symbols = batch.symbols
        if len(batch) or batch.lost:
            records = np.require(batch.records, requirements=["C", "W"])
            self.core.push(number, records.view(np.uint8) if len(batch) else None, batch.lost, 0, True)
        for resolve in self.resolvers:
            resolve(number)
