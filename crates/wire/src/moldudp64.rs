//! MoldUDP64: sequenced messages in UDP datagrams, and the request for lost ones.
//!
//! # Specification
//!
//! "MoldUDP64 Protocol Specification", Nasdaq, version 1.00. Downstream packets: a header of session, sequence number
//! and message count, then the message blocks, each a 2-byte length and so many bytes. All integers are big-endian.
//!
//! - Every message consumes one sequence number, empty ones too; the header's is the first message's.
//! - Count 0 is a heartbeat, 0xFFFF the end of the session: no blocks, and the sequence number of the *next* message.
//! - A request packet has the header's shape. Only the socket tells which of the two has come.
//!
//! # Contract
//!
//! [`Packet::parse`] checks that the header is whole and that the numbers of the declared messages do not pass 2^64,
//! and walks the blocks once. Only whole blocks count: a packet that was cut off, or that declares more or less than
//! it holds, yields what is whole and says so ([`Packet::is_damaged`]). [`Packet::messages`] then yields exactly
//! [`Packet::whole`] messages and cannot fail.

use core::ascii::escape_default;
use core::fmt;

use barewire_types::{Layout, Seq, layout};
use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, Unaligned};

use crate::{ProtocolSpec, Structure};

/// Length of a packet's header, and of a request, in bytes.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Length of a block's header in bytes.
pub const BLOCK_HEADER_LEN: usize = size_of::<BlockHeader>();

/// The most messages that a packet can hold: the next count ends the session.
pub const MAX_COUNT: u16 = END_OF_SESSION - 1;

/// The count that ends the session.
const END_OF_SESSION: u16 = 0xffff;

/// The protocol's tables.
pub const SPEC: ProtocolSpec = ProtocolSpec {
    name: "moldudp64-1.00",
    title: "MoldUDP64 Protocol Specification",
    source: "Nasdaq, version 1.00",
    structures: &[
        Structure { name: Header::NAME, len: Header::LEN, fields: Header::FIELDS },
        Structure { name: BlockHeader::NAME, len: BlockHeader::LEN, fields: BlockHeader::FIELDS },
        Structure { name: RequestHeader::NAME, len: RequestHeader::LEN, fields: RequestHeader::FIELDS },
    ],
    messages: &[],
    codes: &[],
};

layout! {
    /// Header of a downstream packet.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct Header: "packet_header" {
        /// The session; another one begins again at sequence number 1.
        session: [u8; 10],
        /// Number of the first message; of the next one to come where there is none.
        sequence_number: U64,
        /// Number of blocks; 0 heartbeat, 65535 end of session.
        message_count: U16,
    }

    /// What stands before each message of a packet.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct BlockHeader: "message_block_header" {
        /// Length of the message, without these two bytes; 0 is legal.
        message_length: U16 ["bytes"],
    }

    /// A request for messages.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct RequestHeader: "request_packet" {
        /// The session.
        session: [u8; 10],
        /// Number of the first message wanted.
        sequence_number: U64,
        /// How many messages are wanted.
        requested_message_count: U16,
    }
}

/// The name of a session.
///
/// Displays as text: spaces at both ends cut off, bytes that are not printable ASCII escaped (`\x00`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session(pub [u8; 10]);

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_space = |byte: &u8| *byte == b' ';
        let begin = self.0.iter().take_while(|byte| is_space(byte)).count();
        let end = self.0.len() - self.0.iter().rev().take_while(|byte| is_space(byte)).count();
        let text = self.0.get(begin..end).unwrap_or_default();
        text.iter().flat_map(|byte| escape_default(*byte)).try_for_each(|byte| write!(f, "{}", char::from(byte)))
    }
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// It carries messages.
    Messages,
    /// It only says which sequence number comes next.
    Heartbeat,
    /// The session is over; its last messages may still be asked for while such packets come.
    EndOfSession,
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MoldError {
    /// Fewer bytes than a header has.
    Truncated,
    /// The declared messages' sequence numbers pass 2^64.
    SequenceOverflow,
    /// A request with more bytes than a request has.
    Oversized,
}

impl MoldError {
    /// Every error, in order of declaration.
    pub const ALL: &[MoldError] = &[MoldError::Truncated, MoldError::SequenceOverflow, MoldError::Oversized];

