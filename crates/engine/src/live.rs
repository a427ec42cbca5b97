//! The feed thread: one pinned thread that receives, sequences, keeps books and publishes, and does nothing else.
//!
//! Everything that may wait happens before the loop (sockets, memory, the ring) or in another thread. What others want to
//! know of the books they ask with [`Live::with`]: a closure that the thread runs between two batches.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Inbox, Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use barewire_book::OutOfMemory;
use barewire_io::affinity::{self, AffinityError};
use barewire_io::capabilities::{self, Capabilities};
use barewire_io::memory::{self, CachePrefetch, HugePages};
use barewire_io::{Clocks, LineConfig, OpenError, Receiver, Waker, clock};
use barewire_line::{Requests, Snapshots};
use barewire_ring::{Producer, Reader, RingConfig, RingError};

use crate::clock::{ClockWatch, Judgement, Verdict};
use crate::counters::{Counter, Counters, TABLE};
use crate::nasdaq::{Nasdaq, Setup};
use crate::native::Native;
use crate::pipeline::{Input, LineSummary, Pipeline, REPLIES, Sequencing};
use crate::receive::{self, ReceivePath, Visitor};
use crate::recovery::{LiveServices, RecoveryConfig, ServicesError};

/// How often the statistics page is brought up to date.
const FLUSH_NS: u64 = 1_000_000;
/// How often the kernel is asked what it dropped: a system call a line.
const REFRESH_FLUSHES: u64 = 100;
/// The longest that a blocking receive waits before it looks up.
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// The same while something is missing, for which there are timers.
const SHORT_WAIT: Duration = Duration::from_micros(500);
/// The same while a snapshot is being loaded, a part of it after each look.
const NO_WAIT: Duration = Duration::ZERO;

/// The books of a live feed.
pub type Books = Nasdaq<CachePrefetch>;
type LivePipeline = Pipeline<Books, Producer>;
type Task = Box<dyn FnOnce(&LivePipeline) + Send>;

/// How a live feed is set up.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// The lines to receive.
    pub lines: Vec<LineConfig>,
    /// Their names, for the report.
    pub line_names: Vec<String>,
    /// How to receive them.
    pub receive: ReceivePath,
    /// The core that the feed thread has for itself.
    pub core: Option<usize>,
    /// Whether the feed thread gives up its capabilities, once everything is open.
    pub drop_capabilities: bool,
    /// How long to wait for what is missing.
    pub sequencing: Sequencing,
    /// Whom to ask for what does not come. [`Sequencing::recovery`] is made from it.
    pub recovery: RecoveryConfig,
    /// The ring to publish into. Its statistics are named here.
    pub ring: RingConfig,
    /// The venue.
    pub setup: Setup,
}

