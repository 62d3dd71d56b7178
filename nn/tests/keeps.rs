//! What a training must not lose: files, what they are, and the state of everybody at a resume.

mod common;

use autograd::Tensor;
use common::{data, message, model, values};
use nn::{
    Activation, Adam, Callback, CallbackContext, ControlFlow, Dataset, EarlyStopping, End, Logger,
    Module, Monitor, Optimizer, PauseOnFlag, Result, RmsProp, SaveBest, Sgd, Trainer, Weights,
};
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

#[test]
fn a_file_keeps_what_it_is() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    nn::save(&model(), path("new"))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let mode = |file: &Path| {
            let metadata = fs::symlink_metadata(file).expect("a file");
            metadata.permissions().mode() & 0o777
        };
        // as any new file
        fs::write(path("other"), "").expect("writable");
        assert_eq!(mode(&path("new")), mode(&path("other")));
        // as before
        fs::set_permissions(path("new"), fs::Permissions::from_mode(0o640)).expect("ours");
        nn::save(&model(), path("new"))?;
        assert_eq!(mode(&path("new")), 0o640);
        // links stay links, also those that lead to nothing yet
        fs::create_dir(path("elsewhere")).expect("a directory");
        for (link, to) in [("link", "elsewhere/file"), ("link to link", "link")] {
            symlink(to, path(link)).expect("a link");
            nn::save(&model(), path(link))?;
            assert!(
                fs::symlink_metadata(path(link))
                    .expect("there")
                    .is_symlink()
            );
            nn::load(&model(), path("elsewhere/file"))?;
            assert!(nn::is_same_file(path(link), path("elsewhere/file")));
        }
        // devices are written to
        nn::save(&model(), "/dev/null")?;
        assert!(!fs::metadata("/dev/null").expect("there").is_file());
        if Path::new("/dev/full").exists() {
            let full = message(nn::save(&model(), "/dev/full"));
            assert!(full.starts_with("/dev/full: cannot be written: "), "{full}");
        }
    }
    // nothing else is left
    let left = fs::read_dir(directory.path()).expect("readable").count();
    assert_eq!(left, if cfg!(unix) { 5 } else { 1 });
    assert!(nn::is_same_file(path("new"), path("elsewhere/../new")) || cfg!(not(unix)));
    assert!(!nn::is_same_file(path("new"), path("newer")));
    let message = message(nn::check_writable(path("not/there")));
    assert!(
        message.contains("its directory does not exist"),
        "{message}"
    );
    Ok(())
}

#[test]
fn names_that_cannot_be_read_back_are_not_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    let named = |name: &str| (name.to_string(), Tensor::from([1.0f32]));
    let write = |tensors: &[(String, Tensor)]| message(nn::write_tensors(&file, tensors));
    assert!(write(&[named("a"), named("b"), named("a")]).ends_with("two tensors are named \"a\""));
    assert!(write(&[named("__metadata__")]).ends_with("no tensor can be named __metadata__"));
    assert!(!file.exists());
}

#[test]
fn an_npy_file_cannot_claim_more_than_it_has() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file.npy");
    for shape in [
        "(1000000000000,)",
        "(99999999999999999999, 99999999999999999999)",
        "(-1,)",
    ] {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        fs::write(&file, bytes).expect("writable");
        assert!(
            message(nn::data::read_npy(&file)).contains("file.npy: is "),
            "{shape}"
        );
    }
}

/// A training of two epochs with 4 steps each, of which one was done before a pause.
struct Paused {
    directory: tempfile::TempDir,
}

/// Pauses after the first step.
fn pause() -> PauseOnFlag {
    PauseOnFlag(Arc::new(AtomicBool::new(true)))
}

impl Paused {
    fn new() -> Paused {
        let paused = Paused {
            directory: tempfile::tempdir().expect("a directory"),
        };
        let (model, train) = (model(), data(32));
        let mut trainer = paused.trainer(&model, Adam::new(1e-2)).callback(pause());
        let trained = trainer.fit(&train).expect("a step");
        assert_eq!((trained.end, trained.len()), (End::Paused, 0));
        paused
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("state")
    }

    fn trainer<'m, M: Module, O: Optimizer>(
        &self,
        model: &'m M,
        optimizer: O,
    ) -> Trainer<'m, M, O> {
        Trainer::new(model, optimizer)
            .batch_size(8)
            .epochs(2)
            .checkpoint(self.file(), 1)
            .callback(EarlyStopping::new(5))
            .quiet()
    }
}

