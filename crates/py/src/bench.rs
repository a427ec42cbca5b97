//! Benchmarks of the parts.

use std::time::{Duration, Instant};

use barewire_book::Capacity;
use barewire_engine::bench::{BookBench, Messages, Run, decode, ring};
use barewire_engine::nasdaq::{Setup, WHOLE_VENUE};
use barewire_engine::venue::{Publish, Subscription};
use barewire_io::capture::{CaptureError, Format};
use barewire_ring::{Producer, RingConfig};
use barewire_sim::{Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN};
use barewire_wire::moldudp64::Packet;
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::replay::{Source, capture_error, open};
use crate::ring::ring_error;

/// Framed messages that a benchmark keeps in memory at most.
const MAX_BYTES: usize = 4 << 30;
/// Passes of each kind that are made at least, however long they take.
const MIN_RUNS: usize = 3;

fn frame(bytes: &mut Vec<u8>, message: &[u8]) {
    if let Ok(len @ 1..) = u16::try_from(message.len()) {
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(message);
    }
}

/// Up to `most` messages of a file.
fn from_file(py: Python<'_>, source: Source, most: u64) -> PyResult<Messages> {
    let mut capture = open(py, source, None)?;
    let read = py.detach(|| -> Result<Vec<u8>, CaptureError> {
        let mut bytes = Vec::new();
        let mut left = most;
        if capture.format() == Format::BinaryFile {
            while let Some(messages) = capture.next_messages()? {
                for message in messages {
                    if left == 0 || bytes.len() >= MAX_BYTES {
                        return Ok(bytes);
                    }
                    left -= 1;
                    frame(&mut bytes, message);
                }
            }
            return Ok(bytes);
        }
        while let Some(captured) = capture.next_frame()? {
            let Ok(datagram) = captured.datagram() else { continue };
            let Ok(packet) = Packet::parse(datagram.payload) else { continue };
            for message in packet.messages() {
                if left == 0 || bytes.len() >= MAX_BYTES {
                    return Ok(bytes);
                }
                left -= 1;
                frame(&mut bytes, message);
            }
        }
        Ok(bytes)
    });
    Ok(Messages::new(read.map_err(|error| capture_error(py, &error))?))
}

/// Messages of a simulated day.
fn from_simulator(py: Python<'_>, messages: u64, instruments: u32, live_orders: u32) -> PyResult<Messages> {
    let length = Length::Messages(messages);
    let config = ExchangeConfig { instruments, live_orders, length, ..ExchangeConfig::default() };
    let mut exchange = Exchange::new(config).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(py.detach(|| {
        let mut bytes = Vec::new();
        let mut buffer = [0; MAX_MESSAGE_LEN];
        while let Some(message) = exchange.next(&mut buffer) {
            frame(&mut bytes, message);
        }
        Messages::new(bytes)
    }))
}

/// Rates of several runs, best first in name only: `{"best", "median", "runs": [...]}`, messages a second.
fn rates<'py>(py: Python<'py>, runs: &[Run]) -> PyResult<Bound<'py, PyDict>> {
    let all: Vec<f64> = runs.iter().map(Run::rate).collect();
    let mut sorted = all.clone();
    sorted.sort_by(f64::total_cmp);
    let row = PyDict::new(py);
    row.set_item("best", sorted.last())?;
    row.set_item("median", sorted.get(sorted.len() / 2))?;
    row.set_item("runs", all)?;
    Ok(row)
}

