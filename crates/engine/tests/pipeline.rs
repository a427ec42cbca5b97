//! The pipeline as a whole: what comes out of the sink tells the books' story, and every packet and message is counted once.

use std::collections::{BTreeMap, HashMap};

use barewire_book::Capacity;
use barewire_engine::counters::Counter;
use barewire_engine::nasdaq::{Nasdaq, Setup};
use barewire_engine::pipeline::{Input, Pipeline, REPLIES, Sequencing};
use barewire_engine::recovery::{FetchError, NoServices, Services, Snapshot};
use barewire_engine::sink::Memory;
use barewire_engine::venue::{Publish, Subscription};
use barewire_line::{RecoveryConfig, Snapshots};
use barewire_sim::{Exchange, ExchangeConfig, MAX_MESSAGE_LEN, MessageBuffer};
use barewire_types::{Bbo, Flags, Gap, Mbo, NoPrefetch, Record, RecordKind, Seq, TsSource, UNDEF_PRICE, UnixNanos};
use barewire_wire::moldudp64::{self, Builder, Session};
use proptest::prelude::*;

type Feed = Pipeline<Nasdaq<NoPrefetch>, Memory>;

const SESSION: Session = Session(*b"TEST000001");

fn feed(subscription: Subscription) -> Feed {
    feed_with(subscription, Sequencing::default())
}

fn feed_with(subscription: Subscription, sequencing: Sequencing) -> Feed {
    let setup = Setup {
        publisher_id: 3,
        midnight_ns: 1_000_000_000_000_000_000,
        subscription,
        publish: Publish { mbo: true, bbo: true },
        capacity: Capacity { instruments: 1 << 16, orders: 4096, levels: 4096 },
    };
    Pipeline::new(Nasdaq::new(setup, NoPrefetch).expect("memory"), Memory::default(), 3, sequencing)
}

fn packet(sequence: u64, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; 65_000];
    let mut builder = Builder::new(&mut bytes, SESSION, Seq(sequence));
    for message in messages {
        builder.push(message.len()).expect("room").copy_from_slice(message);
    }
    let len = builder.finish();
    bytes.truncate(len);
    bytes
}

fn hand(feed: &mut Feed, line: u8, payload: &[u8]) {
    feed.packet(&Input {
        line,
        payload,
        ts_recv: UnixNanos(77),
        ts_source: TsSource::Kernel,
        seen: UnixNanos(77),
        degraded: false,
    });
}

/// Messages of a simulated day.
fn day(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let config = ExchangeConfig { seed, instruments: 20, live_orders: 400, ..ExchangeConfig::default() };
    let mut exchange = Exchange::new(config).expect("a right configuration");
    let mut buffer: MessageBuffer = [0; MAX_MESSAGE_LEN];
    std::iter::from_fn(|| exchange.next(&mut buffer).map(<[u8]>::to_vec)).take(count).collect()
}

/// Books as a reader of the records would build them: order id to (instrument, side, price, size).
#[derive(Default)]
struct Rebuilt {
    orders: HashMap<u64, (u32, u8, i64, u32)>,
    quotes: HashMap<u32, (i64, u32, i64, u32)>,
}

impl Rebuilt {
    fn take(&mut self, record: &Record) {
        match record.kind() {
            Some(RecordKind::Mbo) => self.order(&Mbo::from(*record)),
            Some(RecordKind::Bbo) => {
                let bbo = Bbo::from(*record);
                let quote = (bbo.bid_price, bbo.bid_size, bbo.ask_price, bbo.ask_size);
                assert_ne!(self.quotes.insert(bbo.instrument_id, quote), Some(quote), "a bbo that changes nothing");
                assert_eq!(self.best(bbo.instrument_id), quote, "a bbo that is not its book's");
            }
            _ => {}
        }
    }

