//! A whole feed over a virtual interface, on every receive path: its thread, from the card's queue to the ring, allocates
//! nothing while packets come, whatever happens to them on the way: lost on one line, swapped, lost on both, a line gone
//! silent and back. (That it makes no system call for a packet is counted from outside: tests/python/test_paths.py.)
//! Needs root: skips without, but not where CI is set.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use barewire_allocs::{Counting, allocations};
use barewire_book::Capacity;
use barewire_engine::live::{Live, LiveConfig};
use barewire_engine::nasdaq::Setup;
use barewire_engine::pipeline::Sequencing;
use barewire_engine::receive::ReceivePath;
use barewire_engine::venue::{Publish, Subscription};
use barewire_io::LineConfig;
use barewire_io::af_xdp::AfXdpOptions;
use barewire_io::io_uring::IoUringOptions;
use barewire_io::kernel::{KernelOptions, Mode};
use barewire_io::netns::NetNs;
use barewire_io::packet_mmap::{PacketMmapOptions, Version};
use barewire_io::send::{Outgoing, SendOptions, UdpSender};
use barewire_ring::{RingConfig, RingRecord};
use barewire_sim::{Exchange, ExchangeConfig, MAX_MESSAGE_LEN};
use barewire_types::Seq;
use barewire_wire::moldudp64::{Builder, Session};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const GROUPS: [SocketAddrV4; 2] = [
    SocketAddrV4::new(Ipv4Addr::new(239, 201, 0, 1), 26_477),
    SocketAddrV4::new(Ipv4Addr::new(239, 201, 0, 2), 26_478),
];
const MESSAGES_A_PACKET: u64 = 20;
const WARM_UP: usize = 1_000;
const PACKETS: usize = 4_000;
const LINE_TIMEOUT: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);

fn session() -> Vec<Vec<u8>> {
    let config = ExchangeConfig { instruments: 200, live_orders: 5_000, ..ExchangeConfig::default() };
    let mut exchange = Exchange::new(config).expect("a right configuration");
    let mut message = [0; MAX_MESSAGE_LEN];
    (0..PACKETS as u64)
        .map(|n| {
            let mut bytes = vec![0; 1400];
            let mut builder = Builder::new(&mut bytes, Session(*b"STEADY0001"), Seq(1 + n * MESSAGES_A_PACKET));
            for _ in 0..MESSAGES_A_PACKET {
                let next = exchange.next(&mut message).expect("an endless day");
                builder.push(next.len()).expect("room for 20").copy_from_slice(next);
            }
            let len = builder.finish();
            bytes.truncate(len);
            bytes
        })
        .collect()
}

fn config(receive: ReceivePath) -> LiveConfig {
    let line = |(number, group): (u8, &SocketAddrV4)| LineConfig {
        group: *group.ip(),
        port: group.port(),
        interface: Some("in0".into()),
        source: None,
        allow: Vec::new(),
        line: number,
    };
    LiveConfig {
        lines: (0..).zip(&GROUPS).map(line).collect(),
        line_names: vec!["A".to_owned(), "B".to_owned()],
        receive,
        core: None,
        drop_capabilities: true,
        recovery: barewire_engine::recovery::RecoveryConfig::default(),
        sequencing: Sequencing { line_timeout_ns: LINE_TIMEOUT.as_nanos() as u64, ..Sequencing::default() },
        ring: RingConfig { capacity: 1 << 18, ..RingConfig::default() },
        setup: Setup {
            publisher_id: 1,
            midnight_ns: 0,
            subscription: Subscription::All,
            publish: Publish { mbo: true, bbo: true },
            capacity: Capacity { instruments: 1 << 16, orders: 1 << 17, levels: 1 << 17 },
        },
    }
}

fn counter(live: &Live, name: &str) -> u64 {
    live.counters().find(|(known, _)| *known == name).expect("a counter of this name").1
}

