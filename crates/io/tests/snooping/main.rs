//! A switch that sends a group only where somebody has joined it: a bridge that snoops on IGMP and asks who is there, in a
//! network namespace. Whatever the path, the group comes because of its join, goes on coming because the kernel answers
//! the switch's questions, and stops when the receiver goes. Needs root: skips without, but not where CI is set.

#[allow(dead_code, reason = "shared with the suite of all paths")]
#[path = "../paths/any.rs"]
mod any;
#[allow(dead_code, reason = "shared with the suite of all paths")]
#[path = "../paths/net.rs"]
mod net;
#[allow(dead_code, reason = "shared with the tests of AF_XDP")]
#[path = "../af_xdp/tools.rs"]
mod tools;

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use barewire_io::LineConfig;

use any::*;
use net::*;
use tools::Sniffer;

const PATHS: [Path; 7] =
    [kernel, packet_mmap_v2, packet_mmap_v3, io_uring, io_uring_sqpoll, af_xdp_native, af_xdp_generic];
/// The switch forgets who has not answered for so long; it asks every second.
const FORGOTTEN: Duration = Duration::from_secs(3);

/// A bridge with a port for each path (`in0` and so on), one for nobody, and one to send from.
fn set_up_switch() {
    // A switch floods everything until it has asked once and waited for answers: 10 s, unless it is told to hurry.
    run("ip link add br0 type bridge mcast_snooping 1 mcast_igmp_version 3 mcast_query_interval 100 \
             mcast_startup_query_interval 100 mcast_query_response_interval 50 mcast_membership_interval 300 \
             mcast_last_member_interval 10 mcast_last_member_count 2
         ip link set br0 type bridge mcast_querier 1
         ip address add 10.98.0.254/24 dev br0")
    .unwrap();
    let ends: Vec<String> =
        (0..PATHS.len()).map(|n| format!("in{n}")).chain(["nobody".to_owned(), "out".to_owned()]).collect();
    for (n, end) in ends.iter().enumerate() {
        run(&format!(
            "ip link add {end} type veth peer name p-{end}
             ip link set p-{end} master br0
             ip link set p-{end} up
             ip address add 10.98.0.{}/24 dev {end}
             ip link set {end} up",
            n + 1
        ))
        .unwrap();
        for (name, value) in [("accept_local", "1"), ("rp_filter", "0"), ("force_igmp_version", "3")] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{end}/{name}"), value).unwrap();
        }
    }
    run("ip address add 10.98.0.200/24 dev out && ip link set br0 up").unwrap();
    let ports: Vec<String> = ends.iter().map(|end| format!("p-{end}")).collect();
    let all: Vec<&str> = ends.iter().chain(&ports).map(String::as_str).collect();
    settle(&all).unwrap();
}

/// Groups that the switch knows of, with their ports, filters and sources, a line each.
fn known() -> Vec<String> {
    let output = Command::new("bridge").args(["-details", "mdb", "show"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.contains(" grp 239.200.")).map(str::to_owned).collect()
}

/// Datagrams that reached an interface since this was last asked.
fn datagrams(on: &Sniffer) -> usize {
    const UDP: u8 = 17;
    on.frames().iter().filter(|frame| frame[12..14] == [8, 0] && frame[23] == UDP).count()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", known());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything that comes within a moment, by path: group's line and sender's last byte.
fn hear(receivers: &mut [Any]) -> Vec<Vec<(u8, u8)>> {
    let mut heard = vec![Vec::new(); receivers.len()];
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(100) {
        for (receiver, heard) in receivers.iter_mut().zip(&mut heard) {
            receiver.receive(|packet| heard.push((packet.line, packet.src.ip().octets()[3])));
        }
    }
    heard
}

#[test]
fn a_group_comes_because_of_the_join_and_for_as_long() {
    in_namespace(|| {
        set_up_switch();
        let (right, wrong): (Ipv4Addr, _) = ([10, 98, 0, PATHS.len() as u8 + 2].into(), [10, 98, 0, 200].into());
        let mut senders = [sender("out", right, false), sender("out", wrong, false)];
        let mut shout = || {
            for sender in &mut senders {
                for group in [A, B] {
                    send(sender, group, [&b"x"[..]]);
                }
            }
        };
        let nobody = Sniffer::on("nobody");
        // The switch has come to know that nobody is there: from then on it sends the groups nowhere.
        until("the bridge goes on flooding", || {
            shout();
            datagrams(&nobody) == 0
        });

        let mut receivers: Vec<Any> = (0..PATHS.len())
            .map(|n| {
                let lines = [line(0, A, &format!("in{n}")), line(1, B, &format!("in{n}"))];
                let [any_source, specific] = lines;
                Any::open(PATHS[n], &[any_source, LineConfig { source: Some(right), ..specific }], &PLAIN)
            })
            .collect();
        until("the joins are not seen", || known().len() >= 2 * PATHS.len());
        for n in 0..PATHS.len() {
            let port = format!("port p-in{n} ");
            let of_port: Vec<_> = known().into_iter().filter(|line| line.contains(&port)).collect();
            let has = |words: &[&str]| of_port.iter().any(|line| words.iter().all(|word| line.contains(word)));
            assert!(has(&[" grp 239.200.0.1 ", "filter_mode exclude"]), "{of_port:?}");
            // IGMPv3's own report: the group from this source, and from no other.
            let source = format!("source_list {right}/");
            assert!(has(&[" grp 239.200.0.2 ", "filter_mode include", &source]), "{of_port:?}");
        }

        let expected = [(0, right.octets()[3]), (0, wrong.octets()[3]), (1, right.octets()[3])];
        let begun = Instant::now();
        // At once, and when a switch that had got no answer would have forgotten them.
        while begun.elapsed() < FORGOTTEN + Duration::from_secs(1) {
            shout();
            for (path, mut heard) in PATHS.iter().zip(hear(&mut receivers)) {
                heard.sort();
                assert_eq!(heard, expected, "{path:?} after {:?}", begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(400));
        }
        // What the wrong sender sent to the source's group came nowhere near.
        for (path, receiver) in PATHS.iter().zip(&mut receivers) {
            receiver.refresh();
            let counters = receiver.counters();
            assert_eq!((counters.wrong_source, all(&counters)), (0, counters.packets), "{path:?} {counters:?}");
        }
        assert_eq!(datagrams(&nobody), 0, "on a port that joined nothing");

        drop(receivers);
        until("the receivers' leaving is not seen", || known().is_empty());
    });
}
