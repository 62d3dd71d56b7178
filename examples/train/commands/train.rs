//! Trains a model.

use crate::{options::Train, text};
use examples::terminal::{self, Ended, complain, flag_of_interrupts, say};
use nn::{
    Callback, End, Error, Logger, PauseOnFlag, Result,
    data::{ColumnOptions, TargetKind},
};
use nn_report::{Html, TensorBoard};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use train::{Data, Fit, Inputs, SavedModel, Settings, Source, TableOptions, fit};

pub(crate) fn run(options: &Train) -> Result<Ended> {
    let threads = terminal::start_threads(options.threads)?;
    check_files(options)?; // fail before the training, not after it
    let path = options.data.as_deref().unwrap_or(Path::new("-")); // clap requires it
    let source = Source::read(path)?;
    let data = Data::new(&source, &table_options(options, &source)?)?;
    let model = model(options, &data)?;
    if !options.quiet {
        describe(options, &source, &data)?;
        say(&text::network(&model, &data, threads))?;
    }
    let interrupted = flag_of_interrupts()?;
    let mut callbacks: Vec<Box<dyn Callback + '_>> = vec![Box::new(PauseOnFlag(interrupted))];
    callbacks.extend(records(options, &model, &data)?);
    let fit = fit(&model, &data, &settings(options), callbacks).map_err(|e| match e {
        Error::Step { epoch, step, error } if error.message().contains("not finite") => {
            Error::Invalid(format!(
                "the loss is not finite (epoch {epoch}, step {step}): try a smaller --lr than {}",
                options.lr
            ))
        }
        other => other,
    })?;
    if let Some(file) = &options.save {
        model.save(file)?;
    }
    if fit.history.end == End::Paused {
        complain(&how_to_go_on(options, fit.history.len()));
        return Ok(Ended::Interrupted);
    }
    conclude(options, &model, &data, &fit).map(|()| Ended::Finished)
}

/// Checks the places of all files.
fn check_files(options: &Train) -> Result<()> {
    let files: Vec<(&str, &PathBuf)> = [
        ("--save", &options.save),
        ("--checkpoint", &options.checkpoint),
        ("--log", &options.log),
        ("--report", &options.report),
    ]
    .into_iter()
    .filter_map(|(name, file)| Some((name, file.as_ref()?)))
    .collect();
    let data = options.data.iter().map(|file| ("--data", file));
    for (k, (name, file)) in files.iter().enumerate() {
        nn::check_writable(file)?;
        let others = files[..k].iter().copied().chain(data.clone());
        if let Some((other, _)) = others.into_iter().find(|(_, o)| nn::is_same_file(o, file)) {
            let message =
                format!("{other} and {name} are the same file, and one would replace the other");
            return Err(Error::Invalid(message));
        }
    }
    match (&options.load, &options.checkpoint) {
        (Some(load), Some(checkpoint)) if checkpoint.exists() => Err(Error::Invalid(format!(
            "--load {} would have no effect: the training goes on from the checkpoint {}. Leave out one of both",
            load.display(),
            checkpoint.display()
        ))),
        _ => Ok(()),
    }
}

fn table_options(options: &Train, source: &Source) -> Result<TableOptions> {
    let target = match (source, &options.target) {
        (Source::Table(_), Some(target)) => target.clone(),
        (Source::Table(frame), None) => {
            let names = frame.names().join(", ");
            let message = format!("--target is needed: which column to predict, of {names}");
            return Err(Error::Invalid(message));
        }
        (Source::Images { .. }, Some(target)) => {
            let message =
                format!("--target {target} is of no use for images: their labels are predicted");
            return Err(Error::Invalid(message));
        }
        (Source::Images { .. }, None) => String::new(),
    };
    Ok(TableOptions {
        columns: ColumnOptions {
            target,
            ignored: options.ignore.clone(),
            as_categories: options.as_category.clone(),
            missing: options.missing.into(),
            categories: options.categories.into(),
        },
        task: options.task.map(Into::into),
        validation: options.validation,
        seed: options.seed,
    })
}

fn settings(options: &Train) -> Settings {
    Settings {
        epochs: options.epochs,
        patience: options.patience,
        batch_size: options.batch_size,
        lr: options.lr,
        weight_decay: options.weight_decay,
        seed: options.seed,
        checkpoint: options.checkpoint.clone(),
        quiet: options.quiet,
        verbose: options.verbose,
    }
}

/// The settings as texts, for the files that a training leaves.
fn settings_as_texts(options: &Train, data: &Data, model: &SavedModel) -> BTreeMap<String, String> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
    let settings = settings(options);
    [
        ("data", path(&options.data)),
        ("target", options.target.clone()),
        ("network", Some(model.shape())),
        ("activation", Some(model.activation.to_string())),
        ("dropout", Some(options.dropout.to_string())),
        ("epochs at most", Some(options.epochs.to_string())),
        ("patience", Some(options.patience.to_string())),
        (
            "batch size",
            Some(settings.batch_size(data.train.len()).to_string()),
        ),
        ("learning rate", Some(options.lr.to_string())),
        ("weight decay", Some(options.weight_decay.to_string())),
        ("validation part", Some(options.validation.to_string())),
        ("seed", Some(options.seed.to_string())),
        ("optimizer", Some("AdamW".into())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_string(), value?)))
    .collect()
}

