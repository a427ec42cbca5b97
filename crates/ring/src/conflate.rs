//! Conflation: of every instrument the latest best bid and offer, for readers that cannot take every one.
//!
//! A thread reads the ring at its pace and keeps, in memory that does not grow with time, what the consumer has not taken
//! yet: one quote an instrument, and the gaps and status records. What a row stands for is counted: all rows' updates, plus
//! what was lost, plus what the filter kept back, is how far the reader has moved.

use crate::filter::Filter;
use crate::layout::RingRecord;
use crate::protocol::Read;
use crate::reader::Reader;
use crate::wait::{Bell, Patience, Wait};
use barewire_types::{Gap, RecordKind};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Gaps and status records that are kept until they are taken. Of more, the oldest are lost, and counted as such.
const MOST_OTHERS: usize = 4096;
/// Records that the thread reads at a time.
const BLOCK: usize = 512;

/// An instrument's latest quote.
#[derive(Clone, Copy, Debug)]
struct Quote {
    record: RingRecord,
    /// How many the row stands for; 0: it was taken.
    updates: u32,
}

/// What one call of [`Conflated::take`] gave.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Taken {
    /// Rows written to the front of the caller's slices.
    pub count: usize,
    /// Events that were overwritten before the reader came to them, and records that there was no room to keep, since the
    /// last call.
    pub lost: u64,
    /// With `lost`: the instruments whose latest quote, in these rows or any before, is older than the loss. It may have
    /// changed in what was lost; the next row of the instrument is right again.
    pub stale: Vec<u32>,
}

/// What was read and not taken yet: one quote an instrument, and everything that is no quote.
#[derive(Debug)]
pub struct Conflated {
    /// Where in `quotes` an instrument's is.
    places: HashMap<u32, u32>,
    quotes: Vec<Quote>,
    most_quotes: usize,
    /// Places of the quotes that were not taken.
    pending: Vec<u32>,
    others: VecDeque<RingRecord>,
    lost: u64,
    /// Quotes with a lower number are older than the last loss.
    lost_before: u64,
}

impl Conflated {
    /// Room for so many instruments, which is taken as they come. Quotes of more are lost, and counted as such.
    pub fn new(most_instruments: usize) -> Conflated {
        Conflated {
            places: HashMap::new(),
            quotes: Vec::new(),
            most_quotes: most_instruments,
            pending: Vec::new(),
            others: VecDeque::new(),
            lost: 0,
            lost_before: 0,
        }
    }

    /// Takes in what a read gave. `before` is where the read began.
    pub fn add(&mut self, before: u64, read: Read, records: &[RingRecord]) {
        if read.lost > 0 {
            self.lost += read.lost;
            self.lost_before = before + read.lost;
        }
        for record in records.iter().take(read.count) {
            if record.record.kind() == Some(RecordKind::Bbo) {
                self.quote(record);
            } else {
                if self.others.len() == MOST_OTHERS {
                    self.others.pop_front();
                    self.lost += 1;
                }
                self.others.push_back(*record);
            }
        }
    }

    fn quote(&mut self, record: &RingRecord) {
        let instrument = Gap::from(record.record).instrument_id;
        let place = match self.places.get(&instrument) {
            Some(place) => *place,
            None if self.quotes.len() < self.most_quotes => {
                let place = self.quotes.len() as u32;
                self.places.insert(instrument, place);
                self.quotes.push(Quote { record: RingRecord::ZERO, updates: 0 });
                place
            }
            None => {
                self.lost += 1;
                return;
            }
        };
        let quote = &mut self.quotes[place as usize];
        if quote.updates == 0 {
            self.pending.push(place);
        }
        quote.record = *record;
        quote.updates = quote.updates.saturating_add(1);
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.others.is_empty() && self.lost == 0
    }

    /// Moves rows to `out`, in the order of their numbers, and to `updates` how many each stands for; both of one length.
    /// What there is no room for stays.
    pub fn take(&mut self, out: &mut [RingRecord], updates: &mut [u32]) -> Taken {
        let mut taken = Taken { count: 0, lost: std::mem::take(&mut self.lost), stale: Vec::new() };
        if taken.lost > 0 {
            let stale = self.quotes.iter().filter(|quote| quote.record.ring_sequence < self.lost_before);
            taken.stale = stale.map(|quote| Gap::from(quote.record.record).instrument_id).collect();
        }
        let quotes = &mut self.quotes;
        self.pending.sort_unstable_by_key(|place| quotes[*place as usize].record.ring_sequence);
        let mut moved = 0;
        for (row, count) in out.iter_mut().zip(updates) {
            let quote = self.pending.get(moved).map(|place| &mut quotes[*place as usize]);
            let other = self.others.front().map(|other| other.ring_sequence);
            match quote {
                Some(quote) if other.is_none_or(|other| quote.record.ring_sequence < other) => {
                    *row = quote.record;
                    *count = std::mem::take(&mut quote.updates);
                    moved += 1;
                }
                _ => {
                    let Some(other) = self.others.pop_front() else { break };
                    *row = other;
                    *count = 1;
                }
            }
            taken.count += 1;
        }
        self.pending.drain(..moved);
        taken
    }
}

