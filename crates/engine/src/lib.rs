//! A running feed, composed of the crates that know their own part only.
//!
//! - [`pipeline`]: the way of a packet, from its bytes to records.
//! - [`venue`]: what a venue must say for itself; [`nasdaq`] says it for ITCH 5.0.
//! - [`live`]: the feed thread; [`replay`]: the same pipeline over a file, in the caller's thread.
//! - [`receive`]: which way packets come in.
//! - [`recovery`]: what a feed asks of the world when messages are missing.
//! - [`native`]: a strategy that the feed's thread calls.
//! - [`align`]: several feeds' records as one stream.
//! - [`inspect`]: messages of a file as text.
//! - [`clock`]: how far receive times may be off.
//! - [`counters`]: every statistic; [`sink`]: where records go.
//! - [`bench`]: how fast the parts are.
//!
//! What it does *not* do: know Python, read configuration files, print.

pub mod align;
pub mod bench;
pub mod clock;
pub mod counters;
pub mod digest;
pub mod inspect;
pub mod live;
pub mod nasdaq;
pub mod native;
pub mod pipeline;
pub mod receive;
pub mod recovery;
pub mod replay;
pub mod sink;
pub mod venue;
