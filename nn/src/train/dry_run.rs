//! What a training step would be, without running it.

use autograd::{Param, Plan};
use std::fmt;

/// A step of a training that is not run: what [`Trainer::dry_run`](crate::Trainer::dry_run) returns. Printed, it shows layers
/// with their shapes, parameters, memory and arithmetic.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// The forward pass, a line a layer: what it makes, and of what.
    pub layers: String,
    /// The parameters, by path.
    pub parameters: Vec<(String, Param)>,
    /// How the step would be computed: kernels, memory between them, arithmetic.
    pub plan: Plan,
    /// The steps of an epoch.
    pub steps: usize,
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
        let mut trained = 0;
        for (name, param) in &self.parameters {
            let (ty, count) = (param.ty(), param.ty().shape.count());
            let kind = if param.is_trained() { "" } else { "  (buffer)" };
            trained += if param.is_trained() { count } else { 0 };
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
            "\n{trained} numbers are trained; parameters take {:.2} MiB",
            mib(bytes)
        )?;
        writeln!(
            f,
            "a step: {} kernels, {:.2} MiB between them, {gflop:.3} GFLOP; {} steps an epoch",
            self.plan.kernels().len(),
            mib(self.plan.arena_bytes()),
            self.steps
        )
    }
}
