//! The event as it travels: 56 bytes, which with the ring's sequence word fill one cache line.
//!
//! Four kinds share the first 32 bytes, so a reader can look at `kind`, `sequence` and the times without knowing the
//! rest. All integers are in the machine's order, which on every supported machine is little-endian.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

/// Size of a record in bytes: a cache line less the ring's sequence word.
pub const RECORD_BYTES: usize = 56;

/// What a [`Record`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// An [`Mbo`]: one thing that happened to one order, or a trade.
    Mbo = 1,
    /// A [`Bbo`]: the best bid and offer after a message that changed them.
    Bbo = 2,
    /// A [`Gap`]: messages that were lost.
    Gap = 3,
    /// A [`Status`]: trading state, session and system events, broken trades.
    Status = 4,
}

/// Bits of a record's `flags`. Values are Databento's where it has the same meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Flags(pub u8);

impl Flags {
    /// Nothing to say.
    pub const NONE: Flags = Flags(0);
    /// The last record that its packet gave rise to.
    pub const LAST: Flags = Flags(1 << 7);
    /// From a snapshot, not from the live stream.
    pub const SNAPSHOT: Flags = Flags(1 << 5);
    /// The clock behind `ts_recv` was degraded when it was taken.
    pub const BAD_TS_RECV: Flags = Flags(1 << 3);
    /// The instrument's book may be wrong: messages were lost and it has not been rebuilt since.
    pub const MAYBE_STALE: Flags = Flags(1 << 2);
    /// Delivered by a retransmission.
    pub const RECOVERED: Flags = Flags(1 << 1);

    /// Both sets of bits.
    #[inline]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether every bit of `other` is set.
    #[inline]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Why messages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GapReason {
    /// The sequence jumped ahead and nothing could fill the hole.
    SequenceJump = 1,
    /// The feed was joined after the session had begun.
    LateJoin = 2,
    /// The session ended, or another began, before its last messages came.
    SessionEnd = 3,
    /// A snapshot took their place: the books are right, what happened in between was not seen.
    Snapshot = 4,
}

/// What a [`Status`] record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StatusCode {
    /// The instrument's trading state became `state`, for `reason`.
    TradingState = b'H',
    /// Trading on one market center halted or resumed: `state` as the venue says, the market in `reason`.
    OperationalHalt = b'h',
    /// A system event, its code in `state`.
    SystemEvent = b'S',
    /// The trade with match number `value` is broken.
    TradeBroken = b'B',
    /// The venue began a new session; every book is empty.
    SessionStart = b'N',
    /// The venue ended the session.
    SessionEnd = b'Z',
    /// Line number `value` (0 for A) has been silent for longer than its heartbeats allow.
    LineDown = b'D',
    /// Line number `value` is heard again.
    LineUp = b'U',
    /// Every book is right again: a snapshot was loaded, and what follows joins on to it.
    Recovered = b'R',
    /// How far receive times may be off from now on: `value` nanoseconds either way, the clock against the system's and the
    /// system's against UTC, 2^64-1 where that is not known; by which clock is the digit in `state`, `ts_source`'s number.
    Clock = b'K',
}

