//! Single numbers: instructions on registers, one after the other.

#![allow(unsafe_code)] // registers are in the run's scratch memory

use crate::{
    exec::memory::Memory,
    op::{Real, pointwise::scalar},
    plan::kernel::{Flat, FlatOp},
    tensor::DType,
};

/// Runs the instructions.
///
/// # Safety
/// `room` has as many bytes as [`Flat::room`] says, for nobody else.
pub(crate) unsafe fn run(k: &Flat, memory: Memory<'_>, room: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        match k.dtype {
            DType::F32 => numbers::<f32>(k, memory, room.cast()),
            _ => numbers::<f64>(k, memory, room.cast()),
        }
    }
}

/// # Safety
/// There is room for the registers.
unsafe fn numbers<T: Real>(k: &Flat, memory: Memory<'_>, room: *mut T) {
    // SAFETY: the caller's promise; what the memory holds is some number.
    let r = unsafe { std::slice::from_raw_parts_mut(room, k.registers as usize) };
    for &(value, register) in &k.loads {
        // SAFETY: it was written in an earlier stage. If it is a parameter that this kernel updates, it is read before the
        // first number is written.
        r[register as usize] = unsafe {
            match memory.dtype(value) {
                DType::Bool => T::from_mask(memory.elements::<bool>(value)[0]),
                _ => memory.elements::<T>(value)[0],
            }
        };
    }
    for i in &k.code {
        let [a, b, c] = i.args;
        let x = |register: u32| r[register as usize];
        r[i.to as usize] = match i.op {
            FlatOp::Add => x(a) + x(b),
            FlatOp::Sub => x(a) - x(b),
            FlatOp::Mul => x(a) * x(b),
            FlatOp::Div => x(a) / x(b),
            FlatOp::Neg => -x(a),
            FlatOp::Formula(op) => scalar::<T>(op)([x(a), x(b), x(c)]),
            FlatOp::Power(n) => x(a).powi(n),
            FlatOp::Sum => x(a) + T::of(0.0),
            FlatOp::Number => T::pick(x(a).to_mask(), T::of(1.0), T::of(0.0)),
        };
    }
    for &(register, value) in &k.stores {
        let v = r[register as usize];
        // SAFETY: this kernel computes the value, and it has one part.
        unsafe {
            match memory.dtype(value) {
                DType::Bool => memory.write(value, &[v.to_mask()]),
                _ => memory.write(value, &[v]),
            }
        }
    }
}
