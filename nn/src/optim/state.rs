//! The state that an optimizer stores for each parameter, such as momentum or moments.

use crate::error::Result;
use autograd::{Graph, Param, Tensor, Var};
use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

/// A buffer, after the parameter that it belongs to. Holding the parameter ensures that its id is
/// not reused.
type Buffer = (Param, Param);

/// Which steps an optimizer counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Steps {
    None,
    /// Its own, whichever parameters they are for.
    OfAll,
    /// Those of each parameter.
    OfEach,
}

/// Buffers by parameter id and name, and a step counter.
#[derive(Default)]
pub(super) struct OptimizerState {
    buffers: Mutex<HashMap<(usize, &'static str), Buffer>>,
    step_counter: Mutex<Option<Param>>,
}

impl OptimizerState {
    /// The buffers of a parameter with these names, initially zeros. If there is not enough memory,
    /// returns `None` and makes the update of the parameter fail with that error.
    #[track_caller]
    pub(super) fn buffers<const N: usize>(
        &self,
        param: &Param,
        weight: Var<'_>,
        names: [&'static str; N],
    ) -> Option<[Param; N]> {
        let buffers: autograd::Result<Vec<Param>> = names
            .iter()
            .map(|name| self.zero_buffer(param, name))
            .collect();
        let buffers = buffers.ok().and_then(|all| all.try_into().ok());
        if buffers.is_none() {
            let message = format!(
                "not enough memory for the optimizer state ({})",
                names.join(", ")
            );
            weight.graph().assign(param, weight.fail(&message));
        }
        buffers
    }

    fn zero_buffer(&self, param: &Param, name: &'static str) -> autograd::Result<Param> {
        self.get_or_insert(param, name, || {
            Tensor::zeros(param.ty().shape, param.ty().dtype)
        })
    }

    /// The buffer of a parameter with this name. If there is none, creates it from `initial`.
    pub(super) fn get_or_insert<E>(
        &self,
        param: &Param,
        name: &'static str,
        initial: impl FnOnce() -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Param, E> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, buffer)) = buffers.get(&(param.id(), name)) {
            return Ok(buffer.clone());
        }
        let buffer = Param::buffer(initial()?);
        buffers.insert((param.id(), name), (param.clone(), buffer.clone()));
        Ok(buffer)
    }

    /// The buffer of a parameter with this name, if there is one.
    pub(super) fn existing(&self, param: &Param, name: &'static str) -> Option<Param> {
        let buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        Some(buffers.get(&(param.id(), name))?.1.clone())
    }

    /// The number of completed steps of a parameter, as a buffer.
    pub(super) fn steps_of(&self, param: &Param) -> Param {
        let zero = || Ok::<_, Infallible>(Tensor::from(0f64));
        let Ok(steps) = self.get_or_insert(param, "steps", zero);
        steps
    }

    /// The number of completed steps, as an i64 buffer.
    pub(super) fn step_counter(&self) -> Param {
        let mut counter = self
            .step_counter
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counter.get_or_insert_with(|| Param::buffer(0i64)).clone()
    }

    /// Counts a step of a parameter in the graph. Returns its number, counted from 1, as f64.
    #[track_caller]
    pub(super) fn next_step<'g>(&self, g: &'g Graph, param: &Param) -> Var<'g> {
        let steps = self.steps_of(param);
        let step = g.param(&steps) + 1.0;
        g.assign(&steps, step);
        step
    }

    /// All buffers of these parameters, with names for a checkpoint.
    pub(super) fn named_buffers(
        &self,
        params: &[(String, Param)],
        names: &[&'static str],
        steps: Steps,
    ) -> Result<Vec<(String, Param)>> {
        let mut named = Vec::new();
        for (path, param) in params.iter().filter(|(_, p)| p.is_trained()) {
            for &name in names {
                named.push((format!("{name}.{path}"), self.zero_buffer(param, name)?));
            }
            if steps == Steps::OfEach {
                named.push((format!("steps.{path}"), self.steps_of(param)));
            }
        }
        if steps == Steps::OfAll {
            named.push(("steps".into(), self.step_counter()));
        }
        Ok(named)
    }
}
