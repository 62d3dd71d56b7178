//! What callbacks see and do, when a training is validated, and what it keeps of its results.

mod common;

use common::{data, message, model};
use nn::{
    Adam, Callback, CallbackContext, ControlFlow, EarlyStopping, End, Epoch, Gradient, Metrics,
    Module, Monitor, Optimizer, PauseOnFlag, Result, SaveBest, Sgd, Trainer, Validation, Weights,
    loss, schedule,
};
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

/// Writes down all calls.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    fn note(&self, what: &str, context: &CallbackContext<'_>) {
        let rate = context
            .learning_rate
            .map_or("-".into(), |r| format!("{r:.2}"));
        let line = format!("{what} {} {rate}", context.step);
        self.0.lock().expect("no panic").push(line);
    }
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

impl Callback for Calls {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        self.note("train", context);
        Ok(())
    }
    fn on_step_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        self.note("begin", context);
        Ok(())
    }
    fn on_gradients(
        &mut self,
        context: &CallbackContext<'_>,
        gradients: &mut Vec<Gradient<'_>>,
    ) -> Result<()> {
        assert_eq!(gradients.len(), context.params.len());
        self.note("gradients", context);
        Ok(())
    }
    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        self.note("step", context);
        Ok(ControlFlow::Continue)
    }
    fn on_evaluation(
        &mut self,
        context: &CallbackContext<'_>,
        epoch: &Epoch,
    ) -> Result<ControlFlow> {
        assert!(epoch.is_evaluated);
        self.note(&format!("evaluated {}", epoch.number), context);
        Ok(ControlFlow::Continue)
    }
    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        self.note("epoch", context);
        Ok(ControlFlow::Continue)
    }
    fn on_train_end(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        self.note("end", context);
        Ok(())
    }
}

#[test]
fn callbacks_are_called_in_order() -> Result<()> {
    let (calls, train) = (Calls::default(), data(20));
    let fit = |validation: Option<Validation<'_>>, epochs: usize| {
        let m = model();
        let trainer = Trainer::new(&m, Sgd::new(0.5))
            .schedule(schedule::linear)
            .batch_size(10)
            .epochs(epochs)
            .callback(calls.clone())
            .quiet();
        let mut trainer = match validation {
            Some(validation) => trainer.validate(validation),
            None => trainer,
        };
        trainer.fit(&train)?;
        Ok::<_, nn::Error>(calls.take())
    };
    // in words: what, after how many steps, at which rate
    let step = |k: usize, rate: &str| {
        let after = k + 1;
        [
            format!("begin {k} {rate}"),
            format!("gradients {k} {rate}"),
            format!("step {after} {rate}"),
        ]
    };
    let words = |text: &str| vec![text.to_string()];
    let expected = [
        words("train 0 -"),
        step(0, "0.50").to_vec(),
        step(1, "0.25").to_vec(),
        words("evaluated 1 2 0.25"),
        words("epoch 2 0.25"),
        words("end 2 0.25"),
    ];
    assert_eq!(fit(None, 1)?, expected.concat());
    let evaluations = |calls: Vec<String>| -> Vec<String> {
        let of = calls.into_iter().filter(|c| c.starts_with("evaluated"));
        of.map(|c| c.rsplit_once(' ').expect("a rate").0.into())
            .collect()
    };
    let held_out = data(15);
    let on = || Validation::on(&held_out);
    assert_eq!(
        evaluations(fit(Some(on().every_epochs(2)), 5)?),
        ["evaluated 2 4", "evaluated 4 8", "evaluated 5 10"]
    );
    // every three steps, and at the end of each epoch, once if both fall together
    assert_eq!(
        evaluations(fit(Some(on().every_steps(3)), 3)?),
        [
            "evaluated 1 2",
            "evaluated 2 3",
            "evaluated 2 4",
            "evaluated 3 6"
        ]
    );
    Ok(())
}

