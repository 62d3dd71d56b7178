//! The interpreter of a fused kernel's steps. A group of numbers, those of eight vectors, stays in
//! registers of the processor while it is taken through step after step; what a step stores for
//! later stays in the first-level cache.

use super::{
    arch::{Functions, Vectors},
    custom,
    fold::FoldState,
    vector::Vector,
};
use crate::{
    index::Index,
    math::{Lanes, Wide},
    nodes::OpRef,
    op::{
        Id,
        pointwise::{of_one, of_three, of_two},
    },
    plan::{
        index::Reg,
        kernel::{Code, Step},
    },
};
use std::ops::{Add, Div, Mul, Range, Sub};

/// Where a register is: the vector group from element `i` of a block on begins at
/// `start + (i & mask)`. The mask is 0 for a register that holds one group, else all ones.
#[derive(Clone, Copy)]
pub(crate) struct Location<T> {
    pub(super) start: *mut T,
    pub(super) mask: usize,
}

/// What steps name.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'k, T> {
    /// By register.
    pub(super) locations: &'k [Location<T>],
    /// Users' ops, by number.
    pub(super) custom: &'k [OpRef],
}

/// How many elements go through a step at once: those of eight vectors.
pub(super) const fn group<V: Vector>() -> usize {
    8 * V::N
}

/// The elements that go through a step at once. Two halves, so that operations on one do not wait
/// for those on the other.
#[derive(Clone, Copy)]
struct VectorGroup<V>(Wide<V>, Wide<V>);

macro_rules! arithmetic {
    ($($Op:ident $op:ident $sign:tt)*) => { $(
        impl<V: Vector> $Op for VectorGroup<V> {
            type Output = VectorGroup<V>;
            #[inline(always)]
            fn $op(self, other: VectorGroup<V>) -> VectorGroup<V> {
                VectorGroup(self.0 $sign other.0, self.1 $sign other.1)
            }
        }
    )* };
}
arithmetic! { Add add + Sub sub - Mul mul * Div div / }

impl<V: Vector> VectorGroup<V> {
    #[inline(always)]
    fn apply(self, op: Id) -> VectorGroup<V> {
        VectorGroup(of_one(op, self.0), of_one(op, self.1))
    }

    #[inline(always)]
    fn apply_two(op: Id, a: VectorGroup<V>, b: VectorGroup<V>) -> VectorGroup<V> {
        VectorGroup(of_two(op, a.0, b.0), of_two(op, a.1, b.1))
    }

    #[inline(always)]
    fn apply_three(op: Id, [a, b, c]: [VectorGroup<V>; 3]) -> VectorGroup<V> {
        let low = of_three(op, [a.0, b.0, c.0]);
        VectorGroup(low, of_three(op, [a.1, b.1, c.1]))
    }

    #[inline(always)]
    fn powi(self, n: i32) -> VectorGroup<V> {
        VectorGroup(self.0.powi(n), self.1.powi(n))
    }

    #[inline(always)]
    fn zero() -> VectorGroup<V> {
        VectorGroup(Wide::of(0.0), Wide::of(0.0))
    }

    /// # Safety
    /// The elements can be read.
    #[inline(always)]
    unsafe fn load(from: *const V::Elem) -> VectorGroup<V> {
        // SAFETY: the caller's promise.
        unsafe { VectorGroup(Wide::load(from), Wide::load(from.add(Wide::<V>::N))) }
    }

    /// # Safety
    /// The elements can be written.
    #[inline(always)]
    unsafe fn store(self, to: *mut V::Elem) {
        // SAFETY: the caller's promise.
        unsafe {
            self.0.store(to);
            self.1.store(to.add(Wide::<V>::N));
        }
    }
}

/// Takes elements through the steps, a group at a time; of the last group only `valid` elements
/// count.
///
/// It is inlined into a function for each instruction set, and so must be what it calls for a step:
/// code that is not would be compiled without the instructions. Hence macros instead of closures.
///
/// # Safety
/// Locations are good for all groups that begin in the range, and the steps name nothing that is
/// not there.
#[inline(always)]
pub(super) unsafe fn run<V: Vector<Elem: Vectors>, F: Functions<Elem = V::Elem>>(
    steps: &[Step],
    operands: Operands<'_, V::Elem>,
    folds: &mut [FoldState<V::Elem>],
    range: Range<usize>,
    valid: usize,
) {
    let mut i = range.start;
    while i < range.end {
        let mut rest = steps.iter();
        // SAFETY: the caller's promise.
        while let Some(step) = unsafe { until_call::<V>(&mut rest, operands, folds, i, valid) } {
            // SAFETY: the caller's promise; whoever has these instructions has those of the
            // functions.
            unsafe { call::<V, F>(step, operands, i, valid) };
        }
        i += group::<V>();
    }
}

