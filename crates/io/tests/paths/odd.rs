//! Frames that are allowed and rare, or that cannot be: what the kernel's own UDP makes of them is the reference.

use std::net::SocketAddrV4;
use std::time::Instant;

use barewire_wire::frame;

use crate::any::*;
use crate::net::*;

/// What networks and their inhabitants really send, each frame with a number for its payload.
fn odd_frames() -> Vec<Vec<u8>> {
    let plain = |n: u8, vlan| {
        let mut out = vec![0; 100];
        let (src, dst) = (SocketAddrV4::new(RIGHT, 999), SocketAddrV4::new(A, PORT));
        let len = frame::encode(&mut out, vlan, src, dst, &[n; 9]).unwrap();
        out.truncate(len);
        out
    };
    // IPv4's header is summed up again, whatever was done to it.
    let summed = |mut frame: Vec<u8>| {
        if frame.len() < 34 {
            return frame;
        }
        let header = 14 + usize::from(frame[14] & 15) * 4;
        frame[24..26].fill(0);
        let half = |at: usize| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        let sum: u32 = (14..header.min(frame.len() - 1)).step_by(2).map(half).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let mut frames: Vec<Vec<u8>> = (0..24).map(|n| plain(n, None)).collect();
    let mut change = |n: usize, change: &dyn Fn(&mut Vec<u8>)| {
        change(&mut frames[n]);
        frames[n] = summed(std::mem::take(&mut frames[n]));
    };
    // Options: nothing and an end, router alert.
    for (n, options) in [(1, [1, 1, 1, 0]), (2, [148, 4, 0, 0])] {
        change(n, &|frame| {
            frame.splice(34..34, options);
            (frame[14], frame[17]) = (0x46, frame[17] + 4);
        });
    }
    // Padding behind a short packet, as every card adds, and a megabit of it.
    change(3, &|frame| frame.resize(60, 0xaa));
    change(4, &|frame| frame.resize(1400, 0xaa));
    // No UDP checksum; one that is wrong.
    change(5, &|frame| frame[40..42].fill(0));
    change(6, &|frame| frame[41] ^= 0x10);
    // UDP lengths: shorter than the packet, with and without a checksum; shorter than the header; beyond the packet; 0.
    change(7, &|frame| frame[38..40].copy_from_slice(&13u16.to_be_bytes()));
    change(8, &|frame| {
        frame[38..40].copy_from_slice(&13u16.to_be_bytes());
        frame[40..42].fill(0);
    });
    for (n, len) in [(9, 7u16), (10, 18), (11, 0)] {
        change(n, &|frame| {
            frame[38..40].copy_from_slice(&len.to_be_bytes());
            frame[40..42].fill(0);
        });
    }
    // IP lengths: beyond the frame, shorter than the headers, 0.
    for (n, len) in [(12, 200u16), (13, 19), (14, 0)] {
        change(n, &|frame| frame[16..18].copy_from_slice(&len.to_be_bytes()));
    }
    // IP versions and header lengths that cannot be; a header of 60 bytes that is not there.
    for (n, first) in [(15, 0x55), (16, 0x44), (17, 0x4f)] {
        change(n, &|frame| frame[14] = first);
    }
    // Cut off within each header.
    for (n, len) in [(18, 33), (19, 41), (20, 20)] {
        change(n, &|frame| frame.truncate(len));
    }
    // A time to live of 0, "do not fragment", the reserved bit: none of the receiver's business, or hardly.
    change(21, &|frame| frame[22] = 0);
    change(22, &|frame| frame[20] = 0x40);
    change(23, &|frame| frame[20] = 0x80);
    frames
}

/// Of odd frames every path hands over what the kernel's own UDP does, and nothing ends it; what it does not hand over it
/// counts, or has never been given.
pub fn odd_frames_are_heard_as_the_kernel_hears_them(path: Path) {
    let heard = |path| {
        let mut receiver = Any::open(path, &[line(0, A, "left")], &PLAIN);
        let frames = odd_frames();
        for frame in &frames {
            inject("right", frame);
        }
        send(&mut sender("right", RIGHT, false), A, [&b"end"[..]]);
        let mut heard = Vec::new();
        let begun = Instant::now();
        while heard.last().is_none_or(|last: &Vec<u8>| last != b"end") {
            receiver.receive(|packet| heard.push(packet.payload.to_vec()));
            assert!(begun.elapsed() < PATIENCE, "{path:?} {heard:?}");
        }
        receiver.refresh();
        let counters = receiver.counters();
        assert_eq!(counters.packets, heard.len() as u64);
        assert!(all(&counters) <= frames.len() as u64 + 1, "{counters:?}");
        (heard, counters)
    };
    let (reference, _) = heard(kernel);
    // Plain, options, padding, no checksum, a shorter UDP length without one; and what is not for a host to judge.
    assert!(reference.iter().map(Vec::len).eq([9, 9, 9, 9, 9, 9, 5, 9, 9, 9, 3]), "{reference:?}");
    let (found, counters) = heard(path);
    assert_eq!(found, reference, "{path:?} {counters:?}");
    // Bad checksums and lengths that contradict each other, where frames are read.
    assert!(!path.reads_frames() || counters.malformed >= 5, "{counters:?}");
}
