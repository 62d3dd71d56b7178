//! Buffers that are used again: what one step of a training gives back, the next one takes, so that in a steady state no
//! fresh memory has to be mapped and cleared by the system.
//!
//! Each thread has a pool of its own, bounded in bytes; small buffers are left to the allocator.

use crate::{
    error::OpError,
    tensor::{Buf, DType, Data, Tensor, Type},
};
use std::{cell::RefCell, collections::HashMap, sync::Arc};

/// Buffers with fewer elements are not worth keeping.
const SMALLEST: usize = 1024;
/// What a thread keeps at most, in bytes.
const MOST: usize = 32 << 20;

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Free buffers by length.
#[derive(Default)]
struct Pool {
    f32: HashMap<usize, Vec<Vec<f32>>>,
    f64: HashMap<usize, Vec<Vec<f64>>>,
    bytes: usize,
}

/// A tensor whose elements are unspecified, for a kernel to write; an error if there is no memory.
pub(super) fn blank(ty: Type) -> Result<Tensor, OpError> {
    let count = ty.shape.count();
    if count < SMALLEST {
        return Tensor::blank(ty);
    }
    let data = POOL.try_with(|pool| pool.borrow_mut().take(ty.dtype, count)).ok().flatten();
    data.map_or_else(|| Tensor::blank(ty), |data| Ok(Tensor { shape: ty.shape, data }))
}

/// Keeps the buffer of a tensor that is no longer needed, if nobody else holds it.
pub(super) fn give(tensor: Tensor) {
    if tensor.shape.count() >= SMALLEST {
        let _ = POOL.try_with(|pool| pool.borrow_mut().put(tensor.data)); // where the thread is ending it is dropped
    }
}

impl Pool {
    fn take(&mut self, dtype: DType, count: usize) -> Option<Data> {
        let data = match dtype {
            DType::F32 => Data::F32(Buf::new(self.f32.get_mut(&count)?.pop()?)),
            DType::F64 => Data::F64(Buf::new(self.f64.get_mut(&count)?.pop()?)),
            DType::I64 | DType::Bool => return None,
        };
        self.bytes -= count * dtype.size();
        Some(data)
    }

    fn put(&mut self, data: Data) {
        match data {
            Data::F32(Buf::Many(v)) => keep(&mut self.f32, &mut self.bytes, v),
            Data::F64(Buf::Many(v)) => keep(&mut self.f64, &mut self.bytes, v),
            _ => {}
        }
    }
}

fn keep<T>(free: &mut HashMap<usize, Vec<Vec<T>>>, bytes: &mut usize, v: Arc<Vec<T>>) {
    let size = v.len() * size_of::<T>();
    if *bytes + size <= MOST
        && let Ok(v) = Arc::try_unwrap(v)
    {
        *bytes += size;
        free.entry(v.len()).or_default().push(v);
    }
}
