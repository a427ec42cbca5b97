use super::*;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

/// 2016-02-05 01:31:08.495676994, the first frame of a capture that Metamako has published.
const TS: UnixNanos = UnixNanos(1_454_635_868_495_676_994);
const NEAR: UnixNanos = UnixNanos(1_454_635_868_495_676_000);

fn stamp(kind: Kind, ts: UnixNanos) -> Stamp {
    let (device, port) = if kind == Kind::Arista7280 { (0, 0) } else { (165, 14) };
    Stamp { kind, ts, device, port, degraded: false, may_be_late: false }
}

fn plain(vlan: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; payload.len() + 64];
    let (src, dst) =
        (SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 9), SocketAddrV4::new(Ipv4Addr::new(239, 1, 2, 3), 7));
    let len = frame::encode(&mut out, vlan, src, dst, payload).unwrap();
    // As a card sends it: no shorter than 60 bytes.
    out.truncate(len.max(60));
    out
}

fn stamped(frame: &[u8], stamp: &Stamp, new_fcs: bool) -> Vec<u8> {
    let mut out = frame.to_vec();
    out.resize(frame.len() + 20, 0xee);
    let len = encode(&mut out, frame.len(), stamp, new_fcs).unwrap();
    out.truncate(len);
    out
}

/// What stands behind the packet of that frame, byte for byte, found where it is whatever precedes it.
#[test]
fn a_trailer_as_a_switch_wrote_it() {
    const BEHIND: [u8; 20] = [
        0xf4, 0x70, 0x69, 0xa8, 0x56, 0xb3, 0xfb, 0x5c, 0x1d, 0x8b, 0x6e, 0x42, 0x01, 0x00, 0xa5, 0x0e, 0xa2, 0x7e,
        0x20, 0xd4,
    ];
    let frame = plain(Some(14), &[7; 37]);
    for behind in [&BEHIND[..], &BEHIND[..16]] {
        let frame = [&frame[..], behind].concat();
        assert_eq!(read(Kind::Metamako, &frame, NEAR), Ok(stamp(Kind::Metamako, TS)));
        assert_eq!(read(Kind::Metamako, &frame, UnixNanos::ABSENT), Ok(stamp(Kind::Metamako, TS)));
        assert_eq!(detect(&frame, NEAR), Ok(stamp(Kind::Metamako, TS)));
        assert_eq!(detect(&frame, UnixNanos::ABSENT), Err(StampError::Missing));
        assert_eq!(read(Kind::Exablaze, &frame, NEAR), Err(StampError::Implausible));
    }
}

#[test]
fn exablaze_counts_in_fractions_of_a_second() {
    // Half a second and 2^-40: 0x80_0000_0001.
    const BEHIND: [u8; 16] = [1, 2, 3, 4, 5, 6, 0x56, 0xb3, 0xfb, 0x5c, 0x80, 0, 0, 0, 1, 0];
    let frame = [&plain(None, &[7; 37])[..], &BEHIND].concat();
    let found = read(Kind::Exablaze, &frame, NEAR).unwrap();
    assert_eq!((found.ts.0, found.device, found.port), (1_454_635_868_500_000_000, 5, 6));
    assert_eq!(read(Kind::Metamako, &frame, NEAR), Err(StampError::Implausible));
}

#[test]
fn extensions_are_stepped_over_and_must_fit() {
    let frame = plain(None, &[7; 37]);
    let trailer = [0x56, 0xb3, 0xfb, 0x5c, 0x1d, 0x8b, 0x6e, 0x42, 0x13, 0x00, 0xa5, 0x0e];
    let behind = |words: &[u32]| {
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        [&frame[..], &[1, 2, 3, 4], &words, &trailer].concat()
    };
    let good: [&[u32]; 4] = [
        &[0x0000_0121],
        // A tag string of two words behind its secondary header, then a fraction, which comes last.
        &[0x61626364, 0x65666768, 0x0001_007f, 0x0000_0101],
        &[9, 9, 9, 0x0000_01e2],
        &[9, 0x0000_0162, 0x0000_0100],
    ];
    for words in good {
        let found = read(Kind::Metamako, &behind(words), NEAR).unwrap();
        assert_eq!((found.ts, found.degraded), (TS, true));
        assert_eq!(detect(&behind(words), NEAR), Ok(found));
    }
    // Without an end, or longer than what is there.
    let bad: [&[u32]; 4] = [&[], &[1], &[0x0000_01e1], &[0xffff_ffff]];
    for words in bad {
        assert_eq!(read(Kind::Metamako, &behind(words), NEAR), Err(StampError::Implausible), "{words:?}");
    }
}

