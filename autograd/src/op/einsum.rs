//! Sums over products of tensors, with letters as names of axes. They become diagonals, sums,
//! transposes, products of elements and matrix products, so that the derivative of a contraction is
//! a contraction. More than two operands are contracted pair by pair, the cheapest pair first.

use crate::{error::OpError, graph::Graph, shape::Shape, var::Var};

/// The name of an axis: a letter, or the place of an axis that `...` stands for, from the last one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Axis {
    /// The largest place is the first axis.
    Dots(std::cmp::Reverse<usize>),
    Letter(char),
}

impl std::fmt::Display for Axis {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Axis::Letter(letter) => write!(f, "'{letter}'"),
            Axis::Dots(place) => write!(f, "axis {} of \"...\"", -(place.0 as isize) - 1),
        }
    }
}

/// A tensor with a name for each axis.
#[derive(Clone)]
struct Named<'g> {
    value: Var<'g>,
    axes: Vec<Axis>,
}

/// One part of the text: its letters, and where `...` stands.
struct Part {
    letters: Vec<char>,
    dots: Option<usize>,
}

impl Part {
    fn parse(text: &str) -> Result<Part, OpError> {
        let mut pieces = text.split("...");
        let before = pieces.next().unwrap_or("");
        let after = pieces.next();
        if pieces.next().is_some() {
            return Err(OpError::new(format!("\"{text}\" has \"...\" twice")));
        }
        let letters: Vec<char> = before.chars().chain(after.unwrap_or("").chars()).collect();
        if let Some(invalid) = letters.iter().find(|c| !c.is_alphabetic()) {
            return Err(OpError::new(format!("'{invalid}' is not a letter")));
        }
        Ok(Part {
            letters,
            dots: after.map(|_| before.chars().count()),
        })
    }

    /// The names of so many axes.
    fn axes(&self, rank: usize) -> Option<Vec<Axis>> {
        let extra = rank.checked_sub(self.letters.len())?;
        let mut axes: Vec<Axis> = self.letters.iter().copied().map(Axis::Letter).collect();
        match self.dots {
            Some(at) => {
                let dots = (0..extra).rev().map(|k| Axis::Dots(std::cmp::Reverse(k)));
                axes.splice(at..at, dots);
            }
            None if extra > 0 => return None,
            None => {}
        }
        Some(axes)
    }
}

/// The operands with their names, and the names of the result's axes.
fn parse<'g>(text: &str, x: &[Var<'g>]) -> Result<(Vec<Named<'g>>, Vec<Axis>), OpError> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, out) = match compact.split_once("->") {
        Some((left, out)) => (left, Some(Part::parse(out)?)),
        None => (&compact[..], None),
    };
    let parts: Vec<Part> = left.split(',').map(Part::parse).collect::<Result<_, _>>()?;
    if parts.len() != x.len() {
        let (n, count) = (parts.len(), x.len());
        let e = OpError::new(format!("\"{text}\" is for {n} operands, there are {count}"));
        return Err(e.hint("letters for each operand and the result, as in \"ij,jk->ik\""));
    }
    let mut named = Vec::with_capacity(x.len());
    for (part, &value) in parts.iter().zip(x) {
        let shape = value.known_shape();
        let axes = part.axes(shape.rank()).ok_or_else(|| {
            OpError::new(format!(
                "{} letters for the axes of {shape}",
                part.letters.len()
            ))
        })?;
        named.push(Named { value, axes });
    }
    let dots = |x: &Named<'_>| x.axes.iter().filter(|a| matches!(a, Axis::Dots(_))).count();
    let most = named.iter().map(dots).max().unwrap_or(0);
    let out = match out {
        Some(part) => {
            let extra = if part.dots.is_some() { most } else { 0 };
            let axes = part.axes(part.letters.len() + extra);
            axes.ok_or("the result has another number of axes")?
        }
        None => implied(&named),
    };
    let all = || named.iter().flat_map(|x| &x.axes);
    if let Some(missing) = out.iter().find(|axis| !all().any(|other| other == *axis)) {
        return Err(OpError::new(format!(
            "{missing} is in the result, but in no operand"
        )));
    }
    if let Some(repeated) = out.iter().find(|axis| is_repeated(&out, **axis)) {
        let e = OpError::new(format!("{repeated} is twice in the result"));
        return Err(e.hint("a diagonal matrix is made by .diag()"));
    }
    Ok((named, out))
}

