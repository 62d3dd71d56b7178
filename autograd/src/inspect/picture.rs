//! A graph as a picture that stays readable: scopes as boxes, forward and backward in two colours, types on the arrows.
//! Here is what is drawn, as text and for Graphviz; `svg.rs` draws it itself.
//!
//! Nodes are put together in runs of neighbours in the order of creation. Such runs use older ones only, as nodes do: the
//! picture has no cycles, whatever is folded.

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
    /// A box of a picture.
    BoxId,
}

/// How a graph is drawn: what [`Graph::picture`] returns.
#[derive(Clone)]
pub struct Picture<'g> {
    graph: &'g Graph,
    of: Option<Vec<NodeId>>,
    depth: Option<usize>,
    open: Vec<String>,
    all: bool,
    at_most: usize,
    names: HashMap<NodeId, String>,
}

/// A box: a node, or several that are folded into one.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) part: Part,
    /// The name, and below it what is inside.
    pub(super) label: Vec<String>,
    /// The source line.
    pub(super) place: String,
    nodes: Vec<NodeId>,
}

/// What a box belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Leaf,
    Forward,
    Backward,
    Error,
}

/// An arrow from one box to another, with the type of what goes along it.
#[derive(Debug)]
pub(super) struct Arrow {
    pub(super) from: BoxId,
    pub(super) to: BoxId,
    pub(super) label: String,
}

impl Graph {
    /// A picture of the graph: forward in one colour, backward in another, types on the arrows; each innermost scope is one
    /// box. A graph that is still too large is folded further: outer scopes, then neighbouring operations.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0]);
    /// let y = g.within("norm", || (x / x.square().sum().sqrt()).exp()).sum();
    /// let [d] = g.grad(y, &[x]);
    /// let short = g.picture().name(x, "x").to_dot();
    /// let long = g.picture().expand("norm").of(&[y]).to_dot();
    /// assert!(short.contains("norm") && !short.contains("\"square\"") && long.contains("\"square\""));
    /// # let _ = d;
    /// ```
    pub fn picture(&self) -> Picture<'_> {
        Picture {
            graph: self,
            of: None,
            depth: None,
            open: Vec::new(),
            all: false,
            at_most: 40,
            names: HashMap::new(),
        }
    }

    /// The graph for Graphviz: a [`picture`](Graph::picture) without options.
    pub fn to_dot(&self) -> String {
        self.picture().to_dot()
    }
}

impl<'g> Picture<'g> {
    /// Only what these values are computed from.
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

