//! Conversion between dtypes.

use super::{Dependency, Internal, Lowering, Op, Parts, Rule, inputs, layout::MOVE};
use crate::{
    error::OpError,
    piece::Piece,
    tensor::{DType, Element, Type, with_dtype},
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

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, _x: &[Type], _: Internal) -> Parts {
        Parts::elements(1, MOVE)
    }

    fn piece(&self, x: &[TensorView<'_>], mut out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        macro_rules! convert {
            ($To:ty, $f:expr) => {
                with_dtype!(x[0].dtype(), From => {
                    if From::DTYPE == <$To>::DTYPE {
                        return Err("is of this type already".into()); // no node does this
                    }
                    let (first, out) = out.range::<$To>()?;
                    let from = &x[0].slice::<From>()?[first..][..out.len()];
                    out.iter_mut().zip(from).for_each(|(out, &v)| *out = $f(v));
                    Ok(())
                })
            };
        }
        match self.0 {
            DType::F32 => convert!(f32, Convert::f32),
            DType::F64 => convert!(f64, Convert::f64),
            DType::I64 => with_dtype!(x[0].dtype(), From => {
                let (first, out) = out.range::<i64>()?;
                let from = &x[0].slice::<From>()?[first..][..out.len()];
                // all of them, without a branch for each
                let pairs = out.iter_mut().zip(from);
                match pairs.fold(true, |fit, (out, &v)| fit & v.to_i64(out)) {
                    true => Ok(()),
                    false => Err(misfit(from.iter().map(|&v| v.f64()))),
                }
            }),
            DType::Bool => convert!(bool, |v| v != Default::default()),
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
trait Convert: Copy {
    fn f32(self) -> f32;
    fn f64(self) -> f64;
    /// Whether it fits.
    fn to_i64(self, to: &mut i64) -> bool;
}

macro_rules! convert {
    ($($T:ty: |$v:ident| $f32:expr, $f64:expr, $i64:expr;)*) => { $(
        impl Convert for $T {
            fn f32(self) -> f32 { let $v = self; $f32 }
            fn f64(self) -> f64 { let $v = self; $f64 }
            fn to_i64(self, to: &mut i64) -> bool {
                let $v = self;
                let (value, fits) = $i64;
                *to = value;
                fits
            }
        }
    )* };
}

convert! {
    f32: |v| v, v.into(), (v as i64, fits(v.into()));
    f64: |v| v as f32, v, (v as i64, fits(v));
    i64: |v| v as f32, v as f64, (v, true);
    bool: |v| v.into(), v.into(), (v.into(), true);
}

fn fits(v: f64) -> bool {
    const LIMIT: f64 = (1u64 << 63) as f64;
    (-LIMIT..LIMIT).contains(&v)
}

/// The error for the first value that does not fit.
fn misfit(mut values: impl Iterator<Item = f64>) -> OpError {
    let v = values.find(|&v| !fits(v)).unwrap_or(f64::NAN);
    OpError::new(format!("{v} does not fit in a 64-bit integer"))
}

impl<'g> Var<'g> {
    /// The same values as another dtype. Floats are truncated to integers; a value that does not
    /// fit is an error when it is evaluated. A value is `true` if it is not 0. Between floats the
    /// gradient is cast back; integers and booleans have no gradient.
    #[track_caller]
    #[doc(alias = "astype")]
    #[doc(alias = "to")]
    #[doc(alias = "float")]
    #[doc(alias = "long")]
    #[doc(alias = "convert_element_type")]
    pub fn cast(self, dtype: DType) -> Var<'g> {
        if self.known_dtype() == dtype {
            self
        } else {
            self.apply(Cast(dtype))
        }
    }
}
