//! Weight initialisation: random f32 tensors from a seed.
//! `init::normal(&[4, 3], 1.0, 7)?.cast(DType::F64)?` has the same numbers in f64.
//!
//! A weight has the shape `[.., inputs, outputs]`. Its fan-in is the number of inputs, its fan-out
//! the number of outputs.

use crate::{
    error::{Error, Result, reserve},
    seed,
};
use autograd::{DType, Graph, Shape, Tensor};
use rand::Rng;

/// Uniform in `-bound..bound`, with 24 random bits per element.
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

/// Normal with mean 0 and this standard deviation.
pub fn normal(shape: &[usize], std: f32, seed: u64) -> Result<Tensor> {
    let g = Graph::with_seed(seed);
    Ok((g.normal(shape, DType::F32) * std).value()?)
}

/// Xavier (Glorot) uniform: uniform in `±√(6 / (fan-in + fan-out))`. For tanh and sigmoid (Glorot
/// and Bengio 2010).
pub fn xavier_uniform(shape: &[usize], seed: u64) -> Result<Tensor> {
    let (fan_in, fan_out) = fan_in_and_fan_out(shape)?;
    uniform(shape, (6.0 / (fan_in + fan_out)).sqrt(), seed)
}

/// Xavier (Glorot) normal: normal with variance `2 / (fan-in + fan-out)`.
pub fn xavier_normal(shape: &[usize], seed: u64) -> Result<Tensor> {
    let (fan_in, fan_out) = fan_in_and_fan_out(shape)?;
    normal(shape, (2.0 / (fan_in + fan_out)).sqrt(), seed)
}

/// Kaiming (He) uniform: uniform in `±√(6 / fan-in)`. For ReLU (He, Zhang, Ren and Sun 2015).
pub fn kaiming_uniform(shape: &[usize], seed: u64) -> Result<Tensor> {
    uniform(shape, (6.0 / fan_in_and_fan_out(shape)?.0).sqrt(), seed)
}

/// Kaiming (He) normal: normal with variance `2 / fan-in`.
pub fn kaiming_normal(shape: &[usize], seed: u64) -> Result<Tensor> {
    normal(shape, (2.0 / fan_in_and_fan_out(shape)?.0).sqrt(), seed)
}

/// Fan-in and fan-out of a weight; at least 1, to avoid a division by 0.
fn fan_in_and_fan_out(shape: &[usize]) -> Result<(f32, f32)> {
    match shape {
        [.., inputs, outputs] => Ok(((*inputs).max(1) as f32, (*outputs).max(1) as f32)),
        _ => Err(Error::invalid(format!(
            "expected the shape [.., inputs, outputs] of a weight, got {shape:?}"
        ))),
    }
}
