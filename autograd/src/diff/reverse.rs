//! Reverse mode: one backward pass over the list of nodes.
//!
//! [`sweep`] appends the nodes that compute cotangents; each derivative rule is one call to
//! [`Op::vjp`](crate::Op::vjp). It visits only nodes between the requested ones and the output,
//! without recursion.

use super::{checkpoint::Blocks, slices::SliceCotangents};
use crate::{
    error::{OpError, catch},
    graph::Graph,
    index::Index,
    nodes::{Inner, Kind, NodeId, OpRef, RuleCall},
    op::{DynOp, Rule, layout::Slice},
    param::Param,
    var::Var,
};
use std::collections::BinaryHeap;

/// The cotangents of `wrt`, given the cotangent `ct` of `y`; `None` where `y` does not depend on
/// it.
pub(crate) fn sweep<'g>(y: Var<'g>, ct: Var<'g>, wrt: &[Var<'g>]) -> Vec<Option<Var<'g>>> {
    sweep_from(&[(y, ct)], wrt)
}

/// As [`sweep`], from several values, each with its cotangent. Their contributions are added.
pub(crate) fn sweep_from<'g>(from: &[(Var<'g>, Var<'g>)], wrt: &[Var<'g>]) -> Vec<Option<Var<'g>>> {
    let Some(&(first, _)) = from.first() else {
        return vec![None; wrt.len()];
    };
    let g = first.graph;
    if let Some(error) = first_error(from, wrt) {
        return vec![Some(error); wrt.len()];
    }
    let Some(start) = wrt.iter().map(|w| w.id).min() else {
        return Vec::new();
    };
    let nodes = Nodes::ancestors(&g.inner.borrow(), from.iter().map(|(y, _)| y.id), start);
    let (mut stack, mut heap) = ([false; MAX_ON_STACK], Vec::new());
    let varies = table(&mut stack, &mut heap, nodes.len, false);
    depends_on(&g.inner.borrow(), wrt, &nodes, varies);
    // `None` where no cotangent has been found: it is structurally zero
    let (mut stack, mut heap) = ([None; MAX_ON_STACK], Vec::new());
    let cotangents: &mut [Option<NodeId>] = table(&mut stack, &mut heap, nodes.len, None);
    for &(y, ct) in from {
        if let Some(k) = nodes.position(y.id) {
            cotangents[k] = Some(sum(g, cotangents[k], ct));
        }
    }
    let mut x = Vec::new();
    let (mut blocks, mut slices) = (Blocks::new(&g.inner.borrow()), SliceCotangents::default());
    let first = g.inner.borrow().nodes.next();
    let origin = g.call_site();
    for k in (0..nodes.len).rev() {
        let has_slices = slices.has(k);
        if cotangents[k].is_none() && !has_slices || !varies[k] {
            continue;
        }
        let id = nodes.id(k);
        let op = {
            let inner = &mut *g.inner.borrow_mut();
            let node = &inner.program.nodes[id];
            let is_op = node.kind == Kind::Op;
            if !is_op && !has_slices {
                continue;
            }
            origin.move_to(node);
            let first = inner.program.nodes.next();
            inner.rules.push(RuleCall { of: id, first });
            is_op.then(|| inner.op_ref(id))
        };
        if has_slices {
            cotangents[k] = slices.sum(g, k, cotangents[k]);
        }
        let (Some(op), Some(ct)) = (op, cotangents[k]) else {
            continue;
        };
        blocks.open(g, id, ct);
        x.clear();
        x.extend(
            g.inner
                .borrow()
                .args(id)
                .iter()
                .map(|&a| g.var(blocks.copy(a))),
        );
        let rule = Rule {
            ct: g.var(ct),
            x: &x,
            y: g.var(blocks.copy(id)),
        };
        let slice = slice(&op);
        for (input, of_rule) in x.iter().enumerate() {
            let arg = if blocks.is_empty() {
                of_rule.id
            } else {
                g.inner.borrow().args(id)[input]
            };
            let Some(to) = nodes.position(arg).filter(|&to| varies[to]) else {
                continue;
            };
            let Some(d) = call(&op, input, &rule) else {
                continue;
            };
            if let Some(slice) = slice.filter(|_| d.kind() != Kind::Error) {
                slices.push(to, slice, rule.ct, d);
                continue;
            }
            cotangents[to] = Some(sum(g, cotangents[to], d));
        }
    }
    let inner = &mut *g.inner.borrow_mut();
    inner.swept.push(first..inner.program.nodes.next());
    let found = |w: &Var<'g>| cotangents[nodes.position(w.id)?].map(|ct| g.var(ct));
    wrt.iter().map(found).collect()
}

