//! What only DPDK does, over virtual devices: files as the wire (net_pcap), a virtual pair (net_af_packet). Needs `make
//! dpdk`: skips without, but not where CI is set.

#[path = "../paths/any.rs"]
#[allow(dead_code, reason = "the other paths' are not asked for here")]
mod any;
#[path = "../paths/net.rs"]
#[allow(dead_code, reason = "as above")]
mod net;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path as File, PathBuf};
use std::time::Instant;

use barewire_io::capture::PcapWriter;
use barewire_io::dpdk::{DeviceFor, DpdkOptions, DpdkReceiver, Filter, Joined};
use barewire_io::kernel::{KernelOptions, KernelReceiver};
use barewire_io::{LineConfig, OpenError, Receiver, affinity};
use barewire_types::UnixNanos;
use barewire_wire::frame;

use any::*;
use net::*;

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// Files of a test's own, removed when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("barewire-dpdk-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A device whose wire is two files: one with these frames, and one for what is sent.
    fn device(&self, frames: &[Vec<u8>]) -> String {
        let mut file = PcapWriter::create(self.0.join("in.pcap")).unwrap();
        frames.iter().for_each(|frame| file.write_frame(UnixNanos(0), frame).unwrap());
        file.finish().unwrap();
        format!("net_pcap,rx_pcap={0}/in.pcap,tx_pcap={0}/out.pcap", self.0.display())
    }

    /// What was sent.
    fn sent(&self) -> Vec<Vec<u8>> {
        frames_of(&self.0.join("out.pcap"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A classic capture's frames: 24 bytes in front, 16 before each, the third word of which is the length.
fn frames_of(file: &File) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap();
    let (mut rest, mut frames) = (&bytes[24..], Vec::new());
    while let Some((head, after)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        frames.push(after[..len].to_vec());
        rest = &after[len..];
    }
    frames
}

fn frame(vlan: Option<u16>, group: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; payload.len() + 60];
    let (src, dst) = (SocketAddrV4::new(SOURCE, 999), SocketAddrV4::new(group, PORT));
    let len = frame::encode(&mut out, vlan, src, dst, payload).unwrap();
    out.truncate(len);
    out
}

fn run_built(test: impl FnOnce() + Send) {
    if dpdk_af_packet.is_built() {
        test();
    }
}

fn open(device: &str, lines: &[LineConfig]) -> DpdkReceiver {
    let options = DpdkOptions { address: Some(ME), ..dpdk_options(device) };
    DpdkReceiver::open(lines, options).unwrap_or_else(|error| panic!("{error}"))
}

fn take(receiver: &mut DpdkReceiver, count: usize) -> Vec<Kept> {
    let (mut kept, begun) = (Vec::new(), Instant::now());
    while kept.len() < count {
        receiver.receive(&mut |packet| kept.push(Kept::of(packet))).unwrap();
        assert!(begun.elapsed() < PATIENCE, "{} of {count}: {:?}", kept.len(), receiver.counters());
    }
    kept
}

/// A file in, its packets out, to the last one and in order; the rest counted.
#[test]
fn a_files_packets_come_exactly() {
    run_built(|| {
        let folder = Folder::new("exactly");
        let payloads: Vec<Vec<u8>> = (0..3000).map(|n| vec![n as u8; n % 1473]).collect();
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for (n, payload) in payloads.iter().enumerate() {
            frames.push(frame(None, if n % 2 == 0 { A } else { B }, payload));
            if n % 10 == 0 {
                frames.push(frame(None, STRANGER, payload));
            }
            if n % 100 == 0 {
                frames.push(frame(Some(5), A, payload));
                // One bit of UDP's checksum, and of IP's.
                for at in [40, 24] {
                    let mut wrong = frame(None, A, b"wrong");
                    wrong[at] ^= 4;
                    frames.push(wrong);
                }
                let mut arp = frame(None, A, &[0; 20]);
                arp[12..14].copy_from_slice(&[8, 6]);
                frames.push(arp);
            }
        }
        let mut receiver = open(&folder.device(&frames), &[line(0, A, "a"), line(1, B, "a")]);
        let kept = take(&mut receiver, payloads.len());
        for (n, (kept, payload)) in kept.iter().zip(&payloads).enumerate() {
            assert_eq!((kept.line, &kept.payload, *kept.src.ip()), (n as u8 % 2, payload, SOURCE));
        }
        // All that follows the last packet.
        while receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap() > 0 {}
        receiver.refresh().unwrap();
        let counters = receiver.counters();
        assert_eq!((counters.packets, counters.malformed, counters.not_udp), (3000, 60, 30));
        assert_eq!((counters.other_destination, all(&counters)), (330, frames.len() as u64));
        assert_eq!(counters.kernel_drops, 0);
    });
}

/// Of a VLAN, its own frames only.
#[test]
fn a_vlan_is_heard_alone() {
    run_built(|| {
        let folder = Folder::new("vlan");
        let frames = [frame(None, A, b"none"), frame(Some(6), A, b"other"), frame(Some(5), A, b"own")];
        let options = DpdkOptions { vlan: Some(5), ..dpdk_options(&folder.device(&frames)) };
        let mut receiver = DpdkReceiver::open(&[line(0, A, "a")], options).unwrap();
        assert_eq!(take(&mut receiver, 1)[0].payload, b"own");
        assert_eq!(receiver.counters().other_destination, 2);
        assert_eq!(frames_joined(&mut receiver, &folder)[0][12..16], [0x81, 0, 0, 5]);
    });
}

fn frames_joined(receiver: &mut DpdkReceiver, folder: &Folder) -> Vec<Vec<u8>> {
    assert!(matches!(receiver.reports()[0].joined, Joined::Itself { .. }));
    let begun = Instant::now();
    // The join is said again within a second.
    while receiver.dpdk_counters().igmp_reports < 2 {
        receiver.refresh().unwrap();
        assert!(begun.elapsed() < PATIENCE);
    }
    assert_eq!(receiver.dpdk_counters().igmp_unsent, 0);
    // The file has it when the device is closed; what it buffers is of no use to anybody before.
    let left = std::mem::replace(receiver, open("net_null", &[line(0, A, "a")]));
    drop(left);
    folder.sent()
}

/// What the receiver says by IGMP is what Linux says for the same groups: reports for joins and leaves, byte by byte from
/// the Ethernet destination on, but for the address, the id and the order of the records.
#[test]
fn joins_are_the_kernels() {
    run_built(|| {
        in_namespace(|| {
            let lines = [
                line(0, A, "left"),
                LineConfig { source: Some(RIGHT), ..line(1, B, "left") },
                LineConfig { source: Some(OTHER), ..line(1, B, "left") },
            ];
            let heard = Sniffer::new("right");
            let by_kernel = KernelReceiver::open(&lines, KernelOptions::default()).unwrap();
            let (any, some) = ((4, A, vec![]), (5, B, vec![RIGHT, OTHER]));
            heard.records(|records| records.contains(&any) && records.contains(&some));
            drop(by_kernel);
            let mut of_kernel = heard
                .records(|records| records.contains(&(3, A, vec![])) && records.iter().any(|record| record.0 == 6));

            let folder = Folder::new("kernels");
            let mut receiver = open(&folder.device(&[]), &lines);
            let frames = frames_joined(&mut receiver, &folder);
            for frame in frames.iter().chain(&heard.frames()) {
                // To 224.0.0.22, IPv4 with router alert, precedence internetwork control, one hop, IGMP.
                assert_eq!(frame[..6], [1, 0, 0x5e, 0, 0, 0x16]);
                assert_eq!((&frame[12..16], frame[22], frame[23]), (&[8, 0, 0x46, 0xc0][..], 1, 2));
                assert_eq!(frame[30..38], [224, 0, 0, 22, 0x94, 4, 0, 0]);
                assert_eq!((frame[38], frame[39]), (0x22, 0));
            }
            let mut ours: Vec<Record> = frames.iter().flat_map(|frame| records(frame)).collect();
            for records in [&mut ours, &mut of_kernel] {
                records.sort();
                records.dedup();
            }
            assert_eq!(ours, [(3, A, vec![]), any, some, (6, B, vec![RIGHT, OTHER])]);
            // The kernel's sockets leave one by one, so that its last words may be of one source.
            assert_eq!(of_kernel[..3], ours[..3]);
        });
    });
}

type Record = (u8, Ipv4Addr, Vec<Ipv4Addr>);

fn records(frame: &[u8]) -> Vec<Record> {
    let message = &frame[38..];
    let address = |bytes: &[u8]| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
    let (mut rest, mut found) = (&message[8..], Vec::new());
    for _ in 0..message[7] {
        let end = 8 + 4 * usize::from(rest[3]);
        found.push((rest[0], address(&rest[4..]), rest[8..end].chunks(4).map(address).collect()));
        rest = &rest[end..];
    }
    found
}

/// Frames as they reach an interface.
struct Sniffer {
    socket: std::os::fd::OwnedFd,
    kept: std::cell::RefCell<Vec<Vec<u8>>>,
}

impl Sniffer {
    fn new(interface: &str) -> Sniffer {
        use std::os::fd::FromRawFd;
        let index = barewire_io::interfaces::index(interface).unwrap();
        // SAFETY: socket takes no pointers; a sockaddr_ll of zeros is a value, and readable for its length.
        unsafe {
            let protocol = (libc::ETH_P_ALL as u16).to_be();
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, protocol.into());
            let mut name: libc::sockaddr_ll = std::mem::zeroed();
            (name.sll_family, name.sll_protocol) = (libc::AF_PACKET as u16, protocol);
            name.sll_ifindex = index as i32;
            assert_eq!(libc::bind(fd, (&raw const name).cast(), size_of_val(&name) as u32), 0);
            Sniffer { socket: std::os::fd::OwnedFd::from_raw_fd(fd), kept: std::cell::RefCell::default() }
        }
    }

    /// Version 3 reports so far.
    fn frames(&self) -> Vec<Vec<u8>> {
        use std::os::fd::AsRawFd;
        let mut frame = [0u8; 2048];
        loop {
            // SAFETY: `frame` is writable for its length.
            let len = unsafe { libc::recv(self.socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            let Ok(len) = usize::try_from(len) else { return self.kept.borrow().clone() };
            if len > 46 && frame[12..14] == [8, 0] && frame[23] == 2 {
                self.kept.borrow_mut().push(frame[..len].to_vec());
            }
        }
    }

    /// Their records, once they are what is waited for.
    fn records(&self, done: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        let begun = Instant::now();
        loop {
            let found: Vec<Record> = self.frames().iter().flat_map(|frame| records(frame)).collect();
            if done(&found) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{found:?}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Frames of any bytes and lengths from the wire: each ends in one counter, and what is right among them comes.
#[test]
fn hostile_frames_are_counted() {
    run_built(|| {
        let folder = Folder::new("hostile");
        let mut random = 0x2545_f491_4f6c_dd1du64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for _ in 0..20_000 {
            let mut hostile = match next(3) {
                0 => (0..next(200)).map(|_| next(256) as u8).collect(),
                1 => frame(None, A, &vec![7; next(1400)]),
                // IGMP, or what claims to be.
                _ => {
                    let mut igmp = frame(None, A, &vec![0x11; next(60)]);
                    igmp[23] = 2;
                    igmp
                }
            };
            for _ in 0..next(4) {
                if !hostile.is_empty() {
                    let at = next(hostile.len());
                    hostile[at] = next(256) as u8;
                }
            }
            hostile.truncate(1 + next(hostile.len() + 1));
            hostile.resize(hostile.len().max(1), 0);
            frames.push(hostile);
        }
        frames.extend((0..100u8).map(|n| frame(None, A, &[n, 0xaa, 0x55])));
        let mut receiver = open(&folder.device(&frames), &[line(0, A, "a")]);
        let (mut right, begun) = (Vec::new(), Instant::now());
        while all(&receiver.counters()) < frames.len() as u64 {
            let mut keep = |packet: barewire_io::Packet<'_>| {
                if let [n, 0xaa, 0x55] = packet.payload {
                    right.push(*n);
                }
            };
            receiver.receive(&mut keep).unwrap();
            assert!(begun.elapsed() < PATIENCE, "{:?}", receiver.counters());
        }
        assert!(right.into_iter().eq(0..100));
        assert!(receiver.counters().not_udp > 1000);
    });
}

/// Frames longer than a buffer: in pieces, put together; longer than any room, counted.
#[test]
fn long_frames_come_whole_or_are_counted() {
    run_built(|| {
        let folder = Folder::new("long");
        let payloads: Vec<Vec<u8>> = [100, 3000, 8000, 50].map(|len| (0..len).map(|at| at as u8).collect()).into();
        let frames: Vec<Vec<u8>> = payloads.iter().map(|payload| frame(None, A, payload)).collect();
        let mut receiver = open(&folder.device(&frames), &[line(0, A, "a")]);
        let kept = take(&mut receiver, payloads.len());
        assert!(kept.iter().map(|kept| &kept.payload).eq(&payloads));
        assert_eq!(receiver.dpdk_counters().pieces, 2);
    });
}

/// Many packets of all lengths, one by one from a sender on the same machine: all come, whole and in order. Receivers of one
/// process have each their own, and the affinity of their threads is left alone.
#[test]
fn receivers_of_one_process_share_nothing_but_dpdk() {
    run_built(|| {
        in_namespace(|| {
            let before = affinity::allowed().unwrap();
            let mut receiver = open("net_af_packet,iface={interface}", &[line(0, A, "left")]);
            let mut beside = open("net_af_packet,iface={interface}", &[line(1, A, "right")]);
            // Its driver would share packets with the first.
            let error = DpdkReceiver::open(&[line(0, B, "left")], dpdk_options("net_af_packet,iface={interface}"));
            let error = error.unwrap_err().to_string();
            assert!(error.contains("another receiver of this process has it"), "{error}");
            assert_eq!(affinity::allowed().unwrap(), before);
            let report = &receiver.reports()[0];
            assert_eq!((report.driver.as_str(), report.filter), ("net_af_packet", Filter::Unset));
            assert_eq!(report.joined, Joined::Kernel { interface: "left".into() });
            let mut right = sender("right", RIGHT, false);
            let payloads: Vec<Vec<u8>> =
                (0..5_000usize).map(|n| (0..n * 37 % 1473).map(|at| (at * 7 + n) as u8).collect()).collect();
            for batch in payloads.chunks(50) {
                send(&mut right, A, batch.iter().map(Vec::as_slice));
                let kept = take(&mut receiver, batch.len());
                assert!(kept.iter().map(|kept| &kept.payload).eq(batch), "{:?}", receiver.counters());
            }
            assert_eq!(receiver.counters().malformed, 0);
            drop(receiver);
            // Its ring is full of what was sent.
            (0..1000).for_each(|_| assert_eq!(beside.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0));
            send(&mut sender("left", LEFT, false), A, [&b"still there"[..]]);
            assert_eq!(take(&mut beside, 1)[0].payload, b"still there");
            // What this machine sent by the interface did not come by it.
            assert_eq!(beside.counters().packets, 1);
            drop(open("net_af_packet,iface={interface}", &[line(0, B, "left")]));
        });
    });
}

/// What is missing or wrong is said in one line that says what to do.
#[test]
fn refusals_are_explained() {
    run_built(|| {
        let refused = |options: DpdkOptions| {
            let error = DpdkReceiver::open(&[line(3, A, "left")], options).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("line 3: ") && !text.contains('\n'), "{text}");
            text
        };
        let plain = dpdk_options("net_null");
        let text = refused(dpdk_options("net_af_packet,iface=nosuch0"));
        assert!(text.contains("rte_dev_probe failed") && text.contains("DPDK says: "), "{text}");
        let text = refused(dpdk_options("0000:ff:1f.7"));
        assert!(text.contains("not bound to a driver of DPDK's (dpdk-devbind.py --status"), "{text}");
        for device in
            ["net_af_xdp,iface={interface}", "vdev:net_af_xdp0,iface=left", "bus=vdev,name=net_af_xdp0,iface=left"]
        {
            let text = refused(dpdk_options(device));
            assert!(text.contains("was expected") && text.ends_with("use receive.path = \"af_xdp\""), "{text}");
        }
        let text = refused(dpdk_options("crypto_null0"));
        assert!(text.contains("the search for its port failed"), "{text}");
        let mut taken = open("net_null77", &[line(0, A, "left")]);
        let text = refused(dpdk_options("net_null77"));
        assert!(text.contains("another receiver of this process has it"), "{text}");
        // And its own port was left alone.
        taken.receive(&mut |_| ()).unwrap();
        assert!(taken.counters().batches > 0);
        let text = refused(DpdkOptions { devices: vec![], ..plain.clone() });
        assert!(text.contains("no DPDK device is given for left: give one, as receive.dpdk.device.left"), "{text}");
        let text = refused(DpdkOptions { eal: vec!["--iova-mode=va".into()], ..plain.clone() });
        // The others of this test's process may or may not have begun yet.
        assert!(text.contains("another feed of this process began DPDK with other values"), "{text}");
        let none = DeviceFor { interface: Some("right".into()), device: "net_null".into() };
        assert!(refused(DpdkOptions { devices: vec![none], ..plain.clone() }).contains("given for left"));
        let text = refused(DpdkOptions { queues: 5, ..dpdk_options("net_pcap,rx_pcap=/nonexistent.pcap") });
        assert!(text.contains("/nonexistent.pcap"), "{text}");
        for options in [
            DpdkOptions { batch: 0, ..plain.clone() },
            DpdkOptions { queues: 0, ..plain.clone() },
            DpdkOptions { descriptors: 1, ..plain.clone() },
            DpdkOptions { memory_mib: Some(1), ..plain.clone() },
            DpdkOptions { vlan: Some(4095), ..plain },
        ] {
            let error = DpdkReceiver::open(&[line(3, A, "left")], options).unwrap_err();
            assert!(matches!(error, OpenError::BadOption { .. }));
        }
    });
}
