use super::*;

const NOW: u64 = 1_483_228_799 * SECOND; // 2016-12-31 23:59:59

fn timex() -> libc::timex {
    // SAFETY: a timex is integers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// The kernel is asked for real; it changes nothing.
#[test]
fn the_kernel_answers() {
    let before = super::super::now();
    match system_clock() {
        Ok(clock) => {
            assert!(clock.now >= before && clock.now.0 - before.0 < 60 * SECOND, "{clock:?}");
            assert!(clock.frequency_ppb.abs() <= 500_000);
            let tai = TaiOffset::find(&clock);
            assert!((TAI_UTC_SINCE_2017_S - 5..TAI_UTC_SINCE_2017_S + 5).contains(&tai.seconds), "{tai:?}");
        }
        Err(error) => eprintln!("skipped: adjtimex is forbidden here: {error}"),
    }
}

#[test]
fn states_and_units_are_read() {
    let mut seen = timex();
    seen.time.tv_sec = 1_483_228_799;
    seen.time.tv_usec = 250_000;
    seen.offset = -3;
    seen.freq = 65_536 * 100 / 8; // 12.5 ppm
    (seen.maxerror, seen.esterror, seen.tai) = (16, 2, 36);
    let clock = read(&seen, libc::TIME_INS);
    assert_eq!(clock.now, UnixNanos(NOW + SECOND / 4));
    assert_eq!((clock.offset_ns, clock.frequency_ppb, clock.max_error_us), (-3_000, 12_500, 16));
    assert!(clock.synchronised && clock.tai_offset_s == Some(36) && !clock.in_leap_second);
    assert_eq!(clock.leap, Some(Leap { at: UnixNanos(NOW + SECOND), inserted: true }));
    // As phc2sys leaves it that cleared the flag and then found no card: until the next second begins.
    seen.maxerror = 16_000_000;
    assert!(!read(&seen, libc::TIME_OK).synchronised);
    seen.maxerror = 16;
    seen.status = libc::STA_NANO | libc::STA_UNSYNC;
    seen.tai = 0;
    let clock = read(&seen, libc::TIME_ERROR);
    assert_eq!((clock.now, clock.offset_ns), (UnixNanos(NOW + 250_000), -3));
    assert!(!clock.synchronised && clock.tai_offset_s.is_none() && clock.leap.is_none());
    assert_eq!(read(&seen, libc::TIME_DEL).leap.map(|leap| leap.inserted), Some(false));
    assert!(read(&seen, libc::TIME_OOP).in_leap_second);
}

/// The end of 2016, second by second, as the kernel counted it (TAI went on evenly): 23:59:59 twice.
#[test]
fn the_inserted_second_repeats_the_one_before() {
    let leap = Leap { at: UnixNanos(NOW + SECOND), inserted: true };
    let before = TaiOffset { seconds: 36, source: TaiSource::Kernel, leap: Some(leap) };
    let after = TaiOffset { seconds: 37, source: TaiSource::Kernel, leap: None };
    let tai = NOW + 36 * SECOND;
    let unix: Vec<u64> = (0..4).map(|second| before.unix(tai + second * SECOND + 5).0).collect();
    assert_eq!(unix, [NOW + 5, NOW + 5, NOW + SECOND + 5, NOW + 2 * SECOND + 5]);
    for second in 1..4 {
        assert_eq!(before.unix(tai + second * SECOND), after.unix(tai + second * SECOND));
    }
    // Left out: 23:59:58 is followed by midnight.
    let left_out = Leap { inserted: false, ..leap };
    assert_eq!(left_out.apply(UnixNanos(NOW - 1)), UnixNanos(NOW - 1));
    assert_eq!(left_out.apply(UnixNanos(NOW)), UnixNanos(NOW + SECOND));
    assert_eq!(after.unix(5), UnixNanos::ABSENT);
}

/// As in the file that IERS gives out.
const LIST: &str = "#\tFile expires on:  28 December 2026\n#@\t4007404800\n#$\t3676924800\n\
                    2272060800\t10\t# 1 Jan 1972\n3644697600\t36\t# 1 Jul 2015\n3692217600\t37\t# 1 Jan 2017\n#h x y\n";

#[test]
fn the_list_is_read_until_it_expires() {
    let at = |unix_s: u64| listed(LIST, UnixNanos(unix_s * SECOND));
    assert_eq!(at(1_483_228_799), Some(36));
    assert_eq!(at(1_483_228_800), Some(37));
    assert_eq!(at(1_798_415_999), Some(37));
    assert_eq!(at(1_798_416_000), None);
    assert_eq!(at(0), None);
    assert_eq!(listed("", UnixNanos(NOW)), None);
    assert_eq!(listed("1 2\n#@ x\n", UnixNanos(NOW)), None);

    let mut seen = timex();
    seen.time.tv_sec = 1_700_000_000;
    let unset = read(&seen, libc::TIME_OK);
    let choose = |clock: &SystemClock, list| {
        let tai = TaiOffset::choose(clock, list);
        (tai.seconds, tai.source.name())
    };
    assert_eq!(choose(&unset, Some(LIST)), (37, "leap_seconds_list"));
    assert_eq!(choose(&unset, Some("#@ 1\n1 10\n")), (37, "assumed"));
    assert_eq!(choose(&unset, None), (37, "assumed"));
    seen.tai = 38;
    assert_eq!(choose(&read(&seen, libc::TIME_OK), Some(LIST)), (38, "kernel"));
}

#[test]
fn the_trap_is_named_whatever_its_kind() {
    const S: i64 = 1_000_000_000;
    let tai = -37 * S;
    for (offset_ns, kernel_s, ptp, expected) in [
        (tai + 800, Some(37), None, Timescale::Tai),
        (tai + 800, None, None, Timescale::TaiUnset { seconds: 37 }),
        (tai, None, Some(true), Timescale::TaiUnset { seconds: 37 }),
        (tai, Some(36), None, Timescale::TaiWrong { kernel_s: 36, seconds: 37 }),
        // A leap second that the list does not know yet.
        (-38 * S, Some(38), None, Timescale::Tai),
        (-500, Some(37), None, Timescale::Utc),
        (-500, Some(37), Some(false), Timescale::Utc),
        (900, None, Some(true), Timescale::SystemOnTai { seconds: 37 }),
        (2 * tai, Some(37), None, Timescale::Doubled { seconds: 74 }),
        (-tai + 3, None, None, Timescale::Doubled { seconds: -37 }),
        (S, None, None, Timescale::Unrelated { ahead_ns: -S }),
        (1_700_000_000 * S, Some(37), None, Timescale::Unrelated { ahead_ns: -1_700_000_000 * S }),
        (i64::MIN, Some(i32::MIN), Some(true), Timescale::Unrelated { ahead_ns: i64::MIN }),
    ] {
        let found = judge(offset_ns, kernel_s, 37, ptp);
        assert_eq!(found, expected);
        assert_eq!(found.is_trap(), !["tai", "utc", "unrelated"].contains(&found.name()));
    }
}
