"""What the verdict on a clock is: from what ptp4l printed, by its rules, and at a site of eight with faults."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import barewire
from barewire._clock_watch import ClockWatcher
from barewire._config_clock import ClockConfig
from barewire._ptp import load_site, plan
from barewire._ptp.judge import ClockState, Judge, Kernel, Observation, State, Thresholds
from barewire._ptp.machine import Machine, Processes
from barewire._ptp.management import Pmc, PortStatus, PtpStatus, parse
from barewire._ptp.watching import as_dict, as_text, exposition, verdicts

from .clock_site import ClockSite, running
from .namespaces import PROGRAM, until

# Printed by pmc 3.1.1 for an ordinary clock that follows with software stamps and free_running 1.
PRINTED = """sending: GET DEFAULT_DATA_SET
\t86f4a2.fffe.1701b8-0 seq 0 RESPONSE MANAGEMENT DEFAULT_DATA_SET 
\t\ttwoStepFlag             1
\t\tslaveOnly               1
\t\tnumberPorts             1
\t\tpriority1               128
\t\tclockClass              255
\t\tclockAccuracy           0xfe
\t\toffsetScaledLogVariance 0xffff
\t\tpriority2               128
\t\tclockIdentity           86f4a2.fffe.1701b8
\t\tdomainNumber            0
\t86f4a2.fffe.1701b8-0 seq 1 RESPONSE MANAGEMENT CURRENT_DATA_SET 
\t\tstepsRemoved     1
\t\toffsetFromMaster -190.0
\t\tmeanPathDelay    2751.0
\t86f4a2.fffe.1701b8-0 seq 2 RESPONSE MANAGEMENT PARENT_DATA_SET 
\t\tparentPortIdentity                    e66190.fffe.c92403-1
\t\tparentStats                           0
\t\tobservedParentOffsetScaledLogVariance 0xffff
\t\tobservedParentClockPhaseChangeRate    0x7fffffff
\t\tgrandmasterPriority1                  100
\t\tgm.ClockClass                         13
\t\tgm.ClockAccuracy                      0xfe
\t\tgm.OffsetScaledLogVariance            0xffff
\t\tgrandmasterPriority2                  128
\t\tgrandmasterIdentity                   e66190.fffe.c92403
\t86f4a2.fffe.1701b8-0 seq 3 RESPONSE MANAGEMENT TIME_PROPERTIES_DATA_SET 
\t\tcurrentUtcOffset      37
\t\tleap61                0
\t\tleap59                0
\t\tcurrentUtcOffsetValid 0
\t\tptpTimescale          0
\t\ttimeTraceable         0
\t\tfrequencyTraceable    0
\t\ttimeSource            0xa0
\t86f4a2.fffe.1701b8-0 seq 4 RESPONSE MANAGEMENT TIME_STATUS_NP 
\t\tmaster_offset              -190
\t\tingress_time               1795384122119013960
\t\tcumulativeScaledRateOffset +0.000000000
\t\tscaledLastGmPhaseChange    0
\t\tgmTimeBaseIndicator        0
\t\tlastGmPhaseChange          0x0000'0000000000000000.0000
\t\tgmPresent                  true
\t\tgmIdentity                 e66190.fffe.c92403
\t86f4a2.fffe.1701b8-1 seq 5 RESPONSE MANAGEMENT PORT_DATA_SET 
\t\tportIdentity            86f4a2.fffe.1701b8-1
\t\tportState               UNCALIBRATED
\t\tlogMinDelayReqInterval  -3
\t\tpeerMeanPathDelay       0
\t\tlogAnnounceInterval     -1
\t\tannounceReceiptTimeout  3
\t\tlogSyncInterval         -3
\t\tdelayMechanism          1
\t\tlogMinPdelayReqInterval 0
\t\tversionNumber           2
\t86f4a2.fffe.1701b8-1 seq 6 RESPONSE MANAGEMENT PORT_STATS_NP 
\t\tportIdentity              86f4a2.fffe.1701b8-1
\t\trx_Sync                   56
\t\trx_Delay_Req              0
\t\trx_Announce               15
"""  # noqa: W291 (as it is printed)

FOLLOWING = PtpStatus(
    identity="86f4a2.fffe.1701b8",
    client_only=True,
    clock_class=255,
    steps_removed=1,
    offset_ns=-190.0,
    path_delay_ns=2751.0,
    parent="e66190.fffe.c92403-1",
    grandmaster="e66190.fffe.c92403",
    grandmaster_class=13,
    utc_offset_s=37,
    utc_offset_valid=False,
    ptp_timescale=False,
    last_sync_ns=1795384122119013960,
    ports=(PortStatus(1, "UNCALIBRATED", 56, 15),),
)


def test_a_status_is_what_pmc_printed() -> None:
    assert parse(PRINTED) == FOLLOWING


@given(st.integers(0, len(PRINTED)), st.text(max_size=40), st.integers(0, 60))
def test_whatever_is_printed_is_a_status_or_none(at: int, inserted: str, removed: int) -> None:
    found = parse(PRINTED[:at] + inserted + PRINTED[at + removed :])
    assert found is None or isinstance(found, PtpStatus)


def followed(judge: Judge, offsets: list[float], **changes: object) -> ClockState:
    """The verdict after a second for each offset."""
    status = replace(FOLLOWING, ports=(PortStatus(1, "SLAVE"),), **changes)  # type: ignore[arg-type]
    start = judge._began_s if judge._began_s is not None else 0.0
    count = getattr(judge, "seconds", 0)
    for offset in offsets:
        count += 1
        seen = replace(status, offset_ns=offset, last_sync_ns=count * 10**9)
        state = judge.update(Observation(start + count, seen))
    judge.seconds = count  # type: ignore[attr-defined]
    return state


def codes(state: ClockState) -> set[str]:
    return {reason.code for reason in state.reasons}


@pytest.mark.parametrize(
    ("offset", "expected", "reasons"),
    [
        (20.0, State.SYNCHRONISED, set()),
        (-600.0, State.SYNCHRONISED, {"offset"}),
        (1_200.0, State.DEGRADED, {"offset"}),
        (-2_100.0, State.LOST, {"offset"}),
        (37e9 + 400, State.LOST, {"offset", "utc-offset"}),
        (-37e9, State.LOST, {"offset", "utc-offset"}),
    ],
)
def test_the_offset_decides(offset: float, expected: State, reasons: set[str]) -> None:
    state = followed(Judge(), [offset] * 8)
    assert (state.state, codes(state)) == (expected, reasons)


def test_scatter_counts_as_well() -> None:
    assert followed(Judge(), [600.0, -600.0] * 8).state is State.DEGRADED


def test_after_a_step_three_samples_that_agree_begin_anew() -> None:
    judge = Judge()
    assert followed(judge, [37e9 + 100] * 20).state is State.LOST
    assert followed(judge, [40.0, 60.0]).state is State.LOST
    state = followed(judge, [50.0])
    assert (state.state, state.changes) == (
        State.SYNCHRONISED,
        ("the clock was set: its offset went from 37 s to 50 ns",),
    )
    # One that is far away is scatter, and held against the clock for as long as the window is.
    followed(judge, [50.0] * 16)
    followed(judge, [20_000.0])
    assert followed(judge, [50.0] * 14).state is not State.SYNCHRONISED
    assert followed(judge, [50.0] * 2).state is State.SYNCHRONISED


def test_scatter_in_which_a_few_samples_agree_is_no_step() -> None:
    """A noisy clock had been called synchronised each time that three of its samples came close together."""
    judge = Judge()
    followed(judge, [9_000.0, -6_000.0, 3_000.0, -8_000.0, 6_000.0] * 3)
    states = [followed(judge, [offset]) for offset in (-100.0, 100.0, 0.0)]
    assert {state.state for state in states} == {State.LOST}
    assert not any(state.changes for state in states)


@given(st.lists(st.floats(-1e11, 1e11), min_size=3, max_size=40))
def test_the_bound_is_never_less_than_the_offset(offsets: list[float]) -> None:
    state = followed(Judge(), offsets)
    assert state.bound_ns is not None
    assert state.offset_ns is not None
    assert state.bound_ns >= abs(state.offset_ns)


def test_a_clock_that_is_left_alone_drifts_from_holdover_to_lost() -> None:
    judge = Judge(Thresholds(drift_ppb=100))
    followed(judge, [50.0] * 8)
    alone = replace(FOLLOWING, grandmaster=FOLLOWING.identity, parent=f"{FOLLOWING.identity}-0", grandmaster_class=255)
    alone = replace(alone, last_sync_ns=8 * 10**9, ports=(PortStatus(1, "LISTENING"),))
    seen = [judge.update(Observation(8.0 + second, alone)) for second in range(1, 40)]
    assert "grandmaster changed" in seen[0].changes[0]
    order = [state.state for state in seen]
    # Samples of the one before say nothing of a clock that leads itself: no bound is made up.
    assert order[0] in (State.HOLDOVER, State.DEGRADED)
    assert all("no-leader" in codes(state) for state in seen)


def test_a_leader_that_falls_silent_is_named_before_its_announcements_run_out() -> None:
    judge = Judge()
    followed(judge, [50.0] * 8)
    silent = replace(FOLLOWING, last_sync_ns=8 * 10**9, ports=(PortStatus(1, "SLAVE"),))
    states = [judge.update(Observation(8.0 + second, silent)) for second in range(1, 60)]
    assert states[1].state is State.SYNCHRONISED
    stale = next(state for state in states if "sync-stale" in codes(state))
    assert stale.state is State.HOLDOVER
    assert FOLLOWING.parent in stale.reasons[0].text
    # 100 ppb are 100 ns a second: below a microsecond for some ten seconds, two microseconds after some twenty.
    order = [state.state for state in states]
    assert sorted(order) == order
    assert order[-1] is State.LOST
    assert order.count(State.HOLDOVER) > 3


def test_what_else_is_held_against_a_clock() -> None:
    following = replace(FOLLOWING, ports=(PortStatus(1, "SLAVE"),))
    for change, code, expected in (
        ({"grandmaster_class": 248}, "grandmaster-class", State.DEGRADED),
        ({"ports": (PortStatus(1, "FAULTY"),)}, "port-faulty", State.DEGRADED),
        ({"ports": (PortStatus(1, "UNCALIBRATED"),)}, "port-state", State.DEGRADED),
        ({"ptp_timescale": True}, "utc-unknown", State.DEGRADED),
    ):
        judge = Judge()
        followed(judge, [10.0] * 5)
        state = judge.update(Observation(6.0, replace(following, last_sync_ns=6 * 10**9, offset_ns=10.0, **change)))
        assert code in codes(state), state
        assert state.state is expected
    judge = Judge()
    followed(judge, [10.0] * 5)
    following = replace(following, last_sync_ns=6 * 10**9)
    unsteered = Observation(6.0, following, Kernel(False, 0, 37), "/dev/ptp0", 5_000.0)
    state = judge.update(unsteered)
    assert codes(state) == {"system-clock", "system-offset"}
    assert state.state is State.LOST
    assert state.bound_ns is not None
    assert state.bound_ns > 5_000


@pytest.mark.parametrize(
    ("seen", "expected", "reasons", "bound_ns"),
    [
        ({"system_offset_ns": 40.0, "phc2sys": True}, State.SYNCHRONISED, set(), 50.0),
        # What the comparison itself may be off by is in the bound, and not held against the state.
        ({"system_offset_ns": 40.0, "system_bound_ns": 3_000.0}, State.SYNCHRONISED, set(), 3_050.0),
        ({"system_offset_ns": -600.0}, State.SYNCHRONISED, {"system-offset"}, 610.0),
        ({"system_offset_ns": -1_100.0}, State.DEGRADED, {"system-offset"}, 1_110.0),
        ({"system_offset_ns": 2_100.0}, State.LOST, {"system-offset"}, 2_110.0),
        ({"system_offset_ns": 40.0, "phc2sys": False}, State.SYNCHRONISED, {"phc2sys"}, 50.0),
        ({"system_offset_ns": 1_500.0, "phc2sys": False}, State.DEGRADED, {"phc2sys", "system-offset"}, 1_510.0),
        ({"system_error": "Permission denied"}, State.DEGRADED, {"system-unknown"}, None),
        ({"system_error": "x", "phc2sys": False}, State.DEGRADED, {"system-unknown", "phc2sys"}, None),
        ({"system_offset_ns": -37e9 + 300.0}, State.LOST, {"utc-offset"}, 37e9 - 290.0),
        ({"system_offset_ns": 37e9}, State.LOST, {"utc-offset"}, 37e9 + 10.0),
    ],
)
def test_the_system_clock_counts_beside_the_cards(
    seen: dict[str, float], expected: State, reasons: set[str], bound_ns: float | None
) -> None:
    judge = Judge()
    followed(judge, [10.0] * 5)
    following = replace(FOLLOWING, ports=(PortStatus(1, "SLAVE"),), offset_ns=10.0, last_sync_ns=6 * 10**9)
    state = judge.update(Observation(6.0, following, Kernel(True, 0, 37), "/dev/ptp0", **seen))  # type: ignore[arg-type]
    assert (state.state, codes(state)) == (expected, reasons)
    assert state.bound_ns == (None if bound_ns is None else pytest.approx(bound_ns, abs=1))
    assert state.system_offset_ns == seen.get("system_offset_ns")
    trial = Judge(Thresholds(trial=True))
    followed(trial, [10.0] * 5)
    # Where nothing is set, nobody keeps the system's clock.
    trial_state = trial.update(Observation(6.0, following, Kernel(False, 0, 37), "/dev/ptp0", **seen))  # type: ignore[arg-type]
    assert not codes(trial_state)


def test_a_card_and_a_system_clock_that_are_each_good_may_be_degraded_together() -> None:
    judge = Judge()
    followed(judge, [700.0] * 5)
    following = replace(FOLLOWING, ports=(PortStatus(1, "SLAVE"),), offset_ns=700.0, last_sync_ns=6 * 10**9)
    state = judge.update(Observation(6.0, following, Kernel(True, 0, 37), "/dev/ptp0", 450.0))
    assert (state.state, codes(state)) == (State.DEGRADED, {"offset", "system-offset"})


def test_a_grandmaster_is_judged_by_its_system_clock_too() -> None:
    """One whose card follows the system's clock: phc2sys died, and the site follows a card that nobody sets."""
    own = FOLLOWING.identity
    leading = replace(FOLLOWING, client_only=False, grandmaster=own, clock_class=13, ports=(PortStatus(1, "MASTER"),))
    seen = Observation(1.0, leading, Kernel(False, 0, 37), "/dev/ptp0", 9_000.0, phc2sys=False)
    state = Judge().update(seen)
    assert (state.state, codes(state)) == (State.LOST, {"system-clock", "system-offset", "phc2sys"})
    assert state.bound_ns == 9_000
    # A receiver's pulse keeps the card's clock: no phc2sys is planned there.
    assert "phc2sys" not in codes(Judge().update(replace(seen, ptp=replace(leading, clock_class=6))))


