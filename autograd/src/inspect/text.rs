//! A graph as text, one line a node.

use crate::{graph::Graph, nodes::Kind, tensor::Number};
use std::{fmt::Write, ops::Range};

impl Graph {
    /// The whole graph as text, one line a node, in the order of creation: number, type, operation and inputs.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input(2.0);
    /// let _y = x * 3.0;
    /// assert_eq!(g.to_text(), "%0: f64[] = input\n%1: f64[] = 3\n%2: f64[] = mul %0 %1\n");
    /// ```
    pub fn to_text(&self) -> String {
        self.to_text_range(0..self.len())
    }

    /// Part of the graph as text: the nodes with these numbers, those there are.
    pub fn to_text_range(&self, nodes: Range<usize>) -> String {
        let mut text = String::new();
        for id in nodes.start..nodes.end.min(self.len()) {
            text.push_str(&self.line(id as u32));
            text.push('\n');
        }
        text
    }

    pub(crate) fn line(&self, id: u32) -> String {
        let inner = self.inner.borrow();
        let node = &inner.nodes[id as usize];
        let mut line = format!("%{id}: {} = ", inner.ty(id));
        match node.kind {
            Kind::Op => {
                line.push_str(inner.op(id).name());
                inner.args(id).iter().for_each(|a| line.push_str(&format!(" %{a}")));
            }
            Kind::Input => line.push_str("input"),
            Kind::Constant => line.push_str("constant"),
            Kind::Param => {
                line.push_str(if inner.params[node.args[0] as usize].trained { "param" } else { "buffer" });
            }
            Kind::Literal | Kind::One | Kind::Zero => {
                let _ = match inner.literal(id) {
                    Number::Int(v) => write!(line, "{v}"),
                    Number::Float(v) => write!(line, "{v}"),
                }; // writing to a string cannot fail
            }
            Kind::Error => {
                let message = inner.error(id).map(|e| format!("error in {}: {}", e.op(), e.message()));
                line.push_str(&message.unwrap_or_default());
            }
        }
        if !inner.scope_path(id).is_empty() {
            line.push_str(&format!("  in {}", inner.scope_path(id)));
        }
        line
    }
}
