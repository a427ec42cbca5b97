//! Books as Python reads them: packed bytes, which numpy takes as structured arrays without a copy.

use barewire_book::Level;
use barewire_engine::live::Books;
use barewire_types::Side;

/// Bid price, bid size, ask price, ask size.
pub type Top = (i64, u64, i64, u64);

/// The best bid and offer; `None` for an instrument that was not named.
pub fn top(books: &Books, instrument_id: u32) -> Option<Top> {
    if !books.is_named(instrument_id) {
        return None;
    }
    let top = books.books().top(instrument_id);
    Some((top.bid_price.0, top.bid_size, top.ask_price.0, top.ask_size))
}

/// Up to `levels` levels of either side, best first: `<i8 price, <u8 size, <u4 orders, <u4 zero`.
pub fn depth(books: &Books, instrument_id: u32, levels: usize) -> (Vec<u8>, Vec<u8>) {
    let side = |side| {
        let books = books.books();
        let mut out = vec![Level::EMPTY; levels.min(books.level_count(instrument_id, side))];
        let count = books.depth(instrument_id, side, &mut out);
        let mut bytes = Vec::with_capacity(count * 24);
        for level in &out[..count] {
            bytes.extend_from_slice(&level.price.0.to_le_bytes());
            bytes.extend_from_slice(&level.size.to_le_bytes());
            bytes.extend_from_slice(&level.orders.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes
    };
    (side(Side::Bid), side(Side::Ask))
}

/// Every order, bids then asks, in price-time priority: `<u8 order_id, <i8 price, <u4 size, u1 side, 3 zero bytes`.
pub fn orders(books: &Books, instrument_id: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for order in books.books().orders(instrument_id) {
        bytes.extend_from_slice(&order.id.to_le_bytes());
        bytes.extend_from_slice(&order.price.0.to_le_bytes());
        bytes.extend_from_slice(&order.size.to_le_bytes());
        bytes.extend_from_slice(&[order.side as u8, 0, 0, 0]);
    }
    bytes
}

/// (instrument_id, symbol) of every instrument, in the order they were named.
pub fn directory(books: &Books) -> Vec<(u32, String)> {
    let text = |symbol: &[u8]| symbol.iter().copied().map(char::from).collect();
    books.instruments().iter().map(|i| (i.id, text(&i.symbol))).collect()
}
