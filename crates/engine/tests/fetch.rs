//! Fetching snapshots: the client against a slow reading of the same packets, however they are cut; and the thread against
//! servers on loopback, good and bad.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use barewire_engine::recovery::glimpse::{GlimpseClient, GlimpseOptions};
use barewire_engine::recovery::{
    FetchError, LiveServices, NoServices, RecoveryConfig, RerequestConfig, Services, ServicesError, Snapshot,
    SnapshotConfig,
};
use barewire_io::Waker;
use barewire_io::stream::{Stream, wait};
use barewire_types::Seq;
use barewire_wire::glimpse50::end_of_snapshot;
use barewire_wire::itch50::{self, MAX_LEN};
use barewire_wire::soupbintcp::{self as soup, CLIENT_HEARTBEAT, LoginRequest, Packet, Session};
use proptest::collection::vec;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
/// Longer than anything takes over `lo`, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(10);
const SESSION: Session = Session(*b"    000001");

fn config(servers: Vec<SocketAddrV4>) -> SnapshotConfig {
    SnapshotConfig {
        servers,
        username: "user".to_owned(),
        password: "secret".to_owned(),
        timeout_ns: 60 * SECOND,
        attempts: 1,
        retry_ns: 0,
        max_bytes: 1 << 20,
        last_included: false,
    }
}

/// A message of this type with the length that its type has; of no known type: 5 bytes.
fn itch(type_code: u8) -> Vec<u8> {
    let mut message = vec![7; itch50::spec(type_code).map_or(5, |spec| spec.len)];
    message[0] = type_code;
    message
}

fn sequenced(message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; soup::HEADER_LEN + message.len()];
    soup::sequenced(&mut packet, message).expect("room");
    packet
}

fn accepted() -> Vec<u8> {
    soup::login_accepted(SESSION, Seq(1)).to_vec()
}

fn end(sequence: u64) -> Vec<u8> {
    sequenced(&end_of_snapshot(Seq(sequence)))
}

/// A client that is connected at time 0 and has sent its login.
fn client(config: &SnapshotConfig) -> GlimpseClient {
    let mut client = GlimpseClient::new(GlimpseOptions::new(config).expect("a right account"), 0);
    assert_eq!((client.closed(), client.pending()), (FetchError::Connect, &b""[..]));
    client.connected(0);
    assert_eq!(client.closed(), FetchError::Closed);
    let login = LoginRequest {
        username: *b"user  ",
        password: *b"secret    ",
        session: soup::CURRENT_SESSION,
        sequence: Seq(1),
    };
    assert_eq!(client.pending(), login.encode());
    client.sent(9);
    assert_eq!(client.pending(), &login.encode()[9..]);
    client.sent(usize::MAX);
    assert_eq!(client.pending(), b"");
    client
}

/// Feeds bytes in pieces of these lengths, by turns, until there is a result.
fn feed(client: &mut GlimpseClient, stream: &[u8], cuts: &[usize]) -> Option<Result<Snapshot, FetchError>> {
    let mut rest = stream;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            return None;
        }
        let space = client.space();
        let (now, later) = rest.split_at(rest.len().min(*cut).min(space.len()));
        space[..now.len()].copy_from_slice(now);
        rest = later;
        let ended = client.received(now.len(), 0);
        if ended.is_some() {
            return ended;
        }
    }
    unreachable!("there is a cut")
}

/// What a server may say.
#[derive(Clone, Debug)]
enum Say {
    Accept(u64),
    Reject,
    Itch(u8),
    BadLength(u8),
    Empty,
    End(u64),
    BadEnd,
    Debug(Vec<u8>),
    Unsequenced(Vec<u8>),
    Heartbeat,
    EndOfSession,
    /// A client's packet, or nobody's.
    Stray(u8),
    /// A packet of length 0.
    Broken,
}

fn say() -> impl Strategy<Value = Say> {
    let text = || vec(any::<u8>(), 0..300);
    prop_oneof![
        30 => proptest::sample::select(&b"SRHYNhAFAFAFz"[..]).prop_map(Say::Itch),
        4 => text().prop_map(Say::Debug),
        4 => text().prop_map(Say::Unsequenced),
        4 => Just(Say::Heartbeat),
        2 => prop_oneof![Just(u64::MAX), 0..3u64, any::<u64>()].prop_map(Say::End),
        1 => (0..3u64).prop_map(Say::Accept),
        1 => Just(Say::Reject),
        1 => proptest::sample::select(&b"SRAF"[..]).prop_map(Say::BadLength),
        1 => Just(Say::Empty),
        1 => Just(Say::BadEnd),
        1 => Just(Say::EndOfSession),
        1 => proptest::sample::select(&b"RO?\0"[..]).prop_map(Say::Stray),
        1 => Just(Say::Broken),
    ]
}

