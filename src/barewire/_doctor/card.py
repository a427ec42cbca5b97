"""A card: who drives it, how fast its link is, what it does with XDP, where it is plugged in, what it can stamp."""

from __future__ import annotations

import errno
import shlex

from . import ethtool
from .finding import Check, Found, advice, fine, problem
from .machine import cores_text
from .scene import Card

__all__ = ["CHECKS", "xdp_mode"]

# What drivers were able to do before kernels could be asked (Linux 6.3).
_ZERO_COPY = frozenset({"i40e", "ice", "igc", "ixgbe", "mlx5_core", "stmmac"})
_NATIVE = _ZERO_COPY | {
    "bnxt_en",
    "ena",
    "igb",
    "ixgbevf",
    "mlx4_en",
    "nfp",
    "qede",
    "sfc",
    "tun",
    "veth",
    "virtio_net",
}
_NATIVE_MTU = 3498  # one 4 KiB page, less headroom and what the kernel appends: most drivers' limit


def _unsupported(error: OSError) -> bool:
    return error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY)


def _driver(card: Card) -> Found | None:
    try:
        found = ethtool.driver(card.machine.ioctl, card.name)
    except OSError as error:
        if _unsupported(error):
            return fine("the driver does not say")
        raise
    firmware = found.firmware if found.firmware not in ("", "N/A") else "none told"
    bus = f", {found.bus}" if found.bus not in ("", "N/A") else ""
    return fine(" ".join(filter(None, (found.name, found.version))) + f", firmware {firmware}{bus}")


def _link(card: Card) -> Found | None:
    up = f"sudo ip link set dev {card.name} up"
    flags = int(card.machine.read(card.file("flags")), 16)
    if not flags & 1:
        return problem("down: nothing is received", up)
    if card.machine.read(card.file("operstate")) == "down" or card.machine.text(card.file("carrier")) == "0":
        return problem("no carrier", f"sudo ethtool {card.name}   # and look at cable and switch port")
    if not card.is_hardware:
        return fine("up, a virtual interface")
    try:
        speed = card.machine.number(card.file("speed"))
    except (OSError, ValueError):
        speed = -1
    if speed <= 0:
        return fine("up; the driver tells no speed")
    if speed < 10_000:
        text = f"up, {speed} Mb/s: a burst of a whole market does not fit, and each kilobyte takes {8000 // speed} us"
        return advice(text, "# use a port of 10 Gb/s or more")
    return fine(f"up, {speed // 1000} Gb/s")


def xdp_mode(card: Card) -> tuple[str, bool]:
    """The best that AF_XDP would get: `zero-copy`, `native, copied` or `generic`, and whether the kernel told.

    Raises OSError.
    """
    try:
        found = card.machine.xdp_features(card.machine.number(card.file("ifindex")))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        native, zero_copy, is_told = card.driver in _NATIVE, card.driver in _ZERO_COPY, False
    else:
        native, zero_copy, is_told = found.is_native, found.is_zero_copy, True
    mode = "zero-copy" if zero_copy else "native, copied" if native else "generic"
    return mode, is_told


def _xdp(card: Card) -> Found | None:
    mode, is_told = xdp_mode(card)
    text = mode if is_told else f"{mode} (by the driver's name: this kernel cannot be asked)"
    if (
        is_told
        and card.is_hardware
        and card.machine.xdp_features(card.machine.number(card.file("ifindex"))).has_timestamps
    ):
        text += ", hardware time stamps for programs"
    if mode != "generic" or not card.is_hardware:
        return fine(text)
    return advice(
        f"{text}: packets reach AF_XDP only after the kernel has allocated for them",
        "# use a card whose driver runs XDP (ice, i40e, igc, mlx5_core), or another receive path",
    )


def _xdp_program(card: Card) -> Found | None:
    number = card.machine.xdp_program(card.machine.number(card.file("ifindex")))
    if not number:
        return fine("none")
    return advice(
        f"program {number} is attached: a running feed's on af_xdp, or somebody else's, beside which none can be",
        f"sudo bpftool prog show id {number}   # and stop the program that it belongs to",
    )


def _mtu(card: Card) -> Found | None:
    mtu = card.machine.number(card.file("mtu"))
    if mtu <= _NATIVE_MTU or not card.is_hardware:
        return fine(f"{mtu} bytes")
    return advice(f"{mtu} bytes: most drivers then refuse native XDP", f"sudo ip link set dev {card.name} mtu 1500")


def _reverse_path(card: Card) -> Found | None:
    names = ("all", card.name)
    values = [card.machine.number(f"/proc/sys/net/ipv4/conf/{name}/rp_filter") for name in names]
    if max(values) != 1 or card.name == "lo":
        return fine(("off", "strict, on loopback", "loose")[max(values)])
    return advice(
        "strict: multicast whose sender is not routed through this interface is dropped unseen (not by AF_XDP)",
        f"sudo sysctl -w net.ipv4.conf.{card.name}.rp_filter=2",
    )


