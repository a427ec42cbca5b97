//! Requests and replies, watched descriptors and streams whose waits can be ended, over `lo`, without privilege.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use barewire_io::kernel::{KernelOptions, KernelReceiver, Mode};
use barewire_io::request::{RequestCounters, RequestSocket};
use barewire_io::stream::{Interest, Stream, wait};
use barewire_io::{LineConfig, OpenError, Receiver, Waker, clock};
use barewire_types::TsSource;

/// Longer than anything takes over `lo`, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("bound to an IPv4 address"),
    }
}

fn server() -> (UdpSocket, SocketAddrV4) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = v4(socket.local_addr().unwrap());
    (socket, address)
}

/// Receives until so many packets have come or been dropped.
fn receive(socket: &mut RequestSocket, count: u64) -> Vec<(u8, Vec<u8>)> {
    let begun = Instant::now();
    let mut replies = Vec::new();
    let seen = |counters: RequestCounters| counters.packets + counters.wrong_source + counters.truncated;
    while seen(socket.counters()) < count {
        let before = clock::now();
        let delivered = socket
            .receive(&mut |packet| {
                assert!(before.0.abs_diff(packet.ts_recv.0) < PATIENCE.as_nanos() as u64);
                replies.push((packet.line, packet.payload.to_vec()));
            })
            .unwrap();
        assert!(delivered > 0 || begun.elapsed() < PATIENCE, "{:?}", socket.counters());
    }
    replies
}

#[test]
fn only_those_who_can_be_asked_are_heard() {
    let (one, two, (stranger, _)) = (server(), server(), server());
    let mut socket = RequestSocket::open(&[one.1, two.1], Some(Ipv4Addr::LOCALHOST)).unwrap();
    socket.send(1, b"please").unwrap();
    let mut bytes = [0; 16];
    let (len, asker) = two.0.recv_from(&mut bytes).unwrap();
    assert_eq!(bytes[..len], *b"please");
    // The stranger has a server's address, but not its port. An empty reply is one.
    for (from, payload) in [(&stranger, &b"forged"[..]), (&two.0, b"two"), (&one.0, b"one"), (&two.0, b"")] {
        from.send_to(payload, asker).unwrap();
    }
    let replies = receive(&mut socket, 4);
    assert_eq!(replies, [(1, b"two".to_vec()), (0, b"one".to_vec()), (1, Vec::new())]);
    let counters = RequestCounters { sent: 1, packets: 3, bytes: 6, wrong_source: 1, ..RequestCounters::default() };
    assert_eq!(socket.counters(), counters);
    assert_eq!(socket.receive(&mut |_| unreachable!()).unwrap(), 0);

    // The kernel begins to stamp a moment after it is first asked to, anywhere on the machine.
    let begun = Instant::now();
    let mut stamped = false;
    while !stamped {
        one.0.send_to(b"prime", asker).unwrap();
        socket.receive(&mut |packet| stamped |= packet.ts_source == TsSource::Kernel).unwrap();
        assert!(begun.elapsed() < PATIENCE, "the kernel never stamps");
    }
}

#[test]
fn what_cannot_be_sent_or_opened_is_told() {
    let (_server, address) = server();
    let mut socket = RequestSocket::open(&[address], None).unwrap();
    assert_eq!(socket.send(1, b"").unwrap_err().kind(), ErrorKind::InvalidInput);
    socket.send(0, &[0; 65_508]).unwrap_err();
    assert_eq!((socket.counters().sent, socket.counters().send_errors), (0, 2));
    // Nobody listens there: UDP does not tell.
    let gone = server().1;
    RequestSocket::open(&[gone], None).unwrap().send(0, b"hello?").unwrap();

    for servers in [&[][..], &[address; 257]] {
        assert!(matches!(RequestSocket::open(servers, None), Err(OpenError::BadOption { name: "servers", .. })));
    }
    let error = RequestSocket::open(&[address], Some(Ipv4Addr::new(192, 0, 2, 1))).unwrap_err();
    assert!(matches!(error, OpenError::AddressNotLocal { .. }));
    assert!(error.to_string().starts_with("re-requests: 192.0.2.1 is neither"), "{error}");
}

