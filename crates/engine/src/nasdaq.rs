//! Nasdaq TotalView-ITCH 5.0: what each message does to a book and what it tells a strategy.
//!
//! Records follow Databento's vocabulary. A displayed order's execution (`E`, `C`) is told as trade, fill and cancel; the trade
//! is left out where the venue says that the execution is not printable, for its volume will be in a cross. A replace (`U`)
//! is a cancel and an add, for the new order has lost its priority and its number. `P` and `Q` are trades; their side is not
//! known (the specification has said `B` for every `P` since 2014). A `bbo` follows the order events of a message that
//! changed the best price of a side, or the size at it.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use barewire_book::{BookError, Books, Capacity, Change, OutOfMemory, Top};
use barewire_io::memory;
use barewire_line::{Content, SessionId};
use barewire_types::{
    Action, Bbo, Flags, Mbo, Prefetch, Price, Record, RecordKind, Seq, Side, Status, StatusCode, TsSource, UnixNanos,
};
use barewire_wire::itch50::{self, ItchError, Message};
use barewire_wire::moldudp64::{Messages, Packet, PacketKind, Request, Session};

use crate::counters::{Counter, Counters};
use crate::sink::{Publisher, Sink};
use crate::venue::{Context, Framed, Framing, Instrument, Publish, Subscription, Venue};

/// MoldUDP64 1.00.
pub struct MoldUdp64;

impl Framing for MoldUdp64 {
    type Messages<'a> = Messages<'a>;

    #[inline]
    fn parse(payload: &[u8]) -> Option<Framed<Messages<'_>>> {
        let packet = Packet::parse(payload).ok()?;
        if packet.kind() == PacketKind::Messages && packet.whole() == 0 {
            // It declares messages and holds none: not a heartbeat.
            return None;
        }
        let mut session = [0; 16];
        session[..10].copy_from_slice(&packet.session().0);
        Some(Framed {
            session: SessionId(u128::from_le_bytes(session)),
            sequence: packet.sequence(),
            content: match packet.kind() {
                PacketKind::Messages => Content::Messages(packet.whole().into()),
                PacketKind::Heartbeat => Content::Heartbeat,
                PacketKind::EndOfSession => Content::EndOfSession,
            },
            damaged: packet.is_damaged(),
            messages: packet.messages(),
        })
    }

    fn request(session: SessionId, first: Seq, count: u16) -> impl AsRef<[u8]> {
        let mut name = [0; 10];
        name.copy_from_slice(&session.0.to_le_bytes()[..10]);
        Request { session: Session(name), sequence: first, count }.encode()
    }
}

/// What is known of one locate code, as bits, so that its doubt is a record's flag as it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Known(u8);

impl Known {
    /// No message has named it yet.
    const NEW: Known = Known(0);
    /// Its book is kept.
    const FOLLOWED: u8 = 1;
    /// It was named, and is not subscribed.
    const IGNORED: u8 = 2;
    /// Its book may be wrong.
    const DOUBTED: u8 = Flags::MAYBE_STALE.0;
}

/// How the handler is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which venue the records name.
    pub publisher_id: u8,
    /// Midnight US Eastern of the trading day, ns since 1970: the wire counts from there.
    pub midnight_ns: u64,
    /// Which instruments to follow.
    pub subscription: Subscription,
    /// Which records to publish.
    pub publish: Publish,
    /// Room in the books.
    pub capacity: Capacity,
}

/// The handler: books, and the day's directory.
pub struct Nasdaq<P: Prefetch> {
    books: Books<P>,
    known: Box<[Known; LOCATES]>,
    symbols: Box<[[u8; 8]]>,
    instruments: Vec<Instrument>,
    wanted: Option<HashSet<Vec<u8>>>,
    publish: Publish,
    /// Whether quotes are to be told; while a snapshot is applied they are not, whatever `publish` says.
    wants_bbo: bool,
    publisher_id: u8,
    midnight_ns: u64,
}

/// Locate codes are two bytes.
const LOCATES: usize = 1 << 16;

/// Room for a whole venue on a busy day, without growth. Memory that is not used is not touched.
pub const WHOLE_VENUE: Capacity = Capacity { instruments: LOCATES as u32, orders: 1 << 21, levels: 1 << 20 };

