"""What an alignment gives: records of several inputs in one order, and rows of several instruments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import _core
from ._records import BBO_DTYPE, GAP_DTYPE, KINDS, MBO_DTYPE, RECORD_BYTES, RECORD_DTYPE, STATUS_DTYPE, Field, number_of
from ._records import _dtype as dtype_of
from ._records import _field as field_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas
    import polars
    import pyarrow

    from ._symbols import Symbols

__all__ = [
    "ALIGNED_DTYPE",
    "LEG_DTYPE",
    "LEG_FIELDS",
    "PLACED_FIELDS",
    "RELEASED_BY",
    "ROW_FIELDS",
    "UNKNOWN_NS",
    "AlignedBatch",
    "RowBatch",
    "row_dtype",
]

RELEASED_BY: Mapping[int, str] = {0: "settled", 1: "hold", 2: "room"}
"""Why a record went out: what its `released_by` stands for."""

UNKNOWN_NS = 2**64 - 1
"""A `bound_ns` with this value is not known."""

_LAYOUTS = _core.align_layouts()


def _bytes(fields: Sequence[Field]) -> int:
    return fields[-1].offset + fields[-1].len


PLACED_FIELDS: tuple[Field, ...] = tuple(field_of(row, RECORD_BYTES) for row in _LAYOUTS["aligned"])
ROW_FIELDS: tuple[Field, ...] = tuple(field_of(row) for row in _LAYOUTS["row"])
LEG_FIELDS: tuple[Field, ...] = tuple(field_of(row) for row in _LAYOUTS["leg"])
_ALIGNED_BYTES = _bytes(PLACED_FIELDS)


def _with_place(base: np.dtype[np.void]) -> np.dtype[np.void]:
    """A record's dtype, and behind it what an alignment adds."""
    placed = dtype_of(PLACED_FIELDS, _ALIGNED_BYTES)
    parts = [(name, *dtype.fields[name][:2]) for dtype in (base, placed) if dtype.fields for name in dtype.names or ()]
    return np.dtype(
        {
            "names": [name for name, _, _ in parts],
            "formats": [kind for _, kind, _ in parts],
            "offsets": [offset for _, _, offset in parts],
            "itemsize": _ALIGNED_BYTES,
        }
    )


ALIGNED_DTYPE = _with_place(RECORD_DTYPE)
"""`RECORD_DTYPE`, and `ts_key`, `held_ns`, `source`, `late`, `released_by`. 88 bytes."""

LEG_DTYPE = dtype_of(LEG_FIELDS, _bytes(LEG_FIELDS))
"""One leg of a row: its latest quote, `ts_recv`, `ts_event`, `ts_source`, `age_ns`, `bound_ns`, `stale`."""

_DTYPES = {
    KINDS[name]: _with_place(base)
    for name, base in (("mbo", MBO_DTYPE), ("bbo", BBO_DTYPE), ("gap", GAP_DTYPE), ("status", STATUS_DTYPE))
}


def row_dtype(legs: int) -> np.dtype[np.void]:
    """A row of so many legs: `ts`, `skew_ns`, `bound_ns`, `held_ns`, `leg`, `late`, ..., and `legs`, shape (legs,)."""
    named = [field for field in ROW_FIELDS if field.kind != "bytes"]
    head = dtype_of(ROW_FIELDS, _bytes(ROW_FIELDS))
    assert head.fields is not None
    return np.dtype(
        {
            "names": [*(field.name for field in named), "legs"],
            "formats": [*(head.fields[field.name][0] for field in named), (LEG_DTYPE, (legs,))],
            "offsets": [*(field.offset for field in named), head.itemsize],
            "itemsize": head.itemsize + legs * LEG_DTYPE.itemsize,
        }
    )


