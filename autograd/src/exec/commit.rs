//! The commit: updates of parameters, all of them or none.
//!
//! The parameters are locked in one order, and none may have changed since its value was read. Then
//! everything that may fail comes first: new buffers for updates that are not in place. After that,
//! the kernels of the commit phase write the new values, and cannot fail: they are elementwise and
//! matrix products, and their scratch memory was reserved before the first kernel of the run.

use super::{
    memory::address_mut,
    run::{Held, Outcome, Run},
};
use crate::{
    error::Result,
    index::{Index, IndexVec},
    nodes::NodeId,
    param::{self, Param, Refused, stale_parameter},
    plan::{
        Placed,
        index::{OutputId, UpdateId, ValueId},
        kernel::Placement,
    },
    scratch::Scratch,
    tensor::Tensor,
};

/// The new values that are tensors of their own: none where a kernel writes over the old one.
type NewValues = IndexVec<UpdateId, Option<Tensor>>;

impl Run<'_> {
    /// Carries out the updates.
    pub(super) fn commit(
        &self,
        params: &mut [Held],
        epoch: u64,
        outputs: &IndexVec<OutputId, Tensor>,
        at: &mut IndexVec<ValueId, *mut u8>,
        scratch: &mut Scratch,
    ) -> Outcome<()> {
        let mut new_values = self.moved(params, outputs)?;
        self.let_go(params);
        let bound = self.bound()?;
        let change = |tensors: &mut [&mut Tensor]| {
            self.place_updates(tensors, &mut new_values, at)?;
            let stages = self.plan.commit..self.plan.stages.next();
            self.stages(stages, at, &[], scratch)?;
            for (new, tensor) in new_values.into_vec().into_iter().zip(tensors) {
                if let Some(new) = new {
                    **tensor = new;
                }
            }
            Ok(())
        };
        let stale = |k: usize| {
            let node = self.inner.bound.get(&bound[k].id()).copied();
            self.error(node.unwrap_or(NodeId::new(0)), stale_parameter(bound[k]))
        };
        let done = param::commit(&bound, self.plan.updates.len(), epoch, change);
        done.map_err(|refused| match refused {
            Refused::Failed(e) => Refused::Failed(e),
            Refused::Stale(k) => Refused::Stale(stale(k)),
        })
    }

    /// The new values that are there already.
    fn moved(&self, params: &[Held], outputs: &IndexVec<OutputId, Tensor>) -> Result<NewValues> {
        let moved = self.plan.updates.iter().map(|update| match update.placed {
            Placed::Move(view) => self.tensor(view, params, outputs).map(Some),
            Placed::Fresh | Placed::InPlace => Ok(None),
        });
        Ok(IndexVec::from_vec(moved.collect::<Result<_>>()?))
    }

    /// Drops the tensors that were read: another holder would prevent a write in place. The
    /// parameters still hold their tensors, and if one was changed meanwhile, the commit is
    /// refused.
    fn let_go(&self, params: &mut [Held]) {
        for held in params
            .iter_mut()
            .filter(|held| held.value.shape.count() != 1)
        {
            let binding = self.inner.binding(held.node);
            if binding.is_some_and(|b| b.scheduled.is_some()) {
                held.value = Tensor::from(0.0);
            }
        }
    }

    /// The parameters of the graph: first those of the plan's updates, in their order, then those
    /// that only must not have changed.
    fn bound(&self) -> Result<Vec<&Param>> {
        let mut bound = Vec::with_capacity(self.inner.params.len());
        for update in self.plan.updates.iter() {
            let node = self.node(update.target);
            let binding = self.inner.binding(node);
            let binding =
                binding.ok_or_else(|| self.error(node, "no parameter is bound here".into()))?;
            bound.push(&binding.param);
        }
        // what stands for a parameter was not read from it
        let others = self.inner.params.iter();
        let others = others.filter(|b| b.scheduled.is_none() && b.value.is_none());
        bound.extend(others.map(|b| &b.param));
        Ok(bound)
    }

    /// Finds where each update that a kernel writes has its place: the parameter's own elements, or
    /// a new buffer.
    fn place_updates(
        &self,
        tensors: &mut [&mut Tensor],
        new_values: &mut NewValues,
        at: &mut IndexVec<ValueId, *mut u8>,
    ) -> Result<()> {
        for (id, update) in self.plan.updates.enumerate() {
            let (tensor, new) = (&mut *tensors[id.index()], &mut new_values[id]);
            let in_place = update.placed == Placed::InPlace && tensor.is_unique();
            if new.is_none() && !in_place {
                let blank = Tensor::blank(tensor.ty());
                *new = Some(blank.map_err(|e| self.error(self.node(update.target), e))?);
            }
        }
        for (id, value) in self.plan.values.enumerate() {
            if let Placement::Update(update) = value.placement {
                let tensor = new_values[update]
                    .as_mut()
                    .unwrap_or(&mut *tensors[update.index()]);
                let target = self.plan.updates[update].target;
                let held = || self.error(self.node(target), "somebody else holds it".into());
                at[id] = address_mut(tensor).ok_or_else(held)?;
            }
        }
        Ok(())
    }
}
