//! Where the time of a run goes: by kernel, by operation, by scope and by source line.

use super::text::shortened;
use crate::{
    error::Result,
    exec::{fetch::Fetch, run::Clock},
    graph::Graph,
    nodes::Inner,
    op::{BUILTIN, Id},
    sorted::sort_by,
};
use std::{collections::HashMap, fmt, time::Duration};

/// The times of one run: what [`Graph::profile`] returns. Printed, it is a table.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Kernel by kernel, in the order in which they ran: their operations are the name.
    pub kernels: Vec<Row>,
    /// By the name of the operation, the longest first.
    pub ops: Vec<Row>,
    /// By scope, the longest first.
    pub scopes: Vec<Row>,
    /// By source line, the longest first.
    pub lines: Vec<Row>,
}

/// One line of a [`Profile`].
#[derive(Clone, Debug)]
pub struct Row {
    /// What the time was spent on.
    pub name: String,
    /// The time.
    pub time: Duration,
    /// Part of it is an estimated share of a kernel that does several things at once.
    pub estimated: bool,
}

impl Profile {
    /// The time of all kernels.
    pub fn total(&self) -> Duration {
        self.kernels.iter().map(|k| k.time).sum()
    }
}

/// Rows that are added to by name.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    places: HashMap<String, usize>,
}

impl Rows {
    /// Adds a time to the row of this name.
    fn add(&mut self, name: String, time: Duration, estimated: bool) {
        let place = *self.places.entry(name.clone()).or_insert(self.rows.len());
        if place == self.rows.len() {
            self.rows.push(Row {
                name,
                time: Duration::ZERO,
                estimated: false,
            });
        }
        self.rows[place].time += time;
        self.rows[place].estimated |= estimated;
    }

    /// The longest time first.
    fn sorted(mut self) -> Vec<Row> {
        sort_by(&mut self.rows, |row| -(row.time.as_nanos() as i64));
        self.rows
    }
}

/// About how much longer an operation takes than an addition of a single number does.
fn weight(inner: &Inner, id: u32) -> f64 {
    let count = |id: u32| inner.ty(id).shape.count() as f64;
    let op = inner.nodes[id as usize].op;
    if op == Id::MatMul as u32 {
        // a dozen products in the time of an addition, which waits for memory
        return count(id)
            * inner
                .ty(inner.args(id)[0])
                .shape
                .last()
                .map_or(1.0, |&k| k as f64 / 12.0);
    }
    count(id).max(inner.args(id).iter().map(|&a| count(a)).fold(1.0, f64::max)) * weight_of_one(op)
}

/// The same for one element.
fn weight_of_one(op: u32) -> f64 {
    const SLOW: [Id; 14] = [
        Id::Exp,
        Id::Expm1,
        Id::Ln,
        Id::Ln1p,
        Id::Sin,
        Id::Cos,
        Id::SigmoidTail,
        Id::TanhTail,
        Id::Erf,
        Id::Erfc,
        Id::Gelu,
        Id::Softplus,
        Id::Pow,
        Id::Div,
    ];
    if (op as usize) < BUILTIN.len() && SLOW.iter().any(|&slow| slow as u32 == op) {
        8.0
    } else {
        1.0
    }
}

impl Graph {
    /// Runs as [`run`](Graph::run) does and measures each kernel. What several operations of one fused kernel took is an
    /// estimate, and marked as such (`~`).
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let x = g.input(vec![0.5; 10_000]);
    /// let (y, profile) = g.profile(x.sin().sum())?;
    /// assert_eq!(profile.kernels.len(), 1);
    /// println!("{profile}");
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn profile<'g, F: Fetch<'g>>(&'g self, what: F) -> Result<(F::Out, Profile)> {
        let clock = Clock::default();
        let values = self.run_with(what, Some(&clock))?;
        Ok((values, self.measured(clock)))
    }

    fn measured(&self, clock: Clock) -> Profile {
        let inner = self.inner.borrow();
        let mut kernels = Vec::new();
        let [mut ops, mut scopes, mut lines] = [(); 3].map(|()| Rows::default());
        for (nodes, time) in clock.into_inner() {
            let names: Vec<&str> = nodes.iter().map(|&id| inner.op(id).name()).collect();
            let estimated = nodes.len() > 1;
            kernels.push(Row {
                name: names.join(" "),
                time,
                estimated: false,
            });
            let weights: Vec<f64> = nodes.iter().map(|&id| weight(&inner, id)).collect();
            let all = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE); // of nothing, as of a product of nothing: 0
            for (&id, weight) in nodes.iter().zip(weights) {
                let (share, node) = (time.mul_f64(weight / all), &inner.nodes[id as usize]);
                let path = inner.scope_path(id);
                ops.add(inner.op(id).name().into(), share, estimated);
                scopes.add(
                    if path.is_empty() {
                        "(none)".into()
                    } else {
                        path
                    },
                    share,
                    estimated,
                );
                lines.add(
                    format!("{}:{}", node.source.file(), node.source.line()),
                    share,
                    estimated,
                );
            }
        }
        Profile {
            kernels,
            ops: ops.sorted(),
            scopes: scopes.sorted(),
            lines: lines.sorted(),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let total = self.total().as_secs_f64().max(f64::MIN_POSITIVE);
        for (title, rows) in [
            ("kernel", &self.kernels),
            ("operation", &self.ops),
            ("scope", &self.scopes),
            ("line", &self.lines),
        ] {
            writeln!(f, "{:>12} {:>6}  {title}", "time (us)", "%")?;
            for row in rows {
                let seconds = row.time.as_secs_f64();
                let mark = if row.estimated { "~" } else { "" };
                let time = format!("{mark}{:.1}", seconds * 1e6);
                let name = shortened(&row.name, 90);
                writeln!(f, "{time:>12} {:>6.1}  {name}", seconds / total * 100.0)?;
            }
        }
        Ok(())
    }
}
