//! An exchange on the wire: generates, packs, paces, sends, and tells how that went.

mod run;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use barewire_types::UnixNanos;

use crate::exchange::{ConfigError, Exchange, ExchangeConfig, Length};
use crate::pace::Pace;
use crate::session::{SessionConfig, SessionError};
use crate::sink::{Sink, SinkError};
use run::Run;

/// Which time the messages carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The exchange's own: the same bytes for the same configuration.
    Simulated,
    /// The system's clock at the moment when their packet is handed to the sinks, so that a receiver can measure how
    /// long it was under way. Packets that are handed over together carry the same time.
    Real,
}

/// A session and how it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatorConfig {
    /// Who sends.
    pub exchange: ExchangeConfig,
    /// As which packets.
    pub session: SessionConfig,
    /// How quickly.
    pub pace: Pace,
    /// Which time the messages carry.
    pub time: Time,
    /// The last midnight in New York, of which messages count their time.
    pub midnight: UnixNanos,
    /// After so long the exchange closes, ns; the closing sequence comes on top.
    pub run_for_ns: Option<u64>,
    /// Whether the whole session is generated into memory before it begins, so that nothing but sending is left. Needs a
    /// [`Length::Messages`], and about 40 bytes a message.
    pub prepare: bool,
}

impl Default for SimulatorConfig {
    /// Everything by default, as quickly as it can be, in simulated time, on 2026-01-05.
    fn default() -> SimulatorConfig {
        SimulatorConfig {
            exchange: ExchangeConfig::default(),
            session: SessionConfig::default(),
            pace: Pace::Max,
            time: Time::Simulated,
            midnight: UnixNanos(1_767_589_200_000_000_000),
            run_for_ns: None,
            prepare: false,
        }
    }
}

/// Why a simulator cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SimulatorError {
    /// The exchange's configuration.
    Exchange(ConfigError),
    /// The session's.
    Session(SessionError),
    /// The pace: a rate of 0 or above [`MAX_RATE`](crate::MAX_RATE), or an impossible burst.
    Pace,
    /// A session without a number of messages cannot be prepared.
    PrepareEndless,
}

impl SimulatorError {
    /// The key that is wrong.
    pub const fn name(self) -> &'static str {
        match self {
            SimulatorError::Exchange(error) => error.name(),
            SimulatorError::Session(error) => error.name(),
            SimulatorError::Pace => "pace",
            SimulatorError::PrepareEndless => "prepare",
        }
    }
}

impl fmt::Display for SimulatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SimulatorError::Exchange(error) => error.fmt(f),
            SimulatorError::Session(error) => error.fmt(f),
            SimulatorError::Pace => {
                f.write_str("pace must be 1 to 1000000000 messages a second, and a burst at most as long as its period")
            }
            SimulatorError::PrepareEndless => f.write_str("prepare needs a number of messages"),
        }
    }
}

impl std::error::Error for SimulatorError {}

impl From<ConfigError> for SimulatorError {
    fn from(error: ConfigError) -> SimulatorError {
        SimulatorError::Exchange(error)
    }
}

impl From<SessionError> for SimulatorError {
    fn from(error: SessionError) -> SimulatorError {
        SimulatorError::Session(error)
    }
}

/// What was sent on a line; heartbeats and the end of the session are counted elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LineReport {
    /// Packets with messages.
    pub packets: u64,
    /// Their UDP payloads' bytes.
    pub bytes: u64,
}

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// Messages sent, once each.
    pub messages: u64,
    /// From the start to the end of the last packet with messages, ns; preparing is not counted.
    pub elapsed_ns: u64,
    /// The A line.
    pub a: LineReport,
    /// The B line; zero where there is none.
    pub b: LineReport,
    /// Heartbeats, on both lines together.
    pub heartbeats: u64,
    /// The A line's packets that were handed over more than 100 us after their last message was due.
    pub late_packets: u64,
    /// How late the latest was, ns; 0 where none counted as late.
    pub max_late_ns: u64,
    /// Refusals by the operating system.
    pub send_errors: u64,
    /// Packets given up since the kernel had no room.
    pub unsent: u64,
    /// Orders live at the end.
    pub live_orders: u32,
    /// Whether it was stopped before the exchange's last message.
    pub stopped: bool,
}

impl Report {
    /// Messages a second, on average; 0 for no time at all.
    pub fn messages_per_second(&self) -> u64 {
        (u128::from(self.messages) * 1_000_000_000).checked_div(self.elapsed_ns.into()).map_or(0, |rate| rate as u64)
    }
}

/// How far a run has come, to be read from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    messages: AtomicU64,
    packets: AtomicU64,
}

impl Progress {
    /// Messages sent so far.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Packets with messages sent so far, on the A line.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }
}

/// A session that is ready to be sent.
///
/// ```
/// use std::sync::atomic::AtomicBool;
/// use barewire_sim::{ExchangeConfig, Length, Line, PacketMemory, Simulator, SimulatorConfig};
///
/// let exchange = ExchangeConfig { length: Length::Messages(20_000), ..Default::default() };
/// let simulator = Simulator::new(SimulatorConfig { exchange, ..Default::default() })?;
/// let mut packets = PacketMemory::default();
/// let report = simulator.run(&mut [&mut packets], &AtomicBool::new(false))?;
/// assert!(report.messages >= 20_000);
/// assert_eq!(report.a, report.b);
/// assert_eq!(packets.line(Line::A).count() as u64, report.a.packets + report.heartbeats / 2 + 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Simulator {
    config: SimulatorConfig,
    exchange: Exchange,
    progress: Arc<Progress>,
}

impl Simulator {
    /// Makes the exchange; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn new(config: SimulatorConfig) -> Result<Simulator, SimulatorError> {
        config.session.validate()?;
        if !config.pace.is_valid() {
            return Err(SimulatorError::Pace);
        }
        if config.prepare && !matches!(config.exchange.length, Length::Messages(_)) {
            return Err(SimulatorError::PrepareEndless);
        }
        Ok(Simulator { config, exchange: Exchange::new(config.exchange)?, progress: Arc::default() })
    }

    /// How far it will have come, for other threads.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// The exchange, before its first message.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Sends the session to all sinks: until the exchange's last message, or until `stop` is set, which is noticed within
    /// some milliseconds. Either way the session is ended in due form.
    ///
    /// # Errors
    ///
    /// The first sink's that could not go on.
    pub fn run(self, sinks: &mut [&mut dyn Sink], stop: &AtomicBool) -> Result<Report, SinkError> {
        Run::new(self, sinks).run(stop)
    }
}
