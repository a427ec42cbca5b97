//! Opening that fails, wherever it does: every system call that it makes is refused in turn.

use std::time::Instant;

use barewire_io::LineConfig;

use crate::any::*;
use crate::net::*;

/// A system call: its number, and where only some of them are meant, an argument's place and value.
type Call = (libc::c_long, Option<(u32, u32)>);

/// Lets a system call of this thread fail, for good.
pub fn refuse(call: Call, code: i32) {
    const RET_ERRNO: u32 = 0x0005_0000;
    const RET_ALLOW: u32 = 0x7fff_0000;
    /// Where `seccomp_data` has the arguments, eight bytes each; the low half comes first.
    const ARGUMENTS: u32 = 16;
    let load = |k| libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k };
    let equal = |k, jf| libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf, k };
    let end = |k| libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k };
    let (number, argument) = call;
    let mut program = vec![load(0), equal(number as u32, if argument.is_some() { 3 } else { 1 })];
    if let Some((place, value)) = argument {
        program.extend([load(ARGUMENTS + 8 * place), equal(value, 1)]);
    }
    program.extend([end(RET_ERRNO | code as u32), end(RET_ALLOW)]);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program and its instructions are readable.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// What this namespace has of sockets and memberships.
pub fn state() -> [usize; 4] {
    let left = |what: &str| {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{what}")).unwrap();
        // Of `igmp`, only the groups' lines are indented; 224.0.0.1 is everybody's.
        let group = |line: &&str| what != "igmp" || (line.starts_with('\t') && !line.contains("010000E0"));
        text.lines().skip(1).filter(group).count()
    };
    ["packet", "igmp", "udp", "mcfilter"].map(left)
}

/// Waits until all is as it was: a test beside this one may just be making a child, which has every descriptor until it
/// runs its program.
pub fn wait_for(clean: [usize; 4], what: &str) {
    let begun = Instant::now();
    while state() != clean {
        assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", state());
        std::thread::yield_now();
    }
}

/// Wherever opening fails, it says so in one line and leaves nothing; and once it is over with, the path opens.
pub fn failures_leave_nothing(path: Path) {
    let mut calls: Vec<Call> = [
        libc::SYS_socket,
        libc::SYS_bind,
        libc::SYS_eventfd2,
        libc::SYS_ioctl,
        libc::SYS_getsockopt,
        libc::SYS_getsockname,
        libc::SYS_sendto,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_register,
    ]
    .map(|call| (call, None))
    .into();
    // Options of sockets of all kinds, by their numbers: sharing, buffers, filters, times, joins, rings, memory.
    let options = [2, 4, 5, 6, 7, 8, 10, 15, 26, 35, 37, 40, 46, 49];
    calls.extend(options.map(|option| (libc::SYS_setsockopt, Some((2, option)))));
    // Maps, their elements, programs, links.
    calls.extend([0, 2, 5, 28].map(|command| (libc::SYS_bpf, Some((0, command)))));
    let lines = [line(0, A, "left"), LineConfig { source: Some(RIGHT), ..line(1, B, "left") }];
    let clean = state();
    let mut failed = 0;
    for call in calls {
        // Of this thread alone, as long as it lives.
        let opened = std::thread::scope(|scope| {
            let open = || {
                refuse(call, libc::ENOMEM);
                Any::try_open(path, &lines, &BLOCKING).map(drop)
            };
            scope.spawn(open).join().unwrap()
        });
        if let Err(error) = opened {
            failed += 1;
            let said = error.to_string();
            assert!(said.starts_with("line ") && !said.contains('\n'), "{call:?}: {said}");
        }
        wait_for(clean, &format!("{path:?} {call:?}"));
    }
    assert!(failed >= 5, "{failed}");
    drop(Any::open(path, &lines, &BLOCKING));
    wait_for(clean, "afterwards");
}
