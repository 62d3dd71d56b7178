//! Buffers that are used again: what a dropped tensor gives back, the next one takes, so that in a steady state no fresh
//! memory has to be mapped and cleared by the system.
//!
//! Each thread has a pool of its own, part of what it [keeps](crate::keep) within one bound; small buffers are left to the
//! allocator.

use crate::{
    keep,
    tensor::{DType, Element},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Deref,
};

/// Buffers with fewer elements are not worth keeping.
pub(crate) const SMALLEST: usize = 1024;

/// A free buffer of some type.
#[doc(hidden)]
#[derive(Debug)]
pub enum Buffer {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
}

/// The type of a buffer's elements, and how many they are.
pub(crate) type Kind = (DType, usize);

/// The free buffers of a thread.
pub(crate) struct Pool {
    /// Those of one kind, each with the moment at which it came; the oldest first.
    free: Option<HashMap<Kind, VecDeque<(u64, Buffer)>>>,
    bytes: usize,
    clock: u64,
    /// The kinds of all buffers, by the moment at which they came.
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

    /// The buffer of this kind that came last, with unspecified elements.
    pub(crate) fn take(&mut self, kind: Kind) -> Option<Buffer> {
        let (came, buffer) = self.free.as_mut()?.get_mut(&kind)?.pop_back()?;
        self.remove(came, kind);
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

    /// Drops the buffer that came before all others; `false` if there is none.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        let Some((&came, &kind)) = self.by_age.first_key_value() else {
            return false;
        };
        let buffers = self.free.as_mut().and_then(|free| free.get_mut(&kind));
        drop(buffers.and_then(VecDeque::pop_front));
        self.remove(came, kind);
        true
    }

    /// A buffer is gone; with the last one of a kind goes the place for that kind.
    fn remove(&mut self, came: u64, kind: Kind) {
        self.by_age.remove(&came);
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
        Block {
            buffer: elements,
            start: 0,
            count,
        }
    }

    /// Elements of an unspecified value; none if there is no memory for them.
    pub(crate) fn blank(count: usize) -> Option<Block<T>> {
        let spare = if count < SMALLEST {
            0
        } else {
            LINE / size_of::<T>()
        };
        let length = count.checked_add(spare)?;
        let bytes = length.saturating_mul(size_of::<T>());
        let used = keep::buffer(bytes, (spare > 0).then_some((T::DTYPE, length)));
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
            (buffer.as_ptr() as usize).wrapping_neg() % LINE / size_of::<T>()
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
        // what came from outside has another length than those that are asked for here
        if self.buffer.len() > self.count.max(SMALLEST) {
            let buffer = std::mem::take(&mut self.buffer);
            keep::keep_buffer((T::DTYPE, buffer.len()), T::into_buffer(buffer));
        }
    }
}
