//! Opening: the environment, devices, groups.

use std::ffi::CString;
use std::io;
use std::net::Ipv4Addr;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use barewire_types::TsSource;

use super::eal::{self, Eal};
use super::igmp::Speaker;
use super::library::{self, PortConfig, PortInfo, RawPacket};
use super::options::{DeviceReport, DeviceTimes, DpdkOptions, Filter, Joined};
use super::port::{Claim, Port};
use super::{DpdkError, DpdkReceiver, LONGEST};
use crate::capabilities::Capabilities;
use crate::error::{OpenError, Purpose};
use crate::frames::Lines;
use crate::interfaces;
use crate::kernel::check_line;
use crate::membership::Membership;
use crate::nic::{Clocks, Stamps, UserClock};
use crate::packet::{LineConfig, ReceiverCounters};
use crate::waits::Waits;

/// Lines that come by one device.
struct Group<'a> {
    device: String,
    lines: Vec<&'a LineConfig>,
}

impl DpdkReceiver {
    /// Begins DPDK where this is the process's first receiver, takes the lines' devices and joins the groups.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which names the line; no device stays taken. DPDK's environment stays, once it has begun.
    pub fn open(lines: &[LineConfig], options: DpdkOptions) -> Result<DpdkReceiver, OpenError> {
        check(&options)?;
        let Some(first) = lines.first() else { return Err(OpenError::NoLines) };
        let what = Purpose::Line(first.line);
        lines.iter().try_for_each(check_line)?;
        let mut groups: Vec<Group<'_>> = Vec::new();
        for line in lines {
            let device = device_of(line, &options)?;
            match groups.iter_mut().find(|group| group.device == device) {
                Some(group) => group.lines.push(line),
                None => groups.push(Group { device, lines: vec![line] }),
            }
        }
        let eal = {
            let mut begun = eal::lock();
            let eal = eal::begin(&mut begun, &options);
            eal.map_err(|error| OpenError::Dpdk { what, error })?.clone()
        };
        let waits = Waits::new(options.mode, std::iter::empty());
        let mut receiver = DpdkReceiver {
            ports: Vec::new(),
            memberships: Vec::new(),
            waits: waits.map_err(|error| OpenError::Os { what, call: "eventfd", error })?,
            timeout: None,
            packets: vec![RawPacket::NONE; options.batch].into(),
            whole: vec![0; LONGEST].into(),
            clock: UserClock::calibrated(),
            clocks: Clocks::SYSTEM,
            counters: ReceiverCounters::default(),
            pieces: 0,
            reports: Vec::new(),
        };
        for group in groups {
            receiver.open_device(&eal, group, &options)?;
        }
        let bound = receiver.ports.iter().map(Port::bound_ns).max().unwrap_or(u64::MAX);
        let source = match options.trailer_times {
            Some(_) => TsSource::Capture,
            None if bound == u64::MAX => TsSource::User,
            None => TsSource::Nic,
        };
        receiver.clocks = Clocks { source, nic_bound_ns: bound, user_bound_ns: receiver.clock.bound_ns() };
        Ok(receiver)
    }

