//! The list of nodes and its side tables: plain data, without rules of its own.

use crate::{
    binding::Binding,
    error::{Error, OpError, Place},
    index::{Index, IndexVec, each, index, list_bytes},
    lines::is_users,
    memory_cache,
    op::{BUILTIN, DynOp, Id},
    param::Moment,
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
    /// A node of a program. A node only reads older ones.
    NodeId,
    /// A shape in a program's table, which has no duplicates.
    ShapeId,
    /// A built-in op or, from [`BUILTIN`]'s length on, one of the program's own ops.
    OpId,
    /// A scope of a graph.
    ScopeId,
}

/// As displayed: `%7`.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "%{}", self.index())
    }
}

impl ShapeId {
    /// The shape of a scalar, the first one of each program.
    pub(crate) const SCALAR: ShapeId = ShapeId(NonZeroU32::MIN);
}

impl ScopeId {
    /// The region outside of all scopes.
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

    /// The index among the program's own ops, if it is one of those.
    #[inline]
    pub(crate) fn own(self) -> Option<usize> {
        self.index().checked_sub(BUILTIN.len())
    }
}

/// The kind of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Computed by an op.
    Op,
    /// A leaf that gradients are taken for.
    Input,
    /// A leaf without a gradient.
    Constant,
    /// A scalar written in an expression.
    Literal,
    /// A 1 made by differentiation: multiplications by it may be omitted.
    One,
    /// A 0 made by differentiation.
    Zero,
    /// A bound parameter.
    Param,
    /// A failed operation.
    Error,
}

/// One node: 32 bytes of plain data. Everything else is in side tables.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    /// Only for [`Kind::Op`].
    pub(crate) op: Option<OpId>,
    /// The inputs if there are at most two; else, in the first element, their start in the spill
    /// list. For a leaf, in the first element: its index in the table of its kind, see
    /// [`entry`](Node::entry).
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
    /// The index of a leaf's value in the table of its kind.
    #[inline]
    pub(crate) fn entry(&self) -> usize {
        self.args[0].index()
    }

    /// The [`args`](Node::args) of a leaf with this index in the table of its kind.
    #[inline]
    pub(crate) fn at_entry(entry: usize) -> [NodeId; 2] {
        [NodeId::new(entry), NodeId::new(0)]
    }

    /// Whether it is computed by this built-in op.
    #[inline]
    pub(crate) fn is(&self, op: Id) -> bool {
        self.op == Some(OpId::of(op))
    }

    /// The built-in op that computes it, if any.
    #[inline]
    pub(crate) fn builtin(&self) -> Option<Id> {
        self.op?.builtin()
    }
}

/// The structure of a program, without values: the input of the planner.
#[derive(Default)]
pub(crate) struct Program {
    pub(crate) nodes: IndexVec<NodeId, Node>,
    pub(crate) spill: Vec<NodeId>,
    pub(crate) shapes: IndexVec<ShapeId, Shape>,
    pub(crate) shape_ids: HashMap<Shape, ShapeId, Hashed>,
    pub(crate) ops: Vec<Arc<dyn DynOp>>,
}

/// A program with its values, scopes, parameters and derivatives.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) program: Program,
    pub(crate) leaves: Vec<Tensor>,
    pub(crate) literals: Vec<Number>,
    pub(crate) errors: Vec<Error>,
    pub(crate) scopes: IndexVec<ScopeId, ScopeEntry>,
    /// The innermost open scope.
    pub(crate) scope: ScopeId,
    pub(crate) params: Vec<Binding>,
    /// The nodes that parameters are bound to, by parameter id.
    pub(crate) bound: HashMap<usize, NodeId, Hashed>,
    /// The error of a value that was bound too late: every request fails with it, since what was
    /// built before has another value.
    pub(crate) bound_late: Option<NodeId>,
    /// When it bound its first parameter: updates are carried out if none has changed since.
    pub(crate) moment: Moment,
    /// When it read parameters to compute values, if it has.
    pub(crate) read: Moment,
    /// Scheduled updates, in the order of the `assign` calls.
    pub(crate) updates: Vec<Update>,
    /// Computed values that were requested, cached with their nodes.
    pub(crate) cached: HashMap<NodeId, Tensor, Hashed>,
    pub(crate) committed: bool,
    /// The number of nodes at each of the last evaluations, oldest first.
    pub(crate) evaluations: [usize; 4],
    /// The keys of the random nodes, in order: constants of the seed and a count from 1 on.
    pub(crate) random_keys: Vec<NodeId>,
    /// Blocks of nodes that the backward pass recomputes.
    pub(crate) checkpoints: Vec<Range<NodeId>>,
    /// The nodes that sweeps appended, by sweep.
    pub(crate) swept: Vec<Range<NodeId>>,
    /// The derivative rules that sweeps called, in order.
    pub(crate) rules: Vec<RuleCall>,
}

