//! What a seed stands for: sessions, how they are packed and sent, what the network and the servers do to them, and how the
//! feed is set up.

use barewire_engine::pipeline::Sequencing;
use barewire_line::{RecoveryConfig, Requests, Snapshots};
use barewire_sim::recovery::Fault;
use barewire_sim::{Exchange, ExchangeConfig, Impairment, Length, LossBurst, MAX_MESSAGE_LEN, SiteConfig};
use barewire_types::{Seq, UnixNanos};
use barewire_wire::moldudp64::{Builder, Session, end_of_session, heartbeat};

const MS: u64 = 1_000_000;
const MAX_PAYLOAD: usize = 1_400;

/// SplitMix64: a seed's stream of numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `from` to before `to`.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.within(0, times) == 0
    }

    /// A number up to `most`, small ones more often.
    fn chance(&mut self, most: f64) -> f64 {
        let unit = self.within(0, 1 << 20) as f64 / (1 << 20) as f64;
        unit * unit * most
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.within(0, of.len() as u64) as usize].clone()
    }
}

/// A packet as it leaves the venue.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: UnixNanos,
    pub line: u8,
    pub payload: Vec<u8>,
}

/// One seed.
pub struct Schedule {
    /// Every message of each session, from number 1.
    pub sessions: Vec<Vec<Vec<u8>>>,
    pub packets: Vec<Sent>,
    pub site: SiteConfig,
    pub sequencing: Sequencing,
    /// Whether nothing but the lines is wrong, and everything can be had again.
    pub is_recoverable: bool,
}

impl std::fmt::Debug for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schedule")
            .field("sessions", &self.sessions.iter().map(Vec::len).collect::<Vec<_>>())
            .field("packets", &self.packets.len())
            .field("site", &self.site)
            .field("sequencing", &self.sequencing)
            .field("is_recoverable", &self.is_recoverable)
            .finish()
    }
}

impl Schedule {
    pub fn of(seed: u64) -> Schedule {
        let mut random = Random::new(seed);
        // A third of all seeds: bad lines, good servers, and a feed that is set up for them.
        let is_recoverable = random.once_in(3);
        let lines = random.within(1, 4);
        let sessions: Vec<Vec<Vec<u8>>> =
            (0..random.within(1, 4)).map(|n| messages(&mut random, seed ^ n << 40, n as u8)).collect();
        let mut packets = Vec::new();
        let mut at = UnixNanos(MS);
        let mut name = 0;
        for (number, messages) in sessions.iter().enumerate() {
            let same_name = number > 0 && random.once_in(3);
            name += u64::from(!same_name);
            let session = Session(format!("SESS{name:06}").as_bytes().try_into().expect("ten"));
            // Under the same name, or without an end, only silence tells one session from the next.
            let ends = random.once_in(2);
            at = send(&mut random, messages, session, lines, at, (ends, is_recoverable), &mut packets);
            at.0 += if is_recoverable || !ends { 4_000 * MS } else { random.pick(&[10, 100, 4_000]) * MS };
            if number + 1 < sessions.len() {
                at.0 += 4_000 * MS;
            }
        }
        packets.sort_by_key(|packet| packet.at);
        let span = packets.last().map_or(1, |packet| packet.at.0);
        let site = SiteConfig {
            lines: (0..lines).map(|_| impairment(&mut random, span, is_recoverable)).collect(),
            service: Impairment {
                loss: if is_recoverable { 0.0 } else { random.chance(0.5) },
                duplicate: random.chance(0.2),
                delay_ns: random.within(1_000, 300_000),
                jitter_ns: random.within(0, MS),
                ..Impairment::default()
            },
            rerequest: (0..random.within(u64::from(is_recoverable), 3))
                .map(|_| fault(&mut random, is_recoverable))
                .collect(),
            snapshot: (0..random.within(0, 3)).map(|_| fault(&mut random, is_recoverable)).collect(),
            max_payload: random.pick(&[100, 500, MAX_PAYLOAD]),
            store_bytes: if is_recoverable { 64 << 20 } else { random.pick(&[1, 40_000, 64 << 20]) },
            seed,
        };
        let recovery = RecoveryConfig {
            requests: (!site.rerequest.is_empty()).then(|| Requests {
                servers: site.rerequest.len() as u8,
                max_messages: random.within(1, 300) as u16,
                per_second: if is_recoverable { 100_000 } else { random.within(10, 20_000) as u32 },
                // Longer than the way there and back, where everything is to be recovered.
                timeout_ns: random.within(if is_recoverable { 4 } else { 1 }, 10) * MS,
                attempts: random.within(1, 4) as u8,
                give_up_ns: if is_recoverable { 1 << 50 } else { random.within(1, 200) * MS },
                max_gap: if is_recoverable { 1 << 20 } else { random.within(1, 2_000) },
            }),
            snapshots: (!site.snapshot.is_empty()).then(|| Snapshots {
                servers: site.snapshot.len() as u8,
                attempts: random.within(1, 4) as u8,
                retry_ns: random.pick(&[0, 5 * MS, 100 * MS]),
            }),
        };
        let sequencing = Sequencing {
            hold_ns: random.within(0, 4 * MS),
            capacity: if is_recoverable { 8_192 } else { random.pick(&[64, 512, 8_192]) },
            from_file: false,
            lines: lines as usize,
            line_timeout_ns: random.pick(&[0, 3 * MS, 3_000 * MS]),
            recovery,
        };
        Schedule { sessions, packets, site, sequencing, is_recoverable }
    }
}

