//! The reading side: attaching to a ring, reading it, and watching over its producer.

use crate::filter::Filter;
use crate::identity::Identity;
use crate::layout::{Header, Instrument, Layout, RingRecord, STAT_NAME_BYTES, STATS_WORDS, state};
use crate::name::{FileId, RingName, bearer, options, regular};
use crate::protocol::{Entry, Position, Read, Slots, head};
use crate::shm::{self, Access, Mapping};
use crate::sync::{Ordering, load_acquire};
use crate::{EVENT_WORDS, RingError};
use barewire_types::{Record, UnixNanos};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::Duration;
use zerocopy::{FromZeros, IntoBytes, transmute};

/// What a file's blocks are counted in, whatever its file system's are.
const BLOCK_BYTES: u64 = 512;

/// How a ring's producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerState {
    /// At work: its heartbeat is recent.
    Alive,
    /// Its process is there, but it has not given a heartbeat for too long.
    Stale,
    /// Its process ended without closing the ring. Nothing more will come.
    Dead,
    /// It closed the ring. Nothing more will come.
    Closed,
    /// Another ring has the name now. Nothing more will come in this one: read on until it is empty, then
    /// [`reattach`](Reader::reattach).
    Restarted,
}

impl ProducerState {
    /// The name that output uses.
    pub const fn name(self) -> &'static str {
        match self {
            ProducerState::Alive => "alive",
            ProducerState::Stale => "stale",
            ProducerState::Dead => "dead",
            ProducerState::Closed => "closed",
            ProducerState::Restarted => "restarted",
        }
    }
}

/// What the header of a ring says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingInfo {
    /// When the ring was created, in nanoseconds since 1970.
    pub epoch: u64,
    /// Slots.
    pub capacity: u32,
    /// Room in the instrument directory, in entries.
    pub directory_capacity: u32,
    /// Process id of the producer, in its own pid namespace.
    pub producer_pid: u64,
    /// Size of the mapping in bytes.
    pub total_bytes: u64,
    /// The producer's last heartbeat.
    pub heartbeat: UnixNanos,
    /// Events published so far.
    pub published: u64,
}

impl Entry<EVENT_WORDS> for RingRecord {
    #[inline(always)]
    fn event(&mut self) -> &mut [u64; EVENT_WORDS] {
        &mut self.record.0
    }

    #[inline(always)]
    fn set_ring_sequence(&mut self, n: u64) {
        self.ring_sequence = n;
    }
}

/// How a reader came by its ring.
pub(crate) enum Source {
    /// From the producer itself, in its process.
    Producer,
    /// Through an open file of its own.
    File(File),
}

/// One reader of a ring. It changes nothing in it: neither the producer nor other readers know that it is there, and
/// its mapping is read-only (but in the producer's own process). A clone reads on from the same place on its own.
#[derive(Clone)]
pub struct Reader {
    slots: Slots<EVENT_WORDS>,
    position: Position,
    mapping: Arc<Mapping>,
    header: Header,
    source: Arc<Source>,
    name: Option<(RingName, FileId)>,
    /// The user whose ring this had to be, if that was asked for.
    owner: Option<u32>,
}

// SAFETY: the slots' memory is the mapping's, which the reader keeps and which may be used from any thread.
unsafe impl Send for Reader {}
// SAFETY: what `&Reader` allows are atomic loads.
unsafe impl Sync for Reader {}

impl Reader {
    /// Attaches to the ring of that name, at its newest event: the first read gives what is published from now on.
    ///
    /// Everything is checked before it is used; a file that is not a ring, not whole, or not of this version is an
    /// error that says so.
    pub fn attach(name: &str) -> Result<Reader, RingError> {
        Self::attach_of(name, None)
    }

    /// The same, if the ring is this user's: any user of the machine can be the first to make a file of that name.
    /// [`RingError::Owner`] where it is another's.
    pub fn attach_owned(name: &str, owner: u32) -> Result<Reader, RingError> {
        Self::attach_of(name, Some(owner))
    }

    fn attach_of(name: &str, owner: Option<u32>) -> Result<Reader, RingError> {
        let name = RingName::new(name)?;
        let file = options().open(name.path()).map_err(|error| match error.kind() {
            ErrorKind::NotFound => RingError::NotFound,
            _ => RingError::os("open the ring", &error),
        })?;
        if let Some(expected) = owner {
            // Of the open file: what has the name by now may be another.
            let found = regular(&file)?.uid();
            if expected != found {
                return Err(RingError::Owner { expected, found });
            }
        }
        Ok(Reader { owner, ..Self::open(file, Some(name))? })
    }

    /// Attaches to the ring that a descriptor leads to, at its newest event. The descriptor is opened anew for reading
    /// only (through /proc/self/fd), and not kept.
    pub fn open_fd(fd: BorrowedFd<'_>) -> Result<Reader, RingError> {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let file = File::open(path).map_err(|error| RingError::os("open the ring's descriptor", &error))?;
        Self::open(file, None)
    }

