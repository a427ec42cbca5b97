"""Records as Arrow columns: shared by `Batch.to_arrow()` and the files that `barewire` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ._records import UNDEF_PRICE, fields

if TYPE_CHECKING:
    import numpy.typing as npt

    from ._symbols import Symbols

__all__ = ["column", "symbol_column", "table"]

_LETTERS = pa.array(["", *map(chr, range(1, 256))], pa.string())


def column(records: npt.NDArray[np.void], name: str) -> pa.Array:
    """One field, copied out of its rows. Prices of an empty side become null, and the sizes beside them."""
    values = records[name]
    mask = None
    if name == "price" or name.endswith("_price"):
        mask = values == UNDEF_PRICE
    elif name in ("bid_size", "ask_size"):
        mask = records[name.replace("size", "price")] == UNDEF_PRICE
    elif name in ("ts_recv", "ts_event"):
        mask = values == 0
    if values.dtype == "S1":
        return _LETTERS.take(pa.array(np.ascontiguousarray(values).view(np.uint8)))
    if values.dtype.kind == "S":
        return pa.array(np.char.decode(values, "latin-1").tolist(), pa.string())
    return pa.array(np.ascontiguousarray(values), mask=mask if mask is not None and mask.any() else None)


def symbol_column(records: npt.NDArray[np.void], symbols: Symbols) -> pa.DictionaryArray:
    """The symbol of every record, dictionary-encoded."""
    positions = symbols.positions(records["instrument_id"])
    return pa.DictionaryArray.from_arrays(pa.array(positions.astype(np.int32)), pa.array(symbols.names, pa.string()))


def table(records: npt.NDArray[np.void], kind: str, symbols: Symbols) -> pa.Table:
    """Every field of one kind, and the symbol behind the instrument's number."""
    columns: dict[str, pa.Array] = {}
    for field in fields(kind):
        if field.kind != "bytes":
            columns[field.name] = column(records, field.name)
        if field.name == "instrument_id":
            columns["symbol"] = symbol_column(records, symbols)
    return pa.table(columns)
