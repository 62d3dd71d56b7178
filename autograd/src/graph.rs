//! The graph: an append-only list of nodes. A node only uses older nodes, so the list is in
//! topological order.

use crate::{
    error::{Error, OpError, Place, Result, catch},
    index::Index,
    ints::Ints,
    lines,
    nodes::{Inner, Kind, Node, NodeId, OpId, OpRef, ScopeEntry, ScopeId, ShapeId, Source},
    op::{Id, Op, random},
    param::Moment,
    shape::sizes,
    tensor::{DType, Number, Tensor, Type},
    var::Var,
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    panic::Location,
    sync::Arc,
};

/// A program: a list of operations on tensors, in the order in which they were written.
///
/// Writing an expression appends nodes and checks shapes; it computes nothing. A value is computed
/// when it is requested ([`Graph::run`], [`Var::value`], [`Var::backward`]), together with the
/// nodes it depends on and no others.
///
/// A graph is built by one thread. A training loop builds a new graph for each step; parameters
/// ([`Param`](crate::Param)) outlive it.
///
/// ```
/// use autograd::Graph;
/// let g = Graph::new();
/// let (x, y) = (g.input(2.0), g.input(3.0));
/// let f = x * y + x.ln();
/// let grads = f.backward()?;
/// assert_eq!(grads.scalar(x)?, 3.5);
/// assert_eq!(grads.scalar(y)?, 2.0);
/// # Ok::<(), autograd::Error>(())
/// ```
pub struct Graph {
    pub(crate) inner: RefCell<Inner>,
    /// The origin of new nodes, if not the caller's line and the current scope: set while a
    /// derivative rule or a method made of several ops appends nodes.
    origin: Cell<Option<Origin>>,
    training: bool,
    /// Whether the mode was asked for, so that the program depends on it.
    pub(crate) asked_for_mode: Cell<bool>,
    seed: u64,
}

/// The source line and scope of a node.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    source: Source,
    scope: ScopeId,
}

impl Origin {
    /// A leaf with this origin, whose value is at this index in the table of its kind.
    #[inline]
    pub(crate) fn leaf(self, kind: Kind, entry: usize, dtype: DType, shape: ShapeId) -> Node {
        Node {
            op: None,
            args: Node::at_entry(entry),
            shape,
            scope: self.scope,
            count: 0,
            dtype,
            kind,
            source: self.source,
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        std::mem::take(self.inner.get_mut()).recycle();
    }
}

impl Default for Graph {
    fn default() -> Graph {
        Graph::new()
    }
}

impl Graph {
    /// An empty graph for evaluation. Its random nodes use seed 0.
    pub fn new() -> Graph {
        Graph::make(0, false)
    }

    /// An empty graph for evaluation, whose random nodes use this seed.
    pub fn with_seed(seed: u64) -> Graph {
        Graph::make(seed, false)
    }

    /// An empty graph for a training step: layers such as dropout are active and use this seed,
    /// which should be different in each step.
    #[doc(alias = "train")]
    #[doc(alias = "eval")]
    pub fn training(seed: u64) -> Graph {
        Graph::make(seed, true)
    }

    fn make(seed: u64, training: bool) -> Graph {
        let mut inner = Inner::reuse_or_new();
        inner.scopes[ScopeId::OUTERMOST].called_at = lines::entry();
        Graph {
            inner: RefCell::new(inner),
            origin: Cell::new(None),
            training,
            asked_for_mode: Cell::new(false),
            seed,
        }
    }

    /// An empty graph that is traced once and run many times. Each run reads the parameters when it
    /// begins, so it does not matter whether one changes during tracing.
    pub(crate) fn for_compile(training: bool) -> Graph {
        let g = Graph::make(0, training);
        g.inner.borrow_mut().moment = Moment::EachRun;
        g
    }

    /// Whether it was made with [`Graph::training`], or by [`Function::train`](crate::Function::train).
    pub fn is_training(&self) -> bool {
        self.asked_for_mode.set(true);
        self.training
    }

    /// Whether it is written once, by [`compile`](crate::compile()), and run at each call: what is
    /// decided or read while it is written stays as it is.
    pub fn is_compiled(&self) -> bool {
        self.inner.borrow().moment == Moment::EachRun
    }

    /// The seed of its random nodes. A compiled function gets it at each call.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.inner.borrow().nodes.len()
    }

