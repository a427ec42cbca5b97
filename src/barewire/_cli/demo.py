"""`barewire demo`: an exchange, a feed and a strategy, on this machine alone."""

from __future__ import annotations

import random
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._errors import ConfigError
from ._options import JsonOption, number
from ._terminal import count_text, print_json, warn

if TYPE_CHECKING:
    from .._feed import Feed

__all__ = ["demo"]

_INSTRUMENTS = 24
_LIVE_ORDERS = 20_000
_LONGEST_S = 50.0
_PAIR = ("GOOGL", "GOOG")  # two share classes of one company: what moves one moves the other


def demo(
    duration: Annotated[float, typer.Option("--duration", "-d", help="Seconds, 1 to 50.")] = 15.0,
    rate: Annotated[str, typer.Option(help="Messages a second: 200k.")] = "200k",
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same messages.")] = 1,
    live: Annotated[
        bool | None, typer.Option("--live/--plain", help="A live table, or lines. Left out: a table on a terminal.")
    ] = None,
    hedge: Annotated[
        bool, typer.Option("--hedge/--no-hedge", help="End with a hedge, through the old receive path and the new.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """See the whole thing work: simulated exchange, multicast on loopback, books, a Python strategy. Ends by itself."""
    from .. import _core
    from .._feed import Feed
    from .._strategy import Dispatcher
    from ._demo_strategy import PairSpread
    from ._watch import Watch, json_lines, live_view, plain_lines
    from .sim import simulator_config

    if not 1 <= duration <= _LONGEST_S:
        raise ConfigError(f"--duration {duration:g}: expected 1 to {_LONGEST_S:g} seconds")
    lines = _free_lines()
    simulator = _core.Simulator(
        simulator_config(
            seed=seed,
            instruments=_INSTRUMENTS,
            live_orders=_LIVE_ORDERS,
            rate=float(number("--rate", rate, 1)),
            duration_ns=round(duration * 1e9),
            real_time=True,
            lines=[{key: line[key] for key in ("group", "port", "interface")} for line in lines],
        )
    )
    feed = Feed.from_config(
        {
            "feed": {"name": "demo", "protocol": "itch-5.0"},
            "lines": lines,
            "ring": {"capacity": 1 << 18},
            "book": {"instruments": 64, "orders": 4 * _LIVE_ORDERS, "levels": 1 << 14},
        },
        digest=as_json,
    )
    on_terminal = sys.stdout.isatty() if live is None else live
    if not as_json:
        where = " and ".join(f"{line['group']}:{line['port']}" for line in lines)
        print(f"A simulated exchange sends {rate} ITCH 5.0 messages a second to {where} on lo, as A and B line.")
        print(f"A feed builds the books, and a Python strategy watches two of them. {duration:g} seconds.", flush=True)
    view = json_lines() if as_json else live_view("Best bid and offer") if on_terminal else plain_lines(books=3)
    report: dict[str, Any] = {}
    interrupted = False
    with ExitStack() as stack:
        watch = Watch(feed, stack.enter_context(view), 0.25 if on_terminal and not as_json else 1.0)
        strategy = PairSpread(watch.said.append, _PAIR)
        dispatch = Dispatcher(strategy, feed.symbols, feed.config.feed.records)
        stack.enter_context(feed)
        simulator.start()
        try:
            # The feed ends when the exchange ends the session; the limit is for an exchange that never does.
            watch.run(dispatch.batch, duration + 5)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            report = simulator.stop()
            feed.stop()
    _conclude(feed, watch, strategy, report, as_json, hedge and not interrupted)
    if interrupted:
        raise typer.Exit(130)


def _free_lines() -> list[dict[str, Any]]:
    """An A and a B line on multicast groups of this machine's own, and on ports that nobody uses."""
    group = f"239.255.{random.randint(65, 254)}"
    lines = []
    with ExitStack() as stack:
        for number_, name in enumerate("AB", 1):
            probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            probe.bind(("", 0))
            port = probe.getsockname()[1]
            lines.append({"name": name, "group": f"{group}.{number_}", "port": port, "interface": "lo"})
    return lines


def _conclude(feed: Feed, watch: Any, strategy: Any, report: dict[str, Any], as_json: bool, with_hedge: bool) -> None:
    from ._demo_hedge import hedge, hedge_text

    sent = report.get("messages")
    if as_json:
        hedged = {"hedge": hedge()} if with_hedge else {}
        print_json({**watch.final_report(), "sent": report, "signals": strategy.signals, **hedged})
        return
    print(f"\nend: {watch.status(final=True)}")
    print(
        f"The strategy looked at {count_text(strategy.looked)} quotes of {strategy.name}: {strategy.signals} signals."
    )
    counters = feed.stats.as_dict()
    if sent is not None:
        kept = counters["messages"] - counters["messages_duplicate"]
        print(
            f"Sent {count_text(sent)} messages, each on two lines; the feed took {count_text(kept)} and dropped "
            f"{count_text(counters['messages_duplicate'])} as the other line's copies."
        )
    wrong = watch.problems()
    for line in wrong:
        warn(line)
    print("Something was lost; the warnings say where." if wrong else "Nothing was lost.", flush=True)
    if with_hedge:
        print(hedge_text(hedge()))
