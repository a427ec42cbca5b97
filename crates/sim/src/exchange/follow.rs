//! One venue of several: its quotes follow a path of prices that all share, each instrument with a lag of its own.
//!
//! When the fair price leaves what is quoted, orders that are out of date are taken back, or traded with by who was
//! quicker, one after the other, and new ones come where the price is now: a burst of messages, some 200 ns apart. A
//! quote that was traded away is made anew as quickly. When that will next happen is known ahead: from the path's bounds
//! follows until when it stays within what is quoted, so that a quiet market costs nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use barewire_types::Side;

use super::config::Venue;
use super::day::START_OF_MARKET;
use super::encode;
use super::latent::Latent;
use super::market::Instrument;
use super::orders::CLASSES;
use super::random::{below, mix, waiting};
use super::symbols::Listing;
use super::{Exchange, ExchangeConfig, MessageBuffer, Pending};

/// Mean time between the messages of a burst, in 2^-16 ns.
const QUICK: u64 = 200 << 16;
/// What is halted is looked at again after so long, ns.
const HALTED_NS: u64 = 1_000_000;

/// What a venue follows.
#[derive(Clone, Debug)]
pub(super) struct Follow {
    latents: Vec<Latent>,
    lags: Vec<u64>,
    targets: Vec<i64>,
    /// When to look at which instrument, by the market's time.
    looks: BinaryHeap<Reverse<(u64, u16)>>,
    /// The market's time where it is not the exchange's own.
    outside: Option<u64>,
    /// The instrument of the last message.
    touched: Option<u16>,
}

impl Follow {
    pub(super) fn new(
        venue: Venue,
        config: &ExchangeConfig,
        listings: &[Listing],
        instruments: &[Instrument],
    ) -> Follow {
        let latents = (0..).zip(listings).zip(instruments).map(|((place, listing), instrument)| {
            Latent::new(config.seed, config.volatility, place, listing.own, instrument)
        });
        let lags: Vec<u64> = (0..listings.len() as u64).map(|place| lag(venue, place)).collect();
        let looks = lags.iter().zip(0..).map(|(lag, index)| Reverse((*lag, index))).collect();
        let targets = instruments.iter().map(|instrument| instrument.usual).collect();
        Follow { latents: latents.collect(), lags, targets, looks, outside: None, touched: None }
    }
}

/// How much later than things happen an instrument follows.
fn lag(venue: Venue, place: u64) -> u64 {
    let own = if place == 0 { 0 } else { below(mix(place) as u32, venue.instrument_lag_ns as u32 + 1).into() };
    venue.lag_ns + own
}

/// What is known of an instrument of a venue because it is simulated.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Padded with spaces.
    pub symbol: [u8; 8],
    /// The price that has not moved, in USD.
    pub usual: f64,
    /// What a move of the market does to the price, and what one of its sector does.
    pub beta: f64,
    /// See `beta`.
    pub sector_beta: f64,
    /// Which sector, by number.
    pub sector: u8,
    /// Deviation of its own movement, in parts of the market's. A sector's is one half.
    pub own: f64,
    /// How much later than things happen its quotes follow, ns.
    pub lag_ns: u64,
    latent: Latent,
}

impl Truth {
    /// How far the price has moved from the usual one, as a part of it, so long after the market's beginning (09:30, or
    /// 1970 where the system's clock is the market's), ns.
    pub fn moved(&mut self, ns: u64) -> f64 {
        self.latent.moved(ns) as f64 / (1_u64 << 40) as f64
    }
}

impl Exchange {
    /// What is known of every instrument, where this is one of several venues; else nothing.
    pub fn truth(&self) -> Vec<Truth> {
        let Some(follow) = &self.follow else { return Vec::new() };
        let listings = super::symbols::listings(self.market.instruments.len());
        let all = self.market.instruments.iter().zip(&follow.latents).zip(&follow.lags).zip(listings);
        all.map(|(((instrument, latent), lag), listing)| Truth {
            symbol: instrument.symbol,
            usual: instrument.usual as f64 / 65_536.0 * f64::from(instrument.step) / 10_000.0,
            beta: f64::from(instrument.beta) / 256.0,
            sector_beta: f64::from(instrument.sector_beta) / 256.0,
            sector: instrument.sector,
            own: listing.own as f64 / 100.0,
            lag_ns: *lag,
            latent: latent.clone(),
        })
        .collect()
    }

    /// Whether the market's time is to be told: this is one of several venues.
    pub fn is_venue(&self) -> bool {
        self.follow.is_some()
    }

    /// The market's time is this from now on, and not the exchange's own, which only several processes with one system
    /// clock have in common; ns. Nothing for an exchange by itself.
    pub fn set_market_time(&mut self, ns: u64) {
        let Some(follow) = &mut self.follow else { return };
        if follow.outside.replace(ns).is_none() {
            // Nobody has quoted yet: the day begins where the prices are.
            let all = self.market.instruments.iter_mut().zip(&mut follow.latents).zip(&follow.lags);
            for (((instrument, latent), lag), target) in all.zip(&mut follow.targets) {
                let fair = instrument.target(latent.moved(ns.saturating_sub(*lag)));
                *target = fair;
                let tick = (fair >> 16) as i32;
                instrument.low += tick - instrument.bid_limit;
                (instrument.fair, instrument.bid_limit, instrument.ask_limit) = (fair, tick, tick + 1);
            }
        }
    }

