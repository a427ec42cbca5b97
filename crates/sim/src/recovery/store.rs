//! The newest messages of a session, by number.
//!
//! One sender puts packets in, any number of servers take messages out. What is kept is a row without holes; when the
//! room is used up, its oldest part goes. Messages lie in chunks as they lie in packets, each behind its length: a reply is
//! a copy of a slice, and a follower is handed whole chunks without a copy. The lock is held for the copying of one
//! batch, or of one reply, and the sender never waits for a reader to make room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use barewire_wire::moldudp64::{BLOCK_HEADER_LEN, Packet, Session};

use crate::sink::{Line, SimPacket, Sink, SinkError};

/// Room for blocks in a chunk, in bytes. One message may be longer: it then has a chunk of its own.
const CHUNK_BYTES: usize = 32 << 10;

/// The most messages in a chunk: zero-length messages take room too.
const CHUNK_MESSAGES: usize = CHUNK_BYTES / 16;

/// Message blocks with consecutive numbers.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The first block's number.
    first: u64,
    blocks: Vec<u8>,
    /// Where each block ends.
    ends: Vec<u32>,
}

impl Chunk {
    /// An empty one for messages from this number on.
    fn new(first: u64) -> Chunk {
        Chunk { first, blocks: Vec::with_capacity(CHUNK_BYTES), ends: Vec::with_capacity(CHUNK_MESSAGES) }
    }

    /// One past the last block's number. A packet's numbers never pass 2^64.
    fn next(&self) -> u64 {
        self.first.saturating_add(self.ends.len() as u64)
    }

    /// Memory that it holds, in bytes.
    fn room(&self) -> usize {
        self.blocks.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    fn is_full_for(&self, message: &[u8]) -> bool {
        let len = self.blocks.len() + BLOCK_HEADER_LEN + message.len();
        !self.ends.is_empty() && (len > CHUNK_BYTES || self.ends.len() >= CHUNK_MESSAGES)
    }

    fn push(&mut self, message: &[u8]) {
        self.blocks.extend_from_slice(&(message.len() as u16).to_be_bytes());
        self.blocks.extend_from_slice(message);
        self.ends.push(self.blocks.len() as u32);
    }

    /// Empties it for messages from this number on.
    fn begin(&mut self, first: u64) {
        self.first = first;
        self.blocks.clear();
        self.ends.clear();
    }

    /// The blocks from this number on: at most `count`, and no more bytes than `room`. And how many they are.
    fn part(&self, from: u64, count: usize, room: usize) -> (&[u8], usize) {
        let skip = from.saturating_sub(self.first) as usize;
        let (before, ends) = self.ends.split_at_checked(skip).unwrap_or_default();
        let begin = before.last().map_or(0, |end| *end as usize);
        let whole = ends.get(..count.min(ends.len())).unwrap_or_default();
        let count = whole.partition_point(|end| *end as usize - begin <= room);
        let end = count.checked_sub(1).and_then(|last| whole.get(last)).map_or(begin, |end| *end as usize);
        (self.blocks.get(begin..end).unwrap_or_default(), count)
    }
}

/// The newest messages of a session by number; see the module.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    session: Option<Session>,
    /// Full chunks, oldest first.
    full: VecDeque<Arc<Chunk>>,
    /// The one that is being filled; its end is the session's newest message.
    open: Chunk,
    /// Memory that the full ones hold, in bytes.
    full_bytes: usize,
    max_bytes: usize,
    gaps: u64,
}

/// Where a follower has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) session: Option<Session>,
    /// Number of the message to be followed next.
    pub(super) next: u64,
}

/// What a follower finds at its place.
#[derive(Debug)]
pub(super) enum Found {
    /// It has everything.
    Nothing,
    /// It is at another session's oldest message now.
    OtherSession,
    /// Messages that it had not followed are gone; it is at the oldest one now.
    Lost,
    /// Blocks of a chunk from this number on; its place is behind them now.
    Full(Arc<Chunk>, u64),
    /// Blocks in the buffer that it brought; its place is behind them now.
    Copied,
}

