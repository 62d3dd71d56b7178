//! The list of nodes and its side tables: plain data, with no rules of its own.

use crate::{
    error::{Error, OpError, Place},
    keep,
    op::{BUILTIN, DynOp},
    param::{Moment, Param},
    plan::room,
    shape::Shape,
    tensor::{DType, Number, Tensor, Type},
};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    ops::{Deref, Range},
    panic::Location,
    sync::Arc,
};

pub(crate) type Source = &'static Location<'static>;

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Computed by an op.
    Op,
    /// A leaf that gradients are taken for.
    Input,
    /// A leaf without a gradient.
    Constant,
    /// A number written in an expression.
    Literal,
    /// A 1 that differentiation made: multiplying by it may be left out.
    One,
    /// A 0 that differentiation made.
    Zero,
    /// A bound parameter.
    Param,
    /// What could not be done.
    Error,
}

/// One node: 32 bytes of plain data; all else is in side tables.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    /// An index into [`BUILTIN`], or, beyond it, into the graph's own ops.
    pub(crate) op: u32,
    /// The inputs if there are at most two, else where they start in the spill list. For a leaf: its place in the table
    /// of its kind.
    pub(crate) args: [u32; 2],
    pub(crate) shape: u32,
    pub(crate) scope: u32,
    pub(crate) count: u16,
    pub(crate) dtype: DType,
    pub(crate) kind: Kind,
    pub(crate) source: Source,
}

/// The structure of a program, without values: what a plan is made from.
#[derive(Default)]
pub(crate) struct Program {
    pub(crate) nodes: Vec<Node>,
    pub(crate) spill: Vec<u32>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) shape_ids: HashMap<Shape, u32, BuildHasherDefault<Quick>>,
    pub(crate) ops: Vec<Arc<dyn DynOp>>,
}

/// A program and what belongs to it.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) program: Program,
    pub(crate) leaves: Vec<Tensor>,
    pub(crate) literals: Vec<Number>,
    pub(crate) errors: Vec<Error>,
    pub(crate) scopes: Vec<ScopeEntry>,
    pub(crate) scope: u32,
    pub(crate) params: Vec<Binding>,
    pub(crate) bound: HashMap<usize, u32, BuildHasherDefault<Quick>>,
    /// The moment at which the graph sees its parameters.
    pub(crate) moment: Moment,
    /// Scheduled updates, in the order of the calls of `assign`.
    pub(crate) updates: Vec<Update>,
    /// Values that were asked for stay with their nodes.
    pub(crate) kept: HashMap<u32, Tensor, BuildHasherDefault<Quick>>,
    pub(crate) committed: bool,
    /// How many nodes there were at each of the last looks at values, the oldest look first.
    pub(crate) looks: [u32; 4],
    pub(crate) random_nodes: i64,
    /// Blocks of nodes that gradients recompute.
    pub(crate) checkpoints: Vec<Range<u32>>,
    /// The nodes that sweeps appended, sweep by sweep.
    pub(crate) swept: Vec<Range<u32>>,
    /// The rules that sweeps called: the node to be differentiated, and the first node that was appended then.
    pub(crate) rules: Vec<(u32, u32)>,
}

/// Hashes numbers of nodes, addresses and shapes, without the cost of a hash that strangers cannot guess.
#[derive(Default)]
pub(crate) struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, v: u8) {
        self.write_u64(v.into());
    }
    fn write_u32(&mut self, v: u32) {
        self.write_u64(v.into());
    }
    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0 ^ v)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(26);
    }
}

/// A scope: its own name, and where the layer was made that opened it. Paths are put together when they are shown: those
/// of scopes that lie in each other would take memory that grows with the square of their number.
pub(crate) struct ScopeEntry {
    pub(crate) name: String,
    pub(crate) made_at: Option<Source>,
    /// The scope around it.
    pub(crate) outer: u32,
    /// Its guard has not been dropped.
    pub(crate) open: bool,
}

/// A parameter and the node it is bound to.
pub(crate) struct Binding {
    pub(crate) param: Param,
    pub(crate) node: u32,
    pub(crate) trained: bool,
    /// The node of the new value that is scheduled for it.
    pub(crate) scheduled: Option<u32>,
}

/// A scheduled update of a parameter: the same record from `assign` to the commit. What went wrong is in it too, as the
/// error that one of its nodes carries, so that no update can get lost on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Update {
    /// The node that the parameter is bound to, or the error that binding it met.
    pub(crate) target: u32,
    /// The node of the new value, or of the error that makes the run fail.
    pub(crate) value: u32,
}

impl Inner {
    /// An empty list, in the memory of an earlier one if there is one.
    pub(crate) fn spare_or_new() -> Inner {
        keep::graph().unwrap_or_else(Inner::fresh)
    }

