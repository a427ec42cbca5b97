//! Capture files: reading pcap, pcapng and BinaryFILE, plain or compressed; writing pcap and BinaryFILE.
//!
//! # Specification
//!
//! - pcap: draft-ietf-opsawg-pcap; both byte orders, times in microseconds or nanoseconds.
//! - pcapng: draft-ietf-opsawg-pcapng; both byte orders, several sections and interfaces, every `if_tsresol` and
//!   `if_tsoffset`; packets in enhanced, simple and obsolete packet blocks, all others are skipped.
//! - BinaryFILE: see [`barewire_wire::binaryfile`].
//! - gzip (RFC 1952, of several members) and zstd (RFC 8878, of several frames) around any of these.
//!
//! # Contract
//!
//! A file is untrusted. Nothing in it makes reading panic, or take more memory than [`MAX_RECORD_BYTES`], the read
//! buffer and a decompressor's window (for zstd at most 128 MiB). What is whole is delivered; then [`Capture::end`] says
//! whether that was all, or at which byte the file is cut or damaged. Errors are for what could not be read at all.

mod binary;
mod detect;
mod end;
mod error;
mod frame;
mod input;
mod pcap;
mod pcapng;
mod source;
mod switch;
mod watched;
mod write;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub use binary::Messages;
pub use end::{Damage, End};
pub use error::{CaptureError, Head};
pub use frame::{Frame, LinkType};
pub use source::Compression;
pub use switch::{SwitchClock, SwitchTime, SwitchTimes};
pub use watched::{Look, Watched};
pub use write::{BinaryFileWriter, PcapWriter, WriteError};

use crate::packet::counters;
use input::Input;
use source::{Patience, Source};

/// The longest record or packet block that is believed; a longer one is taken for damage.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// pcap: frames.
    Pcap,
    /// pcapng: frames.
    PcapNg,
    /// BinaryFILE: a venue's messages.
    BinaryFile,
}

impl Format {
    /// The name that configuration and output use.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Pcap => "pcap",
            Format::PcapNg => "pcapng",
            Format::BinaryFile => "binaryfile",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read of the file as it lies on disk, compressed or not.
    pub read: u64,
    /// Its length; `None` where it has none, such as a pipe.
    pub total: Option<u64>,
}

counters! {
    /// What reading has counted. Every frame or message found ends in `frames`, `messages` or `bad_blocks`.
    CaptureCounters {
        /// Frames delivered.
        frames,
        /// Those of `frames` that the capture cut short (snaplen).
        truncated_frames,
        /// Messages delivered.
        messages,
        /// Bytes of frames and messages delivered.
        bytes,
        /// pcapng blocks that hold no packet; most files have some.
        skipped_blocks,
        /// pcapng packet blocks whose contents contradict themselves.
        bad_blocks,
    }
}

#[derive(Debug)]
enum Reader {
    Pcap(pcap::Reader),
    PcapNg(pcapng::Reader),
    Binary,
}

/// A capture file that is being read.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use barewire_io::capture::Capture;
/// let mut capture = Capture::open("day.pcap.gz")?;
/// while let Some(frame) = capture.next_frame()? {
///     println!("{} {:?}", frame.ts.0, frame.datagram());
/// }
/// println!("{}", capture.end());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Capture {
    input: Input,
    reader: Reader,
    end: End,
    counters: CaptureCounters,
}

impl Capture {
    /// Opens a file, whatever format and compression it has.
    ///
    /// # Errors
    ///
    /// [`CaptureError`], which says what was expected and what was found.
    pub fn open(path: impl AsRef<Path>) -> Result<Capture, CaptureError> {
        Self::open_path(path.as_ref(), None)
    }

