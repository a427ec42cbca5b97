"""Machines that are not here: files of /proc and /sys under a folder, and drivers' answers, for `barewire._doctor`.

What each is like is written down as a person would describe it; what the kernel shows of it follows the layout of
include/uapi/linux/ethtool.h, which stands here once more, apart from the code under test.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barewire._doctor import Machine
from barewire._doctor.netlink import XdpFeatures

COMMANDS = {
    0x03: "driver",
    0x0E: "coalescing",
    0x10: "rings",
    0x25: "flags",
    0x29: "udp_hash",
    0x2B: "gro",
    0x3C: "channels",
    0x41: "stamps",
    0x46: "indirection",
}
HASH_BITS = {"s": 1 << 4, "d": 1 << 5, "f": 1 << 6, "n": 1 << 7}

UNSYNCHRONISED = {
    "synchronised": False,
    "max_error_us": 16_000_000,
    "tai_offset_s": None,
    "known_tai_offset_s": 37,
    "leap": None,
}
STEADY = {"frequency_hz": 2_600_000_000, "bound_ns": 180, "fallback": None}


@dataclass(frozen=True)
class FakeCard:
    """A driver's answers; `None` for questions that it does not know."""

    driver: tuple[str, str, str, str]
    rings: tuple[int, int] | None = None  # now, at most
    channels: tuple[int, int] | None = None
    coalescing: tuple[int, bool] | None = None  # us, adaptive
    flags: int | None = 0
    gro: bool = True
    udp_hash: str | None = None
    indirection: tuple[int, ...] | None = None
    stamps: tuple[int, int, int] | None = None  # capabilities, PHC, receive filters
    program: int = 0  # of XDP, attached
    stamping: int | None = None  # the receive filter in use
    xdp: XdpFeatures | None = None

    def answer(self, question: str, data: bytearray) -> None:
        """Fills in what the driver would."""
        value = getattr(self, question)
        if value is None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        match question:
            case "driver":
                for index, text in enumerate(value):
                    struct.pack_into("32s", data, 4 + 32 * index, text.encode())
            case "rings":
                struct.pack_into("=I", data, 4, value[1])
                struct.pack_into("=I", data, 20, value[0])
            case "channels":
                struct.pack_into("=I", data, 16, value[1])
                struct.pack_into("=I", data, 32, value[0])
            case "coalescing":
                struct.pack_into("=I", data, 4, value[0])
                struct.pack_into("=I", data, 40, value[1])
            case "flags" | "gro":
                struct.pack_into("=I", data, 4, value)
            case "udp_hash":
                assert struct.unpack_from("=I", data, 4) == (2,)  # UDP_V4_FLOW
                struct.pack_into("=Q", data, 8, sum(HASH_BITS[letter] for letter in value))
            case "indirection":
                if struct.unpack_from("=I", data, 8) == (0,):
                    struct.pack_into("=II", data, 8, len(value), 40)
                else:
                    struct.pack_into(f"={len(value)}I", data, 24, *value)
            case "stamps":
                struct.pack_into("=Ii", data, 4, *value[:2])
                struct.pack_into("=I", data, 28, value[2])
            case "stamping":
                struct.pack_into("=iii", data, 0, 0, 1, value)