    fn open_device(&mut self, eal: &Eal, group: Group<'_>, options: &DpdkOptions) -> Result<(), OpenError> {
        let what = group.lines.first().map_or(Purpose::Line(0), |line| Purpose::Line(line.line));
        let lines = Lines::new(group.lines.iter().copied(), options.vlan).with_trailer_times(options.trailer_times);
        let device = numbered(&group.device);
        let (mut port, info) = probe(eal, what, &device, lines, options)?;
        port.beside_kernel = info.if_index != 0;
        if info.driver() == "net_af_packet" {
            port.claim = Claim::of(info.if_index);
            if port.claim.is_none() {
                let (call, said) = ("PACKET_FANOUT".to_owned(), String::new());
                let error = DpdkError::Refused { device, call, said, error: library::error(-libc::EEXIST) };
                return Err(OpenError::Dpdk { what, error });
            }
            // The loopback has none, and shows everything twice.
            port.own = (info.mac != [0; 6]).then_some(info.mac);
        }
        let times = self.device_times(&mut port, &info, options);

        let mut addresses: Vec<[u8; 6]> = Vec::new();
        let joined = if port.beside_kernel {
            let interface = interfaces::name(info.if_index).map_err(|error| OpenError::Os {
                what,
                call: "the search for its interface",
                error,
            })?;
            for line in &group.lines {
                let line = LineConfig { interface: Some(interface.clone()), ..(*line).clone() };
                self.memberships.push(Membership::new(&line)?);
            }
            Joined::Kernel { interface }
        } else {
            let address = options.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
            match Speaker::new(group.lines.iter().copied(), info.mac, address, options.vlan) {
                Some(speaker) if info.sends != 0 => {
                    addresses.extend(speaker.addresses());
                    port.speaker = Some(speaker);
                    Joined::Itself { address }
                }
                _ => Joined::Nobody,
            }
        };
        if addresses.is_empty() {
            addresses.extend(
                group
                    .lines
                    .iter()
                    .filter(|line| line.group.is_multicast())
                    .map(|line| super::igmp::ethernet(line.group)),
            );
        }
        let filter = match port.listen(&addresses, !port.beside_kernel) {
            1 => Filter::Groups,
            2 => Filter::AllMulticast,
            3 => Filter::Everything,
            _ => Filter::Unset,
        };
        // What came before the receiver was ready is not its loss.
        let mut before = ReceiverCounters::default();
        port.refresh(&mut before).map_err(|error| OpenError::Os { what, call: "rte_eth_stats_get", error })?;
        port.with_speaker(|speaker, send| speaker.start(crate::clock::monotonic(), send));

        self.reports.push(DeviceReport {
            device,
            lines: group.lines.iter().map(|line| line.line).collect(),
            driver: info.driver(),
            dpdk: eal.library.version(),
            queues: options.queues,
            descriptors: info.descriptors,
            descriptors_asked: options.descriptors,
            frame_bytes: info.frame_bytes,
            memory: eal.memory,
            checksums: info.checksums != 0,
            joined,
            filter,
            times,
        });
        self.ports.push(port);
        Ok(())
    }

    fn device_times(&self, port: &mut Port, info: &PortInfo, options: &DpdkOptions) -> DeviceTimes {
        match options.timestamps {
            Stamps::Kernel | Stamps::User => DeviceTimes::Off,
            Stamps::Auto if info.times == 0 => DeviceTimes::Off,
            _ if info.times == 0 => DeviceTimes::NotOffered,
            _ if info.clock == 0 || port.measure().is_err() => DeviceTimes::NoClock,
            _ => DeviceTimes::On { bound_ns: port.bound_ns() },
        }
    }
}

fn check(options: &DpdkOptions) -> Result<(), OpenError> {
    let in_range = |name, value: u64, min: u64, max: u64| match value {
        _ if (min..=max).contains(&value) => Ok(()),
        _ => Err(OpenError::BadOption { name, value, min, max }),
    };
    in_range("batch", options.batch as u64, 1, 1024)?;
    in_range("queues", options.queues.into(), 1, 64)?;
    in_range("descriptors", options.descriptors.into(), 64, 1 << 15)?;
    options.memory_mib.map_or(Ok(()), |mib| in_range("memory_mib", mib.into(), 16, 1 << 16))?;
    options.frame_bytes.map_or(Ok(()), |bytes| in_range("frame_bytes", bytes.into(), 64, 1 << 14))?;
    options.vlan.map_or(Ok(()), |vlan| in_range("vlan", vlan.into(), 1, 4094))
}

