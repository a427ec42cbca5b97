//! What a network does to packets, against what each impairment promises.

use std::sync::{Arc, Mutex};

use barewire_sim::{
    ImpairCounters, ImpairError, ImpairedSink, Impairment, Line, LossBurst, MAX_DELAY_NS, MAX_HOLD_NS, MAX_REORDER_BY,
    Network, PacketMemory, SimPacket, Sink, SinkError,
};
use barewire_types::UnixNanos;
use proptest::prelude::*;

/// A packet that arrived: line, time, and its number on the line.
type Arrival = (u8, u64, u64);

const ALL: UnixNanos = UnixNanos(u64::MAX);

/// A packet's bytes; their number is any length up to 200.
fn payload(line: u8, number: u64) -> Vec<u8> {
    let mut bytes = [&[line][..], &number.to_be_bytes()].concat();
    bytes.resize(9 + (number * 37 % 192) as usize, number as u8);
    bytes
}

/// The number of a packet whose bytes are as they were sent.
fn number(line: u8, bytes: &[u8]) -> u64 {
    let number = u64::from_be_bytes(bytes[1..9].try_into().unwrap());
    assert!(bytes == payload(line, number), "line {line}: {bytes:?}");
    number
}

/// What arrives of packets that are sent on these lines at these times.
fn through(network: &mut Network, sent: &[(u8, u64)]) -> Vec<Arrival> {
    let (mut numbers, mut arrivals) = ([0; 256], Vec::new());
    for &(line, at) in sent {
        let next = &mut numbers[usize::from(line)];
        network.send(line, UnixNanos(at), &payload(line, *next));
        *next += 1;
    }
    while let Some(arrived) = network.arrive(ALL) {
        arrivals.push((arrived.line, arrived.at.0, number(arrived.line, arrived.payload)));
    }
    arrivals
}

/// What arrives of so many packets on line 0, one a microsecond.
fn through_line(impairment: &Impairment, seed: u64, packets: u64) -> (Vec<Arrival>, ImpairCounters) {
    let mut network = Network::new(std::slice::from_ref(impairment), seed);
    let sent: Vec<_> = (0..packets).map(|number| (0, number * 1_000)).collect();
    let arrivals = through(&mut network, &sent);
    (arrivals, network.counters(0))
}

/// Which of so many packets were lost.
fn losses(arrivals: &[Arrival], packets: u64) -> Vec<bool> {
    let mut lost = vec![true; packets as usize];
    arrivals.iter().for_each(|(_, _, number)| lost[*number as usize] = false);
    lost
}

/// Asserts that a sum of this many draws lies within five standard deviations of what it should be.
fn assert_near(what: &str, found: f64, expected: f64, deviation: f64) {
    println!("{what}: {found} for {expected} +- {deviation}");
    assert!((found - expected).abs() <= 5.0 * deviation, "{what}: {found} for {expected} +- {deviation}");
}

fn assert_share(what: &str, hits: u64, of: u64, chance: f64) {
    let of = of as f64;
    assert_near(what, hits as f64, of * chance, (of * chance * (1.0 - chance)).sqrt());
}

const PACKETS: u64 = 200_000;

/// Losses are as many as they should be, and a loss makes the next one no likelier.
#[test]
fn random_losses_are_independent() {
    for (seed, loss) in [(1, 0.0001), (2, 0.01), (3, 0.3), (4, 0.95)] {
        let (arrivals, counters) = through_line(&Impairment { loss, ..Default::default() }, seed, PACKETS);
        let lost = losses(&arrivals, PACKETS);
        assert_share("lost", counters.lost, PACKETS, loss);
        let twice = lost.windows(2).filter(|pair| pair[0] && pair[1]).count() as u64;
        assert_share("next is lost", twice, counters.lost, loss);
        assert_eq!(lost.iter().filter(|lost| **lost).count() as u64, counters.lost);
    }
    for (loss, lost) in [(0.0, 0), (1.0, PACKETS), (f64::NAN, 0), (-1.0, 0), (7.0, PACKETS)] {
        assert_eq!(through_line(&Impairment { loss, ..Default::default() }, 5, PACKETS).1.lost, lost);
    }
}

