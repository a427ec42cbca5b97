//! Frames: hand-made ones, encoded ones that are then damaged, and a slow second decoder to agree with.

use std::net::{Ipv4Addr, SocketAddrV4};

use barewire_types::Layout;
use barewire_wire::frame::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const SRC: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 1), 50_000);
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(233, 200, 79, 4), 26_477);

fn frame(vlan: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; UDP_HEADERS_LEN + 4 + payload.len()];
    let len = encode(&mut out, vlan, SRC, GROUP, payload).unwrap();
    out.truncate(len);
    out
}

/// The frame with `bytes` put in behind its first `at`.
fn with(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&frame[..at], bytes, &frame[at..]].concat()
}

/// The sum of RFC 1071, word by word.
fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A decoder from the documents alone, without a thought for speed. `Err` names the first thing that is wrong.
fn slow_datagram(frame: &[u8]) -> Result<Datagram<'_>, FrameError> {
    let u16_at =
        |at: usize| frame.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]])).ok_or(FrameError::Truncated);
    let mut at = 12;
    let mut vlan = None;
    while [0x8100, 0x88a8].contains(&u16_at(at)?) {
        u16_at(at + 4)?;
        vlan = Some(u16_at(at + 2)? % 4096).filter(|id| *id > 0);
        at += 4;
    }
    if u16_at(at)? != 0x0800 {
        return Err(FrameError::NotIpv4);
    }
    let ip = &frame[at + 2..];
    if ip.is_empty() {
        return Err(FrameError::Truncated);
    }
    if ip[0] / 16 != 4 {
        return Err(FrameError::NotIpv4);
    }
    if ip.len() < 20 {
        return Err(FrameError::Truncated);
    }
    let header_len = usize::from(ip[0] % 16) * 4;
    let total_len = usize::from(ip[2]) * 256 + usize::from(ip[3]);
    if header_len < 20 {
        return Err(FrameError::BadIpv4Header);
    }
    if total_len > ip.len() {
        return Err(FrameError::Truncated);
    }
    if header_len > total_len {
        return Err(FrameError::BadIpv4Header);
    }
    if ip[9] != 17 {
        return Err(FrameError::NotUdp);
    }
    let more_fragments = ip[6] & 0x20 != 0;
    let fragment_offset = usize::from(ip[6] & 0x1f) * 256 + usize::from(ip[7]);
    if more_fragments || fragment_offset != 0 {
        return Err(FrameError::Fragment);
    }
    let udp = &ip[header_len..total_len];
    if udp.len() < 8 {
        return Err(FrameError::BadUdpLength);
    }
    let udp_len = usize::from(udp[4]) * 256 + usize::from(udp[5]);
    if udp_len < 8 || udp_len > udp.len() {
        return Err(FrameError::BadUdpLength);
    }
    let address = |ip: &[u8], port: &[u8]| {
        SocketAddrV4::new(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]), u16::from_be_bytes([port[0], port[1]]))
    };
    Ok(Datagram {
        src: address(&ip[12..16], &udp[0..2]),
        dst: address(&ip[16..20], &udp[2..4]),
        vlan,
        payload: &udp[8..udp_len],
    })
}

/// The IPv4 header with which the checksum is commonly explained; ours happens to come out the same, byte for byte.
#[test]
fn headers_are_the_textbooks() {
    let dst = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 199), 53);
    let mut out = [0; UDP_HEADERS_LEN];
    encode_headers(&mut out, SRC, dst, &[0; 87]).unwrap();
    let ip = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
    assert_eq!(out[14..34], ip);
    assert_eq!(out[..14], [2, 0, 192, 168, 0, 199, 2, 0, 192, 168, 0, 1, 8, 0]);
    assert_eq!(out[34..40], [0xc3, 0x50, 0, 53, 0, 95]);
}

#[test]
fn a_group_has_its_mac_address() {
    // RFC 1112: the low 23 bits of the group; 233.200.79.4 shares its address with 233.72.79.4.
    assert_eq!(frame(None, b"")[..6], [0x01, 0x00, 0x5e, 72, 79, 4]);
}

#[test]
fn headers_are_as_long_as_the_standards_have_them() {
    assert_eq!((Ethernet::LEN, Tag::LEN, Ipv4::LEN, Udp::LEN, UDP_HEADERS_LEN), (14, 4, 20, 8, 42));
    assert_eq!(MAX_PAYLOAD_LEN, 65_507);
}

