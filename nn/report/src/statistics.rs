//! What one step of each epoch says about the layers: gradients, updates, weights.

use autograd::{Param, Tensor};
use nn::{CallbackContext, Gradient, Result};
use std::collections::HashMap;

/// Numbers in bins of equal width.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) counts: Vec<usize>,
    pub(crate) mean: f64,
    pub(crate) deviation: f64,
    pub(crate) count: usize,
}

impl Histogram {
    /// Of all finite elements of a tensor; none if there are none.
    pub(crate) fn of(tensor: &Tensor, bins: usize) -> Option<Histogram> {
        let numbers: Vec<f64> = tensor
            .to_f64s()
            .into_iter()
            .filter(|x| x.is_finite())
            .collect();
        let min = numbers.iter().copied().reduce(f64::min)?;
        let max = numbers.iter().copied().reduce(f64::max)?;
        let width = (max - min) / bins as f64;
        let mut counts = vec![0; bins];
        for x in &numbers {
            // all in one bin if they are equal
            let bin = if width > 0.0 {
                ((x - min) / width) as usize
            } else {
                bins / 2
            };
            counts[bin.min(bins - 1)] += 1;
        }
        let count = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let squares = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        Some(Histogram {
            min,
            max,
            counts,
            mean,
            deviation: (squares / count).sqrt(),
            count: numbers.len(),
        })
    }

    /// With so many bins at most: fewer, if there are few elements.
    pub(crate) fn of_at_most(tensor: &Tensor, bins: usize) -> Option<Histogram> {
        Histogram::of(tensor, bins.min(tensor.len().isqrt().max(5)))
    }

    /// The bounds of the bins: one more than there are bins.
    pub(crate) fn bounds(&self) -> Vec<f64> {
        let bins = self.counts.len();
        // equal numbers have a bin of some width around them
        let margin = if self.max > self.min {
            0.0
        } else {
            self.min.abs().max(1e-9) * 0.5
        };
        let (min, max) = (self.min - margin, self.max + margin);
        let bound = |k: usize| min + (max - min) * k as f64 / bins as f64;
        (0..=bins).map(bound).collect()
    }
}

/// A parameter in the first step of an epoch.
#[derive(Clone, Debug)]
pub(crate) struct LayerSample {
    /// Its path.
    pub(crate) name: String,
    /// Its gradient, before the optimizer gets it.
    pub(crate) gradient: Tensor,
    /// The Euclidean norm of the gradient.
    pub(crate) norm: f64,
    /// The norm of the update over that of the weights; none before the step is done, and if all
    /// weights are 0.
    pub(crate) update_ratio: Option<f64>,
}

/// Takes the samples: once per epoch, in its first step, so that it costs nothing that one notices.
#[derive(Default)]
pub(crate) struct Sampler {
    /// The epoch of the last sample, counted from 0.
    epoch: Option<usize>,
    samples: Vec<LayerSample>,
    /// The weights before the step, until it is done.
    before: HashMap<String, Tensor>,
}