# --- what the machine tells ----------------------------------------------------------------------

CARDS = replace(
    FOLLOWING,
    ptp_timescale=True,
    utc_offset_valid=True,
    ports=(
        PortStatus(1, "MASTER", interface="eth0", timestamping="HARDWARE"),
        PortStatus(2, "SLAVE", interface="eth1", timestamping="HARDWARE"),
    ),
)


def kernel() -> dict[str, object]:
    return {"synchronised": True, "max_error_us": 12, "tai_offset_s": 37}


def machine(offset_ns: int = 0, running: tuple[str, ...] = ("ptp4l", "phc2sys"), **others: object) -> Machine:
    asked: dict[str, object] = {
        "kernel": kernel,
        "phc_of": {"eth0": 0, "eth1": 3}.__getitem__,
        "compare": lambda number: {"offset_ns": offset_ns, "bound_ns": 7 + number},
        "runs": running.__contains__,
    }
    return Machine(**{**asked, **others})  # type: ignore[arg-type]


def test_the_port_that_follows_names_the_card() -> None:
    printed = PRINTED + (
        "\t86f4a2.fffe.1701b8-1 seq 7 RESPONSE MANAGEMENT PORT_PROPERTIES_NP \n"
        "\t\tportIdentity            86f4a2.fffe.1701b8-1\n"
        "\t\tportState               UNCALIBRATED\n"
        "\t\ttimestamping            HARDWARE\n"
        "\t\tinterface               enp1s0f0\n"
    )
    status = parse(printed)
    assert status is not None
    assert status.card == "enp1s0f0"
    assert replace(FOLLOWING, ports=(PortStatus(1, "SLAVE", interface="eth0", timestamping="SOFTWARE"),)).card is None
    assert CARDS.card == "eth1"
    assert replace(CARDS, ports=CARDS.ports[:1]).card == "eth0"


