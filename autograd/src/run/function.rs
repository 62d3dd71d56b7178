//! Compiled functions: a program that is written once and called again and again.

#[cfg(feature = "sparse")]
use crate::index::Index;
use crate::{
    error::{Error, OpError, Result, catch},
    exec::run::Run,
    graph::Graph,
    lines::called_from,
    nodes::{Inner, NodeId, Program},
    op::random,
    plan::{Plan, cache, extract::Selection},
    tensor::{Tensor, Type},
    var::Var,
};
use std::{
    panic::Location,
    sync::{Arc, PoisonError, RwLock},
};

/// A function of arrays that is traced once for each combination of input types and mode, and then
/// only run: what [`compile`] returns.
///
/// It can be shared between threads; each call has memory of its own.
pub struct Function<F, const N: usize, const M: usize> {
    f: F,
    known: Known,
}

/// What does not depend on the closure's type, so that it is compiled once for all of them.
struct Known {
    made_at: &'static Location<'static>,
    /// The programs for the input types that have been seen, newest last.
    traced: RwLock<Vec<Arc<Traced>>>,
}

/// A closure that writes a program: its outputs from its inputs.
pub(crate) type Write<'f> = dyn for<'g> Fn(&'g Graph, &[Var<'g>]) -> Vec<Var<'g>> + 'f;

/// The most combinations of input types whose programs are cached.
const MAX_TRACED: usize = 16;

/// A program for inputs of certain types.
pub(crate) struct Traced {
    types: Vec<Type>,
    training: bool,
    inner: Inner,
    selection: Selection,
    plan: Arc<Plan>,
    /// The nodes of the outputs. Those of the inputs are the first ones of the graph.
    outputs: Vec<NodeId>,
}

