//! Why a capture could not be read at all.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{Compression, Format};

/// The first bytes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; Head::LEN],
    len: usize,
}

impl Head {
    /// Bytes that are kept.
    pub const LEN: usize = 16;

    pub(super) fn of(data: &[u8]) -> Head {
        let mut head = Head { bytes: [0; Head::LEN], len: data.len().min(Head::LEN) };
        head.bytes.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        head
    }

    /// At most the first [`LEN`](Self::LEN) bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// What files that begin so usually are.
    pub fn looks_like(&self) -> Option<&'static str> {
        const KNOWN: &[(&[u8], &str)] = &[
            (b"\x89PNG", "a PNG image"),
            (b"PK\x03\x04", "a zip archive"),
            (b"\x7fELF", "a program"),
            (b"BZh", "bzip2: decompress it first"),
            (b"\xfd7zXZ", "xz: decompress it first"),
            (b"\x04\x22\x4d\x18", "lz4: decompress it first"),
            (b"PAR1", "Parquet"),
            (b"DBN", "Databento's DBN"),
            (b"\x93NUMPY", "a NumPy array"),
            (b"%PDF", "a PDF"),
            (b"SQLite format 3", "an SQLite database"),
            (b"\x34\xcd\xb2\xa1", "a pcap of Kuznetzov's modified libpcap: convert it with editcap -F pcap"),
            (b"\xa1\xb2\xcd\x34", "a pcap of Kuznetzov's modified libpcap: convert it with editcap -F pcap"),
        ];
        let bytes = self.bytes();
        if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
            return Some(name);
        }
        let text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        (!bytes.is_empty() && bytes.iter().all(text)).then_some("text")
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().enumerate().try_for_each(|(at, byte)| {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{byte:02x}")
        })?;
        write!(f, " \"{}\"", self.bytes().escape_ascii())?;
        self.looks_like().map_or(Ok(()), |name| write!(f, ", as {name} does"))
    }
}

/// Why a capture could not be read at all.
#[derive(Debug)]
#[non_exhaustive]
pub enum CaptureError {
    /// The file could not be opened.
    Open {
        /// Which file.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The operating system could not read on.
    Read {
        /// Bytes of the uncompressed file before that.
        offset: u64,
        /// Its reason.
        error: io::Error,
    },
    /// There is nothing in it.
    Empty {
        /// How it is compressed.
        compression: Compression,
    },
    /// It is of no format known here.
    Unrecognised {
        /// How it is compressed.
        compression: Compression,
        /// What it begins with, uncompressed.
        found: Head,
    },
    /// It is not of the format that was asked for.
    OtherFormat {
        /// The format asked for.
        expected: Format,
        /// What it begins with, uncompressed.
        found: Head,
    },
    /// It ends within the header of its format.
    HeaderCut {
        /// The format.
        format: Format,
        /// Bytes that the header has.
        expected: u64,
        /// Bytes of it that there are.
        found: u64,
    },
    /// Its format's header contradicts itself.
    BadHeader {
        /// The format.
        format: Format,
        /// What it begins with, uncompressed.
        found: Head,
    },
    /// The compressed stream is cut or damaged so early that nothing shows what it holds.
    Decompress {
        /// Which compression.
        compression: Compression,
        /// About where, in bytes of the file as it lies on disk.
        file_offset: u64,
    },
    /// Frames were asked for of a BinaryFILE, which has none.
    NoFrames,
    /// Messages were asked for of a file that holds frames.
    NoMessages {
        /// The file's format.
        format: Format,
    },
}

impl CaptureError {
    /// Whether nothing is wrong, but nothing has come yet either: reading can be tried again, and goes on where it was.
    pub fn is_nothing_yet(&self) -> bool {
        matches!(self, CaptureError::Read { error, .. } if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EXPECTED: &str = "expected pcap, pcapng or BinaryFILE, plain or within gzip or zstd";
        match self {
            CaptureError::Open { path, error } => write!(f, "cannot open {}: {error}", path.display()),
            CaptureError::Read { offset, error } => write!(f, "cannot read on at byte {offset}: {error}"),
            CaptureError::Empty { compression: Compression::None } => write!(f, "the file is empty: {EXPECTED}"),
            CaptureError::Empty { compression } => {
                write!(f, "the {compression} stream is empty: {EXPECTED}")
            }
            CaptureError::Unrecognised { compression: Compression::None, found } => {
                write!(f, "not a capture: {EXPECTED}; found a file that begins with {found}")
            }
            CaptureError::Unrecognised { compression, found } => {
                write!(f, "not a capture: {EXPECTED}; found {compression} around what begins with {found}")
            }
            CaptureError::OtherFormat { expected, found } => {
                write!(f, "not {expected}: found a file that begins with {found}; name another format or none")
            }
            CaptureError::HeaderCut { format, expected, found } => {
                write!(f, "the file ends within its {format} header: expected {expected} bytes, found {found}")
            }
            CaptureError::BadHeader { format, found } => {
                write!(f, "the {format} header makes no sense: it begins with {found}")
            }
            CaptureError::Decompress { compression, file_offset } => {
                write!(
                    f,
                    "the {compression} stream is cut or damaged near byte {file_offset}, before its contents show"
                )
            }
            CaptureError::NoFrames => f.write_str("a BinaryFILE holds messages, not frames: read it by messages"),
            CaptureError::NoMessages { format } => {
                write!(f, "a {format} file holds frames, not messages: read it by frames")
            }
        }
    }
}

impl std::error::Error for CaptureError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CaptureError::Open { error, .. } | CaptureError::Read { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<CaptureError> for io::Error {
    /// Keeps the operating system's own error where it was that.
    fn from(error: CaptureError) -> io::Error {
        match error {
            CaptureError::Open { error, .. } | CaptureError::Read { error, .. } => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}
