//! Receive times that capture switches write into frames: Metamako's and Exablaze's trailers, Arista's header.
//!
//! # Specification
//!
//! - Metamako MetaWatch, now Arista 7130: behind the frame its original FCS (4 bytes), extensions where a flag says so,
//!   then [`MetamakoTrailer`]. Wireshark's `packet-metamako.c` is the public description, flags and extensions included.
//! - Exablaze ExaLINK Fusion and ExaCapture, now Cisco Nexus 3550: behind the frame [`ExablazeTrailer`]. Wireshark's
//!   `packet-exablaze.c`.
//! - Arista 7280 and 7500: behind the MAC addresses the ethertype 0xD28B, [`AristaHeader`], the time in one of two forms,
//!   then the frame's own ethertype. Solarflare's SolarCapture. (The form that overwrites the source MAC address looks
//!   like any frame and is not read.)
//!
//! A trailer may be followed by a new FCS, which most cards strip and some captures keep. Its own end is the only place
//! where a trailer can be looked for, and it has no mark: a switch further down the path adds its own behind, which is
//! then the one that is read.
//!
//! # Times
//!
//! Trailers count seconds since 1970 in 32 bits, unsigned: until 2106. They say no time scale; UTC is what both products
//! are set to by default. The header's version says TAI or UTC; TAI is converted by the leap seconds known when this was
//! written (37 s since 2017). Its short form has the seconds' low 16 bits: the time nearest to the frame's other time is
//! meant, so that one must be right to 9 hours. Its long form takes its low 34 bits when the frame comes in and the rest
//! when it leaves: where these roll over in between, in the last moments of every fourth second, it is 4 s late
//! ([`Stamp::may_be_late`]).
//!
//! # Contract
//!
//! [`read`] looks for the kind that it is told. What stands behind an IP packet is usually something else: padding, a
//! frame check sequence, whatever a card left in its buffer. So a time is believed only where its fields are possible,
//! it is not before 2010, and it lies within a day of the frame's other time, where there is one. The same bytes with and
//! without an FCS behind are never both a Metamako trailer: nanoseconds are below 1e9, seconds since 2010 above. Both may
//! seem Exablaze's (one frame in 25,000); then the length decides, or nothing is believed.
//!
//! [`detect`] asks for more, since it guesses: that the trailer explains every byte behind the IP packet, but for the
//! padding of a short frame, and that not both kinds do.

use core::fmt;

use barewire_types::{Layout, UnixNanos, layout};
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes, Unaligned};

use crate::frame::{self, PayloadTooLong};
use crate::{ProtocolSpec, Structure};

/// The ethertype that announces Arista's header.
pub const ETHERTYPE_ARISTA: u16 = 0xd28b;

/// The layouts' tables.
pub const SPEC: ProtocolSpec = ProtocolSpec {
    name: "switch-timestamps",
    title: "Receive times of capture switches",
    source: "Wireshark packet-metamako.c and packet-exablaze.c; SolarCapture",
    structures: &[
        Structure { name: MetamakoTrailer::NAME, len: MetamakoTrailer::LEN, fields: MetamakoTrailer::FIELDS },
        Structure { name: ExablazeTrailer::NAME, len: ExablazeTrailer::LEN, fields: ExablazeTrailer::FIELDS },
        Structure { name: AristaHeader::NAME, len: AristaHeader::LEN, fields: AristaHeader::FIELDS },
        Structure { name: AristaTime64::NAME, len: AristaTime64::LEN, fields: AristaTime64::FIELDS },
        Structure { name: AristaTime48::NAME, len: AristaTime48::LEN, fields: AristaTime48::FIELDS },
    ],
    messages: &[],
    codes: &[],
};

