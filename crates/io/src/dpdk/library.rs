//! The library that `make dpdk` builds, loaded when a receiver is first opened: `crates/io/dpdk/barewire_dpdk.h`.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use super::DpdkError;

/// `BW_ABI`.
const ABI: u32 = 1;
/// The library's file.
pub const FILE: &str = "libbarewire_dpdk.so";

/// `struct bw_packet`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct RawPacket {
    pub(super) data: *const u8,
    mbuf: *mut c_void,
    pub(super) time: u64,
    pub(super) len: u32,
    pub(super) vlan_tci: u16,
    pub(super) flags: u16,
}

// SAFETY: between two looks its pointers are not followed, and a look fills them in anew.
unsafe impl Send for RawPacket {}

impl RawPacket {
    pub(super) const NONE: RawPacket =
        RawPacket { data: ptr::null(), mbuf: ptr::null_mut(), time: 0, len: 0, vlan_tci: 0, flags: 0 };
    pub(super) const CHECKSUM_GOOD: u16 = 1;
    pub(super) const VLAN: u16 = 2;
    pub(super) const TIME: u16 = 4;
    pub(super) const PIECES: u16 = 8;
}

/// `struct bw_port_config`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct PortConfig {
    pub(super) device: *const c_char,
    pub(super) frame_bytes: u32,
    pub(super) queues: u16,
    pub(super) descriptors: u16,
    pub(super) times: u16,
}

/// `struct bw_port_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PortInfo {
    driver: [u8; 32],
    pub(super) if_index: u32,
    pub(super) frame_bytes: u32,
    pub(super) buffers: u32,
    pub(super) max_queues: u16,
    pub(super) descriptors: u16,
    pub(super) mac: [u8; 6],
    pub(super) sends: u8,
    pub(super) checksums: u8,
    pub(super) times: u8,
    pub(super) clock: u8,
    unused: [u8; 2],
}

