"""Aligned records and rows as Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ._align_batch import LEG_FIELDS, PLACED_FIELDS, RELEASED_BY, ROW_FIELDS, UNKNOWN_NS, RowBatch
from ._arrow import column
from ._records import fields

if TYPE_CHECKING:
    import numpy.typing as npt

    from ._records import Field
    from ._symbols import Symbols

__all__ = ["records_table", "rows_table"]

_FLAGS = ("late", "within")


def _named(positions: npt.NDArray[np.integer], names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(positions.astype(np.int32)), pa.array(names, pa.string()))


def _column(records: npt.NDArray[np.void], field: Field) -> pa.Array:
    values = records[field.name]
    if field.name in _FLAGS:
        return pa.array(values != 0)
    if field.name == "released_by":
        return _named(values, [RELEASED_BY[code] for code in sorted(RELEASED_BY)])
    if field.name == "bound_ns":
        return pa.array(np.ascontiguousarray(values), mask=values == UNKNOWN_NS)
    return column(records, field.name)


def records_table(
    records: npt.NDArray[np.void], kind: str, inputs: Sequence[str], symbols: Sequence[Symbols]
) -> pa.Table:
    """Every field of one kind, the symbol behind the instrument's number, and the alignment's fields."""
    columns: dict[str, pa.Array] = {"input": _named(records["source"], inputs)}
    for field in (*fields(kind), *PLACED_FIELDS):
        if field.kind != "bytes":
            columns[field.name] = _column(records, field)
        if field.name == "instrument_id":
            positions, names = np.zeros(len(records), np.int64), list[str]()
            for source, directory in enumerate(symbols):
                chosen = records["source"] == source
                positions[chosen] = directory.positions(records["instrument_id"][chosen]) + len(names)
                names += directory.names
            # A name that two inputs have is one category.
            known = {name: at for at, name in enumerate(dict.fromkeys(names))}
            places = np.array([known[name] for name in names], np.int64)
            columns["symbol"] = _named(places[positions] if len(records) else positions, list(known))
    return pa.table(columns)


def rows_table(batch: RowBatch) -> pa.Table:
    """Every field of the rows, and of each leg."""
    columns: dict[str, pa.Array] = {}
    for field in ROW_FIELDS:
        if field.name == "leg":
            columns["leg"] = _named(batch.rows["leg"], batch.legs)
        elif field.kind != "bytes":
            columns[field.name] = _column(batch.rows, field)
    for leg in batch.legs:
        for field in LEG_FIELDS:
            if field.kind != "bytes":
                columns[f"{leg}.{field.name}"] = _column(batch[leg], field)
    return pa.table(columns)
