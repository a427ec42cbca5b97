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
    /// The card's, by the card's clock, nanoseconds.
    pub(super) hardware: Option<u64>,
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
                // Three times: the software one, one that is no longer used, the card's own. SO_TIMESTAMPNS has the first
                // alone.
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING | libc::SCM_TIMESTAMPNS) => {
                    control.time = time(data, 0).map(UnixNanos);
                    control.hardware = time(data, 2);
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => control.drops = word(data, 0).map(u32::from_ne_bytes),
                _ => {}
            }
            bytes = bytes.get(len.next_multiple_of(size_of::<usize>())..).unwrap_or(&[]);
        }
        control
    }
}

/// A time of several in a row; 0 is none.
#[inline]
fn time(data: &[u8], index: usize) -> Option<u64> {
    let (at, half) = (index * size_of::<libc::timespec>(), size_of::<libc::time_t>());
    let (seconds, nanos) = (word(data, at)?, word(data, at + half)?);
    let (tv_sec, tv_nsec) = (libc::time_t::from_ne_bytes(seconds), libc::c_long::from_ne_bytes(nanos));
    Some(clock::nanos(libc::timespec { tv_sec, tv_nsec })).filter(|time| *time != 0)
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

    fn times(seconds: i64, nanos: i64, card: i64) -> Vec<u8> {
        [seconds, nanos, 7, 7, 0, card].iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn times_and_drops_are_found_among_others() {
        let time = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &times(3, 5, 9));
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
            let hardware = time.map(|_| 9);
            assert_eq!(Control::parse(&bytes), Control { time, hardware, drops });
        }
        // No time is none, and of what a card says none is here: the bytes are written by hand.
        let of = |kind, data: &[u8]| {
            let Control { time, hardware, .. } = Control::parse(&message(libc::SOL_SOCKET, kind, data));
            (time.map(|time| time.0), hardware)
        };
        assert_eq!(of(libc::SCM_TIMESTAMPING, &times(0, 0, 0)), (None, None));
        assert_eq!(of(libc::SCM_TIMESTAMPING, &times(0, 0, 8)), (None, Some(8)));
        assert_eq!(of(libc::SCM_TIMESTAMPING, &times(3, 5, 8)[..40]), (Some(3_000_000_005), None));
        assert_eq!(of(libc::SCM_TIMESTAMPNS, &times(3, 5, 8)[..16]), (Some(3_000_000_005), None));
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
