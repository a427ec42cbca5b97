//! SoupBinTCP: sequenced messages over TCP, with a login before them and heartbeats between them.
//!
//! # Specification
//!
//! "SoupBinTCP", Nasdaq, version 3.00. A stream of packets in each direction: a 2-byte big-endian length, which counts
//! the type and the payload but not itself, the type, a letter, and the payload. Numbers in payloads are ASCII decimals,
//! padded with spaces on the left.
//!
//! - The client begins, with a login request. The server accepts or rejects it, and sends nothing before.
//! - Sequenced messages carry no number: the first one's is in the server's acceptance, and each adds one.
//! - Who has sent nothing for a second ([`HEARTBEAT_SECONDS`]) sends a heartbeat; who hears nothing for fifteen
//!   ([`SILENCE_SECONDS`]) may take the connection for dead.
//! - End of session is the server's last packet. Debug packets may come from either side and mean nothing.
//!
//! # Contract
//!
//! [`step`] takes one whole packet from the front of a stream and can be fed one in pieces: [`Step::NeedMore`] says that
//! the bytes end within a packet. No packet is longer than [`MAX_PACKET_LEN`], so that a buffer of that length always
//! makes progress. A packet without a type (length 0) is none: nothing behind it can be trusted ([`Step::Broken`]).
//!
//! [`Frame::parse`] then checks that a payload has its type's length and that its numbers are numbers. Reasons, names and
//! messages are not checked. Usernames and passwords are the same in capitals and in small letters; it is for the server
//! to compare them so.

use core::fmt;

use barewire_types::{Layout, Seq, layout};
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Unaligned};

pub use crate::moldudp64::Session;
use crate::{FieldCodes, ProtocolSpec, Structure};

/// Length of what every packet begins with, in bytes.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Length of a login request packet in bytes.
pub const LOGIN_REQUEST_LEN: usize = size_of::<LoginRequestPacket>();

/// Length of a login accepted packet in bytes.
pub const LOGIN_ACCEPTED_LEN: usize = size_of::<LoginAcceptedPacket>();

/// Length of a login rejected packet in bytes.
pub const LOGIN_REJECTED_LEN: usize = size_of::<LoginRejectedPacket>();

/// The longest payload in bytes.
pub const MAX_PAYLOAD_LEN: usize = u16::MAX as usize - 1;

/// The longest packet in bytes.
pub const MAX_PACKET_LEN: usize = HEADER_LEN + MAX_PAYLOAD_LEN;

/// Who has sent nothing for so long sends a heartbeat.
pub const HEARTBEAT_SECONDS: u64 = 1;

/// Who has heard nothing for so long may take the connection for dead.
pub const SILENCE_SECONDS: u64 = 15;

/// Reason of a rejection: username and password are no account's.
pub const NOT_AUTHORIZED: u8 = b'A';

/// Reason of a rejection: there is no such session.
pub const SESSION_NOT_AVAILABLE: u8 = b'S';

/// A login request's session that names none: the one that is current.
pub const CURRENT_SESSION: Session = Session([b' '; 10]);

/// What a server sends when it has sent nothing for a second.
pub const SERVER_HEARTBEAT: [u8; HEADER_LEN] = [0, 1, b'H'];

/// What a client sends when it has sent nothing for a second.
pub const CLIENT_HEARTBEAT: [u8; HEADER_LEN] = [0, 1, b'R'];

/// A server's last packet: the session is over.
pub const END_OF_SESSION: [u8; HEADER_LEN] = [0, 1, b'Z'];

/// A client's wish to be disconnected.
pub const LOGOUT_REQUEST: [u8; HEADER_LEN] = [0, 1, b'O'];

const DEBUG: u8 = b'+';
const LOGIN_ACCEPTED: u8 = b'A';
const LOGIN_REJECTED: u8 = b'J';
const SEQUENCED: u8 = b'S';
const LOGIN_REQUEST: u8 = b'L';
const UNSEQUENCED: u8 = b'U';

