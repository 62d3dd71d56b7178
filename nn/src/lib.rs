//! Layers, losses, optimizers, data and a trainer for small multi-layer perceptrons, on top of [`autograd`].
//!
//! ```
//! use autograd::Tensor;
//! use nn::{Activation, Dataset, Sgd, Trainer};
//!
//! // which of two numbers is larger?
//! let inputs: Vec<f32> = (0..200).map(|k| (k as f32 * 0.7).sin()).collect();
//! let labels: Vec<i64> = inputs.chunks(2).map(|p| (p[1] > p[0]) as i64).collect();
//! let data = Dataset::new(Tensor::new([100, 2], inputs)?, Tensor::from(labels))?;
//!
//! let model = nn::mlp(&[2, 8, 2], Activation::Relu, 1);
//! let history = Trainer::new(&model, Sgd::new(0.1).momentum(0.9))
//!     .loss(nn::loss::cross_entropy)
//!     .batch_size(10)
//!     .epochs(100)
//!     .quiet()
//!     .fit(&data)?;
//! assert!(history.last().is_some_and(|epoch| epoch.train.accuracy > Some(0.95)));
//! # Ok::<(), nn::Error>(())
//! ```
//!
//! There are [layers](Module) (a struct of your own becomes one in a few lines), [losses](loss), [optimizers](Optimizer) that can
//! be clipped, averaged, accumulated and [grouped](Groups), [schedules](schedule), [data] from arrays and files, and
//! [metrics]. The [trainer](Trainer) has [callbacks](Callback), [checkpoints](Trainer::checkpoint) from which it resumes bit for
//! bit, [dry runs](Trainer::dry_run), and an answer to [wrong gradients](Trainer::detect_anomaly).
//!
//! A whole training by hand, to be copied and changed:
//!
//! ```
//! use autograd::Graph;
//! use nn::{Activation, Adam, EarlyStopping, Module, Next, Optimizer, loss, schedule};
//! # let inputs: Vec<f32> = (0..200).map(|k| (k as f32 * 0.7).sin()).collect();
//! # let labels: Vec<i64> = inputs.chunks(2).map(|p| (p[1] > p[0]) as i64).collect();
//! # let data = nn::Dataset::new(autograd::Tensor::new([100, 2], inputs)?, autograd::Tensor::from(labels))?;
//!
//! let (train, validation) = data.split(0.8, 1)?;
//! let model = nn::mlp(&[2, 8, 2], Activation::Relu, 1);
//! let (optimizer, schedule) = (Adam::new(0.01).clip_norm(1.0), schedule::warm_up(1.0, schedule::cosine));
//! let (epochs, batch) = (20, 10);
//! let mut stopping = EarlyStopping::new(5);
//! let (mut step, steps_per_epoch) = (0, train.len().div_ceil(batch));
//! for epoch in 0..epochs {
//!     for samples in train.shuffled_batches(batch, epoch) {
//!         let (inputs, labels) = samples?;
//!         let g = Graph::training(step as u64);
//!         let loss = loss::cross_entropy(model.forward(g.constant(inputs)), g.constant(labels));
//!         let at = schedule::Moment { step, steps_per_epoch, epochs: epochs as usize, history: &[] };
//!         optimizer.update(nn::gradients(loss), schedule(&at));
//!         g.run((loss, g.check_finite(&[loss])))?;
//!         step += 1;
//!     }
//!     let measured = nn::evaluate(&model, &validation, loss::cross_entropy)?;
//!     println!("epoch {epoch}: {measured}");
//!     if stopping.observe(measured.loss, &model.parameters()) == Next::Stop {
//!         break;
//!     }
//! }
//! stopping.restore_best(&model.parameters())?;
//! # Ok::<(), nn::Error>(())
//! ```
//!
//! What the trainer does in one step can be written by hand:
//!
//! ```
//! use autograd::{Graph, Tensor};
//! use nn::{Activation, Module, Optimizer, Sgd};
//!
//! let model = nn::mlp(&[2, 8, 2], Activation::Relu, 1);
//! let sgd = Sgd::new(0.1);
//! let (x, labels) = (Tensor::from([[0.5f32, 1.0], [0.2, 0.1]]), Tensor::from([1, 0]));
//!
//! let g = Graph::training(7);                     // the seed of this step
//! let loss = nn::loss::cross_entropy(model.forward(g.constant(x)), g.constant(labels));
//! sgd.step(loss);                                 // appends gradients and updates; nothing is computed yet
//! let loss = g.run(loss)?;                        // forward, backward and update in one run
//! println!("{loss}");
//! # Ok::<(), autograd::Error>(())
//! ```

pub mod data;
mod error;
pub mod init;
mod io;
mod layer;
pub mod loss;
pub mod metrics;
mod module;
mod optim;
pub mod schedule;
mod seed;
mod train;

pub use data::Dataset;
pub use error::{Error, Result};
pub use io::{can_save, load, read_tensors, save, write_tensors};
pub use layer::{
    activation::Activation,
    dropout::Dropout,
    embedding::Embedding,
    linear::Linear,
    mlp::{Mlp, mlp},
    norm::{BatchNorm1d, LayerNorm},
    normalize::Normalize,
    sequential::Sequential,
    shape::{Flatten, Lambda, Residual},
};
pub use module::{Module, Params};
pub use optim::{
    Gradient, Optimizer,
    accumulate::Accumulate,
    adam::{Adam, AdamW},
    average::Averaged,
    clip::Clip,
    gradients,
    groups::Groups,
    rmsprop::RmsProp,
    sgd::Sgd,
};
pub use train::{
    callback::{At, Callback, Next, PauseWhen, TimeBudget},
    dry_run::DryRun,
    early_stopping::EarlyStopping,
    evaluate::{Metrics, evaluate, predict},
    history::{Epoch, History},
    log::Log,
    trainer::Trainer,
};

/// The listings of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
