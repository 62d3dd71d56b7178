//! A readable form of a plan: kernels, fusion, memory, arithmetic.

use super::text::{counted, counts};
use crate::{
    error::{Error, Result},
    graph::Graph,
    index::Index,
    nodes::{NodeId, Program},
    op::Lowering,
    plan::{
        self, Placed,
        index::KernelId,
        kernel::{Kernel, Placement},
    },
    run::{
        fetch::{Fetch, vars},
        function::Function,
    },
    shape::Shape,
    tensor::{DType, Tensor, Type},
    var::Var,
};
use std::{fmt, ops::Range};

/// How values will be computed: returned by [`Graph::plan`] and
/// [`Function::plan`](crate::Function::plan).
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
    /// `fused`, `scalar`, `product` or `op`.
    pub kind: &'static str,
    /// The names of its operations, in order; each name once, with the number of occurrences.
    pub ops: Vec<(&'static str, usize)>,
    /// The type that it iterates over: the elements of a fused kernel, otherwise the output.
    pub over: Type,
    /// Bytes read from values.
    pub reads: usize,
    /// Bytes written to values.
    pub writes: usize,
    /// Arithmetic operations: a multiply-add counts as two, a function such as `exp` as one.
    pub flops: usize,
    /// Whether it belongs to the commit phase, which runs last because it updates parameters.
    pub commit: bool,
    /// The kernels that can run at the same time as this one, including itself, as positions in
    /// [`Plan::kernels`].
    pub stage: Range<usize>,
}

impl Plan {
    pub(crate) fn new(p: &Program, plan: &plan::Plan) -> Plan {
        let kernels = plan
            .kernels
            .indices()
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
            .filter(|v| matches!(v.placement, Placement::Arena(_)))
            .count();
        Plan {
            kernels,
            arena: plan.arena,
            inputs: plan.inputs.len(),
            values,
            in_place,
        }
    }

    /// The kernels in execution order.
    pub fn kernels(&self) -> &[KernelInfo] {
        &self.kernels
    }

    /// The size of the arena, the memory that holds all intermediate values. Values that are not
    /// needed at the same time share memory.
    pub fn arena_bytes(&self) -> usize {
        self.arena
    }

    /// The arithmetic operations of all kernels: see [`KernelInfo::flops`].
    pub fn flops(&self) -> usize {
        self.kernels
            .iter()
            .map(|k| k.flops)
            .fold(0, usize::saturating_add)
    }

    /// Kernels, fused groups, buffers, bytes and arithmetic, as a table. The same as its `Display`.
    pub fn explain(&self) -> String {
        self.to_string()
    }
}

/// The number of plans made by this process so far. For checking that a loop whose steps have the
/// same structure makes no plan after its first step.
///
/// ```
/// let step = |x: f64| autograd::grad(|x| x.sin())(&x);
/// step(0.1)?;
/// let before = autograd::plans_made();
/// step(0.2)?;
/// assert_eq!(autograd::plans_made(), before);
/// # Ok::<(), autograd::Error>(())
/// ```
pub fn plans_made() -> usize {
    plan::cache::made()
}

