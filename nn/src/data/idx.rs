//! The IDX format of MNIST: a header with type and sizes, then the elements in row-major, big-endian order.
//!
//! Format: <http://yann.lecun.com/exdb/mnist/>. Files may be gzipped. Everything is checked, and no more memory is asked
//! for than the length of the file can account for.

use crate::error::{Error, Result};
use autograd::Tensor;
use flate2::read::MultiGzDecoder;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

/// The contents of an IDX file.
#[derive(Clone, Debug, PartialEq)]
pub struct Idx {
    shape: Vec<usize>,
    kind: Kind,
    bytes: Vec<u8>,
}

/// The type of the elements.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    U8,
    I8,
    I16,
    I32,
    F32,
    F64,
}

impl Kind {
    fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            0x08 => Kind::U8,
            0x09 => Kind::I8,
            0x0b => Kind::I16,
            0x0c => Kind::I32,
            0x0d => Kind::F32,
            0x0e => Kind::F64,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 => 1,
            Kind::I16 => 2,
            Kind::I32 | Kind::F32 => 4,
            Kind::F64 => 8,
        }
    }
}

impl Idx {
    /// The sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements if each is one unsigned byte, as in images; otherwise what was there.
    pub fn into_bytes(self) -> Result<Vec<u8>, Idx> {
        if self.kind == Kind::U8 {
            Ok(self.bytes)
        } else {
            Err(self)
        }
    }

    /// The elements, each divided by a number, as an f32 tensor.
    pub fn to_f32(&self, divisor: f32) -> Result<Tensor> {
        let elements: Vec<f32> = match self.kind {
            Kind::U8 => self.bytes.iter().map(|&b| f32::from(b) / divisor).collect(),
            _ => self.numbers().map(|v| v as f32 / divisor).collect(),
        };
        Ok(Tensor::new(&self.shape, elements)?)
    }

    /// The elements as labels; `None` if they are not integers.
    pub fn to_i64(&self) -> Result<Option<Tensor>> {
        if matches!(self.kind, Kind::F32 | Kind::F64) {
            return Ok(None);
        }
        Ok(Some(Tensor::new(
            &self.shape,
            self.numbers().map(|v| v as i64).collect(),
        )?))
    }

    /// Every element; all types fit into `f64`.
    fn numbers(&self) -> impl Iterator<Item = f64> {
        self.bytes
            .chunks_exact(self.kind.size())
            .map(|b| match (self.kind, b) {
                (Kind::I8, &[a]) => (a as i8).into(),
                (Kind::U8, &[a]) => a.into(),
                (Kind::I16, &[a, b]) => i16::from_be_bytes([a, b]).into(),
                (Kind::I32, &[a, b, c, d]) => i32::from_be_bytes([a, b, c, d]).into(),
                (Kind::F32, &[a, b, c, d]) => f32::from_be_bytes([a, b, c, d]).into(),
                (_, &[a, b, c, d, e, f, g, h]) => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
                _ => f64::NAN, // chunks have the size of the type
            })
    }
}

/// Reads an IDX file, plain or gzipped. An error names the file and what is wrong with it.
pub fn read_idx(path: impl AsRef<Path>) -> Result<Idx> {
    let path = path.as_ref();
    let failed = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    unpack(BufReader::new(file), length).map_err(|message| Error::file(path, message))
}

/// The contents of an IDX file of this length, plain or gzipped.
pub(crate) fn unpack(mut reader: impl BufRead, length: u64) -> Result<Idx, String> {
    let start = reader
        .fill_buf()
        .map_err(|e| format!("cannot be read: {e}"))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        // deflate cannot pack more than about 1032 bytes into one
        return parse(
            &mut MultiGzDecoder::new(reader),
            length.saturating_mul(1032),
        );
    }
    parse(&mut reader, length)
}

