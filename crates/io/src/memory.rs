//! Memory: cache lines ahead of their use, and huge pages.

use std::io;

use barewire_types::Prefetch;

/// Emits the processor's prefetch instruction; nothing on processors that it does not know.
#[derive(Clone, Copy, Debug, Default)]
pub struct CachePrefetch;

impl Prefetch for CachePrefetch {
    #[inline(always)]
    fn prefetch<T>(self, item: &T) {
        let address = std::ptr::from_ref(item);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: prefetcht0 never faults, whatever the address, and changes no memory; SSE is part of x86-64.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: prfm never faults, whatever the address, and changes neither memory nor flags.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = address;
    }
}

/// What became of a request for huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// The kernel took the advice for so many bytes. It follows it at the first touch of each part, when it has such
    /// pages to give.
    Advised(usize),
    /// The slice holds no whole page.
    TooSmall,
}

/// Bytes of a page.
fn page_size() -> usize {
    // SAFETY: sysconf takes no pointers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Asks for huge pages under the whole pages of `region`. Ask before the memory is first touched.
///
/// # Errors
///
/// The operating system's: `EINVAL` where the kernel was built without transparent huge pages, or where
/// `/sys/kernel/mm/transparent_hugepage/enabled` says never (then nothing fails, and nothing helps).
pub fn advise_huge(region: &[u8]) -> io::Result<HugePages> {
    let page = page_size();
    let start = region.as_ptr().addr();
    let first = start.next_multiple_of(page);
    let last = (start + region.len()) / page * page;
    let Some(len) = last.checked_sub(first).filter(|len| *len > 0) else { return Ok(HugePages::TooSmall) };
    let inside = region.as_ptr().wrapping_add(first - start).cast_mut();
    // SAFETY: the range lies within `region`. MADV_HUGEPAGE changes which pages back it, never what they hold.
    match unsafe { libc::madvise(inside.cast(), len, libc::MADV_HUGEPAGE) } {
        0 => Ok(HugePages::Advised(len)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetch_takes_any_address() {
        CachePrefetch.prefetch(&1u8);
        CachePrefetch.prefetch(&[0u64; 100]);
        CachePrefetch.prefetch(&());
    }

    #[test]
    fn advice_covers_the_whole_pages_and_changes_nothing() {
        let memory = vec![0x5au8; 8 << 20];
        match advise_huge(&memory[1..]) {
            Ok(HugePages::Advised(len)) => assert!(len > (8 << 20) - 2 * page_size() && len % page_size() == 0),
            Ok(HugePages::TooSmall) => panic!("8 MiB hold whole pages"),
            Err(error) => eprintln!("skipped: no transparent huge pages here: {error}"),
        }
        assert!(memory.iter().all(|byte| *byte == 0x5a));
        assert_eq!(advise_huge(&memory[1..100]).unwrap(), HugePages::TooSmall);
        assert_eq!(advise_huge(&[]).unwrap(), HugePages::TooSmall);
    }
}
