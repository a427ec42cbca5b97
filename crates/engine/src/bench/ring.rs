//! How fast the ring is, between two cores: latency against a bare round trip of one cache line, and throughput.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use barewire_io::{affinity, clock};
use barewire_ring::{Producer, Reader, RingConfig, RingError, RingRecord};
use barewire_types::Record;

/// Records that a reader takes at a time.
const BATCH: usize = 256;
/// Slots of the ring whose throughput is measured.
pub(super) const CAPACITY: u32 = 1 << 16;

/// Throughput of one producer and one reader.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    /// Records that the producer published a second.
    pub published_per_s: f64,
    /// Records that the reader got a second.
    pub read_per_s: f64,
    /// Records that were overwritten before the reader came to them.
    pub lost: u64,
}

/// Pins this thread, where that is allowed: without it the figures are worse, not wrong.
pub(super) fn settle(core: Option<usize>) {
    if let Some(core) = core {
        let _ = affinity::pin(core);
    }
}

/// Two different cores that this process may use; one of them missing where there is only one.
pub fn cores() -> [Option<usize>; 2] {
    let allowed = affinity::allowed().unwrap_or_default();
    [allowed.first().copied(), allowed.get(1).copied()]
}

/// Runs `here` and `there` on the two cores, `there` until it sees the flag. The calling thread's affinity stays as it is.
fn on_two_cores<R: Send>(here: impl FnOnce() -> R + Send, there: impl FnOnce(&AtomicBool) + Send) -> R {
    let [first, second] = cores();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            settle(second);
            there(&done);
        });
        let result = scope.spawn(|| {
            settle(first);
            let result = here();
            done.store(true, Ordering::Relaxed);
            result
        });
        result.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Times `trips` round trips, ns each. `trip` goes there and back.
pub(super) fn time(trips: u64, mut trip: impl FnMut(u64)) -> Vec<u64> {
    (1..=trips)
        .map(|n| {
            let began = clock::monotonic();
            trip(n);
            clock::monotonic() - began
        })
        .collect()
}

#[repr(align(128))]
struct Line(AtomicU64);

/// Round trips of a bare number between two cores, each way in a cache line of its own, ns: what the machine can do.
pub fn ping_pong(trips: u64) -> Vec<u64> {
    let (ping, pong) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    on_two_cores(
        || {
            time(trips, |n| {
                ping.0.store(n, Ordering::Release);
                while pong.0.load(Ordering::Acquire) != n {
                    std::hint::spin_loop();
                }
            })
        },
        |done| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let n = ping.0.load(Ordering::Acquire);
                if n != seen {
                    seen = n;
                    pong.0.store(n, Ordering::Release);
                }
            }
        },
    )
}

/// Round trips of a record through two rings, ns.
///
/// # Errors
///
/// Where the rings cannot be made.
pub fn round_trips(trips: u64) -> Result<Vec<u64>, RingError> {
    let config = RingConfig { capacity: 1024, instruments: 128, ..RingConfig::default() };
    let (mut ping, mut pong) = (Producer::create(&config)?, Producer::create(&config)?);
    let (mut from_ping, mut from_pong) = (ping.reader(), pong.reader());
    Ok(on_two_cores(
        move || {
            let mut one = [RingRecord::ZERO; 1];
            time(trips, |n| {
                ping.publish(Record([n; 7]));
                while from_pong.read(&mut one).count == 0 {
                    std::hint::spin_loop();
                }
            })
        },
        move |done| {
            let mut one = [RingRecord::ZERO; 1];
            while !done.load(Ordering::Relaxed) {
                if from_ping.read(&mut one).count > 0 {
                    pong.publish(one[0].record);
                }
            }
        },
    ))
}

/// Publishes for so long as fast as it goes, to one reader on the other core.
///
/// # Errors
///
/// Where the ring cannot be made.
pub fn throughput(duration: Duration) -> Result<Throughput, RingError> {
    let mut producer = Producer::create(&RingConfig { capacity: CAPACITY, ..RingConfig::default() })?;
    let mut reader = producer.reader();
    let (read, lost) = (AtomicU64::new(0), AtomicU64::new(0));
    let (published, elapsed) = on_two_cores(
        || {
            let began = Instant::now();
            while began.elapsed() < duration {
                for n in 0..BATCH as u64 {
                    producer.publish(Record([n; 7]));
                }
            }
            (producer.published(), began.elapsed().as_secs_f64())
        },
        |done| {
            let mut batch = [RingRecord::ZERO; BATCH];
            while !done.load(Ordering::Relaxed) {
                take(&mut reader, &mut batch, &read, &lost);
            }
        },
    );
    Ok(Throughput {
        published_per_s: published as f64 / elapsed,
        read_per_s: read.into_inner() as f64 / elapsed,
        lost: lost.into_inner(),
    })
}

fn take(reader: &mut Reader, batch: &mut [RingRecord], read: &AtomicU64, lost: &AtomicU64) {
    let got = reader.read(batch);
    read.fetch_add(got.count as u64, Ordering::Relaxed);
    lost.fetch_add(got.lost, Ordering::Relaxed);
}
