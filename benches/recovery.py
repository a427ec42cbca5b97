"""What a feed loses, and how long it takes to recover, over real sockets with lines that lose packets.

``make bench-recovery`` runs it: a simulator and a feed, each a process of its own on a core of its own, over loopback.
Each case says what the network does and who may be asked; a row says what was sent, what never reached the strategy,
what was asked for again, and the longest time from when waiting for the other line was over until all was there.

    python benches/recovery.py [--rate 1M] [--seconds 60] [--only outage] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peers import machine, stolen_percent

BAREWIRE = Path(sys.executable).with_name("barewire")
REREQUEST, GLIMPSE = "127.0.0.1:26510", "127.0.0.1:26511"
GROUPS = (("A", "239.255.65.1", 26487), ("B", "239.255.65.2", 26488))

# Name, what it shows, what the network does, who may be asked.
CASES = {
    "loss": (
        "1% loss on A; 1% loss and 50 us jitter on B",
        ["--loss", "1%", "--delay-jitter", "B:50us"],
        ("rerequest",),
    ),
    "outage": ("both lines dead for a second", ["--impair", "dead={half}s-{more}s"], ("rerequest", "snapshot")),
    "join": ("joined in mid-session", [], ("snapshot",)),
}


def configuration(services: tuple[str, ...], core: int) -> str:
    lines = "".join(
        f'[[lines]]\nname = "{name}"\ngroup = "{group}"\nport = {port}\ninterface = "lo"\n'
        for name, group, port in GROUPS
    )
    servers = {"rerequest": REREQUEST, "snapshot": GLIMPSE}
    recovery = "".join(f'[recovery.{service}]\nservers = ["{servers[service]}"]\n' for service in services)
    return (
        f'[feed]\nname = "bench-recovery"\nprotocol = "itch-5.0"\n{lines}'
        f'[receive]\nmode = "busy"\ncore = {core}\nrcvbuf_bytes = {64 << 20}\n'
        f"[sequencing]\ncapacity = {1 << 20}\n{recovery}"
        "[book]\ninstruments = 1024\norders = 262144\nlevels = 65536\n"
    )


def last_json(text: str) -> dict[str, Any]:
    """The last of the objects that a command printed, whether each is on a line or not."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = json.loads(text.strip().splitlines()[-1])
    return dict(found)


def run(name: str, rate: str, seconds: int, folder: Path) -> dict[str, Any]:
    what, options, services = CASES[name]
    cores = sorted(os.sched_getaffinity(0))
    config = folder / "feed.toml"
    config.write_text(configuration(services, cores[-1]))
    half = seconds // 2
    impairments = [option.format(half=half, more=half + 1) for option in options]
    sim: list[str | Path] = [
        BAREWIRE,
        "sim",
        "--rate",
        rate,
        "--duration",
        str(seconds),
        "--messages-per-packet",
        "20",
        "--json",
    ]
    sim += [*(f"--line={group}:{port}@lo" for _, group, port in GROUPS), "--core", str(cores[0]), *impairments]
    sim += ["--rerequest", REREQUEST, "--glimpse", GLIMPSE]
    feed: list[str | Path] = [BAREWIRE, "run", config, "--json", "--duration", str(seconds + 30)]
    stolen = stolen_percent()
    late = name == "join"
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes: list[subprocess.Popen[str]] = [subprocess.Popen(sim if late else feed, **pipes)]
    try:
        # Time enough to have joined, or for a session to be under way.
        try:
            processes[0].wait(timeout=1.5)
            raise SystemExit(f"{name}: it ended too early\n{processes[0].communicate()[1]}")
        except subprocess.TimeoutExpired:
            processes.append(subprocess.Popen(feed if late else sim, **pipes))
        outputs = [process.communicate(timeout=seconds + 90) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, error) in zip(processes, outputs, strict=True):
        if process.returncode != 0:
            raise SystemExit(f"{name}: a process failed\n{error}")
    sent, heard = (last_json(out) for out, _ in (outputs if late else reversed(outputs)))
    stats = heard["stats"]
    return {
        "case": name,
        "what": what,
        "seconds": seconds,
        "sent": sent["messages"],
        "sent_per_s": sent["messages_per_second"],
        "lost_on_lines": [line["lost"] for line in sent.get("impaired") or []],
        "missing": stats["messages_missing"],
        "replaced": stats["messages_replaced"],
        "recovered": stats["messages_recovered"],
        "requests": stats["requests"],
        "snapshots": stats["snapshots_loaded"],
        "recovery_longest_ms": stats["recovery_longest_ns"] / 1e6,
        "kernel_drops": stats["kernel_drops"],
        "read_too_late": heard["lost"],
        "stolen_pct": max(stolen, stolen_percent()),
    }


def table(rows: list[dict[str, Any]]) -> str:
    head = "| what | sent | a second | lost | by snapshot | asked again | longest recovery |\n" + "|---" * 7 + "|"
    cells = (
        f"| {row['what']} | {row['sent']:,} | {row['sent_per_s']:,} | {row['missing']:,} | {row['replaced']:,} "
        f"| {row['recovered']:,} in {row['requests']:,} requests | {row['recovery_longest_ms']:.1f} ms |"
        for row in rows
    )
    return "\n".join([head, *cells])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", default="1M", help="messages a second")
    parser.add_argument("--seconds", type=int, default=60, help="how long the case `loss` takes; the others take ten")
    parser.add_argument("--only", choices=CASES, help="one case")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [args.only] if args.only else CASES:
            seconds = args.seconds if name == "loss" else min(args.seconds, 10)
            rows.append(run(name, args.rate, seconds, Path(folder)))
    if args.json:
        print(json.dumps({"machine": machine(), "results": rows}, indent=2))
        return
    print(f"{machine()}; {args.rate} messages a second, 20 a packet\n\n{table(rows)}")
    for row in rows:
        print(f"{row['case']}: {row['stolen_pct']:.1f}% of the core stolen, {row['kernel_drops']} kernel drops")


if __name__ == "__main__":
    main()
