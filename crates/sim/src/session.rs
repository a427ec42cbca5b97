//! A session's shape: MoldUDP64 packets on one line or two.
//!
//! "MoldUDP64 Protocol Specification", Nasdaq, version 1.00: messages are numbered from 1; an idle server says once a
//! second which number comes next; after the last message the end of the session takes the heartbeats' place for a
//! while. Both lines carry the same messages under the same numbers, and may cut their packets differently.

use std::fmt;

use barewire_wire::frame::MAX_PAYLOAD_LEN;
use barewire_wire::moldudp64::{BLOCK_HEADER_LEN, HEADER_LEN, MAX_COUNT, Session};

use crate::MAX_MESSAGE_LEN;

/// The least payload: a packet of one message of any type.
pub const MIN_PAYLOAD: usize = HEADER_LEN + BLOCK_HEADER_LEN + MAX_MESSAGE_LEN;

/// How a session's messages become packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The session's name.
    pub session: Session,
    /// Whether there is a B line.
    pub b_line: bool,
    /// Most bytes of a packet's payload, [`MIN_PAYLOAD`] to 65,507.
    pub max_payload: usize,
    /// Messages a packet, 1 to 65,534: the packet leaves when so many are due, or when its payload is full, that is when the
    /// longest message would not fit any more. `None` sends
    /// whatever is due, which is one message a packet at low rates and full packets where sending falls behind.
    pub messages_per_packet: Option<u16>,
    /// Whether the B line's packets are cut elsewhere than the A line's. Each then holds back a part of its messages
    /// until the next one, or until nothing else is due.
    pub different_cuts: bool,
    /// How much later than the A line the B line is sent, ns.
    pub b_delay_ns: u64,
    /// A heartbeat after so long without a packet, ns. Where time is simulated, a gap has three at most.
    pub heartbeat_ns: u64,
    /// How many packets end the session on each line, and how far they are apart, ns. At least 1.
    pub end_packets: u32,
    /// How far these are apart, ns.
    pub end_interval_ns: u64,
}

impl Default for SessionConfig {
    fn default() -> SessionConfig {
        SessionConfig {
            session: Session(*b"SIM0000001"),
            b_line: true,
            max_payload: 1_400,
            messages_per_packet: None,
            different_cuts: false,
            b_delay_ns: 0,
            heartbeat_ns: 1_000_000_000,
            end_packets: 3,
            end_interval_ns: 50_000_000,
        }
    }
}

/// Why a session cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// `max_payload` is out of its range.
    MaxPayload,
    /// `messages_per_packet` is out of its range.
    MessagesPerPacket,
    /// `heartbeat_ns` is 0.
    Heartbeat,
    /// `end_packets` is 0.
    EndPackets,
}

impl SessionError {
    /// The key that is wrong.
    pub const fn name(self) -> &'static str {
        match self {
            SessionError::MaxPayload => "max_payload",
            SessionError::MessagesPerPacket => "messages_per_packet",
            SessionError::Heartbeat => "heartbeat_ns",
            SessionError::EndPackets => "end_packets",
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::MaxPayload => write!(f, "max_payload must be {MIN_PAYLOAD} to {MAX_PAYLOAD_LEN} bytes"),
            SessionError::MessagesPerPacket => write!(f, "messages_per_packet must be 1 to {MAX_COUNT}"),
            SessionError::Heartbeat => f.write_str("heartbeat_ns must be at least 1"),
            SessionError::EndPackets => f.write_str("end_packets must be at least 1"),
        }
    }
}

impl std::error::Error for SessionError {}

impl SessionConfig {
    /// Whether every value is within its range.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn validate(&self) -> Result<(), SessionError> {
        if !(MIN_PAYLOAD..=MAX_PAYLOAD_LEN).contains(&self.max_payload) {
            return Err(SessionError::MaxPayload);
        }
        if self.messages_per_packet.is_some_and(|count| !(1..=MAX_COUNT).contains(&count)) {
            return Err(SessionError::MessagesPerPacket);
        }
        if self.heartbeat_ns == 0 {
            return Err(SessionError::Heartbeat);
        }
        if self.end_packets == 0 {
            return Err(SessionError::EndPackets);
        }
        Ok(())
    }
}