/// Why a feed did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A line could not be opened.
    Open(OpenError),
    /// The ring could not be made.
    Ring(RingError),
    /// The thread could not be pinned.
    Pin(AffinityError),
    /// The thread could not be made.
    Thread(io::Error),
    /// There is no memory for the books.
    Memory(OutOfMemory),
    /// The recovery services could not be had.
    Services(ServicesError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Open(error) => error.fmt(f),
            StartError::Ring(error) => error.fmt(f),
            StartError::Pin(error) => error.fmt(f),
            StartError::Memory(error) => error.fmt(f),
            StartError::Services(error) => write!(f, "recovery: {error}"),
            StartError::Thread(error) => write!(f, "feed thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What the feed's thread is told while it runs.
struct Orders {
    stop: Arc<AtomicBool>,
    judgement: Arc<Judgement>,
    tasks: Inbox<Task>,
}

/// What a feed thread leaves behind. The ring is closed by then.
struct Ended {
    books: Books,
    lines: Vec<LineSummary>,
    result: io::Result<()>,
}

/// A running feed.
pub struct Live {
    stop: Arc<AtomicBool>,
    judgement: Arc<Judgement>,
    tasks: Sender<Task>,
    waker: Waker,
    thread: Option<JoinHandle<Ended>>,
    /// What is left, once the thread has ended.
    books: Option<Books>,
    lines: Vec<LineSummary>,
    reader: Reader,
    report: Vec<String>,
}

impl Live {
    /// Opens everything and starts the thread. When this returns, the lines are joined and the thread is receiving.
    ///
    /// # Errors
    ///
    /// Every [`StartError`]; nothing is left open then.
    pub fn start(config: LiveConfig) -> Result<Live, StartError> {
        Live::start_calling(config, None)
    }

    /// As [`start`](Self::start), with a strategy that the thread calls for every event.
    ///
    /// # Errors
    ///
    /// Every [`StartError`]; nothing is left open then.
    pub fn start_calling(config: LiveConfig, native: Option<Native>) -> Result<Live, StartError> {
        let (path, lines, names) = (config.receive.clone(), config.lines.clone(), config.line_names.clone());
        let waits = path.waits();
        path.open(&lines, &names, Start { config, native, waits }).map_err(StartError::Open)?
    }

    fn start_with<R: Receiver + Send + 'static>(
        mut config: LiveConfig,
        native: Option<Native>,
        mut receiver: R,
        waits: bool,
        mut report: Vec<String>,
    ) -> Result<Live, StartError> {
        receiver.set_timeout(Some(LONGEST_WAIT));
        report.extend(receive::cautions(&config.lines, &config.line_names));
        let mut services = LiveServices::open(&config.recovery, receiver.waker()).map_err(StartError::Services)?;
        if let Some(replies) = services.replies() {
            receiver.watch(replies.fd());
        }
        config.sequencing.lines = config.lines.len();
        config.sequencing.recovery = plan(&config.recovery);
        let intake = Intake { receiver, services, waits };
        config.ring.stat_names = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
        let publisher_id = config.setup.publisher_id;
        let books = Nasdaq::new(config.setup, CachePrefetch).map_err(StartError::Memory)?;
        report.push(advise_huge(&books));
        let producer = Producer::create(&config.ring).map_err(StartError::Ring)?;
        let reader = producer.reader();
        let waker = intake.receiver.waker();
        let mut pipeline = Pipeline::new(books, producer, publisher_id, config.sequencing);
        if let Some(native) = native {
            pipeline.call(native);
        }

        let stop = Arc::new(AtomicBool::new(false));
        let judgement = Arc::new(Judgement::default());
        let (tasks, inbox) = channel();
        let (started, start) = sync_channel(1);
        let orders = Orders { stop: Arc::clone(&stop), judgement: Arc::clone(&judgement), tasks: inbox };
        let (core, drop_capabilities) = (config.core, config.drop_capabilities);
        let thread = std::thread::Builder::new()
            .name("barewire-feed".to_owned())
            .spawn(move || {
                let pinned = core.map_or(Ok(()), affinity::pin);
                let failed = pinned.is_err();
                let dropped = drop_capabilities.then(|| capabilities::drop_of_thread(Capabilities::NONE));
                let mut pipeline = pipeline;
                let clocks = begin(&mut pipeline, &intake, &orders.judgement);
                // The starter waits for this; it cannot have gone.
                let _ = started.send(pinned.map(|()| dropped));
                let result = if failed { Ok(()) } else { run(&mut pipeline, intake, clocks, &orders) };
                let lines = pipeline.lines();
                Ended { books: pipeline.into_venue(), lines, result }
            })
            .map_err(StartError::Thread)?;
        let mut live = Live {
            stop,
            judgement,
            tasks,
            waker,
            thread: Some(thread),
            books: None,
            lines: Vec::new(),
            reader,
            report,
        };
        match start.recv() {
            Ok(Ok(dropped)) => {
                live.report.push(match core {
                    Some(core) => format!("feed thread: pinned to core {core}"),
                    None => "feed thread: not pinned".to_owned(),
                });
                live.report.push(match dropped {
                    Some(Ok(())) => "feed thread: holds no capability".to_owned(),
                    Some(Err(error)) => {
                        format!("feed thread: keeps its capabilities, which cannot be dropped: {error}")
                    }
                    None => "feed thread: keeps its capabilities, as configured".to_owned(),
                });
                Ok(live)
            }
            Ok(Err(error)) => {
                let _ = live.stop();
                Err(StartError::Pin(error))
            }
            Err(_) => Err(StartError::Thread(io::Error::other("it ended before it began"))),
        }
    }

    /// Says how the system's clock is, and how far it may be off, ns either way (`None`: not known), for every record from
    /// some tenth of a second on.
    pub fn judge_clock(&self, verdict: Verdict, bound_ns: Option<u64>) {
        self.judgement.say(verdict, bound_ns);
    }

    /// What was asked for and what was got, one line each.
    pub fn report(&self) -> &[String] {
        &self.report
    }

    /// Whether the thread is receiving.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// A new reader of the feed's ring, at the oldest record that it still holds.
    pub fn reader(&self) -> Reader {
        let mut reader = self.reader.clone();
        reader.seek_oldest();
        reader
    }

    /// The counters as of the last millisecond; they stay readable when the feed has stopped.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let page = self.reader.stats();
        TABLE.iter().zip(page).map(|((name, _), value)| (*name, value))
    }

    /// Runs a closure over the books, in the feed thread between two batches (it costs the feed what it takes), or here when
    /// the feed has stopped. `None` if the thread died before it could answer.
    pub fn with<R: Send + 'static>(&mut self, ask: impl FnOnce(&Books) -> R + Send + 'static) -> Option<R> {
        if let Some(books) = &self.books {
            return Some(ask(books));
        }
        self.ask(|pipeline| ask(pipeline.venue()))
    }

    /// What came on each line: as [`with`](Self::with), answered between two batches.
    pub fn lines(&mut self) -> Option<Vec<LineSummary>> {
        if self.books.is_some() {
            return Some(self.lines.clone());
        }
        self.ask(LivePipeline::lines)
    }

    fn ask<R: Send + 'static>(&mut self, ask: impl FnOnce(&LivePipeline) -> R + Send + 'static) -> Option<R> {
        let (answer, answered) = sync_channel(1);
        let task: Task = Box::new(move |pipeline| {
            // The asker waits for this; it cannot have gone.
            let _ = answer.send(ask(pipeline));
        });
        self.tasks.send(task).ok()?;
        self.waker.wake();
        answered.recv().ok()
    }

    /// Stops the thread, closes the ring and leaves the lines. Does nothing the second time.
    ///
    /// # Errors
    ///
    /// What the thread had died of, if it had.
    pub fn stop(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        match thread.join() {
            Ok(Ended { books, lines, result }) => {
                self.books = Some(books);
                self.lines = lines;
                result
            }
            Err(_) => Err(io::Error::other("feed thread: panicked; please report this")),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // What it died of was for `stop` to say.
        let _ = self.stop();
    }
}

