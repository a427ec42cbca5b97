//! Any bytes as a capture file. The first byte says how they are read, the others are the file.
#![no_main]

use std::io::{Cursor, Read};

use barewire_io::capture::{Capture, Compression, End, Format};
use libfuzzer_sys::fuzz_target;

/// Gives a few bytes at a time, as a pipe may.
struct Dribble(Cursor<Vec<u8>>, usize);

impl Read for Dribble {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = into.len().min(self.1);
        self.0.read(&mut into[..len])
    }
}

/// Every frame with its time, or every message; how it ended, and what it was.
fn read(bytes: &[u8], piece: usize, format: Option<Format>) -> Option<(Vec<(u64, Vec<u8>)>, End, Format, Compression)> {
    let reader = Box::new(Dribble(Cursor::new(bytes.to_vec()), piece));
    let opened = match format {
        Some(format) => Capture::from_reader_as(reader, format),
        None => Capture::from_reader(reader),
    };
    let mut capture = match opened {
        Ok(capture) => capture,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let mut items = Vec::new();
    if capture.format() == Format::BinaryFile {
        while let Some(messages) = capture.next_messages().expect("memory can be read") {
            let before = items.len();
            items.extend(messages.map(|message| (0, message.to_vec())));
            assert!(items.len() > before);
        }
    } else {
        while let Some(frame) = capture.next_frame().expect("memory can be read") {
            if let Ok(datagram) = frame.datagram() {
                assert!(datagram.payload.len() < frame.data.len());
            }
            items.push((frame.ts.0, frame.data.to_vec()));
        }
    }
    let (counters, end) = (capture.counters(), capture.end());
    assert_eq!(counters.frames + counters.messages, items.len() as u64);
    assert_eq!(counters.bytes, items.iter().map(|item| item.1.len() as u64).sum::<u64>());
    assert_ne!(end, End::NotYet);
    assert_eq!(end.is_early(), !matches!(end, End::Complete));
    Some((items, end, capture.format(), capture.compression()))
}

fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    let format = [None, Some(Format::Pcap), Some(Format::PcapNg), Some(Format::BinaryFile)][usize::from(how & 3)];
    let Some((items, end, format, compression)) = read(bytes, usize::MAX, format) else { return };

    // How the bytes come does not matter. Only a damaged stream may give its last bytes up in one way and not in the other.
    let (dribbled, dribbled_end, ..) =
        read(bytes, 1 + usize::from(how >> 2), Some(format)).expect("it was read before");
    if matches!(end, End::CompressionDamaged { .. }) {
        assert!(items.starts_with(&dribbled) || dribbled.starts_with(&items));
    } else {
        assert_eq!((&items, end), (&dribbled, dribbled_end));
    }

    // A file that is cut holds no more than before, and nothing else.
    let cut = bytes.len() * usize::from(*how) / 256;
    if let Some((before, ..)) = read(&bytes[..cut], usize::MAX, Some(format)) {
        assert!(items.starts_with(&before) || (compression != Compression::None && before.starts_with(&items)));
    }
});
