//! AF_XDP over pairs of virtual interfaces, in a network namespace that each test makes for itself. Needs root: skips
//! without, but not where CI is set.

#[allow(dead_code, reason = "shared with the other paths' tests")]
#[path = "../paths/net.rs"]
mod net;
mod program;
mod tools;
mod waiting;

use std::net::Ipv4Addr;

use barewire_io::af_xdp::{AfXdpOptions, Attach, Attached, BusyPoll, Pages, Transferred};
use barewire_io::kernel::{KernelOptions, KernelReceiver};
use barewire_io::{LineConfig, Receiver, clock};
use barewire_types::TsSource;

use net::*;
use tools::*;

/// Two groups on one interface and one of them on another: each line hears its own, by native and by generic XDP, with
/// checksums whole (frames made here) and unfinished (the kernel's own, over veth).
#[test]
fn lines_hear_their_own_on_every_interface() {
    for attach in [Attach::PreferNative, Attach::Generic] {
        in_namespace(|| {
            let lines = [line(0, A, "left"), line(1, B, "left"), line(2, B, "right")];
            let mut receiver = open(&lines, AfXdpOptions { attach, ..small() });
            let got = if attach == Attach::Generic { Attached::Generic } else { Attached::Native };
            for (report, (name, numbers)) in receiver.reports().iter().zip([("left", vec![0, 1]), ("right", vec![2])]) {
                assert_eq!((report.interface.as_str(), &report.lines), (name, &numbers));
                assert_eq!((report.attach.got, report.attach.why.as_deref()), (got, None));
                // veth has no zero-copy.
                assert_eq!(report.transfer.got, Transferred::Copy);
                assert!(report.transfer.to_string().starts_with("copy, zero-copy asked for: "), "{report:?}");
                assert_eq!((report.queues.as_slice(), report.frame_bytes), (&[0][..], 2048));
            }
            let (mut right, mut left) = (sender("right", RIGHT, false), sender("left", LEFT, false));
            let before = clock::now();
            let long: Vec<u8> = (0..1_472).map(|n| n as u8).collect();
            send(&mut right, A, [&b"a1"[..], b"", &long]);
            send(&mut right, B, [&b"b1"[..]]);
            send(&mut left, B, [&b"from the left"[..]]);
            inject("right", &udp(None, RIGHT, A, PORT, b"whole"));
            let mut damaged = udp(None, RIGHT, A, PORT, b"damaged");
            *damaged.last_mut().unwrap() ^= 1;
            inject("right", &damaged);
            let mut kept = take(&mut receiver, 6);
            let after = clock::now();
            kept.sort_by_key(|kept| kept.line);
            let seen: Vec<_> = kept.iter().map(|kept| (kept.line, kept.payload.as_slice(), kept.src)).collect();
            let expected: [(u8, &[u8], _); 6] = [
                (0, b"a1", RIGHT),
                (0, b"", RIGHT),
                (0, &long, RIGHT),
                (0, b"whole", RIGHT),
                (1, b"b1", RIGHT),
                (2, b"from the left", LEFT),
            ];
            assert_eq!(seen, expected);
            assert!(kept.iter().all(|kept| kept.ts_source == TsSource::User));
            assert!(kept.iter().all(|kept| before <= kept.ts_recv && kept.ts_recv <= after));
            assert_eq!(quiet(&mut receiver), 0);
            let counters = receiver.counters();
            assert_eq!((counters.packets, counters.malformed, all(&counters)), (6, 1, 7), "{counters:?}");
        });
    }
}

/// A sender on this machine may hand the kernel a run of datagrams in one piece: towards an interface with native XDP the
/// kernel cuts it up.
#[test]
fn runs_of_datagrams_come_one_by_one() {
    in_namespace(|| {
        let mut receiver = open(&[line(0, A, "left")], AfXdpOptions { attach: Attach::Native, ..small() });
        let mut right = sender("right", RIGHT, true);
        let payloads: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 200]).collect();
        send(&mut right, A, payloads.iter().map(Vec::as_slice));
        assert_ne!(right.counters().segmented, 0);
        let kept: Vec<_> = take(&mut receiver, 40).into_iter().map(|kept| kept.payload).collect();
        assert_eq!(kept, payloads);
    });
}

