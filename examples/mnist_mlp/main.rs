//! Trains a multi-layer perceptron on MNIST: `cargo run --release --example mnist_mlp`.
//!
//! By default it trains a 784-128-10 network on 55,000 of the 60,000 training images, and validates it
//! on the others after each epoch. In the end it tests the network, once, on the 10,000 test images.

mod options;
mod report;

use examples::terminal::{self, Ended, complain, flag_of_interrupts, say};
use nn::{
    AdamW, Dataset, End, Error, History, Metrics, Mlp, Module, Optimizer, PauseOnFlag, Result, Sgd,
    Trainer, data, metrics, schedule,
    team::{Alone, Team},
};
use options::Options;
use std::process::ExitCode;

/// The part of the training images that the network is trained on; the others validate it.
const TRAINED: f64 = 11.0 / 12.0;

/// With MPI, `nn/mpi/examples/mnist_mlp.rs` is the main function.
#[allow(dead_code)]
fn main() -> ExitCode {
    exit(run_as_rank(&Alone, 0), 0)
}

/// The whole program as a rank of a team, with so many threads by default (0: one per core).
pub(crate) fn run_as_rank(team: &dyn Team, threads: usize) -> Result<Ended> {
    terminal::run_as(team.rank() == 0, |options| run(options, team, threads))
}

/// The exit status of a rank. The first one says what went wrong.
pub(crate) fn exit(result: Result<Ended>, rank: usize) -> ExitCode {
    terminal::exit(result, rank == 0)
}

fn run(options: &Options, team: &dyn Team, threads: usize) -> Result<Ended> {
    let threads = terminal::start_threads(match options.threads {
        0 => threads,
        n => n,
    })?;
    let is_first = team.rank() == 0; // the rank that writes files and prints
    if is_first {
        options.check_files()?; // fail before the training, not after it
    }
    let (images, test) = data::read_mnist(&options.data)?;
    let sizes = options.sizes(&images)?;
    let (train, validation) = images.split(TRAINED, options.seed)?;
    drop(images);
    let dropout = if options.best { 0.2 } else { options.dropout };
    let model = nn::mlp(&sizes, options.activation, options.seed).dropout(dropout);
    if let Some(file) = &options.load {
        nn::load(&model, file)?;
    }
    if !options.quiet && is_first {
        let names: Vec<String> = sizes.iter().map(usize::to_string).collect();
        say(&format!(
            "{} with {}: {} parameters, {}{threads} threads",
            names.join("-"),
            options.activation,
            model.num_parameters(),
            match team.size() {
                1 => String::new(),
                ranks => format!("{ranks} ranks with "),
            }
        ))?;
        say(&format!(
            "{} training, {} validation and {} test images from {}",
            train.len(),
            validation.len(),
            test.len(),
            options.data.display()
        ))?;
    }

    let trained = if options.best {
        fit_best(options, &model, &train, &validation, team)
    } else {
        fit_sgd(options, &model, &train, &validation, team)
    };
    let history = trained.map_err(|e| match e {
        Error::Step { epoch, step, error } if error.message().contains("not finite") => Error::Invalid(format!(
            "the loss is not finite (epoch {epoch}, step {step}, first in {} {}): try a smaller --lr than {}",
            error.op(),
            error.scope(),
            options.lr
        )),
        other => other,
    })?;

    if let Some(file) = options.save.as_ref().filter(|_| is_first) {
        nn::save(&model, file)?;
    }
    if history.end == End::Paused {
        if is_first {
            complain(&how_to_go_on(options, history.len()));
        }
        return Ok(Ended::Interrupted);
    }
    if !is_first {
        return Ok(Ended::Finished);
    }
    let metrics = nn::evaluate(&model, &test, nn::loss::cross_entropy)?;
    print_report(options, &model, &test, &metrics).map(|()| Ended::Finished)
}

/// What an interrupted training leaves, and how to go on with it.
fn how_to_go_on(options: &Options, epochs: usize) -> String {
    let what = match (&options.checkpoint, &options.save) {
        (Some(checkpoint), _) => format!("the same command goes on from {}", checkpoint.display()),
        (None, Some(save)) => {
            let save = save.display();
            format!("the network as it is now is in {save}; --load {save} starts from it")
        }
        (None, None) => "nothing was saved: with --checkpoint FILE it could go on".into(),
    };
    format!(
        "interrupted after {epochs} of {} epochs: {what}",
        options.epochs()
    )
}