/// Starts a feed on the receive path that was opened for it.
struct Start {
    config: LiveConfig,
    native: Option<Native>,
    waits: bool,
}

impl Visitor for Start {
    type Output = Result<Live, StartError>;

    fn visit<R: Receiver + Send + 'static>(self, receiver: R, report: Vec<String>) -> Self::Output {
        Live::start_with(self.config, self.native, receiver, self.waits, report)
    }
}

/// Where a feed's packets come from: lines, and servers when asked.
struct Intake<R> {
    receiver: R,
    services: LiveServices,
    /// Whether the receiver sleeps when there is nothing.
    waits: bool,
}

/// When to ask whom.
fn plan(config: &RecoveryConfig) -> barewire_line::RecoveryConfig {
    let servers = |servers: usize| u8::try_from(servers).unwrap_or(u8::MAX);
    barewire_line::RecoveryConfig {
        requests: config.rerequest.as_ref().map(|config| Requests {
            servers: servers(config.servers.len()),
            max_messages: config.max_messages,
            per_second: config.per_second,
            timeout_ns: config.timeout_ns,
            attempts: config.attempts,
            give_up_ns: config.give_up_ns,
            max_gap: config.max_gap,
        }),
        snapshots: config.snapshot.as_ref().map(|config| Snapshots {
            servers: servers(config.servers.len()),
            attempts: config.attempts,
            retry_ns: config.retry_ns,
        }),
    }
}

/// Before the first packet: what is known of the clocks is told, so that nobody finds nothing.
fn begin<R: Receiver>(pipeline: &mut LivePipeline, intake: &Intake<R>, judgement: &Judgement) -> ClockWatch {
    let mut clocks = ClockWatch::new(intake.receiver.clocks().source);
    look_at_clocks(pipeline, &mut clocks, intake.receiver.clocks(), judgement);
    flush(pipeline, intake);
    clocks
}

/// The loop. Makes no system call besides the receiver's, allocates nothing, and waits only where the receiver does.
fn run<R: Receiver>(
    pipeline: &mut LivePipeline,
    mut intake: Intake<R>,
    clocks: ClockWatch,
    orders: &Orders,
) -> io::Result<()> {
    let result = receive(pipeline, &mut intake, clocks, orders);
    // What the kernel dropped since it was last asked; where it cannot say any more, that is what `result` is about.
    let _ = intake.receiver.refresh();
    pipeline.flush(clock::now());
    pipeline.sum_up_lags();
    flush(pipeline, &intake);
    // Nobody who asked is left without an answer.
    while let Ok(task) = orders.tasks.try_recv() {
        task(pipeline);
    }
    result
}

