"""One venue's stock hedged with another's, live: python examples/pairs.py FEED.toml OTHER.toml SYMBOL HEDGE [SECONDS].

Long a thousand shares of SYMBOL at the first venue, this keeps short as much of HEDGE at the second as moves with
them. How much that is comes from the moves of both mid prices, which must be of the same moments to mean anything:
rows of an alignment say how far apart the legs are, by how much that may be wrong, and whether either is in doubt.
"""

import sys
import time

import numpy as np

import barewire

SHARES = 1000
EVERY_NS = 50_000_000  # moves are measured over so long
MEMORY = 0.998  # of a move in the estimate, when the next one comes
BAND = 20  # shares that the hedge may be off


class Hedge:
    """The ratio of both legs' moves, and the position that follows it."""

    def __init__(self) -> None:
        self.at = 0
        self.mids = np.zeros(2)
        self.together = self.squares = 0.0
        self.moves = self.trades = self.refused = self.position = 0
        self.cash = 0.0

    def row(self, row: np.void) -> None:
        """One more row: both legs as they stood at one moment."""
        legs = row["legs"]
        if row["late"] or row["stale"] or not row["within"] or (legs["bid_price"] == barewire.UNDEF_PRICE).any():
            self.refused += 1
            return
        if (legs["ask_price"] == barewire.UNDEF_PRICE).any() or int(row["ts"]) < self.at + EVERY_NS:
            return
        mids = (legs["bid_price"] + legs["ask_price"]) / 2e9
        if self.at:
            move, other = np.log(mids / self.mids)
            self.together = MEMORY * self.together + move * other
            self.squares = MEMORY * self.squares + other * other
            self.moves += 1
        self.at, self.mids = int(row["ts"]), mids
        if self.moves > 20 and self.squares > 0:
            self.trade(legs)

    @property
    def ratio(self) -> float:
        """What a move of the hedge says of one of the stock."""
        return self.together / self.squares if self.squares else 0.0

    def trade(self, legs: np.ndarray) -> None:
        """Buys or sells where the hedge is off by more than the band, at the other side's price."""
        wanted = -round(self.ratio * SHARES * self.mids[0] / self.mids[1])
        more = wanted - self.position
        if abs(more) > BAND:
            price = legs["ask_price" if more > 0 else "bid_price"][1] / 1e9
            self.cash -= more * price
            self.position, self.trades = wanted, self.trades + 1


def main(first: str, second: str, stock: str, hedge_with: str, seconds: float) -> None:
    """Hedges for so long, and tells how it went."""
    hedge, skews, waits = Hedge(), [], []
    with barewire.Feed.from_config(first) as one, barewire.Feed.from_config(second) as other:
        aligned = barewire.align({"one": one, "other": other}, hold=0.002, tolerance=0.5)
        rows = aligned.rows({"stock": ("one", stock), "hedge": ("other", hedge_with)})
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            batch = rows.read(timeout=0.1)
            if batch is None:
                continue
            skews.append(batch.rows["skew_ns"])
            waits.append(batch.rows["held_ns"])
            for row in batch.rows:
                hedge.row(row)
        stats = aligned.stats
    if not skews:
        sys.exit(f"no quotes of both {stock} and {hedge_with} within {seconds:g} s: are the venues running?")
    skew, wait = np.concatenate(skews), np.concatenate(waits)
    late, events = (sum(getattr(one, name) for one in stats.values()) for name in ("late", "records"))
    print(f"{len(skew)} rows, {hedge.refused} of them not used; {late} of {events} events late")
    print(
        f"between the legs' quotes {np.median(skew) / 1e6:.1f} ms (median); held back {wait.mean() / 1e3:.0f} us (mean)"
    )
    print(f"ratio {hedge.ratio:.2f} from {hedge.moves} moves; {hedge.trades} trades")
    print(f"{hedge.position} {hedge_with} against {SHARES} {stock}")


if __name__ == "__main__":
    venue, other_venue, symbol, hedge_symbol, *more = sys.argv[1:]
    main(venue, other_venue, symbol, hedge_symbol, float(more[0]) if more else 20.0)
