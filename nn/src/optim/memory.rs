//! What an optimizer remembers of each parameter from step to step.

use crate::error::Result;
use autograd::{DType, Graph, Param, Tensor, Var};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// A parameter, kept so that its id stays its own, and a buffer of it.
type Buffer = (Param, Param);

/// Buffers, by parameter and name.
#[derive(Default)]
pub(super) struct Memory {
    buffers: Mutex<HashMap<(usize, &'static str), Buffer>>,
    counter: Mutex<Option<Param>>,
}

impl Memory {
    /// The buffers of a parameter with these names, zeros at first. If there is no memory for one, the parameter's update is that error.
    #[track_caller]
    pub(super) fn of<const N: usize>(
        &self,
        param: &Param,
        weight: Var<'_>,
        names: [&'static str; N],
    ) -> Option<[Param; N]> {
        let buffers: autograd::Result<Vec<Param>> =
            names.iter().map(|name| self.zeros(param, name)).collect();
        let buffers = buffers.ok().and_then(|all| all.try_into().ok());
        if buffers.is_none() {
            let message = format!(
                "there is no memory for the {} of a parameter",
                names.join(" and the ")
            );
            weight.graph().assign(param, weight.fail(&message));
        }
        buffers
    }

    fn zeros(&self, param: &Param, name: &'static str) -> autograd::Result<Param> {
        self.made(param, name, || {
            Tensor::zeros(param.ty().shape, param.ty().dtype)
        })
    }

    /// The buffer of a parameter with this name, made by `first` if it is not there yet.
    pub(super) fn made<E>(
        &self,
        param: &Param,
        name: &'static str,
        first: impl FnOnce() -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Param, E> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, buffer)) = buffers.get(&(param.id(), name)) {
            return Ok(buffer.clone());
        }
        let buffer = Param::buffer(first()?);
        buffers.insert((param.id(), name), (param.clone(), buffer.clone()));
        Ok(buffer)
    }

    /// The number of steps that have been carried out, i64.
    pub(super) fn counter(&self) -> Param {
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        counter.get_or_insert_with(|| Param::buffer(0i64)).clone()
    }

    /// Counts this step: its number from 1 on, as f64.
    #[track_caller]
    pub(super) fn count<'g>(&self, g: &'g Graph) -> Var<'g> {
        let counter = self.counter();
        let now = g.param(&counter) + 1;
        g.assign(&counter, now);
        now.cast(DType::F64)
    }

    /// All buffers of some parameters under names.
    pub(super) fn state(
        &self,
        params: &[(String, Param)],
        names: &[&'static str],
        counted: bool,
    ) -> Result<Vec<(String, Param)>> {
        let mut all = Vec::new();
        for (path, param) in params.iter().filter(|(_, p)| p.is_trained()) {
            for &name in names {
                all.push((format!("{name}.{path}"), self.zeros(param, name)?));
            }
        }
        if counted {
            all.push(("steps".into(), self.counter()));
        }
        Ok(all)
    }
}
