//! One suite of behaviours for every receive path that a feed can choose, over a pair of virtual interfaces in a network
//! namespace that each test makes for itself. Needs root: skips without, but not where CI is set.

mod any;
mod failing;
mod net;
mod odd;
mod own;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use barewire_io::packet_mmap::{Fanout, FanoutMode};
use barewire_io::{LineConfig, Network, OpenError, clock};
use barewire_wire::frame;

use any::*;
use failing::{failures_leave_nothing, state, wait_for};
use net::*;
use odd::*;

/// Two groups on one port, the second group on two interfaces, and a group that others have joined: each line hears its
/// own, with the times of the path's clock.
fn lines_hear_their_own(path: Path) {
    let lines = [line(0, A, "left"), line(1, B, "left"), line(2, B, "right")];
    let mut stranger = Any::open(kernel, &[line(9, STRANGER, "left")], &PLAIN);
    let mut receiver = Any::open(path, &lines, &PLAIN);
    let (mut right, mut left) = (sender("right", RIGHT, false), sender("left", LEFT, false));
    // The kernel begins to stamp a moment after it is first asked to, anywhere on the machine.
    send(&mut right, A, [&b"prime"[..]]);
    receiver.take(1);
    std::thread::sleep(Duration::from_millis(20));
    let before = clock::now();
    send(&mut right, STRANGER, [&b"not yours"[..]]);
    send(&mut right, A, [&b"a1"[..], b"", b"a3"]);
    send(&mut right, B, [&b"b1"[..]]);
    send(&mut left, B, [&b"from the left"[..]]);
    let sent = clock::now();
    assert_eq!(stranger.take(1)[0].payload, b"not yours");
    let mut kept = receiver.take(5);
    let after = if path.clock() == barewire_types::TsSource::User { clock::now() } else { sent };
    kept.sort_by_key(|kept| kept.line);
    let seen: Vec<_> = kept.iter().map(|kept| (kept.line, kept.payload.as_slice(), *kept.src.ip())).collect();
    let expected: [(u8, &[u8], _); 5] =
        [(0, b"a1", RIGHT), (0, b"", RIGHT), (0, b"a3", RIGHT), (1, b"b1", RIGHT), (2, b"from the left", LEFT)];
    assert_eq!(seen, expected);
    assert!(kept.iter().all(|kept| kept.ts_source == path.clock()), "{kept:?}");
    assert!(kept.iter().all(|kept| before <= kept.ts_recv && kept.ts_recv <= after), "{before:?} {kept:?} {after:?}");
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
    receiver.refresh();
    let counters = receiver.counters();
    // A device without a filter shows what is for others, too.
    let all = if path == dpdk_af_packet { counters.packets } else { all(&counters) };
    assert_eq!((counters.packets, all, counters.bytes), (6, 6, 24), "{counters:?}");
}

/// A source-specific line hears its source only, an any-source line on the same group both. The wrong ones are counted
/// where they get that far.
fn wrong_sources_are_not_heard(path: Path) {
    let specific = LineConfig { source: Some(RIGHT), ..line(0, A, "left") };
    for (lines, heard) in [
        (vec![specific.clone()], vec![(0, RIGHT), (0, RIGHT)]),
        (vec![specific, line(1, A, "left")], vec![(0, RIGHT), (0, RIGHT), (1, RIGHT), (1, RIGHT), (1, OTHER)]),
    ] {
        let mut receiver = Any::open(path, &lines, &PLAIN);
        for source in [RIGHT, OTHER, RIGHT] {
            send(&mut sender("right", source, false), A, [&b"x"[..]]);
        }
        let mut kept: Vec<_> = receiver.take(heard.len()).into_iter().map(|kept| (kept.line, *kept.src.ip())).collect();
        kept.sort();
        assert_eq!(kept, heard);
        assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
        let wrong = u64::from(path.reads_frames() && lines.len() == 1);
        assert_eq!(receiver.counters().wrong_source, wrong, "{:?}", receiver.counters());
    }
}

