//! Ethernet II frames that carry UDP over IPv4.
//!
//! # Specification
//!
//! - Ethernet II: IEEE 802.3-2018, 3.2; VLAN tags: IEEE 802.1Q-2018, 9.3 (0x8100) and stacked 9.5 (0x88a8, once
//!   802.1ad).
//! - IPv4: RFC 791, 3.1; the checksum: RFC 1071; multicast MAC addresses: RFC 1112, 6.4.
//! - UDP: RFC 768.
//!
//! # Contract
//!
//! [`datagram`] checks, in this order: that the frame's tags and headers are whole; that IPv4 follows; that its header
//! length is possible, that its total length lies within the bytes given and the header within that; that UDP follows;
//! that the packet is no fragment; that UDP's length is possible and lies within IP's. [`Datagram::payload`] is then
//! what UDP's length says: neither Ethernet's padding, nor a frame check sequence, nor a capture device's trailer
//! leaks into it ([`trailer`] returns those). Header options are skipped, and so is a time that a switch has put behind
//! the MAC addresses ([`crate::trailers`]). Checksums are not looked at, since cards check them and captures of a sending
//! machine hold unfinished ones; [`verified_datagram`] does look.
//!
//! [`encode_headers`] and [`encode`] write frames that pass every check, checksums included.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use barewire_types::layout;
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, Unaligned};

use crate::trailers::{self, ETHERTYPE_ARISTA};

/// Length of the Ethernet, IPv4 and UDP headers in bytes, without tags and options.
pub const UDP_HEADERS_LEN: usize = size_of::<Headers>();

/// The longest UDP payload that IPv4 can carry, in bytes.
pub const MAX_PAYLOAD_LEN: usize = u16::MAX as usize - IPV4_LEN - UDP_LEN;

const IPV4_LEN: usize = size_of::<Ipv4>();
const UDP_LEN: usize = size_of::<Udp>();

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_STACKED_VLAN: u16 = 0x88a8;
const PROTOCOL_UDP: u8 = 17;
const DONT_FRAGMENT: u16 = 0x4000;
/// More fragments, or any bit of the fragment's offset.
const FRAGMENT_MASK: u16 = 0x3fff;
const VLAN_ID_MASK: u16 = 0x0fff;
/// Hops that an encoded packet may take.
const TIME_TO_LIVE: u8 = 64;

layout! {
    /// Ethernet II header.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct Ethernet: "ethernet_header" {
        /// MAC address of the receiver, or of the multicast group.
        destination: [u8; 6] as Bytes,
        /// MAC address of the sender.
        source: [u8; 6] as Bytes,
        /// What follows; below 0x0600 it is a length and the frame is not Ethernet II.
        ethertype: U16,
    }

    /// What a VLAN tag adds behind the ethertype that announces it.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct Tag: "vlan_tag" {
        /// Priority (3 bits), drop eligible (1 bit), VLAN id (12 bits).
        control: U16,
        /// What follows.
        ethertype: U16,
    }

    /// IPv4 header without options.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct Ipv4: "ipv4_header" {
        /// Version (4 bits, 4) and header length (4 bits) in words of four bytes.
        version_and_header_len: u8,
        /// Service and congestion bits.
        service: u8,
        /// Length of header and payload.
        total_len: U16 ["bytes"],
        /// Number that a packet's fragments share.
        identification: U16,
        /// Reserved, do not fragment, more fragments (a bit each), offset (13 bits) in words of eight bytes.
        fragment: U16,
        /// Hops left.
        time_to_live: u8,
        /// What follows; UDP is 17.
        protocol: u8,
        /// Ones' complement sum over the header.
        checksum: U16,
        /// The sender's address.
        source: U32,
        /// The receiver's address, or the group's.
        destination: U32,
    }

    /// UDP header.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct Udp: "udp_header" {
        /// The sender's port.
        source_port: U16,
        /// The receiver's port.
        destination_port: U16,
        /// Length of header and payload.
        len: U16 ["bytes"],
        /// Ones' complement sum over pseudo header, header and payload; 0 where there is none.
        checksum: U16,
    }
}

/// The headers of an untagged frame, as they are written.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Headers {
    ethernet: Ethernet,
    ip: Ipv4,
    udp: Udp,
}

/// A UDP datagram within a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The sender.
    pub src: SocketAddrV4,
    /// The receiver, or the multicast group.
    pub dst: SocketAddrV4,
    /// The id of the innermost VLAN tag; `None` where there is no tag, or one with id 0, which carries only a priority.
    pub vlan: Option<u16>,
    /// What UDP carries.
    pub payload: &'a [u8],
}

