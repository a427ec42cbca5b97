//! Names of rings, and the files that bear them.

use crate::RingError;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where named rings are.
const DIRECTORY: &str = "/dev/shm";
/// What their files' names begin with.
const PREFIX: &str = "barewire.";
/// The longest name of a ring, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// A file by its identity, which no other file has while this one is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> FileId {
        FileId { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A name that can be a ring's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RingName(String);

impl RingName {
    /// Checks the name: 1 to 64 ASCII letters, digits, `-`, `_` and `.`, the first not `.`. So it is one component of a
    /// path, and cannot be hidden or leave the directory.
    pub(crate) fn new(name: &str) -> Result<RingName, RingError> {
        if name.is_empty() {
            return Err(RingError::NameEmpty);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(RingError::NameTooLong { limit: MAX_NAME_BYTES, found: name.len() });
        }
        for (offset, found) in name.bytes().enumerate() {
            let fine = found.is_ascii_alphanumeric() || matches!(found, b'-' | b'_') || (found == b'.' && offset > 0);
            if !fine {
                return Err(RingError::NameCharacter { offset, found });
            }
        }
        Ok(RingName(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The ring's file.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(format!("{PREFIX}{}", self.0))
    }

    /// Where a ring of this name is made before it is moved to [`path`](Self::path).
    pub(crate) fn path_of_next(&self) -> PathBuf {
        Path::new(DIRECTORY).join(format!(".{PREFIX}{}.next", self.0))
    }
}

/// The names of the rings on this machine, live or left behind, in order. What merely looks like a ring is among them.
pub fn ring_names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(DIRECTORY)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX))
            && RingName::new(name).is_ok()
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Options that neither follow a symbolic link nor wait for the other end of a pipe.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    options
}

/// The metadata of an open file, which must be a regular one.
pub(crate) fn regular(file: &File) -> Result<Metadata, RingError> {
    let metadata = file.metadata().map_err(|error| RingError::os("look at the ring's file", &error))?;
    if !metadata.is_file() {
        return Err(RingError::NotAFile);
    }
    Ok(metadata)
}

/// Which file bears this path now.
pub(crate) fn bearer(path: &Path) -> Option<FileId> {
    path.symlink_metadata().ok().map(|metadata| FileId::from(&metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "itch.nasdaq-1_A", &"x".repeat(MAX_NAME_BYTES)] {
            assert_eq!(RingName::new(good).unwrap().as_str(), good);
        }
        assert_eq!(RingName::new(""), Err(RingError::NameEmpty));
        assert_eq!(RingName::new(&"x".repeat(65)), Err(RingError::NameTooLong { limit: 64, found: 65 }));
        for (bad, offset, found) in
            [("../x", 0, b'.'), (".x", 0, b'.'), ("a/b", 1, b'/'), ("a\0", 1, 0), ("a b", 1, b' '), ("\u{e9}", 0, 0xc3)]
        {
            assert_eq!(RingName::new(bad), Err(RingError::NameCharacter { offset, found }), "{bad:?}");
        }
    }
}