/// Of a list of addresses and networks a line hears those senders only, and counts the others' packets, whether they come
/// one by one or in a run; a line without a list hears all.
fn only_allowed_senders_are_heard(path: Path) {
    let network = |address, bits| Network::new(address, bits).unwrap();
    let (host, wide) = (network(RIGHT, 32), network(Ipv4Addr::new(10, 99, 0, 0), 31));
    for (allow, heard) in [
        (vec![], [RIGHT, OTHER].as_slice()),
        (vec![host], &[RIGHT]),
        // 10.99.0.0 and .1, and the second sender's.
        (vec![wide, network(OTHER, 32)], &[OTHER]),
        (vec![wide, network(Ipv4Addr::new(172, 16, 0, 0), 12)], &[]),
        (vec![network(RIGHT, 31)], &[RIGHT, OTHER]),
    ] {
        let listed = LineConfig { allow, ..line(0, A, "left") };
        let mut receiver = Any::open(path, &[listed, line(1, B, "left")], &PLAIN);
        for source in [RIGHT, OTHER] {
            let mut sender = sender("right", source, !path.is_xdp());
            send(&mut sender, A, [&b"one"[..], b"two", b"six"]);
            send(&mut sender, B, [&b"end"[..]]);
        }
        let expected = heard.len() * 3;
        let kept = receiver.take(expected + 2);
        let mut from: Vec<_> = kept.iter().filter(|kept| kept.line == 0).map(|kept| *kept.src.ip()).collect();
        from.dedup();
        assert_eq!(from, heard);
        assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
        receiver.refresh();
        let counters = receiver.counters();
        assert_eq!(
            (counters.packets, counters.wrong_source, all(&counters)),
            (expected as u64 + 2, 6 - expected as u64, 8)
        );
    }
    let source = Some(RIGHT);
    let error = Any::try_open(path, &[LineConfig { source, allow: vec![wide], ..line(3, A, "left") }], &PLAIN);
    let error = error.err().unwrap().to_string();
    assert!(error.starts_with("line 3: source 10.99.0.2 is not among the allowed senders"), "{error}");
    let error = Any::try_open(path, &[LineConfig { allow: vec![host; 65], ..line(3, A, "left") }], &PLAIN);
    let error = error.err().unwrap().to_string();
    assert!(error.starts_with("line 3: 65 allowed senders: expected at most 64"), "{error}");
}

/// Every packet comes whole or is counted as truncated.
fn nothing_is_handed_over_in_part(path: Path) {
    let mut receiver = Any::open(path, &[line(0, A, "left")], &Setup { max_datagram: Some(100), ..PLAIN });
    let payloads: Vec<Vec<u8>> =
        [0, 1, 99, 100, 101, 500, 1000, 1472].map(|len| (0..len).map(|at| (at * 7 + len) as u8).collect()).into();
    for _ in 0..20 {
        send(&mut sender("right", RIGHT, false), A, payloads.iter().map(Vec::as_slice));
    }
    let kept = receiver.until(|counters| all(counters) == 160);
    assert!(kept.iter().all(|kept| payloads.contains(&kept.payload)));
    let short = kept.iter().filter(|kept| kept.payload.len() <= 100).count();
    let counters = receiver.counters();
    assert_eq!((short, counters.packets + counters.truncated), (80, 160), "{counters:?}");
    // Version 3 has room for any length; version 2 takes long ones from the socket, as long as there is room there.
    let expected = match path {
        packet_mmap_v3 | af_xdp_native | af_xdp_generic => 0..=0,
        packet_mmap_v2 => 1..=79,
        _ => 80..=80,
    };
    assert!(expected.contains(&counters.truncated), "{counters:?}");
}

