//! Any bytes as an Ethernet frame.
#![no_main]

use barewire_types::UnixNanos;
use barewire_wire::frame::{
    FrameError, MAX_PAYLOAD_LEN, UDP_HEADERS_LEN, datagram, datagram_in_ipv4, encode, trailer, verified_datagram,
};
use barewire_wire::trailers::{self, Kind};
use libfuzzer_sys::fuzz_target;

/// In the days of the frames among the seeds.
const NEAR: UnixNanos = UnixNanos(1_454_635_868_495_676_000);

/// Where `part` lies in `whole`, or a panic.
fn place(part: &[u8], whole: &[u8]) -> std::ops::Range<usize> {
    let whole = whole.as_ptr_range();
    let part = part.as_ptr_range();
    assert!(whole.start <= part.start && part.end <= whole.end);
    part.start.addr() - whole.start.addr()..part.end.addr() - whole.start.addr()
}

/// A switch's time is near the frame's other one, does not change when it is written anew, and leaves the datagram alone.
fn switch_times(frame: &[u8]) {
    for near in [NEAR, UnixNanos::ABSENT] {
        if let Ok(stamp) = trailers::detect(frame, near) {
            assert_eq!(trailers::read(stamp.kind, frame, near), Ok(stamp));
        }
        for kind in Kind::ALL {
            let Ok(stamp) = trailers::read(*kind, frame, near) else { continue };
            assert_eq!(stamp.kind, *kind);
            assert!(near == UnixNanos::ABSENT || stamp.ts.0.abs_diff(near.0) <= 86_400_000_000_000);
            // Behind other bytes, Exablaze's can be ambiguous; and a frame with a header has room for no second one.
            if *kind == Kind::Metamako {
                let mut out = frame.to_vec();
                out.resize(frame.len() + 20, 0);
                let len = trailers::encode(&mut out, frame.len(), &stamp, false).unwrap();
                assert_eq!(trailers::read(*kind, &out[..len], near), Ok(stamp));
                assert_eq!(datagram(&out[..len]), datagram(frame));
            }
        }
    }
}

fuzz_target!(|frame: &[u8]| {
    switch_times(frame);
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
