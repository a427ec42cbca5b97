//! pcapng blocks.
//!
//! Blocks are found here, by type and length, so that one which is of no interest is passed over whatever its length,
//! and one that claims 4 GiB takes no memory; the parser sees blocks that are whole.

use std::io;
use std::ops::Range;

use barewire_types::UnixNanos;
use pcap_parser::pcapng::{
    parse_enhancedpacketblock_be, parse_enhancedpacketblock_le, parse_interfacedescriptionblock_be,
    parse_interfacedescriptionblock_le, parse_sectionheaderblock,
};

use super::error::{CaptureError, Head};
use super::frame::{LinkType, Place};
use super::input::Input;
use super::{CaptureCounters, Damage, End, Format};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type and length, which every block begins with; a section's header has its byte-order magic behind them.
const BLOCK_HEAD: usize = 12;
/// The length again, which every block ends with.
const BLOCK_TAIL: usize = 4;
/// Bytes of a section header without options.
const SECTION_HEADER_LEN: usize = 28;

/// More interfaces than any machine has; each takes memory.
const MAX_INTERFACES: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }
}

/// How an interface counts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// The exponent in the low 7 bits; of 2 where the highest is set, else of 10.
    resolution: u8,
    /// Seconds to add.
    offset: i64,
}

impl Clock {
    /// `None` where the time lies outside 1970 to 2554.
    pub(super) fn nanos(self, ticks: u64) -> Option<UnixNanos> {
        let exponent = u32::from(self.resolution & 0x7f);
        let scaled = u128::from(ticks) * 1_000_000_000;
        let since_offset = if self.resolution & 0x80 == 0 {
            10u128.checked_pow(exponent).map_or(0, |unit| scaled / unit)
        } else {
            scaled.checked_shr(exponent).unwrap_or(0)
        };
        let offset = i128::from(self.offset) * 1_000_000_000;
        let nanos = i128::try_from(since_offset).ok()?.checked_add(offset)?;
        u64::try_from(nanos).ok().map(UnixNanos)
    }
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    /// Most bytes that a frame has; 0 for no limit.
    snaplen: u32,
    clock: Clock,
}

/// The current section of a pcapng file.
#[derive(Debug)]
pub(super) struct Reader {
    order: Order,
    interfaces: Vec<Interface>,
    /// A block that is being passed over: its length, and how much of it is still to come.
    skipping: Option<(u64, u64)>,
}

/// A frame within its block.
struct Found {
    interface: usize,
    ticks: u64,
    original_len: u32,
    data: Range<usize>,
}

impl Reader {
    pub(super) fn open(input: &mut Input) -> Result<Reader, CaptureError> {
        let whole = input.need(SECTION_HEADER_LEN).map_err(|error| CaptureError::Read { offset: 0, error })?;
        let bytes = input.available();
        if !whole {
            let (expected, found) = (SECTION_HEADER_LEN as u64, bytes.len() as u64);
            return Err(CaptureError::HeaderCut { format: Format::PcapNg, expected, found });
        }
        match section_order(bytes) {
            // The header itself is read as the first block.
            Some(order) => Ok(Reader { order, interfaces: Vec::new(), skipping: None }),
            None => Err(CaptureError::BadHeader { format: Format::PcapNg, found: Head::of(bytes) }),
        }
    }

    /// Consumes blocks up to and including the next with a packet, and says where its frame lies.
    pub(super) fn next(&mut self, input: &mut Input, counters: &mut CaptureCounters) -> io::Result<Result<Place, End>> {
        loop {
            if let Some((len, left)) = &mut self.skipping {
                if !input.skip(left)? {
                    return Ok(Err(input.end(*len, *len - *left)));
                }
                self.skipping = None;
                counters.skipped_blocks += 1;
            }
            if !input.need(BLOCK_HEAD)? {
                return Ok(Err(input.end(BLOCK_HEAD as u64, 0)));
            }
            let (kind, len) = match self.head(input.available()) {
                Ok(head) => head,
                Err(damage) => return Ok(Err(input.damaged(damage))),
            };
            if !matches!(
                kind,
                SECTION_HEADER | INTERFACE_DESCRIPTION | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET
            ) {
                self.skipping = Some((len.into(), len.into()));
                continue;
            }
            let block_len = match Input::believe(u64::from(len)) {
                Ok(block_len) => block_len,
                Err(damage) => return Ok(Err(input.damaged(damage))),
            };
            if !input.need(block_len)? {
                return Ok(Err(input.end(u64::from(len), 0)));
            }
            let block = input.available().get(..block_len).unwrap_or_default();
            let last = self.order.u32(block, block_len - BLOCK_TAIL).unwrap_or(0);
            if last != len {
                return Ok(Err(input.damaged(Damage::BlockLengthsDiffer { first: len, last })));
            }
            let found = match kind {
                SECTION_HEADER | INTERFACE_DESCRIPTION => {
                    if let Err(damage) = self.describe(kind, block) {
                        return Ok(Err(input.damaged(damage)));
                    }
                    counters.skipped_blocks += 1;
                    input.consume(block_len);
                    continue;
                }
                ENHANCED_PACKET => self.enhanced(block),
                SIMPLE_PACKET => self.simple(block),
                _ => self.obsolete(block),
            };
            let place = found.and_then(|found| {
                let interface = self.interfaces.get(found.interface)?;
                // A simple packet block has no time.
                let ts = if kind == SIMPLE_PACKET { None } else { interface.clock.nanos(found.ticks) };
                Some(Place {
                    ts: ts.unwrap_or(UnixNanos::ABSENT),
                    link: interface.link,
                    original_len: found.original_len,
                    record_len: block_len,
                    data: found.data,
                })
            });
            input.consume(block_len);
            match place {
                Some(place) => return Ok(Ok(place)),
                // The block's own length still leads to the next.
                None => counters.bad_blocks += 1,
            }
        }
    }

