//! The atomics of this crate, in one place so that loom's can stand in for them (`--cfg loom`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// An acquire load that is sound on memory mapped read-only.
///
/// Rust promises that a *relaxed* load of a word never writes to it, and promises that of no other order; a relaxed
/// load followed by an acquire fence is its documented way out. On x86-64 both are a plain load.
#[inline(always)]
pub(crate) fn load_acquire(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}
