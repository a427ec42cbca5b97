//! The old way, kept as it was to compare with: a thread that waits for each packet (`recvmsg`, with the kernel's software
//! time), copies it, and hands it by mutex and condition variable to the strategy's thread, which decodes it and keeps the
//! books.
//!
//! Decoding, books, ring and strategy are the same as everywhere else, and so is the socket's buffer: what differs is how
//! a packet gets there.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use barewire_io::legacy::LegacyReceiver;
use barewire_io::{LineConfig, clock};
use barewire_types::{TsSource, UnixNanos};
use barewire_wire::moldudp64::HEADER_LEN;

use super::latency::probe::Schedule;
use super::latency::{Ended, Feed, RunConfig, RunError, Shared, has_ended, settle};
use crate::pipeline::Input;
use crate::recovery::NoServices;

/// How long a wait lasts before a stop is looked for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// What a packet in the queue counts as, bytes: as many wait there as AF_XDP has frames for.
const SLOT_BYTES: usize = 2048;

/// A packet on its way to the strategy's thread.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) payload: Box<[u8]>,
    pub(super) ts_recv: UnixNanos,
    pub(super) ts_source: TsSource,
    pub(super) seen: UnixNanos,
}

/// The queue between the two threads.
#[derive(Debug)]
pub(super) struct HandOff {
    packets: Mutex<VecDeque<Packet>>,
    came: Condvar,
    /// Packets that may wait for the strategy's thread; what comes then is dropped, and counted.
    capacity: usize,
}

impl HandOff {
    pub(super) fn new(config: &RunConfig) -> HandOff {
        // Of the memory for packets that wait, a socket is asked for half.
        let capacity = (2 * config.rcvbuf_bytes / SLOT_BYTES).max(1);
        HandOff { packets: Mutex::default(), came: Condvar::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Packet>> {
        // The queue is whole whenever a thread may panic.
        self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a packet over. `false` when there is no room.
    pub(super) fn push(&self, packet: Packet) -> bool {
        let mut packets = self.lock();
        if packets.len() >= self.capacity {
            return false;
        }
        packets.push_back(packet);
        drop(packets);
        self.came.notify_one();
        true
    }

    /// Whether there is room for another packet.
    pub(super) fn has_room(&self) -> bool {
        self.lock().len() < self.capacity
    }

    /// Waits for a packet.
    pub(super) fn pop(&self) -> Option<Packet> {
        let packets = self.lock();
        let wait = self.came.wait_timeout_while(packets, LONGEST_WAIT, |packets| packets.is_empty());
        wait.unwrap_or_else(PoisonError::into_inner).0.pop_front()
    }
}

/// Receives until the end of the session. The calling thread is the one that receives.
pub(super) fn run(
    pipeline: &mut Feed,
    line: &LineConfig,
    config: &RunConfig,
    schedule: Schedule,
    shared: &Shared<'_>,
) -> Result<Ended, RunError> {
    let mut receiver = LegacyReceiver::open(line, Some(config.rcvbuf_bytes), LONGEST_WAIT)?;
    let mut refused = 0;
    let receive = |hand_off: &HandOff| {
        receiver.receive(|packet| {
            let (ts_recv, ts_source, seen) = (packet.ts_recv, packet.ts_source, packet.seen);
            let payload = packet.payload.into();
            refused += u64::from(!hand_off.push(Packet { payload, ts_recv, ts_source, seen }));
        })
    };
    let strategy = |pipeline: &mut Feed, hand_off: &HandOff| {
        strategy(pipeline, hand_off, shared);
        Ok(())
    };
    two_threads(pipeline, config, schedule, shared, receive, strategy)?;
    let report = vec![format!(
        "one blocking recvmsg a packet, times by the kernel, handed to the strategy's thread by mutex and condition \
         variable; receive buffer of {} bytes asked for; {}",
        config.rcvbuf_bytes,
        strategy_core(config)
    )];
    Ok(Ended { report, refused, stolen: None })
}

/// Where the strategy's thread runs, for the report.
pub(super) fn strategy_core(config: &RunConfig) -> String {
    config.cores.strategy.map_or_else(|| "strategy on any core".into(), |core| format!("strategy on core {core}"))
}

/// The two threads: the calling one, which receives again and again, and the strategy's.
pub(super) fn two_threads<T>(
    pipeline: &mut Feed,
    config: &RunConfig,
    schedule: Schedule,
    shared: &Shared<'_>,
    mut receive: impl FnMut(&HandOff) -> io::Result<T>,
    strategy: impl FnOnce(&mut Feed, &HandOff) -> Result<(), RunError> + Send,
) -> Result<(), RunError> {
    let hand_off = &HandOff::new(config);
    thread::scope(|scope| {
        let strategy = thread::Builder::new().name("barewire-legacy".to_owned()).spawn_scoped(scope, move || {
            // However it ends, the receiving thread is not left waiting.
            let _finish = Finish(shared);
            settle(config.cores.strategy)?;
            let start = shared.begin();
            pipeline.sink_mut().arm(start, schedule);
            strategy(pipeline, hand_off)
        })?;
        let received = loop {
            if shared.is_stopped() || shared.is_done() {
                break Ok(());
            }
            match receive(hand_off) {
                // Once everything is here, a server may close its stream as it likes.
                Err(error) if !shared.is_done() => {
                    shared.give_up();
                    break Err(error);
                }
                _ => {}
            }
        };
        strategy.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(received?)
    })
}

struct Finish<'a>(&'a Shared<'a>);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// The strategy's thread.
fn strategy(pipeline: &mut Feed, hand_off: &HandOff, shared: &Shared<'_>) {
    while !shared.is_stopped() {
        let packet = hand_off.pop();
        if let Some(packet) = &packet {
            pipeline.packet(&Input {
                line: 0,
                payload: &packet.payload,
                ts_recv: packet.ts_recv,
                ts_source: packet.ts_source,
                seen: packet.seen,
                degraded: false,
            });
        }
        if pipeline.is_waiting() {
            pipeline.recover(clock::now(), packet.is_none(), &mut NoServices);
        }
        if packet.is_some_and(|packet| packet.payload.len() == HEADER_LEN) && has_ended(pipeline) {
            return;
        }
    }
}