#[test]
fn a_resume_that_fails_says_why_and_changes_nothing() {
    let paused = Paused::new();
    fn fails<M: Module, O: Optimizer>(model: &M, mut trainer: Trainer<'_, M, O>, why: &str) {
        let before = values(model);
        let error = message(trainer.fit(&data(32)));
        assert!(error.contains(why), "{error}");
        assert!(values(model) == before, "{why}: the model has changed");
    }
    let m = model();
    let adam = || Adam::new(1e-2);
    fails(
        &m,
        paused.trainer(&m, adam()).batch_size(16),
        "another batch size: 8 in the file, 16 now",
    );
    fails(&m, paused.trainer(&m, adam()).seed(1), "another seed");
    let limited = paused.trainer(&m, adam()).max_steps_per_epoch(3);
    fails(
        &m,
        limited,
        "another number of steps per epoch: 4 in the file, 3 now",
    );
    fails(
        &m,
        paused.trainer(&m, RmsProp::new(1e-2)),
        "another optimizer: Adam in the file, RmsProp now",
    );
    let clipped = paused.trainer(&m, adam().clip_norm(1.0));
    fails(
        &m,
        clipped,
        "another optimizer: Adam in the file, Clip<Adam> now",
    );
    let scheduled = paused.trainer(&m, adam()).schedule(nn::schedule::cosine);
    fails(&m, scheduled, "another schedule");
    let smoothed = nn::loss::cross_entropy_with(0.1, None, None);
    fails(
        &m,
        paused.trainer(&m, adam()).loss(smoothed),
        "another model or loss",
    );
    let other = nn::mlp(&[4, 5, 3], Activation::Relu, 1);
    fails(
        &other,
        paused.trainer(&other, adam()),
        "another model or loss",
    );
    let deeper = nn::mlp(&[4, 5, 5, 3], Activation::Tanh, 1);
    fails(
        &deeper,
        paused.trainer(&deeper, adam()),
        "another model or loss",
    );
    // without the callback whose state is there
    let without = Trainer::new(&m, adam()).batch_size(8).epochs(2);
    let without = without.checkpoint(paused.file(), 1).quiet();
    fails(&m, without, "it has the state of a callback EarlyStopping");
    let twice = paused.trainer(&m, adam()).callback(EarlyStopping::new(2));
    fails(&m, twice, "it has no state of the callback EarlyStopping 2");
}

/// Counts the epochs that it has seen.
struct Counter(i64);

impl Callback for Counter {
    fn on_epoch_end(&mut self, _: &CallbackContext<'_>) -> Result<ControlFlow> {
        self.0 += 1;
        Ok(ControlFlow::Continue)
    }
    fn state(&self) -> Vec<(String, Tensor)> {
        vec![("count".into(), self.0.into())]
    }
    fn load_state(&mut self, state: Vec<(String, Tensor)>) -> Result<()> {
        self.0 = state[0].1.scalar()? as i64;
        Ok(())
    }
}

#[test]
fn callbacks_are_found_by_name() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let (train, file) = (data(32), directory.path().join("state"));
    let start = |m: &nn::Mlp, epochs, counter_first: bool| {
        let trainer = Trainer::new(m, Sgd::new(0.1)).batch_size(8).epochs(epochs);
        let trainer = trainer.checkpoint(&file, 100).quiet();
        let mut trainer = match counter_first {
            true => trainer.callback(Counter(0)).callback(EarlyStopping::new(9)),
            false => trainer.callback(EarlyStopping::new(9)).callback(Counter(0)),
        };
        trainer.fit(&train).map(drop)
    };
    let m = model();
    start(&m, 2, true)?;
    start(&m, 3, false)?;
    let states = nn::read_tensors(&file)?;
    assert_eq!(states["callback Counter.count"].scalar()?, 3.0);
    Ok(())
}

#[test]
fn impossible_positions_are_refused() -> Result<()> {
    let paused = Paused::new();
    let whole = fs::read(paused.file()).expect("a checkpoint");
    let text = String::from_utf8_lossy(&whole).into_owned();
    assert!(text.contains("trainer.position"));
    let (m, original) = (model(), nn::read_tensors(paused.file())?);
    // the numbers are replaced where they lie: the texts beside them stay
    let spoil = |name: &str, index: usize, with: [u8; 8]| {
        let old: Vec<u8> = match original[name].as_slice::<i64>() {
            Ok(numbers) => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
            Err(_) => {
                let numbers = original[name].to_f64s();
                numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
            }
        };
        let (mut bytes, n) = (whole.clone(), old.len());
        let at = bytes
            .windows(n)
            .rposition(|w| w == old)
            .expect("the numbers");
        bytes[at + 8 * index..][..8].copy_from_slice(&with);
        fs::write(paused.file(), bytes).expect("writable");
        message(paused.trainer(&m, Adam::new(1e-2)).fit(&data(32)))
    };
    for (name, index, with) in [
        ("trainer.position", 0, (-1i64).to_le_bytes()),
        ("trainer.position", 0, 5i64.to_le_bytes()),
        ("trainer.position", 1, 7i64.to_le_bytes()),
        ("trainer.meter", 1, 9e9f64.to_le_bytes()),
        ("trainer.meter", 2, (-3f64).to_le_bytes()),
        ("trainer.seconds", 0, f64::NAN.to_le_bytes()),
    ] {
        let error = spoil(name, index, with);
        assert!(
            error.contains(&format!("\"{name}\" is damaged")),
            "{name}: {error}"
        );
    }
    Ok(())
}

