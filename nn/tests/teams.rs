//! Micro-batches and teams: the same global batches give the same training, whoever computes them.

use autograd::{DType, Param, Tensor, Var};
use nn::{
    Activation, Adam, BatchNorm1d, Callback, CallbackContext, ControlFlow, Dataset, Dropout, End,
    Gradient, Linear, Module, Optimizer, Result, Sequential, Sgd, Trainer, Weights,
    data::{self, Batch, Source},
    loss,
    team::{Alone, GradientSum, Team, Threads, sum_in_any_order},
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

/// Runs a function on each rank of a team of threads.
fn on_ranks<T: Send>(size: usize, run: impl Fn(&dyn Team) -> T + Sync) -> Vec<T> {
    if size == 1 {
        return vec![run(&Alone)];
    }
    std::thread::scope(|s| {
        let run = &run;
        let start = |rank: Threads| s.spawn(move || run(&rank));
        let threads: Vec<_> = Threads::new(size).into_iter().map(start).collect();
        threads
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .collect()
    })
}

/// 187 digits with weights: batches of 32 and a last one of 27, in parts of 8.
fn digits() -> Result<(Dataset, Dataset)> {
    let (train, test) = data::digits()?;
    let rows: Vec<usize> = (0..187).collect();
    let weights: Vec<f32> = (0..187).map(|k| 0.5 + (k % 4) as f32).collect();
    // validation in three blocks of 1,000, the last one short
    let many: Vec<usize> = (0..2300).map(|k| k * 7 % test.len()).collect();
    let weigh = |n: usize| Tensor::from((0..n).map(|k| 1.0 + (k % 3) as f32).collect::<Vec<f32>>());
    let test = Dataset::new(test.inputs()?.rows(&many)?, test.targets().rows(&many)?)?;
    let test = test.with_weights(weigh(2300))?;
    let train = Dataset::new(train.inputs()?.rows(&rows)?, train.targets().rows(&rows)?)?;
    Ok((train.with_weights(Tensor::from(weights))?, test))
}

fn model() -> Sequential {
    Sequential::new()
        .then(Linear::new(64, 24, 5))
        .then(BatchNorm1d::new(24))
        .then(Activation::Relu)
        .then(Dropout::new(0.2))
        .then(Linear::new(24, 10, 6))
}

/// All that a training leaves: weights, averages, optimizer state, history.
type Left = (Weights, Weights, Vec<Tensor>, Vec<String>);

/// A training with batch statistics, dropout, augmentation, weights, accumulation, averages, clipping
/// and a schedule; up to this step if one is given.
fn train(team: &dyn Team, checkpoint: Option<&Path>, pause_at: Option<usize>) -> Result<Left> {
    let (train, test) = digits()?;
    let model = model();
    let optimizer = Adam::new(2e-3).accumulate(2).clip_norm(1.0).ema(0.99);
    let mut trainer = Trainer::new(&model, &optimizer)
        .loss(loss::unreduced::cross_entropy)
        .schedule(nn::schedule::warm_up(1.0, nn::schedule::cosine))
        .augment(data::random_shift(1))
        .batch_size(32)
        .micro_batch(8)
        .epochs(3)
        .seed(3)
        .validate(&test)
        .metric("top", |outputs, targets| {
            outputs.argmax(-1).eq(targets).cast(DType::F32)
        })
        .team(team)
        .quiet();
    if let Some(path) = checkpoint {
        trainer = trainer.checkpoint(path, 4);
    }
    if let Some(step) = pause_at {
        trainer = trainer.callback(PauseAt(step, team.rank()));
    }
    let history = trainer.fit(&train)?;
    let line = |epoch: &nn::Epoch| {
        format!(
            "{:?}",
            nn::Epoch {
                time: Default::default(),
                ..epoch.clone()
            }
        )
    };
    let state = optimizer.state(&model.parameters())?;
    Ok((
        Weights::of(&model),
        optimizer.averages(&model.parameters()).expect("averages"),
        state.iter().map(|(_, p)| p.value()).collect(),
        history.iter().map(line).collect(),
    ))
}

/// Pauses at a step on the last rank alone.
struct PauseAt(usize, usize);

impl Callback for PauseAt {
    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        assert_eq!(context.rank, self.1);
        Ok(match context.step == self.0 && self.1.is_multiple_of(2) {
            true => ControlFlow::Pause,
            false => ControlFlow::Continue,
        })
    }
}

