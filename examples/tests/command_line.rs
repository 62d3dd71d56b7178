//! The examples as a user meets them: what they print, and one clear line for everything that can be wrong.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// An example's program, which `cargo test` builds beside the tests.
fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("a running test");
    let target = tests
        .parent()
        .and_then(Path::parent)
        .expect("target/profile/deps/test");
    target
        .join("examples")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

fn run(args: &[&str]) -> Output {
    Command::new(program("mnist_mlp"))
        .args(args)
        .output()
        .expect("the example was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A small folder in the form of MNIST: images of 8 by 8 in which one of three rows is bright.
fn small() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (part, count) in [("train", 240u32), ("t10k", 60)] {
        let image = |k: u32| {
            (0..64u32).map(move |p| {
                if p / 8 == 2 * (k % 3) + 1 {
                    200 + (k * p % 50) as u8
                } else {
                    (k * p % 90) as u8
                }
            })
        };
        let mut images = [
            &[0, 0, 8, 3][..],
            &count.to_be_bytes(),
            &8u32.to_be_bytes(),
            &8u32.to_be_bytes(),
        ]
        .concat();
        images.extend((0..count).flat_map(image));
        let mut labels = [&[0, 0, 8, 1][..], &count.to_be_bytes()].concat();
        labels.extend((0..count).map(|k| (k % 3) as u8));
        fs::write(
            folder.path().join(format!("{part}-images-idx3-ubyte")),
            images,
        )
        .expect("writable");
        fs::write(
            folder.path().join(format!("{part}-labels-idx1-ubyte")),
            labels,
        )
        .expect("writable");
    }
    folder
}

#[test]
fn a_training_prints_what_it_does_and_the_accuracy_last() {
    let folder = small();
    let data = folder.path().to_str().expect("utf-8");
    let output = run(&[
        "--data",
        data,
        "--hidden",
        "12,8",
        "--epochs",
        "30",
        "--threads",
        "2",
    ]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        out.starts_with("64-12-8-3 with relu: 911 parameters, 2 threads\n"),
        "{out}"
    );
    assert_eq!(
        out.lines().filter(|l| l.starts_with("epoch ")).count(),
        30,
        "{out}"
    );
    assert!(out.contains("confusion matrix"), "{out}");
    let accuracy = out
        .lines()
        .last()
        .and_then(|l| l.strip_prefix("test accuracy: "))
        .and_then(|a| a.parse::<f64>().ok());
    assert!(accuracy.is_some_and(|a| a > 0.9), "{out}");
}

#[test]
fn the_same_seed_gives_the_same_file_whatever_the_threads() {
    let folder = small();
    let data = folder.path().to_str().expect("utf-8");
    let saved = |threads: &str, seed: &str| {
        let file = folder.path().join(format!("{threads}-{seed}"));
        let save = file.to_str().expect("utf-8");
        let output = run(&[
            "--data",
            data,
            "--dropout",
            "0.2",
            "--epochs",
            "2",
            "--threads",
            threads,
            "--seed",
            seed,
            "--save",
            save,
            "--quiet",
        ]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).lines().count(), 1);
        (fs::read(&file).expect("saved"), text(&output.stdout), file)
    };
    let (bytes, out, file) = saved("1", "3");
    assert!(bytes == saved("4", "3").0 && bytes != saved("1", "4").0);
    // loaded and only tested, it reads as well as before
    let file = file.to_str().expect("utf-8");
    let again = run(&["--data", data, "--load", file, "--epochs", "0", "--quiet"]);
    assert_eq!(text(&again.stdout), out);
}

