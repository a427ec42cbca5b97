//! The contract, against a reference that remembers every number.

extern crate std;

use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const SESSION: SessionId = SessionId(7);

fn packet(line: u8, session: u128, first: u64, content: Content) -> Arrival {
    Arrival { line, session: SessionId(session), sequence: Seq(first), content, at: UnixNanos(1) }
}

fn deliver(skip: u32) -> Outcome {
    Outcome::Deliver { skip }
}

#[test]
fn first_copy_wins_across_different_cuts() {
    let mut s = Sequencer::new();
    assert_eq!(s.accept(&packet(0, 7, 1, Content::Messages(3))).outcome, deliver(0));
    assert_eq!(s.accept(&packet(1, 7, 1, Content::Messages(2))).outcome, Outcome::Duplicate);
    // B begins below and ends above.
    assert_eq!(s.accept(&packet(1, 7, 3, Content::Messages(3))).outcome, deliver(1));
    assert_eq!(s.accept(&packet(0, 7, 4, Content::Messages(2))).outcome, Outcome::Duplicate);
    assert_eq!(s.next(), Seq(6));
    assert_eq!((s.lines()[0].first_copies, s.lines()[1].first_copies), (3, 2));
    assert_eq!((s.lines()[0].duplicates, s.lines()[1].duplicates), (2, 3));
}

#[test]
fn a_heartbeat_shows_a_lost_tail() {
    let mut s = Sequencer::new();
    s.accept(&packet(0, 7, 1, Content::Messages(3)));
    let verdict = s.accept(&packet(0, 7, 6, Content::Heartbeat));
    assert_eq!(verdict.missing, Some(Missing { first: Seq(4), count: 2, reason: GapReason::SequenceJump }));
    assert_eq!(verdict.outcome, Outcome::Heartbeat);
    let end = s.accept(&packet(0, 7, 8, Content::EndOfSession));
    assert_eq!(end.missing, Some(Missing { first: Seq(6), count: 2, reason: GapReason::SessionEnd }));
    assert!(s.has_ended());
}

#[test]
fn joining_in_mid_session_is_a_gap_of_its_own_kind() {
    let mut s = Sequencer::new();
    let verdict = s.accept(&packet(0, 7, 1000, Content::Messages(1)));
    assert_eq!(verdict.missing, Some(Missing { first: Seq(1), count: 999, reason: GapReason::LateJoin }));
    assert!(!verdict.new_session);
    assert_eq!(verdict.outcome, deliver(0));
}

#[test]
fn a_stray_is_dropped_and_a_restart_is_followed() {
    let mut s = Sequencer::new();
    s.accept(&packet(0, 7, 1, Content::Messages(3)));
    assert_eq!(s.accept(&packet(0, 8, 500, Content::Messages(1))).outcome, Outcome::ForeignSession);
    assert_eq!(s.accept(&packet(0, 7, 4, Content::Messages(1))).outcome, deliver(0));
    let restart = s.accept(&packet(0, 8, 1, Content::Messages(2)));
    assert!(restart.new_session);
    assert_eq!((restart.outcome, restart.missing), (deliver(0), None));
    // The slow line still brings the old session's tail, and would go on for ever.
    for first in 5..50 {
        assert_eq!(s.accept(&packet(1, 7, first, Content::Messages(1))).outcome, Outcome::ForeignSession);
    }
    assert_eq!(s.accept(&packet(0, 8, 3, Content::Messages(1))).outcome, deliver(0));
}

#[test]
fn a_restart_joined_late_lost_its_first_messages() {
    let mut s = Sequencer::new();
    s.accept(&packet(0, 7, 1, Content::Messages(3)));
    for first in [10, 11] {
        assert_eq!(s.accept(&packet(0, 8, first, Content::Messages(1))).outcome, Outcome::ForeignSession);
    }
    let verdict = s.accept(&packet(0, 8, 12, Content::Messages(1)));
    assert!(verdict.new_session);
    assert_eq!(verdict.missing, Some(Missing { first: Seq(1), count: 11, reason: GapReason::SequenceJump }));
}

#[test]
fn numbers_near_the_end_of_their_range() {
    let mut s = Sequencer::new();
    assert_eq!(s.accept(&packet(0, 7, u64::MAX - 1, Content::Messages(1))).outcome, deliver(0));
    assert_eq!(s.accept(&packet(0, 7, u64::MAX, Content::Messages(1))).outcome, Outcome::Invalid);
    assert_eq!(s.accept(&packet(0, 7, u64::MAX, Content::Heartbeat)).outcome, Outcome::Heartbeat);
    assert_eq!(s.accept(&packet(200, 7, 1, Content::Heartbeat)).outcome, Outcome::Invalid);
}

proptest! {
    /// Whatever arrives: a message is delivered at most once, in order, and every number below `next` was either
    /// delivered or declared missing, never both.
    #[test]
    fn every_number_is_delivered_once_or_declared(
        packets in prop::collection::vec((0u8..3, 1u64..60, 0u32..8, 0u8..10), 1..80)
    ) {
        let mut s = Sequencer::new();
        let (mut delivered, mut missing) = (Vec::new(), BTreeSet::new());
        for (line, first, count, kind) in packets {
            let content = match kind { 0 => Content::Heartbeat, _ => Content::Messages(count) };
            let verdict = s.accept(&Arrival { line, session: SESSION, sequence: Seq(first), content, at: UnixNanos(0) });
            if let Some(gap) = verdict.missing {
                for number in gap.first.0..gap.first.0 + gap.count {
                    prop_assert!(missing.insert(number));
                }
            }
            if let Outcome::Deliver { skip } = verdict.outcome {
                delivered.extend(first + u64::from(skip)..first + u64::from(count));
            }
        }
        prop_assert!(delivered.windows(2).all(|w| w[0] < w[1]));
        let mut all: Vec<u64> = delivered.iter().copied().chain(missing).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (1..s.next().0).collect::<Vec<_>>());
    }
}
