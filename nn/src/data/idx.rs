//! The IDX file format of MNIST: a header with element type and shape, followed by the elements in
//! row-major order and big-endian.
//!
//! Format: <http://yann.lecun.com/exdb/mnist/>. Files may be gzipped. The reader checks everything,
//! and a damaged header cannot make it allocate more memory than the file can fill.

use crate::{
    error::{Error, Result},
    numbers::{ByteOrder, NumberType},
};
use autograd::{DType, Tensor};
use flate2::bufread::GzDecoder;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

/// The contents of an IDX file.
#[derive(Clone, Debug, PartialEq)]
pub struct Idx {
    shape: Vec<usize>,
    number: NumberType,
    bytes: Vec<u8>,
}

/// The element type with this code.
fn element_type(code: u8) -> Option<NumberType> {
    Some(match code {
        0x08 => NumberType::U8,
        0x09 => NumberType::I8,
        0x0b => NumberType::I16,
        0x0c => NumberType::I32,
        0x0d => NumberType::F32,
        0x0e => NumberType::F64,
        _ => return None,
    })
}

impl Idx {
    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, if they are of type u8; otherwise returns `self`.
    pub fn into_bytes(self) -> Result<Vec<u8>, Idx> {
        if self.number == NumberType::U8 {
            Ok(self.bytes)
        } else {
            Err(self)
        }
    }

    /// The elements as an f32 tensor, each divided by `divisor`.
    pub fn to_f32(&self, divisor: f32) -> Result<Tensor> {
        let divide = |v: f32| v / divisor;
        let elements: Vec<f32> = match self.number {
            NumberType::U8 => self.bytes.iter().map(|&b| divide(b.into())).collect(),
            _ => {
                let elements = self.to_tensor()?.to_f64s(); // all element types are exact in f64
                elements.iter().map(|&v| divide(v as f32)).collect()
            }
        };
        Ok(Tensor::new(&self.shape, elements)?)
    }

    /// The elements as an i64 tensor; `None` if they are not integers.
    pub fn to_i64(&self) -> Result<Option<Tensor>> {
        let is_integer = self.number.dtype() == DType::I64;
        is_integer.then(|| self.to_tensor()).transpose()
    }

    /// The elements: integers as i64, f32 and f64 as they are.
    pub fn to_tensor(&self) -> Result<Tensor> {
        self.number.tensor(ByteOrder::Big, &self.shape, &self.bytes)
    }
}

/// Reads an IDX file, plain or gzipped.
pub fn read_idx(path: impl AsRef<Path>) -> Result<Idx> {
    let path = path.as_ref();
    let failed = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    decode(BufReader::new(file), length).map_err(|message| Error::file(path, message))
}

/// Decodes an IDX file of this length, plain or gzipped.
pub(crate) fn decode(mut reader: impl BufRead, length: u64) -> Result<Idx, String> {
    let start = reader
        .fill_buf()
        .map_err(|e| format!("cannot be read: {e}"))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        // 1032 is the maximum compression ratio of deflate
        return parse(&mut Members::new(reader), length.saturating_mul(1032));
    }
    parse(&mut reader, length)
}

/// The contents of a gzip file: of all its members, one after the other. Zeros between them and at
/// the end are skipped, as gzip does: files on tapes and in blocks are filled up with them.
struct Members<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Members<R> {
    fn new(reader: R) -> Members<R> {
        Members(Some(GzDecoder::new(reader)))
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let count = member.read(to)?;
            if count > 0 || to.is_empty() {
                return Ok(count);
            }
            let mut reader = match self.0.take() {
                Some(member) => member.into_inner(),
                None => return Ok(0),
            };
            while let [0, ..] = reader.fill_buf()? {
                let zeros = reader.fill_buf()?.iter().take_while(|&&b| b == 0).count();
                reader.consume(zeros);
            }
            if !reader.fill_buf()?.is_empty() {
                self.0 = Some(GzDecoder::new(reader));
            }
        }
        Ok(0)
    }
}

/// What an error of a reader says about the file.
fn damage(at: &'static str) -> impl Fn(std::io::Error) -> String {
    move |e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => format!("is not an IDX file: it ends {at}"),
        _ => format!("is damaged: {e}"),
    }
}

/// Reads and checks the header: element type and shape.
pub(super) fn header(reader: &mut dyn Read) -> Result<(NumberType, Vec<usize>), String> {
    let mut magic = [0; 4];
    reader
        .read_exact(&mut magic)
        .map_err(damage("within its first four bytes"))?;
    let [0, 0, code, rank] = magic else {
        return Err(format!(
            "is not an IDX file: it starts with {magic:02x?}, not with 00 00"
        ));
    };
    let number = element_type(code)
        .ok_or_else(|| format!("is not an IDX file: unknown element type 0x{code:02x}"))?;
    let mut shape = Vec::new();
    for _ in 0..rank {
        let mut size = [0; 4];
        reader
            .read_exact(&mut size)
            .map_err(damage("within its header"))?;
        shape.push(u32::from_be_bytes(size) as usize);
    }
    Ok((number, shape))
}