#[test]
fn everything_that_can_be_wrong_is_one_clear_line() {
    let folder = small();
    let data = folder.path().to_str().expect("utf-8");
    let inside = |name: &str| {
        folder
            .path()
            .join(name)
            .to_str()
            .expect("utf-8")
            .to_string()
    };
    fs::write(inside("garbage"), b"not a network").expect("writable");
    let cases: [(&[&str], &str); 13] = [
        (&["--data", "no/such/folder"], "no such folder"),
        (&["--data", data, "--lr", "nan"], "--lr"),
        (&["--data", data, "--lr", "0"], "--lr"),
        (&["--data", data, "--hidden", "0"], "--hidden"),
        (&["--data", data, "--hidden", "12,,3"], "--hidden"),
        (&["--data", data, "--batch-size", "0"], "--batch-size"),
        (&["--data", data, "--dropout", "1"], "--dropout"),
        (&["--data", data, "--momentum=-1"], "--momentum"),
        (
            &["--data", data, "--activation", "cube"],
            "softplus, tanh, sigmoid",
        ),
        (&["--data", data, "--threads", "100000"], "threads"),
        (
            &["--data", data, "--save", "/no/such/folder/model"],
            "folder does not exist",
        ),
        (
            &["--data", data, "--load", &inside("garbage")],
            "not a safetensors file",
        ),
        (
            &["--data", data, "--lr", "1e30", "--epochs", "1"],
            "smaller --lr",
        ),
    ];
    for (args, message) in cases {
        let output = run(args);
        let err = text(&output.stderr);
        assert!(
            !output.status.success() && !err.contains("panicked"),
            "{args:?}: {err}"
        );
        assert!(
            err.starts_with("error: ") && err.contains(message) && err.lines().count() == 1,
            "{args:?}: {err}"
        );
        assert!(!text(&output.stdout).contains("test accuracy"), "{args:?}");
    }
    assert!(!Path::new(&inside("model")).exists());
}

#[test]
fn damaged_data_is_named() {
    let folder = small();
    let data = folder.path().to_str().expect("utf-8");
    let labels = folder.path().join("train-labels-idx1-ubyte");
    let whole = fs::read(&labels).expect("is there");
    fs::write(&labels, &whole[..whole.len() - 5]).expect("writable");
    let err = text(&run(&["--data", data]).stderr);
    assert!(
        err.contains("train-labels-idx1-ubyte")
            && err.contains("truncated")
            && err.lines().count() == 1,
        "{err}"
    );
    // labels and images exchanged
    fs::copy(folder.path().join("train-images-idx3-ubyte"), &labels).expect("writable");
    let err = text(&run(&["--data", data]).stderr);
    assert!(
        err.contains("train-labels-idx1-ubyte") && err.contains("one label for each"),
        "{err}"
    );
}

#[test]
fn help_is_written_for_a_newcomer() {
    let help = text(&run(&["--help"]).stdout);
    let options = [
        "--data",
        "--hidden",
        "--activation",
        "--epochs",
        "--batch-size",
        "--lr",
        "--momentum",
        "--dropout",
        "--seed",
        "--threads",
        "--save",
        "--load",
        "--quiet",
    ];
    assert!(options.iter().all(|o| help.contains(o)), "{help}");
    assert!(help.contains("handwritten digits"));
}

#[test]
fn demystified_adds_up() {
    let output = Command::new(program("demystified"))
        .output()
        .expect("the example was built");
    let out = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        out.contains(
            "df/dx1   = 1.00000 * 0.50000 (through v1) + 1.00000 * 5.00000 (through v2) = 5.50000"
        ),
        "{out}"
    );
    assert_eq!(out.matches("backward: ").count(), 5);
}

#[test]
fn implicit_agrees() {
    let output = Command::new(program("implicit"))
        .output()
        .expect("the example was built");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("they agree"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn debug_gradients_finds_all_three_mistakes() {
    let output = Command::new(program("debug_gradients"))
        .output()
        .expect("the example was built");
    let text = text(&output.stdout);
    assert!(output.status.success(), "{text}");
    for part in [
        "softsign: its derivative rule is wrong",
        "element [1, 2]",
        "derivative of sqrt",
        "epoch 1, step 2",
        "8 of 8",
    ] {
        assert!(text.contains(part), "{part}");
    }
}
