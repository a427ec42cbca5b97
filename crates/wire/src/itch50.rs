//! Nasdaq TotalView-ITCH 5.0: every order, execution, cross and state change of the Nasdaq market.
//!
//! # Specification
//!
//! "Nasdaq TotalView-ITCH 5.0" (NQTVITCHSpecification.pdf), Nasdaq, edition of 2026-02-19, section 1, "Message
//! Formats". BX and PSX send the same layouts, with fewer types. Integers are unsigned and big-endian, text is ASCII
//! padded with spaces on the right, Price(4) and Price(8) have four and eight decimal places. Times are nanoseconds
//! since midnight in New York; the date is not on the wire.
//!
//! Messages come in MoldUDP64 packets, in SoupBinTCP packets or in a BinaryFILE; nothing of those is in a message.
//!
//! # Contract
//!
//! [`Message::parse`] checks that the type is known and that there are exactly as many bytes as it has. Each view then
//! has all its fields. Codes are not checked: Nasdaq adds some with every edition, and a reader that does not know one
//! is better off with the rest of the message. [`SPEC`] tells what is known of them.
//!
//! To encode, fill a struct and take its `as_bytes`; its `message_type` must be the struct's `TYPE`.

mod codes;
mod messages;

use core::fmt;

use barewire_types::{Layout, Price, layout};
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, IntoBytes, Unaligned};

pub use self::codes::CODES;
pub use self::messages::*;
use crate::{Described, MessageSpec, ProtocolSpec, Structure, U48};

/// The longest message's length in bytes.
pub const MAX_LEN: usize = 50;

/// The greatest Price(4), 200,000.0000. In an order it stands for "at the market", in an auction's message for none.
pub const MAX_PRICE4: u32 = 2_000_000_000;

layout! {
    /// What every message begins with.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct Prefix: "message_prefix" {
        /// Which message this is.
        message_type: u8 as Text,
        /// The day's number of the instrument; 0 where the message is about none.
        stock_locate: U16,
        /// Nasdaq's own number of the message.
        tracking_number: U16,
        /// When it happened.
        timestamp: U48 ["ns since midnight, US Eastern"],
    }
}

impl Prefix {
    /// The prefix of a message; `None` for fewer than 11 bytes. The message's type is not looked at.
    #[inline]
    pub fn of(message: &[u8]) -> Option<&Prefix> {
        Prefix::ref_from_prefix(message).ok().map(|(prefix, _)| prefix)
    }

    /// The timestamp, in ns since midnight, US Eastern.
    ///
    /// As `timestamp.get()`, but with one load: the tracking number before it fills the eight bytes, and is masked off.
    #[inline]
    pub fn timestamp_ns(&self) -> u64 {
        let [_, _, _, eight @ ..]: [u8; size_of::<Prefix>()] = zerocopy::transmute!(*self);
        u64::from_be_bytes(eight) & U48::MAX
    }
}

/// The day's number of a message's instrument; `None` for fewer than 3 bytes.
#[inline]
pub fn locate(message: &[u8]) -> Option<u16> {
    message.first_chunk().map(|&[_, high, low]| u16::from_be_bytes([high, low]))
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ItchError {
    /// No bytes at all.
    Empty,
    /// A type that the edition does not have. Its sender gave a length: skip the message.
    UnknownType(u8),
    /// More or fewer bytes than the type has.
    BadLength {
        /// The type.
        type_code: u8,
        /// The type's length in bytes.
        expected: usize,
        /// The length that came.
        found: usize,
    },
}

impl ItchError {
    /// The name that counters have.
    pub const fn name(self) -> &'static str {
        match self {
            ItchError::Empty => "empty",
            ItchError::UnknownType(_) => "unknown_type",
            ItchError::BadLength { .. } => "bad_length",
        }
    }
}

impl fmt::Display for ItchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ItchError::Empty => f.write_str("empty message"),
            ItchError::UnknownType(code) => write!(f, "unknown message type '{}'", code.escape_ascii()),
            ItchError::BadLength { type_code, expected, found } => {
                write!(f, "message type '{}' has {expected} bytes, found {found}", type_code.escape_ascii())
            }
        }
    }
}

impl core::error::Error for ItchError {}

#[cold]
fn bad_length(type_code: u8, expected: usize, found: usize) -> ItchError {
    ItchError::BadLength { type_code, expected, found }
}

