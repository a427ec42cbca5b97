//! bpf(2): maps, programs and links, as far as receiving and sending need them; [`asm`] writes the programs.
//!
//! The structs are prefixes of the kernel's `bpf_attr` (`linux/bpf.h`): it takes what it is given and reads the rest as
//! zero. Every descriptor closes on exec, and what it stands for goes with the last one: also when the process is killed.

pub(crate) mod asm;
pub(crate) mod btf;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU64;

use asm::Insn;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const LINK_DETACH: libc::c_int = 34;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

/// XDP_FLAGS_SKB_MODE.
pub(crate) const GENERIC: u32 = 1 << 1;
/// XDP_FLAGS_DRV_MODE.
pub(crate) const NATIVE: u32 = 1 << 2;

fn name(text: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    name.iter_mut().zip(text.iter().take(15)).for_each(|(to, byte)| *to = *byte);
    name
}

/// # Safety
///
/// `attr` is the struct that the kernel reads for `command`, and every pointer in it is valid for what the command does
/// with it.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    let attr: *mut T = attr;
    // SAFETY: `attr` is readable and writable for its size; the caller's promise covers the rest.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>() as libc::c_uint) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: bpf(2) just opened `fd` and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn map(kind: u32, value_bytes: u32, entries: u32, flags: u32, text: &[u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        map_type: u32,
        key_bytes: u32,
        value_bytes: u32,
        max_entries: u32,
        flags: u32,
        inner_map: u32,
        numa_node: u32,
        name: [u8; 16],
    }
    let mut attr = Attr {
        map_type: kind,
        key_bytes: 4,
        value_bytes,
        max_entries: entries,
        flags,
        inner_map: 0,
        numa_node: 0,
        name: name(text),
    };
    // SAFETY: this is MAP_CREATE's struct, and it holds no pointers.
    unsafe { bpf(MAP_CREATE, &mut attr) }.map(owned)
}

/// A map from receive queues to AF_XDP sockets. A socket that is closed leaves it by itself.
pub(crate) fn socket_map(queues: u32) -> io::Result<OwnedFd> {
    map(MAP_TYPE_XSKMAP, 4, queues, 0, b"barewire_queues")
}

/// Makes the program hand a queue's packets to a socket.
pub(crate) fn put_socket(map: &OwnedFd, queue: u32, socket: libc::c_int) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        map: u32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let mut attr = Attr {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: (&raw const queue).addr() as u64,
        value: (&raw const socket).addr() as u64,
        flags: 0,
    };
    // SAFETY: this is MAP_UPDATE_ELEM's struct; key and value are readable for the map's four bytes each.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

#[repr(C)]
struct LoadAttr {
    program_type: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// Has the kernel verify and compile a program. Where it refuses, the verifier's words come with its reason.
pub(crate) fn load_program(code: &[Insn]) -> Result<OwnedFd, (io::Error, String)> {
    load(code, 0, 0, c"Apache-2.0")
}

/// The same for a program that asks this interface's driver about packets. It can be attached there only, and natively only.
pub(crate) fn load_device_program(code: &[Insn], interface: u32) -> Result<OwnedFd, (io::Error, String)> {
    /// BPF_F_XDP_DEV_BOUND_ONLY.
    const DEVICE_BOUND: u32 = 1 << 6;
    // The kernel lets its functions be called by programs only whose licence is compatible with its own: this program,
    // which is made here, may be had under either.
    load(code, DEVICE_BOUND, interface, c"Dual MIT/GPL")
}

fn load(code: &[Insn], flags: u32, interface: u32, license: &CStr) -> Result<OwnedFd, (io::Error, String)> {
    const LOG_BYTES: usize = 1 << 20;
    let mut attr = LoadAttr {
        program_type: PROG_TYPE_XDP,
        instructions: code.len() as u32,
        code: code.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        log_level: 0,
        log_bytes: 0,
        log: 0,
        kernel_version: 0,
        flags,
        name: name(b"barewire"),
        interface,
        attach_type: ATTACH_XDP,
    };
    // SAFETY: this is PROG_LOAD's struct; the instructions and the license are readable for their lengths; no log.
    let error = match unsafe { bpf(PROG_LOAD, &mut attr) } {
        Ok(fd) => return Ok(owned(fd)),
        Err(error) => error,
    };
    if error.raw_os_error() == Some(libc::EPERM) {
        return Err((error, String::new()));
    }
    let mut log = vec![0u8; LOG_BYTES];
    (attr.log_level, attr.log_bytes, attr.log) = (1, LOG_BYTES as u32, log.as_mut_ptr().expose_provenance() as u64);
    // SAFETY: as above, and the log is writable for its length.
    match unsafe { bpf(PROG_LOAD, &mut attr) } {
        Ok(fd) => Ok(owned(fd)),
        Err(error) => {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            log.truncate(end);
            Err((error, String::from_utf8_lossy(&log).into_owned()))
        }
    }
}

/// A program's attachment to an interface. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub(crate) struct Link {
    fd: OwnedFd,
    /// Whose it is. A process forked from it has a copy, which is not its to end.
    owner: u32,
}

