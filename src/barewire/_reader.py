"""What a feed and an attached ring share: batches and callbacks from a reader of the core, sync and asyncio."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from ._batch import Batch
from ._errors import ConfigError, ProducerGone
from ._records import KINDS, RECORD_BYTES, RECORD_DTYPE

if TYPE_CHECKING:
    import asyncio

    import numpy.typing as npt

    from . import _core
    from ._symbols import Symbols

    Wait = Literal["sleep", "busy"]

__all__ = [
    "DEFAULT_BATCH_RECORDS",
    "WAIT_NS",
    "Reader",
    "Scratch",
    "check_batch_records",
    "check_seconds",
    "check_wait",
    "finish",
    "select",
]

DEFAULT_BATCH_RECORDS = 8192
"""Most records of one batch: half a mebibyte, which fits a core's cache."""

WAIT_NS = 100_000_000
"""How often an idle reader looks whether there is still somebody to wait for."""

T = TypeVar("T")
_WAITS = ("sleep", "busy")
_LONGEST_NS = 1 << 61  # 73 years
_NUMBERS = range(1 << 32)


class Scratch:
    """The memory that records are read into. A large batch keeps it and a new one is made; a small one is copied out,

    so that a user who keeps small batches does not keep a megabyte with each.
    """

    __slots__ = ("bytes", "capacity", "memory", "records")

    def __init__(self, capacity: int) -> None:
        self.capacity = check_batch_records(capacity)
        self._renew()

    def _renew(self) -> None:
        self.records: npt.NDArray[np.void] = np.empty(self.capacity, RECORD_DTYPE)
        self.bytes: npt.NDArray[np.uint8] = self.records.view(np.uint8)
        self.memory = self.bytes.data

    def take(self, count: int) -> npt.NDArray[np.void]:
        """The first `count` records, as memory that nobody will write to again."""
        if count * 8 <= self.capacity:
            out: npt.NDArray[np.void] = np.empty(count, RECORD_DTYPE)
            out.view(np.uint8)[:] = self.bytes[: count * RECORD_BYTES]
            return out
        out = self.records[:count]
        self._renew()
        return out


def check_batch_records(records: int) -> int:
    """The same. Raises ConfigError where it is no size of a batch."""
    if isinstance(records, bool) or not isinstance(records, (int, np.integer)) or records < 1:
        expected = "a number of records, 1 or more"
        raise ConfigError(
            f"batch_records {records!r}: expected {expected}", key="batch_records", value=records, expected=expected
        )
    return int(records)


def check_seconds(key: str, seconds: float | None) -> float | None:
    """The same; `None`, for ever, where they are infinite. Raises ConfigError where they are no time to wait."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float, np.number)) or math.isnan(seconds):
        expected = "seconds, or None for ever"
        raise ConfigError(f"{key} {seconds!r}: expected {expected}", key=key, value=seconds, expected=expected)
    return None if seconds > _LONGEST_NS / 1e9 else float(seconds)


def check_wait(wait: Wait) -> Wait:
    """The same. Raises ConfigError where it is no way to wait."""
    if wait not in _WAITS:
        raise ConfigError(
            f"wait: expected 'sleep' or 'busy', found {wait!r}", key="wait", value=wait, expected="sleep, busy"
        )
    return wait


def select(
    core: _core.Ring,
    symbols: Iterable[str | int] | str | None,
    kinds: Iterable[str] | str | None,
    sides: Iterable[str] | None,
    *,
    conflate: bool = False,
) -> None:
    """Tells a reader of the core what passes. Raises ConfigError for what no record can have."""
    names = _names("kinds", kinds, KINDS)
    letters = _names("sides", sides, "BAN")
    if conflate:
        if letters is not None or "mbo" in (names or ()):
            found = "sides" if letters is not None else "kinds with 'mbo'"
            raise ConfigError(f"conflate=True keeps best bids and offers: found {found}", key="conflate", value=True)
        names = ["bbo", "status"] if names is None else names
    wanted = None if symbols is None else [_instrument(one) for one in _listed("symbols", symbols)]
    if names is None and letters is None and wanted is None:
        return
    core.set_filter(
        None if names is None else [KINDS[name] for name in names],
        None if letters is None else [ord(letter) for letter in letters],
        None if wanted is None else [one.encode("latin-1", "replace") for one in wanted if isinstance(one, str)],
        None if wanted is None else [one for one in wanted if not isinstance(one, str)],
    )


def _listed(key: str, given: object) -> list[Any]:
    """One by itself is a list of one; bytes are not a list of numbers."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, (bytes, bytearray)) or not isinstance(given, Iterable):
        raise ConfigError(f"{key}: expected a string, or several, found {given!r}", key=key, value=given)
    return list(given)


def _instrument(one: object) -> str | int:
    if isinstance(one, str):
        return one
    if isinstance(one, (int, np.integer)) and not isinstance(one, bool) and int(one) in _NUMBERS:
        return int(one)
    expected = "symbols such as 'AAPL', or instrument numbers"
    raise ConfigError(f"symbols: expected {expected}, found {one!r}", key="symbols", value=one, expected=expected)


def _names(key: str, given: Iterable[str] | None, known: Iterable[str]) -> list[str] | None:
    if given is None:
        return None
    expected = list(known)
    is_letters = isinstance(given, str) and all(len(one) == 1 for one in expected)
    names = list(given) if is_letters else _listed(key, given)
    for name in names:
        if name not in expected:
            raise ConfigError(
                f"{key}: expected some of {', '.join(expected)}, found {name!r}",
                key=key,
                value=name,
                expected=", ".join(expected),
            )
    return names