/// Adds a cotangent to the sum so far. The first one is taken as it is, later ones are added,
/// always in this order.
#[inline(always)]
fn sum<'g>(g: &'g Graph, before: Option<NodeId>, next: Var<'g>) -> NodeId {
    match before {
        None => next.id,
        Some(before) => (g.var(before) + next).id,
    }
}

/// The slice op, if it is one with step 1.
fn slice(op: &OpRef) -> Option<&Slice> {
    match op {
        OpRef::Builtin(_) => None,
        OpRef::Own(op) => op
            .as_any()
            .downcast_ref()
            .filter(|slice: &&Slice| slice.is_range()),
    }
}

/// The nodes that a pass visits, oldest first: all from one to another or, if only few of these are
/// needed, just those.
pub(super) struct Nodes {
    start: NodeId,
    pub(super) len: usize,
    /// The needed nodes; empty if all are visited.
    needed: Vec<NodeId>,
}

impl Nodes {
    /// All nodes from one to another, the second one included.
    pub(super) fn between(first: NodeId, last: NodeId) -> Nodes {
        Nodes {
            start: first,
            len: (last.index() + 1).saturating_sub(first.index()),
            needed: Vec::new(),
        }
    }

    /// The given nodes and all they are computed from, starting at node `start`. Gives up and
    /// visits all nodes if the needed ones exceed a fraction [`FRACTION`] of them. So the
    /// derivative of a small part of a long graph is cheap, and the search adds little to that of a
    /// whole graph.
    fn ancestors(inner: &Inner, of: impl Iterator<Item = NodeId> + Clone, start: NodeId) -> Nodes {
        let all = Nodes::between(start, of.clone().max().unwrap_or(start));
        if all.len <= MAX_VISIT_ALL {
            return all;
        }
        // the heap yields younger nodes before older ones; duplicates are adjacent, so each node is
        // visited once
        let mut heap: BinaryHeap<NodeId> = of.filter(|&id| id >= start).collect();
        let mut needed = Vec::new();
        while let Some(id) = heap.pop() {
            if needed.last() == Some(&id) {
                continue;
            }
            if needed.len() == all.len / FRACTION {
                return all;
            }
            needed.push(id);
            heap.extend(inner.args(id).iter().filter(|&&arg| arg >= start));
        }
        needed.reverse();
        Nodes {
            start,
            len: needed.len(),
            needed,
        }
    }

    /// The node at a position.
    #[inline]
    pub(super) fn id(&self, position: usize) -> NodeId {
        if self.needed.is_empty() {
            NodeId::new(self.start.index() + position)
        } else {
            self.needed[position]
        }
    }

    /// The position of a node, if it is visited.
    #[inline]
    pub(super) fn position(&self, id: NodeId) -> Option<usize> {
        if !self.needed.is_empty() {
            return self.needed.binary_search(&id).ok();
        }
        let position = id.index().wrapping_sub(self.start.index());
        (position < self.len).then_some(position)
    }
}

/// Up to this many nodes all are visited: visiting an unneeded one takes a nanosecond or two, the
/// search in the heap many times as long.
const MAX_VISIT_ALL: usize = 1 << 12;
/// Of more nodes, the search stops after one in this many.
const FRACTION: usize = 64;

/// The gradient of an error, or with respect to one, is that error.
fn first_error<'g>(from: &[(Var<'g>, Var<'g>)], wrt: &[Var<'g>]) -> Option<Var<'g>> {
    let mut all = from
        .iter()
        .flat_map(|&(y, ct)| [y, ct])
        .chain(wrt.iter().copied());
    let g = from.first()?.0.graph;
    let foreign = g.foreign("grad", all.clone());
    foreign.or_else(|| all.find(|v| v.kind() == Kind::Error))
}

/// Marks the nodes that vary with one of `wrt`. Integers and booleans do not vary.
fn depends_on(inner: &Inner, wrt: &[Var<'_>], nodes: &Nodes, varies: &mut [bool]) {
    for w in wrt {
        if let Some(k) = nodes.position(w.id) {
            varies[k] = inner.nodes[w.id].dtype.is_float();
        }
    }
    for k in 0..varies.len() {
        let id = nodes.id(k);
        if !varies[k] && inner.nodes[id].dtype.is_float() {
            varies[k] = inner
                .args(id)
                .iter()
                .any(|&arg| nodes.position(arg).is_some_and(|k| varies[k]));
        }
    }
}

/// Programs up to this many nodes have their tables on the stack: an allocation costs as much as
/// several nodes.
const MAX_ON_STACK: usize = 64;

fn table<'t, T: Copy>(
    stack: &'t mut [T; MAX_ON_STACK],
    heap: &'t mut Vec<T>,
    length: usize,
    empty: T,
) -> &'t mut [T] {
    if length <= MAX_ON_STACK {
        return &mut stack[..length];
    }
    heap.resize(length, empty);
    heap
}

