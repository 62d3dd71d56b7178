//! An embedded dataset (feature `digits`): 8 x 8 images of handwritten digits.

use crate::{
    data::{Dataset, idx::decode, mnist::dataset},
    error::{Error, Result},
};
use std::path::Path;

/// 1,437 training and 360 test images of handwritten digits with their labels 0 to 9. Each image
/// has 8 x 8 pixels: a row of 64 values from 0 to 1. For quick starts and tests; needs the feature
/// `digits`.
///
/// Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning
/// Repository, CC BY 4.0. Some of the test images are from writers who are not in the training
/// images.
///
/// ```
/// use nn::{Activation, Sgd, Trainer, data};
/// let (train, test) = data::digits()?;
/// let model = nn::mlp(&[64, 32, 10], Activation::Relu, 1);
/// let sgd = Sgd::new(0.1).momentum(0.9);
/// let mut trainer = Trainer::new(&model, sgd).epochs(10).validate(&test).quiet();
/// let history = trainer.fit(&train)?;
/// assert!(history[9].validation.and_then(|v| v.accuracy) > Some(0.85));
/// # Ok::<(), nn::Error>(())
/// ```
pub fn digits() -> Result<(Dataset, Dataset)> {
    macro_rules! split {
        ($name:literal) => {
            decode_split(
                include_bytes!(concat!(
                    "../../data/digits/",
                    $name,
                    "-images-idx3-ubyte.gz"
                )),
                include_bytes!(concat!(
                    "../../data/digits/",
                    $name,
                    "-labels-idx1-ubyte.gz"
                )),
            )
        };
    }
    Ok((split!("train")?, split!("t10k")?))
}

fn decode_split(images: &[u8], labels: &[u8]) -> Result<Dataset> {
    let path = Path::new("embedded digits");
    let read = |bytes: &[u8]| decode(bytes, bytes.len() as u64).map_err(|e| Error::file(path, e));
    const MAX_PIXEL_VALUE: f32 = 16.0;
    dataset(
        (path, read(images)?),
        (path, read(labels)?),
        MAX_PIXEL_VALUE,
    )
}
