//! A client's side of it, as careful as one should be.

use super::*;
use barewire_wire::glimpse50::Message;
use barewire_wire::soupbintcp::{CLIENT_HEARTBEAT, LOGOUT_REQUEST, debug, padded};
use proptest::prelude::*;

const SESSION: Session = Session(*b"SIM0000001");

/// A snapshot of so many messages of 1 to 50 bytes.
fn snapshot(count: u64) -> Arc<BookSnapshot> {
    let mut snapshot = BookSnapshot { count, next: 1_000 + count, ..BookSnapshot::default() };
    for index in 0..count {
        let message = vec![b'A'; 1 + index as usize % 50];
        snapshot.messages.extend_from_slice(&(message.len() as u16).to_be_bytes());
        snapshot.messages.extend_from_slice(&message);
    }
    Arc::new(snapshot)
}

fn login(username: &str, password: &str, session: Session, sequence: u64) -> Vec<u8> {
    let (username, password) = (padded(username).unwrap(), padded(password).unwrap());
    LoginRequest { username, password, session, sequence: Seq(sequence) }.encode().to_vec()
}

fn anybody() -> Vec<u8> {
    login("ANY", "BODY", CURRENT_SESSION, 1)
}

/// Takes up to `most` bytes of what is to be written.
fn read(connection: &mut Connection, most: usize, now_ns: u64, to: &mut Vec<u8>) -> usize {
    let len = connection.output().len().min(most);
    to.extend_from_slice(&connection.output()[..len]);
    connection.wrote(len, now_ns);
    len
}

/// Everything that a client gets who says nothing more.
fn read_all(connection: &mut Connection, now_ns: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while connection.outcome().is_none() {
        connection.poll(now_ns);
        if read(connection, usize::MAX, now_ns, &mut all) == 0 {
            break;
        }
    }
    all
}

