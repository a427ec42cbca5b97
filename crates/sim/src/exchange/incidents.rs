//! What happens now and then: halts and pauses, a new listing's release, broken trades, restrictions, and very rarely a
//! halt of the whole market.

use barewire_wire::itch50::{
    BrokenTrade, DirectListing, LuldAuctionCollar, MwcbStatus, OperationalHalt, RetailPriceImprovement,
};
use zerocopy::byteorder::big_endian::{U32, U64};

use super::encode::message;
use super::random::waiting;
use super::{Exchange, ExchangeConfig, MessageBuffer, Pending};

/// The most instruments halted at one time.
const MAX_HALTS: usize = 8;

/// How many matches are remembered, so that one of them may be broken.
const REMEMBERED: usize = 16;

/// From so many instruments on one of them, the last, is listed only today.
const IPO_FROM: u32 = 8;

/// The state of an instrument in a market-wide halt, before and after orders may be entered again. The messages say
/// `H` and `Q`; with these it is known whom the halt found trading.
const BREAKER_HALTED: u8 = b'M';
const BREAKER_QUOTING: u8 = b'm';

/// The state of an instrument in an operational halt, of which trading states say nothing.
const OPERATIONS_HALTED: u8 = b'h';

/// Why an instrument does not trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    News,
    Volatility,
    Operations,
    /// Not yet released.
    Listing,
}

/// An instrument on its way back to trading.
#[derive(Clone, Copy, Debug)]
struct Halt {
    index: u16,
    cause: Cause,
    step: u8,
    /// The message before which the next step is taken.
    due: u64,
}

/// What has happened and what is to happen.
#[derive(Clone, Debug)]
pub(super) struct Incidents {
    /// Nothing happens before this message.
    pub(super) next_at: u64,
    /// The next incident.
    incident_at: u64,
    every: u64,
    halts: Vec<Halt>,
    ipo: Option<u16>,
    /// The last trades: their match numbers and instruments.
    matches: [(u64, u16); REMEMBERED],
}

impl Incidents {
    pub(super) fn new(config: &ExchangeConfig) -> Incidents {
        let mut halts = Vec::with_capacity(MAX_HALTS);
        let every = u64::from(config.incident_every);
        let mut ipo = None;
        if config.instruments >= IPO_FROM && every != 0 {
            let index = config.instruments as u16 - 1;
            ipo = Some(index);
            // Due some time after the opening, whose length is about this.
            let opening = u64::from(config.live_orders) + 10 * u64::from(config.instruments);
            halts.push(Halt { index, cause: Cause::Listing, step: 0, due: opening + every });
        }
        let incident_at = if every == 0 { u64::MAX } else { 0 };
        Incidents { next_at: incident_at, incident_at, every, halts, ipo, matches: [(0, 0); REMEMBERED] }
    }

    /// The instrument that is listed only today.
    pub(super) fn ipo(&self) -> Option<u16> {
        self.ipo
    }

    #[inline(always)]
    pub(super) fn remember(&mut self, number: u64, index: u16) {
        self.matches[number as usize % REMEMBERED] = (number, index);
    }

    /// Makes the next step of every halt due.
    #[cold]
    pub(super) fn hasten(&mut self) {
        self.halts.iter_mut().for_each(|halt| halt.due = 0);
        self.next_at = 0;
    }
}

impl Exchange {
    /// What is due now; 0 where nothing came of it, or what came of it is pending.
    #[cold]
    #[inline(never)]
    pub(super) fn incident(&mut self, out: &mut MessageBuffer) -> usize {
        let now = self.messages;
        let due = self.incidents.halts.iter().position(|halt| halt.due <= now);
        let len = match due {
            Some(which) => self.halt_step(out, which),
            None if self.incidents.incident_at <= now => {
                let first = self.incidents.incident_at == 0;
                self.incidents.incident_at = now + 1 + self.wait();
                // Nothing happens with the very first message of continuous trading.
                if first { 0 } else { self.new_incident(out) }
            }
            None => 0,
        };
        let halts = self.incidents.halts.iter().map(|halt| halt.due);
        self.incidents.next_at = halts.chain([self.incidents.incident_at]).min().unwrap_or(u64::MAX);
        len
    }

    /// Messages to the next incident.
    fn wait(&mut self) -> u64 {
        (self.incidents.every * waiting(self.random.bits() as u32) * 2 / 3) >> 16
    }

    fn new_incident(&mut self, out: &mut MessageBuffer) -> usize {
        let index = self.random.below(self.config.instruments) as u16;
        let bits = self.random.bits();
        let free = self.incidents.halts.len() < MAX_HALTS && self.market.instrument(index).state == b'T';
        match bits & 4_095 {
            0 => {
                self.pending = Pending::Breaker { stage: 0, cursor: 0 };
                0
            }
            1..1_000 if free => self.halt(out, index, Cause::News),
            1_000..2_000 if free => self.halt(out, index, Cause::Volatility),
            2_000..2_200 if free => self.halt(out, index, Cause::Operations),
            2_200..3_200 => {
                let stock = self.market.instrument(index).symbol;
                let interest_flag = [b'B', b'S', b'A', b'N'][(bits >> 12) as usize % 4];
                message!(out, self.head(index), RetailPriceImprovement { stock, interest_flag })
            }
            3_200..3_600 => {
                let which = (bits >> 12) as usize % 2;
                self.participant(out, index, which, if bits >> 16 & 1 == 0 { b'E' } else { b'A' })
            }
            3_600..3_800 => self.short_sales(out, index, if bits >> 12 & 1 == 0 { b'1' } else { b'0' }),
            3_800.. => self.break_trade(out),
            _ => 0,
        }
    }

