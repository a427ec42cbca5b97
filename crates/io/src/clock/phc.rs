//! A network card's own clock: a PTP hardware clock (PHC), `/dev/ptpN`.
//!
//! Linux's `ptp_clock.h` and Documentation/driver-api/ptp.rst. The device is opened for reading only, so that nothing
//! here could set or steer it.
//!
//! [`Phc::sample`] compares it with CLOCK_REALTIME by the best way that the driver has, and says how far off that may be:
//!
//! | way | the card's register was read | bound |
//! |---|---|---|
//! | `PTP_SYS_OFFSET_PRECISE` | by hardware, together with the system's counter (PCIe PTM, Intel's ART) | [`PRECISE_BOUND_NS`]: the kernel tells none |
//! | `PTP_SYS_OFFSET_EXTENDED` | between two readings of the system's clock around that one register | half of what lies between |
//! | `PTP_SYS_OFFSET` | somewhere in the driver's reading, which may take several registers | half of what lies between |
//!
//! Of the latter two, the tightest of up to [`MAX_SAMPLES`] is taken. A way that the driver lacks is not tried again.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use barewire_types::UnixNanos;

use super::correlation::{Method, PhcNanos, Sample, best};
use super::nanos;

/// How far a comparison by hardware may be off: some tens of nanoseconds for the capture, and the card's own resolution.
/// An allowance, since the kernel tells no bound.
pub const PRECISE_BOUND_NS: u64 = 100;
/// The most readings of the card's clock that one comparison can have (`PTP_MAX_SAMPLES`).
pub const MAX_SAMPLES: u32 = libc::PTP_MAX_SAMPLES;

/// What a card's clock can do (`PTP_CLOCK_GETCAPS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhcCaps {
    /// By how much its rate can be changed, parts in a thousand million.
    pub max_adj_ppb: i32,
    /// Programmable alarms.
    pub alarms: i32,
    /// Channels for external time stamps.
    pub external_timestamps: i32,
    /// Programmable periodic signals.
    pub periodic_outputs: i32,
    /// Whether it tells the kernel of each second (PPS).
    pub pps: bool,
    /// Pins.
    pub pins: i32,
    /// Whether it can be compared with the system's clock by hardware.
    pub cross_timestamping: bool,
    /// Whether its phase can be adjusted.
    pub adjust_phase: bool,
}

/// What answers the kernel's comparisons.
trait Device {
    fn precise(&self, request: &mut libc::ptp_sys_offset_precise) -> io::Result<()>;
    fn extended(&self, request: &mut libc::ptp_sys_offset_extended) -> io::Result<()>;
    fn plain(&self, request: &mut libc::ptp_sys_offset) -> io::Result<()>;
}

/// # Safety
///
/// `request` must be one that reads and writes no more than a `T`.
unsafe fn ioctl<T>(fd: RawFd, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: the caller's promise; `argument` is readable and writable.
    let done = unsafe { libc::ioctl(fd, request, &raw mut *argument) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Device for File {
    fn precise(&self, request: &mut libc::ptp_sys_offset_precise) -> io::Result<()> {
        // SAFETY: the number holds this structure's size.
        unsafe { ioctl(self.as_raw_fd(), libc::PTP_SYS_OFFSET_PRECISE, request) }
    }

    fn extended(&self, request: &mut libc::ptp_sys_offset_extended) -> io::Result<()> {
        // SAFETY: as above.
        unsafe { ioctl(self.as_raw_fd(), libc::PTP_SYS_OFFSET_EXTENDED, request) }
    }

    fn plain(&self, request: &mut libc::ptp_sys_offset) -> io::Result<()> {
        // SAFETY: as above. The number says that it is only read; the kernel writes the times to it all the same.
        unsafe { ioctl(self.as_raw_fd(), libc::PTP_SYS_OFFSET, request) }
    }
}

/// An open card's clock.
#[derive(Debug)]
pub struct Phc {
    file: File,
    index: u32,
    ways: Ways,
}

impl Phc {
    /// Opens `/dev/ptpN`, for reading only.
    ///
    /// Which one is an interface's: [`hwstamp::capabilities`](crate::hwstamp::capabilities).
    ///
    /// # Errors
    ///
    /// The operating system's: `NotFound` where there is none, `PermissionDenied` where its owner, root as a rule, does
    /// not let others read it.
    pub fn open(index: u32) -> io::Result<Phc> {
        Ok(Phc { file: File::open(format!("/dev/ptp{index}"))?, index, ways: Ways::default() })
    }

    /// A device that answers nothing.
    #[cfg(test)]
    pub(crate) fn none() -> Phc {
        Phc { file: File::open("/dev/null").unwrap(), index: u32::MAX, ways: Ways::default() }
    }

    /// The number in its name.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The driver's name for it.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn name(&self) -> io::Result<String> {
        Ok(fs::read_to_string(format!("/sys/class/ptp/ptp{}/clock_name", self.index))?.trim_end().to_owned())
    }

    /// What it can do.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn caps(&self) -> io::Result<PhcCaps> {
        // SAFETY: integers, for which zero is a value.
        let mut caps: libc::ptp_clock_caps = unsafe { std::mem::zeroed() };
        // SAFETY: the number holds this structure's size.
        unsafe { ioctl(self.file.as_raw_fd(), libc::PTP_CLOCK_GETCAPS, &mut caps) }?;
        Ok(PhcCaps {
            max_adj_ppb: caps.max_adj,
            alarms: caps.n_alarm,
            external_timestamps: caps.n_ext_ts,
            periodic_outputs: caps.n_per_out,
            pps: caps.pps != 0,
            pins: caps.n_pins,
            cross_timestamping: caps.cross_timestamping != 0,
            adjust_phase: caps.adjust_phase != 0,
        })
    }

    /// Its time. A system call that reads the card: microseconds.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn read(&self) -> io::Result<PhcNanos> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is writable, and a clock that does not exist is refused.
        match unsafe { libc::clock_gettime(clock_id(self.file.as_raw_fd()), &mut time) } {
            0 => Ok(PhcNanos(nanos(time))),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Compares it with CLOCK_REALTIME, by the best way there is; the tightest of so many readings, 1 to [`MAX_SAMPLES`].
    /// A system call that reads the card: microseconds a reading.
    ///
    /// # Errors
    ///
    /// The operating system's; `InvalidData` where no reading was usable, since a clock was set meanwhile.
    pub fn sample(&mut self, readings: u32) -> io::Result<Sample> {
        self.ways.sample(&self.file, readings)
    }
}

/// The clock of an open descriptor: CLOCKFD of the kernel's posix-timers.h.
fn clock_id(fd: RawFd) -> libc::clockid_t {
    const CLOCKFD: libc::clockid_t = 3;
    (!fd << 3) | CLOCKFD
}

/// Which ways a device lacks.
#[derive(Clone, Copy, Debug, Default)]
struct Ways {
    no_precise: bool,
    no_extended: bool,
}

/// Whether an error says that the driver or the kernel does not know how, now and always.
fn lacking(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS | libc::EINVAL))
}

