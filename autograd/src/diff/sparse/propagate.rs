//! Computes which elements of a value depend on which elements of an input: node by node, each op
//! declares how its output depends on its inputs.
//!
//! The result holds for all values of the input. If it used values of constants (zeros in products,
//! positions of selected elements), these constants are listed, so that later calls can check
//! whether they have changed.

use super::pattern::Pattern;
use crate::{
    error::{Error, OpError, Result, catch},
    graph::Graph,
    index::{Index, IndexVec, each},
    nodes::{Inner, Kind, NodeId},
    op::{Dependency, Id, Lowering, Op, Rule, layout::BroadcastTo, linalg::Batches},
    shape::{Axes, Shape},
    tensor::{DType, Tensor, Type, with_dtype},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The pattern of `y` by `x`.
pub(super) struct Dependencies {
    pub(super) pattern: Arc<Pattern>,
    /// The leaves whose values were used.
    pub(super) used: Vec<NodeId>,
}

/// How the elements of `y` depend on those of `x`, both nodes of the graph.
pub(super) fn dependencies(inner: &Inner, y: NodeId, x: NodeId) -> Result<Dependencies> {
    let size = inner.ty(x).shape.count();
    let mut walk = Walk {
        inner,
        patterns: HashMap::new(),
        constant: constants(inner, y),
        values: HashMap::new(),
        used: Vec::new(),
    };
    walk.patterns.insert(x, Arc::new(Pattern::identity(size)));
    let needed = needed(inner, y, x);
    for id in each(x.next()..y.next()) {
        let node = &inner.nodes[id];
        if needed[id] && node.dtype.is_float() && node.kind == Kind::Op {
            // a user-defined op may panic, or return a dependency that does not fit its shapes
            let found = catch(|| walk.node(id)).and_then(|found| found);
            let found = found.map_err(|e| inner.error_at(id, inner.op(id).name(), e))?;
            if let Some(found) = found {
                if found.shape().0 != inner.ty(id).shape.count() {
                    let e = OpError::new(format!(
                        "its dependency does not fit {} elements",
                        inner.ty(id).shape
                    ));
                    return Err(inner.error_at(id, inner.op(id).name(), e));
                }
                walk.patterns.insert(id, found);
            }
        }
    }
    let count = inner.ty(y).shape.count();
    let nothing = || {
        Arc::new(
            Pattern::identity(size)
                .rows((0..count).map(|_| None))
                .unwrap_or_else(|_| Pattern::identity(0)),
        )
    };
    let pattern = walk.patterns.remove(&y).unwrap_or_else(nothing);
    walk.used.sort_unstable();
    walk.used.dedup();
    Ok(Dependencies {
        pattern,
        used: walk.used,
    })
}

/// The nodes from `x` on that `y` needs.
fn needed(inner: &Inner, y: NodeId, x: NodeId) -> IndexVec<NodeId, bool> {
    let mut needed = IndexVec::filled(false, y.index() + 1);
    needed[y] = true;
    for id in each(x..y.next()).rev() {
        if needed[id] {
            inner.args(id).iter().for_each(|&a| needed[a] = true);
        }
    }
    needed
}

/// The nodes up to `y` that are computed from constants only.
fn constants(inner: &Inner, y: NodeId) -> IndexVec<NodeId, bool> {
    let mut constant = IndexVec::with_capacity(y.index() + 1);
    for id in each(NodeId::new(0)..y.next()) {
        let own = match inner.nodes[id].kind {
            Kind::Constant | Kind::Literal | Kind::One | Kind::Zero => true,
            Kind::Op => inner.args(id).iter().all(|&a| constant[a]),
            Kind::Input | Kind::Param | Kind::Error => false,
        };
        constant.push(own);
    }
    constant
}

struct Walk<'i> {
    inner: &'i Inner,
    /// Of the nodes that depend on the input.
    patterns: HashMap<NodeId, Arc<Pattern>>,
    constant: IndexVec<NodeId, bool>,
    /// Values of constants and of nodes computed from them.
    values: HashMap<NodeId, Tensor>,
    used: Vec<NodeId>,
}

