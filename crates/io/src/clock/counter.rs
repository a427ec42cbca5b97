//! The processor's own counter: the time-stamp counter of x86-64, the virtual counter of aarch64.
//!
//! It counts at one rate on all cores, whatever they do, where the processor says that it is invariant (Intel SDM volume
//! 3, "Invariant TSC"; AMD APM volume 2, "TscInvariant": CPUID 8000_0007h, EDX bit 8) and the kernel has found it to be
//! the same on all cores (it lists `tsc` among its clock sources then). On aarch64 the architecture promises both (Arm
//! ARM, "The Generic Timer"). Nothing here turns a count into a time: that is [`tsc`](super::tsc).

use std::fmt;

/// Why the counter cannot serve as a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoCounter {
    /// Neither x86-64 nor aarch64.
    Architecture,
    /// The process may not read it: `prctl(PR_SET_TSC, PR_TSC_SIGSEGV)` is in force.
    Forbidden,
    /// The processor, or the hypervisor above it, does not say that the rate is constant.
    NotInvariant,
    /// The kernel found it unfit, or different between the cores, and does not list it as a clock source.
    KernelDistrusts,
    /// Measured against CLOCK_MONOTONIC_RAW it did not keep its rate, stood still or went back: a suspended or migrated
    /// machine, or an emulated counter.
    Unsteady,
}

impl NoCounter {
    /// The name that output uses.
    pub const fn name(self) -> &'static str {
        match self {
            NoCounter::Architecture => "architecture",
            NoCounter::Forbidden => "forbidden",
            NoCounter::NotInvariant => "not_invariant",
            NoCounter::KernelDistrusts => "kernel_distrusts",
            NoCounter::Unsteady => "unsteady",
        }
    }
}

impl fmt::Display for NoCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoCounter::Architecture => "this processor's counter is not known: the system's clock is read instead",
            NoCounter::Forbidden => {
                "this process may not read the time-stamp counter (prctl PR_SET_TSC): the system's clock is read instead"
            }
            NoCounter::NotInvariant => {
                "the processor does not promise a constant time-stamp counter (CPUID 8000_0007h, EDX bit 8): the \
                 system's clock is read instead; on a virtual machine, let the host pass invtsc on"
            }
            NoCounter::KernelDistrusts => {
                "the kernel does not trust the time-stamp counter (tsc is not in \
                 /sys/devices/system/clocksource/clocksource0/available_clocksource; dmesg says why): the system's \
                 clock is read instead"
            }
            NoCounter::Unsteady => {
                "the counter did not keep its rate beside CLOCK_MONOTONIC_RAW: the system's clock is read instead"
            }
        })
    }
}

/// What the machine says of its counter before any measurement.
pub(crate) fn check() -> Result<(), NoCounter> {
    check_processor()?;
    let sources = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
    trusted(std::fs::read_to_string(sources).ok().as_deref())
}

/// Whether the kernel's list of clock sources holds the counter. A list that cannot be read says nothing.
fn trusted(sources: Option<&str>) -> Result<(), NoCounter> {
    let name = if cfg!(target_arch = "aarch64") { "arch_sys_counter" } else { "tsc" };
    match sources {
        Some(sources) if !sources.split_ascii_whitespace().any(|source| source == name) => {
            Err(NoCounter::KernelDistrusts)
        }
        _ => Ok(()),
    }
}

#[cfg(target_arch = "x86_64")]
fn check_processor() -> Result<(), NoCounter> {
    use std::arch::x86_64::__cpuid;
    const ADVANCED_POWER: u32 = 0x8000_0007;
    const INVARIANT: u32 = 1 << 8;
    let mut mode: libc::c_int = 0;
    // SAFETY: PR_GET_TSC writes one integer to the address given, which is writable.
    let told = unsafe { libc::prctl(libc::PR_GET_TSC, &raw mut mode) };
    if told == 0 && mode == libc::PR_TSC_SIGSEGV {
        return Err(NoCounter::Forbidden);
    }
    // SAFETY: every x86-64 processor has the instruction.
    #[allow(unused_unsafe, reason = "newer toolchains know that it is safe")]
    let (highest, power) = unsafe { (__cpuid(0x8000_0000).eax, __cpuid(ADVANCED_POWER).edx) };
    if highest < ADVANCED_POWER || power & INVARIANT == 0 { Err(NoCounter::NotInvariant) } else { Ok(()) }
}

#[cfg(target_arch = "aarch64")]
fn check_processor() -> Result<(), NoCounter> {
    Ok(())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn check_processor() -> Result<(), NoCounter> {
    Err(NoCounter::Architecture)
}

/// The count, read after everything before it in the program has been done. 0 on processors that it does not know.
#[inline(always)]
pub(crate) fn read() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86-64. rdtsc faults only where prctl or CR4.TSD forbid it, which `check` has asked, or
    // where no counter is used at all.
    unsafe {
        use std::arch::x86_64::{_mm_lfence, _rdtsc};
        _mm_lfence();
        _rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let count: u64;
        // SAFETY: Linux lets user space read the virtual counter; isb orders it after what came before. Neither changes
        // memory or flags.
        unsafe {
            std::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) count, options(nostack, preserves_flags));
        }
        count
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    0
}

/// The count, read when the processor finds the time: perhaps before what stands before it in the program is done, by as
/// much as that still waits for memory. Half the cost of [`read`].
#[inline(always)]
pub(crate) fn glance() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `read`.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let count: u64;
        // SAFETY: as in `read`.
        unsafe { std::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack, preserves_flags)) };
        count
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_without_it_means_distrust() {
        assert_eq!(trusted(None), Ok(()));
        assert_eq!(trusted(Some("kvm-clock hpet acpi_pm\n")), Err(NoCounter::KernelDistrusts));
        assert_eq!(trusted(Some("tsc-early\n")), Err(NoCounter::KernelDistrusts));
        let here = if cfg!(target_arch = "aarch64") { "arch_sys_counter \n" } else { "tsc kvm-clock \n" };
        assert_eq!(trusted(Some(here)), Ok(()));
    }

    /// The kernel shows what it read by CPUID.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_processor_says_what_the_kernel_heard() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap();
        let invariant = flags.split_ascii_whitespace().any(|flag| flag == "nonstop_tsc");
        assert_eq!(check_processor().is_ok(), invariant);
    }
}
