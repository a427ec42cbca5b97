//! One declaration for a byte layout: the struct, and the table of its fields.

use zerocopy::byteorder::{BE, I64, LE, U16, U32, U64};

/// How the bytes of a field are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Unsigned integer, big-endian on the wire.
    UintBe,
    /// Unsigned integer, little-endian.
    UintLe,
    /// Signed integer, little-endian.
    IntLe,
    /// ASCII text, padded with spaces on the right.
    Text,
    /// Bytes without a meaning of their own (padding, reserved).
    Bytes,
}

/// One row of a field table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name in snake case, as the specification's table has it.
    pub name: &'static str,
    /// Offset from the first byte of the layout.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
    /// How to read the bytes.
    pub kind: FieldKind,
    /// Unit of the value; empty where it has none.
    pub unit: &'static str,
    /// What the field means, from its doc comment.
    pub doc: &'static str,
}

/// A type that can stand in a layout.
pub trait FieldType {
    /// How its bytes are to be read.
    const KIND: FieldKind;

    /// The value as a word: integers as they are, of text the first eight bytes.
    fn word(self) -> u64;
}

macro_rules! field_types {
    ($($ty:ty => $kind:ident, $self:ident => $word:expr;)+) => { $(
        impl FieldType for $ty {
            const KIND: FieldKind = FieldKind::$kind;

            #[inline(always)]
            fn word($self) -> u64 {
                $word
            }
        }
    )+ };
}
field_types! {
    U16<BE> => UintBe, self => self.get().into();
    U32<BE> => UintBe, self => self.get().into();
    U64<BE> => UintBe, self => self.get();
    U16<LE> => UintLe, self => self.get().into();
    U32<LE> => UintLe, self => self.get().into();
    U64<LE> => UintLe, self => self.get();
    I64<LE> => IntLe, self => self.get().cast_unsigned();
    u8 => UintBe, self => self.into();
}
#[cfg(target_endian = "little")]
field_types! {
    u16 => UintLe, self => self.into();
    u32 => UintLe, self => self.into();
    u64 => UintLe, self => self;
    i64 => IntLe, self => self.cast_unsigned();
}

impl<const N: usize> FieldType for [u8; N] {
    const KIND: FieldKind = FieldKind::Text;

    #[inline(always)]
    fn word(self) -> u64 {
        let mut word = [0; 8];
        let len = N.min(8);
        word[..len].copy_from_slice(&self[..len]);
        u64::from_le_bytes(word)
    }
}

/// A struct that was declared with [`layout!`](crate::layout!).
pub trait Layout {
    /// Name in snake case, as the specification's table has it.
    const NAME: &'static str;
    /// The struct's size in bytes.
    const LEN: usize;
    /// Every field in order, without holes.
    const FIELDS: &'static [Field];

    /// The sum of every field's [`word`](FieldType::word), which reads each of them once: for measuring what reading
    /// costs.
    fn sum(&self) -> u64;
}

/// Declares a byte layout once.
///
/// The struct is `#[repr(C)]` with zerocopy's casts derived; the table is its [`Layout::FIELDS`]. A field may carry its
/// unit in brackets behind its type, and another [`FieldKind`] than its type's behind `as`:
///
/// ```
/// use barewire_types::zerocopy::byteorder::big_endian::{U16, U32};
/// barewire_types::layout! {
///     /// An example.
///     #[derive(PartialEq, Eq)]
///     pub struct Example: "example_message" {
///         /// Which instrument.
///         stock_locate: U16,
///         /// Limit price.
///         price: U32 ["1e-4 USD"],
///         /// Not used.
///         reserved: [u8; 2] as Bytes,
///     }
/// }
/// use barewire_types::{FieldKind, Layout};
/// assert_eq!(Example::LEN, 8);
/// assert_eq!(Example::FIELDS[1].offset, 2);
/// assert_eq!(Example::FIELDS[1].unit, "1e-4 USD");
/// assert_eq!(Example::FIELDS[1].doc, "Limit price.");
/// assert_eq!(Example::FIELDS[2].kind, FieldKind::Bytes);
/// assert_eq!(Example { stock_locate: 1.into(), price: 2.into(), reserved: [4, 0] }.sum(), 7);
/// ```
#[macro_export]
macro_rules! layout {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident : $text:literal {
            $( $(#[doc = $doc:literal])* $field:ident : $ty:ty $(as $kind:ident)? $([$unit:literal])? ),+ $(,)?
        }
    )+) => { $(
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug,
            $crate::zerocopy::FromBytes, $crate::zerocopy::IntoBytes,
            $crate::zerocopy::KnownLayout, $crate::zerocopy::Immutable,
        )]
        #[repr(C)]
        $vis struct $name { $( $(#[doc = $doc])* pub $field: $ty ),+ }

        impl $crate::Layout for $name {
            const NAME: &'static str = $text;
            const LEN: usize = ::core::mem::size_of::<$name>();
            const FIELDS: &'static [$crate::Field] = &[ $( $crate::Field {
                name: ::core::stringify!($field),
                offset: ::core::mem::offset_of!($name, $field),
                len: ::core::mem::size_of::<$ty>(),
                kind: $crate::layout!(@kind $ty $(, $kind)?),
                unit: ::core::concat!("" $(, $unit)?),
                doc: ::core::concat!($($doc),*).trim_ascii(),
            } ),+ ];

            #[inline(always)]
            fn sum(&self) -> u64 {
                0u64 $( .wrapping_add($crate::FieldType::word(self.$field)) )+
            }
        }
    )+ };
    (@kind $ty:ty) => { <$ty as $crate::FieldType>::KIND };
    (@kind $ty:ty, $kind:ident) => { $crate::FieldKind::$kind };
}
