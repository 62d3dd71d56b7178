//! Data augmentation.

use crate::{error::Result, seed};
use autograd::Tensor;
use rand::RngExt;

/// Data augmentation for images: shifts each image of a batch by a random offset of up to
/// `max_shift` pixels in each direction, and fills the border with 0. For
/// [`Trainer::augment`](crate::Trainer::augment).
///
/// Each row of the batch must be a square f32 image. Other inputs are returned unchanged.
///
/// ```
/// use autograd::Tensor;
/// let images = Tensor::new([2, 9], (0..18).map(|k| k as f32).collect::<Vec<f32>>())?;
/// let shifted = nn::data::random_shift(1)(images.clone(), 7)?;
/// assert_eq!(shifted.shape(), [2, 9]);
/// assert_eq!(nn::data::random_shift(0)(images.clone(), 7)?, images);
/// # Ok::<(), nn::Error>(())
/// ```
pub fn random_shift(max_shift: usize) -> impl Fn(Tensor, u64) -> Result<Tensor> + Send + Sync {
    move |images, seed| {
        let &[count, pixels] = images.shape() else {
            return Ok(images);
        };
        let side = pixels.isqrt();
        if side * side != pixels || max_shift == 0 {
            return Ok(images);
        }
        let mut rng = seed::generator(seed);
        let (input, mut output) = (images.as_slice::<f32>()?, vec![0f32; count * pixels]);
        let max_shift = max_shift.min(side) as i64;
        for (source, target) in input
            .chunks_exact(pixels)
            .zip(output.chunks_exact_mut(pixels))
        {
            let mut draw = || rng.random_range(-max_shift..=max_shift) as isize;
            let (down, right) = (draw(), draw());
            for y in 0..side as isize {
                let source_y = y - down;
                if (0..side as isize).contains(&source_y) {
                    // the columns of the target row whose source is inside of the image
                    let (start, end) = (
                        right.max(0) as usize,
                        (side as isize + right.min(0)) as usize,
                    );
                    let (source_row, target_row) = (source_y as usize * side, y as usize * side);
                    let source_start = source_row + (start as isize - right) as usize;
                    target[target_row + start..target_row + end]
                        .copy_from_slice(&source[source_start..][..end - start]);
                }
            }
        }
        Ok(Tensor::new([count, pixels], output)?)
    }
}
