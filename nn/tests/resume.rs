//! A training that is interrupted and resumed ends with the same bits as one without interruption.

use autograd::Tensor;
use nn::{
    Activation, Adam, ControlFlow, EarlyStopping, Logger, Module, Optimizer, PauseOnFlag, Result,
    Sgd, Trainer, data,
};
use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// A training with all kinds of state: Adam moments, EMA, gradient accumulation, dropout, schedule.
fn train(checkpoint: Option<&Path>, weights: &Path, every: usize) -> Result<()> {
    let (train, test) = data::digits()?;
    let model = nn::mlp(&[64, 24, 10], Activation::Relu, 5).dropout(0.2);
    let optimizer = Adam::new(2e-3).accumulate(2).clip_norm(1.0).ema(0.99);
    let mut trainer = Trainer::new(&model, &optimizer)
        .schedule(nn::schedule::warm_up(1.0, nn::schedule::cosine))
        .batch_size(16)
        .epochs(6)
        .seed(3)
        .validate(&test)
        .callback(EarlyStopping::new(3))
        .quiet();
    if let Some(path) = checkpoint {
        trainer = trainer.checkpoint(path, every);
    }
    trainer.fit(&train)?;
    drop(trainer);
    optimizer.copy_to(&model.parameters())?;
    nn::save(&model, weights)
}

const CHILD_DIRECTORY: &str = "NN_TEST_RESUME_DIRECTORY";

/// Not a test of its own: the test below starts this function as a process and kills it.
#[test]
fn child() {
    let Ok(directory) = std::env::var(CHILD_DIRECTORY) else {
        return;
    };
    let directory = Path::new(&directory);
    train(
        Some(&directory.join("state")),
        &directory.join("weights"),
        3,
    )
    .expect("a training");
}

#[test]
fn a_killed_training_resumes_to_the_same_bits() {
    let directory = tempfile::tempdir().expect("a directory");
    let uninterrupted = directory.path().join("uninterrupted");
    train(None, &uninterrupted, 1).expect("a training");
    let expected = std::fs::read(&uninterrupted).expect("its weights");
    let start = || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["child", "--exact", "--quiet"])
            .env(CHILD_DIRECTORY, directory.path());
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process")
    };
    // Kills that count are those in the middle of a training: a checkpoint exists, and the training
    // has not ended.
    let (mut kills, mut finished_trainings, mut starts) = (0, 0, 0);
    while kills < 20 {
        let mut child = start();
        // a different delay each time; after 40 starts it gets longer, in case the machine is slow
        starts += 1;
        let wait = 10 + starts * 37 % (90 + 5 * u64::saturating_sub(starts, 40));
        assert!(
            starts < 400,
            "only {kills} of {starts} processes were killed in the middle"
        );
        std::thread::sleep(Duration::from_millis(wait));
        let finished = child.try_wait().expect("its state").is_some();
        if starts % 2 == 0 && cfg!(unix) {
            // like Ctrl-C, which the program does not catch
            let _ = Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .stderr(Stdio::null())
                .status();
        } else {
            let _ = child.kill(); // fails if the process has ended
        }
        child.wait().expect("an end");
        kills += u64::from(!finished && directory.path().join("state").exists());
        if finished {
            finished_trainings += 1;
            let weights = std::fs::read(directory.path().join("weights")).expect("weights");
            assert!(weights == expected, "after {kills} kills");
            for file in ["weights", "state"] {
                std::fs::remove_file(directory.path().join(file)).expect("removable");
            }
        }
    }
    // the last training runs to its end
    assert!(start().wait().expect("an end").success());
    let weights = std::fs::read(directory.path().join("weights")).expect("weights");
    assert!(
        weights == expected,
        "after {kills} kills in {finished_trainings} trainings"
    );
}

/// Two processes with one checkpoint: each finds a whole file at any time, of itself or of the other.
#[test]
fn two_processes_on_one_checkpoint_end_with_the_same_bits() {
    let directory = tempfile::tempdir().expect("a directory");
    let uninterrupted = directory.path().join("uninterrupted");
    train(None, &uninterrupted, 1).expect("a training");
    let start = || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["child", "--exact", "--quiet"]);
        command.env(CHILD_DIRECTORY, directory.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("a process")
    };
    let mut both = [start(), start()];
    assert!(
        both.iter_mut()
            .all(|child| child.wait().expect("an end").success())
    );
    let read = |file: &Path| std::fs::read(file).expect("weights");
    assert!(read(&directory.path().join("weights")) == read(&uninterrupted));
    // nothing is left of what was on the way
    assert_eq!(
        std::fs::read_dir(directory.path())
            .expect("readable")
            .count(),
        3
    );
}

