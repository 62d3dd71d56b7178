//! Groups of parameters with optimizers of their own.

use super::{Gradient, Optimizer};
use crate::{error::Result, module::Module};
use autograd::Param;
use std::collections::HashMap;

/// Several optimizers, each for its own parameters.
///
/// ```
/// use nn::{Activation, AdamW, Groups, Module, Optimizer, Sgd};
/// let (body, head) = (nn::mlp(&[8, 16], Activation::Relu, 1), nn::mlp(&[16, 2], Activation::Relu, 2));
/// // no decay for biases, a rate of its own for the head
/// let biases: Vec<_> = body.parameters().into_iter().filter(|(name, _)| name.ends_with("bias")).collect();
/// let optimizer = Groups::new(AdamW::new(1e-3))
///     .params(&biases, AdamW::new(1e-3).weight_decay(0.0))
///     .module(&head, Sgd::new(0.1));
/// optimizer.check()?;
/// # Ok::<(), nn::Error>(())
/// ```
pub struct Groups {
    /// For all parameters that are in no group.
    rest: Box<dyn Optimizer>,
    groups: Vec<(Vec<Param>, Box<dyn Optimizer>)>,
    /// By parameter: the number of its group. The groups hold the parameters, so that no other one gets its number.
    places: HashMap<usize, usize>,
}

impl Groups {
    /// With an optimizer for all parameters that are in none of the groups to come.
    pub fn new(rest: impl Optimizer + 'static) -> Groups {
        Groups {
            rest: Box::new(rest),
            groups: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// A group of these parameters. One that is in several belongs to the first.
    pub fn params(
        mut self,
        params: &[(String, Param)],
        optimizer: impl Optimizer + 'static,
    ) -> Groups {
        for (_, param) in params {
            self.places.entry(param.id()).or_insert(self.groups.len());
        }
        self.groups.push((
            params.iter().map(|(_, p)| p.clone()).collect(),
            Box::new(optimizer),
        ));
        self
    }

    /// A group of all parameters of a module.
    pub fn module(
        self,
        module: &(impl Module + ?Sized),
        optimizer: impl Optimizer + 'static,
    ) -> Groups {
        self.params(&module.parameters(), optimizer)
    }

    /// The number of the group that a parameter is in; the number of groups if it is in none.
    fn place(&self, param: &Param) -> usize {
        self.places
            .get(&param.id())
            .copied()
            .unwrap_or(self.groups.len())
    }

    fn optimizers(&self) -> impl Iterator<Item = &dyn Optimizer> {
        self.groups
            .iter()
            .map(|(_, optimizer)| &**optimizer)
            .chain([&*self.rest])
    }
}

impl Optimizer for Groups {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, scale: f64) {
        let mut parts: Vec<Vec<Gradient<'_>>> = Vec::new();
        parts.resize_with(self.groups.len() + 1, Vec::new);
        gradients
            .into_iter()
            .for_each(|d| parts[self.place(&d.param)].push(d));
        parts
            .into_iter()
            .zip(self.optimizers())
            .for_each(|(part, optimizer)| optimizer.update(part, scale));
    }

    fn check(&self) -> Result<()> {
        self.optimizers().try_for_each(Optimizer::check)
    }

    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        let mut all = Vec::new();
        for (k, optimizer) in self.optimizers().enumerate() {
            let own: Vec<(String, Param)> = params
                .iter()
                .filter(|(_, p)| self.place(p) == k)
                .cloned()
                .collect();
            all.extend(
                optimizer
                    .state(&own)?
                    .into_iter()
                    .map(|(name, p)| (format!("group{k}.{name}"), p)),
            );
        }
        Ok(all)
    }
}
