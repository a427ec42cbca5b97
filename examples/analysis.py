"""A capture as a notebook would look at it, cell by cell: python examples/analysis.py [FILE YYYY-MM-DD].

Without a file, a simulated morning is made first.
"""

# %% A file: of your own, or made here
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

import barewire

date: str | None = None
if len(sys.argv) > 2:
    path, date = Path(sys.argv[1]), sys.argv[2]
else:
    path = Path(tempfile.mkdtemp()) / "morning.pcap"
    command = [str(Path(sys.executable).with_name("barewire")), "sim", "--no-send", "--pcap", str(path)]
    subprocess.run(
        [*command, "--messages", "50k", "--instruments", "20", "--rate", "20k"], check=True, capture_output=True
    )

# %% Every record, a frame a kind. Prices are integers in 1e-9 of the currency, times in ns since 1970.
replay = barewire.replay(path, protocol="itch-5.0", date=date)
records = np.concatenate([batch.records for batch in replay])
day = barewire.Batch(records, 0, replay.symbols)
quotes, orders = day.to_polars("bbo"), day.to_polars("mbo")
print(quotes.head(3), orders.height, "order events")

# %% Spread in basis points of the mid price, weighted by how long each quote stood
price = 1e-9
spreads = (
    quotes.drop_nulls(["bid_price", "ask_price"])
    .with_columns(
        stood=pl.col("ts_event").cast(pl.Int64).diff().shift(-1).over("symbol"),
        mid=(pl.col("bid_price") + pl.col("ask_price")) / 2,
        spread=pl.col("ask_price") - pl.col("bid_price"),
    )
    .drop_nulls("stood")
    .group_by("symbol")
    .agg(
        quotes=pl.len(),
        spread_bp=(pl.col("spread") / pl.col("mid") * 1e4 * pl.col("stood")).sum() / pl.col("stood").sum(),
    )
    .sort("spread_bp")
)
print(spreads)

# %% What was traded, and on whose initiative
trades = orders.filter(pl.col("action") == "T")
volume = (
    trades.group_by("symbol")
    .agg(
        trades=pl.len(),
        shares=pl.col("size").sum(),
        vwap=(pl.col("price") * price * pl.col("size")).sum() / pl.col("size").sum(),
        bought=(pl.col("size") * (pl.col("side") == "B")).sum() / pl.col("size").sum(),
    )
    .sort("shares", descending=True)
)
print(volume)

# %% Does the heavier side of the quote say where the mid price goes next?
ahead = 10  # quotes of the same instrument
signal = (
    quotes.drop_nulls(["bid_price", "ask_price"])
    .with_columns(mid=(pl.col("bid_price") + pl.col("ask_price")) / 2)
    .with_columns(
        imbalance=(pl.col("bid_size").cast(pl.Int64) - pl.col("ask_size").cast(pl.Int64))
        / (pl.col("bid_size").cast(pl.Int64) + pl.col("ask_size").cast(pl.Int64)),
        moved=pl.col("mid").shift(-ahead).over("symbol") - pl.col("mid"),
    )
    .drop_nulls("moved")
    .with_columns(bucket=(pl.col("imbalance") * 2).round(0) / 2)
    .group_by("bucket")
    .agg(quotes=pl.len(), moved_bp=(pl.col("moved") / pl.col("mid") * 1e4).mean())
    .sort("bucket")
)
print(signal)
