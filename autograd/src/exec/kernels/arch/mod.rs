//! The instruction sets that kernels are compiled for. Each is a file with vectors of f32 and of
//! f64, and a line [`compiled!`] for each of the two. [`Table`] holds what was compiled, once for
//! each set and number type, and [`Vectors::table`] is the only place where one is chosen.
//!
//! The kernels themselves are beside this folder, written for any vectors, and inlined into the
//! functions that [`compiled!`] makes. Only there, where the compiler knows of the instructions,
//! may vectors be used: a closure is compiled without them.
//!
//! What every processor of the target has is [`baseline`]: vectors as arrays (`portable.rs`) or,
//! where there are no fused multiply-adds, single numbers (`scalar.rs`). With
//! `--cfg autograd_portable` there is nothing else, as on processors that have no file of their
//! own.

#[cfg(all(target_arch = "x86_64", not(autograd_portable)))]
mod avx2;
#[cfg(all(target_arch = "x86_64", not(autograd_portable)))]
mod avx512;
#[cfg_attr(
    any(target_feature = "fma", target_arch = "aarch64"),
    path = "portable.rs"
)]
#[cfg_attr(
    not(any(target_feature = "fma", target_arch = "aarch64")),
    path = "scalar.rs"
)]
mod baseline;
#[cfg(all(target_arch = "x86_64", not(autograd_portable)))]
mod x86;

use super::{
    fold::{FoldRows, FoldState},
    functions::{self, Function},
    lines::LineBlock,
    steps::{Location, Operands},
    tile::Tiles,
    vector::Vector,
};
use crate::{
    math::fold::FOLDS,
    op::{
        Real,
        elementwise::MAX_INPUTS,
        lowering::CustomLoop,
        pointwise::{FUNCTIONS, Formula, formulas, with_functions},
    },
    plan::kernel::Step,
};
use std::{ops::Range, sync::OnceLock};

/// The kernels of one instruction set, for one number type. All of them may be called where the
/// processor has the set.
pub(crate) struct Table<T: 'static> {
    /// How many elements the loop of a step takes at once.
    pub(super) group: usize,
    /// [`steps::run`]
    pub(super) steps: RunSteps<T>,
    /// [`functions::run`](super::functions::run), by number of the function.
    pub(super) functions: &'static [Function<T>; FUNCTIONS],
    /// [`LineBlock::run`]
    pub(super) lines: unsafe fn(LineBlock<'_, T>) -> bool,
    /// [`fold::rows`](super::fold::rows), by reduction.
    pub(super) fold_rows: [FoldRows<T>; FOLDS],
    /// Matrix products, where there are fused multiply-adds.
    pub(crate) tiles: Option<Tiles<T>>,
}

