//! The number types that files have, and the tensors that they are read as: integers as i64, floats of
//! half precision as f32, and what tensors have as it is. No conversion rounds.

use crate::error::{Error, Result, reserve};
use autograd::{DType, Element, Tensor};
use std::fmt;

/// The type of a number in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NumberType {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    /// IEEE 754 half precision: 5 bits of exponent, 10 of fraction.
    F16,
    /// The upper half of an f32: 8 bits of exponent, 7 of fraction.
    Bf16,
    F32,
    F64,
}

/// Which byte of a number comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ByteOrder {
    /// The least significant one.
    Little,
    /// The most significant one.
    Big,
}

use NumberType::*;

impl NumberType {
    /// Bytes of one number.
    pub(crate) fn size(self) -> usize {
        match self {
            Bool | U8 | I8 => 1,
            U16 | I16 | F16 | Bf16 => 2,
            U32 | I32 | F32 => 4,
            U64 | I64 | F64 => 8,
        }
    }

    /// The type of the tensor.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Bool => DType::Bool,
            U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64 => DType::I64,
            F16 | Bf16 | F32 => DType::F32,
            F64 => DType::F64,
        }
    }

    /// A tensor of this shape, in row-major order, from the bytes of its elements: exactly as many as
    /// it has.
    pub(crate) fn tensor(self, order: ByteOrder, shape: &[usize], bytes: &[u8]) -> Result<Tensor> {
        let elements = Elements {
            order,
            shape,
            bytes,
        };
        match self {
            Bool => elements.tensor(|[b]: [u8; 1]| b != 0),
            U8 => elements.tensor(|[b]: [u8; 1]| i64::from(b)),
            I8 => elements.tensor(|b| i64::from(i8::from_le_bytes(b))),
            U16 => elements.tensor(|b| i64::from(u16::from_le_bytes(b))),
            I16 => elements.tensor(|b| i64::from(i16::from_le_bytes(b))),
            U32 => elements.tensor(|b| i64::from(u32::from_le_bytes(b))),
            I32 => elements.tensor(|b| i64::from(i32::from_le_bytes(b))),
            U64 => elements.checked_u64s(),
            I64 => elements.tensor(i64::from_le_bytes),
            F16 => elements.tensor(|b| f32_from_f16(u16::from_le_bytes(b))),
            Bf16 => elements.tensor(|b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            F32 => elements.tensor(f32::from_le_bytes),
            F64 => elements.tensor(f64::from_le_bytes),
        }
    }
}

impl fmt::Display for NumberType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// The elements of an array in a file.
struct Elements<'a> {
    order: ByteOrder,
    shape: &'a [usize],
    bytes: &'a [u8],
}

impl Elements<'_> {
    /// Converts each element from its bytes, the least significant one first.
    fn tensor<T: Element, const N: usize>(&self, from: impl Fn([u8; N]) -> T) -> Result<Tensor> {
        let numbers = self.bytes.as_chunks().0;
        let mut elements = reserve(numbers.len())?;
        match self.order {
            ByteOrder::Little => elements.extend(numbers.iter().map(|&b| from(b))),
            ByteOrder::Big => elements.extend(numbers.iter().map(|&b| {
                let mut b = b;
                b.reverse();
                from(b)
            })),
        }
        Ok(Tensor::new(self.shape, elements)?)
    }

    /// Unsigned numbers of 64 bits, all of which must fit.
    fn checked_u64s(&self) -> Result<Tensor> {
        // what is too large is negative as an i64
        let tensor = self.tensor(i64::from_le_bytes)?;
        let too_large = tensor.as_slice::<i64>()?.iter().position(|&v| v < 0);
        match too_large {
            None => Ok(tensor),
            Some(k) => {
                let value = tensor.as_slice::<i64>()?[k] as u64;
                let message = format!("element {k} is {value}, which does not fit into an i64");
                Err(Error::invalid(message))
            }
        }
    }
}