layout! {
    /// Metamako's trailer, behind the original FCS and any extensions.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct MetamakoTrailer: "metamako_trailer" {
        /// Seconds since 1970.
        seconds: U32 ["s"],
        /// Nanoseconds within the second.
        nanoseconds: U32 ["ns"],
        /// 0x01 original FCS valid, 0x02 extensions, 0x04 duplicate, 0x10 time degraded, 0x20 block type; others reserved.
        flags: u8,
        /// The switch.
        device_id: U16,
        /// Its port.
        port: u8,
    }

    /// Exablaze's trailer.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct ExablazeTrailer: "exablaze_trailer" {
        /// The frame's check sequence as it came in.
        original_fcs: [u8; 4] as Bytes,
        /// The switch.
        device_id: u8,
        /// Its port.
        port: u8,
        /// Seconds since 1970.
        seconds: U32 ["s"],
        /// Fraction of the second.
        fraction: [u8; 5] as UintBe ["2^-40 s"],
        /// Reserved.
        reserved: u8,
    }

    /// Arista's header, behind its ethertype; the time follows.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct AristaHeader: "arista_header" {
        /// 1 for a time.
        subtype: U16,
        /// 0x0010 TAI, 0x0110 UTC in 64 bits; 0x0020, 0x0120 in 48; one more on later switches.
        version: U16,
    }

    /// A time of 64 bits in Arista's header.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct AristaTime64: "arista_time_64" {
        /// Seconds since 1970.
        seconds: U32 ["s"],
        /// Nanoseconds within the second.
        nanoseconds: U32 ["ns"],
    }

    /// A time of 48 bits in Arista's header.
    #[derive(PartialEq, Eq, Unaligned)]
    pub struct AristaTime48: "arista_time_48" {
        /// Low 16 bits of the seconds since 1970.
        seconds: U16 ["s"],
        /// Nanoseconds within the second.
        nanoseconds: U32 ["ns"],
    }
}

const FCS_LEN: usize = 4;
const FLAG_FCS_VALID: u8 = 0x01;
const FLAG_EXTENSIONS: u8 = 0x02;
const FLAG_DEGRADED: u8 = 0x10;
const FLAGS_RESERVED: u8 = 0xc8;
const SUBTYPE_TIME: u16 = 1;
const VERSION_UTC_64: u16 = 0x0110;

const NS: u64 = 1_000_000_000;
/// 2010-01-01: before any of these products.
const EARLIEST_SECONDS: u64 = 1_262_304_000;
/// A frame is through the switch within 10 ms.
const LATE_FROM_NS: u32 = 990_000_000;
/// How far a believable time may be from the frame's other time.
const FARTHEST_NS: u64 = 86_400 * NS;
/// The longest frame, FCS included, that may have been padded.
const SHORTEST_FRAME: usize = 64;
/// UTC seconds since 1970 from which TAI is so many seconds ahead (IERS Bulletin C 52).
const LEAPS: [(u64, u64); 4] = [(1_483_228_800, 37), (1_435_708_800, 36), (1_341_100_800, 35), (1_230_768_000, 34)];

/// Who writes times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Metamako, Arista 7130: a trailer.
    Metamako,
    /// Exablaze, Cisco Nexus 3550: a trailer.
    Exablaze,
    /// Arista 7280 and 7500: a header.
    Arista7280,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Kind] = &[Kind::Metamako, Kind::Exablaze, Kind::Arista7280];

    /// The name that configuration uses.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Metamako => "metamako",
            Kind::Exablaze => "exablaze",
            Kind::Arista7280 => "arista-7280",
        }
    }
}

/// A time that a switch wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// What kind of switch.
    pub kind: Kind,
    /// When the frame came in, UTC. What is finer than a nanosecond is cut off.
    pub ts: UnixNanos,
    /// The switch's number; 0 for [`Kind::Arista7280`], which writes none.
    pub device: u16,
    /// The number of the port; 0 likewise.
    pub port: u8,
    /// Whether the switch says that its clock was not good.
    pub degraded: bool,
    /// Whether it was taken in those moments in which it can come out 4 s late.
    pub may_be_late: bool,
}

/// Why a frame's time was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StampError {
    /// There is none: too few bytes behind the IP packet, nothing but padding, or no header.
    Missing,
    /// What stands in its place cannot be one, is far from the frame's other time, or cannot be told without that.
    Implausible,
}

impl StampError {
    /// The name that counters have.
    pub const fn name(self) -> &'static str {
        match self {
            StampError::Missing => "missing",
            StampError::Implausible => "implausible",
        }
    }
}

impl fmt::Display for StampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for StampError {}

