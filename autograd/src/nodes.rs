//! The list of nodes and its side tables: plain data, with no rules of its own.

use crate::{
    error::{Error, OpError, Place},
    index::{Index, IndexVec, index, list_bytes},
    keep,
    op::{BUILTIN, DynOp, Id},
    param::{Moment, Param},
    shape::Shape,
    tensor::{DType, Number, Tensor, Type},
};
use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
    num::NonZeroU32,
    ops::{Deref, Range},
    panic::Location,
    sync::Arc,
};

pub(crate) type Source = &'static Location<'static>;

index! {
    /// A node of a program. A node reads older ones only.
    NodeId,
    /// A shape of a program's table, in which no shape stands twice.
    ShapeId,
    /// A built-in op, or, from [`BUILTIN`]'s length on, one of the program's own ops.
    OpId,
    /// A scope of a graph.
    ScopeId,
}

/// As it stands in texts: `%7`.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "%{}", self.index())
    }
}

impl ShapeId {
    /// The shape of a single number, the first one of each program.
    pub(crate) const SCALAR: ShapeId = ShapeId(NonZeroU32::MIN);
}

impl ScopeId {
    /// What is outside of all scopes.
    pub(crate) const OUTERMOST: ScopeId = ScopeId(NonZeroU32::MIN);
}

impl Default for ScopeId {
    fn default() -> ScopeId {
        ScopeId::OUTERMOST
    }
}

impl OpId {
    pub(crate) fn of(id: Id) -> OpId {
        OpId::new(id as usize)
    }

    /// The built-in op, if it is one.
    #[inline]
    pub(crate) fn builtin(self) -> Option<Id> {
        Id::ALL.get(self.index()).copied()
    }

    /// The place among the program's own ops, if it is one of those.
    #[inline]
    pub(crate) fn own(self) -> Option<usize> {
        self.index().checked_sub(BUILTIN.len())
    }
}

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
    /// Of a node of kind [`Kind::Op`].
    pub(crate) op: Option<OpId>,
    /// The inputs if there are at most two, else, in the first one, where they start in the spill list. For a leaf, in the
    /// first one: its place in the table of its kind, see [`entry`](Node::entry).
    pub(crate) args: [NodeId; 2],
    pub(crate) shape: ShapeId,
    pub(crate) scope: ScopeId,
    /// The number of inputs.
    pub(crate) count: u16,
    pub(crate) dtype: DType,
    pub(crate) kind: Kind,
    pub(crate) source: Source,
}

impl Node {
    /// Where the value of a leaf stands, in the table of its kind.
    #[inline]
    pub(crate) fn entry(&self) -> usize {
        self.args[0].index()
    }

    /// What [`args`](Node::args) is for a leaf with this place in the table of its kind.
    #[inline]
    pub(crate) fn at_entry(entry: usize) -> [NodeId; 2] {
        [NodeId::new(entry), NodeId::new(0)]
    }

    /// Whether it is computed by this built-in op.
    #[inline]
    pub(crate) fn is(&self, op: Id) -> bool {
        self.op == Some(OpId::of(op))
    }

    /// The built-in op that computes it, if one does.
    #[inline]
    pub(crate) fn builtin(&self) -> Option<Id> {
        self.op?.builtin()
    }
}

/// The structure of a program, without values: what a plan is made from.
#[derive(Default)]
pub(crate) struct Program {
    pub(crate) nodes: IndexVec<NodeId, Node>,
    pub(crate) spill: Vec<NodeId>,
    pub(crate) shapes: IndexVec<ShapeId, Shape>,
    pub(crate) shape_ids: HashMap<Shape, ShapeId, Hashed>,
    pub(crate) ops: Vec<Arc<dyn DynOp>>,
}

/// A program and what belongs to it.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) program: Program,
    pub(crate) leaves: Vec<Tensor>,
    pub(crate) literals: Vec<Number>,
    pub(crate) errors: Vec<Error>,
    pub(crate) scopes: IndexVec<ScopeId, ScopeEntry>,
    /// The innermost open one.
    pub(crate) scope: ScopeId,
    pub(crate) params: Vec<Binding>,
    /// The nodes that parameters are bound to, by the parameter's id.
    pub(crate) bound: HashMap<usize, NodeId, Hashed>,
    /// The moment at which the graph sees its parameters.
    pub(crate) moment: Moment,
    /// Scheduled updates, in the order of the calls of `assign`.
    pub(crate) updates: Vec<Update>,
    /// Values that were asked for stay with their nodes.
    pub(crate) cached: HashMap<NodeId, Tensor, Hashed>,
    pub(crate) committed: bool,
    /// The number of nodes at each of the last evaluations, the oldest first.
    pub(crate) evaluations: [usize; 4],
    pub(crate) random_nodes: i64,
    /// Blocks of nodes that gradients recompute.
    pub(crate) checkpoints: Vec<Range<NodeId>>,
    /// The nodes that sweeps appended, sweep by sweep.
    pub(crate) swept: Vec<Range<NodeId>>,
    /// The rules that sweeps called, in that order.
    pub(crate) rules: Vec<RuleCall>,
}

