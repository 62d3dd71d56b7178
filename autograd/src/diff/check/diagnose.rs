//! The cause of a disagreement: which element, which op, a wrong rule or a kink.

use super::{
    CheckGrads, Worst, dtype_of,
    program::{
        At, Program, Slopes, all_like, difference, dot, evaluate, gradients, one_hots, outputs_at,
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
pub(super) struct Disagreement {
    pub(super) position: Position,
    pub(super) analytic: f64,
    pub(super) numeric: f64,
}

/// Where a rule and finite differences disagree.
pub(super) enum Position {
    /// One element of an output by one element of an input.
    Element { output: At, input: At },
    /// This element of the gradient for a zero cotangent is not 0.
    Zero { input: At },
    /// This element of an output is not finite.
    Value { output: At },
    /// A weighted sum of all outputs along a direction of all inputs.
    Along { direction: Slopes, weights: Slopes },
}

/// The cause of a disagreement.
enum Cause {
    /// The function is smooth: the rule is wrong.
    Wrong,
    /// The function has a kink or a jump at this point: its slopes to the right and to the left.
    Kink(f64, f64),
    /// Differences with a smaller step agree with the rule.
    Steep,
    /// The function is not finite at this point or next to it.
    NotFinite,
}

/// The first element of the first tensor.
const FIRST: At = At {
    tensor: 0,
    element: 0,
};

/// Ops with more elements than this are checked along random directions.
const MAX_ELEMENTWISE: usize = 512;

impl CheckGrads {
    /// The error: which op it comes from, if a single one is the cause, and the two values.
    #[track_caller]
    pub(super) fn report(
        &self,
        program: &Program<'_>,
        inputs: &[Tensor],
        order: u32,
        found: Disagreement,
    ) -> Error {
        if let Some(failing_op) = self.failing_op(program, inputs, order) {
            return failing_op;
        }
        let cause = self.cause(program, inputs, &found);
        let what = describe(program, inputs, &found).unwrap_or_default();
        cause
            .explain(&what, &format!("order {order}"), wrong(order, &what))
            .at_caller("check_grads")
    }

    /// The first op of the program whose own rule disagrees with differences at the op's input
    /// values, where the function is smooth. If there is none, the first op that is not smooth
    /// there. Ops that are constant on purpose are only reported if nothing else is wrong.
    fn failing_op(&self, program: &Program<'_>, inputs: &[Tensor], order: u32) -> Option<Error> {
        let g = Graph::new();
        let x: Vec<Var<'_>> = inputs.iter().map(|x| g.input(x)).collect();
        (program.f)(&g, &x);
        let (mut constant, mut first) = (None, None);
        let nodes = g.inner.borrow().nodes.indices();
        for id in nodes {
            let Some(SingleOp {
                args,
                op,
                of,
                place,
                replaces,
                is_constant,
            }) = single(&g, id)
            else {
                continue;
            };
            let when = format!("found at order {order}{of}");
            let values = g.look(args.clone()).ok()?;
            if any(&values, f64::is_nan) {
                // the values from before this op are not finite, so that its rule cannot be tested
                continue;
            }
            let leaves = if replaces {
                leaf_values(&g, id)?
            } else {
                IndexVec::new()
            };
            let single_op = match replaces {
                false => Program::of(|g, x| vec![g.append_ref(op.clone(), x)], Vec::new()),
                true => Program::of(
                    |h, x| vec![replay(&g, h, id, &leaves, &args, x)],
                    Vec::new(),
                ),
            };
            let many = values.iter().map(Tensor::len).sum::<usize>() > MAX_ELEMENTWISE;
            let found = if many {
                self.compare_directions(&single_op, &values, 3)
            } else {
                self.compare_elements(&single_op, &values)
            };
            let Ok(Some(found)) = found else { continue };
            let cause = self.cause(&single_op, &values, &found);
            let what = describe(&single_op, &values, &found).unwrap_or_default();
            let is_wrong = OpError::new(format!("its derivative rule is wrong ({when}): {what}"));
            let e = cause.explain(&what, &when, is_wrong);
            let e = Error::new(op.get().name(), e, place);
            match cause {
                Cause::Wrong if is_constant => constant.get_or_insert(e),
                Cause::Wrong => return Some(e),
                _ => first.get_or_insert(e),
            };
        }
        constant.or(first)
    }

    /// Narrows a disagreement along a direction down to one element of an input and of an output,
    /// by repeatedly taking the half that disagrees more. If that element alone agrees, the
    /// direction itself is reported.
    pub(super) fn narrow(
        &self,
        program: &Program<'_>,
        inputs: &[Tensor],
        values: &[Tensor],
        found: Disagreement,
    ) -> Result<Disagreement> {
        let Position::Along { direction, weights } = &found.position else {
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
        worst.compare(dtype, analytic, *output.of(&numeric), || {
            Position::Element { output, input }
        });
        Ok(worst.found.unwrap_or(found))
    }

    /// Whether the function is smooth at the disagreement.
    fn cause(&self, program: &Program<'_>, inputs: &[Tensor], found: &Disagreement) -> Cause {
        let Ok(values) = evaluate(program, inputs) else {
            return Cause::NotFinite;
        };
        let (direction, weights, dtype, h) = match &found.position {
            Position::Value { .. } => return Cause::NotFinite,
            Position::Zero { .. } => return Cause::Wrong,
            &Position::Element { output, input } => {
                let x = &inputs[input.tensor];
                let direction = one_hots(inputs, Some(input));
                (
                    direction,
                    one_hots(&values, Some(output)),
                    x.dtype(),
                    self.step_at(x, input.element),
                )
            }
            Position::Along { direction, weights } => {
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
            outputs_at(program, inputs, &direction, t).map_or(f64::NAN, |all| dot(&all, &weights))
        };
        let at_x = dot(
            &values.iter().map(Tensor::to_f64s).collect::<Slopes>(),
            &weights,
        );
        let sides = |h: f64| ((value(h) - at_x) / h, (at_x - value(-h)) / h);
        let centre = |h: f64| (value(h) - value(-h)) / (2.0 * h);
        // for a smooth function both terms shrink with the step; at a kink the first stays, at a
        // jump the second grows
        let spread = |h: f64| {
            let (right, left) = sides(h);
            (right - left).abs() + (centre(h) - centre(h / 2.0)).abs()
        };
        let small = h / 64.0;
        let (wide, narrow) = (spread(h), spread(small));
        // a rule may have multiplied an infinite input by a zero cotangent
        let unknown = !found.analytic.is_finite() && any(inputs, f64::is_infinite);
        if unknown || !(at_x.is_finite() && wide.is_finite() && narrow.is_finite()) {
            return Cause::NotFinite;
        }
        let precision = if dtype == DType::F32 {
            f32::EPSILON.into()
        } else {
            f64::EPSILON
        };
        let noise = 64.0 * precision * at_x.abs().max(1.0) / small;
        if narrow > noise && narrow > wide / 4.0 {
            let (right, left) = sides(small);
            return Cause::Kink(right, left);
        }
        let (gap, at_small) = (
            (found.analytic - found.numeric).abs(),
            (found.analytic - centre(small)).abs(),
        );
        if at_small < gap / 16.0 {
            Cause::Steep
        } else {
            Cause::Wrong
        }
    }
}

impl Cause {
    /// The error for this cause. `wrong` is used if the rule is wrong.
    fn explain(&self, what: &str, when: &str, wrong: OpError) -> OpError {
        match self {
            Cause::Wrong => wrong,
            Cause::Kink(right, left) => OpError::new(format!(
                "probably not differentiable at this point ({when}): {what}; to the right the slope is {right:.6}, to the left {left:.6}"
            ))
            .hint("at a kink or a jump there is no derivative to compare with: check at other inputs"),
            Cause::Steep => OpError::new(format!("the differences are too coarse at this point ({when}): {what}"))
                .hint("with a smaller step they agree with the rule: there is a kink nearby, or much curvature; try .step(1e-5)"),
            Cause::NotFinite => OpError::new(format!("the function is not finite at this point ({when}): {what}"))
                .hint("at a pole or outside of its domain there is no derivative to compare with"),
        }
    }
}

/// A node as a program of its own.
struct SingleOp<'g> {
    /// The inputs of the check.
    args: Vec<Var<'g>>,
    op: OpRef,
    /// The op whose rule made this node, if any, as text.
    of: String,
    place: Place,
    /// Whether some inputs are computed from the checked ones: the value of a custom derivative, or
    /// a hint. Differences of the op alone would miss that dependency, so the nodes before it are
    /// recomputed.
    replaces: bool,
    /// It is taken as a constant, whatever it is computed from.
    is_constant: bool,
}

/// A node as a program of its own; `None` if it is a leaf or has no derivative.
fn single<'g>(g: &'g Graph, id: NodeId) -> Option<SingleOp<'g>> {
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
    let is_constant = (0..args.len()).all(|k| !types[k].dtype.is_float() || is_blind(k));
    let written_by = inner.rule_of(id);
    if is_constant && written_by.is_some_and(|of| matches!(inner.op_ref(of), OpRef::Builtin(_))) {
        return None; // built-in rules take these as constants on purpose
    }
    let counts = |k: &usize| !types[*k].dtype.is_float() || !is_blind(*k);
    let replaces = !is_constant && !(0..args.len()).all(|k| counts(&k));
    let args = if replaces {
        (0..args.len()).filter(counts).map(|k| args[k]).collect()
    } else {
        args
    };
    let of = written_by.map(|of| format!(", in the derivative of {}", inner.op(of).name()));
    let place = Place {
        inputs: types,
        ..inner.place_of(id)
    };
    Some(SingleOp {
        args,
        op,
        of: of.unwrap_or_default(),
        place,
        replaces,
        is_constant,
    })
}

/// By node, the values of the leaves up to a node.
fn leaf_values(g: &Graph, id: NodeId) -> Option<IndexVec<NodeId, Option<Tensor>>> {
    let leaves: Vec<NodeId> = each(NodeId::new(0)..id)
        .filter(|&k| !matches!(g.var(k).kind(), Kind::Op | Kind::Error))
        .collect();
    let values = g
        .look(leaves.iter().map(|&k| g.var(k)).collect::<Vec<_>>())
        .ok()?;
    let mut all = IndexVec::filled(None, id.index());
    leaves
        .into_iter()
        .zip(values)
        .for_each(|(k, v)| all[k] = Some(v));
    Some(all)
}

/// Copies the nodes of `g` up to one of them to another graph, with `x` in place of `args`.
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
            // no node with a value reads it
            _ if inner.nodes[k].kind == Kind::Error => h.constant(0.0),
            _ => {
                let inputs: Vec<Var<'h>> = inner.args(k).iter().map(|&a| copies[a]).collect();
                h.append_ref(inner.op_ref(k), &inputs)
            }
        });
    }
    copies[id]
}

