"""The study: the same sessions through both latencies, again and again, and what that leaves to say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .arbitrage import ArbitrageRules, run_arbitrage
from .latency import Latency
from .pairs import PairRules, run_pair
from .session import DEFAULT_PAIR, Market, Session, simulated

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["INTERVALS_NS", "STRATEGIES", "Plan", "Study", "interval", "mean_of", "run", "summary"]

STRATEGIES = ("pairs", "arbitrage")
INTERVALS_NS = (500_000, 1_000_000, 2_000_000, 5_000_000)
_RESAMPLES = 4_000
_LEVEL = 95.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is studied.

    Attributes:
        before, after: the latencies that are compared.
        strategies: out of `STRATEGIES`.
        pair: two symbols; the first is the one that is arbitraged.
        seeds: of the sessions, and of what happens to them.
        market: what is simulated, where `session` is None.
        session: a recorded one; seeds are then of the latencies alone.
    """

    before: Latency
    after: Latency
    strategies: tuple[str, ...] = STRATEGIES
    pair: tuple[str, str] = DEFAULT_PAIR
    seeds: Sequence[int] = tuple(range(1, 31))
    market: Market = field(default_factory=Market)
    session: Session | None = None
    pair_rules: PairRules = field(default_factory=PairRules)
    arbitrage_rules: ArbitrageRules = field(default_factory=ArbitrageRules)


@dataclass(frozen=True, slots=True)
class Study:
    """What came of it: a row a seed, before and after.

    Attributes:
        plan: what was asked for.
        figures: by name, see `run_pair` and `run_arbitrage`; each of shape (seeds, 2).
        by_interval: the hedge errors at other sampling intervals, by these in ns; percent, each of shape (seeds, 2).
        true_ratio: of simulated sessions.
    """

    plan: Plan
    figures: dict[str, npt.NDArray[np.float64]]
    by_interval: dict[int, npt.NDArray[np.float64]]
    true_ratio: float | None


def run(plan: Plan, tell: Callable[[int, int], None] | None = None) -> Study:
    """Runs a study; `tell` is called after each seed with how many are done, and of how many. Raises ConfigError."""
    venues = 2 if "arbitrage" in plan.strategies else 1
    rows: list[tuple[list[dict[str, float]], dict[int, list[float]], float | None]] = []

    def one(seed: int) -> tuple[list[dict[str, float]], dict[int, list[float]], float | None]:
        session = plan.session or simulated(plan.market, seed, plan.pair, venues)
        found = [_through(plan, session, latency, seed) for latency in (plan.before, plan.after)]
        errors = {}
        if "pairs" in plan.strategies:
            errors = {interval_ns: _errors(plan, session, interval_ns, seed) for interval_ns in INTERVALS_NS}
        return found, errors, session.truth.hedge_ratio if session.truth is not None else None

    # Generating, decoding and most of numpy leave the interpreter's lock alone.
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), 4)) as pool:
        for number, row in enumerate(pool.map(one, plan.seeds), 1):
            rows.append(row)
            if tell is not None:
                tell(number, len(plan.seeds))
    names = dict.fromkeys(name for found, _, _ in rows for part in found for name in part)
    figures = {name: np.array([[part.get(name, np.nan) for part in found] for found, _, _ in rows]) for name in names}
    by_interval = {ns: np.array([errors[ns] for _, errors, _ in rows]) for ns in INTERVALS_NS if rows[0][1]}
    return Study(plan, figures, by_interval, rows[0][2])


def _through(plan: Plan, session: Session, latency: Latency, seed: int) -> dict[str, float]:
    found: dict[str, float] = {}
    if "pairs" in plan.strategies:
        found |= run_pair(session, plan.pair, latency, plan.pair_rules, np.random.default_rng([seed, 1]))
    if "arbitrage" in plan.strategies:
        random = np.random.default_rng([seed, 2])
        found |= run_arbitrage(session, plan.pair[0], latency, plan.arbitrage_rules, random)
    return found


def _errors(plan: Plan, session: Session, interval_ns: int, seed: int) -> list[float]:
    rules = replace(plan.pair_rules, interval_ns=interval_ns)
    return [
        run_pair(session, plan.pair, latency, rules, np.random.default_rng([seed, 3]))["hedge_error_pct"]
        for latency in (plan.before, plan.after)
    ]


def mean_of(values: npt.NDArray[np.float64]) -> float:
    """Without what could not be had; NaN where nothing could."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def interval(values: npt.NDArray[np.float64], seed: int = 1) -> tuple[float, float]:
    """Where the mean of such values lies, with 95% confidence, by resampling.

    Percentile bootstrap, widened for what resampling n values leaves out: by the root of n / (n - 1), and by Student's
    quantile over the normal one, without which a 95% of three values holds the mean in 83 of 100 cases (Hesterberg,
    "What Teachers Should Know About the Bootstrap", 2015). NaN of less than two values.
    """
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return (float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    means = known[random.integers(0, len(known), (_RESAMPLES, len(known)))].mean(axis=1)
    edges = np.percentile(means, [50 - _LEVEL / 2, 50 + _LEVEL / 2])
    middle = known.mean()
    low, high = middle + (edges - middle) * np.sqrt(len(known) / (len(known) - 1)) * _student(len(known) - 1) / _NORMAL
    return float(low), float(high)


_NORMAL = 1.959964  # the normal distribution's 97.5% quantile
# Student's, by degrees of freedom from 1 on.
_STUDENT = (12.7062, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.30600, 2.26216, 2.22814)


def _student(freedom: int) -> float:
    """Student's 97.5% quantile; beyond the table by the expansion of Cornish and Fisher, right to five digits."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z = _NORMAL
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return float(sum(term / freedom**power for power, term in enumerate(terms)))


def summary(study: Study, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of each figure: mean and confidence interval, before, after, and of the difference."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        if name not in study.figures:
            continue
        columns = study.figures[name]
        parts = {"before": columns[:, 0], "after": columns[:, 1], "difference": columns[:, 1] - columns[:, 0]}
        found[name] = {
            part: {"mean": mean_of(values), "low": interval(values)[0], "high": interval(values)[1]}
            for part, values in parts.items()
        }
    return found
