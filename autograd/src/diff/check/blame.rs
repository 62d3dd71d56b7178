//! What a disagreement comes from: which element, which op, a wrong rule or a kink.

use super::{
    CheckGrads, Worst, dtype_of,
    program::{
        At, Program, Slopes, all_like, difference, dot, evaluate, gradients, moved, one_hots,
    },
    wrong,
};
use crate::{
    error::{Error, OpError, Place, Result},
    graph::Graph,
    index::{Index, IndexVec, each},
    nodes::{Kind, NodeId, OpRef},
    op::Dependency,
    tensor::{DType, Tensor, Type},
    var::Var,
};

/// The worst disagreement of one check.
pub(super) struct Found {
    pub(super) spot: Spot,
    pub(super) analytic: f64,
    pub(super) numeric: f64,
}

/// Where a rule and differences disagree.
pub(super) enum Spot {
    /// One element of an output by one of an input.
    Element { output: At, input: At },
    /// This element of the gradient for a cotangent of zero.
    Zero { input: At },
    /// This element of an output is not finite.
    Value { output: At },
    /// A weighted sum of all outputs along a direction of all inputs.
    Along { direction: Slopes, weights: Slopes },
}

/// What lies behind a disagreement.
enum Nature {
    /// The function is smooth: the rule is wrong.
    Wrong,
    /// The function has a kink or a jump here: its slopes to the right and to the left.
    Kink(f64, f64),
    /// Differences with a smaller step agree with the rule.
    Steep,
    /// The function is not finite here or next to it.
    NotFinite,
}

/// The first element of all.
const FIRST: At = At {
    tensor: 0,
    element: 0,
};

/// Above this many elements an op is checked along directions.
const MANY: usize = 512;

impl CheckGrads {
    /// The error: which op it comes from, if a single one can be blamed, and the two numbers.
    #[track_caller]
    pub(super) fn report(
        &self,
        program: &Program<'_>,
        inputs: &[Tensor],
        order: u32,
        found: Found,
    ) -> Error {
        if let Some(culprit) = self.culprit(program, inputs, order) {
            return culprit;
        }
        let nature = self.nature(program, inputs, &found);
        let what = describe(program, inputs, &found).unwrap_or_default();
        nature
            .explain(&what, &format!("order {order}"), wrong(order, &what))
            .at_caller("check_grads")
    }

    /// The first op of the program whose own rule disagrees with differences of a smooth function, at the values it has
    /// there; or else the first that is not smooth there. What is taken as a constant on purpose is named only if nothing
    /// else is wrong.
    fn culprit(&self, program: &Program<'_>, inputs: &[Tensor], order: u32) -> Option<Error> {
        let g = Graph::new();
        let x: Vec<Var<'_>> = inputs.iter().map(|x| g.input(x)).collect();
        (program.f)(&g, &x);
        let (mut cut, mut first) = (None, None);
        let nodes = g.inner.borrow().nodes.indices();
        for id in nodes {
            let Some(Single {
                args,
                op,
                of,
                place,
                replaces,
                cuts,
            }) = single(&g, id)
            else {
                continue;
            };
            let when = format!("found at order {order}{of}");
            let values = g.evaluate(args.clone()).ok()?;
            if any(&values, f64::is_nan) {
                continue; // they come from before this op, and nothing can be said of its rule
            }
            let leaves = if replaces {
                leaf_values(&g, id)?
            } else {
                IndexVec::new()
            };
            let alone = match replaces {
                false => Program::of(|g, x| vec![g.append_ref(op.clone(), x)], Vec::new()),
                true => Program::of(
                    |h, x| vec![replay(&g, h, id, &leaves, &args, x)],
                    Vec::new(),
                ),
            };
            let many = values.iter().map(Tensor::len).sum::<usize>() > MANY;
            let found = if many {
                self.along(&alone, &values, 3)
            } else {
                self.elements(&alone, &values)
            };
            let Ok(Some(found)) = found else { continue };
            let nature = self.nature(&alone, &values, &found);
            let what = describe(&alone, &values, &found).unwrap_or_default();
            let is_wrong = OpError::new(format!("its derivative rule is wrong ({when}): {what}"));
            let e = nature.explain(&what, &when, is_wrong);
            let e = Error::new(op.get().name(), e, place);
            match nature {
                Nature::Wrong if cuts => cut.get_or_insert(e),
                Nature::Wrong => return Some(e),
                _ => first.get_or_insert(e),
            };
        }
        cut.or(first)
    }

