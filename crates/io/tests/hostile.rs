//! Files that are cut or corrupted anywhere: no panic, bounded memory, and what is whole is delivered.

mod common;

use std::io::Cursor;

use barewire_allocs::{Counting, most_held};
use barewire_io::capture::{Capture, CaptureError, End, Format, MAX_RECORD_BYTES};
use common::{Contents, Kept, Order, PcapNg, binary, gzip, open, pcap, read, zstd};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The buffer at its longest, twice while it grows, a decompressor and some to spare.
const MEMORY: usize = 2 * MAX_RECORD_BYTES + (1 << 20);

/// Reads without keeping, and returns the most memory that it took, in bytes.
fn memory_of(reader: Box<dyn std::io::Read + Send>, format: Option<Format>) -> usize {
    let read = || {
        let capture = match format {
            Some(format) => Capture::from_reader_as(reader, format),
            None => Capture::from_reader(reader),
        };
        let Ok(mut capture) = capture else { return };
        if capture.format() == Format::BinaryFile {
            while let Some(messages) = capture.next_messages().unwrap() {
                messages.for_each(|message| assert!(!message.is_empty()));
            }
        } else {
            while let Some(frame) = capture.next_frame().unwrap() {
                let _ = frame.datagram();
            }
        }
        assert_ne!(capture.end(), End::NotYet);
        assert!(!capture.end().to_string().is_empty());
    };
    most_held(read).1
}

/// A small file of each format: its bytes, what it holds, and where its records end.
fn samples() -> Vec<(&'static str, Vec<u8>, Contents, Vec<usize>)> {
    let frames: Vec<_> =
        (0..6u8).map(|n| Kept::new(u64::from(n) + 1_000_000_000, vec![n; usize::from(n) * 9])).collect();
    let messages: Vec<_> = (1..12u8).map(|n| vec![n; usize::from(n) * 3]).collect();
    let of_frames = Contents { frames: frames.clone(), messages: Vec::new(), end: End::Complete };
    let of_messages = Contents { frames: Vec::new(), messages: messages.clone(), end: End::Complete };
    let mut samples = Vec::new();
    for order in [Order::Little, Order::Big] {
        let (file, ends) = pcap(order, true, 1, &frames);
        samples.push(("pcap", file, of_frames.clone(), ends));
        let mut ng = PcapNg::new(order).interface(1, 0, Some(9), None).block(0x0bad_cafe, b"skipped");
        for (n, frame) in frames.iter().enumerate() {
            ng = ng.enhanced(0, frame.ts, &frame.data, frame.original_len, n % 2 == 0);
        }
        samples.push(("pcapng", ng.bytes, of_frames.clone(), ng.ends));
    }
    let (file, ends) = binary(&messages);
    samples.push(("binaryfile", file, of_messages, ends));
    samples
}

fn assert_prefix(found: &Contents, whole: &Contents) {
    assert!(whole.frames.starts_with(&found.frames), "{found:?}");
    assert!(whole.messages.starts_with(&found.messages), "{found:?}");
}

/// Cut at every byte: exactly the whole records before the cut come, and the end names the one that is cut.
#[test]
fn a_file_cut_anywhere_yields_its_whole_records_and_says_where_it_is_cut() {
    for (name, file, whole, ends) in samples() {
        for cut in 0..file.len() {
            let capture = match open(&file[..cut]) {
                Ok(capture) => capture,
                Err(CaptureError::Empty { .. }) if cut == 0 => continue,
                Err(CaptureError::HeaderCut { expected, found, .. }) => {
                    assert!(cut < 28 && found == cut as u64 && found < expected, "{name} cut at {cut}");
                    continue;
                }
                // Too little is left to tell what it is.
                Err(CaptureError::Unrecognised { .. }) if cut <= ends[1] && (name == "binaryfile" || cut < 2) => {
                    continue;
                }
                Err(error) => panic!("{name} cut at {cut}: {error}"),
            };
            let found = read(capture);
            assert_prefix(&found, &whole);
            let begin = ends.iter().rev().find(|end| **end <= cut).copied().unwrap_or(0);
            let records = ends.iter().filter(|end| **end <= cut).count();
            let delivered = found.frames.len() + found.messages.len();
            assert!(records - delivered <= 3 && (name == "pcapng" || records - delivered == 1), "{name} cut at {cut}");
            if begin == cut {
                assert_eq!(found.end, End::Complete, "{name} cut at {cut}");
                continue;
            }
            let End::Cut { offset, expected, found } = found.end else {
                panic!("{name} cut at {cut}: {:?}", found.end)
            };
            assert_eq!((offset, found), (begin as u64, (cut - begin) as u64), "{name} cut at {cut}");
            // Where enough of the record is there to tell its length, it is told.
            let record = ends.iter().find(|end| **end > cut).unwrap() - begin;
            let tells = match name {
                "pcap" => 16,
                "pcapng" => 12,
                _ => 2,
            };
            let told = if cut - begin >= tells { record } else { tells };
            assert_eq!(expected, told as u64, "{name} cut at {cut}");
        }
    }
}

