"""Events to files: CSV, JSON lines, Parquet. A row is written for each record of one kind; memory stays bounded.

Text is made a column at a time by Arrow and joined by Arrow, so that no row passes through Python. Prices are integers
in 1e-9 of the currency, times integers in ns since 1970, UTC; what is absent (a side of the book) is empty in CSV and
null elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ._arrow import column, symbol_column
from ._errors import ConfigError

if TYPE_CHECKING:
    from typing import Self

    import numpy.typing as npt

    from ._batch import Batch
    from ._symbols import Symbols

__all__ = ["COLUMNS", "OUTPUT_FORMATS", "Writer", "open_writer", "output_format"]

COLUMNS = {
    "bbo": ("sequence", "ts_event", "symbol", "bid_price", "bid_size", "ask_price", "ask_size"),
    "mbo": ("sequence", "ts_event", "symbol", "action", "side", "order_id", "price", "size"),
}
"""The columns of each kind. `sequence` is the venue's; in a file without numbers the message's place, from 1."""

PARQUET_COLUMNS = {kind: (*names, "ts_recv", "flags") for kind, names in COLUMNS.items()}
"""A Parquet file has these beside them: `clock skew` compares hosts by when their packets came."""

OUTPUT_FORMATS = ("csv", "jsonl", "parquet")

_TEXT = ("symbol", "action", "side")
_ROW_GROUP = 1 << 18  # rows; a Parquet file is held in memory for that long


def output_format(path: str, chosen: str | None = None) -> str:
    """The format that was chosen, or that a path's ending names; CSV on standard output. Raises ConfigError."""
    found = chosen or ("csv" if path == "-" else os.path.splitext(path)[1].removeprefix(".").lower())
    if found not in OUTPUT_FORMATS:
        endings = ", ".join(f".{name}" for name in OUTPUT_FORMATS)
        raise ConfigError(
            f"output {path!r}: expected a name that ends in {endings}, or '-' for standard output",
            key="output",
            value=path,
            expected=f"a name that ends in {endings}",
        )
    return found


def open_writer(path: str, kind: str, chosen_format: str | None = None) -> Writer:
    """Creates (or empties) a file and writes its head. `path` may be `-`; `kind` is "bbo" or "mbo".

    Raises ConfigError for an ending that is no format, OSError.
    """
    made = {"csv": CsvWriter, "jsonl": JsonWriter, "parquet": ParquetWriter}[output_format(path, chosen_format)]
    return made(sys.stdout.buffer if path == "-" else open(path, "wb"), kind)


class Writer:
    """One output file. Use it in a `with`, so that what was written is whole whatever happens.

    Attributes:
        rows: how many rows were written so far.
    """

    def __init__(self, file: BinaryIO, kind: str) -> None:
        self.kind = kind
        self.rows = 0
        self._file = file

    def write(self, batch: Batch) -> None:
        """Appends the batch's records of this writer's kind."""
        records = batch.mbo if self.kind == "mbo" else batch.bbo
        if len(records):
            self._append(records, batch.symbols)
            self.rows += len(records)

    def close(self) -> None:
        """Finishes the file. What was written stays, also after an error."""
        if self._file is sys.stdout.buffer:
            self._file.flush()
        else:
            self._file.close()

    def _append(self, records: npt.NDArray[np.void], symbols: Symbols) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _TextWriter(Writer):
    """Rows of text: each a fixed frame with the fields in between."""

    null = ""

    def __init__(self, file: BinaryIO, kind: str) -> None:
        super().__init__(file, kind)
        self._frame = [pa.scalar(text) for text in self._frame_of(COLUMNS[kind])]
        self._symbols: pa.Array = pa.array([], pa.string())
        self._version = -1

    def _frame_of(self, names: tuple[str, ...]) -> list[str]:
        """What stands before each field, and after the last."""
        raise NotImplementedError

    def _quote(self, symbol: str) -> str:
        raise NotImplementedError

    def _append(self, records: npt.NDArray[np.void], symbols: Symbols) -> None:
        pieces = []
        for before, name in zip(self._frame, COLUMNS[self.kind], strict=False):
            pieces += [before, self._text(records, name, symbols)]
        rows = pc.binary_join_element_wise(
            *pieces, self._frame[-1], pa.scalar(""), null_handling="replace", null_replacement=self.null
        )
        # The strings of an Arrow array lie one behind the other in one buffer: that buffer is the text.
        first, last = np.frombuffer(rows.buffers()[1], np.int32)[[0, len(rows)]].tolist()
        self._file.write(memoryview(rows.buffers()[2])[first:last])

    def _text(self, records: npt.NDArray[np.void], name: str, symbols: Symbols) -> pa.Array:
        if name == "symbol":
            positions = symbols.positions(records["instrument_id"])
            if self._version != symbols.version:
                self._version = symbols.version
                self._symbols = pa.array([self._quote(symbol) for symbol in symbols.names], pa.string())
            return self._symbols.take(pa.array(positions))
        found = column(records, name)
        return found if name in _TEXT else found.cast(pa.string())


