"""Latency, rates, bursts and drain by receive path, and the README's tables of them.

``make bench-latency`` runs it as root on a quiet machine, in some four minutes; ``BENCH_ARGS=--readme`` puts the tables
into README.md. Other arguments go to `barewire bench latency`, ``--pin`` and ``--sender`` to all commands:
``BENCH_ARGS="--readme --pin 2,3"``.

    python benches/latency.py [--readme] [--only latency|rates] [--output NAME.json] [arguments of `bench latency`]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BAREWIRE = Path(sys.executable).with_name("barewire")
COLUMNS = {
    "mean": "mean_us",
    "standard deviation": "stddev_us",
    "p50": "p50_us",
    "p99": "p99_us",
    "p99.9": "p999_us",
    "max": "max_us",
    "mean of the best 99%": "trimmed_mean_us",
    "their deviation": "trimmed_stddev_us",
}
SINGLE = ["latency", "--paths", "legacy,af_xdp", "--messages-per-packet", "1", "--rate", "10k", "--runs", "8"]
BUSY = ["latency", "--paths", "legacy,af_xdp", "--rate", "1M", "--runs", "8"]
RATE = ["rate", "--paths", "legacy,kernel,af_xdp", "--messages-per-packet", "1,10", "--duration", "0.5"]
BURST = ["burst", "--paths", "legacy,kernel,af_xdp", "--rate", "1M", "--messages-per-packet", "30"]
# 1 MiB is five times what a socket gets where nobody raised net.core.rmem_max.
TIGHT = [*BURST, "--buffer", "1"]
SUSTAIN = ["sustain", "--paths", "af_xdp", "--rate", "5M", "--duration", "60"]
DRAIN = ["drain", "--rounds", "6"]


def measured(arguments: list[str]) -> dict[str, Any]:
    """One command's JSON. `sustain` says with 1 that something was lost, which is a result, too."""
    ran = subprocess.run([str(BAREWIRE), "bench", *arguments, "--json"], check=False, stdout=subprocess.PIPE, text=True)
    if ran.returncode and not (arguments[0] == "sustain" and ran.stdout):
        sys.exit(ran.returncode)
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def figure(us: float) -> str:
    return f"{us:,.2f}" if us < 100 else f"{us:,.0f}"


def million(count: float) -> str:
    return f"{count / 1e6:,.2f}"


def by_path(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in result["results"]}


def where(result: dict[str, Any]) -> str:
    machine, pin = result["machine"], result["pin"]
    cores = f"{machine['cores']} cores{', virtual' if machine['virtual'] else ''}"
    sender = {"program": "a program in the kernel", "udp": "a UDP socket"}[result["sender"]]
    return (
        f"{machine['cpu']}, {cores}, Linux {machine['kernel']}, over {result['network']}, sent by {sender}; "
        f"sender on core {pin['sender']}, receiver on {pin['receiver']}, legacy's strategy on {pin['legacy_strategy']}"
    )


def command(arguments: list[str]) -> str:
    return "make bench-latency" + (f' BENCH_ARGS="{" ".join(arguments)}"' if arguments else "")


def latency_table(result: dict[str, Any], arguments: list[str]) -> str:
    lines = [
        f"| path | run | {' | '.join(COLUMNS)} | of legacy's mean | lost |",
        f"| --- | --- |{' ---: |' * (len(COLUMNS) + 2)}",
    ]
    for row in result["results"]:
        mark = " (?)" if row["inconclusive"] else ""
        ratio = row.get("of_legacy", {}).get("mean_us")
        share = f"{100 * ratio:.1f}%" if ratio else ""
        lost = f"{row['lost_all_runs']:,} of {row['sent_all_runs']:,}"
        best = " | ".join(figure(row[name]) for name in COLUMNS.values())
        median = " | ".join(figure(row["median"][name]) for name in COLUMNS.values())
        lines.append(f"| **{row['path']}** | best{mark} | {best} | {share} | {lost} |")
        lines.append(f"| | median | {median} | | |")
    stolen = [run["stolen_pct"] for row in result["results"] for run in row["runs"]]
    first = result["results"][0]
    return "\n".join(lines) + (
        f"\n\nMicroseconds. {where(result)}; {first['offered_msgs_per_s']:,.0f} messages a second offered, "
        f"{first['messages_per_packet']:.1f} a packet; {result['runs_each']} runs of {result['duration_s']:g} s each, "
        f"interleaved; {result['clock']}. Best: the lowest p90 of those runs of which the host took at most 5% of a "
        f"core; (?): there was none. The host took {sum(stolen) / len(stolen):.1f}% on average, {max(stolen):.1f}% at "
        f"worst. Command: `{command(arguments)}`."
    )


