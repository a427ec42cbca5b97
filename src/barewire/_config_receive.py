"""The part of the configuration that says which way packets come in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from ._config_checks import Table, cpu, unicast, wrong

__all__ = ["AfXdpConfig", "DpdkConfig", "IoUringConfig", "PacketMmapConfig", "ReceiveConfig"]


class IoUringConfig(Table):
    """What is special to the path `io_uring`: the `[receive.io_uring]` table."""

    buffers: Annotated[
        int,
        Field(
            ge=1,
            le=32_768,
            description="packets that the kernel can put down before they are taken, 1 to 32768: few stay in the cache",
        ),
    ] = 128
    sqpoll_idle_ms: Annotated[
        int | None,
        Field(
            ge=1,
            le=60_000,
            description="milliseconds after which a kernel thread that does the receiving sleeps, 1 to 60000; "
            "left out: there is none",
        ),
    ] = None
    sqpoll_core: Annotated[int | None, Field(ge=0, description="that thread's core; left out: any")] = None


class PacketMmapConfig(Table):
    """What is special to the path `packet_mmap`: the `[receive.packet_mmap]` table."""

    ring_bytes: Annotated[
        int, Field(ge=65_536, le=2 << 30, description="an interface's ring in bytes, 65536 to 2147483648")
    ] = 64 << 20
    slot_bytes: Annotated[
        int, Field(ge=256, le=131_072, description="bytes of a slot, 256 to 131072; a longer frame costs a system call")
    ] = 2048
    block_timeout_ms: Annotated[
        int | None,
        Field(
            ge=1,
            le=1000,
            description="milliseconds after which version 3 of the ring hands over a block, 1 to 1000; "
            "left out: version 2, which hands over every packet at once",
        ),
    ] = None
    fanout_group: Annotated[
        int | None,
        Field(ge=0, le=65_535, description="a group in which receivers share packets, 0 to 65535; left out: none"),
    ] = None
    fanout_mode: Annotated[
        Literal["hash", "round-robin", "cpu", "rollover", "random", "queue"],
        Field(description='how they do: "hash", "round-robin", "cpu", "rollover", "random" or "queue"'),
    ] = "hash"


class AfXdpConfig(Table):
    """What is special to the path `af_xdp`: the `[receive.af_xdp]` table."""

    attach: Annotated[
        Literal["auto", "native", "generic"],
        Field(
            description='where the program runs: "auto" (the driver where it can), "native" (or not at all), "generic"'
        ),
    ] = "auto"
    transfer: Annotated[
        Literal["auto", "zero-copy", "copy"],
        Field(description='how packets come: "auto" (by the card where it can), "zero-copy" (or not at all), "copy"'),
    ] = "auto"
    queues: Annotated[
        list[Annotated[int, Field(ge=0, le=1023, description="the number of a queue, 0 to 1023")]] | None,
        Field(min_length=1, description="a list of the card's queues to take packets from; left out: all"),
    ] = None
    frames: Annotated[
        int | None,
        Field(ge=64, le=1 << 20, description="packets that one queue holds, 64 to 1048576; left out: 16384 or fewer"),
    ] = None
    huge_pages: Annotated[bool, Field(description="true (use huge pages where there are any) or false")] = True
    busy_poll_budget: Annotated[
        int, Field(ge=1, le=65_535, description="packets of one look at the driver under busy_poll_us, 1 to 65535")
    ] = 64
    vlan: Annotated[
        int | None,
        Field(ge=1, le=4094, description="id of the VLAN that packets are tagged with, 1 to 4094; left out: none"),
    ] = None


def _devices(value: str | dict[str, str] | None) -> str | dict[str, str] | None:
    """Names that DPDK can take apart: a bus address, or a virtual device's name and arguments."""
    for device in value.values() if isinstance(value, dict) else [value or "{interface}"]:
        if not device or not device.isascii() or not device.isprintable() or " " in device:
            raise wrong("")
    if value == {}:
        raise wrong("")
    return value


