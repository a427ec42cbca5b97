//! A network of the test's own, and sending in it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use barewire_io::LineConfig;
use barewire_io::send::{Outgoing, SendOptions, UdpSender};

/// Longer than anything here takes, however busy the machine.
pub const PATIENCE: Duration = Duration::from_secs(10);
pub const A: Ipv4Addr = Ipv4Addr::new(239, 200, 0, 1);
pub const B: Ipv4Addr = Ipv4Addr::new(239, 200, 0, 2);
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(239, 200, 0, 3);
pub const PORT: u16 = 26_477;
pub const LEFT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// A second address of the right end.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);

pub fn line(number: u8, group: Ipv4Addr, interface: &str) -> LineConfig {
    LineConfig { group, port: PORT, interface: Some(interface.into()), source: None, allow: Vec::new(), line: number }
}

/// Sends by an interface, from one of its addresses.
pub fn sender(interface: &str, source: Ipv4Addr, segmentation: bool) -> UdpSender {
    let options = SendOptions {
        interface: Some(interface.into()),
        source: Some(source),
        segmentation,
        loopback: interface == "lo",
        ..SendOptions::default()
    };
    UdpSender::open(&options).unwrap()
}

pub fn send<'a>(sender: &mut UdpSender, to: Ipv4Addr, payloads: impl IntoIterator<Item = &'a [u8]>) {
    let to = SocketAddrV4::new(to, PORT);
    let batch: Vec<_> = payloads.into_iter().map(|payload| Outgoing { to, payload }).collect();
    assert_eq!(sender.send_all(&batch, PATIENCE).unwrap(), batch.len());
}

pub fn run(script: &str) -> Result<(), String> {
    // Children are born into this thread's namespace.
    match Command::new("sh").args(["-ec", script]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Waits until interfaces that were set up send: until then they have a queue that drops everything and says nothing.
pub fn settle(interfaces: &[&str]) -> Result<(), String> {
    for interface in interfaces {
        run(&format!(
            "for n in $(seq 1000); do
                 case $(ip link show dev {interface}) in *'qdisc noop '*) sleep 0.01;; *) exit 0;; esac
             done
             echo {interface} stays down >&2
             exit 1"
        ))?;
    }
    Ok(())
}

/// Moves this thread into a new network namespace with a pair of interfaces, or says why it cannot.
pub fn enter() -> Result<(), String> {
    // SAFETY: unshare takes no pointers; it moves this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(format!("no network namespace: {}", std::io::Error::last_os_error()));
    }
    run("ip link set lo up")?;
    set_up()
}

/// Makes the pair of interfaces, ready to send.
pub fn set_up() -> Result<(), String> {
    run("ip link add left type veth peer name right
         ip address add 10.99.0.1/24 dev left
         ip address add 10.99.0.2/24 dev right
         ip address add 10.99.0.3/24 dev right
         ip link set left up
         ip link set right up")?;
    settle(&["left", "right"])?;
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

/// Runs a test in a namespace of its own; skips where none can be had, but not where CI is set.
pub fn in_namespace(test: impl FnOnce() + Send) {
    let result = std::thread::scope(|scope| {
        scope
            .spawn(|| match enter() {
                Ok(()) => test(),
                Err(reason) if std::env::var_os("CI").is_some() => panic!("CI can make namespaces: {reason}"),
                Err(reason) => eprintln!("skipped: {reason}"),
            })
            .join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Hands a frame to an interface as it is.
pub fn inject(interface: &str, frame: &[u8]) {
    let index = barewire_io::interfaces::index(interface).unwrap();
    // SAFETY: socket takes no pointers; a sockaddr_ll of zeros is a value; name and frame are readable for the lengths
    // given.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        let mut name: libc::sockaddr_ll = std::mem::zeroed();
        name.sll_family = libc::AF_PACKET as u16;
        name.sll_ifindex = index as i32;
        let len = size_of_val(&name) as libc::socklen_t;
        let sent = libc::sendto(fd, frame.as_ptr().cast(), frame.len(), 0, (&raw const name).cast(), len);
        assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
        libc::close(fd);
    }
}

pub fn drop_capabilities() {
    #[repr(C)]
    struct Header(u32, i32);
    const VERSION_3: u32 = 0x2008_0522;
    let (header, none) = (Header(VERSION_3, 0), [0u32; 6]);
    // SAFETY: the header and two sets of three words are readable.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    assert_eq!(set, 0);
}