#[test]
fn versions_say_the_time_scale_and_the_form() {
    let frame = plain(Some(14), &[7; 37]);
    let of = |version: u16, time: &[u8]| {
        let (macs, rest) = frame.split_at(12);
        [macs, &[0xd2, 0x8b, 0, 1], &version.to_be_bytes(), time, rest].concat()
    };
    let ns = 495_676_994_u32.to_be_bytes();
    let utc = (TS.0 / NS) as u32;
    // 36 s at that time.
    let tai = utc + 36;
    for (version, seconds) in [(0x0010, tai), (0x0011, tai), (0x0110, utc), (0x0111, utc)] {
        let frame = of(version, &[seconds.to_be_bytes(), ns].concat());
        for near in [NEAR, UnixNanos::ABSENT] {
            assert_eq!(read(Kind::Arista7280, &frame, near), Ok(stamp(Kind::Arista7280, TS)));
            assert_eq!(detect(&frame, near), Ok(stamp(Kind::Arista7280, TS)));
        }
        assert_eq!(frame::datagram(&frame).unwrap().payload, [7; 37]);
        assert_eq!(frame::datagram(&frame).unwrap().vlan, Some(14));
    }
    for (version, seconds) in [(0x0020, tai), (0x0021, tai), (0x0120, utc), (0x0121, utc)] {
        let frame = of(version, &[&(seconds as u16).to_be_bytes()[..], &ns].concat());
        // Right to nine hours either way; wrong by 18 beyond.
        for (off, wrong) in [(0, 0), (-32_000, 0), (32_000, 0), (34_000, 65_536), (-34_000, -65_536)] {
            let near = UnixNanos(TS.0.saturating_add_signed(off * NS as i64));
            let ts = UnixNanos(TS.0.saturating_add_signed(wrong * NS as i64));
            let expected = Stamp { may_be_late: false, ..stamp(Kind::Arista7280, ts) };
            assert_eq!(read(Kind::Arista7280, &frame, near), Ok(expected));
        }
        assert_eq!(read(Kind::Arista7280, &frame, UnixNanos::ABSENT), Err(StampError::Implausible));
        assert_eq!(frame::datagram(&frame).unwrap().payload, [7; 37]);
    }
    for (version, time) in [(0x0030, &[1; 8]), (0x0110, &[0xff; 8])] {
        assert_eq!(read(Kind::Arista7280, &of(version, time), NEAR), Err(StampError::Implausible));
    }
    assert_eq!(frame::datagram(&of(0x0030, &[0; 8])), Err(frame::FrameError::NotIpv4));
    assert_eq!(read(Kind::Arista7280, &frame, NEAR), Err(StampError::Missing));
}

/// The low 34 bits are the nanoseconds and two of the seconds' bits.
#[test]
fn a_time_that_can_be_late_says_so() {
    let frame = plain(None, &[7; 37]);
    for (seconds, ns, late) in [(3, 990_000_000, true), (3, 989_999_999, false), (0, 999_999_999, false)] {
        let ts = UnixNanos((1_600_000_000 + seconds) * NS + ns);
        let expected = Stamp { may_be_late: late, ..stamp(Kind::Arista7280, ts) };
        assert_eq!(read(Kind::Arista7280, &stamped(&frame, &expected, false), ts), Ok(expected));
    }
}

/// IERS: 35 s until the end of June 2015, 36 until the end of 2016, then 37.
#[test]
fn tai_goes_through_leap_seconds() {
    for (utc, ahead) in
        [(1_435_708_799, 35), (1_435_708_800, 36), (1_483_228_799, 36), (1_483_228_800, 37), (1_900_000_000, 37)]
    {
        assert_eq!(tai_ahead(utc, false), ahead);
        assert_eq!(tai_ahead(utc + ahead, true), ahead, "{utc}");
    }
    // The leap second itself, 23:59:60, is 23:59:59 once more.
    assert_eq!(tai_ahead(1_483_228_800 + 36, true), 37);
    assert_eq!(tai_ahead(1_483_228_800 + 35, true), 36);
}

#[test]
fn what_is_far_from_the_frames_other_time_is_not_believed() {
    for kind in Kind::ALL {
        let frame = stamped(&plain(None, &[7; 37]), &stamp(*kind, TS), false);
        let near = |seconds: i64| UnixNanos(TS.0.saturating_add_signed(seconds * NS as i64));
        for seconds in [-86_400, -3_600, 3_600, 86_400] {
            assert_eq!(read(*kind, &frame, near(seconds)), Ok(stamp(*kind, TS)));
        }
        for seconds in [-86_401, 86_401, 1 << 31] {
            assert_eq!(read(*kind, &frame, near(seconds)), Err(StampError::Implausible));
        }
    }
    let early = stamp(Kind::Metamako, UnixNanos(1_262_303_999 * NS));
    let frame = stamped(&plain(None, &[7; 37]), &early, false);
    assert_eq!(read(Kind::Metamako, &frame, early.ts), Err(StampError::Implausible));
}

