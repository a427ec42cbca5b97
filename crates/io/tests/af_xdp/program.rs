//! The program's life: as long as the receiver's, never at another's cost.

use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::process::{Command, Stdio};

use barewire_io::af_xdp::{AfXdpError, AfXdpOptions, AfXdpReceiver, Attach, Transfer};
use barewire_io::kernel::{KernelOptions, KernelReceiver};
use barewire_io::{OpenError, Receiver};

use crate::net::*;
use crate::tools::*;

/// Whether an interface of this namespace has an XDP program, by the kernel's word.
fn has_program(interface: &str) -> bool {
    let output = Command::new("ip").args(["-details", "link", "show", "dev", interface]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().contains("xdp")
}

#[test]
fn the_program_goes_with_the_receiver() {
    in_namespace(|| {
        for attach in [Attach::Native, Attach::Generic] {
            assert!(!has_program("left") && !has_program("right"));
            let lines = [line(0, A, "left"), line(1, A, "right")];
            let receiver = open(&lines, AfXdpOptions { attach, ..small() });
            assert!(has_program("left") && has_program("right"));
            drop(receiver);
            assert!(!has_program("left") && !has_program("right"));
        }
        // From now on the kernel's stack has the group's packets, and the queue is free for the next.
        let mut stack = KernelReceiver::open(&[line(0, A, "left")], KernelOptions::default()).unwrap();
        send(&mut sender("right", RIGHT, false), A, [&b"x"[..]]);
        let begun = std::time::Instant::now();
        while stack.receive(&mut |packet| assert_eq!(packet.payload, b"x")).unwrap() == 0 {
            assert!(begun.elapsed() < PATIENCE);
        }
        // A failure on the second interface leaves nothing on the first.
        let gone = [line(0, A, "left"), line(1, std::net::Ipv4Addr::LOCALHOST, "lo")];
        let error = AfXdpReceiver::open(&gone, AfXdpOptions { attach: Attach::Native, ..small() }).unwrap_err();
        assert!(
            matches!(&error, OpenError::AfXdp { error: AfXdpError::CannotAttach { way: "native", .. }, .. }),
            "{error}"
        );
        assert!(error.to_string().starts_with("line 1: lo cannot run XDP programs in native mode: "), "{error}");
        assert!(!has_program("left") && !has_program("lo"));
    });
}

/// A forked process that drops its copy of the receiver does not end the parent's, nor does one that keeps its copy hold
/// on to a program that the parent has dropped.
#[test]
fn a_fork_changes_nothing() {
    in_namespace(|| {
        let mut receiver = Some(open(&[line(0, A, "left")], small()));
        // SAFETY: the child only frees memory, closes descriptors and ends.
        let quits = unsafe { libc::fork() };
        if quits == 0 {
            drop(receiver.take());
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: `status` is writable.
        assert_eq!((unsafe { libc::waitpid(quits, &mut status, 0) }, status), (quits, 0));
        send(&mut sender("right", RIGHT, false), A, [&b"still here"[..]]);
        assert_eq!(take(receiver.as_mut().unwrap(), 1)[0].payload, b"still here");

        // SAFETY: the child only waits, for the signal below.
        let stays = unsafe { libc::fork() };
        if stays == 0 {
            loop {
                // SAFETY: pause takes nothing.
                unsafe { libc::pause() };
            }
        }
        drop(receiver);
        let left_behind = has_program("left");
        // SAFETY: `stays` is this test's child; `status` is writable.
        unsafe {
            libc::kill(stays, libc::SIGKILL);
            libc::waitpid(stays, &mut status, 0);
        }
        assert!(!left_behind);
    });
}

const HOLD: &str = "BAREWIRE_TEST_HOLD_INTERFACE";

/// The part of the next test that is killed. Does nothing when it is not a child of it.
#[test]
fn holds_the_interface_until_it_is_killed() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let receiver = open(&[line(0, A, "left")], small());
    println!("\nholding {}", receiver.reports()[0].interface);
    loop {
        std::thread::park();
    }
}

/// A process that is killed leaves no program: the traffic is the kernel's again, and another can take its place.
#[test]
fn a_killed_process_leaves_nothing() {
    in_namespace(|| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "program::holds_the_interface_until_it_is_killed", "--nocapture"])
            .env(HOLD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(said.map_while(Result::ok).any(|line| line == "holding left"), "the child opened nothing");
        assert!(has_program("left"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!has_program("left"));
        let mut receiver = open(&[line(0, A, "left")], small());
        send(&mut sender("right", RIGHT, false), A, [&b"after"[..]]);
        assert_eq!(take(&mut receiver, 1)[0].payload, b"after");
    });
}

