//! Threads: readers of every pace beside one producer, none of whom may see a torn event or a wrong count.

use crate::common::{Tally, anonymous, event};
use barewire_ring::{Producer, RingRecord};
use std::thread;
use std::time::Duration;

/// Events a run publishes; enough for hundreds of thousands of laps of the smallest ring.
const EVENTS: u64 = 2_000_000;

#[test]
fn readers_of_every_pace() {
    for capacity in [2, 16, 1024, 1 << 16] {
        let mut producer = Producer::create(&anonymous(capacity)).unwrap();
        let readers: Vec<_> = [(1, 0), (64, 0), (256, 20), (7, 300)]
            .into_iter()
            .map(|(batch, pause_us)| {
                let mut reader = producer.reader();
                thread::spawn(move || {
                    let mut tally = Tally::default();
                    let mut batch = vec![RingRecord::ZERO; batch];
                    tally.read_to_end(&mut reader, &mut batch, || {
                        if pause_us > 0 {
                            thread::sleep(Duration::from_micros(pause_us));
                        }
                    });
                    tally
                })
            })
            .collect();
        for n in 0..EVENTS {
            // Now and then the readers get the cores: there may be more threads than cores.
            if n % 4096 == 0 {
                thread::yield_now();
            }
            producer.publish(event(n));
        }
        producer.close();
        for reader in readers {
            let tally = reader.join().unwrap();
            assert_eq!(tally.read + tally.lost, EVENTS, "capacity {capacity}: {tally:?}");
            assert!(tally.read > 0);
        }
    }
}

/// A reader that is asked to begin at the oldest event, again and again under a running producer, never sees one that
/// is not whole.
#[test]
fn seeking_under_a_running_producer() {
    let mut producer = Producer::create(&anonymous(8)).unwrap();
    let mut reader = producer.reader();
    let seeker = thread::spawn(move || {
        let mut batch = [RingRecord::ZERO; 8];
        let mut tally = Tally::default();
        while !reader.is_closed() {
            reader.seek_oldest();
            tally.read(&mut reader, &mut batch);
            reader.seek_newest();
            tally.read(&mut reader, &mut batch);
            assert!(reader.lag() <= reader.published());
        }
    });
    for n in 0..EVENTS {
        producer.publish(event(n));
    }
    producer.close();
    seeker.join().unwrap();
}

/// The directory grows while it is read: every entry that is counted is whole.
#[test]
fn directory_under_a_running_producer() {
    let mut producer = Producer::create(&barewire_ring::RingConfig { instruments: 4096, ..anonymous(2) }).unwrap();
    let reader = producer.reader();
    let watcher = thread::spawn(move || {
        let mut seen = 0;
        while seen < 4096 {
            for instrument in reader.instruments_from(seen) {
                assert_eq!(instrument.instrument_id, seen);
                assert_eq!(instrument.symbol(), format!("SYMBOL {seen}").as_bytes());
                seen += 1;
            }
        }
    });
    for id in 0..4096 {
        producer.add_instrument(id, format!("SYMBOL {id}").as_bytes()).unwrap();
    }
    watcher.join().unwrap();
}