#[test]
fn tags_are_stepped_over_and_the_innermost_kept() {
    let plain = frame(None, b"payload");
    assert_eq!(datagram(&plain).unwrap().vlan, None);
    for (tags, vlan) in [
        (&[0x81, 0x00, 0x60, 0x8d][..], Some(141)),
        (&[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0xff, 0xff], Some(4095)),
        (&[0x81, 0x00, 0x00, 0x01, 0x81, 0x00, 0x00, 0x02, 0x81, 0x00, 0x00, 0x03], Some(3)),
        // Id 0: only a priority.
        (&[0x81, 0x00, 0xe0, 0x00], None),
    ] {
        let tagged = with(&plain, 12, tags);
        assert_eq!(datagram(&tagged), datagram(&plain).map(|plain| Datagram { vlan, ..plain }));
        assert_eq!(verified_datagram(&tagged), datagram(&tagged));
        // However many bytes of it came, none of them is a datagram.
        for len in 0..tagged.len() {
            assert_eq!(datagram(&tagged[..len]), Err(FrameError::Truncated), "{len} of {}", tagged.len());
        }
    }
    assert_eq!(frame(Some(141), b"payload"), with(&plain, 12, &[0x81, 0x00, 0x00, 141]));
}

#[test]
fn options_are_skipped() {
    let mut optioned = with(&frame(None, b"payload"), 34, &[0x94, 0x04, 0, 0, 1, 1, 1, 0]);
    optioned[14] = 0x47;
    optioned[17] += 8;
    assert_eq!(datagram(&optioned).unwrap().payload, b"payload");
    assert_eq!(verified_datagram(&optioned), Err(FrameError::BadIpv4Checksum));
    assert_eq!(header_verified_datagram(&optioned), Err(FrameError::BadIpv4Checksum));
    optioned[24..26].fill(0);
    let checksum = !slow_sum(&optioned[14..42]);
    optioned[24..26].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(verified_datagram(&optioned).unwrap().payload, b"payload");
}

