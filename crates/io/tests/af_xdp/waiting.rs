//! Waiting, and what the steady state costs.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use barewire_allocs::{Counting, allocations};
use barewire_io::Receiver;
use barewire_io::af_xdp::AfXdpOptions;
use barewire_io::kernel::Mode;

use crate::net::*;
use crate::tools::*;

fn blocking() -> AfXdpOptions {
    AfXdpOptions { mode: Mode::Blocking, ..small() }
}

/// A wait ends with a packet, a wake, a timeout, and something to read from a watched descriptor.
#[test]
fn waits_end_when_they_should() {
    in_namespace(|| {
        let mut receiver = open(&[line(0, A, "left"), line(1, B, "right")], blocking());
        receiver.set_timeout(Some(PATIENCE));
        let mut right = sender("right", RIGHT, false);
        let (begin, begun) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..20_u64 {
                    begun.recv().unwrap();
                    std::thread::sleep(Duration::from_millis(2));
                    send(&mut right, A, [&n.to_be_bytes()[..]]);
                }
            });
            for n in 0..20 {
                begin.send(()).unwrap();
                // Packets of other kinds come too, and end no wait.
                let delivered = receiver.receive(&mut |packet| assert_eq!(number(packet.payload), n)).unwrap();
                assert_eq!(delivered, 1);
            }
        });
        assert_eq!(receiver.counters().idle_waits, 0);

        let waker = receiver.waker();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(5));
                waker.wake();
            });
            let begun = Instant::now();
            assert_eq!(receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);
            assert!(begun.elapsed() < PATIENCE);
        });
        // A wake is used up; one that finds nobody waiting is kept.
        receiver.set_timeout(Some(Duration::from_millis(10)));
        let begun = Instant::now();
        assert_eq!(receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);
        assert!(begun.elapsed() >= Duration::from_millis(10));
        receiver.set_timeout(None);
        waker.wake();
        assert_eq!(receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);

        let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        receiver.watch(reader.as_raw_fd());
        writer.write_all(b"x").unwrap();
        assert_eq!(receiver.receive(&mut |packet| panic!("{packet:?}")).unwrap(), 0);
        assert_eq!(receiver.counters().idle_waits, 4);
    });
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Has the kernel refuse this thread every system call of the kinds that receive, wait or ask, and count it as a crash of
/// the test: SIGSYS.
fn forbid_receiving_calls() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let calls = [
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_ppoll,
        libc::SYS_getsockopt,
        libc::SYS_read,
        libc::SYS_ioctl,
        libc::SYS_clock_gettime,
    ];
    let insn = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = vec![insn(LOAD, 0, 0, 0)];
    for call in calls {
        filter.extend([insn(EQUAL, 0, 1, call as u32), insn(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS)]);
    }
    filter.push(insn(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: both calls concern this thread alone; the program is readable.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
}

/// A busy receiver allocates nothing and makes no system call, whether packets come or not.
#[test]
fn the_busy_loop_stays_out_of_the_kernel() {
    const PACKETS: u64 = 5_000;
    in_namespace(|| {
        let mut receiver = open(&[line(0, A, "left")], small());
        let mut right = sender("right", RIGHT, false);
        let (received, came) = mpsc::channel();
        std::thread::scope(|scope| {
            // Opened before the filter, which threads that are begun later would inherit.
            scope.spawn(move || {
                for first in (0..PACKETS).step_by(50) {
                    let payloads: Vec<_> = (first..first + 50).map(u64::to_be_bytes).collect();
                    send(&mut right, A, payloads.iter().map(|payload| &payload[..]));
                    while came.recv_timeout(PATIENCE).unwrap() < first + 50 {}
                }
            });
            scope.spawn(|| {
                forbid_receiving_calls();
                let begun = Instant::now();
                let (mut next, mut told) = (0, 0);
                let mut clean = true;
                while next < PACKETS {
                    let before = allocations();
                    receiver
                        .receive(&mut |packet| {
                            assert_eq!(number(packet.payload), next);
                            next += 1;
                        })
                        .unwrap();
                    clean &= allocations() == before;
                    // Telling allocates.
                    if next > told {
                        received.send(next).unwrap();
                        told = next;
                    }
                    assert!(begun.elapsed() < PATIENCE, "{next}: {:?}", receiver.counters());
                }
                assert!(clean);
            });
        });
        assert_eq!(receiver.counters().packets, PACKETS);
    });
}
