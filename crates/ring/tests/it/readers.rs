//! Readers that do not want everything, or wait: filters, conflation, watches.

use crate::common::anonymous;
use barewire_ring::{Conflator, Filter, Producer, Read, Record, RingConfig, RingRecord, Wait, Watch};
use barewire_types::{Bbo, Gap, Mbo, RecordKind};
use proptest::prelude::*;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

fn record(kind: u8, instrument_id: u32, side: u8, sequence: u64) -> Record {
    let mbo = Mbo { kind, instrument_id, side, sequence, ..Mbo::from(Record([0; 7])) };
    mbo.into()
}

/// Whether a descriptor becomes readable within so many milliseconds.
fn is_rung(fd: &impl AsFd, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&raw mut poll, 1, timeout_ms) == 1 }
}

/// What happens on the ring.
#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(u8, u32, u8),
    /// An instrument gets one of a few symbols.
    Announce(u32),
    Read(usize),
}

const SYMBOLS: [&str; 4] = ["A", "BB", "CCC", "D"];

fn symbol(id: u32) -> &'static str {
    SYMBOLS[id as usize % SYMBOLS.len()]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Numbers that are looked up in the table, and numbers beyond it.
    let id = prop_oneof![4 => 0_u32..6, 1 => (0_u32..3).prop_map(|id| u32::MAX - id)];
    let side = prop_oneof![Just(b'B'), Just(b'A'), Just(b'N')];
    let step = prop_oneof![
        8 => (1_u8..=5, id.clone(), side).prop_map(|(kind, id, side)| Step::Publish(kind, id, side)),
        1 => id.prop_map(Step::Announce),
        2 => (1_usize..8).prop_map(Step::Read),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// Against the plain meaning, one record at a time. An instrument counts from its announcement on, which comes before
    /// its records, so that the time of the read is no matter.
    #[test]
    fn filters_pass_what_was_asked_for(
        steps in steps(),
        kinds in prop::option::of(prop::sample::subsequence(vec![RecordKind::Mbo, RecordKind::Bbo, RecordKind::Status], 0..3)),
        sides in prop::option::of(prop::sample::subsequence(vec![b'B', b'A', b'N'], 1..3)),
        symbols in prop::option::of(prop::sample::subsequence(SYMBOLS.to_vec(), 0..3)),
        ids in prop::option::of(prop::collection::vec(0_u32..6, 0..3)),
    ) {
        let mut producer = Producer::create(&anonymous(32)).unwrap();
        let mut reader = producer.reader();
        let mut filter = Filter::default();
        if let Some(kinds) = &kinds { filter = filter.kinds(kinds); }
        if let Some(sides) = &sides { filter = filter.sides(sides); }
        if let Some(symbols) = &symbols { filter = filter.symbols(symbols); }
        if let Some(ids) = &ids { filter = filter.ids(ids.iter().copied()); }
        let (mut announced, mut published) = (Vec::new(), Vec::new());
        for step in steps.into_iter().chain([Step::Read(1000)]) {
            match step {
                // Always announced before it is first heard of, but for one number.
                Step::Publish(kind, id, side) => {
                    if id != 3 && !announced.contains(&id) {
                        producer.add_instrument(id, symbol(id).as_bytes()).unwrap();
                        announced.push(id);
                    }
                    published.push(record(kind, id, side, 7));
                    producer.publish(*published.last().unwrap());
                }
                Step::Announce(id) if !announced.contains(&id) => {
                    producer.add_instrument(id, symbol(id).as_bytes()).unwrap();
                    announced.push(id);
                }
                Step::Announce(_) => {}
                Step::Read(room) => {
                    let before = reader.position();
                    let mut out = vec![RingRecord::ZERO; room];
                    let read = reader.read_filtered(&mut filter, &mut out);
                    prop_assert_eq!(reader.position() - before, read.count as u64 + read.lost + read.passed_over);
                    let wanted = |n: &u64| {
                        let mbo = Mbo::from(published[*n as usize]);
                        let id = mbo.instrument_id;
                        let instrument = if symbols.is_none() && ids.is_none() {
                            true
                        } else {
                            ids.as_ref().is_some_and(|ids| ids.contains(&id))
                                || (announced.contains(&id) && symbols.as_ref().is_some_and(|s| s.contains(&symbol(id))))
                        };
                        let kind = kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| *kind as u8 == mbo.kind));
                        let side = mbo.kind != 1 || sides.as_ref().is_none_or(|sides| sides.contains(&mbo.side));
                        mbo.kind == 3 || (mbo.kind == 4 && id == 0) || (kind && side && instrument)
                    };
                    // Nothing is passed over before a loss is found here: the writer stands still meanwhile.
                    let expected: Vec<u64> =
                        (before + read.lost..reader.position()).filter(wanted).collect();
                    let found: Vec<u64> = out[..read.count].iter().map(|one| one.ring_sequence).collect();
                    prop_assert_eq!(found, expected);
                    for one in &out[..read.count] {
                        prop_assert_eq!(one.record, published[one.ring_sequence as usize]);
                    }
                }
            }
        }
    }
}

