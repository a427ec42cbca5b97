//! Reading captures of every format, byte order and compression, and writing them.

mod common;

use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};

use barewire_io::capture::{
    BinaryFileWriter, Capture, CaptureError, Compression, Damage, End, Format, LinkType, Look, PcapWriter, Watched,
    WriteError,
};
use barewire_types::UnixNanos;
use barewire_wire::frame;
use common::{Contents, Dribble, Kept, Order, PcapNg, binary, gzip, open, pcap, read, zstd};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const TIME: u64 = 1_692_711_000 * SECOND + 7_661_955;

fn contents(frames: Vec<Kept>, end: End) -> Contents {
    Contents { frames, messages: Vec::new(), end }
}

#[test]
fn pcap_in_both_orders_and_units() {
    let frames = [Kept::new(TIME, *b"first"), Kept { original_len: 900, ..Kept::new(TIME + 999, *b"cut") }];
    let micros = frames.clone().map(|frame| Kept { ts: frame.ts / 1000 * 1000, ..frame });
    for order in [Order::Little, Order::Big] {
        let read_pcap = |nanos| read(open(&pcap(order, nanos, 1, &frames).0).unwrap());
        assert_eq!(read_pcap(true), contents(frames.to_vec(), End::Complete));
        assert_eq!(read_pcap(false), contents(micros.to_vec(), End::Complete));
    }
    let mut capture = open(&pcap(Order::Little, true, 1, &frames).0).unwrap();
    assert!(!capture.next_frame().unwrap().unwrap().is_truncated());
    assert!(capture.next_frame().unwrap().unwrap().is_truncated());
    assert_eq!((capture.counters().truncated_frames, capture.counters().bytes), (1, 8));
    assert_eq!((capture.format(), capture.compression()), (Format::Pcap, Compression::None));
    assert!(matches!(capture.next_messages(), Err(CaptureError::NoMessages { format: Format::Pcap })));
}

/// Every block with packets, several interfaces with clocks of their own, two sections in different orders, and blocks
/// of other kinds between them.
#[test]
fn pcapng_in_both_orders_with_all_its_packet_blocks() {
    let data = b"seven b";
    for (first, second) in [(Order::Little, Order::Big), (Order::Big, Order::Little)] {
        let file = PcapNg::new(first)
            .interface(1, 0, None, None)
            .interface(101, 0, Some(9), Some(-5))
            .interface(113, 4, Some(0x80 | 10), Some(1_000))
            .block(5, &[0; 20])
            .enhanced(0, TIME / 1000, data, 7, false)
            .enhanced(1, TIME, data, 7, true)
            .enhanced(2, 3 << 9, data, 99, true)
            .block(0x0bad_cafe, b"custom")
            .simple(data, 7)
            .obsolete(1, TIME + 1, data, 8)
            .section(second)
            .interface(276, 3, Some(3), Some(i64::from(u32::MAX)))
            .enhanced(0, 12_345, b"", 0, false)
            // The interface's limit of 3 bytes says how much of the 4 is packet.
            .simple(b"sim\0", 7);
        let kept = |ts, link, data: &[u8], original_len| Kept { ts, link, data: data.to_vec(), original_len };
        let expected = [
            kept(TIME / 1000 * 1000, LinkType::Ethernet, data, 7),
            kept(TIME - 5 * SECOND, LinkType::RawIp, data, 7),
            kept(1_001 * SECOND + SECOND / 2, LinkType::LinuxSll, data, 99),
            kept(0, LinkType::Ethernet, data, 7),
            kept(TIME + 1 - 5 * SECOND, LinkType::RawIp, data, 8),
            kept(u64::from(u32::MAX) * SECOND + 12_345_000_000, LinkType::LinuxSll2, b"", 0),
            kept(0, LinkType::LinuxSll2, b"sim", 7),
        ];
        let mut capture = open(&file.bytes).unwrap();
        assert_eq!(capture.format(), Format::PcapNg);
        while capture.next_frame().unwrap().is_some() {}
        // Two sections, four interfaces, two others.
        assert_eq!((capture.counters().skipped_blocks, capture.counters().bad_blocks), (8, 0));
        assert_eq!(read(open(&file.bytes).unwrap()), contents(expected.to_vec(), End::Complete));
    }
}

