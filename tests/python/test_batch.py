"""Batches: what is a view, what is a copy, and that neither ever changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import barewire

from .venue import random_day, small_day, write_binaryfile


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_binaryfile(tmp_path_factory.mktemp("day") / "20200130.bin", random_day(3000))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_binaryfile(tmp_path_factory.mktemp("small") / "20200130.bin", small_day())


def only_batch(path: Path, **options: object) -> barewire.Batch:
    (batch,) = barewire.replay(path, **options)  # type: ignore[arg-type]
    return batch


def test_one_kind_is_a_view_of_the_batch(day: Path) -> None:
    for kind in ("mbo", "bbo"):
        batch = next(iter(barewire.replay(day, records=kind)))
        array = getattr(batch, kind)
        assert len(array) == len(batch) > 0
        assert np.shares_memory(array, batch.records)
        assert array.ctypes.data == batch.records.ctypes.data


def test_several_kinds_are_selected_in_order(day: Path) -> None:
    batch = next(iter(barewire.replay(day)))
    assert len(batch.mbo) + len(batch.bbo) + len(batch.gaps) + len(batch.status) == len(batch)
    for value, array in ((1, batch.mbo), (2, batch.bbo)):
        assert (array["kind"] == value).all()
        assert (
            array["ring_sequence"].tolist() == batch.records["ring_sequence"][batch.records["kind"] == value].tolist()
        )
    assert batch.records["ring_sequence"].tolist() == list(range(len(batch)))


@pytest.mark.parametrize("batch_records", [1, 7, 64, 8192])
def test_kept_batches_never_change(day: Path, batch_records: int) -> None:
    replay = barewire.replay(day, batch_records=batch_records)
    kept, copies = [], []
    for batch in replay:
        kept.append(batch)
        copies.append(batch.records.tobytes())
        assert len(batch) <= batch_records
    assert [batch.records.tobytes() for batch in kept] == copies
    whole = np.concatenate([batch.records for batch in barewire.replay(day)])
    assert b"".join(copies) == whole.tobytes()


def test_a_small_batch_does_not_keep_a_large_buffer(small: Path) -> None:
    batch = only_batch(small)
    base = batch.records.base if batch.records.base is not None else batch.records
    assert base.nbytes == batch.records.nbytes


def test_events_are_the_arrays_rows(small: Path) -> None:
    batch = only_batch(small)
    events = list(batch.events())
    assert [event.ring_sequence for event in events] == batch.records["ring_sequence"].tolist()
    mbo = [event for event in events if isinstance(event, barewire.MboEvent)]
    assert [(event.order_id, event.price, event.size) for event in mbo] == batch.mbo[
        ["order_id", "price", "size"]
    ].tolist()
    assert [event.action.encode() for event in mbo] == batch.mbo["action"].tolist()
    assert {event.symbol for event in mbo} == {"AAPL", "MSFT"}
    (status,) = [event for event in events if isinstance(event, barewire.StatusEvent)]
    assert (status.code, status.state, status.reason, status.symbol) == ("H", "H", "LUDP", "AAPL")


def test_an_execution_is_told_as_trade_fill_and_cancel(small: Path) -> None:
    batch = only_batch(small, records="mbo")
    told = batch.mbo[batch.mbo["sequence"] == 7]
    assert told["action"].tolist() == [b"T", b"F", b"C"]
    assert told["side"].tolist() == [b"B", b"A", b"A"]
    assert told["size"].tolist() == [20] * 3
    assert told["price"].tolist() == [101_000_000_000] * 3


def test_arrow_has_a_column_a_field_and_nulls_where_nothing_is(small: Path) -> None:
    batch = only_batch(small)
    table = batch.to_arrow("bbo")
    assert set(table.column_names) == set(barewire.BBO_DTYPE.names or ()) | {"symbol"}
    rows = table.to_pylist()
    assert [row["symbol"] for row in rows] == [batch.symbol_of(one) for one in batch.bbo["instrument_id"]]
    for row, record in zip(rows, batch.bbo, strict=True):
        empty = record["ask_price"] == barewire.UNDEF_PRICE
        assert row["ask_price"] == (None if empty else int(record["ask_price"]))
        assert row["ask_size"] == (None if empty else int(record["ask_size"]))
        assert row["ts_recv"] is None  # a BinaryFILE has no times of arrival
        assert row["ts_event"] == int(record["ts_event"])
    assert batch.to_arrow("mbo").column("action").to_pylist() == [one.decode() for one in batch.mbo["action"]]
    with pytest.raises(ValueError, match="mbo and bbo and status"):
        batch.to_arrow()
    assert len(only_batch(small, records="bbo").to_arrow("gap")) == 0


def test_times_that_are_not_known_are_null(small: Path) -> None:
    records = next(iter(barewire.replay(small, date="2020-01-30"))).bbo[:3].copy()
    records["ts_event"][1] = 0
    batch = barewire.Batch(records.view(barewire.RECORD_DTYPE), 0, barewire.replay(small).symbols)
    assert [value is None for value in batch.to_arrow("bbo")["ts_event"].to_pylist()] == [False, True, False]


def test_a_kind_that_there_is_not_is_told(small: Path) -> None:
    batch = next(iter(barewire.replay(small, date="2020-01-30")))
    for convert in (batch.to_arrow, batch.to_polars, batch.to_pandas):
        with pytest.raises(barewire.ConfigError, match="kind: expected one of mbo, bbo, gap, status, found 'trades'"):
            convert("trades")


def test_polars_and_pandas_get_exact_integers(small: Path) -> None:
    pytest.importorskip("polars")
    pandas = pytest.importorskip("pandas")
    batch = only_batch(small)
    expected = batch.to_arrow("bbo").column("bid_price").to_pylist()
    assert batch.to_polars("bbo")["bid_price"].to_list() == expected
    frame = batch.to_pandas("bbo")
    assert str(frame["bid_price"].dtype) == "int64[pyarrow]"
    assert [None if pandas.isna(value) else int(value) for value in frame["bid_price"].to_list()] == expected
