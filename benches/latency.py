"""Latency by receive path, as `barewire bench latency` measures it, and the table of it for the README.

``make bench-latency`` runs it as root on a quiet machine; ``BENCH_ARGS=--readme`` puts the table into README.md. Other
arguments are handed on: ``BENCH_ARGS="--readme --rate 1M --pin 2,3"``.

    python benches/latency.py [--readme] [--output NAME.json] [arguments of `barewire bench latency`]
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
BEGIN, END = "<!-- bench-latency -->", "<!-- /bench-latency -->"
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


def figure(us: float) -> str:
    return f"{us:,.2f}" if us < 100 else f"{us:,.0f}"


def table(result: dict[str, Any]) -> str:
    """The README's table."""
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
    machine, pin = result["machine"], result["pin"]
    stolen = [run["stolen_pct"] for row in result["results"] for run in row["runs"]]
    virtual = ", virtual" if machine["virtual"] else ""
    command = "make bench-latency" + (f' BENCH_ARGS="{" ".join(result["arguments"])}"' if result["arguments"] else "")
    return "\n".join(lines) + (
        f"\n\nMicroseconds. {machine['cpu']}, {machine['cores']} cores{virtual}, Linux {machine['kernel']}, over "
        f"{result['network']}; sender on core {pin['sender']}, receiver on {pin['receiver']}, legacy's strategy on "
        f"{pin['legacy_strategy']}; {result['results'][0]['offered_msgs_per_s']:,.0f} messages a second offered, "
        f"{result['results'][0]['messages_per_packet']:.1f} a packet; {result['runs_each']} runs of "
        f"{result['duration_s']:g} s each, interleaved; {result['clock']}. Best: the lowest p90 of those runs of "
        f"which the host took at most 5% of a core; (?): there was none. The host took "
        f"{sum(stolen) / len(stolen):.1f}% on average, {max(stolen):.1f}% at worst. Command: `{command}`."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    parser.add_argument("--output", type=Path, help="write the JSON here")
    options, rest = parser.parse_known_args()
    command = [str(BAREWIRE), "bench", "latency", "--json", *rest]
    ran = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        sys.exit(ran.returncode)
    result = {**json.loads(ran.stdout), "arguments": rest}
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    text = table(result)
    print(text)
    if options.readme:
        readme = ROOT / "README.md"
        before, begin, following = readme.read_text().partition(BEGIN)
        _, end, after = following.partition(END)
        if not (begin and end):
            sys.exit(f"README.md: expected {BEGIN} and {END}")
        readme.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    main()
