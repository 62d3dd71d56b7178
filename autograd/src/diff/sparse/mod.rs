//! Sparse Jacobians and Hessians: the pattern from the graph (`propagate.rs`), columns or rows that can be computed together
//! (`color.rs`), and one program for a direction, run for each colour.
//!
//! Griewank and Walther, Evaluating Derivatives (2008), chapters 7 and 8; Gebremedhin, Manne and Pothen, What color is your
//! Jacobian? (2005).

mod color;
mod pattern;
mod propagate;
mod show;

pub use color::Coloring;
pub use pattern::Pattern;

use super::functional::tensor;
use crate::{
    error::{Error, OpError, Result},
    graph::Graph,
    index::{Index, IndexVec},
    nodes::NodeId,
    plan,
    run::function::Traced,
    tensor::{DType, Element, Tensor, with_dtype},
    var::Var,
};
use color::Color;
use propagate::dependences;
use rayon::prelude::*;
use sprs::CsMat;
use std::{
    panic::Location,
    sync::{Arc, Mutex, PoisonError},
};

/// A sparse Jacobian or Hessian of a function, as a function of arrays: what [`sparse_jacobian`] and [`sparse_hessian`]
/// return.
///
/// At the first call the pattern is read off from the graph and coloured. Both are kept, and used again as long as the
/// function writes the same program and the constants whose zeros or positions were used have the same values.
pub struct Sparse<F> {
    f: F,
    matrix: Matrix,
}

/// What does not depend on the closure's type, so that it is compiled once for all of them.
struct Matrix {
    hessian: bool,
    made_at: &'static Location<'static>,
    known: Mutex<Option<Arc<Known>>>,
}

type Write<'f> = dyn for<'g> Fn(Var<'g>) -> Var<'g> + 'f;

/// The structure of a sparse matrix: which elements may differ from zero, and which columns or rows are computed
/// together. Printed, it is a picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Structure {
    /// Valid for all arguments.
    pub pattern: Pattern,
    /// How it is computed.
    pub coloring: Coloring,
}

/// What is kept between calls.
struct Known {
    structure: Arc<Structure>,
    /// The program that it is for: the same plan is found again as long as the program is the same.
    plan: Arc<plan::Plan>,
    /// The constants that it rests on.
    used: Vec<Used>,
    /// By element of the matrix: its colour.
    colors: Vec<Color>,
    /// By colour: the sum of the unit vectors.
    seeds: IndexVec<Color, Tensor>,
}

/// A constant whose value was used.
struct Used {
    /// The node of the program that is run.
    node: NodeId,
    value: Tensor,
}

/// So many directions are computed in one run: what they have in common is computed once.
const TOGETHER: usize = 4;

/// The sparse Jacobian of a function from vectors to vectors, as a function of arrays.
///
/// ```
/// // each output depends on three neighbours at most: three directions give the whole matrix
/// let f = autograd::sparse_jacobian(|x| {
///     let middle = x.slice(0, 1..-1);
///     x.slice(0, 2..) - 2.0 * middle + x.slice(0, ..-2) + middle.exp()
/// });
/// let x = vec![0.5; 1000];
/// let j = f.call::<f64>(x.clone())?;
/// assert_eq!((j.shape(), j.nnz()), ((998, 1000), 3 * 998));
/// assert_eq!(j.get(7, 8), Some(&(0.5f64.exp() - 2.0)));
/// assert_eq!(f.structure(x)?.coloring.count, 3);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn sparse_jacobian<F: for<'g> Fn(Var<'g>) -> Var<'g>>(f: F) -> Sparse<F> {
    Sparse {
        f,
        matrix: Matrix {
            hessian: false,
            made_at: Location::caller(),
            known: Mutex::default(),
        },
    }
}

/// The sparse Hessian of a function from vectors to single numbers, as a function of arrays.
///
/// ```
/// // Rosenbrock's function
/// let f = autograd::sparse_hessian(|x| {
///     let (a, b) = (x.slice(0, ..-1), x.slice(0, 1..));
///     (100.0 * (b - a.square()).square() + (1.0 - a).square()).sum()
/// });
/// let h = f.call::<f64>(vec![1.0; 100])?;
/// assert_eq!((h.nnz(), h.get(3, 3), h.get(3, 4)), (298, Some(&1002.0), Some(&-400.0)));
/// assert_eq!(f.structure(vec![1.0; 100])?.coloring.count, 3);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn sparse_hessian<F: for<'g> Fn(Var<'g>) -> Var<'g>>(f: F) -> Sparse<F> {
    Sparse {
        f,
        matrix: Matrix {
            hessian: true,
            made_at: Location::caller(),
            known: Mutex::default(),
        },
    }
}

