//! Parameter groups.

use super::{Gradient, Optimizer};
use crate::{error::Result, module::Module};
use autograd::{Graph, Param};
use std::collections::HashMap;

/// Parameter groups: a different optimizer, or different settings, for each group of parameters.
///
/// ```
/// use nn::{Activation, AdamW, Module, Optimizer, ParamGroups, Sgd};
/// let body = nn::mlp(&[8, 16], Activation::Relu, 1);
/// let head = nn::mlp(&[16, 2], Activation::Relu, 2);
/// // no weight decay for biases, and another optimizer for the head
/// let mut biases = body.parameters();
/// biases.retain(|(name, _)| name.ends_with("bias"));
/// let optimizer = ParamGroups::new(AdamW::new(1e-3))
///     .params(&biases, AdamW::new(1e-3).weight_decay(0.0))
///     .module(&head, Sgd::new(0.1));
/// optimizer.check()?;
/// # Ok::<(), nn::Error>(())
/// ```
pub struct ParamGroups {
    /// The optimizer for all parameters that are in no group.
    default: Box<dyn Optimizer>,
    groups: Vec<(Vec<Param>, Box<dyn Optimizer>)>,
    /// The index of the group of each parameter, by parameter id. The groups hold the parameters,
    /// so their ids are not reused.
    group_indices: HashMap<usize, usize>,
}

impl ParamGroups {
    /// `default`: the optimizer for all parameters that are in no group.
    pub fn new(default: impl Optimizer + 'static) -> ParamGroups {
        ParamGroups {
            default: Box::new(default),
            groups: Vec::new(),
            group_indices: HashMap::new(),
        }
    }

    /// Adds a group with these parameters. If a parameter is in several groups, the first one
    /// counts.
    pub fn params(
        mut self,
        params: &[(String, Param)],
        optimizer: impl Optimizer + 'static,
    ) -> ParamGroups {
        for (_, param) in params {
            self.group_indices
                .entry(param.id())
                .or_insert(self.groups.len());
        }
        self.groups.push((
            params.iter().map(|(_, p)| p.clone()).collect(),
            Box::new(optimizer),
        ));
        self
    }

    /// Adds a group with all parameters of a module.
    pub fn module(
        self,
        module: &(impl Module + ?Sized),
        optimizer: impl Optimizer + 'static,
    ) -> ParamGroups {
        self.params(&module.parameters(), optimizer)
    }

    /// The index of the group of a parameter; the number of groups if it is in none.
    fn group_index(&self, param: &Param) -> usize {
        self.group_indices
            .get(&param.id())
            .copied()
            .unwrap_or(self.groups.len())
    }

    /// The parameters of a group.
    fn of_group(&self, k: usize, params: &[(String, Param)]) -> Vec<(String, Param)> {
        let group = params.iter().filter(|(_, p)| self.group_index(p) == k);
        group.cloned().collect()
    }

    fn optimizers(&self) -> impl Iterator<Item = &dyn Optimizer> {
        self.groups
            .iter()
            .map(|(_, optimizer)| &**optimizer)
            .chain([&*self.default])
    }
}

impl Optimizer for ParamGroups {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, lr_scale: f64) {
        let mut by_group: Vec<Vec<Gradient<'_>>> = Vec::new();
        by_group.resize_with(self.groups.len() + 1, Vec::new);
        gradients
            .into_iter()
            .for_each(|d| by_group[self.group_index(&d.param)].push(d));
        by_group
            .into_iter()
            .zip(self.optimizers())
            .for_each(|(group, optimizer)| optimizer.update(group, lr_scale));
    }

    #[track_caller]
    fn flush(&self, g: &Graph, params: &[(String, Param)], lr_scale: f64) -> bool {
        let flush = |(k, optimizer): (usize, &dyn Optimizer)| {
            optimizer.flush(g, &self.of_group(k, params), lr_scale)
        };
        // all of them, not only up to the first one that has something
        self.optimizers()
            .enumerate()
            .map(flush)
            .fold(false, |a, b| a | b)
    }

    /// That of the parameters that are in no group.
    fn learning_rate(&self) -> Option<f64> {
        self.default.learning_rate()
    }

    fn check(&self) -> Result<()> {
        self.optimizers().try_for_each(Optimizer::check)
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        let mut all = Vec::new();
        for (k, optimizer) in self.optimizers().enumerate() {
            all.extend(
                optimizer
                    .state(&self.of_group(k, params))?
                    .into_iter()
                    .map(|(name, p)| (format!("group{k}.{name}"), p)),
            );
        }
        Ok(all)
    }
}
