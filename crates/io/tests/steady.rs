//! The loops that run all day: no allocation in sending and receiving, whatever the mode.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use barewire_allocs::{Counting, allocations};
use barewire_io::io_uring::{IoUringOptions, IoUringReceiver};
use barewire_io::kernel::{KernelOptions, KernelReceiver, Mode};
use barewire_io::packet_mmap::{PacketMmapOptions, PacketMmapReceiver};
use barewire_io::send::{Outgoing, SendOptions, UdpSender};
use barewire_io::{LineConfig, OpenError, Receiver};

/// CI can do all of it.
fn skip(error: OpenError) {
    assert!(std::env::var_os("CI").is_none(), "{error}");
    eprintln!("skipped: {error}");
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Sends and receives for a while by one path; afterwards nothing may have been allocated.
fn check(name: &str, line: LineConfig, receiver: &mut impl Receiver) {
    const ROUNDS: u64 = 200;
    const BATCH: u64 = 32;
    receiver.set_timeout(Some(Duration::from_secs(10)));
    // The first call may set things up.
    let mut sender = UdpSender::open(&SendOptions { interface: Some("lo".into()), ..SendOptions::default() }).unwrap();
    let to = SocketAddrV4::new(line.group, line.port);
    sender.send_all(&[Outgoing { to, payload: b"first" }], Duration::from_secs(10)).unwrap();
    while receiver.receive(&mut |_| {}).unwrap() == 0 {}
    for segmentation in [false, true] {
        let options = SendOptions { interface: Some("lo".into()), segmentation, ..SendOptions::default() };
        let mut sender = UdpSender::open(&options).unwrap();
        let payload = [7; 1_000];
        let batch = [Outgoing { to, payload: &payload }; BATCH as usize];
        let (mut packets, mut calls) = (0, 0);
        let before = (allocations(), receiver.counters());
        for _ in 0..ROUNDS {
            assert_eq!(sender.send_all(&batch, Duration::from_secs(10)).unwrap(), BATCH as usize);
            let mut missing = BATCH;
            while missing > 0 {
                let mut take = |packet: barewire_io::Packet<'_>| packets += packet.payload.len() as u64 / 1_000;
                let delivered = receiver.receive(&mut take).unwrap();
                calls += u64::from(delivered > 0);
                missing -= delivered as u64;
            }
        }
        assert_eq!(allocations(), before.0, "{name}");
        assert_eq!(packets, ROUNDS * BATCH);
        // One line: what a call hands over is one batch.
        assert_eq!(calls, receiver.counters().batches - before.1.batches, "{name}");
    }
}

#[test]
fn sending_and_receiving_allocate_nothing() {
    let pid = std::process::id();
    for (n, mode) in [Mode::Busy, Mode::Blocking].into_iter().enumerate() {
        let group = Ipv4Addr::new(239, (pid >> 8) as u8, pid as u8, 200 + n as u8);
        let port = 31_000 + (pid % 1_000) as u16;
        let line = LineConfig { group, port, interface: Some("lo".into()), source: None, allow: Vec::new(), line: 0 };
        let lines = [line.clone()];
        let mut kernel = KernelReceiver::open(&lines, KernelOptions { mode, ..KernelOptions::default() }).unwrap();
        check("kernel", line.clone(), &mut kernel);
        match IoUringReceiver::open(&lines, IoUringOptions { mode, ..IoUringOptions::default() }) {
            Ok(mut receiver) => check("io_uring", line.clone(), &mut receiver),
            Err(error) => skip(error),
        }
        match PacketMmapReceiver::open(&lines, PacketMmapOptions { mode, ..PacketMmapOptions::default() }) {
            Ok(mut receiver) => check("packet_mmap", line.clone(), &mut receiver),
            Err(error) => skip(error),
        }
    }
    // The count itself works.
    let before = allocations();
    drop(std::hint::black_box(vec![1u8]));
    assert_eq!(allocations(), before + 1);
}
