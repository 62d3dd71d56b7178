//! Sparse Jacobians and Hessians: the sparsity pattern from the graph (`propagate.rs`), groups of
//! columns or rows that can be computed together (`color.rs`), and one program for a direction, run
//! for each colour.
//!
//! Griewank and Walther, Evaluating Derivatives (2008), chapters 7 and 8; Gebremedhin, Manne and
//! Pothen, What color is your Jacobian? (2005).

mod color;
mod pattern;
mod propagate;
mod show;

pub use color::Coloring;
pub use pattern::Pattern;

use crate::{
    error::{Error, OpError, Result},
    graph::Graph,
    index::{Index, IndexVec},
    lines::called_from,
    nodes::NodeId,
    plan,
    run::function::Traced,
    tensor::{DType, Element, Tensor, with_dtype},
    var::Var,
};
use color::Color;
use propagate::dependencies;
use rayon::prelude::*;
use sprs::CsMat;
use std::{
    panic::Location,
    sync::{Arc, Mutex, PoisonError},
};

/// A sparse Jacobian or Hessian of a function, as a function of arrays: returned by
/// [`sparse_jacobian`] and [`sparse_hessian`].
///
/// The first call computes the pattern from the graph and colours it. Both are cached, and reused
/// as long as the function traces the same program and the constants whose zeros or positions were
/// used have the same values.
pub struct Sparse<F> {
    f: F,
    matrix: Matrix,
}

/// The part that does not depend on the closure's type, so that it is compiled once.
struct Matrix {
    hessian: bool,
    made_at: &'static Location<'static>,
    cached: Mutex<Option<Arc<CachedStructure>>>,
}

type Write<'f> = dyn for<'g> Fn(Var<'g>) -> Var<'g> + 'f;

/// The structure of a sparse matrix: which elements may be nonzero, and which columns or rows are
/// computed together. Displays as a picture of the pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Structure {
    /// The sparsity pattern, valid for all arguments.
    pub pattern: Pattern,
    /// How it is computed.
    pub coloring: Coloring,
}

/// The cached structure.
struct CachedStructure {
    structure: Arc<Structure>,
    /// The plan of the program that it was computed for: as long as the program is the same, the
    /// plan cache returns this plan.
    plan: Arc<plan::Plan>,
    /// The constants that the pattern depends on.
    used: Vec<UsedConstant>,
    /// By element of the matrix: its colour.
    colors: Vec<Color>,
    /// By colour: the sum of the unit vectors.
    seeds: IndexVec<Color, Tensor>,
}

/// A constant whose value was used.
struct UsedConstant {
    /// The node of the traced program.
    node: NodeId,
    value: Tensor,
}

/// The number of directions per run: computations that they share are done once.
const DIRECTIONS_PER_RUN: usize = 4;

/// The sparse Jacobian of a function from vectors to vectors, as a function of arrays.
///
/// ```
/// // each output depends on at most three neighbours: three directions give the whole matrix
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
            cached: Mutex::default(),
        },
    }
}

/// The sparse Hessian of a scalar function of a vector, as a function of arrays.
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
            cached: Mutex::default(),
        },
    }
}

impl<F: for<'g> Fn(Var<'g>) -> Var<'g>> Sparse<F> {
    /// The matrix in CSR format; `T` is the function's own precision. Elements of the pattern that
    /// happen to be 0 are stored.
    pub fn call<T: Element>(
        &self,
        x: impl TryInto<Tensor, Error: Into<Error>>,
    ) -> Result<CsMat<T>> {
        let _call = called_from(self.matrix.made_at);
        let x = tensor(x)?;
        let cached = self.matrix.structure_for(&self.f, &x)?;
        let products = self.matrix.products(&self.f, &x, &cached, T::DTYPE)?;
        let pattern = &cached.structure.pattern;
        let starts = pattern.starts().to_vec();
        let indices = pattern.indices().collect();
        let mut values = vec![T::default(); pattern.nnz()];
        cached.scatter(&products, &mut values)?;
        Ok(CsMat::new(pattern.shape(), starts, indices, values))
    }

    /// Recomputes the values of a matrix that an earlier call returned.
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
        let _call = called_from(self.matrix.made_at);
        let x = tensor(x)?;
        let cached = self.matrix.structure_for(&self.f, &x)?;
        let starts = matrix.indptr();
        let is_same = matrix.is_csr()
            && cached.has_pattern(matrix.shape(), starts.raw_storage(), matrix.indices());
        if !is_same {
            return Err(self.matrix.pattern_mismatch());
        }
        let products = self.matrix.products(&self.f, &x, &cached, T::DTYPE)?;
        cached.scatter(&products, matrix.data_mut())
    }

    /// Which elements of the matrix may be nonzero, and how they are computed, without computing
    /// them.
    pub fn structure(&self, x: impl TryInto<Tensor, Error: Into<Error>>) -> Result<Arc<Structure>> {
        let _call = called_from(self.matrix.made_at);
        let structure = self.matrix.structure_for(&self.f, &tensor(x)?)?;
        Ok(structure.structure.clone())
    }
}

/// An argument as a tensor.
fn tensor(x: impl TryInto<Tensor, Error: Into<Error>>) -> Result<Tensor> {
    x.try_into().map_err(Into::into)
}

