//! The socket filter: classic BPF that lets only the lines' packets into the ring.
//!
//! The kernel runs it on frames that begin with the Ethernet header; tags have been taken out by then (`ETH_P_IP`
//! sockets), so every offset is fixed but UDP's. What passes: UDP over IPv4 that is meant for this machine, to a line's
//! group and port. Of fragments, all but the first of a packet lack ports: those pass by their group alone, so that they
//! are counted. Sources are not looked at: packets from a wrong one are counted too.
//!
//! Specification: the kernel's `Documentation/networking/filter.rst`.

use std::collections::{BTreeMap, BTreeSet};

use crate::packet::LineConfig;

const ETHERNET: u32 = 14;
const IP_FRAGMENT: u32 = ETHERNET + 6;
const IP_PROTOCOL: u32 = ETHERNET + 9;
const IP_DESTINATION: u32 = ETHERNET + 16;
/// Beyond the IP header, whose length is in the index register.
const UDP_DESTINATION: u32 = ETHERNET + 2;
const FRAGMENT_OFFSET: u32 = 0x1fff;
const UDP: u32 = 17;
/// Accept, at any length.
const WHOLE: u32 = u32::MAX;
/// What the kernel says of frames to other machines, which only a promiscuous interface sees, and of this machine's own
/// is this or more.
const OTHERHOST: u32 = libc::PACKET_OTHERHOST as u32;
/// Where the kernel keeps what a frame's receiver is.
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;