#[test]
fn pcapng_blocks_that_contradict_themselves_are_counted_and_passed() {
    for order in [Order::Little, Order::Big] {
        let mut lying = Vec::new();
        [0, 0, 5, 100, 100].iter().for_each(|word| lying.extend(order.u32(*word)));
        lying.extend([0; 8]);
        let file = PcapNg::new(order)
            // Before any interface is described.
            .simple(b"lost", 4)
            .interface(1, 0, None, None)
            .enhanced(1, 5, b"of no interface", 15, false)
            .obsolete(7, 5, b"of no interface", 15)
            .block(6, &lying)
            .block(6, &lying[..8])
            .enhanced(0, 5, b"good", 4, false);
        let mut capture = open(&file.bytes).unwrap();
        let frame = capture.next_frame().unwrap().unwrap();
        assert_eq!((frame.data, frame.ts), (&b"good"[..], UnixNanos(5_000)));
        assert!(capture.next_frame().unwrap().is_none());
        assert_eq!((capture.counters().bad_blocks, capture.end()), (5, End::Complete));
    }
}

/// 4 GiB are claimed, and neither believed nor allocated; blocks of no interest are passed over by their length alone.
#[test]
fn lengths_that_cannot_be_end_the_file_where_they_stand() {
    let good = Kept::new(TIME, *b"good");
    let end_of = |bytes: &[u8]| read(open(bytes).unwrap()).end;
    for order in [Order::Little, Order::Big] {
        for (claimed, believed) in [(1 << 20, true), ((1 << 20) + 1, false), (u32::MAX, false)] {
            let (mut file, ends) = pcap(order, true, 1, &[good.clone(), good.clone()]);
            let offset = ends[1] as u64;
            file[ends[1] + 8..ends[1] + 12].copy_from_slice(&order.u32(claimed - if believed { 16 } else { 0 }));
            let len = u64::from(claimed) + 16;
            let expected = if believed {
                End::Cut { offset, expected: 1 << 20, found: 20 }
            } else {
                End::Damaged { offset, damage: Damage::RecordTooLong { len } }
            };
            assert_eq!(read(open(&file).unwrap()), contents(vec![good.clone()], expected));
        }
        let ng = || PcapNg::new(order).interface(1, 0, Some(9), None).enhanced(0, TIME, b"good", 4, false);
        let offset = ng().bytes.len() as u64;
        let with = |kind: u32, len: u32| {
            let mut bytes = ng().bytes;
            bytes.extend(order.u32(kind));
            bytes.extend(order.u32(len));
            bytes.extend([0; 24]);
            bytes
        };
        let too_long = Damage::RecordTooLong { len: u64::from(u32::MAX - 3) };
        assert_eq!(end_of(&with(6, u32::MAX - 3)), End::Damaged { offset, damage: too_long });
        let huge = End::Cut { offset, expected: u64::from(u32::MAX - 3), found: 32 };
        assert_eq!(end_of(&with(0x0bad_cafe, u32::MAX - 3)), huge);
        for len in [0, 4, 8, 11, 13, 30] {
            assert_eq!(end_of(&with(6, len)), End::Damaged { offset, damage: Damage::BadBlockLength { len } });
        }
        let differ = Damage::BlockLengthsDiffer { first: 32, last: 0 };
        assert_eq!(end_of(&with(6, 32)), End::Damaged { offset, damage: differ });
        let mut bytes = ng().section(order).bytes;
        bytes[offset as usize + 8] ^= 0xff;
        assert_eq!(end_of(&bytes), End::Damaged { offset, damage: Damage::BadSection });
    }
}

