"""The strategy of `barewire demo`: two instruments that move together, and what to do when they do not."""

from __future__ import annotations

import math
from collections.abc import Callable

from .._events import BboEvent
from .._records import UNDEF_PRICE
from .._strategy import Strategy

__all__ = ["PairSpread"]


class PairSpread(Strategy):
    """Watches the log spread of two mid prices and speaks when it strays from its own average.

    Attributes:
        looked: how many quotes it was shown.
        signals: how often it spoke.
    """

    HORIZON = 2000
    """Quotes over which the average forgets."""
    ENTER, LEAVE = 2.5, 0.5
    """Standard deviations at which to act, and to be ready again."""

    def __init__(self, say: Callable[[str], None], pair: tuple[str, str]) -> None:
        self.symbols = self._pair = pair
        self.looked = self.signals = 0
        self._say = say
        self._mids: dict[str, float] = {}
        self._mean = self._variance = 0.0
        self._seen = 0
        self._armed = True

    @property
    def name(self) -> str:
        """The pair."""
        return " and ".join(self._pair)

    def on_bbo(self, bbo: BboEvent) -> None:
        """One quote of one of the two."""
        self.looked += 1
        if bbo.bid_price == UNDEF_PRICE or bbo.ask_price == UNDEF_PRICE:
            return
        self._mids[bbo.symbol] = (bbo.bid_price + bbo.ask_price) / 2
        if len(self._mids) == 2:
            first, second = (self._mids[symbol] for symbol in self._pair)
            self._judge(math.log(first / second))

    def _judge(self, spread: float) -> None:
        self._seen += 1
        weight = max(1 / self._seen, 1 / self.HORIZON)
        away = spread - self._mean
        self._mean += weight * away
        self._variance = (1 - weight) * (self._variance + weight * away * away)
        if self._seen < self.HORIZON or not self._variance:
            return
        score = away / math.sqrt(self._variance)
        if self._armed and abs(score) > self.ENTER:
            self._armed = False
            self.signals += 1
            rich, cheap = self._pair[:: 1 if score > 0 else -1]
            self._say(f"signal {self.signals}: spread {score:+.1f} deviations: sell {rich}, buy {cheap}")
        elif abs(score) < self.LEAVE:
            self._armed = True
