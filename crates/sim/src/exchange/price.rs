//! Fair prices: what moves them, and how the books follow.
//!
//! A price is its usual one times one plus what has moved it: the whole market, times the instrument's beta; its sector;
//! and itself. All three are random walks that are slowly drawn back, so prices wander without ever getting lost, and
//! two instruments of one sector move together and return to each other. Movements are in units of 2^-40 and happen by
//! the number of messages, not by time: a busy market moves more.

use super::ExchangeConfig;
use super::market::Instrument;
use super::random::{Random, noise};
use super::symbols::{Listing, SECTORS, Sector};

/// What moves many prices at once.
#[derive(Clone, Debug)]
pub(super) struct Factors {
    market: i64,
    sectors: [i64; SECTORS],
    /// Size of a step of the market.
    size: i64,
}

/// Messages between two steps of the factors.
pub(super) const FACTOR_EVERY: u64 = 64;

/// A step of the market at 100% volatility: 2.2e6 times a deviation of 4 is 8e-6. That makes 1e-3 in a million messages,
/// and in the long run, with the return of one part in 2^20, 0.6%.
const MARKET_STEP: i64 = 2_200_000;

impl Factors {
    pub(super) fn new(volatility: u32) -> Factors {
        Factors { market: 0, sectors: [0; SECTORS], size: MARKET_STEP * i64::from(volatility) / 100 }
    }

    /// One step of the market and of one sector; three times as large in a burst.
    pub(super) fn step(&mut self, random: &mut Random, burst: bool) {
        let size = if burst { 3 * self.size } else { self.size };
        self.market += noise(random.bits()) * size - (self.market >> 20);
        // Each sector's turn comes once in eight, so its step is greater by the root of eight, and half the market's.
        let sector = &mut self.sectors[random.below(SECTORS as u32) as usize];
        *sector += noise(random.bits()) * size * 181 / 128 - (*sector >> 17);
    }
}

/// An instrument as it begins its day. `share` is its part of all orders, in 2^-32; `rank` its place by activity.
pub(super) fn instrument(
    listing: &Listing,
    rank: u32,
    share: u64,
    config: &ExchangeConfig,
    random: &mut Random,
) -> Instrument {
    let ExchangeConfig { live_orders, volatility, .. } = *config;
    // 1e-4 USD, up to 5% off the usual price.
    let price = u64::from(listing.cents) * u64::from(950_000 + random.below(100_001)) / 10_000;
    let hot = rank < 200;
    // A step of a basis point for the most traded, up to ten for others, as spreads are; whole cents from a dollar up.
    let wanted = price / if hot { 10_000 } else { 1_000 };
    let cents = [100, 50, 25, 10, 5, 2, 1].into_iter().find(|cents| cents * 100 <= wanted);
    // Where prices are compared between venues, they are quoted as finely as they may be.
    let cents = if config.venue.is_some() { Some(1) } else { cents };
    let step = if price < 10_000 { wanted.max(1) } else { cents.unwrap_or(1) * 100 };
    let usual_tick = price / step;
    // Wide enough for the orders to be spread out, never so wide that prices near zero would be needed.
    let expected = (share * u64::from(live_orders)) >> 32;
    let wanted = match expected {
        0..=99 => 64,
        100..=999 => 128,
        1_000..=4_999 => 256,
        5_000..=19_999 => 512,
        _ => 1_024,
    };
    let width = (0..=10).rev().map(|bits| 1_u64 << bits).find(|width| *width <= usual_tick / 2);
    let width = wanted.min(width.unwrap_or(64)).max(64) as i32;

    // Visits in a hundred million messages, of which a quarter count. The price's own movement over so many is `own` percent of the market's, so
    // a visit's is smaller by the root of their number, and what draws it back is weaker in proportion.
    let visits = ((share * 25_000_000) >> 32).max(64);
    let day = 11_000_000_000 / 836 * i64::from(volatility) / 100;
    let own_return = (visits * 2 / 3).ilog2().clamp(4, 30) as u8;
    let usual = (usual_tick as i64) << 16;
    Instrument {
        symbol: listing.symbol,
        mask: width - 1,
        levels: 0,
        low: usual_tick as i32 - width / 2,
        best_bid: super::market::NO_BID,
        best_ask: super::market::NO_ASK,
        bid_limit: usual_tick as i32,
        ask_limit: usual_tick as i32 + 1,
        step: step as u32,
        state: b'T',
        sector: listing.sector as u8,
        own_return,
        fund: listing.fund,
        // Of the half on each side the fair price may use an eighth, and the limits three steps.
        reach: width * 3 / 8 - 4,
        half_spread: if hot { 0 } else { i64::from(random.below(2 << 16)) },
        usual,
        fair: usual,
        own: 0,
        own_size: day / (visits.isqrt() as i64) * listing.own / 100,
        beta: listing.beta * 256 / 100,
        sector_beta: if listing.sector == Sector::Market { 0 } else { listing.beta * 256 / 100 },
    }
}

impl Instrument {
    /// Brings the fair price up to date and the limits with it; `noise` is of a deviation of 836. Returns where the window should begin if it has to move.
    #[inline(always)]
    pub(super) fn visit(&mut self, factors: &Factors, noise: i32) -> Option<i32> {
        self.own += i64::from(noise) * self.own_size - (self.own >> self.own_return);
        let common = factors.market * i64::from(self.beta)
            + factors.sectors[usize::from(self.sector) % SECTORS] * i64::from(self.sector_beta);
        // A quarter at most, so that no price comes near zero.
        self.settle(self.target(((common >> 8) + self.own).clamp(-(1 << 38), 1 << 38)))
    }

    /// The price that has moved so far, in 2^-40, from the usual one; in 2^-16 steps.
    #[inline(always)]
    pub(super) fn target(&self, moved: i64) -> i64 {
        self.usual + ((self.usual * (moved >> 16)) >> 24)
    }

    /// Whether the limits stay where they are at this fair price: until it is half a step outside, or a price at the
    /// border between two steps would make and break quotes all the time.
    #[inline(always)]
    pub(super) fn keeps(&self, fair: i64) -> bool {
        let half_step = 1 << 15;
        let inside = (i64::from(self.bid_limit) << 16) - half_step..=(i64::from(self.ask_limit) << 16) + half_step;
        inside.contains(&fair)
    }

    /// Brings the fair price closer to this one, and the limits with it. Returns where the window should begin if it has
    /// to move.
    #[inline(always)]
    pub(super) fn settle(&mut self, target: i64) -> Option<i32> {
        // A book that has not been looked at for long catches up in several steps.
        let stride = i64::from(self.width()) << 12;
        self.fair += (target - self.fair).clamp(-stride, stride);
        if !self.keeps(self.fair) {
            self.bid_limit = ((self.fair - self.half_spread) >> 16) as i32;
            self.ask_limit = (((self.fair + self.half_spread + 0xffff) >> 16) as i32).max(self.bid_limit + 1);
        }
        self.window()
    }

    /// Where the window should begin if it has to move.
    #[inline(always)]
    pub(super) fn window(&self) -> Option<i32> {
        let tick = (self.fair >> 16) as i32;
        let centre = self.low + self.width() / 2;
        ((tick - centre).abs() > self.width() / 8).then_some(tick - self.width() / 2)
    }
}