/// Calls one derivative rule. Checks the cotangent, and sums it to the input's shape where the op
/// broadcast the input.
fn call<'g>(op: &OpRef, input: usize, rule: &Rule<'_, 'g>) -> Option<Var<'g>> {
    let x = rule.x[input];
    let d = match op {
        OpRef::Builtin(_) => op.get().vjp(input, rule)?,
        OpRef::Own(op) => match catch(|| op.vjp(input, rule)) {
            Ok(d) => d?,
            Err(e) => {
                return fail_rule(
                    &**op,
                    rule,
                    OpError::new(format!("its derivative rule {}", e.message)),
                );
            }
        },
    };
    if std::ptr::eq(d.graph(), x.graph()) {
        let inner = x.graph.inner.borrow();
        let (node, of) = (&inner.nodes[d.id], &inner.nodes[x.id]);
        if (node.shape, node.dtype) == (of.shape, of.dtype) || node.kind == Kind::Error {
            return Some(d);
        }
    }
    shaped(op.get(), input, rule, d)
}

/// The cotangent that a rule returned, summed to the shape of the input; an error if the types do
/// not fit.
#[cold]
fn shaped<'g>(op: &dyn DynOp, input: usize, rule: &Rule<'_, 'g>, d: Var<'g>) -> Option<Var<'g>> {
    let x = rule.x[input];
    let fail_rule = |what| fail_rule(op, rule, what);
    if !std::ptr::eq(d.graph(), x.graph()) {
        return fail_rule("its derivative rule returned a `Var` of another graph".into());
    }
    let (got, expected) = (d.ty(), x.ty());
    if got.dtype == expected.dtype && expected.shape.broadcasts_to(&got.shape) {
        return Some(d.sum_to(expected.shape));
    }
    fail_rule(OpError::new(format!(
        "its derivative rule returned {got} for input {input}, which is {expected}"
    )))
}

fn fail_rule<'g>(op: &dyn DynOp, rule: &Rule<'_, 'g>, what: OpError) -> Option<Var<'g>> {
    Some(rule.ct.graph.fail(op.name(), what, rule.x))
}

/// The leaves with gradients that a value depends on: inputs and trained parameters, oldest first.
pub(crate) fn leaves<'g>(y: Var<'g>) -> Vec<Var<'g>> {
    let inner = y.graph.inner.borrow();
    let nodes = Nodes::ancestors(&inner, std::iter::once(y.id), NodeId::new(0));
    let (mut stack, mut heap) = ([false; MAX_ON_STACK], Vec::new());
    let needed = table(&mut stack, &mut heap, nodes.len, false);
    for k in (0..nodes.len).rev() {
        let id = nodes.id(k);
        needed[k] |= id == y.id;
        if needed[k] {
            inner
                .args(id)
                .iter()
                .filter_map(|&arg| nodes.position(arg))
                .for_each(|k| needed[k] = true);
        }
    }
    let is_leaf = |&id: &NodeId| {
        let node = &inner.nodes[id];
        node.dtype.is_float()
            && match node.kind {
                Kind::Input => true,
                Kind::Param => inner.params[node.entry()].trained,
                _ => false,
            }
    };
    let needed = (0..nodes.len).filter(|&k| needed[k]).map(|k| nodes.id(k));
    needed.filter(is_leaf).map(|id| y.graph.var(id)).collect()
}

impl<'g> Var<'g> {
    /// Ones of the type of `self`: the initial cotangent.
    #[track_caller]
    pub(crate) fn one_cotangent(self) -> Var<'g> {
        self.unit(Kind::One)
    }

    #[track_caller]
    pub(crate) fn zero_cotangent(self) -> Var<'g> {
        self.unit(Kind::Zero)
    }

    /// Ones or zeros of the type of `self`.
    #[track_caller]
    fn unit(self, kind: Kind) -> Var<'g> {
        let (unit, shape) = (
            self.graph.unit(kind, self.known_dtype()),
            self.known_shape(),
        );
        if shape.rank() == 0 {
            unit
        } else {
            unit.broadcast_to(shape)
        }
    }

    /// An error unless it is a scalar float, which has a gradient.
    #[track_caller]
    pub(crate) fn expect_scalar(self, op: &'static str) -> Var<'g> {
        let ty = self.ty();
        if self.kind() == Kind::Error || (ty.shape.count() == 1 && ty.dtype.is_float()) {
            return self;
        }
        let (message, hint) = if ty.dtype.is_float() {
            (
                format!("expected a scalar, got {ty}"),
                "take .sum() or .mean() of it, or vjp with a cotangent",
            )
        } else {
            (
                format!("{} has no gradient", ty.dtype),
                "only floats have gradients",
            )
        };
        self.graph
            .fail(op, OpError::new(message).hint(hint), &[self])
    }

    /// The vector-Jacobian product: cotangents of `wrt`, given the cotangent `ct` of this value (of
    /// the same type). `None` for nodes the value does not depend on. The results are ordinary
    /// `Var`s and can be differentiated again.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0, 3.0]);
    /// let y = x * x;
    /// let d = y.vjp(g.constant([1.0, 0.0, 10.0]), &[x]);
    /// let d = d[0].expect("y depends on x").value()?;
    /// assert_eq!(d.to_f64s(), [2.0, 0.0, 60.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn vjp(self, ct: Var<'g>, wrt: &[Var<'g>]) -> Vec<Option<Var<'g>>> {
        let (own, given) = (self.ty(), ct.ty());
        if self.kind() != Kind::Error && ct.kind() != Kind::Error && own != given {
            let e = OpError::new(format!("the cotangent is {given}, the value {own}"));
            return vec![
                Some(self.graph.fail(
                    "vjp",
                    e.hint("they must have the same dtype and shape"),
                    &[]
                ));
                wrt.len()
            ];
        }
        sweep(self, ct, wrt)
    }
}