#[test]
fn any_number_of_ranks_trains_with_the_same_bits() -> Result<()> {
    let expected = train(&Alone, None, None)?;
    for ranks in [2, 3, 4] {
        for (rank, left) in on_ranks(ranks, |team| train(team, None, None))
            .into_iter()
            .enumerate()
        {
            assert!(left? == expected, "rank {rank} of {ranks}");
        }
    }
    Ok(())
}

#[test]
fn another_number_of_ranks_resumes_with_the_same_bits() -> Result<()> {
    let expected = train(&Alone, None, None)?;
    for (before, after) in [(1, 3), (4, 2), (3, 1), (2, 4)] {
        let directory = tempfile::tempdir().expect("a directory");
        // as on several machines: only the first rank has the disk with the file
        let path = |team: &dyn Team| -> PathBuf {
            let name = if team.rank() == 0 {
                "state"
            } else {
                "missing/state"
            };
            directory.path().join(name)
        };
        for left in on_ranks(before, |team| train(team, Some(&path(team)), Some(8))) {
            assert_eq!(left?.3.len(), 1, "paused in the second epoch");
        }
        for left in on_ranks(after, |team| train(team, Some(&path(team)), None)) {
            assert!(left? == expected, "{before}, then {after} ranks");
        }
    }
    Ok(())
}

/// A network in f64.
struct Net([Param; 2]);

impl Module for Net {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let [first, second] = self.0.each_ref().map(|w| x.graph().param(w));
        x.matmul(first).tanh().matmul(second)
    }
    fn params(&self, p: &mut nn::Params) {
        p.param("first", &self.0[0]).param("second", &self.0[1]);
    }
}

fn tensor(rows: usize, columns: usize) -> Result<Tensor> {
    let numbers = (0..rows * columns).map(|k| (k as f64 * 0.7).sin() / 4.0);
    Ok(Tensor::new([rows, columns], numbers.collect::<Vec<f64>>())?)
}

/// The gradient step of a batch in one run, in f64, and by parts: equal within rounding.
#[test]
fn the_parts_of_a_batch_give_the_update_of_the_whole() -> Result<()> {
    let (train, _) = digits()?;
    let inputs = train.inputs()?.cast(DType::F64)?;
    let weights = Tensor::from((0..187).map(|k| (k % 5) as f64).collect::<Vec<f64>>());
    let plain = Dataset::new(inputs, train.targets().clone())?;
    for data in [plain.clone(), plain.with_weights(weights)?] {
        let after = |micro: usize| -> Result<(Vec<f64>, f64, Option<f64>)> {
            let model = Net([tensor(64, 12)?, tensor(12, 10)?].map(Param::new));
            let mut trainer = Trainer::new(&model, Sgd::new(0.2).momentum(0.9))
                .loss(loss::unreduced::cross_entropy)
                .batch_size(60)
                .micro_batch(micro)
                .epochs(3)
                .quiet();
            let history = trainer.fit(&data)?;
            let last = history[2].train;
            Ok((Weights::of(&model).to_flat(), last.loss, last.accuracy))
        };
        let (whole, loss, accuracy) = after(60)?;
        for micro in [1, 4, 30] {
            let parts = after(micro)?;
            let difference = whole.iter().zip(&parts.0).map(|(a, b)| (a - b).abs());
            let largest = difference.fold(0.0, f64::max);
            assert!(largest < 1e-13, "{micro}: {largest}");
            assert!(
                (loss - parts.1).abs() < 1e-13 && accuracy == parts.2,
                "{micro}"
            );
        }
    }
    Ok(())
}

