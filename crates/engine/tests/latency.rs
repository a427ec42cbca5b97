//! Short runs of the latency benchmark: what was sent is what came or was lost, by every path.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use barewire_engine::bench::latency::{
    Cores, FlowBuilder, LatencyBench, Network, Path, RunConfig, RunError, RunResult, Samples, Sender,
};
use barewire_engine::receive::ReceivePath;
use barewire_io::af_xdp::AfXdpOptions;
use barewire_io::io_uring::IoUringOptions;
use barewire_io::kernel::{KernelOptions, Mode};
use barewire_io::packet_mmap::PacketMmapOptions;
use barewire_sim::{Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN};

fn bench(network: Network) -> LatencyBench {
    let config = ExchangeConfig { live_orders: 2_000, length: Length::Messages(30_000), ..ExchangeConfig::default() };
    let mut exchange = Exchange::new(config).expect("a right configuration");
    let (mut flow, mut buffer) = (FlowBuilder::default(), [0; MAX_MESSAGE_LEN]);
    while let Some(message) = exchange.next(&mut buffer) {
        flow.push(message);
    }
    LatencyBench::new(flow.finish(), network)
}

fn paths() -> [Path; 6] {
    [
        Path::Legacy,
        Path::LegacyTcp,
        Path::Feed(ReceivePath::Kernel(KernelOptions::default())),
        Path::Feed(ReceivePath::IoUring(IoUringOptions::default())),
        Path::Feed(ReceivePath::PacketMmap(PacketMmapOptions::default())),
        Path::Feed(ReceivePath::AfXdp(AfXdpOptions::default())),
    ]
}

fn short(path: Path) -> RunConfig {
    RunConfig {
        path,
        sender: Sender::Udp,
        rcvbuf_bytes: 16 << 20,
        rate: 20_000.0,
        messages_per_packet: 4,
        duration_ns: 200_000_000,
        samples: Samples::Messages,
        cores: Cores::default(),
    }
}

fn check(result: &RunResult, rate: f64) {
    assert!(result.sent.messages > 0 && result.sent.packets > 0, "{result:?}");
    assert!(result.sent.messages as f64 <= rate * 0.2 + 4.0);
    assert_eq!(result.sent.messages, result.received + result.lost + result.unseen, "{result:?}");
    assert_eq!(result.unseen, 0, "the end of the session was heard");
    if result.lost == 0 {
        assert_eq!(result.latency.samples(), result.received, "every message was measured");
    }
    assert_eq!(result.latency.samples(), result.from_due.samples());
    let latency = &result.latency;
    assert!(latency.quantile(0.5) > 0 && latency.quantile(0.5) <= latency.quantile(0.99));
    assert!(result.from_due.mean_and_deviation().0 >= latency.mean_and_deviation().0);
    assert!(!result.report.is_empty());
}

#[test]
fn what_was_sent_came_or_was_lost_by_every_path() {
    let network = Network::new();
    let everything = !network.is_loopback();
    assert!(everything || std::env::var_os("CI").is_none(), "CI can make namespaces");
    let mut bench = bench(network);
    for path in paths() {
        if let (false, Path::Feed(path @ (ReceivePath::PacketMmap(_) | ReceivePath::AfXdp(_)))) = (everything, &path) {
            eprintln!("skipped: {}: no network namespaces here", path.name());
            continue;
        }
        let senders = if everything { &[Sender::Udp, Sender::Program][..] } else { &[Sender::Udp] };
        for sender in senders {
            let config = RunConfig { sender: *sender, ..short(path.clone()) };
            let result = bench.run(&config, &AtomicBool::new(false)).expect("a run");
            check(&result, config.rate);
            let sleeps = matches!(config.path, Path::Legacy | Path::LegacyTcp);
            assert_eq!(result.receiver_stolen.is_none(), sleeps);
            assert!(result.receiver_stolen.is_none_or(|share| (0.0..=1.0).contains(&share)));
        }
    }
}

#[test]
fn loopback_does_where_there_is_nothing_better() {
    let mut bench = bench(Network::Loopback { why: "a test".to_owned() });
    assert!(matches!(bench.check_program(), Err(RunError::NoProgram(why)) if why == "a test"));
    for path in paths().into_iter().take(3) {
        let config = short(path);
        check(&bench.run(&config, &AtomicBool::new(false)).expect("a run"), config.rate);
    }
}

/// A receiver that cannot keep up loses, and says how much, to the message.
#[test]
fn what_a_full_buffer_loses_is_counted() {
    let mut bench = bench(Network::Loopback { why: "a test".to_owned() });
    let tiny = KernelOptions { rcvbuf_bytes: Some(4_096), mode: Mode::Busy, ..KernelOptions::default() };
    let path = Path::Feed(ReceivePath::Kernel(tiny));
    let config = RunConfig { rate: 2e6, messages_per_packet: 30, ..short(path) };
    let result = bench.run(&config, &AtomicBool::new(false)).expect("a run");
    assert_eq!(result.sent.messages, result.received + result.lost + result.unseen);
    assert!(result.latency.samples() <= result.received);
}

/// A queue that has room for all is emptied of all.
#[test]
fn a_full_queue_is_emptied() {
    let mut bench = bench(Network::new());
    let sender = if bench.network().is_loopback() { Sender::Udp } else { Sender::Program };
    let feed = if bench.network().is_loopback() {
        ReceivePath::Kernel(KernelOptions::default())
    } else {
        ReceivePath::AfXdp(AfXdpOptions::default())
    };
    for path in [Path::Legacy, Path::Feed(feed)] {
        let config = RunConfig { sender, ..short(path) };
        let drained = bench.drain(&config, 500, &AtomicBool::new(false)).expect("a run");
        assert!((400..=600).contains(&drained.sent), "{drained:?}");
        assert_eq!(drained.taken, drained.sent);
        assert!(drained.elapsed_ns > 0);
    }
    let stop = &AtomicBool::new(false);
    assert!(matches!(bench.drain(&short(Path::LegacyTcp), 500, stop), Err(RunError::NoQueue | RunError::Stopped)));
}

/// By a socket, by a program in the kernel, and by TCP.
#[test]
fn a_stop_ends_a_run() {
    let ways = [(Path::Legacy, Sender::Udp), (Path::Legacy, Sender::Program), (Path::LegacyTcp, Sender::Udp)];
    for (path, sender) in ways {
        let mut bench = bench(Network::new());
        if sender == Sender::Program && bench.network().is_loopback() {
            continue;
        }
        let config = RunConfig { sender, duration_ns: 600_000_000_000, ..short(path) };
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                stop.store(true, Ordering::Relaxed);
            });
            let began = Instant::now();
            assert!(matches!(bench.run(&config, &stop), Err(RunError::Stopped)));
            assert!(began.elapsed() < Duration::from_secs(60));
        });
    }
}
