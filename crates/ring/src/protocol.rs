//! How one event gets from the producer to any reader: the part that loom checks.
//!
//! Event `n` (counted from 0) lives in slot `n & (capacity - 1)`, whose sequence word says what the slot holds:
//!
//! | word            | meaning                                               |
//! |-----------------|-------------------------------------------------------|
//! | `0`             | nothing was ever written here                         |
//! | `BUSY \| n + 1` | event `n` is being written                            |
//! | `n + 1`         | event `n` is whole                                    |
//!
//! No two laps ever put the same value there (64 bits do not wrap: 2^63 events are 58,000 years at five million a
//! second), so a reader that finds the value it wants before *and* after its copy has copied one whole event, and one
//! that finds a larger value knows that it was overrun. Nothing here depends on where the slots are, nor on how many
//! words an event has: the ring has 7, the model in `loom_model.rs` fewer.

use crate::sync::{AtomicU64, Ordering, fence, load_acquire};
use std::ptr::NonNull;

/// Set in a sequence word while its slot is being written.
pub(crate) const BUSY: u64 = 1 << 63;

/// One slot: a sequence word and the payload. With 7 words it is a cache line of its own.
#[repr(C)]
#[cfg_attr(not(loom), repr(align(64)))]
pub(crate) struct Slot<const W: usize> {
    sequence: AtomicU64,
    words: [AtomicU64; W],
}