fn encode(say: &Say) -> Vec<u8> {
    let framed = |encode: fn(&mut [u8], &[u8]) -> Option<usize>, payload: &[u8]| {
        let mut packet = vec![0; soup::HEADER_LEN + payload.len()];
        encode(&mut packet, payload).expect("room");
        packet
    };
    match say {
        Say::Accept(next) => soup::login_accepted(SESSION, Seq(*next)).to_vec(),
        Say::Reject => soup::login_rejected(soup::NOT_AUTHORIZED).to_vec(),
        Say::Itch(code) => sequenced(&itch(*code)),
        Say::BadLength(code) => sequenced(&itch(*code)[1..].iter().fold(vec![*code], |mut message, byte| {
            message.extend([*byte, *byte]);
            message
        })),
        Say::Empty => sequenced(b""),
        Say::End(sequence) => end(*sequence),
        Say::BadEnd => sequenced(b"G                nine"),
        Say::Debug(text) => framed(soup::debug, text),
        Say::Unsequenced(message) => framed(soup::unsequenced, message),
        Say::Heartbeat => soup::SERVER_HEARTBEAT.to_vec(),
        Say::EndOfSession => soup::END_OF_SESSION.to_vec(),
        Say::Stray(code) => vec![0, 1, *code],
        Say::Broken => vec![0, 0],
    }
}

/// What comes of it, from the documents alone.
fn expected(said: &[Say], max_bytes: usize, last_included: bool) -> Option<Result<Snapshot, FetchError>> {
    let (mut logged_in, mut messages) = (false, Vec::new());
    for say in said {
        let error = match (say, logged_in) {
            (Say::Debug(_) | Say::Heartbeat, _) | (Say::Unsequenced(_), true) => continue,
            (Say::Accept(0 | 1), false) => {
                logged_in = true;
                continue;
            }
            (Say::Itch(code), true) => {
                messages.push(itch(*code));
                let bytes: usize = messages.iter().map(|message| 2 + message.len()).sum();
                if bytes <= max_bytes {
                    continue;
                }
                FetchError::TooLong
            }
            (Say::End(stated), true) => match (*stated, last_included) {
                (0, false) | (u64::MAX, true) => FetchError::Malformed,
                (stated, _) => {
                    let block = |message: &Vec<u8>| [&[0, message.len() as u8], &message[..]].concat();
                    return Some(Ok(Snapshot {
                        count: messages.len() as u64,
                        messages: messages.iter().flat_map(block).collect(),
                        next: Seq(stated + u64::from(last_included)),
                    }));
                }
            },
            (Say::Reject, false) => FetchError::Rejected,
            (Say::EndOfSession, _) => FetchError::Ended,
            _ => FetchError::Malformed,
        };
        return Some(Err(error));
    }
    None
}

proptest! {
    /// Whatever a server says, and however it comes in pieces.
    #[test]
    fn what_comes_of_it(
        said in vec(say(), 0..60),
        accept in prop::bool::weighted(0.9),
        cuts in vec(prop_oneof![1..40usize, 1..4_000usize], 1..20),
        max_bytes in prop_oneof![Just(1 << 20), 0..2_000usize],
        last_included in any::<bool>(),
    ) {
        let mut said = said;
        if accept {
            said.insert(0, Say::Accept(1));
        }
        let stream: Vec<u8> = said.iter().flat_map(encode).collect();
        let mut client = client(&SnapshotConfig { max_bytes, last_included, ..config(Vec::new()) });
        let ended = feed(&mut client, &stream, &cuts);
        prop_assert_eq!(ended, expected(&said, max_bytes, last_included));
    }
}

