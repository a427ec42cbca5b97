"""Impairments as text: what a network is to do to packets, for `barewire sim`, `barewire replay` and `barewire.replay`.

    A:loss=1%,jitter=20us         line A loses 1% of its packets and delays each by 0 to 20 us
    burst=0.1%/20%                every line loses packets in bursts of five on average

A value for one line takes precedence over the value for every line. The key table below is what the documentation, the
errors and the parser have in common.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ._errors import ConfigError

__all__ = [
    "FAULT_FORMS",
    "KEYS",
    "LINE_LETTERS",
    "Given",
    "Impairment",
    "parse_fault",
    "parse_impairments",
    "parse_servers",
    "time_ns",
]

LINE_LETTERS = "ABCDEFGH"
"""Lines by letter, in the order in which they are configured, or in which a capture first shows them."""

_REORDER_BY = 3
_MOST_REORDER_BY = 10_000
_LONGEST_DELAY_NS = 60 * 10**9
_LONGEST_DEAD_NS = 10**7 * 10**9
_HIGHEST_PACKET = 1 << 62


@dataclass(frozen=True, slots=True)
class Impairment:
    """What happens to one line's packets. Probabilities are per packet, times in ns.

    Attributes:
        loss: probability that a packet is lost.
        burst: bursts of loss (Gilbert-Elliott): probabilities to enter one, to leave it, and of loss within.
        duplicate: probability that a packet arrives twice.
        reorder, reorder_by: probability that later packets of the line overtake one, and how many may at most.
        delay_ns: every packet's delay.
        jitter_ns: at most so much more, evenly distributed; packets overtake each other.
        drop: packets that are lost, by number, the first being 0: ranges without their ends.
        dead: when nothing arrives, ns since the first packet: ranges without their ends.
    """

    loss: float = 0.0
    burst: tuple[float, float, float] | None = None
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_by: int = _REORDER_BY
    delay_ns: int = 0
    jitter_ns: int = 0
    drop: tuple[tuple[int, int], ...] = ()
    dead: tuple[tuple[int, int], ...] = ()

    def to_core(self) -> dict[str, Any]:
        """The dictionary that the compiled core takes."""
        return {name: getattr(self, name) for name in self.__slots__}


class Given(NamedTuple):
    """One text and the option that it came by: `--loss A:1%` is the text "A:1%" for the key "loss"."""

    option: str
    text: str
    key: str | None = None  # of the option, where it is for one key alone
    line: str | None = None  # of the option, where the text names none


class _Wrong(Exception):
    """What was expected."""


def _probability(text: str) -> float:
    found = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE]-?[0-9]+)?)(%?)", text)
    if found:
        value = float(found[1]) / (100 if found[2] else 1)
        if value <= 1:
            return value
    raise _Wrong("a probability, 0% to 100% or 0 to 1")


_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


def time_ns(text: str) -> int | None:
    """A time such as 20us, 1.5ms or 2s in ns; `None` for anything else."""
    try:
        return _time_ns(text)
    except _Wrong:
        return None


def _time_ns(text: str, longest_ns: int = _LONGEST_DELAY_NS) -> int:
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)(ns|us|ms|s)", text)
    if text == "0":
        return 0
    if found:
        value = float(found[1]) * _UNITS[found[2]]
        if value <= longest_ns:  # what is too long may be infinite
            return round(value)
    raise _Wrong(f"a time such as 500ns, 20us, 1.5ms or 2s, at most {longest_ns // 10**9} s")


def _burst(text: str) -> tuple[float, float, float]:
    parts = text.split("/")
    if len(parts) not in (2, 3):
        raise _Wrong("ENTER/LEAVE or ENTER/LEAVE/LOSS, e.g. 0.1%/20%/90%")
    enter, leave, *loss = map(_probability, parts)
    return enter, leave, loss[0] if loss else 1.0


def _reorder(text: str) -> tuple[float, int]:
    chance, _, by = text.partition("/")
    if by and not (re.fullmatch(r"[0-9]{1,5}", by) and 1 <= int(by) <= _MOST_REORDER_BY):
        raise _Wrong(f"P or P/BY, e.g. 1%/5 (up to five packets overtake one in a hundred), BY 1 to {_MOST_REORDER_BY}")
    return _probability(chance), int(by) if by else _REORDER_BY


def _drop(text: str) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in text.split("+"):
        found = re.fullmatch(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last <= _HIGHEST_PACKET:
            raise _Wrong("packet numbers from 1 on, e.g. 100-200 or 7+9+100-200")
        ranges.append((first - 1, last))
    return tuple(ranges)


def _dead(text: str) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in text.split("+"):
        begin, _, end = part.partition("-")
        try:
            times = _time_ns(begin, _LONGEST_DEAD_NS), _time_ns(end, _LONGEST_DEAD_NS)
        except _Wrong:
            times = (0, 0)
        if times[0] >= times[1]:
            raise _Wrong("from when to when since the first packet, e.g. 2s-3s or 2s-3s+10s-10.5s")
        ranges.append(times)
    return tuple(ranges)


class _Key(NamedTuple):
    """What a key's value looks like, what it means, and how it becomes fields of an `Impairment`."""

    form: str
    meaning: str
    fields: Callable[[str], dict[str, Any]]


