//! Which data validate a training, and when.

use crate::data::Source;

/// The data that validate a training, and when they do: by default at the end of each epoch. For
/// [`Trainer::validate`](crate::Trainer::validate), which also takes the data alone.
///
/// ```
/// # use autograd::Tensor;
/// # let data = nn::Dataset::new(Tensor::full([80, 2], 0.5f32)?, vec![1i64; 80].into())?;
/// use nn::{Activation, Sgd, Trainer, Validation};
/// let (train, held_out) = data.split(0.5, 1)?;
/// let model = nn::mlp(&[2, 2], Activation::Relu, 1);
/// let history = Trainer::new(&model, Sgd::new(0.1))
///     .epochs(5)
///     .validate(Validation::on(&held_out).every_epochs(2))
///     .quiet()
///     .fit(&train)?;
/// let validated: Vec<bool> = history.iter().map(|epoch| epoch.validation.is_some()).collect();
/// assert_eq!(validated, [false, true, false, true, true]); // the last epoch always
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Validation<'m> {
    pub(super) source: &'m dyn Source,
    every: Every,
    pub(super) averaged: bool,
}

#[derive(Clone, Copy)]
enum Every {
    Epochs(usize),
    Steps(usize),
}

impl<'m> Validation<'m> {
    /// On these data.
    pub fn on(source: &'m impl Source) -> Validation<'m> {
        Validation {
            source,
            every: Every::Epochs(1),
            averaged: false,
        }
    }

    /// At the end of every `n`-th epoch, and of the last one.
    pub fn every_epochs(mut self, n: usize) -> Validation<'m> {
        self.every = Every::Epochs(n.max(1));
        self
    }

    /// After every `n`-th step, and at the end of each epoch: for epochs that take long. Early stopping
    /// and what else [watches](crate::Callback::on_evaluation) the results acts on each of them.
    pub fn every_steps(mut self, n: usize) -> Validation<'m> {
        self.every = Every::Steps(n.max(1));
        self
    }

    /// Evaluates the averages that an optimizer with [`ema`](crate::Optimizer::ema) keeps, instead of
    /// the weights. What is kept then are the averages, too: by
    /// [`EarlyStopping`](crate::EarlyStopping) and [`SaveBest`](crate::SaveBest).
    pub fn averaged(mut self) -> Validation<'m> {
        self.averaged = true;
        self
    }

    /// Whether it is due at the end of this epoch, counted from 1, of so many.
    pub(super) fn is_due_after_epoch(&self, epoch: usize, epochs: usize) -> bool {
        match self.every {
            Every::Epochs(n) => epoch.is_multiple_of(n) || epoch == epochs,
            Every::Steps(_) => true,
        }
    }

    /// Whether it is due after so many steps of the training.
    pub(super) fn is_due_after_step(&self, step: usize) -> bool {
        matches!(self.every, Every::Steps(n) if step.is_multiple_of(n))
    }
}

impl<'m, S: Source> From<&'m S> for Validation<'m> {
    fn from(source: &'m S) -> Validation<'m> {
        Validation::on(source)
    }
}
