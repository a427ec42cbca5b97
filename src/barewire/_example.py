"""The example configuration, as text to start from."""

from __future__ import annotations

from ._defaults import DEFAULT_LINES, DEFAULT_PROTOCOL

__all__ = ["EXAMPLE_CONFIG"]

_LINES = "\n".join(
    f'[[lines]]\nname = "{line.name}"\ngroup = "{line.group}"          # a multicast address\n'
    f'port = {line.port}\ninterface = "{line.interface}"                 # left out: the kernel\'s choice\n'
    f'# source = "192.0.2.10"          # join this sender alone\n'
    for line in DEFAULT_LINES
)

EXAMPLE_CONFIG = f"""\
# A barewire feed. As it stands it hears what `barewire sim` sends:
#     barewire sim                      in one terminal
#     barewire run feed.toml            in another
# Commented keys show their default or an example.

[feed]
name = "nasdaq-sim"
protocol = "{DEFAULT_PROTOCOL}"
records = ["mbo", "bbo"]           # order events and trades; best bid and offer
# symbols = ["AAPL", "MSFT"]       # left out: every instrument
# date = 2026-01-30                # the trading day; left out: today in New York
# publisher_id = 1                 # a number of yours that every record carries

{_LINES}
[receive]
mode = "blocking"                  # "busy" is faster and takes a whole core
# core = 1                         # pin the feed's thread
# rcvbuf_bytes = 16777216          # the socket's buffer; net.core.rmem_max may allow less
# busy_poll_us = 0                 # SO_BUSY_POLL
# timestamps = true                # the kernel stamps every packet

[sequencing]
# hold_us = 2000                   # how long a missing message is waited for: the other line may bring it
# capacity = 65536                 # messages that can be held meanwhile, a power of two

[ring]
name = "nasdaq-sim"                # others read it: barewire.Ring.attach("nasdaq-sim"); left out: this process only
# capacity = 1048576               # 64-byte records, a power of two
# mode = 0o640                     # who may read
# group = "trading"

[book]                             # what to reserve at the start; the books grow beyond it
instruments = 1024
orders = 262144
levels = 65536
"""
"""A commented TOML file that meets the simulator's defaults."""
