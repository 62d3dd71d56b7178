//! Folders with the four IDX files of MNIST; Fashion-MNIST, KMNIST and others come in the same form.

use crate::{
    data::{Dataset, Idx, read_idx},
    error::{Error, Result},
};
use std::path::{Path, PathBuf};

/// The training and the test part of a folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
/// `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each plain or with `.gz`.
///
/// Images become rows of numbers from 0 to 1 (f32, kept as bytes until they are read), labels i64.
pub fn mnist_folder(folder: impl AsRef<Path>) -> Result<(Dataset, Dataset)> {
    let folder = folder.as_ref();
    if !folder.is_dir() {
        return Err(Error::file(folder, "there is no such folder"));
    }
    let (train, test) = (part(folder, "train")?, part(folder, "t10k")?);
    let (a, b) = (train.sample_shape(), test.sample_shape());
    if a != b {
        return Err(Error::file(
            folder,
            format!("training images have {} pixels, test images {}", a[0], b[0]),
        ));
    }
    if test.classes() > train.classes() {
        return Err(Error::file(
            folder,
            "the test labels have classes that the training labels have not",
        ));
    }
    Ok((train, test))
}

fn part(folder: &Path, name: &str) -> Result<Dataset> {
    let images_path = find(folder, &format!("{name}-images-idx3-ubyte"))?;
    let labels_path = find(folder, &format!("{name}-labels-idx1-ubyte"))?;
    dataset(
        (&images_path, read_idx(&images_path)?),
        (&labels_path, read_idx(&labels_path)?),
        255.0,
    )
}

/// Images `[count, height, width]` and labels `[count]` as rows of numbers, divided by the largest grey value, and
/// classes.
pub(crate) fn dataset(
    (images_path, images): (&Path, Idx),
    (labels_path, labels): (&Path, Idx),
    white: f32,
) -> Result<Dataset> {
    let &[count, height, width] = images.shape() else {
        let found = format!(
            "should hold images [count, height, width], holds {:?}",
            images.shape()
        );
        return Err(Error::file(images_path, found));
    };
    if labels.shape() != [count] {
        let found = format!(
            "should hold one label for each of the {count} images, holds {:?}",
            labels.shape()
        );
        return Err(Error::file(labels_path, found));
    }
    if count == 0 || height * width == 0 {
        return Err(Error::file(images_path, "holds no pixels"));
    }
    let labels = labels
        .to_i64()?
        .ok_or_else(|| Error::file(labels_path, "labels must be integers"))?;
    if let Some(bad) = labels.as_slice::<i64>()?.iter().find(|&&l| l < 0) {
        return Err(Error::file(
            labels_path,
            format!("holds a negative label, {bad}"),
        ));
    }
    // the rows of one image lie one after the other: a new shape is all it takes
    let shape = [count, height * width];
    match images.into_bytes() {
        Ok(bytes) => Dataset::from_bytes(&shape, bytes, white, labels),
        Err(images) => {
            let rows = images
                .to_f32(white)?
                .into_array::<f32>()?
                .into_shape_with_order(shape);
            Dataset::new(
                rows.map_err(|e| Error::file(images_path, e))?.try_into()?,
                labels,
            )
        }
    }
}

fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let candidates = [folder.join(name), folder.join(format!("{name}.gz"))];
    let found = candidates.iter().find(|p| p.is_file()).cloned();
    found.ok_or_else(|| Error::file(&candidates[0], "there is no such file, nor one with .gz"))
}