    /// Keeps the memory for the next graph of this thread, unless it is large. What the nodes held is dropped now.
    pub(crate) fn recycle(mut self) {
        const MOST: usize = 1 << 16;
        if self.program.nodes.capacity() > MOST || self.program.spill.capacity() > MOST {
            return;
        }
        let Program {
            nodes,
            spill,
            shapes,
            shape_ids,
            ops,
        } = &mut self.program;
        nodes.clear();
        spill.clear();
        shapes.truncate(1);
        shape_ids.clear();
        ops.clear();
        let Inner {
            leaves,
            literals,
            errors,
            scopes,
            params,
            bound,
            updates,
            kept,
            checkpoints,
            swept,
            rules,
            ..
        } = &mut self;
        checkpoints.clear();
        swept.clear();
        rules.clear();
        leaves.clear();
        literals.clear();
        errors.clear();
        scopes.truncate(1);
        params.clear();
        bound.clear();
        updates.clear();
        kept.clear();
        (self.scope, self.moment, self.committed, self.random_nodes) = (0, Moment::None, false, 0);
        self.looks = [0; 4];
        keep::keep_graph(self);
    }

    /// The bytes that its lists and tables take, without what they point to.
    pub(crate) fn bytes(&self) -> usize {
        fn table<K, V, S>(table: &HashMap<K, V, S>) -> usize {
            table.capacity() * 8 / 7 * (size_of::<(K, V)>() + 1)
        }
        let Program {
            nodes,
            spill,
            shapes,
            shape_ids,
            ops,
        } = &self.program;
        let program = room(nodes) + room(spill) + room(shapes) + table(shape_ids) + room(ops);
        let values =
            room(&self.leaves) + room(&self.literals) + room(&self.errors) + table(&self.kept);
        let params = room(&self.params) + table(&self.bound) + room(&self.updates);
        let sweeps = room(&self.checkpoints) + room(&self.swept) + room(&self.rules);
        size_of::<Inner>() + program + values + params + sweeps + room(&self.scopes)
    }

    pub(crate) fn fresh() -> Inner {
        let mut inner = Inner::default();
        inner.program.shapes.push(Shape::SCALAR);
        inner.scopes.push(ScopeEntry {
            name: String::new(),
            made_at: None,
            outer: 0,
            open: true,
        });
        inner
    }
}

impl Deref for Inner {
    type Target = Program;
    fn deref(&self) -> &Program {
        &self.program
    }
}

impl Program {
    #[inline]
    pub(crate) fn push(&mut self, node: Node) -> u32 {
        let id = self.nodes.len() as u32;
        self.nodes.push(node);
        id
    }

    /// The inputs of an op as a node holds them: two of them itself, more in the spill list.
    pub(crate) fn hold(&mut self, args: &[u32]) -> [u32; 2] {
        match *args {
            [] => [0, 0],
            [a] => [a, 0],
            [a, b] => [a, b],
            _ => {
                let start = self.spill.len() as u32;
                self.spill.extend_from_slice(args);
                [start, 0]
            }
        }
    }

    pub(crate) fn shape_id(&mut self, shape: Shape) -> u32 {
        if shape.rank() == 0 {
            return 0;
        }
        let shapes = &mut self.shapes;
        *self.shape_ids.entry(shape).or_insert_with(|| {
            shapes.push(shape);
            (shapes.len() - 1) as u32
        })
    }

    pub(crate) fn ty(&self, id: u32) -> Type {
        let node = &self.nodes[id as usize];
        Type {
            dtype: node.dtype,
            shape: self.shapes[node.shape as usize],
        }
    }

    /// The nodes that an op reads.
    #[inline]
    pub(crate) fn args(&self, id: u32) -> &[u32] {
        let node = &self.nodes[id as usize];
        match node.count as usize {
            count @ 0..=2 => &node.args[..count],
            count => &self.spill[node.args[0] as usize..][..count],
        }
    }

    /// The op of a node of kind [`Kind::Op`].
    #[inline]
    pub(crate) fn op(&self, id: u32) -> &dyn DynOp {
        let number = self.nodes[id as usize].op as usize;
        if number < BUILTIN.len() {
            BUILTIN[number]
        } else {
            &*self.ops[number - BUILTIN.len()]
        }
    }

    /// As [`op`](Inner::op), to be used while the graph grows.
    pub(crate) fn op_ref(&self, id: u32) -> OpRef {
        let number = self.nodes[id as usize].op as usize;
        match number.checked_sub(BUILTIN.len()) {
            None => OpRef::Builtin(number as u32),
            Some(own) => OpRef::Own(self.ops[own].clone()),
        }
    }

    pub(crate) fn op_number(&mut self, op: OpRef) -> u32 {
        match op {
            OpRef::Builtin(number) => number,
            OpRef::Own(op) => {
                self.ops.push(op);
                (BUILTIN.len() + self.ops.len() - 1) as u32
            }
        }
    }
}