    /// Breaks one of the last trades, each at most once.
    pub(super) fn break_trade(&mut self, out: &mut MessageBuffer) -> usize {
        let which = self.random.below(REMEMBERED as u32) as usize;
        let (number, index) = std::mem::take(&mut self.incidents.matches[which]);
        if number == 0 {
            return 0;
        }
        message!(out, self.head(index), BrokenTrade { match_number: U64::new(number) })
    }

    fn halt(&mut self, out: &mut MessageBuffer, index: u16, cause: Cause) -> usize {
        self.incidents.halts.push(Halt { index, cause, step: 0, due: 0 });
        self.halt_step(out, self.incidents.halts.len() - 1)
    }

    /// The next step of an instrument's halt; after the last one it trades.
    fn halt_step(&mut self, out: &mut MessageBuffer, which: usize) -> usize {
        let Halt { index, cause, step, .. } = self.incidents.halts[which];
        let wait = self.wait() / 4;
        let halt = &mut self.incidents.halts[which];
        halt.step += 1;
        halt.due = self.messages + 1 + wait;
        match (cause, step) {
            (Cause::News, 0) => self.set_state(out, index, b'H', *b"T1  "),
            (Cause::News, 1) => self.set_state(out, index, b'H', *b"T2  "),
            (Cause::News, 2) => self.set_state(out, index, b'Q', *b"T3  "),
            (Cause::Volatility, 0) => self.set_state(out, index, b'P', *b"LUDP"),
            (Cause::Volatility, 1) => self.collar(out, index, 0),
            (Cause::Volatility, 3) => self.collar(out, index, 1),
            (Cause::Volatility, 4) => self.set_state(out, index, b'Q', *b"T7  "),
            (Cause::Operations, 0) => {
                self.market.instrument_mut(index).state = OPERATIONS_HALTED;
                self.operations(out, index, b'H')
            }
            (Cause::Operations, _) => {
                self.incidents.halts.swap_remove(which);
                self.market.instrument_mut(index).state = b'T';
                self.operations(out, index, b'T')
            }
            (Cause::Listing, 0) => self.ipo_release(out, index),
            (Cause::Listing, 1) => self.set_state(out, index, b'Q', *b"IPOQ"),
            (Cause::Listing, 2) => self.direct_listing(out, index),
            (_, 2..=5) => self.imbalance(out, index, b'H'),
            (_, 6) => {
                self.begin_cross(index, b'H');
                0
            }
            (..) => {
                self.incidents.halts.swap_remove(which);
                self.set_state(out, index, b'T', *b"    ")
            }
        }
    }

    /// The auction after a volatility pause: within 5 percent, and 5 more with every extension.
    fn collar(&mut self, out: &mut MessageBuffer, index: u16, extension: u32) -> usize {
        let instrument = self.market.instrument(index);
        let reference = instrument.price(instrument.bid_limit);
        let width = reference / 20 * (1 + extension);
        message!(
            out,
            self.head(index),
            LuldAuctionCollar {
                stock: instrument.symbol,
                auction_collar_reference_price: U32::new(reference),
                upper_auction_collar_price: U32::new(reference + width),
                lower_auction_collar_price: U32::new(reference - width),
                auction_collar_extension: U32::new(extension),
            }
        )
    }

    fn operations(&mut self, out: &mut MessageBuffer, index: u16, operational_halt_action: u8) -> usize {
        let stock = self.market.instrument(index).symbol;
        message!(out, self.head(index), OperationalHalt { stock, market_code: b'Q', operational_halt_action })
    }

    fn direct_listing(&mut self, out: &mut MessageBuffer, index: u16) -> usize {
        let instrument = self.market.instrument(index);
        let price = instrument.price((instrument.usual >> 16) as i32);
        let percent = |percent: u32| U32::new(price / 100 * percent);
        message!(
            out,
            self.head(index),
            DirectListing {
                stock: instrument.symbol,
                open_eligibility_status: b'Y',
                minimum_allowable_price: percent(80),
                maximum_allowable_price: percent(180),
                near_execution_price: U32::new(price),
                near_execution_time: U64::new(self.clock.ns),
                lower_price_range_collar: percent(90),
                upper_price_range_collar: percent(110),
            }
        )
    }

    /// The market-wide halt, message by message: the breach; everything that trades is halted; a quarter of an hour
    /// later it may be quoted, and then it trades again.
    pub(super) fn carry_on_breaker(&mut self, out: &mut MessageBuffer, stage: u8, cursor: u32) -> usize {
        let (mut stage, mut cursor) = (stage, cursor);
        if stage == 0 {
            self.pending = Pending::Breaker { stage: 1, cursor: 0 };
            return message!(out, self.no_head(), MwcbStatus { breached_level: b'1' });
        }
        loop {
            if cursor == self.config.instruments {
                (stage, cursor) = (stage + 1, 0);
                if stage == 2 {
                    self.clock.advance_by((15 * 60 * 1_000_000_000) << 16);
                }
                if stage == 4 {
                    self.pending = Pending::Nothing;
                    return 0;
                }
            }
            let index = cursor as u16;
            cursor += 1;
            self.pending = Pending::Breaker { stage, cursor };
            let (len, kept) = match (stage, self.market.instrument(index).state) {
                (1, b'T') => (self.set_state(out, index, b'H', *b"MWC1"), BREAKER_HALTED),
                (2, BREAKER_HALTED) => (self.set_state(out, index, b'Q', *b"MWCQ"), BREAKER_QUOTING),
                (3, BREAKER_QUOTING) => (self.set_state(out, index, b'T', *b"MWCQ"), b'T'),
                _ => continue,
            };
            self.market.instrument_mut(index).state = kept;
            return len;
        }
    }
}
