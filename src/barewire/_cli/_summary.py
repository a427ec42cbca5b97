"""Who was busy, how fast, how late: tallies of batches, for summaries and live views."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._book import Book
from .._errors import UnknownSymbolError
from .._records import KINDS
from ._terminal import count_text, price_text, table_text

if TYPE_CHECKING:
    import numpy.typing as npt

    from .._batch import Batch
    from .._feed import Feed
    from .._layers import Row
    from .._lines import LineStats
    from .._replay import Replay

__all__ = ["Activity", "Latency", "book_rows", "books_text", "layers_text", "lines_text", "problems"]


_A_YEAR_NS = 365 * 86_400 * 10**9
_KEPT = 1 << 20  # values that wait for their turn: to count many at once costs far less than a few at a time


class Activity:
    """How many records each instrument had."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._waiting: list[npt.NDArray[np.uint32]] = []
        self._kept = 0

    def add(self, batch: Batch) -> None:
        """Counts a batch's records."""
        self._waiting.append(batch.records["instrument_id"].copy())
        self._kept += len(batch)
        if self._kept >= _KEPT:
            self._count()

    def _count(self) -> None:
        if not self._waiting:
            return
        ids, counts = np.unique(np.concatenate(self._waiting), return_counts=True)
        self._waiting, self._kept = [], 0
        for number, count in zip(ids.tolist(), counts.tolist(), strict=True):
            if number:  # 0 is the whole feed: gaps, some status
                self._counts[number] = self._counts.get(number, 0) + count

    def busiest(self, most: int) -> list[tuple[int, int]]:
        """(instrument number, records), most records first."""
        self._count()
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:most]


_BUCKETS_PER_DOUBLING = 16


class Latency:
    """Times from the receive timestamp of a packet to Python's hands on its records, to within 5%."""

    def __init__(self) -> None:
        self._counts = np.zeros(64 * _BUCKETS_PER_DOUBLING, np.int64)
        self._waiting: list[npt.NDArray[np.int64]] = []
        self._kept = 0

    def add(self, batch: Batch) -> None:
        """Measures a batch that was read just now."""
        now, times = time.time_ns(), batch.records["ts_recv"].view(np.int64)
        # What a feed says of itself came with no packet.
        is_own = batch.records["kind"] >= KINDS["gap"]
        if is_own.any():
            times = times[~is_own]
        self._waiting.append(now - times)
        self._kept += len(times)
        if self._kept >= _KEPT:
            self._count()

    def _count(self) -> None:
        if not self._waiting:
            return
        latencies = np.concatenate(self._waiting)
        self._waiting, self._kept = [], 0
        latencies = latencies[latencies < _A_YEAR_NS]  # without a receive timestamp
        # What a stepped clock makes negative counts as 1 ns.
        buckets = (np.log2(np.maximum(latencies, 1)) * _BUCKETS_PER_DOUBLING).astype(np.int64)
        self._counts += np.bincount(buckets, minlength=len(self._counts))

    def percentile_us(self, percent: float) -> float | None:
        """In microseconds; `None` when nothing was measured."""
        self._count()
        total = int(self._counts.sum())
        if not total:
            return None
        bucket = int(np.searchsorted(np.cumsum(self._counts), total * percent / 100))
        return float(2 ** ((bucket + 0.5) / _BUCKETS_PER_DOUBLING) / 1000)


def book_rows(source: Feed | Replay, activity: Activity, most: int) -> list[dict[str, Any]]:
    """The best prices of the busiest instruments, as data. Prices in 1e-9; `None` on an empty side."""
    rows = []
    for number, records in activity.busiest(most):
        symbol = source.symbols.of(number)
        try:
            book: Book = source.book(symbol)
        except UnknownSymbolError:
            continue  # never announced: there is no book by that name
        bid, ask = book.top()
        rows.append(
            {
                "symbol": symbol,
                "bid_size": bid.size if bid else None,
                "bid_price": bid.price if bid else None,
                "ask_price": ask.price if ask else None,
                "ask_size": ask.size if ask else None,
                "records": records,
            }
        )
    return rows


BOOK_HEAD = ("symbol", "bid size", "bid", "ask", "ask size", "records")