/// An interface that is down, or goes down for a while, is received from once it is up.
#[test]
fn interfaces_may_be_down_for_a_while() {
    in_namespace(|| {
        run("ip link set left down").unwrap();
        let mut receiver = open(&[line(0, A, "left")], small());
        for n in 0..3_u64 {
            assert_eq!(quiet(&mut receiver), 0);
            receiver.refresh().unwrap();
            run("ip link set left up").unwrap();
            settle(&["left", "right"]).unwrap();
            inject("right", &udp(None, RIGHT, A, PORT, &n.to_be_bytes()));
            assert_eq!(number(&take(&mut receiver, 1)[0].payload), n);
            run("ip link set left down").unwrap();
        }
    });
}

/// Only what the lines are for is taken: everything else reaches the kernel's stack, where a packet socket sees it.
#[test]
fn other_traffic_reaches_the_kernel() {
    in_namespace(|| {
        for attach in [Attach::Native, Attach::Generic] {
            let mut receiver = open(&[line(0, A, "left")], AfXdpOptions { attach, ..small() });
            let seen = Sniffer::on("left");
            let fragment = |bits: u16| with_ip_half(udp(None, RIGHT, A, PORT, b"a fragment"), 6, bits);
            let mut tcp = udp(None, RIGHT, A, PORT, b"not UDP");
            tcp[23] = 6;
            let mut arp = vec![0xff; 12];
            arp.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
            arp.resize(60, 7);
            let others = [
                udp(None, RIGHT, A, PORT + 1, b"another port"),
                udp(None, RIGHT, B, PORT, b"another group"),
                fragment(0x2000),
                fragment(0x0001),
                tcp,
                arp,
                udp(None, RIGHT, A, PORT, b"cut")[..40].to_vec(),
            ];
            for other in &others {
                inject("right", &udp(None, RIGHT, A, PORT, b"taken"));
                inject("right", other);
            }
            assert!(take(&mut receiver, others.len()).iter().all(|kept| kept.payload == b"taken"));
            let reached = seen.frames();
            for other in &others {
                assert_eq!(reached.iter().filter(|frame| *frame == other).count(), 1, "{attach:?} {other:02x?}");
            }
            assert!(!reached.contains(&udp(None, RIGHT, A, PORT, b"taken")));
            assert_eq!(receiver.counters().packets, all(&receiver.counters()));
            assert_eq!(quiet(&mut receiver), 0);
        }
    });
}

/// A VLAN's packets are taken with their tag; those without it, or with another, are not this line's.
#[test]
fn tagged_packets_are_told_apart() {
    in_namespace(|| {
        let lines = [line(0, A, "left")];
        let mut receiver = open(&lines, AfXdpOptions { vlan: Some(5), ..small() });
        let seen = Sniffer::on("left");
        let stacked = {
            let mut frame = udp(Some(5), RIGHT, A, PORT, b"with options");
            // 802.1ad, and an IPv4 header with four bytes of options.
            frame[12..14].copy_from_slice(&[0x88, 0xa8]);
            frame.splice(38..38, [1, 1, 1, 0]);
            frame[18] = 0x46;
            let total = u16::from_be_bytes([frame[20], frame[21]]) + 4;
            frame[20..22].copy_from_slice(&total.to_be_bytes());
            // The header's sum grew by one in 0x0100, by four, and by the options.
            let sum = u16::from_be_bytes([frame[28], frame[29]]);
            let grown = [0x0100, 4, 0x0101, 0x0100].iter().fold(!sum, |sum: u16, add| {
                let (sum, carry) = sum.overflowing_add(*add);
                sum + u16::from(carry)
            });
            frame[28..30].copy_from_slice(&(!grown).to_be_bytes());
            frame
        };
        let others = [udp(None, RIGHT, A, PORT, b"untagged"), udp(Some(6), RIGHT, A, PORT, b"of another VLAN")];
        others.iter().for_each(|frame| inject("right", frame));
        inject("right", &udp(Some(5), RIGHT, A, PORT, b"tagged"));
        inject("right", &stacked);
        let kept: Vec<_> = take(&mut receiver, 2).into_iter().map(|kept| kept.payload).collect();
        assert_eq!(kept, [&b"tagged"[..], b"with options"]);
        let reached = seen.frames();
        // The kernel takes the tag off before a packet socket sees the frame.
        let untagged = [&others[0][..], &udp(None, RIGHT, A, PORT, b"of another VLAN")];
        assert!(untagged.iter().all(|frame| reached.iter().any(|seen| seen == frame)), "{reached:02x?}");
        assert_eq!((receiver.counters().packets, all(&receiver.counters())), (2, 2));
    });
}

