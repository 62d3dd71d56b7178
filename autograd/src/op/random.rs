//! Random numbers, from a key and a counter: the same on any machine and for any number of threads.
//!
//! The generator is ChaCha with 8 rounds; the graph's seed is its key, the number of the random node its stream, and
//! the position of an element in the tensor its position in the stream.

use super::{Dependency, Op, Rule, inputs, wants_float};
use crate::{
    error::OpError,
    graph::Graph,
    shape::{Ints, Shape, sizes},
    tensor::{DType, Type},
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
        wants_float(p.dtype)?;
        if p.shape.rank() > 0 {
            return Err(OpError::new(format!("the probability is one number, got {}", p.shape)));
        }
        Ok(Type::new(DType::Bool, self.0))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let p = match x[1].dtype() {
            DType::F32 => x[1].slice::<f32>()?[0] as f64,
            _ => x[1].slice::<f64>()?[0],
        };
        if !(0.0..=1.0).contains(&p) {
            return Err(OpError::new(format!("{p} is not a probability between 0 and 1")));
        }
        let limit = (p * (1u64 << 32) as f64) as u64;
        let mut random = generator(x[0])?;
        out.slice::<bool>()?.iter_mut().for_each(|o| *o = u64::from(random.next_u32()) < limit);
        Ok(())
    }

    fn vjp<'g>(&self, _input: usize, _r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        None
    }

    fn dependency(&self, _input: usize) -> Dependency {
        Dependency::None
    }
}

/// The generator of a key tensor: `[seed, number of the random node]`.
fn generator(key: TensorView<'_>) -> Result<ChaCha8Rng, OpError> {
    let &[seed, stream] = key.slice::<i64>()? else { return Err("the key is not two numbers".into()) };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(bytes);
    random.set_stream(stream as u64);
    Ok(random)
}

impl Graph {
    /// Truth values that are `true` with probability `p` (one number from 0 to 1). They depend on the graph's seed and
    /// on how many random nodes were made before; asked for twice, they are the same.
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
}
