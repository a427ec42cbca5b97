//! Where everything is in the mapping. `docs/ring.md` and `include/barewire_ring.h` say the same for other languages,
//! and tests hold them to the tables here.

use crate::RingError;
use barewire_types::{Bbo, Field, FieldKind, Gap, Layout as _, Mbo, RECORD_BYTES, Record, Status};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The first eight bytes of every ring.
pub const MAGIC: [u8; 8] = *b"BAREWIRE";
/// Version of the layout on this page.
pub const VERSION: u32 = 1;
/// Bytes before the statistics: the fixed fields, then the words that change, each group on lines of its own.
pub const HEADER_BYTES: usize = 4096;
/// Offset of the count of published events, a u64. Written with every event: never poll it.
pub const PUBLISHED_OFFSET: usize = 128;
/// Offset of the producer's last heartbeat, a u64 of nanoseconds since 1970, UTC.
pub const HEARTBEAT_OFFSET: usize = 256;
/// Offset of the producer's state, a u64: 1 live, 2 closed, 3 replaced by a ring of a later epoch.
pub const STATE_OFFSET: usize = 264;
/// Offset of the count of published directory entries, a u64.
pub const DIRECTORY_COUNT_OFFSET: usize = 384;
/// Offset of the statistics, u64 each.
pub const STATS_OFFSET: usize = HEADER_BYTES;
/// How many statistics there are.
pub const STATS_WORDS: usize = 512;
/// Offset of the statistics' names.
pub const STAT_NAMES_OFFSET: usize = STATS_OFFSET + STATS_WORDS * 8;
/// Size of a statistic's name, padded with zero bytes; at least one is there.
pub const STAT_NAME_BYTES: usize = 64;
/// Offset of the instrument directory.
pub const DIRECTORY_OFFSET: usize = STAT_NAMES_OFFSET + STATS_WORDS * STAT_NAME_BYTES;
/// Size of a directory entry.
pub const DIRECTORY_ENTRY_BYTES: usize = 32;
/// Size of a slot: the sequence word and the record.
pub const SLOT_BYTES: usize = 8 + RECORD_BYTES;
/// The most slots that a ring can have (4 GiB of them).
pub const MAX_CAPACITY: u32 = 1 << 26;
/// The most entries that a directory can have.
pub const MAX_DIRECTORY_CAPACITY: u32 = 1 << 22;
/// Directories are rounded up to this many entries, which fill a page: the slots then begin on one.
const DIRECTORY_STEP: u32 = 128;

/// Values of the state word.
pub(crate) mod state {
    /// The producer is at work, or died.
    pub(crate) const LIVE: u64 = 1;
    /// The producer closed the ring.
    pub(crate) const CLOSED: u64 = 2;
    /// The producer died, and another began a new epoch under the same name.
    pub(crate) const REPLACED: u64 = 3;
}

barewire_types::layout! {
    /// The fixed fields at offset 0: written before the ring can be found by its name, and never again.
    #[derive(PartialEq, Eq)]
    pub struct Header: "ring_header" {
        /// `BAREWIRE`.
        magic: [u8; 8],
        /// Version of the layout.
        version: u32,
        /// Offset of the statistics: 4096.
        header_bytes: u32 ["bytes"],
        /// Hash of the record layouts: a reader with another one cannot read the records.
        layout_hash: u64,
        /// How many slots; a power of two.
        capacity: u32 ["slots"],
        /// Size of a slot: 64.
        slot_bytes: u32 ["bytes"],
        /// When the ring was created; differs from that of any ring that had its name before.
        epoch: u64 ["ns since 1970, UTC"],
        /// Process id of the producer, in its own pid namespace.
        producer_pid: u64,
        /// When the producer's process was started: tells it from a later one with the same id.
        producer_start: u64 ["clock ticks since boot"],
        /// Inode number of the producer's pid namespace.
        producer_pid_namespace: u64,
        /// Offset of slot 0.
        slots_offset: u64 ["bytes"],
        /// Size of the whole mapping.
        total_bytes: u64 ["bytes"],
        /// Offset of the statistics.
        stats_offset: u64 ["bytes"],
        /// How many statistics there are: 512.
        stats_words: u32,
        /// Size of a statistic's name: 64.
        stat_name_bytes: u32 ["bytes"],
        /// Offset of the statistics' names.
        stat_names_offset: u64 ["bytes"],
        /// Offset of the instrument directory.
        directory_offset: u64 ["bytes"],
        /// How many entries the directory has room for.
        directory_capacity: u32 ["entries"],
        /// Size of a directory entry: 32.
        directory_entry_bytes: u32 ["bytes"],
        /// Zero.
        reserved: u64,
    }

    /// An entry of the instrument directory.
    #[derive(PartialEq, Eq)]
    pub struct Instrument: "ring_instrument" {
        /// The venue's number of the instrument.
        instrument_id: u32,
        /// Its symbol, padded with zero bytes.
        symbol: [u8; 20],
        /// Zero.
        reserved: [u8; 8] as Bytes,
    }
}

