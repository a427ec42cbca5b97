//! One client of a GLIMPSE server, without the connection: what comes from it and the time go in, bytes for it come out.
//!
//! "SoupBinTCP", Nasdaq, version 3.00; "Nasdaq GLIMPSE 5.0". The client logs in, for the current session and for sequence
//! number 1; it gets the snapshot as sequenced messages, the end-of-snapshot message, and the end of the session. While it
//! waits, both sides send heartbeats. Who is silent for too long, or does not read, is given up.
//!
//! Nothing here grows with what a client does or does not do: of a snapshot, which is shared, so much is turned into
//! packets at a time as one write takes.

use std::sync::Arc;

use barewire_types::Seq;
use barewire_wire::glimpse50::end_of_snapshot;
use barewire_wire::moldudp64::BLOCK_HEADER_LEN;
use barewire_wire::soupbintcp::{
    CURRENT_SESSION, END_OF_SESSION, HEARTBEAT_SECONDS, LoginRequest, NOT_AUTHORIZED, Packet, SERVER_HEARTBEAT,
    SESSION_NOT_AVAILABLE, SILENCE_SECONDS, Session, Step, login_accepted, login_rejected, sequenced_header, step,
};

use super::Fault;
use super::mirror::BookSnapshot;
use super::store::blocks;
use crate::exchange::Random;

const SECOND_NS: u64 = 1_000_000_000;
const HEARTBEAT_NS: u64 = HEARTBEAT_SECONDS * SECOND_NS;
const SILENCE_NS: u64 = SILENCE_SECONDS * SECOND_NS;

/// Bytes that are turned into packets at a time, and a packet more.
const PART: usize = 64 << 10;

/// Username and password as they are on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) username: [u8; 6],
    pub(super) password: [u8; 10],
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything was sent that the server's fault allows.
    Served,
    /// The login was not taken.
    Rejected,
    /// The client sent what it may not.
    Malformed,
    /// The client was silent, or did not read.
    TimedOut,
    /// The client went.
    Left,
}

/// What a connection is in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Serve {
        delay_ns: u64,
    },
    /// The snapshot ends within a packet.
    BreakOff,
    /// The login is never answered.
    Mute,
    Reject,
    /// Bytes without any sense.
    Garbage,
    /// A packet of length 0, in mid-snapshot.
    BrokenFrame,
    /// The session's end, in mid-snapshot.
    EndEarly,
    /// The snapshot's number is none.
    NoNumber,
    /// The snapshot's number is one that the session will never reach.
    FarNumber,
    /// An empty snapshot of another session.
    OtherSession,
}

/// What a wrong server does, by turns.
const WRONG: [Act; 7] =
    [Act::Reject, Act::Garbage, Act::OtherSession, Act::BrokenFrame, Act::EndEarly, Act::NoNumber, Act::FarNumber];

/// A client and how far it is.
#[derive(Debug)]
pub(super) struct Connection {
    act: Act,
    account: Option<Account>,
    random: Random,
    state: State,
    /// What has come and is no whole packet yet.
    input: Vec<u8>,
    /// What is to be written, from `written` on.
    output: Vec<u8>,
    written: usize,
    /// When something last came, and when something last went or began to wait.
    heard_ns: u64,
    sent_ns: u64,
    messages: u64,
}

#[derive(Debug)]
enum State {
    /// The login has not come.
    New,
    /// It has, and a snapshot is wanted, of this session.
    Wanting(Session),
    /// It has, and there will be no answer.
    Mute,
    Sending(Sending),
    Over(Outcome),
}

#[derive(Debug)]
struct Sending {
    snapshot: Arc<BookSnapshot>,
    /// What of its messages' bytes has been turned into packets, and where that stops.
    at: usize,
    end: usize,
    not_before_ns: u64,
    /// What comes behind the messages.
    ending: Vec<u8>,
}

