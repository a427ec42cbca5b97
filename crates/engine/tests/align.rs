//! The merge and its rows by example; against a reference they are held by `tests/python/test_align.py`.

use barewire_engine::align::rows::{On, Rows};
use barewire_engine::align::{Aligned, Config, Key, Merge, NoTime, Released, Time};
use barewire_ring::RingRecord;
use barewire_types::{Bbo, Gap, RecordKind};
use proptest::prelude::*;

/// A record of a kind at a time; `number` is its place in the ring.
fn record(kind: RecordKind, ts_recv: u64, number: u64) -> RingRecord {
    let gap = Gap {
        ts_event: 0,
        ts_recv,
        sequence: number,
        instrument_id: 7,
        publisher_id: 0,
        kind: kind as u8,
        flags: 0,
        ts_source: 1,
        count: 0,
        reason: 0,
        reserved: [0; 15],
    };
    RingRecord { ring_sequence: number, record: gap.into() }
}

fn records(times: &[u64]) -> Vec<RingRecord> {
    times.iter().zip(0..).map(|(time, number)| record(RecordKind::Bbo, *time, number)).collect()
}

fn merge(inputs: usize, hold_ns: u64, max_held: usize, time: Time) -> Merge {
    Merge::new(&Config { key: Key::Recv, offsets_ns: vec![0; inputs], hold_ns, max_held, time })
}

/// Everything that need not be held: (input, key, late, why).
fn all(merge: &mut Merge, now: u64) -> Vec<(u8, u64, u8, u8)> {
    let mut out = vec![Aligned::ZERO; 64];
    let Released { count, .. } = merge.release(now, &mut out, false);
    out[..count]
        .iter()
        .map(|one| (one.placed.source, one.placed.ts_key, one.placed.late, one.placed.released_by))
        .collect()
}

#[test]
fn what_is_newest_waits_until_the_other_is_further_or_silent_for_long_enough() {
    let mut merge = merge(2, 10, 100, Time::Local);
    merge.push(0, &records(&[100, 300]), 0, 1, false).unwrap();
    merge.push(1, &records(&[200]), 0, 1, false).unwrap();
    assert_eq!(all(&mut merge, 1), [(0, 100, 0, 0), (1, 200, 0, 0)]);
    assert_eq!(merge.next_due(), Some(11));
    assert!(!merge.is_ready(10));
    assert_eq!(all(&mut merge, 11), [(0, 300, 0, 1)]);
    merge.push(1, &records(&[250, 400]), 0, 12, false).unwrap();
    assert_eq!(all(&mut merge, 12), [(1, 250, 1, 0)]);
    merge.progress(0, 401);
    assert_eq!(all(&mut merge, 12), [(1, 400, 0, 0)]);
    let stats: Vec<_> = merge.stats().collect();
    assert_eq!((stats[0].by_hold, stats[1].late, stats[1].late_max_ns), (1, 1, 50));
}

#[test]
fn an_input_that_has_more_to_be_read_is_not_silent() {
    let mut merge = merge(2, 10, 100, Time::Local);
    merge.push(1, &records(&[100]), 0, 1, true).unwrap();
    merge.push(0, &records(&[300]), 0, 1, false).unwrap();
    assert_eq!(all(&mut merge, 50), [(1, 100, 0, 0)]);
    merge.push(1, &records(&[150]), 0, 50, false).unwrap();
    assert_eq!(all(&mut merge, 50), [(1, 150, 0, 0), (0, 300, 0, 1)]);
}

#[test]
fn a_quote_without_a_time_is_refused_and_a_gap_without_one_is_not() {
    let mut merge = merge(1, 0, 100, Time::Data);
    assert_eq!(merge.push(0, &records(&[0]), 0, 0, true), Err(NoTime { input: 0 }));
    merge.push(0, &[record(RecordKind::Gap, 0, 0), record(RecordKind::Bbo, 5, 1)], 0, 0, true).unwrap();
    assert_eq!(all(&mut merge, 0), [(0, 0, 0, 0), (0, 5, 0, 0)]);
}

#[test]
fn a_row_needs_every_leg() {
    let mut rows = Rows::new(&[0, 1], On::Any, Some(50));
    let quote = |source: u8, ts_key: u64| {
        let mut one = Aligned { ring: record(RecordKind::Bbo, ts_key, 0), ..Aligned::ZERO };
        one.ring.record = Bbo { bid_price: ts_key as i64, ..Bbo::from(one.ring.record) }.into();
        (one.placed.source, one.placed.ts_key) = (source, ts_key);
        one
    };
    let mut out = vec![0; rows.words() * 4];
    assert_eq!(rows.take(&[quote(0, 100), quote(1, 110)], &mut out), 0);
    rows.resolve(0, 7);
    rows.resolve(1, 7);
    assert_eq!(rows.take(&[quote(0, 100), quote(1, 140), quote(1, 160)], &mut out), 2);
    let words = rows.words();
    let heads: Vec<_> = out.chunks(words).take(2).map(|row| (row[0], row[1])).collect();
    assert_eq!(heads, [(140, 40), (160, 60)]);
}

proptest! {
    /// Whatever comes and however it is cut: everything goes out once, in its input's order, and files in the order of time.
    #[test]
    fn nothing_is_lost_or_turned_round(
        times in prop::collection::vec(prop::collection::vec(1_u64..50, 0..20), 1..4),
        cut in 1_usize..5,
        room in 1_usize..9,
        live: bool,
    ) {
        let inputs: Vec<_> = times.iter().map(|times| records(times)).collect();
        let time = if live { Time::Local } else { Time::Data };
        let mut merge = merge(inputs.len(), 3, 4, time);
        let mut out = vec![Aligned::ZERO; room];
        let mut found = Vec::new();
        let mut parts: Vec<_> = inputs.iter().map(|records| records.chunks(cut)).collect();
        for now in 0.. {
            for (number, parts) in parts.iter_mut().enumerate() {
                if live || merge.is_wanting(number) {
                    match parts.next() {
                        Some(part) => merge.push(number, part, 0, now, !live).unwrap(),
                        None => merge.end(number),
                    }
                }
            }
            loop {
                let count = merge.release(now, &mut out, false).count;
                if count == 0 {
                    break;
                }
                found.extend_from_slice(&out[..count]);
            }
            prop_assert!(!live || merge.held() <= 4);
            if (0..inputs.len()).all(|number| merge.is_through(number)) {
                break;
            }
        }
        for (number, records) in inputs.iter().enumerate() {
            let ours: Vec<_> =
                found.iter().filter(|one| usize::from(one.placed.source) == number).map(|one| one.ring).collect();
            prop_assert_eq!(&ours, records);
        }
        let mut newest = 0;
        for one in &found {
            prop_assert_eq!(one.placed.late == 1, one.placed.ts_key < newest);
            newest = newest.max(one.placed.ts_key);
        }
        if !live && times.iter().all(|times| times.is_sorted()) {
            prop_assert!(found.iter().all(|one| one.placed.late == 0));
        }
    }
}
