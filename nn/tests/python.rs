//! Parameters to and from Python: `tests/python/round_trip.py` made the files beside it, and checks what is saved here.

use autograd::{Graph, Tensor};
use nn::{Activation, Module, Result};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/python")
        .join(name)
}

/// Loads a model and compares its logits with those that Python got.
fn agrees(model: &Path, expected: &Path) -> Result<()> {
    let mlp = nn::mlp(&[12, 16, 8, 4], Activation::Relu, 1);
    nn::load(&mlp, model)?;
    let expected = nn::read_tensors(expected)?;
    let g = Graph::new();
    let logits = mlp.forward(g.constant(&expected["inputs"])).value()?;
    assert_eq!(logits.shape(), [20, 4]);
    for (a, b) in logits.to_f64s().iter().zip(expected["logits"].to_f64s()) {
        assert!((a - b).abs() < 1e-5, "{a}, in Python {b}");
    }
    Ok(())
}

/// Whether Python is here with these packages; where it is not there is nothing to ask.
fn python_has(packages: &str) -> bool {
    let has = Command::new("python3")
        .args(["-c", &format!("import {packages}")])
        .output();
    let has = has.is_ok_and(|output| output.status.success());
    if !has {
        println!("skipped: python3 with {packages} is not here");
    }
    has
}

/// A model and what is expected of it, in a folder that is removed when it is dropped.
fn files() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let [model, expected] =
        ["model.safetensors", "expected.safetensors"].map(|name| folder.path().join(name));
    (folder, model, expected)
}

fn round_trip(what: &str, model: &Path, expected: &Path) {
    let output = Command::new("python3")
        .arg(beside("round_trip.py"))
        .arg(what)
        .args([model, expected])
        .output();
    let output = output.expect("python3 was there a moment ago");
    let (said, failed) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    println!("{what}: {said}");
    assert!(output.status.success(), "{said}{failed}");
}

#[test]
fn a_model_made_by_python_gives_the_logits_that_python_got() -> Result<()> {
    agrees(
        &beside("model.safetensors"),
        &beside("expected.safetensors"),
    )
}

#[test]
fn a_model_saved_here_gives_the_same_logits_in_python() -> Result<()> {
    if !python_has("numpy, safetensors.numpy") {
        return Ok(());
    }
    let (_folder, model, expected) = files();
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
    round_trip("check", &model, &expected);
    round_trip("make", &model, &expected);
    agrees(&model, &expected)
}

#[test]
fn a_model_trained_by_pytorch_gives_the_same_logits_here() -> Result<()> {
    if !python_has("torch, safetensors.numpy") {
        return Ok(());
    }
    let (_folder, model, expected) = files();
    round_trip("train", &model, &expected);
    agrees(&model, &expected)
}
