"""What keeps a given configuration from running here. Each is a problem; the command exits with status 1 for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from .capabilities import grant, missing
from .card import xdp_mode
from .finding import Check, Finding, Found, PathVerdict, advice, fine, problem, run_checks
from .machine import cores_text
from .scene import Card, Line, Scene, cards, likely, multicast_interface

__all__ = ["findings"]


def findings(scene: Scene, paths: tuple[PathVerdict, ...]) -> Iterator[Finding]:
    """Nothing where no configuration was given."""
    if not scene.wanted.is_given:
        return
    for line in scene.wanted.lines:
        key = f"line_{line.name}"
        check = Check(
            key,
            f"line {line.name}, {line.group}:{line.port}",
            "an interface that is up, a port that may be opened",
            partial(_line, line),
        )
        yield from run_checks("configuration", (check,), scene)
    verdict = next((one for one in paths if one.path == scene.wanted.path), None)
    if scene.wanted.path == "af_xdp":
        for card in cards(scene):
            yield from run_checks("configuration", _AF_XDP_CHECKS, card)
    yield from run_checks(
        "configuration",
        (*_CHECKS, Check("path", "receive.path", "one that works here", lambda _: _path(verdict))),
        scene,
    )


def _line(line: Line, scene: Scene) -> Found | None:
    start = 1024
    start_text = scene.machine.text("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if start_text.isdigit():
        start = int(start_text)
    if line.port < start and missing(scene.machine, ["cap_net_bind_service"]):
        mend = f"sudo sysctl -w net.ipv4.ip_unprivileged_port_start={line.port}"
        return problem(f"port {line.port} is below {start} and CAP_NET_BIND_SERVICE is not held", mend)
    name = line.interface or multicast_interface(scene.machine)
    if name is None:
        card = next(likely(scene.machine), "eth0")
        return problem(
            "it names no interface, and the kernel has no route for multicast",
            f"sudo ip route add 224.0.0.0/4 dev {card}   # or name the line's interface",
        )
    if name not in scene.machine.names("/sys/class/net"):
        there = ", ".join(scene.machine.names("/sys/class/net")) or "none"
        return problem(f"no interface {name}; there are {there}", f"# configure interface = one of {there}")
    flags = int(scene.machine.read(f"/sys/class/net/{name}/flags"), 16)
    if not flags & 1:
        return problem(f"{name} is down", f"sudo ip link set dev {name} up")
    return fine(f"{name} is up" + ("" if line.interface else ", the kernel's choice"))


def _core(scene: Scene) -> Found | None:
    core, online = scene.wanted.core, scene.machine.online()
    if core is None:
        text = "none: the feed's thread is moved about"
        return advice(text, f"# configure receive.core = {scene.core}") if scene.wanted.is_busy else fine("none")
    if core in online:
        return fine(f"{core}")
    if core in scene.machine.cores("/sys/devices/system/cpu/present"):
        return problem(f"core {core} is switched off", f"echo 1 | sudo tee /sys/devices/system/cpu/cpu{core}/online")
    return problem(
        f"there is no core {core}; there are {cores_text(online)}", f"# configure receive.core = {max(online)}"
    )


def _busy_poll(scene: Scene) -> Found | None:
    wanted = scene.wanted.busy_poll_us
    if not wanted:
        return None
    default = scene.machine.number("/proc/sys/net/core/busy_read")
    if wanted <= default or not missing(scene.machine, ["cap_net_admin"]):
        return fine(f"{wanted} us")
    return problem(
        f"{wanted} us, more than net.core.busy_read = {default}, and CAP_NET_ADMIN is not held",
        grant(scene, ["cap_net_admin"]),
    )


def _ring(scene: Scene) -> Found | None:
    wanted, name = scene.wanted.ring_bytes, scene.wanted.ring_name
    if name is None:
        room, where = scene.machine.memory().get("MemAvailable", wanted), "of memory is"
        mend = f"# configure ring.capacity = {1 << min(28, max(10, (room // 128).bit_length() - 1))}"
    else:
        place = os.statvfs(scene.machine.path("/dev/shm"))
        room, where = place.f_bavail * place.f_frsize, "in /dev/shm is"
        mend = f"sudo mount -o remount,size={2 * wanted >> 20}M /dev/shm"
    if wanted <= room:
        return fine(f"{wanted >> 10:,} KiB, for which there is room")
    return problem(f"{wanted >> 10:,} KiB; {room >> 10:,} KiB {where} free", mend)


def _path(verdict: PathVerdict | None) -> Found | None:
    if verdict is None:
        return None
    if verdict.works:
        return fine(f"{verdict.path}: {verdict.how}")
    return problem(f"{verdict.path}: {verdict.how}", verdict.mend or "")


def _af_xdp_mode(card: Card) -> Found | None:
    mode, is_told = xdp_mode(card)
    if not is_told:
        return None
    text = f"{card.name} gives {mode}"
    if card.wanted.af_xdp_transfer == "zero-copy" and mode != "zero-copy":
        return problem(f"zero-copy is demanded; {text}", '# configure receive.af_xdp.transfer = "auto"')
    if card.wanted.af_xdp_attach == "native" and mode == "generic":
        return problem(f"a native program is demanded; {text}", '# configure receive.af_xdp.attach = "auto"')
    return fine(text)


def _af_xdp_queues(card: Card) -> Found | None:
    there = sum(name.startswith("rx-") for name in card.machine.names(card.file("queues")))
    missing_queues = [queue for queue in card.wanted.af_xdp_queues if queue >= there]
    if not there or not card.wanted.af_xdp_queues:
        return None
    if not missing_queues:
        return fine(cores_text(card.wanted.af_xdp_queues))
    return problem(
        f"{card.name} has no queue {cores_text(missing_queues)}; it has 0 to {there - 1}",
        f"sudo ethtool -L {card.name} combined {max(missing_queues) + 1}",
    )


_AF_XDP_CHECKS: tuple[Check[Card], ...] = (
    Check("af_xdp_mode", "receive.af_xdp.attach and transfer", "what the card can, or auto", _af_xdp_mode),
    Check("af_xdp_queues", "receive.af_xdp.queues", "queues that the card has", _af_xdp_queues),
)

_CHECKS: tuple[Check[Scene], ...] = (
    Check("core", "receive.core", "one that is there, left alone", _core),
    Check("busy_poll_us", "receive.busy_poll_us", "within net.core.busy_read, or CAP_NET_ADMIN", _busy_poll),
    Check("ring", "the ring's memory", "room for ring.capacity records of 64 bytes", _ring),
)
