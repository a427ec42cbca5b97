"""A market-neutral pair: quotes in one instrument, every fill hedged in the other, by a ratio that is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .latency import Latency, seen
from .session import Quotes, Session

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["PairRules", "expected_error_pct", "hedge_ratio", "legs", "run_pair"]

_PHASES = 4  # estimates from grids that begin at different times, whose mean is less a matter of chance


@dataclass(frozen=True, slots=True)
class PairRules:
    """How the pair is traded.

    Attributes:
        interval_ns: time between the samples whose returns give the hedge ratio.
        order_ns: from a decision to the venue's book.
        apart_ns: least time between two fills.
        hold_ns: how long a hedged position is held before it is valued.
        fee: of the hedge, in the currency a share.
    """

    interval_ns: int = 1_000_000
    order_ns: int = 15_000
    apart_ns: int = 20_000_000
    hold_ns: int = 100_000_000
    fee: float = 0.003


def legs(session: Session, pair: tuple[str, str]) -> tuple[Quotes, Quotes]:
    """Each leg where it is quoted: of two recordings one is in each, simulated legs are both at the leading venue."""
    first, last = session.venues[0], session.venues[-1] if session.truth is None else session.venues[0]
    return first[pair[0]], last[pair[1]]


def _at(
    ns: npt.NDArray[np.int64], values: npt.NDArray[np.float64], when: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """The value that held at these times; the first one before it."""
    found: npt.NDArray[np.float64] = values[np.maximum(np.searchsorted(ns, when, "right") - 1, 0)]
    return found


def hedge_ratio(
    first: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]],
    second: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]],
    span_ns: int,
    interval_ns: int,
    shift_ns: int = 0,
) -> float:
    """The slope of one instrument's returns on the other's, sampled so far apart, from times and prices.

    Samples are taken `shift_ns` later than at the grid: what all quotes are late by makes nothing asynchronous.
    NaN where the second does not move.
    """
    together = square = 0.0
    for phase in range(_PHASES):
        begin = interval_ns + interval_ns * phase // _PHASES + shift_ns
        # Only where a quote has changed since the sample before is there a return: a quiet hour costs nothing.
        cells = np.unique(np.concatenate([-((begin - ns) // interval_ns) for ns, _ in (first, second)]))
        ends = begin + interval_ns * cells[(cells > 0) & (interval_ns * cells < span_ns + shift_ns - begin)]
        a, b = (
            np.log(_at(ns, price, ends)) - np.log(_at(ns, price, ends - interval_ns)) for ns, price in (first, second)
        )
        together += float(a @ b)
        square += float(b @ b)
    return together / square if square else float("nan")


def run_pair(
    session: Session, pair: tuple[str, str], latency: Latency, rules: PairRules, random: np.random.Generator
) -> dict[str, float]:
    """One session as seen through one latency.

    - `hedge_ratio`, and `on_time_ratio`, from the same quotes without any latency;
    - `hedge_error_pct`: how far the first is from the second, percent of it; what the latency did;
    - `true_error_pct`: how far it is from the true one (only simulated): ticks, lead and lag, chance, and latency;
    - `fills`, `failed_hedges`, `failed_pct`: hedges that found the price gone;
    - `hedge_slip_bp`: what hedges cost more than at the middle at the fill's time; `pair_pnl_bp`: a fill's result.
    """
    quotes = legs(session, pair)
    views = []
    for leg in quotes:
        arrived, kept = seen(leg.ns, latency, random)
        views.append((arrived[kept], leg.bid[kept], leg.ask[kept]))
    on_time = hedge_ratio(
        (quotes[0].ns, quotes[0].mid), (quotes[1].ns, quotes[1].mid), session.span_ns, rules.interval_ns
    )
    first, second = ((ns, (bid + ask) / 2) for ns, bid, ask in views)
    ratio = hedge_ratio(first, second, session.span_ns, rules.interval_ns, round(latency.mean_ns))
    found = {
        "hedge_ratio": ratio,
        "on_time_ratio": on_time,
        "hedge_error_pct": 100 * abs(ratio / on_time - 1) if on_time else float("nan"),
    }
    if session.truth is not None:
        found["true_error_pct"] = 100 * abs(ratio / session.truth.hedge_ratio - 1)
    return found | _hedges(session, quotes, views[1], ratio, latency, rules, random)


def _hedges(
    session: Session,
    quotes: tuple[Quotes, Quotes],
    view: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]],
    ratio: float,
    latency: Latency,
    rules: PairRules,
    random: np.random.Generator,
) -> dict[str, float]:
    """Fills come when the market moves through a resting order: falling bids were hit, rising offers lifted."""
    a, b = quotes
    moved = np.flatnonzero((a.bid[1:] < a.bid[:-1]) | (a.ask[1:] > a.ask[:-1])) + 1
    moved = moved[a.ns[moved] < session.span_ns - rules.hold_ns]
    chosen = []
    last = -rules.apart_ns
    for index in moved.tolist():  # one in many: those far enough from the one before
        if a.ns[index] - last >= rules.apart_ns:
            chosen.append(index)
            last = int(a.ns[index])
    at = np.array(chosen, np.int64)
    if not len(at):
        return {"fills": 0.0, "failed_hedges": 0.0}
    bought = a.bid[at] < a.bid[at - 1]
    price = np.where(bought, a.bid[at - 1], a.ask[at - 1])
    then = a.ns[at]
    # The fill is told by the same path; the other leg is what has been seen of it by then; the order takes its time.
    told = then + np.round(latency.draw(then, random)).astype(np.int64)
    side = np.where(bought, 1.0, -1.0)  # of the first leg; the hedge is the other way
    wanted = np.where(bought, _at(view[0], view[1], told), _at(view[0], view[2], told))
    arrives = told + rules.order_ns
    touch = np.where(bought, _at(b.ns, b.bid, arrives), _at(b.ns, b.ask, arrives))
    failed = side * (touch - wanted) < -1e-9
    # Who missed takes what is there once it is seen that the order was refused: the same way again.
    again = arrives + round(latency.mean_ns) + rules.order_ns
    retried = np.where(bought, _at(b.ns, b.bid, again), _at(b.ns, b.ask, again))
    hedge = np.where(failed, retried, touch)
    middle = _at(b.ns, b.mid, then)
    slip = side * (middle - hedge) / middle
    end = then + rules.hold_ns
    gained = side * (_at(a.ns, a.mid, end) - price) / price
    hedged = side * ratio * (_at(b.ns, b.mid, end) - hedge) / hedge
    fee = abs(ratio) * rules.fee / middle
    return {
        "fills": float(len(at)),
        "failed_hedges": float(failed.sum()),
        "failed_pct": 100 * float(failed.mean()),
        "hedge_slip_bp": 1e4 * float(slip.mean()),
        "pair_pnl_bp": 1e4 * float((gained - hedged - fee).mean()),
    }


def expected_error_pct(latency: Latency, interval_ns: int) -> float:
    """By how much asynchrony lowers the slope where prices are continuous: E|L1 - L2| / interval, in percent.

    Two windows of equal length whose ends are off by L1 - L2 have that much less in common (Epps, "Comovements in Stock
    Prices in the Very Short Run", 1979; with both legs' latencies independent). Right while it is small.
    """
    shares = (np.arange(2_000) + 0.5) / 2_000
    ns = latency.quantile(shares)
    # Gini's mean difference of sorted values.
    difference = 2 * float(((2 * shares - 1) * ns).mean())
    return 100 * difference / interval_ns
