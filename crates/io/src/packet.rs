//! What a receive path is, what it hands over and what it counts.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;
use std::time::Duration;

use barewire_types::{TsSource, UnixNanos};

use crate::Waker;
use crate::nic::Clocks;
use crate::senders::Network;

/// One UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Which line it came by: [`LineConfig::line`].
    pub line: u8,
    /// The UDP payload, whole. Valid until the sink returns.
    pub payload: &'a [u8],
    /// When it arrived; [`UnixNanos::ABSENT`] where not known.
    pub ts_recv: UnixNanos,
    /// By which clock `ts_recv` was taken.
    pub ts_source: TsSource,
    /// When it arrived by the system's clock, however good: what timers compare with. A file's packets have the capture's
    /// own time.
    pub seen: UnixNanos,
    /// Whether the line's best clock failed this packet: its card did not stamp it or cannot be believed, or its switch says
    /// that its clock is not good.
    pub degraded: bool,
    /// Who sent it.
    pub src: SocketAddrV4,
}

/// One line to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineConfig {
    /// Multicast group, or an address of this machine.
    pub group: Ipv4Addr,
    /// UDP port.
    pub port: u16,
    /// Name of the interface to receive on; `None` leaves it to the routing table.
    pub interface: Option<String>,
    /// The only sender to hear, and to join (source-specific multicast); `None` joins any.
    pub source: Option<Ipv4Addr>,
    /// The senders to hear; packets from others are counted and not handed over. Empty for all.
    pub allow: Vec<Network>,
    /// Number that the line's packets carry.
    pub line: u8,
}

/// A way by which packets come in.
///
/// Packets are handed to a closure rather than returned, so that they can lie in the path's own buffers: nothing is
/// copied, and nothing allocated per packet.
pub trait Receiver {
    /// Hands what is there to `sink`, at most one batch a line, and returns how many packets that were.
    ///
    /// 0 means nothing came: a busy path returns at once, a blocking one after its timeout, a signal, a wake, or when a
    /// [watched](Self::watch) descriptor has something.
    ///
    /// # Errors
    ///
    /// The operating system's, where the path can no longer be trusted to receive. Packets that are damaged or unwanted
    /// are counted, never errors.
    fn receive(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize>;

    /// What has been counted so far. Reads memory only.
    fn counters(&self) -> ReceiverCounters;

    /// Brings up to date what only the kernel counts. A system call a line: for the statistics page, not for each batch.
    ///
    /// # Errors
    ///
    /// The operating system's, where it no longer knows the path.
    fn refresh(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// By which clocks packets are stamped, and how far these may be from the system's until the next
    /// [`refresh`](Self::refresh). Reads memory only.
    fn clocks(&self) -> Clocks {
        Clocks::SYSTEM
    }

    /// How long [`receive`](Self::receive) may wait from now on; `None` for as long as it takes. Paths that never wait
    /// ignore it.
    fn set_timeout(&mut self, timeout: Option<Duration>);

    /// Lets a wait also end when there is something to read from a descriptor, which must stay open as long as the path
    /// is used. Nothing is read from it: as long as its owner does not, no wait lasts. Paths that never wait ignore it.
    fn watch(&mut self, _fd: RawFd) {}

    /// A handle by which another thread ends a wait.
    fn waker(&self) -> Waker;

    /// Whether nothing will come any more: a file's end. Live paths have none.
    fn is_finished(&self) -> bool {
        false
    }
}

macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $( $(#[$field_meta:meta])* $field:ident ),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $( $(#[$field_meta])* pub $field: u64 ),+ }

        impl $name {
            /// Every counter's name, in the order of [`values`](Self::values). Names never change.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];

            /// Every counter's value, in the order of [`NAMES`](Self::NAMES).
            pub fn values(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$field),+]
            }
        }
    };
}
pub(crate) use counters;

counters! {
    /// What a receive path has counted.
    ///
    /// Every packet that reaches the path ends in exactly one of `packets`, `kernel_drops`, `truncated`,
    /// `wrong_source`, `other_destination`, `not_udp`, `fragments` and `malformed`. The rest describe the path's work.
    ReceiverCounters {
        /// Packets handed to the sink.
        packets,
        /// Packets that the kernel dropped since the socket's buffer was full. As of the last packet received, or of
        /// [`Receiver::refresh`].
        kernel_drops,
        /// Packets longer than the buffer, or cut short by the capture; not handed over.
        truncated,
        /// Packets from another sender than [`LineConfig::source`] and those in [`LineConfig::allow`].
        wrong_source,
        /// Packets of a capture whose destination is no line's.
        other_destination,
        /// Frames of a capture that hold no UDP over IPv4.
        not_udp,
        /// Fragments of UDP packets; they are not put together.
        fragments,
        /// Frames of a capture whose headers contradict themselves.
        malformed,
        /// Payload bytes of `packets`.
        bytes,
        /// Those of `packets` that came without a time of the kernel's although it was asked for.
        without_kernel_time,
        /// Those of `packets` whose time a capture switch's trailer said.
        switch_times,
        /// Those of `packets` without a trailer although its time was asked for; they have the next best.
        switch_times_missing,
        /// Those of `packets` with something in a trailer's place that cannot be one; likewise.
        switch_times_implausible,
        /// Those of `switch_times` of which the switch said that its clock was not good.
        switch_times_degraded,
        /// Those of `packets` with the card's own time. Each packet of a line with hardware times ends in this or one of the
        /// next three.
        hardware_times,
        /// Those of `packets` that the card had not stamped.
        hardware_times_missing,
        /// Those of `packets` whose stamp was further than [`SANE_NS`](crate::SANE_NS) from the system's clock: another
        /// clock's.
        hardware_times_implausible,
        /// Those of `packets` whose stamp could not be told as a time of day to within
        /// [`MAX_BOUND_NS`](crate::MAX_BOUND_NS): the card's clock was not compared with the system's for too long.
        hardware_times_uncertain,
        /// Comparisons of a card's clock with the system's.
        clock_comparisons,
        /// Comparisons that failed.
        clock_comparison_errors,
        /// Comparisons that found a clock stepped. Times between the step and the comparison are off by it.
        clock_steps,
        /// Batches that held at least one packet.
        batches,
        /// Looks at a socket that found nothing.
        empty_polls,
        /// Waits that ended without a packet: by timeout, signal or wake, or for a watched descriptor.
        idle_waits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statistics page pairs names with values by position.
    #[test]
    fn names_and_values_are_in_the_same_order() {
        let counters = ReceiverCounters { kernel_drops: 7, idle_waits: 9, ..Default::default() };
        let values = counters.values();
        let at = |name| values[ReceiverCounters::NAMES.iter().position(|n| *n == name).unwrap()];
        assert_eq!((at("kernel_drops"), at("idle_waits"), at("packets")), (7, 9, 0));
    }
}
