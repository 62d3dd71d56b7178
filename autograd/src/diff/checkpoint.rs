//! Recomputing values instead of saving them for backward (Griewank and Walther 2000; Chen et al.
//! 2016).
//!
//! A checkpointed block is a range of nodes. When the sweep reaches it with a cotangent, it appends
//! the block again. The copy reads inputs from outside through [`Remat`]: the same value, but not
//! before that cotangent has been computed. The block's derivative rules then refer to the copies,
//! so that the first values need not be saved.

use crate::{
    error::OpError,
    graph::Graph,
    index::each,
    nodes::{Inner, Kind, Node, NodeId, OpRef},
    op::{Dependency, Internal, Lowering, Op, Rule, inputs, layout::copy},
    tensor::Type,
    var::Var,
    view::{TensorView, TensorViewMut},
};
use std::{collections::HashMap, ops::Range, sync::Arc};

/// Returns its first input, which must be read only after the second one has been computed. Nodes
/// computed from it are not merged with the original ones by common subexpression elimination.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Remat;

impl Op for Remat {
    const NAME: &'static str = "remat";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(inputs::<2>(x)?[0])
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        copy(x[0], out)
    }

    /// The cotangent for the value, nothing for the second input, which only orders the
    /// computation.
    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        (input == 0).then_some(r.ct)
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Recompute
    }

    fn dependency(&self, input: usize, _x: &[Type]) -> Dependency {
        if input == 0 {
            Dependency::Moved
        } else {
            Dependency::None
        }
    }
}

impl Graph {
    /// Runs `f`. Its nodes become a block that the backward pass recomputes instead of saving its
    /// values: less memory for one more forward pass of the block. Values and gradients have the
    /// same bits as without. Blocks can be nested, and derivatives of any order work.
    ///
    /// Only the block's inputs and results are saved for the backward pass.
    /// [`Plan::arena_bytes`](crate::Plan::arena_bytes) gives the memory, and
    /// [`Graph::saved_for_backward`] lists the values.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([0.1, 0.2]);
    /// let y = g.checkpoint(|| x.sin().exp().sin().exp());
    /// let d = y.sum().backward()?;
    /// let by_itself = autograd::grad(|x| x.sin().exp().sin().exp().sum())(&[0.1, 0.2])?;
    /// assert_eq!(d.get(x), Some(&by_itself));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[doc(alias = "remat")]
    pub fn checkpoint<R>(&self, f: impl FnOnce() -> R) -> R {
        let start = self.inner.borrow().nodes.next();
        let result = f();
        let end = self.inner.borrow().nodes.next();
        if start < end {
            self.inner.borrow_mut().checkpoints.push(start..end);
        }
        result
    }
}

/// The blocks that a sweep has not reached yet, and the copies of the nodes of those it has.
pub(super) struct Blocks {
    /// The number of blocks not reached yet, the first ones of the graph's list. The list is sorted
    /// by the ends of the blocks, so an inner block comes before the ones around it.
    pending: usize,
    copies: HashMap<NodeId, NodeId>,
}

impl Blocks {
    pub(super) fn new(inner: &Inner) -> Blocks {
        Blocks {
            pending: inner.checkpoints.len(),
            copies: HashMap::new(),
        }
    }

    /// Whether no node has a copy because nothing is recomputed.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// The node that derivative rules use in place of this one.
    #[inline]
    pub(super) fn copy(&self, id: NodeId) -> NodeId {
        if self.is_empty() {
            id
        } else {
            self.copies.get(&id).copied().unwrap_or(id)
        }
    }

    /// Appends all blocks that this node, whose cotangent is given, belongs to.
    pub(super) fn open(&mut self, g: &Graph, id: NodeId, cotangent: NodeId) {
        let inner = &mut *g.inner.borrow_mut();
        while let Some(last) = self.pending.checked_sub(1)
            && inner.checkpoints[last].end > id
        {
            self.pending = last;
            let block = inner.checkpoints[last].clone();
            if block.contains(&id) {
                self.append(inner, block, cotangent);
            }
        }
    }

    /// Appends a block again.
    fn append(&mut self, inner: &mut Inner, block: Range<NodeId>, cotangent: NodeId) {
        let remat = inner.program.op_id(OpRef::Own(Arc::new(Remat)));
        let (mut outside, mut inside) = (HashMap::new(), HashMap::new());
        let start = inner.nodes.next();
        for id in each(block).filter(|&id| id < start) {
            let node = inner.nodes[id];
            if node.kind != Kind::Op {
                continue; // leaves are not copied
            }
            let mut args = inner.args(id).to_vec();
            for arg in &mut args {
                *arg = match inside.get(arg) {
                    Some(&copy) => copy,
                    None => *outside.entry(*arg).or_insert_with(|| {
                        let args = [self.copy(*arg), cotangent];
                        let of = inner.nodes[args[0]];
                        inner.program.push(Node {
                            op: Some(remat),
                            args,
                            count: 2,
                            kind: Kind::Op,
                            ..of
                        })
                    }),
                };
            }
            let args = inner.program.store_args(&args);
            inside.insert(id, inner.program.push(Node { args, ..node }));
        }
        // a derivative of the derivative recomputes the copies as well
        let end = inner.nodes.next();
        inner.checkpoints.push(start..end);
        self.copies.extend(inside);
    }
}