#[test]
fn wrong_sources_are_counted() {
    in_namespace(|| {
        let specific = LineConfig { source: Some(RIGHT), ..line(0, A, "left") };
        let mut receiver = open(&[specific, line(1, B, "left")], small());
        for source in [OTHER, RIGHT, OTHER] {
            send(&mut sender("right", source, false), A, [&b"x"[..]]);
            send(&mut sender("right", source, false), B, [&b"y"[..]]);
        }
        let kept: Vec<_> = take(&mut receiver, 4).into_iter().map(|kept| (kept.line, kept.src)).collect();
        assert_eq!(kept, [(1, OTHER), (0, RIGHT), (1, RIGHT), (1, OTHER)]);
        let counters = receiver.counters();
        assert_eq!((counters.wrong_source, all(&counters)), (2, 6), "{counters:?}");
    });
}

/// A line to an address of this machine, which needs no group; its port is not answered with "unreachable".
#[test]
fn unicast_lines_are_lines() {
    in_namespace(|| {
        let mut receiver = open(&[line(3, LEFT, "left")], small());
        inject("right", &udp(None, RIGHT, LEFT, PORT, b"to you"));
        let kept = take(&mut receiver, 1);
        assert_eq!((kept[0].line, kept[0].payload.as_slice()), (3, &b"to you"[..]));
    });
}

/// Whatever is sent in bursts without a receiver that looks is received afterwards or counted as dropped, one by one.
#[test]
fn overruns_are_counted_to_the_packet() {
    for attach in [Attach::Native, Attach::Generic] {
        in_namespace(|| {
            let mut receiver = open(&[line(0, A, "left")], AfXdpOptions { attach, frames: Some(64), ..small() });
            let mut right = sender("right", RIGHT, false);
            let (mut sent, mut received) = (0_u64, Vec::new());
            for burst in [10, 64, 65, 1_000, 63, 5_000] {
                let payloads: Vec<[u8; 8]> = (sent..sent + burst).map(u64::to_be_bytes).collect();
                for part in payloads.chunks(50) {
                    send(&mut right, A, part.iter().map(|payload| &payload[..]));
                    let_softirqs_run();
                }
                sent += burst;
                // Until the softirqs of the sender's last packets have run.
                until(&mut receiver, |counters| all(counters) >= sent, |kept| received.push(number(&kept.payload)));
                assert_eq!(received.last().copied(), received.iter().max().copied());
            }
            let counters = receiver.counters();
            assert_eq!(all(&counters), sent, "{counters:?}");
            assert_eq!(counters.packets + counters.kernel_drops, sent);
            assert!(counters.packets >= 10 + 4 * 63 && counters.kernel_drops >= 1 + (1_000 - 64) + (5_000 - 64));
            // In order, none twice, and the first of each burst.
            assert!(received.is_sorted_by(|a, b| a < b));
            let statistics = receiver.statistics().unwrap();
            assert_eq!(statistics[0].2.drops(), counters.kernel_drops);
            assert_eq!((statistics[0].0, statistics[0].1), ("left", 0));
            drop(statistics);
            // The kernel's counts are from the socket's opening: they are not counted again.
            receiver.refresh().unwrap();
            assert_eq!(receiver.counters(), counters);
        });
    }
}

