//! Reports of trainings: that they have the numbers of the log, are written when a training fails, and
//! change nothing about it.

use autograd::Tensor;
use nn::{
    Activation, Adam, Callback, CallbackContext, ControlFlow, Dataset, Error, Logger, Mlp, Module,
    Result, Trainer, Weights,
};
use nn_report::Html;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

mod browser;

/// Points in the plane: which of two rings they are on, or images of two patterns.
fn data(count: usize, width: usize) -> Dataset {
    let inputs = (0..count * width).map(|k| {
        let (row, column) = (k / width, k % width);
        let wave = ((row * 31 + column * 7) % 17) as f32 / 17.0;
        if row % 2 == 0 && column < width / 2 {
            1.0 - wave / 3.0
        } else {
            wave
        }
    });
    let inputs = Tensor::new([count, width], inputs.collect::<Vec<f32>>()).expect("a tensor");
    // some labels are wrong, so that some answers are
    let labels: Vec<i64> = (0..count)
        .map(|k| i64::from((k % 2 == 0) != (k % 13 == 0)))
        .collect();
    Dataset::new(inputs, labels.into()).expect("a dataset")
}

fn model(width: usize) -> Mlp {
    nn::mlp(&[width, 6, 2], Activation::Relu, 1)
}

fn folder() -> (TempDir, impl Fn(&str) -> PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_path_buf();
    (directory, move |name| path.join(name))
}

/// Ends a training with an error in its second epoch.
struct Fails;

impl Callback for Fails {
    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        match context.history.len() {
            0 => Ok(ControlFlow::Continue),
            _ => Err(Error::Invalid("as it was to".into())),
        }
    }
}

/// Trains for some epochs with a report; the page and the log.
fn page_and_log(width: usize) -> (String, String) {
    let (_folder, path) = folder();
    let (data, model) = (data(200, width), model(width));
    let (train, held_out) = data.split(0.7, 3).expect("two parts");
    let report = Html::new(path("run.html"))
        .title("A <run>")
        .setting("seed & more", 7)
        .samples(&model, &held_out)
        .classes(&["<even>".into(), "odd".into()]);
    Trainer::new(&model, Adam::new(1e-2))
        .epochs(5)
        .validate(&held_out)
        .metric("top", |outputs, _| outputs.max())
        .callback(Logger::json_lines(path("log.jsonl")))
        .callback(report)
        .quiet()
        .fit(&train)
        .expect("a training");
    let read = |name| fs::read_to_string(path(name)).expect("a file");
    (read("run.html"), read("log.jsonl"))
}

#[test]
fn the_page_has_the_numbers_of_the_log() {
    let (page, log) = page_and_log(64);
    let mut count = 0;
    for line in log.lines() {
        for pair in line.trim_matches(['{', '}']).split(',') {
            let (name, value) = pair.split_once(':').expect("a pair");
            if value != "null" && name != "\"seconds\"" {
                assert!(
                    page.contains(&format!("<data value=\"{value}\">")),
                    "{pair}"
                );
                count += 1;
            }
        }
    }
    assert_eq!(count, 5 * 7);
    for part in [
        "A &lt;run&gt;",
        "seed &amp; more",
        "&lt;even&gt;",
        "It ended after 5 epochs.",
        "Norms of gradients",
        "Gradient of layers.0.weight",
        "layers.1.weight",
        "Confusion matrix",
        "Most confidently wrong",
        "data:image/bmp;base64,",
        "By layer",
        "Time of an epoch",
        "hardware threads",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // each chart has its numbers as a table, and nothing comes from elsewhere
    assert_eq!(
        page.matches("<svg viewBox=\"0 0 400 250\"").count(),
        page.matches("</svg><figcaption>").count()
    );
    let page = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", ""); // a name, not a link
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<script"));
}

#[test]
fn a_report_changes_no_bit() {
    let train = data(90, 4);
    let weights = |report: bool| {
        let (_folder, path) = folder();
        let model = model(4);
        let mut trainer = Trainer::new(&model, Adam::new(1e-2))
            .epochs(3)
            .batch_size(16)
            .quiet();
        if report {
            trainer = trainer.callback(Html::new(path("run.html")).samples(&model, &train));
        }
        trainer.fit(&train).expect("a training");
        Weights::of(&model)
    };
    assert_eq!(weights(true), weights(false));
}

#[test]
fn a_training_that_fails_leaves_its_page() {
    let (_folder, path) = folder();
    let (train, model) = (data(128, 4), model(4));
    let mut trainer = Trainer::new(&model, Adam::new(1e-2))
        .epochs(3)
        .batch_size(32)
        .quiet();
    trainer = trainer
        .callback(Html::new(path("run.html")).reload(2))
        .callback(Fails);
    assert!(trainer.fit(&train).is_err());
    let page = fs::read_to_string(path("run.html")).expect("a page");
    assert!(
        page.contains("It ended within epoch 2, after 1 of its steps."),
        "{page}"
    );
    assert!(
        !page.contains("http-equiv=\"refresh\""),
        "nothing is to come"
    );
}

#[test]
fn mistakes_are_found_before_the_training() {
    let (_folder, path) = folder();
    let (train, model) = (data(60, 4), model(4));
    let fit = |report: Html<'_>| {
        let before = Weights::of(&model);
        let trained = Trainer::new(&model, Adam::new(1e-2))
            .callback(report)
            .quiet()
            .fit(&train);
        assert_eq!(Weights::of(&model), before);
        trained.map(drop).expect_err("a mistake").to_string()
    };
    let error = fit(Html::new(path("no/such/folder.html")));
    assert!(error.contains("its directory does not exist"), "{error}");
    let labels = Tensor::from(vec![2i64; 60]);
    let three = Dataset::new(train.inputs().expect("inputs"), labels).expect("a dataset");
    let error = fit(Html::new(path("run.html")).samples(&model, &three));
    assert!(
        error.contains("samples: the model has 2 outputs, the labels 3 classes"),
        "{error}"
    );
}

