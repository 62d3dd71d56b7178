//! What a plan does, for people: kernels, what was fused, memory, arithmetic.

use super::text::{counted, counts};
use crate::{
    error::Result,
    exec::fetch::{Fetch, vars},
    graph::Graph,
    nodes::{Kind, Program},
    op::{Id, reduce},
    plan::{
        self, Placed,
        kernel::{Home, Kernel},
    },
    tensor::Type,
};
use std::{fmt, ops::Range};

/// How values are going to be computed: what [`Graph::plan`] and [`Function::plan`](crate::Function::plan) return.
#[derive(Clone, Debug)]
pub struct Plan {
    kernels: Vec<KernelInfo>,
    arena: usize,
    inputs: usize,
    values: usize,
    in_place: usize,
}

/// One kernel of a [`Plan`].
#[derive(Clone, Debug)]
pub struct KernelInfo {
    /// `fused`, `numbers`, `product` or `op`.
    pub kind: &'static str,
    /// The names of the operations that it does, in order; those of one name once, with their number.
    pub ops: Vec<(&'static str, usize)>,
    /// The type of what it works on: of a fused kernel its elements, otherwise the output's.
    pub over: Type,
    /// The bytes that it reads from values.
    pub reads: usize,
    /// The bytes that it writes to values.
    pub writes: usize,
    /// Arithmetic operations: a multiply-add counts as two, a function such as `exp` as one.
    pub flops: usize,
    /// It runs when everything else has, because it writes into parameters.
    pub late: bool,
    /// The kernels that can run at the same time as this one, itself included, as positions in [`Plan::kernels`].
    pub stage: Range<usize>,
}

impl Plan {
    pub(crate) fn new(p: &Program, plan: &plan::Plan) -> Plan {
        let kernels = (0..plan.kernels.len())
            .map(|k| describe(p, plan, k))
            .collect();
        let in_place = plan
            .updates
            .iter()
            .filter(|u| u.placed == Placed::InPlace)
            .count();
        let values = plan
            .values
            .iter()
            .filter(|v| matches!(v.home, Home::Arena(_)))
            .count();
        Plan {
            kernels,
            arena: plan.arena,
            inputs: plan.inputs.len(),
            values,
            in_place,
        }
    }

    /// The kernels, in the order in which they run.
    pub fn kernels(&self) -> &[KernelInfo] {
        &self.kernels
    }

    /// The bytes of the one piece of memory in which values wait between kernels, by who is alive when.
    pub fn arena_bytes(&self) -> usize {
        self.arena
    }

    /// The arithmetic of all kernels: see [`KernelInfo::flops`].
    pub fn flops(&self) -> usize {
        self.kernels
            .iter()
            .map(|k| k.flops)
            .fold(0, usize::saturating_add)
    }

