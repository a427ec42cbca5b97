"""Readers in Rust, C and Python under a writer at full speed; all of them are killed and start again.

    python tests/torture/run.py [SECONDS]        or: make torture SECONDS=60

Every reader checks each record, word by word, and its order, and counts what it is told was lost. At random moments
a reader is stopped for a while (SIGSTOP) or killed (SIGKILL) and another begins, and the writer is killed and begins a
new epoch. In the end the writer closes the ring, and every reader's account must add up: what it read and what it was
told is lost is how far it came, and that is all that was published.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CAPACITY = 1 << 14


@dataclass
class Child:
    """A process and the lines that it said."""

    kind: str
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    listener: threading.Thread | None = None

    def listen(self) -> None:
        def take() -> None:
            assert self.process.stdout is not None
            self.lines.extend(line.strip() for line in self.process.stdout)

        self.listener = threading.Thread(target=take, daemon=True)
        self.listener.start()

    def said(self) -> list[str]:
        """All it said, once it has ended."""
        self.process.wait(timeout=120)
        assert self.listener is not None
        self.listener.join()
        return self.lines


def build(folder: Path) -> tuple[Path, Path]:
    """The Rust program and the C reader."""
    cargo = ["cargo", "build", "--release", "--locked", "-q", "-p", "barewire-ring", "--example", "torture"]
    made = subprocess.run(
        [*cargo, "--message-format=json"], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True
    )
    artifacts = [json.loads(line) for line in made.stdout.splitlines()]
    (rust,) = (one["executable"] for one in artifacts if one.get("executable"))
    c = folder / "reader"
    source = REPOSITORY / "tests/torture/reader.c"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{REPOSITORY / 'include'}"]
    subprocess.run(["cc", *flags, str(source), "-o", str(c)], check=True)
    return Path(rust), c


class Torture:
    """One run: a writer, its readers, and what becomes of them."""

    def __init__(self, rust: Path, c: Path, seed: int) -> None:
        self.name = f"torture-{os.getpid()}"
        self.random = random.Random(seed)
        python = [sys.executable, str(REPOSITORY / "tests/torture/reader.py"), self.name]
        self.commands = {
            "rust": [str(rust), "reader", self.name],
            "c": [str(c), self.name],
            **{f"python, {mode}": [*python, mode] for mode in ("batches", "async", "filtered", "conflated")},
        }
        self.writer_command = [str(rust), "writer", self.name, str(CAPACITY)]
        self.readers: list[Child] = []
        self.all: list[Child] = []
        self.kills = self.pauses = self.epochs = self.accounts = 0
        self.read = self.lost = 0

    def spawn(self, kind: str, command: list[str]) -> Child:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        child = Child(kind, process)
        self.all.append(child)
        return child

    def write(self) -> tuple[Child, int]:
        """A writer, once its ring is there, and its epoch."""
        writer = self.spawn("writer", self.writer_command)
        assert writer.process.stdout is not None
        epoch = int(writer.process.stdout.readline())
        writer.listen()
        self.epochs += 1
        return writer, epoch

    def join(self, kind: str) -> None:
        reader = self.spawn(kind, self.commands[kind])
        reader.listen()
        self.readers.append(reader)

    def run(self, seconds: float) -> None:
        writer, epoch = self.write()
        for kind in self.commands:
            self.join(kind)
        end = time.monotonic() + seconds
        restart = time.monotonic() + seconds / 3
        while time.monotonic() < end:
            time.sleep(self.random.uniform(0.02, 0.3))
            victim = self.random.choice(self.readers)
            if victim.process.poll() is not None:
                break  # it failed: the accounts say how
            if self.random.random() < 0.5:
                victim.process.send_signal(signal.SIGSTOP)
                time.sleep(self.random.uniform(0.01, 0.3))
                victim.process.send_signal(signal.SIGCONT)
                self.pauses += 1
            else:
                victim.process.kill()
                self.check(victim, None, 0)
                self.readers.remove(victim)
                self.join(victim.kind)
                self.kills += 1
            if time.monotonic() > restart:
                restart += seconds / 3
                writer.process.kill()
                writer.said()
                time.sleep(0.2)
                writer, epoch = self.write()
        self.settle(epoch)
        assert writer.process.stdin is not None
        writer.process.stdin.close()
        published = int(writer.said()[-1])
        for reader in self.readers:
            self.check(reader, epoch, published)

    def settle(self, epoch: int) -> None:
        """Until every reader is there: one that came after the end would find no ring."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if all(any(line.startswith(f"at {epoch} ") for line in reader.lines) for reader in self.readers):
                return
            time.sleep(0.05)
        missing = [reader for reader in self.readers if not any(one.startswith(f"at {epoch} ") for one in reader.lines)]
        what = [f"{reader.kind} (exit {reader.process.poll()}): {reader.lines[-1:]}" for reader in missing]
        raise AssertionError(f"not there within a minute of the last epoch: {'; '.join(what)}")

    def check(self, reader: Child, epoch: int | None, published: int) -> None:
        """A reader's accounts: of every epoch that it left; of one that ended by itself, the last one's too."""
        lines = reader.said()
        if epoch is not None:
            assert reader.process.returncode == 0, f"{reader.kind} exited {reader.process.returncode}: {lines[-3:]}"
            assert lines and lines[-1].startswith("done"), f"{reader.kind}: {lines[-3:]}"
        for line in lines:
            word, *numbers = line.split()
            assert word in ("at", "done"), f"{reader.kind}: {line}"
            if word == "done":
                which, begin, ended, read, lost = map(int, numbers)
                assert ended - begin == read + lost, f"{reader.kind}: {line}"
                assert which != epoch or ended == published, f"{reader.kind}: {line}, {published} were published"
                self.accounts += 1
                self.read += read
                self.lost += lost

    def close(self) -> None:
        for child in self.all:
            child.process.kill()
            child.process.wait()
            if child.listener is not None:
                child.listener.join()
            for pipe in (child.process.stdin, child.process.stdout):
                if pipe is not None:
                    pipe.close()
        Path(f"/dev/shm/barewire.{self.name}").unlink(missing_ok=True)


def main(seconds: float, seed: int | None = None) -> Torture:
    """Runs it all; AssertionError where something does not add up."""
    seed = random.randrange(1 << 32) if seed is None else seed
    with tempfile.TemporaryDirectory() as folder:
        torture = Torture(*build(Path(folder)), seed)
        try:
            torture.run(seconds)
        finally:
            torture.close()
    print(
        f"seed {seed}: {torture.accounts} accounts of {len(torture.commands)} kinds of readers in {torture.epochs} "
        f"epochs add up; {torture.read} records read, {torture.lost} lost and told, {torture.kills} readers killed, "
        f"{torture.pauses} paused"
    )
    return torture


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
