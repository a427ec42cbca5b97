"""`barewire bench`: how fast this machine is. The comparison with other libraries is `make bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ._options import JsonOption, number
from ._terminal import count_text, note, print_json, table_text

__all__ = ["app"]

app = typer.Typer(
    help="Measure this machine: latency and rates by receive path, decoding, books, the ring, handing over."
)

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


@app.command()
def handoff(
    duration: Annotated[float, typer.Option("--duration", "-d", min=0.1, help="Seconds for all of it, about.")] = 20.0,
    peers: Annotated[
        str | None, typer.Option(metavar="PYTHON", help="A Python that has iceoryx2, to be measured as well.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """From the feed's thread to a strategy: in the loop, in another thread or process, in Python; and others' ways."""
    from ._handoff import as_text, measure

    result = measure(duration, peers)
    print_json(result) if as_json else print(as_text(result))


PathsOption = Annotated[str, typer.Option(help="Receive paths to compare, with commas.")]
PinOption = Annotated[
    str | None, typer.Option(metavar="SENDER,RECEIVER", help="Their cores; left out: the first two. More: less noise.")
]
PerPacketOption = Annotated[
    int, typer.Option(min=1, max=1000, help="Messages a packet; about 38 fit, and more are not sent in one.")
]
SenderOption = Annotated[
    str, typer.Option(help="Who sends: a program in the kernel, or a UDP socket; auto: a program where one can.")
]
BufferOption = Annotated[
    int, typer.Option("--buffer", metavar="MIB", min=1, max=2048, help="Memory for packets that wait, of every path.")
]
_ALL = "legacy,legacy_tcp,kernel,io_uring,packet_mmap,af_xdp"


@app.command()
def latency(
    paths: PathsOption = _ALL,
    rate: Annotated[str, typer.Option(help="Messages a second: 100k.")] = "100k",
    messages_per_packet: PerPacketOption = 10,
    duration: Annotated[float, typer.Option("--duration", "-d", min=0.05, help="Seconds a run.")] = 1.0,
    pin: PinOption = None,
    sender: SenderOption = "auto",
    buffer: BufferOption = 32,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each path, turn and turn about.")] = 5,
    plot: Annotated[Path | None, typer.Option(metavar="DIR", help="Write latency.png and latency.html here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """From a packet's hand-over to a strategy's first instruction, every message, by each receive path."""
    from . import _latency, _latency_plot

    if plot is not None:
        _latency_plot.require()
    per_second = number("--rate", rate, 1)
    scene = _latency.open_scene(paths, pin, sender, buffer)
    rows = _latency.latencies(scene, per_second, duration, runs, messages_per_packet)
    result = {"results": rows, "runs_each": runs, "duration_s": duration, **_latency.facts(scene)}
    text = _latency_text(result)
    if plot is not None:
        for path in _latency_plot.write(plot, result, text):
            note(f"wrote {path}")
    print_json(result) if as_json else print(text)


@app.command()
def rate(
    paths: PathsOption = _ALL,
    rate: Annotated[str, typer.Option(help="Where to begin, messages a second.")] = "100k",
    most: Annotated[str, typer.Option(help="Where to end.")] = "40M",
    messages_per_packet: Annotated[str, typer.Option(help="Messages a packet; several with commas.")] = "1,10",
    duration: Annotated[float, typer.Option("--duration", "-d", min=0.05, help="Seconds a run.")] = 1.0,
    pin: PinOption = None,
    sender: SenderOption = "auto",
    buffer: BufferOption = 32,
    as_json: JsonOption = False,
) -> None:
    """The highest rate at which each receive path loses nothing, found by bisection."""
    from . import _latency, _rates

    start, end = number("--rate", rate, 1), number("--most", most, 1)
    sizes = [number("--messages-per-packet", text, 1) for text in messages_per_packet.split(",")]
    scene = _latency.open_scene(paths, pin, sender, buffer)
    rows = [_rates.loss_free_rate(scene, path, start, end, duration, size) for size in sizes for path in scene.paths]
    _rates.compare(rows, "rate_msgs_per_s")
    result = {"results": rows, "duration_s": duration, **_latency.facts(scene)}
    columns = {"msgs/packet": "messages_per_packet", "loss-free msg/s": "rate_msgs_per_s", "of legacy": "times_legacy"}
    columns |= {"p50 us": "p50_us", "p99 us": "p99_us", "sender": "sender", "stolen %": "stolen_pct"}
    columns |= {"limit": "limited_by"}
    print_json(result) if as_json else print(_table(result, columns))


@app.command()
def burst(
    paths: PathsOption = _ALL,
    rate: Annotated[
        str, typer.Option(help="The sustained rate; a burst has ten times as many messages a second.")
    ] = "1M",
    messages_per_packet: PerPacketOption = 10,
    duration: Annotated[
        float, typer.Option("--duration", "-d", min=0.001, max=10.0, help="The longest burst to try, seconds.")
    ] = 0.01,
    pin: PinOption = None,
    sender: SenderOption = "auto",
    buffer: BufferOption = 32,
    as_json: JsonOption = False,
) -> None:
    """The longest burst, at ten times the sustained rate, of which each receive path loses nothing."""
    from . import _latency, _rates

    per_second = 10 * number("--rate", rate, 1)
    scene = _latency.open_scene(paths, pin, sender, buffer)
    rows = [_rates.longest_burst(scene, path, per_second, duration, messages_per_packet) for path in scene.paths]
    result = {"results": rows, "longest_s": duration, **_latency.facts(scene)}
    columns = {"burst ms": "burst_ms", "msgs": "sent", "sent msg/s": "rate_msgs_per_s", "latest us": "max_us"}
    columns |= {"longest: lost": "lost_of_longest", "of": "sent_of_longest", "at msg/s": "rate_of_longest_msgs_per_s"}
    columns |= {"sender": "sender", "stolen %": "stolen_pct", "limit": "limited_by"}
    print_json(result) if as_json else print(_table(result, columns))


@app.command()
def sustain(
    paths: PathsOption = "af_xdp",
    rate: Annotated[str, typer.Option(help="Messages a second.")] = "5M",
    messages_per_packet: PerPacketOption = 10,
    duration: Annotated[float, typer.Option("--duration", "-d", min=0.1, help="Seconds.")] = 60.0,
    pin: PinOption = None,
    sender: SenderOption = "auto",
    buffer: BufferOption = 256,
    as_json: JsonOption = False,
) -> None:
    """One rate for long: decoded, booked, published, read by a strategy. Exits with 1 where a message is lost."""
    from . import _latency, _rates

    per_second = number("--rate", rate, 1)
    scene = _latency.open_scene(paths, pin, sender, buffer)
    rows = [_rates.sustained(scene, path, per_second, duration, messages_per_packet) for path in scene.paths]
    result = {"results": rows, **_latency.facts(scene)}
    columns = {"s": "seconds", "sent msg/s": "rate_msgs_per_s", "sent": "sent", "received": "received"}
    columns |= {"lost": "lost", "p50 us": "p50_us", "max us": "max_us", "latest us": "max_late_us"}
    columns |= {"sender": "sender", "stolen %": "stolen_pct", "not kept up": "limited_by"}
    print_json(result) if as_json else print(_table(result, columns))
    if any(row["limited_by"] != "nobody" for row in rows):
        raise typer.Exit(1)


@app.command()
def drain(
    paths: PathsOption = "legacy,kernel,io_uring,packet_mmap,af_xdp",
    packets: Annotated[int, typer.Option(min=100, max=100_000, help="Packets in a queue.")] = 4000,
    messages_per_packet: PerPacketOption = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each queue is filled.")] = 10,
    pin: PinOption = None,
    sender: SenderOption = "auto",
    buffer: BufferOption = 32,
    as_json: JsonOption = False,
) -> None:
    """How fast each receive path takes packets out of a queue that was filled while nobody looked."""
    from . import _latency, _rates

    scene = _latency.open_scene(paths, pin, sender, buffer)
    with_queue = [path for path in scene.paths if path != "legacy_tcp"]
    rows = _rates.drained(scene, with_queue, packets, messages_per_packet, rounds)
    result = {"results": rows, "packets": packets, "rounds": rounds, **_latency.facts(scene)}
    columns = {"packets/s": "packets_per_s", "median": "median_packets_per_s", "of legacy": "times_legacy"}
    columns |= {"sent": "sent", "lost": "lost"}
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
        f"{result['results'][0]['offered_msgs_per_s']:,.0f} messages a second offered, "
        f"{result['results'][0]['messages_per_packet']:.3g} a packet.\n{_where(result)}"
    )


def _where(result: dict[str, Any]) -> str:
    machine, pin = result["machine"], result["pin"]
    virtual = ", virtual" if machine["virtual"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores{virtual}, Linux {machine['kernel']}; over {result['network']}; "
        f"sent by {_SENDERS[result['sender']]}; {result['buffer_bytes'] >> 20} MiB for packets that wait; sender on "
        f"core {_core(pin['sender'])}, receiver on {_core(pin['receiver'])}, legacy's strategy on "
        f"{_core(pin['legacy_strategy'])}; {result['clock']}."
    )


_SENDERS = {"program": "a program in the kernel", "udp": "a UDP socket"}


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