/// A derivative rule that a sweep called.
#[derive(Clone, Copy)]
pub(crate) struct RuleCall {
    /// The node that was differentiated.
    pub(crate) of: NodeId,
    /// The first node that the rule appended.
    pub(crate) first: NodeId,
}

/// The hasher of tables whose keys are indices, addresses and shapes.
pub(crate) type Hashed = BuildHasherDefault<NodeHasher>;

/// A multiplicative hash (Knuth, TAOCP 3, 6.4): fast, but without protection against keys chosen by
/// an attacker.
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

/// A line, if it is the user's.
fn users(line: Option<Source>) -> Option<Source> {
    line.filter(|line| is_users(line))
}

/// A scope: its name, and the lines where its layer was made and called. Paths are built when they
/// are displayed: stored paths of nested scopes would take memory quadratic in the depth.
pub(crate) struct ScopeEntry {
    pub(crate) name: String,
    pub(crate) made_at: Option<Source>,
    /// Where it was opened, seen through `#[track_caller]`. Of the outermost scope, the line where
    /// the user called the library function that made the graph, if one did.
    pub(crate) called_at: Option<Source>,
    /// The enclosing scope.
    pub(crate) outer: ScopeId,
    /// Whether its guard has not been dropped.
    pub(crate) open: bool,
}

/// A scheduled update of a parameter: one record from `assign` to the commit. If something is
/// wrong, one of its nodes is an error node, so that no update is silently lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Update {
    /// The node that the parameter is bound to, or the error node of a failed binding.
    pub(crate) target: NodeId,
    /// The node of the new value, or the error node that makes the run fail.
    pub(crate) value: NodeId,
}

impl Inner {
    /// An empty list, reusing the memory of an earlier one if there is one.
    pub(crate) fn reuse_or_new() -> Inner {
        memory_cache::take_graph().unwrap_or_else(Inner::fresh)
    }

    /// Returns the memory for the next graph of this thread, which frees it if its account is full.
    /// Values and ops of the nodes are dropped now.
    pub(crate) fn recycle(mut self) {
        /// Empties a table. A large one is dropped: emptying it takes time for each of its places, in
        /// each of the next graphs, however small they are.
        fn empty<K, V>(table: &mut HashMap<K, V, Hashed>) {
            const MAX_ENTRIES: usize = 1 << 12;
            match table.capacity() > MAX_ENTRIES {
                true => *table = HashMap::default(),
                false => table.clear(),
            }
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
        empty(shape_ids);
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
            random_keys,
            ..
        } = &mut self;
        random_keys.clear();
        checkpoints.clear();
        swept.clear();
        rules.clear();
        leaves.clear();
        literals.clear();
        errors.clear();
        scopes.truncate(1);
        params.clear();
        empty(bound);
        updates.clear();
        empty(cached);
        self.scope = ScopeId::OUTERMOST;
        (self.moment, self.read, self.committed) = (Moment::None, Moment::None, false);
        (self.evaluations, self.bound_late) = ([0; 4], None);
        memory_cache::return_graph(self);
    }

