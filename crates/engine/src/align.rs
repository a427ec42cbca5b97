//! Several feeds' records as one stream, by the time at which they arrived. Does no IO and reads no clock.
//!
//! What the merge does *not* do: change the order in which one feed published, drop a record, or wait without an end.
//!
//! **Key.** A record's key is its `ts_recv` (or `ts_event`) plus its input's offset. Within an input, records stay in the
//! order of publication whatever their times say: each is *placed* at the largest key of its input so far. The output is
//! in the order of (place, input, publication).
//!
//! **Holding back.** A record goes out once no other input can bring anything that belongs before it: each has a record
//! queued, has shown that it is further ([`Merge::progress`]), or has ended. An input that says nothing is waited for by
//! [`Config::hold_ns`], counted from when the record was read, and longer only while that input is known to have more to
//! read: being slow to read is no silence. More than [`Config::max_held`] records are never held.
//!
//! **Late.** A record whose key is below the place of one that is out already is handed out at once, marked as late.
//!
//! With [`Time::Data`], for files, inputs are always read on until they have something or end: nothing is late that was
//! not late in its own file, and the same files give the same output however they are read.

pub mod rows;

use std::collections::VecDeque;

use barewire_ring::RingRecord;
use barewire_types::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use barewire_types::{Gap, RecordKind};

barewire_types::layout! {
    /// What is added to a ring record when it is aligned.
    #[derive(PartialEq, Eq)]
    pub struct Placed: "aligned" {
        /// What it is aligned by: `ts_recv` (or `ts_event`) plus the input's offset; of a record without a time, that of the one before it in its input.
        ts_key: u64 ["ns since 1970, UTC"],
        /// How long it was held back.
        held_ns: u64 ["ns"],
        /// Which input, from 0.
        source: u8,
        /// 1 where something newer had gone out before it.
        late: u8,
        /// Why it went out: 0 nothing older could come, 1 it was held long enough, 2 there was no more room.
        released_by: u8,
        /// Zero.
        reserved: [u8; 5] as Bytes,
    }
}

/// A record as it comes out: 88 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Aligned {
    /// As the feed published it.
    pub ring: RingRecord,
    /// Where it stands.
    pub placed: Placed,
}

impl Aligned {
    /// All zero: to fill a buffer with before the first read.
    pub const ZERO: Aligned = Aligned {
        ring: RingRecord::ZERO,
        placed: Placed { ts_key: 0, held_ns: 0, source: 0, late: 0, released_by: 0, reserved: [0; 5] },
    };
}

/// Which of a record's times is its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// When the packet arrived.
    Recv,
    /// When the venue says it happened.
    Event,
}

/// Whose time passes while records are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The clock of whoever calls: inputs are live.
    Local,
    /// The records' own: inputs are files.
    Data,
}

/// How to align.
#[derive(Clone, Debug)]
pub struct Config {
    /// By what.
    pub key: Key,
    /// What is added to the keys of each input, ns. As many as there are inputs, 255 at most.
    pub offsets_ns: Vec<i64>,
    /// How long a record is held back for a silent input, ns.
    pub hold_ns: u64,
    /// How many records are held back at most.
    pub max_held: usize,
    /// Whose time passes.
    pub time: Time,
}

/// An input's first quote or order has no time to align it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTime {
    /// Which input.
    pub input: usize,
}

/// What came of an input so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records handed out.
    pub records: u64,
    /// Those of them that were late.
    pub late: u64,
    /// By how much the latest was.
    pub late_max_ns: u64,
    /// Those that went out because they were held long enough.
    pub by_hold: u64,
    /// Those that went out because there was no more room.
    pub by_room: u64,
    /// Records that the input lost before they could be read.
    pub lost: u64,
    /// Records held back now.
    pub held: u64,
}

/// What a release gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// How many records.
    pub count: usize,
    /// The input that lost records, and how many, just before the first of these.
    pub lost: Option<(usize, u64)>,
}

/// A record that waits. `place` is never below that of the record before it.
struct Held {
    ring: RingRecord,
    key: u64,
    place: u64,
    read_at: u64,
}

#[derive(Default)]
struct Input {
    offset_ns: i64,
    held: VecDeque<Held>,
    /// The place of the last record that came.
    place: u64,
    /// Nothing is known to come below this.
    frontier: u64,
    /// Whether anything had a time yet.
    has_time: bool,
    /// Whether there is more to be read at once.
    has_more: bool,
    ended: bool,
    /// How many records came, and how many went out.
    came: u64,
    went: u64,
    /// Losses, each with the number of the record that it lies before.
    losses: VecDeque<(u64, u64)>,
    stats: Stats,
}

/// A place in the output's order.
type Place = (u64, usize);
const NOWHERE: Place = (u64::MAX, usize::MAX);

/// Why a record goes out.
#[derive(Clone, Copy)]
enum Why {
    Settled = 0,
    Hold = 1,
    Room = 2,
}

