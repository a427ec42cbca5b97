"""Watching a running feed: one loop, and the lines or the live view that come out of it."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .._records import GAP_REASONS, KINDS
from ._summary import BOOK_HEAD, Activity, Latency, book_cells, book_rows, problems, quote_text
from ._terminal import count_text, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .._batch import Batch
    from .._feed import Feed
    from .._layers import CountersBelow, Row

__all__ = ["Watch", "json_lines", "live_view", "plain_lines"]

_GAPS = {
    "sequence_jump": "never received",
    "late_join": "sent before the feed joined",
    "session_end": "the session ended before they came",
    "snapshot": "a snapshot made up for them",
}
_LINE_STATES = {"D": "down: nothing was heard for longer than sequencing.line_timeout_us", "U": "up again"}
_SHOWN_BOOKS = 12
_SHOWN_MESSAGES = 6
_FRAME_LINES = 8  # of the live view: title, frame, head, status, and a line to spare


class Watch:
    """Tallies of a feed, and a report of them at a steady interval.

    Attributes:
        said: what a strategy had to say, newest last.
        lost: records that this process read too late.
        before_joining: messages that were sent before the feed was there.
        books_are_whole: whether a snapshot has made up for those.
    """

    def __init__(
        self, feed: Feed, report: Callable[[Watch], None], interval: float, below: CountersBelow | None = None
    ) -> None:
        self.feed = feed
        self._below = below
        self.activity = Activity()
        self.latency = Latency()
        self.said: deque[str] = deque(maxlen=_SHOWN_MESSAGES)
        self.lost = 0
        self.before_joining = 0
        self.books_are_whole = False
        self.begun = time.monotonic()
        self._report = report
        self._interval = interval
        self._next = self.begun + interval
        self._rate_from = (self.begun, 0)
        self._rate = 0.0

    def run(self, each: Callable[[Batch], None], duration: float | None) -> None:
        """Reads the feed to its end, or for `duration` seconds."""
        until = None if duration is None else self.begun + duration
        while True:
            wait = self._next - time.monotonic()
            if wait <= 0:
                self._tick()
                continue
            if until is not None and time.monotonic() >= until:
                return
            batch = self.feed.read(timeout=min(wait, 0.1))
            if batch is None:
                if self.feed.ended or not self.feed.running:
                    return
                continue
            self.latency.add(batch)
            self.activity.add(batch)
            self.lost += batch.lost
            if (batch.records["kind"] >= KINDS["gap"]).any():
                self._note_gaps(batch)
                self._note_status(batch)
            each(batch)

    def _note_gaps(self, batch: Batch) -> None:
        for sequence, count, reason in batch.gaps[["sequence", "count", "reason"]].tolist():
            name = GAP_REASONS.get(reason, "unknown")
            text = _GAPS.get(name, name)
            self.said.append(f"gap: {count_text(count)} messages from {count_text(sequence)} on: {text}")
            if name == "late_join":
                self.before_joining += count

    def _note_status(self, batch: Batch) -> None:
        for letter, value in batch.status[["code", "value"]].tolist():
            code = letter.decode("latin-1")
            if code in _LINE_STATES:
                lines = self.feed.config.lines
                line = lines[value].name if value < len(lines) else value
                self.said.append(f"line {line} is {_LINE_STATES[code]}")
            elif code == "K":
                self.said.append(f"clock: {self.feed.clock}")
            elif code == "R":
                self.said.append("a snapshot was loaded: every book is right again")
                self.books_are_whole = True

    def _tick(self) -> None:
        now = time.monotonic()
        messages = self._messages()
        self._rate = (messages - self._rate_from[1]) / (now - self._rate_from[0])
        self._rate_from = (now, messages)
        self._next = now + self._interval
        self._report(self)

    def _messages(self) -> int:
        """Messages so far, the other lines' copies not counted."""
        stats = self.feed.stats
        return int(stats.messages - stats.messages_duplicate)

    def snapshot(self, *, final: bool = False) -> dict[str, Any]:
        """What there is to know, as data. Latency is from a packet's receive timestamp to Python."""
        counters = self.feed.stats.as_dict()
        messages = counters["messages"] - counters["messages_duplicate"]
        seconds = time.monotonic() - self.begun
        return {
            "time_ns": time.time_ns(),
            "seconds": seconds,
            "messages": messages,
            "messages_per_s": messages / seconds if final else self._rate,
            "records": counters["records"],
            "lost": self.lost,
            "messages_missing": counters["messages_missing"],
            "gaps": counters["gaps"],
            "receive_to_python_p50_us": self.latency.percentile_us(50),
            "receive_to_python_p99_us": self.latency.percentile_us(99),
            "clock": asdict(self.feed.clock),
            "instruments": counters["instruments"],
            "live_orders": counters["live_orders"],
            **({"final": True, "stats": counters} if final else {}),
        }

    def final_report(self) -> dict[str, Any]:
        """Everything there is to know of a feed that has stopped."""
        report = self.snapshot(final=True)
        report["receive"] = self.feed.receive_report
        with suppress(RuntimeError):  # of a thread that died there are neither; why it died is told elsewhere
            report["layers"] = [row._asdict() for row in self.layers()]
            report["lines"] = [line.as_dict() for line in self.feed.lines()]
            report["digests"] = self.digests()
        return report

    def digests(self) -> dict[str, str | None]:
        """Of the events that were read, in order, and of the books. The feed was made with `digest=True`."""
        return {"events": self.feed.events_digest(), "books": self.feed.digest()}

    def layers(self) -> list[Row]:
        """Where packets went, from the wire to the ring."""
        from .._layers import layer_rows

        below = self._below.rows() if self._below else []
        lines = {line.name: line.packets for line in self.feed.lines()}
        return layer_rows(below, self.feed.stats.as_dict(), lines, self.lost)

    def status(self, *, final: bool = False) -> str:
        """The same in one line."""
        now = self.snapshot(final=final)
        p50 = now["receive_to_python_p50_us"]
        late = "" if p50 is None else f"; packet to Python p50 {p50:.0f} us"
        missing = f"{count_text(now['messages_missing'] - self.before_joining)} missing"
        return (
            f"{count_text(now['messages'])} messages, {count_text(now['messages_per_s'])} a second; "
            f"{missing}; {count_text(now['lost'])} read too late{late}; clock {self.feed.clock.source}{self._waiting()}"
        )

    def _waiting(self) -> str:
        """Why nothing may be coming."""
        stats = self.feed.stats
        return f"; waiting for a snapshot, {count_text(stats.messages_held)} messages held" if stats.suspended else ""

    def problems(self) -> list[str]:
        """What did not go well, one line each."""
        counters = self.feed.stats.as_dict()
        counters["messages_missing"] -= self.before_joining
        found = problems(counters)
        if self.before_joining and not self.books_are_whole:
            late = f"{count_text(self.before_joining)} messages were sent before the feed joined: books are not whole"
            found.insert(0, late)
        if replaced := counters["messages_replaced"]:
            took = counters["recovery_longest_ns"] / 1e6
            found.append(f"{count_text(replaced)} messages not seen: a snapshot took their place; {took:,.0f} ms")
        if self.lost:
            found.append(
                f"{count_text(self.lost)} records read too late: this process fell behind by more than the ring"
            )
        return found


