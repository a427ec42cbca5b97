//! Where records go: a ring when live, memory when a file is replayed.

use barewire_ring::Producer;
use barewire_types::{Flags, Record};

/// Takes records in order.
pub trait Sink {
    /// Takes one record. A few stores; never waits.
    fn publish(&mut self, record: Record);

    /// Takes note of an instrument's symbol. `false` when there was no room. Rare: once an instrument and session.
    fn name_instrument(&mut self, instrument_id: u32, symbol: &[u8]) -> bool;
}

impl Sink for Producer {
    #[inline(always)]
    fn publish(&mut self, record: Record) {
        Producer::publish(self, record);
    }

    fn name_instrument(&mut self, instrument_id: u32, symbol: &[u8]) -> bool {
        self.add_instrument(instrument_id, symbol).is_ok()
    }
}

/// Records kept in memory, for replays and tests.
#[derive(Debug, Default)]
pub struct Memory {
    /// The records since the last `clear`.
    pub records: Vec<Record>,
}

impl Sink for Memory {
    #[inline]
    fn publish(&mut self, record: Record) {
        self.records.push(record);
    }

    fn name_instrument(&mut self, _instrument_id: u32, _symbol: &[u8]) -> bool {
        true
    }
}

/// Takes records and keeps nothing, for benchmarks of what comes before.
#[derive(Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    #[inline(always)]
    fn publish(&mut self, record: Record) {
        std::hint::black_box(record);
    }

    fn name_instrument(&mut self, _instrument_id: u32, _symbol: &[u8]) -> bool {
        true
    }
}

/// Holds the latest record back until it is known whether it is its packet's last: that one carries [`Flags::LAST`].
///
/// The delay is the time to the next record of the same packet, a few nanoseconds; the last record goes out when its
/// packet has been worked off.
#[derive(Debug)]
pub struct Publisher<S> {
    sink: S,
    held: Option<Record>,
    published: u64,
}

impl<S: Sink> Publisher<S> {
    /// A publisher into `sink`.
    pub fn new(sink: S) -> Self {
        Publisher { sink, held: None, published: 0 }
    }

    /// Takes a record; the one before goes out.
    #[inline(always)]
    pub fn push(&mut self, record: impl Into<Record>) {
        if let Some(before) = self.held.replace(record.into()) {
            self.publish(before);
        }
    }

    /// The packet is worked off: its last record goes out, marked as such.
    #[inline(always)]
    pub fn end_of_packet(&mut self) {
        if let Some(last) = self.held.take() {
            self.publish(last.with_flags(Flags::LAST));
        }
    }

    #[inline(always)]
    fn publish(&mut self, record: Record) {
        self.published += 1;
        self.sink.publish(record);
    }

    /// How many records have gone out.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// The sink.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// The sink, to be read from or cleared.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }
}
