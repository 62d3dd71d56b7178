//! Single numbers: instructions on registers, one after the other.

use crate::{
    exec::memory::Memory,
    op::{
        Real,
        elementwise::{several, unary},
    },
    plan::kernel::{Flat, FlatOp},
    tensor::DType,
};

/// Runs the instructions on registers in `scratch`.
pub(crate) fn run(k: &Flat, memory: &Memory<'_>, scratch: &mut Registers) {
    match k.dtype {
        DType::F32 => numbers(k, memory, &mut scratch.f32),
        _ => numbers(k, memory, &mut scratch.f64),
    }
}

/// Registers that are kept from run to run.
#[derive(Default)]
pub(crate) struct Registers {
    f32: Vec<f32>,
    f64: Vec<f64>,
}

fn numbers<T: Real>(k: &Flat, memory: &Memory<'_>, registers: &mut Vec<T>) {
    if registers.len() < k.registers as usize {
        registers.resize(k.registers as usize, T::default());
    }
    let r = &mut registers[..k.registers as usize];
    for &(value, register) in &k.loads {
        r[register as usize] = if memory.dtype(value) == DType::Bool {
            T::from_mask(memory.elements::<bool>(value)[0])
        } else {
            memory.elements::<T>(value)[0]
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
            FlatOp::Several(op) => several::<T, true>(op, [x(a), x(b), x(c)]),
            FlatOp::Unary(op) => unary::<T, true>(op, x(a)),
            FlatOp::Power(n) => x(a).powi(n),
            FlatOp::Sum => x(a) + T::of(0.0),
            FlatOp::Number => T::pick(x(a).to_mask(), T::of(1.0), T::of(0.0)),
        };
    }
    for &(register, value) in &k.stores {
        let v = r[register as usize];
        if memory.dtype(value) == DType::Bool {
            memory.write(value, &[v.to_mask()]);
        } else {
            memory.write(value, &[v]);
        }
    }
}