#[test]
fn binary_file_comes_in_batches_and_may_be_left_off() {
    let messages: Vec<Vec<u8>> = (0..40_000usize).map(|n| vec![n as u8; n % 50 + 1]).collect();
    let (file, _) = binary(&messages);
    assert!(file.len() > 1 << 20);
    let mut capture = open(&file).unwrap();
    assert_eq!(capture.format(), Format::BinaryFile);
    assert!(matches!(capture.next_frame(), Err(CaptureError::NoFrames)));
    let (mut seen, mut batches) = (0, 0);
    while let Some(batch) = capture.next_messages().unwrap() {
        batches += 1;
        // Every other batch is left after three messages; what was not taken comes again.
        for message in batch.take(if batches % 2 == 0 { usize::MAX } else { 3 }) {
            assert_eq!(message, messages[seen]);
            seen += 1;
        }
    }
    assert_eq!((seen, capture.end()), (messages.len(), End::Complete));
    assert_eq!(capture.counters().bytes, messages.iter().map(|message| message.len() as u64).sum::<u64>());
}

#[test]
fn binary_file_ends_with_its_record_of_no_length_or_without() {
    let messages = vec![b"Sabc".to_vec(), b"D".to_vec()];
    let (mut file, _) = binary(&messages);
    let expected = |end| Contents { frames: Vec::new(), messages: messages.clone(), end };
    assert_eq!(read(open(&file).unwrap()), expected(End::Complete));
    file.extend([0, 0]);
    assert_eq!(read(open(&file).unwrap()), expected(End::Complete));
    file.extend([9]);
    let end = End::Damaged { offset: 11, damage: Damage::BytesBehindEnd };
    let reader = || Box::new(Cursor::new(file.clone()));
    assert_eq!(read(Capture::from_reader_as(reader(), Format::BinaryFile).unwrap()), expected(end));
    let nothing = Contents { frames: Vec::new(), messages: Vec::new(), end: End::Complete };
    assert_eq!(read(open(&[0, 0]).unwrap()), nothing);
}

