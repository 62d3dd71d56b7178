//! A training that is stopped at any moment and resumed ends with the bits of one that was not.

use autograd::Tensor;
use nn::{
    Activation, Adam, EarlyStopping, Log, Module, Next, Optimizer, PauseWhen, Result, Sgd, Trainer,
    data,
};
use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// A training with everything that has a state: dropout, moments, averages, accumulation, a schedule.
fn train(checkpoint: Option<&Path>, weights: &Path, every: usize) -> Result<()> {
    let (train, test) = data::digits()?;
    let model = nn::mlp(&[64, 24, 10], Activation::Relu, 5).dropout(0.2);
    let optimizer = Adam::new(2e-3).accumulate(2).clip_norm(1.0).average(0.99);
    let mut trainer = Trainer::new(&model, &optimizer)
        .schedule(nn::schedule::warm_up(1.0, nn::schedule::cosine))
        .batch_size(16)
        .epochs(6)
        .seed(3)
        .validate(&test)
        .with(EarlyStopping::new(3))
        .quiet();
    if let Some(path) = checkpoint {
        trainer = trainer.checkpoint(path, every);
    }
    trainer.fit(&train)?;
    drop(trainer);
    optimizer.store(&model.parameters())?;
    nn::save(&model, weights)
}

const CHILD: &str = "NN_TEST_RESUME_FOLDER";

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let Ok(folder) = std::env::var(CHILD) else {
        return;
    };
    let folder = Path::new(&folder);
    train(Some(&folder.join("state")), &folder.join("weights"), 3).expect("a training");
}

#[test]
fn killed_at_random_points_and_resumed_it_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole");
    train(None, &whole, 1).expect("a training");
    let expected = std::fs::read(&whole).expect("its weights");
    let start = || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["child", "--exact", "--quiet"])
            .env(CHILD, folder.path());
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process")
    };
    let (mut kills, mut runs, mut starts) = (0, 0, 0);
    // kills in the middle of a training: some of it is saved, and it has not ended
    while kills < 20 {
        let mut child = start();
        // a different moment each time: of starting, reading, training, saving
        starts += 1;
        // later and later, in case that the machine is slow
        let wait = 10 + starts * 37 % (90 + 5 * u64::saturating_sub(starts, 40));
        assert!(
            starts < 400,
            "only {kills} of {starts} processes were killed in the middle"
        );
        std::thread::sleep(Duration::from_millis(wait));
        let finished = child.try_wait().expect("its state").is_some();
        if starts % 2 == 0 && cfg!(unix) {
            // as by a key on the keyboard, which the program does not catch
            let _ = Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .stderr(Stdio::null())
                .status();
        } else {
            let _ = child.kill(); // it may have ended by itself
        }
        child.wait().expect("an end");
        kills += u64::from(!finished && folder.path().join("state").exists());
        if finished {
            runs += 1;
            let weights = std::fs::read(folder.path().join("weights")).expect("weights");
            assert!(weights == expected, "after {kills} kills");
            for file in ["weights", "state"] {
                std::fs::remove_file(folder.path().join(file)).expect("removable");
            }
        }
    }
    // the last one to its end
    assert!(start().wait().expect("an end").success());
    let weights = std::fs::read(folder.path().join("weights")).expect("weights");
    assert!(
        weights == expected,
        "after {kills} kills in {runs} trainings"
    );
}

