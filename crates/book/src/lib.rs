//! Order-by-order books of every instrument of a venue: orders, price levels, best bid and offer.
//!
//! [`Books`] knows orders and prices, and nothing of venues: ids are any u64, prices any i64 in units of 1e-9 (negative
//! ones too), instruments a dense number below [`Capacity::instruments`]. It does not decode, sequence, or know trading
//! states; it does not filter either (see *Following a subset*).
//!
//! # Cost
//! A message costs what its cache misses cost, so everything is laid out in cache lines: an order is half a line, a
//! book's head (both best levels in it) is one line, and levels are sorted arrays with the best at the end, four to a
//! line. A change touches one line of each kind. Ask for them ahead, in two stages, over a window of messages:
//!
//! 1. [`Books::prefetch_order`] and [`Books::prefetch_instrument`] need only what the message says;
//! 2. some messages later, [`Books::prefetch_levels`] (an add) or [`Books::prefetch_levels_of`] (anything that names an
//!    order) look at what stage 1 brought, and ask for the levels.
//!
//! # Capacity
//! Nothing is allocated between [`Books::new`] and [`Books::maintain`]. While there is [`Capacity`] there is nothing to
//! do; `maintain`, called between packets, makes room before it runs out. What does not fit all the same is refused,
//! counted, and its book marked by [`Books::is_incomplete`].
//!
//! # Following a subset
//! Where messages name the instrument (ITCH), leave out *every* message of an instrument that is not followed before it
//! reaches this crate: that costs one look at a bitmap, and nothing is counted here. Where a venue's deletes and
//! executions name the order alone, leave out the adds, and ask [`Books::contains`] first: an order that is not here
//! then belongs to an instrument that is not followed. Both look at one line, which stage 1 has asked for.
//!
//! # Example
//! ```
//! use barewire_book::{Books, Capacity};
//! use barewire_types::{NoPrefetch, Price, Side};
//!
//! let mut books = Books::new(Capacity { instruments: 10, orders: 1000, levels: 500 }, NoPrefetch);
//! books.add(7, 1, Side::Bid, Price(189_300_000_000), 200)?;
//! let change = books.reduce(1, 50)?;
//! assert_eq!((change.instrument, change.remaining, change.top_changed), (7, 150, true));
//! assert_eq!(books.top(7).bid_size, 150);
//! assert_eq!(books.top(7).ask_price, Price::UNDEF);
//! # Ok::<(), barewire_book::BookError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod books;
mod error;
mod levels;
mod lines;
mod orders;
mod room;
mod view;

pub use books::{Books, Change, Replaced};
pub use error::{BookError, Counters};
pub use room::{Capacity, OutOfMemory};
pub use view::{Level, Order, Top};
