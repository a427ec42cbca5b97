"""`barewire replay`: a file through the engine, to a summary or to another file."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._defaults import DEFAULT_PROTOCOL, RECORD_KINDS
from .._errors import ConfigError
from ._impair import (
    BurstLossOption,
    DelayJitterOption,
    DuplicateOption,
    ImpairOption,
    LineSkewOption,
    LossOption,
    ReorderOption,
    given_impairments,
)
from ._native import NativeOption, load_native, state_as_dict, state_text
from ._options import (
    FileArgument,
    FormatOption,
    JsonOption,
    ProtocolOption,
    SymbolsOption,
    refuse_terminal,
    symbol_list,
)
from ._terminal import count_text, note, print_json, table_text, warn

if TYPE_CHECKING:
    from .._replay import Replay
    from ._summary import Activity

__all__ = ["OutputFormatOption", "OutputOption", "RecordsOption", "check_output", "pace_of", "replay"]

OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="PATH", help="Write events to .csv, .jsonl or .parquet; '-' for standard output."
    ),
]
OutputFormatOption = Annotated[
    str | None,
    typer.Option("--output-format", help="csv, jsonl or parquet, where the name does not say; '-' means csv."),
]
RecordsOption = Annotated[
    str, typer.Option("--records", help="bbo: best bid and offer, at each change. mbo: order events and trades.")
]

_BUSIEST = 10


def replay(
    file: FileArgument,
    protocol: ProtocolOption = DEFAULT_PROTOCOL,
    date: Annotated[
        str | None,
        typer.Option(
            metavar="YYYY-MM-DD", help="The trading day; left out: from the packets' times or the file's name."
        ),
    ] = None,
    records: Annotated[
        str | None,
        typer.Option(
            "--records",
            help="bbo: best bid and offer, at each change. mbo: order events and trades. [default: bbo; --digest both]",
        ),
    ] = None,
    output: OutputOption = None,
    output_format: OutputFormatOption = None,
    symbols: SymbolsOption = None,
    native: NativeOption = None,
    pace: Annotated[str, typer.Option(help="max, original (as it happened), or how many times as fast: 10.")] = "max",
    stats: Annotated[bool, typer.Option("--stats", help="Also print every counter, and a row for each line.")] = False,
    digest: Annotated[
        bool, typer.Option("--digest", help="Print two digests instead: of the events in order, of the final books.")
    ] = False,
    as_json: JsonOption = False,
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="A progress bar, where standard error is a terminal.")
    ] = True,
    file_format: FormatOption = None,
    group: Annotated[str | None, typer.Option(help="Only packets to this multicast group of a capture.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Only packets to this UDP port of a capture.")
    ] = None,
    impair: ImpairOption = None,
    loss: LossOption = None,
    burst_loss: BurstLossOption = None,
    duplicate: DuplicateOption = None,
    reorder: ReorderOption = None,
    delay_jitter: DelayJitterOption = None,
    line_skew: LineSkewOption = None,
    recover: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERVER[:FAULT]",
            help="Simulated servers behind that network: rerequest, glimpse; glimpse:slow:50ms is a bad one.",
        ),
    ] = None,
    lines: Annotated[
        int | None, typer.Option(min=1, max=8, help="Send each packet on so many lines; left out: as captured.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the impairments: the same seed, the same losses.")] = 1,
    hold_us: Annotated[
        int | None,
        typer.Option(min=0, max=60_000_000, help="Microseconds to wait for a missing message. [default: 2000]"),
    ] = None,
    timestamps: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Receive times: capture, the file's own; a capture switch's in each frame: metamako, exablaze, "
            "arista-7280; auto.",
        ),
    ] = "capture",
) -> None:
    """Run a capture or an exchange file through the engine: books, best bid and offer, statistics.

    Columns of --output with --records bbo: sequence, ts_event, symbol, bid_price, bid_size, ask_price, ask_size; a row
    for each message that changed a best price or its size. With --records mbo: sequence, ts_event, symbol, action,
    side, order_id, price, size. Prices are integers in 1e-9, ts_event is in ns since 1970, UTC.

    The impairments are a network between the file and the engine; line A is the first destination that a capture shows.
    """
    refuse_terminal(file)
    if records is not None and records not in RECORD_KINDS:
        raise ConfigError(
            f"--records {records!r}: expected one of: {', '.join(RECORD_KINDS)}", key="records", value=records
        )
    if output is not None:
        check_output(output, output_format, file)
        if output == "-" and (as_json or stats or digest):
            raise ConfigError("--output - takes standard output for the events; leave out --json, --stats and --digest")

    kind = records or "bbo"
    from .. import _replay
    from .._output import open_writer
    from ._summary import Activity, lines_text

    inside = None if native is None else load_native(native)
    wanted = kind if inside is None or output is not None else sorted({kind, *inside.functions} & {*RECORD_KINDS})
    opened = _replay.replay(
        file,
        protocol=protocol,
        date=date,
        records=RECORD_KINDS if records is None and digest and output is None else wanted,
        symbols=symbol_list(symbols),
        pace=pace_of(pace),
        progress=progress,
        format=file_format,
        group=group,
        port=port,
        impair=given_impairments(impair, loss, burst_loss, duplicate, reorder, delay_jitter, line_skew),
        recover=recover,
        lines=lines,
        seed=seed,
        hold_us=hold_us,
        timestamps=timestamps,
        digest=digest or as_json,
        native=inside,
    )
    said = opened.warnings
    for line in said:
        warn(line)
    activity = Activity()
    rows: int | None = None
    begun = time.perf_counter()
    if output is None:
        for batch in opened:
            activity.add(batch)
    else:
        with open_writer(output, kind, output_format) as writer:
            try:
                for batch in opened:
                    writer.write(batch)
                    activity.add(batch)
            except KeyboardInterrupt:
                note(f"interrupted; the {count_text(writer.rows)} rows in {output} are whole")
                raise
        rows = writer.rows
    seconds = time.perf_counter() - begun
    for line in opened.warnings[len(said) :]:
        warn(line)
    if as_json:
        state = {} if inside is None else {"native": state_as_dict(inside)}
        print_json(_summary(opened, activity, seconds, output, rows) | state)
        return
    if digest:
        print(f"events {opened.events_digest()}\nbooks  {opened.digest()}")
    elif output is None:
        _print_summary(opened, activity, seconds)
    if inside is not None and output != "-":
        print(f"\n{state_text(inside)}")
    if output is not None:
        note(f"{count_text(rows or 0)} rows to {'standard output' if output == '-' else output} in {seconds:.1f} s")
    if stats:
        if by_line := opened.lines():
            print(f"\n{lines_text(by_line)}\n")
        print(table_text(("counter", "value"), ((name, str(value)) for name, value in opened.stats.as_dict().items())))


def pace_of(text: str) -> Any:
    """`--pace` as `barewire.replay` takes it: the word, or the number."""
    try:
        return float(text)
    except ValueError:
        return text


def check_output(output: str, output_format: str | None, source: str | None = None) -> None:
    """Refuses, before anything is read, an output that cannot be or that is the input. Raises ConfigError."""
    from .._output import OUTPUT_FORMATS
    from .._output import output_format as find_format

    if output_format is not None and output_format not in OUTPUT_FORMATS:
        raise ConfigError(f"--output-format {output_format!r}: expected one of: {', '.join(OUTPUT_FORMATS)}")
    if find_format(output, output_format) == "parquet" and output == "-" and sys.stdout.isatty():
        raise ConfigError("--output-format parquet: standard output is a terminal; redirect it to a file")
    if source is not None and os.path.exists(output) and os.path.exists(source) and os.path.samefile(output, source):
        raise ConfigError(f"--output {output}: that is the file to be read; choose another name")


def _rate(opened: Replay, seconds: float) -> float:
    return opened.stats.messages / seconds if seconds > 0 else 0.0


def _summary(
    opened: Replay, activity: Activity, seconds: float, output: str | None, rows: int | None
) -> dict[str, Any]:
    from ._summary import book_rows

    counters = opened.stats.as_dict()
    return {
        "file": opened.name,
        "format": opened.format,
        "date": opened.date.isoformat() if opened.date else None,
        "messages": counters["messages"],
        "seconds": seconds,
        "messages_per_s": _rate(opened, seconds),
        "records": opened.records,
        "output": output,
        "rows": rows,
        "books": book_rows(opened, activity, _BUSIEST),
        "digests": {"events": opened.events_digest(), "books": opened.digest()},
        "lines": [line.as_dict() for line in opened.lines()],
        "stats": counters,
        "warnings": opened.warnings,
    }


def _print_summary(opened: Replay, activity: Activity, seconds: float) -> None:
    from ._summary import book_rows, books_text, problems

    counters = opened.stats.as_dict()
    date = f", {opened.date}" if opened.date else ""
    rate, instruments, orders = (
        count_text(value) for value in (_rate(opened, seconds), counters["instruments"], counters["live_orders"])
    )
    print(f"{opened.name}: {opened.format}{date}")
    print(f"{count_text(counters['messages'])} messages in {seconds:.2f} s, {rate} a second;", end=" ")
    print(f"{instruments} instruments, {orders} orders left in the books")
    rows = book_rows(opened, activity, _BUSIEST)
    if rows:
        print(f"\nThe busiest books, at the end of the file:\n{books_text(rows)}")
    if wrong := problems(counters):
        print("\nNot well:\n" + "\n".join(f"  {line}" for line in wrong))
