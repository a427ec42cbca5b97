"""Batches: many events at once, as numpy sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ._events import Event, decode
from ._records import BBO_DTYPE, GAP_DTYPE, KINDS, MBO_DTYPE, STATUS_DTYPE, number_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas
    import polars
    import pyarrow

    from ._symbols import Symbols

__all__ = ["Batch"]

_DTYPES = {KINDS["mbo"]: MBO_DTYPE, KINDS["bbo"]: BBO_DTYPE, KINDS["gap"]: GAP_DTYPE, KINDS["status"]: STATUS_DTYPE}


class Batch:
    """Events in the order in which the feed published them.

    The arrays are views of the batch's own memory, without a copy, where the batch holds one kind of record only (a
    feed with `records = ["bbo"]`, mostly); else each is one vector selection. They stay valid, and never change, for
    as long as they are referred to.

        for batch in feed:
            spread = batch.bbo["ask_price"] - batch.bbo["bid_price"]    # int64, 1e-9 of the currency
            traded = batch.mbo["size"][batch.mbo["action"] == b"T"].sum()

    Attributes:
        records: every record, shape (n,), dtype `barewire.RECORD_DTYPE`: what all kinds have in common.
        lost: how many records this reader missed just before this batch because it fell behind by more than the ring
            holds.
        updates: of a conflating reader, how many records each row of `records` stands for, shape (n,), uint32; else
            `None`.
        stale: of a conflating reader, after a loss, the numbers of the instruments whose latest quote is older than the
            loss, and may have changed in it, shape (n,), uint32; empty without a loss, `None` for other readers.
    """

    __slots__ = ("_kind", "_symbols", "lost", "records", "stale", "updates")

    def __init__(
        self,
        records: npt.NDArray[np.void],
        lost: int,
        symbols: Symbols,
        *,
        updates: npt.NDArray[np.uint32] | None = None,
        stale: npt.NDArray[np.uint32] | None = None,
    ) -> None:
        self.records = records
        self.lost = lost
        self.updates = updates
        self.stale = stale
        self._symbols = symbols
        self._kind: int | None = -1  # the only kind there is; None: several; -1: not looked at yet

    def _of(self, kind: int) -> npt.NDArray[np.void]:
        kinds = self.records["kind"]
        if self._kind == -1:
            first = int(kinds[0]) if kinds.size else None
            self._kind = first if first is not None and bool((kinds == first).all()) else None
        if self._kind == kind:
            only: npt.NDArray[np.void] = self.records.view(_DTYPES[kind])
            return only
        if self._kind is not None:
            return np.empty(0, _DTYPES[kind])
        # Rows as plain bytes: numpy moves a void of 64 bytes in one go, a structured one field by field.
        selected: npt.NDArray[np.void] = self.records.view("V64")[kinds == kind].view(_DTYPES[kind])
        return selected

    @property
    def mbo(self) -> npt.NDArray[np.void]:
        """Order events and trades, shape (n,), dtype `barewire.MBO_DTYPE`."""
        return self._of(KINDS["mbo"])

    @property
    def bbo(self) -> npt.NDArray[np.void]:
        """Changes of the best bid and offer, shape (n,), dtype `barewire.BBO_DTYPE`."""
        return self._of(KINDS["bbo"])

    @property
    def gaps(self) -> npt.NDArray[np.void]:
        """Messages lost before the feed, shape (n,), dtype `barewire.GAP_DTYPE`."""
        return self._of(KINDS["gap"])

    @property
    def status(self) -> npt.NDArray[np.void]:
        """Trading states, system events, broken trades, shape (n,), dtype `barewire.STATUS_DTYPE`."""
        return self._of(KINDS["status"])

    @property
    def symbols(self) -> Symbols:
        """The directory, instrument number to symbol: the feed's own, which grows."""
        return self._symbols

    def symbol_of(self, instrument_id: int) -> str:
        """The symbol of an instrument number; `#` and the number where it was never announced."""
        return self._symbols.of(int(instrument_id))

    def events(self) -> Iterator[Event]:
        """Every record as an object, in order. Convenient, and about a hundred times slower than the arrays."""
        return decode(self.records.view(np.uint8).data, self._symbols)

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        lost = f", {self.lost} lost before it" if self.lost else ""
        return f"<Batch of {len(self)} records{lost}>"

    # --- to other libraries: imported when called ------------------------------------------------

    def to_arrow(self, kind: str | None = None) -> pyarrow.Table:
        """One kind of record as an Arrow table, a column a field, and `symbol`.

        Absent prices and times are null. `kind` is "mbo", "bbo", "gap" or "status", and may be left out where the batch
        holds one kind only. Arrow wants columns where a ring has rows: each column is copied once.

        Raises ValueError where `kind` is left out of a batch that holds several, ConfigError for another kind.
        """
        from ._arrow import table

        kind = self._only_kind() if kind is None else kind
        return table(self._of(number_of(kind)), kind, self._symbols)

    def to_polars(self, kind: str | None = None) -> polars.DataFrame:
        """One kind of record as a polars frame, sharing `to_arrow()`'s memory. Needs polars."""
        import polars

        frame = polars.from_arrow(self.to_arrow(kind))
        assert isinstance(frame, polars.DataFrame)
        return frame

    def to_pandas(self, kind: str | None = None) -> pandas.DataFrame:
        """One kind of record as a pandas frame with Arrow columns: no price passes through a float. Needs pandas."""
        import pandas

        return self.to_arrow(kind).to_pandas(types_mapper=pandas.ArrowDtype)

    def _only_kind(self) -> str:
        kinds = np.unique(self.records["kind"]).tolist()
        names = [name for name, value in KINDS.items() if value in kinds]
        if len(names) != 1:
            raise ValueError(f"which kind? This batch holds {' and '.join(names) or 'nothing'}; say kind=")
        return names[0]