/// Bursts: the share that is lost, how many bursts there are, and how long they and the pauses between them are.
#[test]
fn bursts_are_gilberts_and_elliotts() {
    for (seed, enter, leave, loss) in
        [(1, 0.01, 0.25, 1.0), (2, 0.002, 0.05, 1.0), (3, 0.3, 0.6, 1.0), (4, 0.02, 0.1, 0.5)]
    {
        let burst = Some(LossBurst { enter, leave, loss });
        let (arrivals, counters) = through_line(&Impairment { burst, ..Default::default() }, seed, PACKETS);
        let lost = losses(&arrivals, PACKETS);
        // The state is a Markov chain with two states, whose states a step apart are correlated by `memory`.
        let (bad, memory): (f64, f64) = (enter / (enter + leave), 1.0 - enter - leave);
        let packets = PACKETS as f64;
        let of_states = packets * bad * (1.0 - bad) * (1.0 + memory) / (1.0 - memory);
        let of_losses = packets * bad * loss * (1.0 - loss);
        let deviation = (loss * loss * of_states + of_losses).sqrt();
        assert_near("lost", counters.lost as f64, packets * bad * loss, deviation);
        if loss == 1.0 {
            // Both the bursts' lengths and the pauses' are geometric.
            for (what, wanted, chance) in [("burst", true, leave), ("pause", false, enter)] {
                let runs: Vec<_> = lost.chunk_by(|a, b| a == b).filter(|run| run[0] == wanted).collect();
                let mean = runs.iter().map(|run| run.len()).sum::<usize>() as f64 / runs.len() as f64;
                assert_near(what, mean, 1.0 / chance, (1.0 - chance).sqrt() / chance / (runs.len() as f64).sqrt());
            }
        }
    }
}

/// Copies: as many as they should be of what is not lost, right behind their packets.
#[test]
fn duplicates_follow_their_packets() {
    let impairment = Impairment { duplicate: 0.05, loss: 0.2, ..Default::default() };
    let (arrivals, counters) = through_line(&impairment, 6, PACKETS);
    assert_share("copied", counters.duplicated, PACKETS - counters.lost, 0.05);
    let again = arrivals.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    assert_eq!((again, counters.reordered, counters.delayed), (counters.duplicated, 0, 0));
}

/// Delay and jitter: evenly between the least and the most, for packets and for their copies, which are independent.
#[test]
fn jitter_is_even() {
    let impairment = Impairment { delay_ns: 5_000, jitter_ns: 9_999, duplicate: 1.0, ..Default::default() };
    let (arrivals, counters) = through_line(&impairment, 7, PACKETS);
    let mut late = vec![Vec::new(); PACKETS as usize];
    arrivals.iter().for_each(|(_, at, number)| late[*number as usize].push(at - number * 1_000 - 5_000));
    let mut deciles = [[0; 10]; 10];
    for late in &late {
        // Both come from even distributions, so that which of them was first says nothing about where they lie together.
        let &[first, second] = &late[..] else { panic!("{late:?}") };
        deciles[(first / 1_000) as usize][(second / 1_000) as usize] += 1;
    }
    for (first, row) in deciles.iter().enumerate() {
        for second in 0..=first {
            let either = if first == second { row[second] } else { row[second] + deciles[second][first] };
            let chance = if first == second { 0.01 } else { 0.02 };
            assert_share(&format!("{first} and {second}"), either, PACKETS, chance);
        }
    }
    assert_eq!((counters.arrived, counters.duplicated), (2 * PACKETS, PACKETS));
    let least = arrivals.iter().map(|(_, at, number)| at - number * 1_000).min();
    let most = arrivals.iter().map(|(_, at, number)| at - number * 1_000).max();
    assert_eq!((least, most), (Some(5_000), Some(14_999)), "400,000 draws of 10,000 values leave out neither end");
}

/// Packets that arrive behind one that was sent after them, as RFC 4737 counts.
fn reordered(arrivals: &[Arrival]) -> u64 {
    let mut latest = 0;
    arrivals.iter().fold(0, |sum, (_, _, number)| {
        latest = latest.max(*number);
        sum + u64::from(*number < latest)
    })
}

