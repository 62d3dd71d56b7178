//! The interpreter of a fused kernel's steps. It takes a *span* of some vector groups through the
//! steps. Arithmetic is done group by group: a group of numbers, those of eight vectors, stays in
//! registers of the processor from step to step, and sums take it from there. Functions, users'
//! formulas and other reductions are called once for all of a span.
//!
//! Between the two, the accumulator is wherever the last step left its results: in the register that
//! it stored to, or else in a buffer of this file. All of a span is in the first-level cache.

use super::{
    arch::{Functions, Vectors},
    custom,
    fold::FoldState,
    scalar,
    vector::Vector,
};
use crate::{
    index::Index,
    math::{
        Lanes, Wide,
        fold::{LANES, Monoid, Sum},
    },
    nodes::OpRef,
    op::pointwise::Function,
    plan::{
        index::Reg,
        kernel::{Code, Step},
        tiling::{MAX_SPAN, MAX_VECTOR_GROUP},
    },
};
use std::{
    mem::MaybeUninit,
    ops::{Add, Div, Mul, Range, Sub},
};

/// Where a register is: element `i` of a block is at `start + (i & mask)`. The mask is all ones for
/// a register that holds a block; else it is one less than the elements that the register holds, a
/// power of two. The highest bit says whether these are elements of a block, and not a number for
/// each line or a constant, which one group holds: a span may be as short as a group.
#[derive(Clone, Copy)]
pub(crate) struct Location<T> {
    pub(super) start: *mut T,
    mask: usize,
}

/// What steps name.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'k, T> {
    /// By register.
    pub(super) locations: &'k [Location<T>],
    /// Users' ops, by number.
    pub(super) custom: &'k [OpRef],
    /// How many elements are taken through a step before the next one; a power of two, at least a
    /// group.
    pub(super) span: usize,
    /// Whether a block is one line: then a number for each line is the same one in all of a group.
    pub(super) is_one_line: bool,
}

/// The elements that a loop over a span takes at once: those of eight vectors.
pub(super) const fn group<V: Vector>() -> usize {
    8 * V::N
}

/// The accumulator. It begins with a cache line, so that no vector is in two of them.
#[repr(align(64))]
struct Buffer<A>(A);

