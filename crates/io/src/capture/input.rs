//! A window on the uncompressed bytes, in one buffer that is filled again and again.

use std::fmt;
use std::io;
use std::ops::Range;

use super::source::{Source, SourceEnd};
use super::{Compression, Damage, End, MAX_RECORD_BYTES, Progress};

/// Bytes that the buffer holds, unless a record is longer: few enough to stay in the second-level cache, and enough to
/// make reads rare.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) struct Input {
    source: Source,
    buffer: Vec<u8>,
    /// What has been read and not yet consumed: `start..filled` of `buffer`.
    start: usize,
    filled: usize,
    /// Where `buffer[0]` lies in the uncompressed file.
    base: u64,
    end: Option<SourceEnd>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Input");
        out.field("source", &self.source).field("offset", &self.offset()).field("available", &self.available().len());
        out.field("end", &self.end).finish_non_exhaustive()
    }
}

impl Input {
    pub(super) fn new(source: Source) -> Input {
        Input { source, buffer: vec![0; BUFFER_BYTES], start: 0, filled: 0, base: 0, end: None }
    }

    pub(super) fn compression(&self) -> Compression {
        self.source.compression()
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { read: self.source.file_offset(), total: self.source.total() }
    }

    pub(super) fn stop_waiting(&mut self) {
        self.source.stop_waiting();
    }

    /// Where the next byte lies in the uncompressed file.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// What has been read and not yet consumed.
    #[inline]
    pub(super) fn available(&self) -> &[u8] {
        self.buffer.get(self.start..self.filled).unwrap_or_default()
    }

    /// The same, with what is to be raised by the number of bytes that are used of it.
    pub(super) fn split(&mut self) -> (&[u8], &mut usize) {
        (self.buffer.get(self.start..self.filled).unwrap_or_default(), &mut self.start)
    }

    /// Reads until `len` bytes are available. `false`: the source ended before.
    ///
    /// # Errors
    ///
    /// The operating system's.
    #[inline]
    pub(super) fn need(&mut self, len: usize) -> io::Result<bool> {
        if self.filled - self.start >= len { Ok(true) } else { self.read_until(len) }
    }

    #[cold]
    fn read_until(&mut self, len: usize) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.base += self.start as u64;
        self.filled -= self.start;
        self.start = 0;
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        while self.filled < len && self.end.is_none() {
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            match self.source.read(room)? {
                Ok(count) => self.filled += count,
                Err(end) => self.end = Some(end),
            }
        }
        Ok(self.filled >= len)
    }

    /// Marks `len` bytes as used; they were available.
    #[inline]
    pub(super) fn consume(&mut self, len: usize) {
        self.start = (self.start + len).min(self.filled);
    }

    /// Part of the `len` bytes that were consumed last.
    #[inline]
    pub(super) fn taken(&self, len: usize, part: Range<usize>) -> &[u8] {
        let record = self.start.checked_sub(len).and_then(|from| self.buffer.get(from..self.start));
        record.and_then(|record| record.get(part)).unwrap_or_default()
    }

    /// Passes over `left` bytes, however many, and says whether there were so many. `left` says how many are still to
    /// come, at the end of the source and after an error too.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub(super) fn skip(&mut self, left: &mut u64) -> io::Result<bool> {
        while *left > 0 {
            if !self.need(1)? {
                return Ok(false);
            }
            let some = usize::try_from(*left).unwrap_or(usize::MAX).min(self.available().len());
            self.consume(some);
            *left -= some as u64;
        }
        Ok(true)
    }

    /// The end that has come before a record of `expected` bytes, of which the `passed` ones before the available ones
    /// have been consumed.
    pub(super) fn end(&self, expected: u64, passed: u64) -> End {
        let offset = self.offset() - passed;
        let found = passed + self.available().len() as u64;
        let (compression, file_offset) = (self.source.compression(), self.source.file_offset());
        match self.end {
            Some(SourceEnd::Cut) => End::CompressionCut { compression, file_len: file_offset, offset, found },
            Some(SourceEnd::Damaged) => End::CompressionDamaged { compression, file_offset, offset: offset + found },
            _ if found == 0 => End::Complete,
            _ => End::Cut { offset, expected, found },
        }
    }

    pub(super) fn damaged(&self, damage: Damage) -> End {
        End::Damaged { offset: self.offset(), damage }
    }

    /// How the source itself ended, where it has.
    pub(super) fn source_end(&self) -> Option<SourceEnd> {
        self.end
    }

    /// Whether a record of this length is believed.
    pub(super) fn believe(len: u64) -> Result<usize, Damage> {
        match usize::try_from(len) {
            Ok(len) if len <= MAX_RECORD_BYTES => Ok(len),
            _ => Err(Damage::RecordTooLong { len }),
        }
    }
}