/// The running statistics move by the mean of the parts, each as much as it has samples.
#[test]
fn running_statistics_go_by_the_mean_of_the_parts() -> Result<()> {
    let x: Vec<f32> = (0..10).map(|k| (k * k) as f32).collect();
    let data = Dataset::new(Tensor::new([10, 1], x.clone())?, vec![0i64; 10].into())?;
    let model = Sequential::new()
        .then(BatchNorm1d::new(1))
        .then(Linear::new(1, 2, 1));
    let mut trainer = Trainer::new(&model, Sgd::new(0.0))
        .batch_size(10)
        .micro_batch(5);
    trainer = trainer.order(data::order::in_order).quiet();
    trainer.fit(&data)?;
    let value = |name: &str| {
        let params = model.parameters();
        let found = params.iter().find(|(path, _)| path.ends_with(name));
        found.expect("a buffer").1.value().to_f64s()[0]
    };
    let mean = |x: &[f32]| x.iter().sum::<f32>() as f64 / x.len() as f64;
    let variance = |x: &[f32]| {
        let squares = x.iter().map(|v| (f64::from(*v) - mean(x)).powi(2));
        squares.sum::<f64>() / (x.len() - 1) as f64
    };
    let parts = [&x[..5], &x[5..]];
    let mean_of = |f: &dyn Fn(&[f32]) -> f64| parts.map(f).iter().sum::<f64>() / 2.0;
    assert!((value("running_mean") - 0.1 * mean_of(&mean)).abs() < 1e-5);
    let variance = 0.9 + 0.1 * mean_of(&variance);
    assert!((value("running_var") / variance - 1.0).abs() < 1e-6);
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error_on_all_ranks_before_the_first_step() -> Result<()> {
    struct Case {
        name: &'static str,
        ranks: usize,
        expected: &'static str,
    }
    let case = |name, ranks, expected| Case {
        name,
        ranks,
        expected,
    };
    let cases = [
        case(
            "no micro-batch",
            2,
            "a team of 2 ranks needs `micro_batch`, which says what they compute",
        ),
        case(
            "few",
            5,
            "5 ranks, but a batch has 4 micro-batches: at most 4 ranks",
        ),
        case("48", 1, "a micro-batch of 48 does not divide a batch of 64"),
        case("0", 1, "a micro-batch of 0 does not divide a batch of 64"),
        case(
            "batch size",
            3,
            "another batch size: 128 in micro-batches of 16 there, 64 in micro-batches of 16 on rank 0",
        ),
        case("seed", 3, "another seed: 9 there, 3 on rank 0"),
        case(
            "model",
            3,
            "another list of parameters: layers.0.weight f32[64, 9] there, layers.0.weight f32[64, 8] on rank 0",
        ),
        case("activation", 3, "another model or loss:"),
        case(
            "optimizer",
            3,
            "another optimizer: Adam there, Sgd on rank 0",
        ),
        case("data", 3, "another hash of the first and the last sample:"),
        case(
            "samples",
            3,
            "another number of samples: 186 there, 187 on rank 0",
        ),
        case(
            "epochs",
            3,
            "another number of epochs: 2 there, 1 on rank 0",
        ),
        case(
            "validation",
            3,
            "another validation: 187 samples there, none on rank 0",
        ),
        case("empty", 3, "rank 2 failed: the training dataset is empty"),
    ];
    for Case {
        name,
        ranks,
        expected,
    } in cases
    {
        let steps = AtomicUsize::new(0);
        let errors = on_ranks(ranks, |team| {
            let is = |other: &str| name == other && team.rank() == 2;
            let (data, _) = digits()?;
            let count = if is("samples") { 186 } else { 187 };
            let rows: Vec<usize> = (0..if is("empty") { 0 } else { count })
                .map(|k| k / if is("data") { 2 } else { 1 })
                .collect();
            let data = Dataset::new(data.inputs()?.rows(&rows)?, data.targets().rows(&rows)?)?;
            let activation = if is("activation") {
                Activation::Tanh
            } else {
                Activation::Relu
            };
            let model = nn::mlp(&[64, if is("model") { 9 } else { 8 }, 10], activation, 1);
            let optimizer: Box<dyn Optimizer> = match is("optimizer") {
                true => Box::new(Adam::new(1e-3)),
                false => Box::new(Sgd::new(0.1)),
            };
            let micro = match name {
                "no micro-batch" => 64,
                name => name.parse().unwrap_or(16),
            };
            let mut trainer = Trainer::new(&model, optimizer)
                .batch_size(if is("batch size") { 128 } else { 64 })
                .micro_batch(micro)
                .epochs(if is("epochs") { 2 } else { 1 })
                .seed(if is("seed") { 9 } else { 3 })
                .callback(Count(&steps))
                .team(team)
                .quiet();
            if is("validation") {
                trainer = trainer.validate(&data);
            }
            trainer.fit(&data).map(drop)
        });
        for (rank, error) in errors.into_iter().enumerate() {
            let error = error.expect_err(name).to_string();
            assert!(
                error.contains(expected) || (rank == 2 && expected.ends_with(&error)),
                "{name}: rank {rank}: {error}"
            );
        }
        assert_eq!(steps.load(SeqCst), 0, "{name}");
    }
    Ok(())
}

struct Count<'c>(&'c AtomicUsize);