impl Matrix {
    fn name(&self) -> &'static str {
        if self.hessian {
            "sparse_hessian"
        } else {
            "sparse_jacobian"
        }
    }

    fn pattern_mismatch(&self) -> Error {
        let e = OpError::new("the matrix does not have the pattern of this function");
        e.hint("the pattern changes with constants: call instead of update")
            .at(self.name(), self.made_at)
    }

    /// The structure of the function for arguments like this one, cached or new.
    fn structure_for(&self, f: &Write<'_>, x: &Tensor) -> Result<Arc<CachedStructure>> {
        if x.shape().len() != 1 || !x.dtype().is_float() {
            let e = OpError::new(format!("expected a vector of floats, got {}", x.ty()));
            return Err(e
                .hint("reshape in the function: |x| f(x.reshape(..)).flatten()")
                .at(self.name(), self.made_at));
        }
        let traced = Traced::new(std::slice::from_ref(x), false, self.made_at, &|g, x| {
            vec![self.program(f, g, x[0])]
        })?;
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = cached.as_ref().filter(|cached| cached.fits(&traced)) {
            return Ok(cached.clone());
        }
        let fresh = Arc::new(CachedStructure::new(traced, x, self.hessian)?);
        *cached = Some(fresh.clone());
        Ok(fresh)
    }

    /// The function whose Jacobian is the matrix.
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
                    "expected a function that returns a vector of floats, got {}",
                    y.ty()
                )),
                &[],
            ),
        }
    }

    /// The products of the matrix, with elements of this type, with all directions.
    fn products(
        &self,
        f: &Write<'_>,
        x: &Tensor,
        cached: &CachedStructure,
        dtype: DType,
    ) -> Result<IndexVec<Color, Tensor>> {
        if dtype != x.dtype() {
            let e = OpError::new(format!("the matrix is {}, not {dtype}", x.dtype()));
            return Err(e.at(self.name(), self.made_at));
        }
        let coloring = &cached.structure.coloring;
        let together = coloring.count.min(DIRECTIONS_PER_RUN);
        let groups: Vec<&[Tensor]> = cached.seeds.chunks(together.max(1)).collect();
        let Some(&first) = groups.first() else {
            return Ok(IndexVec::new());
        };
        let inputs = |seeds: &[Tensor]| -> Vec<Tensor> {
            let padded = (0..together).map(|k| seeds[k.min(seeds.len() - 1)].clone());
            [x.clone()].into_iter().chain(padded).collect()
        };
        let traced = Traced::new(&inputs(first), false, self.made_at, &|g, v| {
            let y = self.program(f, g, v[0]);
            v[1..]
                .iter()
                .map(|&seed| Self::product(g, y, v[0], seed, coloring.by_rows))
                .collect()
        })?
        .at_one_moment();
        let products: Vec<Vec<Tensor>> = groups
            .par_iter()
            .map(|seeds| traced.call(&inputs(seeds)))
            .collect::<Result<_>>()?;
        Ok(IndexVec::from_vec(products.into_iter().flatten().collect()))
    }

    /// The product of the matrix with a direction, from the left or from the right.
    fn product<'g>(g: &'g Graph, y: Var<'g>, x: Var<'g>, seed: Var<'g>, by_rows: bool) -> Var<'g> {
        if by_rows {
            return y.vjp(seed, &[x])[0].unwrap_or_else(|| x.zero_cotangent());
        }
        g.jvp(y, &[x], &[seed])
    }
}

impl CachedStructure {
    fn new(traced: Traced, x: &Tensor, hessian: bool) -> Result<CachedStructure> {
        let (inner, nodes) = traced.parts();
        let (input, output) = traced.ends();
        let found = dependencies(inner, output, input)?;
        let used = |&id: &NodeId| {
            let node = NodeId::new(nodes.binary_search(&id).ok()?);
            let value = inner.leaf(id)?;
            Some(UsedConstant { node, value })
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
        Ok(CachedStructure {
            structure: Arc::new(Structure { pattern, coloring }),
            plan,
            used,
            colors,
            seeds,
        })
    }

    /// Whether a CSR matrix has the same pattern.
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

    /// Copies the elements of the products to their positions in the matrix. Chunks of rows of
    /// about equal size are filled in parallel.
    fn scatter<T: Element>(
        &self,
        products: &IndexVec<Color, Tensor>,
        values: &mut [T],
    ) -> Result<()> {
        let products = products.iter().map(|p| p.as_slice::<T>());
        let products: IndexVec<Color, &[T]> = IndexVec::from_vec(products.collect::<Result<_>>()?);
        let Structure { pattern, coloring } = &*self.structure;
        let rows = pattern.shape().0;
        let chunks = 8 * rayon::current_num_threads();
        let ends: Vec<usize> = (0..=chunks).map(|k| k * rows / chunks).collect();
        let mut rest = values;
        let mut tasks = Vec::with_capacity(chunks);
        for chunk in ends.windows(2) {
            let length = pattern.starts()[chunk[1]] - pattern.starts()[chunk[0]];
            let (own, more) = rest.split_at_mut(length);
            tasks.push((chunk[0]..chunk[1], own));
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

    /// Whether this structure also fits a newly traced program.
    fn fits(&self, traced: &Traced) -> bool {
        let (inner, nodes) = traced.parts();
        let same = |used: &UsedConstant| {
            let now = nodes.get(used.node.index()).and_then(|&id| inner.leaf(id));
            now.is_some_and(|now| now == used.value)
        };
        Arc::ptr_eq(&self.plan, &traced.plan()) && self.used.iter().all(same)
    }
}
