//! A drawing of a graph that stays readable: scopes as boxes, forward and backward in two colours,
//! types on the arrows. This file decides what is drawn, and writes text and Graphviz. `svg.rs`
//! writes SVG.
//!
//! Consecutive nodes, in the order of creation, are grouped into runs. Such runs only use older
//! ones, as nodes do: so the drawing has no cycles, whatever is folded.

use super::text::{counted, counts};
use crate::{
    graph::Graph,
    index::{Index, IndexVec, index},
    nodes::{Inner, Kind, NodeId, ScopeId},
    var::Var,
};
use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
};

index! {
    /// Index of a box in a drawing.
    BoxId,
}

/// A drawing of a graph with its options: returned by [`Graph::picture`].
#[derive(Clone)]
pub struct Picture<'g> {
    graph: &'g Graph,
    of: Option<Vec<NodeId>>,
    depth: Option<usize>,
    open: Vec<String>,
    all: bool,
    max_boxes: usize,
    names: HashMap<NodeId, String>,
}

/// A box: a node, or several that are folded into one.
#[derive(Debug)]
pub(super) struct DrawnBox {
    pub(super) part: Part,
    /// The name, and below it the operations inside.
    pub(super) label: Vec<String>,
    /// The source line.
    pub(super) source: String,
    nodes: Vec<NodeId>,
}

/// What kind of node a box stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Leaf,
    Forward,
    Backward,
    Error,
}

/// An arrow from one box to another, with the type of the value.
#[derive(Debug)]
pub(super) struct Arrow {
    pub(super) from: BoxId,
    pub(super) to: BoxId,
    pub(super) label: String,
}

impl Graph {
    /// A drawing of the graph: forward in one colour, backward in another, types on the arrows.
    /// Each innermost scope is one box. A graph that is still too large is folded further: first
    /// outer scopes, then consecutive operations.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0]);
    /// let y = g.within("norm", || (x / x.square().sum().sqrt()).exp()).sum();
    /// let [d] = g.grad(y, &[x]);
    /// let short = g.picture().name(x, "x").to_dot();
    /// let long = g.picture().expand("norm").of(&[y]).to_dot();
    /// assert!(short.contains("norm") && !short.contains("\"square\""));
    /// assert!(long.contains("\"square\""));
    /// # let _ = d;
    /// ```
    pub fn picture(&self) -> Picture<'_> {
        Picture {
            graph: self,
            of: None,
            depth: None,
            open: Vec::new(),
            all: false,
            max_boxes: 40,
            names: HashMap::new(),
        }
    }

    /// The graph for Graphviz: a [`picture`](Graph::picture) with default options.
    pub fn to_dot(&self) -> String {
        self.picture().to_dot()
    }
}

impl<'g> Picture<'g> {
    /// Draws only the nodes that these values are computed from.
    pub fn of(mut self, values: &[Var<'g>]) -> Picture<'g> {
        self.of = Some(
            values
                .iter()
                .filter(|v| std::ptr::eq(v.graph(), self.graph))
                .map(|v| v.id)
                .collect(),
        );
        self
    }

    /// Shows scopes down to this depth: 1 folds all but the outermost ones.
    pub fn depth(mut self, depth: usize) -> Picture<'g> {
        self.depth = Some(depth);
        self
    }

    /// Expands the scope with this path, such as `mlp.0`, and all scopes in it.
    pub fn expand(mut self, scope: &str) -> Picture<'g> {
        self.open.push(scope.into());
        self
    }