impl Walk<'_> {
    /// The pattern of an op's output; `None` if it does not depend on the input.
    fn node(&mut self, id: NodeId) -> Result<Option<Arc<Pattern>>, OpError> {
        let (inner, op) = (self.inner, self.inner.op(id));
        let args = inner.args(id);
        let types: Vec<Type> = args.iter().map(|&a| inner.ty(a)).collect();
        let kind = |k: usize| match types[k].dtype.is_float() {
            true => op.dependency(k, &types),
            false => Dependency::None,
        };
        let kinds: Vec<Dependency> = (0..args.len()).map(kind).collect();
        let matters =
            |k: usize| kinds[k] != Dependency::None && self.patterns.contains_key(&args[k]);
        let inputs: Vec<usize> = (0..args.len()).filter(|&k| matters(k)).collect();
        let Some(&first) = inputs.first() else {
            return Ok(None);
        };
        match kinds[first] {
            Dependency::Moved if matches!(op.lowering(), Lowering::View | Lowering::Recompute) => {
                return Ok(self.patterns.get(&args[first]).cloned());
            }
            Dependency::Moved => {
                if let Some(found) = self.moved(id, &kinds)? {
                    return Ok(Some(found));
                }
            }
            Dependency::Product => return self.product(id).map(Some),
            _ => {}
        }
        let out = inner.ty(id).shape;
        let mut all: Option<Arc<Pattern>> = None;
        for k in inputs {
            let own = self.patterns[&args[k]].clone();
            let shape = types[k].shape;
            let part = match kinds[k] {
                Dependency::Elementwise => Some(self.elementwise(id, k, own, &shape, &out)?),
                Dependency::Reduced { axes } => Some(Arc::new(reduced(&own, &shape, Axes(axes))?)),
                Dependency::Along { axes } => {
                    let sets = reduced(&own, &shape, Axes(axes))?;
                    Some(broadcast(
                        Arc::new(sets),
                        &shape.reduced(Axes(axes), true),
                        &out,
                    )?)
                }
                Dependency::Scattered => self.scattered(id, k, &own)?,
                Dependency::Dense | Dependency::Moved | Dependency::Product => {
                    Some(dense(&own, out.count())?)
                }
                Dependency::None => None,
            };
            all = match (all, part) {
                (Some(a), Some(b)) if Arc::ptr_eq(&a, &b) => Some(a),
                (Some(a), Some(b)) => Some(Arc::new(a.union(&b)?)),
                (a, b) => a.or(b),
            };
        }
        Ok(all)
    }

    /// A node and all nodes it is computed from, oldest first.
    fn ancestors(&self, id: NodeId) -> Vec<NodeId> {
        let (mut seen, mut all, mut k) = (HashSet::from([id]), vec![id], 0);
        while k < all.len() {
            all.extend(self.inner.args(all[k]).iter().filter(|&&a| seen.insert(a)));
            k += 1;
        }
        all.sort_unstable();
        all
    }

    /// The value of a node that is computed from constants.
    fn value(&mut self, id: NodeId) -> Option<Tensor> {
        if !self.constant[id] {
            return None;
        }
        if !self.values.contains_key(&id) {
            for id in self.ancestors(id) {
                if !self.values.contains_key(&id) {
                    let value = self
                        .inner
                        .define(
                            id,
                            |id| self.inner.leaf_now(id),
                            |arg| self.values.get(&arg),
                        )
                        .ok()?;
                    self.values.insert(id, value);
                }
            }
        }
        self.values.get(&id).cloned()
    }

    /// Records that the result holds only as long as the leaves of this node keep their values.
    fn record_use(&mut self, id: NodeId) {
        let leaves = self
            .ancestors(id)
            .into_iter()
            .filter(|&id| self.inner.args(id).is_empty());
        self.used.extend(leaves);
    }

    /// Where a constant is 0 or false (or, if `inverted`, where it is not), if anywhere. Constants
    /// computed from scalars only do not count: they are rates and steps, which change often and
    /// are hardly ever 0.
    fn zeros(&mut self, id: NodeId, inverted: bool) -> Option<Vec<bool>> {
        let data = |id: NodeId| {
            self.inner.nodes[id].kind == Kind::Constant && self.inner.ty(id).shape.count() > 1
        };
        if !self.constant[id] || !self.ancestors(id).into_iter().any(data) {
            return None;
        }
        let value = self.value(id)?;
        let zeros: Vec<bool> = with_dtype!(value.dtype(), T => {
            value.as_slice::<T>().ok()?.iter().map(|&v| (v == T::default()) != inverted).collect()
        });
        if zeros.contains(&true) {
            self.record_use(id);
            return Some(zeros);
        }
        None
    }

    /// The pattern of one input of an elementwise op, broadcast to the output; without the elements
    /// where a constant makes the derivative 0.
    fn elementwise(
        &mut self,
        id: NodeId,
        input: usize,
        own: Arc<Pattern>,
        shape: &Shape,
        out: &Shape,
    ) -> Result<Arc<Pattern>, OpError> {
        let args = self.inner.args(id);
        let other = match (self.inner.nodes[id].builtin(), input) {
            (Some(Id::Mul), _) => Some((args[1 - input], false)),
            // the first side is selected where the condition is true, the second one where it is
            // false
            (Some(Id::Select), 1 | 2) => Some((args[0], input == 2)),
            _ => None,
        };
        let own = broadcast(own, shape, out)?;
        let Some((other, inverted)) = other else {
            return Ok(own);
        };
        let Some(zeros) = self.zeros(other, inverted) else {
            return Ok(own);
        };
        let at = positions(&self.inner.ty(other).shape, out)?;
        let rows =
            (0..out.count()).map(|e| (!zeros[at.as_ref().map_or(e, |at| at[e])]).then_some(e));
        Ok(Arc::new(own.rows(rows)?))
    }

    /// An op that selects elements: it is evaluated on positions in place of floats. `None` if the
    /// positions depend on values that vary.
    fn moved(&mut self, id: NodeId, kinds: &[Dependency]) -> Result<Option<Arc<Pattern>>, OpError> {
        let inner = self.inner;
        let (args, ty) = (inner.args(id).to_vec(), inner.ty(id));
        let (mut stacked, mut positions): (Option<Pattern>, Vec<Tensor>) = (None, Vec::new());
        for (k, &arg) in args.iter().enumerate() {
            let shape = inner.ty(arg).shape;
            let own = self.patterns.get(&arg).cloned();
            positions.push(match (kinds[k], own) {
                (Dependency::Moved, Some(own)) => {
                    let first = stacked.as_ref().map_or(0, |s| s.shape().0) as i64 + 1;
                    let (rows, before) = (own.shape().0, stacked.take());
                    stacked = Some(match before {
                        None => (*own).clone(),
                        Some(before) => before.stacked(&own)?,
                    });
                    Tensor::new(shape, (first..first + rows as i64).collect()).map_err(op_error)?
                }
                (Dependency::Moved, None) => Tensor::zeros(shape, DType::I64).map_err(op_error)?,
                _ if self.constant[arg] => {
                    self.record_use(arg);
                    self.value(arg).ok_or("an index is not constant")?
                }
                _ => return Ok(None),
            });
        }
        let Some(stacked) = stacked else {
            return Ok(None);
        };
        let mut out = Tensor::blank(Type::new(DType::I64, ty.shape))?;
        let views: Vec<_> = positions.iter().map(Tensor::as_view).collect();
        inner
            .op(id)
            .eval(&views, out.as_view_mut().ok_or("its buffer is shared")?)?;
        let from = out.as_slice::<i64>().map_err(op_error)?;
        Ok(Some(Arc::new(stacked.rows(
            from.iter().map(|&p| usize::try_from(p - 1).ok()),
        )?)))
    }

    /// An op that adds elements at positions: they are found from the derivative rule, which
    /// gathers cotangents from there.
    fn scattered(
        &mut self,
        id: NodeId,
        input: usize,
        own: &Pattern,
    ) -> Result<Option<Arc<Pattern>>, OpError> {
        let inner = self.inner;
        let (args, out) = (inner.args(id).to_vec(), inner.ty(id).shape);
        let g = Graph::new();
        let mut x = Vec::new();
        for (k, &arg) in args.iter().enumerate() {
            let value = match k == input {
                true => Tensor::zeros(inner.ty(arg).shape, DType::F64).map_err(op_error)?,
                false => match self.value(arg) {
                    Some(value) => value,
                    None => return dense(own, out.count()).map(Some),
                },
            };
            if k != input {
                self.record_use(arg);
            }
            x.push(g.constant(value));
        }
        let positions =
            Tensor::new(out, (0..out.count()).map(|p| p as f64).collect()).map_err(op_error)?;
        let ct = g.constant(positions);
        let to = inner
            .op(id)
            .vjp(input, &Rule { ct, x: &x, y: ct })
            .ok_or("its derivative rule cannot be evaluated")?;
        let to = to.value().map_err(op_error)?;
        let to = to
            .as_slice::<f64>()
            .map_err(op_error)?
            .iter()
            .map(|&to| to as usize);
        Ok(Some(Arc::new(gathered(own, out.count(), to)?)))
    }

    /// A matrix product: an output depends on a row of the left side and a column of the right
    /// side. If one side is a constant, only on the elements that meet its nonzeros.
    fn product(&mut self, id: NodeId) -> Result<Arc<Pattern>, OpError> {
        let inner = self.inner;
        let &[a, b] = inner.args(id) else {
            return Err("expected two inputs".into());
        };
        let (ta, tb, out) = (inner.ty(a).shape, inner.ty(b).shape, inner.ty(id).shape);
        let batches = Batches::new(&ta, &tb, &out);
        let (m, k, n) = (batches.m, batches.k, batches.n);
        let offsets: Vec<_> = batches.offsets().collect();
        let mut all: Option<Pattern> = None;
        for side in 0..2 {
            let (own, other) = if side == 0 { (a, b) } else { (b, a) };
            let Some(own) = self.patterns.get(&own).cloned() else {
                continue;
            };
            let zeros = self.zeros(other, false);
            let of_output = |e: usize| -> Box<dyn Iterator<Item = usize> + '_> {
                let (batch, i, j) = (e / (m * n), e / n % m, e % n);
                let (at_a, at_b, _) = offsets[batch];
                let left = move |l: usize| at_a + i * k + l;
                let right = move |l: usize| at_b + l * n + j;
                let zeros = zeros.as_ref();
                if side == 0 {
                    Box::new(
                        (0..k)
                            .filter(move |&l| zeros.is_none_or(|z| !z[right(l)]))
                            .map(left),
                    )
                } else {
                    Box::new(
                        (0..k)
                            .filter(move |&l| zeros.is_none_or(|z| !z[left(l)]))
                            .map(right),
                    )
                }
            };
            let part = own.unions(out.count(), of_output)?;
            all = Some(match all {
                Some(all) => all.union(&part)?,
                None => part,
            });
        }
        all.map(Arc::new)
            .ok_or_else(|| "neither side depends on the input".into())
    }
}

