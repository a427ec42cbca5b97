//! Packets sent by a program in the kernel.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::Ordering;

use barewire_io::live_frames::{FrameOptions, FrameSender, Frames, Schedule};
use barewire_wire::frame::{self, UDP_HEADERS_LEN};

use super::{LATE_NS, OVERTIME_NS, Plan, Sent, start};
use crate::bench::latency::flow::{Packets, SEQUENCE};
use crate::bench::latency::network::{Network, SENDER_ADDRESS};
use crate::bench::latency::{INTERRUPTED_NS, RunError, Shared};

/// Port that frames come from.
const SOURCE_PORT: u16 = 26_000;
/// The longest frame.
const MAX_FRAME: usize = 1_514;
/// From so many packets a second on, they leave in groups.
const GROUPED_FROM: f64 = 1e6;
/// Packets in such a group, at most.
const GROUP: u32 = 16;

/// How many packets leave together at this rate, a second, at most.
pub(in crate::bench::latency) fn group(packets_per_second: f64) -> u32 {
    if packets_per_second >= GROUPED_FROM { GROUP } else { 1 }
}

fn frames(packets: &Packets, to: SocketAddrV4) -> Result<Frames, RunError> {
    let from = SocketAddrV4::new(SENDER_ADDRESS, SOURCE_PORT);
    let mut frames = Frames::new((UDP_HEADERS_LEN + SEQUENCE.start) as u16);
    let mut bytes = [0; MAX_FRAME];
    for (payload, times) in packets.payloads() {
        let times: Vec<u16> = times.map(|at| (UDP_HEADERS_LEN + at) as u16).collect();
        let len = frame::encode(&mut bytes, None, from, to, payload).map_err(|_| RunError::Frame)?;
        frames.push(bytes.get(..len).unwrap_or_default(), &times).map_err(|_| RunError::Frame)?;
    }
    Ok(frames)
}

/// Sends as [`send`](super::send) does. The calling thread is in the sender's namespace.
pub(in crate::bench::latency) fn send(
    packets: &Packets,
    network: &Network,
    plan: &Plan,
    shared: &Shared<'_>,
) -> Result<Option<Sent>, RunError> {
    let options = FrameOptions { batch: plan.group, late_ns: LATE_NS as u32, interrupted_ns: INTERRUPTED_NS as u32 };
    let mut sender = FrameSender::open(network.sender_interface(), &frames(packets, plan.to)?, options)?;
    shared.stops(sender.stopper());
    let Some(start) = start(shared) else { return Ok(None) };
    let sent = sender.send(&Schedule {
        start,
        origin: plan.origin,
        ns_per_unit: plan.ns_per_message,
        duration_ns: plan.duration_ns,
        overtime_ns: OVERTIME_NS,
    })?;
    shared.sent.store(sent.units, Ordering::Release);
    Ok(Some(Sent {
        messages: sent.units,
        packets: sent.frames,
        elapsed_ns: sent.elapsed_ns,
        late_packets: sent.late_frames,
        max_late_ns: sent.max_late_ns,
        refusals: 0,
        stolen_ns: sent.stolen_ns,
    }))
}

/// Whether frames can be sent so: the program is loaded, and asked to send nothing.
pub(in crate::bench::latency) fn check(network: &Network) -> Result<(), RunError> {
    if let Network::Loopback { why } | Network::Veth { no_frames: Some(why), .. } = network {
        return Err(RunError::NoProgram(why.clone()));
    }
    network.enter_sender()?;
    let to = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 1), 1);
    let mut frames = Frames::new((UDP_HEADERS_LEN + SEQUENCE.start) as u16);
    let mut bytes = [0; MAX_FRAME];
    let from = SocketAddrV4::new(SENDER_ADDRESS, SOURCE_PORT);
    let len = frame::encode(&mut bytes, None, from, to, &[0; 64]).map_err(|_| RunError::Frame)?;
    let times = [(UDP_HEADERS_LEN + SEQUENCE.end) as u16];
    frames.push(bytes.get(..len).unwrap_or_default(), &times).map_err(|_| RunError::Frame)?;
    let mut sender = FrameSender::open(network.sender_interface(), &frames, FrameOptions::default())?;
    let nothing = Schedule { start: 0, origin: 0, ns_per_unit: 1.0, duration_ns: 0, overtime_ns: 0 };
    sender.send(&nothing).map(drop).map_err(|error| RunError::NoProgram(format!("{error} (Linux 5.18 is needed)")))
}
