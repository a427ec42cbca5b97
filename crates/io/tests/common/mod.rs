//! Capture files built by hand, from the formats' specifications, and a reader that keeps everything.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{Cursor, Read, Write};

use barewire_io::capture::{Capture, CaptureError, End, Format, LinkType};
use barewire_types::UnixNanos;

/// A byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

impl Order {
    pub fn u16(self, value: u16) -> [u8; 2] {
        if self == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    pub fn u32(self, value: u32) -> [u8; 4] {
        if self == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    pub fn u64(self, value: u64) -> [u8; 8] {
        if self == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }
}

/// A frame, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub ts: u64,
    pub link: LinkType,
    pub data: Vec<u8>,
    pub original_len: u32,
}

impl Kept {
    /// An Ethernet frame, captured whole.
    pub fn new(ts: u64, data: impl Into<Vec<u8>>) -> Kept {
        let data = data.into();
        Kept { ts, link: LinkType::Ethernet, original_len: data.len() as u32, data }
    }
}

/// A pcap, and where each of its parts ends.
pub fn pcap(order: Order, nanos: bool, link: u32, frames: &[Kept]) -> (Vec<u8>, Vec<usize>) {
    let mut out = Vec::new();
    out.extend(order.u32(if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }));
    out.extend(order.u16(2));
    out.extend(order.u16(4));
    out.extend([0; 8]);
    out.extend(order.u32(65_535));
    out.extend(order.u32(link));
    let mut ends = vec![out.len()];
    for frame in frames {
        let fraction = frame.ts % 1_000_000_000;
        out.extend(order.u32((frame.ts / 1_000_000_000) as u32));
        out.extend(order.u32((if nanos { fraction } else { fraction / 1000 }) as u32));
        out.extend(order.u32(frame.data.len() as u32));
        out.extend(order.u32(frame.original_len));
        out.extend(&frame.data);
        ends.push(out.len());
    }
    (out, ends)
}

/// A pcapng that grows block by block.
pub struct PcapNg {
    pub order: Order,
    pub bytes: Vec<u8>,
    /// Where each block ends.
    pub ends: Vec<usize>,
}

impl PcapNg {
    pub fn new(order: Order) -> PcapNg {
        PcapNg { order, bytes: Vec::new(), ends: Vec::new() }.section(order)
    }

    pub fn block(mut self, kind: u32, body: &[u8]) -> PcapNg {
        let padded = body.len().next_multiple_of(4);
        let len = self.order.u32(12 + padded as u32);
        self.bytes.extend(self.order.u32(kind));
        self.bytes.extend(len);
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
        self.bytes.extend(len);
        self.ends.push(self.bytes.len());
        self
    }

    fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::from(self.order.u16(code));
        out.extend(self.order.u16(value.len() as u16));
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    pub fn section(mut self, order: Order) -> PcapNg {
        self.order = order;
        let mut body = Vec::from(order.u32(0x1a2b_3c4d));
        body.extend(order.u16(1));
        body.extend(order.u16(0));
        body.extend([0xff; 8]);
        body.extend(self.option(4, b"a test"));
        body.extend([0; 4]);
        self.block(0x0a0d_0d0a, &body)
    }

    pub fn interface(self, link: u16, snaplen: u32, tsresol: Option<u8>, tsoffset: Option<i64>) -> PcapNg {
        let order = self.order;
        let mut body = Vec::from(order.u16(link));
        body.extend([0; 2]);
        body.extend(order.u32(snaplen));
        body.extend(self.option(2, b"eth0"));
        if let Some(tsresol) = tsresol {
            body.extend(self.option(9, &[tsresol]));
        }
        if let Some(tsoffset) = tsoffset {
            body.extend(self.option(14, &order.u64(tsoffset as u64)));
        }
        body.extend([0; 4]);
        self.block(1, &body)
    }

    pub fn enhanced(self, interface: u32, ticks: u64, data: &[u8], original_len: u32, options: bool) -> PcapNg {
        let mut body = Vec::new();
        for word in [interface, (ticks >> 32) as u32, ticks as u32, data.len() as u32, original_len] {
            body.extend(self.order.u32(word));
        }
        body.extend(data);
        if options {
            body.resize(body.len().next_multiple_of(4), 0);
            body.extend(self.option(1, b"a comment"));
            body.extend([0; 4]);
        }
        self.block(6, &body)
    }

    pub fn simple(self, data: &[u8], original_len: u32) -> PcapNg {
        let mut body = Vec::from(self.order.u32(original_len));
        body.extend(data);
        self.block(3, &body)
    }

    pub fn obsolete(self, interface: u16, ticks: u64, data: &[u8], original_len: u32) -> PcapNg {
        let mut body = Vec::from(self.order.u16(interface));
        body.extend(self.order.u16(0xffff));
        for word in [(ticks >> 32) as u32, ticks as u32, data.len() as u32, original_len] {
            body.extend(self.order.u32(word));
        }
        body.extend(data);
        self.block(2, &body)
    }
}

/// BinaryFILE, and where each record ends.
pub fn binary(messages: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut ends) = (Vec::new(), vec![0]);
    for message in messages {
        out.extend((message.len() as u16).to_be_bytes());
        out.extend(message);
        ends.push(out.len());
    }
    (out, ends)
}

/// gzip of so many members.
pub fn gzip(bytes: &[u8], members: usize) -> Vec<u8> {
    let piece = bytes.len().div_ceil(members).max(1);
    let mut out = Vec::new();
    for piece in bytes.chunks(piece) {
        let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
        encoder.write_all(piece).unwrap();
        encoder.finish().unwrap();
    }
    out
}

/// zstd of so many frames, with checksums.
pub fn zstd(bytes: &[u8], frames: usize) -> Vec<u8> {
    let piece = bytes.len().div_ceil(frames).max(1);
    let mut out = Vec::new();
    for piece in bytes.chunks(piece) {
        let mut encoder = ::zstd::stream::write::Encoder::new(&mut out, 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(piece).unwrap();
        encoder.finish().unwrap();
    }
    out
}

/// Gives a few bytes at a time, as a pipe may.
pub struct Dribble<R>(pub R, pub usize);

impl<R: Read> Read for Dribble<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = into.len().min(self.1);
        self.0.read(&mut into[..len])
    }
}

pub fn open(bytes: &[u8]) -> Result<Capture, CaptureError> {
    Capture::from_reader(Box::new(Cursor::new(bytes.to_vec())))
}

/// Everything that a capture holds: frames, messages, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub frames: Vec<Kept>,
    pub messages: Vec<Vec<u8>>,
    pub end: End,
}

pub fn read(mut capture: Capture) -> Contents {
    let (mut frames, mut messages) = (Vec::new(), Vec::new());
    if capture.format() == Format::BinaryFile {
        while let Some(batch) = capture.next_messages().unwrap() {
            let before = messages.len();
            messages.extend(batch.map(<[u8]>::to_vec));
            assert!(messages.len() > before, "a batch holds something");
        }
        assert!(capture.next_messages().unwrap().is_none());
    } else {
        while let Some(frame) = capture.next_frame().unwrap() {
            let UnixNanos(ts) = frame.ts;
            frames.push(Kept { ts, link: frame.link, data: frame.data.to_vec(), original_len: frame.original_len });
        }
        assert!(capture.next_frame().unwrap().is_none());
    }
    let counters = capture.counters();
    assert_eq!((counters.frames, counters.messages), (frames.len() as u64, messages.len() as u64));
    assert_ne!(capture.end(), End::NotYet);
    Contents { frames, messages, end: capture.end() }
}