def test_a_card_that_counts_tai_is_compared_in_utc() -> None:
    seen = machine(-37 * 10**9 + 250).observe(CARDS)
    assert (seen.card, seen.system_offset_ns, seen.system_bound_ns) == ("/dev/ptp3", 250.0, 10.0)
    assert seen.phc2sys is True
    assert seen.kernel == Kernel(True, 12_000, 37)
    # A grandmaster that counts UTC.
    assert machine(250).observe(replace(CARDS, ptp_timescale=False)).system_offset_ns == 250.0


def refused(*_: object) -> dict[str, object]:
    raise PermissionError(13, "Permission denied")


def test_what_cannot_be_asked_is_told() -> None:
    assert machine(compare=refused).observe(CARDS).system_error == "Permission denied"
    assert machine(phc_of=lambda _: -1).observe(CARDS).system_error == "the card has none"
    assert machine(kernel=refused).observe(CARDS).kernel is None
    assert machine().observe(None).ptp is None
    assert machine(running=("ptp4l",)).observe(CARDS).phc2sys is False
    # In a container whose processes are others, nobody can tell.
    assert machine(running=()).observe(CARDS).phc2sys is None


def test_processes_are_found_and_lost(tmp_path: Path) -> None:
    for number, name in ((1, "init"), (77, "phc2sys"), (78, "phc2sys-not")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "comm").write_text(f"{name}\n")
    processes = Processes(str(tmp_path))
    assert [processes.runs("phc2sys"), processes.runs("phc2sys"), processes.runs("ptp4l")] == [True, True, False]
    shutil.rmtree(tmp_path / "77")
    assert not processes.runs("phc2sys")


