"""Quotes of several venues: recorded, or simulated with what is true of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._defaults import DEFAULT_PROTOCOL
from .._errors import ConfigError
from .._records import UNDEF_PRICE

if TYPE_CHECKING:
    import numpy.typing as npt

    from .._core import Simulator

__all__ = ["DEFAULT_PAIR", "LISTED", "Market", "Quotes", "Session", "Truth", "recorded", "simulated", "simulator"]

DEFAULT_PAIR = ("AAPL", "MSFT")
LISTED = 100
"""Instruments that are listed in the order of their activity, among which a pair is looked for."""
_OPEN_NS = 34_200 * 10**9  # 09:30, of a day of which midnight is 0
_CLOSE_NS = 57_600 * 10**9  # 16:00
_PRICE = 1e-9


@dataclass(frozen=True, slots=True)
class Quotes:
    """The best bid and offer of one instrument at one venue, as it changed. All arrays have shape (n,).

    Attributes:
        ns: when, by the venue or on the wire; ns since the session's begin, int64, ascending.
        bid, ask: in the currency, float64.
        bid_size, ask_size: shares, int64.
    """

    ns: npt.NDArray[np.int64]
    bid: npt.NDArray[np.float64]
    ask: npt.NDArray[np.float64]
    bid_size: npt.NDArray[np.int64]
    ask_size: npt.NDArray[np.int64]

    @property
    def mid(self) -> npt.NDArray[np.float64]:
        """The middle."""
        return (self.bid + self.ask) / 2

    def __len__(self) -> int:
        return len(self.ns)


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a simulated session.

    Attributes:
        hedge_ratio: return of the pair's first instrument that one return of its second explains.
        lags_ns: how much later than prices move each venue's quotes follow, by venue and symbol.
    """

    hedge_ratio: float
    lags_ns: tuple[dict[str, int], ...]


@dataclass(frozen=True, slots=True)
class Session:
    """Some seconds of trading: `venues[v][symbol]`.

    Attributes:
        venues: the quotes.
        span_ns: from the session's begin to its end.
        truth: only of a simulated one.
    """

    venues: tuple[dict[str, Quotes], ...]
    span_ns: int
    truth: Truth | None = None


@dataclass(frozen=True, slots=True)
class Market:
    """What is simulated.

    Attributes:
        seconds: of trading.
        volatility: percent of the usual; at 100 the market moves by 1% in ten hours.
        rate: messages a second and venue in calm times.
        venue_lag_ns: how much later than the first venue the second one follows.
        instrument_lag_ns: how much later the slowest instrument follows than the first.
        instruments: how many are listed.
        live_orders: about how many rest at a venue.
    """

    seconds: float = 10.0
    volatility: int = 1000
    rate: int = 5_000
    venue_lag_ns: int = 300_000
    instrument_lag_ns: int = 20_000
    instruments: int = 2
    live_orders: int = 1_000


def simulator(market: Market, seed: int, venue: int, **options: Any) -> Simulator:
    """One venue of a simulated market, numbered from 1."""
    from .._cli.sim import simulator_config

    return _core.Simulator(
        simulator_config(
            seed=seed,
            instruments=market.instruments,
            live_orders=market.live_orders,
            trading_ns=round(market.seconds * 1e9),
            simulated_rate=market.rate,
            volatility=market.volatility,
            venue={
                "number": venue,
                "lag_ns": (venue - 1) * market.venue_lag_ns,
                "instrument_lag_ns": market.instrument_lag_ns,
            },
            **options,
        )
    )


def hedge_ratio(truth: Sequence[dict[str, Any]], first: str, second: str) -> float:
    """What a move of `second` says of one of `first`, from what moves them; sectors move half as much as the market."""
    by_symbol = {row["symbol"]: row for row in truth}
    missing = [symbol for symbol in (first, second) if symbol not in by_symbol]
    if missing:
        raise ConfigError(f"--pair: {missing[0]} is not simulated; expected two of: {', '.join(by_symbol)}")
    a, b = by_symbol[first], by_symbol[second]
    together = a["beta"] * b["beta"]
    if a["sector"] == b["sector"]:
        together += 0.25 * a["sector_beta"] * b["sector_beta"]
    return float(together / (b["beta"] ** 2 + 0.25 * b["sector_beta"] ** 2 + b["own"] ** 2))