def book_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of `book_rows` as text, in the order of `BOOK_HEAD`."""

    def size(value: int | None) -> str:
        return "" if value is None else count_text(value)

    return (
        row["symbol"],
        size(row["bid_size"]),
        price_text(row["bid_price"]),
        price_text(row["ask_price"]),
        size(row["ask_size"]),
        count_text(row["records"]),
    )


def quote_text(row: dict[str, Any]) -> str:
    """A row of `book_rows` in a few characters: symbol, bid size, bid / ask, ask size."""
    symbol, bid_size, bid, ask, ask_size, _ = book_cells(row)
    return f"{symbol} {bid_size}@{bid or '-'} / {ask or '-'}@{ask_size}"


LINE_HEAD = ("line", "packets", "first", "duplicates", "lagging", "p50 us", "p99 us", "max us", "down")


def lines_text(lines: Iterable[LineStats]) -> str:
    """What each line brought, as a table; the lag behind the first copy in us."""

    def cells(line: LineStats) -> tuple[str, ...]:
        counts = (line.packets, line.first_copies, line.duplicates, line.lagging)
        lags = (line.lag_p50_ns, line.lag_p99_ns, line.lag_max_ns)
        down = f"{line.times_down}, now" if line.is_down else str(line.times_down)
        return (line.name, *map(count_text, counts), *(f"{ns / 1000:,.1f}" for ns in lags), down)

    return table_text(LINE_HEAD, map(cells, lines))


def layers_text(rows: Iterable[Row]) -> str:
    """Where packets went, as a table from the wire upwards; losses are marked."""
    cells = ((row.layer, row.where, row.what, count_text(row.value), "lost" if row.is_loss else "") for row in rows)
    return table_text(("layer", "where", "what", "count", ""), cells)


def books_text(rows: list[dict[str, Any]]) -> str:
    """The same as a table."""
    return table_text(BOOK_HEAD, map(book_cells, rows))


# Counters that are 0 when all is well, and what to say of them when they are not.
_PROBLEMS = {
    "callback_errors": "calls of the native strategy ended in an exception",
    "callback_slow": "calls of the native strategy took longer than slow_us, the longest {callback_longest_ns:,} ns",
    "messages_missing": "messages missing: never received",
    "kernel_drops": "datagrams dropped by the kernel: raise receive.rcvbuf_bytes and net.core.rmem_max",
    "kernel_truncated": "datagrams longer than the receive buffer",
    "kernel_wrong_source": "datagrams from senders that lines.source and lines.allow leave out",
    "kernel_fragments": "fragments of datagrams, which this path does not put together",
    "kernel_malformed": "frames with bad headers or checksums",
    "packets_malformed": "packets that are not the protocol's",
    "packets_damaged": "damaged packets: fewer whole messages than declared, or bytes behind the last",
    "packets_foreign_session": "packets of another session",
    "messages_unknown_type": "messages of an unknown type, skipped",
    "messages_bad_length": "messages whose length is not their type's, skipped",
    "book_unknown_order": "messages about orders that are not in the book: they were added before it was watched",
    "book_duplicate_order": "orders added twice",
    "book_over_reduced": "orders that lost more than they had",
    "book_invalid": "orders without size, side or price",
    "book_out_of_capacity": "orders for which the books had no room",
    "switch_times_missing": "packets without the capture switch's time that was asked for",
    "switch_times_implausible": "packets with a capture switch's time that cannot be right",
    "switch_times_degraded": "packets whose capture switch says that its clock was not good",
    "hardware_times_missing": "packets that the card did not stamp",
    "hardware_times_implausible": "packets whose stamp of the card cannot be right",
    "hardware_times_uncertain": "packets whose stamp of the card could not be told as a time of day",
    "clock_steps": "times a clock was stepped: receive times before it are off by as much",
    "directory_overflow": "symbols that did not fit into the ring's directory",
}


def problems(counters: dict[str, int]) -> list[str]:
    """What did not go well, one line each; none where all did."""
    return [
        f"{count_text(counters[name])} {text.format_map(counters)}"
        for name, text in _PROBLEMS.items()
        if counters.get(name)
    ]
