//! A card's hardware time stamps: what it can do, what is set, and setting it.
//!
//! Linux's Documentation/networking/timestamping.rst, `net_tstamp.h` and `ethtool.h`. What a card stamps is a setting of
//! the card, not of a socket: everybody who uses it shares the setting, ptp4l foremost, which needs its own packets
//! stamped both ways. [`stamp_all`] therefore changes the receive filter only, only where it has to, and says what was
//! there before. A filter that stamps all packets stamps PTP's, too.

use std::ffi::CString;
use std::fmt;
use std::io;

use crate::error::Purpose;
use crate::socket::Socket;

/// Which received packets a card stamps (`HWTSTAMP_FILTER_`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RxFilter(pub u32);

impl RxFilter {
    /// None.
    pub const NONE: RxFilter = RxFilter(libc::HWTSTAMP_FILTER_NONE);
    /// All: what market data needs.
    pub const ALL: RxFilter = RxFilter(libc::HWTSTAMP_FILTER_ALL);
    /// Those that were asked for and some more; the driver does not say which.
    pub const SOME: RxFilter = RxFilter(libc::HWTSTAMP_FILTER_SOME);

    const NAMES: [&'static str; 16] = [
        "none",
        "all",
        "some",
        "ptpv1-l4-event",
        "ptpv1-l4-sync",
        "ptpv1-l4-delay-req",
        "ptpv2-l4-event",
        "ptpv2-l4-sync",
        "ptpv2-l4-delay-req",
        "ptpv2-l2-event",
        "ptpv2-l2-sync",
        "ptpv2-l2-delay-req",
        "ptpv2-event",
        "ptpv2-sync",
        "ptpv2-delay-req",
        "ntp-all",
    ];

    /// The name that `ethtool -T` uses.
    pub fn name(self) -> &'static str {
        usize::try_from(self.0).ok().and_then(|index| RxFilter::NAMES.get(index)).copied().unwrap_or("unknown")
    }
}

impl fmt::Display for RxFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a card can stamp (`ETHTOOL_GET_TS_INFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `SOF_TIMESTAMPING_` bits.
    pub so_timestamping: u32,
    /// The number of its clock, for [`Phc::open`](crate::clock::phc::Phc::open), where it has one. A bond's is that of its
    /// active card, and changes with it.
    pub phc: Option<u32>,
    /// Bits: `1 << HWTSTAMP_TX_`.
    pub tx_types: u32,
    /// Bits: `1 << RxFilter`.
    pub rx_filters: u32,
}

impl Capabilities {
    /// Whether it stamps received packets in hardware and hands the stamps on as they are.
    pub fn rx_hardware(&self) -> bool {
        let needed = libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
        self.so_timestamping & needed == needed
    }

    /// Whether it stamps transmitted packets in hardware and hands the stamps on as they are.
    pub fn tx_hardware(&self) -> bool {
        let needed = libc::SOF_TIMESTAMPING_TX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
        self.so_timestamping & needed == needed
    }

    /// Whether the kernel stamps received packets in software.
    pub fn rx_software(&self) -> bool {
        let needed = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
        self.so_timestamping & needed == needed
    }

    /// Whether it has this receive filter.
    pub fn has_filter(&self, filter: RxFilter) -> bool {
        1u32.checked_shl(filter.0).is_some_and(|bit| self.rx_filters & bit != 0)
    }
}

/// What a card is set to stamp (`SIOCGHWTSTAMP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// `HWTSTAMP_FLAG_` bits.
    pub flags: i32,
    /// Which transmitted packets: `HWTSTAMP_TX_`.
    pub tx_type: u32,
    /// Which received packets.
    pub rx_filter: RxFilter,
}

/// The kernel's struct ethtool_ts_info.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct EthtoolTsInfo {
    cmd: u32,
    so_timestamping: u32,
    phc_index: i32,
    tx_types: u32,
    tx_reserved: [u32; 3],
    rx_filters: u32,
    rx_reserved: [u32; 3],
}

