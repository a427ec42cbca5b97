//! What only one of the paths does.

use std::time::{Duration, Instant};

use barewire_io::io_uring::{IoUringOptions, IoUringReceiver, SqPoll};
use barewire_io::kernel::Mode;
use barewire_io::packet_mmap::{Fanout, FanoutMode, PacketMmapOptions, PacketMmapReceiver, Version};
use barewire_io::{OpenError, Receiver};

use crate::any::*;
use crate::failing::refuse;
use crate::net::*;

/// Two members of a fanout group get each packet once between them, and each gets some.
#[test]
fn members_of_a_fanout_group_share() {
    in_namespace(|| {
        let fanout = Some(Fanout { group: 9, mode: FanoutMode::RoundRobin, rollover: true, defragment: false });
        let lines = [line(0, A, "left"), line(1, B, "right")];
        for path in [packet_mmap_v2, packet_mmap_v3] {
            let mut members: Vec<_> = (0..2).map(|_| Any::open(path, &lines, &Setup { fanout, ..PLAIN })).collect();
            let (mut right, mut left) = (sender("right", RIGHT, false), sender("left", LEFT, false));
            let payloads: Vec<[u8; 1]> = (0..100).map(|n| [n]).collect();
            send(&mut right, A, payloads.iter().map(|payload| payload.as_slice()));
            send(&mut left, B, payloads.iter().map(|payload| payload.as_slice()));
            let mut between: Vec<Kept> = Vec::new();
            for member in &mut members {
                between.extend(member.take(100));
                assert_eq!(member.receive(|packet| panic!("{packet:?}")), 0);
            }
            for number in [0, 1] {
                let of_line = between.iter().filter(|kept| kept.line == number);
                let mut of_line: Vec<u8> = of_line.map(|kept| kept.payload[0]).collect();
                of_line.sort();
                assert!(of_line.into_iter().eq(0..100));
            }
        }
    });
}

/// What was asked for and what was got, lines without an interface, and a ring that went down with its interface.
#[test]
fn packet_mmap_reports_and_notices_its_interface() {
    in_namespace(|| {
        run("ip route add 239.0.0.0/8 dev right").unwrap();
        let mut by_route = line(7, B, "");
        by_route.interface = None;
        let lines = [line(0, A, "left"), by_route, line(2, STRANGER, "left")];
        let options = PacketMmapOptions {
            mode: Mode::Blocking,
            ring_bytes: 1_000_000,
            slot_bytes: 1_500,
            ..PacketMmapOptions::default()
        };
        let mut receiver = PacketMmapReceiver::open(&lines, options.clone()).unwrap();
        let reports = receiver.reports().to_vec();
        let names: Vec<_> = reports.iter().map(|report| (report.interface.as_str(), report.lines.as_slice())).collect();
        assert_eq!(names, [("left", &[0, 2][..]), ("right", &[7])]);
        assert!(reports.iter().all(|report| (report.ring_bytes, report.slots) == (15 << 16, 480)), "{reports:?}");
        assert!(reports[0].ring_asked_bytes == 1_000_000 && reports[0].filter_len > reports[1].filter_len);

        // Down and up again, it goes on.
        run("ip link set left down && ip link set left up").unwrap();
        settle(&["left", "right"]).unwrap();
        receiver.set_timeout(Some(Duration::from_millis(1)));
        receiver.refresh().unwrap();
        assert_eq!(receiver.packet_mmap_counters().link_downs, 1);
        receiver.set_timeout(Some(PATIENCE));
        send(&mut sender("right", RIGHT, false), A, [&b"x"[..]]);
        while receiver.receive(&mut |packet| assert_eq!(packet.payload, b"x")).unwrap() == 0 {}
        // Gone, it says so instead of waiting.
        run("ip link delete left").unwrap();
        let begun = Instant::now();
        let error = loop {
            match receiver.receive(&mut |_| {}) {
                Ok(_) => assert!(begun.elapsed() < PATIENCE),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().starts_with("interface left is gone"), "{error}");

        let refused = |options| PacketMmapReceiver::open(&[line(0, A, "right")], options).unwrap_err();
        for options in [
            PacketMmapOptions { slot_bytes: 1 << 18, ..options.clone() },
            PacketMmapOptions { ring_bytes: 0, ..options.clone() },
            PacketMmapOptions { batch: 0, ..options.clone() },
            PacketMmapOptions { version: Version::V3 { block_timeout_ms: 0 }, ..options.clone() },
        ] {
            assert!(matches!(refused(options), OpenError::BadOption { .. }));
        }
    });
}

/// With two buffers, a burst of hundreds arrives whole and in order: the requests end and are armed anew.
#[test]
fn io_uring_running_out_of_buffers_loses_nothing() {
    in_namespace(|| {
        for (mode, sqpoll) in
            [(Mode::Busy, None), (Mode::Blocking, None), (Mode::Blocking, Some(SqPoll { idle_ms: 10, cpu: None }))]
        {
            let options = IoUringOptions { mode, sqpoll, buffers: 2, max_datagram: 100, ..IoUringOptions::default() };
            let mut receiver = IoUringReceiver::open(&[line(0, A, "left")], options).unwrap();
            let payloads: Vec<[u8; 2]> = (0..500u16).map(u16::to_be_bytes).collect();
            send(&mut sender("right", RIGHT, false), A, payloads.iter().map(|payload| payload.as_slice()));
            let mut kept: Vec<[u8; 2]> = Vec::new();
            let begun = Instant::now();
            while kept.len() < 500 && begun.elapsed() < PATIENCE {
                receiver.receive(&mut |packet| kept.push(packet.payload.try_into().unwrap())).unwrap();
            }
            assert!(kept == payloads, "{mode:?} {sqpoll:?} {:?}", receiver.counters());
            let own = receiver.io_uring_counters();
            assert!(own.buffers_exhausted >= 1 && own.rearmed >= own.buffers_exhausted, "{own:?}");
        }
    });
}

/// A busy receiver with nothing to do makes no system call, and far fewer than one a packet otherwise.
#[test]
fn io_uring_enters_the_kernel_only_when_packets_wait() {
    in_namespace(|| {
        let mut receiver = IoUringReceiver::open(&[line(0, A, "left")], IoUringOptions::default()).unwrap();
        receiver.receive(&mut |_| {}).unwrap();
        let armed = receiver.io_uring_counters().enters;
        (0..100_000).for_each(|_| assert_eq!(receiver.receive(&mut |_| {}).unwrap(), 0));
        assert_eq!(receiver.io_uring_counters().enters, armed);
        send(&mut sender("right", RIGHT, false), A, (0..500).map(|_| &b"x"[..]));
        let (mut packets, begun) = (0, Instant::now());
        while packets < 500 && begun.elapsed() < PATIENCE {
            packets += receiver.receive(&mut |_| {}).unwrap();
        }
        let enters = receiver.io_uring_counters().enters - armed;
        assert!(packets == 500 && (1..250).contains(&enters), "{packets} {enters}");
    });
}

/// The ring is its first receiver's thread's: another's call fails, and another may drop it. With SQPOLL any may receive.
#[test]
fn io_uring_keeps_to_its_thread() {
    in_namespace(|| {
        let open = |sqpoll| {
            let options = IoUringOptions { mode: Mode::Blocking, sqpoll, ..IoUringOptions::default() };
            let mut receiver = IoUringReceiver::open(&[line(0, A, "left")], options).unwrap();
            receiver.set_timeout(Some(PATIENCE));
            receiver
        };
        let mut right = sender("right", RIGHT, false);
        // Opened here, used there.
        let mut receiver = open(None);
        send(&mut right, A, [&b"x"[..]]);
        let mut receiver = std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    assert_eq!(receiver.receive(&mut |_| {}).unwrap(), 1);
                    receiver
                })
                .join()
                .unwrap()
        });
        let error = receiver.receive(&mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("another thread"), "{error}");
        drop(receiver);
        // Its socket is gone, if not at once.
        let joined = || std::fs::read_to_string("/proc/thread-self/net/igmp").unwrap().contains("0100C8EF");
        let begun = Instant::now();
        while joined() {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(1));
        }

        let mut receiver = open(Some(SqPoll { idle_ms: 10, cpu: None }));
        for _ in 0..3 {
            send(&mut right, A, [&b"x"[..]]);
            std::thread::scope(|scope| {
                let receive = || while receiver.receive(&mut |_| {}).unwrap() == 0 {};
                scope.spawn(receive).join().unwrap();
            });
        }
        assert_eq!(receiver.counters().packets, 3);
    });
}

