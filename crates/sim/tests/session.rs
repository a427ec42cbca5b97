//! What is sent, line by line, against the exchange's own messages.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use barewire_io::clock;
use barewire_sim::{
    BinaryFileMemory, BinaryFileSink, Burst, Exchange, ExchangeConfig, Length, Line, MAX_MESSAGE_LEN, MulticastLine,
    MulticastSink, Pace, PacketMemory, PcapSink, Report, SessionConfig, SessionError, SimPacket, Simulator,
    SimulatorConfig, SimulatorError, Sink, SinkError, SinkLosses, Time,
};
use barewire_types::UnixNanos;
use barewire_wire::frame;
use barewire_wire::itch50::Prefix;
use barewire_wire::moldudp64::{Packet, PacketKind};

const MIDNIGHT: u64 = 1_767_589_200_000_000_000;

fn exchange(messages: u64) -> ExchangeConfig {
    ExchangeConfig { instruments: 20, live_orders: 500, length: Length::Messages(messages), ..Default::default() }
}

/// The exchange's messages, one by one.
fn messages(config: ExchangeConfig) -> Vec<Vec<u8>> {
    let mut exchange = Exchange::new(config).unwrap();
    let mut buffer = [0; MAX_MESSAGE_LEN];
    std::iter::from_fn(|| exchange.next(&mut buffer).map(<[u8]>::to_vec)).collect()
}

fn run(config: SimulatorConfig) -> (PacketMemory, Report) {
    let mut packets = PacketMemory::default();
    let report = Simulator::new(config).unwrap().run(&mut [&mut packets], &AtomicBool::new(false)).unwrap();
    (packets, report)
}

/// What a line carried, with its numbering checked: its messages, its packets' message counts, and how many heartbeats
/// and ends it had.
struct Heard {
    messages: Vec<Vec<u8>>,
    counts: Vec<u16>,
    heartbeats: u64,
    ends: u64,
}

fn hear<'a>(packets: impl Iterator<Item = SimPacket<'a>>, config: &SessionConfig) -> Heard {
    let mut heard = Heard { messages: Vec::new(), counts: Vec::new(), heartbeats: 0, ends: 0 };
    let mut last = UnixNanos::ABSENT;
    for SimPacket { time, payload, .. } in packets {
        let packet = Packet::parse(payload).unwrap();
        assert!(!packet.is_damaged() && payload.len() <= config.max_payload);
        assert_eq!(packet.session(), config.session);
        assert_eq!(packet.sequence().0, heard.messages.len() as u64 + 1, "nothing is missing, nothing comes twice");
        assert!(time >= last, "times do not go back");
        last = time;
        match packet.kind() {
            PacketKind::Messages => {
                assert_eq!(heard.ends, 0);
                heard.counts.push(packet.whole());
                heard.messages.extend(packet.messages().map(<[u8]>::to_vec));
            }
            PacketKind::Heartbeat => heard.heartbeats += 1,
            PacketKind::EndOfSession => heard.ends += 1,
        }
    }
    heard
}

/// Both lines carry the exchange's messages, however they are cut, delayed or paced.
#[test]
fn lines_carry_the_same_messages() {
    let usual = SessionConfig::default();
    let sessions = [
        usual,
        SessionConfig { messages_per_packet: Some(1), ..usual },
        SessionConfig { messages_per_packet: Some(40), max_payload: 1_472, b_delay_ns: 70_000, ..usual },
        SessionConfig { different_cuts: true, ..usual },
        SessionConfig { different_cuts: true, messages_per_packet: Some(10), b_delay_ns: 2_000_000, ..usual },
        SessionConfig { different_cuts: true, max_payload: 200, ..usual },
        SessionConfig { b_line: false, max_payload: 65_507, end_packets: 1, ..usual },
    ];
    let expected = messages(exchange(30_000));
    for session in sessions {
        for pace in [Pace::Max, Pace::per_second(2_000_000)] {
            let config = SimulatorConfig { exchange: exchange(30_000), session, pace, ..Default::default() };
            let (packets, report) = run(config);
            let a = hear(packets.line(Line::A), &session);
            let b = hear(packets.line(Line::B), &session);
            println!("{session:?} {pace:?} {report:?}");
            assert!(a.messages == expected);
            assert_eq!(report.messages, expected.len() as u64);
            assert_eq!((report.a.packets, a.ends), (a.counts.len() as u64, u64::from(session.end_packets)));
            assert_eq!(report.heartbeats, a.heartbeats + b.heartbeats);
            assert_eq!((report.stopped, report.send_errors, report.unsent), (false, 0, 0));
            if session.b_line {
                assert!(b.messages == expected);
                assert_eq!((report.b.packets, b.ends), (b.counts.len() as u64, u64::from(session.end_packets)));
                assert_eq!(a.counts != b.counts, session.different_cuts);
            } else {
                assert_eq!((b.counts.len(), report.b.packets), (0, 0));
            }
            if let (Some(wanted), true) = (session.messages_per_packet, session.max_payload >= 1_400) {
                let (last, others) = a.counts.split_last().unwrap();
                let full = others.iter().filter(|count| **count == wanted).count();
                assert!(*last <= wanted && full * 10 >= others.len() * 9, "full, but where the payload was before");
            }
        }
    }
}

