//! A file through the same pipeline, in the caller's thread: nothing is lost to a slow reader, for the caller is the reader.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use barewire_io::capture::{Capture, CaptureError, End, Format, Frame, LinkType, Progress, SwitchClock, SwitchTimes};
use barewire_io::memory::CachePrefetch;
use barewire_line::MAX_LINES;
use barewire_ring::RingRecord;
use barewire_types::{TsSource, UnixNanos};
use barewire_wire::itch50::Prefix;
use barewire_wire::trailers::StampError;

mod network;

use crate::counters::{Counter, Counters};
use crate::digest::EventsDigest;
use crate::live::{Books, advise_huge};
use crate::nasdaq::{Nasdaq, Setup};
use crate::native::Native;
use crate::pipeline::{Input, LineSummary, Pipeline, Sequencing};
use crate::recovery::NoServices;
use crate::sink::Memory;
pub use network::Network;
use network::Way;

/// Messages of a BinaryFILE that are worked off together, so that there is something to look ahead to.
const BATCH: usize = 256;

/// How a replay is set up.
#[derive(Clone, Debug)]
pub struct ReplayConfig {
    /// The venue.
    pub setup: Setup,
    /// How long to wait for what is missing, by the capture's times.
    pub sequencing: Sequencing,
    /// How much faster than it happened; `None` as fast as possible.
    pub pace: Option<f64>,
    /// Only datagrams to this group or address.
    pub group: Option<Ipv4Addr>,
    /// Only datagrams to this port.
    pub port: Option<u16>,
    /// Whose receive times to take out of the frames; `None` for the capture's own.
    pub switch_times: Option<SwitchTimes>,
}

/// How far a call to [`Replay::read`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Records written.
    pub records: usize,
    /// Whether the file has no more messages and every record was read.
    pub at_end: bool,
}

/// A frame or message read ahead: the first one for its time, every one where the replay is paced.
struct Ahead {
    ts: UnixNanos,
    link: LinkType,
    original_len: u32,
    data: Vec<u8>,
    due: Option<Instant>,
}

impl Ahead {
    fn frame(frame: &Frame<'_>) -> Ahead {
        Ahead { ts: frame.ts, link: frame.link, original_len: frame.original_len, data: frame.data.to_vec(), due: None }
    }

    fn as_frame(&self) -> Frame<'_> {
        Frame { ts: self.ts, link: self.link, data: &self.data, original_len: self.original_len }
    }

    fn message(message: &[u8]) -> Ahead {
        // A message alone has no time of arrival; the venue's own paces it.
        let ts = Prefix::of(message).map_or(UnixNanos::ABSENT, |prefix| UnixNanos(prefix.timestamp_ns()));
        Ahead { ts, link: LinkType::Other(0), original_len: 0, data: message.to_vec(), due: None }
    }
}

/// A file being replayed.
pub struct Replay {
    capture: Capture,
    pipeline: Pipeline<Books, Memory>,
    ahead: Option<Ahead>,
    /// Records of the sink that were read already.
    taken: usize,
    /// Records read in all.
    sequence: u64,
    first_packet_time: UnixNanos,
    lines: Vec<SocketAddrV4>,
    /// What lies between the capture and the feed, where that is not nothing.
    way: Option<Way>,
    /// Of the records that were read, where it was asked for.
    digest: Option<EventsDigest>,
    pacer: Option<Pacer>,
    switch: Option<SwitchClock>,
    config: ReplayConfig,
    at_end: bool,
    /// Why reading cannot go on; told when everything before it was handed out.
    failed: Option<CaptureError>,
}

impl Replay {
    /// Makes a replay of a capture; reads ahead as far as its first frame.
    ///
    /// # Errors
    ///
    /// What the operating system says of that read; [`OutOfMemory`](io::ErrorKind::OutOfMemory) where there is none for the
    /// books.
    pub fn new(mut capture: Capture, config: ReplayConfig) -> Result<Replay, CaptureError> {
        let ahead = match capture.format() {
            Format::BinaryFile => None,
            _ => capture.next_frame()?.as_ref().map(Ahead::frame),
        };
        capture.stop_waiting();
        let switch = config.switch_times.map(SwitchClock::new);
        let first_packet_time = ahead.as_ref().map_or(UnixNanos::ABSENT, |ahead| {
            // A clock of its own: this is to leave no trace.
            let time = switch.clone().and_then(|mut switch| switch.time(&ahead.as_frame()).ok());
            time.map_or(ahead.ts, |time| time.ts)
        });
        let publisher_id = config.setup.publisher_id;
        let no_memory =
            |error| CaptureError::Read { offset: 0, error: io::Error::new(io::ErrorKind::OutOfMemory, error) };
        let books = Nasdaq::new(config.setup.clone(), CachePrefetch).map_err(no_memory)?;
        advise_huge(&books);
        Ok(Replay {
            capture,
            pipeline: Pipeline::new(books, Memory::default(), publisher_id, config.sequencing),
            ahead,
            first_packet_time,
            taken: 0,
            sequence: 0,
            lines: Vec::new(),
            way: None,
            digest: None,
            pacer: config.pace.map(Pacer::new),
            switch,
            config,
            at_end: false,
            failed: None,
        })
    }

