//! A Python buffer into which records are written while the GIL is released.

use std::marker::PhantomData;

use barewire_ring::RingRecord;
use barewire_types::zerocopy::{FromBytes, IntoBytes};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A writable, contiguous buffer of bytes whose length is a multiple of an item's: of a ring record's 64, mostly.
pub struct Block<T = RingRecord>(PyBuffer<u8>, PhantomData<T>);

impl<T: FromBytes + IntoBytes> Block<T> {
    /// Takes hold of an object's buffer. It stays where it is until the block is dropped.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Block<T>> {
        let buffer = PyBuffer::<u8>::get(object)?;
        let size = size_of::<T>();
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyValueError::new_err("expected a writable, contiguous buffer of bytes"));
        }
        if buffer.len_bytes() < size || !buffer.len_bytes().is_multiple_of(size) {
            let found = buffer.len_bytes();
            return Err(PyValueError::new_err(format!(
                "expected a buffer of a multiple of {size} bytes, found {found}"
            )));
        }
        if !buffer.buf_ptr().cast::<T>().is_aligned() {
            return Err(PyValueError::new_err("expected a buffer aligned to 8 bytes"));
        }
        Ok(Block(buffer, PhantomData))
    }

    /// The buffer as records.
    pub fn records(&mut self) -> &mut [T] {
        let len = self.0.len_bytes() / size_of::<T>();
        // SAFETY: `new` checked that the memory is writable, contiguous, aligned and a whole number of items; any bytes
        // are valid items (`FromBytes`) and any items valid bytes (`IntoBytes`); the view keeps the memory alive and in
        // place, and `&mut self` keeps this the only slice of ours. That no other thread touches the array during the
        // call is the caller's part, as with any numpy function that releases the GIL; Python's package hands out each
        // array only after the call has returned.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf_ptr().cast(), len) }
    }
}

// SAFETY: the view is only read (pointer, length) and the memory only written through `records`; the object itself is
// released by PyBuffer's own Drop, which attaches to the interpreter.
unsafe impl<T: Send> Send for Block<T> {}
