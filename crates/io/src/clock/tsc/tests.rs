use super::*;

fn clock() -> Option<TscClock> {
    let clock = TscClock::calibrate(TscOptions::default());
    match clock.fallback() {
        None => Some(clock),
        Some(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

/// On this machine's own counter: between two readings of the system's clock, give or take what it says, at every
/// reading, and never back, over recalibrations.
#[test]
fn it_keeps_to_the_system_clock_and_never_goes_back() {
    let Some(mut clock) = clock() else { return };
    let hz = clock.frequency_hz().unwrap();
    assert!((1_000_000..100_000_000_000).contains(&hz), "{hz}");
    let mut last = UnixNanos(0);
    for _ in 0..30 {
        for _ in 0..3_000 {
            let before = now().0;
            let ours = clock.now_bounded();
            let after = now().0;
            // Nobody but an operator steps the clock back; that is no failure of ours.
            if before > after {
                continue;
            }
            let (time, bound) = (ours.time.0, ours.bound_ns);
            assert!(time + bound >= before && time <= after + bound, "{before} {ours:?} {after}");
            assert!(ours.time >= last);
            last = clock.now_ordered();
            assert!(last >= ours.time);
        }
        for _ in 0..3_000 {
            let next = clock.now();
            assert!(next >= last, "{next:?} after {last:?}");
            last = next;
        }
        wait(3_000_000);
        let found = clock.recalibrate().expect("the counter keeps its rate");
        assert!(found.kept() || found.stepped_ns.is_some(), "{found:?}");
        assert!(clock.now() >= last);
    }
}

#[test]
fn a_clock_without_its_counter_is_the_systems() {
    let mut clock = TscClock {
        options: TscOptions::default(),
        timeline: Err(NoCounter::NotInvariant),
        baseline: None,
        last: None,
        raw_rate: None,
        rate_ppb: 0,
        doubted: false,
        floor: 0,
    };
    assert_eq!((clock.fallback(), clock.frequency_hz()), (Some(NoCounter::NotInvariant), None));
    assert_eq!(clock.recalibrate(), None);
    let (before, ours, after) = (now(), clock.now_bounded(), now());
    assert!(before <= ours.time && ours.time <= after && ours.bound_ns == 0);
    assert!(before <= clock.now() && before <= clock.now_ordered());
}

const START: u64 = 1_700_000_000_000_000_000;

/// What a counter of 1 GHz shows so long after the start, the system's clock stepped by so much.
fn seen(elapsed_ns: u64, stepped_ns: i64, ticks: u64) -> Sample {
    let anchor = |ticks, ns| Anchor { ticks, ns, bound_ns: 20 };
    Sample {
        real: anchor(ticks, (START + elapsed_ns).wrapping_add_signed(stepped_ns)),
        raw: anchor(ticks + 40, 5_000_000_000 + elapsed_ns + 40),
    }
}

fn faked() -> TscClock {
    let first = seen(0, 0, 1_000);
    let (rate, _) = Rate::between(first.real, seen(1_000_000_000, 0, 1_000_001_000).real).unwrap();
    TscClock {
        options: TscOptions::default(),
        timeline: Ok(Timeline::new(first.real, rate, 1_000)),
        baseline: Some(first),
        last: Some(first),
        raw_rate: Some(rate),
        rate_ppb: 0,
        doubted: false,
        floor: 0,
    }
}

/// The system's clock is stepped, forward and back: it is told, no reading goes back, the rate stays.
#[test]
fn a_stepped_system_clock_is_told_and_not_followed_backwards() {
    for step in [-2_000_000_000i64, -50_000, 50_000, 37_000_000_000] {
        let mut clock = faked();
        let hz = clock.frequency_hz();
        let second = 1_000_000_000;
        let stood = clock.timeline.unwrap().at(second + 1_000);
        let found = clock.follow(seen(second, step, second + 1_000), second + 1_000).unwrap();
        assert!(!found.kept());
        assert!(found.error_ns.abs_diff(-step) < 100, "{found:?}");
        // 50 us in a second could be a servo, too: it is no step, and no new rate either.
        let told = found.stepped_ns.map(|told| told.abs_diff(step) < 100);
        assert_eq!(told, (step.abs() > 1_000_000).then_some(true));
        assert_eq!(clock.frequency_hz(), hz);
        let timeline = clock.timeline.unwrap();
        assert!(timeline.at(second + 1_000) >= stood);
        let off = timeline.at(second + 1_000).abs_diff((START + second).wrapping_add_signed(step));
        assert!(off <= timeline.bound(second + 1_000), "{off}");
        // The next calibration finds a clock that nobody steps.
        let found = clock.follow(seen(2 * second, step, 2 * second + 1_000), 2 * second + 1_000).unwrap();
        assert!(found.kept() && found.stepped_ns.is_none(), "{found:?}");
    }
}

/// A servo that begins to pull by 50 ppm: its rate is taken at the second look, and promises are kept from then on.
#[test]
fn a_pulled_system_clock_is_followed() {
    let mut clock = faked();
    for second in 1..6u64 {
        let ticks = second * 1_000_000_000 + 1_000;
        let found = clock.follow(seen(second * 1_000_000_000, second as i64 * 50_000, ticks), ticks).unwrap();
        assert_eq!(found.kept(), second != 1, "{found:?}");
        assert_eq!(found.stepped_ns, None);
    }
    assert_eq!(clock.frequency_hz().unwrap() / 1_000, 999_950);
    assert!(clock.timeline.unwrap().bound(5_000_001_000) < 100);
}

/// A counter that stops, jumps or changes its rate is left, and said to be.
#[test]
fn a_counter_that_loses_its_rate_is_left() {
    let second = 1_000_000_000;
    for ticks in [0, 1_000, second / 2, second * 2, second + second / 1_000] {
        let mut clock = faked();
        let stood = clock.timeline.unwrap().at(ticks);
        assert_eq!(clock.follow(seen(second, 0, ticks), ticks), None, "{ticks}");
        assert_eq!(clock.fallback(), Some(NoCounter::Unsteady));
        let ours = clock.now_bounded();
        assert!(ours.time.0 >= START && ours.time.0 >= clock.floor);
        // A reading shortly ahead is held, one far ahead was nonsense.
        assert_eq!(clock.floor != 0, stood <= START + second + HOLD_NS);
    }
    // The same look again, right after the first: nothing is wrong.
    let mut clock = faked();
    assert!(clock.follow(seen(500, 0, 1_500), 1_500).unwrap().kept());
    assert_eq!(clock.fallback(), None);
}
