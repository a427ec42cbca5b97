//! Replays: nothing is lost to an error or a quiet pipe, every message is counted, and time passes as it did.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use barewire_book::Capacity;
use barewire_engine::counters::Counter;
use barewire_engine::inspect::{InspectConfig, Inspector, Style, protocol};
use barewire_engine::nasdaq::Setup;
use barewire_engine::pipeline::Sequencing;
use barewire_engine::replay::{Replay, ReplayConfig};
use barewire_engine::venue::{Publish, Subscription};
use barewire_io::capture::{BinaryFileWriter, Capture, Format, PcapWriter, SwitchTimes};
use barewire_line::Snapshots;
use barewire_ring::RingRecord;
use barewire_sim::recovery::Fault;
use barewire_sim::{Exchange, ExchangeConfig, Impairment, MAX_MESSAGE_LEN, MessageBuffer, Site, SiteConfig};
use barewire_types::{Gap, Record, Seq, TsSource, UnixNanos};
use barewire_wire::frame;
use barewire_wire::moldudp64::{Builder, Session};
use barewire_wire::trailers::{self, Kind, Stamp};

const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 1000);
const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 2000);
const TIME: u64 = 1_700_000_000_000_000_000;
const MS: u64 = 1_000_000;

fn config(pace: Option<f64>) -> ReplayConfig {
    ReplayConfig {
        setup: Setup {
            publisher_id: 1,
            midnight_ns: 0,
            subscription: Subscription::All,
            publish: Publish { mbo: true, bbo: true },
            capacity: Capacity { instruments: 64, orders: 4096, levels: 4096 },
        },
        sequencing: Sequencing { from_file: true, ..Sequencing::default() },
        pace,
        group: None,
        port: None,
        switch_times: None,
    }
}

fn day(count: usize) -> Vec<Vec<u8>> {
    let config = ExchangeConfig { seed: 5, instruments: 20, live_orders: 400, ..ExchangeConfig::default() };
    let mut exchange = Exchange::new(config).expect("a right configuration");
    let mut buffer: MessageBuffer = [0; MAX_MESSAGE_LEN];
    std::iter::from_fn(|| exchange.next(&mut buffer).map(<[u8]>::to_vec)).take(count).collect()
}

/// A pcap: (time, the first message's number, messages) a packet, and where each packet ends.
fn pcap(packets: &[(u64, u64, &[Vec<u8>])]) -> (Vec<u8>, Vec<usize>) {
    let mut ends = Vec::new();
    let mut file = Vec::new();
    for &(time, sequence, messages) in packets {
        let mut payload = vec![0; 65_000];
        let mut builder = Builder::new(&mut payload, Session(*b"REPLAY0001"), Seq(sequence));
        for message in messages {
            builder.push(message.len()).expect("room").copy_from_slice(message);
        }
        let len = builder.finish();
        let mut writer = PcapWriter::new(Vec::new()).expect("memory");
        writer.write_datagram(UnixNanos(time), FROM, TO, &payload[..len]).expect("memory");
        let one = writer.finish().expect("memory");
        // Each writer begins with the file's header of 24 bytes.
        file.extend_from_slice(if file.is_empty() { &one } else { &one[24..] });
        ends.push(file.len());
    }
    (file, ends)
}

fn binary(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = BinaryFileWriter::new(Vec::new());
    for message in messages {
        writer.write_message(message).expect("memory");
    }
    writer.finish().expect("memory")
}

/// What a reader says next.
enum Says {
    Bytes(Vec<u8>),
    NothingYet,
    Fails,
}

/// Says what it was told to, then that there is no more.
#[derive(Clone)]
struct Script(Arc<Mutex<VecDeque<Says>>>);

impl Script {
    fn new(says: impl IntoIterator<Item = Says>) -> Script {
        Script(Arc::new(Mutex::new(says.into_iter().collect())))
    }

    fn capture(&self, format: Format) -> Capture {
        Capture::from_watched(Box::new(self.clone()), Some(format), Box::new(|| Ok(()))).expect("a capture")
    }
}

