//! The contract, against a network that loses, repeats, delays and cuts anew.

extern crate std;

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use barewire_types::TsSource;
use proptest::prelude::*;

use super::*;

mod recovery;

const HOLD_NS: u64 = 1_000;
const CAPACITY: u32 = 64;

fn packet(line: u8, session: u128, first: u64, content: Content) -> Arrival {
    Arrival {
        line,
        session: SessionId(session),
        sequence: Seq(first),
        content,
        at: UnixNanos(1),
        ts_recv: UnixNanos(1),
        opening: 0,
    }
}

/// A receiver, as the engine is one: it delivers what it is told to, and remembers.
struct Receiver {
    sequencer: Sequencer,
    delivered: Vec<u64>,
    missing: Vec<Missing>,
    restarts: u32,
}

/// A message says its own number, in two to nine bytes.
fn message(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 1 + (number % 8) as usize];
    bytes.push(number as u8);
    bytes
}

impl Receiver {
    fn new() -> Receiver {
        Receiver::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: u32) -> Receiver {
        let sequencer = Sequencer::new(Config { hold_ns: HOLD_NS, capacity, longest_message: 9, believe_after: 3 });
        Receiver { sequencer, delivered: vec![], missing: vec![], restarts: 0 }
    }

    fn take(&mut self, packet: &Arrival) -> Outcome {
        let mut outcome = self.sequencer.accept(packet);
        while outcome == Outcome::NoRoom {
            let Room::Lost(missing) = self.sequencer.make_room(packet, false) else { panic!("something to give up") };
            self.lost(missing);
            outcome = self.sequencer.accept(packet);
        }
        if outcome == Outcome::NewSession {
            self.flush();
            self.restarts += 1;
            let missing = self.sequencer.begin(packet, |_| Join::Declare);
            self.missing.extend(missing);
            outcome = self.sequencer.accept(packet);
            assert_ne!(outcome, Outcome::NewSession);
        }
        let Content::Messages(count) = packet.content else {
            assert!(!matches!(outcome, Outcome::Deliver { .. } | Outcome::Ahead));
            self.give_up(packet.at);
            return outcome;
        };
        let first = packet.sequence.0;
        match outcome {
            Outcome::Deliver { skip } => {
                self.delivered.extend(first + u64::from(skip)..first + u64::from(count));
                self.row();
            }
            Outcome::Ahead => {
                let came = Came {
                    at: packet.at,
                    ts_recv: packet.ts_recv,
                    ts_source: TsSource::User,
                    degraded: false,
                    line: packet.line,
                };
                for number in first..first + u64::from(count) {
                    let stored = self.sequencer.hold(Seq(number), &message(number), came);
                    assert_ne!(stored, Stored::TooLong);
                }
            }
            _ => {}
        }
        self.give_up(packet.at);
        outcome
    }

    fn give_up(&mut self, now: UnixNanos) {
        while let Some(missing) = self.sequencer.give_up(now) {
            self.lost(missing);
        }
    }

    fn row(&mut self) {
        let mut row = self.sequencer.row();
        let mut count = 0;
        loop {
            let number = row.sequence().0;
            let Some(held) = row.next() else { break };
            assert_eq!(held, message(number), "what was held is what came");
            self.delivered.push(number);
            count += 1;
        }
        if count > 0 {
            self.sequencer.delivered(count);
        }
    }

    fn lost(&mut self, missing: Missing) {
        self.missing.push(missing);
        self.row();
    }

    fn flush(&mut self) {
        while let Some(missing) = self.sequencer.flush() {
            self.lost(missing);
        }
        assert_eq!(self.sequencer.held(), 0);
        assert!(self.sequencer.horizon() <= self.sequencer.next());
    }

