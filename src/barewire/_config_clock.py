"""The part of the configuration that says how this machine's clock is watched."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ._config_checks import Table, wrong

__all__ = ["ClockConfig"]


class ClockConfig(Table):
    """How PTP's daemon is watched beside the feed: the `[clock]` table."""

    ptp_socket: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=100,
            description="the management socket of the ptp4l to watch, /var/run/ptp4l say; left out: none is watched",
        ),
    ] = None
    ptp_domain: Annotated[int, Field(ge=0, le=127, description="its PTP domain, 0 to 127")] = 0
    interval_s: Annotated[
        float, Field(ge=0.2, le=60.0, description="seconds between two looks, 0.2 to 60.0", strict=False)
    ] = 1.0
    warn_ns: Annotated[
        int, Field(ge=1, le=10**12, description="nanoseconds; further off is worth a word, 1 to 1000000000000")
    ] = 500
    degraded_ns: Annotated[
        int, Field(ge=1, le=10**12, description="nanoseconds; further off is degraded, 1 to 1000000000000")
    ] = 1_000
    lost_ns: Annotated[
        int, Field(ge=1, le=10**12, description="nanoseconds; further off is lost, 1 to 1000000000000")
    ] = 2_000
    drift_ppb: Annotated[
        int,
        Field(ge=0, le=10**6, description="what the clock may be off by when left alone, parts in 10^9, 0 to 1000000"),
    ] = 100
    trial: Annotated[
        bool, Field(description="true (ptp4l compares clocks and never sets them: site.trial) or false")
    ] = False

    @model_validator(mode="after")
    def _in_order(self) -> ClockConfig:
        if not self.warn_ns <= self.degraded_ns <= self.lost_ns:
            found = f"warn_ns {self.warn_ns}, degraded_ns {self.degraded_ns}, lost_ns {self.lost_ns}"
            raise wrong(f"expected each threshold no less than the one before, found {found}")
        return self
