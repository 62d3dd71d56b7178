//! Scalar kernels: the steps of a fused kernel, taken with single numbers.

#![allow(unsafe_code)] // registers are in the run's scratch memory

use super::{arch::Vectors, custom};
use crate::{
    exec::memory::Memory,
    index::Index,
    nodes::OpRef,
    op::pointwise::scalar,
    plan::{
        index::{Reg, ValueId},
        kernel::{Code, Fused, Register},
    },
    tensor::DType,
};

/// Runs a kernel.
///
/// # Safety
/// It is a scalar one, `scratch` has as many bytes as [`Fused::part_bytes`] says, for nobody else,
/// and what the kernel reads has been written.
pub(crate) unsafe fn run(k: &Fused, memory: Memory<'_>, scratch: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        match k.dtype {
            DType::F32 => run_as::<f32>(k, memory, scratch.cast()),
            _ => run_as::<f64>(k, memory, scratch.cast()),
        }
    }
}

/// # Safety
/// As of [`run`], in numbers.
unsafe fn run_as<T: Vectors>(k: &Fused, memory: Memory<'_>, scratch: *mut T) {
    // SAFETY: the caller's promise; what the memory holds is some number.
    let r = unsafe { std::slice::from_raw_parts_mut(scratch, k.registers.len()) };
    // all sources are read before the first output is written: a parameter that this kernel updates
    // may be among both
    for (number, register) in r.iter_mut().zip(k.registers.iter()) {
        *number = match *register {
            Register::Number(n) => T::of(n.into()),
            // SAFETY: the caller's promise.
            Register::Source { value, .. } => unsafe { read(memory, value) },
            _ => continue,
        };
    }
    // no verification is needed here: an index beyond the registers would panic
    let mut accumulator = T::default();
    for step in &k.steps {
        let at = |register: Reg| r[register.index()];
        let x = step.load.map_or(accumulator, at);
        accumulator = value(step.code, x, at, &k.custom);
        if let Some(to) = step.store {
            r[to.index()] = accumulator;
        }
    }
    for (&number, register) in r.iter().zip(k.registers.iter()) {
        if let Register::Output(value) = *register {
            // SAFETY: this kernel computes the value, and has one part.
            unsafe {
                match memory.dtype(value) {
                    DType::Bool => memory.write(value, &[number.to_mask()]),
                    _ => memory.write(value, &[number]),
                }
            }
        }
    }
}

/// A single number.
///
/// # Safety
/// It has been written, and nobody writes it meanwhile.
pub(super) unsafe fn read<T: Vectors>(memory: Memory<'_>, value: ValueId) -> T {
    // SAFETY: the caller's promise.
    unsafe {
        match memory.dtype(value) {
            DType::Bool => T::from_mask(memory.elements::<bool>(value)[0]),
            _ => memory.elements::<T>(value)[0],
        }
    }
}

/// What a step makes of a number, with the numbers in registers.
#[inline(always)]
pub(super) fn value<T: Vectors>(code: Code, acc: T, at: impl Fn(Reg) -> T, custom: &[OpRef]) -> T {
    match code {
        Code::NoOp | Code::Fold(_) | Code::SumSquare(_) | Code::SumScaledSquare(..) => acc,
        Code::Add(a) => acc + at(a),
        Code::Sub(a) => acc - at(a),
        Code::Mul(a) => acc * at(a),
        Code::Div(a) => acc / at(a),
        Code::SubFrom(a) => at(a) - acc,
        Code::DivInto(a) => at(a) / acc,
        Code::AddProduct(a, b) => acc + at(a) * at(b),
        Code::SubProduct(a, b) => acc - at(a) * at(b),
        Code::MulProduct(a, b) => acc * (at(a) * at(b)),
        Code::ProductSub(a, b) => at(a) * at(b) - acc,
        Code::MulAdd(a, b) => acc * at(a) + at(b),
        Code::SubMul(a, b) => (acc - at(a)) * at(b),
        Code::Power(n) => acc.powi(n),
        Code::Unary(function) => scalar::<T>(function.id())([acc; 3]),
        Code::Function(function, x) => scalar::<T>(function.id())(x.map(at)),
        Code::Custom(op, x) => custom::of_one(custom[op.index()].get(), x.map(at)),
    }
}
