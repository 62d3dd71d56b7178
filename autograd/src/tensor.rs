//! Tensor values: shape, dtype and shared contiguous data. A single element is stored inline.
//! Conversions to and from ndarray are the interface to other code.

use crate::{
    error::{OpError, Result},
    ints::Ints,
    pool::{Block, Buffer},
    shape::{Shape, sizes},
    view::{Elements, ElementsMut},
};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use std::{fmt, panic::Location, sync::Arc};

/// The type of a tensor's elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DType {
    /// 32-bit floating point: the usual type for training.
    F32,
    /// 64-bit floating point: the type of a Rust `2.0`.
    F64,
    /// 64-bit integers: labels and indices. They have no gradient.
    I64,
    /// Booleans: masks. They have no gradient.
    Bool,
}

mod sealed {
    pub trait Sealed {}
}

impl DType {
    /// Whether values of this type have gradients.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64)
    }

    /// Its name in Rust.
    pub(crate) fn variant(self) -> &'static str {
        match self {
            DType::F32 => "F32",
            DType::F64 => "F64",
            DType::I64 => "I64",
            DType::Bool => "Bool",
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F64 | DType::I64 => 8,
            DType::Bool => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I64 => "i64",
            DType::Bool => "bool",
        })
    }
}

/// Dtype and shape of a value, known before it is computed. Displays as `f32[64, 10]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Type {
    /// The type of the elements.
    pub dtype: DType,
    /// The sizes of the axes.
    pub shape: Shape,
}

impl Type {
    /// Dtype and shape together.
    pub fn new(dtype: DType, shape: Shape) -> Type {
        Type { dtype, shape }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

/// Shared, contiguous elements; a single one without an allocation.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum Buf<T: Element> {
    One([T; 1]),
    Many(Arc<Block<T>>),
}

impl<T: Element> Buf<T> {
    pub(crate) fn new(v: Vec<T>) -> Buf<T> {
        match <[T; 1]>::try_from(v) {
            Ok(one) => Buf::One(one),
            Err(v) => Buf::Many(Arc::new(Block::new(v))),
        }
    }

    /// Elements with unspecified values, to be overwritten; an error if there is not enough memory.
    pub(crate) fn blank(count: usize) -> Result<Buf<T>, OpError> {
        if count == 1 {
            return Ok(Buf::One([T::default()]));
        }
        match Block::blank(count) {
            Some(block) => Ok(Buf::Many(Arc::new(block))),
            None => Err(no_memory::<T>(count)),
        }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Buf::One(v) => v,
            Buf::Many(v) => v,
        }
    }

    /// The elements for writing, unless they are shared.
    pub(crate) fn unique(&mut self) -> Option<&mut [T]> {
        match self {
            Buf::One(v) => Some(v),
            Buf::Many(v) => Arc::get_mut(v).map(Block::elements_mut),
        }
    }

    fn into_vec(self) -> Vec<T> {
        match self {
            Buf::One(v) => v.to_vec(),
            Buf::Many(v) => {
                Arc::try_unwrap(v).map_or_else(|shared| shared.to_vec(), Block::into_vec)
            }
        }
    }
}

/// An empty vector with capacity for `count` elements.
pub(crate) fn reserve<T>(count: usize) -> Result<Vec<T>, OpError> {
    let mut v = Vec::new();
    v.try_reserve_exact(count)
        .map_err(|_| no_memory::<T>(count))?;
    Ok(v)
}

fn no_memory<T>(count: usize) -> OpError {
    let gib = count as f64 * size_of::<T>() as f64 / (1u64 << 30) as f64;
    OpError::new(format!(
        "not enough memory for {count} elements ({gib:.1} GiB)"
    ))
}

/// One variant per dtype.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum Data {
    F32(Buf<f32>),
    F64(Buf<f64>),
    I64(Buf<i64>),
    Bool(Buf<bool>),
}

impl Data {
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Data::F32(_) => DType::F32,
            Data::F64(_) => DType::F64,
            Data::I64(_) => DType::I64,
            Data::Bool(_) => DType::Bool,
        }
    }
}

/// Runs `$body` with `$T` as the Rust type of a dtype: for all dtypes, or only for floats.
macro_rules! with_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::tensor::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::tensor::DType::Bool => {
                type $T = bool;
                $body
            }
        }
    };
    ($dtype:expr, float $T:ident => $body:expr, else $other:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $T = f64;
                $body
            }
            _ => $other,
        }
    };
}
pub(crate) use with_dtype;

