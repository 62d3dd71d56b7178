//! Parameters to and from Python: `tests/python/round_trip.py` made the files beside it, and checks what is saved here.

use autograd::{Graph, Tensor};
use nn::{Activation, Module, Result};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name)
}

#[test]
fn a_model_made_by_python_gives_the_logits_that_python_got() -> Result<()> {
    let model = nn::mlp(&[12, 16, 8, 4], Activation::Relu, 1);
    nn::load(&model, beside("model.safetensors"))?;
    let expected = nn::read_tensors(beside("expected.safetensors"))?;
    let g = Graph::new();
    let logits = model.forward(g.constant(&expected["inputs"])).value()?;
    assert_eq!(logits.shape(), [20, 4]);
    for (a, b) in logits.to_f64s().iter().zip(expected["logits"].to_f64s()) {
        assert!((a - b).abs() < 1e-5, "{a}, in Python {b}");
    }
    Ok(())
}

/// Where Python has the package safetensors; anywhere else there is nothing to ask.
#[test]
fn a_model_saved_here_gives_the_same_logits_in_python() -> Result<()> {
    let has = Command::new("python3").args(["-c", "import numpy, safetensors.numpy"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        println!("skipped: python3 with numpy and safetensors is not here");
        return Ok(());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (model, expected) = (folder.path().join("model.safetensors"), folder.path().join("expected.safetensors"));
    let mlp = nn::mlp(&[784, 128, 10], Activation::Relu, 42);
    nn::save(&mlp, &model)?;
    let inputs = Tensor::new([50, 784], (0..50 * 784).map(|k| (k as f32 * 0.37).sin()).collect())?;
    let logits = nn::predict(&mlp, &inputs)?;
    nn::write_tensors(&expected, &[("inputs".into(), inputs), ("logits".into(), logits)])?;
    let output = Command::new("python3").arg(beside("round_trip.py")).arg("check").args([&model, &expected]).output();
    let output = output.expect("python3 was there a moment ago");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
