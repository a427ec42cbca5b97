//! Receiving through io_uring: one request a line that goes on delivering (multishot `recvmsg`), into buffers that the
//! kernel picks from a ring and the feed gives back. Works without privilege where the kernel allows io_uring; needs Linux
//! 6.1.
//!
//! The sockets are those of the [kernel path](crate::kernel), and so are times, drop counts and what reaches a line. A busy
//! receiver looks at memory only, and enters the kernel when a flag there says that packets wait. With
//! [`SqPoll`] a thread of the kernel's does even that, on a core of its own. A blocking one enters the kernel to wait, and
//! packets, wakes and timeout all end that one call.
//!
//! A request ends when there is no buffer left, and whenever the kernel sees fit. Neither is an error: it is armed anew
//! and counted, and what came meanwhile waits in the socket's buffer.
//!
//! Without [`SqPoll`] the ring belongs to the thread that first receives: from any other, `receive` fails. Dropped by
//! another thread, its sockets and memory are freed a moment later, but some addresses stay reserved.

mod buffers;
mod control;
mod open;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use ::io_uring::types::{CancelBuilder, Fd, RecvMsgOut, SubmitArgs, Timespec};
use ::io_uring::{IoUring, cqueue, opcode, squeue};
use barewire_types::{TsSource, UnixNanos};

use crate::Waker;
use crate::kernel::{Line, LineReport, Mode};
use crate::nic::{Clocks, Nics, Stamps, UserClock, UserTimes, settle};
use crate::packet::{Packet, Receiver, ReceiverCounters, counters};
use buffers::Buffers;
use control::Control;

/// A thread of the kernel's that does the receiving (`IORING_SETUP_SQPOLL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqPoll {
    /// Milliseconds without anything to do after which it sleeps.
    pub idle_ms: u32,
    /// The core that it runs on; `None` for any.
    pub cpu: Option<u32>,
}

/// How to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoUringOptions {
    /// How to wait.
    pub mode: Mode,
    /// Kernel receive buffer to ask for, bytes a line; `None` leaves the system's default.
    pub rcvbuf_bytes: Option<usize>,
    /// Which clock is to say when packets arrive.
    pub timestamps: Stamps,
    /// Most packets that one call takes: 1 to 1,024.
    pub batch: usize,
    /// Buffers that the lines share, rounded up to a power of two: 1 to 32,768. They are used in turn, so few stay in
    /// the cache; packets for which there is none wait in their socket's buffer.
    pub buffers: usize,
    /// Longest payload to take whole: 1 to 65,535 bytes. Memory is used for what comes, not for what could.
    pub max_datagram: usize,
    /// Whether a thread of the kernel's does the receiving.
    pub sqpoll: Option<SqPoll>,
}

impl Default for IoUringOptions {
    fn default() -> Self {
        IoUringOptions {
            mode: Mode::Busy,
            rcvbuf_bytes: Some(16 << 20),
            timestamps: Stamps::Auto,
            batch: 64,
            buffers: 128,
            max_datagram: usize::from(u16::MAX),
            sqpoll: None,
        }
    }
}

counters! {
    /// What this path has counted beside what all paths count.
    IoUringCounters {
        /// Times that no buffer was left for a packet; it waits in its socket's.
        buffers_exhausted,
        /// Requests that ended, for this or any other reason, and were armed anew.
        rearmed,
        /// System calls that submitted, waited, or let the kernel do what was pending.
        enters,
    }
}

const BUFFER_GROUP: u16 = 0;
/// What completions carry: a line's index, or one of these.
const POLL: u64 = 1 << 32;
const CANCEL: u64 = 1 << 33;
/// How long a receiver that is dropped waits for its requests to end.
const STOPPING: Duration = Duration::from_secs(1);

/// The header that says how much room each buffer has for address and control messages.
#[derive(Debug)]
struct Header(Box<libc::msghdr>);

// SAFETY: its pointers are null.
unsafe impl Send for Header {}

impl Header {
    fn new(control_len: usize) -> Header {
        // SAFETY: an msghdr is integers and pointers, for which zero is a value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_controllen = control_len as _;
        Header(Box::new(header))
    }
}

/// A descriptor whose readiness ends a wait: the waker's, or one that is watched.
#[derive(Debug)]
struct Poll {
    fd: RawFd,
    armed: bool,
    /// It was closed by its owner.
    dead: bool,
}

impl Poll {
    fn new(fd: RawFd) -> Poll {
        Poll { fd, armed: false, dead: false }
    }
}