/// Halves all gradients, and leaves those of one parameter out.
struct Half(&'static str);

impl Callback for Half {
    fn on_gradients(
        &mut self,
        context: &CallbackContext<'_>,
        gradients: &mut Vec<Gradient<'_>>,
    ) -> Result<()> {
        let left_out = context.params.iter().find(|(path, _)| path == self.0);
        let left_out = left_out.expect("a parameter").1.id();
        gradients.retain(|d| d.param.id() != left_out);
        gradients.iter_mut().for_each(|d| d.gradient *= 0.5);
        Ok(())
    }
}

#[test]
fn gradients_can_be_changed_before_the_update() -> Result<()> {
    let train = data(32);
    let (halved, expected) = (model(), model());
    fn fit(m: &nn::Mlp, lr: f64) -> Trainer<'_, nn::Mlp, Sgd> {
        Trainer::new(m, Sgd::new(lr))
            .epochs(4)
            .batch_size(8)
            .quiet()
    }
    expected.parameters()[1].1.freeze(true);
    fit(&expected, 0.25).fit(&train)?;
    let history = fit(&halved, 0.5)
        .callback(Half("layers.0.bias"))
        .fit(&train)?;
    for ((path, a), (_, b)) in halved.parameters().iter().zip(expected.parameters()) {
        assert!(a.value() == b.value(), "{path}");
    }
    assert!(history.iter().all(|epoch| epoch.learning_rate == Some(0.5)));
    Ok(())
}

#[test]
fn the_learning_rate_is_in_the_history_and_the_log() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let (m, train) = (model(), data(40));
    let trainer = |optimizer| {
        Trainer::new(&m, optimizer)
            .schedule(schedule::step(1, 0.5))
            .batch_size(10)
            .epochs(3)
            .quiet()
    };
    let optimizer = Adam::new(0.25).clip_norm(1.0).accumulate(2).ema(0.9);
    let history = trainer(optimizer)
        .checkpoint(path("state"), 2)
        .callback(nn::Logger::csv(path("log")))
        .fit(&train)?;
    let rates = history.iter().map(|epoch| epoch.learning_rate);
    assert!(rates.eq([Some(0.25), Some(0.125), Some(0.0625)]));
    let log = fs::read_to_string(path("log")).expect("a log");
    let mut lines = log
        .lines()
        .map(|line| line.split(',').nth(5).expect("a rate"));
    assert!(
        lines
            .by_ref()
            .eq(["learning_rate", "0.25", "0.125", "0.0625"]),
        "{log}"
    );
    // also from a checkpoint
    let optimizer = Adam::new(0.25).clip_norm(1.0).accumulate(2).ema(0.9);
    let again = trainer(optimizer)
        .checkpoint(path("state"), 2)
        .fit(&train)?;
    assert!(
        again
            .iter()
            .map(|e| e.learning_rate)
            .eq(history.iter().map(|e| e.learning_rate))
    );
    Ok(())
}

/// An epoch with this validation loss.
fn epoch(loss: f64, is_evaluated: bool) -> Epoch {
    Epoch {
        number: 1,
        train: Metrics {
            loss: 7.0,
            accuracy: None,
        },
        validation: is_evaluated.then_some(Metrics {
            loss,
            accuracy: Some(1.0 - loss / 10.0),
        }),
        is_evaluated,
        learning_rate: None,
        metrics: Vec::new(),
        time: Duration::ZERO,
        gradients: None,
    }
}