/// A session's messages: an exchange's, and between them empty ones and some of no known type. Each that is not empty says in
/// its tracking number which session it is of.
fn messages(random: &mut Random, seed: u64, session: u8) -> Vec<Vec<u8>> {
    let config = ExchangeConfig {
        seed,
        instruments: random.within(1, 20) as u32,
        live_orders: random.within(64, 300) as u32,
        length: Length::Messages(random.within(20, 900)),
        ..ExchangeConfig::default()
    };
    let mut exchange = Exchange::new(config).expect("a right configuration");
    let mut messages = Vec::new();
    let mut buffer = [0; MAX_MESSAGE_LEN];
    while let Some(message) = exchange.next(&mut buffer) {
        messages.push(message.to_vec());
        if random.once_in(40) {
            messages.push(vec![b'?'; if random.once_in(3) { 0 } else { random.within(5, 50) as usize }]);
        }
    }
    messages.iter_mut().filter_map(|message| message.get_mut(4)).for_each(|tracking| *tracking = session);
    messages
}

/// Sends a session on every line, each with cuts of its own. When it is over.
fn send(
    random: &mut Random,
    messages: &[Vec<u8>],
    session: Session,
    lines: u64,
    begin: UnixNanos,
    (ends, is_recoverable): (bool, bool),
    packets: &mut Vec<Sent>,
) -> UnixNanos {
    // When each message is due: as quickly as 1 us, with pauses that heartbeats fill.
    let pace = random.within(1, 30) * 1_000;
    let mut due = Vec::with_capacity(messages.len());
    let mut at = begin.0;
    for _ in messages {
        at += random.within(0, 2 * pace) + if random.once_in(300) { random.within(0, 20) * MS } else { 0 };
        due.push(at);
    }
    let end = messages.len() as u64 + 1;
    for line in 0..lines as u8 {
        let per_packet = random.within(1, 40);
        let mut push = |at: u64, payload: &[u8]| {
            packets.push(Sent { at: UnixNanos(at), line, payload: payload.to_vec() });
        };
        let (mut first, mut last_at) = (0, begin.0);
        while first < messages.len() {
            let mut buffer = [0; MAX_PAYLOAD];
            let mut builder = Builder::new(&mut buffer, session, Seq(first as u64 + 1));
            let mut next = first;
            // What is to be sent later than now may not go now: a packet leaves when its last message is due.
            for message in messages[first..].iter().take(1 + random.within(0, per_packet) as usize) {
                let Some(place) = builder.push(message.len()) else { break };
                place.copy_from_slice(message);
                next += 1;
            }
            let len = builder.finish();
            let at = due[next - 1];
            // Heartbeats of an idle line, one in two milliseconds.
            while at - last_at > 2 * MS {
                last_at += 2 * MS;
                push(last_at, &heartbeat(session, Seq(first as u64 + 1)));
            }
            push(at, &buffer[..len]);
            (first, last_at) = (next, at);
        }
        // So many that no line loses all of them, where everything is to be recovered.
        for n in 1..=if is_recoverable { 60 } else { 10 } {
            let bare = if ends { end_of_session(session, Seq(end)) } else { heartbeat(session, Seq(end)) };
            push(at + n * 2 * MS, &bare);
        }
    }
    UnixNanos(at + 20 * MS)
}

fn impairment(random: &mut Random, span: u64, is_recoverable: bool) -> Impairment {
    if random.once_in(5) {
        return Impairment::default();
    }
    let burst =
        LossBurst { enter: random.chance(0.1), leave: 0.05 + random.chance(0.9), loss: 0.5 + random.chance(0.5) };
    let dead_from = random.within(0, span);
    Impairment {
        loss: random.chance(0.5),
        burst: random.once_in(3).then_some(burst),
        duplicate: random.chance(0.3),
        reorder: random.chance(0.3),
        reorder_by: random.within(1, 20) as u32,
        delay_ns: random.pick(&[0, 1_000, 200_000, 5 * MS]),
        jitter_ns: random.pick(&[0, 1_000, 50_000, 2 * MS]),
        drop: Vec::new(),
        // All lines at once, often enough.
        dead: if !is_recoverable && random.once_in(3) {
            std::iter::once(dead_from..dead_from + random.within(1, 50) * MS).collect()
        } else {
            vec![]
        },
    }
}

fn fault(random: &mut Random, is_recoverable: bool) -> Fault {
    if is_recoverable {
        return Fault::None;
    }
    let slow = Fault::Slow { delay_ns: random.within(0, 20) * MS };
    random.pick(&[Fault::None, Fault::None, Fault::None, slow, Fault::Partial, Fault::Silent, Fault::Wrong])
}
