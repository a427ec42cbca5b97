//! The day from its first message to its last, but for continuous trading: spins, pre-open, auctions, the close.
//!
//! "Nasdaq TotalView-ITCH 5.0", sections 1.1 and 1.2, has the order: start of messages, then for every instrument its
//! directory entry, its trading state, its short sale restriction and its market makers, then the day's circuit breaker
//! levels; start of system hours; orders; the opening auction and market hours; the closing auction; end of system
//! hours, after which deletions and broken trades still come; end of messages.

use barewire_types::Side;
use barewire_wire::itch50::{
    IpoQuotingPeriod, MarketParticipantPosition, MwcbDeclineLevel, NetOrderImbalance, RegSho, StockDirectory,
    StockTradingAction, SystemEvent,
};
use zerocopy::byteorder::big_endian::{U32, U64};

use super::encode::{self, message};
use super::flow::PARTICIPANTS;
use super::{Exchange, MessageBuffer, Pending};

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// 03:05, the day's first message.
pub(super) const START_OF_MESSAGES: u64 = 3 * HOUR + 5 * MINUTE;
/// 04:00, the first orders.
const START_OF_SYSTEM: u64 = 4 * HOUR;
/// 09:28, the opening auction's first indications.
const OPENING_IMBALANCE: u64 = 9 * HOUR + 28 * MINUTE;
/// 09:30.
pub(super) const START_OF_MARKET: u64 = 9 * HOUR + 30 * MINUTE;
/// 15:55, the closing auction's first indications.
const CLOSING_IMBALANCE: u64 = 15 * HOUR + 55 * MINUTE;
/// 16:00.
const END_OF_MARKET: u64 = 16 * HOUR;
/// 20:00.
const END_OF_SYSTEM: u64 = 20 * HOUR;
/// 20:05.
const END_OF_MESSAGES: u64 = 20 * HOUR + 5 * MINUTE;

/// Deletions between the closing auction and the end of system hours, and after that.
const AFTER_HOURS: u32 = 64;
const LATE: u32 = 8;

/// Indications of each auction, for every instrument.
const IMBALANCE_ROUNDS: u32 = 2;

/// Where the day has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    StartOfMessages,
    Directory,
    TradingActions,
    ShortSales,
    Participants,
    BreakerLevels,
    Ipo,
    StartOfSystem,
    PreOpen,
    OpeningImbalance,
    StartOfMarket,
    OpeningCross,
    Continuous,
    ClosingImbalance,
    EndOfMarket,
    ClosingCross,
    AfterHours,
    EndOfSystem,
    Late,
    EndOfMessages,
    Over,
}