    /// Expands all scopes. [`max_boxes`](Picture::max_boxes) still applies.
    pub fn expand_all(mut self) -> Picture<'g> {
        self.all = true;
        self
    }

    /// The largest number of boxes; the default is 40.
    pub fn max_boxes(mut self, boxes: usize) -> Picture<'g> {
        self.max_boxes = boxes.max(1);
        self
    }

    /// Sets the name of a node. A second name is appended to the first one. A node of another graph
    /// is ignored.
    pub fn name(mut self, value: Var<'g>, name: &str) -> Picture<'g> {
        if !std::ptr::eq(value.graph(), self.graph) {
            return self;
        }
        let known = self.names.entry(value.id).or_default();
        *known = if known.is_empty() {
            name.into()
        } else {
            format!("{known} = {name}")
        };
        self
    }

    /// One line per box, in the order of creation.
    pub fn to_text(&self) -> String {
        let boxes = self.boxes(true);
        let inner = self.graph.inner.borrow();
        let mut text = String::new();
        for b in boxes.iter() {
            let (Some(&first), Some(&last)) = (b.nodes.first(), b.nodes.last()) else {
                continue;
            };
            let line = match b.nodes.len() {
                1 => inner.line(first),
                _ => {
                    let own = |id: NodeId| b.nodes.binary_search(&id).is_ok();
                    let mut outside: Vec<NodeId> = b
                        .nodes
                        .iter()
                        .flat_map(|&id| inner.args(id).to_vec())
                        .filter(|&a| !own(a))
                        .collect();
                    let mut seen = HashSet::new();
                    outside.retain(|&a| seen.insert(a));
                    let inputs: String = outside.iter().map(|a| format!(" {a}")).collect();
                    let inside = b.label.get(1).map_or("", String::as_str);
                    format!(
                        "{first}..{last}: {} = {}{inputs}  ({inside})",
                        inner.ty(last),
                        b.label[0]
                    )
                }
            };
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    /// The drawing for Graphviz: `dot -Tsvg`.
    pub fn to_dot(&self) -> String {
        let (boxes, arrows) = self.drawn();
        let mut dot = String::from(
            "digraph {\n  node [shape=box, style=\"rounded,filled\", color=\"#445566\", fontname=\"sans-serif\", fontsize=11]\n  \
             edge [color=\"#889099\", fontname=\"sans-serif\", fontsize=9]\n",
        );
        for (id, b) in boxes.enumerate() {
            let k = id.index();
            let label = b
                .label
                .iter()
                .map(|l| escaped(l))
                .collect::<Vec<_>>()
                .join("\\n");
            let (fill, source) = (b.part.fill(), escaped(&b.source));
            // writing to a string cannot fail
            let _ = writeln!(
                dot,
                "  n{k} [label=\"{label}\", fillcolor=\"{fill}\", tooltip=\"{source}\"]"
            );
        }
        for Arrow { from, to, label } in &arrows {
            let (from, to) = (from.index(), to.index());
            let _ = writeln!(dot, "  n{from} -> n{to} [label=\"{}\"]", escaped(label));
        }
        dot.push_str("}\n");
        dot
    }

    /// The boxes and the arrows between them.
    pub(super) fn drawn(&self) -> (IndexVec<BoxId, DrawnBox>, Vec<Arrow>) {
        /// The values that a box reads from another one.
        struct Read {
            from: BoxId,
            values: Vec<NodeId>,
        }
        let boxes = self.boxes(false);
        let inner = self.graph.inner.borrow();
        let mut home = HashMap::new();
        for (own, b) in boxes.enumerate() {
            home.extend(b.nodes.iter().map(|&id| (id, own)));
        }
        let mut arrows = Vec::new();
        for (to, b) in boxes.enumerate() {
            // in the order in which it is read
            let (mut read, mut places): (Vec<Read>, _) = (Vec::new(), HashMap::new());
            let mut seen = HashSet::new();
            for &arg in b.nodes.iter().flat_map(|&id| inner.args(id)) {
                let Some(&from) = home.get(&arg).filter(|&&from| from != to) else {
                    continue;
                };
                let index = *places.entry(from).or_insert(read.len());
                if index == read.len() {
                    read.push(Read {
                        from,
                        values: Vec::new(),
                    });
                }
                if seen.insert(arg) {
                    read[index].values.push(arg);
                }
            }
            arrows.extend(read.into_iter().map(|Read { from, values }| Arrow {
                from,
                to,
                label: types(&inner, &values),
            }));
        }
        (boxes, arrows)
    }

    /// The boxes, in the order of creation, at most [`max_boxes`](Picture::max_boxes). Literals are
    /// part of the nodes that use them, unless `with_literals`.
    fn boxes(&self, with_literals: bool) -> IndexVec<BoxId, DrawnBox> {
        let inner = self.graph.inner.borrow();
        let nodes = self.nodes(&inner, with_literals);
        let scopes = Scopes::new(&inner);
        let open = self.open(&inner);
        let by_scope = |depth: Option<usize>| {
            let fold = scopes.fold(depth, &open);
            let scope = |id: NodeId| fold[inner.nodes[id].scope];
            let alone = nodes.iter().map(|&id| Run {
                scope: scope(id),
                nodes: vec![id],
            });
            let same = |a: &Run, b: &Run| {
                a.scope.is_some() && a.scope == b.scope && a.sweep(&inner) == b.sweep(&inner)
            };
            merged(alone, same, |run| run.scope)
        };
        let mut folded = by_scope(self.depth);
        let deepest = scopes.deepest().min(self.depth.unwrap_or(usize::MAX));
        if folded.len() > self.max_boxes && deepest > 1 {
            // a smaller depth gives fewer boxes: take the largest depth with few enough, or 1
            let (mut low, mut high) = (1, deepest);
            while high - low > 1 {
                let depth = low + (high - low) / 2;
                *(if by_scope(Some(depth)).len() > self.max_boxes {
                    &mut high
                } else {
                    &mut low
                }) = depth;
            }
            folded = by_scope(Some(low));
        }
        if folded.len() > self.max_boxes {
            folded = limited(&inner, folded, self.max_boxes);
        }
        let boxes = folded.into_iter().map(|run| self.draw(&inner, run));
        IndexVec::from_vec(boxes.collect())
    }

    /// The nodes to be drawn.
    fn nodes(&self, inner: &Inner, with_literals: bool) -> Vec<NodeId> {
        let count = inner.nodes.len();
        let mut needed = IndexVec::filled(self.of.is_none(), count);
        for &id in self.of.iter().flatten() {
            needed[id] = true;
        }
        let mut read = IndexVec::filled(false, count);
        for id in inner.nodes.indices().rev() {
            if needed[id] {
                for &a in inner.args(id) {
                    (needed[a], read[a]) = (true, true);
                }
            }
        }
        let is_drawn = |&id: &NodeId| {
            needed[id]
                && match inner.nodes[id].kind {
                    Kind::Literal => with_literals,
                    Kind::One | Kind::Zero => with_literals || read[id],
                    _ => true,
                }
        };
        inner.nodes.indices().filter(is_drawn).collect()
    }

    /// By scope: whether it is expanded. It is if it was requested, lies in a requested one, or
    /// contains one.
    fn open(&self, inner: &Inner) -> IndexVec<ScopeId, bool> {
        let mut open = IndexVec::filled(self.all, inner.scopes.len());
        for requested in &self.open {
            // by scope: the rest of the requested path below it; `None` if the paths differ
            let mut left: IndexVec<ScopeId, Option<&str>> =
                IndexVec::from_vec(vec![Some(requested)]);
            for (k, scope) in inner.scopes.enumerate().skip(1) {
                let below = left[scope.outer].and_then(|left| path_rest(left, &scope.name));
                open[k] |= below.is_some();
                left.push(below);
            }
        }
        open
    }

    fn draw(&self, inner: &Inner, Run { scope, nodes }: Run) -> DrawnBox {
        let first = nodes[0];
        let kind = |id: NodeId| inner.nodes[id].kind;
        let part = match () {
            () if nodes.iter().any(|&id| kind(id) == Kind::Error) => Part::Error,
            () if inner.sweep_of(first).is_some() || kind(first) == Kind::One => Part::Backward,
            () if nodes.iter().all(|&id| kind(id) != Kind::Op) => Part::Leaf,
            () => Part::Forward,
        };
        let source = inner.source_of(first);
        let source_line = format!("{first} {}:{}", source.file(), source.line());
        if nodes.len() == 1 {
            // the label of a single node says more than the name of its scope
            return DrawnBox {
                part,
                label: self.label(inner, first),
                source: source_line,
                nodes,
            };
        }
        let ops = nodes
            .iter()
            .filter(|&&id| kind(id) == Kind::Op)
            .map(|&id| inner.op(id).name());
        let inside = counted(&counts(ops.clone()));
        let title = match scope {
            Some(scope) => inner.path(scope),
            None => {
                let scope = |&id: &NodeId| {
                    Some(inner.nodes[id].scope).filter(|&scope| scope != ScopeId::OUTERMOST)
                };
                match (
                    nodes.iter().find_map(scope),
                    nodes.iter().rev().find_map(scope),
                ) {
                    (Some(from), Some(to)) if from != to => {
                        format!("{} … {}", inner.path(from), inner.path(to))
                    }
                    (Some(only), _) => inner.path(only),
                    (None, _) => format!("{} operations", ops.count()),
                }
            }
        };
        let title = if part == Part::Backward {
            format!("∂ {title}")
        } else {
            title
        };
        DrawnBox {
            part,
            label: vec![title, inside],
            source: source_line,
            nodes,
        }
    }

    /// The label of a single node: its operation with the literals it uses.
    fn label(&self, inner: &Inner, id: NodeId) -> Vec<String> {
        let mut what = inner.what(id);
        if inner.nodes[id].kind == Kind::Op {
            let args = inner.args(id);
            let number = |a: &NodeId| inner.nodes[*a].kind == Kind::Literal;
            for (position, a) in args.iter().enumerate().filter(|(_, a)| number(a)) {
                let n = inner.what(*a);
                what = if position == 0 && args.len() > 1 {
                    format!("{n} {what}")
                } else {
                    format!("{what} {n}")
                };
            }
        }
        match self.names.get(&id) {
            Some(name) if inner.nodes[id].kind == Kind::Op => vec![name.clone(), what],
            Some(name) => vec![name.clone()],
            None => vec![what],
        }
    }
}

/// The rest of a path after its first name; `Some("")` stays as it is, since it is the end of the
/// path. `None` if the first name is another one.
fn path_rest<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let goes_on = |text: &str| text.is_empty() || text.starts_with('.');
    if path.is_empty() || name.strip_prefix(path).is_some_and(goes_on) {
        return Some("");
    }
    path.strip_prefix(name)
        .filter(|rest| goes_on(rest))
        .map(|rest| rest.trim_start_matches('.'))
}

/// How scopes are nested. An outer scope is older than those in it.
struct Scopes<'i> {
    inner: &'i Inner,
    /// By scope: whether no other scope was opened in it.
    innermost: IndexVec<ScopeId, bool>,
    /// By scope: its nesting depth.
    depth: IndexVec<ScopeId, usize>,
}

