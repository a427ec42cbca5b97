//! The C header: its layout is the one of the field tables, and its reader agrees with ours.

use crate::common::{event, named, unique};
use barewire_ring::{
    DIRECTORY_COUNT_OFFSET, DIRECTORY_OFFSET, HEADER_BYTES, HEARTBEAT_OFFSET, Header, Instrument, LAYOUT_HASH,
    MAX_CAPACITY, MAX_DIRECTORY_CAPACITY, PUBLISHED_OFFSET, Producer, RingConfig, RingRecord, SLOT_BYTES,
    STAT_NAME_BYTES, STAT_NAMES_OFFSET, STATE_OFFSET, STATS_OFFSET, STATS_WORDS, VERSION,
};
use barewire_types::{Bbo, Field, Gap, Layout, Mbo, Record, Status, UnixNanos};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file in the build folder that goes with its value.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Temporary {
        Temporary(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id())))
    }

    fn with(name: &str, text: &str) -> Temporary {
        let file = Temporary::new(name);
        std::fs::write(&file.0, text).unwrap();
        file
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Compiles into a program, warnings being errors; `None`, with the reason printed, without a compiler.
fn compile(source: &Path, name: &str, flags: &[&str]) -> Option<Temporary> {
    let program = Temporary::new(name);
    let output = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .args(flags)
        .arg("-I")
        .arg(repository().join("include"))
        .arg(source)
        .arg("-o")
        .arg(&program.0)
        .output();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(program)
        }
        Err(error) => {
            eprintln!("skipped: no C compiler (cc: {error})");
            None
        }
    }
}

fn assert_layout(c: &mut String, name: &str, fields: &[Field]) {
    let mut size = 0;
    for Field { name: field, offset, len, .. } in fields {
        writeln!(c, "SAME(offsetof(struct {name}, {field}), {offset});").unwrap();
        writeln!(c, "SAME(sizeof(((struct {name} *)0)->{field}), {len});").unwrap();
        size += len;
    }
    writeln!(c, "SAME(sizeof(struct {name}), {size});").unwrap();
}

/// The compiler compares every offset, size and constant of the header with the tables that this crate is built from.
#[test]
fn header_has_the_layout_of_the_tables() {
    let mut c = String::from("#include \"barewire_ring.h\"\n#define SAME(a, b) _Static_assert((a) == (b), #a)\n");
    assert_layout(&mut c, "barewire_ring_header", Header::FIELDS);
    assert_layout(&mut c, "barewire_ring_instrument", Instrument::FIELDS);
    assert_layout(&mut c, "barewire_mbo", Mbo::FIELDS);
    assert_layout(&mut c, "barewire_bbo", Bbo::FIELDS);
    assert_layout(&mut c, "barewire_gap", Gap::FIELDS);
    assert_layout(&mut c, "barewire_status", Status::FIELDS);
    for (name, value) in [
        ("BAREWIRE_RING_VERSION", u64::from(VERSION)),
        ("BAREWIRE_RING_LAYOUT_HASH", LAYOUT_HASH),
        ("BAREWIRE_RING_HEADER_BYTES", HEADER_BYTES as u64),
        ("BAREWIRE_RING_PUBLISHED_OFFSET", PUBLISHED_OFFSET as u64),
        ("BAREWIRE_RING_HEARTBEAT_OFFSET", HEARTBEAT_OFFSET as u64),
        ("BAREWIRE_RING_STATE_OFFSET", STATE_OFFSET as u64),
        ("BAREWIRE_RING_DIRECTORY_COUNT_OFFSET", DIRECTORY_COUNT_OFFSET as u64),
        ("BAREWIRE_RING_STATS_OFFSET", STATS_OFFSET as u64),
        ("BAREWIRE_RING_STATS_WORDS", STATS_WORDS as u64),
        ("BAREWIRE_RING_STAT_NAMES_OFFSET", STAT_NAMES_OFFSET as u64),
        ("BAREWIRE_RING_STAT_NAME_BYTES", STAT_NAME_BYTES as u64),
        ("BAREWIRE_RING_DIRECTORY_OFFSET", DIRECTORY_OFFSET as u64),
        ("BAREWIRE_RING_MAX_CAPACITY", u64::from(MAX_CAPACITY)),
        ("BAREWIRE_RING_MAX_DIRECTORY_CAPACITY", u64::from(MAX_DIRECTORY_CAPACITY)),
        ("sizeof(struct barewire_ring_slot)", SLOT_BYTES as u64),
        ("sizeof(struct barewire_ring_record)", size_of::<RingRecord>() as u64),
    ] {
        writeln!(c, "SAME({name}, {value:#x}ull);").unwrap();
    }
    c.push_str("int main(void) { return 0; }\n");
    compile(&Temporary::with("layout.c", &c).0, "layout", &["-std=gnu11"]);
}