/// The axes of the result if none are given: those of `...`, and all letters that occur once, in
/// alphabetical order, as in NumPy.
fn implied(x: &[Named<'_>]) -> Vec<Axis> {
    let mut all: Vec<Axis> = x.iter().flat_map(|x| x.axes.iter().copied()).collect();
    all.sort_unstable();
    let runs = all.chunk_by(|a, b| a == b);
    runs.filter(|run| run.len() == 1 || matches!(run[0], Axis::Dots(_)))
        .map(|run| run[0])
        .collect()
}

fn is_repeated(axes: &[Axis], axis: Axis) -> bool {
    axes.iter().filter(|other| **other == axis).count() > 1
}

/// The size of each axis. Equal names have equal sizes; of those of `...`, some may be 1.
struct Sizes(Vec<(Axis, usize)>);

impl Sizes {
    fn of(x: &[Named<'_>]) -> Result<Sizes, OpError> {
        let mut sizes: Vec<(Axis, usize)> = Vec::new();
        for x in x {
            for (&axis, &size) in x.axes.iter().zip(x.value.known_shape().iter()) {
                let known = sizes.iter_mut().find(|(other, _)| *other == axis);
                match known {
                    None => sizes.push((axis, size)),
                    Some((_, known)) if *known == size => {}
                    Some((Axis::Dots(_), known)) if *known == 1 => *known = size,
                    Some((Axis::Dots(_), _)) if size == 1 => {}
                    Some((_, known)) => {
                        let message = format!("{axis} has sizes {known} and {size}");
                        return Err(OpError::new(message));
                    }
                }
            }
        }
        Ok(Sizes(sizes))
    }

    fn list(&self, axes: &[Axis]) -> Vec<usize> {
        let size = |axis: &Axis| self.0.iter().find(|(other, _)| other == axis);
        axes.iter()
            .map(|axis| size(axis).map_or(1, |s| s.1))
            .collect()
    }

    /// The number of elements of these axes together, for comparisons of cost.
    fn count(&self, axes: &[Axis]) -> f64 {
        self.list(axes).iter().map(|&n| n as f64).product()
    }
}

impl<'g> Named<'g> {
    /// Without axes of size 1 that stand for more in another operand, and with the diagonals of axes
    /// that have one name.
    #[track_caller]
    fn prepared(mut self, sizes: &Sizes) -> Result<Named<'g>, OpError> {
        let own = self.value.known_shape();
        let whole = sizes.list(&self.axes);
        let stays = |k: &usize| own[*k] == whole[*k];
        if !(0..own.rank()).all(|k| stays(&k)) {
            let left: Vec<usize> = (0..own.rank()).filter(stays).collect();
            let shape: Vec<usize> = left.iter().map(|&k| own[k]).collect();
            self.value = self.value.reshape(Shape::new(&shape)?);
            self.axes = left.iter().map(|&k| self.axes[k]).collect();
        }
        while let Some(&axis) = self
            .axes
            .iter()
            .find(|axis| is_repeated(&self.axes, **axis))
        {
            let places = (0..self.axes.len()).filter(|&k| self.axes[k] == axis);
            let pair: Vec<usize> = places.take(2).collect();
            let mut order: Vec<usize> =
                (0..self.axes.len()).filter(|k| !pair.contains(k)).collect();
            self.axes = order.iter().map(|&k| self.axes[k]).chain([axis]).collect();
            order.extend(pair);
            self.value = self.value.permute(order).diagonal();
        }
        Ok(self)
    }

    /// Its axes in the order of `target`, which are among them. All others are summed first.
    #[track_caller]
    fn arranged(&self, target: &[Axis]) -> Var<'g> {
        let is_left = |k: &usize| target.contains(&self.axes[*k]);
        let summed: Vec<usize> = (0..self.axes.len()).filter(|k| !is_left(k)).collect();
        let left: Vec<Axis> = (0..self.axes.len())
            .filter(is_left)
            .map(|k| self.axes[k])
            .collect();
        let x = match summed.is_empty() {
            true => self.value,
            false => self.value.sum_axis(summed),
        };
        let place = |axis: &Axis| left.iter().position(|other| other == axis);
        let order: Vec<usize> = target.iter().filter_map(place).collect();
        match order.iter().enumerate().all(|(k, &at)| k == at) {
            true => x,
            false => x.permute(order),
        }
    }
}

/// The axes of two operands by their role in the product, of which `kept` are needed later.
struct Roles {
    batch: Vec<Axis>,
    rows: Vec<Axis>,
    columns: Vec<Axis>,
    summed: Vec<Axis>,
}

impl Roles {
    fn new(a: &[Axis], b: &[Axis], kept: &dyn Fn(Axis) -> bool) -> Roles {
        let pick = |from: &[Axis], test: &dyn Fn(Axis) -> bool| {
            from.iter().copied().filter(|&c| test(c)).collect()
        };
        Roles {
            batch: pick(a, &|c| b.contains(&c) && kept(c)),
            rows: pick(a, &|c| !b.contains(&c) && kept(c)),
            columns: pick(b, &|c| !a.contains(&c) && kept(c)),
            summed: pick(a, &|c| b.contains(&c) && !kept(c)),
        }
    }

    fn result(&self) -> Vec<Axis> {
        [&self.batch[..], &self.rows, &self.columns].concat()
    }

    /// The number of multiplications.
    fn cost(&self, sizes: &Sizes) -> f64 {
        sizes.count(&self.result()) * sizes.count(&self.summed)
    }
}

