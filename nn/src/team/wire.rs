//! Numbers, texts and tensors as bytes, for messages between the ranks of a team: little-endian, each
//! list with its length before it.

use crate::error::{Error, Result, reserve};
use autograd::{DType, Tensor};

/// Appends values to a message.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// With room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Result<Writer> {
        Ok(Writer(reserve(bytes)?))
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn count(&mut self, n: usize) -> &mut Writer {
        self.numbers(&[n as u64], u64::to_le_bytes)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.count(bytes.len()).0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn f32s(&mut self, values: &[f32]) -> &mut Writer {
        self.count(values.len()).numbers(values, f32::to_le_bytes)
    }

    pub(crate) fn f64s(&mut self, values: &[f64]) -> &mut Writer {
        self.count(values.len()).numbers(values, f64::to_le_bytes)
    }

    pub(crate) fn i64s(&mut self, values: &[i64]) -> &mut Writer {
        self.count(values.len()).numbers(values, i64::to_le_bytes)
    }

    /// The numbers alone. Each goes to a place of known size, so that the loop becomes a copy.
    fn numbers<T: Copy, const N: usize>(
        &mut self,
        values: &[T],
        bytes: impl Fn(T) -> [u8; N],
    ) -> &mut Writer {
        let start = self.0.len();
        self.0.resize(start + N * values.len(), 0);
        let (places, _) = self.0[start..].as_chunks_mut::<N>();
        let pairs = places.iter_mut().zip(values);
        pairs.for_each(|(place, value)| *place = bytes(*value));
        self
    }

    pub(crate) fn shape(&mut self, dtype: DType, shape: &[usize]) -> &mut Writer {
        let kind = match dtype {
            DType::F32 => 0,
            DType::F64 => 1,
            DType::I64 => 2,
            DType::Bool => 3,
        };
        self.count(kind).count(shape.len());
        for &n in shape {
            self.count(n);
        }
        self
    }

    pub(crate) fn tensor(&mut self, tensor: &Tensor) -> Result<&mut Writer> {
        self.shape(tensor.dtype(), tensor.shape());
        Ok(match tensor.dtype() {
            DType::F32 => self.f32s(tensor.as_slice()?),
            DType::F64 => self.f64s(tensor.as_slice()?),
            DType::I64 => self.i64s(tensor.as_slice()?),
            DType::Bool => {
                let bytes: Vec<u8> = tensor
                    .as_slice()?
                    .iter()
                    .map(|&b: &bool| b.into())
                    .collect();
                self.bytes(&bytes)
            }
        })
    }
}

/// Reads what a [`Writer`] wrote. What does not fit is an error: another rank may run another program.
pub(crate) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Reader<'b> {
        Reader(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn count(&mut self) -> Result<usize> {
        let bytes = self.take(8)?.try_into().map_err(|_| damaged())?;
        usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| damaged())
    }

    pub(crate) fn bytes(&mut self) -> Result<&'b [u8]> {
        let count = self.count()?;
        self.take(count)
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    pub(crate) fn f32s(&mut self) -> Result<Vec<f32>> {
        self.numbers(f32::from_le_bytes)
    }

    pub(crate) fn f64s(&mut self) -> Result<Vec<f64>> {
        self.numbers(f64::from_le_bytes)
    }

    pub(crate) fn i64s(&mut self) -> Result<Vec<i64>> {
        self.numbers(i64::from_le_bytes)
    }

    fn numbers<T, const N: usize>(&mut self, from: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = self.count()?.checked_mul(N).ok_or_else(damaged)?;
        let (places, _) = self.take(bytes)?.as_chunks::<N>();
        Ok(places.iter().map(|&place| from(place)).collect())
    }

    pub(crate) fn shape(&mut self) -> Result<(DType, Vec<usize>)> {
        let dtype = match self.count()? {
            0 => DType::F32,
            1 => DType::F64,
            2 => DType::I64,
            3 => DType::Bool,
            _ => return Err(damaged()),
        };
        let axes = self.count()?;
        let shape: Result<Vec<usize>> = (0..axes).map(|_| self.count()).collect();
        Ok((dtype, shape?))
    }

    pub(crate) fn tensor(&mut self) -> Result<Tensor> {
        let (dtype, shape) = self.shape()?;
        Ok(match dtype {
            DType::F32 => Tensor::new(shape, self.f32s()?)?,
            DType::F64 => Tensor::new(shape, self.f64s()?)?,
            DType::I64 => Tensor::new(shape, self.i64s()?)?,
            DType::Bool => {
                let values: Vec<bool> = self.bytes()?.iter().map(|&b| b != 0).collect();
                Tensor::new(shape, values)?
            }
        })
    }
}

fn damaged() -> Error {
    Error::invalid("a message of another rank is damaged, or of another program")
}

/// A hash of bytes, eight at a time: equal ones have equal hashes on every machine. Not for secrets.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain([&last]).map(|w| u64::from_le_bytes(*w));
    words.fold(bytes.len() as u64, |hash, word| {
        (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

#[test]
fn messages_come_back_as_they_were_and_cut_ones_are_errors() -> Result<()> {
    let tensors = [
        Tensor::from([[1.5f32, -0.0], [f32::MAX, 3.0]]),
        Tensor::from([1e300, -2.0]),
        Tensor::from([i64::MIN, 7]),
        Tensor::from([true, false, true]),
        Tensor::from(2.0),
    ];
    let mut writer = Writer::default();
    for tensor in &tensors {
        writer.tensor(tensor)?;
    }
    writer.bytes("a text".as_bytes());
    let message = writer.finish();
    let read = |reader: &mut Reader<'_>| -> Result<Vec<Tensor>> {
        tensors.iter().map(|_| reader.tensor()).collect()
    };
    let mut reader = Reader::new(&message);
    assert_eq!(read(&mut reader)?, tensors);
    assert_eq!(
        (reader.text()?.as_str(), reader.is_empty()),
        ("a text", true)
    );
    for cut in 0..message.len() {
        let mut reader = Reader::new(&message[..cut]);
        let result = read(&mut reader).and_then(|_| reader.text());
        assert!(result.is_err(), "{cut} of {} bytes", message.len());
    }
    let hashes: std::collections::HashSet<u64> =
        (0..message.len()).map(|n| hash(&message[..n])).collect();
    assert_eq!(hashes.len(), message.len());
    Ok(())
}
