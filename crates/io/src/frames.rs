//! From Ethernet frames to packets: what the paths share that read frames themselves.
//!
//! A frame passes what the kernel's own UDP would have it pass: the IPv4 header's checksum always, UDP's where nobody
//! has vouched for it, no VLAN but the line's own, a group and port that is a line's, a source that the line hears. What
//! does not pass ends in one counter. Fragments are not put together.
//!
//! A frame may hold several datagrams: the kernel carries a run of them that a sender handed over at once, or that a
//! card put together, in one piece with one header (`UDP_SEGMENT`, UDP GRO), and cuts it up only before a socket.

use std::net::Ipv4Addr;

use barewire_types::{TsSource, UnixNanos};
use barewire_wire::frame::{self, FrameError, UDP_HEADERS_LEN};
use barewire_wire::trailers::{self, Kind, Stamp, StampError};

use crate::nic::Verdict;
use crate::packet::{LineConfig, Packet, ReceiverCounters};
use crate::senders::Senders;

/// Capture switches whose trailers are read from live frames. (Arista's header changes the ethertype, so that no filter
/// lets its frames through.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailerTimes {
    /// Metamako, Arista 7130.
    Metamako,
    /// Exablaze, Cisco Nexus 3550.
    Exablaze,
}

impl TrailerTimes {
    /// The frame's time; a trailer that was cut off, or that a run of datagrams has lost, is missing.
    fn read(self, frame: &[u8], arrival: &Arrival) -> Result<Stamp, StampError> {
        if frame.len() < arrival.original_len || arrival.segment_bytes != 0 {
            return Err(StampError::Missing);
        }
        let kind = match self {
            TrailerTimes::Metamako => Kind::Metamako,
            TrailerTimes::Exablaze => Kind::Exablaze,
        };
        trailers::read(kind, frame, arrival.seen)
    }
}

/// What is known of a frame beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) ts_recv: UnixNanos,
    pub(crate) ts_source: TsSource,
    /// By the system's clock.
    pub(crate) seen: UnixNanos,
    /// What came of the card's stamp.
    pub(crate) hardware: Verdict,
    /// Whether UDP's checksum needs no look: the card has checked it, or the frame is this machine's own and nobody has
    /// computed it yet.
    pub(crate) checksum_settled: bool,
    /// The id of a VLAN tag that was taken out of the frame; `None` for none and for id 0, which is only a priority.
    pub(crate) vlan: Option<u16>,
    /// Payload bytes of each datagram but the last, where the frame holds a run of them; 0 for one datagram.
    pub(crate) segment_bytes: u16,
    /// Length of the frame before it was cut to what was kept of it, bytes.
    pub(crate) original_len: usize,
}

impl Arrival {
    /// How many datagrams the frame stands for.
    fn datagrams(&self) -> u64 {
        match self.segment_bytes {
            0 => 1,
            bytes => (self.original_len.saturating_sub(UDP_HEADERS_LEN) as u64).div_ceil(u64::from(bytes)).max(1),
        }
    }
}

/// A line, by what its packets are sent to.
#[derive(Clone, Debug)]
struct Target {
    /// Group and port: see [`key`].
    key: u64,
    senders: Senders,
    line: u8,
}

fn key(address: Ipv4Addr, port: u16) -> u64 {
    u64::from(address.to_bits()) << 16 | u64::from(port)
}

/// The lines of one interface.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// By key.
    targets: Box<[Target]>,
    /// The VLAN that the lines' frames are tagged with, where the path sees tags; `None` for untagged frames.
    vlan: Option<u16>,
    trailer_times: Option<TrailerTimes>,
}

