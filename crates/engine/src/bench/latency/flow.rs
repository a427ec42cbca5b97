//! Order flow that can go round and round: it begins and ends with empty books.

use std::collections::HashMap;
use std::mem::offset_of;
use std::ops::Range;

use barewire_types::Seq;
use barewire_wire::U48;
use barewire_wire::binaryfile::{self, Records};
use barewire_wire::itch50::{Message, OrderDelete, Prefix};
use barewire_wire::moldudp64::{Builder, HEADER_LEN, Session};
use barewire_wire::soupbintcp;
use zerocopy::IntoBytes;

/// The longest UDP payload that passes Ethernet in one piece, bytes.
const MAX_PAYLOAD: usize = 1_472;
/// Where a packet's header has its first message's number.
pub(super) const SEQUENCE: Range<usize> = 10..18;
/// Where a message has its time, and how long that is.
const TIME_AT: usize = offset_of!(Prefix, timestamp);
pub(super) const TIME_BYTES: usize = size_of::<U48>();

/// A live order's instrument and shares.
#[derive(Clone, Copy, Debug)]
struct Order {
    locate: u16,
    shares: u32,
}

/// Takes a session's messages and keeps what makes a flow.
#[derive(Debug, Default)]
pub struct FlowBuilder {
    opening: Vec<u8>,
    cycle: Vec<u8>,
    messages: u64,
    live: HashMap<u64, Order>,
    peak: usize,
}

fn frame(bytes: &mut Vec<u8>, message: &[u8]) {
    let at = bytes.len();
    bytes.resize(at + binaryfile::HEADER_LEN + message.len(), 0);
    if let Some(room) = bytes.get_mut(at..) {
        binaryfile::encode(room, message);
    }
}

impl FlowBuilder {
    /// Takes the next message of a session: orders, and the directory that names their instruments. Others are left out, and
    /// so is what refers to an order that is not there.
    pub fn push(&mut self, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes) else { return };
        let takes = |live: &mut HashMap<u64, Order>, id: u64, shares: u32| {
            let Some(order) = live.get_mut(&id) else { return false };
            order.shares = order.shares.saturating_sub(shares);
            if order.shares == 0 {
                live.remove(&id);
            }
            true
        };
        let live = &mut self.live;
        let belongs = match message {
            Message::StockDirectory(_) => {
                frame(&mut self.opening, bytes);
                false
            }
            Message::AddOrder(add) => {
                let order = Order { locate: add.stock_locate.get(), shares: add.shares.get() };
                live.insert(add.order_reference_number.get(), order).is_none()
            }
            Message::AddOrderMpid(add) => {
                let order = Order { locate: add.stock_locate.get(), shares: add.shares.get() };
                live.insert(add.order_reference_number.get(), order).is_none()
            }
            Message::OrderExecuted(done) => takes(live, done.order_reference_number.get(), done.executed_shares.get()),
            Message::OrderExecutedWithPrice(done) => {
                takes(live, done.order_reference_number.get(), done.executed_shares.get())
            }
            Message::OrderCancel(cancel) => {
                takes(live, cancel.order_reference_number.get(), cancel.canceled_shares.get())
            }
            Message::OrderDelete(delete) => live.remove(&delete.order_reference_number.get()).is_some(),
            Message::OrderReplace(replace) => match live.remove(&replace.original_order_reference_number.get()) {
                Some(order) => {
                    let order = Order { shares: replace.shares.get(), ..order };
                    live.insert(replace.new_order_reference_number.get(), order).is_none()
                }
                None => false,
            },
            _ => false,
        };
        if belongs {
            frame(&mut self.cycle, bytes);
            self.messages += 1;
            self.peak = self.peak.max(self.live.len());
        }
    }

    /// Deletes what is live, and that is the flow.
    pub fn finish(mut self) -> Flow {
        let mut live: Vec<_> = self.live.into_iter().collect();
        live.sort_unstable_by_key(|(id, _)| *id);
        self.messages += live.len() as u64;
        for (id, order) in live {
            let delete = OrderDelete {
                message_type: OrderDelete::TYPE,
                stock_locate: order.locate.into(),
                tracking_number: 0.into(),
                timestamp: U48::new(0),
                order_reference_number: id.into(),
            };
            frame(&mut self.cycle, delete.as_bytes());
        }
        Flow { opening: self.opening, cycle: self.cycle, messages: self.messages, peak: self.peak }
    }
}