/// Takes a vector group through the steps up to the next one that is a call. The accumulator lives
/// in registers of the processor, which a call does not preserve: no step continues with it after
/// one.
///
/// # Safety
/// As of [`run`].
#[inline(always)]
unsafe fn until_call<'k, V: Vector<Elem: Vectors>>(
    steps: &mut std::slice::Iter<'k, Step>,
    operands: Operands<'_, V::Elem>,
    folds: &mut [FoldState<V::Elem>],
    i: usize,
    valid: usize,
) -> Option<&'k Step> {
    macro_rules! load {
        ($register:expr) => {
            // SAFETY: the caller's promise.
            unsafe { VectorGroup::<V>::load(operands.at($register, i)) }
        };
    }
    let mut acc = VectorGroup::<V>::zero();
    for step in steps {
        if let Some(register) = step.load {
            acc = load!(register);
        }
        match step.code {
            Code::NoOp => {}
            Code::Add(a) => acc = acc + load!(a),
            Code::Sub(a) => acc = acc - load!(a),
            Code::Mul(a) => acc = acc * load!(a),
            Code::Div(a) => acc = acc / load!(a),
            Code::SubFrom(a) => acc = load!(a) - acc,
            Code::DivInto(a) => acc = load!(a) / acc,
            // not contracted: the product is rounded, as where it is computed by itself
            Code::AddProduct(a, b) => acc = acc + load!(a) * load!(b),
            Code::SubProduct(a, b) => acc = acc - load!(a) * load!(b),
            Code::MulProduct(a, b) => acc = acc * (load!(a) * load!(b)),
            Code::ProductSub(a, b) => acc = load!(a) * load!(b) - acc,
            Code::Unary(op) => acc = acc.apply(op),
            Code::Power(n) => acc = acc.powi(n),
            Code::Binary(op, a, b) => acc = VectorGroup::apply_two(op, load!(a), load!(b)),
            Code::Ternary(op, [a, b, c]) => {
                acc = VectorGroup::apply_three(op, [load!(a), load!(b), load!(c)]);
            }
            // SAFETY: the caller's promise.
            Code::Fold(of) => unsafe {
                let state = folds.get_unchecked_mut(of.index());
                state.take_group(acc.0, acc.1, i, valid);
            },
            Code::Function(..) | Code::Custom(..) => return Some(step),
        }
        if let Some(register) = step.store {
            // SAFETY: the caller's promise.
            unsafe { acc.store(operands.at(register, i)) };
        }
    }
    None
}

/// A step that is a call of a function.
///
/// # Safety
/// As of [`run`].
#[inline(always)]
unsafe fn call<V: Vector<Elem: Vectors>, F: Functions<Elem = V::Elem>>(
    step: &Step,
    operands: Operands<'_, V::Elem>,
    i: usize,
    valid: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match step.code {
            Code::Function(function, x) => {
                let (to, x) = operands.of_call(step, x, i);
                F::FUNCTIONS[function as usize](to, x, valid);
            }
            Code::Custom(op, x) => {
                let (to, x) = operands.of_call(step, x, i);
                custom::of_many(operands.custom[op.index()].get(), to, x, valid);
            }
            _ => {}
        }
    }
}

/// Where the result of a function goes, and where its inputs are.
type Call<T> = (*mut T, [*const T; 3]);

impl<T> Operands<'_, T> {
    /// Where a register's elements are, for the group that begins at `i`.
    ///
    /// # Safety
    /// There is such a register.
    #[inline(always)]
    unsafe fn at(&self, register: Reg, i: usize) -> *mut T {
        // SAFETY: the caller's promise.
        let location = unsafe { self.locations.get_unchecked(register.index()) };
        location.start.wrapping_add(i & location.mask)
    }

    /// Where the result of a step that is a function goes, and where its inputs are.
    ///
    /// # Safety
    /// There are such registers, and the step stores its result.
    #[inline(always)]
    unsafe fn of_call(&self, step: &Step, [a, b, c]: [Reg; 3], i: usize) -> Call<T> {
        // SAFETY: the caller's promise.
        unsafe {
            let to = self.at(step.store.unwrap_unchecked(), i);
            (to, [self.at(a, i), self.at(b, i), self.at(c, i)])
        }
    }
}
