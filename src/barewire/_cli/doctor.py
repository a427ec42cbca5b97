"""`barewire doctor`: what this machine would give a feed, and what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .._errors import ConfigError
from ._options import JsonOption
from ._terminal import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from .._doctor import Report
    from .._doctor.finding import Finding

__all__ = ["doctor"]

_STYLES = {"ok": "green", "advice": "yellow", "problem": "bold red", "unknown": "dim"}


def doctor(
    interface: Annotated[
        list[str] | None, typer.Option("--interface", "-i", metavar="IF", help="May be repeated. Left out: every card.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", "-c", metavar="CONFIG", help="Whether this feed could run here, too.")
    ] = None,
    problems_only: Annotated[bool, typer.Option("--brief", help="Leave out what is as it should be.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what this machine would give a feed, what to change, and with which command.

    Changes nothing. Exits with status 1 where the configuration given with --config cannot run here.
    """
    from .._doctor import Machine, Wanted, diagnose

    machine = Machine()
    there = machine.names("/sys/class/net")
    for name in interface or ():
        if name not in there:
            expected = f"one of: {', '.join(there)}"
            raise ConfigError(
                f"--interface {name!r}: expected {expected}", key="--interface", value=name, expected=expected
            )
    wanted = Wanted()
    if config is not None:
        from .._config import load_config

        wanted = Wanted.of(load_config(config))
    report = diagnose(machine, wanted, interface or ())
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report, problems_only)
    if not report.is_possible:
        raise typer.Exit(1)


def _show(report: Report, is_brief: bool) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)  # commands stay whole, to be copied
    console.print(report.machine)
    console.print(f"feed core {report.core} ({report.core_why})")
    topics = dict.fromkeys(one.topic for one in report.findings)
    width = max((len(one.what) for one in report.findings), default=0)
    for topic in topics:
        shown = [one for one in report.findings if one.topic == topic and not (is_brief and one.matters == "ok")]
        if not shown:
            continue
        console.print()
        console.print(topic, style="bold")
        for one in shown:
            _show_finding(console, one, width)
    console.print()
    console.print("receive paths", style="bold")
    for path in report.paths:
        _line(console, "ok" if path.works else "no", "green" if path.works else "yellow", path.path.ljust(11), path.how)
        if path.mend:
            console.print(_mend(path.mend), style="cyan")
    console.print()
    console.print(
        f"{report.count('problem')} problems, {report.count('advice')} things to improve, {report.count('ok')} as they "
        f"should be, {report.count('unknown')} that could not be read"
    )


def _show_finding(console: Console, one: Finding, width: int) -> None:
    _line(console, one.matters, _STYLES[one.matters], one.what.ljust(width), one.found)
    if one.matters in ("advice", "problem"):
        console.print(f"{'':10}{'best:':<{width}}  {one.best}", style="dim")
    if one.mend and one.matters != "ok":
        console.print(_mend(one.mend), style="cyan")


def _mend(mend: str) -> str:
    """A command behind a prompt; what no command can do, as it stands."""
    return f"{'':10}{mend}" if mend.startswith("#") else f"{'':10}$ {mend}"


def _line(console: Console, word: str, style: str, what: str, found: str) -> None:
    from rich.text import Text

    console.print(Text.assemble((f"{word:<9}", style), " ", f"{what}  {found}"))
