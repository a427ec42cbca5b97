//! The exchange simulator: a venue to develop, test, show and measure a feed handler against.
//!
//! - [`Exchange`]: a Nasdaq-like market's day as TotalView-ITCH 5.0 messages, from a seed.
#![forbid(unsafe_code)]

mod exchange;

pub use exchange::{
    ConfigError, Exchange, ExchangeConfig, Length, MAX_INSTRUMENTS, MAX_LIVE_ORDERS, MessageBuffer, Mix,
};

/// Length of the longest message in bytes.
pub use barewire_wire::itch50::MAX_LEN as MAX_MESSAGE_LEN;
