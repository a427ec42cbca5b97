//! A follower of ITCH 5.0 that can say at any time what a GLIMPSE snapshot holds.
//!
//! "Nasdaq TotalView-ITCH 5.0", section 1; "Nasdaq GLIMPSE 5.0". A snapshot is the newest system event, then the newest
//! directory entry, trading state, short sale restriction, retail interest and operational halts of every instrument, then
//! an add-order for every live order.
//!
//! Written from the specification, with nothing but the standard library's collections, so that it can serve as a
//! reference for faster books. An order that enters goes to the end of one row of all orders; what is taken from it is
//! taken in its place. The row is therefore in the order in which every queue is served, and a snapshot is a walk along
//! it. Orders that are gone leave a hole, and the row is closed up when it has more holes than orders.

use std::collections::{BTreeMap, HashMap};

use barewire_wire::itch50::{
    AddOrder, AddOrderMpid, Message, OperationalHalt, OrderReplace, RegSho, RetailPriceImprovement, StockDirectory,
    StockTradingAction, SystemEvent,
};
use barewire_wire::moldudp64::BLOCK_HEADER_LEN;
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::U32;

use super::store::blocks;

/// The most live orders that a mirror keeps if it is told nothing else: about 2 GiB of them.
pub const MAX_ORDERS: usize = 1 << 24;

/// Markets whose operational halts are kept for each instrument. Three are specified.
const MARKETS: usize = 4;

/// Holes that the row may have in any case.
const HOLES: usize = 4_096;

/// An `A` is the beginning of an `F`, so that one layout holds both.
const ADD_LEN: usize = size_of::<AddOrder>();

/// Follows a session's messages, from the first to the last and in order.
///
/// A message that cannot be is passed over, as a feed does that counts it: an unknown or bad message, an order number that
/// is unknown or taken, a side that is none, a size of 0. Taking more than is left takes what is left.
#[derive(Debug)]
pub struct Mirror {
    next: u64,
    event: Option<SystemEvent>,
    listings: BTreeMap<u16, Listing>,
    /// Every order in the order in which they entered; one without shares is gone. An order without attribution leaves
    /// the last four bytes unused.
    orders: Vec<AddOrderMpid>,
    /// Where each live order is in the row.
    places: HashMap<u64, usize>,
    max_orders: usize,
    refused: u64,
}

/// What is known of an instrument.
#[derive(Debug, Default)]
struct Listing {
    directory: Option<StockDirectory>,
    trading: Option<StockTradingAction>,
    short_sales: Option<RegSho>,
    retail: Option<RetailPriceImprovement>,
    /// One a market.
    halts: Vec<OperationalHalt>,
}

/// The books of all instruments as messages.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BookSnapshot {
    /// The messages, each behind its length, two bytes, big-endian. Without the end-of-snapshot message.
    pub messages: Vec<u8>,
    /// How many they are.
    pub count: u64,
    /// Number of the session's first message that is not in them.
    pub next: u64,
}

impl BookSnapshot {
    /// The messages, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        blocks(&self.messages)
    }

    fn push(&mut self, message: &[u8]) {
        self.messages.extend_from_slice(&(message.len() as u16).to_be_bytes());
        self.messages.extend_from_slice(message);
        self.count += 1;
    }
}

impl Default for Mirror {
    fn default() -> Mirror {
        Mirror::with_max_orders(MAX_ORDERS)
    }
}

impl Mirror {
    /// A mirror before the session's first message.
    pub fn new() -> Mirror {
        Mirror::default()
    }

    /// The same with a bound of its own on the live orders. Orders beyond it are refused: see
    /// [`is_complete`](Mirror::is_complete).
    pub fn with_max_orders(max_orders: usize) -> Mirror {
        Mirror {
            next: 1,
            event: None,
            listings: BTreeMap::new(),
            orders: Vec::new(),
            places: HashMap::new(),
            max_orders,
            refused: 0,
        }
    }

    /// Number of the next message.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many orders are live.
    pub fn live_orders(&self) -> usize {
        self.places.len()
    }

    /// Whether every order that the venue has is here: none was refused for want of room.
    pub fn is_complete(&self) -> bool {
        self.refused == 0
    }

    /// Takes the next message. Empty, unknown and bad ones consume a number, too.
    pub fn message(&mut self, message: &[u8]) {
        self.next = self.next.saturating_add(1);
        let Ok(message) = Message::parse(message) else { return };
        match message {
            Message::AddOrder(m) => {
                let mut order = AddOrderMpid { attribution: [b' '; 4], ..zerocopy::FromZeros::new_zeroed() };
                if let Some(to) = order.as_mut_bytes().get_mut(..ADD_LEN) {
                    to.copy_from_slice(m.as_bytes());
                }
                self.enter(order);
            }
            Message::AddOrderMpid(m) => self.enter(*m),
            Message::OrderExecuted(m) => self.take(m.order_reference_number.get(), m.executed_shares.get()),
            Message::OrderExecutedWithPrice(m) => self.take(m.order_reference_number.get(), m.executed_shares.get()),
            Message::OrderCancel(m) => self.take(m.order_reference_number.get(), m.canceled_shares.get()),
            Message::OrderDelete(m) => drop(self.remove(m.order_reference_number.get())),
            Message::OrderReplace(m) => self.replace(m),
            Message::SystemEvent(m) => self.event = Some(*m),
            Message::StockDirectory(m) => self.list(m),
            Message::StockTradingAction(m) => self.listing(m.stock_locate.get()).trading = Some(*m),
            Message::RegSho(m) => self.listing(m.locate_code.get()).short_sales = Some(*m),
            Message::RetailPriceImprovement(m) => self.listing(m.stock_locate.get()).retail = Some(*m),
            Message::OperationalHalt(m) => {
                let halts = &mut self.listing(m.stock_locate.get()).halts;
                halts.retain(|halt| halt.market_code != m.market_code);
                if halts.len() >= MARKETS {
                    halts.remove(0);
                }
                halts.push(*m);
            }
            // Trades, auctions and market makers are not in a snapshot, and no book changes by them.
            _ => {}
        }
    }

