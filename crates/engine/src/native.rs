//! A strategy in the loop: code that the feed's own thread calls for each event, right after the event was published.
//!
//! The callback gets the event and the top of its instrument's book as they are, by reference, and nothing stands between
//! it and the packet: no other thread, no queue, no lock, no copy. In return the feed waits for it. How long it takes is
//! therefore measured at every call: two readings of the processor's counter, some ten nanoseconds each.
//!
//! The book's top is that after the message from which the event came, when live as in a replay, and whatever has come in
//! the meantime. Events of the whole feed (gaps, sessions) have an empty one.
//!
//! What this does *not* do: stop a callback that does not return. The feed then stands still, and whoever stops it waits.

use barewire_book::Top;
use barewire_io::clock::tsc::{TscClock, TscOptions};
use barewire_types::{Gap, Record, RecordKind};

use crate::counters::{Counter, Counters};

/// What is called.
///
/// A closure over `(&Record, &Top)` is one.
pub trait Callback: Send {
    /// An event, and the top of its book after the message that it came from. Should return in less time than messages are
    /// apart; must not panic, wait or allocate.
    fn call(&mut self, event: &Record, top: &Top);

    /// There will be no more calls.
    fn ended(&mut self) {}

    /// How many calls failed so far, where the callback knows such a thing.
    fn errors(&self) -> u64 {
        0
    }
}

impl<F: FnMut(&Record, &Top) + Send> Callback for F {
    fn call(&mut self, event: &Record, top: &Top) {
        self(event, top);
    }
}

/// A set of record kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// Every kind.
    pub const ALL: Kinds = Kinds(u8::MAX);
    /// No kind.
    pub const NONE: Kinds = Kinds(0);

    /// The set and one kind more.
    pub const fn with(self, kind: RecordKind) -> Kinds {
        Kinds(self.0 | 1 << kind as u8)
    }

    #[inline(always)]
    fn has(self, record: &Record) -> bool {
        // Through Gap: the first 32 bytes are alike in every kind.
        self.0 & 1 << (Gap::from(*record).kind & 7) != 0
    }
}

/// A callback, which events it is for, and how it fares.
pub struct Native {
    callback: Box<dyn Callback>,
    kinds: Kinds,
    slow_ns: u64,
    clock: TscClock,
    calls: u64,
    total_ns: u64,
    longest_ns: u64,
    slow: u64,
}

impl Native {
    /// Sets a callback up. Takes 20 ms, in which the processor's counter is measured. Calls that take more than `slow_ns` are
    /// counted.
    pub fn new(callback: Box<dyn Callback>, kinds: Kinds, slow_ns: u64) -> Native {
        let clock = TscClock::calibrate(TscOptions::default());
        Native { callback, kinds, slow_ns, clock, calls: 0, total_ns: 0, longest_ns: 0, slow: 0 }
    }

    /// Calls the callback, if the event is for it.
    #[inline]
    pub(crate) fn call(&mut self, event: &Record, top: &Top) {
        if !self.kinds.has(event) {
            return;
        }
        let begun = self.clock.now().0;
        self.callback.call(event, top);
        let took = self.clock.now().0.saturating_sub(begun);
        self.calls += 1;
        self.total_ns += took;
        self.longest_ns = self.longest_ns.max(took);
        self.slow += u64::from(took > self.slow_ns);
    }

    /// There are no more events. What was counted stays readable.
    pub(crate) fn end(&mut self) {
        self.kinds = Kinds::NONE;
        self.callback.ended();
    }

    /// Copies the figures to where others read them.
    pub(crate) fn report(&self, counters: &mut Counters) {
        counters.set(Counter::CallbackCalls, self.calls);
        counters.set(Counter::CallbackTime, self.total_ns);
        counters.set(Counter::CallbackLongest, self.longest_ns);
        counters.set(Counter::CallbackSlow, self.slow);
        counters.set(Counter::CallbackErrors, self.callback.errors());
    }
}
