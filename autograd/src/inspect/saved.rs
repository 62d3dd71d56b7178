//! The values that a forward pass saves for the backward pass.

use crate::{
    error::Result,
    graph::Graph,
    nodes::NodeId,
    run::fetch::{Fetch, vars},
    sorted::sort_by,
    tensor::Type,
    var::Var,
};

/// A value of the forward pass that is saved for the backward pass: see
/// [`Graph::saved_for_backward`].
#[derive(Clone, Debug)]
pub struct SavedValue {
    /// The scope of the operation.
    pub scope: String,
    /// The operation that computes it.
    pub op: &'static str,
    /// Its type.
    pub ty: Type,
    /// Its size in memory.
    pub bytes: usize,
    /// Its source line, as `file:line`.
    pub line: String,
}

impl Graph {
    /// The values that the forward pass computes and the backward pass reads, if these values are
    /// computed together, the largest first. They take up most of the memory of a training step.
    /// Leaves and parameters do not count, because they are in memory anyway. [`Graph::checkpoint`]
    /// reduces them.
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
                let source = inner.source_of(id);
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