#[test]
fn numbers_are_drawn_over_their_targets() {
    let (_folder, path) = folder();
    let inputs =
        Tensor::new([50, 1], (0..50).map(|k| k as f32 / 50.0).collect()).expect("a tensor");
    let data = Dataset::new(inputs.clone(), inputs).expect("a dataset");
    let model = nn::mlp(&[1, 4, 1], Activation::Tanh, 1);
    Trainer::new(&model, Adam::new(1e-2))
        .loss(nn::loss::mse)
        .callback(Html::new(path("run.html")).samples(&model, &data))
        .quiet()
        .fit(&data)
        .expect("a training");
    let page = fs::read_to_string(path("run.html")).expect("a page");
    assert!(
        page.contains("50 of 50 samples over their targets") && !page.contains("Confusion"),
        "{page}"
    );
    assert!(model.num_parameters() > 0 && page.matches("<circle class=\"dot").count() >= 50);
}

#[test]
fn a_browser_shows_the_page() {
    for width in [64, 5] {
        let (page, _) = page_and_log(width);
        let pictures = page.matches("<svg").count() + page.matches("<img").count();
        let Some(shown) = browser::show(&page, 400) else {
            return; // it has said why
        };
        assert_eq!(
            shown.pictures, pictures,
            "all pictures are there and have a size"
        );
        assert_eq!(shown.errors, Vec::<String>::new());
        assert!(
            shown.scroll_width <= 400,
            "{} is wider than 400",
            shown.scroll_width
        );
    }
}

#[cfg(feature = "tensorboard")]
mod tensorboard {
    use super::*;
    use nn_report::TensorBoard;
    use std::process::Command;

    /// The folder of a training's events, and its log.
    fn events() -> (TempDir, PathBuf, String) {
        let (directory, path) = folder();
        let (data, model) = (data(200, 4), model(4));
        let (train, held_out) = data.split(0.7, 3).expect("two parts");
        Trainer::new(&model, Adam::new(1e-2))
            .epochs(3)
            .validate(&held_out)
            .callback(Logger::json_lines(path("log.jsonl")))
            .callback(TensorBoard::new(path("runs/a")))
            .quiet()
            .fit(&train)
            .expect("a training");
        let log = fs::read_to_string(path("log.jsonl")).expect("a log");
        (directory, path("runs/a"), log)
    }

