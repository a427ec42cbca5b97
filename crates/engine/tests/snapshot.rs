//! A snapshot and what follows it make the same books as the whole stream.

use std::path::PathBuf;

use barewire_book::{Books, Capacity};
use barewire_engine::counters::Counters;
use barewire_engine::nasdaq::{Nasdaq, Setup};
use barewire_engine::sink::{Discard, Publisher};
use barewire_engine::venue::{Context, Instrument, Publish, Subscription, Venue};
use barewire_sim::recovery::Mirror;
use barewire_sim::{Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN};
use barewire_types::{Flags, NoPrefetch, TsSource, UnixNanos};
use barewire_wire::U48;
use barewire_wire::binaryfile::{self, Step};
use barewire_wire::itch50::{
    AddOrder, AddOrderMpid, OrderCancel, OrderDelete, OrderExecuted, OrderReplace, StockDirectory, SystemEvent,
};
use proptest::prelude::*;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromZeros, IntoBytes};

/// A venue that is handed messages one by one.
struct Follower {
    venue: Nasdaq<NoPrefetch>,
    out: Publisher<Discard>,
    counters: Counters,
}

impl Follower {
    fn new(instruments: u32) -> Follower {
        let setup = Setup {
            publisher_id: 1,
            midnight_ns: 0,
            subscription: Subscription::All,
            publish: Publish { mbo: true, bbo: true },
            capacity: Capacity { instruments, orders: 1 << 13, levels: 1 << 13 },
        };
        let venue = Nasdaq::new(setup, NoPrefetch).expect("memory");
        Follower { venue, out: Publisher::new(Discard), counters: Counters::default() }
    }

    fn apply(&mut self, message: &[u8]) {
        let (ts_recv, ts_source) = (UnixNanos::ABSENT, TsSource::None);
        let context = Context { sequence: 0, ts_recv, ts_source, flags: Flags::NONE };
        self.venue.apply(message, &context, &mut self.out, &mut self.counters);
        self.venue.maintain(&mut self.counters);
    }

    fn of(mirror: &Mirror, instruments: u32) -> Follower {
        let mut follower = Follower::new(instruments);
        mirror.snapshot().iter().for_each(|message| follower.apply(message));
        follower
    }

    fn books(&self) -> &Books<NoPrefetch> {
        self.venue.books()
    }

    fn directory(&self) -> Vec<&Instrument> {
        let mut instruments: Vec<_> = self.venue.instruments().iter().collect();
        instruments.sort_by_key(|instrument| instrument.id);
        instruments
    }
}

/// Books and directory are the same, and so they stay when both go on with the same messages.
#[test]
fn a_snapshot_replaces_all_that_came_before() {
    let shapes = [(1, 64, 25_000, 1_000), (40, 3_000, 120_000, 300), (3_000, 30_000, 100_000, 100)];
    for (seed, (instruments, live_orders, messages, volatility)) in (7..).zip(shapes) {
        let length = Length::Messages(messages);
        let config = ExchangeConfig {
            seed,
            instruments,
            live_orders,
            length,
            volatility,
            incident_every: 300,
            ..Default::default()
        };
        let mut exchange = Exchange::new(config).expect("a right configuration");
        let (mut follower, mut mirror) = (Follower::new(instruments + 1), Mirror::new());
        let mut late: Option<Follower> = None;
        let mut buffer = [0; MAX_MESSAGE_LEN];
        let mut points = 0;
        while let Some(len) = exchange.next(&mut buffer).map(<[u8]>::len) {
            let message = &buffer[..len];
            follower.apply(message);
            mirror.message(message);
            if let Some(late) = &mut late {
                late.apply(message);
            }
            if exchange.messages().is_multiple_of(messages / 24) {
                if let Some(late) = &late {
                    assert_eq!(late.books().digest(), follower.books().digest(), "after {}", exchange.messages());
                }
                let fresh = Follower::of(&mirror, instruments + 1);
                assert_eq!(fresh.books().digest(), follower.books().digest(), "at {}", exchange.messages());
                assert_eq!(fresh.directory(), follower.directory());
                late = Some(fresh);
                points += 1;
            }
        }
        let late = late.expect("points");
        assert_eq!(late.books().digest(), follower.books().digest());
        assert_eq!((late.books().len(), points >= 24), (exchange.live_orders() as usize, true));
    }
}

/// The same with 10,000 real messages of one stock, where this machine has them.
#[test]
fn a_snapshot_replaces_real_messages() {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/captures"));
    let path = std::env::var_os("BAREWIRE_CAPTURES").map_or_else(beside, PathBuf::from);
    let Ok(file) = std::fs::read(path.join("itch50/aapl-20200130-10k.bin")) else {
        eprintln!("skipped: no captures in {}; BAREWIRE_CAPTURES names another place", path.display());
        return;
    };
    let (mut follower, mut mirror) = (Follower::new(20), Mirror::new());
    let mut rest = file.as_slice();
    while let Step::Message { message, rest: behind } = binaryfile::step(rest) {
        rest = behind;
        follower.apply(message);
        mirror.message(message);
        if mirror.next() % 100 == 1 {
            let fresh = Follower::of(&mirror, 20);
            assert_eq!(fresh.books().digest(), follower.books().digest(), "{}", mirror.next());
            assert_eq!(fresh.directory(), follower.directory());
        }
    }
    assert_eq!((mirror.next(), follower.books().len() == mirror.live_orders()), (10_001, true));
}

