//! Sinks at the other end of a network that loses, repeats, delays and reorders.

use std::fmt;

use barewire_types::UnixNanos;

use super::{Line, SimPacket, Sink, SinkError, SinkLosses};
use crate::impair::Network;

/// Packets handed over together at most, where they are not those that came together: a few, or many.
const FEW: usize = 8;
const MANY: usize = 128;

/// Impairs packets before other sinks take them: all of these see the same. The A line is the network's line 0, the B
/// line its line 1.
///
/// A packet's time is that of its arrival. Packets that are neither late nor held back go on from where they are,
/// uncopied; the others leave with whatever comes after their time, or when the sink is [polled](Sink::poll).
pub struct ImpairedSink {
    network: Network,
    inner: Vec<Box<dyn Sink + Send>>,
    /// What is to be handed over.
    plan: Vec<Planned>,
}

/// A packet that is about to be handed over.
#[derive(Clone, Copy, Debug)]
enum Planned {
    /// One of those that came, by its index.
    Came(usize),
    /// One that was under way.
    WasUnderWay { line: Line, time: UnixNanos, slot: u32 },
}

impl ImpairedSink {
    /// A network, and what is behind it.
    pub fn new(network: Network, inner: Vec<Box<dyn Sink + Send>>) -> ImpairedSink {
        ImpairedSink { network, inner, plan: Vec::new() }
    }

    /// The network, for its counters.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Plans what has arrived by `now`.
    #[inline]
    fn plan_due(&mut self, now: UnixNanos) {
        while let Some(due) = self.network.due(now) {
            let line = if due.line == 0 { Line::A } else { Line::B };
            self.plan.push(Planned::WasUnderWay { line, time: due.at, slot: due.slot });
        }
    }

    /// Hands on what is planned.
    fn hand_over(&mut self, came: &[SimPacket<'_>]) -> Result<(), SinkError> {
        let is_as_it_came = self.plan.len() == came.len()
            && self.plan.iter().enumerate().all(|(at, planned)| matches!(planned, Planned::Came(from) if *from == at));
        let result = match self.plan.len() {
            _ if is_as_it_came => self.hand_on(came),
            // Most batches are small, and room for many takes its time to prepare.
            ..=FEW => self.hand_on_planned::<FEW>(came),
            _ => self.hand_on_planned::<MANY>(came),
        };
        for planned in self.plan.drain(..) {
            if let Planned::WasUnderWay { slot, .. } = planned {
                self.network.give_back(slot);
            }
        }
        result
    }

    fn hand_on_planned<const BATCH: usize>(&mut self, came: &[SimPacket<'_>]) -> Result<(), SinkError> {
        let none = SimPacket { line: Line::A, time: UnixNanos::ABSENT, payload: &[] };
        for part in self.plan.chunks(BATCH) {
            let mut packets = [none; BATCH];
            for (packet, planned) in packets.iter_mut().zip(part) {
                *packet = match *planned {
                    Planned::Came(at) => came.get(at).copied().unwrap_or(none),
                    Planned::WasUnderWay { line, time, slot } => {
                        SimPacket { line, time, payload: self.network.payload(slot) }
                    }
                };
            }
            for sink in &mut self.inner {
                sink.take(packets.get(..part.len()).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn hand_on(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        if packets.is_empty() {
            return Ok(());
        }
        self.inner.iter_mut().try_for_each(|sink| sink.take(packets))
    }
}

impl Sink for ImpairedSink {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        for (at, packet) in packets.iter().enumerate() {
            self.plan_due(packet.time);
            let line = u8::from(packet.line == Line::B);
            for _ in 0..self.network.admit(line, packet.time, packet.payload, true) {
                self.plan.push(Planned::Came(at));
            }
        }
        if let Some(last) = packets.last() {
            self.plan_due(last.time);
        }
        self.hand_over(packets)
    }

    fn poll(&mut self, now: UnixNanos) -> Result<Option<UnixNanos>, SinkError> {
        self.plan_due(now);
        self.hand_over(&[])?;
        let mut next = self.network.next_arrival();
        for sink in &mut self.inner {
            let of_sink = sink.poll(now)?;
            next = next.into_iter().chain(of_sink).min();
        }
        Ok(next)
    }

    /// What is still under way arrives in the order of its times, however late these are.
    fn finish(&mut self) -> Result<(), SinkError> {
        self.plan_due(UnixNanos(u64::MAX));
        self.hand_over(&[])?;
        self.inner.iter_mut().try_for_each(|sink| sink.finish())
    }

    fn losses(&self) -> SinkLosses {
        self.inner.iter().map(|sink| sink.losses()).fold(SinkLosses::default(), |sum, losses| SinkLosses {
            errors: sum.errors + losses.errors,
            unsent: sum.unsent + losses.unsent,
        })
    }
}

impl fmt::Debug for ImpairedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImpairedSink").field("network", &self.network).field("sinks", &self.inner.len()).finish()
    }
}
