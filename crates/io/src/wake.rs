//! Ending another thread's wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Ends a blocking [`Receiver::receive`](crate::Receiver::receive), or a [`stream::wait`](crate::stream::wait), from
/// another thread.
///
/// A wake that finds nobody waiting is kept for the next wait. Clones wake the same receiver.
#[derive(Clone, Debug)]
pub struct Waker {
    event: Option<Arc<OwnedFd>>,
}

impl Waker {
    /// For paths that never wait: does nothing.
    pub fn none() -> Waker {
        Waker { event: None }
    }

    /// One that nobody waits with yet.
    ///
    /// # Errors
    ///
    /// The operating system's, where it has no descriptor left.
    pub fn new() -> io::Result<Waker> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nobody else has it.
        Ok(Waker { event: Some(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })) })
    }

    /// The descriptor to wait for; `None` of a waker that does nothing.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        self.event.as_ref().map(|event| event.as_raw_fd())
    }

    /// Ends the wait.
    pub fn wake(&self) {
        let Some(fd) = self.fd() else { return };
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is readable for its length. The only failure is EAGAIN at a full counter, and then a wake is
        // pending already.
        unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
    }

    /// Forgets pending wakes.
    pub(crate) fn clear(&self) {
        let Some(fd) = self.fd() else { return };
        let mut count = [0u8; 8];
        // SAFETY: `count` is writable for its length. The descriptor does not block.
        unsafe { libc::read(fd, count.as_mut_ptr().cast(), count.len()) };
    }
}
