"""What a study found, as text, as JSON, and as one page that refers to nothing else."""

from __future__ import annotations

import html
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .model import INTERVALS_NS, Study, mean_of, summary
from .pairs import expected_error_pct

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["as_json", "as_page", "assumptions", "rows"]

# Figure, label, digits.
_ROWS = {
    "pairs": (
        ("hedge_error_pct", "hedge ratio's error, %", 2),
        ("true_error_pct", "its distance from the true ratio, %", 1),
        ("fills", "fills to hedge", 0),
        ("failed_pct", "failed hedges, %", 1),
        ("hedge_slip_bp", "a hedge's cost, bp", 3),
        ("pair_pnl_bp", "P&L a fill, bp", 3),
    ),
    "arbitrage": (
        ("opportunities", "opportunities", 0),
        ("attempts", "orders for what was seen", 0),
        ("phantom", "of these, too late", 0),
        ("lost_to_rivals", "of these, a rival was first", 0),
        ("one_legged", "of these, one leg only", 0),
        ("captured", "captured", 0),
        ("captured_pct", "captured, %", 1),
        ("arbitrage_pnl", "P&L a session", 0),
    ),
}


def rows(study: Study) -> list[tuple[str, str, str, str]]:
    """The table: what, before, after, difference, each with its confidence interval."""
    found = summary(study, study.figures)
    made = []
    for strategy in study.plan.strategies:
        for name, label, digits in _ROWS[strategy]:
            if name not in found:
                continue
            cells = [_cell(found[name][part], digits) for part in ("before", "after", "difference")]
            made.append((label, cells[0], cells[1], cells[2]))
    return made


def _cell(value: dict[str, float], digits: int) -> str:
    if not math.isfinite(value["mean"]):
        return "-"
    text = f"{value['mean']:,.{digits}f}"
    if not math.isfinite(value["low"]):
        return text
    return f"{text} [{value['low']:,.{digits}f}, {value['high']:,.{digits}f}]"


def assumptions(study: Study) -> list[str]:
    """Everything that the figures rest on, a sentence each."""
    plan, pair, arbitrage = study.plan, study.plan.pair_rules, study.plan.arbitrage_rules
    lines = []
    for role, latency in (("before", plan.before), ("after", plan.after)):
        lines.append(
            f"Latency {role}: {latency.family}, mean {latency.mean_ns / 1e3:.1f} us, standard deviation "
            f"{latency.deviation_ns / 1e3:.1f} us, p99 {float(latency.quantile(0.99)) / 1e3:.1f} us."
        )
        if latency.burst_loss:
            lines.append(
                f"Losses {role}: {100 * latency.burst_loss:g}% of the quotes in the busiest twentieth of milliseconds."
            )
    lines += [
        f"Quotes less than {plan.before.correlation_ns / 1e3:g} us apart meet the same queue, and have latencies that "
        "are alike. Each instrument and venue has a feed, and so a queue, of its own; no quote overtakes another.",
        f"An order takes {pair.order_ns / 1e3:g} us to a venue's book, and its answer comes by the feed's path.",
    ]
    if plan.session is None:
        market = plan.market
        a_minute = market.volatility / 100 * _A_MINUTE_BP
        lines.append(
            f"Sessions: {len(plan.seeds)} simulated ones of {market.seconds:g} s, a seed each, at {market.volatility}% "
            f"of the usual volatility (the market moves by {a_minute:.0f} bp in a minute, in bursts). The second venue "
            f"follows {market.venue_lag_ns / 1e3:g} us after the first, instruments up to "
            f"{market.instrument_lag_ns / 1e3:g} us after the most traded one; prices are quoted in cents."
        )
    else:
        lines.append(
            f"Session: a recording of {plan.session.span_ns / 1e9:.3g} s. Seeds ({len(plan.seeds)}) are of the "
            "latencies alone, so the intervals say nothing of other days. Recorded times count as the venues' own."
        )
    if "pairs" in plan.strategies:
        lines += [
            f"Pair: the ratio is the slope of {plan.pair[0]}'s returns on {plan.pair[1]}'s over "
            f"{pair.interval_ns / 1e6:g} ms, from middles as they were seen; its error is its distance from the same "
            "slope with no latency at all. What all quotes are late by is no error.",
            f"Fills come when the market moves through a resting order in {plan.pair[0]}, at most one in "
            f"{pair.apart_ns / 1e6:g} ms. Each is hedged with an order at the price that was last seen; it fails where "
            f"that price has gone, and is then repeated at any price. Positions are valued after "
            f"{pair.hold_ns / 1e6:g} ms; own orders move nothing; {pair.fee:g} a share for the hedge.",
        ]
    if "arbitrage" in plan.strategies:
        rival = f"after {arbitrage.rival_ns / 1e3:g} us on average (exponential)" if arbitrage.rival_ns else "never"
        lines.append(
            f"Arbitrage: {plan.pair[0]} is bought where it is asked for less than is bid for it elsewhere, by more "
            f"than fees of {arbitrage.fee:g} a share and leg. Both orders arrive together and are filled as far as the "
            "quotes' sizes go, if these are still there; a single leg is undone at the spread. Somebody else takes an "
            f"opportunity {rival}."
        )
    lines.append("Brackets: 95% confidence of the mean over seeds (bootstrap). Differences are within each seed.")
    return lines


_A_MINUTE_BP = 1e4 * 0.01 * math.sqrt(60 / (2**45 / 1e9))