impl Exchange {
    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.cursor = 0;
        if phase == Phase::Continuous {
            self.close_at_ns = self.clock.ns.saturating_add(self.trade_for_ns);
        }
    }

    /// The next message outside continuous trading; 0 after the last.
    #[inline(never)]
    pub(super) fn scripted(&mut self, out: &mut MessageBuffer) -> usize {
        loop {
            let len = match self.phase {
                Phase::StartOfMessages => self.event(out, b'O', START_OF_MESSAGES, Phase::Directory),
                Phase::Directory => self.spin(Phase::TradingActions, |this, index| this.directory(out, index)),
                Phase::TradingActions => self.spin(Phase::ShortSales, |this, index| this.first_state(out, index)),
                Phase::ShortSales => self.spin(Phase::Participants, |this, index| {
                    let restricted = this.random.one_in(64);
                    this.short_sales(out, index, if restricted { b'2' } else { b'0' })
                }),
                Phase::Participants => self.participants(out),
                Phase::BreakerLevels => self.breaker_levels(out),
                Phase::Ipo => self.announce_ipo(out),
                Phase::StartOfSystem => self.event(out, b'S', START_OF_SYSTEM, Phase::PreOpen),
                Phase::PreOpen => self.pre_open(out),
                Phase::OpeningImbalance => self.imbalances(out, b'O', OPENING_IMBALANCE, Phase::StartOfMarket),
                Phase::StartOfMarket => self.event(out, b'Q', START_OF_MARKET, Phase::OpeningCross),
                Phase::OpeningCross => self.crosses(out, b'O', Phase::Continuous),
                Phase::Continuous => self.trade(out),
                Phase::ClosingImbalance => self.imbalances(out, b'C', CLOSING_IMBALANCE, Phase::EndOfMarket),
                Phase::EndOfMarket => self.event(out, b'M', END_OF_MARKET, Phase::ClosingCross),
                Phase::ClosingCross => self.crosses(out, b'C', Phase::AfterHours),
                Phase::AfterHours => {
                    self.clock.advance_to(END_OF_MARKET + MINUTE);
                    self.clean_up(out, AFTER_HOURS, Phase::EndOfSystem)
                }
                Phase::EndOfSystem => self.event(out, b'E', END_OF_SYSTEM, Phase::Late),
                Phase::Late => self.clean_up(out, LATE, Phase::EndOfMessages),
                Phase::EndOfMessages => self.event(out, b'C', END_OF_MESSAGES, Phase::Over),
                Phase::Over => return 0,
            };
            if len != 0 {
                return len;
            }
        }
    }

    /// A system event, with which a phase begins.
    fn event(&mut self, out: &mut MessageBuffer, event_code: u8, at_ns: u64, then: Phase) -> usize {
        self.clock.advance_to(at_ns);
        self.enter(then);
        message!(out, self.no_head(), SystemEvent { event_code })
    }

    /// One message for the next instrument, or on to the next phase.
    fn spin(&mut self, then: Phase, one: impl FnOnce(&mut Exchange, u16) -> usize) -> usize {
        if self.cursor >= self.config.instruments {
            self.enter(then);
            return 0;
        }
        let index = self.cursor as u16;
        self.cursor += 1;
        // 10 microseconds between the messages of a spin.
        self.clock.advance_by(10_000 << 16);
        one(self, index)
    }

    fn directory(&mut self, out: &mut MessageBuffer, index: u16) -> usize {
        let instrument = self.market.instrument(index);
        let (stock, fund) = (instrument.symbol, instrument.fund);
        let leverage = (instrument.beta.unsigned_abs() + 128) / 256;
        let inverse = instrument.beta < 0;
        let ipo = self.incidents.ipo() == Some(index);
        // A third each of Nasdaq's tiers and New York; funds at Arca.
        let market_category = if fund { b'P' } else { [b'Q', b'Q', b'G', b'S', b'N', b'N'][usize::from(index) % 6] };
        message!(
            out,
            self.head(index),
            StockDirectory {
                stock,
                market_category,
                financial_status_indicator: if index % 97 == 96 { b'D' } else { b'N' },
                round_lot_size: U32::new(100),
                round_lots_only: b'N',
                issue_classification: if fund { b'Q' } else { b'C' },
                issue_sub_type: if fund { *b"I " } else { *b"Z " },
                authenticity: b'P',
                short_sale_threshold_indicator: if index % 53 == 52 { b'Y' } else { b'N' },
                ipo_flag: if ipo { b'Y' } else { b'N' },
                luld_reference_price_tier: if index < 1_000 { b'1' } else { b'2' },
                etp_flag: if fund { b'Y' } else { b'N' },
                etp_leverage_factor: U32::new(if fund { leverage } else { 0 }),
                inverse_indicator: if inverse { b'Y' } else { b'N' },
            }
        )
    }

    /// Every instrument may trade, but for the one that is not yet listed.
    fn first_state(&mut self, out: &mut MessageBuffer, index: u16) -> usize {
        if self.incidents.ipo() == Some(index) {
            self.set_state(out, index, b'H', *b"IPO1")
        } else {
            self.set_state(out, index, b'T', *b"    ")
        }
    }

    /// Changes the trading state and says so.
    pub(super) fn set_state(&mut self, out: &mut MessageBuffer, index: u16, state: u8, reason: [u8; 4]) -> usize {
        let instrument = self.market.instrument_mut(index);
        instrument.state = state;
        let stock = instrument.symbol;
        message!(
            out,
            self.head(index),
            StockTradingAction { stock, trading_state: state, reserved: *b" ", reason_code: reason }
        )
    }

    pub(super) fn short_sales(&mut self, out: &mut MessageBuffer, index: u16, reg_sho_action: u8) -> usize {
        let instrument = self.market.instrument(index);
        let stock = instrument.symbol;
        let head = self.head(index);
        encode::put(
            out,
            &RegSho {
                message_type: RegSho::TYPE,
                locate_code: head.locate.into(),
                tracking_number: 0.into(),
                timestamp: barewire_wire::U48::new(head.time_ns),
                stock,
                reg_sho_action,
            },
        )
    }

    /// Six market makers for each of the most traded instruments, two for others.
    fn participants(&mut self, out: &mut MessageBuffer) -> usize {
        let (makers, index) = if self.cursor < 600 { (6, self.cursor / 6) } else { (2, 100 + (self.cursor - 600) / 2) };
        if index >= self.config.instruments {
            self.enter(Phase::BreakerLevels);
            return 0;
        }
        let which = self.cursor % makers;
        self.cursor += 1;
        self.clock.advance_by(10_000 << 16);
        self.participant(out, index as u16, which as usize, b'A')
    }

    pub(super) fn participant(&mut self, out: &mut MessageBuffer, index: u16, which: usize, state: u8) -> usize {
        let stock = self.market.instrument(index).symbol;
        message!(
            out,
            self.head(index),
            MarketParticipantPosition {
                mpid: PARTICIPANTS[(which + usize::from(index)) % PARTICIPANTS.len()],
                stock,
                primary_market_maker: if which == 0 { b'Y' } else { b'N' },
                market_maker_mode: b'N',
                market_participant_state: state,
            }
        )
    }

    /// 7, 13 and 20 percent below yesterday's close of the index.
    fn breaker_levels(&mut self, out: &mut MessageBuffer) -> usize {
        self.enter(Phase::Ipo);
        // 5,432.10 points.
        let index = 543_210_000_000_u64;
        let [level_1, level_2, level_3] = [93, 87, 80].map(|percent| U64::new(index * percent / 100));
        message!(out, self.no_head(), MwcbDeclineLevel { level_1, level_2, level_3 })
    }

    /// When the new listing is expected to be released, and at what price.
    fn announce_ipo(&mut self, out: &mut MessageBuffer) -> usize {
        self.enter(Phase::StartOfSystem);
        self.incidents.ipo().map_or(0, |index| self.ipo_release(out, index))
    }

    pub(super) fn ipo_release(&mut self, out: &mut MessageBuffer, index: u16) -> usize {
        let instrument = self.market.instrument(index);
        let (stock, price) = (instrument.symbol, instrument.price((instrument.usual >> 16) as i32));
        let at = (self.clock.ns / SECOND).max(START_OF_MARKET / SECOND) + 900;
        message!(
            out,
            self.head(index),
            IpoQuotingPeriod {
                stock,
                ipo_quotation_release_time: U32::new(at as u32),
                ipo_quotation_release_qualifier: b'A',
                ipo_price: U32::new(price),
            }
        )
    }

    /// Orders until there are as many as there should be: one deletion to 16 new ones.
    fn pre_open(&mut self, out: &mut MessageBuffer) -> usize {
        if self.pending != Pending::Nothing {
            return self.carry_on(out);
        }
        let short = [0, 1, 2].map(|class| self.market.orders.shortfall(class));
        let total: u32 = short.iter().sum();
        if total == 0 || self.close_after == 0 {
            self.enter(Phase::OpeningImbalance);
            return 0;
        }
        // About evenly over the time there is.
        let until = OPENING_IMBALANCE - MINUTE;
        let gap = (until - START_OF_SYSTEM) / u64::from(self.config.live_orders) * 13 / 16;
        self.clock.advance_to((self.clock.ns + gap).min(until));
        let draw = self.random.below(total);
        let class = usize::from(draw >= short[0]) + usize::from(draw >= short[0] + short[1]);
        if self.random.one_in(16) {
            return self.delete_one(out, class);
        }
        self.place(out, class)
    }

    /// Indications for every instrument, in rounds a minute apart.
    fn imbalances(&mut self, out: &mut MessageBuffer, cross_type: u8, from_ns: u64, then: Phase) -> usize {
        let (round, index) = (self.cursor / self.config.instruments, self.cursor % self.config.instruments);
        if round == IMBALANCE_ROUNDS {
            self.enter(then);
            return 0;
        }
        self.clock.advance_to(from_ns + u64::from(round) * MINUTE);
        self.cursor += 1;
        self.clock.advance_by(1_000 << 16);
        if self.market.instrument(index as u16).state != b'T' {
            return 0;
        }
        self.imbalance(out, index as u16, cross_type)
    }

    /// How an auction would turn out now.
    pub(super) fn imbalance(&mut self, out: &mut MessageBuffer, index: u16, cross_type: u8) -> usize {
        let bits = self.random.bits();
        let instrument = self.market.instrument(index);
        let (bid, ask) = (instrument.best(Side::Bid), instrument.best(Side::Ask));
        let empty = bid.is_none() && ask.is_none();
        let price = |tick: Option<i32>| tick.map_or(0, |tick| instrument.price(tick));
        let (paired, open) = (100 * (bits & 0x3ff), 100 * (bits >> 10 & 0xff));
        let imbalance_direction = match () {
            () if empty => b'O',
            () if open == 0 => b'N',
            () if bits >> 63 == 0 => b'B',
            () => b'S',
        };
        let near = if bits >> 63 == 0 { ask.or(bid) } else { bid.or(ask) };
        message!(
            out,
            self.head(index),
            NetOrderImbalance {
                paired_shares: U64::new(if empty { 0 } else { paired }),
                imbalance_shares: U64::new(if empty { 0 } else { open }),
                imbalance_direction,
                stock: instrument.symbol,
                far_price: U32::new(price(near)),
                near_price: U32::new(price(near)),
                current_reference_price: U32::new(price(bid.or(ask))),
                cross_type,
                price_variation_indicator: if empty { b' ' } else { b'L' },
            }
        )
    }

    /// The auction of every instrument that trades.
    fn crosses(&mut self, out: &mut MessageBuffer, cross_type: u8, then: Phase) -> usize {
        if self.pending != Pending::Nothing {
            return self.carry_on(out);
        }
        self.spin(then, |this, index| {
            if this.market.instrument(index).state != b'T' {
                return 0;
            }
            this.begin_cross(index, cross_type);
            this.carry_on_cross(out)
        })
    }

    /// The auction takes place at the best price of one side, and orders there take part.
    pub(super) fn begin_cross(&mut self, index: u16, cross_type: u8) {
        let bits = self.random.bits();
        let instrument = self.market.instrument(index);
        let side = if bits & 1 == 0 { Side::Bid } else { Side::Ask };
        let side = if instrument.best(side).is_some() { side } else { side.opposite() };
        self.pending = match instrument.best(side) {
            None => Pending::Cross { index, side, tick: 0, left: 0, shares: 0, cross_type },
            Some(tick) => {
                let shares = 100 * (bits >> 32 & 0x3ff);
                // Of the thinly traded none, or the auctions would empty the books.
                let thin = u32::from(index) * 64 > self.config.live_orders;
                let left = if thin { 0 } else { (bits >> 8) as u8 % 4 };
                Pending::Cross { index, side, tick, left, shares, cross_type }
            }
        };
    }

    /// The next execution of an auction, not to be printed by itself, or the auction's print.
    pub(super) fn carry_on_cross(&mut self, out: &mut MessageBuffer) -> usize {
        let Pending::Cross { index, side, tick, left, shares, cross_type } = self.pending else { return 0 };
        let instrument = self.market.instrument(index);
        let (stock, price) = (instrument.symbol, instrument.price(tick));
        if left > 0 && instrument.best(side) == Some(tick) {
            let slot = self.market.oldest(instrument, tick);
            let (reference, taken) = self.take_from(slot, u32::MAX);
            let shares = shares + u64::from(taken);
            self.pending = Pending::Cross { index, side, tick, left: left - 1, shares, cross_type };
            let number = self.match_number(index);
            return encode::executed_at(out, self.head(index), reference, taken, number, false, price);
        }
        self.pending = Pending::Nothing;
        let number = self.match_number(index);
        encode::cross(out, self.head(index), shares, stock, price, number, cross_type)
    }

    /// Up to so many deletions, a minute apart, and among the late ones a broken trade.
    fn clean_up(&mut self, out: &mut MessageBuffer, count: u32, then: Phase) -> usize {
        if self.cursor >= count {
            self.enter(then);
            return 0;
        }
        self.cursor += 1;
        self.clock.advance_by(SECOND << 16);
        if then == Phase::EndOfMessages && self.cursor == count {
            return self.break_trade(out);
        }
        self.delete_one(out, 2)
    }
}
