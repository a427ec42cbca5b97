"""A site of clocks in this machine: a namespace a machine, a bridge a network, ptp4l in each as `clock plan` has it.

Stamps are the kernel's, and no clock is set: every clock is the same one, so offsets are those of the stamps.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barewire._ptp import Tree
from barewire._ptp.judge import ClockState, Judge, Observation, Thresholds
from barewire._ptp.linuxptp import files
from barewire._ptp.management import Pmc

from .namespaces import ip

# What starts a program of linuxptp: none may touch the machine's own clock. phc2sys clears its STA_UNSYNC even before
# it finds that there is no such card.
CLOCK_OUT_OF_REACH = ["setpriv", "--bounding-set=-sys_time", "--inh-caps=-sys_time"]

# The kernel's stamps between two threads of a busy machine are good for some microseconds.
THRESHOLDS = Thresholds(warn_ns=100_000, degraded_ns=1_000_000, lost_ns=20_000_000, drift_ppb=100_000, trial=True)


class ClockSite:
    """The machines of a plan."""

    def __init__(self, tree: Tree, folder: Path) -> None:
        self.tree = tree
        self.folder = folder
        self.switches = f"bwc{os.getpid()}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._pmcs: dict[str, Pmc] = {}
        self._judges: dict[str, Judge] = {}
        self.namespaces = {machine.name: f"bwc{os.getpid()}-{n}" for n, machine in enumerate(tree.machines)}

    def make(self) -> None:
        """Makes namespaces and networks, and starts every machine's ptp4l."""
        ip("netns", "add", self.switches)
        networks = sorted({port.network for machine in self.tree.machines for port in machine.ports})
        for number, network in enumerate(networks):
            bridge = f"b{number}"
            ip("-n", self.switches, "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
            ip("-n", self.switches, "link", "set", bridge, "up")
            members = [(m, p) for m in self.tree.machines for p in m.ports if p.network == network]
            for place, (machine, port) in enumerate(members, 1):
                inside = self.namespaces[machine.name]
                if not (Path("/run/netns") / inside).exists():
                    ip("netns", "add", inside)
                    ip("-n", inside, "link", "set", "lo", "up")
                plug = f"p{number}-{place}"
                end = ["netns", inside, "type", "veth", "peer", "name", plug, "netns", self.switches]
                ip("link", "add", port.interface, *end)
                ip("-n", inside, "addr", "add", f"10.{90 + number}.0.{place}/24", "dev", port.interface)
                ip("-n", inside, "link", "set", port.interface, "up")
                ip("-n", self.switches, "link", "set", plug, "master", bridge, "up")
        written = files(self.tree)
        for machine in self.tree.machines:
            (self.folder / f"{machine.name}.conf").write_text(written[machine.name]["ptp4l.conf"])
            self.start(machine.name)

    def start(self, name: str, *options: str) -> None:
        """Starts a machine's ptp4l, with options that the file does not have."""
        socket = self.folder / f"{name}.sock"
        command = ["ip", "netns", "exec", self.namespaces[name], *CLOCK_OUT_OF_REACH]
        command += ["ptp4l", "-f", str(self.folder / f"{name}.conf")]
        command += ["-m", "-q", "--uds_address", str(socket), *options]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log)
        if name not in self._pmcs:
            self._pmcs[name] = Pmc(str(socket), self.tree.site.site.domain)
        self._judges[name] = Judge(THRESHOLDS)

    def kill(self, name: str) -> None:
        """A machine dies."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def look(self, name: str, at_s: float) -> ClockState:
        """The verdict on one machine's clock."""
        return self._judges[name].update(Observation(at_s, self._pmcs[name].read()))

    def pmc(self, name: str, message: str) -> None:
        """Sends a management message to a machine's ptp4l."""
        own, domain = str(self.folder / "pmc.sock"), str(self.tree.site.site.domain)
        command = ["pmc", "-u", "-b", "0", "-d", domain, "-s", str(self.folder / f"{name}.sock"), "-i", own, message]
        subprocess.run(command, check=True, capture_output=True)

    def remove(self) -> None:
        """Ends every ptp4l and removes the namespaces."""
        for name in list(self._running):
            self.kill(name)
        for pmc in self._pmcs.values():
            pmc.close()
        there = ip("netns", "list").split()
        for namespace in [*self.namespaces.values(), self.switches]:
            if namespace in there:
                with contextlib.suppress(AssertionError):
                    ip("netns", "del", namespace)


@contextmanager
def running(tree: Tree, folder: Path) -> Iterator[ClockSite]:
    """Made and removed, whatever happens in between."""
    site = ClockSite(tree, folder)
    try:
        site.make()
        yield site
    finally:
        site.remove()
