//! Asking for memory ahead of its use.
//!
//! A prefetch instruction cannot fault and changes nothing but the cache, yet no stable safe function emits one. The
//! crates that forbid `unsafe` therefore take a [`Prefetch`] as a type parameter; the one that emits the instruction
//! lives with the other `unsafe` code in `barewire-io`.

/// Something that can ask for the cache line of a value that will be read or written soon.
pub trait Prefetch: Copy {
    /// Asks for the first cache line of `item`. Costs one instruction, or nothing.
    fn prefetch<T>(self, item: &T);
}

/// Asks for nothing: for tests, and for machines without a prefetch instruction.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPrefetch;

impl Prefetch for NoPrefetch {
    #[inline(always)]
    fn prefetch<T>(self, _item: &T) {}
}
