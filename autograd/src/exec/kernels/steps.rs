//! The interpreter of a fused kernel's steps. A group of numbers, those of eight vectors, stays in registers while it is taken
//! through step after step; what a step stores for later stays in the first-level cache.

use super::{
    arch::Functions,
    vector::{Vector, add_to_ring},
};
use crate::{
    math::{Lanes, Wide},
    op::{
        Real,
        pointwise::{of_one, of_three, of_two},
        reduce::LANES,
    },
    plan::kernel::{Code, MOST_GROUP, NO_REGISTER, Step},
};
use std::ops::Range;

/// A register as steps see it: the element at `i` lies at `start + (i & mask)`.
#[derive(Clone, Copy)]
pub(crate) struct Register<T> {
    pub(super) start: *mut T,
    pub(super) mask: usize,
}

/// A sum on its way: first chunk by chunk, then the chunks pairwise.
pub(crate) struct SumState<T> {
    /// The chunk at hand.
    pub(super) lanes: [T; LANES],
    /// The sums of all chunks, of which others may be written by other threads.
    pub(super) partials: *mut T,
}

impl<T: Real> SumState<T> {
    /// Elements from position `at` of a chunk on.
    #[inline(never)]
    fn add(&mut self, elements: &[T], at: usize) {
        for (k, &x) in elements.iter().enumerate() {
            let lane = (at + k) % LANES;
            self.lanes[lane] = self.lanes[lane] + x;
        }
    }
}

/// How many elements go through a step at once: those of eight vectors.
pub(super) const fn group<V: Vector>() -> usize {
    8 * V::N
}

/// Takes elements through the steps, a group at a time; of the last group only `valid` elements count.
///
/// # Safety
/// Registers are good for all groups that begin in the range, and the steps name no others.
#[inline(always)]
pub(super) unsafe fn run<V: Vector<Elem: Real>, F: Functions<Elem = V::Elem>>(
    steps: &[Step],
    registers: &[Register<V::Elem>],
    sums: &mut [SumState<V::Elem>],
    range: Range<usize>,
    valid: usize,
) {
    let (half, mut i) = (Wide::<V>::N, range.start);
    while i < range.end {
        let (mut low, mut high) = (Wide::<V>::of(0.0), Wide::<V>::of(0.0));
        for step in steps {
            macro_rules! at {
                ($register:expr) => {{
                    // SAFETY: the caller's promise.
                    let register = unsafe { registers.get_unchecked($register as usize) };
                    register.start.wrapping_add(i & register.mask)
                }};
            }
            macro_rules! load {
                ($register:expr) => {{
                    let p = at!($register);
                    // SAFETY: the caller's promise.
                    unsafe { (Wide::<V>::load(p), Wide::<V>::load(p.add(half))) }
                }};
            }
            macro_rules! with {
                (|$acc:ident, $other:ident| $e:expr) => {{
                    let (a, b) = load!(step.a);
                    low = {
                        let ($acc, $other) = (low, a);
                        $e
                    };
                    high = {
                        let ($acc, $other) = (high, b);
                        $e
                    };
                }};
            }
            macro_rules! with_product {
                (|$acc:ident, $product:ident| $e:expr) => {{
                    let (a, b) = (load!(step.a), load!(step.b));
                    low = {
                        let ($acc, $product) = (low, a.0 * b.0);
                        $e
                    };
                    high = {
                        let ($acc, $product) = (high, a.1 * b.1);
                        $e
                    };
                }};
            }
            if step.load != NO_REGISTER {
                (low, high) = load!(step.load);
            }
            match step.code {
                Code::Keep => {}
                Code::Add => with!(|acc, other| acc + other),
                Code::Sub => with!(|acc, other| acc - other),
                Code::Mul => with!(|acc, other| acc * other),
                Code::Div => with!(|acc, other| acc / other),
                Code::SubFrom => with!(|acc, other| other - acc),
                Code::DivInto => with!(|acc, other| other / acc),
                Code::AddProduct => with_product!(|acc, product| acc + product),
                Code::SubProduct => with_product!(|acc, product| acc - product),
                Code::MulProduct => with_product!(|acc, product| acc * product),
                Code::ProductSub => with_product!(|acc, product| product - acc),
                Code::Unary(op) => {
                    low = of_one(op, low);
                    high = of_one(op, high);
                }
                Code::Binary(op) => {
                    let (a, b) = (load!(step.a), load!(step.b));
                    low = of_two(op, a.0, b.0);
                    high = of_two(op, a.1, b.1);
                }
                Code::Ternary(op) => {
                    let (a, b, c) = (load!(step.a), load!(step.b), load!(step.c));
                    low = of_three(op, [a.0, b.0, c.0]);
                    high = of_three(op, [a.1, b.1, c.1]);
                }
                Code::Function(function) => {
                    let (to, x) = (at!(step.store), [at!(step.a), at!(step.b), at!(step.c)]);
                    // SAFETY: the caller's promise; whoever has these instructions has those of the functions.
                    unsafe {
                        F::FUNCTIONS[function as usize](to, x.map(|x| x.cast_const()), valid)
                    };
                    // nothing is kept in registers through the call
                    (low, high) = (Wide::of(0.0), Wide::of(0.0));
                    continue;
                }
                Code::Power(n) => {
                    low = low.powi(n);
                    high = high.powi(n);
                }
                Code::Sum => {
                    // SAFETY: the caller's promise.
                    let sum = unsafe { sums.get_unchecked_mut(step.a as usize) };
                    if valid == group::<V>() {
                        // SAFETY: a ring has as many numbers; groups begin at multiples of their length.
                        unsafe { add_to_ring([low, high], sum.lanes.as_mut_ptr(), i) };
                    } else {
                        let mut all = [V::Elem::default(); MOST_GROUP];
                        // SAFETY: a group has at most this many elements.
                        unsafe {
                            low.store(all.as_mut_ptr());
                            high.store(all.as_mut_ptr().add(half));
                        }
                        sum.add(&all[..valid], i);
                    }
                }
            }
            if step.store != NO_REGISTER {
                let p = at!(step.store);
                // SAFETY: the caller's promise.
                unsafe {
                    low.store(p);
                    high.store(p.add(half));
                }
            }
        }
        i += group::<V>();
    }
}
