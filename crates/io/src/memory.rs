//! Memory: cache lines ahead of their use, and huge pages.

use std::fs;
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
#[non_exhaustive]
pub enum HugePages {
    /// The kernel took the advice for so many bytes. It follows it as each part is first touched, when it has such pages
    /// to give: [`huge_bytes`] tells afterwards.
    Advised(usize),
    /// The slice holds no whole page.
    TooSmall,
    /// The machine gives none: `/sys/kernel/mm/transparent_hugepage/enabled` says `never`.
    Disabled,
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
/// The operating system's: `EINVAL` where the kernel was built without transparent huge pages.
pub fn advise_huge(region: &[u8]) -> io::Result<HugePages> {
    let page = page_size();
    let start = region.as_ptr().addr();
    let first = start.next_multiple_of(page);
    let last = (start + region.len()) / page * page;
    let Some(len) = last.checked_sub(first).filter(|len| *len > 0) else { return Ok(HugePages::TooSmall) };
    let enabled = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    if enabled.is_ok_and(|enabled| enabled.contains("[never]")) {
        return Ok(HugePages::Disabled);
    }
    let inside = region.as_ptr().wrapping_add(first - start).cast_mut();
    // SAFETY: the range lies within `region`. MADV_HUGEPAGE changes which pages back it, never what they hold.
    match unsafe { libc::madvise(inside.cast(), len, libc::MADV_HUGEPAGE) } {
        0 => Ok(HugePages::Advised(len)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many bytes of `region` lie on huge pages just now, at most: the kernel tells it of whole mappings, which may reach
/// beyond the region. Reads `/proc/self/smaps`: for start-up and reports.
///
/// # Errors
///
/// The operating system's, where `/proc` is not mounted.
pub fn huge_bytes(region: &[u8]) -> io::Result<usize> {
    let start = region.as_ptr().addr();
    let end = start + region.len();
    Ok(huge_in(&fs::read_to_string("/proc/self/smaps")?, start, end))
}

/// As [`huge_bytes`], of an smaps file's text.
fn huge_in(smaps: &str, start: usize, end: usize) -> usize {
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (mut shared, mut huge) = (0, 0);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(word) = words.next() else { continue };
        if let Some((from, to)) = word.split_once('-').and_then(|(from, to)| address(from).zip(address(to))) {
            shared = end.min(to).saturating_sub(start.max(from));
        } else if word == "AnonHugePages:" {
            let kib: usize = words.next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
            huge += shared.min(kib.saturating_mul(1024));
        }
    }
    huge
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

    /// Nothing changes what the memory holds; whether the kernel has huge pages to give is its own affair.
    #[test]
    fn advice_covers_the_whole_pages_and_changes_nothing() {
        const LEN: usize = 8 << 20;
        let mut memory = vec![0u8; LEN];
        let advised = advise_huge(&memory[1..]);
        memory.fill(0x5a);
        match advised {
            Ok(HugePages::Advised(len)) => {
                assert!(len > LEN - 2 * page_size() && len.is_multiple_of(page_size()));
                assert!(huge_bytes(&memory).unwrap() <= LEN);
            }
            Ok(HugePages::Disabled) => assert_eq!(huge_bytes(&memory).unwrap(), 0),
            Ok(HugePages::TooSmall) => panic!("8 MiB hold whole pages"),
            Err(error) => eprintln!("skipped: no transparent huge pages here: {error}"),
        }
        assert!(memory.iter().all(|byte| *byte == 0x5a));
        assert_eq!(advise_huge(&memory[1..100]).unwrap(), HugePages::TooSmall);
        assert_eq!(advise_huge(&[]).unwrap(), HugePages::TooSmall);
    }

    #[test]
    fn huge_pages_are_counted_within_the_region_only() {
        let smaps = "10000000-10400000 rw-p 00000000 00:00 0 \nSize: 4096 kB\nAnonHugePages:      4096 kB\n\
                     10400000-10500000 rw-p 00000000 00:00 0 [heap]\nAnonHugePages: 0 kB\n\
                     20000000-20400000 r--p 00000000 08:01 7 /a-b\nAnonHugePages: 2048 kB\nVmFlags: rd\n";
        const MIB: usize = 1 << 20;
        assert_eq!(huge_in(smaps, 0x1000_0000, 0x1040_0000), 4 * MIB);
        assert_eq!(huge_in(smaps, 0x1030_0000, 0x1050_0000), MIB);
        assert_eq!(huge_in(smaps, 0x2000_0000, 0x2040_0000), 2 * MIB);
        assert_eq!(huge_in(smaps, 0x1000_0000, 0x3000_0000), 6 * MIB);
        assert_eq!(huge_in(smaps, 0x1050_0000, 0x1060_0000), 0);
        assert_eq!(huge_in("", 0, usize::MAX), 0);
    }
}