    /// Whether it has no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A leaf that gradients are taken for. Only floats have gradients.
    #[track_caller]
    #[doc(alias = "requires_grad")]
    #[doc(alias = "variable")]
    pub fn input(&self, value: impl TryInto<Tensor, Error: Into<Error>>) -> Var<'_> {
        self.leaf(value.try_into().map_err(Into::into), Kind::Input)
    }

    /// A leaf without a gradient: data, labels, a mask.
    #[track_caller]
    #[doc(alias = "tensor")]
    #[doc(alias = "array")]
    #[doc(alias = "asarray")]
    #[doc(alias = "from_numpy")]
    pub fn constant(&self, value: impl TryInto<Tensor, Error: Into<Error>>) -> Var<'_> {
        self.leaf(value.try_into().map_err(Into::into), Kind::Constant)
    }

    #[track_caller]
    pub(crate) fn leaf(&self, value: Result<Tensor>, kind: Kind) -> Var<'_> {
        let value = match value {
            Ok(value) => value,
            Err(e) => return self.fail(e.op(), OpError::new(e.message()), &[]),
        };
        let origin = self.origin(Location::caller());
        let mut inner = self.inner.borrow_mut();
        let shape = inner.program.shape_id(value.shape);
        let node = origin.leaf(kind, inner.leaves.len(), value.dtype(), shape);
        inner.leaves.push(value);
        self.var(inner.program.push(node))
    }

    /// A literal in an expression, with this dtype. Its value is not part of the program's
    /// structure.
    #[track_caller]
    pub(crate) fn number(&self, value: Number, dtype: DType) -> Var<'_> {
        let fits = match value {
            _ if dtype.is_float() => true,
            Number::Int(_) => dtype == DType::I64,
            Number::Float(v) => {
                dtype == DType::I64 && v.fract() == 0.0 && v.abs() < (1u64 << 53) as f64
            }
        };
        if !fits {
            let message = format!(
                "the scalar {} does not fit a tensor of {dtype}",
                value.to_f64()
            );
            let error = OpError::new(message)
                .hint("cast the tensor first, for example with .cast(DType::F32)");
            return self.fail("literal", error, &[]);
        }
        self.immediate(value, dtype, Kind::Literal)
    }

    /// A 1 or a 0 made by differentiation.
    #[track_caller]
    pub(crate) fn unit(&self, kind: Kind, dtype: DType) -> Var<'_> {
        self.immediate(Number::Int((kind == Kind::One).into()), dtype, kind)
    }

    #[track_caller]
    #[inline]
    fn immediate(&self, value: Number, dtype: DType, kind: Kind) -> Var<'_> {
        let origin = self.origin(Location::caller());
        let mut inner = self.inner.borrow_mut();
        let node = origin.leaf(kind, inner.literals.len(), dtype, ShapeId::SCALAR);
        inner.literals.push(value);
        self.var(inner.program.push(node))
    }

    /// A tensor of this shape with all elements equal to `value`.
    #[track_caller]
    #[doc(alias = "fill")]
    pub fn full(
        &self,
        shape: impl Ints,
        value: impl TryInto<Tensor, Error: Into<Error>>,
    ) -> Var<'_> {
        match sizes(&shape.list()) {
            Ok(shape) => self.constant(value).broadcast_to(shape),
            Err(e) => self.fail("full", e, &[]),
        }
    }

    /// Zeros (`false` for `bool`).
    #[track_caller]
    pub fn zeros(&self, shape: impl Ints, dtype: DType) -> Var<'_> {
        self.full(shape, Tensor::number(Number::Int(0), dtype))
    }

    /// Ones (`true` for `bool`).
    #[track_caller]
    pub fn ones(&self, shape: impl Ints, dtype: DType) -> Var<'_> {
        self.full(shape, Tensor::number(Number::Int(1), dtype))
    }

    /// Opens a scope: until the guard is dropped, new nodes belong to the scope of this name,
    /// inside the enclosing scopes. Names are shown in errors and drawings. Guards may be dropped
    /// in any order: the current scope is the one opened last of those still open.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let _scope = g.scope("encoder");
    /// let y = g.input([1.0, 2.0]) + g.input([1.0, 2.0, 3.0]);
    /// assert_eq!(y.value().map_err(|e| e.scope().to_string()), Err("encoder".into()));
    /// ```
    #[track_caller]
    #[doc(alias = "named_scope")]
    pub fn scope(&self, name: &str) -> Scope<'_> {
        self.open_scope(name, None)
    }

    /// As [`scope`](Graph::scope), with the source line where the layer was made, for errors.
    #[track_caller]
    pub fn scope_made_at(&self, name: &str, made_at: &'static Location<'static>) -> Scope<'_> {
        self.open_scope(name, Some(made_at))
    }

    #[track_caller]
    fn open_scope(&self, name: &str, made_at: Option<Source>) -> Scope<'_> {
        let called_at = Some(Location::caller());
        let mut inner = self.inner.borrow_mut();
        let outer = inner.scope;
        let scope = inner.scopes.push(ScopeEntry {
            name: name.into(),
            made_at,
            called_at,
            outer,
            open: true,
        });
        inner.scope = scope;
        Scope { graph: self, scope }
    }

    /// Runs `f` in a scope of this name.
    #[track_caller]
    pub fn within<R>(&self, name: &str, f: impl FnOnce() -> R) -> R {
        let _scope = self.scope(name);
        f()
    }

    /// Appends an operation, built-in or user-defined. [`Var::apply`] is the same for ops of one
    /// input.
    #[track_caller]
    pub fn apply<'g>(&'g self, op: impl Op, x: &[Var<'g>]) -> Var<'g> {
        self.append_ref(OpRef::Own(Arc::new(op)), x)
    }

    /// Appends a built-in op without attributes.
    #[track_caller]
    pub(crate) fn append<'g>(&'g self, op: Id, x: &[Var<'g>]) -> Var<'g> {
        self.append_ref(OpRef::Builtin(op), x)
    }

    /// Appends an elementwise op on inputs of one type without calling the op. Anything else goes
    /// through [`Graph::append`].
    #[track_caller]
    #[inline]
    pub(crate) fn append_fast<'g, const N: usize>(&'g self, op: Id, x: [Var<'g>; N]) -> Var<'g> {
        if op.is_pointwise() {
            let mut inner = self.inner.borrow_mut();
            let first = inner.nodes[x[0].id];
            let same = x[1..].iter().all(|v| {
                std::ptr::eq(v.graph(), self) && {
                    let n = &inner.nodes[v.id];
                    n.shape == first.shape && n.dtype == first.dtype && n.kind != Kind::Error
                }
            });
            if same && first.kind != Kind::Error && first.dtype.is_float() {
                let Origin { source, scope } = self.origin.get().unwrap_or(Origin {
                    source: Location::caller(),
                    scope: inner.scope,
                });
                let args = [x[0].id, x.get(1).map_or(NodeId::new(0), |v| v.id)];
                let node = Node {
                    op: Some(OpId::of(op)),
                    args,
                    scope,
                    count: N as u16,
                    kind: Kind::Op,
                    source,
                    ..first
                };
                return self.var(inner.program.push(node));
            }
        }
        self.append(op, &x)
    }

    /// Appends an op, in the one place where ops are checked: errors of the inputs are passed on,
    /// and the op infers the output type.
    #[track_caller]
    #[cold]
    pub(crate) fn append_ref<'g>(&'g self, reference: OpRef, x: &[Var<'g>]) -> Var<'g> {
        let op = reference.get();
        if let Some(error) = self.foreign(op.name(), x.iter().copied()) {
            return error;
        }
        if let Some(first) = x
            .iter()
            .filter(|v| v.error().is_some())
            .min_by_key(|v| v.id)
        {
            return *first;
        }
        if x.len() > u16::MAX as usize {
            return self.fail(
                op.name(),
                OpError::new(format!("too many inputs: {}", x.len())),
                &[],
            );
        }
        let types: Vec<Type> = x.iter().map(|v| v.ty()).collect();
        let ty = match catch(|| op.infer(&types)).and_then(|ty| ty) {
            Ok(ty) => ty,
            Err(e) => return self.fail(op.name(), e, x),
        };
        let Origin { source, scope } = self.origin(Location::caller());
        let mut inner = self.inner.borrow_mut();
        let op = Some(inner.program.op_id(reference));
        let shape = inner.program.shape_id(ty.shape);
        let args = match *x {
            [a] => inner.program.store_args(&[a.id]),
            [a, b] => inner.program.store_args(&[a.id, b.id]),
            _ => {
                let args: Vec<NodeId> = x.iter().map(|v| v.id).collect();
                inner.program.store_args(&args)
            }
        };
        let count = x.len() as u16;
        self.var(inner.program.push(Node {
            op,
            args,
            shape,
            scope,
            count,
            dtype: ty.dtype,
            kind: Kind::Op,
            source,
        }))
    }

    /// An error if one of these belongs to another graph.
    #[track_caller]
    pub(crate) fn foreign<'g>(
        &'g self,
        op: &'static str,
        x: impl IntoIterator<Item = Var<'g>>,
    ) -> Option<Var<'g>> {
        if x.into_iter().all(|v| std::ptr::eq(v.graph(), self)) {
            return None;
        }
        let e = OpError::new("the inputs belong to different graphs");
        // not in a closure, because its caller would not be the user's line
        Some(self.fail(
            op,
            e.hint("compute the value in one graph and pass it to the other as a constant"),
            &[],
        ))
    }

    /// A `Var` that holds an error. If inputs have errors, the oldest one's is passed on instead.
    #[track_caller]
    #[cold]
    pub(crate) fn fail<'g>(&'g self, op: &'static str, what: OpError, x: &[Var<'g>]) -> Var<'g> {
        if let Some(first) = x
            .iter()
            .filter(|v| v.error().is_some())
            .min_by_key(|v| v.id)
        {
            return *first;
        }
        let inputs = x.iter().map(|v| v.ty()).collect();
        let origin = self.origin(Location::caller());
        let place = {
            let inner = self.inner.borrow();
            let place = inner.place(origin.scope, origin.source, inner.nodes.next());
            Place { inputs, ..place }
        };
        self.hold(Error::new(op, what, place))
    }

    /// An error on this line, in the current scope.
    #[track_caller]
    pub(crate) fn error_here(&self, op: &'static str, what: OpError) -> Error {
        let origin = self.origin(Location::caller());
        let inner = self.inner.borrow();
        let place = inner.place(origin.scope, origin.source, inner.nodes.next());
        Error::new(op, what, place)
    }

    /// The `Var` that `f` returns, or one that holds its error: a function that returns a `Var`, such
    /// as `forward` of a layer, can use `?` within it.
    ///
    /// ```
    /// use autograd::{Result, Var};
    /// /// `[batch, time, channels]` to `[batch, heads, time, channels/heads]`
    /// fn split_heads<'g>(x: Var<'g>, heads: usize) -> Var<'g> {
    ///     x.graph().attempt(|| {
    ///         let [batch, time, channels] = x.sizes()?;
    ///         Ok(x.reshape([batch, time, heads, channels / heads]).transpose(1, 2))
    ///     })
    /// }
    /// # let g = autograd::Graph::new();
    /// let e = split_heads(g.input([[1.0, 2.0]]), 2).value().unwrap_err();
    /// assert_eq!(e.message(), "expected 3 axes, got 2: f64[1, 2]");
    /// ```
    #[track_caller]
    pub fn attempt<'g>(&'g self, f: impl FnOnce() -> Result<Var<'g>>) -> Var<'g> {
        match f() {
            Ok(y) => y,
            Err(e) => self.hold(e),
        }
    }

    /// A `Var` that holds this error.
    #[track_caller]
    fn hold(&self, error: Error) -> Var<'_> {
        let origin = self.origin(Location::caller());
        let mut inner = self.inner.borrow_mut();
        let entry = inner.errors.len();
        inner.errors.push(error);
        let node = origin.leaf(Kind::Error, entry, DType::F64, ShapeId::SCALAR);
        self.var(inner.program.push(node))
    }

    /// The key of the next random node. It is a leaf, so that another seed does not make another
    /// program.
    #[track_caller]
    pub(crate) fn random_key(&self) -> Var<'_> {
        let count = self.inner.borrow().random_keys.len() + 1;
        let key = self.constant(random::key(self.seed, count));
        self.inner.borrow_mut().random_keys.push(key.id);
        key
    }

    pub(crate) fn var(&self, id: NodeId) -> Var<'_> {
        Var { graph: self, id }
    }

    #[inline]
    pub(crate) fn origin(&self, caller: Source) -> Origin {
        self.origin.get().unwrap_or_else(|| Origin {
            source: caller,
            scope: self.inner.borrow().scope,
        })
    }

    /// Until the guard is dropped, new nodes have the caller's line as origin, unless an outer
    /// origin is set.
    #[track_caller]
    pub(crate) fn call_site(&self) -> OriginGuard<'_> {
        let before = self.origin.get();
        self.origin.set(Some(self.origin(Location::caller())));
        OriginGuard {
            graph: self,
            before,
        }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Graph({} nodes)", self.len())
    }
}

/// Guard of a scope: dropping it closes the scope.
#[must_use = "the scope is closed when this is dropped: bind it to a name"]
pub struct Scope<'g> {
    graph: &'g Graph,
    scope: ScopeId,
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.graph.inner.borrow_mut().close(self.scope);
    }
}

/// Restores the previous origin, also when a derivative rule panics.
pub(crate) struct OriginGuard<'g> {
    graph: &'g Graph,
    before: Option<Origin>,
}

impl OriginGuard<'_> {
    /// From now on new nodes have the origin of this node.
    #[inline]
    pub(crate) fn move_to(&self, node: &Node) {
        self.graph.origin.set(Some(Origin {
            source: node.source,
            scope: node.scope,
        }));
    }
}

impl Drop for OriginGuard<'_> {
    fn drop(&mut self) {
        self.graph.origin.set(self.before);
    }
}