def machine(
    root: Path,
    files: Mapping[str, str | bytes],
    cards: Mapping[str, FakeCard],
    *,
    io_uring: int = errno.EFAULT,
    stolen: float = 0.0,
    environment: Mapping[str, str] | None = None,
    clock: Mapping[str, Any] = UNSYNCHRONISED,
    phc: Mapping[str, Any] | int = errno.EACCES,
    tsc: Mapping[str, Any] = STEADY,
) -> Machine:
    """Writes the files, `{a,b}` in a name standing for several, and answers for the cards."""
    for name, content in files.items():
        before, brace, rest = name.partition("{")
        choices, _, after = rest.partition("}")
        for choice in choices.split(",") if brace else [""]:
            path = root / f"{before}{choice}{after}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content + "\n")
            if name.startswith("opt/"):
                path.chmod(0o755)
    by_index = {}
    for number, (name, card) in enumerate(cards.items(), 2):
        (root / f"sys/class/net/{name}/ifindex").write_text(f"{number}\n")
        by_index[number] = card

    def ioctl(request: int, interface: str, data: bytearray) -> None:
        if interface not in cards:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        question = "stamping" if request == 0x89B1 else COMMANDS[struct.unpack_from("=I", data)[0]]
        cards[interface].answer(question, data)

    def xdp_features(ifindex: int) -> XdpFeatures:
        found = by_index[ifindex].xdp
        if found is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    def compare_phc(_: int) -> dict[str, Any]:
        if isinstance(phc, int):
            raise OSError(phc, os.strerror(phc))
        return dict(phc)

    return Machine(
        root=root,
        ioctl=ioctl,
        xdp_features=xdp_features,
        xdp_program=lambda ifindex: by_index[ifindex].program,
        io_uring_errno=lambda: io_uring,
        stolen_share=lambda: stolen,
        system_clock=lambda: dict(clock),
        compare_phc=compare_phc,
        calibrate_tsc=lambda: dict(tsc),
        environment=environment or {"PATH": "/opt/bin:/usr/bin", "USER": "trader"},
        interpreter="/usr/bin/python3.11",
    )


def common(
    kernel: str, cores: int, *, flags: str, capabilities: str, bounding: str = "000001ffffffffff"
) -> dict[str, str | bytes]:
    """What every machine has."""
    return {
        "proc/sys/kernel/osrelease": kernel,
        "proc/cpuinfo": f"processor\t: 0\nmodel name\t: Some Processor 9000\nflags\t\t: fpu tsc {flags}\n",
        "proc/stat": "cpu  900 0 100 98700 0 0 0 300 0 0",
        "proc/self/status": f"Name:\tpython\nCapEff:\t{capabilities}\nCapBnd:\t{bounding}\nNoNewPrivs:\t0",
        "proc/self/limits": "Limit   Soft Limit  Hard Limit  Units\nMax locked memory   8388608   8388608   bytes",
        "proc/net/protocols": "protocol  size\nXDP  1\nPACKET  2\nUDP  3",
        "proc/net/route": "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n",
        "proc/sys/kernel/sched_rt_runtime_us": "950000",
        "proc/sys/kernel/sched_rt_period_us": "1000000",
        "proc/sys/kernel/unprivileged_bpf_disabled": "2",
        "proc/sys/net/core/bpf_jit_enable": "1",
        "proc/sys/net/core/rmem_max": "212992",
        "proc/sys/net/core/{busy_read,busy_poll}": "0",
        "proc/sys/net/ipv4/ip_unprivileged_port_start": "1024",
        "proc/sys/net/ipv4/conf/all/rp_filter": "0",
        "proc/meminfo": "MemTotal: 134217728 kB\nMemAvailable: 67108864 kB\nHugePages_Total: 0\nHugePages_Free: 0\n"
        "Hugepagesize: 2048 kB",
        "sys/devices/system/cpu/online": f"0-{cores - 1}",
        "sys/devices/system/cpu/present": f"0-{cores - 1}",
        "sys/devices/system/cpu/isolated": "",
        "sys/devices/system/node/node0/cpulist": f"0-{cores - 1}",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
        "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm",
    }


def interface(
    name: str, *, speed: int = 10_000, mtu: int = 1500, up: bool = True, device: bool = True
) -> dict[str, str | bytes]:
    """An interface's folder."""
    folder = f"sys/class/net/{name}"
    files: dict[str, str | bytes] = {
        f"{folder}/flags": "0x1003" if up else "0x1002",
        f"{folder}/operstate": "up" if up else "down",
        f"{folder}/carrier": "1",
        f"{folder}/speed": str(speed),
        f"{folder}/mtu": str(mtu),
        f"proc/sys/net/ipv4/conf/{name}/rp_filter": "0",
    }
    if device:
        files[f"{folder}/device/numa_node"] = "-1"
    return files