/// The protocol's tables.
pub const SPEC: ProtocolSpec = ProtocolSpec {
    name: "soupbintcp-3.00",
    title: "SoupBinTCP",
    source: "Nasdaq, version 3.00",
    structures: &[
        Structure { name: Header::NAME, len: Header::LEN, fields: Header::FIELDS },
        Structure { name: LoginRequestPacket::NAME, len: LoginRequestPacket::LEN, fields: LoginRequestPacket::FIELDS },
        Structure {
            name: LoginAcceptedPacket::NAME,
            len: LoginAcceptedPacket::LEN,
            fields: LoginAcceptedPacket::FIELDS,
        },
        Structure {
            name: LoginRejectedPacket::NAME,
            len: LoginRejectedPacket::LEN,
            fields: LoginRejectedPacket::FIELDS,
        },
    ],
    messages: &[],
    codes: &[
        FieldCodes {
            field: "packet_type",
            codes: &[
                ("+", "debug"),
                ("A", "login accepted"),
                ("J", "login rejected"),
                ("S", "sequenced data"),
                ("H", "server heartbeat"),
                ("Z", "end of session"),
                ("L", "login request"),
                ("U", "unsequenced data"),
                ("R", "client heartbeat"),
                ("O", "logout request"),
            ],
        },
        FieldCodes {
            field: "reject_reason_code",
            codes: &[("A", "username and password are no account's"), ("S", "the requested session is not available")],
        },
    ],
};

layout! {
    /// What every packet begins with.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct Header: "packet_header" {
        /// Length of type and payload, without these two bytes; never 0.
        packet_length: U16 ["bytes"],
        /// Which packet this is.
        packet_type: u8 as Text,
    }

    /// The client's first packet.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct LoginRequestPacket: "login_request_packet" {
        /// 47.
        packet_length: U16 ["bytes"],
        /// `L`.
        packet_type: u8 as Text,
        /// The account, padded with spaces on the right.
        username: [u8; 6],
        /// Its password, padded with spaces on the right.
        password: [u8; 10],
        /// The session wanted; blank for the current one.
        requested_session: [u8; 10],
        /// ASCII decimal, padded on the left: the first message wanted; 0 for the next one to come.
        requested_sequence_number: [u8; 20],
    }

    /// The server's answer to a login that it takes.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct LoginAcceptedPacket: "login_accepted_packet" {
        /// 31.
        packet_length: U16 ["bytes"],
        /// `A`.
        packet_type: u8 as Text,
        /// The session, padded with spaces on the left.
        session: [u8; 10],
        /// ASCII decimal, padded on the left: the number of the next sequenced message.
        sequence_number: [u8; 20],
    }

    /// The server's answer to a login that it does not take; it disconnects then.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct LoginRejectedPacket: "login_rejected_packet" {
        /// 2.
        packet_length: U16 ["bytes"],
        /// `J`.
        packet_type: u8 as Text,
        /// Why.
        reject_reason_code: u8 as Text,
    }
}

/// Why a packet is none of the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SoupError {
    /// A type that the edition does not have. Its sender gave a length: skip the packet.
    UnknownType(u8),
    /// A payload of another length than its type has.
    BadLength,
    /// A number that is not one, or passes 2^64.
    BadNumber,
}

impl SoupError {
    /// The name that counters have.
    pub const fn name(self) -> &'static str {
        match self {
            SoupError::UnknownType(_) => "unknown_type",
            SoupError::BadLength => "bad_length",
            SoupError::BadNumber => "bad_number",
        }
    }
}

impl fmt::Display for SoupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SoupError::UnknownType(code) => write!(f, "unknown packet type '{}'", code.escape_ascii()),
            SoupError::BadLength => f.write_str("payload of another length than its type has"),
            SoupError::BadNumber => f.write_str("sequence number that is no number"),
        }
    }
}

impl core::error::Error for SoupError {}

/// The number that an ASCII decimal of a fixed width stands for: digits, with spaces before and behind.
///
/// `None` for a blank one, for any other character, and for a number past 2^64.
pub fn number(text: &[u8]) -> Option<u64> {
    let mut text = text;
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    match text {
        [] => None,
        digits => digits.iter().try_fold(0u64, |number, &digit| match digit {
            b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
            _ => None,
        }),
    }
}

/// A number as an ASCII decimal, padded with spaces on the left. Every `u64` fits.
pub fn ascii(number: u64) -> [u8; 20] {
    let mut text = [b' '; 20];
    let mut rest = number;
    for byte in text.iter_mut().rev() {
        *byte = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text
}

/// Text padded with spaces on the right; `None` where it is too long, or is not printable ASCII.
pub fn padded<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = text.as_bytes();
    let mut padded = [b' '; N];
    padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~')).then_some(padded)
}