    /// The name that counters have.
    pub const fn name(self) -> &'static str {
        match self {
            MoldError::Truncated => "truncated",
            MoldError::SequenceOverflow => "sequence_overflow",
            MoldError::Oversized => "oversized",
        }
    }
}

impl fmt::Display for MoldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for MoldError {}

/// A downstream packet whose blocks have been walked.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    session: Session,
    sequence: Seq,
    declared: u16,
    whole: u16,
    /// The whole blocks, and nothing else.
    blocks: &'a [u8],
    /// What stands behind them.
    trailing: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a UDP payload apart.
    ///
    /// # Errors
    ///
    /// [`MoldError::Truncated`] below 20 bytes; [`MoldError::SequenceOverflow`].
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Packet<'a>, MoldError> {
        let (header, body) = Header::ref_from_prefix(payload).map_err(|_| MoldError::Truncated)?;
        let sequence = header.sequence_number.get();
        let declared = header.message_count.get();
        let expected = if declared == END_OF_SESSION { 0 } else { declared };
        if sequence.checked_add(u64::from(expected)).is_none() {
            return Err(MoldError::SequenceOverflow);
        }
        let mut rest = body;
        let mut whole = 0;
        while whole < expected {
            let Some((_, behind)) = block(rest) else { break };
            rest = behind;
            whole += 1;
        }
        let (blocks, trailing) = body.split_at_checked(body.len() - rest.len()).unwrap_or((body, &[]));
        Ok(Packet { session: Session(header.session), sequence: Seq(sequence), declared, whole, blocks, trailing })
    }

    /// The session.
    #[inline]
    pub fn session(&self) -> Session {
        self.session
    }

    /// Number of the first message; of the next one to come where the packet holds none.
    #[inline]
    pub fn sequence(&self) -> Seq {
        self.sequence
    }

    /// Number of the message after the last whole one. Never overflows.
    #[inline]
    pub fn next_sequence(&self) -> Seq {
        Seq(self.sequence.0.saturating_add(u64::from(self.whole)))
    }

    /// What the packet is for.
    #[inline]
    pub fn kind(&self) -> PacketKind {
        match self.declared {
            0 => PacketKind::Heartbeat,
            END_OF_SESSION => PacketKind::EndOfSession,
            _ => PacketKind::Messages,
        }
    }

    /// The header's message count as it stands there.
    #[inline]
    pub fn declared(&self) -> u16 {
        self.declared
    }

    /// How many whole messages there are; never more than [`declared`](Packet::declared).
    #[inline]
    pub fn whole(&self) -> u16 {
        self.whole
    }

    /// What stands behind the last whole block: part of a block, or bytes that nothing declares.
    #[inline]
    pub fn trailing(&self) -> &'a [u8] {
        self.trailing
    }

    /// Whether fewer messages are whole than declared, or bytes are left over.
    #[inline]
    pub fn is_damaged(&self) -> bool {
        !self.trailing.is_empty() || (self.kind() == PacketKind::Messages && self.whole != self.declared)
    }

    /// The whole messages, in order of their sequence numbers.
    #[inline]
    pub fn messages(&self) -> Messages<'a> {
        Messages { blocks: self.blocks, left: self.whole }
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session={} sequence={} ", self.session, self.sequence.0)?;
        match self.kind() {
            PacketKind::Messages => write!(f, "messages={}", self.whole)?,
            PacketKind::Heartbeat => f.write_str("heartbeat")?,
            PacketKind::EndOfSession => f.write_str("end_of_session")?,
        }
        if self.is_damaged() {
            write!(f, " damaged declared={} trailing_bytes={}", self.declared, self.trailing.len())?;
        }
        Ok(())
    }
}

/// Takes one whole block from the front of `bytes`.
#[inline(always)]
fn block(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

/// Iterates over a packet's whole messages; see [`Packet::messages`].
#[derive(Clone, Debug, Default)]
pub struct Messages<'a> {
    blocks: &'a [u8],
    left: u16,
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (message, rest) = block(self.blocks)?;
        self.blocks = rest;
        self.left = self.left.saturating_sub(1);
        Some(message)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Messages<'_> {}

impl core::iter::FusedIterator for Messages<'_> {}

/// A request for messages that were lost; the server answers with downstream packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The session.
    pub session: Session,
    /// The first message wanted.
    pub sequence: Seq,
    /// How many are wanted; the server sends what fits into one packet.
    pub count: u16,
}

