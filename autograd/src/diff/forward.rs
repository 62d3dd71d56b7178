//! Forward mode without rules of its own. The vector-Jacobian product is linear in its cotangent,
//! so the vector-Jacobian product of this linear function is the Jacobian-vector product (Townsend
//! 2017). It is taken at a dummy cotangent. The result does not depend on the dummy, so nodes that
//! do are never run.

use super::reverse::{Nodes, sweep_from};
use crate::{
    error::OpError,
    graph::Graph,
    nodes::{Inner, Kind, NodeId},
    op::Lowering,
    var::Var,
};

impl Graph {
    /// The Jacobian-vector product: the directional derivative of `y` as each of `wrt` moves along
    /// its tangent. It has the type of `y` and can be differentiated again. Each tangent has the
    /// type of its input.
    ///
    /// It costs about as much as `y` itself. A user-defined operation whose derivative rule is not
    /// linear in its cotangent (gradient clipping, for example) is an error.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let (x, y) = (g.input(2.0), g.input(3.0));
    /// let f = x * y + x.ln();
    /// let d = g.jvp(f, &[x, y], &[g.constant(1.0), g.constant(10.0)]);
    /// assert_eq!(d.value()?.scalar()?, 3.5 + 20.0);      // ∂f/∂x + 10·∂f/∂y
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn jvp<'g>(&'g self, y: Var<'g>, wrt: &[Var<'g>], tangents: &[Var<'g>]) -> Var<'g> {
        let _call_site = self.call_site();
        let all = [&[y], wrt, tangents].concat();
        if let Some(error) = self.foreign("jvp", all.iter().copied()) {
            return error;
        }
        if let Some(e) = misfit(wrt, tangents) {
            return self.fail("jvp", e, &[]);
        }
        if let Some(wrong) = all.into_iter().find(|v| v.error().is_some()) {
            return wrong;
        }
        if !y.known_dtype().is_float() {
            return self.fail(
                "jvp",
                OpError::new(format!("{} has no derivative", y.known_dtype())),
                &[y],
            );
        }
        let dummy = y.zero_cotangent();
        let cotangents = sweep_from(&[(y, dummy)], wrt);
        // `Σ tangent·cotangent` is a scalar function of the dummy: its gradient is the result
        let pairs = cotangents
            .into_iter()
            .zip(tangents)
            .filter_map(|(d, &v)| Some((d? * v).sum()));
        let Some(number) = pairs.reduce(|a, b| a + b) else {
            return y.zero_cotangent();
        };
        let between = self.inner.borrow().nodes.next();
        let product = sweep_from(&[(number, number.one_cotangent())], &[dummy])[0];
        let Some(product) = product else {
            return y.zero_cotangent();
        };
        let Some(node) = first_use(&self.inner.borrow(), product.id, dummy.id, between) else {
            return product;
        };
        // the node of the first sweep whose derivative reads the dummy, and the op whose rule made
        // that node
        let inner = self.inner.borrow();
        let culprit = inner
            .rule_of(node)
            .and_then(|written| inner.rule_of(written))
            .unwrap_or(y.id);
        drop(inner);
        let name = self.inner.borrow().name(culprit);
        let e = OpError::new(format!(
            "the derivative rule of {name} is not linear in its cotangent"
        ));
        self.fail(
            "jvp",
            e.hint("forward mode needs linear rules"),
            &[self.var(culprit)],
        )
    }
}

/// The error if the tangents do not fit their inputs.
pub(super) fn misfit(wrt: &[Var<'_>], tangents: &[Var<'_>]) -> Option<OpError> {
    if wrt.len() != tangents.len() {
        return Some(OpError::new(format!(
            "there are {} tangents for {} inputs",
            tangents.len(),
            wrt.len()
        )));
    }
    let differ = |(x, v): (&Var<'_>, &Var<'_>)| {
        x.error().is_none() && v.error().is_none() && x.ty() != v.ty()
    };
    let (x, v) = wrt.iter().zip(tangents).find(|&(x, v)| differ((x, v)))?;
    Some(OpError::new(format!(
        "the tangent is {}, its input {}",
        v.ty(),
        x.ty()
    )))
}

/// The oldest node from `between` on that `value` needs and that reads a node depending on the
/// dummy.
fn first_use(inner: &Inner, value: NodeId, dummy: NodeId, between: NodeId) -> Option<NodeId> {
    let nodes = Nodes::between(dummy, value);
    let reads = |id: NodeId| {
        read(inner, id)
            .iter()
            .filter_map(|&arg| nodes.position(arg))
    };
    let (mut needed, mut depends) = (vec![false; nodes.len], vec![false; nodes.len]);
    (needed[nodes.position(value)?], depends[0]) = (true, true);
    for k in (0..nodes.len).rev() {
        if needed[k] {
            reads(nodes.id(k)).for_each(|arg| needed[arg] = true);
        }
    }
    for k in 1..nodes.len {
        depends[k] = reads(nodes.id(k)).any(|arg| depends[arg]);
    }
    let first = nodes.position(between)?;
    let is_use =
        |&k: &usize| needed[k] && reads(nodes.id(k)).any(|arg| arg < first && depends[arg]);
    (first..nodes.len).find(is_use).map(|k| nodes.id(k))
}

/// The nodes whose values a node reads: without the second input of a recomputed block, which only
/// orders the computation.
fn read(inner: &Inner, id: NodeId) -> &[NodeId] {
    let args = inner.args(id);
    let only_waits =
        inner.nodes[id].kind == Kind::Op && matches!(inner.op(id).lowering(), Lowering::Recompute);
    if only_waits { &args[..1] } else { args }
}
