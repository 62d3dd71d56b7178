//! Binding: where the values of a plan are in one run. Leaves are read where they lie; what is
//! computed gets the addresses that the plan has laid out.

use super::{
    memory::{address, address_mut},
    run::{Held, Run},
};
use crate::{
    error::Result,
    index::{Index, IndexVec},
    nodes::{Kind, NodeId},
    param::{self, stale_parameter},
    plan::{
        index::{InputId, OutputId, ValueId},
        kernel::{Placement, View},
    },
    tensor::{DType, Number, Tensor},
};

impl Run<'_> {
    /// The values of the parameters that the plan reads, at one moment, in the order of the plan's
    /// inputs; and the epoch.
    pub(super) fn snapshot(&self) -> Result<(Vec<Held>, u64)> {
        if self.inner.params.is_empty() {
            return Ok((Vec::new(), 0));
        }
        // `places`: where in `held` the value of each of `params` belongs
        let (mut held, mut params, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (input, &id) in self.plan.inputs.enumerate() {
            let node = self.node(id);
            if let Some(binding) = self.inner.binding(node) {
                if binding.value.is_none() {
                    params.push(&binding.param);
                    places.push(held.len());
                }
                let value = binding.value.clone();
                held.push(Held {
                    input,
                    node,
                    value: value.unwrap_or(Tensor::from(0.0)),
                });
            }
        }
        // all at one moment: another thread's commit changes several, and none may be seen half-way
        match param::snapshot(&params, self.moment, |k, value| {
            held[places[k]].value = value
        }) {
            Ok(epoch) => Ok((held, epoch)),
            Err(k) => Err(self.error(held[places[k]].node, stale_parameter(params[k]))),
        }
    }

    /// Finds the address of each value. Numbers of expressions are written to `numbers`, and read
    /// from there.
    pub(super) fn bind(
        &self,
        at: &mut IndexVec<ValueId, *mut u8>,
        numbers: &mut Vec<u64>,
        params: &[Held],
        outputs: &mut IndexVec<OutputId, Tensor>,
        arena: *mut u8,
    ) -> Result<()> {
        // literals are inputs: a plan serves programs with other ones. Kernels read them here
        numbers.clear();
        numbers.resize(self.plan.inputs.len(), 0); // never moves from here on
        let mut next_param = params.iter(); // both are in the order of the plan's inputs
        at.clear();
        for value in self.plan.values.iter() {
            let address = match value.placement {
                Placement::Arena(start) => arena.wrapping_add(start),
                Placement::Output(id) => {
                    let shared =
                        || self.error(self.node(value.node), "its buffer is shared".into());
                    address_mut(&mut outputs[id]).ok_or_else(shared)?
                }
                Placement::Update(_) => std::ptr::null_mut(), // known when the parameter is locked
                Placement::Input(id) => {
                    self.input_address(id, &mut numbers[id.index()], &mut next_param)?
                }
            };
            at.push(address);
        }
        Ok(())
    }

    /// Inputs come in the order of the plan, and so do the parameters among them.
    fn input_address<'p>(
        &self,
        input: InputId,
        number: &mut u64,
        next_param: &mut impl Iterator<Item = &'p Held>,
    ) -> Result<*mut u8> {
        let node = self.node(self.plan.inputs[input]);
        let missing = || self.error(node, "a value is missing".into());
        if let Some(given) = self.given.get(node.index()) {
            return Ok(address(given));
        }
        let leaf = &self.inner.nodes[node];
        Ok(match leaf.kind {
            Kind::Input | Kind::Constant => address(&self.inner.leaves[leaf.entry()]),
            Kind::Literal | Kind::One | Kind::Zero => {
                *number = bits(self.inner.literals[leaf.entry()], leaf.dtype);
                std::ptr::from_mut(number).cast()
            }
            Kind::Param => address(&next_param.next().ok_or_else(missing)?.value),
            Kind::Op => address(self.inner.cached.get(&node).ok_or_else(missing)?),
            Kind::Error => return Err(missing()),
        })
    }

    /// The value that a run reads for a node that it does not compute.
    pub(super) fn leaf(&self, node: NodeId, params: &[Held]) -> Option<Tensor> {
        if let Some(given) = self.given.get(node.index()) {
            return Some(given.clone());
        }
        match self.inner.nodes[node].kind {
            Kind::Param => {
                let held = params.iter().find(|p| p.node == node);
                let held = held.map(|p| p.value.clone());
                held.or_else(|| self.inner.leaf_now(node))
            }
            Kind::Op => self.inner.cached.get(&node).cloned(),
            _ => self.inner.leaf(node),
        }
    }

    /// A value that is handed out.
    pub(super) fn tensor(
        &self,
        view: View,
        params: &[Held],
        outputs: &IndexVec<OutputId, Tensor>,
    ) -> Result<Tensor> {
        let value = match self.plan.values[view.value].placement {
            Placement::Input(input) => self.input(input, params)?,
            Placement::Output(id) => outputs[id].clone(),
            Placement::Arena(_) | Placement::Update(_) => {
                let node = self.node(self.plan.values[view.value].node);
                return Err(self.error(node, "a value is missing".into()));
            }
        };
        Ok(value.reshaped(*self.plan.shape(view)))
    }

    /// The value of an input of the plan.
    fn input(&self, input: InputId, params: &[Held]) -> Result<Tensor> {
        if let Ok(k) = params.binary_search_by_key(&input, |held| held.input) {
            return Ok(params[k].value.clone());
        }
        let node = self.node(self.plan.inputs[input]);
        let value = self.leaf(node, params);
        value.ok_or_else(|| self.error(node, "a value is missing".into()))
    }
}

/// A number of this dtype, in the lowest bytes.
fn bits(value: Number, dtype: DType) -> u64 {
    match (dtype, value) {
        (DType::F32, v) => (v.to_f64() as f32).to_bits().into(),
        (DType::F64, v) => v.to_f64().to_bits(),
        (DType::I64, Number::Int(v)) => v as u64,
        (DType::I64, Number::Float(v)) => v as i64 as u64,
        (DType::Bool, v) => (v.to_f64() != 0.0).into(),
    }
}