/// Order flow that begins and ends with empty books, and so can be sent again and again. Each of its messages leads to
/// a record.
#[derive(Debug)]
pub struct Flow {
    opening: Vec<u8>,
    cycle: Vec<u8>,
    messages: u64,
    peak: usize,
}

impl Flow {
    /// The directory, which is known before anything is sent.
    pub(super) fn opening(&self) -> Records<'_> {
        binaryfile::records(&self.opening)
    }

    /// The messages of one round.
    pub(super) fn cycle(&self) -> Records<'_> {
        binaryfile::records(&self.cycle)
    }

    /// How many messages one round has.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The most orders that are live at once.
    pub(super) fn peak_orders(&self) -> u32 {
        u32::try_from(self.peak).unwrap_or(u32::MAX / 2)
    }

    /// The flow as packets of a session, of so many messages or as many as fit.
    pub(super) fn cut(&self, session: Session, messages_per_packet: u16) -> Packets {
        self.packets(Framing::MoldUdp64, |payload, next, messages| {
            let mut builder = Builder::new(payload, session, Seq(1));
            while let Some(message) = (*next).filter(|_| builder.count() < messages_per_packet.max(1)) {
                let Some(room) = builder.push(message.len()) else { break };
                room.copy_from_slice(message);
                *next = messages.next();
            }
            (builder.count(), builder.finish())
        })
    }

    /// The flow as pieces of a stream, of so many messages, or as many as one segment holds.
    pub(super) fn cut_stream(&self, messages_per_packet: u16) -> Packets {
        self.packets(Framing::SoupBinTcp, |payload, next, messages| {
            let (mut count, mut len) = (0, 0);
            while let Some(message) = (*next).filter(|_| count < messages_per_packet.max(1)) {
                let Some(more) = payload.get_mut(len..).and_then(|room| soupbintcp::sequenced(room, message)) else {
                    break;
                };
                (count, len) = (count + 1, len + more);
                *next = messages.next();
            }
            (count, len)
        })
    }

    /// The flow, cut by what fills a payload from the next message on and returns the number of messages and bytes.
    fn packets<'a>(
        &'a self,
        framing: Framing,
        fill: impl Fn(&mut [u8], &mut Option<&'a [u8]>, &mut Records<'a>) -> (u16, usize),
    ) -> Packets {
        let mut packets = Packets { framing, bytes: Vec::with_capacity(self.cycle.len() * 2), cuts: Vec::new(), at: 0 };
        let mut messages = self.cycle();
        let mut next = messages.next();
        while next.is_some() {
            let mut payload = [0; MAX_PAYLOAD];
            let (count, len) = fill(&mut payload, &mut next, &mut messages);
            if count == 0 {
                // No message is so long.
                break;
            }
            let begin = packets.bytes.len();
            packets.bytes.extend_from_slice(payload.get(..len).unwrap_or_default());
            packets.cuts.push(Cut { begin, end: begin + len, messages: count.into() });
        }
        packets
    }
}

/// What stands around messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// A header, and before each message its length.
    MoldUdp64,
    /// Before each message a length that counts the type, which follows it, too.
    SoupBinTcp,
}

impl Framing {
    /// Where the first message's length stands.
    fn begin(self) -> usize {
        match self {
            Framing::MoldUdp64 => HEADER_LEN,
            Framing::SoupBinTcp => 0,
        }
    }

    /// Where the message whose length stands here has its time, and where the next one's length stands.
    #[inline]
    fn step(self, payload: &[u8], at: usize) -> Option<(usize, usize)> {
        let len = payload.get(at..)?.first_chunk()?;
        let message = at + len.len() + if self == Framing::SoupBinTcp { 1 } else { 0 };
        let next = at + len.len() + usize::from(u16::from_be_bytes(*len));
        Some((message + TIME_AT, next))
    }
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    begin: usize,
    end: usize,
    messages: u64,
}

/// Packets in memory, sent round and round.
#[derive(Debug)]
pub(super) struct Packets {
    framing: Framing,
    bytes: Vec<u8>,
    cuts: Vec<Cut>,
    at: usize,
}

