//! BinaryFILE: a session's messages in a file, each behind its length.
//!
//! # Specification
//!
//! "BinaryFILE", Nasdaq, version 1.00: records of a 2-byte big-endian length, which does not count itself, and so many
//! bytes of message. Nasdaq publishes days of TotalView-ITCH so (e.g. `01302020.NASDAQ_ITCH50`). A record of length 0
//! may mark the end.
//!
//! # Contract
//!
//! [`step`] checks that the length and the message are whole, and nothing else: what the message holds is for its own
//! protocol. It can be fed a file in pieces: [`Step::NeedMore`] says that the bytes end within a record.

use barewire_types::{Layout, layout};
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Unaligned};

use crate::{ProtocolSpec, Structure};

/// Length of a record's header in bytes.
pub const HEADER_LEN: usize = size_of::<Header>();

/// The record that ends a file.
pub const END: [u8; HEADER_LEN] = [0; HEADER_LEN];

/// The protocol's tables.
pub const SPEC: ProtocolSpec = ProtocolSpec {
    name: "binaryfile-1.00",
    title: "BinaryFILE",
    source: "Nasdaq, version 1.00",
    structures: &[Structure { name: Header::NAME, len: Header::LEN, fields: Header::FIELDS }],
    messages: &[],
    codes: &[],
};

layout! {
    /// What stands before each message.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct Header: "record_header" {
        /// Length of the message, without these two bytes; 0 ends the file.
        message_length: U16 ["bytes"],
    }
}

/// What a file's bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole record.
    Message {
        /// Its message; never empty.
        message: &'a [u8],
        /// What follows the record.
        rest: &'a [u8],
    },
    /// The record of length 0. Writers put nothing behind it.
    End,
    /// The bytes end within a record, or there are none. At the end of a file with bytes left over, it was cut off.
    NeedMore,
}

/// Takes one record from the front of `bytes`.
#[inline]
pub fn step(bytes: &[u8]) -> Step<'_> {
    let Ok((header, rest)) = Header::ref_from_prefix(bytes) else { return Step::NeedMore };
    match header.message_length.get() {
        0 => Step::End,
        len => match rest.split_at_checked(usize::from(len)) {
            Some((message, rest)) => Step::Message { message, rest },
            None => Step::NeedMore,
        },
    }
}

/// The whole records at the front of `bytes`.
#[inline]
pub fn records(bytes: &[u8]) -> Records<'_> {
    Records { rest: bytes }
}

/// Iterates over the messages of whole records; see [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// What has not been iterated over yet; at the end, [`step`] of it tells why there is no more.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match step(self.rest) {
            Step::Message { message, rest } => {
                self.rest = rest;
                Some(message)
            }
            Step::End | Step::NeedMore => None,
        }
    }
}

/// Writes one record and returns its length in bytes.
///
/// `None`, with nothing written, where `out` is too short, or where no record can hold the message: an empty one would
/// end the file, one of more than 65,535 bytes has no length.
pub fn encode(out: &mut [u8], message: &[u8]) -> Option<usize> {
    let len = u16::try_from(message.len()).ok().filter(|len| *len != 0)?;
    let record_len = HEADER_LEN + message.len();
    let (header, body) = Header::mut_from_prefix(out.get_mut(..record_len)?).ok()?;
    header.message_length = U16::new(len);
    body.copy_from_slice(message);
    Some(record_len)
}
