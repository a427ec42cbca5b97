"""Strategies in the feed's own loop: what they see, what becomes of their state, how they fail."""

# ruff: noqa: ARG001 (a native function has three arguments)

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import barewire

from .venue import Venue, add, delete, free_line, halt, random_day, write_binaryfile
from conftest import REPOSITORY, Cli

WAIT = 20.0
DATE = "2020-01-30"

TRACE = np.dtype([("bbo", "i8"), ("mbo", "i8"), ("status", "i8"), ("trace", "i8"), ("bids", "i8", (8,))])


def on_bbo(event: Any, top: Any, state: Any) -> None:
    state.bbo += 1
    state.trace = (state.trace * 31 + event.bid_price) ^ (event.ask_price + state.bbo)
    state.bids[event.instrument_id] = top.bid_price


def on_mbo(event: Any, top: Any, state: Any) -> None:
    state.mbo += 1
    letter = 7 if event.action == ord("A") else 11
    state.trace = (state.trace * 31 + top.bid_price + letter) ^ (top.ask_price + event.price)


def on_status(event: Any, top: Any, state: Any) -> None:
    if event.code == ord("H"):  # of clocks and sessions a file says nothing
        state.status += 1


TRACER = barewire.native(TRACE, on_bbo=on_bbo, on_mbo=on_mbo, on_status=on_status)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def config(line: dict[str, Any], **feed: Any) -> dict[str, Any]:
    return {
        "feed": {"protocol": "itch-5.0", "date": DATE, **feed},
        "lines": [line],
        "ring": {"capacity": 1 << 14},
        "book": {"instruments": 1024, "orders": 8192, "levels": 8192},
    }


def as_list(state: Any) -> list[Any]:
    """Every field but the count of errors."""
    return [np.asarray(state[name]).tolist() for name in state.dtype.names]


class Interpreted(barewire.Strategy):
    """The same strategy in plain Python, which asks the replay's books for their tops."""

    def on_start(self, source: Any) -> None:
        self.source = source
        self.state = np.zeros(1, TRACE)[0]
        self.trace = 0

    def mix(self, one: int, two: int) -> None:
        mixed = (self.trace * 31 + one) ^ two
        self.trace = (mixed + (1 << 63)) % (1 << 64) - (1 << 63)

    def on_bbo(self, bbo: barewire.BboEvent) -> None:
        self.state["bbo"] += 1
        self.mix(bbo.bid_price, bbo.ask_price + int(self.state["bbo"]))
        bid = self.source.book(bbo.symbol).bid
        self.state["bids"][bbo.instrument_id] = bid.price if bid else barewire.UNDEF_PRICE

    def on_event(self, event: barewire.MboEvent) -> None:
        self.state["mbo"] += 1
        tops = self.source.book(event.symbol).top()
        bid, ask = (barewire.UNDEF_PRICE if quote is None else quote.price for quote in tops)
        self.mix(bid + (7 if event.action == "A" else 11), wrap(ask + event.price))

    def on_status(self, status: barewire.StatusEvent) -> None:
        self.state["status"] += status.code == "H"

    def on_end(self) -> None:
        self.state["trace"] = self.trace


def wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def test_compiled_is_interpreted_and_live_is_replayed(tmp_path: Path) -> None:
    """Python with its books, a file through the compiled function, and the same session live: one state."""
    day = [*random_day(3000, instruments=5), halt("SYM1")]
    file = write_binaryfile(tmp_path / "day.bin", day)
    replayed, live = TRACER.copy(), TRACER.copy()
    replay = barewire.replay(file, date=DATE, native=replayed)
    used = [replayed.in_use]
    replay.run()
    assert [*used, replayed.in_use] == [True, False]
    reference = Interpreted()
    barewire.replay(file, date=DATE).run(reference)
    assert as_list(replayed.state)[:-1] == as_list(reference.state)
    assert replay.stats.callback_calls == replay.stats.records
    assert replay.stats.records == replayed.state.bbo + replayed.state.mbo + replayed.state.status
    assert replay.stats.callback_errors == replayed.errors == 0
    assert replay.stats.callback_longest_ns <= replay.stats.callback_ns

    line = free_line()
    with barewire.Feed.from_config(config(line), native=live) as feed:
        venue = Venue(line)
        venue.send(day)
        venue.end()
        until(lambda: feed.ended)
        venue.close()
    assert as_list(live.state) == as_list(replayed.state)
    assert not live.in_use
    assert feed.stats.callback_calls == feed.stats.records