impl Found {
    /// The messages that were found.
    pub(super) fn messages<'a>(&'a self, copied: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        blocks(match self {
            Found::Full(chunk, from) => chunk.part(*from, usize::MAX, usize::MAX).0,
            Found::Copied => copied,
            Found::Nothing | Found::OtherSession | Found::Lost => &[],
        })
    }
}

/// Walks messages that lie each behind its length.
pub(super) fn blocks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (len, behind) = rest.split_first_chunk()?;
        let (message, next) = behind.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        rest = next;
        Some(message)
    })
}

impl Store {
    /// An empty store that keeps as many messages as fit into so many bytes, and the newest 32 KiB of them in any case.
    ///
    /// A message takes 6 bytes more than it has: 64 MiB hold the last 1.6 million of an exchange's day.
    pub fn new(max_bytes: usize) -> Store {
        let (full, open) = (VecDeque::new(), Chunk::new(1));
        let inner = Inner { session: None, full, open, full_bytes: 0, max_bytes, gaps: 0 };
        Store { inner: Mutex::new(inner) }
    }

    /// Takes packets of the session in the order in which they were first sent. Those of heartbeats and of the session's end
    /// change nothing, messages that are there already are passed over.
    ///
    /// The first message of another session empties the store, and so does one that leaves a hole.
    pub fn take<'a>(&self, packets: impl IntoIterator<Item = &'a [u8]>) {
        let mut inner = self.lock();
        for packet in packets.into_iter().filter_map(|payload| Packet::parse(payload).ok()) {
            inner.take(&packet);
        }
    }

    /// The session; `None` before its first message.
    pub fn session(&self) -> Option<Session> {
        self.lock().session
    }

    /// Number of the oldest message that is kept; of the next one to come where there is none.
    pub fn oldest(&self) -> u64 {
        self.lock().oldest()
    }

    /// Number of the next message to come: one past the newest.
    pub fn next(&self) -> u64 {
        self.lock().open.next()
    }

    /// How often it was emptied by a message that left a hole.
    pub fn gaps(&self) -> u64 {
        self.lock().gaps
    }

    /// Appends messages from this number on to `out`, each behind its length: at most `count`, and no more bytes than
    /// `room`. Says how many; 0 where the first is not there or does not fit, or the session is another.
    pub fn read(&self, session: Session, from: u64, count: u16, room: usize, out: &mut Vec<u8>) -> u16 {
        let inner = self.lock();
        if inner.session != Some(session) || from < inner.oldest() {
            return 0;
        }
        let (mut next, mut left, mut room) = (from, usize::from(count), room);
        let begin = inner.full.partition_point(|chunk| chunk.next() <= from);
        for chunk in inner.full.iter().skip(begin).map(Arc::as_ref).chain([&inner.open]) {
            let (part, count) = chunk.part(next, left, room);
            out.extend_from_slice(part);
            (next, left, room) = (next.saturating_add(count as u64), left - count, room - part.len());
            if next < chunk.next() {
                break;
            }
        }
        count - left as u16
    }

    /// Takes a follower a chunk further. Of the chunk that is being filled it gets what is there, in `copied`, if it wants
    /// the `newest`.
    pub(super) fn follow(&self, place: &mut Place, newest: bool, copied: &mut Vec<u8>) -> Found {
        copied.clear();
        let inner = self.lock();
        let oldest = inner.oldest();
        if place.session != inner.session {
            *place = Place { session: inner.session, next: oldest };
            return Found::OtherSession;
        }
        if place.next < oldest {
            place.next = oldest;
            return Found::Lost;
        }
        let from = place.next;
        let at = inner.full.partition_point(|chunk| chunk.next() <= from);
        if let Some(chunk) = inner.full.get(at) {
            place.next = chunk.next();
            return Found::Full(Arc::clone(chunk), from);
        }
        if newest && from < inner.open.next() {
            place.next = inner.open.next();
            copied.extend_from_slice(inner.open.part(from, usize::MAX, usize::MAX).0);
            return Found::Copied;
        }
        Found::Nothing
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked, the messages are whole or not there.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn oldest(&self) -> u64 {
        self.full.front().map_or(self.open.first, |chunk| chunk.first)
    }

    fn take(&mut self, packet: &Packet<'_>) {
        if packet.whole() == 0 {
            return;
        }
        let first = packet.sequence().0;
        let mut skip = 0;
        if self.session != Some(packet.session()) {
            self.session = Some(packet.session());
            self.empty(first);
        } else if first > self.open.next() {
            self.gaps += 1;
            self.empty(first);
        } else {
            skip = usize::try_from(self.open.next() - first).unwrap_or(usize::MAX);
        }
        for message in packet.messages().skip(skip) {
            if self.open.is_full_for(message) {
                self.change_chunks();
            }
            self.open.push(message);
        }
    }

    /// Forgets everything; the next message has this number.
    fn empty(&mut self, first: u64) {
        self.full.clear();
        self.full_bytes = 0;
        self.open.begin(first);
    }

    /// Puts the open chunk to the full ones, and makes room by dropping the oldest.
    #[cold]
    fn change_chunks(&mut self) {
        let next = self.open.next();
        self.full_bytes += self.open.room();
        let mut fresh = None;
        while self.full_bytes + CHUNK_BYTES > self.max_bytes {
            let Some(oldest) = self.full.pop_front() else { break };
            self.full_bytes -= oldest.room();
            // Its memory serves again, unless a follower still reads it or it is out of the ordinary.
            fresh = Arc::into_inner(oldest).filter(|chunk| chunk.blocks.capacity() == CHUNK_BYTES).or(fresh);
        }
        let mut fresh = fresh.unwrap_or_else(|| Chunk::new(next));
        fresh.begin(next);
        self.full.push_back(Arc::new(std::mem::replace(&mut self.open, fresh)));
    }
}