    /// Narrows a disagreement along a direction down to one element of an input and of an output: of two halves always the
    /// one that disagrees more. If that element agrees by itself, the direction is what is left to report.
    pub(super) fn narrow(
        &self,
        program: &Program<'_>,
        inputs: &[Tensor],
        values: &[Tensor],
        found: Found,
    ) -> Result<Found> {
        let Spot::Along { direction, weights } = &found.spot else {
            return Ok(found);
        };
        let (mut direction, mut u) = (direction.clone(), weights.clone());
        let dtype = dtype_of(inputs);
        let by_rule = gradients(program, inputs, &all_like(values, &u)?)?;
        let gap = |d: &[Vec<f64>]| -> Result<f64> {
            let numeric = dot(&difference(program, inputs, d, self.step_for(dtype))?, &u);
            Ok(worse((dot(&by_rule, d) - numeric).abs()))
        };
        while let Some((a, b)) = halves(&direction) {
            direction = if gap(&a)? >= gap(&b)? { a } else { b };
        }
        let input = place(&direction).unwrap_or(FIRST);
        let numeric = self.column(program, inputs, input)?;
        let by_rule = |u: &[Vec<f64>]| -> Result<f64> {
            Ok(*input.of(&gradients(program, inputs, &all_like(values, u)?)?))
        };
        let gap =
            |u: &[Vec<f64>]| -> Result<f64> { Ok(worse((by_rule(u)? - dot(&numeric, u)).abs())) };
        while let Some((a, b)) = halves(&u) {
            u = if gap(&a)? >= gap(&b)? { a } else { b };
        }
        let output = place(&u).unwrap_or(FIRST);
        let mut worst = Worst::new(self);
        let analytic = by_rule(&one_hots(values, Some(output)))?;
        worst.see(dtype, analytic, *output.of(&numeric), || Spot::Element {
            output,
            input,
        });
        Ok(worst.found.unwrap_or(found))
    }

    /// Whether the function is smooth where it disagrees.
    fn nature(&self, program: &Program<'_>, inputs: &[Tensor], found: &Found) -> Nature {
        let Ok(values) = evaluate(program, inputs) else {
            return Nature::NotFinite;
        };
        let (direction, weights, dtype, h) = match &found.spot {
            Spot::Value { .. } => return Nature::NotFinite,
            Spot::Zero { .. } => return Nature::Wrong,
            &Spot::Element { output, input } => {
                let x = &inputs[input.tensor];
                let direction = one_hots(inputs, Some(input));
                (
                    direction,
                    one_hots(&values, Some(output)),
                    x.dtype(),
                    self.step_at(x, input.element),
                )
            }
            Spot::Along { direction, weights } => {
                let dtype = dtype_of(inputs);
                (
                    direction.clone(),
                    weights.clone(),
                    dtype,
                    self.step_for(dtype),
                )
            }
        };
        let value = |t: f64| {
            moved(program, inputs, &direction, t).map_or(f64::NAN, |all| dot(&all, &weights))
        };
        let here = dot(
            &values.iter().map(Tensor::to_f64s).collect::<Slopes>(),
            &weights,
        );
        let sides = |h: f64| ((value(h) - here) / h, (here - value(-h)) / h);
        let centre = |h: f64| (value(h) - value(-h)) / (2.0 * h);
        // of a smooth function both terms shrink with the step, at a kink the first stays, at a jump the second grows
        let spread = |h: f64| {
            let (right, left) = sides(h);
            (right - left).abs() + (centre(h) - centre(h / 2.0)).abs()
        };
        let small = h / 64.0;
        let (wide, narrow) = (spread(h), spread(small));
        // a rule may have multiplied an infinite input by a cotangent of 0
        let unknown = !found.analytic.is_finite() && any(inputs, f64::is_infinite);
        if unknown || !(here.is_finite() && wide.is_finite() && narrow.is_finite()) {
            return Nature::NotFinite;
        }
        let precision = if dtype == DType::F32 {
            f32::EPSILON.into()
        } else {
            f64::EPSILON
        };
        let noise = 64.0 * precision * here.abs().max(1.0) / small;
        if narrow > noise && narrow > wide / 4.0 {
            let (right, left) = sides(small);
            return Nature::Kink(right, left);
        }
        let (gap, at_small) = (
            (found.analytic - found.numeric).abs(),
            (found.analytic - centre(small)).abs(),
        );
        if at_small < gap / 16.0 {
            Nature::Steep
        } else {
            Nature::Wrong
        }
    }
}

