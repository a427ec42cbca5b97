"""What handing an event over takes, as `barewire bench handoff` measures it, and the table of it for the README.

``make bench-handoff`` runs it with iceoryx2 beside; ``BENCH_ARGS=--readme`` puts the table into README.md. Other
arguments are handed on: ``BENCH_ARGS="--readme --duration 60"``.

    python benches/handoff.py --peers target/peers-venv/bin/python [--readme] [--output NAME.json] [arguments]
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
BEGIN, END = "<!-- bench-handoff -->", "<!-- /bench-handoff -->"


def figure(ns: float | None) -> str:
    """Nanoseconds for people."""
    if ns is None:
        return ""
    return f"{ns:,.1f}" if ns < 100 else f"{ns:,.0f}"


def table(result: dict[str, Any]) -> str:
    """The README's table."""
    lines = [
        "| to | how | p50 | median of all runs | p99 | mean of the best 99% | of bare | in a row, each |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in result["results"]:
        mark = " (?)" if row["inconclusive"] else ""
        cells = [figure(row["p50_ns"]) + mark, figure(row["median"]["p50_ns"]), figure(row["p99_ns"])]
        cells += [figure(row["trimmed_mean_ns"]), f"{row['of_bare']:.2f}", figure(row.get("each_ns"))]
        lines.append(f"| **{row['name']}** | {row['how']} | {' | '.join(cells)} |")
    called = {row["name"]: row["overhead_ns"] for row in result["results"] if "overhead_ns" in row}
    overhead = ", ".join(f"{figure(ns)} {name.rpartition(' ')[2]}" for name, ns in called.items())
    machine = result["machine"]
    virtual = ", virtual" if machine["virtual"] else ""
    command = "make bench-handoff" + (f' BENCH_ARGS="{" ".join(result["arguments"])}"' if result["arguments"] else "")
    return "\n".join(lines) + (
        f"\n\nNanoseconds. A call in the loop adds to publication: {overhead}. {machine['cpu']}, {machine['cores']} "
        f"cores{virtual}, Linux {machine['kernel']}, Python {machine['python']}; {result['rounds']} rounds, "
        f"interleaved; single events {result['pace_ns'] / 1e3:g} us apart. The run with the lowest p90 of those of "
        f"which the host took at most {result['stolen_limit_pct']:g}% of a core; (?): there was none. "
        f"Command: `{command}`."
    )


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, help="the Python that has iceoryx2")
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    parser.add_argument("--output", type=Path, help="write the JSON here")
    options, rest = parser.parse_known_args()
    command = [str(BAREWIRE), "bench", "handoff", "--json", "--peers", options.peers, *rest]
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