class Asked:
    """In pmc's place."""

    def __init__(self, *answers: PtpStatus | Exception) -> None:
        self.answers = list(answers)

    def read(self) -> PtpStatus | None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        pass


def test_the_command_hears_the_kernel_and_the_card() -> None:
    unsteered = machine(-37 * 10**9 + 3_000, ("ptp4l",), kernel=lambda: {**kernel(), "synchronised": False})
    found = verdicts(Asked(CARDS), Thresholds(), 0.2, unsteered, lambda _: None)  # type: ignore[arg-type]
    state = next(found)
    assert {"system-clock", "system-offset", "phc2sys"} <= codes(state)
    assert as_dict(state)["system_offset_ns"] == 3_000
    assert "system +3,000 ns from the card" in as_text(state)
    assert "barewire_clock_system_offset_seconds 3e-06" in exposition(state)
    alone = verdicts(Asked(CARDS), Thresholds(), 0.2, None, lambda _: None)  # type: ignore[arg-type]
    assert not {"system-clock", "system-offset", "phc2sys"} & codes(next(alone))


def test_a_feeds_watch_outlives_whatever_goes_wrong() -> None:
    """It would otherwise leave its last verdict standing for ever."""
    told: list[tuple[str, int | None]] = []

    class Told:
        def judge_clock(self, verdict: str, bound_ns: int | None) -> None:
            told.append((verdict, bound_ns))

    watcher = ClockWatcher(ClockConfig(ptp_socket="x", interval_s=0.2), Told(), machine())
    watcher._pmc.close()
    watcher._pmc = Asked(ValueError("odd"), OSError("none"), CARDS)  # type: ignore[assignment]
    watcher.start()
    until(lambda: len(told) >= 3, "three looks")
    watcher.stop()
    assert [verdict for verdict, _ in told[:2]] == ["lost", "lost"]
    assert watcher.state is not None
    assert watcher.state.grandmaster == CARDS.grandmaster