def core(number: int, *, governor: str = "performance", siblings: str = "", exit_us: int = 1) -> dict[str, str | bytes]:
    """A core with two sleep states."""
    folder = f"sys/devices/system/cpu/cpu{number}"
    return {
        f"{folder}/cpufreq/scaling_governor": governor,
        f"{folder}/topology/thread_siblings_list": siblings or str(number),
        f"{folder}/cpuidle/state{{0,1,2}}/disable": "0",
        f"{folder}/cpuidle/state0/latency": "0",
        f"{folder}/cpuidle/state1/latency": "2",
        f"{folder}/cpuidle/state2/latency": str(exit_us),
    }


# --- four of them --------------------------------------------------------------------------------

BARE = "constant_tsc nonstop_tsc vmx"
EVERY_STAMP = (0b1011101, 0, 0b11)  # hardware and software, receive and transmit; filters none and all


def solarflare(root: Path) -> Machine:
    """Two sockets, RHEL, tuned by somebody who knew how, but for the ring, irqbalance and the core's socket; root."""
    files = {
        **common("5.14.0-503.el9.x86_64", 16, flags=BARE, capabilities="000001ffffffffff"),
        **interface("ens1f0"),
        **core(2),
        "sys/class/net/ens1f0/device/numa_node": "1",
        "sys/class/net/ens1f0/device/msi_irqs/{90,91,92}": "msix",
        "proc/interrupts": "  90:  1  PCI-MSI  ens1f0-0\n  91:  1  PCI-MSI  ens1f0-1\n",
        "proc/irq/{90,91}/smp_affinity_list": "12-13",
        "sys/devices/system/node/node0/cpulist": "0-7",
        "sys/devices/system/node/node1/cpulist": "8-15",
        "sys/devices/system/cpu/{isolated,nohz_full}": "2,9-11",
        "sys/devices/system/cpu/intel_pstate/no_turbo": "0",
        "proc/cmdline": "root=/dev/sda isolcpus=2,9-11 nohz_full=2,9-11",
        "proc/sys/kernel/sched_rt_runtime_us": "-1",
        "proc/sys/net/core/rmem_max": "67108864",
        "proc/meminfo": "MemTotal: 268435456 kB\nHugePages_Total: 512\nHugePages_Free: 500\nHugepagesize: 2048 kB",
        "proc/101/comm": "sfptpd",
        "proc/102/comm": "irqbalance",
        "sys/class/ptp/ptp0/clock_name": "sfc",
        "dev/ptp0": "",
        "usr/sbin/grubby": "",
        "opt/bin/onload": "",
        "sys/module/onload/version": "9.0.1.86",
    }
    card = FakeCard(
        driver=("sfc", "5.3.16", "8.5.2.1000 rx1 tx1", "0000:af:00.0"),
        rings=(512, 4096),
        channels=(2, 16),
        coalescing=(0, False),
        gro=False,
        flags=1 << 27,
        udp_hash="sd",
        indirection=(0, 1) * 64,
        stamps=EVERY_STAMP,
        stamping=1,
    )
    clock = {**UNSYNCHRONISED, "synchronised": True, "max_error_us": 12, "tai_offset_s": 37}
    phc = {"method": "precise", "bound_ns": 104, "timescale": "tai", "is_trap": False, "text": "the card is on TAI"}
    return machine(root, files, {"ens1f0": card}, clock=clock, phc=phc)


