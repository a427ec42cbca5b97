//! What can be wrong with a change, and how often it was.

use core::fmt;

/// Why a change was refused.
///
/// A refused change left every order and level as it was, and is already counted in [`Counters`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BookError {
    /// No live order has this id.
    UnknownOrder,
    /// A live order already has this id.
    DuplicateOrder,
    /// The instrument is not below [`Capacity::instruments`](crate::Capacity::instruments).
    BadInstrument,
    /// The side is neither bid nor ask.
    BadSide,
    /// The size is zero.
    ZeroSize,
    /// The price is undefined.
    UndefinedPrice,
    /// There is no room for the order or its level until [`Books::maintain`](crate::Books::maintain) makes some.
    OutOfCapacity,
    /// The level would have more orders or a larger sum than a level can have, or the side more levels than a side can
    /// have, see [`Level`](crate::Level).
    AtLimit,
}

impl BookError {
    /// The name of its counter, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            BookError::UnknownOrder => "unknown_order",
            BookError::DuplicateOrder => "duplicate_order",
            BookError::BadInstrument => "bad_instrument",
            BookError::BadSide => "bad_side",
            BookError::ZeroSize => "zero_size",
            BookError::UndefinedPrice => "undefined_price",
            BookError::OutOfCapacity => "out_of_capacity",
            BookError::AtLimit => "at_limit",
        }
    }
}

impl fmt::Display for BookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for BookError {}

/// How often each kind of trouble was met since construction. They only ever rise, and never wrap.
///
/// A call is counted at most once among the refusals (the fields named after a [`BookError`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Changes to an order that is not live.
    pub unknown_order: u64,
    /// Adds, and new orders of replacements, whose id was already live.
    pub duplicate_order: u64,
    /// Adds to an instrument that is out of range.
    pub bad_instrument: u64,
    /// Adds with a side that is neither bid nor ask.
    pub bad_side: u64,
    /// Adds, reductions and replacements of size zero.
    pub zero_size: u64,
    /// Adds and replacements without a price.
    pub undefined_price: u64,
    /// Adds and replacements for which there was no room.
    pub out_of_capacity: u64,
    /// Adds and replacements beyond what a level or a side can hold.
    pub at_limit: u64,
    /// Reductions by more than was left: what was left was taken, and the order removed.
    pub over_reduced: u64,
    /// Times that [`Books::maintain`](crate::Books::maintain) moved a table to make room.
    pub grown: u64,
    /// Times that [`Books::maintain`](crate::Books::maintain) should have made room and the system had no memory.
    pub growth_failed: u64,
}

impl Counters {
    /// Every counter with its name, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("unknown_order", self.unknown_order),
            ("duplicate_order", self.duplicate_order),
            ("bad_instrument", self.bad_instrument),
            ("bad_side", self.bad_side),
            ("zero_size", self.zero_size),
            ("undefined_price", self.undefined_price),
            ("out_of_capacity", self.out_of_capacity),
            ("at_limit", self.at_limit),
            ("over_reduced", self.over_reduced),
            ("grown", self.grown),
            ("growth_failed", self.growth_failed),
        ]
        .into_iter()
    }

    /// Counts a refusal and hands it back. Out of line: refusals are rare, and this keeps them out of the hot code.
    #[cold]
    #[inline(never)]
    pub(crate) fn refuse(&mut self, error: BookError) -> BookError {
        let counter = match error {
            BookError::UnknownOrder => &mut self.unknown_order,
            BookError::DuplicateOrder => &mut self.duplicate_order,
            BookError::BadInstrument => &mut self.bad_instrument,
            BookError::BadSide => &mut self.bad_side,
            BookError::ZeroSize => &mut self.zero_size,
            BookError::UndefinedPrice => &mut self.undefined_price,
            BookError::OutOfCapacity => &mut self.out_of_capacity,
            BookError::AtLimit => &mut self.at_limit,
        };
        *counter = counter.saturating_add(1);
        error
    }
}