#[test]
fn a_log_belongs_to_a_training() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let (train, validation) = (data(32), data(8));
    let run = |epochs, checkpoint: bool| {
        let m = model();
        let trainer = Trainer::new(&m, Sgd::new(0.1)).epochs(epochs).quiet();
        let trainer = trainer.validate(&validation);
        let trainer = trainer.callback(Logger::csv(path("csv")));
        let mut trainer = trainer.callback(Logger::json_lines(path("json")));
        if checkpoint {
            trainer = trainer.checkpoint(path("state"), 100);
        }
        trainer.fit(&train).map(drop)
    };
    let numbers = || {
        let first = |name: &str| {
            let text = fs::read_to_string(path(name)).expect("a log");
            let lines = text
                .lines()
                .map(|line| line.split(',').next().unwrap_or("").to_string());
            lines.collect::<Vec<String>>()
        };
        (first("csv"), first("json"))
    };
    run(3, false)?;
    run(2, false)?; // a new one
    assert_eq!(numbers().0, ["epoch", "1", "2"]);
    assert_eq!(numbers().1, ["{\"epoch\":1", "{\"epoch\":2"]);
    run(2, true)?;
    // killed after the third epoch was logged, in the middle of the next line, but not saved
    for (name, line) in [
        ("csv", "3,1.5,,,,0.1\n4,1."),
        ("json", "{\"epoch\":3}\n{\"ep"),
    ] {
        let mut text = fs::read(path(name)).expect("a log");
        text.extend(line.bytes());
        fs::write(path(name), text).expect("writable");
    }
    run(4, true)?;
    assert_eq!(numbers().0, ["epoch", "1", "2", "3", "4"]);
    assert_eq!(numbers().1.len(), 4);
    Ok(())
}

#[test]
fn json_has_no_nan() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let (train, file, m) = (data(32), directory.path().join("log"), model());
    // a loss that is NaN in evaluation only
    fn loss<'g>(outputs: autograd::Var<'g>, targets: autograd::Var<'g>) -> autograd::Var<'g> {
        let loss = nn::loss::cross_entropy(outputs, targets);
        match outputs.graph().is_training() {
            true => loss,
            false => loss * f64::NAN,
        }
    }
    let mut trainer = Trainer::new(&m, Sgd::new(0.1))
        .loss(loss)
        .validate(&train)
        .quiet();
    trainer = trainer.callback(Logger::json_lines(&file));
    trainer.fit(&train)?;
    let text = fs::read_to_string(&file).expect("a log");
    assert!(text.contains("\"validation_loss\":null"), "{text}");
    Ok(())
}

#[test]
fn early_stopping_begins_anew() -> Result<()> {
    let (train, m) = (data(32), model());
    let mut trainer = Trainer::new(&m, Sgd::new(0.0)).epochs(10).quiet();
    trainer = trainer.validate(&train).callback(EarlyStopping::new(3));
    // nothing improves after the first epoch
    let first = trainer.fit(&train)?;
    assert_eq!((first.end, first.len()), (End::Stopped, 4));
    let other: Vec<Tensor> = values(&nn::mlp(&[4, 5, 3], Activation::Tanh, 9));
    for ((_, param), value) in m.parameters().iter().zip(&other) {
        param.set(value.clone())?;
    }
    assert_eq!(trainer.fit(&train)?.len(), 4);
    assert!(
        values(&m) == other,
        "the weights of the first training were put back"
    );
    Ok(())
}

#[test]
fn what_is_wrong_is_found_before_the_first_step() {
    let (train, m) = (data(32), model());
    let before = values(&m);
    let empty = train.split(0.0, 1).expect("a part").0;
    let narrow = Dataset::new(Tensor::from([[1f32, 2.0]]), Tensor::from([0])).expect("one row");
    let targets = Tensor::from([0.5f32]);
    let floats = Dataset::new(Tensor::from([[1f32, 2.0, 3.0, 4.0]]), targets).expect("one row");
    for (validation, why) in [
        (&empty, "the validation dataset is empty"),
        (
            &narrow,
            "the validation inputs of a sample are f32 [2], the training inputs f32 [4]",
        ),
        (
            &floats,
            "the validation targets of a sample are f32 [], the training targets i64 []",
        ),
    ] {
        let mut trainer = Trainer::new(&m, Sgd::new(0.1)).validate(validation).quiet();
        assert_eq!(message(trainer.fit(&train)), why);
    }
    let mut trainer = Trainer::new(&m, Sgd::new(0.1))
        .checkpoint("/not/there/state", 1)
        .quiet();
    assert!(message(trainer.fit(&train)).contains("its directory does not exist"));
    assert!(values(&m) == before);
}

