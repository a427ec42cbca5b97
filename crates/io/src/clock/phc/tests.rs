use super::*;
use std::cell::Cell;

const START: i64 = 1_700_000_000;

fn at(sec: i64, nsec: u32) -> libc::ptp_clock_time {
    libc::ptp_clock_time { sec, nsec, reserved: 0 }
}

/// A driver that has some of the ways, and counts what it is asked.
#[derive(Default)]
struct Faked {
    /// The error of each way, best first; 0 where it works.
    errors: [i32; 3],
    asked: [Cell<u32>; 3],
    /// Whether the system's clock goes back in every reading.
    set: bool,
}

impl Faked {
    fn ask(&self, way: usize) -> io::Result<()> {
        self.asked[way].set(self.asked[way].get() + 1);
        match self.errors[way] {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    fn asked(&self) -> [u32; 3] {
        [0, 1, 2].map(|way| self.asked[way].get())
    }
}

/// The card is 37 s ahead. Reading 3 is the tightest.
impl Device for Faked {
    fn precise(&self, request: &mut libc::ptp_sys_offset_precise) -> io::Result<()> {
        self.ask(0)?;
        (request.device, request.sys_realtime) = (at(START + 37, 500), at(START, 400));
        Ok(())
    }

    fn extended(&self, request: &mut libc::ptp_sys_offset_extended) -> io::Result<()> {
        self.ask(1)?;
        assert!((1..=25).contains(&request.n_samples) && request.clockid == libc::CLOCK_REALTIME);
        assert_eq!(request.rsv, [0; 2]);
        for index in 0..request.n_samples {
            let width = if index == 3 { 100 } else { 2_000 };
            let begin = 10_000 * index;
            let after = if self.set { 0 } else { begin + 5_000 + width };
            request.ts[index as usize] =
                [at(START, begin + 5_000), at(START + 37, begin + 5_000 + width / 2), at(START, after)];
        }
        Ok(())
    }

    fn plain(&self, request: &mut libc::ptp_sys_offset) -> io::Result<()> {
        self.ask(2)?;
        assert!((1..=25).contains(&request.n_samples) && request.rsv == [0; 3]);
        let mut now = 0;
        for index in 0..request.n_samples as usize {
            request.ts[2 * index] = at(START, now);
            request.ts[2 * index + 1] = at(START + 37, now + if index == 3 { 300 } else { 900 });
            now += if index == 3 { 600 } else { 3_000 };
        }
        request.ts[2 * request.n_samples as usize] = at(START, now);
        Ok(())
    }
}

#[test]
fn the_best_way_that_there_is_is_taken_and_remembered() {
    const AHEAD: i64 = -37_000_000_000;
    let no = libc::EOPNOTSUPP;
    for (errors, method, bound_ns, offset_ns, asked) in [
        ([0, 0, 0], Method::Precise, PRECISE_BOUND_NS, AHEAD - 100, [2, 0, 0]),
        ([no, 0, 0], Method::Extended, 50, AHEAD, [1, 2, 0]),
        ([no, libc::ENOTTY, 0], Method::Plain, 300, AHEAD, [1, 1, 2]),
        // No answer this time is no reason not to ask again.
        ([libc::EIO, 0, 0], Method::Extended, 50, AHEAD, [2, 2, 0]),
    ] {
        let (device, mut ways) = (Faked { errors, ..Faked::default() }, Ways::default());
        ways.sample(&device, 1_000).unwrap();
        let sample = ways.sample(&device, 25).unwrap();
        assert_eq!((sample.method, sample.bound_ns, sample.offset_ns()), (method, bound_ns, offset_ns));
        assert_eq!(device.asked(), asked, "{method:?}");
    }
    // One reading is enough, and none is one.
    let (device, mut ways) = (Faked { errors: [no, 0, 0], ..Faked::default() }, Ways::default());
    assert_eq!(ways.sample(&device, 0).unwrap().bound_ns, 1_000);
}

#[test]
fn a_device_that_fails_and_clocks_that_are_set_are_errors() {
    let no = libc::EOPNOTSUPP;
    let (device, mut ways) = (Faked { errors: [no, no, no], ..Faked::default() }, Ways::default());
    assert_eq!(ways.sample(&device, 5).unwrap_err().raw_os_error(), Some(no));
    let (device, mut ways) = (Faked { errors: [no, libc::ENODEV, 0], ..Faked::default() }, Ways::default());
    assert_eq!(ways.sample(&device, 5).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    let (device, mut ways) = (Faked { errors: [no, 0, 0], set: true, ..Faked::default() }, Ways::default());
    assert_eq!(ways.sample(&device, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn what_is_no_time_is_refused() {
    assert_eq!(time(&at(1, 2)), Some(1_000_000_002));
    for (sec, nsec) in [(-1, 0), (0, 1_000_000_000), (i64::MAX, 0), (9_300_000_000, 0)] {
        assert_eq!(time(&at(sec, nsec)), None);
    }
}

/// A clock that is none is refused, for real; one that there is, is read.
#[test]
fn a_device_is_opened_for_real_where_there_is_one() {
    assert!(Phc::open(987_654).is_err());
    // The kernel's documentation has the same number for descriptor 3.
    assert_eq!(clock_id(3), -29);
    let file = File::open("/dev/null").unwrap();
    let mut null = Phc { file, index: 987_654, ways: Ways::default() };
    assert!(null.caps().is_err() && null.read().is_err() && null.name().is_err());
    assert_eq!(null.sample(5).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    let Ok(mut phc) = Phc::open(0) else {
        eprintln!("skipped: no /dev/ptp0 that may be read here");
        return;
    };
    assert!(phc.caps().unwrap().max_adj_ppb >= 0);
    let (before, sample, after) = (phc.read().unwrap(), phc.sample(5).unwrap(), phc.read().unwrap());
    assert!(before <= sample.phc && sample.phc <= after, "{before:?} {sample:?} {after:?}");
}
