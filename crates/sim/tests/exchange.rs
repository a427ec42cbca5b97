//! The exchange against a slow book that believes nothing.

mod reference;

use barewire_sim::{ConfigError, Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN, Mix, Venue};
use reference::Reference;

/// Plays a session to its end into the reference, which checks every message.
fn play(config: ExchangeConfig, mut each: impl FnMut(&mut Exchange, &Reference)) -> Reference {
    let mut exchange = Exchange::new(config).unwrap();
    let mut book = Reference::default();
    let mut buffer = [0; MAX_MESSAGE_LEN];
    while let Some(len) = exchange.next(&mut buffer).map(<[u8]>::len) {
        book.apply(&buffer[..len]);
        assert_eq!(book.orders.len(), exchange.live_orders() as usize);
        each(&mut exchange, &book);
    }
    assert_eq!(exchange.messages(), book.messages);
    book
}

/// FNV-1a over lengths and bytes of the first `count` messages.
fn digest(config: ExchangeConfig, count: usize) -> u64 {
    let mut exchange = Exchange::new(config).unwrap();
    let mut buffer = [0; MAX_MESSAGE_LEN];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for _ in 0..count {
        let message = exchange.next(&mut buffer).unwrap();
        for byte in [message.len() as u8].iter().chain(message) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    hash
}

/// A seed means the same messages everywhere and for good: whoever changes the model changes these numbers knowingly.
#[test]
fn a_seed_is_pinned() {
    let config = ExchangeConfig { instruments: 1_000, live_orders: 50_000, ..Default::default() };
    assert_eq!(format!("{:016x}", digest(config, 1_000_000)), "5047b9d84c4bd74f");
    let other = ExchangeConfig { seed: 2, ..config };
    assert_eq!(digest(other, 10_000), digest(other, 10_000));
    assert_ne!(digest(other, 10_000), digest(config, 10_000));
}

/// Whatever the shape of the market, the reference believes every message, and the day has its order.
#[test]
fn every_message_is_possible() {
    let shapes = [
        // instruments, live orders, messages, volatility, incidents
        (1, 64, 40_000, 100, 20_000),
        (1, 64, 40_000, 1_000, 100),
        (2, 5_000, 60_000, 1_000, 500),
        (20, 2_000, 300_000, 300, 1_000),
        (300, 3_000, 200_000, 100, 0),
        (2_000, 200_000, 600_000, 100, 20_000),
        (10_000, 20_000, 250_000, 1_000, 5_000),
    ];
    for (seed, (instruments, live_orders, messages, volatility, incident_every)) in (1..).zip(shapes) {
        let length = Length::Messages(messages);
        let config =
            ExchangeConfig { seed, instruments, live_orders, length, volatility, incident_every, ..Default::default() };
        println!("{config:?}");
        let mut reached = false;
        let book = play(config, |exchange, _| {
            if exchange.is_trading() && !reached {
                reached = true;
                assert!(exchange.live_orders() >= live_orders * 9 / 10 - 4, "{}", exchange.live_orders());
            }
        });
        assert!(reached && book.messages > messages, "{:?}", book.counts);
        let day: String = book.day.split(' ').map(|part| &part[..part.len().min(1)]).collect();
        assert_eq!(day, "OSQMEC", "{}", book.day);
        assert!(book.day.contains(" ORHYLV"), "{}", book.day);
        assert_eq!(book.symbols.len(), instruments as usize);
    }
}

/// The same for configurations from all corners; each is printed, and comes again from its number.
#[test]
fn every_message_is_possible_whatever_is_asked_for() {
    for seed in 0..60_u64 {
        let draw = |which: u32, n: u64| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(which * 7) >> 20) % n;
        let share = |which| draw(which, 120) as u32;
        let config = ExchangeConfig {
            seed,
            instruments: [1, 3, 8, 9, 40, 500, 3_000][draw(1, 7) as usize],
            live_orders: [64, 70, 300, 5_000, 50_000][draw(2, 5) as usize],
            length: Length::Messages(120_000),
            rate: [1, 1_000, 1_000_000, 100_000_000][draw(3, 4) as usize],
            mix: Mix { execute: share(4), cancel: share(5), replace: share(6), hidden: share(7) },
            volatility: [0, 100, 1_000][draw(8, 3) as usize],
            incident_every: [0, 100, 300, 20_000][draw(9, 4) as usize],
            venue: [None, Some(Venue { number: 2, lag_ns: 300_000, ..Default::default() })][(seed % 2) as usize],
        };
        println!("{config:?}");
        let book = play(config, |_, _| {});
        assert!(book.messages >= 120_000 && book.day.ends_with(" C"), "{:?}", book.counts);
    }
}