/// A filter that keeps everything back neither holds a call up for ever nor loses count.
#[test]
fn a_call_that_finds_nothing_ends() {
    let mut producer = Producer::create(&anonymous(1 << 16)).unwrap();
    let mut reader = producer.reader();
    for n in 0..40_000 {
        producer.publish(record(1, 1, b'B', n));
    }
    let mut filter = Filter::default().kinds(&[RecordKind::Bbo]);
    let mut passed = 0;
    let mut calls = 0;
    while reader.position() < 40_000 {
        let read = reader.read_filtered(&mut filter, &mut [RingRecord::ZERO; 8]);
        assert_eq!((read.count, read.lost), (0, 0));
        assert!(read.passed_over > 0);
        (passed, calls) = (passed + read.passed_over, calls + 1);
    }
    assert_eq!(passed, 40_000);
    assert!(calls > 1);
}

/// The bell rings for what can be read, for what was overwritten and for the end, and for nothing else; and once.
#[test]
fn a_watch_rings_when_there_is_something() {
    let mut producer = Producer::create(&anonymous(8)).unwrap();
    let mut reader = producer.reader();
    let watch = Watch::new(&reader, None, Wait::Sleep).unwrap();
    assert!(!is_rung(&watch, 20), "not before it was asked");
    watch.arm(reader.position());
    assert!(!is_rung(&watch, 20), "not while the ring is empty");
    producer.publish(record(1, 1, b'B', 0));
    assert!(is_rung(&watch, 10_000));
    watch.clear();
    assert!(!is_rung(&watch, 20), "once");
    watch.arm(reader.position());
    assert!(is_rung(&watch, 10_000), "still there");
    watch.clear();
    assert_eq!(reader.read(&mut [RingRecord::ZERO; 8]).count, 1);
    for n in 0..20 {
        producer.publish(record(1, 1, b'B', n));
    }
    watch.arm(reader.position());
    assert!(is_rung(&watch, 10_000), "overwritten");
    watch.clear();
    while reader.read(&mut [RingRecord::ZERO; 8]) != Read::default() {}
    watch.arm(reader.position());
    assert!(!is_rung(&watch, 20));
    producer.close();
    assert!(is_rung(&watch, 10_000), "closed");
}