/// What a client logs in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoginRequest {
    /// The account, padded with spaces on the right: see [`padded`].
    pub username: [u8; 6],
    /// Its password, padded likewise.
    pub password: [u8; 10],
    /// The session wanted, or [`CURRENT_SESSION`].
    pub session: Session,
    /// The first message wanted; 0 for the next one to come.
    pub sequence: Seq,
}

impl LoginRequest {
    /// The packet.
    pub fn encode(&self) -> [u8; LOGIN_REQUEST_LEN] {
        zerocopy::transmute!(LoginRequestPacket {
            packet_length: length::<LOGIN_REQUEST_LEN>(),
            packet_type: LOGIN_REQUEST,
            username: self.username,
            password: self.password,
            requested_session: self.session.0,
            requested_sequence_number: ascii(self.sequence.0),
        })
    }
}

/// The packet that accepts a login: `next` is the number of the next sequenced message.
pub fn login_accepted(session: Session, next: Seq) -> [u8; LOGIN_ACCEPTED_LEN] {
    zerocopy::transmute!(LoginAcceptedPacket {
        packet_length: length::<LOGIN_ACCEPTED_LEN>(),
        packet_type: LOGIN_ACCEPTED,
        session: session.0,
        sequence_number: ascii(next.0),
    })
}

/// The packet that rejects a login.
pub fn login_rejected(reason: u8) -> [u8; LOGIN_REJECTED_LEN] {
    zerocopy::transmute!(LoginRejectedPacket {
        packet_length: length::<LOGIN_REJECTED_LEN>(),
        packet_type: LOGIN_REJECTED,
        reject_reason_code: reason,
    })
}

/// The header of a sequenced message of so many bytes; `None` for one that no packet can hold.
pub fn sequenced_header(message_len: usize) -> Option<[u8; HEADER_LEN]> {
    header(SEQUENCED, message_len)
}

/// Writes a sequenced message and returns the packet's length in bytes.
///
/// `None`, with nothing written, where `out` is too short or no packet can hold the message.
pub fn sequenced(out: &mut [u8], message: &[u8]) -> Option<usize> {
    encode(out, SEQUENCED, message)
}

/// Writes an unsequenced message; else as [`sequenced`].
pub fn unsequenced(out: &mut [u8], message: &[u8]) -> Option<usize> {
    encode(out, UNSEQUENCED, message)
}

/// Writes a debug packet; else as [`sequenced`].
pub fn debug(out: &mut [u8], text: &[u8]) -> Option<usize> {
    encode(out, DEBUG, text)
}

fn encode(out: &mut [u8], packet_type: u8, payload: &[u8]) -> Option<usize> {
    let header = header(packet_type, payload.len())?;
    let (head, body) = out.get_mut(..HEADER_LEN + payload.len())?.split_first_chunk_mut()?;
    *head = header;
    body.copy_from_slice(payload);
    Some(HEADER_LEN + payload.len())
}

fn header(packet_type: u8, payload_len: usize) -> Option<[u8; HEADER_LEN]> {
    let packet_length = U16::new(u16::try_from(payload_len).ok()?.checked_add(1)?);
    Some(zerocopy::transmute!(Header { packet_length, packet_type }))
}

/// What the length field of a packet of `LEN` bytes says.
const fn length<const LEN: usize>() -> U16 {
    const { assert!(HEADER_LEN <= LEN && LEN <= MAX_PACKET_LEN) };
    U16::new((LEN - size_of::<U16>()) as u16)
}

/// One packet as the stream frames it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The packet's type.
    pub packet_type: u8,
    /// What stands behind it.
    pub payload: &'a [u8],
}

/// What a stream's bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole packet.
    Packet {
        /// The packet.
        frame: Frame<'a>,
        /// What follows it.
        rest: &'a [u8],
    },
    /// The bytes end within a packet, or there are none.
    NeedMore,
    /// A packet of length 0: whatever this is, it is no stream of packets.
    Broken,
}

/// Takes one packet from the front of `bytes`.
#[inline]
pub fn step(bytes: &[u8]) -> Step<'_> {
    let Some((len, rest)) = bytes.split_first_chunk() else { return Step::NeedMore };
    let len = usize::from(u16::from_be_bytes(*len));
    if len == 0 {
        return Step::Broken;
    }
    match rest.split_at_checked(len) {
        Some(([packet_type, payload @ ..], rest)) => {
            Step::Packet { frame: Frame { packet_type: *packet_type, payload }, rest }
        }
        _ => Step::NeedMore,
    }
}