/// What is no capture is refused with what it is, unless its format is named and plausible.
#[test]
fn what_is_no_capture_is_refused_with_what_it_is() {
    let refused = |bytes: &[u8]| open(bytes).unwrap_err().to_string();
    let expected = "expected pcap, pcapng or BinaryFILE, plain or within gzip or zstd";
    assert_eq!(refused(b""), format!("the file is empty: {expected}"));
    assert_eq!(
        refused(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"),
        format!(
            "not a capture: {expected}; found a file that begins with 89 50 4e 47 0d 0a 1a 0a 00 00 00 0d 49 48 44 52 \
             \"\\x89PNG\\r\\n\\x1a\\n\\x00\\x00\\x00\\rIHDR\", as a PNG image does"
        )
    );
    assert!(refused(b"symbol,price\nAAPL,189.30\n").ends_with("\"symbol,price\\nAAP\", as text does"));
    assert!(refused(&gzip(b"symbol,price\n", 1)).contains("found gzip around what begins with 73 79"));
    let mut empty_gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    empty_gzip.flush().unwrap();
    assert_eq!(refused(&empty_gzip.finish().unwrap()), format!("the gzip stream is empty: {expected}"));
    let broken = gzip(&[1; 1000], 1);
    assert_eq!(refused(&broken[..12]), "the gzip stream is cut or damaged near byte 12, before its contents show");
    // Lengths that do not lead to one another.
    for bytes in
        [&b"\x00\x05abcde\xff\xffabc"[..], b"\x00\x01", b"\x00\x00\x00\x00", b"\x00\x01A\x00\x00\x00\x01A", b"\x04\x01"]
    {
        assert!(matches!(open(bytes), Err(CaptureError::Unrecognised { .. })), "{bytes:x?}");
    }
    let (file, _) = pcap(Order::Little, true, 1, &[]);
    let as_format = |bytes: &[u8], format| Capture::from_reader_as(Box::new(Cursor::new(bytes.to_vec())), format);
    assert!(matches!(
        as_format(&file, Format::PcapNg),
        Err(CaptureError::OtherFormat { expected: Format::PcapNg, .. })
    ));
    assert_eq!(as_format(&zstd(&file, 1), Format::Pcap).unwrap().format(), Format::Pcap);
    assert_eq!(as_format(b"\xff\xff", Format::BinaryFile).unwrap().format(), Format::BinaryFile);
    let error = Capture::open("/no/such/file").unwrap_err();
    assert!(error.to_string().starts_with("cannot open /no/such/file: No such file"), "{error}");
    assert!(Capture::open("/").unwrap_err().to_string().starts_with("cannot open /: "));
}

/// The operating system's errors are errors, within compressed streams too, and never an end.
#[test]
fn a_reader_that_fails_is_an_error() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
    }
    // Longer than is looked at to find the format.
    let frames: Vec<_> = (0..9_000u32).map(|n| Kept::new(TIME, n.wrapping_mul(2_654_435_761).to_le_bytes())).collect();
    let (file, _) = pcap(Order::Little, true, 1, &frames);
    for bytes in [file.clone(), gzip(&file, 1), zstd(&file, 1)] {
        assert!(bytes.len() > 32 << 10);
        let cut = bytes.len() - 1000;
        let reader = Cursor::new(bytes[..cut].to_vec()).chain(Fails);
        let mut capture = Capture::from_reader(Box::new(reader)).unwrap();
        let error = loop {
            match capture.next_frame() {
                Ok(frame) => assert!(frame.is_some()),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(&error, CaptureError::Read { error, .. } if error.raw_os_error() == Some(libc::EIO)),
            "{error}"
        );
        assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::EIO));
        assert_eq!(capture.end(), End::NotYet);
    }
}

/// A pipe that is being written: each frame is delivered when it is there, without waiting for the next.
#[test]
fn frames_of_a_pipe_come_as_they_are_written() {
    let (read_end, mut write_end) = io::pipe().unwrap();
    let (file, ends) = pcap(Order::Little, true, 1, &[Kept::new(TIME, *b"first"), Kept::new(TIME + 1, *b"second")]);
    write_end.write_all(&file[..ends[0]]).unwrap();
    let mut capture = Capture::from_reader(Box::new(read_end)).unwrap();
    write_end.write_all(&file[ends[0]..ends[1]]).unwrap();
    assert_eq!(capture.next_frame().unwrap().unwrap().data, b"first");
    write_end.write_all(&file[ends[1]..]).unwrap();
    assert_eq!(capture.next_frame().unwrap().unwrap().data, b"second");
    drop(write_end);
    assert!(capture.next_frame().unwrap().is_none());
}

