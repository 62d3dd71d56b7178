//! Regression from a table: prices of flats, in thousands, from their size, floor and age. Inputs and
//! targets are standardised; the model keeps how, so that it takes and gives plain numbers.

use crate::{Result, expect};
use autograd::Tensor;
use nn::{
    Activation, AdamW, Dataset, EarlyStopping, Module, Normalize, Sequential, Trainer, loss,
    metrics,
};

/// A table that follows a rule, with some noise. `nn::data::read_csv("prices.csv", "price")` reads one.
fn table(rows: usize) -> Result<Dataset> {
    let noise = |k: usize| ((k * 7919 % 1000) as f32 / 1000.0 - 0.5) * 20.0;
    let (mut inputs, mut prices) = (Vec::new(), Vec::new());
    for k in 0..rows {
        let (size, floor, age) = (30 + k * 37 % 120, k * 11 % 8, k * 53 % 90);
        inputs.extend([size as f32, floor as f32, age as f32]);
        let per_metre = 5.0 - 0.04 * age as f32 + 0.0003 * (age as f32).powi(2);
        prices.push(size as f32 * per_metre + 8.0 * floor as f32 + noise(k));
    }
    let inputs = Tensor::new([rows, 3], inputs)?;
    Ok(Dataset::new(inputs, Tensor::new([rows, 1], prices)?)?)
}

pub(crate) fn run() -> Result {
    let (train, test) = table(1000)?.split(0.8, 1)?;
    let scale = Normalize::fit_to(train.targets())?;
    let scaled = |data: &Dataset| -> Result<Dataset> {
        let targets = nn::predict(&scale, data.targets())?;
        Ok(Dataset::new(data.inputs()?, targets)?)
    };
    let (train, validation) = scaled(&train)?.split(0.9, 2)?;
    let model = Sequential::new()
        .then(Normalize::fit(&train)?)
        .then(nn::mlp(&[3, 32, 32, 1], Activation::Silu, 1));
    Trainer::new(&model, AdamW::new(1e-2))
        .loss(loss::mse)
        .metric("r2", metrics::r_squared)
        .validate(&validation)
        .callback(EarlyStopping::new(20))
        .epochs(200)
        .quiet()
        .fit(&train)?;

    let predicted = scale.invert(&nn::predict(&model, &test.inputs()?)?)?;
    let g = autograd::Graph::new();
    let (p, t) = (g.constant(&predicted), g.constant(test.targets()));
    let (r2, error) = g.run((metrics::r_squared(p, t), loss::mae(p, t)))?;
    let (r2, error) = (r2.scalar()?, error.scalar()?);
    println!(
        "{} parameters: R² {r2:.3}, mean error {error:.1} thousand",
        model.num_parameters()
    );
    let flat = Tensor::from([[75f32, 3.0, 20.0]]);
    let price = scale.invert(&nn::predict(&model, &flat)?)?;
    println!(
        "75 m² on the third floor, 20 years old: {:.0} thousand",
        price.to_f64s()[0]
    );
    expect(r2 > 0.98, format!("R² is only {r2}"))
}
