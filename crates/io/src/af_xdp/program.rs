//! The XDP program: takes the lines' packets out of an interface's traffic and lets all else pass.
//!
//! It is made for the configuration at hand, instruction by instruction. What it does with a frame:
//!
//! 1. Ethernet II, with at most one VLAN tag (802.1Q or 802.1ad); else pass.
//! 2. IPv4, whole header there, options allowed; UDP; no fragment, the first one neither; else pass.
//! 3. VLAN id (0 for none), destination address and port make one 64-bit key; found among the lines' keys: to the socket
//!    of the receive queue that the frame came by, or pass where that queue has none; not found: pass.
//!
//! The keys are searched by halving, so that hundreds of lines cost other traffic no more than a few comparisons.
//!
//! Where the driver tells when the card received a frame (`bpf_xdp_metadata_rx_timestamp`, kernel's
//! `Documentation/networking/xdp-rx-metadata.rst`), the program asks it, and writes the answer in front of the frame: 8
//! bytes in the machine's order, 0 for none.

use std::net::Ipv4Addr;

use crate::bpf::asm::{Assembler, Insn, Label, Op, Operand, R, STACK, When, Wide, Width};

/// A packet that the program is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Take {
    /// VLAN id, 0 for none.
    pub(super) vlan: u16,
    pub(super) group: Ipv4Addr,
    pub(super) port: u16,
}

impl Take {
    /// The key as the program puts it together: address and port as they lie in the frame, loaded in the machine's order.
    fn key(self) -> u64 {
        let address = u32::from_ne_bytes(self.group.octets());
        let port = u16::from_ne_bytes(self.port.to_be_bytes());
        u64::from(self.vlan) << 48 | u64::from(address) << 16 | u64::from(port)
    }
}

/// What becomes of a packet that is taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken {
    /// It goes to the socket of its queue, by this XSKMAP's descriptor, with a stamp in front of it where there is one.
    Redirect(i32, Option<Stamp>),
    /// The program returns this: for trying it out on single frames.
    #[cfg(test)]
    Return(i32),
}

/// Where a frame's stamp is from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stamp {
    /// The function of the kernel's with this number.
    Driver(i32),
    /// It is made up: no driver here has any.
    #[cfg(test)]
    Faked(u64),
}

const XDP_PASS: i32 = 2;
const ADJUST_META: i32 = 54;
const REDIRECT_MAP: i32 = 51;

const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;
const UDP: i32 = 17;

/// What the registers hold.
const SCRATCH: R = R(0);
const ARG1: R = R(1);
/// Start of the frame; second argument.
const DATA: R = R(2);
/// End of the frame; third argument.
const END: R = R(3);
/// Where the next header begins.
const CURSOR: R = R(4);
const VALUE: R = R(5);
const CONTEXT: R = R(6);
const VLAN: R = R(7);
const KEY: R = R(8);

impl Assembler {
    /// Moves `to` to `bytes` behind the cursor, and jumps where the frame ends before that.
    fn reach(&mut self, to: R, bytes: i32, otherwise: Label) {
        self.op(Op::Move, to, Operand::In(CURSOR));
        self.op(Op::Add, to, Operand::Is(bytes));
        self.jump_if(When::Above, to, Operand::In(END), otherwise);
    }

    /// Jumps to `found` where the key is one of the sorted ones.
    fn search(&mut self, keys: &[u64], found: Label) {
        /// So few are compared one by one.
        const FEW: usize = 4;
        match keys.split_at_checked(keys.len() / 2) {
            Some((lower, upper @ [middle, ..])) if keys.len() > FEW => {
                let above = self.label();
                let end = self.label();
                self.load64(SCRATCH, Wide::Value(*middle));
                self.jump_if(When::AtLeast, KEY, Operand::In(SCRATCH), above);
                self.search(lower, found);
                self.jump(end);
                self.place(above);
                self.search(upper, found);
                self.place(end);
            }
            _ => {
                for key in keys {
                    self.load64(SCRATCH, Wide::Value(*key));
                    self.jump_if(When::Equal, KEY, Operand::In(SCRATCH), found);
                }
            }
        }
    }
}