#[test]
fn a_paused_training_resumes_where_it_stopped() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let (train, test) = data::digits()?;
    let (state, log) = (
        directory.path().join("state"),
        directory.path().join("log.csv"),
    );
    let fit = |pause: bool, epochs: usize| {
        let model = nn::mlp(&[64, 10], Activation::Relu, 1);
        let flag = Arc::new(AtomicBool::new(pause));
        let mut trainer = Trainer::new(&model, Sgd::new(0.1).momentum(0.9))
            .epochs(epochs)
            .validate(&test)
            .checkpoint(&state, 1000)
            .callback(PauseOnFlag(flag))
            .callback(Logger::csv(&log))
            .quiet();
        let history = trainer.fit(&train)?;
        Ok::<_, nn::Error>((history, model.parameters()[0].1.value()))
    };
    assert_eq!(fit(true, 2)?.0.len(), 0, "paused after the first step");
    let (history, weights) = fit(false, 2)?;
    assert_eq!(history.len(), 2);
    // a finished training does not continue
    let (again, same) = fit(false, 2)?;
    assert_eq!((again.len(), &same), (2, &weights));
    assert_eq!(again[1].validation, history[1].validation);
    let lines = std::fs::read_to_string(&log).expect("a log");
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(
        (lines.len(), lines[0]),
        (
            3,
            "epoch,loss,accuracy,validation_loss,validation_accuracy,learning_rate,seconds"
        )
    );
    assert!(
        lines[1].starts_with("1,1.") && lines[2].starts_with("2,0."),
        "{lines:?}"
    );
    // with more epochs it continues
    assert_eq!(fit(false, 3)?.0.len(), 3);
    // the checkpoint of another training is an error
    let model = nn::mlp(&[64, 10], Activation::Relu, 1);
    let other = Trainer::new(&model, Sgd::new(0.1))
        .seed(9)
        .checkpoint(&state, 1)
        .quiet()
        .fit(&train);
    assert!(other.is_err_and(|e| { e.to_string().contains("another seed: 0 in the file, 9 now") }));
    Ok(())
}

#[test]
fn early_stopping_restores_the_best_weights_even_after_an_error() -> Result<()> {
    let (train, test) = data::digits()?;
    /// Records loss and weights of each epoch; optionally fails in epoch 4.
    struct Recorder<'w>(&'w std::cell::RefCell<Vec<(f64, Tensor)>>, bool);
    impl nn::Callback for Recorder<'_> {
        fn on_epoch_end(&mut self, context: &nn::CallbackContext<'_>) -> Result<ControlFlow> {
            let loss = context
                .history
                .last()
                .and_then(|e| e.validation)
                .map_or(f64::NAN, |v| v.loss);
            self.0
                .borrow_mut()
                .push((loss, context.params[0].1.value()));
            if self.1 && context.history.len() == 4 {
                return Err(nn::Error::Invalid("on purpose".into()));
            }
            Ok(ControlFlow::Continue)
        }
    }
    for fails in [false, true] {
        let recorded = std::cell::RefCell::default();
        let model = nn::mlp(&[64, 32, 10], Activation::Relu, 1);
        let result = Trainer::new(&model, Sgd::new(1.0).momentum(0.9))
            .epochs(30)
            .validate(&test)
            .callback(EarlyStopping::new(2))
            .callback(Recorder(&recorded, fails))
            .quiet()
            .fit(&train);
        assert_eq!(result.is_err(), fails);
        let recorded = recorded.into_inner();
        assert!(
            fails || recorded.len() < 30,
            "with such a high learning rate, the loss stops improving early"
        );
        let best = recorded
            .iter()
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .expect("an epoch");
        assert_eq!(model.parameters()[0].1.value(), best.1);
    }
    Ok(())
}

#[test]
fn a_damaged_checkpoint_is_an_error_that_names_the_file() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let (train, _) = data::digits()?;
    let fit = || {
        let model = nn::mlp(&[64, 10], Activation::Relu, 1);
        Trainer::new(&model, Sgd::new(0.1).momentum(0.9))
            .epochs(1)
            .checkpoint(&state, 1000)
            .quiet()
            .fit(&train)
    };
    fit()?;
    let tensors = nn::read_tensors(&state)?;
    let error_with = |name: &str, value: Option<Tensor>| {
        let mut all: Vec<(String, Tensor)> = tensors
            .clone()
            .into_iter()
            .filter(|(other, _)| other != name)
            .collect();
        all.extend(value.map(|value| (name.to_string(), value)));
        nn::write_tensors(&state, &all).expect("writable");
        fit().expect_err(name).to_string()
    };
    for (name, value, message) in [
        (
            "trainer.position",
            Some(Tensor::from([-1, 0])),
            "\"trainer.position\" is damaged",
        ),
        ("trainer.meter", None, "it has no entry \"trainer.meter\""),
        (
            "model.layers.0.bias",
            Some(Tensor::from([0f32])),
            "layers.0.bias: expected shape [10], got [1]",
        ),
        (
            "optimizer.velocity.layers.0.bias",
            None,
            "does not contain \"velocity.layers.0.bias\"",
        ),
    ] {
        let e = error_with(name, value);
        assert!(e.contains(message) && e.contains("state"), "{e}");
    }
    std::fs::write(&state, &std::fs::read(&state).expect("a file")[..100]).expect("writable");
    assert!(fit().is_err_and(|e| e.to_string().contains("is not a safetensors file")));
    Ok(())
}