/// A message about one of few orders of few instruments: most of them make sense, and many do not.
#[derive(Clone, Debug)]
enum Message {
    Add { locate: u16, id: u64, side: u8, price: u32, shares: u32, attributed: bool },
    Execute { id: u64, shares: u32 },
    Cancel { id: u64, shares: u32 },
    Delete { id: u64 },
    Replace { old: u64, new: u64, price: u32, shares: u32 },
    Directory { locate: u16, renamed: bool },
    Event,
    Bytes(Vec<u8>),
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let id = || 1_u64..40;
    let shares = || prop_oneof![9 => 1_u32..500, 1 => Just(0_u32)];
    let price = || (100_u32..104).prop_map(|cents| cents * 100);
    let side = prop_oneof![9 => Just(b'B'), 9 => Just(b'S'), 1 => Just(b'?')];
    let message = prop_oneof![
        12 => (1_u16..4, id(), side, price(), shares(), any::<bool>()).prop_map(|(locate, id, side, price, shares, attributed)| {
            Message::Add { locate, id, side, price, shares, attributed }
        }),
        4 => (id(), shares()).prop_map(|(id, shares)| Message::Execute { id, shares }),
        3 => (id(), shares()).prop_map(|(id, shares)| Message::Cancel { id, shares }),
        4 => id().prop_map(|id| Message::Delete { id }),
        4 => (id(), id(), price(), shares()).prop_map(|(old, new, price, shares)| Message::Replace { old, new, price, shares }),
        1 => (1_u16..4, prop::bool::weighted(0.3)).prop_map(|(locate, renamed)| Message::Directory { locate, renamed }),
        1 => Just(Message::Event),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Message::Bytes),
    ];
    prop::collection::vec(message, 0..400)
}

/// The bytes. An instrument's name is what the last directory entry made it.
fn encode(message: &Message, time: u64, names: &mut [u8; 4]) -> Vec<u8> {
    let timestamp = U48::new(time);
    let stock = |names: &[u8; 4], locate: u16| {
        let mut stock = *b"XX      ";
        stock[0] = b'A' + locate as u8;
        stock[1] = names[usize::from(locate)];
        stock
    };
    match *message {
        Message::Add { locate, id, side, price, shares, attributed } => {
            let add = AddOrderMpid {
                message_type: if attributed { AddOrderMpid::TYPE } else { AddOrder::TYPE },
                stock_locate: U16::new(locate),
                timestamp,
                order_reference_number: U64::new(id),
                buy_sell_indicator: side,
                shares: U32::new(shares),
                stock: stock(names, locate),
                price: U32::new(price),
                attribution: *b"NSDQ",
                ..FromZeros::new_zeroed()
            };
            let len = if attributed { size_of::<AddOrderMpid>() } else { size_of::<AddOrder>() };
            add.as_bytes()[..len].to_vec()
        }
        Message::Execute { id, shares } => {
            let (order_reference_number, executed_shares) = (U64::new(id), U32::new(shares));
            let message_type = OrderExecuted::TYPE;
            let zero = FromZeros::new_zeroed();
            OrderExecuted { message_type, timestamp, order_reference_number, executed_shares, ..zero }
                .as_bytes()
                .to_vec()
        }
        Message::Cancel { id, shares } => {
            let (order_reference_number, canceled_shares) = (U64::new(id), U32::new(shares));
            let message_type = OrderCancel::TYPE;
            let zero = FromZeros::new_zeroed();
            OrderCancel { message_type, timestamp, order_reference_number, canceled_shares, ..zero }.as_bytes().to_vec()
        }
        Message::Delete { id } => {
            let message_type = OrderDelete::TYPE;
            let zero = FromZeros::new_zeroed();
            OrderDelete { message_type, timestamp, order_reference_number: U64::new(id), ..zero }.as_bytes().to_vec()
        }
        Message::Replace { old, new, price, shares } => OrderReplace {
            message_type: OrderReplace::TYPE,
            timestamp,
            original_order_reference_number: U64::new(old),
            new_order_reference_number: U64::new(new),
            shares: U32::new(shares),
            price: U32::new(price),
            ..FromZeros::new_zeroed()
        }
        .as_bytes()
        .to_vec(),
        Message::Directory { locate, renamed } => {
            names[usize::from(locate)] += u8::from(renamed);
            let (stock_locate, stock) = (U16::new(locate), stock(names, locate));
            let message_type = StockDirectory::TYPE;
            StockDirectory { message_type, stock_locate, timestamp, stock, ..FromZeros::new_zeroed() }
                .as_bytes()
                .to_vec()
        }
        Message::Event => {
            SystemEvent { message_type: SystemEvent::TYPE, timestamp, event_code: b'Q', ..FromZeros::new_zeroed() }
                .as_bytes()
                .to_vec()
        }
        Message::Bytes(ref bytes) => bytes.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Two followers written apart take the same view of messages that cannot be.
    #[test]
    fn a_snapshot_of_nonsense_is_the_books_of_nonsense(messages in messages()) {
        let (mut follower, mut mirror) = (Follower::new(4), Mirror::new());
        let mut names = [b'0'; 4];
        for (time, message) in (1..).zip(&messages) {
            let bytes = encode(message, time, &mut names);
            follower.apply(&bytes);
            mirror.message(&bytes);
            prop_assert_eq!(mirror.next(), time + 1);
        }
        let fresh = Follower::of(&mirror, 4);
        prop_assert_eq!(fresh.books().len(), follower.books().len());
        for locate in 1..4 {
            let orders = |of: &Follower| of.books().orders(locate).collect::<Vec<_>>();
            prop_assert_eq!(orders(&fresh), orders(&follower));
        }
        prop_assert_eq!(fresh.books().digest(), follower.books().digest());
    }
}