/// A whole snapshot as a careful client takes it: the session, the messages' bytes, each behind its length, and the
/// number; or why there is none.
fn understand(stream: &[u8]) -> Result<(Session, Vec<u8>, u64), &'static str> {
    let (mut rest, mut session, mut messages) = (stream, None, Vec::new());
    loop {
        let frame = match step(rest) {
            Step::Packet { frame, rest: behind } => {
                rest = behind;
                frame
            }
            Step::NeedMore => return Err("cut off"),
            Step::Broken => return Err("broken"),
        };
        match frame.parse().map_err(|_| "no packet")? {
            Packet::LoginAccepted { session: of, next: Seq(1) } if session.is_none() => session = Some(of),
            Packet::LoginRejected(_) => return Err("rejected"),
            Packet::ServerHeartbeat => {}
            Packet::EndOfSession => return Err("ended early"),
            Packet::Sequenced(message) => match Message::parse(message).map_err(|_| "no message")? {
                Message::Itch(message) => {
                    messages.extend_from_slice(&(message.len() as u16).to_be_bytes());
                    messages.extend_from_slice(message);
                }
                Message::End(next) => {
                    assert_eq!(rest, END_OF_SESSION);
                    return Ok((session.ok_or("no login")?, messages, next.0));
                }
            },
            _ => return Err("out of place"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes are cut and whatever else a client says, it gets the snapshot, once.
    #[test]
    fn a_client_gets_its_snapshot(
        count in 0_u64..6_000,
        cuts in prop::collection::vec(1_usize..40, 1..60),
        takes in prop::collection::vec(1_usize..100_000, 1..60),
        text in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut talk = vec![0; 3 + text.len()];
        debug(&mut talk, &text).unwrap();
        talk.extend(anybody());
        let (snapshot, mut now) = (snapshot(count), 5);
        let mut connection = Connection::new(Fault::None, None, 0, now);
        let mut rest = talk.as_slice();
        for cut in cuts.iter().cycle() {
            prop_assert!(connection.output().is_empty() && !connection.wants_snapshot());
            let (part, behind) = rest.split_at((*cut).min(rest.len()));
            connection.receive(part, now);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(connection.wants_snapshot());
        connection.give(Some((SESSION, &snapshot)), now);
        let mut stream = Vec::new();
        for take in takes.iter().cycle() {
            now += 500_000_000;
            connection.receive(&CLIENT_HEARTBEAT, now);
            connection.poll(now);
            prop_assert!(connection.output().len() <= PART + 64);
            read(&mut connection, *take, now, &mut stream);
            if connection.outcome().is_some() {
                break;
            }
        }
        prop_assert_eq!(connection.outcome(), Some(Outcome::Served));
        prop_assert_eq!(connection.messages(), count);
        let (session, messages, next) = understand(&stream).unwrap();
        prop_assert!((session, next) == (SESSION, snapshot.next) && messages == snapshot.messages);
    }

    /// Nothing that a client says costs more than its connection.
    #[test]
    fn nonsense_ends_the_connection_at_most(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), 0..40)) {
        let mut connection = Connection::new(Fault::None, None, 0, 0);
        for part in parts {
            connection.receive(&part, 0);
            connection.poll(0);
            prop_assert!(connection.input.len() < 1 << 17 && connection.output().len() < 64);
            prop_assert!(matches!(connection.outcome(), None | Some(Outcome::Malformed | Outcome::Left)));
        }
    }
}

#[test]
fn only_the_account_gets_in() {
    let (username, password) = (padded("BOOKS").unwrap(), padded("Secret").unwrap());
    let other = Session(*b"OTHER     ");
    let cases = [
        (login("books", "SECRET", CURRENT_SESSION, 1), true),
        (login("BOOKS", "Secret", SESSION, 0), true),
        (login("BOOKS", "Secret ", SESSION, 0), true),
        (login("BOOKS", "secre", CURRENT_SESSION, 1), false),
        (login("BOOK", "Secret", CURRENT_SESSION, 1), false),
        (login("BOOKS", "Secret", other, 1), false),
        (login("BOOKS", "Secret", CURRENT_SESSION, 2), false),
    ];
    for (request, gets_in) in cases {
        let mut connection = Connection::new(Fault::None, Some(Account { username, password }), 0, 0);
        connection.receive(&request, 0);
        connection.give(Some((SESSION, &snapshot(1))), 0);
        let understood = understand(&read_all(&mut connection, 0));
        assert_eq!(understood.is_ok(), gets_in, "{}", request.escape_ascii());
        let outcome = if gets_in { Outcome::Served } else { Outcome::Rejected };
        assert_eq!(connection.outcome(), Some(outcome));
    }
    let mut connection = Connection::new(Fault::None, None, 0, 0);
    connection.receive(&anybody(), 0);
    connection.give(None, 0);
    assert_eq!(understand(&read_all(&mut connection, 0)), Err("rejected"), "there is no snapshot");
}

#[test]
fn who_is_silent_or_does_not_read_is_given_up() {
    let seconds = |count: u64| count * SECOND_NS;
    // Nothing at all; then a login and nothing more, before a mute server.
    let mut silent = Connection::new(Fault::None, None, 0, 0);
    let mut mute = Connection::new(Fault::Silent, None, 0, 0);
    mute.receive(&anybody(), seconds(1));
    // Reads nothing, but lives.
    let mut stuck = Connection::new(Fault::None, None, 0, 0);
    stuck.receive(&anybody(), 0);
    stuck.give(Some((SESSION, &snapshot(100_000))), 0);
    for second in 0..40 {
        stuck.receive(&CLIENT_HEARTBEAT, seconds(second));
        [&mut silent, &mut mute, &mut stuck].into_iter().for_each(|connection| connection.poll(seconds(second)));
        assert!(stuck.output().len() <= PART + 64);
        assert_eq!(silent.outcome().is_some(), second >= 15);
        assert_eq!(mute.outcome().is_some(), second >= 16);
        assert_eq!(stuck.outcome().is_some(), second >= 15, "{second}");
    }
    assert_eq!([silent, mute, stuck].map(|connection| connection.outcome()), [Some(Outcome::TimedOut); 3]);
    let mut leaves = Connection::new(Fault::None, None, 0, 0);
    leaves.receive(&[anybody(), LOGOUT_REQUEST.to_vec()].concat(), 0);
    assert_eq!(leaves.outcome(), Some(Outcome::Left));
}

#[test]
fn a_slow_server_sends_heartbeats_until_it_is_ready() {
    let mut connection = Connection::new(Fault::Slow { delay_ns: 5 * SECOND_NS / 2 }, None, 0, 0);
    connection.receive(&anybody(), 0);
    connection.give(Some((SESSION, &snapshot(10))), 0);
    let mut stream = Vec::new();
    let mut lens = Vec::new();
    for tenth in 0..30 {
        let now = tenth * SECOND_NS / 10;
        connection.poll(now);
        let len = read(&mut connection, usize::MAX, now, &mut stream);
        if len > 0 {
            lens.push((tenth, len));
        }
    }
    let Ok((_, messages, 1_010)) = understand(&stream) else { panic!("{lens:?}") };
    let sequenced = messages.len() + 10 + 3 + 21 + 3;
    assert_eq!(lens, [(0, 33), (10, 3), (20, 3), (25, sequenced)]);
}

/// A client that looks closely takes nothing from a server that is partial or wrong.
#[test]
fn faults_show() {
    let snapshot = snapshot(5_000);
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..70 {
        for fault in [Fault::Partial, Fault::Wrong] {
            let mut connection = Connection::new(fault, None, number, 0);
            connection.receive(&anybody(), 0);
            connection.give(Some((SESSION, &snapshot)), 0);
            let stream = read_all(&mut connection, 0);
            assert!(connection.outcome().is_some() && !stream.is_empty());
            let verdict = match understand(&stream) {
                Ok((session, messages, _)) if session != SESSION => {
                    assert!(messages.is_empty());
                    "another session"
                }
                Ok((_, _, next)) => {
                    assert!(next > 1 << 40);
                    "a number out of reach"
                }
                Err(why) => why,
            };
            assert!(fault == Fault::Wrong || verdict == "cut off");
            seen.insert(verdict);
        }
    }
    for verdict in
        ["cut off", "broken", "rejected", "ended early", "no message", "another session", "a number out of reach"]
    {
        assert!(seen.contains(verdict), "{verdict}");
    }
}
