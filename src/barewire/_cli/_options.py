"""Options that several commands have, and how their text is read."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .._errors import ConfigError

__all__ = [
    "DurationOption",
    "FileArgument",
    "FormatOption",
    "JsonOption",
    "ProtocolOption",
    "SymbolsOption",
    "number",
    "refuse_terminal",
    "symbol_list",
]

FileArgument = Annotated[
    str,
    typer.Argument(metavar="FILE", help="A pcap, pcapng or BinaryFILE, plain, gzip or zstd; '-' for standard input."),
]
ProtocolOption = Annotated[str, typer.Option("--protocol", "-p", help="The venue's protocol.")]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="pcap, pcapng or binaryfile; left out: found from the contents.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SymbolsOption = Annotated[
    list[str] | None, typer.Option("--symbols", help="Only these instruments: AAPL,MSFT. Left out: all.")
]
DurationOption = Annotated[
    float | None, typer.Option("--duration", "-d", min=0.0, help="Stop after this many seconds.")
]


def symbol_list(given: list[str] | None) -> list[str] | None:
    """Symbols from an option that may be repeated and may list several with commas."""
    found = [symbol.strip() for text in given or () for symbol in text.split(",") if symbol.strip()]
    return found or None


_FACTORS = {"k": 10**3, "m": 10**6, "g": 10**9}


def number(option: str, text: str, minimum: int = 0) -> int:
    """A count such as 200000, 200_000, 200k or 5M. Raises ConfigError."""
    factor = _FACTORS.get(text[-1:].lower(), 1)
    try:
        value = float((text[:-1] if factor > 1 else text).replace(",", "")) * factor
        found = int(value)
        if found >= minimum and found == value:
            return found
    except (ValueError, OverflowError):
        pass
    expected = f"a whole number from {minimum} on, such as 200000, 200k or 5M"
    raise ConfigError(f"{option} {text!r}: expected {expected}", key=option, value=text, expected=expected)


def refuse_terminal(file: str) -> None:
    """Standard input that is a keyboard is a forgotten file. Raises ConfigError."""
    if file == "-" and sys.stdin is not None and sys.stdin.isatty():
        raise ConfigError(
            "'-' reads standard input, which is a terminal; pipe a file in, e.g. zcat FILE.gz | barewire ... -"
        )
