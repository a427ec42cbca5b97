//! Two network cards with clocks of their own, on one cable: an emulated guest has them (`make test-vm`).
//!
//! What is here runs the ioctls and structures for clocks, stamps and zero-copy for real, on the driver `igb`. The emulated
//! card's clock counts the host's time, and does not stamp UDP packets that it receives: of timing this shows nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use barewire_io::af_xdp::{AfXdpOptions, AfXdpReceiver, Attach, Attached, Transfer, Transferred};
use barewire_io::clock::correlation::{Method, PhcNanos, Tracker, TrackerOptions, Update};
use barewire_io::clock::phc::Phc;
use barewire_io::hwstamp::{self, Config, NoHardwareStamps, RxFilter};
use barewire_io::kernel::{KernelOptions, KernelReceiver};
use barewire_io::{Hardware, LineConfig, Receiver, Stamps, clock};
use barewire_types::TsSource;
use barewire_wire::frame;

/// The card that sends: it has no address, so that what it sends is a stranger's to the other.
const SENDING: &str = "eth0";
const RECEIVING: &str = "eth1";
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 5, 6, 7);
const PORT: u16 = 26_400;
/// HWTSTAMP_FILTER_PTP_V2_EVENT.
const PTP_EVENTS: RxFilter = RxFilter(12);
const STAMPING: Config = Config { flags: 0, tx_type: libc::HWTSTAMP_TX_ON, rx_filter: PTP_EVENTS };
/// An emulated machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

fn phc(interface: &str) -> Phc {
    let index = hwstamp::capabilities(interface).unwrap().phc.expect("a card with a clock");
    Phc::open(index).unwrap()
}

fn line() -> LineConfig {
    LineConfig {
        group: GROUP,
        port: PORT,
        interface: Some(RECEIVING.to_owned()),
        source: None,
        allow: Vec::new(),
        line: 0,
    }
}

/// A packet socket on the sending card.
struct Cable(raw::Socket);

mod raw {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    /// A raw socket on one interface.
    pub struct Socket(OwnedFd);

    impl Socket {
        pub fn on(interface: &str) -> Socket {
            // SAFETY: no pointers.
            let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            // SAFETY: it was just opened.
            let socket = Socket(unsafe { OwnedFd::from_raw_fd(fd) });
            let name = std::ffi::CString::new(interface).unwrap();
            // SAFETY: integers, for which zero is a value.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            // SAFETY: the name ends with a zero byte.
            address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) } as i32;
            // SAFETY: the address is readable for its length.
            let bound = unsafe {
                libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
            };
            assert_eq!(bound, 0, "{}", io::Error::last_os_error());
            socket
        }

        pub fn send(&self, frame: &[u8]) {
            // SAFETY: the frame is readable for its length.
            let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
            assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
        }

        pub fn fd(&self) -> libc::c_int {
            self.0.as_raw_fd()
        }
    }
}

impl Cable {
    fn new() -> Cable {
        Cable(raw::Socket::on(SENDING))
    }

    fn send(&self, payload: &[u8]) {
        let mut out = vec![0; 1_500];
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 9), 999);
        let len = frame::encode(&mut out, None, from, SocketAddrV4::new(GROUP, PORT), payload).unwrap();
        self.0.send(&out[..len]);
    }
}

/// Sends numbered packets until so many have come; what came.
fn exchange(receiver: &mut impl Receiver, count: u64) -> Vec<(u64, TsSource)> {
    let cable = Cable::new();
    let (mut seen, began, mut next) = (Vec::new(), Instant::now(), 0u64);
    while (seen.len() as u64) < count {
        assert!(began.elapsed() < PATIENCE, "{} of {count} came; {:?}", seen.len(), receiver.counters());
        cable.send(&next.to_be_bytes());
        next += 1;
        receiver
            .receive(&mut |packet| {
                seen.push((u64::from_be_bytes(packet.payload.try_into().unwrap()), packet.ts_source));
            })
            .unwrap();
    }
    seen
}

/// Steps a card's clock by so much.
fn step(index: u32, by: Duration) {
    let file: File = OpenOptions::new().read(true).write(true).open(format!("/dev/ptp{index}")).unwrap();
    // SAFETY: integers, for which zero is a value.
    let mut change: libc::timex = unsafe { std::mem::zeroed() };
    change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    change.time = libc::timeval { tv_sec: by.as_secs() as i64, tv_usec: i64::from(by.subsec_nanos()) };
    // CLOCKFD of the kernel's posix-timers.h.
    let id = (!file.as_raw_fd() << 3) | 3;
    // SAFETY: `change` is writable. It is the card's clock of this guest, nobody else's.
    let done = unsafe { libc::clock_adjtime(id, &mut change) };
    assert!(done >= 0, "{}", io::Error::last_os_error());
}

#[test]
fn a_cards_clock_is_read_and_a_step_of_it_is_noticed() {
    let mut phc = phc(RECEIVING);
    assert!(phc.caps().unwrap().max_adj_ppb > 0);
    assert!(!phc.name().unwrap().is_empty());
    let (first, second) = (phc.read().unwrap(), phc.read().unwrap());
    assert!(second > first);
    let mut tracker = Tracker::new(TrackerOptions::default());
    assert_eq!(tracker.update(phc.sample(9).unwrap()), Update::First);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(50));
        let update = tracker.update(phc.sample(9).unwrap());
        assert!(!matches!(update, Update::Stepped { .. }), "{update:?}");
    }
    let by = Duration::new(3, 500_000_000);
    let before = phc.read().unwrap();
    step(phc.index(), by);
    let after = phc.read().unwrap();
    assert!(after.0 - before.0 >= by.as_nanos() as u64);
    let update = tracker.update(phc.sample(9).unwrap());
    assert!(matches!(update, Update::Stepped { .. }), "{update:?}");
}