struct Shared {
    table: Mutex<Conflated>,
    came: Condvar,
    bell: Bell,
    /// Whether the bell is to be rung at the next row.
    armed: AtomicBool,
    /// Where the thread will read next.
    position: AtomicU64,
    ended: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Conflated> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits.
    fn tell(&self) {
        self.came.notify_all();
        if self.armed.swap(false, Ordering::AcqRel) {
            self.bell.ring();
        }
    }
}

/// A thread that reads a ring into a [`Conflated`], which a slow consumer empties when it has time.
pub struct Conflator {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The process that has the thread: one forked from it has not.
    owner: u32,
}

impl Conflator {
    /// Reads on from where `reader` is. Order events are not kept, whatever the filter says.
    pub fn new(reader: Reader, filter: Filter, wait: Wait) -> io::Result<Conflator> {
        let shared = Arc::new(Shared {
            table: Mutex::new(Conflated::new(reader.info().directory_capacity as usize)),
            came: Condvar::new(),
            bell: Bell::new()?,
            armed: AtomicBool::new(false),
            position: AtomicU64::new(reader.position()),
            ended: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let (theirs, filter) = (Arc::clone(&shared), filter.without(RecordKind::Mbo));
        let thread = thread::Builder::new()
            .name("barewire-conflate".into())
            .spawn(move || follow(&theirs, reader, filter, wait))?;
        Ok(Conflator { shared, thread: Some(thread), owner: std::process::id() })
    }

    /// Whether the thread is in this process. In one that was forked from its own nothing is read any more, and what was read
    /// must not be asked for: the thread may have been at it.
    pub fn is_here(&self) -> bool {
        self.owner == std::process::id()
    }

    /// As [`Conflated::take`].
    pub fn take(&self, out: &mut [RingRecord], updates: &mut [u32]) -> Taken {
        self.shared.table().take(out, updates)
    }

    /// Waits for something to take, or the end of the ring; `false` when neither came in time.
    pub fn wait(&self, timeout: Duration) -> bool {
        let table = self.shared.table();
        let waits = |table: &mut Conflated| table.is_empty() && !self.is_ended();
        let (table, _) =
            self.shared.came.wait_timeout_while(table, timeout, waits).unwrap_or_else(PoisonError::into_inner);
        !table.is_empty() || self.is_ended()
    }

    /// Makes the descriptor readable as soon as there is something to take, or the ring is closed. Once for each call.
    pub fn arm(&self) {
        self.shared.armed.store(true, Ordering::Release);
        // Under the lock: the thread either finds the bell armed, or had put its rows here before.
        if (!self.shared.table().is_empty() || self.is_ended()) && self.shared.armed.swap(false, Ordering::AcqRel) {
            self.shared.bell.ring();
        }
    }

    /// Makes the descriptor unreadable again.
    pub fn clear(&self) {
        self.shared.bell.hush();
    }

    /// The number of the next event that the thread reads.
    pub fn position(&self) -> u64 {
        self.shared.position.load(Ordering::Relaxed)
    }

    /// Whether the ring was closed, and all of it has been read.
    pub fn is_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }
}

impl AsFd for Conflator {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }
}

impl Drop for Conflator {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if !self.is_here() {
            std::mem::forget(thread);
            return;
        }
        self.shared.stop.store(true, Ordering::Release);
        let _ = thread.join();
    }
}

