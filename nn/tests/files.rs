//! Saving and loading parameters, reading MNIST files, and damaged files.

use nn::{Activation, Module, data};
use std::{fs, io::Write, path::Path};

fn temporary_directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn idx(shape: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, shape.len() as u8];
    shape.iter().for_each(|d| file.extend(d.to_be_bytes()));
    file.extend(bytes);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("in memory")
}

/// Writes a small dataset in the format of MNIST. Half of the files are gzipped.
fn write_mnist_like(directory: &Path) {
    let images = |n: usize| {
        idx(
            &[n as u32, 2, 2],
            &(0..4 * n).map(|k| (k * 7 % 256) as u8).collect::<Vec<_>>(),
        )
    };
    let labels = |n: usize| {
        idx(
            &[n as u32],
            &(0..n).map(|k| (k % 3) as u8).collect::<Vec<_>>(),
        )
    };
    let write =
        |name: &str, bytes: Vec<u8>| fs::write(directory.join(name), bytes).expect("writable");
    write("train-images-idx3-ubyte.gz", gzip(&images(9)));
    write("train-labels-idx1-ubyte", labels(9));
    write("t10k-images-idx3-ubyte", images(4));
    write("t10k-labels-idx1-ubyte.gz", gzip(&labels(4)));
}

#[test]
fn reads_mnist_files() {
    let directory = temporary_directory();
    write_mnist_like(directory.path());
    let (train, test) = data::read_mnist(directory.path()).expect("valid files");
    assert_eq!(
        (train.sample_shape(), train.len(), test.targets().shape()),
        (&[4][..], 9, &[4][..])
    );
    assert_eq!(train.num_classes(), Some(3));
    assert_eq!(
        train
            .inputs()
            .expect("fits")
            .as_slice::<f32>()
            .expect("f32")[1],
        7.0 / 255.0
    );
    assert_eq!(test.targets().as_slice::<i64>().expect("i64"), [0, 1, 2, 0]);
}

#[test]
fn errors_name_the_damaged_file_and_the_problem() {
    type Damage = fn(&Path);
    let cases: [(&str, &str, Damage); 9] = [
        ("train-labels", "no such file", |f| {
            fs::remove_file(f.join("train-labels-idx1-ubyte")).expect("the file exists")
        }),
        ("t10k-images", "truncated", |f| {
            let path = f.join("t10k-images-idx3-ubyte");
            let bytes = fs::read(&path).expect("the file exists");
            fs::write(path, &bytes[..bytes.len() - 1]).expect("writable");
        }),
        ("train-images", "damaged", |f| {
            let path = f.join("train-images-idx3-ubyte.gz");
            let mut bytes = fs::read(&path).expect("the file exists");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
            fs::write(path, bytes).expect("writable");
        }),
        ("train-images", "ends", |f| {
            let path = f.join("train-images-idx3-ubyte.gz");
            let bytes = fs::read(&path).expect("the file exists");
            fs::write(path, &bytes[..bytes.len() / 2]).expect("writable");
        }),
        ("train-labels", "one label for each of the 9", |f| {
            fs::write(f.join("train-labels-idx1-ubyte"), idx(&[2], &[0, 1])).expect("writable");
        }),
        ("t10k-images", "[count, height, width]", |f| {
            fs::write(f.join("t10k-images-idx3-ubyte"), idx(&[4], &[0; 4])).expect("writable");
        }),
        ("", "classes that the training labels do not have", |f| {
            fs::write(
                f.join("t10k-labels-idx1-ubyte.gz"),
                gzip(&idx(&[4], &[0, 1, 2, 9])),
            )
            .expect("writable");
        }),
        ("train-images", "more than the file can hold", |f| {
            let bomb = gzip(&idx(&[u32::MAX, 1 << 15, 1 << 15], &[]));
            fs::write(f.join("train-images-idx3-ubyte.gz"), bomb).expect("writable");
        }),
        ("t10k-labels", "not an IDX file", |f| {
            fs::write(
                f.join("t10k-labels-idx1-ubyte.gz"),
                b"<html>not found</html>",
            )
            .expect("writable");
        }),
    ];
    for (file, message, damage) in cases {
        let directory = temporary_directory();
        write_mnist_like(directory.path());
        damage(directory.path());
        let e = data::read_mnist(directory.path())
            .expect_err(message)
            .to_string();
        assert!(
            e.contains(file) && e.contains(message),
            "{file}, {message}: {e}"
        );
        assert_eq!(e.lines().count(), 1, "{e}");
    }
    assert!(
        data::read_mnist("no/such/directory")
            .is_err_and(|e| e.to_string().contains("no such directory"))
    );
}

#[test]
fn parameters_survive_a_round_trip() {
    let directory = temporary_directory();
    let file = directory.path().join("model.safetensors");
    let (a, b) = (
        nn::mlp(&[4, 3, 2], Activation::Relu, 1),
        nn::mlp(&[4, 3, 2], Activation::Relu, 2),
    );
    nn::save(&a, &file).expect("writable");
    nn::load(&b, &file).expect("the same shapes");
    for ((name, p), (_, q)) in a.parameters().iter().zip(b.parameters()) {
        assert_eq!(p.value(), q.value(), "{name}");
    }
    assert_eq!(
        fs::read_dir(directory.path())
            .expect("the file exists")
            .count(),
        1,
        "no temporary file is left"
    );
    nn::save(&b, &file).expect("replaces an old file");
}

#[test]
fn loading_a_wrong_or_damaged_file_changes_nothing() {
    let directory = temporary_directory();
    let file = directory.path().join("model.safetensors");
    let model = nn::mlp(&[4, 3, 2], Activation::Relu, 1);
    let before: Vec<_> = model.parameters().iter().map(|(_, p)| p.value()).collect();
    let fails_with = |message: &str| {
        let e = nn::load(&model, &file).expect_err(message).to_string();
        assert!(
            e.contains(message) && e.contains("model.safetensors"),
            "{message}: {e}"
        );
        let after: Vec<_> = model.parameters().iter().map(|(_, p)| p.value()).collect();
        assert_eq!(before, after, "{message}");
    };
    fails_with("cannot be read");
    nn::save(&nn::mlp(&[4, 5, 2], Activation::Relu, 1), &file).expect("writable");
    fails_with("layers.0.weight: expected shape [4, 3], got [4, 5]");
    nn::save(&nn::mlp(&[4, 3, 2, 2], Activation::Relu, 1), &file).expect("writable");
    fails_with("contains \"layers.2.bias\", which the model does not have");
    nn::save(&nn::mlp(&[4, 3], Activation::Relu, 1), &file).expect("writable");
    fails_with("does not contain \"layers.1.weight\"");
    nn::save(&model, &file).expect("writable");
    let bytes = fs::read(&file).expect("the file exists");
    for length in [0, 4, 8, 20, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..length]).expect("writable");
        fails_with("not a safetensors file");
    }
    fs::write(&file, u64::MAX.to_le_bytes()).expect("writable");
    fails_with("not a safetensors file");
}

#[test]
fn a_path_that_is_not_writable_is_an_error() {
    let directory = temporary_directory();
    let model = nn::mlp(&[2, 2], Activation::Relu, 1);
    for path in [
        directory.path().join("no/such/directory/model"),
        directory.path().to_path_buf(),
    ] {
        assert!(nn::check_writable(&path).is_err());
        assert!(nn::save(&model, &path).is_err());
    }
    assert!(nn::check_writable(directory.path().join("model")).is_ok());
    assert_eq!(
        fs::read_dir(directory.path())
            .expect("the file exists")
            .count(),
        0,
        "no partial file"
    );
}