const ETHTOOL_GET_TS_INFO: u32 = 0x41;
/// The request of which [`on_interface`]'s structure begins with a command of ethtool's.
pub(crate) const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// An ioctl on an interface, with a structure that it reads and writes.
///
/// # Safety
///
/// `request` must be one whose `ifr_data` the kernel takes for a `T`.
pub(crate) unsafe fn on_interface<T>(interface: &str, request: libc::c_ulong, data: &mut T) -> io::Result<()> {
    let name = CString::new(interface).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    let name = name.as_bytes();
    // SAFETY: integers and a union of integers and pointers, for which zero is a value.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= ifreq.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    ifreq.ifr_name.iter_mut().zip(name).for_each(|(to, from)| *to = *from as libc::c_char);
    ifreq.ifr_ifru.ifru_data = (&raw mut *data).cast();
    let socket = Socket::of(Purpose::Requests, libc::AF_INET, libc::SOCK_DGRAM)?;
    // SAFETY: the caller's promise; both structures are readable and writable.
    let done = unsafe { libc::ioctl(socket.fd(), request as _, &raw mut ifreq) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What the card can do. Needs no privilege.
///
/// # Errors
///
/// The operating system's: `ENODEV` where there is no such interface. One without hardware stamps is no error.
pub fn capabilities(interface: &str) -> io::Result<Capabilities> {
    let mut info = EthtoolTsInfo { cmd: ETHTOOL_GET_TS_INFO, phc_index: -1, ..EthtoolTsInfo::default() };
    // SAFETY: SIOCETHTOOL takes the structure that its first word names.
    unsafe { on_interface(interface, SIOCETHTOOL, &mut info) }?;
    Ok(Capabilities {
        so_timestamping: info.so_timestamping,
        phc: u32::try_from(info.phc_index).ok(),
        tx_types: info.tx_types,
        rx_filters: info.rx_filters,
    })
}

/// What the card is set to stamp. Needs no privilege.
///
/// # Errors
///
/// The operating system's: `EOPNOTSUPP` where it stamps nothing, or cannot say.
pub fn get(interface: &str) -> io::Result<Config> {
    let mut config = libc::hwtstamp_config { flags: 0, tx_type: 0, rx_filter: 0 };
    // SAFETY: SIOCGHWTSTAMP takes this structure.
    unsafe { on_interface(interface, libc::SIOCGHWTSTAMP, &mut config) }?;
    Ok(from_kernel(&config))
}

/// Sets what the card stamps, for everybody who uses it; returns what it then stamps, which may be more.
///
/// # Errors
///
/// The operating system's: `EPERM` without CAP_NET_ADMIN, `ERANGE` where the card cannot, `EOPNOTSUPP` where it stamps
/// nothing.
pub fn set(interface: &str, config: Config) -> io::Result<Config> {
    let mut config = libc::hwtstamp_config {
        flags: config.flags,
        tx_type: config.tx_type as libc::c_int,
        rx_filter: config.rx_filter.0 as libc::c_int,
    };
    // SAFETY: SIOCSHWTSTAMP takes this structure.
    unsafe { on_interface(interface, libc::SIOCSHWTSTAMP, &mut config) }?;
    Ok(from_kernel(&config))
}

fn from_kernel(config: &libc::hwtstamp_config) -> Config {
    Config { flags: config.flags, tx_type: config.tx_type as u32, rx_filter: RxFilter(config.rx_filter as u32) }
}

/// Why there are no hardware stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoHardwareStamps {
    /// No interface was named, so it is not known which card to ask.
    NoInterface,
    /// The card, or its driver, stamps no received packets.
    Unsupported,
    /// It stamps PTP's packets, but not all.
    PtpOnly,
    /// It has no clock that can be read, so its stamps could not be told as times of day.
    NoPhc,
    /// It was asked to stamp all packets, and stamps others.
    FilterRefused(RxFilter),
    /// It could stamp all packets, is not set to, and was not to be changed.
    NotSet,
    /// The process may not set it up: CAP_NET_ADMIN.
    NotPermitted,
    /// Its clock cannot be opened or compared with the system's.
    PhcUnreadable,
    /// The kernel refuses hardware stamps at the socket.
    SocketRefused,
    /// The kernel or the driver does not tell XDP programs when the card received a packet.
    NoXdpMetadata,
    /// Another reason of the operating system's.
    Os,
}

impl NoHardwareStamps {
    /// The name that output uses.
    pub const fn name(self) -> &'static str {
        match self {
            NoHardwareStamps::NoInterface => "no_interface",
            NoHardwareStamps::Unsupported => "unsupported",
            NoHardwareStamps::PtpOnly => "ptp_only",
            NoHardwareStamps::NoPhc => "no_phc",
            NoHardwareStamps::FilterRefused(_) => "filter_refused",
            NoHardwareStamps::NotSet => "not_set",
            NoHardwareStamps::NotPermitted => "not_permitted",
            NoHardwareStamps::PhcUnreadable => "phc_unreadable",
            NoHardwareStamps::SocketRefused => "socket_refused",
            NoHardwareStamps::NoXdpMetadata => "no_xdp_metadata",
            NoHardwareStamps::Os => "os",
        }
    }
}

