//! Receiving from a capture file, as if it were live.
//!
//! Each frame's UDP datagram goes to the line whose group and port it was sent to. Times are the capture's own. Nothing
//! waits: packets come as fast as they are asked for.

use std::io;
use std::time::Duration;

use barewire_types::{TsSource, UnixNanos};
use barewire_wire::frame::{Datagram, FrameError};

use crate::Waker;
use crate::capture::{Capture, CaptureError, End, Format};
use crate::packet::{LineConfig, Packet, Receiver, ReceiverCounters};
use crate::senders::Senders;

/// Packets that one call hands over.
const BATCH: usize = 64;

/// Receives lines from a capture file.
#[derive(Debug)]
pub struct FileReceiver {
    capture: Capture,
    /// Empty: every datagram is line 0's.
    lines: Vec<(LineConfig, Senders)>,
    counters: ReceiverCounters,
}

impl FileReceiver {
    /// Receives these lines; their interfaces do not matter. Without any line, every UDP datagram of the file is line
    /// 0's.
    ///
    /// # Errors
    ///
    /// [`CaptureError::NoFrames`] for a BinaryFILE, which holds messages but no packets.
    pub fn new(capture: Capture, lines: &[LineConfig]) -> Result<FileReceiver, CaptureError> {
        match capture.format() {
            Format::Pcap | Format::PcapNg => {
                let lines = lines.iter().map(|line| (line.clone(), Senders::of(line))).collect();
                Ok(FileReceiver { capture, lines, counters: ReceiverCounters::default() })
            }
            Format::BinaryFile => Err(CaptureError::NoFrames),
        }
    }

    /// The file, for its progress and its end.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }
}

/// Which line a datagram is for; the counter where it is for none.
fn line_of<'c>(
    lines: &[(LineConfig, Senders)],
    datagram: &Datagram<'_>,
    counters: &'c mut ReceiverCounters,
) -> Result<u8, &'c mut u64> {
    if lines.is_empty() {
        return Ok(0);
    }
    let mut sent_here =
        lines.iter().filter(|(line, _)| (line.group, line.port) == (*datagram.dst.ip(), datagram.dst.port()));
    let mut known = false;
    match sent_here.find(|(_, senders)| {
        known = true;
        senders.include(*datagram.src.ip())
    }) {
        Some((line, _)) => Ok(line.line),
        None if known => Err(&mut counters.wrong_source),
        None => Err(&mut counters.other_destination),
    }
}

impl Receiver for FileReceiver {
    fn receive(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let counters = &mut self.counters;
        let mut delivered = 0;
        while delivered < BATCH {
            let Some(frame) = self.capture.next_frame()? else { break };
            let datagram = match frame.datagram() {
                Ok(datagram) => datagram,
                Err(error) => {
                    *match error {
                        FrameError::NotIpv4 | FrameError::NotUdp => &mut counters.not_udp,
                        FrameError::Fragment => &mut counters.fragments,
                        FrameError::Truncated if frame.is_truncated() => &mut counters.truncated,
                        _ => &mut counters.malformed,
                    } += 1;
                    continue;
                }
            };
            let line = match line_of(&self.lines, &datagram, counters) {
                Ok(line) => line,
                Err(counter) => {
                    *counter += 1;
                    continue;
                }
            };
            let ts_source = if frame.ts == UnixNanos::ABSENT { TsSource::None } else { TsSource::Capture };
            counters.packets += 1;
            counters.bytes += datagram.payload.len() as u64;
            delivered += 1;
            let (payload, ts) = (datagram.payload, frame.ts);
            sink(Packet { line, payload, ts_recv: ts, ts_source, seen: ts, degraded: false, src: datagram.src });
        }
        counters.batches += u64::from(delivered > 0);
        Ok(delivered)
    }

    fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    fn set_timeout(&mut self, _timeout: Option<Duration>) {}

    fn waker(&self) -> Waker {
        Waker::none()
    }

    fn is_finished(&self) -> bool {
        self.capture.end() != End::NotYet
    }
}