fn follow(shared: &Shared, mut reader: Reader, mut filter: Filter, wait: Wait) {
    let mut block = vec![RingRecord::ZERO; BLOCK];
    let mut patience = Patience::new(wait);
    while !shared.stop.load(Ordering::Acquire) {
        let closed = reader.is_closed();
        let before = reader.position();
        let read = reader.read_filtered(&mut filter, &mut block);
        if reader.position() != before {
            patience.came();
            if read.count > 0 || read.lost > 0 {
                shared.table().add(before, read, &block);
                shared.tell();
            }
            shared.position.store(reader.position(), Ordering::Relaxed);
        } else if closed {
            // Under the lock, so that nobody looks, misses it and then waits.
            let table = shared.table();
            shared.ended.store(true, Ordering::Release);
            drop(table);
            shared.tell();
            return;
        } else {
            patience.pause();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_types::{Bbo, Record};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn record(n: u64, kind: u8, instrument_id: u32) -> RingRecord {
        let bbo = Bbo { kind, instrument_id, sequence: n, ..Bbo::from(Record([0; 7])) };
        RingRecord { ring_sequence: n, record: bbo.into() }
    }

    /// A step: a read of quotes (2) and others (3, 4) after a loss, or a take with so much room.
    #[derive(Clone, Debug)]
    enum Step {
        Read(u64, Vec<(u8, u32)>),
        Take(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let row = (2_u8..=4, 1_u32..6);
        let read = (prop_oneof![3 => Just(0_u64), 1 => 1_u64..50], prop::collection::vec(row, 0..20));
        let step =
            prop_oneof![read.prop_map(|(lost, rows)| Step::Read(lost, rows)), (0_usize..12).prop_map(Step::Take)];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Against the plain meaning: keep every record, and when asked, the last quote of each instrument with the number
        /// of those before it.
        #[test]
        fn rows_are_the_latest_and_their_counts_are_exact(steps in steps()) {
            let mut table = Conflated::new(100);
            let (mut waiting, mut last): (Vec<RingRecord>, BTreeMap<u32, u64>) = (Vec::new(), BTreeMap::new());
            let (mut n, mut lost, mut lost_before, mut accounted) = (0, 0, 0, 0);
            for step in steps.into_iter().chain([Step::Take(1000)]) {
                match step {
                    Step::Read(missing, rows) => {
                        let before = n;
                        n += missing;
                        if missing > 0 {
                            (lost, lost_before) = (lost + missing, n);
                        }
                        let records: Vec<_> = rows.iter().map(|(kind, id)| { n += 1; record(n - 1, *kind, *id) }).collect();
                        table.add(before, Read { count: records.len(), lost: missing, passed_over: 0 }, &records);
                        for found in &records {
                            let head = Gap::from(found.record);
                            if head.kind == 2 {
                                last.insert(head.instrument_id, found.ring_sequence);
                            }
                        }
                        waiting.extend(records);
                    }
                    Step::Take(room) => {
                        let latest = |one: &RingRecord| {
                            let head = Gap::from(one.record);
                            head.kind != 2 || last[&head.instrument_id] == one.ring_sequence
                        };
                        let expected: Vec<_> = waiting.iter().copied().filter(latest).take(room).collect();
                        let (mut out, mut updates) = (vec![RingRecord::ZERO; room], vec![0; room]);
                        let taken = table.take(&mut out, &mut updates);
                        prop_assert_eq!(&out[..taken.count], &expected[..]);
                        for (row, count) in expected.iter().zip(&updates) {
                            let head = Gap::from(row.record);
                            let same = |one: &RingRecord| {
                                let other = Gap::from(one.record);
                                one.ring_sequence == row.ring_sequence
                                    || (head.kind == 2 && other.kind == 2 && other.instrument_id == head.instrument_id)
                            };
                            prop_assert_eq!(waiting.iter().filter(|one| same(one)).count(), *count as usize);
                            waiting.retain(|one| !same(one));
                        }
                        prop_assert_eq!(taken.lost, lost);
                        accounted += lost + updates[..taken.count].iter().map(|count| u64::from(*count)).sum::<u64>();
                        let mut stale = taken.stale.clone();
                        stale.sort_unstable();
                        let old = last.iter().filter(|(_, at)| lost > 0 && **at < lost_before).map(|(id, _)| *id);
                        prop_assert_eq!(stale, old.collect::<Vec<_>>());
                        lost = 0;
                    }
                }
            }
            prop_assert_eq!(accounted, n);
            prop_assert!(table.is_empty());
        }
    }

    #[test]
    fn memory_is_bounded_and_what_does_not_fit_is_counted() {
        let mut table = Conflated::new(2);
        let quotes: Vec<_> = (0..5).map(|n| record(n, 2, n as u32)).collect();
        table.add(0, Read { count: 5, ..Read::default() }, &quotes);
        let gaps: Vec<_> = (5..5 + MOST_OTHERS as u64 + 3).map(|n| record(n, 3, 0)).collect();
        table.add(5, Read { count: gaps.len(), ..Read::default() }, &gaps);
        let (mut out, mut updates) = (vec![RingRecord::ZERO; 2 * MOST_OTHERS], vec![0; 2 * MOST_OTHERS]);
        let taken = table.take(&mut out, &mut updates);
        assert_eq!((taken.count, taken.lost), (2 + MOST_OTHERS, 3 + 3));
        assert_eq!(out[2].ring_sequence, 5 + 3, "the oldest of the others are gone");
    }
}