/// A blocking receiver wakes for a reply as for a packet, as long as it has not been read; and a watched descriptor that is
/// none ends one wait, not all.
#[test]
fn a_blocking_receiver_also_wakes_for_what_it_watches() {
    let port = 30_000 + (std::process::id() % 20_000) as u16;
    let line = LineConfig {
        group: Ipv4Addr::new(239, 255, 77, 1),
        port,
        interface: Some("lo".into()),
        source: None,
        allow: Vec::new(),
        line: 0,
    };
    let options = KernelOptions { mode: Mode::Blocking, ..KernelOptions::default() };
    let mut receiver = KernelReceiver::open(&[line], options).unwrap();
    let (server, address) = server();
    let mut socket = RequestSocket::open(&[address], None).unwrap();
    receiver.watch(socket.fd());
    // Without a timeout: only the reply ends these waits.
    socket.send(0, b"please").unwrap();
    let (_, asker) = server.recv_from(&mut [0; 16]).unwrap();
    server.send_to(b"here", asker).unwrap();
    for _ in 0..2 {
        assert_eq!(receiver.receive(&mut |_| unreachable!("nothing came by the line")).unwrap(), 0);
    }
    assert_eq!(receive(&mut socket, 1), [(0, b"here".to_vec())]);
    let short = Duration::from_millis(20);
    receiver.set_timeout(Some(short));
    let begun = Instant::now();
    assert_eq!(receiver.receive(&mut |_| unreachable!()).unwrap(), 0);
    assert!(begun.elapsed() >= short, "nothing is there to read any more");
    // As one that was closed, but no other test's can get its number.
    receiver.watch(i32::MAX);
    receiver.receive(&mut |_| unreachable!()).unwrap();
    let begun = Instant::now();
    receiver.receive(&mut |_| unreachable!()).unwrap();
    assert!(begun.elapsed() >= short, "what is no descriptor is watched no longer");
}

const BOTH: Interest = Interest { read: true, write: true };
const READ: Interest = Interest { read: true, write: false };

#[test]
fn a_stream_connects_reads_writes_and_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = Stream::connect(v4(listener.local_addr().unwrap())).unwrap();
    let waker = Waker::new().unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    assert!(wait(Some((&stream, BOTH)), &waker, Some(PATIENCE)).unwrap().write);
    stream.connected().unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(stream.write(b"hello").unwrap(), 5);
    let mut bytes = [0; 8];
    peer.read_exact(&mut bytes[..5]).unwrap();
    peer.write_all(&bytes[..5]).unwrap();
    assert!(wait(Some((&stream, READ)), &waker, Some(PATIENCE)).unwrap().read);
    assert_eq!(stream.read(&mut bytes).unwrap(), 5);
    drop(peer);
    assert!(wait(Some((&stream, READ)), &waker, Some(PATIENCE)).unwrap().read);
    assert_eq!(stream.read(&mut bytes).unwrap(), 0);
}

#[test]
fn a_refused_connection_is_told() {
    let gone = v4(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let refused = Stream::connect(gone).and_then(|stream| {
        wait(Some((&stream, BOTH)), &Waker::new().unwrap(), Some(PATIENCE))?;
        stream.connected()
    });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// Without a time limit, from another thread, with and without a stream; and a wake that finds nobody is kept.
#[test]
fn a_wake_ends_a_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = Stream::connect(v4(listener.local_addr().unwrap())).unwrap();
    let waker = Waker::new().unwrap();
    for stream in [None, Some((&stream, READ))] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(10));
                waker.wake();
            });
            assert_eq!(wait(stream, &waker, None).unwrap(), Interest { read: false, write: false });
        });
        waker.wake();
        wait(stream, &waker, None).unwrap();
    }
}
