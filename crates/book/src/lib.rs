//! Order-by-order books of every instrument of a venue: orders, price levels, best bid and offer.
//!
//! [`Books`] knows orders and prices, and nothing of venues: ids are any u64, prices any i64 in units of 1e-9 (negative
//! ones too), instruments a dense number below [`Capacity::instruments`]. It does not decode, sequence, or know trading
//! states; it does not filter either (see *Following a subset*).
//!
//! # Cost
//! A message costs what its cache misses and its mispredicted branches cost. Orders live in one hash table by id, price
//! levels in another by book, side and price; a bucket of either is one cache line, and an order knows its level by
//! place. A side of a book is one line too: its best level, and a bit for every level near it. So a change reads and
//! writes three lines, whose addresses the message itself gives (an add) or the order (everything else), searches
//! nothing, and moves nothing. Only levels that are far from the best, or between its [ticks](Books::set_tick), are
//! kept in sorted lists, which are touched when such a level comes or goes.
//!
//! Ask for the lines ahead, over a window of messages, in two stages:
//!
//! 1. [`Books::prefetch_order`], [`Books::prefetch_instrument`] and, for an add, [`Books::prefetch_level`] need only
//!    what the message says;
//! 2. some messages later, [`Books::prefetch_levels_of`] looks at the order that stage 1 brought, and asks for its
//!    level.
//!
//! Kinds of messages alternate unforeseeably, so a stage that branches on the kind loses a good part of what it wins:
//! both stages can be called alike for every message. `examples/book_bench.rs` shows how, and measures it.
//!
//! # Capacity
//! Nothing is allocated between [`Books::new`] and [`Books::maintain`]. While there is [`Capacity`] there is nothing to
//! do; `maintain`, called between packets, makes room before it runs out. What does not fit all the same is refused,
//! counted, and its book marked by [`Books::is_incomplete`]. Only what is for cold use allocates besides, and says so.
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

mod ahead;
mod books;
mod change;
mod error;
mod grid;
mod keys;
mod levels;
mod lines;
mod orders;
mod room;
mod table;
mod view;

pub use books::Books;
pub use change::{Change, Replaced};
pub use error::{BookError, Counters};
pub use room::{Capacity, OutOfMemory};
pub use view::{Level, Order, Top};