/// A long session has all 23 types, and ends as it should when it is told to.
#[test]
fn every_type_appears() {
    let config = ExchangeConfig { instruments: 50, live_orders: 1_000, incident_every: 100, ..Default::default() };
    let book = play(config, |exchange, book| {
        if book.messages == 1_200_000 {
            exchange.end();
        }
    });
    let types: String = book.counts.keys().collect();
    assert_eq!(types, "ABCDEFHIJKLNOPQRSUVWXYh", "{:?}", book.counts);
    assert!(book.day.ends_with(" C"));
}

/// The kinds of messages have the shares that were asked for, and books hold what they should.
#[test]
fn the_mix_is_as_asked() {
    let usual = ExchangeConfig { instruments: 500, live_orders: 20_000, seed: 3, ..Default::default() };
    let other = ExchangeConfig { mix: Mix { execute: 120, cancel: 10, replace: 150, hidden: 20 }, ..usual };
    let calm = ExchangeConfig { volatility: 0, incident_every: 0, ..usual };
    for config in [usual, other, calm] {
        let mut exchange = Exchange::new(config).unwrap();
        let mut buffer = [0; MAX_MESSAGE_LEN];
        while !exchange.is_trading() {
            exchange.next(&mut buffer).unwrap();
        }
        let (mut counts, mut live, total, begin) = ([0_i64; 256], 0, 1_000_000, exchange.time_ns());
        for _ in 0..total {
            let message = exchange.next(&mut buffer).unwrap();
            counts[usize::from(message[0])] += 1;
            live += i64::from(exchange.live_orders());
        }
        let share = |types: &[u8]| types.iter().map(|code| counts[usize::from(*code)]).sum::<i64>() * 1_000 / total;
        let near = |found: i64, wanted: i64| assert!((found - wanted).abs() <= 1 + wanted / 20, "{found} for {wanted}");
        near(share(b"EC"), config.mix.execute.into());
        near(share(b"X"), config.mix.cancel.into());
        near(share(b"U"), config.mix.replace.into());
        near(share(b"P"), config.mix.hidden.into());
        near(share(b"F"), share(b"A") / 31);
        near(live / total, config.live_orders.into());
        if config.mix == Mix::default() {
            assert!((430..470).contains(&share(b"AF")), "{}", share(b"AF"));
            assert!((390..430).contains(&share(b"D")), "{}", share(b"D"));
        }
        let nanos = (exchange.time_ns() - begin) as i64 / total;
        assert!((700..1_050).contains(&nanos), "about a million messages a second, more in bursts: {nanos}");
    }
}