#[test]
fn padding_and_check_sequences_are_no_trailers() {
    // 42 bytes of headers: 18 of padding.
    let short = plain(None, b"");
    let with_fcs = [&short[..], &frame_check_sequence(&short)].concat();
    let long = plain(None, &[7; 100]);
    let long_with_fcs = [&long[..], &frame_check_sequence(&long)].concat();
    for frame in [&short, &with_fcs, &long, &long_with_fcs] {
        for kind in Kind::ALL {
            assert_eq!(read(*kind, frame, NEAR), Err(StampError::Missing));
        }
        assert_eq!(detect(frame, NEAR), Err(StampError::Missing));
    }
}

#[test]
fn what_is_detected_explains_every_byte() {
    for kind in [Kind::Metamako, Kind::Exablaze] {
        for new_fcs in [false, true] {
            let trailer = stamped(&plain(None, &[7; 100]), &stamp(kind, TS), new_fcs).split_off(142);
            // Stray bytes before it: the kind that was asked for is found, nothing is guessed.
            let frame = [&plain(None, &[7; 100])[..], &[0; 4], &trailer].concat();
            assert_eq!(read(kind, &frame, NEAR), Ok(stamp(kind, TS)));
            assert_eq!(detect(&frame, NEAR), Err(StampError::Missing));
            // A short frame's padding is zero.
            let mut short = stamped(&plain(None, b"abc"), &stamp(kind, TS), new_fcs);
            assert_eq!(detect(&short, NEAR), Ok(stamp(kind, TS)));
            short[50] = 1;
            assert_eq!(detect(&short, NEAR), Err(StampError::Missing));
        }
    }
}

/// IEEE 802.3's check value: what the sequence is of the digits one to nine.
#[test]
fn the_check_sequence_is_ethernets() {
    assert_eq!(frame_check_sequence(b"123456789"), 0xcbf4_3926_u32.to_le_bytes());
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        kind in kinds(),
        seconds in EARLIEST_SECONDS..=u32::MAX.into(),
        ns in 0..NS,
        device in any::<u8>(),
        port in any::<u8>(),
        degraded in any::<bool>(),
        new_fcs in any::<bool>(),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        vlan in prop::option::of(1_u16..4095),
        off in -86_000_i64..86_000,
    ) {
        let arista = kind == Kind::Arista7280;
        let stamp = Stamp {
            kind,
            ts: UnixNanos(seconds * NS + ns),
            device: if arista { 0 } else { device.into() },
            port: if arista { 0 } else { port },
            degraded: degraded && kind == Kind::Metamako,
            may_be_late: arista && seconds % 4 == 3 && ns >= 990_000_000,
        };
        let frame = plain(vlan, &payload);
        let out = stamped(&frame, &stamp, new_fcs);
        let near = UnixNanos(stamp.ts.0.saturating_add_signed(off * NS as i64));
        prop_assert_eq!(read(kind, &out, near), Ok(stamp));
        prop_assert_eq!(detect(&out, near), Ok(stamp));
        // Neither the datagram nor what cannot be written is touched.
        prop_assert_eq!(frame::datagram(&out), frame::datagram(&frame));
        let mut short = frame.clone();
        prop_assert_eq!(encode(&mut short, frame.len(), &stamp, new_fcs), Err(PayloadTooLong));
        prop_assert_eq!(short, frame);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        kind in kinds(),
        frame in prop::collection::vec(any::<u8>(), 0..100),
        behind in prop::collection::vec(any::<u8>(), 0..60),
        near in any::<u64>(),
    ) {
        for frame in [[&plain(None, &frame)[..], &behind].concat(), frame] {
            for near in [UnixNanos(near), UnixNanos::ABSENT] {
                if let Ok(stamp) = read(kind, &frame, near) {
                    prop_assert_eq!(stamp.kind, kind);
                    prop_assert!(near == UnixNanos::ABSENT || stamp.ts.0.abs_diff(near.0) <= FARTHEST_NS);
                }
                if let Ok(stamp) = detect(&frame, near) {
                    prop_assert_eq!(read(stamp.kind, &frame, near), Ok(stamp));
                }
            }
        }
    }
}
