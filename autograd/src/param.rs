//! Parameters: tensors that outlive graphs, and the one lock under which updates of several of them become visible.

use crate::{
    error::{Error, OpError, Result},
    tensor::{Tensor, Type},
};
use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Counts commits. Held for writing while parameters change, so that whoever reads several of them sees one moment.
static EPOCH: RwLock<u64> = RwLock::new(0);

/// A tensor that outlives graphs: a weight that is trained, or a buffer such as a running mean.
///
/// A `Param` is a shared handle: clones are the same parameter. [`Graph::param`](crate::Graph::param) binds it to a
/// graph, [`Graph::assign`](crate::Graph::assign) schedules its update.
///
/// ```
/// use autograd::{Graph, Param};
/// let w = Param::new([1.0, 2.0]);
/// let g = Graph::new();
/// let loss = g.param(&w).square().sum();
/// let [dw] = g.grad(loss, &[g.param(&w)]);
/// g.assign(&w, g.param(&w) - 0.1 * dw);       // one step of gradient descent: scheduled, not yet done
/// assert_eq!(g.run(loss)?.scalar()?, 5.0);    // now it is done
/// assert_eq!(w.value().to_f64s(), [0.8, 1.6]);
/// # Ok::<(), autograd::Error>(())
/// ```
#[derive(Clone)]
pub struct Param(Arc<Inner>);

struct Inner {
    ty: Type,
    trained: bool,
    frozen: AtomicBool,
    /// The value and the epoch in which it was last changed.
    state: RwLock<(Tensor, u64)>,
}

impl Param {
    /// A parameter that training changes.
    pub fn new(value: impl Into<Tensor>) -> Param {
        Param::make(value.into(), true)
    }

    /// A tensor that is kept and saved like a parameter but has no gradient of its own: a running mean, the memory of
    /// an optimizer.
    pub fn buffer(value: impl Into<Tensor>) -> Param {
        Param::make(value.into(), false)
    }

    fn make(value: Tensor, trained: bool) -> Param {
        // updates are written into it again and again
        let value = value.in_line();
        let (ty, frozen) = (value.ty(), AtomicBool::new(false));
        Param(Arc::new(Inner { ty, trained, frozen, state: RwLock::new((value, 0)) }))
    }

    /// The value now.
    pub fn value(&self) -> Tensor {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Sets the value by hand. An error if dtype or shape differ. Graphs that bound the parameter before are stale.
    #[track_caller]
    pub fn set(&self, value: impl TryInto<Tensor, Error: Into<Error>>) -> Result<()> {
        let value = value.try_into().map_err(Into::into)?;
        if value.ty() != self.0.ty {
            let message = format!("a parameter of type {} cannot be set to {}", self.0.ty, value.ty());
            return Err(OpError::new(message).at_caller("set"));
        }
        commit(
            &[self],
            || Ok(()),
            |state| {
                state.iter_mut().for_each(|s| **s = value.clone());
                Ok(())
            },
        )
    }

    /// Dtype and shape, which never change.
    pub fn ty(&self) -> Type {
        self.0.ty
    }

    /// Whether gradients are taken and optimizers update it: made with [`Param::new`] and not frozen.
    pub fn is_trained(&self) -> bool {
        self.0.trained && !self.0.frozen.load(Relaxed)
    }

    /// Whether it was made with [`Param::buffer`].
    pub fn is_buffer(&self) -> bool {
        !self.0.trained
    }

    /// Excludes it from training (`true`) or takes it in again (`false`); graphs that are made later see it.
    pub fn freeze(&self, frozen: bool) {
        self.0.frozen.store(frozen, Relaxed);
    }

    /// Whether both handles are the same parameter.
    pub fn same(&self, other: &Param) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A number that no other living parameter has: for maps from parameters to what belongs to them.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    fn version(&self) -> u64 {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).1
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kind = if self.is_buffer() { "buffer" } else { "param" };
        write!(f, "{kind} {}", self.0.ty)
    }
}

/// The number of the last commit.
pub(crate) fn epoch() -> u64 {
    *EPOCH.read().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the parameter changed after this epoch.
pub(crate) fn is_stale(param: &Param, epoch: u64) -> bool {
    param.version() > epoch
}

/// The values of several parameters at one moment; the position of the first that changed after `epoch` if any did.
pub(crate) fn snapshot<'p>(params: impl Iterator<Item = &'p Param>, epoch: u64) -> Result<Vec<Tensor>, usize> {
    let _moment = EPOCH.read().unwrap_or_else(PoisonError::into_inner);
    let read = |(k, p): (usize, &Param)| if is_stale(p, epoch) { Err(k) } else { Ok(p.value()) };
    params.enumerate().map(read).collect()
}

/// Changes several parameters at one moment, or none of them.
///
/// `check` says whether what the new values rest on is still so; `change` gets the tensors of `updated` while nobody can
/// read them, and must not fail once it has changed one.
pub(crate) fn commit<E>(
    updated: &[&Param],
    mut check: impl FnMut() -> Result<(), E>,
    change: impl FnOnce(&mut [&mut Tensor]) -> Result<(), E>,
) -> Result<(), E> {
    let mut epoch = EPOCH.write().unwrap_or_else(PoisonError::into_inner);
    check()?;
    // Several locks at once: no deadlock, since only whoever holds the epoch for writing takes more than one.
    let mut states: Vec<_> =
        updated.iter().map(|p| p.0.state.write().unwrap_or_else(PoisonError::into_inner)).collect();
    let mut tensors: Vec<&mut Tensor> = states.iter_mut().map(|s| &mut s.0).collect();
    change(&mut tensors)?;
    *epoch += 1;
    states.iter_mut().for_each(|s| s.1 = *epoch);
    Ok(())
}