    /// Everything below `next` was delivered or given up, once, and delivered in order.
    fn check(&self) {
        assert!(self.delivered.windows(2).all(|w| w[0] < w[1]));
        let mut all = BTreeSet::new();
        for number in &self.delivered {
            assert!(all.insert(*number));
        }
        for missing in &self.missing {
            for number in missing.first.0..missing.first.0 + missing.count {
                assert!(all.insert(number), "{number} both delivered and given up");
            }
        }
        let next = self.sequencer.next().0;
        assert_eq!(all.into_iter().collect::<Vec<_>>(), (1..next).collect::<Vec<_>>());
    }
}

#[test]
fn first_copy_wins_across_different_cuts() {
    let mut r = Receiver::new();
    assert_eq!(r.take(&packet(0, 7, 1, Content::Messages(3))), Outcome::Deliver { skip: 0 });
    assert_eq!(r.take(&packet(1, 7, 1, Content::Messages(2))), Outcome::Duplicate);
    // B begins below and ends above.
    assert_eq!(r.take(&packet(1, 7, 3, Content::Messages(3))), Outcome::Deliver { skip: 1 });
    assert_eq!(r.take(&packet(0, 7, 4, Content::Messages(2))), Outcome::Duplicate);
    let lines = r.sequencer.lines();
    assert_eq!((lines[0].first_copies, lines[1].first_copies), (3, 2));
    assert_eq!((lines[0].duplicates, lines[1].duplicates), (2, 3));
    r.check();
}

#[test]
fn the_other_line_fills_a_hole() {
    let mut r = Receiver::new();
    r.take(&packet(0, 7, 1, Content::Messages(3)));
    assert_eq!(r.take(&packet(0, 7, 6, Content::Messages(2))), Outcome::Ahead);
    assert_eq!(r.delivered, [1, 2, 3]);
    assert!(r.sequencer.is_waiting());
    // B brings what is missing and a piece of what is held: that is delivered from B, and the held copy is the duplicate.
    assert_eq!(r.take(&packet(1, 7, 4, Content::Messages(3))), Outcome::Deliver { skip: 0 });
    assert_eq!(r.delivered, [1, 2, 3, 4, 5, 6, 7]);
    assert!(!r.sequencer.is_waiting());
    assert_eq!((r.sequencer.superseded(), r.sequencer.held()), (1, 0));
    assert!(r.missing.is_empty());
    r.check();
}

#[test]
fn what_nobody_brings_is_given_up_in_time() {
    let mut r = Receiver::new();
    let at = |at, first, content| Arrival { at: UnixNanos(at), ts_recv: UnixNanos(at), ..packet(0, 7, first, content) };
    r.take(&at(1, 1, Content::Messages(1)));
    r.take(&at(10, 3, Content::Messages(1)));
    r.take(&at(500, 5, Content::Messages(1)));
    assert_eq!(r.sequencer.give_up(UnixNanos(10 + HOLD_NS - 1)), None);
    // The first hole's time is up; the second was noticed later.
    r.give_up(UnixNanos(10 + HOLD_NS));
    assert_eq!(r.missing, [Missing { first: Seq(2), count: 1, reason: GapReason::SequenceJump }]);
    assert_eq!(r.delivered, [1, 3]);
    // Heartbeats tell of a sixth, which nothing follows: the second one is believed.
    r.take(&at(500 + HOLD_NS, 7, Content::Heartbeat));
    assert_eq!(r.delivered, [1, 3, 5]);
    r.take(&at(500 + 2 * HOLD_NS, 7, Content::Heartbeat));
    r.take(&at(500 + 3 * HOLD_NS, 7, Content::Messages(1)));
    assert_eq!(r.delivered, [1, 3, 5, 7]);
    assert_eq!(r.missing.len(), 3);
    r.check();
}

