"""Layouts as numpy sees them, derived at run time from the tables that the Rust structs are declared with.

A ring record is one 64-byte cache line: the ring's own sequence number (`ring_sequence`), then a 56-byte record of
one of four kinds. All integers are little-endian. Prices are in 1e-9 of the currency, times in ns since 1970, UTC.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._errors import ConfigError, ProtocolError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "BBO_DTYPE",
    "GAP_DTYPE",
    "GAP_REASONS",
    "KINDS",
    "MBO_DTYPE",
    "RECORD_BYTES",
    "RECORD_DTYPE",
    "STATUS_CODES",
    "STATUS_DTYPE",
    "TS_SOURCES",
    "UNDEF_PRICE",
    "UNDEF_SIZE",
    "Field",
    "fields",
    "message_dtypes",
    "message_fields",
    "number_of",
    "protocols",
    "record_struct",
    "u48",
]

RECORD_BYTES = 64
"""Size of a ring record in bytes: the ring's sequence word and a 56-byte record."""

UNDEF_PRICE = 2**63 - 1
"""A price field with this value holds no price: an empty side, a market order."""

UNDEF_SIZE = 2**32 - 1
"""A size field with this value stands for that or more."""

KINDS: Mapping[str, int] = MappingProxyType({"mbo": 1, "bbo": 2, "gap": 3, "status": 4})
"""The record kinds and the values of their `kind` byte."""


def number_of(kind: str) -> int:
    """The number of a record kind. Raises ConfigError for a name that none has."""
    number = KINDS.get(kind)
    if number is None:
        expected = ", ".join(KINDS)
        raise ConfigError(
            f"kind: expected one of {expected}, found {kind!r}", key="kind", value=kind, expected=expected
        )
    return number


GAP_REASONS: Mapping[int, str] = MappingProxyType({1: "sequence_jump", 2: "late_join", 3: "session_end", 4: "snapshot"})
"""Why messages are missing: what the `reason` of a gap record stands for."""

STATUS_CODES: Mapping[str, str] = MappingProxyType(
    {
        "H": "trading_state",
        "h": "operational_halt",
        "S": "system_event",
        "B": "trade_broken",
        "N": "session_start",
        "Z": "session_end",
        "D": "line_down",
        "U": "line_up",
        "R": "recovered",
        "K": "clock",
    }
)
"""What a status record tells: what its `code` stands for."""

TS_SOURCES: Mapping[int, str] = MappingProxyType({0: "none", 1: "nic", 2: "capture", 3: "kernel", 4: "user"})
"""By which clock a record's `ts_recv` was taken: what its `ts_source` stands for."""

_SEQUENCE_BYTES = 8
_COMMON_BYTES = 32  # of every record, alike in all kinds; a test in crates/types holds it


@dataclass(frozen=True, slots=True)
class Field:
    """One row of a field table.

    Attributes:
        name: as in the specification's table, in snake case.
        offset: bytes from the start of the message, or of the 64-byte ring record.
        len: length in bytes.
        kind: "uint_be", "uint_le", "int_le", "text" (ASCII, padded with spaces) or "bytes" (reserved).
        unit: unit of the value; empty where it has none.
        doc: what it means.
        codes: the values that an enumeration may have, and their meaning.
    """

    name: str
    offset: int
    len: int
    kind: str
    unit: str
    doc: str
    codes: Mapping[str, str]


def _field(row: Mapping[str, Any], shift: int = 0) -> Field:
    offset = row["offset"] + shift
    return Field(row["name"], offset, row["len"], row["kind"], row["unit"], row["doc"], row["codes"])


def _scalar(field: Field) -> str:
    if field.kind == "text":
        return f"S{field.len}"
    if field.kind == "bytes" or field.len not in (1, 2, 4, 8):
        return f"V{field.len}"
    order = ">" if field.kind.endswith("_be") else "<"
    return f"{order}{'i' if field.kind.startswith('int') else 'u'}{field.len}"


def _dtype(rows: Iterable[Field], itemsize: int) -> np.dtype[np.void]:
    """Reserved bytes get no name: they are padding of the dtype."""
    named = [row for row in rows if row.kind != "bytes"]
    return np.dtype(
        {
            "names": [row.name for row in named],
            "formats": [_scalar(row) for row in named],
            "offsets": [row.offset for row in named],
            "itemsize": itemsize,
        }
    )