    fn order(&mut self, mbo: &Mbo) {
        match mbo.action {
            b'A' => {
                let order = (mbo.instrument_id, mbo.side, mbo.price, mbo.size);
                assert_eq!(self.orders.insert(mbo.order_id, order), None, "added twice");
            }
            b'C' => {
                let order = self.orders.get_mut(&mbo.order_id).expect("a cancel of an order that is not there");
                assert_eq!((order.0, order.1, order.2), (mbo.instrument_id, mbo.side, mbo.price));
                order.3 = order.3.checked_sub(mbo.size).expect("cancelled more than there was");
                if order.3 == 0 {
                    self.orders.remove(&mbo.order_id);
                }
            }
            // Trades and fills leave the book alone.
            b'T' | b'F' => {}
            // Of one instrument, or of the whole feed.
            b'R' => {
                let goes = |instrument: u32| mbo.instrument_id == 0 || instrument == mbo.instrument_id;
                self.orders.retain(|_, order| !goes(order.0));
                self.quotes.retain(|instrument, _| !goes(*instrument));
            }
            other => panic!("action {other}"),
        }
    }

    fn best(&self, instrument: u32) -> (i64, u32, i64, u32) {
        let mut levels: [BTreeMap<i64, u32>; 2] = Default::default();
        for (_, side, price, size) in self.orders.values().filter(|order| order.0 == instrument) {
            *levels[usize::from(*side == b'A')].entry(*price).or_default() += size;
        }
        let (bid, bid_size) = levels[0].last_key_value().map_or((UNDEF_PRICE, 0), |(p, s)| (*p, *s));
        let (ask, ask_size) = levels[1].first_key_value().map_or((UNDEF_PRICE, 0), |(p, s)| (*p, *s));
        (bid, bid_size, ask, ask_size)
    }
}

/// Everything that must hold of a feed at any time.
fn check(feed: &mut Feed, rebuilt: &Rebuilt) {
    feed.counters().check().expect("counters sum up");
    let books = feed.venue().books();
    assert_eq!(books.len(), rebuilt.orders.len());
    for (id, (instrument, _, price, size)) in &rebuilt.orders {
        let (at, order) = books.order(*id).expect("an order that the records know");
        assert_eq!((at, order.price.0, order.size), (*instrument, *price, *size));
    }
}

#[test]
fn records_rebuild_the_books_of_a_whole_day() {
    let mut feed = feed(Subscription::All);
    let mut rebuilt = Rebuilt::default();
    let messages = day(1, 60_000);
    for (index, chunk) in messages.chunks(37).enumerate() {
        hand(&mut feed, 0, &packet(1 + 37 * index as u64, chunk));
        let records = std::mem::take(&mut feed.sink_mut().records);
        for (place, record) in records.iter().enumerate() {
            let last = Flags(Gap::from(*record).flags).contains(Flags::LAST);
            assert_eq!(last, place + 1 == records.len(), "the last record of a packet, and no other, says so");
            rebuilt.take(record);
        }
        if index.is_multiple_of(50) {
            check(&mut feed, &rebuilt);
        }
    }
    check(&mut feed, &rebuilt);
    assert_eq!(feed.counters().get(Counter::Messages), messages.len() as u64);
    for trouble in [Counter::BookUnknownOrder, Counter::MessagesUnknownType, Counter::Gaps, Counter::MessagesBadLength]
    {
        assert_eq!(feed.counters().get(trouble), 0, "{trouble:?}");
    }
}

#[test]
fn the_second_line_changes_nothing() {
    let messages = day(2, 5_000);
    let (mut one, mut two) = (feed(Subscription::All), feed(Subscription::All));
    let (mut a, mut b) = (1, 1);
    for chunk in messages.chunks(40) {
        hand(&mut one, 0, &packet(a, chunk));
        hand(&mut two, 0, &packet(a, chunk));
        a += chunk.len() as u64;
        // The other line cuts otherwise, and lags.
        while b + 13 < a {
            let from = b as usize - 1;
            hand(&mut two, 1, &packet(b, &messages[from..from + 13]));
            b += 13;
        }
    }
    assert!(one.sink_mut().records == two.sink_mut().records);
    assert_eq!(one.venue().books().digest(), two.venue().books().digest());
    two.counters().check().expect("counters sum up");
    assert_eq!(two.counters().get(Counter::LineBFirstCopies), 0);
    assert_eq!(two.counters().get(Counter::MessagesDuplicate), b - 1);
}

