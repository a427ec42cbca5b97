//! Any bytes as an Ethernet frame.
#![no_main]

use barewire_wire::frame::{
    FrameError, MAX_PAYLOAD_LEN, UDP_HEADERS_LEN, datagram, datagram_in_ipv4, encode, trailer, verified_datagram,
};
use libfuzzer_sys::fuzz_target;

/// Where `part` lies in `whole`, or a panic.
fn place(part: &[u8], whole: &[u8]) -> std::ops::Range<usize> {
    let whole = whole.as_ptr_range();
    let part = part.as_ptr_range();
    assert!(whole.start <= part.start && part.end <= whole.end);
    part.start.addr() - whole.start.addr()..part.end.addr() - whole.start.addr()
}

fuzz_target!(|frame: &[u8]| {
    let _ = datagram_in_ipv4(frame);
    let Ok(found) = datagram(frame) else {
        assert_eq!(trailer(frame), datagram(frame).map(|found| found.payload));
        assert_eq!(verified_datagram(frame), datagram(frame));
        return;
    };
    let trailer = trailer(frame).unwrap();
    let payload = place(found.payload, frame);
    assert!(payload.start >= UDP_HEADERS_LEN);
    if !trailer.is_empty() {
        assert!(payload.end <= place(trailer, frame).start);
        assert_eq!(place(trailer, frame).end, frame.len());
    }

    let whole = &frame[..frame.len() - trailer.len()];
    assert_eq!(datagram(whole), Ok(found));
    assert_eq!(datagram(&whole[..whole.len() - 1]), Err(FrameError::Truncated));
    if let Ok(verified) = verified_datagram(frame) {
        assert_eq!(verified, found);
    }

    assert!(found.payload.len() <= MAX_PAYLOAD_LEN);
    let mut out = vec![0; UDP_HEADERS_LEN + 4 + found.payload.len()];
    let len = encode(&mut out, found.vlan, found.src, found.dst, found.payload).unwrap();
    assert_eq!(verified_datagram(&out[..len]), Ok(found));
});
