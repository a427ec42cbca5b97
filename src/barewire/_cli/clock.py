"""`barewire clock`: a site's clocks, planned, watched and compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._errors import ConfigError
from ._options import DurationOption, JsonOption, ProtocolOption
from ._terminal import count_text, note, print_json, table_text, warn

if TYPE_CHECKING:
    from .._ptp import Tree
    from .._skew import SkewReport

__all__ = ["app"]

app = typer.Typer(help="Clocks that agree: a site's plan, and how well they do.")


@app.command()
def plan(
    site: Annotated[str | None, typer.Argument(metavar="SITE", help="A site's TOML file.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write every machine's files below this folder."),
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the tree, as SVG.")] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a site to start from.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say who follows whom, and write linuxptp's configuration and the systemd units of every machine.

    Refuses a plan that cannot work, with a line for each reason.
    """
    from .. import _ptp

    if example:
        from .._ptp.example import EXAMPLE_SITE

        print(EXAMPLE_SITE, end="")
        return
    if site is None:
        raise ConfigError("expected the path of a site's TOML file, or --example", key="SITE")
    tree = _ptp.plan(_ptp.load_site(site))
    if svg is not None:
        from .._ptp import drawing

        svg.write_text(drawing.svg(tree))
    written = 0 if output is None else _write(tree, output)
    if as_json:
        print_json(_facts(tree))
        return
    from .._ptp import drawing

    print(drawing.text(tree))
    for remark in tree.remarks:
        print(f"note: {remark}")
    for machine in tree.machines:
        settings = _ptp.appliance_settings(machine, tree)
        if settings:
            print(f"set on {machine.name}: {settings}")
    if output is not None:
        print(f"{written} files in {output}, a folder a machine; {_ptp.INSTALL}")