def test_two_feeds_have_two_states_that_outlive_them() -> None:
    lines = [free_line(), free_line()]
    strategies = [TRACER.copy(), TRACER.copy()]
    feeds = [barewire.Feed.from_config(config(line), native=s) for line, s in zip(lines, strategies, strict=True)]
    with feeds[0], feeds[1]:
        for count, line in enumerate(lines, 1):
            venue = Venue(line)
            venue.send([add(n, "B", 100, 1_000_000 + n) for n in range(1, 10 * count + 1)])
            venue.close()
        until(lambda: [int(s.state.mbo) for s in strategies] == [10, 20])
        third = barewire.Feed.from_config(config(free_line()), native=strategies[0])
        with pytest.raises(barewire.FeedError, match=r"in use by another feed.*copy"):
            third.start()
        with pytest.raises(barewire.BarewireError, match="in use"):
            strategies[0].reset()
    del feeds, third
    assert [int(s.state.mbo) for s in strategies] == [10, 20]
    strategies[0].reset()
    assert int(strategies[0].state.mbo) == 0


@barewire.native([("one", "i8"), ("words", "i8", (32,)), ("other", "i8"), ("mixed", "u8")], on="mbo", slow_us=1)
def slow(event: Any, top: Any, state: Any) -> None:
    """Writes both ends of its state, some microseconds apart."""
    state.one += 1
    for n in range(3000):
        state.mixed = state.mixed * np.uint64(6364136223846793005) + np.uint64(n)
        if state.mixed % 97 == 0:
            state.words[state.mixed % 32] = state.one
    for n in range(32):
        state.words[n] = state.one
    state.other = state.one


def test_snapshots_are_of_one_moment(tmp_path: Path) -> None:
    file = write_binaryfile(tmp_path / "day.bin", random_day(20_000))
    replay = barewire.replay(file, date=DATE, native=slow)
    runner = threading.Thread(target=replay.run)
    runner.start()
    seen = []
    while runner.is_alive():
        copy = slow.snapshot()
        assert copy.one == copy.other
        assert (copy.words == copy.one).all()
        seen.append(int(copy.one))
    runner.join()
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert slow.snapshot().one == replay.stats.callback_calls
    assert replay.stats.callback_slow > 0
    slow.reset()


def test_a_feed_is_stopped_while_it_calls() -> None:
    line = free_line()
    strategy = slow.copy()
    feed = barewire.Feed.from_config(config(line), native=strategy)
    feed.start()
    venue = Venue(line)
    going = True

    def flood() -> None:
        n = 0
        while going:
            n += 1
            venue.send([add(n, "B", 1, 1_000_000), delete(n)])

    sender = threading.Thread(target=flood)
    sender.start()
    until(lambda: strategy.state.one > 100)
    feed.stop()
    count = int(strategy.state.one)
    time.sleep(0.02)
    going = False
    sender.join()
    venue.close()
    assert int(strategy.state.one) == count == feed.stats.callback_calls


def test_exceptions_are_counted_and_nothing_is_written_outside(tmp_path: Path) -> None:
    fields = [("before", "u8"), ("cells", "u8", (4,)), ("after", "u8"), ("calls", "u8")]

    def wild(event: Any, top: Any, state: Any) -> None:
        state.calls += 1
        if state.calls % 3 == 0:
            state.cells[state.calls] = 1
        elif state.calls % 3 == 1:
            state.after += state.calls // (top.bid_size - top.bid_size)
        else:
            raise ValueError("as it says")

    strategy = barewire.native(fields, on="mbo")(wild)
    replay = barewire.replay(write_binaryfile(tmp_path / "day.bin", random_day(300)), date=DATE, native=strategy)
    replay.run()
    calls = int(strategy.state.calls)
    assert calls >= 300
    assert strategy.errors == replay.stats.callback_errors == calls - 1, "index 3 of 4 is there"
    assert (strategy.state.before, strategy.state.after, list(strategy.state.cells)) == (0, 0, [0, 0, 0, 1])


