"""What a host saw, from a recording: a Parquet file that `barewire run` or `replay` wrote, or a capture."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ._errors import FormatError
from ._skew import Sightings

__all__ = ["NOT_HEARD", "read_sightings"]

NOT_HEARD = 32 | 2
"""Flags of records that did not come by multicast: from a snapshot, or recovered. A server sent them, to one host."""

_MOST = 1 << 18
"""Messages kept of a recording, eight times what is compared: hours of fifty hosts fit into memory."""
_ODD = np.uint64(0x9E3779B97F4A7C15)

_MAGIC = b"PAR1"
_NEEDED = ("sequence", "ts_recv")
_COLUMNS = (*_NEEDED, "ts_event", "flags")

_Part = tuple[npt.NDArray[np.uint64], ...]


def read_sightings(path: str | os.PathLike[str], protocol: str) -> Sightings:
    """The messages of a recording and their receive times, one of each packet; what was recovered is left out.

    Of a long recording a part is kept, spread over all of it: of another host's the same messages, or some of them.

    `protocol` is what a capture speaks. Raises FormatError for a file without receive times, OSError.
    """
    with open(path, "rb") as file:
        is_parquet = file.read(4) == _MAGIC
    parts: list[_Part] = []
    halvings = 0
    for part in _of_parquet(path) if is_parquet else _of_capture(path, protocol):
        parts.append(_thinned(_firsts(part), halvings))
        while sum(one[0].size for one in parts) > _MOST:
            halvings += 1
            parts = [_thinned(one, halvings) for one in parts]
    empty = np.empty(0, np.uint64)
    sequence, ts_recv, ts_event = (np.concatenate([empty, *(part[at] for part in parts)]) for at in range(3))
    if not ts_recv.any():
        raise FormatError(f"{os.fspath(path)}: expected receive times, found none")
    return Sightings(sequence, ts_recv, ts_event if ts_event.any() else None)


def _firsts(part: _Part) -> _Part:
    """The first record of each packet, which stands for it."""
    sequence, ts_recv, ts_event, flags = part
    heard = (ts_recv > 0) & ((flags & np.uint64(NOT_HEARD)) == 0)
    sequence, ts_recv, ts_event = sequence[heard], ts_recv[heard], ts_event[heard]
    first = np.ones(ts_recv.size, bool)
    first[1:] = ts_recv[1:] != ts_recv[:-1]
    return sequence[first], ts_recv[first], ts_event[first]


def _thinned(part: _Part, halvings: int) -> _Part:
    """Those that a hash of their numbers chooses: half as many with each halving, none that were not before."""
    if not halvings:
        return part
    chosen = (part[0] * _ODD) >> np.uint64(64 - halvings) == 0
    return tuple(column[chosen] for column in part)


def _of_parquet(path: str | os.PathLike[str]) -> Iterator[_Part]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            missing = [name for name in _NEEDED if name not in there]
            if missing:
                expected = "columns sequence and ts_recv, as `barewire run --output` writes them"
                raise FormatError(f"{os.fspath(path)}: expected {expected}, found no {missing[0]}")
            for batch in file.iter_batches(columns=[name for name in _COLUMNS if name in there]):
                nothing = np.zeros(batch.num_rows, np.uint64)
                yield tuple(
                    batch.column(name).fill_null(0).cast(pa.uint64()).to_numpy(zero_copy_only=False)
                    if name in there
                    else nothing
                    for name in _COLUMNS
                )
    except pa.ArrowException as error:
        text = f"{os.fspath(path)}: expected a whole Parquet file: {str(error).splitlines()[0]}"
        raise FormatError(text) from None


def _of_capture(path: str | os.PathLike[str], protocol: str) -> Iterator[_Part]:
    from ._replay import replay

    for batch in replay(path, protocol=protocol):
        records = batch.records[batch.records["kind"] <= 2]
        yield tuple(records[name].astype(np.uint64) for name in _COLUMNS)
