"""What a running ptp4l says of itself: PTP management messages (IEEE 1588-2019, 15), asked and printed by pmc.

pmc is linuxptp's own. Only GET is sent. It takes a tenth of a second for an answer, and as long where there is none.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DEFAULT_SOCKET", "Pmc", "PortStatus", "PtpStatus", "parse"]

DEFAULT_SOCKET = "/var/run/ptp4l"

_ASKED = (
    "DEFAULT_DATA_SET",
    "CURRENT_DATA_SET",
    "PARENT_DATA_SET",
    "TIME_PROPERTIES_DATA_SET",
    "TIME_STATUS_NP",
    "PORT_DATA_SET",
    "PORT_STATS_NP",
    "PORT_PROPERTIES_NP",
)
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class PortStatus:
    """One port: its PORT_DATA_SET, PORT_STATS_NP and PORT_PROPERTIES_NP."""

    number: int
    state: str
    """IEEE 1588-2019, table 27: INITIALIZING, FAULTY, DISABLED, LISTENING, MASTER, PASSIVE, UNCALIBRATED, SLAVE..."""
    syncs_received: int | None = None
    announces_received: int | None = None
    interface: str | None = None
    """None where this ptp4l does not tell."""
    timestamping: str | None = None
    """HARDWARE (the card stamps its packets), SOFTWARE...; None where this ptp4l does not tell."""


@dataclass(frozen=True)
class PtpStatus:
    """A clock as its ptp4l has it."""

    identity: str
    client_only: bool
    """It never leads."""
    clock_class: int
    steps_removed: int
    offset_ns: float
    """Its time less its leader's."""
    path_delay_ns: float
    parent: str
    """The port that it has the time from; its own with number 0 where it follows nobody."""
    grandmaster: str
    grandmaster_class: int
    utc_offset_s: int
    utc_offset_valid: bool
    ptp_timescale: bool
    """Whether the grandmaster's times are TAI."""
    last_sync_ns: int
    """When the last sync came, by its clock."""
    ports: tuple[PortStatus, ...]

    @property
    def follows(self) -> bool:
        """Whether it has the time from another clock."""
        return self.grandmaster != self.identity

    @property
    def card(self) -> str | None:
        """The interface by whose card's clock it goes: that of the port which follows, else its first; None without."""
        stamped = [port for port in self.ports if port.timestamping == "HARDWARE" and port.interface]
        following = [port for port in stamped if port.state in ("SLAVE", "UNCALIBRATED")]
        return next((port.interface for port in [*following, *stamped]), None)

    @property
    def stamps_in_software(self) -> bool:
        """Whether it says that the kernel stamps its packets: it steers the system's clock itself."""
        return any(port.timestamping == "SOFTWARE" for port in self.ports)


def parse(text: str) -> PtpStatus | None:
    """A status from what pmc printed; None where an answer is missing or makes no sense."""
    answers: dict[str, list[dict[str, str]]] = {}
    fields: dict[str, str] | None = None
    for line in text.splitlines():
        found = re.match(r"\s*([0-9a-f.]+-\d+) seq \d+ RESPONSE MANAGEMENT (\w+)", line)
        if found:
            fields = {"responder": found[1]}
            answers.setdefault(found[2], []).append(fields)
        elif fields is not None and line.startswith("\t\t"):
            name, _, value = line.strip().partition(" ")
            fields.setdefault(name, value.strip())
        else:
            fields = None
    try:
        return _status({name: found[0] for name, found in answers.items()}, answers)
    except (KeyError, ValueError):
        return None


def _status(first: dict[str, dict[str, str]], answers: dict[str, list[dict[str, str]]]) -> PtpStatus:
    own, current, parent = first["DEFAULT_DATA_SET"], first["CURRENT_DATA_SET"], first["PARENT_DATA_SET"]
    times, status = first["TIME_PROPERTIES_DATA_SET"], first["TIME_STATUS_NP"]
    counts = {one["portIdentity"]: one for one in answers.get("PORT_STATS_NP", ())}
    properties = {one["portIdentity"]: one for one in answers.get("PORT_PROPERTIES_NP", ())}
    ports = []
    for one in answers.get("PORT_DATA_SET", ()):
        received = counts.get(one["portIdentity"], {})
        number = int(one["portIdentity"].rpartition("-")[2])
        syncs, announces = received.get("rx_Sync"), received.get("rx_Announce")
        ports.append(
            PortStatus(
                number,
                one["portState"],
                None if syncs is None else int(syncs),
                None if announces is None else int(announces),
                properties.get(one["portIdentity"], {}).get("interface"),
                properties.get(one["portIdentity"], {}).get("timestamping"),
            )
        )
    return PtpStatus(
        identity=own["clockIdentity"],
        client_only=int(own.get("slaveOnly", own.get("clientOnly", "0"))) != 0,
        clock_class=int(own["clockClass"]),
        steps_removed=int(current["stepsRemoved"]),
        offset_ns=float(current["offsetFromMaster"]),
        path_delay_ns=float(current["meanPathDelay"]),
        parent=parent["parentPortIdentity"],
        grandmaster=parent["grandmasterIdentity"],
        grandmaster_class=int(parent["gm.ClockClass"]),
        utc_offset_s=int(times["currentUtcOffset"]),
        utc_offset_valid=times["currentUtcOffsetValid"] != "0",
        ptp_timescale=times["ptpTimescale"] != "0",
        last_sync_ns=int(status["ingress_time"]),
        ports=tuple(sorted(ports, key=lambda port: port.number)),
    )


class Pmc:
    """Asks one ptp4l by its socket."""

    def __init__(self, socket: str = DEFAULT_SOCKET, domain: int = 0) -> None:
        """Nothing is opened before it is asked."""
        self.socket = socket
        self._domain = domain
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}

    def read(self) -> PtpStatus | None:
        """Its status; None where it does not answer.

        Raises FileNotFoundError where linuxptp is not installed, PermissionError where its socket is not to be used,
        OSError where there is no room for its own.
        """
        if os.path.exists(self.socket) and not os.access(self.socket, os.W_OK):
            raise PermissionError(13, "expected to be root, whose the socket is", self.socket)
        try:
            done = subprocess.run(
                self._command(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE_S,
                check=False,
                env=self._environment,
            )
        except subprocess.TimeoutExpired:
            return None
        except FileNotFoundError:
            raise FileNotFoundError(2, "expected linuxptp's pmc; install it: apt install linuxptp", "pmc") from None
        return parse(done.stdout)

    def _command(self) -> list[str]:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="barewire-")
        own = Path(self._folder.name) / "pmc"
        command = ["pmc", "-u", "-b", "0", "-d", str(self._domain), "-s", self.socket, "-i", str(own)]
        return command + [f"GET {name}" for name in _ASKED]

    def close(self) -> None:
        """Removes its own socket's folder."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
