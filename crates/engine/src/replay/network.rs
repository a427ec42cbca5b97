//! A replay over a network that is not perfect: what the capture holds is what was sent.

use barewire_types::TsSource;
use barewire_types::{Seq, UnixNanos};
use barewire_wire::itch50::Prefix;
use barewire_wire::moldudp64::{Builder, Packet, Session};

use crate::live::Books;
use crate::pipeline::{Input, Pipeline, REPLIES};
use crate::recovery::Services;
use crate::sink::Memory;

/// Most bytes of a packet that is made of messages that had none.
const MAX_PAYLOAD: usize = 1_400;
/// The session of such packets.
const SESSION: Session = Session(*b"REPLAY0001");
/// How often the feed looks at its timers while it waits for something, ns of the capture's time.
const TICK_NS: u64 = 250_000;
/// How long the network is listened to when the capture is over, ns of its time: a packet may be under way for two minutes.
const LINGER_NS: u64 = 180_000_000_000;
/// When nothing has arrived for so long, the feed looks at its timers ever less often, ns: an hour in which nothing was sent
/// would take long, and a time that is wrong by years for ever.
const QUIET_NS: u64 = 60_000_000_000;
/// How many times it looks then until the quiet has lasted twice as long, or nearly so.
const QUIET_LOOKS: u64 = 256;

/// What lies between an exchange and a feed: lines that lose, repeat and delay, and servers behind them. Time is the
/// capture's.
pub trait Network: Services {
    /// The exchange sends a packet on a line.
    fn send(&mut self, line: u8, at: UnixNanos, payload: &[u8]);

    /// It is so late: requests are sent and answered by this time.
    fn tick(&mut self, now: UnixNanos);

    /// When the next packet arrives, if any is under way.
    fn next_arrival(&self) -> Option<UnixNanos>;

    /// The next packet that has arrived by `now`: its line ([`REPLIES`] for a server's reply), when, and its payload.
    fn arrive(&mut self, now: UnixNanos) -> Option<(u8, UnixNanos, &[u8])>;
}

/// A network, and what it needs to be fed from a capture.
pub(super) struct Way {
    network: Box<dyn Network + Send>,
    copies: u8,
    now: UnixNanos,
    /// The next number of messages that have none.
    next: u64,
    packet: Vec<u8>,
}

impl Way {
    pub(super) fn new(network: Box<dyn Network + Send>, copies: u8) -> Way {
        Way { network, copies, now: UnixNanos::ABSENT, next: 1, packet: vec![0; MAX_PAYLOAD] }
    }

    /// Sends a packet of the capture.
    pub(super) fn packet(&mut self, pipeline: &mut Pipeline<Books, Memory>, line: u8, at: UnixNanos, payload: &[u8]) {
        match Packet::parse(payload) {
            // Cut out of its session and renumbered: as it is, nobody could tell that one is missing.
            Ok(packet) if packet.sequence() == Seq(0) && packet.whole() > 0 => {
                self.pack(pipeline, packet.messages(), line, at)
            }
            _ => self.send(pipeline, line, at, payload),
        }
    }

    /// Sends messages of a file without packets; they carry their own time.
    pub(super) fn messages<'a>(
        &mut self,
        pipeline: &mut Pipeline<Books, Memory>,
        messages: impl Iterator<Item = &'a [u8]> + Clone,
        midnight_ns: u64,
    ) {
        let time = messages.clone().next().and_then(Prefix::of).map_or(0, |prefix| prefix.timestamp_ns());
        self.pack(pipeline, messages, 0, UnixNanos(midnight_ns.saturating_add(time).max(1)));
    }

    fn pack<'a>(
        &mut self,
        pipeline: &mut Pipeline<Books, Memory>,
        messages: impl Iterator<Item = &'a [u8]>,
        line: u8,
        at: UnixNanos,
    ) {
        let mut messages = messages.peekable();
        while messages.peek().is_some() {
            let mut packet = std::mem::take(&mut self.packet);
            let mut builder = Builder::new(&mut packet, SESSION, Seq(self.next));
            let mut taken = 0;
            while let Some(message) = messages.peek() {
                let Some(place) = builder.push(message.len()) else { break };
                place.copy_from_slice(message);
                messages.next();
                taken += 1;
            }
            let len = builder.finish();
            if taken == 0 {
                // Longer than any packet: nobody can send it. It is missing, and told so.
                messages.next();
                taken = 1;
            } else {
                self.send(pipeline, line, at, &packet[..len]);
            }
            self.next += taken;
            self.packet = packet;
        }
    }

    fn send(&mut self, pipeline: &mut Pipeline<Books, Memory>, line: u8, at: UnixNanos, payload: &[u8]) {
        // Captures may go back in time; a network does not.
        let at = at.max(self.now).max(UnixNanos(1));
        pipeline.join(payload, at);
        self.pass(pipeline, at);
        for copy in 0..self.copies.max(1) {
            let line = if self.copies > 1 { copy } else { line };
            self.network.send(line, at, payload);
        }
    }

    /// Time passes until `to`: what arrives until then is worked off, timers too.
    fn pass(&mut self, pipeline: &mut Pipeline<Books, Memory>, to: UnixNanos) {
        let mut quiet_since = self.now;
        loop {
            let quiet_ns = self.now.0.saturating_sub(quiet_since.0);
            let tick_ns = if quiet_ns < QUIET_NS { TICK_NS } else { quiet_ns / QUIET_LOOKS };
            let timer = if pipeline.is_waiting() { self.now.0.saturating_add(tick_ns) } else { u64::MAX };
            let arrival = self.network.next_arrival().map_or(u64::MAX, |at| at.0);
            let now = UnixNanos(timer.min(arrival));
            if now > to || now.0 == u64::MAX {
                break;
            }
            self.now = self.now.max(now);
            pipeline.compare_lines();
            self.network.tick(self.now);
            while let Some((line, at, payload)) = self.network.arrive(self.now) {
                quiet_since = self.now;
                let input =
                    Input { line, payload, ts_recv: at, ts_source: TsSource::Capture, seen: at, degraded: false };
                match line {
                    REPLIES => pipeline.reply(&input),
                    _ => pipeline.packet(&input),
                }
            }
            if pipeline.is_waiting() {
                pipeline.recover(self.now, true, &mut *self.network);
            }
        }
        self.now = self.now.max(to);
    }

    /// The capture is over: listens to what is still under way, and to what servers still bring.
    pub(super) fn drain(&mut self, pipeline: &mut Pipeline<Books, Memory>) {
        self.pass(pipeline, UnixNanos(self.now.0.saturating_add(LINGER_NS)));
    }
}
