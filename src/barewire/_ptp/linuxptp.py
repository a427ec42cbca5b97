"""Each machine's files: ptp4l, phc2sys and ts2phc of linuxptp 3.1 and later, and the systemd units that run them.

Only one program steers a clock. On a host phc2sys steers the system clock by the card's, on a boundary clock whose
ports have clocks of their own it keeps those together, on a grandmaster with a receiver ts2phc steers the card's clock
by the pulse. Where the system clock is steered, time daemons that would do so as well are named as conflicts.

A grandmaster says that it is worth following (clock class 6, times traceable, the offset of UTC valid) only some time
after ts2phc began: its file alone makes it one that nobody follows (class 248), so that one that boots without its
receiver does not lead a site astray.
"""

from __future__ import annotations

from collections.abc import Iterator

from .site import BoundaryClock, Gnss, Grandmaster, Profile
from .tree import Machine, Tree

__all__ = ["CONFIG_FOLDER", "INSTALL", "appliance_settings", "files", "grandmaster_settings"]

CONFIG_FOLDER = "/etc/barewire/clock"
"""Where the units look for the files."""

INSTALL = (
    f"on each machine: its *.conf to {CONFIG_FOLDER}, its *.service to /etc/systemd/system, then "
    "systemctl enable --now barewire-*.service"
)
"""What is done with the files."""

# ptp4l(8), "network_transport" and "delay_mechanism".
_PROFILES: dict[Profile, dict[str, str]] = {
    "udp": {"network_transport": "UDPv4", "delay_mechanism": "E2E"},
    "l2": {"network_transport": "L2", "delay_mechanism": "E2E"},
    "l2-p2p": {"network_transport": "L2", "delay_mechanism": "P2P"},
}
# IEEE 1588-2019, table 4 (clockClass), table 5 (clockAccuracy), table 6 (timeSource); variance from 7.6.3.
_LOCKED_CLASS = 6
_SYSTEM_CLASS = 13
_UNLOCKED_CLASS = 248
_ACCURACY_100_NS = "0x21"
_ACCURACY_1_MS = "0x29"
_ACCURACY_UNKNOWN = "0xFE"
_VARIANCE = "0x4E5D"
_TIME_SOURCE_GNSS = "0x20"
_TIME_SOURCE_NTP = "0x50"
_TIME_SOURCE_OSCILLATOR = "0xA0"
_SETTLE_S = 120
_TIME_DAEMONS = "systemd-timesyncd.service chrony.service ntpsec.service"


def files(tree: Tree) -> dict[str, dict[str, str]]:
    """The contents of every machine's files, by machine and by file name. An appliance has none."""
    return {machine.name: dict(_files(tree, machine)) for machine in tree.machines if not _is_appliance(machine)}


def appliance_settings(machine: Machine, tree: Tree) -> str | None:
    """What an appliance has to be told; None for a machine whose files are written."""
    if not _is_appliance(machine):
        return None
    return (
        f"domain {tree.site.site.domain}, profile {machine.profile}, priority 1 {machine.priority1}, priority 2 "
        f"{machine.priority2}, {tree.site.site.announces_per_second} announces and {tree.site.site.syncs_per_second} "
        "syncs a second"
    )


def _is_appliance(machine: Machine) -> bool:
    return isinstance(machine.table, Grandmaster) and machine.table.source == "appliance"


def _files(tree: Tree, machine: Machine) -> Iterator[tuple[str, str]]:
    is_steering = machine.stamps_in_software and machine.role != "grandmaster" and not tree.site.site.trial
    yield "ptp4l.conf", _ptp4l(tree, machine)
    command = f"/usr/sbin/ptp4l -f {CONFIG_FOLDER}/ptp4l.conf"
    yield "barewire-ptp4l.service", _unit("PTP", command, steers_system=is_steering)
    if tree.site.site.trial:
        return
    gnss = machine.table.gnss if isinstance(machine.table, Grandmaster) else None
    if gnss is not None:
        yield "ts2phc.conf", _ts2phc(machine, gnss)
        source = "nmea" if gnss.serial else "generic"
        command = f"/usr/sbin/ts2phc -f {CONFIG_FOLDER}/ts2phc.conf -s {source}"
        yield "barewire-ts2phc.service", _unit("The card's clock by the pulse a second", command)
        yield "barewire-grandmaster.service", _announcing(tree)
    phc2sys = _phc2sys(tree, machine)
    if phc2sys is not None:
        what, command = phc2sys
        is_steering = machine.role != "grandmaster"
        service = _unit(what, command, after="barewire-ptp4l.service", steers_system=is_steering)
        yield "barewire-phc2sys.service", service


def _ptp4l(tree: Tree, machine: Machine) -> str:
    site = tree.site.site
    values: dict[str, object] = {
        "domainNumber": site.domain,
        **_PROFILES[machine.profile],
        "time_stamping": "software" if machine.stamps_in_software else "hardware",
        "logAnnounceInterval": -_log2(site.announces_per_second),
        "announceReceiptTimeout": 3,
        "fault_reset_interval": 0,
        "logSyncInterval": -_log2(site.syncs_per_second),
        "logMinDelayReqInterval": -_log2(site.syncs_per_second),
        "logMinPdelayReqInterval": 0,
        "priority1": machine.priority1,
        "priority2": machine.priority2,
        **_standing(tree, machine),
        "utc_offset": site.utc_offset,
        "userDescription": f"{machine.name};{site.name}",
        "summary_interval": 3,
        "verbose": 1,
        "use_syslog": 0,
    }
    if machine.joins:
        values["clock_type"] = "BC"
    if isinstance(machine.table, BoundaryClock) and not machine.table.one_clock and not machine.stamps_in_software:
        values["boundary_clock_jbod"] = 1
    if machine.role == "host":
        values["slaveOnly"] = 1
    if site.trial:
        values["free_running"] = 1
    role = f"{machine.role}{f' of rack {machine.rack}' if machine.rack else ''}"
    return _config(
        f"{machine.name}: {role}, site {site.name}", {"global": values} | {p.interface: {} for p in machine.ports}
    )