impl Connection {
    /// A connection that was made now, the so-manieth of its server. Times are of any clock that does not go back, ns.
    pub(super) fn new(fault: Fault, account: Option<Account>, number: u64, now_ns: u64) -> Connection {
        let act = match fault {
            Fault::None | Fault::Slow { .. } => Act::Serve { delay_ns: fault.delay_ns() },
            Fault::Partial => Act::BreakOff,
            Fault::Silent => Act::Mute,
            Fault::Wrong => WRONG.get((number % WRONG.len() as u64) as usize).copied().unwrap_or(Act::Mute),
        };
        Connection {
            act,
            account,
            random: Random::new(number),
            state: State::New,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            heard_ns: now_ns,
            sent_ns: now_ns,
            messages: 0,
        }
    }

    /// Takes what came from the client.
    pub(super) fn receive(&mut self, bytes: &[u8], now_ns: u64) {
        self.heard_ns = now_ns;
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while !matches!(self.state, State::Over(_)) {
            match step(rest) {
                Step::Packet { frame, rest: behind } => {
                    rest = behind;
                    match frame.parse() {
                        Ok(packet) => self.packet(&packet, now_ns),
                        Err(_) => self.end(Outcome::Malformed),
                    }
                }
                Step::NeedMore => {
                    self.input.extend_from_slice(rest);
                    return;
                }
                Step::Broken => self.end(Outcome::Malformed),
            }
        }
    }

    fn packet(&mut self, packet: &Packet<'_>, now_ns: u64) {
        match (packet, &self.state) {
            (Packet::Debug(_), _) => {}
            (Packet::LoginRequest(login), State::New) => self.login(login, now_ns),
            (Packet::LogoutRequest, _) => self.end(Outcome::Left),
            (_, State::New) => self.end(Outcome::Malformed),
            (Packet::ClientHeartbeat | Packet::Unsequenced(_), _) => {}
            _ => self.end(Outcome::Malformed),
        }
    }

    fn login(&mut self, login: &LoginRequest, now_ns: u64) {
        let is_account = self.account.is_none_or(|account| {
            account.username.eq_ignore_ascii_case(&login.username)
                && account.password.eq_ignore_ascii_case(&login.password)
        });
        if self.act == Act::Mute {
            self.state = State::Mute;
        } else if !is_account || self.act == Act::Reject {
            self.reject(NOT_AUTHORIZED, now_ns);
        } else if login.sequence.0 > 1 {
            // There is nothing to resume: the next snapshot is another one.
            self.reject(SESSION_NOT_AVAILABLE, now_ns);
        } else {
            self.state = State::Wanting(login.session);
        }
    }

    fn reject(&mut self, reason: u8, now_ns: u64) {
        self.push(&login_rejected(reason), now_ns);
        self.state = State::Over(Outcome::Rejected);
    }

    /// Whether it waits to be given a snapshot.
    pub(super) fn wants_snapshot(&self) -> bool {
        matches!(self.state, State::Wanting(_))
    }

    /// Gives it the snapshot that it wants, of this session; `None` where there is none to be had.
    pub(super) fn give(&mut self, snapshot: Option<(Session, &Arc<BookSnapshot>)>, now_ns: u64) {
        let State::Wanting(wanted) = self.state else { return };
        let is_wanted =
            |session: &Session| wanted == CURRENT_SESSION || wanted.0.trim_ascii() == session.0.trim_ascii();
        match snapshot.filter(|(session, _)| is_wanted(session)) {
            Some((session, snapshot)) => self.accept(session, snapshot, now_ns),
            None => self.reject(SESSION_NOT_AVAILABLE, now_ns),
        }
    }

