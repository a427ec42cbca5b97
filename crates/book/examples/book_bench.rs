//! Measures the books alone: a made-up day of order flow, replayed from memory.
//!
//! The flow is made before the clock starts: 9,000 instruments with Zipf-distributed activity, ids that rise with gaps,
//! about 45% adds, 45% deletes and cancels, 5% executions, 5% replacements, prices mostly near the top, most orders
//! short-lived, live orders rising to the wanted number and staying there. It is replayed with two-stage look-ahead, as
//! a feed replays a full receive queue, and without, as packets that come one by one. The modes are interleaved.
//!
//! `cargo run --release -p barewire-book --example book_bench -- [--live N] [--instruments N] [--messages N]
//! [--ahead N] [--runs N] [--seed N] [--mode 0..3] [--json 1]`
//!
//! Times are the thread's processor time. For instructions: `valgrind --tool=callgrind
//! --toggle-collect='book_bench::timed'`.

use barewire_book::{Books, Capacity};
use barewire_types::{NoPrefetch, Prefetch, Price, Side};

/// Emits the processor's prefetch instruction.
#[derive(Clone, Copy)]
struct CachePrefetch;

impl Prefetch for CachePrefetch {
    #[inline(always)]
    fn prefetch<T>(self, item: &T) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch cannot fault and changes nothing but the cache; SSE is part of x86_64.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(item).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = item;
    }
}

/// Asks for huge pages for what lies whole inside the region.
fn advise_huge(region: &[u8]) {
    const HUGE: usize = 2 << 20;
    let start = region.as_ptr() as usize;
    let from = start.next_multiple_of(HUGE);
    let to = (start + region.len()) & !(HUGE - 1);
    if from < to {
        // SAFETY: the range lies inside a live allocation, and this advice changes no contents.
        unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_HUGEPAGE) };
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Add,
    Reduce,
    Delete,
    Replace,
}

/// One message: half a cache line, read in order.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Op {
    id: u64,
    /// Price of an add in 1e-9; the new id of a replacement.
    extra: u64,
    size: u32,
    instrument: u32,
    /// Price of a replacement, in ticks of 1e-4.
    price4: u32,
    kind: Kind,
    ask: bool,
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// 0, 1, 2, ... with this mean.
    fn geometric(&mut self, mean: f64) -> u64 {
        ((1.0 - self.unit()).ln() / (mean / (mean + 1.0)).ln()) as u64
    }
}

/// An order as the generator remembers it.
#[derive(Clone, Copy)]
struct Live {
    id: u64,
    size: u32,
    instrument: u32,
    price4: u32,
    ask: bool,
}

struct Flow {
    rng: Rng,
    /// Cumulated Zipf weights.
    weights: Vec<f64>,
    /// Mid prices in ticks of a cent.
    mids: Vec<u32>,
    live: Vec<Live>,
    /// The newest orders, most of which die soon, as indices are not stable: ids with their data.
    young: std::collections::VecDeque<Live>,
    next_id: u64,
}

impl Flow {
    fn new(instruments: u32, seed: u64) -> Flow {
        let mut rng = Rng(seed);
        let mut sum = 0.0;
        let mut order: Vec<u32> = (0..instruments).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        let mut weight = vec![0.0; instruments as usize];
        for (rank, &instrument) in order.iter().enumerate() {
            weight[instrument as usize] = 1.0 / (rank as f64 + 8.0).powf(0.9);
        }
        let weights = weight
            .iter()
            .map(|w| {
                sum += w;
                sum
            })
            .collect();
        let mids = (0..instruments).map(|_| 500 + rng.below(30_000) as u32).collect();
        Flow { rng, weights, mids, live: Vec::new(), young: Default::default(), next_id: 1000 }
    }

    fn instrument(&mut self) -> u32 {
        let at = self.rng.unit() * self.weights.last().copied().unwrap_or(0.0);
        (self.weights.partition_point(|&w| w <= at) as u32).min(self.weights.len() as u32 - 1)
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1 + self.rng.geometric(1.5);
        self.next_id
    }