    #[test]
    fn events_are_whole_records() {
        let (_directory, folder, _) = events();
        let files: Vec<PathBuf> = fs::read_dir(folder)
            .expect("a folder")
            .map(|f| f.expect("a file").path())
            .collect();
        let bytes = fs::read(&files[0]).expect("a file");
        let (mut at, mut records) = (0, 0);
        while at < bytes.len() {
            let length =
                u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize;
            at += 8 + 4 + length + 4;
            records += 1;
        }
        // the version; and for each epoch, the first step and the end
        assert_eq!((at, records, files.len()), (bytes.len(), 1 + 2 * 3, 1));
    }

    /// Prints what TensorBoard's own reader finds: a line for each scalar and each histogram.
    const READER: &str = r"
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'histograms': 0})
events.Reload()
for tag in events.Tags()['scalars']:
    for e in events.Scalars(tag):
        print('scalar', tag, e.step, e.value)
for tag in events.Tags()['histograms']:
    for e in events.Histograms(tag):
        h = e.histogram_value
        assert len(h.bucket) == len(h.bucket_limit) and sum(h.bucket) == h.num, tag
        print('histogram', tag, e.step, int(h.num))
";

    #[test]
    fn tensorboard_reads_the_events() {
        let python = std::env::var("TENSORBOARD_PYTHON").unwrap_or("python3".into());
        let has = Command::new(&python)
            .args(["-c", "import tensorboard"])
            .output();
        if !has.is_ok_and(|o| o.status.success()) {
            eprintln!("skipped: {python} has no tensorboard; TENSORBOARD_PYTHON names another one");
            return;
        }
        let (_directory, folder, log) = events();
        let output = Command::new(&python)
            .args(["-c", READER])
            .arg(&folder)
            .output()
            .expect("Python");
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{err}");
        let values = |tag: &str| {
            let own = out.lines().filter(|l| l.contains(&format!(" {tag} ")));
            own.map(|l| {
                l.split(' ')
                    .next_back()
                    .and_then(|v| v.parse::<f64>().ok())
                    .expect("a number")
            })
            .collect::<Vec<f64>>()
        };
        let logged = |name: &str| {
            let key = format!("\"{name}\":");
            let parts = log.split(&key).skip(1);
            parts
                .map(|p| {
                    f64::from(
                        p.split([',', '}'])
                            .next()
                            .and_then(|v| v.parse::<f32>().ok())
                            .expect("a number"),
                    )
                })
                .collect::<Vec<f64>>()
        };
        assert_eq!(values("loss/training"), logged("loss"));
        assert_eq!(values("loss/validation"), logged("validation_loss"));
        assert_eq!(values("learning_rate"), logged("learning_rate"));
        assert_eq!(values("weights/layers.0.weight"), [24.0; 3]);
        assert_eq!(values("gradients/layers.1.bias"), [2.0; 3]);
        assert_eq!(values("gradient_norm/layers.1.bias").len(), 3);
    }
}

#[cfg(feature = "tensorboard")]
#[test]
fn only_the_first_rank_writes() {
    let directory = tempfile::tempdir().expect("a directory");
    let train = |team: nn::team::Threads| -> Result<(), nn::Error> {
        let rank = nn::team::Team::rank(&team);
        let place = directory.path().join(format!("rank {rank}"));
        std::fs::create_dir(&place).expect("a directory");
        let inputs = autograd::Tensor::full([32, 3], 0.5f32)?;
        let data = nn::Dataset::new(inputs, vec![1i64; 32].into())?;
        let model = nn::mlp(&[3, 4, 2], nn::Activation::Tanh, 1);
        nn::Trainer::new(&model, nn::Sgd::new(0.1))
            .batch_size(16)
            .micro_batch(8)
            .epochs(2)
            .team(&team)
            .callback(nn_report::Html::new(place.join("run.html")).samples(&model, &data))
            .callback(nn_report::TensorBoard::new(place.join("events")))
            .quiet()
            .fit(&data)?;
        Ok(())
    };
    std::thread::scope(|threads| {
        let ranks = nn::team::Threads::new(2).into_iter();
        let ranks: Vec<_> = ranks.map(|team| threads.spawn(|| train(team))).collect();
        for rank in ranks {
            rank.join().expect("no panic").expect("it trains");
        }
    });
    let entries = |rank: usize| {
        let place = directory.path().join(format!("rank {rank}"));
        std::fs::read_dir(place).expect("a directory").count()
    };
    assert_eq!((entries(0), entries(1)), (2, 0));
}