/// The packet that fills a hole does so however late it is read: who was away for longer than the hold has not lost it.
#[test]
fn a_late_reader_loses_nothing_that_came() {
    let mut r = Receiver::new();
    let at = |line, at, first| Arrival {
        at: UnixNanos(at),
        ts_recv: UnixNanos(at),
        ..packet(line, 7, first, Content::Messages(1))
    };
    r.take(&at(0, 1, 1));
    for n in 3..20 {
        // As the receive path hands it over: first all that A brought, then B.
        r.sequencer.accept(&at(0, n * HOLD_NS, n));
        r.sequencer.hold(
            Seq(n),
            &message(n),
            Came { at: UnixNanos(n), ts_recv: UnixNanos(n), ts_source: TsSource::User, degraded: false, line: 0 },
        );
    }
    assert_eq!(r.take(&at(1, 2 * HOLD_NS, 2)), Outcome::Deliver { skip: 0 });
    assert!(r.missing.is_empty());
    assert_eq!(r.delivered, (1..20).collect::<Vec<_>>());
}

#[test]
fn joining_in_mid_session_is_a_gap_of_its_own_kind() {
    let mut r = Receiver::new();
    r.take(&packet(0, 7, 1000, Content::Messages(1)));
    assert_eq!(r.missing, [Missing { first: Seq(1), count: 999, reason: GapReason::LateJoin }]);
    assert_eq!(r.delivered, [1000]);
    r.check();
}

#[test]
fn a_stray_is_dropped_and_a_restart_is_followed() {
    const QUIET: u64 = 3_000_000_000;
    let mut r = Receiver::new();
    let at = |at, session, first| Arrival {
        at: UnixNanos(at),
        ts_recv: UnixNanos(at),
        ..packet(0, session, first, Content::Messages(1))
    };
    r.take(&packet(0, 7, 1, Content::Messages(3)));
    // While the session speaks, nothing of another one is believed: not a first number, not a thousand packets.
    for n in 0..1000 {
        assert_eq!(r.take(&packet(1, 8, 1 + n, Content::Messages(1))), Outcome::ForeignSession);
        assert_eq!(r.take(&packet(1, 9, 1, Content::Heartbeat)), Outcome::ForeignSession);
        assert_eq!(r.take(&at(1, 7, 4 + n)), Outcome::Deliver { skip: 0 });
    }
    r.take(&at(1, 7, 1005));
    r.check();
    // Silence, and then another session from its beginning: what was held behind the hole is delivered first.
    let outcome = r.take(&at(1 + QUIET, 8, 1));
    assert_eq!((outcome, r.restarts), (Outcome::Deliver { skip: 0 }, 2));
    assert_eq!(r.delivered[1003..], [1005, 1]);
    // The slow line still brings the old session's tail.
    assert_eq!(r.take(&at(2 + QUIET, 7, 1006)), Outcome::ForeignSession);
    assert_eq!(r.take(&at(3 + QUIET, 8, 2)), Outcome::Deliver { skip: 0 });
    // And should that session have been the wrong one, the right one comes back when it falls silent.
    for n in 0..2 {
        assert_eq!(r.take(&at(4 + 2 * QUIET + n, 7, 2000 + n)), Outcome::ForeignSession);
    }
    assert_eq!(r.take(&at(6 + 2 * QUIET, 7, 2002)), Outcome::Deliver { skip: 0 });
}

/// Numbers that begin anew under the same name a moment later, as those of a server that was killed and started again.
#[test]
fn another_first_message_under_the_same_name_is_a_restart() {
    let mut r = Receiver::new();
    let opening = |first, opening| Arrival { opening, ..packet(0, 7, first, Content::Messages(10)) };
    for n in 0..10 {
        r.take(&opening(1 + 10 * n, if n == 0 { 5 } else { 0 }));
    }
    // The other line's copies, and one that was forged: the stream goes on.
    for n in 0..10 {
        assert_eq!(r.take(&Arrival { line: 1, ..opening(1 + 10 * n, if n == 0 { 5 } else { 0 }) }), Outcome::Duplicate);
    }
    assert_eq!(r.take(&opening(1, 6)), Outcome::Duplicate);
    assert_eq!(r.take(&opening(101, 0)), Outcome::Deliver { skip: 0 });
    r.check();
    // And one that was not.
    assert_eq!(r.take(&opening(1, 6)), Outcome::Duplicate);
    assert_eq!(r.take(&opening(11, 0)), Outcome::Duplicate);
    assert_eq!((r.take(&opening(21, 0)), r.restarts), (Outcome::Deliver { skip: 0 }, 2));
    assert_eq!(r.missing.last().map(|missing| (missing.first, missing.count)), Some((Seq(1), 20)));
    assert_eq!(r.take(&opening(31, 0)), Outcome::Deliver { skip: 0 });
}