/// In simulated time packets carry the exchange's, the B line comes later by its delay, and gaps have their heartbeats.
#[test]
fn simulated_time_is_the_exchanges() {
    let session = SessionConfig { b_delay_ns: 1_000, messages_per_packet: Some(7), ..Default::default() };
    let (packets, report) = run(SimulatorConfig { exchange: exchange(20_000), session, ..Default::default() });
    let times = |line| packets.line(line).map(|packet| (packet.time.0, packet.payload.to_vec()));
    let mut pairs = 0;
    for ((a, payload), (b, same)) in times(Line::A).zip(times(Line::B)) {
        assert!(payload == same);
        let packet = Packet::parse(&payload).unwrap();
        if let Some(last) = packet.messages().last() {
            assert_eq!(a, MIDNIGHT + Prefix::of(last).unwrap().timestamp_ns());
            assert_eq!(b, a + 1_000);
            pairs += 1;
        }
    }
    assert_eq!(pairs, report.a.packets);
    // The day has long gaps before its opening and after its close.
    let heard = hear(packets.line(Line::A), &session);
    assert!(heard.heartbeats >= 6 && heard.heartbeats <= 3 * report.a.packets, "{}", heard.heartbeats);
    assert!(packets.iter().map(|packet| packet.time).is_sorted(), "both lines together, in order of time");
}

/// With real time, messages carry the moment of their sending, the same on both lines, by a schedule that holds.
#[test]
fn real_time_is_stamped_into_messages() {
    let session = SessionConfig { different_cuts: true, ..Default::default() };
    let exchange = ExchangeConfig { length: Length::Endless, ..exchange(0) };
    let begin = clock::now().0;
    let config = SimulatorConfig {
        exchange,
        session,
        pace: Pace::Rate {
            per_second: 100_000,
            burst: Some(Burst { factor: 5, length_ns: 10_000_000, every_ns: 100_000_000 }),
        },
        time: Time::Real,
        midnight: UnixNanos(begin - 1_000_000_000),
        run_for_ns: Some(300_000_000),
        prepare: false,
    };
    let (packets, report) = run(config);
    let end = clock::now().0;
    assert!(report.messages > 40_000, "three bursts and what is between: {report:?}");
    let (a, b) = (hear(packets.line(Line::A), &session), hear(packets.line(Line::B), &session));
    assert!(a.messages == b.messages);
    let mut last = begin;
    for packet in packets.line(Line::A) {
        for message in Packet::parse(packet.payload).unwrap().messages() {
            let at = begin - 1_000_000_000 + Prefix::of(message).unwrap().timestamp_ns();
            assert!(at >= last && at <= packet.time.0 && packet.time.0 <= end);
            last = at;
        }
    }
    assert_eq!(a.messages.last().unwrap()[..1], *b"S", "the closing sequence was run");
    assert!(report.late_packets <= report.a.packets && (report.max_late_ns > 100_000) == (report.late_packets > 0));
}

/// An idle session beats; one that is stopped ends in due form.
#[test]
fn idle_sessions_beat_until_they_are_stopped() {
    let session = SessionConfig { heartbeat_ns: 5_000_000, end_interval_ns: 1_000_000, ..Default::default() };
    let exchange = ExchangeConfig { length: Length::Endless, ..exchange(0) };
    let config = SimulatorConfig { exchange, session, pace: Pace::per_second(1), ..Default::default() };
    let stop = AtomicBool::new(false);
    let simulator = Simulator::new(config).unwrap();
    let progress = simulator.progress();
    let mut packets = PacketMemory::default();
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            while progress.messages() < 1 {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
        });
        simulator.run(&mut [&mut packets], &stop).unwrap()
    });
    let heard = hear(packets.line(Line::B), &session);
    assert!(heard.heartbeats >= 2 && report.heartbeats >= 4, "{report:?}");
    assert_eq!((heard.ends, report.stopped), (3, true));
    assert_eq!(progress.messages(), report.messages);
}

