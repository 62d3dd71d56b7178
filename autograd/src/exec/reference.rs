//! The slow definition: what a graph means. Every node up to the wanted ones, in the order of creation, by the ops' own
//! `eval`; nothing is left out, shared, reused or reordered. Tests compare the executor with it.

use crate::{
    error::{Error, OpError, Result, catch},
    graph::Graph,
    nodes::{Inner, Kind},
    tensor::Tensor,
    var::Var,
};

impl Graph {
    /// The values of some nodes as the definition has them. Looks only: updates are not carried out.
    #[doc(hidden)]
    pub fn reference(&self, wanted: &[Var<'_>]) -> Result<Vec<Tensor>> {
        if let Some(e) = self
            .foreign("reference", wanted.iter().copied())
            .and_then(Var::error)
        {
            return Err(e);
        }
        let inner = self.inner.borrow();
        let end = wanted.iter().map(|v| v.id + 1).max().unwrap_or(0);
        let mut values: Vec<Option<Tensor>> = Vec::with_capacity(end as usize);
        for id in 0..end {
            let value = if inner.error(id).is_some() {
                None
            } else {
                let leaf = |id| inner.leaf_now(id);
                Some(inner.define(id, leaf, |arg| values[arg as usize].as_ref())?)
            };
            values.push(value);
        }
        let value = |v: &Var<'_>| match (&values[v.id as usize], v.error()) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(e)) => Err(e),
            (None, None) => Err(OpError::new("it has no value").at_caller("reference")),
        };
        wanted.iter().map(value).collect()
    }
}

impl Inner {
    /// A node's value by definition, from those of leaves and of older nodes.
    pub(crate) fn define<'t>(
        &self,
        id: u32,
        leaf: impl FnOnce(u32) -> Option<Tensor>,
        value: impl Fn(u32) -> Option<&'t Tensor>,
    ) -> Result<Tensor> {
        let node = &self.nodes[id as usize];
        let fail = |e: OpError| self.error_at(id, "value", e);
        match node.kind {
            Kind::Error => Err(self
                .error(id)
                .cloned()
                .unwrap_or_else(|| fail("it carries an error".into()))),
            Kind::Op => {
                let op = self.op(id);
                let fail = |e: OpError| self.error_at(id, op.name(), e);
                let known = |&arg: &u32| value(arg).map(Tensor::as_view);
                let x = self.args(id).iter().map(known).collect::<Option<Vec<_>>>();
                let x = x.ok_or_else(|| fail("an input has no value".into()))?;
                let mut out = Tensor::blank(self.ty(id)).map_err(fail)?;
                let view = out
                    .as_view_mut()
                    .ok_or_else(|| fail("its buffer is shared".into()))?;
                catch(|| op.eval(&x, view))
                    .and_then(|done| done)
                    .map_err(fail)?;
                Ok(out)
            }
            _ => leaf(id).ok_or_else(|| fail("it has no value".into())),
        }
    }

    /// The value of a leaf: of a parameter, the one that it has now.
    pub(crate) fn leaf_now(&self, id: u32) -> Option<Tensor> {
        self.binding(id)
            .map(|b| b.param.value())
            .or_else(|| self.leaf(id))
    }

    /// The values of the nodes that the wanted ones and the updates need, in the order of creation up to `last`, until
    /// one fails; without computing again what is known already, if that is `kept`.
    pub(crate) fn define_needed(
        &self,
        wanted: &[u32],
        last: u32,
        kept: bool,
        leaf: &dyn Fn(u32) -> Option<Tensor>,
    ) -> Result<Vec<Option<Tensor>>> {
        let kept = |id: u32| self.kept.get(&id).filter(|_| kept);
        let roots = || {
            wanted
                .iter()
                .copied()
                .chain(self.updates.iter().map(|u| u.value))
        };
        let end = roots().max().map_or(0, |id| id + 1);
        let mut needed = vec![false; end as usize];
        roots().for_each(|id| needed[id as usize] = true);
        for id in (0..end).rev() {
            if needed[id as usize] && kept(id).is_none() {
                self.args(id)
                    .iter()
                    .for_each(|&arg| needed[arg as usize] = true);
            }
        }
        let mut values: Vec<Option<Tensor>> = Vec::new();
        for id in 0..end.min(last.saturating_add(1)) {
            values.push(match kept(id) {
                Some(kept) => Some(kept.clone()),
                None if needed[id as usize] => {
                    Some(self.define(id, leaf, |arg| values[arg as usize].as_ref())?)
                }
                None => None,
            });
        }
        Ok(values)
    }

    /// The error of the oldest node up to `last` that fails and that the wanted ones or updates need.
    pub(crate) fn first_failure(
        &self,
        wanted: &[u32],
        last: u32,
        leaf: &dyn Fn(u32) -> Option<Tensor>,
    ) -> Option<Error> {
        self.define_needed(wanted, last, true, leaf).err()
    }
}
