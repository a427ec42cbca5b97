"""`barewire`: the commands, and how every one of them fails.

A failure is one line on standard error, `barewire: error: ...`, and an exit status: 2 for how it was called or
configured, 1 for everything else, 130 for Ctrl-C (143 for SIGTERM), 141 when whoever read the output went away
(`| head`), as other tools have it.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from .._errors import BarewireError, ConfigError, ProtocolError
from . import bench, clock, demo, doctor, inspect, replay, run, sim, study
from ._terminal import error

__all__ = ["main", "run_command_line"]

app = typer.Typer(
    name="barewire",
    help="Market data from exchange multicast to order books and Python strategies.",
    epilog="Begin with 'barewire demo'; then 'barewire COMMAND --help'.",
    rich_markup_mode=None,  # plain help: rich would double the time that it takes to show
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        typer.echo(f"barewire {__version__}")
        raise typer.Exit


@app.callback()
def _barewire(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command(short_help="An exchange, a feed and a strategy on this machine.")(demo.demo)
app.command(short_help="A live feed from a configuration file.")(run.run)
app.command(short_help="A file through the engine: books, events, statistics.")(replay.replay)
app.command(short_help="Every message of a file, a line or a JSON object each.")(inspect.inspect)
app.command(short_help="A simulated exchange that publishes multicast.")(sim.sim)
app.command(short_help="What latency is worth to a strategy, before and after.")(study.study)
app.add_typer(bench.app, name="bench", short_help="How fast this machine is.")
app.add_typer(clock.app, name="clock", short_help="A site's clocks, planned, watched and compared.")
app.command(short_help="What this machine would give a feed, and what to change.")(doctor.doctor)


def run_command_line(arguments: Sequence[str]) -> int:
    """Runs one command. Returns the exit status; everything was said on standard error."""
    command = typer.main.get_command(app)
    try:
        given = list(arguments)
        status = command.main(given or ["--help"], prog_name="barewire", standalone_mode=False, obj=tuple(given))
        sys.stdout.flush()
    except SystemExit as left:
        # typer's answer to a closed pipe; a strategy may also leave this way.
        return 141 if isinstance(left.__context__, BrokenPipeError) else _status(left.code)
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        return 130
    except (TyperException, BarewireError, OSError) as problem:
        return _explain(problem)
    except BaseException as problem:  # the last resort: one line, and how to see more
        if not isinstance(problem, Exception) and type(problem).__name__ != "PanicException":  # of the compiled core
            raise
        if os.environ.get("BAREWIRE_TRACEBACK"):
            raise
        error(f"unexpected {type(problem).__name__}: {problem}; please report it with what BAREWIRE_TRACEBACK=1 adds")
        return 1
    return _status(status)


def _status(code: object) -> int:
    return code if isinstance(code, int) else 0 if code is None else 1


def _explain(problem: Exception) -> int:
    if isinstance(problem, ConfigError):
        for line in problem.problems:
            error(line)
        return 2
    if isinstance(problem, TyperException):
        context = getattr(problem, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context else ""
        error(_one_line(problem.format_message()).rstrip(".") + hint)
        return problem.exit_code
    if isinstance(problem, OSError):
        what = re.sub(r" \(os error \d+\)$", "", problem.strerror or str(problem))
        if problem.filename is not None:  # from Python itself: "No such file or directory"
            what = f"{problem.filename}: {what[:1].lower()}{what[1:]}"
        error(_one_line(what))
        return 1
    error(_one_line(str(problem)))
    return 2 if isinstance(problem, ProtocolError) else 1


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _end_as_by_ctrl_c(number: int, frame: object) -> NoReturn:  # noqa: ARG001 (the signature of a handler)
    global _ended_by
    _ended_by = number
    raise KeyboardInterrupt


_ended_by = 0


def main() -> NoReturn:
    """The entry point of the `barewire` command."""
    # A service is stopped with SIGTERM, a closed terminal sends SIGHUP: files and sessions end as well as by Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end_as_by_ctrl_c)
    status = run_command_line(sys.argv[1:])
    if status == 130 and _ended_by:
        status = 128 + _ended_by
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = 141
    if status == 141:
        # Python flushes standard output once more when it ends; there is nobody left to hear that this fails.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)