    /// When the first frame was captured, by the clock that receive times are taken from; [`UnixNanos::ABSENT`] where the
    /// file does not say.
    pub fn first_packet_time(&self) -> UnixNanos {
        self.first_packet_time
    }

    /// Sets the trading day's midnight; before the first [`read`](Self::read).
    pub fn set_midnight(&mut self, midnight_ns: u64) {
        self.pipeline.venue_mut().set_midnight(midnight_ns);
    }

    /// Sends what the capture holds over a network, which may lose, repeat and delay it; before the first
    /// [`read`](Self::read). A capture says of every packet on which line it came; `copies` of 2 or more sends each on so
    /// many lines instead. Messages without packets or numbers are packed and numbered from 1.
    pub fn send_over(&mut self, network: Box<dyn Network + Send>, copies: u8) {
        self.way = Some(Way::new(network, copies));
    }

    /// Calls a strategy for every event, as a live feed would; before the first [`read`](Self::read).
    pub fn call(&mut self, native: Native) {
        self.pipeline.call(native);
    }

    /// From here on, records that are read are digested.
    pub fn digest_events(&mut self) {
        self.digest = Some(EventsDigest::default());
    }

    /// The digest of the records read so far, where that was asked for.
    pub fn events_digest(&self) -> Option<u128> {
        self.digest.map(|digest| digest.value())
    }

    /// What came on each line that was heard.
    pub fn lines(&self) -> Vec<LineSummary> {
        self.pipeline.lines()
    }

    /// Writes records into `out` until it is full, the file is at its end or has nothing yet, `until` has passed or
    /// `max_messages` are worked off. In a capture with packets, a packet's messages are worked off together.
    ///
    /// # Errors
    ///
    /// What the operating system says when it cannot read on; once, after all that was read before it was handed out.
    pub fn read(
        &mut self,
        out: &mut [RingRecord],
        max_messages: Option<u64>,
        until: Instant,
    ) -> Result<Step, CaptureError> {
        if let (Some(pacer), Some(first)) = (&mut self.pacer, &mut self.ahead)
            && first.due.is_none()
        {
            // Read ahead when the file was opened: the time begins now.
            first.due = pacer.due(first.ts);
        }
        let last_message = max_messages.map(|max| self.messages().saturating_add(max));
        let mut written = 0;
        let mut passes = 0u32;
        loop {
            let waiting = &self.pipeline.sink_mut().records[self.taken..];
            let count = waiting.len().min(out.len() - written);
            for (slot, record) in out[written..].iter_mut().zip(&waiting[..count]) {
                *slot = RingRecord { ring_sequence: self.sequence, record: *record };
                if let Some(digest) = &mut self.digest {
                    digest.take(record);
                }
                self.sequence += 1;
            }
            written += count;
            self.taken += count;
            if count < waiting.len() || written == out.len() {
                break;
            }
            self.pipeline.sink_mut().records.clear();
            self.taken = 0;
            let room = last_message.map_or(BATCH as u64, |last| last.saturating_sub(self.messages()));
            // Looking at the clock costs as much as a message: every so often is enough where nobody paces.
            passes += 1;
            let out_of_time = (self.pacer.is_some() || passes.is_multiple_of(64)) && Instant::now() >= until;
            if written == 0
                && let Some(error) = self.failed.take()
            {
                return Err(error);
            }
            if self.at_end || self.failed.is_some() || room == 0 || out_of_time {
                break;
            }
            if !self.is_due(until) {
                break;
            }
            match self.advance(room.min(BATCH as u64) as usize) {
                Ok(()) => {}
                Err(error) if error.is_nothing_yet() => break,
                Err(error) => self.failed = Some(error),
            }
            if self.at_end || self.failed.is_some() {
                if let Some(way) = &mut self.way {
                    way.drain(&mut self.pipeline);
                }
                let last = UnixNanos(self.pipeline.counters().get(Counter::LastPacketTime));
                self.pipeline.flush(last);
            }
            if self.at_end {
                self.pipeline.end_calls();
            }
        }
        let drained = self.taken == self.pipeline.sink_mut().records.len();
        Ok(Step { records: written, at_end: self.at_end && drained })
    }