#[test]
fn errors_name_their_place_and_keep_the_history() -> Result<()> {
    let (train, m) = (data(32), model());
    let trainer = || {
        Trainer::new(&m, Sgd::new(0.1))
            .batch_size(8)
            .epochs(3)
            .quiet()
    };
    // the third epoch's first step
    let mut late = trainer().schedule(|c: &nn::schedule::Context<'_>| match c.step {
        8 => f64::NAN,
        _ => 1.0,
    });
    let error = message(late.fit(&train));
    assert_eq!(error, "the schedule gives the factor NaN at step 9");
    assert_eq!(late.history().len(), 2);
    let mut panics = trainer().schedule(|_: &nn::schedule::Context<'_>| panic!("no rate"));
    assert_eq!(
        message(panics.fit(&train)),
        "the schedule panicked: no rate"
    );
    let mut panics = trainer().augment(|_, _| panic!("no image"));
    assert_eq!(
        message(panics.fit(&train)),
        "the augmentation panicked: no image"
    );
    let mut panics = trainer().loss(|_, _| panic!("no loss"));
    assert_eq!(message(panics.fit(&train)), "the loss panicked: no loss");
    struct Bad;
    impl Callback for Bad {
        fn on_step_end(&mut self, _: &CallbackContext<'_>) -> Result<ControlFlow> {
            panic!("no call")
        }
    }
    let mut panics = trainer().callback(Bad);
    assert_eq!(
        message(panics.fit(&train)),
        "the callback Bad panicked: no call"
    );
    let mut detached = trainer().loss(|outputs, _| outputs.detach().sum());
    let error = message(detached.fit(&train));
    assert_eq!(error, "the loss depends on no trained parameter");
    Ok(())
}

#[test]
fn the_last_step_cannot_spoil_the_weights() {
    let (train, m) = (data(8), model());
    let before = values(&m);
    // one step, whose loss is finite, and whose update is not
    let mut trainer = Trainer::new(&m, Sgd::new(1e38)).batch_size(8).quiet();
    trainer = trainer.loss(|outputs, targets| nn::loss::cross_entropy(outputs, targets) * 1e10);
    let error = message(trainer.fit(&train));
    assert!(error.contains("epoch 1, step 1"), "{error}");
    assert!(values(&m) == before, "the weights have changed: {error}");
}

#[test]
fn callbacks_see_the_loss_of_the_epoch() -> Result<()> {
    struct Seen(Arc<AtomicBool>);
    impl Callback for Seen {
        fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
            assert!(context.loss.is_nan() && context.step == 0);
            Ok(())
        }
        fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
            assert_eq!(
                Some(context.loss),
                context.history.last().map(|e| e.train.loss)
            );
            Ok(ControlFlow::Continue)
        }
        fn on_train_end(&mut self, context: &CallbackContext<'_>) -> Result<()> {
            assert!(context.loss > 0.0);
            self.0.store(true, Relaxed);
            Ok(())
        }
    }
    let (m, ended) = (model(), Arc::new(AtomicBool::new(false)));
    let mut trainer = Trainer::new(&m, Sgd::new(0.1)).epochs(2).quiet();
    trainer = trainer.callback(Seen(ended.clone()));
    assert_eq!(trainer.fit(&data(32))?.end, End::Finished);
    assert!(ended.load(Relaxed));
    Ok(())
}

/// Gradients that are left at the end of an epoch are applied then: as many updates as groups, the
/// last one with the mean of what there was.
#[test]
fn accumulated_gradients_do_not_get_into_the_next_epoch() -> Result<()> {
    let train = data(32);
    let fit = |batch_size: usize, optimizer: &dyn Optimizer, epochs| {
        let m = model();
        let mut trainer = Trainer::new(&m, optimizer)
            .batch_size(batch_size)
            .epochs(epochs);
        trainer = trainer.loss(nn::loss::cross_entropy).seed(3).quiet();
        trainer.fit(&train)?;
        Ok::<Vec<Tensor>, nn::Error>(values(&m))
    };
    // 8 steps of 4 samples in groups of 3, 3 and 2: as batches of 12, 12 and 8
    let (groups, batches) = (
        fit(4, &Sgd::new(0.5).accumulate(3), 2)?,
        fit(12, &Sgd::new(0.5), 2)?,
    );
    for (a, b) in groups.iter().zip(&batches) {
        let differences = a.to_f64s().into_iter().zip(b.to_f64s());
        let largest = differences.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(largest < 1e-5, "{largest}");
    }
    // within others, too
    let wrapped = Sgd::new(0.5).accumulate(3).clip_norm(1e9).ema(0.5);
    assert!(fit(4, &wrapped, 2)? == groups);
    Ok(())
}

