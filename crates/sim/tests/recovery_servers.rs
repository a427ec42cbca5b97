//! The servers on the loopback interface, each with every fault.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use barewire_sim::recovery::{
    Fault, GlimpseConfig, GlimpseCounters, GlimpseServer, Mirror, RerequestServer, Store, StoreSink,
};
use barewire_sim::{Exchange, ExchangeConfig, Line, MAX_MESSAGE_LEN, SimPacket, Sink};
use barewire_types::{Seq, UnixNanos};
use barewire_wire::glimpse50::Message;
use barewire_wire::moldudp64::{Builder, Packet, Request, Session, heartbeat};
use barewire_wire::soupbintcp::{self, CURRENT_SESSION, LOGOUT_REQUEST, LoginRequest, Step, padded, step};

const SESSION: Session = Session(*b"SIM0000001");

fn free() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)
}

/// Messages of a simulated day from its beginning.
fn day(live_orders: u32, count: usize) -> Vec<Vec<u8>> {
    let config = ExchangeConfig { live_orders, ..Default::default() };
    let mut exchange = Exchange::new(config).unwrap();
    let mut buffer = [0; MAX_MESSAGE_LEN];
    std::iter::from_fn(|| exchange.next(&mut buffer).map(<[u8]>::to_vec)).take(count).collect()
}

/// Sends messages as packets, of which the first begins with this number.
fn send(sink: &mut StoreSink, first: u64, messages: &[Vec<u8>]) {
    let mut number = first;
    for part in messages.chunks(30) {
        let mut bytes = [0; 1_600];
        let mut builder = Builder::new(&mut bytes, SESSION, Seq(number));
        for message in part {
            builder.push(message.len()).unwrap().copy_from_slice(message);
        }
        let len = builder.finish();
        let packet = |line, payload| SimPacket { line, time: UnixNanos::ABSENT, payload };
        // What is on the B line is not looked at.
        sink.take(&[packet(Line::A, &bytes[..len]), packet(Line::B, b"no packet")]).unwrap();
        number += part.len() as u64;
    }
}

fn ask(socket: &UdpSocket, server: &RerequestServer, bytes: &[u8]) -> Option<Vec<u8>> {
    socket.send_to(bytes, server.local_addr()).unwrap();
    let mut reply = vec![0; 65_536];
    let len = socket.recv(&mut reply).ok()?;
    reply.truncate(len);
    Some(reply)
}

fn request(sequence: u64, count: u16) -> [u8; 20] {
    Request { session: SESSION, sequence: Seq(sequence), count }.encode()
}

#[test]
fn requests_are_answered_as_the_fault_allows() {
    let messages = day(500, 5_000);
    let store = Arc::new(Store::new(1 << 20));
    send(&mut StoreSink(Arc::clone(&store)), 1, &messages);
    let client = UdpSocket::bind(free()).unwrap();
    let bind = |fault| RerequestServer::bind(free(), Arc::clone(&store), fault, 1_400).unwrap();
    let patience = |ms| client.set_read_timeout(Some(Duration::from_millis(ms))).unwrap();
    let is_true = |reply: &[u8], from: u64| {
        let packet = Packet::parse(reply).unwrap();
        assert!(packet.sequence().0 == from && packet.session() == SESSION && !packet.is_damaged());
        assert!(packet.messages().eq(messages[from as usize - 1..].iter().take(packet.whole().into())));
        u64::from(packet.whole())
    };

    let server = bind(Fault::None);
    patience(5_000);
    let mut next = 1;
    while next <= 5_000 {
        let reply = ask(&client, &server, &request(next, u16::MAX)).expect("a reply");
        assert!(reply.len() <= 1_400 && (next > 4_900 || reply.len() > 1_400 - 52), "as many as fit");
        next += is_true(&reply, next);
    }
    assert_eq!(is_true(&ask(&client, &server, &request(17, 3)).unwrap(), 17), 3);
    // Nothing of this is answered; what follows it is.
    let other = Request { session: CURRENT_SESSION, sequence: Seq(1), count: 1 };
    for silent in [&request(5_001, 1)[..], &request(0, 1), &other.encode(), &heartbeat(SESSION, Seq(3)), b"", &[0; 400]]
    {
        client.send_to(silent, server.local_addr()).unwrap();
    }
    assert_eq!(is_true(&ask(&client, &server, &request(5_000, 1)).unwrap(), 5_000), 1);
    let counted = server.counters();
    assert_eq!((counted.refused, counted.send_errors, counted.dropped), (0, 0, 0));
    let counted = counted.requests;
    assert_eq!((counted.unavailable, counted.other_session, counted.empty, counted.malformed), (2, 1, 1, 2));
    assert_eq!((counted.requests - counted.answered, counted.messages), (6, 5_004));

    let server = bind(Fault::Partial);
    let reply = ask(&client, &server, &request(1, 20)).expect("a reply");
    assert!((1..20).contains(&is_true(&reply, 1)));

    let server = bind(Fault::Slow { delay_ns: 150_000_000 });
    let begin = Instant::now();
    assert_eq!(is_true(&ask(&client, &server, &request(9, 2)).unwrap(), 9), 2);
    assert!(begin.elapsed() >= Duration::from_millis(150));

    let server = bind(Fault::Wrong);
    for _ in 0..20 {
        let reply = ask(&client, &server, &request(100, 20)).expect("a wrong reply");
        let packet = Packet::parse(&reply).ok().filter(|packet| packet.session() == SESSION);
        let whole = packet.filter(|packet| packet.sequence() == Seq(100) && packet.whole() == 20);
        assert!(reply.len() <= 1_400 && whole.is_none());
    }

    let server = bind(Fault::Silent);
    patience(100);
    assert_eq!(ask(&client, &server, &request(1, 1)), None);
    assert_eq!(server.counters().requests.withheld, 1);
}

