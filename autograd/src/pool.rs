//! A pool of buffers: a dropped tensor's buffer is reused by the next tensor of the same kind, so
//! that the system does not have to map and clear new memory in each step.
//!
//! Each thread has its own pool, part of its [memory cache](crate::memory_cache) with a common
//! bound. Small buffers are left to the allocator.

use crate::{
    memory_cache,
    tensor::{DType, Element},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Deref,
};

/// Buffers with fewer elements are not pooled.
pub(crate) const MIN_POOLED: usize = 1024;

/// A free buffer, by dtype.
#[doc(hidden)]
#[derive(Debug)]
pub enum Buffer {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
}

/// The element type and length of a buffer.
pub(crate) type Kind = (DType, usize);

/// The free buffers of a thread.
pub(crate) struct Pool {
    /// By kind, each with the time at which it was returned, oldest first.
    free: Option<HashMap<Kind, VecDeque<(u64, Buffer)>>>,
    bytes: usize,
    clock: u64,
    /// The kinds of all buffers, by the time at which they were returned.
    by_age: BTreeMap<u64, Kind>,
}

impl Pool {
    pub(crate) const fn new() -> Pool {
        Pool {
            free: None,
            bytes: 0,
            clock: 0,
            by_age: BTreeMap::new(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most recently returned buffer of this kind, with unspecified elements.
    pub(crate) fn take(&mut self, kind: Kind) -> Option<Buffer> {
        let (time, buffer) = self.free.as_mut()?.get_mut(&kind)?.pop_back()?;
        self.remove(time, kind);
        Some(buffer)
    }

    pub(crate) fn give(&mut self, kind: Kind, buffer: Buffer) {
        self.clock += 1;
        self.bytes += bytes(kind);
        self.by_age.insert(self.clock, kind);
        self.free
            .get_or_insert_default()
            .entry(kind)
            .or_default()
            .push_back((self.clock, buffer));
    }

    /// Drops the least recently returned buffer; `false` if there is none.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        let Some((&time, &kind)) = self.by_age.first_key_value() else {
            return false;
        };
        let buffers = self.free.as_mut().and_then(|free| free.get_mut(&kind));
        drop(buffers.and_then(VecDeque::pop_front));
        self.remove(time, kind);
        true
    }

    /// Removes the records of a buffer that was taken, and the entry of its kind if it was the last
    /// one.
    fn remove(&mut self, time: u64, kind: Kind) {
        self.by_age.remove(&time);
        self.bytes -= bytes(kind);
        if let Some(free) = &mut self.free
            && free.get(&kind).is_some_and(VecDeque::is_empty)
        {
            free.remove(&kind);
        }
    }
}

fn bytes((dtype, count): Kind) -> usize {
    count * dtype.size()
}

/// A tensor's elements. On drop, the buffer returns to the pool.
#[doc(hidden)]
#[derive(Debug)]
pub struct Block<T: Element> {
    buffer: Vec<T>,
    /// Where the elements start in the buffer: those allocated by [`blank`](Block::blank) start at
    /// a cache line.
    start: usize,
    count: usize,
}

/// The bytes of a cache line.
pub(crate) const CACHE_LINE: usize = 64;

impl<T: Element> Block<T> {
    pub(crate) fn new(elements: Vec<T>) -> Block<T> {
        let count = elements.len();
        Block {
            buffer: elements,
            start: 0,
            count,
        }
    }

    /// Elements with unspecified values; `None` if there is not enough memory.
    pub(crate) fn blank(count: usize) -> Option<Block<T>> {
        let spare = if count < MIN_POOLED {
            0
        } else {
            CACHE_LINE / size_of::<T>()
        };
        let length = count.checked_add(spare)?;
        let bytes = length.saturating_mul(size_of::<T>());
        let used = memory_cache::take_buffer(bytes, (spare > 0).then_some((T::DTYPE, length)));
        let buffer = match used.and_then(T::from_buffer) {
            Some(used) => used,
            None => {
                let mut fresh = Vec::new();
                fresh.try_reserve_exact(length).ok()?;
                fresh.resize(length, T::default());
                fresh
            }
        };
        let start = if spare == 0 {
            0
        } else {
            (buffer.as_ptr() as usize).wrapping_neg() % CACHE_LINE / size_of::<T>()
        };
        Some(Block {
            buffer,
            start,
            count,
        })
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
        // buffers that come from outside have other lengths than `blank` requests, so pooling them
        // would be useless
        if self.buffer.len() > self.count.max(MIN_POOLED) {
            let buffer = std::mem::take(&mut self.buffer);
            memory_cache::return_buffer((T::DTYPE, buffer.len()), T::into_buffer(buffer));
        }
    }
}