/// The longest packets that there are, back to back: there is always room for one more.
#[test]
fn the_longest_packets_pass() {
    let mut message = vec![0; soup::MAX_PAYLOAD_LEN];
    message[0] = b'?';
    let stream = [accepted(), sequenced(&message).repeat(3), end(9)].concat();
    for cuts in [&[usize::MAX][..], &[70_000, 1]] {
        let mut client = client(&config(Vec::new()));
        let snapshot = feed(&mut client, &stream, cuts).expect("an end").expect("a snapshot");
        assert_eq!((snapshot.count, snapshot.next), (3, Seq(9)));
        let records = barewire_wire::binaryfile::records(&snapshot.messages);
        assert!(records.eq([&message[..]; 3]));
    }
}

#[test]
fn a_client_speaks_every_second_and_bears_neither_silence_nor_slowness() {
    let config = SnapshotConfig { timeout_ns: 60 * SECOND, ..config(Vec::new()) };
    let mut waiting = GlimpseClient::new(GlimpseOptions::new(&config).unwrap(), 0);
    assert_eq!((waiting.next_tick(), waiting.tick(3 * SECOND - 1)), (3 * SECOND, None));
    assert!(waiting.pending().is_empty());
    assert_eq!(waiting.tick(3 * SECOND), Some(FetchError::Connect));

    let mut client = client(&config);
    let mut now = 0;
    // The server says something every second; so do we, unless what was said last could not be sent yet.
    for _ in 1..59 {
        assert_eq!(client.next_tick(), now + SECOND);
        now += SECOND;
        assert_eq!((client.tick(now - 1), client.pending()), (None, &b""[..]));
        assert_eq!((client.tick(now), client.pending()), (None, &CLIENT_HEARTBEAT[..]));
        client.sent(2);
        assert_eq!((client.tick(now + SECOND), client.pending()), (None, &CLIENT_HEARTBEAT[2..]));
        assert!(client.next_tick() > now + SECOND);
        client.sent(1);
        client.space()[..3].copy_from_slice(&soup::SERVER_HEARTBEAT);
        assert_eq!(client.received(3, now), None);
    }
    assert_eq!(client.tick(60 * SECOND - 1), None);
    assert_eq!(client.tick(60 * SECOND), Some(FetchError::Timeout));

    let mut client = self::client(&config);
    assert_eq!(client.tick(3 * SECOND - 1), None);
    client.sent(3);
    assert_eq!(client.tick(3 * SECOND), Some(FetchError::Silent));
    let mut eternal = GlimpseClient::new(GlimpseOptions::new(&config).unwrap(), u64::MAX - 1);
    eternal.connected(u64::MAX - 1);
    assert_eq!((eternal.next_tick(), eternal.tick(u64::MAX - 1)), (u64::MAX, None));
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("bound to an IPv4 address"),
    }
}

/// A server for one client, after its login; it then stays until the client has gone.
fn server(serve: impl FnOnce(&mut TcpStream) + Send + 'static) -> (SocketAddrV4, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = v4(listener.local_addr().expect("bound"));
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut login = [0; soup::LOGIN_REQUEST_LEN];
        stream.read_exact(&mut login).expect("a login");
        let soup::Step::Packet { frame, .. } = soup::step(&login) else { panic!("{login:?}") };
        assert!(matches!(frame.parse(), Ok(Packet::LoginRequest(login)) if login.username == *b"user  "));
        serve(&mut stream);
        // Heartbeats, a farewell, the end; an error where it left while we spoke.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    (address, thread)
}

fn open(snapshot: SnapshotConfig) -> LiveServices {
    let config = RecoveryConfig { rerequest: None, snapshot: Some(snapshot) };
    LiveServices::open(&config, Waker::none()).unwrap_or_else(|error| panic!("{error}"))
}

