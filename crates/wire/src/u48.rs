//! An unsigned integer of six bytes.

use core::fmt;

use barewire_types::{FieldKind, FieldType};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A big-endian unsigned integer of six bytes, as ITCH writes its times.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct U48([u8; 6]);

impl U48 {
    /// The greatest value: 2^48 - 1.
    pub const MAX: u64 = (1 << 48) - 1;

    /// The low 48 bits of `value`; what is above them is dropped.
    #[inline]
    pub const fn new(value: u64) -> U48 {
        let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
        U48([a, b, c, d, e, f])
    }

    /// The value.
    #[inline]
    pub const fn get(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl FieldType for U48 {
    const KIND: FieldKind = FieldKind::UintBe;

    #[inline(always)]
    fn word(self) -> u64 {
        self.get()
    }
}

impl From<U48> for u64 {
    #[inline]
    fn from(value: U48) -> u64 {
        value.get()
    }
}

impl fmt::Debug for U48 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "U48({})", self.get())
    }
}

impl fmt::Display for U48 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_endian_and_cut_to_48_bits() {
        assert_eq!(U48::new(0x0102_0304_0506).as_bytes(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(U48::new(u64::MAX).get(), U48::MAX);
        assert_eq!(U48::new(34_200_000_059_000).get(), 34_200_000_059_000);
    }
}
