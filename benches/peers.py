"""Throughput of barewire beside its peers on PyPI: the same file, the same machine, one run, turn and turn about.

``make bench`` runs it. Each round runs every contender once, in a process of its own, so that a bad minute of the
machine meets all of them; the best round and the median are shown. The share of time that the host took the core away
is measured by a loop that watches the clock, before and after each contender; /proc/stat shows nothing of it on a
virtual machine. A contender with more than 5% in its best round is marked: its figure says little.

    python benches/peers.py --peers target/peers-venv/bin/python [--rounds 5] [--messages 5000000] [--only ring]
                            [--output benches/results/NAME.json] [--readme]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "target" / "bench"
STOLEN_LIMIT = 5.0  # percent


@dataclass
class Contender:
    """A row of the table."""

    task: str
    library: str
    how: str
    name: str  # of benches/contenders.py, or the key of a barewire bench
    ours: bool = False
    unit: str = "messages"
    rates: list[float] = field(default_factory=list)
    stolen: list[float] = field(default_factory=list)
    note: str = ""


BOOK = "L3 books of every instrument"
ROWS = "best bid and offer, as numpy arrays in Python"
ORDERS = "order events, as numpy arrays in Python"
DECODE = "decoding"
RING = "from shared memory"

CONTENDERS = [
    Contender(BOOK, "barewire", "`barewire bench book`", "core:book_msgs_per_s", ours=True),
    Contender(BOOK, "itch-book 0.2.1", "`batches(tables=('symbols',))`", "itch-book-book"),
    Contender(BOOK, "itchcpp 1.6.4", "`BookManager().process_stream()`", "itchcpp-book"),
    Contender(BOOK, "meatpy 0.5.0", "one instrument, 200,000 messages", "meatpy-book"),
    Contender(ROWS, "barewire", "`replay(records='bbo')`", "barewire-bbo", ours=True),
    Contender(ROWS, "itch-book 0.2.1", "`batches(tables=('bbo',))`", "itch-book-bbo"),
    Contender(ORDERS, "barewire", "`replay(records='mbo')`", "barewire-mbo", ours=True),
    Contender(ORDERS, "itch-book 0.2.1", "`batches(tables=('messages',))`", "itch-book-messages"),
    Contender(
        DECODE, "barewire", "every field read, compiled: `barewire bench book`", "core:decode_msgs_per_s", ours=True
    ),
    Contender(DECODE, "barewire", "books built as well, a Python object each", "barewire-events", ours=True),
    Contender(DECODE, "itchcpp 1.6.4", "a Python object each", "itchcpp-objects"),
    Contender(DECODE, "itchfeed 1.6.4", "a Python object each, without itchcpp", "itchfeed-objects"),
    Contender(DECODE, "meatpy 0.5.0", "a Python object each", "meatpy-objects"),
    Contender(DECODE, "databento-dbn 0.72.0", "a Python object each, from DBN", "dbn-objects"),
    Contender(RING, "barewire", "compiled reader on another core", "ring:read_msgs_per_s", ours=True),
    Contender(RING, "barewire", "Python, numpy batches", "barewire-ring-batches", ours=True),
    Contender(RING, "barewire", "Python, a call of `on_event` each", "barewire-ring-events", ours=True),
    Contender(RING, "iceoryx2 0.10.0", "Python, a sample each", "iceoryx2-python"),
]


def stolen_percent(seconds: float = 0.1) -> float:
    """How much of the time went by between two looks at the clock that should lie side by side."""
    end = time.perf_counter_ns() + int(seconds * 1e9)
    last, lost = time.perf_counter_ns(), 0
    while last < end:
        now = time.perf_counter_ns()
        if now - last > 100_000:
            lost += now - last
        last = now
    return 100 * lost / (seconds * 1e9)


def run_json(*command: str | Path) -> dict[str, Any]:
    """What a program prints, as JSON; the program's own words where it fails."""
    environment = os.environ | {"ITCH_NO_CPP": "1"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def make_file(messages: int, instruments: int, live_orders: int) -> Path:
    """The simulated day that all work through; kept from one run to the next."""
    barewire = Path(sys.executable).with_name("barewire")
    version = subprocess.run([barewire, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    path = DATA / f"sim-{version}-{messages}-{instruments}-{live_orders}.bin"
    if not path.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        print(f"making {path.relative_to(ROOT)}", file=sys.stderr)
        command: list[str | Path] = [barewire, "sim", "--no-send", "--binaryfile", part, "--seed", "1"]
        command += ["--messages", str(messages)]
        command += ["--instruments", str(instruments), "--live-orders", str(live_orders)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        part.rename(path)
    return path


def make_dbn(path: Path, records: int = 200_000) -> None:
    """The first order events of the file as DBN's MBO records, without a header: what databento-dbn reads."""
    import numpy as np

    import barewire

    out = path.with_suffix(".dbn")
    if out.exists():
        return
    mbo = next(iter(barewire.replay(path, protocol="itch-5.0", records="mbo", batch_records=records))).mbo
    # Length in words, type, publisher, instrument, ts_event, order_id, price, size, flags, channel, action, side,
    # ts_recv, ts_in_delta, sequence.
    layout = np.dtype("u1,u1,<u2,<u4,<u8,<u8,<i8,<u4,u1,u1,S1,S1,<u8,<i4,<u4")
    rows = np.zeros(len(mbo), layout)
    rows["f0"], rows["f1"], rows["f2"] = layout.itemsize // 4, 0xA0, mbo["publisher_id"]
    columns = {"f3": "instrument_id", "f4": "ts_event", "f5": "order_id", "f6": "price", "f7": "size", "f8": "flags"}
    columns |= {"f10": "action", "f11": "side", "f12": "ts_recv", "f14": "sequence"}
    for theirs, ours in columns.items():
        rows[theirs] = mbo[ours]
    out.write_bytes(rows.tobytes())


def measure(contenders: list[Contender], path: Path, peers: Path, rounds: int) -> None:
    """Fills in the rates, round by round."""
    script = Path(__file__).with_name("contenders.py")
    barewire = Path(sys.executable).with_name("barewire")
    for round_ in range(1, rounds + 1):
        core: dict[str, dict[str, Any]] = {}
        for contender in contenders:
            print(f"round {round_}/{rounds}: {contender.task}: {contender.library}", file=sys.stderr)
            before = stolen_percent()
            kind, _, key = contender.name.partition(":")
            if key:
                arguments = ("bench", "book", path) if kind == "core" else ("bench", "ring")
                if kind not in core:
                    core[kind] = run_json(barewire, *arguments, "--json")
                rate = core[kind][key]
            else:
                python = sys.executable if contender.ours else peers
                found = run_json(python, script, contender.name, path)
                rate = found["messages"] / found["seconds"]
            contender.rates.append(rate)
            contender.stolen.append(max(before, stolen_percent()))


def machine() -> str:
    """Processor, cores, system."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    virtual = ", virtual" if "hypervisor" in cpuinfo else ""
    processor = model[1] if model else platform.machine()
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{processor}, {os.cpu_count()} cores{virtual}, {system}"


def human(rate: float) -> str:
    return f"{rate / 1e6:,.2f}" if rate < 10e6 else f"{rate / 1e6:,.1f}"


def rows(contenders: list[Contender]) -> list[list[str]]:
    """The table's rows, the fastest of a task first."""
    found = []
    for task in dict.fromkeys(contender.task for contender in contenders):
        group = [contender for contender in contenders if contender.task == task]
        ours = max((max(c.rates) for c in group if c.ours), default=0.0)
        for contender in sorted(group, key=lambda c: -max(c.rates)):
            best = max(contender.rates)
            mark = " (?)" if contender.stolen[contender.rates.index(best)] > STOLEN_LIMIT else ""
            ratio = f"{best / ours:.2f}" if ours else ""
            median = statistics.median(contender.rates)
            name = f"**{contender.library}**" if contender.ours else contender.library
            found.append([task, name, contender.how, human(best) + mark, human(median), ratio])
    return found


def table(contenders: list[Contender]) -> str:
    """A Markdown table."""
    head = ["what", "who", "how", "best, million/s", "median", "of our best"]
    lines = [head, ["---"] * 3 + ["---:"] * 3, *rows(contenders)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Throughput of barewire beside its peers on PyPI.")
    parser.add_argument("--peers", type=Path, required=True, help="the Python that has the peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=5_000_000)
    parser.add_argument("--instruments", type=int, default=9_000)
    parser.add_argument("--live-orders", type=int, default=600_000)
    parser.add_argument("--only", help="contenders whose task, library or name contains this")
    parser.add_argument("--output", type=Path, help="also write everything measured as JSON")
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    options = parser.parse_args()

    wanted = options.only or ""
    chosen = [c for c in CONTENDERS if wanted in f"{c.task} {c.library} {c.name}"]
    path = make_file(options.messages, options.instruments, options.live_orders)
    make_dbn(path)
    measure(chosen, path, options.peers, options.rounds)

    stolen = [share for contender in chosen for share in contender.stolen]
    about = (
        f"{machine()}. {options.messages:,} simulated messages, {options.instruments:,} instruments, "
        f"{options.live_orders:,} live orders; {options.rounds} rounds, interleaved; the host took "
        f"{statistics.mean(stolen):.1f}% of the core on average, {max(stolen):.1f}% at worst."
    )
    text = f"{table(chosen)}\n\n{about} Command: `make bench`."
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        measured = [vars(contender) for contender in chosen]
        options.output.write_text(json.dumps({"about": about, "contenders": measured}, indent=1) + "\n")
    if options.readme:
        readme = ROOT / "README.md"
        before, _, rest = readme.read_text().partition("<!-- bench -->\n")
        after = rest.partition("<!-- /bench -->")[2]
        readme.write_text(f"{before}<!-- bench -->\n\n{text}\n\n<!-- /bench -->{after}")


if __name__ == "__main__":
    main()
