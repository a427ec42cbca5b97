//! Receiving through the kernel's UDP sockets: works everywhere, without privilege.
//!
//! Each line has a socket of its own, bound to the group itself: the kernel then delivers that group's packets and no
//! other's on the same port, and with `IP_MULTICAST_ALL` off only those of the socket's own membership, which holds two
//! lines with the same group on two interfaces apart. Packets come in batches (`recvmmsg`) with the kernel's software
//! receive time (`SO_TIMESTAMPING`) and its count of drops (`SO_RXQ_OVFL`) beside each; nothing is allocated and no
//! other system call made for a packet.
//!
//! Where the card stamps packets itself, those times can be had instead ([`Stamps`], [`Hardware`]).
//!
//! A busy receiver asks each socket in turn and returns. A blocking one first waits for any of them (`ppoll`).

mod batch;
mod open;

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::RawFd;
use std::time::Duration;

use barewire_types::{TsSource, UnixNanos};

use crate::Waker;
use crate::clock::correlation::Fit;
use crate::interfaces::Presence;
use crate::nic::{Clocks, Hardware, Nics, Stamps, UserClock, UserTimes, settle};
use crate::packet::{Packet, Receiver, ReceiverCounters};
use crate::senders::Senders;
use crate::socket::Socket;
use crate::waits::Waits;
pub(crate) use batch::Batch;
pub(crate) use open::{ask_for_times, bind, bind_to_device, check_line, clocks, join, open_line};

/// How to wait for packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Never: ask, and return.
    #[default]
    Busy,
    /// Sleep until there is something.
    Blocking,
}

/// How to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelOptions {
    /// How to wait.
    pub mode: Mode,
    /// Kernel receive buffer to ask for, bytes a line; `None` leaves the system's default. What was got is in
    /// [`LineReport::rcvbuf_bytes`].
    pub rcvbuf_bytes: Option<usize>,
    /// Which clock is to say when packets arrive.
    pub timestamps: Stamps,
    /// Most packets of one line that one call takes: 1 to 1,024.
    pub batch: usize,
    /// Microseconds for which the kernel may poll the card itself when nothing is there (`SO_BUSY_POLL`).
    pub busy_poll_us: Option<u32>,
    /// Longest payload to take whole: 1 to 65,535 bytes. Memory is used for what comes, not for what could.
    pub max_datagram: usize,
}

impl Default for KernelOptions {
    fn default() -> Self {
        KernelOptions {
            mode: Mode::Busy,
            rcvbuf_bytes: Some(16 << 20),
            timestamps: Stamps::Auto,
            batch: 64,
            busy_poll_us: None,
            max_datagram: usize::from(u16::MAX),
        }
    }
}

/// Where the receive times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// `SO_TIMESTAMPING`, software.
    Timestamping,
    /// `SO_TIMESTAMPNS`, on kernels that refuse the former.
    TimestampNs,
    /// Taken by the feed's thread, once a batch.
    User,
}

/// What a line asked for and what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineReport {
    /// Which line.
    pub line: u8,
    /// Kernel receive buffer asked for, bytes.
    pub rcvbuf_asked_bytes: Option<usize>,
    /// Kernel receive buffer got, bytes of what can be asked for (the kernel holds twice as much). Less than asked for:
    /// raise `net.core.rmem_max`, or give the process CAP_NET_ADMIN.
    pub rcvbuf_bytes: usize,
    /// Where its receive times come from, packets with hardware times aside.
    pub timestamps: Timestamps,
    /// Whether its packets carry hardware times, as of the opening.
    pub hardware: Hardware,
}

/// One line's socket and what the kernel last said of it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) socket: Socket,
    pub(crate) number: u8,
    pub(crate) senders: Senders,
    /// Of the interface, where one was named.
    pub(crate) presence: Option<Presence>,
    /// The kernel's count of drops as last seen; it wraps.
    drops_seen: u32,
    /// Which of the cards' clocks its stamps are by, where it has any.
    pub(crate) nic: Option<usize>,
}

impl Line {
    /// Fails once the line's interface is gone, where one was named.
    pub(crate) fn check_interface(&self) -> io::Result<()> {
        self.presence.as_ref().map_or(Ok(()), |presence| presence.check(self.socket.fd()))
    }

    /// How many drops a count of the kernel's adds to what is known.
    ///
    /// A packet carries the count as it was when it was queued, so after [`Receiver::refresh`] older ones come; and the
    /// count wraps.
    #[inline]
    pub(crate) fn new_drops(&mut self, drops: u32) -> u64 {
        let new = drops.wrapping_sub(self.drops_seen);
        if new >= 1 << 31 {
            return 0;
        }
        self.drops_seen = drops;
        u64::from(new)
    }
}

