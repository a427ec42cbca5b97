//! Receiving a TCP stream as feed handlers did before: blocking `recvmsg`, with the kernel's software time. For benchmarks to
//! compare with, beside [`legacy`](crate::legacy).

use std::io::{self, Write};
use std::mem;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use barewire_types::{TsSource, UnixNanos};
use barewire_wire::soupbintcp::{CLIENT_HEARTBEAT, HEARTBEAT_SECONDS};

use crate::clock;

/// Most bytes that one call takes.
const BUFFER_BYTES: usize = 1 << 16;

/// A SoupBinTCP client's connection, which is waited for.
#[derive(Debug)]
pub struct LegacyStream {
    stream: TcpStream,
    buffer: Box<[u8]>,
    spoke: Instant,
}

impl LegacyStream {
    /// Connects. Waiting lasts `timeout` at most, so that the receiver can be stopped.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn connect(to: SocketAddrV4, rcvbuf_bytes: Option<usize>, timeout: Duration) -> io::Result<LegacyStream> {
        let stream = TcpStream::connect_timeout(&to.into(), timeout)?;
        stream.set_nodelay(true)?;
        let set = |option, value: libc::c_int| {
            // SAFETY: `value` is readable for the length given.
            let set = unsafe {
                let (value, len) = ((&raw const value).cast(), size_of_val(&value) as libc::socklen_t);
                libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, option, value, len)
            };
            if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        set(libc::SO_TIMESTAMPNS, 1)?;
        if let Some(bytes) = rcvbuf_bytes {
            let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
            // Without the capability to go beyond it, the system's limit is what there is.
            set(libc::SO_RCVBUFFORCE, bytes).or_else(|_| set(libc::SO_RCVBUF, bytes))?;
        }
        let stream = LegacyStream { stream, buffer: vec![0; BUFFER_BYTES].into(), spoke: Instant::now() };
        stream.set_timeout(timeout)?;
        Ok(stream)
    }

    /// How long [`receive`](Self::receive) waits from now on.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }

    /// Sends.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.spoke = Instant::now();
        self.stream.write_all(bytes)
    }

    /// Sends a heartbeat, when it is time for one.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn heartbeat(&mut self) -> io::Result<()> {
        match self.spoke.elapsed() >= Duration::from_secs(HEARTBEAT_SECONDS) {
            true => self.send(&CLIENT_HEARTBEAT),
            false => Ok(()),
        }
    }

    /// Waits for bytes and hands them to `sink`, with the time at which the last of them came. `false` when none came in
    /// time, or the server has closed the stream.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn receive(&mut self, sink: impl FnOnce(&[u8], UnixNanos, TsSource)) -> io::Result<bool> {
        /// A cmsghdr and a timespec.
        const CONTROL_WORDS: usize = 8;
        let mut control = [0u64; CONTROL_WORDS];
        let mut part = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: self.buffer.len() };
        // SAFETY: a msghdr is integers and pointers, for which zero is a value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
        (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
        // SAFETY: the header's one part and its control data are writable for their lengths.
        let received = unsafe { libc::recvmsg(self.stream.as_raw_fd(), &mut header, 0) };
        let Ok(received) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            let nothing = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if nothing { Ok(false) } else { Err(error) };
        };
        if received == 0 {
            return Ok(false);
        }
        let (time, source) = match kernel_time(&header) {
            Some(time) => (time, TsSource::Kernel),
            None => (clock::now(), TsSource::User),
        };
        sink(self.buffer.get(..received).unwrap_or_default(), time, source);
        Ok(true)
    }
}

fn kernel_time(header: &libc::msghdr) -> Option<UnixNanos> {
    // SAFETY: the header is as recvmsg left it, and its control data are still there. CMSG_FIRSTHDR returns null or a whole
    // cmsghdr within them; SCM_TIMESTAMPNS has a timespec behind it.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        let found = control.as_ref()?;
        if found.cmsg_level != libc::SOL_SOCKET || found.cmsg_type != libc::SCM_TIMESTAMPNS {
            return None;
        }
        let time = libc::CMSG_DATA(control).cast::<libc::timespec>().read_unaligned();
        Some(UnixNanos(clock::nanos(time)))
    }
}
