//! Any bytes as what hostile lines and servers send, and when: packets, replies, snapshots and the passing of time.
//!
//! Whatever it is, messages are delivered in order and once, every number between them is in a gap that was told, every
//! packet and message is in exactly one counter, and no more is held than there is room for.
#![no_main]

use std::collections::VecDeque;

use barewire_engine::counters::{Counter, Counters};
use barewire_engine::nasdaq::MoldUdp64;
use barewire_engine::pipeline::{Input, Pipeline, REPLIES, Sequencing};
use barewire_engine::recovery::{FetchError, Services, Snapshot};
use barewire_engine::sink::{Publisher, Sink};
use barewire_engine::venue::{Context, Venue};
use barewire_line::{RecoveryConfig, Requests, Snapshots};
use barewire_types::{Flags, Gap, GapReason, Record, RecordKind, Seq, TsSource, UnixNanos};
use barewire_wire::moldudp64::{Builder, Session, end_of_session, heartbeat};
use libfuzzer_sys::fuzz_target;

const CAPACITY: u32 = 16;
const LONGEST: u16 = 8;

/// Takes small numbers off the input.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    /// A number near `around`, or any.
    fn number(&mut self, around: u64) -> u64 {
        let by = self.byte();
        match by {
            250.. => u64::from_be_bytes(std::array::from_fn(|_| self.byte())),
            240..250 => around.wrapping_add(u64::from(by - 240) << 3),
            _ => around.wrapping_add(u64::from(by)).wrapping_sub(120),
        }
    }
}

/// Checks the order of what it is told.
#[derive(Default)]
struct Order {
    /// The next number, and how many were passed over since the last gap was told.
    next: u64,
    passed: u64,
    begun: bool,
}

impl Venue for Order {
    type Framing = MoldUdp64;

    const LONGEST_MESSAGE: u16 = LONGEST;

    fn look_ahead(&self, _message: &[u8]) {}

    fn touch(&self, _message: &[u8]) {}

    fn apply<S: Sink>(&mut self, _message: &[u8], context: &Context, _: &mut Publisher<S>, counters: &mut Counters) {
        counters.bump(Counter::MessagesBook);
        if context.flags.contains(Flags::SNAPSHOT) {
            assert_eq!(context.sequence, self.next);
            return;
        }
        assert!(!self.begun || context.sequence >= self.next, "{} after {}", context.sequence, self.next);
        if self.begun {
            self.passed = self.passed.saturating_add(context.sequence - self.next);
        }
        self.begun = true;
        self.next = context.sequence + 1;
    }

    fn restart<S: Sink>(&mut self, _context: &Context, _out: &mut Publisher<S>) {
        self.begun = false;
    }

    fn doubt(&mut self) {}

    fn begin_snapshot<S: Sink>(&mut self, context: &Context, _out: &mut Publisher<S>) {
        assert!(!self.begun || context.sequence >= self.next);
        if self.begun {
            self.passed = self.passed.saturating_add(context.sequence - self.next);
        }
        self.begun = true;
        self.next = context.sequence;
    }

    fn end_snapshot<S: Sink>(&mut self, _context: &Context, _out: &mut Publisher<S>) {}

    fn maintain(&mut self, _counters: &mut Counters) {}
}

/// Sums up the gaps.
#[derive(Default)]
struct Gaps {
    told: u64,
}

impl Sink for Gaps {
    fn publish(&mut self, record: Record) {
        if record.kind() == Some(RecordKind::Gap) {
            let gap = Gap::from(record);
            assert!(gap.count > 0 && gap.sequence.checked_add(gap.count).is_some());
            assert!((GapReason::SequenceJump as u8..=GapReason::Snapshot as u8).contains(&gap.reason));
            self.told = self.told.saturating_add(gap.count);
        }
    }

    fn name_instrument(&mut self, _instrument_id: u32, _symbol: &[u8]) -> bool {
        true
    }
}

/// Servers that say what the input says.
#[derive(Default)]
struct Servers {
    requests: u64,
    tickets: VecDeque<u64>,
    results: VecDeque<(u64, Result<Snapshot, FetchError>)>,
}

impl Services for Servers {
    fn request(&mut self, server: u8, packet: &[u8]) {
        assert!(server < 2 && packet.len() == 20);
        self.requests += 1;
    }

    fn fetch(&mut self, ticket: u64, server: u8) {
        assert!(server < 2);
        self.tickets.push_back(ticket);
    }