impl PortInfo {
    pub(super) fn driver(&self) -> String {
        let name = CStr::from_bytes_until_nul(&self.driver).unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// `struct bw_statistics`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PortStatistics {
    pub(super) missed: u64,
    pub(super) no_buffer: u64,
    pub(super) damaged: u64,
}

const _: () = assert!(size_of::<RawPacket>() == 32 && size_of::<PortConfig>() == 24 && size_of::<PortInfo>() == 60);

/// `struct bw_port *`.
pub(super) type RawPort = *mut c_void;

macro_rules! functions {
    ($(fn $name:ident as $symbol:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        /// The library's functions, as its header has them.
        #[derive(Debug)]
        pub(super) struct Library {
            $(pub(super) $name: unsafe extern "C" fn($($argument: $type),*) $(-> $result)?,)*
        }

        impl Library {
            /// # Safety
            ///
            /// `handle` is a library that exports these functions as the header declares them.
            unsafe fn bind(handle: *mut c_void, path: PathBuf) -> Result<Library, DpdkError> {
                $(
                    let symbol = concat!(stringify!($symbol), "\0");
                    // SAFETY: the handle is open, the name ends with a zero byte.
                    let $name = unsafe { libc::dlsym(handle, symbol.as_ptr().cast()) };
                    if $name.is_null() {
                        return Err(DpdkError::OtherLibrary { path, found: None, expected: ABI });
                    }
                )*
                // SAFETY: the caller's promise: each is a function of this type.
                Ok(unsafe { Library { $($name: transmute::<*mut c_void, unsafe extern "C" fn($($type),*) $(-> $result)?>($name)),* } })
            }
        }
    };
}

functions! {
    fn version as bw_version() -> *const c_char;
    fn first_error as bw_first_error() -> *const c_char;
    fn init as bw_init(argc: c_int, argv: *mut *mut c_char, logs_to_stderr: c_int) -> c_int;
    fn open as bw_port_open(config: *const PortConfig, out: *mut RawPort, info: *mut PortInfo, what: *mut *const c_char) -> c_int;
    fn close as bw_port_close(port: RawPort);
    fn receive as bw_receive(port: RawPort, queue: u16, out: *mut RawPacket, max: u32) -> u32;
    fn release as bw_release(port: RawPort);
    fn copy as bw_packet_copy(packet: *const RawPacket, to: *mut u8, room: u32) -> u32;
    fn send as bw_send(port: RawPort, frame: *const u8, len: u32) -> c_int;
    fn listen as bw_listen(port: RawPort, addresses: *const [u8; 6], count: u32, may_be_promiscuous: c_int) -> c_int;
    fn statistics as bw_statistics(port: RawPort, out: *mut PortStatistics) -> c_int;
    fn clock as bw_clock(port: RawPort, out: *mut u64) -> c_int;
}

impl Library {
    /// Loads the library from a path; without one from beside the program's own code, else from where the system looks for
    /// libraries. It stays loaded: DPDK cannot be begun twice.
    pub(super) fn load(path: Option<&Path>) -> Result<&'static Library, DpdkError> {
        let place = match (path, beside_this_code()) {
            (Some(path), _) => path.to_owned(),
            (None, Some(place)) if place.exists() => place,
            // Without a folder it is looked for in the system's.
            _ => PathBuf::from(FILE),
        };
        match open(&place) {
            // SAFETY: the library's own word, which it is asked for first.
            Ok(handle) => unsafe { bind(handle, place) },
            Err(why) => {
                // That there is none is not worth the loader's words; what a library lacks is.
                let why = if place.components().count() == 1 && why.starts_with(FILE) { String::new() } else { why };
                Err(DpdkError::NoLibrary { why })
            }
        }
    }

    pub(super) fn version(&self) -> String {
        // SAFETY: the library's text, which never changes.
        unsafe { text((self.version)()) }
    }

    /// What DPDK said of the last failure.
    pub(super) fn first_error(&self) -> String {
        // SAFETY: the library's text; who asks holds DPDK's lock.
        unsafe { text((self.first_error)()) }
    }
}

/// # Safety
///
/// `found` is null or a text that ends with a zero byte.
pub(super) unsafe fn text(found: *const c_char) -> String {
    match found.is_null() {
        true => String::new(),
        // SAFETY: the caller's promise.
        false => unsafe { CStr::from_ptr(found) }.to_string_lossy().into_owned(),
    }
}

/// # Safety
///
/// As [`Library::bind`], if the library has the number that is asked for here.
unsafe fn bind(handle: *mut c_void, path: PathBuf) -> Result<&'static Library, DpdkError> {
    // SAFETY: the handle is open, the name ends with a zero byte.
    let number = unsafe { libc::dlsym(handle, c"bw_abi".as_ptr()) };
    if number.is_null() {
        return Err(DpdkError::OtherLibrary { path, found: None, expected: ABI });
    }
    // SAFETY: no version of the library has it otherwise.
    let found = unsafe { transmute::<*mut c_void, unsafe extern "C" fn() -> u32>(number)() };
    if found != ABI {
        return Err(DpdkError::OtherLibrary { path, found: Some(found), expected: ABI });
    }
    // SAFETY: the number says so.
    Ok(Box::leak(Box::new(unsafe { Library::bind(handle, path) }?)))
}

fn open(path: &Path) -> Result<*mut c_void, String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: `name` ends with a zero byte; the libraries' constructors are DPDK's own.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    match handle.is_null() {
        false => Ok(handle),
        // SAFETY: there was an error, so this is its text.
        true => Err(unsafe { text(libc::dlerror()) }),
    }
}

/// The library's place beside the file that this code is in.
fn beside_this_code() -> Option<PathBuf> {
    // SAFETY: a Dl_info is pointers, for which zero is a value.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let here = beside_this_code as *const c_void;
    // SAFETY: `info` is writable, and filled in where the result is not zero.
    if unsafe { libc::dladdr(here, &raw mut info) } == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the loader's text, which stays as long as this code.
    let file = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(Path::new(OsStr::from_bytes(file.to_bytes())).parent()?.join(FILE))
}

/// What a function's result says. Drivers return -1 for want of a reason, which is not to pass for EPERM.
pub(super) fn error(code: c_int) -> std::io::Error {
    match code {
        -1 => std::io::Error::other("no reason given"),
        _ => std::io::Error::from_raw_os_error(-code),
    }
}