/// The time that a switch of this kind wrote into an Ethernet frame that holds UDP over IPv4. `near` is the frame's other
/// time: the capture's, or the clock's when it was received; [`UnixNanos::ABSENT`] where there is none.
///
/// # Errors
///
/// Every [`StampError`].
#[inline]
pub fn read(kind: Kind, ethernet_frame: &[u8], near: UnixNanos) -> Result<Stamp, StampError> {
    if kind == Kind::Arista7280 {
        return header(ethernet_frame, near);
    }
    let behind = frame::trailer(ethernet_frame).map_err(|_| StampError::Missing)?;
    find(kind, behind, near).map(|found| found.stamp)
}

/// As [`read`], whatever the kind: for files whose switch nobody remembers. A trailer is found only where `near` is known.
///
/// # Errors
///
/// [`StampError::Implausible`] where two kinds are possible, or a header is there that is not; else
/// [`StampError::Missing`].
pub fn detect(ethernet_frame: &[u8], near: UnixNanos) -> Result<Stamp, StampError> {
    match header(ethernet_frame, near) {
        Err(StampError::Missing) => {}
        found => return found,
    }
    let behind = frame::trailer(ethernet_frame).map_err(|_| StampError::Missing)?;
    if near == UnixNanos::ABSENT {
        return Err(StampError::Missing);
    }
    let explained = |kind| {
        let found = find(kind, behind, near).ok()?;
        let padding = behind.get(..found.begin)?;
        let original_len = ethernet_frame.len() - behind.len() + padding.len() + FCS_LEN;
        let padded = original_len <= SHORTEST_FRAME + FCS_LEN && padding.iter().all(|byte| *byte == 0);
        (found.regular && (padding.is_empty() || padded)).then_some(found.stamp)
    };
    match (explained(Kind::Metamako), explained(Kind::Exablaze)) {
        (Some(stamp), None) | (None, Some(stamp)) => Ok(stamp),
        (None, None) => Err(StampError::Missing),
        _ => Err(StampError::Implausible),
    }
}

/// A trailer that was found.
struct Found {
    stamp: Stamp,
    /// Where its original FCS begins among the bytes behind the packet.
    begin: usize,
    /// Whether its reserved bits are as they should be.
    regular: bool,
}

#[inline]
fn find(kind: Kind, behind: &[u8], near: UnixNanos) -> Result<Found, StampError> {
    let without_fcs = behind.split_last_chunk::<FCS_LEN>().map_or(&[][..], |(rest, _)| rest);
    if behind.len() < ExablazeTrailer::LEN || without_fcs.iter().all(|byte| *byte == 0) {
        return Err(StampError::Missing);
    }
    let at_end = match kind {
        Kind::Exablaze => exablaze,
        _ => metamako,
    };
    match (at_end(behind, near), at_end(without_fcs, near)) {
        (Some(found), None) | (None, Some(found)) => Ok(found),
        (Some(found), Some(_)) if behind.len() == ExablazeTrailer::LEN => Ok(found),
        (Some(_), Some(found)) if without_fcs.len() == ExablazeTrailer::LEN => Ok(found),
        _ => Err(StampError::Implausible),
    }
}

/// Metamako's trailer at the end of these bytes.
#[inline]
fn metamako(bytes: &[u8], near: UnixNanos) -> Option<Found> {
    let (mut before, trailer) = MetamakoTrailer::ref_from_suffix(bytes).ok()?;
    let ts = time(trailer.seconds.get().into(), trailer.nanoseconds.get(), near)?;
    if trailer.flags & FLAGS_RESERVED != 0 {
        return None;
    }
    if trailer.flags & FLAG_EXTENSIONS != 0 {
        before = before_extensions(before)?;
    }
    let (before, _) = before.split_last_chunk::<FCS_LEN>()?;
    let stamp = Stamp {
        kind: Kind::Metamako,
        ts,
        device: trailer.device_id.get(),
        port: trailer.port,
        degraded: trailer.flags & FLAG_DEGRADED != 0,
        may_be_late: false,
    };
    Some(Found { stamp, begin: before.len(), regular: true })
}

