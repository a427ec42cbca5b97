//! Receive times of capture switches, frame by frame of a capture.

use barewire_types::UnixNanos;
use barewire_wire::trailers::{self, Kind, StampError};

use super::frame::{Frame, LinkType};

/// By how much a late time of Arista's is late, ns; see [`trailers`].
const LATE_NS: i64 = 4_000_000_000;
/// How far from that a difference may be, ns.
const NEARLY_NS: u64 = 500_000_000;

/// Whose times are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchTimes {
    /// Those of one kind of switch.
    Of(Kind),
    /// Whatever is there beyond doubt: [`trailers::detect`].
    Auto,
}

/// A time taken from a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchTime {
    /// When the frame came to the switch, UTC.
    pub ts: UnixNanos,
    /// Whether the switch says that its clock was not good.
    pub degraded: bool,
    /// Whether it was 4 s late, and was put right.
    pub corrected: bool,
}

/// Takes switches' times out of a capture's frames, in their order.
#[derive(Clone, Debug)]
pub struct SwitchClock {
    times: SwitchTimes,
    /// By how much the switch's last time that could not be late was ahead of the capture's, ns.
    ahead: Option<i64>,
}

impl SwitchClock {
    /// Before the first frame.
    pub fn new(times: SwitchTimes) -> SwitchClock {
        SwitchClock { times, ahead: None }
    }

    /// Whose times are taken.
    pub fn times(&self) -> SwitchTimes {
        self.times
    }

    /// The frame's time. One that can be late is compared with what the frames before it were ahead of the capture's times.
    ///
    /// # Errors
    ///
    /// [`StampError::Missing`] also for frames that are not Ethernet, and for trailers that the capture cut off;
    /// [`StampError::Implausible`] also for a time that can be late where nothing tells whether it is.
    pub fn time(&mut self, frame: &Frame<'_>) -> Result<SwitchTime, StampError> {
        if frame.link != LinkType::Ethernet {
            return Err(StampError::Missing);
        }
        let stamp = match self.times {
            // A header stands where nothing cuts it off.
            _ if frame.is_truncated() => trailers::read(Kind::Arista7280, frame.data, frame.ts)
                .and_then(|stamp| if self.wants(stamp.kind) { Ok(stamp) } else { Err(StampError::Missing) }),
            SwitchTimes::Of(kind) => trailers::read(kind, frame.data, frame.ts),
            SwitchTimes::Auto => trailers::detect(frame.data, frame.ts),
        }?;
        let mut time = SwitchTime { ts: stamp.ts, degraded: stamp.degraded, corrected: false };
        let ahead = (frame.ts != UnixNanos::ABSENT).then(|| stamp.ts.0.wrapping_sub(frame.ts.0).cast_signed());
        if !stamp.may_be_late {
            self.ahead = ahead;
        } else {
            let (Some(ahead), Some(before)) = (ahead, self.ahead) else { return Err(StampError::Implausible) };
            if ahead.saturating_sub(before).abs_diff(LATE_NS) < NEARLY_NS {
                time.ts = UnixNanos(stamp.ts.0.saturating_sub(LATE_NS.unsigned_abs()));
                time.corrected = true;
            }
        }
        Ok(time)
    }

    fn wants(&self, kind: Kind) -> bool {
        matches!(self.times, SwitchTimes::Auto) || self.times == SwitchTimes::Of(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    use barewire_wire::frame;
    use barewire_wire::trailers::Stamp;

    const S: u64 = 1_000_000_000;

    fn stamped(kind: Kind, ts: u64) -> Vec<u8> {
        let mut out = vec![0; 200];
        let at = |port| SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 1), port);
        let len = frame::encode(&mut out, None, at(1), at(2), &[7; 80]).unwrap();
        let stamp = Stamp { kind, ts: UnixNanos(ts), device: 1, port: 2, degraded: false, may_be_late: false };
        let len = trailers::encode(&mut out, len, &stamp, false).unwrap();
        out.truncate(len);
        out
    }

    fn of(ts: u64, data: &[u8]) -> Frame<'_> {
        Frame { ts: UnixNanos(ts), link: LinkType::Ethernet, data, original_len: data.len() as u32 }
    }

    #[test]
    fn a_late_time_is_put_right_by_what_came_before() {
        let base = 1_600_000_000 * S;
        let mut clock = SwitchClock::new(SwitchTimes::Auto);
        // The capturing machine's clock is an hour behind, and a tenth of a second late.
        let behind = 3_600 * S;
        let mut time = |switch: u64, arrived: u64| {
            let data = stamped(Kind::Arista7280, switch);
            clock.time(&of(arrived - behind + S / 10, &data)).map(|time| (time.ts.0, time.corrected))
        };
        let rolling = base + 3 * S + 999_999_000;
        assert_eq!(time(rolling, rolling), Err(StampError::Implausible));
        assert_eq!(time(base, base), Ok((base, false)));
        assert_eq!(time(rolling, rolling), Ok((rolling, false)));
        assert_eq!(time(rolling + 4 * S, rolling), Ok((rolling, true)));
        assert_eq!(time(rolling, rolling), Ok((rolling, false)));
        // Not in those moments: the clocks have been set.
        assert_eq!(time(base + 8 * S, base + 4 * S), Ok((base + 8 * S, false)));
    }

    #[test]
    fn what_was_cut_off_is_missing_and_a_header_is_not() {
        let ts = 1_600_000_000 * S;
        for (times, kind) in
            Kind::ALL.iter().flat_map(|kind| [(SwitchTimes::Of(*kind), kind), (SwitchTimes::Auto, kind)])
        {
            let data = stamped(*kind, ts);
            let mut clock = SwitchClock::new(times);
            assert_eq!(clock.time(&of(ts, &data)).map(|time| time.ts.0), Ok(ts));
            let cut = Frame { original_len: data.len() as u32 + 1, ..of(ts, &data) };
            let expected = if *kind == Kind::Arista7280 { Ok(ts) } else { Err(StampError::Missing) };
            assert_eq!(clock.time(&cut).map(|time| time.ts.0), expected);
            let other = Frame { link: LinkType::RawIp, ..of(ts, &data) };
            assert_eq!(clock.time(&other), Err(StampError::Missing));
        }
        let header = stamped(Kind::Arista7280, ts);
        let cut = Frame { original_len: 999, ..of(ts, &header) };
        assert_eq!(SwitchClock::new(SwitchTimes::Of(Kind::Metamako)).time(&cut), Err(StampError::Missing));
    }
}