impl Assembler {
    /// Writes a frame's stamp in front of it, where there is room.
    fn write_stamp(&mut self, stamp: Stamp) {
        use Operand::{In, Is};
        // xdp_md's fields, and the place on the stack.
        const DATA_BEGIN: i16 = 0;
        const META_BEGIN: i16 = 8;
        const PLACE: i16 = -8;
        let done = self.label();
        self.op(Op::Move, ARG1, In(CONTEXT));
        self.op(Op::Move, DATA, Is(-8));
        self.call(ADJUST_META);
        self.jump_if(When::NotEqual, SCRATCH, Is(0), done);
        match stamp {
            Stamp::Driver(function) => {
                let told = self.label();
                self.op(Op::Move, VALUE, Is(0));
                self.store(Width::Double, STACK, PLACE, VALUE);
                self.op(Op::Move, ARG1, In(CONTEXT));
                self.op(Op::Move, DATA, In(STACK));
                self.op(Op::Add, DATA, Is(PLACE.into()));
                self.call_kernel(function);
                self.jump_if(When::Equal, SCRATCH, Is(0), told);
                self.op(Op::Move, VALUE, Is(0));
                self.store(Width::Double, STACK, PLACE, VALUE);
                self.place(told);
            }
            #[cfg(test)]
            Stamp::Faked(stamp) => {
                self.load64(VALUE, Wide::Value(stamp));
                self.store(Width::Double, STACK, PLACE, VALUE);
            }
        }
        self.load(Width::Word, DATA, CONTEXT, META_BEGIN);
        self.load(Width::Word, END, CONTEXT, DATA_BEGIN);
        self.op(Op::Move, CURSOR, In(DATA));
        self.op(Op::Add, CURSOR, Is(8));
        self.jump_if(When::Above, CURSOR, In(END), done);
        self.load(Width::Double, VALUE, STACK, PLACE);
        self.store(Width::Double, DATA, 0, VALUE);
        self.place(done);
    }
}

/// A 16-bit field of the frame, as a load in the machine's order finds it.
const fn in_frame(value: u16) -> i32 {
    u16::from_ne_bytes(value.to_be_bytes()) as i32
}