/// Trains by stochastic gradient descent with the settings of the options.
fn fit_sgd(
    options: &Options,
    model: &Mlp,
    train: &Dataset,
    validation: &Dataset,
    team: &dyn Team,
) -> Result<History> {
    let optimizer = Sgd::new(options.lr).momentum(options.momentum);
    let trainer = Trainer::new(model, &optimizer as &dyn Optimizer)
        .loss(nn::loss::cross_entropy)
        .schedule(options.schedule.function())
        .batch_size(options.batch_size)
        .epochs(options.epochs());
    fit(options, trainer, model, train, validation, team)
}

/// Trains with the options that apply to both optimizers.
fn fit<'m>(
    options: &Options,
    trainer: Trainer<'m, Mlp, &'m dyn Optimizer>, // of one type, so that there is one loop
    model: &'m Mlp,
    train: &Dataset,
    validation: &'m Dataset,
    team: &'m dyn Team,
) -> Result<History> {
    let mut trainer = trainer
        .seed(options.seed)
        .validate(validation)
        .team(team)
        .callback(PauseOnFlag(flag_of_interrupts()?));
    if options.quiet {
        trainer = trainer.quiet();
    }
    if let Some(size) = options.micro_batch {
        trainer = trainer.micro_batch(size);
    }
    if let Some(file) = &options.checkpoint {
        trainer = trainer.checkpoint(file, 500);
    }
    with_report(options, trainer, model, validation).fit(train)
}

/// With a page of curves and pictures, if one is wanted.
#[cfg(feature = "report")]
fn with_report<'m, O: Optimizer>(
    options: &Options,
    trainer: Trainer<'m, Mlp, O>,
    model: &'m Mlp,
    validation: &'m Dataset,
) -> Trainer<'m, Mlp, O> {
    let Some(file) = &options.report else {
        return trainer;
    };
    let report = nn_report::Html::new(file)
        .setting("seed", options.seed)
        .setting("options", format!("{options:?}"))
        .samples(model, validation);
    trainer.callback(report)
}

#[cfg(not(feature = "report"))]
fn with_report<'m, O: Optimizer>(
    _: &Options,
    trainer: Trainer<'m, Mlp, O>,
    _: &'m Mlp,
    _: &'m Dataset,
) -> Trainer<'m, Mlp, O> {
    trainer
}

/// Trains for accuracy: AdamW with data augmentation, label smoothing and averaged weights (EMA).
fn fit_best(
    options: &Options,
    model: &Mlp,
    train: &Dataset,
    validation: &Dataset,
    team: &dyn Team,
) -> Result<History> {
    let optimizer = AdamW::new(1e-3).weight_decay(0.01).ema(0.999);
    let trainer = Trainer::new(model, &optimizer as &dyn Optimizer)
        .loss(nn::loss::cross_entropy_with(0.05, None, None))
        .schedule(schedule::warm_up(1.0, schedule::cosine))
        .augment(data::random_shift(2))
        .batch_size(128)
        .epochs(options.epochs());
    let history = fit(options, trainer, model, train, validation, team)?;
    optimizer.copy_to(&model.parameters())?;
    Ok(history)
}

/// Prints the confusion matrix, some misclassified images, and the accuracy.
fn print_report(
    options: &Options,
    model: &impl Module,
    test: &Dataset,
    test_metrics: &Metrics,
) -> Result<()> {
    if !options.quiet {
        let outputs = nn::predict(model, &test.inputs()?)?;
        let (predicted, labels) = (
            report::predicted_classes(&outputs)?,
            test.targets().as_slice::<i64>()?,
        );
        let confusion = metrics::ConfusionMatrix::new(&outputs, test.targets())?;
        let title = "\nconfusion matrix (rows: actual, columns: predicted)";
        say(&format!("{title}\n{confusion}"))?;
        say(&report::misclassified(test, labels, &predicted)?)?;
    }
    let accuracy = test_metrics.accuracy.unwrap_or_default();
    say(&format!("test accuracy: {accuracy:.4}"))
}
