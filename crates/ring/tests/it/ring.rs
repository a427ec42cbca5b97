//! One process, one thread: what the API promises.

use crate::common::{anonymous, event, named, unique};
use barewire_ring::{
    DirectoryError, Producer, ProducerState, Read, Reader, RingConfig, RingError, RingRecord, STATS_WORDS,
};
use barewire_types::UnixNanos;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/barewire.{name}"))
}

fn state(reader: &Reader, age: Duration) -> ProducerState {
    let now = UnixNanos(reader.info().heartbeat.0 + age.as_nanos() as u64);
    reader.producer_state(now, Duration::from_secs(1))
}

#[test]
fn events_come_in_order_and_whole() {
    let mut producer = Producer::create(&anonymous(8)).unwrap();
    let mut reader = producer.reader();
    let mut batch = [RingRecord::ZERO; 3];
    assert_eq!(reader.read(&mut batch), Read::default());
    for n in 0..5 {
        producer.publish(event(n));
    }
    assert_eq!((reader.lag(), producer.published()), (5, 5));
    assert_eq!(reader.read(&mut batch), Read { count: 3, ..Read::default() });
    assert_eq!(batch[2], RingRecord { ring_sequence: 2, record: event(2) });
    assert_eq!(reader.read(&mut batch), Read { count: 2, ..Read::default() });
    assert_eq!(batch[1], RingRecord { ring_sequence: 4, record: event(4) });
    assert_eq!(reader.read(&mut []), Read::default());
}

/// For every capacity and every distance that a reader may fall behind: what is lost is counted exactly, and what is
/// read is what was published.
#[test]
fn overrun_is_counted_exactly() {
    for capacity in [2_u32, 4, 8, 64] {
        for behind in 0..u64::from(capacity) * 3 + 2 {
            let mut producer = Producer::create(&anonymous(capacity)).unwrap();
            let mut reader = producer.reader();
            for n in 0..behind {
                producer.publish(event(n));
            }
            let mut batch = vec![RingRecord::ZERO; capacity as usize * 4];
            let read = reader.read(&mut batch);
            assert_eq!(read.lost + read.count as u64, behind, "capacity {capacity}");
            let kept = if behind <= u64::from(capacity) { behind } else { u64::from(capacity - (capacity / 4).max(1)) };
            assert_eq!(read.count as u64, kept, "capacity {capacity}, {behind} behind");
            for (at, found) in batch[..read.count].iter().enumerate() {
                let n = read.lost + at as u64;
                assert_eq!(*found, RingRecord { ring_sequence: n, record: event(n) });
            }
        }
    }
}

#[test]
fn seeks() {
    let mut producer = Producer::create(&anonymous(8)).unwrap();
    for n in 0..20 {
        producer.publish(event(n));
    }
    let mut reader = producer.reader();
    assert_eq!((reader.position(), reader.lag()), (20, 0));
    reader.seek_oldest();
    let mut batch = [RingRecord::ZERO; 16];
    assert_eq!(reader.read(&mut batch), Read { count: 8, ..Read::default() });
    assert_eq!(batch[0].ring_sequence, 12);
    reader.seek_oldest();
    reader.seek_newest();
    assert_eq!(reader.read(&mut batch), Read::default());
}

#[test]
fn named_ring_is_found_and_its_name_freed() {
    let name = unique("named");
    let mut producer = Producer::create(&named(&name, 16)).unwrap();
    assert!(barewire_ring::ring_names().unwrap().contains(&name));
    let mut reader = Reader::attach(&name).unwrap();
    assert_eq!(reader.info().epoch, producer.epoch());
    assert_eq!(reader.info().producer_pid, u64::from(std::process::id()));
    producer.publish(event(0));
    assert_eq!(state(&reader, Duration::ZERO), ProducerState::Alive);
    assert_eq!(state(&reader, Duration::from_secs(2)), ProducerState::Stale);
    let beat = UnixNanos(reader.info().heartbeat.0 + 5_000_000_000);
    producer.heartbeat(beat);
    assert_eq!(reader.info().heartbeat, beat);
    assert!(!reader.is_closed());
    producer.close();
    assert!(reader.is_closed());
    assert_eq!(state(&reader, Duration::ZERO), ProducerState::Closed);
    // What was published is still there.
    let mut batch = [RingRecord::ZERO; 4];
    assert_eq!(reader.read(&mut batch), Read { count: 1, ..Read::default() });
    assert!(!path(&name).exists());
    assert_eq!(Reader::attach(&name).err(), Some(RingError::NotFound));
    assert_eq!(reader.reattach(), Err(RingError::NotFound));

    let mut again = Producer::create(&named(&name, 32)).unwrap();
    assert_ne!(again.epoch(), reader.info().epoch);
    assert_eq!(state(&reader, Duration::ZERO), ProducerState::Restarted);
    again.publish(event(7));
    reader.reattach().unwrap();
    assert_eq!(reader.info().capacity, 32);
    assert_eq!(reader.read(&mut batch), Read { count: 1, ..Read::default() });
    assert_eq!(batch[0].record, event(7));
}