def test_a_folder_is_there_only_while_somebody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that could not start had left one behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # A program in pmc's place, which may not be installed here.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pmc").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "pmc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    pmc = Pmc(str(tmp_path / "none"))
    assert len(list(tmp_path.iterdir())) == 1
    assert pmc.read() is None
    assert len(list(tmp_path.iterdir())) == 2
    pmc.close()
    assert [one.name for one in tmp_path.iterdir()] == ["bin"]


def test_a_path_that_grew_is_told() -> None:
    judge = Judge()
    followed(judge, [10.0] * 20)
    assert codes(followed(judge, [10.0] * 4, path_delay_ns=9_000.0)) == {"path-delay"}


def test_a_grandmaster_is_as_good_as_its_source() -> None:
    own = FOLLOWING.identity
    leading = replace(FOLLOWING, client_only=False, grandmaster=own, clock_class=6, ports=(PortStatus(1, "MASTER"),))
    assert Judge().update(Observation(1.0, leading)).state is State.SYNCHRONISED
    state = Judge().update(Observation(1.0, replace(leading, clock_class=248)))
    assert (state.state, codes(state)) == (State.DEGRADED, {"source"})


def test_no_answer_is_lost_after_a_while() -> None:
    judge = Judge()
    assert judge.update(Observation(1.0, None)).state is State.LOST
    followed(judge, [10.0] * 5)
    assert judge.update(Observation(7.0, None)).state is State.SYNCHRONISED
    gone = judge.update(Observation(9.0, None))
    assert (gone.state, codes(gone)) == (State.LOST, {"no-answer"})