impl fmt::Display for NoHardwareStamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoHardwareStamps::NoInterface => {
                f.write_str("no hardware stamps: the line names no interface: give it one")
            }
            NoHardwareStamps::Unsupported => f.write_str("no hardware stamps: the card or its driver has none"),
            NoHardwareStamps::PtpOnly => {
                f.write_str("no hardware stamps: the card stamps PTP's packets only (ethtool -T shows no filter `all`)")
            }
            NoHardwareStamps::NoPhc => f.write_str("no hardware stamps: the card has no clock that can be read"),
            NoHardwareStamps::FilterRefused(got) => {
                write!(f, "no hardware stamps: asked the card for the receive filter all, got {got}")
            }
            NoHardwareStamps::NotSet => f.write_str(
                "no hardware stamps: the card could, and is not set to: `hwstamp_ctl -r 1 -i` with the interface sets it, or \
                 timestamps = \"hardware\"",
            ),
            NoHardwareStamps::NotPermitted => f.write_str(
                "no hardware stamps: not permitted to set the card up (CAP_NET_ADMIN); `hwstamp_ctl -r 1 -i` with the \
                 interface does it beforehand",
            ),
            NoHardwareStamps::PhcUnreadable => f.write_str(
                "no hardware stamps: the card's clock (/dev/ptpN) cannot be read: give the process's group read access",
            ),
            NoHardwareStamps::SocketRefused => {
                f.write_str("no hardware stamps: the kernel refuses them at the socket (SO_TIMESTAMPING)")
            }
            NoHardwareStamps::NoXdpMetadata => f.write_str(
                "no hardware stamps: kernel or driver do not tell XDP programs of them (Linux 6.3, native XDP, and a driver \
                 that has bpf_xdp_metadata_rx_timestamp)",
            ),
            NoHardwareStamps::Os => f.write_str("no hardware stamps: the card could not be asked"),
        }
    }
}

/// A card that stamps all that it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamping {
    /// Its clock's number.
    pub phc: u32,
    /// What it was set to before, where that was known and is another setting: what [`set`] restores.
    pub before: Option<Config>,
    /// What it is set to now.
    pub now: Config,
}

/// Makes the card stamp all that it receives, where it does not yet. Stays so when the process ends.
///
/// # Errors
///
/// Why it does not.
pub fn stamp_all(interface: &str) -> Result<Stamping, NoHardwareStamps> {
    let capabilities = capabilities(interface).map_err(refusal)?;
    decide(capabilities, get(interface), |config| set(interface, config))
}

/// Whether the card stamps all that it receives already. Changes nothing, and needs no privilege.
///
/// # Errors
///
/// Why it does not.
pub fn stamping(interface: &str) -> Result<Stamping, NoHardwareStamps> {
    let capabilities = capabilities(interface).map_err(refusal)?;
    let before = get(interface);
    decide(capabilities, before, |_| Err(io::ErrorKind::Unsupported.into())).map_err(|why| match why {
        // It got as far as being asked.
        NoHardwareStamps::Os => NoHardwareStamps::NotSet,
        why => why,
    })
}

fn refusal(error: io::Error) -> NoHardwareStamps {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => NoHardwareStamps::NotPermitted,
        Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL) => NoHardwareStamps::Unsupported,
        Some(libc::ERANGE) => NoHardwareStamps::PtpOnly,
        _ => NoHardwareStamps::Os,
    }
}

fn decide(
    capabilities: Capabilities,
    before: io::Result<Config>,
    set: impl FnOnce(Config) -> io::Result<Config>,
) -> Result<Stamping, NoHardwareStamps> {
    if !capabilities.rx_hardware() {
        return Err(NoHardwareStamps::Unsupported);
    }
    let phc = capabilities.phc.ok_or(NoHardwareStamps::NoPhc)?;
    if let Ok(now) = before
        && now.rx_filter == RxFilter::ALL
    {
        return Ok(Stamping { phc, before: None, now });
    }
    if !capabilities.has_filter(RxFilter::ALL) {
        return Err(NoHardwareStamps::PtpOnly);
    }
    let before = before.ok();
    let asked = match before {
        Some(before) => Config { rx_filter: RxFilter::ALL, ..before },
        // A card that cannot say what it is set to: stamps for those who transmit must not be lost, if it has them.
        None => Config {
            flags: 0,
            tx_type: if capabilities.tx_types & (1 << libc::HWTSTAMP_TX_ON) != 0 { libc::HWTSTAMP_TX_ON } else { 0 },
            rx_filter: RxFilter::ALL,
        },
    };
    let now = set(asked).map_err(refusal)?;
    match now.rx_filter {
        RxFilter::ALL => Ok(Stamping { phc, before, now }),
        other => Err(NoHardwareStamps::FilterRefused(other)),
    }
}

#[cfg(test)]
#[path = "hwstamp/tests.rs"]
mod tests;
