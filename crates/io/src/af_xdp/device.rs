//! What the kernel says of an interface: queues, packet length, and the card that a VLAN lies on.

use std::fs;
use std::io;

use crate::error::{OpenError, Purpose};
use crate::hwstamp::{SIOCETHTOOL, on_interface};
use crate::interfaces;
use crate::socket::{Socket, check};

/// The interface that a program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) index: u32,
    pub(super) name: String,
}

impl Device {
    /// The interface with a number, and where it is a VLAN's, the one that it lies on with the VLAN's id: frames are
    /// taken where they come in, before their tags are taken off.
    pub(super) fn under(index: u32) -> io::Result<(Device, Option<u16>)> {
        let name = interfaces::name(index)?;
        // Of the namespace that this thread is in. There is no such file where the kernel knows no VLANs.
        let vlans = fs::read_to_string("/proc/thread-self/net/vlan/config").unwrap_or_default();
        match vlan(&vlans, &name) {
            None => Ok((Device { index, name }, None)),
            Some((id, lower)) => {
                let index = interfaces::index(lower).ok_or(io::ErrorKind::NotFound)?;
                Ok((Device { index, name: lower.to_owned() }, Some(id)))
            }
        }
    }

    /// How many receive queues it has.
    pub(super) fn queues(&self, what: Purpose) -> Result<u32, OpenError> {
        /// ETHTOOL_GCHANNELS and its struct.
        const GET_CHANNELS: u32 = 0x3c;
        #[repr(C)]
        #[derive(Default)]
        struct Channels {
            command: u32,
            max_rx: u32,
            max_tx: u32,
            max_other: u32,
            max_combined: u32,
            rx: u32,
            tx: u32,
            other: u32,
            combined: u32,
        }
        let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
        // SAFETY: SIOCETHTOOL takes the structure that its first word names.
        match unsafe { on_interface(&self.name, SIOCETHTOOL, &mut channels) } {
            Ok(()) => Ok(channels.rx.saturating_add(channels.combined).max(1)),
            // Drivers without queues to set, such as the loopback's.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
            Err(error) => Err(OpenError::Os { what, call: "ETHTOOL_GCHANNELS", error }),
        }
    }

    /// The longest IP packet that it takes, bytes.
    pub(super) fn mtu(&self, what: Purpose) -> Result<u32, OpenError> {
        let mut request = self.request();
        let socket = Socket::open(what)?;
        // SAFETY: SIOCGIFMTU reads a name and writes an integer into the same struct.
        check(unsafe { libc::ioctl(socket.fd(), libc::SIOCGIFMTU as _, &raw mut request) })
            .map_err(|error| socket.os("SIOCGIFMTU", error))?;
        // SAFETY: the kernel wrote this field.
        Ok(u32::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(0))
    }

    /// Whether it carries Ethernet frames.
    pub(super) fn is_ethernet(&self, what: Purpose) -> Result<bool, OpenError> {
        let mut request = self.request();
        let socket = Socket::open(what)?;
        // SAFETY: SIOCGIFHWADDR reads a name and writes an address, whose family is the kind of link, into the same struct.
        check(unsafe { libc::ioctl(socket.fd(), libc::SIOCGIFHWADDR as _, &raw mut request) })
            .map_err(|error| socket.os("SIOCGIFHWADDR", error))?;
        // SAFETY: the kernel wrote this field.
        let kind = unsafe { request.ifr_ifru.ifru_hwaddr.sa_family };
        Ok([libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&kind))
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: an ifreq is integers and pointers, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let name = self.name.bytes().take(libc::IFNAMSIZ - 1);
        request.ifr_name.iter_mut().zip(name).for_each(|(to, byte)| *to = byte as libc::c_char);
        request
    }
}

/// Id and underlying interface of a VLAN interface, from the text of `/proc/net/vlan/config`: two lines of heading, then
/// `name | id | interface`.
fn vlan<'a>(config: &'a str, name: &str) -> Option<(u16, &'a str)> {
    config.lines().skip(2).find_map(|line| {
        let mut fields = line.split('|').map(str::trim);
        match (fields.next()?, fields.next()?, fields.next()?) {
            (found, id, lower) if found == name => Some((id.parse().ok()?, lower)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_a_queue_and_room() {
        let (lo, vlan) = Device::under(interfaces::index("lo").unwrap()).unwrap();
        let what = Purpose::Line(0);
        assert_eq!((lo.name.as_str(), vlan), ("lo", None));
        assert_eq!(lo.queues(what).unwrap(), 1);
        assert!(lo.mtu(what).unwrap() >= 1_500);
        let gone = Device { name: "no-such-if0".into(), ..lo };
        assert_eq!(gone.mtu(what).unwrap_err().os_error().unwrap().raw_os_error(), Some(libc::ENODEV));
        assert!(Device::under(u32::MAX).is_err());
    }

    /// The text is the kernel's (net/8021q/vlanproc.c).
    #[test]
    fn vlans_are_found_by_name() {
        let config = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                      eth0.100       | 100  | eth0\nfeed-b         | 4094  | enp1s0f1\n";
        assert_eq!(vlan(config, "eth0.100"), Some((100, "eth0")));
        assert_eq!(vlan(config, "feed-b"), Some((4094, "enp1s0f1")));
        assert_eq!(vlan(config, "eth0"), None);
        assert_eq!(vlan("", "eth0.100"), None);
    }
}
