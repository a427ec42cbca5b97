//! Sending lost messages again.
//!
//! "MoldUDP64 Protocol Specification", Nasdaq, version 1.00: a request names a session, a number and a count. The answer
//! is an ordinary downstream packet to whoever asked, with as many of the messages as fit into one; the rest is asked for
//! again. A server that does not have the first one, or not the session, says nothing.
//!
//! Requests come from anybody, and their sender's address may be a lie: there is at most one packet for each, and none for
//! what is no request.

use barewire_wire::frame::MAX_PAYLOAD_LEN;
use barewire_wire::moldudp64::{HEADER_LEN, Header, Request, Session};
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U16, U64};

use super::Fault;
use super::store::Store;
use crate::exchange::Random;

/// What became of the requests: each ends in exactly one of the counters but `requests` and `messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RerequestCounters {
    /// Packets that came.
    pub requests: u64,
    /// Requests that were answered, rightly or, as a fault demands, wrongly.
    pub answered: u64,
    /// Messages in the answers.
    pub messages: u64,
    /// Requests whose first message is not there any more, or not yet, or does not fit.
    pub unavailable: u64,
    /// Requests for another session.
    pub other_session: u64,
    /// Requests for no messages, which have the shape of a heartbeat.
    pub empty: u64,
    /// Packets that are no requests.
    pub malformed: u64,
    /// Requests that a silent server left unanswered.
    pub withheld: u64,
}

/// Answers requests, one by one. Needs neither clock nor socket: who uses it sends the answers, and those of a
/// [slow](Fault::Slow) one as much later.
///
/// ```
/// use barewire_sim::recovery::{Fault, Rerequests, Store};
/// use barewire_types::Seq;
/// use barewire_wire::moldudp64::{Builder, Packet, Request, Session};
///
/// let session = Session(*b"SIM0000001");
/// let mut packet = [0; 64];
/// let mut builder = Builder::new(&mut packet, session, Seq(1));
/// for message in [b"one", b"two", b"six"] {
///     builder.push(3).unwrap().copy_from_slice(message);
/// }
/// let len = builder.finish();
/// let store = Store::new(1 << 20);
/// store.take([&packet[..len]]);
///
/// let mut server = Rerequests::new(Fault::None, 1_400, 1);
/// let mut reply = Vec::new();
/// let request = Request { session, sequence: Seq(2), count: 10 };
/// assert!(server.answer(&store, &request.encode(), &mut reply));
/// assert!(Packet::parse(&reply)?.messages().eq([b"two", b"six"]));
/// # Ok::<(), barewire_wire::moldudp64::MoldError>(())
/// ```
#[derive(Debug)]
pub struct Rerequests {
    fault: Fault,
    max_payload: usize,
    random: Random,
    /// Answers that a wrong server has given.
    turn: u32,
    counters: RerequestCounters,
}

impl Rerequests {
    /// A server that has heard nothing. Its packets' payloads have at most `max_payload` bytes; the seed decides what its
    /// fault leaves to chance.
    pub fn new(fault: Fault, max_payload: usize, seed: u64) -> Rerequests {
        let max_payload = max_payload.clamp(HEADER_LEN, MAX_PAYLOAD_LEN);
        Rerequests { fault, max_payload, random: Random::new(seed), turn: 0, counters: RerequestCounters::default() }
    }

    /// How much later than at once the answers are to be sent, ns.
    pub fn delay_ns(&self) -> u64 {
        self.fault.delay_ns()
    }

    /// What became of the requests.
    pub fn counters(&self) -> RerequestCounters {
        self.counters
    }

    /// Takes a packet that came. Whether `out`, which is emptied first, holds an answer to it.
    pub fn answer(&mut self, store: &Store, request: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        self.counters.requests += 1;
        let outcome = match Request::parse(request) {
            Err(_) => &mut self.counters.malformed,
            Ok(request) if request.count == 0 => &mut self.counters.empty,
            Ok(_) if self.fault == Fault::Silent => &mut self.counters.withheld,
            Ok(request) if self.fault == Fault::Wrong => {
                self.wrong(store, &request, out);
                &mut self.counters.answered
            }
            Ok(request) => match self.reply(store, &request, out) {
                0 if store.session() != Some(request.session) => &mut self.counters.other_session,
                0 => &mut self.counters.unavailable,
                count => {
                    self.counters.messages += u64::from(count);
                    &mut self.counters.answered
                }
            },
        };
        *outcome += 1;
        !out.is_empty()
    }

