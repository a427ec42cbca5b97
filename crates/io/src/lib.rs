//! Receive paths, send paths, capture files; clocks, cores, memory and interfaces.
//!
//! This crate moves bytes and says when they arrived. It does not decode a venue's framing, order packets or keep books.
//!
//! - [`Receiver`]: what a receive path is; [`kernel`]: sockets; [`mod@io_uring`]: sockets without a system call for each
//!   batch; [`packet_mmap`]: packet sockets' rings; [`mod@file`]: a capture, line by line as if it were live.
//! - [`send`]: UDP in batches, for the simulator.
//! - [`request`]: asks servers by UDP, and hears only them; [`stream`]: TCP whose waits can be ended.
//! - [`capture`]: reads pcap, pcapng and BinaryFILE, plain or compressed; writes pcap and BinaryFILE.
//! - [`hwstamp`]: whether a card stamps what it receives.
//! - [`legacy`], [`live_frames`], [`netns`]: for benchmarks: what there was before, a sender within the kernel, and machines
//!   within the machine.
//! - [`clock`], [`affinity`], [`memory`], [`interfaces`], [`capabilities`]: what a feed asks of the machine before and
//!   beside its loop, and what it gives up.
//!
//! A new receive path is one module with one type that implements [`Receiver`].
//!
//! Linux only. `unsafe` stands in system calls, in the buffers that the kernel writes, and in the prefetch instruction.

mod bpf;
mod error;
mod frames;
mod membership;
mod nic;
mod packet;
mod senders;
mod socket;
mod waits;
mod wake;

pub mod af_xdp;
pub mod affinity;
pub mod capabilities;
pub mod capture;
pub mod clock;
pub mod dpdk;
pub mod file;
pub mod hwstamp;
pub mod interfaces;
pub mod io_uring;
pub mod kernel;
pub mod legacy;
pub mod legacy_stream;
pub mod live_frames;
pub mod memory;
pub mod netns;
pub mod packet_mmap;
pub mod request;
pub mod send;
pub mod stream;

pub use error::{OpenError, Purpose};
pub use frames::TrailerTimes;
pub use nic::{Clocks, Hardware, MAX_BOUND_NS, SANE_NS, Stamps, UserTimes};
pub use packet::{LineConfig, Packet, Receiver, ReceiverCounters};
pub use senders::{MAX_ALLOWED, Network};
pub use wake::Waker;