    fn listing(&mut self, locate: u16) -> &mut Listing {
        self.listings.entry(locate).or_default()
    }

    /// An instrument's directory entry. Under another symbol than before, it is another instrument.
    fn list(&mut self, entry: &StockDirectory) {
        let locate = entry.stock_locate;
        let is_other = match self.listing(locate.get()).directory {
            Some(known) => known.stock != entry.stock,
            None => {
                let mut of_it = self.orders.iter().filter(|order| order.stock_locate == locate && is_live(order));
                of_it.any(|order| order.stock != entry.stock)
            }
        };
        if is_other {
            *self.listing(locate.get()) = Listing::default();
            for order in self.orders.iter_mut().filter(|order| order.stock_locate == locate && is_live(order)) {
                order.shares = U32::ZERO;
                self.places.remove(&order.order_reference_number.get());
            }
        }
        self.listing(locate.get()).directory = Some(*entry);
    }

    fn enter(&mut self, order: AddOrderMpid) {
        let id = order.order_reference_number.get();
        if !is_live(&order) || !matches!(order.buy_sell_indicator, b'B' | b'S') || self.places.contains_key(&id) {
            return;
        }
        if self.places.len() >= self.max_orders {
            self.refused += 1;
            return;
        }
        if self.orders.len() >= 2 * self.places.len() + HOLES {
            self.close_up();
        }
        self.places.insert(id, self.orders.len());
        self.orders.push(order);
    }

    /// Takes the holes out of the row.
    #[cold]
    fn close_up(&mut self) {
        self.orders.retain(is_live);
        for (place, order) in self.orders.iter().enumerate() {
            self.places.insert(order.order_reference_number.get(), place);
        }
    }

    /// Takes shares from an order; one that has none left is gone.
    fn take(&mut self, id: u64, shares: u32) {
        let Some(order) = self.places.get(&id).and_then(|place| self.orders.get_mut(*place)) else { return };
        order.shares = U32::new(order.shares.get().saturating_sub(shares));
        if !is_live(order) {
            self.places.remove(&id);
        }
    }

    /// Takes an order off the book, and says what it was.
    fn remove(&mut self, id: u64) -> Option<AddOrderMpid> {
        let order = self.orders.get_mut(self.places.remove(&id)?)?;
        let was = *order;
        order.shares = U32::ZERO;
        Some(was)
    }

    /// An order takes another's place on the book, but not in the queue. Symbol, side and attribution stay.
    fn replace(&mut self, message: &OrderReplace) {
        let Some(old) = self.remove(message.original_order_reference_number.get()) else { return };
        self.enter(AddOrderMpid {
            tracking_number: message.tracking_number,
            timestamp: message.timestamp,
            order_reference_number: message.new_order_reference_number,
            shares: message.shares,
            price: message.price,
            ..old
        });
    }

    /// What a GLIMPSE server would send now. Orders carry the time at which they entered.
    pub fn snapshot(&self) -> BookSnapshot {
        let per_listing = size_of::<StockDirectory>()
            + size_of::<StockTradingAction>()
            + size_of::<RegSho>()
            + size_of::<RetailPriceImprovement>()
            + size_of::<OperationalHalt>()
            + 5 * BLOCK_HEADER_LEN;
        let room =
            self.listings.len() * per_listing + self.places.len() * (size_of::<AddOrderMpid>() + BLOCK_HEADER_LEN);
        let mut snapshot = BookSnapshot { messages: Vec::with_capacity(room), count: 0, next: self.next };
        if let Some(event) = &self.event {
            snapshot.push(event.as_bytes());
        }
        let listings = || self.listings.values();
        listings().filter_map(|of| of.directory.as_ref()).for_each(|m| snapshot.push(m.as_bytes()));
        listings().filter_map(|of| of.trading.as_ref()).for_each(|m| snapshot.push(m.as_bytes()));
        listings().filter_map(|of| of.short_sales.as_ref()).for_each(|m| snapshot.push(m.as_bytes()));
        listings().filter_map(|of| of.retail.as_ref()).for_each(|m| snapshot.push(m.as_bytes()));
        listings().flat_map(|of| &of.halts).for_each(|m| snapshot.push(m.as_bytes()));
        for order in self.orders.iter().filter(|order| is_live(order)) {
            let whole = order.as_bytes();
            snapshot.push(if order.message_type == AddOrder::TYPE {
                whole.get(..ADD_LEN).unwrap_or(whole)
            } else {
                whole
            });
        }
        snapshot
    }
}

fn is_live(order: &AddOrderMpid) -> bool {
    order.shares != U32::ZERO
}
