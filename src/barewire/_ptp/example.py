"""A site to start from."""

from __future__ import annotations

__all__ = ["EXAMPLE_SITE"]

EXAMPLE_SITE = """\
# A site of two grandmasters and two racks: `barewire clock plan site.toml`

[site]
name = "ny4"
domain = 24                     # of your own, so that other equipment's clocks stay out
profile = "udp"                 # "udp", "l2" or "l2-p2p"
# trial = true                  # compare clocks and never set one: to try the plan out
# syncs_per_second = 8
# announces_per_second = 1
# utc_offset = 37               # seconds that TAI is ahead of UTC

[[grandmasters]]
name = "gm-1"
rank = 1                        # elected while it works
source = "gnss"                 # "gnss", "system" (NTP) or "appliance"
ports = [{ interface = "eth0", network = "spine" }]
[grandmasters.gnss]             # a receiver whose pulse a second comes in at the card
serial = "/dev/ttyS0"           # where it says which second
pin = 0
# cable_ns = 50

[[grandmasters]]
name = "gm-2"                   # the standby
rank = 2
source = "system"
ports = [{ interface = "eth0", network = "spine" }]

[[racks]]
name = "rack-1"                 # also its network's name, where a host says no other
[racks.boundary_clock]
name = "rack-1-clock"
ports = [{ interface = "eth0", network = "spine" }, { interface = "eth1", network = "rack-1" }]
[[racks.hosts]]
name = "strategy-1"
interface = "eth0"
[[racks.hosts]]
name = "strategy-2"
interface = "eth0"

[[racks]]
name = "rack-2"
[racks.boundary_clock]
name = "rack-2-clock"
ports = [{ interface = "eth0", network = "spine" }, { interface = "eth1", network = "rack-2" }]
[[racks.hosts]]
name = "strategy-3"
interface = "eth0"
"""
