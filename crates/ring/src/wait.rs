//! Waiting for a ring: how a reader passes the time between two looks, and a thread that looks in its place.
//!
//! Nobody tells a reader that something came: a producer that did would make a system call an event, and a reader's mapping
//! is read-only, so it cannot say that it sleeps. So a reader looks: again and again for some tens of microseconds, and
//! then between naps that grow with the silence, to a thirty-second of it. What comes after a silence is found late by at
//! most that part of it, and an idle reader costs next to nothing.

use crate::filter::Filter;
use crate::layout::RingRecord;
use crate::reader::Reader;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Looks before the first nap: some tens of microseconds.
const SPINS: u32 = 2_000;
/// The shortest nap. The kernel adds some microseconds to any.
const SHORTEST: Duration = Duration::from_micros(20);
/// The longest.
const LONGEST: Duration = Duration::from_millis(1);
/// A nap is this part of the silence so far.
const PART: u32 = 32;

/// How a reader waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Wait {
    /// Looks without a pause: the least latency, and all of a core.
    Busy,
    /// Looks for a moment, then sleeps between looks, the longer the silence the longer.
    #[default]
    Sleep,
}

/// One wait: call [`pause`](Self::pause) after every look that found nothing, [`came`](Self::came) when one found something.
///
/// For one thread: its timer slack is narrowed while it naps (the kernel's default would more than double the shortest
/// nap), and set back when the wait is dropped.
#[derive(Debug)]
pub struct Patience {
    wait: Wait,
    looks: u32,
    silent_since: Option<Instant>,
    /// The thread's timer slack as it was, in nanoseconds.
    slack: Option<libc::c_ulong>,
    /// Which thread's slack that is: of no other.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Patience {
    /// A wait that begins now.
    pub fn new(wait: Wait) -> Patience {
        Patience { wait, looks: 0, silent_since: None, slack: None, _not_send: std::marker::PhantomData }
    }

    /// Goes on with a wait that was interrupted, and has found nothing since then.
    pub fn resumed(wait: Wait, silent_since: Instant) -> Patience {
        Patience { looks: SPINS, silent_since: Some(silent_since), ..Patience::new(wait) }
    }

    /// Passes some time. Returns whether it is time to look at a clock: after a nap, and now and then while spinning, which
    /// makes no system call.
    #[inline]
    pub fn pause(&mut self) -> bool {
        if self.wait == Wait::Sleep && self.looks >= SPINS {
            self.nap();
            return true;
        }
        self.looks = self.looks.wrapping_add(1);
        std::hint::spin_loop();
        self.looks.is_multiple_of(SPINS / 4)
    }

    /// Something came: the silence is over.
    #[inline]
    pub fn came(&mut self) {
        self.looks = 0;
        self.silent_since = None;
    }

    #[cold]
    fn nap(&mut self) {
        if self.slack.is_none() {
            self.slack = Some(narrow_slack());
        }
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        thread::sleep((since.elapsed() / PART).clamp(SHORTEST, LONGEST));
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if let Some(slack) = self.slack {
            // SAFETY: a call with a plain number.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack) };
        }
    }
}

/// Sets this thread's timer slack to a microsecond, and returns what it was. A thread without one stays as it is.
fn narrow_slack() -> libc::c_ulong {
    // SAFETY: calls with plain numbers.
    unsafe {
        let before = libc::prctl(libc::PR_GET_TIMERSLACK);
        libc::prctl(libc::PR_SET_TIMERSLACK, 1_000 as libc::c_ulong);
        libc::c_ulong::try_from(before).unwrap_or(0)
    }
}

