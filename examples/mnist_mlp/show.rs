//! What the trained network does, as text.

use autograd::{Graph, Tensor};
use nn::{Dataset, Result};

/// The class with the largest output, row by row.
pub(crate) fn labels(outputs: &Tensor) -> Result<Vec<i64>> {
    Ok(Graph::new()
        .constant(outputs)
        .argmax(-1)
        .value()?
        .as_slice::<i64>()?
        .to_vec())
}

/// The first few images that were read wrongly, side by side.
pub(crate) fn mistakes(test: &Dataset, written: &[i64], read: &[i64]) -> Result<String> {
    const SHOWN: usize = 4;
    let wrong: Vec<usize> = (0..read.len())
        .filter(|&k| written[k] != read[k])
        .take(SHOWN)
        .collect();
    let pixels: usize = test.sample_shape().iter().product();
    let side = pixels.isqrt();
    if wrong.is_empty() || side * side != pixels {
        return Ok(String::new());
    }
    let (images, _) = test.rows(&wrong)?;
    let images: Vec<Vec<String>> = images
        .as_slice::<f32>()?
        .chunks(pixels)
        .map(|image| draw(image, side))
        .collect();
    let titles = wrong
        .iter()
        .map(|&k| format!("{:side$}  ", format!("{} read as {}", written[k], read[k])));
    let mut text = format!("{}\n", titles.collect::<String>().trim_end());
    for line in 0..images[0].len() {
        let row: String = images
            .iter()
            .map(|image| format!("{}  ", image[line]))
            .collect();
        text.push_str(row.trim_end());
        text.push('\n');
    }
    Ok(text)
}

/// An image in lines of text, two rows of pixels a line, since characters are twice as high as wide.
fn draw(image: &[f32], side: usize) -> Vec<String> {
    let shade = |row: &[f32], below: &[f32], x: usize| {
        let grey = (row[x] + below.get(x).copied().unwrap_or(0.0)) / 2.0;
        [' ', '.', ':', '+', '*', '#', '@'][(grey * 6.99) as usize]
    };
    let rows: Vec<&[f32]> = image.chunks(side).collect();
    rows.chunks(2)
        .map(|two| {
            (0..side)
                .map(|x| shade(two[0], two.get(1).copied().unwrap_or(&[]), x))
                .collect()
        })
        .collect()
}