impl Packets {
    /// How many messages the next packet has, and its payload: numbered from `first` on, and every message with this time.
    /// The flow has a packet at least.
    #[inline]
    pub(super) fn next(&mut self, first: Seq, time_ns: u64) -> (u64, &[u8]) {
        let cut = self.cuts[self.at];
        self.at = if self.at + 1 == self.cuts.len() { 0 } else { self.at + 1 };
        let payload = &mut self.bytes[cut.begin..cut.end];
        if self.framing == Framing::MoldUdp64 {
            payload[SEQUENCE].copy_from_slice(&first.0.to_be_bytes());
        }
        let [_, _, time @ ..] = time_ns.to_be_bytes();
        let mut at = self.framing.begin();
        while let Some((time_at, next)) = self.framing.step(payload, at) {
            let Some(to) = payload.get_mut(time_at..time_at + TIME_BYTES) else { break };
            to.copy_from_slice(&time);
            at = next;
        }
        (cut.messages, payload)
    }

    /// Every packet as it is, and where its messages have their times.
    pub(super) fn payloads(&self) -> impl Iterator<Item = (&[u8], impl Iterator<Item = usize>)> {
        self.cuts.iter().map(move |cut| {
            let payload = self.bytes.get(cut.begin..cut.end).unwrap_or_default();
            let mut at = self.framing.begin();
            let times = std::iter::from_fn(move || {
                let (time_at, next) = self.framing.step(payload, at)?;
                at = next;
                Some(time_at)
            });
            (payload, times)
        })
    }

    /// Messages a packet.
    pub(super) fn mean_messages(&self) -> f64 {
        self.cuts.iter().map(|cut| cut.messages).sum::<u64>() as f64 / self.cuts.len().max(1) as f64
    }

    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.cuts.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use barewire_sim::{Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN};
    use barewire_wire::moldudp64::Packet;

    use super::*;
    use crate::bench::latency::books;
    use crate::counters::Counter;

    pub(in super::super) fn flow(messages: u64) -> Flow {
        let length = Length::Messages(messages);
        let config = ExchangeConfig { live_orders: 2_000, length, ..ExchangeConfig::default() };
        let mut exchange = Exchange::new(config).unwrap();
        let mut builder = FlowBuilder::default();
        let mut buffer = [0; MAX_MESSAGE_LEN];
        while let Some(message) = exchange.next(&mut buffer) {
            builder.push(message);
        }
        builder.finish()
    }

    /// Twice round leaves empty books, and every message found its order.
    #[test]
    fn a_flow_begins_and_ends_with_empty_books() {
        let flow = flow(30_000);
        assert!(flow.messages() > 20_000 && flow.peak_orders() > 1_500);
        let mut pipeline = books(&flow, 0).unwrap();
        pipeline.unframed(flow.cycle(), 1);
        assert_eq!(pipeline.venue().books().len(), 0);
        let counters = pipeline.counters();
        let all = counters.get(Counter::Messages);
        assert_eq!(all, flow.opening().count() as u64 + 2 * flow.messages());
        assert_eq!(counters.get(Counter::BookUnknownOrder) + counters.get(Counter::BookDuplicateOrder), 0);
        assert!(counters.get(Counter::Records) >= 2 * flow.messages());
    }

    #[test]
    fn packets_are_numbered_and_stamped_whole() {
        let flow = flow(20_000);
        let mut packets = flow.cut(Session(*b"TEST000001"), 20);
        let count = packets.cuts.len();
        assert_eq!(packets.cuts.iter().map(|cut| cut.messages).sum::<u64>(), flow.messages());
        let mut first = 1;
        for turn in 0..count + 3 {
            let time = 1_000 + turn as u64;
            let (messages, payload) = packets.next(Seq(first), time);
            let packet = Packet::parse(payload).unwrap();
            assert!(!packet.is_damaged() && packet.sequence() == Seq(first));
            assert_eq!((u64::from(packet.whole()), packet.messages().count() as u64), (messages, messages));
            for message in packet.messages() {
                assert_eq!(Prefix::of(message).unwrap().timestamp_ns(), time);
            }
            first += messages;
        }
        let most = flow.cut(Session(*b"TEST000001"), u16::MAX);
        assert!(
            most.cuts
                .iter()
                .all(|cut| cut.end - cut.begin <= MAX_PAYLOAD && cut.messages > 25 || cut.end == most.bytes.len())
        );
        assert!(FlowBuilder::default().finish().cut(Session(*b"TEST000001"), 1).is_empty());
    }
}
