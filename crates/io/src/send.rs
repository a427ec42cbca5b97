//! Sending UDP in batches.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ptr;
use std::time::{Duration, Instant};

use crate::error::{OpenError, Purpose};
use crate::interfaces::local_addresses;
use crate::packet::counters;
use crate::socket::{Socket, in_addr, interface_index, sockaddr};

/// How to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendOptions {
    /// Name of the interface that multicast leaves by; `None` leaves it to the routing table.
    pub interface: Option<String>,
    /// Address to send from; `None` leaves it to the kernel.
    pub source: Option<Ipv4Addr>,
    /// Routers that a multicast packet may pass, plus one. 1 keeps it on its own network.
    pub ttl: u8,
    /// Whether sockets of this machine hear it too.
    pub loopback: bool,
    /// Kernel send buffer to ask for, bytes; `None` leaves the system's default.
    pub sndbuf_bytes: Option<usize>,
    /// Most datagrams that one system call sends: 1 to 1,024.
    pub batch: usize,
}

impl Default for SendOptions {
    fn default() -> Self {
        SendOptions { interface: None, source: None, ttl: 1, loopback: true, sndbuf_bytes: Some(4 << 20), batch: 64 }
    }
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Where to.
    pub to: SocketAddrV4,
    /// What.
    pub payload: &'a [u8],
}

counters! {
    /// What sending has counted.
    SenderCounters {
        /// Datagrams that the kernel took.
        datagrams,
        /// Their payload bytes.
        bytes,
        /// System calls that sent.
        calls,
        /// Calls that sent fewer datagrams than were given.
        partial,
        /// Refusals since the socket's buffer was full (EAGAIN).
        would_block,
        /// Refusals since the interface's queue was full (ENOBUFS).
        no_buffers,
        /// Datagrams given up by [`UdpSender::send_all`] at its deadline or at an error.
        unsent,
    }
}

/// Sends UDP datagrams, many in one system call.
pub struct UdpSender {
    socket: Socket,
    /// Pointers in here are set before each call and not used after it.
    headers: Box<[libc::mmsghdr]>,
    names: Box<[libc::sockaddr_in]>,
    payloads: Box<[libc::iovec]>,
    counters: SenderCounters,
    sndbuf_bytes: usize,
}

// SAFETY: the pointers in the headers are only followed during `send`, which sets them anew.
unsafe impl Send for UdpSender {}

impl fmt::Debug for UdpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSender")
            .field("socket", &self.socket)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl UdpSender {
    /// Opens a socket to send by.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(options: &SendOptions) -> Result<UdpSender, OpenError> {
        let what = Purpose::Sender;
        let batch = options.batch;
        if !(1..=1024).contains(&batch) {
            return Err(OpenError::BadOption { name: "batch", value: batch as u64, min: 1, max: 1024 });
        }
        let socket = Socket::open(what)?;
        if let Some(name) = &options.interface {
            let index = libc::c_int::try_from(interface_index(what, name)?).unwrap_or(0);
            let any = in_addr(Ipv4Addr::UNSPECIFIED);
            let request = libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex: index };
            socket.require(libc::IPPROTO_IP, libc::IP_MULTICAST_IF, request, "IP_MULTICAST_IF")?;
        }
        socket.require(libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, libc::c_int::from(options.ttl), "IP_MULTICAST_TTL")?;
        let loopback = libc::c_int::from(options.loopback);
        socket.require(libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, loopback, "IP_MULTICAST_LOOP")?;
        let sndbuf_bytes = match options.sndbuf_bytes {
            Some(bytes) => socket.set_buffer(libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, bytes)?,
            None => socket.buffer(libc::SO_SNDBUF)?,
        };
        if let Some(source) = options.source {
            socket.bind(SocketAddrV4::new(source, 0)).map_err(|error| match error.raw_os_error() {
                Some(libc::EADDRNOTAVAIL) => {
                    OpenError::AddressNotLocal { what, address: source, existing: local_addresses(), error }
                }
                _ => socket.os("bind", error),
            })?;
        }
        // SAFETY: headers and names are integers and null pointers, for which zero is a value.
        let (header, name): (libc::mmsghdr, libc::sockaddr_in) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let payload = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Ok(UdpSender {
            socket,
            headers: vec![header; batch].into(),
            names: vec![name; batch].into(),
            payloads: vec![payload; batch].into(),
            counters: SenderCounters::default(),
            sndbuf_bytes,
        })
    }

    /// Bytes of the kernel's send buffer, of what can be asked for (the kernel holds twice as much).
    pub fn sndbuf_bytes(&self) -> usize {
        self.sndbuf_bytes
    }

    /// What has been counted so far.
    pub fn counters(&self) -> SenderCounters {
        self.counters
    }

    /// Sends from the front of `datagrams` as many as one call takes, and returns how many that were. The others are the
    /// caller's to send again: 0 says that the kernel has no room now.
    ///
    /// # Errors
    ///
    /// The operating system's, about the first datagram: such as `EMSGSIZE` over 65,507 bytes, or `ENETUNREACH`.
    #[inline]
    pub fn send(&mut self, datagrams: &[Outgoing<'_>]) -> io::Result<usize> {
        let count = datagrams.len().min(self.headers.len());
        let slots = self.headers.iter_mut().zip(self.names.iter_mut()).zip(self.payloads.iter_mut());
        for (((header, name), payload), datagram) in slots.zip(datagrams) {
            *name = sockaddr(datagram.to);
            payload.iov_base = datagram.payload.as_ptr().cast_mut().cast();
            payload.iov_len = datagram.payload.len();
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_hdr.msg_iov = payload;
            header.msg_hdr.msg_iovlen = 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` headers were just set to names and payloads that outlive the call; the kernel only
        // reads them, and writes each header's `msg_len`.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        let Ok(sent) = usize::try_from(sent) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN) => {
                    self.counters.would_block += 1;
                    Ok(0)
                }
                Some(libc::ENOBUFS) => {
                    self.counters.no_buffers += 1;
                    Ok(0)
                }
                Some(libc::EINTR) => Ok(0),
                _ => Err(error),
            };
        };
        self.counters.calls += 1;
        self.counters.partial += u64::from(sent < count);
        self.counters.datagrams += sent as u64;
        self.counters.bytes += datagrams.iter().take(sent).map(|datagram| datagram.payload.len() as u64).sum::<u64>();
        Ok(sent)
    }

    /// Sends them all, waiting where the kernel has no room, until `patience` is over; returns how many were sent. Those
    /// that were not are counted as `unsent`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_all(&mut self, datagrams: &[Outgoing<'_>], patience: Duration) -> io::Result<usize> {
        let mut rest = datagrams;
        let mut deadline = None;
        while !rest.is_empty() {
            let sent = match self.send(rest) {
                Ok(sent) => sent,
                Err(error) => {
                    self.counters.unsent += rest.len() as u64;
                    return Err(error);
                }
            };
            rest = rest.get(sent..).unwrap_or_default();
            if sent == 0 {
                let now = Instant::now();
                if now >= *deadline.get_or_insert(now + patience) {
                    self.counters.unsent += rest.len() as u64;
                    break;
                }
                self.wait_for_room();
            }
        }
        Ok(datagrams.len() - rest.len())
    }

    /// Sleeps until the socket can take more, at most a millisecond: an interface's full queue makes no socket ready.
    fn wait_for_room(&self) {
        let mut wait = libc::pollfd { fd: self.socket.fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one entry is given.
        unsafe { libc::poll(&mut wait, 1, 1) };
    }
}
