//! The memory of a run: where each value's elements are, as pointers, and the buffers behind them.
//!
//! A plan guarantees what the pointers rest on: a value is written by one kernel, in a stage before
//! that of anyone who reads it, and its place in the arena is given to another value only after the
//! stage of its last reader. The one exception is a parameter that is updated in place: its old
//! value and its new one are two values at one place, and the kernel that writes the new one is the
//! last to read the old one, element by element ([`in_place`](crate::plan)). So `elements`, `view`,
//! `view_mut` and `write`, which make references, are unsafe: their callers say which of this they
//! rely on. Each access checks that the type is the value's.

#![allow(unsafe_code)]

use crate::{
    index::{Index, IndexVec},
    piece::Piece,
    plan::{
        index::ValueId,
        kernel::{Placement, Value, View},
    },
    shape::Shape,
    tensor::{Buf, DType, Data, Element, Tensor, with_dtype},
    view::{Elements, ElementsMut, TensorView, TensorViewMut},
};
use std::{marker::PhantomData, ops::Range, slice};

/// Where the values of a plan are.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'r> {
    values: &'r IndexVec<ValueId, Value>,
    at: *const *mut u8,
    _run: PhantomData<&'r IndexVec<ValueId, *mut u8>>,
}

impl<'r> Memory<'r> {
    /// # Safety
    /// Each pointer is valid for as many elements as its value has, until the run is over, and what
    /// the head of this file says holds for the plan.
    pub(crate) unsafe fn new(
        values: &'r IndexVec<ValueId, Value>,
        at: &'r IndexVec<ValueId, *mut u8>,
    ) -> Memory<'r> {
        assert_eq!(values.len(), at.len());
        Memory {
            values,
            at: at.as_ptr(),
            _run: PhantomData,
        }
    }

    pub(crate) fn dtype(&self, value: ValueId) -> DType {
        self.values[value].dtype
    }

    pub(crate) fn count(&self, value: ValueId) -> usize {
        self.values[value].count
    }

    /// Whether a value is one of booleans, but its bytes come from another value and need not be
    /// any. (Any bytes are numbers, and the tensors that a run hands out have been booleans.)
    fn may_be_no_booleans(&self, value: ValueId) -> bool {
        let is_result = matches!(self.values[value].placement, Placement::Output(_));
        self.dtype(value) == DType::Bool && !is_result
    }

    /// The address of a value's elements, which are of this type.
    pub(crate) fn pointer<T: Element>(&self, value: ValueId) -> *mut T {
        assert!(
            self.dtype(value) == T::DTYPE,
            "a value is read as another type"
        );
        // SAFETY: the index was checked just now; there are as many pointers as values.
        unsafe { (*self.at.add(value.index())).cast() }
    }

    /// The elements of a value.
    ///
    /// # Safety
    /// The value has been written, and nobody writes its elements while the slice is in use.
    pub(crate) unsafe fn elements<T: Element>(&self, value: ValueId) -> &'r [T] {
        // SAFETY: `new`'s conditions, and the caller's promise.
        unsafe { slice::from_raw_parts(self.pointer(value), self.count(value)) }
    }

    /// Writes a value's elements.
    ///
    /// # Safety
    /// The caller is the kernel that computes the value, and nobody else reads or writes its
    /// elements meanwhile.
    pub(crate) unsafe fn write<T: Element>(&self, value: ValueId, elements: &[T]) {
        assert_eq!(self.count(value), elements.len());
        // SAFETY: `new`'s conditions, and the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(elements.as_ptr(), self.pointer(value), elements.len())
        }
    }

    /// A value as an op reads it.
    ///
    /// # Safety
    /// As of [`elements`](Memory::elements).
    pub(crate) unsafe fn view(&self, view: View, shape: &'r Shape) -> TensorView<'r> {
        assert_eq!(self.count(view.value), shape.count());
        // SAFETY: the caller's promise.
        unsafe { self.whole(view.value, shape) }
    }

    /// All elements of a value, of which a reader sees some with this shape.
    ///
    /// # Safety
    /// As of [`elements`](Memory::elements).
    pub(crate) unsafe fn whole(&self, value: ValueId, shape: &'r Shape) -> TensorView<'r> {
        // SAFETY: the caller's promise.
        let data = unsafe {
            match self.dtype(value) {
                DType::F32 => Elements::F32(self.elements(value)),
                DType::F64 => Elements::F64(self.elements(value)),
                DType::I64 => Elements::I64(self.elements(value)),
                DType::Bool => Elements::Bool(self.elements(value)),
            }
        };
        TensorView { shape, data }
    }

    /// A value for an op to write.
    ///
    /// # Safety
    /// The caller is the kernel that computes the value, calls this once, and nobody else reads or
    /// writes its elements while the view is in use.
    pub(crate) unsafe fn view_mut(&self, view: View, shape: &'r Shape) -> TensorViewMut<'r> {
        // SAFETY: the caller's promise.
        unsafe { self.part_mut(view, shape, 0..self.count(view.value)) }
    }

    /// A range of a value's elements for an op to write, as a tensor of this shape.
    ///
    /// # Safety
    /// As of [`view_mut`](Memory::view_mut), for these elements.
    pub(crate) unsafe fn part_mut<'s>(
        &self,
        view: View,
        shape: &'s Shape,
        range: Range<usize>,
    ) -> TensorViewMut<'s>
    where
        'r: 's,
    {
        /// # Safety
        /// As of `part_mut`.
        unsafe fn elements<'r, T: Element>(
            memory: &Memory<'r>,
            value: ValueId,
            range: Range<usize>,
        ) -> &'r mut [T] {
            let (pointer, count) = (
                memory.pointer::<T>(value).wrapping_add(range.start),
                range.len(),
            );
            // SAFETY: `new`'s conditions and the caller's promise.
            unsafe {
                if memory.may_be_no_booleans(value) {
                    pointer.write_bytes(0, count);
                }
                slice::from_raw_parts_mut(pointer, count)
            }
        }
        assert!(range.len() == shape.count() && range.end <= self.count(view.value));
        // SAFETY: the caller's promise.
        let data = unsafe {
            match self.dtype(view.value) {
                DType::F32 => ElementsMut::F32(elements(self, view.value, range)),
                DType::F64 => ElementsMut::F64(elements(self, view.value, range)),
                DType::I64 => ElementsMut::I64(elements(self, view.value, range)),
                DType::Bool => ElementsMut::Bool(elements(self, view.value, range)),
            }
        };
        TensorViewMut { shape, data }
    }

    /// A piece of a value, for an op to write.
    ///
    /// # Safety
    /// As of [`view_mut`](Memory::view_mut), for the elements of the piece.
    pub(crate) unsafe fn piece(
        &self,
        view: View,
        shape: &'r Shape,
        place: (Range<usize>, usize, usize),
        columns: Range<usize>,
    ) -> Piece<'r> {
        assert_eq!(self.count(view.value), shape.count());
        let dtype = self.dtype(view.value);
        let at = with_dtype!(dtype, T => self.pointer::<T>(view.value).cast());
        // SAFETY: the caller's promise; booleans are cleared before anybody can see them.
        unsafe {
            let mut piece = Piece::new(at, dtype, shape, place, columns);
            if self.may_be_no_booleans(view.value) {
                piece.clear();
            }
            piece
        }
    }
}

/// The address of a tensor's elements, for reading.
pub(crate) fn address(tensor: &Tensor) -> *mut u8 {
    match &tensor.data {
        Data::F32(b) => b.as_slice().as_ptr().cast_mut().cast(),
        Data::F64(b) => b.as_slice().as_ptr().cast_mut().cast(),
        Data::I64(b) => b.as_slice().as_ptr().cast_mut().cast(),
        Data::Bool(b) => b.as_slice().as_ptr().cast_mut().cast(),
    }
}

/// The address of a tensor's elements, for writing; none if somebody else holds them.
pub(crate) fn address_mut(tensor: &mut Tensor) -> Option<*mut u8> {
    with_dtype!(tensor.dtype(), T => T::buf_mut(&mut tensor.data).and_then(Buf::unique).map(|e| e.as_mut_ptr().cast()))
}
