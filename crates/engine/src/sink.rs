//! Where records go: a ring when live, memory when a file is replayed.

use barewire_book::Top;
use barewire_ring::Producer;
use barewire_types::{Flags, Record};

use crate::native::Native;

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
/// packet has been worked off. Where there is a callback, the record's top is held as well: the book has moved on by then.
pub struct Publisher<S> {
    sink: S,
    held: Option<Record>,
    published: u64,
    called: Option<Box<Called>>,
}

/// A callback, and what it is to be called with: the held record, and what its book looked like.
struct Called {
    native: Native,
    next: Option<(Record, Top)>,
}

impl<S: Sink> Publisher<S> {
    /// A publisher into `sink`.
    pub fn new(sink: S) -> Self {
        Publisher { sink, held: None, published: 0, called: None }
    }

    /// From here on, every record that has gone out is handed to a callback as well.
    pub fn call(&mut self, native: Native) {
        self.called = Some(Box::new(Called { native, next: None }));
    }

    /// There are no more records to call for.
    pub fn end_calls(&mut self) {
        if let Some(called) = &mut self.called {
            called.native.end();
        }
    }

    /// The callback, if there is one.
    pub fn native(&self) -> Option<&Native> {
        self.called.as_ref().map(|called| &called.native)
    }

    /// Takes a record of the whole feed; the one before goes out.
    pub fn push(&mut self, record: impl Into<Record>) {
        self.push_of(record, || Top::EMPTY);
    }

    /// Takes a record of an instrument, and a way to ask for the top of its book; the one before goes out.
    #[inline(always)]
    pub fn push_of(&mut self, record: impl Into<Record>, top: impl FnOnce() -> Top) {
        if let Some(before) = self.held.replace(record.into()) {
            self.publish(before);
        }
        if self.called.is_some() {
            self.pushed(top());
        }
    }

    /// The packet is worked off: its last record goes out, marked as such.
    #[inline(always)]
    pub fn end_of_packet(&mut self) {
        if let Some(last) = self.held.take() {
            self.publish(last.with_flags(Flags::LAST));
            if self.called.is_some() {
                self.call_for(Flags::LAST);
            }
        }
    }

    #[inline(always)]
    fn publish(&mut self, record: Record) {
        self.published += 1;
        self.sink.publish(record);
    }

    /// Calls for the record that has gone out, and notes what is held now. Out of the way of feeds without a callback: theirs
    /// is one branch a record.
    #[cold]
    #[inline(never)]
    fn pushed(&mut self, top: Top) {
        self.call_for(Flags::NONE);
        if let Some(called) = &mut self.called {
            called.next = self.held.map(|record| (record, top));
        }
    }

    /// Calls for the record that has just gone out: other readers do not wait for the callback.
    #[cold]
    #[inline(never)]
    fn call_for(&mut self, flags: Flags) {
        if let Some(called) = &mut self.called
            && let Some((record, top)) = called.next.take()
        {
            called.native.call(&record.with_flags(flags), &top);
        }
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