const _: () = assert!(Header::LEN == PUBLISHED_OFFSET);
const _: () = assert!(Instrument::LEN == DIRECTORY_ENTRY_BYTES);
const _: () = assert!(DIRECTORY_OFFSET == 40_960);

impl Instrument {
    /// The longest symbol there can be, in bytes.
    pub const SYMBOL_BYTES: usize = 20;

    /// The symbol without its padding.
    pub fn symbol(&self) -> &[u8] {
        let len = self.symbol.iter().position(|byte| *byte == 0).unwrap_or(self.symbol.len());
        &self.symbol[..len]
    }
}

/// A record and its place in the ring, as readers get it: 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RingRecord {
    /// The event's number in this epoch, counted from 0.
    pub ring_sequence: u64,
    /// The event.
    pub record: Record,
}

impl RingRecord {
    /// All zero: to fill a buffer with before the first read.
    pub const ZERO: RingRecord = RingRecord { ring_sequence: 0, record: Record([0; RECORD_BYTES / 8]) };
}

/// Hash of everything that a reader must know of the records: FNV-1a over the field tables of the four kinds.
pub const LAYOUT_HASH: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    hash = hash_layout(hash, Mbo::NAME, Mbo::FIELDS);
    hash = hash_layout(hash, Bbo::NAME, Bbo::FIELDS);
    hash = hash_layout(hash, Gap::NAME, Gap::FIELDS);
    hash_layout(hash, Status::NAME, Status::FIELDS)
};

const fn hash_layout(mut hash: u64, name: &str, fields: &[Field]) -> u64 {
    hash = hash_text(hash, name);
    let mut i = 0;
    while i < fields.len() {
        let field = &fields[i];
        hash = hash_text(hash, field.name);
        hash = hash_text(hash, field.unit);
        hash = hash_byte(hash, field.offset as u8);
        hash = hash_byte(hash, field.len as u8);
        hash = hash_byte(
            hash,
            match field.kind {
                FieldKind::UintBe => 1,
                FieldKind::UintLe => 2,
                FieldKind::IntLe => 3,
                FieldKind::Text => 4,
                FieldKind::Bytes => 5,
            },
        );
        i += 1;
    }
    hash
}

/// The text and a terminating zero, so that neighbours cannot run together.
const fn hash_text(mut hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        hash = hash_byte(hash, bytes[i]);
        i += 1;
    }
    hash_byte(hash, 0)
}

const fn hash_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// The sizes that differ from ring to ring, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Slots; a power of two from 2 to [`MAX_CAPACITY`].
    pub(crate) capacity: u32,
    /// Directory entries; a multiple of [`DIRECTORY_STEP`] up to [`MAX_DIRECTORY_CAPACITY`].
    pub(crate) directory_capacity: u32,
}