def rates_table(found: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| what | path | messages a packet | | of legacy's | lost | limit |",
        "| --- | --- | ---: | --- | ---: | ---: | --- |",
    ]

    def line(what: str, row: dict[str, Any], said: str, lost: str, limit: str) -> None:
        times = row.get("times_legacy")
        ratio = f"{times:.1f}" if times and row["path"] != "legacy" else ""
        per_packet = row["most_messages_per_packet"]
        lines.append(f"| {what} | **{row['path']}** | {per_packet} | {said} | {ratio} | {lost} | {limit} |")

    for row in found["rate"]["results"]:
        said = f"{million(row['rate_msgs_per_s'])} million messages a second"
        line("highest rate without a loss", row, said, f"0 of {row['sent']:,}", row["limited_by"])
    for burst in (found["burst"], found["tight"]):
        what = f"a burst of {1e3 * burst['longest_s']:g} ms, {burst['buffer_bytes'] >> 20} MiB for what waits"
        for row in burst["results"]:
            said = f"{row['burst_ms']:.3g} ms survived at {million(row['rate_of_longest_msgs_per_s'])} million a second"
            lost = f"{row['lost_of_longest']:,} of {row['sent_of_longest']:,}"
            line(what, row, said, lost, row["limited_by"])
    for row in found["sustain"]["results"]:
        said = f"{million(row['rate_msgs_per_s'])} million messages a second for {row['seconds']:.0f} s"
        lost = f"{row['lost']:,} of {row['sent']:,}"
        line("decoded, booked, published, read", row, said, lost, row["limited_by"])
    for row in found["drain"]["results"]:
        said = f"{million(row['packets_per_s'])} million packets a second"
        line("a full queue emptied", row, said, f"{row['lost']:,} of {row['sent']:,}", "")
    return "\n".join(lines)


RATIOS = {
    "mean": ("mean_us", 5),
    "p50": ("p50_us", 9),
    "standard deviation": ("stddev_us", 5),
    "mean of the best 99%": ("trimmed_mean_us", 5),
    "their deviation": ("trimmed_stddev_us", 5),
}


def ratios_table(found: dict[str, dict[str, Any]]) -> str:
    """AF_XDP's latencies in parts of legacy's, in the runs that were made, beside what was aimed at."""
    aims = " | ".join(f"{name}, at most {bound}%" for name, (_, bound) in RATIOS.items())
    lines = [f"| AF_XDP's latency, of legacy's | {aims} |", f"| --- |{' ---: |' * len(RATIOS)}"]
    for run in (found["single"], found["latency"], found["busy"]):
        row = by_path(run).get("af_xdp")
        if row is None or not row.get("of_legacy"):
            continue
        cells = []
        for key, bound in RATIOS.values():
            share = 100 * (row["of_legacy"][key] or 0.0)
            cells.append(f"{share:.1f}%" if share <= bound else f"**{share:.1f}%**, {share / bound:.1f} times the aim")
        rate = f"{row['offered_msgs_per_s']:,.0f} messages a second, {row['messages_per_packet']:.0f} a packet"
        lines.append(f"| {rate} | {' | '.join(cells)} |")
    return "\n".join(lines) + (
        "\n\nWhat is missed there: over a veth pair the kernel's work for a packet and its copy count, too; with ten "
        "messages a packet each waits for those before it. Mean and deviation of all samples are made up by "
        "interruptions of one or two milliseconds: where a core is not isolated, by the host or the kernel's own "
        "threads (`barewire doctor`)."
    )


