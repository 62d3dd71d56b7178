//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use examples::terminal::{fraction, positive, rate};
use nn::{Activation, data};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  train --data iris.csv --target species --save model.safetensors
      trains a network that predicts the column `species` from all other columns
  train predict --model model.safetensors --data new.csv > predicted.csv
      predicts it for new rows
  train evaluate --model model.safetensors --data test.csv
      says how good it is on rows for which the answer is known
  train explain --model model.safetensors --data test.csv
      says which columns matter
  train --data iris.csv --target species --report run.html --log run.jsonl
      leaves a page of curves and pictures, and a log; the page is renewed after each epoch
  train report a.jsonl b.jsonl --output both.html
      compares runs by their logs

Columns of numbers are scaled, columns of text are categories, and missing values (empty cells, NA, ?)
are filled in; what was decided is printed before the training. It stops when the held-out rows are
predicted no better for a while, and keeps the best network. Ctrl-C ends it in order.
Exit status: 0 for success, 1 for an error, 2 for wrong arguments, 130 after Ctrl-C.";

/// Trains and uses small neural networks on tables (CSV) and images (IDX)
#[derive(Parser, Debug)]
#[command(
    name = "train",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) train: Train,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Predict the target for each row
    Predict(Predict),
    /// Measure a model on rows whose target is known
    Evaluate(Evaluate),
    /// Show which columns matter to a model
    Explain(Explain),
    /// Compare runs by their logs on a page of HTML
    Report(Report),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// The arguments of the training, which is what the program does without a command.
#[derive(Args, Debug)]
pub(crate) struct Train {
    /// A CSV file with a header line, `-` for standard input, or a directory with the four IDX files
    /// of MNIST
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) data: Option<PathBuf>,

    /// The column to predict
    #[arg(long, value_name = "COLUMN")]
    pub(crate) target: Option<String>,

    /// Save the model to this file (safetensors): weights, and all that predicting needs
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,

    /// What to predict: classes or numbers [default: classes if the target is text, or whole numbers of at most
    /// 20 values]
    #[arg(long, value_enum, value_name = "TASK", help_heading = "Table")]
    pub(crate) task: Option<Task>,

    /// Columns to leave out, separated by commas, such as the number of a row
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        help_heading = "Table"
    )]
    pub(crate) ignore: Vec<String>,

    /// Columns of numbers that are categories, separated by commas, such as a postal code
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        help_heading = "Table"
    )]
    pub(crate) as_category: Vec<String>,

    /// How categories become inputs: one input per category, or a learnt vector; auto embeds from 33
    /// categories on
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Categories::Auto, help_heading = "Table")]
    pub(crate) categories: Categories,

    /// What to do about missing values: fill in the median, with an input that says so, or end with an
    /// error that names line and column
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Missing::Impute, help_heading = "Table")]
    pub(crate) missing: Missing,

    /// The part of the rows to hold out for validation, with equal parts of all classes; 0: none
    #[arg(long, value_name = "FRACTION", default_value_t = 0.15, value_parser = fraction, help_heading = "Table")]
    pub(crate) validation: f64,

    /// Sizes of the hidden layers, separated by commas
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_value = "100", value_parser = positive, help_heading = "Network")]
    pub(crate) hidden: Vec<usize>,

    /// Activation function: relu, leaky_relu, elu, gelu, silu, softplus, tanh or sigmoid
    #[arg(long, value_name = "NAME", default_value_t = Activation::Relu, help_heading = "Network")]
    pub(crate) activation: Activation,

    /// The fraction of hidden units left out in each step
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = fraction, help_heading = "Network")]
    pub(crate) dropout: f64,

    /// Start from the weights of a saved model of the same columns and layers
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub(crate) load: Option<PathBuf>,

    /// The number of passes over the data, at most
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = positive, help_heading = "Training")]
    pub(crate) epochs: usize,

    /// Stop after so many epochs without a better validation loss, and take the best weights; 0: never
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        help_heading = "Training"
    )]
    pub(crate) patience: usize,

    /// The number of rows of a step [default: a 20th of the rows, from 32 to 128]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Training")]
    pub(crate) batch_size: Option<usize>,

    /// The learning rate (of AdamW)
    #[arg(long, value_name = "RATE", default_value_t = 0.003, value_parser = rate, help_heading = "Training")]
    pub(crate) lr: f64,

    /// The weight decay (of AdamW)
    #[arg(long, value_name = "RATE", default_value_t = 0.01, value_parser = fraction, help_heading = "Training")]
    pub(crate) weight_decay: f64,

    /// Random seed of weights, order and split: the same one gives the same model
    #[arg(
        long,
        value_name = "N",
        default_value_t = 42,
        help_heading = "Training"
    )]
    pub(crate) seed: u64,

    /// Save the state of the training to this file; the same command goes on from it
    #[arg(long, value_name = "FILE", help_heading = "Training")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Number of threads; 0: one per core
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Training")]
    pub(crate) threads: usize,

    /// Write the results of each epoch to this file: .csv, or JSON lines by any other name
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) log: Option<PathBuf>,

    /// Write a page of curves and pictures to this file (HTML), after each epoch
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) report: Option<PathBuf>,

    /// Let the page reload itself every so many seconds while the training goes on
    #[arg(long, value_name = "SECONDS", requires = "report", value_parser = positive, help_heading = "Output")]
    pub(crate) reload: Option<usize>,

    /// Write TensorBoard's event files to this directory
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(crate) tensorboard: Option<PathBuf>,

    /// Print only the last line, the result on the held-out rows
    #[arg(long, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Print how each column is encoded, and statistics of the gradients of each epoch
    #[arg(long, help_heading = "Output")]
    pub(crate) verbose: bool,
}