type RunSteps<T> = unsafe fn(&[Step], Operands<'_, T>, &mut [FoldState<T>], Range<usize>, usize);

/// What is compiled for one kind of vectors. Its functions may be called where the processor has
/// the instruction set.
trait Compiled: Vector<Elem: Vectors> {
    const TABLE: Table<Self::Elem>;
}

/// The functions, compiled for one kind of vectors or for single numbers.
pub(super) trait Functions: Vector {
    /// # Safety
    /// As of [`functions::run`](super::functions::run), and the processor has the instruction set.
    unsafe fn function<F: Formula>(
        to: *mut Self::Elem,
        x: [Location<Self::Elem>; MAX_INPUTS],
        n: usize,
    );

    const FUNCTIONS: [Function<Self::Elem>; FUNCTIONS] = with_functions!(table_of_functions);
}

macro_rules! table_of_functions {
    ([$($Cheap:ident)*] [$($Costly:ident)*]) => {
        [$(Self::function::<formulas::$Cheap>,)* $(Self::function::<formulas::$Costly>),*]
    };
}
use table_of_functions;

/// `compiled! { #[target_feature(..)] Vectors of number: functions own, tiles [rows by vectors, narrow rows] }`
///
/// Functions are computed by such vectors (`own`) or number by number (`scalar`): where a fused
/// multiply-add is a call, vectors gain nothing. Of the sizes of tiles, see
/// [`tile::columns`](super::tile::columns); without any there are no matrix products.
macro_rules! compiled {
    (#[$target:meta] $V:ident of $T:ident: functions $by:ident, tiles [$($tiles:tt)*]) => {
        const _: () = {
            #[allow(unused_imports)] // which of them are used depends on what is compiled
            use $crate::{
                exec::kernels::{
                    arch::{Compiled, Functions, Table},
                    functions,
                    lines::LineBlock,
                    fold::{self, FoldState},
                    matvec::{self, MatVec},
                    pack,
                    steps::{self, Location, Operands},
                    tile::{self, At, Block, Strided, Tiled, Tiles},
                },
                math::{Wide, fold::{Max, Min, Monoid, Prod, Sum}},
                op::{elementwise::MAX_INPUTS, pointwise::Formula},
                plan::kernel::Step,
            };
            use std::ops::Range;

            compiled! { @functions $by #[$target] $V }
            compiled! { @tiles [$($tiles)*] #[$target] $V $T }

            // buffers for a group, and the lanes of chunks, suit all instruction sets
            const _: () = assert!(
                steps::group::<$V>() <= $crate::plan::tiling::MAX_VECTOR_GROUP
                    && $crate::math::fold::LANES.is_multiple_of(<$V as $crate::exec::kernels::vector::Vector>::N)
            );

            impl Compiled for $V {
                const TABLE: Table<$T> = {
                    #[$target]
                    unsafe fn run_steps(
                        steps: &[Step],
                        operands: Operands<'_, $T>,
                        folds: &mut [FoldState<$T>],
                        range: Range<usize>,
                        valid: usize,
                    ) {
                        // SAFETY: the caller's promise.
                        unsafe { steps::run::<$V, compiled!(@by $by $V $T)>(steps, operands, folds, range, valid) }
                    }
                    #[$target]
                    unsafe fn lines(block: LineBlock<'_, $T>) -> bool {
                        block.run()
                    }
                    #[$target]
                    unsafe fn fold_rows<M: Monoid>(to: &mut [$T], column: usize, x: &[$T]) {
                        fold::rows::<M, $V>(to, column, x);
                    }
                    Table {
                        group: steps::group::<$V>(),
                        steps: run_steps,
                        functions: &<compiled!(@by $by $V $T) as Functions>::FUNCTIONS,
                        lines,
                        fold_rows: [fold_rows::<Sum>, fold_rows::<Prod>, fold_rows::<Max>, fold_rows::<Min>],
                        tiles: compiled!(@table_of_tiles [$($tiles)*] $V),
                    }
                };
            }
        };
    };
    (@by own $V:ident $T:ident) => { $V };
    (@by scalar $V:ident $T:ident) => { $T };
    (@functions scalar #[$target:meta] $V:ident) => {};
    (@functions own #[$target:meta] $V:ident) => {
        impl Functions for $V {
            #[$target]
            unsafe fn function<F: Formula>(to: *mut Self::Elem, x: [Location<Self::Elem>; MAX_INPUTS], n: usize) {
                // SAFETY: the caller's promise.
                unsafe { functions::run::<Self, F>(to, x, n) }
            }
        }
    };
    (@tiles [] #[$target:meta] $V:ident $T:ident) => {};
    (@tiles [$m:literal by $n:literal, narrow $narrow:literal] #[$target:meta] $V:ident $T:ident) => {
        impl Tiled for $V {
            const ROWS: usize = $m;
            const VECTORS: usize = $n;
            #[$target]
            unsafe fn strips(block: &Block<$T>) {
                // SAFETY: the caller's promise.
                unsafe { tile::strips::<$V, $m, $n, $narrow>(block) }
            }
            #[$target]
            unsafe fn tile<const M: usize, const N: usize>(block: &Block<$T>, at: At<$T>) {
                // SAFETY: the caller's promise.
                unsafe { tile::tile::<$V, M, N>(block, at) }
            }
            #[$target]
            unsafe fn pack(from: Strided<$T>, size: (usize, usize), vectors: usize, to: *mut $T) {
                // SAFETY: the caller's promise.
                unsafe { pack::pack::<$V>(from, size, vectors, to) }
            }
            #[$target]
            unsafe fn matvec(p: &MatVec<$T>) {
                // SAFETY: the caller's promise.
                unsafe { matvec::product::<$V>(p) }
            }
        }
    };
    (@table_of_tiles [] $V:ident) => { None };
    (@table_of_tiles [$($tiles:tt)*] $V:ident) => { Some(Tiles::of::<$V>()) };
}
use compiled;

macro_rules! scalar {
    ($($T:ident)*) => { $(
        impl Functions for $T {
            unsafe fn function<F: Formula>(to: *mut Self, x: [Location<Self>; MAX_INPUTS], n: usize) {
                // SAFETY: the caller's promise.
                unsafe { functions::run_scalar::<$T, F>(to, x, n) }
            }
        }
    )* };
}
scalar! { f32 f64 }

/// A number type with kernels for each instruction set.
pub(crate) trait Vectors: Real + Vector<Elem = Self> {
    /// The kernels for this processor.
    fn table() -> &'static Table<Self>;
    /// A user's formula, in its loop for numbers of this type.
    fn custom_loop(custom: &dyn CustomLoop, x: [&[Self]; MAX_INPUTS], out: &mut [Self]);
}

macro_rules! vectors {
    ($T:ident: $Any:ident, $Avx2:ident, $Avx512:ident) => {
        impl Vectors for $T {
            fn custom_loop(custom: &dyn CustomLoop, x: [&[$T]; MAX_INPUTS], out: &mut [$T]) {
                custom.$T(x, out);
            }
            fn table() -> &'static Table<$T> {
                static CHOSEN: OnceLock<&Table<$T>> = OnceLock::new();
                CHOSEN.get_or_init(|| {
                    choose(&[
                        Choice {
                            name: "baseline",
                            is_there: true,
                            table: &<baseline::$Any as Compiled>::TABLE,
                        },
                        #[cfg(all(target_arch = "x86_64", not(autograd_portable)))]
                        Choice {
                            name: "avx2",
                            is_there: avx2::is_there(),
                            table: &<avx2::$Avx2 as Compiled>::TABLE,
                        },
                        #[cfg(all(target_arch = "x86_64", not(autograd_portable)))]
                        Choice {
                            name: "avx512",
                            is_there: avx512::is_there(),
                            table: &<avx512::$Avx512 as Compiled>::TABLE,
                        },
                    ])
                })
            }
        }
    };
}
vectors! { f32: F32, F32x8, F32x16 }
vectors! { f64: F64, F64x4, F64x8 }

/// An instruction set.
struct Choice<T: 'static> {
    name: &'static str,
    /// Whether the processor has it.
    is_there: bool,
    table: &'static Table<T>,
}

/// The best set that the processor has, which is the last one, or the one that the environment
/// variable `AUTOGRAD_ISA` names. Results are the same bits; only matrix products differ in their
/// last digits where there are no fused multiply-adds.
fn choose<T>(sets: &[Choice<T>]) -> &'static Table<T> {
    let asked = std::env::var("AUTOGRAD_ISA").unwrap_or_default();
    let there = || sets.iter().rev().filter(|set| set.is_there);
    there()
        .find(|set| set.name == asked)
        .or_else(|| there().next())
        .unwrap_or(&sets[0])
        .table
}
