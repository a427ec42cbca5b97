//! One suite of behaviours for every receive path that a feed can choose, over a pair of virtual interfaces in a network
//! namespace that each test makes for itself. Needs root: skips without, but not where CI is set.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::{Duration, Instant};

use barewire_io::io_uring::{IoUringOptions, IoUringReceiver, SqPoll};
use barewire_io::kernel::{KernelOptions, KernelReceiver, Mode};
use barewire_io::packet_mmap::{Fanout, FanoutMode, PacketMmapOptions, PacketMmapReceiver, Version};
use barewire_io::send::{Outgoing, SendOptions, UdpSender};
use barewire_io::{LineConfig, OpenError, Packet, Receiver, ReceiverCounters, Waker, clock};
use barewire_types::{TsSource, UnixNanos};
use barewire_wire::frame;

/// Longer than anything here takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(10);
const A: Ipv4Addr = Ipv4Addr::new(239, 200, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(239, 200, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(239, 200, 0, 3);
const PORT: u16 = 26_477;
const LEFT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// A second address of the right end.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);

/// The paths of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "they name modules too")]
enum Path {
    kernel,
    packet_mmap_v2,
    packet_mmap_v3,
    io_uring,
    io_uring_sqpoll,
}
use Path::*;

impl Path {
    /// Whether frames are read as they reached the interface.
    fn reads_frames(self) -> bool {
        matches!(self, packet_mmap_v2 | packet_mmap_v3)
    }
}

/// What a test asks of a path.
#[derive(Clone, Debug)]
struct Setup {
    mode: Mode,
    timestamps: bool,
    /// Longest payload that is sure to come whole; `None` for any.
    max_datagram: Option<usize>,
    /// The least buffers that the path takes.
    tiny: bool,
    fanout: Option<Fanout>,
}

const PLAIN: Setup = Setup { mode: Mode::Busy, timestamps: true, max_datagram: None, tiny: false, fanout: None };
const BLOCKING: Setup = Setup { mode: Mode::Blocking, ..PLAIN };

enum Any {
    Kernel(KernelReceiver),
    PacketMmap(PacketMmapReceiver),
    IoUring(IoUringReceiver),
}

macro_rules! each {
    ($any:expr, $receiver:ident => $result:expr) => {
        match $any {
            Any::Kernel($receiver) => $result,
            Any::PacketMmap($receiver) => $result,
            Any::IoUring($receiver) => $result,
        }
    };
}

impl Any {
    fn try_open(path: Path, lines: &[LineConfig], setup: &Setup) -> Result<Any, OpenError> {
        let Setup { mode, timestamps, max_datagram, tiny, fanout } = setup.clone();
        Ok(match path {
            kernel => {
                let plain = KernelOptions::default();
                let rcvbuf_bytes = if tiny { Some(4096) } else { plain.rcvbuf_bytes };
                let max_datagram = max_datagram.unwrap_or(plain.max_datagram);
                let options = KernelOptions { mode, timestamps, max_datagram, rcvbuf_bytes, ..plain };
                Any::Kernel(KernelReceiver::open(lines, options)?)
            }
            packet_mmap_v2 | packet_mmap_v3 => {
                let mut options = PacketMmapOptions { mode, timestamps, fanout, ..PacketMmapOptions::default() };
                if path == packet_mmap_v3 {
                    options.version = Version::V3 { block_timeout_ms: 1 };
                }
                if tiny {
                    (options.ring_bytes, options.block_bytes) = (1 << 16, 1 << 17);
                }
                if max_datagram.is_some() {
                    (options.slot_bytes, options.rcvbuf_bytes) = (256, 1);
                }
                Any::PacketMmap(PacketMmapReceiver::open(lines, options)?)
            }
            io_uring | io_uring_sqpoll => {
                let mut options = IoUringOptions { mode, timestamps, ..IoUringOptions::default() };
                if path == io_uring_sqpoll {
                    options.sqpoll = Some(SqPoll { idle_ms: 10, cpu: None });
                }
                if tiny {
                    (options.rcvbuf_bytes, options.buffers) = (Some(4096), 2);
                }
                options.max_datagram = max_datagram.unwrap_or(options.max_datagram);
                Any::IoUring(IoUringReceiver::open(lines, options)?)
            }
        })
    }

    fn open(path: Path, lines: &[LineConfig], setup: &Setup) -> Any {
        Any::try_open(path, lines, setup).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    }

    fn receive(&mut self, mut sink: impl FnMut(Packet<'_>)) -> usize {
        each!(self, receiver => receiver.receive(&mut sink)).unwrap()
    }

    fn counters(&self) -> ReceiverCounters {
        each!(self, receiver => receiver.counters())
    }

    fn refresh(&mut self) {
        each!(self, receiver => receiver.refresh()).unwrap();
    }

    fn set_timeout(&mut self, timeout: Option<Duration>) {
        each!(self, receiver => receiver.set_timeout(timeout));
    }

    fn watch(&mut self, fd: i32) {
        each!(self, receiver => receiver.watch(fd));
    }

    fn waker(&self) -> Waker {
        each!(self, receiver => receiver.waker())
    }

    /// Receives until so many packets came, and fails when they do not.
    fn take(&mut self, count: usize) -> Vec<Kept> {
        let begun = Instant::now();
        let mut kept = Vec::new();
        while kept.len() < count {
            self.receive(|packet| kept.push(Kept::of(packet)));
            assert!(begun.elapsed() < PATIENCE, "{} of {count}: {:?}", kept.len(), self.counters());
        }
        kept
    }

    /// Receives until the counters say so, and fails when they do not.
    fn until(&mut self, done: impl Fn(&ReceiverCounters) -> bool) -> Vec<Kept> {
        let begun = Instant::now();
        let mut kept = Vec::new();
        loop {
            self.receive(|packet| kept.push(Kept::of(packet)));
            self.refresh();
            if done(&self.counters()) {
                return kept;
            }
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.counters());
        }
    }
}

/// A packet, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    line: u8,
    payload: Vec<u8>,
    ts_recv: UnixNanos,
    ts_source: TsSource,
    src: SocketAddrV4,
}

impl Kept {
    fn of(packet: Packet<'_>) -> Kept {
        let Packet { line, payload, ts_recv, ts_source, src } = packet;
        Kept { line, payload: payload.to_vec(), ts_recv, ts_source, src }
    }
}

/// Packets that ended anywhere.
fn all(counters: &ReceiverCounters) -> u64 {
    let ReceiverCounters { packets, kernel_drops, truncated, wrong_source, .. } = *counters;
    let ReceiverCounters { other_destination, not_udp, fragments, malformed, .. } = *counters;
    packets + kernel_drops + truncated + wrong_source + other_destination + not_udp + fragments + malformed
}

fn line(number: u8, group: Ipv4Addr, interface: &str) -> LineConfig {
    LineConfig { group, port: PORT, interface: Some(interface.into()), source: None, line: number }
}

/// Sends by an interface, from one of its addresses.
fn sender(interface: &str, source: Ipv4Addr, segmentation: bool) -> UdpSender {
    let options = SendOptions {
        interface: Some(interface.into()),
        source: Some(source),
        segmentation,
        loopback: interface == "lo",
        ..SendOptions::default()
    };
    UdpSender::open(&options).unwrap()
}

fn send<'a>(sender: &mut UdpSender, to: Ipv4Addr, payloads: impl IntoIterator<Item = &'a [u8]>) {
    let to = SocketAddrV4::new(to, PORT);
    let batch: Vec<_> = payloads.into_iter().map(|payload| Outgoing { to, payload }).collect();
    assert_eq!(sender.send_all(&batch, PATIENCE).unwrap(), batch.len());
}

