//! The exchange: one day of a Nasdaq-like market as a stream of TotalView-ITCH 5.0 messages.
//!
//! The stream is what a venue's own systems would send: every execution, cancellation, deletion and replacement names an
//! order that is live, never takes more than is left, trades take the oldest order at the best price, and no book is
//! ever crossed. Who trades why is a model: prices follow common factors, orders come and go around them,
//! activity comes in bursts and is spread over the instruments as it is in life, a few having most of it.
//!
//! It is a pure function of its configuration. It reads no clock, and computes in integers only.

mod config;
mod day;
mod encode;
mod flow;
mod follow;
mod incidents;
mod latent;
mod market;
mod orders;
mod plan;
mod price;
mod random;
mod symbols;

pub use config::{ConfigError, ExchangeConfig, Length, MAX_INSTRUMENTS, MAX_LIVE_ORDERS, Mix, Venue};
pub use encode::MessageBuffer;
pub(crate) use random::Random;

use barewire_types::Side;
use barewire_wire::U48;

use day::Phase;
use encode::Head;
use follow::Follow;
pub use follow::Truth;

use incidents::Incidents;
use market::{Instrument, Market};
use plan::Plans;
use price::Factors;
use random::{Alias, waiting};

/// How memory is asked for ahead of its use.
type Ahead = barewire_io::memory::CachePrefetch;

/// A simulated exchange, from its first message to its last.
///
/// ```
/// use barewire_sim::{Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN};
///
/// let config = ExchangeConfig { instruments: 10, live_orders: 500, length: Length::Messages(2_000), ..Default::default() };
/// let mut exchange = Exchange::new(config)?;
/// let mut buffer = [0; MAX_MESSAGE_LEN];
/// let mut types = Vec::new();
/// while let Some(message) = exchange.next(&mut buffer) {
///     types.push(message[0]);
/// }
/// assert_eq!((types[0], types[1]), (b'S', b'R'));
/// assert_eq!(exchange.messages(), types.len() as u64);
/// # Ok::<(), barewire_sim::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Exchange {
    config: ExchangeConfig,
    random: Random,
    market: Market,
    factors: Factors,
    plans: Plans,
    clock: Clock,
    phase: Phase,
    /// How far the phase has come: an instrument, or a count.
    cursor: u32,
    pending: Pending,
    incidents: Incidents,
    thresholds: Thresholds,
    /// What this venue follows, where it is one of several.
    follow: Option<Box<Follow>>,
    /// Executions owed to the mix, in 2^-16.
    execution_credit: i64,
    next_reference: u64,
    next_match: u64,
    messages: u64,
    /// Continuous trading ends with this message, or at this time, or so long after it has begun.
    close_after: u64,
    close_at_ns: u64,
    trade_for_ns: u64,
}

/// What has been begun and takes several messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    /// An order that came to trade, against the orders resting on `side`, up to and including `limit`.
    Sweep {
        index: u16,
        side: Side,
        limit: i32,
        left: u32,
        orders: u8,
    },
    /// The instrument's window is to begin at `low`; who is in the way is deleted.
    Slide {
        index: u16,
        low: i32,
    },
    /// The instrument's quotes go where they should be.
    Requote {
        index: u16,
    },
    /// An auction: up to `left` more orders on `side` trade, then the auction prints.
    Cross {
        index: u16,
        side: Side,
        tick: i32,
        left: u8,
        shares: u64,
        cross_type: u8,
    },
    /// A market-wide halt, in stages over all instruments.
    Breaker {
        stage: u8,
        cursor: u32,
    },
}

/// The mix as bounds on 12 random bits, each including those before it.
#[derive(Clone, Copy, Debug)]
struct Thresholds {
    hidden: u32,
    cancel: u32,
    replace: u32,
    execute: u32,
    /// Executions that a message brings with it, in 2^-16.
    execute_share: i64,
}

impl Thresholds {
    fn new(mix: &Mix) -> Thresholds {
        let part = |share: u32| (share * 4_096 + 500) / 1_000;
        let hidden = part(mix.hidden);
        let cancel = hidden + part(mix.cancel);
        let replace = cancel + part(mix.replace);
        let execute_share = (i64::from(mix.execute) << 16) / 1_000;
        // Twice as often as needed: whether it comes to that is for the credit to say.
        Thresholds { hidden, cancel, replace, execute: replace + 2 * part(mix.execute), execute_share }
    }
}

/// The simulated clock.
#[derive(Clone, Debug)]
struct Clock {
    ns: u64,
    /// What is behind the nanosecond, in 2^-16.
    fraction: u64,
    /// Mean time between messages over the mean of [`waiting`], in 2^-16 ns; now and when calm.
    gap: u64,
    calm_gap: u64,
}

impl Clock {
    #[inline(always)]
    fn advance(&mut self, bits: u32) {
        self.advance_by(((self.gap >> 8) * waiting(bits)) >> 8);
    }

    fn is_burst(&self) -> bool {
        self.gap != self.calm_gap
    }

    fn set_burst(&mut self, burst: bool) {
        self.gap = if burst { self.calm_gap / 10 } else { self.calm_gap };
    }

