"""Alignment, against a slow reference that takes one record at a time; live feeds are in test_align_live.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import barewire
from barewire import _core

from .venue import random_day, write_binaryfile

MBO, BBO, GAP, STATUS = 1, 2, 3, 4
UNKNOWN = 2**64 - 1


def records_of(
    rows: Sequence[tuple[int, int]], *, first: int = 0, kinds: Sequence[int] | None = None
) -> np.ndarray[Any, Any]:
    """Ring records of (ts_recv, ts_event), numbered from `first` on."""
    made = np.zeros(len(rows), barewire.RECORD_DTYPE)
    made["ring_sequence"] = np.arange(first, first + len(rows))
    made["ts_recv"] = [row[0] for row in rows]
    made["ts_event"] = [row[1] for row in rows]
    made["kind"] = MBO if kinds is None else kinds
    return made


def batches_of(records: np.ndarray[Any, Any], cuts: Sequence[int]) -> list[barewire.Batch]:
    """The same records in batches of these sizes, over and over."""
    symbols = barewire.Symbols(lambda first: [(7, "AAA"), (8, "BBB"), (9, "CCC")][first:])
    found, at, turn = [], 0, 0
    while at < len(records):
        size = cuts[turn % len(cuts)]
        found.append(barewire.Batch(records[at : at + size].copy(), 0, symbols))
        at, turn = at + size, turn + 1
    return found or [barewire.Batch(records, 0, symbols)]


# --- the merge, step by step -----------------------------------------------------------------------


@dataclass
class Waiting:
    """A record that the reference holds back."""

    number: int
    key: int
    place: int
    read_at: int


@dataclass
class Queue:
    """One input of the reference."""

    offset: int
    waiting: list[Waiting] = field(default_factory=list)
    came: int = 0
    place: int = 0
    frontier: int = 0
    has_more: bool = True
    ended: bool = False


class Reference:
    """What the page on alignment says, for one record at a time."""

    def __init__(self, offsets: Sequence[int], hold: int, max_held: int) -> None:
        self.inputs = [Queue(offset) for offset in offsets]
        self.hold, self.max_held, self.newest = hold, max_held, 0

    def push(self, source: int, times: Sequence[int], now: int, has_more: bool) -> None:
        queue = self.inputs[source]
        for time in times:
            key = max(1, time + queue.offset) if time else 0
            queue.place = max(queue.place, key)
            queue.waiting.append(Waiting(queue.came, key, queue.place, now))
            queue.came += 1
        queue.frontier = max(queue.frontier, queue.place)
        queue.has_more = has_more

    def progress(self, source: int, time: int) -> None:
        queue = self.inputs[source]
        queue.frontier = max(queue.frontier, time + queue.offset)

    def release(self, now: int) -> list[tuple[int, int, int, int, int]]:
        """(input, number, late, held, why) of all that need not be held."""
        out = list[tuple[int, int, int, int, int]]()
        while True:
            heads = [(queue.waiting[0].place, source) for source, queue in enumerate(self.inputs) if queue.waiting]
            if not heads:
                return out
            place, source = min(heads)
            why = self._why(place, source, now)
            if why is None:
                return out
            record = self.inputs[source].waiting.pop(0)
            out.append((source, record.number, int(0 < record.key < self.newest), now - record.read_at, why))
            self.newest = max(self.newest, place)

    def _why(self, place: int, source: int, now: int) -> int | None:
        others = [(n, queue) for n, queue in enumerate(self.inputs) if n != source and not queue.ended]
        silent = [(n, queue) for n, queue in others if not queue.waiting]
        if place < self.newest or all((place, source) < (queue.frontier, n) for n, queue in silent):
            return 0
        overdue = any(
            record.read_at + self.hold <= now and (record.place, n) >= (place, source)
            for n, queue in enumerate(self.inputs)
            for record in queue.waiting
        )
        if overdue and all((place, source) < (queue.frontier, n) for n, queue in silent if queue.has_more):
            return 1
        return 2 if sum(len(queue.waiting) for queue in self.inputs) > self.max_held else None


times = st.integers(0, 30).map(lambda time: 0 if time == 0 else 1000 + time)
step = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 2), st.lists(times, max_size=6), st.booleans()),
    st.tuples(st.just("progress"), st.integers(0, 2), times),
    st.tuples(st.just("pass"), st.integers(1, 20)),
    st.tuples(st.just("end"), st.integers(0, 2)),
    st.tuples(st.just("release"), st.integers(1, 5)),
)


@given(
    steps=st.lists(step, max_size=40),
    inputs=st.integers(1, 3),
    offsets=st.lists(st.integers(-5, 5), min_size=3, max_size=3),
    hold=st.sampled_from([0, 10, 1000]),
    max_held=st.sampled_from([0, 4, 1000]),
)
def test_the_merge_does_what_the_reference_does(
    steps: list[tuple[Any, ...]], inputs: int, offsets: list[int], hold: int, max_held: int
) -> None:
    names = [str(number) for number in range(inputs)]
    merge = _core.Aligner(names, "ts_recv", offsets[:inputs], hold, max_held, True)
    reference = Reference(offsets[:inputs], hold, max_held)
    now, pushed, given_out = 1, [0] * inputs, list[tuple[int, int, int, int, int]]()
    expected = list[tuple[int, int, int, int, int]]()

    def release(room: int) -> None:
        memory = np.zeros(room, barewire.ALIGNED_DTYPE)
        while (count := merge.release(memory.view(np.uint8), now)[0]) > 0:
            rows = memory[:count]
            given_out.extend(rows[["source", "ring_sequence", "late", "held_ns", "released_by"]].tolist())
        expected.extend(reference.release(now))

    for kind, *details in [*steps, *(("end", number) for number in range(inputs)), ("release", 3)]:
        source = details[0] if kind in ("push", "progress", "end") else 0
        if source >= inputs:
            continue
        if kind == "push" and not reference.inputs[source].ended:
            records = records_of(
                [(time, 0) for time in details[1]], first=pushed[source], kinds=[STATUS] * len(details[1])
            )
            if len(records):
                merge.push(source, records.view(np.uint8), 0, now, details[2])
                reference.push(source, details[1], now, details[2])
            pushed[source] += len(records)
        elif kind == "progress" and details[1]:
            merge.progress(source, details[1])
            reference.progress(source, details[1])
        elif kind == "pass":
            now += details[0]
        elif kind == "end":
            merge.end(source)
            reference.inputs[source].ended, reference.inputs[source].has_more = True, False
        elif kind == "release":
            release(details[0])
            assert sum(stats[6] for stats in merge.stats()) <= max_held
    assert given_out == expected
    # Whatever the reference thinks: everything came, once, and in its input's order.
    for source in range(inputs):
        assert [row[1] for row in given_out if row[0] == source] == list(range(pushed[source]))
    assert merge.ended()
    totals = np.array(merge.stats()).sum(axis=0).tolist()
    assert totals[0] == sum(pushed)
    assert totals[1] == sum(row[2] for row in given_out)
    assert totals[3:5] == [sum(row[4] == why for row in given_out) for why in (1, 2)]


# --- recorded inputs -------------------------------------------------------------------------------


def reference_of_files(inputs: list[list[int]], hold: int) -> list[tuple[int, int, int, int, int]]:
    """(input, number, key, late, held) of files: all of them known at once."""
    placed = []
    for source, keys in enumerate(inputs):
        place = 0
        for number, key in enumerate(keys):
            place = max(place, key)
            placed.append((place, source, number, key or place))
    placed.sort()
    out, newest = [], 0
    for at, (place, source, number, key) in enumerate(placed):
        # Held until the other input that has one last has its next.
        nexts = {n: p for p, n, _, _ in reversed(placed[at + 1 :]) if n != source}
        held = min(hold, max((p - place for p in nexts.values()), default=0))
        out.append((source, number, key, int(inputs[source][number] != 0 and key < newest), held))
        newest = max(newest, place)
    return out


@given(
    inputs=st.lists(st.lists(times, max_size=15), min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    batch_records=st.sampled_from([1, 3, 8192]),
    key=st.sampled_from(["ts_recv", "ts_event"]),
)
def test_files_give_the_same_however_they_are_cut(
    inputs: list[list[int]], cuts: list[int], batch_records: int, key: Any
) -> None:
    given_inputs = {
        str(n): batches_of(
            records_of([(k, 0) if key == "ts_recv" else (5, k) for k in keys], kinds=[GAP] * len(keys)), cuts
        )
        for n, keys in enumerate(inputs)
    }
    aligned = barewire.align(given_inputs, key=key, hold=10e-9, batch_records=batch_records)
    batches = list(aligned)
    assert all(0 < len(batch) <= batch_records for batch in batches)
    found = [
        row
        for batch in batches
        for row in batch.records[["source", "ring_sequence", "ts_key", "late", "held_ns"]].tolist()
    ]
    assert found == reference_of_files(inputs, 10)
    for batch in batches:
        assert set(batch.records["released_by"].tolist()) == {0}


def test_offsets_shift_an_input() -> None:
    one, two = records_of([(100, 0), (200, 0)]), records_of([(150, 0), (250, 0)])
    inputs = {"one": batches_of(one, [9]), "two": batches_of(two, [9])}
    (batch,) = barewire.align(inputs, offset_ns={"two": -100})
    assert batch.records[["source", "ts_key", "ts_recv"]].tolist() == [
        (1, 50, 150),
        (0, 100, 100),
        (1, 150, 250),
        (0, 200, 200),
    ]
    assert batch.of("two").records["ring_sequence"].tolist() == [0, 1]


def test_losses_lie_before_the_first_record_of_a_batch() -> None:
    one, two = records_of([(100, 0), (200, 0), (300, 0)]), records_of([(150, 0), (250, 0)])
    whole = batches_of(one, [1])
    whole[1].lost = 5
    whole[2].lost = 1
    ending = barewire.Batch(records_of([]), 3, whole[0].symbols)
    aligned = barewire.align({"one": whole, "two": [*batches_of(two, [9]), ending]})
    found = [(batch.records["ts_key"].tolist(), batch.lost) for batch in aligned]
    assert found == [([100, 150], {}), ([200, 250], {"one": 5}), ([300], {"one": 1}), ([], {"two": 3})]
    assert {name: stats.lost for name, stats in aligned.stats.items()} == {"one": 6, "two": 3}


def test_a_file_without_times_of_arrival_says_so(tmp_path: Path) -> None:
    path = write_binaryfile(tmp_path / "20200130.bin", random_day(300))
    with pytest.raises(barewire.ConfigError, match="no ts_recv"):
        list(barewire.align({"day": barewire.replay(path)}))
    aligned = barewire.align({"day": barewire.replay(path), "again": barewire.replay(path)}, key="ts_event")
    keys = np.concatenate([batch.records["ts_key"] for batch in aligned])
    assert (np.diff(keys.astype(np.int64)) >= 0).all()
    assert len({stats.records for stats in aligned.stats.values()}) == 1


def test_an_error_comes_when_all_before_it_is_out_and_the_others_go_on() -> None:
    def failing() -> Iterator[barewire.Batch]:
        yield from batches_of(records_of([(100, 0), (200, 0)]), [1])
        raise OSError("gone")

    two = batches_of(records_of([(150, 0), (250, 0), (350, 0)]), [2])
    aligned = barewire.align({"one": failing(), "two": two}, batch_records=1)
    found = []
    with pytest.raises(OSError, match="gone"):
        for batch in aligned:
            found += batch.records["ts_key"].tolist()
    assert found == [100, 150, 200]
    assert [batch.records["ts_key"].tolist() for batch in aligned] == [[250], [350]]
    assert list(aligned) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"inputs": {}}, "mapping of names"),
        ({"inputs": {"a": "b"}}, "a Feed, a Ring, a Replay"),
        ({"key": "sequence"}, "'ts_recv' or 'ts_event'"),
        ({"hold": -1}, "seconds, 0 or more"),
        ({"hold": float("nan")}, "seconds, 0 or more"),
        ({"offset_ns": {"b": 1}}, "by an input's name: a"),
        ({"offset_ns": {"a": True}}, "by an input's name: a"),
        ({"offset_ns": [1]}, "by an input's name: a"),
        ({"max_held": 1.5}, "0 or more"),
        ({"wait": "never"}, "sleep"),
        ({"batch_records": 0}, "1 or more"),
        ({"batch_records": 1.5}, "1 or more"),
        ({"inputs": {1: []}}, "names that are strings"),
        ({"inputs": dict.fromkeys("ab", iter([]))}, "each a recording of its own"),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(barewire.ConfigError, match=expected):
        barewire.align(**{"inputs": {"a": []}} | arguments)


@pytest.mark.parametrize("given", [1, None, "x", np.zeros(3)])
def test_what_is_no_batch_is_told(given: Any) -> None:
    with pytest.raises(barewire.ConfigError, match=r"inputs\['a'\].*expected batches from an iterable"):
        list(barewire.align({"a": [given]}))


def test_extremes_are_arguments_too() -> None:
    """Numpy's numbers, and such as no clock has."""
    ends: dict[str, Any] = {
        "hold": 1e300,
        "max_held": 2**70,
        "offset_ns": {"a": np.int64(5)},
        "tolerance": np.float32(0.1),
    }
    assert list(barewire.align({"a": []}, **ends)) == []