class AlignedBatch:
    """Records of all inputs in one order.

        for batch in barewire.align({"nasdaq": one, "arca": other}):
            for name in batch.inputs:
                print(name, batch.of(name).mbo["price"])

    Attributes:
        records: every record, shape (n,), dtype `barewire.ALIGNED_DTYPE`: what all kinds have in common, and `source`
            (a place in `inputs`), `ts_key`, `late`, `held_ns`, `released_by` (`barewire.RELEASED_BY`).
        inputs: the inputs' names.
        lost: input to records of it that were lost just before this batch, because whoever reads fell behind. Empty
            where none were.
    """

    __slots__ = ("_symbols", "inputs", "lost", "records")

    def __init__(
        self,
        records: npt.NDArray[np.void],
        lost: Mapping[str, int],
        inputs: tuple[str, ...],
        symbols: Sequence[Symbols],
    ) -> None:
        self.records = records
        self.lost = lost
        self.inputs = inputs
        self._symbols = symbols

    def _of_kind(self, kind: int) -> npt.NDArray[np.void]:
        chosen = self.records["kind"] == kind
        if chosen.all():
            only: npt.NDArray[np.void] = self.records.view(_DTYPES[kind])
            return only
        # Rows as plain bytes: numpy moves a void in one go, a structured one field by field.
        selected: npt.NDArray[np.void] = self.records.view(f"V{_ALIGNED_BYTES}")[chosen].view(_DTYPES[kind])
        return selected

    @property
    def mbo(self) -> npt.NDArray[np.void]:
        """Order events and trades, shape (n,): the fields of `barewire.MBO_DTYPE` and those of the alignment."""
        return self._of_kind(KINDS["mbo"])

    @property
    def bbo(self) -> npt.NDArray[np.void]:
        """Changes of the best bid and offer, shape (n,): `barewire.BBO_DTYPE` and the alignment's fields."""
        return self._of_kind(KINDS["bbo"])

    @property
    def gaps(self) -> npt.NDArray[np.void]:
        """Messages lost before the feeds, shape (n,): `barewire.GAP_DTYPE` and the alignment's fields."""
        return self._of_kind(KINDS["gap"])

    @property
    def status(self) -> npt.NDArray[np.void]:
        """Trading states, system events, broken trades, shape (n,): `barewire.STATUS_DTYPE` and the alignment's."""
        return self._of_kind(KINDS["status"])

    def of(self, name: str) -> AlignedBatch:
        """The records of one input, in order. Raises KeyError for a name that no input has."""
        if name not in self.inputs:
            raise KeyError(name)
        source = self.inputs.index(name)
        chosen = self.records.view(f"V{_ALIGNED_BYTES}")[self.records["source"] == source].view(ALIGNED_DTYPE)
        return AlignedBatch(chosen, {k: v for k, v in self.lost.items() if k == name}, self.inputs, self._symbols)

    def symbol_of(self, source: int | str, instrument_id: int) -> str:
        """The symbol of an input's instrument number; `#` and the number where it was never announced."""
        at = self.inputs.index(source) if isinstance(source, str) else int(source)
        return self._symbols[at].of(int(instrument_id))

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        lost = "".join(f", {count} of {name} lost before it" for name, count in self.lost.items())
        return f"<AlignedBatch of {len(self)} records of {', '.join(self.inputs)}{lost}>"

    def to_arrow(self, kind: str) -> pyarrow.Table:
        """One kind of record ("mbo", "bbo", "gap", "status") as an Arrow table: a column a field, `symbol`, `input`.

        Absent prices and times are null. Each column is copied once. Raises ConfigError for another kind.
        """
        from ._align_arrow import records_table

        return records_table(self._of_kind(number_of(kind)), kind, self.inputs, self._symbols)

    def to_polars(self, kind: str) -> polars.DataFrame:
        """One kind of record as a polars frame, sharing `to_arrow()`'s memory. Needs polars."""
        import polars

        frame = polars.from_arrow(self.to_arrow(kind))
        assert isinstance(frame, polars.DataFrame)
        return frame

    def to_pandas(self, kind: str) -> pandas.DataFrame:
        """One kind of record as a pandas frame with Arrow columns: no price passes through a float. Needs pandas."""
        import pandas

        return self.to_arrow(kind).to_pandas(types_mapper=pandas.ArrowDtype)


class RowBatch:
    """Rows of several instruments' quotes side by side.

        mids = (batch.rows["legs"]["bid_price"] + batch.rows["legs"]["ask_price"]) // 2    # shape (n, legs), 1e-9
        batch["SPY"]["ask_size"]                                                           # shape (n,)

    Attributes:
        rows: shape (n,), dtype `row_dtype(len(legs))`: `ts`, `skew_ns`, `bound_ns`, `held_ns`, `leg` (a place in
            `legs`), `late`, `within`, `released_by`, `stale`, and `legs`, shape (n, len(legs)), of
            `barewire.LEG_DTYPE`.
        legs: the legs' names.
        lost: input to records of it that were lost just before these rows.
    """

    __slots__ = ("legs", "lost", "rows")

    def __init__(self, rows: npt.NDArray[np.void], legs: tuple[str, ...], lost: Mapping[str, int]) -> None:
        self.rows = rows
        self.legs = legs
        self.lost = lost

    def __getitem__(self, leg: str | int) -> npt.NDArray[np.void]:
        """One leg of every row, by its name or place: shape (n,), dtype `barewire.LEG_DTYPE`. A view."""
        if isinstance(leg, str) and leg not in self.legs:
            raise KeyError(f"{leg!r}: expected a leg: {', '.join(self.legs)}")
        at = self.legs.index(leg) if isinstance(leg, str) else leg
        one: npt.NDArray[np.void] = self.rows["legs"][:, at]
        return one

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<RowBatch of {len(self)} rows of {', '.join(self.legs)}>"

    def to_arrow(self) -> pyarrow.Table:
        """A column a field; those of a leg have its name and a dot before theirs, e.g. "nasdaq.AAPL.bid_price".

        Absent prices, times and bounds are null. Each column is copied once.
        """
        from ._align_arrow import rows_table

        return rows_table(self)

    def to_polars(self) -> polars.DataFrame:
        """The same as a polars frame, sharing `to_arrow()`'s memory. Needs polars."""
        import polars

        frame = polars.from_arrow(self.to_arrow())
        assert isinstance(frame, polars.DataFrame)
        return frame

    def to_pandas(self) -> pandas.DataFrame:
        """The same as a pandas frame with Arrow columns: no price passes through a float. Needs pandas."""
        import pandas

        return self.to_arrow().to_pandas(types_mapper=pandas.ArrowDtype)