    /// As [`open`](Self::open), for a file whose format is known and is not to be guessed.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_as(path: impl AsRef<Path>, format: Format) -> Result<Capture, CaptureError> {
        Self::open_path(path.as_ref(), Some(format))
    }

    fn open_path(path: &Path, format: Option<Format>) -> Result<Capture, CaptureError> {
        let cannot = |error| CaptureError::Open { path: path.to_owned(), error };
        let file = File::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if metadata.is_dir() {
            return Err(cannot(std::io::ErrorKind::IsADirectory.into()));
        }
        let total = metadata.is_file().then_some(metadata.len());
        Self::begin(Box::new(file), total, format, Patience::None)
    }

    /// Reads from anything, such as standard input. It need not be buffered.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_reader(reader: Box<dyn Read + Send>) -> Result<Capture, CaptureError> {
        Self::begin(reader, None, None, Patience::None)
    }

    /// As [`from_reader`](Self::from_reader), for a format that is known.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_reader_as(reader: Box<dyn Read + Send>, format: Format) -> Result<Capture, CaptureError> {
        Self::begin(reader, None, Some(format), Patience::None)
    }

    /// As [`open`](Self::open), for what may be a pipe: where nothing comes for some milliseconds `look` is asked, and
    /// once [`stop_waiting`](Self::stop_waiting) was called, reading fails as
    /// [`is_nothing_yet`](CaptureError::is_nothing_yet) tells.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); `look`'s own.
    pub fn open_watched(path: impl AsRef<Path>, format: Option<Format>, look: Look) -> Result<Capture, CaptureError> {
        let path = path.as_ref();
        let cannot = |error| CaptureError::Open { path: path.to_owned(), error };
        // Or a named pipe would be waited for already here. On files it has no effect.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if metadata.is_dir() {
            return Err(cannot(std::io::ErrorKind::IsADirectory.into()));
        }
        let total = metadata.is_file().then_some(metadata.len());
        let watched = Watched::new(file).map_err(cannot)?;
        Self::begin(Box::new(watched), total, format, Patience::Look(look))
    }

    /// As [`from_reader`](Self::from_reader), for a reader such as [`Watched`] that may have nothing yet
    /// ([`WouldBlock`](std::io::ErrorKind::WouldBlock)); otherwise as [`open_watched`](Self::open_watched).
    ///
    /// # Errors
    ///
    /// As [`open_watched`](Self::open_watched).
    pub fn from_watched(
        reader: Box<dyn Read + Send>,
        format: Option<Format>,
        look: Look,
    ) -> Result<Capture, CaptureError> {
        Self::begin(reader, None, format, Patience::Look(look))
    }

    /// From here on, what has not come yet is an error that says so, after which reading goes on where it was.
    pub fn stop_waiting(&mut self) {
        self.input.stop_waiting();
    }

    fn begin(
        reader: Box<dyn Read + Send>,
        total: Option<u64>,
        format: Option<Format>,
        patience: Patience,
    ) -> Result<Self, CaptureError> {
        let source = Source::new(reader, total, patience).map_err(|error| CaptureError::Read { offset: 0, error })?;
        let mut input = Input::new(source);
        let reader = match detect::detect(&mut input, format)? {
            Format::Pcap => Reader::Pcap(pcap::Reader::open(&mut input)?),
            Format::PcapNg => Reader::PcapNg(pcapng::Reader::open(&mut input)?),
            Format::BinaryFile => Reader::Binary,
        };
        Ok(Capture { input, reader, end: End::NotYet, counters: CaptureCounters::default() })
    }

    /// What the file holds.
    pub fn format(&self) -> Format {
        match &self.reader {
            Reader::Pcap(_) => Format::Pcap,
            Reader::PcapNg(_) => Format::PcapNg,
            Reader::Binary => Format::BinaryFile,
        }
    }

    /// How the file is compressed.
    pub fn compression(&self) -> Compression {
        self.input.compression()
    }

    /// How far reading has come.
    pub fn progress(&self) -> Progress {
        self.input.progress()
    }

    /// How the file ended; [`End::NotYet`] until it has.
    pub fn end(&self) -> End {
        self.end
    }

    /// What has been counted so far.
    pub fn counters(&self) -> CaptureCounters {
        self.counters
    }

    /// The next frame of a pcap or pcapng file; `None` at its [`end`](Self::end).
    ///
    /// # Errors
    ///
    /// [`CaptureError::NoFrames`] for a BinaryFILE; [`CaptureError::Read`] where the operating system cannot read on.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        if self.end != End::NotYet {
            return Ok(None);
        }
        let found = match &mut self.reader {
            Reader::Pcap(reader) => reader.next(&mut self.input),
            Reader::PcapNg(reader) => reader.next(&mut self.input, &mut self.counters),
            Reader::Binary => return Err(CaptureError::NoFrames),
        };
        match found.map_err(|error| CaptureError::Read { offset: self.input.offset(), error })? {
            Ok(place) => {
                let frame = Frame {
                    ts: place.ts,
                    link: place.link,
                    data: self.input.taken(place.record_len, place.data),
                    original_len: place.original_len,
                };
                self.counters.frames += 1;
                self.counters.bytes += frame.data.len() as u64;
                self.counters.truncated_frames += u64::from(frame.is_truncated());
                Ok(Some(frame))
            }
            Err(end) => {
                self.end = end;
                Ok(None)
            }
        }
    }

    /// The next batch of a BinaryFILE's messages, at least one; `None` at its [`end`](Self::end).
    ///
    /// The messages lie in the read buffer and are found as they are iterated over; those that are not iterated over
    /// come again in the next batch.
    ///
    /// # Errors
    ///
    /// [`CaptureError::NoMessages`] for pcap and pcapng; [`CaptureError::Read`] where the operating system cannot read
    /// on.
    pub fn next_messages(&mut self) -> Result<Option<Messages<'_>>, CaptureError> {
        if !matches!(self.reader, Reader::Binary) {
            return Err(CaptureError::NoMessages { format: self.format() });
        }
        if self.end != End::NotYet {
            return Ok(None);
        }
        match binary::ready(&mut self.input) {
            Ok(None) => {
                let (bytes, consumed) = self.input.split();
                Ok(Some(Messages::new(bytes, consumed, &mut self.counters)))
            }
            Ok(Some(end)) => {
                self.end = end;
                Ok(None)
            }
            Err(error) => Err(CaptureError::Read { offset: self.input.offset(), error }),
        }
    }
}
