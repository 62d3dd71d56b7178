//! Parameters: tensors that outlive graphs. Updates of several parameters become visible
//! atomically: reading or changing several of them locks all of them.

use crate::{
    error::{Error, OpError, Result},
    tensor::{Tensor, Type},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

/// Counts commits. While a parameter is locked, it cannot change after it was read.
static EPOCH: AtomicU64 = AtomicU64::new(0);

/// A tensor that outlives graphs: a trained weight, or a buffer such as a running mean.
///
/// A `Param` is a shared handle: clones are the same parameter.
/// [`Graph::param`](crate::Graph::param) binds it to a graph,
/// [`Graph::assign`](crate::Graph::assign) schedules its update.
///
/// ```
/// use autograd::{Graph, Param};
/// let w = Param::new([1.0, 2.0]);
/// let g = Graph::new();
/// let loss = g.param(&w).square().sum();
/// let [dw] = g.grad(loss, &[g.param(&w)]);
/// g.assign(&w, g.param(&w) - 0.1 * dw);       // one step of gradient descent: only scheduled
/// assert_eq!(g.run(loss)?.scalar()?, 5.0);    // applies the update
/// assert_eq!(w.value().to_f64s(), [0.8, 1.6]);
/// # Ok::<(), autograd::Error>(())
/// ```
#[derive(Clone)]
pub struct Param(Arc<Inner>);

struct Inner {
    ty: Type,
    trained: bool,
    frozen: AtomicBool,
    state: RwLock<State>,
}

struct State {
    value: Tensor,
    /// The epoch of its last change.
    changed: u64,
}

impl Param {
    /// A trained parameter.
    pub fn new(value: impl Into<Tensor>) -> Param {
        Param::make(value.into(), true)
    }

    /// A tensor that is saved like a parameter but has no gradient of its own: a running mean, the
    /// state of an optimizer.
    pub fn buffer(value: impl Into<Tensor>) -> Param {
        Param::make(value.into(), false)
    }

    fn make(value: Tensor, trained: bool) -> Param {
        // updates are written to it in place, so alignment pays off
        let value = value.cache_aligned();
        Param(Arc::new(Inner {
            ty: value.ty(),
            trained,
            frozen: AtomicBool::new(false),
            state: RwLock::new(State { value, changed: 0 }),
        }))
    }

    /// The current value.
    pub fn value(&self) -> Tensor {
        self.read().value.clone()
    }

    /// The current values of several parameters, read at one moment: updates of other threads are in
    /// all of them or in none.
    ///
    /// ```
    /// use autograd::{Graph, Param};
    /// let (w, b) = (Param::new([1.0, 2.0]), Param::new(0.5));
    /// let weights = Param::values([&w, &b]);
    /// Param::set_all([(&w, [0.0, 0.0].into()), (&b, autograd::Tensor::from(0.0))])?;
    /// // a graph that uses them as they were
    /// let g = Graph::new();
    /// let (w, b) = (g.bind(&w, &weights[0]), g.bind(&b, &weights[1]));
    /// assert_eq!((w + b).value()?.to_f64s(), [1.5, 2.5]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    pub fn values<'p>(params: impl IntoIterator<Item = &'p Param>) -> Vec<Tensor> {
        let params: Vec<&Param> = params.into_iter().collect();
        let mut by_id = HashMap::with_capacity(params.len());
        // none is stale, since the moment is now
        let _ = snapshot(&params, Moment::None, |k, value| {
            by_id.insert(params[k].id(), value);
        });
        let value = |param: &&Param| by_id.get(&param.id()).cloned();
        params.iter().filter_map(value).collect()
    }

    /// Sets the value directly. An error if dtype or shape differ. Graphs that took the parameter
    /// before cannot update it any more, or compute with its value if they have not read it.
    #[track_caller]
    pub fn set(&self, value: impl TryInto<Tensor, Error: Into<Error>>) -> Result<()> {
        Param::set_all([(self, value)])
    }

    /// Sets several parameters at one moment: other threads see all new values, or none. If a parameter
    /// is given twice, the last value counts. An error, and nothing is set, if a dtype or shape differs.
    #[track_caller]
    pub fn set_all<'p, V: TryInto<Tensor, Error: Into<Error>>>(
        values: impl IntoIterator<Item = (&'p Param, V)>,
    ) -> Result<()> {
        let (mut params, mut new_values, mut places) = (Vec::new(), Vec::new(), HashMap::new());
        for (param, value) in values {
            let value = value.try_into().map_err(Into::into)?;
            let ty = param.ty();
            if value.ty() != ty {
                let message = format!("a parameter of type {ty} cannot be set to {}", value.ty());
                return Err(OpError::new(message).at_caller("set"));
            }
            if let Some(&k) = places.get(&param.id()) {
                new_values[k] = value;
                continue;
            }
            places.insert(param.id(), params.len());
            params.push(param);
            new_values.push(value);
        }
        let change = |tensors: &mut [&mut Tensor]| {
            for (tensor, value) in tensors.iter_mut().zip(&mut new_values) {
                // the old ones are dropped when nobody has to wait for it
                std::mem::swap(*tensor, value);
            }
            Ok::<(), Error>(())
        };
        // the current epoch is the newest possible, and the change cannot fail
        match commit(&params, params.len(), u64::MAX, change) {
            Err(Refused::Failed(e)) => Err(e),
            Ok(()) | Err(Refused::Stale(_)) => Ok(()),
        }
    }

    /// Dtype and shape, which never change.
    pub fn ty(&self) -> Type {
        self.0.ty
    }

    /// Whether gradients are taken and optimizers update it: it was made with [`Param::new`] and is
    /// not frozen.
    pub fn is_trained(&self) -> bool {
        self.0.trained && !self.0.frozen.load(Relaxed)
    }

    /// Whether it was made with [`Param::buffer`].
    pub fn is_buffer(&self) -> bool {
        !self.0.trained
    }

    /// Excludes it from training (`true`) or includes it again (`false`). Applies to graphs that
    /// bind it later.
    pub fn freeze(&self, frozen: bool) {
        self.0.frozen.store(frozen, Relaxed);
    }

    /// Whether both handles are the same parameter.
    pub fn same(&self, other: &Param) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// An id that no other living parameter has: a key for maps.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kind = if self.is_buffer() { "buffer" } else { "param" };
        write!(f, "{kind} {}", self.0.ty)
    }
}

