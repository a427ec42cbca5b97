"""Reading a broadcast ring, in the feed's process or in any other on the machine."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from . import _core
from ._clock import Clock, clock_of
from ._errors import ConfigError, ProducerGone, RingError
from ._reader import DEFAULT_BATCH_RECORDS, Reader, check_seconds, select
from ._symbols import Symbols

if TYPE_CHECKING:
    from ._batch import Batch
    from ._reader import Wait
    from ._strategy import Strategy

__all__ = ["Ring"]

_STALE_AFTER_S = 3.0
_RETRY_S = 0.02  # how often `reattach` looks for the feed that is to come back


class Ring:
    """A reader of one broadcast ring: shared memory that a feed on this machine writes.

        ring = barewire.Ring.attach("nasdaq")
        for batch in ring:
            print(batch.bbo)

    Every reader sees every record from where it began; none can slow down the feed or another reader. One that falls
    behind by more than the ring holds is told how much it missed (`Batch.lost`). Iteration ends when the feed ends, and
    raises ProducerGone when the feed's process died or was restarted.
    """

    def __init__(
        self,
        core: _core.Ring,
        *,
        batch_records: int = DEFAULT_BATCH_RECORDS,
        wait: Wait = "sleep",
        conflate: bool = False,
    ) -> None:
        self._core = core
        self._reader = Reader(core, Symbols(core.directory), batch_records, wait=wait, conflate=conflate)
        self._stale_since: float | None = None

    @classmethod
    def attach(
        cls,
        name: str,
        *,
        oldest: bool = False,
        symbols: Iterable[str | int] | str | None = None,
        kinds: Iterable[str] | str | None = None,
        sides: Iterable[str] | None = None,
        conflate: bool = False,
        wait: Wait = "sleep",
        owner: int | str | None = None,
        batch_records: int = DEFAULT_BATCH_RECORDS,
    ) -> Ring:
        """Attaches to the ring that a running feed calls `name`.

        What is narrowed by `symbols`, `kinds` and `sides` is kept back while reading. Gaps, and status records of the
        whole feed, always pass; `Batch.lost` counts every record that was overwritten, since nobody knows what it held.

        Args:
            name: `ring.name` of the feed's configuration.
            oldest: begin with the oldest record still in the ring, rather than with the next one to come.
            symbols: only these instruments, by symbol (also such as are announced later) or number.
            kinds: only these kinds of records: "mbo", "bbo", "status".
            sides: of the order events ("mbo"), only these sides: "B" bid, "A" ask, "N" none.
            conflate: of best bids and offers only the latest of each instrument, for a reader that cannot take every
                one. A thread follows the ring meanwhile. `Batch.updates` says how many each row stands for,
                `Batch.stale` which instruments' quotes may be outdated after a loss.
            wait: "sleep" looks at the ring for some tens of microseconds and then between short naps; "busy" looks
                without a pause, which takes a core.
            owner: the user, by name or number, whose ring it must be. Without it, the ring of whoever made the file.
            batch_records: most records of one batch.

        Raises FileNotFoundError where there is no such ring, PermissionError where its owner does not let you,
        RingError where it is another user's than `owner` or was written by another version, ConfigError for an argument
        that cannot be.
        """
        try:
            core = _core.Ring.attach(name, _user(owner))
        except RingError as error:
            raise _refused(name, error) from None
        if oldest:
            core.seek_oldest()
        else:
            core.seek_newest()
        select(core, symbols, kinds, sides, conflate=conflate)
        return cls(core, batch_records=batch_records, wait=wait, conflate=conflate)

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
        """Which life of the feed this ring is of, the time of its making; a feed that starts again begins another."""
        return self._core.epoch

    @property
    def position(self) -> int:
        """The ring sequence number that is read next."""
        return self._reader.position

    @property
    def lag(self) -> int:
        """How many published records this reader has not read yet."""
        return max(0, self._core.published - self._reader.position)

    @property
    def state(self) -> str:
        """Of the producer: "alive", "stale" (no heartbeat), "dead", "closed" (ended properly) or "restarted"."""
        return self._core.producer_state()

    @property
    def stats(self) -> dict[str, int]:
        """The producer's statistics, read from shared memory."""
        return dict(self._core.stats())

    @property
    def clock(self) -> Clock:
        """The clock behind the feed's `ts_recv` at this moment, and how far it may be off."""
        return clock_of(self.stats)

    @property
    def symbols(self) -> Symbols:
        """The directory: instrument number to symbol."""
        return self._reader.symbols

    def seek_oldest(self) -> None:
        """Goes back to the oldest record still in the ring."""
        self._core.seek_oldest()
        self._reader.begin()

    def seek_newest(self) -> None:
        """Skips what is there, without counting it as lost."""
        self._core.seek_newest()
        self._reader.begin()

    def reattach(self, timeout: float = 0.0) -> None:
        """Goes on with the ring that has the name now, at its oldest record: after ProducerGone.

        Waits up to `timeout` seconds for the feed to be back. Everything begins anew: `epoch`, the ring sequence, which
        counts from 0, and the directory. What was left unread in the old ring is passed over. Raises as `attach` does
        where there is no other ring yet; the reader then stays where it was.
        """
        seconds = check_seconds("timeout", timeout)
        until = math.inf if seconds is None else time.monotonic() + seconds
        while True:
            refused: Exception
            try:
                if self._core.reattach():
                    break
                refused = FileNotFoundError(errno.ENOENT, "the feed is not back: its old ring has the name", self.name)
            except RingError as error:
                refused = _refused(self.name, error)
            if time.monotonic() >= until:
                raise refused
            time.sleep(_RETRY_S)
        self._stale_since = None
        self._reader.symbols = Symbols(self._core.directory)
        self._reader.begin()

    def read(self, timeout: float | None = None) -> Batch | None:
        """The next batch; `None` when nothing came within `timeout` seconds (0: do not wait; `None`: wait for ever)."""
        return self._reader.next(timeout, self._ended)

    def __iter__(self) -> Iterator[Batch]:
        return self._reader.batches(self._ended)

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self._reader.batches_async(self._ended)

    def run(self, strategy: Strategy, *, duration: float | None = None) -> None:
        """Calls the strategy for every event, in this thread, until the feed ends or `duration` seconds have passed.

        Raises ProducerGone when the feed died; whatever a callback raises.
        """
        from ._strategy import run_strategy

        run_strategy(strategy, self, self._reader, None, self._ended, duration)

    async def run_async(self, strategy: Strategy, *, duration: float | None = None) -> None:
        """The same in the event loop, which other tasks share: callbacks are plain functions, and should be short."""
        from ._strategy import run_strategy_async

        await run_strategy_async(strategy, self, self._reader, None, self._ended, duration)

    def stop(self) -> None:
        """Ends this reader: its loops and runs end after the current batch. Neither the feed nor others notice."""
        self._core.stop()

    def _ended(self) -> bool:
        if self._core.stopped:
            return True
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


def _user(owner: int | str | None) -> int | None:
    """A user's number."""
    if owner is None:
        return None
    if isinstance(owner, int) and not isinstance(owner, bool) and 0 <= owner < 1 << 32:
        return owner
    if isinstance(owner, str):
        import pwd

        with suppress(KeyError):
            return pwd.getpwnam(owner).pw_uid
    expected = "a user of this machine"
    raise ConfigError(f"owner: expected {expected}, found {owner!r}", key="owner", value=owner, expected=expected)


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
