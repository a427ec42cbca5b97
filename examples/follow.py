"""Another process's feed, read through shared memory: python examples/follow.py RING [SECONDS].

The feed may be stopped and started again meanwhile.
"""

import sys
import time

import barewire


def follow(name: str, seconds: float) -> None:
    """Prints what comes and whether this reader keeps up, once a second."""
    ring = barewire.Ring.attach(name)
    end = time.monotonic() + seconds
    records = lost = 0
    shown = time.monotonic()
    while time.monotonic() < end:
        batch = ring.read(timeout=0.1)
        if batch is not None:
            records += len(batch)
            lost += batch.lost
        elif ring.state in ("dead", "closed", "restarted"):
            print(f"the feed is {ring.state}; waiting for the next one")
            ring.reattach(timeout=30)
            print(f"the feed is back, in epoch {ring.epoch}")
        if time.monotonic() - shown >= 1:
            print(f"{records} records, {lost} lost, {ring.lag} behind, the feed is {ring.state}")
            shown = time.monotonic()


if __name__ == "__main__":
    follow(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10.0)
