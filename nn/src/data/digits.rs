//! A small real data set that is part of the library (feature `digits`): 8 by 8 images of handwritten digits.

use crate::{
    data::{Dataset, idx::unpack, mnist::dataset},
    error::{Error, Result},
};
use std::path::Path;

/// 1,437 training and 360 test images of handwritten digits, 8 by 8 pixels as rows of 64 numbers from 0 to 1, with their
/// classes 0 to 9. For quick starts and tests; needs the feature `digits`.
///
/// Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, CC BY 4.0. The
/// test images are partly from writers that the training images do not have.
///
/// ```
/// use nn::{Activation, Sgd, Trainer, data};
/// let (train, test) = data::digits()?;
/// let model = nn::mlp(&[64, 32, 10], Activation::Relu, 1);
/// let sgd = Sgd::new(0.1).momentum(0.9);
/// let history = Trainer::new(&model, sgd).epochs(10).validate(&test).quiet().fit(&train)?;
/// assert!(history[9].validation.and_then(|v| v.accuracy) > Some(0.85));
/// # Ok::<(), nn::Error>(())
/// ```
pub fn digits() -> Result<(Dataset, Dataset)> {
    macro_rules! part {
        ($name:literal) => {
            part(
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
    Ok((part!("train")?, part!("t10k")?))
}

fn part(images: &[u8], labels: &[u8]) -> Result<Dataset> {
    let path = Path::new("embedded digits");
    let read = |bytes: &[u8]| unpack(bytes, bytes.len() as u64).map_err(|e| Error::file(path, e));
    const WHITE: f32 = 16.0;
    dataset((path, read(images)?), (path, read(labels)?), WHITE)
}
