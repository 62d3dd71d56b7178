//! Runs the program as its users do: from a table to predictions, and what goes wrong on the way.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// The path of the program. `cargo test` builds it next to the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("a running test");
    let target = tests
        .parent()
        .and_then(|p| p.parent())
        .expect("target/profile/deps/test");
    target
        .join("examples")
        .join(format!("train{}", std::env::consts::EXE_SUFFIX))
}

/// A directory in which the program runs.
struct Session(TempDir);

impl Session {
    fn new() -> Session {
        Session(tempfile::tempdir().expect("a temporary directory"))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("writable");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).expect("a file")
    }

    fn has(&self, name: &str) -> bool {
        self.0.path().join(name).exists()
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments)
            .output()
            .expect("the program was built")
    }

    /// What a successful run prints.
    fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let error = text(&output.stderr);
        assert!(output.status.success(), "{arguments}: {error}");
        text(&output.stdout)
    }

    /// The message of a run that fails, one line, with this status.
    fn error(&self, arguments: &str, status: i32) -> String {
        let output = self.run(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments}: {error}");
        assert!(
            error.starts_with("error: ") && error.lines().count() == 1,
            "{arguments}: {error}"
        );
        assert!(output.stdout.is_empty(), "{arguments}");
        error
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The number after these words.
fn number_after(text: &str, words: &str) -> f64 {
    let rest = text
        .split(words)
        .nth(1)
        .unwrap_or_else(|| panic!("no {words:?} in {text}"));
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-'))
        .unwrap_or(rest.len());
    rest[..end]
        .trim_end_matches('.')
        .parse()
        .unwrap_or_else(|e| panic!("{rest}: {e}"))
}

/// Plants whose kind follows from height and colour; some heights are missing.
fn plants(rows: usize) -> String {
    let mut table = "id,height,colour,noise,kind\n".to_string();
    for k in 0..rows {
        let height = (k * 37 % 100) as f64 / 10.0;
        let colour = ["red", "blue", "\"light, green\""][k % 3];
        let kind = match (height > 5.0, k % 3) {
            (true, 0) => "rose",
            (true, _) => "lily",
            _ => "moss",
        };
        let height = if k % 17 == 5 {
            "NA".into()
        } else {
            height.to_string()
        };
        table += &format!("p{k},{height},{colour},{},{kind}\n", k * 7 % 11);
    }
    table
}

/// Houses whose price is linear in two columns.
fn houses(rows: usize) -> String {
    let mut table = "rooms;area;price\n".to_string();
    for k in 0..rows {
        let (rooms, area) = (k % 5 + 1, (k * 13 % 90) as f64 + 20.0);
        let price = 1000.0 * rooms as f64 + 50.0 * area + 0.5;
        table += &format!(
            "{rooms};{};{}\n",
            area.to_string().replace('.', ","),
            price.to_string().replace('.', ",")
        );
    }
    table
}

#[test]
fn from_a_table_to_predictions() {
    let session = Session::new();
    session.write("plants.csv", &plants(400));
    let out = session
        .ok("--data plants.csv --target kind --save model.safetensors --epochs 60 --threads 1");
    for part in [
        "400 rows: 2 columns of numbers, 1 column of categories",
        "id: left out, nearly every row has another text",
        "height: 24 numbers missing, filled in with the median",
        "predicting kind: classification, 3 classes (lily, moss, rose)",
        "340 rows to train on, 60 held out",
        "train predict --model model.safetensors",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(
        number_after(&out, "held-out rows: accuracy ") > 0.9,
        "{out}"
    );
    // new rows, with the columns in another order, and without the target
    session.write(
        "new.csv",
        "colour,height,noise\nred,9,3\nblue,9,1\nred,1,2\n\"light, green\",8.5,4\n",
    );
    let predict = "predict --model model.safetensors --data new.csv";
    assert_eq!(
        session.ok(predict),
        "predicted_kind\nrose\nlily\nmoss\nlily\n"
    );
    let out = session.ok(&format!("{predict} --with-inputs --probabilities"));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        "colour,height,noise,predicted_kind,probability_lily,probability_moss,probability_rose"
    );
    assert!(
        lines[4].starts_with("\"light, green\",8.5,4,lily,0."),
        "{out}"
    );
    let of_row = |line: &str| {
        line.split(',')
            .rev()
            .take(3)
            .map(|p| p.parse::<f64>().expect("a number"))
            .sum::<f64>()
    };
    assert!(
        lines[1..]
            .iter()
            .all(|line| (of_row(line) - 1.0).abs() < 1e-5),
        "{out}"
    );
    session.ok(&format!("{predict} --output out.csv"));
    assert_eq!(session.read("out.csv"), session.ok(predict));
}

#[test]
fn a_model_is_measured_and_explained() {
    let session = Session::new();
    session.write("plants.csv", &plants(400));
    session.ok("--data plants.csv --target kind --save m --epochs 60 --quiet");
    let out = session.ok("evaluate --model m --data plants.csv");
    assert!(out.contains("lily") && out.contains("recall"), "{out}");
    let accuracy = number_after(&out, "accuracy ");
    assert!(accuracy > 0.9, "{out}");
    let json = session.ok("evaluate --model m --data plants.csv --json");
    assert!(
        (number_after(&json, "\"accuracy\":") - accuracy).abs() < 1e-4,
        "{json}"
    );
    let out = session.ok("explain --model m --data plants.csv");
    let columns: Vec<&str> = out
        .lines()
        .skip(4)
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    assert_eq!(columns, ["height", "colour", "noise"], "{out}");
    let shuffled = |column: &str| -> f64 {
        let line = out.lines().find(|l| l.starts_with(column));
        let number = line.and_then(|l| l.split_whitespace().nth(1));
        number.and_then(|n| n.parse().ok()).expect("a number")
    };
    assert!(
        shuffled("height") > 0.2 && shuffled("colour") > 0.05,
        "{out}"
    );
    assert!(shuffled("noise").abs() < 0.05, "{out}");
}

#[test]
fn numbers_are_predicted_in_their_units() {
    let session = Session::new();
    session.write("houses.csv", &houses(300));
    let out = session.ok("--data houses.csv --target price --save m --threads 1 --verbose");
    assert!(out.contains("predicting price: regression"), "{out}");
    assert!(
        out.contains("area: numbers, mean ") && out.contains("layers.0.weight"),
        "{out}"
    );
    assert!(number_after(&out, "held-out rows: R² ") > 0.98, "{out}");
    session.write("new.csv", "area;rooms\n100,0;3\n");
    let out = session.ok("predict --model m --data new.csv");
    let price: f64 = out
        .lines()
        .nth(1)
        .and_then(|l| l.parse().ok())
        .expect("a number");
    assert!((price - 8000.0).abs() < 400.0, "{out}");
    let error = session.error("predict --model m --data new.csv --probabilities", 1);
    assert!(error.contains("predicts a number"), "{error}");
}

#[test]
fn categories_can_be_vectors() {
    let session = Session::new();
    session.write("plants.csv", &plants(400));
    session.ok("--data plants.csv --target kind --save m --epochs 60 --categories embed --quiet");
    let json = session.ok("evaluate --model m --data plants.csv --json");
    assert!(number_after(&json, "\"accuracy\":") > 0.9, "{json}");
    let out = session.ok("explain --model m --data plants.csv");
    let colour = out
        .lines()
        .find(|l| l.starts_with("colour"))
        .expect("the column");
    let part: f64 = colour
        .split_whitespace()
        .nth(2)
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(part > 5.0, "the gradient reaches the vectors: {out}");
    // a colour that was not there is not an error
    session.write("new.csv", "colour,height,noise\nviolet,9,3\n");
    let output = session.run("predict --model m --data new.csv");
    assert!(output.status.success());
    assert!(
        text(&output.stderr).contains(
            "1 cell of column \"colour\" with values that the training data did not have"
        )
    );
}

#[test]
fn the_same_seed_gives_the_same_file() {
    let session = Session::new();
    session.write("plants.csv", &plants(200));
    let train = |more: &str, file: &str| {
        session.ok(&format!(
            "--data plants.csv --target kind --epochs 3 --quiet --save {file} {more}"
        ));
        fs::read(session.0.path().join(file)).expect("saved")
    };
    let first = train("--threads 1", "a");
    assert!(
        first == train("--threads 3", "b"),
        "on any number of threads"
    );
    // what watches a training does not change it
    assert!(first == train("--report r.html --log l.jsonl --tensorboard events", "c"));
    assert!(first != train("--seed 7", "d"));
}

#[test]
fn standard_input_and_output_are_files() {
    let session = Session::new();
    session.write("plants.csv", &plants(200));
    session.ok("--data plants.csv --target kind --epochs 5 --quiet --save m");
    let mut child = session
        .command("predict --model m --data -")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program was built");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(plants(3).as_bytes())
        .expect("read");
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(text(&out.stdout).lines().count(), 4);
    // nobody reads it
    for arguments in [
        "predict --model m --data plants.csv",
        "--help",
        "man",
        "completions bash",
    ] {
        let mut child = session
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("built");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{arguments}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn errors_say_what_to_do() {
    let session = Session::new();
    session.write("plants.csv", &plants(100));
    session.write("empty.csv", "");
    session.write("ragged.csv", "a,b\n1,2\n3\n");
    session.write(
        "stray.csv",
        &("x,y\n".to_string()
            + &(0..200)
                .map(|k| format!("{k},{}\n", k % 2))
                .collect::<String>()
            + "abc,1\n"),
    );
    session.write("hole.csv", "x,y\n1,2.5\n,3.5\n4,4.5\n5,5\n");
    session.write("one.csv", "x,y\n1,a\n2,a\n");
    session.write("twice.csv", "x,x\n1,2\n");
    session.write("garbage", "not a model");
    session.ok("--data plants.csv --target kind --epochs 1 --quiet --save m");
    session.write("other.csv", "height,noise\n1,2\n");
    let cases = [
        ("--data no.csv --target y", 1, "no.csv: cannot be read"),
        (
            "--data plants.csv",
            1,
            "--target is needed: which column to predict, of id, height, colour, noise, kind",
        ),
        (
            "--data plants.csv --target sort",
            1,
            "has no column \"sort\"; its columns are id, height",
        ),
        (
            "--data plants.csv --target kind --ignore sort",
            1,
            "has no column \"sort\"",
        ),
        ("--data empty.csv --target y", 1, "header"),
        (
            "--data ragged.csv --target b",
            1,
            "line 3 has 1 cells, the header line has 2",
        ),
        (
            "--data stray.csv --target y",
            1,
            "line 202, column \"x\": \"abc\" is no number",
        ),
        (
            "--data hole.csv --target y --missing error",
            1,
            "line 3, column \"x\": a value is missing",
        ),
        (
            "--data hole.csv --target x",
            1,
            "line 3, column \"x\": the target is missing",
        ),
        ("--data one.csv --target y", 1, "only one value"),
        (
            "--data twice.csv --target x",
            1,
            "two columns are called \"x\"",
        ),
        (
            "--data plants.csv --target kind --task regression",
            1,
            "line 2, column \"kind\": ",
        ),
        (
            "--data plants.csv --target kind --save no/such/file",
            1,
            "directory does not exist",
        ),
        (
            "--data plants.csv --target kind --save plants.csv",
            1,
            "--data and --save are the same file",
        ),
        (
            "--data plants.csv --target kind --report a --log a",
            1,
            "--log and --report are the same file",
        ),
        (
            "--data plants.csv --target kind --lr 1e30 --hidden 8",
            1,
            "smaller --lr",
        ),
        ("--target kind", 2, "--data"),
        ("--data plants.csv --hidden 0", 2, "--hidden"),
        ("--data plants.csv --epochs none", 2, "--epochs"),
        ("--data plants.csv --quiet --verbose", 2, "--verbose"),
        (
            "predict --model garbage --data plants.csv",
            1,
            "garbage: is not a safetensors file",
        ),
        (
            "predict --model m --data other.csv",
            1,
            "has no column \"colour\"",
        ),
        ("evaluate --model m --data other.csv", 1, "has no column"),
        ("predict --model m", 2, "--data"),
        ("report plants.csv", 1, "line 1 is no JSON object"),
        ("fit --data plants.csv", 2, "fit"),
    ];
    for (arguments, status, message) in cases {
        let error = session.error(
            &(arguments.to_string()
                + if arguments.starts_with("--data") && status == 1 {
                    " --quiet"
                } else {
                    ""
                }),
            status,
        );
        assert!(error.contains(message), "{arguments}: {error}");
    }
    assert!(!session.has("a") && !session.has("comparison.html"));
    assert_eq!(session.read("plants.csv"), plants(100));
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_goes_on() {
    use std::io::{BufRead, BufReader};
    let session = Session::new();
    session.write("plants.csv", &plants(400));
    let interrupt = |more: &str| {
        let arguments = format!(
            "--data plants.csv --target kind --epochs 100000 --patience 0 --threads 1 {more}"
        );
        let mut child = session
            .command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("built");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"))
            .lines()
            .map(|l| l.expect("text"));
        lines
            .find(|line| line.starts_with("epoch 3:"))
            .expect("epochs");
        let kill = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(kill.expect("kill").success());
        lines.for_each(drop);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130));
        text(&output.stderr)
    };
    let error = interrupt("--save m --report run.html");
    assert!(
        error.ends_with("the best network so far is in m; --load m starts from it\n"),
        "{error}"
    );
    assert!(session.read("run.html").contains("It ended within epoch"));
    session.ok("predict --model m --data plants.csv");
    session.ok("--data plants.csv --target kind --load m --epochs 1 --quiet");
    let error = interrupt("--checkpoint state");
    assert!(
        error.ends_with("the same command goes on from state\n"),
        "{error}"
    );
    let done = number_after(&error, "interrupted after ") as usize;
    let out = session.ok(&format!(
        "--data plants.csv --target kind --patience 0 --epochs {} --checkpoint state",
        done + 2
    ));
    assert!(
        !out.contains(&format!("epoch {done}:")) && out.contains(&format!("epoch {}:", done + 2)),
        "{out}"
    );
}

#[test]
fn help_completions_and_manual_have_all_options() {
    let session = Session::new();
    let help = session.ok("--help");
    let (bash, man) = (session.ok("completions bash"), session.ok("man"));
    for option in [
        "--data",
        "--target",
        "--save",
        "--missing",
        "--patience",
        "--seed",
        "--threads",
        "--report",
    ] {
        assert!(help.contains(option) && bash.contains(option), "{option}");
        assert!(man.contains(&option.replace('-', "\\-")), "{option}");
    }
    for command in ["predict", "evaluate", "explain", "report"] {
        assert!(help.contains(command) && man.contains(command));
        let help = session.ok(&format!("{command} --help"));
        assert!(help.contains("Usage: train"), "{help}");
    }
    assert!(help.contains("Examples:") && man.contains("Examples:"));
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(!session.ok(&format!("completions {shell}")).is_empty());
    }
}

#[test]
fn a_training_leaves_logs_and_a_page() {
    let session = Session::new();
    session.write("houses.csv", &houses(300));
    session.write("plants.csv", &plants(200));
    session.ok("--data plants.csv --target kind --epochs 4 --quiet --log a.jsonl --report a.html --reload 5 --tensorboard runs/a");
    session.ok("--data plants.csv --target kind --epochs 3 --lr 0.01 --quiet --log b.jsonl --report b.html");
    let page = session.read("a.html");
    for part in [
        "<!doctype html>",
        "validation",
        "Confusion matrix",
        "learning rate",
        "It ended after 4 epochs.",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("http-equiv"), "it has ended");
    // the numbers of the page are those of the log, digit by digit
    let log = session.read("a.jsonl");
    let losses: Vec<&str> = log
        .split("\"loss\":")
        .skip(1)
        .filter_map(|l| l.split([',', '}']).next())
        .collect();
    assert_eq!(losses.len(), 4);
    for loss in losses {
        assert!(page.contains(&format!("<data value=\"{loss}\">")), "{loss}");
    }
    assert_eq!(
        fs::read_dir(session.0.path().join("runs/a"))
            .expect("a directory")
            .count(),
        1
    );
    let out = session.ok("report a.jsonl b.jsonl --output both.html");
    assert_eq!(out, "wrote both.html\n");
    let page = session.read("both.html");
    for part in [
        "2 runs: a, b",
        "Settings that differ",
        "<th scope=\"row\">learning rate</th><td>0.003</td><td>0.01</td>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    session.ok("--data houses.csv --target price --epochs 3 --quiet --log c.csv --report c.html");
    assert!(session.read("c.html").contains("Predictions"));
    assert_eq!(session.read("c.csv").lines().count(), 4);
}