    fn open(file: File, name: Option<RingName>) -> Result<Reader, RingError> {
        let metadata = regular(&file)?;
        let header = read_header(&file)?;
        let layout = Layout::of(&header, metadata.size())?;
        // A producer takes all memory when it makes the ring. Where there are holes, mapping them would take it at our
        // expense, and the header alone costs whoever made it nothing.
        let (expected, found) = (layout.total_bytes() as u64, metadata.blocks().saturating_mul(BLOCK_BYTES));
        if found < expected {
            return Err(RingError::Sparse { expected, found });
        }
        let mapping = Mapping::new(&file, layout, Access::ReadOnly)?;
        let name = name.map(|name| (name, FileId::from(&metadata)));
        Ok(Self::new(Arc::new(mapping), header, Source::File(file), name))
    }

    pub(crate) fn new(
        mapping: Arc<Mapping>,
        header: Header,
        source: Source,
        name: Option<(RingName, FileId)>,
    ) -> Reader {
        // SAFETY: the reader keeps the mapping for as long as the slots, and never publishes.
        let slots = unsafe { mapping.slots() };
        let position = Position { next: head(mapping.published()) };
        Reader { slots, position, mapping, header, source: Arc::new(source), name, owner: None }
    }

    /// Reads what has been published since the last read, up to as many events as `out` has room for. Never waits.
    ///
    /// `lost` events were overwritten before they could be read; they lie immediately before `out[0]`. Whatever
    /// happens, events read plus events lost are the events that the reader has moved over, each counted once. After an
    /// overrun the reader goes on three quarters of the ring behind the producer. What was in `out` behind the records
    /// counted may be overwritten.
    ///
    /// Cost: one cache line an event; no system call, no allocation.
    #[inline]
    pub fn read(&mut self, out: &mut [RingRecord]) -> Read {
        self.position.read(&self.slots, self.mapping.published(), out, |_| true)
    }

    /// The same, but only what passes the filter. Looks at some ten thousand events at most: one call can give nothing, and
    /// have moved all the same ([`Read::passed_over`]).
    ///
    /// `filter` belongs to this reader: it learns the ring's instruments.
    pub fn read_filtered(&mut self, filter: &mut Filter, out: &mut [RingRecord]) -> Read {
        filter.refresh(self);
        let mut position = self.position;
        let directory = &*self;
        let read =
            position.read(&self.slots, self.mapping.published(), out, |words| filter.takes(&Record(*words), directory));
        self.position = position;
        read
    }

    /// Whether event `position` can be read, or was overwritten: whether a read there would give anything. A filter may
    /// still keep it back.
    #[inline]
    pub fn is_there(&self, position: u64) -> bool {
        self.slots.is_there(position)
    }

    /// Goes to the oldest event that the ring still has, without counting anything as lost. Under a fast producer that
    /// event may be overwritten before it is read, and then counts as lost.
    pub fn seek_oldest(&mut self) {
        self.position.next = self.published().saturating_sub(self.slots.capacity());
    }

    /// Goes behind the newest event, without counting what that passes over as lost.
    pub fn seek_newest(&mut self) {
        // The count can be one behind what was read: see `published`.
        self.position.next = self.position.next.max(self.published());
    }

    /// Goes on at event `position`, without counting what that passes over as lost. What is no longer in the ring then is.
    pub fn go_to(&mut self, position: u64) {
        self.position.next = position;
    }

    /// The number of the next event to be read.
    pub fn position(&self) -> u64 {
        self.position.next
    }

    /// How many events have been published. Costs the producer a cache miss: not for a loop. The count follows the event:
    /// it is one behind for an instant, and stays so if the producer dies in that instant.
    pub fn published(&self) -> u64 {
        head(self.mapping.published())
    }

    /// How many published events are still to be read or lost. Costs the producer a cache miss: not for a loop.
    pub fn lag(&self) -> u64 {
        self.published().saturating_sub(self.position.next)
    }

    /// Whether the producer has said that nothing more will come (closed, or replaced after its death). What it
    /// published before can be read once this is true. No system call.
    pub fn is_closed(&self) -> bool {
        // SYNC POINT: close (with the store in `Producer::close`).
        matches!(load_acquire(self.mapping.state()), state::CLOSED | state::REPLACED)
    }

    /// How the producer is. `stale_after` is how old its last heartbeat may be at `now`. Makes a few system calls: for
    /// every now and then, when nothing comes.
    pub fn producer_state(&self, now: UnixNanos, stale_after: Duration) -> ProducerState {
        let said = load_acquire(self.mapping.state());
        if said == state::REPLACED || self.is_superseded() {
            return ProducerState::Restarted;
        }
        if said == state::CLOSED {
            return ProducerState::Closed;
        }
        if self.is_producer_dead() {
            // It may have closed the ring and ended since we looked.
            return if self.is_closed() { self.producer_state(now, stale_after) } else { ProducerState::Dead };
        }
        let age = now.0.saturating_sub(self.mapping.heartbeat().load(Ordering::Relaxed));
        if u128::from(age) > stale_after.as_nanos() { ProducerState::Stale } else { ProducerState::Alive }
    }

