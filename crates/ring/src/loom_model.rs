//! The protocol under loom, which tries every interleaving and every value that the memory model lets a load return.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p barewire-ring --release --lib loom_model
//! ```
//!
//! The model is the real code with events of one or two words: enough for a torn event to show, since each word carries
//! the event's number.

use crate::protocol::{Entry, Position, Read, Slot, Slots, head};
use crate::sync::{AtomicU64, Ordering};
use loom::sync::Arc;
use std::ptr::NonNull;

struct Memory<const W: usize> {
    slots: Box<[Slot<W>]>,
    cursor: AtomicU64,
}

impl<const W: usize> Memory<W> {
    fn new(capacity: usize) -> Arc<Self> {
        let slots = (0..capacity).map(|_| Slot::new()).collect();
        Arc::new(Memory { slots, cursor: AtomicU64::new(0) })
    }

    fn slots(&self) -> Slots<W> {
        let first = NonNull::from(&self.slots[0]);
        // SAFETY: as many slots as said, and every thread keeps the Arc for as long as it uses them.
        unsafe { Slots::new(first, self.slots.len() as u32) }
    }
}

fn event<const W: usize>(n: u64) -> [u64; W] {
    std::array::from_fn(|word| (n + 1) << (8 * word))
}

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbered<const W: usize> {
    n: u64,
    words: [u64; W],
}

impl<const W: usize> Entry<W> for Numbered<W> {
    fn event(&mut self) -> &mut [u64; W] {
        &mut self.words
    }

    fn set_ring_sequence(&mut self, n: u64) {
        self.n = n;
    }
}

/// Reads once, and checks all that came: whole, in order, none twice, none passed over but those counted as lost.
fn read<const W: usize>(memory: &Memory<W>, position: &mut Position, limit: usize) -> Read {
    let before = position.next;
    let mut out = vec![Numbered { n: u64::MAX, words: [0; W] }; limit];
    let read = position.read(&memory.slots(), &memory.cursor, &mut out, |_| true);
    for (n, found) in (before + read.lost..).zip(&out[..read.count]) {
        assert_eq!(*found, Numbered { n, words: event(n) });
    }
    assert_eq!(before + read.lost + read.count as u64, position.next);
    read
}

/// A producer publishes `events`, a reader reads `attempts` times meanwhile, then what is left.
fn model<const W: usize>(capacity: usize, events: u64, attempts: usize) {
    loom::model(move || {
        let memory = Memory::<W>::new(capacity);
        let producer = {
            let memory = Arc::clone(&memory);
            loom::thread::spawn(move || {
                for n in 0..events {
                    memory.slots().publish(&memory.cursor, n, &event(n));
                }
            })
        };
        let mut position = Position { next: 0 };
        let mut total = Read::default();
        let mut add = |read: Read| {
            total.count += read.count;
            total.lost += read.lost;
        };
        for _ in 0..attempts {
            add(read(&memory, &mut position, capacity));
        }
        producer.join().unwrap();
        loop {
            let last = read(&memory, &mut position, capacity);
            add(last);
            if last == Read::default() {
                break;
            }
        }
        assert_eq!(total.count as u64 + total.lost, events);
        assert_eq!(position.next, events);
    });
}

/// No overrun is possible: every event is read.
#[test]
fn reader_keeps_up() {
    model::<2>(4, 3, 2);
}

/// The producer comes round while the reader copies.
#[test]
fn producer_laps_the_reader() {
    model::<2>(2, 3, 1);
}

/// One slot written twice more: its sequence word changes again and again under the reader.
#[test]
fn producer_laps_the_reader_twice() {
    model::<1>(2, 4, 1);
}

/// A reader that begins at the cursor finds every event below it published.
#[test]
fn cursor_covers_published_slots() {
    loom::model(|| {
        let memory = Memory::<1>::new(2);
        let producer = {
            let memory = Arc::clone(&memory);
            loom::thread::spawn(move || {
                for n in 0..2 {
                    memory.slots().publish(&memory.cursor, n, &event(n));
                }
            })
        };
        let newest = head(&memory.cursor);
        let mut position = Position { next: newest.saturating_sub(1) };
        let found = read(&memory, &mut position, 1);
        assert!(newest == 0 || found == Read { count: 1, ..Read::default() });
        producer.join().unwrap();
        assert_eq!(memory.cursor.load(Ordering::Relaxed), 2);
    });
}
