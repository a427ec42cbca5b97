"""`barewire study`: what latency is worth to a strategy, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._defaults import DEFAULT_PROTOCOL
from .._errors import ConfigError
from ._options import JsonOption, ProtocolOption
from ._terminal import note, print_json, table_text

if TYPE_CHECKING:
    from .._study.model import Plan, Study
    from .._study.session import Market, Session

__all__ = ["study"]

_MOST_SEEDS = 1000


def study(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE_A [FILE_B]]", help="Recordings, one a venue; left out: simulated sessions."),
    ] = None,
    before: Annotated[
        str, typer.Option(help="Latency: MEAN/DEVIATION, or JSON of 'barewire bench latency' (FILE:PATH chooses).")
    ] = "250us/45us",
    after: Annotated[str, typer.Option(help="The same, for what it is compared with.")] = "22us/3us",
    strategy: Annotated[str, typer.Option(help="pairs, arbitrage or both.")] = "both",
    pair: Annotated[str, typer.Option(help="Two instruments; the first is the one that is arbitraged.")] = "AAPL,MSFT",
    seeds: Annotated[int, typer.Option(min=2, max=_MOST_SEEDS, help="How many sessions.")] = 20,
    duration: Annotated[float, typer.Option("--duration", "-d", min=0.5, max=3600, help="Seconds a session.")] = 10.0,
    volatility: Annotated[
        int, typer.Option(min=1, max=1000, help="Percent of the usual; 1000 is a wild minute.")
    ] = 1000,
    venue_lag: Annotated[float, typer.Option(min=0, max=1e6, help="Microseconds by which venue 2 follows.")] = 300.0,
    interval: Annotated[
        float, typer.Option(min=0.05, max=10_000, help="Milliseconds between the returns that give the hedge ratio.")
    ] = 1.0,
    order_latency: Annotated[float, typer.Option(min=0, help="Microseconds from a decision to the book.")] = 15.0,
    rival: Annotated[float, typer.Option(min=0, help="Mean microseconds until a rival is there; 0: never.")] = 200.0,
    fee: Annotated[float, typer.Option(min=0, help="Of the currency, a share and leg.")] = 0.003,
    correlation: Annotated[float, typer.Option(min=1, help="Microseconds over which latencies are alike.")] = 200.0,
    before_loss: Annotated[
        float, typer.Option(min=0, max=100, help="Percent of quotes lost in the busiest milliseconds, before.")
    ] = 0.0,
    protocol: ProtocolOption = DEFAULT_PROTOCOL,
    date: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The recordings' trading day.")] = None,
    report: Annotated[Path | None, typer.Option("--report", "-o", help="Write a page with plots here (HTML).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two latencies by what a strategy makes of them: hedge errors, opportunities, P&L, with confidence.

    Without files, two venues that follow one path of prices are simulated, a session a seed. Every assumption is
    printed.
    """
    from .._study import latency as latencies
    from .._study import model
    from .._study import report as reports
    from .._study.arbitrage import ArbitrageRules
    from .._study.pairs import PairRules
    from .._study.session import Market

    if report is not None:
        _require_matplotlib()
        _check_writable(report)
    names = _strategies(strategy)
    options = {"correlation_ns": 1e3 * correlation}
    order_ns = round(1e3 * order_latency)
    market = Market(seconds=duration, volatility=volatility, venue_lag_ns=round(1e3 * venue_lag))
    symbols = _pair(pair)
    plan = model.Plan(
        latencies.parse_latency("--before", before, "before", burst_loss=before_loss / 100, **options),
        latencies.parse_latency("--after", after, "after", **options),
        strategies=names,
        pair=symbols,
        seeds=range(1, seeds + 1),
        market=_with_room(market, symbols) if not files else market,
        session=_recorded(files, symbols, protocol, date, names),
        pair_rules=PairRules(interval_ns=round(1e6 * interval), order_ns=order_ns, fee=fee),
        arbitrage_rules=ArbitrageRules(order_ns=order_ns, fee=fee, rival_ns=1e3 * rival),
    )
    found = model.run(plan, lambda done, of: note(f"session {done} of {of}"))
    if report is not None:
        report.write_text(reports.as_page(found), encoding="utf-8")
        note(f"wrote {report}")
    print_json(reports.as_json(found)) if as_json else print(_text(found))


def _text(found: Study) -> str:
    from .._study import report as reports

    plan: Plan = found.plan
    columns = ("", f"before: {plan.before.name}", f"after: {plan.after.name}", "difference")
    stated = "\n".join(f"- {line}" for line in reports.assumptions(found))
    true = "" if found.true_ratio is None else f"\nThe true hedge ratio is {found.true_ratio:.4f}."
    return f"{table_text(columns, reports.rows(found))}\n{true}\n{stated}"


def _strategies(text: str) -> tuple[str, ...]:
    from .._study.model import STRATEGIES

    chosen = STRATEGIES if text == "both" else (text,)
    if set(chosen) - set(STRATEGIES):
        expected = f"{', '.join(STRATEGIES)} or both"
        raise ConfigError(f"--strategy {text!r}: expected {expected}", key="--strategy", value=text, expected=expected)
    return chosen


def _pair(text: str) -> tuple[str, str]:
    symbols = tuple(part.strip() for part in text.split(","))
    if len(symbols) != 2 or not all(symbols) or symbols[0] == symbols[1]:
        expected = "two symbols such as AAPL,MSFT"
        raise ConfigError(f"--pair {text!r}: expected {expected}", key="--pair", value=text, expected=expected)
    return symbols[0], symbols[1]


def _with_room(market: Market, pair: tuple[str, str]) -> Market:
    """As many instruments as it takes to have both: they are listed in the order of their activity."""
    from dataclasses import replace

    from .._study.session import LISTED, simulator

    rows = [row["symbol"] for row in simulator(replace(market, instruments=LISTED), 1, 1).truth()]
    missing = [symbol for symbol in pair if symbol not in rows]
    if missing:
        raise ConfigError(f"--pair: {missing[0]} is not simulated; expected two of: {', '.join(rows[:12])}, ...")
    count = max(rows.index(symbol) for symbol in pair) + 1
    return replace(market, instruments=count, live_orders=500 * count, rate=2_500 * count)


def _recorded(
    files: list[Path] | None, pair: tuple[str, str], protocol: str, date: str | None, names: tuple[str, ...]
) -> Session | None:
    from .._study.session import recorded

    if not files:
        return None
    if len(files) > 2:
        raise ConfigError(f"FILE: found {len(files)}; expected one for each of at most two venues")
    if "arbitrage" in names and len(files) != 2:
        raise ConfigError("FILE_B: expected a second venue's recording; --strategy pairs needs one only")
    # The pair's legs are one in each file, as `legs` of the study takes them; what is arbitraged is in both.
    wanted = [set[str]() for _ in files]
    if "pairs" in names:
        wanted[0].add(pair[0])
        wanted[-1].add(pair[1])
    if "arbitrage" in names:
        for symbols in wanted:
            symbols.add(pair[0])
    return recorded(files, pair, protocol, date, [sorted(symbols) for symbols in wanted])


def _check_writable(report: Path) -> None:
    """Before minutes of work whose result could not be written. Raises OSError."""
    is_new = not report.exists()
    with report.open("a", encoding="utf-8"):
        pass
    if is_new:
        report.unlink()


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError("--report needs matplotlib: pip install 'barewire[plot]'") from None
