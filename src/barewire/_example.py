"""The example configuration, as text to start from."""

from __future__ import annotations

from ._defaults import DEFAULT_GLIMPSE, DEFAULT_LINES, DEFAULT_PROTOCOL, DEFAULT_REREQUEST

__all__ = ["EXAMPLE_CONFIG"]

_LINES = "\n".join(
    f'[[lines]]\nname = "{line.name}"\ngroup = "{line.group}"          # a multicast address\n'
    f'port = {line.port}\ninterface = "{line.interface}"                 # left out: the kernel\'s choice\n'
    f'# source = "192.0.2.10"          # join this sender alone\n'
    f'# allow = ["192.0.2.0/24"]       # packets from elsewhere are dropped and counted; left out: any\n'
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
# path = "kernel"                  # or "io_uring"; with privileges "packet_mmap", "af_xdp", "dpdk": past the kernel
mode = "blocking"                  # "busy" is faster and takes a whole core
# core = 1                         # pin the feed's thread
# rcvbuf_bytes = 16777216          # the socket's buffer; net.core.rmem_max may allow less
# busy_poll_us = 0                 # SO_BUSY_POLL
# timestamps = "auto"              # "hardware" sets the card up to stamp packets; "kernel" or "user" leave it alone
# switch_times = "metamako"        # or "exablaze": a capture switch stamps the frames; only where path sees frames
# drop_capabilities = true         # when all is open, root's powers are given up

# What is special to a path, with its defaults: docs/receive.md
# [receive.io_uring]
# buffers = 128                    # packets that the kernel can put down before they are taken
# sqpoll_idle_ms = 100             # a kernel thread does the receiving, and sleeps after that; left out: none
# sqpoll_core = 0                  # its core

# [receive.packet_mmap]
# ring_bytes = 67108864            # of an interface's ring
# slot_bytes = 2048                # of a frame in it
# block_timeout_ms = 1             # version 3 of the ring, which hands over blocks; left out: version 2
# fanout_group = 7                 # receivers that share packets; left out: none
# fanout_mode = "hash"             # or "round-robin", "cpu", "rollover", "random", "queue"

# [receive.af_xdp]
# attach = "auto"                  # or "native", "generic": where the program runs
# transfer = "auto"                # or "zero-copy", "copy"
# queues = [0]                     # of the card; left out: all
# frames = 16384                   # packets that one queue holds
# huge_pages = true
# busy_poll_budget = 64            # packets of one look at the driver, under busy_poll_us
# vlan = 100                       # that packets are tagged with; left out: none

# [receive.dpdk]                   # after `make dpdk`
# device = "0000:03:00.0"          # or by interface: {{eth0 = "0000:03:00.0", eth1 = "0000:03:00.1"}}
# library = "libbarewire_dpdk.so"  # what `make dpdk` builds; left out: beside the package
# eal = []                         # further arguments of DPDK's environment
# memory_mib = 256                 # of all feeds of the process; left out: of huge pages what is needed
# huge_pages = true                # where any are free
# queues = 1                       # of each device
# descriptors = 2048               # frames that a queue holds
# burst = 64                       # frames of one look
# frame_bytes = 2048               # of the longest frame; left out: by the device's MTU
# vlan = 100                       # that packets are tagged with; left out: none
# address = "192.0.2.20"           # to join groups from where no kernel does it; left out: 0.0.0.0

[sequencing]
# hold_us = 2000                   # how long a missing message is waited for: the other line may bring it
# capacity = 65536                 # messages that can be held meanwhile, a power of two; 1048576 with a snapshot
# line_timeout_us = 3000000        # a line that is silent for so long is down: three heartbeats; 0 for never

# What no line brings within hold_us is asked for, then fetched as a snapshot, then declared lost. Uncomment the tables'
# names and servers, and give the simulator its half:
#     barewire sim --rerequest {DEFAULT_REREQUEST} --glimpse {DEFAULT_GLIMPSE}

# [recovery.rerequest]             # MoldUDP64 requests over UDP
# servers = ["{DEFAULT_REREQUEST}"]    # asked in turn
# local = "192.0.2.20"             # this machine's address to ask from; left out: the kernel's choice
# max_messages = 1000              # of one request
# per_second = 1000                # requests
# timeout_us = 20000               # to an answer
# attempts = 3                     # for the same messages
# give_up_us = 1000000             # a gap is asked for no longer than that
# max_gap = 50000                  # messages; a longer gap is left to the snapshot at once

# [recovery.snapshot]              # GLIMPSE 5.0 over SoupBinTCP
# servers = ["{DEFAULT_GLIMPSE}"]    # in turn
# username = ""
# password = ""
# timeout_s = 10.0                 # of one fetch
# attempts = 2                     # in a row
# retry_s = 30.0                   # to the next try after those; 0: none
# max_bytes = 1073741824           # of a snapshot
# sequence = "next"                # what its number means: the first message after it; "last": the last one in it

# PTP's daemon, watched beside the feed: records by a clock that is degraded are flagged. docs/ptp.md
# [clock]
# ptp_socket = "/var/run/ptp4l"    # left out: not watched
# ptp_domain = 0
# interval_s = 1.0                 # seconds between two looks
# warn_ns = 500                    # worth a word
# degraded_ns = 1000
# lost_ns = 2000
# drift_ppb = 100                  # of the clock, when left alone
# trial = false                    # ptp4l compares clocks and never sets them

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