impl Request {
    /// The packet.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        zerocopy::transmute!(RequestHeader {
            session: self.session.0,
            sequence_number: U64::new(self.sequence.0),
            requested_message_count: U16::new(self.count),
        })
    }

    /// Reads a request packet.
    ///
    /// # Errors
    ///
    /// [`MoldError::Truncated`] or [`MoldError::Oversized`] for any but 20 bytes; [`MoldError::SequenceOverflow`].
    pub fn parse(payload: &[u8]) -> Result<Request, MoldError> {
        let (header, rest) = RequestHeader::ref_from_prefix(payload).map_err(|_| MoldError::Truncated)?;
        if !rest.is_empty() {
            return Err(MoldError::Oversized);
        }
        let sequence = header.sequence_number.get();
        let count = header.requested_message_count.get();
        if sequence.checked_add(u64::from(count)).is_none() {
            return Err(MoldError::SequenceOverflow);
        }
        Ok(Request { session: Session(header.session), sequence: Seq(sequence), count })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request session={} sequence={} count={}", self.session, self.sequence.0, self.count)
    }
}

/// Writes a packet into a buffer, message by message, each in place.
///
/// ```
/// use barewire_types::Seq;
/// use barewire_wire::moldudp64::{Builder, Packet, Session};
///
/// let mut buffer = [0; 1472];
/// let mut builder = Builder::new(&mut buffer, Session(*b"000010059B"), Seq(7));
/// builder.push(5).unwrap().copy_from_slice(b"hello");
/// builder.push(0).unwrap();
/// let len = builder.finish();
///
/// let packet = Packet::parse(&buffer[..len]).unwrap();
/// assert_eq!((packet.sequence(), packet.whole()), (Seq(7), 2));
/// assert!(packet.messages().eq([&b"hello"[..], b""]));
/// ```
#[derive(Debug)]
pub struct Builder<'b> {
    out: &'b mut [u8],
    session: Session,
    sequence: Seq,
    len: usize,
    count: u16,
}

impl<'b> Builder<'b> {
    /// Begins a packet in `out`, whose length is the packet's limit. A buffer below 20 bytes holds no packet at all:
    /// nothing fits, and [`finish`](Builder::finish) returns 0.
    #[inline]
    pub fn new(out: &'b mut [u8], session: Session, sequence: Seq) -> Builder<'b> {
        Builder { out, session, sequence, len: HEADER_LEN, count: 0 }
    }

    /// Adds a message of `len` bytes and returns them, to be filled; they hold what the buffer held before.
    ///
    /// `None`, with nothing added, where the message does not fit: into the buffer, into a block's length, or into the
    /// header's count.
    #[inline]
    pub fn push(&mut self, len: usize) -> Option<&mut [u8]> {
        let block_len = u16::try_from(len).ok()?;
        if self.count == MAX_COUNT {
            return None;
        }
        let begin = self.len + BLOCK_HEADER_LEN;
        let end = begin + len;
        let (header, message) = BlockHeader::mut_from_prefix(self.out.get_mut(self.len..end)?).ok()?;
        header.message_length = U16::new(block_len);
        self.len = end;
        self.count += 1;
        Some(message)
    }

    /// How many messages have been added.
    #[inline]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The packet's length so far, in bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a packet is never without its header")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Writes the header and returns the packet's length in bytes. Without messages it is a heartbeat.
    #[inline]
    pub fn finish(self) -> usize {
        let Some(to) = self.out.first_chunk_mut() else { return 0 };
        *to = header(self.session, self.sequence, self.count);
        self.len
    }
}

/// A heartbeat: the session goes on, and `next` is the number of its next message.
pub fn heartbeat(session: Session, next: Seq) -> [u8; HEADER_LEN] {
    header(session, next, 0)
}

/// The end of the session: `next` is the number that its next message would have had.
pub fn end_of_session(session: Session, next: Seq) -> [u8; HEADER_LEN] {
    header(session, next, END_OF_SESSION)
}

#[inline]
fn header(session: Session, sequence: Seq, count: u16) -> [u8; HEADER_LEN] {
    zerocopy::transmute!(Header {
        session: session.0,
        sequence_number: U64::new(sequence.0),
        message_count: U16::new(count),
    })
}
