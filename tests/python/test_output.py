"""What is written to CSV, JSON lines and Parquet is the same, and is right."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import barewire
from barewire._batch import Batch
from barewire._output import COLUMNS, open_writer

from .venue import MIDNIGHT_2020_01_30, OPENING, SMALL_DAY_BBO, random_day, small_day, write_binaryfile

FORMATS = ("csv", "jsonl", "parquet")


def write(folder: Path, kind: str, ending: str, batches: list[Batch]) -> Path:
    path = folder / f"out.{ending}"
    with open_writer(str(path), kind) as writer:
        for batch in batches:
            writer.write(batch)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Rows as integers, text and None, whatever the format; without what Parquet alone has."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        assert table.column_names[-2:] == ["ts_recv", "flags"]
        rows: list[dict[str, Any]] = table.drop_columns(["ts_recv", "flags"]).to_pylist()
        return rows
    if path.suffix == ".jsonl":
        # Not splitlines(): JSON text may hold other line breaks than the line feed.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    text = ("symbol", "action", "side")
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: value if name in text else int(value) if value else None for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def test_the_small_day_to_the_letter(tmp_path: Path) -> None:
    source = write_binaryfile(tmp_path / "20200130.bin", small_day())
    written = write(tmp_path, "bbo", "csv", list(barewire.replay(source, records="bbo")))
    lines = ["sequence,ts_event,symbol,bid_price,bid_size,ask_price,ask_size"]
    for sequence, after, symbol, *prices in SMALL_DAY_BBO:
        scaled = [value * 10**9 if value and place % 2 == 0 else value for place, value in enumerate(prices)]
        fields = [sequence, MIDNIGHT_2020_01_30 + OPENING + after, symbol, *scaled]
        lines.append(",".join("" if value is None else str(value) for value in fields))
    assert written.read_bytes() == ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("kind", COLUMNS)
def test_formats_agree_with_each_other_and_with_the_arrays(tmp_path: Path, kind: str) -> None:
    source = write_binaryfile(tmp_path / "20200130.bin", random_day(4000, instruments=40))
    batches = list(barewire.replay(source, batch_records=1000))
    found = [read(write(tmp_path, kind, ending, batches)) for ending in FORMATS]
    assert found[0] == found[1] == found[2]
    assert list(found[0][0]) == list(COLUMNS[kind])
    array = np.concatenate([getattr(batch, kind) for batch in batches])
    assert [row["sequence"] for row in found[0]] == array["sequence"].tolist()
    assert [row["symbol"] for row in found[0]] == [batches[0].symbol_of(one) for one in array["instrument_id"]]
    price = "price" if kind == "mbo" else "ask_price"
    expected = [None if value == barewire.UNDEF_PRICE else value for value in array[price].tolist()]
    assert [row[price] for row in found[0]] == expected


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True))
def test_any_symbol_survives(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    names = [name for name in names if name.isprintable() or '"' in name or "\n" in name] or ['A"B,C\nD']
    records = np.zeros(len(names), barewire.BBO_DTYPE)
    records["kind"] = 2
    records["instrument_id"] = np.arange(len(names))
    symbols = barewire.Symbols(lambda first: list(enumerate(names))[first:])
    batch = Batch(records.view(barewire.RECORD_DTYPE), 0, symbols)
    folder = tmp_path_factory.mktemp("symbols")
    for ending in FORMATS:
        assert [row["symbol"] for row in read(write(folder, "bbo", ending, [batch]))] == names


def test_what_was_written_before_an_error_is_whole(tmp_path: Path) -> None:
    source = write_binaryfile(tmp_path / "20200130.bin", random_day(500))
    batches = list(barewire.replay(source, records="bbo"))
    for ending in FORMATS:
        path = tmp_path / f"out.{ending}"
        with pytest.raises(KeyboardInterrupt), open_writer(str(path), "bbo") as writer:
            writer.write(batches[0])
            raise KeyboardInterrupt
        assert len(read(path)) == len(batches[0])


def test_nothing_to_write_is_a_file_with_a_head(tmp_path: Path) -> None:
    assert [read(write(tmp_path, "mbo", ending, [])) for ending in FORMATS] == [[], [], []]
    assert (tmp_path / "out.csv").read_text() == ",".join(COLUMNS["mbo"]) + "\n"


def test_parquet_row_groups_bound_what_waits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barewire._output._ROW_GROUP", 700)
    source = write_binaryfile(tmp_path / "20200130.bin", random_day(4000))
    batches = list(barewire.replay(source, records="bbo", batch_records=300))
    file = pq.ParquetFile(write(tmp_path, "bbo", "parquet", batches))
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sum(sizes) == sum(map(len, batches))
    assert max(sizes) < 1000


@pytest.mark.parametrize("path", ["x.txt", "x", "x.csv.gz", ".csv"])
def test_an_ending_that_is_no_format_is_refused(path: str) -> None:
    with pytest.raises(barewire.ConfigError, match=r"expected a name that ends in \.csv, \.jsonl, \.parquet, or '-'"):
        open_writer(path, "bbo")


def test_units_are_in_the_parquet_file(tmp_path: Path) -> None:
    written = write(tmp_path, "bbo", "parquet", [])
    metadata = pq.read_schema(written).metadata
    assert metadata[b"price_unit"] == b"1e-9 of the currency"
    assert io.BytesIO(written.read_bytes()).read(4) == b"PAR1"