@pytest.mark.parametrize("offset", [50.0, 1_500.0, 37e9])
def test_an_answer_that_is_missing_makes_no_clock_better(offset: float) -> None:
    """All that was held against it but its ports' faults had been forgotten: a lost clock was good for a second."""
    judge = Judge()
    known = followed(judge, [offset] * 8)
    far = judge.update(Observation(8.0, replace(FOLLOWING, offset_ns=offset, last_sync_ns=8), None, "ptp0", 900.0))
    silent = judge.update(Observation(9.0, None))
    assert known.state <= far.state == silent.state
    assert (silent.reasons, silent.system_offset_ns) == (far.reasons, 900.0)
    assert silent.bound_ns is not None
    assert far.bound_ns is not None
    assert silent.bound_ns >= far.bound_ns


# --- a feed's own watch --------------------------------------------------------------------------

BAD_TS_RECV = 8


def clocked(socket: str, **thresholds: int) -> dict[str, object]:
    """A configuration on loopback whose clock is watched."""
    lines = [{"name": "A", "group": "239.255.64.77", "port": 26_577, "interface": "lo"}]
    clock = {"ptp_socket": socket, "ptp_domain": 24, "interval_s": 0.2, "trial": True, **thresholds}
    return {"feed": {"protocol": "itch-5.0"}, "lines": lines, "clock": clock}


class Clocks(barewire.Strategy):
    """Notes what it hears of the clock, and which events were flagged under which state."""

    def __init__(self) -> None:
        self.heard: list[barewire.ClockEvent] = []
        self.flagged: set[tuple[str | None, bool]] = set()

    def on_clock(self, clock: barewire.ClockEvent) -> None:
        self.heard.append(clock)

    def on_event(self, event: barewire.MboEvent) -> None:
        state = self.heard[-1].state if self.heard else None
        self.flagged.add((state, bool(event.flags & BAD_TS_RECV)))