impl Ways {
    fn sample(&mut self, device: &impl Device, readings: u32) -> io::Result<Sample> {
        let readings = readings.clamp(1, MAX_SAMPLES);
        let unusable = || io::Error::new(io::ErrorKind::InvalidData, "a clock was set while it was read");
        if !self.no_precise {
            // SAFETY: integers, for which zero is a value.
            let mut request: libc::ptp_sys_offset_precise = unsafe { std::mem::zeroed() };
            match device.precise(&mut request) {
                Ok(()) => {
                    let times = time(&request.device).zip(time(&request.sys_realtime));
                    let (phc, system) = times.ok_or_else(unusable)?;
                    let (phc, system) = (PhcNanos(phc), UnixNanos(system));
                    return Ok(Sample { phc, system, bound_ns: PRECISE_BOUND_NS, method: Method::Precise });
                }
                // Others pass: the hardware had no answer this time.
                Err(error) => self.no_precise = lacking(&error),
            }
        }
        if !self.no_extended {
            // SAFETY: as above. Zero in `clockid` is CLOCK_REALTIME.
            let mut request: libc::ptp_sys_offset_extended = unsafe { std::mem::zeroed() };
            request.n_samples = readings;
            match device.extended(&mut request) {
                Ok(()) => {
                    let triples = request.ts.iter().take(readings as usize);
                    let samples = triples.filter_map(|[before, phc, after]| {
                        let (before, phc, after) =
                            (UnixNanos(time(before)?), PhcNanos(time(phc)?), UnixNanos(time(after)?));
                        Sample::between(before, phc, after, Method::Extended)
                    });
                    return best(samples).ok_or_else(unusable);
                }
                Err(error) if lacking(&error) => self.no_extended = true,
                Err(error) => return Err(error),
            }
        }
        // SAFETY: as above.
        let mut request: libc::ptp_sys_offset = unsafe { std::mem::zeroed() };
        request.n_samples = readings;
        device.plain(&mut request)?;
        // System, card, system, card, ..., system.
        let pairs = request.ts.windows(3).step_by(2).take(readings as usize);
        let samples = pairs.filter_map(|window| {
            let [before, phc, after] = window else { return None };
            let (before, phc, after) = (UnixNanos(time(before)?), PhcNanos(time(phc)?), UnixNanos(time(after)?));
            Sample::between(before, phc, after, Method::Plain)
        });
        best(samples).ok_or_else(unusable)
    }
}

/// Nanoseconds; `None` for what is no time after the clock's beginning.
fn time(time: &libc::ptp_clock_time) -> Option<u64> {
    let seconds = u64::try_from(time.sec).ok()?;
    let fraction = Some(u64::from(time.nsec)).filter(|fraction| *fraction < 1_000_000_000)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction).filter(|time| *time <= i64::MAX as u64)
}

#[cfg(test)]
#[path = "phc/tests.rs"]
mod tests;