    /// Notes whom a message was about.
    pub(super) fn touched(&mut self, out: &MessageBuffer, len: usize) {
        let Some(follow) = &mut self.follow else { return };
        let locate = u16::from_be_bytes([out[1], out[2]]);
        follow.touched = if len == 0 { None } else { locate.checked_sub(1) };
    }

    /// A message of an instrument that has to be quoted anew before the next ordinary message, which comes after so many
    /// random bits' waiting time; 0 where there is none.
    #[inline(never)]
    pub(super) fn follow(&mut self, out: &mut MessageBuffer, bits: u32) -> usize {
        let Some(follow) = &mut self.follow else { return 0 };
        let touched = follow.touched.take();
        let gap = ((self.clock.gap >> 8) * waiting(bits)) >> 24;
        let due = follow.outside.unwrap_or_else(|| self.clock.ns.saturating_sub(START_OF_MARKET) + gap);
        if let Some(index) = touched {
            self.pending = Pending::Requote { index };
        }
        loop {
            if self.pending == Pending::Nothing {
                let Some(mut follow) = self.follow.take() else { return 0 };
                let found = self.look(&mut follow, due);
                self.follow = Some(follow);
                if !found {
                    return 0;
                }
            }
            let len = self.carry_on(out);
            if len != 0 {
                return len;
            }
        }
    }

    /// Looks at the instruments whose turn comes by `due`; whether one of them has to be quoted anew.
    fn look(&mut self, follow: &mut Follow, due: u64) -> bool {
        while let Some(&Reverse((at, index))) = follow.looks.peek() {
            if at > due {
                break;
            }
            follow.looks.pop();
            let instrument = self.market.instrument(index);
            if instrument.state != b'T' {
                follow.looks.push(Reverse((due + HALTED_NS, index)));
                continue;
            }
            let place = usize::from(index);
            let (Some(latent), Some(lag)) = (follow.latents.get_mut(place), follow.lags.get(place)) else { continue };
            // Time that was not ours may be later than the look was due.
            let then = follow.outside.unwrap_or(at).saturating_sub(*lag);
            let target = instrument.target(latent.moved(then));
            let quiet = latent.quiet_until(then, |moved| instrument.keeps(instrument.target(moved)));
            let is_kept = instrument.keeps(target);
            follow.looks.push(Reverse((quiet.max(then + 1) + lag, index)));
            if !is_kept {
                if let Some(to) = follow.targets.get_mut(place) {
                    *to = target;
                }
                if follow.outside.is_none() {
                    self.clock.advance_to(START_OF_MARKET + at);
                }
                self.pending = Pending::Requote { index };
                return true;
            }
            if let Some(to) = follow.targets.get_mut(place) {
                *to = instrument.fair;
            }
        }
        false
    }

    /// The next message that brings an instrument's quotes to where they should be; 0 when they are there.
    pub(super) fn requote(&mut self, out: &mut MessageBuffer, index: u16) -> usize {
        let Some(target) = self.follow.as_ref().and_then(|follow| follow.targets.get(usize::from(index)).copied())
        else {
            self.pending = Pending::Nothing;
            return 0;
        };
        loop {
            let instrument = self.market.instrument_mut(index);
            let (bid, ask) = (instrument.best_bid, instrument.best_ask);
            if instrument.state != b'T' {
                break;
            }
            let stale = match () {
                () if bid > instrument.bid_limit => Some(Side::Bid),
                () if ask < instrument.ask_limit => Some(Side::Ask),
                () => None,
            };
            if let Some(slot) = stale.and_then(|side| self.market.first(index, side)) {
                return self.out_of_date(out, index, slot);
            }
            if let Some(low) = self.market.instrument(index).window() {
                let len = self.slide(out, index, low);
                self.pending = Pending::Requote { index };
                if len != 0 {
                    return len;
                }
                continue;
            }
            let instrument = self.market.instrument_mut(index);
            if instrument.fair != target {
                instrument.settle(target);
                continue;
            }
            let (side, tick) = match () {
                () if bid < instrument.bid_limit => (Side::Bid, instrument.bid_limit),
                () if ask > instrument.ask_limit => (Side::Ask, instrument.ask_limit),
                () => break,
            };
            let bits = self.random.bits() as u32;
            self.clock.advance_by((QUICK * waiting(bits)) >> 16);
            let shares = 100 * (1 + (bits & 3));
            let len = (0..CLASSES).find_map(|class| match self.rest(out, index, side, tick, class, shares) {
                0 => None,
                len => Some(len),
            });
            match len {
                Some(len) => return len,
                // No room for another order: the next one that goes makes some.
                None => break,
            }
        }
        self.pending = Pending::Nothing;
        0
    }

    /// An order at a price that is past: a quarter of them are traded with, the others taken back in time.
    fn out_of_date(&mut self, out: &mut MessageBuffer, index: u16, slot: u32) -> usize {
        let bits = self.random.bits() as u32;
        self.clock.advance_by((QUICK * waiting(bits)) >> 16);
        if bits & 3 == 0 && self.execution_credit > 0 {
            let (reference, taken) = self.take_from(slot, u32::MAX);
            self.execution_credit -= 1 << 16;
            let number = self.match_number(index);
            return encode::executed(out, self.head(index), reference, taken, number);
        }
        self.delete(out, slot)
    }
}