    /// The size of its lists and tables in bytes, without what they point to.
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
        let others = list_bytes(&self.random_keys) + self.scopes.bytes();
        size_of::<Inner>() + program + values + params + sweeps + others
    }

    pub(crate) fn fresh() -> Inner {
        let mut inner = Inner::default();
        inner.program.shapes.push(Shape::SCALAR);
        inner.scopes.push(ScopeEntry {
            name: String::new(),
            made_at: None,
            called_at: None,
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

    /// Stores the inputs of an op: up to two in the node itself, more in the spill list.
    pub(crate) fn store_args(&mut self, args: &[NodeId]) -> [NodeId; 2] {
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

    /// The op of a node of kind [`Kind::Op`]; for other kinds, the op that returns its input.
    #[inline]
    pub(crate) fn op(&self, id: NodeId) -> &dyn DynOp {
        let op = self.nodes[id].op.unwrap_or(OpId::of(Id::Detach));
        match op.own() {
            None => BUILTIN[op.index()],
            Some(own) => &*self.ops[own],
        }
    }

    /// As [`op`](Program::op), for use while the graph grows.
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

    /// Records that values have been computed.
    pub(crate) fn note_evaluation(&mut self) {
        self.evaluations.rotate_left(1);
        self.evaluations[3] = self.nodes.len();
    }

    /// The binding of a parameter's node.
    pub(crate) fn binding(&self, id: NodeId) -> Option<&Binding> {
        let node = &self.nodes[id];
        (node.kind == Kind::Param).then(|| &self.params[node.entry()])
    }

    /// A literal's value, for display.
    pub(crate) fn literal(&self, id: NodeId) -> Number {
        self.literals[self.nodes[id].entry()]
    }

    /// The name of a node's op, or the kind of a leaf.
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

    /// Closes a scope. The current scope is then the innermost one that is still open.
    pub(crate) fn close(&mut self, scope: ScopeId) {
        self.scopes[scope].open = false;
        while !self.scopes[self.scope].open {
            self.scope = self.scopes[self.scope].outer; // the outermost one is never closed
        }
    }

    /// The path of a node's scope, such as `mlp.1.linear`.
    pub(crate) fn scope_path(&self, id: NodeId) -> String {
        self.path(self.nodes[id].scope)
    }

    /// The names of a scope and the scopes around it, joined.
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

    /// The sweep that appended a node, if any.
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

    /// The user's line of a node, for profiles and pictures: its own, or where the innermost layer
    /// was called or made.
    pub(crate) fn source_of(&self, id: NodeId) -> Source {
        let Node { source, scope, .. } = self.nodes[id];
        let of_scope = |s: &ScopeEntry| users(s.called_at).or(users(s.made_at));
        users(Some(source))
            .or_else(|| self.scopes_around(scope).find_map(of_scope))
            .or_else(|| self.users_line_before(id))
            .unwrap_or(source)
    }

    /// Where a node was appended: its scope, and the user's line.
    pub(crate) fn place_of(&self, id: NodeId) -> Place {
        let Node { source, scope, .. } = self.nodes[id];
        self.place(scope, source, id)
    }

    /// The place of a node that was appended in a scope on this line, after all nodes before `id`.
    /// Where a layer was made is told apart, so the line of a call comes first, even if it is further
    /// out.
    pub(crate) fn place(&self, scope: ScopeId, source: Source, id: NodeId) -> Place {
        let around = || self.scopes_around(scope);
        let made_at = around().find_map(|s| users(s.made_at));
        let line = users(Some(source))
            .or_else(|| around().find_map(|s| users(s.called_at)))
            .or(made_at)
            .or_else(|| self.users_line_before(id));
        Place {
            inputs: Vec::new(),
            scope: self.path(scope),
            made_at,
            location: Some(line.unwrap_or(source)),
        }
    }

    /// A scope and all around it, from the innermost to the outermost one.
    fn scopes_around(&self, scope: ScopeId) -> impl Iterator<Item = &ScopeEntry> {
        let outer = |&k: &ScopeId| (k != ScopeId::OUTERMOST).then(|| self.scopes[k].outer);
        std::iter::successors(Some(scope), outer).map(|k| &self.scopes[k])
    }

    /// The user's line that appended the last node before this one: what else a user's program did
    /// there, if nothing else is known of a node that a library layer appended.
    fn users_line_before(&self, id: NodeId) -> Option<Source> {
        let before = each(NodeId::new(0)..id).rev();
        before
            .map(|id| self.nodes[id].source)
            .find(|source| is_users(source))
    }

    /// An error that happened while a node was computed.
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
                ..self.place_of(id)
            },
        )
    }
}

/// An op that can be used while the graph is not borrowed.
#[derive(Clone)]
pub(crate) enum OpRef {
    Builtin(Id),
    Own(Arc<dyn DynOp>),
}

impl OpRef {
    /// The op as it is stored in cached plans.
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