def _numa(card: Card) -> Found | None:
    if not card.is_hardware:
        return None
    nodes = [name for name in card.machine.names("/sys/devices/system/node") if name[4:].isdigit()]
    if card.node < 0 or len(nodes) < 2:
        return fine("this machine has one node")
    near = card.machine.node_cores(card.node)
    if card.core in near:
        return fine(f"node {card.node}, with core {card.core}")
    usable = near & card.machine.online()
    usable = (usable & card.isolated()) or usable
    return advice(
        f"node {card.node}; core {card.core} is on another, and every packet crosses between them",
        f"# configure receive.core = {max(usable)}: node {card.node} has cores {cores_text(near)}" if usable else "",
        best=f"the feed's core on node {card.node}",
    )


def _hardware_stamps(card: Card) -> Found | None:
    if not card.is_hardware:
        return fine("none: a virtual interface; times are the kernel's")
    try:
        found = ethtool.stamps(card.machine.ioctl, card.name)
    except OSError as error:
        if _unsupported(error):
            return advice("none: times are the kernel's", "# use a card with time stamps, or a switch that adds them")
        raise
    if not found.has_receive:
        return advice("none: times are the kernel's", "# use a card with time stamps, or a switch that adds them")
    if not found.has_every_packet:
        return advice(
            "of PTP's packets only: those of market data get the kernel's times",
            "# use a card that stamps all packets, or a switch that adds stamps",
        )
    mend = f"sudo hwstamp_ctl -i {card.name} -t 1 -r 1"
    try:
        is_on = ethtool.stamps_every_packet(card.machine.ioctl, card.name)
    except PermissionError:
        return Found("the card can; whether it does takes CAP_NET_ADMIN to ask", "unknown", mend)
    return fine("on, for all packets") if is_on else advice("the card can, but they are off", mend)


_PHC_BEST = "one, disciplined by ptp4l"
_TAI_COMMANDS = {
    "tai_unset": "sudo phc2sys -a -r   # of linuxptp 4 it tells the kernel; so does chronyd with `leapsectz right/UTC`",
    "tai_wrong": "# let one program alone set the kernel's TAI offset: phc2sys, or chronyd with `leapsectz right/UTC`",
    "system_on_tai": "sudo phc2sys -a -r   # without -O 0: the offset of TAI is ptp4l's to tell",
    "doubled": "# phc2sys: leave -O out, or give it once and with the right sign",
}


def _phc(card: Card) -> Found | None:
    if not card.is_hardware:
        return None
    try:
        number = ethtool.stamps(card.machine.ioctl, card.name).phc
    except OSError as error:
        if _unsupported(error):
            return fine("none")
        raise
    if number < 0:
        return fine("none")
    name = card.machine.text(f"/sys/class/ptp/ptp{number}/clock_name", "unnamed")
    if not card.machine.exists(f"/dev/ptp{number}"):
        return advice(
            f"/dev/ptp{number} ({name}) is not there: its time cannot be compared",
            f"# in a container: docker run --device /dev/ptp{number}",
        )
    try:
        found = card.machine.compare_phc(number)
    except OSError as error:
        text = f"/dev/ptp{number} ({name}) cannot be compared with the system's clock: {error.strerror}"
        user = shlex.quote(card.machine.environment.get("USER") or "root")
        return advice(text, f"sudo setfacl -m u:{user}:r /dev/ptp{number}")
    text = f"/dev/ptp{number} ({name}): compared within {found['bound_ns']} ns ({found['method']})"
    if found["is_trap"]:
        return advice(f"{text}; {found['text']}", _TAI_COMMANDS.get(found["timescale"], "sudo phc2sys -a -r"))
    if found["timescale"] == "unrelated":
        # Stamps are compared with the system's clock, so that they are right all the same.
        return advice(f"{text}; nobody sets it", f"sudo ptp4l -i {card.name} -s & sudo phc2sys -a -r", best=_PHC_BEST)
    return fine(f"{text}, {found['text']}")


CHECKS: tuple[Check[Card], ...] = (
    Check("driver", "driver and firmware", "the vendor's newest", _driver),
    Check("link", "link", "up, 10 Gb/s or more", _link),
    Check("xdp", "XDP mode", "zero-copy", _xdp),
    Check("xdp_program", "XDP program", "none, until a feed attaches its own", _xdp_program),
    Check("mtu", "MTU", "1500 bytes: packets of one page", _mtu),
    Check("reverse_path", "reverse path filter", "off or loose", _reverse_path),
    Check("numa", "NUMA node", "that of the feed's core", _numa),
    Check("hardware_stamps", "hardware time stamps", "on, for all packets", _hardware_stamps),
    Check("phc", "hardware clock", "one, disciplined by ptp4l", _phc),
)
