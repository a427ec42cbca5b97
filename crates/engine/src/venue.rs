//! What a venue has to say for itself: its framing, and what each of its messages does to a book.
//!
//! A new venue is one file beside `nasdaq.rs` that implements [`Venue`], and its layouts in `barewire-wire`.

use barewire_line::{Content, SessionId};
use barewire_types::{Flags, Seq, TsSource, UnixNanos};

use crate::counters::Counters;
use crate::sink::{Publisher, Sink};

/// A packet taken apart as far as sequencing needs it.
pub struct Framed<M> {
    /// The venue's session.
    pub session: SessionId,
    /// Sequence number of the first message, or of the next one where there is none.
    pub sequence: Seq,
    /// What the packet carries.
    pub content: Content,
    /// Whether it held less than it declared, or bytes that belong to no message.
    pub damaged: bool,
    /// Its whole messages. Cloned to look ahead, so it must be a few words.
    pub messages: M,
}

/// How a venue packs messages into packets.
pub trait Framing {
    /// Iterates over a packet's messages in place.
    type Messages<'a>: Iterator<Item = &'a [u8]> + Clone;

    /// Takes a packet apart; `None` when it is not this framing. Walks the packet once.
    fn parse(payload: &[u8]) -> Option<Framed<Self::Messages<'_>>>;

    /// A packet that asks a server for messages of a session again.
    fn request(session: SessionId, first: Seq, count: u16) -> impl AsRef<[u8]>;
}

/// What is known of a message besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The venue's sequence number, or the message's place in a file without numbers.
    pub sequence: u64,
    /// When its packet arrived.
    pub ts_recv: UnixNanos,
    /// By which clock.
    pub ts_source: TsSource,
    /// Flags that every record of the message carries.
    pub flags: Flags,
}

/// Which records a feed publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Order events.
    pub mbo: bool,
    /// Best-bid-and-offer changes.
    pub bbo: bool,
}

/// Which instruments a feed follows, by symbol.
#[derive(Clone, Debug)]
pub enum Subscription {
    /// Every instrument of the venue.
    All,
    /// These symbols, without padding.
    Symbols(std::collections::HashSet<Vec<u8>>),
}

/// A named instrument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// The venue's number.
    pub id: u32,
    /// Its symbol, without padding.
    pub symbol: Vec<u8>,
}

/// One venue's messages, applied to its books.
///
/// The pipeline calls [`look_ahead`](Venue::look_ahead) some messages before [`touch`](Venue::touch), and that some messages
/// before [`apply`](Venue::apply), so that the memory a message needs is on its way when it is needed.
pub trait Venue {
    /// How its messages are packed.
    type Framing: Framing;

    /// Its longest message in bytes.
    const LONGEST_MESSAGE: u16;

    /// Asks for what can be found from the message alone: its order's slot, its instrument's head.
    fn look_ahead(&self, message: &[u8]);

    /// Asks for what can be found from those: its levels.
    fn touch(&self, message: &[u8]);

    /// Does to the books what the message says, and publishes what came of it. Ends in exactly one counter.
    fn apply<S: Sink>(&mut self, message: &[u8], context: &Context, out: &mut Publisher<S>, counters: &mut Counters);

    /// A new session: every book is empty, every instrument's number is void.
    fn restart<S: Sink>(&mut self, context: &Context, out: &mut Publisher<S>);

    /// Messages were lost: every book may be wrong, and is flagged so until it begins anew.
    fn doubt(&mut self);

    /// A snapshot is about to be [applied](Venue::apply): every book is empty, and right from here on. Quotes are held back.
    fn begin_snapshot<S: Sink>(&mut self, context: &Context, out: &mut Publisher<S>);

    /// The snapshot was applied: every quote is told.
    fn end_snapshot<S: Sink>(&mut self, context: &Context, out: &mut Publisher<S>);

    /// Between packets: grows what runs short.
    fn maintain(&mut self, counters: &mut Counters);
}
