//! Messages into packets: where they are cut, and how the second line's differ.

use barewire_wire::moldudp64::{BLOCK_HEADER_LEN, HEADER_LEN, Header, MAX_COUNT, Session};
use zerocopy::byteorder::big_endian::{U16, U64};

use crate::exchange::{Exchange, Random};

/// A packet in a [`Store`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// The packet's bytes.
    pub(crate) begin: usize,
    pub(crate) end: usize,
    pub(crate) messages: u16,
    /// Number of its first message.
    pub(crate) sequence: u64,
    /// The last message's time by the simulated clock, ns since midnight.
    pub(crate) time_ns: u64,
}

/// Packets one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) bytes: Vec<u8>,
    pub(crate) cuts: Vec<Cut>,
}

impl Store {
    /// Room for so many packets of this length without allocating.
    pub(crate) fn with_capacity(packets: usize, max_payload: usize) -> Store {
        Store { bytes: Vec::with_capacity(packets * max_payload), cuts: Vec::with_capacity(packets) }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.cuts.clear();
    }

    /// A packet's bytes.
    pub(crate) fn payload(&self, cut: &Cut) -> &[u8] {
        self.bytes.get(cut.begin..cut.end).unwrap_or_default()
    }

    /// Adds a packet of whole blocks.
    fn push(&mut self, session: Session, sequence: u64, messages: u16, time_ns: u64, blocks: [&[u8]; 2]) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(&header(session, sequence, messages));
        blocks.into_iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.cuts.push(Cut { begin, end: self.bytes.len(), messages, sequence, time_ns });
    }
}

/// Takes an exchange's messages and cuts them into packets.
#[derive(Debug)]
pub(crate) struct Packer {
    exchange: Exchange,
    session: Session,
    max_payload: usize,
    /// Number of the next message.
    next: u64,
    is_over: bool,
}

impl Packer {
    pub(crate) fn new(exchange: Exchange, session: Session, max_payload: usize) -> Packer {
        Packer { exchange, session, max_payload, next: 1, is_over: false }
    }

    /// Whether there is no further message.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// See [`Exchange::live_orders`].
    pub(crate) fn live_orders(&self) -> u32 {
        self.exchange.live_orders()
    }

    /// See [`Exchange::set_market_time`].
    pub(crate) fn set_market_time(&mut self, ns: u64) {
        self.exchange.set_market_time(ns);
    }

    /// See [`Exchange::end`].
    pub(crate) fn end(&mut self) {
        self.exchange.end();
    }

    /// Adds a packet of up to `limit` messages to the store; a packet is full when the longest message would not fit any
    /// more. False where there is no further message.
    #[inline]
    pub(crate) fn pack(&mut self, store: &mut Store, limit: u64) -> bool {
        let limit = limit.min(MAX_COUNT.into()) as u16;
        let begin = store.bytes.len();
        store.bytes.resize(begin + self.max_payload, 0);
        let mut end = begin + HEADER_LEN;
        let mut messages = 0;
        while messages < limit {
            let Some((len, room)) = store.bytes.get_mut(end..).and_then(<[u8]>::split_first_chunk_mut) else { break };
            let Some(room) = room.first_chunk_mut() else { break };
            let Some(message) = self.exchange.next(room) else {
                self.is_over = true;
                break;
            };
            *len = (message.len() as u16).to_be_bytes();
            end += BLOCK_HEADER_LEN + message.len();
            messages += 1;
        }
        if messages == 0 {
            store.bytes.truncate(begin);
            return false;
        }
        store.bytes.truncate(end);
        if let Some(to) = store.bytes.get_mut(begin..begin + HEADER_LEN) {
            to.copy_from_slice(&header(self.session, self.next, messages));
        }
        store.cuts.push(Cut { begin, end, messages, sequence: self.next, time_ns: self.exchange.time_ns() });
        self.next += u64::from(messages);
        true
    }
}

/// The header of a packet with messages.
fn header(session: Session, sequence: u64, messages: u16) -> [u8; HEADER_LEN] {
    zerocopy::transmute!(Header {
        session: session.0,
        sequence_number: U64::new(sequence),
        message_count: U16::new(messages),
    })
}

/// Cuts the second line's packets elsewhere: each of the first line's is parted at random, and the part behind the cut
/// goes with the next one.
#[derive(Debug)]
pub(crate) struct OtherCuts {
    random: Random,
    session: Session,
    max_payload: usize,
    /// Whole blocks that have not been sent yet, and their first's number.
    rest: Vec<u8>,
    messages: u16,
    sequence: u64,
    time_ns: u64,
}

impl OtherCuts {
    pub(crate) fn new(seed: u64, session: Session, max_payload: usize) -> OtherCuts {
        let rest = Vec::with_capacity(max_payload);
        OtherCuts { random: Random::new(!seed), session, max_payload, rest, messages: 0, sequence: 1, time_ns: 0 }
    }

    /// Takes one of the first line's packets and adds those of the second line that it completes.
    pub(crate) fn take(&mut self, cut: &Cut, payload: &[u8], to: &mut Store) {
        let blocks = payload.get(HEADER_LEN..).unwrap_or_default();
        let first = 1 + self.random.below(cut.messages.into()) as u16;
        let (now, later) = blocks.split_at(blocks_len(blocks, first));
        if HEADER_LEN + self.rest.len() + now.len() > self.max_payload {
            self.flush(to);
        }
        if self.messages == 0 {
            self.sequence = cut.sequence;
        }
        to.push(self.session, self.sequence, self.messages + first, cut.time_ns, [&self.rest, now]);
        self.rest.clear();
        self.rest.extend_from_slice(later);
        self.messages = cut.messages - first;
        self.sequence = cut.sequence + u64::from(first);
        self.time_ns = cut.time_ns;
    }

    /// Adds what is left as a packet.
    pub(crate) fn flush(&mut self, to: &mut Store) {
        if self.messages != 0 {
            to.push(self.session, self.sequence, self.messages, self.time_ns, [&self.rest, &[]]);
            self.rest.clear();
            self.messages = 0;
        }
    }
}

/// Length of the first `count` blocks.
fn blocks_len(blocks: &[u8], count: u16) -> usize {
    let mut rest = blocks;
    for _ in 0..count {
        let Some((len, behind)) = rest.split_first_chunk() else { break };
        rest = behind.get(usize::from(u16::from_be_bytes(*len))..).unwrap_or_default();
    }
    blocks.len() - rest.len()
}

/// Writes a time into every message of a packet.
#[inline]
pub(crate) fn stamp(payload: &mut [u8], ns_since_midnight: u64) {
    let [_, _, time @ ..] = ns_since_midnight.to_be_bytes();
    let mut rest = payload.get_mut(HEADER_LEN..).unwrap_or_default();
    while let Some((len, behind)) = rest.split_first_chunk_mut::<BLOCK_HEADER_LEN>() {
        let Some((message, next)) = behind.split_at_mut_checked(usize::from(u16::from_be_bytes(*len))) else { break };
        if let Some(at) = message.get_mut(5..11) {
            at.copy_from_slice(&time);
        }
        rest = next;
    }
}