/// Both lines lose a third of their packets, never the same, and one of them lags: what comes out is what was sent.
#[test]
fn two_bad_lines_make_a_good_one() {
    let messages = day(6, 6_000);
    let (mut good, mut bad) = (feed(Subscription::All), feed(Subscription::All));
    let packets: Vec<Vec<u8>> =
        messages.chunks(20).enumerate().map(|(n, chunk)| packet(1 + 20 * n as u64, chunk)).collect();
    for (n, bytes) in packets.iter().enumerate() {
        hand(&mut good, 0, bytes);
        if n % 3 != 1 {
            hand(&mut bad, 0, bytes);
        }
        // Seven packets later, and the other way round in pairs.
        if let Some(late) = n.checked_sub(7).map(|late| late ^ 1)
            && late % 3 != 0
        {
            hand(&mut bad, 1, &packets[late]);
        }
    }
    for late in &packets[packets.len() - 8..] {
        hand(&mut bad, 1, late);
    }
    let same = |feed: &mut Feed| -> Vec<Record> {
        // Which record is its packet's last depends on who brought it.
        feed.sink_mut().records.iter().map(|r| Record::from(Gap { flags: 0, ..Gap::from(*r) })).collect()
    };
    assert!(same(&mut good) == same(&mut bad));
    assert_eq!(good.venue().books().digest(), bad.venue().books().digest());
    bad.counters().check().expect("counters sum up");
    assert_eq!((bad.counters().get(Counter::Gaps), bad.counters().get(Counter::MessagesHeld)), (0, 0));
    assert!(bad.counters().get(Counter::MessagesReordered) > 1_000);
}

#[test]
fn a_gap_is_told_and_the_books_flagged_until_the_venue_begins_anew() {
    let messages = day(3, 2_000);
    let mut feed = feed(Subscription::All);
    hand(&mut feed, 0, &packet(1, &messages[..1000]));
    feed.sink_mut().records.clear();
    hand(&mut feed, 0, &packet(1201, &messages[1200..1400]));
    assert!(feed.is_waiting() && feed.sink_mut().records.is_empty(), "the other line may bring it yet");
    hand(&mut feed, 0, &packet(1401, &messages[1400..1401]));
    feed.recover(UnixNanos(77 + Sequencing::default().hold_ns), false, &mut NoServices);
    assert!(feed.is_waiting(), "it may be among what waits to be read");
    feed.recover(UnixNanos(77 + Sequencing::default().hold_ns), true, &mut NoServices);
    let records = std::mem::take(&mut feed.sink_mut().records);
    let gap = Gap::from(records[0]);
    assert_eq!((records[0].kind(), gap.sequence, gap.count, gap.reason), (Some(RecordKind::Gap), 1001, 200, 1));
    assert!(records.iter().all(|r| Flags(Gap::from(*r).flags).contains(Flags::MAYBE_STALE)));

    let restarted = {
        let mut bytes = packet(1, &messages[..1000]);
        bytes[..10].copy_from_slice(b"TEST000002");
        bytes
    };
    let later = UnixNanos(5_000_000_000);
    feed.packet(&Input {
        line: 0,
        payload: &restarted,
        ts_recv: later,
        ts_source: TsSource::Kernel,
        seen: later,
        degraded: false,
    });
    let mut rebuilt = Rebuilt::default();
    let records = std::mem::take(&mut feed.sink_mut().records);
    assert_eq!(Mbo::from(records[0]).action, b'R');
    assert!(!records.iter().any(|r| Flags(Gap::from(*r).flags).contains(Flags::MAYBE_STALE)));
    records.iter().for_each(|record| rebuilt.take(record));
    check(&mut feed, &rebuilt);
    assert_eq!(feed.counters().get(Counter::SessionRestarts), 1);
}