crate::layout! {
    /// One thing that happened to one order, or a trade (Databento's MBO).
    #[derive(PartialEq, Eq)]
    pub struct Mbo: "mbo" {
        /// When the venue says it happened.
        ts_event: u64 ["ns since 1970, UTC"],
        /// When the packet arrived; 0 where not known.
        ts_recv: u64 ["ns since 1970, UTC"],
        /// The venue's sequence number of the message.
        sequence: u64,
        /// The venue's number of the instrument; its symbol is in the ring's directory.
        instrument_id: u32,
        /// Which venue.
        publisher_id: u8,
        /// 1.
        kind: u8,
        /// Bits: 128 last of its packet, 32 snapshot, 8 degraded clock, 4 maybe stale, 2 recovered.
        flags: u8,
        /// Clock of `ts_recv`: 0 none, 1 nic, 2 capture, 3 kernel, 4 user.
        ts_source: u8,
        /// The venue's number of the order; 0 where there is none.
        order_id: u64,
        /// Price; 2^63-1 where there is none.
        price: i64 ["1e-9 currency units"],
        /// Size that the action adds, takes or trades; 2^32-1 stands for that or more.
        size: u32 ["shares or contracts"],
        /// A add, C cancel, M modify, T trade, F fill, R clear.
        action: u8 as Text,
        /// B bid, A ask, N none.
        side: u8 as Text,
        /// Zero.
        reserved: [u8; 2] as Bytes,
    }

    /// The best bid and offer after a message that changed them (the quote of Databento's MBP-1).
    #[derive(PartialEq, Eq)]
    pub struct Bbo: "bbo" {
        /// When the venue says it happened.
        ts_event: u64 ["ns since 1970, UTC"],
        /// When the packet arrived; 0 where not known.
        ts_recv: u64 ["ns since 1970, UTC"],
        /// The venue's sequence number of the message.
        sequence: u64,
        /// The venue's number of the instrument; its symbol is in the ring's directory.
        instrument_id: u32,
        /// Which venue.
        publisher_id: u8,
        /// 2.
        kind: u8,
        /// Bits: 128 last of its packet, 32 snapshot, 8 degraded clock, 4 maybe stale, 2 recovered.
        flags: u8,
        /// Clock of `ts_recv`: 0 none, 1 nic, 2 capture, 3 kernel, 4 user.
        ts_source: u8,
        /// Best bid; 2^63-1 where nobody bids.
        bid_price: i64 ["1e-9 currency units"],
        /// Best offer; 2^63-1 where nobody offers.
        ask_price: i64 ["1e-9 currency units"],
        /// Size of all orders at the best bid; 2^32-1 stands for that or more.
        bid_size: u32 ["shares or contracts"],
        /// Size of all orders at the best offer; 2^32-1 stands for that or more.
        ask_size: u32 ["shares or contracts"],
    }

    /// Messages that were lost.
    #[derive(PartialEq, Eq)]
    pub struct Gap: "gap" {
        /// 0: the venue says nothing of what did not arrive.
        ts_event: u64 ["ns since 1970, UTC"],
        /// When the packet that showed the gap arrived.
        ts_recv: u64 ["ns since 1970, UTC"],
        /// The first missing sequence number.
        sequence: u64,
        /// 0: the gap touches every instrument of the feed.
        instrument_id: u32,
        /// Which venue.
        publisher_id: u8,
        /// 3.
        kind: u8,
        /// Bits: 128 last of its packet, 32 snapshot, 8 degraded clock, 4 maybe stale, 2 recovered.
        flags: u8,
        /// Clock of `ts_recv`: 0 none, 1 nic, 2 capture, 3 kernel, 4 user.
        ts_source: u8,
        /// How many messages are missing, from `sequence` on.
        count: u64 ["messages"],
        /// Why: 1 sequence jump, 2 late join, 3 session ended, 4 a snapshot took their place.
        reason: u8,
        /// Zero.
        reserved: [u8; 15] as Bytes,
    }

    /// Trading state, session and system events, broken trades.
    #[derive(PartialEq, Eq)]
    pub struct Status: "status" {
        /// When the venue says it happened.
        ts_event: u64 ["ns since 1970, UTC"],
        /// When the packet arrived; 0 where not known.
        ts_recv: u64 ["ns since 1970, UTC"],
        /// The venue's sequence number of the message.
        sequence: u64,
        /// The venue's number of the instrument; 0 for the whole feed.
        instrument_id: u32,
        /// Which venue.
        publisher_id: u8,
        /// 4.
        kind: u8,
        /// Bits: 128 last of its packet, 32 snapshot, 8 degraded clock, 4 maybe stale, 2 recovered.
        flags: u8,
        /// Clock of `ts_recv`: 0 none, 1 nic, 2 capture, 3 kernel, 4 user.
        ts_source: u8,
        /// The match number of a broken trade; the number of a line, from 0; how far receive times may be off, ns; else 0.
        value: u64,
        /// H trading state, h operational halt, S system event, B trade broken, N session start, Z session end, D line
        /// down, U line up, R books recovered, K the clock of receive times.
        code: u8 as Text,
        /// The venue's letter for the new state or the event; of K, the digit of its clock's `ts_source`.
        state: u8 as Text,
        /// The venue's reason code.
        reason: [u8; 4],
        /// Zero.
        reserved: [u8; 10] as Bytes,
    }
}

/// A record of any kind, as the ring carries it: seven words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Record(pub [u64; RECORD_BYTES / 8]);

macro_rules! carried {
    ($($ty:ident),+) => { $(
        const _: () = assert!(size_of::<$ty>() == RECORD_BYTES);
        impl From<$ty> for Record {
            #[inline(always)]
            fn from(value: $ty) -> Record {
                Record(transmute!(value))
            }
        }
        impl From<Record> for $ty {
            /// The bytes, read as this kind: ask [`Record::kind`] first.
            #[inline(always)]
            fn from(record: Record) -> $ty {
                transmute!(record.0)
            }
        }
    )+ };
}
carried!(Mbo, Bbo, Gap, Status);

impl Record {
    /// Which kind of record this is, or `None` for a byte that no kind has.
    #[inline]
    pub fn kind(&self) -> Option<RecordKind> {
        // Through Gap: the first 32 bytes are alike in every kind.
        match Gap::from(*self).kind {
            1 => Some(RecordKind::Mbo),
            2 => Some(RecordKind::Bbo),
            3 => Some(RecordKind::Gap),
            4 => Some(RecordKind::Status),
            _ => None,
        }
    }

    /// The record with more flags set.
    #[inline]
    pub fn with_flags(self, flags: Flags) -> Record {
        let mut any = Gap::from(self);
        any.flags |= flags.0;
        any.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    /// The kinds agree on the first 32 bytes, to which readers hold on without looking at the kind.
    #[test]
    fn kinds_share_their_head() {
        for other in [Bbo::FIELDS, Gap::FIELDS, Status::FIELDS] {
            for (a, b) in Mbo::FIELDS.iter().zip(other).take(8) {
                assert_eq!((a.name, a.offset, a.len), (b.name, b.offset, b.len));
            }
        }
        assert_eq!(Mbo::FIELDS[8].offset, 32);
    }

    /// Field tables cover the record without holes: what numpy sees is what is there.
    #[test]
    fn tables_have_no_holes() {
        for fields in [Mbo::FIELDS, Bbo::FIELDS, Gap::FIELDS, Status::FIELDS] {
            let mut at = 0;
            for field in fields {
                assert_eq!(field.offset, at, "{}", field.name);
                at += field.len;
            }
            assert_eq!(at, RECORD_BYTES);
        }
    }

    #[test]
    fn flags_reach_every_kind() {
        let record: Record = Bbo { kind: RecordKind::Bbo as u8, ..Bbo::from(Record([0; 7])) }.into();
        let flagged = record.with_flags(Flags::LAST);
        assert_eq!(flagged.kind(), Some(RecordKind::Bbo));
        assert!(Flags(Bbo::from(flagged).flags).contains(Flags::LAST));
    }
}
