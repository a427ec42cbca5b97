//! DPDK's environment (EAL): begun once a process, by its first receiver, and shared by all.
//!
//! Beginning it pins the calling thread, so a thread is made for it that ends at once. DPDK keeps one thread of its own,
//! for interrupts, which sleeps. No file is left by it, whatever the process ends by: there is no process beside it that
//! could want one.

use std::env;
use std::ffi::{CString, c_char};
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::library::Library;
use super::options::{DpdkOptions, Memory};
use super::{DpdkError, library};
use crate::affinity;

/// Memory where huge pages are not to be had, MiB: some ten receivers' worth.
const DEFAULT_MEMORY_MIB: u32 = 256;

/// What was begun.
#[derive(Clone, Debug)]
pub(super) struct Eal {
    pub(super) library: &'static Library,
    pub(super) memory: Memory,
    /// What of it was asked for.
    asked: (bool, Option<u32>, Vec<String>),
}

static EAL: Mutex<Option<Eal>> = Mutex::new(None);

/// Keeps others from opening and closing ports meanwhile, which DPDK does not allow.
pub(super) fn lock() -> MutexGuard<'static, Option<Eal>> {
    EAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins what has not begun yet.
pub(super) fn begin<'a>(eal: &'a mut Option<Eal>, options: &DpdkOptions) -> Result<&'a Eal, DpdkError> {
    let asked = (options.huge_pages, options.memory_mib, options.eal.clone());
    match eal {
        Some(begun) if begun.asked != asked => Err(DpdkError::BegunOtherwise),
        Some(begun) => Ok(begun),
        none => {
            let library = Library::load(options.library.as_deref())?;
            let memory = match options.huge_pages {
                true if free_huge_pages() => Memory::Huge,
                asked => Memory::Ordinary { mib: options.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB), for_want: asked },
            };
            start(library, memory, options)?;
            Ok(none.insert(Eal { library, memory, asked }))
        }
    }
}

/// Whether a huge page of any length is free.
fn free_huge_pages() -> bool {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else { return false };
    let free = |size: fs::DirEntry| fs::read_to_string(size.path().join("free_hugepages")).ok();
    sizes.flatten().filter_map(free).any(|count| count.trim().parse().is_ok_and(|count: u64| count > 0))
}

/// Where DPDK makes a folder, whether it puts anything there or not.
fn run_folder() -> PathBuf {
    let named = |name| env::var_os(name).map(PathBuf::from);
    // SAFETY: getuid takes nothing and cannot fail.
    let is_root = unsafe { libc::getuid() } == 0;
    let parent = named("RUNTIME_DIRECTORY").or_else(|| match is_root {
        true => Some("/var/run".into()),
        false => named("XDG_RUNTIME_DIR"),
    });
    parent.unwrap_or_else(|| "/tmp".into()).join("dpdk")
}

fn start(library: &'static Library, memory: Memory, options: &DpdkOptions) -> Result<(), DpdkError> {
    let cores = affinity::allowed().unwrap_or_else(|_| vec![0]);
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    let mut arguments =
        vec!["barewire".to_owned(), "--no-telemetry".into(), format!("--lcores=0@({})", cores.join(","))];
    // Only what is named is taken from the bus, whatever else is bound to a driver of DPDK's.
    arguments.extend(["-a".into(), "0000:00:00.0".into()]);
    match memory {
        Memory::Huge => {
            arguments.push("--in-memory".into());
            arguments.extend(options.memory_mib.iter().flat_map(|mib| ["-m".into(), mib.to_string()]));
        }
        Memory::Ordinary { mib, .. } => {
            arguments.extend(["--no-huge".into(), "--no-shconf".into(), "-m".into(), mib.to_string()]);
        }
    }
    arguments.extend(options.eal.iter().cloned());
    let logs = options.eal.iter().any(|argument| argument.starts_with("--log-level"));
    let arguments: Vec<CString> = arguments.into_iter().filter_map(|argument| CString::new(argument).ok()).collect();
    let run = move || {
        let mut pointers: Vec<*mut c_char> = arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
        let count = pointers.len() as i32;
        pointers.push(std::ptr::null_mut());
        // SAFETY: so many texts that live until it returns, and a null behind them; the caller holds the lock.
        unsafe { (library.init)(count, pointers.as_mut_ptr(), i32::from(logs)) }
    };
    let thread = thread::Builder::new().name("barewire-dpdk".into()).spawn(run);
    let result = thread.map_or(-libc::EAGAIN, |thread| thread.join().unwrap_or(-libc::EIO));
    // Made, and left empty. Others' files keep it.
    let folder = run_folder();
    let _ = fs::remove_dir(folder.join("rte")).and_then(|()| fs::remove_dir(folder));
    match result {
        0 => Ok(()),
        code => Err(DpdkError::Eal { memory, said: library.first_error(), error: library::error(code) }),
    }
}