/// Receives lines through io_uring.
pub struct IoUringReceiver {
    /// Dropped before what its requests refer to.
    ring: IoUring,
    lines: Vec<Line>,
    /// Which lines have a request in the kernel, and how many have none.
    armed: Box<[bool]>,
    to_arm: usize,
    /// The waker's first; empty where it never waits.
    polls: Vec<Poll>,
    header: Header,
    buffers: Buffers,
    mode: Mode,
    /// Whether the ring has been handed to a thread.
    started: bool,
    /// Whose it is. A process forked from it has a copy, and shares the ring.
    owner: u32,
    /// Requests that have not reported their end.
    in_flight: usize,
    timeout: Option<Duration>,
    waker: Waker,
    batch: usize,
    timestamps: bool,
    nics: Nics,
    clock: UserClock,
    clocks: Clocks,
    counters: ReceiverCounters,
    own: IoUringCounters,
    reports: Vec<LineReport>,
}

impl std::fmt::Debug for IoUringReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IoUringReceiver")
            .field("lines", &self.lines)
            .field("buffers", &self.buffers)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl IoUringReceiver {
    /// What each line asked for and got, in the order of the lines.
    pub fn reports(&self) -> &[LineReport] {
        &self.reports
    }

    /// By what the receiving thread takes times itself.
    pub fn user_times(&self) -> UserTimes {
        self.clock.times()
    }

    /// What only this path counts.
    pub fn io_uring_counters(&self) -> IoUringCounters {
        self.own
    }

    /// Hands the ring to this thread.
    #[cold]
    fn start(&mut self) -> io::Result<()> {
        if !self.ring.params().is_setup_sqpoll() {
            self.ring.submitter().register_enable_rings()?;
        }
        self.started = true;
        Ok(())
    }

    /// Queues a request; submits those before it if there is no room.
    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what an entry refers to, the header and the descriptors, lives as long as its request: the sockets
            // and the waker are closed, and the header freed, only after the ring.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                self.in_flight += 1;
                return Ok(());
            }
            self.enter(0, None)?;
        }
    }

    /// Queues a request for every line that has none.
    #[cold]
    fn arm(&mut self) -> io::Result<()> {
        for index in 0..self.lines.len() {
            let (Some(line), Some(false)) = (self.lines.get(index), self.armed.get(index)) else { continue };
            let fd = Fd(line.socket.fd());
            let entry = opcode::RecvMsgMulti::new(fd, &raw const *self.header.0, BUFFER_GROUP).build();
            self.push(&entry.user_data(index as u64))?;
            if let Some(armed) = self.armed.get_mut(index) {
                *armed = true;
            }
            self.to_arm -= 1;
        }
        self.enter(0, None)
    }

    /// Queues a request for every descriptor that is to end a wait and has none.
    fn arm_polls(&mut self) -> io::Result<()> {
        for index in 0..self.polls.len() {
            let Some(&Poll { fd, armed: false, dead: false }) = self.polls.get(index) else { continue };
            let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).build();
            self.push(&entry.user_data(POLL + index as u64))?;
            if let Some(poll) = self.polls.get_mut(index) {
                poll.armed = true;
            }
        }
        Ok(())
    }

    /// Submits what is queued, lets the kernel do what is pending, and waits until so many completions are there.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        self.own.enters += 1;
        let timeout = timeout.map(|timeout| Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos()));
        let mut args = SubmitArgs::new();
        if let Some(timeout) = &timeout {
            args = args.timespec(timeout);
        }
        match self.ring.submitter().submit_with_args(want, &args) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The timeout, a signal, and completions that have to be taken first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                Some(libc::EEXIST) => Err(io::Error::other(
                    "io_uring: receive was called by another thread than the first time: let one thread receive, or ask \
                     for SQPOLL",
                )),
                _ => Err(error),
            },
        }
    }

    /// Takes one batch of completions; returns how many there were and how many packets they held for the sink.
    #[inline]
    fn reap(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<(usize, usize)> {
        let (mut taken, mut packets, mut delivered) = (0, 0, 0);
        let mut user_time = UnixNanos::ABSENT;
        while taken < self.batch {
            // One at a time: what the sink takes long for does not hold up the kernel.
            let Some(completion) = self.ring.completion().next() else { break };
            taken += 1;
            let index = completion.user_data();
            let ended = !cqueue::more(completion.flags());
            self.in_flight -= usize::from(ended && index != CANCEL);
            if index >= POLL {
                self.take_poll(index, completion.result());
                continue;
            }
            let index = index as usize;
            let Some(line) = self.lines.get_mut(index) else { continue };
            if ended && let Some(armed) = self.armed.get_mut(index) {
                *armed = false;
                self.to_arm += 1;
                self.own.rearmed += 1;
            }
            let Ok(len) = usize::try_from(completion.result()) else {
                match -completion.result() {
                    libc::ENOBUFS => self.own.buffers_exhausted += 1,
                    libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                    code => return Err(io::Error::from_raw_os_error(code)),
                }
                continue;
            };
            let Some(id) = cqueue::buffer_select(completion.flags()) else { continue };
            packets += 1;
            let counters = &mut self.counters;
            // SAFETY: the completion says that the kernel has handed this buffer over, once; it is given back below.
            let bytes = unsafe { self.buffers.written(id, len) };
            match RecvMsgOut::parse(bytes, &self.header.0) {
                Err(()) => counters.malformed += 1,
                Ok(message) => {
                    let control = Control::parse(message.control_data());
                    if let Some(drops) = control.drops {
                        counters.kernel_drops += line.new_drops(drops);
                    }
                    let src = sender(message.name_data());
                    if message.is_payload_truncated() {
                        counters.truncated += 1;
                    } else if !line.senders.include(*src.ip()) {
                        counters.wrong_source += 1;
                    } else {
                        let (seen, source) = match control.time {
                            Some(time) => (time, TsSource::Kernel),
                            None => {
                                counters.without_kernel_time += u64::from(self.timestamps);
                                // One reading serves the batch, as with sockets.
                                if user_time == UnixNanos::ABSENT {
                                    user_time = self.clock.now();
                                }
                                (user_time, TsSource::User)
                            }
                        };
                        let fit = self.nics.fit(line.nic);
                        let (ts_recv, ts_source, verdict) = settle(fit.as_ref(), control.hardware, seen, source);
                        verdict.count(1, counters);
                        let degraded = verdict.is_degraded();
                        let payload = message.payload_data();
                        counters.packets += 1;
                        counters.bytes += payload.len() as u64;
                        delivered += 1;
                        sink(Packet { line: line.number, payload, ts_recv, ts_source, seen, degraded, src });
                    }
                }
            }
            self.buffers.give_back(id);
        }
        self.counters.batches += u64::from(packets > 0);
        Ok((taken, delivered))
    }

    /// Takes note of a descriptor that is ready.
    #[cold]
    fn take_poll(&mut self, index: u64, result: i32) {
        let Some(poll) = self.polls.get_mut((index - POLL) as usize) else { return };
        poll.armed = false;
        // A descriptor that was closed would end every wait at once.
        poll.dead = result < 0 && result != -libc::ECANCELED;
        if index == POLL {
            self.waker.clear();
        }
    }

    /// Ends every request, and says whether all were seen to end.
    fn stop(&mut self) -> bool {
        let begun = Instant::now();
        while self.started && self.in_flight > 0 {
            let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(CANCEL);
            // SAFETY: it refers to nothing. Without room for it, the one before is still to come.
            let _ = unsafe { self.ring.submission().push(&cancel) };
            if self.enter(1, Some(Duration::from_millis(10))).is_err() || begun.elapsed() > STOPPING {
                return false;
            }
            while let Some(completion) = self.ring.completion().next() {
                let ended = !cqueue::more(completion.flags()) && completion.user_data() != CANCEL;
                self.in_flight -= usize::from(ended);
            }
        }
        true
    }
}

