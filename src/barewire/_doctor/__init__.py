"""What a machine would give a feed, and what to change: the reading behind `barewire doctor`.

    finding         what is said: findings, verdicts, the report
    machine         /proc and /sys under a root folder; `system`, `ethtool` and `netlink` ask the kernel the rest
    scene           the interfaces, the core and the configuration that it is about
    card, queues    of an interface
    cores, memory, capabilities, kernel, clocks     of the machine
    paths           which receive paths would work
    configuration   what keeps a given configuration from running

Nothing is ever changed, and no other program is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import capabilities, card, clocks, configuration, cores, kernel, memory, paths, queues
from .finding import Finding, Report, run_checks
from .machine import Machine
from .scene import Scene, Wanted, cards

__all__ = ["Machine", "Report", "Wanted", "diagnose"]


def diagnose(machine: Machine, wanted: Wanted, interfaces: Sequence[str] = ()) -> Report:
    """Looks at everything. `interfaces` come before those that `wanted` names; without any, all cards.

    Raises nothing for what cannot be read: the finding says so.
    """
    scene = Scene.of(machine, wanted, interfaces)
    verdicts = paths.verdicts(scene)
    return Report(
        machine=_machine_text(machine),
        interfaces=scene.interfaces,
        core=scene.core,
        core_why=scene.core_why,
        findings=(*configuration.findings(scene, verdicts), *_findings(scene)),
        paths=verdicts,
    )


def _findings(scene: Scene) -> Iterator[Finding]:
    for one in cards(scene):
        yield from run_checks(one.name, card.CHECKS + queues.CHECKS, one)
    for topic, checks in (
        ("cores", cores.CHECKS),
        ("memory", memory.CHECKS),
        ("kernel", kernel.CHECKS + capabilities.CHECKS),
        ("clocks", clocks.CHECKS),
        ("other stacks", paths.CHECKS),
    ):
        yield from run_checks(topic, checks, scene)


def _machine_text(machine: Machine) -> str:
    """The machine in one line: processor, cores, memory, kernel."""
    model = "unknown processor"
    for line in machine.text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
            break
    try:
        total = f", {machine.memory()['MemTotal'] / (1 << 30):.0f} GiB"
    except (OSError, ValueError, KeyError):
        total = ""
    release = machine.text("/proc/sys/kernel/osrelease", "unknown")
    return f"{model}, {len(machine.online())} cores{total}, Linux {release}"