    /// A price near the top: the further away the rarer, some very far.
    fn price4(&mut self, instrument: u32, ask: bool) -> u32 {
        let mid = &mut self.mids[instrument as usize];
        if self.rng.0 & 0x3F00 == 0 {
            *mid = (*mid + self.rng.below(3) as u32).saturating_sub(1).max(400);
        }
        let mid = *mid;
        let far = match self.rng.below(100) {
            0..70 => self.rng.geometric(2.0),
            70..95 => self.rng.geometric(12.0),
            _ => self.rng.below(300),
        } as u32;
        100 * if ask { mid + 1 + far } else { mid.saturating_sub(far).max(1) }
    }

    fn new_order(&mut self) -> Live {
        let instrument = self.instrument();
        let ask = self.rng.next() & 1 == 1;
        let price4 = self.price4(instrument, ask);
        let size = 100 * (1 + self.rng.geometric(1.5) as u32);
        Live { id: self.id(), size, instrument, price4, ask }
    }

    /// Takes an order that is to change: mostly a young one.
    fn pick(&mut self) -> Option<Live> {
        if self.rng.below(100) < 85 && !self.young.is_empty() {
            let from_end = (self.rng.geometric(3000.0) as usize).min(self.young.len() - 1);
            let at = self.young.len() - 1 - from_end;
            let last = self.young.len() - 1;
            self.young.swap(at, last);
            return self.young.pop_back();
        }
        if self.live.is_empty() {
            return self.young.pop_front();
        }
        let at = self.rng.below(self.live.len() as u64) as usize;
        Some(self.live.swap_remove(at))
    }

    fn keep(&mut self, order: Live) {
        self.young.push_back(order);
        if self.young.len() > 20_000 {
            let old = self.young.pop_front();
            self.live.extend(old);
        }
    }

    fn op(&mut self, grow: bool) -> Op {
        let draw = if grow { self.rng.below(70) } else { self.rng.below(100) };
        if draw >= 45
            && let Some(order) = self.pick()
        {
            let mut op = Op {
                id: order.id,
                extra: 0,
                size: order.size,
                instrument: order.instrument,
                price4: 0,
                kind: Kind::Delete,
                ask: order.ask,
            };
            match self.rng.below(55) {
                0..5 => {
                    let price4 = self.price4(order.instrument, order.ask);
                    let new = Live { id: self.id(), price4, ..order };
                    self.keep(new);
                    return Op { kind: Kind::Replace, extra: new.id, price4, ..op };
                }
                5..10 => {
                    op.kind = Kind::Reduce;
                    if order.size > 100 && self.rng.next() & 1 == 0 {
                        op.size = 100;
                        self.keep(Live { size: order.size - 100, ..order });
                    }
                }
                _ => {}
            }
            return op;
        }
        let order = self.new_order();
        self.keep(order);
        Op {
            id: order.id,
            extra: u64::from(order.price4) * 100_000,
            size: order.size,
            instrument: order.instrument,
            price4: 0,
            kind: Kind::Add,
            ask: order.ask,
        }
    }

    fn len(&self) -> usize {
        self.live.len() + self.young.len()
    }
}

#[inline(always)]
fn side(op: &Op) -> Side {
    if op.ask { Side::Ask } else { Side::Bid }
}

#[inline(always)]
fn apply<P: Prefetch>(books: &mut Books<P>, op: &Op) -> u64 {
    let changed = match op.kind {
        Kind::Add => books.add(op.instrument, op.id, side(op), Price(op.extra as i64), op.size).map(|c| c.top_changed),
        Kind::Reduce => books.reduce(op.id, op.size).map(|c| c.top_changed),
        Kind::Delete => books.delete(op.id).map(|c| c.top_changed),
        Kind::Replace => {
            books.replace(op.id, op.extra, Price(i64::from(op.price4) * 100_000), op.size).map(|c| c.top_changed)
        }
    };
    match changed {
        Ok(true) => {
            let top = books.top(op.instrument);
            top.bid_size ^ top.ask_size ^ top.bid_price.0 as u64
        }
        Ok(false) => 0,
        Err(_) => panic!("the flow is clean"),
    }
}