fn result(services: &mut LiveServices) -> (u64, Result<Snapshot, FetchError>) {
    let begun = Instant::now();
    loop {
        if let Some(result) = services.fetched() {
            assert_eq!(services.fetched(), None, "one result a fetch");
            return result;
        }
        assert!(begun.elapsed() < PATIENCE, "no result");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One fetch from a server of this kind.
fn fetch_from(
    limits: SnapshotConfig,
    serve: impl FnOnce(&mut TcpStream) + Send + 'static,
) -> Result<Snapshot, FetchError> {
    let (address, thread) = server(serve);
    let mut services = open(SnapshotConfig { servers: vec![address], ..limits });
    services.fetch(7, 0);
    let (ticket, result) = result(&mut services);
    assert_eq!(ticket, 7);
    thread.join().expect("the server saw what it expected, and the client go");
    result
}

#[test]
fn a_snapshot_comes_however_it_is_sent() {
    let messages: Vec<Vec<u8>> = (0..5_000).map(|n| itch(b"SRHAF"[n % 5])).collect();
    let stream: Vec<u8> = messages.iter().flat_map(|message| sequenced(message)).collect();
    let stream = [accepted(), stream, end(4_711), sequenced(&itch(b'A'))].concat();
    let sent = stream.clone();
    let all_at_once = fetch_from(config(Vec::new()), move |to| to.write_all(&sent).expect("room")).expect("a snapshot");
    let in_pieces = fetch_from(config(Vec::new()), move |to| {
        to.set_nodelay(true).expect("an option");
        for (n, piece) in stream.chunks(997).enumerate() {
            // What is behind the end may find nobody.
            let _ = to.write_all(piece);
            if n % 50 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    assert_eq!(in_pieces, Ok(all_at_once.clone()));
    assert_eq!((all_at_once.count, all_at_once.next), (5_000, Seq(4_711)));
    assert!(barewire_wire::binaryfile::records(&all_at_once.messages).eq(messages));
}

#[test]
fn bad_servers_end_in_clear_errors() {
    let fails = |serve: fn(&mut TcpStream)| fetch_from(config(Vec::new()), serve).expect_err("a bad server");
    fn send(to: &mut TcpStream, bytes: &[u8]) {
        to.write_all(bytes).expect("room");
    }
    assert_eq!(fails(|to| send(to, &soup::login_rejected(b'A'))), FetchError::Rejected);
    assert_eq!(fails(|to| to.shutdown(std::net::Shutdown::Both).expect("connected")), FetchError::Closed);
    let cut_off = |to: &mut TcpStream| {
        to.write_all(&[accepted(), sequenced(&itch(b'A'))[..9].to_vec()].concat()).expect("room");
        to.shutdown(std::net::Shutdown::Write).expect("connected");
    };
    assert_eq!(fails(cut_off), FetchError::Closed);
    assert_eq!(fails(|to| send(to, &[accepted(), vec![0, 1, b'Z']].concat())), FetchError::Ended);
    assert_eq!(fails(|to| send(to, &[accepted(), vec![0, 0]].concat())), FetchError::Malformed);
    // It waits for the 18,516 bytes that `HT` declares, and they do not come.
    let short = SnapshotConfig { timeout_ns: SECOND / 20, ..config(Vec::new()) };
    let garbage = fetch_from(short.clone(), |to| send(to, b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    assert_eq!(garbage, Err(FetchError::Timeout));
    assert_eq!(fetch_from(short.clone(), |_| ()), Err(FetchError::Timeout));
    // A server that never stops, and never says anything.
    let busy = fetch_from(short, |to| while to.write_all(&soup::SERVER_HEARTBEAT.repeat(1_000)).is_ok() {});
    assert_eq!(busy, Err(FetchError::Timeout));
    let endless = fetch_from(config(Vec::new()), |to| {
        let _ = to.write_all(&accepted());
        while to.write_all(&sequenced(&itch(b'A')).repeat(100)).is_ok() {}
    });
    assert_eq!(endless, Err(FetchError::TooLong));
    assert_eq!(fails(|to| send(to, &[accepted(), end(0)].concat())), FetchError::Malformed);

    let gone = v4(TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port"));
    let mut services = open(config(vec![gone]));
    for (ticket, server) in [(1, 0), (2, 1)] {
        services.fetch(ticket, server);
        assert_eq!(result(&mut services), (ticket, Err(FetchError::Connect)));
    }
}

/// The first server says nothing more; the second is asked instead. Only its result comes, and what it sent can be given
/// back.
#[test]
fn a_fetch_gives_way_to_the_next() {
    let (silent, first) = server(|to| to.write_all(&accepted()).expect("room"));
    let (good, second) = server(|to| to.write_all(&[accepted(), end(5)].concat()).expect("room"));
    let mut services = open(config(vec![silent, good]));
    assert_eq!(services.fetched(), None);
    services.fetch(1, 0);
    std::thread::sleep(Duration::from_millis(20));
    services.fetch(2, 1);
    let (ticket, snapshot) = result(&mut services);
    let snapshot = snapshot.expect("a snapshot");
    assert_eq!((ticket, snapshot.next), (2, Seq(5)));
    services.give_back(snapshot);
    first.join().expect("the first server saw its client go");
    second.join().expect("the second too");
    drop(services);

    let mut none = LiveServices::open(&RecoveryConfig::default(), Waker::none()).expect("nothing to open");
    none.fetch(1, 0);
    none.request(0, b"");
    none.give_back(Snapshot::default());
    assert!(none.fetched().is_none() && none.replies().is_none() && NoServices.fetched().is_none());
}

/// Stopping ends a fetch long before the server's silence would (3 s): in mid-snapshot and in mid-connect.
#[test]
fn stopping_does_not_wait_for_servers() {
    let before_silence = Duration::from_secs(3 * soup::HEARTBEAT_SECONDS - 1);
    let (address, thread) = server(|to| to.write_all(&[accepted(), sequenced(&itch(b'A'))].concat()).expect("room"));
    let mut services = open(config(vec![address]));
    services.fetch(1, 0);
    std::thread::sleep(Duration::from_millis(20));
    let begun = Instant::now();
    drop(services);
    assert!(begun.elapsed() < before_silence);
    thread.join().expect("the server saw its client go");

    // Nobody accepts, and there is no room to wait for it: a further connection stays half made.
    let full = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = v4(full.local_addr().expect("bound"));
    let waker = Waker::new().expect("a descriptor");
    let interest = barewire_io::stream::Interest { read: false, write: true };
    let mut waiting = Vec::new();
    loop {
        waiting.push(Stream::connect(address).expect("begun"));
        let last = waiting.last().map(|stream| (stream, interest));
        if !wait(last, &waker, Some(Duration::from_millis(20))).expect("a wait").write {
            break;
        }
        assert!(waiting.len() < 10_000, "there is always room");
    }
    let mut services = open(config(vec![address]));
    services.fetch(1, 0);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(services.fetched(), None);
    let begun = Instant::now();
    drop(services);
    assert!(begun.elapsed() < before_silence);
}

#[test]
fn requests_leave_and_replies_come_back() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    server.set_read_timeout(Some(PATIENCE)).expect("an option");
    let rerequest = RerequestConfig {
        servers: vec![v4(server.local_addr().expect("bound"))],
        local: Some(Ipv4Addr::LOCALHOST),
        max_messages: 1_000,
        per_second: 100,
        timeout_ns: SECOND,
        attempts: 3,
        give_up_ns: SECOND,
        max_gap: 10_000,
    };
    let config = RecoveryConfig { rerequest: Some(rerequest.clone()), snapshot: None };
    let mut services = LiveServices::open(&config, Waker::none()).expect("a socket");
    services.request(0, b"these, please");
    services.request(9, b"nobody");
    let mut bytes = [0; 64];
    let (len, asker) = server.recv_from(&mut bytes).expect("a request");
    assert_eq!(bytes[..len], *b"these, please");
    server.send_to(b"here", asker).expect("sent");
    let begun = Instant::now();
    let mut replies = 0;
    while replies == 0 {
        let socket = services.replies().expect("a socket");
        replies = socket.receive(&mut |packet| assert_eq!(packet.payload, b"here")).expect("sound");
        assert!(begun.elapsed() < PATIENCE);
    }
    let counters = services.counters();
    assert_eq!((counters.sent, counters.send_errors, counters.packets), (1, 1, 1));

    let nobody = RerequestConfig { servers: Vec::new(), ..rerequest };
    let config = RecoveryConfig { rerequest: Some(nobody), snapshot: None };
    assert!(matches!(LiveServices::open(&config, Waker::none()), Err(ServicesError::Open(_))));
}

#[test]
fn settings_that_no_login_can_carry_are_refused() {
    let here = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    for (snapshot, name) in [
        (config(Vec::new()), "snapshot servers"),
        (SnapshotConfig { username: "sevenup".to_owned(), ..config(vec![here]) }, "snapshot account"),
        (SnapshotConfig { password: "p\u{e4}ss".to_owned(), ..config(vec![here]) }, "snapshot account"),
    ] {
        assert!(!format!("{snapshot:?}").contains(&snapshot.password), "a password is not for logs");
        let config = RecoveryConfig { rerequest: None, snapshot: Some(snapshot) };
        let Err(error) = LiveServices::open(&config, Waker::none()) else { panic!("{name} taken") };
        assert!(error.to_string().starts_with(name), "{error}");
    }
    assert!(FetchError::ALL.iter().all(|error| !error.name().is_empty() && !error.to_string().is_empty()));
    assert!(MAX_LEN <= usize::from(u8::MAX), "the reference writes lengths in one byte");
}
