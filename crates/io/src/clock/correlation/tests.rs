use super::*;
use proptest::prelude::*;

const START: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

fn sample(phc: u64, system: u64, bound_ns: u64) -> Sample {
    Sample { phc: PhcNanos(phc), system: UnixNanos(system), bound_ns, method: Method::Extended }
}

/// Two clocks of which the system's runs so many parts in a thousand million faster, and was set on by so much.
fn truth(phc: u64, base: u64, drift_ppb: i64, step_ns: i64) -> u64 {
    let elapsed = i128::from(phc - base);
    let system = i128::from(START) + elapsed + elapsed * i128::from(drift_ppb) / 1_000_000_000 + i128::from(step_ns);
    system as u64
}

proptest! {
    /// Whatever the drift up to 500 ppm, the jitter, the pace of the samples and a step on the way: between the samples
    /// and beyond the last, every time is within its bound, and a step is told at the first sample after it.
    #[test]
    fn every_time_is_within_its_bound(
        base in prop_oneof![Just(0u64), Just(START + 37 * SECOND), any::<u32>().prop_map(u64::from)],
        drift_ppb in -499_000i64..=499_000,
        jitter in prop::collection::vec((1u64..5_000, -1.0f64..1.0, 1u64..4_000), 1..40),
        step in prop_oneof![Just(0i64), 50_000_000i64..40 * 1_000_000_000, (-40 * 1_000_000_000i64)..-50_000_000],
        step_at in 0usize..40,
    ) {
        let mut tracker = Tracker::new(TrackerOptions::default());
        let (mut phc, mut stepped) = (base + 1, 0);
        for (index, (bound, off, gap_ms)) in jitter.into_iter().enumerate() {
            phc += gap_ms * 1_000_000;
            let steps_now = index == step_at && index > 0 && step != 0;
            if steps_now {
                stepped = step;
            }
            let system = truth(phc, base, drift_ppb, stepped).wrapping_add_signed((bound as f64 * off) as i64);
            let update = tracker.update(sample(phc, system, bound));
            match update {
                Update::First => prop_assert_eq!(index, 0),
                Update::Agreed { error_ns } => prop_assert!(!steps_now, "{}", error_ns),
                Update::Stepped { by_ns } => {
                    prop_assert!(steps_now, "{update:?}");
                    // Give or take what the clocks drifted and the readings missed since.
                    prop_assert!(by_ns.abs_diff(step) <= 4_000_000, "{by_ns} {step}");
                }
                other => prop_assert!(false, "{other:?}"),
            }
            let fit = tracker.fit().unwrap();
            let window = tracker.window.first().unwrap().phc.0;
            for at in [phc, phc + 1, phc + 10_000_000, phc + SECOND, phc + 60 * SECOND, window, (window + phc) / 2] {
                let found = fit.unix(PhcNanos(at));
                let error = found.time.0.abs_diff(truth(at, base, drift_ppb, stepped));
                prop_assert!(error <= found.bound_ns, "{error} off, {found:?}");
            }
        }
    }

    /// The drift itself changes from sample to sample, by no more than is allowed for: still within the bound, up to the
    /// next sample.
    #[test]
    fn a_drift_that_wanders_as_allowed_stays_within_the_bound(
        drift_ppb in -400_000i64..=400_000,
        legs in prop::collection::vec((1u64..2_000, -1.0f64..1.0, -500i64..=500, 1u64..4_000), 2..30),
    ) {
        let mut tracker = Tracker::new(TrackerOptions { wander_ppb: 1_000, ..TrackerOptions::default() });
        let (mut phc, mut system) = (7, START);
        for (bound, off, wander_ppb, gap_ms) in legs {
            tracker.update(sample(phc, system.wrapping_add_signed((bound as f64 * off) as i64), bound));
            let gap = gap_ms * 1_000_000;
            let (begun, fit) = (phc, tracker.fit().unwrap());
            let at = |phc: u64| truth(phc, begun, drift_ppb + wander_ppb, (system - START) as i64);
            for part in 0..=4 {
                let found = fit.unix(PhcNanos(phc + gap / 4 * part));
                let error = found.time.0.abs_diff(at(phc + gap / 4 * part));
                // One for the rounding of the truth, leg by leg.
                prop_assert!(error <= found.bound_ns + 1, "{error} off, {found:?}");
            }
            (phc, system) = (phc + gap, at(phc + gap));
        }
    }

    /// Nonsense is no panic.
    #[test]
    fn any_samples_are_survived(
        samples in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..20), at in any::<u64>(),
    ) {
        let mut tracker = Tracker::new(TrackerOptions { step_ns: u64::MAX, ..TrackerOptions::default() });
        for (phc, system, bound_ns) in samples {
            tracker.update(sample(phc, system, bound_ns));
            let fit = tracker.fit().unwrap();
            fit.unix(PhcNanos(at));
            fit.drift_ppb();
        }
    }
}

