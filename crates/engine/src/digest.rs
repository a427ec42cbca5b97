//! A fingerprint of what a strategy saw: equal events in equal order, equal digests.
//!
//! What happened counts, not how it came: receive times and clocks, where packets began and ended, whether a message came
//! on a line or by a retransmission, the health of lines, and the number that a feed gives its venue are left out.

use barewire_types::{Flags, Gap, Record, RecordKind, Status, StatusCode};
use zerocopy::transmute;

/// The digest of a stream of records. FNV-1a with 128 bits of state, fed with words of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsDigest(u128);

impl Default for EventsDigest {
    fn default() -> Self {
        EventsDigest(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl EventsDigest {
    /// Takes a record. Some twenty instructions.
    pub fn take(&mut self, record: &Record) {
        if record.kind() == Some(RecordKind::Status) {
            let code = Status::from(*record).code;
            let of_the_way = [StatusCode::LineDown, StatusCode::LineUp, StatusCode::Clock];
            if of_the_way.iter().any(|known| *known as u8 == code) {
                return;
            }
        }
        // Any kind's head is a gap's.
        let mut gap = Gap::from(*record);
        gap.ts_recv = 0;
        gap.ts_source = 0;
        gap.publisher_id = 0;
        gap.flags &= Flags::SNAPSHOT.with(Flags::MAYBE_STALE).0;
        let words: [u64; 7] = transmute!(gap);
        for word in words {
            self.0 = (self.0 ^ u128::from(word)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    /// The digest so far.
    pub fn value(&self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_counts_and_how_it_came_does_not() {
        let record = |sequence, flags: Flags, ts_recv| -> Record {
            let base =
                Gap { kind: RecordKind::Mbo as u8, sequence, flags: flags.0, ts_recv, ..Gap::from(Record([0; 7])) };
            base.into()
        };
        let digest = |records: &[Record]| {
            let mut digest = EventsDigest::default();
            records.iter().for_each(|record| digest.take(record));
            digest.value()
        };
        let seen = [record(1, Flags::NONE, 5), record(2, Flags::LAST, 6)];
        assert_eq!(digest(&seen), digest(&[record(1, Flags::RECOVERED, 7), record(2, Flags::NONE, 8)]));
        let numbered = seen.map(|record| Record::from(Gap { publisher_id: 9, ..Gap::from(record) }));
        assert_eq!(digest(&seen), digest(&numbered));
        assert_ne!(digest(&seen), digest(&[seen[1], seen[0]]));
        assert_ne!(digest(&seen), digest(&seen[..1]));
        assert_ne!(digest(&seen), digest(&[seen[0], record(2, Flags::MAYBE_STALE, 6)]));
    }
}