#[test]
fn averages_forget_the_initial_weights_and_know_batch_statistics() -> Result<()> {
    let train = data(64);
    let m = nn::Sequential::new()
        .then(nn::Linear::new(4, 6, 1))
        .then(nn::BatchNorm1d::new(6))
        .then(nn::Linear::new(6, 3, 2));
    let optimizer = Adam::new(1e-2).ema(0.999);
    Trainer::new(&m, &optimizer)
        .epochs(60)
        .quiet()
        .fit(&train)?;
    let loss = || Ok::<f64, nn::Error>(nn::evaluate(&m, &train, nn::loss::cross_entropy)?.loss);
    let (last, before) = (loss()?, values(&m));
    optimizer.copy_to(&m.parameters())?;
    let average = loss()?;
    assert!(average < last + 0.1, "{average} instead of {last}");
    let names = m.parameters().into_iter().map(|(name, _)| name);
    let mut changed = names
        .zip(before.iter().zip(values(&m)))
        .filter(|(_, (a, b))| *a != b);
    assert!(changed.any(|(name, _)| name.ends_with("running_var")));
    Ok(())
}

#[test]
fn the_last_batch_is_checked_and_can_be_left_out() -> Result<()> {
    let train = data(33);
    let m = nn::Sequential::new()
        .then(nn::Linear::new(4, 6, 1))
        .then(nn::BatchNorm1d::new(6))
        .then(nn::Linear::new(6, 3, 2));
    let before = values(&m);
    let trainer = || Trainer::new(&m, Sgd::new(0.1)).batch_size(8).quiet();
    let error = message(trainer().fit(&train));
    assert!(
        error.starts_with("the last batch of an epoch has 1 of 8 samples"),
        "{error}"
    );
    assert!(error.contains("drop_last"), "{error}");
    assert!(values(&m) == before);
    assert_eq!(trainer().drop_last().dry_run(&train)?.steps_per_epoch, 4);
    trainer().drop_last().fit(&train)?;
    let error = message(trainer().batch_size(50).drop_last().fit(&train));
    assert!(
        error.contains("33 samples are less than a batch of 50"),
        "{error}"
    );
    // a model that does not take the data
    let wide = nn::mlp(&[5, 3], Activation::Relu, 1);
    assert!(message(Trainer::new(&wide, Sgd::new(0.1)).quiet().fit(&train)).contains("linear"));
    Ok(())
}

#[test]
fn constant_features_are_not_blown_up() -> Result<()> {
    for scale in [1.0f32, 1.0001, 1e-20, 1e20] {
        let column = |x: f32| {
            (0..777)
                .flat_map(|k| [x * scale, k as f32])
                .collect::<Vec<f32>>()
        };
        let data = |x: f32| {
            let inputs = Tensor::new([777, 2], column(x))?;
            Dataset::new(inputs, vec![0i64; 777].into())
        };
        let train = data(14.62)?;
        let normalize = nn::Normalize::fit(&train)?;
        let outputs = nn::predict(&normalize, &data(14.62 * 1.0001)?.inputs()?)?;
        let constant = outputs.to_f64s().into_iter().step_by(2);
        let largest = constant.map(f64::abs).fold(0.0, f64::max);
        let change = f64::from(14.62 * scale) * 1.1e-4;
        assert!(largest <= change.max(1e-30), "{scale}: {largest}");
    }
    Ok(())
}

#[test]
fn hostile_arguments_are_errors() -> Result<()> {
    let g = autograd::Graph::new();
    let log_probabilities = g.input([[0.1f32, 0.2, 0.7]]).ln();
    for label in [-1i64, 3] {
        let loss = nn::loss::nll(log_probabilities, g.constant([label]));
        assert!(loss.value().is_err(), "label {label}");
    }
    assert!(
        nn::loss::nll(log_probabilities, g.constant([2]))
            .value()
            .is_ok()
    );
    for delta in [-1.0, 0.0, f64::NAN, f64::INFINITY] {
        let loss = nn::loss::huber(delta)(g.input([1.0]), g.constant([0.0]));
        let error = loss.value().map_err(|e| e.to_string());
        assert!(error.is_err_and(|e| e.contains("delta")), "{delta}");
    }
    let outputs = Tensor::from([[0.1f32, 0.7], [0.5, 0.2], [0.3, 0.4]]);
    assert!(nn::metrics::top_k_accuracy(&outputs, &Tensor::from([1]), 1).is_err());
    let labels = Tensor::new([20_000], vec![0i64; 20_000])?;
    let outputs = Tensor::new([20_000, 2], [1f32, 0.0].repeat(20_000))?;
    let confusion = nn::metrics::ConfusionMatrix::new(&outputs, &labels)?.to_string();
    assert!(confusion.contains(" 20000     0 "), "{confusion}");
    Ok(())
}

