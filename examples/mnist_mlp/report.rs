//! Text output about the predictions of the trained network.

use autograd::{Graph, Tensor};
use nn::{Dataset, Result};

/// The class with the largest output, for each row.
pub(crate) fn predicted_classes(outputs: &Tensor) -> Result<Vec<i64>> {
    Ok(Graph::new()
        .constant(outputs)
        .argmax(-1)
        .value()?
        .as_slice::<i64>()?
        .to_vec())
}

/// The first misclassified images as text, side by side.
pub(crate) fn misclassified(test: &Dataset, labels: &[i64], predicted: &[i64]) -> Result<String> {
    const MAX_IMAGES: usize = 4;
    let wrong: Vec<usize> = (0..predicted.len())
        .filter(|&k| labels[k] != predicted[k])
        .take(MAX_IMAGES)
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
    let titles = wrong.iter().map(|&k| {
        format!(
            "{:side$}  ",
            format!("{}, predicted {}", labels[k], predicted[k])
        )
    });
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

/// Draws an image as lines of text. A line stands for two rows of pixels, because characters are
/// about twice as high as wide.
fn draw(image: &[f32], side: usize) -> Vec<String> {
    let character = |row: &[f32], next_row: &[f32], x: usize| {
        let brightness = (row[x] + next_row.get(x).copied().unwrap_or(0.0)) / 2.0;
        // other data than MNIST may have other numbers than 0 to 1
        [' ', '.', ':', '+', '*', '#', '@'][(brightness.clamp(0.0, 1.0) * 6.99) as usize]
    };
    let rows: Vec<&[f32]> = image.chunks(side).collect();
    rows.chunks(2)
        .map(|pair| {
            (0..side)
                .map(|x| character(pair[0], pair.get(1).copied().unwrap_or(&[]), x))
                .collect()
        })
        .collect()
}