/// What there is no room for is counted, to the last packet; and what comes afterwards is received.
fn a_flood_is_received_or_counted(path: Path) {
    const SENT: u64 = 20_000;
    let mut receiver = Any::open(path, &[line(0, A, "left")], &Setup { tiny: true, ..PLAIN });
    let mut right = sender("right", RIGHT, false);
    let payloads: Vec<[u8; 200]> = (0..SENT).map(|n| std::array::from_fn(|at| (n >> (at % 4 * 8)) as u8)).collect();
    // Between virtual interfaces is a queue of some hundred packets, which XDP's driver empties when it comes to it.
    for (n, batch) in payloads.chunks(if path.is_xdp() { 50 } else { 500 }).enumerate() {
        send(&mut right, A, batch.iter().map(<[u8; 200]>::as_slice));
        // A look now and then: some room opens up in the middle of the flood.
        if !path.is_xdp() || n % 10 == 9 {
            receiver.receive(|_| {});
        }
        if path.is_xdp() {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    receiver.until(|counters| all(counters) == SENT);
    let flooded = receiver.counters();
    assert!(flooded.kernel_drops > SENT / 4 && flooded.packets > 0, "{flooded:?}");
    assert_eq!(flooded.packets + flooded.kernel_drops, SENT);
    for payload in payloads.iter().take(50) {
        send(&mut right, A, [payload.as_slice()]);
        assert_eq!(receiver.take(1)[0].payload, payload);
    }
    receiver.refresh();
    assert_eq!(receiver.counters().kernel_drops, flooded.kernel_drops);
}

/// A blocking receiver sleeps until a packet of any line comes, and hands it over.
fn a_packet_ends_a_wait(path: Path) {
    let mut receiver = Any::open(path, &[line(0, A, "left"), line(1, B, "right")], &BLOCKING);
    receiver.set_timeout(Some(Duration::from_millis(30)));
    let begun = Instant::now();
    assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!(receiver.counters().idle_waits, 1);
    receiver.set_timeout(None);
    let (mut to_left, mut to_right) = (sender("right", RIGHT, false), sender("left", LEFT, false));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..10u8 {
                std::thread::sleep(Duration::from_millis(5));
                if n % 2 == 0 {
                    send(&mut to_left, A, [&[n][..]]);
                } else {
                    send(&mut to_right, B, [&[n][..]]);
                }
            }
        });
        let mut kept = receiver.take(10);
        kept.sort_by_key(|kept| kept.payload[0]);
        assert!(kept.iter().map(|kept| (kept.line, kept.payload[0])).eq((0..10).map(|n| (n % 2, n))), "{kept:?}");
    });
}

/// A waker ends a wait from another thread, once; one that nobody waited for is kept; so does a watched descriptor, for
/// as long as it has something.
fn a_waker_ends_a_wait(path: Path) {
    let mut receiver = Any::open(path, &[line(0, A, "left")], &BLOCKING);
    let waker = receiver.waker();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waker = waker.clone();
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            waker.wake();
        });
        // Without a timeout: only the waker ends this.
        assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
        assert!(begun.elapsed() >= Duration::from_millis(30));
    });
    waker.wake();
    waker.wake();
    assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
    receiver.set_timeout(Some(Duration::from_millis(30)));
    let begun = Instant::now();
    assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
    assert!(begun.elapsed() >= Duration::from_millis(30));

    let (watched, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
    receiver.watch(std::os::fd::AsRawFd::as_raw_fd(&watched));
    receiver.set_timeout(None);
    std::io::Write::write_all(&mut other, b"x").unwrap();
    for _ in 0..3 {
        assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
    }
    std::io::Read::read_exact(&mut &watched, &mut [0]).unwrap();
    // One that it had heard of already may end one more wait.
    receiver.set_timeout(Some(Duration::from_millis(30)));
    receiver.receive(|packet| panic!("{packet:?}"));
    let begun = Instant::now();
    assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
    assert!(begun.elapsed() >= Duration::from_millis(30));
    // Packets come all the same.
    receiver.set_timeout(None);
    send(&mut sender("right", RIGHT, false), A, [&b"x"[..]]);
    receiver.take(1);
}

/// What a sender hands over at once, and what passes through the kernel in one piece, arrives one by one; on the loopback
/// too, and only once there.
fn runs_arrive_one_by_one(path: Path) {
    let lens =
        (0..60).map(|_| 1400).chain([1400, 1399, 0, 1, 1, 2, 700, 1472, 1472]).chain((0..200).map(|n| n % 7 * 100));
    let payloads: Vec<Vec<u8>> =
        lens.enumerate().map(|(n, len)| (0..len).map(|at| (at + n * 31) as u8).collect()).collect();
    for (from, to, source) in [("right", "left", RIGHT), ("lo", "lo", Ipv4Addr::LOCALHOST)] {
        if path == af_xdp_native && to == "lo" {
            continue; // it has no native XDP
        }
        let mut receiver = Any::open(path, &[line(0, A, to), line(1, B, to)], &PLAIN);
        let mut sender = sender(from, source, path != af_xdp_generic);
        for group in [A, B] {
            send(&mut sender, group, payloads.iter().map(Vec::as_slice));
        }
        assert_eq!(sender.counters().segmented > 100, path != af_xdp_generic, "{:?}", sender.counters());
        let kept = receiver.take(2 * payloads.len());
        for number in [0, 1] {
            let of_line = kept.iter().filter(|kept| kept.line == number).map(|kept| &kept.payload);
            assert!(of_line.eq(&payloads), "line {number} on {to}");
        }
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
        receiver.refresh();
        assert_eq!(all(&receiver.counters()), 2 * payloads.len() as u64, "{:?}", receiver.counters());
    }
}

