//! Continuous trading: who does what next.
//!
//! A message is drawn from the mix. New orders and deletions share what the mix leaves, and the balance between them
//! holds each class of orders at its number. New orders go to instruments by activity and to prices by class: the
//! short-lived at the touch, the long-lived anywhere. One that would cross what rests on the other side trades instead,
//! or shows that somebody's price is out of date, who then takes it back.

use barewire_types::Side;

use super::day::Phase;
use super::encode;
use super::market::NewOrder;
use super::plan::{Plan, TAKERS};
use super::price::FACTOR_EVERY;
use super::random::below;
use super::{Exchange, MessageBuffer, Pending};

/// The most orders that one order trades against.
const SWEEP_ORDERS: u8 = 12;

/// The most executions that are saved up while nothing can trade, in 2^-16.
const CREDIT_LIMIT: i64 = 64 << 16;

/// How far beyond the best price an order may trade, in steps.
const SWEEP_STEPS: i32 = 3;

/// Who signs orders, where somebody does.
pub(super) const PARTICIPANTS: [[u8; 4]; 16] = [
    *b"NSDQ", *b"GSCO", *b"MSCO", *b"JPMS", *b"CDRG", *b"VIRT", *b"UBSS", *b"MLCO", *b"NITE", *b"ETMM", *b"IMCC",
    *b"JSJX", *b"HRTF", *b"SGAS", *b"TMBR", *b"WCHV",
];

impl Exchange {
    /// The next message of continuous trading, or 0 once that is over.
    #[inline]
    pub(super) fn trade(&mut self, out: &mut MessageBuffer) -> usize {
        self.execution_credit = (self.execution_credit + self.thresholds.execute_share).min(CREDIT_LIMIT);
        if self.pending != Pending::Nothing {
            let len = self.carry_on(out);
            if len != 0 {
                return len;
            }
        }
        if self.messages >= self.close_after || self.clock.ns >= self.close_at_ns {
            self.enter(Phase::ClosingImbalance);
            return 0;
        }
        if self.messages.is_multiple_of(FACTOR_EVERY) {
            self.turn();
        }
        let mut bits = self.random.bits();
        if self.follow.is_some() {
            let len = self.follow(out, (bits >> 32) as u32);
            if len != 0 {
                return len;
            }
        }
        self.clock.advance((bits >> 32) as u32);
        let mut tries = 0;
        loop {
            let mut len = 0;
            if self.messages >= self.incidents.next_at {
                len = self.incident(out);
            }
            if len == 0 && self.pending == Pending::Nothing {
                len = self.act(out, bits as u32);
            }
            if len == 0 && self.pending != Pending::Nothing {
                len = self.carry_on(out);
            }
            if len != 0 {
                return len;
            }
            bits = self.random.bits();
            tries += 1;
            if tries % 64 == 0 {
                // Hardly any order is left, and what could trade is halted: go on to what ends that.
                self.incidents.hasten();
            }
        }
    }

    /// What happens once in a while: the market moves, and a burst begins or ends.
    fn turn(&mut self) {
        let burst = self.clock.is_burst();
        self.factors.step(&mut self.random, burst);
        if self.random.one_in(if burst { 64 } else { 800 }) {
            self.clock.set_burst(!burst);
        }
    }

    /// One draw from the mix. 0 where nothing came of it, or what came of it is pending.
    #[inline(always)]
    fn act(&mut self, out: &mut MessageBuffer, bits: u32) -> usize {
        let kind = bits & 0xfff;
        let class = class_of(bits >> 12);
        if kind < self.thresholds.execute {
            if kind < self.thresholds.hidden {
                return self.trade_hidden(out);
            } else if kind < self.thresholds.cancel {
                return self.cancel_part(out, class);
            } else if kind < self.thresholds.replace {
                return self.replace_one(out, class);
            } else if self.execution_credit > 0 {
                self.come_to_trade();
                return 0;
            }
        }
        if bits >> 20 < self.market.orders.odds(class) { self.place(out, class) } else { self.delete_one(out, class) }
    }

    /// A new order, or the trades that it makes instead.
    #[inline(always)]
    pub(super) fn place(&mut self, out: &mut MessageBuffer, class: usize) -> usize {
        let plan = self.plans.next(class, &mut self.random, &self.market);
        let Plan { index, side, shares, noise, .. } = plan;
        if !self.visit(index, noise) {
            return 0;
        }
        let instrument = self.market.instrument(index);
        let tick = plan.tick(instrument);
        let crosses = if side == Side::Bid { tick >= instrument.best_ask } else { tick <= instrument.best_bid };
        if crosses {
            // What the price has left behind is traded with, or taken back where there has been enough of that.
            if self.execution_credit <= 0 {
                return self.market.first(index, side.opposite()).map_or(0, |slot| self.delete(out, slot));
            }
            let (side, limit, left) = (side.opposite(), tick, shares);
            self.pending = Pending::Sweep { index, side, limit, left, orders: SWEEP_ORDERS };
            return 0;
        }
        self.rest(out, index, side, tick, class, shares)
    }

