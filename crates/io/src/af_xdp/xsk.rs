//! AF_XDP sockets: one for each receive queue.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::ring::{FillRing, ReceiveRing};
use super::{BusyPoll, QueueStatistics};
use crate::socket::check;

const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;
/// XDP_SHARED_UMEM.
pub(super) const SHARED_UMEM: u16 = 1 << 0;
/// XDP_COPY.
pub(super) const COPY: u16 = 1 << 1;
/// XDP_ZEROCOPY.
pub(super) const ZERO_COPY: u16 = 1 << 2;
/// XDP_USE_NEED_WAKEUP.
pub(super) const USE_NEED_WAKEUP: u16 = 1 << 3;

/// A socket that is not bound yet, or is.
#[derive(Debug)]
pub(super) struct Xsk {
    fd: OwnedFd,
}

impl Xsk {
    /// Opens a socket that closes on exec.
    pub(super) fn open() -> io::Result<Xsk> {
        // SAFETY: socket takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check(fd)?;
        // SAFETY: `fd` was just opened and nobody else has it.
        Ok(Xsk { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Sets an option. `T` is what the kernel reads: an integer or a C struct.
    fn set<T: Copy>(&self, level: libc::c_int, option: libc::c_int, value: T) -> io::Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        // SAFETY: `value` is readable for `len` bytes.
        check(unsafe { libc::setsockopt(self.fd(), level, option, (&raw const value).cast(), len) })
    }

    /// Reads an option into a value that begins as zeros.
    ///
    /// # Safety
    ///
    /// `T` is integers, for which whatever the kernel writes is a value.
    unsafe fn get<T: Copy>(&self, level: libc::c_int, option: libc::c_int) -> io::Result<T> {
        // SAFETY: zero is a value of integers: the caller's promise.
        let mut value: T = unsafe { mem::zeroed() };
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: `value` is writable for `len` bytes.
        check(unsafe { libc::getsockopt(self.fd(), level, option, (&raw mut value).cast(), &mut len) })?;
        Ok(value)
    }

    /// Tells the kernel of the packets' memory.
    pub(super) fn register(&self, memory: libc::xdp_umem_reg) -> io::Result<()> {
        self.set(libc::SOL_XDP, libc::XDP_UMEM_REG, memory)
    }

    /// Makes and maps the rings, each of so many entries.
    pub(super) fn rings(&self, entries: u32) -> io::Result<(ReceiveRing, FillRing)> {
        /// Nothing is sent, so nothing completes; but a socket cannot be bound without.
        const COMPLETIONS: u32 = 64;
        self.set(libc::SOL_XDP, libc::XDP_UMEM_FILL_RING, entries)?;
        self.set(libc::SOL_XDP, libc::XDP_UMEM_COMPLETION_RING, COMPLETIONS)?;
        self.set(libc::SOL_XDP, libc::XDP_RX_RING, entries)?;
        // SAFETY: the offsets are integers.
        let offsets: libc::xdp_mmap_offsets = unsafe { self.get(libc::SOL_XDP, libc::XDP_MMAP_OFFSETS) }?;
        Ok((ReceiveRing::map(self.fd(), &offsets.rx, entries)?, FillRing::map(self.fd(), &offsets.fr, entries)?))
    }

    pub(super) fn bind(&self, interface: u32, queue: u32, flags: u16, shared: Option<RawFd>) -> io::Result<()> {
        let name = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: shared.map_or(0, |fd| fd as u32),
        };
        // SAFETY: `name` is readable for the length given.
        check(unsafe { libc::bind(self.fd(), (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) })
    }

    /// Lets this thread run the driver's receive work itself, instead of interrupts.
    pub(super) fn prefer_busy_poll(&self, busy_poll: BusyPoll) -> io::Result<()> {
        let int = |value: u32| libc::c_int::try_from(value).unwrap_or(libc::c_int::MAX);
        self.set(libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)?;
        self.set(libc::SOL_SOCKET, libc::SO_BUSY_POLL, int(busy_poll.us))?;
        self.set(libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, int(busy_poll.budget))
    }

    /// Calls the driver: to look for packets, or for frames that it ran out of. Does not wait.
    pub(super) fn wake_driver(&self) -> io::Result<()> {
        // SAFETY: no buffer is given. AF_XDP's recvfrom returns no data; it only calls the driver.
        let called = unsafe {
            libc::recvfrom(
                self.fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        if called >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Busy, or down: it may come up again. A socket without an interface has lost it for good.
            Some(libc::EAGAIN | libc::EBUSY | libc::EINTR | libc::ENOBUFS | libc::ENETDOWN) => Ok(()),
            _ => Err(error),
        }
    }

    /// What the kernel has counted at this socket since it was opened.
    pub(super) fn statistics(&self) -> io::Result<QueueStatistics> {
        // SAFETY: the statistics are integers.
        let found: libc::xdp_statistics = unsafe { self.get(libc::SOL_XDP, libc::XDP_STATISTICS) }?;
        Ok(QueueStatistics {
            rx_dropped: found.rx_dropped,
            rx_ring_full: found.rx_ring_full,
            rx_fill_ring_empty_descs: found.rx_fill_ring_empty_descs,
        })
    }

    /// The error that the kernel has left at the socket, such as ENETDOWN for an interface that is gone.
    pub(super) fn pending_error(&self) -> io::Result<()> {
        // SAFETY: the option is an integer.
        let error: libc::c_int = unsafe { self.get(libc::SOL_SOCKET, libc::SO_ERROR) }?;
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
    }
}