#[test]
fn progress_reaches_the_length_on_disk() {
    let frames: Vec<_> = (0..20_000u64).map(|n| Kept::new(TIME + n, (n * n).to_le_bytes())).collect();
    let (file, _) = pcap(Order::Big, true, 1, &frames);
    let path = std::env::temp_dir().join(format!("barewire-progress-{}", std::process::id()));
    for bytes in [file.clone(), gzip(&file, 3), zstd(&file, 3)] {
        std::fs::write(&path, &bytes).unwrap();
        let mut capture = Capture::open(&path).unwrap();
        let mut last = capture.progress().read;
        while capture.next_frame().unwrap().is_some() {
            let progress = capture.progress();
            assert!(progress.read >= last);
            last = progress.read;
            assert_eq!(progress.total, Some(bytes.len() as u64));
        }
        assert!(last > 0);
        assert_eq!(capture.progress().read, bytes.len() as u64);
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(open(&file).unwrap().progress().total, None);
}

/// The datagram is found below every link layer.
#[test]
fn frames_of_every_link_type_yield_their_datagram() {
    let (src, dst) =
        (SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 7), SocketAddrV4::new(Ipv4Addr::new(239, 1, 2, 3), 8));
    let payload = b"payload";
    let mut ethernet = vec![0; frame::UDP_HEADERS_LEN];
    frame::encode_headers(ethernet[..].first_chunk_mut().unwrap(), src, dst, payload).unwrap();
    ethernet.extend(payload);
    let ip = ethernet[14..].to_vec();
    let behind = |header: &[u8]| [header, &ip].concat();
    let (mut sll, mut sll2) = ([0; 16], [0; 20]);
    (sll[14], sll2[0]) = (8, 8);
    let cases = [
        (1, ethernet.clone()),
        (101, ip.clone()),
        (12, ip.clone()),
        (228, ip.clone()),
        (0, behind(&[2, 0, 0, 0])),
        (0, behind(&[0, 0, 0, 2])),
        (108, behind(&[0, 0, 0, 2])),
        (113, behind(&sll)),
        (276, behind(&sll2)),
    ];
    for (link, data) in cases {
        let (file, _) = pcap(Order::Little, true, link, &[Kept::new(TIME, data.clone())]);
        let mut capture = open(&file).unwrap();
        let found = capture.next_frame().unwrap().unwrap();
        let datagram = found.datagram().unwrap_or_else(|error| panic!("link type {link}: {error}"));
        assert_eq!((datagram.src, datagram.dst, datagram.payload), (src, dst, &payload[..]));
        for len in 0..data.len() {
            let cut = barewire_io::capture::Frame { data: &data[..len], ..found };
            assert!(cut.datagram().is_err() && cut.is_truncated());
        }
    }
    let (file, _) = pcap(Order::Little, true, 147, &[Kept::new(TIME, ip)]);
    let mut capture = open(&file).unwrap();
    let found = capture.next_frame().unwrap().unwrap();
    assert_eq!((found.link, found.datagram()), (LinkType::Other(147), Err(frame::FrameError::NotIpv4)));
}

#[test]
fn what_the_writers_write_is_read_again() {
    let (src, dst) = (SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1), SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 1), 2));
    let mut writer = PcapWriter::new(Vec::new()).unwrap();
    writer.write_datagram(UnixNanos(TIME), src, dst, b"hello").unwrap();
    writer.write_datagram(UnixNanos(TIME + 1), src, dst, &[7; 65_507]).unwrap();
    let error = writer.write_datagram(UnixNanos(TIME + 2), src, dst, &[7; 65_508]).unwrap_err();
    assert!(matches!(error, WriteError::BadLength { len: 65_508, .. }), "{error}");
    writer.write_frame(UnixNanos(TIME + 3), b"not IP").unwrap();
    let mut capture = open(&writer.finish().unwrap()).unwrap();
    for (ts, payload) in [(TIME, b"hello".to_vec()), (TIME + 1, vec![7; 65_507])] {
        let found = capture.next_frame().unwrap().unwrap();
        let datagram = frame::verified_datagram(found.data).unwrap();
        assert_eq!((found.ts.0, datagram.src, datagram.dst, datagram.payload), (ts, src, dst, &payload[..]));
    }
    assert_eq!(capture.next_frame().unwrap().unwrap().data, b"not IP");
    assert!(capture.next_frame().unwrap().is_none());

    let mut writer = BinaryFileWriter::new(Vec::new());
    writer.write_message(&[1; 65_535]).unwrap();
    for bad in [0, 65_536] {
        assert!(matches!(writer.write_message(&vec![1; bad]), Err(WriteError::BadLength { .. })));
    }
    let file = writer.finish_with_end().unwrap();
    assert_eq!((file.len(), &file[..3], &file[65_537..]), (65_539, &[0xff, 0xff, 1][..], &[0, 0][..]));
}