fn login(server: &GlimpseServer, username: &str, password: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    let (username, password) = (padded(username).unwrap(), padded(password).unwrap());
    let request = LoginRequest { username, password, session: CURRENT_SESSION, sequence: Seq(1) };
    stream.write_all(&request.encode()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Reads until the server hangs up.
fn read(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The snapshot's messages, each behind its length, and its number; `None` where it is not one from beginning to end.
fn understand(stream: &[u8]) -> Option<(Vec<u8>, u64)> {
    let (mut rest, mut is_in, mut messages) = (stream, false, Vec::new());
    while let Step::Packet { frame, rest: behind } = step(rest) {
        rest = behind;
        match frame.parse().ok()? {
            soupbintcp::Packet::LoginAccepted { session: SESSION, next: Seq(1) } if !is_in => is_in = true,
            soupbintcp::Packet::Sequenced(message) if is_in => match Message::parse(message).ok()? {
                Message::Itch(message) => {
                    messages.extend_from_slice(&(message.len() as u16).to_be_bytes());
                    messages.extend_from_slice(message);
                }
                Message::End(next) => return (rest == soupbintcp::END_OF_SESSION).then_some((messages, next.0)),
            },
            soupbintcp::Packet::ServerHeartbeat => {}
            _ => return None,
        }
    }
    None
}

fn wait_for(server: &GlimpseServer, what: impl Fn(&GlimpseCounters) -> bool) {
    let begin = Instant::now();
    while !what(&server.counters()) {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", server.counters());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every client has left or been served, and is in one counter.
fn adds_up(server: &GlimpseServer) -> GlimpseCounters {
    wait_for(server, |counters| counters.open == 0);
    let all = server.counters();
    assert_eq!(all.connections, all.refused + all.served + all.rejected + all.malformed + all.timed_out + all.left);
    all
}

/// While a session is sent, each snapshot is what a mirror is that has seen as many messages.
#[test]
fn snapshots_are_right_while_traffic_goes_on() {
    let messages = day(2_000, 200_000);
    let store = Arc::new(Store::new(64 << 20));
    let server = GlimpseServer::bind(free(), Arc::clone(&store), Fault::None).unwrap();
    assert_eq!(understand(&read(login(&server, "A", "B"))), None, "there is no session yet");
    let mut taken = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sink = StoreSink(store);
            for (part, first) in messages.chunks(3_000).zip((1..).step_by(3_000)) {
                send(&mut sink, first, part);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        wait_for(&server, |counters| !counters.unavailable);
        let mut taken = Vec::new();
        while !sender.is_finished() {
            taken.push(understand(&read(login(&server, "A", "B"))).expect("a snapshot"));
        }
        taken.push(understand(&read(login(&server, "A", "B"))).expect("a snapshot"));
        taken
    });
    assert_eq!(taken.last().map(|(_, next)| *next), Some(200_001));
    println!("{} snapshots, {:?}", taken.len(), adds_up(&server));
    taken.dedup();
    let mut taken = taken.into_iter().peekable();
    let mut mirror = Mirror::new();
    for message in &messages {
        mirror.message(message);
        if let Some((found, _)) = taken.next_if(|(_, next)| *next == mirror.next()) {
            assert!(found == mirror.snapshot().messages, "{}", mirror.next());
        }
    }
    assert_eq!(taken.next(), None, "each was of its time");
    let all = server.counters();
    assert_eq!((all.rejected, all.served, all.followed), (1, all.snapshots, 200_001));
}

#[test]
fn faults_reach_the_client() {
    let messages = day(500, 5_000);
    let store = Arc::new(Store::new(64 << 20));
    send(&mut StoreSink(Arc::clone(&store)), 1, &messages);
    let mut mirror = Mirror::new();
    messages.iter().for_each(|message| mirror.message(message));
    let whole = (mirror.snapshot().messages, mirror.next());
    let bind = |fault| GlimpseServer::bind(free(), Arc::clone(&store), fault).unwrap();

    let server = bind(Fault::Slow { delay_ns: 150_000_000 });
    let begin = Instant::now();
    assert_eq!(understand(&read(login(&server, "A", "B"))), Some(whole.clone()));
    assert!(begin.elapsed() >= Duration::from_millis(150));

    let server = bind(Fault::Partial);
    let stream = read(login(&server, "A", "B"));
    assert!(stream.len() > 33 && understand(&stream).is_none());

    let server = bind(Fault::Wrong);
    let verdicts: Vec<_> = (0..14).map(|_| understand(&read(login(&server, "A", "B")))).collect();
    assert!(verdicts.iter().flatten().all(|(found, next)| *found == whole.0 && *next > 1 << 40));
    assert_eq!((verdicts.iter().flatten().count(), adds_up(&server).rejected), (2, 2));

    let server = bind(Fault::Silent);
    let mut silent = login(&server, "A", "B");
    silent.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(silent.read(&mut [0]).is_err(), "neither bytes nor an end");
    silent.write_all(&LOGOUT_REQUEST).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert_eq!(adds_up(&server).left, 1);

    let account = Some(("BOOKS".into(), "SECRET".into()));
    let config = GlimpseConfig { login: account, ..GlimpseConfig::default() };
    let server = GlimpseServer::bind_with(free(), Arc::clone(&store), config.clone()).unwrap();
    assert_eq!(understand(&read(login(&server, "books", "secret"))), Some(whole));
    assert_eq!(read(login(&server, "books", "wrong")), soupbintcp::login_rejected(soupbintcp::NOT_AUTHORIZED));
    let too_long = GlimpseConfig { login: Some(("SEVENCH".into(), String::new())), ..config };
    assert!(GlimpseServer::bind_with(free(), store, too_long).is_err());
}

/// Clients who do not read, and more of them than there is room for, are nobody's trouble but their own.
#[test]
fn a_client_that_does_not_read_is_alone_with_that() {
    let mut messages = day(500_000, 600_000);
    let store = Arc::new(Store::new(64 << 20));
    send(&mut StoreSink(Arc::clone(&store)), 1, &messages);
    let config = GlimpseConfig { max_clients: 3, ..GlimpseConfig::default() };
    let server = GlimpseServer::bind_with(free(), Arc::clone(&store), config).unwrap();
    wait_for(&server, |counters| !counters.unavailable && counters.followed > 590_000);
    let stuck = [login(&server, "A", "B"), login(&server, "A", "B")];
    wait_for(&server, |counters| counters.open == 2 && counters.snapshots > 0);
    let mut mirror = Mirror::new();
    messages.iter().for_each(|message| mirror.message(message));
    assert_eq!(understand(&read(login(&server, "A", "B"))), Some((mirror.snapshot().messages, 600_001)));
    // The day goes on, and is followed.
    let more = messages.split_off(599_000);
    send(&mut StoreSink(store), 600_001, &more);
    assert_eq!(understand(&read(login(&server, "A", "B"))).map(|(_, next)| next), Some(601_001));
    assert_eq!(server.counters().open, 2);
    let third = login(&server, "A", "B");
    wait_for(&server, |counters| counters.open == 3);
    let mut fourth = TcpStream::connect(server.local_addr()).unwrap();
    assert_eq!(fourth.read(&mut [0]).unwrap(), 0, "no room");
    drop((stuck, third));
    let all = adds_up(&server);
    assert_eq!((all.refused, all.left + all.served), (1, 5));
}

/// A follower that was too slow, or came too late, says that it has nothing, until there is another session.
#[test]
fn what_was_not_followed_is_not_served() {
    let messages = day(500, 20_000);
    let store = Arc::new(Store::new(100_000));
    send(&mut StoreSink(Arc::clone(&store)), 1, &messages);
    assert!(store.oldest() > 1);
    let server = GlimpseServer::bind(free(), Arc::clone(&store), Fault::None).unwrap();
    let refusal = soupbintcp::login_rejected(soupbintcp::SESSION_NOT_AVAILABLE);
    assert_eq!(read(login(&server, "A", "B")), refusal);
    assert!(server.counters().unavailable);
    let mut bytes = [0; 200];
    let mut builder = Builder::new(&mut bytes, Session(*b"SIM0000002"), Seq(1));
    builder.push(messages[0].len()).unwrap().copy_from_slice(&messages[0]);
    let len = builder.finish();
    store.take([&bytes[..len]]);
    wait_for(&server, |counters| !counters.unavailable);
    let config = GlimpseConfig { max_orders: 1, ..GlimpseConfig::default() };
    let small = GlimpseServer::bind_with(free(), Arc::clone(&store), config).unwrap();
    assert!(read(login(&small, "A", "B")).len() > refusal.len());
    let stopped = small.local_addr();
    drop(small);
    assert!(TcpStream::connect(stopped).is_err(), "it is gone when it is dropped");
}
