//! The bytes of a file, decompressed.

use std::fmt;
use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::watched::Look;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

impl Compression {
    /// The name that configuration and output use.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a source came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceEnd {
    /// There is no more.
    Whole,
    /// The compressed stream is cut.
    Cut,
    /// The compressed stream is damaged.
    Damaged,
}

/// What is done where the reader has nothing yet ([`io::ErrorKind::WouldBlock`]).
pub(super) enum Patience {
    /// Ask, and go on waiting.
    Look(Look),
    /// Say so: reading can be tried again, and goes on where it was.
    None,
}

/// Counts what it reads, and keeps the reader's own errors apart from a decompressor's.
struct Counted {
    inner: Box<dyn Read + Send>,
    read: u64,
    failed: bool,
    patience: Patience,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(into) {
                Ok(count) => {
                    self.read += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let looked = match &mut self.patience {
                        Patience::Look(look) if error.kind() == io::ErrorKind::WouldBlock => look(),
                        _ => Err(error),
                    };
                    self.failed = looked.is_err();
                    looked?;
                }
            }
        }
    }
}

/// Compressed input is read in pieces of so many bytes.
const COMPRESSED_PIECE: usize = 256 << 10;

/// A plain file needs no buffer of its own: only as much as tells the compression.
const MAGIC_LEN: usize = 4;

enum Stream {
    Plain(BufReader<Counted>),
    Gzip(Box<MultiGzDecoder<BufReader<Counted>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Counted>>>),
}

/// A file's uncompressed bytes, with its position on disk.
pub(super) struct Source {
    stream: Stream,
    total: Option<u64>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("compression", &self.compression())
            .field("file_offset", &self.file_offset())
            .finish()
    }
}

impl Source {
    pub(super) fn new(inner: Box<dyn Read + Send>, total: Option<u64>, patience: Patience) -> io::Result<Source> {
        let mut counted = Counted { inner, read: 0, failed: false, patience };
        let mut magic = Vec::with_capacity(MAGIC_LEN);
        counted.by_ref().take(MAGIC_LEN as u64).read_to_end(&mut magic)?;
        let compression = match *magic.as_slice() {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // A frame, or one that decoders skip and that parallel compressors begin with.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Compression::Zstd,
            _ => Compression::None,
        };
        // What was read is put back in front.
        let Counted { inner, patience, .. } = counted;
        let inner = Box::new(io::Cursor::new(magic).chain(inner));
        let counted = Counted { inner, read: 0, failed: false, patience };
        let stream = match compression {
            Compression::None => Stream::Plain(BufReader::with_capacity(MAGIC_LEN, counted)),
            Compression::Gzip => {
                Stream::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(COMPRESSED_PIECE, counted))))
            }
            Compression::Zstd => {
                let reader = BufReader::with_capacity(COMPRESSED_PIECE, counted);
                Stream::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(reader)?))
            }
        };
        Ok(Source { stream, total })
    }

    pub(super) fn compression(&self) -> Compression {
        match &self.stream {
            Stream::Plain(_) => Compression::None,
            Stream::Gzip(_) => Compression::Gzip,
            Stream::Zstd(_) => Compression::Zstd,
        }
    }

    fn file(&self) -> &BufReader<Counted> {
        match &self.stream {
            Stream::Plain(file) => file,
            Stream::Gzip(decoder) => decoder.get_ref(),
            Stream::Zstd(decoder) => decoder.get_ref(),
        }
    }

    fn file_mut(&mut self) -> &mut Counted {
        match &mut self.stream {
            Stream::Plain(file) => file.get_mut(),
            Stream::Gzip(decoder) => decoder.get_mut().get_mut(),
            Stream::Zstd(decoder) => decoder.get_mut().get_mut(),
        }
    }

    pub(super) fn stop_waiting(&mut self) {
        self.file_mut().patience = Patience::None;
    }

    /// Bytes of the file that have been used.
    pub(super) fn file_offset(&self) -> u64 {
        let file = self.file();
        file.get_ref().read - file.buffer().len() as u64
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// Reads some bytes, at least one unless the source has ended.
    ///
    /// # Errors
    ///
    /// The operating system's. A compressed stream that is cut or damaged is an end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Result<usize, SourceEnd>> {
        // An error before this one was told then.
        self.file_mut().failed = false;
        let result = match &mut self.stream {
            Stream::Plain(file) => file.read(into),
            Stream::Gzip(decoder) => decoder.read(into),
            Stream::Zstd(decoder) => decoder.read(into),
        };
        match result {
            Ok(0) => Ok(Err(SourceEnd::Whole)),
            Ok(count) => Ok(Ok(count)),
            Err(error) if self.file().get_ref().failed => Err(error),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err(SourceEnd::Cut)),
            Err(_) => Ok(Err(SourceEnd::Damaged)),
        }
    }
}
