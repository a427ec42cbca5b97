"""`barewire run`: a feed from a configuration file, watched, recorded, or handed to a strategy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from .._defaults import RECORD_KINDS
from .._errors import BarewireError, ConfigError
from ._native import NativeOption, load_native, state_as_dict, state_text
from ._onload import enter_onload
from ._options import DurationOption, JsonOption
from ._terminal import count_text, error, note, print_json, warn
from .replay import OutputFormatOption, OutputOption, RecordsOption, check_output

if TYPE_CHECKING:
    from .._batch import Batch
    from .._feed import Feed
    from .._strategy import Strategy
    from ._watch import Watch

__all__ = ["run"]


def _print_example(asked: bool) -> None:
    if asked:
        from .._example import EXAMPLE_CONFIG

        typer.echo(EXAMPLE_CONFIG, nl=False)
        raise typer.Exit


def run(
    context: typer.Context,
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file; see --example-config.")],
    strategy: Annotated[
        str | None, typer.Option("--strategy", "-s", metavar="WHERE", help="file.py:Class or package.module:Class.")
    ] = None,
    native: NativeOption = None,
    duration: DurationOption = None,
    output: OutputOption = None,
    output_format: OutputFormatOption = None,
    records: RecordsOption = "bbo",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two status lines.")] = 1.0,
    live: Annotated[bool, typer.Option("--live", help="A live table of books instead of status lines.")] = False,
    digest: Annotated[
        bool, typer.Option("--digest", help="Print two digests at the end: of the events in order, of the final books.")
    ] = False,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Say at the end where packets went: card, driver, kernel, socket, line, ring."),
    ] = False,
    onload: Annotated[bool, typer.Option("--onload", help="Run under OpenOnload, sockets in user space.")] = False,
    as_json: JsonOption = False,
    example_config: Annotated[  # noqa: ARG001 (its callback acts)
        bool,
        typer.Option(
            "--example-config", callback=_print_example, is_eager=True, help="Print a configuration and exit."
        ),
    ] = False,
) -> None:
    """Run a feed until the venue ends the session, --duration or Ctrl-C.

    Prints a status line a second; with --output it records the events as 'barewire replay' writes them.
    """
    from .._feed import Feed
    from .._layers import CountersBelow
    from ._watch import Watch, json_lines, live_view, plain_lines

    if live and as_json:
        raise ConfigError("--live and --json: choose one")
    if output == "-" and (live or as_json):
        raise ConfigError("--output - takes standard output for the events; leave out --live and --json")
    inside = None if native is None else load_native(native)
    feed = Feed.from_config(config, digest=digest or as_json, native=inside)
    if onload:
        enter_onload(context.obj, feed.config.receive.path)
    if output is not None:
        check_output(output, output_format, config)
        if records not in RECORD_KINDS or records not in feed.config.feed.records:
            expected = " or ".join(feed.config.feed.records)
            raise ConfigError(f"--records {records!r}: expected {expected}, which feed.records asks for")
    chosen = None if strategy is None else _load_strategy(strategy)
    quiet = output == "-"
    title = f"{feed.config.feed.name}, {feed.config.feed.protocol}"
    view = json_lines() if as_json else live_view(title) if live else plain_lines()
    with ExitStack() as stack:
        report = stack.enter_context(view)
        below = CountersBelow(line.interface for line in feed.config.lines if line.interface is not None)
        stack.enter_context(feed)
        if feed.config.receive.drop_capabilities:
            _drop_capabilities(files=output is not None or strategy is not None)
        if not as_json and not quiet:
            for line in feed.receive_report:
                note(line)
        # Opened only now: a feed that cannot start leaves an earlier recording as it was.
        each = _consumer(stack, feed, chosen, output, output_format, records)
        watch = Watch(feed, (lambda _: None) if quiet else report, interval, below)
        try:
            watch.run(each, duration)
        finally:
            try:
                feed.stop()
            finally:
                _conclude(watch, as_json, quiet, digest, layers)


def _drop_capabilities(*, files: bool) -> None:
    """The feed's thread holds none by now; nor does the rest of this process need any, but to reach anybody's files."""
    from .._core import drop_capabilities

    try:
        drop_capabilities(files)
    except OSError as problem:
        warn(f"capabilities are kept: {problem}")


def _conclude(watch: Watch, as_json: bool, quiet: bool, digest: bool, layers: bool) -> None:
    native = watch.feed.native
    if as_json:
        print_json(watch.final_report() | ({} if native is None else {"native": state_as_dict(native)}))
        return
    from ._summary import layers_text

    where = sys.stderr if quiet else sys.stdout
    print(f"end: {watch.status(final=True)}", file=where)
    if native is not None:
        print(state_text(native), file=where)
    if digest:
        with suppress(RuntimeError):  # of a thread that died there are none
            found = watch.digests()
            events = found["events"] or "unknown: records were read too late"
            print(f"events {events}\nbooks  {found['books']}", file=where)
    if layers:
        with suppress(RuntimeError):
            print(layers_text(watch.layers()), file=where)
    for line in watch.problems():
        warn(line)


def _consumer(
    stack: ExitStack, feed: Feed, strategy: Strategy | None, output: str | None, output_format: str | None, records: str
) -> Callable[[Batch], None]:
    """What is done with every batch: written, handed to the strategy, both or nothing."""
    consumers: list[Callable[[Batch], None]] = []
    if output is not None:
        from .._output import open_writer

        writer = stack.enter_context(open_writer(output, records, output_format))
        stack.callback(lambda: note(f"{count_text(writer.rows)} rows to {output}"))
        consumers.append(writer.write)
    if strategy is not None:
        from .._strategy import Dispatcher

        dispatcher = Dispatcher(strategy, feed.symbols, feed.config.feed.records)
        guarded = _Guarded(strategy)
        stack.callback(guarded.call, strategy.on_end)
        guarded.call(strategy.on_start, feed)
        consumers.append(lambda batch: guarded.call(dispatcher.batch, batch))

    def each(batch: Batch) -> None:
        for consume in consumers:
            consume(batch)

    return each


class StrategyError(BarewireError):
    """A strategy's own code raised."""


class _Guarded:
    """Calls a strategy's code. What it raises is its author's to mend, so the author is shown where."""

    def __init__(self, strategy: Strategy) -> None:
        self._name = type(strategy).__name__

    def call(self, method: Callable[..., None], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception as problem:
            import traceback

            traceback.print_exception(problem)
            raise StrategyError(f"strategy {self._name} raised {type(problem).__name__}: {problem}") from problem


def _load_strategy(where: str) -> Strategy:
    """An instance of the class at `file.py:Class` or `package.module:Class`. Raises ConfigError."""
    from .._strategy import Strategy
    from ._load import load_module

    module, name = load_module("--strategy", where, "Class")
    expected = "file.py:Class or package.module:Class"
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__
    }
    if not name and len(found) == 1:
        name = next(iter(found))
    if name not in found:
        there = ", ".join(found) or "none"
        raise ConfigError(f"--strategy {where!r}: expected {expected}; subclasses of barewire.Strategy there: {there}")
    try:
        return found[name]()
    except Exception as problem:
        error(f"strategy {name}: its constructor raised")
        raise StrategyError(f"strategy {name}() raised {type(problem).__name__}: {problem}") from problem
