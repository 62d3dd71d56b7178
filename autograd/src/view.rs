//! What ops read and write: borrowed tensors.

use crate::{
    error::OpError,
    shape::Shape,
    tensor::{Buf, DType, Data, Element, Tensor},
};
use ndarray::{ArrayViewD, ArrayViewMutD, IxDyn};

impl Tensor {
    pub(crate) fn as_view(&self) -> TensorView<'_> {
        TensorView { shape: &self.shape, data: &self.data }
    }

    /// For writing: only while nobody else holds the data.
    pub(crate) fn as_view_mut(&mut self) -> Option<TensorViewMut<'_>> {
        self.is_unique().then_some(TensorViewMut { shape: &self.shape, data: &mut self.data })
    }
}

/// What an op's [`eval`](crate::Op::eval) reads: shape, dtype and contiguous elements.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    pub(crate) shape: &'a Shape,
    data: &'a Data,
}

impl<'a> TensorView<'a> {
    /// The sizes of the axes.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The elements in row-major order. An error if they are not of type `T`.
    pub fn slice<T: Element>(&self) -> Result<&'a [T], OpError> {
        T::buf(self.data)
            .map(Buf::as_slice)
            .ok_or_else(|| OpError::new(format!("an input is {}, read as {}", self.dtype(), T::DTYPE)))
    }

    /// The elements as an ndarray view. An error if they are not of type `T`.
    pub fn array<T: Element>(&self) -> Result<ArrayViewD<'a, T>, OpError> {
        ArrayViewD::from_shape(IxDyn(self.shape), self.slice()?).map_err(|e| OpError::new(e.to_string()))
    }
}

/// What an op's [`eval`](crate::Op::eval) writes. What it holds at first is unspecified.
pub struct TensorViewMut<'a> {
    pub(crate) shape: &'a Shape,
    data: &'a mut Data,
}

impl TensorViewMut<'_> {
    /// The sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        self.shape
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The elements in row-major order. An error if they are not of type `T`.
    pub fn slice<T: Element>(&mut self) -> Result<&mut [T], OpError> {
        let dtype = self.dtype();
        T::buf_mut(self.data)
            .and_then(Buf::unique)
            .ok_or_else(|| OpError::new(format!("the output is {dtype}, written as {}", T::DTYPE)))
    }

    /// The elements as an ndarray view. An error if they are not of type `T`.
    pub fn array<T: Element>(&mut self) -> Result<ArrayViewMutD<'_, T>, OpError> {
        let shape = IxDyn(self.shape);
        ArrayViewMutD::from_shape(shape, self.slice()?).map_err(|e| OpError::new(e.to_string()))
    }
}
