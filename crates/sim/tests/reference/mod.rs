//! A book written from the specification, slow and plain, that believes nothing: it panics on every message that a real
//! exchange could not have sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use barewire_wire::itch50::{Message, Prefix};

/// A live order.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub locate: u16,
    pub buy: bool,
    pub price: u32,
    pub shares: u32,
    /// Number of the message that put it where it is.
    pub since: u64,
}

/// One side of a book: price, arrival, reference.
type Side = BTreeSet<(u32, u64, u64)>;

/// Every book, and what has been seen.
#[derive(Default)]
pub struct Reference {
    pub orders: HashMap<u64, Order>,
    books: HashMap<u16, (Side, Side)>,
    pub states: HashMap<u16, u8>,
    pub symbols: HashMap<u16, [u8; 8]>,
    used: HashSet<u64>,
    matches: HashMap<u64, u16>,
    /// How many there were of each type.
    pub counts: BTreeMap<char, u64>,
    /// System events, and the types of messages between them in order of their first appearance.
    pub day: String,
    pub messages: u64,
    pub time_ns: u64,
    open: bool,
}

impl Reference {
    /// Takes the next message.
    pub fn apply(&mut self, bytes: &[u8]) {
        let message = Message::parse(bytes).expect("a message");
        let prefix = Prefix::of(bytes).expect("a prefix");
        let (locate, time) = (prefix.stock_locate.get(), prefix.timestamp.get());
        assert!(time >= self.time_ns, "{time} after {}", self.time_ns);
        self.time_ns = time;
        self.messages += 1;
        *self.counts.entry(char::from(bytes[0])).or_default() += 1;
        match message {
            Message::SystemEvent(m) => {
                self.open = m.event_code == b'Q' || (self.open && m.event_code != b'M');
                self.day.push(' ');
                self.day.push(char::from(m.event_code));
            }
            _ if !self.day.rsplit(' ').next().unwrap().contains(char::from(bytes[0])) => {
                self.day.push(char::from(bytes[0]))
            }
            _ => {}
        }
        match message {
            Message::StockDirectory(m) => {
                assert_eq!(usize::from(locate), self.symbols.len() + 1, "locate codes are dense, from 1");
                self.symbols.insert(locate, m.stock);
            }
            Message::StockTradingAction(m) => {
                assert_eq!(self.symbols[&locate], m.stock);
                self.states.insert(locate, m.trading_state);
            }
            Message::OperationalHalt(m) => {
                self.states.insert(locate, m.operational_halt_action.to_ascii_lowercase());
                if m.operational_halt_action == b'T' {
                    self.states.insert(locate, b'T');
                }
            }
            Message::AddOrder(m) => {
                let new = Order {
                    locate,
                    buy: m.buy_sell_indicator == b'B',
                    price: m.price.get(),
                    shares: m.shares.get(),
                    since: self.messages,
                };
                assert_eq!(self.symbols[&locate], m.stock);
                self.trading(locate);
                self.enter(m.order_reference_number.get(), new);
            }
            Message::AddOrderMpid(m) => {
                let new = Order {
                    locate,
                    buy: m.buy_sell_indicator == b'B',
                    price: m.price.get(),
                    shares: m.shares.get(),
                    since: self.messages,
                };
                assert_eq!(self.symbols[&locate], m.stock);
                assert!(m.attribution.iter().all(u8::is_ascii_uppercase));
                self.trading(locate);
                self.enter(m.order_reference_number.get(), new);
            }
            Message::OrderExecuted(m) => {
                self.trading(locate);
                self.execute(locate, m.order_reference_number.get(), m.executed_shares.get(), m.match_number.get());
            }
            Message::OrderExecutedWithPrice(m) => {
                assert!(matches!(m.printable, b'Y' | b'N') && m.execution_price.get() > 0);
                self.execute(locate, m.order_reference_number.get(), m.executed_shares.get(), m.match_number.get());
            }
            Message::OrderCancel(m) => {
                let reference = m.order_reference_number.get();
                assert!(m.canceled_shares.get() < self.orders[&reference].shares, "a partial cancellation leaves some");
                self.reduce(locate, reference, m.canceled_shares.get());
            }
            Message::OrderDelete(m) => {
                let reference = m.order_reference_number.get();
                let shares = self.orders[&reference].shares;
                self.reduce(locate, reference, shares);
            }
            Message::OrderReplace(m) => {
                let old = m.original_order_reference_number.get();
                let order = self.orders[&old];
                self.trading(locate);
                self.reduce(locate, old, order.shares);
                let (price, shares) = (m.price.get(), m.shares.get());
                self.enter(m.new_order_reference_number.get(), Order { price, shares, since: self.messages, ..order });
            }
            Message::NonCrossTrade(m) => {
                assert_eq!((m.order_reference_number.get(), m.buy_sell_indicator), (0, b'B'));
                assert!(m.shares.get() > 0 && m.price.get() > 0);
                self.trading(locate);
                self.trade(m.match_number.get(), locate);
            }
            Message::CrossTrade(m) => self.trade(m.match_number.get(), locate),
            Message::BrokenTrade(m) => {
                assert_eq!(self.matches.remove(&m.match_number.get()), Some(locate), "breaks a trade, once");
            }
            _ => {}
        }
        if let Some((bids, asks)) = self.books.get(&locate) {
            let best = (bids.last().map_or(0, |bid| bid.0), asks.first().map_or(u32::MAX, |ask| ask.0));
            assert!(best.0 < best.1, "crossed: {best:?}");
        }
    }

