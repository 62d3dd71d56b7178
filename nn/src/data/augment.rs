//! Changes to samples that leave their meaning as it is: more data from the same data.

use crate::{error::Result, seed};
use autograd::Tensor;
use rand::RngExt;

/// Moves each image of a batch by up to `most` pixels in each direction, and fills in with 0: for rows that are square
/// images of f32, other rows stay. For [`Trainer::augment`](crate::Trainer::augment).
///
/// ```
/// use autograd::Tensor;
/// let images = Tensor::new([2, 9], (0..18).map(|k| k as f32).collect::<Vec<f32>>())?;
/// let moved = nn::data::shift_images(1)(images.clone(), 7)?;
/// assert_eq!(moved.shape(), [2, 9]);
/// assert_eq!(nn::data::shift_images(0)(images.clone(), 7)?, images);
/// # Ok::<(), nn::Error>(())
/// ```
pub fn shift_images(most: usize) -> impl Fn(Tensor, u64) -> Result<Tensor> + Send + Sync {
    move |images, seed| {
        let &[count, pixels] = images.shape() else {
            return Ok(images);
        };
        let side = pixels.isqrt();
        if side * side != pixels || most == 0 {
            return Ok(images);
        }
        let mut random = seed::generator(seed);
        let (old, mut new) = (images.as_slice::<f32>()?, vec![0f32; count * pixels]);
        let most = most.min(side) as i64;
        for (old, new) in old.chunks_exact(pixels).zip(new.chunks_exact_mut(pixels)) {
            let mut draw = || random.random_range(-most..=most) as isize;
            let (down, right) = (draw(), draw());
            for y in 0..side as isize {
                let from = y - down;
                if (0..side as isize).contains(&from) {
                    // the part of the row that is still inside
                    let (start, end) = (
                        right.max(0) as usize,
                        (side as isize + right.min(0)) as usize,
                    );
                    let (from, to) = (from as usize * side, y as usize * side);
                    let source = &old[from + (start as isize - right) as usize..][..end - start];
                    new[to + start..to + end].copy_from_slice(source);
                }
            }
        }
        Ok(Tensor::new([count, pixels], new)?)
    }
}