/// Why a frame holds no datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes end before a header does, or before the IP packet does.
    Truncated,
    /// Another ethertype than IPv4, or another version.
    NotIpv4,
    /// An IPv4 header length below 20 bytes, or beyond the packet's total length.
    BadIpv4Header,
    /// IPv4, but not UDP.
    NotUdp,
    /// A fragment of a packet. Market data is sent whole, and putting fragments together would need memory.
    Fragment,
    /// A UDP length below 8 bytes, or beyond the IP packet.
    BadUdpLength,
    /// The IPv4 header's checksum is wrong ([`verified_datagram`] and [`header_verified_datagram`] only).
    BadIpv4Checksum,
    /// The UDP checksum is there and wrong ([`verified_datagram`] only).
    BadUdpChecksum,
}

impl FrameError {
    /// Every error, in order of declaration.
    pub const ALL: &[FrameError] = &[
        FrameError::Truncated,
        FrameError::NotIpv4,
        FrameError::BadIpv4Header,
        FrameError::NotUdp,
        FrameError::Fragment,
        FrameError::BadUdpLength,
        FrameError::BadIpv4Checksum,
        FrameError::BadUdpChecksum,
    ];

    /// The name that counters have.
    pub const fn name(self) -> &'static str {
        match self {
            FrameError::Truncated => "truncated",
            FrameError::NotIpv4 => "not_ipv4",
            FrameError::BadIpv4Header => "bad_ipv4_header",
            FrameError::NotUdp => "not_udp",
            FrameError::Fragment => "fragment",
            FrameError::BadUdpLength => "bad_udp_length",
            FrameError::BadIpv4Checksum => "bad_ipv4_checksum",
            FrameError::BadUdpChecksum => "bad_udp_checksum",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for FrameError {}

/// The payload does not fit: into a UDP datagram ([`MAX_PAYLOAD_LEN`]), or into the bytes handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PayloadTooLong;

impl fmt::Display for PayloadTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("payload_too_long")
    }
}

impl core::error::Error for PayloadTooLong {}

/// The datagram in an Ethernet frame, tagged or not.
///
/// # Errors
///
/// Every [`FrameError`] but those of checksums.
#[inline]
pub fn datagram(ethernet_frame: &[u8]) -> Result<Datagram<'_>, FrameError> {
    let (vlan, packet) = ipv4_in_ethernet(ethernet_frame)?;
    Ok(Parts::of(packet)?.datagram(vlan))
}

/// The datagram in an IPv4 packet, as files of link type "raw IP" hold it.
///
/// # Errors
///
/// Every [`FrameError`] but those of checksums.
#[inline]
pub fn datagram_in_ipv4(ip_packet: &[u8]) -> Result<Datagram<'_>, FrameError> {
    Ok(Parts::of(ip_packet)?.datagram(None))
}

/// The datagram in an Ethernet frame whose checksums are right; a UDP checksum of 0 stands for none and passes.
///
/// # Errors
///
/// Every [`FrameError`].
pub fn verified_datagram(ethernet_frame: &[u8]) -> Result<Datagram<'_>, FrameError> {
    let (vlan, parts) = verified_header(ethernet_frame)?;
    let sent = parts.udp.checksum.get();
    if sent != 0 && fold(pseudo_header(parts.ip, parts.udp) + sum(parts.udp.as_bytes()) + sum(parts.payload)) != 0xffff
    {
        return Err(FrameError::BadUdpChecksum);
    }
    Ok(parts.datagram(vlan))
}

/// As [`verified_datagram`], but UDP's checksum is not looked at: for frames whose card vouches for it, and for those of
/// this machine's own that no card has finished.
///
/// # Errors
///
/// Every [`FrameError`] but [`FrameError::BadUdpChecksum`].
pub fn header_verified_datagram(ethernet_frame: &[u8]) -> Result<Datagram<'_>, FrameError> {
    let (vlan, parts) = verified_header(ethernet_frame)?;
    Ok(parts.datagram(vlan))
}

#[inline]
fn verified_header(ethernet_frame: &[u8]) -> Result<(Option<u16>, Parts<'_>), FrameError> {
    let (vlan, packet) = ipv4_in_ethernet(ethernet_frame)?;
    let parts = Parts::of(packet)?;
    if fold(sum(parts.ip.as_bytes()) + sum(parts.options)) != 0xffff {
        return Err(FrameError::BadIpv4Checksum);
    }
    Ok((vlan, parts))
}

/// What stands behind the IP packet in an Ethernet frame: padding, a capture device's trailer, a frame check sequence.
///
/// # Errors
///
/// As [`datagram`].
pub fn trailer(ethernet_frame: &[u8]) -> Result<&[u8], FrameError> {
    let (_, packet) = ipv4_in_ethernet(ethernet_frame)?;
    Ok(Parts::of(packet)?.behind)
}