#[test]
fn a_writer_that_fails_says_so_at_the_latest_when_it_finishes() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let writer = PcapWriter::new(Full).unwrap();
    assert!(matches!(writer.finish(), Err(WriteError::Os(error)) if error.raw_os_error() == Some(libc::ENOSPC)));
    let mut writer = BinaryFileWriter::new(Full);
    writer.write_message(b"x").unwrap();
    assert!(matches!(writer.finish(), Err(WriteError::Os(error)) if error.raw_os_error() == Some(libc::ENOSPC)));
}

/// Has nothing yet every other time, and a few bytes the others.
struct Hesitant(Cursor<Vec<u8>>, usize, bool);

impl Read for Hesitant {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.2 = !self.2;
        let some = into.len().min(self.1);
        if self.2 { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(&mut into[..some]) }
    }
}

/// Reads a capture that has nothing yet again and again: (what it held, how often there was nothing).
fn read_patiently(mut capture: Capture) -> (Contents, u32) {
    let mut contents = contents(Vec::new(), End::NotYet);
    let mut nothing_yet = 0;
    capture.stop_waiting();
    loop {
        let result = if capture.format() == Format::BinaryFile {
            capture.next_messages().map(|batch| batch.map(|batch| contents.messages.extend(batch.map(<[u8]>::to_vec))))
        } else {
            capture.next_frame().map(|frame| {
                frame.map(|frame| {
                    let (ts, link, original_len) = (frame.ts.0, frame.link, frame.original_len);
                    contents.frames.push(Kept { ts, link, data: frame.data.to_vec(), original_len });
                })
            })
        };
        match result {
            Ok(Some(())) => {}
            Ok(None) => break,
            Err(error) if error.is_nothing_yet() => nothing_yet += 1,
            Err(error) => panic!("{error}"),
        }
    }
    contents.end = capture.end();
    (contents, nothing_yet)
}

/// Wherever reading was broken off, within headers, skipped blocks and compressed streams too, it goes on there.
#[test]
fn nothing_is_lost_where_nothing_had_come_yet() {
    let mut broken_off = 0;
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (frames_file, _) = pcap(Order::Big, true, 1, &[Kept::new(TIME, *b"first"), Kept::new(TIME + 1, *b"second")]);
    let blocks = PcapNg::new(Order::Little).block(5, &[7; 600]).interface(1, 0, None, None).block(5, &[1; 300]);
    let blocks = blocks.enhanced(0, TIME, b"seven b", 7, true).block(5, &[9; 100]).bytes;
    let (mut messages, _) = binary(&[b"Sabc".to_vec(), b"D".to_vec()]);
    messages.extend([0, 0]);
    let mut stray = messages.clone();
    stray.extend([0, 1, b'X']);
    let cut = blocks[..blocks.len() - 50].to_vec();
    for (file, format) in [
        (frames_file, Format::Pcap),
        (blocks, Format::PcapNg),
        (cut, Format::PcapNg),
        (messages, Format::BinaryFile),
        (stray, Format::BinaryFile),
    ] {
        let whole = read(Capture::from_reader_as(Box::new(Cursor::new(file.clone())), format).unwrap());
        for bytes in [file.clone(), gzip(&file, 2), zstd(&file, 2)] {
            for piece in [1, 2, 3, 7, 64] {
                let asked_by_look = std::sync::Arc::clone(&asked);
                let look = Box::new(move || {
                    asked_by_look.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    Ok(())
                });
                let reader = Box::new(Hesitant(Cursor::new(bytes.clone()), piece, false));
                let (read, nothing_yet) = read_patiently(Capture::from_watched(reader, Some(format), look).unwrap());
                assert_eq!(read, whole, "{format} by {piece}");
                broken_off += nothing_yet;
            }
        }
    }
    let asked = asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!(broken_off > 500 && asked > 100, "{broken_off} {asked}");
}

