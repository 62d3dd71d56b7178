//! Layers, losses, optimizers, data and a trainer for small neural networks, on top of
//! [`autograd`].
//!
//! ```
//! use autograd::Tensor;
//! use nn::{Activation, Dataset, Sgd, Trainer};
//!
//! // binary classification: which of two numbers is larger?
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
//! The crate has:
//!
//! - [layers](Module); implement the trait for a struct of your own to make it a layer;
//! - [losses](loss) and [metrics];
//! - [optimizers](Optimizer) with gradient clipping, gradient accumulation, averaged weights (EMA),
//!   a [choice of parameters](Optimizer::only) and [parameter groups](ParamGroups), and [L-BFGS](Lbfgs)
//!   for full batches;
//! - [learning-rate schedules](schedule);
//! - [data] from arrays and files;
//! - [teams](team) of processes that train as one, with the same bits on any number of them;
//! - a [trainer](Trainer) with [callbacks](Callback), [checkpoints](Trainer::checkpoint) that
//!   resume bit for bit, [dry runs](Trainer::dry_run) and
//!   [NaN detection](Trainer::detect_anomaly);
//! - [evaluation](evaluate) and [predictions](predict), also by other threads while a model is
//!   trained: each has the weights of one completed step.
//!
//! A complete training loop without the trainer, to copy and change:
//!
//! ```
//! use autograd::Graph;
//! use nn::{Activation, Adam, ControlFlow, EarlyStopping, Module, Optimizer, loss, schedule};
//! # let inputs: Vec<f32> = (0..200).map(|k| (k as f32 * 0.7).sin()).collect();
//! # let labels: Vec<i64> = inputs.chunks(2).map(|p| (p[1] > p[0]) as i64).collect();
//! # let inputs = autograd::Tensor::new([100, 2], inputs)?;
//! # let data = nn::Dataset::new(inputs, autograd::Tensor::from(labels))?;
//!
//! let (train, validation) = data.split(0.8, 1)?;
//! let model = nn::mlp(&[2, 8, 2], Activation::Relu, 1);
//! let optimizer = Adam::new(0.01).clip_norm(1.0);
//! let schedule = schedule::warm_up(1.0, schedule::cosine);
//! let (epochs, batch_size) = (20, 10);
//! let mut stopping = EarlyStopping::new(5);
//! let (mut step, steps_per_epoch) = (0, train.len().div_ceil(batch_size));
//! for epoch in 0..epochs {
//!     for batch in train.shuffled_batches(batch_size, epoch as u64) {
//!         let (inputs, labels) = batch?;
//!         let g = Graph::training(step as u64);
//!         let loss = loss::cross_entropy(model.forward(g.constant(inputs)), g.constant(labels));
//!         let context = schedule::Context { step, steps_per_epoch, epochs, history: &[], start: 0 };
//!         optimizer.update(nn::gradients(loss), schedule(&context));
//!         g.run((loss, g.check_finite(&[loss])))?;
//!         step += 1;
//!     }
//!     let metrics = nn::evaluate(&model, &validation, loss::cross_entropy)?;
//!     println!("epoch {epoch}: {metrics}");
//!     if stopping.observe(metrics.loss, &model.parameters()) == ControlFlow::Stop {
//!         break;
//!     }
//! }
//! stopping.restore_best_weights(&model.parameters())?;
//! # Ok::<(), nn::Error>(())
//! ```
//!
//! A single training step:
//!
//! ```
//! use autograd::{Graph, Tensor};
//! use nn::{Activation, Module, Optimizer, Sgd};
//!
//! let model = nn::mlp(&[2, 8, 2], Activation::Relu, 1);
//! let sgd = Sgd::new(0.1);
//! let (x, labels) = (Tensor::from([[0.5f32, 1.0], [0.2, 0.1]]), Tensor::from([1, 0]));
//!
//! let g = Graph::training(7);             // 7 is the random seed of this step
//! let loss = nn::loss::cross_entropy(model.forward(g.constant(x)), g.constant(labels));
//! sgd.step(loss);                         // appends gradients and updates; computes nothing yet
//! let loss = g.run(loss)?;                // forward pass, backward pass and update in one run
//! println!("{loss}");
//! # Ok::<(), autograd::Error>(())
//! ```
//!
//! The same step, compiled: it is written once, and ends with the same bits.
//!
//! ```
//! use autograd::{Tensor, compile};
//! use nn::{Activation, Module, Optimizer, Sgd};
//!
//! let model = nn::mlp(&[2, 8, 2], Activation::Relu, 1).dropout(0.1);
//! let sgd = Sgd::new(0.1);
//! let step = compile(|[x, labels]| {
//!     let loss = nn::loss::cross_entropy(model.forward(x), labels);
//!     sgd.step(loss);
//!     [loss]
//! });
//! for seed in 0..10 {
//!     let (x, labels) = (Tensor::from([[0.5f32, 1.0], [0.2, 0.1]]), Tensor::from([1, 0]));
//!     let [loss] = step.train(seed, [x, labels])?;
//!     println!("{loss}");
//! }
//! # Ok::<(), autograd::Error>(())
//! ```

pub mod data;
pub mod docs;
mod error;
mod files;
pub mod init;
mod io;
mod layer;
pub mod loss;
pub mod metrics;
mod module;
mod names;
mod numbers;
mod optim;
pub mod schedule;
mod seed;
pub mod team;
mod train;
mod weights;

pub use data::Dataset;
pub use error::{Error, Result};
pub use files::{check_writable, is_same_file, write_file};
pub use io::{Loaded, load, load_partly, read_tensors, read_texts, save, save_with, write_tensors};
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
    clip::Clip,
    ema::Ema,
    gradients,
    lbfgs::{Lbfgs, MinimizeEnd, Minimum},
    only::Only,
    param_groups::ParamGroups,
    rmsprop::RmsProp,
    sgd::Sgd,
};
pub use train::{
    callback::{Callback, CallbackContext, ControlFlow, PauseOnFlag, TimeBudget},
    dry_run::DryRun,
    early_stopping::EarlyStopping,
    evaluate::{Metrics, evaluate, predict, predict_with},
    history::{End, Epoch, History},
    logger::Logger,
    monitor::Monitor,
    save_best::SaveBest,
    trainer::{Evaluation, Trainer},
    validation::Validation,
};
pub use weights::Weights;

/// The code blocks of the README, as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
