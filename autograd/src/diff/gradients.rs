//! `backward`: a value and the gradients of all leaves it depends on, in one run.

use super::reverse;
use crate::{
    error::{OpError, Result},
    graph::Graph,
    nodes::NodeId,
    param::Param,
    tensor::Tensor,
    var::Var,
};

/// A value and its gradients: returned by [`Var::backward`].
pub struct Gradients<'g> {
    graph: &'g Graph,
    value: Tensor,
    /// With their leaves, oldest first.
    by_leaf: Vec<(Var<'g>, Tensor)>,
}

impl<'g> Var<'g> {
    /// Computes this scalar and its gradient with respect to every input and trained parameter it
    /// depends on, in one run. Scheduled updates are not applied.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let (x, y, other) = (g.input(2.0), g.input(3.0), g.input(1.0));
    /// let f = x * y + x.ln();
    /// let grads = f.backward()?;
    /// assert_eq!(grads.scalar(x)?, 3.5); // y + 1/x
    /// assert!(grads.get(other).is_none());
    /// println!("{}", grads.value());
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn backward(self) -> Result<Gradients<'g>> {
        let g = self.graph;
        let _call_site = g.call_site();
        let y = self.expect_scalar("backward");
        if let Some(e) = y.error() {
            return Err(e);
        }
        let mut leaves = reverse::leaves(y);
        let found = reverse::sweep(y, y.one_cotangent(), &leaves);
        let mut reached = found.iter().map(Option::is_some);
        leaves.retain(|_| reached.next().unwrap_or(false));
        let grads: Vec<Var<'g>> = found.into_iter().flatten().collect();
        let (value, grads) = g.look((y, grads))?;
        Ok(Gradients {
            graph: g,
            value,
            by_leaf: leaves.into_iter().zip(grads).collect(),
        })
    }
}

impl<'g> Gradients<'g> {
    /// The value that was differentiated.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The gradient with respect to a leaf; `None` if the value does not depend on it.
    pub fn get(&self, leaf: Var<'g>) -> Option<&Tensor> {
        if std::ptr::eq(leaf.graph(), self.graph) {
            self.at(leaf.id)
        } else {
            None
        }
    }

    fn at(&self, node: NodeId) -> Option<&Tensor> {
        let place = self
            .by_leaf
            .binary_search_by_key(&node, |(leaf, _)| leaf.id)
            .ok()?;
        Some(&self.by_leaf[place].1)
    }

    /// The gradient with respect to a parameter; `None` if the value does not depend on it or it is
    /// not trained.
    pub fn param(&self, param: &Param) -> Option<&Tensor> {
        let node = *self.graph.inner.borrow().bound.get(&param.id())?;
        self.at(node)
    }

    /// The gradient with respect to a scalar leaf; 0 if the value does not depend on it. An error
    /// for a leaf of another graph.
    #[track_caller]
    pub fn scalar(&self, leaf: Var<'g>) -> Result<f64> {
        if !std::ptr::eq(leaf.graph(), self.graph) {
            return Err(OpError::new("the leaf belongs to another graph").at_caller("scalar"));
        }
        if let Some(e) = leaf.error() {
            return Err(e);
        }
        match self.get(leaf) {
            Some(d) => d.scalar(),
            None if leaf.known_shape().count() == 1 => Ok(0.0),
            None => Err(
                OpError::new(format!("expected a scalar, got {}", leaf.ty())).at_caller("scalar"),
            ),
        }
    }

    /// All gradients, with their leaves, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Var<'g>, &Tensor)> {
        self.by_leaf.iter().map(|(v, d)| (*v, d))
    }
}