# --- rows ------------------------------------------------------------------------------------------

LEGS: list[tuple[str, str | int]] = [("x", "AAA"), ("y", "BBB"), ("x", 9)]
NUMBERS = [(0, 7), (1, 8), (0, 9)]


@dataclass
class LegState:
    """A leg of the reference."""

    key: int = 0
    quote: tuple[int, ...] | None = None
    stale: int = 0


def reference_rows(
    records: list[dict[str, int]], on: str | int, tolerance: int | None
) -> list[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
    """Rows of records in order, one at a time."""
    legs = [LegState() for _ in NUMBERS]
    bounds, newest = [UNKNOWN, UNKNOWN], 0
    rows = list[tuple[tuple[int, ...], list[tuple[int, ...]]]]()
    for record in records:
        newest = max(newest, record["ts_key"])
        mine = [leg for leg, (source, _) in zip(legs, NUMBERS, strict=True) if source == record["source"]]
        if record["kind"] == GAP and record["reason"] != 4:
            for leg in mine:
                leg.stale |= 1
        elif record["kind"] == STATUS and record["code"] == ord("R"):
            for leg in mine:
                leg.stale &= ~1
        elif record["kind"] == STATUS and record["code"] == ord("N"):
            for leg in mine:
                leg.quote, leg.stale = None, 0
        elif record["kind"] == STATUS and record["code"] == ord("K"):
            bounds[record["source"]] = record["value"]
        if record["kind"] != BBO or (record["source"], record["instrument_id"]) not in NUMBERS:
            continue
        number = NUMBERS.index((record["source"], record["instrument_id"]))
        legs[number].key = record["ts_key"]
        legs[number].quote = (record["bid_price"], record["sequence"])
        legs[number].stale = int(record["flags"] & 4 != 0)
        if any(leg.quote is None for leg in legs) or (isinstance(on, int) and on != number):
            continue
        keys = [leg.key for leg in legs]
        skew = max(keys) - min(keys)
        within = tolerance is None or skew <= tolerance
        if on == "all" and not within:
            continue
        widest = sorted((bounds[source] for source, _ in NUMBERS), reverse=True)[:2]
        head: tuple[int, ...] = (newest, skew, min(sum(widest), UNKNOWN), number, record["late"], int(within))
        head += (legs[0].stale | legs[1].stale | legs[2].stale,)
        body = [
            (*cast("tuple[int, ...]", leg.quote), newest - leg.key, bounds[source], leg.stale)
            for leg, (source, _) in zip(legs, NUMBERS, strict=True)
        ]
        rows.append((head, body))
    return rows


def some_record(kind: int, time: int, instrument: int, flags: int, detail: int) -> np.ndarray[Any, Any]:
    """A record of any kind; `detail` decides what is in it."""
    record = records_of([(time, time + 1)], kinds=[kind])
    record["instrument_id"], record["flags"], record["sequence"] = instrument, flags, detail
    if kind == BBO:
        record.view(barewire.BBO_DTYPE)["bid_price"] = detail
    elif kind == GAP:
        record.view(barewire.GAP_DTYPE)["reason"] = detail % 4 + 1
    elif kind == STATUS:
        status = record.view(barewire.STATUS_DTYPE)
        status["code"], status["value"] = b"RNKH"[detail % 4 :][:1], detail
    return record


events = st.lists(
    st.builds(
        some_record,
        st.sampled_from([BBO] * 8 + [MBO, GAP, STATUS]),
        st.integers(1, 60).map(lambda time: 1000 + time),
        st.sampled_from([7, 8, 9]),
        st.sampled_from([0, 0, 4, 128]),
        st.integers(1, 10**6),
    ),
    max_size=40,
)


@given(x=events, y=events, on=st.sampled_from(["any", "all", 0, 1, 2]), tolerance=st.sampled_from([0, 5, 20]))
def test_rows_are_what_the_reference_makes_of_the_aligned_records(x: Any, y: Any, on: Any, tolerance: int) -> None:
    def inputs() -> dict[str, list[barewire.Batch]]:
        made = {"x": x, "y": y}
        return {name: batches_of(np.concatenate([records_of([]), *rows]), [5]) for name, rows in made.items()}

    records = []
    for batch in barewire.align(inputs()):
        for at, row in enumerate(batch.records):
            kind = {MBO: "mbo", BBO: "bbo", GAP: "gaps", STATUS: "status"}[int(row["kind"])]
            one = getattr(barewire.AlignedBatch(batch.records[at : at + 1], {}, batch.inputs, []), kind)
            records.append(
                {
                    name: ord(v) if isinstance(v := one[name][0], bytes) else int(v)
                    for name in one.dtype.names
                    if not isinstance(one[name][0], bytes) or len(one[name][0]) == 1
                }
            )
    made = barewire.align(inputs()).rows(LEGS, on=LEGS[on] if isinstance(on, int) else on, tolerance=tolerance * 1e-9)
    found = []
    for rows in made:
        for row in rows.rows:
            head = row[["ts", "skew_ns", "bound_ns", "leg", "late", "within", "stale"]].item()
            body = row["legs"][["bid_price", "sequence", "age_ns", "bound_ns", "stale"]].tolist()
            found.append((head, body))
    assert found == reference_rows(records, on, tolerance)


def quotes(*rows: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    """Quotes: time, instrument, bid."""
    return np.concatenate([some_record(BBO, time, instrument, 0, bid) for time, instrument, bid in rows])


def test_rows_of_lost_records_are_marked_until_the_next_quote() -> None:
    x = batches_of(quotes((100, 7, 1), (300, 7, 2)), [1])
    x[1].lost = 2
    y = batches_of(quotes((200, 8, 3), (400, 8, 4)), [9])
    rows = barewire.align({"x": x, "y": y}).rows(LEGS[:2])
    found = [(batch.rows["stale"].tolist(), batch["y.BBB"]["bid_price"].tolist(), batch.lost) for batch in rows]
    assert found == [([0], [3], {}), ([0, 0], [3, 4], {"x": 2})]
    x[1].lost = 0
    y[0].lost = 1
    late = batches_of(quotes((150, 8, 9)), [9])
    late[0].lost = 1
    rows = barewire.align({"x": x, "y": [*late, *batches_of(quotes((500, 7, 1)), [9])]}).rows(LEGS[:2])
    assert [batch.rows["stale"].tolist() for batch in rows] == [[0, 0]]


def test_a_leg_that_lost_records_is_stale_while_the_other_moves() -> None:
    x = [barewire.Batch(records_of([(250, 0)]), 2, batches_of(quotes((1, 7, 1)), [1])[0].symbols)]
    x = [*batches_of(quotes((100, 7, 1)), [1]), *x]
    y = batches_of(quotes((200, 8, 3), (400, 8, 4)), [9])
    rows = np.concatenate([batch.rows for batch in barewire.align({"x": x, "y": y}).rows(LEGS[:2])])
    assert rows["stale"].tolist() == [0, 2]
    assert rows["legs"]["stale"].tolist() == [[0, 0], [2, 0]]


def test_legs_say_what_is_wrong_with_them() -> None:
    inputs = {"x": batches_of(quotes((100, 7, 1)), [1])}
    for legs, on, expected in [
        ([], "any", "at least one"),
        ([("z", "AAA")], "any", r"one of the inputs: x"),
        ([("x", -1)], "any", r"\(input, symbol\)"),
        ([("x", "AAA"), ("x", "AAA")], "any", "each once"),
        ([("x", "AAA")], "all", "tolerance"),
        ([("x", "AAA")], "y", "'any', 'all' or a leg: x.AAA"),
    ]:
        with pytest.raises(barewire.ConfigError, match=expected):
            barewire.align(inputs).rows(legs, on=on)  # type: ignore[arg-type]
    with pytest.raises(barewire.UnknownSymbolError, match="'AAB'"):
        list(barewire.align(inputs).rows([("x", "AAB")]))


def test_tables_have_absent_values_as_nulls_and_names_for_numbers() -> None:
    polars = pytest.importorskip("polars")
    x = quotes((100, 7, 1), (300, 7, 2))
    x.view(barewire.BBO_DTYPE)["ask_price"] = barewire.UNDEF_PRICE
    inputs = {"x": batches_of(x, [9]), "y": batches_of(quotes((200, 8, 3)), [9])}
    (batch,) = barewire.align(inputs)
    frame = batch.to_polars("bbo")
    assert frame["input"].to_list() == ["x", "y", "x"]
    assert frame["symbol"].to_list() == ["AAA", "BBB", "AAA"]
    assert frame["ask_price"].to_list() == [None, 0, None]
    assert frame["late"].to_list() == [False] * 3
    assert frame["released_by"].to_list() == ["settled"] * 3
    (rows,) = barewire.align(inputs).rows({"lead": ("x", "AAA"), "hedge": ("y", "BBB")})
    frame = rows.to_polars()
    assert frame["leg"].to_list() == ["hedge", "lead"]
    assert frame["lead.bid_price"].to_list() == [1, 2]
    assert frame["lead.ask_price"].to_list() == [None, None]
    assert frame["bound_ns"].to_list() == [None, None]
    assert frame["skew_ns"].dtype == polars.UInt64
    assert frame["skew_ns"].to_list() == [100, 100]
