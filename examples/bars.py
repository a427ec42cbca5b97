"""One-second bars of a file, as Parquet: python examples/bars.py FILE YYYY-MM-DD OUT.parquet."""

import sys

import polars as pl

import barewire


def bars(path: str, date: str) -> pl.DataFrame:
    """Open, high, low, close (1e-9 dollars), volume and number of trades of every instrument and second."""
    found = []
    for batch in barewire.replay(path, protocol="itch-5.0", date=date, records="mbo"):
        trades = batch.to_polars("mbo").filter(pl.col("action") == "T")
        found.append(trades.select("ts_event", "symbol", "price", "size"))
    second = pl.col("ts_event").cast(pl.Int64) // 1_000_000_000
    return (
        pl.concat(found)
        .group_by("symbol", second.alias("second"), maintain_order=True)
        .agg(
            pl.col("price").first().alias("open"),
            pl.col("price").max().alias("high"),
            pl.col("price").min().alias("low"),
            pl.col("price").last().alias("close"),
            pl.col("size").sum().alias("volume"),
            pl.len().alias("trades"),
        )
    )


if __name__ == "__main__":
    table = bars(sys.argv[1], sys.argv[2])
    table.write_parquet(sys.argv[3])
    print(table)