@app.command()
def watch(
    socket: Annotated[str, typer.Option(help="ptp4l's management socket.")] = "/var/run/ptp4l",
    domain: Annotated[int, typer.Option(min=0, max=127, help="Its PTP domain.")] = 0,
    interval: Annotated[float, typer.Option(min=0.2, max=60.0, help="Seconds between two looks.")] = 1.0,
    duration: DurationOption = None,
    warn_ns: Annotated[int, typer.Option(min=1, help="Say so when the clock may be so far off.")] = 500,
    degraded_ns: Annotated[int, typer.Option(min=1, help="From here on it is degraded.")] = 1_000,
    lost_ns: Annotated[int, typer.Option(min=1, help="From here on it is lost.")] = 2_000,
    drift_ppb: Annotated[int, typer.Option(min=0, help="What its oscillator may be off by, left alone.")] = 100,
    trial: Annotated[bool, typer.Option("--trial", help="Clocks are compared and never set (site.trial).")] = False,
    card_only: Annotated[
        bool, typer.Option("--card-only", help="Leave the system clock out: on a grandmaster whose own NTP keeps.")
    ] = False,
    prometheus: Annotated[
        str | None, typer.Option(metavar="ADDRESS:PORT", help="Serve the verdict at http://ADDRESS:PORT/metrics.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how well this machine's clock does: synchronised, holdover, degraded or lost, and why.

    Ends with status 1 where --duration ran out and the clock was not synchronised.
    """
    import time

    from .._ptp.judge import State, Thresholds
    from .._ptp.machine import Machine
    from .._ptp.management import Pmc
    from .._ptp.watching import Exporter, as_dict, as_text, exposition, verdicts

    if not warn_ns <= degraded_ns <= lost_ns:
        given = f"--warn-ns {warn_ns} --degraded-ns {degraded_ns} --lost-ns {lost_ns}"
        raise ConfigError(f"{given}: expected each no less than the one before")
    if not Path(socket).exists():
        warn(f"{socket} is not there: expected ptp4l's management socket; is ptp4l running? --socket says where")
    exporter = None
    if prometheus is not None:
        with _naming("--prometheus", prometheus):
            exporter = Exporter(*_address("--prometheus", prometheus))
    pmc = Pmc(socket, domain)
    try:
        end = None if duration is None else time.monotonic() + duration
        said = ""
        thresholds = Thresholds(warn_ns, degraded_ns, lost_ns, drift_ppb, trial=trial)
        for verdict in verdicts(pmc, thresholds, interval, None if card_only else Machine()):
            if exporter is not None:
                if not exporter.text:
                    note(f"metrics at port {exporter.port}")
                exporter.text = exposition(verdict)
            text = as_text(verdict)
            if as_json:
                print_json({"at_ns": time.time_ns(), **as_dict(verdict)})
            elif text != said:
                print(text, flush=True)
                said = text
            if end is not None and time.monotonic() >= end:
                break
        if verdict.state is not State.SYNCHRONISED:
            raise typer.Exit(1)
    finally:
        pmc.close()
        if exporter is not None:
            exporter.close()


@app.command()
def skew(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOST=]FILE...", help="What each host saw: Parquet of `barewire run`, or a capture."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="ADDRESS:PORT", help="Live: gather what hosts tell with `clock tell`.")
    ] = None,
    window: Annotated[
        float, typer.Option(min=1.0, max=86_400.0, help="Live: compare the last so many seconds.")
    ] = 60.0,
    interval: Annotated[float, typer.Option(min=0.2, max=3_600.0, help="Live: seconds between two reports.")] = 10.0,
    duration: DurationOption = None,
    protocol: ProtocolOption = "itch-5.0",
    path_ns: Annotated[
        list[str] | None,
        typer.Option("--path-ns", metavar="HOST=NS", help="What the way to a host takes longer than to others."),
    ] = None,
    tolerance_ns: Annotated[float, typer.Option(min=0.0, help="So far from the median is well.")] = 1_000.0,
    as_json: JsonOption = False,
) -> None:
    """Compare hosts' clocks by packets that they all saw, and find the one that is wrong.

    Ends with status 1 where one is.
    """
    from .._sightings import read_sightings
    from .._skew import estimate

    paths = {host: _decimal(host, ns) for host, ns in (_named(one, "HOST=NS") for one in path_ns or ())}
    if (listen is None) == (not recordings):
        raise ConfigError("expected either recordings, [HOST=]FILE..., or --listen ADDRESS:PORT")
    if listen is not None:
        _skew_live(listen, window, interval, duration, paths, tolerance_ns, as_json)
        return
    given = recordings or []
    files = dict(
        _named(one, "HOST=FILE") if "=" in one and not Path(one).exists() else (Path(one).stem, one) for one in given
    )
    if len(files) < len(given):
        raise ConfigError("two recordings are of one host; expected HOST=FILE with each host once")
    seen = {host: read_sightings(file, protocol) for host, file in files.items()}
    report = estimate(seen, paths_ns=paths, tolerance_ns=tolerance_ns)
    _show_skew(report, as_json)
    if report.wrong:
        raise typer.Exit(1)


@app.command()
def tell(
    ring: Annotated[str, typer.Argument(metavar="RING", help="The ring of a running feed: ring.name in its file.")],
    to: Annotated[str, typer.Option(metavar="ADDRESS:PORT", help="Where `clock skew --listen` runs.")],
    host: Annotated[str | None, typer.Option(help="This host's name; left out: the machine's.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Tell of messages whose number is a multiple of this.")] = 100,
    duration: DurationOption = None,
) -> None:
    """Tell a collector when packets came, so that it can compare this host's clock with others'."""
    import platform
    import time

    from .._ring import Ring
    from .._sightings_live import NOTHING, Teller, sampled

    with _naming("--to", to):
        teller = Teller(*_address("--to", to), host or platform.node())
    try:
        end = None if duration is None else time.monotonic() + duration
        reader = Ring.attach(ring, kinds=["mbo", "bbo"])
        while end is None or time.monotonic() < end:
            batch = reader.read(timeout=0.2)
            if batch is None and reader.state not in ("alive", "stale"):
                break
            with _naming("--to", to):
                teller.tell(NOTHING if batch is None else sampled(batch, every))
    finally:
        teller.close()


def _skew_live(
    listen: str,
    window: float,
    interval: float,
    duration: float | None,
    paths: dict[str, float],
    tolerance_ns: float,
    as_json: bool,
) -> None:
    import time

    from .._sightings_live import Collector
    from .._skew import estimate

    with _naming("--listen", listen):
        collector = Collector(*_address("--listen", listen))
    end = None if duration is None else time.monotonic() + duration
    wrong = False
    told: set[str] = set()
    try:
        note(f"listening at port {collector.port}")
        while end is None or time.monotonic() < end:
            time.sleep(interval if end is None else max(0.0, min(interval, end - time.monotonic())))
            seen = dict(collector.seen(window))
            report = None
            left_out: list[tuple[str, str]] = []
            while report is None:
                known = {host: ns for host, ns in paths.items() if host in seen}
                try:
                    report = estimate(seen, paths_ns=known, tolerance_ns=tolerance_ns)
                except ConfigError as waiting:
                    # A host that has just come, or that hears nothing, does not keep the others from being compared.
                    if len(seen) <= 2 or not isinstance(waiting.value, str) or seen.pop(waiting.value, None) is None:
                        note(str(waiting))
                        break
                    left_out.append((waiting.value, str(waiting)))
            for host, why in left_out:
                if report is not None and host not in told:
                    warn(f"left out: {why}")
            told = {host for host, _ in left_out} if report is not None else told
            if report is None:
                continue
            _show_skew(report, as_json)
            wrong = bool(report.wrong)
    finally:
        collector.close()
    if wrong:
        raise typer.Exit(1)


def _show_skew(report: SkewReport, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(report))
        return
    rows = [
        (
            one.host,
            f"{one.offset_ns:+,.0f}",
            f"{one.confidence_ns:,.0f}",
            f"{one.drift_ppb:+.2f}",
            f"{one.worst_ns:+,.0f}",
            count_text(one.packets),
            "wrong" if one.is_wrong else "",
        )
        for one in sorted(report.hosts, key=lambda one: -abs(one.worst_ns))
    ]
    print(table_text(("host", "offset ns", "+/- ns", "drift ns/s", "furthest ns", "packets", ""), rows))
    print(
        f"{count_text(report.packets)} packets in {report.seconds:,.1f} s; against the median of all hosts", flush=True
    )


def _named(text: str, expected: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise ConfigError(f"{text!r}: expected {expected}", value=text, expected=expected)
    return name, value


def _decimal(host: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if math.isfinite(found):
        return found
    expected = "a number of nanoseconds"
    raise ConfigError(f"--path-ns {host}={text}: expected {expected}", value=text, expected=expected)


@contextmanager
def _naming(option: str, address: str) -> Iterator[None]:
    """Puts the option before what the system says of its address."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, f"{option} {address}: {error.strerror or error}") from None


def _address(option: str, text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    if address and port.isdecimal() and int(port) <= 65535:
        return address, int(port)
    expected = "ADDRESS:PORT, such as 127.0.0.1:9101"
    raise ConfigError(f"{option} {text!r}: expected {expected}", key=option, value=text, expected=expected)


def _write(tree: Tree, folder: Path) -> int:
    from .._ptp import linuxptp

    count = 0
    for machine, files in linuxptp.files(tree).items():
        (folder / machine).mkdir(parents=True, exist_ok=True)
        for name, contents in files.items():
            (folder / machine / name).write_text(contents)
            count += 1
    return count


def _facts(tree: Tree) -> dict[str, object]:
    machines = [
        {
            "name": machine.name,
            "role": machine.role,
            "rack": machine.rack,
            "follows": tree.follows[machine.name],
            "network": tree.through.get(machine.name),
            "steps_removed": tree.steps(machine.name),
            "priority1": machine.priority1,
            "priority2": machine.priority2,
            "timestamping": "software" if machine.stamps_in_software else "hardware",
        }
        for machine in tree.machines
    ]
    return {"site": tree.site.site.name, "machines": machines, "remarks": list(tree.remarks)}