/// The documentation's tables are the field tables, and the code it shows compiles.
#[test]
fn page_has_the_layout_of_the_tables() {
    let page = std::fs::read_to_string(repository().join("docs/ring.md")).unwrap();
    for Field { name, offset, len, .. } in Header::FIELDS.iter().chain(Instrument::FIELDS) {
        let row = format!("| {offset} | {len} | `{name}` |");
        assert!(page.contains(&row), "docs/ring.md lacks the row {row}");
    }
    for (offset, what) in [
        (PUBLISHED_OFFSET, "u64 `published`"),
        (HEARTBEAT_OFFSET, "u64 `heartbeat`"),
        (STATE_OFFSET, "u64 `state`"),
        (DIRECTORY_COUNT_OFFSET, "u64 `directory_count`"),
        (STATS_OFFSET, "statistics"),
        (STAT_NAMES_OFFSET, "names of the statistics"),
        (DIRECTORY_OFFSET, "instrument directory"),
    ] {
        assert!(page.contains(&format!("| {offset} | {what}")), "docs/ring.md: {what}");
    }
    assert!(page.contains(&format!("{LAYOUT_HASH:#018x}")), "docs/ring.md: layout hash");
    let (_, code) = page.split_once("```c\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    compile(&Temporary::with("page.c", code).0, "page", &["-std=gnu11"]);
}

#[test]
fn header_is_cpp_too() {
    let source = Temporary::with("header.cpp", "#include \"barewire_ring.h\"\nint main() { return 0; }\n");
    if Command::new("c++").arg("--version").output().is_ok() {
        compile(&source.0, "header", &["-std=gnu++11"]);
    } else {
        eprintln!("skipped: no C++ compiler");
    }
}

/// The C reader, told what to do.
struct CReader {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl CReader {
    fn start(program: &Path, ring: &str) -> CReader {
        let mut child = Command::new(program).arg(ring).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        CReader { child, lines }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }
}

impl Drop for CReader {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both readers go through the same ring in lockstep, at every distance up to three laps, and give the same answers;
/// then the C one follows a producer that does not wait for it.
#[test]
fn c_reader_agrees_with_ours() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lockstep.c");
    let Some(program) = compile(&source, "lockstep", &["-std=gnu11"]) else { return };
    let ring = unique("c");
    let stat_names = vec![String::from("packets"), String::from("messages")];
    let mut producer = Producer::create(&RingConfig { stat_names, ..named(&ring, 16) }).unwrap();
    let mut ours = producer.reader();
    let mut c = CReader::start(&program.0, &ring);
    assert_eq!(c.answer(), "0");

    let mut batch = [RingRecord::ZERO; 10];
    for burst in (0..50).chain([0, 0, 0, 0]) {
        for _ in 0..burst {
            producer.publish(event(producer.published()));
        }
        let read = ours.read(&mut batch);
        let first = ours.position() - read.count as u64;
        assert_eq!(c.ask("read 10"), format!("{} {} {first}", read.count, read.lost), "burst {burst}");
    }

    producer.set_stat(1, 77);
    producer.heartbeat(UnixNanos(123));
    producer.add_instrument(1, b"A").unwrap();
    producer.add_instrument(2, b"20 bytes of a symbol").unwrap();
    let published = producer.published();
    assert_eq!(c.ask("about"), format!("16 {published} 123 0 2 2 20 bytes of a symbol messages 77"));

    c.tell("end");
    let target = published + 2_000_000;
    for n in published..target {
        producer.publish(event(n));
    }
    producer.close();
    let answer = c.answer();
    let numbers: Vec<u64> = answer.split(' ').map(|word| word.parse().expect(&answer)).collect();
    assert_eq!(numbers[0] + numbers[1], target - ours.position(), "{answer}");

    // What is no ring, or none of that name, is refused by an error number.
    let path = format!("/dev/shm/barewire.{ring}");
    assert_eq!(CReader::start(&program.0, &ring).answer(), libc::ENOENT.to_string());
    for text in [&b"not a ring"[..], &[b'x'; 5000]] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(CReader::start(&program.0, &ring).answer(), libc::EPROTO.to_string());
    }
    std::fs::remove_file(path).unwrap();
    assert_eq!(CReader::start(&program.0, "../x").answer(), libc::EINVAL.to_string());
}

/// The example that we ship prints the events of a ring.
#[test]
fn example_prints_events() {
    let Some(program) = compile(&repository().join("examples/ring_reader.c"), "ring_reader", &[]) else { return };
    let ring = unique("example");
    let mut producer = Producer::create(&named(&ring, 16)).unwrap();
    let mbo = Mbo {
        instrument_id: 9,
        kind: 1,
        sequence: 1000,
        price: 189_300_000_000,
        size: 100,
        action: b'A',
        side: b'B',
        ..Mbo::from(Record([0; 7]))
    };
    producer.publish(mbo.into());
    producer.publish(Gap { kind: 3, sequence: 1001, ..Gap::from(Record([0; 7])) }.into());
    let mut child = Command::new(&program.0).arg(&ring).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Its output is buffered and ends with the ring; but it must have attached before that, by its name.
    while !std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap().contains(&ring) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its ring did");
        std::thread::yield_now();
    }
    producer.close();
    assert_eq!(lines.next().unwrap().unwrap(), "0 kind=1 instrument=9 sequence=1000 A B 100 @ 189.3000");
    assert_eq!(lines.next().unwrap().unwrap(), "1 kind=3 instrument=0 sequence=1001");
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
}