/// What a good card gives: 8 samples a second apart, half a microsecond each: known to a microsecond a second later.
#[test]
fn good_samples_make_a_tight_fit() {
    let mut tracker = Tracker::new(TrackerOptions::default());
    for index in 0..20u64 {
        let phc = index * SECOND;
        let off = if index % 2 == 0 { 300 } else { -300 };
        tracker.update(sample(phc, truth(phc, 0, 12_345, 0).wrapping_add_signed(off), 500));
    }
    let fit = tracker.fit().unwrap();
    assert!(fit.drift_ppb().abs_diff(12_345) < 200, "{}", fit.drift_ppb());
    let soon = fit.unix(PhcNanos(20 * SECOND));
    assert!(soon.bound_ns < 2_500, "{soon:?}");
    assert!(fit.bound_ns() <= 1_000 && fit.growth_ppb() < 1_500, "{fit:?}");
    assert_eq!(fit.offset_ns().abs_diff((START + 19 * 12_345) as i64) / 1_000, 0);
}

/// A servo that changes the rate by more than was allowed for is followed, and said to have.
#[test]
fn a_hard_pull_is_told() {
    let mut tracker = Tracker::new(TrackerOptions::default());
    for index in 0..8u64 {
        tracker.update(sample(index * SECOND, truth(index * SECOND, 0, 0, 0), 50));
    }
    let update = tracker.update(sample(8 * SECOND, truth(8 * SECOND, 0, 0, 5_000), 50));
    assert!(matches!(update, Update::Strayed { error_ns: -5_000, promised_ns } if promised_ns < 2_000), "{update:?}");
    assert!(tracker.fit().unwrap().bound_ns() > 1_000);
}

#[test]
fn a_card_that_goes_back_begins_anew() {
    let mut tracker = Tracker::new(TrackerOptions::default());
    tracker.update(sample(START, START, 50));
    assert_eq!(tracker.update(sample(5, START + SECOND, 50)), Update::Stepped { by_ns: (START + SECOND - 5) as i64 });
    assert_eq!(tracker.fit().unwrap().unix(PhcNanos(6)).time, UnixNanos(START + SECOND + 1));
}

/// Over the end of 2016: told in advance, times are right from the first nanosecond of the inserted second, and nothing
/// is taken for a step. A second that does not come is.
#[test]
fn an_announced_leap_second_is_no_step() {
    let midnight = 1_483_228_800 * SECOND;
    let leap = Leap { at: UnixNanos(midnight), inserted: true };
    // The card is on TAI, 36 seconds ahead.
    let phc = |unix: u64| PhcNanos(unix + 36 * SECOND);
    let follow = |comes: bool| {
        let mut tracker = Tracker::new(TrackerOptions::default());
        for second in (1..=10).rev() {
            let system = midnight - second * SECOND;
            tracker.announce(Some(leap), UnixNanos(system));
            tracker.update(sample(phc(system).0, system, 100));
        }
        // The kernel tells of it no longer once it has begun.
        tracker.announce(None, UnixNanos(midnight - SECOND + 5));
        let fit = tracker.fit().unwrap();
        assert_eq!(fit.unix(phc(midnight - 1)).time, UnixNanos(midnight - 1));
        assert_eq!(fit.unix(phc(midnight)).time, UnixNanos(midnight - SECOND));
        assert_eq!(fit.unix(phc(midnight + SECOND)).time, UnixNanos(midnight));
        let system = midnight + SECOND / 2;
        let update = tracker.update(sample(phc(system).0, system - if comes { SECOND } else { 0 }, 100));
        // Whichever came, from now on there is no leap second.
        let later = midnight + 3 * SECOND;
        let found = tracker.fit().unwrap().unix(phc(later)).time.0;
        assert_eq!(found, later - if comes { SECOND } else { 0 });
        update
    };
    assert_eq!(follow(true), Update::Leapt);
    assert!(matches!(follow(false), Update::Stepped { .. }));
    // Long before it, an announcement can be withdrawn.
    let mut tracker = Tracker::new(TrackerOptions::default());
    tracker.update(sample(0, midnight - 3_600 * SECOND, 100));
    tracker.announce(Some(leap), UnixNanos(midnight - 3_600 * SECOND));
    tracker.announce(None, UnixNanos(midnight - 3_000 * SECOND));
    assert_eq!(tracker.fit().unwrap().unix(PhcNanos(3_600 * SECOND)).time, UnixNanos(midnight));
}

#[test]
fn the_tightest_sample_is_the_best() {
    assert_eq!(best([]), None);
    let samples = [sample(1, 1, 9), sample(2, 2, 3), sample(3, 3, 3), sample(4, 4, 5)];
    assert_eq!(best(samples), Some(samples[2]));
    let between = |before, after| Sample::between(UnixNanos(before), PhcNanos(7), UnixNanos(after), Method::Plain);
    assert_eq!(between(100, 107).map(|sample| (sample.system.0, sample.bound_ns)), Some((103, 4)));
    assert_eq!(between(100, 99), None);
}
