//! Control messages: what the kernel says beside a payload.
//!
//! Specification: cmsg(3). Each begins with its length, header included, its level and its type, and the next begins at
//! the next multiple of the machine's word.

use barewire_types::UnixNanos;

use crate::clock;

const HEADER_LEN: usize = size_of::<libc::cmsghdr>();

/// What is of use in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    /// The kernel's receive time.
    pub(super) time: Option<UnixNanos>,
    /// The socket's drops up to this message, modulo 2^32, where there have been any.
    pub(super) drops: Option<u32>,
}

impl Control {
    #[inline]
    pub(super) fn parse(mut bytes: &[u8]) -> Control {
        let mut control = Control::default();
        while let Some(len) = word(bytes, 0).map(usize::from_ne_bytes)
            && let Some(level) = word(bytes, size_of::<usize>()).map(i32::from_ne_bytes)
            && let Some(kind) = word(bytes, size_of::<usize>() + 4).map(i32::from_ne_bytes)
            && let Some(data) = bytes.get(HEADER_LEN..len)
        {
            match (level, kind) {
                // Three times; the first is the software one. SO_TIMESTAMPNS has that one alone.
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING | libc::SCM_TIMESTAMPNS) => {
                    let half = size_of::<libc::time_t>();
                    if let (Some(seconds), Some(nanos)) = (word(data, 0), word(data, half)) {
                        let (tv_sec, tv_nsec) =
                            (libc::time_t::from_ne_bytes(seconds), libc::c_long::from_ne_bytes(nanos));
                        let time = clock::nanos(libc::timespec { tv_sec, tv_nsec });
                        control.time = (time != 0).then_some(UnixNanos(time));
                    }
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => control.drops = word(data, 0).map(u32::from_ne_bytes),
                _ => {}
            }
            bytes = bytes.get(len.next_multiple_of(size_of::<usize>())..).unwrap_or(&[]);
        }
        control
    }
}

#[inline]
fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut out = (HEADER_LEN + data.len()).to_ne_bytes().to_vec();
        out.extend(level.to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(data);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    fn times(seconds: i64, nanos: i64) -> Vec<u8> {
        [seconds, nanos, 7, 7, 7, 7].iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn times_and_drops_are_found_among_others() {
        let time = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &times(3, 5));
        let drops = message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &9u32.to_ne_bytes());
        let other = message(libc::IPPROTO_IP, libc::SO_RXQ_OVFL, b"odd");
        let (found_time, found_drops) = (Some(UnixNanos(3_000_000_005)), Some(9));
        assert_eq!(Control::parse(&[]), Control::default());
        for (messages, time, drops) in [
            (vec![&time, &drops], found_time, found_drops),
            (vec![&drops, &other, &time], found_time, found_drops),
            (vec![&other], None, None),
            (vec![&other, &drops], None, found_drops),
        ] {
            let bytes: Vec<u8> = messages.into_iter().flatten().copied().collect();
            assert_eq!(Control::parse(&bytes), Control { time, drops });
        }
        // No time is none.
        let zero = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &times(0, 0));
        assert_eq!(Control::parse(&zero).time, None);
    }

    proptest! {
        /// Whatever the bytes, it ends, and reads none beyond them.
        #[test]
        fn nothing_is_believed(mut bytes in prop::collection::vec(any::<u8>(), 0..96), len in 0usize..64) {
            bytes.iter_mut().zip(len.to_ne_bytes()).for_each(|(to, from)| *to = from);
            Control::parse(&bytes);
        }
    }
}
