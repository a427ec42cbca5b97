//! What it takes to hand an event over: to a function that the publishing thread calls, to a reader in another thread, in
//! another process.
//!
//! Between cores and processes, what is measured is half of the way there and back, as [`super::ring`] does it, so that no two
//! clocks are compared; a callback is timed there and back as it is, since the publisher goes on only then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use barewire_io::clock;
use barewire_ring::{Producer, Reader, RingConfig, RingError, RingRecord};
use barewire_types::{Mbo, Record, RecordKind, TsSource};

use super::ring::{CAPACITY, cores, settle, time};
use crate::native::Native;
use crate::sink::Publisher;

/// How long a process waits for another.
const PATIENCE: Duration = Duration::from_secs(10);
/// Slots of the rings between two processes.
const SMALL: u32 = 1024;
/// Every so many records a source tells that it is alive.
const HEARTBEAT: u64 = 64;

fn record(n: u64, at: u64) -> Record {
    let mbo = Mbo {
        ts_event: at,
        ts_recv: at,
        sequence: n,
        instrument_id: 1,
        publisher_id: 0,
        kind: RecordKind::Mbo as u8,
        flags: 0,
        ts_source: TsSource::User as u8,
        order_id: n,
        price: 1_000_000_000,
        size: 100,
        action: b'A',
        side: b'B',
        reserved: [0; 2],
    };
    mbo.into()
}

/// What publishing into a ring takes, with or without somebody who is called.
#[derive(Clone, Debug, PartialEq)]
pub struct InLoop {
    /// Of single events, from before they are published until the call has returned, ns. Each includes a reading of the clock.
    pub single_ns: Vec<u64>,
    /// An event, where one follows the other, ns.
    pub each_ns: f64,
}

/// Publishes so many events twice: once timing each, once as fast as it goes.
///
/// # Errors
///
/// Where the ring cannot be made.
pub fn in_loop(native: Option<Native>, events: u64) -> Result<InLoop, RingError> {
    let producer = Producer::create(&RingConfig { capacity: CAPACITY, ..RingConfig::default() })?;
    Ok(on_first_core(move || {
        let mut out = Publisher::new(producer);
        if let Some(native) = native {
            out.call(native);
        }
        let mut publish = |n| {
            out.push(record(n, n));
            out.end_of_packet();
        };
        let single_ns = time(events, &mut publish);
        let begun = Instant::now();
        (0..events).for_each(publish);
        InLoop { single_ns, each_ns: begun.elapsed().as_nanos() as f64 / events.max(1) as f64 }
    }))
}

/// Runs on the first core; the calling thread's affinity stays as it is.
fn on_first_core<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let result = scope.spawn(|| {
            settle(cores()[0]);
            work()
        });
        result.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Our end of a way to another process and back.
pub struct Far {
    ping: Producer,
    pong: Reader,
}

impl Far {
    /// Makes the ring `ping`, lets `begin` start the process that runs [`echo`], and waits until that has made `pong`.
    ///
    /// # Errors
    ///
    /// Where a ring cannot be made, or the process does not make its own in time.
    pub fn meet(ping: &str, pong: &str, begin: impl FnOnce()) -> Result<Far, RingError> {
        let ping = Producer::create(&small(ping))?;
        begin();
        let until = Instant::now() + PATIENCE;
        loop {
            ping.heartbeat(clock::now());
            match Reader::attach(pong) {
                Ok(pong) => return Ok(Far { ping, pong }),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Times `trips` round trips, ns each; fewer where the other process has gone.
    pub fn round_trips(&mut self, trips: u64) -> Vec<u64> {
        let Far { ping, pong } = self;
        on_first_core(move || {
            let mut one = [RingRecord::ZERO; 1];
            let mut gone = false;
            let mut found = time(trips, |n| {
                ping.publish(record(n, n));
                while !gone && pong.read(&mut one).count == 0 {
                    std::hint::spin_loop();
                    gone = pong.is_closed();
                }
            });
            if gone {
                found.clear();
            }
            found
        })
    }
}

/// The other process: sends back what comes on `ping`, on a ring called `pong`, until `ping` is closed.
///
/// # Errors
///
/// Where `ping` is not there, or `pong` cannot be made.
pub fn echo(ping: &str, pong: &str) -> Result<(), RingError> {
    settle(cores()[1]);
    let mut from = Reader::attach(ping)?;
    let mut to = Producer::create(&small(pong))?;
    to.heartbeat(clock::now());
    let mut one = [RingRecord::ZERO; 1];
    loop {
        if from.read(&mut one).count > 0 {
            to.publish(one[0].record);
        } else if from.is_closed() {
            return Ok(());
        }
    }
}

fn small(name: &str) -> RingConfig {
    RingConfig { name: Some(name.to_owned()), capacity: SMALL, instruments: 128, ..RingConfig::default() }
}

/// A thread that publishes order events into a named ring: `ts_recv` is CLOCK_MONOTONIC at publication.
pub struct Source {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Source {
    /// Publishes `fill` events at once, then, with a `pace_ns`, one each time that has passed, until it is dropped.
    ///
    /// # Errors
    ///
    /// Where the ring cannot be made.
    pub fn start(name: &str, capacity: u32, fill: u64, pace_ns: Option<u64>) -> Result<Source, RingError> {
        let config = RingConfig { name: Some(name.to_owned()), capacity, instruments: 128, ..RingConfig::default() };
        let mut producer = Producer::create(&config)?;
        for n in 0..fill {
            producer.publish(record(n, clock::monotonic()));
        }
        producer.heartbeat(clock::now());
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopping = std::sync::Arc::clone(&stop);
        let thread = thread::spawn(move || {
            settle(cores()[0]);
            let mut due = clock::monotonic();
            let mut n = fill;
            while !stopping.load(Ordering::Relaxed) {
                let Some(pace_ns) = pace_ns else {
                    thread::sleep(Duration::from_millis(10));
                    producer.heartbeat(clock::now());
                    continue;
                };
                let now = clock::monotonic();
                if now < due {
                    std::hint::spin_loop();
                    continue;
                }
                producer.publish(record(n, now));
                n += 1;
                // Not earlier than now: a burst after a pause would measure the pause.
                due = now + pace_ns;
                if n.is_multiple_of(HEARTBEAT) {
                    producer.heartbeat(clock::now());
                }
            }
        });
        Ok(Source { stop, thread: Some(thread) })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic; if it did, there is nobody to tell.
            let _ = thread.join();
        }
    }
}