impl<P: Prefetch> Nasdaq<P> {
    /// Empty books. Takes all the memory that the capacity asks for.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], where the system has less.
    pub fn new(setup: Setup, prefetch: P) -> Result<Self, OutOfMemory> {
        // A seed of its own, so that nobody can choose order numbers that collide in the table.
        let seed = RandomState::new().hash_one(0);
        Ok(Nasdaq {
            books: Books::try_new(setup.capacity, prefetch, seed)?,
            known: Box::new([Known::NEW; LOCATES]),
            symbols: vec![[0; 8]; LOCATES].into_boxed_slice(),
            instruments: Vec::new(),
            wanted: match setup.subscription {
                Subscription::All => None,
                Subscription::Symbols(symbols) => Some(symbols),
            },
            publish: setup.publish,
            wants_bbo: setup.publish.bbo,
            publisher_id: setup.publisher_id,
            midnight_ns: setup.midnight_ns,
        })
    }

    /// Whether a message has named this instrument, and it is followed.
    pub fn is_named(&self, instrument_id: u32) -> bool {
        self.known.get(instrument_id as usize).is_some_and(|known| known.0 & Known::FOLLOWED != 0)
    }

    /// Whether this instrument's book may be wrong: messages were lost, or an order found no room, and it has not begun
    /// anew since. It does with a snapshot, a new session, or when the venue gives the instrument's number to another.
    pub fn is_doubted(&self, instrument_id: u32) -> bool {
        self.known.get(instrument_id as usize).is_some_and(|known| known.0 & Known::DOUBTED != 0)
    }

    /// The books, by locate code.
    pub fn books(&self) -> &Books<P> {
        &self.books
    }

    /// The instruments named so far, in the order they were named.
    pub fn instruments(&self) -> &[Instrument] {
        &self.instruments
    }

    /// Empties every book and forgets every name.
    pub fn empty(&mut self) {
        self.books.clear_all();
        self.known.fill(Known::NEW);
        self.instruments.clear();
    }

    /// Sets the trading day, before the first message.
    pub fn set_midnight(&mut self, midnight_ns: u64) {
        self.midnight_ns = midnight_ns;
    }

    /// Whether the instrument is followed; a message that carries a symbol names an instrument not yet named.
    #[inline(always)]
    fn follows<S: Sink>(
        &mut self,
        locate: u16,
        symbol: Option<&[u8; 8]>,
        out: &mut Publisher<S>,
        counters: &mut Counters,
    ) -> bool {
        match self.known[usize::from(locate)].0 & (Known::FOLLOWED | Known::IGNORED) {
            Known::FOLLOWED => true,
            Known::IGNORED => false,
            _ => self.name(locate, symbol, out, counters),
        }
    }

    /// The flags of an instrument's records.
    #[inline(always)]
    fn flags(&self, locate: u16, context: &Context) -> u8 {
        context.flags.0 | self.known[usize::from(locate)].0 & Known::DOUBTED
    }

    /// Names an instrument. Allocates: once an instrument and session.
    #[cold]
    fn name<S: Sink>(
        &mut self,
        locate: u16,
        symbol: Option<&[u8; 8]>,
        out: &mut Publisher<S>,
        counters: &mut Counters,
    ) -> bool {
        let Some(symbol) = symbol else {
            // A joiner in mid-session meets orders of instruments it has no name for: kept unless symbols were asked for.
            return self.wanted.is_none();
        };
        let (id, index) = (u32::from(locate), usize::from(locate));
        let announced = self.symbols[index] == *symbol;
        self.symbols[index] = *symbol;
        let symbol = symbol.trim_ascii_end();
        let followed = self.wanted.as_ref().is_none_or(|wanted| wanted.contains(symbol));
        self.known[index].0 |= if followed { Known::FOLLOWED } else { Known::IGNORED };
        if followed {
            self.instruments.push(Instrument { id, symbol: symbol.to_vec() });
            counters.set(Counter::Instruments, self.instruments.len() as u64);
            // A name that the ring had from an earlier session, it has still.
            if !announced && !out.sink_mut().name_instrument(id, symbol) {
                counters.bump(Counter::DirectoryOverflow);
            }
        }
        followed
    }

    /// A day begins: of a feed that ran overnight, it is another than the one it was configured for. Whole days, so that a
    /// change to or from summer time in between would leave an hour's error; such days have no trading before them.
    #[cold]
    fn begin_day(&mut self, timestamp_ns: u64, context: &Context) {
        const DAY_NS: i64 = 86_400_000_000_000;
        // A capture's day is the user's to say.
        if context.ts_recv == UnixNanos::ABSENT || context.ts_source == TsSource::Capture {
            return;
        }
        let late =
            context.ts_recv.0.cast_signed().wrapping_sub(self.midnight_ns.wrapping_add(timestamp_ns).cast_signed());
        let days = late.saturating_add(DAY_NS / 2).div_euclid(DAY_NS);
        self.midnight_ns = self.midnight_ns.wrapping_add_signed(days.wrapping_mul(DAY_NS));
    }

