//! Processes: what the others see when one is killed, restarted, forked or slow.
//!
//! The children are this test binary itself, run for the test `child` alone and told by the environment what to be. A
//! child says what it has to on its standard output, in lines that begin with `@`, and ends with its standard input.

use crate::common::{Tally, event, named, unique};
use barewire_ring::{Producer, ProducerState, Reader, RingError, RingRecord, remove_dead_ring};
use barewire_types::UnixNanos;
use std::io::{BufRead, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

const ROLE: &str = "BAREWIRE_RING_TEST_ROLE";
const RING: &str = "BAREWIRE_RING_TEST_NAME";
/// Never reached in these tests: heartbeats are not what they are about.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// A child and its lines; killed when dropped.
struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str, ring: &str) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::child", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(RING, ring)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Process { child, lines }
    }

    /// The numbers of its next line.
    fn say(&mut self) -> Vec<u64> {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the child ended without a word");
            // The harness's own output may stand before ours on the line.
            if let Some((_, said)) = line.split_once('@') {
                return said.split_whitespace().map(|word| word.parse().unwrap()).collect();
            }
        }
    }

    /// kill -9, and not waited for: it is a zombie until dropped.
    fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now() -> UnixNanos {
    UnixNanos(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64)
}

/// Waits until the reader sees its producer in that state. Signals take a while; there is no bound but the runner's.
fn await_state(reader: &Reader, state: ProducerState) {
    while reader.producer_state(now(), NEVER) != state {
        thread::sleep(Duration::from_millis(1));
    }
}

fn wait_for_end_of_input() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Not a test by itself: what a child does.
#[test]
fn child() {
    let (Ok(role), Ok(ring)) = (std::env::var(ROLE), std::env::var(RING)) else { return };
    match role.as_str() {
        "writer" => write(&ring),
        "writer that waits" => {
            let mut producer = Producer::create(&named(&ring, 64)).unwrap();
            producer.publish(event(0));
            println!("@{}", producer.epoch());
            wait_for_end_of_input();
        }
        "writer that forks" => fork(&ring),
        "fast reader" => read(&ring, Duration::ZERO),
        "slow reader" => read(&ring, Duration::from_millis(5)),
        other => panic!("no such role: {other}"),
    }
}

/// Publishes as fast as it can until it is killed.
fn write(ring: &str) {
    let mut producer = Producer::create(&named(ring, 64)).unwrap();
    println!("@{}", producer.epoch());
    for n in 0.. {
        producer.publish(event(n));
    }
}

/// Leaves a second process with everything that a fork inherits, the ring's lock too. That one drops its copy of the
/// producer, which must not close the ring, and then waits for its end.
fn fork(ring: &str) {
    let producer = Producer::create(&named(ring, 64)).unwrap();
    let mut ends = [0; 2];
    // SAFETY: a pipe into an array of two.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the child only drops a value, writes a byte and sleeps until it is killed; glibc keeps its allocator
    // usable after a fork.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // The descriptor stays open, as it would in a worker that never hears of the ring.
        std::mem::forget(std::os::fd::AsFd::as_fd(&producer).try_clone_to_owned());
        drop(producer);
        // SAFETY: as above. The test kills it; without the test, the alarm does.
        unsafe {
            libc::alarm(60);
            libc::write(ends[1], [1_u8].as_ptr().cast(), 1);
            loop {
                libc::pause();
            }
        }
    }
    let mut byte = 0_u8;
    // SAFETY: one byte into one byte.
    assert_eq!(unsafe { libc::read(ends[0], (&raw mut byte).cast(), 1) }, 1);
    println!("@{} {pid}", producer.epoch());
    wait_for_end_of_input();
}

/// Reads from the oldest event to the end and says what it got.
fn read(ring: &str, pause: Duration) {
    let mut reader = Reader::attach(ring).unwrap();
    println!("@{}", reader.position());
    let mut tally = Tally::default();
    tally.read_to_end(&mut reader, &mut [RingRecord::ZERO; 16], || {
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    });
    println!("@{} {}", tally.read, tally.lost);
}