#[test]
fn a_subscription_keeps_only_its_symbols() {
    let messages = day(4, 20_000);
    let wanted = Subscription::Symbols([b"AAPL".to_vec(), b"NOSUCH".to_vec()].into());
    let (mut all, mut some) = (feed(Subscription::All), feed(wanted));
    for (index, chunk) in messages.chunks(40).enumerate() {
        hand(&mut all, 0, &packet(1 + 40 * index as u64, chunk));
        hand(&mut some, 0, &packet(1 + 40 * index as u64, chunk));
    }
    assert_eq!(some.venue().instruments().len(), 1);
    let id = some.venue().instruments()[0].id;
    let of = |feed: &mut Feed| -> Vec<Record> {
        // The last of a packet is another one where other instruments are left out.
        let same = |r: &Record| Record::from(Gap { flags: 0, ..Gap::from(*r) });
        feed.sink_mut().records.iter().filter(|r| Gap::from(**r).instrument_id == id).map(same).collect()
    };
    let (all_of, some_of) = (of(&mut all), of(&mut some));
    assert!(all_of == some_of && !some_of.is_empty());
    assert_eq!(all.venue().books().top(id), some.venue().books().top(id));
    some.counters().check().expect("counters sum up");
    assert_eq!(some.counters().get(Counter::BookUnknownOrder), 0);
}

#[test]
fn heartbeats_and_the_end_are_told_once() {
    let mut feed = feed(Subscription::All);
    hand(&mut feed, 0, &packet(1, &day(5, 10)));
    feed.sink_mut().records.clear();
    hand(&mut feed, 0, &moldudp64::heartbeat(SESSION, Seq(11)));
    for _ in 0..3 {
        hand(&mut feed, 0, &moldudp64::end_of_session(SESSION, Seq(11)));
    }
    assert_eq!(feed.sink_mut().records.len(), 1);
    assert_eq!(feed.counters().get(Counter::PacketsHeartbeat), 1);
    assert_eq!(feed.counters().get(Counter::PacketsEndOfSession), 3);
    assert_eq!(feed.counters().get(Counter::SessionEnded), 1);
    feed.counters().check().expect("counters sum up");
}

/// The venue's end is told when all before it was delivered, not before.
#[test]
fn the_end_comes_last() {
    let messages = day(7, 40);
    let mut feed = feed(Subscription::All);
    hand(&mut feed, 0, &packet(1, &messages[..10]));
    hand(&mut feed, 0, &packet(21, &messages[20..]));
    hand(&mut feed, 0, &moldudp64::end_of_session(SESSION, Seq(41)));
    assert_eq!(feed.counters().get(Counter::SessionEnded), 0);
    hand(&mut feed, 1, &packet(11, &messages[10..20]));
    assert_eq!(feed.counters().get(Counter::SessionEnded), 1);
    let last = *feed.sink_mut().records.last().expect("records");
    assert_eq!(last.kind(), Some(RecordKind::Status));
    assert_eq!(feed.sink_mut().records.iter().filter(|r| Gap::from(**r).kind == 3).count(), 0);
}

/// What is released at once may be more than the books had room for: they grow in between, and refuse nothing.
#[test]
fn held_messages_give_the_books_time_to_grow() {
    let messages = day(8, 30_000);
    let (mut held, mut plain) = (feed(Subscription::All), feed(Subscription::All));
    let packets: Vec<Vec<u8>> =
        messages.chunks(20).enumerate().map(|(n, chunk)| packet(1 + 20 * n as u64, chunk)).collect();
    packets.iter().for_each(|bytes| hand(&mut plain, 0, bytes));
    // The first packet joins, the second comes last.
    hand(&mut held, 0, &packets[0]);
    packets[2..].iter().for_each(|bytes| hand(&mut held, 0, bytes));
    hand(&mut held, 1, &packets[1]);
    assert_eq!(held.counters().get(Counter::BookOutOfCapacity), 0);
    assert_eq!(held.venue().books().digest(), plain.venue().books().digest());
}

