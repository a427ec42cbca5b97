//! TCP connections that never block: every wait is [`wait`], and another thread can end it.
//!
//! The standard library's connect can be given a time but not be interrupted, and a short time given again and again is
//! a new connection each time.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::Waker;
use crate::socket::sockaddr;

/// A TCP connection, or the attempt at one.
#[derive(Debug)]
pub struct Stream {
    inner: TcpStream,
}

impl Stream {
    /// Begins to connect. Once [`wait`] says that there is room, [`connected`](Self::connected) tells how it went.
    ///
    /// # Errors
    ///
    /// The operating system's, where it refuses at once.
    pub fn connect(to: SocketAddrV4) -> io::Result<Stream> {
        // SAFETY: socket takes no pointers.
        let fd =
            unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let name = sockaddr(to);
        // SAFETY: `name` is readable for the length given.
        let begun =
            unsafe { libc::connect(fd.as_raw_fd(), (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) };
        if begun < 0 {
            let error = io::Error::last_os_error();
            // Interrupted or not, it goes on.
            if !matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) {
                return Err(error);
            }
        }
        let inner = TcpStream::from(fd);
        // What is sent is short and waited for.
        inner.set_nodelay(true)?;
        Ok(Stream { inner })
    }

    /// How connecting went, when it is over.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub fn connected(&self) -> io::Result<()> {
        match self.inner.take_error()? {
            Some(error) => Err(error),
            None => self.inner.peer_addr().map(drop),
        }
    }

    /// Reads what is there; 0 at the stream's end.
    ///
    /// # Errors
    ///
    /// The operating system's; `WouldBlock` where nothing is there.
    pub fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.inner.read(bytes)
    }

    /// Writes as much as there is room for.
    ///
    /// # Errors
    ///
    /// The operating system's; `WouldBlock` where there is no room.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }
}

/// What to wait for on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Something to read, or the stream's end.
    pub read: bool,
    /// Room to write, or the end of connecting.
    pub write: bool,
}

/// Waits until a stream is ready, the waker is called or the time is over, whichever comes first. Errors and hang-ups make
/// a stream ready: the next read or write tells.
///
/// Returns what the stream is ready for. Pending wakes are forgotten: what was to be looked at is to be looked at now.
///
/// # Errors
///
/// The operating system's.
pub fn wait(stream: Option<(&Stream, Interest)>, waker: &Waker, timeout: Option<Duration>) -> io::Result<Interest> {
    let entry = |fd, events| libc::pollfd { fd, events, revents: 0 };
    // Negative descriptors are passed over.
    let mut waits = [entry(waker.fd().unwrap_or(-1), libc::POLLIN), entry(-1, 0)];
    if let Some((stream, interest)) = stream {
        let read = if interest.read { libc::POLLIN } else { 0 };
        let write = if interest.write { libc::POLLOUT } else { 0 };
        waits[1] = entry(stream.inner.as_raw_fd(), read | write);
    }
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `waits` is writable for its length; the timeout is null or readable; no signal mask is given.
    let ready = unsafe { libc::ppoll(waits.as_mut_ptr(), waits.len() as libc::nfds_t, timeout, std::ptr::null()) };
    let nothing = Interest { read: false, write: false };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(nothing) } else { Err(error) };
    }
    let [woken, stream] = waits.map(|wait| wait.revents);
    if woken != 0 {
        waker.clear();
    }
    let failed = stream & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
    Ok(Interest { read: stream & libc::POLLIN != 0 || failed, write: stream & libc::POLLOUT != 0 || failed })
}
