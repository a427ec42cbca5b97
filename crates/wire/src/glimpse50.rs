//! GLIMPSE 5.0: a snapshot of all ITCH 5.0 books, for who joins late or has lost too much.
//!
//! # Specification
//!
//! "Nasdaq GLIMPSE 5.0", Nasdaq. Over SoupBinTCP, by a login for sequence number 1. The snapshot comes as ITCH 5.0
//! messages: system event, directory and trading states, then an add-order for every live order, with the shares that are
//! left of it and its current price. Then one message of its own, end of snapshot, with an ITCH sequence number in ASCII.
//! SoupBinTCP's numbers have nothing to do with the ITCH feed's.
//!
//! Editions and sister protocols word the end's number differently: "the sequence number when the snapshot was taken" and
//! "the next sequence number of the feed". [`Message::End`] carries it as it stands there.
//!
//! # Contract
//!
//! [`Message::parse`] tells the end from the messages before it and checks its length and its number. The others are
//! ITCH's ([`itch50`](crate::itch50)), and not looked at.

use core::fmt;

use barewire_types::{Layout, Seq, layout};
use zerocopy::{FromBytes, Unaligned};

use crate::soupbintcp::{ascii, number};
use crate::{ProtocolSpec, Structure};

/// Length of the end-of-snapshot message in bytes.
pub const END_LEN: usize = size_of::<EndOfSnapshot>();

const END: u8 = b'G';

/// The protocol's tables. The messages of a snapshot are ITCH 5.0's; the end of it is a structure here.
pub const SPEC: ProtocolSpec = ProtocolSpec {
    name: "glimpse-5.0",
    title: "Nasdaq GLIMPSE 5.0",
    source: "Nasdaq, version 5.0",
    structures: &[Structure { name: EndOfSnapshot::NAME, len: EndOfSnapshot::LEN, fields: EndOfSnapshot::FIELDS }],
    messages: &[],
    codes: &[],
};

layout! {
    /// The last message of a snapshot. It has none of the fields that ITCH's messages begin with.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct EndOfSnapshot: "end_of_snapshot" {
        /// `G`.
        message_type: u8 as Text,
        /// ASCII decimal, padded with spaces on the left: where in the ITCH feed the snapshot was taken.
        sequence_number: [u8; 20],
    }
}

/// Why bytes are not a message of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GlimpseError {
    /// No bytes at all.
    Empty,
    /// An end of snapshot of another length than it has.
    BadLength,
    /// An end of snapshot whose number is not one, or passes 2^64.
    BadNumber,
}

impl GlimpseError {
    /// The name that counters have.
    pub const fn name(self) -> &'static str {
        match self {
            GlimpseError::Empty => "empty",
            GlimpseError::BadLength => "bad_length",
            GlimpseError::BadNumber => "bad_number",
        }
    }
}

impl fmt::Display for GlimpseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GlimpseError::Empty => "empty message",
            GlimpseError::BadLength => "end of snapshot of another length than it has",
            GlimpseError::BadNumber => "end of snapshot with a sequence number that is no number",
        })
    }
}

impl core::error::Error for GlimpseError {}

/// A message of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A message of ITCH 5.0, or one that says it is; never empty.
    Itch(&'a [u8]),
    /// The snapshot is whole, with the number that the message states.
    End(Seq),
}

impl<'a> Message<'a> {
    /// Tells the end from the messages before it.
    ///
    /// # Errors
    ///
    /// Every [`GlimpseError`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, GlimpseError> {
        match bytes.first() {
            None => Err(GlimpseError::Empty),
            Some(&END) => {
                let end = EndOfSnapshot::ref_from_bytes(bytes).map_err(|_| GlimpseError::BadLength)?;
                Ok(Message::End(Seq(number(&end.sequence_number).ok_or(GlimpseError::BadNumber)?)))
            }
            Some(_) => Ok(Message::Itch(bytes)),
        }
    }
}

/// The end of a snapshot, with this number.
pub fn end_of_snapshot(sequence: Seq) -> [u8; END_LEN] {
    zerocopy::transmute!(EndOfSnapshot { message_type: END, sequence_number: ascii(sequence.0) })
}