/// Two halves, so that operations on one do not wait for those on the other.
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
    fn zero() -> VectorGroup<V> {
        VectorGroup(Wide::of(0.0), Wide::of(0.0))
    }

    #[inline(always)]
    fn powi(self, n: i32) -> VectorGroup<V> {
        VectorGroup(self.0.powi(n), self.1.powi(n))
    }

    /// # Safety
    /// The elements can be read.
    #[inline(always)]
    unsafe fn load(from: *const V::Elem) -> VectorGroup<V> {
        // SAFETY: the caller's promise.
        unsafe { VectorGroup(Wide::load(from), Wide::load(from.add(Wide::<V>::N))) }
    }

    /// The first elements, and zeros.
    #[inline(always)]
    fn first(self, n: usize) -> VectorGroup<V> {
        if n >= group::<V>() {
            return self;
        }
        let mut all = Buffer([V::Elem::default(); MAX_VECTOR_GROUP]);
        let elements = all.0.as_mut_ptr();
        // SAFETY: there is room for any group.
        unsafe { self.store(elements) };
        all.0[n..].fill(V::Elem::default());
        // SAFETY: likewise.
        unsafe { VectorGroup::load(all.0.as_ptr()) }
    }

    /// Adds the elements to the lanes of a sum, of which these begin at a group or at its first one.
    ///
    /// # Safety
    /// There are [`LANES`] of them, or as many as a group has up to the last one.
    #[inline(always)]
    unsafe fn add_to(self, lanes: *mut V::Elem) {
        let (Wide([a, b, c, d]), Wide([e, f, g, h])) = (self.0, self.1);
        macro_rules! add {
            ($($k:literal $x:ident)*) => { $(
                let lane = lanes.wrapping_add($k * V::N % LANES);
                // SAFETY: the caller's promise.
                unsafe { Sum::join(V::load(lane), $x).store(lane) };
            )* };
        }
        add! { 0 a 1 b 2 c 3 d 4 e 5 f 6 g 7 h }
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

/// Takes elements through the steps, a span at a time; of the last group only `valid` elements
/// count.
///
/// It is inlined into a function for each instruction set, and so must be what it calls for a step:
/// code that is not would be compiled without the instructions. Hence macros instead of closures.
///
/// # Safety
/// Locations are good for all groups that begin in the range, and the steps name nothing that is
/// not there. The span is at most [`MAX_SPAN`].
#[inline(always)]
pub(super) unsafe fn run<V: Vector<Elem: Vectors>, F: Functions<Elem = V::Elem>>(
    steps: &[Step],
    operands: Operands<'_, V::Elem>,
    folds: &mut [FoldState<V::Elem>],
    range: Range<usize>,
    valid: usize,
) {
    let mut buffer = Buffer(MaybeUninit::<[V::Elem; MAX_SPAN]>::uninit());
    let mut start = range.start;
    while start < range.end {
        let end = range.end.min(start + operands.span);
        let buffer = buffer.0.as_mut_ptr().cast::<V::Elem>();
        let own = Location::block(buffer.wrapping_sub(start));
        let (mut acc, mut rest) = (own, steps);
        // SAFETY: the caller's promise; the buffer has room for a span.
        unsafe {
            while let Some(step) = rest.first() {
                let is_alone = |step: &Step| match step.code {
                    Code::Fold(of) => !folds[of.index()].is_sum(),
                    _ => is_call(step) || operands.is_of_lines(step),
                };
                let arithmetic = rest.iter().position(is_alone).unwrap_or(rest.len());
                let (now, later) = rest.split_at(arithmetic.max(1));
                acc = if operands.is_of_lines(step) {
                    // the same in all groups; what is left of a block comes after the others
                    if start == 0 {
                        let group = 0..group::<V>();
                        if operands.is_one_line {
                            let number = V::splat(number_of_line(step, operands));
                            let to = step.store.map_or(own, |register| operands.at(register));
                            VectorGroup(Wide([number; 4]), Wide([number; 4])).store(to.at(0));
                        } else if is_call(step) {
                            call::<V, F>(step, operands, folds, group, valid, (acc, own));
                        } else {
                            take_groups::<V>(now, operands, folds, group, valid, (acc, own));
                        }
                    }
                    acc
                } else if arithmetic > 0 {
                    take_groups::<V>(now, operands, folds, start..end, valid, (acc, own))
                } else {
                    call::<V, F>(step, operands, folds, start..end, valid, (acc, own))
                };
                rest = later;
            }
        }
        start = end;
    }
}

/// Whether a step is done for a whole span by one call.
fn is_call(step: &Step) -> bool {
    match step.code {
        Code::Unary(function) => !matches!(function, Function::Neg | Function::Square),
        Code::Function(..) | Code::Custom(..) | Code::Fold(_) => true,
        _ => false,
    }
}

/// Takes a span through some steps of arithmetic, group by group: the accumulator is in registers of
/// the processor meanwhile. Where it is given first, and where it is then.
///
/// # Safety
/// As of [`run`].
#[inline(always)]
unsafe fn take_groups<V: Vector<Elem: Vectors>>(
    steps: &[Step],
    operands: Operands<'_, V::Elem>,
    folds: &mut [FoldState<V::Elem>],
    range: Range<usize>,
    valid: usize,
    (acc, own): (Location<V::Elem>, Location<V::Elem>),
) -> Location<V::Elem> {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return acc;
    };
    // SAFETY (here and below): the caller's promise.
    if let [
        Step {
            load: Some(from),
            code: Code::NoOp,
            store: None,
        },
    ] = steps
    {
        return unsafe { operands.at(*from) };
    }
    let to = last
        .store
        .map_or(own, |register| unsafe { operands.at(register) });
    let mut i = range.start;
    while i < range.end {
        macro_rules! load {
            ($register:expr) => {
                unsafe { VectorGroup::<V>::load(operands.at($register).at(i)) }
            };
        }
        let mut x = match first.load {
            Some(_) => VectorGroup::zero(), // the step itself loads it
            None => unsafe { VectorGroup::<V>::load(acc.at(i)) },
        };
        for step in steps {
            if let Some(register) = step.load {
                x = load!(register);
            }
            match step.code {
                Code::Add(a) => x = x + load!(a),
                Code::Sub(a) => x = x - load!(a),
                Code::Mul(a) => x = x * load!(a),
                Code::Div(a) => x = x / load!(a),
                Code::SubFrom(a) => x = load!(a) - x,
                Code::DivInto(a) => x = load!(a) / x,
                // not contracted: the product is rounded, as where it is computed by itself
                Code::AddProduct(a, b) => x = x + load!(a) * load!(b),
                Code::SubProduct(a, b) => x = x - load!(a) * load!(b),
                Code::MulProduct(a, b) => x = x * (load!(a) * load!(b)),
                Code::ProductSub(a, b) => x = load!(a) * load!(b) - x,
                Code::MulAdd(a, b) => x = x * load!(a) + load!(b),
                Code::SubMul(a, b) => x = (x - load!(a)) * load!(b),
                Code::Power(n) => x = x.powi(n),
                Code::Unary(Function::Neg) => x = VectorGroup(-x.0, -x.1),
                Code::Unary(Function::Square) => x = x * x,
                Code::Fold(of) => {
                    let lanes = unsafe { folds.get_unchecked_mut(of.index()) }.lanes_at(i);
                    unsafe { x.first(valid).add_to(lanes) };
                }
                Code::SumSquare(of) => {
                    let lanes = unsafe { folds.get_unchecked_mut(of.index()) }.lanes_at(i);
                    unsafe { (x * x).first(valid).add_to(lanes) };
                }
                Code::SumScaledSquare(a, of) => {
                    let lanes = unsafe { folds.get_unchecked_mut(of.index()) }.lanes_at(i);
                    let y = x * load!(a);
                    unsafe { (y * y).first(valid).add_to(lanes) };
                }
                Code::NoOp | Code::Unary(_) | Code::Function(..) | Code::Custom(..) => {}
            }
            if let Some(register) = step.store {
                unsafe { x.store(operands.at(register).at(i)) };
            }
        }
        if last.store.is_none() {
            unsafe { x.store(own.at(i)) };
        }
        i += group::<V>();
    }
    to
}

