//! Receiving as feed handlers did before: one blocking `recvmsg` a packet, with the kernel's software time. For benchmarks
//! to compare with; feeds have [`kernel`](crate::kernel).

use std::io;
use std::time::Duration;

use barewire_types::{TsSource, UnixNanos};

use crate::clock;
use crate::error::{OpenError, Purpose};
use crate::kernel::{Batch, KernelOptions, Line, open_line};
use crate::nic::{Nics, Stamps};
use crate::packet::{LineConfig, Packet};

/// One line's socket, which is waited for.
#[derive(Debug)]
pub struct LegacyReceiver {
    line: Line,
    batch: Batch,
    kernel_drops: u64,
}

impl LegacyReceiver {
    /// Opens the socket as the kernel path does, with as large a buffer, and joins the group. A wait lasts `timeout` at
    /// most, so that the receiver can be stopped.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which names the line.
    pub fn open(line: &LineConfig, rcvbuf_bytes: Option<usize>, timeout: Duration) -> Result<Self, OpenError> {
        let what = Purpose::Line(line.line);
        let options = KernelOptions { rcvbuf_bytes, timestamps: Stamps::Kernel, ..KernelOptions::default() };
        let (line, _) = open_line(line, &options, &mut Nics::default())?;
        let wait = libc::timeval {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: timeout.subsec_micros().into(),
        };
        line.socket.require(libc::SOL_SOCKET, libc::SO_RCVTIMEO, wait, "SO_RCVTIMEO")?;
        let batch = Batch::new(1, options.max_datagram);
        let batch = batch.map_err(|error| OpenError::Os { what, call: "mmap", error })?;
        Ok(LegacyReceiver { line, batch, kernel_drops: 0 })
    }

    /// Waits for one packet and hands it to `sink`. `false` when none came in time.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn receive(&mut self, sink: impl FnOnce(Packet<'_>)) -> io::Result<bool> {
        let received = match self.batch.receive_one(self.line.socket.fd()) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let Some(message) = self.batch.messages(received).next() else { return Ok(false) };
        if let Some(drops) = message.drops {
            self.kernel_drops += self.line.new_drops(drops);
        }
        let Some(payload) = message.payload else { return Ok(false) };
        let (ts_recv, ts_source): (UnixNanos, _) = match message.time {
            Some(time) => (time, TsSource::Kernel),
            None => (clock::now(), TsSource::User),
        };
        sink(Packet {
            line: self.line.number,
            payload,
            ts_recv,
            ts_source,
            seen: ts_recv,
            degraded: false,
            src: message.src,
        });
        Ok(true)
    }

    /// Packets that the kernel dropped since the socket's buffer was full, up to the last one received.
    pub fn kernel_drops(&self) -> u64 {
        self.kernel_drops
    }
}