/// Reordering: how many are held back, and by how many others each is overtaken.
#[test]
fn those_that_are_held_back_are_overtaken_by_one_to_the_most() {
    let (reorder, most) = (0.002, 8);
    let impairment = Impairment { reorder, reorder_by: most, ..Default::default() };
    let (arrivals, counters) = through_line(&impairment, 8, PACKETS);
    let mut overtaken = vec![0_u64; most as usize + 1];
    for (at, (_, _, number)) in arrivals.iter().enumerate() {
        // Packet n arrives n-th, but for those that overtook it, and those that it overtook itself.
        let from = at.saturating_sub(40);
        let ahead = arrivals[from..at].iter().filter(|(_, _, other)| other > number).count();
        overtaken[ahead] += 1;
    }
    let held: u64 = overtaken[1..].iter().sum();
    // Two that are held back at once may not overtake each other, which happens to 1 in 100 of them.
    assert!(held * 1_000 >= counters.reordered * 990 && held == counters.reordered, "{overtaken:?}");
    assert_share("held back", held, PACKETS, reorder);
    for (count, overtaken) in overtaken.iter().enumerate().skip(1) {
        let chance = 1.0 / f64::from(most);
        assert_share(&format!("by {count}"), *overtaken, held, chance);
    }
    assert_eq!(counters.reordered, reordered(&arrivals));
    assert_eq!((counters.lost, counters.duplicated, counters.delayed), (0, 0, 0));

    // Whatever is held back at once, nobody is overtaken by more, and what is overtaken arrives with the last of these.
    let impairment = Impairment { reorder: 0.7, reorder_by: 3, duplicate: 0.3, loss: 0.3, ..Default::default() };
    let (arrivals, counters) = through_line(&impairment, 9, 20_000);
    let lost = losses(&arrivals, 20_000);
    for (at, (_, time, number)) in arrivals.iter().enumerate() {
        let mut ahead: Vec<_> = arrivals[..at].iter().rev().take(40).map(|arrival| arrival.2).collect();
        ahead.sort_unstable();
        ahead.dedup();
        assert!(ahead.iter().filter(|other| *other > number).count() <= 3, "{number}");
        // The last ones have nobody behind them to wait for.
        let later = (time / 1_000).min(19_999) - number;
        let passed = lost[*number as usize + 1..][..later as usize].iter().filter(|lost| !**lost).count();
        assert!(passed <= 3, "{number}: {later} later, of which {passed} were not lost");
    }
    assert!(counters.reordered > 2_000, "{counters:?}");
}

/// Nothing is held back for ever: where no others come, a packet waits for its time.
#[test]
fn an_idle_line_gives_back_what_it_held() {
    let mut network = Network::new(&[Impairment { reorder: 1.0, reorder_by: 1, delay_ns: 5, ..Default::default() }], 1);
    let sent = [(0, 1_000), (0, 2_000), (0, 2_000 + MAX_HOLD_NS), (0, 9 * MAX_HOLD_NS)];
    let arrivals = through(&mut network, &sent);
    // The first is overtaken, as far as it goes, by the second; the second's time is up with the third.
    let late = 5 + MAX_HOLD_NS;
    let times = [2_005, 2_000 + late, 2_000 + MAX_HOLD_NS + late, 9 * MAX_HOLD_NS + late];
    assert!(arrivals.iter().map(|arrival| arrival.1).eq(times), "{arrivals:?}");

    let mut network = Network::new(&[Impairment { reorder: 1.0, reorder_by: 1, ..Default::default() }], 1);
    network.send(0, UnixNanos(1_000), b"first");
    assert_eq!(network.next_arrival(), Some(UnixNanos(1_000 + MAX_HOLD_NS)));
    network.send(0, UnixNanos(1_500), b"second");
    assert_eq!(network.next_arrival(), Some(UnixNanos(1_500)), "what was said before is out of date");
    assert_eq!(network.arrive(UnixNanos(1_499)), None);
    assert_eq!(network.arrive(UnixNanos(1_500)).map(|arrived| arrived.payload), Some(&b"first"[..]));
    assert_eq!(network.next_arrival(), Some(UnixNanos(1_500 + MAX_HOLD_NS)));
}

