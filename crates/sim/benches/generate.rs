//! What a generated message costs: processor time, best of several runs.
//!
//! `cargo bench -p barewire-sim --bench generate [-- MESSAGES INSTRUMENTS LIVE_ORDERS]`

use barewire_sim::{Exchange, ExchangeConfig, MAX_MESSAGE_LEN};

/// Nanoseconds that this thread has had a core: what others take on a shared machine is not in it.
fn on_cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let shapes = match numbers[..] {
        [_, instruments, live_orders] => vec![(instruments, live_orders)],
        _ => vec![(10, 1_000), (100, 10_000), (9_000, 100_000), (9_000, 1_000_000)],
    };
    let messages = numbers.first().copied().unwrap_or(5_000_000);
    println!(
        "{:>12} {:>12} {:>12} {:>12} {:>14}",
        "instruments", "live orders", "messages", "ns/message", "messages/s"
    );
    for (instruments, live_orders) in shapes {
        let config = ExchangeConfig { instruments, live_orders, ..Default::default() };
        let mut exchange = Exchange::new(config).expect("a valid configuration");
        let mut buffer = [0; MAX_MESSAGE_LEN];
        while !exchange.is_trading() {
            exchange.next(&mut buffer);
        }
        let best = (0..3)
            .map(|_| {
                let begin = on_cpu_ns();
                let mut bytes = 0;
                for _ in 0..messages {
                    bytes += exchange.next(&mut buffer).map_or(0, <[u8]>::len);
                }
                std::hint::black_box(bytes);
                on_cpu_ns() - begin
            })
            .min()
            .unwrap_or_default();
        let each = best as f64 / f64::from(messages);
        println!("{instruments:>12} {live_orders:>12} {messages:>12} {each:>12.1} {:>14.0}", 1e9 / each);
    }
}
