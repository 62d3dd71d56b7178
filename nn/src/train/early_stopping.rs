//! Stopping when it gets no better.

use super::callback::{At, Callback, Next};
use crate::error::{Error, Result};
use autograd::{Param, Tensor};

/// Stops when a loss has not become smaller for `patience` epochs, and puts the best weights back. In a trainer it looks at
/// the loss of the validation, or of the training where there is none; on its own it is told:
///
/// ```
/// use nn::{EarlyStopping, Module, Next};
/// let model = nn::mlp(&[2, 2], nn::Activation::Relu, 1);
/// let mut stopping = EarlyStopping::new(1);
/// let params = model.parameters();
/// let said: Vec<Next> = [0.5, 0.4, 0.6, 0.45].map(|loss| stopping.observe(loss, &params)).to_vec();
/// assert_eq!(said, [Next::Continue, Next::Continue, Next::Continue, Next::Stop]);
/// assert_eq!((stopping.best(), stopping.waited()), (0.4, 2));
/// stopping.restore_best(&params)?;
/// # Ok::<(), nn::Error>(())
/// ```
pub struct EarlyStopping {
    patience: usize,
    best: f64,
    waited: usize,
    weights: Vec<(String, Tensor)>,
}

impl EarlyStopping {
    /// Waits for so many epochs.
    pub fn new(patience: usize) -> EarlyStopping {
        EarlyStopping {
            patience,
            best: f64::INFINITY,
            waited: 0,
            weights: Vec::new(),
        }
    }

    /// The smallest loss so far.
    pub fn best(&self) -> f64 {
        self.best
    }

    /// For how many epochs it has not become smaller.
    pub fn waited(&self) -> usize {
        self.waited
    }

    /// Takes note of a loss; of the weights if it is the smallest one.
    pub fn observe(&mut self, loss: f64, params: &[(String, Param)]) -> Next {
        if loss < self.best {
            (self.best, self.waited) = (loss, 0);
            self.weights = params
                .iter()
                .map(|(name, p)| (name.clone(), p.value()))
                .collect();
        } else {
            self.waited += 1;
        }
        if self.waited > self.patience {
            Next::Stop
        } else {
            Next::Continue
        }
    }

    /// Sets the parameters to the best weights, if there are any.
    pub fn restore_best(&self, params: &[(String, Param)]) -> Result<()> {
        for (name, value) in &self.weights {
            if let Some((_, param)) = params.iter().find(|(own, _)| own == name) {
                param.set(value.clone())?;
            }
        }
        Ok(())
    }
}

impl Callback for EarlyStopping {
    fn epoch(&mut self, at: &At<'_>) -> Result<Next> {
        let Some(last) = at.history.last() else {
            return Ok(Next::Continue);
        };
        Ok(self.observe(
            last.validation.map_or(last.train.loss, |v| v.loss),
            at.params,
        ))
    }

    fn note(&self) -> Option<String> {
        (self.waited > 0)
            .then(|| format!("no better for {} of {} epochs", self.waited, self.patience))
    }

    fn end(&mut self, at: &At<'_>) -> Result<()> {
        self.restore_best(at.params)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let weights = self
            .weights
            .iter()
            .map(|(name, value)| (format!("weights.{name}"), value.clone()));
        [
            ("best".into(), self.best.into()),
            ("waited".into(), (self.waited as i64).into()),
        ]
        .into_iter()
        .chain(weights)
        .collect()
    }

    fn restore(&mut self, state: Vec<(String, Tensor)>) -> Result<()> {
        self.weights.clear();
        for (name, value) in state {
            match (name.as_str(), name.strip_prefix("weights.")) {
                ("best", _) => self.best = value.scalar()?,
                ("waited", _) => self.waited = value.scalar()? as usize,
                (_, Some(path)) => self.weights.push((path.into(), value)),
                _ => return Err(Error::invalid(format!("early stopping has no {name:?}"))),
            }
        }
        Ok(())
    }
}