#[test]
fn an_ended_session_is_followed_by_the_next_at_once() {
    let mut r = Receiver::new();
    r.take(&packet(0, 7, 1, Content::Messages(3)));
    // An end that was passed long ago is not one.
    assert_eq!(r.take(&packet(0, 7, 2, Content::EndOfSession)), Outcome::EndOfSession);
    assert!(!r.sequencer.has_ended());
    // An end ahead is one when all before it has come.
    assert_eq!(r.take(&packet(0, 7, 5, Content::EndOfSession)), Outcome::EndOfSession);
    assert!(!r.sequencer.has_ended());
    r.take(&packet(1, 7, 4, Content::Messages(1)));
    assert!(r.sequencer.has_ended());
    assert_eq!(r.take(&packet(0, 8, 1, Content::Messages(1))), Outcome::Deliver { skip: 0 });
}

#[test]
fn a_forged_number_does_not_silence_the_feed() {
    let mut r = Receiver::new();
    r.take(&packet(0, 7, 1, Content::Messages(3)));
    // Beyond what can be held, and within it: neither alone is believed.
    for (forged, outcome) in [(1 << 40, Outcome::TooFar), (60, Outcome::Ahead)] {
        assert_eq!(r.take(&packet(0, 7, forged, Content::Messages(1))), outcome);
        let next = r.sequencer.next().0;
        assert_eq!(r.take(&packet(0, 7, next, Content::Messages(1))), Outcome::Deliver { skip: 0 });
        assert_eq!(r.sequencer.give_up(UnixNanos(u64::MAX)), None);
    }
    assert_eq!(r.take(&packet(0, 7, 6, Content::Messages(1))), Outcome::Deliver { skip: 0 });
    r.check();
}

/// The first packet decides where a session is joined; if it was forged, those that follow put that right.
#[test]
fn a_forged_first_packet_is_put_right() {
    for content in [Content::Heartbeat, Content::Messages(1)] {
        let mut r = Receiver::new();
        r.take(&packet(0, 7, 1 << 40, content));
        for n in 0..10 {
            r.take(&packet(0, 7, 500 + n, Content::Messages(1)));
        }
        assert_eq!(r.sequencer.next(), Seq(510));
        assert_eq!(r.delivered.iter().filter(|n| **n < 1 << 40).count(), 8);
    }
}

#[test]
fn a_loss_greater_than_the_ring_is_gone_past() {
    let mut r = Receiver::new();
    r.take(&packet(0, 7, 1, Content::Messages(3)));
    let at = |first| packet(0, 7, first, Content::Messages(2));
    assert_eq!(r.take(&at(1001)), Outcome::TooFar);
    assert_eq!(r.take(&at(1003)), Outcome::TooFar);
    assert_eq!(r.take(&at(1005)), Outcome::Deliver { skip: 0 });
    assert_eq!(r.delivered, [1, 2, 3, 1005, 1006]);
    r.check();
}

/// A stream too fast for the ring: the hole is given up when there is no more room, and nothing else is lost.
#[test]
fn a_full_ring_gives_up_the_hole_and_nothing_else() {
    let mut r = Receiver::new();
    r.take(&packet(0, 7, 1, Content::Messages(3)));
    for first in 5..1000 {
        r.take(&packet(0, 7, first, Content::Messages(1)));
    }
    assert_eq!(r.missing, [Missing { first: Seq(4), count: 1, reason: GapReason::SequenceJump }]);
    assert_eq!(r.delivered.len(), 3 + 995);
    r.check();
}

