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

_MOST_DENSE = 1 << 20  # numbers below this are looked up in a table, which is ten times faster than a search


class Symbols(Mapping[int, str]):
    """Instrument numbers to symbols, as the venue announced them so far. It grows while the feed runs.

    An instrument that was never announced (the feed was joined late) is called `#` and its number by `of()` and in
    tables; `symbols[number]` raises KeyError for it.

    `read(n)` gives what was announced after the first n.
    """

    __slots__ = (
        "_by_id",
        "_by_symbol",
        "_dense",
        "_ids",
        "_names",
        "_order",
        "_read",
        "_seen",
        "_strangers",
        "version",
    )

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
        if at.min() < 0:
            self.refresh()
            at = self._locate(instrument_ids)
            if at.min() < 0:
                strangers = np.unique(instrument_ids[at < 0]).tolist()
                self._strangers.update((number, f"#{number}") for number in strangers)
                self._tabulate()
                at = self._locate(instrument_ids)
        return at

    @property
    def names(self) -> list[str]:
        """Every name that `positions` may point at."""
        return self._names

    def _locate(self, instrument_ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
        """Places in `names`, -1 where there is none."""
        if self._dense is not None:
            found: npt.NDArray[np.intp] = self._dense[np.minimum(instrument_ids, len(self._dense) - 1)]
            return found
        at = np.minimum(np.searchsorted(self._ids, instrument_ids), len(self._ids) - 1)
        return np.where(self._ids[at] == instrument_ids, self._order[at], -1)

    def _tabulate(self) -> None:
        known = {**self._by_id, **self._strangers}
        ids = np.fromiter(known, np.uint32, len(known))
        self._names = list(known.values())
        self._order = np.argsort(ids)
        self._ids = ids[self._order]
        self._dense: npt.NDArray[np.intp] | None = None
        if not ids.size or int(self._ids[-1]) < _MOST_DENSE:
            # One place more than the highest number: for all that are higher still.
            self._dense = np.full(int(self._ids[-1]) + 2 if ids.size else 1, -1, np.intp)
            self._dense[ids] = np.arange(len(ids))
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