    /// Opens the scope with this path, such as `mlp.0`, and all in it.
    pub fn expand(mut self, scope: &str) -> Picture<'g> {
        self.open.push(scope.into());
        self
    }

    /// Opens all scopes. [`at_most`](Picture::at_most) still holds.
    pub fn expand_all(mut self) -> Picture<'g> {
        self.all = true;
        self
    }

    /// The largest number of boxes; 40 if nothing is said.
    pub fn at_most(mut self, boxes: usize) -> Picture<'g> {
        self.at_most = boxes.max(1);
        self
    }

    /// Calls a node by a name; a second name is added to the first one. A node of another graph is left out.
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

    /// A line a box, in the order of creation.
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

    /// For Graphviz: `dot -Tsvg`.
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
            let (fill, place) = (b.part.fill(), escaped(&b.place));
            // writing to a string cannot fail
            let _ = writeln!(
                dot,
                "  n{k} [label=\"{label}\", fillcolor=\"{fill}\", tooltip=\"{place}\"]"
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
    pub(super) fn drawn(&self) -> (IndexVec<BoxId, Drawn>, Vec<Arrow>) {
        /// What another box gives to the one at hand.
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
                let place = *places.entry(from).or_insert(read.len());
                if place == read.len() {
                    read.push(Read {
                        from,
                        values: Vec::new(),
                    });
                }
                if seen.insert(arg) {
                    read[place].values.push(arg);
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

    /// The boxes, in the order of creation, at most as many as wanted. Numbers in expressions are part of the nodes that
    /// use them, unless each of them is asked for.
    fn boxes(&self, with_numbers: bool) -> IndexVec<BoxId, Drawn> {
        let inner = self.graph.inner.borrow();
        let nodes = self.nodes(&inner, with_numbers);
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
        if folded.len() > self.at_most && deepest > 1 {
            // the less deep, the fewer boxes: the largest depth with few enough, or 1
            let (mut few, mut many) = (1, deepest);
            while many - few > 1 {
                let depth = few + (many - few) / 2;
                *(if by_scope(Some(depth)).len() > self.at_most {
                    &mut many
                } else {
                    &mut few
                }) = depth;
            }
            folded = by_scope(Some(few));
        }
        if folded.len() > self.at_most {
            folded = joined(&inner, folded, self.at_most);
        }
        let boxes = folded.into_iter().map(|run| self.draw(&inner, run));
        IndexVec::from_vec(boxes.collect())
    }

    /// The nodes to be drawn.
    fn nodes(&self, inner: &Inner, with_numbers: bool) -> Vec<NodeId> {
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
                    Kind::Literal => with_numbers,
                    Kind::One | Kind::Zero => with_numbers || read[id],
                    _ => true,
                }
        };
        inner.nodes.indices().filter(is_drawn).collect()
    }

    /// By scope: whether it is shown opened: it was asked for, lies in one that was, or one that was lies in it.
    fn open(&self, inner: &Inner) -> IndexVec<ScopeId, bool> {
        let mut open = IndexVec::filled(self.all, inner.scopes.len());
        for wanted in &self.open {
            // by scope: what is left of the wanted path below it; nothing if the paths part
            let mut left: IndexVec<ScopeId, Option<&str>> = IndexVec::from_vec(vec![Some(wanted)]);
            for (k, scope) in inner.scopes.enumerate().skip(1) {
                let below = left[scope.outer].and_then(|left| below(left, &scope.name));
                open[k] |= below.is_some();
                left.push(below);
            }
        }
        open
    }

    fn draw(&self, inner: &Inner, Run { scope, nodes }: Run) -> Drawn {
        let first = nodes[0];
        let kind = |id: NodeId| inner.nodes[id].kind;
        let part = match () {
            () if nodes.iter().any(|&id| kind(id) == Kind::Error) => Part::Error,
            () if inner.sweep_of(first).is_some() || kind(first) == Kind::One => Part::Backward,
            () if nodes.iter().all(|&id| kind(id) != Kind::Op) => Part::Leaf,
            () => Part::Forward,
        };
        let source = inner.nodes[first].source;
        let place = format!("{first} {}:{}", source.file(), source.line());
        if nodes.len() == 1 {
            // a single node says more than the name of its scope
            return Drawn {
                part,
                label: self.label(inner, first),
                place,
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
        Drawn {
            part,
            label: vec![title, inside],
            place,
            nodes,
        }
    }

    /// The name of a single node: its operation with the numbers it uses.
    fn label(&self, inner: &Inner, id: NodeId) -> Vec<String> {
        let mut what = inner.what(id);
        if inner.nodes[id].kind == Kind::Op {
            let args = inner.args(id);
            let number = |a: &NodeId| inner.nodes[*a].kind == Kind::Literal;
            for (place, a) in args.iter().enumerate().filter(|(_, a)| number(a)) {
                let n = inner.what(*a);
                what = if place == 0 && args.len() > 1 {
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

/// What is left of a path after its first name; nothing is left inside of the scope that it is the path of. `None` if the
/// first name is another one.
fn below<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let goes_on = |text: &str| text.is_empty() || text.starts_with('.');
    if path.is_empty() || name.strip_prefix(path).is_some_and(goes_on) {
        return Some("");
    }
    path.strip_prefix(name)
        .filter(|rest| goes_on(rest))
        .map(|rest| rest.trim_start_matches('.'))
}

/// How scopes lie in each other. An outer one is older than those in it.
struct Scopes<'i> {
    inner: &'i Inner,
    /// By scope: whether no other one has been opened in it.
    innermost: IndexVec<ScopeId, bool>,
    /// By scope: how many there are from the outermost one to it.
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

    /// The largest number of scopes that lie in each other.
    fn deepest(&self) -> usize {
        self.depth.iter().copied().max().unwrap_or(0)
    }

    /// By scope: the outermost scope around it that is folded into one box, if there is one; itself, perhaps.
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

/// A run of neighbouring nodes, with the scope that is folded into it, if it is one.
struct Run {
    scope: Option<ScopeId>,
    nodes: Vec<NodeId>,
}

impl Run {
    fn sweep(&self, inner: &Inner) -> Option<usize> {
        inner.sweep_of(self.nodes[0])
    }
}

/// The types of what goes along an arrow.
fn types(inner: &Inner, values: &[NodeId]) -> String {
    let first = inner.ty(values[0]);
    match values.len() {
        1 => first.to_string(),
        n if values.iter().all(|&v| inner.ty(v) == first) => format!("{n} × {first}"),
        n => format!("{n} values"),
    }
}

/// Puts neighbours together that are the same in some way; what comes out has this scope.
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

/// At most so many runs: those of one source line together, and if that is not enough, as many as it takes. Forward and
/// backward stay apart.
fn joined(inner: &Inner, all: Vec<Run>, at_most: usize) -> Vec<Run> {
    let line = |run: &Run| {
        let source = inner.nodes[run.nodes[0]].source;
        (source.file(), source.line())
    };
    let sweeps = |a: &Run, b: &Run| a.sweep(inner) == b.sweep(inner);
    let is_node = |run: &Run| run.scope.is_none();
    let all = merged(
        all,
        |a, b| is_node(a) && is_node(b) && line(a) == line(b) && sweeps(a, b),
        |_| None,
    );
    if all.len() <= at_most {
        return all;
    }
    let total: usize = all.iter().map(|run| run.nodes.len()).sum();
    let most = total.div_ceil((at_most / 2).max(1)); // with room for where two sweeps meet
    merged(all, |a, b| sweeps(a, b) && a.nodes.len() < most, |_| None)
}

impl Part {
    /// The colour of a box.
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