impl Callback for Count<'_> {
    fn on_step_begin(&mut self, _: &CallbackContext<'_>) -> Result<()> {
        self.0.fetch_add(1, SeqCst);
        Ok(())
    }
}

/// Data, a callback or a loss that fail on rank 1 at some time.
struct Fails<'f> {
    data: &'f Dataset,
    at: usize,
    batches: Mutex<usize>,
}

impl Source for Fails<'_> {
    fn len(&self) -> usize {
        self.data.len()
    }
    fn batch(&self, samples: &[usize]) -> Result<Batch> {
        let mut batches = self.batches.lock().expect("no panic");
        *batches += 1;
        match *batches == self.at {
            true => Err(nn::Error::Invalid("the disk is gone".into())),
            false => self.data.batch(samples),
        }
    }
}

struct FailsAt(&'static str, usize);

impl FailsAt {
    fn fail(&self, place: &str, step: usize) -> Result<()> {
        match self.0 == place && step == self.1 {
            true => Err(nn::Error::Invalid(format!("no {place}"))),
            false => Ok(()),
        }
    }
}

impl Callback for FailsAt {
    fn on_step_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        self.fail("begin of a step", context.step)
    }
    fn on_gradients(
        &mut self,
        context: &CallbackContext<'_>,
        _: &mut Vec<Gradient<'_>>,
    ) -> Result<()> {
        self.fail("gradients", context.step)
    }
    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        self.fail("step", context.step)
            .map(|()| ControlFlow::Continue)
    }
    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        self.fail("epoch", context.step)
            .map(|()| ControlFlow::Continue)
    }
    fn on_train_end(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        self.fail("end", context.step)
    }
}

#[test]
fn a_rank_that_fails_ends_the_training_of_all_with_its_name() -> Result<()> {
    let (data, _) = digits()?;
    let places = [
        "source",
        "begin of a step",
        "gradients",
        "step",
        "epoch",
        "end",
        "loss",
    ];
    for place in places {
        let errors = on_ranks(3, |team| {
            let fails = team.rank() == 1;
            let model = nn::mlp(&[64, 8, 10], Activation::Relu, 1);
            let at = if fails && place == "source" {
                9
            } else {
                usize::MAX
            };
            let source = Fails {
                data: &data,
                at,
                batches: Mutex::new(0),
            };
            let step = if place == "end" || place == "epoch" {
                6
            } else {
                4
            };
            let calls = AtomicUsize::new(0);
            let fails_at = FailsAt(if fails { place } else { "" }, step);
            Trainer::new(&model, Sgd::new(0.1))
                .loss(|outputs, targets| {
                    let is_due = calls.fetch_add(1, SeqCst) == 9 && fails && place == "loss";
                    let each = loss::unreduced::cross_entropy(outputs, targets);
                    if is_due { each / 0.0 } else { each }
                })
                .batch_size(32)
                .micro_batch(8)
                .callback(fails_at)
                .team(team)
                .quiet()
                .fit(&source)
                .map(drop)
        });
        let errors = errors.into_iter().map(|e| e.expect_err(place).to_string());
        let errors: Vec<String> = errors.collect();
        assert!(
            errors[0].starts_with("rank 1 failed: ") && errors[2] == errors[0],
            "{place}: {errors:?}"
        );
        assert_eq!(
            errors[0],
            format!("rank 1 failed: {}", errors[1]),
            "{place}"
        );
    }
    Ok(())
}

/// A stop that a callback decides is at the same step on any number of ranks.
#[test]
fn what_only_one_rank_decides_is_done_by_all_at_once() -> Result<()> {
    let (data, _) = digits()?;
    let ends = on_ranks(3, |team| {
        let model = nn::mlp(&[64, 8, 10], Activation::Relu, 1);
        let history = Trainer::new(&model, Sgd::new(0.1))
            .loss(loss::unreduced::cross_entropy)
            .batch_size(32)
            .micro_batch(8)
            .epochs(2)
            .callback(PauseAt(if team.rank() == 2 { 7 } else { 99 }, team.rank()))
            .team(team)
            .quiet()
            .fit(&data)?;
        Ok::<_, nn::Error>((history.end, history.len(), Weights::of(&model)))
    });
    let ends: Vec<_> = ends.into_iter().collect::<Result<_>>()?;
    assert_eq!((ends[0].0, ends[0].1), (End::Paused, 1));
    assert!(ends[1] == ends[0] && ends[2] == ends[0]);
    Ok(())
}