/// Replays `ops[range]`, with stage 1 two windows ahead and stage 2 one window ahead, as a feed that knows the next
/// packets' messages.
#[inline(always)]
fn replay<P: Prefetch>(books: &mut Books<P>, ops: &[Op], range: std::ops::Range<usize>, ahead: usize) -> u64 {
    let mut sum = 0u64;
    for at in range {
        if ahead != 0 {
            // What kind of message comes cannot be foreseen: looking ahead must not branch on it, or every stage costs
            // a misprediction.
            if let Some(op) = ops.get(at + 2 * ahead) {
                books.prefetch_order(op.id);
                books.prefetch_instrument(op.instrument);
                books.prefetch_level(op.kind == Kind::Add, op.instrument, side(op), Price(op.extra as i64));
                if op.kind == Kind::Replace {
                    books.prefetch_order(op.extra);
                }
            }
            if let Some(op) = ops.get(at + ahead) {
                books.prefetch_levels_of(op.id);
            }
        }
        sum = sum.wrapping_add(apply(books, &ops[at]));
        if at % 64 == 63 {
            books.maintain();
        }
    }
    sum
}

struct Args {
    live: usize,
    instruments: u32,
    messages: usize,
    ahead: usize,
    runs: usize,
    seed: u64,
    json: bool,
    mode: Option<usize>,
}

fn args() -> Args {
    let mut args = Args {
        live: 750_000,
        instruments: 9_000,
        messages: 10_000_000,
        ahead: 8,
        runs: 5,
        seed: 1,
        json: false,
        mode: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value: u64 = given.next().and_then(|value| value.parse().ok()).expect("a number behind every option");
        match name.as_str() {
            "--live" => args.live = value as usize,
            "--instruments" => args.instruments = value as u32,
            "--messages" => args.messages = value as usize,
            "--ahead" => args.ahead = value as usize,
            "--runs" => args.runs = value as usize,
            "--seed" => args.seed = value,
            "--mode" => args.mode = Some(value as usize),
            "--json" => args.json = value != 0,
            other => panic!("unknown option {other}"),
        }
    }
    args
}

/// The way up to the wanted number of live orders. A function of its own, so that profilers can tell it apart.
#[inline(never)]
fn rise<P: Prefetch>(books: &mut Books<P>, ops: &[Op], ahead: usize) {
    replay(books, ops, 0..ops.len(), ahead);
}

/// What is timed.
#[inline(never)]
fn timed<P: Prefetch>(books: &mut Books<P>, ops: &[Op], range: std::ops::Range<usize>, ahead: usize) -> u64 {
    replay(books, ops, range, ahead)
}

/// Messages that are timed together.
const SLICE: usize = 50_000;

/// What one run showed.
struct Run {
    /// Seconds a message, for each slice.
    slices: Vec<f64>,
    /// Of all tops that changed.
    checksum: u64,
    /// Bytes of the tables that are in memory.
    resident: usize,
}

/// Builds up, then times the steady state slice by slice.
fn run<P: Prefetch>(prefetch: P, args: &Args, huge: bool, up: &[Op], ops: &[Op], ahead: usize) -> Run {
    let capacity = Capacity {
        instruments: args.instruments,
        orders: (args.live + args.live / 64) as u32,
        levels: (args.live / 2).max(1000) as u32,
    };
    let mut books = Books::new(capacity, prefetch);
    if huge {
        books.regions().for_each(advise_huge);
    }
    rise(&mut books, up, ahead);
    let resident = books.regions().map(resident).sum();
    let (mut slices, mut checksum) = (Vec::new(), 0u64);
    for from in (0..ops.len()).step_by(SLICE) {
        let to = (from + SLICE).min(ops.len());
        let start = cpu_seconds();
        checksum = checksum.wrapping_add(timed(&mut books, ops, from..to, ahead));
        slices.push((cpu_seconds() - start) / (to - from) as f64);
    }
    assert!(books.counters().iter().all(|(_, count)| count == 0), "{:?}", books.counters());
    Run { slices, checksum, resident }
}

/// Processor time of this thread, which other processes on the core do not add to.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours, and the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// How much of a region is in memory, in bytes.
fn resident(region: &[u8]) -> usize {
    const PAGE: usize = 4096;
    let from = region.as_ptr() as usize & !(PAGE - 1);
    let len = region.as_ptr() as usize + region.len() - from;
    let mut pages = vec![0u8; len.div_ceil(PAGE)];
    // SAFETY: the range lies inside a live allocation but for the ends of its first and last page, which are mapped
    // with it, and there is a byte for each page.
    let failed = unsafe { libc::mincore(from as *mut libc::c_void, len, pages.as_mut_ptr()) };
    assert_eq!(failed, 0, "mincore");
    pages.iter().filter(|&&page| page & 1 != 0).count() * PAGE
}