KEYS: dict[str, _Key] = {
    "loss": _Key("1%", "packets that are lost", lambda text: {"loss": _probability(text)}),
    "burst": _Key(
        "ENTER/LEAVE[/LOSS]",
        "bursts of loss (Gilbert-Elliott): probabilities to enter one and to leave it again, and of loss within (100%)",
        lambda text: {"burst": _burst(text)},
    ),
    "duplicate": _Key("1%", "packets that arrive twice", lambda text: {"duplicate": _probability(text)}),
    "reorder": _Key(
        "P[/BY]",
        f"packets that up to BY ({_REORDER_BY}) later ones overtake",
        lambda text: dict(zip(("reorder", "reorder_by"), _reorder(text), strict=True)),
    ),
    "delay": _Key("50us", "every packet's delay", lambda text: {"delay_ns": _time_ns(text)}),
    "jitter": _Key("20us", "a random delay on top, up to this", lambda text: {"jitter_ns": _time_ns(text)}),
    "drop": _Key("100-200", "packets lost, by number from 1 on; more with +", lambda text: {"drop": _drop(text)}),
    "dead": _Key(
        "2s-3s", "when nothing arrives, since the first packet; more with +", lambda text: {"dead": _dead(text)}
    ),
}
"""What `--impair` knows, by key."""


def parse_impairments(given: Iterable[Given], lines: Sequence[str] = LINE_LETTERS) -> list[Impairment] | None:
    """The impairment of each of these lines; `None` where nothing was given.

    Raises ConfigError, which names the option, the text and what was expected.
    """
    for_all: dict[str, str] = {}
    by_line: dict[str, dict[str, str]] = {line: {} for line in lines}
    fields: dict[str, dict[str, Any]] = {line: {} for line in ("", *lines)}
    any_given = False
    for one in given:
        any_given = True
        line, pairs = _take_apart(one, lines)
        seen = for_all if line is None else by_line[line]
        for key, value in pairs:
            if key in seen:
                where = "every line" if line is None else f"line {line}"
                raise _error(one, f"{key} was given for {where} already: {seen[key]}", "each once")
            seen[key] = value
            try:
                fields[line or ""] |= KEYS[key].fields(value)
            except _Wrong as wrong:
                prefix = "" if one.key else f"{key} = {value}: "
                raise _error(one, f"{prefix}expected {wrong}", str(wrong)) from None
    if not any_given:
        return None
    everywhere = replace(Impairment(), **fields[""])
    return [replace(everywhere, **fields[line]) for line in lines]


FAULTS = ("none", "slow", "partial", "silent", "wrong")
FAULT_FORMS = "none, slow:50ms, partial, silent or wrong"
SERVERS = ("rerequest", "glimpse")


def parse_fault(option: str, text: str) -> tuple[str, int]:
    """What is wrong with a server: its name, and by how much it is slow, ns. Raises ConfigError."""
    name, colon, delay = text.partition(":")
    delay_ns = time_ns(delay) if colon else 0
    if name not in FAULTS or delay_ns is None or bool(colon) is not (name == "slow"):
        raise ConfigError(f"{option} {text!r}: expected {FAULT_FORMS}", key=option, value=text, expected=FAULT_FORMS)
    return name, delay_ns


def parse_servers(option: str, texts: Iterable[str]) -> dict[str, list[tuple[str, int]]]:
    """The faults of the servers that are there, by kind: "rerequest:silent,rerequest,glimpse". Raises ConfigError."""
    found: dict[str, list[tuple[str, int]]] = {kind: [] for kind in SERVERS}
    for text in texts:
        for part in text.split(","):
            kind, _, fault = part.strip().partition(":")
            if kind not in found:
                expected = f"rerequest or glimpse, or with a fault, e.g. rerequest:silent ({FAULT_FORMS})"
                raise ConfigError(f"{option} {text!r}: expected {expected}", key=option, value=text, expected=expected)
            found[kind].append(parse_fault(f"{option} {kind}:", fault or "none"))
    return found


def _take_apart(given: Given, lines: Sequence[str]) -> tuple[str | None, list[tuple[str, str]]]:
    """The line, if one is named, and the keys with their values."""
    prefix, colon, rest = given.text.rpartition(":")
    line = prefix.strip().upper() if colon else given.line
    if line is not None and line not in tuple(lines):
        there = f"{', '.join(lines[:-1])} or {lines[-1]}" if len(lines) > 1 else f"{lines[0]} alone"
        raise _error(given, f"no line {line}; expected {there}", there)
    if given.key is not None:
        return line, [(given.key, rest.strip())]
    pairs = []
    for part in rest.split(","):
        key, equals, value = (text.strip() for text in part.partition("="))
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            expected = f"did you mean {near[0]}?" if near else f"expected one of: {', '.join(KEYS)}"
            raise _error(given, f"unknown key {key!r}; {expected}", ", ".join(KEYS))
        if not equals:
            raise _error(given, f"{key}: expected {key}={KEYS[key].form}", f"{key}={KEYS[key].form}")
        pairs.append((key, value))
    return line, pairs


def _error(given: Given, what: str, expected: str) -> ConfigError:
    return ConfigError(f"{given.option} {given.text!r}: {what}", key=given.option, value=given.text, expected=expected)