    fn fetched(&mut self) -> Option<(u64, Result<Snapshot, FetchError>)> {
        self.results.pop_front()
    }

    fn give_back(&mut self, _snapshot: Snapshot) {}
}

fn packet(bytes: &mut Bytes<'_>, next: u64) -> Vec<u8> {
    let session = Session([b"AAAAAAAAAB"[usize::from(bytes.byte() % 10)]; 10]);
    // A file's packets numbered 0 are taken as they come, in no order.
    let sequence = Seq(bytes.number(next).max(1));
    match bytes.byte() {
        0..8 => heartbeat(session, sequence).to_vec(),
        8..12 => end_of_session(session, sequence).to_vec(),
        12..16 => {
            let mut any: Vec<u8> = (0..bytes.byte()).map(|_| bytes.byte()).collect();
            any.get_mut(17).into_iter().for_each(|low| *low |= 1);
            any
        }
        kind => {
            let mut out = vec![0; 400];
            let mut builder = Builder::new(&mut out, session, sequence);
            for _ in 0..kind % 24 {
                // Now and then one that is too long to be held.
                let len = usize::from(bytes.byte() % 10);
                let Some(place) = builder.push(len) else { break };
                place.fill(kind);
            }
            let len = builder.finish();
            out.truncate(len);
            out
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    let setup = bytes.byte();
    let requests = Requests {
        servers: 2,
        max_messages: 1 + u16::from(bytes.byte() % 20),
        per_second: 1 + u32::from(bytes.byte()) * 100,
        timeout_ns: 2_000,
        attempts: 2,
        give_up_ns: 50_000,
        max_gap: u64::from(bytes.byte()),
    };
    let snapshots = Snapshots { servers: 2, attempts: 2, retry_ns: u64::from(setup >> 4) * 1_000 };
    let sequencing = Sequencing {
        hold_ns: 1_000,
        capacity: CAPACITY,
        from_file: setup & 4 != 0,
        lines: 2,
        line_timeout_ns: 100_000,
        recovery: RecoveryConfig {
            requests: (setup & 1 != 0).then_some(requests),
            snapshots: (setup & 2 != 0).then_some(snapshots),
        },
    };
    let mut feed = Pipeline::new(Order::default(), Gaps::default(), 1, sequencing);
    let mut servers = Servers::default();
    let mut now = UnixNanos(1);
    while let Some(what) = bytes.next() {
        let next = feed.counters().get(Counter::NextSequence);
        match what {
            0..140 => {
                let payload = packet(&mut bytes, next);
                // Lines beyond the last, too.
                feed.packet(&Input {
                    line: what % 10,
                    payload: &payload,
                    ts_recv: now,
                    ts_source: TsSource::User,
                    seen: now,
                    degraded: false,
                });
            }
            140..180 => {
                let payload = packet(&mut bytes, next);
                feed.reply(&Input {
                    line: REPLIES,
                    payload: &payload,
                    ts_recv: now,
                    ts_source: TsSource::User,
                    seen: now,
                    degraded: false,
                });
            }
            180..200 => {
                if let Some(ticket) = servers.tickets.pop_front() {
                    let count = u64::from(bytes.byte());
                    let snapshot = Snapshot {
                        messages: [0, 3, 1, 2, 3].repeat(count as usize),
                        count,
                        next: Seq(bytes.number(next)),
                    };
                    let result = if what % 4 == 0 { Err(FetchError::Closed) } else { Ok(snapshot) };
                    servers.results.push_back((ticket, result));
                }
            }
            // The clock goes on, stops, or is set back.
            200..230 => now = UnixNanos(now.0 + (u64::from(what - 200) << 8)),
            230..234 => now = UnixNanos(now.0 + 4_000_000_000),
            234 => now = UnixNanos(now.0 / 2 + 1),
            235 => now = UnixNanos::ABSENT,
            236 => feed.flush(now),
            _ => feed.recover(now, what % 2 == 0, &mut servers),
        }
        feed.look_at_lines(now);
        let counters = feed.counters();
        assert_eq!(counters.check(), Ok(()));
        assert!(counters.get(Counter::MessagesHeld) <= u64::from(CAPACITY));
    }
    feed.flush(now);
    assert_eq!(feed.counters().check(), Ok(()));
    assert_eq!(feed.counters().get(Counter::MessagesHeld), 0);
    let (passed, told) = (feed.venue().passed, feed.sink_mut().told);
    assert!(passed <= told, "{passed} numbers were passed over, and {told} told to be missing");
});
