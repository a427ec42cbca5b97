//! The exchange simulator: a venue to develop, test, show and measure a feed handler against.
//!
//! - [`Exchange`]: a Nasdaq-like market's day as TotalView-ITCH 5.0 messages, from a seed. A pure function, without IO.
//! - [`Simulator`]: sends an exchange's messages as a MoldUDP64 session, on an A and a B line, at a [`Pace`].
//! - [`Sink`]: where the packets go: [`MulticastSink`], [`PcapSink`], [`BinaryFileSink`], [`PacketMemory`],
//!   [`BinaryFileMemory`]. Any number at once.
//! - [`Network`]: loses, repeats, delays and reorders packets of any origin as an [`Impairment`] says, from a seed.
//!   [`ImpairedSink`] has one between the simulator and other sinks.
//! - [`Site`]: lines and servers in simulated time, for replays and simulations.
//! - [`recovery`]: servers that send lost messages again and hand out snapshots, faultless or not.
#![forbid(unsafe_code)]

mod exchange;
mod impair;
mod pace;
mod packing;
pub mod recovery;
mod session;
mod simulator;
mod sink;
mod site;

pub use barewire_wire::moldudp64::Session;
pub use exchange::{
    ConfigError, Exchange, ExchangeConfig, Length, MAX_INSTRUMENTS, MAX_LIVE_ORDERS, MessageBuffer, Mix, Truth, Venue,
};
pub use impair::{
    Arrived, ImpairCounters, ImpairError, Impairment, LossBurst, MAX_DELAY_NS, MAX_HOLD_NS, MAX_REORDER_BY, Network,
};
pub use pace::{Burst, MAX_RATE, Pace};
pub use session::{MIN_PAYLOAD, SessionConfig, SessionError};
pub use simulator::{LineReport, Progress, Report, Simulator, SimulatorConfig, SimulatorError, Time};
pub use sink::{
    BinaryFileMemory, BinaryFileSink, ImpairedSink, Line, MulticastLine, MulticastSink, PacketMemory, PcapSink,
    SimPacket, Sink, SinkError, SinkLosses,
};
pub use site::{Site, SiteConfig};

/// Length of the longest message in bytes.
pub use barewire_wire::itch50::MAX_LEN as MAX_MESSAGE_LEN;
