//! Every statistic of a feed, declared once: the table from which the ring's statistics page, Python's `FeedStats`, the
//! command line and the counters page of the documentation come. A counter is never renamed.
//!
//! The counters sum up. Of packets: `packets` = `packets_delivered` + `packets_ahead` + `packets_recovered` +
//! `packets_too_far` + `packets_duplicate` + `packets_heartbeat` + `packets_end_of_session` + `packets_foreign_session` + `packets_malformed` +
//! `packets_refused`. Of messages:
//! `messages` = the sum of every `messages_*` and `book_*` counter below it. [`Counters::check`] holds both.

macro_rules! counters {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $name:literal, )+) => {
        /// One statistic.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $( $(#[doc = $doc])+ $variant, )+ }

        /// Every counter: name and meaning, in the order of the statistics page.
        pub const TABLE: &[(&str, &str)] = &[ $( ($name, concat!($($doc),+).trim_ascii()), )+ ];
        const ALL: &[Counter] = &[ $( Counter::$variant, )+ ];
    };
}

counters! {
    /// UDP datagrams received, or packets read from a file.
    Packets = "packets",
    /// Bytes of UDP payload received.
    Bytes = "bytes",
    /// Packets that brought at least one message not seen before.
    PacketsDelivered = "packets_delivered",
    /// Packets ahead of a missing message: held until it comes or is given up.
    PacketsAhead = "packets_ahead",
    /// Replies of a re-request server that brought at least one missing message.
    PacketsRecovered = "packets_recovered",
    /// Packets further ahead than anything can be held.
    PacketsTooFar = "packets_too_far",
    /// Packets wholly seen before: the other line's copies, mostly.
    PacketsDuplicate = "packets_duplicate",
    /// Heartbeats of an idle line.
    PacketsHeartbeat = "packets_heartbeat",
    /// End-of-session packets; a venue repeats them.
    PacketsEndOfSession = "packets_end_of_session",
    /// Packets of a session that is not the current one.
    PacketsForeignSession = "packets_foreign_session",
    /// Packets that are not the protocol's: too short, sequence numbers past 2^64.
    PacketsMalformed = "packets_malformed",
    /// Frames in a file that are no UDP datagram for this feed: other protocols, fragments, other groups or ports.
    PacketsRefused = "packets_refused",
    /// Packets that held fewer whole messages than they declared, or bytes behind the last (counted above as well).
    PacketsDamaged = "packets_damaged",
    /// Datagrams that the kernel dropped because the receive buffer was full (never seen by the feed).
    KernelDrops = "kernel_drops",
    /// Datagrams longer than the receive buffer, cut by the kernel (never seen by the feed).
    KernelTruncated = "kernel_truncated",
    /// Datagrams from another sender than the line's configured source (never seen by the feed).
    KernelWrongSource = "kernel_wrong_source",
    /// Fragments of datagrams, where frames are received; they are not put together (never seen by the feed).
    KernelFragments = "kernel_fragments",
    /// Frames that are no datagram for the feed, where frames are received: bad headers or checksums (never seen by the feed).
    KernelMalformed = "kernel_malformed",
    /// Frames for others, where all that comes by a device is received: other protocols, groups and ports (never seen by
    /// the feed).
    KernelUnrelated = "kernel_unrelated",
    /// Gaps declared.
    Gaps = "gaps",
    /// Messages declared lost. One that comes after all is a duplicate.
    MessagesMissing = "messages_missing",
    /// Messages that were not delivered because a snapshot took their place; those of them that had come are superseded.
    MessagesReplaced = "messages_replaced",
    /// Messages that a re-request server brought; they are counted by kind as well.
    MessagesRecovered = "messages_recovered",
    /// Messages of snapshots that were loaded; they are counted by kind as well.
    MessagesSnapshot = "messages_snapshot",
    /// Requests for missing messages.
    Requests = "requests",
    /// Requests to which no missing message came in time.
    RequestsUnanswered = "requests_unanswered",
    /// Requests that could not be sent.
    RequestsUnsent = "requests_unsent",
    /// Datagrams to the request socket that did not come from a re-request server (never seen by the feed).
    RepliesWrongSource = "replies_wrong_source",
    /// Snapshots asked for.
    SnapshotsRequested = "snapshots_requested",
    /// Snapshots asked for that did not come, or did not join on to the stream.
    SnapshotsFailed = "snapshots_failed",
    /// Snapshots loaded: each time, every book was right again.
    SnapshotsLoaded = "snapshots_loaded",
    /// 1 while a snapshot is awaited or loaded and nothing is delivered.
    Suspended = "suspended",
    /// How long recovery last took, from when waiting for the other lines was over until everything was there or lost, ns.
    RecoveryLast = "recovery_last_ns",
    /// The longest that recovery took, ns.
    RecoveryLongest = "recovery_longest_ns",
    /// Sessions begun after the first.
    SessionRestarts = "session_restarts",
    /// Messages that were held and then delivered in order; they are counted by kind as well.
    MessagesReordered = "messages_reordered",
    /// Messages now held until what is before them comes; not yet in any other counter.
    MessagesHeld = "messages_held",
    /// 1 once the venue has ended the current session.
    SessionEnded = "session_ended",
    /// Whole messages in packets of the current session, and in snapshots.
    Messages = "messages",
    /// Seen before, given up before they came, or sent by a re-request server though they were not missing.
    MessagesDuplicate = "messages_duplicate",
    /// Held while a snapshot was awaited, which then included them.
    MessagesSuperseded = "messages_superseded",
    /// Ahead of their turn and too long to be held; unless they come again they will be among the missing.
    MessagesTooLong = "messages_too_long",
    /// Changed a book.
    MessagesBook = "messages_book",
    /// Trades and crosses that touch no displayed order.
    MessagesTrade = "messages_trade",
    /// Trading states, system events, broken trades.
    MessagesStatus = "messages_status",
    /// Directory and other reference data, indications.
    MessagesReference = "messages_reference",
    /// Of instruments that were not subscribed.
    MessagesFiltered = "messages_filtered",
    /// Of zero length.
    MessagesEmpty = "messages_empty",
    /// Of a type that the protocol's edition does not have; skipped by its length.
    MessagesUnknownType = "messages_unknown_type",
    /// Of a length that is not its type's.
    MessagesBadLength = "messages_bad_length",
    /// Named an order that is not in the book.
    BookUnknownOrder = "book_unknown_order",
    /// Added an order under a number that lives already.
    BookDuplicateOrder = "book_duplicate_order",
    /// Took more from an order than it had left; the order is gone.
    BookOverReduced = "book_over_reduced",
    /// Had a size of zero, no side, or no price.
    BookInvalid = "book_invalid",
    /// Found no room for the order or its level, or an instrument number beyond the configured ones.
    BookOutOfCapacity = "book_out_of_capacity",
    /// Times the books grew; each is a pause. Configure more capacity where this is not 0.
    BookGrowths = "book_growths",
    /// Orders now in the books.
    LiveOrders = "live_orders",
    /// Instruments named so far.
    Instruments = "instruments",
    /// Records published.
    Records = "records",
    /// Symbols that did not fit into the ring's directory.
    DirectoryOverflow = "directory_overflow",
    /// The next sequence number expected.
    NextSequence = "next_sequence",
    /// When the last packet arrived, ns since 1970.
    LastPacketTime = "last_packet_time",
    /// Packets whose receive time is a capture switch's, taken out of their frames.
    SwitchTimes = "switch_times",
    /// Packets without a switch's time although it was asked for; they have the capture's or the machine's own.
    SwitchTimesMissing = "switch_times_missing",
    /// Packets with something in a switch's time's place that cannot be one; they have the capture's or the machine's own.
    SwitchTimesImplausible = "switch_times_implausible",
    /// Those of `switch_times` of which the switch said that its clock was not good.
    SwitchTimesDegraded = "switch_times_degraded",
    /// Those of `switch_times` that were 4 s late, as an Arista 7280's can be, and were put right.
    SwitchTimesCorrected = "switch_times_corrected",
    /// Packets whose receive time is the network card's own.
    HardwareTimes = "hardware_times",
    /// Packets that a card did not stamp although it stamps its line's; they have the machine's own time.
    HardwareTimesMissing = "hardware_times_missing",
    /// Packets whose stamp of the card was more than a second off; they have the machine's own time.
    HardwareTimesImplausible = "hardware_times_implausible",
    /// Packets whose stamp could not be told as a time of day to within 100 us; they have the machine's own time.
    HardwareTimesUncertain = "hardware_times_uncertain",
    /// Times that a clock was found to have been stepped: the system's, or a card's.
    ClockSteps = "clock_steps",
    /// By which clock packets are stamped: 1 nic, 2 capture, 3 kernel, 4 user; 0 where it is not known.
    ClockSource = "clock_source",
    /// How far that clock may be from the system's, ns either way; 2^64-1 where that is not known.
    ClockBound = "clock_bound_ns",
    /// How far the system's clock may be from UTC, ns either way, as PTP's daemon says where it is watched, or else the
    /// kernel; 2^64-1 where they do not know.
    ClockUtcBound = "clock_utc_bound_ns",
    /// What PTP's daemon makes of the system's clock where it is watched: 1 synchronised, 2 holdover, 3 degraded, 4 lost; else
    /// 0.
    ClockVerdict = "clock_verdict",
    /// Times a line went silent for longer than its heartbeats allow.
    LineFailures = "line_failures",
    /// Calls of the strategy that is compiled into the loop.
    CallbackCalls = "callback_calls",
    /// Those of them that failed: an exception in a compiled Python function.
    CallbackErrors = "callback_errors",
    /// Those of them that took longer than the strategy's `slow_us`; the feed waited.
    CallbackSlow = "callback_slow",
    /// How long all calls took, ns.
    CallbackTime = "callback_ns",
    /// How long the longest call took, ns.
    CallbackLongest = "callback_longest_ns",
    /// Packets received on line A (the first configured).
    LineAPackets = "line_a_packets",
    /// Messages whose first copy came on line A.
    LineAFirstCopies = "line_a_first_copies",
    /// 1 while line A is silent for longer than its heartbeats allow.
    LineADown = "line_a_down",
    /// Half of line A's packets that came second lagged behind the first copy by no more, ns.
    LineALagMedian = "line_a_lag_p50_ns",
    /// 99 of 100 of line A's packets that came second lagged by no more, ns.
    LineALagP99 = "line_a_lag_p99_ns",
    /// Packets received on line B (the second configured).
    LineBPackets = "line_b_packets",
    /// Messages whose first copy came on line B.
    LineBFirstCopies = "line_b_first_copies",
    /// 1 while line B is silent for longer than its heartbeats allow.
    LineBDown = "line_b_down",
    /// Half of line B's packets that came second lagged behind the first copy by no more, ns.
    LineBLagMedian = "line_b_lag_p50_ns",
    /// 99 of 100 of line B's packets that came second lagged by no more, ns.
    LineBLagP99 = "line_b_lag_p99_ns",
}

