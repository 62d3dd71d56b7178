//! What a training with [`nn`] leaves to look at: a page of HTML that is renewed after each epoch,
//! a page that compares several runs, and TensorBoard's event files (feature `tensorboard`).
//!
//! All of it is made of what a [`Callback`](nn::Callback) sees.
//!
//! ```
//! # use autograd::Tensor;
//! # let data = nn::Dataset::new(Tensor::full([80, 4], 0.5f32)?, vec![1i64; 80].into())?;
//! # let directory = tempfile::tempdir()?;
//! # let page = directory.path().join("run.html");
//! use nn::{Activation, Sgd, Trainer};
//! use nn_report::Html;
//! let (train, held_out) = data.split(0.8, 1)?;
//! let model = nn::mlp(&[4, 8, 2], Activation::Relu, 1);
//! let report = Html::new(&page).setting("learning rate", 0.1).samples(&model, &held_out);
//! Trainer::new(&model, Sgd::new(0.1))
//!     .epochs(3)
//!     .validate(&held_out)
//!     .callback(report)
//!     .quiet()
//!     .fit(&train)?;
//! assert!(std::fs::read_to_string(&page)?.contains("Loss"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod chart;
mod compare;
mod flame;
mod html;
mod image;
mod machine;
mod page;
mod sections;
mod statistics;
mod step;
#[cfg(feature = "tensorboard")]
mod tensorboard;

pub use compare::{compare, write_settings};
pub use html::Html;
#[cfg(feature = "tensorboard")]
pub use tensorboard::TensorBoard;
