"""Exchange, feed and strategy together: what a newcomer sees first."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .venue import free_line

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
PROGRAM = [str(Path(sys.executable).parent / "barewire")]


def test_the_demo_ends_by_itself_with_a_verdict(barewire: Cli) -> None:
    done = barewire("demo", "--duration", "3", "--rate", "20k")
    assert "AAPL" in done.stdout
    assert "each on two lines" in done.stdout
    shown, _, hedge = done.stdout.partition("AAPL hedged with MSFT")
    last = shown.splitlines()[-2]
    assert last == "Nothing was lost." or (last.startswith("Something was lost") and "warning" in done.stderr)
    rows = [line.split() for line in hedge.splitlines() if line.startswith(("legacy", "kernel", "af_xdp"))]
    assert [len(row) for row in rows] == [5, 5], hedge
    assert rows[0][0] == "legacy"
    assert all(float(cell) >= 0 for row in rows for cell in row[1:])


def test_the_demo_for_programs_accounts_for_every_message(barewire: Cli) -> None:
    lines = [json.loads(line) for line in barewire("demo", "-d", "2", "--rate", "20k", "--json").stdout.splitlines()]
    final = lines[-1]
    assert final["final"]
    sent, stats = final["sent"], final["stats"]
    names = list(stats)
    parts = names[names.index("messages_duplicate") : names.index("book_out_of_capacity") + 1]
    assert stats["messages"] == sum(stats[name] for name in parts)
    assert final["messages"] + final["messages_missing"] == sent["messages"]
    assert stats["packets"] + stats["kernel_drops"] >= sent["packets_a"] + sent["packets_b"]
    assert final["messages_missing"] == 0 or stats["kernel_drops"] > 0
    hedge = final["hedge"]
    assert hedge["measured"], hedge["not_measured_because"]
    assert hedge["paths"][0]["path"] == "legacy"
    for row in hedge["paths"]:
        assert row["mean_us"] > 0
        assert row["hedge_error_pct"]["low"] <= row["hedge_error_pct"]["mean"] <= row["hedge_error_pct"]["high"]


def test_the_demo_on_a_terminal_draws_a_table() -> None:
    shown, terminal = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "demo", "-d", "1", "--rate", "20k", "--no-hedge"], stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        text = b""
        try:
            while chunk := os.read(shown, 65536):
                text += chunk
        except OSError:
            pass  # the other end is closed
        os.close(shown)
        assert process.wait(60) == 0
    assert "bid size" in text.decode()
    assert "\N{BOX DRAWINGS LIGHT VERTICAL}" in text.decode()


def test_sim_and_run_meet(barewire: Cli, tmp_path: Path) -> None:
    line = free_line()
    example = barewire("run", "--example-config").stdout
    # The example as it is, but for a group and port of this test's own.
    head, _, rest = example.partition("[[lines]]")
    tail = rest[rest.index("[receive]") :].replace("nasdaq-sim", f"test-{line['port']}")
    lines = "[[lines]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in line.items())
    (tmp_path / "feed.toml").write_text(head + lines + tail)
    (tmp_path / "strategy.py").write_text(
        "import barewire\n"
        "class Count(barewire.Strategy):\n"
        "    seen = 0\n"
        "    def on_bbo(self, bbo): self.seen += 1\n"
        "    def on_end(self): print('strategy saw', self.seen)\n"
    )
    arguments = ["run", "feed.toml", "--strategy", "strategy.py:Count", "--output", "x.csv", "--records", "bbo"]
    with subprocess.Popen(
        [*PROGRAM, *arguments, "--interval", "0.1"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as feed:
        assert feed.stdout is not None
        feed.stdout.readline()
        where = f"{line['group']}:{line['port']}@lo"
        sent = json.loads(
            barewire(
                "sim",
                "--line",
                where,
                "--rate",
                "20k",
                "-n",
                "20k",
                "--instruments",
                "20",
                "--live-orders",
                "1k",
                "--json",
            ).stdout
        )
        shown = feed.stdout.read()
        assert feed.wait(60) == 0
    assert f"end: {sent['messages']:,} messages" in shown
    rows = (tmp_path / "x.csv").read_text().splitlines()
    assert f"strategy saw {len(rows) - 1}" in shown


def test_files_of_the_simulator_replay_to_the_same_books(barewire: Cli, tmp_path: Path) -> None:
    barewire(
        "sim", "--no-send", "-n", "30k", "--instruments", "50", "--live-orders", "2k",
        "--pcap", "x.pcap", "--binaryfile", "x.bin", cwd=tmp_path,
    )  # fmt: skip
    digests = set()
    for name in ("x.pcap", "x.bin"):
        found = json.loads(barewire("replay", name, "--date", "2026-01-05", "--json", cwd=tmp_path).stdout)
        digests.add(found["digests"]["books"])
        assert found["stats"]["messages_missing"] == 0
        assert not [name for name, value in found["stats"].items() if name.startswith("book_") and value]
    assert len(digests) == 1


def test_a_strategy_that_fails_shows_its_author_where(barewire: Cli, tmp_path: Path) -> None:
    line = free_line()
    fields = "".join(f"{key} = {json.dumps(value)}\n" for key, value in line.items())
    (tmp_path / "feed.toml").write_text(f"[feed]\nprotocol = 'itch-5.0'\n[[lines]]\n{fields}")
    (tmp_path / "strategy.py").write_text(
        "import barewire\nclass A(barewire.Strategy):\n    def on_start(self, source): return 1 / 0\n"
    )
    done = barewire("run", "feed.toml", "--strategy", "strategy.py", check=False, cwd=tmp_path)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-1] == "barewire: error: strategy A raised ZeroDivisionError: division by zero"
    assert any("return 1 / 0" in text for text in lines)


@pytest.mark.parametrize("what", ["book", "ring"])
def test_bench_reports(barewire: Cli, what: str) -> None:
    small = ["--messages", "20k", "--instruments", "20", "--live-orders", "1k"] if what == "book" else []
    found = json.loads(barewire("bench", what, "--seconds", "0.1", *small, "--json").stdout)
    assert found
    if what == "book":
        assert found["decode_msgs_per_s"] > found["book_msgs_per_s"] > 0
    assert barewire("bench", what, "--seconds", "0.1", *small).stdout.startswith("what")