/// Unicast to an address of this machine, without an interface named, comes by the loopback.
fn unicast_is_received(path: Path) {
    let address = Ipv4Addr::new(127, 0, 0, 7);
    let mut receiver = Any::open(path, &[LineConfig { interface: None, ..line(3, address, "") }], &PLAIN);
    let taken = Any::try_open(path, &[LineConfig { interface: None, ..line(3, address, "") }], &PLAIN);
    assert!(matches!(taken, Err(OpenError::PortInUse { line: 3, .. })));
    let mut sender = sender("lo", Ipv4Addr::LOCALHOST, false);
    let payloads: Vec<[u8; 1]> = (0..200).map(|n| [n]).collect();
    send(&mut sender, address, payloads.iter().map(|payload| payload.as_slice()));
    assert!(receiver.take(200).iter().map(|kept| kept.payload[0]).eq(0..200));
}

/// Frames that are wrong, or of another VLAN, are not handed over; one with only a priority is.
fn wrong_frames_are_not_heard(path: Path) {
    let mut receiver = Any::open(path, &[line(0, A, "left")], &PLAIN);
    let frame = |vlan, payload: &[u8]| {
        let mut out = vec![0; 100];
        let (src, dst) = (SocketAddrV4::new(RIGHT, 999), SocketAddrV4::new(A, PORT));
        let len = frame::encode(&mut out, vlan, src, dst, payload).unwrap();
        out.truncate(len);
        out
    };
    let with = |at: usize| {
        let mut frame = frame(None, b"wrong");
        frame[at] ^= 1;
        frame
    };
    // The payload, so that UDP's checksum is wrong; IP's; UDP's length beyond the packet; and, which no filter lets
    // through, IP's header length and another VLAN.
    for wrong in [with(43), with(22), with(38), with(14), frame(Some(5), b"wrong")] {
        inject("right", &wrong);
    }
    inject("right", &frame(Some(0), b"priority"));
    inject("right", &frame(None, b"right"));
    let kept = receiver.take(2);
    assert!(kept.iter().map(|kept| kept.payload.as_slice()).eq([&b"priority"[..], b"right"]), "{kept:?}");
    assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
    let counters = receiver.counters();
    if path.reads_frames() {
        assert_eq!((counters.malformed, all(&counters)), (3, 5), "{counters:?}");
    } else {
        assert_eq!(all(&counters), 2, "{counters:?}");
    }
}

/// A datagram longer than the interface's packets: the kernel puts it together for sockets; who reads frames counts the
/// fragments, or has the kernel put them together first.
fn fragments_are_counted(path: Path) {
    let payload = vec![7; 4000];
    let send_it = || send(&mut sender("right", RIGHT, false), A, [payload.as_slice()]);
    let mut receiver = Any::open(path, &[line(0, A, "left")], &PLAIN);
    send_it();
    if path.reads_frames() {
        receiver.until(|counters| counters.fragments == 3);
        assert_eq!(receiver.counters().packets, 0);
        if path.is_xdp() {
            return;
        }
        drop(receiver);
        let fanout = Fanout { group: 7, mode: FanoutMode::Hash, rollover: false, defragment: true };
        receiver = Any::open(path, &[line(0, A, "left")], &Setup { fanout: Some(fanout), ..PLAIN });
        send_it();
    }
    assert_eq!(receiver.take(1)[0].payload, payload);
}