/// A venue (or somebody else) that names an instrument again and again takes no more memory for it.
#[test]
fn names_do_not_pile_up() {
    let mut directory = day(9, 2).into_iter().find(|m| m[0] == b'R').expect("a directory message");
    let mut feed = feed(Subscription::All);
    for n in 0..1000u64 {
        directory[11] = b'A' + (n % 2) as u8;
        hand(&mut feed, 0, &packet(1 + n, std::slice::from_ref(&directory)));
    }
    assert_eq!(feed.venue().instruments().len(), 1);
}

/// A feed that was configured yesterday stamps today's events with today.
#[test]
fn a_feed_left_on_overnight_knows_what_day_it_is() {
    const DAY: u64 = 86_400_000_000_000;
    let messages = day(10, 3_000);
    let mut feed = feed(Subscription::All);
    let now = UnixNanos(1_000_000_000_000_000_000 + DAY + 5 * 3_600_000_000_000);
    for (n, chunk) in messages.chunks(20).enumerate() {
        let payload = packet(1 + 20 * n as u64, chunk);
        feed.packet(&Input {
            line: 0,
            payload: &payload,
            ts_recv: now,
            ts_source: TsSource::Kernel,
            seen: now,
            degraded: false,
        });
    }
    let first = Gap::from(feed.sink_mut().records[0]).ts_event;
    assert!(first.abs_diff(now.0) < DAY / 2, "{first}");
    assert_eq!(first / DAY, (1_000_000_000_000_000_000 + DAY + first % DAY) / DAY);
}

/// A message that may be anything: right, wrong, cut, of a type that there is not; ids from so few that they collide.
/// A server's numbers are no more to be trusted than a line's.
#[test]
fn a_reply_whose_numbers_run_past_the_last_one_is_malformed() {
    let mut feed = feed(Subscription::All);
    let day = day(1, 3);
    hand(&mut feed, 0, &packet(1, &day[..1]));
    for first in [u64::MAX, u64::MAX - 1, u64::MAX - 2] {
        let reply = packet(first, &day);
        feed.reply(&Input {
            line: REPLIES,
            payload: &reply,
            ts_recv: UnixNanos(78),
            ts_source: TsSource::Kernel,
            seen: UnixNanos(78),
            degraded: false,
        });
    }
    let counters = feed.counters();
    counters.check().expect("counters sum up");
    assert_eq!(counters.get(Counter::PacketsMalformed), 3);
    assert_eq!(counters.get(Counter::NextSequence), 2);
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let body =
        (prop::sample::select(b"AFECXDUPQBSRHhIZ".to_vec()), prop::collection::vec(any::<u8>(), 60), 0u8..6, 0u8..6);
    (body, 0u8..20).prop_map(|((kind, mut bytes, id, new), cut)| {
        let len = barewire_wire::itch50::spec(kind).map_or(30, |spec| spec.len);
        bytes[0] = kind;
        bytes[1..3].copy_from_slice(&[0, 1 + id % 3]);
        bytes[11..19].copy_from_slice(&u64::from(id).to_be_bytes());
        match kind {
            b'A' | b'F' => {
                bytes[19] = if new % 5 == 0 { b'?' } else { [b'B', b'S'][usize::from(new % 2)] };
                bytes[20..24].copy_from_slice(&u32::from(new * 10).to_be_bytes());
                bytes[24..32].copy_from_slice(b"SAME    ");
                bytes[32..36].copy_from_slice(&(1000 + u32::from(new)).to_be_bytes());
            }
            b'U' => {
                bytes[19..27].copy_from_slice(&u64::from(new).to_be_bytes());
                bytes[27..31].copy_from_slice(&u32::from(id * 7).to_be_bytes());
                bytes[31..35].copy_from_slice(&(1000 + u32::from(id)).to_be_bytes());
            }
            b'E' | b'C' | b'X' => bytes[19..23].copy_from_slice(&u32::from(new * 5).to_be_bytes()),
            _ => {}
        }
        bytes.truncate(if cut == 0 { len.saturating_sub(usize::from(id) + 1) } else { len });
        bytes
    })
}

