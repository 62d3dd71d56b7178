//! What can be asked for in one run: a `Var`, or tuples, arrays, vectors and options of them.

use crate::{tensor::Tensor, var::Var};
use std::vec::IntoIter;

/// What [`Graph::run`](crate::Graph::run) can be asked for; the answer has the same form, with
/// tensors in place of `Var`s.
pub trait Fetch<'g> {
    /// The form of the answer.
    type Out;
    #[doc(hidden)]
    fn list(&self, out: &mut Vec<Var<'g>>);
    /// Takes as many values as `list` named; `None` if they run out.
    #[doc(hidden)]
    fn fill(self, values: &mut IntoIter<Tensor>) -> Option<Self::Out>;
}

/// What is asked for, one by one.
pub(crate) fn vars<'g, F: Fetch<'g>>(what: &F) -> Vec<Var<'g>> {
    let mut vars = Vec::with_capacity(8);
    what.list(&mut vars);
    vars
}

impl<'g> Fetch<'g> for Var<'g> {
    type Out = Tensor;
    fn list(&self, out: &mut Vec<Var<'g>>) {
        out.push(*self);
    }
    fn fill(self, values: &mut IntoIter<Tensor>) -> Option<Tensor> {
        values.next()
    }
}

impl<'g, F: Fetch<'g>, const N: usize> Fetch<'g> for [F; N] {
    type Out = [F::Out; N];
    fn list(&self, out: &mut Vec<Var<'g>>) {
        self.iter().for_each(|f| f.list(out));
    }
    fn fill(self, values: &mut IntoIter<Tensor>) -> Option<Self::Out> {
        let filled: Vec<F::Out> = self
            .into_iter()
            .map(|f| f.fill(values))
            .collect::<Option<_>>()?;
        filled.try_into().ok()
    }
}

impl<'g, F: Fetch<'g>> Fetch<'g> for Vec<F> {
    type Out = Vec<F::Out>;
    fn list(&self, out: &mut Vec<Var<'g>>) {
        self.iter().for_each(|f| f.list(out));
    }
    fn fill(self, values: &mut IntoIter<Tensor>) -> Option<Self::Out> {
        self.into_iter().map(|f| f.fill(values)).collect()
    }
}

impl<'g, F: Fetch<'g>> Fetch<'g> for Option<F> {
    type Out = Option<F::Out>;
    fn list(&self, out: &mut Vec<Var<'g>>) {
        self.iter().for_each(|f| f.list(out));
    }
    fn fill(self, values: &mut IntoIter<Tensor>) -> Option<Self::Out> {
        match self {
            Some(f) => f.fill(values).map(Some),
            None => Some(None),
        }
    }
}

macro_rules! tuples {
    ($(($($F:ident)*))*) => { $(
        #[allow(non_snake_case, unused_variables)]
        impl<'g, $($F: Fetch<'g>),*> Fetch<'g> for ($($F,)*) {
            type Out = ($($F::Out,)*);
            fn list(&self, out: &mut Vec<Var<'g>>) {
                let ($($F,)*) = self;
                $($F.list(out);)*
            }
            fn fill(self, values: &mut IntoIter<Tensor>) -> Option<Self::Out> {
                let ($($F,)*) = self;
                Some(($($F.fill(values)?,)*))
            }
        }
    )* };
}
tuples! { () (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) }