/// A derivative rule that a sweep called.
#[derive(Clone, Copy)]
pub(crate) struct RuleCall {
    /// The node that was differentiated.
    pub(crate) of: NodeId,
    /// The first node that was appended then.
    pub(crate) first: NodeId,
}

/// The hash of tables whose keys are indices, addresses and shapes.
pub(crate) type Hashed = BuildHasherDefault<NodeHasher>;

/// A multiplicative hash (Knuth, TAOCP 3, 6.4): fast, and no protection against keys chosen by an attacker.
#[derive(Default)]
pub(crate) struct NodeHasher(u64);

impl Hasher for NodeHasher {
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
    pub(crate) outer: ScopeId,
    /// Its guard has not been dropped.
    pub(crate) open: bool,
}

/// A parameter and the node it is bound to.
pub(crate) struct Binding {
    pub(crate) param: Param,
    pub(crate) node: NodeId,
    pub(crate) trained: bool,
    /// The node of the new value that is scheduled for it.
    pub(crate) scheduled: Option<NodeId>,
}

/// A scheduled update of a parameter: the same record from `assign` to the commit. What went wrong is in it too, as the
/// error that one of its nodes carries, so that no update can get lost on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Update {
    /// The node that the parameter is bound to, or the error that binding it met.
    pub(crate) target: NodeId,
    /// The node of the new value, or of the error that makes the run fail.
    pub(crate) value: NodeId,
}

impl Inner {
    /// An empty list, in the memory of an earlier one if there is one.
    pub(crate) fn spare_or_new() -> Inner {
        keep::graph().unwrap_or_else(Inner::fresh)
    }