@lru_cache(maxsize=1)
def _layouts() -> dict[str, tuple[Field, ...]]:
    head = Field("ring_sequence", 0, _SEQUENCE_BYTES, "uint_le", "", "Place in the ring, without holes.", {})
    return {
        kind: (head, *(_field(row, _SEQUENCE_BYTES) for row in rows)) for kind, rows in _core.record_layouts().items()
    }


def fields(kind: str) -> tuple[Field, ...]:
    """The field table of a record kind: "mbo", "bbo", "gap" or "status". Offsets are within the 64-byte ring record."""
    return _layouts()[kind]


MBO_DTYPE = _dtype(fields("mbo"), RECORD_BYTES)
"""One thing that happened to one order, or a trade (Databento's MBO). 64 bytes."""

BBO_DTYPE = _dtype(fields("bbo"), RECORD_BYTES)
"""The best bid and offer after a message that changed them (the quote of Databento's MBP-1). 64 bytes."""

GAP_DTYPE = _dtype(fields("gap"), RECORD_BYTES)
"""Messages that were lost before they reached the feed. 64 bytes."""

STATUS_DTYPE = _dtype(fields("status"), RECORD_BYTES)
"""Trading state, session and system events, broken trades. 64 bytes."""

_PAYLOAD = Field(
    "payload", _SEQUENCE_BYTES + _COMMON_BYTES, 24, "raw", "", "What the kind alone knows how to read.", {}
)
RECORD_DTYPE = _dtype((*(row for row in fields("mbo") if row.offset < _PAYLOAD.offset), _PAYLOAD), RECORD_BYTES)
"""What every kind has in common: the ring's and the venue's sequence numbers, times, instrument, `kind`, flags.

The rest is `payload`. It has a name so that numpy copies it: records may be concatenated, then viewed as their kind.
"""


def record_struct(kind: str) -> struct.Struct:
    """The 64-byte record as `struct` reads it, fields in order, reserved bytes skipped."""
    codes = {1: "B", 2: "H", 4: "I", 8: "Q"}
    parts = ["<"]
    for row in fields(kind):
        if row.kind == "bytes":
            parts.append(f"{row.len}x")
        elif row.kind == "text":
            parts.append(f"{row.len}s")
        else:
            parts.append(codes[row.len].lower() if row.kind.startswith("int") else codes[row.len])
    made = struct.Struct("".join(parts))
    assert made.size == RECORD_BYTES
    return made


# --- protocols -----------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _protocols() -> dict[str, dict[str, Any]]:
    return _core.protocols()


def protocols() -> tuple[str, ...]:
    """The names of the venues' protocols that feeds and replays speak; framings are not among them."""
    return tuple(name for name, entry in _protocols().items() if entry["messages"])


def _protocol(protocol: str) -> dict[str, Any]:
    try:
        return _protocols()[protocol]
    except KeyError:
        known = protocols()
        raise ProtocolError(
            f"unknown protocol {protocol!r}; expected one of: {', '.join(known)}", protocol=protocol, known=known
        ) from None


def message_fields(protocol: str) -> dict[str, tuple[Field, ...]]:
    """Field tables of a protocol's messages by type code, e.g. `message_fields("itch-5.0")["A"]`.

    Offsets count from the message type byte. Raises ProtocolError.
    """
    messages = _protocol(protocol)["messages"]
    return {code: tuple(_field(row) for row in message["fields"]) for code, message in messages.items()}


def message_dtypes(protocol: str) -> dict[str, np.dtype[np.void]]:
    """numpy dtypes of a protocol's messages by type code, big-endian as on the wire; e.g. for `np.frombuffer`.

    Six-byte integers (ITCH timestamps) become `V6`, which numpy cannot count with: `u48()` turns them into uint64.
    Raises ProtocolError.
    """
    lengths = {code: message["len"] for code, message in _protocol(protocol)["messages"].items()}
    return {code: _dtype(rows, lengths[code]) for code, rows in message_fields(protocol).items()}


def u48(field: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Big-endian six-byte integers, shape (n,) of `V6`, as uint64, shape (n,).

    >>> import numpy as np, barewire
    >>> barewire.u48(np.array([b"\\0\\0\\0\\0\\1\\0"], dtype="V6"))
    array([256], dtype=uint64)
    """
    if field.dtype.itemsize != 6:
        raise ValueError(f"expected items of 6 bytes, found {field.dtype}")
    wide = np.zeros((field.size, 8), np.uint8)
    wide[:, 2:] = np.ascontiguousarray(field).view(np.uint8).reshape(-1, 6)
    return wide.view(">u8").reshape(field.shape).astype(np.uint64)
