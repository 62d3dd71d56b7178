//! Tensors without inputs: constants with a pattern, and tensors like others.
//!
//! One rule for dtypes: what is made from numbers has the dtype of the numbers ([`Num`]); what is made
//! from none takes a [`DType`].

use crate::{
    error::OpError,
    graph::Graph,
    tensor::{DType, Number, Tensor, reserve, with_dtype},
    values::{FloatNum, Literal, Num},
    var::{Operand, Var},
};

/// See [`Tensor::arange`].
pub(crate) fn arange<N: Num>(start: N, stop: N, step: N) -> Result<Tensor, OpError> {
    let [start, stop, step] = [start, stop, step].map(|v| v.number());
    match (start, stop, step) {
        (Literal(Number::Int(start)), Literal(Number::Int(stop)), Literal(Number::Int(step))) => {
            integers(start, stop, step)
        }
        (start, stop, step) => {
            let [start, stop, step] = [start, stop, step].map(|v| v.0.to_f64());
            let count = ((stop - start) / step).ceil();
            if step == 0.0 || count.is_nan() || count > isize::MAX as f64 {
                return Err(infinite(start, stop, step));
            }
            let count = count as usize; // negative counts become 0
            let all = (0..count).map(|k| start + k as f64 * step);
            floats(N::DTYPE, count, all)
        }
    }
}

fn integers(start: i64, stop: i64, step: i64) -> Result<Tensor, OpError> {
    // in 128 bits nothing overflows
    let [first, stop_at, by] = [start, stop, step].map(i128::from);
    if by == 0 {
        return Err(infinite(start as f64, stop as f64, 0.0));
    }
    let count = (stop_at - first + by - by.signum()).div_euclid(by).max(0);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut v = reserve(count)?;
    v.extend((0..count as i128).map(|k| (first + k * by) as i64));
    Ok(Tensor::from(v))
}

fn infinite(start: f64, stop: f64, step: f64) -> OpError {
    OpError::new(format!(
        "from {start} to {stop} in steps of {step} is not a finite sequence"
    ))
}

/// Values computed in f64, as a tensor of a float dtype.
fn floats(dtype: DType, count: usize, all: impl Iterator<Item = f64>) -> Result<Tensor, OpError> {
    Ok(match dtype {
        DType::F32 => {
            let mut v = reserve::<f32>(count)?;
            v.extend(all.map(|x| x as f32));
            Tensor::from(v)
        }
        _ => {
            let mut v = reserve::<f64>(count)?;
            v.extend(all);
            Tensor::from(v)
        }
    })
}

/// See [`Tensor::linspace`].
pub(crate) fn linspace<N: FloatNum>(start: N, stop: N, count: usize) -> Result<Tensor, OpError> {
    let (start, stop) = (start.number().0.to_f64(), stop.number().0.to_f64());
    let step = (stop - start) / (count.max(2) - 1) as f64;
    // the last value is exact
    let value = |k| match k > 0 && k + 1 == count {
        true => stop,
        false => start + k as f64 * step,
    };
    floats(N::DTYPE, count, (0..count).map(value))
}

/// See [`Tensor::eye`].
pub(crate) fn eye(size: usize, dtype: DType) -> Result<Tensor, OpError> {
    let count = size
        .checked_mul(size)
        .ok_or("the matrix is too large for any memory")?;
    with_dtype!(dtype, T => {
        let one = Tensor::number(Number::Int(1), dtype);
        let one = one.as_view().slice::<T>()?[0];
        let mut v = reserve::<T>(count)?;
        v.extend((0..count).map(|k| if k % (size + 1) == 0 { one } else { T::default() }));
        Tensor::new([size, size], v).map_err(|e| OpError::new(e.message()))
    })
}

impl Graph {
    /// `start, start + step, ..` up to but not including `stop`, of the dtype of these numbers: f64
    /// for `0.0`, f32 for `0f32`, i64 for integers. An error if the sequence would be infinite.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// assert_eq!(g.arange(0.0, 1.0, 0.25).value()?.to_f64s(), [0.0, 0.25, 0.5, 0.75]);
    /// assert_eq!(g.arange(0, 3, 1).value()?.as_slice::<i64>()?, [0, 1, 2]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "range")]
    #[doc(alias = "iota")]
    pub fn arange<N: Num>(&self, start: N, stop: N, step: N) -> Var<'_> {
        match arange(start, stop, step) {
            Ok(v) => self.constant(v),
            Err(e) => self.fail("arange", e, &[]),
        }
    }

    /// `count` evenly spaced values from `start` to `stop`, both included, of the dtype of these
    /// numbers.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// assert_eq!(g.linspace(0.0, 1.0, 5).value()?.to_f64s(), [0.0, 0.25, 0.5, 0.75, 1.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn linspace<N: FloatNum>(&self, start: N, stop: N, count: usize) -> Var<'_> {
        match linspace(start, stop, count) {
            Ok(v) => self.constant(v),
            Err(e) => self.fail("linspace", e, &[]),
        }
    }

    /// The identity matrix: 1 on the diagonal, 0 elsewhere.
    #[track_caller]
    #[doc(alias = "identity")]
    pub fn eye(&self, size: usize, dtype: DType) -> Var<'_> {
        match eye(size, dtype) {
            Ok(v) => self.constant(v),
            Err(e) => self.fail("eye", e, &[]),
        }
    }
}

impl<'g> Var<'g> {
    /// Zeros of the same shape and dtype.
    #[track_caller]
    pub fn zeros_like(self) -> Var<'g> {
        self.filled(|dtype| with_dtype!(dtype, T => Tensor::from(T::default())))
    }

    /// Ones of the same shape and dtype.
    #[track_caller]
    pub fn ones_like(self) -> Var<'g> {
        self.filled(|dtype| Tensor::number(Number::Int(1), dtype))
    }

    /// This value everywhere, with the same shape and dtype.
    #[track_caller]
    pub fn full_like(self, value: impl Operand<'g>) -> Var<'g> {
        self.with_shape("full_like", |shape| {
            Ok(value.var(self).broadcast_to(*shape))
        })
    }

    #[track_caller]
    fn filled(self, value: impl FnOnce(DType) -> Tensor) -> Var<'g> {
        self.with_shape("full_like", |shape| {
            Ok(self
                .graph()
                .constant(value(self.known_dtype()))
                .broadcast_to(*shape))
        })
    }
}
