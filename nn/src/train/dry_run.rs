//! A summary of the model and of one training step, without running it.

use autograd::{Param, Plan};
use std::fmt;

/// A summary of the model and of one training step, returned by
/// [`Trainer::dry_run`](crate::Trainer::dry_run). Its `Display` output shows layers with their
/// shapes, parameters, memory and arithmetic.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// The forward pass as text: one line per layer, with output shape and inputs.
    pub layers: String,
    /// The parameters and their paths.
    pub parameters: Vec<(String, Param)>,
    /// The execution plan of a step: kernels, memory for intermediate values, arithmetic.
    pub plan: Plan,
    /// The number of steps per epoch.
    pub steps_per_epoch: usize,
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}", self.layers)?;
        let width = self
            .parameters
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        let mut trainable = 0;
        for (name, param) in &self.parameters {
            let (ty, count) = (param.ty(), param.ty().shape.count());
            let kind = if param.is_trained() { "" } else { "  (buffer)" };
            trainable += if param.is_trained() { count } else { 0 };
            writeln!(
                f,
                "{name:<width$}  {:<16} {count:>10}{kind}",
                ty.to_string()
            )?;
        }
        let bytes: usize = self
            .parameters
            .iter()
            .map(|(_, p)| p.ty().shape.count() * p.ty().dtype.size())
            .sum();
        let (mib, gflop) = (
            |n: usize| n as f64 / (1 << 20) as f64,
            self.plan.flops() as f64 / 1e9,
        );
        writeln!(
            f,
            "\n{trainable} trainable parameters; parameters and buffers take {:.2} MiB",
            mib(bytes)
        )?;
        writeln!(
            f,
            "one step: {} kernels, {:.2} MiB for intermediate values, {gflop:.3} GFLOP; \
             {} steps per epoch",
            self.plan.kernels().len(),
            mib(self.plan.arena_bytes()),
            self.steps_per_epoch
        )
    }
}
