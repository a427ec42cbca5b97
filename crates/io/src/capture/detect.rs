//! Which format a file has, by how it begins.

use barewire_wire::binaryfile::{self, Step};

use super::Format;
use super::error::{CaptureError, Head};
use super::input::Input;
use super::source::SourceEnd;

/// Bytes of a magic number.
const MAGIC_BYTES: usize = 4;
/// How far into a file its records are looked at.
const LOOK_BYTES: usize = 16 << 10;
/// A file that begins with so many plausible records is believed to be BinaryFILE.
const LOOK_RECORDS: usize = 16;
/// No venue's message is longer; the longest of ITCH 5.0 has 50 bytes.
const PLAUSIBLE_MESSAGE_BYTES: usize = 1024;

pub(super) fn detect(input: &mut Input, wanted: Option<Format>) -> Result<Format, CaptureError> {
    let failed = |error| CaptureError::Read { offset: 0, error };
    // A pipe that is still being written may have little more than its header.
    let mut whole = !input.need(MAGIC_BYTES).map_err(failed)?;
    let by_magic = match input.available() {
        // Microseconds and nanoseconds, either byte order.
        [0xd4, 0xc3, 0xb2, 0xa1, ..] | [0xa1, 0xb2, 0xc3, 0xd4, ..] => Some(Format::Pcap),
        [0x4d, 0x3c, 0xb2, 0xa1, ..] | [0xa1, 0xb2, 0x3c, 0x4d, ..] => Some(Format::Pcap),
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => Some(Format::PcapNg),
        _ => None,
    };
    if wanted.is_none() && by_magic.is_none() {
        whole = !input.need(LOOK_BYTES).map_err(failed)?;
    }
    let bytes = input.available();
    let (compression, found) = (input.compression(), Head::of(bytes));
    let broken = matches!(input.source_end(), Some(SourceEnd::Cut | SourceEnd::Damaged));
    let decompress = || CaptureError::Decompress { compression, file_offset: input.progress().read };
    if bytes.is_empty() {
        return Err(if broken { decompress() } else { CaptureError::Empty { compression } });
    }
    match (wanted, by_magic) {
        // BinaryFILE has no magic: whoever names it is believed.
        (Some(Format::BinaryFile), _) => Ok(Format::BinaryFile),
        (Some(expected), found_format) if found_format == Some(expected) => Ok(expected),
        (Some(expected), _) => Err(CaptureError::OtherFormat { expected, found }),
        (None, Some(format)) => Ok(format),
        (None, None) if is_binary_file(bytes, whole) => Ok(Format::BinaryFile),
        (None, None) if broken && bytes.len() < Head::LEN => Err(decompress()),
        (None, None) => Err(cut_magic(bytes, whole).unwrap_or(CaptureError::Unrecognised { compression, found })),
    }
}

/// A file that ends within a magic number.
fn cut_magic(bytes: &[u8], whole: bool) -> Option<CaptureError> {
    const MAGIC: [[u8; MAGIC_BYTES]; 5] = [
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
        [0x0a, 0x0d, 0x0d, 0x0a],
    ];
    let begun =
        whole && bytes.len() < MAGIC_BYTES && bytes.len() > 1 && MAGIC.iter().any(|magic| magic.starts_with(bytes));
    let format = if bytes.starts_with(&[0x0a]) { Format::PcapNg } else { Format::Pcap };
    begun.then_some(CaptureError::HeaderCut { format, expected: MAGIC_BYTES as u64, found: bytes.len() as u64 })
}

/// Whether these bytes are records with plausible lengths, one after the other: at least one, and up to the point where
/// they end, or enough to believe it. `whole`: the file ends with them.
fn is_binary_file(bytes: &[u8], whole: bool) -> bool {
    let mut rest = bytes;
    for records in 0..LOOK_RECORDS {
        match binaryfile::step(rest) {
            Step::Message { message, rest: behind } if message.len() <= PLAUSIBLE_MESSAGE_BYTES => rest = behind,
            Step::Message { .. } => return false,
            // The record that ends a file stands at its end.
            Step::End => return whole && rest.len() == binaryfile::HEADER_LEN,
            Step::NeedMore => {
                let plausible = match rest {
                    [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])) <= PLAUSIBLE_MESSAGE_BYTES,
                    _ => true,
                };
                return whole && records > 0 && plausible;
            }
        }
    }
    true
}