#[test]
fn numbers_near_the_end_of_their_range() {
    let mut r = Receiver::new();
    r.sequencer.begin(&packet(0, 7, u64::MAX - 1, Content::Messages(1)), |_| Join::Declare);
    assert_eq!(r.sequencer.accept(&packet(0, 7, u64::MAX - 1, Content::Messages(1))), Outcome::Deliver { skip: 0 });
    assert_eq!(r.sequencer.accept(&packet(0, 7, u64::MAX, Content::Messages(1))), Outcome::Invalid);
    assert_eq!(r.sequencer.accept(&packet(0, 7, u64::MAX, Content::Heartbeat)), Outcome::Heartbeat);
    assert_eq!(r.sequencer.accept(&packet(200, 7, 1, Content::Heartbeat)), Outcome::Invalid);
    // Found by fuzzing: an empty place was taken for the message with the last number of all.
    assert_eq!((r.sequencer.next(), r.sequencer.row().next()), (Seq(u64::MAX), None));
}

/// One packet of a stream of 400 messages, as a network may deliver it.
fn arrival() -> impl Strategy<Value = (u8, u64, u32, u8, u64)> {
    (0u8..3, 1u64..400, 0u32..12, 0u8..12, 0u64..HOLD_NS / 2)
}

proptest! {
    /// Whatever arrives, whenever: each message is delivered once, in order, or given up, and nothing is both.
    #[test]
    fn every_number_is_delivered_once_or_given_up(packets in prop::collection::vec(arrival(), 1..120)) {
        let mut r = Receiver::new();
        // Joined beyond doubt: what comes first is believed less, see a_forged_first_packet_is_put_right.
        r.take(&packet(0, 7, 1, Content::Messages(1)));
        r.take(&packet(0, 7, 2, Content::Messages(1)));
        let mut now = 1;
        for (line, first, count, kind, later) in packets {
            now += later;
            let content = match kind { 0 => Content::Heartbeat, 1 => Content::EndOfSession, _ => Content::Messages(count) };
            let at = Arrival { at: UnixNanos(now), ts_recv: UnixNanos(now), ..packet(line, 7, first, content) };
            r.take(&at);
            r.check();
        }
        r.flush();
        r.check();
    }

    /// Two lines that lose, repeat, delay and cut differently, within what can be held: every message that arrived on
    /// either is delivered, and exactly those that arrived on none are given up.
    #[test]
    fn nothing_that_arrived_is_lost(
        cuts in prop::collection::vec((1u64..9, 0u8..10, 0u64..12), 40..100),
        other in prop::collection::vec((1u64..9, 0u8..10, 0u64..12), 40..100),
    ) {
        let mut arrived = BTreeSet::new();
        let mut schedule = Vec::new();
        for (line, cuts) in [(0u8, cuts), (1, other)] {
            let mut next = 1;
            for (place, (count, fate, delay)) in cuts.into_iter().enumerate() {
                let first = next;
                next += count;
                // Fates: 0 to 2 lost, 3 repeated, else delivered. The first packet of both lines arrives, lest this be a
                // late join.
                if fate < 3 && place > 0 {
                    continue;
                }
                let delay = if place == 0 { 0 } else { delay };
                for copy in 0..=u64::from(fate == 3) {
                    schedule.push((first + delay + 5 * copy, line, first, count as u32));
                }
                arrived.extend(first..next);
            }
        }
        // Delays reorder packets by some twenty messages at most, and nothing is given up before the end.
        schedule.sort_by_key(|(when, line, first, _)| (*when, *line, *first));
        let mut r = Receiver::with_capacity(1024);
        for (_, line, first, count) in schedule {
            let outcome = r.take(&packet(line, 7, first, Content::Messages(count)));
            prop_assert_ne!(outcome, Outcome::TooFar);
        }
        r.flush();
        r.check();
        let delivered: BTreeSet<u64> = r.delivered.iter().copied().collect();
        prop_assert_eq!(delivered, arrived);
    }
}
