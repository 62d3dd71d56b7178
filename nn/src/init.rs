//! Initial values of parameters.

use crate::seed;
use autograd::Tensor;
use rand::Rng;

/// Uniform numbers from `-bound` to `bound`, portable: 24 random bits each.
pub(crate) fn uniform(shape: &[usize], bound: f32, seed: u64) -> autograd::Result<Tensor> {
    let mut random = seed::generator(seed);
    let mut draw = || ((random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0) * bound;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
    let mut values = Vec::new();
    if values.try_reserve_exact(count).is_err() {
        return Tensor::full(shape, 0f32); // which says what is wrong
    }
    values.extend((0..count).map(|_| draw()));
    Tensor::new(shape, values)
}