const PREDICT_EXAMPLES: &str = "\
Examples:
  train predict --model model.safetensors --data new.csv
  train predict --model model.safetensors --data new.csv --probabilities --with-inputs --output out.csv
  head -3 new.csv | train predict --model model.safetensors --data -";

#[derive(Args, Debug)]
#[command(after_help = PREDICT_EXAMPLES)]
pub(crate) struct Predict {
    #[command(flatten)]
    pub(crate) with: With,

    /// Write to this file, whole or not at all; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,

    /// Add a column with the probability of each class
    #[arg(long)]
    pub(crate) probabilities: bool,

    /// Put the columns of the table before the prediction
    #[arg(long)]
    pub(crate) with_inputs: bool,
}

/// A model and data.
#[derive(Args, Debug)]
pub(crate) struct With {
    /// A model that was saved with --save
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,

    /// A CSV file with the columns of the training data in any order, `-` for standard input, or a
    /// directory of IDX files, of which the test images are taken
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,

    /// Number of threads; 0: one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
}

#[derive(Args, Debug)]
pub(crate) struct Evaluate {
    #[command(flatten)]
    pub(crate) with: With,

    /// Print the numbers as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) with: With,

    /// Random seed of the shuffles
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Report {
    /// Logs of JSON lines, as --log run.jsonl writes them
    #[arg(value_name = "LOG", required = true)]
    pub(crate) logs: Vec<PathBuf>,

    /// Write the page to this file
    #[arg(long, value_name = "FILE", default_value = "comparison.html")]
    pub(crate) output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Task {
    /// Classes
    Classification,
    /// Numbers
    Regression,
}

impl From<Task> for data::Task {
    fn from(task: Task) -> data::Task {
        match task {
            Task::Classification => data::Task::Classification,
            Task::Regression => data::Task::Regression,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Categories {
    Auto,
    OneHot,
    Embed,
}

impl From<Categories> for data::Categories {
    fn from(categories: Categories) -> data::Categories {
        match categories {
            Categories::Auto => data::Categories::Auto,
            Categories::OneHot => data::Categories::OneHot,
            Categories::Embed => data::Categories::Embedded,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Missing {
    Impute,
    Error,
}

impl From<Missing> for data::Missing {
    fn from(missing: Missing) -> data::Missing {
        match missing {
            Missing::Impute => data::Missing::Impute,
            Missing::Error => data::Missing::Refuse,
        }
    }
}