    /// A new order that crosses nothing; 0 where its class is full.
    #[inline(always)]
    pub(super) fn rest(
        &mut self,
        out: &mut MessageBuffer,
        index: u16,
        side: Side,
        tick: i32,
        class: usize,
        shares: u32,
    ) -> usize {
        let instrument = self.market.instrument(index);
        let (stock, price) = (instrument.symbol, instrument.price(tick));
        let Some(slot) = self.market.orders.take(class) else { return 0 };
        let reference = self.reference();
        let order = NewOrder { index, side, tick, class, reference, shares };
        self.market.insert(slot, order);
        // One in 32 is signed, as good as at random.
        let mixed = reference.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let attribution = (mixed >> 59 == 0).then(|| PARTICIPANTS[(mixed >> 55) as usize % PARTICIPANTS.len()]);
        encode::add(out, self.head(index), &order, stock, price, attribution)
    }

    /// Brings an instrument's prices up to date, every fourth time. False where it is not trading, or its window has to
    /// move first.
    #[inline(always)]
    fn visit(&mut self, index: u16, noise: i32) -> bool {
        let instrument = self.market.instrument_mut(index);
        if instrument.state != b'T' {
            return false;
        }
        // Of several venues, each follows as time goes by.
        if noise & 3 != 0 || self.follow.is_some() {
            return true;
        }
        match instrument.visit(&self.factors, noise) {
            None => true,
            Some(low) => {
                self.pending = Pending::Slide { index, low };
                false
            }
        }
    }

    #[inline(always)]
    pub(super) fn delete_one(&mut self, out: &mut MessageBuffer, class: usize) -> usize {
        let bits = self.random.bits() as u32;
        match self.market.draw(class, bits) {
            Some(slot) => self.delete(out, slot),
            None => 0,
        }
    }

    #[inline(always)]
    pub(super) fn delete(&mut self, out: &mut MessageBuffer, slot: u32) -> usize {
        let order = self.market.orders.get(slot);
        let len = encode::delete(out, self.head(order.instrument), order.reference);
        self.market.remove(slot);
        len
    }

    fn cancel_part(&mut self, out: &mut MessageBuffer, class: usize) -> usize {
        let bits = self.random.bits();
        let Some(slot) = self.market.draw(class, bits as u32) else { return 0 };
        let order = self.market.orders.get_mut(slot);
        let (reference, index) = (order.reference, order.instrument);
        if order.shares == 1 {
            return self.delete(out, slot);
        }
        let half = order.shares / 2;
        let cut = if half >= 100 { half / 100 * 100 } else { 1 + below((bits >> 32) as u32, order.shares - 1) };
        order.shares -= cut;
        encode::cancel(out, self.head(index), reference, cut)
    }

    fn replace_one(&mut self, out: &mut MessageBuffer, class: usize) -> usize {
        let Some(slot) = self.market.draw(class, self.random.bits() as u32) else { return 0 };
        let order = *self.market.orders.get(slot);
        let mut plan = Plan::new(order.instrument, class, self.random.bits());
        plan.side = order.side();
        let Plan { index, side, .. } = plan;
        if !self.visit(index, plan.noise) {
            return 0;
        }
        let instrument = self.market.instrument(index);
        // It never trades: at the least it stays a step away from the other side.
        let tick = match side {
            Side::Bid => plan.tick(instrument).min(instrument.best_ask.saturating_sub(1)),
            _ => plan.tick(instrument).max(instrument.best_bid.saturating_add(1)),
        };
        if tick < instrument.low || tick - instrument.low > instrument.mask {
            return self.delete(out, slot);
        }
        let price = instrument.price(tick);
        let shares = if plan.noise & 3 == 0 { plan.shares } else { order.shares };
        let reference = self.reference();
        self.market.unlink(slot);
        let new = NewOrder { index, side, tick, class, reference, shares };
        self.market.insert(slot, new);
        encode::replace(out, self.head(index), order.reference, reference, shares, price)
    }