fn run(script: &str) -> Result<(), String> {
    // Children are born into this thread's namespace.
    match Command::new("sh").args(["-ec", script]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Moves this thread into a new network namespace with a pair of interfaces, or says why it cannot.
fn enter() -> Result<(), String> {
    // SAFETY: unshare takes no pointers; it moves this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(format!("no network namespace: {}", std::io::Error::last_os_error()));
    }
    run("ip link set lo up
         ip link add left type veth peer name right
         ip address add 10.99.0.1/24 dev left
         ip address add 10.99.0.2/24 dev right
         ip address add 10.99.0.3/24 dev right
         ip link set left up
         ip link set right up")?;
    // Both ends belong to one machine here, which otherwise refuses packets from its own address.
    for end in ["left", "right"] {
        for (name, value) in [("accept_local", "1"), ("rp_filter", "0")] {
            // Of the namespace that the writing thread is in.
            let path = format!("/proc/sys/net/ipv4/conf/{end}/{name}");
            std::fs::write(&path, value).map_err(|error| format!("{path}: {error}"))?;
        }
    }
    Ok(())
}

/// Runs a test in a namespace of its own; skips where none can be had, but not where CI is set.
fn in_namespace(test: impl FnOnce() + Send) {
    let result = std::thread::scope(|scope| {
        scope
            .spawn(|| match enter() {
                Ok(()) => test(),
                Err(reason) if std::env::var_os("CI").is_some() => panic!("CI can make namespaces: {reason}"),
                Err(reason) => eprintln!("skipped: {reason}"),
            })
            .join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Two groups on one port, the second group on two interfaces, and a group that others have joined: each line hears its
/// own, with the kernel's times.
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
    let after = clock::now();
    assert_eq!(stranger.take(1)[0].payload, b"not yours");
    let mut kept = receiver.take(5);
    kept.sort_by_key(|kept| kept.line);
    let seen: Vec<_> = kept.iter().map(|kept| (kept.line, kept.payload.as_slice(), *kept.src.ip())).collect();
    let expected: [(u8, &[u8], _); 5] =
        [(0, b"a1", RIGHT), (0, b"", RIGHT), (0, b"a3", RIGHT), (1, b"b1", RIGHT), (2, b"from the left", LEFT)];
    assert_eq!(seen, expected);
    assert!(kept.iter().all(|kept| kept.ts_source == TsSource::Kernel), "{kept:?}");
    assert!(kept.iter().all(|kept| before <= kept.ts_recv && kept.ts_recv <= after), "{before:?} {kept:?} {after:?}");
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(receiver.receive(|packet| panic!("{packet:?}")), 0);
    receiver.refresh();
    let counters = receiver.counters();
    assert_eq!((counters.packets, all(&counters), counters.bytes), (6, 6, 24), "{counters:?}");
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
        packet_mmap_v3 => 0..=0,
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
    for batch in payloads.chunks(500) {
        send(&mut right, A, batch.iter().map(<[u8; 200]>::as_slice));
        // A look now and then: some room opens up in the middle of the flood.
        receiver.receive(|_| {});
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
        let mut receiver = Any::open(path, &[line(0, A, to), line(1, B, to)], &PLAIN);
        let mut sender = sender(from, source, true);
        for group in [A, B] {
            send(&mut sender, group, payloads.iter().map(Vec::as_slice));
        }
        assert!(sender.counters().segmented > 100, "{:?}", sender.counters());
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

/// Hands a frame to an interface as it is.
fn inject(interface: &str, frame: &[u8]) {
    let index = barewire_io::interfaces::index(interface).unwrap();
    // SAFETY: socket takes no pointers; a sockaddr_ll of zeros is a value; name and frame are readable for the lengths
    // given.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        let mut name: libc::sockaddr_ll = std::mem::zeroed();
        name.sll_family = libc::AF_PACKET as u16;
        name.sll_ifindex = index as i32;
        let len = size_of_val(&name) as libc::socklen_t;
        let sent = libc::sendto(fd, frame.as_ptr().cast(), frame.len(), 0, (&raw const name).cast(), len);
        assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
        libc::close(fd);
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
        drop(receiver);
        let fanout = Fanout { group: 7, mode: FanoutMode::Hash, rollover: false, defragment: true };
        receiver = Any::open(path, &[line(0, A, "left")], &Setup { fanout: Some(fanout), ..PLAIN });
        send_it();
    }
    assert_eq!(receiver.take(1)[0].payload, payload);
}

/// Dropped, in whatever state, a receiver leaves no socket, no membership and no ring behind; and the same can be opened
/// anew.
fn nothing_is_left_behind(path: Path) {
    let left = |what: &str| {
        // Of the namespace that this thread is in.
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{what}")).unwrap();
        // Of `igmp`, only the groups' lines are indented; 224.0.0.1 is everybody's.
        let group = |line: &&str| what != "igmp" || (line.starts_with('\t') && !line.contains("010000E0"));
        text.lines().skip(1).filter(group).count()
    };
    let state = || ["packet", "igmp", "udp", "mcfilter"].map(left);
    let mut right = sender("right", RIGHT, false);
    let clean = state();
    for setup in [PLAIN, BLOCKING] {
        for packets in [0, 5] {
            let lines = [line(0, A, "left"), LineConfig { source: Some(RIGHT), ..line(1, B, "left") }];
            let mut receiver = Any::open(path, &lines, &setup);
            receiver.set_timeout(Some(PATIENCE));
            assert_ne!(state(), clean);
            send(&mut right, A, (0..packets).map(|_| &b"x"[..]));
            if packets > 0 {
                receiver.take(1);
            }
            drop(receiver);
            assert_eq!(state(), clean, "{setup:?} {packets}");
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
        assert!(
            error.to_string().starts_with("line 0: not permitted to open a packet socket (CAP_NET_RAW)"),
            "{error}"
        );
    } else {
        opened.unwrap().receive(|_| {});
    }
}

fn drop_capabilities() {
    #[repr(C)]
    struct Header(u32, i32);
    const VERSION_3: u32 = 0x2008_0522;
    let (header, none) = (Header(VERSION_3, 0), [0u32; 6]);
    // SAFETY: the header and two sets of three words are readable.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    assert_eq!(set, 0);
}

/// Two members of a fanout group get each packet once between them, and each gets some.
#[test]
fn members_of_a_fanout_group_share() {
    in_namespace(|| {
        let fanout = Some(Fanout { group: 9, mode: FanoutMode::RoundRobin, rollover: true, defragment: false });
        let lines = [line(0, A, "left"), line(1, B, "right")];
        for path in [packet_mmap_v2, packet_mmap_v3] {
            let mut members: Vec<_> = (0..2).map(|_| Any::open(path, &lines, &Setup { fanout, ..PLAIN })).collect();
            let (mut right, mut left) = (sender("right", RIGHT, false), sender("left", LEFT, false));
            let payloads: Vec<[u8; 1]> = (0..100).map(|n| [n]).collect();
            let of = |kept: &[Kept], line| -> Vec<u8> {
                kept.iter().filter(|kept| kept.line == line).map(|kept| kept.payload[0]).collect()
            };
            send(&mut right, A, payloads.iter().map(|payload| payload.as_slice()));
            send(&mut left, B, payloads.iter().map(|payload| payload.as_slice()));
            let mut between: Vec<Kept> = Vec::new();
            for member in &mut members {
                between.extend(member.take(100));
                assert_eq!(member.receive(|packet| panic!("{packet:?}")), 0);
            }
            for number in [0, 1] {
                let mut of_line = of(&between, number);
                of_line.sort();
                assert!(of_line.into_iter().eq(0..100));
            }
        }
    });
}

macro_rules! suite {
    ($($path:ident: $($test:ident)*;)*) => {
        $(mod $path {
            $(#[test]
            fn $test() {
                super::in_namespace(|| super::$test(super::Path::$path));
            })*
        })*
    };
    ([$($path:ident)*] $tests:tt) => { $(suite!(@ $path $tests);)* };
    (@ $path:ident [$($test:ident)*]) => { suite! { $path: $($test)*; } };
}

suite! {
    [kernel packet_mmap_v2 packet_mmap_v3 io_uring io_uring_sqpoll]
    [
        lines_hear_their_own wrong_sources_are_not_heard nothing_is_handed_over_in_part a_flood_is_received_or_counted
        a_packet_ends_a_wait a_waker_ends_a_wait runs_arrive_one_by_one unicast_is_received wrong_frames_are_not_heard
        fragments_are_counted nothing_is_left_behind lacking_capability_is_named
    ]
}
