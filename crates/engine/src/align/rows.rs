//! Pairs and baskets: the best bids and offers of several instruments, of one input or many, as one row.
//!
//! A row is a [`Row`] and then a [`Leg`] for each leg, as words, so that a row of any number of legs has one layout.

use barewire_types::zerocopy::transmute;
use barewire_types::{Bbo, Flags, Gap, GapReason, RecordKind, Status, StatusCode};

use super::Aligned;

/// Words of a row before its legs, and of each leg.
pub const ROW_WORDS: usize = size_of::<Row>() / 8;
/// Words of each leg.
pub const LEG_WORDS: usize = size_of::<Leg>() / 8;
/// Not known.
pub const UNKNOWN: u64 = u64::MAX;
/// The feed has lost messages, and the book has not been rebuilt since.
const DOUBTED: u8 = 1;
/// This reader has lost records, and no quote has come since.
const MISSED: u8 = 2;

barewire_types::layout! {
    /// What a row says of all legs together.
    #[derive(PartialEq, Eq)]
    pub struct Row: "row" {
        /// The newest key that was seen when the row was made; never goes back.
        ts: u64 ["ns since 1970, UTC"],
        /// Between the legs' keys, the oldest and the newest.
        skew_ns: u64 ["ns"],
        /// By how much the skew may be wrong because clocks are: the two largest of the legs' bounds; 2^64-1 not known.
        bound_ns: u64 ["ns"],
        /// How long the quote that made the row was held back.
        held_ns: u64 ["ns"],
        /// Which leg's quote made the row, from 0.
        leg: u8,
        /// 1 where something newer had gone out before that quote.
        late: u8,
        /// 1 where the legs are no further apart than the tolerance.
        within: u8,
        /// Why the quote went out: 0 nothing older could come, 1 it was held long enough, 2 there was no more room.
        released_by: u8,
        /// Of all legs' `stale` together.
        stale: u8,
        /// Zero.
        reserved: [u8; 3] as Bytes,
    }

    /// One leg of a row: the instrument's latest quote.
    #[derive(PartialEq, Eq)]
    pub struct Leg: "leg" {
        /// When its packet arrived; 0 where not known.
        ts_recv: u64 ["ns since 1970, UTC"],
        /// When the venue says it happened; 0 where it does not.
        ts_event: u64 ["ns since 1970, UTC"],
        /// The venue's sequence number of the message.
        sequence: u64,
        /// From its key to the row's `ts`.
        age_ns: u64 ["ns"],
        /// How far its clock may be off; 2^64-1 not known.
        bound_ns: u64 ["ns"],
        /// Best bid; 2^63-1 where nobody bids.
        bid_price: i64 ["1e-9 currency units"],
        /// Best offer; 2^63-1 where nobody offers.
        ask_price: i64 ["1e-9 currency units"],
        /// Size of all orders at the best bid; 2^32-1 stands for that or more.
        bid_size: u32 ["shares or contracts"],
        /// Size of all orders at the best offer; 2^32-1 stands for that or more.
        ask_size: u32 ["shares or contracts"],
        /// Clock of `ts_recv`: 0 none, 1 nic, 2 capture, 3 kernel, 4 user.
        ts_source: u8,
        /// Bits: 1 the feed lost messages and the book may be wrong, 2 records were missed here and a newer quote may have been among them.
        stale: u8,
        /// Zero.
        reserved: [u8; 6] as Bytes,
    }
}

/// What makes a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Any leg's quote.
    Any,
    /// Any leg's quote, where all legs are within the tolerance then.
    All,
    /// This leg's quote.
    Leg(usize),
}

/// An instrument of an input.
#[derive(Clone, Copy, Debug)]
struct Known {
    input: u8,
    /// Its number, once it is known.
    instrument: Option<u32>,
    key: u64,
    is_quoted: bool,
    leg: Leg,
}

/// How far each input's clock may be off.
#[derive(Clone, Copy, Debug)]
struct Bound {
    ns: u64,
    /// Whether it is told from outside, and not by the records.
    is_told: bool,
}

/// Makes rows of aligned records.
pub struct Rows {
    legs: Vec<Known>,
    bounds: Vec<Bound>,
    on: On,
    tolerance_ns: Option<u64>,
    newest: u64,
}

impl Rows {
    /// Rows of legs, of each of which the input is given; no leg's instrument is known yet.
    pub fn new(legs: &[u8], on: On, tolerance_ns: Option<u64>) -> Rows {
        let blank = Leg {
            ts_recv: 0,
            ts_event: 0,
            sequence: 0,
            age_ns: 0,
            bound_ns: UNKNOWN,
            bid_price: i64::MAX,
            ask_price: i64::MAX,
            bid_size: 0,
            ask_size: 0,
            ts_source: 0,
            stale: 0,
            reserved: [0; 6],
        };
        let leg = |input: &u8| Known { input: *input, instrument: None, key: 0, is_quoted: false, leg: blank };
        let inputs = legs.iter().map(|input| usize::from(*input) + 1).max().unwrap_or(0);
        Rows {
            legs: legs.iter().map(leg).collect(),
            bounds: vec![Bound { ns: UNKNOWN, is_told: false }; inputs],
            on,
            tolerance_ns,
            newest: 0,
        }
    }

    /// Words of a row.
    pub fn words(&self) -> usize {
        ROW_WORDS + self.legs.len() * LEG_WORDS
    }

    /// The instrument of a leg is this one, from here on. Another one than before has not been quoted yet.
    pub fn resolve(&mut self, leg: usize, instrument: u32) {
        if let Some(known) = self.legs.get_mut(leg)
            && known.instrument != Some(instrument)
        {
            known.instrument = Some(instrument);
            known.is_quoted = false;
            known.leg.stale = 0;
        }
    }

