//! Asking servers by UDP, and hearing their replies.
//!
//! One unicast socket with a port of its own serves all servers. It never waits. Only what comes from the address *and*
//! the port of one of the servers is a reply: whatever else reaches the socket is counted and dropped, since anybody may
//! send to it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;

use barewire_types::{TsSource, UnixNanos};

use crate::error::{OpenError, Purpose};
use crate::interfaces::local_addresses;
use crate::kernel::{Batch, Timestamps, ask_for_times};
use crate::packet::counters;
use crate::socket::{Buffer, Socket, sockaddr};
use crate::{Packet, clock};

/// Replies that one call takes.
const BATCH: usize = 32;
/// Receive buffer to ask for: replies come in bursts.
const RCVBUF_BYTES: usize = 4 << 20;
/// The most servers that a `u8` tells apart.
const MAX_SERVERS: usize = 1 << 8;

counters! {
    /// What a request socket has counted.
    ///
    /// Every packet that reaches the socket ends in exactly one of `packets`, `wrong_source`, `truncated` and
    /// `kernel_drops`.
    RequestCounters {
        /// Requests given to the kernel.
        sent,
        /// Requests that the kernel refused, or that were for no server.
        send_errors,
        /// Replies handed over.
        packets,
        /// Payload bytes of `packets`.
        bytes,
        /// Packets from nobody who was asked.
        wrong_source,
        /// Packets longer than the buffer; not handed over.
        truncated,
        /// Packets that the kernel dropped since the socket's buffer was full, as of the last packet received.
        kernel_drops,
    }
}

/// A socket that asks servers.
#[derive(Debug)]
pub struct RequestSocket {
    socket: Socket,
    servers: Box<[SocketAddrV4]>,
    batch: Batch,
    timestamps: Timestamps,
    /// The kernel's count of drops as last seen; it wraps.
    drops_seen: u32,
    counters: RequestCounters,
}

impl RequestSocket {
    /// Opens a socket to ask these servers from `local`, an address of this machine, and any port; `None` leaves the
    /// address to the routing table.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: no server or more than 256, an address that is not this machine's, or the operating system's.
    pub fn open(servers: &[SocketAddrV4], local: Option<Ipv4Addr>) -> Result<RequestSocket, OpenError> {
        let what = Purpose::Requests;
        if !(1..=MAX_SERVERS).contains(&servers.len()) {
            let (value, max) = (servers.len() as u64, MAX_SERVERS as u64);
            return Err(OpenError::BadOption { name: "servers", value, min: 1, max });
        }
        let socket = Socket::open(what)?;
        socket.require(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1, "SO_RXQ_OVFL")?;
        socket.set_buffer(Buffer::Receive, Some(RCVBUF_BYTES))?;
        let timestamps = ask_for_times(&socket)?;
        let address = local.unwrap_or(Ipv4Addr::UNSPECIFIED);
        socket.bind(SocketAddrV4::new(address, 0)).map_err(|error| match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => {
                OpenError::AddressNotLocal { what, address, existing: local_addresses(), error }
            }
            _ => socket.os("bind", error),
        })?;
        let batch = Batch::new(BATCH, usize::from(u16::MAX)).map_err(|error| socket.os("mmap", error))?;
        let counters = RequestCounters::default();
        Ok(RequestSocket { socket, servers: servers.into(), batch, timestamps, drops_seen: 0, counters })
    }

    /// Sends one request. Never waits: where the kernel has no room, that is an error.
    ///
    /// # Errors
    ///
    /// The operating system's; `InvalidInput` for a server that there is none of. Either is counted.
    pub fn send(&mut self, server: u8, packet: &[u8]) -> io::Result<()> {
        let sent = match self.servers.get(usize::from(server)) {
            Some(server) => self.send_to(*server, packet),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        match sent {
            Ok(()) => self.counters.sent += 1,
            Err(_) => self.counters.send_errors += 1,
        }
        sent
    }

    fn send_to(&self, to: SocketAddrV4, packet: &[u8]) -> io::Result<()> {
        let name = sockaddr(to);
        // SAFETY: packet and name are readable for the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.socket.fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                (&raw const name).cast(),
                size_of_val(&name) as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Hands the replies that are there to `sink`, at most one batch, and returns how many those were. Never waits.
    ///
    /// A reply's [`Packet::line`] is the place of its server in the list given at [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// The operating system's, where the socket can no longer be trusted to receive.
    pub fn receive(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let received = match self.batch.receive(self.socket.fd()) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let counters = &mut self.counters;
        let mut delivered = 0;
        let mut user_time = UnixNanos::ABSENT;
        for message in self.batch.messages(received) {
            if let Some(drops) = message.drops {
                counters.kernel_drops += u64::from(drops.wrapping_sub(self.drops_seen));
                self.drops_seen = drops;
            }
            let Some(payload) = message.payload else {
                counters.truncated += 1;
                continue;
            };
            let Some(line) = self.servers.iter().position(|server| *server == message.src) else {
                counters.wrong_source += 1;
                continue;
            };
            let (ts_recv, ts_source) = match message.time {
                Some(time) => (time, TsSource::Kernel),
                None => {
                    if user_time == UnixNanos::ABSENT {
                        user_time = clock::now();
                    }
                    (user_time, TsSource::User)
                }
            };
            counters.packets += 1;
            counters.bytes += payload.len() as u64;
            delivered += 1;
            // There are at most 256 servers.
            sink(Packet {
                line: line as u8,
                payload,
                ts_recv,
                ts_source,
                seen: ts_recv,
                degraded: false,
                src: message.src,
            });
        }
        Ok(delivered)
    }

    /// The descriptor, for [`Receiver::watch`](crate::Receiver::watch).
    pub fn fd(&self) -> RawFd {
        self.socket.fd()
    }

    /// Where the receive times come from.
    pub fn timestamps(&self) -> Timestamps {
        self.timestamps
    }

    /// What has been counted so far.
    pub fn counters(&self) -> RequestCounters {
        self.counters
    }
}
