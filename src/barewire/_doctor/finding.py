"""What the doctor says: findings, verdicts on receive paths, and the report that holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

__all__ = ["Check", "Finding", "Found", "Matters", "PathVerdict", "Report", "advice", "fine", "problem", "run_checks"]

Matters = Literal["ok", "advice", "problem", "unknown"]
"""`advice` costs latency or precision, `problem` loses data or keeps a feed from starting, `unknown` cannot be read."""


class Found(NamedTuple):
    """A check's answer."""

    found: str
    matters: Matters
    mend: str = ""
    """The command that mends it; behind a `#`, in words, what no command can. Either may be pasted into a shell."""
    best: str = ""
    """What would be best, where the check's own text does not fit."""


def fine(found: str, best: str = "") -> Found:
    """As it should be."""
    return Found(found, "ok", best=best)


def advice(found: str, mend: str, best: str = "") -> Found:
    """Worse than it could be."""
    return Found(found, "advice", mend, best)


def problem(found: str, mend: str, best: str = "") -> Found:
    """So that a feed does not start, or loses packets."""
    return Found(found, "problem", mend, best)


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    topic: str
    """The interface's name, or what part of the machine this is about: `cores`, `memory`, `kernel`, ..."""
    name: str
    """The check's name, in snake case; it does not change between versions."""
    what: str
    found: str
    best: str
    matters: Matters
    mend: str | None


@dataclass(frozen=True)
class PathVerdict:
    """Whether a receive path would work here."""

    path: str
    works: bool
    how: str
    """What it would give, or the one thing that is missing."""
    mend: str | None


@dataclass(frozen=True)
class Report:
    """Everything that was found."""

    machine: str
    interfaces: tuple[str, ...]
    core: int
    core_why: str
    findings: tuple[Finding, ...]
    paths: tuple[PathVerdict, ...]

    @property
    def is_possible(self) -> bool:
        """Whether the given configuration can run here; true without one."""
        return not any(one.topic == "configuration" and one.matters == "problem" for one in self.findings)

    def count(self, matters: Matters) -> int:
        """How many findings matter so much."""
        return sum(one.matters == matters for one in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as `barewire doctor --json` prints it."""
        levels: tuple[Matters, ...] = ("ok", "advice", "problem", "unknown")
        return {
            "machine": self.machine,
            "interfaces": list(self.interfaces),
            "core": self.core,
            "possible": self.is_possible,
            "counts": {level: self.count(level) for level in levels},
            "findings": [asdict(one) for one in self.findings],
            "paths": [asdict(one) for one in self.paths],
        }


S = TypeVar("S")


class Check(NamedTuple, Generic[S]):
    """One thing to look at. `look` returns `None` where it does not apply.

    It lets OSError through for what cannot be read, ValueError and LookupError for what makes no sense.
    """

    name: str
    what: str
    best: str
    look: Callable[[S], Found | None]


def run_checks(topic: str, checks: Iterable[Check[S]], subject: S) -> Iterator[Finding]:
    """The checks' findings. What cannot be read says so, and the next goes on."""
    for check in checks:
        try:
            found = check.look(subject)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            found = Found(f"cannot be read: {(error.strerror or str(error)).lower()}{where}", "unknown")
        except (ValueError, LookupError) as error:
            found = Found(f"cannot be understood: {error}", "unknown")
        if found is not None:
            best = found.best or check.best
            yield Finding(topic, check.name, check.what, found.found, best, found.matters, found.mend or None)
