//! What prices would be if everybody knew everything at once: the path that the quotes of several venues follow.
//!
//! An instrument's move is the market's times its beta, its sector's times its beta, and its own; all three are
//! Brownian motions in a time of their own that runs in bursts, one time for all of them. So volatility comes in
//! clusters, as it does, and the ratios between the three, and with them every hedge ratio, are the same throughout.
//!
//! The motions are made by halving: what a block of time moves is known before what its halves move (a Brownian bridge),
//! and the halves have a quarter and three quarters of its variance, or the other way around, by chance (a multifractal
//! cascade: Mandelbrot, Fisher, Calvet, "A Multifractal Model of Asset Returns", 1997). Every draw is a hash of the seed
//! and the place in the tree, so that the move at any time can be had without those before it, by any process, and is
//! the same everywhere. Movements are in 2^-40, in integers.

use super::market::Instrument;
use super::random::mix;

/// A step is 2^11 ns, 2 us: within one, nothing moves.
const STEP_BITS: u32 = 11;
/// A block is 2^45 ns, 9.8 hours; at both of its ends nothing has moved yet, or any more.
const BLOCK_BITS: u32 = 45;
const LEVELS: usize = (BLOCK_BITS - STEP_BITS) as usize;
/// Blocks of up to 2^36 ns, 69 s, have variance in bursts; larger ones have it evenly, so that no minute is dead.
const BURSTS_BELOW: usize = (BLOCK_BITS - 36) as usize;
/// The market's deviation over a block's length at 100% volatility: 1%.
const MARKET: i64 = (1 << 40) / 100;

/// A node of the tree: what has moved at its ends, and the deviation in between.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    begin: i64,
    end: i64,
    deviation: i64,
}

/// One motion, and where it was looked at last: looking a little further on costs a few levels.
#[derive(Clone, Debug)]
struct Motion {
    seed: u64,
    clock_seed: u64,
    size: i64,
    block: u64,
    step: u64,
    /// From the whole block down to a step.
    nodes: [Node; LEVELS + 1],
}

/// Roughly normal, mean 0, deviation 1, in 2^-16, never beyond 3.47: the sum of four even draws.
fn normal(bits: u64) -> i64 {
    let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
    (sum as i64 - 2 * 0xffff) * 1_773 / 1_024
}

impl Motion {
    fn new(seed: u64, clock_seed: u64, size: i64) -> Motion {
        let root = Node { begin: 0, end: 0, deviation: size };
        Motion { seed, clock_seed, size, block: u64::MAX, step: 0, nodes: [root; LEVELS + 1] }
    }

    /// Looks at a time: afterwards `nodes` are those around it.
    fn seek(&mut self, ns: u64) {
        let (block, step) = (ns >> BLOCK_BITS, ns >> STEP_BITS & ((1 << LEVELS) - 1));
        let mut level = match (block == self.block, (step ^ self.step).checked_ilog2()) {
            (true, None) => return,
            (true, Some(bit)) => LEVELS - 1 - bit as usize,
            (false, _) => 0,
        };
        (self.block, self.step) = (block, step);
        self.nodes[0] = Node { begin: 0, end: 0, deviation: self.size };
        while level < LEVELS {
            let place = ((block << LEVELS | step) >> (LEVELS - level)) + ((level as u64) << 56);
            let Node { begin, end, deviation } = self.nodes[level];
            let bits = mix(self.seed ^ mix(place));
            // The share of the first half in 2^-16; the roots of both shares, and of their product.
            let (share, first, second, both) = if level < BURSTS_BELOW {
                (32_768, 46_341, 46_341, 32_768)
            } else if mix(self.clock_seed ^ mix(place)) >> 63 == 0 {
                (16_384, 32_768, 56_756, 28_378)
            } else {
                (49_152, 56_756, 32_768, 28_378)
            };
            let middle = begin + (((end - begin) * share) >> 16) + ((((deviation * both) >> 16) * normal(bits)) >> 16);
            let is_first = step >> (LEVELS - 1 - level) & 1 == 0;
            level += 1;
            self.nodes[level] = if is_first {
                Node { begin, end: middle, deviation: (deviation * first) >> 16 }
            } else {
                Node { begin: middle, end, deviation: (deviation * second) >> 16 }
            };
        }
    }

    fn now(&self) -> i64 {
        self.nodes[LEVELS].begin
    }

    /// What it can be, at the least and at the most, within the block of this level that was looked at.
    fn bounds(&self, level: usize) -> (i64, i64) {
        let Node { begin, end, deviation } = self.nodes[level];
        // A half is off the straight line by half a deviation times 3.47 at the most, and its deviation is at most
        // sqrt(3/4) of the whole's: the sum over all levels is 12.96 deviations. And what rounding does.
        let off = deviation * 13 + 64;
        (begin.min(end) - off, begin.max(end) + off)
    }
}