    /// Works off what was read ahead, else the next frame, else up to `most` messages; where the replay is paced, only reads
    /// ahead.
    fn advance(&mut self, most: usize) -> Result<(), CaptureError> {
        let has_messages = self.capture.format() == Format::BinaryFile;
        if let Some(ahead) = self.ahead.take() {
            let data = &ahead.data;
            if has_messages {
                let number = self.messages() + 1;
                match &mut self.way {
                    Some(way) => {
                        way.messages(&mut self.pipeline, std::iter::once(&data[..]), self.config.setup.midnight_ns)
                    }
                    None => self.pipeline.unframed(std::iter::once(&data[..]), number),
                }
            } else {
                let frame = &ahead.as_frame();
                frame_into(&mut self.pipeline, &mut self.lines, &mut self.way, &mut self.switch, &self.config, frame);
            }
        } else if let Some(pacer) = &mut self.pacer {
            self.ahead = if has_messages {
                self.capture.next_messages()?.and_then(|mut messages| messages.next().map(Ahead::message))
            } else {
                self.capture.next_frame()?.as_ref().map(Ahead::frame)
            };
            match &mut self.ahead {
                Some(ahead) => ahead.due = pacer.due(ahead.ts),
                None => self.at_end = true,
            }
        } else if has_messages {
            let Some(mut messages) = self.capture.next_messages()? else {
                self.at_end = true;
                return Ok(());
            };
            let mut batch = [&[][..]; BATCH];
            let mut count = 0;
            for (slot, message) in batch.iter_mut().take(most).zip(messages.by_ref()) {
                *slot = message;
                count += 1;
            }
            let number = self.pipeline.message_count() + 1;
            let batch = batch[..count].iter().copied();
            match &mut self.way {
                Some(way) => way.messages(&mut self.pipeline, batch, self.config.setup.midnight_ns),
                None => self.pipeline.unframed(batch, number),
            }
        } else {
            match self.capture.next_frame()? {
                Some(frame) => {
                    frame_into(
                        &mut self.pipeline,
                        &mut self.lines,
                        &mut self.way,
                        &mut self.switch,
                        &self.config,
                        &frame,
                    );
                }
                None => self.at_end = true,
            }
        }
        Ok(())
    }

    /// Sleeps until what was read ahead is due, or `until`; whether it is due.
    fn is_due(&self, until: Instant) -> bool {
        let Some(due) = self.ahead.as_ref().and_then(|ahead| ahead.due) else { return true };
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due.min(until).saturating_duration_since(now));
        }
        due <= until
    }

    /// How far reading has come.
    pub fn progress(&self) -> Progress {
        self.capture.progress()
    }

    /// The capture: its format, compression and counters.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Messages worked off so far, those that were held until the end too.
    pub fn messages(&self) -> u64 {
        self.pipeline.message_count()
    }

    /// The books.
    pub fn books(&self) -> &Books {
        self.pipeline.venue()
    }

    /// The counters.
    pub fn counters(&mut self) -> &Counters {
        self.pipeline.sum_up_lags();
        self.pipeline.counters()
    }

    /// What the user should know of how it went, a line each: a file that is cut, packets that were none of the protocol's.
    pub fn warnings(&mut self) -> Vec<String> {
        let mut warnings = end_warnings(&self.capture);
        let counters = self.pipeline.counters();
        for (counter, what) in [
            (Counter::PacketsMalformed, "packets are not MoldUDP64"),
            (Counter::PacketsDamaged, "packets hold fewer messages than they declare, or stray bytes"),
            (Counter::PacketsForeignSession, "packets belong to another session"),
            (Counter::MessagesUnknownType, "messages have an unknown type"),
            (Counter::MessagesBadLength, "messages have a length that is not their type's"),
        ] {
            let count = counters.get(counter);
            if count > 0 {
                warnings.push(format!("{count} {what}"));
            }
        }
        warnings.extend(self.switch_warnings());
        warnings
    }

    /// Where receive times are not what was asked for.
    fn switch_warnings(&mut self) -> Vec<String> {
        let Some(switch) = &self.switch else { return Vec::new() };
        let (name, is_sure) = match switch.times() {
            SwitchTimes::Of(kind) => (kind.name(), true),
            SwitchTimes::Auto => ("switch's", false),
        };
        if is_sure && self.capture.format() == Format::BinaryFile {
            return vec![format!("a BinaryFILE has no packets, and so no {name} times")];
        }
        let counters = self.pipeline.counters();
        let [found, missing, implausible, degraded, corrected] = [
            Counter::SwitchTimes,
            Counter::SwitchTimesMissing,
            Counter::SwitchTimesImplausible,
            Counter::SwitchTimesDegraded,
            Counter::SwitchTimesCorrected,
        ]
        .map(|counter| counters.get(counter));
        let all = found + missing + implausible;
        // To have looked for any and found none is an answer.
        let missing = if is_sure || found > 0 { missing } else { 0 };
        [
            (missing, format!("no {name} time; theirs is the capture's own")),
            (implausible, format!("no plausible {name} time; theirs is the capture's own")),
            (degraded, format!("a {name} time of a clock that, as the switch says, was not good")),
            (corrected, format!("a {name} time that was 4 s late and was put right")),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} of {all} packets have {what}"))
        .collect()
    }
}