SOURCE = r"""
#include "barewire_native.h"
struct state { int64_t events, bids, widest; };
void watch(const void *event, const struct barewire_top *top, void *to) {
    struct state *state = to;
    const struct barewire_mbo *mbo = event;
    state->events++;
    if (mbo->kind == BAREWIRE_MBO && mbo->action == 'A' && mbo->side == 'B')
        state->bids++;
    if (mbo->kind == BAREWIRE_BBO && top->bid_size && top->ask_size && top->ask_price - top->bid_price > state->widest)
        state->widest = top->ask_price - top->bid_price;
}
"""


def test_a_function_in_c(tmp_path: Path) -> None:
    (tmp_path / "watch.c").write_text(SOURCE)
    library = tmp_path / "watch.so"
    command = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
    subprocess.run([*command, f"-I{REPOSITORY / 'include'}", tmp_path / "watch.c", "-o", library], check=True)
    function = ctypes.CDLL(str(library)).watch
    state = [("events", "i8"), ("bids", "i8"), ("widest", "i8")]
    file = write_binaryfile(tmp_path / "day.bin", random_day(2000))
    found = []
    for given in (function, ctypes.cast(function, ctypes.c_void_p).value):
        strategy = barewire.native(state, on=("mbo", "bbo"))(given)
        replay = barewire.replay(file, date=DATE, native=strategy)
        batches = list(replay)
        assert strategy.state.events == replay.stats.records
        found.append(strategy.state.tolist())
    assert found[0] == found[1]
    mbo = np.concatenate([batch.mbo for batch in batches])
    assert strategy.state.bids == ((mbo["action"] == b"A") & (mbo["side"] == b"B")).sum()
    bbo = np.concatenate([batch.bbo for batch in batches])
    both = bbo[(bbo["bid_size"] > 0) & (bbo["ask_size"] > 0)]
    assert strategy.state.widest == (both["ask_price"] - both["bid_price"]).max()


def test_a_function_by_cffi(tmp_path: Path) -> None:
    cffi = pytest.importorskip("cffi")
    (tmp_path / "watch.c").write_text(SOURCE)
    library = tmp_path / "watch.so"
    flags = ["-O2", "-shared", "-fPIC", f"-I{REPOSITORY / 'include'}"]
    subprocess.run(["cc", *flags, tmp_path / "watch.c", "-o", library], check=True)
    ffi = cffi.FFI()
    ffi.cdef("void watch(const void *event, const void *top, void *state);")
    opened = ffi.dlopen(str(library))
    state = [("events", "i8"), ("bids", "i8"), ("widest", "i8")]
    file = write_binaryfile(tmp_path / "day.bin", random_day(2000))
    strategy = barewire.native(state, on=("mbo", "bbo"))(opened.watch)
    replay = barewire.replay(file, date=DATE, native=strategy)
    replay.run()
    assert strategy.state.events == replay.stats.records > 2000
    into_python = ffi.callback("void(void *, void *, void *)", lambda *_: None)
    with pytest.raises(barewire.ConfigError, match="calls Python"):
        barewire.native(state, on="mbo")(into_python)


STATE = [("count", "i8")]


def prints(event: Any, top: Any, state: Any) -> None:
    print(event.sequence)


def unknown(event: Any, top: Any, state: Any) -> None:
    state.count += top.middle


def fine(event: Any, top: Any, state: Any) -> None:
    state.count += 1