    /// Keeps the memory for the next graph of this thread, unless it is large. What the nodes held is dropped now.
    pub(crate) fn recycle(mut self) {
        const MAX_NODES: usize = 1 << 16;
        if self.program.nodes.capacity() > MAX_NODES || self.program.spill.capacity() > MAX_NODES {
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
            cached,
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
        cached.clear();
        self.scope = ScopeId::OUTERMOST;
        (self.moment, self.committed, self.random_nodes) = (Moment::None, false, 0);
        self.evaluations = [0; 4];
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
        let program =
            nodes.bytes() + list_bytes(spill) + shapes.bytes() + table(shape_ids) + list_bytes(ops);
        let values = list_bytes(&self.leaves)
            + list_bytes(&self.literals)
            + list_bytes(&self.errors)
            + table(&self.cached);
        let params = list_bytes(&self.params) + table(&self.bound) + list_bytes(&self.updates);
        let sweeps =
            list_bytes(&self.checkpoints) + list_bytes(&self.swept) + list_bytes(&self.rules);
        size_of::<Inner>() + program + values + params + sweeps + self.scopes.bytes()
    }

    pub(crate) fn fresh() -> Inner {
        let mut inner = Inner::default();
        inner.program.shapes.push(Shape::SCALAR);
        inner.scopes.push(ScopeEntry {
            name: String::new(),
            made_at: None,
            outer: ScopeId::OUTERMOST,
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
    pub(crate) fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node)
    }

    /// The inputs of an op as a node holds them: two of them itself, more in the spill list.
    pub(crate) fn hold(&mut self, args: &[NodeId]) -> [NodeId; 2] {
        match *args {
            [] => Node::at_entry(0),
            [a] => [a, NodeId::new(0)],
            [a, b] => [a, b],
            _ => {
                let start = self.spill.len();
                self.spill.extend_from_slice(args);
                Node::at_entry(start)
            }
        }
    }

    pub(crate) fn shape_id(&mut self, shape: Shape) -> ShapeId {
        if shape.rank() == 0 {
            return ShapeId::SCALAR;
        }
        let shapes = &mut self.shapes;
        *self
            .shape_ids
            .entry(shape)
            .or_insert_with(|| shapes.push(shape))
    }

    /// The shape of a node's value.
    #[inline]
    pub(crate) fn shape(&self, id: NodeId) -> &Shape {
        &self.shapes[self.nodes[id].shape]
    }

    pub(crate) fn ty(&self, id: NodeId) -> Type {
        let node = &self.nodes[id];
        Type {
            dtype: node.dtype,
            shape: self.shapes[node.shape],
        }
    }

    /// The nodes that an op reads.
    #[inline]
    pub(crate) fn args(&self, id: NodeId) -> &[NodeId] {
        let node = &self.nodes[id];
        match node.count as usize {
            count @ 0..=2 => &node.args[..count],
            count => &self.spill[node.entry()..][..count],
        }
    }

    /// The op of a node of kind [`Kind::Op`]; of any other the op that returns what it is given.
    #[inline]
    pub(crate) fn op(&self, id: NodeId) -> &dyn DynOp {
        let op = self.nodes[id].op.unwrap_or(OpId::of(Id::Detach));
        match op.own() {
            None => BUILTIN[op.index()],
            Some(own) => &*self.ops[own],
        }
    }

    /// As [`op`](Program::op), to be used while the graph grows.
    pub(crate) fn op_ref(&self, id: NodeId) -> OpRef {
        let op = self.nodes[id].op.unwrap_or(OpId::of(Id::Detach));
        match (op.builtin(), op.own()) {
            (None, Some(own)) => OpRef::Own(self.ops[own].clone()),
            (builtin, _) => OpRef::Builtin(builtin.unwrap_or(Id::Detach)),
        }
    }

    pub(crate) fn op_id(&mut self, op: OpRef) -> OpId {
        match op {
            OpRef::Builtin(id) => OpId::of(id),
            OpRef::Own(op) => {
                self.ops.push(op);
                OpId::new(BUILTIN.len() + self.ops.len() - 1)
            }
        }
    }
}

impl Inner {
    /// The value of a leaf that is not a parameter.
    pub(crate) fn leaf(&self, id: NodeId) -> Option<Tensor> {
        let node = &self.nodes[id];
        match node.kind {
            Kind::Input | Kind::Constant => Some(self.leaves[node.entry()].clone()),
            Kind::Literal | Kind::One | Kind::Zero => {
                Some(Tensor::number(self.literals[node.entry()], node.dtype))
            }
            Kind::Op | Kind::Param | Kind::Error => None,
        }
    }

    /// Values have been computed.
    pub(crate) fn note_evaluation(&mut self) {
        self.evaluations.rotate_left(1);
        self.evaluations[3] = self.nodes.len();
    }

    /// The binding of a parameter's node.
    pub(crate) fn binding(&self, id: NodeId) -> Option<&Binding> {
        let node = &self.nodes[id];
        (node.kind == Kind::Param).then(|| &self.params[node.entry()])
    }

    /// A literal's value, for printing.
    pub(crate) fn literal(&self, id: NodeId) -> Number {
        self.literals[self.nodes[id].entry()]
    }

    /// The name of a node's op, or what kind of leaf it is.
    pub(crate) fn name(&self, id: NodeId) -> &'static str {
        match self.nodes[id].kind {
            Kind::Op => self.op(id).name(),
            Kind::Input => "input",
            Kind::Param => "param",
            _ => "constant",
        }
    }

    pub(crate) fn error(&self, id: NodeId) -> Option<&Error> {
        let node = &self.nodes[id];
        (node.kind == Kind::Error).then(|| &self.errors[node.entry()])
    }

    /// Closes a scope, whatever is open in it; the current one is then the innermost that is still open.
    pub(crate) fn close(&mut self, scope: ScopeId) {
        self.scopes[scope].open = false;
        while !self.scopes[self.scope].open {
            self.scope = self.scopes[self.scope].outer; // the outermost one is never closed
        }
    }

    /// The path of the scope that a node stands in, such as `mlp.1.linear`.
    pub(crate) fn scope_path(&self, id: NodeId) -> String {
        self.path(self.nodes[id].scope)
    }

    /// The names of the scopes around a scope, and its own.
    pub(crate) fn path(&self, mut scope: ScopeId) -> String {
        let mut names = Vec::new();
        while scope != ScopeId::OUTERMOST {
            names.push(&self.scopes[scope].name[..]);
            scope = self.scopes[scope].outer;
        }
        names.retain(|name| !name.is_empty());
        names.reverse();
        names.join(".")
    }

    /// Whether differentiation appended a node: the number of the sweep.
    pub(crate) fn sweep_of(&self, id: NodeId) -> Option<usize> {
        let next = self.swept.partition_point(|sweep| sweep.end <= id);
        self.swept
            .get(next)
            .filter(|sweep| sweep.contains(&id))
            .map(|_| next)
    }

    /// The node whose derivative rule appended this one.
    pub(crate) fn rule_of(&self, id: NodeId) -> Option<NodeId> {
        self.sweep_of(id)?;
        let next = self.rules.partition_point(|call| call.first <= id);
        self.rules.get(next.checked_sub(1)?).map(|call| call.of)
    }

    pub(crate) fn place(&self, scope: ScopeId, source: Source) -> Place {
        let made_at = self.scopes[scope].made_at;
        Place {
            inputs: Vec::new(),
            scope: self.path(scope),
            made_at,
            location: Some(source),
        }
    }

    /// An error that happened when a node was computed.
    pub(crate) fn error_at(&self, id: NodeId, name: &'static str, what: OpError) -> Error {
        let node = &self.nodes[id];
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
    Builtin(Id),
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
            OpRef::Builtin(id) => BUILTIN[*id as usize],
            OpRef::Own(op) => &**op,
        }
    }
}
