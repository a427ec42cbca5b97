//! pcap records.

use std::io;

use barewire_types::UnixNanos;
use pcap_parser::nom::{Err as Nom, IResult, Needed};
use pcap_parser::{LegacyPcapBlock, PcapError, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_header};

use super::error::{CaptureError, Head};
use super::frame::{LinkType, Place};
use super::input::Input;
use super::{End, Format};

/// Bytes of the file's header.
const FILE_HEADER: usize = 24;
/// Bytes before a record's frame.
const RECORD_HEADER: usize = 16;

type Parse = for<'a> fn(&'a [u8]) -> IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>>;

/// What a pcap file's header says.
#[derive(Debug)]
pub(super) struct Reader {
    parse: Parse,
    link: LinkType,
    /// Nanoseconds of one unit of a record's fraction of a second.
    unit: u64,
}

impl Reader {
    pub(super) fn open(input: &mut Input) -> Result<Reader, CaptureError> {
        let whole = input.need(FILE_HEADER).map_err(|error| CaptureError::Read { offset: 0, error })?;
        let bytes = input.available();
        if !whole {
            let (expected, found) = (FILE_HEADER as u64, bytes.len() as u64);
            return Err(CaptureError::HeaderCut { format: Format::Pcap, expected, found });
        }
        let Ok((_, header)) = parse_pcap_header(bytes) else {
            return Err(CaptureError::BadHeader { format: Format::Pcap, found: Head::of(bytes) });
        };
        let reader = Reader {
            parse: if header.is_bigendian() { parse_pcap_frame_be } else { parse_pcap_frame },
            // The upper half tells of frame check sequences.
            link: LinkType::from_number(header.network.0 as u16),
            unit: if header.is_nanosecond_precision() { 1 } else { 1000 },
        };
        input.consume(FILE_HEADER);
        Ok(reader)
    }

    /// Consumes the next record and says where its frame lies.
    #[inline]
    pub(super) fn next(&mut self, input: &mut Input) -> io::Result<Result<Place, End>> {
        let mut len = RECORD_HEADER;
        loop {
            if !input.need(len)? {
                return Ok(Err(input.end(len as u64, 0)));
            }
            match (self.parse)(input.available()) {
                Ok((_, record)) => {
                    let time = u64::from(record.ts_sec) * 1_000_000_000 + u64::from(record.ts_usec) * self.unit;
                    let record_len = RECORD_HEADER + record.data.len();
                    let place = Place {
                        ts: UnixNanos(time),
                        link: self.link,
                        original_len: record.origlen,
                        record_len,
                        data: RECORD_HEADER..record_len,
                    };
                    input.consume(record_len);
                    return Ok(Ok(place));
                }
                Err(Nom::Incomplete(Needed::Size(more))) => {
                    match Input::believe(input.available().len() as u64 + more.get() as u64) {
                        Ok(needed) => len = needed,
                        Err(damage) => return Ok(Err(input.damaged(damage))),
                    }
                }
                // The parser has no other failure; if it had, the record would be as good as lost.
                Err(_) => return Ok(Err(input.end(len as u64, 0))),
            }
        }
    }
}
