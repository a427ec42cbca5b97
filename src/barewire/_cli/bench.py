"""`barewire bench`: how fast this machine is. The comparison with other libraries is `make bench`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ._options import JsonOption, number
from ._terminal import count_text, print_json, table_text

__all__ = ["app"]

app = typer.Typer(help="Measure decoding, book building and the ring on this machine.")

SecondsOption = Annotated[float, typer.Option(min=0.1, help="How long each run takes.")]


@app.command()
def book(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A capture or BinaryFILE; left out: simulated order flow.")
    ] = None,
    seconds: SecondsOption = 1.0,
    messages: Annotated[str, typer.Option(help="Simulated messages: 5M.")] = "5M",
    instruments: Annotated[str, typer.Option(help="Simulated instruments.")] = "9000",
    live_orders: Annotated[str, typer.Option(help="Simulated live orders.")] = "500k",
    as_json: JsonOption = False,
) -> None:
    """Decode every field of every message, then build the books, on one core."""
    from .. import _core

    result = _core.bench_book(
        file,
        seconds=seconds,
        messages=number("--messages", messages, 1000),
        instruments=number("--instruments", instruments, 1),
        live_orders=number("--live-orders", live_orders, 1),
    )
    _show(result, as_json)


@app.command()
def ring(seconds: SecondsOption = 1.0, as_json: JsonOption = False) -> None:
    """Publish and read through the broadcast ring."""
    from .. import _core

    _show(_core.bench_ring(seconds=seconds), as_json)


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    rows = [(name, _text(value)) for name, value in result.items() if not isinstance(value, (list, dict))]
    print(table_text(("what", "measured"), rows))


def _text(value: object) -> str:
    if isinstance(value, float):
        return count_text(value) if value >= 1000 else f"{value:.3g}"
    return count_text(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