/// `drop` counts a line's packets from 0; `dead` counts time from the network's first packet, wherever that was.
#[test]
fn fixed_losses_are_exact() {
    let a = Impairment { drop: vec![8..10, 2..3, 9..12, 100..101, 5..5], ..Default::default() };
    let b = Impairment { dead: vec![200..300, 0..100, 250..301], ..Default::default() };
    assert_eq!(a.validate(), Err(ImpairError::Drop), "one is empty, which then counts for nothing");
    let mut network = Network::new(&[a, b], 1);
    let start = 1_700_000_000_000_000_000;
    // The A line begins it; the B line's first packet is sent when it is dead, and its third when it is not yet.
    let a_sent = (0..14).map(|number| (0, start + number * 10));
    let b_sent = [99, 100, 199, 200, 300, 301].map(|at| (1, start + at));
    let mut sent: Vec<_> = a_sent.chain(b_sent).collect();
    sent.sort_by_key(|(_, at)| *at);
    let arrivals = through(&mut network, &sent);
    let of =
        |line| arrivals.iter().filter(move |arrival| arrival.0 == line).map(|arrival| (arrival.2, arrival.1 - start));
    assert!(of(0).eq([0, 1, 3, 4, 5, 6, 7, 12, 13].map(|number| (number, number * 10))));
    assert!(of(1).eq([(1, 100), (2, 199), (5, 301)]));
    assert_eq!((network.counters(0).lost, network.counters(1).lost), (5, 3));
}

/// A seed's losses, for ever: recorded runs and printed commands mean the same on every machine and in every version.
#[test]
fn a_seed_keeps_its_meaning() {
    let first = |impairment: Impairment, line: u8, seed| -> Vec<u64> {
        let mut network = Network::new(&vec![impairment; 2], seed);
        let sent: Vec<_> = (0..120).map(|number| (line, number)).collect();
        let lost = losses(&through(&mut network, &sent), 120);
        (0..).zip(lost).filter_map(|(number, lost)| lost.then_some(number)).collect()
    };
    let random = Impairment { loss: 0.05, ..Default::default() };
    let burst = Some(LossBurst { enter: 0.03, leave: 0.3, loss: 0.9 });
    assert_eq!(first(random.clone(), 0, 42), [58, 68]);
    assert_eq!(first(random.clone(), 1, 42), [2, 44, 47, 62, 65, 106, 116]);
    assert_eq!(first(random, 0, 43), [14]);
    assert_eq!(first(Impairment { burst, ..Default::default() }, 0, 42), [24, 33, 34, 35, 36]);
}

fn chance() -> impl Strategy<Value = f64> {
    prop_oneof![3 => Just(0.0), 3 => 0.0..0.3, 1 => 0.3..=1.0]
}

fn ranges(most: u64) -> impl Strategy<Value = Vec<std::ops::Range<u64>>> {
    prop::collection::vec((0..most, 1..most / 5).prop_map(|(start, len)| start..start + len), 0..3)
}

fn impairment() -> impl Strategy<Value = Impairment> {
    let time = || prop_oneof![2 => Just(0), 2 => 0..5_000_u64, 1 => 0..50_000_000_u64];
    let burst = prop::option::of((chance(), chance(), chance()));
    let burst = burst.prop_map(|burst| burst.map(|(enter, leave, loss)| LossBurst { enter, leave, loss }));
    (chance(), burst, chance(), chance(), 1..20_u32, time(), time(), ranges(200), ranges(2_000_000)).prop_map(
        |(loss, burst, duplicate, reorder, reorder_by, delay_ns, jitter_ns, drop, dead)| Impairment {
            loss,
            burst,
            duplicate,
            reorder,
            reorder_by,
            delay_ns,
            jitter_ns,
            drop,
            dead,
        },
    )
}