/// What the user should know of how a capture ended, a line each.
pub(crate) fn end_warnings(capture: &Capture) -> Vec<String> {
    let mut warnings = Vec::new();
    let end = capture.end();
    if !matches!(end, End::Complete | End::NotYet) {
        warnings.push(format!("{end}; what is whole was used"));
    }
    let cut = capture.counters().truncated_frames;
    if cut > 0 {
        warnings.push(format!("{cut} frames were cut short when they were captured (snaplen); what is whole was used"));
    }
    warnings
}

/// Hands a frame to the pipeline if it is a datagram for this feed.
fn frame_into(
    pipeline: &mut Pipeline<Books, Memory>,
    lines: &mut Vec<SocketAddrV4>,
    way: &mut Option<Way>,
    switch: &mut Option<SwitchClock>,
    config: &ReplayConfig,
    frame: &Frame<'_>,
) {
    let wanted = frame.datagram().ok().filter(|datagram| {
        config.group.is_none_or(|group| group == *datagram.dst.ip())
            && config.port.is_none_or(|port| port == datagram.dst.port())
    });
    let Some(datagram) = wanted else {
        pipeline.refuse();
        return;
    };
    // A capture does not say which line a packet came by: each destination is one, in the order they appear.
    let line = lines.iter().position(|known| *known == datagram.dst).unwrap_or_else(|| {
        if lines.len() < MAX_LINES {
            lines.push(datagram.dst);
        }
        lines.len() - 1
    });
    let (ts_recv, degraded) = match switch {
        Some(switch) => switch_time(switch, frame, pipeline.counters()),
        None => (frame.ts, false),
    };
    if let Some(way) = way {
        way.packet(pipeline, line as u8, ts_recv, datagram.payload);
        return;
    }
    let ts_source = if ts_recv == UnixNanos::ABSENT { TsSource::None } else { TsSource::Capture };
    pipeline.compare_lines();
    // The order in which the capturing machine saw things, whatever the switch's clock says.
    let seen = if frame.ts == UnixNanos::ABSENT { ts_recv } else { frame.ts };
    pipeline.packet(&Input { line: line as u8, payload: datagram.payload, ts_recv, ts_source, seen, degraded });
    if pipeline.is_waiting() {
        pipeline.recover_by_lines(seen, &mut NoServices);
    }
}

/// The switch's time in a frame, counted; the capture's own where it has none to believe. And whether it is worse than
/// those before.
fn switch_time(switch: &mut SwitchClock, frame: &Frame<'_>, counters: &mut Counters) -> (UnixNanos, bool) {
    match switch.time(frame) {
        Ok(time) => {
            counters.bump(Counter::SwitchTimes);
            counters.add(Counter::SwitchTimesDegraded, time.degraded.into());
            counters.add(Counter::SwitchTimesCorrected, time.corrected.into());
            (time.ts, time.degraded)
        }
        Err(error) => {
            counters.bump(match error {
                StampError::Missing => Counter::SwitchTimesMissing,
                _ => Counter::SwitchTimesImplausible,
            });
            (frame.ts, counters.get(Counter::SwitchTimes) > 0)
        }
    }
}

/// Holds a replay back to the speed at which it happened.
struct Pacer {
    speed: f64,
    /// The first event's time and when it was replayed.
    origin: Option<(UnixNanos, Instant)>,
}

impl Pacer {
    fn new(speed: f64) -> Pacer {
        Pacer { speed, origin: None }
    }

    /// When an event is due; `None` for at once, as where it has no time.
    fn due(&mut self, at: UnixNanos) -> Option<Instant> {
        if at == UnixNanos::ABSENT {
            return None;
        }
        let (first, began) = *self.origin.get_or_insert_with(|| (at, Instant::now()));
        let elapsed = Duration::from_nanos(at.0.saturating_sub(first.0)).as_secs_f64() / self.speed;
        began.checked_add(Duration::try_from_secs_f64(elapsed).ok()?)
    }
}
