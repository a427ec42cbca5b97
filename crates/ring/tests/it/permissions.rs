//! Who may read a ring, and that reading is all they can do.

use crate::common::{event, named, unique};
use barewire_ring::{Producer, Reader, RingConfig, RingError, RingRecord};
use std::fs::{File, OpenOptions};
use std::thread;

/// A group and two users that no account has.
const GROUP: u32 = 64_001;
const MEMBER: u32 = 64_002;
const STRANGER: u32 = 64_003;

fn is_root() -> bool {
    // SAFETY: always succeeds.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        eprintln!("skipped: only root can become another user");
    }
    root
}

/// Runs `act` on a thread of another user, and of that group alone.
fn become_user<R: Send + 'static>(user: u32, group: u32, act: impl FnOnce() -> R + Send + 'static) -> R {
    let thread = thread::spawn(move || {
        // By system call: the library's functions would change every thread's user, these change this one's.
        // SAFETY: three calls with plain numbers; the thread does nothing else and ends.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()), 0);
            assert_eq!(libc::syscall(libc::SYS_setresgid, group, group, group), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, user, user, user), 0);
        }
        act()
    });
    thread.join().unwrap()
}

/// Another user, and not of the group: may neither read the ring nor take its name, even when its producer is gone.
#[test]
fn strangers_are_refused() {
    if !is_root() {
        return;
    }
    let ring = unique("stranger");
    let producer = Producer::create(&named(&ring, 64)).unwrap();
    let name = ring.clone();
    let stranger = thread::spawn(move || {
        // By system call: the library's functions would change every thread's user, these change this one's.
        // SAFETY: three calls with plain numbers; the thread does nothing else and ends.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()), 0);
            assert_eq!(libc::syscall(libc::SYS_setresgid, -1, 65_534, -1), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, -1, 65_534, -1), 0);
        }
        (Reader::attach(&name).err(), Producer::create(&named(&name, 64)).err())
    });
    let operation = "open the ring that has the name";
    let refused =
        (Some(RingError::Permission { operation: "open the ring" }), Some(RingError::Permission { operation }));
    assert_eq!(stranger.join().unwrap(), refused);
    assert_eq!(Reader::attach(&ring).unwrap().info().epoch, producer.epoch());
}

/// A member of the group reads, and can do no harm: neither write, nor make its mapping writable, cut the ring off, lock
/// it, move it away or take its name. Somebody outside the group cannot even read.
#[test]
fn the_group_reads_and_can_do_nothing_else() {
    if !is_root() {
        return;
    }
    let ring = unique("group");
    let mut producer = Producer::create(&RingConfig { group: Some(GROUP), ..named(&ring, 64) }).unwrap();
    let (name, path) = (ring.clone(), format!("/dev/shm/barewire.{ring}"));
    let reader = become_user(MEMBER, GROUP, move || {
        let reader = Reader::attach(&name).unwrap();
        for writable in [OpenOptions::new().write(true), OpenOptions::new().read(true).write(true)] {
            assert_eq!(writable.open(&path).unwrap_err().raw_os_error(), Some(libc::EACCES));
        }
        let file = File::open(&path).unwrap();
        assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(libc::EINVAL), "not open for writing");
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let refused = OpenOptions::new().write(true).open(again).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES), "not by way of its descriptor either");
        for refused in [
            std::fs::remove_file(&path),
            std::fs::rename(&path, format!("{path}.away")),
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)),
        ] {
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
        }
        assert!(matches!(Producer::create(&named(&name, 64)), Err(RingError::Permission { .. })));
        assert_eq!(make_writable(&path), vec![libc::EACCES]);
        reader
    });
    let mut reader = reader;
    producer.publish(event(0));
    assert_eq!(reader.read(&mut [RingRecord::ZERO; 4]).count, 1);

    let name = ring.clone();
    let refused = become_user(STRANGER, STRANGER, move || Reader::attach(&name).err());
    assert_eq!(refused, Some(RingError::Permission { operation: "open the ring" }));
}

/// Tries to make this process's mappings of a file writable; the errors.
fn make_writable(path: &str) -> Vec<i32> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    // The producer's own mapping, which is writable, is in this process too.
    let readers = maps.lines().filter(|line| line.ends_with(path) && line.contains(" r--s "));
    let try_one = |line: &str| {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let (from, to) = (usize::from_str_radix(from, 16).unwrap(), usize::from_str_radix(to, 16).unwrap());
        // SAFETY: the range is a mapping of ours; more rights would break nothing.
        let rc = unsafe { libc::mprotect(from as *mut _, to - from, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(rc, -1, "a reader's mapping could be made writable");
        std::io::Error::last_os_error().raw_os_error().unwrap()
    };
    readers.map(try_one).collect()
}

/// Nor can one who has no other rights than root's: what was opened for reading is mapped for reading.
#[test]
fn a_readers_mapping_cannot_be_made_writable() {
    let ring = unique("mapping");
    let _producer = Producer::create(&named(&ring, 64)).unwrap();
    let _readers = [Reader::attach(&ring).unwrap(), Reader::attach(&ring).unwrap()];
    assert_eq!(make_writable(&format!("/dev/shm/barewire.{ring}")), vec![libc::EACCES; 2]);
}

/// A name proves nothing: anybody may have been the first to use it. Who asks for an owner is told.
#[test]
fn a_ring_of_another_owner_is_refused() {
    // SAFETY: always succeeds.
    let me = unsafe { libc::geteuid() };
    let ring = unique("owner");
    {
        let _producer = Producer::create(&named(&ring, 64)).unwrap();
        let mut reader = Reader::attach_owned(&ring, me).unwrap();
        assert!(reader.reattach().is_ok());
        let refused = RingError::Owner { expected: me + 1, found: me };
        assert_eq!(Reader::attach_owned(&ring, me + 1).err(), Some(refused));
        assert!(!refused.to_string().contains('\n'));
    }
    if !is_root() {
        return;
    }
    // A reader that goes on with the name goes on asking.
    let producer = Producer::create(&named(&ring, 64)).unwrap();
    let mut reader = Reader::attach_owned(&ring, me).unwrap();
    drop(producer);
    let name = ring.clone();
    let theirs = become_user(STRANGER, STRANGER, move || Producer::create(&named(&name, 64)).unwrap());
    assert_eq!(reader.reattach(), Err(RingError::Owner { expected: me, found: STRANGER }));
    drop(theirs);
}

/// A mode that would let others in, or anybody write, is no mode for a ring.
#[test]
fn modes_that_open_the_ring_to_others_are_refused() {
    for mode in (0..0o1000).filter(|mode| !matches!(mode, 0o600 | 0o640)) {
        let refused = Producer::create(&RingConfig { mode, ..named(&unique("mode"), 64) }).err();
        assert_eq!(refused, Some(RingError::Mode { found: mode }));
    }
}