class CsvWriter(_TextWriter):
    """Comma-separated values as RFC 4180 has them, but with lines that end in a bare line feed."""

    def __init__(self, file: BinaryIO, kind: str) -> None:
        super().__init__(file, kind)
        file.write((",".join(COLUMNS[kind]) + "\n").encode())

    def _frame_of(self, names: tuple[str, ...]) -> list[str]:
        return ["", *("," for _ in names[1:]), "\n"]

    def _quote(self, symbol: str) -> str:
        line = io.StringIO()
        # With a field before it, or an empty one would be quoted; with this end of line, or a line feed would not be.
        csv.writer(line, lineterminator="\r\n").writerow(["", symbol])
        return line.getvalue()[1:-2]


class JsonWriter(_TextWriter):
    """One JSON object a line."""

    null = "null"

    def _frame_of(self, names: tuple[str, ...]) -> list[str]:
        # Symbols come with their quotes; the other text fields are single letters, which need no escape.
        starts, after = [], "{"
        for name in names:
            quote = '"' if name in _TEXT and name != "symbol" else ""
            starts.append(f'{after}"{name}": {quote}')
            after = f"{quote}, "
        return [*starts, after.removesuffix(", ") + "}\n"]

    def _quote(self, symbol: str) -> str:
        return json.dumps(symbol)


class ParquetWriter(Writer):
    """Apache Parquet with zstd, symbols dictionary-encoded; a row group each 262,144 rows."""

    def __init__(self, file: BinaryIO, kind: str) -> None:
        super().__init__(file, kind)
        self._schema = pa.schema([pa.field(name, _ARROW_TYPES[name]) for name in PARQUET_COLUMNS[kind]])
        units = {"price_unit": "1e-9 of the currency", "time_unit": "ns since 1970, UTC"}
        self._schema = self._schema.with_metadata(units)
        self._parquet = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0

    def _append(self, records: npt.NDArray[np.void], symbols: Symbols) -> None:
        columns = []
        for name in PARQUET_COLUMNS[self.kind]:
            made = symbol_column(records, symbols).cast(pa.string()) if name == "symbol" else column(records, name)
            columns.append(made)
        self._waiting.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._waiting_rows += len(records)
        if self._waiting_rows >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._waiting, self._waiting_rows = [], 0
            self._parquet.write_table(table, row_group_size=_ROW_GROUP * 2)

    def close(self) -> None:
        """Writes what waits and the footer, without which a Parquet file cannot be read."""
        try:
            self._flush()
            self._parquet.close()
        finally:
            super().close()


_ARROW_TYPES = {
    "sequence": pa.uint64(),
    "ts_event": pa.uint64(),
    "symbol": pa.string(),
    "action": pa.string(),
    "side": pa.string(),
    "order_id": pa.uint64(),
    "price": pa.int64(),
    "size": pa.uint32(),
    "bid_price": pa.int64(),
    "bid_size": pa.uint32(),
    "ask_price": pa.int64(),
    "ask_size": pa.uint32(),
    "ts_recv": pa.uint64(),
    "flags": pa.uint8(),
}
