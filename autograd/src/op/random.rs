//! Random numbers from a key and a counter: the same on every machine and for any number of
//! threads.
//!
//! The generator is ChaCha with 8 rounds. The graph's seed is the key, the index of the random node
//! the stream, and the position of an element in the tensor the position in the stream.

use super::{Dependency, Op, Rule, expect_float, inputs};
use crate::{
    error::OpError,
    graph::Graph,
    math::Lanes,
    shape::{Ints, Shape, sizes},
    tensor::{DType, Type, with_dtype},
    var::{Operand, Var},
    view::{TensorView, TensorViewMut},
};
use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};

/// `true` with probability `p` for each element of a shape; inputs are the key and `p`.
#[derive(Clone, PartialEq, Debug)]
struct Bernoulli(Shape);

impl Op for Bernoulli {
    const NAME: &'static str = "bernoulli";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [_key, p] = inputs::<2>(x)?;
        expect_float(p.dtype)?;
        if p.shape.rank() > 0 {
            return Err(OpError::new(format!(
                "expected a scalar probability, got {}",
                p.shape
            )));
        }
        Ok(Type::new(DType::Bool, self.0))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let p = match x[1].dtype() {
            DType::F32 => x[1].slice::<f32>()?[0] as f64,
            _ => x[1].slice::<f64>()?[0],
        };
        if !(0.0..=1.0).contains(&p) {
            return Err(OpError::new(format!(
                "{p} is not a probability between 0 and 1"
            )));
        }
        let limit = (p * (1u64 << 32) as f64) as u64;
        let mut random = generator(x[0])?;
        out.slice::<bool>()?
            .iter_mut()
            .for_each(|o| *o = u64::from(random.next_u32()) < limit);
        Ok(())
    }

    fn vjp<'g>(&self, _input: usize, _r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        None
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::None
    }
}

/// Samples of a distribution; the input is the key.
#[derive(Clone, PartialEq, Debug)]
struct Draw {
    from: Distribution,
    ty: Type,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Distribution {
    /// Uniform in `[0, 1)`: 24 (f32) or 53 (f64) random bits.
    Uniform,
    /// Mean 0, variance 1, by the transform of Box and Muller (1958): `√(-2 ln u)·cos(2πv)`.
    Normal,
}

impl Op for Draw {
    const NAME: &'static str = "draw";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        inputs::<1>(x)?;
        expect_float(self.ty.dtype)?;
        Ok(self.ty)
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let mut random = generator(x[0])?;
        let mut unit = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        with_dtype!(self.ty.dtype, float T => {
            let out = out.slice::<T>()?;
            match self.from {
                // floor, because rounding to nearest could give 1 in f32
                Distribution::Uniform if self.ty.dtype == DType::F32 => {
                    out.iter_mut().for_each(|o| *o = T::of((unit() * (1 << 24) as f64).floor() / (1 << 24) as f64));
                }
                Distribution::Uniform => out.iter_mut().for_each(|o| *o = T::of(unit())),
                Distribution::Normal => out.iter_mut().for_each(|o| *o = T::of(normal(unit(), unit()))),
            }
            Ok(())
        }, else expect_float(self.ty.dtype))
    }

    fn vjp<'g>(&self, _input: usize, _r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        None
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::None
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }
}

/// A normal sample from two uniform ones, with functions that give the same bits on every machine.
fn normal(u: f64, v: f64) -> f64 {
    (-2.0 * Lanes::ln(1.0 - u)).sqrt() * Lanes::cos(std::f64::consts::TAU * v)
}

/// The generator of a key tensor: `[seed, index of the random node]`.
fn generator(key: TensorView<'_>) -> Result<ChaCha8Rng, OpError> {
    let &[seed, stream] = key.slice::<i64>()? else {
        return Err("the key does not have two elements".into());
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(bytes);
    random.set_stream(stream as u64);
    Ok(random)
}

impl Graph {
    /// Booleans that are `true` with probability `p` (a scalar from 0 to 1). They depend on the
    /// graph's seed and on how many random nodes were made before. Evaluated twice, they are the
    /// same.
    ///
    /// ```
    /// let g = autograd::Graph::training(7);
    /// let mask = g.bernoulli(0.5, [1000]);
    /// let heads = mask.sum().value()?.scalar()?;
    /// assert!((400.0..600.0).contains(&heads));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn bernoulli<'g>(&'g self, p: impl Operand<'g>, shape: impl Ints) -> Var<'g> {
        let key = self.random_key();
        let like = p.as_var().unwrap_or_else(|| self.constant(0.0));
        match sizes(&shape.list()) {
            Ok(shape) => self.apply(Bernoulli(shape), &[key, p.var(like)]),
            Err(e) => self.fail(Bernoulli::NAME, e, &[]),
        }
    }

    /// Uniform samples from `[0, 1)`. They depend on the seed and the node's index as those of
    /// [`bernoulli`](Graph::bernoulli) do.
    #[track_caller]
    pub fn uniform(&self, shape: impl Ints, dtype: DType) -> Var<'_> {
        self.draw("uniform", Distribution::Uniform, &shape.list(), dtype)
    }

    /// Samples of the normal distribution with mean 0 and variance 1.
    ///
    /// ```
    /// let g = autograd::Graph::with_seed(1);
    /// let x = g.normal([10_000], autograd::DType::F32);
    /// let (mean, var) = g.run((x.mean(), x.var(0)))?;
    /// assert!(mean.scalar()?.abs() < 0.03 && (var.scalar()? - 1.0).abs() < 0.05);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn normal(&self, shape: impl Ints, dtype: DType) -> Var<'_> {
        self.draw("normal", Distribution::Normal, &shape.list(), dtype)
    }

    #[track_caller]
    fn draw(
        &self,
        name: &'static str,
        from: Distribution,
        shape: &[isize],
        dtype: DType,
    ) -> Var<'_> {
        let key = self.random_key();
        match sizes(shape) {
            Ok(shape) => self.apply(
                Draw {
                    from,
                    ty: Type::new(dtype, shape),
                },
                &[key],
            ),
            Err(e) => self.fail(name, e, &[]),
        }
    }
}
