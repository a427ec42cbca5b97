//! Memory mappings and file locks: this crate's system calls.

use crate::layout::{
    DIRECTORY_COUNT_OFFSET, DIRECTORY_ENTRY_BYTES, DIRECTORY_OFFSET, HEARTBEAT_OFFSET, Layout, PUBLISHED_OFFSET,
    STAT_NAME_BYTES, STAT_NAMES_OFFSET, STATE_OFFSET, STATS_OFFSET, STATS_WORDS,
};
use crate::protocol::Slots;
use crate::sync::AtomicU64;
use crate::{EVENT_WORDS, RingError};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;

/// What a mapping may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// A reader's: a store to it would be a fault, so nothing here hands one out.
    ReadOnly,
    /// The producer's.
    ReadWrite,
}

/// A ring's memory, mapped.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    layout: Layout,
    access: Access,
}

// SAFETY: the memory is reached only through atomics, and unmapped by whoever drops the mapping.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file that holds (reader) or will hold (producer) a ring of this layout, and touches every page so that
    /// neither the first lap nor a full file system can interrupt the hot path.
    pub(crate) fn new(file: &File, layout: Layout, access: Access) -> Result<Mapping, RingError> {
        let bytes = layout.total_bytes();
        let protection = match access {
            Access::ReadOnly => libc::PROT_READ,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::ENOMEM) => RingError::NoSpace { bytes: bytes as u64 },
                _ => RingError::os("map the ring", &error),
            });
        }
        let base =
            NonNull::new(base.cast::<u8>()).ok_or(RingError::Os { operation: "map the ring", errno: libc::EFAULT })?;
        let mapping = Mapping { base, layout, access };
        mapping.populate(file)?;
        Ok(mapping)
    }

    fn populate(&self, file: &File) -> Result<(), RingError> {
        let bytes = self.layout.total_bytes();
        // Advice only: most kernels keep huge pages from shared memory unless told otherwise.
        // SAFETY: the range is this mapping.
        unsafe { libc::madvise(self.base.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        let advice = match self.access {
            Access::ReadOnly => libc::MADV_POPULATE_READ,
            Access::ReadWrite => libc::MADV_POPULATE_WRITE,
        };
        // SAFETY: as above; populating changes no contents, and reports where touching a page would be a fault.
        let rc = unsafe { libc::madvise(self.base.as_ptr().cast(), bytes, advice) };
        if rc != 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // A kernel before 5.14 does not know the advice: pages then come one by one, on first touch.
                Some(libc::EINVAL) => {}
                Some(libc::EFAULT | libc::ENOMEM | libc::EHWPOISON) => {
                    return Err(RingError::NoSpace { bytes: bytes as u64 });
                }
                _ => return Err(RingError::os("map the ring", &error)),
            }
        }
        if self.access == Access::ReadWrite {
            // Reserves what was not populated: without this a full /dev/shm would kill the producer later, by SIGBUS.
            // SAFETY: a call on an open file.
            let rc = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) };
            if rc != 0 {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::EOPNOTSUPP) => {}
                    Some(libc::ENOSPC | libc::ENOMEM | libc::EDQUOT) => {
                        return Err(RingError::NoSpace { bytes: bytes as u64 });
                    }
                    _ => return Err(RingError::os("reserve memory for the ring", &error)),
                }
            }
        }
        Ok(())
    }

    /// How much of the mapping is in huge pages, by /proc/self/smaps; 0 where that cannot be read.
    pub(crate) fn huge_page_bytes(&self) -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let ours = format!("{:08x}-", self.base.as_ptr() as usize);
        let fields = smaps.lines().skip_while(|line| !line.starts_with(&ours)).skip(1);
        // Up to the next mapping, whose line has no colon behind its first word.
        let fields = fields.map_while(|line| line.split_once(':').filter(|(name, _)| !name.contains(' ')));
        let kib = fields
            .filter(|(name, _)| matches!(*name, "ShmemPmdMapped" | "FilePmdMapped"))
            .filter_map(|(_, value)| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.sum::<u64>() * 1024
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The words from `offset` on. All of the mapping is words: there is no padding, and no value is invalid.
    #[inline(always)]
    fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        debug_assert!(offset.is_multiple_of(8) && offset + count * 8 <= self.layout.total_bytes());
        // SAFETY: callers pass offsets of `layout`, within the mapping and multiples of 8; the mapping is page-aligned,
        // lives as long as `self`, and is written by any process through atomics only. Where it is read-only, no
        // caller stores (see `writable`) and loads are relaxed, which Rust defines on read-only memory.
        unsafe { std::slice::from_raw_parts(self.base.add(offset).cast::<AtomicU64>().as_ptr(), count) }
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words(offset, 1)[0]
    }

    /// How many events have been published.
    #[inline(always)]
    pub(crate) fn published(&self) -> &AtomicU64 {
        self.word(PUBLISHED_OFFSET)
    }

    /// The producer's last heartbeat.
    #[inline(always)]
    pub(crate) fn heartbeat(&self) -> &AtomicU64 {
        self.word(HEARTBEAT_OFFSET)
    }

    /// The producer's state.
    #[inline(always)]
    pub(crate) fn state(&self) -> &AtomicU64 {
        self.word(STATE_OFFSET)
    }

    /// How many directory entries have been published.
    #[inline(always)]
    pub(crate) fn directory_count(&self) -> &AtomicU64 {
        self.word(DIRECTORY_COUNT_OFFSET)
    }

    /// Directory entry `index`, which is below the directory's capacity.
    pub(crate) fn directory_entry(&self, index: u32) -> &[AtomicU64] {
        debug_assert!(index < self.layout.directory_capacity);
        self.words(DIRECTORY_OFFSET + index as usize * DIRECTORY_ENTRY_BYTES, DIRECTORY_ENTRY_BYTES / 8)
    }

    /// The statistics.
    #[inline(always)]
    pub(crate) fn stats(&self) -> &[AtomicU64; STATS_WORDS] {
        // The length is the constant's, so this is a cast.
        self.words(STATS_OFFSET, STATS_WORDS).first_chunk().expect("as many words as asked for")
    }

    /// The name of statistic `index`, which is below [`STATS_WORDS`].
    pub(crate) fn stat_name(&self, index: usize) -> &[AtomicU64] {
        debug_assert!(index < STATS_WORDS);
        self.words(STAT_NAMES_OFFSET + index * STAT_NAME_BYTES, STAT_NAME_BYTES / 8)
    }

    /// The slots.
    ///
    /// # Safety
    /// The result is not used after the mapping is dropped, and published to only if the mapping is writable.
    pub(crate) unsafe fn slots(&self) -> Slots<EVENT_WORDS> {
        // SAFETY: they are within the mapping, on a page boundary, as many as the capacity, a checked power of two. The
        // caller keeps the mapping.
        unsafe { Slots::new(self.base.add(self.layout.slots_offset()).cast(), self.layout.capacity) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this mapping is unmapped once, and nothing borrowed from it outlives it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.layout.total_bytes()) };
    }
}

