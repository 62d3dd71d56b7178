//! Which elements of a value depend on which elements of an input, read off from the graph: node by node, each op says how its
//! output depends on its inputs.
//!
//! What is found holds for all values of the input. Where the values of constants were used (their zeros in products,
//! positions that elements are picked at), they are reported, so that it can be seen whether they are still the same.

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

/// What was found.
pub(super) struct Dependences {
    pub(super) pattern: Arc<Pattern>,
    /// The leaves whose values were used.
    pub(super) used: Vec<NodeId>,
}

/// How the elements of `y` depend on those of `x`, both nodes of the graph.
pub(super) fn dependences(inner: &Inner, y: NodeId, x: NodeId) -> Result<Dependences> {
    let size = inner.ty(x).shape.count();
    let mut walk = Walk {
        inner,
        patterns: HashMap::new(),
        known: known(inner, y),
        values: HashMap::new(),
        used: Vec::new(),
    };
    walk.patterns.insert(x, Arc::new(Pattern::identity(size)));
    let needed = needed(inner, y, x);
    for id in each(x.next()..y.next()) {
        let node = &inner.nodes[id];
        if needed[id] && node.dtype.is_float() && node.kind == Kind::Op {
            // an op of a user may say what does not fit its shapes, or panic
            let found = catch(|| walk.node(id)).and_then(|found| found);
            let found = found.map_err(|e| inner.error_at(id, inner.op(id).name(), e))?;
            if let Some(found) = found {
                if found.shape().0 != inner.ty(id).shape.count() {
                    let e = OpError::new(format!(
                        "its dependency is not one of {} elements",
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
    Ok(Dependences {
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

/// The nodes up to `y` that are computed from constants alone.
fn known(inner: &Inner, y: NodeId) -> IndexVec<NodeId, bool> {
    let mut known = IndexVec::with_capacity(y.index() + 1);
    for id in each(NodeId::new(0)..y.next()) {
        let own = match inner.nodes[id].kind {
            Kind::Constant | Kind::Literal | Kind::One | Kind::Zero => true,
            Kind::Op => inner.args(id).iter().all(|&a| known[a]),
            Kind::Input | Kind::Param | Kind::Error => false,
        };
        known.push(own);
    }
    known
}

struct Walk<'i> {
    inner: &'i Inner,
    /// Of the nodes that depend on it.
    patterns: HashMap<NodeId, Arc<Pattern>>,
    known: IndexVec<NodeId, bool>,
    /// Values of constants and of what is computed from them.
    values: HashMap<NodeId, Tensor>,
    used: Vec<NodeId>,
}

impl Walk<'_> {
    /// The pattern of an op's output; none if it does not depend on the input.
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

    /// A node and all that it is computed from, oldest first.
    fn below(&self, id: NodeId) -> Vec<NodeId> {
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
        if !self.known[id] {
            return None;
        }
        if !self.values.contains_key(&id) {
            for id in self.below(id) {
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

    /// Remembers that what was found holds only while the values stay that this one is computed from.
    fn rests_on(&mut self, id: NodeId) {
        let leaves = self
            .below(id)
            .into_iter()
            .filter(|&id| self.inner.args(id).is_empty());
        self.used.extend(leaves);
    }

    /// Where a constant is 0 or false, or, inverted, where it is not, if it is so anywhere. What is made of single numbers
    /// does not count: these are rates and steps, which come and go and are hardly ever 0.
    fn zeros(&mut self, id: NodeId, inverted: bool) -> Option<Vec<bool>> {
        let data = |id: NodeId| {
            self.inner.nodes[id].kind == Kind::Constant && self.inner.ty(id).shape.count() > 1
        };
        if !self.known[id] || !self.below(id).into_iter().any(data) {
            return None;
        }
        let value = self.value(id)?;
        let zeros: Vec<bool> = with_dtype!(value.dtype(), T => {
            value.as_slice::<T>().ok()?.iter().map(|&v| (v == T::default()) != inverted).collect()
        });
        if zeros.contains(&true) {
            self.rests_on(id);
            return Some(zeros);
        }
        None
    }

    /// One input of an elementwise op, as the output sees it; nothing where a constant makes the derivative 0.
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
            // the first side is taken where the condition holds, the second one where it does not
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

    /// An op that picks elements: it is computed on their positions. None if these depend on values, so that they may be any.
    fn moved(&mut self, id: NodeId, kinds: &[Dependency]) -> Result<Option<Arc<Pattern>>, OpError> {
        let inner = self.inner;
        let (args, ty) = (inner.args(id).to_vec(), inner.ty(id));
        let (mut stacked, mut places): (Option<Pattern>, Vec<Tensor>) = (None, Vec::new());
        for (k, &arg) in args.iter().enumerate() {
            let shape = inner.ty(arg).shape;
            let own = self.patterns.get(&arg).cloned();
            places.push(match (kinds[k], own) {
                (Dependency::Moved, Some(own)) => {
                    let first = stacked.as_ref().map_or(0, |s| s.shape().0) as i64 + 1;
                    let (rows, before) = (own.shape().0, stacked.take());
                    stacked = Some(match before {
                        None => (*own).clone(),
                        Some(before) => before.stacked(&own)?,
                    });
                    Tensor::new(shape, (first..first + rows as i64).collect()).map_err(said)?
                }
                (Dependency::Moved, None) => Tensor::zeros(shape, DType::I64).map_err(said)?,
                _ if self.known[arg] => {
                    self.rests_on(arg);
                    self.value(arg).ok_or("an index cannot be computed")?
                }
                _ => return Ok(None),
            });
        }
        let Some(stacked) = stacked else {
            return Ok(None);
        };
        let mut out = Tensor::blank(Type::new(DType::I64, ty.shape))?;
        let views: Vec<_> = places.iter().map(Tensor::as_view).collect();
        inner
            .op(id)
            .eval(&views, out.as_view_mut().ok_or("its buffer is shared")?)?;
        let from = out.as_slice::<i64>().map_err(said)?;
        Ok(Some(Arc::new(stacked.rows(
            from.iter().map(|&p| usize::try_from(p - 1).ok()),
        )?)))
    }

    /// An op that adds elements up at places that the derivative rule knows: it takes cotangents from there.
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
                true => Tensor::zeros(inner.ty(arg).shape, DType::F64).map_err(said)?,
                false => match self.value(arg) {
                    Some(value) => value,
                    None => return dense(own, out.count()).map(Some),
                },
            };
            if k != input {
                self.rests_on(arg);
            }
            x.push(g.constant(value));
        }
        let places =
            Tensor::new(out, (0..out.count()).map(|p| p as f64).collect()).map_err(said)?;
        let ct = g.constant(places);
        let to = inner
            .op(id)
            .vjp(input, &Rule { ct, x: &x, y: ct })
            .ok_or("its rule is not known")?;
        let to = to.value().map_err(said)?;
        let to = to
            .as_slice::<f64>()
            .map_err(said)?
            .iter()
            .map(|&to| to as usize);
        Ok(Some(Arc::new(gathered(own, out.count(), to)?)))
    }

    /// A matrix product: an output depends on a row of the left and a column of the right; where one side is a constant, only
    /// on what its elements that are not 0 meet.
    fn product(&mut self, id: NodeId) -> Result<Arc<Pattern>, OpError> {
        let inner = self.inner;
        let &[a, b] = inner.args(id) else {
            return Err("wants two inputs".into());
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
            .ok_or_else(|| "nothing depends on it".into())
    }
}

impl Pattern {
    /// The rows of one and then those of the other.
    fn stacked(&self, below: &Pattern) -> Result<Pattern, OpError> {
        let (rows, more) = (self.shape().0, below.shape().0);
        let upper = self.rows((0..rows + more).map(|k| (k < rows).then_some(k)))?;
        upper.union(&below.rows((0..rows + more).map(|k| k.checked_sub(rows)))?)
    }
}

/// For each element of a broadcast output the position of the element that it comes from; none if the shapes are equal.
fn positions(from: &Shape, to: &Shape) -> Result<Option<Vec<usize>>, OpError> {
    if from == to {
        return Ok(None);
    }
    let places = Tensor::new(*from, (0..from.count() as i64).collect()).map_err(said)?;
    let mut out = Tensor::blank(Type::new(DType::I64, *to))?;
    Op::eval(
        &BroadcastTo(*to),
        &[places.as_view()],
        out.as_view_mut().ok_or("its buffer is shared")?,
    )?;
    Ok(Some(
        out.as_slice::<i64>()
            .map_err(said)?
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

/// Sets of what is reduced into each output.
fn reduced(own: &Pattern, shape: &Shape, axes: Axes) -> Result<Pattern, OpError> {
    let kept = shape.reduced(axes, true);
    let to = positions(&kept, shape)?;
    gathered(
        own,
        kept.count(),
        (0..shape.count()).map(|from| to.as_ref().map_or(from, |to| to[from])),
    )
}

/// `count` sets: each row is part of the one that `to` names for it.
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

fn said(e: Error) -> OpError {
    OpError::new(e.message())
}
