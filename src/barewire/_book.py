"""A book as Python sees it: read in place, nothing is cloned but what is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ._records import UNDEF_PRICE

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["LEVEL_DTYPE", "ORDER_DTYPE", "Book", "BookSource", "Quote"]

LEVEL_DTYPE = np.dtype(
    {"names": ["price", "size", "orders"], "formats": ["<i8", "<u8", "<u4"], "offsets": [0, 8, 16], "itemsize": 24}
)
"""A price level: price in 1e-9 of the currency, the sum of its orders' sizes, their number. 24 bytes."""

ORDER_DTYPE = np.dtype(
    {
        "names": ["order_id", "price", "size", "side"],
        "formats": ["<u8", "<i8", "<u4", "S1"],
        "offsets": [0, 8, 16, 20],
        "itemsize": 24,
    }
)
"""A resting order: the venue's number, price in 1e-9 of the currency, what is left of it, b"B" or b"A". 24 bytes."""


class Quote(NamedTuple):
    """The best level of one side: price in 1e-9 of the currency, and the sum of its orders' sizes."""

    price: int
    size: int


class BookSource(Protocol):
    """Whatever holds books: a feed or a replay of the core."""

    def top(self, instrument_id: int) -> tuple[int, int, int, int] | None: ...
    def depth(self, instrument_id: int, levels: int) -> tuple[bytes, bytes]: ...
    def orders(self, instrument_id: int) -> bytes: ...


class Book:
    """The order book of one instrument, as it is at the moment of asking.

    In a live feed the book may be ahead of the batch at hand, since the feed does not wait. In a replay it stands after
    the last message read: in a callback of `Replay.run()` that is the event's own, in a loop over batches the last one
    of the batch.
    """

    __slots__ = ("_source", "instrument_id", "symbol")

    def __init__(self, source: BookSource, instrument_id: int, symbol: str) -> None:
        self._source = source
        self.instrument_id = instrument_id
        self.symbol = symbol

    def top(self) -> tuple[Quote | None, Quote | None]:
        """Best bid and best offer of one moment; `None` for an empty side."""
        found = self._source.top(self.instrument_id)
        if found is None:
            return None, None
        bid_price, bid_size, ask_price, ask_size = found
        return (
            None if bid_price == UNDEF_PRICE else Quote(bid_price, bid_size),
            None if ask_price == UNDEF_PRICE else Quote(ask_price, ask_size),
        )

    @property
    def bid(self) -> Quote | None:
        """The best bid, `(price, size)`; `None` where nobody bids."""
        return self.top()[0]

    @property
    def ask(self) -> Quote | None:
        """The best offer, `(price, size)`; `None` where nobody offers."""
        return self.top()[1]

    def depth(self, levels: int = 10) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Bids and asks, best first, up to `levels` each, of one moment: two arrays of dtype `barewire.LEVEL_DTYPE`."""
        if levels < 1:
            raise ValueError(f"depth of {levels} levels: expected 1 or more")
        bids, asks = self._source.depth(self.instrument_id, levels)
        return np.frombuffer(bids, LEVEL_DTYPE), np.frombuffer(asks, LEVEL_DTYPE)

    def orders(self) -> npt.NDArray[np.void]:
        """Every resting order, dtype `barewire.ORDER_DTYPE`: bids then asks, best first. Scans: not for every event."""
        return np.frombuffer(self._source.orders(self.instrument_id), ORDER_DTYPE)

    def __repr__(self) -> str:
        bid, ask = self.top()
        left = f"{bid.size} @ {bid.price / 1e9:.4f}" if bid else "none"
        right = f"{ask.size} @ {ask.price / 1e9:.4f}" if ask else "none"
        return f"<Book {self.symbol}: bid {left}, ask {right}>"
