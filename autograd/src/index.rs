//! Index types. Nodes, shapes, values, registers and the like are all numbered; each kind of number
//! is a type of its own, and a list says by which of them it is indexed. Below everything: it knows
//! of nothing else.

use std::{
    fmt::Debug,
    marker::PhantomData,
    ops::{Deref, DerefMut, Index as At, IndexMut as AtMut, Range},
};

/// A number that counts one kind of thing from 0.
pub(crate) trait Index: Copy + Ord + Debug {
    fn new(index: usize) -> Self;
    fn index(self) -> usize;
    /// As it is stored, for hashes and comparisons: never 0.
    fn raw(self) -> u32;
    /// The one after it.
    #[inline]
    fn next(self) -> Self {
        Self::new(self.index() + 1)
    }
}

/// All from one index to another, without that one.
pub(crate) fn each<I: Index>(
    range: Range<I>,
) -> impl DoubleEndedIterator<Item = I> + ExactSizeIterator + Clone + use<I> {
    (range.start.index()..range.end.index()).map(I::new)
}

/// `index! { /// What it counts. Name, .. }`
///
/// The number is stored plus one, so that an `Option` of it takes 4 bytes too.
macro_rules! index {
    ($($(#[$doc:meta])* $Name:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub(crate) struct $Name(std::num::NonZeroU32);

        impl $crate::index::Index for $Name {
            #[inline(always)]
            fn new(index: usize) -> $Name {
                debug_assert!(index < u32::MAX as usize);
                $Name(std::num::NonZeroU32::MIN.saturating_add(index as u32))
            }
            #[inline(always)]
            fn index(self) -> usize {
                self.0.get() as usize - 1
            }
            #[inline(always)]
            fn raw(self) -> u32 {
                self.0.get()
            }
        }
    )* };
}
pub(crate) use index;

/// A list with an index type.
#[derive(Clone, PartialEq)]
pub(crate) struct IndexVec<I, T> {
    list: Vec<T>,
    index: PhantomData<fn(I)>,
}

impl<I: Index, T> IndexVec<I, T> {
    pub(crate) const fn new() -> Self {
        IndexVec::from_vec(Vec::new())
    }

    pub(crate) const fn from_vec(list: Vec<T>) -> Self {
        IndexVec {
            list,
            index: PhantomData,
        }
    }

    pub(crate) fn with_capacity(capacity: usize) -> Self {
        IndexVec::from_vec(Vec::with_capacity(capacity))
    }

    /// Appends an element; its index.
    #[inline]
    pub(crate) fn push(&mut self, element: T) -> I {
        let next = self.next();
        self.list.push(element);
        next
    }

    /// The index of the element that is appended next.
    #[inline]
    pub(crate) fn next(&self) -> I {
        I::new(self.list.len())
    }

    pub(crate) fn get(&self, index: I) -> Option<&T> {
        self.list.get(index.index())
    }

    /// All indices, in order.
    pub(crate) fn indices(
        &self,
    ) -> impl DoubleEndedIterator<Item = I> + ExactSizeIterator + use<I, T> {
        (0..self.list.len()).map(I::new)
    }

    /// All elements with their indices.
    pub(crate) fn enumerate(&self) -> impl DoubleEndedIterator<Item = (I, &T)> + ExactSizeIterator {
        self.list
            .iter()
            .enumerate()
            .map(|(k, element)| (I::new(k), element))
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        self.list.shrink_to_fit();
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
    }

    /// The elements as a plain list.
    pub(crate) fn into_vec(self) -> Vec<T> {
        self.list
    }

    /// The bytes that the list takes, without what its elements point to.
    pub(crate) fn bytes(&self) -> usize {
        list_bytes(&self.list)
    }
}

impl<I: Index, T: Clone> IndexVec<I, T> {
    /// `len` times the same element.
    pub(crate) fn filled(element: T, len: usize) -> Self {
        IndexVec::from_vec(vec![element; len])
    }
}

/// The bytes that a list takes, without what its elements point to.
pub(crate) fn list_bytes<T>(list: &Vec<T>) -> usize {
    list.capacity() * size_of::<T>()
}

impl<I, T> Default for IndexVec<I, T> {
    fn default() -> Self {
        IndexVec {
            list: Vec::new(),
            index: PhantomData,
        }
    }
}

impl<I: Index, T: Debug> Debug for IndexVec<I, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_map().entries(self.enumerate()).finish()
    }
}

impl<I: Index, T> At<I> for IndexVec<I, T> {
    type Output = T;
    #[inline(always)]
    fn index(&self, index: I) -> &T {
        &self.list[index.index()]
    }
}

impl<I: Index, T> AtMut<I> for IndexVec<I, T> {
    #[inline(always)]
    fn index_mut(&mut self, index: I) -> &mut T {
        &mut self.list[index.index()]
    }
}

/// As a slice it is read in order, without indices: iteration, length, chunks.
impl<I, T> Deref for IndexVec<I, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.list
    }
}

impl<I, T> DerefMut for IndexVec<I, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.list
    }
}