#[test]
fn paused_and_resumed_it_goes_on_where_it_was() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let (train, test) = data::digits()?;
    let (state, log) = (folder.path().join("state"), folder.path().join("log.csv"));
    let fit = |pause: bool, epochs: usize| {
        let model = nn::mlp(&[64, 10], Activation::Relu, 1);
        let flag = Arc::new(AtomicBool::new(pause));
        let mut trainer = Trainer::new(&model, Sgd::new(0.1).momentum(0.9))
            .epochs(epochs)
            .validate(&test)
            .checkpoint(&state, 1000)
            .with(PauseWhen(flag))
            .with(Log::csv(&log))
            .quiet();
        let history = trainer.fit(&train)?;
        Ok::<_, nn::Error>((history, model.parameters()[0].1.value()))
    };
    assert_eq!(fit(true, 2)?.0.len(), 0, "paused after the first step");
    let (history, weights) = fit(false, 2)?;
    assert_eq!(history.len(), 2);
    // a finished one stays as it is
    let (again, same) = fit(false, 2)?;
    assert_eq!((again.len(), &same), (2, &weights));
    assert_eq!(again[1].validation, history[1].validation);
    let lines = std::fs::read_to_string(&log).expect("a log");
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(
        (lines.len(), lines[0]),
        (
            3,
            "epoch,loss,accuracy,validation_loss,validation_accuracy,seconds"
        )
    );
    assert!(
        lines[1].starts_with("1,1.") && lines[2].starts_with("2,0."),
        "{lines:?}"
    );
    // with more epochs it goes on
    assert_eq!(fit(false, 3)?.0.len(), 3);
    // another training's state is refused
    let model = nn::mlp(&[64, 10], Activation::Relu, 1);
    let other = Trainer::new(&model, Sgd::new(0.1))
        .seed(9)
        .checkpoint(&state, 1)
        .quiet()
        .fit(&train);
    assert!(other.is_err_and(|e| {
        e.to_string()
            .contains("the seed, the batch size or the number of samples")
    }));
    Ok(())
}

#[test]
fn early_stopping_puts_the_best_weights_back_however_it_ends() -> Result<()> {
    let (train, test) = data::digits()?;
    /// Records the weights of each epoch; fails in the last one if asked to.
    struct Watch<'w>(&'w std::cell::RefCell<Vec<(f64, Tensor)>>, bool);
    impl nn::Callback for Watch<'_> {
        fn epoch(&mut self, at: &nn::At<'_>) -> Result<Next> {
            let loss = at
                .history
                .last()
                .and_then(|e| e.validation)
                .map_or(f64::NAN, |v| v.loss);
            self.0.borrow_mut().push((loss, at.params[0].1.value()));
            if self.1 && at.history.len() == 4 {
                return Err(nn::Error::Invalid("on purpose".into()));
            }
            Ok(Next::Continue)
        }
    }
    for fails in [false, true] {
        let seen = std::cell::RefCell::default();
        let model = nn::mlp(&[64, 32, 10], Activation::Relu, 1);
        let result = Trainer::new(&model, Sgd::new(1.0).momentum(0.9))
            .epochs(30)
            .validate(&test)
            .with(EarlyStopping::new(2))
            .with(Watch(&seen, fails))
            .quiet()
            .fit(&train);
        assert_eq!(result.is_err(), fails);
        let seen = seen.into_inner();
        assert!(
            fails || seen.len() < 30,
            "so high a rate does not get better for long"
        );
        let best = seen
            .iter()
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .expect("an epoch");
        assert_eq!(model.parameters()[0].1.value(), best.1);
    }
    Ok(())
}

#[test]
fn a_damaged_state_is_an_error_that_names_the_file() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
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
    let whole = nn::read_tensors(&state)?;
    let with = |name: &str, value: Option<Tensor>| {
        let mut all: Vec<(String, Tensor)> = whole
            .clone()
            .into_iter()
            .filter(|(own, _)| own != name)
            .collect();
        all.extend(value.map(|value| (name.to_string(), value)));
        nn::write_tensors(&state, &all).expect("writable");
        fit().expect_err(name).to_string()
    };
    for (name, value, said) in [
        (
            "trainer.position",
            Some(Tensor::from([-1, 0])),
            "its position is damaged",
        ),
        ("trainer.meter", None, "it has no meter"),
        (
            "model.layers.0.bias",
            Some(Tensor::from([0f32])),
            "layers.0.bias: has shape [1], the model wants [10]",
        ),
        (
            "optimizer.velocity.layers.0.bias",
            None,
            "does not hold \"velocity.layers.0.bias\"",
        ),
    ] {
        let e = with(name, value);
        assert!(e.contains(said) && e.contains("state"), "{e}");
    }
    std::fs::write(&state, &std::fs::read(&state).expect("a file")[..100]).expect("writable");
    assert!(fit().is_err_and(|e| e.to_string().contains("is not a safetensors file")));
    Ok(())
}