impl Link {
    /// Attaches a program.
    pub(crate) fn attach(program: &OwnedFd, interface: u32, flags: u32) -> io::Result<Link> {
        #[repr(C)]
        struct Attr {
            program: u32,
            interface: u32,
            attach_type: u32,
            flags: u32,
        }
        let mut attr = Attr { program: program.as_raw_fd() as u32, interface, attach_type: ATTACH_XDP, flags };
        // SAFETY: this is LINK_CREATE's struct, and it holds no pointers.
        let fd = unsafe { bpf(LINK_CREATE, &mut attr) }.map(owned)?;
        Ok(Link { fd, owner: std::process::id() })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Closing the descriptor would do, were there not children that hold a copy of it, if only until they exec.
        if self.owner == std::process::id() {
            let mut fd = self.fd.as_raw_fd() as u32;
            // SAFETY: LINK_DETACH's struct begins with the link's descriptor, and the rest is read as zero. The call fails
            // only where the interface is gone, or on kernels before 5.9, which have no such links.
            let _ = unsafe { bpf(LINK_DETACH, &mut fd) };
        }
    }
}

/// PROG_TEST_RUN's struct.
#[repr(C)]
#[derive(Default)]
struct RunAttr {
    program: u32,
    result: u32,
    in_bytes: u32,
    out_bytes: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_bytes: u32,
    context_out_bytes: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    /// To the next multiple of 8: the kernel refuses what it does not know, unless it is zero.
    padding: u32,
}

fn run(attr: &mut RunAttr) -> io::Result<()> {
    const PROG_TEST_RUN: libc::c_int = 10;
    // SAFETY: this is PROG_TEST_RUN's struct; the one pointer in it is to a frame, readable for its length, in the callers'
    // hands; nothing is to be written.
    unsafe { bpf(PROG_TEST_RUN, attr) }.map(drop)
}

/// Runs an XDP program on so many copies of a frame, so many in one go, and does with each what it returns
/// (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18). Frames that it redirects leave by interfaces of this thread's namespace.
/// EINTR after a signal.
pub(crate) fn run_live(program: &OwnedFd, frame: &[u8], repeat: u32, batch: u32) -> io::Result<()> {
    const LIVE_FRAMES: u32 = 1 << 1;
    run(&mut RunAttr {
        program: program.as_raw_fd() as u32,
        in_bytes: frame.len() as u32,
        data_in: frame.as_ptr().addr() as u64,
        repeat,
        flags: LIVE_FRAMES,
        batch,
        ..RunAttr::default()
    })
}

/// What the program returns for one frame.
#[cfg(test)]
pub(crate) fn test_run(program: &OwnedFd, frame: &[u8]) -> io::Result<i32> {
    let mut attr = RunAttr {
        program: program.as_raw_fd() as u32,
        in_bytes: frame.len() as u32,
        data_in: frame.as_ptr().addr() as u64,
        repeat: 1,
        ..RunAttr::default()
    };
    run(&mut attr)?;
    Ok(attr.result as i32)
}

/// An array of memory that programs and this process share.
#[derive(Debug)]
pub(crate) struct SharedMap {
    fd: OwnedFd,
    memory: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory is shared with the kernel for good, and is accessed by atomics only.
unsafe impl Send for SharedMap {}
// SAFETY: likewise.
unsafe impl Sync for SharedMap {}

impl SharedMap {
    /// Makes and maps an array of so many elements of so many bytes, a multiple of 8, all zero.
    pub(crate) fn new(element_bytes: u32, elements: u32, text: &[u8]) -> io::Result<SharedMap> {
        const MAPPABLE: u32 = 1 << 10;
        let len = (element_bytes as usize).checked_mul(elements as usize).ok_or(io::ErrorKind::OutOfMemory)?;
        let fd = map(MAP_TYPE_ARRAY, element_bytes, elements, MAPPABLE, text)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping overlaps nothing.
        let memory = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd.as_raw_fd(), 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(SharedMap { fd, memory, words: len / 8 })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The memory, in words of 64 bits.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: mapped with this length as long as `self` is, page-aligned, initialised by the kernel; atomics may be
        // changed by others.
        unsafe { slice::from_raw_parts(self.memory.as_ptr(), self.words) }
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: made in `new` with this length; no slice of it outlives the map.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.words * 8) };
    }
}