impl Graph {
    /// The gradients of a scalar with respect to some of the nodes it was computed from, as `Var`s
    /// that can be used in further expressions and differentiated again. Zeros for nodes the scalar
    /// does not depend on.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input(3.0);
    /// let y = x.powi(4);
    /// let [dy] = g.grad(y, &[x]);
    /// let [d2y] = g.grad(dy, &[x]);
    /// assert_eq!(g.run((dy, d2y))?.1.scalar()?, 108.0);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn grad<'g, const N: usize>(&'g self, y: Var<'g>, wrt: &[Var<'g>; N]) -> [Var<'g>; N] {
        let list = self.grads(y, wrt);
        std::array::from_fn(|k| list[k])
    }

    /// As [`grad`](Graph::grad), for a list of any length.
    #[track_caller]
    #[doc(alias = "autograd_grad")]
    pub fn grads<'g>(&'g self, y: Var<'g>, wrt: &[Var<'g>]) -> Vec<Var<'g>> {
        let _call_site = self.call_site();
        self.gradients(y, wrt)
            .into_iter()
            .zip(wrt)
            .map(|(d, w)| d.unwrap_or_else(|| w.zero_cotangent()))
            .collect()
    }

    /// The trained parameters that a value depends on, with their `Var`s, in the order in which
    /// they were bound, whether or not a gradient reaches them: see [`Var::trained_grads`]. Empty
    /// if the value belongs to another graph.
    pub fn trained_params<'g>(&'g self, of: Var<'g>) -> Vec<(Param, Var<'g>)> {
        if !std::ptr::eq(of.graph(), self) {
            return Vec::new();
        }
        let leaves = leaves(of);
        let inner = self.inner.borrow();
        let bound = |v: Var<'g>| inner.binding(v.id).map(|b| (b.param.clone(), v));
        leaves.into_iter().filter_map(bound).collect()
    }

    /// The gradients of a scalar; `None` where no gradient flows.
    #[track_caller]
    fn gradients<'g>(&'g self, y: Var<'g>, wrt: &[Var<'g>]) -> Vec<Option<Var<'g>>> {
        if let Some(error) = self.foreign("grad", wrt.iter().copied().chain([y])) {
            return vec![Some(error); wrt.len()];
        }
        let y = y.expect_scalar("grad");
        let ct = if y.kind() == Kind::Error {
            y
        } else {
            y.one_cotangent()
        };
        sweep(y, ct, wrt)
    }
}

impl<'g> Var<'g> {
    /// The trained parameters that the gradient of this scalar reaches, with their `Var`s and these
    /// gradients, in the order in which they were bound: the input of an optimizer. Parameters
    /// behind [`detach`](Var::detach), a comparison or an `argmax` are not among them, although the
    /// scalar depends on them.
    ///
    /// ```
    /// # use autograd::{Graph, Param};
    /// let (student, teacher) = (Param::new([1.0, 2.0]), Param::new([0.5, 2.5]));
    /// let g = Graph::new();
    /// let loss = (g.param(&student) - g.param(&teacher).detach()).square().sum();
    /// let all = loss.trained_grads();
    /// assert_eq!(all.len(), 1);
    /// assert_eq!(all[0].2.value()?.to_f64s(), [1.0, -1.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn trained_grads(self) -> Vec<(Param, Var<'g>, Var<'g>)> {
        let _call_site = self.graph.call_site();
        let (params, weights): (Vec<Param>, Vec<Var<'g>>) =
            self.graph.trained_params(self).into_iter().unzip();
        let all = params
            .into_iter()
            .zip(weights.iter().copied())
            .zip(self.graph.gradients(self, &weights));
        all.filter_map(|((param, weight), d)| Some((param, weight, d?)))
            .collect()
    }
}