/// A packet whose payload has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Text for people; means nothing.
    Debug(&'a [u8]),
    /// A client logs in.
    LoginRequest(LoginRequest),
    /// The server takes the login.
    LoginAccepted {
        /// The session.
        session: Session,
        /// The number of the next sequenced message.
        next: Seq,
    },
    /// The server does not take the login, for this reason: [`NOT_AUTHORIZED`], [`SESSION_NOT_AVAILABLE`] or another.
    LoginRejected(u8),
    /// The session's next message.
    Sequenced(&'a [u8]),
    /// A message outside of the sequence, in either direction.
    Unsequenced(&'a [u8]),
    /// The server lives.
    ServerHeartbeat,
    /// The client lives.
    ClientHeartbeat,
    /// The session is over.
    EndOfSession,
    /// The client wants to be disconnected.
    LogoutRequest,
}

impl<'a> Frame<'a> {
    /// Takes the payload apart.
    ///
    /// # Errors
    ///
    /// Every [`SoupError`].
    #[inline]
    pub fn parse(&self) -> Result<Packet<'a>, SoupError> {
        let payload = self.payload;
        let empty = |packet| if payload.is_empty() { Ok(packet) } else { Err(SoupError::BadLength) };
        match self.packet_type {
            SEQUENCED => Ok(Packet::Sequenced(payload)),
            UNSEQUENCED => Ok(Packet::Unsequenced(payload)),
            DEBUG => Ok(Packet::Debug(payload)),
            b'H' => empty(Packet::ServerHeartbeat),
            b'R' => empty(Packet::ClientHeartbeat),
            b'Z' => empty(Packet::EndOfSession),
            b'O' => empty(Packet::LogoutRequest),
            LOGIN_ACCEPTED => accepted(payload),
            LOGIN_REJECTED => match payload {
                [reason] => Ok(Packet::LoginRejected(*reason)),
                _ => Err(SoupError::BadLength),
            },
            LOGIN_REQUEST => request(payload),
            code => Err(SoupError::UnknownType(code)),
        }
    }
}

fn accepted(payload: &[u8]) -> Result<Packet<'_>, SoupError> {
    let (session, sequence) = payload.split_first_chunk().ok_or(SoupError::BadLength)?;
    let sequence: &[u8; 20] = sequence.try_into().map_err(|_| SoupError::BadLength)?;
    let next = Seq(number(sequence).ok_or(SoupError::BadNumber)?);
    Ok(Packet::LoginAccepted { session: Session(*session), next })
}

fn request(payload: &[u8]) -> Result<Packet<'_>, SoupError> {
    /// The packet without its header.
    #[derive(FromBytes, zerocopy::Immutable, zerocopy::KnownLayout, Unaligned)]
    #[repr(C)]
    struct Body {
        username: [u8; 6],
        password: [u8; 10],
        session: [u8; 10],
        sequence: [u8; 20],
    }
    let body = Body::ref_from_bytes(payload).map_err(|_| SoupError::BadLength)?;
    Ok(Packet::LoginRequest(LoginRequest {
        username: body.username,
        password: body.password,
        session: Session(body.session),
        sequence: Seq(number(&body.sequence).ok_or(SoupError::BadNumber)?),
    }))
}

impl fmt::Display for Packet<'_> {
    /// Never shows a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Packet::Debug(text) => write!(f, "debug text={}", text.escape_ascii()),
            Packet::LoginRequest(login) => write!(
                f,
                "login_request username={} session={} sequence={}",
                login.username.trim_ascii_end().escape_ascii(),
                login.session,
                login.sequence.0
            ),
            Packet::LoginAccepted { session, next } => {
                write!(f, "login_accepted session={session} sequence={}", next.0)
            }
            Packet::LoginRejected(reason) => write!(f, "login_rejected reason={}", reason.escape_ascii()),
            Packet::Sequenced(message) => write!(f, "sequenced bytes={}", message.len()),
            Packet::Unsequenced(message) => write!(f, "unsequenced bytes={}", message.len()),
            Packet::ServerHeartbeat => f.write_str("server_heartbeat"),
            Packet::ClientHeartbeat => f.write_str("client_heartbeat"),
            Packet::EndOfSession => f.write_str("end_of_session"),
            Packet::LogoutRequest => f.write_str("logout_request"),
        }
    }
}