/// With two queues there are two sockets with one memory, and all packets come; with one of them bound, the kernel gets
/// the other's.
#[test]
fn queues_share_the_memory_and_split_the_packets() {
    const SENDERS: u64 = 32;
    const EACH: u64 = 50;
    in_namespace(|| {
        run("ip link add q0 numrxqueues 2 numtxqueues 2 type veth peer name q1 numrxqueues 2 numtxqueues 2
             ip link set q0 up
             ip link set q1 up")
        .unwrap();
        settle(&["q0", "q1"]).unwrap();
        for (name, value) in [("accept_local", "1"), ("rp_filter", "0")] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/q0/{name}"), value).unwrap();
        }
        let group = line(0, A, "q0");
        let into = Injector::on("q1");
        let send_all = || {
            for n in 0..SENDERS * EACH {
                // Queues are chosen by addresses and ports.
                into.inject(&udp_from(None, (RIGHT, 7_000 + (n % SENDERS) as u16), (A, PORT), &n.to_be_bytes()));
                if n % 50 == 0 {
                    let_softirqs_run();
                }
            }
        };
        let mut receiver = open(std::slice::from_ref(&group), small());
        assert_eq!((receiver.reports()[0].queues.as_slice(), receiver.reports()[0].existing_queues), (&[0, 1][..], 2));
        send_all();
        let mut all_came: Vec<u64> =
            take(&mut receiver, (SENDERS * EACH) as usize).iter().map(|kept| number(&kept.payload)).collect();
        // Each sender's are in order.
        for sender in 0..SENDERS {
            assert!(all_came.iter().filter(|n| **n % SENDERS == sender).is_sorted());
        }
        all_came.sort_unstable();
        assert!(all_came.into_iter().eq(0..SENDERS * EACH));
        drop(receiver);

        let mut stack = KernelReceiver::open(&[LineConfig { line: 9, ..group.clone() }], KernelOptions::default());
        let stack = stack.as_mut().unwrap();
        let mut receiver = open(&[group], AfXdpOptions { queues: Some(vec![1]), ..small() });
        send_all();
        let (mut by_xdp, mut by_stack) = (0, 0);
        let begun = std::time::Instant::now();
        while by_xdp + by_stack < SENDERS * EACH {
            by_xdp += receiver.receive(&mut |_| {}).unwrap() as u64;
            by_stack += stack.receive(&mut |_| {}).unwrap() as u64;
            assert!(begun.elapsed() < PATIENCE, "{by_xdp} {by_stack}");
        }
        assert!(by_xdp > 0 && by_stack > 0, "{by_xdp} {by_stack}");
        assert_eq!(quiet(&mut receiver), 0);
    });
}

/// Longer packets get larger frames; what fits no frame is dropped and counted; an interface whose packets are too long
/// for native XDP falls back to generic, and says so.
#[test]
fn frames_fit_the_interfaces_packets() {
    in_namespace(|| {
        let lines = [line(0, A, "left")];
        let long: Vec<u8> = (0..2_500).map(|n| (n / 10) as u8).collect();
        run("ip link set left mtu 3000 && ip link set right mtu 3000").unwrap();
        let mut receiver = open(&lines, AfXdpOptions { attach: Attach::Native, ..small() });
        let report = &receiver.reports()[0];
        assert_eq!((report.frame_bytes, report.mtu_bytes, report.fits()), (4096, 3000, 3822));
        send(&mut sender("right", RIGHT, false), A, [&long[..]]);
        assert_eq!(take(&mut receiver, 1)[0].payload, long);
        drop(receiver);

        let mut receiver = open(&lines, AfXdpOptions { frame_bytes: Some(2048), ..small() });
        assert_eq!(receiver.reports()[0].fits(), 1774);
        send(&mut sender("right", RIGHT, false), A, [&long[..], &long[..1774 - 28], b"short"]);
        let kept: Vec<_> = take(&mut receiver, 2).into_iter().map(|kept| kept.payload).collect();
        assert_eq!(kept, [&long[..1774 - 28], b"short"]);
        receiver.refresh().unwrap();
        assert_eq!((receiver.counters().kernel_drops, all(&receiver.counters())), (1, 3));
        drop(receiver);

        run("ip link set left mtu 9000 && ip link set right mtu 9000").unwrap();
        let mut receiver = open(&lines, small());
        let report = &receiver.reports()[0];
        assert_eq!(report.attach.got, Attached::Generic);
        let said = report.attach.to_string();
        assert!(said.starts_with("generic XDP, native asked for: the driver refuses it: "), "{said}");
        assert_eq!(report.transfer.to_string(), "copy, zero-copy asked for: generic XDP always copies");
        send(&mut sender("right", RIGHT, false), A, [&b"by generic XDP"[..]]);
        assert_eq!(take(&mut receiver, 1)[0].payload, b"by generic XDP");
    });
}