/// What was prepared is what would have been generated.
#[test]
fn preparing_changes_nothing() {
    let session = SessionConfig { messages_per_packet: Some(25), ..Default::default() };
    let config = SimulatorConfig { exchange: exchange(10_000), session, ..Default::default() };
    let (usual, prepared) = (run(config), run(SimulatorConfig { prepare: true, ..config }));
    assert!(
        usual.0.iter().map(|p| (p.line, p.time, p.payload)).eq(prepared.0.iter().map(|p| (p.line, p.time, p.payload)))
    );
    assert_eq!(usual.1.a, prepared.1.a);
    let paced = SimulatorConfig { prepare: true, pace: Pace::per_second(1_000_000), time: Time::Real, ..config };
    let (packets, report) = run(paced);
    assert_eq!(hear(packets.line(Line::A), &session).counts, hear(usual.0.line(Line::A), &session).counts);
    assert!(report.elapsed_ns >= 10_000_000, "10,000 messages at a million a second: {report:?}");
}

/// Files hold what memory holds.
#[test]
fn files_hold_the_session() {
    let config = SimulatorConfig { exchange: exchange(5_000), ..Default::default() };
    let [from, a, b] = [("10.0.0.1", 7_000), ("239.255.64.1", 26_477), ("239.255.64.2", 26_478)]
        .map(|(address, port)| SocketAddrV4::new(address.parse().unwrap(), port));
    let (mut packets, mut file, mut memory) = (PacketMemory::default(), Vec::new(), BinaryFileMemory::default());
    let (mut both, mut only_a) = (Vec::new(), Vec::new());
    {
        let mut both = PcapSink::new(&mut both, from, a, Some(b)).unwrap();
        let mut only_a = PcapSink::new(&mut only_a, from, a, None).unwrap();
        let mut file = BinaryFileSink::new(&mut file);
        let sinks: &mut [&mut dyn Sink] = &mut [&mut packets, &mut both, &mut only_a, &mut file, &mut memory];
        Simulator::new(config).unwrap().run(sinks, &AtomicBool::new(false)).unwrap();
    }
    let expected: Vec<u8> = messages(config.exchange)
        .iter()
        .flat_map(|message| [&(message.len() as u16).to_be_bytes(), message.as_slice()].concat())
        .collect();
    assert!(file == expected && memory.0 == expected);

    // The pcap by hand: a header of 24 bytes, then records of 16 and their frames.
    let mut rest = both.as_slice();
    assert_eq!(rest[..4], 0xa1b2_3c4d_u32.to_le_bytes());
    rest = &rest[24..];
    for packet in packets.iter() {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        assert_eq!(u64::from(word(0)) * 1_000_000_000 + u64::from(word(4)), packet.time.0);
        let len = word(8) as usize;
        let datagram = frame::datagram(&rest[16..16 + len]).unwrap();
        assert_eq!((datagram.src, datagram.payload), (from, packet.payload));
        assert_eq!(datagram.dst, if packet.line == Line::A { a } else { b });
        rest = &rest[16 + len..];
    }
    assert!(rest.is_empty() && only_a.len() < both.len() * 6 / 10);
}

/// Sends, and then waits until everything has been heard, as plain sockets hold little and this machine may be busy.
struct Lockstep<'h> {
    inner: MulticastSink,
    sent: [u64; 2],
    heard: &'h [AtomicU64; 2],
}

impl Sink for Lockstep<'_> {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        self.inner.take(packets)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        for (which, line) in [Line::A, Line::B].into_iter().enumerate() {
            self.sent[which] += packets.iter().filter(|packet| packet.line == line).count() as u64;
            while self.heard[which].load(Ordering::Acquire) < self.sent[which] {
                assert!(Instant::now() < deadline, "nobody hears line {line:?}");
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }

    fn losses(&self) -> SinkLosses {
        self.inner.losses()
    }
}