#[test]
fn second_producer_is_refused() {
    let name = unique("second");
    let first = Producer::create(&named(&name, 16)).unwrap();
    let pid = u64::from(std::process::id());
    assert_eq!(Producer::create(&named(&name, 16)).err(), Some(RingError::InUse { pid }));
    // A reader that comes and goes takes no lock away.
    drop(Reader::attach(&name).unwrap());
    assert_eq!(Producer::create(&named(&name, 16)).err(), Some(RingError::InUse { pid }));
    drop(first);
    Producer::create(&named(&name, 16)).unwrap();
}

/// The file may be removed under a live producer (by hand, or by a login manager that tidies up): another may then take
/// the name, and keeps it when the first closes.
#[test]
fn a_removed_name_is_not_taken_from_its_next_owner() {
    let name = unique("removed");
    let first = Producer::create(&named(&name, 16)).unwrap();
    let reader = Reader::attach(&name).unwrap();
    fs::remove_file(path(&name)).unwrap();
    assert_eq!(state(&reader, Duration::ZERO), ProducerState::Alive);
    let second = Producer::create(&named(&name, 16)).unwrap();
    assert_eq!(state(&reader, Duration::ZERO), ProducerState::Restarted);
    drop(first);
    assert_eq!(Reader::attach(&name).unwrap().info().epoch, second.epoch());
}

#[test]
fn mode_and_group() {
    let name = unique("mode");
    for mode in [0o600, 0o640] {
        let _producer = Producer::create(&RingConfig { mode, ..named(&name, 16) }).unwrap();
        assert_eq!(fs::metadata(path(&name)).unwrap().permissions().mode() & 0o7777, mode);
    }
    for found in [0, 0o400, 0o644, 0o660, 0o666, 0o606, 0o4640, 0o740] {
        let error = Producer::create(&RingConfig { mode: found, ..named(&name, 16) }).err();
        assert_eq!(error, Some(RingError::Mode { found }));
    }
    let group = fs::metadata("/proc/self").unwrap().gid();
    let _producer = Producer::create(&RingConfig { group: Some(group), ..named(&name, 16) }).unwrap();
    assert_eq!(fs::metadata(path(&name)).unwrap().gid(), group);
}

#[test]
fn what_cannot_be_a_ring_is_refused() {
    for found in [0, 1, 3, 1000, (1 << 26) + 1, 1 << 27] {
        let error = Producer::create(&anonymous(found)).err();
        assert_eq!(error, Some(RingError::Capacity { limit: 1 << 26, found }));
    }
    let error = Producer::create(&RingConfig { instruments: 0, ..anonymous(2) }).err();
    assert_eq!(error, Some(RingError::DirectoryCapacity { limit: 1 << 22, found: 0 }));
    let stat_names = vec![String::from("x"); STATS_WORDS + 1];
    let error = Producer::create(&RingConfig { stat_names, ..anonymous(2) }).err();
    assert_eq!(error, Some(RingError::TooManyStatNames { limit: 512, found: 513 }));
    for bad in ["", "a\nb", "\u{e9}", &"x".repeat(64)] {
        let stat_names = vec![String::from("fine"), bad.to_owned()];
        let error = Producer::create(&RingConfig { stat_names, ..anonymous(2) }).err();
        assert_eq!(error, Some(RingError::StatName { index: 1 }));
    }
    let error = Producer::create(&named("a/b", 16)).err();
    assert_eq!(error, Some(RingError::NameCharacter { offset: 1, found: b'/' }));
}

