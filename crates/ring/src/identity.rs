//! Which process a producer is, in a way that survives the reuse of process ids.

use crate::layout::Header;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// A process: its id alone may be another's by tomorrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Process id, in the namespace below.
    pub(crate) pid: u64,
    /// When it was started, in clock ticks since boot.
    pub(crate) start: u64,
    /// Inode number of its pid namespace; 0 where there is no /proc to ask.
    pub(crate) pid_namespace: u64,
}

impl Identity {
    /// This process. Fields that /proc does not yield are 0.
    pub(crate) fn current() -> Identity {
        let pid = u64::from(std::process::id());
        let start = stat(pid).ok().flatten().map_or(0, |stat| stat.start);
        Identity { pid, start, pid_namespace: own_pid_namespace() }
    }

    /// The producer that a header names.
    pub(crate) fn of(header: &Header) -> Identity {
        Identity {
            pid: header.producer_pid,
            start: header.producer_start,
            pid_namespace: header.producer_pid_namespace,
        }
    }

    /// Whether the process is certainly gone. `false` where that cannot be known from here: another pid namespace, no
    /// /proc, or a process hidden from this user.
    pub(crate) fn is_gone(&self) -> bool {
        if self.pid_namespace == 0 || self.start == 0 || self.pid_namespace != own_pid_namespace() {
            return false;
        }
        match stat(self.pid) {
            Ok(Some(found)) => found.dead || found.start != self.start,
            Ok(None) => !exists(self.pid),
            Err(_) => false,
        }
    }
}

fn own_pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino())
}

/// What /proc/PID/stat says.
struct Stat {
    /// Dead, or a zombie: ended, but not yet waited for.
    dead: bool,
    start: u64,
}

/// `None`: no such process is visible.
fn stat(pid: u64) -> io::Result<Option<Stat>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => Ok(parse_stat(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// proc_pid_stat(5): field 3 is the state, field 20 the number of threads, field 22 the start time. Field 2, the command
/// in parentheses, may itself hold spaces and parentheses, so counting begins behind the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    // The first thread can end before the others, and is a zombie until they have.
    let dead = ended && threads <= 1;
    Some(Stat { dead, start })
}

/// Whether the process exists, hidden or not.
fn exists(pid: u64) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 is never delivered; the call only checks.
    let rc = unsafe { libc::kill(pid, 0) };
    rc == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there() {
        let me = Identity::current();
        assert!(me.start > 0 && me.pid_namespace > 0);
        assert!(!me.is_gone());
    }

    #[test]
    fn a_reused_id_is_another_process() {
        let me = Identity::current();
        assert!(Identity { start: me.start + 1, ..me }.is_gone());
        // From another namespace the same number says nothing.
        assert!(!Identity { start: me.start + 1, pid_namespace: me.pid_namespace + 1, ..me }.is_gone());
    }

    #[test]
    fn a_zombie_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = u64::from(child.id());
        let identity = Identity { pid, start: stat(pid).unwrap().unwrap().start, ..Identity::current() };
        assert!(!identity.is_gone());
        child.kill().unwrap();
        // Not yet waited for; death by signal takes a moment.
        while !identity.is_gone() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(identity.is_gone());
    }

    #[test]
    fn fields_of_stat() {
        let line = |state, threads| {
            let line = format!("7 (a) R (b) {state} 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 {threads} 0 8242 1 1");
            let stat = parse_stat(&line).unwrap();
            assert_eq!(stat.start, 8242);
            stat.dead
        };
        assert!(!line("S", 1) && line("Z", 1) && !line("Z", 2));
        assert!(parse_stat("").is_none() && parse_stat("7 (a) R").is_none());
    }
}