#[test]
#[cfg(feature = "csv")]
fn numbers_of_a_table_are_finite() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("table.csv");
    for number in ["nan", "1e400", "-inf", "1e39", "x"] {
        fs::write(&file, format!("a,b\n1,2\n{number},3\n")).expect("writable");
        let error = message(nn::data::read_csv(&file, "b"));
        let expected = format!("`{number}` in column `a` of record 2 is not a finite number");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn evaluation_is_that_of_the_whole_dataset() -> Result<()> {
    let (train, m) = (data(2500), model());
    let g = autograd::Graph::new();
    let outputs = m.forward(g.constant(train.inputs()?));
    let targets = g.constant(train.targets());
    let weights = || Some(Tensor::from([1f32, 20.0, 0.1]));
    let weighted = nn::loss::cross_entropy_with(0.0, weights(), None);
    let expected = weighted(outputs, targets).value()?.scalar()?;
    let weighted = nn::loss::cross_entropy_with(0.0, weights(), None);
    let evaluated = nn::evaluate(&m, &train, weighted)?.loss;
    assert!(
        (evaluated - expected).abs() < 1e-6,
        "{evaluated} instead of {expected}"
    );
    fn total<'g>(o: autograd::Var<'g>, t: autograd::Var<'g>) -> autograd::Var<'g> {
        nn::loss::unreduced::cross_entropy(o, t).sum()
    }
    let expected = total(outputs, targets).value()?.scalar()?;
    let evaluated = nn::evaluate(&m, &train, total)?.loss;
    assert!(
        (evaluated / expected - 1.0).abs() < 1e-6,
        "{evaluated} instead of {expected}"
    );
    Ok(())
}

#[test]
fn any_value_can_be_watched() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let (train, m) = (data(32), model());
    // an accuracy that falls while the loss does
    let falling = |epoch: &nn::Epoch| Some(1.0 / epoch.number as f64);
    let mut trainer = Trainer::new(&m, Sgd::new(0.1)).epochs(10).quiet();
    trainer = trainer.callback(EarlyStopping::new(2).monitor(Monitor::largest(falling)));
    assert_eq!(trainer.fit(&train)?.len(), 3);
    // improvements that are too small do not count
    let slow = |epoch: &nn::Epoch| Some(-0.01 * epoch.number as f64);
    for (delta, epochs) in [(0.0, 10), (0.02, 3), (0.005, 10)] {
        let monitor = Monitor::smallest(slow).min_delta(delta);
        let stopping = EarlyStopping::new(2).monitor(monitor);
        let mut trainer = Trainer::new(&m, Sgd::new(0.1)).epochs(10).quiet();
        trainer = trainer.callback(stopping);
        assert_eq!(trainer.fit(&train)?.len(), epochs, "{delta}");
    }
    // the best model of all epochs is in a file
    let file = directory.path().join("best");
    let peak = |epoch: &nn::Epoch| Some(-(epoch.number as f64 - 4.0).powi(2));
    let weights = Arc::new(std::sync::Mutex::new(Vec::new()));
    struct Keep(Arc<std::sync::Mutex<Vec<Tensor>>>);
    impl Callback for Keep {
        fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
            if context.history.len() == 4 {
                let values = context.params.iter().map(|(_, param)| param.value());
                *self.0.lock().expect("no panic") = values.collect();
            }
            Ok(ControlFlow::Continue)
        }
    }
    let mut trainer = Trainer::new(&m, Sgd::new(0.1)).epochs(6).quiet();
    trainer = trainer.callback(Keep(weights.clone()));
    trainer = trainer.callback(SaveBest::new(&file).monitor(Monitor::largest(peak)));
    trainer.fit(&train)?;
    nn::load(&m, &file)?;
    assert!(values(&m) == *weights.lock().expect("no panic"));
    Ok(())
}

#[test]
fn weights_are_copied_as_a_whole_or_not_at_all() -> Result<()> {
    let m = nn::Sequential::new()
        .then(nn::Linear::new(4, 6, 1))
        .then(nn::BatchNorm1d::new(6))
        .then(nn::Linear::new(6, 3, 2));
    let weights = Weights::of(&m);
    // 30 + 12 + 21 trained numbers; the running statistics are not among them
    assert_eq!((weights.to_flat().len(), weights.iter().count()), (63, 8));
    for count in [62, 64] {
        let error = message(weights.with_flat(&vec![0.5; count]));
        assert_eq!(error, format!("expected 63 numbers, got {count}"));
    }
    let numbers: Vec<f64> = (0..63).map(|k| f64::from(k) / 8.0).collect();
    weights.with_flat(&numbers)?.copy_to(&m)?;
    assert_eq!(Weights::of(&m).to_flat(), numbers);
    // other paths, other shapes
    for other in [&[4usize, 3][..], &[4, 6, 3]] {
        let other = nn::mlp(other, Activation::Relu, 1);
        let before = values(&other);
        assert!(message(weights.copy_to(&other)).contains("those of another model"));
        assert!(values(&other) == before);
    }
    let [a, b] = [5, 6].map(|width| nn::mlp(&[4, width, 3], Activation::Relu, 1));
    let before = values(&b);
    let error = message(Weights::of(&a).copy_to(&b));
    assert!(
        error.contains("layers.0.weight is f32[4, 6] there, and f32 [4, 5] here"),
        "{error}"
    );
    assert!(values(&b) == before);
    Ok(())
}

