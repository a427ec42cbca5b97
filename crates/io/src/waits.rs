//! Waiting for any of a path's sockets, its waker, or what it was told to watch.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::Waker;
use crate::kernel::Mode;

/// What a path waits for.
#[derive(Debug)]
pub(crate) struct Waits {
    /// The waker's descriptor first, then the path's own, then the watched ones; empty where it never waits.
    entries: Vec<libc::pollfd>,
    own: usize,
    timeout: Option<Duration>,
    waker: Waker,
}

impl Waits {
    pub(crate) fn new(mode: Mode, sockets: impl ExactSizeIterator<Item = RawFd>) -> io::Result<Waits> {
        let waker = Waker::new()?;
        let own = sockets.len();
        let entries = match mode {
            Mode::Busy => Vec::new(),
            Mode::Blocking => waker.fd().into_iter().chain(sockets).map(entry).collect(),
        };
        Ok(Waits { entries, own, timeout: None, waker })
    }

    /// Whether there is any waiting.
    #[inline]
    pub(crate) fn blocks(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Waits until any has something, and says whether any has. Pending wakes are forgotten.
    pub(crate) fn wait(&mut self) -> io::Result<bool> {
        let timeout = self.timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `entries` is writable for its length; the timeout is null or readable; no signal mask is given.
        let ready = unsafe {
            libc::ppoll(self.entries.as_mut_ptr(), self.entries.len() as libc::nfds_t, timeout, std::ptr::null())
        };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
        }
        if self.entries.first().is_some_and(|wake| wake.revents != 0) {
            self.waker.clear();
        }
        // A descriptor that was closed would end every wait at once. A negative one is passed over.
        for watched in self.entries.iter_mut().skip(1 + self.own) {
            if watched.revents & libc::POLLNVAL != 0 {
                watched.fd = -1;
            }
        }
        Ok(ready > 0)
    }

    /// What the last wait found at the path's own socket of this number: `POLLIN` and the like.
    #[inline]
    pub(crate) fn found(&self, socket: usize) -> libc::c_short {
        self.entries.get(socket + 1).map_or(0, |entry| entry.revents)
    }

    pub(crate) fn watch(&mut self, fd: RawFd) {
        if self.blocks() {
            self.entries.push(entry(fd));
        }
    }

    pub(crate) fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

fn entry(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}
