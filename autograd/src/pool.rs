//! Buffers that are used again: what a dropped tensor gives back, the next one takes, so that in a steady state no fresh
//! memory has to be mapped and cleared by the system.
//!
//! Each thread has a pool of its own, bounded in bytes; small buffers are left to the allocator.

use crate::tensor::Element;
use std::{cell::RefCell, collections::HashMap, ops::Deref};

/// Buffers with fewer elements are not worth keeping.
pub(crate) const SMALLEST: usize = 1024;
/// What a thread keeps at most, in bytes.
const MOST: usize = 64 << 20;

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Free buffers of one type by length.
pub(crate) type Shelf<T> = HashMap<usize, Vec<Vec<T>>>;

/// What a thread keeps.
#[doc(hidden)]
#[derive(Default)]
pub struct Pool {
    pub(crate) f32: Shelf<f32>,
    pub(crate) f64: Shelf<f64>,
    pub(crate) i64: Shelf<i64>,
    pub(crate) bool: Shelf<bool>,
    bytes: usize,
}

/// A kept buffer of this length, with unspecified elements.
fn take<T: Element>(count: usize) -> Option<Vec<T>> {
    if count < SMALLEST {
        return None;
    }
    let take = |pool: &RefCell<Pool>| {
        let mut pool = pool.borrow_mut();
        let buffer = T::shelf(&mut pool).get_mut(&count)?.pop()?;
        pool.bytes -= count * size_of::<T>();
        Some(buffer)
    };
    POOL.try_with(take).ok().flatten()
}

fn give<T: Element>(buffer: Vec<T>) {
    let size = buffer.len() * size_of::<T>();
    let keep = |pool: &RefCell<Pool>| {
        let mut pool = pool.borrow_mut();
        if pool.bytes + size <= MOST {
            pool.bytes += size;
            T::shelf(&mut pool).entry(buffer.len()).or_default().push(buffer);
        }
    };
    let _ = POOL.try_with(keep); // where the thread is ending it is dropped
}

/// Elements that go back to the pool.
#[doc(hidden)]
#[derive(Debug)]
pub struct Block<T: Element> {
    buffer: Vec<T>,
    /// Where the elements are in the buffer: those that were allocated here begin at a line of the cache.
    start: usize,
    count: usize,
}

/// The bytes of a line of the cache.
pub(crate) const LINE: usize = 64;

impl<T: Element> Block<T> {
    pub(crate) fn new(elements: Vec<T>) -> Block<T> {
        let count = elements.len();
        Block { buffer: elements, start: 0, count }
    }

    /// Elements of an unspecified value; none if there is no memory for them.
    pub(crate) fn blank(count: usize) -> Option<Block<T>> {
        let spare = if count < SMALLEST { 0 } else { LINE / size_of::<T>() };
        let length = count.checked_add(spare)?;
        let buffer = match take(length) {
            Some(used) => used,
            None => {
                let mut fresh = Vec::new();
                fresh.try_reserve_exact(length).ok()?;
                fresh.resize(length, T::default());
                fresh
            }
        };
        let start = if spare == 0 { 0 } else { (buffer.as_ptr() as usize).wrapping_neg() % LINE / size_of::<T>() };
        Some(Block { buffer, start, count })
    }

    pub(crate) fn elements_mut(&mut self) -> &mut [T] {
        &mut self.buffer[self.start..][..self.count]
    }

    pub(crate) fn into_vec(mut self) -> Vec<T> {
        let mut elements = std::mem::take(&mut self.buffer);
        elements.drain(..self.start);
        elements.truncate(self.count);
        elements
    }
}

impl<T: Element> Deref for Block<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.buffer[self.start..][..self.count]
    }
}

impl<T: Element> Drop for Block<T> {
    fn drop(&mut self) {
        // what came from outside has another length than those that are asked for here
        if self.buffer.len() > self.count.max(SMALLEST) {
            give(std::mem::take(&mut self.buffer));
        }
    }
}
