//! Writing pcap and BinaryFILE.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddrV4;
use std::path::Path;

use barewire_types::UnixNanos;
use barewire_wire::binaryfile;
use barewire_wire::frame::{MAX_PAYLOAD_LEN, UDP_HEADERS_LEN, encode_headers};

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Why something could not be written to a capture.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// The operating system's reason. What was written before may be incomplete.
    Os(io::Error),
    /// Longer than the format can hold, or empty where that means the end. Nothing was written.
    BadLength {
        /// The length, in bytes.
        len: usize,
        /// The least that can be written.
        min: usize,
        /// The most that can be written.
        max: usize,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Os(error) => write!(f, "cannot write: {error}"),
            WriteError::BadLength { len, min, max } => write!(f, "cannot write {len} bytes: expected {min} to {max}"),
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WriteError::Os(error) => Some(error),
            WriteError::BadLength { .. } => None,
        }
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        WriteError::Os(error)
    }
}

/// Writes a pcap of Ethernet frames with times in nanoseconds.
///
/// Dropping it writes what is still collected, and cannot say when that fails: [`finish`](Self::finish) can.
#[derive(Debug)]
pub struct PcapWriter<W: Write = File> {
    out: BufWriter<W>,
}

impl PcapWriter {
    /// Creates a file, or empties one.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn create(path: impl AsRef<Path>) -> Result<PcapWriter, WriteError> {
        PcapWriter::new(File::create(path)?)
    }
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file's header.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn new(out: W) -> Result<PcapWriter<W>, WriteError> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        out.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
        out.write_all(&2u16.to_le_bytes())?;
        out.write_all(&4u16.to_le_bytes())?;
        // Time zone and accuracy, which nobody uses.
        out.write_all(&[0; 8])?;
        out.write_all(&262_144_u32.to_le_bytes())?;
        out.write_all(&1u32.to_le_bytes())?;
        Ok(PcapWriter { out })
    }

    /// Writes a datagram as a whole frame.
    ///
    /// # Errors
    ///
    /// [`WriteError::BadLength`] over 65,507 bytes; else the operating system's.
    pub fn write_datagram(
        &mut self,
        ts: UnixNanos,
        src: SocketAddrV4,
        dst: SocketAddrV4,
        payload: &[u8],
    ) -> Result<(), WriteError> {
        let mut headers = [0; UDP_HEADERS_LEN];
        encode_headers(&mut headers, src, dst, payload).map_err(|_| WriteError::BadLength {
            len: payload.len(),
            min: 0,
            max: MAX_PAYLOAD_LEN,
        })?;
        self.record(ts, headers.len() + payload.len())?;
        self.out.write_all(&headers)?;
        self.out.write_all(payload)?;
        Ok(())
    }

    /// Writes an Ethernet frame.
    ///
    /// # Errors
    ///
    /// [`WriteError::BadLength`] over 262,144 bytes; else the operating system's.
    pub fn write_frame(&mut self, ts: UnixNanos, frame: &[u8]) -> Result<(), WriteError> {
        const MAX: usize = 262_144;
        if frame.len() > MAX {
            return Err(WriteError::BadLength { len: frame.len(), min: 0, max: MAX });
        }
        self.record(ts, frame.len())?;
        self.out.write_all(frame)?;
        Ok(())
    }

    fn record(&mut self, ts: UnixNanos, len: usize) -> io::Result<()> {
        // Seconds last until 2106, as the format has 32 bits for them.
        let seconds = u32::try_from(ts.0 / 1_000_000_000).unwrap_or(u32::MAX);
        let nanos = (ts.0 % 1_000_000_000) as u32;
        for word in [seconds, nanos, len as u32, len as u32] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        Ok(())
    }

    /// Writes what is still collected and returns the file.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn finish(self) -> Result<W, WriteError> {
        finish(self.out)
    }
}

/// Writes a BinaryFILE.
///
/// Dropping it writes what is still collected, and cannot say when that fails: [`finish`](Self::finish) can.
#[derive(Debug)]
pub struct BinaryFileWriter<W: Write = File> {
    out: BufWriter<W>,
}

impl BinaryFileWriter {
    /// Creates a file, or empties one.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn create(path: impl AsRef<Path>) -> Result<BinaryFileWriter, WriteError> {
        Ok(BinaryFileWriter::new(File::create(path)?))
    }
}

impl<W: Write> BinaryFileWriter<W> {
    /// Writes to `out`, which needs no buffer of its own.
    pub fn new(out: W) -> BinaryFileWriter<W> {
        BinaryFileWriter { out: BufWriter::with_capacity(BUFFER_BYTES, out) }
    }

    /// Writes one message.
    ///
    /// # Errors
    ///
    /// [`WriteError::BadLength`] for no bytes and for over 65,535; else the operating system's.
    #[inline]
    pub fn write_message(&mut self, message: &[u8]) -> Result<(), WriteError> {
        let Some(len) = u16::try_from(message.len()).ok().filter(|len| *len != 0) else {
            return Err(WriteError::BadLength { len: message.len(), min: 1, max: u16::MAX.into() });
        };
        self.out.write_all(&len.to_be_bytes())?;
        self.out.write_all(message)?;
        Ok(())
    }

    /// Writes the record that ends a file, and what is still collected, and returns the file.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn finish_with_end(mut self) -> Result<W, WriteError> {
        self.out.write_all(&binaryfile::END)?;
        finish(self.out)
    }

    /// Writes what is still collected and returns the file.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn finish(self) -> Result<W, WriteError> {
        finish(self.out)
    }
}

fn finish<W: Write>(out: BufWriter<W>) -> Result<W, WriteError> {
    let mut inner = out.into_inner().map_err(|error| WriteError::Os(error.into_error()))?;
    inner.flush()?;
    Ok(inner)
}