/// Steps over the Ethernet header and any number of tags, and a switch's time where one is.
#[inline]
fn ipv4_in_ethernet(frame: &[u8]) -> Result<(Option<u16>, &[u8]), FrameError> {
    let (ethernet, rest) = Ethernet::ref_from_prefix(frame).map_err(|_| FrameError::Truncated)?;
    let (vlan, ethertype, rest) = behind_tags(ethernet.ethertype.get(), rest)?;
    if ethertype == ETHERTYPE_IPV4 {
        return Ok((vlan, rest));
    }
    ipv4_behind_time(ethernet.ethertype.get(), rest)
}

/// As [`ipv4_in_ethernet`] where a capture switch has put a time behind the MAC addresses.
#[cold]
fn ipv4_behind_time(ethertype: u16, rest: &[u8]) -> Result<(Option<u16>, &[u8]), FrameError> {
    if ethertype != ETHERTYPE_ARISTA {
        return Err(FrameError::NotIpv4);
    }
    let rest = trailers::behind_arista(rest).ok_or(FrameError::NotIpv4)?;
    let (ethertype, rest) = U16::ref_from_prefix(rest).map_err(|_| FrameError::Truncated)?;
    match behind_tags(ethertype.get(), rest)? {
        (vlan, ETHERTYPE_IPV4, rest) => Ok((vlan, rest)),
        _ => Err(FrameError::NotIpv4),
    }
}

/// Steps over tags: the innermost one's id, the ethertype of what follows, and that.
#[inline]
fn behind_tags(mut ethertype: u16, mut rest: &[u8]) -> Result<(Option<u16>, u16, &[u8]), FrameError> {
    let mut vlan = None;
    while let ETHERTYPE_VLAN | ETHERTYPE_STACKED_VLAN = ethertype {
        let (tag, behind) = Tag::ref_from_prefix(rest).map_err(|_| FrameError::Truncated)?;
        let id = tag.control.get() & VLAN_ID_MASK;
        vlan = (id != 0).then_some(id);
        ethertype = tag.ethertype.get();
        rest = behind;
    }
    Ok((vlan, ethertype, rest))
}

/// An IPv4 packet taken apart, every length checked.
struct Parts<'a> {
    ip: &'a Ipv4,
    options: &'a [u8],
    udp: &'a Udp,
    payload: &'a [u8],
    behind: &'a [u8],
}

impl<'a> Parts<'a> {
    #[inline]
    fn of(packet: &'a [u8]) -> Result<Parts<'a>, FrameError> {
        // The version first: the header of another one has another length.
        match packet.first() {
            None => return Err(FrameError::Truncated),
            Some(byte) if byte >> 4 != 4 => return Err(FrameError::NotIpv4),
            Some(_) => {}
        }
        let (ip, _) = Ipv4::ref_from_prefix(packet).map_err(|_| FrameError::Truncated)?;
        let header_len = usize::from(ip.version_and_header_len & 0xf) * 4;
        let total_len = usize::from(ip.total_len.get());
        if header_len < IPV4_LEN {
            return Err(FrameError::BadIpv4Header);
        }
        let (packet, behind) = packet.split_at_checked(total_len).ok_or(FrameError::Truncated)?;
        let (header, ip_payload) = packet.split_at_checked(header_len).ok_or(FrameError::BadIpv4Header)?;
        let options = header.get(IPV4_LEN..).ok_or(FrameError::BadIpv4Header)?;
        if ip.protocol != PROTOCOL_UDP {
            return Err(FrameError::NotUdp);
        }
        if ip.fragment.get() & FRAGMENT_MASK != 0 {
            return Err(FrameError::Fragment);
        }
        let (udp, _) = Udp::ref_from_prefix(ip_payload).map_err(|_| FrameError::BadUdpLength)?;
        let payload = ip_payload.get(UDP_LEN..usize::from(udp.len.get())).ok_or(FrameError::BadUdpLength)?;
        Ok(Parts { ip, options, udp, payload, behind })
    }

    #[inline]
    fn datagram(&self, vlan: Option<u16>) -> Datagram<'a> {
        let address = |ip: U32, port: U16| SocketAddrV4::new(Ipv4Addr::from_bits(ip.get()), port.get());
        Datagram {
            src: address(self.ip.source, self.udp.source_port),
            dst: address(self.ip.destination, self.udp.destination_port),
            vlan,
            payload: self.payload,
        }
    }
}