/// Opening waits for as much as shows what it is, and somebody can end that.
#[test]
fn a_quiet_pipe_can_be_given_up() {
    let (read_end, mut write_end) = io::pipe().unwrap();
    let read_end = File::from(std::os::fd::OwnedFd::from(read_end));
    let watch = |asks: u32| {
        let mut left = asks;
        let look: Look = Box::new(move || {
            left = left.checked_sub(1).ok_or_else(|| io::Error::other("enough"))?;
            Ok(())
        });
        (Box::new(Watched::new(read_end.try_clone().unwrap()).unwrap()), look)
    };
    let (reader, look) = watch(2);
    let error = Capture::from_watched(reader, None, look).unwrap_err();
    assert!(!error.is_nothing_yet());
    assert_eq!(error.to_string(), "cannot read on at byte 0: enough");

    let (file, ends) = pcap(Order::Little, true, 1, &[Kept::new(TIME, *b"first")]);
    let (reader, look) = watch(0);
    write_end.write_all(&file[..ends[0] + 5]).unwrap();
    let mut capture = Capture::from_watched(reader, None, look).unwrap();
    capture.stop_waiting();
    assert!(capture.next_frame().unwrap_err().is_nothing_yet());
    write_end.write_all(&file[ends[0] + 5..]).unwrap();
    assert_eq!(capture.next_frame().unwrap().unwrap().data, b"first");
    assert!(capture.next_frame().unwrap_err().is_nothing_yet());
    drop(write_end);
    assert!(capture.next_frame().unwrap().is_none());
    assert_eq!(capture.end(), End::Complete);
}

fn frames() -> impl Strategy<Value = Vec<Kept>> {
    let frame = (0..u64::from(u32::MAX) * SECOND, prop::collection::vec(any::<u8>(), 0..200), 0..9u32)
        .prop_map(|(ts, data, more)| Kept { original_len: data.len() as u32 + more, ..Kept::new(ts, data) });
    prop::collection::vec(frame, 0..40)
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Little), Just(Order::Big)]
}

/// Plain, in several gzip members, in several zstd frames, and all of these a few bytes at a time.
fn read_every_way(file: &[u8], piece: usize, format: Format) -> Vec<Contents> {
    let files = [file.to_vec(), gzip(file, 3), zstd(file, 3)];
    let whole = files.iter().cloned().map(|file| Capture::from_reader_as(Box::new(Cursor::new(file)), format));
    let dribbled =
        files.iter().cloned().map(|file| Capture::from_reader_as(Box::new(Dribble(Cursor::new(file), piece)), format));
    whole.chain(dribbled).map(|capture| read(capture.unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pcap_reads_as_written(frames in frames(), order in order(), piece in 1..50usize) {
        let (file, _) = pcap(order, true, 1, &frames);
        for found in read_every_way(&file, piece, Format::Pcap) {
            prop_assert_eq!(found, contents(frames.clone(), End::Complete));
        }
    }

    #[test]
    fn any_pcapng_reads_as_written(frames in frames(), order in order(), options: bool, piece in 1..50usize) {
        let mut file = PcapNg::new(order).interface(1, 0, Some(9), None);
        for frame in &frames {
            file = file.enhanced(0, frame.ts, &frame.data, frame.original_len, options);
        }
        for found in read_every_way(&file.bytes, piece, Format::PcapNg) {
            prop_assert_eq!(found, contents(frames.clone(), End::Complete));
        }
    }

    #[test]
    fn any_binary_file_reads_as_written(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2_000), 1..40),
        piece in 1..50usize,
    ) {
        let mut writer = BinaryFileWriter::new(Vec::new());
        messages.iter().for_each(|message| writer.write_message(message).unwrap());
        for found in read_every_way(&writer.finish().unwrap(), piece, Format::BinaryFile) {
            prop_assert_eq!(found, Contents { frames: Vec::new(), messages: messages.clone(), end: End::Complete });
        }
    }
}
