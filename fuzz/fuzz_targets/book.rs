//! Any bytes as calls of the books, held against a slow reference after each.
#![no_main]

#[path = "../../crates/book/tests/driver/mod.rs"]
mod driver;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| driver::run(bytes));
