//! Capture files.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::Path;

use barewire_io::capture::{BinaryFileWriter, PcapWriter};
use barewire_wire::moldudp64::Packet;

use super::{Line, SimPacket, Sink, SinkError};

/// Writes a pcap with times in nanoseconds: Ethernet frames with IP and UDP headers, as a capture of both lines has them.
#[derive(Debug)]
pub struct PcapSink<W: Write = File> {
    /// `None` once it is finished.
    out: Option<PcapWriter<W>>,
    from: SocketAddrV4,
    a: SocketAddrV4,
    b: Option<SocketAddrV4>,
}

impl PcapSink {
    /// Creates a file, or empties one. Without `b` only the A line is written.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn create(
        path: impl AsRef<Path>,
        from: SocketAddrV4,
        a: SocketAddrV4,
        b: Option<SocketAddrV4>,
    ) -> Result<PcapSink, SinkError> {
        Ok(PcapSink { out: Some(PcapWriter::create(path)?), from, a, b })
    }
}

impl<W: Write> PcapSink<W> {
    /// Writes to `out`.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn new(out: W, from: SocketAddrV4, a: SocketAddrV4, b: Option<SocketAddrV4>) -> Result<PcapSink<W>, SinkError> {
        Ok(PcapSink { out: Some(PcapWriter::new(out)?), from, a, b })
    }
}

impl<W: Write> Sink for PcapSink<W> {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        let Some(out) = &mut self.out else { return Ok(()) };
        for packet in packets {
            let to = if packet.line == Line::A { Some(self.a) } else { self.b };
            if let Some(to) = to {
                out.write_datagram(packet.time, self.from, to, packet.payload)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.out.take().map_or(Ok(()), |out| Ok(out.finish().map(drop)?))
    }
}

/// Writes the messages, without packets, as Nasdaq's historical files have them.
#[derive(Debug)]
pub struct BinaryFileSink<W: Write = File> {
    /// `None` once it is finished.
    out: Option<BinaryFileWriter<W>>,
}

impl BinaryFileSink {
    /// Creates a file, or empties one.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn create(path: impl AsRef<Path>) -> Result<BinaryFileSink, SinkError> {
        Ok(BinaryFileSink { out: Some(BinaryFileWriter::create(path)?) })
    }
}

impl<W: Write> BinaryFileSink<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> BinaryFileSink<W> {
        BinaryFileSink { out: Some(BinaryFileWriter::new(out)) }
    }
}

impl<W: Write> Sink for BinaryFileSink<W> {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        let Some(out) = &mut self.out else { return Ok(()) };
        for packet in packets.iter().filter(|packet| packet.line == Line::A) {
            for message in Packet::parse(packet.payload).iter().flat_map(Packet::messages) {
                out.write_message(message)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.out.take().map_or(Ok(()), |out| Ok(out.finish().map(drop)?))
    }
}