/// The address that the kernel wrote; a sockaddr_in.
#[inline]
fn sender(name: &[u8]) -> SocketAddrV4 {
    match name {
        [_, _, high, low, a, b, c, d, ..] => {
            SocketAddrV4::new(Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes([*high, *low]))
        }
        _ => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
    }
}

impl Drop for IoUringReceiver {
    fn drop(&mut self) {
        // What is shared with the owner is not a fork's to touch, and of the buffers it has a copy.
        if self.owner == std::process::id() && !self.stop() {
            self.buffers.abandon();
        }
    }
}

impl Receiver for IoUringReceiver {
    #[inline]
    fn receive(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        if !self.started {
            self.start()?;
        }
        if self.to_arm > 0 {
            self.arm()?;
        }
        let (mut taken, mut delivered) = self.reap(sink)?;
        match self.mode {
            Mode::Busy => {
                let submission = self.ring.submission();
                if taken == 0 && (submission.taskrun() || submission.cq_overflow()) {
                    drop(submission);
                    self.enter(0, None)?;
                    (taken, delivered) = self.reap(sink)?;
                }
                self.counters.empty_polls += u64::from(taken == 0);
            }
            Mode::Blocking => {
                if taken == 0 {
                    self.arm_polls()?;
                    self.enter(1, self.timeout)?;
                    (_, delivered) = self.reap(sink)?;
                }
                self.counters.idle_waits += u64::from(delivered == 0);
            }
        }
        Ok(delivered)
    }

    fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    fn clocks(&self) -> Clocks {
        self.clocks
    }

    fn refresh(&mut self) -> io::Result<()> {
        self.clocks.refresh(&mut self.nics, &mut self.clock, &mut self.counters);
        for line in &mut self.lines {
            let drops = line.socket.kernel_drops()?;
            self.counters.kernel_drops += line.new_drops(drops);
            line.check_interface()?;
        }
        Ok(())
    }

    fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    fn watch(&mut self, fd: RawFd) {
        if self.mode == Mode::Blocking {
            self.polls.push(Poll::new(fd));
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}
