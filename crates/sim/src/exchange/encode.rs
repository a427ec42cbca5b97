//! Messages as they are written.

use barewire_types::Side;
use barewire_wire::itch50::{
    AddOrder, AddOrderMpid, CrossTrade, MAX_LEN, NonCrossTrade, OrderCancel, OrderDelete, OrderExecuted,
    OrderExecutedWithPrice, OrderReplace,
};
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes};

use super::market::NewOrder;

/// Where one message is written: as long as the longest.
pub type MessageBuffer = [u8; MAX_LEN];

/// What every message begins with.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// The instrument's number, from 1; 0 for none.
    pub(super) locate: u16,
    pub(super) time_ns: u64,
}

/// Writes a message and returns its length.
#[inline(always)]
pub(super) fn put<M: IntoBytes + Immutable>(out: &mut MessageBuffer, message: &M) -> usize {
    let bytes = message.as_bytes();
    out[..bytes.len()].copy_from_slice(bytes);
    bytes.len()
}

/// A message with its head filled in; the other fields follow.
macro_rules! message {
    ($out:expr, $head:expr, $name:ident { $($fields:tt)* }) => {{
        let head = $head;
        $crate::exchange::encode::put($out, &$name {
            message_type: $name::TYPE,
            stock_locate: ::zerocopy::byteorder::big_endian::U16::new(head.locate),
            tracking_number: ::zerocopy::byteorder::big_endian::U16::ZERO,
            timestamp: ::barewire_wire::U48::new(head.time_ns),
            $($fields)*
        })
    }};
}
pub(super) use message;

#[inline(always)]
pub(super) fn add(
    out: &mut MessageBuffer,
    head: Head,
    order: &NewOrder,
    stock: [u8; 8],
    price: u32,
    attribution: Option<[u8; 4]>,
) -> usize {
    let order_reference_number = U64::new(order.reference);
    let buy_sell_indicator = if order.side == Side::Ask { b'S' } else { b'B' };
    let (shares, price) = (U32::new(order.shares), U32::new(price));
    match attribution {
        None => message!(out, head, AddOrder { order_reference_number, buy_sell_indicator, shares, stock, price }),
        Some(attribution) => message!(
            out,
            head,
            AddOrderMpid { order_reference_number, buy_sell_indicator, shares, stock, price, attribution }
        ),
    }
}

#[inline(always)]
pub(super) fn delete(out: &mut MessageBuffer, head: Head, reference: u64) -> usize {
    message!(out, head, OrderDelete { order_reference_number: U64::new(reference) })
}

#[inline(always)]
pub(super) fn cancel(out: &mut MessageBuffer, head: Head, reference: u64, shares: u32) -> usize {
    message!(out, head, OrderCancel { order_reference_number: U64::new(reference), canceled_shares: U32::new(shares) })
}

#[inline(always)]
pub(super) fn replace(out: &mut MessageBuffer, head: Head, old: u64, new: u64, shares: u32, price: u32) -> usize {
    message!(
        out,
        head,
        OrderReplace {
            original_order_reference_number: U64::new(old),
            new_order_reference_number: U64::new(new),
            shares: U32::new(shares),
            price: U32::new(price),
        }
    )
}

#[inline(always)]
pub(super) fn executed(out: &mut MessageBuffer, head: Head, reference: u64, shares: u32, number: u64) -> usize {
    message!(
        out,
        head,
        OrderExecuted {
            order_reference_number: U64::new(reference),
            executed_shares: U32::new(shares),
            match_number: U64::new(number),
        }
    )
}

/// An execution at another price than the order's, or one that a cross will print again.
pub(super) fn executed_at(
    out: &mut MessageBuffer,
    head: Head,
    reference: u64,
    shares: u32,
    number: u64,
    printable: bool,
    price: u32,
) -> usize {
    message!(
        out,
        head,
        OrderExecutedWithPrice {
            order_reference_number: U64::new(reference),
            executed_shares: U32::new(shares),
            match_number: U64::new(number),
            printable: if printable { b'Y' } else { b'N' },
            execution_price: U32::new(price),
        }
    )
}

pub(super) fn hidden_trade(
    out: &mut MessageBuffer,
    head: Head,
    shares: u32,
    stock: [u8; 8],
    price: u32,
    number: u64,
) -> usize {
    message!(
        out,
        head,
        NonCrossTrade {
            order_reference_number: U64::ZERO,
            // Always so since 2014.
            buy_sell_indicator: b'B',
            shares: U32::new(shares),
            stock,
            price: U32::new(price),
            match_number: U64::new(number),
        }
    )
}

pub(super) fn cross(
    out: &mut MessageBuffer,
    head: Head,
    shares: u64,
    stock: [u8; 8],
    price: u32,
    number: u64,
    cross_type: u8,
) -> usize {
    message!(
        out,
        head,
        CrossTrade {
            cross_shares: U64::new(shares),
            stock,
            cross_price: U32::new(price),
            match_number: U64::new(number),
            cross_type,
        }
    )
}
