//! Runs the examples as programs and checks their output and their error messages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// The path of an example program. `cargo test` builds it next to the tests.
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

/// The path of a file in a directory, as an argument.
fn path_in(directory: &tempfile::TempDir, name: &str) -> String {
    let path = directory.path().join(name);
    path.to_str().expect("utf-8").to_string()
}

/// A small dataset in the format of MNIST: 8 x 8 images, in which one of three rows is bright.
fn small_dataset() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
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
            directory.path().join(format!("{part}-images-idx3-ubyte")),
            images,
        )
        .expect("writable");
        fs::write(
            directory.path().join(format!("{part}-labels-idx1-ubyte")),
            labels,
        )
        .expect("writable");
    }
    directory
}

#[test]
fn training_prints_its_progress_and_ends_with_the_accuracy() {
    let directory = small_dataset();
    let data = directory.path().to_str().expect("utf-8");
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
fn the_same_seed_gives_the_same_file_on_any_number_of_threads() {
    let directory = small_dataset();
    let data = directory.path().to_str().expect("utf-8");
    let train_and_save = |threads: &str, seed: &str| {
        let file = directory.path().join(format!("{threads}-{seed}"));
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
    let (bytes, out, file) = train_and_save("1", "3");
    assert!(bytes == train_and_save("4", "3").0 && bytes != train_and_save("1", "4").0);
    // the loaded network has the same test accuracy
    let file = file.to_str().expect("utf-8");
    let again = run(&["--data", data, "--load", file, "--epochs", "0", "--quiet"]);
    assert_eq!(text(&again.stdout), out);
}

#[test]
fn each_error_is_one_line() {
    let directory = small_dataset();
    let data = directory.path().to_str().expect("utf-8");
    let path_of = |name: &str| path_in(&directory, name);
    fs::write(path_of("garbage"), b"not a network").expect("writable");
    let cases: [(&[&str], &str); 13] = [
        (&["--data", "no/such/directory"], "no such directory"),
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
            &["--data", data, "--save", "/no/such/directory/model"],
            "directory does not exist",
        ),
        (
            &["--data", data, "--load", &path_of("garbage")],
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
    assert!(!Path::new(&path_of("model")).exists());
}

/// Runs the example with nobody who reads its standard output, and perhaps its standard error.
fn run_unread(args: &[&str], is_error_read: bool) -> Output {
    let mut command = Command::new(program("mnist_mlp"));
    command
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the example was built");
    drop(child.stdout.take());
    if !is_error_read {
        drop(child.stderr.take());
    }
    child.wait_with_output().expect("an end")
}

#[test]
fn nobody_needs_to_read_the_output() {
    let directory = small_dataset();
    let data = directory.path().to_str().expect("utf-8");
    let file = directory.path().join("model");
    let save = file.to_str().expect("utf-8");
    let training = ["--data", data, "--epochs", "2", "--save", save];
    for args in [
        &training[..],
        &["--help"],
        &["--data", data, "--epochs", "0", "--quiet"],
    ] {
        let output = run_unread(args, true);
        let err = text(&output.stderr);
        assert!(output.status.success() && err.is_empty(), "{args:?}: {err}");
    }
    assert!(file.exists(), "the trained network is saved all the same");
    assert_eq!(
        run_unread(&["--data", "no/such/directory"], false)
            .status
            .code(),
        Some(1)
    );
    assert_eq!(run_unread(&["--what"], false).status.code(), Some(2));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let full = || {
        fs::File::options()
            .write(true)
            .open("/dev/full")
            .expect("Linux has it")
    };
    for args in [&["--help"][..], &["--epochs", "0", "--data"]] {
        let directory = small_dataset();
        let mut command = Command::new(program("mnist_mlp"));
        command.args(args).arg(directory.path()).stdout(full());
        let output = command.output().expect("the example was built");
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {err}");
        assert!(
            err.starts_with("error: cannot write to standard output"),
            "{args:?}: {err}"
        );
    }
}

#[test]
fn files_do_not_replace_each_other() {
    let directory = small_dataset();
    let data = directory.path().to_str().expect("utf-8");
    let path = |name: &str| format!("{data}/{name}");
    let same = [path("file"), path("./file")];
    let output = run(&["--data", data, "--save", &same[0], "--checkpoint", &same[1]]);
    assert!(text(&output.stderr).contains("--save and --checkpoint are the same file"));
    let (model, state) = (path("model"), path("state"));
    let files = [
        "--data",
        data,
        "--epochs",
        "1",
        "--save",
        &model,
        "--checkpoint",
        &state,
    ];
    assert!(run(&files).status.success());
    let output = run(&["--data", data, "--load", &model, "--checkpoint", &state]);
    let err = text(&output.stderr);
    assert!(
        err.contains("would have no effect") && err.lines().count() == 1,
        "{err}"
    );
    // found before the training, whichever it is
    for option in ["--save", "--checkpoint"] {
        let output = run(&["--data", data, option, "/no/such/directory/file"]);
        assert!(
            text(&output.stderr).contains("directory does not exist"),
            "{option}"
        );
        assert!(text(&output.stdout).is_empty(), "{option}");
    }
}

#[test]
fn errors_name_the_damaged_file() {
    let directory = small_dataset();
    let data = directory.path().to_str().expect("utf-8");
    let labels = directory.path().join("train-labels-idx1-ubyte");
    let bytes = fs::read(&labels).expect("the file exists");
    fs::write(&labels, &bytes[..bytes.len() - 5]).expect("writable");
    let err = text(&run(&["--data", data]).stderr);
    assert!(
        err.contains("train-labels-idx1-ubyte")
            && err.contains("truncated")
            && err.lines().count() == 1,
        "{err}"
    );
    // images in place of labels
    fs::copy(directory.path().join("train-images-idx3-ubyte"), &labels).expect("writable");
    let err = text(&run(&["--data", data]).stderr);
    assert!(
        err.contains("train-labels-idx1-ubyte") && err.contains("one label for each"),
        "{err}"
    );
}

#[test]
fn help_lists_all_options() {
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
fn demystified_prints_the_sum_of_adjoints() {
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
fn implicit_and_unrolled_gradients_agree() {
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
fn debug_gradients_finds_all_three_problems() {
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

#[cfg(unix)]
#[test]
fn an_interrupted_training_says_how_to_go_on() {
    use std::io::{BufRead, BufReader};
    let directory = small_dataset();
    let path = |name: &str| path_in(&directory, name);
    let data = directory.path().to_str().expect("utf-8").to_string();
    let arguments = |epochs: &str, more: &[&str]| {
        let all = [
            "--data",
            &data,
            "--hidden",
            "8",
            "--epochs",
            epochs,
            "--threads",
            "1",
        ];
        let all = all.iter().chain(more).map(|a| a.to_string());
        all.collect::<Vec<String>>()
    };
    // sends a signal after the first epochs; what it says, and its status
    let interrupt = |signal: &str, arguments: Vec<String>| {
        let mut child = Command::new(program("mnist_mlp"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example was built");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut lines = lines.map(|line| line.expect("text"));
        lines
            .find(|line| line.starts_with("epoch 3:"))
            .expect("epochs");
        let kill = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(kill.expect("kill").success());
        let rest = lines.collect::<Vec<_>>().join("\n");
        assert!(!rest.contains("test accuracy"), "{rest}");
        let output = child.wait_with_output().expect("it ends");
        (text(&output.stderr), output.status.code())
    };
    let many = "100000";
    let (checkpoint, save) = (path("state"), path("network"));
    let more = ["--checkpoint", &checkpoint, "--schedule", "constant"];
    let (out, status) = interrupt("-INT", arguments(many, &more));
    assert_eq!(status, Some(130), "{out}");
    let goes_on = format!("of {many} epochs: the same command goes on from {checkpoint}\n");
    assert!(out.ends_with(&goes_on), "{out}");
    let number = out
        .split("interrupted after ")
        .nth(1)
        .and_then(|t| t.split(' ').next());
    let done: usize = number.and_then(|n| n.parse().ok()).expect("a number");
    assert!(done >= 3);
    // the same command, with an end
    let epochs = (done + 2).to_string();
    let rest = arguments(&epochs, &more);
    let rest = run(&rest.iter().map(String::as_str).collect::<Vec<_>>());
    let out = text(&rest.stdout);
    assert!(rest.status.success(), "{}", text(&rest.stderr));
    assert!(!out.contains(&format!("epoch {done}:")) && out.contains(&format!("epoch {epochs}:")));

    let (out, status) = interrupt("-TERM", arguments(many, &["--save", &save]));
    assert_eq!(status, Some(130), "{out}");
    assert!(
        out.contains(&format!("--load {save} starts from it")),
        "{out}"
    );
    assert!(fs::metadata(&save).is_ok());
    let (out, status) = interrupt("-INT", arguments(many, &[]));
    assert_eq!(status, Some(130), "{out}");
    assert!(out.contains("nothing was saved"), "{out}");
}
