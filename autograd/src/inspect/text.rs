//! A graph as text, one line per node.

use crate::{
    graph::Graph,
    index::Index,
    nodes::{Inner, Kind, NodeId},
    tensor::Number,
};
use std::ops::Range;

impl Graph {
    /// The graph as text: one line per node, in the order of creation, with its id, type, operation
    /// and inputs. Innermost scopes are one line each, as in [`picture`](Graph::picture), which has
    /// options. [`to_text_range`](Graph::to_text_range) lists every node.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input(2.0);
    /// let y = x * 3.0;
    /// assert_eq!(g.to_text(), "%0: f64[] = input\n%1: f64[] = 3\n%2: f64[] = mul %0 %1\n");
    ///
    /// let z = g.within("layer", || y.exp().ln_1p());
    /// assert_eq!(g.to_text().lines().last(), Some("%3..%4: f64[] = layer %2  (exp ln_1p)"));
    /// # let _ = z;
    /// ```
    #[doc(alias = "make_jaxpr")]
    #[doc(alias = "jaxpr")]
    pub fn to_text(&self) -> String {
        self.picture().to_text()
    }

    /// Every node with an id in this range as text; ids beyond the graph are ignored.
    pub fn to_text_range(&self, nodes: Range<usize>) -> String {
        let (inner, mut text) = (self.inner.borrow(), String::new());
        for id in (nodes.start..nodes.end.min(inner.nodes.len())).map(NodeId::new) {
            text.push_str(&inner.line(id));
            text.push('\n');
        }
        text
    }
}

impl Inner {
    /// A node with its inputs and its scope.
    pub(crate) fn line(&self, id: NodeId) -> String {
        let mut line = format!("{id}: {} = {}", self.ty(id), self.what(id));
        if self.nodes[id].kind == Kind::Op {
            self.args(id)
                .iter()
                .for_each(|a| line.push_str(&format!(" {a}")));
        }
        let scope = self.scope_path(id);
        if !scope.is_empty() {
            line.push_str(&format!("  in {scope}"));
        }
        line
    }

    /// A node without its inputs.
    pub(super) fn what(&self, id: NodeId) -> String {
        let node = &self.nodes[id];
        match node.kind {
            Kind::Op => self.op(id).name().into(),
            Kind::Input => "input".into(),
            Kind::Constant => "constant".into(),
            Kind::Param if self.params[node.entry()].trained => "param".into(),
            Kind::Param => "buffer".into(),
            Kind::Literal | Kind::One | Kind::Zero => match self.literal(id) {
                Number::Int(v) => v.to_string(),
                Number::Float(v) => v.to_string(),
            },
            Kind::Error => {
                let message = self
                    .error(id)
                    .map(|e| format!("error in {}: {}", e.op(), e.message()));
                message.unwrap_or_default()
            }
        }
    }
}

/// Each name once, in order of first occurrence, with the number of occurrences.
pub(super) fn counts<'n>(names: impl Iterator<Item = &'n str>) -> Vec<(&'n str, usize)> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match counts.iter_mut().find(|(n, _)| *n == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts
}

/// The same as text: `mul 2×add`.
pub(super) fn counted(counts: &[(&str, usize)]) -> String {
    let word = |&(name, count): &(&str, usize)| {
        if count == 1 {
            name.into()
        } else {
            format!("{count}×{name}")
        }
    };
    counts.iter().map(word).collect::<Vec<String>>().join(" ")
}

/// The text, cut off at a length.
pub(super) fn shortened(text: &str, max_len: usize) -> String {
    if text.chars().count() <= max_len {
        text.into()
    } else {
        text.chars().take(max_len - 1).chain(['…']).collect()
    }
}