fn wait(live: &Live, name: &str, at_least: u64) {
    let until = Instant::now() + PATIENCE;
    while counter(live, name) < at_least {
        assert!(Instant::now() < until, "{name} stayed at {}, expected {at_least}", counter(live, name));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Of the feed's thread, which answers between two batches.
fn allocations_of(live: &mut Live) -> u64 {
    live.with(|_| allocations()).expect("an answer")
}

/// The other machine: sends packets of the session to lines, and knows how many it has sent.
struct Venue {
    sender: UdpSender,
    packets: Vec<Vec<u8>>,
    sent: u64,
}

impl Venue {
    fn send(&mut self, live: &Live, lines: &[usize], packet: usize) {
        let payload = self.packets[packet].as_slice();
        for line in lines {
            assert_eq!(self.sender.send_all(&[Outgoing { to: GROUPS[*line], payload }], PATIENCE).unwrap(), 1);
            self.sent += 1;
        }
        // Fewer under way than the queues between the interfaces hold.
        if packet.is_multiple_of(25) {
            wait(live, "packets", self.sent);
        }
    }

    /// Packets `from` to `to`, with what a network does to them.
    fn send_all(&mut self, live: &Live, lines: &[usize], from: usize, to: usize) {
        let mut packet = from;
        while packet < to {
            match packet % 500 {
                123 | 124 => {}
                n if n % 50 == 7 => self.send(live, &lines[1..], packet),
                n if n % 50 == 19 && packet + 1 < to => {
                    self.send(live, lines, packet + 1);
                    self.send(live, lines, packet);
                    packet += 1;
                }
                _ => self.send(live, lines, packet),
            }
            packet += 1;
        }
        wait(live, "packets", self.sent);
    }
}

fn check(name: &str, receive: ReceivePath, venue: NetNs, feed: NetNs) {
    feed.connect(("in0", "10.97.0.1/24"), &venue, ("out0", "10.97.0.2/24")).expect("a pair of interfaces");
    let sender = std::thread::spawn(move || {
        venue.enter().expect("the venue's namespace");
        let options = SendOptions { interface: Some("out0".into()), loopback: false, ..SendOptions::default() };
        (UdpSender::open(&options).expect("a sender"), venue)
    });
    let (sender, _venue) = sender.join().expect("a sender");
    let mut venue = Venue { sender, packets: session(), sent: 0 };
    feed.enter().expect("the feed's namespace");
    let mut live = Live::start(config(receive)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut reader = live.reader();

    // Interfaces that were just set up drop what they are given for a moment.
    let until = Instant::now() + PATIENCE;
    while counter(&live, "packets") == 0 {
        assert!(Instant::now() < until, "{name}: nothing comes");
        venue.sender.send_all(&[Outgoing { to: GROUPS[0], payload: &venue.packets[0] }], PATIENCE).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(20));
    venue.sent = counter(&live, "packets");
    // The directory names instruments, once a day: that may allocate. So may the first of everything.
    venue.send_all(&live, &[0, 1], 1, WARM_UP);

    let before = (allocations_of(&mut live), counter(&live, "packets"));
    venue.send_all(&live, &[0, 1], WARM_UP, 2_000);
    // One line goes silent, the other goes on.
    let silent = Instant::now();
    let mut next = 2_000;
    while silent.elapsed() < 2 * LINE_TIMEOUT || counter(&live, "line_failures") == 0 {
        assert!(silent.elapsed() < PATIENCE, "{name}: line A is not missed");
        venue.send_all(&live, &[1, 1], next, next + 25);
        next += 25;
        std::thread::sleep(LINE_TIMEOUT / 10);
    }
    assert!(next < 3_500, "{name}: {next}");
    // And comes back.
    venue.send_all(&live, &[0, 1], next, PACKETS);
    let after = allocations_of(&mut live);
    let packets = counter(&live, "packets") - before.1;
    assert_eq!(after - before.0, 0, "{name}: allocations over {packets} packets");

    let of = |name| counter(&live, name);
    assert!(packets > 5_000 && of("gaps") >= 6 && of("line_failures") >= 1 && of("messages_reordered") > 0, "{name}");
    assert!(of("messages_missing") >= 6 * 2 * MESSAGES_A_PACKET, "{name}: {}", of("messages_missing"));
    assert_eq!((of("kernel_drops"), of("book_growths")), (0, 0), "{name}");
    // All of it came out at the other end.
    let mut batch = [RingRecord::ZERO; 512];
    let mut records = 0;
    loop {
        let read = reader.read(&mut batch);
        assert_eq!(read.lost, 0, "{name}");
        records += read.count as u64;
        if read.count == 0 {
            break;
        }
    }
    assert_eq!(records, of("records"), "{name}");
    live.stop().expect("a clean end");
}

/// Two machines, or nothing where they cannot be had.
fn machines() -> Option<(NetNs, NetNs)> {
    match NetNs::new().and_then(|feed| Ok((feed, NetNs::new()?))) {
        Ok(made) => Some(made),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI can make namespaces: {error}");
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn on_every_path(mode: Mode) {
    let v3 = PacketMmapOptions { version: Version::V3 { block_timeout_ms: 1 }, ..PacketMmapOptions::default() };
    let paths = [
        ("kernel", ReceivePath::Kernel(KernelOptions { mode, ..KernelOptions::default() })),
        ("io_uring", ReceivePath::IoUring(IoUringOptions { mode, ..IoUringOptions::default() })),
        ("packet_mmap", ReceivePath::PacketMmap(PacketMmapOptions { mode, ..PacketMmapOptions::default() })),
        ("packet_mmap v3", ReceivePath::PacketMmap(PacketMmapOptions { mode, ..v3 })),
        ("af_xdp", ReceivePath::AfXdp(AfXdpOptions { mode, ..AfXdpOptions::default() })),
    ];
    for (name, receive) in paths {
        let Some((feed, venue)) = machines() else { return };
        // Whoever is in a namespace leaves it by ending.
        std::thread::spawn(move || check(name, receive, venue, feed)).join().unwrap_or_else(|panic| {
            std::panic::resume_unwind(panic);
        });
    }
}

#[test]
fn a_busy_feed_allocates_nothing() {
    on_every_path(Mode::Busy);
}

#[test]
fn a_feed_that_sleeps_allocates_nothing() {
    on_every_path(Mode::Blocking);
}

#[test]
fn the_count_counts() {
    let before = allocations();
    drop(std::hint::black_box(vec![1u8]));
    assert_eq!(allocations(), before + 1);
}
