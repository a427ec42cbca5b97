//! What an exchange is asked to be.

use std::fmt;

/// The most instruments: an ITCH locate code would hold 65,535, a day at Nasdaq has about 11,000.
pub const MAX_INSTRUMENTS: u32 = 10_000;

/// The most live orders that may be asked for: 2 GiB of them.
pub const MAX_LIVE_ORDERS: u32 = 1 << 26;

/// When continuous trading ends and the closing sequence begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Not before [`Exchange::end`](crate::Exchange::end) is called.
    Endless,
    /// With the first message that would make the session, its opening included, longer than this; the closing sequence
    /// comes on top.
    Messages(u64),
    /// After so many nanoseconds of market hours by the simulated clock.
    Duration(u64),
}

/// Shares of the kinds of messages in continuous trading, in parts of a thousand. What is left is divided between new
/// orders and deletions so that the number of live orders stays where it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Executions (`E`, `C`).
    pub execute: u32,
    /// Partial cancellations (`X`).
    pub cancel: u32,
    /// Replacements (`U`).
    pub replace: u32,
    /// Trades against hidden orders (`P`).
    pub hidden: u32,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix { execute: 50, cancel: 35, replace: 40, hidden: 5 }
    }
}

/// One of several venues where the same instruments trade: their quotes follow one path of prices, which is decided by the
/// seed alone, each venue a little later than things happen. Nothing else is shared, not even a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Venue {
    /// Which one, from 1: each has orders of its own. 1 to 255.
    pub number: u8,
    /// How much later than things happen its quotes follow, ns. Up to a second.
    pub lag_ns: u64,
    /// How much later the slowest instrument follows than the first, which is the most traded, ns. Up to a second.
    pub instrument_lag_ns: u64,
}

impl Default for Venue {
    fn default() -> Venue {
        Venue { number: 1, lag_ns: 0, instrument_lag_ns: 20_000 }
    }
}

/// An exchange and its day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeConfig {
    /// Decides everything that is left to chance. The same configuration and seed give the same bytes.
    pub seed: u64,
    /// How many instruments are listed: well-known ones first (AAPL, MSFT, NVDA, ...), invented ones after.
    /// 1 to [`MAX_INSTRUMENTS`].
    pub instruments: u32,
    /// How many orders rest in the books from the opening on. 64 to [`MAX_LIVE_ORDERS`].
    pub live_orders: u32,
    /// How long the session is.
    pub length: Length,
    /// Messages a second of market hours by the simulated clock, in calm times; ten times as many in bursts. This
    /// decides the messages' timestamps only, and not how quickly they are sent. 1 to 100,000,000.
    pub rate: u64,
    /// Shares of the kinds of messages.
    pub mix: Mix,
    /// How much prices move, in percent of the usual: at 100, about 0.15% in a million messages. 0 to 1,000.
    pub volatility: u32,
    /// Messages between incidents, on average: halts, pauses, broken trades and the like. At least 100; 0 for none.
    pub incident_every: u32,
    /// Whether this is one of several venues. Prices then move with time, not with messages: at a `volatility` of 100,
    /// the market by 1% in ten hours, in bursts.
    pub venue: Option<Venue>,
}

impl Default for ExchangeConfig {
    fn default() -> ExchangeConfig {
        ExchangeConfig {
            seed: 1,
            instruments: 100,
            live_orders: 10_000,
            length: Length::Endless,
            rate: 1_000_000,
            mix: Mix::default(),
            volatility: 100,
            incident_every: 20_000,
            venue: None,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// `instruments` is 0 or above [`MAX_INSTRUMENTS`].
    Instruments,
    /// `live_orders` is below 64 or above [`MAX_LIVE_ORDERS`].
    LiveOrders,
    /// `rate` is 0 or above 100,000,000.
    Rate,
    /// The shares of `mix` make up more than 500 of 1,000.
    Mix,
    /// `volatility` is above 1,000.
    Volatility,
    /// `incident_every` is below 100 and not 0.
    IncidentEvery,
    /// The `number` of `venue` is 0, or a lag is more than a second.
    Venue,
}

impl ConfigError {
    /// The key that is wrong.
    pub const fn name(self) -> &'static str {
        match self {
            ConfigError::Instruments => "instruments",
            ConfigError::LiveOrders => "live_orders",
            ConfigError::Rate => "rate",
            ConfigError::Mix => "mix",
            ConfigError::Volatility => "volatility",
            ConfigError::IncidentEvery => "incident_every",
            ConfigError::Venue => "venue",
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Instruments => write!(f, "instruments must be 1 to {MAX_INSTRUMENTS}"),
            ConfigError::LiveOrders => write!(f, "live_orders must be 64 to {MAX_LIVE_ORDERS}"),
            ConfigError::Rate => f.write_str("rate must be 1 to 100000000 messages a second"),
            ConfigError::Mix => f.write_str("the shares of mix must make up at most 500 of 1000"),
            ConfigError::Volatility => f.write_str("volatility must be 0 to 1000 percent"),
            ConfigError::IncidentEvery => f.write_str("incident_every must be 0 or at least 100 messages"),
            ConfigError::Venue => f.write_str("venue must be 1 to 255, and lag at most a second"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl ExchangeConfig {
    /// Whether every value is within its range.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Mix { execute, cancel, replace, hidden } = self.mix;
        let shares = [execute, cancel, replace, hidden].into_iter().map(u64::from).sum::<u64>();
        let is_venue = |venue: Venue| venue.number > 0 && venue.lag_ns.max(venue.instrument_lag_ns) <= 1_000_000_000;
        let checks = [
            (1..=MAX_INSTRUMENTS).contains(&self.instruments).then_some(()).ok_or(ConfigError::Instruments),
            (64..=MAX_LIVE_ORDERS).contains(&self.live_orders).then_some(()).ok_or(ConfigError::LiveOrders),
            (1..=100_000_000).contains(&self.rate).then_some(()).ok_or(ConfigError::Rate),
            (shares <= 500).then_some(()).ok_or(ConfigError::Mix),
            (self.volatility <= 1_000).then_some(()).ok_or(ConfigError::Volatility),
            (self.incident_every == 0 || self.incident_every >= 100).then_some(()).ok_or(ConfigError::IncidentEvery),
            self.venue.is_none_or(is_venue).then_some(()).ok_or(ConfigError::Venue),
        ];
        checks.into_iter().collect()
    }
}