impl<F: for<'g> Fn(Var<'g>) -> Var<'g>> Sparse<F> {
    /// The matrix, row by row (CSR); `T` is the function's own precision. Elements of the pattern that happen to be 0 are
    /// part of it.
    pub fn call<T: Element>(
        &self,
        x: impl TryInto<Tensor, Error: Into<Error>>,
    ) -> Result<CsMat<T>> {
        let x = tensor(x)?;
        let known = self.matrix.known(&self.f, &x)?;
        let products = self.matrix.products(&self.f, &x, &known, T::DTYPE)?;
        let pattern = &known.structure.pattern;
        let starts = pattern.starts().to_vec();
        let indices = pattern.indices().collect();
        let mut values = vec![T::default(); pattern.nnz()];
        known.place(&products, &mut values)?;
        Ok(CsMat::new(pattern.shape(), starts, indices, values))
    }

    /// Computes the values anew, for a matrix that an earlier call has returned.
    ///
    /// ```
    /// let f = autograd::sparse_jacobian(|x| x.square());
    /// let mut j = f.call::<f64>([1.0, 2.0])?;
    /// f.update([3.0, 4.0], &mut j)?;
    /// assert_eq!(j.data(), [6.0, 8.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    pub fn update<T: Element>(
        &self,
        x: impl TryInto<Tensor, Error: Into<Error>>,
        matrix: &mut CsMat<T>,
    ) -> Result<()> {
        let x = tensor(x)?;
        let known = self.matrix.known(&self.f, &x)?;
        let starts = matrix.indptr();
        let is_same = matrix.is_csr()
            && known.has_pattern(matrix.shape(), starts.raw_storage(), matrix.indices());
        if !is_same {
            return Err(self.matrix.another_pattern());
        }
        let products = self.matrix.products(&self.f, &x, &known, T::DTYPE)?;
        known.place(&products, matrix.data_mut())
    }

    /// Which elements of the matrix may differ from zero, and how they are computed, without computing them.
    pub fn structure(&self, x: impl TryInto<Tensor, Error: Into<Error>>) -> Result<Arc<Structure>> {
        Ok(self.matrix.known(&self.f, &tensor(x)?)?.structure.clone())
    }
}

impl Matrix {
    fn name(&self) -> &'static str {
        if self.hessian {
            "sparse_hessian"
        } else {
            "sparse_jacobian"
        }
    }

    fn another_pattern(&self) -> Error {
        let e = OpError::new("the matrix does not have the pattern of this function");
        e.hint("the pattern changes with constants: call instead of update")
            .at(self.name(), self.made_at)
    }

    /// What is known of the function for arguments like this one.
    fn known(&self, f: &Write<'_>, x: &Tensor) -> Result<Arc<Known>> {
        if x.shape().len() != 1 || !x.dtype().is_float() {
            let e = OpError::new(format!("wants a vector of floats, got {}", x.ty()));
            return Err(e
                .hint("reshape in the function: |x| f(x.reshape(..)).flatten()")
                .at(self.name(), self.made_at));
        }
        let traced = Traced::new(std::slice::from_ref(x), self.made_at, &|g, x| {
            vec![self.program(f, g, x[0])]
        })?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.fits(&traced)) {
            return Ok(known.clone());
        }
        let fresh = Arc::new(Known::new(traced, x, self.hessian)?);
        *known = Some(fresh.clone());
        Ok(fresh)
    }

    /// What the matrix is the Jacobian of.
    fn program<'g>(&self, f: &Write<'_>, g: &'g Graph, x: Var<'g>) -> Var<'g> {
        let y = f(x);
        if y.error().is_some() {
            return y;
        }
        if self.hessian {
            return g.grad(y, &[x])[0];
        }
        match (y.dims::<1>(), y.known_dtype().is_float()) {
            (Some(_), true) => y,
            _ => g.fail(
                "sparse_jacobian",
                OpError::new(format!(
                    "the function gives {}, not a vector of floats",
                    y.ty()
                )),
                &[],
            ),
        }
    }

    /// The products of the matrix, whose elements are of this type, with all directions.
    fn products(
        &self,
        f: &Write<'_>,
        x: &Tensor,
        known: &Known,
        dtype: DType,
    ) -> Result<IndexVec<Color, Tensor>> {
        if dtype != x.dtype() {
            let e = OpError::new(format!("the matrix is {}, not {dtype}", x.dtype()));
            return Err(e.at(self.name(), self.made_at));
        }
        let coloring = &known.structure.coloring;
        let together = coloring.count.min(TOGETHER);
        let groups: Vec<&[Tensor]> = known.seeds.chunks(together.max(1)).collect();
        let Some(&first) = groups.first() else {
            return Ok(IndexVec::new());
        };
        let inputs = |seeds: &[Tensor]| -> Vec<Tensor> {
            let padded = (0..together).map(|k| seeds[k.min(seeds.len() - 1)].clone());
            [x.clone()].into_iter().chain(padded).collect()
        };
        let traced = Traced::new(&inputs(first), self.made_at, &|g, v| {
            let y = self.program(f, g, v[0]);
            v[1..]
                .iter()
                .map(|&seed| Self::product(g, y, v[0], seed, coloring.by_rows))
                .collect()
        })?;
        let products: Vec<Vec<Tensor>> = groups
            .par_iter()
            .map(|seeds| traced.call(&inputs(seeds)))
            .collect::<Result<_>>()?;
        Ok(IndexVec::from_vec(products.into_iter().flatten().collect()))
    }

    /// The product of the matrix with a direction, from one side or the other.
    fn product<'g>(g: &'g Graph, y: Var<'g>, x: Var<'g>, seed: Var<'g>, by_rows: bool) -> Var<'g> {
        if by_rows {
            return y.vjp(seed, &[x])[0].unwrap_or_else(|| x.zero_cotangent());
        }
        g.jvp(y, &[x], &[seed])
    }
}

