//! The kernel receive path and the sender against each other, over `lo`, without privilege.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use barewire_io::hwstamp::NoHardwareStamps;
use barewire_io::kernel::{KernelOptions, KernelReceiver, Mode, Timestamps};
use barewire_io::send::{Outgoing, SendOptions, UdpSender};
use barewire_io::{Hardware, LineConfig, OpenError, Receiver, Stamps, clock};
use barewire_types::{TsSource, UnixNanos};

/// Longer than any packet takes over `lo`, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A group that no other test, in this process or another, is likely to use. `n` tells a test's groups apart.
fn group(n: u8) -> Ipv4Addr {
    let pid = std::process::id();
    Ipv4Addr::new(239, (pid >> 8) as u8, pid as u8, n)
}

fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    20_000 + (std::process::id() % 5_000) as u16 * 2 + NEXT.fetch_add(1, Ordering::Relaxed) % 500
}

fn line(number: u8, group: Ipv4Addr, port: u16) -> LineConfig {
    LineConfig { group, port, interface: Some("lo".into()), source: None, allow: Vec::new(), line: number }
}

fn open(lines: &[LineConfig], options: KernelOptions) -> KernelReceiver {
    KernelReceiver::open(lines, options).unwrap_or_else(|error| panic!("{error}"))
}

fn sender(source: Ipv4Addr) -> UdpSender {
    let options = SendOptions { interface: Some("lo".into()), source: Some(source), ..SendOptions::default() };
    UdpSender::open(&options).unwrap_or_else(|error| panic!("{error}"))
}

