//! How fast the parts are, on one core, with everything in memory.
//!
//! A run is cut into slices of some hundred microseconds. A slice that takes milliseconds longer than the median one lost
//! that time to somebody else (the host, another process): the run's share of such time is its `stolen`, and tells whether
//! the run can be believed.

use std::hint::black_box;
use std::time::Instant;

use barewire_io::memory::CachePrefetch;
use barewire_wire::binaryfile::{self, Records};
use barewire_wire::itch50::Message;

use crate::live::Books;
use crate::nasdaq::{Nasdaq, Setup};
use crate::pipeline::{Pipeline, Sequencing};
use crate::sink::{Discard, Sink};
use crate::venue::Publish;

pub mod handoff;
pub mod latency;
mod legacy;
mod legacy_tcp;
pub mod ring;

/// Messages of a slice.
const SLICE: usize = 4096;
/// A slice that takes this much longer than the median was interrupted, ns.
const INTERRUPTED_NS: u64 = 1_000_000;

/// Messages in memory, framed as a BinaryFILE, and where its slices begin.
pub struct Messages {
    bytes: Vec<u8>,
    slices: Vec<usize>,
    count: u64,
}

impl Messages {
    /// Takes whole records; what follows the last whole one is left out.
    pub fn new(bytes: Vec<u8>) -> Messages {
        let mut slices = vec![0];
        let mut count = 0u64;
        let mut records = binaryfile::records(&bytes);
        while records.next().is_some() {
            count += 1;
            if count.is_multiple_of(SLICE as u64) {
                slices.push(bytes.len() - records.rest().len());
            }
        }
        slices.push(bytes.len() - records.rest().len());
        Messages { bytes, slices, count }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The messages, slice by slice.
    fn slices(&self) -> impl Iterator<Item = Records<'_>> {
        self.slices.windows(2).map(|ends| binaryfile::records(&self.bytes[ends[0]..ends[1]]))
    }
}

/// What one pass over the messages took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Messages worked off.
    pub messages: u64,
    /// Time it took, ns.
    pub elapsed_ns: u64,
    /// Part of that time in which the core did something else, ns.
    pub stolen_ns: u64,
}

impl Run {
    fn measure<'a>(messages: &'a Messages, mut work: impl FnMut(Records<'a>)) -> Run {
        let mut slices = Vec::with_capacity(messages.slices.len());
        let began = Instant::now();
        let mut last = began;
        for slice in messages.slices() {
            work(slice);
            let now = Instant::now();
            slices.push((now - last).as_nanos() as u64);
            last = now;
        }
        Run { messages: messages.count, elapsed_ns: (last - began).as_nanos() as u64, stolen_ns: stolen(&mut slices) }
    }

    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 * 1e9 / self.elapsed_ns.max(1) as f64
    }
}

/// The time by which interrupted slices took longer than the median one.
fn stolen(slices: &mut [u64]) -> u64 {
    if slices.is_empty() {
        return 0;
    }
    let middle = slices.len() / 2;
    let median = *slices.select_nth_unstable(middle).1;
    slices.iter().map(|ns| ns.saturating_sub(median)).filter(|excess| *excess >= INTERRUPTED_NS).sum()
}

/// Decodes every message and reads every field of it.
pub fn decode(messages: &Messages) -> Run {
    let mut sum = 0u64;
    let run = Run::measure(messages, |slice| {
        for bytes in slice {
            if let Ok(fields) = Message::dispatch(bytes, |message| message.sum()) {
                sum = sum.wrapping_add(fields);
            }
        }
    });
    black_box(sum);
    run
}

/// Builds every book, again and again, from empty.
pub struct BookBench<S> {
    pipeline: Pipeline<Books, S>,
    peak_live_orders: usize,
}

impl BookBench<Discard> {
    /// Books that nobody is told of.
    pub fn silent(setup: Setup) -> Option<Self> {
        Self::new(Setup { publish: Publish { mbo: false, bbo: false }, ..setup }, Discard)
    }
}

impl<S: Sink> BookBench<S> {
    /// Books whose records go to `sink`. `None` where there is no memory for them.
    pub fn new(setup: Setup, sink: S) -> Option<Self> {
        let books = Nasdaq::new(setup, CachePrefetch).ok()?;
        crate::live::advise_huge(&books);
        Some(BookBench { pipeline: Pipeline::new(books, sink, 0, Sequencing::default()), peak_live_orders: 0 })
    }

    /// Empties the books, for another pass.
    pub fn reset(&mut self) {
        self.pipeline.venue_mut().empty();
    }

    /// One pass over the messages; the books should be empty before it.
    pub fn run(&mut self, messages: &Messages) -> Run {
        let mut place = 1;
        Run::measure(messages, |slice| {
            self.pipeline.unframed(slice, place);
            place += SLICE as u64;
            self.peak_live_orders = self.peak_live_orders.max(self.pipeline.venue().books().len());
        })
    }

    /// Live orders after the last pass.
    pub fn live_orders(&self) -> usize {
        self.pipeline.venue().books().len()
    }

    /// The most live orders at any slice's end.
    pub fn peak_live_orders(&self) -> usize {
        self.peak_live_orders
    }

    /// Bytes of the books' tables.
    pub fn bytes(&self) -> usize {
        self.pipeline.venue().books().regions().map(<[u8]>::len).sum()
    }

    /// What became of the messages.
    pub fn counters(&mut self) -> &crate::counters::Counters {
        self.pipeline.counters()
    }
}
