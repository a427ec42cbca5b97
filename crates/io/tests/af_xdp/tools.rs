//! Frames by hand, what reached the kernel's stack, and receiving with patience.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use barewire_io::af_xdp::{AfXdpOptions, AfXdpReceiver};
use barewire_io::{LineConfig, Packet, Receiver, ReceiverCounters};
use barewire_types::{TsSource, UnixNanos};
use barewire_wire::frame;

use crate::net::PATIENCE;

/// Little memory: many tests run at once.
pub fn small() -> AfXdpOptions {
    AfXdpOptions { frames: Some(2048), ..AfXdpOptions::default() }
}

pub fn open(lines: &[LineConfig], options: AfXdpOptions) -> AfXdpReceiver {
    AfXdpReceiver::open(lines, options).unwrap_or_else(|error| panic!("{error}"))
}

pub fn udp_from(vlan: Option<u16>, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 2_000];
    let address = |(ip, port)| SocketAddrV4::new(ip, port);
    let len = frame::encode(&mut out, vlan, address(from), address(to), payload).unwrap();
    out.truncate(len);
    out
}

/// A UDP packet's frame.
pub fn udp(vlan: Option<u16>, from: Ipv4Addr, to: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    udp_from(vlan, (from, 4_000), (to, port), payload)
}

/// Replaces 16 bits of an untagged frame's IPv4 header, and sums it up again.
pub fn with_ip_half(mut frame: Vec<u8>, at: usize, value: u16) -> Vec<u8> {
    frame[14 + at..16 + at].copy_from_slice(&value.to_be_bytes());
    frame[24..26].fill(0);
    let sum: u32 = frame[14..34].chunks(2).map(|half| u32::from(u16::from_be_bytes([half[0], half[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

pub fn number(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload.try_into().unwrap())
}

/// A packet, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub line: u8,
    pub payload: Vec<u8>,
    pub src: Ipv4Addr,
    pub ts_recv: UnixNanos,
    pub ts_source: TsSource,
}

impl Kept {
    fn of(packet: Packet<'_>) -> Kept {
        let Packet { line, payload, ts_recv, ts_source, src, .. } = packet;
        Kept { line, payload: payload.to_vec(), src: *src.ip(), ts_recv, ts_source }
    }
}

/// Receives until so many packets came, and fails when they do not.
pub fn take(receiver: &mut AfXdpReceiver, count: usize) -> Vec<Kept> {
    let mut kept = Vec::new();
    let begun = Instant::now();
    while kept.len() < count {
        receiver.receive(&mut |packet| kept.push(Kept::of(packet))).unwrap();
        assert!(begun.elapsed() < PATIENCE, "{} of {count}: {:?}", kept.len(), receiver.counters());
    }
    kept
}

/// Receives until the counters say so, and fails when they do not.
pub fn until(receiver: &mut AfXdpReceiver, done: impl Fn(&ReceiverCounters) -> bool, mut sink: impl FnMut(Kept)) {
    let begun = Instant::now();
    loop {
        receiver.receive(&mut |packet| sink(Kept::of(packet))).unwrap();
        receiver.refresh().unwrap();
        if done(&receiver.counters()) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{:?}", receiver.counters());
    }
}

/// Between the interfaces are queues of some hundred packets, which drop without AF_XDP's knowing when many are sent while
/// the kernel's softirqs have to wait.
pub fn let_softirqs_run() {
    std::thread::sleep(Duration::from_millis(1));
}

/// What comes when nothing should.
pub fn quiet(receiver: &mut AfXdpReceiver) -> usize {
    std::thread::sleep(Duration::from_millis(5));
    receiver.receive(&mut |_| {}).unwrap()
}

/// Packets that ended anywhere.
pub fn all(counters: &ReceiverCounters) -> u64 {
    let ReceiverCounters { packets, kernel_drops, truncated, wrong_source, .. } = *counters;
    let ReceiverCounters { other_destination, not_udp, fragments, malformed, .. } = *counters;
    packets + kernel_drops + truncated + wrong_source + other_destination + not_udp + fragments + malformed
}

/// A packet socket of an interface that gets the frames of one protocol, or none for 0.
fn packet_socket(interface: &str, protocol: u16) -> OwnedFd {
    let index = barewire_io::interfaces::index(interface).unwrap();
    // SAFETY: socket takes no pointers and returns a descriptor that nobody else has; a sockaddr_ll of zeros is a value,
    // readable for the length given.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        let fd = OwnedFd::from_raw_fd(fd);
        let mut name: libc::sockaddr_ll = std::mem::zeroed();
        name.sll_family = libc::AF_PACKET as u16;
        name.sll_protocol = protocol.to_be();
        name.sll_ifindex = index as i32;
        let len = size_of_val(&name) as libc::socklen_t;
        assert_eq!(libc::bind(fd.as_raw_fd(), (&raw const name).cast(), len), 0);
        fd
    }
}

/// Hands frames to an interface as they are. (Closing such a socket takes the kernel some milliseconds.)
pub struct Injector(OwnedFd);

impl Injector {
    pub fn on(interface: &str) -> Injector {
        Injector(packet_socket(interface, 0))
    }

    pub fn inject(&self, frame: &[u8]) {
        // SAFETY: `frame` is readable for its length.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
    }
}

/// Sees the frames of an interface that reach the kernel's stack.
pub struct Sniffer(OwnedFd);

impl Sniffer {
    pub fn on(interface: &str) -> Sniffer {
        const ETH_P_ALL: u16 = 3;
        Sniffer(packet_socket(interface, ETH_P_ALL))
    }

    /// All frames so far.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        std::thread::sleep(Duration::from_millis(5));
        let mut frames = Vec::new();
        loop {
            let mut frame = vec![0; 4096];
            // SAFETY: `frame` is writable for its length.
            let got =
                unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
            let Ok(got) = usize::try_from(got) else { return frames };
            frame.truncate(got);
            frames.push(frame);
        }
    }
}
