//! The machine's network interfaces.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::ptr;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name, such as `eth0`.
    pub name: String,
    /// `IFF_` bits.
    pub flags: u32,
    /// Its IPv4 addresses.
    pub ipv4: Vec<Ipv4Addr>,
}

impl Interface {
    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// Whether it has a carrier, as far as the kernel knows.
    pub fn is_running(&self) -> bool {
        self.flags & libc::IFF_RUNNING as u32 != 0
    }

    /// Whether it is the loopback.
    pub fn is_loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK as u32 != 0
    }

    /// Whether it claims to carry multicast. `lo` often does not, and carries it all the same.
    pub fn is_multicast(&self) -> bool {
        self.flags & libc::IFF_MULTICAST as u32 != 0
    }
}

/// The number of the interface with this name.
pub fn index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` ends with a zero byte.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// An interface that a line was opened on, and that may be taken away: sockets just hear nothing from then on.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    index: u32,
    name: String,
}

impl Presence {
    pub(crate) fn new(index: u32, name: &str) -> Presence {
        Presence { index, name: name.to_owned() }
    }

    /// Fails once the interface is gone. One system call, on any socket of the same namespace.
    pub(crate) fn check(&self, socket: RawFd) -> io::Result<()> {
        // SAFETY: an ifreq is integers and pointers, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_ifru.ifru_ifindex = self.index as libc::c_int;
        // SAFETY: SIOCGIFNAME reads a number and writes a name into the same struct.
        match unsafe { libc::ioctl(socket, libc::SIOCGIFNAME as _, &raw mut request) } {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ENODEV) => Err(gone(&self.name)),
                error => Err(error),
            },
        }
    }
}

/// What a path says whose interface was taken away.
#[cold]
pub(crate) fn gone(name: &str) -> io::Error {
    let what =
        format!("interface {name} is gone, removed or moved to another namespace: bring it back, then start again");
    io::Error::new(io::ErrorKind::NotFound, what)
}

/// The name of the interface with this number.
pub(crate) fn name(index: u32) -> io::Result<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: `name` has room for the longest name with its zero.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    let name = CStr::from_bytes_until_nul(&name).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(name.to_string_lossy().into_owned())
}

/// All interfaces, by their numbers.
///
/// # Errors
///
/// The operating system's.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut head = ptr::null_mut();
    // SAFETY: `head` is writable; what it points to afterwards is freed below.
    if unsafe { libc::getifaddrs(&mut head) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found: BTreeMap<u32, Interface> = BTreeMap::new();
    let mut entry = head;
    // SAFETY: the list is linked by ifa_next and ends with null; no entry is changed or freed while it is walked.
    while let Some(address) = unsafe { entry.as_ref() } {
        entry = address.ifa_next;
        // SAFETY: ifa_name ends with a zero byte.
        let name = unsafe { CStr::from_ptr(address.ifa_name) }.to_string_lossy().into_owned();
        // An interface can vanish between the two calls.
        let Some(index) = index(&name) else { continue };
        let interface =
            found.entry(index).or_insert(Interface { index, name, flags: address.ifa_flags, ipv4: Vec::new() });
        // SAFETY: ifa_addr is null or points to an address at least as long as its family.
        if let Some(family) = unsafe { address.ifa_addr.as_ref() }.map(|addr| i32::from(addr.sa_family))
            && family == libc::AF_INET
        {
            // SAFETY: an address of this family is a sockaddr_in; its alignment is not promised.
            let addr = unsafe { ptr::read_unaligned(address.ifa_addr.cast::<libc::sockaddr_in>()) };
            interface.ipv4.push(Ipv4Addr::from(u32::from_be(addr.sin_addr.s_addr)));
        }
    }
    // SAFETY: `head` came from getifaddrs, and nothing refers into the list any more.
    unsafe { libc::freeifaddrs(head) };
    Ok(found.into_values().collect())
}

/// All IPv4 addresses of this machine, as far as they can be found out: for errors that name them.
pub(crate) fn local_addresses() -> Vec<Ipv4Addr> {
    list().unwrap_or_default().into_iter().flat_map(|interface| interface.ipv4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed_with_its_number_flags_and_address() {
        let list = list().unwrap();
        let lo = list.iter().find(|interface| interface.name == "lo").expect("every network namespace has lo");
        assert!(lo.is_loopback());
        assert_eq!(index("lo"), Some(lo.index));
        if lo.is_up() {
            assert!(lo.ipv4.contains(&Ipv4Addr::LOCALHOST), "{lo:?}");
        }
    }

    #[test]
    fn a_name_that_is_none_has_no_number() {
        assert_eq!(index("no-such-if0"), None);
        assert_eq!(index("nul\0byte"), None);
        assert_eq!(index(""), None);
    }
}
