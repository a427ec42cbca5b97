//! How fast captures are read, in this thread's own processor time.
//!
//! `cargo bench -p barewire-io --bench capture`
//!
//! The files lie in memory, so that the disk has no part in it. Formats are read in turn, several times; the table has
//! the best and the median of each.

use std::hint::black_box;
use std::io::{Cursor, Write};
use std::net::{Ipv4Addr, SocketAddrV4};

use barewire_io::capture::{BinaryFileWriter, Capture, Format, PcapWriter};
use barewire_types::UnixNanos;

const ROUNDS: usize = 7;
/// Lengths of ITCH messages in about the mixture of a day: mostly adds, deletes and replaces.
const LENS: [usize; 8] = [36, 19, 36, 35, 19, 31, 40, 23];
const MESSAGES: usize = 4_000_000;
const FRAMES: usize = 500_000;

/// Nanoseconds for which this thread has run.
fn thread_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Bytes that compress about as messages do: most of them repeat.
fn message(n: usize, out: &mut [u8; 40]) -> &[u8] {
    let noise = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    out[11..14].copy_from_slice(&noise[..3]);
    out[18] = noise[4];
    &out[..LENS[n % LENS.len()]]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Items and bytes read.
fn read(file: &'static [u8]) -> (u64, u64) {
    let mut capture = Capture::from_reader(Box::new(Cursor::new(file))).unwrap();
    if capture.format() == Format::BinaryFile {
        while let Some(messages) = capture.next_messages().unwrap() {
            for message in messages {
                black_box(message);
            }
        }
    } else {
        while let Some(frame) = capture.next_frame().unwrap() {
            black_box(frame.datagram().unwrap());
        }
    }
    let counters = capture.counters();
    (counters.messages + counters.frames, counters.bytes)
}

fn main() {
    let mut bytes = [0x41; 40];
    let mut writer = BinaryFileWriter::new(Vec::new());
    (0..MESSAGES).for_each(|n| writer.write_message(message(n, &mut bytes)).unwrap());
    let binary = writer.finish_with_end().unwrap();
    let mut writer = PcapWriter::new(Vec::new()).unwrap();
    let (src, dst) = (SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1), SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 1), 2));
    for n in 0..FRAMES {
        let payload = message(n, &mut bytes).repeat(5);
        writer.write_datagram(UnixNanos(1 << 60 | n as u64), src, dst, &payload).unwrap();
    }
    let pcap = writer.finish().unwrap();
    let files = [
        ("binaryfile, messages", binary.clone()),
        ("binaryfile in gzip, messages", gzip(&binary)),
        ("binaryfile in zstd, messages", zstd::encode_all(&binary[..], 3).unwrap()),
        ("pcap, datagrams", pcap.clone()),
        ("pcap in gzip, datagrams", gzip(&pcap)),
        ("pcap in zstd, datagrams", zstd::encode_all(&pcap[..], 3).unwrap()),
    ];
    let files = files.map(|(name, file)| (name, &*file.leak()));
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); files.len()];
    let mut sizes = vec![(0, 0); files.len()];
    for _ in 0..ROUNDS {
        for (at, (_, file)) in files.iter().enumerate() {
            let begun = thread_time();
            sizes[at] = read(file);
            times[at].push((thread_time() - begun) as f64);
        }
    }
    println!("{:<30} {:>12} {:>12} {:>12}", "million a second", "best", "median", "best MB/s");
    for (((name, _), mut times), (items, bytes)) in files.iter().zip(times).zip(sizes) {
        times.sort_by(f64::total_cmp);
        let rate = |nanos: f64| items as f64 / nanos * 1_000.0;
        let (best, median) = (times[0], times[times.len() / 2]);
        println!("{name:<30} {:>12.1} {:>12.1} {:>12.0}", rate(best), rate(median), bytes as f64 / best * 1_000.0);
    }
}
