//! Memory, for tests and benchmarks.

use barewire_types::UnixNanos;
use barewire_wire::moldudp64::Packet;

use super::{Line, SimPacket, Sink, SinkError};

/// Keeps the packets.
#[derive(Clone, Debug, Default)]
pub struct PacketMemory {
    bytes: Vec<u8>,
    /// Line, time, and where its bytes end; they begin where those of the packet before end.
    packets: Vec<(Line, UnixNanos, usize)>,
}

impl PacketMemory {
    /// The packets, in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = SimPacket<'_>> {
        let mut begin = 0;
        self.packets.iter().map(move |&(line, time, end)| {
            let payload = self.bytes.get(begin..end).unwrap_or_default();
            begin = end;
            SimPacket { line, time, payload }
        })
    }

    /// The packets of one line.
    pub fn line(&self, line: Line) -> impl Iterator<Item = SimPacket<'_>> {
        self.iter().filter(move |packet| packet.line == line)
    }

    /// How many packets there are.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

impl Sink for PacketMemory {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        for packet in packets {
            self.bytes.extend_from_slice(packet.payload);
            self.packets.push((packet.line, packet.time, self.bytes.len()));
        }
        Ok(())
    }
}

/// Keeps the A line's messages, each behind its length, as a BinaryFILE has them.
#[derive(Clone, Debug, Default)]
pub struct BinaryFileMemory(pub Vec<u8>);

impl Sink for BinaryFileMemory {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        for packet in packets.iter().filter(|packet| packet.line == Line::A) {
            for message in Packet::parse(packet.payload).iter().flat_map(Packet::messages) {
                self.0.extend_from_slice(&(message.len() as u16).to_be_bytes());
                self.0.extend_from_slice(message);
            }
        }
        Ok(())
    }
}
