//! What a message costs, for instruction counts: `make instructions` runs this under callgrind, which counts the same
//! every time, whatever else the machine does.
//!
//! Arguments: what to run (`decode`, `book`, `publish`, `packets`) and how many messages.

use std::hint::black_box;

use barewire_engine::bench::{BookBench, Messages, decode};
use barewire_engine::nasdaq::{Nasdaq, Setup, WHOLE_VENUE};
use barewire_engine::pipeline::{Input, Pipeline, Sequencing};
use barewire_engine::sink::Discard;
use barewire_engine::venue::{Publish, Subscription};
use barewire_io::memory::CachePrefetch;
use barewire_sim::{Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN};
use barewire_types::{Seq, TsSource, UnixNanos};
use barewire_wire::binaryfile;
use barewire_wire::moldudp64::{Builder, Session};

/// Messages of a packet: what fits into 1,400 bytes.
const PER_PACKET: usize = 36;

fn flow(count: u64) -> Vec<u8> {
    let length = Length::Messages(count);
    let config = ExchangeConfig { instruments: 1_000, live_orders: 50_000, length, ..ExchangeConfig::default() };
    let mut exchange = Exchange::new(config).expect("a right configuration");
    let (mut bytes, mut message) = (Vec::new(), [0; MAX_MESSAGE_LEN]);
    while let Some(message) = exchange.next(&mut message) {
        bytes.extend_from_slice(&(message.len() as u16).to_be_bytes());
        bytes.extend_from_slice(message);
    }
    bytes
}

fn packets(flow: &[u8]) -> Vec<Vec<u8>> {
    let messages: Vec<&[u8]> = binaryfile::records(flow).collect();
    let mut sequence = 1;
    let pack = |messages: &[&[u8]]| {
        let mut bytes = vec![0; 4096];
        let mut builder = Builder::new(&mut bytes, Session(*b"COST000001"), Seq(sequence));
        for message in messages {
            builder.push(message.len()).expect("room").copy_from_slice(message);
        }
        sequence += messages.len() as u64;
        let len = builder.finish();
        bytes.truncate(len);
        bytes
    };
    messages.chunks(PER_PACKET).map(pack).collect()
}

/// Callgrind counts what happens in here, and nothing else.
#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_else(|| "packets".to_owned());
    let count = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let setup = |publish| Setup {
        publisher_id: 0,
        midnight_ns: 0,
        subscription: Subscription::All,
        publish: Publish { mbo: publish, bbo: publish },
        capacity: WHOLE_VENUE,
    };
    let flow = flow(count);
    let total = match what.as_str() {
        "packets" => {
            let packets = packets(&flow);
            let books = Nasdaq::new(setup(true), CachePrefetch).expect("memory");
            let mut feed = Pipeline::new(books, Discard, 0, Sequencing::default());
            measured(|| {
                for payload in &packets {
                    feed.packet(&Input {
                        line: 0,
                        payload,
                        ts_recv: UnixNanos(1),
                        ts_source: TsSource::User,
                        seen: UnixNanos(1),
                        degraded: false,
                    });
                }
            });
            packets.len() * PER_PACKET
        }
        part => {
            let messages = Messages::new(flow);
            let mut books = BookBench::new(setup(part == "publish"), Discard).expect("memory");
            measured(|| {
                black_box(if part == "decode" { decode(&messages) } else { books.run(&messages) });
            });
            messages.count() as usize
        }
    };
    println!("{what}: {total} messages");
}
