"""Settings for these tests: no deadline, since no test here asserts an upper bound on time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("barewire", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("barewire")
