"""`barewire sim`: a Nasdaq-like exchange that publishes multicast, or files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._defaults import DEFAULT_GLIMPSE, DEFAULT_LINES, DEFAULT_REREQUEST
from .._errors import ConfigError
from .._impair import FAULT_FORMS, LINE_LETTERS, parse_fault, parse_impairments
from ._impair import (
    BurstLossOption,
    DelayJitterOption,
    DuplicateOption,
    ImpairOption,
    LineSkewOption,
    LossOption,
    ReorderOption,
    given_impairments,
)
from ._options import DurationOption, JsonOption, number
from ._terminal import count_text, note, print_json

if TYPE_CHECKING:
    from .._core import Simulator

__all__ = ["sim", "simulator_config"]

_DEFAULT_RATE = "200k"
_DEFAULT_LINES = " ".join(f"{line.group}:{line.port}@{line.interface}" for line in DEFAULT_LINES)
_LINGER_S = 2.0
_MIN_PAYLOAD = 72  # a packet of one message of the longest type


def sim(
    rate: Annotated[
        str | None,
        typer.Option(help=f"Messages a second: 200k, 5M, or 'max'. [default: {_DEFAULT_RATE}; to files max]"),
    ] = None,
    duration: DurationOption = None,
    messages: Annotated[
        str | None,
        typer.Option("--messages", "-n", help="Close after this many messages: 10M; the closing ones come on top."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same messages.")] = 1,
    instruments: Annotated[str, typer.Option(help="How many instruments.")] = "1000",
    live_orders: Annotated[str, typer.Option(help="How many orders rest in the books, about.")] = "100k",
    line: Annotated[
        list[str] | None,
        typer.Option("--line", help=f"GROUP:PORT@INTERFACE, once for A and once for B. [default: {_DEFAULT_LINES}]"),
    ] = None,
    send: Annotated[bool, typer.Option("--send/--no-send", help="Send multicast; --no-send only writes files.")] = True,
    pcap: Annotated[str | None, typer.Option(metavar="PATH", help="Also write the packets to a pcap file.")] = None,
    binaryfile: Annotated[
        str | None, typer.Option(metavar="PATH", help="Also write the messages to a BinaryFILE.")
    ] = None,
    session: Annotated[str, typer.Option(help="MoldUDP64 session, at most ten characters.")] = "SIM0000001",
    max_payload: Annotated[
        int, typer.Option(min=_MIN_PAYLOAD, max=65000, help="Most bytes of a packet's payload.")
    ] = 1400,
    per_packet: Annotated[
        int | None,
        typer.Option("--messages-per-packet", min=1, max=2000, help="Messages a packet; left out: as they come."),
    ] = None,
    ttl: Annotated[int, typer.Option(min=0, max=255, help="Multicast time to live; 0 stays on this machine.")] = 0,
    different_cuts: Annotated[
        bool, typer.Option("--different-cuts", help="Cut the B line's packets in other places than the A line's.")
    ] = False,
    core: Annotated[int | None, typer.Option(min=0, help="Pin the sender to this core.")] = None,
    digest: Annotated[
        bool,
        typer.Option("--digest", help="Print two digests: of the events that a feed sees, and of its final books."),
    ] = False,
    impair: ImpairOption = None,
    loss: LossOption = None,
    burst_loss: BurstLossOption = None,
    duplicate: DuplicateOption = None,
    reorder: ReorderOption = None,
    delay_jitter: DelayJitterOption = None,
    line_skew: LineSkewOption = None,
    rerequest: Annotated[
        str | None,
        typer.Option(metavar="ADDR:PORT", help=f"Answer requests for lost messages there: {DEFAULT_REREQUEST}."),
    ] = None,
    glimpse: Annotated[
        str | None, typer.Option(metavar="ADDR:PORT", help=f"Serve snapshots (GLIMPSE) there: {DEFAULT_GLIMPSE}.")
    ] = None,
    rerequest_fault: Annotated[str, typer.Option(metavar="FAULT", help=f"Answer badly: {FAULT_FORMS}.")] = "none",
    glimpse_fault: Annotated[str, typer.Option(metavar="FAULT", help=f"Serve badly: {FAULT_FORMS}.")] = "none",
    venue: Annotated[
        int | None,
        typer.Option(
            min=1, max=9, help="One of several venues that follow one path of prices: the same --seed, another number."
        ),
    ] = None,
    venue_lag: Annotated[
        float | None,
        typer.Option(min=0.0, max=1e6, help="Microseconds by which it follows later. [default: 300 a number after 1]"),
    ] = None,
    volatility: Annotated[int, typer.Option(min=0, max=1000, help="How much prices move, percent of the usual.")] = 100,
    trading: Annotated[
        float | None, typer.Option(min=0.001, help="Close after so many seconds of market hours, by simulated time.")
    ] = None,
    simulated_rate: Annotated[
        str, typer.Option(help="Messages a second by simulated time, in calm times; of times only.")
    ] = "1M",
    linger: Annotated[
        float, typer.Option(min=0.0, help="Seconds that these servers stay after the session's end.")
    ] = _LINGER_S,
    as_json: JsonOption = False,
) -> None:
    """Publish ITCH 5.0 over MoldUDP64 multicast on an A and a B line, as Nasdaq does, until Ctrl-C.

    Deterministic from its seed. Nothing leaves the machine unless --line names an interface other than lo. As it
    stands, 'barewire run' with the configuration of 'barewire run --example-config' hears it.

    Two venues: two of these commands with --venue 1 and --venue 2 and one --seed, to two files by simulated time or at
    once by the system's clock. They share nothing but the seed.

    The impairments are the network's: what is sent, and written to --pcap, is what they leave; a --binaryfile and the
    servers have every message.
    """
    from .. import _core

    if not send and not (pcap or binaryfile or digest):
        raise ConfigError("--no-send: nothing to do; give --pcap or --binaryfile")
    if not send and messages is None and duration is None and trading is None:
        raise ConfigError("--no-send: expected --messages, --trading or --duration, else the file never ends")
    if messages is not None and trading is not None:
        raise ConfigError("--messages and --trading: expected one of the two")
    if venue is None and venue_lag is not None:
        raise ConfigError(f"--venue-lag {venue_lag:g}: expected --venue beside it")
    if not session.isascii() or not 1 <= len(session) <= 10:
        raise ConfigError(f"--session {session!r}: expected 1 to 10 ASCII characters")
    rate_text = rate if rate is not None else (_DEFAULT_RATE if send else "max")
    lines = _lines(line, venue or 1) if send else []
    impairments = parse_impairments(
        given_impairments(impair, loss, burst_loss, duplicate, reorder, delay_jitter, line_skew),
        LINE_LETTERS[: len(lines) or 2],
    )
    rerequests = _server("--rerequest", rerequest, rerequest_fault, send)
    snapshots = _server("--glimpse", glimpse, glimpse_fault, send)
    config = simulator_config(
        seed=seed,
        instruments=number("--instruments", instruments, 1),
        live_orders=number("--live-orders", live_orders, 1),
        messages=None if messages is None else number("--messages", messages, 1),
        duration_ns=None if duration is None else round(duration * 1e9),
        trading_ns=None if trading is None else round(trading * 1e9),
        simulated_rate=number("--simulated-rate", simulated_rate, 1),
        volatility=volatility,
        venue=None if venue is None else venue_config(venue, venue_lag),
        rate=None if rate_text == "max" else float(number("--rate", rate_text, 1)),
        max_payload=max_payload,
        messages_per_packet=per_packet,
        session=session,
        lines=lines,
        real_time=send,
        ttl=ttl,
        different_cuts=different_cuts,
        pcap=pcap,
        binaryfile=binaryfile,
        core=core,
        impairments=impairments and [one.to_core() for one in impairments],
        rerequest=rerequests,
        glimpse=snapshots,
        digest=digest,
    )
    simulator = _core.Simulator(config)
    where = " and ".join(f"{entry['group']}:{entry['port']}" for entry in config["lines"])
    note(f"sending to {where}; Ctrl-C ends the session" if where else "writing")
    report, interrupted = _run(simulator, linger if rerequests or snapshots else 0.0)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    if interrupted:
        raise typer.Exit(130)


_LOOK_S = 0.05


def _run(simulator: Simulator, linger: float) -> tuple[dict[str, Any], bool]:
    """Runs it to its end or to Ctrl-C, with a line a second on a terminal: the report, and whether it was Ctrl-C.

    The servers stay for `linger` seconds, for feeds that miss the last messages.
    """
    interrupted = False
    simulator.start()
    try:
        begun = told = time.monotonic()
        before = 0
        while simulator.running:
            time.sleep(_LOOK_S)
            now = time.monotonic()
            if now - told >= 1:
                messages = simulator.progress()["messages"]
                rate = count_text((messages - before) / (now - told))
                note(f"{now - begun:.0f} s: {count_text(messages)} messages, {rate} a second")
                told, before = now, messages
        time.sleep(linger)
    except KeyboardInterrupt:
        interrupted = True
    return simulator.stop(), interrupted


def simulator_config(**given: Any) -> dict[str, Any]:
    """The dictionary that the compiled simulator takes, with defaults for what is not given."""
    from .. import _time

    return {
        "seed": 1,
        "instruments": 1000,
        "live_orders": 100_000,
        "messages": None,
        "trading_ns": None,
        "simulated_rate": 1_000_000,
        "volatility": 100,
        "venue": None,
        "duration_ns": None,
        "rate": None,
        "max_payload": 1400,
        "messages_per_packet": None,
        "session": "SIM0000001",
        "midnight_ns": _time.midnight_ns(_time.today()),
        "real_time": False,
        "prepare": False,
        "lines": [],
        "ttl": 0,
        "different_cuts": False,
        "pcap": None,
        "binaryfile": None,
        "heartbeat_ns": 1_000_000_000,
        "core": None,
        "impairments": None,
        "rerequest": None,
        "glimpse": None,
        "digest": False,
        **given,
    }


def venue_config(number_: int, lag_us: float | None = None) -> dict[str, int]:
    """A venue as the compiled simulator takes it; the first one leads, each further one follows 300 us later."""
    lag_ns = 300_000 * (number_ - 1) if lag_us is None else round(1e3 * lag_us)
    return {"number": number_, "lag_ns": lag_ns, "instrument_lag_ns": 20_000}


def _lines(given: list[str] | None, venue: int) -> list[dict[str, Any]]:
    if given is not None and len(given) > 2:
        raise ConfigError(f"--line: found {len(given)}; expected one for the A line and at most one for the B line")
    if given:
        return [_line(text) for text in given]
    # Each venue on groups of its own, or one would hear the other.
    default = [_line(text) for text in _DEFAULT_LINES.split()]
    for entry in default:
        head, third, last = entry["group"].rsplit(".", 2)
        entry["group"] = f"{head}.{int(third) + venue - 1}.{last}"
    return default


def _line(text: str) -> dict[str, Any]:
    import ipaddress

    address, _, interface = text.partition("@")
    group, _, port = address.rpartition(":")
    try:
        if ipaddress.IPv4Address(group).is_multicast and 1 <= int(port) <= 65535:
            return {"group": group, "port": int(port), "interface": interface or None}
    except ValueError:
        pass
    expected = "GROUP:PORT@INTERFACE with a multicast group, e.g. 239.255.64.1:26477@lo"
    raise ConfigError(f"--line {text!r}: expected {expected}", key="line", value=text, expected=expected)


def _server(option: str, where: str | None, fault: str, send: bool) -> dict[str, Any] | None:
    """A server as the compiled simulator takes it. Raises ConfigError."""
    import ipaddress

    if where is None:
        if fault != "none":
            raise ConfigError(f"{option}-fault {fault!r}: expected {option} ADDR:PORT beside it")
        return None
    if not send:
        raise ConfigError(f"{option} {where!r}: nobody asks for messages of a file; leave out --no-send or this")
    name, delay_ns = parse_fault(f"{option}-fault", fault)
    address, _, port = where.rpartition(":")
    try:
        if not ipaddress.IPv4Address(address).is_multicast and 1 <= int(port) <= 65535:
            return {"address": address, "port": int(port), "fault": name, "delay_ns": delay_ns}
    except ValueError:
        pass
    expected = f"ADDRESS:PORT of this machine, e.g. {DEFAULT_REREQUEST}"
    raise ConfigError(f"{option} {where!r}: expected {expected}", key=option, value=where, expected=expected)


def _print_report(report: dict[str, Any]) -> None:
    rate = count_text(report["messages_per_second"])
    print(f"{count_text(report['messages'])} messages in {report['seconds']:.1f} s, {rate} a second")
    if report["packets_a"]:
        late = f"{count_text(report['late_packets'])} of them late, at most by {report['max_late_us']:.0f} us"
        print(f"packets: {count_text(report['packets_a'])} on A, {count_text(report['packets_b'])} on B; {late}")
    for letter, line in zip(LINE_LETTERS, report["impaired"] or (), strict=False):
        what = ", ".join(f"{count_text(line[key])} {key}" for key in ("lost", "duplicated", "reordered", "delayed"))
        print(f"line {letter}: {count_text(line['arrived'])} of {count_text(line['sent'])} packets arrived; {what}")
    if asked := report["rerequest"]:
        answered = f"{count_text(asked['answered'])} answered with {count_text(asked['messages'])} messages"
        print(f"re-requests: {count_text(asked['requests'])}, {answered}")
    if asked := report["glimpse"]:
        served = f"{count_text(asked['served'])} served with {count_text(asked['messages'])} messages"
        print(f"snapshots: {count_text(asked['connections'])} clients, {served}")
    if found := report["digests"]:
        print(f"events {found['events']}\nbooks  {found['books']}")
        if found["messages_missing"]:
            print(f"without {count_text(found['messages_missing'])} messages, which came on neither line")
    if report["send_errors"] or report["unsent"]:
        print(f"not sent: {count_text(report['unsent'])} packets, {count_text(report['send_errors'])} errors")
