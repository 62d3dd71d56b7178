//! Statistics of gradients: norms, zeros, dead units, and the size of updates relative to the
//! weights.

use crate::{
    diff::reverse::leaves,
    graph::Graph,
    nodes::Kind,
    param::Param,
    run::fetch::Fetch,
    tensor::{Tensor, Type},
    var::Var,
};
use std::{collections::HashMap, fmt, vec::IntoIter};

/// A fetch that computes a [`GradientReport`]: returned by [`Graph::inspect_gradients`].
pub struct InspectGradients<'g> {
    leaves: Vec<Leaf<'g>>,
}

/// One leaf, and the statistics computed for it.
struct Leaf<'g> {
    name: String,
    param: Option<Param>,
    ty: Type,
    /// The sum of squares, the mean and the number of zeros of the gradient, and the sum of squares
    /// of the weights.
    statistics: [Var<'g>; 4],
    /// The sum of squares of the difference that the update makes, if there is one.
    update: Option<Var<'g>>,
    /// Which units have a nonzero gradient.
    alive: Option<Var<'g>>,
}

/// Statistics of the gradients of a loss: one row per parameter or input. Displays as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientReport {
    /// Oldest first.
    pub rows: Vec<GradientRow>,
    steps: usize,
}

/// One row of a [`GradientReport`].
#[derive(Clone, Debug, PartialEq)]
pub struct GradientRow {
    /// The name of the parameter or input.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// The Euclidean norm of the gradient.
    pub norm: f64,
    /// The mean of the gradient's elements.
    pub mean: f64,
    /// The fraction of the gradient's elements that are exactly 0.
    pub zeros: f64,
    /// The norm of the scheduled update, divided by the norm of the weights. About 0.001 is typical
    /// of a healthy training. `None` if no update is scheduled, or all weights are 0.
    pub update_ratio: Option<f64>,
    alive: Option<Vec<bool>>,
}

impl GradientRow {
    /// For a weight with two or more axes: how many of its units (positions along the last axis)
    /// have a gradient of only zeros, and how many units there are. A unit before a relu that is
    /// always 0 is dead.
    pub fn dead_units(&self) -> Option<(usize, usize)> {
        self.alive
            .as_ref()
            .map(|alive| (alive.iter().filter(|&&alive| !alive).count(), alive.len()))
    }
}

impl GradientReport {
    /// Merges the report of a later step for the same leaves: statistics become means over the
    /// steps, and a unit is dead if it was dead in all of them. Rows of other leaves are dropped.
    pub fn merge(&mut self, later: &GradientReport) {
        let (before, more) = (self.steps as f64, later.steps as f64);
        let mean = |a: f64, b: f64| (a * before + b * more) / (before + more);
        for (row, other) in self
            .rows
            .iter_mut()
            .zip(&later.rows)
            .filter(|(a, b)| a.ty == b.ty)
        {
            row.norm = mean(row.norm, other.norm);
            row.mean = mean(row.mean, other.mean);
            row.zeros = mean(row.zeros, other.zeros);
            row.update_ratio = match (row.update_ratio, other.update_ratio) {
                (Some(a), Some(b)) => Some(mean(a, b)),
                (a, b) => a.or(b),
            };
            if let (Some(alive), Some(others)) = (&mut row.alive, &other.alive) {
                alive
                    .iter_mut()
                    .zip(others)
                    .for_each(|(alive, other)| *alive |= other);
            }
        }
        self.steps += later.steps;
    }
}

impl<'g> InspectGradients<'g> {
    /// Sets the names of parameters.
    pub fn named(mut self, names: &[(String, Param)]) -> InspectGradients<'g> {
        // if a parameter is listed twice, its first name counts
        let by_id: HashMap<usize, &String> = names
            .iter()
            .rev()
            .map(|(name, param)| (param.id(), name))
            .collect();
        for leaf in &mut self.leaves {
            if let Some(name) = leaf.param.as_ref().and_then(|own| by_id.get(&own.id())) {
                leaf.name = name.to_string();
            }
        }
        self
    }
}