#[test]
fn splits_keep_the_parts_of_classes() -> Result<()> {
    let classes = [3usize, 50, 7, 200, 1];
    let labels: Vec<i64> = classes
        .iter()
        .zip(0..)
        .flat_map(|(&n, c)| vec![c; n])
        .collect();
    let n = labels.len();
    let inputs = Tensor::new([n, 1], (0..n).map(|k| k as f32).collect::<Vec<f32>>())?;
    let data = Dataset::new(inputs, labels.into())?;
    let count = |data: &Dataset, class: i64| -> Result<usize> {
        let labels = data.targets().as_slice::<i64>()?;
        Ok(labels.iter().filter(|&&label| label == class).count())
    };
    let rows = |data: &Dataset| Ok::<Vec<f64>, nn::Error>(data.inputs()?.to_f64s());
    for (fraction, seed) in [(0.0, 1), (0.1, 2), (0.5, 3), (2.0 / 3.0, 4), (1.0, 5)] {
        let (first, second) = data.stratified_split(fraction, seed)?;
        let mut all = [rows(&first)?, rows(&second)?].concat();
        all.sort_by(f64::total_cmp);
        assert!(all.iter().zip(0..).all(|(row, k)| *row == f64::from(k)) && all.len() == n);
        for (&n, class) in classes.iter().zip(0..) {
            let difference = count(&first, class)? as f64 - fraction * n as f64;
            assert!(
                difference.abs() <= 1.0,
                "{fraction} of class {class}: {difference}"
            );
        }
        assert!(rows(&first)? == rows(&data.stratified_split(fraction, seed)?.0)?);
    }
    let mut seen = Vec::new();
    for fold in data.k_fold(4, 9)? {
        let (train, validation) = fold?;
        assert_eq!(train.len() + validation.len(), n);
        let validated = rows(&validation)?;
        assert!(!rows(&train)?.iter().any(|row| validated.contains(row)));
        assert!([12, 13].contains(&count(&validation, 1)?));
        assert_eq!(count(&validation, 3)?, 50);
        seen.extend(validated);
    }
    seen.sort_by(f64::total_cmp);
    assert!(seen.iter().zip(0..).all(|(row, k)| *row == f64::from(k)) && seen.len() == n);
    for k in [0, 1, n + 1] {
        assert!(data.k_fold(k, 1).is_err());
    }
    Ok(())
}

#[test]
fn a_part_of_a_file_is_loaded_or_nothing() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    nn::save(&nn::mlp(&[4, 5, 3], Activation::Relu, 7), &file)?;
    let as_is = |name: &str| Some(name.to_string());
    // a head with more classes, after another layer
    let deeper = nn::mlp(&[4, 5, 5, 3], Activation::Relu, 1);
    let before = values(&deeper);
    let error = message(nn::load_partly(&deeper, &file, as_is));
    assert!(
        error.contains("layers.1") && error.contains("expected shape"),
        "{error}"
    );
    assert!(values(&deeper) == before);
    let loaded = nn::load_partly(&deeper, &file, |name| {
        Some(name.replace("layers.1", "layers.2"))
    })?;
    assert_eq!(loaded.missing, ["layers.1.weight", "layers.1.bias"]);
    assert_eq!((loaded.set.len(), loaded.unused.len()), (4, 0));
    let now = values(&deeper);
    assert!(now[0] != before[0] && now[2] == before[2] && now[4] != before[4]);
    let twice = nn::load_partly(&deeper, &file, |name| {
        Some(name.replace("layers.1", "layers.0"))
    });
    assert!(message(twice).contains("for the same parameter"));
    assert!(values(&deeper) == now);
    Ok(())
}

/// A table with a column of numbers trains a regression as it is.
#[test]
#[cfg(feature = "csv")]
fn a_regression_from_a_table_works_out_of_the_box() -> Result<()> {
    use nn::data::Targets;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("table.csv");
    let rows = (0..64).map(|k| (k % 8, k / 8));
    let lines = rows.map(|(a, b)| format!("{a},{b},{}\n", 3 * a - b + 10));
    fs::write(&file, format!("a,b,price\n{}", lines.collect::<String>())).expect("writable");
    let labels = nn::data::read_csv(&file, "price")?;
    assert_eq!(labels.targets().shape(), [64]); // whole numbers from 3 on
    let train = nn::data::read_csv_as(&file, "price", Targets::Numbers)?;
    let model = nn::Sequential::new()
        .then(nn::Normalize::fit(&train)?)
        .then(nn::Linear::new(2, 1, 1));
    let mut trainer = Trainer::new(&model, Adam::new(0.5))
        .loss(nn::loss::mse)
        .schedule(nn::schedule::linear)
        .epochs(400)
        .quiet();
    let history = trainer.fit(&train)?;
    let loss = history.last().map_or(f64::NAN, |epoch| epoch.train.loss);
    assert!(loss < 1e-3, "{loss}");
    fs::write(&file, "a,price\n1,2\n2,2.5\n").expect("writable");
    assert_eq!(
        nn::data::read_csv(&file, "price")?.targets().shape(),
        [2, 1]
    );
    let error = message(nn::data::read_csv_as(&file, "price", Targets::Labels));
    assert!(
        error.contains("the target 2.5 of record 2 is no label"),
        "{error}"
    );
    let error = message(nn::data::read_csv(&file, "cost"));
    assert!(
        error.ends_with("has no column `cost`; its columns are a, price"),
        "{error}"
    );
    Ok(())
}