    /// By so many 2^-16 ns. The clock stops at the last time that a message can carry.
    #[inline(always)]
    fn advance_by(&mut self, by: u64) {
        self.fraction += by;
        self.ns = (self.ns + (self.fraction >> 16)).min(U48::MAX);
        self.fraction &= 0xffff;
    }

    /// To this time, unless it is past.
    fn advance_to(&mut self, ns: u64) {
        self.ns = self.ns.max(ns);
    }
}

impl Exchange {
    /// An exchange before its first message.
    ///
    /// # Errors
    ///
    /// The first value of the configuration that is out of its range.
    pub fn new(config: ExchangeConfig) -> Result<Exchange, ConfigError> {
        config.validate()?;
        let mut random = Random::new(config.seed);
        let listings = symbols::listings(config.instruments as usize);
        // Zipf's law, shifted a little, as no one instrument has a tenth of a market.
        let weights: Vec<u64> = (0..listings.len() as u64).map(|rank| (1 << 40) / (rank + 4)).collect();
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        let ranked = listings.iter().zip(&weights).zip(0..);
        let instruments: Vec<Instrument> = ranked
            .map(|((listing, weight), rank)| {
                let share = ((u128::from(*weight) << 32) / total) as u64;
                price::instrument(listing, rank, share, &config, &mut random)
            })
            .collect();
        let follow = config.venue.map(|venue| {
            // From here on each venue is left to its own chance.
            random = Random::new(random::mix(config.seed ^ u64::from(venue.number) << 56));
            Box::new(Follow::new(venue, &config, &listings, &instruments))
        });
        let (close_after, trade_for_ns) = match config.length {
            Length::Endless => (u64::MAX, u64::MAX),
            Length::Messages(count) => (count, u64::MAX),
            Length::Duration(ns) => (u64::MAX, ns),
        };
        let plans = Plans::new(Alias::new(&weights), &mut random);
        Ok(Exchange {
            market: Market::new(instruments, config.live_orders),
            factors: Factors::new(config.volatility),
            plans,
            clock: Clock {
                ns: day::START_OF_MESSAGES,
                fraction: 0,
                gap: (1_000_000_000 << 16) / config.rate * 2 / 3,
                calm_gap: (1_000_000_000 << 16) / config.rate * 2 / 3,
            },
            phase: Phase::StartOfMessages,
            cursor: 0,
            pending: Pending::Nothing,
            incidents: Incidents::new(&config),
            thresholds: Thresholds::new(&config.mix),
            follow,
            execution_credit: 0,
            next_reference: 1_000 + u64::from(random.below(1_000)),
            next_match: 10_000 + u64::from(random.below(1_000)),
            messages: 0,
            close_after,
            close_at_ns: u64::MAX,
            trade_for_ns,
            random,
            config,
        })
    }

    /// Writes the next message into `out` and returns it; `None` after the last.
    #[inline]
    pub fn next<'o>(&mut self, out: &'o mut MessageBuffer) -> Option<&'o [u8]> {
        let mut len = 0;
        if self.phase == Phase::Continuous {
            len = self.trade(out);
            if self.follow.is_some() {
                self.touched(out, len);
            }
        }
        if len == 0 {
            len = self.scripted(out);
        }
        if len == 0 {
            return None;
        }
        self.messages += 1;
        out.get(..len)
    }

    /// Begins the closing sequence: continuous trading ends with what has been begun. Before the opening, it ends as
    /// soon as it has begun.
    pub fn end(&mut self) {
        self.close_after = 0;
    }

    /// How many messages there have been.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// How many orders are live.
    pub fn live_orders(&self) -> u32 {
        self.market.orders.live()
    }

    /// The simulated time in nanoseconds since midnight: the last message's timestamp.
    pub fn time_ns(&self) -> u64 {
        self.clock.ns
    }

    /// Whether trading is continuous: the books are filled, and the stream is what it will be for long.
    pub fn is_trading(&self) -> bool {
        self.phase == Phase::Continuous
    }

    /// The configuration.
    pub fn config(&self) -> &ExchangeConfig {
        &self.config
    }

    /// The symbols, padded with spaces; locate codes count from 1.
    pub fn symbols(&self) -> impl ExactSizeIterator<Item = [u8; 8]> {
        self.market.instruments.iter().map(|instrument| instrument.symbol)
    }

    /// The head of a message about an instrument.
    #[inline(always)]
    fn head(&self, index: u16) -> Head {
        Head { locate: index + 1, time_ns: self.clock.ns }
    }

    /// The head of a message about none.
    fn no_head(&self) -> Head {
        Head { locate: 0, time_ns: self.clock.ns }
    }

    #[inline(always)]
    fn reference(&mut self) -> u64 {
        // Now and then some numbers are left out: orders that are not displayed have them.
        let mixed = self.next_reference.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hidden = if mixed >> 61 == 0 { mixed >> 58 & 7 } else { 0 };
        self.next_reference += 1 + hidden;
        self.next_reference
    }

    #[inline(always)]
    fn match_number(&mut self, index: u16) -> u64 {
        self.next_match += 1;
        self.incidents.remember(self.next_match, index);
        self.next_match
    }
}