impl Graph {
    /// Statistics of the gradients of a loss. For each parameter and input the loss depends on: the
    /// norm, the mean and the fraction of zeros of the gradient, the size of the scheduled update
    /// relative to the weights, and the number of dead units. Fetch it like a value, in the same
    /// run as the training step:
    ///
    /// ```
    /// use autograd::{Graph, Param};
    /// let w = Param::new([[1.0, -1.0], [2.0, -2.0]]);
    /// let g = Graph::new();
    /// let weight = g.param(&w);
    /// let loss = g.constant([[0.5, 0.25]]).matmul(weight).relu().sum();
    /// let [d] = g.grad(loss, &[weight]);
    /// g.assign(&w, weight - 0.1 * d);
    /// let (_, report) = g.run((loss, g.inspect_gradients(loss)))?;
    /// let row = &report.rows[0];
    /// assert_eq!(row.dead_units(), Some((1, 2))); // the second unit is negative
    /// assert_eq!((row.zeros, row.mean), (0.5, 0.1875));
    /// println!("{report}");
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn inspect_gradients<'g>(&'g self, loss: Var<'g>) -> InspectGradients<'g> {
        let _call_site = self.call_site();
        let loss = self
            .foreign("inspect_gradients", [loss])
            .unwrap_or(loss)
            .expect_scalar("inspect_gradients");
        let wanted = if loss.kind() == Kind::Error {
            vec![loss]
        } else {
            leaves(loss)
        };
        let gradients = self.grads(loss, &wanted);
        let of = |(leaf, d): (&Var<'g>, Var<'g>)| self.inspect_leaf(*leaf, d);
        InspectGradients {
            leaves: wanted.iter().zip(gradients).map(of).collect(),
        }
    }

    #[track_caller]
    fn inspect_leaf<'g>(&'g self, leaf: Var<'g>, d: Var<'g>) -> Leaf<'g> {
        let (name, param) = {
            let inner = self.inner.borrow();
            let scope = inner.scope_path(leaf.id);
            let suffix = if scope.is_empty() {
                String::new()
            } else {
                format!(" of {scope}")
            };
            let param = inner.binding(leaf.id).map(|b| b.param.clone());
            let name = if param.is_some() {
                format!("parameter {}{suffix}", leaf.id)
            } else {
                format!("input {}", leaf.id)
            };
            (name, param)
        };
        let squares = |v: Var<'g>| v.square().sum();
        let new = param.as_ref().and_then(|param| self.scheduled(param));
        let update = new.map(|new| squares(new - leaf));
        let others: Vec<isize> = (0..leaf.ty().shape.rank().saturating_sub(1) as isize).collect();
        let alive = (!others.is_empty()).then(|| d.ne(0.0).any_axis(&others[..]));
        Leaf {
            name,
            param,
            ty: leaf.ty(),
            statistics: [squares(d), d.mean(), d.eq(0.0).sum(), squares(leaf)],
            update,
            alive,
        }
    }
}

impl<'g> Fetch<'g> for InspectGradients<'g> {
    type Out = GradientReport;

    fn list(&self, out: &mut Vec<Var<'g>>) {
        for leaf in &self.leaves {
            out.extend(
                leaf.statistics
                    .iter()
                    .chain(&leaf.update)
                    .chain(&leaf.alive),
            );
        }
    }

    fn fill(self, values: &mut IntoIter<Tensor>) -> Option<GradientReport> {
        let rows = self
            .leaves
            .into_iter()
            .map(|leaf| leaf.row(values))
            .collect::<Option<_>>()?;
        Some(GradientReport { rows, steps: 1 })
    }
}

impl Leaf<'_> {
    fn row(self, values: &mut IntoIter<Tensor>) -> Option<GradientRow> {
        let mut number = || values.next()?.scalar().ok();
        let (squares, mean, zeros, weights) = (number()?, number()?, number()?, number()?);
        let update = match self.update {
            Some(_) => Some(number()?),
            None => None,
        };
        let alive = match self.alive {
            Some(_) => Some(values.next()?.as_slice::<bool>().ok()?.to_vec()),
            None => None,
        };
        Some(GradientRow {
            name: self.name,
            ty: self.ty,
            norm: squares.sqrt(),
            mean,
            zeros: zeros / (self.ty.shape.count().max(1)) as f64,
            update_ratio: update
                .filter(|_| weights > 0.0)
                .map(|u| u.sqrt() / weights.sqrt()),
            alive,
        })
    }
}

impl fmt::Display for GradientReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let width = self
            .rows
            .iter()
            .map(|r| r.name.chars().count())
            .max()
            .unwrap_or(0)
            .max(8);
        writeln!(
            f,
            "{:<width$}  {:<16} {:>10} {:>10} {:>7} {:>13}  dead units",
            "gradient", "type", "norm", "mean", "zeros", "update/weight"
        )?;
        for row in &self.rows {
            let ratio = row.update_ratio.map_or("-".into(), |r| format!("{r:.1e}"));
            let dead = row
                .dead_units()
                .map_or(String::new(), |(dead, of)| format!("{dead} of {of}"));
            let (ty, zeros) = (row.ty.to_string(), 100.0 * row.zeros);
            let line = format!(
                "{:<width$}  {ty:<16} {:>10.2e} {:>10.1e} {zeros:>6.1}% {ratio:>13}  {dead}",
                row.name, row.norm, row.mean
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