def _standing(tree: Tree, machine: Machine) -> dict[str, object]:
    """What its file says that a clock is worth."""
    if machine.role == "host":
        return {"clockClass": 255, "clockAccuracy": _ACCURACY_UNKNOWN, "timeSource": _TIME_SOURCE_OSCILLATOR}
    if isinstance(machine.table, Grandmaster) and (machine.table.source == "system" or tree.site.site.trial):
        return {"clockClass": _SYSTEM_CLASS, "clockAccuracy": _ACCURACY_1_MS, "timeSource": _TIME_SOURCE_NTP}
    return {"clockClass": _UNLOCKED_CLASS, "clockAccuracy": _ACCURACY_UNKNOWN, "timeSource": _TIME_SOURCE_OSCILLATOR}


def _ts2phc(machine: Machine, gnss: Gnss) -> str:
    settings: dict[str, object] = {"use_syslog": 0, "verbose": 1, "leapfile": "/usr/share/zoneinfo/leap-seconds.list"}
    if gnss.serial:
        settings["ts2phc.nmea_serialport"] = gnss.serial
    clock = {
        "ts2phc.pin_index": gnss.pin,
        "ts2phc.channel": gnss.channel,
        "ts2phc.extts_polarity": "rising",
        "ts2phc.extts_correction": -gnss.cable_ns,
    }
    return _config(
        f"{machine.name}: the card's clock by the pulse", {"global": settings, machine.ports[0].interface: clock}
    )


def grandmaster_settings(tree: Tree) -> str:
    """The management message that makes a grandmaster say that it has the time (pmc(8), GRANDMASTER_SETTINGS_NP)."""
    return (
        f"SET GRANDMASTER_SETTINGS_NP clockClass {_LOCKED_CLASS} clockAccuracy {_ACCURACY_100_NS} "
        f"offsetScaledLogVariance {_VARIANCE} currentUtcOffset {tree.site.site.utc_offset} leap61 0 leap59 0 "
        "currentUtcOffsetValid 1 ptpTimescale 1 timeTraceable 1 frequencyTraceable 1 "
        f"timeSource {_TIME_SOURCE_GNSS}"
    )


def _phc2sys(tree: Tree, machine: Machine) -> tuple[str, str] | None:
    """What phc2sys does on a machine, and its command. None where no clock is to follow another."""
    if machine.stamps_in_software:
        return None  # ptp4l steers the system clock itself
    common = f"-n {tree.site.site.domain} -m -q"
    first = machine.ports[0].interface
    if isinstance(machine.table, Grandmaster):
        if machine.table.source == "system":
            return "The card's clock by the system's", f"/usr/sbin/phc2sys -s CLOCK_REALTIME -c {first} -w {common}"
        return None
    if isinstance(machine.table, BoundaryClock) and not machine.table.one_clock:
        return "The cards' clocks together, and the system's by them", f"/usr/sbin/phc2sys -a -r {common}"
    return "The system's clock by the card's", f"/usr/sbin/phc2sys -s {first} -c CLOCK_REALTIME -w {common}"


def _announcing(tree: Tree) -> str:
    command = f"/usr/sbin/pmc -u -b 0 -d {tree.site.site.domain}"
    return _sections(
        "made by `barewire clock plan`: written anew, not edited",
        {
            "Unit": {
                "Description": "Say that this grandmaster has the time",
                "Requires": "barewire-ptp4l.service barewire-ts2phc.service",
                "After": "barewire-ptp4l.service barewire-ts2phc.service",
                "BindsTo": "barewire-ts2phc.service",
                "PartOf": "barewire-ptp4l.service",
            },
            "Service": {
                "Type": "oneshot",
                "RemainAfterExit": "yes",
                "ExecStartPre": f"/bin/sleep {_SETTLE_S}",
                "ExecStart": f"{command} '{grandmaster_settings(tree)}'",
                "TimeoutStartSec": str(2 * _SETTLE_S),
            },
            "Install": {"WantedBy": "multi-user.target"},
        },
        "=",
    )


def _unit(what: str, command: str, *, after: str = "network-online.target", steers_system: bool = False) -> str:
    unit = {"Description": what, "Wants": after, "After": after}
    if steers_system:
        unit["Conflicts"] = _TIME_DAEMONS
    return _sections(
        "made by `barewire clock plan`: written anew, not edited",
        {
            "Unit": unit,
            "Service": {"Type": "simple", "ExecStart": command, "Restart": "always", "RestartSec": "1"},
            "Install": {"WantedBy": "multi-user.target"},
        },
        "=",
    )


def _config(what: str, sections: dict[str, dict[str, object]]) -> str:
    written = {name: {key: str(value) for key, value in values.items()} for name, values in sections.items()}
    return _sections(f"{what}; made by `barewire clock plan`: written anew, not edited", written, " ")


def _sections(comment: str, sections: dict[str, dict[str, str]], between: str) -> str:
    parts = [f"# {comment}"]
    for name, values in sections.items():
        parts.append("\n".join([f"[{name}]", *(f"{key}{between}{value}" for key, value in values.items())]))
    return "\n\n".join(parts) + "\n"


def _log2(count: int) -> int:
    return count.bit_length() - 1
