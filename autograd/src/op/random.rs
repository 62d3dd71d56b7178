//! Random numbers from a key and a counter: the same on every machine and for any number of
//! threads.
//!
//! The generator is ChaCha with 8 rounds. The graph's seed is the key, the index of the random node
//! the stream, and the position of an element in the tensor the position in the stream: an f32 takes
//! one word of 32 bits, an f64 two.

use super::{Dependency, Internal, Op, Parts, Rule, expect_float, inputs, pointwise::Function};
use crate::{
    error::OpError,
    exec::kernels::{self, Vectors},
    graph::Graph,
    ints::Ints,
    piece::Piece,
    shape::{Shape, sizes},
    tensor::{DType, Tensor, Type, with_dtype},
    var::{Operand, Var},
    view::{TensorView, TensorViewMut},
};
use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};
use std::f64::consts::TAU;

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

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, _x: &[Type], _: Internal) -> Parts {
        Parts::elements(BLOCK, DRAW)
    }

    fn piece(&self, x: &[TensorView<'_>], mut out: Piece<'_>, _: Internal) -> Result<(), OpError> {
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
        let (first, out) = out.range::<bool>()?;
        let mut random = Random::at(x[0], first)?;
        for out in out.chunks_mut(BLOCK) {
            let words = random.words();
            // all but a probability of 1 fit
            match u32::try_from(limit) {
                Ok(limit) => out.iter_mut().zip(words).for_each(|(o, w)| *o = *w < limit),
                Err(_) => out.fill(true),
            }
        }
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
    /// Mean 0, variance 1, by the transform of Box and Muller (1958): of each pair of uniform
    /// samples, `√(-2 ln (1-u))·cos(2πv)` and `√(-2 ln (1-u))·sin(2πv)`.
    Normal,
}

impl Op for Draw {
    const NAME: &'static str = "draw";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        inputs::<1>(x)?;
        expect_float(self.ty.dtype)?;
        Ok(self.ty)
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, _x: &[Type], _: Internal) -> Parts {
        Parts::elements(BLOCK, DRAW)
    }

    fn piece(&self, x: &[TensorView<'_>], mut out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        with_dtype!(self.ty.dtype, float T => {
            let (first, out) = out.range::<T>()?;
            let mut random = Random::at(x[0], first * T::WORDS)?;
            for out in out.chunks_mut(BLOCK) {
                match self.from {
                    Distribution::Uniform => T::units(&mut random, out),
                    Distribution::Normal => normals(&mut random, out),
                }
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

/// How many numbers are drawn at once: a piece begins with a multiple of this.
const BLOCK: usize = 256;
/// What drawing a number costs, in light steps.
const DRAW: usize = 150;

/// The stream of random 32-bit words of a node.
struct Random {
    generator: ChaCha8Rng,
    words: [u32; BLOCK],
}

impl Random {
    /// From a word of the stream on; the key tensor is `[seed, index of the random node]`.
    fn at(key: TensorView<'_>, word: usize) -> Result<Random, OpError> {
        let &[seed, stream] = key.slice::<i64>()? else {
            return Err("the key does not have two elements".into());
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(bytes);
        generator.set_stream(stream as u64);
        generator.set_word_pos(word as u128);
        Ok(Random {
            generator,
            words: [0; BLOCK],
        })
    }

    /// The next words.
    fn words(&mut self) -> &[u32; BLOCK] {
        let mut bytes = [0; 4 * BLOCK];
        self.generator.fill_bytes(&mut bytes);
        let (bytes, _) = bytes.as_chunks();
        let words = self.words.iter_mut().zip(bytes);
        words.for_each(|(word, &bytes)| *word = u32::from_le_bytes(bytes));
        &self.words
    }
}

/// A number type, and numbers of it that are uniform in `[0, 1)`.
trait Uniform: Vectors {
    /// How many random words a number takes.
    const WORDS: usize;
    /// The numbers of the next block.
    fn units(random: &mut Random, out: &mut [Self]);
}

impl Uniform for f32 {
    const WORDS: usize = 1;
    fn units(random: &mut Random, out: &mut [f32]) {
        let unit = |word: u32| (word >> 8) as f32 * (1.0 / (1 << 24) as f32);
        out.iter_mut()
            .zip(random.words())
            .for_each(|(out, &word)| *out = unit(word));
    }
}

impl Uniform for f64 {
    const WORDS: usize = 2;
    fn units(random: &mut Random, out: &mut [f64]) {
        let unit = |w: &[u32]| ((w[1] as u64) << 32 | w[0] as u64) >> 11;
        for out in out.chunks_mut(BLOCK / 2) {
            let pairs = random.words().chunks_exact(2);
            out.iter_mut()
                .zip(pairs)
                .for_each(|(out, w)| *out = unit(w) as f64 * (1.0 / (1u64 << 53) as f64));
        }
    }
}

/// Normal samples: the two of each pair of uniform ones.
fn normals<T: Uniform>(random: &mut Random, out: &mut [T]) {
    const PAIRS: usize = BLOCK / 2;
    let mut units = [T::default(); BLOCK];
    T::units(random, &mut units);
    let [mut radius, mut sine, mut cosine] = [[T::default(); PAIRS]; 3];
    let (one, two, turn) = (T::of(1.0), T::of(-2.0), T::of(TAU));
    for (k, pair) in units.chunks_exact(2).enumerate() {
        (radius[k], sine[k]) = (one - pair[0], pair[1] * turn);
    }
    cosine.copy_from_slice(&sine);
    kernels::apply(Function::Ln, &mut radius, PAIRS);
    kernels::apply(Function::Sin, &mut sine, PAIRS);
    kernels::apply(Function::Cos, &mut cosine, PAIRS);
    radius.iter_mut().for_each(|r| *r = (two * *r).sqrt());
    for (k, pair) in out.chunks_mut(2).enumerate() {
        let both = [radius[k] * cosine[k], radius[k] * sine[k]];
        pair.iter_mut().zip(both).for_each(|(out, x)| *out = x);
    }
}

/// The key of a random node: the seed of its graph, and how many there are up to this one.
pub(crate) fn key(seed: u64, count: usize) -> Tensor {
    Tensor::from([seed as i64, count as i64])
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
    #[doc(alias = "dropout")]
    #[doc(alias = "rand_bernoulli")]
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
    #[doc(alias = "rand")]
    #[doc(alias = "random")]
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
    #[doc(alias = "randn")]
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
