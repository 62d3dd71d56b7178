//! Buffers that are used again: what a dropped tensor gives back, the next one takes, so that in a steady state no fresh
//! memory has to be mapped and cleared by the system.
//!
//! Each thread has a pool of its own, part of what it [keeps](crate::keep) within one bound; small buffers are left to the
//! allocator.

use crate::{
    keep,
    tensor::{DType, Element, with_dtype},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Deref,
};

/// Buffers with fewer elements are not worth keeping.
pub(crate) const SMALLEST: usize = 1024;

/// Free buffers of one type by length, each with the moment at which it came; the oldest first.
pub(crate) type Shelf<T> = Option<HashMap<usize, VecDeque<(u64, Vec<T>)>>>;

/// The free buffers of a thread.
#[doc(hidden)]
pub struct Pool {
    pub(crate) f32: Shelf<f32>,
    pub(crate) f64: Shelf<f64>,
    pub(crate) i64: Shelf<i64>,
    pub(crate) bool: Shelf<bool>,
    bytes: usize,
    clock: u64,
    /// Where the buffers are, by the moment at which they came.
    by_age: BTreeMap<u64, (DType, usize)>,
}

impl Pool {
    pub(crate) const fn new() -> Pool {
        Pool { f32: None, f64: None, i64: None, bool: None, bytes: 0, clock: 0, by_age: BTreeMap::new() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The buffer of this length that came last, with unspecified elements.
    fn take<T: Element>(&mut self, count: usize) -> Option<Vec<T>> {
        let (came, buffer) = T::shelf(self).as_mut()?.get_mut(&count)?.pop_back()?;
        self.remove::<T>(came, count);
        Some(buffer)
    }

    fn give<T: Element>(&mut self, buffer: Vec<T>) {
        self.clock += 1;
        let (came, count) = (self.clock, buffer.len());
        self.bytes += count * size_of::<T>();
        self.by_age.insert(came, (T::DTYPE, count));
        T::shelf(self).get_or_insert_default().entry(count).or_default().push_back((came, buffer));
    }

    /// Drops the buffer that came before all others; `false` if there is none.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        let Some((&came, &(dtype, count))) = self.by_age.first_key_value() else { return false };
        with_dtype!(dtype, T => {
            if let Some(shelf) = T::shelf(self)
                && let Some(buffers) = shelf.get_mut(&count)
            {
                buffers.pop_front();
            }
            self.remove::<T>(came, count);
        });
        true
    }

    /// A buffer is gone; with the last one of a length goes the place for that length.
    fn remove<T: Element>(&mut self, came: u64, count: usize) {
        self.by_age.remove(&came);
        self.bytes -= count * size_of::<T>();
        if let Some(shelf) = T::shelf(self)
            && shelf.get(&count).is_some_and(VecDeque::is_empty)
        {
            shelf.remove(&count);
        }
    }
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
        let bytes = length.saturating_mul(size_of::<T>());
        let buffer = match keep::buffer(bytes, |pool| if spare > 0 { pool.take(length) } else { None }) {
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
            let buffer = std::mem::take(&mut self.buffer);
            keep::keep_buffer(|pool| pool.give(buffer));
        }
    }
}
