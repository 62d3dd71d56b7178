//! The time of a run: by kernel, by operation, by scope and by source line.

use super::text::shortened;
use crate::{
    error::Result, graph::Graph, nodes::NodeId, plan::cost, run::fetch::Fetch, sorted::sort_by,
};
use std::{cell::RefCell, collections::HashMap, fmt, time::Duration};

/// The times of one run: returned by [`Graph::profile`]. Displays as a table.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// By kernel, in execution order. The name is the kernel's operations.
    pub kernels: Vec<Row>,
    /// By operation, the longest time first.
    pub ops: Vec<Row>,
    /// By scope, the longest time first.
    pub scopes: Vec<Row>,
    /// By source line, the longest time first.
    pub lines: Vec<Row>,
}

/// One row of a [`Profile`].
#[derive(Clone, Debug)]
pub struct Row {
    /// The kernel, operation, scope or source line.
    pub name: String,
    /// The time.
    pub time: Duration,
    /// Whether part of the time is an estimated share of a fused kernel.
    pub estimated: bool,
}

impl Profile {
    /// The time of all kernels.
    pub fn total(&self) -> Duration {
        self.kernels.iter().map(|k| k.time).sum()
    }
}

/// Rows whose times are added up by name.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    places: HashMap<String, usize>,
}

impl Rows {
    /// Adds a time to the row of this name.
    fn add(&mut self, name: String, time: Duration, estimated: bool) {
        let index = *self.places.entry(name.clone()).or_insert(self.rows.len());
        if index == self.rows.len() {
            self.rows.push(Row {
                name,
                time: Duration::ZERO,
                estimated: false,
            });
        }
        self.rows[index].time += time;
        self.rows[index].estimated |= estimated;
    }

    /// The rows, the longest time first.
    fn sorted(mut self) -> Vec<Row> {
        sort_by(&mut self.rows, |row| -(row.time.as_nanos() as i64));
        self.rows
    }
}

/// The time of a kernel.
struct KernelTime {
    nodes: Vec<NodeId>,
    time: Duration,
}

impl Graph {
    /// Runs as [`run`](Graph::run) does and measures each kernel. The time of a fused kernel is
    /// split among its operations by an estimate of their cost; such times are marked with `~`.
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
        let times = RefCell::new(Vec::new());
        let clock = |nodes: Vec<NodeId>, time: Duration| {
            times.borrow_mut().push(KernelTime { nodes, time });
        };
        let values = self.run_with(what, Some(&clock))?;
        Ok((values, self.measured(times.into_inner())))
    }

    fn measured(&self, times: Vec<KernelTime>) -> Profile {
        let inner = self.inner.borrow();
        let mut kernels = Vec::new();
        let [mut ops, mut scopes, mut lines] = [(); 3].map(|()| Rows::default());
        for KernelTime { nodes, time } in times {
            let names: Vec<&str> = nodes.iter().map(|&id| inner.op(id).name()).collect();
            let estimated = nodes.len() > 1;
            kernels.push(Row {
                name: names.join(" "),
                time,
                estimated: false,
            });
            let weights: Vec<f64> = nodes.iter().map(|&id| cost::weight(&inner, id)).collect();
            // an empty kernel has no cost
            let all = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            for (&id, weight) in nodes.iter().zip(weights) {
                let (share, line) = (time.mul_f64(weight / all), inner.source_of(id));
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
                lines.add(format!("{}:{}", line.file(), line.line()), share, estimated);
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