def finish(ended: Callable[[], bool], step: Callable[[], T | None]) -> tuple[bool, T | None]:
    """Whether all is over, and if not, what `step` still found: something may come between the last look and the end.

    Raises what `ended` does, once nothing is left.
    """
    try:
        if not ended():
            return False, None
    except ProducerGone:
        found = step()
        if found is None:
            raise
        return False, found
    found = step()
    return found is None, found


class Reader:
    """One reader of a ring: waits, reads, and makes batches.

    Attributes:
        core: the core's reader.
        symbols: the directory.
        scratch: where `fill` puts records.
        busy: whether it waits without a pause.
        conflates: whether it gives the latest quotes only.
    """

    def __init__(
        self, core: _core.Ring, symbols: Symbols, batch_records: int, *, wait: Wait = "sleep", conflate: bool = False
    ) -> None:
        self.core = core
        self.symbols = symbols
        self.scratch = Scratch(batch_records)
        self.busy = check_wait(wait) == "busy"
        core.set_busy(self.busy)
        self.conflates = conflate
        self._latest: _core.Conflated | None = None
        self._updates: npt.NDArray[np.uint32] | None = None
        self._stale: list[int] = []
        self._future: asyncio.Future[bool] | None = None
        self.begin()

    def begin(self) -> None:
        """Begins where the core's reader is: at first, and after it went elsewhere."""
        if self.conflates:
            self._latest = self.core.conflate()
            self._updates = np.zeros(self.scratch.capacity, np.uint32)

    @property
    def position(self) -> int:
        """The number of the next record to be read."""
        return self.core.position if self._latest is None else self._latest.position

    # --- records and batches ---------------------------------------------------------------------

    def fill(self, timeout_ns: int) -> tuple[int, int]:
        """Records into the scratch memory; (records, lost), (0, 0) when none came in time."""
        if self._latest is None:
            return self.core.read_into(self.scratch.bytes, timeout_ns)
        if self.core.stopped:
            return 0, 0
        count, lost, self._stale = self._latest.read_into(self.scratch.bytes, self._updates, timeout_ns)
        return count, lost

    def batch(self, count: int, lost: int) -> Batch:
        """What `fill` put into the scratch memory."""
        if self._updates is None:
            return Batch(self.scratch.take(count), lost, self.symbols)
        updates, stale = self._updates[:count].copy(), np.array(self._stale, np.uint32)
        return Batch(self.scratch.take(count), lost, self.symbols, updates=updates, stale=stale)

    def next(self, timeout: float | None, ended: Callable[[], bool]) -> Batch | None:
        """The next batch; `None` when nothing came within so many seconds, or, without a limit, once all `ended`."""
        seconds = check_seconds("timeout", timeout)
        if seconds is None:
            return next(self.batches(ended), None)
        return self.read(max(0, round(seconds * 1e9)))

    def read(self, timeout_ns: int) -> Batch | None:
        """The next batch, or `None` when nothing came in time."""
        found = self.fill(timeout_ns)
        return None if found == (0, 0) else self.batch(*found)

    def batches(self, ended: Callable[[], bool]) -> Iterator[Batch]:
        """Batches until `ended()` and nothing is left."""
        while True:
            batch = self.read(WAIT_NS)
            if batch is None:
                over, batch = finish(ended, lambda: self.read(0))
                if over:
                    return
            if batch is not None:
                yield batch

    # --- asyncio ---------------------------------------------------------------------------------

    async def steps(self, step: Callable[[], T | None], ended: Callable[[], bool]) -> AsyncIterator[T]:
        """What `step` gives, which reads what is there and does not wait; until `ended()` and it gives nothing.

        Idle, the event loop sleeps: a thread of the core watches the ring, without the GIL, and makes a descriptor
        readable. A busy reader looks with every turn of the loop instead. Nothing is read by a wait, so one that is
        cancelled loses nothing.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        source = self.core if self._latest is None else self._latest
        fd = -1
        look_at = time.monotonic() + WAIT_NS / 1e9
        try:
            while True:
                found = step()
                if found is None and time.monotonic() >= look_at:
                    over, found = finish(ended, step)
                    if over:
                        return
                    look_at = time.monotonic() + WAIT_NS / 1e9
                if found is not None:
                    yield found
                    await asyncio.sleep(0)  # a busy feed must not starve the other tasks
                elif self.busy:
                    await asyncio.sleep(0)
                else:
                    if fd < 0:
                        fd = source.watch_fd()
                        loop.add_reader(fd, self._wake, source)
                    self._future = loop.create_future()
                    timer = loop.call_at(loop.time() + max(0.0, look_at - time.monotonic()), self._wake, None)
                    source.arm()
                    try:
                        if await self._future and source.closed:
                            look_at = 0.0
                    finally:
                        timer.cancel()
                        self._future = None
        finally:
            if fd >= 0:
                loop.remove_reader(fd)
                source.unwatch()

    def batches_async(self, ended: Callable[[], bool]) -> AsyncIterator[Batch]:
        """Batches, as `batches` gives them, without holding up the event loop."""
        return self.steps(lambda: self.read(0), ended)

    def _wake(self, source: _core.Ring | _core.Conflated | None) -> None:
        """Something is there to be read, or the ring is closed; without a source, it is time to look after the feed."""
        if source is not None:
            source.clear()
        if self._future is not None and not self._future.done():
            self._future.set_result(source is not None)
