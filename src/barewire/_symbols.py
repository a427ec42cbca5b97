"""The directory: which symbol an instrument number stands for."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ._errors import UnknownSymbolError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Symbols"]


class Symbols(Mapping[int, str]):
    """Instrument numbers to symbols, as the venue announced them so far. It grows while the feed runs.

    An instrument that was never announced (the feed was joined late) is called `#` and its number by `of()` and in
    tables; `symbols[number]` raises KeyError for it.

    `read(n)` gives what was announced after the first n.
    """

    __slots__ = ("_by_id", "_by_symbol", "_ids", "_names", "_order", "_read", "_seen", "_strangers", "version")

    def __init__(self, read: Callable[[int], list[tuple[int, str]]]) -> None:
        self._read = read
        self._by_id: dict[int, str] = {}
        self._by_symbol: dict[str, int] = {}
        self._strangers: dict[int, str] = {}
        self._seen = 0
        self.version = 0
        """Changes whenever a name is added or becomes another: for caches of what was made of the names."""
        self._tabulate()

    def refresh(self) -> None:
        """Reads what was announced since."""
        rows = self._read(self._seen)
        if not rows:
            return
        for number, symbol in rows:
            self._by_id[number] = symbol
            self._by_symbol[symbol] = number
            self._strangers.pop(number, None)
        self._seen += len(rows)
        self._tabulate()

    def of(self, instrument_id: int) -> str:
        """The symbol, or `#` and the number where it was never announced."""
        found = self._by_id.get(instrument_id)
        if found is None:
            self.refresh()
            found = self._by_id.get(instrument_id)
        return f"#{instrument_id}" if found is None else found

    def id_of(self, symbol: str) -> int:
        """The instrument's number. Raises UnknownSymbolError, which lists symbols that look alike."""
        found = self._by_symbol.get(symbol)
        if found is None:
            self.refresh()
            found = self._by_symbol.get(symbol)
        if found is not None:
            return found
        if symbol.upper() in self._by_symbol:
            matches = [symbol.upper()]
        else:
            matches = difflib.get_close_matches(symbol.upper(), self._by_symbol, n=5, cutoff=0.5)
        if matches:
            hint = f"did you mean {' or '.join(matches)}?"
        elif self._by_symbol:
            hint = f"{len(self._by_symbol)} instruments are announced, none looks like it"
        else:
            hint = "no instrument has been announced yet"
        raise UnknownSymbolError(f"unknown symbol {symbol!r}: {hint}", symbol=symbol, matches=matches)

    def known(self) -> Mapping[str, int]:
        """Symbol to instrument number, as announced so far."""
        self.refresh()
        return MappingProxyType(self._by_symbol)

    def positions(self, instrument_ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
        """Where each instrument's name stands in `names`, shape as the argument's."""
        if not instrument_ids.size:
            return np.zeros(instrument_ids.shape, np.intp)
        if self._strangers:
            self.refresh()  # one of them may have been announced meanwhile
        at = self._locate(instrument_ids)
        missing = self._missing(instrument_ids, at)
        if missing.size:
            self.refresh()
            at = self._locate(instrument_ids)
            missing = self._missing(instrument_ids, at)
            if missing.size:
                self._strangers.update((number, f"#{number}") for number in np.unique(missing).tolist())
                self._tabulate()
                at = self._locate(instrument_ids)
        return self._order[at]

    @property
    def names(self) -> list[str]:
        """Every name that `positions` may point at."""
        return self._names

    def _locate(self, instrument_ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
        return np.minimum(np.searchsorted(self._ids, instrument_ids), max(len(self._ids) - 1, 0))

    def _missing(self, instrument_ids: npt.NDArray[np.uint32], at: npt.NDArray[np.intp]) -> npt.NDArray[np.uint32]:
        return instrument_ids[self._ids[at] != instrument_ids] if self._ids.size else instrument_ids

    def _tabulate(self) -> None:
        known = {**self._by_id, **self._strangers}
        ids = np.fromiter(known, np.uint32, len(known))
        self._names = list(known.values())
        self._order = np.argsort(ids)
        self._ids = ids[self._order]
        self.version += 1

    def __getitem__(self, instrument_id: int) -> str:
        if instrument_id not in self._by_id:
            self.refresh()
        return self._by_id[instrument_id]

    def __iter__(self) -> Iterator[int]:
        self.refresh()
        return iter(self._by_id)

    def __len__(self) -> int:
        self.refresh()
        return len(self._by_id)

    def __repr__(self) -> str:
        return f"<Symbols: {len(self)} instruments>"
