//! Sockets: what the standard library's cannot do.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::error::{OpenError, Purpose};
use crate::interfaces;

/// A socket that belongs to one line or to a sender.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    what: Purpose,
}

pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(crate) fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: in_addr(*address.ip()),
        sin_zero: [0; 8],
    }
}

pub(crate) fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from(address).to_be() }
}

/// The number of a named interface, or the error that lists those that there are.
pub(crate) fn interface_index(what: Purpose, name: &str) -> Result<u32, OpenError> {
    interfaces::index(name).ok_or_else(|| OpenError::NoSuchInterface {
        what,
        interface: name.to_owned(),
        existing: interfaces::list().unwrap_or_default().into_iter().map(|interface| interface.name).collect(),
    })
}

impl Socket {
    /// Opens a UDP socket that closes on exec.
    pub(crate) fn open(what: Purpose) -> Result<Socket, OpenError> {
        Socket::of(what, libc::AF_INET, libc::SOCK_DGRAM).map_err(|error| OpenError::Os { what, call: "socket", error })
    }

    /// Opens a socket of another family or kind that closes on exec, for the family's default protocol.
    pub(crate) fn of(what: Purpose, family: libc::c_int, kind: libc::c_int) -> io::Result<Socket> {
        // SAFETY: socket takes no pointers.
        let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) };
        check(fd)?;
        // SAFETY: `fd` was just opened and nobody else has it.
        Ok(Socket { fd: unsafe { OwnedFd::from_raw_fd(fd) }, what })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Sets an option. `T` is what the kernel reads: an integer or a C struct.
    pub(crate) fn set<T: Copy>(&self, level: libc::c_int, option: libc::c_int, value: T) -> io::Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        // SAFETY: `value` is readable for `len` bytes.
        check(unsafe { libc::setsockopt(self.fd(), level, option, (&raw const value).cast(), len) })
    }

    /// As [`set`](Self::set), for options that can only fail on a kernel this crate does not know.
    pub(crate) fn require<T: Copy>(
        &self,
        level: libc::c_int,
        option: libc::c_int,
        value: T,
        call: &'static str,
    ) -> Result<(), OpenError> {
        self.set(level, option, value).map_err(|error| self.os(call, error))
    }

    pub(crate) fn os(&self, call: &'static str, error: io::Error) -> OpenError {
        OpenError::Os { what: self.what, call, error }
    }

    /// Reads an integer option.
    pub(crate) fn get(&self, option: libc::c_int) -> io::Result<libc::c_int> {
        let mut value: libc::c_int = 0;
        let mut len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: `value` is writable for `len` bytes.
        check(unsafe { libc::getsockopt(self.fd(), libc::SOL_SOCKET, option, (&raw mut value).cast(), &mut len) })?;
        Ok(value)
    }

    /// How many packets the kernel has dropped at this socket, counted from its opening, modulo 2^32.
    pub(crate) fn kernel_drops(&self) -> io::Result<u32> {
        const SO_MEMINFO: libc::c_int = 55;
        const DROPS: usize = 8;
        let mut words = MaybeUninit::<[u32; 9]>::zeroed();
        let mut len = size_of_val(&words) as libc::socklen_t;
        // SAFETY: `words` is writable for `len` bytes.
        check(unsafe {
            libc::getsockopt(self.fd(), libc::SOL_SOCKET, SO_MEMINFO, words.as_mut_ptr().cast(), &mut len)
        })?;
        // SAFETY: all zero is a value of an array of integers, and so is what the kernel wrote.
        let words = unsafe { words.assume_init() };
        // Kernels before 4.6 return fewer words; the rest stay zero.
        Ok(words[DROPS])
    }

    pub(crate) fn bind(&self, address: SocketAddrV4) -> io::Result<()> {
        let name = sockaddr(address);
        // SAFETY: `name` is readable for the length given.
        check(unsafe { libc::bind(self.fd(), (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) })
    }

    /// Asks for a kernel buffer of so many bytes, beyond the system's limit where the process may; returns the bytes
    /// that it got. `None` leaves the system's default.
    pub(crate) fn set_buffer(&self, buffer: Buffer, bytes: Option<usize>) -> Result<usize, OpenError> {
        let (option, forced, call) = match buffer {
            Buffer::Receive => (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE, "SO_RCVBUF"),
            Buffer::Send => (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, "SO_SNDBUF"),
        };
        if let Some(bytes) = bytes {
            let asked = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
            if self.set(libc::SOL_SOCKET, forced, asked).is_err() {
                self.require(libc::SOL_SOCKET, option, asked, call)?;
            }
        }
        // The kernel doubles what it is asked for, to have room for its own bookkeeping; half of what it says is
        // comparable with what was asked.
        let doubled = self.get(option).map_err(|error| self.os(call, error))?;
        Ok(usize::try_from(doubled).unwrap_or(0) / 2)
    }
}

/// One of a socket's two kernel buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Buffer {
    Receive,
    Send,
}