/// Receives lines through the kernel's UDP sockets.
#[derive(Debug)]
pub struct KernelReceiver {
    lines: Vec<Line>,
    batch: Batch,
    waits: Waits,
    timestamps: bool,
    nics: Nics,
    clock: UserClock,
    clocks: Clocks,
    counters: ReceiverCounters,
    reports: Vec<LineReport>,
}

/// By which clock lines are stamped, going by what they got: the least good one.
pub(crate) fn source_of(reports: &[LineReport]) -> TsSource {
    let of = |report: &LineReport| match (report.hardware, report.timestamps) {
        (Hardware::On { .. }, _) => TsSource::Nic,
        (_, Timestamps::User) => TsSource::User,
        _ => TsSource::Kernel,
    };
    reports.iter().map(of).max_by_key(|source| *source as u8).unwrap_or(TsSource::None)
}

impl KernelReceiver {
    /// What each line asked for and got, in the order of the lines.
    pub fn reports(&self) -> &[LineReport] {
        &self.reports
    }

    /// How the hardware times of the line with this place in the list become times of day, and how far off they may be.
    pub fn hardware_fit(&self, index: usize) -> Option<Fit> {
        self.nics.fit(self.lines.get(index)?.nic)
    }

    /// By what the receiving thread takes times itself.
    pub fn user_times(&self) -> UserTimes {
        self.clock.times()
    }

    /// Takes one batch of one line.
    #[inline]
    fn drain(&mut self, index: usize, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let Some(line) = self.lines.get_mut(index) else { return Ok(0) };
        let received = match self.batch.receive(line.socket.fd()) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.counters.empty_polls += 1;
                return Ok(0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(error),
        };
        let counters = &mut self.counters;
        counters.batches += 1;
        let mut delivered = 0;
        let mut user_time = UnixNanos::ABSENT;
        let fit = self.nics.fit(line.nic);
        for message in self.batch.messages(received) {
            if let Some(drops) = message.drops {
                counters.kernel_drops += line.new_drops(drops);
            }
            let Some(payload) = message.payload else {
                counters.truncated += 1;
                continue;
            };
            if !line.senders.include(*message.src.ip()) {
                counters.wrong_source += 1;
                continue;
            }
            let (seen, source) = match message.time {
                Some(time) => (time, TsSource::Kernel),
                None => {
                    counters.without_kernel_time += u64::from(self.timestamps);
                    // One reading serves the batch: the kernel handed it over at once.
                    if user_time == UnixNanos::ABSENT {
                        user_time = self.clock.now();
                    }
                    (user_time, TsSource::User)
                }
            };
            let (ts_recv, ts_source, verdict) = settle(fit.as_ref(), message.hardware, seen, source);
            verdict.count(1, counters);
            let degraded = verdict.is_degraded();
            counters.packets += 1;
            counters.bytes += payload.len() as u64;
            delivered += 1;
            sink(Packet { line: line.number, payload, ts_recv, ts_source, seen, degraded, src: message.src });
        }
        Ok(delivered)
    }
}

impl Receiver for KernelReceiver {
    #[inline]
    fn receive(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let mut delivered = 0;
        if !self.waits.blocks() {
            for index in 0..self.lines.len() {
                delivered += self.drain(index, sink)?;
            }
            return Ok(delivered);
        }
        if self.waits.wait()? {
            for index in 0..self.lines.len() {
                if self.waits.found(index) != 0 {
                    delivered += self.drain(index, sink)?;
                }
            }
        }
        self.counters.idle_waits += u64::from(delivered == 0);
        Ok(delivered)
    }

    fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    fn clocks(&self) -> Clocks {
        self.clocks
    }

    fn refresh(&mut self) -> io::Result<()> {
        for line in &mut self.lines {
            let drops = line.socket.kernel_drops()?;
            self.counters.kernel_drops += line.new_drops(drops);
            line.check_interface()?;
        }
        self.clocks.refresh(&mut self.nics, &mut self.clock, &mut self.counters);
        Ok(())
    }

    fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.waits.set_timeout(timeout);
    }

    fn watch(&mut self, fd: RawFd) {
        self.waits.watch(fd);
    }

    fn waker(&self) -> Waker {
        self.waits.waker()
    }
}

/// The address that a socket of this line binds to.
fn address(config: &crate::LineConfig) -> SocketAddrV4 {
    SocketAddrV4::new(config.group, config.port)
}