    /// Type and length of the block that `bytes` begin with, and for a section's header also its byte order.
    fn head(&mut self, bytes: &[u8]) -> Result<(u32, u32), Damage> {
        if bytes.starts_with(&SECTION_HEADER.to_be_bytes()) {
            self.order = section_order(bytes).ok_or(Damage::BadSection)?;
        }
        let kind = self.order.u32(bytes, 0).unwrap_or(0);
        let len = self.order.u32(bytes, 4).unwrap_or(0);
        let least = match kind {
            SECTION_HEADER => SECTION_HEADER_LEN as u32,
            _ => (8 + BLOCK_TAIL) as u32,
        };
        if len < least || !len.is_multiple_of(4) { Err(Damage::BadBlockLength { len }) } else { Ok((kind, len)) }
    }

    fn describe(&mut self, kind: u32, block: &[u8]) -> Result<(), Damage> {
        if kind == SECTION_HEADER {
            let (_, header) = parse_sectionheaderblock(block).map_err(|_| Damage::BadSection)?;
            // Version 1.2 differs from 1.0 in nothing that matters here; a version 2 may in everything.
            if header.major_version != 1 {
                return Err(Damage::BadSection);
            }
            self.interfaces.clear();
            return Ok(());
        }
        let parse = match self.order {
            Order::Little => parse_interfacedescriptionblock_le,
            Order::Big => parse_interfacedescriptionblock_be,
        };
        let (_, description) = parse(block).map_err(|_| Damage::BadSection)?;
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(Damage::TooManyInterfaces);
        }
        // The parser reads this option as little-endian in either order.
        let offset = match self.order {
            Order::Little => description.if_tsoffset,
            Order::Big => description.if_tsoffset.swap_bytes(),
        };
        self.interfaces.push(Interface {
            link: LinkType::from_number(description.linktype.0 as u16),
            snaplen: description.snaplen,
            clock: Clock { resolution: description.if_tsresol, offset },
        });
        Ok(())
    }

    fn enhanced(&self, block: &[u8]) -> Option<Found> {
        const DATA: usize = 28;
        let parse = match self.order {
            Order::Little => parse_enhancedpacketblock_le,
            Order::Big => parse_enhancedpacketblock_be,
        };
        let (_, packet) = parse(block).ok()?;
        let captured = usize::try_from(packet.caplen).ok().filter(|len| *len <= packet.data.len())?;
        Some(Found {
            interface: usize::try_from(packet.if_id).ok()?,
            ticks: u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low),
            original_len: packet.origlen,
            data: DATA..DATA + captured,
        })
    }

    /// Its captured length is not written down: the original length, the interface's limit and the block's length give
    /// it together.
    fn simple(&self, block: &[u8]) -> Option<Found> {
        const DATA: usize = 12;
        let room = block.len().checked_sub(DATA + BLOCK_TAIL)?;
        let original_len = self.order.u32(block, 8)?;
        let snaplen = match self.interfaces.first()?.snaplen {
            0 => u32::MAX,
            limit => limit,
        };
        let captured = usize::try_from(original_len.min(snaplen)).ok()?.min(room);
        Some(Found { interface: 0, ticks: 0, original_len, data: DATA..DATA + captured })
    }

    /// Written until 2009; the parser knows it not.
    fn obsolete(&self, block: &[u8]) -> Option<Found> {
        const DATA: usize = 28;
        let room = block.len().checked_sub(DATA + BLOCK_TAIL)?;
        let word = |at| self.order.u32(block, at);
        let captured = usize::try_from(word(20)?).ok().filter(|len| *len <= room)?;
        Some(Found {
            interface: self.order.u16(block, 8)?.into(),
            ticks: u64::from(word(12)?) << 32 | u64::from(word(16)?),
            original_len: word(24)?,
            data: DATA..DATA + captured,
        })
    }
}

/// The byte order that a section header's magic shows.
fn section_order(bytes: &[u8]) -> Option<Order> {
    match bytes.get(8..BLOCK_HEAD)? {
        [0x4d, 0x3c, 0x2b, 0x1a] => Some(Order::Little),
        [0x1a, 0x2b, 0x3c, 0x4d] => Some(Order::Big),
        _ => None,
    }
}
