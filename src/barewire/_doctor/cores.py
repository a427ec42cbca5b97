"""The feed's core: whether it is left alone, runs at full speed and wakes at once."""

from __future__ import annotations

import struct

from .finding import Check, Found, advice, fine
from .machine import cores_text, parse_cores
from .scene import Scene

__all__ = ["CHECKS"]

_FAST_WAKE_US = 2


def _cpu(scene: Scene, path: str) -> str:
    return f"/sys/devices/system/cpu/cpu{scene.core}/{path}"


def _alone(scene: Scene) -> Found | None:
    """One core that does everything else must remain."""
    if len(scene.machine.online()) < 2:
        return advice("this machine has one core: everything interrupts the feed", "# give the machine another core")
    return None


def _isolated(scene: Scene) -> Found | None:
    cores = scene.machine.cores("/sys/devices/system/cpu/isolated")
    if scene.core in cores:
        return fine(f"{cores_text(cores)}, core {scene.core} among them")
    text = f"{cores_text(cores) or 'none'}: other programs are put on core {scene.core}"
    return _alone(scene) or advice(
        text, scene.machine.add_boot_arguments(f"isolcpus=managed_irq,domain,{cores_text(cores | {scene.core})}")
    )


def _tickless(scene: Scene) -> Found | None:
    path = "/sys/devices/system/cpu/nohz_full"
    if not scene.machine.exists(path):
        return fine("this kernel was built without nohz_full")
    cores = scene.machine.cores(path)
    if scene.core in cores:
        return fine(f"{cores_text(cores)}, core {scene.core} among them")
    return _alone(scene) or advice(
        f"{cores_text(cores) or 'none'}: the timer interrupts core {scene.core} some hundred times a second",
        scene.machine.add_boot_arguments(f"nohz_full={cores_text(cores | {scene.core})}"),
    )


def _rcu(scene: Scene) -> Found | None:
    arguments = scene.machine.boot_arguments()
    cores = frozenset[int]()
    for key in ("rcu_nocbs", "nohz_full"):  # the second implies the first
        value = arguments.get(key, "")
        cores |= scene.machine.online() if value == "all" else parse_cores(value)
    if scene.core in cores:
        return fine(f"taken off {cores_text(cores)}")
    return _alone(scene) or advice(
        f"run on core {scene.core}", scene.machine.add_boot_arguments(f"rcu_nocbs={cores_text(cores | {scene.core})}")
    )


def _governor(scene: Scene) -> Found | None:
    path = _cpu(scene, "cpufreq/scaling_governor")
    if not scene.machine.exists(path):
        return fine("none: firmware or host sets the frequency")
    governor = scene.machine.read(path)
    if governor == "performance":
        return fine(governor)
    return advice(
        f"{governor}: the core slows down and takes its time to speed up", f"echo performance | sudo tee {path}"
    )


def _c_states(scene: Scene) -> Found | None:
    folder = _cpu(scene, "cpuidle")
    slow, slowest = [], 0
    for state in scene.machine.names(folder):
        if not state.startswith("state"):
            continue
        latency = scene.machine.number(f"{folder}/{state}/latency")
        if latency > _FAST_WAKE_US and scene.machine.text(f"{folder}/{state}/disable", "0") == "0":
            slow.append(f"{folder}/{state}/disable")
            slowest = max(slowest, latency)
    if not slow:
        return fine(f"none that takes over {_FAST_WAKE_US} us to leave")
    limit = _latency_limit(scene)
    if limit is not None and limit <= _FAST_WAKE_US:
        return fine(f"held off: /dev/cpu_dma_latency asks for {limit} us")
    seen = "" if limit is not None else " (/dev/cpu_dma_latency could not be read)"
    return advice(
        f"waking takes up to {slowest} us{seen}; a busy feed's core never sleeps, a blocking one's and its readers' do",
        f"echo 1 | sudo tee {' '.join(slow)}",
    )


def _latency_limit(scene: Scene) -> int | None:
    try:
        with scene.machine.path("/dev/cpu_dma_latency").open("rb") as file:
            return int(struct.unpack("=i", file.read(4))[0])
    except (OSError, struct.error):
        return None


def _turbo(scene: Scene) -> Found | None:
    for path, on in (
        ("/sys/devices/system/cpu/intel_pstate/no_turbo", "0"),
        ("/sys/devices/system/cpu/cpufreq/boost", "1"),
    ):
        if scene.machine.exists(path):
            if scene.machine.read(path) == on:
                return fine("on")
            return advice("off", f"echo {on} | sudo tee {path}")
    return fine("not told: firmware or host decides")


def _sibling(scene: Scene) -> Found | None:
    siblings = scene.machine.cores(_cpu(scene, "topology/thread_siblings_list")) - {scene.core}
    if not siblings:
        return fine("none shares the core" + (", as the host tells it" if scene.machine.is_virtual() else ""))
    online = siblings & scene.machine.online()
    if not online:
        return fine(f"{cores_text(siblings)}, switched off")
    if scene.machine.online() <= siblings | {scene.core}:
        text = f"{cores_text(online)} shares core {scene.core}, and there is no other"
        return advice(text, "# give the machine another core")
    files = " ".join(f"/sys/devices/system/cpu/cpu{sibling}/online" for sibling in sorted(online))
    return advice(
        f"{cores_text(online)} shares the core's units and cache with core {scene.core}", f"echo 0 | sudo tee {files}"
    )


def _rt_throttling(scene: Scene) -> Found | None:
    runtime = scene.machine.number("/proc/sys/kernel/sched_rt_runtime_us")
    period = scene.machine.number("/proc/sys/kernel/sched_rt_period_us")
    if runtime < 0 or runtime >= period:
        return fine("off")
    return advice(
        f"a real-time thread that spins is stopped for {(period - runtime) // 1000} ms in each {period // 1000} ms; "
        "matters where the feed runs under chrt",
        "sudo sysctl -w kernel.sched_rt_runtime_us=-1",
    )


def _irqbalance(scene: Scene) -> Found | None:
    if "irqbalance" not in scene.machine.processes():
        return fine("not running")
    return advice("runs, and moves interrupts to cores that it finds idle", "sudo systemctl disable --now irqbalance")


CHECKS: tuple[Check[Scene], ...] = (
    Check("isolated", "isolated cores (isolcpus)", "the feed's core", _isolated),
    Check("nohz_full", "cores without timer ticks (nohz_full)", "the feed's core", _tickless),
    Check("rcu_nocbs", "the kernel's own callbacks (rcu_nocbs)", "off the feed's core", _rcu),
    Check("governor", "frequency governor", "performance", _governor),
    Check("c_states", "sleep states", f"none that takes over {_FAST_WAKE_US} us to leave", _c_states),
    Check("turbo", "turbo", "on; off only where figures must repeat", _turbo),
    Check("smt_sibling", "hyperthread beside the feed's core", "none, or switched off", _sibling),
    Check("rt_throttling", "real-time throttling", "off", _rt_throttling),
    Check("irqbalance", "irqbalance", "not running", _irqbalance),
)
