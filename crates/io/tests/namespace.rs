//! What only two interfaces can show, in a network namespace of the test's own. Needs root; skips without.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::{Duration, Instant};

use barewire_io::kernel::{KernelOptions, KernelReceiver};
use barewire_io::send::{Outgoing, SendOptions, UdpSender};
use barewire_io::{LineConfig, OpenError, Receiver};
use barewire_types::TsSource;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 200, 0, 1);
const PORT: u16 = 26_477;
const PATIENCE: Duration = Duration::from_secs(10);

/// Moves this thread into a new network namespace with a pair of interfaces, or says why it cannot.
fn enter() -> Result<(), String> {
    // SAFETY: unshare takes no pointers; it moves this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(format!("no network namespace: {}", std::io::Error::last_os_error()));
    }
    let script = "ip link set lo up && ip link add left type veth peer name right \
                  && ip address add 10.99.0.1/24 dev left && ip address add 10.99.0.2/24 dev right \
                  && ip link set left up && ip link set right up";
    // Children are born into this thread's namespace.
    match Command::new("sh").args(["-c", script]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => return Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => return Err(error.to_string()),
    }
    // Both ends belong to one machine here, which otherwise refuses packets from its own address.
    for end in ["left", "right"] {
        for (name, value) in [("accept_local", "1"), ("rp_filter", "0")] {
            // Of the namespace that the writing thread is in.
            let path = format!("/proc/sys/net/ipv4/conf/{end}/{name}");
            std::fs::write(&path, value).map_err(|error| format!("{path}: {error}"))?;
        }
    }
    Ok(())
}

fn line(number: u8, interface: &str) -> LineConfig {
    LineConfig {
        group: GROUP,
        port: PORT,
        interface: Some(interface.into()),
        source: None,
        allow: Vec::new(),
        line: number,
    }
}

fn sender(interface: &str, segmentation: bool) -> UdpSender {
    let options =
        SendOptions { interface: Some(interface.into()), segmentation, loopback: false, ..SendOptions::default() };
    UdpSender::open(&options).unwrap()
}

/// Two lines with one group and one port on two interfaces hear their own interface only; and datagrams longer than the
/// interface's packets are sent even where they cannot be segmented.
#[test]
fn one_group_on_two_interfaces_is_two_lines() {
    std::thread::spawn(|| {
        if let Err(reason) = enter() {
            eprintln!("skipped: {reason}");
            return;
        }
        let mut receiver =
            KernelReceiver::open(&[line(0, "left"), line(1, "right")], KernelOptions::default()).unwrap();
        let to = SocketAddrV4::new(GROUP, PORT);
        let long = [vec![1; 4_000], vec![2; 4_000]];
        // What leaves by one end arrives at the other.
        let batch = long.each_ref().map(|payload| Outgoing { to, payload });
        let mut from_right = sender("right", true);
        assert_eq!(from_right.send_all(&batch, PATIENCE).unwrap(), 2);
        assert_eq!((from_right.counters().segmentation_refused, from_right.counters().segmented), (1, 0));
        assert_eq!(sender("left", false).send_all(&[Outgoing { to, payload: b"to the right" }], PATIENCE).unwrap(), 1);

        let mut kept = Vec::new();
        let begun = Instant::now();
        while kept.len() < 3 && begun.elapsed() < PATIENCE {
            let mut keep =
                |packet: barewire_io::Packet<'_>| kept.push((packet.line, packet.payload.to_vec(), packet.ts_source));
            receiver.receive(&mut keep).unwrap();
        }
        kept.sort_by_key(|kept| kept.0);
        let lines: Vec<_> = kept.iter().map(|(line, payload, _)| (*line, payload.as_slice())).collect();
        assert_eq!(lines, [(0, &long[0][..]), (0, &long[1][..]), (1, b"to the right")]);
        assert!(kept.iter().all(|kept| matches!(kept.2, TsSource::Kernel | TsSource::User)));

        // Neither is there a route for a group, nor was an interface named.
        let error =
            KernelReceiver::open(&[LineConfig { interface: None, ..line(7, "left") }], KernelOptions::default());
        let error = error.unwrap_err();
        assert!(matches!(error, OpenError::Join { line: 7, .. }), "{error}");
        assert!(error.to_string().ends_with("no route leads to it: name an interface"), "{error}");
    })
    .join()
    .unwrap();
}