/// Pages that this test sets aside for itself, and gives back.
struct HugePages(String);

const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    fn set_aside(pages: u64) -> Result<HugePages, String> {
        let before = std::fs::read_to_string(HUGE_PAGES).map_err(|error| error.to_string())?;
        let count: u64 = before.trim().parse().map_err(|_| format!("{HUGE_PAGES}: {before}"))?;
        let reserved = HugePages(before);
        std::fs::write(HUGE_PAGES, (count + pages).to_string()).map_err(|error| format!("{HUGE_PAGES}: {error}"))?;
        let got = std::fs::read_to_string(HUGE_PAGES).map_err(|error| error.to_string())?;
        match got.trim().parse::<u64>() {
            Ok(got) if got >= count + pages => Ok(reserved),
            _ => Err(format!("{} of {} pages of 2 MiB", got.trim(), count + pages)),
        }
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(HUGE_PAGES, self.0.trim());
    }
}

/// Frames lie on huge pages where some were set aside and they are wanted, and packets come there as anywhere.
#[test]
fn frames_lie_on_huge_pages_where_there_are_any() {
    in_namespace(|| {
        let lines = [line(0, A, "left")];
        let normal = open(&lines, AfXdpOptions { huge_pages: false, ..small() });
        assert_eq!(normal.reports()[0].pages, Pages::Normal);
        drop(normal);
        // 2,048 frames of 2 KiB are two pages; tests beside this one may take some.
        let _reserved = match HugePages::set_aside(64) {
            Ok(reserved) => reserved,
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "CI has huge pages: {why}");
                eprintln!("skipped: no huge pages: {why}");
                return;
            }
        };
        let mut receiver = open(&lines, small());
        assert_eq!(receiver.reports()[0].pages, Pages::Huge);
        let mut right = sender("right", RIGHT, false);
        // Every frame is used, the last ones of the second page as well.
        for n in 0..3_000_u64 {
            send(&mut right, A, [&n.to_be_bytes()[..]]);
            assert_eq!(number(&take(&mut receiver, 1)[0].payload), n);
        }
    });
}

/// Busy polling is asked for, and where the kernel accepts it, packets come as before.
#[test]
fn busy_polling_is_accepted_and_harmless() {
    in_namespace(|| {
        let asked = BusyPoll { us: 20, budget: 64 };
        let mut receiver = open(&[line(0, A, "left")], AfXdpOptions { busy_poll: Some(asked), ..small() });
        assert_eq!(receiver.reports()[0].busy_poll, Some(Ok(asked)));
        let mut right = sender("right", RIGHT, false);
        for n in 0..100_u64 {
            assert_eq!(receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);
            send(&mut right, A, [&n.to_be_bytes()[..]]);
            assert_eq!(number(&take(&mut receiver, 1)[0].payload), n);
        }
    });
}

/// Groups whose lines are on several VLANs and interfaces: nothing of one is heard on another.
#[test]
fn the_same_group_on_two_interfaces_is_two_lines() {
    in_namespace(|| {
        let mut receiver = open(&[line(0, A, "left"), line(1, A, "right")], small());
        let from = Ipv4Addr::new(10, 99, 0, 9);
        inject("right", &udp(None, from, A, PORT, b"to the left"));
        inject("left", &udp(None, from, A, PORT, b"to the right"));
        let mut kept: Vec<_> = take(&mut receiver, 2).into_iter().map(|kept| (kept.line, kept.payload)).collect();
        kept.sort();
        assert_eq!(kept, [(0, b"to the left".to_vec()), (1, b"to the right".to_vec())]);
    });
}
