//! Stamps in front of frames, over a veth pair. No driver here has any: what the function of the kernel's says of a veth
//! packet is 0, and the stamps that are believed below are made up by a program that writes them as the kernel's would.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use barewire_types::{TsSource, UnixNanos};

use super::options::{AfXdpOptions, Attach};
use super::program::Stamp;
use super::{AfXdpReceiver, InterfaceReport};
use crate::bpf::btf::kernel_function;
use crate::clock;
use crate::clock::correlation::{Method, PhcNanos, Sample, Tracker, TrackerOptions};
use crate::clock::discipline::Timescale;
use crate::hwstamp::NoHardwareStamps;
use crate::netns::NetNs;
use crate::nic::{Hardware, Nics, Stamps};
use crate::packet::{LineConfig, Receiver, ReceiverCounters};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 99, 7, 1);
const PORT: u16 = 26_400;
const PACKETS: usize = 40;
/// What the faked card's clock shows when the receiver is opened.
const CARD_NS: u64 = 777_000_000_000;
/// When the faked card says that packets came, after that.
const LATER_NS: u64 = 5_000_000;
const ON: Hardware =
    Hardware::On { phc: 0, method: Method::Extended, bound_ns: 50, timescale: Timescale::Unrelated { ahead_ns: 0 } };

/// A faked card whose clock is known to 50 ns.
fn card(nics: &mut Nics) -> usize {
    let mut tracker = Tracker::new(TrackerOptions::default());
    let now = clock::now().0;
    for ago in (0..8).rev().map(|n| n * 1_000_000_000) {
        let (phc, system) = (PhcNanos(CARD_NS - ago), UnixNanos(now - ago));
        tracker.update(Sample { phc, system, bound_ns: 50, method: Method::Extended });
    }
    nics.fake(tracker)
}

fn made_up(nics: &mut Nics, _: &str, _: Stamps) -> (Option<(usize, Stamp)>, Hardware) {
    (Some((card(nics), Stamp::Faked(CARD_NS + LATER_NS))), ON)
}

fn off_by_an_hour(nics: &mut Nics, _: &str, _: Stamps) -> (Option<(usize, Stamp)>, Hardware) {
    (Some((card(nics), Stamp::Faked(CARD_NS + 3_600_000_000_000))), ON)
}

fn by_the_driver(nics: &mut Nics, _: &str, _: Stamps) -> (Option<(usize, Stamp)>, Hardware) {
    let function = kernel_function("bpf_xdp_metadata_rx_timestamp").unwrap_or_else(|error| panic!("{error}"));
    (Some((card(nics), Stamp::Driver(function))), ON)
}

/// No kernel lets a program call this.
fn refused(nics: &mut Nics, _: &str, _: Stamps) -> (Option<(usize, Stamp)>, Hardware) {
    (Some((card(nics), Stamp::Driver(i32::MAX))), ON)
}

/// Receives packets over a veth pair with stamps from there, between two looks at the clock.
fn run(attach: Attach, stamps: super::open::FindStamps) -> Option<Outcome> {
    let made = NetNs::new().and_then(|here| Ok((here, NetNs::new()?)));
    let (here, there) = match made {
        Ok(made) => made,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI can make namespaces: {error}");
            eprintln!("skipped: {error}");
            return None;
        }
    };
    here.connect(("bw-xts0", "10.97.0.1/24"), &there, ("bw-xts1", "10.97.0.2/24")).unwrap();
    thread::scope(|scope| {
        let outcome = scope.spawn(|| {
            here.enter().unwrap();
            let interface = Some("bw-xts0".to_owned());
            let line = LineConfig { group: GROUP, port: PORT, interface, source: None, allow: Vec::new(), line: 3 };
            let options = AfXdpOptions { frames: Some(64), attach, timestamps: Stamps::Hardware, ..Default::default() };
            let before = clock::now().0;
            let mut receiver = AfXdpReceiver::open_stamped(&[line], options, stamps).unwrap_or_else(|e| panic!("{e}"));
            let opened = clock::now().0;
            let sender = scope.spawn(|| {
                there.enter().unwrap();
                let socket = UdpSocket::bind("10.97.0.2:0").unwrap();
                (0..PACKETS * 2).for_each(|n| {
                    // More than there are frames, so that each frame is used again.
                    socket.send_to(&[n as u8; 20], SocketAddrV4::new(GROUP, PORT)).unwrap();
                    thread::sleep(Duration::from_micros(200));
                });
            });
            let (mut times, begun) = (Vec::new(), Instant::now());
            while times.len() < PACKETS * 2 {
                receiver
                    .receive(&mut |packet| times.push((packet.ts_recv, packet.ts_source, packet.degraded)))
                    .unwrap();
                assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", receiver.counters());
            }
            sender.join().unwrap();
            let (report, counters) = (receiver.reports()[0].clone(), receiver.counters());
            Outcome { times, opened: (before, opened), report, counters, source: receiver.clocks().source }
        });
        Some(outcome.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

struct Outcome {
    times: Vec<(UnixNanos, TsSource, bool)>,
    opened: (u64, u64),
    report: InterfaceReport,
    counters: ReceiverCounters,
    source: TsSource,
}

const ALL: u64 = PACKETS as u64 * 2;

#[test]
fn made_up_stamps_become_times_of_day() {
    let Some(Outcome { times, opened: (before, opened), report, counters, source }) = run(Attach::Native, made_up)
    else {
        return;
    };
    assert_eq!((report.hardware, source), (ON, TsSource::Nic));
    for (time, source, degraded) in times {
        assert_eq!((source, degraded), (TsSource::Nic, false));
        let range = before + LATER_NS - 200..=opened + LATER_NS + 200;
        assert!(range.contains(&time.0), "{time:?} {range:?}");
    }
    assert_eq!((counters.hardware_times, counters.packets), (ALL, ALL));
}

/// The kernel takes the program that asks the driver, it is attached, and a veth's driver has nothing to say.
#[test]
fn where_the_driver_has_no_stamp_the_threads_time_serves() {
    let Some(Outcome { times, report, counters, .. }) = run(Attach::Native, by_the_driver) else { return };
    assert_eq!(report.hardware, ON);
    assert!(times.iter().all(|(_, source, degraded)| (*source, *degraded) == (TsSource::User, true)));
    assert_eq!((counters.hardware_times_missing, counters.packets), (ALL, ALL));
}

#[test]
fn a_stamp_that_is_far_off_is_not_believed() {
    let Some(Outcome { times, counters, .. }) = run(Attach::Native, off_by_an_hour) else { return };
    let now = clock::now().0;
    assert!(times.iter().all(|(time, source, _)| *source == TsSource::User && time.0 <= now + 1_000_000));
    assert_eq!((counters.hardware_times_implausible, counters.packets), (ALL, ALL));
}

#[test]
fn where_the_kernel_refuses_the_plain_program_serves_and_the_reason_is_told() {
    for (attach, stamps) in [(Attach::PreferNative, refused as super::open::FindStamps), (Attach::Generic, made_up)] {
        let Some(Outcome { times, report, counters, source, .. }) = run(attach, stamps) else { return };
        assert_eq!(report.hardware, Hardware::Unavailable(NoHardwareStamps::NoXdpMetadata));
        assert!(times.iter().all(|(_, source, degraded)| (*source, *degraded) == (TsSource::User, false)));
        assert_eq!((counters.hardware_times_missing, counters.packets, source), (0, ALL, TsSource::User));
    }
}
