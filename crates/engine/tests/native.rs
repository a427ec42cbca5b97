//! A callback in the loop is handed what is published, in order, each with the top of its book after its message: held to
//! books that are rebuilt, slowly, from the published records alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use barewire_book::{Capacity, Top};
use barewire_engine::counters::Counter;
use barewire_engine::nasdaq::{Nasdaq, Setup};
use barewire_engine::native::{Kinds, Native};
use barewire_engine::pipeline::{Input, Pipeline, Sequencing};
use barewire_engine::sink::Memory;
use barewire_engine::venue::{Publish, Subscription};
use barewire_sim::{Exchange, ExchangeConfig, MAX_MESSAGE_LEN, MessageBuffer};
use barewire_types::{Gap, Mbo, NoPrefetch, Price, Record, RecordKind, Seq, TsSource, UnixNanos};
use barewire_wire::moldudp64::{Builder, Session};

type Seen = Arc<Mutex<Vec<(Record, Top)>>>;

/// A feed whose callback notes what it is handed.
fn feed(kinds: Kinds, publish: Publish) -> (Pipeline<Nasdaq<NoPrefetch>, Memory>, Seen) {
    let setup = Setup {
        publisher_id: 3,
        midnight_ns: 0,
        subscription: Subscription::All,
        publish,
        capacity: Capacity { instruments: 1 << 16, orders: 4096, levels: 4096 },
    };
    let venue = Nasdaq::new(setup, NoPrefetch).expect("memory");
    let mut feed = Pipeline::new(venue, Memory::default(), 3, Sequencing::default());
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let note = move |event: &Record, top: &Top| notes.lock().expect("no panic").push((*event, *top));
    feed.call(Native::new(Box::new(note), kinds, u64::MAX));
    (feed, seen)
}

/// Hands a simulated day over in packets of some size; a packet in `lost` does not come.
fn run(feed: &mut Pipeline<Nasdaq<NoPrefetch>, Memory>, seed: u64, per_packet: usize, lost: &[usize]) {
    let config = ExchangeConfig { seed, instruments: 20, live_orders: 400, ..ExchangeConfig::default() };
    let mut exchange = Exchange::new(config).expect("a right configuration");
    let mut buffer: MessageBuffer = [0; MAX_MESSAGE_LEN];
    let messages: Vec<Vec<u8>> =
        std::iter::from_fn(|| exchange.next(&mut buffer).map(<[u8]>::to_vec)).take(20_000).collect();
    let mut sequence = 1;
    for (number, chunk) in messages.chunks(per_packet).enumerate() {
        let mut bytes = vec![0; 65_000];
        let mut builder = Builder::new(&mut bytes, Session(*b"TEST000001"), Seq(sequence));
        for message in chunk {
            builder.push(message.len()).expect("room").copy_from_slice(message);
        }
        let len = builder.finish();
        sequence += chunk.len() as u64;
        if !lost.contains(&number) {
            let now = UnixNanos(sequence);
            let payload = &bytes[..len];
            feed.packet(&Input {
                line: 0,
                payload,
                ts_recv: now,
                ts_source: TsSource::Kernel,
                seen: now,
                degraded: false,
            });
        }
    }
    feed.flush(UnixNanos(sequence));
}

/// Orders as the records tell of them: number to (instrument, side, price, size).
#[derive(Default)]
struct Orders(HashMap<u64, (u32, u8, i64, u64)>);

impl Orders {
    fn take(&mut self, record: &Record) {
        if record.kind() != Some(RecordKind::Mbo) {
            return;
        }
        let mbo = Mbo::from(*record);
        match mbo.action {
            b'A' => {
                self.0.insert(mbo.order_id, (mbo.instrument_id, mbo.side, mbo.price, mbo.size.into()));
            }
            b'C' => {
                let order = self.0.get_mut(&mbo.order_id).expect("an order that was added");
                order.3 -= u64::from(mbo.size);
                if order.3 == 0 {
                    self.0.remove(&mbo.order_id);
                }
            }
            _ => {}
        }
    }

    fn top(&self, instrument: u32) -> Top {
        let mut sides: [BTreeMap<i64, u64>; 2] = Default::default();
        for (_, side, price, size) in self.0.values().filter(|order| order.0 == instrument) {
            *sides[usize::from(*side == b'A')].entry(*price).or_default() += size;
        }
        let level =
            |found: Option<(&i64, &u64)>| found.map_or((Price::UNDEF, 0), |(price, size)| (Price(*price), *size));
        let (bid, ask) = (level(sides[0].last_key_value()), level(sides[1].first_key_value()));
        Top { bid_price: bid.0, bid_size: bid.1, ask_price: ask.0, ask_size: ask.1 }
    }
}

#[test]
fn a_callback_sees_what_is_published_and_the_top_of_that_moment() {
    for per_packet in [1, 7, 40] {
        let (mut feed, seen) = feed(Kinds::ALL, Publish { mbo: true, bbo: true });
        run(&mut feed, 5, per_packet, &[]);
        let seen = seen.lock().expect("no panic");
        let records: Vec<Record> = seen.iter().map(|(record, _)| *record).collect();
        assert!(records == feed.sink_mut().records, "the same records in the same order, flags and all");
        let mut orders = Orders::default();
        // A message's records tell of it together: the book is that after the last of them.
        for message in seen.chunk_by(|(one, _), (other, _)| Gap::from(*one).sequence == Gap::from(*other).sequence) {
            message.iter().for_each(|(record, _)| orders.take(record));
            for (record, top) in message {
                let instrument = Gap::from(*record).instrument_id;
                assert_eq!(*top, orders.top(instrument), "{:?}", record.kind());
            }
        }
        assert_eq!(feed.counters().get(Counter::CallbackCalls), records.len() as u64);
        assert!(feed.counters().get(Counter::CallbackLongest) <= feed.counters().get(Counter::CallbackTime));
    }
}

#[test]
fn only_the_kinds_asked_for_and_gaps_have_no_book() {
    let kinds = Kinds::NONE.with(RecordKind::Gap).with(RecordKind::Bbo);
    let (mut feed, seen) = feed(kinds, Publish { mbo: true, bbo: true });
    run(&mut feed, 6, 20, &[100, 101, 300]);
    let wanted = |record: &&Record| matches!(record.kind(), Some(RecordKind::Gap | RecordKind::Bbo));
    let published: Vec<Record> = feed.sink_mut().records.iter().filter(wanted).copied().collect();
    let seen = seen.lock().expect("no panic");
    assert!(seen.iter().map(|(record, _)| *record).eq(published));
    let gaps: Vec<Top> =
        seen.iter().filter(|(record, _)| record.kind() == Some(RecordKind::Gap)).map(|(_, top)| *top).collect();
    assert_eq!(gaps, [Top::EMPTY; 2], "two gaps, of the whole feed");
}

/// What is not published is not called for, and slow calls are counted.
#[test]
fn what_is_slow_is_counted() {
    let (mut feed, _) = feed(Kinds::ALL, Publish { mbo: false, bbo: true });
    let mut calls = 0u64;
    let slow = move |_: &Record, _: &Top| {
        calls += 1;
        if calls == 10 {
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    };
    feed.call(Native::new(Box::new(slow), Kinds::ALL, 2_000_000));
    run(&mut feed, 7, 20, &[]);
    assert_eq!(feed.counters().get(Counter::CallbackCalls), feed.sink_mut().records.len() as u64);
    assert!(feed.counters().get(Counter::CallbackLongest) >= 3_000_000);
    assert!(feed.counters().get(Counter::CallbackSlow) >= 1);
}