    /// Whether another file has the ring's name. Nobody having it says nothing: it may have been removed by hand.
    fn is_superseded(&self) -> bool {
        self.name.as_ref().is_some_and(|(name, file)| bearer(&name.path()).is_some_and(|bearer| bearer != *file))
    }

    fn is_producer_dead(&self) -> bool {
        let unlocked = match &*self.source {
            Source::Producer => false,
            Source::File(file) => shm::is_locked(file) == Ok(false),
        };
        unlocked || Identity::of(&self.header).is_gone()
    }

    /// Attaches to the ring that has the name now, at its oldest event, so that nothing of the new epoch is passed
    /// over. On an error the reader stays where it was; a ring without a name is [`RingError::NotFound`]. An owner that
    /// was asked for is asked for again.
    pub fn reattach(&mut self) -> Result<(), RingError> {
        let (name, _) = self.name.as_ref().ok_or(RingError::NotFound)?;
        let mut reader = Reader::attach_of(name.as_str(), self.owner)?;
        reader.seek_oldest();
        *self = reader;
        Ok(())
    }

    /// What the header says.
    pub fn info(&self) -> RingInfo {
        RingInfo {
            epoch: self.header.epoch,
            capacity: self.header.capacity,
            directory_capacity: self.header.directory_capacity,
            producer_pid: self.header.producer_pid,
            total_bytes: self.header.total_bytes,
            heartbeat: UnixNanos(self.mapping.heartbeat().load(Ordering::Relaxed)),
            published: self.published(),
        }
    }

    /// The ring's name, if it was found or made by one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_ref().map(|(name, _)| name.as_str())
    }

    /// How many instruments the directory has. Only ever grows.
    pub fn instrument_count(&self) -> u32 {
        // SYNC POINT: directory (with the store in `Producer::add_instrument`).
        let count = load_acquire(self.mapping.directory_count());
        u32::try_from(count).unwrap_or(u32::MAX).min(self.mapping.layout().directory_capacity)
    }

    /// Directory entry `index`, counted from 0 in the order of their making.
    pub fn instrument(&self, index: u32) -> Option<Instrument> {
        (index < self.instrument_count()).then(|| self.entry(index))
    }

    /// The directory's entries from `first` on. Of several with one id, the last holds.
    pub fn instruments_from(&self, first: u32) -> impl Iterator<Item = Instrument> + '_ {
        (first..self.instrument_count()).map(|index| self.entry(index))
    }

    fn entry(&self, index: u32) -> Instrument {
        let mut words = [0_u64; 4];
        for (value, word) in words.iter_mut().zip(self.mapping.directory_entry(index)) {
            *value = word.load(Ordering::Relaxed);
        }
        transmute!(words)
    }

    /// The value of a statistic.
    pub fn stat(&self, index: usize) -> Option<u64> {
        self.mapping.stats().get(index).map(|word| word.load(Ordering::Relaxed))
    }

    /// The values of all statistics, each read by itself.
    pub fn stats(&self) -> [u64; STATS_WORDS] {
        std::array::from_fn(|index| self.mapping.stats()[index].load(Ordering::Relaxed))
    }

    /// The names of the statistics that have one, in order of their index.
    pub fn stat_names(&self) -> Vec<String> {
        (0..STATS_WORDS).map_while(|index| self.stat_name(index)).collect()
    }

    /// Bytes that no producer of ours writes come out escaped.
    fn stat_name(&self, index: usize) -> Option<String> {
        let mut words = [0_u64; STAT_NAME_BYTES / 8];
        for (value, word) in words.iter_mut().zip(self.mapping.stat_name(index)) {
            *value = word.load(Ordering::Relaxed);
        }
        let text = words.as_bytes().split(|byte| *byte == 0).next().unwrap_or_default();
        (!text.is_empty()).then(|| text.escape_ascii().to_string())
    }
}

/// The fixed fields, read rather than mapped: a file may be shorter than any header.
pub(crate) fn read_header(file: &File) -> Result<Header, RingError> {
    let mut header = Header::new_zeroed();
    let bytes = header.as_mut_bytes();
    let expected = bytes.len();
    let mut at = 0;
    while at < expected {
        match file.read_at(&mut bytes[at..], at as u64) {
            Ok(0) => break,
            Ok(count) => at += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(RingError::os("read the ring's header", &error)),
        }
    }
    if at < expected {
        return Err(RingError::Truncated { expected: expected as u64, found: at as u64 });
    }
    Ok(header)
}