impl Scopes<'_> {
    fn new(inner: &Inner) -> Scopes<'_> {
        let count = inner.scopes.len();
        let mut innermost = IndexVec::filled(true, count);
        let mut depth = IndexVec::filled(0, count);
        for (k, scope) in inner.scopes.enumerate().skip(1) {
            innermost[scope.outer] = false;
            depth[k] = depth[scope.outer] + 1;
        }
        Scopes {
            inner,
            innermost,
            depth,
        }
    }

    /// The largest nesting depth.
    fn deepest(&self) -> usize {
        self.depth.iter().copied().max().unwrap_or(0)
    }

    /// By scope: the outermost scope around it (or itself) that is folded into one box, if there is
    /// one.
    fn fold(
        &self,
        depth: Option<usize>,
        open: &IndexVec<ScopeId, bool>,
    ) -> IndexVec<ScopeId, Option<ScopeId>> {
        let mut fold: IndexVec<ScopeId, Option<ScopeId>> = IndexVec::from_vec(vec![None]);
        for (k, scope) in self.inner.scopes.enumerate().skip(1) {
            let own = !open[k] && depth.map_or(self.innermost[k], |depth| self.depth[k] >= depth);
            fold.push(fold[scope.outer].or(own.then_some(k)));
        }
        fold
    }
}

