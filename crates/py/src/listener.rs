//! A feed without its surroundings, as one of the simulator's sinks: what a strategy would see of what the network leaves.

use std::sync::{Arc, Mutex, PoisonError};

use barewire_book::OutOfMemory;
use barewire_engine::counters::Counter;
use barewire_engine::digest::EventsDigest;
use barewire_engine::live::Books;
use barewire_engine::nasdaq::{Nasdaq, Setup, WHOLE_VENUE};
use barewire_engine::pipeline::{Input, Pipeline, Sequencing};
use barewire_engine::recovery::NoServices;
use barewire_engine::sink::Sink as Records;
use barewire_engine::venue::{Publish, Subscription};
use barewire_io::memory::CachePrefetch;
use barewire_sim::{Line, SimPacket, Sink, SinkError};
use barewire_types::{Record, TsSource, UnixNanos};

/// What came of a session.
#[derive(Clone, Copy, Debug)]
pub struct Digests {
    /// Of the events in order, as [`Replay`](barewire_engine::replay::Replay) has it.
    pub events: u128,
    /// Of the final books.
    pub books: u128,
    /// Messages that never came.
    pub missing: u64,
}

/// Where they will be, once the session is over.
pub type Findings = Arc<Mutex<Option<Digests>>>;

/// Digests events and keeps none.
#[derive(Default)]
struct Digesting(EventsDigest);

impl Records for Digesting {
    fn publish(&mut self, record: Record) {
        self.0.take(&record);
    }

    fn name_instrument(&mut self, _instrument_id: u32, _symbol: &[u8]) -> bool {
        true
    }
}

/// Works off the session's packets as a replay of them would, without anybody to ask for what is missing.
pub struct Listener {
    pipeline: Pipeline<Books, Digesting>,
    /// Filled in at the session's end; the sink itself is out of reach by then.
    found: Findings,
}

impl Listener {
    /// A listener that has heard nothing, and where its findings will be.
    pub fn new(midnight_ns: u64) -> Result<(Listener, Findings), OutOfMemory> {
        let setup = Setup {
            publisher_id: 0,
            midnight_ns,
            subscription: Subscription::All,
            publish: Publish { mbo: true, bbo: true },
            capacity: WHOLE_VENUE,
        };
        let books = Nasdaq::new(setup, CachePrefetch)?;
        let sequencing = Sequencing { from_file: true, ..Sequencing::default() };
        let found = Findings::default();
        let pipeline = Pipeline::new(books, Digesting::default(), 0, sequencing);
        Ok((Listener { pipeline, found: Arc::clone(&found) }, found))
    }
}

impl Sink for Listener {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        for packet in packets {
            let line = u8::from(packet.line == Line::B);
            let (payload, ts_recv) = (packet.payload, packet.time);
            self.pipeline.look_at_lines(ts_recv);
            let ts_source = TsSource::Capture;
            self.pipeline.packet(&Input { line, payload, ts_recv, ts_source, seen: ts_recv, degraded: false });
            if self.pipeline.is_waiting() {
                self.pipeline.recover_by_lines(ts_recv, &mut NoServices);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let last = UnixNanos(self.pipeline.counters().get(Counter::LastPacketTime));
        self.pipeline.flush(last);
        let missing = self.pipeline.counters().get(Counter::MessagesMissing);
        let books = self.pipeline.venue().books().digest();
        let events = self.pipeline.sink_mut().0.value();
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(Digests { events, books, missing });
        Ok(())
    }
}