/// The product of two operands: `[batch, rows, summed]` by `[batch, summed, columns]`, or element by
/// element if nothing is summed.
#[track_caller]
fn contract<'g>(
    a: &Named<'g>,
    b: &Named<'g>,
    roles: &Roles,
    sizes: &Sizes,
) -> Result<Named<'g>, OpError> {
    let Roles {
        batch,
        rows,
        columns,
        summed,
    } = roles;
    let (outer, m, n) = (sizes.list(batch), sizes.list(rows), sizes.list(columns));
    let count = |axes: &[Axis]| sizes.list(axes).iter().product::<usize>();
    let shaped = |x: Var<'g>, rest: &[usize]| {
        Ok::<_, OpError>(x.reshape(Shape::new(&[&outer[..], rest].concat())?))
    };
    let product = if summed.is_empty() {
        let left = shaped(
            a.arranged(&[&batch[..], rows].concat()),
            &[&m[..], &vec![1; n.len()]].concat(),
        )?;
        let right = shaped(
            b.arranged(&[&batch[..], columns].concat()),
            &[&vec![1; m.len()], &n[..]].concat(),
        )?;
        left * right
    } else {
        let left = a.arranged(&[&batch[..], rows, summed].concat());
        let right = b.arranged(&[&batch[..], summed, columns].concat());
        let left = shaped(left, &[count(rows), count(summed)])?;
        let right = shaped(right, &[count(summed), count(columns)])?;
        shaped(left.matmul(right), &[&m[..], &n].concat())?
    };
    Ok(Named {
        value: product,
        axes: roles.result(),
    })
}

/// Contracts all operands, of each step the pair with the fewest multiplications; of equal ones the
/// first, so that the order depends on nothing but sizes.
#[track_caller]
fn contract_all<'g>(
    mut x: Vec<Named<'g>>,
    out: &[Axis],
    sizes: &Sizes,
) -> Result<Var<'g>, OpError> {
    while x.len() > 1 {
        let mut best: Option<(f64, usize, usize, Roles)> = None;
        for i in 0..x.len() {
            for j in i + 1..x.len() {
                let others = |c: Axis| {
                    let mut rest = x.iter().enumerate().filter(|(k, _)| *k != i && *k != j);
                    rest.any(|(_, x)| x.axes.contains(&c))
                };
                let kept = |c: Axis| out.contains(&c) || others(c);
                let roles = Roles::new(&x[i].axes, &x[j].axes, &kept);
                let cost = roles.cost(sizes);
                if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                    best = Some((cost, i, j, roles));
                }
            }
        }
        let Some((_, i, j, roles)) = best else { break };
        let (b, a) = (x.remove(j), x.remove(i));
        x.insert(i, contract(&a, &b, &roles, sizes)?);
    }
    let last = x.first().ok_or("expected at least one operand")?;
    Ok(last.arranged(out))
}

impl Graph {
    /// Einstein summation: letters name axes, axes with equal letters are multiplied, and letters
    /// that are not in the result are summed. A letter that is twice in an operand takes its diagonal.
    /// `...` stands for all axes without letters, which broadcast. Without `->`, the result has those
    /// of `...` and the letters that occur once, in alphabetical order. For operands of the same float
    /// dtype; a single one may be of integers.
    ///
    /// Any number of operands is multiplied pair by pair, the pair with the fewest multiplications
    /// first.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let (a, b) = (g.input([[1.0, 2.0], [3.0, 4.0]]), g.input([[5.0, 6.0], [7.0, 8.0]]));
    /// assert_eq!(g.einsum("ij,jk->ik", &[a, b]).value()?, a.matmul(b).value()?);
    /// assert_eq!(g.einsum("ij,ij->", &[a, b]).value()?.scalar()?, 70.0);
    /// assert_eq!(g.einsum("...j->j...", &[a]).value()?, a.t().value()?);
    /// assert_eq!(g.einsum("ii", &[a]).value()?, a.trace().value()?);
    /// assert_eq!(g.einsum("ij,jk,kl", &[a, b, a]).value()?, a.matmul(b).matmul(a).value()?);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn einsum<'g>(&'g self, letters: &str, x: &[Var<'g>]) -> Var<'g> {
        if let Some(error) = self.foreign("einsum", x.iter().copied()) {
            return error;
        }
        if x.is_empty() || x.iter().any(|v| v.error().is_some()) {
            return self.fail("einsum", "expected at least one operand".into(), x);
        }
        let _call_site = self.call_site();
        let build = || {
            let (named, out) = parse(letters, x)?;
            let sizes = Sizes::of(&named)?;
            let prepared = named.into_iter().map(|x| x.prepared(&sizes));
            contract_all(prepared.collect::<Result<_, _>>()?, &out, &sizes)
        };
        build().unwrap_or_else(|e| self.fail("einsum", e, x))
    }
}
