//! Which lines are heard: one that is silent for longer than its heartbeats allow is down, until it is heard again.

use barewire_types::UnixNanos;

use crate::{LineStats, MAX_LINES};

/// A line went silent, or is heard again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineChange {
    /// Which line.
    pub line: u8,
    /// Whether it is down from now on.
    pub down: bool,
}

/// One line, as far as its silence goes.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    expected: bool,
    down: bool,
    times_down: u64,
}

/// Watches the lines of a feed.
#[derive(Clone, Debug)]
pub struct LineWatch {
    lines: [Watched; MAX_LINES],
    /// Since when it has been watching: a line never heard is silent since then.
    since: UnixNanos,
    silence_ns: u64,
}

impl LineWatch {
    /// A line is down after so long without a packet, ns; 0 for never. `expected` lines are down when they were never
    /// heard; any other is watched from its first packet on.
    pub fn new(silence_ns: u64, expected: usize) -> LineWatch {
        let mut lines = [Watched::default(); MAX_LINES];
        lines.iter_mut().take(expected).for_each(|line| line.expected = true);
        LineWatch { lines, since: UnixNanos::ABSENT, silence_ns }
    }

    /// Looks at the lines; ask again until there is nothing. `idle` says that the session has ended, so that nothing need
    /// be heard.
    pub fn look(&mut self, now: UnixNanos, heard: &[LineStats; MAX_LINES], idle: bool) -> Option<LineChange> {
        if self.silence_ns == 0 || now == UnixNanos::ABSENT {
            return None;
        }
        if self.since == UnixNanos::ABSENT {
            self.since = now;
        }
        for (number, (line, heard)) in (0..).zip(self.lines.iter_mut().zip(heard)) {
            line.expected |= heard.packets > 0;
            let last = heard.last_heard.max(self.since);
            let silent = line.expected && now.0.saturating_sub(last.0) > self.silence_ns;
            if silent != line.down && (line.down || !idle) {
                line.down = silent;
                line.times_down += u64::from(silent);
                return Some(LineChange { line: number, down: silent });
            }
        }
        None
    }

    /// Whether a line is watched.
    pub fn is_expected(&self, line: usize) -> bool {
        self.lines.get(line).is_some_and(|line| line.expected)
    }

    /// Whether a line is down.
    pub fn is_down(&self, line: usize) -> bool {
        self.lines.get(line).is_some_and(|line| line.down)
    }

    /// How often a line went down.
    pub fn times_down(&self, line: usize) -> u64 {
        self.lines.get(line).map_or(0, |line| line.times_down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_line_is_down_until_it_is_heard() {
        let mut watch = LineWatch::new(100, 2);
        let mut heard = [LineStats::default(); MAX_LINES];
        let hear = |heard: &mut [LineStats; MAX_LINES], line: usize, at| {
            heard[line].packets += 1;
            heard[line].last_heard = UnixNanos(at);
        };
        assert_eq!(watch.look(UnixNanos(1_000), &heard, false), None);
        hear(&mut heard, 0, 1_050);
        hear(&mut heard, 3, 1_050);
        // B was never heard, D is only watched since it was.
        assert_eq!(watch.look(UnixNanos(1_101), &heard, false), Some(LineChange { line: 1, down: true }));
        assert_eq!(watch.look(UnixNanos(1_101), &heard, false), None);
        hear(&mut heard, 1, 1_140);
        assert_eq!(watch.look(UnixNanos(1_150), &heard, false), Some(LineChange { line: 1, down: false }));
        assert_eq!(watch.look(UnixNanos(1_151), &heard, true), None, "after the end nothing need be heard");
        assert_eq!(watch.look(UnixNanos(1_151), &heard, false), Some(LineChange { line: 0, down: true }));
        assert_eq!(watch.look(UnixNanos(1_151), &heard, false), Some(LineChange { line: 3, down: true }));
        assert_eq!((watch.times_down(1), watch.is_down(1), watch.is_down(0)), (1, false, true));
        assert_eq!(LineWatch::new(0, 2).look(UnixNanos(u64::MAX), &heard, false), None);
    }
}