fn send(sender: &mut UdpSender, to: SocketAddrV4, payload: &[u8]) {
    assert_eq!(sender.send_all(&[Outgoing { to, payload }], PATIENCE).unwrap(), 1);
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

/// Receives until so many packets came, and fails when they do not.
fn receive(receiver: &mut KernelReceiver, count: usize) -> Vec<Kept> {
    let begun = Instant::now();
    let mut kept = Vec::new();
    while kept.len() < count {
        let delivered = receiver
            .receive(&mut |packet| {
                kept.push(Kept {
                    line: packet.line,
                    payload: packet.payload.to_vec(),
                    ts_recv: packet.ts_recv,
                    ts_source: packet.ts_source,
                    src: packet.src,
                })
            })
            .unwrap();
        assert!(delivered > 0 || begun.elapsed() < PATIENCE, "{} of {count}: {:?}", kept.len(), receiver.counters());
    }
    kept
}

/// Lines are told apart by their groups even where the port is the same, and another group that this machine has joined
/// reaches none of them.
#[test]
fn lines_on_one_port_do_not_leak_into_each_other() {
    let port = port();
    let (a, b, other) = (group(1), group(2), group(3));
    let mut stranger = open(&[line(9, other, port)], KernelOptions::default());
    let mut receiver = open(&[line(0, a, port), line(1, b, port)], KernelOptions::default());
    let mut sender = sender(Ipv4Addr::LOCALHOST);
    for (to, text) in [(other, "other"), (b, "b1"), (a, "a1"), (b, "b2")] {
        send(&mut sender, SocketAddrV4::new(to, port), text.as_bytes());
    }
    // The stranger's came first, so whatever leaks is there by now.
    assert_eq!(receive(&mut stranger, 1)[0].payload, b"other");
    let mut kept: Vec<_> = receive(&mut receiver, 3).into_iter().map(|kept| (kept.line, kept.payload)).collect();
    kept.sort();
    assert_eq!(kept, [(0, b"a1".to_vec()), (1, b"b1".to_vec()), (1, b"b2".to_vec())]);
    assert_eq!(receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);
    let counters = receiver.counters();
    assert_eq!((counters.packets, counters.bytes), (3, 6));
    assert_eq!((counters.truncated, counters.wrong_source, counters.kernel_drops), (0, 0, 0));
    assert_eq!(sender.counters().datagrams, 4);
}

/// A source-specific line hears its source only; an any-source line on the same group hears both.
#[test]
fn a_source_specific_line_hears_its_source_only() {
    let port = port();
    let (ours, theirs) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    let specific = LineConfig { source: Some(ours), ..line(4, group(4), port) };
    let mut specific = open(&[specific], KernelOptions::default());
    let mut any = open(&[line(5, group(4), port)], KernelOptions::default());
    let to = SocketAddrV4::new(group(4), port);
    for source in [theirs, ours, theirs, ours] {
        send(&mut sender(source), to, &source.octets());
    }
    let sources = |kept: Vec<Kept>| -> Vec<Ipv4Addr> { kept.iter().map(|kept| *kept.src.ip()).collect() };
    assert_eq!(sources(receive(&mut any, 4)), [theirs, ours, theirs, ours]);
    assert_eq!(sources(receive(&mut specific, 2)), [ours, ours]);
    assert_eq!(specific.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);
}

#[test]
fn times_are_the_kernels_and_do_not_run_backwards() {
    let port = port();
    let mut receiver = open(&[line(0, group(5), port)], KernelOptions::default());
    assert_ne!(receiver.reports()[0].timestamps, Timestamps::User);
    let mut sender = sender(Ipv4Addr::LOCALHOST);
    let to = SocketAddrV4::new(group(5), port);
    // The kernel begins to stamp a moment after it is first asked to, anywhere on the machine.
    let begun = Instant::now();
    loop {
        send(&mut sender, to, b"prime");
        if receive(&mut receiver, 1)[0].ts_source == TsSource::Kernel {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the kernel never stamps");
    }
    let unstamped = receiver.counters().without_kernel_time;
    let before = clock::now();
    (0..200u8).for_each(|n| send(&mut sender, to, &[n]));
    let after = clock::now();
    let kept = receive(&mut receiver, 200);
    assert!(kept.iter().all(|kept| kept.ts_source == TsSource::Kernel));
    assert!(kept.iter().map(|kept| kept.ts_recv).is_sorted());
    assert!(kept.iter().all(|kept| before <= kept.ts_recv && kept.ts_recv <= after));
    assert!(kept.iter().map(|kept| kept.payload[0]).eq(0..200));
    assert_eq!(receiver.counters().without_kernel_time, unstamped);
}

#[test]
fn without_kernel_times_the_thread_takes_them() {
    let port = port();
    let options = KernelOptions { timestamps: Stamps::User, ..KernelOptions::default() };
    let mut receiver = open(&[line(0, group(6), port)], options);
    let before = clock::now();
    send(&mut sender(Ipv4Addr::LOCALHOST), SocketAddrV4::new(group(6), port), b"x");
    let kept = receive(&mut receiver, 1).remove(0);
    assert_eq!(kept.ts_source, TsSource::User);
    // The thread's clock is the processor's counter where that can be trusted, and off by so much.
    let bound = receiver.clocks().user_bound_ns;
    assert!(before.0 <= kept.ts_recv.0 + bound && kept.ts_recv.0 <= clock::now().0 + bound);
    assert_eq!(receiver.counters().without_kernel_time, 0);
}

/// The loopback has no card: it is said, and the kernel's times serve. No card here stamps anything; what would then
/// happen is tested with faked stamps beside the code.
#[test]
fn without_a_card_that_stamps_the_kernels_times_serve_and_the_reason_is_told() {
    let (port, group) = (port(), group(40));
    let options = || KernelOptions { timestamps: Stamps::Hardware, ..KernelOptions::default() };
    let mut receiver = open(&[line(0, group, port)], options());
    let report = receiver.reports()[0];
    assert_eq!(report.hardware, Hardware::Unavailable(NoHardwareStamps::Unsupported));
    assert_ne!(report.timestamps, Timestamps::User);
    let mut sender = sender(Ipv4Addr::LOCALHOST);
    let begun = Instant::now();
    loop {
        send(&mut sender, SocketAddrV4::new(group, port), b"x");
        if receive(&mut receiver, 1)[0].ts_source == TsSource::Kernel {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the kernel never stamps");
    }
    receiver.refresh().unwrap();
    let counters = receiver.counters();
    assert_eq!((counters.hardware_times_missing, counters.clock_comparisons), (0, 0));
    assert_eq!((receiver.hardware_fit(0), receiver.clocks().source), (None, TsSource::Kernel));
    // Which card would it be?
    let anywhere = LineConfig { group: Ipv4Addr::LOCALHOST, interface: None, ..line(0, group, port) };
    let anywhere = [anywhere];
    let hardware = open(&anywhere, options()).reports()[0].hardware;
    assert_eq!(hardware, Hardware::Unavailable(NoHardwareStamps::NoInterface));
    assert_eq!(open(&anywhere, KernelOptions::default()).reports()[0].hardware, Hardware::Off);
}

#[test]
fn datagrams_of_every_length_come_whole_or_are_counted_as_truncated() {
    let (port, group) = (port(), group(7));
    let to = SocketAddrV4::new(group, port);
    let mut large = open(&[line(0, group, port)], KernelOptions::default());
    let options = KernelOptions { max_datagram: 100, ..KernelOptions::default() };
    let mut small = open(&[line(0, group, port)], options);
    let mut sender = sender(Ipv4Addr::LOCALHOST);
    let payloads: Vec<Vec<u8>> =
        [0, 1, 99, 100, 101, 1472, 9000, 65_507].map(|len| (0..len).map(|at| (at * 7 + len) as u8).collect()).into();
    for payload in &payloads {
        send(&mut sender, to, payload);
    }
    let whole: Vec<_> = receive(&mut large, payloads.len()).into_iter().map(|kept| kept.payload).collect();
    assert_eq!(whole, payloads);
    let short: Vec<_> = receive(&mut small, 4).into_iter().map(|kept| kept.payload).collect();
    assert_eq!(short, payloads[..4]);
    while small.counters().truncated < 4 {
        small.receive(&mut |packet| panic!("{packet:?}")).unwrap();
    }
    assert_eq!(small.counters().packets, 4);
    // Longer than IPv4 can carry: the kernel refuses it, and what stood before it in the batch is sent.
    let too_long = vec![0; 65_508];
    let batch = [Outgoing { to, payload: b"first" }, Outgoing { to, payload: &too_long }];
    let error = sender.send_all(&batch, PATIENCE).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    assert_eq!(receive(&mut large, 1)[0].payload, b"first");
    assert_eq!((sender.counters().datagrams, sender.counters().unsent), (9, 1));
}

/// What the socket's buffer cannot hold is counted: by the count beside the next packet, and by asking the kernel.
#[test]
fn packets_that_overflow_the_buffer_are_counted() {
    const SENT: u64 = 2_000;
    let (port, group) = (port(), group(8));
    let to = SocketAddrV4::new(group, port);
    let options = KernelOptions { rcvbuf_bytes: Some(4096), ..KernelOptions::default() };
    let mut asks = open(&[line(0, group, port)], options.clone());
    let mut waits = open(&[line(0, group, port)], options);
    assert!(waits.reports()[0].rcvbuf_bytes < 65_536, "{:?}", waits.reports());
    let mut sender = sender(Ipv4Addr::LOCALHOST);
    let payload = [0x55; 200];
    let batch = [Outgoing { to, payload: &payload }; 50];
    for _ in 0..SENT / 50 {
        assert_eq!(sender.send_all(&batch, PATIENCE).unwrap(), 50);
    }
    assert_eq!(sender.counters().datagrams, SENT);

    // Older packets follow the newest count: none may be counted twice.
    asks.refresh().unwrap();
    let begun = Instant::now();
    while asks.counters().packets + asks.counters().kernel_drops < SENT {
        asks.receive(&mut |_| {}).unwrap();
        asks.refresh().unwrap();
        assert!(begun.elapsed() < PATIENCE, "{:?}", asks.counters());
    }
    assert_eq!(asks.receive(&mut |_| {}).unwrap(), 0);
    assert!(asks.counters().kernel_drops > 0);
    assert_eq!(asks.counters().packets + asks.counters().kernel_drops, SENT);

    // The drops come to light with the next packet that there is room for.
    while waits.receive(&mut |_| {}).unwrap() > 0 {}
    send(&mut sender, to, b"one more");
    receive(&mut waits, 1);
    assert_eq!(waits.counters().packets + waits.counters().kernel_drops, SENT + 1);
}

#[test]
fn a_waker_ends_a_wait_and_is_kept_for_the_next() {
    let options = KernelOptions { mode: Mode::Blocking, ..KernelOptions::default() };
    let mut receiver = open(&[line(0, group(9), port())], options);
    let waker = receiver.waker();
    let thread = std::thread::spawn({
        let waker = waker.clone();
        move || {
            std::thread::sleep(Duration::from_millis(50));
            waker.wake();
        }
    });
    // Without a timeout: only the waker ends this.
    let begun = Instant::now();
    assert_eq!(receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    thread.join().unwrap();
    waker.wake();
    waker.wake();
    assert_eq!(receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);
    // Both were one wake: now only the timeout ends the wait.
    receiver.set_timeout(Some(Duration::from_millis(30)));
    let begun = Instant::now();
    assert_eq!(receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!(receiver.counters().idle_waits, 3);
}

#[test]
fn a_blocking_receiver_wakes_for_packets_of_any_line() {
    let port = port();
    let (a, b) = (group(10), group(11));
    let options = KernelOptions { mode: Mode::Blocking, ..KernelOptions::default() };
    let mut receiver = open(&[line(0, a, port), line(1, b, port)], options);
    let thread = std::thread::spawn(move || {
        let mut sender = sender(Ipv4Addr::LOCALHOST);
        for to in [b, a, b] {
            std::thread::sleep(Duration::from_millis(10));
            send(&mut sender, SocketAddrV4::new(to, port), b"x");
        }
    });
    assert!(receive(&mut receiver, 3).iter().map(|kept| kept.line).eq([1, 0, 1]));
    thread.join().unwrap();
    assert_eq!(receiver.counters().idle_waits, 0);
}

#[test]
fn a_busy_receiver_asks_every_line_and_returns() {
    let port = port();
    let mut receiver = open(&[line(0, group(12), port), line(1, group(13), port)], KernelOptions::default());
    for _ in 0..10 {
        assert_eq!(receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);
    }
    assert_eq!(receiver.counters().empty_polls, 20);
}

#[test]
fn a_unicast_line_takes_one_batch_a_call() {
    let port = port();
    let address = Ipv4Addr::new(127, 0, 0, 7);
    let options = KernelOptions { batch: 8, ..KernelOptions::default() };
    let mut receiver = open(&[LineConfig { interface: None, ..line(3, address, port) }], options);
    let mut sender = sender(Ipv4Addr::LOCALHOST);
    let payloads: Vec<[u8; 1]> = (0..20).map(|n| [n]).collect();
    let batch: Vec<_> =
        payloads.iter().map(|payload| Outgoing { to: SocketAddrV4::new(address, port), payload }).collect();
    assert_eq!(sender.send_all(&batch, PATIENCE).unwrap(), 20);
    let (mut seen, mut batches) = (Vec::new(), 0);
    let begun = Instant::now();
    while seen.len() < 20 {
        let delivered = receiver.receive(&mut |packet| seen.push(packet.payload[0])).unwrap();
        assert!(delivered <= 8 && begun.elapsed() < PATIENCE);
        batches += u64::from(delivered > 0);
    }
    assert!(seen.into_iter().eq(0..20));
    assert!(batches >= 3 && receiver.counters().batches == batches);
}

/// Whatever the lengths, what passes through the kernel as one arrives as it was given, in order.
#[test]
fn segmented_datagrams_arrive_one_by_one() {
    let port = port();
    let (a, b) = (SocketAddrV4::new(group(15), port), SocketAddrV4::new(group(16), port));
    let mut receiver = open(&[line(0, *a.ip(), port), line(1, *b.ip(), port)], KernelOptions::default());
    let options = SendOptions { interface: Some("lo".into()), segmentation: true, batch: 100, ..Default::default() };
    let mut sender = UdpSender::open(&options).unwrap();
    let lens = (0..50)
        .map(|_| 1400)
        .chain([1400, 1399, 0, 0, 1, 1, 2, 1472, 700, 1472, 1472])
        .chain((0..200).map(|n| n % 7 * 100));
    let payloads: Vec<Vec<u8>> =
        lens.enumerate().map(|(n, len)| (0..len).map(|at| (at + n * 31) as u8).collect()).collect();
    let given = |to| payloads.iter().map(move |payload| Outgoing { to, payload });
    let batch: Vec<_> = given(a).chain(given(b)).collect();
    assert_eq!(sender.send_all(&batch, PATIENCE).unwrap(), batch.len());
    let kept = receive(&mut receiver, batch.len());
    for number in [0, 1] {
        let of_line = kept.iter().filter(|kept| kept.line == number).map(|kept| &kept.payload);
        assert!(of_line.eq(&payloads), "line {number}");
    }
    let counters = sender.counters();
    assert_eq!((counters.datagrams, counters.segmentation_refused), (batch.len() as u64, 0), "{counters:?}");
    assert!(counters.segmented > 100, "{counters:?}");
    assert_eq!(counters.bytes, 2 * payloads.iter().map(|payload| payload.len() as u64).sum::<u64>());
}

#[test]
fn errors_say_what_was_found_and_what_to_do() {
    let port = port();
    let refused = |config: LineConfig| KernelReceiver::open(&[config], KernelOptions::default()).unwrap_err();

    assert!(matches!(KernelReceiver::open(&[], KernelOptions::default()), Err(OpenError::NoLines)));
    let error = refused(LineConfig { interface: Some("nic9".into()), ..line(2, group(14), port) });
    assert!(error.to_string().starts_with("line 2: no interface \"nic9\": this machine has lo"), "{error}");
    let error = refused(line(2, group(14), 0));
    assert_eq!(error.to_string(), format!("line 2: port 0 given for {}: expected 1 to 65535", group(14)));
    let source = Some(Ipv4Addr::new(127, 0, 0, 2));
    let error = refused(LineConfig { source, ..line(2, Ipv4Addr::LOCALHOST, port) });
    assert!(error.to_string().contains("127.0.0.1, which is not a multicast group"), "{error}");
    let error = refused(LineConfig { source: Some(group(1)), ..line(2, group(14), port) });
    assert!(matches!(error, OpenError::BadSource { line: 2, .. }), "{error}");

    let unicast = |address| LineConfig { interface: None, ..line(2, address, port) };
    // TEST-NET-3 (RFC 5737): nobody's address.
    let error = refused(unicast(Ipv4Addr::new(203, 0, 113, 1)));
    assert!(error.to_string().contains("nor an address of this machine: it has 127.0.0.1"), "{error}");
    assert_eq!(error.os_error().and_then(|error| error.raw_os_error()), Some(libc::EADDRNOTAVAIL));
    let _owner = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let error = refused(unicast(Ipv4Addr::LOCALHOST));
    assert!(error.to_string().contains(&format!("127.0.0.1:{port} is in use")), "{error}");
    assert_eq!(error.os_error().and_then(|error| error.raw_os_error()), Some(libc::EADDRINUSE));

    let options = KernelOptions { busy_poll_us: Some(50), ..KernelOptions::default() };
    match KernelReceiver::open(&[line(2, group(14), port)], options) {
        Ok(_) => {}
        Err(error) => {
            assert!(error.to_string().contains("not permitted to set SO_BUSY_POLL (CAP_NET_ADMIN)"), "{error}")
        }
    }
    for (batch, max_datagram) in [(0, 1), (1025, 1), (1, 0), (1, 65_536)] {
        let options = KernelOptions { batch, max_datagram, ..KernelOptions::default() };
        let error = KernelReceiver::open(&[line(0, group(14), port)], options).unwrap_err();
        assert!(matches!(error, OpenError::BadOption { .. }), "{error}");
    }
    let options = SendOptions { interface: Some("nic9".into()), ..SendOptions::default() };
    let error = UdpSender::open(&options).unwrap_err();
    assert!(error.to_string().starts_with("sender: no interface \"nic9\""), "{error}");
}