/// What bears the name and is not a ring is neither read nor replaced.
#[test]
fn foreign_files_are_left_alone() {
    let name = unique("foreign");
    let text = "somebody else's file, long enough that a header could be in it. ".repeat(100);
    fs::write(path(&name), &text).unwrap();
    let magic = RingError::Magic { expected: *b"BAREWIRE", found: *b"somebody" };
    assert_eq!(Reader::attach(&name).err(), Some(magic));
    assert_eq!(Producer::create(&named(&name, 16)).err(), Some(magic));
    assert_eq!(fs::read_to_string(path(&name)).unwrap(), text);
    fs::write(path(&name), "").unwrap();
    assert_eq!(Reader::attach(&name).err(), Some(RingError::Truncated { expected: 128, found: 0 }));
    fs::remove_file(path(&name)).unwrap();

    std::os::unix::fs::symlink("/etc/passwd", path(&name)).unwrap();
    assert_eq!(Reader::attach(&name).err(), Some(RingError::NotAFile));
    assert_eq!(Producer::create(&named(&name, 16)).err(), Some(RingError::NotAFile));
    fs::remove_file(path(&name)).unwrap();

    fs::create_dir(path(&name)).unwrap();
    assert_eq!(Reader::attach(&name).err(), Some(RingError::NotAFile));
    assert_eq!(Producer::create(&named(&name, 16)).err(), Some(RingError::NotAFile));
    fs::remove_dir(path(&name)).unwrap();
    // Nothing is left over from the refused attempts.
    assert!(!PathBuf::from(format!("/dev/shm/.barewire.{name}.next")).exists());
}

#[test]
fn anonymous_ring_through_its_descriptor() {
    let mut producer = Producer::create(&anonymous(16)).unwrap();
    let mut reader = Reader::open_fd(producer.as_fd()).unwrap();
    producer.publish(event(3));
    let mut batch = [RingRecord::ZERO; 4];
    assert_eq!(reader.read(&mut batch), Read { count: 1, ..Read::default() });
    assert_eq!(state(&reader, Duration::ZERO), ProducerState::Alive);
    assert_eq!(reader.reattach(), Err(RingError::NotFound));
    // Sealed: whoever has the descriptor can neither cut the memory off nor write to it.
    let file = fs::File::from(producer.as_fd().try_clone_to_owned().unwrap());
    assert!(file.set_len(0).is_err());
    assert!(std::os::unix::fs::FileExt::write_at(&file, &[0], 0).is_err());
    drop(producer);
    assert_eq!(state(&reader, Duration::ZERO), ProducerState::Closed);
}

/// What is said of huge pages is what there is: at most the ring, in whole ones.
#[test]
fn huge_pages_are_reported() {
    let producer = Producer::create(&anonymous(1 << 17)).unwrap();
    let (huge, total) = (producer.huge_page_bytes(), producer.reader().info().total_bytes);
    eprintln!("{huge} of {total} bytes in huge pages");
    assert!(huge.is_multiple_of(2 << 20) && huge <= total);
}

#[test]
fn directory_names_instruments() {
    let mut producer = Producer::create(&anonymous(2)).unwrap();
    let reader = producer.reader();
    assert_eq!(reader.instrument_count(), 0);
    assert!(reader.instrument(0).is_none());
    producer.add_instrument(7, b"AAPL").unwrap();
    producer.add_instrument(u32::MAX, b"20 bytes of a symbol").unwrap();
    let error = DirectoryError::SymbolTooLong { limit: 20, found: 21 };
    assert_eq!(producer.add_instrument(1, &[b'x'; 21]), Err(error));
    let all: Vec<_> = reader.instruments_from(0).map(|i| (i.instrument_id, i.symbol().to_vec())).collect();
    assert_eq!(all, [(7, b"AAPL".to_vec()), (u32::MAX, b"20 bytes of a symbol".to_vec())]);
    assert_eq!(reader.instruments_from(1).count(), 1);
    assert_eq!(reader.instruments_from(9).count(), 0);
    for id in 2..128 {
        producer.add_instrument(id, b"").unwrap();
    }
    assert_eq!(producer.add_instrument(128, b""), Err(DirectoryError::Full { capacity: 128 }));
    assert_eq!(reader.instrument_count(), 128);
}

#[test]
fn statistics_have_names() {
    let stat_names = vec![String::from("packets"), String::from("messages")];
    let producer = Producer::create(&RingConfig { stat_names: stat_names.clone(), ..anonymous(2) }).unwrap();
    let reader = producer.reader();
    producer.set_stat(1, 42);
    producer.set_stat(STATS_WORDS - 1, 43);
    producer.set_stat(STATS_WORDS, 44);
    assert_eq!(reader.stat_names(), stat_names);
    assert_eq!((reader.stat(0), reader.stat(1), reader.stat(STATS_WORDS)), (Some(0), Some(42), None));
    assert_eq!(reader.stats()[STATS_WORDS - 1], 43);
}