impl Pattern {
    /// The rows of `self`, then those of `ancestors`.
    fn stacked(&self, ancestors: &Pattern) -> Result<Pattern, OpError> {
        let (rows, more) = (self.shape().0, ancestors.shape().0);
        let upper = self.rows((0..rows + more).map(|k| (k < rows).then_some(k)))?;
        upper.union(&ancestors.rows((0..rows + more).map(|k| k.checked_sub(rows)))?)
    }
}

/// For each element of a broadcast output, the position of its source element; `None` if the shapes
/// are equal.
fn positions(from: &Shape, to: &Shape) -> Result<Option<Vec<usize>>, OpError> {
    if from == to {
        return Ok(None);
    }
    let positions = Tensor::new(*from, (0..from.count() as i64).collect()).map_err(op_error)?;
    let mut out = Tensor::blank(Type::new(DType::I64, *to))?;
    Op::eval(
        &BroadcastTo(*to),
        &[positions.as_view()],
        out.as_view_mut().ok_or("its buffer is shared")?,
    )?;
    Ok(Some(
        out.as_slice::<i64>()
            .map_err(op_error)?
            .iter()
            .map(|&p| p as usize)
            .collect(),
    ))
}

fn broadcast(own: Arc<Pattern>, from: &Shape, to: &Shape) -> Result<Arc<Pattern>, OpError> {
    match positions(from, to)? {
        None => Ok(own),
        Some(at) => Ok(Arc::new(own.rows(at.into_iter().map(Some))?)),
    }
}

/// For each output, the union of the rows that are reduced to it.
fn reduced(own: &Pattern, shape: &Shape, axes: Axes) -> Result<Pattern, OpError> {
    let kept = shape.reduced(axes, true);
    let to = positions(&kept, shape)?;
    gathered(
        own,
        kept.count(),
        (0..shape.count()).map(|from| to.as_ref().map_or(from, |to| to[from])),
    )
}

/// `count` rows: each row of `own` is added to the one that `to` gives for it.
fn gathered(
    own: &Pattern,
    count: usize,
    to: impl Iterator<Item = usize>,
) -> Result<Pattern, OpError> {
    let mut sources: Vec<Vec<usize>> = vec![Vec::new(); count];
    to.enumerate().for_each(|(from, to)| sources[to].push(from));
    own.unions(count, |k| Box::new(sources[k].iter().copied()))
}

/// Each of `count` outputs depends on everything.
fn dense(own: &Pattern, count: usize) -> Result<Arc<Pattern>, OpError> {
    let one = own.unions(1, |_| Box::new(0..own.shape().0))?;
    Ok(Arc::new(one.rows((0..count).map(|_| Some(0)))?))
}

fn op_error(e: Error) -> OpError {
    OpError::new(e.message())
}