/// Lines and times of packets: on three lines, of which two are configured, often at the same time, with some pauses.
fn schedule() -> impl Strategy<Value = Vec<(u8, u64)>> {
    let pause = prop_oneof![4 => Just(0), 8 => 0..3_000_u64, 1 => 0..30_000_000_u64];
    prop::collection::vec((0..3_u8, pause), 0..300).prop_map(|packets| {
        let mut time = 1_000;
        let at = |(line, pause)| {
            time += pause;
            (line, time)
        };
        packets.into_iter().map(at).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever is set: nothing is made up, changed, or gone without a trace; everything arrives within its time, in the
    /// order of time, whenever one looks; and what is on one line changes nothing on another.
    #[test]
    fn everything_is_accounted_for(
        lines in prop::collection::vec(impairment(), 2), other in impairment(), seed: u64, sent in schedule(),
        looks in any::<u64>(),
    ) {
        lines.iter().try_for_each(Impairment::validate).unwrap();
        let mut network = Network::new(&lines, seed);
        let arrivals = through(&mut network, &sent);
        prop_assert!(arrivals.iter().map(|arrival| arrival.1).is_sorted());
        prop_assert_eq!(network.next_arrival(), None);
        for line in 0..3_u8 {
            let times: Vec<u64> = sent.iter().filter(|packet| packet.0 == line).map(|packet| packet.1).collect();
            let of_line: Vec<Arrival> = arrivals.iter().filter(|arrival| arrival.0 == line).copied().collect();
            let mut copies = vec![0; times.len()];
            let none = Impairment::default();
            let impairment = lines.get(usize::from(line)).unwrap_or(&none);
            let held = if impairment.reorder > 0.0 { MAX_HOLD_NS } else { 0 };
            for (_, at, number) in &of_line {
                copies[*number as usize] += 1;
                let late = at - times[*number as usize];
                prop_assert!((impairment.delay_ns..=impairment.delay_ns + impairment.jitter_ns + held).contains(&late));
            }
            let counters = network.counters(line);
            prop_assert_eq!(counters.sent, times.len() as u64);
            prop_assert_eq!(counters.sent + counters.duplicated, counters.lost + counters.arrived);
            prop_assert_eq!(counters.arrived, of_line.len() as u64);
            prop_assert_eq!(counters.lost, copies.iter().filter(|copies| **copies == 0).count() as u64);
            prop_assert_eq!(counters.duplicated, copies.iter().filter(|copies| **copies == 2).count() as u64);
            if impairment.duplicate == 0.0 {
                prop_assert_eq!(counters.reordered, reordered(&of_line));
            }
            if impairment.delay_ns + impairment.jitter_ns == 0 {
                prop_assert_eq!(counters.delayed, 0);
            }
        }

        // Looked at now and then, by the bits of `looks`, the same arrives, and is announced before.
        let mut again = Network::new(&lines, seed);
        let (mut looked, mut numbers) = (Vec::new(), [0; 3]);
        for (at, &(line, time)) in sent.iter().enumerate() {
            if looks >> (at % 64) & 1 == 1 {
                let before = UnixNanos(time - 1);
                while let Some(next) = again.next_arrival().filter(|next| *next <= before) {
                    let arrived = again.arrive(before).unwrap();
                    prop_assert_eq!(arrived.at, next);
                    looked.push((arrived.line, arrived.at.0, number(arrived.line, arrived.payload)));
                }
                prop_assert_eq!(again.arrive(before), None);
            }
            let next = &mut numbers[usize::from(line)];
            again.send(line, UnixNanos(time), &payload(line, *next));
            *next += 1;
        }
        while let Some(arrived) = again.arrive(ALL) {
            looked.push((arrived.line, arrived.at.0, number(arrived.line, arrived.payload)));
        }
        prop_assert!(looked == arrivals);

        // Another B line leaves the A line as it was.
        let mut changed = Network::new(&[lines[0].clone(), other.clone()], seed);
        let a = |arrivals: &[Arrival]| arrivals.iter().filter(|arrival| arrival.0 == 0).copied().collect::<Vec<_>>();
        prop_assert!(a(&through(&mut changed, &sent)) == a(&arrivals));
        // And so do other impairments on it the losses.
        let same_losses = Impairment {
            loss: lines[0].loss, burst: lines[0].burst, drop: lines[0].drop.clone(), dead: lines[0].dead.clone(), ..other
        };
        let mut changed = Network::new(&[same_losses], seed);
        let count = numbers[0];
        prop_assert!(losses(&a(&through(&mut changed, &sent)), count) == losses(&a(&arrivals), count));
    }

    /// A sink hands on what the network has arrive, however the packets are batched, and however often it is polled.
    #[test]
    fn a_sink_sees_what_arrives(
        lines in prop::collection::vec(impairment(), 2), seed: u64, sent in schedule(), batches in any::<u64>(),
    ) {
        let mut numbers = [0; 2];
        let sent: Vec<(u8, u64)> = sent.into_iter().map(|(line, at)| (line % 2, at)).collect();
        let packets: Vec<(Line, UnixNanos, Vec<u8>)> = sent
            .iter()
            .map(|&(line, at)| {
                let bytes = payload(line, numbers[usize::from(line)]);
                numbers[usize::from(line)] += 1;
                (if line == 0 { Line::A } else { Line::B }, UnixNanos(at), bytes)
            })
            .collect();
        let memory = Shared::default();
        let mut sink = ImpairedSink::new(Network::new(&lines, seed), vec![Box::new(memory.clone())]);
        let mut batch: Vec<SimPacket> = Vec::new();
        for (at, (line, time, bytes)) in packets.iter().enumerate() {
            let bits = batches >> (at % 60) & 3;
            if bits > 0 {
                sink.take(&batch).unwrap();
                batch.clear();
            }
            if bits == 3 {
                let before = UnixNanos(time.0 - 1);
                let next = sink.poll(before).unwrap();
                prop_assert!(next.is_none_or(|next| next > before));
            }
            batch.push(SimPacket { line: *line, time: *time, payload: bytes });
        }
        sink.take(&batch).unwrap();
        sink.finish().unwrap();
        let taken = memory.0.lock().unwrap();
        let taken = taken.iter().map(|packet| {
            let line = u8::from(packet.line == Line::B);
            (line, packet.time.0, number(line, packet.payload))
        });
        let mut network = Network::new(&lines, seed);
        prop_assert!(taken.eq(through(&mut network, &sent)));
        prop_assert_eq!((sink.network().counters(0), sink.network().counters(1)), (network.counters(0), network.counters(1)));
    }
}

/// Packets that can be looked at from outside.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<PacketMemory>>);

impl Sink for Shared {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        assert!(!packets.is_empty());
        self.0.lock().unwrap().take(packets)
    }
}

#[test]
fn wrong_impairments_are_refused() {
    let none = Impairment::default();
    let burst = |enter, leave, loss| Some(LossBurst { enter, leave, loss });
    let cases = [
        (Impairment { loss: 1.01, ..none.clone() }, ImpairError::Loss),
        (Impairment { loss: f64::NAN, ..none.clone() }, ImpairError::Loss),
        (Impairment { burst: burst(0.1, -0.1, 1.0), ..none.clone() }, ImpairError::Burst),
        (Impairment { burst: burst(0.1, 0.1, f64::INFINITY), ..none.clone() }, ImpairError::Burst),
        (Impairment { duplicate: -1.0, ..none.clone() }, ImpairError::Duplicate),
        (Impairment { reorder: 2.0, reorder_by: 1, ..none.clone() }, ImpairError::Reorder),
        (Impairment { reorder: 0.1, ..none.clone() }, ImpairError::ReorderBy),
        (Impairment { reorder_by: MAX_REORDER_BY + 1, ..none.clone() }, ImpairError::ReorderBy),
        (Impairment { delay_ns: MAX_DELAY_NS + 1, ..none.clone() }, ImpairError::Delay),
        (Impairment { jitter_ns: u64::MAX, ..none.clone() }, ImpairError::Jitter),
        (Impairment { drop: vec![1..2, 2..2], ..none.clone() }, ImpairError::Drop),
        (Impairment { dead: vec![5..5, 6..7], ..none.clone() }, ImpairError::Dead),
    ];
    for (impairment, error) in cases {
        assert_eq!(impairment.validate(), Err(error));
        assert!(error.to_string().starts_with(error.name()), "{error}");
        // Who does not ask gets the nearest that there is, and no panic.
        let mut network = Network::new(&[impairment], 1);
        through(&mut network, &[(0, 0), (0, u64::MAX), (0, u64::MAX), (255, 0)]);
        assert_eq!(network.counters(0).arrived + network.counters(0).lost, 3 + network.counters(0).duplicated);
    }
    assert_eq!(none.validate(), Ok(()));
}