/// A descriptor that becomes readable when it is rung, for whoever waits in `epoll`: an eventfd.
#[derive(Debug)]
pub(crate) struct Bell(File);

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        // SAFETY: a call with plain numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Bell(unsafe { File::from_raw_fd(fd) }))
    }

    pub(crate) fn ring(&self) {
        // Full only after 2^64 - 1 rings that nobody heard, and then readable all the same.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    pub(crate) fn hush(&self) {
        // Nothing to read where it was not rung.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a watch is to look for.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    /// Whether somebody waits.
    is_open: bool,
    /// Counts the orders: what was found for another is of no use.
    number: u64,
    /// Where whoever waits is.
    from: u64,
    /// From there to here, the filter kept everything back.
    passed: u64,
}

#[derive(Debug)]
struct Shared {
    bell: Bell,
    order: Mutex<Order>,
    stop: AtomicBool,
}

impl Shared {
    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that watches a ring and makes a descriptor readable when there is something to read.
///
/// For event loops: the loop sleeps in `epoll`, this thread looks at the ring in its place. It only looks: what is there is
/// still to be read, so a wait that is given up loses nothing. Between watches it is parked.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The process that has the thread: one forked from it has not.
    owner: u32,
}

impl Watch {
    /// A watch over the ring that this reader reads, for what passes the filter.
    pub fn new(reader: &Reader, filter: Option<Filter>, wait: Wait) -> io::Result<Watch> {
        let shared = Arc::new(Shared { bell: Bell::new()?, order: Mutex::default(), stop: AtomicBool::new(false) });
        let (theirs, reader) = (Arc::clone(&shared), reader.clone());
        let thread =
            thread::Builder::new().name("barewire-watch".into()).spawn(move || watch(&theirs, reader, filter, wait))?;
        Ok(Watch { shared, thread: Some(thread), owner: std::process::id() })
    }

    /// Whether the thread is in this process. In one that was forked from its own, a watch does nothing, and another is needed.
    pub fn is_here(&self) -> bool {
        self.owner == std::process::id()
    }

    /// Makes the descriptor readable as soon as an event from `position` on passes the filter or was overwritten, or the
    /// ring is closed. Once for each call.
    pub fn arm(&self, position: u64) {
        let mut order = self.shared.order();
        *order = Order { is_open: true, number: order.number + 1, from: position, passed: position };
        drop(order);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// How far a reader at `position` may go on without reading: the watch has seen that the filter keeps all of it back.
    /// Without this, a reader that waits while nothing for it comes would be overrun in the end.
    pub fn passed(&self, position: u64) -> u64 {
        let order = self.shared.order();
        if order.from <= position { order.passed.max(position) } else { position }
    }

    /// Makes the descriptor unreadable again.
    pub fn clear(&self) {
        self.shared.bell.hush();
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if !self.is_here() {
            std::mem::forget(thread);
            return;
        }
        self.shared.stop.store(true, Ordering::Release);
        thread.thread().unpark();
        let _ = thread.join();
    }
}

fn watch(shared: &Shared, mut reader: Reader, mut filter: Option<Filter>, wait: Wait) {
    let mut patience = Patience::new(wait);
    while !shared.stop.load(Ordering::Acquire) {
        let order = *shared.order();
        if !order.is_open {
            thread::park();
            continue;
        }
        // Before the look: what was published before the ring was closed is then seen.
        let closed = reader.is_closed();
        let (came, passed) = match &mut filter {
            None => (reader.is_there(order.from), order.from),
            Some(filter) => {
                reader.go_to(order.passed);
                let read = reader.read_filtered(filter, &mut [RingRecord::ZERO]);
                // Where something was lost, what passed before is for the reader to count.
                let passed = if read.lost == 0 { order.passed + read.passed_over } else { order.passed };
                (read.count > 0 || read.lost > 0, passed)
            }
        };
        if came || closed || passed > order.passed {
            patience.came();
            let mut now = shared.order();
            if now.number == order.number {
                let found = came || (closed && passed == order.passed);
                (now.passed, now.is_open) = (passed, !found);
                drop(now);
                if found {
                    shared.bell.ring();
                }
            }
        } else {
            patience.pause();
        }
    }
}
