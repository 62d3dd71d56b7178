//! What becomes a tensor: Rust arrays and vectors, and ndarray's arrays of any layout.

use crate::{
    error::{Error, Result},
    shape::Shape,
    tensor::{Buf, Element, Tensor},
};
use ndarray::{ArrayBase, Data as NdData, Dimension, IxDyn};
use std::panic::Location;

impl From<&Tensor> for Tensor {
    fn from(t: &Tensor) -> Tensor {
        t.clone()
    }
}

impl<T: Element, const N: usize> From<[T; N]> for Tensor {
    fn from(v: [T; N]) -> Tensor {
        Tensor { shape: Shape::of(&[N]), data: T::wrap(Buf::new(v.to_vec())) }
    }
}

impl<T: Element, const N: usize, const M: usize> From<[[T; M]; N]> for Tensor {
    fn from(v: [[T; M]; N]) -> Tensor {
        Tensor { shape: Shape::of(&[N, M]), data: T::wrap(Buf::new(v.as_flattened().to_vec())) }
    }
}

impl<T: Element, const N: usize, const M: usize, const L: usize> From<[[[T; L]; M]; N]> for Tensor {
    fn from(v: [[[T; L]; M]; N]) -> Tensor {
        Tensor { shape: Shape::of(&[N, M, L]), data: T::wrap(Buf::new(v.as_flattened().as_flattened().to_vec())) }
    }
}

impl<T: Element> From<Vec<T>> for Tensor {
    fn from(v: Vec<T>) -> Tensor {
        Tensor { shape: Shape::of(&[v.len()]), data: T::wrap(Buf::new(v)) }
    }
}

impl<T: Element> From<&[T]> for Tensor {
    fn from(v: &[T]) -> Tensor {
        v.to_vec().into()
    }
}

/// Any ndarray array: an owned one in standard layout is moved in, all others are copied.
fn from_array<T: Element, S: NdData<Elem = T>, D: Dimension>(a: ArrayBase<S, D>) -> Tensor {
    let shape = Shape::of(a.shape());
    let a = if a.is_standard_layout() { a.into_owned() } else { a.as_standard_layout().into_owned() };
    let (v, offset) = a.into_raw_vec_and_offset();
    let (start, count) = (offset.unwrap_or(0), shape.count());
    let v = if start == 0 && v.len() == count { v } else { v[start..start + count].to_vec() };
    Tensor { shape, data: T::wrap(Buf::new(v)) }
}

macro_rules! from_arrays {
    ($($D:ident)*) => { $(
        impl<T: Element, S: NdData<Elem = T>> From<ArrayBase<S, ndarray::$D>> for Tensor {
            fn from(a: ArrayBase<S, ndarray::$D>) -> Tensor { from_array(a) }
        }
        impl<T: Element, S: NdData<Elem = T>> From<&ArrayBase<S, ndarray::$D>> for Tensor {
            fn from(a: &ArrayBase<S, ndarray::$D>) -> Tensor { from_array(a.view()) }
        }
    )* };
}
from_arrays! { Ix0 Ix1 Ix2 Ix3 Ix4 Ix5 Ix6 }

/// An array of any number of axes: more than [`MAX_RANK`](crate::MAX_RANK) are an error.
impl<T: Element, S: NdData<Elem = T>> TryFrom<ArrayBase<S, IxDyn>> for Tensor {
    type Error = Error;
    #[track_caller]
    fn try_from(a: ArrayBase<S, IxDyn>) -> Result<Tensor> {
        let here = Location::caller();
        Shape::new(a.shape()).map_err(|e| e.at("tensor", here))?;
        Ok(from_array(a))
    }
}

/// As for an owned array, copied.
impl<T: Element, S: NdData<Elem = T>> TryFrom<&ArrayBase<S, IxDyn>> for Tensor {
    type Error = Error;
    #[track_caller]
    fn try_from(a: &ArrayBase<S, IxDyn>) -> Result<Tensor> {
        Tensor::try_from(a.view())
    }
}
