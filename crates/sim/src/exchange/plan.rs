//! Orders to come: what they will be like, drawn a little ahead of their turn.
//!
//! Where an order goes decides which memory it touches: an instrument, a level, the order that it will stand behind. Each
//! of these is asked for as soon as the one before it is there.

use barewire_types::Side;

use super::market::{Instrument, Market};
use super::orders::CLASSES;
use super::random::{Alias, Random, triangle};

/// An order that is about to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) index: u16,
    /// The side that it goes to; of who comes to trade, the side that is traded with.
    pub(super) side: Side,
    /// From the limit of its side, in steps.
    distance: i32,
    pub(super) shares: u32,
    /// What moves the instrument's price when this is carried out.
    pub(super) noise: i32,
    /// The level where it would go when that was last looked at.
    level: u32,
}

impl Plan {
    /// What a class of orders is like, of 63 random bits.
    #[inline(always)]
    pub(super) fn new(index: u16, class: usize, bits: u64) -> Plan {
        let side = if bits >> 63 == 0 { Side::Bid } else { Side::Ask };
        Plan {
            index,
            side,
            distance: distance(bits as u32 & 0xf_ffff, class),
            shares: size((bits >> 20) as u32 & 0xf_ffff),
            noise: triangle((bits >> 40) as u32),
            level: 0,
        }
    }

    /// The price that it has as things are.
    #[inline(always)]
    pub(super) fn tick(&self, instrument: &Instrument) -> i32 {
        let part = (-self.distance * instrument.reach) >> 10;
        let distance = if self.distance < 0 { part } else { self.distance.min(instrument.reach) };
        if self.side == Side::Bid { instrument.bid_limit - distance } else { instrument.ask_limit + distance }
    }
}

/// Orders to come, drawn ahead so that the memory they will touch can be asked for: for each class, and for those who
/// come to trade at once.
#[derive(Clone, Debug)]
pub(super) struct Plans {
    alias: Alias,
    queues: [Queue; CLASSES + 1],
}

#[derive(Clone, Debug)]
struct Queue {
    plans: [Plan; PLANS],
    turn: usize,
}

/// How many orders are planned ahead in each queue.
const PLANS: usize = 8;

/// The queue of those who come to trade.
pub(super) const TAKERS: usize = CLASSES;

impl Plans {
    pub(super) fn new(alias: Alias, random: &mut Random) -> Plans {
        let queues = [0, 1, 2, TAKERS].map(|class| Queue {
            plans: [(); PLANS].map(|()| Plan::new(alias.draw(random.bits()) as u16, class, random.bits())),
            turn: 0,
        });
        Plans { alias, queues }
    }

    /// The next of its kind. Every fourth one is for the instrument of the one before it.
    #[inline(always)]
    pub(super) fn next(&mut self, class: usize, random: &mut Random, market: &Market) -> Plan {
        let Queue { plans, turn } = &mut self.queues[class];
        let (now, bits) = (*turn, random.bits());
        let plan = plans[now];
        let last = plans[(now + PLANS - 1) % PLANS].index;
        let index = if bits & 3 == 0 { last } else { self.alias.draw(bits) as u16 };
        plans[now] = Plan::new(index, class, random.bits());
        *turn = (now + 1) % PLANS;
        market.prefetch_instrument(index);
        let far = &mut plans[(now + PLANS / 2) % PLANS];
        far.level = if class == TAKERS { market.best_level(far) } else { market.level(far) };
        market.prefetch_level(far.level);
        market.prefetch_order(plans[(now + PLANS / 4) % PLANS].level, class != TAKERS);
        plan
    }
}

/// How far from the limit an order of this class is placed: in steps, or as a negative part of the instrument's reach in
/// 2^-10. Of 20 bits.
#[inline(always)]
fn distance(bits: u32, class: usize) -> i32 {
    match class {
        // Half of them at the limit itself.
        0 => bits.trailing_zeros() as i32,
        1 => (bits.trailing_zeros() * 2 + (bits >> 18)) as i32,
        // The lower of two even draws: fewer the further away, down to none at the end.
        _ => -((bits & 0x3ff).min(bits >> 10) as i32),
    }
}

/// A number of shares: of 20 bits.
#[inline(always)]
fn size(bits: u32) -> u32 {
    const ROUND: [u16; 32] = [
        100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 200, 200, 200, 200, 300, 300,
        400, 500, 500, 1_000, 0, 0, 0, 0, 0, 0,
    ];
    match ROUND[(bits & 31) as usize] {
        // Odd lots, and sometimes a large order.
        0 if bits >> 5 & 63 == 0 => 1_000 * (1 + (bits >> 11 & 15)),
        0 => 1 + (((bits >> 5) * 99) >> 15),
        round => u32::from(round),
    }
}
