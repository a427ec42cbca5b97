"""What the simulator sends to and the example configuration listens to, so that the two meet without an option."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DEFAULT_GLIMPSE", "DEFAULT_LINES", "DEFAULT_PROTOCOL", "DEFAULT_REREQUEST", "RECORD_KINDS", "DefaultLine"]


class DefaultLine(NamedTuple):
    """One multicast line."""

    name: str
    group: str
    port: int
    interface: str


# In the organisation-local scope (RFC 2365), on loopback: nothing leaves the machine unless somebody asks for it.
DEFAULT_LINES = (DefaultLine("A", "239.255.64.1", 26477, "lo"), DefaultLine("B", "239.255.64.2", 26478, "lo"))

DEFAULT_REREQUEST = "127.0.0.1:26500"
DEFAULT_GLIMPSE = "127.0.0.1:26501"
"""Where the documentation and the example have the simulator's recovery servers; it has none unless it is told to."""

DEFAULT_PROTOCOL = "itch-5.0"

RECORD_KINDS = ("mbo", "bbo")
"""The record kinds that a user chooses from; gaps and status always come along."""
