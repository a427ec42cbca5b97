//! A feed thread on loopback: joins, receives both lines, answers questions, stops.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use barewire_book::Capacity;
use barewire_engine::live::{Live, LiveConfig, StartError};
use barewire_engine::nasdaq::Setup;
use barewire_engine::pipeline::Sequencing;
use barewire_engine::receive::ReceivePath;
use barewire_engine::venue::{Publish, Subscription};
use barewire_io::LineConfig;
use barewire_io::kernel::{KernelOptions, Mode};
use barewire_ring::{RingConfig, RingRecord};
use barewire_sim::{Exchange, ExchangeConfig, MAX_MESSAGE_LEN};
use barewire_types::{Gap, Record, RecordKind, Seq, Status, StatusCode, TsSource};
use barewire_wire::moldudp64::{self, Builder, Session};

const SESSION: Session = Session(*b"LIVE000001");

/// A group and port of this process's own, so that tests may run side by side.
fn group(offset: u8) -> SocketAddrV4 {
    let pid = std::process::id();
    let [.., high, low] = pid.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(239, 200 + offset, high, low), 20_000 + (pid % 20_000) as u16)
}

fn line(line: u8, group: SocketAddrV4) -> LineConfig {
    LineConfig {
        group: *group.ip(),
        port: group.port(),
        interface: Some("lo".to_owned()),
        source: None,
        allow: Vec::new(),
        line,
    }
}

fn config(groups: &[SocketAddrV4], mode: Mode) -> LiveConfig {
    LiveConfig {
        lines: groups.iter().enumerate().map(|(n, group)| line(n as u8, *group)).collect(),
        line_names: vec!["A".to_owned(), "B".to_owned()],
        receive: ReceivePath::Kernel(KernelOptions { mode, rcvbuf_bytes: None, ..KernelOptions::default() }),
        core: None,
        drop_capabilities: true,
        recovery: barewire_engine::recovery::RecoveryConfig::default(),
        sequencing: Sequencing::default(),
        ring: RingConfig::default(),
        setup: Setup {
            publisher_id: 1,
            midnight_ns: 0,
            subscription: Subscription::All,
            publish: Publish { mbo: true, bbo: true },
            capacity: Capacity { instruments: 1 << 16, orders: 1 << 14, levels: 1 << 14 },
        },
    }
}

fn sender() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_multicast_loop_v4(true).expect("loopback");
    socket
}

fn counter(live: &Live, name: &str) -> u64 {
    live.counters().find(|(n, _)| *n == name).expect("a counter of this name").1
}

fn wait(live: &Live, name: &str, at_least: u64) {
    let until = Instant::now() + Duration::from_secs(20);
    while counter(live, name) < at_least {
        assert!(Instant::now() < until, "{name} stayed at {}, expected {at_least}", counter(live, name));
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn receives_both_lines(mode: Mode, offset: u8) {
    let groups = [group(offset), group(offset + 1)];
    let mut live = Live::start(config(&groups, mode)).expect("loopback works unprivileged");
    let mut reader = live.reader();

    let mut exchange = Exchange::new(ExchangeConfig::default()).expect("a right configuration");
    let (socket, mut message, mut packets) = (sender(), [0; MAX_MESSAGE_LEN], 0);
    let mut sequence = 1;
    let mut records = Vec::new();
    let mut batch = [RingRecord::ZERO; 512];
    while sequence < 20_000 {
        let mut bytes = [0; 1400];
        let mut builder = Builder::new(&mut bytes, SESSION, Seq(sequence));
        for _ in 0..20 {
            let bytes = exchange.next(&mut message).expect("an endless day");
            builder.push(bytes.len()).expect("room for 20").copy_from_slice(bytes);
        }
        sequence += 20;
        let len = builder.finish();
        for group in groups {
            socket.send_to(&bytes[..len], group).expect("sent");
            packets += 1;
        }
        // Never more under way than the smallest receive buffer holds.
        wait(&live, "packets", packets);
        let read = reader.read(&mut batch);
        assert_eq!(read.lost, 0);
        records.extend_from_slice(&batch[..read.count]);
    }
    for group in groups {
        socket.send_to(&moldudp64::end_of_session(SESSION, Seq(sequence)), group).expect("sent");
    }
    wait(&live, "packets_end_of_session", 2);
    loop {
        let read = reader.read(&mut batch);
        if read.count == 0 {
            break;
        }
        records.extend_from_slice(&batch[..read.count]);
    }
    assert_eq!(records.len() as u64, counter(&live, "records"));
    // How far the clock may be off is told first: the kernel's stamps are the system's clock, and of that the kernel may
    // know nothing.
    let first = Status::from(records[0].record);
    assert_eq!((first.code, first.state), (StatusCode::Clock as u8, b'3'));
    assert_eq!((counter(&live, "clock_source"), counter(&live, "clock_bound_ns")), (3, 0));
    assert_eq!(first.value == u64::MAX, counter(&live, "clock_utc_bound_ns") == u64::MAX);
    let is_clock = |record: Record| {
        record.kind() == Some(RecordKind::Status) && Status::from(record).code == StatusCode::Clock as u8
    };
    let mut told = records.iter().map(|r| r.record).filter(|record| !is_clock(*record));
    assert!(told.all(|record| Gap::from(record).ts_source == TsSource::Kernel as u8));
    assert_eq!((counter(&live, "gaps"), counter(&live, "kernel_drops")), (0, 0));
    assert_eq!(counter(&live, "messages_duplicate"), sequence - 1);
    let running = live.with(|books| books.books().digest()).expect("an answer");
    assert!(live.is_running());
    live.stop().expect("a clean end");
    assert!(!live.is_running());
    assert_eq!(live.with(|books| books.books().digest()), Some(running), "the books outlive the thread");
    assert!(reader.is_closed());
    live.stop().expect("nothing the second time");
}

#[test]
fn busy() {
    receives_both_lines(Mode::Busy, 0);
}

#[test]
fn blocking() {
    receives_both_lines(Mode::Blocking, 10);
}

#[test]
fn a_core_that_is_not_there_is_refused() {
    let config = LiveConfig { core: Some(9_999), ..config(&[group(20)], Mode::Blocking) };
    match Live::start(config) {
        Err(StartError::Pin(error)) => assert!(error.to_string().contains("9999"), "{error}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("pinned to a core that is not there"),
    }
}

#[test]
fn a_ring_that_lives_is_not_taken_over() {
    let name = format!("engine-live-{}", std::process::id());
    let ring = RingConfig { name: Some(name), ..RingConfig::default() };
    let config = LiveConfig { ring, ..config(&[group(30)], Mode::Blocking) };
    let first = Live::start(config.clone()).expect("the name is free");
    assert!(matches!(Live::start(config), Err(StartError::Ring(_))));
    drop(first);
}