    /// An instrument's number is another's from now on: its book and name are void. One entry an instrument, whatever comes.
    #[cold]
    fn forget<S: Sink>(&mut self, at: &At<'_>, out: &mut Publisher<S>) {
        if let Some(known) = self.known.get_mut(at.instrument as usize) {
            *known = Known::NEW;
        }
        self.instruments.retain(|instrument| instrument.id != at.instrument);
        if self.books.clear(at.instrument).is_ok() && self.publish.mbo {
            self.tell(at, self.mbo(at, Action::Clear, Side::None, 0, Price::UNDEF, 0), out);
        }
    }

    #[inline(always)]
    fn mbo(&self, at: &At<'_>, action: Action, side: Side, order_id: u64, price: Price, size: u32) -> Mbo {
        Mbo {
            ts_event: at.ts_event,
            ts_recv: at.context.ts_recv.0,
            sequence: at.context.sequence,
            instrument_id: at.instrument,
            publisher_id: self.publisher_id,
            kind: RecordKind::Mbo as u8,
            flags: at.flags,
            ts_source: at.context.ts_source as u8,
            order_id,
            price: price.0,
            size,
            action: action as u8,
            side: side as u8,
            reserved: [0; 2],
        }
    }

    /// Publishes a record of an instrument, or of the whole feed where that is 0.
    #[inline(always)]
    fn tell<S: Sink>(&self, at: &At<'_>, record: impl Into<Record>, out: &mut Publisher<S>) {
        out.push_of(record, || self.top(at.instrument));
    }

    /// For callbacks: out of the way of feeds that have none.
    #[cold]
    #[inline(never)]
    fn top(&self, instrument: u32) -> Top {
        self.books.top(instrument)
    }

    #[inline(always)]
    fn bbo<S: Sink>(&self, at: &At<'_>, out: &mut Publisher<S>) {
        if !self.publish.bbo {
            return;
        }
        let top = self.books.top(at.instrument);
        let bbo = Bbo {
            ts_event: at.ts_event,
            ts_recv: at.context.ts_recv.0,
            sequence: at.context.sequence,
            instrument_id: at.instrument,
            publisher_id: self.publisher_id,
            kind: RecordKind::Bbo as u8,
            flags: at.flags,
            ts_source: at.context.ts_source as u8,
            bid_price: top.bid_price.0,
            ask_price: top.ask_price.0,
            bid_size: u32::try_from(top.bid_size).unwrap_or(u32::MAX),
            ask_size: u32::try_from(top.ask_size).unwrap_or(u32::MAX),
        };
        out.push_of(bbo, || top);
    }

    fn status<S: Sink>(
        &self,
        at: &At<'_>,
        code: StatusCode,
        state: u8,
        reason: [u8; 4],
        value: u64,
        out: &mut Publisher<S>,
    ) {
        let status = Status {
            ts_event: at.ts_event,
            ts_recv: at.context.ts_recv.0,
            sequence: at.context.sequence,
            instrument_id: at.instrument,
            publisher_id: self.publisher_id,
            kind: RecordKind::Status as u8,
            flags: at.flags,
            ts_source: at.context.ts_source as u8,
            value,
            code: code as u8,
            state,
            reason,
            reserved: [0; 10],
        };
        self.tell(at, status, out);
    }

    /// An order enters a book.
    #[inline(always)]
    fn add<S: Sink>(
        &mut self,
        at: &At<'_>,
        id: u64,
        buy_sell: u8,
        price: u32,
        shares: u32,
        out: &mut Publisher<S>,
    ) -> Counter {
        let Some(side) = side(buy_sell) else { return Counter::BookInvalid };
        match self.books.add(at.instrument, id, side, itch50::price4(price), shares) {
            Ok(change) => {
                if self.publish.mbo {
                    self.tell(at, self.mbo(at, Action::Add, side, id, change.price, shares), out);
                }
                if change.top_changed {
                    self.bbo(at, out);
                }
                Counter::MessagesBook
            }
            Err(error) => self.refused(at.instrument, error),
        }
    }

