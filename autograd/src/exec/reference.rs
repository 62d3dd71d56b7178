//! The slow definition: what a graph means. Every node up to the wanted ones, in the order of
//! creation, by the ops' own `eval`; nothing is left out, shared, reused or reordered. Tests
//! compare the executor with it.

use crate::{
    error::{Error, OpError, Result, catch},
    index::{Index, IndexVec},
    nodes::{Binding, Inner, Kind, NodeId},
    tensor::Tensor,
};

impl Inner {
    /// A node's value by definition, from those of leaves and of older nodes.
    pub(crate) fn define<'t>(
        &self,
        id: NodeId,
        leaf: impl FnOnce(NodeId) -> Option<Tensor>,
        value: impl Fn(NodeId) -> Option<&'t Tensor>,
    ) -> Result<Tensor> {
        let node = &self.nodes[id];
        let fail = |e: OpError| self.error_at(id, "value", e);
        match node.kind {
            Kind::Error => Err(self
                .error(id)
                .cloned()
                .unwrap_or_else(|| fail("it carries an error".into()))),
            Kind::Op => {
                let op = self.op(id);
                let fail = |e: OpError| self.error_at(id, op.name(), e);
                let known = |&arg: &NodeId| value(arg).map(Tensor::as_view);
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

    /// The value of a leaf: of a parameter, the one that is bound, or that it has now.
    pub(crate) fn leaf_now(&self, id: NodeId) -> Option<Tensor> {
        let value = |b: &Binding| b.value.clone().unwrap_or_else(|| b.param.value());
        self.binding(id).map(value).or_else(|| self.leaf(id))
    }

    /// The values of the nodes that the wanted ones and the updates need, in the order of creation,
    /// up to `last` if there is one, until one fails; without computing again what is known
    /// already, if that is `cached`.
    pub(crate) fn define_needed(
        &self,
        wanted: &[NodeId],
        last: Option<NodeId>,
        cached: bool,
        leaf: &dyn Fn(NodeId) -> Option<Tensor>,
    ) -> Result<IndexVec<NodeId, Option<Tensor>>> {
        let cached = |id: NodeId| self.cached.get(&id).filter(|_| cached);
        let updates = self.updates.iter().map(|u| u.value);
        let roots = || wanted.iter().copied().chain(updates.clone());
        let end = roots().max().map_or(0, |id| id.index() + 1);
        let mut needed = IndexVec::filled(false, end);
        roots().for_each(|id| needed[id] = true);
        for id in needed.indices().rev() {
            if needed[id] && cached(id).is_none() {
                self.args(id).iter().for_each(|&arg| needed[arg] = true);
            }
        }
        let mut values: IndexVec<NodeId, Option<Tensor>> = IndexVec::new();
        for id in needed
            .indices()
            .take_while(|&id| last.is_none_or(|last| id <= last))
        {
            values.push(match cached(id) {
                Some(cached) => Some(cached.clone()),
                None if needed[id] => Some(self.define(id, leaf, |arg| values[arg].as_ref())?),
                None => None,
            });
        }
        Ok(values)
    }

    /// The error of the oldest node up to `last` that fails and that the wanted ones or updates
    /// need.
    pub(crate) fn first_failure(
        &self,
        wanted: &[NodeId],
        last: NodeId,
        leaf: &dyn Fn(NodeId) -> Option<Tensor>,
    ) -> Option<Error> {
        self.define_needed(wanted, Some(last), true, leaf).err()
    }
}
