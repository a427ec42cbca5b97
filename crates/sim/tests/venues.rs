//! Several venues: one path of prices from the seed alone, which each follows with its own orders and its own lag.

mod reference;

use barewire_sim::{Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN, Truth, Venue};
use reference::Reference;

const OPEN_NS: u64 = 34_200_000_000_000;

fn config(number: u8, lag_ns: u64) -> ExchangeConfig {
    ExchangeConfig {
        seed: 11,
        instruments: 4,
        live_orders: 2_000,
        length: Length::Duration(3_000_000_000),
        rate: 20_000,
        volatility: 1_000,
        incident_every: 0,
        venue: Some(Venue { number, lag_ns, instrument_lag_ns: 20_000 }),
        ..Default::default()
    }
}

/// For each instrument, when its quote changed since the opening, ns, and to what: bid and offer, 1e-4 USD.
type Quotes = Vec<Vec<(u64, u32, u32)>>;

fn quotes(config: ExchangeConfig) -> (Quotes, Vec<Truth>, u64) {
    let mut exchange = Exchange::new(config).unwrap();
    let truth = exchange.truth();
    let mut book = Reference::default();
    let mut buffer = [0; MAX_MESSAGE_LEN];
    let mut quotes: Quotes = vec![Vec::new(); truth.len()];
    while let Some(message) = exchange.next(&mut buffer) {
        let locate = u16::from_be_bytes([message[1], message[2]]);
        book.apply(message);
        if exchange.is_trading()
            && locate > 0
            && let (Some(bid), Some(ask)) = book.top(locate)
        {
            let of = &mut quotes[usize::from(locate) - 1];
            if of.last().is_none_or(|last| (last.1, last.2) != (bid, ask)) {
                of.push((book.time_ns - OPEN_NS, bid, ask));
            }
        }
    }
    (quotes, truth, book.messages)
}

/// The share of time for which a fair price was off the quotes' middle by more than three steps.
fn astray(quotes: &[(u64, u32, u32)], truth: &Truth, lag_ns: u64) -> f64 {
    let mut truth = truth.clone();
    let (mut off, mut total) = (0, 0);
    for pair in quotes.windows(2) {
        let middle = f64::from(pair[0].1 + pair[0].2) / 20_000.0;
        for ns in (pair[0].0..pair[1].0).step_by(20_000) {
            let fair = truth.usual * (1.0 + truth.moved(ns.saturating_sub(lag_ns)));
            total += 1;
            off += i32::from((fair - middle).abs() > 0.03);
        }
    }
    f64::from(off) / f64::from(total)
}

#[test]
fn quotes_follow_the_path_after_their_lag_and_no_earlier() {
    for (number, lag_ns) in [(1, 0), (2, 20_000_000)] {
        let (quotes, truth, messages) = quotes(config(number, lag_ns));
        let symbols: Vec<&[u8]> = truth.iter().map(|truth| truth.symbol.trim_ascii_end()).collect();
        assert_eq!(symbols, [&b"AAPL"[..], b"MSFT", b"NVDA", b"TSLA"]);
        for (quotes, truth) in quotes.iter().zip(&truth) {
            let spread: u32 = quotes.iter().map(|quote| quote.2 - quote.1).sum::<u32>() / quotes.len() as u32;
            assert!((lag_ns..=lag_ns + 20_000).contains(&truth.lag_ns));
            let (here, early) = (astray(quotes, truth, truth.lag_ns), astray(quotes, truth, truth.lag_ns - lag_ns));
            println!("venue {number}: {messages} messages, {} quotes, {spread}, {here} {early}", quotes.len());
            assert!(quotes.len() > 300, "it moves");
            assert!(spread < 300, "three cents at most, on average: {spread}");
            assert!(here < 0.01, "{here}");
            assert!(number == 1 || early > 5.0 * here + 0.05, "{early}");
        }
    }
}

#[test]
fn venues_share_a_path_and_nothing_else() {
    let first = quotes(config(1, 0));
    let again = quotes(config(1, 0));
    let second = quotes(config(2, 0));
    assert_eq!(first.0, again.0);
    assert_ne!(first.0, second.0);
    for (one, other) in first.1.iter().zip(&second.1) {
        let (mut one, mut other) = (one.clone(), other.clone());
        for ns in (0..60_000_000_000).step_by(7_777_777) {
            assert_eq!(one.moved(ns), other.moved(ns));
        }
    }
    let other_seed = Exchange::new(ExchangeConfig { seed: 12, ..config(1, 0) }).unwrap().truth();
    assert_ne!(other_seed[0].clone().moved(1_000_000_000), first.1[0].clone().moved(1_000_000_000));
}