/// Reads and checks header and elements; `most` bytes can follow at all.
fn parse(reader: &mut dyn Read, most: u64) -> Result<Idx, String> {
    let truncated = |what: &'static str| {
        move |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => format!("is not an IDX file: it ends {what}"),
            _ => format!("is damaged: {e}"),
        }
    };
    let mut magic = [0; 4];
    reader
        .read_exact(&mut magic)
        .map_err(truncated("within its first four bytes"))?;
    let [0, 0, code, rank] = magic else {
        return Err(format!(
            "is not an IDX file: it starts with {magic:02x?}, not with 00 00"
        ));
    };
    let kind = Kind::from_code(code)
        .ok_or_else(|| format!("is not an IDX file: there is no element type 0x{code:02x}"))?;
    let mut shape = Vec::new();
    for _ in 0..rank {
        let mut size = [0; 4];
        reader
            .read_exact(&mut size)
            .map_err(truncated("within its header"))?;
        shape.push(u32::from_be_bytes(size) as usize);
    }
    let count = shape.iter().try_fold(kind.size(), |n, &d| n.checked_mul(d));
    let Some(count) = count.filter(|&n| n as u64 <= most) else {
        return Err(format!(
            "is truncated or damaged: its header promises shape {shape:?}, more than the file can hold"
        ));
    };
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(count)
        .map_err(|_| format!("does not fit into memory: {count} bytes"))?;
    reader
        .take(count as u64)
        .read_to_end(&mut bytes)
        .map_err(truncated("within its elements"))?;
    if bytes.len() < count {
        return Err(format!(
            "is truncated: its header promises {count} bytes for shape {shape:?}, there are {}",
            bytes.len()
        ));
    }
    match reader
        .read(&mut [0])
        .map_err(truncated("after its elements"))?
    {
        0 => Ok(Idx { shape, kind, bytes }),
        _ => Err(format!(
            "has more bytes than its header promises for shape {shape:?}"
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
    fn every_type_is_read() {
        let idx = read(&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 1, 7, 255]).expect("valid");
        assert_eq!(idx.to_f32(0.5).expect("fits").to_f64s(), [14.0, 510.0]);
        assert_eq!(
            idx.to_i64().expect("fits").expect("integers").shape(),
            [2, 1]
        );
        let numbers = |bytes: &[u8]| read(bytes).expect("valid").numbers().collect::<Vec<_>>();
        assert_eq!(numbers(&[0, 0, 9, 1, 0, 0, 0, 1, 255]), [-1.0]);
        assert_eq!(numbers(&[0, 0, 0xb, 1, 0, 0, 0, 1, 255, 254]), [-2.0]);
        assert_eq!(numbers(&[0, 0, 0xc, 1, 0, 0, 0, 1, 0, 0, 1, 0]), [256.0]);
        assert_eq!(
            numbers(&[&[0, 0, 0xd, 1, 0, 0, 0, 1][..], &1.5f32.to_be_bytes()].concat()),
            [1.5]
        );
        assert_eq!(
            numbers(&[&[0, 0, 0xe, 1, 0, 0, 0, 1][..], &0.1f64.to_be_bytes()].concat()),
            [0.1]
        );
    }

    #[test]
    fn damage_is_named() {
        let wrong = |bytes: &[u8]| read(bytes).expect_err("damaged");
        assert!(wrong(&[0, 0]).contains("first four bytes"));
        assert!(wrong(b"PNG!").contains("starts with"));
        assert!(wrong(&[0, 0, 7, 1, 0, 0, 0, 0]).contains("type 0x07"));
        assert!(wrong(&[0, 0, 8, 3, 0, 0]).contains("within its header"));
        assert!(
            wrong(&[0, 0, 8, 1, 255, 255, 255, 255, 1]).contains("more than the file can hold")
        );
        assert!(
            wrong(&[
                0, 0, 8, 4, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                255, 255
            ])
            .contains("more than")
        );
        assert!(wrong(&[0, 0, 8, 1, 0, 0, 0, 3, 1, 2]).contains("truncated"));
        assert!(wrong(&[0, 0, 8, 1, 0, 0, 0, 1, 1, 2]).contains("more bytes"));
    }
}