/// Whose turn it is.
struct Turn {
    input: usize,
    /// Where the next input's turn comes.
    second: Place,
    /// Where inputs that have nothing queued may still bring something.
    settled: Place,
    /// The same of inputs that are not silent: they have more to be read.
    silent: Place,
    /// Of the other inputs' next records, the last one's place.
    farthest: u64,
}

/// The merge.
pub struct Merge {
    key: Key,
    time: Time,
    hold_ns: u64,
    max_held: usize,
    inputs: Vec<Input>,
    held: usize,
    /// The largest place that went out.
    newest: u64,
}

impl Merge {
    /// A merge that has seen nothing.
    pub fn new(config: &Config) -> Merge {
        let input = |offset_ns: &i64| Input { offset_ns: *offset_ns, has_more: true, ..Input::default() };
        Merge {
            key: config.key,
            time: config.time,
            hold_ns: config.hold_ns,
            max_held: config.max_held,
            inputs: config.offsets_ns.iter().take(usize::from(u8::MAX)).map(input).collect(),
            held: 0,
            newest: 0,
        }
    }

    /// Takes the next records of an input, which were read at `now`; `lost` records are missing before the first.
    /// `has_more`: the input has more to read at once. Nothing is taken of an input that does not exist, or has ended.
    ///
    /// # Errors
    ///
    /// The input's first order or quote has no time. Nothing was taken then.
    pub fn push(
        &mut self,
        input: usize,
        records: &[RingRecord],
        lost: u64,
        now: u64,
        has_more: bool,
    ) -> Result<(), NoTime> {
        let Some(to) = self.inputs.get_mut(input).filter(|to| !to.ended) else { return Ok(()) };
        let key_of = |record: &RingRecord| {
            let head = Gap::from(record.record);
            let time = if self.key == Key::Recv { head.ts_recv } else { head.ts_event };
            if time == 0 { 0 } else { time.saturating_add_signed(to.offset_ns).max(1) }
        };
        if self.key == Key::Recv && !to.has_time && !records.is_empty() {
            let first = records.iter().find(|record| {
                key_of(record) != 0 || matches!(record.record.kind(), Some(RecordKind::Mbo | RecordKind::Bbo))
            });
            match first.map(key_of) {
                Some(0) => return Err(NoTime { input }),
                first => to.has_time = first.is_some(),
            }
        }
        if lost > 0 {
            to.stats.lost += lost;
            match to.losses.back_mut() {
                Some((before, more)) if *before == to.came => *more += lost,
                _ => to.losses.push_back((to.came, lost)),
            }
        }
        to.held.reserve(records.len());
        let mut place = to.place;
        for ring in records {
            let key = key_of(ring);
            place = place.max(key);
            to.held.push_back(Held { ring: *ring, key, place, read_at: now });
        }
        to.place = place;
        to.frontier = to.frontier.max(place);
        to.came += records.len() as u64;
        to.has_more = has_more;
        self.held += records.len();
        Ok(())
    }

    /// The input was read empty, and everything that arrived before `ts_recv` had been published by then.
    pub fn progress(&mut self, input: usize, ts_recv: u64) {
        if self.key == Key::Recv
            && ts_recv > 0
            && let Some(of) = self.inputs.get_mut(input)
        {
            of.frontier = of.frontier.max(ts_recv.saturating_add_signed(of.offset_ns));
        }
    }

    /// Nothing more comes of the input.
    pub fn end(&mut self, input: usize) {
        if let Some(of) = self.inputs.get_mut(input) {
            of.ended = true;
            of.has_more = false;
        }
    }

    /// Whether the input has ended and everything of it is out.
    pub fn is_through(&self, input: usize) -> bool {
        self.inputs.get(input).is_none_or(|of| of.ended && of.held.is_empty() && of.losses.is_empty())
    }

    /// Whether the input has ended.
    pub fn is_ended(&self, input: usize) -> bool {
        self.inputs.get(input).is_none_or(|of| of.ended)
    }

    /// Whether an input has nothing queued although it has not ended: what a file is to be read for.
    pub fn is_wanting(&self, input: usize) -> bool {
        self.inputs.get(input).is_some_and(|of| of.held.is_empty() && !of.ended)
    }

    /// How many records of an input are held back.
    pub fn queued(&self, input: usize) -> usize {
        self.inputs.get(input).map_or(0, |of| of.held.len())
    }