/// The number of a block's only line that a step makes of registers. It is computed by itself,
/// and not for all elements of a group.
///
/// # Safety
/// As of [`run`].
unsafe fn number_of_line<T: Vectors>(step: &Step, operands: Operands<'_, T>) -> T {
    // SAFETY: the caller's promise. A register has at least a group.
    let at = |register: Reg| unsafe { *operands.at(register).at(0) };
    let x = step.load.map_or(T::default(), at);
    scalar::value(step.code, x, at, operands.custom)
}

/// Takes a span through a step that is a call: where the accumulator is then.
///
/// # Safety
/// As of [`run`].
#[inline(always)]
unsafe fn call<V: Vector<Elem: Vectors>, F: Functions<Elem = V::Elem>>(
    step: &Step,
    operands: Operands<'_, V::Elem>,
    folds: &mut [FoldState<V::Elem>],
    range: Range<usize>,
    valid: usize,
    (acc, own): (Location<V::Elem>, Location<V::Elem>),
) -> Location<V::Elem> {
    let Range { start, end } = range;
    // of a group that is not full, no other begins in the range
    let n = if valid == group::<V>() {
        end - start
    } else {
        valid
    };
    // SAFETY (here and below): the caller's promise.
    let at = |register: Reg| unsafe { operands.at(register) };
    let (x, to) = (step.load.map_or(acc, at), step.store.map_or(own, at));
    match step.code {
        Code::Unary(function) => unsafe {
            F::FUNCTIONS[function as usize](to.at(start), [x.from(start); 3], n);
        },
        Code::Function(function, registers) => unsafe {
            let x = registers.map(|register| at(register).from(start));
            F::FUNCTIONS[function as usize](to.at(start), x, n);
        },
        Code::Custom(op, registers) => {
            let op = operands.custom[op.index()].get();
            let mut i = start;
            while i < end {
                let x = registers.map(|register| at(register).at(i).cast_const());
                unsafe { custom::of_many(op, to.at(i), x, valid) };
                i += group::<V>();
            }
        }
        Code::Fold(of) => unsafe {
            let state = folds.get_unchecked_mut(of.index());
            // what is the same everywhere is in one group
            let n = n.min(x.mask.saturating_add(1));
            let mut i = start;
            while i < end {
                state.take(x.at(i), n, i);
                i = i.saturating_add(x.mask).saturating_add(1);
            }
            return x;
        },
        _ => {}
    }
    to
}

impl<T: Copy> Operands<'_, T> {
    /// Whether a step's result is a number for each line, which is kept in one group.
    ///
    /// # Safety
    /// As of [`Operands::at`].
    #[inline(always)]
    unsafe fn is_of_lines(&self, step: &Step) -> bool {
        // SAFETY: the caller's promise.
        step.store
            .is_some_and(|to| unsafe { self.at(to) }.mask & OF_ELEMENTS == 0)
    }

    /// Where a register is.
    ///
    /// # Safety
    /// There is such a register.
    #[inline(always)]
    unsafe fn at(&self, register: Reg) -> Location<T> {
        // SAFETY: the caller's promise.
        unsafe { *self.locations.get_unchecked(register.index()) }
    }
}

/// See [`Location`].
const OF_ELEMENTS: usize = 1 << (usize::BITS - 1);

impl<T: Copy> Location<T> {
    /// A group that is the same for all groups of a block.
    pub(super) fn group(start: *mut T, length: usize) -> Location<T> {
        let mask = length - 1;
        Location { start, mask }
    }

    /// A place for the elements of a span.
    pub(super) fn span(start: *mut T, length: usize) -> Location<T> {
        let mask = (length - 1) | OF_ELEMENTS;
        Location { start, mask }
    }

    /// A block that begins here.
    pub(super) fn block(start: *mut T) -> Location<T> {
        Location {
            start,
            mask: usize::MAX,
        }
    }

    /// Where an element is.
    #[inline(always)]
    pub(super) fn at(self, element: usize) -> *mut T {
        self.start.wrapping_add(element & self.mask)
    }

    /// The same elements, counted from this one on, which begins a group.
    #[inline(always)]
    fn from(self, element: usize) -> Location<T> {
        Location {
            start: self.at(element),
            ..self
        }
    }
}
