//! On which cores a thread may run.

use std::fmt;
use std::io;

/// Why a thread could not be pinned.
#[derive(Debug)]
#[non_exhaustive]
pub enum AffinityError {
    /// The core does not exist, or the process may not use it (cgroup, taskset).
    NotAllowed {
        /// The core asked for.
        core: usize,
        /// Cores that the thread may use.
        allowed: Vec<usize>,
    },
    /// The kernel refused.
    Os(io::Error),
}

impl fmt::Display for AffinityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AffinityError::NotAllowed { core, allowed } => {
                write!(f, "cannot pin to core {core}: this process may use cores {allowed:?}; choose one of these")
            }
            AffinityError::Os(error) => write!(f, "cannot set the thread's cores: {error}"),
        }
    }
}

impl std::error::Error for AffinityError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AffinityError::NotAllowed { .. } => None,
            AffinityError::Os(error) => Some(error),
        }
    }
}

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Cores on which the calling thread may run, in order.
///
/// # Errors
///
/// The operating system's, on machines with more cores than a `cpu_set_t` has bits (1,024).
pub fn allowed() -> io::Result<Vec<usize>> {
    let mut set = empty_set();
    // SAFETY: `set` is writable for the length given; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the index stays below the set's bits.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect())
}

/// Lets the calling thread run on these cores only.
///
/// # Errors
///
/// [`AffinityError::NotAllowed`] names the first core that the process may not use.
pub fn set_allowed(cores: &[usize]) -> Result<(), AffinityError> {
    let mut set = empty_set();
    for core in cores {
        if *core >= libc::CPU_SETSIZE as usize {
            return Err(not_allowed(*core));
        }
        // SAFETY: the index was just checked.
        unsafe { libc::CPU_SET(*core, &mut set) };
    }
    // SAFETY: `set` is readable for the length given; 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match (error.raw_os_error(), cores.first()) {
        (Some(libc::EINVAL), Some(core)) => Err(not_allowed(*core)),
        _ => Err(AffinityError::Os(error)),
    }
}

fn not_allowed(core: usize) -> AffinityError {
    match allowed() {
        Ok(allowed) => AffinityError::NotAllowed { core, allowed },
        Err(error) => AffinityError::Os(error),
    }
}

/// Pins the calling thread to one core.
///
/// # Errors
///
/// As [`set_allowed`].
pub fn pin(core: usize) -> Result<(), AffinityError> {
    set_allowed(&[core])
}

/// The core that the calling thread runs on just now.
pub fn current_core() -> Option<usize> {
    // SAFETY: sched_getcpu takes nothing.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_to_each_allowed_core_and_back() {
        std::thread::spawn(|| {
            let before = allowed().unwrap();
            for core in &before {
                pin(*core).unwrap();
                assert_eq!(current_core(), Some(*core));
                assert_eq!(allowed().unwrap(), [*core]);
            }
            set_allowed(&before).unwrap();
            assert_eq!(allowed().unwrap(), before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_core_that_is_not_there_is_named_with_those_that_are() {
        for core in [1023, 1_000_000] {
            let error = pin(core).unwrap_err();
            assert!(
                matches!(&error, AffinityError::NotAllowed { core: c, allowed } if *c == core && !allowed.is_empty())
            );
            assert!(error.to_string().starts_with(&format!("cannot pin to core {core}: ")), "{error}");
        }
    }
}