#[cfg(loom)]
impl<const W: usize> Slot<W> {
    pub(crate) fn new() -> Self {
        Slot { sequence: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

/// What a reader finds where its next event should be.
enum Found {
    /// The event, whole.
    Event,
    /// It is not there yet.
    NotYet,
    /// It was overwritten; at least this many events have been published or begun.
    Overrun { head: u64 },
}

/// The slots of a ring: where they begin and how many there are.
#[derive(Clone, Copy)]
pub(crate) struct Slots<const W: usize> {
    first: NonNull<Slot<W>>,
    mask: u64,
}

impl<const W: usize> Slots<W> {
    /// The `capacity` slots from `first` on.
    ///
    /// # Safety
    /// `capacity` is a power of two, at least 2; so many slots are there, aligned, and stay there, readable (and for
    /// [`publish`](Self::publish) writable), for as long as the value or a copy of it is used. Zeroed memory is a row
    /// of slots never written.
    pub(crate) unsafe fn new(first: NonNull<Slot<W>>, capacity: u32) -> Self {
        debug_assert!(capacity.is_power_of_two() && capacity >= 2);
        Slots { first, mask: u64::from(capacity) - 1 }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline(always)]
    fn slot(&self, n: u64) -> &Slot<W> {
        // SAFETY: the index is at most the mask, so below the capacity that `new`'s caller vouched for.
        unsafe { self.first.add((n & self.mask) as usize).as_ref() }
    }

    /// Publishes event `n`. Events are published in order, each once, from one thread at a time.
    ///
    /// Cost: W + 3 stores, to one cache line and the cursor's; no load, branch or read-modify-write.
    #[inline(always)]
    pub(crate) fn publish(&self, cursor: &AtomicU64, n: u64, event: &[u64; W]) {
        let slot = self.slot(n);
        // Claimed before any of the payload changes: a reader that copies a word of this event and then looks at the
        // sequence word again must find it changed.
        slot.sequence.store(BUSY | (n + 1), Ordering::Relaxed);
        // SYNC POINT: claim (with the acquire fence in `read_slot`).
        fence(Ordering::Release);
        for (word, value) in slot.words.iter().zip(event) {
            word.store(*value, Ordering::Relaxed);
        }
        // SYNC POINT: publish (with the first load in `read_slot`).
        slot.sequence.store(n + 1, Ordering::Release);
        // SYNC POINT: cursor (with the load in `head`). After the slot: below the cursor, all is published.
        cursor.store(n + 1, Ordering::Release);
    }

    /// Whether a look at event `n` would find anything: the event itself, or that it was overwritten.
    #[inline(always)]
    pub(crate) fn is_there(&self, n: u64) -> bool {
        let found = self.slot(n).sequence.load(Ordering::Relaxed);
        let wanted = n.wrapping_add(1);
        found == wanted || found & !BUSY > wanted
    }

    /// Copies event `n` to `event` if it is there. On anything but `Found::Event`, `event` may hold a torn mixture.
    #[inline(always)]
    fn read_slot(&self, n: u64, event: &mut [u64; W]) -> Found {
        let slot = self.slot(n);
        let wanted = n.wrapping_add(1);
        // SYNC POINT: publish (with the last store to the slot in `publish`).
        let before = load_acquire(&slot.sequence);
        if before != wanted {
            let holds = before & !BUSY;
            return if holds > wanted { Found::Overrun { head: holds - 1 } } else { Found::NotYet };
        }
        for (value, word) in event.iter_mut().zip(&slot.words) {
            *value = word.load(Ordering::Relaxed);
        }
        // SYNC POINT: claim (with the release fence in `publish`). If any word above came from a later event, that
        // event's claim is seen below.
        fence(Ordering::Acquire);
        let after = slot.sequence.load(Ordering::Relaxed);
        if after != wanted {
            return Found::Overrun { head: (after & !BUSY).saturating_sub(1) };
        }
        Found::Event
    }
}

/// How many events have been published; below [`BUSY`] whatever is in memory, so that counting on from it is safe.
#[inline]
pub(crate) fn head(cursor: &AtomicU64) -> u64 {
    // SYNC POINT: cursor (with the last store in `publish`).
    load_acquire(cursor) & !BUSY
}

/// What one call of [`Reader::read`](crate::Reader::read) gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Read {
    /// Records written to the front of the caller's slice.
    pub count: usize,
    /// Events that were overwritten before they could be read. They lie immediately before the first of the records:
    /// a gap inside a batch ends the batch, and the next call begins with it. Under a filter they lie somewhere between
    /// the last record of the call before and the first of this one; nobody knows what they held, so all are counted.
    pub lost: u64,
    /// Events that were read and that the filter kept back; 0 without one.
    pub passed_over: u64,
}

/// Events that one call looks at, at most, while the filter keeps them back: a call must end, however fast the producer.
pub(crate) const LOOKS: u64 = 1 << 14;

/// Where an event is read to.
pub(crate) trait Entry<const W: usize> {
    /// The place of the event's words.
    fn event(&mut self) -> &mut [u64; W];
    /// Notes the event's number.
    fn set_ring_sequence(&mut self, n: u64);
}

/// Where the next read begins, and the overrun rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    /// The next event to read.
    pub(crate) next: u64,
}

impl Position {
    /// Reads events in order into `out`, those that `takes` says yes to. What lies behind the ones counted may have been
    /// written to, and means nothing.
    ///
    /// Cost: two loads of the sequence word and W of the payload an event, all of one cache line. The cursor's line,
    /// which the producer writes with every event, is touched only after an overrun.
    #[inline(always)]
    pub(crate) fn read<const W: usize>(
        &mut self,
        slots: &Slots<W>,
        cursor: &AtomicU64,
        out: &mut [impl Entry<W>],
        mut takes: impl FnMut(&[u64; W]) -> bool,
    ) -> Read {
        // Copies on the stack: behind a reference they would be loaded again after every fence.
        let (slots, mut next) = (*slots, self.next);
        let mut read = Read::default();
        while let Some(entry) = out.get_mut(read.count) {
            // Straight into the caller's memory: an event does not fit the registers that are left.
            match slots.read_slot(next, entry.event()) {
                Found::Event if takes(entry.event()) => {
                    entry.set_ring_sequence(next);
                    read.count += 1;
                    next += 1;
                }
                Found::Event => {
                    read.passed_over += 1;
                    next += 1;
                    if read.passed_over >= LOOKS {
                        break;
                    }
                }
                Found::NotYet => break,
                Found::Overrun { .. } if read.count > 0 => break,
                Found::Overrun { head } => {
                    let resume = resume(next, slots.capacity(), head, cursor);
                    read.lost += resume - next;
                    next = resume;
                }
            }
        }
        self.next = next;
        read
    }
}

/// Where to go on after event `next` was found overwritten by one of the `seen` that were published or begun: where the
/// producer will not be at once, and always after `next`.
#[cold]
fn resume(next: u64, capacity: u64, seen: u64, cursor: &AtomicU64) -> u64 {
    // The slot's word may be ahead of what this thread sees of the cursor, and is behind it by up to a lap.
    let head = head(cursor).max(seen);
    // In memory that a producer wrote, head is at least next + capacity, so this is ahead of next; in memory that
    // something else scribbled over, it must be so all the same.
    head.saturating_sub(kept_after_overrun(capacity)).max(next + 1)
}

/// How far behind the producer a reader goes on after an overrun: three quarters of the ring. The oldest quarter is
/// given up so that the producer, who is writing there, does not overrun the reader again at once.
pub(crate) fn kept_after_overrun(capacity: u64) -> u64 {
    capacity - (capacity / 4).max(1)
}
