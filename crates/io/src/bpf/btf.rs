//! The kernel's own types (BTF), as far as it takes to find a function of the kernel's by its name.
//!
//! Specification: the kernel's `Documentation/bpf/btf.rst`. A header, a section of types numbered from 1 in the order in
//! which they stand, each 12 bytes and what its kind adds, and a section of names. Nothing is believed: every number is
//! checked against the bytes that are there, and a kind that is not known ends the search, since its length is not known
//! either.

use std::fmt;
use std::fs;

/// Where the kernel shows its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const FUNCTION: u32 = 12;

/// Why a function was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BtfError {
    /// The kernel shows no types: it was built without (CONFIG_DEBUG_INFO_BTF), or this process may not read them.
    Unreadable,
    /// What it shows is no BTF of version 1 in this machine's order, or contradicts itself.
    Malformed,
    /// A kind of type that is newer than this reader.
    UnknownKind(u32),
    /// The kernel has no such function.
    NotThere,
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BtfError::Unreadable => write!(f, "the kernel does not show its types ({VMLINUX})"),
            BtfError::Malformed => write!(f, "{VMLINUX} is not as it should be"),
            BtfError::UnknownKind(kind) => write!(f, "{VMLINUX} holds a kind of type that is not known: {kind}"),
            BtfError::NotThere => f.write_str("the kernel has no such function"),
        }
    }
}

/// The number of a function of the running kernel.
pub(crate) fn kernel_function(name: &str) -> Result<i32, BtfError> {
    let bytes = fs::read(VMLINUX).map_err(|_| BtfError::Unreadable)?;
    function(&bytes, name)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// A section, by two words of the header that say where it begins behind it, and how long it is.
fn section(bytes: &[u8], header_len: u32, at: usize) -> Option<&[u8]> {
    let from = (word(bytes, at)? as usize).checked_add(header_len as usize)?;
    bytes.get(from..)?.get(..word(bytes, at + 4)? as usize)
}

fn function(bytes: &[u8], name: &str) -> Result<i32, BtfError> {
    let sections = || {
        let magic = bytes.first_chunk().copied().map(u16::from_ne_bytes)?;
        if magic != MAGIC || *bytes.get(2)? != 1 {
            return None;
        }
        let header_len = word(bytes, 4)?;
        Some((section(bytes, header_len, 8)?, section(bytes, header_len, 16)?))
    };
    let (mut types, names) = sections().ok_or(BtfError::Malformed)?;
    let is_named = |offset: u32| {
        let rest = names.get(offset as usize..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    };
    let mut number = 0i32;
    while !types.is_empty() {
        number = number.checked_add(1).ok_or(BtfError::Malformed)?;
        let (Some(name_offset), Some(info)) = (word(types, 0), word(types, 4)) else { return Err(BtfError::Malformed) };
        let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if kind == FUNCTION && is_named(name_offset) {
            return Ok(number);
        }
        let more = match kind {
            // Pointers, forward declarations, type definitions, qualifiers, functions, floats, type tags.
            2 | 7..=12 | 16 | 18 => 0,
            // Integers, variables, tags of declarations.
            1 | 14 | 17 => 4,
            // Arrays.
            3 => 12,
            // Structs, unions, sections of data, enumerations of 64 bits.
            4 | 5 | 15 | 19 => 12 * members,
            // Enumerations, prototypes.
            6 | 13 => 8 * members,
            other => return Err(BtfError::UnknownKind(other)),
        };
        types = types.get(12 + more..).ok_or(BtfError::Malformed)?;
    }
    Err(BtfError::NotThere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Types of every kind there is, then the function `seek`; written from the specification.
    fn sample() -> Vec<u8> {
        let names = b"\0other\0seek\0seeker\0";
        let mut types: Vec<u32> = Vec::new();
        let mut add = |name: u32, kind: u32, members: u32, more: usize| {
            types.extend([name, kind << 24 | members, 0]);
            types.extend(vec![0x0c00_0001; more]);
        };
        for (kind, members, words) in [
            (1, 0, 1),
            (2, 0, 0),
            (3, 0, 3),
            (4, 2, 6),
            (5, 1, 3),
            (6, 3, 6),
            (7, 0, 0),
            (8, 0, 0),
            (9, 0, 0),
            (10, 0, 0),
            (11, 0, 0),
            (13, 2, 4),
            (14, 0, 1),
            (15, 2, 6),
            (16, 0, 0),
            (17, 0, 1),
            (18, 0, 0),
            (19, 2, 6),
        ] {
            // A type that is no function has the name, too.
            add(7, kind, members, words);
        }
        add(1, FUNCTION, 0, 0);
        add(12, FUNCTION, 0, 0);
        add(7, FUNCTION, 1, 0);
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut out = Vec::from(MAGIC.to_ne_bytes());
        out.extend([1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, names.len() as u32] {
            out.extend(word.to_ne_bytes());
        }
        out.extend(types);
        out.extend(names);
        out
    }

    #[test]
    fn a_function_is_found_among_types_of_every_kind() {
        let sample = sample();
        assert_eq!(function(&sample, "seek"), Ok(21));
        assert_eq!(function(&sample, "other"), Ok(19));
        assert_eq!(function(&sample, "seeke"), Err(BtfError::NotThere));
        assert_eq!(function(&sample[..sample.len() - 1], "seek"), Err(BtfError::Malformed));
        let mut newer = sample.clone();
        newer[24 + 7] = 20;
        assert_eq!(function(&newer, "seek"), Err(BtfError::UnknownKind(20)));
        newer[2] = 2;
        assert_eq!(function(&newer, "seek"), Err(BtfError::Malformed));
        assert_eq!(function(b"", "seek"), Err(BtfError::Malformed));
    }

    /// The running kernel's own, where it shows them: the functions are there that every kernel has with XDP.
    #[test]
    fn the_running_kernels_types_are_read() {
        let there = std::fs::File::open("/sys/kernel/btf/vmlinux").is_ok();
        match kernel_function("xdp_do_redirect") {
            Ok(number) => assert!(there && number > 0),
            Err(error) => assert!(!there && matches!(error, BtfError::NotThere | BtfError::Unreadable), "{error}"),
        }
        assert!(kernel_function("barewire_has_no_such_function").is_err());
    }

    proptest! {
        /// Whatever the bytes, the search ends, and reads none beyond them.
        #[test]
        fn nothing_is_believed(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in any::<prop::sample::Index>()) {
            let mut bytes = sample();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let found = function(&bytes, "seek");
            prop_assert!(found.is_err() || found.is_ok_and(|number| (1..=200).contains(&number)));
        }
    }
}