fn receive<R: Receiver>(
    pipeline: &mut LivePipeline,
    intake: &mut Intake<R>,
    mut clocks: ClockWatch,
    orders: &Orders,
) -> io::Result<()> {
    let Orders { stop, judgement, tasks } = orders;
    let (mut next_flush, mut flushes) = (0, 0u64);
    let mut is_bad = false;
    let mut waits = LONGEST_WAIT;
    while !stop.load(Ordering::Relaxed) {
        let received = intake.receiver.receive(&mut |packet| {
            clocks.saw(packet.ts_source);
            pipeline.packet(&Input {
                line: packet.line,
                payload: packet.payload,
                ts_recv: packet.ts_recv,
                ts_source: packet.ts_source,
                seen: packet.seen,
                degraded: packet.degraded | is_bad,
            });
        })?;
        // A late reply that nobody reads would end every wait.
        if pipeline.is_asking() || intake.waits && received == 0 {
            hear_replies(pipeline, &mut intake.services);
        }
        let is_waiting = pipeline.is_waiting();
        if is_waiting {
            pipeline.recover(clock::now(), received == 0, &mut intake.services);
        }
        let wait = match is_waiting {
            false => LONGEST_WAIT,
            true if pipeline.is_loading() => NO_WAIT,
            true => SHORT_WAIT,
        };
        if wait != waits {
            waits = wait;
            intake.receiver.set_timeout(Some(wait));
        }
        let now = clock::monotonic();
        if now >= next_flush {
            next_flush = now + FLUSH_NS;
            flushes += 1;
            if flushes.is_multiple_of(REFRESH_FLUSHES) {
                intake.receiver.refresh()?;
                is_bad = look_at_clocks(pipeline, &mut clocks, intake.receiver.clocks(), judgement);
                pipeline.sum_up_lags();
            }
            pipeline.look_at_lines(clock::now());
            flush(pipeline, intake);
        }
        if let Ok(task) = tasks.try_recv() {
            task(pipeline);
        }
    }
    Ok(())
}

/// Tells how far receive times may be off, where that has changed. Returns whether records are to say that they are bad.
fn look_at_clocks(pipeline: &mut LivePipeline, watch: &mut ClockWatch, clocks: Clocks, judgement: &Judgement) -> bool {
    watch.ask(clock::monotonic());
    let (state, tell) = watch.look(clocks, judgement);
    pipeline.clock(&state, tell, clock::now());
    state.verdict.is_bad()
}

/// Works off what re-request servers have sent. Where there are none, no system call.
fn hear_replies(pipeline: &mut LivePipeline, services: &mut LiveServices) {
    let Some(replies) = services.replies() else { return };
    // A socket that fails brings no replies: whoever asked will see that, and ask elsewhere.
    let _ = replies.receive(&mut |packet| {
        pipeline.reply(&Input {
            line: REPLIES,
            payload: packet.payload,
            ts_recv: packet.ts_recv,
            ts_source: packet.ts_source,
            seen: packet.seen,
            degraded: packet.degraded,
        });
    });
}

/// Copies the counters to the ring's statistics page, where others read them without touching this thread.
fn flush<R: Receiver>(pipeline: &mut LivePipeline, intake: &Intake<R>) {
    let received = intake.receiver.counters();
    let counters: &mut Counters = pipeline.counters();
    counters.set(Counter::KernelDrops, received.kernel_drops);
    counters.set(Counter::KernelTruncated, received.truncated);
    counters.set(Counter::KernelWrongSource, received.wrong_source);
    counters.set(Counter::KernelFragments, received.fragments);
    counters.set(Counter::KernelMalformed, received.malformed);
    counters.set(Counter::KernelUnrelated, received.not_udp + received.other_destination);
    counters.set(Counter::SwitchTimes, received.switch_times);
    counters.set(Counter::SwitchTimesMissing, received.switch_times_missing);
    counters.set(Counter::SwitchTimesImplausible, received.switch_times_implausible);
    counters.set(Counter::SwitchTimesDegraded, received.switch_times_degraded);
    counters.set(Counter::HardwareTimes, received.hardware_times);
    counters.set(Counter::HardwareTimesMissing, received.hardware_times_missing);
    counters.set(Counter::HardwareTimesImplausible, received.hardware_times_implausible);
    counters.set(Counter::HardwareTimesUncertain, received.hardware_times_uncertain);
    counters.set(Counter::ClockSteps, received.clock_steps);
    let asked = intake.services.counters();
    counters.set(Counter::RequestsUnsent, asked.send_errors);
    counters.set(Counter::RepliesWrongSource, asked.wrong_source);
    let values = *counters.values();
    let producer = pipeline.sink_mut();
    for (index, value) in values.into_iter().enumerate() {
        producer.set_stat(index, value);
    }
    producer.heartbeat(clock::now());
}

/// Asks for huge pages behind the books' tables, before they are first touched.
pub fn advise_huge(books: &Books) -> String {
    let (mut advised, mut total) = (0, 0);
    for region in books.books().regions() {
        total += region.len();
        if let Ok(HugePages::Advised(bytes)) = memory::advise_huge(region) {
            advised += bytes;
        }
    }
    format!("books: {} MiB, huge pages asked for under {} MiB", total >> 20, advised >> 20)
}
