//! What is on the wire: one module a protocol, each with its layouts, its views, its encoding and its table of fields.
//!
//! This crate does not receive, order, count or interpret anything. It takes bytes and says what they hold, and it
//! writes bytes that say so.
//!
//! - [`frame`]: Ethernet II, VLAN tags, IPv4 and UDP, down to the UDP payload and back.
//! - [`moldudp64`]: MoldUDP64 1.00, Nasdaq's sequenced multicast packets and its request for lost ones.
//! - [`binaryfile`]: Nasdaq's BinaryFILE, messages behind their lengths.
//! - [`soupbintcp`]: SoupBinTCP 3.00, Nasdaq's sequenced messages over TCP.
//! - [`itch50`]: Nasdaq TotalView-ITCH 5.0, the messages themselves.
//! - [`glimpse50`]: GLIMPSE 5.0, a snapshot of ITCH 5.0's books.
//! - [`trailers`]: receive times that capture switches write into frames.
//!
//! # Contract
//!
//! Input is untrusted. Every function that takes bytes from outside checks their length first and returns an error, or
//! the bytes' view; it never panics, never allocates and never reads beyond the slice. What a view refers to has been
//! checked once, when the view was made: no accessor fails, and none checks again. Values are *not* checked: a code
//! that no edition of a specification has, a price of any size, text that is not text all decode, and it is for the
//! reader to judge them.
//!
//! Each layout is declared once, with [`layout!`](barewire_types::layout!). The struct is a view by
//! [`zerocopy::FromBytes::ref_from_bytes`], an encoder by [`zerocopy::IntoBytes::as_bytes`] and a table of fields by
//! [`barewire_types::Layout::FIELDS`]; all tables hang from [`PROTOCOLS`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod binaryfile;
pub mod frame;
pub mod glimpse50;
pub mod itch50;
pub mod moldudp64;
pub mod soupbintcp;
mod spec;
pub mod trailers;
mod u48;

pub use spec::{Described, FieldCodes, MessageSpec, ProtocolSpec, Structure, Value, value};
pub use u48::U48;

/// Every protocol this crate knows, with its tables.
pub const PROTOCOLS: &[&ProtocolSpec] =
    &[&itch50::SPEC, &moldudp64::SPEC, &binaryfile::SPEC, &soupbintcp::SPEC, &glimpse50::SPEC, &trailers::SPEC];
