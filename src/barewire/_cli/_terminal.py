"""What commands say and how: errors and warnings on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["count_text", "error", "note", "price_text", "print_json", "table_text", "warn"]


def error(text: str) -> None:
    """One line that says why the command failed."""
    print(f"barewire: error: {text}", file=sys.stderr)


def warn(text: str) -> None:
    """One line that the user should know of."""
    print(f"barewire: warning: {text}", file=sys.stderr)


def note(text: str) -> None:
    """Progress, for people: only where standard error is a terminal."""
    if sys.stderr.isatty():
        print(f"barewire: {text}", file=sys.stderr)


def print_json(value: Any) -> None:
    """One JSON object a line, at once."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def count_text(value: float) -> str:
    """A count with thousands separated."""
    return f"{value:,.0f}"


def price_text(price: int | None) -> str:
    """A price in 1e-9 as a decimal, with two places at least and as many as it needs; empty where there is none."""
    if price is None:
        return ""
    whole, part = divmod(abs(price), 10**9)
    places = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if price < 0 else ''}{whole}.{places}"


def table_text(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns aligned with spaces: the first to the left, the others to the right."""
    everything = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    lines = []
    for row in everything:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
