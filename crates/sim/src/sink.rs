//! Where packets go.

use std::fmt;
use std::io;

use barewire_io::capture::WriteError;
use barewire_types::UnixNanos;

mod files;
mod impaired;
mod memory;
mod multicast;

pub use files::{BinaryFileSink, PcapSink};
pub use impaired::ImpairedSink;
pub use memory::{BinaryFileMemory, PacketMemory};
pub use multicast::{MulticastLine, MulticastSink};

/// One of a session's two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Line {
    /// The first.
    A,
    /// The second.
    B,
}

/// A packet on its way.
#[derive(Clone, Copy, Debug)]
pub struct SimPacket<'a> {
    /// On which line.
    pub line: Line,
    /// When it is sent: by the system's clock where time is real, else by the exchange's.
    pub time: UnixNanos,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// Why a sink can take no more.
#[derive(Debug)]
#[non_exhaustive]
pub enum SinkError {
    /// The first packets could not be sent; the operating system's reason.
    Send(io::Error),
    /// A file could not be written.
    Write(WriteError),
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::Send(error) => write!(f, "cannot send: {error}"),
            SinkError::Write(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SinkError::Send(error) => Some(error),
            SinkError::Write(error) => Some(error),
        }
    }
}

impl From<WriteError> for SinkError {
    fn from(error: WriteError) -> SinkError {
        SinkError::Write(error)
    }
}

/// What sending has cost; zero for sinks that cannot lose anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SinkLosses {
    /// Refusals by the operating system.
    pub errors: u64,
    /// Packets that were given up.
    pub unsent: u64,
}

/// Takes packets in the order in which they are sent.
pub trait Sink {
    /// Takes some packets.
    ///
    /// # Errors
    ///
    /// What makes it pointless to go on; the run ends.
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError>;

    /// Does what is due by `now`, for sinks that hold packets back, and says when something will be due next. Where time
    /// is real it is asked then, while no other packets are sent; what is due before other packets goes when
    /// [`take`](Sink::take) takes these.
    ///
    /// # Errors
    ///
    /// As [`take`](Sink::take).
    fn poll(&mut self, now: UnixNanos) -> Result<Option<UnixNanos>, SinkError> {
        let _ = now;
        Ok(None)
    }

    /// Takes the end: nothing comes after it, and what was held back goes now. Files are complete when this has succeeded.
    ///
    /// # Errors
    ///
    /// As [`take`](Sink::take).
    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// What has been lost so far.
    fn losses(&self) -> SinkLosses {
        SinkLosses::default()
    }
}