/// Steps back over extensions. Each ends in a word of 24 bits data, 2 bits number of further words before it, 1 bit that
/// ends the list, and 5 bits tag; with all tag bits set it is 16 bits tag, 10 bits that number less 1.
fn before_extensions(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (before, word) = U32::read_from_suffix(bytes).ok().map(|(before, word)| (before, word.get()))?;
        let further = match word & 0x1f {
            0x1f => (word >> 6 & 0x3ff) as usize + 1,
            _ => (word >> 6 & 0x3) as usize,
        };
        bytes = before.get(..before.len().checked_sub(further * 4)?)?;
        if word & 0x20 != 0 {
            return Some(bytes);
        }
    }
}

/// Exablaze's trailer at the end of these bytes.
#[inline]
fn exablaze(bytes: &[u8], near: UnixNanos) -> Option<Found> {
    let (before, trailer) = ExablazeTrailer::ref_from_suffix(bytes).ok()?;
    let [a, b, c, d, e] = trailer.fraction;
    // 70 bits.
    let ns = (u128::from(u64::from_be_bytes([0, 0, 0, a, b, c, d, e])) * u128::from(NS)) >> 40;
    let ts = time(trailer.seconds.get().into(), ns as u32, near)?;
    let stamp = Stamp {
        kind: Kind::Exablaze,
        ts,
        device: trailer.device_id.into(),
        port: trailer.port,
        degraded: false,
        may_be_late: false,
    };
    Some(Found { stamp, begin: before.len(), regular: trailer.reserved == 0 })
}

/// What Arista's header says of itself.
struct Form {
    tai: bool,
    long: bool,
}

impl Form {
    fn of(header: &AristaHeader) -> Option<Form> {
        if header.subtype.get() != SUBTYPE_TIME {
            return None;
        }
        let (tai, long) = match header.version.get() {
            0x0010 | 0x0011 => (true, true),
            VERSION_UTC_64 | 0x0111 => (false, true),
            0x0020 | 0x0021 => (true, false),
            0x0120 | 0x0121 => (false, false),
            _ => return None,
        };
        Some(Form { tai, long })
    }
}

/// What follows Arista's header and its time, from the frame's own ethertype on; `rest` is what follows
/// [`ETHERTYPE_ARISTA`].
pub(crate) fn behind_arista(rest: &[u8]) -> Option<&[u8]> {
    let (header, rest) = AristaHeader::ref_from_prefix(rest).ok()?;
    rest.get(if Form::of(header)?.long { AristaTime64::LEN } else { AristaTime48::LEN }..)
}

fn header(ethernet_frame: &[u8], near: UnixNanos) -> Result<Stamp, StampError> {
    let (ethernet, rest) = frame::Ethernet::ref_from_prefix(ethernet_frame).map_err(|_| StampError::Missing)?;
    if ethernet.ethertype.get() != ETHERTYPE_ARISTA {
        return Err(StampError::Missing);
    }
    let (ts, may_be_late) = header_time(rest, near).ok_or(StampError::Implausible)?;
    Ok(Stamp { kind: Kind::Arista7280, ts, device: 0, port: 0, degraded: false, may_be_late })
}

/// The time behind Arista's ethertype, and whether it can be late.
fn header_time(rest: &[u8], near: UnixNanos) -> Option<(UnixNanos, bool)> {
    let (header, rest) = AristaHeader::ref_from_prefix(rest).ok()?;
    let form = Form::of(header)?;
    let (seconds, ns) = if form.long {
        let (at, _) = AristaTime64::ref_from_prefix(rest).ok()?;
        (at.seconds.get().into(), at.nanoseconds.get())
    } else {
        let (at, _) = AristaTime48::ref_from_prefix(rest).ok()?;
        if near == UnixNanos::ABSENT {
            return None;
        }
        let around = near.0 / NS + if form.tai { tai_ahead(near.0 / NS, false) } else { 0 };
        let distance = at.seconds.get().wrapping_sub(around as u16).cast_signed();
        (around.checked_add_signed(distance.into())?, at.nanoseconds.get())
    };
    let utc = if form.tai { seconds.checked_sub(tai_ahead(seconds, true))? } else { seconds };
    let may_be_late = form.long && seconds % 4 == 3 && ns >= LATE_FROM_NS;
    Some((time(utc, ns, near)?, may_be_late))
}