    /// Room for blocks.
    fn room(&self) -> usize {
        self.max_payload - HEADER_LEN
    }

    /// Writes the packet with the messages asked for, as far as they fit, and says how many; nothing for none.
    fn reply(&mut self, store: &Store, request: &Request, out: &mut Vec<u8>) -> u16 {
        let Request { session, sequence, count } = *request;
        out.resize(HEADER_LEN, 0);
        let mut count = store.read(session, sequence.0, count, self.room(), out);
        if self.fault == Fault::Partial && count > 1 {
            let fewer = 1 + self.random.below(u32::from(count) - 1) as u16;
            out.truncate(HEADER_LEN);
            // What was there may be gone in between, but then for good.
            count = store.read(session, sequence.0, fewer, self.room(), out);
        }
        if count == 0 {
            out.clear();
        } else {
            write_header(out, session, sequence.0, count);
        }
        count
    }

    /// Writes what was not asked for, or cannot be used. What carries the session's name and numbers that exist is true.
    fn wrong(&mut self, store: &Store, request: &Request, out: &mut Vec<u8>) {
        let Request { session, sequence, count } = *request;
        let some = 1 + self.random.below(u32::from(count.min(16))) as u16;
        self.turn = (self.turn + 1) % 5;
        match self.turn {
            // Another session, the right numbers.
            1 => {
                let other = Session(session.0.map(|byte| byte ^ 1));
                self.invent(other, sequence.0, some, out);
            }
            // True messages, but others; where there are none, none.
            2 => {
                let kept = u32::try_from(store.next() - store.oldest()).unwrap_or(u32::MAX);
                let from = store.oldest() + u64::from(self.random.below(kept));
                out.resize(HEADER_LEN, 0);
                let count = store.read(session, from, some, self.room(), out);
                write_header(out, session, from, count);
            }
            // Numbers that the session will never reach.
            3 => {
                let far = (sequence.0 | 1 << 40).saturating_add(1 << 40).min(u64::MAX - u64::from(some));
                self.invent(session, far, some, out);
            }
            // Cut off within a message.
            4 => {
                self.reply(store, request, out);
                let len = out.len().saturating_sub(1);
                out.truncate(len);
            }
            // No packet at all.
            _ => {
                let len = 1 + self.random.below(self.max_payload as u32) as usize;
                self.noise(len, out);
            }
        }
        if out.is_empty() {
            self.noise(1, out);
        }
    }

    /// Writes a packet of messages that nobody sent.
    fn invent(&mut self, session: Session, sequence: u64, count: u16, out: &mut Vec<u8>) {
        out.resize(HEADER_LEN, 0);
        let mut fit = 0;
        for _ in 0..count {
            let len = self.random.below(40) as usize;
            if out.len() + 2 + len > self.max_payload {
                break;
            }
            out.extend_from_slice(&(len as u16).to_be_bytes());
            self.noise(len, out);
            fit += 1;
        }
        write_header(out, session, sequence, fit);
    }

    fn noise(&mut self, len: usize, out: &mut Vec<u8>) {
        for _ in 0..len {
            out.push(self.random.below(256) as u8);
        }
    }
}

