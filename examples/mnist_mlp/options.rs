//! The command-line options and their checks.

use clap::{Parser, ValueEnum};
use examples::terminal::{fraction, positive, rate};
use nn::{Activation, Dataset, Error, Result};
use std::path::PathBuf;

const NOTE: &str = "\
By default it trains a network with 784 inputs, 128 hidden units and 10 outputs for 5 epochs. This takes a few
seconds and gives a test accuracy of about 0.98. The same seed gives the same result on any number of threads.";

/// Trains and tests a neural network on images of handwritten digits (MNIST, or data in the same
/// format)
#[derive(Parser, Debug)]
#[command(after_help = NOTE)]
pub(crate) struct Options {
    /// Directory with the four IDX files, such as train-images-idx3-ubyte.gz
    #[arg(long, value_name = "DIR", default_value = examples::MNIST, hide_default_value = true)]
    pub(crate) data: PathBuf,

    /// Sizes of the hidden layers, separated by commas
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_value = "128", value_parser = positive)]
    pub(crate) hidden: Vec<usize>,

    /// Activation function of the hidden layers: relu, leaky_relu, elu, gelu, silu, softplus, tanh
    /// or sigmoid
    #[arg(long, value_name = "NAME", default_value_t = Activation::Relu)]
    pub(crate) activation: Activation,

    /// Number of epochs (passes over the training images); 0: only test (with --load)
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) epochs: usize,

    /// Number of images per training step
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub(crate) batch_size: usize,

    /// Compute each training step in parts of so many images, which divides the batch size: on the ranks
    /// of an MPI job, or with less memory. The result depends on it, not on the number of ranks
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) micro_batch: Option<usize>,

    /// Learning rate
    #[arg(long, value_name = "RATE", default_value_t = 0.07, value_parser = rate)]
    pub(crate) lr: f64,

    /// Learning-rate schedule
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Schedule::Linear)]
    pub(crate) schedule: Schedule,

    /// Momentum, from 0 to less than 1
    #[arg(long, default_value_t = 0.9, value_parser = fraction, value_name = "FRACTION")]
    pub(crate) momentum: f64,

    /// Dropout rate: the fraction of hidden units set to 0 in each training step, from 0 to less
    /// than 1
    #[arg(long, default_value_t = 0.0, value_parser = fraction, value_name = "FRACTION")]
    pub(crate) dropout: f64,

    /// Random seed for initial weights, shuffling and dropout
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,

    /// Number of threads of each process; 0: one per core, shared by the ranks of an MPI job
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,

    /// Save the trained network to this file (safetensors)
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,

    /// Start from a saved network with the same layer sizes
    #[arg(long, value_name = "FILE")]
    pub(crate) load: Option<PathBuf>,

    /// Train for accuracy: a 784-1024-512-10 network with AdamW for 30 epochs, with dropout, images
    /// shifted by up to 2 pixels, and averaged weights. Takes a few minutes. Ignores other options
    /// for network and training
    #[arg(long)]
    pub(crate) best: bool,

    /// Save checkpoints of the training to this file; resume from it if it exists. After Ctrl-C, the
    /// training ends after its step, and the same command goes on with it
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Write a page of curves and pictures to this file (HTML), after each epoch
    #[cfg(feature = "report")]
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Print only the test accuracy
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// The learning-rate schedules.
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
    /// The number of epochs.
    pub(crate) fn epochs(&self) -> usize {
        if self.best { 30 } else { self.epochs }
    }

    /// Checks the places of files.
    pub(crate) fn check_files(&self) -> Result<()> {
        for file in [&self.save, &self.checkpoint].into_iter().flatten() {
            nn::check_writable(file)?;
        }
        if let (Some(a), Some(b)) = (&self.save, &self.checkpoint)
            && nn::is_same_file(a, b)
        {
            let message =
                "--save and --checkpoint are the same file, and one would replace the other";
            return Err(Error::Invalid(message.into()));
        }
        #[cfg(feature = "report")]
        self.report.iter().try_for_each(nn::check_writable)?;
        match (&self.load, &self.checkpoint) {
            (Some(load), Some(checkpoint)) if checkpoint.exists() => Err(Error::Invalid(format!(
                "--load {} would have no effect: the training goes on from the checkpoint {}. Leave out one of both",
                load.display(),
                checkpoint.display()
            ))),
            _ => Ok(()),
        }
    }

    /// The layer sizes: inputs, hidden layers, and one output per class.
    pub(crate) fn sizes(&self, train: &Dataset) -> Result<Vec<usize>> {
        let inputs = train.sample_shape().iter().product();
        let classes = train
            .num_classes()
            .ok_or_else(|| Error::Invalid("the labels must be integers".into()))?;
        let hidden = if self.best {
            &[1024, 512]
        } else {
            &self.hidden[..]
        };
        Ok([&[inputs], hidden, &[classes]].concat())
    }
}