/// The values. Plain words, owned by the feed thread; others see the copy on the ring's statistics page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters([u64; TABLE.len()]);

impl Default for Counters {
    fn default() -> Self {
        Counters([0; TABLE.len()])
    }
}

impl Counters {
    /// Adds one.
    #[inline(always)]
    pub fn bump(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `n`; wraps after 2^64.
    #[inline(always)]
    pub fn add(&mut self, counter: Counter, n: u64) {
        let value = &mut self.0[counter as usize];
        *value = value.wrapping_add(n);
    }

    /// Sets a counter that is a state rather than a sum.
    #[inline(always)]
    pub fn set(&mut self, counter: Counter, value: u64) {
        self.0[counter as usize] = value;
    }

    /// One value.
    #[inline(always)]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Every value, in the order of [`TABLE`].
    pub fn values(&self) -> &[u64; TABLE.len()] {
        &self.0
    }

    /// Name and value of every counter.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TABLE.iter().zip(&self.0).map(|((name, _), &value)| (*name, value))
    }

    /// Whether every packet and every message is in exactly one counter; else which sum is off and by how much.
    pub fn check(&self) -> Result<(), String> {
        let sum = |from: Counter, to: Counter| -> u64 {
            ALL.iter().filter(|c| (from as usize..=to as usize).contains(&(**c as usize))).map(|c| self.get(*c)).sum()
        };
        let parts = sum(Counter::PacketsDelivered, Counter::PacketsRefused);
        if parts != self.get(Counter::Packets) {
            return Err(format!("packets: {} received, {parts} accounted for", self.get(Counter::Packets)));
        }
        let parts = sum(Counter::MessagesDuplicate, Counter::BookOutOfCapacity);
        if parts != self.get(Counter::Messages) {
            return Err(format!("messages: {} received, {parts} accounted for", self.get(Counter::Messages)));
        }
        Ok(())
    }
}
