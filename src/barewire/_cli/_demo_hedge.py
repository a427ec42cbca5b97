"""The end of `barewire demo`: a pair hedged through the old receive path and the new, as quick as they are here."""

from __future__ import annotations

import os
from typing import Any

from .._errors import BarewireError
from ._terminal import table_text

__all__ = ["hedge", "hedge_text"]

_PAIR = ("AAPL", "MSFT")
_SEEDS = range(1, 7)
_SESSION_S = 3.0
_RATE, _PER_PACKET, _RUN_S, _RUNS = 50_000, 10, 0.1, 8  # short: of many, some are undisturbed
_TRIMMED = 0.01  # the worst hundredth: on a shared machine it is mostly the host's


def hedge() -> dict[str, Any]:
    """Measures both paths, and hedges a simulated pair with what came of it.

    `paths`: two rows of `path`, `mean_us`, `stddev_us`, `hedge_error_pct`, `failed_pct`, the last two with mean and
    confidence interval; `measured`, or why not.
    """
    from .._study import model
    from .._study.latency import of_ccdf, of_mean
    from .._study.session import Market

    try:
        measured, disturbed = _measured()
        (before, after), why = [of_ccdf(name, ccdf) for name, ccdf in measured], None
    except (BarewireError, OSError) as error:
        before, after, why, disturbed = of_mean(250, 45), of_mean(22, 3), str(error), []
    plan = model.Plan(before, after, strategies=("pairs",), pair=_PAIR, seeds=_SEEDS, market=Market(seconds=_SESSION_S))
    found = model.summary(model.run(plan), ("hedge_error_pct", "failed_pct"))
    rows = [
        {
            "path": latency.name,
            "mean_us": latency.mean_ns / 1e3,
            "stddev_us": latency.deviation_ns / 1e3,
            **{name: found[name][role] for name in found},
        }
        for role, latency in (("before", before), ("after", after))
    ]
    return {
        "pair": list(_PAIR),
        "paths": rows,
        "measured": why is None,
        "not_measured_because": why,
        "disturbed": disturbed,
    }


def _measured() -> tuple[list[tuple[str, list[tuple[float, float]]]], list[str]]:
    """The latencies of the old path and of the best one there is here, without the worst hundredth.

    And those paths of which the host, or another process, disturbed every run.
    """
    from . import _latency

    bypass = ("af_xdp", "kernel") if os.geteuid() == 0 else ("kernel",)
    scene = _latency.open_scene(",".join(("legacy", *bypass)), None)
    if "legacy" not in scene.paths or len(scene.paths) < 2:
        raise BarewireError("too few receive paths can be opened here")
    best = next(path for path in bypass if path in scene.paths)
    scene.paths = ("legacy", best)
    rows = _latency.latencies(scene, _RATE, _RUN_S, _RUNS, _PER_PACKET)
    kept = 1 - _TRIMMED
    ccdfs = [
        (row["path"], [((above - _TRIMMED) / kept, us) for above, us in row["ccdf"] if above >= _TRIMMED])
        for row in rows
    ]
    return ccdfs, [row["path"] for row in rows if row["inconclusive"]]


def hedge_text(found: dict[str, Any]) -> str:
    """A few lines for people."""
    first, second = found["pair"]
    rows = [
        (
            row["path"],
            f"{row['mean_us']:.1f}",
            f"{row['stddev_us']:.1f}",
            *(f"{row[name]['mean']:.{digits}f}" for name, digits in (("hedge_error_pct", 2), ("failed_pct", 1))),
        )
        for row in found["paths"]
    ]
    where = "measured on this machine just now, without the worst hundredth"
    if not found["measured"]:
        where = f"of the deployment that this rebuilds, for here none can be had ({found['not_measured_because']})"
    if found["disturbed"]:
        where += f"; others had the cores while {' and '.join(found['disturbed'])} ran, so that these say little"
    table = table_text(("path", "mean us", "stddev us", "hedge ratio off by %", "failed hedges %"), rows)
    return (
        f"\n{first} hedged with {second}, in a simulated volatile minute, by quotes that arrive as late as they do "
        f"here:\n{table}\nLatencies: {where}. 'barewire study' says more."
    )
