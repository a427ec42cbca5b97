//! In steady state the path of a packet allocates nothing: every allocation is counted while packets go through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use barewire_allocs::{Counting, allocations};
use barewire_book::Top;
use barewire_engine::counters::Counter;
use barewire_engine::nasdaq::{Nasdaq, Setup, WHOLE_VENUE};
use barewire_engine::native::{Kinds, Native};
use barewire_engine::pipeline::{Input, Pipeline, Sequencing};
use barewire_engine::venue::{Publish, Subscription};
use barewire_io::memory::CachePrefetch;
use barewire_ring::{Producer, RingConfig, RingRecord};
use barewire_sim::{Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN};
use barewire_types::{Record, Seq, TsSource, UnixNanos};
use barewire_wire::moldudp64::{Builder, Session};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_packet_costs_no_allocation() {
    let config = ExchangeConfig {
        instruments: 500,
        live_orders: 50_000,
        length: Length::Messages(1_000_000),
        ..ExchangeConfig::default()
    };
    let mut exchange = Exchange::new(config).expect("a right configuration");
    let mut packets = Vec::new();
    let (mut message, mut sequence) = ([0; MAX_MESSAGE_LEN], 1);
    'day: loop {
        let mut bytes = vec![0; 1400];
        let mut builder = Builder::new(&mut bytes, Session(*b"ALLOC00001"), Seq(sequence));
        for _ in 0..25 {
            let Some(next) = exchange.next(&mut message) else { break 'day };
            builder.push(next.len()).expect("room for 25").copy_from_slice(next);
            sequence += 1;
        }
        let len = builder.finish();
        bytes.truncate(len);
        packets.push(bytes);
    }

    let setup = Setup {
        publisher_id: 1,
        midnight_ns: 0,
        subscription: Subscription::All,
        publish: Publish { mbo: true, bbo: true },
        capacity: WHOLE_VENUE,
    };
    let producer = Producer::create(&RingConfig::default()).expect("a ring");
    let mut reader = producer.reader();
    let mut feed =
        Pipeline::new(Nasdaq::new(setup, CachePrefetch).expect("memory"), producer, 1, Sequencing::default());
    let called = Arc::new(AtomicU64::new(0));
    let calls = Arc::clone(&called);
    let callback = move |_: &Record, _: &Top| {
        calls.fetch_add(1, Ordering::Relaxed);
    };
    feed.call(Native::new(Box::new(callback), Kinds::ALL, 1_000));
    let mut batch = [RingRecord::ZERO; 256];
    let mut hand = |packet: &Vec<u8>| {
        for line in 0..2 {
            feed.packet(&Input {
                line,
                payload: packet,
                ts_recv: UnixNanos(1),
                ts_source: TsSource::Kernel,
                seen: UnixNanos(1),
                degraded: false,
            });
        }
        while reader.read(&mut batch).count > 0 {}
    };
    // The directory names instruments, once a day: that may allocate.
    let (start, steady) = packets.split_at(packets.len() / 4);
    start.iter().for_each(&mut hand);
    let before = allocations();
    steady.iter().for_each(&mut hand);
    assert_eq!(allocations() - before, 0, "over {} packets", 2 * steady.len());
    feed.counters().check().expect("counters sum up");
    assert_eq!(feed.counters().get(Counter::BookUnknownOrder), 0);
    assert_eq!(called.load(Ordering::Relaxed), feed.counters().get(Counter::Records), "and a strategy was called");
}
