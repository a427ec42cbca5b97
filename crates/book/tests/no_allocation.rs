//! Nothing is allocated between construction and the growth that `maintain` announces.

use barewire_book::{Books, Capacity};
use barewire_types::{NoPrefetch, Price, Side};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static CALLS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

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
    let before = CALLS.load(Ordering::Relaxed);
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
    assert_eq!(CALLS.load(Ordering::Relaxed), before, "allocations");
    assert_eq!(books.counters().grown, 0);
    assert!(books.len() > 10_000, "{}", books.len());
}
