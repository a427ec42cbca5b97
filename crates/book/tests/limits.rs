//! What books do at their limits: refuse, count, and leave everything else as it was.

use barewire_book::{BookError, Books, Capacity, Level};
use barewire_types::{NoPrefetch, Price, Side};

const PRICE: Price = Price(1_000_000_000);

fn books(orders: u32, levels: u32) -> Books {
    Books::new(Capacity { instruments: 2, orders, levels }, NoPrefetch)
}

#[test]
fn a_level_holds_so_many_orders() {
    let mut books = books(1_048_576, 10);
    for id in 0..1_048_575 {
        books.add(1, id, Side::Bid, PRICE, 1).unwrap();
    }
    let digest = books.digest();
    assert_eq!(books.add(1, u64::MAX, Side::Bid, PRICE, 1), Err(BookError::AtLimit));
    assert!(books.is_incomplete(1) && !books.is_incomplete(0));
    assert_eq!((books.counters().at_limit, books.digest()), (1, digest));
    let mut out = [Level::EMPTY];
    assert_eq!(books.depth(1, Side::Bid, &mut out), 1);
    assert_eq!(out[0], Level { price: PRICE, size: 1_048_575, orders: 1_048_575 });
    // Elsewhere there is room, and here again once one has gone.
    books.add(1, u64::MAX, Side::Ask, PRICE, 1).unwrap();
    books.delete(77).unwrap();
    books.add(1, 77, Side::Bid, PRICE, 1).unwrap();
}

#[test]
fn a_level_sums_up_to_so_much() {
    let mut books = books(5000, 10);
    for id in 0..4096 {
        books.add(0, id, Side::Ask, PRICE, u32::MAX).unwrap();
    }
    assert_eq!(books.top(0).ask_size, 4096 * u64::from(u32::MAX));
    assert_eq!(books.add(0, 4096, Side::Ask, PRICE, 4096), Err(BookError::AtLimit));
    books.add(0, 4096, Side::Ask, PRICE, 4095).unwrap();
    assert_eq!(books.top(0).ask_size, (1 << 44) - 1);
    for id in 0..=4096 {
        books.delete(id).unwrap();
    }
    assert_eq!((books.top(0).ask_price, books.top(0).ask_size, books.len()), (Price::UNDEF, 0, 0));
}

#[test]
fn a_side_has_so_many_levels() {
    let mut books = books(70_000, 70_000);
    // From the best down, and none on a tick: none has a bit in the grid.
    for id in 0..65_535 {
        books.add(0, id, Side::Bid, Price(-1 - id as i64 * 10_000_000), 1).unwrap();
    }
    assert_eq!(books.add(0, 65_535, Side::Bid, Price(-65_535 * 10_000_000 - 1), 1), Err(BookError::AtLimit));
    assert_eq!(books.level_count(0, Side::Bid), 65_535);
    // On a level that is there it is no matter.
    books.add(0, 65_535, Side::Bid, Price(-1), 1).unwrap();
    assert_eq!(books.top(0).bid_size, 2);
    books.clear(0).unwrap();
    assert_eq!((books.len(), books.level_count(0, Side::Bid), books.is_incomplete(0)), (0, 0, false));
}

/// A list that has room for one key when the grid would leave two to it: each level stays in one place.
#[test]
fn a_grid_that_cannot_move() {
    let mut books = books(70_000, 70_000);
    const CENT: i64 = 10_000_000;
    books.add(0, 1_000_000, Side::Bid, Price(10 * CENT), 1).unwrap();
    books.add(0, 1_000_001, Side::Bid, Price(11 * CENT), 1).unwrap();
    for id in 0..65_534 {
        books.add(0, id, Side::Bid, Price(-1 - id as i64 * CENT), 1).unwrap();
    }
    // A best bid so far up that the grid would have to leave the two cents behind.
    assert_eq!(books.add(0, 1_000_002, Side::Bid, Price(1_000 * CENT), 1), Err(BookError::AtLimit));
    let mut out = vec![Level::EMPTY; 70_000];
    assert_eq!(books.depth(0, Side::Bid, &mut out), 65_536);
    assert!(out[..65_536].is_sorted_by(|a, b| a.price > b.price));
    assert_eq!((out[0].price, out[1].price, out[2].price), (Price(11 * CENT), Price(10 * CENT), Price(-1)));
    // With room for both it moves.
    books.delete(65_533).unwrap();
    books.delete(65_532).unwrap();
    books.add(0, 1_000_002, Side::Bid, Price(1_000 * CENT), 1).unwrap();
    books.delete(1_000_001).unwrap();
    books.delete(1_000_000).unwrap();
    assert_eq!(books.depth(0, Side::Bid, &mut out), 65_533);
    assert_eq!((out[0].price, out[1].price), (Price(1_000 * CENT), Price(-1)));
}

