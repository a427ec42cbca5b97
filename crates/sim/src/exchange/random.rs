//! Random draws, in integers throughout: a seed means the same messages on every machine.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The source of every draw.
#[derive(Clone, Debug)]
pub(crate) struct Random(Xoshiro256PlusPlus);

impl Random {
    /// A stream of its own for each seed.
    pub(crate) fn new(seed: u64) -> Random {
        Random(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// 64 random bits.
    #[inline(always)]
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`, evenly but for one part in 2^32; 0 for 0.
    #[inline(always)]
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        below(self.bits() as u32, n)
    }

    /// True once in `n` on average.
    #[inline(always)]
    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }
}

/// 32 random bits as a number below `n`; 0 for 0.
#[inline(always)]
pub(super) fn below(bits: u32, n: u32) -> u32 {
    ((u64::from(bits) * u64::from(n)) >> 32) as u32
}

/// Mixes 64 bits until each depends on all (the finaliser of splitmix64).
#[inline]
pub(super) fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// 32 random bits as a waiting time, exponentially distributed with a mean of 1.5, in units of 2^-16.
///
/// The number of leading zeros is geometric, which is the exponential distribution to base two in whole steps; the bits
/// behind them place it within its step, on a straight line where the logarithm is a curve. That is within 6% of the
/// true density everywhere, and needs no logarithm.
#[inline(always)]
pub(super) fn waiting(bits: u32) -> u64 {
    let zeros = (bits | 1).leading_zeros();
    let fraction = bits << zeros << 1 >> 16;
    u64::from((zeros << 16) + (0xffff - fraction))
}

/// Roughly normal: mean 0, standard deviation 4.
#[inline(always)]
pub(super) fn noise(bits: u64) -> i64 {
    i64::from(bits.count_ones()) - 32
}

/// 22 random bits as a number around 0, in the shape of a triangle, between -2047 and 2047; standard deviation 836.
#[inline(always)]
pub(super) fn triangle(bits: u32) -> i32 {
    (bits & 0x7ff) as i32 + (bits >> 11 & 0x7ff) as i32 - 2_047
}

/// Draws an index with a given weight in constant time (Walker's alias method, built as Vose does).
#[derive(Clone, Debug)]
pub(super) struct Alias {
    /// The chance, of 2^32, to stay on the entry, and where to go otherwise.
    entries: Vec<(u32, u32)>,
}

impl Alias {
    /// Weights of at least 1 each, whose sum times their number stays below 2^96.
    pub(super) fn new(weights: &[u64]) -> Alias {
        let n = weights.len();
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum::<u128>().max(1);
        // 2^32 is an even share.
        let even = 1_u64 << 32;
        let mut share: Vec<u64> =
            weights.iter().map(|weight| (((u128::from(*weight) * n as u128) << 32) / total) as u64).collect();
        let mut entries: Vec<(u32, u32)> = (0..n as u32).map(|index| (u32::MAX, index)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|index| share[*index] < even);
        while let (Some(less), Some(more)) = (small.pop(), large.pop()) {
            entries[less] = (share[less] as u32, more as u32);
            share[more] -= even - share[less];
            if share[more] < even { small.push(more) } else { large.push(more) }
        }
        Alias { entries }
    }

    /// An index.
    #[inline(always)]
    pub(super) fn draw(&self, bits: u64) -> u32 {
        let index = below((bits >> 32) as u32, self.entries.len() as u32);
        let (stay, other) = self.entries[index as usize];
        if (bits as u32) < stay { index } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drawn shares follow the weights, and waiting times have the mean that they promise.
    #[test]
    fn draws_follow_their_distributions() {
        let mut random = Random::new(7);
        let weights = [1, 2, 5, 100, 1, 41];
        let alias = Alias::new(&weights);
        let mut counts = [0_u64; 6];
        let draws = 1_500_000;
        for _ in 0..draws {
            counts[alias.draw(random.bits()) as usize] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            let expected = weight * draws / 150;
            assert!(count.abs_diff(expected) < expected / 20 + 100, "{count} for {expected}");
        }

        let sum: u64 = (0..draws).map(|_| waiting(random.bits() as u32)).sum();
        assert!((sum / draws).abs_diff(3 << 15) < 500, "{}", sum / draws);
        let (mut sum, mut squares) = (0, 0);
        for _ in 0..draws {
            let value = noise(random.bits());
            sum += value;
            squares += value * value;
        }
        assert!(sum.unsigned_abs() < draws / 20);
        assert!((squares as u64 / draws).abs_diff(16) <= 1);
        let squares: i64 = (0..draws).map(|_| i64::from(triangle(random.bits() as u32)).pow(2)).sum();
        assert!((squares as u64 / draws).isqrt().abs_diff(836) <= 2);
    }
}
