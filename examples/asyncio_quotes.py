"""Quotes in an event loop that does other things too: python examples/asyncio_quotes.py RING [SECONDS].

The loop sleeps while nothing comes. One task prints every trade, another the latest quote of each instrument, at its
own pace: a conflating reader has one row an instrument for it, however long it was away.
"""

import asyncio
import sys

import barewire

UNIT = 1_000_000_000  # prices are in 1e-9


async def trades(ring: barewire.Ring) -> int:
    """Prints trades as they come; how many there were."""
    count = 0
    async for batch in ring:
        traded = batch.mbo[batch.mbo["action"] == b"T"]
        count += len(traded)
        for trade in traded[:3]:
            print(f"trade {batch.symbol_of(trade['instrument_id'])} {trade['size']} at {trade['price'] / UNIT:.2f}")
    return count


async def board(ring: barewire.Ring) -> tuple[int, int]:
    """Prints the quotes that changed, twice a second; how many rows that were, for how many updates."""
    rows = updates = 0
    async for batch in ring:
        quotes = batch.bbo
        both = quotes[(quotes["bid_size"] > 0) & (quotes["ask_size"] > 0)]
        rows += len(quotes)
        assert batch.updates is not None  # as the ring was asked for the latest quotes only
        assert batch.stale is not None
        updates += int(batch.updates.sum())
        for quote in both[:3]:
            symbol = batch.symbol_of(quote["instrument_id"])
            print(f"quote {symbol} {quote['bid_price'] / UNIT:.2f} to {quote['ask_price'] / UNIT:.2f}")
        if len(batch.stale):
            print("lost some; perhaps outdated:", [batch.symbol_of(number) for number in batch.stale])
        await asyncio.sleep(0.5)
    return rows, updates


async def main(name: str, seconds: float) -> None:
    """Both at once, for a while."""
    one = barewire.Ring.attach(name, kinds=["mbo"])
    two = barewire.Ring.attach(name, conflate=True)
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, one.stop)
    loop.call_later(seconds, two.stop)
    count, (rows, updates) = await asyncio.gather(trades(one), board(two))
    print(f"{count} trades; {updates} quotes in {rows} rows")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10.0))