def simulated(seconds: float) -> subprocess.Popen[bytes]:
    command = [PROGRAM, "sim", "--rate", "5000", "--instruments", "20", "--duration", str(seconds)]
    command += ["--line", "239.255.64.77:26577@lo"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_feed_whose_ptp4l_does_not_answer_says_so_in_every_record(tmp_path: Path) -> None:
    strategy = Clocks()
    sim = simulated(20)
    try:
        with barewire.Feed.from_config(clocked(str(tmp_path / "none"))) as feed:
            feed.run(strategy, duration=3)
            assert feed.clock.state == "lost"
            assert not feed.clock.is_good
            assert feed.clock_state is not None
            assert codes(feed.clock_state) == {"no-answer"}
    finally:
        sim.kill()
        sim.wait()
    assert strategy.heard[0].state is None
    assert strategy.heard[-1].state == "lost"
    assert strategy.heard[-1].bound_ns is None
    assert ("lost", True) in strategy.flagged
    assert (None, True) not in strategy.flagged


def test_thresholds_of_a_feed_are_in_order() -> None:
    with pytest.raises(barewire.ConfigError, match="each threshold no less than the one before"):
        barewire.Feed.from_config(clocked("x", warn_ns=5, degraded_ns=4))


# --- a site --------------------------------------------------------------------------------------


def site_of_eight() -> dict[str, object]:
    def port(interface: str, network: str) -> dict[str, str]:
        return {"interface": interface, "network": network, "timestamping": "software"}

    def rack(name: str) -> dict[str, object]:
        hosts = [{"name": f"{name}-h{n}", "interface": "eth0", "timestamping": "software"} for n in (1, 2)]
        clock = {"name": f"{name}-clock", "ports": [port("eth0", "spine"), port("eth1", name)]}
        return {"name": name, "boundary_clock": clock, "hosts": hosts}

    return {
        "site": {"name": "lab", "domain": 24, "trial": True, "announces_per_second": 8},
        "grandmasters": [
            {"name": f"gm{n}", "rank": n, "source": "system", "ports": [port("eth0", "spine")]} for n in (1, 2)
        ],
        "racks": [rack("r1"), rack("r2")],
    }


class Watching:
    """Looks at every machine once a second, until something is so."""

    def __init__(self, site: ClockSite) -> None:
        self.site = site
        self.seen: dict[str, ClockState] = {}

    def until(self, condition: Callable[[dict[str, ClockState]], bool], what: str, seconds: float = 60.0) -> float:
        began = time.monotonic()
        history: dict[str, list[ClockState]] = {}
        while time.monotonic() - began < seconds:
            for name in self.site.namespaces:
                verdict = self.site.look(name, time.monotonic())
                changes = (self.seen[name].changes if name in self.seen and history else ()) + verdict.changes
                self.seen[name] = replace(verdict, changes=changes)
                history.setdefault(name, []).append(verdict)
            if condition(self.seen):
                self.seen = {name: replace(state, changes=()) for name, state in self.seen.items()}
                return time.monotonic() - began
            time.sleep(0.2)
        raise AssertionError(f"{what}: {self.seen}")


def has(state: ClockState, code: str) -> bool:
    return code in codes(state)


@pytest.mark.timeout(600)
def test_faults_in_a_site_of_eight_are_named_and_so_is_recovery(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("ptp4l"):
        assert "CI" not in os.environ, "expected root and linuxptp"
        pytest.skip("needs root and linuxptp")
    tree = plan(load_site(site_of_eight()))
    with running(tree, tmp_path) as site:
        watching = Watching(site)

        def all_well(seen: dict[str, ClockState]) -> bool:
            return all(state.state is State.SYNCHRONISED for state in seen.values())

        watching.until(all_well, "nobody is wrong")
        for machine in tree.machines:
            state = watching.seen[machine.name]
            assert state.steps_removed == tree.steps(machine.name), machine.name
        first = watching.seen["gm1"].grandmaster
        assert {state.grandmaster for name, state in watching.seen.items() if name != "gm2"} == {first}
        assert watching.seen["gm2"].port_states == ("PASSIVE",)

        # An offset: a host whose stamps are 5 ms late.
        site.kill("r1-h1")
        site.start("r1-h1", "--ingressLatency", "10000000")
        watching.until(lambda seen: has(seen["r1-h1"], "offset"), "an offset")
        assert watching.seen["r1-h1"].state is State.DEGRADED
        assert watching.seen["r1-h2"].state is State.SYNCHRONISED
        site.kill("r1-h1")
        site.start("r1-h1")
        watching.until(all_well, "recovery from an offset")

        # A dead boundary clock: its rack is left alone, the other is not.
        site.kill("r1-clock")
        watching.until(
            lambda seen: (
                all(has(seen[f"r1-h{n}"], "sync-stale") or has(seen[f"r1-h{n}"], "no-leader") for n in (1, 2))
                and has(seen["r1-clock"], "no-answer")
            ),
            "a dead boundary clock",
        )
        assert all(watching.seen[name].state is State.SYNCHRONISED for name in ("r2-clock", "r2-h1", "r2-h2", "gm2"))
        site.start("r1-clock")
        watching.until(all_well, "recovery of a boundary clock")

        # The grandmaster dies: the standby leads, and everybody says so.
        site.kill("gm1")
        rest = [name for name in site.namespaces if name != "gm1"]
        watching.until(
            lambda seen: all(seen[n].grandmaster != first and seen[n].state is State.SYNCHRONISED for n in rest),
            "the standby leads",
        )
        assert len({watching.seen[name].grandmaster for name in rest}) == 1
        site.start("gm1")
        watching.until(lambda seen: all_well(seen) and seen["r2-h2"].grandmaster == first, "gm1 again")

        # A lost link, at a host.
        link = ["ip", "-n", site.namespaces["r2-h2"], "link", "set", "eth0"]
        subprocess.run([*link, "down"], check=True)
        watching.until(lambda seen: has(seen["r2-h2"], "port-faulty"), "a lost link")
        subprocess.run([*link, "up"], check=True)
        watching.until(all_well, "recovery of a link")

        # The trap of 37 seconds: a grandmaster that calls its UTC times TAI.
        settings = (
            "SET GRANDMASTER_SETTINGS_NP clockClass 13 clockAccuracy 0x29 offsetScaledLogVariance 0xffff "
            "currentUtcOffset 37 leap61 0 leap59 0 currentUtcOffsetValid 1 ptpTimescale {} timeTraceable 0 "
            "frequencyTraceable 0 timeSource 0x50"
        )
        site.pmc("gm1", settings.format(1))
        watching.until(lambda seen: all(has(seen[f"r{n}-clock"], "utc-offset") for n in (1, 2)), "the trap")
        assert watching.seen["r1-clock"].state is State.LOST
        site.pmc("gm1", settings.format(0))
        watching.until(all_well, "recovery from the trap")

        # In a feed's data: a good clock, and one whose ptp4l dies.
        strategy = Clocks()
        wide = {"warn_ns": 100_000, "degraded_ns": 1_000_000, "lost_ns": 20_000_000, "drift_ppb": 100_000}
        sim = simulated(60)
        try:
            with barewire.Feed.from_config(clocked(str(tmp_path / "r2-h2.sock"), **wide)) as feed:
                feed.run(strategy, duration=3)
                assert feed.clock.state == "synchronised"
                assert feed.clock.utc_bound_ns is not None
                assert feed.clock.utc_bound_ns < 1_000_000
                site.kill("r2-h2")
                feed.run(strategy, duration=6)
                assert feed.clock.state == "lost"
        finally:
            sim.kill()
            sim.wait()
        assert {("synchronised", False), ("lost", True)} <= strategy.flagged
        assert not {("synchronised", True), ("lost", False)} & strategy.flagged

        # The command, its JSON and its metrics.
        command = [PROGRAM, "clock", "watch", "--socket", str(tmp_path / "r2-h1.sock"), "--domain", "24", "--trial"]
        command += ["--warn-ns", "100000", "--degraded-ns", "1000000", "--lost-ns", "20000000", "--json"]
        command += ["--prometheus", "127.0.0.1:19137"]
        with subprocess.Popen([*command, "--duration", "60"], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            states = [json.loads(process.stdout.readline())["state"] for _ in range(6)]
            scraped = urllib.request.urlopen("http://127.0.0.1:19137/metrics", timeout=10).read().decode()
            process.terminate()
        assert states[-1] == "synchronised"
        assert 'barewire_clock_state{state="synchronised"} 1' in scraped
        assert "barewire_clock_steps_removed 2" in scraped
