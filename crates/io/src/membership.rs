//! Staying a member of a line's group while its packets come another way than by a socket.
//!
//! Switches send a group only to where somebody has joined it (IGMP, RFC 3376), and joining is a socket's business. The
//! socket here is bound to no port, so nothing is ever queued at it; the membership ends with it. A unicast line has no
//! group, but its port needs an owner, or the kernel would answer each packet with "port unreachable": there the socket
//! is bound, and a filter keeps everything out of its queue.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::{OpenError, Purpose};
use crate::interfaces::{self, Presence};
use crate::kernel::{bind, bind_to_device, check_line, join};
use crate::packet::LineConfig;
use crate::socket::{Socket, check, interface_index};

/// One line's membership. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    socket: Socket,
    interface: u32,
    presence: Presence,
}

impl Membership {
    /// Checks a line's configuration, and joins its group or takes its port.
    pub(crate) fn new(config: &LineConfig) -> Result<Membership, OpenError> {
        let what = Purpose::Line(config.line);
        check_line(config)?;
        let named = match &config.interface {
            Some(name) => Some(interface_index(what, name)?),
            None => None,
        };
        let socket = Socket::open(what)?;
        if config.group.is_multicast() {
            join(&socket, config, named)?;
        } else {
            if let Some(name) = &config.interface {
                bind_to_device(&socket, what, name)?;
            }
            let nothing = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
            attach_filter(&socket, &nothing)?;
            bind(&socket, config)?;
        }
        let found = match named {
            Some(index) => Ok(index),
            None if config.group.is_multicast() => interface_towards(config.group),
            None => interface_with(config.group),
        };
        let searched = |error| OpenError::Os { what, call: "the search for its interface", error };
        let interface = found.map_err(searched)?;
        let presence = Presence::new(interface, &interfaces::name(interface).map_err(searched)?);
        Ok(Membership { socket, interface, presence })
    }

    /// The number of the interface that the line's packets come by: the one named, else the one that the routing table
    /// chose for the join, else the one that has the address.
    pub(crate) fn interface(&self) -> u32 {
        self.interface
    }

    /// Fails once that interface is gone. One system call.
    pub(crate) fn check_interface(&self) -> io::Result<()> {
        self.presence.check(self.socket.fd())
    }
}

/// Lets only those packets into a socket that a classic BPF program accepts.
pub(crate) fn attach_filter(socket: &Socket, program: &[libc::sock_filter]) -> Result<(), OpenError> {
    let len = u16::try_from(program.len()).unwrap_or(u16::MAX);
    // The kernel only reads through the pointer, although its type does not say so.
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    socket.require(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program, "SO_ATTACH_FILTER")
}

/// The interface that has an address of this machine. All of 127.0.0.0/8 is the loopback's.
fn interface_with(address: Ipv4Addr) -> io::Result<u32> {
    let has = |interface: &interfaces::Interface| {
        interface.ipv4.contains(&address) || (address.is_loopback() && interface.is_loopback())
    };
    let found = interfaces::list()?.into_iter().find(has);
    found.map(|interface| interface.index).ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
}

/// The interface by which the routing table reaches an address: rtnetlink(7), `RTM_GETROUTE`.
fn interface_towards(address: Ipv4Addr) -> io::Result<u32> {
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    /// nlmsghdr.
    const HEADER: usize = 16;
    /// rtmsg.
    const ROUTE: usize = 12;

    // SAFETY: socket takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    check(fd)?;
    // SAFETY: `fd` was just opened and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };

    let mut request = Vec::with_capacity(HEADER + ROUTE + 8);
    request.extend(((HEADER + ROUTE + 8) as u32).to_ne_bytes());
    request.extend(libc::RTM_GETROUTE.to_ne_bytes());
    request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend([0; 8]); // sequence, sender
    request.extend([libc::AF_INET as u8, 32]); // the length of what is asked for, in bits
    request.extend([0; ROUTE - 2]);
    request.extend(8u16.to_ne_bytes());
    request.extend(RTA_DST.to_ne_bytes());
    request.extend(address.octets());
    // SAFETY: `request` is readable for its length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = [0u8; 4096];
    // SAFETY: `answer` is writable for its length. The kernel answers before `send` returns, so this does not wait.
    let received =
        unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), libc::MSG_DONTWAIT) };
    let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    let answer = answer.get(..received).unwrap_or(&[]);
    let word = |at: usize| answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let half = |at: usize| answer.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    if half(4) == Some(libc::NLMSG_ERROR as u16) {
        return Err(io::Error::from_raw_os_error(word(HEADER).map_or(libc::EIO, |code| (code as i32).wrapping_neg())));
    }
    let mut at = HEADER + ROUTE;
    while let (Some(len), Some(kind)) = (half(at), half(at + 2)) {
        if kind == RTA_OIF {
            return word(at + 4).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        at += usize::from(len).next_multiple_of(4).max(4);
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_by_route_and_by_address() {
        let lo = interfaces::index("lo").unwrap();
        assert_eq!(interface_towards(Ipv4Addr::LOCALHOST).unwrap(), lo);
        assert_eq!(interface_with(Ipv4Addr::new(127, 3, 2, 1)).unwrap(), lo);
        // TEST-NET-3 (RFC 5737): nobody's address.
        let nobody = interface_with(Ipv4Addr::new(203, 0, 113, 1)).unwrap_err();
        assert_eq!(nobody.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    }

    /// Packets come, the socket stays empty, and its port is taken.
    #[test]
    fn the_owner_of_a_port_queues_nothing() {
        let address = Ipv4Addr::new(127, 0, 0, 9);
        let free = std::net::UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let config =
            LineConfig { group: address, port: free, interface: None, source: None, allow: Vec::new(), line: 3 };
        let membership = Membership::new(&config).unwrap();
        assert!(matches!(Membership::new(&config), Err(OpenError::PortInUse { line: 3, .. })));
        let sender = std::net::UdpSocket::bind((address, 0)).unwrap();
        sender.connect((address, free)).unwrap();
        sender.send(b"x").unwrap();
        // A port without an owner would have been refused by now.
        sender.send(b"y").unwrap();
        let mut byte = [0u8; 1];
        let fd = membership.socket.fd();
        // SAFETY: `byte` is writable for its length.
        let got = unsafe { libc::recv(fd, byte.as_mut_ptr().cast(), 1, libc::MSG_DONTWAIT) };
        assert_eq!(got, -1);
    }
}