/// A process forked from the receiver's drops its copy, and the receiver goes on.
#[test]
fn io_uring_is_left_alone_by_a_fork() {
    in_namespace(|| {
        for sqpoll in [None, Some(SqPoll { idle_ms: 10, cpu: None })] {
            let options = IoUringOptions { mode: Mode::Blocking, sqpoll, ..IoUringOptions::default() };
            let mut receiver = IoUringReceiver::open(&[line(0, A, "left")], options).unwrap();
            receiver.set_timeout(Some(PATIENCE));
            let mut right = sender("right", RIGHT, false);
            send(&mut right, A, [&b"before"[..]]);
            assert_eq!(receiver.receive(&mut |_| {}).unwrap(), 1);
            // SAFETY: the child only drops, which makes system calls and frees memory, and leaves.
            let child = unsafe { libc::fork() };
            if child == 0 {
                drop(receiver);
                // SAFETY: it takes no pointers and does not return.
                unsafe { libc::_exit(7) };
            }
            let mut status = 0;
            // SAFETY: `status` is writable.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(libc::WEXITSTATUS(status), 7, "{status:x}");
            send(&mut right, A, [&b"after"[..]]);
            assert_eq!(receiver.receive(&mut |packet| assert_eq!(packet.payload, b"after")).unwrap(), 1);
            assert_eq!(receiver.io_uring_counters().rearmed, 0);
        }
    });
}

/// Where io_uring is forbidden or missing, the error says so, and what to do.
#[test]
fn io_uring_refused_is_explained() {
    in_namespace(|| {
        for (code, expected) in [
            (libc::EPERM, "line 3: io_uring is forbidden, most likely by a container's seccomp profile: allow "),
            (libc::ENOSYS, "line 3: this kernel has no io_uring: use the kernel path"),
            (libc::EINVAL, "line 3: this kernel's io_uring is too old, Linux 6.1 has what is needed: use the kernel"),
        ] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // Of this thread alone.
                    refuse((libc::SYS_io_uring_setup, None), code);
                    let error = IoUringReceiver::open(&[line(3, A, "left")], IoUringOptions::default()).unwrap_err();
                    assert!(error.to_string().starts_with(expected), "{error}");
                    assert_eq!(error.os_error().unwrap().raw_os_error(), Some(code));
                });
            });
        }
        for options in [
            IoUringOptions { buffers: 1 << 16, ..IoUringOptions::default() },
            IoUringOptions { batch: 0, ..IoUringOptions::default() },
            IoUringOptions { max_datagram: 0, ..IoUringOptions::default() },
        ] {
            let error = IoUringReceiver::open(&[line(3, A, "left")], options).unwrap_err();
            assert!(matches!(error, OpenError::BadOption { .. }));
        }
    });
}
