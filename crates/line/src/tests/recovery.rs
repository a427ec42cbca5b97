//! What is done about holes, step by step, against servers and clocks that are not kind.

use super::*;

const MS: u64 = 1_000_000;
const REQUESTS: Requests = Requests {
    servers: 1,
    max_messages: 100,
    per_second: 10_000,
    timeout_ns: 20 * MS,
    attempts: 3,
    give_up_ns: 1_000 * MS,
    max_gap: 1_000,
};
const SNAPSHOTS: Snapshots = Snapshots { servers: 1, attempts: 1, retry_ns: 1_000 * MS };

/// A feed on one line, which asks as it is told to.
struct Feed {
    sequencer: Sequencer,
    recovery: Recovery,
    delivered: Vec<u64>,
    /// Every message declared lost, and when.
    lost: Vec<(u64, u64)>,
    fetches: Vec<u64>,
    requests: usize,
}

impl Feed {
    fn new(requests: Option<Requests>, snapshots: Option<Snapshots>) -> Feed {
        let config = Config { hold_ns: 2 * MS, capacity: 1024, longest_message: 9, believe_after: 3 };
        Feed {
            sequencer: Sequencer::new(config),
            recovery: Recovery::new(RecoveryConfig { requests, snapshots }),
            delivered: vec![],
            lost: vec![],
            fetches: vec![],
            requests: 0,
        }
    }

    fn packet(&mut self, at: u64, first: u64, content: Content) {
        let arrival = Arrival { at: UnixNanos(at), ..packet(0, 7, first, content) };
        let mut outcome = self.sequencer.accept(&arrival);
        if outcome == Outcome::NewSession {
            self.sequencer.begin(&arrival, |_| Join::Declare);
            outcome = self.sequencer.accept(&arrival);
        }
        let count = if let Content::Messages(count) = content { u64::from(count) } else { 0 };
        match outcome {
            Outcome::Deliver { skip } => {
                self.delivered.extend(first + u64::from(skip)..first + count);
                self.row();
            }
            Outcome::Ahead => {
                let came = Came {
                    at: UnixNanos(at),
                    ts_recv: UnixNanos(at),
                    ts_source: TsSource::User,
                    degraded: false,
                    line: 0,
                };
                (first..first + count).for_each(|n| {
                    self.sequencer.hold(Seq(n), &message(n), came);
                });
            }
            _ => {}
        }
    }

    fn message(&mut self, at: u64, number: u64) {
        self.packet(at, number, Content::Messages(1));
    }

    fn row(&mut self) {
        let mut row = self.sequencer.row();
        let from = row.sequence().0;
        let count = row.by_ref().count() as u64;
        self.delivered.extend(from..from + count);
        self.sequencer.delivered(count);
    }

    fn act(&mut self, now: u64, step: Step) {
        match step {
            Step::Wait => {}
            Step::Request { .. } => self.requests += 1,
            Step::Fetch { ticket, .. } => self.fetches.push(ticket),
            Step::Lost(missing) => {
                self.lost.extend((missing.first.0..missing.first.0 + missing.count).map(|n| (n, now)));
                self.row();
            }
            Step::Filled => self.row(),
        }
    }

    fn recover(&mut self, now: u64) {
        loop {
            let step = self.recovery.step(UnixNanos(now), UnixNanos(now), &mut self.sequencer);
            if step == Step::Wait {
                break;
            }
            self.act(now, step);
        }
    }

    fn fetch_fails(&mut self, now: u64) {
        let step = self.recovery.failed(UnixNanos(now), &mut self.sequencer);
        self.act(now, step);
    }
}