/// Writes the headers for `payload`, which is to follow them.
///
/// To a multicast group the frame goes to the group's MAC address; any other address, the source's too, stands in the
/// locally administered MAC address `02:00:a:b:c:d`. The packet must not be fragmented and may take 64 hops.
///
/// # Errors
///
/// [`PayloadTooLong`], and nothing is written.
pub fn encode_headers(
    out: &mut [u8; UDP_HEADERS_LEN],
    src: SocketAddrV4,
    dst: SocketAddrV4,
    payload: &[u8],
) -> Result<(), PayloadTooLong> {
    let (ip, udp) = headers(src, dst, payload)?;
    *out = zerocopy::transmute!(Headers { ethernet: ethernet(src, dst, ETHERTYPE_IPV4), ip, udp });
    Ok(())
}

/// Writes a whole frame, tagged where `vlan` is given (of which the low 12 bits count), and returns its length in
/// bytes.
///
/// The frame is neither padded to Ethernet's 60 bytes nor closed with a frame check sequence: cards do both.
///
/// # Errors
///
/// [`PayloadTooLong`], where `out` is too short as well; nothing is written then.
pub fn encode(
    out: &mut [u8],
    vlan: Option<u16>,
    src: SocketAddrV4,
    dst: SocketAddrV4,
    payload: &[u8],
) -> Result<usize, PayloadTooLong> {
    let (ip, udp) = headers(src, dst, payload)?;
    let ethertype = if vlan.is_some() { ETHERTYPE_VLAN } else { ETHERTYPE_IPV4 };
    let tag = vlan.map(|id| Tag { control: U16::new(id & VLAN_ID_MASK), ethertype: U16::new(ETHERTYPE_IPV4) });
    let tag = tag.as_ref().map_or(&[][..], IntoBytes::as_bytes);
    let len = UDP_HEADERS_LEN + tag.len() + payload.len();
    let mut rest = out.get_mut(..len).ok_or(PayloadTooLong)?;
    for part in [ethernet(src, dst, ethertype).as_bytes(), tag, ip.as_bytes(), udp.as_bytes(), payload] {
        let (to, behind) = rest.split_at_mut_checked(part.len()).ok_or(PayloadTooLong)?;
        to.copy_from_slice(part);
        rest = behind;
    }
    Ok(len)
}

fn ethernet(src: SocketAddrV4, dst: SocketAddrV4, ethertype: u16) -> Ethernet {
    Ethernet { destination: mac(*dst.ip()), source: mac(*src.ip()), ethertype: U16::new(ethertype) }
}

fn mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    if ip.is_multicast() { [0x01, 0x00, 0x5e, b & 0x7f, c, d] } else { [0x02, 0x00, a, b, c, d] }
}

fn headers(src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) -> Result<(Ipv4, Udp), PayloadTooLong> {
    if payload.len() > MAX_PAYLOAD_LEN {
        return Err(PayloadTooLong);
    }
    let udp_len = (UDP_LEN + payload.len()) as u16;
    let mut ip = Ipv4 {
        version_and_header_len: 0x45,
        service: 0,
        total_len: U16::new(IPV4_LEN as u16 + udp_len),
        identification: U16::ZERO,
        fragment: U16::new(DONT_FRAGMENT),
        time_to_live: TIME_TO_LIVE,
        protocol: PROTOCOL_UDP,
        checksum: U16::ZERO,
        source: U32::new(src.ip().to_bits()),
        destination: U32::new(dst.ip().to_bits()),
    };
    ip.checksum = U16::new(!fold(sum(ip.as_bytes())));
    let mut udp = Udp {
        source_port: U16::new(src.port()),
        destination_port: U16::new(dst.port()),
        len: U16::new(udp_len),
        checksum: U16::ZERO,
    };
    let checksum = !fold(pseudo_header(&ip, &udp) + sum(udp.as_bytes()) + sum(payload));
    // 0 would say that there is no checksum; its other representation says the same sum.
    udp.checksum = U16::new(if checksum == 0 { 0xffff } else { checksum });
    Ok((ip, udp))
}

/// What UDP's checksum covers of the IP header.
fn pseudo_header(ip: &Ipv4, udp: &Udp) -> u64 {
    sum(ip.source.as_bytes()) + sum(ip.destination.as_bytes()) + u64::from(ip.protocol) + u64::from(udp.len.get())
}

/// The unfolded sum of big-endian 16-bit words; an odd last byte counts as a word's first.
///
/// The words are added four bytes at a time in the machine's order: a ones' complement sum comes out the same, its
/// bytes swapped (RFC 1071, 2). 2^32 bytes would be needed to overflow.
fn sum(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<4>();
    let words: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    last.iter_mut().zip(tail).for_each(|(to, byte)| *to = *byte);
    u64::from(u16::from_be_bytes(fold(words + u64::from(u32::from_ne_bytes(last))).to_ne_bytes()))
}

/// Adds the carries until 16 bits are left.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
