//! How a file ended.

use std::fmt;

use super::{Compression, MAX_RECORD_BYTES};

/// How a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// It has not ended yet.
    NotYet,
    /// Where a record ended: nothing is missing, as far as a file can tell.
    Complete,
    /// Within a record.
    Cut {
        /// Where the record begins, in bytes of the uncompressed file.
        offset: u64,
        /// Bytes that the record has, as far as what there is of it tells.
        expected: u64,
        /// Bytes of it that there are.
        found: u64,
    },
    /// The compressed stream ends before its own end.
    CompressionCut {
        /// Which compression.
        compression: Compression,
        /// Length of the file as it lies on disk, in bytes.
        file_len: u64,
        /// Where the first record that is not whole begins, in bytes of the uncompressed file.
        offset: u64,
        /// Bytes of that record that there are.
        found: u64,
    },
    /// At a record that cannot be.
    Damaged {
        /// Where the record begins, in bytes of the uncompressed file.
        offset: u64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The compressed stream contradicts itself, or its checksum fails.
    CompressionDamaged {
        /// Which compression.
        compression: Compression,
        /// About where, in bytes of the file as it lies on disk.
        file_offset: u64,
        /// Bytes of the uncompressed file before that.
        offset: u64,
    },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// It claims to be longer than [`MAX_RECORD_BYTES`].
    RecordTooLong {
        /// The length that it claims, in bytes.
        len: u64,
    },
    /// A pcapng block's length is under 12, under what its type needs, or no multiple of 4.
    BadBlockLength {
        /// The length.
        len: u32,
    },
    /// The lengths before and behind a pcapng block differ.
    BlockLengthsDiffer {
        /// The one before.
        first: u32,
        /// The one behind.
        last: u32,
    },
    /// A pcapng section or interface that makes no sense.
    BadSection,
    /// More interfaces in one pcapng section than are believed.
    TooManyInterfaces,
    /// Bytes behind the record that ends a BinaryFILE.
    BytesBehindEnd,
}

impl Damage {
    /// Name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Damage::RecordTooLong { .. } => "record_too_long",
            Damage::BadBlockLength { .. } => "bad_block_length",
            Damage::BlockLengthsDiffer { .. } => "block_lengths_differ",
            Damage::BadSection => "bad_section",
            Damage::TooManyInterfaces => "too_many_interfaces",
            Damage::BytesBehindEnd => "bytes_behind_end",
        }
    }
}

impl End {
    /// Name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            End::NotYet => "not_yet",
            End::Complete => "complete",
            End::Cut { .. } => "cut",
            End::CompressionCut { .. } => "compression_cut",
            End::Damaged { .. } => "damaged",
            End::CompressionDamaged { .. } => "compression_damaged",
        }
    }

    /// Whether something is missing.
    pub const fn is_early(self) -> bool {
        !matches!(self, End::NotYet | End::Complete)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::RecordTooLong { len } => {
                write!(f, "a record claims {len} bytes, over the limit of {MAX_RECORD_BYTES}")
            }
            Damage::BadBlockLength { len } => write!(f, "a pcapng block cannot have {len} bytes"),
            Damage::BlockLengthsDiffer { first, last } => {
                write!(f, "a pcapng block claims {first} bytes before and {last} behind")
            }
            Damage::BadSection => f.write_str("a pcapng section or interface header makes no sense"),
            Damage::TooManyInterfaces => f.write_str("more interfaces in a pcapng section than are believed"),
            Damage::BytesBehindEnd => f.write_str("bytes follow the zero-length record that ends a BinaryFILE"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::NotYet => f.write_str("not read to its end"),
            End::Complete => f.write_str("complete"),
            End::Cut { offset, expected, found } => {
                write!(f, "cut within the record at byte {offset}: expected {expected} bytes, found {found}")
            }
            End::CompressionCut { compression, file_len, offset, found } => write!(
                f,
                "the {compression} stream is cut at the file's end, byte {file_len}; uncompressed, the record at byte \
                 {offset} is not whole: found {found} bytes"
            ),
            End::Damaged { offset, damage } => write!(f, "damaged at byte {offset}: {damage}"),
            End::CompressionDamaged { compression, file_offset, offset } => write!(
                f,
                "the {compression} stream is damaged near byte {file_offset} of the file, {offset} bytes into what it \
                 holds"
            ),
        }
    }
}