impl Sampler {
    /// To be called with the gradients of each step. A value that is looked at here is not computed
    /// again in the step, and the step gives the same bits.
    pub(crate) fn on_gradients(
        &mut self,
        context: &CallbackContext<'_>,
        gradients: &[Gradient<'_>],
    ) -> Result<()> {
        let epoch = context.history.len();
        if self.epoch == Some(epoch) {
            return Ok(());
        }
        self.epoch = Some(epoch);
        self.samples.clear();
        for d in gradients {
            let path = path_of(context.params, &d.param);
            // what cannot be computed is the step's to report
            let (Some(name), Ok(gradient)) = (path, d.gradient.value()) else {
                continue;
            };
            self.before.insert(name.clone(), d.param.value());
            self.samples.push(LayerSample {
                name,
                norm: norm(gradient.to_f64s()),
                gradient,
                update_ratio: None,
            });
        }
        Ok(())
    }

    /// To be called after each step; the samples, if it was the one that was looked at.
    pub(crate) fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Option<&[LayerSample]> {
        if self.before.is_empty() {
            return None;
        }
        let mut before = std::mem::take(&mut self.before);
        for sample in &mut self.samples {
            let param = context.params.iter().find(|(name, _)| *name == sample.name);
            let (Some((_, param)), Some(old)) = (param, before.remove(&sample.name)) else {
                continue;
            };
            let (old, new) = (old.to_f64s(), param.value().to_f64s());
            let size = norm(old.iter().copied());
            let update = norm(old.iter().zip(&new).map(|(a, b)| b - a));
            sample.update_ratio = (size > 0.0).then(|| update / size);
        }
        Some(&self.samples)
    }
}

fn path_of(params: &[(String, Param)], param: &Param) -> Option<String> {
    let found = params.iter().find(|(_, other)| other.id() == param.id());
    found.map(|(path, _)| path.clone())
}

fn norm(numbers: impl IntoIterator<Item = f64>) -> f64 {
    numbers.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn histograms_count_all_numbers() {
    let numbers = Tensor::from([0.0, 0.1, 0.9, 1.0, f64::NAN]);
    let histogram = Histogram::of(&numbers, 4).expect("numbers");
    assert_eq!(histogram.counts, [2, 0, 0, 2]);
    assert_eq!((histogram.count, histogram.bounds().len()), (4, 5));
    let equal = Histogram::of(&Tensor::from([3.0, 3.0]), 3).expect("numbers");
    assert_eq!(equal.counts, [0, 2, 0]);
    assert!(equal.bounds()[0] < 3.0 && equal.bounds()[3] > 3.0);
    assert_eq!(Histogram::of(&Tensor::from([f64::NAN]), 3), None);
}

#[test]
fn samples_are_those_of_the_first_step_of_an_epoch() {
    use nn::{Callback, ControlFlow, Dataset, Module, Sgd, Trainer};
    use std::sync::{Arc, Mutex};
    /// Keeps the samples, and the steps after which they came.
    #[derive(Default)]
    struct Look(Sampler, Arc<Mutex<Vec<(usize, LayerSample)>>>);
    impl Callback for Look {
        fn on_gradients(
            &mut self,
            context: &CallbackContext<'_>,
            gradients: &mut Vec<Gradient<'_>>,
        ) -> Result<()> {
            self.0.on_gradients(context, gradients)
        }
        fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
            let samples = self.0.on_step_end(context).unwrap_or_default();
            let samples = samples.iter().map(|s| (context.step, s.clone()));
            self.1.lock().expect("no panic").extend(samples);
            Ok(ControlFlow::Continue)
        }
    }
    let inputs = Tensor::new([20, 3], (0..60).map(|k| (k as f32).sin()).collect());
    let labels: Vec<i64> = (0..20).map(|k| k % 2).collect();
    let data = Dataset::new(inputs.expect("a tensor"), labels.into()).expect("a dataset");
    let model = nn::mlp(&[3, 2], nn::Activation::Relu, 1);
    let before = norm(model.parameters()[0].1.value().to_f64s());
    let look = Look::default();
    let found = look.1.clone();
    let mut trainer = Trainer::new(&model, Sgd::new(0.5))
        .epochs(2)
        .batch_size(5)
        .quiet();
    trainer = trainer.callback(look);
    trainer.fit(&data).expect("a training");
    let found = found.lock().expect("no panic");
    let steps: Vec<(usize, &str)> = found.iter().map(|(n, s)| (*n, s.name.as_str())).collect();
    let [weight, bias] = ["layers.0.weight", "layers.0.bias"];
    assert_eq!(steps, [(1, weight), (1, bias), (5, weight), (5, bias)]);
    // the update of plain gradient descent is the learning rate times the gradient
    let first = &found[0].1;
    let ratio = first.update_ratio.expect("weights other than 0");
    assert!(first.norm > 0.0 && (ratio - 0.5 * first.norm / before).abs() < 1e-6 * ratio);
}
