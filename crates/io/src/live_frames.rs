//! Sending prepared frames from within the kernel, for benchmarks: a program sends each when it is due, with its number
//! and the time written into it, several times as fast as a socket would.
//!
//! A kernel can run an XDP program on frames of its own making and send what the program redirects
//! (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18, the kernel's `Documentation/bpf/bpf_prog_run.rst`). This one takes the
//! frames of [`Frames`], one after the other and round again. For each it waits until the schedule has it, looks at the
//! clock, makes the frame as long as it is to be, copies it, writes into it the number of its first unit and, at each
//! unit, the time of that look, and sets UDP's checksum right. It looks at CLOCK_MONOTONIC, as
//! [`clock::monotonic`](crate::clock::monotonic) does.
//!
//! Frames leave by an interface that takes them from XDP programs. A veth's end does so when its other end has a program
//! or generic receive offload ([`receive_offload`]); what the other end does with a frame is then done in the sender's
//! thread, before the next one is due.
//!
//! Needs CAP_NET_ADMIN and CAP_BPF. Nothing is attached anywhere: program and maps go with their descriptors.

mod program;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::bpf::{self, SharedMap};
use crate::clock;
use crate::error::{OpenError, Purpose};
use crate::hwstamp::{SIOCETHTOOL, on_interface};
use crate::socket::interface_index;
use program::{
    CHECKSUM_AT, FRACTION_BITS, MAX_FRAME, MAX_RECORD, MAX_UNITS, Made, RECORD_HEAD, SEGMENT_BYTES, Word, record,
};

/// Where UDP's header begins.
const UDP_AT: usize = CHECKSUM_AT - 6;
/// Where the addresses stand, which the checksum is over, too.
const ADDRESSES: std::ops::Range<usize> = 26..34;
/// Bytes of a time.
const TIME_BYTES: usize = 6;

/// Why a frame cannot be sent so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than Ethernet carries, or too short for headers and number; or no UDP over IPv4 without tag and options.
    NotSuch,
    /// More units than there is room for, a time outside of the frame, or a number at an odd place.
    BadPlaces,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameError::NotSuch => {
                "expected a frame of UDP over IPv4, without tag and options, of 1,514 bytes at most, found another"
            }
            FrameError::BadPlaces => {
                "expected up to 72 units, their times within the frame, and the number at an even place, found others"
            }
        })
    }
}

impl std::error::Error for FrameError {}

/// Frames to be sent, in order, round and round.
#[derive(Clone, Debug)]
pub struct Frames {
    number_at: u16,
    /// Whole segments of records.
    bytes: Vec<u8>,
    /// Where the last record is, and where the next one comes.
    last: Option<usize>,
    next: usize,
}

impl Frames {
    /// No frames yet. Each has the number of its first unit at this place, 64 bits in network order.
    pub fn new(number_at: u16) -> Frames {
        Frames { number_at, bytes: Vec::new(), last: None, next: 0 }
    }

    /// Adds a frame, with the places of its units' times, 48 bits in network order. What it holds at these places, and its
    /// checksum, does not matter.
    ///
    /// # Errors
    ///
    /// [`FrameError`], and nothing is added.
    pub fn push(&mut self, frame: &[u8], times_at: &[u16]) -> Result<(), FrameError> {
        let number_at = usize::from(self.number_at);
        let headers = frame.get(12..24).ok_or(FrameError::NotSuch)?;
        let udp_over_ipv4 = matches!(headers, [0x08, 0x00, 0x45, .., 17]);
        if !udp_over_ipv4 || frame.len() > MAX_FRAME || number_at < UDP_AT + 8 || frame.len() < number_at + 8 {
            return Err(FrameError::NotSuch);
        }
        let within = |at: &u16| (UDP_AT + 8..=frame.len() - TIME_BYTES).contains(&usize::from(*at));
        if !number_at.is_multiple_of(2)
            || times_at.is_empty()
            || times_at.len() > MAX_UNITS
            || !times_at.iter().all(within)
        {
            return Err(FrameError::BadPlaces);
        }
        // What will be written is no part of the sum.
        let mut frame = frame.to_vec();
        let places = times_at.iter().map(|at| (usize::from(*at), TIME_BYTES));
        for (at, len) in places.chain([(number_at, 8), (CHECKSUM_AT, 2)]) {
            frame.get_mut(at..at + len).ok_or(FrameError::BadPlaces)?.fill(0);
        }
        let (addresses, udp) = (frame.get(ADDRESSES), frame.get(UDP_AT..));
        let (addresses, udp) = addresses.zip(udp).ok_or(FrameError::NotSuch)?;
        let sum = words(addresses) + words(udp) + 17 + udp.len() as u32;
        let odd = times_at.iter().filter(|at| !(usize::from(**at) - UDP_AT).is_multiple_of(2)).count();

        let frame_at = RECORD_HEAD + 2 * times_at.len();
        let mut begin = self.next;
        if begin % SEGMENT_BYTES > SEGMENT_BYTES - MAX_RECORD {
            begin = begin.next_multiple_of(SEGMENT_BYTES);
        }
        let segments = (begin + MAX_RECORD).next_multiple_of(SEGMENT_BYTES);
        self.bytes.resize(segments.max(self.bytes.len()), 0);
        let fields = [
            (record::LEN, frame.len() as u16),
            (record::FRAME_AT, frame_at as u16),
            (record::UNITS, times_at.len() as u16),
            (record::ODD, odd as u16),
        ];
        for (at, value) in fields {
            self.put(begin + at as usize, &value.to_ne_bytes());
        }
        self.put(begin + record::SUM as usize, &sum.to_ne_bytes());
        for (n, at) in times_at.iter().enumerate() {
            self.put(begin + RECORD_HEAD + 2 * n, &at.to_ne_bytes());
        }
        self.put(begin + frame_at, &frame);
        if let Some(last) = self.last {
            self.link(last, begin);
        }
        // The last one's successor is the first.
        self.link(begin, 0);
        self.last = Some(begin);
        self.next = (begin + frame_at + frame.len()).next_multiple_of(8);
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(to) = self.bytes.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    fn link(&mut self, record: usize, next: usize) {
        let (segment, offset) = ((next / SEGMENT_BYTES) as u32, (next % SEGMENT_BYTES) as u32);
        self.put(record + record::NEXT_SEGMENT as usize, &segment.to_ne_bytes());
        self.put(record + record::NEXT_OFFSET as usize, &offset.to_ne_bytes());
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }
}

/// The 16-bit words in network order, added up.
fn words(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    };
    bytes.chunks(2).map(word).sum()
}

