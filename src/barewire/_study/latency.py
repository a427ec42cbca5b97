"""Latency as a strategy meets it: a distribution, and what it makes of a feed's times."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Latency", "of_ccdf", "of_mean", "parse_latency", "rows_of", "seen"]

_LONGEST_NS = 60e9
_WIDEST = 10  # times the mean: a log-normal distribution beyond that has no mean that samples show
_PARTS = 8  # of the time over which latencies are alike
_EXPECTED = (
    "MEAN/DEVIATION such as 250us/45us, or a file that 'barewire bench latency --json' wrote (FILE:PATH chooses)"
)


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution of latencies by its quantiles, ns.

    Attributes:
        name: for people.
        family: where it comes from: "log-normal" or "measured".
        shares: ascending, from 0 to 1, shape (n,).
        ns: the latency below which each share lies, shape (n,).
        correlation_ns: how long a queue takes to empty: those of packets closer together are alike.
        burst_loss: share of the quotes lost where they come closest together, in the busiest twentieth of milliseconds.
    """

    name: str
    family: str
    shares: npt.NDArray[np.float64]
    ns: npt.NDArray[np.float64]
    correlation_ns: float = 200_000.0
    burst_loss: float = 0.0

    @property
    def mean_ns(self) -> float:
        """The mean."""
        return float(np.trapezoid(self.ns, self.shares))

    @property
    def deviation_ns(self) -> float:
        """The standard deviation."""
        return math.sqrt(max(float(np.trapezoid(self.ns**2, self.shares)) - self.mean_ns**2, 0.0))

    def quantile(self, share: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The latency below which this share of packets lies, ns."""
        return np.asarray(np.interp(share, self.shares, self.ns))

    def draw(self, times_ns: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.float64]:
        """A latency for each of these times, ascending. Alike for times closer together than `correlation_ns`.

        Every single one has the distribution itself: standard normal deviates, each a mean of eight that neighbouring
        eighths of the correlation time share, mapped through its quantiles (a Gaussian copula).
        """
        if not len(times_ns):
            return np.empty(0)
        cells, inverse = np.unique(
            ((times_ns - times_ns[0]) / max(self.correlation_ns / _PARTS, 1.0)).astype(np.int64), return_inverse=True
        )
        # Cells far apart have nothing in common: the distance between them need not be longer than the window.
        steps = np.minimum(np.diff(cells, prepend=cells[0]), _PARTS)
        places = np.cumsum(steps)
        white = random.standard_normal(int(places[-1]) + _PARTS)
        sums = np.concatenate(([0.0], np.cumsum(white)))
        normal = (sums[places + _PARTS] - sums[places]) / math.sqrt(_PARTS)
        return self.quantile(_normal_share(normal))[inverse]


def _normal_share(deviates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.interp(deviates, _DEVIATES, _SHARES))


_DEVIATES = np.linspace(-8, 8, 4097)
_SHARES = np.array([0.5 * math.erfc(-float(deviate) / math.sqrt(2)) for deviate in _DEVIATES])


def seen(
    times_ns: npt.NDArray[np.int64], latency: Latency, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """When each of a feed's quotes is seen, and which are seen at all.

    A feed is a queue: what was sent later is not seen earlier.
    """
    arrived = np.maximum.accumulate(times_ns + np.round(latency.draw(times_ns, random)).astype(np.int64))
    kept = np.ones(len(times_ns), np.bool_)
    if latency.burst_loss > 0 and len(times_ns):
        close = np.arange(len(times_ns)) - np.searchsorted(times_ns, times_ns - 1_000_000)
        busy = close >= max(float(np.quantile(close, 0.95)), 1.0)
        kept = ~busy | (random.random(len(times_ns)) >= latency.burst_loss)
        kept[0] = True
    return arrived, kept


def of_mean(mean_us: float, deviation_us: float, **options: Any) -> Latency:
    """The log-normal distribution with this mean and standard deviation, in microseconds."""
    shares = _SHARES.copy()
    shares[0], shares[-1] = 0.0, 1.0
    if mean_us > 0:
        variance = math.log1p((deviation_us / mean_us) ** 2)
        ns = 1e3 * np.exp(math.log(mean_us) - variance / 2 + math.sqrt(variance) * _DEVIATES)
    else:
        ns = np.zeros(len(shares))
    return Latency(f"{mean_us:g}/{deviation_us:g} us", "log-normal", shares, ns, **options)


def of_ccdf(name: str, ccdf: Sequence[tuple[float, float]], **options: Any) -> Latency:
    """The distribution of which these shares are above so many microseconds, in any order. Raises ConfigError."""
    points = sorted((1.0 - float(above), float(us)) for above, us in ccdf)
    shares, ns = np.array([share for share, _ in points]), 1e3 * np.array([us for _, us in points])
    known = len(points) >= 2 and bool(np.all(np.isfinite(shares)) and np.all(np.isfinite(ns)))
    if not known or shares[0] < 0 or shares[-1] > 1 or np.any(np.diff(ns) < 0):
        raise ConfigError(f"{name}: expected a ccdf of at least two shares and ascending latencies")
    if ns[0] < 0 or ns[-1] > _LONGEST_NS:
        worst = ns[0] if ns[0] < 0 else ns[-1]
        raise ConfigError(f"{name}: expected latencies of 0 to {_LONGEST_NS / 1e9:g} s, found {worst / 1e3:g} us")
    shares = np.concatenate(([0.0], shares, [1.0]))
    return Latency(name, "measured", shares, np.concatenate((ns[:1], ns, ns[-1:])), **options)


def _is_row(row: Any) -> bool:
    """Whether it has what is read of it. Raises TypeError, KeyError or ValueError where it has not."""
    numbers = [row["mean_us"], *(one for above, us in row["ccdf"] for one in (above, us))]
    return isinstance(row["path"], str) and all(type(one) in (int, float) for one in numbers)


def rows_of(path: str) -> list[dict[str, Any]]:
    """The rows of a file that `barewire bench latency --json` wrote. Raises ConfigError, OSError."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        rows = found["results"]
        if rows and all(_is_row(row) for row in rows):
            return list(rows)
    except (ValueError, KeyError, TypeError):
        pass
    expected = "a file that 'barewire bench latency --json' wrote"
    raise ConfigError(f"{path}: expected {expected}", key="latency", value=path, expected=expected)


def parse_latency(option: str, text: str, role: str, **options: Any) -> Latency:
    """From what a person types. `role` chooses among a file's paths: "before" is its slowest, "after" its quickest.

    Raises ConfigError, OSError.
    """
    number = r"(\d+(?:\.\d+)?)\s*(ns|us|ms)"
    if given := re.fullmatch(rf"{number}\s*/\s*{number}", text.strip()):
        mean, deviation = (float(given[n]) * _TO_US[given[n + 1]] for n in (1, 3))
        if deviation > 0 and mean == 0:
            raise ConfigError(f"{option} {text!r}: expected a mean above 0 where there is a deviation")
        longest_us = _LONGEST_NS / 1e3
        if mean > longest_us or deviation > _WIDEST * mean:
            expected = f"a mean of {longest_us / 1e6:g} s at most, and a deviation of {_WIDEST} times that at most"
            raise ConfigError(f"{option} {text!r}: expected {expected}", key=option, value=text, expected=expected)
        return of_mean(mean, deviation, **options)
    path, _, chosen = text.rpartition(":") if not Path(text).exists() and ":" in text else (text, "", "")
    if not Path(path).exists():
        raise ConfigError(f"{option} {text!r}: expected {_EXPECTED}", key=option, value=text, expected=_EXPECTED)
    rows = {row["path"]: row for row in rows_of(path)}
    if not chosen:
        chosen = (max if role == "before" else min)(rows, key=lambda name: float(rows[name]["mean_us"]))
    if chosen not in rows:
        raise ConfigError(f"{option} {text!r}: expected one of: {', '.join(rows)}")
    return of_ccdf(chosen, rows[chosen]["ccdf"], **options)


_TO_US = {"ns": 1e-3, "us": 1.0, "ms": 1e3}