/// A compressed stream that is cut yields a prefix, and never passes for complete.
#[test]
fn a_compressed_file_cut_anywhere_yields_a_prefix_and_is_not_complete() {
    for (name, file, whole, _) in samples() {
        for (packed, of_two) in
            [(gzip(&file, 1), false), (gzip(&file, 2), true), (zstd(&file, 1), false), (zstd(&file, 2), true)]
        {
            let mut opened = 0;
            for cut in 0..packed.len() {
                let Ok(capture) = open(&packed[..cut]) else { continue };
                opened += 1;
                let compression = capture.compression();
                let found = read(capture);
                assert_prefix(&found, &whole);
                match found.end {
                    End::CompressionCut { file_len, .. } => assert_eq!(file_len, cut as u64),
                    // A cut between two members or frames leaves a sound stream with half the file.
                    End::Cut { .. } if of_two => {}
                    end => panic!("{name} in {compression} cut at {cut}: {end:?}"),
                }
            }
            assert!(opened > 0, "{name}");
        }
    }
}

/// Checksums hold: a flipped bit in the stream is never delivered as complete.
#[test]
fn a_flipped_bit_in_a_compressed_stream_is_noticed() {
    let (_, file, _, _) = samples().remove(0);
    for packed in [gzip(&file, 1), zstd(&file, 1)] {
        let body = packed.len() / 2;
        let mut damaged = packed.clone();
        damaged[body] ^= 1;
        if let Ok(capture) = open(&damaged) {
            assert!(read(capture).end.is_early());
        }
        let last = packed.len() - 1;
        let mut damaged = packed;
        damaged[last] ^= 1;
        // A file as short as this may be refused as a whole.
        match open(&damaged) {
            Ok(capture) => {
                let end = read(capture).end;
                assert!(matches!(end, End::CompressionDamaged { .. }), "{end:?}");
            }
            Err(error) => assert!(matches!(error, CaptureError::Decompress { .. }), "{error}"),
        }
    }
}

/// Whatever a file unfolds to is read through the same buffer.
#[test]
fn a_long_block_and_a_decompression_bomb_take_no_more_memory_than_others() {
    let (mut file, _) = pcap(Order::Little, true, 1, &[Kept::new(1, vec![7; MAX_RECORD_BYTES - 16])]);
    let frame = file[24..].to_vec();
    (0..20).for_each(|_| file.extend(&frame));
    assert!(memory_of(Box::new(Cursor::new(zstd(&file, 1))), None) < MEMORY);
    assert!(memory_of(Box::new(Cursor::new(gzip(&vec![0; 64 << 20], 1))), Some(Format::BinaryFile)) < MEMORY);
    // A block of 64 MiB that holds no packet is passed over.
    let ng = PcapNg::new(Order::Big).block(0x0bad_cafe, &vec![0; 64 << 20]).interface(1, 0, None, None);
    let file = ng.enhanced(0, 1, b"behind it", 9, false).bytes;
    assert!(memory_of(Box::new(Cursor::new(file.clone())), None) < MEMORY);
    assert_eq!(read(open(&file).unwrap()).frames[0].data, b"behind it");
    // Interfaces take memory, so there is a limit.
    let mut ng = PcapNg::new(Order::Little);
    (0..70_000).for_each(|_| ng = std::mem::replace(&mut ng, PcapNg::new(Order::Little)).interface(1, 0, None, None));
    assert!(memory_of(Box::new(Cursor::new(ng.bytes)), None) < MEMORY + (8 << 20));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Bytes changed at random, in the file or in its compressed stream.
    #[test]
    fn corrupted_files_neither_panic_nor_take_memory(
        sample in 0..5usize,
        packing in 0..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (_, mut bytes, _, _) = samples().remove(sample);
        if packing > 0 {
            bytes = if packing == 1 { gzip(&bytes, 2) } else { zstd(&bytes, 2) };
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // A damaged zstd frame may claim a window of up to 128 MiB, which its library allocates for itself.
        prop_assert!(memory_of(Box::new(Cursor::new(bytes)), None) < MEMORY);
    }

    /// Bytes that never were a capture, read as one.
    #[test]
    fn noise_neither_panics_nor_takes_memory(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600),
        magic in 0..6usize,
    ) {
        const MAGIC: [&[u8]; 5] = [
            b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0",
            b"\xa1\xb2\x3c\x4d\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\0\0\0\x01",
            b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
            b"\x28\xb5\x2f\xfd",
        ];
        if let Some(magic) = MAGIC.get(magic) {
            bytes.splice(0..0, magic.iter().copied());
        }
        for format in [None, Some(Format::Pcap), Some(Format::PcapNg), Some(Format::BinaryFile)] {
            prop_assert!(memory_of(Box::new(Cursor::new(bytes.clone())), format) < MEMORY);
        }
    }
}