    /// Legs of whose instruments no number is known.
    pub fn unresolved(&self) -> impl Iterator<Item = usize> + '_ {
        self.legs.iter().enumerate().filter(|(_, known)| known.instrument.is_none()).map(|(leg, _)| leg)
    }

    /// How far an input's clock may be off; what its records say of that is not listened to any more.
    pub fn tell_bound(&mut self, input: usize, ns: u64) {
        if let Some(bound) = self.bounds.get_mut(input) {
            *bound = Bound { ns, is_told: true };
        }
    }

    /// Records of an input are missing before the next ones.
    pub fn lose(&mut self, input: usize) {
        self.of_input(input as u8).for_each(|known| known.leg.stale |= MISSED);
    }

    fn of_input(&mut self, input: u8) -> impl Iterator<Item = &mut Known> {
        self.legs.iter_mut().filter(move |known| known.input == input)
    }

    /// Takes aligned records in order; `out` must have room for a row of each. Returns how many rows they made.
    pub fn take(&mut self, records: &[Aligned], out: &mut [u64]) -> usize {
        let mut rows = out.chunks_exact_mut(self.words());
        let mut count = 0;
        for record in records {
            self.newest = self.newest.max(record.placed.ts_key);
            let made = match record.ring.record.kind() {
                Some(RecordKind::Bbo) => self.quote(record),
                Some(RecordKind::Gap) => self.gap(record),
                Some(RecordKind::Status) => self.status(record),
                _ => None,
            };
            if let Some((leg, skew_ns)) = made
                && let Some(row) = rows.next()
            {
                self.write(record, leg, skew_ns, row);
                count += 1;
            }
        }
        count
    }

    /// A leg's quote, and between it and the others what a row is made for: which leg, and the skew.
    fn quote(&mut self, record: &Aligned) -> Option<(usize, u64)> {
        let bbo = Bbo::from(record.ring.record);
        let is_it = |known: &Known| known.input == record.placed.source && known.instrument == Some(bbo.instrument_id);
        let leg = self.legs.iter().position(is_it)?;
        let known = &mut self.legs[leg];
        known.key = record.placed.ts_key;
        known.is_quoted = true;
        known.leg = Leg {
            ts_recv: bbo.ts_recv,
            ts_event: bbo.ts_event,
            sequence: bbo.sequence,
            bid_price: bbo.bid_price,
            ask_price: bbo.ask_price,
            bid_size: bbo.bid_size,
            ask_size: bbo.ask_size,
            ts_source: bbo.ts_source,
            stale: if Flags(bbo.flags).contains(Flags::MAYBE_STALE) { DOUBTED } else { 0 },
            ..known.leg
        };
        if !self.legs.iter().all(|known| known.is_quoted) || matches!(self.on, On::Leg(on) if on != leg) {
            return None;
        }
        let (oldest, newest) =
            self.legs.iter().fold((u64::MAX, 0), |(oldest, newest), k| (oldest.min(k.key), newest.max(k.key)));
        let skew_ns = newest.saturating_sub(oldest);
        (self.on != On::All || self.is_within(skew_ns)).then_some((leg, skew_ns))
    }

    fn is_within(&self, skew_ns: u64) -> bool {
        self.tolerance_ns.is_none_or(|tolerance| skew_ns <= tolerance)
    }

    #[cold]
    fn gap(&mut self, record: &Aligned) -> Option<(usize, u64)> {
        if Gap::from(record.ring.record).reason != GapReason::Snapshot as u8 {
            self.of_input(record.placed.source).for_each(|known| known.leg.stale |= DOUBTED);
        }
        None
    }

    #[cold]
    fn status(&mut self, record: &Aligned) -> Option<(usize, u64)> {
        let status = Status::from(record.ring.record);
        let source = record.placed.source;
        if status.code == StatusCode::Recovered as u8 {
            self.of_input(source).for_each(|known| known.leg.stale &= !DOUBTED);
        } else if status.code == StatusCode::SessionStart as u8 {
            // Every book is empty, and numbers may stand for other instruments.
            self.of_input(source).for_each(|known| (known.is_quoted, known.leg.stale) = (false, 0));
        } else if status.code == StatusCode::Clock as u8
            && let Some(bound) = self.bounds.get_mut(usize::from(source))
            && !bound.is_told
        {
            bound.ns = status.value;
        }
        None
    }

    fn write(&self, record: &Aligned, leg: usize, skew_ns: u64, row: &mut [u64]) {
        let (head, legs) = row.split_at_mut(ROW_WORDS);
        let (mut stale, mut largest, mut second) = (0, 0, 0);
        for (known, words) in self.legs.iter().zip(legs.chunks_exact_mut(LEG_WORDS)) {
            let bound_ns = self.bounds.get(usize::from(known.input)).map_or(UNKNOWN, |bound| bound.ns);
            second = bound_ns.min(largest).max(second);
            largest = largest.max(bound_ns);
            stale |= known.leg.stale;
            let leg = Leg { age_ns: self.newest.saturating_sub(known.key), bound_ns, ..known.leg };
            let leg: [u64; LEG_WORDS] = transmute!(leg);
            words.copy_from_slice(&leg);
        }
        let placed = &record.placed;
        let row = Row {
            ts: self.newest,
            skew_ns,
            bound_ns: u64::saturating_add(largest, second),
            held_ns: placed.held_ns,
            leg: leg as u8,
            late: placed.late,
            within: self.is_within(skew_ns).into(),
            released_by: placed.released_by,
            stale,
            reserved: [0; 3],
        };
        let row: [u64; ROW_WORDS] = transmute!(row);
        head.copy_from_slice(&row);
    }
}
