//! Exchange of parameters with Python: `tests/python/round_trip.py` wrote the files in its
//! directory, and checks files that are saved here.

use autograd::{Graph, Tensor};
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