/// Decode, book and book with publication, interleaved, for about `seconds`.
#[pyfunction]
#[pyo3(signature = (source, *, seconds, messages, instruments, live_orders))]
pub fn bench_book<'py>(
    py: Python<'py>,
    source: Option<Source>,
    seconds: f64,
    messages: u64,
    instruments: u32,
    live_orders: u32,
) -> PyResult<Bound<'py, PyDict>> {
    let flow = match source {
        Some(source) => from_file(py, source, messages)?,
        None => from_simulator(py, messages, instruments, live_orders)?,
    };
    if flow.count() == 0 {
        return Err(PyValueError::new_err("expected a file with messages, found none"));
    }
    let setup = Setup {
        publisher_id: 0,
        midnight_ns: 0,
        subscription: Subscription::All,
        publish: Publish { mbo: true, bbo: true },
        capacity: Capacity { ..WHOLE_VENUE },
    };
    let no_memory = || PyMemoryError::new_err("no memory for the books");
    let mut silent = BookBench::silent(setup.clone()).ok_or_else(no_memory)?;
    let ring = Producer::create(&RingConfig::default()).map_err(|error| ring_error(py, &error))?;
    let mut publishing = BookBench::new(setup, ring).ok_or_else(no_memory)?;
    let (mut decoded, mut booked, mut published) = (Vec::new(), Vec::new(), Vec::new());
    let until = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let mut live_orders_at_end = 0;
    while booked.len() < MIN_RUNS || Instant::now() < until {
        py.detach(|| {
            decoded.push(decode(&flow));
            booked.push(silent.run(&flow));
            published.push(publishing.run(&flow));
            live_orders_at_end = silent.live_orders();
            silent.reset();
            publishing.reset();
        });
        py.check_signals()?;
    }
    let all = || decoded.iter().chain(&booked).chain(&published);
    let stolen: u64 = all().map(|run| run.stolen_ns).sum();
    let elapsed: u64 = all().map(|run| run.elapsed_ns).sum();
    let best = |runs: &[Run]| runs.iter().map(Run::rate).fold(0.0, f64::max);

    let result = PyDict::new(py);
    result.set_item("decode_msgs_per_s", best(&decoded))?;
    result.set_item("book_msgs_per_s", best(&booked))?;
    result.set_item("publish_msgs_per_s", best(&published))?;
    result.set_item("decode", rates(py, &decoded)?)?;
    result.set_item("book", rates(py, &booked)?)?;
    result.set_item("publish", rates(py, &published)?)?;
    result.set_item("messages", flow.count())?;
    result.set_item("live_orders_at_end", live_orders_at_end)?;
    result.set_item("peak_live_orders", silent.peak_live_orders())?;
    result.set_item("book_bytes", silent.bytes())?;
    result.set_item("stolen_pct", 100.0 * stolen as f64 / elapsed.max(1) as f64)?;
    let counters = PyDict::new(py);
    for (name, value) in silent.counters().iter().filter(|(name, _)| name.starts_with("book_")) {
        counters.set_item(name, value)?;
    }
    result.set_item("counters", counters)?;
    Ok(result)
}

/// Percentiles of times in ns.
fn percentiles<'py>(py: Python<'py>, mut ns: Vec<u64>) -> PyResult<Bound<'py, PyDict>> {
    ns.sort_unstable();
    let row = PyDict::new(py);
    for (name, of_thousand) in [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)] {
        row.set_item(name, ns.get(ns.len() * of_thousand / 1000))?;
    }
    row.set_item("min", ns.first())?;
    row.set_item("max", ns.last())?;
    row.set_item("samples", ns.len())?;
    Ok(row)
}

/// The ring between two cores against a bare cache line, interleaved.
#[pyfunction]
#[pyo3(signature = (*, seconds))]
pub fn bench_ring(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyDict>> {
    const TRIPS: u64 = 20_000;
    let (mut bare, mut through) = (Vec::new(), Vec::new());
    let mut runs = Vec::new();
    let until = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default();
    while runs.len() < MIN_RUNS || Instant::now() < until {
        let (one, other, run) = py
            .detach(|| {
                let bare = ring::ping_pong(TRIPS);
                Ok((bare, ring::round_trips(TRIPS)?, ring::throughput(Duration::from_millis(200))?))
            })
            .map_err(|error| ring_error(py, &error))?;
        bare.push(one);
        through.push(other);
        runs.push(run);
        py.check_signals()?;
    }
    // The best run by its median is the one that was disturbed least; which one that is does not depend on the other's.
    let best = |runs: Vec<Vec<u64>>| {
        let median = |run: &Vec<u64>| {
            let mut run = run.clone();
            run.sort_unstable();
            run[run.len() / 2]
        };
        runs.into_iter().min_by_key(median).unwrap_or_default()
    };
    let result = PyDict::new(py);
    let half = |ns: Vec<u64>| ns.into_iter().map(|ns| ns / 2).collect();
    result.set_item("ping_pong_ns", percentiles(py, best(bare))?)?;
    result.set_item("one_way_ns", percentiles(py, half(best(through)))?)?;
    let most = |of: fn(&ring::Throughput) -> f64| runs.iter().map(of).fold(0.0, f64::max);
    result.set_item("publish_msgs_per_s", most(|run| run.published_per_s))?;
    result.set_item("read_msgs_per_s", most(|run| run.read_per_s))?;
    result.set_item("lost", runs.iter().map(|run| run.lost).sum::<u64>())?;
    result.set_item("cores", ring::cores().into_iter().flatten().collect::<Vec<_>>())?;
    result.set_item("runs", runs.len())?;
    Ok(result)
}