impl Nature {
    /// The error for this nature: `wrong` if the rule is, otherwise what it is instead.
    fn explain(&self, what: &str, when: &str, wrong: OpError) -> OpError {
        match self {
            Nature::Wrong => wrong,
            Nature::Kink(right, left) => OpError::new(format!(
                "probably not differentiable here ({when}): {what}; to the right the slope is {right:.6}, to the left {left:.6}"
            ))
            .hint("at a kink or a jump there is no derivative to compare with: check at other inputs"),
            Nature::Steep => OpError::new(format!("the differences are too coarse here ({when}): {what}"))
                .hint("with a smaller step they agree with the rule: there is a kink nearby, or much curvature; try .step(1e-5)"),
            Nature::NotFinite => OpError::new(format!("the function is not finite here ({when}): {what}"))
                .hint("at a pole or outside of its domain there is no derivative to compare with"),
        }
    }
}

/// A node as an op by itself.
struct Single<'g> {
    /// What it is differentiated by.
    args: Vec<Var<'g>>,
    op: OpRef,
    /// The op whose rule wrote it, if one did, in words.
    of: String,
    place: Place,
    /// Of its inputs some are computed from the others, by which it is differentiated: its value (of a custom derivative), or a
    /// hint. Differences of the op alone would see nothing of that, so what leads to it is computed again.
    replaces: bool,
    /// It is a constant to all that it is computed from.
    cuts: bool,
}

/// A node by itself; none if it is a leaf or has no derivative.
fn single<'g>(g: &'g Graph, id: NodeId) -> Option<Single<'g>> {
    let inner = g.inner.borrow();
    let node = &inner.nodes[id];
    let args: Vec<Var<'g>> = inner.args(id).iter().map(|&a| g.var(a)).collect();
    let varies = |a: &Var<'g>| inner.nodes[a.id].dtype.is_float();
    if node.kind != Kind::Op || !node.dtype.is_float() || !args.iter().any(varies) {
        return None;
    }
    let types: Vec<Type> = args.iter().map(|a| inner.ty(a.id)).collect();
    let op = inner.op_ref(id);
    let is_blind = |k| op.get().dependency(k, &types) == Dependency::None;
    let cuts = (0..args.len()).all(|k| !types[k].dtype.is_float() || is_blind(k));
    let written_by = inner.rule_of(id);
    if cuts && written_by.is_some_and(|of| matches!(inner.op_ref(of), OpRef::Builtin(_))) {
        return None; // built-in rules know what they take as a constant
    }
    let counts = |k: &usize| !types[*k].dtype.is_float() || !is_blind(*k);
    let replaces = !cuts && !(0..args.len()).all(|k| counts(&k));
    let args = if replaces {
        (0..args.len()).filter(counts).map(|k| args[k]).collect()
    } else {
        args
    };
    let of = written_by.map(|of| format!(", in the derivative of {}", inner.op(of).name()));
    let place = Place {
        inputs: types,
        ..inner.place(node.scope, node.source)
    };
    Some(Single {
        args,
        op,
        of: of.unwrap_or_default(),
        place,
        replaces,
        cuts,
    })
}

/// By node, the values of the leaves up to a node.
fn leaf_values(g: &Graph, id: NodeId) -> Option<IndexVec<NodeId, Option<Tensor>>> {
    let leaves: Vec<NodeId> = each(NodeId::new(0)..id)
        .filter(|&k| !matches!(g.var(k).kind(), Kind::Op | Kind::Error))
        .collect();
    let values = g
        .evaluate(leaves.iter().map(|&k| g.var(k)).collect::<Vec<_>>())
        .ok()?;
    let mut all = IndexVec::filled(None, id.index());
    leaves
        .into_iter()
        .zip(values)
        .for_each(|(k, v)| all[k] = Some(v));
    Some(all)
}

