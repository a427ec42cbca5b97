"""A card's receive queues: how many, who goes where, how deep, how late they interrupt and on which cores."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from . import ethtool
from .finding import Check, Found, advice, fine
from .machine import cores_text
from .scene import Card

__all__ = ["CHECKS"]

_ENOUGH_RING = 4096
_TOO_SMALL_RING = 1024
_MANY_QUEUES = 4

T = TypeVar("T")


def _ask(card: Card, question: Callable[[ethtool.Ioctl, str], T]) -> T | None:
    """A driver's answer; `None` where it does not know the question. Raises OSError."""
    try:
        return question(card.machine.ioctl, card.name)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY):
            return None
        raise


_NOT_TOLD = "not told by the driver"


def _channels(card: Card) -> Found | None:
    found = _ask(card, ethtool.channels)
    if found is None or not found.rx:
        count = sum(name.startswith("rx-") for name in card.machine.names(card.file("queues")))
        return fine(f"{count}") if count else fine(_NOT_TOLD)
    text = f"{found.rx} of {found.rx_max}"
    if found.rx <= _MANY_QUEUES:
        return fine(text)
    kind = "combined" if found.is_combined else "rx"
    return advice(
        f"{text}: AF_XDP watches each of them, and the feed's packets may come to any",
        f"sudo ethtool -L {card.name} {kind} 1",
        best="1, or as few as the other programs here need, with the feed's groups steered to one",
    )


def _spread(card: Card) -> Found | None:
    table = _ask(card, ethtool.indirection)
    if not table:
        return None
    queues = sorted(set(table))
    if len(queues) == 1:
        return fine(f"all to queue {queues[0]}")
    return fine(f"over queues {cores_text(queues)}")


def _udp_hash(card: Card) -> Found | None:
    channels = _ask(card, ethtool.channels)
    fields = _ask(card, ethtool.udp_hash)
    if fields is None or (channels is not None and channels.rx < 2):
        return None
    words = {"s": "source address", "d": "destination address", "f": "source port", "n": "destination port"}
    text = ", ".join(words[letter] for letter in fields)
    if "d" in fields:
        return fine(text)
    return advice(
        f"{text or 'nothing'}: all lines of one sender share a queue",
        f"sudo ethtool -N {card.name} rx-flow-hash udp4 sd",
    )


def _steering(card: Card) -> Found | None:
    channels = _ask(card, ethtool.channels)
    flags = _ask(card, ethtool.flags)
    if channels is None or channels.rx < 2 or flags is None:
        return None
    lines = [line for line in card.wanted.lines if line.interface in (None, card.name)]
    queue = (*card.wanted.af_xdp_queues, 0)[0]
    rules = " && ".join(
        f"sudo ethtool -N {card.name} flow-type udp4 dst-ip {line.group} dst-port {line.port} action {queue}"
        for line in lines
    )
    if flags & ethtool.FLAG_NTUPLE:
        if not rules:
            return fine("possible (n-tuple filters are on); 'ethtool -n' lists them")
        return Found("n-tuple filters are on; whether the feed's lines have theirs, 'ethtool -n' tells", "ok", rules)
    enable = f"sudo ethtool -K {card.name} ntuple on"
    return advice(
        "n-tuple filters are off: groups go to the queue that a hash chooses",
        f"{enable} && {rules}" if rules else enable,
    )


def _rings(card: Card) -> Found | None:
    found = _ask(card, ethtool.rings)
    if found is None or not found.rx_max:
        return fine(_NOT_TOLD) if card.is_hardware else None
    text = f"{found.rx} of at most {found.rx_max} descriptors a queue"
    best = min(_ENOUGH_RING, found.rx_max)
    if found.rx >= min(_TOO_SMALL_RING, best):
        return fine(text)
    microseconds = found.rx  # a packet a microsecond: 1 Mpps
    return advice(
        f"{text}: full after {microseconds} us of a burst of a million packets a second",
        f"sudo ethtool -G {card.name} rx {best}",
        best=f"{best}",
    )


def _coalescing(card: Card) -> Found | None:
    found = _ask(card, ethtool.coalescing)
    if found is None:
        return fine(_NOT_TOLD) if card.is_hardware else None
    if not found.is_adaptive and found.rx_usecs <= 1:
        return fine(f"{found.rx_usecs} us")
    what = "adaptive, now " if found.is_adaptive else ""
    adaptive = "adaptive-rx off " if found.is_adaptive else ""
    return advice(
        f"{what}{found.rx_usecs} us: an interrupt, and what waits for it, comes that much later",
        f"sudo ethtool -C {card.name} {adaptive}rx-usecs 0",
    )


def _offloads(card: Card) -> Found | None:
    gro = _ask(card, ethtool.is_gro)
    flags = _ask(card, ethtool.flags)
    if gro is None and flags is None:
        return fine(_NOT_TOLD) if card.is_hardware else None
    names = ["GRO"] * bool(gro) + ["LRO"] * bool((flags or 0) & ethtool.FLAG_LRO)
    if not names:
        return fine("GRO and LRO are off")
    if not card.is_hardware:
        return fine(f"{' and '.join(names)} on, a virtual interface")
    return advice(
        f"{' and '.join(names)} on: packets are held to be glued to the next ones",
        f"sudo ethtool -K {card.name} " + " ".join(f"{name.lower()} off" for name in names),
    )


def _irqs(card: Card) -> Found | None:
    if not card.is_hardware:
        return None
    irqs = card.irqs()
    if not irqs:
        return fine("none that the system lists")
    kept = card.isolated() | {card.core}
    allowed = {irq: card.machine.cores(f"/proc/irq/{irq}/smp_affinity_list") for irq in irqs}
    effective = {
        irq: card.machine.cores(path)
        if card.machine.text(path := f"/proc/irq/{irq}/effective_affinity_list")
        else cores
        for irq, cores in allowed.items()
    }
    wrong = [irq for irq, cores in effective.items() if cores & kept]
    on = f"{len(irqs)} on cores {cores_text(frozenset().union(*effective.values()))}"
    others = card.machine.online() - kept
    if not wrong:
        return fine(on)
    near = others & card.machine.node_cores(card.node) or others
    what = "the feed's core" if all(effective[irq] & {card.core} for irq in wrong) else "isolated cores"
    if not near:
        return advice(f"{on}, also on {what}", "# give the machine another core: this one has none to spare")
    return advice(
        f"{on}: {len(wrong)} of them on {what}, which they interrupt",
        f"for irq in {' '.join(map(str, wrong))}; do echo {cores_text(near)} | "
        "sudo tee /proc/irq/$irq/smp_affinity_list; done",
        best=f"cores {cores_text(near)}",
    )


CHECKS: tuple[Check[Card], ...] = (
    Check("queues", "receive queues", "few: one for each feed", _channels),
    Check("rss_table", "queues in the hash's table", "those that the feed watches", _spread),
    Check("udp_hash", "what chooses a UDP packet's queue", "addresses, the destination among them", _udp_hash),
    Check("steering", "steering groups to a queue", "a rule a line, to the queue that the feed watches", _steering),
    Check("rings", "receive ring", f"{_ENOUGH_RING}", _rings),
    Check("coalescing", "interrupt delay", "0 us, not adaptive", _coalescing),
    Check("offloads", "gluing of packets", "GRO and LRO off", _offloads),
    Check("irq_affinity", "interrupts of the queues", "on cores beside the feed's, of the same node", _irqs),
)
