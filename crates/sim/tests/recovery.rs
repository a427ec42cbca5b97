//! Snapshots against the slow book that believes nothing.

#[expect(dead_code, reason = "its best prices are for others")]
mod reference;

use std::collections::{BTreeMap, HashMap};

use barewire_sim::recovery::Mirror;
use barewire_sim::{Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN};
use barewire_wire::itch50::Message;
use reference::Reference;

/// The newest message of each type, instrument and market that a snapshot has besides orders, in its order.
#[derive(Default)]
struct Newest(BTreeMap<(usize, u16, u8), Vec<u8>>);

impl Newest {
    fn take(&mut self, message: &[u8]) {
        let Some(rank) = b"SRHYNh".iter().position(|kind| *kind == message[0]) else { return };
        let market = if message[0] == b'h' { message[19] } else { 0 };
        let locate = u16::from_be_bytes([message[1], message[2]]);
        self.0.insert((rank, locate, market), message.to_vec());
    }
}

/// At any time of any day a snapshot holds the reference's orders, each queue in its order, and everything else's newest
/// state.
#[test]
fn snapshots_are_the_reference_s_books() {
    let shapes = [(1, 64, 30_000, 1_000, 100), (20, 2_000, 150_000, 300, 300), (2_000, 20_000, 120_000, 100, 500)];
    for (seed, (instruments, live_orders, messages, volatility, incident_every)) in (1..).zip(shapes) {
        let length = Length::Messages(messages);
        let config =
            ExchangeConfig { seed, instruments, live_orders, length, volatility, incident_every, ..Default::default() };
        let mut exchange = Exchange::new(config).unwrap();
        let (mut book, mut mirror, mut newest) = (Reference::default(), Mirror::new(), Newest::default());
        let mut buffer = [0; MAX_MESSAGE_LEN];
        while let Some(len) = exchange.next(&mut buffer).map(<[u8]>::len) {
            let message = &buffer[..len];
            book.apply(message);
            newest.take(message);
            mirror.message(message);
            assert_eq!(mirror.live_orders(), book.orders.len());
            if book.messages.is_multiple_of(messages / 40) {
                check(&mirror, &book, &newest);
            }
        }
        check(&mirror, &book, &newest);
        assert!(mirror.is_complete());
    }
}

fn check(mirror: &Mirror, book: &Reference, newest: &Newest) {
    let snapshot = mirror.snapshot();
    assert_eq!((mirror.next(), snapshot.next), (book.messages + 1, book.messages + 1));
    assert_eq!(snapshot.count, snapshot.iter().count() as u64);
    let (states, orders) = snapshot.messages.split_at(newest.0.values().map(|message| 2 + message.len()).sum());
    let expected: Vec<u8> = newest
        .0
        .values()
        .flat_map(|message| (message.len() as u16).to_be_bytes().into_iter().chain(message.clone()))
        .collect();
    assert!(states == expected, "{} messages", book.messages);
    let mut queues: HashMap<(u16, bool, u32), u64> = HashMap::new();
    let mut count = 0;
    for message in snapshot.iter().skip(newest.0.len()) {
        let (reference, found, stock) = match Message::parse(message).unwrap() {
            Message::AddOrder(m) => (
                m.order_reference_number.get(),
                (m.stock_locate.get(), m.buy_sell_indicator == b'B', m.price.get(), m.shares.get()),
                m.stock,
            ),
            Message::AddOrderMpid(m) => (
                m.order_reference_number.get(),
                (m.stock_locate.get(), m.buy_sell_indicator == b'B', m.price.get(), m.shares.get()),
                m.stock,
            ),
            other => panic!("{other}"),
        };
        let order = book.orders[&reference];
        assert_eq!(found, (order.locate, order.buy, order.price, order.shares));
        assert_eq!(stock, book.symbols[&order.locate]);
        let before = queues.insert((order.locate, order.buy, order.price), order.since);
        assert!(before.is_none_or(|before| before < order.since), "who came first stands first");
        count += 1;
    }
    assert_eq!((count, orders.is_empty()), (book.orders.len(), count == 0));
}

/// Orders beyond the bound are not kept, and that is not forgotten.
#[test]
fn a_mirror_is_bounded() {
    let config = ExchangeConfig { length: Length::Messages(20_000), ..Default::default() };
    let mut exchange = Exchange::new(config).unwrap();
    let mut mirror = Mirror::with_max_orders(1_000);
    let mut buffer = [0; MAX_MESSAGE_LEN];
    while let Some(message) = exchange.next(&mut buffer) {
        mirror.message(message);
        assert!(mirror.live_orders() <= 1_000);
    }
    assert!(!mirror.is_complete());
    assert_eq!(mirror.next(), exchange.messages() + 1);
}