def simulated(market: Market, seed: int, pair: tuple[str, str], venues: int = 2) -> Session:
    """A session from its seed, through the exchange simulator and the engine's books. Raises ConfigError."""
    found, lags, ratio = [], [], 0.0
    with tempfile.TemporaryDirectory(prefix="barewire-study-") as folder:
        for venue in range(1, venues + 1):
            path = Path(folder) / f"{venue}.bin"
            made = simulator(market, seed, venue, binaryfile=str(path))
            truth = made.truth()
            ratio = hedge_ratio(truth, *pair)
            lags.append({row["symbol"]: int(row["lag_ns"]) for row in truth})
            made.run()
            found.append(_quotes(path, pair, DEFAULT_PROTOCOL))
            path.unlink()
    return Session(tuple(found), round(market.seconds * 1e9), Truth(ratio, tuple(lags)))


def recorded(
    files: Sequence[str | os.PathLike[str]],
    pair: tuple[str, str],
    protocol: str,
    date: str | None = None,
    wanted: Sequence[Sequence[str]] | None = None,
) -> Session:
    """A session from a file a venue: its market hours, 09:30 to 16:00, where the file or `date` says which day it is.

    `wanted` are the symbols that are looked at in each file; left out: both in all.

    Raises ConfigError, ProtocolError, FormatError, OSError.
    """
    wanted = [pair] * len(files) if wanted is None else wanted
    venues = tuple(_quotes(file, of, protocol, date=date) for file, of in zip(files, wanted, strict=True))
    for file, venue, symbols in zip(files, venues, wanted, strict=True):
        for symbol in symbols:
            if symbol not in venue or len(venue[symbol]) < 2:
                expected = "an instrument that is quoted there"
                raise ConfigError(f"--pair: {symbol} has no quotes in {os.fspath(file)}; expected {expected}")
    begin = max(int(quotes.ns[0]) for venue in venues for quotes in venue.values())
    end = min(int(quotes.ns[-1]) for venue in venues for quotes in venue.values())
    if end <= begin:
        raise ConfigError("FILE_A FILE_B: expected recordings of the same time; theirs do not overlap")
    moved = tuple({symbol: _within(quotes, begin, end) for symbol, quotes in venue.items()} for venue in venues)
    return Session(moved, end - begin)


def _within(quotes: Quotes, begin: int, end: int) -> Quotes:
    first = max(int(np.searchsorted(quotes.ns, begin, "right")) - 1, 0)
    last = int(np.searchsorted(quotes.ns, end, "right"))
    cut = slice(first, last)
    return Quotes(
        np.maximum(quotes.ns[cut] - begin, 0),
        quotes.bid[cut],
        quotes.ask[cut],
        quotes.bid_size[cut],
        quotes.ask_size[cut],
    )


def _quotes(
    source: str | os.PathLike[str],
    symbols: Sequence[str],
    protocol: str,
    date: str | None = None,
) -> dict[str, Quotes]:
    """Two-sided quotes in market hours; by the time of receipt where the file has it, else by the venue's."""
    from .. import _time
    from .._replay import replay

    opened = replay(source, protocol=protocol, records="bbo", symbols=symbols, date=date, batch_records=1 << 16)
    parts = [batch.bbo for batch in opened]
    found: dict[str, Quotes] = {}
    if not parts:
        return found
    records: npt.NDArray[np.void] = np.concatenate(parts)
    times = records["ts_recv"] if np.all(records["ts_source"] != 0) else records["ts_event"]
    times = times.astype(np.int64)
    begin_ns = _OPEN_NS + (0 if opened.date is None else _time.midnight_ns(opened.date))
    times -= begin_ns
    whole = (records["bid_price"] != UNDEF_PRICE) & (records["ask_price"] != UNDEF_PRICE)
    whole &= (times >= 0) & (times < _CLOSE_NS - _OPEN_NS)
    for number in np.unique(records["instrument_id"]):
        rows = records[whole & (records["instrument_id"] == number)]
        at = times[whole & (records["instrument_id"] == number)]
        found[opened.symbols.of(int(number))] = Quotes(
            at,
            rows["bid_price"] * _PRICE,
            rows["ask_price"] * _PRICE,
            rows["bid_size"].astype(np.int64),
            rows["ask_size"].astype(np.int64),
        )
    return found
