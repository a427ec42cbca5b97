"""A strategy: when one side of the best quote is ten times the other, say so, and see whether the price followed.

barewire run feed.toml --strategy examples/imbalance.py:Imbalance
"""

import barewire

HORIZON_NS = 100_000_000  # a tenth of a second, in the venue's time


class Imbalance(barewire.Strategy):
    """Counts how often the mid price moved towards the heavy side's weight within the horizon."""

    def __init__(self) -> None:
        self.open: dict[int, tuple[int, int, int]] = {}  # instrument: when, mid price times two, direction
        self.right = 0
        self.wrong = 0

    def on_bbo(self, bbo: barewire.BboEvent) -> None:
        """A best bid or offer changed."""
        if not bbo.bid_size or not bbo.ask_size:
            return
        mid = bbo.bid_price + bbo.ask_price
        signal = self.open.get(bbo.instrument_id)
        if signal is not None:
            when, before, direction = signal
            if bbo.ts_event - when < HORIZON_NS:
                return
            del self.open[bbo.instrument_id]
            self.right += (mid - before) * direction > 0
            self.wrong += (mid - before) * direction < 0
        if bbo.bid_size >= 10 * bbo.ask_size:
            self.open[bbo.instrument_id] = bbo.ts_event, mid, 1
        elif bbo.ask_size >= 10 * bbo.bid_size:
            self.open[bbo.instrument_id] = bbo.ts_event, mid, -1

    def on_gap(self, gap: barewire.GapEvent) -> None:
        """Messages were lost: what was seen so far is not comparable with what comes."""
        self.open.clear()

    def on_end(self) -> None:
        """The end of the session or of the run."""
        print(f"imbalance: the mid price followed {self.right} times, went the other way {self.wrong} times")