/// By how many seconds TAI is ahead of UTC at a time in the one or the other. From a leap second's beginning on it is one
/// more, as computers count it: Linux goes through the last second of such a day twice.
fn tai_ahead(seconds: u64, in_tai: bool) -> u64 {
    let begins = |(from, ahead): &&(u64, u64)| seconds >= *from + if in_tai { *ahead - 1 } else { 0 };
    LEAPS.iter().find(begins).map_or(34, |(_, ahead)| *ahead)
}

/// A time, where it is to be believed.
#[inline]
fn time(seconds: u64, ns: u32, near: UnixNanos) -> Option<UnixNanos> {
    if u64::from(ns) >= NS || seconds < EARLIEST_SECONDS {
        return None;
    }
    let ts = seconds.checked_mul(NS)?.checked_add(ns.into())?;
    (near == UnixNanos::ABSENT || ts.abs_diff(near.0) <= FARTHEST_NS).then_some(UnixNanos(ts))
}

/// The frame check sequence (IEEE 802.3-2018, 3.2.9) of a frame, as it is sent.
pub fn frame_check_sequence(frame: &[u8]) -> [u8; FCS_LEN] {
    let step = |crc: u32, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xedb8_8320 };
    let crc = frame.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step));
    (!crc).to_le_bytes()
}

/// Writes a time into the frame of `len` bytes at the beginning of `out`, as the switch does: a trailer behind it, or a
/// header of 64 bits, UTC, within it. Returns the new length. With `new_fcs` a new frame check sequence follows.
///
/// # Errors
///
/// [`PayloadTooLong`] where it does not fit into `out`, or the time into 32 bits of seconds; nothing is written then.
pub fn encode(out: &mut [u8], len: usize, stamp: &Stamp, new_fcs: bool) -> Result<usize, PayloadTooLong> {
    const MACS_LEN: usize = 12;
    let seconds = U32::new(u32::try_from(stamp.ts.0 / NS).map_err(|_| PayloadTooLong)?);
    let nanoseconds = U32::new((stamp.ts.0 % NS) as u32);
    let original_fcs = frame_check_sequence(out.get(..len).ok_or(PayloadTooLong)?);
    let mut added = [0; 16];
    let (at, added) = match stamp.kind {
        Kind::Metamako => {
            let flags = FLAG_FCS_VALID | if stamp.degraded { FLAG_DEGRADED } else { 0 };
            let device_id = U16::new(stamp.device);
            let trailer = MetamakoTrailer { seconds, nanoseconds, flags, device_id, port: stamp.port };
            added[..FCS_LEN].copy_from_slice(&original_fcs);
            added[FCS_LEN..].copy_from_slice(trailer.as_bytes());
            (len, &added[..])
        }
        Kind::Exablaze => {
            // Rounded up: what is cut off when it is read leaves the same nanosecond.
            let fraction = (u128::from(stamp.ts.0 % NS) << 40).div_ceil(u128::from(NS)) as u64;
            let [_, _, _, fraction @ ..] = fraction.to_be_bytes();
            let [_, device_id] = stamp.device.to_be_bytes();
            let trailer = ExablazeTrailer { original_fcs, device_id, port: stamp.port, seconds, fraction, reserved: 0 };
            added = zerocopy::transmute!(trailer);
            (len, &added[..])
        }
        Kind::Arista7280 => {
            let header = AristaHeader { subtype: U16::new(SUBTYPE_TIME), version: U16::new(VERSION_UTC_64) };
            added[..2].copy_from_slice(&ETHERTYPE_ARISTA.to_be_bytes());
            added[2..6].copy_from_slice(header.as_bytes());
            added[6..14].copy_from_slice(AristaTime64 { seconds, nanoseconds }.as_bytes());
            (MACS_LEN, &added[..14])
        }
    };
    let end = len + added.len();
    let whole = end + if new_fcs { FCS_LEN } else { 0 };
    if whole > out.len() || at > len {
        return Err(PayloadTooLong);
    }
    out.copy_within(at..len, at + added.len());
    out[at..at + added.len()].copy_from_slice(added);
    if new_fcs {
        let fcs = frame_check_sequence(&out[..end]);
        out[end..whole].copy_from_slice(&fcs);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests;