/// A run of consecutive nodes, with the scope that is folded into it, if any.
struct Run {
    scope: Option<ScopeId>,
    nodes: Vec<NodeId>,
}

impl Run {
    fn sweep(&self, inner: &Inner) -> Option<usize> {
        inner.sweep_of(self.nodes[0])
    }
}

/// The types of the values on an arrow.
fn types(inner: &Inner, values: &[NodeId]) -> String {
    let first = inner.ty(values[0]);
    match values.len() {
        1 => first.to_string(),
        n if values.iter().all(|&v| inner.ty(v) == first) => format!("{n} × {first}"),
        n => format!("{n} values"),
    }
}

/// Merges adjacent runs for which `same` is true; `scope` gives the scope of the merged run.
fn merged(
    all: impl IntoIterator<Item = Run>,
    same: impl Fn(&Run, &Run) -> bool,
    scope: impl Fn(&Run) -> Option<ScopeId>,
) -> Vec<Run> {
    let mut merged: Vec<Run> = Vec::new();
    for run in all {
        match merged.last_mut() {
            Some(last) if same(last, &run) => {
                last.scope = scope(last);
                last.nodes.extend(run.nodes);
            }
            _ => merged.push(run),
        }
    }
    merged
}

/// At most `max_boxes` runs: merges those of one source line and, if that is not enough, more of
/// them. Forward and backward stay separate.
fn limited(inner: &Inner, all: Vec<Run>, max_boxes: usize) -> Vec<Run> {
    let line = |run: &Run| {
        let source = inner.source_of(run.nodes[0]);
        (source.file(), source.line())
    };
    let sweeps = |a: &Run, b: &Run| a.sweep(inner) == b.sweep(inner);
    let is_node = |run: &Run| run.scope.is_none();
    let all = merged(
        all,
        |a, b| is_node(a) && is_node(b) && line(a) == line(b) && sweeps(a, b),
        |_| None,
    );
    if all.len() <= max_boxes {
        return all;
    }
    let total: usize = all.iter().map(|run| run.nodes.len()).sum();
    // half of the limit, because runs also end between two sweeps
    let max_nodes = total.div_ceil((max_boxes / 2).max(1));
    merged(
        all,
        |a, b| sweeps(a, b) && a.nodes.len() < max_nodes,
        |_| None,
    )
}

impl Part {
    /// The fill colour of a box.
    pub(super) fn fill(self) -> &'static str {
        match self {
            Part::Leaf => "#eceff1",
            Part::Forward => "#d3e5fb",
            Part::Backward => "#fde0c2",
            Part::Error => "#f8c4c4",
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
