//! Files that are damaged, cut off or scribbled over while they are read: an error or nonsense, never a crash.

use crate::common::{anonymous, event};
use barewire_ring::{
    DIRECTORY_COUNT_OFFSET, HEADER_BYTES, HEARTBEAT_OFFSET, Header, PUBLISHED_OFFSET, Producer, Reader, RingConfig,
    RingError, RingRecord, STATE_OFFSET,
};
use barewire_types::{Layout, UnixNanos};
use proptest::prelude::*;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

const CAPACITY: u32 = 4;

/// The bytes of a ring that has been round more than once.
fn whole() -> Vec<u8> {
    let stat_names = vec![String::from("packets")];
    let mut producer = Producer::create(&RingConfig { stat_names, ..anonymous(CAPACITY) }).unwrap();
    producer.add_instrument(1, b"AAPL").unwrap();
    for n in 0..10 {
        producer.publish(event(n));
    }
    let file = File::from(producer.as_fd().try_clone_to_owned().unwrap());
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A file without a name that holds these bytes.
fn file(bytes: &[u8]) -> File {
    use std::os::fd::FromRawFd;
    // SAFETY: the name is a C string, and the descriptor new.
    let mut file = unsafe { File::from_raw_fd(libc::memfd_create(c"damaged".as_ptr(), libc::MFD_CLOEXEC)) };
    file.write_all(bytes).unwrap();
    file
}

/// Everything that a reader can do, on whatever is there.
fn exercise(bytes: &[u8]) -> Result<(), RingError> {
    let file = file(bytes);
    let mut reader = Reader::open_fd(file.as_fd())?;
    let mut batch = [RingRecord::ZERO; 16];
    for _ in 0..3 {
        let read = reader.read(&mut batch);
        assert!(read.count <= batch.len());
        reader.seek_oldest();
    }
    reader.seek_newest();
    reader.read(&mut batch);
    let _ = (reader.lag(), reader.info(), reader.stats(), reader.stat_names(), reader.is_closed());
    let _ = reader.producer_state(UnixNanos(0), Duration::ZERO);
    assert!(reader.instruments_from(0).count() <= 128);
    Ok(())
}

#[test]
fn whole_ring_is_read() {
    let bytes = whole();
    assert_eq!(exercise(&bytes), Ok(()));
    // A file may be longer than its ring: huge pages round it up.
    assert_eq!(exercise(&[&bytes[..], &[0; 4096]].concat()), Ok(()));
}

/// Every bit of the fixed fields, by itself. What a reader relies on is checked; what merely tells of the producer, and
/// what is reserved, may be anything.
#[test]
fn every_bit_of_the_header() {
    let bytes = whole();
    let free = ["epoch", "producer_pid", "producer_start", "producer_pid_namespace", "reserved"];
    for field in Header::FIELDS {
        for bit in 0..field.len * 8 {
            let mut bytes = bytes.clone();
            bytes[field.offset + bit / 8] ^= 1 << (bit % 8);
            let result = exercise(&bytes);
            assert_eq!(result.is_ok(), free.contains(&field.name), "{} bit {bit}: {result:?}", field.name);
        }
    }
}

#[test]
fn cut_off_files() {
    let bytes = whole();
    let expected = bytes.len() as u64;
    for len in [127, 128, HEADER_BYTES - 1, HEADER_BYTES, 8192, bytes.len() - 64, bytes.len() - 1] {
        let expected = if len < 128 { 128 } else { expected };
        let found = len as u64;
        assert_eq!(exercise(&bytes[..len]), Err(RingError::Truncated { expected, found }));
    }
}

/// A header alone may claim a whole ring and cost nobody memory; attaching to it must not cost us any either.
#[test]
fn holes_are_refused_and_not_filled() {
    let bytes = whole();
    let sparse = file(&bytes[..HEADER_BYTES]);
    sparse.set_len(bytes.len() as u64).unwrap();
    let before = sparse.metadata().unwrap().blocks();
    let refused = Reader::open_fd(sparse.as_fd()).err().unwrap();
    assert_eq!(refused, RingError::Sparse { expected: bytes.len() as u64, found: before * 512 });
    assert_eq!(refused.name(), "sparse");
    assert_eq!(sparse.metadata().unwrap().blocks(), before);

    // Our own producer takes all of it at once, however much it is and however it is reached.
    let name = format!("test.holes.{}", std::process::id());
    let named = RingConfig { name: Some(name.clone()), capacity: 1 << 16, ..RingConfig::default() };
    let producer = Producer::create(&named).unwrap();
    Reader::attach(&name).unwrap();
    Reader::open_fd(producer.as_fd()).unwrap();
    let producer = Producer::create(&RingConfig::default()).unwrap();
    Reader::open_fd(producer.as_fd()).unwrap();
}

#[test]
fn other_versions_are_told_from_damage() {
    let bytes = whole();
    let with = |offset: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[offset..offset + value.len()].copy_from_slice(value);
        exercise(&bytes)
    };
    assert_eq!(with(8, &2_u32.to_ne_bytes()), Err(RingError::Version { expected: 1, found: 2 }));
    let expected = barewire_ring::LAYOUT_HASH;
    assert_eq!(with(16, &5_u64.to_ne_bytes()), Err(RingError::LayoutHash { expected, found: 5 }));
    assert_eq!(
        with(28, &32_u32.to_ne_bytes()),
        Err(RingError::Header { field: "slot_bytes", expected: 64, found: 32 })
    );
    let error = with(24, &5_u32.to_ne_bytes()).unwrap_err();
    assert_eq!((error, error.name()), (RingError::Capacity { limit: 1 << 26, found: 5 }, "capacity"));
    assert_eq!(error.to_string(), "the ring's capacity is 5 slots: a power of two from 2 to 67108864 is needed");
}

/// Words that change under the reader, at their worst values, in every combination.
#[test]
fn wild_counters() {
    let bytes = whole();
    let slots = bytes.len() - CAPACITY as usize * 64;
    let wild = [0, 1, 7, 8, 11, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 63) | 11, u64::MAX - 1, u64::MAX];
    for published in wild {
        for sequence in wild {
            for count in [0, 129, u64::MAX] {
                let mut bytes = bytes.clone();
                for (offset, value) in [
                    (PUBLISHED_OFFSET, published),
                    (slots, sequence),
                    (slots + 64, sequence.wrapping_add(1)),
                    (DIRECTORY_COUNT_OFFSET, count),
                    (HEARTBEAT_OFFSET, count),
                    (STATE_OFFSET, count),
                ] {
                    bytes[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
                }
                assert_eq!(exercise(&bytes), Ok(()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Random bytes at random places, half of them in the header, and a random end.
    #[test]
    fn random_damage(
        near in proptest::collection::vec((0_usize..512, any::<u8>()), 0..8),
        far in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        end in prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
    ) {
        use std::sync::OnceLock;
        static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
        let mut bytes = WHOLE.get_or_init(whole).clone();
        for (offset, value) in near {
            bytes[offset] = value;
        }
        for (index, value) in far {
            let offset = index.index(bytes.len());
            bytes[offset] = value;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        let _ = exercise(&bytes);
    }
}