    /// Best bid and offer of an instrument.
    pub fn top(&self, locate: u16) -> (Option<u32>, Option<u32>) {
        self.books
            .get(&locate)
            .map_or((None, None), |(bids, asks)| (bids.last().map(|bid| bid.0), asks.first().map(|ask| ask.0)))
    }

    fn trading(&self, locate: u16) {
        assert_eq!(self.states[&locate], b'T', "only what trades is traded");
    }

    fn enter(&mut self, reference: u64, order: Order) {
        assert!(self.used.insert(reference), "a reference is used once");
        assert!(order.shares > 0 && order.price > 0);
        assert!(
            order.price < 10_000 || order.price.is_multiple_of(100),
            "whole cents from a dollar up: {}",
            order.price
        );
        let (bids, asks) = self.books.entry(order.locate).or_default();
        let side = if order.buy { bids } else { asks };
        // So that the best and oldest bid is the last one.
        side.insert((order.price, if order.buy { u64::MAX - order.since } else { order.since }, reference));
        self.orders.insert(reference, order);
    }

    fn reduce(&mut self, locate: u16, reference: u64, shares: u32) {
        let order = self.orders.get_mut(&reference).expect("a live order");
        assert_eq!(order.locate, locate);
        assert!(shares > 0 && shares <= order.shares, "{shares} of {}", order.shares);
        order.shares -= shares;
        if order.shares == 0 {
            let order = self.orders.remove(&reference).unwrap();
            let (bids, asks) = self.books.get_mut(&locate).unwrap();
            let side = if order.buy { bids } else { asks };
            assert!(side.remove(&(
                order.price,
                if order.buy { u64::MAX - order.since } else { order.since },
                reference
            )));
        }
    }

    fn trade(&mut self, number: u64, locate: u16) {
        assert_eq!(self.matches.insert(number, locate), None, "a match number is used once");
    }

    /// Executions take the oldest order at the best price.
    fn execute(&mut self, locate: u16, reference: u64, shares: u32, number: u64) {
        let order = self.orders[&reference];
        let (bids, asks) = &self.books[&locate];
        let first = if order.buy { bids.last() } else { asks.first() };
        assert_eq!(first.unwrap().2, reference, "price and time priority");
        self.trade(number, locate);
        self.reduce(locate, reference, shares);
    }
}