/// The weights of rank 0 are those of all, whatever the others began with.
#[test]
fn all_ranks_begin_with_the_weights_of_the_first() -> Result<()> {
    let (data, _) = digits()?;
    let run = |team: &dyn Team| {
        let model = nn::mlp(&[64, 8, 10], Activation::Relu, 1 + team.rank() as u64);
        let mut trainer = Trainer::new(&model, Adam::new(1e-2))
            .loss(loss::unreduced::cross_entropy)
            .batch_size(32)
            .micro_batch(8);
        trainer = trainer.team(team).quiet();
        trainer.fit(&data)?;
        Ok::<_, nn::Error>(Weights::of(&model))
    };
    let expected = run(&Alone)?;
    for weights in on_ranks(3, run) {
        assert!(weights? == expected);
    }
    Ok(())
}

#[test]
fn a_loss_that_is_no_mean_cannot_be_computed_in_parts() -> Result<()> {
    let (train, _) = data::digits()?;
    let fit = |loss: for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>| {
        let model = nn::mlp(&[64, 8, 10], Activation::Relu, 1);
        let mut trainer = Trainer::new(&model, Sgd::new(0.1))
            .batch_size(64)
            .micro_batch(16);
        trainer = trainer.max_steps_per_epoch(1).quiet();
        trainer = trainer.loss(loss);
        trainer.fit(&train).map(drop)
    };
    assert!(fit(|o, t| loss::cross_entropy(o, t)).is_ok());
    assert!(fit(|o, t| loss::unreduced::cross_entropy(o, t)).is_ok());
    let error = fit(|o, t| loss::unreduced::cross_entropy(o, t).sum()).expect_err("a sum");
    assert!(
        error
            .to_string()
            .starts_with("the loss is not the mean over the samples, which micro-batches need")
    );
    Ok(())
}

/// Statistics of gradients are those of the whole batch, and the same on all ranks.
#[test]
fn statistics_of_gradients_are_those_of_the_whole_batch() -> Result<()> {
    let (data, _) = digits()?;
    let run = |team: &dyn Team, micro: usize| {
        let model = nn::mlp(&[64, 8, 10], Activation::Relu, 1);
        let mut trainer = Trainer::new(&model, Sgd::new(0.1)).loss(loss::unreduced::cross_entropy);
        trainer = trainer
            .batch_size(32)
            .micro_batch(micro)
            .inspect_gradients()
            .quiet();
        let history = trainer.team(team).fit(&data)?;
        Ok::<_, nn::Error>(history[0].gradients.clone().expect("a report"))
    };
    let (whole, parts) = (run(&Alone, 32)?, run(&Alone, 8)?);
    assert_eq!(whole.rows.len(), parts.rows.len());
    for (a, b) in whole.rows.iter().zip(&parts.rows) {
        assert_eq!(a.name, b.name);
        assert!(
            (a.norm / b.norm - 1.0).abs() < 1e-3,
            "{} and {}",
            a.norm,
            b.norm
        );
    }
    for report in on_ranks(2, |team| run(team, 8)) {
        assert!(report? == parts);
    }
    Ok(())
}

/// A rank that adds what the ranks have in the order of the ranks, as an MPI library might.
struct ByRank<'t>(&'t dyn Team);

impl Team for ByRank<'_> {
    fn rank(&self) -> usize {
        self.0.rank()
    }
    fn size(&self) -> usize {
        self.0.size()
    }
    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.0.all_gather(mine)
    }
    fn sum(&self, mine: GradientSum) -> Result<Vec<Tensor>> {
        sum_in_any_order(self, mine, |f32s, f64s| {
            let bytes = f32s
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<u8>>();
            let all = self.all_gather(&bytes)?;
            for (k, sum) in f32s.iter_mut().enumerate() {
                let of_rank = |m: &Vec<u8>| {
                    f32::from_le_bytes(m[4 * k..4 * k + 4].try_into().expect("4 bytes"))
                };
                *sum = all.iter().map(of_rank).sum();
            }
            assert!(f64s.is_empty());
            Ok(())
        })
    }
}

