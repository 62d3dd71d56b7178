//! Trains a multi-layer perceptron to read handwritten digits: `cargo run --release --example mnist_mlp`.
//!
//! Without options: 784-128-10 on the 60,000 images of MNIST, tested on the 10,000 others.

mod options;
mod show;

use clap::Parser;
use nn::{Dataset, Error, Metrics, Module, Result, Sgd, Trainer, data};
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

/// What is wrong with the command line, without the advice to ask for help.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("For more information"));
    lines.take_while(|l| !l.starts_with("Usage:")).collect::<Vec<_>>().join(" ")
}

fn run(options: &Options) -> Result<()> {
    let threads = options.start_threads()?;
    let (train, test) = data::mnist_folder(&options.data)?;
    if let Some(file) = &options.save {
        nn::can_save(file)?; // better to know before the training than after it
    }

    let sizes = options.sizes(&train)?;
    let model = nn::mlp(&sizes, options.activation, options.seed).dropout(options.dropout);
    if let Some(file) = &options.load {
        nn::load(&model, file)?;
    }
    if !options.quiet {
        let names: Vec<String> = sizes.iter().map(usize::to_string).collect();
        println!("{} with {}: {} parameters, {threads} threads", names.join("-"), options.activation, model.size());
        println!("{} training and {} test images from {}", train.len(), test.len(), options.data.display());
    }

    let mut trainer = Trainer::new(&model, Sgd::new(options.lr).momentum(options.momentum))
        .loss(nn::loss::cross_entropy)
        .schedule(options.schedule.function())
        .batch_size(options.batch_size)
        .epochs(options.epochs)
        .seed(options.seed)
        .validate(&test);
    if options.quiet {
        trainer = trainer.quiet();
    }
    let history = trainer.fit(&train).map_err(|e| match e {
        Error::Step { epoch, step, error } if error.message().contains("not finite") => Error::Invalid(format!(
            "the loss is no longer a finite number (epoch {epoch}, step {step}, first in {} {}): try a smaller --lr than {}",
            error.op(),
            error.scope(),
            options.lr
        )),
        other => other,
    })?;

    if let Some(file) = &options.save {
        nn::save(&model, file)?;
    }
    let tested = match history.last().and_then(|epoch| epoch.validation) {
        Some(tested) => tested,
        None => nn::evaluate(&model, &test, nn::loss::cross_entropy)?, // no epoch was trained
    };
    report(options, &model, &test, &tested)
}

/// The confusion matrix, a few digits that were read wrongly, and the accuracy.
fn report(options: &Options, model: &impl Module, test: &Dataset, tested: &Metrics) -> Result<()> {
    if !options.quiet {
        let read = show::labels(&nn::predict(model, test.inputs())?)?;
        let written = test.targets().as_slice::<i64>()?;
        println!("\n{}", show::confusion(written, &read));
        println!("{}", show::mistakes(test, written, &read)?);
    }
    println!("test accuracy: {:.4}", tested.accuracy.unwrap_or_default());
    Ok(())
}