impl Read for Script {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut says = self.0.lock().expect("one thread");
        match says.pop_front() {
            None => Ok(0),
            Some(Says::NothingYet) => Err(io::ErrorKind::WouldBlock.into()),
            Some(Says::Fails) => Err(io::Error::from_raw_os_error(5)),
            Some(Says::Bytes(mut bytes)) => {
                let len = bytes.len().min(into.len());
                into[..len].copy_from_slice(&bytes[..len]);
                if len < bytes.len() {
                    says.push_front(Says::Bytes(bytes.split_off(len)));
                }
                Ok(len)
            }
        }
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// All records, numbered as they should be.
fn read_all(replay: &mut Replay) -> Vec<Record> {
    let mut records = Vec::new();
    let mut out = [RingRecord::ZERO; 100];
    loop {
        let step = replay.read(&mut out, None, soon()).expect("a file without errors");
        for record in &out[..step.records] {
            assert_eq!(record.ring_sequence, records.len() as u64);
            records.push(record.record);
        }
        if step.at_end {
            return records;
        }
    }
}

fn replay(bytes: Vec<u8>, format: Format, pace: Option<f64>) -> Replay {
    Replay::new(Script::new([Says::Bytes(bytes)]).capture(format), config(pace)).expect("memory")
}

/// Files as pcap and as BinaryFILE, cut somewhere in the middle of a record.
fn files() -> [(Format, Vec<u8>, usize); 2] {
    let day = day(2_000);
    let packets: Vec<_> =
        day.chunks(20).enumerate().map(|(n, part)| (TIME + n as u64, n as u64 * 20 + 1, part)).collect();
    let (frames, ends) = pcap(&packets);
    let messages = binary(&day);
    let middle = messages.len() / 2;
    [(Format::Pcap, frames, ends[60] + 9), (Format::BinaryFile, messages, middle)]
}

/// What was read before an error is handed out, held messages too, then the error, once.
#[test]
fn an_error_comes_after_all_that_was_read_before_it() {
    for (format, file, cut) in files() {
        let expected = read_all(&mut replay(file[..cut].to_vec(), format, None));
        let script = Script::new([Says::Bytes(file[..cut].to_vec()), Says::Fails]);
        let mut broken = Replay::new(script.capture(format), config(None)).expect("memory");
        let mut records = Vec::new();
        // Larger than all that there is: error and records meet in one call.
        let mut out = vec![RingRecord::ZERO; 100_000];
        let error = loop {
            match broken.read(&mut out, None, soon()) {
                Ok(step) => {
                    assert!(step.records > 0 && !step.at_end);
                    records.extend(out[..step.records].iter().map(|record| record.record));
                }
                Err(error) => break error,
            }
        };
        assert!(error.to_string().starts_with("cannot read on"), "{error}");
        assert!(records.len() > 500);
        assert_eq!(records, expected, "{format}");
        // Told once; the reader has no more.
        assert!(broken.read(&mut out, None, soon()).expect("told already").at_end);
    }
}

/// A pipe that has nothing yet: what came so far is handed out at once, and nothing of it twice or never.
#[test]
fn a_quiet_pipe_hands_out_what_came_and_goes_on() {
    for (format, file, cut) in files() {
        let expected = read_all(&mut replay(file.clone(), format, None));
        for pace in [None, Some(1e9)] {
            let says = [
                Says::NothingYet,
                Says::Bytes(file[..cut].to_vec()),
                Says::NothingYet,
                Says::NothingYet,
                Says::Bytes(file[cut..cut + 1].to_vec()),
                Says::NothingYet,
                Says::Bytes(file[cut + 1..].to_vec()),
                Says::NothingYet,
            ];
            let mut quiet = Replay::new(Script::new(says).capture(format), config(pace)).expect("memory");
            let mut out = vec![RingRecord::ZERO; 100_000];
            let mut records = Vec::new();
            let mut empty = 0;
            loop {
                let step = quiet.read(&mut out, None, soon()).expect("no errors");
                records.extend(out[..step.records].iter().map(|record| record.record));
                if step.at_end {
                    break;
                }
                empty += u32::from(step.records == 0);
            }
            assert_eq!(records, expected, "{format} {pace:?}");
            assert!(empty > 0, "{format} {pace:?}");
        }
    }
}

/// The inspector likewise.
#[test]
fn an_inspector_of_a_quiet_pipe_goes_on() {
    let config = || InspectConfig {
        protocol: protocol("itch-5.0").expect("it is known"),
        style: Style::Json,
        types: Vec::new(),
        limit: None,
    };
    for (format, file, cut) in files() {
        let show = |says: Vec<Says>| {
            let mut inspector = Inspector::new(Script::new(says).capture(format), config());
            let mut out = Vec::new();
            let mut calls = 0;
            while inspector.show(&mut out, usize::MAX >> 1, soon()).expect("no errors") {
                calls += 1;
            }
            (out, calls)
        };
        let (whole, calls) = show(vec![Says::Bytes(file.clone())]);
        assert_eq!((whole.iter().filter(|byte| **byte == b'\n').count(), calls), (2_000, 0));
        let (parts, calls) =
            show(vec![Says::Bytes(file[..cut].to_vec()), Says::NothingYet, Says::Bytes(file[cut..].to_vec())]);
        assert!(parts == whole && calls == 1, "{format}");

        // Of which nothing is shown, it still gives way when its time has passed.
        let nothing = InspectConfig { types: vec![b'?'], ..config() };
        let repeated = match format {
            Format::BinaryFile => binary(&day(20_000)),
            _ => pcap(&vec![(TIME, 1, &day(1)[..]); 20_000]).0,
        };
        let mut inspector = Inspector::new(Script::new([Says::Bytes(repeated)]).capture(format), nothing);
        let mut calls = 1;
        while inspector.show(&mut Vec::new(), 1, Instant::now()).expect("no errors") {
            calls += 1;
        }
        assert!(calls >= 4, "{format}: {calls}");
    }
}

/// How long a replay takes, at least.
fn seconds(bytes: Vec<u8>, format: Format, pace: f64) -> (Duration, usize) {
    let mut replay = replay(bytes, format, Some(pace));
    let begun = Instant::now();
    let records = read_all(&mut replay).len();
    (begun.elapsed(), records)
}

/// The first interval counts like any other: the first frame, read when the file was opened, begins the time.
#[test]
fn the_first_interval_is_waited_for() {
    let day = day(40);
    let parts: Vec<_> = day.chunks(20).collect();
    let (file, _) = pcap(&[(TIME, 1, parts[0]), (TIME + 300 * MS, 21, parts[1])]);
    let (took, records) = seconds(file.clone(), Format::Pcap, 1.0);
    assert!(took >= Duration::from_millis(300) && records > 0, "{took:?}");
    let (took, _) = seconds(file, Format::Pcap, 3.0);
    assert!(took >= Duration::from_millis(100), "{took:?}");
}

/// Times that are absent or lie before the beginning are no times to wait by; and none of them is the beginning.
#[test]
fn events_without_a_time_or_from_before_are_due_at_once() {
    let day = day(100);
    let parts: Vec<_> = day.chunks(20).collect();
    let (file, _) = pcap(&[
        (0, 1, parts[0]),
        (TIME, 21, parts[1]),
        (TIME - 3_600_000 * MS, 41, parts[2]),
        (0, 61, parts[3]),
        (TIME + 100 * MS, 81, parts[4]),
    ]);
    let expected = read_all(&mut replay(file.clone(), Format::Pcap, None)).len();
    let (took, records) = seconds(file, Format::Pcap, 1.0);
    assert_eq!(records, expected);
    assert!(took >= Duration::from_millis(100), "{took:?}");

    // A message too short for a time, and one whose time says nothing, before those of the day.
    let mut messages = vec![b"S234567890".to_vec(), vec![b'?']];
    messages.extend(day);
    let expected = read_all(&mut replay(binary(&messages), Format::BinaryFile, None)).len();
    let (_, records) = seconds(binary(&messages), Format::BinaryFile, 1e6);
    assert_eq!(records, expected);
}

/// Messages that were held until the end are counted as worked off, as the counters have them.
#[test]
fn messages_held_until_the_end_are_counted() {
    let day = day(60);
    let parts: Vec<_> = day.chunks(20).collect();
    // The packet between them is missing, and nothing after it makes anybody give it up.
    let (file, _) = pcap(&[(TIME, 1, parts[0]), (TIME, 41, parts[2])]);
    let mut replay = replay(file, Format::Pcap, None);
    read_all(&mut replay);
    assert_eq!(replay.messages(), 40);
    assert_eq!(replay.counters().get(Counter::Messages), 40);
    assert_eq!(replay.counters().get(Counter::MessagesMissing), 20);
}

/// A network with nobody to ask but a snapshot server that says nothing.
fn bad_network(lines: Vec<Impairment>) -> Box<Site> {
    Box::new(Site::new(SiteConfig { lines, rerequest: vec![], snapshot: vec![Fault::Silent], ..SiteConfig::default() }))
}

/// A time that is wrong by eighty years is passed over, though somebody waits for something all that time.
#[test]
fn a_time_that_is_wrong_does_not_hold_a_replay_up() {
    let day = day(100);
    let parts: Vec<_> = day.chunks(20).collect();
    let far = TIME + 80 * 365 * 86_400_000 * MS;
    let (file, _) = pcap(&[(TIME, 1, parts[0]), (TIME, 21, parts[1]), (TIME, 41, parts[2]), (far, 61, parts[3])]);
    let mut config = config(None);
    config.sequencing.recovery.snapshots = Some(Snapshots { servers: 1, attempts: 1, retry_ns: 10_000 * MS });
    let mut replay = Replay::new(Script::new([Says::Bytes(file)]).capture(Format::Pcap), config).expect("memory");
    replay.send_over(bad_network(vec![Impairment { drop: vec![1..2, 9..10], ..Impairment::default() }]), 1);
    read_all(&mut replay);
    assert_eq!(replay.messages(), 60);
    assert_eq!(replay.counters().get(Counter::MessagesMissing), 20);
}

/// What is under way when the capture is over arrives, however late.
#[test]
fn the_last_packets_arrive_however_late() {
    let day = day(60);
    let packets: Vec<_> = day.chunks(20).enumerate().map(|(n, part)| (TIME, n as u64 * 20 + 1, part)).collect();
    let (file, _) = pcap(&packets);
    let mut replay = replay(file, Format::Pcap, None);
    let longest = Impairment { delay_ns: 60_000 * MS, jitter_ns: 60_000 * MS, ..Impairment::default() };
    replay.send_over(bad_network(vec![longest]), 1);
    read_all(&mut replay);
    assert_eq!(replay.counters().get(Counter::Packets), 3);
}

/// A pcap of one message a packet, each frame as a switch sent it on: with its time, a second before the capture's, or as
/// it was where there is none.
fn from_switch(messages: &[Vec<u8>], times: &[Option<(Kind, u64)>]) -> Vec<u8> {
    let mut writer = PcapWriter::new(Vec::new()).expect("memory");
    for (number, (message, switch)) in messages.iter().zip(times).enumerate() {
        let mut payload = [0; 256];
        let mut builder = Builder::new(&mut payload, Session(*b"REPLAY0001"), Seq(number as u64 + 1));
        builder.push(message.len()).expect("room").copy_from_slice(message);
        let len = builder.finish();
        let mut frame = [0; 512];
        let mut len = frame::encode(&mut frame, None, FROM, TO, &payload[..len]).expect("room");
        if let Some((kind, ts)) = *switch {
            let ts = UnixNanos(ts);
            let stamp = Stamp { kind, ts, device: 1, port: 2, degraded: number == 0, may_be_late: false };
            len = trailers::encode(&mut frame, len, &stamp, number % 2 == 0).expect("room");
        }
        writer.write_frame(UnixNanos(TIME + number as u64 * MS), &frame[..len]).expect("memory");
    }
    writer.finish().expect("memory")
}

/// Receive times of the records, a packet each, and what the replay says of them.
fn received(file: &[u8], times: Option<SwitchTimes>, pace: Option<f64>) -> (Vec<u64>, Replay) {
    let capture = Capture::from_reader(Box::new(io::Cursor::new(file.to_vec()))).expect("a capture");
    let mut replay = Replay::new(capture, ReplayConfig { switch_times: times, ..config(pace) }).expect("memory");
    let mut records = vec![RingRecord::ZERO; 4096];
    let mut found = Vec::new();
    loop {
        let step = replay.read(&mut records, None, soon()).expect("a whole file");
        for record in &records[..step.records] {
            // Every kind begins alike.
            let head = Gap::from(record.record);
            let source = if head.ts_recv == 0 { TsSource::None } else { TsSource::Capture };
            assert_eq!(head.ts_source, source as u8);
            if found.last() != Some(&head.ts_recv) {
                found.push(head.ts_recv);
            }
        }
        if step.at_end {
            replay.counters().check().expect("sums");
            return (found, replay);
        }
    }
}

#[test]
fn receive_times_are_the_switchs_where_it_was_asked_for_and_the_captures_where_it_has_none() {
    // Orders, each in a packet of its own.
    let messages: Vec<Vec<u8>> = day(400).into_iter().filter(|message| message[0] == b'A').take(5).collect();
    for kind in Kind::ALL {
        let at = |number: u64| TIME + number * MS - 1_000 * MS;
        let far = 2_000_000_000_000_000_000;
        let switch = [Some((*kind, at(0))), None, Some((*kind, at(2))), Some((*kind, far)), Some((*kind, at(4)))];
        let file = from_switch(&messages, &switch);
        let own: Vec<u64> = (0..5).map(|number| TIME + number * MS).collect();
        let switches = vec![at(0), own[1], at(2), own[3], at(4)];

        let (times, mut replay) = received(&file, None, None);
        assert_eq!((times, replay.warnings()), (own.clone(), vec![]));
        assert_eq!(replay.counters().get(Counter::SwitchTimes), 0);
        for pace in [None, Some(1e6)] {
            let (times, mut replay) = received(&file, Some(SwitchTimes::Of(*kind)), pace);
            assert_eq!(times, switches);
            assert_eq!(replay.first_packet_time(), UnixNanos(at(0)));
            let counted = [Counter::SwitchTimes, Counter::SwitchTimesMissing, Counter::SwitchTimesImplausible];
            assert_eq!(counted.map(|counter| replay.counters().get(counter)), [3, 1, 1]);
            let name = kind.name();
            let mut told = vec![
                format!("1 of 5 packets have no {name} time; theirs is the capture's own"),
                format!("1 of 5 packets have no plausible {name} time; theirs is the capture's own"),
            ];
            if *kind == Kind::Metamako {
                told.push(format!(
                    "1 of 5 packets have a {name} time of a clock that, as the switch says, was not good"
                ));
            }
            assert_eq!(replay.warnings(), told);
        }
        // Guessing, what is far away is no time at all; and a capture without any is nothing to speak of.
        let (times, mut replay) = received(&file, Some(SwitchTimes::Auto), None);
        assert_eq!((times, replay.warnings().is_empty()), (switches, false));
        let (times, mut replay) = received(&from_switch(&messages, &[None; 5]), Some(SwitchTimes::Auto), None);
        assert_eq!((times, replay.warnings()), (own, vec![]));
        let (_, mut replay) = received(&binary(&messages), Some(SwitchTimes::Of(*kind)), None);
        assert!(replay.warnings()[0].starts_with("a BinaryFILE has no packets"));
    }
}
