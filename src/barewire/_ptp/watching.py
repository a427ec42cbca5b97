"""A verdict once an interval, as text, as JSON and for Prometheus."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .judge import ClockState, Judge, Observation, State, Thresholds
from .machine import Machine
from .management import Pmc

__all__ = ["Exporter", "as_dict", "as_text", "exposition", "verdicts"]


def verdicts(
    pmc: Pmc,
    thresholds: Thresholds,
    interval_s: float,
    machine: Machine | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[ClockState]:
    """What is known of one clock, for ever; without a machine ptp4l alone is asked. Raises what `Pmc.read` does."""
    judge = Judge(thresholds)
    due = time.monotonic()
    while True:
        ptp = pmc.read()
        yield judge.update(Observation(time.monotonic(), ptp) if machine is None else machine.observe(ptp))
        # A late look is not made up for.
        due = max(due + interval_s, time.monotonic())
        sleep(max(0.0, due - time.monotonic()))


def as_dict(state: ClockState) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "state": state.state.name.lower(),
        "bound_ns": _whole(state.bound_ns),
        "offset_ns": _whole(state.offset_ns),
        "spread_ns": _whole(state.spread_ns),
        "path_delay_ns": _whole(state.path_delay_ns),
        "system_offset_ns": _whole(state.system_offset_ns),
        "steps_removed": state.steps_removed,
        "grandmaster": state.grandmaster,
        "grandmaster_class": state.grandmaster_class,
        "ports": list(state.port_states),
        "reasons": [{"code": one.code, "text": one.text, "state": one.state.name.lower()} for one in state.reasons],
        "changes": list(state.changes),
    }


def as_text(state: ClockState) -> str:
    """One line, and one for each reason and change."""
    if state.grandmaster is None:
        head = state.state.name.lower()
    else:
        offset = "" if state.offset_ns is None else f"  offset {state.offset_ns:,.0f} ns"
        bound = "unknown" if state.bound_ns is None else f"{state.bound_ns:,.0f} ns"
        delay = "" if state.path_delay_ns is None else f"  path {state.path_delay_ns:,.0f} ns"
        system = "" if state.system_offset_ns is None else f"  system {state.system_offset_ns:+,.0f} ns from the card"
        steps = "1 step" if state.steps_removed == 1 else f"{state.steps_removed} steps"
        head = (
            f"{state.state.name.lower()}{offset}  within {bound}{delay}{system}  {steps} from "
            f"{state.grandmaster} (class {state.grandmaster_class})  ports {', '.join(state.port_states)}"
        )
    notes = [f"  {one.state.name.lower()}: {one.text}" for one in state.reasons]
    return "\n".join([head, *notes, *(f"  changed: {one}" for one in state.changes)])


# One row a metric: names are never changed. https://prometheus.io/docs/instrumenting/exposition_formats/
_METRICS: tuple[tuple[str, str, Callable[[ClockState], float | None]], ...] = (
    ("bound_seconds", "How far the clock may be from its grandmaster", lambda s: _seconds(s.bound_ns)),
    ("offset_seconds", "Median of the clock's offset from its leader", lambda s: _seconds(s.offset_ns)),
    ("offset_spread_seconds", "Standard deviation of that offset", lambda s: _seconds(s.spread_ns)),
    ("path_delay_seconds", "What a packet takes from the leader", lambda s: _seconds(s.path_delay_ns)),
    (
        "system_offset_seconds",
        "The system clock less the card's, both in UTC",
        lambda s: _seconds(s.system_offset_ns),
    ),
    ("steps_removed", "Clocks on the way from the grandmaster", lambda s: s.steps_removed),
    ("grandmaster_class", "The grandmaster's clock class", lambda s: s.grandmaster_class),
)


def exposition(state: ClockState) -> str:
    """The text that Prometheus scrapes."""
    lines = ["# HELP barewire_clock_state 1 for the state that the clock is in", "# TYPE barewire_clock_state gauge"]
    lines += [f'barewire_clock_state{{state="{one.name.lower()}"}} {int(one is state.state)}' for one in State]
    for name, what, value_of in _METRICS:
        value = value_of(state)
        if value is not None:
            full = f"barewire_clock_{name}"
            lines += [f"# HELP {full} {what}", f"# TYPE {full} gauge", f"{full} {value:.12g}"]
    if state.reasons:
        lines += ["# HELP barewire_clock_reason 1 for what is wrong", "# TYPE barewire_clock_reason gauge"]
        lines += [f'barewire_clock_reason{{code="{one}"}} 1' for one in sorted({r.code for r in state.reasons})]
    if state.grandmaster is not None:
        lines += [
            "# HELP barewire_clock_grandmaster_info The grandmaster",
            "# TYPE barewire_clock_grandmaster_info gauge",
        ]
        lines.append(f'barewire_clock_grandmaster_info{{identity="{state.grandmaster}"}} 1')
    return "\n".join(lines) + "\n"


class Exporter:
    """Serves the last verdict over HTTP, at /metrics."""

    def __init__(self, address: str, port: int) -> None:
        """Raises OSError where the address is not to be had."""
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10.0  # seconds: a client that says nothing holds no thread for longer

            def do_GET(self) -> None:
                if self.path != "/metrics":
                    self.send_error(404, "expected /metrics")
                    return
                body = exporter.text.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (its name there)
                pass

        self.text = ""
        self._server = ThreadingHTTPServer((address, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="barewire-metrics", daemon=True).start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _seconds(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e9