@contextmanager
def plain_lines(books: int = 0) -> Iterator[Callable[[Watch], None]]:
    """A line of status, the busiest `books`, and what the strategy said since: for pipes and logs."""

    def report(watch: Watch) -> None:
        for line in watch.said:
            print(f"  {line}")
        watch.said.clear()
        print(f"{time.strftime('%H:%M:%S')}  {watch.status()}", flush=True)
        if books:
            rows = book_rows(watch.feed, watch.activity, books)
            print("  " + "   ".join(quote_text(row) for row in rows), flush=True)

    yield report


@contextmanager
def json_lines() -> Iterator[Callable[[Watch], None]]:
    """A JSON object a report."""
    yield lambda watch: print_json(watch.snapshot())


@contextmanager
def live_view(title: str) -> Iterator[Callable[[Watch], None]]:
    """A table that is drawn again and again: for a terminal."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stdout)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        yield lambda watch: live.update(_view(title, watch, console.height), refresh=True)


def _view(title: str, watch: Watch, height: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for number, head in enumerate(BOOK_HEAD):
        style = {"bid": "green", "ask": "red"}.get(head, "")
        table.add_column(head, justify="right" if number else "left", style=style, min_width=9)
    fitting = max(1, min(_SHOWN_BOOKS, height - _FRAME_LINES - _SHOWN_MESSAGES))
    rows = book_rows(watch.feed, watch.activity, fitting)
    for row in sorted(rows, key=lambda row: str(row["symbol"])):
        table.add_row(*map(Text, book_cells(row)))
    parts: list[RenderableType] = [table, Text(watch.status())]
    parts += [Text(line, style="cyan", no_wrap=True) for line in watch.said]
    return Group(*parts)
