//! What every barewire crate shares.
//!
//! - [`Price`], [`Seq`], [`UnixNanos`], [`Side`], [`Action`]: the vocabulary of the field, as newtypes.
//! - [`Record`]: one event as it travels through the ring, 56 bytes, in four kinds: [`Mbo`], [`Bbo`], [`Gap`], [`Status`].
//! - [`layout!`]: declares a byte layout once and yields both the struct and its field table.
//! - [`Prefetch`]: how crates without `unsafe` ask for a cache line ahead of its use.
//!
//! Nothing here allocates, and nothing here is `unsafe`.
#![no_std]
#![forbid(unsafe_code)]

mod layout;
mod prefetch;
mod record;
mod scalar;

pub use layout::{Field, FieldKind, FieldType, Layout};
pub use prefetch::{NoPrefetch, Prefetch};
pub use record::{Bbo, Flags, Gap, GapReason, Mbo, RECORD_BYTES, Record, RecordKind, Status, StatusCode};
pub use scalar::{Action, Price, Seq, Side, TsSource, UNDEF_PRICE, UnixNanos};

#[doc(hidden)]
pub use zerocopy;
