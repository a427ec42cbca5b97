//! What can go wrong when a ring is created or attached.

use std::fmt;
use std::io;

/// Why a ring could not be created or attached. Reading and publishing cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// No ring of that name.
    NotFound,
    /// The name is empty.
    NameEmpty,
    /// The name is longer than `limit` bytes.
    NameTooLong {
        /// The longest name there may be, in bytes.
        limit: usize,
        /// The name's length in bytes.
        found: usize,
    },
    /// The name has a character other than ASCII letters, digits, `-`, `_` and `.`, or begins with `.`.
    NameCharacter {
        /// Where in the name, in bytes.
        offset: usize,
        /// The byte found there.
        found: u8,
    },
    /// The capacity is not a power of two between 2 and `limit`.
    Capacity {
        /// The largest capacity there may be, in slots.
        limit: u32,
        /// The capacity asked for, or found in a header.
        found: u32,
    },
    /// The instrument directory has no room, or more than `limit` entries.
    DirectoryCapacity {
        /// The largest directory there may be, in entries.
        limit: u32,
        /// The capacity asked for, or found in a header.
        found: u32,
    },
    /// The mode is neither 0o600 nor 0o640.
    Mode {
        /// The mode asked for.
        found: u32,
    },
    /// More statistics names than there are statistics.
    TooManyStatNames {
        /// How many there may be.
        limit: usize,
        /// How many were given.
        found: usize,
    },
    /// A statistic's name is empty, longer than 63 bytes or not printable ASCII.
    StatName {
        /// Which of the names.
        index: usize,
    },
    /// A live producer has this name.
    InUse {
        /// Its process id, in its own pid namespace; 0 where that is not known.
        pid: u64,
    },
    /// Not a regular file (a symbolic link, a directory, a socket).
    NotAFile,
    /// The file is somebody else's.
    Owner {
        /// The user id that it should have: ours, or the one that was asked for.
        expected: u32,
        /// The file's user id.
        found: u32,
    },
    /// The file does not begin like a ring: it is not ours to read or to replace.
    Magic {
        /// What a ring begins with.
        expected: [u8; 8],
        /// What this file begins with.
        found: [u8; 8],
    },
    /// The ring was made by another version of barewire.
    Version {
        /// The version of the layout that this build reads.
        expected: u32,
        /// The ring's.
        found: u32,
    },
    /// Same version, but the records have other fields.
    LayoutHash {
        /// This build's.
        expected: u64,
        /// The ring's.
        found: u64,
    },
    /// A field of the header has a value that cannot be.
    Header {
        /// Its name, as the documentation has it.
        field: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The file is shorter than its header says, or than a header.
    Truncated {
        /// How many bytes should be there.
        expected: u64,
        /// How many are.
        found: u64,
    },
    /// The file has holes where memory should be: no producer of ours made it.
    Sparse {
        /// How many bytes of memory it should have.
        expected: u64,
        /// How many it has.
        found: u64,
    },
    /// There is not enough shared memory.
    NoSpace {
        /// How many bytes were asked for.
        bytes: u64,
    },
    /// The operating system does not allow it.
    Permission {
        /// What was tried.
        operation: &'static str,
    },
    /// Another failure of the operating system.
    Os {
        /// What was tried.
        operation: &'static str,
        /// The error number.
        errno: i32,
    },
}

impl RingError {
    /// The variant's name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            RingError::NotFound => "not_found",
            RingError::NameEmpty => "name_empty",
            RingError::NameTooLong { .. } => "name_too_long",
            RingError::NameCharacter { .. } => "name_character",
            RingError::Capacity { .. } => "capacity",
            RingError::DirectoryCapacity { .. } => "directory_capacity",
            RingError::Mode { .. } => "mode",
            RingError::TooManyStatNames { .. } => "too_many_stat_names",
            RingError::StatName { .. } => "stat_name",
            RingError::InUse { .. } => "in_use",
            RingError::NotAFile => "not_a_file",
            RingError::Owner { .. } => "owner",
            RingError::Magic { .. } => "magic",
            RingError::Version { .. } => "version",
            RingError::LayoutHash { .. } => "layout_hash",
            RingError::Header { .. } => "header",
            RingError::Truncated { .. } => "truncated",
            RingError::Sparse { .. } => "sparse",
            RingError::NoSpace { .. } => "no_space",
            RingError::Permission { .. } => "permission",
            RingError::Os { .. } => "os",
        }
    }

    /// The error number, where the operating system gave one that has no variant of its own.
    pub const fn errno(self) -> Option<i32> {
        if let RingError::Os { errno, .. } = self { Some(errno) } else { None }
    }

    /// What the operating system said to `operation`.
    pub(crate) fn os(operation: &'static str, error: &io::Error) -> RingError {
        match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => RingError::Permission { operation },
            Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => RingError::NotAFile,
            errno => RingError::Os { operation, errno: errno.unwrap_or(0) },
        }
    }
}

