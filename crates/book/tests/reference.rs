//! The books against a slow reference that is obviously right, over random and hostile calls.

mod driver;

use barewire_book::{Capacity, Counters};
use barewire_types::{Price, Side};
use driver::{Op, Pair};
use proptest::prelude::*;

/// A small generator with its state in sight (splitmix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * u128::from(n)) >> 64) as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Everything collides: two dozen ids, a dozen prices, five instruments.
    #[test]
    fn tiny_spaces(records in prop::collection::vec(any::<[u8; 8]>(), 0..400)) {
        driver::run(&records.concat());
    }
}

/// A call of a plausible session with its share of nonsense, over `ids` ids from `first` on.
fn session_op(rng: &mut Rng, first: u64, ids: u64, instruments: u32) -> Op {
    let id = first + rng.below(ids);
    let price = Price(rng.below(200) as i64 * 100_000 - 1_000_000);
    let size = rng.below(500) as u32;
    match rng.below(100) {
        0..45 => {
            let side = if rng.below(2) == 0 { Side::Bid } else { Side::Ask };
            Op::Add { instrument: rng.below(u64::from(instruments) + 1) as u32, id, side, price, size }
        }
        45..65 => Op::Reduce { id, size },
        65..89 => Op::Delete { id },
        89..99 => Op::Replace { old: id, new: first + rng.below(ids), price, size },
        _ if rng.below(50) == 0 => Op::Clear { instrument: rng.below(u64::from(instruments)) as u32 },
        _ => Op::Delete { id: id + ids },
    }
}

/// Ids that creep upwards over a table that is always nearly full, and never maintained.
#[test]
fn nearly_full() {
    for seed in 0..4 {
        let mut rng = Rng(seed);
        let mut pair = Pair::new(Capacity { instruments: 10, orders: 1000, levels: 3000 }, seed);
        for step in 0..120_000 {
            let op = session_op(&mut rng, step / 16, 4000, 10);
            pair.apply(op);
            if step % 10_000 == 0 {
                pair.check_all();
            }
        }
        assert!(pair.reference.counters.out_of_capacity > 0, "the table was never full");
        pair.check_all();
    }
}

/// A table for next to nothing that grows and is swept in mid-stream, hundredfold, with nothing refused.
#[test]
fn growth() {
    for seed in 0..3 {
        let mut rng = Rng(seed);
        let mut pair = Pair::new(Capacity { instruments: 50, orders: 1500, levels: 1500 }, seed);
        for step in 0..60_000 {
            let op = session_op(&mut rng, 0, 20_000, 50);
            pair.apply(op);
            if step % 20 == 0 {
                // Without the comparison of everything that `Op::Maintain` stands for.
                pair.books.maintain();
                pair.reference.counters.grown = pair.books.counters().grown;
            }
            if step % 5_000 == 0 {
                pair.apply(Op::Maintain);
            }
        }
        assert!(pair.books.counters().grown > 3);
        assert_eq!(pair.books.counters().out_of_capacity, 0);
        pair.check_all();
    }
}

/// Prices that wander far over a book that stays small, under ids that only rise, and orders that stay behind: the grid
/// moves up and down, and levels go in and out of it.
#[test]
fn wandering() {
    for seed in 0..4 {
        let mut rng = Rng(seed);
        let mut pair = Pair::new(Capacity { instruments: 5, orders: 500, levels: 500 }, seed);
        let (mut mid, mut speed) = (0, 0);
        let mut live = Vec::new();
        for id in 0..40_000 {
            if id % 1000 == 0 {
                speed = rng.below(21) as i64 - 10;
            }
            mid += speed * rng.below(3) as i64;
            let instrument = rng.below(5) as u32;
            let tick = [10_000_000, 100_000, 1, 300_000, i64::MAX / 100_000_000][instrument as usize];
            let side = if rng.below(2) == 0 { Side::Bid } else { Side::Ask };
            let ticks = mid + rng.below(60) as i64 - 30;
            let price = match rng.below(50) {
                0 => Price(ticks * tick * rng.below(20) as i64),
                1 => Price(ticks * tick + rng.below(tick as u64) as i64),
                _ => Price(ticks * tick),
            };
            let size = 1 + rng.below(100) as u32;
            if rng.below(10) == 0 && !live.is_empty() {
                let old = rng.below(live.len() as u64) as usize;
                pair.apply(Op::Replace { old: live.swap_remove(old), new: id, price, size });
            } else {
                pair.apply(Op::Add { instrument, id, side, price, size });
            }
            live.push(id);
            while live.len() > 300 {
                // Mostly young ones, so that some stay far behind.
                let span = 1 + rng.below(300);
                let at = live.len() - 1 - rng.below(span) as usize;
                pair.apply(Op::Delete { id: live.swap_remove(at) });
            }
            if id % 1000 == 999 {
                pair.apply(Op::Maintain);
            }
        }
        assert_eq!(pair.reference.counters, Counters { grown: pair.reference.counters.grown, ..Counters::default() });
    }
}

/// Thousands of levels on one side, touched anywhere: blocks of every size.
#[test]
fn many_levels() {
    let mut rng = Rng(7);
    let mut pair = Pair::new(Capacity { instruments: 2, orders: 20_000, levels: 20_000 }, 7);
    for id in 0..12_000 {
        let price = Price(rng.below(10_000) as i64 - 5_000);
        let side = if rng.below(8) == 0 { Side::Ask } else { Side::Bid };
        pair.apply(Op::Add { instrument: id as u32 % 2, id, side, price, size: 1 });
        if rng.below(3) == 0 {
            pair.apply(Op::Delete { id: rng.below(id + 1) });
        }
    }
    pair.check_all();
}