/// Keeps the A line's messages in a store. Hand packets to this before they go out: then whoever misses one finds it
/// there.
#[derive(Clone, Debug)]
pub struct StoreSink(pub Arc<Store>);

impl Sink for StoreSink {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        self.0.take(packets.iter().filter(|packet| packet.line == Line::A).map(|packet| packet.payload));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_types::Seq;
    use barewire_wire::moldudp64::{Builder, heartbeat};
    use proptest::prelude::*;

    const SESSIONS: [Session; 2] = [Session(*b"ONE       "), Session(*b"OTHER     ")];

    fn packet(session: Session, first: u64, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let mut builder = Builder::new(&mut bytes, session, Seq(first));
        for message in messages {
            builder.push(message.len()).unwrap().copy_from_slice(message);
        }
        let len = builder.finish();
        bytes.truncate(len);
        bytes
    }

    /// What a store would hold with room for everything, and a follower that is asked now and then.
    #[derive(Default)]
    struct Model {
        session: Option<Session>,
        first: u64,
        messages: Vec<Vec<u8>>,
        place: Place,
    }

    impl Model {
        fn next(&self) -> u64 {
            self.first + self.messages.len() as u64
        }

        fn take(&mut self, session: Session, first: u64, messages: &[Vec<u8>]) {
            if messages.is_empty() {
                return;
            }
            if self.session != Some(session) || first > self.next() {
                *self = Model { session: Some(session), first, messages: Vec::new(), ..*self };
            }
            let skip = (self.next() - first) as usize;
            self.messages.extend(messages.iter().skip(skip).cloned());
        }

        fn get(&self, number: u64) -> &Vec<u8> {
            &self.messages[(number - self.first) as usize]
        }