const MODES: [&str; 4] = ["in order", "in order, huge pages", "look-ahead", "look-ahead, huge pages"];

fn main() {
    // Tables come straight from the system, as in a process that has just begun, and not from what was freed.
    // SAFETY: called before any other thread is there.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20) };
    let args = args();
    let mut flow = Flow::new(args.instruments, args.seed);
    let mut up = Vec::new();
    while flow.len() < args.live {
        up.push(flow.op(true));
    }
    let mut ops = Vec::with_capacity(args.messages);
    while ops.len() < args.messages {
        let grow = flow.len() < args.live;
        ops.push(flow.op(grow));
    }
    let mut runs: [Vec<Run>; 4] = Default::default();
    for _ in 0..args.runs {
        for (mode, runs) in runs.iter_mut().enumerate().filter(|&(mode, _)| args.mode.is_none_or(|only| only == mode)) {
            let huge = mode & 1 == 1;
            runs.push(match mode & 2 {
                0 => run(NoPrefetch, &args, huge, &up, &ops, 0),
                _ => run(CachePrefetch, &args, huge, &up, &ops, args.ahead),
            });
        }
    }
    let mut checksums = runs.iter().flatten().map(|run| run.checksum);
    let checksum = checksums.next().expect("a run");
    assert!(checksums.all(|other| other == checksum), "the runs disagree");
    report(&args, &up, &ops, &runs);
}

fn report(args: &Args, up: &[Op], ops: &[Op], runs: &[Vec<Run>; 4]) {
    let share = |kind| ops.iter().filter(|op| op.kind == kind).count() as f64 / ops.len() as f64 * 100.0;
    let bytes = runs.iter().flatten().next().map_or(0, |run| run.resident) as f64 / args.live as f64;
    let mut json = Vec::new();
    if !args.json {
        println!(
            "{} messages to rise, {} timed: {:.1}% add, {:.1}% delete, {:.1}% reduce, {:.1}% replace",
            up.len(),
            ops.len(),
            share(Kind::Add),
            share(Kind::Delete),
            share(Kind::Reduce),
            share(Kind::Replace)
        );
        println!(
            "{} live orders, {} instruments, look-ahead {} and {}",
            args.live,
            args.instruments,
            2 * args.ahead,
            args.ahead
        );
        println!("{:24} {:>8} {:>8} {:>14}", "M messages a second", "best", "median", "best tenth*");
    }
    for (name, runs) in MODES.iter().zip(runs).filter(|(_, runs)| !runs.is_empty()) {
        let mut rates: Vec<f64> =
            runs.iter().map(|run| 1e-6 * run.slices.len() as f64 / run.slices.iter().sum::<f64>()).collect();
        rates.sort_by(f64::total_cmp);
        let mut slices: Vec<f64> = runs.iter().flat_map(|run| &run.slices).map(|seconds| 1e-6 / seconds).collect();
        slices.sort_by(f64::total_cmp);
        let (best, median) = (rates[rates.len() - 1], rates[rates.len() / 2]);
        let tenth = slices[slices.len() * 9 / 10];
        match args.json {
            true => json.push(format!(
                r#"{{"mode":"{name}","best":{best:.3},"median":{median:.3},"best_tenth_of_slices":{tenth:.3}}}"#
            )),
            false => println!("{name:24} {best:8.2} {median:8.2} {tenth:14.2}"),
        }
    }
    if args.json {
        println!(
            r#"{{"live":{},"instruments":{},"messages":{},"ahead":{},"runs":{},"seed":{},"bytes_per_live_order":{bytes:.1},"clock":"thread processor time","million_messages_per_second":[{}]}}"#,
            args.live,
            args.instruments,
            ops.len(),
            args.ahead,
            args.runs,
            args.seed,
            json.join(",")
        );
    } else {
        println!("{bytes:.1} bytes a live order: pages in memory, in the first mode above");
        println!("* the slowest of the quickest tenth of all slices of {SLICE} messages: what a quiet core does");
    }
}
