//! The writer and the Rust reader of the torture test (`make torture`): run by tests/torture/run.py, not by hand.
//!
//! ```text
//! torture writer NAME CAPACITY    publishes at full speed until its standard input ends; says its epoch, then its count
//! torture reader NAME             reads with pauses until the ring is closed; a line for each epoch that it read
//! ```
//!
//! Every word of a record follows from its number and the ring's epoch, and the last is a checksum of the others: a torn
//! record, one of another lap or one of another epoch is seen. The readers in C and Python know the same formula.

use barewire_ring::{Producer, ProducerState, Reader, Record, RingConfig, RingRecord};
use barewire_types::UnixNanos;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
const INSTRUMENTS: u64 = 64;

/// Event `n` of an epoch: an order event in four is one, the others are quotes.
fn event(n: u64, epoch: u64) -> Record {
    let kind = if n.is_multiple_of(4) { 1 } else { 2 };
    let first = (n + 1).wrapping_mul(ODD) ^ epoch;
    let head = (n % INSTRUMENTS + 1) | 1 << 32 | kind << 40;
    let words = [first, first.rotate_left(17).wrapping_mul(ODD), n, head, first.rotate_left(31), !first];
    let sum = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)).wrapping_mul(ODD);
    let [a, b, c, d, e, f] = words;
    Record([a, b, c, d, e, f, sum])
}

fn write(name: &str, capacity: u32) {
    let config = RingConfig { name: Some(name.to_owned()), capacity, instruments: 128, ..RingConfig::default() };
    let mut producer = Producer::create(&config).unwrap_or_else(|error| panic!("{error}"));
    for id in 1..=INSTRUMENTS as u32 {
        producer.add_instrument(id, format!("I{id}").as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    }
    let epoch = producer.epoch();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stopped.store(true, Ordering::Relaxed);
    });
    println!("{epoch}");
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..1024 {
            producer.publish(event(producer.published(), epoch));
        }
        producer.heartbeat(now());
    }
    println!("{}", producer.published());
}

fn now() -> UnixNanos {
    UnixNanos(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
}

fn read(name: &str) {
    let mut reader = Reader::attach(name).unwrap_or_else(|error| panic!("{error}"));
    let mut batch = vec![RingRecord::ZERO; 1000];
    loop {
        let (epoch, from) = (reader.info().epoch, reader.position());
        println!("at {epoch} {from}");
        let (mut count, mut lost, mut next) = (0, 0, from);
        let mut state = ProducerState::Alive;
        let mut quiet = 0_u32;
        loop {
            let read = reader.read(&mut batch);
            next += read.lost;
            for found in &batch[..read.count] {
                assert_eq!(*found, RingRecord { ring_sequence: next, record: event(next, epoch) });
                next += 1;
            }
            (count, lost) = (count + read.count as u64, lost + read.lost);
            if read.count == 0 && read.lost == 0 {
                if matches!(state, ProducerState::Closed | ProducerState::Restarted) {
                    break;
                }
                quiet += 1;
                if quiet.is_multiple_of(64) {
                    state = reader.producer_state(now(), Duration::from_secs(3600));
                    thread::sleep(Duration::from_millis(1));
                }
            } else if next % 61 == 0 {
                thread::sleep(Duration::from_millis(next % 20));
            }
        }
        println!("done {epoch} {from} {next} {count} {lost}");
        if state == ProducerState::Closed {
            return;
        }
        reader.reattach().unwrap_or_else(|error| panic!("{error}"));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["writer", name, capacity] => write(name, capacity.parse().expect("a capacity")),
        ["reader", name] => read(name),
        _ => panic!("usage: torture writer NAME CAPACITY | torture reader NAME"),
    }
}