/// Makes a function of arrays from one of `Var`s, to be called often: it is traced, differentiated
/// and planned at the first call with inputs of certain types, and only run at later ones.
///
/// The closure gets `N` inputs and returns `M` outputs, as arrays. It may bind parameters, which
/// are then read at each call, and schedule updates, which are carried out at each call: a whole
/// training step can be compiled, and is called with [`train`](Function::train). Calls of several
/// threads that update the same parameters are carried out one after the other. Numbers and tensors
/// of its surroundings stay as they were when it was traced: what varies must be an input. Errors
/// and panics of the closure are returned by the call.
///
/// ```
/// let newton = autograd::compile(|[x]| {
///     let f = x * x - 2.0;
///     let [df] = x.graph().grad(f, &[x]);
///     [x - f / df]
/// });
/// let mut x = autograd::Tensor::from(1.0);
/// for _ in 0..6 {
///     [x] = newton.call([x])?;
/// }
/// assert!((x.scalar()? - 2f64.sqrt()).abs() < 1e-15);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn compile<F, const N: usize, const M: usize>(f: F) -> Function<F, N, M>
where
    F: for<'g> Fn([Var<'g>; N]) -> [Var<'g>; M],
{
    Function {
        f,
        known: Known {
            made_at: Location::caller(),
            traced: RwLock::default(),
        },
    }
}

impl<F, const N: usize, const M: usize> Function<F, N, M>
where
    F: for<'g> Fn([Var<'g>; N]) -> [Var<'g>; M],
{
    /// The outputs for these inputs, in evaluation mode: as with [`Graph::new`]. Random numbers are
    /// the same in each call.
    ///
    /// It is an error if a layer behaves differently in training, and the function updates trained
    /// parameters: that is a training step, to be called with [`train`](Function::train).
    pub fn call<T: TryInto<Tensor, Error: Into<Error>>>(
        &self,
        inputs: [T; N],
    ) -> Result<[Tensor; M]> {
        self.call_with(None, inputs)
    }

    /// The outputs for these inputs, in training mode: what [`Graph::training`] with this seed would
    /// compute and update. Random numbers depend on the seed, which should be different in each
    /// call; it is an input of the program, and another one needs no new plan.
    ///
    /// ```
    /// use autograd::{Graph, Param, compile};
    /// let w = Param::new([1.0, 2.0, 3.0]);
    /// let step = compile(|[x]| {
    ///     let g = x.graph();
    ///     let kept = g.bernoulli(0.5, [3]).select(x, 0.0);
    ///     let loss = (g.param(&w) * kept).sum();
    ///     let [dw] = g.grad(loss, &[g.param(&w)]);
    ///     g.assign(&w, g.param(&w) - dw);
    ///     [loss]
    /// });
    /// let x = [1.0, 10.0, 100.0];
    /// let [first] = step.train(7, [x])?;
    /// w.set([1.0, 2.0, 3.0])?;
    /// assert_eq!(step.train(7, [x])?, [first]); // the same seed, the same bits
    /// let [other] = step.train(8, [x])?;
    /// # drop(other);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    pub fn train<T: TryInto<Tensor, Error: Into<Error>>>(
        &self,
        seed: u64,
        inputs: [T; N],
    ) -> Result<[Tensor; M]> {
        self.call_with(Some(seed), inputs)
    }

    fn call_with<T: TryInto<Tensor, Error: Into<Error>>>(
        &self,
        seed: Option<u64>,
        inputs: [T; N],
    ) -> Result<[Tensor; M]> {
        let _call = called_from(self.known.made_at);
        let inputs = tensors(inputs)?;
        let traced = self.known.traced(&inputs, seed.is_some(), &self.write())?;
        let values: Result<[Tensor; M], _> = traced.call_with(seed, &inputs)?.try_into();
        values.map_err(|_| self.known.values_are_missing())
    }

    /// Inspects the plan for inputs like these, and the program that it is for.
    pub(crate) fn with_plan<T: TryInto<Tensor, Error: Into<Error>>, R>(
        &self,
        inputs: [T; N],
        inspect: impl FnOnce(&Program, &Plan) -> R,
    ) -> Result<R> {
        let inputs = tensors(inputs)?;
        let of = |training| self.known.traced(&inputs, training, &self.write());
        // a training step may have no program for evaluation
        let traced = of(false).or_else(|e| of(true).map_err(|_| e))?;
        Ok(inspect(
            traced.selection.program(&traced.inner),
            &traced.plan,
        ))
    }

    fn write(&self) -> impl for<'g> Fn(&'g Graph, &[Var<'g>]) -> Vec<Var<'g>> {
        |_, x| (self.f)(std::array::from_fn(|k| x[k])).to_vec()
    }
}

impl Known {
    fn values_are_missing(&self) -> Error {
        OpError::new("values are missing").at("compile", self.made_at)
    }

    fn traced(&self, inputs: &[Tensor], training: bool, write: &Write<'_>) -> Result<Arc<Traced>> {
        let fits = |t: &&Arc<Traced>| {
            let types = t.types.iter().zip(inputs);
            t.training == training
                && types.fold(t.is_current(), |fits, (ty, x)| fits && *ty == x.ty())
        };
        if let Some(known) = self
            .traced
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(fits)
        {
            return Ok(known.clone());
        }
        // without the lock: the closure may call the function itself
        let traced = Arc::new(Traced::new(inputs, training, self.made_at, write)?);
        let mut all = self.traced.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = all.iter().find(fits) {
            return Ok(first.clone()); // another thread was faster
        }
        if all.len() >= MAX_TRACED {
            all.remove(0);
        }
        all.push(traced.clone());
        Ok(traced)
    }
}

impl Traced {
    /// Writes the program for inputs of these types; their values are not part of it.
    pub(crate) fn new(
        inputs: &[Tensor],
        training: bool,
        made_at: &'static Location<'static>,
        write: &Write<'_>,
    ) -> Result<Traced> {
        let _call = called_from(made_at);
        let mut g = Graph::for_compile(training);
        let outputs = {
            let x: Vec<Var<'_>> = inputs.iter().map(|x| g.input(x)).collect();
            let y = catch(|| write(&g, &x)).map_err(|e| e.at("function", made_at))?;
            if y.iter().any(|y| !std::ptr::eq(y.graph(), &g)) {
                return Err(
                    OpError::new("a `Var` of another graph was returned").at("function", made_at)
                );
            }
            y.iter().map(|y| y.id).collect::<Vec<NodeId>>()
        };
        let asked_for_mode = g.asked_for_mode.get();
        let mut inner = std::mem::replace(g.inner.get_mut(), Inner::fresh());
        if asked_for_mode && !training && trains(&inner) {
            let e = OpError::new("a training step was called in evaluation mode")
                .hint("call it with .train(seed, [..]), with another seed in each step");
            return Err(e.at("function", made_at));
        }
        inner.cached.clear();
        inner.let_params_go();
        inner.leaves[..inputs.len()].fill(Tensor::from(0.0)); // the calls bring their own
        let part = Selection::extract(&inner, &outputs, &inner.updates)?;
        let plan = cache::plan(&part.program, &part.wanted, &part.updates);
        let types = inputs.iter().map(Tensor::ty).collect();
        Ok(Traced {
            types,
            training,
            inner,
            selection: Selection::Extract(part),
            plan,
            outputs,
        })
    }

    /// Reads the parameters now, for all calls: several calls make one result.
    pub(crate) fn at_one_moment(mut self) -> Traced {
        self.inner.read_params();
        self
    }

    /// The program with its values, and the nodes of it that are needed.
    #[cfg(feature = "sparse")]
    pub(crate) fn parts(&self) -> (&Inner, &[NodeId]) {
        match &self.selection {
            Selection::Extract(part) => (&self.inner, &part.nodes),
            Selection::All => (&self.inner, &[]), // a function always has a part of its own
        }
    }

    /// The nodes of the first input and of the first output.
    #[cfg(feature = "sparse")]
    pub(crate) fn ends(&self) -> (NodeId, NodeId) {
        (NodeId::new(0), self.outputs[0])
    }

    #[cfg(feature = "sparse")]
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.clone()
    }

    /// Whether a trace would give the same program now: no parameter was frozen or unfrozen.
    fn is_current(&self) -> bool {
        let mut params = self.inner.params.iter();
        params.all(|b| b.trained == b.param.is_trained())
    }

    /// The outputs for these inputs, which have the types that it was made for.
    pub(crate) fn call(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.call_with(None, inputs)
    }

    /// The same with the random numbers of a seed.
    fn call_with(&self, seed: Option<u64>, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let nodes = self.inner.random_keys.iter().copied().zip(1..);
        let key = |seed| {
            nodes
                .map(|(id, count)| (id, random::key(seed, count)))
                .collect()
        };
        let keys: Vec<(NodeId, Tensor)> = seed.map_or(Vec::new(), key);
        let run = Run {
            inner: &self.inner,
            plan: &self.plan,
            selection: &self.selection,
            wanted: &self.outputs,
            given: inputs,
            keys: &keys,
            moment: self.inner.moment,
            clock: None,
        };
        run.run()
    }
}

/// Whether the program updates a trained parameter.
fn trains(inner: &Inner) -> bool {
    let mut updated = inner.updates.iter().filter_map(|u| inner.binding(u.target));
    updated.any(|b| !b.param.is_buffer())
}

fn tensors<T: TryInto<Tensor, Error: Into<Error>>, const N: usize>(
    inputs: [T; N],
) -> Result<[Tensor; N]> {
    let mut error = None;
    let inputs = inputs.map(|x| {
        x.try_into().map_err(Into::into).unwrap_or_else(|e| {
            error.get_or_insert(e);
            Tensor::from(0.0)
        })
    });
    error.map_or(Ok(inputs), Err)
}
