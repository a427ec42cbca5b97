//! Prices, sequence numbers, times, sides and actions.

use core::fmt;

/// The raw value of [`Price::UNDEF`]: there is no price.
pub const UNDEF_PRICE: i64 = i64::MAX;

/// A price in units of 1e-9 of the instrument's currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Price(pub i64);

impl Price {
    /// No price: an empty side, a market order.
    pub const UNDEF: Price = Price(UNDEF_PRICE);

    /// Whether there is a price.
    #[inline]
    pub const fn is_defined(self) -> bool {
        self.0 != UNDEF_PRICE
    }
}

impl fmt::Display for Price {
    /// The decimal value with the nine places that the unit has, e.g. `189.300000000`; empty where undefined.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_defined() {
            return Ok(());
        }
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:09}", magnitude / 1_000_000_000, magnitude % 1_000_000_000)
    }
}

/// A venue's sequence number of one message, counted from 1 within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Seq(pub u64);

/// Nanoseconds since the UNIX epoch, UTC. 0 stands for an absent time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct UnixNanos(pub u64);

impl UnixNanos {
    /// There is no time.
    pub const ABSENT: UnixNanos = UnixNanos(0);
}

/// A side of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// Buyers.
    Bid = b'B',
    /// Sellers.
    Ask = b'A',
    /// Not known, or does not apply (crosses, clears).
    None = b'N',
}

impl Side {
    /// The other side; `None` stays `None`.
    #[inline]
    pub const fn opposite(self) -> Side {
        match self {
            Side::Bid => Side::Ask,
            Side::Ask => Side::Bid,
            Side::None => Side::None,
        }
    }
}

/// What an [`Mbo`](crate::Mbo) event does, in Databento's letters.
///
/// A book is rebuilt from `Add`, `Cancel`, `Modify` and `Clear` alone. `Trade` and `Fill` never change it: an
/// execution of a displayed order is told as `Trade` (the aggressor), `Fill` (the resting order) and `Cancel` (what
/// that took from the book).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// An order enters the book.
    Add = b'A',
    /// `size` is taken from an order; at none left it is gone.
    Cancel = b'C',
    /// An order's price or size becomes what the event says.
    Modify = b'M',
    /// A trade printed; `side` is the aggressor's, `None` where the venue does not say.
    Trade = b'T',
    /// A resting order was filled by `size`; `side` is the resting order's.
    Fill = b'F',
    /// Every order of the instrument is gone.
    Clear = b'R',
}

/// By which clock `ts_recv` was taken, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum TsSource {
    /// No receive time is known.
    #[default]
    None = 0,
    /// The network card's hardware clock.
    Nic = 1,
    /// The capture: a timestamping switch's trailer, or the packet's time in a capture file.
    Capture = 2,
    /// The kernel, when its driver handed the packet up.
    Kernel = 3,
    /// The feed thread, when it saw the packet.
    User = 4,
}

impl TsSource {
    /// The name that configuration and output use.
    pub const fn name(self) -> &'static str {
        match self {
            TsSource::None => "none",
            TsSource::Nic => "nic",
            TsSource::Capture => "capture",
            TsSource::Kernel => "kernel",
            TsSource::User => "user",
        }
    }
}
