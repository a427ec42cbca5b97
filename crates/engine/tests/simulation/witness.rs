//! A venue that remembers everything, around the real one.

use barewire_book::Capacity;
use barewire_engine::counters::Counters;
use barewire_engine::nasdaq::{MoldUdp64, Nasdaq, Setup};
use barewire_engine::sink::{Publisher, Sink};
use barewire_engine::venue::{Context, Publish, Subscription, Venue};
use barewire_types::{Flags, NoPrefetch};

/// What the venue was told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A message of the stream.
    Message { sequence: u64, bytes: Vec<u8>, recovered: bool },
    /// A snapshot begins; it includes what is numbered below.
    Snapshot { next: u64 },
    /// The snapshot is complete.
    SnapshotEnd,
    /// A new session.
    Restart,
    /// Messages were lost.
    Doubt,
}

impl Seen {
    pub fn is_message(&self) -> bool {
        matches!(self, Seen::Message { .. })
    }
}

/// Remembers, and hands on.
pub struct Witness {
    pub log: Vec<Seen>,
    pub venue: Nasdaq<NoPrefetch>,
}

/// The real venue, with room for what is simulated here.
pub fn venue() -> Nasdaq<NoPrefetch> {
    let setup = Setup {
        publisher_id: 7,
        midnight_ns: 0,
        subscription: Subscription::All,
        publish: Publish { mbo: true, bbo: true },
        capacity: Capacity { instruments: 256, orders: 4096, levels: 4096 },
    };
    Nasdaq::new(setup, NoPrefetch).expect("memory")
}

impl Witness {
    pub fn new() -> Witness {
        Witness { log: Vec::new(), venue: venue() }
    }
}

impl Venue for Witness {
    type Framing = MoldUdp64;

    const LONGEST_MESSAGE: u16 = <Nasdaq<NoPrefetch> as Venue>::LONGEST_MESSAGE;

    fn look_ahead(&self, message: &[u8]) {
        self.venue.look_ahead(message);
    }

    fn touch(&self, message: &[u8]) {
        self.venue.touch(message);
    }

    fn apply<S: Sink>(&mut self, message: &[u8], context: &Context, out: &mut Publisher<S>, counters: &mut Counters) {
        if !context.flags.contains(Flags::SNAPSHOT) {
            let recovered = context.flags.contains(Flags::RECOVERED);
            self.log.push(Seen::Message { sequence: context.sequence, bytes: message.to_vec(), recovered });
        }
        self.venue.apply(message, context, out, counters);
    }

    fn restart<S: Sink>(&mut self, context: &Context, out: &mut Publisher<S>) {
        self.log.push(Seen::Restart);
        self.venue.restart(context, out);
    }

    fn doubt(&mut self) {
        self.log.push(Seen::Doubt);
        self.venue.doubt();
    }

    fn begin_snapshot<S: Sink>(&mut self, context: &Context, out: &mut Publisher<S>) {
        self.log.push(Seen::Snapshot { next: context.sequence });
        self.venue.begin_snapshot(context, out);
    }

    fn end_snapshot<S: Sink>(&mut self, context: &Context, out: &mut Publisher<S>) {
        self.log.push(Seen::SnapshotEnd);
        self.venue.end_snapshot(context, out);
    }

    fn maintain(&mut self, counters: &mut Counters) {
        self.venue.maintain(counters);
    }
}
