//! Conversions to tensors: from Rust arrays and vectors, and from ndarray arrays of any layout; by value
//! and by reference.

use crate::{
    error::{Error, OpError, Result},
    shape::Shape,
    tensor::{Buf, Element, Tensor, reserve},
};
use ndarray::{ArrayBase, Data as NdData, Dimension};
use std::panic::Location;

impl From<&Tensor> for Tensor {
    fn from(t: &Tensor) -> Tensor {
        t.clone()
    }
}

impl<T: Element, const N: usize> From<[T; N]> for Tensor {
    fn from(v: [T; N]) -> Tensor {
        Tensor {
            shape: const { Shape::const_new(&[N]) },
            data: T::wrap(Buf::new(v.to_vec())),
        }
    }
}

impl<T: Element, const N: usize, const M: usize> From<[[T; M]; N]> for Tensor {
    fn from(v: [[T; M]; N]) -> Tensor {
        Tensor {
            shape: const { Shape::const_new(&[N, M]) },
            data: T::wrap(Buf::new(v.as_flattened().to_vec())),
        }
    }
}

impl<T: Element, const N: usize, const M: usize, const L: usize> From<[[[T; L]; M]; N]> for Tensor {
    fn from(v: [[[T; L]; M]; N]) -> Tensor {
        let data = T::wrap(Buf::new(v.as_flattened().as_flattened().to_vec()));
        Tensor {
            shape: const { Shape::const_new(&[N, M, L]) },
            data,
        }
    }
}

impl<T: Element> From<Vec<T>> for Tensor {
    fn from(v: Vec<T>) -> Tensor {
        Tensor {
            shape: Shape::of_slice(&v),
            data: T::wrap(Buf::new(v)),
        }
    }
}

impl<T: Element> From<&[T]> for Tensor {
    fn from(v: &[T]) -> Tensor {
        v.to_vec().into()
    }
}

impl<T: Element> From<&T> for Tensor {
    fn from(v: &T) -> Tensor {
        Tensor {
            shape: Shape::SCALAR,
            data: T::wrap(Buf::new(vec![*v])),
        }
    }
}

impl From<&&Tensor> for Tensor {
    fn from(t: &&Tensor) -> Tensor {
        Tensor::clone(t)
    }
}

/// By reference, copied.
macro_rules! copied {
    ($($(const $N:ident)* $From:ty;)*) => { $(
        impl<T: Element, $(const $N: usize),*> From<&$From> for Tensor {
            fn from(v: &$From) -> Tensor {
                Tensor::from(v.clone())
            }
        }
    )* };
}
copied! {
    Vec<T>;
    &[T];
    const N [T; N];
    const N const M [[T; M]; N];
    const N const M const L [[[T; L]; M]; N];
}

/// What functions such as [`grad`](crate::grad()) return take as an argument, by reference: all that
/// a tensor can be made from. Numbers, arrays, vectors, slices, tensors, ndarray arrays and views.
pub trait ToTensor {
    /// The tensor; a copy unless it is one already.
    fn to_tensor(&self) -> Result<Tensor>;
}

impl<X: ?Sized> ToTensor for X
where
    for<'a> &'a X: TryInto<Tensor, Error: Into<Error>>,
{
    fn to_tensor(&self) -> Result<Tensor> {
        self.try_into().map_err(Into::into)
    }
}

/// Any ndarray array. An owned one in standard layout is moved, all others are copied. An error if
/// it has more than [`MAX_RANK`](crate::MAX_RANK) axes, if there is not enough memory for the copy,
/// or if it has more elements than the address space holds (possible for a view that repeats
/// elements, or an empty array with other axes of any size).
impl<T: Element, S: NdData<Elem = T>, D: Dimension> TryFrom<ArrayBase<S, D>> for Tensor {
    type Error = Error;
    #[track_caller]
    fn try_from(a: ArrayBase<S, D>) -> Result<Tensor> {
        let caller = Location::caller();
        from_array(a).map_err(|e| e.at("tensor", caller))
    }
}

/// As for an owned array, but copied.
impl<T: Element, S: NdData<Elem = T>, D: Dimension> TryFrom<&ArrayBase<S, D>> for Tensor {
    type Error = Error;
    #[track_caller]
    fn try_from(a: &ArrayBase<S, D>) -> Result<Tensor> {
        Tensor::try_from(a.view())
    }
}

fn from_array<T: Element, S: NdData<Elem = T>, D: Dimension>(
    a: ArrayBase<S, D>,
) -> Result<Tensor, OpError> {
    let shape = Shape::new(a.shape())?;
    let count = shape.count();
    let is_standard = a.is_standard_layout();
    let elements = match a.try_into_owned_nocopy() {
        Ok(owned) if is_standard => {
            let (mut all, start) = owned.into_raw_vec_and_offset();
            all.drain(..start.unwrap_or(0));
            all.truncate(count);
            all
        }
        Ok(owned) => copied(count, owned.iter())?,
        Err(shared) => copied(count, shared.iter())?,
    };
    Ok(Tensor {
        shape,
        data: T::wrap(Buf::new(elements)),
    })
}

fn copied<'a, T: Element>(
    count: usize,
    elements: impl Iterator<Item = &'a T>,
) -> Result<Vec<T>, OpError> {
    let mut copy = reserve(count)?;
    copy.extend(elements);
    Ok(copy)
}