/// While nothing for its reader comes, a watch goes on; the reader need not, and is not overrun by what it does not want.
#[test]
fn a_watch_passes_over_what_the_filter_keeps_back() {
    let mut producer = Producer::create(&anonymous(64)).unwrap();
    let mut reader = producer.reader();
    let mut filter = Filter::default().kinds(&[RecordKind::Bbo]);
    let watch = Watch::new(&reader, Some(filter.clone()), Wait::Busy).unwrap();
    watch.arm(reader.position());
    for n in 0..10_000 {
        producer.publish(record(1, 1, b'B', n));
        while watch.passed(0) < n.saturating_sub(32) {
            std::hint::spin_loop();
        }
    }
    assert!(!is_rung(&watch, 0));
    producer.publish(record(2, 1, b'B', 10_000));
    assert!(is_rung(&watch, 10_000));
    // A reader elsewhere is not led astray: behind what was watched, nothing is known.
    assert_eq!((watch.passed(0), watch.passed(20_000)), (10_000, 20_000));
    reader.go_to(watch.passed(reader.position()));
    let mut out = [RingRecord::ZERO; 8];
    assert_eq!(reader.read_filtered(&mut filter, &mut out), Read { count: 1, ..Read::default() });
    assert_eq!(out[0].ring_sequence, 10_000);
}

/// A consumer that takes now and then, beside a producer that does not wait: every quote is accounted for, rows are the
/// latest of their time, and the last row of each instrument is its last quote.
#[test]
fn conflation_beside_a_producer() {
    const EVENTS: u64 = 400_000;
    let mut producer = Producer::create(&RingConfig { capacity: 1 << 10, ..anonymous(2) }).unwrap();
    let conflator = Conflator::new(producer.reader(), Filter::default(), Wait::Sleep).unwrap();
    let writer = std::thread::spawn(move || {
        for n in 0..EVENTS {
            let kind = if n % 1000 == 999 { 3 } else { 2 };
            producer.publish(record(kind, (n % 50) as u32, 0, n));
        }
    });
    let (mut out, mut updates) = (vec![RingRecord::ZERO; 40], vec![0; 40]);
    let (mut accounted, mut last, mut latest) = (0, None, [0; 50]);
    loop {
        let ended = conflator.is_ended();
        let taken = conflator.take(&mut out, &mut updates);
        accounted += taken.lost;
        for (row, count) in out[..taken.count].iter().zip(&updates) {
            assert!(last < Some(row.ring_sequence), "in order");
            last = Some(row.ring_sequence);
            accounted += u64::from(*count);
            let bbo = Bbo::from(row.record);
            assert_eq!(bbo.sequence, row.ring_sequence);
            assert_eq!(row.record, record(bbo.kind, (row.ring_sequence % 50) as u32, 0, row.ring_sequence));
            if bbo.kind == 2 {
                latest[bbo.instrument_id as usize] = row.ring_sequence;
            } else {
                assert_eq!((bbo.kind, *count), (3, 1));
            }
        }
        if taken.count == 0 {
            if ended {
                break;
            }
            conflator.wait(Duration::from_secs(1));
        }
    }
    writer.join().unwrap();
    assert_eq!((accounted, conflator.position()), (EVENTS, EVENTS));
    // The last lap cannot have been overwritten.
    for (id, latest) in latest.into_iter().enumerate() {
        let expected = (0..EVENTS).rev().find(|n| n % 50 == id as u64 && n % 1000 != 999);
        assert_eq!(Some(latest), expected);
    }
}

/// Order events are not for a reader of quotes; gaps and the feed's status are.
#[test]
fn conflation_keeps_quotes_gaps_and_status() {
    let mut producer = Producer::create(&anonymous(64)).unwrap();
    let conflator = Conflator::new(producer.reader(), Filter::default(), Wait::Busy).unwrap();
    for (n, (kind, id)) in [(1, 1), (2, 1), (3, 0), (2, 2), (2, 1), (4, 0), (1, 2)].into_iter().enumerate() {
        producer.publish(record(kind, id, b'B', n as u64));
    }
    producer.close();
    while !conflator.is_ended() {
        conflator.wait(Duration::from_secs(1));
    }
    let (mut out, mut updates) = (vec![RingRecord::ZERO; 40], vec![0; 40]);
    let taken = conflator.take(&mut out, &mut updates);
    let rows: Vec<_> = out[..taken.count].iter().map(|row| Gap::from(row.record).kind).zip(updates).collect();
    assert_eq!(rows, [(3, 1), (2, 1), (2, 2), (4, 1)]);
    assert_eq!(taken.stale, []);
}