/// Writes the nodes of `g` up to one of them into another graph, with `x` for `args` wherever they are read.
fn replay<'h>(
    g: &Graph,
    h: &'h Graph,
    id: NodeId,
    leaves: &IndexVec<NodeId, Option<Tensor>>,
    args: &[Var<'_>],
    x: &[Var<'h>],
) -> Var<'h> {
    let inner = g.inner.borrow();
    let mut copies: IndexVec<NodeId, Var<'h>> = IndexVec::new();
    for k in each(NodeId::new(0)..id.next()) {
        let given = args.iter().position(|a| a.id == k);
        copies.push(match (given, leaves.get(k)) {
            (Some(given), _) => x[given],
            (None, Some(Some(value))) => h.constant(value),
            // nothing that has a value reads it
            _ if inner.nodes[k].kind == Kind::Error => h.constant(0.0),
            _ => {
                let inputs: Vec<Var<'h>> = inner.args(k).iter().map(|&a| copies[a]).collect();
                h.append_ref(inner.op_ref(k), &inputs)
            }
        });
    }
    copies[id]
}

/// Which element by which, and the two numbers.
fn describe(
    program: &Program<'_>,
    inputs: &[Tensor],
    Found {
        spot,
        analytic,
        numeric,
    }: &Found,
) -> Option<String> {
    let output = |at: At| {
        let values = evaluate(program, inputs).ok()?;
        let output = if values.len() == 1 {
            "the output".to_string()
        } else {
            format!("output {}", at.tensor)
        };
        Some(format!(
            "element {} of {output}",
            values[at.tensor].shape.index_of(at.element)
        ))
    };
    let what = match spot {
        &Spot::Value { output: at } => return Some(format!("{} is {analytic}", output(at)?)),
        Spot::Zero { input } => {
            return Some(format!(
                "for a zero cotangent, {}: the rule gives {analytic}, not 0",
                program.name(input.tensor)
            ));
        }
        Spot::Along { .. } => {
            "along a random direction of all inputs, though not by any one element".to_string()
        }
        &Spot::Element { output: at, input } => {
            format!(
                "{} by element {} of {}",
                output(at)?,
                inputs[input.tensor].shape.index_of(input.element),
                program.name(input.tensor)
            )
        }
    };
    Some(format!(
        "{what}: the rule gives {analytic}, differences give {numeric}"
    ))
}

/// The first element of an output that is not finite: there is nothing to compare.
pub(super) fn not_finite(values: &[Tensor]) -> Option<Found> {
    values.iter().enumerate().find_map(|(tensor, v)| {
        let numbers = v.to_f64s();
        let element = numbers.iter().position(|v| !v.is_finite())?;
        let output = At { tensor, element };
        Some(Found {
            spot: Spot::Value { output },
            analytic: numbers[element],
            numeric: numbers[element],
        })
    })
}

/// Whether this holds for any element.
fn any(tensors: &[Tensor], is: impl Fn(f64) -> bool) -> bool {
    tensors.iter().any(|x| x.to_f64s().into_iter().any(&is))
}

/// What is not finite disagrees most.
fn worse(gap: f64) -> f64 {
    if gap.is_nan() { f64::INFINITY } else { gap }
}

/// The first and the second half of the numbers that are not zero, if there are at least two.
fn halves(all: &[Vec<f64>]) -> Option<(Slopes, Slopes)> {
    let count = all.iter().flatten().filter(|&&v| v != 0.0).count();
    let part = |keep: &dyn Fn(usize) -> bool| {
        let mut seen = 0;
        let mut take = |v: f64| {
            seen += usize::from(v != 0.0);
            if v != 0.0 && keep(seen - 1) { v } else { 0.0 }
        };
        all.iter()
            .map(|list| list.iter().map(|&v| take(v)).collect())
            .collect()
    };
    (count > 1).then(|| (part(&|k| k < count / 2), part(&|k| k >= count / 2)))
}

/// Where the first number is that is not zero.
fn place(all: &[Vec<f64>]) -> Option<At> {
    all.iter().enumerate().find_map(|(tensor, list)| {
        let element = list.iter().position(|&v| v != 0.0)?;
        Some(At { tensor, element })
    })
}
