"""Clocks: what the kernel reads the time from, and who sets it."""

from __future__ import annotations

from . import ethtool
from .finding import Check, Found, advice, fine
from .scene import Scene

__all__ = ["CHECKS"]

_PTP = ("ptp4l", "phc2sys", "timemaster", "sfptpd", "ts2phc")
_NTP = {"chronyd": "chronyd", "ntpd": "ntpd", "systemd-timesyn": "systemd-timesyncd"}  # as /proc cuts them: the unit


def _source(scene: Scene) -> Found | None:
    folder = "/sys/devices/system/clocksource/clocksource0"
    source = scene.machine.read(f"{folder}/current_clocksource")
    if source in ("tsc", "arch_sys_counter"):
        return fine(source)
    if source in ("kvm-clock", "hyperv_clocksource_tsc_page"):
        return fine(f"{source}, the host's: read without a system call")
    text = f"{source}: to read it is a system call or worse"
    if "tsc" in scene.machine.text(f"{folder}/available_clocksource").split():
        return advice(text, f"echo tsc | sudo tee {folder}/current_clocksource")
    return advice(text, scene.machine.add_boot_arguments("tsc=reliable"))


def _tsc(scene: Scene) -> Found | None:
    flags = scene.machine.cpu_flags()
    if "tsc" not in flags:
        return None  # another architecture, whose counter is invariant by definition
    lacking = [flag for flag in ("constant_tsc", "nonstop_tsc") if flag not in flags]
    if not lacking:
        found = scene.machine.calibrate_tsc()
        if found["fallback"] is None:
            return fine(f"constant, and runs on in sleep; as a clock within {found['bound_ns']} ns of the system's")
        return advice(f"constant, and runs on in sleep, but {found['fallback']}", "sudo dmesg | grep -i tsc")
    mend = (
        "# let the hypervisor show invariant TSC (QEMU: -cpu host,+invtsc)"
        if scene.machine.is_virtual()
        else scene.machine.add_boot_arguments("processor.max_cstate=1")
    )
    return advice(f"without {' and '.join(lacking)}: cannot be calibrated once and trusted", mend)


def _discipline(scene: Scene) -> Found | None:
    found = scene.machine.system_clock()
    known = found["known_tai_offset_s"]
    parts = []
    if found["synchronised"]:
        parts.append(f"synchronised, within {found['max_error_us']:,} us of UTC as the kernel was told")
    if found["leap"]:
        parts.append(f"a leap second is to be {found['leap']} at the end of this day (UTC)")
    if not found["synchronised"]:
        text = "; ".join(["nobody tells the kernel that its clock is synchronised: its error is not known", *parts])
        return advice(text, "# see who sets the clock, below: chronyd tells it, ptp4l with phc2sys does")
    if found["tai_offset_s"] is None:
        parts.append(f"its TAI offset is not set ({known} s): who converts PTP's times by it is {known} s off")
        return advice(
            "; ".join(parts), "# chronyd: `leapsectz right/UTC` in chrony.conf; phc2sys of linuxptp 4 tells it"
        )
    if found["tai_offset_s"] != known:
        parts.append(f"its TAI offset is {found['tai_offset_s']} s where {known} s are known")
        return advice("; ".join(parts), "# chronyd: `leapsectz right/UTC` in chrony.conf; update tzdata")
    return fine("; ".join([*parts, f"TAI offset {known} s"]))


def _daemons(scene: Scene) -> Found | None:
    running = scene.machine.processes()
    ptp = [name for name in _PTP if name in running]
    ntp = [name for name in _NTP if name in running]
    text = " and ".join([*ptp, *(_NTP[name] for name in ntp)])
    if "sfptpd" in ptp or "timemaster" in ptp or ("ptp4l" in ptp and ("phc2sys" in ptp or "chronyd" in ntp)):
        return fine(text)
    if "ptp4l" in ptp:
        return advice(f"{text}: the card's clock is right, the system's is not told", "sudo phc2sys -a -r")
    card = next((name for name in scene.interfaces if _has_clock(scene, name)), None)
    if card is None:
        if ntp:
            return fine(f"{text}; no card here has a clock to do better with")
        install = "dnf install" if scene.machine.exists("/usr/bin/dnf") else "apt install"
        return advice(
            "none: the time drifts by milliseconds a minute", f"sudo {install} chrony", best="chronyd, at least"
        )
    stop = "".join(f"sudo systemctl disable --now {_NTP[name]}; " for name in ntp)
    what = f"{text}: right to some 0.1 to 1 ms" if ntp else "none: the time drifts by milliseconds a minute"
    return advice(what, f"{stop}sudo ptp4l -i {card} -s & sudo phc2sys -a -r")


def _has_clock(scene: Scene, interface: str) -> bool:
    try:
        return ethtool.stamps(scene.machine.ioctl, interface).phc >= 0
    except OSError:
        return False


CHECKS: tuple[Check[Scene], ...] = (
    Check("clock_source", "clock source", "tsc", _source),
    Check("tsc", "time-stamp counter", "constant, and runs on in sleep", _tsc),
    Check("clock_discipline", "the kernel's clock", "synchronised, TAI offset set, error known", _discipline),
    Check("time_daemon", "who sets the clock", "ptp4l and phc2sys (or chronyd with the card's clock)", _daemons),
)