        fn follow(&mut self, store: &Store, newest: bool) -> Result<(), TestCaseError> {
            let mut copied = Vec::new();
            loop {
                let before = self.place;
                let found = store.follow(&mut self.place, newest, &mut copied);
                let mut number = before.next;
                match &found {
                    Found::Nothing => break,
                    Found::OtherSession => prop_assert_ne!(before.session, self.session),
                    Found::Lost => prop_assert!(before.next < store.oldest()),
                    Found::Full(..) | Found::Copied => {
                        prop_assert_eq!(before.session, self.session);
                        for message in found.messages(&copied) {
                            prop_assert_eq!(message, self.get(number));
                            number += 1;
                        }
                        prop_assert!(number > before.next && number == self.place.next);
                    }
                }
            }
            prop_assert!(!newest || self.place.next == store.next());
            Ok(())
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A packet that begins so far from the next number, of messages this long.
        Packet {
            session: usize,
            offset: i64,
            lens: Vec<u16>,
        },
        Heartbeat,
        Follow {
            newest: bool,
        },
        Read {
            from: u64,
            count: u16,
            room: usize,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let len = prop_oneof![6 => 19_u16..51, 2 => Just(0_u16), 2 => 0_u16..9_000, 1 => 65_000_u16..=65_535];
        let offset = prop_oneof![20 => Just(0_i64), 4 => -40_i64..0, 1 => 1_i64..9];
        let session = prop_oneof![40 => Just(0_usize), 1 => Just(1_usize)];
        let step = prop_oneof![
            6 => (session, offset, prop::collection::vec(len, 0..40)).prop_map(|(session, offset, lens)| Step::Packet { session, offset, lens }),
            1 => Just(Step::Heartbeat),
            2 => any::<bool>().prop_map(|newest| Step::Follow { newest }),
            4 => (0_u64..1_200, 0_u16..300, 0_usize..100_000).prop_map(|(from, count, room)| Step::Read { from, count, room }),
        ];
        prop::collection::vec(step, 1..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn holds_the_newest_and_nothing_else(steps in steps(), max_bytes in 0_usize..400_000) {
            let store = Store::new(max_bytes);
            let mut model = Model { first: 1, ..Model::default() };
            let mut fill = 0_u8;
            for step in steps {
                match step {
                    Step::Packet { session, offset, lens } => {
                        let first = model.next().saturating_add_signed(offset).max(model.first);
                        let mut messages = Vec::new();
                        for (number, len) in (first..).zip(lens) {
                            fill = fill.wrapping_add(1);
                            let known = number < model.next() && model.session == Some(SESSIONS[session]);
                            // What comes again is the same.
                            messages.push(if known { model.get(number).clone() } else { vec![fill; len.into()] });
                            if messages.iter().map(|message| 2 + message.len()).sum::<usize>() > 900_000 {
                                break;
                            }
                        }
                        store.take([packet(SESSIONS[session], first, &messages).as_slice(), b"no packet"]);
                        model.take(SESSIONS[session], first, &messages);
                    }
                    Step::Heartbeat => store.take([&heartbeat(SESSIONS[1], Seq(77))[..]]),
                    Step::Follow { newest } => model.follow(&store, newest)?,
                    Step::Read { from, count, room } => {
                        let from = model.first + from % (model.messages.len() as u64 + 2);
                        let mut out = vec![7];
                        let session = model.session.unwrap_or(SESSIONS[0]);
                        let read = store.read(session, from, count, room, &mut out);
                        let wanted = (from..model.next()).take(count.into()).map(|number| model.get(number));
                        let mut len = 0;
                        let fit = wanted.take_while(|message| { len += 2 + message.len(); len <= room });
                        let expected: Vec<_> = if from < store.oldest() { Vec::new() } else { fit.collect() };
                        prop_assert_eq!(usize::from(read), expected.len());
                        prop_assert!(blocks(&out[1..]).eq(expected.iter().map(|message| message.as_slice())));
                        let other = SESSIONS[usize::from(session == SESSIONS[0])];
                        prop_assert_eq!(store.read(other, from, count, room, &mut out), 0);
                    }
                }
                prop_assert_eq!((store.session(), store.next()), (model.session, model.next()));
                prop_assert!(model.first <= store.oldest() && store.oldest() <= store.next());
                let inner = store.lock();
                let full: usize = inner.full.iter().map(|chunk| chunk.room()).sum();
                prop_assert_eq!(full, inner.full_bytes);
                // The chunk that was filled last stays in any case.
                let chunk = 2 * 65_537 + CHUNK_MESSAGES * size_of::<u32>();
                prop_assert!(full <= max_bytes + chunk && inner.open.room() <= chunk);
            }
        }
    }
}
