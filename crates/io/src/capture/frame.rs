//! Frames and the layers under IPv4.

use std::ops::Range;

use barewire_types::UnixNanos;
use barewire_wire::frame::{self, Datagram, FrameError};

/// What a frame begins with (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkType {
    /// BSD loopback: a 4-byte address family in the capturing machine's byte order.
    Null,
    /// OpenBSD loopback: the same, big-endian.
    Loop,
    /// Ethernet.
    Ethernet,
    /// IPv4 or IPv6 without anything before it.
    RawIp,
    /// Linux's `any` device: a 16-byte header.
    LinuxSll,
    /// Linux's `any` device, second version: a 20-byte header.
    LinuxSll2,
    /// Another, by its number.
    Other(u16),
}

impl LinkType {
    /// By its number in a pcap header or a pcapng interface.
    pub const fn from_number(number: u16) -> LinkType {
        match number {
            0 => LinkType::Null,
            1 => LinkType::Ethernet,
            // 12 and 14 are what BSD and OpenBSD wrote before 101 was agreed upon; 228 is IPv4 alone.
            12 | 14 | 101 | 228 => LinkType::RawIp,
            108 => LinkType::Loop,
            113 => LinkType::LinuxSll,
            276 => LinkType::LinuxSll2,
            other => LinkType::Other(other),
        }
    }
}

/// One frame of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When it was captured; [`UnixNanos::ABSENT`] where the file does not say.
    pub ts: UnixNanos,
    /// What it begins with.
    pub link: LinkType,
    /// Its bytes, as far as they were captured.
    pub data: &'a [u8],
    /// Its length on the wire, in bytes.
    pub original_len: u32,
}

impl<'a> Frame<'a> {
    /// Whether the capture cut it short (snaplen).
    pub fn is_truncated(&self) -> bool {
        self.data.len() < self.original_len as usize
    }

    /// The UDP datagram that it holds.
    ///
    /// # Errors
    ///
    /// [`FrameError`]; [`FrameError::NotIpv4`] also for link types that are not known here.
    pub fn datagram(&self) -> Result<Datagram<'a>, FrameError> {
        const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
        const AF_INET: u8 = 2;
        let data = self.data;
        let (is_ipv4, ip) = match self.link {
            LinkType::Ethernet => return frame::datagram(data),
            LinkType::RawIp => return frame::datagram_in_ipv4(data),
            // The family is small, so its byte order shows.
            LinkType::Null => match data {
                [a, b, c, d, ip @ ..] => (matches!([*a, *b, *c, *d], [AF_INET, 0, 0, 0] | [0, 0, 0, AF_INET]), ip),
                _ => return Err(FrameError::Truncated),
            },
            LinkType::Loop => match data {
                [a, b, c, d, ip @ ..] => ([*a, *b, *c, *d] == [0, 0, 0, AF_INET], ip),
                _ => return Err(FrameError::Truncated),
            },
            LinkType::LinuxSll => match data.split_at_checked(16) {
                Some((header, ip)) => (header.ends_with(&ETHERTYPE_IPV4), ip),
                None => return Err(FrameError::Truncated),
            },
            LinkType::LinuxSll2 => match data.split_at_checked(20) {
                Some((header, ip)) => (header.starts_with(&ETHERTYPE_IPV4), ip),
                None => return Err(FrameError::Truncated),
            },
            LinkType::Other(_) => return Err(FrameError::NotIpv4),
        };
        if is_ipv4 { frame::datagram_in_ipv4(ip) } else { Err(FrameError::NotIpv4) }
    }
}

/// Where a frame lies in the record that was consumed last.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) ts: UnixNanos,
    pub(super) link: LinkType,
    pub(super) original_len: u32,
    /// Bytes of the whole record.
    pub(super) record_len: usize,
    /// The frame's bytes within the record.
    pub(super) data: Range<usize>,
}
