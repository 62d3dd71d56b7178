//! The command line, and whether it makes sense.

use clap::{Parser, ValueEnum};
use nn::{Activation, Dataset, Error, Result};
use std::path::PathBuf;

const NOTE: &str = "\
Without options it trains a network of 784 inputs, 128 hidden units and 10 outputs for 5 epochs, which takes a
few seconds and reads about 98 of 100 digits right. The same seed gives the same result, whatever the number of
threads.";

/// Trains a network to read handwritten digits (or any images in the format of MNIST) and tests it.
#[derive(Parser, Debug)]
#[command(after_help = NOTE)]
pub(crate) struct Options {
    /// Folder with the four IDX files, such as train-images-idx3-ubyte.gz
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist"), hide_default_value = true)]
    pub(crate) data: PathBuf,

    /// Sizes of the hidden layers, separated by commas
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_value = "128", value_parser = positive)]
    pub(crate) hidden: Vec<usize>,

    /// Activation function of the hidden layers: relu, leaky_relu, elu, gelu, silu, softplus, tanh or sigmoid
    #[arg(long, value_name = "NAME", default_value_t = Activation::Relu)]
    pub(crate) activation: Activation,

    /// How often to go through the training images; 0 only tests (with --load)
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) epochs: usize,

    /// Number of images in one step
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub(crate) batch_size: usize,

    /// Learning rate: how far a step goes
    #[arg(long, value_name = "RATE", default_value_t = 0.07, value_parser = rate)]
    pub(crate) lr: f64,

    /// How the learning rate changes from the first step to the last
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Schedule::Linear)]
    pub(crate) schedule: Schedule,

    /// How much of the last step's direction is kept, from 0 to less than 1
    #[arg(long, default_value_t = 0.9, value_parser = share, value_name = "SHARE")]
    pub(crate) momentum: f64,

    /// Share of hidden units left out at random in each training step, from 0 to less than 1
    #[arg(long, default_value_t = 0.0, value_parser = share, value_name = "SHARE")]
    pub(crate) dropout: f64,

    /// Seed of the first weights, of the order of the images and of dropout
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,

    /// Number of threads; 0 means one for each core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,

    /// Save the trained network to this file (safetensors)
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,

    /// Start from a network saved before, with the same sizes
    #[arg(long, value_name = "FILE")]
    pub(crate) load: Option<PathBuf>,

    /// Train for accuracy instead: 784-1024-512-10 by AdamW for 30 epochs, with dropout, images moved by up to 2 pixels,
    /// and averaged weights; takes a few minutes. Other options about network and training are left aside
    #[arg(long)]
    pub(crate) best: bool,

    /// Save the whole training to this file now and then, and go on from there if it exists
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Print the test accuracy only
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// How the learning rate changes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Schedule {
    Constant,
    Linear,
    Cosine,
}

impl Schedule {
    pub(crate) fn function(self) -> fn(&nn::schedule::Context<'_>) -> f64 {
        match self {
            Schedule::Constant => nn::schedule::constant,
            Schedule::Linear => nn::schedule::linear,
            Schedule::Cosine => nn::schedule::cosine,
        }
    }
}

impl Options {
    /// Starts the pool of threads; returns how many there are.
    pub(crate) fn start_threads(&self) -> Result<usize> {
        if self.threads > 1024 {
            return Err(Error::Invalid(format!(
                "{} threads are too many: at most 1024",
                self.threads
            )));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .build_global();
        pool.map_err(|e| Error::Invalid(format!("cannot start {} threads: {e}", self.threads)))?;
        Ok(rayon::current_num_threads())
    }

    /// From the inputs over the hidden layers to one output a class.
    pub(crate) fn sizes(&self, train: &Dataset) -> Result<Vec<usize>> {
        let inputs = train.sample_shape().iter().product();
        let classes = train
            .num_classes()
            .ok_or_else(|| Error::Invalid("the labels are not class numbers".into()))?;
        let hidden = if self.best {
            &[1024, 512]
        } else {
            &self.hidden[..]
        };
        Ok([&[inputs], hidden, &[classes]].concat())
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) if n > 1_000_000 => Err("must be at most 1000000".into()),
        Ok(n) => Ok(n),
        Err(_) => Err("is not a whole number".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if v > 0.0 && v.is_finite() => Ok(v),
        _ => Err("is not a number above 0".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if (0.0..1.0).contains(&v) => Ok(v),
        _ => Err("is not a number from 0 to less than 1".into()),
    }
}
