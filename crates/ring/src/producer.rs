//! The writing side: creating a ring, publishing to it, closing it.

use crate::identity::Identity;
use crate::layout::state;
use crate::layout::{Header, Instrument, Layout, MAGIC, STAT_NAME_BYTES, STAT_NAMES_OFFSET, STATE_OFFSET, STATS_WORDS};
use crate::name::{FileId, RingName, bearer, options, regular};
use crate::protocol::Slots;
use crate::reader::{Reader, Source, read_header};
use crate::shm::{self, Access, Mapping};
use crate::sync::{AtomicU64, Ordering};
use crate::{DirectoryError, EVENT_WORDS, RingError};
use barewire_types::{Record, UnixNanos};
use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use zerocopy::{IntoBytes, transmute};

/// How a ring is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// The ring is the file /dev/shm/barewire.NAME; without a name, anonymous memory that only descriptors reach.
    pub name: Option<String>,
    /// Slots; a power of two from 2 to [`MAX_CAPACITY`](crate::MAX_CAPACITY). 64 bytes each.
    pub capacity: u32,
    /// Who may read: 0o600 the owner, 0o640 the group too. Nobody else ever, and only the owner may write: who can write
    /// to the file can also cut it off, and so kill the producer.
    pub mode: u32,
    /// The group that the mode speaks of; without one, the process's.
    pub group: Option<u32>,
    /// Room in the instrument directory, rounded up to a multiple of 128. 32 bytes each.
    pub instruments: u32,
    /// Names of the first statistics, in order: printable ASCII, at most 63 bytes each.
    pub stat_names: Vec<String>,
}

impl Default for RingConfig {
    /// Anonymous, 65,536 slots (4 MiB), read by owner and group, room for 65,536 instruments.
    fn default() -> Self {
        RingConfig {
            name: None,
            capacity: 1 << 16,
            mode: 0o640,
            group: None,
            instruments: 1 << 16,
            stat_names: Vec::new(),
        }
    }
}

impl RingConfig {
    fn layout(&self) -> Result<Layout, RingError> {
        if !matches!(self.mode, 0o600 | 0o640) {
            return Err(RingError::Mode { found: self.mode });
        }
        if self.stat_names.len() > STATS_WORDS {
            return Err(RingError::TooManyStatNames { limit: STATS_WORDS, found: self.stat_names.len() });
        }
        for (index, name) in self.stat_names.iter().enumerate() {
            let printable = name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
            if name.is_empty() || name.len() >= STAT_NAME_BYTES || !printable {
                return Err(RingError::StatName { index });
            }
        }
        Layout::new(self.capacity, self.instruments)
    }
}

/// A file that was given its name by this producer, and loses it by it.
struct Owned {
    name: RingName,
    path: PathBuf,
    file: FileId,
}

/// The one writer of a ring. Dropping it closes the ring.
///
/// ```
/// use barewire_ring::{Producer, Record, RingConfig, RingRecord};
/// let mut producer = Producer::create(&RingConfig { capacity: 1024, ..RingConfig::default() })?;
/// let mut reader = producer.reader();
/// producer.publish(Record([7; 7]));
/// let mut batch = [RingRecord::ZERO; 64];
/// let read = reader.read(&mut batch);
/// assert_eq!((read.count, read.lost), (1, 0));
/// assert_eq!(batch[0].record, Record([7; 7]));
/// # Ok::<(), barewire_ring::RingError>(())
/// ```
pub struct Producer {
    slots: Slots<EVENT_WORDS>,
    next: u64,
    mapping: Arc<Mapping>,
    directory_count: u32,
    file: File,
    header: Header,
    owned: Option<Owned>,
    /// A fork has a copy of this value; only the process that made the ring may close it.
    pid: u32,
}

// SAFETY: the slots' memory is the mapping's, which the producer keeps and which may be used from any thread.
unsafe impl Send for Producer {}
// SAFETY: what `&Producer` allows are atomic operations.
unsafe impl Sync for Producer {}

impl Producer {
    /// Makes a ring.
    ///
    /// A named ring is made aside, whole, and then moved to its name, so readers never see half of one. If the name's
    /// ring has a live producer the new one is refused; if that producer died, its ring is marked as replaced and its
    /// file superseded: readers still attached to it see [`Restarted`](crate::ProducerState::Restarted), and can read
    /// what it held to the end.
    ///
    /// All memory is taken here; the ring never grows.
    pub fn create(config: &RingConfig) -> Result<Producer, RingError> {
        let layout = config.layout()?;
        match &config.name {
            Some(name) => Self::create_named(config, layout, RingName::new(name)?),
            None => {
                let file = shm::memfd()?;
                if !shm::lock(&file)? {
                    return Err(RingError::InUse { pid: 0 });
                }
                let (mapping, header) = initialise(&file, config, layout, 0)?;
                shm::seal(&file)?;
                Ok(Self::new(file, mapping, header, None))
            }
        }
    }

