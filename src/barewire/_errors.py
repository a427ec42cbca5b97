"""The exception tree.

    BarewireError
    ├── ConfigError (ValueError)          a configuration value or argument that cannot be
    ├── ProtocolError (ValueError)        a protocol that barewire does not know
    ├── FormatError (ValueError)          a file that is not what it should be
    ├── UnknownSymbolError (LookupError)  no such instrument in the feed's directory
    ├── FeedError                         a feed used before its start or after its end, or whose thread failed
    └── RingError                         a ring that cannot be read: another layout, another version
        └── ProducerGone                  the process that wrote the ring died or was restarted

What the operating system refuses keeps its own class (`FileNotFoundError`, `PermissionError`, `OSError`). Damaged
packets are never raised: they are data, counted in the statistics. Records that a slow reader missed are no error
either: every batch says how many (`Batch.lost`).

The compiled core raises these classes by calling them with a message and keyword attributes.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BarewireError",
    "ConfigError",
    "FeedError",
    "FormatError",
    "ProducerGone",
    "ProtocolError",
    "RingError",
    "UnknownSymbolError",
]


class BarewireError(Exception):
    """The root of every error that barewire raises of its own. `str()` is one line: found, expected, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class ConfigError(BarewireError, ValueError):
    """A configuration value or an argument that cannot be.

    Attributes:
        key: dotted name of the first wrong key, e.g. `lines[0].port`; empty for the whole file.
        value: what stood there; `None` where the key is missing.
        expected: what may stand there, in words.
        problems: one line for each thing that is wrong. `str()` joins them with line breaks.
    """

    def __init__(
        self, message: str, *, key: str = "", value: object = None, expected: str = "", problems: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.key = key
        self.value = value
        self.expected = expected
        self.problems = tuple(problems) or (message,)


class ProtocolError(BarewireError, ValueError):
    """A protocol that barewire does not know.

    Attributes:
        protocol: the name asked for.
        known: the names that there are.
    """

    def __init__(self, message: str, *, protocol: str = "", known: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.protocol = protocol
        self.known = tuple(known)


class FormatError(BarewireError, ValueError):
    """A file that is not what it should be.

    Attributes:
        offset: byte offset in the (decompressed) file where it was noticed; `None` where that has no meaning.
        expected: what should stand there, in words.
        found: what stands there, in words.
    """

    def __init__(self, message: str, *, offset: int | None = None, expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.offset = offset
        self.expected = expected
        self.found = found


class UnknownSymbolError(BarewireError, LookupError):
    """No such instrument in the directory.

    Attributes:
        symbol: the symbol asked for.
        matches: announced symbols that look like it, best first.
    """

    def __init__(self, message: str, *, symbol: str = "", matches: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.symbol = symbol
        self.matches = tuple(matches)


class FeedError(BarewireError):
    """A feed used before its start or after its end, or whose thread failed."""


class RingError(BarewireError):
    """A ring that cannot be read.

    Attributes:
        name: the ring's name.
        expected: what this version reads, in words.
        found: what the ring is, in words.
    """

    def __init__(self, message: str, *, name: str = "", expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.expected = expected
        self.found = found


class ProducerGone(RingError):
    """The process that wrote the ring died or was restarted: attach again.

    Attributes:
        state: "dead", "stale" (it is there, but gives no sign of life) or "restarted".
    """

    def __init__(self, message: str, *, name: str = "", state: str = "", expected: str = "", found: str = "") -> None:
        super().__init__(message, name=name, expected=expected, found=found)
        self.state = state