impl fmt::Display for RingError {
    /// One line: what was expected and what was found.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RingError::NotFound => write!(f, "there is no ring of that name"),
            RingError::NameEmpty => write!(f, "the ring's name is empty"),
            RingError::NameTooLong { limit, found } => {
                write!(f, "the ring's name has {found} bytes, at most {limit} are allowed")
            }
            RingError::NameCharacter { offset, found } => write!(
                f,
                "the ring's name has '{}' at byte {offset}: letters, digits, '-', '_' and '.' are allowed, \
                 '.' not as the first",
                found.escape_ascii()
            ),
            RingError::Capacity { limit, found } => {
                write!(f, "the ring's capacity is {found} slots: a power of two from 2 to {limit} is needed")
            }
            RingError::DirectoryCapacity { limit, found } => {
                write!(f, "the instrument directory has {found} entries: 1 to {limit} are allowed")
            }
            RingError::Mode { found } => {
                write!(f, "the mode is {found:#o}: 0o600 (owner) and 0o640 (owner and group) are allowed")
            }
            RingError::TooManyStatNames { limit, found } => {
                write!(f, "{found} statistics were named, there is room for {limit}")
            }
            RingError::StatName { index } => {
                write!(f, "the name of statistic {index} is not 1 to 63 printable ASCII characters")
            }
            RingError::InUse { pid: 0 } => write!(f, "another producer has a ring of that name"),
            RingError::InUse { pid } => write!(f, "another producer, process {pid}, has a ring of that name"),
            RingError::NotAFile => write!(f, "what bears the ring's name is not a regular file"),
            RingError::Owner { expected, found } => {
                write!(f, "what bears the ring's name belongs to user {found}, expected user {expected}")
            }
            RingError::Magic { expected, found } => write!(
                f,
                "not a ring: it begins with \"{}\", a ring with \"{}\"",
                found.escape_ascii(),
                expected.escape_ascii()
            ),
            RingError::Version { expected, found } => {
                write!(f, "the ring has layout version {found}, this barewire reads version {expected}")
            }
            RingError::LayoutHash { expected, found } => {
                write!(f, "the ring's records have layout {found:#018x}, this barewire's have {expected:#018x}")
            }
            RingError::Header { field, expected, found } => {
                write!(f, "the ring's header is damaged: {field} is {found}, expected {expected}")
            }
            RingError::Truncated { expected, found } => {
                write!(f, "the ring is cut off: {expected} bytes expected, {found} found")
            }
            RingError::Sparse { expected, found } => {
                write!(f, "the ring's file has holes: {expected} bytes of memory expected, {found} found")
            }
            RingError::NoSpace { bytes } => {
                write!(f, "{bytes} bytes of shared memory were needed and are not to be had")
            }
            RingError::Permission { operation } => write!(f, "not permitted to {operation}"),
            RingError::Os { operation, errno } => {
                write!(f, "could not {operation}: {}", io::Error::from_raw_os_error(errno))
            }
        }
    }
}

impl std::error::Error for RingError {}

/// Why an instrument could not be entered in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Every entry is taken.
    Full {
        /// How many entries there are.
        capacity: u32,
    },
    /// The symbol is longer than an entry has room for.
    SymbolTooLong {
        /// The longest symbol there may be, in bytes.
        limit: usize,
        /// The symbol's length in bytes.
        found: usize,
    },
}

impl DirectoryError {
    /// The variant's name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            DirectoryError::Full { .. } => "full",
            DirectoryError::SymbolTooLong { .. } => "symbol_too_long",
        }
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DirectoryError::Full { capacity } => write!(f, "the ring's directory is full: {capacity} instruments"),
            DirectoryError::SymbolTooLong { limit, found } => {
                write!(f, "a symbol has {found} bytes, the ring's directory has room for {limit}")
            }
        }
    }
}

impl std::error::Error for DirectoryError {}
