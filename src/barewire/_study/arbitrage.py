"""Latency arbitrage: one instrument at two venues, bought at the one that is late and sold at the one that is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .latency import Latency, seen
from .session import Quotes, Session

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ArbitrageRules", "Crossings", "crossings", "run_arbitrage"]


@dataclass(frozen=True, slots=True)
class ArbitrageRules:
    """How it is traded.

    Attributes:
        order_ns: from a decision to the venues' books.
        fee: in the currency, a share and leg.
        rival_ns: mean time after which somebody else has taken an opportunity, exponentially distributed; 0: nobody.
    """

    order_ns: int = 15_000
    fee: float = 0.003
    rival_ns: float = 200_000.0


@dataclass(frozen=True, slots=True)
class Crossings:
    """When one venue bids more than the other asks, by more than both fees. All arrays have shape (n,).

    Attributes:
        begin, end: of each, ns.
        buy_second: whether it is the second venue that asks less.
        ask, bid: what is asked and bid at its begin.
        size: shares that both have.
    """

    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    buy_second: npt.NDArray[np.bool_]
    ask: npt.NDArray[np.float64]
    bid: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.begin)


def _index(ns: npt.NDArray[np.int64], when: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.maximum(np.searchsorted(ns, when, "right") - 1, 0)


def crossings(first: Quotes, second: Quotes, fee: float) -> Crossings:
    """All of two venues' quotes, by the times that these have."""
    begin = max(first.ns[0], second.ns[0])
    times = np.unique(np.concatenate((first.ns, second.ns)))
    times = times[times >= begin]
    i, j = _index(first.ns, times), _index(second.ns, times)
    # In 1e-9, for a price is no binary fraction.
    over = np.round(np.stack((first.bid[i] - second.ask[j], second.bid[j] - first.ask[i])) - 2 * fee, 9)
    way = np.where(over[0] > 0, 1, np.where(over[1] > 0, 2, 0))
    changed = np.flatnonzero(np.diff(way, prepend=0))
    last = np.append(changed[1:], len(times) - 1)
    open_ = way[changed] > 0
    at, ends = changed[open_], last[open_]
    buy_second = way[at] == 1
    return Crossings(
        times[at],
        times[ends],
        buy_second,
        np.where(buy_second, second.ask[j[at]], first.ask[i[at]]),
        np.where(buy_second, first.bid[i[at]], second.bid[j[at]]),
        np.where(
            buy_second,
            np.minimum(first.bid_size[i[at]], second.ask_size[j[at]]),
            np.minimum(second.bid_size[j[at]], first.ask_size[i[at]]),
        ).astype(np.float64),
    )


def _as_seen(quotes: Quotes, latency: Latency, random: np.random.Generator) -> Quotes:
    arrived, kept = seen(quotes.ns, latency, random)
    return Quotes(arrived[kept], quotes.bid[kept], quotes.ask[kept], quotes.bid_size[kept], quotes.ask_size[kept])


def run_arbitrage(
    session: Session, symbol: str, latency: Latency, rules: ArbitrageRules, random: np.random.Generator
) -> dict[str, float]:
    """One session as seen through one latency.

    - `opportunities`: there were; `attempts`: orders for what was seen, `phantom` of them when there was none any more,
      or never had been;
    - `captured`, `captured_pct` of the opportunities; `lost_to_rivals`: still there but for somebody else's order;
    - `one_legged`: attempts of which one leg was filled and the other not, and which had to be undone at the spread;
    - `arbitrage_pnl`: in the currency.
    """
    first, second = session.venues[0][symbol], session.venues[1][symbol]
    real = crossings(first, second, rules.fee)
    # Rivals do not depend on how quick one is oneself: they come first, so that before and after meet the same.
    patience = random.exponential(rules.rival_ns, len(real)) if rules.rival_ns else np.full(len(real), np.inf)
    found = crossings(_as_seen(first, latency, random), _as_seen(second, latency, random), rules.fee)
    arrives = found.begin + rules.order_ns
    ask, bid, size, spread = _books_at(first, second, found.buy_second, arrives)
    can_buy, can_sell = ask <= found.ask + 1e-9, bid >= found.bid - 1e-9
    which = np.searchsorted(real.begin, arrives, "right") - 1
    known = np.maximum(which, 0)
    alive = np.zeros(len(found), np.bool_) if not len(real) else (which >= 0) & (arrives < real.end[known])
    alive &= can_buy & can_sell & (np.round(bid - ask - 2 * rules.fee, 9) > 0)
    rival = np.zeros(len(found), np.bool_)
    if len(real):
        rival = alive & (arrives - real.begin[known] > patience[known])
    hit = alive & ~rival
    # An opportunity is taken once: by the first order that comes in time.
    taken = np.zeros(len(found), np.bool_)
    taken[_first(known, hit)] = True
    one_legged = (can_buy ^ can_sell) & ~alive
    shares = np.minimum(found.size, size)
    gained = float((shares * (bid - ask - 2 * rules.fee))[taken].sum())
    undone = float((shares * (spread + 2 * rules.fee))[one_legged].sum())
    count = len(real)
    return {
        "opportunities": float(count),
        "attempts": float(len(found)),
        "phantom": float((~alive).sum()),
        "captured": float(taken.sum()),
        "captured_pct": 100 * float(taken.sum()) / count if count else float("nan"),
        "lost_to_rivals": float(rival.sum()),
        "one_legged": float(one_legged.sum()),
        "arbitrage_pnl": gained - undone,
        "opportunity_us": float(np.median(real.end - real.begin)) / 1e3 if count else float("nan"),
    }


def _first(groups: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The first chosen row of each group, by number."""
    rows = np.flatnonzero(chosen)
    first: npt.NDArray[np.int64] = rows[np.unique(groups[rows], return_index=True)[1]]
    return first


def _books_at(
    first: Quotes, second: Quotes, buy_second: npt.NDArray[np.bool_], when: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], ...]:
    """What the two orders meet: one venue's ask, the other's bid, shares, and the wider spread of both."""
    i, j = _index(first.ns, when), _index(second.ns, when)
    ask = np.where(buy_second, second.ask[j], first.ask[i])
    bid = np.where(buy_second, first.bid[i], second.bid[j])
    size = np.where(
        buy_second,
        np.minimum(first.bid_size[i], second.ask_size[j]),
        np.minimum(second.bid_size[j], first.ask_size[i]),
    ).astype(np.float64)
    spread = np.maximum(first.ask[i] - first.bid[i], second.ask[j] - second.bid[j])
    return ask, bid, size, spread