    /// Kernels, fused groups, buffers, bytes and arithmetic, as a table. The same as printing it.
    pub fn explain(&self) -> String {
        self.to_string()
    }
}

/// How many plans this process has made so far. A loop whose steps have the same structure makes none after its first: to see
/// whether that is so.
///
/// ```
/// let step = |x: f64| autograd::grad(|x| x.sin())(x);
/// step(0.1)?;
/// let before = autograd::plans_made();
/// step(0.2)?;
/// assert_eq!(autograd::plans_made(), before);
/// # Ok::<(), autograd::Error>(())
/// ```
pub fn plans_made() -> usize {
    plan::cache::made()
}

fn describe(p: &Program, plan: &plan::Plan, k: usize) -> KernelInfo {
    let members = plan.members(k);
    let bytes = |value: u32| {
        let value = &plan.values[value as usize];
        value.count * value.dtype.size()
    };
    let first = members.first().copied().unwrap_or(0);
    let mut over = p.ty(first);
    let mut reads = 0;
    plan.kernels[k].reads(|value| reads = bytes(value).saturating_add(reads));
    let (kind, writes) = match &plan.kernels[k] {
        Kernel::Fused(f) => {
            if p.op(first).as_any().is::<reduce::Sum>() {
                over = p.ty(p.args(first)[0]);
            }
            over.dtype = f.dtype;
            let outputs = f
                .outputs
                .iter()
                .map(|o| o.value)
                .chain(f.sums.iter().map(|s| s.value));
            let outputs = outputs.chain(f.products.iter().filter_map(|p| p.out));
            ("fused", outputs.map(bytes).fold(0, usize::saturating_add))
        }
        Kernel::Flat(f) => {
            over.dtype = f.dtype;
            ("numbers", f.stores.iter().map(|s| bytes(s.1)).sum())
        }
        Kernel::Product { out, .. } => ("product", bytes(out.value)),
        Kernel::Op { out, .. } => ("op", bytes(out.value)),
    };
    let ops = members
        .iter()
        .filter(|&&id| p.nodes[id as usize].kind == Kind::Op);
    let ops = counts(ops.map(|&id| p.op(id).name()));
    let flops = members
        .iter()
        .map(|&id| work(p, id))
        .fold(0, usize::saturating_add);
    KernelInfo {
        kind,
        ops,
        over,
        reads,
        writes,
        flops,
        late: k >= plan.late,
        stage: plan.stage(k),
    }
}

/// One operation for each element that an op looks at; two for each product of a matrix product.
fn work(p: &Program, id: u32) -> usize {
    let count = |id: u32| p.ty(id).shape.count();
    if p.nodes[id as usize].op == Id::MatMul as u32 {
        return (2 * count(id))
            .saturating_mul(p.ty(p.args(id)[0]).shape.last().copied().unwrap_or(0));
    }
    if p.op(id).as_any().is::<reduce::Sum>() {
        count(p.args(id)[0])
    } else {
        count(id)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let count = |n: usize, what: &str| {
            if n == 1 {
                format!("1 {what}")
            } else {
                format!("{n} {what}s")
            }
        };
        writeln!(
            f,
            "{}, {} arithmetic operations; {} read, {} in between in {} of memory, {} updated in place",
            count(self.kernels.len(), "kernel"),
            scaled(self.flops(), 1000, &["", "k", "M", "G", "T"]),
            count(self.inputs, "input"),
            count(self.values, "value"),
            bytes(self.arena),
            count(self.in_place, "parameter"),
        )?;
        writeln!(
            f,
            "{:>4}   {:<8} {:<20} {:>9} {:>9} {:>9}  operations",
            "", "kernel", "over", "reads", "writes", "flop"
        )?;
        for (k, kernel) in self.kernels.iter().enumerate() {
            let beside = match k {
                _ if kernel.stage.len() == 1 => ' ',
                k if k == kernel.stage.start => '┌',
                k if k + 1 == kernel.stage.end => '└',
                _ => '│',
            };
            let late = if kernel.late { " (last)" } else { "" };
            let flops = scaled(kernel.flops, 1000, &["", "k", "M", "G", "T"]);
            let (over, reads, writes) = (
                kernel.over.to_string(),
                bytes(kernel.reads),
                bytes(kernel.writes),
            );
            writeln!(
                f,
                "{k:>4} {beside} {:<8} {over:<20} {reads:>9} {writes:>9} {flops:>9}  {}{late}",
                kernel.kind,
                counted(&kernel.ops)
            )?;
        }
        if self.kernels.iter().any(|k| k.stage.len() > 1) {
            writeln!(
                f,
                "kernels in brackets run side by side; large ones are split as well"
            )?;
        }
        Ok(())
    }
}

fn bytes(n: usize) -> String {
    scaled(n, 1024, &[" B", " KiB", " MiB", " GiB"])
}

fn scaled(n: usize, step: usize, units: &[&str]) -> String {
    let (mut value, mut unit) = (n as f64, 0);
    while value >= step as f64 && unit + 1 < units.len() {
        value /= step as f64;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$}{}", units[unit])
}

impl Graph {
    /// How these values and the scheduled updates would be computed, without computing anything.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0, 3.0]);
    /// let y = (x.sin() * x).sum();
    /// let plan = g.plan((y, g.grads(y, &[x])))?;
    /// assert_eq!(plan.kernels().len(), 1);        // value and gradient: one pass over x
    /// println!("{}", plan.explain());
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn plan<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<Plan> {
        self.with_plan(vars(&what), |planned| {
            Plan::new(planned.program(), planned.plan())
        })
    }
}
