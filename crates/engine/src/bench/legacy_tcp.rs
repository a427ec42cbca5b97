//! The old way by TCP: SoupBinTCP, a thread that waits for whatever the stream brings (`recvmsg`, with the kernel's
//! software time), copies it, and hands it by mutex and condition variable to the strategy's thread, which takes the packets
//! apart, decodes the messages and keeps the books.
//!
//! Nothing is lost on the way: a receiver that is too slow closes the stream's window, and the sender has to wait. So that is
//! what there is to see. Messages are numbered from the login on; at the end as many must have come as were sent.

use std::io;
use std::thread;
use std::time::Duration;

use barewire_io::legacy_stream::LegacyStream;
use barewire_types::Seq;
use barewire_wire::soupbintcp::{CURRENT_SESSION, Frame, LoginRequest, Packet as Soup, Session, Step, padded, step};

use super::latency::probe::Schedule;
use super::latency::{Ended, Feed, RunConfig, RunError, Shared};
use super::legacy::{HandOff, LONGEST_WAIT, Packet, strategy_core, two_threads};

/// How long to wait for room in the queue: what is in a stream cannot be dropped.
const NO_ROOM: Duration = Duration::from_micros(100);

/// The messages at the front of a stream.
#[derive(Clone)]
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let Step::Packet { frame, rest } = step(self.0) else { return None };
            self.0 = rest;
            if let Ok(Soup::Sequenced(message)) = frame.parse() {
                return Some(message);
            }
        }
    }
}

/// What the bytes of a stream hold.
struct Whole {
    /// Bytes of whole packets.
    len: usize,
    messages: u64,
    has_ended: bool,
}

fn whole(bytes: &[u8]) -> Result<Whole, RunError> {
    let (mut rest, mut messages, mut has_ended) = (bytes, 0, false);
    loop {
        match step(rest) {
            Step::Packet { frame, rest: behind } => {
                match frame.parse() {
                    Ok(Soup::Sequenced(_)) => messages += 1,
                    Ok(Soup::EndOfSession) => has_ended = true,
                    Ok(Soup::ServerHeartbeat | Soup::Debug(_)) => {}
                    _ => return Err(RunError::BadStream("another packet")),
                }
                rest = behind;
            }
            Step::NeedMore => return Ok(Whole { len: bytes.len() - rest.len(), messages, has_ended }),
            Step::Broken => return Err(RunError::BadStream("a packet without a type")),
        }
    }
}

/// Logs in; the number of the first message that will come, and what came with the answer.
fn login(stream: &mut LegacyStream, session: Session) -> Result<(Seq, Vec<u8>), RunError> {
    let request = LoginRequest {
        username: padded("bench").unwrap_or_default(),
        password: padded("").unwrap_or_default(),
        session: CURRENT_SESSION,
        sequence: Seq(1),
    };
    stream.send(&request.encode())?;
    let mut came = Vec::new();
    loop {
        if let Step::Packet { frame, rest } = step(&came) {
            let answer = |frame: Frame<'_>| match frame.parse() {
                Ok(Soup::LoginAccepted { session: found, next }) if found == session => Some(next),
                _ => None,
            };
            let next = answer(frame).ok_or(RunError::BadStream("no answer to the login, or another session"))?;
            return Ok((next, rest.to_vec()));
        }
        if !stream.receive(|bytes, _, _| came.extend_from_slice(bytes))? {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
    }
}

/// Receives until the end of the session. The calling thread is the one that receives.
pub(super) fn run(
    pipeline: &mut Feed,
    session: Session,
    config: &RunConfig,
    schedule: Schedule,
    shared: &Shared<'_>,
) -> Result<Ended, RunError> {
    let server = shared.server().ok_or(RunError::Stopped)?;
    let mut stream = LegacyStream::connect(server, Some(config.rcvbuf_bytes), super::latency::PATIENCE)?;
    let (mut next, mut bytes) = login(&mut stream, session)?;
    stream.set_timeout(LONGEST_WAIT)?;
    let receive = |hand_off: &HandOff| {
        while !hand_off.has_room() && !shared.is_stopped() {
            thread::sleep(NO_ROOM);
        }
        stream.heartbeat()?;
        stream.receive(|bytes, ts_recv, ts_source| {
            hand_off.push(Packet { payload: bytes.into(), ts_recv, ts_source, seen: ts_recv });
        })
    };
    let strategy = |pipeline: &mut Feed, hand_off: &HandOff| {
        while !shared.is_stopped() {
            let Some(packet) = hand_off.pop() else { continue };
            bytes.extend_from_slice(&packet.payload);
            let whole = whole(&bytes)?;
            let messages = Messages(bytes.get(..whole.len).unwrap_or_default());
            pipeline.streamed(messages, next.0, packet.ts_recv, packet.ts_source);
            next.0 += whole.messages;
            bytes.drain(..whole.len);
            if whole.has_ended {
                return Ok(());
            }
        }
        Ok(())
    };
    two_threads(pipeline, config, schedule, shared, receive, strategy)?;
    let report = vec![format!(
        "SoupBinTCP: blocking recvmsg, times by the kernel, handed to the strategy's thread by mutex and condition variable; \
         receive buffer of {} bytes asked for; {}",
        config.rcvbuf_bytes,
        strategy_core(config)
    )];
    Ok(Ended { report, refused: 0, stolen: None })
}