/// An instrument's way.
#[derive(Clone, Debug)]
pub(super) struct Latent {
    market: Motion,
    sector: Motion,
    own: Motion,
    beta: i64,
    sector_beta: i64,
}

impl Latent {
    /// Of the instrument with this place; `own` is its own movement in percent of the market's.
    pub(super) fn new(seed: u64, volatility: u32, place: u16, own: i64, instrument: &Instrument) -> Latent {
        let size = MARKET * i64::from(volatility) / 100;
        let clock = mix(seed ^ 0xc10c);
        let motion = |what: u64, size: i64| Motion::new(mix(seed ^ what << 32), clock, size);
        Latent {
            market: motion(1, size),
            sector: motion(2 + u64::from(instrument.sector), size / 2),
            own: motion(1_000 + u64::from(place), size * own / 100),
            beta: instrument.beta.into(),
            sector_beta: instrument.sector_beta.into(),
        }
    }

    fn motions(&mut self) -> [(&mut Motion, i64); 3] {
        [(&mut self.market, self.beta), (&mut self.sector, self.sector_beta), (&mut self.own, 256)]
    }

    /// How far the price has moved from the usual at this time, in 2^-40 of it.
    pub(super) fn moved(&mut self, ns: u64) -> i64 {
        let sum: i64 = self
            .motions()
            .into_iter()
            .map(|(motion, beta)| {
                motion.seek(ns);
                motion.now() * beta
            })
            .sum();
        clamped(sum >> 8)
    }

    /// The end of the longest block around this time throughout which every move is one of those `inside`, which have no
    /// holes; a step's end where no longer one is sure.
    pub(super) fn quiet_until(&mut self, ns: u64, inside: impl Fn(i64) -> bool) -> u64 {
        self.moved(ns);
        let stays = |latent: &mut Latent, level: usize| {
            let (mut least, mut most) = (0, 0);
            for (motion, beta) in latent.motions() {
                let (low, high) = motion.bounds(level);
                least += (low * beta).min(high * beta);
                most += (low * beta).max(high * beta);
            }
            inside(clamped(least >> 8)) && inside(clamped(most >> 8))
        };
        let mut level = LEVELS;
        while level > 0 && stays(self, level - 1) {
            level -= 1;
        }
        let bits = BLOCK_BITS - level as u32;
        ((ns >> bits) + 1) << bits
    }
}

/// A quarter at most, so that no price comes near zero.
fn clamped(moved: i64) -> i64 {
    moved.clamp(-(1 << 38), 1 << 38)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same move whichever way one comes to it; and where it is said to stay within bounds, it does.
    #[test]
    fn moves_are_found_from_anywhere_and_keep_their_bounds() {
        let mut random = super::super::Random::new(5);
        for seed in 0..20 {
            let mut walked = Motion::new(seed, 77, MARKET);
            let mut ns = random.bits() >> 20;
            for _ in 0..2_000 {
                walked.seek(ns);
                let mut fresh = Motion::new(seed, 77, MARKET);
                fresh.seek(ns);
                assert_eq!(walked.now(), fresh.now(), "seed {seed}, {ns} ns");
                let level = random.below(LEVELS as u32 + 1) as usize;
                let (low, high) = walked.bounds(level);
                let bits = BLOCK_BITS - level as u32;
                let begin = ns >> bits << bits;
                for _ in 0..4 {
                    let mut other = walked.clone();
                    other.seek(begin + (random.bits() & ((1 << bits) - 1)));
                    assert!((low..=high).contains(&other.now()), "seed {seed}, level {level}");
                }
                ns += random.bits() >> (20 + random.below(40));
            }
        }
    }

    /// Over many seeds a motion spreads as it should, whatever the bursts, and at every distance.
    #[test]
    fn moves_have_their_deviation() {
        let quarter = 1_u64 << (BLOCK_BITS - 2);
        for (from, to, share) in [(quarter, 3 * quarter, 0.25), (quarter, quarter + (1 << 24), 2_f64.powi(24 - 45))] {
            let squares: f64 = (0..4_000_u64)
                .map(|seed| {
                    let mut motion = Motion::new(mix(seed), mix(!seed), MARKET);
                    motion.seek(from);
                    let begin = motion.now();
                    motion.seek(to);
                    ((motion.now() - begin) as f64 / MARKET as f64).powi(2)
                })
                .sum();
            let found = squares / 4_000.0 / share;
            assert!((0.75..1.3).contains(&found), "{found}");
        }
    }
}
