"""What a host saw, from a recording: a Parquet file that `barewire run` or `replay` wrote, or a capture."""

from __future__ import annotations

import os

import numpy as np

from ._errors import FormatError
from ._skew import Sightings

__all__ = ["read_sightings"]

_MAGIC = b"PAR1"


def read_sightings(path: str | os.PathLike[str], protocol: str) -> Sightings:
    """Sequence numbers and receive times of a recording's events.

    `protocol` is what a capture speaks. Raises FormatError for a file without receive times, OSError.
    """
    with open(path, "rb") as file:
        is_parquet = file.read(4) == _MAGIC
    sequence, ts_recv = _of_parquet(path) if is_parquet else _of_capture(path, protocol)
    if not ts_recv.any():
        raise FormatError(f"{os.fspath(path)}: expected receive times, found none in {sequence.size} events")
    return Sightings(sequence, ts_recv)


def _of_parquet(path: str | os.PathLike[str]) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["sequence", "ts_recv"])
        columns = [table[name].fill_null(0).cast(pa.uint64()) for name in ("sequence", "ts_recv")]
    except (pa.ArrowException, KeyError) as error:
        expected = "columns sequence and ts_recv, as `barewire run --output` writes them"
        raise FormatError(f"{os.fspath(path)}: expected {expected}: {str(error).splitlines()[0]}") from None
    return tuple(column.to_numpy() for column in columns)


def _of_capture(path: str | os.PathLike[str], protocol: str) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], ...]:
    from ._replay import replay

    numbers, times = [], []
    for batch in replay(path, protocol=protocol):
        records = batch.records[(batch.records["kind"] <= 2) & (batch.records["ts_recv"] > 0)]
        # The first record of a packet stands for it.
        first = np.ones(len(records), bool)
        first[1:] = records["ts_recv"][1:] != records["ts_recv"][:-1]
        numbers.append(records["sequence"][first])
        times.append(records["ts_recv"][first])
    empty = np.empty(0, np.uint64)
    return np.concatenate([empty, *numbers]), np.concatenate([empty, *times])