    /// How many records are held back.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Counters of each input.
    pub fn stats(&self) -> impl Iterator<Item = Stats> + '_ {
        self.inputs.iter().map(|of| Stats { held: of.held.len() as u64, ..of.stats })
    }

    /// When the record that was held longest has been held long enough.
    pub fn next_due(&self) -> Option<u64> {
        self.inputs.iter().filter_map(|of| Some(of.held.front()?.read_at.saturating_add(self.hold_ns))).min()
    }

    /// Hands out what need not be held back any longer at `now`, in order, as far as there is room in `out`.
    ///
    /// A loss of an input lies before the first record of a release, never inside: the release ends before the next one.
    /// With `goes_on`, this is the rest of a release that was begun, and there is none before its first record either.
    pub fn release(&mut self, now: u64, out: &mut [Aligned], goes_on: bool) -> Released {
        let due = self.due(now);
        let mut released = Released::default();
        while released.count < out.len() && self.take_turn(due, now, out, goes_on, &mut released) {}
        if released == Released::default() && !goes_on {
            released.lost = self.trailing_loss();
        }
        released
    }

    /// Whether [`release`](Self::release) would give anything.
    pub fn is_ready(&self, now: u64) -> bool {
        let turn = self.turn();
        let head = self.inputs.get(turn.input).and_then(|of| of.held.front());
        head.is_some_and(|head| self.why((head.place, turn.input), &turn, self.due(now)).is_some())
            || self.inputs.iter().any(|of| of.ended && of.held.is_empty() && !of.losses.is_empty())
    }

    /// Whose turn it is, and how far.
    fn turn(&self) -> Turn {
        let (mut first, mut second) = (NOWHERE, NOWHERE);
        for (number, of) in self.inputs.iter().enumerate() {
            let Some(head) = of.held.front() else { continue };
            let head = (head.place, number);
            second = second.min(head.max(first));
            first = first.min(head);
        }
        let mut turn = Turn { input: first.1, second, settled: NOWHERE, silent: NOWHERE, farthest: 0 };
        for (number, of) in self.inputs.iter().enumerate().filter(|(number, _)| *number != turn.input) {
            match of.held.front() {
                Some(head) => turn.farthest = turn.farthest.max(head.place),
                None if of.ended => {}
                None => {
                    turn.settled = turn.settled.min((of.frontier, number));
                    if of.has_more {
                        turn.silent = turn.silent.min((of.frontier, number));
                    }
                }
            }
        }
        turn
    }

    /// Why a record of the input whose turn it is may go out, if it may.
    #[inline]
    fn why(&self, place: Place, turn: &Turn, due: Option<Place>) -> Option<Why> {
        if place < turn.settled || place.0 < self.newest {
            Some(Why::Settled)
        } else if Some(place) <= due && place < turn.silent {
            Some(Why::Hold)
        } else if self.held > self.max_held {
            Some(Why::Room)
        } else {
            None
        }
    }

    /// Hands out what one input has before another input's turn comes. Whether there is more to be handed out.
    fn take_turn(
        &mut self,
        due: Option<Place>,
        now: u64,
        out: &mut [Aligned],
        goes_on: bool,
        released: &mut Released,
    ) -> bool {
        let turn = self.turn();
        let input = turn.input;
        while let Some(head) = self.inputs.get(input).and_then(|of| of.held.front()) {
            let place = (head.place, input);
            if place > turn.second {
                return true;
            }
            let Some(why) = self.why(place, &turn, due) else { return false };
            let of = &mut self.inputs[input];
            let Some(head) = of.held.front() else { return false };
            let Some(slot) = out.get_mut(released.count) else { return false };
            if let Some((before, lost)) = of.losses.front().copied()
                && before == of.went
            {
                if released.count > 0 || goes_on {
                    return false;
                }
                of.losses.pop_front();
                released.lost = Some((input, lost));
            }
            let late = if head.key == 0 { 0 } else { self.newest.saturating_sub(head.key) };
            let held_ns = match self.time {
                Time::Local => now.saturating_sub(head.read_at),
                Time::Data => turn.farthest.saturating_sub(head.place).min(self.hold_ns),
            };
            *slot = Aligned {
                ring: head.ring,
                placed: Placed {
                    ts_key: if head.key == 0 { head.place } else { head.key },
                    held_ns,
                    source: input as u8,
                    late: (late > 0).into(),
                    released_by: why as u8,
                    reserved: [0; 5],
                },
            };
            self.newest = self.newest.max(head.place);
            let stats = &mut of.stats;
            stats.records += 1;
            stats.late += u64::from(late > 0);
            stats.late_max_ns = stats.late_max_ns.max(late);
            stats.by_hold += u64::from(matches!(why, Why::Hold));
            stats.by_room += u64::from(matches!(why, Why::Room));
            of.held.pop_front();
            of.went += 1;
            self.held -= 1;
            released.count += 1;
        }
        input != usize::MAX
    }

    /// The last place of what was held long enough.
    fn due(&self, now: u64) -> Option<Place> {
        if self.time == Time::Data {
            return None;
        }
        let last = |(number, of): (usize, &Input)| {
            let count = of.held.partition_point(|held| held.read_at.saturating_add(self.hold_ns) <= now);
            Some((of.held.get(count.checked_sub(1)?)?.place, number))
        };
        self.inputs.iter().enumerate().filter_map(last).max()
    }

    /// A loss behind which nothing came any more.
    fn trailing_loss(&mut self) -> Option<(usize, u64)> {
        let mut ended = self.inputs.iter_mut().enumerate().filter(|(_, of)| of.ended && of.held.is_empty());
        ended.find_map(|(number, of)| of.losses.pop_front().map(|(_, lost)| (number, lost)))
    }
}