def as_json(study: Study) -> dict[str, Any]:
    """Everything, for programs."""
    plan = study.plan
    latencies = {
        role: {
            "name": latency.name,
            "family": latency.family,
            "mean_us": latency.mean_ns / 1e3,
            "stddev_us": latency.deviation_ns / 1e3,
            "p50_us": float(latency.quantile(0.5)) / 1e3,
            "p99_us": float(latency.quantile(0.99)) / 1e3,
        }
        for role, latency in (("before", plan.before), ("after", plan.after))
    }
    return {
        "latency": latencies,
        "strategies": list(plan.strategies),
        "pair": list(plan.pair),
        "seeds": list(plan.seeds),
        "true_hedge_ratio": study.true_ratio,
        "results": _finite(summary(study, study.figures)),
        "hedge_error_pct_by_interval_us": {
            str(ns // 1000): {"before": mean_of(found[:, 0]), "after": mean_of(found[:, 1])}
            for ns, found in study.by_interval.items()
        },
        "assumptions": assumptions(study),
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not known is null."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_page(study: Study) -> str:
    """The HTML page. Needs matplotlib."""
    found = summary(study, study.figures)
    table = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows(study))
    stated = "".join(f"<li>{html.escape(line)}</li>" for line in assumptions(study))
    plan = study.plan
    title = f"What latency is worth: {plan.before.name} against {plan.after.name}"
    lead = ""
    if "hedge_error_pct" in found:
        errors = found["hedge_error_pct"]
        lead = (
            f"The hedge ratio of {plan.pair[0]} and {plan.pair[1]} is off by {errors['before']['mean']:.2f}% because "
            f"quotes come when they come; after, by {errors['after']['mean']:.2f}%."
        )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        "<style>body{font-family:sans-serif;margin:2em;max-width:70em}td,th{text-align:left;padding:.2em 1.5em .2em 0}"
        "svg{max-width:100%;height:auto}li{margin:.3em 0}</style></head>"
        f"<body><h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>"
        f"<table><tr><th></th><th>before</th><th>after</th><th>difference</th></tr>{table}</table>"
        f"{_svg(_figure(study))}<h2>What this rests on</h2><ul>{stated}</ul></body></html>\n"
    )


def _svg(figure: Figure) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    text = drawn.getvalue()
    return text[text.index("<svg") :]


def _figure(study: Study) -> Figure:
    from matplotlib.figure import Figure

    pairs, arbitrage = ("pairs" in study.plan.strategies, "arbitrage" in study.plan.strategies)
    count = 1 + 2 * pairs + arbitrage
    figure = Figure(figsize=(11, 4 * ((count + 1) // 2)), layout="constrained")
    axes = figure.subplots((count + 1) // 2, 2, squeeze=False).ravel()
    panels = [
        _draw_latency,
        *([_draw_errors, _draw_intervals] if pairs else []),
        *([_draw_captured] if arbitrage else []),
    ]
    for panel, on in zip(panels, axes, strict=False):
        panel(on, study)
        on.grid(alpha=0.25)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    return figure


def _draw_latency(axes: Axes, study: Study) -> None:
    above = np.logspace(0, -4, 200)
    for role, latency in (("before", study.plan.before), ("after", study.plan.after)):
        axes.plot(np.maximum(latency.quantile(1 - above) / 1e3, 1e-3), above, label=f"{role}: {latency.name}")
    axes.set(xscale="log", yscale="log", xlabel="latency, us", ylabel="share that takes longer", title="Latency")
    axes.legend()


def _draw_errors(axes: Axes, study: Study) -> None:
    found = study.figures["hedge_error_pct"]
    axes.plot(found.T, color="0.7", linewidth=0.7)
    for place, part in enumerate(("before", "after")):
        interval = summary(study, ["hedge_error_pct"])["hedge_error_pct"][part]
        axes.plot([place, place], [interval["low"], interval["high"]], color="C3", linewidth=4)
        axes.plot([place], [interval["mean"]], "o", color="C3")
    axes.set(xticks=[0, 1], ylabel="percent", title="Error of the hedge ratio; each line a session")
    axes.set_xticklabels(["before", "after"])


def _draw_intervals(axes: Axes, study: Study) -> None:
    milliseconds = [ns / 1e6 for ns in INTERVALS_NS]
    for place, (role, latency) in enumerate((("before", study.plan.before), ("after", study.plan.after))):
        errors = [mean_of(study.by_interval[ns][:, place]) for ns in INTERVALS_NS]
        axes.plot(milliseconds, errors, "o-", color=f"C{place}", label=role)
        expected = [expected_error_pct(latency, ns) for ns in INTERVALS_NS]
        axes.plot(milliseconds, expected, "--", color=f"C{place}", label=f"{role}, if prices were continuous")
    axes.set(xscale="log", yscale="log", xlabel="sampling interval, ms", ylabel="percent")
    axes.set_xticks(milliseconds, [f"{value:g}" for value in milliseconds])
    axes.set_xticks([], minor=True)
    axes.set_title("Error of the hedge ratio by sampling interval")
    axes.legend()


def _draw_captured(axes: Axes, study: Study) -> None:
    found = [column[np.isfinite(column)] for column in study.figures["captured_pct"].T]
    axes.boxplot(found, positions=[0, 1])
    axes.set(xticks=[0, 1], ylabel="percent", title="Opportunities captured; a session each", ylim=(0, 100))
    axes.set_xticklabels(["before", "after"])