fn describe(p: &Program, plan: &plan::Plan, id: KernelId) -> KernelInfo {
    let (kernel, members) = (&plan.kernels[id], plan.members(id));
    let (mut reads, mut writes) = (0usize, 0usize);
    kernel.reads(|value| reads = reads.saturating_add(plan.values[value].bytes()));
    kernel.writes(|value| writes = writes.saturating_add(plan.values[value].bytes()));
    let mut over = match kernel {
        Kernel::Product { out, .. } | Kernel::Opaque { out, .. } => plan.ty(*out),
        Kernel::Fused(_) | Kernel::Scalar(_) => {
            members
                .first()
                .map_or(Type::new(DType::F64, Shape::SCALAR), |&id| {
                    // a kernel that begins with a reduction iterates over the reduced elements
                    let is_fold = matches!(p.op(id).lowering(), Lowering::Fold(..));
                    p.ty(if is_fold { p.args(id)[0] } else { id })
                })
        }
    };
    let kind = match kernel {
        Kernel::Fused(k) => {
            over.dtype = k.dtype;
            "fused"
        }
        Kernel::Scalar(k) => {
            over.dtype = k.dtype;
            "scalar"
        }
        Kernel::Product { .. } => "product",
        Kernel::Opaque { .. } => "op",
    };
    let stage = plan.stage_of(id);
    KernelInfo {
        kind,
        ops: counts(members.iter().map(|&id| p.op(id).name())),
        over,
        reads,
        writes,
        flops: members
            .iter()
            .map(|&id| flops(p, id))
            .fold(0, usize::saturating_add),
        commit: plan.commit_kernels().contains(&id),
        stage: stage.start.index()..stage.end.index(),
    }
}

/// One operation per element that an op iterates over; two per product of a matrix product.
fn flops(p: &Program, id: NodeId) -> usize {
    let count = |id: NodeId| p.shape(id).count();
    match p.op(id).lowering() {
        Lowering::MatMul => {
            let k = p.shape(p.args(id)[0]).last().copied().unwrap_or(0);
            (2 * count(id)).saturating_mul(k)
        }
        Lowering::Fold(..) => count(p.args(id)[0]),
        _ => count(id),
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
            "{}, {} arithmetic operations; {} read, {} in {} of memory, {} updated in place",
            count(self.kernels.len(), "kernel"),
            scaled(self.flops(), 1000, &["", "k", "M", "G", "T"]),
            count(self.inputs, "input"),
            count(self.values, "intermediate value"),
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
            let commit = if kernel.commit { " (commit)" } else { "" };
            let flops = scaled(kernel.flops, 1000, &["", "k", "M", "G", "T"]);
            let (over, reads, writes) = (
                kernel.over.to_string(),
                bytes(kernel.reads),
                bytes(kernel.writes),
            );
            writeln!(
                f,
                "{k:>4} {beside} {:<8} {over:<20} {reads:>9} {writes:>9} {flops:>9}  {}{commit}",
                kernel.kind,
                counted(&kernel.ops)
            )?;
        }
        if self.kernels.iter().any(|k| k.stage.len() > 1) {
            writeln!(
                f,
                "kernels in brackets run at the same time; large kernels are also split over threads"
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

impl<F, const N: usize, const M: usize> Function<F, N, M>
where
    F: for<'g> Fn([Var<'g>; N]) -> [Var<'g>; M],
{
    /// How inputs like these are worked on.
    pub fn plan<T: TryInto<Tensor, Error: Into<Error>>>(&self, inputs: [T; N]) -> Result<Plan> {
        self.with_plan(inputs, Plan::new)
    }
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

    /// What each pass of planning makes of these values and the scheduled updates, as text: the
    /// lowered graph, fusion groups, stages, the steps of each kernel, and where values are. For
    /// those who work on the planner, whose chapter [the engine](crate::docs::the_engine) explains
    /// it; the text may change at any time.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0, 3.0]);
    /// let passes = g.plan_passes(x.sin() * x)?;
    /// assert!(passes.contains("= sin(r0)"));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn plan_passes<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<String> {
        self.with_request(vars(&what), |request| {
            plan::dump::passes(request.program, request.wanted, request.updates)
        })
    }

    /// Breaks the plan for these values on purpose, one invariant after the other: how many could
    /// be broken, and those that the planner's checks did not notice. For tests, in debug builds.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    #[track_caller]
    pub fn undetected_plan_faults<'g, F: Fetch<'g>>(
        &'g self,
        what: F,
    ) -> Result<(usize, Vec<&'static str>)> {
        self.with_request(vars(&what), |request| {
            plan::faults::undetected(request.program, request.wanted, request.updates)
        })
    }
}