    /// The counter of an order that a book refused; for want of room, the book lacks what the venue has.
    #[cold]
    fn refused(&mut self, instrument: u32, error: BookError) -> Counter {
        let counter = refusal(error);
        if counter == Counter::BookOutOfCapacity
            && let Some(known) = self.known.get_mut(instrument as usize)
        {
            known.0 |= Known::DOUBTED;
        }
        counter
    }

    /// An order shrinks or goes: the cancel, and the quote where it changed.
    #[inline(always)]
    fn taken<S: Sink>(&self, at: &At<'_>, id: u64, change: &Change, out: &mut Publisher<S>) {
        if self.publish.mbo {
            self.tell(at, self.mbo(at, Action::Cancel, change.side, id, change.price, change.size), out);
        }
        if change.top_changed {
            self.bbo(at, out);
        }
    }

    /// A displayed order is executed at `price`, or at its own.
    #[inline(always)]
    fn execute<S: Sink>(
        &mut self,
        at: &At<'_>,
        id: u64,
        shares: u32,
        price: Option<Price>,
        printable: bool,
        out: &mut Publisher<S>,
    ) -> Counter {
        match self.books.reduce(id, shares) {
            Ok(change) => {
                let at = &At { instrument: change.instrument, ..*at };
                if self.publish.mbo {
                    let price = price.unwrap_or(change.price);
                    if printable {
                        self.tell(at, self.mbo(at, Action::Trade, change.side.opposite(), 0, price, change.size), out);
                    }
                    self.tell(at, self.mbo(at, Action::Fill, change.side, id, price, change.size), out);
                }
                self.taken(at, id, &change, out);
                reduced(&change, shares)
            }
            Err(error) => refusal(error),
        }
    }

    fn trade<S: Sink>(&self, at: &At<'_>, price: u32, size: u32, out: &mut Publisher<S>) -> Counter {
        if self.publish.mbo && size > 0 {
            self.tell(at, self.mbo(at, Action::Trade, Side::None, 0, itch50::price4(price), size), out);
        }
        Counter::MessagesTrade
    }
}

/// Where and when a message happened.
#[derive(Clone, Copy)]
struct At<'a> {
    context: &'a Context,
    instrument: u32,
    ts_event: u64,
    flags: u8,
}

#[inline(always)]
fn side(buy_sell: u8) -> Option<Side> {
    match buy_sell {
        b'B' => Some(Side::Bid),
        b'S' => Some(Side::Ask),
        _ => None,
    }
}

#[inline(always)]
fn reduced(change: &Change, asked: u32) -> Counter {
    if change.size < asked { Counter::BookOverReduced } else { Counter::MessagesBook }
}

/// What looking ahead needs of a message.
struct Ahead {
    kind: u8,
    locate: u32,
    /// The order's number, in every message that names an order.
    id: u64,
}

#[inline(always)]
fn ahead(message: &[u8]) -> Option<Ahead> {
    let &[kind, high, low, _, _, _, _, _, _, _, _, id @ ..] = message.first_chunk::<19>()?;
    Some(Ahead { kind, locate: u16::from_be_bytes([high, low]).into(), id: u64::from_be_bytes(id) })
}

/// The counter of a change that the books refused.
#[cold]
fn refusal(error: BookError) -> Counter {
    match error {
        BookError::UnknownOrder => Counter::BookUnknownOrder,
        BookError::DuplicateOrder => Counter::BookDuplicateOrder,
        BookError::OutOfCapacity | BookError::BadInstrument | BookError::AtLimit => Counter::BookOutOfCapacity,
        // BadSide, ZeroSize, UndefinedPrice, and what the books may learn to refuse.
        _ => Counter::BookInvalid,
    }
}

impl<P: Prefetch> Venue for Nasdaq<P> {
    type Framing = MoldUdp64;

    const LONGEST_MESSAGE: u16 = itch50::MAX_LEN as u16;

