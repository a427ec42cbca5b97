//! Capabilities: the pieces that root's power comes in, as capabilities(7) has them.
//!
//! They belong to threads. A feed needs some while it opens its receive path and none afterwards, so it gives them up: what
//! is not held cannot be abused by whoever finds a fault in what parses the network's packets.

use std::fmt;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A set of capabilities: bit n is capability n of linux/capability.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// None.
    pub const NONE: Capabilities = Capabilities(0);
    /// Files are read and written whoever they belong to.
    pub const DAC_OVERRIDE: Capabilities = Capabilities(1 << 1);
    /// Ports below 1024.
    pub const NET_BIND_SERVICE: Capabilities = Capabilities(1 << 10);
    /// Interfaces are configured, XDP programs attached.
    pub const NET_ADMIN: Capabilities = Capabilities(1 << 12);
    /// Packet sockets and AF_XDP sockets.
    pub const NET_RAW: Capabilities = Capabilities(1 << 13);
    /// BPF programs may add to pointers what they have read: an IPv4 header's length.
    pub const PERFMON: Capabilities = Capabilities(1 << 38);
    /// BPF programs are loaded.
    pub const BPF: Capabilities = Capabilities(1 << 39);

    const NAMED: [(Capabilities, &'static str); 6] = [
        (Capabilities::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
        (Capabilities::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"),
        (Capabilities::NET_ADMIN, "CAP_NET_ADMIN"),
        (Capabilities::NET_RAW, "CAP_NET_RAW"),
        (Capabilities::PERFMON, "CAP_PERFMON"),
        (Capabilities::BPF, "CAP_BPF"),
    ];

    /// Those of either set.
    pub const fn with(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// Those that are not in the other set.
    pub const fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// Those of the set that the calling thread has not; all of them where it may not ask.
    pub fn missing(self) -> Capabilities {
        self.without(effective().unwrap_or(Capabilities::NONE))
    }

    /// Whether the calling thread has not all of them.
    pub fn is_missing(self) -> bool {
        !self.missing().is_empty()
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Capabilities {
    /// The names, with " and " between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Capabilities::NAMED.iter().filter(|(one, _)| self.0 & one.0 != 0).map(|(_, name)| name);
        names.next().map_or(Ok(()), |name| f.write_str(name))?;
        names.try_for_each(|name| write!(f, " and {name}"))
    }
}

/// `struct __user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`: 32 of the 64 bits.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION: u32 = 0x2008_0522;

fn get() -> io::Result<[Data; 2]> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: the header is writable, and the data has the two elements that version 3 fills in.
    match unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } {
        0 => Ok(data),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the calling thread holds and may use at this moment.
///
/// # Errors
///
/// The kernel's, where a sandbox forbids the question.
pub fn effective() -> io::Result<Capabilities> {
    let [low, high] = get()?;
    Ok(Capabilities(u64::from(low.effective) | u64::from(high.effective) << 32))
}

/// Gives up all but `keep` for the calling thread, for good. Threads that it starts later hold no more than it does. A
/// program that root starts has all of root's capabilities again.
///
/// # Errors
///
/// The kernel's, where a sandbox forbids it.
pub fn drop_of_thread(keep: Capabilities) -> io::Result<()> {
    let mut data = get()?;
    for (half, keep) in data.iter_mut().zip([keep.0 as u32, (keep.0 >> 32) as u32]) {
        half.effective &= keep;
        half.permitted &= keep;
        half.inheritable = 0;
    }
    let mut header = Header { version: VERSION, pid: 0 };
    // SAFETY: both are readable, and the data has the two elements that version 3 takes.
    match unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the threads that are told to give theirs up may keep.
static KEEP: AtomicU64 = AtomicU64::new(0);
/// How long they are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

extern "C" fn told(_signal: libc::c_int) {
    // SAFETY: the address of this thread's errno, which a handler leaves as it found it.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    // Two system calls, and nothing that is not safe in a handler. Whether it worked is seen in /proc.
    let _ = drop_of_thread(Capabilities(KEEP.load(Ordering::Relaxed)));
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Gives up all but `keep` for every thread of the process. There is no system call for that: each thread is sent a
/// signal, the last but one of the real-time signals, and does it in the handler, which stays.
///
/// # Errors
///
/// The kernel's; [`io::ErrorKind::TimedOut`] when some thread holds its own still, since it lets no signal through.
pub fn drop_of_process(keep: Capabilities) -> io::Result<()> {
    KEEP.store(keep.0, Ordering::Relaxed);
    drop_of_thread(keep)?;
    let signal = libc::SIGRTMAX() - 1;
    // SAFETY: a sigaction is integers and pointers, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = told as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is readable, the handler async-signal-safe; what was there before is not asked for.
    if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let begun = Instant::now();
    let mut asked = Vec::new();
    loop {
        let holding = holding(keep)?;
        if holding.is_empty() {
            return Ok(());
        }
        for thread in holding.iter().filter(|thread| !asked.contains(*thread)).copied().collect::<Vec<_>>() {
            // SAFETY: a signal to a thread of this process, for which there is a handler; one that has ended is refused.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
            asked.push(thread);
        }
        if begun.elapsed() > PATIENCE {
            let text = format!("{} threads hold theirs still", holding.len());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Threads of this process that hold more than `keep`. The kernel's own workers for io_uring, which are listed as if they
/// were the process's, are left out: they run no code of ours.
fn holding(keep: Capabilities) -> io::Result<Vec<libc::pid_t>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        // A thread that has ended since holds nothing.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim);
        let permitted = u64::from_str_radix(field("CapPrm:"), 16).unwrap_or(0);
        let ours = !field("Name:").starts_with("iou-");
        if let (true, false, Some(id)) = (
            ours,
            Capabilities(permitted).without(keep).is_empty(),
            entry.file_name().to_str().and_then(|name| name.parse().ok()),
        ) {
            found.push(id);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named() {
        let set = Capabilities::NET_ADMIN.with(Capabilities::BPF);
        assert_eq!(set.to_string(), "CAP_NET_ADMIN and CAP_BPF");
        assert_eq!(set.without(Capabilities::BPF).to_string(), "CAP_NET_ADMIN");
        assert_eq!((Capabilities::NONE.to_string().as_str(), Capabilities::NONE.is_empty()), ("", true));
    }

    #[test]
    fn a_thread_gives_up_its_own_and_no_other() {
        let before = effective().expect("an answer");
        let (kept, none) = thread::spawn(|| {
            drop_of_thread(Capabilities::DAC_OVERRIDE).expect("giving up is always allowed");
            let kept = effective().expect("an answer");
            // What a thread gave up its children have not.
            let none = thread::spawn(|| {
                drop_of_thread(Capabilities::NONE).expect("giving up is always allowed");
                effective().expect("an answer")
            });
            (kept, none.join().expect("an end"))
        })
        .join()
        .expect("an end");
        assert!(kept.without(Capabilities::DAC_OVERRIDE).is_empty(), "{kept:?}");
        assert!(none.is_empty(), "{none:?}");
        assert_eq!(effective().expect("an answer"), before);
    }
}