#[test]
fn plateaus() {
    /// The factors after each of these losses; one below 0 stands for an epoch without validation.
    fn factors(losses: &[f64], plateau: schedule::Plateau) -> Vec<f64> {
        let history: Vec<Epoch> = losses
            .iter()
            .map(|&loss| epoch(loss, loss >= 0.0))
            .collect();
        let schedule = plateau.schedule();
        let at = |n: usize| schedule::Context {
            step: n,
            steps_per_epoch: 1,
            epochs: 100,
            history: &history[..n],
            start: 0,
        };
        (1..=losses.len()).map(|n| schedule(&at(n))).collect()
    }
    let plateau = || schedule::Plateau::new(0.5, 2);
    let nan = f64::NAN;
    assert_eq!(
        factors(&[3.0, 3.0, 3.0, 3.0, 3.0], plateau()),
        [1.0, 1.0, 0.5, 0.5, 0.25]
    );
    assert_eq!(factors(&[3.0, 2.0, nan, 1.9, 1.9], plateau()), [1.0; 5]);
    // epochs without a validation are not counted
    assert_eq!(
        factors(&[3.0, -1.0, 3.0, -1.0, 3.0], plateau()),
        [1.0, 1.0, 1.0, 1.0, 0.5]
    );
    // two epochs of rest after each reduction
    let rested = factors(&[3.0; 9], plateau().cooldown(2));
    assert_eq!(rested, [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]);
    assert_eq!(
        factors(&[3.0; 7], plateau().least(0.3)),
        [1.0, 1.0, 0.5, 0.5, 0.3, 0.3, 0.3]
    );
    let larger = || Monitor::largest(|epoch| epoch.validation?.accuracy);
    assert_eq!(
        factors(&[3.0, 4.0, 5.0], plateau().monitor(larger())),
        [1.0, 1.0, 0.5]
    );
    let little = larger().min_delta(0.15); // 0.7, 0.8, 0.9
    assert_eq!(
        factors(&[3.0, 2.0, 1.0, 1.0], plateau().monitor(little)),
        [1.0; 4]
    );
}

/// Keeps what was evaluated, and can pause.
struct Evaluations(Arc<Mutex<Vec<(usize, f64)>>>);

impl Callback for Evaluations {
    fn on_evaluation(
        &mut self,
        context: &CallbackContext<'_>,
        epoch: &Epoch,
    ) -> Result<ControlFlow> {
        let loss = epoch.validation.map_or(f64::NAN, |v| v.loss);
        self.0.lock().expect("no panic").push((context.step, loss));
        Ok(ControlFlow::Continue)
    }
}

/// Pauses after so many steps.
struct PauseAt(usize, Arc<AtomicBool>);

impl Callback for PauseAt {
    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        let is_due = context.step == self.0;
        self.1.store(is_due, std::sync::atomic::Ordering::Relaxed);
        Ok(ControlFlow::Continue)
    }
    fn name(&self) -> String {
        "pause".into()
    }
}

#[test]
fn a_validation_within_an_epoch_is_one_like_any_other() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let (train, held_out) = (data(80), data(30));
    // stops at whatever is validated; resumed after a pause at any step it goes the same way
    let fit = |checkpoint: Option<&Path>, pause: usize| {
        let (m, seen) = (model(), Arc::default());
        let flag = Arc::new(AtomicBool::new(false));
        let stopping = EarlyStopping::new(3).monitor(Monitor::default().min_delta(0.004));
        let trainer = Trainer::new(&m, Adam::new(3e-3).ema(0.9))
            .batch_size(10)
            .epochs(20)
            .validate(Validation::on(&held_out).every_steps(3).averaged())
            .callback(Evaluations(Arc::clone(&seen)))
            .callback(stopping)
            .callback(PauseAt(pause, flag.clone()))
            .callback(PauseOnFlag(flag))
            .quiet();
        let mut trainer = match checkpoint {
            Some(path) => trainer.checkpoint(path, 1000),
            None => trainer,
        };
        let end = trainer.fit(&train)?.end;
        let seen = seen.lock().expect("no panic").clone();
        Ok::<_, nn::Error>((end, seen, Weights::of(&m)))
    };
    let (end, seen, weights) = fit(None, 0)?;
    assert_eq!(end, End::Stopped);
    let last = seen.last().expect("an evaluation").0;
    assert!(last % 8 != 0 && last < 150, "within an epoch: {seen:?}");
    // what is kept is what was best: three evaluations before the last one
    let best = seen[seen.len() - 4].1;
    let m = model();
    weights.copy_to(&m)?;
    let kept = nn::evaluate(&m, &held_out, loss::cross_entropy)?.loss;
    assert!((kept - best).abs() < 1e-6, "{kept} {best}");
    for pause in [2, 3, 8, 11] {
        let path = directory.path().join(format!("state{pause}"));
        let (end, first, _) = fit(Some(&path), pause)?;
        assert_eq!(end, End::Paused);
        let (end, second, resumed) = fit(Some(&path), 0)?;
        assert_eq!(end, End::Stopped);
        assert_eq!([first, second].concat(), seen, "paused after {pause}");
        assert!(resumed == weights);
    }
    Ok(())
}