    /// Kinds of messages alternate unforeseeably, so this treats them alike: bytes that are no order number cost a prefetch
    /// of some line, which is cheaper than a branch that goes wrong.
    #[inline(always)]
    fn look_ahead(&self, message: &[u8]) {
        let Some(Ahead { kind, locate, id }) = ahead(message) else { return };
        self.books.prefetch_order(id);
        let is_add = matches!(kind, b'A' | b'F');
        // Where there is no price and side, bytes that every message has: whether they are there must not be a question.
        let (side_at, price_at) = if is_add { (19, 32) } else { (0, 0) };
        let (Some(side), Some(price)) =
            (message.get(side_at), message.get(price_at..price_at + 4).and_then(|bytes| bytes.first_chunk()))
        else {
            return;
        };
        let side = if *side == b'S' { Side::Ask } else { Side::Bid };
        let price = u32::from_be_bytes(*price);
        self.books.prefetch_level(is_add, locate, side, itch50::price4(price));
        self.books.prefetch_instrument(locate);
        // A replace's new order, at 19: rare enough for a branch.
        if kind == b'U'
            && let Some(new) = message.get(19..).and_then(|rest| rest.first_chunk())
        {
            self.books.prefetch_order(u64::from_be_bytes(*new));
        }
    }

    #[inline(always)]
    fn touch(&self, message: &[u8]) {
        if let Some(Ahead { id, .. }) = ahead(message) {
            self.books.prefetch_levels_of(id);
        }
    }

    #[inline(always)]
    fn apply<S: Sink>(&mut self, message: &[u8], context: &Context, out: &mut Publisher<S>, counters: &mut Counters) {
        let counter = match Message::dispatch(message, |message| self.message(message, context, out, counters)) {
            Ok(counter) => counter,
            Err(ItchError::Empty) => Counter::MessagesEmpty,
            Err(ItchError::BadLength { .. }) => Counter::MessagesBadLength,
            Err(_) => Counter::MessagesUnknownType,
        };
        counters.bump(counter);
    }

    fn restart<S: Sink>(&mut self, context: &Context, out: &mut Publisher<S>) {
        self.empty();
        let at = At { context, instrument: 0, ts_event: 0, flags: context.flags.0 };
        self.tell(&at, self.mbo(&at, Action::Clear, Side::None, 0, Price::UNDEF, 0), out);
        self.status(&at, StatusCode::SessionStart, 0, [0; 4], 0, out);
    }

    fn doubt(&mut self) {
        self.known.iter_mut().for_each(|known| known.0 |= Known::DOUBTED);
    }

    fn begin_snapshot<S: Sink>(&mut self, context: &Context, out: &mut Publisher<S>) {
        self.empty();
        self.publish.bbo = false;
        let at = At { context, instrument: 0, ts_event: 0, flags: context.flags.0 };
        if self.publish.mbo {
            self.tell(&at, self.mbo(&at, Action::Clear, Side::None, 0, Price::UNDEF, 0), out);
        }
    }

    fn end_snapshot<S: Sink>(&mut self, context: &Context, out: &mut Publisher<S>) {
        self.publish.bbo = self.wants_bbo;
        for instrument in &self.instruments {
            let flags = context.flags.0 | self.known[instrument.id as usize].0 & Known::DOUBTED;
            self.bbo(&At { context, instrument: instrument.id, ts_event: 0, flags }, out);
        }
        let at = At { context, instrument: 0, ts_event: 0, flags: context.flags.0 };
        self.status(&at, StatusCode::Recovered, 0, [b' '; 4], 0, out);
    }

    #[inline]
    fn maintain(&mut self, counters: &mut Counters) {
        // Advice that is not taken costs speed, nothing else.
        if self.books.maintain_with(|table| drop(memory::advise_huge(table))) {
            counters.bump(Counter::BookGrowths);
        }
        counters.set(Counter::LiveOrders, self.books.len() as u64);
    }
}