    fn create_named(config: &RingConfig, layout: Layout, name: RingName) -> Result<Producer, RingError> {
        let aside = name.path_of_next();
        let file = open_aside(&aside)?;
        // From here to the rename, nobody else can make a ring of this name.
        let made = supersede(&name).and_then(|epoch| initialise(&file, config, layout, epoch)).and_then(|made| {
            std::fs::rename(&aside, name.path()).map_err(|error| RingError::os("name the ring", &error))?;
            Ok(made)
        });
        match made {
            Ok((mapping, header)) => {
                let metadata = regular(&file)?;
                let owned = Owned { path: name.path(), name, file: FileId::from(&metadata) };
                Ok(Self::new(file, mapping, header, Some(owned)))
            }
            Err(error) => {
                // Still locked, so still ours.
                let _ = std::fs::remove_file(&aside);
                Err(error)
            }
        }
    }

    fn new(file: File, mapping: Mapping, header: Header, owned: Option<Owned>) -> Producer {
        let mapping = Arc::new(mapping);
        // SAFETY: the producer keeps the mapping, made for reading and writing, for as long as the slots.
        let slots = unsafe { mapping.slots() };
        Producer { slots, next: 0, mapping, directory_count: 0, file, header, owned, pid: std::process::id() }
    }

    /// Publishes an event: after this, every reader can have it.
    ///
    /// Cost: 10 stores, 9 of them to the event's own cache line, and no branch: it does not know how many readers there
    /// are, nor where.
    #[inline(always)]
    pub fn publish(&mut self, record: Record) {
        self.slots.publish(self.mapping.published(), self.next, &record.0);
        self.next += 1;
    }

    /// How many events have been published in this epoch.
    #[inline]
    pub fn published(&self) -> u64 {
        self.next
    }

    /// Says that the producer is alive. Readers take one without a heartbeat for longer than they choose to be stale.
    /// Cost: one store, to a line that is not the published events'.
    #[inline]
    pub fn heartbeat(&self, now: UnixNanos) {
        self.mapping.heartbeat().store(now.0, Ordering::Relaxed);
    }

    /// Sets a statistic, which readers see by its index and the name that the configuration gave it. An index that does
    /// not exist changes nothing. Cost: one store.
    #[inline]
    pub fn set_stat(&self, index: usize, value: u64) {
        if let Some(word) = self.stats().get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// The statistics themselves. Each is a word of its own: there is no order among them, and no snapshot of all.
    #[inline]
    pub fn stats(&self) -> &[AtomicU64; STATS_WORDS] {
        self.mapping.stats()
    }

    /// Enters an instrument in the directory, from which readers name it. An instrument entered twice has the later
    /// symbol. Cost: five stores.
    pub fn add_instrument(&mut self, instrument_id: u32, symbol: &[u8]) -> Result<(), DirectoryError> {
        let capacity = self.mapping.layout().directory_capacity;
        if self.directory_count >= capacity {
            return Err(DirectoryError::Full { capacity });
        }
        let mut entry = Instrument { instrument_id, symbol: [0; Instrument::SYMBOL_BYTES], reserved: [0; 8] };
        let Some(room) = entry.symbol.get_mut(..symbol.len()) else {
            return Err(DirectoryError::SymbolTooLong { limit: Instrument::SYMBOL_BYTES, found: symbol.len() });
        };
        room.copy_from_slice(symbol);
        let words: [u64; 4] = transmute!(entry);
        for (word, value) in self.mapping.directory_entry(self.directory_count).iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.directory_count += 1;
        // SYNC POINT: directory (with the load in `Reader::instrument_count`).
        self.mapping.directory_count().store(u64::from(self.directory_count), Ordering::Release);
        Ok(())
    }

    /// A reader in this process, at the newest event. It keeps the memory when the producer is gone.
    pub fn reader(&self) -> Reader {
        let name = self.owned.as_ref().map(|owned| (owned.name.clone(), owned.file));
        Reader::new(Arc::clone(&self.mapping), self.header, Source::Producer, name)
    }

    /// When the ring was created, in nanoseconds since 1970: no ring of this name had the same before.
    pub fn epoch(&self) -> u64 {
        self.header.epoch
    }

    /// The ring's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.owned.as_ref().map(|owned| owned.name.as_str())
    }

    /// How many slots the ring has.
    pub fn capacity(&self) -> u32 {
        self.mapping.layout().capacity
    }

    /// How much of the ring is mapped in huge pages, in bytes. They are asked for; whether shared memory has any is the
    /// machine's choice. Reads /proc.
    pub fn huge_page_bytes(&self) -> u64 {
        self.mapping.huge_page_bytes()
    }

    /// Closes the ring: readers see that no more will come, and the name is free. What was published stays readable for
    /// those attached. Dropping the producer does the same.
    pub fn close(self) {}
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            return;
        }
        // SYNC POINT: close (with the load in `Reader::is_closed`).
        self.mapping.state().store(state::CLOSED, Ordering::Release);
        if let Some(owned) = &self.owned
            && bearer(&owned.path) == Some(owned.file)
        {
            // Gone already is as good; and there is nobody to tell of anything else.
            let _ = std::fs::remove_file(&owned.path);
        }
    }
}

