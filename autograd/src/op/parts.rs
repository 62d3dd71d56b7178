//! How an op that runs its own `eval` is cut into parts for several threads: [`Split`], what any op
//! may say, and [`Parts`], what the ops of this crate say.
//!
//! Neither is trusted. An answer decides which elements a part gets, and is checked against the
//! shapes when the plan is made; a part can write no others. No bit of a result depends on the
//! parts, if the op computes each element in the same way whatever part it is in.

use crate::{shape::Shape, tensor::Type};
use std::ops::Range;

/// How the output of an op can be computed in parts.
///
/// A part is computed by a call of [`Op::eval`](crate::Op::eval) like any other, but with shorter
/// tensors: some of the sizes of the first axes are smaller, in the output and in the inputs that
/// are cut with it. So `eval` must take sizes from the tensors that it gets. It must compute an
/// element in the same way in whichever part it is. The parts are computed at the same time, and an
/// op that fails in one of them is evaluated again as a whole, for its error.
///
/// ```
/// use autograd::{DType, Graph, Op, OpError, Rule, Split, TensorView, TensorViewMut, Type, Var};
///
/// /// The median of each row of a matrix.
/// #[derive(Clone, PartialEq, Debug)]
/// struct Median;
///
/// impl Op for Median {
///     const NAME: &'static str = "median";
///     fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
///         match x {
///             [t] if t.dtype == DType::F64 && t.shape.len() == 2 && t.shape[1] > 0 => {
///                 Ok(Type::new(DType::F64, autograd::Shape::new(&t.shape[..1])?))
///             }
///             _ => Err("expected one f64 matrix".into()),
///         }
///     }
///     fn eval(&self, x: &[TensorView], mut out: TensorViewMut) -> Result<(), OpError> {
///         let n = x[0].shape()[1];
///         for (out, row) in out.slice::<f64>()?.iter_mut().zip(x[0].slice::<f64>()?.chunks(n)) {
///             let mut row = row.to_vec();
///             *out = *row.select_nth_unstable_by(n / 2, f64::total_cmp).1;
///         }
///         Ok(())
///     }
///     fn vjp<'g>(&self, _input: usize, _r: &Rule<'_, 'g>) -> Option<Var<'g>> {
///         None
///     }
///     /// Any rows of the input give the same rows of the output.
///     fn split(&self, _x: &[Type]) -> Split {
///         Split::Leading { axes: 1, inputs: 0b1 }
///     }
/// }
///
/// let g = Graph::new();
/// let x = g.constant([[3.0, 1.0, 2.0], [6.0, 5.0, 4.0]]);
/// assert_eq!(x.apply(Median).value()?.to_f64s(), [2.0, 5.0]);
/// # Ok::<(), autograd::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Split {
    /// It cannot: `eval` sees all of it.
    No,
    /// Along the first axes of the output. Inputs that are not cut are given whole to each part.
    /// An answer that does not fit the shapes has the effect of [`No`](Split::No).
    Leading {
        /// How many axes, all of which may be cut.
        axes: usize,
        /// Bit set: input `k` is cut along the same axes if bit `k` is set. It must have the same
        /// sizes there as the output.
        inputs: u32,
    },
}

impl Split {
    /// What it comes to for tensors of these types.
    pub(super) fn checked(self, x: &[Type], out: &Type) -> Parts {
        let Split::Leading { axes, inputs } = self else {
            return Parts::WHOLE;
        };
        let Some(sizes) = out.shape.get(..axes) else {
            return Parts::WHOLE;
        };
        let fits = |(k, t): (usize, &Type)| {
            let is_cut = inputs.checked_shr(k as u32).unwrap_or(0) & 1 == 1;
            !is_cut || t.shape.get(..axes) == Some(sizes)
        };
        match x.iter().enumerate().all(fits) {
            true => Parts {
                along: Along::Leading { axes, inputs },
                ..Parts::WHOLE
            },
            false => Parts::WHOLE,
        }
    }
}