impl<P: Prefetch> Nasdaq<P> {
    /// Does what a message says; the counter in which it ends.
    #[inline(always)]
    fn message<S: Sink>(
        &mut self,
        message: Message<'_>,
        context: &Context,
        out: &mut Publisher<S>,
        counters: &mut Counters,
    ) -> Counter {
        macro_rules! at {
            ($m:ident) => {
                At {
                    context,
                    instrument: $m.stock_locate.get().into(),
                    ts_event: self.midnight_ns.wrapping_add($m.timestamp.get()),
                    flags: self.flags($m.stock_locate.get(), context),
                }
            };
        }
        macro_rules! followed {
            ($m:ident, $symbol:expr) => {
                if !self.follows($m.stock_locate.get(), $symbol, out, counters) {
                    return Counter::MessagesFiltered;
                }
            };
        }
        match message {
            Message::AddOrder(m) => {
                followed!(m, Some(&m.stock));
                let id = m.order_reference_number.get();
                self.add(&at!(m), id, m.buy_sell_indicator, m.price.get(), m.shares.get(), out)
            }
            Message::AddOrderMpid(m) => {
                followed!(m, Some(&m.stock));
                let id = m.order_reference_number.get();
                self.add(&at!(m), id, m.buy_sell_indicator, m.price.get(), m.shares.get(), out)
            }
            Message::OrderDelete(m) => {
                followed!(m, None);
                let id = m.order_reference_number.get();
                match self.books.delete(id) {
                    Ok(change) => {
                        self.taken(&At { instrument: change.instrument, ..at!(m) }, id, &change, out);
                        Counter::MessagesBook
                    }
                    Err(error) => refusal(error),
                }
            }
            Message::OrderCancel(m) => {
                followed!(m, None);
                let (id, shares) = (m.order_reference_number.get(), m.canceled_shares.get());
                match self.books.reduce(id, shares) {
                    Ok(change) => {
                        self.taken(&At { instrument: change.instrument, ..at!(m) }, id, &change, out);
                        reduced(&change, shares)
                    }
                    Err(error) => refusal(error),
                }
            }
            Message::OrderExecuted(m) => {
                followed!(m, None);
                self.execute(&at!(m), m.order_reference_number.get(), m.executed_shares.get(), None, true, out)
            }
            Message::OrderExecutedWithPrice(m) => {
                followed!(m, None);
                let price = Some(itch50::price4(m.execution_price.get()));
                let (id, shares) = (m.order_reference_number.get(), m.executed_shares.get());
                self.execute(&at!(m), id, shares, price, m.printable != b'N', out)
            }
            Message::OrderReplace(m) => {
                followed!(m, None);
                let (old, new) = (m.original_order_reference_number.get(), m.new_order_reference_number.get());
                let (price, shares) = (itch50::price4(m.price.get()), m.shares.get());
                match self.books.replace(old, new, price, shares) {
                    Ok(replaced) => {
                        let at = At { instrument: replaced.instrument, ..at!(m) };
                        if self.publish.mbo {
                            self.tell(
                                &at,
                                self.mbo(&at, Action::Cancel, replaced.side, old, replaced.price, replaced.size),
                                out,
                            );
                            if replaced.refused.is_none() {
                                self.tell(&at, self.mbo(&at, Action::Add, replaced.side, new, price, shares), out);
                            }
                        }
                        if replaced.top_changed {
                            self.bbo(&at, out);
                        }
                        replaced.refused.map_or(Counter::MessagesBook, |error| self.refused(at.instrument, error))
                    }
                    Err(error) => refusal(error),
                }
            }
            Message::NonCrossTrade(m) => {
                followed!(m, Some(&m.stock));
                self.trade(&at!(m), m.price.get(), m.shares.get(), out)
            }
            Message::CrossTrade(m) => {
                followed!(m, Some(&m.stock));
                let shares = u32::try_from(m.cross_shares.get()).unwrap_or(u32::MAX);
                self.trade(&at!(m), m.cross_price.get(), shares, out)
            }
            Message::StockTradingAction(m) => {
                followed!(m, Some(&m.stock));
                self.status(&at!(m), StatusCode::TradingState, m.trading_state, m.reason_code, 0, out);
                Counter::MessagesStatus
            }
            Message::OperationalHalt(m) => {
                followed!(m, Some(&m.stock));
                let reason = [m.market_code, b' ', b' ', b' '];
                self.status(&at!(m), StatusCode::OperationalHalt, m.operational_halt_action, reason, 0, out);
                Counter::MessagesStatus
            }
            Message::BrokenTrade(m) => {
                followed!(m, None);
                self.status(&at!(m), StatusCode::TradeBroken, 0, [0; 4], m.match_number.get(), out);
                Counter::MessagesStatus
            }
            Message::SystemEvent(m) => {
                if m.event_code == b'O' {
                    self.begin_day(m.timestamp.get(), context);
                }
                self.status(&At { instrument: 0, ..at!(m) }, StatusCode::SystemEvent, m.event_code, [0; 4], 0, out);
                Counter::MessagesStatus
            }
            Message::StockDirectory(m) => {
                let locate = m.stock_locate.get();
                let is_named = self.known[usize::from(locate)].0 & (Known::FOLLOWED | Known::IGNORED) != 0;
                if is_named && self.symbols[usize::from(locate)] != m.stock {
                    self.forget(&at!(m), out);
                }
                followed!(m, Some(&m.stock));
                Counter::MessagesReference
            }
            _ => Counter::MessagesReference,
        }
    }
}