macro_rules! message_enum {
    ($($name:ident),+ $(,)?) => {
        /// A message of any type, as a view of its bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Message<'a> {
            $(
                #[doc = concat!("See [`", stringify!($name), "`](struct@", stringify!($name), ").")]
                $name(&'a $name),
            )+
        }

        impl<'a> Message<'a> {
            /// Views bytes as the message that their first says they are.
            ///
            /// # Errors
            ///
            /// Every [`ItchError`].
            #[inline]
            pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, ItchError> {
                Message::dispatch(bytes, |message| message)
            }

            /// As [`parse`](Message::parse), but hands the message to `then` and returns what that does.
            ///
            /// For the hot path. Matching on a parsed message looks at its type a second time, which compilers do not
            /// always see through, and a jump that is hard to foresee is the dearest part of decoding. Here `then` is
            /// called from a place of its own for each type: where it is inlined, its match costs nothing.
            ///
            /// # Errors
            ///
            /// Every [`ItchError`]; `then` is not called.
            #[inline(always)]
            pub fn dispatch<R>(bytes: &'a [u8], then: impl FnOnce(Message<'a>) -> R) -> Result<R, ItchError> {
                let Some(&type_code) = bytes.first() else { return Err(ItchError::Empty) };
                match type_code {
                    $(
                        $name::TYPE => match $name::ref_from_bytes(bytes) {
                            Ok(message) => Ok(then(Message::$name(message))),
                            Err(_) => Err(bad_length(type_code, $name::LEN, bytes.len())),
                        },
                    )+
                    _ => Err(ItchError::UnknownType(type_code)),
                }
            }

            /// The message's bytes.
            #[inline]
            pub fn as_bytes(&self) -> &'a [u8] {
                match *self {
                    $( Message::$name(message) => message.as_bytes(), )+
                }
            }

            /// The sum of all fields: see [`Layout::sum`].
            #[inline(always)]
            pub fn sum(&self) -> u64 {
                match self {
                    $( Message::$name(message) => Layout::sum(*message), )+
                }
            }

            /// The row of the message's type.
            #[inline]
            pub fn spec(&self) -> &'static MessageSpec {
                match self {
                    $( Message::$name(_) => const { &spec_of::<$name>($name::TYPE) }, )+
                }
            }
        }

        const MESSAGES: &[MessageSpec] = &[ $( spec_of::<$name>($name::TYPE) ),+ ];

        $(
            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    Message::$name(self).fmt(f)
                }
            }
        )+
    };
}

// In the order of their codes, as SPEC has them.
message_enum! {
    AddOrder, BrokenTrade, OrderExecutedWithPrice, OrderDelete, OrderExecuted, AddOrderMpid, StockTradingAction,
    NetOrderImbalance, LuldAuctionCollar, IpoQuotingPeriod, MarketParticipantPosition, RetailPriceImprovement,
    DirectListing, NonCrossTrade, CrossTrade, StockDirectory, SystemEvent, OrderReplace, MwcbDeclineLevel, MwcbStatus,
    OrderCancel, RegSho, OperationalHalt,
}

const fn spec_of<T: Layout>(type_code: u8) -> MessageSpec {
    MessageSpec { type_code, name: T::NAME, len: T::LEN, fields: T::FIELDS }
}

impl fmt::Display for Message<'_> {
    /// The type's name, then every field but the type as `name=value`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = self.spec();
        let fields = spec.fields.get(1..).unwrap_or_default();
        write!(f, "{} {}", spec.name, Described { fields, bytes: self.as_bytes() })
    }
}

/// The protocol's tables.
pub const SPEC: ProtocolSpec = ProtocolSpec {
    name: "itch-5.0",
    title: "Nasdaq TotalView-ITCH 5.0",
    source: "Nasdaq, NQTVITCHSpecification.pdf, edition of 2026-02-19",
    structures: &[Structure { name: Prefix::NAME, len: Prefix::LEN, fields: Prefix::FIELDS }],
    messages: MESSAGES,
    codes: CODES,
};

static BY_TYPE: [Option<&MessageSpec>; 256] = {
    let mut table = [None; 256];
    let mut at = 0;
    while at < MESSAGES.len() {
        assert!(table[MESSAGES[at].type_code as usize].is_none(), "two messages with one code");
        assert!(MESSAGES[at].len <= MAX_LEN);
        table[MESSAGES[at].type_code as usize] = Some(&MESSAGES[at]);
        at += 1;
    }
    table
};

/// The row of a message type; `None` for a code that no type has. One load from a table.
#[inline]
pub fn spec(type_code: u8) -> Option<&'static MessageSpec> {
    BY_TYPE[usize::from(type_code)]
}

/// The price that a Price(4) stands for: four decimal places to nine.
#[inline]
pub const fn price4(raw: u32) -> Price {
    Price(raw as i64 * 100_000)
}

/// The Price(4) of a price; `None` where it is negative, above [`MAX_PRICE4`] or finer than four places.
#[inline]
pub const fn to_price4(price: Price) -> Option<u32> {
    let raw = price.0 / 100_000;
    if price.0 % 100_000 == 0 && 0 <= raw && raw <= MAX_PRICE4 as i64 { Some(raw as u32) } else { None }
}

/// The price that a Price(8) stands for: eight decimal places to nine; undefined where that does not fit.
#[inline]
pub const fn price8(raw: u64) -> Price {
    if raw <= i64::MAX as u64 / 10 { Price(raw as i64 * 10) } else { Price::UNDEF }
}