/// A snapshot server that lies about its number by less than the ring holds: of another session, or of nowhere.
#[test]
fn a_snapshot_ahead_of_the_lines_waits_for_them_and_is_refused_where_they_go_on_below() {
    struct Liar(Option<u64>, Vec<u64>);
    impl Services for Liar {
        fn request(&mut self, _server: u8, _packet: &[u8]) {}
        fn fetch(&mut self, ticket: u64, _server: u8) {
            self.0 = Some(ticket);
        }
        fn fetched(&mut self) -> Option<(u64, Result<Snapshot, FetchError>)> {
            let next = *self.1.first()?;
            let snapshot = Snapshot { messages: Vec::new(), count: 0, next: Seq(next) };
            Some((self.0.take()?, Ok(snapshot)))
        }
        fn give_back(&mut self, _snapshot: Snapshot) {
            self.1.remove(0);
        }
    }
    const SECOND: u64 = 1_000_000_000;
    let recovery =
        RecoveryConfig { requests: None, snapshots: Some(Snapshots { servers: 1, attempts: 2, retry_ns: 0 }) };
    let mut feed = feed_with(Subscription::All, Sequencing { recovery, ..Sequencing::default() });
    let at = |feed: &mut Feed, first: u64, at: u64| {
        let payload = packet(first, &[vec![], vec![]]);
        feed.packet(&Input {
            line: 0,
            payload: &payload,
            ts_recv: UnixNanos(at),
            ts_source: TsSource::User,
            seen: UnixNanos(at),
            degraded: false,
        });
    };
    // First a lie, then the truth, a little ahead of the lines.
    let mut servers = Liar(None, vec![30_000, 1_075]);
    at(&mut feed, 1_000, SECOND);
    for n in 1..=30 {
        at(&mut feed, 1_000 + 2 * n, SECOND + n * SECOND / 20);
        feed.recover(UnixNanos(SECOND + n * SECOND / 20), true, &mut servers);
    }
    let counters = feed.counters().clone();
    assert_eq!((counters.get(Counter::SnapshotsFailed), counters.get(Counter::SnapshotsLoaded)), (1, 0));
    assert_eq!((counters.get(Counter::Suspended), counters.get(Counter::MessagesHeld)), (1, 62));
    for n in 31..=60 {
        at(&mut feed, 1_000 + 2 * n, SECOND + n * SECOND / 20);
        feed.recover(UnixNanos(SECOND + n * SECOND / 20), true, &mut servers);
    }
    let counters = feed.counters();
    assert_eq!((counters.get(Counter::SnapshotsFailed), counters.get(Counter::SnapshotsLoaded)), (1, 1));
    assert_eq!(counters.get(Counter::MessagesReplaced), 1_074);
    assert_eq!((counters.get(Counter::MessagesMissing), counters.get(Counter::NextSequence)), (0, 1_122));
    assert_eq!(counters.check(), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Hostile messages in hostile packets: nothing panics, everything is counted once, and the records still tell exactly
    /// what is in the books.
    #[test]
    fn whatever_comes_is_counted_once_and_told_truly(
        packets in prop::collection::vec(
            (0u8..3, 1u64..40, prop::collection::vec(any_message(), 0..12), 0u16..40, any::<u16>()), 1..40)
    ) {
        let mut feed = feed(Subscription::All);
        let mut rebuilt = Rebuilt::default();
        for (line, sequence, messages, spoil, at) in packets {
            let mut bytes = packet(sequence, &messages);
            match spoil {
                0 => bytes.truncate(usize::from(at) % (bytes.len() + 1)),
                1 => {
                    let at = usize::from(at) % bytes.len();
                    bytes[at] ^= 0x55;
                }
                _ => {}
            }
            hand(&mut feed, line, &bytes);
            for record in std::mem::take(&mut feed.sink_mut().records) {
                rebuilt.take(&record);
            }
        }
        feed.counters().check().expect("counters sum up while messages are held");
        feed.flush(UnixNanos(78));
        for record in std::mem::take(&mut feed.sink_mut().records) {
            rebuilt.take(&record);
        }
        check(&mut feed, &rebuilt);
        prop_assert_eq!(feed.counters().get(Counter::MessagesHeld), 0);
    }
}