    fn accept(&mut self, session: Session, snapshot: &Arc<BookSnapshot>, now_ns: u64) {
        let (all, next) = (snapshot.messages.len(), snapshot.next);
        let some = self.random.below(u32::try_from(all).unwrap_or(u32::MAX)) as usize;
        let (mut session, mut not_before_ns) = (session, now_ns);
        let (end, ending) = match self.act {
            Act::Serve { delay_ns } => {
                not_before_ns = now_ns.saturating_add(delay_ns);
                (all, last(&end_of_snapshot(Seq(next))))
            }
            // The beginning of an order.
            Act::BreakOff => (some, vec![0, 37, b'S', b'A', 0]),
            Act::Garbage => (0, (0..some.min(999) + 1).map(|_| self.random.below(256) as u8).collect()),
            Act::BrokenFrame => (some, [&[0, 0], &SERVER_HEARTBEAT[..]].concat()),
            Act::EndEarly => (some, END_OF_SESSION.to_vec()),
            Act::NoNumber => {
                let mut message = end_of_snapshot(Seq(next));
                if let Some(last) = message.last_mut() {
                    *last = b'?';
                }
                (all, last(&message))
            }
            Act::FarNumber => (all, last(&end_of_snapshot(Seq(next.saturating_add(1 << 40))))),
            Act::OtherSession => {
                session = Session(session.0.map(|byte| byte ^ 1));
                (0, last(&end_of_snapshot(Seq(1))))
            }
            Act::Mute | Act::Reject => (0, Vec::new()),
        };
        self.push(&login_accepted(session, Seq(1)), now_ns);
        self.state = State::Sending(Sending { snapshot: Arc::clone(snapshot), at: 0, end, not_before_ns, ending });
    }

    /// The client has closed the connection, or it has failed.
    pub(super) fn hang_up(&mut self) {
        self.end(Outcome::Left);
    }

    /// Ends it at once. If all that was to be sent has been, it had ended before.
    fn end(&mut self, outcome: Outcome) {
        if self.outcome().is_none() {
            self.state = State::Over(outcome);
            self.output.clear();
            self.written = 0;
        }
    }

    /// Lets the time go on: gives it up, sends a heartbeat, or turns more of the snapshot into packets.
    pub(super) fn poll(&mut self, now_ns: u64) {
        let waits = !self.output().is_empty();
        let since = |then: u64| now_ns.saturating_sub(then);
        if since(self.heard_ns) >= SILENCE_NS || (waits && since(self.sent_ns) >= SILENCE_NS) {
            self.end(Outcome::TimedOut);
            return;
        }
        if waits {
            return;
        }
        let State::Sending(sending) = &mut self.state else { return };
        if now_ns >= sending.not_before_ns {
            let rest = sending.snapshot.messages.get(sending.at..sending.end).unwrap_or_default();
            for message in blocks(rest) {
                // None is too long: a message's length fits where it came from.
                if let Some(header) = sequenced_header(message.len()) {
                    self.output.extend_from_slice(&header);
                    self.output.extend_from_slice(message);
                    self.messages += 1;
                }
                sending.at += BLOCK_HEADER_LEN + message.len();
                if self.output.len() >= PART {
                    self.sent_ns = now_ns;
                    return;
                }
            }
            self.output.append(&mut sending.ending);
            self.sent_ns = now_ns;
            self.state = State::Over(Outcome::Served);
        } else if since(self.sent_ns) >= HEARTBEAT_NS {
            self.push(&SERVER_HEARTBEAT, now_ns);
        }
    }

    fn push(&mut self, packet: &[u8], now_ns: u64) {
        self.output.extend_from_slice(packet);
        self.sent_ns = now_ns;
    }

    /// What is to be written now.
    pub(super) fn output(&self) -> &[u8] {
        self.output.get(self.written..).unwrap_or_default()
    }

    /// So many bytes of that were written.
    pub(super) fn wrote(&mut self, len: usize, now_ns: u64) {
        if len > 0 {
            self.sent_ns = now_ns;
        }
        self.written += len;
        if self.written >= self.output.len() {
            self.output.clear();
            self.written = 0;
        }
    }

    /// How it ended, once it has and everything is written.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Over(outcome) if self.output().is_empty() => Some(outcome),
            _ => None,
        }
    }

    /// Messages of snapshots that were turned into packets.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }
}

/// The packets of a snapshot's last message and of the session's end.
fn last(message: &[u8]) -> Vec<u8> {
    [&sequenced_header(message.len()).unwrap_or_default(), message, &END_OF_SESSION].concat()
}

#[cfg(test)]
mod tests;
