//! What a forward pass saves for the backward pass.

use crate::{
    error::Result,
    graph::Graph,
    nodes::NodeId,
    run::fetch::{Fetch, vars},
    sorted::sort_by,
    tensor::Type,
    var::Var,
};

/// A value of the forward pass that waits in memory for the backward pass: see [`Graph::saved_for_backward`].
#[derive(Clone, Debug)]
pub struct SavedValue {
    /// The scope in which it was written.
    pub scope: String,
    /// The operation that computes it.
    pub op: &'static str,
    /// Its type.
    pub ty: Type,
    /// The memory that it takes.
    pub bytes: usize,
    /// The source line that it comes from, as `file:line`.
    pub line: String,
}

impl Graph {
    /// The values that the forward pass computes and the backward pass reads, if these are asked for together: what takes
    /// the memory of a training step, the largest first. Leaves and parameters are there anyway and do not count.
    /// [`Graph::checkpoint`] makes it less.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input(vec![0.5; 1000]);
    /// let y = g.within("block", || x.softmax(0).sort(0).exp());
    /// let saved = g.saved_for_backward((y, g.grads(y.sum(), &[x])))?;
    /// assert!(saved.iter().all(|k| k.scope == "block"));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn saved_for_backward<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<Vec<SavedValue>> {
        self.saved(vars(&what))
    }

    #[track_caller]
    fn saved(&self, vars: Vec<Var<'_>>) -> Result<Vec<SavedValue>> {
        let mut saved = self.with_plan(vars, |planned| {
            let (inner, program) = (planned.inner, planned.program());
            let is_swept = |id: NodeId| inner.sweep_of(planned.node(id)).is_some();
            let describe = |node: NodeId| {
                let (ty, id) = (program.ty(node), planned.node(node));
                let source = inner.nodes[id].source;
                SavedValue {
                    scope: inner.scope_path(id),
                    op: inner.op(id).name(),
                    ty,
                    bytes: ty.shape.count() * ty.dtype.size(),
                    line: format!("{}:{}", source.file(), source.line()),
                }
            };
            planned
                .plan()
                .saved_for_backward(program, is_swept)
                .into_iter()
                .map(describe)
                .collect::<Vec<_>>()
        })?;
        sort_by(&mut saved, |k| -(k.bytes as i64));
        Ok(saved)
    }
}
