"""The Python readers of the torture test: python reader.py NAME batches|async|filtered|conflated.

They are as `read` of crates/ring/examples/torture.rs, which says what a record holds.
"""

from __future__ import annotations

import asyncio
import sys
import time

import numpy as np
import numpy.typing as npt

import barewire

ODD = np.uint64(0x9E3779B97F4A7C15)
WANTED = (5, 6, 7)  # the instruments of the filtered reader


def rotate(words: npt.NDArray[np.uint64], by: int) -> npt.NDArray[np.uint64]:
    return (words << np.uint64(by)) | (words >> np.uint64(64 - by))


def expected(n: npt.NDArray[np.uint64], epoch: int) -> npt.NDArray[np.uint64]:
    """The records with these numbers, shape (n, 8)."""
    first = (n + np.uint64(1)) * ODD ^ np.uint64(epoch)
    kind = np.where(n % np.uint64(4) == 0, np.uint64(1), np.uint64(2))
    head = (n % np.uint64(64) + np.uint64(1)) | np.uint64(1 << 32) | (kind << np.uint64(40))
    words = np.stack([first, rotate(first, 17) * ODD, n, head, rotate(first, 31), ~first], axis=1)
    return np.column_stack([n, words, words.sum(axis=1, dtype=np.uint64) * ODD])


def is_wanted(n: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Of the filtered reader."""
    chosen: npt.NDArray[np.bool_] = (n % np.uint64(4) != 0) & np.isin(n % np.uint64(64) + np.uint64(1), WANTED)
    return chosen


def wanted_before(n: int) -> int:
    """How many wanted ones have numbers below n. Not by a list: a reader that was stopped has missed many millions."""
    wanted = np.flatnonzero(is_wanted(np.arange(64, dtype=np.uint64)))
    return n // 64 * len(wanted) + int((wanted < n % 64).sum())


class Account:
    """What was read of one epoch, checked as it comes."""

    def __init__(self, ring: barewire.Ring, mode: str) -> None:
        self.ring, self.mode, self.epoch = ring, mode, ring.epoch
        # Where reading began: a thread that conflates may be ahead already.
        self.begin = self.next = ring._core.position
        self.read = self.lost = 0
        print("at", self.epoch, self.begin, flush=True)

    def take(self, batch: barewire.Batch) -> None:
        numbers = batch.records["ring_sequence"]
        found = batch.records.view(np.uint64).reshape(-1, 8)
        assert (found == expected(numbers, self.epoch)).all(), "a record is not what it should be"
        self.lost += batch.lost
        if self.mode in ("batches", "async"):
            self.next += batch.lost
            assert (numbers == np.arange(self.next, self.next + len(batch), dtype=np.uint64)).all(), "out of order"
            self.next += len(batch)
            self.read += len(batch)
        elif len(batch):
            in_order = (np.diff(numbers.astype(np.int64)) > 0).all() and numbers[0] >= self.next
            assert in_order, f"{self.mode}: out of order after {self.next}: {numbers[:10]}"
            if self.mode == "filtered":
                missing = wanted_before(int(numbers[-1]) + 1) - wanted_before(self.next) - len(batch)
                assert is_wanted(numbers).all() and 0 <= missing <= batch.lost, f"{missing} missing, {batch.lost} lost"
                self.read += len(batch)
            else:
                assert batch.updates is not None and (batch.updates > 0).all()
                self.read += int(batch.updates.sum())
            self.next = int(numbers[-1]) + 1

    def finish(self) -> None:
        end = self.ring.position
        if self.mode == "conflated":
            quotes = sum(n % 4 != 0 for n in range(self.begin, self.begin + (end - self.begin) % 4))
            quotes += (end - self.begin) // 4 * 3
            missing = quotes - self.read
            assert 0 <= missing <= self.lost, f"{missing} quotes missing, {self.lost} records lost"
            assert self.lost or missing == 0
        if self.mode in ("filtered", "conflated"):
            # What was kept back is not counted for users: the rest of the way.
            self.read = end - self.begin - self.lost
        print("done", self.epoch, self.begin, end, self.read, self.lost, flush=True)


def follow(name: str, mode: str) -> None:
    options: dict[str, object] = {}
    if mode == "filtered":
        options = {"symbols": ["I5", 6, "I7"], "kinds": ["bbo"]}
    elif mode == "conflated":
        options = {"conflate": True}
    ring = barewire.Ring.attach(name, **options)  # type: ignore[arg-type]
    while True:
        account = Account(ring, mode)
        ended = False
        try:
            if mode == "async":
                asyncio.run(drain(ring, account))
            else:
                for number, batch in enumerate(ring):
                    account.take(batch)
                    if number % 50 == 49:
                        time.sleep(0.01)
            ended = True
        except barewire.ProducerGone:
            pass
        account.finish()
        if ended:
            return
        ring.reattach(timeout=60)


async def drain(ring: barewire.Ring, account: Account) -> None:
    number = 0
    async for batch in ring:
        account.take(batch)
        number += 1
        if number % 50 == 0:
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    follow(sys.argv[1], sys.argv[2])
