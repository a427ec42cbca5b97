//! Network namespaces without a name: machines of their own within this one, for benchmarks.
//!
//! A namespace lives as long as a thread is in it or a descriptor refers to it. Without a name nothing else does: when the
//! process ends, however it ends, the kernel removes the namespace, its interfaces and what was attached to them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::Command;

/// A namespace that this process made.
#[derive(Debug)]
pub struct NetNs {
    handle: File,
}

impl NetNs {
    /// Makes a namespace in which nothing is but a loopback interface that is down. The calling thread stays where it is.
    /// Needs CAP_SYS_ADMIN.
    ///
    /// # Errors
    ///
    /// The operating system's: EPERM without the capability.
    pub fn new() -> io::Result<NetNs> {
        // A thread that can be left behind: nothing else needs to find its way back.
        let made = std::thread::Builder::new().name("barewire-netns".to_owned()).spawn(|| {
            // SAFETY: unshare takes no pointers; it moves this thread alone.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            File::open("/proc/thread-self/ns/net")
        })?;
        let handle = made.join().map_err(|_| io::Error::other("the thread that makes a namespace panicked"))??;
        Ok(NetNs { handle })
    }

    /// Moves the calling thread into the namespace, and with it the sockets and processes that it makes from now on.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn enter(&self) -> io::Result<()> {
        // SAFETY: setns takes a descriptor, which is open as long as `self` is.
        if unsafe { libc::setns(self.handle.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// A path by which other programs find the namespace, as long as it is there.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd())
    }

    /// Runs iproute2's `ip` in the namespace.
    fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        std::thread::scope(|scope| {
            let ran = scope.spawn(|| {
                self.enter()?;
                let output = Command::new("ip")
                    .args(arguments)
                    .output()
                    .map_err(|error| io::Error::new(error.kind(), format!("ip: {error}; install iproute2")))?;
                if output.status.success() {
                    return Ok(());
                }
                let why = String::from_utf8_lossy(&output.stderr);
                Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), why.trim())))
            });
            ran.join().unwrap_or_else(|_| Err(io::Error::other("the thread that runs ip panicked")))
        })
    }

    /// Connects this namespace with another one: a veth pair, one end here and one there, each with its address
    /// (`10.0.0.1/24`), both up.
    ///
    /// # Errors
    ///
    /// What `ip` says, or that there is none.
    pub fn connect(&self, here: (&str, &str), other: &NetNs, there: (&str, &str)) -> io::Result<()> {
        let path = other.path();
        self.ip(&["link", "add", here.0, "type", "veth", "peer", "name", there.0, "netns", &path])?;
        for (namespace, (name, address)) in [(self, here), (other, there)] {
            namespace.ip(&["address", "add", address, "dev", name])?;
            namespace.ip(&["link", "set", "lo", "up"])?;
            namespace.ip(&["link", "set", name, "up"])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces;

    #[test]
    fn two_are_connected_and_gone_with_their_handles() {
        let made = NetNs::new().and_then(|a| Ok((a, NetNs::new()?)));
        let (a, b) = match made {
            Ok(made) => made,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && std::env::var_os("CI").is_none() => {
                eprintln!("skipped: {error}");
                return;
            }
            Err(error) => panic!("CI can make namespaces: {error}"),
        };
        a.connect(("bw-one", "10.98.0.1/24"), &b, ("bw-two", "10.98.0.2/24")).unwrap();
        let names = |namespace: &NetNs| {
            std::thread::scope(|scope| {
                let list = scope.spawn(|| {
                    namespace.enter().unwrap();
                    interfaces::list().unwrap().into_iter().map(|interface| interface.name).collect::<Vec<_>>()
                });
                list.join().unwrap()
            })
        };
        assert!(names(&a).contains(&"bw-one".to_owned()) && names(&b).contains(&"bw-two".to_owned()));
        // This thread has moved nowhere.
        assert!(!interfaces::list().unwrap().iter().any(|interface| interface.name.starts_with("bw-")));
        // With its namespace an end goes, and with it the other one.
        drop(b);
        let began = std::time::Instant::now();
        while names(&a).contains(&"bw-one".to_owned()) {
            assert!(began.elapsed().as_secs() < 30, "the kernel keeps a namespace that nobody has");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
