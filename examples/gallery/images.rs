//! Images of digits: a network with dropout, label smoothing and averaged weights, and the images that it gets wrong.

use crate::{Result, expect};
use nn::{
    Activation, AdamW, Module, Optimizer, Trainer, Validation, data, loss, metrics::ConfusionMatrix,
};

/// An image as text.
fn picture(pixels: &[f32]) -> String {
    let shades = [' ', '.', ':', 'o', '#', '@'];
    let largest = pixels.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let shade = |p: &f32| shades[(p / largest * 5.0).round() as usize];
    let rows = pixels.chunks(pixels.len().isqrt());
    let rows = rows.map(|row| {
        row.iter()
            .map(shade)
            .flat_map(|c| [c, c])
            .collect::<String>()
    });
    rows.collect::<Vec<_>>().join("\n")
}

pub(crate) fn run() -> Result {
    let (train, test) = data::digits()?;
    let (train, validation) = train.stratified_split(0.9, 1)?;
    let classes = train.num_classes().unwrap_or(0);
    let pixels = train.sample_shape()[0];
    let model = nn::mlp(&[pixels, 128, classes], Activation::Gelu, 1).dropout(0.2);
    let optimizer = AdamW::new(3e-3).ema(0.99);
    Trainer::new(&model, &optimizer)
        .loss(loss::cross_entropy_with(0.05, None, None)) // label smoothing
        .validate(Validation::on(&validation).averaged())
        .schedule(nn::schedule::cosine)
        .epochs(40)
        .quiet()
        .fit(&train)?;
    optimizer.copy_to(&model.parameters())?;

    let outputs = nn::predict(&model, &test.inputs()?)?;
    let confusion = ConfusionMatrix::new(&outputs, test.targets())?;
    println!("{confusion}");
    let g = autograd::Graph::new();
    let predicted = g.constant(&outputs).argmax(-1).value()?;
    let (predicted, labels) = (
        predicted.as_slice::<i64>()?,
        test.targets().as_slice::<i64>()?,
    );
    if let Some(wrong) = (0..labels.len()).find(|&k| predicted[k] != labels[k]) {
        let image = test.rows(&[wrong])?.0;
        println!(
            "a {} that looks like a {}:",
            labels[wrong], predicted[wrong]
        );
        println!("{}", picture(image.as_slice::<f32>()?));
    }
    let accuracy = confusion.accuracy();
    println!(
        "accuracy on {} images that were not trained on: {accuracy:.3}",
        labels.len()
    );
    expect(accuracy > 0.9, format!("accuracy is only {accuracy}"))
}