#[test]
fn averages_are_validated_and_kept() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("best.safetensors");
    let (train, held_out, m) = (data(60), data(30), model());
    let optimizer = Sgd::new(0.5).ema(0.9);
    let history = Trainer::new(&m, &optimizer)
        .batch_size(10)
        .epochs(4)
        .validate(Validation::on(&held_out).averaged())
        .callback(SaveBest::new(&file))
        .quiet()
        .fit(&train)?;
    let own = Weights::of(&m);
    let averages = optimizer.averages(&m.parameters()).expect("kept");
    assert!(averages != own);
    let other = model();
    averages.copy_to(&other)?;
    let expected = nn::evaluate(&other, &held_out, loss::cross_entropy)?;
    assert_eq!(history[3].validation, Some(expected));
    // the best file has the averages of its epoch
    nn::load(&other, &file)?;
    let losses = history
        .iter()
        .map(|e| e.validation.map_or(f64::NAN, |v| v.loss));
    let best = losses.fold(f64::INFINITY, f64::min);
    let loaded = nn::evaluate(&other, &held_out, loss::cross_entropy)?;
    assert_eq!(loaded.loss, best);

    // of some parameters only: the others as they are
    let (first, all) = (&m.parameters()[..2], m.parameters());
    let some = Sgd::new(0.5).ema(0.9).only(first).clip_norm(1.0);
    for step in 0..3 {
        let g = autograd::Graph::training(step);
        let (x, labels) = train.rows(&[0, 1, 2])?;
        some.step(loss::cross_entropy(
            m.forward(g.constant(x)),
            g.constant(labels),
        ));
        g.run(())?;
    }
    let averages = some.averages(&all).expect("kept");
    let is_own = all
        .iter()
        .zip(averages.iter())
        .map(|((_, own), (_, v))| own.value() == *v);
    assert_eq!(is_own.collect::<Vec<_>>(), [false, false, true, true]);

    let mut trainer = Trainer::new(&m, Sgd::new(0.1))
        .validate(Validation::on(&held_out).averaged())
        .quiet();
    let error = message(trainer.fit(&train));
    assert!(
        error.contains("the optimizer keeps none: `ema` does"),
        "{error}"
    );
    Ok(())
}

#[test]
fn the_last_checkpoints_are_kept() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let train = data(40);
    let fit = |name: &str, kept: usize| {
        let m = model();
        Trainer::new(&m, Adam::new(1e-2))
            .batch_size(10)
            .epochs(3)
            .checkpoint(path(name), 1)
            .keep_checkpoints(kept)
            .quiet()
            .fit(&train)?;
        Ok::<_, nn::Error>(Weights::of(&m))
    };
    let names = || {
        let entries = fs::read_dir(directory.path()).expect("a directory");
        let names = entries.map(|e| e.expect("an entry").file_name().into_string());
        let mut names: Vec<String> = names.map(|n| n.expect("text")).collect();
        names.sort();
        names
    };
    fit("one", 1)?;
    assert_eq!(names(), ["one"]);
    let weights = fit("run", 4)?;
    assert_eq!(names(), ["one", "run", "run.1", "run.2", "run.3"]);
    // each is the one of a step before, and a training goes on from it to the same end
    let read = |name: &str| fs::read(path(name)).expect("a file");
    for older in ["run.1", "run.2", "run.3"] {
        assert!(read(older) != read("run"));
        fs::copy(path(older), path("again")).expect("a copy");
        assert!(fit("again", 1)? == weights, "from {older}");
    }
    Ok(())
}