/// The number with these bits in half precision. Every one is an f32, too.
fn f32_from_f16(bits: u16) -> f32 {
    let (sign, exponent) = (u32::from(bits >> 15) << 31, u32::from(bits >> 10 & 0x1f));
    let fraction = u32::from(bits & 0x3ff);
    let magnitude = match exponent {
        // 0 and subnormal numbers: multiples of 2⁻²⁴
        0 => (fraction as f32 / (1 << 24) as f32).to_bits(),
        // infinity and NaN
        31 => 0xff << 23 | fraction << 13,
        // the bias of the exponent is 15 in f16, and 127 in f32
        _ => (exponent + (127 - 15)) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All numbers of half precision, in both formats and both byte orders, against another
    /// implementation.
    #[test]
    fn half_precision_is_converted_exactly() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let read = |number: NumberType, order, bytes: fn(u16) -> [u8; 2]| {
            let bytes: Vec<u8> = all.iter().flat_map(|&bits| bytes(bits)).collect();
            number.tensor(order, &[1 << 16], &bytes).expect("fits")
        };
        for (number, expected) in [
            (
                F16,
                (|bits| half::f16::from_bits(bits).to_f32()) as fn(u16) -> f32,
            ),
            (Bf16, |bits| half::bf16::from_bits(bits).to_f32()),
        ] {
            for tensor in [
                read(number, ByteOrder::Little, u16::to_le_bytes),
                read(number, ByteOrder::Big, u16::to_be_bytes),
            ] {
                for (&bits, &v) in all.iter().zip(tensor.as_slice::<f32>().expect("f32")) {
                    let e = expected(bits);
                    let is_equal = v.to_bits() == e.to_bits() || (v.is_nan() && e.is_nan());
                    assert!(is_equal, "{number} {bits:#06x}: expected {e}, got {v}");
                }
            }
        }
    }

    #[test]
    fn integers_keep_their_values_up_to_the_limits() {
        fn read<const N: usize>(number: NumberType, values: &[[u8; N]]) -> Tensor {
            let (little, shape) = (values.concat(), [values.len()]);
            let mut big = values.to_vec();
            big.iter_mut().for_each(|b| b.reverse());
            let tensor = |order, bytes: &[u8]| number.tensor(order, &shape, bytes);
            let tensor = |order, bytes: &[u8]| tensor(order, bytes).expect("fits");
            let (a, b) = (
                tensor(ByteOrder::Little, &little),
                tensor(ByteOrder::Big, &big.concat()),
            );
            assert_eq!((&a, a.dtype(), N), (&b, number.dtype(), number.size()));
            a
        }
        macro_rules! limits {
            ($($number:ident $T:ty),*) => { $(
                let limits = read($number, &[<$T>::MIN.to_le_bytes(), <$T>::MAX.to_le_bytes()]);
                assert_eq!(limits, Tensor::from([<$T>::MIN as i64, <$T>::MAX as i64]), "{}", $number);
            )* };
        }
        limits!(U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, I64 i64);
        let largest = i64::MAX as u64;
        assert_eq!(
            read(U64, &[0u64.to_le_bytes(), largest.to_le_bytes()]),
            Tensor::from([0, i64::MAX])
        );
        let larger = [7u64.to_le_bytes(), (largest + 1).to_le_bytes()].concat();
        let e = U64
            .tensor(ByteOrder::Little, &[2], &larger)
            .expect_err("too large");
        assert_eq!(
            e.to_string(),
            "element 1 is 9223372036854775808, which does not fit into an i64"
        );
        assert_eq!(
            read(F64, &[0.1f64.to_le_bytes(), (-0f64).to_le_bytes()]),
            Tensor::from([0.1, -0.0])
        );
        assert_eq!(
            read(Bool, &[[0], [1], [2]]),
            Tensor::from([false, true, true])
        );
    }
}
