"""The command line as a person meets it: typed, mistyped, interrupted, cut off."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from barewire._cli.app import run_command_line

from .venue import SMALL_DAY_BBO, binaryfile, free_line, random_day, small_day, write_binaryfile

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
PROGRAM = [str(Path(sys.executable).parent / "barewire")]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_binaryfile(tmp_path / "small.bin", small_day())


def config_text(line: dict[str, object], **more: str) -> str:
    """A TOML configuration of one line."""
    tables = "".join(f"[{name}]\n{body}\n" for name, body in more.items())
    fields = "".join(f"{key} = {json.dumps(value)}\n" for key, value in line.items())
    return f"[feed]\nprotocol = 'itch-5.0'\n[[lines]]\n{fields}{tables}"


# --- what works ----------------------------------------------------------------------------------


def test_bbo_rows_as_the_issue_has_them(barewire: Cli, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    done = barewire(
        "replay", small, "--protocol", "itch-5.0", "--date", "2020-01-30", "--records", "bbo", "--output", out
    )
    assert (done.stdout, done.stderr) == ("", "")
    lines = out.read_text().splitlines()
    assert lines[0] == "sequence,ts_event,symbol,bid_price,bid_size,ask_price,ask_size"
    assert lines[1] == "3,1580394600000000001,AAPL,100000000000,100,,"
    assert len(lines) == 1 + len(SMALL_DAY_BBO)


def test_mbo_rows_to_standard_output(barewire: Cli, small: Path) -> None:
    done = barewire("replay", small, "--date", "2020-01-30", "--records", "mbo", "--output", "-")
    lines = done.stdout.splitlines()
    assert lines[0] == "sequence,ts_event,symbol,action,side,order_id,price,size"
    assert lines[1] == "3,1580394600000000001,AAPL,A,B,10,100000000000,100"
    assert [line.split(",")[3] for line in lines[1:]] == list("AAAATFCCCCA")


def test_standard_input_and_jsonl(small: Path) -> None:
    arguments = ["replay", "-", "--date", "2020-01-30", "-o", "-", "--output-format", "jsonl"]
    done = subprocess.run([*PROGRAM, *arguments], input=small.read_bytes(), capture_output=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["sequence"] for row in rows] == [row[0] for row in SMALL_DAY_BBO]
    assert rows[0]["ask_price"] is None


def test_a_summary_for_people_and_for_programs(barewire: Cli, small: Path) -> None:
    text = barewire("replay", small, "--date", "2020-01-30", "--stats").stdout
    assert "12 messages" in text
    assert "AAPL" in text
    assert "messages_book" in text
    found = json.loads(barewire("replay", small, "--date", "2020-01-30", "--json").stdout)
    assert found["messages"] == found["stats"]["messages"] == 12
    assert found["date"] == "2020-01-30"
    books = {row["symbol"]: (row["bid_price"], row["ask_price"], row["ask_size"]) for row in found["books"]}
    assert books == {"AAPL": (None, 101_000_000_000, 30), "MSFT": (None, 250_000_000_000, 9)}


def test_inspect_prints_a_line_or_an_object_a_message(barewire: Cli, small: Path) -> None:
    lines = barewire("inspect", small, "--protocol", "itch-5.0").stdout.splitlines()
    assert len(lines) == 12
    assert "add_order_no_mpid_attribution_message" in lines[2]
    objects = [json.loads(line) for line in barewire("inspect", small, "--json", "--types", "A,D").stdout.splitlines()]
    assert {row["type"] for row in objects} == {"A", "D"}
    assert objects[0]["order_reference_number"] == 10
    assert objects[0]["stock"] == "AAPL"
    assert objects[0]["sequence"] == 3
    assert len(barewire("inspect", small, "-n", "2").stdout.splitlines()) == 2


def test_help_of_every_command(barewire: Cli) -> None:
    for command in ([], ["demo"], ["run"], ["replay"], ["inspect"], ["sim"], ["bench"], ["bench", "book"]):
        assert "Usage: barewire" in barewire(*command, "--help").stdout
    assert barewire("--version").stdout.startswith("barewire 0.")
    assert "Commands:" in barewire().stdout


def test_a_date_that_had_to_be_guessed_is_told_in_one_line(barewire: Cli, small: Path, tmp_path: Path) -> None:
    done = barewire("replay", small, "-o", tmp_path / "x.csv")
    assert done.stderr.splitlines() == [
        "barewire: warning: no date is known, so ts_event counts from midnight; "
        "give the trading day, e.g. date 2020-01-30"
    ]
    assert (tmp_path / "x.csv").read_text().splitlines()[1].split(",")[1] == "34200000000001"


# --- what fails, and how -------------------------------------------------------------------------

WRONG = [
    (["replay", "nosuch.bin"], 1, ["nosuch.bin", "no such file"]),
    (["replay", "."], 1, ["directory"]),
    (["replay", "text.csv"], 1, ["text.csv", "expected"]),
    (["replay", "empty.bin"], 1, ["empty.bin", "expected"]),
    (["inspect", "text.csv"], 1, ["text.csv", "expected"]),
    (["inspect", "nosuch.bin"], 1, ["nosuch.bin", "no such file"]),
    (["inspect", "small.bin", "--protocol", "fix"], 2, ["'fix'", "itch-5.0"]),
    (["replay", "small.bin", "--protocol", "itch"], 2, ["unknown protocol 'itch'", "itch-5.0"]),
    (["replay", "small.bin", "--date", "30.01.2020"], 2, ["'30.01.2020'", "YYYY-MM-DD"]),
    (["replay", "small.bin", "--date", "2020-02-30"], 2, ["'2020-02-30'", "YYYY-MM-DD"]),
    (["replay", "small.bin", "--records", "mbp"], 2, ["'mbp'", "mbo, bbo"]),
    (["replay", "small.bin", "--pace", "fast"], 2, ["'fast'", "'max', 'original'"]),
    (["replay", "small.bin", "--format", "cap"], 2, ["'cap'", "pcapng"]),
    (["replay", "small.bin", "--timestamps", "nic"], 2, ["'nic'", "metamako, exablaze, arista-7280"]),
    (["replay", "small.bin", "--group", "x"], 2, ["'x'", "IPv4 address"]),
    (["replay", "small.bin", "--port", "0"], 2, ["--port", "barewire replay --help"]),
    (["replay", "small.bin", "-o", "x.txt"], 2, ["x.txt", ".csv, .jsonl, .parquet"]),
    (["replay", "small.bin", "-o", "nosuch/x.csv"], 1, ["nosuch/x.csv", "no such file or directory"]),
    (["replay", "small.bin", "-o", "-", "--json"], 2, ["--output -"]),
    (["replay", "small.bin", "-o", "small.bin", "--output-format", "csv"], 2, ["small.bin", "the file to be read"]),
    (["replay"], 2, ["FILE", "barewire replay --help"]),
    (["repaly", "x"], 2, ["repaly", "replay"]),
    (["replay", "small.bin", "--nosuch"], 2, ["--nosuch"]),
    (["run", "nosuch.toml"], 1, ["nosuch.toml", "no such file"]),
    (["run", "text.csv"], 2, ["text.csv", "not TOML"]),
    (["run", "wrong.toml"], 2, ["wrong.toml", 'lines[0].port = "x"', "1 to 65535"]),
    (["run", "feed.toml", "--strategy", "nosuch.py:A"], 2, ["nosuch.py", "file.py:Class"]),
    (["run", "feed.toml", "--strategy", "nosuch.module:A"], 2, ["nosuch", "file.py:Class"]),
    (["run", "feed.toml", "--strategy", "strategy.py:B"], 2, ["strategy.py:B", "there: A"]),
    (["run", "feed.toml", "--live", "--json"], 2, ["--live", "--json"]),
    (["run", "interface.toml", "-d", "1"], 1, ["nosuch0"]),
    (["sim", "--line", "10.0.0.1:1"], 2, ["10.0.0.1:1", "multicast"]),
    (["sim", "--rate", "fast"], 2, ["'fast'", "200k"]),
    (["sim", "--no-send"], 2, ["--pcap or --binaryfile"]),
    (["sim", "--line", "239.255.64.9:26477@nosuch0", "-d", "1"], 1, ["nosuch0"]),
    (["sim", "--max-payload", "71"], 2, ["--max-payload", "72"]),
    (["sim", "--loss", "2"], 2, ["--loss '2'", "0% to 100%"]),
    (["sim", "--impair", "A:los=1%"], 2, ["--impair 'A:los=1%'", "did you mean loss?"]),
    (["sim", "--line", "239.255.64.9:26477@lo", "--line-skew", "5us"], 2, ["--line-skew '5us'", "no line B"]),
    (["sim", "--rerequest", "239.0.0.1:1"], 2, ["--rerequest '239.0.0.1:1'", "127.0.0.1:26500"]),
    (["sim", "--glimpse", "127.0.0.1"], 2, ["--glimpse '127.0.0.1'", "ADDRESS:PORT"]),
    (["sim", "--glimpse-fault", "silent"], 2, ["--glimpse-fault 'silent'", "--glimpse ADDR:PORT"]),
    (["sim", "--rerequest", "127.0.0.1:1", "--rerequest-fault", "slow"], 2, ["'slow'", "slow:50ms"]),
    (["sim", "--no-send", "-n", "1", "--pcap", "x", "--glimpse", "127.0.0.1:1"], 2, ["--glimpse", "--no-send"]),
    (["replay", "small.bin", "--loss", "x"], 2, ["--loss 'x'", "0% to 100%"]),
    (["replay", "small.bin", "--recover", "snapshot"], 2, ["'snapshot'", "rerequest or glimpse"]),
    (["replay", "small.bin", "-o", "-", "--digest"], 2, ["--output -", "--digest"]),
    (["demo", "--duration", "100"], 2, ["1 to 50"]),
    (["bench", "book", "nosuch.bin"], 1, ["nosuch.bin", "no such file"]),
]


@pytest.mark.parametrize(("arguments", "status", "words"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_a_failure_is_one_line_and_a_status(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    words: list[str],
) -> None:
    write_binaryfile(tmp_path / "small.bin", small_day())
    (tmp_path / "text.csv").write_text("time,price\n1,2\n" * 50)
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "feed.toml").write_text(config_text(free_line()))
    (tmp_path / "wrong.toml").write_text(config_text({**free_line(), "port": "x"}))
    (tmp_path / "interface.toml").write_text(config_text({**free_line(), "interface": "nosuch0"}))
    (tmp_path / "strategy.py").write_text("import barewire\nclass A(barewire.Strategy): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert run_command_line(arguments) == status
    said = capfd.readouterr()
    (line,) = [line for line in said.err.splitlines() if "warning" not in line]
    assert line.startswith("barewire: error: ")
    for word in words:
        assert word.lower() in line.lower()
    assert said.out == ""
    assert not (tmp_path / "x.csv").exists()


def test_every_wrong_key_has_its_line(barewire: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[feed]\nprotocol = 'x'\n[rign]\n")
    done = barewire("run", "x.toml", check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        'barewire: error: x.toml: feed.protocol = "x": expected one of: itch-5.0',
        "barewire: error: x.toml: lines is missing; expected one [[lines]] table for each line, 1 to 8",
        "barewire: error: x.toml: rign: unknown key; did you mean ring?",
    ]


def without_root_s_privilege() -> None:
    """Gives up, in a child before it runs its program, root's right to read what its mode forbids."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_a_file_that_may_not_be_read(small: Path) -> None:
    small.chmod(0)
    done = subprocess.run(
        [*PROGRAM, "replay", str(small)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=without_root_s_privilege,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("barewire: error: ")
    assert "small.bin" in line
    assert "permission denied" in line.lower()


def test_a_truncated_file_is_used_and_told(barewire: Cli, tmp_path: Path) -> None:
    whole = binaryfile(small_day())
    (tmp_path / "x.bin").write_bytes(whole[:-10])
    done = barewire("replay", "x.bin", "--date", "2020-01-30", "-o", "x.csv", cwd=tmp_path)
    assert len((tmp_path / "x.csv").read_text().splitlines()) == len(SMALL_DAY_BBO)
    (line,) = done.stderr.splitlines()
    assert line.startswith("barewire: warning: ")
    assert "cut" in line or "truncated" in line
    lines = barewire("inspect", "x.bin", cwd=tmp_path)
    assert len(lines.stdout.splitlines()) == 11
    assert lines.stderr.startswith("barewire: warning: ")


@pytest.mark.parametrize("arguments", [["inspect", "big.bin"], ["replay", "big.bin", "-o", "-"]])
def test_a_reader_that_goes_away_is_no_failure_to_talk_about(tmp_path: Path, arguments: list[str]) -> None:
    write_binaryfile(tmp_path / "big.bin", random_day(50_000))
    process = subprocess.Popen([*PROGRAM, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    stderr = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 141
    assert [line for line in stderr.splitlines() if "no date is known" not in line] == []


def interrupt(
    arguments: list[str],
    cwd: Path,
    ready: Callable[[subprocess.Popen[str]], bool],
    by: signal.Signals = signal.SIGINT,
) -> tuple[int, str, str]:
    """Presses Ctrl-C once `ready()`; the status and what was said."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not ready(process):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(by)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def said_something(process: subprocess.Popen[str]) -> bool:
    """Waits for the first line."""
    assert process.stdout is not None
    return bool(process.stdout.readline())


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_ctrl_c_leaves_what_was_written_whole(tmp_path: Path, ending: str) -> None:
    import pyarrow.parquet as pq

    write_binaryfile(tmp_path / "x.bin", random_day(3000))
    out = tmp_path / f"x.{ending}"
    arguments = ["replay", "x.bin", "--date", "2020-01-30", "--pace", "0.000001", "--output", out.name]
    status, _, stderr = interrupt(arguments, tmp_path, lambda _: out.exists())
    assert (status, stderr) == (130, "")
    if ending == "csv":
        assert out.read_text().endswith("\n")
    else:
        assert pq.read_table(out).column_names[-2:] == ["ts_recv", "flags"]


def test_a_service_that_is_stopped_ends_as_well(tmp_path: Path) -> None:
    (tmp_path / "feed.toml").write_text(config_text(free_line()))
    arguments = ["run", "feed.toml", "--interval", "0.1"]
    status, stdout, stderr = interrupt(arguments, tmp_path, said_something, signal.SIGTERM)
    assert (status, stderr) == (143, "")
    assert "end: 0 messages" in stdout


def test_ctrl_c_ends_a_feed_with_its_summary(tmp_path: Path) -> None:
    (tmp_path / "feed.toml").write_text(config_text(free_line()))
    status, stdout, stderr = interrupt(["run", "feed.toml", "--interval", "0.1"], tmp_path, said_something)
    assert (status, stderr) == (130, "")
    assert "end: 0 messages" in stdout


def test_ctrl_c_ends_a_simulated_session_with_its_report(tmp_path: Path) -> None:
    line = free_line()
    where = f"{line['group']}:{line['port']}@lo"
    arguments = ["sim", "--line", where, "--rate", "1k", "--binaryfile", "x.bin", "--json"]
    status, stdout, stderr = interrupt(arguments, tmp_path, lambda _: (tmp_path / "x.bin").exists())
    assert (status, stderr) == (130, "")
    assert json.loads(stdout)["messages"] >= 0
    # Whatever was written is whole.
    inspected = subprocess.run([*PROGRAM, "inspect", "x.bin"], cwd=tmp_path, capture_output=True, check=False)
    assert b"cut" not in inspected.stderr


def test_an_unexpected_error_is_one_line_too(tmp_path: Path) -> None:
    program = (
        "import sys, barewire._cli.app as app, barewire._replay as replay\n"
        "def broken(*_, **__): raise ZeroDivisionError('oh')\n"
        "replay.replay = broken\n"
        "sys.exit(app.run_command_line(['replay', 'x']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("barewire: error: unexpected ZeroDivisionError: oh; please report it")