/// When frames are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The first one, by CLOCK_MONOTONIC, ns.
    pub start: u64,
    /// What the frames' times are counted from, ns; not after the start.
    pub origin: u64,
    /// Between two units: a frame of n units is followed by the next one n times later.
    pub ns_per_unit: f64,
    /// For so long frames become due, ns.
    pub duration_ns: u64,
    /// How long after that they may still be sent, ns.
    pub overtime_ns: u64,
}

/// How frames are sent.
#[derive(Clone, Copy, Debug)]
pub struct FrameOptions {
    /// Most frames that are made before they leave together, 1 to 64, a power of two. The program waits for the first of
    /// them only, and those that are due then go with it. More makes higher rates possible, and costs some 50 ns of
    /// latency for each at lower ones.
    pub batch: u32,
    /// A frame that is sent so much after it was due counts as late, ns.
    pub late_ns: u32,
    /// Looks at the clock that are so far apart count as interrupted, ns.
    pub interrupted_ns: u32,
}

impl Default for FrameOptions {
    fn default() -> Self {
        FrameOptions { batch: 1, late_ns: 100_000, interrupted_ns: 1_000_000 }
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FramesSent {
    /// Units.
    pub units: u64,
    /// Frames.
    pub frames: u64,
    /// Frames sent late.
    pub late_frames: u64,
    /// How late the latest was, ns.
    pub max_late_ns: u64,
    /// From the start to the last look at the clock, ns.
    pub elapsed_ns: u64,
    /// Time for which it was interrupted, ns.
    pub stolen_ns: u64,
}

/// Sends frames by a program in the kernel.
#[derive(Debug)]
pub struct FrameSender {
    program: OwnedFd,
    words: Arc<SharedMap>,
    _frames: SharedMap,
    batch: u32,
}

/// Ends what a [`FrameSender`] is about, from another thread.
#[derive(Clone, Debug)]
pub struct FrameStopper(Arc<SharedMap>);

impl FrameStopper {
    /// Nothing more is sent.
    pub fn stop(&self) {
        store(&self.0, Word::Stop, 1);
    }
}

fn store(words: &SharedMap, word: Word, value: u64) {
    if let Some(to) = words.words().get(word as usize) {
        to.store(value, Ordering::Relaxed);
    }
}

fn load(words: &SharedMap, word: Word) -> u64 {
    words.words().get(word as usize).map_or(0, |from| from.load(Ordering::Relaxed))
}

impl FrameSender {
    /// Loads the program, and the frames, of which there is at least one. They leave by this interface of the calling
    /// thread's namespace; it is to send from there.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: what is missing, or what the kernel has against it.
    pub fn open(interface: &str, frames: &Frames, options: FrameOptions) -> Result<FrameSender, OpenError> {
        let what = Purpose::Sender;
        let FrameOptions { batch, late_ns, interrupted_ns } = options;
        if !(1..=64).contains(&batch) || !batch.is_power_of_two() {
            return Err(OpenError::BadOption { name: "batch", value: batch.into(), min: 1, max: 64 });
        }
        let index = interface_index(what, interface)?;
        let needs = crate::capabilities::Capabilities::NET_ADMIN.with(crate::capabilities::Capabilities::BPF);
        let refused = |call: &'static str, error: io::Error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => OpenError::not_permitted(what, "send by a BPF program", needs, error),
            _ => OpenError::Os { what, call, error },
        };
        let map = |error| refused("BPF_MAP_CREATE", error);
        let words = SharedMap::new(8 * Word::COUNT as u32, 1, b"barewire_send").map_err(map)?;
        let segments = (frames.bytes.len() / SEGMENT_BYTES).max(1) as u32;
        let memory = SharedMap::new(SEGMENT_BYTES as u32, segments, b"barewire_frames").map_err(map)?;
        for (to, from) in memory.words().iter().zip(frames.bytes.as_chunks().0) {
            to.store(u64::from_ne_bytes(*from), Ordering::Relaxed);
        }
        let made = Made {
            words: words.fd(),
            frames: memory.fd(),
            interface: index,
            number_at: frames.number_at,
            batch,
            late_ns: late_ns.min(i32::MAX as u32),
            interrupted_ns: interrupted_ns.clamp(1, i32::MAX as u32),
        };
        let program = bpf::load_program(&program::assemble(&made)).map_err(|(error, log)| match log.trim_end() {
            "" => refused("BPF_PROG_LOAD", error),
            log => {
                let last = log.lines().rev().take(3).collect::<Vec<_>>();
                let said = last.into_iter().rev().collect::<Vec<_>>().join("; ");
                refused("BPF_PROG_LOAD", io::Error::new(error.kind(), format!("{error}: {said}")))
            }
        })?;
        Ok(FrameSender { program, words: Arc::new(words), _frames: memory, batch })
    }

    /// A handle by which another thread ends what is sent.
    pub fn stopper(&self) -> FrameStopper {
        FrameStopper(Arc::clone(&self.words))
    }

    /// Sends what becomes due, from the first frame on and with numbers from 1 on; returns when all is sent, when it may
    /// take no longer, or when it was stopped.
    ///
    /// # Errors
    ///
    /// The operating system's: EOPNOTSUPP and EINVAL before Linux 5.18.
    pub fn send(&mut self, schedule: &Schedule) -> io::Result<FramesSent> {
        /// Calls of the program in one go: a stop is seen by the next call, and those that are left then take 60 ns each.
        const REPEAT: u32 = 1 << 21;
        let words = &*self.words;
        let Schedule { start, origin, ns_per_unit, duration_ns, overtime_ns } = *schedule;
        let step = (ns_per_unit * f64::from(1u32 << FRACTION_BITS)) as u64;
        let end = start.saturating_add(duration_ns);
        for (word, value) in [
            (Word::Start, start),
            (Word::Origin, origin.min(start)),
            (Word::Step, step.max(1)),
            (Word::Duration, duration_ns),
            (Word::GiveUp, end.saturating_add(overtime_ns)),
            (Word::Last, start),
        ] {
            store(words, word, value);
        }
        let zeroed = [Word::Due, Word::Segment, Word::Offset, Word::Units, Word::Frames, Word::LateFrames];
        for word in zeroed.into_iter().chain([Word::MaxLate, Word::Stolen, Word::Ended]) {
            store(words, word, 0);
        }
        let frame = [0; MAX_FRAME];
        while load(words, Word::Stop) == 0 && load(words, Word::Ended) == 0 {
            store(words, Word::Turn, 0);
            // Those that are left when all is sent are not many.
            let left = end.saturating_sub(clock::monotonic()).max(1);
            let due = load(words, Word::Due) >> FRACTION_BITS;
            let units = duration_ns.saturating_sub(due) as f64 / ns_per_unit;
            let calls = units + left as f64 / 10_000.0 + 1.0;
            let repeat = (calls as u32).clamp(self.batch, REPEAT).next_multiple_of(self.batch);
            match bpf::run_live(&self.program, &frame, repeat, self.batch) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
        }
        if load(words, Word::Failed) != 0 {
            return Err(io::Error::other("the program could not make a frame; please report this"));
        }
        Ok(FramesSent {
            units: load(words, Word::Units),
            frames: load(words, Word::Frames),
            late_frames: load(words, Word::LateFrames),
            max_late_ns: load(words, Word::MaxLate),
            elapsed_ns: load(words, Word::Last).saturating_sub(start),
            stolen_ns: load(words, Word::Stolen),
        })
    }
}

/// Switches generic receive offload of an interface on or off, as `ethtool -K NAME gro on` would. A veth's other end takes
/// frames from XDP programs while it is on. Needs CAP_NET_ADMIN.
///
/// # Errors
///
/// The operating system's.
pub fn receive_offload(interface: &str, on: bool) -> io::Result<()> {
    /// ETHTOOL_SGRO and its struct.
    const SET_GRO: u32 = 0x2c;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command: SET_GRO, data: on.into() };
    // SAFETY: SIOCETHTOOL takes the structure that its first word names.
    unsafe { on_interface(interface, SIOCETHTOOL, &mut value) }
}