/// Whoever has a program on the interface keeps it, in whatever mode.
#[test]
fn a_program_that_is_there_stays() {
    in_namespace(|| {
        for (theirs, ours) in [
            (Attach::Native, Attach::PreferNative),
            (Attach::Generic, Attach::PreferNative),
            (Attach::Native, Attach::Generic),
            (Attach::Generic, Attach::Generic),
        ] {
            let mut first = open(&[line(0, A, "left")], AfXdpOptions { attach: theirs, ..small() });
            let error = AfXdpReceiver::open(&[line(7, B, "left")], AfXdpOptions { attach: ours, ..small() });
            let error = error.unwrap_err();
            let in_the_way = matches!(&error, OpenError::AfXdp { error: AfXdpError::ProgramInTheWay { .. }, .. });
            assert!(in_the_way, "{theirs:?} {ours:?} {error}");
            assert!(error.to_string().starts_with("line 7: left has an XDP program already"), "{error}");
            send(&mut sender("right", RIGHT, false), A, [&b"still here"[..]]);
            assert_eq!(take(&mut first, 1)[0].payload, b"still here");
        }
    });
}

#[test]
fn what_is_insisted_on_and_refused_is_an_error() {
    in_namespace(|| {
        let fails = |options| AfXdpReceiver::open(&[line(0, A, "left")], options).unwrap_err();
        for attach in [Attach::Native, Attach::Generic] {
            let error = fails(AfXdpOptions { attach, transfer: Transfer::ZeroCopy, ..small() });
            assert!(error.to_string().contains("queue 0 of left cannot be bound in zero-copy mode: "), "{error}");
            assert_eq!(error.os_error().and_then(std::io::Error::raw_os_error), Some(libc::EOPNOTSUPP));
        }
        let error = fails(AfXdpOptions { queues: Some(vec![0, 4]), ..small() });
        assert_eq!(error.to_string(), "line 0: left has no receive queue 4: it has 1, numbered from 0");
        let error = AfXdpReceiver::open(&[line(0, A, "middle")], small()).unwrap_err();
        assert!(matches!(error, OpenError::NoSuchInterface { .. }), "{error}");
        assert!(!has_program("left"));
    });
}

/// Without privilege, one line says what is missing.
#[test]
fn privilege_that_is_missing_is_named() {
    in_namespace(|| {
        drop_capabilities();
        let error = AfXdpReceiver::open(&[line(2, A, "left")], small()).unwrap_err();
        assert!(matches!(error, OpenError::NotPermitted { .. }), "{error}");
        let said = error.to_string();
        assert!(said.starts_with("line 2: not permitted to ") && said.contains("CAP_BPF"), "{said}");
        assert!(!said.contains('\n'), "{said}");
    });
}

/// An interface that is taken away ends the path with an error: after a wait, or when statistics are asked for.
#[test]
fn an_interface_that_goes_is_an_error() {
    in_namespace(|| {
        let blocking = AfXdpOptions { mode: barewire_io::kernel::Mode::Blocking, ..small() };
        let mut waits = open(&[line(0, A, "left")], blocking);
        let mut looks = open(&[line(0, A, "right")], small());
        waits.set_timeout(Some(std::time::Duration::from_millis(1)));
        run("ip link delete left").unwrap();
        let gone = |error: std::io::Error, name| {
            assert!(error.to_string().starts_with(&format!("interface {name} is gone")), "{error}");
        };
        gone(waits.receive(&mut |packet| panic!("{packet:?}")).unwrap_err(), "left");
        gone(looks.refresh().unwrap_err(), "right");
    });
}

/// A tunnel's packets have no Ethernet header in front of them: the program would look for it in vain.
#[test]
fn what_carries_no_ethernet_is_refused() {
    in_namespace(|| {
        if let Err(why) = run("ip tuntap add tunnel mode tun && ip link set tunnel up") {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("skipped: no tun devices: {why}");
            return;
        }
        let error = AfXdpReceiver::open(&[line(4, A, "tunnel")], small()).unwrap_err();
        assert!(matches!(error, OpenError::NotEthernet { .. }), "{error}");
        assert!(error.to_string().starts_with("line 4: tunnel carries no Ethernet frames"), "{error}");
        assert!(!has_program("tunnel"));
    });
}

/// The loopback has no native XDP, and its senders' packets come all the same.
#[test]
fn the_loopback_works_by_generic_xdp() {
    in_namespace(|| {
        let loopback = std::net::Ipv4Addr::LOCALHOST;
        let mut receiver = open(&[line(0, loopback, "lo")], small());
        assert_eq!(receiver.reports()[0].attach.got, barewire_io::af_xdp::Attached::Generic);
        let socket = std::net::UdpSocket::bind((loopback, 0)).unwrap();
        socket.send_to(b"round", SocketAddrV4::new(loopback, PORT)).unwrap();
        assert_eq!(take(&mut receiver, 1)[0].payload, b"round");
    });
}
