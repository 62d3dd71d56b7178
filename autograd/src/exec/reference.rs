//! The slow definition: what a graph means. Every node up to the wanted ones, in the order of creation, by the ops' own
//! `eval`; nothing is left out, shared, reused or reordered. Tests compare the executor with it.

use crate::{
    error::{OpError, Result},
    graph::Graph,
    nodes::Kind,
    tensor::Tensor,
    var::Var,
};

impl Graph {
    /// The values of some nodes as the definition has them. Looks only: updates are not carried out.
    #[doc(hidden)]
    pub fn reference(&self, wanted: &[Var<'_>]) -> Result<Vec<Tensor>> {
        let inner = self.inner.borrow();
        let end = wanted.iter().map(|v| v.id + 1).max().unwrap_or(0);
        let mut values: Vec<Option<Tensor>> = Vec::with_capacity(end as usize);
        for id in 0..end {
            let node = &inner.nodes[id as usize];
            values.push(match node.kind {
                Kind::Error => None,
                Kind::Param => Some(inner.params[node.args[0] as usize].param.value()),
                Kind::Op => {
                    let op = inner.op(id);
                    let known = |&a: &u32| values[a as usize].as_ref().map(Tensor::as_view);
                    let fail = |e: OpError| inner.error_at(id, op.name(), e);
                    let x = inner.args(id).iter().map(known).collect::<Option<Vec<_>>>();
                    let x = x.ok_or_else(|| fail("an input has no value".into()))?;
                    let mut out = Tensor::blank(inner.ty(id)).map_err(fail)?;
                    let view = out.as_view_mut().ok_or_else(|| fail("its buffer is shared".into()))?;
                    op.eval(&x, view).map_err(fail)?;
                    Some(out)
                }
                _ => inner.leaf(id),
            });
        }
        let value = |v: &Var<'_>| match (&values[v.id as usize], v.error()) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(e)) => Err(e),
            (None, None) => Err(OpError::new("it has no value").at_caller("reference")),
        };
        wanted.iter().map(value).collect()
    }
}