impl Inner {
    /// The value of a leaf that is not a parameter.
    pub(crate) fn leaf(&self, id: u32) -> Option<Tensor> {
        let node = &self.nodes[id as usize];
        match node.kind {
            Kind::Input | Kind::Constant => Some(self.leaves[node.args[0] as usize].clone()),
            Kind::Literal | Kind::One | Kind::Zero => Some(Tensor::number(
                self.literals[node.args[0] as usize],
                node.dtype,
            )),
            Kind::Op | Kind::Param | Kind::Error => None,
        }
    }

    /// Values have been looked at.
    pub(crate) fn note_look(&mut self) {
        self.looks.rotate_left(1);
        self.looks[3] = self.nodes.len() as u32;
    }

    /// The binding of a parameter's node.
    pub(crate) fn binding(&self, id: u32) -> Option<&Binding> {
        let node = &self.nodes[id as usize];
        (node.kind == Kind::Param).then(|| &self.params[node.args[0] as usize])
    }

    /// A literal's value, for printing.
    pub(crate) fn literal(&self, id: u32) -> Number {
        self.literals[self.nodes[id as usize].args[0] as usize]
    }

    /// The name of a node's op, or what kind of leaf it is.
    pub(crate) fn name(&self, id: u32) -> &'static str {
        match self.nodes[id as usize].kind {
            Kind::Op => self.op(id).name(),
            Kind::Input => "input",
            Kind::Param => "param",
            _ => "constant",
        }
    }

    pub(crate) fn error(&self, id: u32) -> Option<&Error> {
        let node = &self.nodes[id as usize];
        (node.kind == Kind::Error).then(|| &self.errors[node.args[0] as usize])
    }

    /// Closes a scope, whatever is open in it; the current one is then the innermost that is still open.
    pub(crate) fn close(&mut self, scope: u32) {
        self.scopes[scope as usize].open = false;
        while !self.scopes[self.scope as usize].open {
            self.scope = self.scopes[self.scope as usize].outer; // the outermost one is never closed
        }
    }

    /// The path of the scope that a node stands in, such as `mlp.1.linear`.
    pub(crate) fn scope_path(&self, id: u32) -> String {
        self.path(self.nodes[id as usize].scope)
    }

    /// The names of the scopes around a scope, and its own.
    pub(crate) fn path(&self, mut scope: u32) -> String {
        let mut names = Vec::new();
        while scope != 0 {
            names.push(&self.scopes[scope as usize].name[..]);
            scope = self.scopes[scope as usize].outer;
        }
        names.retain(|name| !name.is_empty());
        names.reverse();
        names.join(".")
    }

    /// Whether differentiation appended a node: the number of the sweep.
    pub(crate) fn sweep_of(&self, id: u32) -> Option<usize> {
        let next = self.swept.partition_point(|sweep| sweep.end <= id);
        self.swept
            .get(next)
            .filter(|sweep| sweep.contains(&id))
            .map(|_| next)
    }

    /// The node whose derivative rule appended this one.
    pub(crate) fn rule_of(&self, id: u32) -> Option<u32> {
        self.sweep_of(id)?;
        let next = self.rules.partition_point(|&(_, first)| first <= id);
        self.rules.get(next.checked_sub(1)?).map(|&(of, _)| of)
    }

    pub(crate) fn place(&self, scope: u32, source: Source) -> Place {
        let made_at = self.scopes[scope as usize].made_at;
        Place {
            inputs: Vec::new(),
            scope: self.path(scope),
            made_at,
            location: Some(source),
        }
    }

    /// An error that happened when a node was computed.
    pub(crate) fn error_at(&self, id: u32, name: &'static str, what: OpError) -> Error {
        let node = &self.nodes[id as usize];
        let inputs = match node.kind {
            Kind::Op => self.args(id).iter().map(|&a| self.ty(a)).collect(),
            _ => vec![self.ty(id)],
        };
        Error::new(
            name,
            what,
            Place {
                inputs,
                ..self.place(node.scope, node.source)
            },
        )
    }
}

/// An op that is held while the graph is not borrowed.
#[derive(Clone)]
pub(crate) enum OpRef {
    Builtin(u32),
    Own(Arc<dyn DynOp>),
}

impl OpRef {
    /// The op as plans keep it.
    pub(crate) fn for_plan(self) -> OpRef {
        match self {
            OpRef::Own(op) => OpRef::Own(op.for_plan().unwrap_or(op)),
            builtin => builtin,
        }
    }

    pub(crate) fn get(&self) -> &dyn DynOp {
        match self {
            OpRef::Builtin(number) => BUILTIN[*number as usize],
            OpRef::Own(op) => &**op,
        }
    }
}
