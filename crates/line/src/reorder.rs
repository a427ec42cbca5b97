//! The reordering ring: messages that came ahead of their turn.
//!
//! A message's place is its sequence number modulo the capacity, so finding, storing and releasing one costs the same
//! however many are held and in whatever order they came. Everything is allocated at construction. A place belongs to the
//! number written on it; a number that has been passed is a free place, so nothing needs to be cleared.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;

use barewire_types::{Seq, TsSource, UnixNanos};

/// How and when a held message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// When its packet arrived, by the clock that timers are by.
    pub at: UnixNanos,
    /// When its packet arrived, by the best clock.
    pub ts_recv: UnixNanos,
    /// By which clock that was taken.
    pub ts_source: TsSource,
    /// Whether that clock was not as good as it should be.
    pub degraded: bool,
    /// On which line.
    pub line: u8,
}

/// What became of a message that was to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is held.
    New,
    /// It was held already.
    Duplicate,
    /// It is longer than a place.
    TooLong,
}

#[derive(Clone, Copy)]
struct Place {
    /// The message's number plus one; 0 for a place never used.
    number: u64,
    came: Came,
    len: u16,
}

/// Held messages, by their sequence numbers.
pub(crate) struct Ring {
    places: Box<[Place]>,
    bytes: Box<[u8]>,
    /// Bytes of a place.
    stride: usize,
    mask: u64,
    held: u32,
}

impl Ring {
    /// Room for `capacity` messages (a power of two is made of it) of up to `longest` bytes.
    pub(crate) fn new(capacity: u32, longest: u16) -> Ring {
        let capacity = capacity.clamp(2, 1 << 24).next_power_of_two() as usize;
        let stride = usize::from(longest.max(1)).next_multiple_of(8);
        let never = Came {
            at: UnixNanos::ABSENT,
            ts_recv: UnixNanos::ABSENT,
            ts_source: TsSource::None,
            degraded: false,
            line: 0,
        };
        Ring {
            places: vec![Place { number: 0, came: never, len: 0 }; capacity].into_boxed_slice(),
            bytes: vec![0; capacity * stride].into_boxed_slice(),
            stride,
            mask: capacity as u64 - 1,
            held: 0,
        }
    }

    /// How many numbers from `next` on have a place.
    pub(crate) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// How many messages are held.
    #[inline(always)]
    pub(crate) fn held(&self) -> u32 {
        self.held
    }

    #[inline]
    fn index(&self, sequence: u64) -> usize {
        (sequence & self.mask) as usize
    }

    /// Holds a message whose number is below `next + capacity` and not below `next`.
    pub(crate) fn store(&mut self, sequence: u64, message: &[u8], came: Came) -> Stored {
        let index = self.index(sequence);
        let stride = self.stride;
        let (Some(place), Some(bytes)) = (
            self.places.get_mut(index),
            self.bytes.get_mut(index * stride..).and_then(|rest| rest.get_mut(..message.len().min(stride + 1))),
        ) else {
            return Stored::TooLong;
        };
        let number = sequence.wrapping_add(1);
        if place.number == number {
            return Stored::Duplicate;
        }
        if message.len() > stride || bytes.len() != message.len() {
            return Stored::TooLong;
        }
        bytes.copy_from_slice(message);
        *place = Place { number, came, len: message.len() as u16 };
        self.held += 1;
        Stored::New
    }

    /// The message of this number, if it is held.
    #[inline]
    pub(crate) fn get(&self, sequence: u64) -> Option<(&[u8], Came)> {
        let index = self.index(sequence);
        // The last number of all has no place: one past it would be 0, which stands for a place never used.
        let number = sequence.checked_add(1)?;
        let place = self.places.get(index).filter(|place| place.number == number)?;
        let at = index * self.stride;
        Some((self.bytes.get(at..at + usize::from(place.len))?, place.came))
    }

    /// The numbers from `from` to before `to` are passed; how many of them were held.
    pub(crate) fn pass(&mut self, from: u64, to: u64) -> u32 {
        let mut passed = 0;
        let mut number = from;
        while number < to && self.held > 0 {
            let index = self.index(number);
            if let Some(place) = self.places.get_mut(index)
                && place.number == number.wrapping_add(1)
            {
                place.number = 0;
                self.held -= 1;
                passed += 1;
            }
            number += 1;
        }
        passed
    }

    /// The first number from `from` on, below `to`, that is not held.
    pub(crate) fn first_free(&self, from: u64, to: u64) -> Option<u64> {
        (from..to).find(|number| self.get(*number).is_none())
    }

    /// The first held number from `from` on, below `to`.
    pub(crate) fn first_from(&self, from: u64, to: u64) -> Option<u64> {
        if self.held == 0 {
            return None;
        }
        let to = to.min(from.saturating_add(self.capacity()));
        (from..to).find(|number| self.get(*number).is_some())
    }
}

/// Messages held in a row, in order. Cloned to look ahead.
#[derive(Clone)]
pub struct Row<'a> {
    pub(crate) ring: &'a Ring,
    pub(crate) next: u64,
}

impl<'a> Row<'a> {
    /// How the message that comes next came; `None` at the row's end.
    pub fn came(&self) -> Option<Came> {
        self.ring.get(self.next).map(|(_, came)| came)
    }

    /// The number of the message that comes next.
    pub fn sequence(&self) -> Seq {
        Seq(self.next)
    }
}

impl<'a> Iterator for Row<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (message, _) = self.ring.get(self.next)?;
        self.next += 1;
        Some(message)
    }
}