/// An interface that goes down and comes up again is received from as before, without an error; one that is removed ends
/// the path within a refresh with a line that names it, however it waits.
fn interfaces_come_and_go(path: Path) {
    for setup in [PLAIN, BLOCKING] {
        let mut receiver = Any::open(path, &[line(0, A, "left"), line(1, B, "right")], &setup);
        receiver.set_timeout(Some(Duration::from_millis(1)));
        for _ in 0..2 {
            run("ip link set left down").unwrap();
            assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
            receiver.refresh();
            run("ip link set left up").unwrap();
            settle(&["left", "right"]).unwrap();
            send(&mut sender("right", RIGHT, false), A, [&b"up again"[..]]);
            assert_eq!(receiver.take(1)[0].payload, b"up again");
        }
        run("ip link delete left").unwrap();
        let begun = Instant::now();
        let error = loop {
            match receiver.try_receive(|packet| panic!("{packet:?}")).and_then(|_| receiver.try_refresh()) {
                Ok(()) => assert!(begun.elapsed() < PATIENCE),
                Err(error) => break error.to_string(),
            }
        };
        // The other end of the pair goes with it.
        let named =
            ["left", "right"].iter().any(|name| error.starts_with(&format!("interface {name} is gone, removed")));
        assert!(named && !error.contains('\n'), "{error}");
        // The same name is another interface: opened anew, it is received from.
        drop(receiver);
        set_up().unwrap();
        let mut receiver = Any::open(path, &[line(0, A, "left")], &setup);
        send(&mut sender("right", RIGHT, false), A, [&b"a new one"[..]]);
        assert_eq!(receiver.take(1)[0].payload, b"a new one");
    }
}

/// Dropped, in whatever state, a receiver leaves no socket, no membership and no ring behind; and the same can be opened
/// anew.
fn nothing_is_left_behind(path: Path) {
    let mut right = sender("right", RIGHT, false);
    let clean = state();
    for setup in [PLAIN, BLOCKING] {
        for packets in [0, 5] {
            let lines = [line(0, A, "left"), LineConfig { source: Some(RIGHT), ..line(1, B, "left") }];
            let mut receiver = Any::open(path, &lines, &setup);
            receiver.set_timeout(Some(PATIENCE));
            let open = state();
            assert_ne!(open, clean);
            // What joins on behalf of frames is bound to no port, so nothing can queue there.
            assert_eq!(open[2] == clean[2], path.reads_frames());
            send(&mut right, A, (0..packets).map(|_| &b"x"[..]));
            if packets > 0 {
                receiver.take(1);
            }
            drop(receiver);
            wait_for(clean, &format!("{setup:?} {packets}"));
        }
    }
}

/// Without the capability, the error says which.
fn lacking_capability_is_named(path: Path) {
    // Of this thread alone.
    drop_capabilities();
    let opened = Any::try_open(path, &[line(0, A, "left")], &PLAIN);
    if path.reads_frames() {
        let error = opened.err().unwrap();
        let expected = match path {
            af_xdp_native | af_xdp_generic => {
                "make BPF maps: CAP_NET_ADMIN and CAP_NET_RAW and CAP_PERFMON and CAP_BPF are missing"
            }
            dpdk_af_packet => "open a DPDK device: CAP_NET_ADMIN and CAP_NET_RAW are missing",
            _ => "open a packet socket: CAP_NET_RAW is missing",
        };
        assert!(error.to_string().starts_with(&format!("line 0: not permitted to {expected}: grant ")), "{error}");
    } else {
        opened.unwrap().receive(|_| {});
    }
}

macro_rules! suite {
    ($($path:ident: $($test:ident)*;)*) => {
        $(mod $path {
            $(#[test]
            fn $test() {
                if super::Path::$path.is_built() {
                    super::in_namespace(|| super::$test(super::Path::$path));
                }
            })*
        })*
    };
    ([$($path:ident)*] $tests:tt) => { $(suite!(@ $path $tests);)* };
    (@ $path:ident [$($test:ident)*]) => { suite! { $path: $($test)*; } };
}

suite! {
    [kernel packet_mmap_v2 packet_mmap_v3 io_uring io_uring_sqpoll af_xdp_native af_xdp_generic]
    [
        lines_hear_their_own wrong_sources_are_not_heard only_allowed_senders_are_heard interfaces_come_and_go
        nothing_is_handed_over_in_part a_flood_is_received_or_counted
        a_packet_ends_a_wait a_waker_ends_a_wait runs_arrive_one_by_one unicast_is_received wrong_frames_are_not_heard odd_frames_are_heard_as_the_kernel_hears_them
        fragments_are_counted nothing_is_left_behind failures_leave_nothing lacking_capability_is_named
    ]
}

// Of DPDK's virtual devices, what they can show: crates/io/tests/dpdk has the rest.
suite! {
    dpdk_af_packet: lines_hear_their_own wrong_sources_are_not_heard interfaces_come_and_go a_packet_ends_a_wait
        a_waker_ends_a_wait nothing_is_left_behind failures_leave_nothing lacking_capability_is_named;
}
