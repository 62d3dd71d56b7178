//! MNIST and datasets with the same files, such as Fashion-MNIST and KMNIST.

use crate::{
    data::{Dataset, Idx, read_idx},
    error::{Error, Result},
};
use std::path::{Path, PathBuf};

/// Reads the training set and the test set of MNIST from a directory. Fashion-MNIST, KMNIST and
/// others have the same files: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
/// `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each plain or with the suffix `.gz`.
///
/// Each image is a row of f32 values from 0 to 1. The labels are i64. The images are stored as
/// bytes and converted batch by batch.
pub fn read_mnist(directory: impl AsRef<Path>) -> Result<(Dataset, Dataset)> {
    let directory = directory.as_ref();
    if !directory.is_dir() {
        return Err(Error::file(directory, "no such directory"));
    }
    let (train, test) = (
        read_split(directory, "train")?,
        read_split(directory, "t10k")?,
    );
    let (a, b) = (train.sample_shape(), test.sample_shape());
    if a != b {
        return Err(Error::file(
            directory,
            format!("training images have {} pixels, test images {}", a[0], b[0]),
        ));
    }
    if test.num_classes() > train.num_classes() {
        return Err(Error::file(
            directory,
            "the test labels have classes that the training labels do not have",
        ));
    }
    Ok((train, test))
}

fn read_split(directory: &Path, name: &str) -> Result<Dataset> {
    let images_path = find(directory, &format!("{name}-images-idx3-ubyte"))?;
    let labels_path = find(directory, &format!("{name}-labels-idx1-ubyte"))?;
    dataset(
        (&images_path, read_idx(&images_path)?),
        (&labels_path, read_idx(&labels_path)?),
        255.0,
    )
}

/// A dataset from images `[count, height, width]` and labels `[count]`. Each image becomes a row of
/// pixel values, divided by `max_pixel_value`.
pub(crate) fn dataset(
    (images_path, images): (&Path, Idx),
    (labels_path, labels): (&Path, Idx),
    max_pixel_value: f32,
) -> Result<Dataset> {
    let &[count, height, width] = images.shape() else {
        let message = format!(
            "expected images [count, height, width], got the shape {:?}",
            images.shape()
        );
        return Err(Error::file(images_path, message));
    };
    if labels.shape() != [count] {
        let message = format!(
            "expected one label for each of the {count} images, got the shape {:?}",
            labels.shape()
        );
        return Err(Error::file(labels_path, message));
    }
    if count == 0 || height * width == 0 {
        return Err(Error::file(images_path, "contains no pixels"));
    }
    let labels = labels
        .to_i64()?
        .ok_or_else(|| Error::file(labels_path, "the labels must be integers"))?;
    if let Some(label) = labels.as_slice::<i64>()?.iter().find(|&&l| l < 0) {
        return Err(Error::file(
            labels_path,
            format!("contains the negative label {label}"),
        ));
    }
    // in row-major order, flattening the images changes only the shape
    let shape = [count, height * width];
    match images.into_bytes() {
        Ok(bytes) => Dataset::from_bytes(&shape, bytes, max_pixel_value, labels),
        Err(images) => {
            let rows = images
                .to_f32(max_pixel_value)?
                .into_array::<f32>()?
                .into_shape_with_order(shape);
            Dataset::new(
                rows.map_err(|e| Error::file(images_path, e))?.try_into()?,
                labels,
            )
        }
    }
}

fn find(directory: &Path, name: &str) -> Result<PathBuf> {
    let candidates = [directory.join(name), directory.join(format!("{name}.gz"))];
    let found = candidates.iter().find(|p| p.is_file()).cloned();
    found.ok_or_else(|| {
        Error::file(
            &candidates[0],
            "no such file, neither plain nor with the suffix .gz",
        )
    })
}