impl Lines {
    pub(crate) fn new<'a>(lines: impl IntoIterator<Item = &'a LineConfig>, vlan: Option<u16>) -> Lines {
        let target =
            |line: &LineConfig| Target { key: key(line.group, line.port), senders: Senders::of(line), line: line.line };
        let mut targets: Vec<Target> = lines.into_iter().map(target).collect();
        targets.sort_by_key(|target| target.key);
        Lines { targets: targets.into(), vlan, trailer_times: None }
    }

    /// The same, their receive times taken from such trailers; frames without one keep the time that they came with.
    pub(crate) fn with_trailer_times(self, trailer_times: Option<TrailerTimes>) -> Lines {
        Lines { trailer_times, ..self }
    }

    /// Hands the datagrams in a frame to every line that they are for; counts them, and returns how many it handed over.
    /// Batches, and times that were asked for and did not come, are the caller's to count.
    #[inline]
    pub(crate) fn deliver(
        &self,
        frame: &[u8],
        arrival: &Arrival,
        counters: &mut ReceiverCounters,
        sink: &mut impl FnMut(Packet<'_>),
    ) -> usize {
        // The parts of a run were never summed one by one; who put it together has looked.
        let parsed = match arrival.checksum_settled || arrival.segment_bytes != 0 {
            true => frame::header_verified_datagram(frame),
            false => frame::verified_datagram(frame),
        };
        let datagram = match parsed {
            Ok(datagram) => datagram,
            Err(error) => {
                *match error {
                    FrameError::NotIpv4 | FrameError::NotUdp => &mut counters.not_udp,
                    FrameError::Fragment => &mut counters.fragments,
                    FrameError::Truncated if frame.len() < arrival.original_len => &mut counters.truncated,
                    _ => &mut counters.malformed,
                } += arrival.datagrams();
                return 0;
            }
        };
        if datagram.vlan.or(arrival.vlan) != self.vlan {
            counters.other_destination += arrival.datagrams();
            return 0;
        }
        let key = key(*datagram.dst.ip(), datagram.dst.port());
        let from = self.targets.partition_point(|target| target.key < key);
        let sent_here = self.targets.get(from..).unwrap_or(&[]).iter().take_while(|target| target.key == key);
        let trailer = self.trailer_times.map(|times| times.read(frame, arrival));
        let (ts_recv, ts_source) = match trailer {
            Some(Ok(stamp)) => (stamp.ts, TsSource::Capture),
            _ => (arrival.ts_recv, arrival.ts_source),
        };
        let degraded = match &trailer {
            Some(Ok(stamp)) => stamp.degraded,
            Some(Err(_)) => true,
            None => arrival.hardware.is_degraded(),
        };
        let (mut delivered, mut known) = (0, false);
        for target in sent_here {
            known = true;
            if !target.senders.include(*datagram.src.ip()) {
                continue;
            }
            let mut hand_over = |payload| {
                delivered += 1;
                sink(Packet {
                    line: target.line,
                    payload,
                    ts_recv,
                    ts_source,
                    seen: arrival.seen,
                    degraded,
                    src: datagram.src,
                });
            };
            match arrival.segment_bytes {
                // A run of nothing is one empty datagram.
                bytes if bytes != 0 && !datagram.payload.is_empty() => {
                    datagram.payload.chunks(usize::from(bytes)).for_each(hand_over);
                }
                _ => hand_over(datagram.payload),
            }
            counters.bytes += datagram.payload.len() as u64;
        }
        match (delivered, known) {
            (0, true) => counters.wrong_source += arrival.datagrams(),
            (0, false) => counters.other_destination += arrival.datagrams(),
            _ => counters.packets += delivered as u64,
        }
        arrival.hardware.count(delivered as u64, counters);
        match trailer {
            None => {}
            Some(Ok(stamp)) => {
                counters.switch_times += delivered as u64;
                counters.switch_times_degraded += if stamp.degraded { delivered as u64 } else { 0 };
            }
            Some(Err(StampError::Missing)) => counters.switch_times_missing += delivered as u64,
            Some(Err(_)) => counters.switch_times_implausible += delivered as u64,
        }
        delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddrV4;

    use proptest::prelude::*;

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
    const ME: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn line(line: u8, port: u16, source: Option<Ipv4Addr>) -> LineConfig {
        LineConfig { group: GROUP, port, interface: None, source, allow: Vec::new(), line }
    }

    fn frame(vlan: Option<u16>, src: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 400];
        let (src, dst) = (SocketAddrV4::new(src, 999), SocketAddrV4::new(GROUP, port));
        let len = frame::encode(&mut out, vlan, src, dst, payload).unwrap();
        out.truncate(len);
        out
    }

    fn arrival(frame: &[u8]) -> Arrival {
        Arrival {
            ts_recv: UnixNanos(5),
            ts_source: TsSource::Kernel,
            seen: UnixNanos(5),
            hardware: Verdict::NotAsked,
            checksum_settled: false,
            vlan: None,
            segment_bytes: 0,
            original_len: frame.len(),
        }
    }

    /// What came out, and the counters that are not 0.
    type Outcome = (Vec<(u8, Vec<u8>)>, Vec<(&'static str, u64)>);

    fn deliver(lines: &Lines, frame: &[u8], arrival: Arrival) -> Outcome {
        let (mut counters, mut out) = (ReceiverCounters::default(), Vec::new());
        let delivered = lines.deliver(frame, &arrival, &mut counters, &mut |packet| {
            assert_eq!((packet.ts_recv, packet.ts_source), (arrival.ts_recv, arrival.ts_source));
            out.push((packet.line, packet.payload.to_vec()));
        });
        assert_eq!((delivered, delivered as u64), (out.len(), counters.packets));
        let counted = ReceiverCounters::NAMES.iter().copied().zip(counters.values()).filter(|(_, value)| *value > 0);
        (out, counted.collect())
    }

    #[test]
    fn a_frame_goes_to_every_line_that_it_is_for_or_into_one_counter() {
        let lines = [line(0, 7, Some(ME)), line(1, 7, Some(OTHER)), line(2, 8, None), line(3, 8, Some(ME))];
        let lines = Lines::new(&lines, None);
        let of = |src, port| {
            let frame = frame(None, src, port, b"abc");
            deliver(&lines, &frame, arrival(&frame))
        };
        assert_eq!(of(ME, 7), (vec![(0, b"abc".to_vec())], vec![("packets", 1), ("bytes", 3)]));
        assert_eq!(of(OTHER, 7), (vec![(1, b"abc".to_vec())], vec![("packets", 1), ("bytes", 3)]));
        let both = vec![(2, b"abc".to_vec()), (3, b"abc".to_vec())];
        assert_eq!(of(ME, 8), (both, vec![("packets", 2), ("bytes", 6)]));
        assert_eq!(of(Ipv4Addr::LOCALHOST, 7), (vec![], vec![("wrong_source", 1)]));
        assert_eq!(of(ME, 9), (vec![], vec![("other_destination", 1)]));
        assert_eq!(of(ME, 6), (vec![], vec![("other_destination", 1)]));
    }

    #[test]
    fn tags_in_the_frame_and_beside_it_are_one() {
        let (untagged, tagged) = (frame(None, ME, 7, b"x"), frame(Some(5), ME, 7, b"x"));
        let stripped = Arrival { vlan: Some(5), ..arrival(&untagged) };
        for (vlan, plain) in [(None, true), (Some(5), false)] {
            let lines = Lines::new(&[line(0, 7, None)], vlan);
            assert_eq!(deliver(&lines, &untagged, arrival(&untagged)).0.len(), usize::from(plain));
            assert_eq!(deliver(&lines, &tagged, arrival(&tagged)).0.len(), usize::from(!plain));
            assert_eq!(deliver(&lines, &untagged, stripped).0.len(), usize::from(!plain));
        }
        let lines = Lines::new(&[line(0, 7, None)], None);
        assert_eq!(deliver(&lines, &tagged, arrival(&tagged)).1, [("other_destination", 1)]);
    }

    #[test]
    fn checksums_are_looked_at_unless_somebody_vouches_for_them() {
        let lines = Lines::new(&[line(0, 7, None)], None);
        let mut wrong = frame(None, ME, 7, b"payload");
        wrong[45] ^= 1;
        assert_eq!(deliver(&lines, &wrong, arrival(&wrong)).1, [("malformed", 1)]);
        let settled = Arrival { checksum_settled: true, ..arrival(&wrong) };
        assert_eq!(deliver(&lines, &wrong, settled).0.len(), 1);
        // The header's is always there.
        wrong[22] ^= 1;
        assert_eq!(deliver(&lines, &wrong, settled).1, [("malformed", 1)]);
    }

    /// A frame whose trailer says something else than the kernel, what it cannot be, or nothing.
    #[test]
    fn receive_times_are_the_trailers_where_it_was_asked_for() {
        const NOW: u64 = 1_700_000_000_000_000_000;
        for (times, kind) in [(TrailerTimes::Metamako, Kind::Metamako), (TrailerTimes::Exablaze, Kind::Exablaze)] {
            let lines = Lines::new(&[line(0, 7, None), line(1, 7, None)], None).with_trailer_times(Some(times));
            let plain = frame(None, ME, 7, b"abc");
            let stamped = |ts| {
                let mut out = plain.clone();
                out.resize(plain.len() + 20, 0);
                let stamp = Stamp { kind, ts: UnixNanos(ts), device: 1, port: 2, degraded: false, may_be_late: false };
                let len = trailers::encode(&mut out, plain.len(), &stamp, false).unwrap();
                out.truncate(len);
                out
            };
            let of = |frame: &[u8], change: fn(&mut Arrival)| {
                let mut arrival = Arrival { ts_recv: UnixNanos(NOW), seen: UnixNanos(NOW), ..arrival(frame) };
                change(&mut arrival);
                let (mut counters, mut found) = (ReceiverCounters::default(), Vec::new());
                lines.deliver(frame, &arrival, &mut counters, &mut |packet| {
                    assert_eq!(packet.payload, b"abc");
                    assert_eq!(packet.seen.0, NOW);
                    found.push((packet.ts_recv.0, packet.ts_source));
                });
                let ReceiverCounters { packets, switch_times, switch_times_missing, switch_times_implausible, .. } =
                    counters;
                assert_eq!((packets, found.len()), (2, 2));
                assert_eq!(found[0], found[1]);
                (found[0], [switch_times, switch_times_missing, switch_times_implausible])
            };
            let kernel = (NOW, TsSource::Kernel);
            assert_eq!(of(&stamped(NOW - 777), |_| {}), ((NOW - 777, TsSource::Capture), [2, 0, 0]));
            assert_eq!(of(&stamped(NOW / 2), |_| {}), (kernel, [0, 0, 2]));
            assert_eq!(of(&plain, |_| {}), (kernel, [0, 2, 0]));
            assert_eq!(of(&stamped(NOW), |arrival| arrival.original_len += 1), (kernel, [0, 2, 0]));
            assert_eq!(of(&stamped(NOW), |arrival| arrival.segment_bytes = 3), (kernel, [0, 2, 0]));
        }
    }

    #[test]
    fn a_run_is_cut_up_and_counted_piece_by_piece() {
        let lines = Lines::new(&[line(0, 7, Some(ME))], None);
        let payload: Vec<u8> = (0..=255).collect();
        let run = frame(None, ME, 7, &payload);
        let of_100 = Arrival { segment_bytes: 100, ..arrival(&run) };
        let (out, counted) = deliver(&lines, &run, of_100);
        assert!(out.iter().map(|(_, payload)| payload.as_slice()).eq(payload.chunks(100)));
        assert_eq!(counted, [("packets", 3), ("bytes", 256)]);
        let foreign = frame(None, OTHER, 7, &payload);
        assert_eq!(deliver(&lines, &foreign, of_100).1, [("wrong_source", 3)]);
        assert_eq!(deliver(&lines, &run[..200], of_100).1, [("truncated", 3)]);
        let empty = frame(None, ME, 7, b"");
        let (out, _) = deliver(&lines, &empty, Arrival { segment_bytes: 100, ..arrival(&empty) });
        assert_eq!(out, [(0, vec![])]);
    }

    #[test]
    fn what_is_no_datagram_is_counted_by_its_kind() {
        let lines = Lines::new(&[line(0, 7, None)], None);
        let whole = frame(None, ME, 7, b"payload");
        let with = |at: usize, byte: u8| {
            let mut frame = whole.clone();
            frame[at] = byte;
            deliver(&lines, &frame, arrival(&frame)).1
        };
        assert_eq!(with(12, 0x86), [("not_udp", 1)]);
        assert_eq!(with(23, 6), [("not_udp", 1)]);
        assert_eq!(with(20, 0x20), [("fragments", 1)]);
        assert_eq!(with(14, 0x44), [("malformed", 1)]);
        assert_eq!(deliver(&lines, &whole[..45], arrival(&whole)).1, [("truncated", 1)]);
        assert_eq!(deliver(&lines, &whole[..45], arrival(&whole[..45])).1, [("malformed", 1)]);
    }

    proptest! {
        /// However damaged the frame, it is handed over or ends in one counter.
        #[test]
        fn nothing_is_lost_between_the_counters(
            len in 0usize..120,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            (checksum_settled, segment_bytes, cut) in (any::<bool>(), 0u16..50, any::<prop::sample::Index>()),
        ) {
            let lines = Lines::new(&[line(0, 7, Some(ME)), line(1, 7, None)], None);
            let mut frame = frame(None, ME, 7, &vec![3; len]);
            for (at, byte) in damage {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            let arrival = Arrival { checksum_settled, segment_bytes, ..arrival(&frame) };
            let kept = &frame[..cut.index(frame.len() + 1)];
            let (out, counted) = deliver(&lines, kept, arrival);
            let lens: u64 = out.iter().map(|(_, payload)| payload.len() as u64).sum();
            let mut beside = counted.into_iter().filter(|(name, _)| *name != "bytes");
            prop_assert!(beside.next().is_some_and(|(_, count)| count > 0));
            prop_assert_eq!(beside.next(), None);
            prop_assert!(lens <= 2 * len as u64);
        }
    }
}