fn write_header(out: &mut [u8], session: Session, sequence: u64, count: u16) {
    let header = Header { session: session.0, sequence_number: U64::new(sequence), message_count: U16::new(count) };
    if let Some(to) = out.get_mut(..HEADER_LEN) {
        to.copy_from_slice(header.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_types::Seq;
    use barewire_wire::moldudp64::{Builder, Packet};
    use proptest::prelude::*;

    const SESSION: Session = Session(*b"SIM0000001");
    const FIRST: u64 = 100;

    /// A store of messages that say their number, and are as long as their number's last two digits.
    fn store(count: u64) -> Store {
        let store = Store::new(1 << 20);
        for number in FIRST..FIRST + count {
            let mut packet = [0; 200];
            let mut builder = Builder::new(&mut packet, SESSION, Seq(number));
            builder.push((number % 100) as usize).unwrap().copy_from_slice(&message(number));
            let len = builder.finish();
            store.take([&packet[..len]]);
        }
        store
    }

    fn message(number: u64) -> Vec<u8> {
        number.to_be_bytes().into_iter().cycle().take((number % 100) as usize).collect()
    }

    fn requests() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let session = prop_oneof![9 => Just(SESSION), 1 => any::<[u8; 10]>().prop_map(Session)];
        let sequence = prop_oneof![9 => FIRST - 5..FIRST + 300, 1 => any::<u64>()];
        let count = prop_oneof![4 => 0_u16..30, 1 => any::<u16>()];
        let request = (session, sequence, count).prop_map(|(session, sequence, count)| {
            Request { session, sequence: Seq(sequence), count }.encode().to_vec()
        });
        prop::collection::vec(prop_oneof![9 => request, 1 => prop::collection::vec(any::<u8>(), 0..40)], 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Whatever is asked of it, a server sends one packet at most; what that says about the session's own messages is
        /// true; and it is as complete as the fault allows.
        #[test]
        fn answers_are_true(requests in requests(), count in 0_u64..290, max_payload in 0_usize..2_000, seed: u64) {
            let store = store(count);
            let max = max_payload.max(HEADER_LEN);
            let next = FIRST + count;
            for fault in [Fault::None, Fault::Slow { delay_ns: 9 }, Fault::Partial, Fault::Silent, Fault::Wrong] {
                let mut server = Rerequests::new(fault, max_payload, seed);
                let mut again = Rerequests::new(fault, max_payload, seed);
                prop_assert_eq!(server.delay_ns(), fault.delay_ns());
                let (mut reply, mut same) = (Vec::new(), Vec::new());
                let mut messages = 0;
                for bytes in &requests {
                    let answered = server.answer(&store, bytes, &mut reply);
                    prop_assert_eq!(again.answer(&store, bytes, &mut same), answered);
                    prop_assert_eq!(&reply, &same);
                    prop_assert!(answered != reply.is_empty() && reply.len() <= max);
                    let request = Request::parse(bytes).ok().filter(|request| request.count > 0);
                    let Some(request) = request.filter(|_| fault != Fault::Silent) else {
                        prop_assert!(!answered);
                        continue;
                    };
                    let packet = Packet::parse(&reply).ok().filter(|packet| packet.session() == SESSION);
                    for (number, found) in packet.iter().flat_map(|packet| (packet.sequence().0..).zip(packet.messages())) {
                        prop_assert!(number > 1 << 40 || found == message(number));
                        prop_assert!(number > 1 << 40 || (FIRST..next).contains(&number));
                    }
                    let mut len = HEADER_LEN;
                    let fit = (request.sequence.0..next).take(request.count.into()).take_while(|number| {
                        len += 2 + (number % 100) as usize;
                        len <= max
                    });
                    let fit = if request.session == SESSION && request.sequence.0 >= FIRST { fit.count() } else { 0 };
                    if fault == Fault::Wrong {
                        prop_assert!(answered);
                        continue;
                    }
                    prop_assert_eq!(answered, fit > 0);
                    if let Some(packet) = packet {
                        prop_assert!(!packet.is_damaged() && packet.sequence() == request.sequence);
                        let whole = usize::from(packet.whole());
                        let expected = if fault == Fault::Partial && fit > 1 { 1..fit } else { fit..fit + 1 };
                        prop_assert!(expected.contains(&whole));
                        messages += whole as u64;
                    }
                }
                let RerequestCounters { requests: all, answered, unavailable, other_session, empty, malformed, withheld, .. } =
                    server.counters();
                prop_assert_eq!(all, requests.len() as u64);
                prop_assert_eq!(all, answered + unavailable + other_session + empty + malformed + withheld);
                prop_assert_eq!(server.counters().messages, messages);
            }
        }
    }
}
