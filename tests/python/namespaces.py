"""Two machines within this one: network namespaces with a pair of virtual interfaces between them. Needs root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = str(Path(sys.executable).parent / "barewire")
WAIT = 60.0  # seconds until a test gives up; no test is meant to take that long


def ip(*arguments: str) -> str:
    """What ip(8) says."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for something that will be."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


class Net:
    """A receiver's and a sender's namespace. The test's process stays outside, and goes in by `inside`."""

    receiver = f"bwr{os.getpid()}"
    sender = f"bws{os.getpid()}"
    interface = "in0"
    sending = "out0"
    server = "10.99.0.2"

    def make(self) -> None:
        """Makes them; the interfaces are up when this returns."""
        ends = ((self.receiver, self.interface, "10.99.0.1"), (self.sender, self.sending, self.server))
        for namespace, _, _ in ends:
            ip("netns", "add", namespace)
        pair = ["type", "veth", "peer", "name", self.sending, "netns", self.sender]
        ip("link", "add", self.interface, "netns", self.receiver, *pair)
        for namespace, interface, address in ends:
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", interface)
            ip("-n", namespace, "link", "set", "lo", "up")
            ip("-n", namespace, "link", "set", interface, "up")
        until(lambda: self._link()["operstate"] == "UP", "the interface is not up")

    def remove(self) -> None:
        """Removes what there is of them, and with them the interfaces."""
        there = ip("netns", "list").split()
        for namespace in (self.receiver, self.sender):
            if namespace in there:
                ip("netns", "del", namespace)

    def inside(self, namespace: str, *command: str, **given: Any) -> subprocess.Popen[str]:
        """A process in there: the pid is the command's own."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **given}
        return subprocess.Popen(["ip", "netns", "exec", namespace, *command], **pipes)

    def xdp(self) -> object:
        """The XDP program on the receiver's interface; `None` when there is none."""
        return self._link().get("xdp")

    def _link(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(ip("-j", "-n", self.receiver, "link", "show", "dev", self.interface))
        return found[0]


@contextmanager
def two_namespaces() -> Iterator[Net]:
    """Made and removed, whatever happens in between."""
    net = Net()
    try:
        net.make()
        yield net
    finally:
        net.remove()