/// Where the output of an op may be cut, and what that is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts {
    pub(crate) along: Along,
    /// What reading or writing an element costs, in light steps of
    /// [`cost`](crate::plan::cost).
    pub(crate) steps: usize,
    /// Whether each part has work that does not become less with more parts.
    pub(crate) is_costly: bool,
}

/// Where an output may be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Along {
    /// It may not.
    Nothing,
    /// What [`Split::Leading`] says, checked.
    Leading { axes: usize, inputs: u32 },
    /// After each multiple of this many elements.
    Elements { grain: usize },
    /// Between the lines along an axis.
    Lines { axis: usize },
}

impl Parts {
    /// A user's op, of unknown cost: an element takes about a nanosecond.
    pub(crate) const WHOLE: Parts = Parts {
        along: Along::Nothing,
        steps: 50,
        is_costly: false,
    };

    /// Any ranges of the elements, in multiples of `grain`.
    pub(crate) fn elements(grain: usize, steps: usize) -> Parts {
        let along = Along::Elements {
            grain: grain.max(1),
        };
        Parts {
            along,
            steps,
            is_costly: false,
        }
    }

    pub(crate) fn lines(axis: usize, steps: usize) -> Parts {
        let along = Along::Lines { axis };
        Parts {
            along,
            steps,
            is_costly: false,
        }
    }

    /// As few of them as there are threads.
    pub(crate) fn costly(self) -> Parts {
        Parts {
            is_costly: true,
            ..self
        }
    }
}

/// Columns are cut at multiples of this many elements, so that two threads seldom write to the same
/// cache line.
pub(crate) const COLUMNS: usize = 16;

/// An output that is to be computed in some parts, of which each is some units.
#[derive(Clone, Copy)]
pub(crate) struct Division {
    pub(crate) units: usize,
    /// How many units follow each other before the next block.
    pub(crate) per_block: usize,
    /// The axis that is cut, if the units are along one of the first axes.
    pub(crate) axis: usize,
}

impl Along {
    /// The units of an output that is computed in about this many parts.
    pub(crate) fn divide(self, shape: &Shape, parts: usize) -> Division {
        let (blocks, per_block) = match self {
            Along::Elements { grain } => (1, shape.count().div_ceil(grain)),
            Along::Lines { axis } => {
                let (blocks, _, inner) = shape.around(axis);
                let columns = parts.div_ceil(blocks.max(1)).min(inner.div_ceil(COLUMNS));
                (blocks, columns)
            }
            Along::Leading { axes, .. } => return leading(&shape[..axes], parts),
            Along::Nothing => (1, 1),
        };
        Division {
            units: blocks * per_block,
            per_block,
            axis: 0,
        }
    }
}

/// Along the first axis if it is long enough, else along the next one, and so on.
fn leading(sizes: &[usize], parts: usize) -> Division {
    let mut division = Division {
        units: 1,
        per_block: 1,
        axis: 0,
    };
    for (axis, &per_block) in sizes.iter().enumerate() {
        division = Division {
            units: division.units * per_block,
            per_block,
            axis,
        };
        if division.units >= parts {
            break;
        }
    }
    division
}

impl Division {
    /// Calls `f` for what a part has to do: with blocks, and the units of each of them. These are
    /// whole blocks, or some units of one.
    pub(crate) fn runs<E>(
        self,
        (part, parts): (usize, usize),
        mut f: impl FnMut(Range<usize>, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        let at = |part: usize| (self.units as u128 * part as u128 / parts as u128) as usize;
        let (mut unit, end) = (at(part), at(part + 1));
        while unit < end {
            let (block, first) = (unit / self.per_block, unit % self.per_block);
            let whole = (end - unit) / self.per_block;
            let (blocks, last) = match first {
                0 if whole > 0 => (whole, self.per_block),
                _ => (1, self.per_block.min(first + end - unit)),
            };
            f(block..block + blocks, first..last)?;
            unit += blocks * (last - first);
        }
        Ok(())
    }
}
