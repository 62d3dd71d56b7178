//! Trains a multi-layer perceptron on MNIST: `cargo run --release --example mnist_mlp`.
//!
//! By default it trains a 784-128-10 network on the 60,000 training images, and tests it on the
//! 10,000 test images.

mod options;
mod report;

use clap::Parser;
use nn::{
    AdamW, Dataset, Error, History, Metrics, Mlp, Module, Optimizer, Result, Sgd, Trainer, data,
    metrics, schedule,
};
use options::Options;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(e) if e.use_stderr() => {
            eprintln!("{}", one_line(&e.to_string()));
            return ExitCode::from(2);
        }
        Err(help) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// An error message of the command-line parser as one line, without usage and hints.
fn one_line(message: &str) -> String {
    let lines = message
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with("For more information"));
    lines
        .take_while(|l| !l.starts_with("Usage:"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn run(options: &Options) -> Result<()> {
    let threads = options.start_threads()?;
    let (train, test) = data::read_mnist(&options.data)?;
    if let Some(file) = &options.save {
        nn::check_writable(file)?; // fail before the training, not after it
    }

    let sizes = options.sizes(&train)?;
    let dropout = if options.best { 0.2 } else { options.dropout };
    let model = nn::mlp(&sizes, options.activation, options.seed).dropout(dropout);
    if let Some(file) = &options.load {
        nn::load(&model, file)?;
    }
    if !options.quiet {
        let names: Vec<String> = sizes.iter().map(usize::to_string).collect();
        println!(
            "{} with {}: {} parameters, {threads} threads",
            names.join("-"),
            options.activation,
            model.num_parameters()
        );
        println!(
            "{} training and {} test images from {}",
            train.len(),
            test.len(),
            options.data.display()
        );
    }

    let history = if options.best {
        fit_best(options, &model, &train, &test)
    } else {
        fit_sgd(options, &model, &train, &test)
    };
    let history = history.map_err(|e| match e {
        Error::Step { epoch, step, error } if error.message().contains("not finite") => Error::Invalid(format!(
            "the loss is not finite (epoch {epoch}, step {step}, first in {} {}): try a smaller --lr than {}",
            error.op(),
            error.scope(),
            options.lr
        )),
        other => other,
    })?;

    if let Some(file) = &options.save {
        nn::save(&model, file)?;
    }
    let metrics = match history.last().and_then(|epoch| epoch.validation) {
        Some(metrics) if !options.best => metrics,
        // no epoch was trained, or the weights were replaced by their averages
        _ => nn::evaluate(&model, &test, nn::loss::cross_entropy)?,
    };
    print_report(options, &model, &test, &metrics)
}

/// Trains by stochastic gradient descent with the settings of the options.
fn fit_sgd(options: &Options, model: &Mlp, train: &Dataset, test: &Dataset) -> Result<History> {
    let trainer = Trainer::new(model, Sgd::new(options.lr).momentum(options.momentum))
        .loss(nn::loss::cross_entropy)
        .schedule(options.schedule.function())
        .batch_size(options.batch_size)
        .epochs(options.epochs);
    fit(options, trainer, train, test)
}

/// Trains with the options that apply to both optimizers.
fn fit<'m>(
    options: &Options,
    trainer: Trainer<'m, Mlp, impl Optimizer>,
    train: &Dataset,
    test: &'m Dataset,
) -> Result<History> {
    let mut trainer = trainer.seed(options.seed).validate(test);
    if options.quiet {
        trainer = trainer.quiet();
    }
    if let Some(file) = &options.checkpoint {
        trainer = trainer.checkpoint(file, 500);
    }
    trainer.fit(train)
}

/// Trains for accuracy: AdamW with data augmentation, label smoothing and averaged weights (EMA).
fn fit_best(options: &Options, model: &Mlp, train: &Dataset, test: &Dataset) -> Result<History> {
    let optimizer = AdamW::new(1e-3).weight_decay(0.01).ema(0.999);
    let trainer = Trainer::new(model, &optimizer)
        .loss(nn::loss::cross_entropy_with(0.05, None, None))
        .schedule(schedule::warm_up(1.0, schedule::cosine))
        .augment(data::random_shift(2))
        .batch_size(128)
        .epochs(30);
    let history = fit(options, trainer, train, test)?;
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
        println!("\nconfusion matrix (rows: actual, columns: predicted)\n{confusion}");
        println!("{}", report::misclassified(test, labels, &predicted)?);
    }
    println!(
        "test accuracy: {:.4}",
        test_metrics.accuracy.unwrap_or_default()
    );
    Ok(())
}
