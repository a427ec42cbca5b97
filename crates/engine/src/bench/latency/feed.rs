//! The receiving side as feeds have it: one thread that takes packets and does everything to them.

use barewire_io::{Receiver, clock};
use barewire_wire::moldudp64::HEADER_LEN;

use super::probe::Schedule;
use super::{Ended, Feed, INTERRUPTED_NS, RunError, Shared};
use crate::counters::Counter;
use crate::pipeline::Input;
use crate::receive::Visitor;
use crate::recovery::NoServices;

/// Opens, and that is all.
pub(super) struct Opened;

impl Visitor for Opened {
    type Output = ();

    fn visit<R: Receiver + Send + 'static>(self, _receiver: R, _report: Vec<String>) {}
}

/// Receives until the end of the session.
pub(super) struct Drive<'a> {
    pub(super) pipeline: &'a mut Feed,
    pub(super) schedule: Schedule,
    pub(super) shared: &'a Shared<'a>,
}

impl Visitor for Drive<'_> {
    type Output = Result<Ended, RunError>;

    fn visit<R: Receiver + Send + 'static>(self, mut receiver: R, report: Vec<String>) -> Self::Output {
        let Drive { pipeline, schedule, shared } = self;
        // The first look sets things up.
        receiver.receive(&mut |_| {})?;
        let start = shared.begin();
        pipeline.sink_mut().arm(start, schedule);
        let (mut last, mut stolen_ns) = (start, 0);
        while !shared.is_stopped() {
            let mut is_bare = false;
            let received = receiver.receive(&mut |packet| {
                is_bare |= packet.payload.len() == HEADER_LEN;
                pipeline.packet(&Input {
                    line: packet.line,
                    payload: packet.payload,
                    ts_recv: packet.ts_recv,
                    ts_source: packet.ts_source,
                    seen: packet.seen,
                    degraded: packet.degraded,
                });
            })?;
            if pipeline.is_waiting() {
                pipeline.recover(clock::now(), received == 0, &mut NoServices);
            }
            // The one look at the clock that a feed's loop has, too.
            let now = clock::monotonic();
            let turn = now.saturating_sub(last);
            if turn >= INTERRUPTED_NS {
                stolen_ns += turn;
            }
            last = last.max(now);
            if is_bare && has_ended(pipeline) {
                break;
            }
        }
        shared.finish();
        let elapsed_ns = (last - start).max(1);
        Ok(Ended { report, refused: 0, stolen: Some(stolen_ns as f64 / elapsed_ns as f64) })
    }
}

/// Whether the session has ended and nothing is missing that may yet come.
pub(in super::super) fn has_ended(pipeline: &mut Feed) -> bool {
    !pipeline.is_waiting() && pipeline.counters().get(Counter::SessionEnded) == 1
}