class DpdkConfig(Table):
    """What is special to the path `dpdk`: the `[receive.dpdk]` table."""

    device: Annotated[
        str | dict[str, str] | None,
        AfterValidator(_devices),
        Field(
            description='a device as DPDK has it, "0000:03:00.0" or "net_af_packet,iface={interface}" ({interface} is '
            'the line\'s), or a table of such by interface: {eth0 = "0000:03:00.0"}'
        ),
    ] = None
    library: Annotated[
        str | None,
        Field(min_length=1, description="the library that `make dpdk` builds; left out: beside the package"),
    ] = None
    eal: Annotated[
        list[Annotated[str, Field(min_length=1, description='an argument, e.g. "--iova-mode=va"')]],
        Field(description='a list of further arguments of DPDK\'s environment, e.g. ["--iova-mode=va"]'),
    ] = Field(default_factory=list)
    memory_mib: Annotated[
        int | None,
        Field(
            ge=16,
            le=65_536,
            description="MiB for all feeds of the process, 16 to 65536; left out: 256, of huge pages what is needed",
        ),
    ] = None
    huge_pages: Annotated[bool, Field(description="true (use huge pages where any are free) or false")] = True
    queues: Annotated[int, Field(ge=1, le=64, description="receive queues of each device, 1 to 64")] = 1
    descriptors: Annotated[int, Field(ge=64, le=32_768, description="frames that a queue holds, 64 to 32768")] = 2048
    burst: Annotated[int, Field(ge=1, le=1024, description="frames that one look takes at most, 1 to 1024")] = 64
    frame_bytes: Annotated[
        int | None,
        Field(ge=64, le=16_384, description="bytes of the longest frame, 64 to 16384; left out: by the device's MTU"),
    ] = None
    vlan: Annotated[
        int | None,
        Field(ge=1, le=4094, description="id of the VLAN that packets are tagged with, 1 to 4094; left out: none"),
    ] = None
    address: Annotated[
        str | None,
        AfterValidator(lambda value: None if value is None else unicast(value)),
        Field(
            description="the IPv4 address that groups are joined from where no kernel does it; left out: 0.0.0.0",
        ),
    ] = None

    def devices(self) -> list[tuple[str | None, str]]:
        """Interfaces, none for all others, and their devices."""
        if isinstance(self.device, dict):
            return list(self.device.items())
        return [] if self.device is None else [(None, self.device)]


def _where_frames_are_seen(value: str | None, info: ValidationInfo) -> str | None:
    if value is not None and info.data.get("path") not in ("packet_mmap", "af_xdp", "dpdk"):
        raise wrong('path "packet_mmap", "af_xdp" or "dpdk" beside it, since sockets see no trailers')
    return value


class ReceiveConfig(Table):
    """How packets are received: the `[receive]` table."""

    path: Annotated[
        Literal["kernel", "io_uring", "packet_mmap", "af_xdp", "dpdk"],
        Field(
            description='"kernel" (sockets: works everywhere), "io_uring", "packet_mmap" (a ring of frames), '
            '"af_xdp" (past the kernel) or "dpdk" (without it: docs/receive.md)'
        ),
    ] = "kernel"
    mode: Annotated[
        Literal["blocking", "busy"],
        Field(description='"blocking" (gentle: sleeps until a packet comes) or "busy" (fastest: takes a whole core)'),
    ] = "blocking"
    core: Annotated[
        int | None,
        AfterValidator(lambda value: None if value is None else cpu(value)),
        Field(description="the core to pin the feed's thread to; left out: not pinned"),
    ] = None
    rcvbuf_bytes: Annotated[
        int, Field(ge=4096, le=1 << 30, description="the socket's receive buffer in bytes, 4096 to 1073741824")
    ] = 16 << 20
    busy_poll_us: Annotated[
        int, Field(ge=0, le=1_000_000, description="microseconds of SO_BUSY_POLL, 0 (off) to 1000000")
    ] = 0
    timestamps: Annotated[
        Literal["auto", "hardware", "kernel", "user"],
        Field(
            description='whose clock says when packets came: "auto" (the card\'s where it stamps already, else the '
            'kernel\'s, else the feed\'s own), "hardware" (the card is set up for it), "kernel" or "user"'
        ),
    ] = "auto"
    switch_times: Annotated[
        Literal["metamako", "exablaze"] | None,
        AfterValidator(_where_frames_are_seen),
        Field(
            description='the capture switch whose trailers say when packets came, "metamako" or "exablaze"; '
            "left out: none. Only packet_mmap, af_xdp and dpdk see them"
        ),
    ] = None
    drop_capabilities: Annotated[
        bool,
        Field(description="true (when all is open, root's powers are given up: docs/receive.md) or false"),
    ] = True
    io_uring: Annotated[IoUringConfig, Field(description="a [receive.io_uring] table")] = IoUringConfig()
    packet_mmap: Annotated[PacketMmapConfig, Field(description="a [receive.packet_mmap] table")] = PacketMmapConfig()
    af_xdp: Annotated[AfXdpConfig, Field(description="a [receive.af_xdp] table")] = AfXdpConfig()
    dpdk: Annotated[DpdkConfig, Field(description="a [receive.dpdk] table")] = DpdkConfig()

    @model_validator(mode="after")
    def _dpdk_has_a_device(self) -> ReceiveConfig:
        if self.path == "dpdk" and self.dpdk.device is None:
            raise wrong('expected a [receive.dpdk] table with the device, e.g. device = "0000:03:00.0"')
        return self

    def to_core(self) -> dict[str, Any]:
        """The dictionary that the compiled core takes."""
        core = self.model_dump()
        core["dpdk"]["devices"] = self.dpdk.devices()
        return core
