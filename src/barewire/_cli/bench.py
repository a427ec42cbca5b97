"""`barewire bench`: how fast this machine is. The comparison with other libraries is `make bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ._options import JsonOption, number
from ._terminal import count_text, note, print_json, table_text

__all__ = ["app"]

app = typer.Typer(help="Measure this machine: latency and rates by receive path, decoding, books, the ring.")

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


PathsOption = Annotated[str, typer.Option(help="Receive paths to compare, with commas.")]
PinOption = Annotated[
    str | None, typer.Option(metavar="SENDER,RECEIVER", help="Their cores; left out: the first two. More: less noise.")
]
PerPacketOption = Annotated[
    int, typer.Option(min=1, max=1000, help="Messages a packet; about 38 fit, and more are not sent in one.")
]
_ALL = "legacy,kernel,io_uring,packet_mmap,af_xdp"


@app.command()
def latency(
    paths: PathsOption = _ALL,
    rate: Annotated[str, typer.Option(help="Messages a second: 100k.")] = "100k",
    messages_per_packet: PerPacketOption = 10,
    duration: Annotated[float, typer.Option("--duration", "-d", min=0.05, help="Seconds a run.")] = 1.0,
    pin: PinOption = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each path, turn and turn about.")] = 5,
    plot: Annotated[Path | None, typer.Option(metavar="DIR", help="Write latency.png and latency.html here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """From a packet's hand-over to a strategy's first instruction, every message, by each receive path."""
    from . import _latency, _latency_plot

    if plot is not None:
        _latency_plot.require()
    per_second = number("--rate", rate, 1)
    scene = _latency.open_scene(paths, pin, messages_per_packet)
    rows = _latency.latencies(scene, per_second, duration, runs)
    result = {"results": rows, "runs_each": runs, "duration_s": duration, **_latency.facts(scene)}
    text = _latency_text(result)
    if plot is not None:
        for path in _latency_plot.write(plot, result, text):
            note(f"wrote {path}")
    print_json(result) if as_json else print(text)


@app.command()
def rate(
    paths: PathsOption = _ALL,
    rate: Annotated[str, typer.Option(help="Where to begin, messages a second.")] = "250k",
    most: Annotated[str, typer.Option(help="Where to end.")] = "20M",
    messages_per_packet: PerPacketOption = 30,
    duration: Annotated[float, typer.Option("--duration", "-d", min=0.05, help="Seconds a run.")] = 1.0,
    pin: PinOption = None,
    as_json: JsonOption = False,
) -> None:
    """The highest rate at which each receive path loses nothing, found by bisection."""
    from . import _latency

    start, end = number("--rate", rate, 1), number("--most", most, 1)
    scene = _latency.open_scene(paths, pin, messages_per_packet)
    rows = [_latency.loss_free_rate(scene, path, start, end, duration) for path in scene.paths]
    result = {"results": rows, "duration_s": duration, **_latency.facts(scene)}
    columns = {"loss-free msg/s": "rate_msgs_per_s", "msgs/packet": "messages_per_packet", "p50 us": "p50_us"}
    columns |= {"p99 us": "p99_us", "stolen %": "stolen_pct", "limit": "limited_by"}
    print_json(result) if as_json else print(_table(result, columns))


@app.command()
def burst(
    paths: PathsOption = _ALL,
    rate: Annotated[
        str, typer.Option(help="The sustained rate; a burst has ten times as many messages a second.")
    ] = "200k",
    messages_per_packet: PerPacketOption = 30,
    duration: Annotated[
        float, typer.Option("--duration", "-d", min=0.001, max=10.0, help="The longest burst to try, seconds.")
    ] = 1.0,
    pin: PinOption = None,
    as_json: JsonOption = False,
) -> None:
    """The longest burst, at ten times the sustained rate, of which each receive path loses nothing."""
    from . import _latency

    per_second = 10 * number("--rate", rate, 1)
    scene = _latency.open_scene(paths, pin, messages_per_packet)
    rows = [_latency.longest_burst(scene, path, per_second, duration) for path in scene.paths]
    result = {"results": rows, "longest_s": duration, **_latency.facts(scene)}
    columns = {"burst ms": "burst_ms", "msgs": "sent", "sent msg/s": "rate_msgs_per_s", "latest us": "max_us"}
    columns |= {"stolen %": "stolen_pct", "limit": "limited_by"}
    print_json(result) if as_json else print(_table(result, columns))


def _table(result: dict[str, Any], columns: dict[str, str]) -> str:
    rows = [(row["path"], *(_text(row[name]) for name in columns.values())) for row in result["results"]]
    return f"{table_text(('path', *columns), rows)}\n\n{_where(result)}"


def _latency_text(result: dict[str, Any]) -> str:
    columns = {"mean": "mean_us", "stddev": "stddev_us", "p50": "p50_us", "p99": "p99_us", "p99.9": "p999_us"}
    columns |= {
        "max": "max_us",
        "mean 99%": "trimmed_mean_us",
        "stddev 99%": "trimmed_stddev_us",
        "due p50": "due_p50_us",
    }
    columns |= {"msg/s": "rate_msgs_per_s", "samples": "samples", "lost": "lost", "stolen %": "stolen_pct"}
    rows = []
    for row in result["results"]:
        mark = " (?)" if row["inconclusive"] else ""
        of_legacy = row.get("of_legacy", {}).get("mean_us")
        ratio = f"{of_legacy:.3f}" if of_legacy else ""
        rows.append((f"{row['path']}, best{mark}", *(_text(row[name]) for name in columns.values()), ratio))
        rows.append(("  median", *(_text(row["median"][name]) for name in columns.values()), ""))
    table = table_text(("us", *columns, "of legacy"), rows)
    lost = ", ".join(f"{row['path']} {row['lost_all_runs']:,} of {row['sent_all_runs']:,}" for row in result["results"])
    return (
        f"{table}\n\n"
        "best: the run with the lowest p90 among those of which the host took at most 5%; (?): there was none.\n"
        "median: of all runs, each figure for itself. 99%: without the worst hundredth of the samples.\n"
        "due: from when the packet should have been handed over, so that a late sender counts.\n"
        f"lost in all runs: {lost}.\n"
        f"{result['runs_each']} runs of {result['duration_s']:g} s each; "
        f"{result['results'][0]['offered_msgs_per_s']:,.0f} messages a second offered.\n{_where(result)}"
    )


def _where(result: dict[str, Any]) -> str:
    machine, pin = result["machine"], result["pin"]
    virtual = ", virtual" if machine["virtual"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores{virtual}, Linux {machine['kernel']}; over {result['network']}; "
        f"up to {result['messages_per_packet']} messages a packet; sender on core {_core(pin['sender'])}, receiver on "
        f"{_core(pin['receiver'])}, legacy's strategy on {_core(pin['legacy_strategy'])}; {result['clock']}."
    )


def _core(core: int | None) -> str:
    return "any" if core is None else str(core)


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