/// The element types: `f32`, `f64`, `i64` and `bool`.
pub trait Element:
    sealed::Sealed
    + Copy
    + Default
    + PartialEq
    + PartialOrd
    + fmt::Debug
    + fmt::Display
    + Send
    + Sync
    + 'static
{
    /// The dtype of tensors with this element type.
    const DTYPE: DType;
    #[doc(hidden)]
    fn wrap(buf: Buf<Self>) -> Data;
    #[doc(hidden)]
    fn buf(data: &Data) -> Option<&Buf<Self>>;
    #[doc(hidden)]
    fn buf_mut(data: &mut Data) -> Option<&mut Buf<Self>>;
    #[doc(hidden)]
    fn into_buf(data: Data) -> Option<Buf<Self>>;
    #[doc(hidden)]
    fn into_buffer(elements: Vec<Self>) -> Buffer;
    #[doc(hidden)]
    fn from_buffer(buffer: Buffer) -> Option<Vec<Self>>;
    #[doc(hidden)]
    fn elements(elements: Elements<'_>) -> Option<&[Self]>;
    #[doc(hidden)]
    fn elements_mut<'a>(elements: &'a mut ElementsMut<'_>) -> Option<&'a mut [Self]>;
}

macro_rules! elements {
    ($($T:ident, $V:ident;)*) => { $(
        impl sealed::Sealed for $T {}
        impl Element for $T {
            const DTYPE: DType = DType::$V;
            fn wrap(buf: Buf<$T>) -> Data { Data::$V(buf) }
            fn buf(data: &Data) -> Option<&Buf<$T>> { if let Data::$V(buf) = data { Some(buf) } else { None } }
            fn buf_mut(data: &mut Data) -> Option<&mut Buf<$T>> { if let Data::$V(buf) = data { Some(buf) } else { None } }
            fn into_buf(data: Data) -> Option<Buf<$T>> { if let Data::$V(buf) = data { Some(buf) } else { None } }
            fn into_buffer(elements: Vec<$T>) -> Buffer { Buffer::$V(elements) }
            fn from_buffer(buffer: Buffer) -> Option<Vec<$T>> { if let Buffer::$V(elements) = buffer { Some(elements) } else { None } }
            fn elements(elements: Elements<'_>) -> Option<&[$T]> { if let Elements::$V(e) = elements { Some(e) } else { None } }
            fn elements_mut<'a>(elements: &'a mut ElementsMut<'_>) -> Option<&'a mut [$T]> { if let ElementsMut::$V(e) = elements { Some(e) } else { None } }
        }
        impl From<$T> for Tensor {
            fn from(v: $T) -> Tensor { Tensor { shape: Shape::SCALAR, data: Data::$V(Buf::One([v])) } }
        }
    )* };
}
elements! { f32, F32; f64, F64; i64, I64; bool, Bool; }

/// A value: shape, dtype and shared contiguous data in row-major order.
///
/// Cheap to clone (the data is shared). A clone never sees changes made through another one.
/// Scalars, Rust arrays and vectors become tensors with `into()`, ndarray arrays with `try_into()`:
/// this can fail, because a tensor has fewer axes than an ndarray array can have, and a view can be
/// larger than memory. An owned array in standard layout is not copied. Tensors convert to ndarray
/// arrays or views.
///
/// ```
/// use autograd::{DType, Tensor};
/// let t = Tensor::from([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
/// assert_eq!((t.dtype(), t.shape()), (DType::F64, &[2, 3][..]));
///
/// let a = ndarray::array![[1.0f32, 2.0], [3.0, 4.0]];
/// let t = Tensor::try_from(a.clone())?;
/// assert_eq!(t.view::<f32>()?, a.into_dyn());
/// # Ok::<(), autograd::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor {
    pub(crate) shape: Shape,
    pub(crate) data: Data,
}

impl Tensor {
    /// A tensor of this shape with these elements, in row-major order. An error if their count does
    /// not match the shape.
    #[track_caller]
    pub fn new<T: Element>(shape: impl Ints, elements: Vec<T>) -> Result<Tensor> {
        let caller = Location::caller();
        let make = || {
            let shape = sizes(&shape.list())?;
            if shape.count() != elements.len() {
                let n = elements.len();
                return Err(OpError::new(format!(
                    "shape {shape} has {} elements, got {n}",
                    shape.count()
                )));
            }
            Ok(shape)
        };
        let shape = make().map_err(|e| e.at("tensor", caller))?;
        Ok(Tensor {
            shape,
            data: T::wrap(Buf::new(elements)),
        })
    }

    /// A tensor of this shape with all elements equal to `value`. An error if there is not enough
    /// memory.
    #[track_caller]
    pub fn full<T: Element>(shape: impl Ints, value: T) -> Result<Tensor> {
        let caller = Location::caller();
        let make = || {
            let shape = sizes(&shape.list())?;
            let mut v = reserve(shape.count())?;
            v.resize(shape.count(), value);
            Ok(Tensor {
                shape,
                data: T::wrap(Buf::new(v)),
            })
        };
        make().map_err(|e: OpError| e.at("full", caller))
    }

    /// Zeros (`false` for [`DType::Bool`]).
    #[track_caller]
    pub fn zeros(shape: impl Ints, dtype: DType) -> Result<Tensor> {
        with_dtype!(dtype, T => Tensor::full(shape, T::default()))
    }

    /// The same tensor with its elements starting at a cache line. Copied if it is large and not
    /// aligned.
    pub(crate) fn cache_aligned(self) -> Tensor {
        fn copy<T: Element>(from: &Buf<T>) -> Option<Buf<T>> {
            let elements = from.as_slice();
            if elements.len() < crate::pool::MIN_POOLED
                || (elements.as_ptr() as usize).is_multiple_of(crate::pool::CACHE_LINE)
            {
                return None;
            }
            let mut to = Buf::blank(elements.len()).ok()?;
            to.unique()?.copy_from_slice(elements);
            Some(to)
        }
        let copied = match &self.data {
            Data::F32(b) => copy(b).map(Data::F32),
            Data::F64(b) => copy(b).map(Data::F64),
            Data::I64(b) => copy(b).map(Data::I64),
            Data::Bool(b) => copy(b).map(Data::Bool),
        };
        match copied {
            Some(data) => Tensor { data, ..self },
            None => self,
        }
    }

    /// Elements with unspecified values, for a kernel to write.
    pub(crate) fn blank(ty: Type) -> Result<Tensor, OpError> {
        let data = with_dtype!(ty.dtype, T => T::wrap(Buf::blank(ty.shape.count())?));
        Ok(Tensor {
            shape: ty.shape,
            data,
        })
    }

    /// A single element of a dtype. The caller must make sure that `value` fits the dtype: no
    /// fraction, within the range.
    pub(crate) fn number(value: Number, dtype: DType) -> Tensor {
        match (dtype, value) {
            (DType::F32, v) => Tensor::from(v.to_f64() as f32),
            (DType::F64, v) => Tensor::from(v.to_f64()),
            (DType::I64, Number::Int(v)) => Tensor::from(v),
            (DType::I64, Number::Float(v)) => Tensor::from(v as i64),
            (DType::Bool, v) => Tensor::from(v.to_f64() != 0.0),
        }
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    pub(crate) fn ty(&self) -> Type {
        Type {
            dtype: self.dtype(),
            shape: self.shape,
        }
    }

    /// The number of elements.
    #[doc(alias = "numel")]
    #[doc(alias = "size")]
    pub fn len(&self) -> usize {
        with_dtype!(self.dtype(), T => T::buf(&self.data).map_or(0, |b| b.as_slice().len()))
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements in row-major order. An error if they are not of type `T`.
    #[track_caller]
    #[doc(alias = "data")]
    #[doc(alias = "data_ptr")]
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        match T::buf(&self.data) {
            Some(buf) => Ok(buf.as_slice()),
            None => Err(self.dtype_mismatch::<T>().at_caller("tensor")),
        }
    }

    /// The elements as an ndarray view. An error if they are not of type `T`.
    #[track_caller]
    #[doc(alias = "numpy")]
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        let (caller, elements) = (Location::caller(), self.as_slice()?);
        ArrayViewD::from_shape(IxDyn(&self.shape), elements)
            .map_err(|e| OpError::new(e.to_string()).at("tensor", caller))
    }

    /// The elements as an owned ndarray array; without a copy if the data is not shared. An error
    /// if they are not of type `T`.
    #[track_caller]
    #[doc(alias = "numpy")]
    pub fn into_array<T: Element>(self) -> Result<ArrayD<T>> {
        let (caller, shape, wrong) = (Location::caller(), self.shape, self.dtype_mismatch::<T>());
        let Some(buf) = T::into_buf(self.data) else {
            return Err(wrong.at("tensor", caller));
        };
        ArrayD::from_shape_vec(IxDyn(&shape), buf.into_vec())
            .map_err(|e| OpError::new(e.to_string()).at("tensor", caller))
    }

    /// The only element as `f64`, for any dtype. An error if there is not exactly one.
    ///
    /// ```
    /// assert_eq!(autograd::Tensor::from([[2.5f32]]).scalar()?, 2.5);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "item")]
    pub fn scalar(&self) -> Result<f64> {
        match self.to_f64s()[..] {
            [v] => Ok(v),
            _ => Err(
                OpError::new(format!("expected a single element, got {}", self.ty()))
                    .at_caller("scalar"),
            ),
        }
    }

    /// All elements as `f64` (`true` is 1), in row-major order.
    #[doc(alias = "tolist")]
    pub fn to_f64s(&self) -> Vec<f64> {
        match &self.data {
            Data::F32(b) => b.as_slice().iter().map(|&v| v as f64).collect(),
            Data::F64(b) => b.as_slice().to_vec(),
            Data::I64(b) => b.as_slice().iter().map(|&v| v as f64).collect(),
            Data::Bool(b) => b.as_slice().iter().map(|&v| v as u8 as f64).collect(),
        }
    }

    /// The same values as another dtype, converted as by [`Var::cast`](crate::Var::cast).
    #[track_caller]
    #[doc(alias = "astype")]
    #[doc(alias = "to")]
    pub fn cast(&self, dtype: DType) -> Result<Tensor> {
        crate::Graph::new().constant(self).cast(dtype).value()
    }

    /// The given rows of the first axis, in this order; rows may repeat. An error if one does not
    /// exist.
    #[track_caller]
    #[doc(alias = "index_select")]
    pub fn rows(&self, rows: &[usize]) -> Result<Tensor> {
        let caller = Location::caller();
        let make = || {
            let (&n, rest) = self.shape.split_first().ok_or("a scalar has no rows")?;
            if let Some(bad) = rows.iter().find(|&&r| r >= n) {
                return Err(OpError::new(format!(
                    "there is no row {bad} in {}",
                    self.ty()
                )));
            }
            let (width, shape) = (
                rest.iter().product::<usize>(),
                self.shape.resized(0, rows.len())?,
            );
            with_dtype!(self.dtype(), T => {
                let from = T::buf(&self.data).map_or(&[][..], |b| b.as_slice());
                let mut out = reserve(shape.count())?;
                rows.iter().for_each(|r| out.extend_from_slice(&from[r * width..(r + 1) * width]));
                Ok(Tensor { shape, data: T::wrap(Buf::new(out)) })
            })
        };
        make().map_err(|e: OpError| e.at("rows", caller))
    }

    /// Concatenates tensors along the first axis. Dtypes and the other sizes must be equal.
    #[track_caller]
    #[doc(alias = "cat")]
    #[doc(alias = "concatenate")]
    pub fn from_rows(parts: &[Tensor]) -> Result<Tensor> {
        let caller = Location::caller();
        let make = || {
            let first = parts.first().ok_or("expected at least one tensor")?;
            let (_, rest) = first.shape.split_first().ok_or("a scalar has no rows")?;
            let fits = |p: &&Tensor| p.dtype() == first.dtype() && p.shape.get(1..) == Some(rest);
            if let Some(other) = parts.iter().find(|p| !fits(p)) {
                return Err(OpError::new(format!(
                    "the types {} and {} do not fit",
                    first.ty(),
                    other.ty()
                )));
            }
            let count = parts
                .iter()
                // `resized` rejects too many rows
                .fold(0usize, |count, p| count.saturating_add(p.shape[0]));
            let shape = first.shape.resized(0, count)?;
            with_dtype!(first.dtype(), T => {
                let mut out = reserve(shape.count())?;
                parts.iter().filter_map(|p| T::buf(&p.data)).for_each(|b| out.extend_from_slice(b.as_slice()));
                Ok(Tensor { shape, data: T::wrap(Buf::new(out)) })
            })
        };
        make().map_err(|e: OpError| e.at("from_rows", caller))
    }

    fn dtype_mismatch<T: Element>(&self) -> OpError {
        OpError::new(format!(
            "the elements are {}, read as {}",
            self.dtype(),
            T::DTYPE
        ))
        .hint("cast them first")
    }

    /// Whether the data is not shared.
    pub(crate) fn is_unique(&mut self) -> bool {
        with_dtype!(self.dtype(), T => T::buf_mut(&mut self.data).is_some_and(|b| b.unique().is_some()))
    }

    /// These elements, as many as the shape has.
    pub(crate) fn of_elements<T: Element>(shape: Shape, elements: Vec<T>) -> Tensor {
        assert_eq!(shape.count(), elements.len());
        Tensor {
            shape,
            data: T::wrap(Buf::new(elements)),
        }
    }

    /// The same data with another shape of the same number of elements.
    pub(crate) fn reshaped(&self, shape: Shape) -> Tensor {
        Tensor {
            shape,
            data: self.data.clone(),
        }
    }
}

/// A literal of an expression, before its dtype is known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Number::Int(v) => v as f64,
            Number::Float(v) => v,
        }
    }
}

impl PartialEq for Tensor {
    /// Equal dtype, shape and elements. NaN equals nothing, as for floats.
    fn eq(&self, other: &Tensor) -> bool {
        self.ty() == other.ty()
            && with_dtype!(self.dtype(), T => match (T::buf(&self.data), T::buf(&other.data)) {
                (Some(a), Some(b)) => a.as_slice() == b.as_slice(),
                _ => false,
            })
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        with_dtype!(self.dtype(), T => match self.view::<T>() {
            Ok(view) => fmt::Display::fmt(&view, f),
            Err(_) => Err(fmt::Error),
        })
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {self}", self.ty())
    }
}