#[test]
fn a_cards_times_are_times_of_day_within_the_bound() {
    let mut phc = phc(SENDING);
    let sample = phc.sample(25).unwrap();
    assert!(matches!(sample.method, Method::Extended | Method::Precise), "{sample:?}");
    let mut tracker = Tracker::new(TrackerOptions::default());
    for _ in 0..8 {
        tracker.update(phc.sample(25).unwrap());
        std::thread::sleep(Duration::from_millis(30));
    }
    let fit = *tracker.fit().unwrap();
    for _ in 0..50 {
        let before = clock::now();
        let read = phc.read().unwrap();
        let after = clock::now();
        let found = fit.unix(read);
        assert!(found.time.0 + found.bound_ns >= before.0, "{found:?} {before:?}");
        assert!(found.time.0 <= after.0 + found.bound_ns, "{found:?} {after:?}");
    }
}

/// The emulated card, an 82576, can stamp PTP's packets only: that is set and read back, and more is refused.
#[test]
fn a_card_is_set_up_to_stamp_what_it_can() {
    let can = hwstamp::capabilities(RECEIVING).unwrap();
    assert!(can.rx_hardware() && can.tx_hardware() && can.has_filter(PTP_EVENTS), "{can:?}");
    assert!(!can.has_filter(RxFilter::ALL), "{can:?}");
    assert_eq!(hwstamp::set(RECEIVING, STAMPING).unwrap(), STAMPING);
    assert_eq!(hwstamp::get(RECEIVING).unwrap(), STAMPING);
    let refused = hwstamp::set(RECEIVING, Config { rx_filter: RxFilter::ALL, ..STAMPING }).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ERANGE), "{refused}");
    assert_eq!(hwstamp::get(RECEIVING).unwrap(), STAMPING);
    assert_eq!(hwstamp::stamp_all(RECEIVING).unwrap_err(), NoHardwareStamps::PtpOnly);
}

#[test]
fn sockets_say_why_there_are_no_card_times_and_take_the_kernels() {
    let options = KernelOptions { timestamps: Stamps::Hardware, ..KernelOptions::default() };
    let mut receiver = KernelReceiver::open(&[line()], options).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(receiver.reports()[0].hardware, Hardware::Unavailable(NoHardwareStamps::PtpOnly));
    let seen = exchange(&mut receiver, 200);
    assert!(seen.iter().all(|(_, source)| *source == TsSource::Kernel));
}

/// SO_TIMESTAMPING's stamp of a transmitted packet, from the card: between two readings of its clock.
#[test]
fn the_card_stamps_what_it_sends_by_the_clock_that_is_read() {
    hwstamp::set(SENDING, STAMPING).unwrap();
    let phc = phc(SENDING);
    let socket = raw::Socket::on(SENDING);
    let wanted = libc::SOF_TIMESTAMPING_TX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
    // SAFETY: the option's value is readable for its length.
    let set = unsafe {
        libc::setsockopt(socket.fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPING, (&raw const wanted).cast(), 4)
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
    let mut out = vec![0; 200];
    let to = SocketAddrV4::new(GROUP, PORT);
    let len =
        frame::encode(&mut out, None, SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 9), 999), to, b"stamped").unwrap();
    let before = phc.read().unwrap();
    socket.send(&out[..len]);
    let stamp = transmit_stamp(&socket);
    let after = phc.read().unwrap();
    assert!(before <= stamp && stamp <= after, "{before:?} {stamp:?} {after:?}");
}

/// The stamp from the socket's error queue.
fn transmit_stamp(socket: &raw::Socket) -> PhcNanos {
    let began = Instant::now();
    loop {
        let (mut data, mut control) = ([0u8; 512], [0u64; 64]);
        let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
        // SAFETY: integers and pointers, for which zero is a value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
        // SAFETY: every pointer is writable for its length.
        let got = unsafe { libc::recvmsg(socket.fd(), &raw mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        if got >= 0 {
            // SAFETY: the kernel has filled in the header.
            let mut head = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
            while !head.is_null() {
                // SAFETY: it is one of the message's headers.
                let kind = unsafe { ((*head).cmsg_level, (*head).cmsg_type) };
                if kind == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) {
                    // SAFETY: three times follow (linux/errqueue.h, scm_timestamping), the third the card's.
                    let times = unsafe { libc::CMSG_DATA(head).cast::<[libc::timespec; 3]>().read_unaligned() };
                    return PhcNanos(times[2].tv_sec as u64 * 1_000_000_000 + times[2].tv_nsec as u64);
                }
                // SAFETY: as above.
                head = unsafe { libc::CMSG_NXTHDR(&raw const message, head) };
            }
        }
        assert!(began.elapsed() < PATIENCE, "the card stamped nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn packets_come_from_the_card_itself_without_a_copy() {
    let options = AfXdpOptions {
        attach: Attach::Native,
        transfer: Transfer::ZeroCopy,
        frames: Some(2_048),
        ..AfXdpOptions::default()
    };
    let mut receiver = AfXdpReceiver::open(&[line()], options).unwrap_or_else(|error| panic!("{error}"));
    let report = receiver.reports()[0].clone();
    assert_eq!((report.attach.got, report.transfer.got), (Attached::Native, Transferred::ZeroCopy), "{report:?}");
    let seen = exchange(&mut receiver, 5_000);
    let numbers: Vec<u64> = seen.iter().map(|(number, _)| *number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "out of order, or twice");
}