/// Ids made for the hash of [`Books::new`], so that all lead to the same place.
#[test]
fn hostile_ids_find_no_long_way() {
    let mut books = books(100_000, 100);
    // The inverse of the hash's multiplier: id n leads to n, which is 0 in the upper bits.
    let mut inverse = 1_u64;
    for _ in 0..6 {
        let error = 2_u64.wrapping_sub(inverse.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        inverse = inverse.wrapping_mul(error);
    }
    let hostile = |n: u64| n.wrapping_mul(inverse);
    for honest in 0..1000 {
        books.add(0, honest, Side::Ask, PRICE, 5).unwrap();
    }
    let mut refused = 0;
    for n in 1_000_000..1_010_000 {
        refused += u64::from(books.add(1, hostile(n), Side::Bid, PRICE, 1).is_err());
    }
    // 64 lines of four orders, but for the honest ones that are there.
    assert!((9744..9800).contains(&refused), "{refused}");
    assert_eq!(books.counters().out_of_capacity, refused);
    assert!(books.is_incomplete(1) && !books.is_incomplete(0));
    assert_eq!(books.top(1).bid_size, 10_000 - refused);
    // Maintenance changes the hash: then all find a place.
    assert!(books.maintain());
    for n in 1_010_000..1_020_000 {
        books.add(1, hostile(n), Side::Bid, PRICE, 1).unwrap();
    }
    for honest in 0..1000 {
        assert_eq!(books.delete(honest).unwrap().size, 5);
    }
    assert_eq!(books.len() as u64, 20_000 - refused);
}

/// Whoever sends orders without end is refused at last, and the books stay as large as they are.
#[test]
fn growth_ends() {
    let mut books = books(100, 100);
    let mut added = 0;
    for id in 0..10_000 {
        added += usize::from(books.add(0, id, Side::Bid, Price(id as i64), 1).is_ok());
        books.maintain();
    }
    assert!((1600..4000).contains(&added), "{added}");
    assert_eq!(books.len(), added);
    let bytes: usize = books.regions().map(<[u8]>::len).sum();
    assert!(!books.maintain());
    assert_eq!(bytes, books.regions().map(<[u8]>::len).sum());
}

#[test]
fn ticks() {
    let mut books = books(100, 100);
    assert!(books.set_tick(0, Price(25)));
    assert!(!books.set_tick(0, Price(0)) && !books.set_tick(0, Price(-1)) && !books.set_tick(2, Price(1)));
    books.add(0, 1, Side::Bid, PRICE, 1).unwrap();
    assert!(!books.set_tick(0, Price(26)), "the book has orders");
    // One for the default, one for 25, the rest for these.
    let taken = (1000..2000).filter(|&tick| books.set_tick(1, Price(tick))).count();
    assert_eq!(taken, 254);
    assert!(books.set_tick(1, Price(1000)), "a known tick is always taken");
}

/// Digests are the same for ever: a change of this number is a change of what is promised.
#[test]
fn digest_is_pinned() {
    let mut small = books(10, 10);
    let mut large = Books::try_new(Capacity { instruments: 2, orders: 9999, levels: 9999 }, NoPrefetch, 42).unwrap();
    assert_eq!(small.digest(), 0x9d30_c1f7_8465_995b_e47d_da5e_4e4e_77ed);
    for books in [&mut small, &mut large] {
        books.add(0, 10, Side::Bid, Price(1_000), 7).unwrap();
        books.add(0, 5, Side::Bid, Price(1_000), 8).unwrap();
        books.add(1, 6, Side::Ask, Price(-5), 9).unwrap();
        books.add(1, 7, Side::Ask, Price(-4), 9).unwrap();
        books.delete(6).unwrap();
        books.reduce(7, 4).unwrap();
    }
    assert_eq!(small.digest(), large.digest());
    // Worked out from the documentation by another program.
    assert_eq!(small.digest(), 0xaad7_71af_51ca_15c1_4882_9d34_095b_5380);
    // Who came first is part of it.
    small.replace(10, 10, Price(1_000), 7).unwrap();
    assert_ne!(small.digest(), large.digest());
}
