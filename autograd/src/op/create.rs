//! Tensors without inputs: constants with a pattern, and tensors like others.

use crate::{
    error::OpError,
    graph::Graph,
    tensor::{DType, Tensor, reserve, with_dtype},
    var::{Operand, Var},
};

impl Graph {
    /// `start, start + step, ..` up to but not including `stop`, in f64. An error if the sequence
    /// would be infinite.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// assert_eq!(g.arange(0.0, 1.0, 0.25).value()?.to_f64s(), [0.0, 0.25, 0.5, 0.75]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn arange(&self, start: f64, stop: f64, step: f64) -> Var<'_> {
        let make = || {
            let count = ((stop - start) / step).ceil();
            if step == 0.0 || count.is_nan() || count > isize::MAX as f64 {
                return Err(OpError::new(format!(
                    "from {start} to {stop} in steps of {step} is not a finite sequence"
                )));
            }
            let count = count as usize; // negative counts become 0
            let mut v = reserve(count)?;
            v.extend((0..count).map(|k| start + k as f64 * step));
            Ok(v)
        };
        match make() {
            Ok(v) => self.constant(v),
            Err(e) => self.fail("arange", e, &[]),
        }
    }

    /// `count` evenly spaced values from `start` to `stop`, both included, in f64.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// assert_eq!(g.linspace(0.0, 1.0, 5).value()?.to_f64s(), [0.0, 0.25, 0.5, 0.75, 1.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn linspace(&self, start: f64, stop: f64, count: usize) -> Var<'_> {
        let make = || {
            let mut v = reserve(count)?;
            let step = (stop - start) / (count.max(2) - 1) as f64;
            // the last value is exact
            v.extend((0..count).map(|k| {
                if k > 0 && k + 1 == count {
                    stop
                } else {
                    start + k as f64 * step
                }
            }));
            Ok(v)
        };
        match make() {
            Ok(v) => self.constant(v),
            Err(e) => self.fail("linspace", e, &[]),
        }
    }

    /// The identity matrix: 1 on the diagonal, 0 elsewhere.
    #[track_caller]
    pub fn eye(&self, size: usize, dtype: DType) -> Var<'_> {
        let make = || {
            let count = size
                .checked_mul(size)
                .ok_or("the matrix is too large for any memory")?;
            let mut v = reserve::<bool>(count)?;
            v.extend((0..count).map(|k| k % (size + 1) == 0));
            Tensor::new([size, size], v).map_err(|e| OpError::new(e.message()))
        };
        match make() {
            Ok(diagonal) => self.constant(diagonal).cast(dtype),
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
        self.filled(|dtype| Tensor::number(crate::tensor::Number::Int(1), dtype))
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