def goals(found: dict[str, dict[str, Any]]) -> str:
    """Every aim, what was measured, and where it was missed, by how much and who was the limit."""
    said = []

    def goal(aim: str, value: float, bound: float, unit: str, *, at_most: bool, why: str) -> None:
        reached = value <= bound if at_most else value >= bound
        text = f"- {aim}: {'at most' if at_most else 'at least'} {bound:g}{unit}; measured {value:,.3g}{unit}, "
        by = 100 * (value / bound - 1) if at_most else 100 * (1 - value / bound)
        said.append(text + ("reached." if reached else f"**missed** by {by:.0f}%. {why}"))

    busy = by_path(found["busy"])
    veth = (
        "Over a veth pair the kernel's work for a packet, its copy and the messages before it in the packet count, too."
    )
    if "af_xdp" in busy:
        row = busy["af_xdp"]
        what = "AF_XDP's {} of the best 99% at 1,000,000 messages a second"
        goal(what.format("mean"), row["trimmed_mean_us"], 5, " us", at_most=True, why=veth)
        goal(what.format("deviation"), row["trimmed_stddev_us"], 1, " us", at_most=True, why=veth)
    for row in found["rate"]["results"]:
        if row["path"] == "af_xdp" and row["times_legacy"]:
            aim = f"AF_XDP's loss-free rate, of legacy's, {row['most_messages_per_packet']} a packet"
            why = f"The limit was the {row['limited_by']}."
            goal(aim, row["times_legacy"], 5, " times", at_most=False, why=why)
    for row in found["sustain"]["results"]:
        lost = row["lost"] or (row["limited_by"] != "nobody" and 1)
        text = (
            f"- {row['path']}, {million(row['rate_msgs_per_s'])} million messages a second for {row['seconds']:.0f} s"
        )
        verdict = (
            "reached." if not lost else f"**missed**: {row['lost']:,} lost; the limit was the {row['limited_by']}."
        )
        said.append(f"{text}; aimed at 5 million for 60 s without a loss: {verdict}")
    drained = by_path(found["drain"]).get("af_xdp")
    if drained and drained["times_legacy"]:
        aim = "AF_XDP's emptying of a full queue, of legacy's"
        why = "A packet costs two misses of the cache and a checksum."
        goal(aim, drained["times_legacy"], 50, " times", at_most=False, why=why)
    bursts = by_path(found["tight"])
    if "af_xdp" in bursts and "legacy" in bursts:
        kept, legacy = bursts["af_xdp"]["survives"], bursts["legacy"]
        lost = legacy["lost_of_longest"]
        text = f"AF_XDP {'kept all' if kept else 'did not'}, legacy lost {lost:,} of {legacy['sent_of_longest']:,}"
        if not lost and legacy["limited_by"] == "sender":
            text += (
                f", which came at {million(legacy['rate_of_longest_msgs_per_s'])} million a second only: the sender's "
                "core does the kernel's work for a socket, too, and cannot send faster into one"
            )
        said.append(
            "- A burst of 10,000,000 messages a second for 10 ms, ten times the sustained 1,000,000, which AF_XDP "
            f"survives and legacy does not, with 1 MiB for packets that wait (five times what a socket gets where "
            f"nobody raised `net.core.rmem_max`): {'reached' if kept and lost else '**missed**'}. {text}."
        )
    return "\n".join(said)


def rates(found: dict[str, dict[str, Any]], arguments: list[str]) -> str:
    result = found["rate"]
    buffers = (
        f"{result['buffer_bytes'] >> 20} MiB a path for packets that wait, {found['sustain']['buffer_bytes'] >> 20}"
    )
    stolen = [row["stolen_pct"] for name in ("rate", "burst", "tight", "sustain") for row in found[name]["results"]]
    commands = "`, `".join(f"barewire bench {' '.join(words)}" for words in (RATE, BURST, TIGHT, SUSTAIN, DRAIN))
    return (
        f"{rates_table(found)}\n\n{where(result)}; {buffers} MiB for the 60 seconds. Limit: who could not do more; "
        f"over a veth pair the kernel's receive work is done on the sender's core, and counts as the sender's. "
        f"The host took {max(stolen):.1f}% of a core at worst. Commands: `{commands}`; all of it: "
        f"`{command(arguments)}`.\n\n"
        f"{ratios_table(found)}\n\nWhat else was aimed at:\n\n{goals(found)}"
    )


def put(name: str, text: str) -> None:
    """Replaces what README.md has between a name's two marks."""
    readme = ROOT / "README.md"
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = f"{begin}\n\n{text}\n\n{end}"
    before, found, following = readme.read_text().partition(begin)
    _, closed, after = following.partition(end)
    if not (found and closed):
        # The first time: behind what it belongs to.
        last = "<!-- /bench-latency -->"
        before, found, after = readme.read_text().partition(last)
        if not found:
            sys.exit(f"README.md: expected {begin} and {end}, or {last}")
        before += f"{last}\n\n"
    readme.write_text(f"{before}{text}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", action="store_true", help="put the tables into README.md")
    parser.add_argument(
        "--only", choices=("latency", "rates"), help="`latency`: no rates; `rates`: a short look at latency"
    )
    parser.add_argument("--output", type=Path, help="write the JSON here")
    parser.add_argument("--pin", help="SENDER,RECEIVER: their cores")
    parser.add_argument("--sender", help="program, udp or auto")
    options, rest = parser.parse_known_args()
    common = [word for name in ("pin", "sender") if (value := getattr(options, name)) for word in (f"--{name}", value)]
    quick = ["--paths", "legacy,af_xdp", "--runs", "2"] if options.only == "rates" else []
    found = {"latency": measured(["latency", *quick, *rest, *common])}
    text = latency_table(found["latency"], [*rest, *common])
    print(text)
    if options.readme and options.only != "rates":
        put("bench-latency", text)
    if options.only != "latency":
        for name, arguments in (
            ("single", SINGLE),
            ("busy", BUSY),
            ("rate", RATE),
            ("burst", BURST),
            ("tight", TIGHT),
            ("sustain", SUSTAIN),
            ("drain", DRAIN),
        ):
            found[name] = measured([*arguments, *common])
        text = rates(found, [*rest, *common])
        print(f"\n{text}")
        if options.readme:
            put("bench-rate", text)
    if options.output:
        options.output.write_text(json.dumps({**found, "arguments": rest}, indent=1) + "\n")


if __name__ == "__main__":
    main()
