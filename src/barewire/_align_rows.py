"""Pairs and baskets: the quotes of several instruments as one row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import _core
from ._align_batch import RowBatch, row_dtype
from ._errors import ConfigError

if TYPE_CHECKING:
    from ._align import Aligned

__all__ = ["LegGiven", "Rows"]

LegGiven = tuple[str, str | int]
"""An input's name and an instrument: its symbol, or its number."""

_ANY, _ALL = -1, -2


class Rows:
    """Rows of an alignment: iterate for batches of them, sync or async. Made by `Aligned.rows()`.

    Attributes:
        legs: the legs' names.
        dtype: of `RowBatch.rows`.
    """

    def __init__(
        self,
        aligned: Aligned,
        legs: Sequence[LegGiven] | Mapping[str, LegGiven],
        tolerance_ns: int | None,
        on: str | LegGiven,
    ) -> None:
        expected = "at least one (input, symbol), each once"
        if not isinstance(legs, (Mapping, Sequence)):
            raise _wrong("legs", legs, expected)
        # A pair as a list is what JSON makes of one.
        given = [(None, leg) for leg in legs] if not isinstance(legs, Mapping) else list(legs.items())
        pairs = [(name, tuple(leg) if isinstance(leg, list) else leg) for name, leg in given]
        named: dict[str, LegGiven] = {_name(leg) if name is None else name: leg for name, leg in pairs}
        if not named or len({repr(leg) for leg in named.values()}) < len(legs):
            raise _wrong("legs", legs, expected)
        self._legs: list[tuple[int, str | int]] = []
        for leg in named.values():
            if not _is_leg(leg) or leg[0] not in aligned.inputs:
                raise _wrong("legs", leg, f"(input, symbol) with one of the inputs: {', '.join(aligned.inputs)}")
            source = aligned.sources[aligned.inputs.index(leg[0])]
            if source.records is not None and "bbo" not in source.records:
                raise _wrong("legs", leg, f"an input whose records have 'bbo' among them, found {list(source.records)}")
            self._legs.append((aligned.inputs.index(leg[0]), leg[1]))
        self.legs = tuple(named)
        self.dtype = row_dtype(len(named))
        self._aligned = aligned
        self._core = _core.AlignedRows(
            [(source, symbol if isinstance(symbol, str) else None) for source, symbol in self._legs],
            self._number_of(on, named, tolerance_ns),
            tolerance_ns,
        )
        for number, (_, symbol) in enumerate(self._legs):
            if not isinstance(symbol, str):
                self._core.resolve(number, int(symbol))
        if not aligned.is_live:
            for at in range(len(aligned.inputs)):
                self._resolve(at)
            aligned.resolvers.append(self._resolve)

    def _number_of(self, on: str | LegGiven, named: Mapping[str, LegGiven], tolerance_ns: int | None) -> int:
        if on == "all":
            if tolerance_ns is None:
                raise _wrong("on", on, "a tolerance with it: how far apart the legs may be")
            return _ALL
        if on == "any":
            return _ANY
        for number, (name, leg) in enumerate(named.items()):
            if on in (name, leg):
                return number
        raise _wrong("on", on, f"'any', 'all' or a leg: {', '.join(named)}")

    def _resolve(self, source: int) -> None:
        """Looks for the numbers of symbols that were announced meanwhile. Rings do that by themselves."""
        for number in self._core.unresolved():
            of, symbol = self._legs[number]
            if of == source and isinstance(symbol, str):
                found = self._aligned.directories[source].known().get(symbol)
                if found is not None:
                    self._core.resolve(number, found)

    def __iter__(self) -> Iterator[RowBatch]:
        yield from self._aligned.all(self._read)
        self._check()

    async def __aiter__(self) -> AsyncIterator[RowBatch]:
        async for batch in self._aligned.all_async(self._read):
            yield batch
        self._check()

    def read(self, timeout: float | None = None) -> RowBatch | None:
        """The next rows; `None` at the end, or when there were none within `timeout` seconds."""
        return self._aligned.one(self._read, timeout)

    def _read(self, timeout_ns: int) -> RowBatch | None:
        found = self._aligned.fill(timeout_ns, self.dtype.itemsize, self._core)
        if found is None:
            return None
        return RowBatch(self._aligned.take(found[0], self.dtype), self.legs, found[1])

    def _check(self) -> None:
        """A misspelt symbol ought not to look like a quiet instrument."""
        if not self._aligned.is_through():
            return
        for number in self._core.unresolved():
            source, symbol = self._legs[number]
            if isinstance(symbol, str):
                self._aligned.directories[source].id_of(symbol)

    def __repr__(self) -> str:
        return f"<Rows of {', '.join(self.legs)}>"


def _is_leg(leg: object) -> bool:
    return (
        isinstance(leg, tuple)
        and len(leg) == 2
        and isinstance(leg[0], str)
        and (isinstance(leg[1], str) or (isinstance(leg[1], (int, np.integer)) and 0 <= int(leg[1]) < 2**32))
    )


def _name(leg: LegGiven) -> str:
    return f"{leg[0]}.{leg[1]}" if _is_leg(leg) else repr(leg)


def _wrong(key: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"rows: {key} {value!r}: expected {expected}", key=key, value=value, expected=expected)
