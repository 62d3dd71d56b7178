//! Conversion between dtypes.

use super::{Dependency, Internal, Lowering, Op, Rule, inputs};
use crate::{
    error::OpError,
    tensor::{DType, Type, with_dtype},
    var::Var,
    view::{TensorView, TensorViewMut},
};

/// The same values as another dtype.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Cast(pub(crate) DType);

impl Op for Cast {
    const NAME: &'static str = "cast";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x] = inputs::<1>(x)?;
        Ok(Type::new(self.0, x.shape))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        macro_rules! convert {
            ($To:ty, $f:expr) => {
                with_dtype!(x[0].dtype(), From => {
                    let from = x[0].slice::<From>()?;
                    for (o, &v) in out.slice::<$To>()?.iter_mut().zip(from) {
                        *o = $f(v)?;
                    }
                    Ok(())
                })
            };
        }
        match self.0 {
            DType::F32 => convert!(f32, |v| Ok::<_, OpError>(Convert::f32(v))),
            DType::F64 => convert!(f64, |v| Ok::<_, OpError>(Convert::f64(v))),
            DType::I64 => convert!(i64, Convert::i64),
            DType::Bool => convert!(bool, |v| Ok::<_, OpError>(Convert::f64(v) != 0.0)),
        }
    }

    /// The cotangent, cast back.
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct.cast(r.x[0].known_dtype()))
    }

    fn may_fail(&self, x: &[Type]) -> bool {
        self.0 == DType::I64 && x.iter().any(|t| t.dtype.is_float())
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Cast
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Elementwise
    }
}

/// Converts one scalar to any other type. A float becomes an integer by truncation and must fit.
trait Convert: Sized {
    fn f32(self) -> f32;
    fn f64(self) -> f64;
    fn i64(self) -> Result<i64, OpError>;
}

macro_rules! convert {
    ($($T:ty: |$v:ident| $f32:expr, $f64:expr, $i64:expr;)*) => { $(
        impl Convert for $T {
            fn f32(self) -> f32 { let $v = self; $f32 }
            fn f64(self) -> f64 { let $v = self; $f64 }
            fn i64(self) -> Result<i64, OpError> { let $v = self; $i64 }
        }
    )* };
}

convert! {
    f32: |v| v, v.into(), truncate(v.into());
    f64: |v| v as f32, v, truncate(v);
    i64: |v| v as f32, v as f64, Ok(v);
    bool: |v| v.into(), v.into(), Ok(v.into());
}

fn truncate(v: f64) -> Result<i64, OpError> {
    const LIMIT: f64 = (1u64 << 63) as f64;
    if (-LIMIT..LIMIT).contains(&v) {
        return Ok(v as i64);
    }
    Err(OpError::new(format!(
        "{v} does not fit in a 64-bit integer"
    )))
}

impl<'g> Var<'g> {
    /// The same values as another dtype. Floats are truncated to integers; a value that does not
    /// fit is an error when it is evaluated. A value is `true` if it is not 0. Between floats the
    /// gradient is cast back; integers and booleans have no gradient.
    #[track_caller]
    pub fn cast(self, dtype: DType) -> Var<'g> {
        if self.known_dtype() == dtype {
            self
        } else {
            self.apply(Cast(dtype))
        }
    }
}
