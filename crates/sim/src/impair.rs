//! A network that loses, repeats, delays and reorders packets: what a feed handler has to live with, from a seed.
//!
//! Bursts are Gilbert and Elliott's two states (E. N. Gilbert, "Capacity of a Burst-Noise Channel", 1960; E. O. Elliott,
//! "Estimates of Error Rates for Codes on Burst-Noise Channels", 1963). What counts as reordered is RFC 4737's "Type-P-
//! Reordered": a packet that arrives behind one of its line that was sent after it.
//!
//! Every packet of a line, heartbeats and ends of sessions included, goes through the same steps:
//!
//! 1. It is lost where it falls into `dead` or `drop`, where `burst` loses it, or where `loss` does. Nothing else happens to it.
//! 2. It takes `delay_ns`, and up to `jitter_ns` on top.
//! 3. `reorder` holds it back until later ones have passed it.
//! 4. `duplicate` sends a copy along, which has a jitter of its own and is not copied again.
//!
//! Each step draws from a stream of its own, on each line, once for every packet whatever became of it before. A seed
//! therefore loses the same packets of a line whatever is set on the others, and whatever else is set on it.

use std::fmt;
use std::ops::Range;

mod line;
mod network;
mod queue;

pub use network::{Arrived, Network};

/// The longest `delay_ns`, and the longest `jitter_ns`.
pub const MAX_DELAY_NS: u64 = 60_000_000_000;

/// The greatest `reorder_by`.
pub const MAX_REORDER_BY: u32 = 10_000;

/// So long after it would have arrived a packet that is held back arrives at the latest, overtaken or not, ns: nothing
/// waits for packets that an idle line will not have for long.
pub const MAX_HOLD_NS: u64 = 10_000_000;

/// What a line does to its packets; by default nothing.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Impairment {
    /// Chance of each packet to be lost, 0 to 1, independent of all others.
    pub loss: f64,
    /// Losses that come in bursts, on top.
    pub burst: Option<LossBurst>,
    /// Chance of each packet that is not lost to arrive twice, 0 to 1. Without jitter the copy is right behind it.
    pub duplicate: f64,
    /// Chance of each packet to be held back, 0 to 1.
    pub reorder: f64,
    /// How many later packets of the line overtake one that is held back: a number from 1 to this, each as likely; at most
    /// [`MAX_REORDER_BY`]. Packets that are lost overtake nobody, and of several that are held back one need not
    /// overtake the other. After [`MAX_HOLD_NS`] it is held no longer.
    pub reorder_by: u32,
    /// How long every packet is under way, ns; at most [`MAX_DELAY_NS`]. Set on one line, it is the lines' skew.
    pub delay_ns: u64,
    /// How much longer, at most, ns: anything from 0 to this, each as likely, independent of all others, so that packets
    /// overtake each other; at most [`MAX_DELAY_NS`].
    pub jitter_ns: u64,
    /// Packets that are lost, counted on this line from 0, in the order in which they are sent.
    pub drop: Vec<Range<u64>>,
    /// When the line is dead, ns since the network's first packet on any line: what is sent then is lost.
    pub dead: Vec<Range<u64>>,
}

/// Losses in bursts: Gilbert and Elliott's model, without losses in the good state.
///
/// The line begins in the good state. At every packet it first changes its state or not, and then loses the packet or
/// not. In the long run it loses `loss * enter / (enter + leave)` of its packets, in bursts of `1 / leave` packets on
/// average where `loss` is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossBurst {
    /// Chance to enter the bad state, at each packet in the good one, 0 to 1.
    pub enter: f64,
    /// Chance to leave the bad state, at each packet in it, 0 to 1.
    pub leave: f64,
    /// Chance to lose a packet in the bad state, 0 to 1.
    pub loss: f64,
}

impl Impairment {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// The first that is out of its range.
    pub fn validate(&self) -> Result<(), ImpairError> {
        let bursts = self.burst.map_or([0.0; 3], |burst| [burst.enter, burst.leave, burst.loss]);
        let is_chance = |chance: &f64| (0.0..=1.0).contains(chance);
        let is_range = |range: &Range<u64>| range.start < range.end;
        let reorder_by = u32::from(self.reorder > 0.0)..=MAX_REORDER_BY;
        [
            (is_chance(&self.loss), ImpairError::Loss),
            (bursts.iter().all(is_chance), ImpairError::Burst),
            (is_chance(&self.duplicate), ImpairError::Duplicate),
            (is_chance(&self.reorder), ImpairError::Reorder),
            (reorder_by.contains(&self.reorder_by), ImpairError::ReorderBy),
            (self.delay_ns <= MAX_DELAY_NS, ImpairError::Delay),
            (self.jitter_ns <= MAX_DELAY_NS, ImpairError::Jitter),
            (self.drop.iter().all(is_range), ImpairError::Drop),
            (self.dead.iter().all(is_range), ImpairError::Dead),
        ]
        .into_iter()
        .find_map(|(is_right, error)| (!is_right).then_some(error))
        .map_or(Ok(()), Err)
    }
}

/// What is wrong with an [`Impairment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImpairError {
    /// `loss` is no chance.
    Loss,
    /// One of `burst`'s values is no chance.
    Burst,
    /// `duplicate` is no chance.
    Duplicate,
    /// `reorder` is no chance.
    Reorder,
    /// `reorder_by` is too great, or 0 where packets are to be reordered.
    ReorderBy,
    /// `delay_ns` is too long.
    Delay,
    /// `jitter_ns` is too long.
    Jitter,
    /// A range in `drop` is empty.
    Drop,
    /// A range in `dead` is empty.
    Dead,
}

impl ImpairError {
    /// The key that is wrong.
    pub const fn name(self) -> &'static str {
        match self {
            ImpairError::Loss => "loss",
            ImpairError::Burst => "burst",
            ImpairError::Duplicate => "duplicate",
            ImpairError::Reorder => "reorder",
            ImpairError::ReorderBy => "reorder_by",
            ImpairError::Delay => "delay_ns",
            ImpairError::Jitter => "jitter_ns",
            ImpairError::Drop => "drop",
            ImpairError::Dead => "dead",
        }
    }
}

impl fmt::Display for ImpairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            ImpairError::Loss | ImpairError::Duplicate | ImpairError::Reorder => f.write_str(" must be 0 to 1"),
            ImpairError::Burst => f.write_str(" must have chances of 0 to 1"),
            ImpairError::ReorderBy => write!(f, " must be 1 to {MAX_REORDER_BY} where packets are reordered"),
            ImpairError::Delay | ImpairError::Jitter => write!(f, " must be 0 to {MAX_DELAY_NS}"),
            ImpairError::Drop | ImpairError::Dead => f.write_str(" must have ranges that end after their beginning"),
        }
    }
}

impl std::error::Error for ImpairError {}

/// What became of a line's packets: `sent + duplicated = lost + arrived`, and what is still under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ImpairCounters {
    /// Packets that were sent.
    pub sent: u64,
    /// Those that will not arrive.
    pub lost: u64,
    /// Copies that were made.
    pub duplicated: u64,
    /// Packets and copies that arrived.
    pub arrived: u64,
    /// Packets, without copies, that arrived behind one that was sent after them.
    pub reordered: u64,
    /// Packets and copies to which `delay_ns` or `jitter_ns` gave a delay.
    pub delayed: u64,
}