/// Activity is spread as it is in life, and prices of one sector go together while others go their own ways.
#[test]
fn prices_move_together() {
    let config =
        ExchangeConfig { instruments: 200, live_orders: 20_000, seed: 5, incident_every: 0, ..Default::default() };
    let mut exchange = Exchange::new(config).unwrap();
    let symbols: Vec<_> = exchange.symbols().collect();
    let locate = |symbol: &[u8; 8]| symbols.iter().position(|other| other == symbol).unwrap() as u16 + 1;
    let watched = [b"GOOGL   ", b"GOOG    ", b"QQQ     ", b"TQQQ    ", b"SQQQ    ", b"PFE     "].map(locate);
    let mut book = Reference::default();
    let mut buffer = [0; MAX_MESSAGE_LEN];
    let mut moves: Vec<[f64; 6]> = Vec::new();
    let mut last = None;
    let mut adds = vec![0_u32; 201];
    for number in 0..4_000_000 {
        let message = exchange.next(&mut buffer).unwrap();
        book.apply(message);
        if message[0] == b'A' {
            adds[usize::from(u16::from_be_bytes([message[1], message[2]]))] += 1;
        }
        if exchange.is_trading() && number % 40_000 == 0 {
            let middle = watched.map(|locate| match book.top(locate) {
                (Some(bid), Some(ask)) => f64::from(bid + ask).ln(),
                _ => f64::NAN,
            });
            if let Some(last) = last.replace(middle) {
                let last: [f64; 6] = last;
                moves.push(std::array::from_fn(|which| middle[which] - last[which]));
            }
        }
    }
    let correlation = |a: usize, b: usize| {
        let sum = |f: &dyn Fn(&[f64; 6]) -> f64| moves.iter().map(f).filter(|value| value.is_finite()).sum::<f64>();
        let (ab, aa, bb) = (sum(&|m| m[a] * m[b]), sum(&|m| m[a] * m[a]), sum(&|m| m[b] * m[b]));
        ab / (aa * bb).sqrt()
    };
    println!("{:?}", [correlation(0, 1), correlation(2, 3), correlation(2, 4), correlation(2, 5), correlation(0, 2)]);
    assert!(correlation(0, 1) > 0.5, "two shares of one company");
    assert!(correlation(2, 3) > 0.7 && correlation(2, 4) < -0.7, "threefold and inverse funds");
    assert!(correlation(2, 5) < correlation(2, 3), "another sector");
    let total: u32 = adds.iter().sum();
    assert!(adds[1] > total / 25 && adds[1] < total / 8, "{} of {total}", adds[1]);
    assert!(adds[200] * 20 < adds[1] && adds[200] > 0);
}

#[test]
fn a_duration_bounds_the_session() {
    let length = Length::Duration(50_000_000);
    let config = ExchangeConfig { instruments: 10, live_orders: 100, length, ..Default::default() };
    let mut trading = (u64::MAX, 0);
    play(config, |exchange, book| {
        if exchange.is_trading() {
            trading = (trading.0.min(book.time_ns), book.time_ns);
        }
    });
    assert!((49_000_000..50_010_000).contains(&(trading.1 - trading.0)), "{trading:?}");
}

#[test]
fn wrong_configurations_are_refused() {
    let good = ExchangeConfig::default();
    let cases = [
        (ExchangeConfig { instruments: 0, ..good }, ConfigError::Instruments),
        (ExchangeConfig { instruments: 10_001, ..good }, ConfigError::Instruments),
        (ExchangeConfig { live_orders: 63, ..good }, ConfigError::LiveOrders),
        (ExchangeConfig { live_orders: u32::MAX, ..good }, ConfigError::LiveOrders),
        (ExchangeConfig { rate: 0, ..good }, ConfigError::Rate),
        (ExchangeConfig { mix: Mix { execute: u32::MAX, ..good.mix }, ..good }, ConfigError::Mix),
        (ExchangeConfig { volatility: 1_001, ..good }, ConfigError::Volatility),
        (ExchangeConfig { incident_every: 99, ..good }, ConfigError::IncidentEvery),
        (ExchangeConfig { venue: Some(Venue { number: 0, ..Default::default() }), ..good }, ConfigError::Venue),
        (
            ExchangeConfig { venue: Some(Venue { lag_ns: 1_000_000_001, ..Default::default() }), ..good },
            ConfigError::Venue,
        ),
    ];
    for (config, error) in cases {
        assert_eq!(Exchange::new(config).err(), Some(error));
        assert!(error.to_string().contains(error.name()), "{error}");
    }
}