/// Anonymous shared memory, to be handed over as a file descriptor.
pub(crate) fn memfd() -> Result<File, RingError> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"barewire".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(RingError::os("create shared memory", &io::Error::last_os_error()));
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Forbids to resize the memory, and to write to it by any mapping that does not exist yet.
pub(crate) fn seal(memfd: &File) -> Result<(), RingError> {
    let size = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: a call on an open file.
    let add = |seals: libc::c_int| unsafe { libc::fcntl(memfd.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    // Kernels before 5.1 do not know the seal against future writers.
    if add(size | libc::F_SEAL_FUTURE_WRITE) != 0 && add(size) != 0 {
        return Err(RingError::os("seal the ring", &io::Error::last_os_error()));
    }
    Ok(())
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: all zero is a valid flock: from offset 0 to the end, process 0.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Takes the producer's lock, which ends with the last descriptor of this open file, however the process ends.
/// `false`: somebody else has it.
pub(crate) fn lock(file: &File) -> Result<bool, RingError> {
    let lock = whole_file(libc::F_WRLCK);
    // SAFETY: an open file and a valid flock.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    if rc == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(RingError::os("lock the ring", &error)),
    }
}

/// Whether the producer's lock is held through another open file than this one. Takes no lock itself, so that it can
/// disturb nobody.
pub(crate) fn is_locked(file: &File) -> Result<bool, RingError> {
    let mut lock = whole_file(libc::F_WRLCK);
    // SAFETY: an open file and a valid flock, which the call overwrites.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    if rc != 0 {
        return Err(RingError::os("ask for the ring's lock", &io::Error::last_os_error()));
    }
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// The user that files are created as.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}
