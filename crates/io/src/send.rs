//! Sending UDP in batches.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ptr;
use std::time::{Duration, Instant};

use crate::error::{OpenError, Purpose};
use barewire_wire::frame::MAX_PAYLOAD_LEN;

use crate::interfaces::local_addresses;
use crate::packet::counters;
use crate::socket::{Buffer, Socket, in_addr, interface_index, sockaddr};

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
    /// Whether neighbours in a batch that go to one destination and have one length (the last may be shorter) pass
    /// through the kernel as one (`UDP_SEGMENT`), which costs a fraction where lengths are equal. Sockets receive them
    /// one by one, all with one kernel time. Leave it off where packet sockets, XDP programs or captures listen on a
    /// virtual interface: they see them in one piece. A kernel or interface that cannot do it is counted, and they are
    /// sent one by one.
    pub segmentation: bool,
}

impl Default for SendOptions {
    fn default() -> Self {
        SendOptions {
            interface: None,
            source: None,
            ttl: 1,
            loopback: true,
            sndbuf_bytes: Some(4 << 20),
            batch: 64,
            segmentation: false,
        }
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
        /// Those of `datagrams` that passed through the kernel together with another.
        segmented,
        /// Times that the kernel or the interface could not do that.
        segmentation_refused,
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

/// Most datagrams that the kernel takes as one (`UDP_MAX_SEGMENTS` of all kernels so far).
const MAX_SEGMENTS: usize = 64;
/// Most payload bytes that it takes as one.
const MAX_SEGMENTED_BYTES: usize = MAX_PAYLOAD_LEN;

/// What stands beside one header: one datagram, or a run of them.
#[derive(Clone, Copy)]
struct Slot {
    name: libc::sockaddr_in,
    /// A cmsghdr and the segments' length.
    control: [u64; 3],
    /// Datagrams in the run.
    run: usize,
}

/// Sends UDP datagrams, many in one system call.
pub struct UdpSender {
    socket: Socket,
    /// Pointers in here are set before each call and not used after it.
    headers: Box<[libc::mmsghdr]>,
    slots: Box<[Slot]>,
    payloads: Box<[libc::iovec]>,
    segmentation: bool,
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

/// How many datagrams from the front can pass through the kernel as one: those of the first's destination and length, and
/// one shorter.
fn run_len(datagrams: &[Outgoing<'_>]) -> usize {
    let Some((first, others)) = datagrams.split_first() else { return 0 };
    let len = first.payload.len();
    let (mut run, mut bytes) = (1, len);
    for other in others.iter().take(MAX_SEGMENTS - 1) {
        let next = other.payload.len();
        bytes += next;
        // Without bytes of its own it would vanish among the others.
        if other.to != first.to || next > len || next == 0 || bytes > MAX_SEGMENTED_BYTES {
            break;
        }
        run += 1;
        if next < len {
            break;
        }
    }
    run
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
        let sndbuf_bytes = socket.set_buffer(Buffer::Send, options.sndbuf_bytes)?;
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
            slots: vec![Slot { name, control: [0; 3], run: 0 }; batch].into(),
            payloads: vec![payload; batch].into(),
            segmentation: options.segmentation,
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
        loop {
            let count = self.fill(datagrams);
            if count == 0 {
                return Ok(0);
            }
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the first `count` headers were just set to names, control data and payloads that outlive the call;
            // the kernel only reads those, and writes each header's `msg_len`.
            let sent = unsafe {
                libc::sendmmsg(self.socket.fd(), self.headers.as_mut_ptr(), count as libc::c_uint, flags as _)
            };
            if let Ok(sent) = usize::try_from(sent) {
                return Ok(self.count_sent(datagrams, count, sent));
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN) => self.counters.would_block += 1,
                Some(libc::ENOBUFS) => self.counters.no_buffers += 1,
                Some(libc::EINTR) => {}
                // The interface makes no checksums, its packets are shorter, or the kernel is too old.
                Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP) if self.first_run() > 1 => {
                    self.counters.segmentation_refused += 1;
                    self.segmentation = false;
                    continue;
                }
                _ => return Err(error),
            }
            return Ok(0);
        }
    }

    /// Points the headers to datagrams from the front and returns how many headers that took.
    #[inline]
    fn fill(&mut self, datagrams: &[Outgoing<'_>]) -> usize {
        let mut rest = datagrams.get(..datagrams.len().min(self.payloads.len())).unwrap_or_default();
        for (payload, datagram) in self.payloads.iter_mut().zip(rest) {
            payload.iov_base = datagram.payload.as_ptr().cast_mut().cast();
            payload.iov_len = datagram.payload.len();
        }
        let mut payloads = self.payloads.as_mut_ptr();
        let mut count = 0;
        for (header, slot) in self.headers.iter_mut().zip(self.slots.iter_mut()) {
            let Some(first) = rest.first() else { break };
            slot.run = if self.segmentation { run_len(rest) } else { 1 };
            slot.name = sockaddr(first.to);
            let head = &mut header.msg_hdr;
            head.msg_name = (&raw mut slot.name).cast();
            head.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            head.msg_iov = payloads;
            head.msg_iovlen = slot.run as _;
            (head.msg_control, head.msg_controllen) = (ptr::null_mut(), 0);
            if slot.run > 1 {
                slot.control = segment_len(first.payload.len() as u16);
                head.msg_control = (&raw mut slot.control).cast();
                head.msg_controllen = size_of_val(&slot.control) as _;
            }
            payloads = payloads.wrapping_add(slot.run);
            rest = rest.get(slot.run..).unwrap_or_default();
            count += 1;
        }
        count
    }

    fn first_run(&self) -> usize {
        self.slots.first().map_or(0, |slot| slot.run)
    }

    #[inline]
    fn count_sent(&mut self, datagrams: &[Outgoing<'_>], headers: usize, sent: usize) -> usize {
        let counters = &mut self.counters;
        let mut datagrams_sent = 0;
        for slot in self.slots.iter().take(sent) {
            datagrams_sent += slot.run;
            counters.segmented += if slot.run > 1 { slot.run as u64 } else { 0 };
        }
        counters.calls += 1;
        counters.partial += u64::from(sent < headers);
        counters.datagrams += datagrams_sent as u64;
        let lens = datagrams.iter().take(datagrams_sent).map(|datagram| datagram.payload.len() as u64);
        counters.bytes += lens.sum::<u64>();
        datagrams_sent
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

/// The control data that names the length at which the kernel cuts: a cmsghdr and a u16.
fn segment_len(len: u16) -> [u64; 3] {
    #[repr(C)]
    struct Control {
        head: libc::cmsghdr,
        len: u16,
        reserved: [u8; 6],
    }
    const _: () = assert!(size_of::<Control>() == size_of::<[u64; 3]>());
    let mut words = [0u64; 3];
    // SAFETY: the array is as large and as aligned as the struct, which has integers only and no padding. CMSG_LEN only
    // computes.
    unsafe {
        let head = libc::cmsghdr {
            cmsg_len: libc::CMSG_LEN(size_of::<u16>() as libc::c_uint) as _,
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        words.as_mut_ptr().cast::<Control>().write(Control { head, len, reserved: [0; 6] });
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cmsg(3) and udp(7) have it, to the last byte: no padding is left to chance.
    #[test]
    fn the_control_data_is_a_cmsghdr_and_a_length() {
        let mut expected = Vec::new();
        expected.extend_from_slice(&18usize.to_ne_bytes());
        expected.extend_from_slice(&17i32.to_ne_bytes());
        expected.extend_from_slice(&103i32.to_ne_bytes());
        expected.extend_from_slice(&1_400u16.to_ne_bytes());
        expected.extend_from_slice(&[0; 6]);
        let bytes: Vec<u8> = segment_len(1_400).iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn runs_have_one_destination_and_one_length_but_for_a_shorter_last() {
        const BYTES: &[u8] = &[0; 2_000];
        let run = |lens: &[usize]| {
            let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
            run_len(&lens.iter().map(|len| Outgoing { to, payload: &BYTES[..*len] }).collect::<Vec<_>>())
        };
        assert_eq!(run(&[]), 0);
        assert_eq!(run(&[7]), 1);
        assert_eq!(run(&[7, 8]), 1);
        assert_eq!(run(&[7, 7, 7, 8]), 3);
        assert_eq!(run(&[7, 7, 6, 6]), 3);
        assert_eq!(run(&[7, 0, 7]), 1);
        assert_eq!(run(&[0, 0]), 1);
        assert_eq!(run(&[1; 100]), MAX_SEGMENTS);
        assert_eq!(run(&[2_000; 60]), MAX_SEGMENTED_BYTES / 2_000);
        let [a, b] = [1, 2].map(|port| Outgoing { to: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), payload: BYTES });
        assert_eq!(run_len(&[a, a, b]), 2);
    }
}