/// A layer that is trained from the second training on takes its first step as if it were new.
#[test]
fn layers_are_unfrozen_one_after_the_other() -> Result<()> {
    let train = data(32);
    let (features, head) = (nn::Linear::new(4, 5, 1), nn::Linear::new(5, 3, 2));
    struct Both<'m>(&'m nn::Linear, &'m nn::Linear);
    impl Module for Both<'_> {
        fn forward<'g>(&self, x: autograd::Var<'g>) -> autograd::Var<'g> {
            self.1.forward(self.0.forward(x).tanh())
        }
        fn params(&self, p: &mut nn::Params) {
            p.module("features", self.0).module("head", self.1);
        }
    }
    let (m, optimizer) = (Both(&features, &head), Adam::new(1e-2));
    let frozen = values(&features);
    features.freeze(true);
    Trainer::new(&m, &optimizer)
        .epochs(1000)
        .quiet()
        .fit(&train)?;
    assert!(values(&features) == frozen);
    features.freeze(false);
    Trainer::new(&m, &optimizer)
        .batch_size(32)
        .quiet()
        .fit(&train)?;
    let steps = frozen
        .iter()
        .zip(values(&features))
        .flat_map(|(before, after)| {
            let pairs = before.to_f64s().into_iter().zip(after.to_f64s());
            pairs.map(|(a, b)| (a - b).abs()).collect::<Vec<f64>>()
        });
    let largest = steps.fold(0.0, f64::max);
    assert!(
        (0.9e-2..1.01e-2).contains(&largest),
        "the first step is {largest}"
    );
    Ok(())
}

/// Metrics of one's own are in the history, the line of an epoch, the log and a checkpoint, and can be
/// watched.
#[test]
fn metrics_of_ones_own() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let inputs = data(2500).inputs()?;
    let numbers = inputs.to_f64s();
    let targets = numbers.chunks(4).map(|x| (x[0] - 0.5 * x[3]) as f32);
    let targets = Tensor::new([2500, 1], targets.collect::<Vec<_>>())?;
    let train = Dataset::new(inputs, targets)?;
    let run = |epochs, metrics: &[&str]| -> Result<(nn::History, nn::Linear)> {
        let m = nn::Linear::new(4, 1, 1);
        let mut trainer = Trainer::new(&m, Sgd::new(0.1)).loss(nn::loss::mse).quiet();
        trainer = trainer
            .validate(&train)
            .epochs(epochs)
            .checkpoint(path("state"), 1000);
        for name in metrics {
            trainer = match *name {
                "r2" => trainer.metric(name, nn::metrics::r_squared),
                _ => trainer.metric(name, nn::metrics::mean_absolute_error),
            };
        }
        let goal = Monitor::largest(|epoch| epoch.metric("r2"));
        let trainer = trainer.callback(EarlyStopping::new(3).monitor(goal));
        let trainer = trainer.callback(Logger::json_lines(path("json")));
        let mut trainer = trainer.callback(Logger::csv(path("csv")));
        let history = trainer.fit(&train)?;
        drop(trainer);
        Ok((history, m))
    };
    let names = ["r2", "mean absolute error"];
    run(2, &names)?;
    let (history, m) = run(4, &names)?; // resumed
    let last = history.last().expect("four epochs");
    // that of all samples, not a mean over batches
    let outputs = nn::predict(&m, &train.inputs()?)?.to_f64s();
    let targets = train.targets().to_f64s();
    let mean = targets.iter().sum::<f64>() / 2500.0;
    let squares = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
    let rest = squares(&mut outputs.iter().zip(&targets).map(|(y, t)| y - t));
    let expected = 1.0 - rest / squares(&mut targets.iter().map(|t| t - mean));
    let found = last.metric("r2").expect("it was asked for");
    assert!(
        (found - expected).abs() < 1e-4,
        "{found} instead of {expected}"
    );
    assert!(history.iter().all(|epoch| epoch.metrics.len() == 2) && last.metric("f1").is_none());
    assert!(
        last.to_string()
            .contains(&format!(", r2 {found:.4}, mean absolute error 0."))
    );
    let csv = fs::read_to_string(path("csv")).expect("a log");
    assert!(csv.starts_with(
        "epoch,loss,accuracy,validation_loss,validation_accuracy,learning_rate,seconds,validation_r2,\
         validation_mean absolute error\n1,"
    ));
    assert!(csv.lines().all(|line| line.split(',').count() == 9) && csv.lines().count() == 5);
    let json = fs::read_to_string(path("json")).expect("a log");
    assert!(json.lines().all(|line| line.contains("\"validation_r2\":")));
    let error = message(run(5, &["r2"]));
    assert!(error.contains("another list of metrics"), "{error}");
    Ok(())
}
