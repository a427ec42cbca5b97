"""A thread beside a feed that asks PTP's daemon how the system's clock is, and tells the feed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from ._ptp.judge import ClockState, Judge, Reason, State, Thresholds
from ._ptp.machine import Machine
from ._ptp.management import Pmc

if TYPE_CHECKING:
    from ._config_clock import ClockConfig

__all__ = ["ClockWatcher"]


class Judged(Protocol):
    """Who is told: a feed of the core."""

    def judge_clock(self, verdict: str, bound_ns: int | None) -> None: ...


class ClockWatcher:
    """Tells a feed of its clock from `start()` to `stop()`."""

    def __init__(self, config: ClockConfig, feed: Judged, machine: Machine | None = None) -> None:
        assert config.ptp_socket is not None
        self._config = config
        self._feed = feed
        thresholds = Thresholds(
            config.warn_ns, config.degraded_ns, config.lost_ns, config.drift_ppb, trial=config.trial
        )
        self._judge = Judge(thresholds)
        self._pmc = Pmc(config.ptp_socket, config.ptp_domain)
        self._machine = Machine() if machine is None else machine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="barewire-clock", daemon=True)
        self.state: ClockState | None = None
        """The last verdict; None before the first."""

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, which takes no longer than a look."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pmc.close()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.state = self._look()
            bound = None if self.state.bound_ns is None else round(self.state.bound_ns)
            self._feed.judge_clock(self.state.state.name.lower(), bound)
            self._stop.wait(self._config.interval_s)

    def _look(self) -> ClockState:
        try:
            return self._judge.update(self._machine.observe(self._pmc.read()))
        except OSError as error:
            # linuxptp is not there, or its socket not to be used: nobody can tell how the clock is.
            what = error.strerror or str(error)
            text = what if error.filename is None else f"{error.filename}: {what}"
        except Exception as error:  # a watch that died would leave its last verdict standing
            text = f"the watch failed: {type(error).__name__}: {error}"
        reason = Reason("no-answer", text, State.LOST)
        return ClockState(State.LOST, None, None, None, None, None, None, None, (), (reason,), ())