C_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: barewire.native(STATE, on="bbo")(prints), r"prints \(.*\) would wait for Python's lock"),
        (lambda: barewire.native(STATE, on="bbo")(unknown), r"unknown \(.*cannot be compiled.*'middle'"),
        (lambda: barewire.native(STATE, on="trade")(fine), "expected mbo, bbo, gap, status"),
        (lambda: barewire.native(STATE, on=("mbo", "bbo"))(fine), "expected one kind for a Python function"),
        (lambda: barewire.native(STATE, on_bbo="fine"), "expected a Python function"),
        (lambda: barewire.native("i8", on="bbo")(fine), "state: expected a numpy dtype with fields"),
        (lambda: barewire.native([("name", "S4")], on="bbo")(fine), "state.name: expected numbers"),
        (lambda: barewire.native([("who", object)], on="bbo")(fine), "state.who: expected numbers"),
        (lambda: barewire.native(STATE, on="bbo", slow_us=0)(fine), "slow_us 0: expected"),
        (lambda: barewire.native(STATE, on="bbo", slow_us=float("inf"))(fine), "slow_us inf: expected"),
        (lambda: barewire.native(STATE, on="bbo", slow_us="10")(fine), "slow_us '10': expected"),  # type: ignore[call-overload]
        (lambda: barewire.native(STATE, on="bbo")(C_CALLBACK(fine)), "calls Python: the feed would wait"),
        (lambda: barewire.native(STATE, on="bbo")(len), r"give ffi.addressof\(lib, 'len'\)"),
        (lambda: barewire.replay("x.bin", native=fine), "native: expected what barewire.native"),  # type: ignore[arg-type]
        (lambda: barewire.replay("x.bin", records="bbo", native=TRACER), "is for 'mbo', which is not among them"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make: Callable[[], object], expected: str) -> None:
    with pytest.raises(barewire.ConfigError, match=expected) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_without_numba_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['numba'] = None\n"
        "import barewire\n"
        "try:\n    barewire.native([('n', 'i8')], on='bbo')(lambda event, top, state: None)\n"
        "except barewire.ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'barewire[native]'" in done.stdout
    assert done.stdout.count("\n") == 1


def test_state_begins_with_the_values_given(tmp_path: Path) -> None:
    given = np.array([(5, 2.5)], [("count", "i4"), ("factor", "f8")])
    strategy = barewire.native(given, on="mbo")(fine)
    barewire.replay(write_binaryfile(tmp_path / "day.bin", [add(1, "B", 1, 1_000)]), date=DATE, native=strategy).run()
    assert (strategy.state.count, strategy.state.factor, given["count"][0]) == (6, 2.5, 5)
    strategy.reset()
    assert strategy.state.count == 5


LEFT_RUNNING = """
import sys, time
import barewire
from python.test_native import TRACER

feed = barewire.Feed.from_config(eval(sys.argv[1]), native=TRACER)
feed.start()
print("started", flush=True)
while TRACER.state.mbo < 100:
    time.sleep(0.01)
print("called", flush=True)
if sys.argv[2] == "wait":
    time.sleep(60)
"""


@pytest.mark.parametrize("end", ["exit", "interrupt", "kill"])
def test_a_process_ends_while_its_feed_calls(end: str) -> None:
    """By itself without a stop, by Ctrl-C, by kill -9: at once, and without a crash of its own."""
    line = free_line()
    wait = "leave" if end == "exit" else "wait"
    command = [sys.executable, "-c", LEFT_RUNNING, repr(config(line)), wait]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "tests")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    venue = Venue(line)
    going = True

    def flood() -> None:
        n = 0
        while going:
            n += 1
            venue.send([add(n, "B", 1, 1_000_000), delete(n)])

    sender = threading.Thread(target=flood)
    sender.start()
    try:
        assert process.stdout.readline() == "called\n"
        if end != "exit":
            process.send_signal(signal.SIGINT if end == "interrupt" else signal.SIGKILL)
        _, said = process.communicate(timeout=WAIT)
    finally:
        going = False
        sender.join()
        venue.close()
        process.kill()
        process.wait()
    expected = {"exit": 0, "interrupt": -signal.SIGINT, "kill": -signal.SIGKILL}[end]
    assert process.returncode == expected, said


def test_the_command_line_runs_a_native_strategy(barewire: Cli, tmp_path: Path) -> None:
    file = write_binaryfile(tmp_path / "day.bin", random_day(500))
    where = f"{REPOSITORY / 'examples' / 'native.py'}:spread"
    done = barewire("replay", file, "--date", DATE, "--native", where)
    assert "changes" in done.stdout
    missing = barewire("replay", file, "--date", DATE, "--native", f"{where}er", check=False)
    assert missing.returncode != 0
    assert "spread" in missing.stderr