/// A model with random weights, or those of --load.
fn model(options: &Train, data: &Data) -> Result<SavedModel> {
    let mut model = SavedModel::new(
        data.inputs.clone(),
        data.target.clone(),
        &options.hidden,
        options.activation,
        options.dropout,
        options.seed,
    )?;
    model.settings = settings_as_texts(options, data, &model);
    if let Some(file) = &options.load {
        let loaded = SavedModel::load(file)?;
        if loaded.inputs.spans() != model.inputs.spans() {
            let message = format!("{}: was trained on other columns", file.display());
            return Err(Error::Invalid(message));
        }
        nn::load(&model.net, file)?;
    }
    Ok(model)
}

/// Says what was found in the data.
fn describe(options: &Train, source: &Source, data: &Data) -> Result<()> {
    match (source, &data.inputs) {
        (Source::Table(frame), Inputs::Table(columns)) => {
            say(&text::table(frame, columns, options.verbose))?;
        }
        (Source::Images { directory, .. }, _) => {
            let (count, from) = (data.train.len(), directory.display());
            say(&format!("{count} images to train on, from {from}"))?;
        }
        _ => {}
    }
    say(&text::target(&data.target, options.task.is_none()))
}

/// What the training leaves: logs and reports.
fn records<'m>(
    options: &Train,
    model: &'m SavedModel,
    data: &'m Data,
) -> Result<Vec<Box<dyn Callback + 'm>>> {
    let mut records: Vec<Box<dyn Callback + 'm>> = Vec::new();
    if let Some(file) = &options.log {
        let is_csv = file.extension().is_some_and(|e| e == "csv");
        if !is_csv {
            nn_report::write_settings(file, model.settings.clone())?;
        }
        records.push(match is_csv {
            true => Box::new(Logger::csv(file)),
            false => Box::new(Logger::json_lines(file)),
        });
    }
    if let Some(folder) = &options.tensorboard {
        records.push(Box::new(TensorBoard::new(folder)));
    }
    if let Some(file) = &options.report {
        let mut report = Html::new(file);
        for (name, value) in &model.settings {
            report = report.setting(name, value);
        }
        if let Some(seconds) = options.reload {
            report = report.reload(seconds);
        }
        report = report.samples(&model.net, data.validation.as_ref().unwrap_or(&data.train));
        if let TargetKind::Classes(names) = &data.target.kind {
            report = report.classes(names);
        }
        records.push(Box::new(report));
    }
    Ok(records)
}

/// What an interrupted training leaves, and how to go on with it.
fn how_to_go_on(options: &Train, epochs: usize) -> String {
    let what = match (&options.checkpoint, &options.save) {
        (Some(checkpoint), _) => format!("the same command goes on from {}", checkpoint.display()),
        (None, Some(save)) => {
            let save = save.display();
            format!("the best network so far is in {save}; --load {save} starts from it")
        }
        (None, None) => "nothing was saved: with --checkpoint FILE it could go on".into(),
    };
    let most = options.epochs;
    format!("interrupted after {epochs} of {most} epochs: {what}")
}

/// Says how the training ended, how good the model is, and how to go on.
fn conclude(options: &Train, model: &SavedModel, data: &Data, fit: &Fit) -> Result<()> {
    let best = fit
        .history
        .iter()
        .min_by(|a, b| loss_of(a).total_cmp(&loss_of(b)));
    if let (Some(best), false) = (best, options.quiet) {
        let why = match fit.history.end {
            End::Stopped => format!("no better for {}", text::counted(options.patience, "epoch")),
            _ => "all done".into(),
        };
        let epochs = text::counted(fit.history.len(), "epoch");
        let kept = match options.patience {
            0 => String::new(),
            _ => format!("; the network is that of epoch {}", best.number),
        };
        say(&format!("{epochs}: {why}{kept}"))?;
    }
    if let (Some(file), false) = (&options.save, options.quiet) {
        let file = file.display();
        say(&format!(
            "saved {file}; use it with: train predict --model {file} --data FILE"
        ))?;
    }
    match (&data.validation, &fit.validation) {
        (Some(held_out), Some(metrics)) => {
            let scores = super::evaluate::scores(model, held_out, metrics)?;
            say(&format!("held-out rows: {scores}"))
        }
        _ => say(&"no rows were held out: train evaluate --data FILE measures the model on others"),
    }
}

fn loss_of(epoch: &nn::Epoch) -> f64 {
    epoch.validation.map_or(epoch.train.loss, |v| v.loss)
}