def e810(root: Path) -> Machine:
    """Ubuntu as it was installed, an Intel E810, a user without privilege."""
    files = {
        **common("6.8.0-45-generic", 8, flags=BARE, capabilities="0000000000000000"),
        **interface("enp1s0f0", speed=100_000, mtu=9000),
        **interface("virbr0", device=False),
        **core(7, governor="powersave", siblings="3,7", exit_us=133),
        "dev/cpu_dma_latency": struct.pack("=i", 2_000_000_000),
        "sys/class/net/enp1s0f0/device/msi_irqs/{130,131,132,133,134,135,136,137}": "msix",
        "proc/interrupts": "".join(f" {irq}: 5 PCI-MSIX ice-enp1s0f0-TxRx-{irq - 130}\n" for irq in range(130, 138)),
        **{f"proc/irq/{irq}/smp_affinity_list": "0-7" for irq in range(130, 138)},
        **{f"proc/irq/{irq}/effective_affinity_list": str(irq - 130) for irq in range(130, 138)},
        "sys/devices/system/cpu/nohz_full": " (null)",
        "sys/devices/system/cpu/intel_pstate/no_turbo": "1",
        "proc/cmdline": "root=/dev/nvme0n1p2 quiet splash",
        "proc/sys/kernel/io_uring_disabled": "2",
        "proc/sys/kernel/numa_balancing": "1",
        "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
        "proc/sys/net/ipv4/conf/enp1s0f0/rp_filter": "1",
        "proc/201/comm": "chronyd",
        "usr/sbin/update-grub": "",
        "usr/lib/x86_64-linux-gnu/pkgconfig/libdpdk.pc": "Name: DPDK\nVersion: 23.11.0",
        "sys/class/net/enp1s0f0/queues/rx-{0,1,2,3,4,5,6,7}/rps_cpus": "00",
        "sys/class/ptp/ptp0/clock_name": "ice-0000:01:00.0-clk",
        "dev/ptp0": "",
    }
    card = FakeCard(
        driver=("ice", "6.8.0-45-generic", "4.40 0x8001c967 1.3534.0", "0000:01:00.0"),
        rings=(256, 8160),
        channels=(8, 64),
        coalescing=(50, True),
        flags=0,
        udp_hash="s",
        indirection=tuple(range(8)) * 256,
        stamps=EVERY_STAMP,
        stamping=0,
        xdp=XdpFeatures(0b101111, 0b11),
        program=77,
    )
    return machine(root, files, {"enp1s0f0": card}, io_uring=errno.EPERM)


def cloud(root: Path) -> Machine:
    """A container on a cloud's virtual machine of two cores, root within it."""
    files = {
        **common(
            "6.1.0-18-cloud-amd64",
            2,
            flags="hypervisor constant_tsc",
            capabilities="00000000a80425fb",
            bounding="00000000a80425fb",
        ),
        **interface("ens5", speed=-1),
        "sys/devices/system/cpu/cpu1/topology/thread_siblings_list": "0-1",
        "proc/cmdline": "root=/dev/vda1",
        "sys/class/dmi/id/sys_vendor": "Amazon EC2",
        "sys/class/dmi/id/product_name": "c6i.large",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "xen",
        "sys/devices/system/clocksource/clocksource0/available_clocksource": "xen tsc hpet",
        "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]",
        "proc/net/protocols": "protocol  size\nPACKET  2\nUDP  3",
    }
    card = FakeCard(driver=("ena", "6.1.0", "", "0000:00:05.0"), rings=(1024, 16384), channels=(2, 2), gro=False)
    return machine(root, files, {"ens5": card}, io_uring=errno.EPERM, stolen=0.034)


def laptop(root: Path) -> Machine:
    """A laptop on an old kernel whose only card has no cable in, and of which much cannot be read."""
    files = {
        **common("5.4.0-generic", 4, flags="constant_tsc", capabilities="0000000000003000"),
        **interface("eno1", speed=1000),
        **interface("lo", device=False),
        "sys/class/net/eno1/operstate": "down",
        "proc/net/route": "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "eno1\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n",
        "proc/self/limits": "nothing that anybody knows",
        "sys/devices/system/cpu/isolated": "3-x",
    }
    del files["proc/stat"], files["proc/sys/net/core/rmem_max"]
    return machine(
        root, files, {"eno1": FakeCard(("e1000e", "5.4.0", "0.13-4", "0000:00:1f.6"))}, io_uring=errno.ENOSYS
    )
