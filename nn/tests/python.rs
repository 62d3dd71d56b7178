//! Exchange of parameters with Python: `tests/python/round_trip.py` wrote the files in its
//! directory, and checks files that are saved here.

use autograd::{DType, Graph, Tensor};
use nn::{Activation, Module, Result};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn test_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/python")
        .join(name)
}

/// Loads a model and compares its logits with those of Python.
fn assert_same_logits(model: &Path, expected: &Path) -> Result<()> {
    let mlp = nn::mlp(&[12, 16, 8, 4], Activation::Relu, 1);
    nn::load(&mlp, model)?;
    let expected = nn::read_tensors(expected)?;
    let g = Graph::new();
    let logits = mlp.forward(g.constant(&expected["inputs"])).value()?;
    assert_eq!(logits.shape(), [20, 4]);
    for (a, b) in logits.to_f64s().iter().zip(expected["logits"].to_f64s()) {
        assert!((a - b).abs() < 1e-5, "expected {b}, got {a}");
    }
    Ok(())
}

/// Whether Python with these packages is installed. If not, the test is skipped.
fn python_has(packages: &str) -> bool {
    let has = Command::new("python3")
        .args(["-c", &format!("import {packages}")])
        .output();
    let has = has.is_ok_and(|output| output.status.success());
    if !has {
        println!("skipped: python3 with {packages} is not installed");
    }
    has
}

/// The paths of a model and of its expected logits, in a temporary directory.
fn temporary_files() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let [model, expected] =
        ["model.safetensors", "expected.safetensors"].map(|name| directory.path().join(name));
    (directory, model, expected)
}

fn run_python(command: &str, model: &Path, expected: &Path) {
    let output = Command::new("python3")
        .arg(test_file("round_trip.py"))
        .arg(command)
        .args([model, expected])
        .output();
    let output = output.expect("python3 is installed");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    println!("{command}: {stdout}");
    assert!(output.status.success(), "{stdout}{stderr}");
}

#[test]
fn a_model_from_python_gives_the_same_logits() -> Result<()> {
    assert_same_logits(
        &test_file("model.safetensors"),
        &test_file("expected.safetensors"),
    )
}

#[test]
fn a_saved_model_gives_the_same_logits_in_python() -> Result<()> {
    if !python_has("numpy, safetensors.numpy") {
        return Ok(());
    }
    let (_directory, model, expected) = temporary_files();
    let mlp = nn::mlp(&[784, 128, 10], Activation::Relu, 42);
    nn::save(&mlp, &model)?;
    let inputs = Tensor::new(
        [50, 784],
        (0..50 * 784).map(|k| (k as f32 * 0.37).sin()).collect(),
    )?;
    let logits = nn::predict(&mlp, &inputs)?;
    nn::write_tensors(
        &expected,
        &[("inputs".into(), inputs), ("logits".into(), logits)],
    )?;
    run_python("check", &model, &expected);
    run_python("make", &model, &expected);
    assert_same_logits(&model, &expected)
}

#[test]
fn a_model_trained_by_pytorch_gives_the_same_logits() -> Result<()> {
    if !python_has("torch, safetensors.numpy") {
        return Ok(());
    }
    let (_directory, model, expected) = temporary_files();
    run_python("train", &model, &expected);
    assert_same_logits(&model, &expected)
}

/// The arrays in the test files of `tests/python/arrays.py`, all of the shape [2, 3].
const ARRAYS: [(&str, [f64; 6]); 14] = [
    ("bool", [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]),
    ("uint8", [0.0, 1.0, 2.0, 3.0, 254.0, 255.0]),
    ("int8", [-128.0, -1.0, 0.0, 1.0, 126.0, 127.0]),
    ("uint16", [0.0, 1.0, 255.0, 256.0, 65534.0, 65535.0]),
    ("int16", [-32768.0, -256.0, -1.0, 0.0, 255.0, 32767.0]),
    (
        "uint32",
        [0.0, 1.0, 256.0, 65536.0, 4294967294.0, 4294967295.0],
    ),
    (
        "int32",
        [-2147483648.0, -65536.0, -1.0, 0.0, 1.0, 2147483647.0],
    ),
    (
        "uint64",
        [0.0, 1.0, 256.0, 65536.0, 4294967296.0, 4503599627370496.0],
    ),
    (
        "int64",
        [-4503599627370496.0, -65536.0, -1.0, 0.0, 1.0, 4294967296.0],
    ),
    (
        "float16",
        [
            -65504.0,
            -0.5,
            0.0,
            5.960464477539063e-8,
            0.0999755859375,
            65504.0,
        ],
    ),
    (
        "float32",
        [
            -3.4028234663852886e38,
            -0.5,
            0.0,
            1.401298464324817e-45,
            0.10000000149011612,
            16777216.0,
        ],
    ),
    (
        "float64",
        [-1.7976931348623157e308, -0.5, 0.0, 5e-324, 0.1, 1e300],
    ),
    ("float32_fortran", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
    ("int32_big_endian", [0.0, -1.0, 2.0, -3.0, 4.0, -5.0]),
];

/// The tensor that these elements of a file with this number type must become.
fn expected_tensor(name: &str, elements: [f64; 6]) -> Result<Tensor> {
    let dtype = match name {
        "bool" => DType::Bool,
        "float64" => DType::F64,
        "float16" | "bfloat16" | "float32" | "float32_fortran" => DType::F32,
        _ => DType::I64,
    };
    Ok(Tensor::new([2, 3], elements.to_vec())?.cast(dtype)?)
}

#[test]
fn every_number_type_of_numpy_is_read() -> Result<()> {
    if !python_has("numpy, safetensors.numpy") {
        return Ok(());
    }
    let directory = tempfile::tempdir().expect("a directory");
    let script = Command::new("python3")
        .arg(test_file("arrays.py"))
        .arg(directory.path())
        .status();
    assert!(script.expect("python3 is installed").success());
    let tensors = nn::read_tensors(directory.path().join("arrays.safetensors"))?;
    for (name, elements) in ARRAYS {
        let expected = expected_tensor(name, elements)?;
        let npy = nn::data::read_npy(directory.path().join(format!("{name}.npy")))?;
        assert_eq!(npy, expected, "{name}");
        // safetensors knows neither
        if !name.ends_with("fortran") && !name.ends_with("endian") {
            assert_eq!(tensors[name], expected, "{name}");
        }
    }
    let half = [-1.0, -0.5, 0.0, 0.10009765625, 3.3895313892515355e38, 2.0];
    assert_eq!(tensors["bfloat16"], expected_tensor("bfloat16", half)?);
    assert_eq!(
        nn::data::read_npy(directory.path().join("scalar.npy"))?,
        Tensor::from(7)
    );
    Ok(())
}