#[test]
fn killed_producer_is_seen_and_replaced() {
    let ring = unique("killed");
    let mut writer = Process::start("writer", &ring);
    let epoch = writer.say()[0];
    let mut reader = Reader::attach(&ring).unwrap();
    assert_eq!((reader.info().epoch, reader.info().producer_pid), (epoch, writer.child.id().into()));
    assert_eq!(reader.producer_state(now(), NEVER), ProducerState::Alive);
    assert_eq!(reader.producer_state(now(), Duration::ZERO), ProducerState::Stale);
    let pid = u64::from(writer.child.id());
    assert_eq!(Producer::create(&named(&ring, 64)).err(), Some(RingError::InUse { pid }));
    let (mut tally, mut batch) = (Tally::default(), [RingRecord::ZERO; 32]);
    while tally.read < 10_000 {
        tally.read(&mut reader, &mut batch);
    }

    writer.kill();
    await_state(&reader, ProducerState::Dead);
    // It may have died in the middle of an event, which is then never seen, or between an event and its count.
    tally.drain(&mut reader, &mut batch);
    assert!(reader.position() - reader.published() <= 1);
    assert_eq!(reader.lag(), 0);
    assert!(!reader.is_closed());

    let mut next = Producer::create(&named(&ring, 128)).unwrap();
    assert!(next.epoch() > epoch);
    assert_eq!(reader.producer_state(now(), NEVER), ProducerState::Restarted);
    assert!(reader.is_closed());
    next.publish(event(0));
    reader.reattach().unwrap();
    assert_eq!((reader.info().epoch, reader.info().capacity, reader.position()), (next.epoch(), 128, 0));
    assert_eq!(Tally::default().read(&mut reader, &mut batch), 1);
    assert_eq!(reader.producer_state(now(), NEVER), ProducerState::Alive);
}

/// The dead producer's lock lives on in a fork of it. Its process does not, and that decides.
#[test]
fn forked_child_neither_closes_the_ring_nor_keeps_it_alive() {
    let ring = unique("forked");
    let mut writer = Process::start("writer that forks", &ring);
    let said = writer.say();
    let reader = Reader::attach(&ring).unwrap();
    assert_eq!(reader.info().epoch, said[0]);
    assert_eq!(reader.producer_state(now(), NEVER), ProducerState::Alive);
    writer.kill();
    await_state(&reader, ProducerState::Dead);
    Producer::create(&named(&ring, 64)).unwrap();
    // SAFETY: our child's child, which cannot have ended by itself.
    assert_eq!(unsafe { libc::kill(said[1] as libc::pid_t, libc::SIGKILL) }, 0);
}

/// What a killed producer left is memory: it can be removed, but not while its producer lives.
#[test]
fn ring_of_a_killed_producer_is_removed() {
    let ring = unique("left");
    assert_eq!(remove_dead_ring(&ring), Err(RingError::NotFound));
    let mut writer = Process::start("writer", &ring);
    writer.say();
    let reader = Reader::attach(&ring).unwrap();
    let pid = u64::from(writer.child.id());
    assert_eq!(remove_dead_ring(&ring), Err(RingError::InUse { pid }));
    writer.kill();
    await_state(&reader, ProducerState::Dead);
    remove_dead_ring(&ring).unwrap();
    assert_eq!(reader.producer_state(now(), NEVER), ProducerState::Closed);
    assert!(!barewire_ring::ring_names().unwrap().contains(&ring));
    assert!(!std::path::Path::new(&format!("/dev/shm/.barewire.{ring}.next")).exists());
}

#[test]
fn ended_producer_frees_the_name() {
    let ring = unique("ended");
    let mut writer = Process::start("writer that waits", &ring);
    writer.say();
    let mut reader = Reader::attach(&ring).unwrap();
    reader.seek_oldest();
    writer.end_input();
    await_state(&reader, ProducerState::Closed);
    let mut tally = Tally::default();
    tally.drain(&mut reader, &mut [RingRecord::ZERO; 4]);
    assert_eq!(tally, Tally { read: 1, lost: 0 });
    writer.child.wait().unwrap();
    assert_eq!(Reader::attach(&ring).err(), Some(RingError::NotFound));
}

/// A fast and a slow reader in processes of their own, and one that is killed: the producer does not notice, and both
/// survivors account for every event.
#[test]
fn readers_in_other_processes() {
    let ring = unique("readers");
    let mut producer = Producer::create(&named(&ring, 256)).unwrap();
    let mut readers: Vec<Process> =
        ["fast reader", "slow reader", "fast reader"].map(|role| Process::start(role, &ring)).into();
    for reader in &mut readers {
        assert_eq!(reader.say(), [0]);
    }
    const EVENTS: u64 = 3_000_000;
    for n in 0..EVENTS {
        if n == EVENTS / 3 {
            readers.last_mut().unwrap().kill();
        }
        producer.publish(event(n));
    }
    drop(producer);
    let fast = readers[0].say();
    let slow = readers[1].say();
    assert_eq!(fast[0] + fast[1], EVENTS);
    assert_eq!(slow[0] + slow[1], EVENTS);
    assert!(slow[1] > 0, "a reader that sleeps kept up with one that publishes three million events");
}

/// Producers that start at once: one gets the name, and whoever does not is told that it is in use.
#[test]
fn producers_that_start_at_once() {
    let ring = unique("race");
    for round in 0..20 {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let ring = ring.clone();
                thread::spawn(move || Producer::create(&named(&ring, 64)))
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "round {round}");
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(matches!(error, RingError::InUse { .. }), "{error}");
        }
        // The one who has it left it whole.
        Reader::attach(&ring).unwrap();
    }
}
