"""Reading a broadcast ring, in the feed's process or in any other on the machine."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from . import _core
from ._batch import Batch
from ._errors import ProducerGone, RingError
from ._records import RECORD_BYTES, RECORD_DTYPE
from ._symbols import Symbols

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["DEFAULT_BATCH_RECORDS", "Reader", "Ring"]

DEFAULT_BATCH_RECORDS = 8192
"""Most records of one batch: half a mebibyte, which fits a core's cache."""

_WAIT_NS = 100_000_000  # how often an idle reader looks whether there is still somebody to wait for
_STALE_AFTER_S = 3.0


class Scratch:
    """The memory that records are read into. A large batch keeps it and a new one is made; a small one is copied out,

    so that a user who keeps small batches does not keep a megabyte with each.
    """

    __slots__ = ("bytes", "capacity", "memory", "records")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a batch of {capacity} records: expected 1 or more")
        self.capacity = capacity
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


class Reader:
    """What a feed and an attached ring share: batches from a reader of the core."""

    def __init__(self, core: _core.Ring, symbols: Symbols, batch_records: int) -> None:
        self.core = core
        self.symbols = symbols
        self.scratch = Scratch(batch_records)
        self._pending: Future[tuple[int, int]] | None = None
        self._executor: ThreadPoolExecutor | None = None

    def fill(self, timeout_ns: int) -> tuple[int, int]:
        """Records into the scratch memory; (records, lost), (0, 0) when none came in time."""
        if self._pending is not None:
            # A cancelled `async for` left a wait behind, and what it read is in the scratch memory.
            found, self._pending = self._pending.result(), None
            if found != (0, 0):
                return found
        return self.core.read_into(self.scratch.bytes, timeout_ns)

    def read(self, timeout_ns: int) -> Batch | None:
        """The next batch, or `None` when nothing came in time."""
        return self._batch(*self.fill(timeout_ns))

    def _batch(self, count: int, lost: int) -> Batch | None:
        if not count and not lost:
            return None
        return Batch(self.scratch.take(count), lost, self.symbols)

    def batches(self, ended: Callable[[], bool]) -> Iterator[Batch]:
        """Batches until `ended()` and nothing is left."""
        while True:
            batch = self.read(_WAIT_NS)
            if batch is None and ended():
                batch = self.read(0)  # what was published between the read and the end
                if batch is None:
                    return
            if batch is not None:
                yield batch

    async def batches_async(self, ended: Callable[[], bool]) -> AsyncIterator[Batch]:
        """The same without holding up the event loop: waiting is done by a thread that holds no lock of Python's."""
        import asyncio

        while True:
            found = self.fill(0) if self._pending is None else (0, 0)
            if found == (0, 0):
                if self._pending is None:
                    if self._executor is None:
                        self._executor = ThreadPoolExecutor(1, "barewire-reader")
                    self._pending = self._executor.submit(self.core.read_into, self.scratch.bytes, _WAIT_NS)
                # Shielded: a cancelled task must not lose what the thread is about to read; the next read takes it.
                found = await asyncio.shield(asyncio.wrap_future(self._pending))
                self._pending = None
            else:
                await asyncio.sleep(0)  # a busy feed must not starve the other tasks
            if found == (0, 0) and ended():
                found = self.fill(0)
                if found == (0, 0):
                    return
            batch = self._batch(*found)
            if batch is not None:
                yield batch

    def close(self) -> None:
        """Lets go of the waiting thread, if there is one."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None


class Ring:
    """A reader of one broadcast ring: shared memory that a feed on this machine writes.

        ring = barewire.Ring.attach("nasdaq")
        for batch in ring:
            print(batch.bbo)

    Every reader sees every record from where it began; none can slow down the feed or another reader. One that falls
    behind by more than the ring holds is told how much it missed (`Batch.lost`). Iteration ends when the feed ends, and
    raises ProducerGone when the feed's process died or was restarted.
    """

    def __init__(self, core: _core.Ring, *, batch_records: int = DEFAULT_BATCH_RECORDS) -> None:
        self._core = core
        self._reader = Reader(core, Symbols(core.directory), batch_records)
        self._stale_since: float | None = None

    @classmethod
    def attach(cls, name: str, *, oldest: bool = False, batch_records: int = DEFAULT_BATCH_RECORDS) -> Ring:
        """Attaches to the ring that a running feed calls `name`.

        Args:
            name: `ring.name` of the feed's configuration.
            oldest: begin with the oldest record still in the ring, rather than with the next one to come.
            batch_records: most records of one batch.

        Raises FileNotFoundError where there is no such ring, PermissionError where its owner does not let you,
        RingError where it was written by another version.
        """
        try:
            core = _core.Ring.attach(name)
        except RingError as error:
            raise _refused(name, error) from None
        if oldest:
            core.seek_oldest()
        else:
            core.seek_newest()
        return cls(core, batch_records=batch_records)

    @property
    def name(self) -> str:
        """The ring's name."""
        return self._core.name

    @property
    def capacity(self) -> int:
        """How many records the ring holds."""
        return self._core.capacity

    @property
    def epoch(self) -> int:
        """Which life of the producer this reader belongs to; a restarted producer opens a new one."""
        return self._core.epoch

    @property
    def position(self) -> int:
        """The ring sequence number that is read next."""
        return self._core.position

    @property
    def lag(self) -> int:
        """How many published records this reader has not read yet."""
        return self._core.lag()

    @property
    def state(self) -> str:
        """Of the producer: "alive", "stale" (no heartbeat), "dead", "closed" (ended properly) or "restarted"."""
        return self._core.producer_state()

    @property
    def stats(self) -> dict[str, int]:
        """The producer's statistics, read from shared memory."""
        return dict(self._core.stats())

    @property
    def symbols(self) -> Symbols:
        """The directory: instrument number to symbol."""
        return self._reader.symbols

    def seek_oldest(self) -> None:
        """Goes back to the oldest record still in the ring."""
        self._core.seek_oldest()

    def seek_newest(self) -> None:
        """Skips what is there, without counting it as lost."""
        self._core.seek_newest()

    def read(self, timeout: float | None = None) -> Batch | None:
        """The next batch; `None` when nothing came within `timeout` seconds (0: do not wait; `None`: wait for ever)."""
        if timeout is not None:
            return self._reader.read(max(0, round(timeout * 1e9)))
        return next(self._reader.batches(self._ended), None)

    def __iter__(self) -> Iterator[Batch]:
        return self._reader.batches(self._ended)

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self._reader.batches_async(self._ended)

    def _ended(self) -> bool:
        state = self.state
        if state == "closed":
            return True
        if state == "alive":
            self._stale_since = None
            return False
        now = time.monotonic()
        if self._stale_since is None:
            self._stale_since = now
        if state != "stale" or now - self._stale_since > _STALE_AFTER_S:
            what = {"restarted": "was restarted", "dead": "died"}.get(state, "is stuck: its heartbeat stopped")
            raise ProducerGone(
                f"ring {self.name!r}: the feed that wrote it {what}; attach again when it is back",
                name=self.name,
                state=state,
            )
        return False

    def __repr__(self) -> str:
        return f"<Ring {self.name!r}: {self.capacity} records, {self.state}>"


_RINGS = "/dev/shm"
_PREFIX = "barewire."


def _refused(name: str, error: RingError) -> Exception:
    """The built-in class where the operating system is the one that refuses."""
    if "/" in name or not name:
        return error
    path = os.path.join(_RINGS, _PREFIX + name)
    if not os.path.exists(path):
        try:
            rings = sorted(file.removeprefix(_PREFIX) for file in os.listdir(_RINGS) if file.startswith(_PREFIX))
        except OSError:
            rings = []
        there = ", ".join(rings) or "none; is the feed running, and has its configuration a ring.name?"
        return FileNotFoundError(errno.ENOENT, f"no ring of that name; rings on this machine: {there}", name)
    if not os.access(path, os.R_OK):
        return PermissionError(errno.EACCES, "not yours to read; ring.mode and ring.group of its feed decide", path)
    return error