impl AsFd for Producer {
    /// The ring's memory, to be handed to another process for [`Reader::open_fd`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens the file in which a ring of some name is made, empty and locked.
fn open_aside(path: &std::path::Path) -> Result<File, RingError> {
    // Each turn but the last was lost to another producer that finished, or gave up, between our open and our lock.
    for _ in 0..100 {
        let file = options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| RingError::os("create the ring's file", &error))?;
        let metadata = regular(&file)?;
        let (expected, found) = (shm::effective_user(), metadata.uid());
        if expected != found {
            return Err(RingError::Owner { expected, found });
        }
        if !shm::lock(&file)? {
            return Err(RingError::InUse { pid: 0 });
        }
        if bearer(path) == Some(FileId::from(&metadata)) {
            // Whatever a producer that died here left behind. No reader has it mapped: it never had a ring's name.
            file.set_len(0).map_err(|error| RingError::os("empty the ring's file", &error))?;
            return Ok(file);
        }
    }
    Err(RingError::InUse { pid: 0 })
}

/// Makes sure that a ring of this name may be made: that there is none, or that its producer is dead, and then marks
/// it. Returns the old epoch, or 0.
fn supersede(name: &RingName) -> Result<u64, RingError> {
    let Some((file, header)) = left_behind(name)? else { return Ok(0) };
    mark(&file, state::REPLACED)?;
    Ok(header.epoch)
}

/// The ring that has this name, if there is one; it is an error if its producer lives, or if it is not a ring.
fn left_behind(name: &RingName) -> Result<Option<(File, Header)>, RingError> {
    let file = match options().write(true).open(name.path()) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RingError::os("open the ring that has the name", &error)),
    };
    regular(&file)?;
    let header = read_header(&file)?;
    if header.magic != MAGIC {
        return Err(RingError::Magic { expected: MAGIC, found: header.magic });
    }
    // The lock alone would do, but for children of a dead producer: a fork has its descriptors, and with them its lock.
    if shm::is_locked(&file)? && !Identity::of(&header).is_gone() {
        return Err(RingError::InUse { pid: header.producer_pid });
    }
    Ok(Some((file, header)))
}

/// Sets the state of a ring whose producer is dead.
fn mark(file: &File, state: u64) -> Result<(), RingError> {
    file.write_all_at(&state.to_ne_bytes(), STATE_OFFSET as u64)
        .map_err(|error| RingError::os("mark the ring that had the name", &error))
}

/// Removes the ring that a dead producer left behind, and with it its memory. Readers still attached see it closed.
///
/// [`RingError::NotFound`] where there is none, [`RingError::InUse`] where its producer lives; what is not a ring is
/// left alone.
pub fn remove_dead_ring(name: &str) -> Result<(), RingError> {
    let name = RingName::new(name)?;
    let aside = name.path_of_next();
    // Held while we look and remove, so that nobody makes a ring of this name meanwhile.
    let _held = open_aside(&aside)?;
    let removed = left_behind(&name).and_then(|found| {
        let (file, _) = found.ok_or(RingError::NotFound)?;
        mark(&file, state::CLOSED)?;
        std::fs::remove_file(name.path()).map_err(|error| RingError::os("remove the ring", &error))
    });
    let _ = std::fs::remove_file(&aside);
    removed
}

/// Fills an empty file with a ring that nobody has published to.
fn initialise(
    file: &File,
    config: &RingConfig,
    layout: Layout,
    old_epoch: u64,
) -> Result<(Mapping, Header), RingError> {
    file.set_permissions(Permissions::from_mode(config.mode))
        .and_then(|()| match config.group {
            Some(group) => std::os::unix::fs::fchown(file, None, Some(group)),
            None => Ok(()),
        })
        .map_err(|error| RingError::os("give the ring to its group", &error))?;
    file.set_len(layout.total_bytes() as u64).map_err(|error| RingError::os("size the ring", &error))?;
    let mapping = Mapping::new(file, layout, Access::ReadWrite)?;

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let identity = Identity::current();
    let header = Header {
        epoch: now.max(old_epoch.saturating_add(1)),
        producer_pid: identity.pid,
        producer_start: identity.start,
        producer_pid_namespace: identity.pid_namespace,
        ..layout.header()
    };
    let write = |bytes: &[u8], offset: usize| {
        file.write_all_at(bytes, offset as u64).map_err(|error| RingError::os("write the ring's header", &error))
    };
    write(header.as_bytes(), 0)?;
    for (index, name) in config.stat_names.iter().enumerate() {
        write(name.as_bytes(), STAT_NAMES_OFFSET + index * STAT_NAME_BYTES)?;
    }
    mapping.heartbeat().store(header.epoch, Ordering::Relaxed);
    mapping.state().store(state::LIVE, Ordering::Release);
    Ok((mapping, header))
}
