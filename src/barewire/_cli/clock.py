"""`barewire clock`: a site's clocks, planned and watched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._errors import ConfigError
from ._options import JsonOption
from ._terminal import print_json

if TYPE_CHECKING:
    from .._ptp import Tree

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