/// Reads and checks header and elements. `max_bytes` is an upper bound for the size of the
/// elements.
fn parse(reader: &mut dyn Read, max_bytes: u64) -> Result<Idx, String> {
    let (number, shape) = header(reader)?;
    let count = shape
        .iter()
        .try_fold(number.size(), |n, &d| n.checked_mul(d));
    let Some(count) = count.filter(|&n| n as u64 <= max_bytes) else {
        return Err(format!(
            "is truncated or damaged: its header says shape {shape:?}, more than the file can hold"
        ));
    };
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(count)
        .map_err(|_| format!("does not fit into memory: {count} bytes"))?;
    reader
        .take(count as u64)
        .read_to_end(&mut bytes)
        .map_err(damage("within its elements"))?;
    if bytes.len() < count {
        return Err(format!(
            "is truncated: expected {count} bytes for the shape {shape:?} of its header, got {}",
            bytes.len()
        ));
    }
    match reader
        .read(&mut [0])
        .map_err(damage("after its elements"))?
    {
        0 => Ok(Idx {
            shape,
            number,
            bytes,
        }),
        _ => Err(format!(
            "has more bytes than the shape {shape:?} of its header"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Idx, String> {
        parse(&mut &*bytes, bytes.len() as u64)
    }

    #[test]
    fn reads_every_element_type() {
        let idx = read(&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 1, 7, 255]).expect("valid");
        assert_eq!(idx.to_f32(0.5).expect("fits").to_f64s(), [14.0, 510.0]);
        assert_eq!(
            idx.to_i64().expect("fits").expect("integers").shape(),
            [2, 1]
        );
        let elements = |bytes: &[u8]| {
            read(bytes)
                .expect("valid")
                .to_tensor()
                .expect("fits")
                .to_f64s()
        };
        assert_eq!(elements(&[0, 0, 9, 1, 0, 0, 0, 1, 255]), [-1.0]);
        assert_eq!(elements(&[0, 0, 0xb, 1, 0, 0, 0, 1, 255, 254]), [-2.0]);
        assert_eq!(elements(&[0, 0, 0xc, 1, 0, 0, 0, 1, 0, 0, 1, 0]), [256.0]);
        assert_eq!(
            elements(&[&[0, 0, 0xd, 1, 0, 0, 0, 1][..], &1.5f32.to_be_bytes()].concat()),
            [1.5]
        );
        assert_eq!(
            elements(&[&[0, 0, 0xe, 1, 0, 0, 0, 1][..], &0.1f64.to_be_bytes()].concat()),
            [0.1]
        );
    }

    #[test]
    fn gzip_members_and_zeros_after_them_are_one_file() {
        use std::io::Write;
        let zip = |bytes: &[u8]| {
            let mut zipped = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            zipped.write_all(bytes).expect("memory");
            zipped.finish().expect("memory")
        };
        let parts = [zip(&[0, 0, 8, 1, 0, 0]), zip(&[0, 3, 7]), zip(&[8, 9])];
        let zeros = [0u8; 700];
        for file in [
            parts.concat(),
            [&parts.concat()[..], &zeros].concat(),
            [&parts[0], &zeros[..], &parts[1], &parts[2], &zeros[..5]].concat(),
        ] {
            let idx = decode(&file[..], file.len() as u64).expect("valid");
            assert_eq!(idx.into_bytes(), Ok(vec![7, 8, 9]));
        }
        let garbage = [&parts.concat()[..], &[0, 0, 1, 2, 3]].concat();
        assert!(decode(&garbage[..], garbage.len() as u64).is_err());
    }

    #[test]
    fn describes_damage() {
        let error = |bytes: &[u8]| read(bytes).expect_err("damaged");
        assert!(error(&[0, 0]).contains("first four bytes"));
        assert!(error(b"PNG!").contains("starts with"));
        assert!(error(&[0, 0, 7, 1, 0, 0, 0, 0]).contains("element type 0x07"));
        assert!(error(&[0, 0, 8, 3, 0, 0]).contains("within its header"));
        assert!(
            error(&[0, 0, 8, 1, 255, 255, 255, 255, 1]).contains("more than the file can hold")
        );
        assert!(
            error(&[
                0, 0, 8, 4, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                255, 255
            ])
            .contains("more than")
        );
        assert!(error(&[0, 0, 8, 1, 0, 0, 0, 3, 1, 2]).contains("truncated"));
        assert!(error(&[0, 0, 8, 1, 0, 0, 0, 1, 1, 2]).contains("more bytes"));
    }
}
