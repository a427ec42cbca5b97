//! Nothing is allocated between construction and the growth that `maintain` announces.

use barewire_allocs::{Counting, allocations};
use barewire_book::{Books, Capacity};
use barewire_types::{NoPrefetch, Price, Side};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn steady_state_allocates_nothing() {
    const ORDERS: u64 = 20_000;
    let mut books = Books::new(Capacity { instruments: 500, orders: ORDERS as u32, levels: ORDERS as u32 }, NoPrefetch);
    let mut state = 1_u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(state) * u128::from(n)) >> 64) as u64
    };
    let before = allocations();
    for id in 0..1_000_000 {
        let instrument = below(500) as u32;
        let side = if below(2) == 0 { Side::Bid } else { Side::Ask };
        // Now and then a price out of the grid or between its ticks.
        let price = Price(match below(20) {
            0 => below(40) as i64 * 3_000_000_001,
            _ => below(40) as i64 * 10_000_000,
        });
        // What is refused, unknown or taken to excess allocates as little.
        let _ = books.add(instrument, id, side, price, 1 + below(100) as u32);
        let _ = books.reduce(below(id + 1), 1 + below(50) as u32);
        let old = id.saturating_sub(below(ORDERS));
        if below(10) == 0 {
            let _ = books.replace(old, id + 10_000_000, price, 100);
            let _ = books.delete(id + 10_000_000);
        }
        let _ = books.delete(id.saturating_sub(ORDERS - 1));
        if below(10_000) == 0 {
            books.clear(instrument).unwrap();
        }
        books.maintain();
    }
    assert_eq!(allocations(), before, "allocations");
    assert_eq!(books.counters().grown, 0);
    assert!(books.len() > 10_000, "{}", books.len());
}
