"""Which callbacks are called, with what, in which order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import barewire

from .venue import random_day, small_day, write_binaryfile


class Everything(barewire.Strategy):
    """Writes down every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def on_start(self, source: barewire.Feed | barewire.Replay | barewire.Ring) -> None:  # noqa: ARG002
        self.calls.append(("start", None))

    def on_event(self, event: barewire.MboEvent) -> None:
        self.calls.append(("event", event))

    def on_trade(self, trade: barewire.MboEvent) -> None:
        self.calls.append(("trade", trade))

    def on_bbo(self, bbo: barewire.BboEvent) -> None:
        self.calls.append(("bbo", bbo))

    def on_gap(self, gap: barewire.GapEvent) -> None:
        self.calls.append(("gap", gap))

    def on_status(self, status: barewire.StatusEvent) -> None:
        self.calls.append(("status", status))

    def on_batch(self, batch: barewire.Batch) -> None:
        self.calls.append(("batch", len(batch)))

    def on_end(self) -> None:
        self.calls.append(("end", None))


class Quotes(barewire.Strategy):
    """Wants best prices alone."""

    def __init__(self) -> None:
        self.seen: list[barewire.BboEvent] = []

    def on_bbo(self, bbo: barewire.BboEvent) -> None:
        self.seen.append(bbo)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_binaryfile(tmp_path_factory.mktemp("small") / "20200130.bin", small_day())


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_binaryfile(tmp_path_factory.mktemp("day") / "20200130.bin", random_day(3000))


def test_every_record_once_in_the_order_of_the_ring(small: Path) -> None:
    strategy = Everything()
    barewire.replay(small).run(strategy)
    assert strategy.calls[0] == ("start", None)
    assert strategy.calls[-1] == ("end", None)
    (batch,) = barewire.replay(small)
    expected = list(batch.events())
    assert [event for name, event in strategy.calls if name in ("event", "bbo", "status", "gap")] == expected
    trades = [event for name, event in strategy.calls if name == "trade"]
    assert [trade.action for trade in trades if isinstance(trade, barewire.MboEvent)] == ["T"]
    place = strategy.calls.index(("trade", trades[0]))
    assert strategy.calls[place - 1] == ("event", trades[0])
    assert sum(count for name, count in strategy.calls if name == "batch" and isinstance(count, int)) == len(expected)


@pytest.mark.parametrize("symbols", [None, ["SYM2"], ["SYM1", "SYM4"], ["NONE"]])
@pytest.mark.parametrize("batch_messages", [1, np.int64(10), None])
def test_few_and_many_records_take_different_ways_to_the_same_calls(
    day: Path, symbols: list[str] | None, batch_messages: int | None
) -> None:
    strategy = Quotes()
    strategy.symbols = symbols
    barewire.replay(day).run(strategy, batch_messages=batch_messages)
    expected = [event for batch in barewire.replay(day, records="bbo") for event in batch.events()]
    wanted = [event for event in expected if isinstance(event, barewire.BboEvent)]
    if symbols is not None:
        wanted = [event for event in wanted if event.symbol in symbols]
    assert [event[1:] for event in strategy.seen] == [event[1:] for event in wanted]


def test_a_callback_that_could_never_be_called_is_refused(small: Path) -> None:
    with pytest.raises(barewire.ConfigError, match="Quotes has on_bbo, which needs 'bbo' among them"):
        barewire.replay(small, records="mbo").run(Quotes())
    with pytest.raises(barewire.ConfigError, match="on_event or on_trade"):
        barewire.replay(small, records="bbo").run(Everything())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: barewire.Strategy, r"found the class itself: write Strategy\(\)"),
        (lambda: print, "an object of a class that descends from barewire.Strategy, found <built-in"),
        (
            lambda: type("Waits", (barewire.Strategy,), {"on_bbo": _waits})(),
            "found async def on_bbo: nobody would await",
        ),
        (
            lambda: type("Named", (barewire.Strategy,), {"symbols": b"AAPL"})(),
            "symbols to be a string, several, or None",
        ),
    ],
)
def test_what_is_no_strategy_is_refused(small: Path, make: Callable[[], barewire.Strategy], message: str) -> None:
    with pytest.raises(barewire.ConfigError, match=message):
        barewire.replay(small, date="2020-01-30").run(make())


@pytest.mark.parametrize("messages", [0, -1, "1", 1.5, True])
def test_a_run_by_so_many_messages_goes_forward(small: Path, messages: int) -> None:
    """By none at a time it would never end."""
    with pytest.raises(barewire.ConfigError, match=r"batch_messages .*: expected a number of messages, 1 or more"):
        barewire.replay(small, date="2020-01-30").run(barewire.Strategy(), batch_messages=messages)


async def _waits(*_: object) -> None:
    raise AssertionError


def test_a_misspelt_callback_is_told_of(small: Path) -> None:
    class Misspelt(barewire.Strategy):
        def on_trades(self, *_: object) -> None:
            raise AssertionError

        def on_fill(self, *_: object) -> None:
            raise AssertionError

        def on_end(self) -> None:
            pass

        def on_send(self) -> None:
            """Its own: whoever meant on_end wrote that."""

    with pytest.warns(UserWarning, match="on_trades is called by nobody; on_trade would be") as warned:
        barewire.replay(small, date="2020-01-30").run(Misspelt())
    assert len(warned) == 1, "on_fill is the author's own"


def test_one_symbol_may_be_a_string(day: Path) -> None:
    """Its letters are no symbols."""
    found = []
    for symbols in ("SYM2", ["SYM2"]):
        strategy = barewire.Strategy()
        strategy.symbols = symbols
        events: list[barewire.MboEvent] = []
        strategy.on_event = events.append  # type: ignore[method-assign, assignment]
        barewire.replay(day, date="2020-01-30").run(strategy, batch_messages=None)
        found.append(len(events))
    assert found[0] == found[1] > 0


def test_on_end_comes_also_after_an_error(small: Path) -> None:
    class Failing(barewire.Strategy):
        ended = False

        def on_bbo(self, bbo: barewire.BboEvent) -> None:  # noqa: ARG002
            raise KeyError("mine")

        def on_end(self) -> None:
            self.ended = True

    strategy = Failing()
    with pytest.raises(KeyError, match="mine"):
        barewire.replay(small).run(strategy)
    assert strategy.ended


def test_a_callback_may_be_set_on_the_object(small: Path) -> None:
    seen: list[barewire.BboEvent] = []
    strategy = barewire.Strategy()
    strategy.on_bbo = seen.append  # type: ignore[method-assign, assignment]
    barewire.replay(small).run(strategy)
    assert len(seen) == 9


def test_stop_from_a_callback(day: Path) -> None:
    class First(Quotes):
        def on_start(self, source: barewire.Feed | barewire.Replay | barewire.Ring) -> None:
            self.source = source

        def on_bbo(self, bbo: barewire.BboEvent) -> None:
            super().on_bbo(bbo)
            self.source.stop()

    strategy = First()
    barewire.replay(day).run(strategy)
    assert len(strategy.seen) == 1