/// The point in time at which a graph reads its parameters.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Moment {
    /// Not yet.
    #[default]
    None,
    /// After this commit, and no parameter may have changed since.
    At(u64),
    /// At the start of each run.
    EachRun,
}

impl Moment {
    /// Fixes the time: now, unless it is fixed.
    pub(crate) fn begin(&mut self) {
        if *self == Moment::None {
            *self = Moment::At(EPOCH.load(SeqCst));
        }
    }
}

/// Reads the values of several different parameters atomically, each with its position, and returns
/// the last commit that they may include. Those that changed after `moment` are left out; if there
/// are any, returns the position of the first one.
pub(crate) fn snapshot(
    params: &[&Param],
    moment: Moment,
    mut take: impl FnMut(usize, Tensor),
) -> Result<u64, usize> {
    let held: Vec<_> = in_order(params).map(|k| (k, params[k].read())).collect();
    let epoch = match moment {
        Moment::At(epoch) => epoch,
        Moment::None | Moment::EachRun => EPOCH.load(SeqCst),
    };
    let mut stale = None;
    for (k, state) in &held {
        match state.changed <= epoch {
            true => take(*k, state.value.clone()),
            false => stale = Some(stale.map_or(*k, |first: usize| first.min(*k))),
        }
    }
    stale.map_or(Ok(epoch), Err)
}

/// Why a commit failed.
pub(crate) enum Refused<Which, E> {
    /// This parameter changed after the epoch.
    Stale(Which),
    /// The change itself failed.
    Failed(E),
}

impl<Which, E> From<E> for Refused<Which, E> {
    fn from(e: E) -> Self {
        Refused::Failed(e)
    }
}

/// Changes several parameters atomically: the first `count` of those given. All must be unchanged
/// since `epoch`; otherwise the position of a changed one is returned. `change` gets the tensors of
/// the changed ones while no other thread can read them. It must not fail after it has changed one.
pub(crate) fn commit<E>(
    params: &[&Param],
    count: usize,
    epoch: u64,
    change: impl FnOnce(&mut [&mut Tensor]) -> Result<(), E>,
) -> Result<(), Refused<usize, E>> {
    let (mut updated, mut others) = (Vec::with_capacity(count), Vec::new());
    for k in in_order(params) {
        if k < count {
            let state = params[k].0.state.write();
            updated.push((k, state.unwrap_or_else(PoisonError::into_inner)));
        } else {
            others.push((k, params[k].read()));
        }
    }
    let versions = updated
        .iter()
        .map(|(k, state)| (*k, state.changed))
        .chain(others.iter().map(|(k, state)| (*k, state.changed)));
    let stale = versions.filter(|&(_, changed)| changed > epoch);
    if let Some(stale) = stale.map(|(k, _)| k).min() {
        return Err(Refused::Stale(stale));
    }
    let mut in_places: Vec<Option<&mut Tensor>> = (0..count).map(|_| None).collect();
    updated
        .iter_mut()
        .for_each(|(k, state)| in_places[*k] = Some(&mut state.value));
    let mut tensors: Vec<&mut Tensor> = in_places.into_iter().flatten().collect();
    change(&mut tensors).map_err(Refused::Failed)?;
    let now = EPOCH.fetch_add(1, SeqCst) + 1;
    updated
        .iter_mut()
        .for_each(|(_, state)| state.changed = now);
    Ok(())
}

/// The positions of parameters in the global lock order, which prevents deadlocks.
fn in_order(params: &[&Param]) -> impl Iterator<Item = usize> {
    let mut order: Vec<(i64, usize)> = params
        .iter()
        .map(|param| param.id() as i64)
        .zip(0..)
        .collect();
    order.sort_unstable();
    order.dedup_by_key(|(id, _)| *id);
    order.into_iter().map(|(_, k)| k)
}

/// The error for a stale parameter.
pub(crate) fn stale_parameter(param: &Param) -> OpError {
    OpError::new(format!("a parameter ({}) changed since it was bound", param.ty()))
        .hint("a graph uses parameters of one point in time: compute all values of a step in one run, and make a new graph for the next; or read them together, Param::values, and bind these")
}