impl Known {
    fn new(traced: Traced, x: &Tensor, hessian: bool) -> Result<Known> {
        let (inner, nodes) = traced.parts();
        let (input, output) = traced.ends();
        let found = dependences(inner, output, input)?;
        let used = |&id: &NodeId| {
            let node = NodeId::new(nodes.binary_search(&id).ok()?);
            let value = inner.leaf(id)?;
            Some(Used { node, value })
        };
        let used = found.used.iter().filter_map(used).collect();
        let pattern = Arc::unwrap_or_clone(found.pattern);
        let coloring = if hessian {
            Coloring::columns(&pattern)
        } else {
            Coloring::new(&pattern)
        };
        let mut colors = Vec::with_capacity(pattern.nnz());
        for row in 0..pattern.shape().0 {
            let columns = pattern.columns_of(row);
            colors.extend(columns.map(|column| coloring.color(row, column)));
        }
        let seed = |color: Color| -> Result<Tensor> {
            with_dtype!(x.dtype(), float T => {
                let one = |c: Color| T::from(u8::from(c == color));
                Tensor::new([coloring.colors.len()], coloring.colors().map(one).collect())
            }, else Tensor::zeros([0], DType::F64))
        };
        let seeds = (0..coloring.count).map(|color| seed(Color::new(color)));
        let seeds = IndexVec::from_vec(seeds.collect::<Result<_>>()?);
        let plan = traced.plan();
        Ok(Known {
            structure: Arc::new(Structure { pattern, coloring }),
            plan,
            used,
            colors,
            seeds,
        })
    }

    /// Whether a matrix by rows (CSR) has the same elements.
    fn has_pattern(&self, shape: (usize, usize), starts: &[usize], indices: &[usize]) -> bool {
        let pattern = &self.structure.pattern;
        shape == pattern.shape()
            && starts == pattern.starts()
            && indices
                .iter()
                .copied()
                .zip(pattern.indices())
                .all(|(a, b)| a == b)
    }

    /// Puts the elements of the products in their places: rows are filled in pieces of about the same length, by all threads.
    fn place<T: Element>(
        &self,
        products: &IndexVec<Color, Tensor>,
        values: &mut [T],
    ) -> Result<()> {
        let products = products.iter().map(|p| p.as_slice::<T>());
        let products: IndexVec<Color, &[T]> = IndexVec::from_vec(products.collect::<Result<_>>()?);
        let Structure { pattern, coloring } = &*self.structure;
        let rows = pattern.shape().0;
        let pieces = 8 * rayon::current_num_threads();
        let ends: Vec<usize> = (0..=pieces).map(|k| k * rows / pieces).collect();
        let mut rest = values;
        let mut tasks = Vec::with_capacity(pieces);
        for piece in ends.windows(2) {
            let length = pattern.starts()[piece[1]] - pattern.starts()[piece[0]];
            let (own, more) = rest.split_at_mut(length);
            tasks.push((piece[0]..piece[1], own));
            rest = more;
        }
        tasks.into_par_iter().for_each(|(rows, own)| {
            let first = pattern.starts()[rows.start];
            for row in rows {
                for (k, column) in (pattern.starts()[row]..).zip(pattern.columns_of(row)) {
                    let place = if coloring.by_rows { column } else { row };
                    own[k - first] = products[self.colors[k]][place];
                }
            }
        });
        Ok(())
    }

    /// Whether this is the structure of a program, too.
    fn fits(&self, traced: &Traced) -> bool {
        let (inner, nodes) = traced.parts();
        let same = |used: &Used| {
            let now = nodes.get(used.node.index()).and_then(|&id| inner.leaf(id));
            now.is_some_and(|now| now == used.value)
        };
        Arc::ptr_eq(&self.plan, &traced.plan()) && self.used.iter().all(same)
    }
}
