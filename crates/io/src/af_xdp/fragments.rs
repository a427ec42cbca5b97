//! Counting the lines' fragments, which the XDP program passes on: only the first one has ports, so that any of them may
//! be another receiver's. A packet socket whose filter lets through nothing else is enough to count them: the kernel
//! counts what it had no room for, too, and nothing is ever read.

use std::collections::BTreeSet;
use std::io;

use crate::capabilities::Capabilities;
use crate::error::{OpenError, Purpose};
use crate::membership::attach_filter;
use crate::packet::LineConfig;
use crate::socket::{Buffer, Socket, check};

const ETHERNET: u32 = 14;
const IP_FRAGMENT: u32 = ETHERNET + 6;
const IP_PROTOCOL: u32 = ETHERNET + 9;
const IP_DESTINATION: u32 = ETHERNET + 16;
const MORE_FRAGMENTS_OR_OFFSET: u32 = 0x3fff;
const UDP: u32 = 17;

/// The fragments of one interface that are sent to its lines' groups.
#[derive(Debug)]
pub(super) struct Fragments(Socket);

impl Fragments {
    pub(super) fn of<'a>(
        what: Purpose,
        interface: u32,
        lines: impl IntoIterator<Item = &'a LineConfig>,
    ) -> Result<Fragments, OpenError> {
        let os = |call| move |error| OpenError::Os { what, call, error };
        // Protocol 0: nothing comes in before the filter is there and the socket is bound.
        let socket = Socket::of(what, libc::AF_PACKET, libc::SOCK_RAW).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => OpenError::not_permitted(what, "open a packet socket", Capabilities::NET_RAW, error),
            _ => OpenError::Os { what, call: "socket(AF_PACKET)", error },
        })?;
        attach_filter(&socket, &program(lines))?;
        socket.set_buffer(Buffer::Receive, Some(1))?;
        // SAFETY: a sockaddr_ll is integers, for which zero is a value.
        let mut name: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        name.sll_family = libc::AF_PACKET as libc::sa_family_t;
        name.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        name.sll_ifindex = interface as libc::c_int;
        let len = size_of_val(&name) as libc::socklen_t;
        // SAFETY: `name` is readable for the length given.
        check(unsafe { libc::bind(socket.fd(), (&raw const name).cast(), len) }).map_err(os("bind"))?;
        Ok(Fragments(socket))
    }

    /// How many there have been since this was last asked.
    pub(super) fn take_count(&self) -> io::Result<u64> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of_val(&stats) as libc::socklen_t;
        let pointer = (&raw mut stats).cast();
        // SAFETY: `stats` is writable for `len` bytes.
        check(unsafe { libc::getsockopt(self.0.fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, pointer, &mut len) })?;
        // Those that there was no room for are among the packets.
        Ok(stats.tp_packets.into())
    }
}

/// Lets fragments of UDP to the lines' groups pass.
fn program<'a>(lines: impl IntoIterator<Item = &'a LineConfig>) -> Vec<libc::sock_filter> {
    use libc::{BPF_ABS, BPF_B, BPF_H, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let op = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let unless = |code: u32, k, over| libc::sock_filter { jf: over, ..op(BPF_JMP | BPF_K | code, k) };
    let groups: BTreeSet<u32> = lines.into_iter().map(|line| line.group.to_bits()).collect();
    let refuse = op(BPF_RET | BPF_K, 0);
    let mut program = vec![
        op(BPF_LD | BPF_B | BPF_ABS, IP_PROTOCOL),
        libc::sock_filter { jt: 1, ..unless(BPF_JEQ, UDP, 0) },
        refuse,
        op(BPF_LD | BPF_H | BPF_ABS, IP_FRAGMENT),
        libc::sock_filter { jt: 1, ..unless(BPF_JSET, MORE_FRAGMENTS_OR_OFFSET, 0) },
        refuse,
        op(BPF_LD | BPF_W | BPF_ABS, IP_DESTINATION),
    ];
    for group in groups {
        // One byte of it: nobody reads it.
        program.extend([unless(BPF_JEQ, group, 1), op(BPF_RET | BPF_K, 1)]);
    }
    program.push(refuse);
    program
}