/// The program that takes these packets.
pub(super) fn assemble(takes: &[Take], taken: Taken) -> Vec<Insn> {
    use Operand::{In, Is};
    // xdp_md's fields.
    const DATA_BEGIN: i16 = 0;
    const DATA_END: i16 = 4;
    const RX_QUEUE: i16 = 16;

    let mut a = Assembler::default();
    let (pass, tagged, ethertype, found) = (a.label(), a.label(), a.label(), a.label());

    a.op(Op::Move, CONTEXT, In(ARG1));
    a.load(Width::Word, DATA, CONTEXT, DATA_BEGIN);
    a.load(Width::Word, END, CONTEXT, DATA_END);

    // Ethernet, and a tag.
    a.op(Op::Move, CURSOR, In(DATA));
    a.reach(SCRATCH, 14, pass);
    a.op(Op::Move, CURSOR, In(SCRATCH));
    a.load(Width::Half, VALUE, DATA, 12);
    a.op(Op::Move, VLAN, Is(0));
    a.jump_if(When::Equal, VALUE, Is(in_frame(0x8100)), tagged);
    a.jump_if(When::NotEqual, VALUE, Is(in_frame(0x88a8)), ethertype);
    a.place(tagged);
    a.reach(SCRATCH, 4, pass);
    // The low twelve bits, whatever the machine's order: a byte of which the lower half counts, and a byte.
    a.load(Width::Byte, VLAN, CURSOR, 0);
    a.op(Op::And, VLAN, Is(0x0f));
    a.op(Op::ShiftLeft, VLAN, Is(8));
    a.load(Width::Byte, VALUE, CURSOR, 1);
    a.op(Op::Or, VLAN, In(VALUE));
    a.load(Width::Half, VALUE, CURSOR, 2);
    a.op(Op::Move, CURSOR, In(SCRATCH));
    a.place(ethertype);
    a.jump_if(When::NotEqual, VALUE, Is(in_frame(0x0800)), pass);

    // IPv4.
    a.reach(SCRATCH, 20, pass);
    a.load(Width::Byte, SCRATCH, CURSOR, 9);
    a.jump_if(When::NotEqual, SCRATCH, Is(UDP), pass);
    a.load(Width::Half, SCRATCH, CURSOR, 6);
    a.op(Op::And, SCRATCH, Is(in_frame(MORE_FRAGMENTS_OR_OFFSET)));
    a.jump_if(When::NotEqual, SCRATCH, Is(0), pass);
    a.load(Width::Word, KEY, CURSOR, 16);
    a.load(Width::Byte, VALUE, CURSOR, 0);
    a.op(Op::Move, SCRATCH, In(VALUE));
    a.op(Op::And, SCRATCH, Is(0xf0));
    a.jump_if(When::NotEqual, SCRATCH, Is(0x40), pass);
    a.op(Op::And, VALUE, Is(0x0f));
    a.jump_if(When::Below, VALUE, Is(5), pass);
    a.op(Op::ShiftLeft, VALUE, Is(2));
    a.op(Op::Add, CURSOR, In(VALUE));

    // UDP.
    a.reach(SCRATCH, 8, pass);
    a.load(Width::Half, SCRATCH, CURSOR, 2);
    a.op(Op::ShiftLeft, KEY, Is(16));
    a.op(Op::Or, KEY, In(SCRATCH));
    a.op(Op::ShiftLeft, VLAN, Is(48));
    a.op(Op::Or, KEY, In(VLAN));

    let mut keys: Vec<u64> = takes.iter().map(|take| take.key()).collect();
    keys.sort_unstable();
    keys.dedup();
    a.search(&keys, found);

    a.place(pass);
    a.op(Op::Move, SCRATCH, Is(XDP_PASS));
    a.exit();

    a.place(found);
    match taken {
        Taken::Redirect(map, stamp) => {
            if let Some(stamp) = stamp {
                a.write_stamp(stamp);
            }
            a.load64(ARG1, Wide::Map(map));
            a.load(Width::Word, DATA, CONTEXT, RX_QUEUE);
            // What the helper returns where the queue has no socket.
            a.op(Op::Move, END, Is(XDP_PASS));
            a.call(REDIRECT_MAP);
        }
        #[cfg(test)]
        Taken::Return(code) => a.op(Op::Move, SCRATCH, Is(code)),
    }
    a.exit();
    a.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf;
    use barewire_wire::frame;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use std::net::SocketAddrV4;

    const XDP_DROP: i32 = 1;

    /// What the program is to take, written from the standards and for one frame at a time.
    fn wanted(frame: &[u8], takes: &[Take]) -> bool {
        let half = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        let inner = || {
            let (mut vlan, mut ip) = (0, 14);
            let mut ethertype = half(12)?;
            if ethertype == 0x8100 || ethertype == 0x88a8 {
                (vlan, ethertype, ip) = (half(14)? % 4096, half(16)?, 18);
            }
            let header_len = usize::from(frame.get(ip)? % 16) * 4;
            let is_udp =
                ethertype == 0x0800 && frame.get(ip)? / 16 == 4 && header_len >= 20 && *frame.get(ip + 9)? == 17;
            let fragment = half(ip + 6)? % 0x4000 != 0;
            let group = Ipv4Addr::from(u32::from(half(ip + 16)?) << 16 | u32::from(half(ip + 18)?));
            let port = half(ip + header_len + 2)?;
            half(ip + header_len + 6)?;
            Some(is_udp && !fragment && takes.contains(&Take { vlan, group, port }))
        };
        inner().unwrap_or(false)
    }

    fn takes(count: usize) -> Vec<Take> {
        let take = |n: usize| Take {
            vlan: if n.is_multiple_of(3) { 0 } else { n as u16 },
            group: Ipv4Addr::new(239, 1, (n / 4) as u8, 7),
            port: 5000 + (n % 4) as u16,
        };
        (0..count).map(take).collect()
    }

    /// Offset and replacement of a byte of the headers.
    type Damage = (usize, u8);

    fn frame_for(take: Take, options: usize, damage: &[Damage], cut: usize) -> Vec<u8> {
        let mut out = vec![0; 256];
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 99);
        let vlan = (take.vlan != 0).then_some(take.vlan);
        let len = frame::encode(&mut out, vlan, from, SocketAddrV4::new(take.group, take.port), &[7; 30]).unwrap();
        out.truncate(len);
        let ip = if vlan.is_some() { 18 } else { 14 };
        out.splice(ip + 20..ip + 20, vec![1; options * 4]);
        out[ip] = 0x45 + options as u8;
        for (at, byte) in damage {
            if let Some(to) = out.get_mut(*at) {
                *to = *byte;
            }
        }
        out.truncate(cut.max(14));
        out
    }

    /// The kernel's verifier takes the program, and the kernel runs it as the reference says.
    #[test]
    fn takes_what_the_reference_takes_and_passes_the_rest() {
        for count in [1, 2, 4, 5, 9, 256] {
            let takes = takes(count);
            let program = match bpf::load_program(&assemble(&takes, Taken::Return(XDP_DROP))) {
                Ok(program) => program,
                Err((error, log)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    assert!(std::env::var_os("CI").is_none(), "{error} {log}");
                    eprintln!("skipped: not permitted to load programs (CAP_BPF, CAP_NET_ADMIN)");
                    return;
                }
                Err((error, log)) => panic!("{error}\n{log}"),
            };
            let check = |frame: &[u8]| {
                let result = bpf::test_run(&program, frame).unwrap();
                let expected = if wanted(frame, &takes) { XDP_DROP } else { XDP_PASS };
                assert_eq!(result, expected, "{frame:02x?}");
                expected == XDP_DROP
            };
            let strangers = takes.iter().map(|take| Take { port: take.port + 4, ..*take });
            let frames = |take| frame_for(take, 0, &[], usize::MAX);
            assert!(takes.iter().all(|take| check(&frames(*take))));
            assert!(!strangers.into_iter().any(|take| check(&frames(take))));

            let inputs = (
                0..count,
                0..11_usize,
                proptest::collection::vec((12..70_usize, any::<u8>()), 0..3),
                prop_oneof![Just(usize::MAX), 14..70_usize],
                prop_oneof![Just(None), Just(Some(0x00)), Just(Some(0x40)), Just(Some(0x20)), Just(Some(0x01))],
            );
            let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
            runner
                .run(&inputs, |(n, options, damage, cut, fragment)| {
                    let mut damage = damage;
                    damage.extend(fragment.map(|byte| (20 + 4 * usize::from(takes[n].vlan != 0), byte)));
                    check(&frame_for(takes[n], options, &damage, cut));
                    Ok(())
                })
                .unwrap();
        }
    }

    #[test]
    fn the_longest_program_is_short_enough_for_its_jumps() {
        let many: Vec<Take> =
            (0..=255).map(|n| Take { vlan: n, group: Ipv4Addr::new(239, 0, 0, n as u8), port: 1 }).collect();
        let code = assemble(&many, Taken::Redirect(3, Some(Stamp::Driver(1))));
        assert!(code.len() < 2_000, "{}", code.len());
    }
}
