//! The feed's own clients and the simulator's servers, written apart, understand each other; and every fault is to the
//! client what it is meant to be.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use barewire_engine::recovery::{
    FetchError, LiveServices, RecoveryConfig, RerequestConfig, Services, Snapshot, SnapshotConfig,
};
use barewire_io::Waker;
use barewire_sim::recovery::{Fault, GlimpseConfig, GlimpseServer, Mirror, RerequestServer, Store};
use barewire_sim::{Exchange, ExchangeConfig, MAX_MESSAGE_LEN};
use barewire_types::Seq;
use barewire_wire::moldudp64::{Builder, Packet, Request, Session};

const SESSION: Session = Session(*b"SIM0000001");
const MESSAGES: u64 = 4_000;
/// Longer than anything takes on the loopback interface, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn free() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)
}

/// A session's beginning in a store, and the snapshot after it.
fn session() -> (Arc<Store>, Mirror) {
    let (store, mut mirror) = (Store::new(1 << 20), Mirror::new());
    let mut exchange = Exchange::new(ExchangeConfig { live_orders: 400, ..Default::default() }).unwrap();
    let mut buffer = [0; MAX_MESSAGE_LEN];
    for number in 1..=MESSAGES {
        let message = exchange.next(&mut buffer).unwrap();
        mirror.message(message);
        let mut bytes = [0; 80];
        let mut builder = Builder::new(&mut bytes, SESSION, Seq(number));
        builder.push(message.len()).unwrap().copy_from_slice(message);
        let len = builder.finish();
        store.take([&bytes[..len]]);
    }
    (Arc::new(store), mirror)
}

fn fetch(services: &mut LiveServices, ticket: u64, server: u8) -> Result<Snapshot, FetchError> {
    services.fetch(ticket, server);
    let begin = Instant::now();
    loop {
        if let Some((of, result)) = services.fetched() {
            assert_eq!(of, ticket);
            return result;
        }
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn snapshots() {
    let (store, mirror) = session();
    let bind = |fault| {
        let login = Some(("user".to_owned(), "SECRET".to_owned()));
        let config = GlimpseConfig { fault, login, ..GlimpseConfig::default() };
        GlimpseServer::bind_with(free(), Arc::clone(&store), config).unwrap()
    };
    let faults = [Fault::None, Fault::Slow { delay_ns: 50_000_000 }, Fault::Partial, Fault::Silent, Fault::Wrong];
    let servers = faults.map(bind);
    let config = |password: &str, timeout_ns| SnapshotConfig {
        servers: servers.iter().map(GlimpseServer::local_addr).collect(),
        username: "USER".to_owned(),
        password: password.to_owned(),
        timeout_ns,
        attempts: 1,
        retry_ns: 0,
        max_bytes: 1 << 24,
        last_included: false,
    };
    let open = |snapshot| {
        LiveServices::open(&RecoveryConfig { rerequest: None, snapshot: Some(snapshot) }, Waker::none()).unwrap()
    };
    let mut services = open(config("secret", PATIENCE.as_nanos() as u64));
    let expected = mirror.snapshot();
    let Snapshot { messages, count, next } = fetch(&mut services, 0, 0).unwrap();
    assert!((count, next) == (expected.count, Seq(MESSAGES + 1)) && messages == expected.messages);
    assert_eq!(fetch(&mut services, 1, 1).unwrap().messages, messages, "late");
    assert_eq!(fetch(&mut services, 2, 2), Err(FetchError::Closed), "cut off");
    // Rejected, garbage, another session's, broken, ended, without a number, with one that is out of reach.
    let mut seen: Vec<_> = (0..7).map(|turn| fetch(&mut services, 10 + turn, 4)).collect();
    let garbage = seen.remove(1);
    assert!(matches!(garbage, Err(FetchError::Malformed | FetchError::Closed | FetchError::Ended)), "{garbage:?}");
    let [rejected, other, broken, ended, unnumbered, far] = seen.try_into().unwrap();
    assert_eq!((rejected, broken), (Err(FetchError::Rejected), Err(FetchError::Malformed)));
    assert_eq!((ended, unnumbered), (Err(FetchError::Ended), Err(FetchError::Malformed)));
    // For these two there is only the number to go by.
    let numbers = [other, far].map(|snapshot| snapshot.map(|snapshot| (snapshot.count, snapshot.next)));
    assert_eq!(numbers, [Ok((0, Seq(1))), Ok((count, Seq(MESSAGES + 1 + (1 << 40))))]);
    let mut services = open(config("secret", 50_000_000));
    assert_eq!(fetch(&mut services, 20, 3), Err(FetchError::Timeout), "silent");
    let mut services = open(config("wrong", PATIENCE.as_nanos() as u64));
    assert_eq!(fetch(&mut services, 30, 0), Err(FetchError::Rejected));
}

#[test]
fn requests() {
    let (store, _) = session();
    let faults = [Fault::None, Fault::Partial, Fault::Wrong];
    let servers = faults.map(|fault| RerequestServer::bind(free(), Arc::clone(&store), fault, 1_400).unwrap());
    let rerequest = RerequestConfig {
        servers: servers.iter().map(RerequestServer::local_addr).collect(),
        local: None,
        max_messages: 100,
        per_second: 1_000,
        timeout_ns: 1_000_000,
        attempts: 3,
        give_up_ns: 1_000_000_000,
        max_gap: 10_000,
    };
    let config = RecoveryConfig { rerequest: Some(rerequest), snapshot: None };
    let mut services = LiveServices::open(&config, Waker::none()).unwrap();
    for server in 0..3 {
        let mut next = 1_000;
        while next < 1_200 {
            let request = Request { session: SESSION, sequence: Seq(next), count: 100 };
            services.request(server, &request.encode());
            let mut came = None;
            let begin = Instant::now();
            while came.is_none() {
                assert!(begin.elapsed() < PATIENCE);
                let replies = services.replies().unwrap();
                replies.receive(&mut |packet| came = Some((packet.line, packet.payload.to_vec()))).unwrap();
            }
            let (line, payload) = came.unwrap();
            assert_eq!(line, server);
            let packet = Packet::parse(&payload).ok();
            let usable = packet.filter(|packet| packet.session() == SESSION && packet.sequence() == Seq(next));
            next += usable.map_or(0, |packet| u64::from(packet.whole()));
        }
    }
}
