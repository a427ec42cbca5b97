"""The tree as text, and as a picture (SVG)."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .site import Grandmaster
from .tree import Machine, Tree

__all__ = ["svg", "text"]


def text(tree: Tree) -> str:
    """A line a machine, each below the one that it has the time from, with the network between them."""
    heads = [machine for machine in tree.machines if tree.follows[machine.name] is None]
    return "\n".join(line for head in heads for line in _lines(tree, head, "", ""))


def _lines(tree: Tree, machine: Machine, here: str, below: str) -> Iterator[str]:
    network = tree.through.get(machine.name)
    way = f"  ({network})" if network else ""
    yield f"{here}{machine.name}  {_what(machine)}{way}"
    followers = tree.followers(machine.name)
    for number, follower in enumerate(followers, 1):
        last = number == len(followers)
        yield from _lines(tree, follower, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))


def _what(machine: Machine) -> str:
    if isinstance(machine.table, Grandmaster):
        part = "grandmaster" if machine.table.rank == 1 else f"standby {machine.table.rank - 1}"
        return f"{part}, {machine.table.source}, priorities {machine.priority1} {machine.priority2}"
    if machine.role == "boundary clock":
        return f"boundary clock, rack {machine.rack}, priorities {machine.priority1} {machine.priority2}"
    return "host, software stamps" if machine.stamps_in_software else "host"


# --- SVG -----------------------------------------------------------------------------------------

_BOX = (132, 34)
_GAP = (16, 52)
_COLUMN = 5
_COLOURS = {"grandmaster": "#ffe6b3", "boundary clock": "#cfe3ff", "host": "#e4f3e1"}


def svg(tree: Tree) -> str:
    """A picture: grandmasters above, boundary clocks below them, each rack's hosts below its boundary clock."""
    places: dict[str, tuple[int, int]] = {}
    width = _place(tree, places)
    height = max(y for _, y in places.values()) + _BOX[1] + _GAP[0]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{escape(tree.site.site.name)}: clocks</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for name, (x, y) in places.items():
        leader = tree.follows[name]
        if leader is None:
            continue
        from_x, from_y = places[leader]
        turn = from_y + _BOX[1] + _GAP[1] // 2
        path = f"M{from_x + _BOX[0] // 2},{from_y + _BOX[1]} V{turn} H{x - 6} V{y + _BOX[1] // 2} H{x}"
        parts.append(f'<path d="{path}" fill="none" stroke="#777"><title>{escape(tree.through[name])}</title></path>')
    for name, (x, y) in places.items():
        machine = tree[name]
        dash = ' stroke-dasharray="4 3"' if machine.stamps_in_software else ""
        parts.append(
            f"<g><title>{escape(_what(machine))}</title>"
            f'<rect x="{x}" y="{y}" width="{_BOX[0]}" height="{_BOX[1]}" rx="4" '
            f'fill="{_COLOURS[machine.role]}" stroke="#555"{dash}/>'
            f'<text x="{x + _BOX[0] // 2}" y="{y + 21}" text-anchor="middle">{escape(_shortened(name))}</text></g>'
        )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _shortened(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def _place(tree: Tree, places: dict[str, tuple[int, int]]) -> int:
    """Where each machine's box is; returns the picture's width. A rack's hosts are in one to four columns."""
    step_x, step_y = _BOX[0] + _GAP[0], _BOX[1] + _GAP[1]
    x = _GAP[0]
    for machine in tree.machines:
        if machine.role == "grandmaster":
            places[machine.name] = (x, _GAP[0])
            x += step_x
    widest, x = x, _GAP[0]
    for rack in tree.site.racks:
        top = _GAP[0] + step_y * max(1, tree.steps(rack.boundary_clock.name))
        places[rack.boundary_clock.name] = (x, top)
        for number, host in enumerate(rack.hosts):
            column, row = divmod(number, max(_COLUMN, -(-len(rack.hosts) // 4)))
            places[host.name] = (x + 12 + column * step_x, top + step_y + row * (_BOX[1] + 10))
        columns = -(-len(rack.hosts) // max(_COLUMN, -(-len(rack.hosts) // 4)))
        x += columns * step_x + 2 * _GAP[0]
    return max(widest, x)