/// A sum in any order is within its bound of the one in order, which has the same bits on all teams.
#[test]
fn a_sum_in_any_order_is_within_its_bound() -> Result<()> {
    const PARTS: usize = 23;
    let number =
        |k: usize, j: usize| ((k * 31 + j * 7) as f32).sin() * 10f32.powi(((k + j) % 7) as i32 - 3);
    let part = |k: usize| Tensor::from((0..50).map(|j| number(k, j)).collect::<Vec<f32>>());
    let sum = |team: &dyn Team, in_order: bool| {
        let mut mine = GradientSum::new(PARTS);
        // the last rank has no part
        let owners = (team.size() - 1).max(1);
        for k in (0..PARTS).filter(|k| k % owners == team.rank()) {
            mine.add(k, &[Tensor::from([7]), part(k)])?;
        }
        let sums = if in_order {
            team.sum(mine)?
        } else {
            ByRank(team).sum(mine)?
        };
        assert_eq!(sums[0], Tensor::from([7]));
        Ok::<Vec<f32>, nn::Error>(sums[1].as_slice()?.to_vec())
    };
    let expected = sum(&Alone, true)?;
    let mut differs = false;
    for ranks in [2, 3, 5] {
        for (ordered, any) in on_ranks(ranks, |team| (sum(team, true), sum(team, false))) {
            assert_eq!(ordered?, expected);
            for (j, (a, b)) in any?.iter().zip(&expected).enumerate() {
                let size: f32 = (0..PARTS).map(|k| number(k, j).abs()).sum();
                assert!(
                    (a - b).abs() <= 2.0 * (PARTS - 1) as f32 * 6e-8 * size,
                    "{a} and {b}"
                );
                differs |= a != b;
            }
        }
    }
    assert!(differs, "the test has no power");
    Ok(())
}

/// Logs, the best weights and checkpoints come from the first rank: the others may not have its disk.
#[test]
fn only_the_first_rank_writes_files() -> Result<()> {
    let (data, _) = digits()?;
    let directory = tempfile::tempdir().expect("a directory");
    let results = on_ranks(3, |team| {
        let place = if team.rank() == 0 { "" } else { "missing" };
        let path = |name: &str| directory.path().join(place).join(name);
        let model = nn::mlp(&[64, 8, 10], Activation::Relu, 1);
        Trainer::new(&model, Sgd::new(0.1))
            .loss(loss::unreduced::cross_entropy)
            .batch_size(32)
            .micro_batch(8)
            .epochs(2)
            .callback(nn::Logger::csv(path("log.csv")))
            .callback(nn::SaveBest::new(path("best")))
            .checkpoint(path("state"), 2)
            .team(team)
            .quiet()
            .fit(&data)
            .map(drop)
    });
    results.into_iter().collect::<Result<()>>()?;
    let log = std::fs::read_to_string(directory.path().join("log.csv")).expect("a log");
    assert_eq!(log.lines().count(), 3);
    assert!(directory.path().join("best").is_file() && directory.path().join("state").is_file());
    Ok(())
}

/// Changes a weight on one rank, as other arithmetic would.
struct Drifts(bool);

impl Callback for Drifts {
    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        if self.0 && context.step == 2 {
            let (_, param) = &context.params[1];
            param.set(Tensor::full(param.ty().shape, 0.5f32)?)?;
        }
        Ok(ControlFlow::Continue)
    }
}

#[test]
fn ranks_that_drift_apart_or_go_different_ways_end_with_an_error() -> Result<()> {
    let (data, test) = digits()?;
    for (what, expected) in [
        (
            "drift",
            "at the end of epoch 1 the weights of rank 1 are not those of rank 0",
        ),
        (
            "ways",
            "the ranks go different ways: rank 0 is at the end of step 2, rank 1 at a validation",
        ),
    ] {
        let errors = on_ranks(3, |team| {
            let is_odd = team.rank() == 1;
            let model = nn::mlp(&[64, 8, 10], Activation::Relu, 1);
            let mut validation = nn::Validation::on(&test);
            if is_odd && what == "ways" {
                validation = validation.every_steps(2);
            }
            Trainer::new(&model, Sgd::new(0.1))
                .loss(loss::unreduced::cross_entropy)
                .batch_size(32)
                .micro_batch(8)
                .callback(Drifts(is_odd && what == "drift"))
                .validate(validation)
                .team(team)
                .quiet()
                .fit(&data)
                .map(drop)
        });
        for error in errors {
            let error = error.expect_err(what).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
    Ok(())
}
