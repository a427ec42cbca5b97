//! The broadcast ring: how events get from the feed's thread to strategies, in this process or any other.
//!
//! One producer writes 64-byte slots in shared memory; any number of readers follow, each at its own pace. The producer
//! never waits and does not know its readers. A reader that falls a whole ring behind loses events, knows exactly how
//! many, and goes on. The concepts, and the memory layout for other languages, are in `docs/ring.md`.
//!
//! This crate does *not* make the producer wake anybody (readers look: see [`Patience`] and [`Watch`]), does not make a producer wait for a slow reader, carries nothing
//! larger than a [`Record`], and does not reach another machine.
//!
//! | file | what |
//! |---|---|
//! | `protocol.rs` | slots, sequence words, publish and read: what loom checks |
//! | `layout.rs` | the mapping's offsets and its header's fields |
//! | `producer.rs`, `reader.rs` | the two sides |
//! | `filter.rs`, `conflate.rs` | readers that do not want everything |
//! | `wait.rs` | waiting for a ring, with and without an event loop |
//! | `identity.rs`, `name.rs`, `shm.rs` | processes, files, system calls |
//! | `sync.rs` | the atomics |
#![cfg_attr(loom, allow(dead_code, unused_imports))]

mod protocol;
mod sync;

#[cfg(all(test, loom))]
mod loom_model;

#[cfg(not(loom))]
mod conflate;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod filter;
#[cfg(not(loom))]
mod identity;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod name;
#[cfg(not(loom))]
mod producer;
#[cfg(not(loom))]
mod reader;
#[cfg(not(loom))]
mod shm;
#[cfg(not(loom))]
mod wait;

pub use barewire_types::Record;
#[cfg(not(loom))]
pub use conflate::{Conflated, Conflator, Taken};
#[cfg(not(loom))]
pub use error::{DirectoryError, RingError};
#[cfg(not(loom))]
pub use filter::Filter;
#[cfg(not(loom))]
pub use layout::{
    DIRECTORY_COUNT_OFFSET, DIRECTORY_ENTRY_BYTES, DIRECTORY_OFFSET, HEADER_BYTES, HEARTBEAT_OFFSET, Header,
    Instrument, LAYOUT_HASH, MAGIC, MAX_CAPACITY, MAX_DIRECTORY_CAPACITY, PUBLISHED_OFFSET, RingRecord, SLOT_BYTES,
    STAT_NAME_BYTES, STAT_NAMES_OFFSET, STATE_OFFSET, STATS_OFFSET, STATS_WORDS, VERSION,
};
#[cfg(not(loom))]
pub use name::{MAX_NAME_BYTES, ring_names};
#[cfg(not(loom))]
pub use producer::{Producer, RingConfig, remove_dead_ring};
pub use protocol::Read;
#[cfg(not(loom))]
pub use reader::{ProducerState, Reader, RingInfo};
#[cfg(not(loom))]
pub use wait::{Patience, Wait, Watch};

/// Words of a record.
#[cfg(not(loom))]
const EVENT_WORDS: usize = barewire_types::RECORD_BYTES / 8;