    /// An order that comes to trade at once: what rests on the other side is executed, as far as it goes.
    fn come_to_trade(&mut self) {
        let Plan { index, side, shares, noise, .. } = self.plans.next(TAKERS, &mut self.random, &self.market);
        if !self.visit(index, noise) {
            return;
        }
        let Some(best) = self.market.instrument(index).best(side) else { return };
        let Some(slot) = self.market.first(index, side) else { return };
        let limit = if side == Side::Bid { best - SWEEP_STEPS } else { best + SWEEP_STEPS };
        // Half of those who trade have seen what is there, and want just that.
        let left = if noise & 1 == 0 { self.market.orders.get(slot).shares } else { shares };
        self.pending = Pending::Sweep { index, side, limit, left, orders: SWEEP_ORDERS };
    }

    fn trade_hidden(&mut self, out: &mut MessageBuffer) -> usize {
        let Plan { index, shares, .. } = self.plans.next(TAKERS, &mut self.random, &self.market);
        let instrument = self.market.instrument(index);
        if instrument.state != b'T' {
            return 0;
        }
        let (Some(bid), Some(ask)) = (instrument.best(Side::Bid), instrument.best(Side::Ask)) else { return 0 };
        // Hidden orders are pegged to the middle.
        let price = (instrument.price(bid) + instrument.price(ask)) / 2;
        let stock = instrument.symbol;
        let number = self.match_number(index);
        encode::hidden_trade(out, self.head(index), shares, stock, price, number)
    }

    /// The next message of what has been begun; 0 when it is done.
    pub(super) fn carry_on(&mut self, out: &mut MessageBuffer) -> usize {
        match self.pending {
            Pending::Nothing => 0,
            Pending::Sweep { index, side, limit, left, orders } => {
                self.pending = Pending::Nothing;
                self.sweep(out, index, side, limit, left, orders)
            }
            Pending::Slide { index, low } => self.slide(out, index, low),
            Pending::Requote { index } => self.requote(out, index),
            Pending::Cross { .. } => self.carry_on_cross(out),
            Pending::Breaker { stage, cursor } => self.carry_on_breaker(out, stage, cursor),
        }
    }

    /// One execution: of the oldest order at the best price.
    fn sweep(&mut self, out: &mut MessageBuffer, index: u16, side: Side, limit: i32, left: u32, orders: u8) -> usize {
        let instrument = self.market.instrument(index);
        let Some(best) = instrument.best(side) else { return 0 };
        let beyond = if side == Side::Bid { best < limit } else { best > limit };
        if beyond {
            return 0;
        }
        let (price, step) = (instrument.price(best), instrument.step);
        let slot = self.market.oldest(instrument, best);
        let (reference, taken) = self.take_from(slot, left);
        if left > taken && orders > 1 {
            self.pending = Pending::Sweep { index, side, limit, left: left - taken, orders: orders - 1 };
        }
        self.execution_credit -= 1 << 16;
        let number = self.match_number(index);
        let head = self.head(index);
        if number.is_multiple_of(32) {
            // Half a step better for who came to trade.
            let better = if side == Side::Bid { price + step / 2 } else { price - step / 2 };
            return encode::executed_at(out, head, reference, taken, number, true, better);
        }
        encode::executed(out, head, reference, taken, number)
    }

    /// Executes an order for up to `shares`. Returns its number and what was taken.
    pub(super) fn take_from(&mut self, slot: u32, shares: u32) -> (u64, u32) {
        let order = self.market.orders.get_mut(slot);
        let (reference, taken) = (order.reference, order.shares.min(shares));
        if taken == order.shares {
            self.market.remove(slot);
        } else {
            order.shares -= taken;
        }
        (reference, taken)
    }

    /// One deletion that clears the way for the window; 0 once it has moved.
    pub(super) fn slide(&mut self, out: &mut MessageBuffer, index: u16, low: i32) -> usize {
        let instrument = self.market.instrument(index);
        let mask = instrument.mask;
        let in_the_way = if low > instrument.low {
            self.market.next_above(instrument, instrument.low - 1).filter(|tick| *tick < low)
        } else {
            self.market.next_below(instrument, instrument.low + mask + 1).filter(|tick| *tick > low + mask)
        };
        if let Some(tick) = in_the_way {
            let slot = self.market.oldest(instrument, tick);
            return self.delete(out, slot);
        }
        self.market.instrument_mut(index).low = low;
        self.pending = Pending::Nothing;
        0
    }
}

/// The class of the order that something happens to: of eight bits.
#[inline(always)]
fn class_of(bits: u32) -> usize {
    match bits & 0xff {
        0..160 => 0,
        160..224 => 1,
        _ => 2,
    }
}