/// Multicast over loopback, heard by plain sockets: everything arrives on both lines.
#[test]
fn multicast_is_heard() {
    let group = Ipv4Addr::new(239, 255, 93, (std::process::id() % 250) as u8 + 1);
    let sockets = [0, 1].map(|_| {
        let socket = UdpSocket::bind((group, 0)).unwrap();
        socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    });
    let lines = [&sockets[0], &sockets[1]].map(|socket| MulticastLine {
        to: SocketAddrV4::new(group, socket.local_addr().unwrap().port()),
        interface: Some("lo".into()),
        source: None,
    });
    let session = SessionConfig::default();
    let config = SimulatorConfig {
        exchange: exchange(20_000),
        session,
        pace: Pace::per_second(100_000),
        time: Time::Real,
        midnight: UnixNanos(clock::now().0),
        ..Default::default()
    };
    let counts = [const { AtomicU64::new(0) }; 2];
    let heard = std::thread::scope(|scope| {
        let mut which = counts.iter();
        let receivers = sockets.map(|socket| {
            let count = which.next().unwrap();
            scope.spawn(move || {
                let mut packets = PacketMemory::default();
                let (mut buffer, mut ends) = ([0; 2_048], 0);
                loop {
                    let len = socket.recv(&mut buffer).unwrap();
                    let packet = SimPacket { line: Line::A, time: clock::now(), payload: &buffer[..len] };
                    packets.take(&[packet]).unwrap();
                    count.fetch_add(1, Ordering::Release);
                    // Of several ends one is enough, but all have to be counted.
                    ends += u32::from(Packet::parse(packet.payload).unwrap().kind() == PacketKind::EndOfSession);
                    if ends == session.end_packets {
                        return packets;
                    }
                }
            })
        });
        let inner = MulticastSink::open(&lines[0], Some(&lines[1]), 0).unwrap();
        let mut sink = Lockstep { inner, sent: [0; 2], heard: &counts };
        let report = Simulator::new(config).unwrap().run(&mut [&mut sink], &AtomicBool::new(false)).unwrap();
        assert_eq!((report.send_errors, report.unsent), (0, 0));
        let [a, b] = receivers.map(|receiver| hear(receiver.join().unwrap().iter(), &session));
        assert_eq!((a.messages.len() as u64, b.messages.len() as u64), (report.messages, report.messages));
        [a, b]
    });
    assert!(heard[0].messages == heard[1].messages);
    let sent = messages(config.exchange);
    let without_time = |message: &Vec<u8>| [&message[..5], &message[11..]].concat();
    assert!(heard[0].messages.iter().map(without_time).eq(sent.iter().map(without_time)));
}

/// Nobody can send to a port 0; the run says so instead of counting millions of refusals.
#[test]
fn what_cannot_be_sent_ends_the_run() {
    let line = MulticastLine { to: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), interface: None, source: None };
    let mut sink = MulticastSink::open(&line, None, 0).unwrap();
    let simulator = Simulator::new(SimulatorConfig { exchange: exchange(1_000), ..Default::default() }).unwrap();
    let error = simulator.run(&mut [&mut sink], &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, SinkError::Send(_)) && error.to_string().starts_with("cannot send: "), "{error}");
}

/// A stop is noticed while nothing is due, long before the next message.
#[test]
fn a_stop_does_not_wait_for_the_next_message() {
    let session = SessionConfig { heartbeat_ns: u64::MAX, end_packets: 1, ..Default::default() };
    let pace = Pace::Rate { per_second: 1, burst: None };
    let config = SimulatorConfig { exchange: exchange(1_000_000), session, pace, ..Default::default() };
    let stop = AtomicBool::new(true);
    let begin = Instant::now();
    let mut packets = PacketMemory::default();
    let report = Simulator::new(config).unwrap().run(&mut [&mut packets], &stop).unwrap();
    println!("{:?}", begin.elapsed());
    assert_eq!((report.messages, report.stopped, packets.len()), (0, true, 2));
}

#[test]
fn wrong_configurations_are_refused() {
    let good = SimulatorConfig::default();
    let session = |change: fn(&mut SessionConfig)| {
        let mut session = good.session;
        change(&mut session);
        SimulatorConfig { session, ..good }
    };
    let endless = ExchangeConfig { length: Length::Endless, ..good.exchange };
    let cases = [
        (session(|s| s.max_payload = 71), SimulatorError::Session(SessionError::MaxPayload)),
        (session(|s| s.max_payload = 65_508), SimulatorError::Session(SessionError::MaxPayload)),
        (session(|s| s.messages_per_packet = Some(0)), SimulatorError::Session(SessionError::MessagesPerPacket)),
        (session(|s| s.messages_per_packet = Some(0xffff)), SimulatorError::Session(SessionError::MessagesPerPacket)),
        (session(|s| s.heartbeat_ns = 0), SimulatorError::Session(SessionError::Heartbeat)),
        (session(|s| s.end_packets = 0), SimulatorError::Session(SessionError::EndPackets)),
        (SimulatorConfig { pace: Pace::per_second(0), ..good }, SimulatorError::Pace),
        (SimulatorConfig { prepare: true, exchange: endless, ..good }, SimulatorError::PrepareEndless),
    ];
    for (config, error) in cases {
        assert_eq!(Simulator::new(config).err(), Some(error));
        assert!(error.to_string().contains(error.name()), "{error}");
    }
}