impl Layout {
    /// The layout of a ring with so many slots and room for at least so many instruments.
    pub(crate) fn new(capacity: u32, instruments: u32) -> Result<Layout, RingError> {
        if !capacity.is_power_of_two() || !(2..=MAX_CAPACITY).contains(&capacity) {
            return Err(RingError::Capacity { limit: MAX_CAPACITY, found: capacity });
        }
        if !(1..=MAX_DIRECTORY_CAPACITY).contains(&instruments) {
            return Err(RingError::DirectoryCapacity { limit: MAX_DIRECTORY_CAPACITY, found: instruments });
        }
        Ok(Layout { capacity, directory_capacity: instruments.next_multiple_of(DIRECTORY_STEP) })
    }

    /// Offset of slot 0, on a page.
    pub(crate) fn slots_offset(&self) -> usize {
        DIRECTORY_OFFSET + self.directory_capacity as usize * DIRECTORY_ENTRY_BYTES
    }

    /// Size of the mapping.
    pub(crate) fn total_bytes(&self) -> usize {
        self.slots_offset() + self.capacity as usize * SLOT_BYTES
    }

    /// The header of such a ring, as yet nobody's.
    pub(crate) fn header(&self) -> Header {
        Header {
            magic: MAGIC,
            version: VERSION,
            header_bytes: HEADER_BYTES as u32,
            layout_hash: LAYOUT_HASH,
            capacity: self.capacity,
            slot_bytes: SLOT_BYTES as u32,
            epoch: 0,
            producer_pid: 0,
            producer_start: 0,
            producer_pid_namespace: 0,
            slots_offset: self.slots_offset() as u64,
            total_bytes: self.total_bytes() as u64,
            stats_offset: STATS_OFFSET as u64,
            stats_words: STATS_WORDS as u32,
            stat_name_bytes: STAT_NAME_BYTES as u32,
            stat_names_offset: STAT_NAMES_OFFSET as u64,
            directory_offset: DIRECTORY_OFFSET as u64,
            directory_capacity: self.directory_capacity,
            directory_entry_bytes: DIRECTORY_ENTRY_BYTES as u32,
            reserved: 0,
        }
    }

    /// The layout that a header tells of, if it is one that this build reads and the file is long enough for it.
    /// After this no offset or size is taken from the header again.
    pub(crate) fn of(header: &Header, file_bytes: u64) -> Result<Layout, RingError> {
        if header.magic != MAGIC {
            return Err(RingError::Magic { expected: MAGIC, found: header.magic });
        }
        if header.version != VERSION {
            return Err(RingError::Version { expected: VERSION, found: header.version });
        }
        if header.layout_hash != LAYOUT_HASH {
            return Err(RingError::LayoutHash { expected: LAYOUT_HASH, found: header.layout_hash });
        }
        let layout = Layout::new(header.capacity, header.directory_capacity)?;
        let right = layout.header();
        for (field, expected, found) in [
            ("directory_capacity", right.directory_capacity.into(), header.directory_capacity.into()),
            ("header_bytes", right.header_bytes.into(), header.header_bytes.into()),
            ("slot_bytes", right.slot_bytes.into(), header.slot_bytes.into()),
            ("slots_offset", right.slots_offset, header.slots_offset),
            ("total_bytes", right.total_bytes, header.total_bytes),
            ("stats_offset", right.stats_offset, header.stats_offset),
            ("stats_words", right.stats_words.into(), header.stats_words.into()),
            ("stat_name_bytes", right.stat_name_bytes.into(), header.stat_name_bytes.into()),
            ("stat_names_offset", right.stat_names_offset, header.stat_names_offset),
            ("directory_offset", right.directory_offset, header.directory_offset),
            ("directory_entry_bytes", right.directory_entry_bytes.into(), header.directory_entry_bytes.into()),
        ] {
            if expected != found {
                return Err(RingError::Header { field, expected, found });
            }
        }
        if file_bytes < right.total_bytes {
            return Err(RingError::Truncated { expected: right.total_bytes, found: file_bytes });
        }
        Ok(layout)
    }
}
