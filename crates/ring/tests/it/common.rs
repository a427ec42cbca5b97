//! What the ring's tests share: names that do not collide, and records that show when they are torn.

use barewire_ring::{Reader, Record, RingConfig, RingRecord};

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    format!("test-{}-{what}", std::process::id())
}

/// A small named ring.
pub fn named(name: &str, capacity: u32) -> RingConfig {
    RingConfig { name: Some(name.to_owned()), ..anonymous(capacity) }
}

/// A small ring without a name.
pub fn anonymous(capacity: u32) -> RingConfig {
    RingConfig { capacity, instruments: 128, ..RingConfig::default() }
}

/// Event `n`: every word follows from it, each in another way.
pub fn event(n: u64) -> Record {
    Record(std::array::from_fn(|word| {
        n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(word as u32 * 8)
    }))
}

/// What a reader has had so far, checked as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tally {
    pub read: u64,
    pub lost: u64,
}

impl Tally {
    /// One read of up to `batch.len()` events, all of which must be whole and in order. Returns how many came.
    pub fn read(&mut self, reader: &mut Reader, batch: &mut [RingRecord]) -> usize {
        let before = reader.position();
        let read = reader.read(batch);
        for (n, found) in (before + read.lost..).zip(&batch[..read.count]) {
            assert_eq!(*found, RingRecord { ring_sequence: n, record: event(n) });
        }
        assert_eq!(reader.position(), before + read.lost + read.count as u64);
        self.read += read.count as u64;
        self.lost += read.lost;
        read.count
    }

    /// Reads until there is nothing left for now.
    pub fn drain(&mut self, reader: &mut Reader, batch: &mut [RingRecord]) {
        while self.read(reader, batch) > 0 {}
    }

    /// Reads until the ring is closed and empty.
    pub fn read_to_end(&mut self, reader: &mut Reader, batch: &mut [RingRecord], mut pause: impl FnMut()) {
        while !reader.is_closed() {
            if self.read(reader, batch) == 0 {
                std::hint::spin_loop();
            }
            pause();
        }
        self.drain(reader, batch);
    }
}