fn op(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Goes on where the accumulator compares, else steps over as many instructions.
fn unless(code: u32, k: u32, over: u8) -> libc::sock_filter {
    libc::sock_filter { jf: over, ..op(libc::BPF_JMP | libc::BPF_K | code, k) }
}

/// The program for the lines of one interface: 3 instructions a line at most, 7 a group, 10 beside.
pub(super) fn program<'a>(lines: impl IntoIterator<Item = &'a LineConfig>) -> Vec<libc::sock_filter> {
    use libc::{BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD};
    use libc::{BPF_LDX, BPF_MEM, BPF_MSH, BPF_RET, BPF_ST, BPF_W};

    let mut groups: BTreeMap<u32, BTreeSet<u16>> = BTreeMap::new();
    for line in lines {
        groups.entry(line.group.to_bits()).or_default().insert(line.port);
    }
    let refuse = op(BPF_RET | BPF_K, 0);
    let accept = op(BPF_RET | BPF_K, WHOLE);
    let mut program = vec![
        op(BPF_LD | BPF_W | BPF_ABS, PACKET_TYPE),
        unless(BPF_JGE, OTHERHOST, 1),
        refuse,
        op(BPF_LD | BPF_B | BPF_ABS, IP_PROTOCOL),
        libc::sock_filter { jt: 1, ..unless(BPF_JEQ, UDP, 0) },
        refuse,
        op(BPF_LD | BPF_H | BPF_ABS, IP_FRAGMENT),
        op(BPF_ST, 0),
        op(BPF_LDX | BPF_MSH | BPF_B, ETHERNET),
    ];
    for (group, ports) in groups {
        let mut body = vec![
            op(BPF_LD | BPF_W | BPF_MEM, 0),
            unless(BPF_JSET, FRAGMENT_OFFSET, 1),
            accept,
            op(BPF_LD | BPF_H | BPF_IND, UDP_DESTINATION),
        ];
        for port in ports {
            body.extend([unless(BPF_JEQ, u32::from(port), 1), accept]);
        }
        body.push(refuse);
        // A step may be longer than a conditional one can be.
        let to_next = op(BPF_JMP | BPF_JA, body.len() as u32);
        program.extend([
            op(BPF_LD | BPF_W | BPF_ABS, IP_DESTINATION),
            libc::sock_filter { jt: 1, ..unless(BPF_JEQ, group, 0) },
            to_next,
        ]);
        program.append(&mut body);
    }
    program.push(refuse);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;

    use barewire_wire::frame;
    use proptest::prelude::*;

    /// The kernel itself runs the program, on what is sent through a pair of its sockets.
    struct Kernel {
        into: UnixDatagram,
        out: UnixDatagram,
    }

    impl Kernel {
        fn new(lines: &[LineConfig]) -> Kernel {
            let program = program(lines);
            let (into, out) = UnixDatagram::pair().unwrap();
            let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
            let len = size_of_val(&program) as libc::socklen_t;
            let pointer = (&raw const program).cast();
            // SAFETY: the program is readable for its length, and its instructions are while it points to them.
            let set =
                unsafe { libc::setsockopt(out.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, pointer, len) };
            assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
            out.set_nonblocking(true).unwrap();
            Kernel { into, out }
        }

        /// Whether all of it comes through.
        fn passes(&self, frame: &[u8]) -> bool {
            self.into.send(frame).unwrap();
            match self.out.recv(&mut [0; 2048]) {
                Ok(len) => {
                    assert_eq!(len, frame.len());
                    true
                }
                Err(_) => false,
            }
        }
    }

    fn group(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(239, 0, 0, n)
    }

    fn frame(group: Ipv4Addr, port: u16) -> Vec<u8> {
        let mut out = vec![0; 64];
        let src = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 7);
        let len = frame::encode(&mut out, None, src, SocketAddrV4::new(group, port), b"payload").unwrap();
        out.truncate(len);
        out
    }

    fn line(group: Ipv4Addr, port: u16) -> LineConfig {
        LineConfig { group, port, interface: None, source: None, allow: Vec::new(), line: 0 }
    }

    #[test]
    fn only_the_lines_packets_and_fragments_to_their_groups_pass() {
        let kernel = Kernel::new(&[line(group(1), 100), line(group(1), 101), line(group(2), 200)]);
        for (to, port, passes) in
            [(1, 100, true), (1, 101, true), (2, 200, true), (1, 200, false), (2, 100, false), (3, 100, false)]
        {
            assert_eq!(kernel.passes(&frame(group(to), port)), passes, "{to} {port}");
        }
        let mut tcp = frame(group(1), 100);
        tcp[23] = 6;
        assert!(!kernel.passes(&tcp));
        // The first fragment has ports, the others do not.
        for (offset, port, passes) in [(0x2000u16, 100, true), (0x2000, 102, false), (1, 102, true), (0x2001, 9, true)]
        {
            let mut fragment = frame(group(1), port);
            fragment[20..22].copy_from_slice(&offset.to_be_bytes());
            assert_eq!(kernel.passes(&fragment), passes, "{offset:04x} {port}");
        }
        let mut optioned = frame(group(2), 200);
        optioned.splice(34..34, [1, 1, 1, 0]);
        assert!(!kernel.passes(&optioned));
        optioned[14] = 0x46;
        assert!(kernel.passes(&optioned));
        // Cut short anywhere before the port, it is nobody's.
        let whole = frame(group(2), 200);
        assert!((1..38).all(|len| !kernel.passes(&whole[..len])));
        assert!(kernel.passes(&whole[..38]));
    }

    /// 256 lines, the most there can be: more than a conditional jump spans.
    #[test]
    fn as_many_lines_as_there_can_be_fit() {
        let one_group: Vec<_> = (0..256).map(|n| line(group(1), 1000 + n)).collect();
        let many_groups: Vec<_> = (0..=255).map(|n| line(group(n), 1000 + u16::from(n))).collect();
        for lines in [one_group, many_groups] {
            let kernel = Kernel::new(&lines);
            for line in &lines {
                assert!(kernel.passes(&frame(line.group, line.port)));
                assert!(!kernel.passes(&frame(line.group, line.port ^ 0x8000)));
            }
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_what_was_configured(
            lines in prop::collection::vec((0u8..6, 0u16..6), 0..12),
            packets in prop::collection::vec((0u8..6, 0u16..6), 20),
        ) {
            let configs: Vec<_> = lines.iter().map(|(to, port)| line(group(*to), *port)).collect();
            let kernel = Kernel::new(&configs);
            for (to, port) in packets {
                prop_assert_eq!(kernel.passes(&frame(group(to), port)), lines.contains(&(to, port)));
            }
        }
    }
}