/// Which element by which, and the two values.
fn describe(
    program: &Program<'_>,
    inputs: &[Tensor],
    Disagreement {
        position,
        analytic,
        numeric,
    }: &Disagreement,
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
    let what = match position {
        &Position::Value { output: at } => return Some(format!("{} is {analytic}", output(at)?)),
        Position::Zero { input } => {
            return Some(format!(
                "for a zero cotangent, {}: the rule gives {analytic}, not 0",
                program.name(input.tensor)
            ));
        }
        Position::Along { .. } => {
            "along a random direction of all inputs, but not by any single element".to_string()
        }
        &Position::Element { output: at, input } => {
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

/// The first element of an output that is not finite: such a value cannot be compared.
pub(super) fn not_finite(values: &[Tensor]) -> Option<Disagreement> {
    values.iter().enumerate().find_map(|(tensor, v)| {
        let numbers = v.to_f64s();
        let element = numbers.iter().position(|v| !v.is_finite())?;
        let output = At { tensor, element };
        Some(Disagreement {
            position: Position::Value { output },
            analytic: numbers[element],
            numeric: numbers[element],
        })
    })
}

/// Whether any element satisfies a condition.
fn any(tensors: &[Tensor], is: impl Fn(f64) -> bool) -> bool {
    tensors.iter().any(|x| x.to_f64s().into_iter().any(&is))
}

/// A gap that is not finite counts as the largest.
fn worse(gap: f64) -> f64 {
    if gap.is_nan() { f64::INFINITY } else { gap }
}

/// The first and the second half of the nonzero elements, if there are at least two.
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

/// The position of the first nonzero element.
fn place(all: &[Vec<f64>]) -> Option<At> {
    all.iter().enumerate().find_map(|(tensor, list)| {
        let element = list.iter().position(|&v| v != 0.0)?;
        Some(At { tensor, element })
    })
}
