//! The borrowed tensors that ops read and write.

use crate::{
    error::OpError,
    shape::Shape,
    tensor::{DType, Data, Element, Tensor},
};
use ndarray::{ArrayViewD, ArrayViewMutD, IxDyn};
use std::ops::Range;

impl Tensor {
    pub(crate) fn as_view(&self) -> TensorView<'_> {
        let data = match &self.data {
            Data::F32(buf) => Elements::F32(buf.as_slice()),
            Data::F64(buf) => Elements::F64(buf.as_slice()),
            Data::I64(buf) => Elements::I64(buf.as_slice()),
            Data::Bool(buf) => Elements::Bool(buf.as_slice()),
        };
        TensorView {
            shape: &self.shape,
            data,
        }
    }

    /// A view for writing; `None` if the data is shared.
    pub(crate) fn as_view_mut(&mut self) -> Option<TensorViewMut<'_>> {
        let data = match &mut self.data {
            Data::F32(buf) => ElementsMut::F32(buf.unique()?),
            Data::F64(buf) => ElementsMut::F64(buf.unique()?),
            Data::I64(buf) => ElementsMut::I64(buf.unique()?),
            Data::Bool(buf) => ElementsMut::Bool(buf.unique()?),
        };
        Some(TensorViewMut {
            shape: &self.shape,
            data,
        })
    }
}

/// Borrowed elements, one variant per dtype.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub enum Elements<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I64(&'a [i64]),
    Bool(&'a [bool]),
}

/// Elements borrowed for writing, one variant per dtype.
#[doc(hidden)]
pub enum ElementsMut<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
    I64(&'a mut [i64]),
    Bool(&'a mut [bool]),
}

/// An input of an op's [`eval`](crate::Op::eval): shape, dtype and contiguous elements.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) data: Elements<'a>,
}

impl<'a> TensorView<'a> {
    /// The sizes of the axes.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Some of the elements, as a tensor of this shape, which has as many.
    pub(crate) fn part<'s>(&self, shape: &'s Shape, range: Range<usize>) -> TensorView<'s>
    where
        'a: 's,
    {
        assert_eq!(range.len(), shape.count());
        let data = match self.data {
            Elements::F32(e) => Elements::F32(&e[range]),
            Elements::F64(e) => Elements::F64(&e[range]),
            Elements::I64(e) => Elements::I64(&e[range]),
            Elements::Bool(e) => Elements::Bool(&e[range]),
        };
        TensorView { shape, data }
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match self.data {
            Elements::F32(_) => DType::F32,
            Elements::F64(_) => DType::F64,
            Elements::I64(_) => DType::I64,
            Elements::Bool(_) => DType::Bool,
        }
    }

    /// The elements in row-major order. An error if they are not of type `T`.
    pub fn slice<T: Element>(&self) -> Result<&'a [T], OpError> {
        T::elements(self.data).ok_or_else(|| {
            OpError::new(format!(
                "an input is {}, read as {}",
                self.dtype(),
                T::DTYPE
            ))
        })
    }

    /// The elements as an ndarray view. An error if they are not of type `T`.
    pub fn array<T: Element>(&self) -> Result<ArrayViewD<'a, T>, OpError> {
        ArrayViewD::from_shape(IxDyn(self.shape), self.slice()?)
            .map_err(|e| OpError::new(e.to_string()))
    }
}

/// The output of an op's [`eval`](crate::Op::eval). Its initial contents are unspecified.
pub struct TensorViewMut<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) data: ElementsMut<'a>,
}

impl TensorViewMut<'_> {
    /// The sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        self.shape
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match self.data {
            ElementsMut::F32(_) => DType::F32,
            ElementsMut::F64(_) => DType::F64,
            ElementsMut::I64(_) => DType::I64,
            ElementsMut::Bool(_) => DType::Bool,
        }
    }

    /// The address of the first element.
    pub(crate) fn start(self) -> *mut u8 {
        match self.data {
            ElementsMut::F32(e) => e.as_mut_ptr().cast(),
            ElementsMut::F64(e) => e.as_mut_ptr().cast(),
            ElementsMut::I64(e) => e.as_mut_ptr().cast(),
            ElementsMut::Bool(e) => e.as_mut_ptr().cast(),
        }
    }

    /// The elements in row-major order. An error if they are not of type `T`.
    pub fn slice<T: Element>(&mut self) -> Result<&mut [T], OpError> {
        let dtype = self.dtype();
        T::elements_mut(&mut self.data)
            .ok_or_else(|| OpError::new(format!("the output is {dtype}, written as {}", T::DTYPE)))
    }

    /// The elements as an ndarray view. An error if they are not of type `T`.
    pub fn array<T: Element>(&mut self) -> Result<ArrayViewMutD<'_, T>, OpError> {
        let shape = IxDyn(self.shape);
        ArrayViewMutD::from_shape(shape, self.slice()?).map_err(|e| OpError::new(e.to_string()))
    }
}