/// One thing wrong at a time, at its offset in an untagged frame.
#[test]
fn each_fault_has_its_error() {
    let whole = frame(None, b"payload");
    for (at, bytes, error) in [
        (12, &[0x86, 0xdd][..], FrameError::NotIpv4), // IPv6
        (12, &[0x00, 0x2b], FrameError::NotIpv4),     // 802.3: a length
        (14, &[0x65], FrameError::NotIpv4),           // version 6
        (14, &[0x44], FrameError::BadIpv4Header),     // 16 bytes of header
        (14, &[0x4f], FrameError::BadIpv4Header),     // 60 bytes of header in 35 of packet
        (16, &[0, 0], FrameError::BadIpv4Header),     // total length 0, as before segmentation by a card
        (16, &[0, 36], FrameError::Truncated),        // one more than there are
        (16, &[0, 27], FrameError::BadUdpLength),     // UDP header not whole
        (20, &[0x20, 0], FrameError::Fragment),       // more fragments
        (20, &[0x00, 1], FrameError::Fragment),       // the second of them
        (23, &[6], FrameError::NotUdp),               // TCP
        (38, &[0, 7], FrameError::BadUdpLength),      // below its header
        (38, &[0, 0], FrameError::BadUdpLength),      // IPv6's jumbograms only
        (38, &[0, 16], FrameError::BadUdpLength),     // beyond the packet
    ] {
        let mut broken = whole.clone();
        broken[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(datagram(&broken), Err(error), "{bytes:02x?} at {at}");
        assert!(FrameError::ALL.contains(&error) && error.to_string() == error.name());
    }
    // Reserved and "do not fragment" bits say nothing of fragments.
    for bits in [0x00, 0x40, 0x80] {
        let mut other = whole.clone();
        other[20] = bits;
        assert_eq!(datagram(&other), datagram(&whole));
    }
}

/// A UDP checksum of 0 says that there is none, so no sum is ever written so, whatever the payload adds to it.
#[test]
fn an_absent_udp_checksum_passes_and_is_never_written() {
    let mut other = frame(None, b"payload");
    other[40] ^= 1;
    assert_eq!(verified_datagram(&other), Err(FrameError::BadUdpChecksum));
    assert_eq!(header_verified_datagram(&other), datagram(&other));
    other[40..42].fill(0);
    assert_eq!(verified_datagram(&other), datagram(&other));
    let mut all_ones = 0;
    for word in 0..=u16::MAX {
        let frame = frame(None, &word.to_be_bytes());
        assert_ne!(frame[40..42], [0, 0]);
        assert!(verified_datagram(&frame).is_ok());
        all_ones += u32::from(frame[40..42] == [0xff, 0xff]);
    }
    assert_eq!(all_ones, 1);
}

/// A UDP length below IP's leaves bytes that belong to nobody: neither payload nor trailer.
#[test]
fn payload_ends_where_udp_says() {
    let mut short = frame(None, b"payload");
    short[39] -= 3;
    assert_eq!(datagram(&short).unwrap().payload, b"payl");
    assert_eq!(trailer(&short), Ok(&[][..]));
}

#[test]
fn raw_ip_is_the_frame_without_ethernet() {
    let whole = frame(None, b"payload");
    assert_eq!(datagram_in_ipv4(&whole[14..]), datagram(&whole));
    assert_eq!(datagram_in_ipv4(&[0x60]), Err(FrameError::NotIpv4));
    assert_eq!(datagram_in_ipv4(&[]), Err(FrameError::Truncated));
}

#[test]
fn what_does_not_fit_is_not_written() {
    let mut headers = [7; UDP_HEADERS_LEN];
    assert_eq!(encode_headers(&mut headers, SRC, GROUP, &[0; MAX_PAYLOAD_LEN + 1]), Err(PayloadTooLong));
    assert_eq!(headers, [7; UDP_HEADERS_LEN]);
    assert_eq!(encode_headers(&mut headers, SRC, GROUP, &[0; MAX_PAYLOAD_LEN]), Ok(()));
    let mut out = [7; 48];
    assert_eq!(encode(&mut out, None, SRC, GROUP, b"payload"), Err(PayloadTooLong));
    assert_eq!(encode(&mut out, Some(1), SRC, GROUP, b"pay"), Err(PayloadTooLong));
    assert_eq!(out, [7; 48]);
}

fn addresses() -> impl Strategy<Value = SocketAddrV4> {
    (any::<u32>(), any::<u16>()).prop_map(|(ip, port)| SocketAddrV4::new(Ipv4Addr::from_bits(ip), port))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_encoded_comes_back(
        src in addresses(), dst in addresses(), vlan in proptest::option::of(1..4096u16),
        payload in vec(any::<u8>(), 0..1600), behind in vec(any::<u8>(), 0..64),
    ) {
        let mut out = vec![0; UDP_HEADERS_LEN + 4 + payload.len()];
        let len = encode(&mut out, vlan, src, dst, &payload).unwrap();
        out.truncate(len);
        out.extend_from_slice(&behind);
        let expected = Datagram { src, dst, vlan, payload: &payload };
        prop_assert_eq!(verified_datagram(&out), Ok(expected));
        prop_assert_eq!(datagram(&out), Ok(expected));
        prop_assert_eq!(trailer(&out), Ok(&behind[..]));

        let mut headers = [0; UDP_HEADERS_LEN];
        encode_headers(&mut headers, src, dst, &payload).unwrap();
        let tag = if vlan.is_some() { 4 } else { 0 };
        prop_assert_eq!(&headers[14..], &out[14 + tag..42 + tag]);

        // Both checksums by the book: over all that they cover, the sum is all ones.
        let (ip, udp) = (&headers[14..34], &headers[34..]);
        prop_assert_eq!(slow_sum(ip), 0xffff);
        let pseudo = [&ip[12..20], &[0, 17], &udp[4..6], udp, &payload].concat();
        prop_assert_eq!(slow_sum(&pseudo), 0xffff);
        prop_assert_ne!(&udp[6..], &[0, 0]);
    }

    /// Any one bit that the checksums cover, turned over, is noticed. Not so a length: over other bytes, any sum may
    /// come.
    #[test]
    fn one_wrong_bit_is_noticed(payload in vec(any::<u8>(), 1..200), at in any::<Index>(), bit in 0..8) {
        let mut out = frame(None, &payload);
        let at = 14 + at.index(out.len() - 14);
        prop_assume!(at != 14 && !(38..40).contains(&at));
        out[at] ^= 1u8 << bit;
        // The exception: a UDP checksum that becomes 0 says that there is none.
        let absent = out[40..42] == [0, 0];
        prop_assert!(verified_datagram(&out).is_err() || absent);
    }

    #[test]
    fn agrees_with_the_slow_decoder(
        vlan in proptest::option::of(any::<u16>()), payload in vec(any::<u8>(), 0..64),
        damage in vec((0..60usize, any::<u8>()), 0..4), cut in 0..120usize, behind in vec(any::<u8>(), 0..8),
    ) {
        let mut out = frame(vlan, &payload);
        out.extend_from_slice(&behind);
        for (at, byte) in damage {
            if let Some(to) = out.get_mut(at) {
                *to = byte;
            }
        }
        out.truncate(cut.max(out.len().saturating_sub(8)));
        prop_assert_eq!(datagram(&out), slow_datagram(&out));
    }

    #[test]
    fn any_bytes_agree_with_the_slow_decoder(bytes in vec(any::<u8>(), 0..100), tagged in any::<bool>()) {
        let mut bytes = bytes;
        // Without an ethertype that is looked into, nearly all would end at once.
        if let Some(to) = bytes.get_mut(12..14) {
            to.copy_from_slice(if tagged { &[0x81, 0x00] } else { &[0x08, 0x00] });
        }
        if let Some(to) = bytes.get_mut(14) {
            *to = 0x40 | *to & 0xf;
        }
        prop_assert_eq!(datagram(&bytes), slow_datagram(&bytes));
        let _ = verified_datagram(&bytes);
    }
}
