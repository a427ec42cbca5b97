"""Latency distributions as a picture: the share of messages that took longer, both axes logarithmic."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["require", "write"]


def require() -> None:
    """Raises ConfigError where pictures cannot be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError("--plot needs matplotlib: pip install 'barewire[plot]'") from None


def _figure(rows: Sequence[dict[str, Any]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        points = [(us, above) for above, us in row["ccdf"] if us > 0]
        mark = " (inconclusive)" if row["inconclusive"] else ""
        axes.plot([us for us, _ in points], [above for _, above in points], label=row["path"] + mark)
    axes.set(
        xscale="log", yscale="log", xlabel="microseconds from hand-over to strategy", ylabel="share that took longer"
    )
    axes.set_title("Latency by receive path, best run of each")
    axes.grid(which="both", alpha=0.25)
    axes.legend()
    return figure


def write(directory: Path, result: dict[str, Any], table: str) -> list[Path]:
    """Writes latency.png, and latency.html with the same picture and the table; it refers to nothing else."""
    directory.mkdir(parents=True, exist_ok=True)
    figure = _figure(result["results"])
    png, page = directory / "latency.png", directory / "latency.html"
    figure.savefig(png, dpi=150)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    page.write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>barewire bench latency</title>'
        "<style>body{font-family:sans-serif;margin:2em}pre{font-size:90%}svg{max-width:100%;height:auto}</style></head>"
        f"<body><h1>Latency by receive path</h1>{svg}<pre>{html.escape(table)}</pre></body></html>\n",
        encoding="utf-8",
    )
    return [png, page]
