//! Opening the sockets, the ring and its buffers.

use std::io;

use ::io_uring::IoUring;

use super::buffers::{Buffers, CONTROL_LEN};
use super::{BUFFER_GROUP, Header, IoUringCounters, IoUringOptions, IoUringReceiver, Poll};
use crate::Waker;
use crate::error::{OpenError, Purpose};
use crate::kernel::{KernelOptions, Line, LineReport, Mode, clocks, open_line};
use crate::nic::Nics;
use crate::packet::{LineConfig, ReceiverCounters};

/// Lines that one ring serves: as many as a `u8` tells apart.
const MAX_LINES: usize = 1 << 8;
/// Room among the submissions beside the lines': the waker, what is watched, a cancellation.
const SUBMISSIONS_BESIDE: usize = 16;

impl IoUringReceiver {
    /// Opens one socket a line, joins its group, and makes the ring. Receiving begins with the first
    /// [`receive`](crate::Receiver::receive).
    ///
    /// # Errors
    ///
    /// [`OpenError`], [`OpenError::NoIoUring`] where the kernel has none to give; nothing stays open.
    pub fn open(lines: &[LineConfig], options: IoUringOptions) -> Result<IoUringReceiver, OpenError> {
        let in_range = |name, value: usize, max: usize| match value {
            1.. if value <= max => Ok(()),
            _ => Err(OpenError::BadOption { name, value: value as u64, min: 1, max: max as u64 }),
        };
        let Some(first) = lines.first() else { return Err(OpenError::NoLines) };
        in_range("lines", lines.len(), MAX_LINES)?;
        in_range("batch", options.batch, 1024)?;
        in_range("buffers", options.buffers, Buffers::MAX)?;
        in_range("max_datagram", options.max_datagram, usize::from(u16::MAX))?;
        let what = Purpose::Line(first.line);
        let sockets = KernelOptions {
            mode: options.mode,
            rcvbuf_bytes: options.rcvbuf_bytes,
            timestamps: options.timestamps,
            ..KernelOptions::default()
        };
        let mut nics = Nics::default();
        let (lines, reports): (Vec<Line>, Vec<LineReport>) =
            lines.iter().map(|config| open_line(config, &sockets, &mut nics)).collect::<Result<_, _>>()?;
        let waker = Waker::new().map_err(|error| OpenError::Os { what, call: "eventfd", error })?;
        let count = options.buffers.next_power_of_two() as u16;
        let buffers = Buffers::new(count, options.max_datagram);
        let buffers = buffers.map_err(|error| OpenError::Os { what, call: "mmap", error })?;
        let ring = make(&lines, &options, &buffers).map_err(|error| {
            let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
            OpenError::NoIoUring { what, disabled: disabled.and_then(|text| text.trim().parse().ok()), error }
        })?;
        let (clock, clocks) = clocks(&reports, &nics);
        let polls = match options.mode {
            Mode::Busy => Vec::new(),
            Mode::Blocking => waker.fd().into_iter().map(Poll::new).collect(),
        };
        Ok(IoUringReceiver {
            ring,
            to_arm: lines.len(),
            armed: vec![false; lines.len()].into(),
            lines,
            polls,
            header: Header::new(CONTROL_LEN),
            buffers,
            mode: options.mode,
            started: false,
            owner: std::process::id(),
            in_flight: 0,
            timeout: None,
            waker,
            batch: options.batch,
            timestamps: options.timestamps.by_kernel(),
            nics,
            clock,
            clocks,
            counters: ReceiverCounters::default(),
            own: IoUringCounters::default(),
            reports,
        })
    }
}

fn make(lines: &[Line], options: &IoUringOptions, buffers: &Buffers) -> io::Result<IoUring> {
    let submissions = (lines.len() + SUBMISSIONS_BESIDE).next_power_of_two();
    // A completion for each buffer, and for each end of a request: it cannot overflow.
    let completions = (usize::from(buffers.count()) + 2 * submissions).next_power_of_two();
    let mut builder = IoUring::builder();
    builder.setup_cqsize(completions as u32);
    match options.sqpoll {
        Some(sqpoll) => {
            builder.setup_sqpoll(sqpoll.idle_ms);
            if let Some(cpu) = sqpoll.cpu {
                builder.setup_sqpoll_cpu(cpu);
            }
        }
        // Work is done when the feed enters the kernel for it, not when the scheduler interrupts the feed, and a flag
        // in shared memory says when there is some. All by the thread that first receives, so the ring is off until then.
        None => {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_r_disabled();
        }
    }
    let ring = builder.build(submissions as u32)?;
    // SAFETY: the buffers' mapping begins with so many entries at a page, and outlives the ring: it is dropped after it,
    // and only where no request is in flight.
    unsafe {
        ring.submitter().register_buf_ring_with_flags(buffers.ring(), buffers.count(), BUFFER_GROUP, 0)?;
    }
    Ok(ring)
}