/// Every hole has its own time: that a server is silent costs a hole its attempts, however many others there are.
#[test]
fn holes_that_nobody_fills_are_asked_for_side_by_side() {
    let mut feed = Feed::new(Some(REQUESTS), None);
    // A message a millisecond, every tenth of which is lost.
    for n in 1..=1_000 {
        if n % 10 != 0 {
            feed.message(n * MS, n);
        }
        feed.recover(n * MS);
    }
    let latest = feed.lost.iter().map(|(number, at)| at - number * MS).max().unwrap();
    assert!(latest <= 100 * MS, "{} ms", latest / MS);
    assert!(feed.lost.len() >= 90, "{}", feed.lost.len());
}

/// Another try to fetch a snapshot must not cost a hole its own time: the other line may be about to fill it.
#[test]
fn a_snapshot_that_fails_again_loses_nothing_that_was_about_to_come() {
    let mut feed = Feed::new(None, Some(SNAPSHOTS));
    feed.message(MS, 1);
    feed.message(2 * MS, 3);
    feed.message(3 * MS, 4);
    feed.recover(10 * MS);
    assert_eq!(feed.fetches.len(), 1);
    feed.fetch_fails(11 * MS);
    assert_eq!(feed.lost, [(2, 11 * MS)]);
    // When it is time for the next try, a hole has just been seen.
    feed.message(1_011 * MS - 1, 6);
    feed.recover(1_011 * MS);
    if feed.fetches.len() > 1 {
        feed.fetch_fails(1_011 * MS + 1);
    }
    feed.message(1_011 * MS + 2, 5);
    feed.recover(1_011 * MS + 3);
    feed.recover(1_020 * MS);
    assert_eq!(feed.lost, [(2, 11 * MS)]);
    assert_eq!(feed.delivered, [1, 3, 4, 5, 6]);
    assert_eq!(feed.fetches.len(), 2, "and it is tried then");
}

/// Where there always is a hole, the next try comes with one that is lost.
#[test]
fn a_snapshot_is_tried_again_however_many_holes_there_are() {
    let mut feed = Feed::new(None, Some(SNAPSHOTS));
    feed.message(MS, 1);
    for n in 1..2_000 {
        feed.message(n * MS, 2 * n + 1);
        feed.recover(n * MS);
        if feed.sequencer.is_suspended() {
            feed.fetch_fails(n * MS);
        }
    }
    assert_eq!(feed.fetches.len(), 2);
}

/// A number that one packet claimed is not believed because something else was missing meanwhile.
#[test]
fn a_hole_that_is_filled_proves_nothing_of_what_lies_behind() {
    let mut feed = Feed::new(None, None);
    feed.message(MS, 1);
    feed.message(2 * MS, 3);
    feed.message(5 * MS - 2, 4);
    // Forged: nothing there.
    feed.packet(5 * MS - 2, 900, Content::Heartbeat);
    // A server's reply.
    assert!(feed.sequencer.misses(SessionId(7), Seq(2)));
    let came = Came {
        at: UnixNanos(5 * MS - 2),
        ts_recv: UnixNanos(1),
        ts_source: TsSource::User,
        degraded: false,
        line: MAX_LINES as u8,
    };
    assert_eq!(feed.sequencer.hold(Seq(2), &message(2), came), Stored::New);
    feed.row();
    assert_eq!(feed.delivered, [1, 2, 3, 4]);
    feed.recover(5 * MS);
    feed.message(5 * MS, 5);
    feed.recover(20 * MS);
    feed.message(20 * MS, 6);
    assert_eq!(feed.lost.len(), 0);
    assert_eq!(feed.delivered, [1, 2, 3, 4, 5, 6]);
}

/// A session that begins after the clock was set back begins all the same.
#[test]
fn a_restart_is_followed_though_the_clock_was_set_back() {
    const HOUR: u64 = 3_600_000 * MS;
    let mut r = Receiver::new();
    r.take(&Arrival { at: UnixNanos(2 * HOUR), ..packet(0, 7, 1, Content::Messages(3)) });
    r.take(&Arrival { at: UnixNanos(HOUR), ..packet(0, 8, 1, Content::Messages(3)) });
    assert_eq!(r.restarts, 2, "the first one is the beginning");
}
