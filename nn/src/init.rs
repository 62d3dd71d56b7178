//! Initial values of parameters, in f32, from a seed.
//!
//! For a weight `[inputs, outputs]` (or `[.., inputs, outputs]`), the fan-in is the number of inputs, the fan-out that of
//! outputs.

use crate::{
    error::{Error, Result, reserve},
    seed,
};
use autograd::{DType, Graph, Shape, Tensor};
use rand::Rng;

/// Uniform numbers from `-bound` to `bound`, 24 random bits each.
///
/// ```
/// let w = nn::init::uniform(&[784, 128], 0.1, 42)?;
/// assert_eq!(w.shape(), [784, 128]);
/// # Ok::<(), nn::Error>(())
/// ```
pub fn uniform(shape: &[usize], bound: f32, seed: u64) -> Result<Tensor> {
    let count = Shape::new(shape)
        .map_err(|e| Error::invalid(e.to_string()))?
        .count();
    let mut random = seed::generator(seed);
    let mut values = reserve(count)?;
    values.extend(
        (0..count).map(|_| ((random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0) * bound),
    );
    Ok(Tensor::new(shape, values)?)
}

/// Normal numbers with mean 0 and this standard deviation.
pub fn normal(shape: &[usize], deviation: f32, seed: u64) -> Result<Tensor> {
    let g = Graph::with_seed(seed);
    Ok((g.normal(shape, DType::F32) * deviation).value()?)
}

/// Uniform in `±√(6 / (fan-in + fan-out))`: for tanh and sigmoid (Glorot and Bengio 2010).
pub fn xavier_uniform(shape: &[usize], seed: u64) -> Result<Tensor> {
    let (inputs, outputs) = fans(shape)?;
    uniform(shape, (6.0 / (inputs + outputs)).sqrt(), seed)
}

/// Normal with variance `2 / (fan-in + fan-out)`.
pub fn xavier_normal(shape: &[usize], seed: u64) -> Result<Tensor> {
    let (inputs, outputs) = fans(shape)?;
    normal(shape, (2.0 / (inputs + outputs)).sqrt(), seed)
}

/// Uniform in `±√(6 / fan-in)`: for ReLU (He, Zhang, Ren and Sun 2015).
pub fn kaiming_uniform(shape: &[usize], seed: u64) -> Result<Tensor> {
    uniform(shape, (6.0 / fans(shape)?.0).sqrt(), seed)
}

/// Normal with variance `2 / fan-in`.
pub fn kaiming_normal(shape: &[usize], seed: u64) -> Result<Tensor> {
    normal(shape, (2.0 / fans(shape)?.0).sqrt(), seed)
}

/// Fan-in and fan-out of a weight; at least 1, so that nothing is divided by 0.
fn fans(shape: &[usize]) -> Result<(f32, f32)> {
    match shape {
        [.., inputs, outputs] => Ok(((*inputs).max(1) as f32, (*outputs).max(1) as f32)),
        _ => Err(Error::invalid(format!(
            "a weight [inputs, outputs] is wanted, not {shape:?}"
        ))),
    }
}
