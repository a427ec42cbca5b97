//! UDP multicast, or unicast where the address is none.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use barewire_io::OpenError;
use barewire_io::send::{Outgoing, SendOptions, UdpSender};

use super::{Line, SimPacket, Sink, SinkError, SinkLosses};

/// Packets given to the kernel in one call.
const BATCH: usize = 64;

/// How long to wait for room in the kernel before packets are given up.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where a line goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MulticastLine {
    /// Group and port.
    pub to: SocketAddrV4,
    /// Name of the interface that it leaves by; `None` leaves that to the routing table.
    pub interface: Option<String>,
    /// Address to send from; `None` leaves it to the kernel.
    pub source: Option<Ipv4Addr>,
}

/// Sends each line to its group.
///
/// A refusal before anything has been sent ends the run; later ones are counted, as a network loses packets too.
#[derive(Debug)]
pub struct MulticastSink {
    a: (SocketAddrV4, UdpSender),
    b: Option<(SocketAddrV4, UdpSender)>,
    errors: u64,
    has_sent: bool,
}

impl MulticastSink {
    /// Opens a socket for each line. Without a second one, what is for the B line is not sent.
    ///
    /// # Errors
    ///
    /// Why a socket cannot be had.
    pub fn open(a: &MulticastLine, b: Option<&MulticastLine>, ttl: u8) -> Result<MulticastSink, OpenError> {
        let open = |line: &MulticastLine| {
            let (interface, source) = (line.interface.clone(), line.source);
            let options = SendOptions { interface, source, ttl, batch: BATCH, ..SendOptions::default() };
            Ok((line.to, UdpSender::open(&options)?))
        };
        Ok(MulticastSink { a: open(a)?, b: b.map(open).transpose()?, errors: 0, has_sent: false })
    }
}

impl Sink for MulticastSink {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        let lines = [(Line::A, Some(&mut self.a)), (Line::B, self.b.as_mut())];
        for (line, target) in lines {
            let Some((to, sender)) = target else { continue };
            let mut outgoing = [Outgoing { to: *to, payload: &[] }; BATCH];
            let mut of_line = packets.iter().filter(|packet| packet.line == line);
            loop {
                let mut count = 0;
                for (slot, packet) in outgoing.iter_mut().zip(of_line.by_ref()) {
                    slot.payload = packet.payload;
                    count += 1;
                }
                let Some(batch) = outgoing.get(..count).filter(|batch| !batch.is_empty()) else { break };
                match sender.send_all(batch, PATIENCE) {
                    Ok(_) => self.has_sent = true,
                    Err(error) if !self.has_sent => return Err(SinkError::Send(error)),
                    Err(_) => self.errors += 1,
                }
            }
        }
        Ok(())
    }

    fn losses(&self) -> SinkLosses {
        let unsent = |(_, sender): &(SocketAddrV4, UdpSender)| sender.counters().unsent;
        SinkLosses { errors: self.errors, unsent: unsent(&self.a) + self.b.as_ref().map_or(0, unsent) }
    }
}