/// The device that a line comes by.
fn device_of(line: &LineConfig, options: &DpdkOptions) -> Result<String, OpenError> {
    let own = |device: &&super::DeviceFor| device.interface.is_some() && device.interface == line.interface;
    let found = options.devices.iter().find(own);
    let found = found.or_else(|| options.devices.iter().find(|device| device.interface.is_none()));
    let device = match (found.map(|found| found.device.as_str()), &line.interface) {
        (Some(device), Some(interface)) => Some(device.replace("{interface}", interface)),
        (Some(device), None) if !device.contains("{interface}") => Some(device.to_owned()),
        _ => None,
    };
    let refused = |error| OpenError::Dpdk { what: Purpose::Line(line.line), error };
    let device = device.ok_or_else(|| refused(DpdkError::NoDevice { interface: line.interface.clone() }))?;
    // To take its program off takes privileges that the thread which ends has given up.
    let driver = |part: &str| part.trim_start_matches("vdev:").trim_start_matches("name=").starts_with("net_af_xdp");
    if device.split(',').any(driver) {
        return Err(refused(DpdkError::Driver { device }));
    }
    Ok(device)
}

/// A virtual device's name is the process's own, so that it needs a number.
fn numbered(device: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (name, arguments) = device.split_at(device.find(',').unwrap_or(device.len()));
    if !name.starts_with("net_") || name.ends_with(|last: char| last.is_ascii_digit()) {
        return device.to_owned();
    }
    format!("{name}_bw{}{arguments}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn probe(
    eal: &Eal,
    what: Purpose,
    device: &str,
    lines: Lines,
    options: &DpdkOptions,
) -> Result<(Port, PortInfo), OpenError> {
    let times = matches!(options.timestamps, Stamps::Auto | Stamps::Hardware);
    let nul = |_| OpenError::Dpdk { what, error: DpdkError::NoDevice { interface: None } };
    let name = CString::new(device).map_err(nul)?;
    let config = PortConfig {
        device: name.as_ptr(),
        frame_bytes: options.frame_bytes.unwrap_or(0),
        queues: options.queues,
        descriptors: options.descriptors,
        times: times.into(),
    };
    let (mut info, mut raw, mut call) = (PortInfo::default(), ptr::null_mut(), ptr::null());
    let lock = eal::lock();
    // SAFETY: the texts and structs are readable, the results writable; nobody opens or closes a port meanwhile.
    let result = unsafe { (eal.library.open)(&raw const config, &raw mut raw, &raw mut info, &raw mut call) };
    if result == 0 {
        // SAFETY: it has just been opened.
        return Ok((unsafe { Port::new(eal.library, raw, options.queues, lines) }, info));
    }
    let said = eal.library.first_error();
    drop(lock);
    // SAFETY: the library's text.
    let call = unsafe { library::text(call) };
    let needs = needs(device);
    let error = library::error(result);
    Err(match result {
        // Whatever the driver says, if anything.
        _ if needs.is_missing() => {
            let error = io::Error::from_raw_os_error(libc::EPERM);
            OpenError::not_permitted(what, "open a DPDK device", needs, error)
        }
        code if code == -libc::ERANGE && call == "queues" => OpenError::Dpdk {
            what,
            error: DpdkError::NoSuchQueue {
                device: device.to_owned(),
                queues: options.queues,
                existing: info.max_queues,
            },
        },
        _ => OpenError::Dpdk { what, error: DpdkError::Refused { device: device.to_owned(), call, said, error } },
    })
}

/// What the driver of a virtual device takes. A card's takes files: /dev/vfio.
fn needs(device: &str) -> Capabilities {
    let device = device.trim_start_matches("vdev:");
    if device.starts_with("net_af_packet") {
        // Starting it sets the interface's address, to what it is.
        Capabilities::NET_RAW.with(Capabilities::NET_ADMIN)
    } else if device.starts_with("net_tap") {
        Capabilities::NET_ADMIN
    } else {
        Capabilities::NONE
    }
}
