//! NumPy's npy file format: a header with element type, order and shape, followed by the elements.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1 to 3.

use crate::{
    error::{Error, Result},
    numbers::{ByteOrder, NumberType},
};
use autograd::{Graph, Shape, Tensor};
use std::path::Path;

/// What an npy file starts with.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads an array from an npy file, as written by `numpy.save`. Integers become i64 (u64 only if all
/// values fit), float16 becomes f32; float32, float64 and bool stay what they are. No value is rounded.
///
/// Arrays in Fortran order and with the other byte order are read, too. A file that is cut short, or
/// longer than its header says, is an error.
///
/// ```
/// let directory = tempfile::tempdir()?;
/// let file = directory.path().join("x.npy");
/// // numpy.save("x.npy", numpy.array([[1, 2], [3, 4]], dtype=numpy.uint8))
/// let header = format!("{:<117}\n", "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }");
/// std::fs::write(&file, [b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes(), &[1, 2, 3, 4]].concat())?;
/// assert_eq!(nn::data::read_npy(&file)?, autograd::Tensor::from([[1, 2], [3, 4]]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_npy(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let bytes =
        std::fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    parse(&bytes).map_err(|message| Error::file(path, message))
}

/// What the header of an npy file says.
pub(super) struct Header {
    pub(super) number: NumberType,
    pub(super) order: ByteOrder,
    /// The elements of a column are neighbours, not those of a row.
    pub(super) is_fortran: bool,
    pub(super) shape: Vec<usize>,
    /// Where the elements begin.
    pub(super) offset: usize,
}

/// Reads a whole file. The size of its elements is checked before memory is reserved for them.
fn parse(bytes: &[u8]) -> Result<Tensor, String> {
    let mut header = header(bytes)?;
    let elements = &bytes[header.offset..];
    let (count, shape) = (elements.len(), &header.shape);
    if byte_count(header.number, shape)? != count {
        return Err(format!(
            "is not a valid npy file: its header says {} {shape:?}, and {count} bytes follow",
            header.number
        ));
    }
    if header.is_fortran {
        header.shape.reverse();
    }
    let tensor = header.number.tensor(header.order, &header.shape, elements);
    let tensor = tensor.map_err(|e| e.to_string())?;
    if !header.is_fortran {
        return Ok(tensor);
    }
    let axes: Vec<usize> = (0..header.shape.len()).rev().collect();
    let transposed = Graph::new().constant(tensor).permute(axes).value();
    transposed.map_err(|e| e.to_string())
}

/// The bytes of an array; an error if no tensor can have this shape.
pub(super) fn byte_count(number: NumberType, shape: &[usize]) -> Result<usize, String> {
    let shape = Shape::new(shape).map_err(|e| e.to_string())?;
    Ok(shape.count().saturating_mul(number.size()))
}

/// Reads the header, with which these bytes start.
pub(super) fn header(bytes: &[u8]) -> Result<Header, String> {
    let wrong = |what: &str| format!("is not a valid npy file: {what}");
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| wrong("it does not start as one"))?;
    let short = || wrong("it ends within its header");
    let (&[version, _], rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (length, rest) = match version {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
            (u16::from_le_bytes(*length).into(), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        other => return Err(wrong(&format!("its version is {other}, not 1, 2 or 3"))),
    };
    let text = rest.get(..length).ok_or_else(short)?;
    let text = std::str::from_utf8(text).map_err(|_| wrong("its header is no text"))?;
    let field = |key: &str| {
        let (_, value) = text.split_once(&format!("'{key}'"))?;
        value.trim_start().strip_prefix(':').map(str::trim_start)
    };
    let missing = |key: &str| wrong(&format!("its header says no {key}: {:?}", text.trim_end()));
    let (number, order) = element_type(field("descr").ok_or_else(|| missing("descr"))?)?;
    let is_fortran = match field("fortran_order") {
        Some(value) if value.starts_with("False") => false,
        Some(value) if value.starts_with("True") => true,
        _ => return Err(missing("fortran_order")),
    };
    let shape = field("shape").and_then(sizes);
    Ok(Header {
        number,
        order,
        is_fortran,
        shape: shape.ok_or_else(|| missing("shape"))?,
        offset: bytes.len() - rest.len() + length,
    })
}

/// The element type and its byte order from a text like `'<f4'`.
fn element_type(text: &str) -> Result<(NumberType, ByteOrder), String> {
    use NumberType::*;
    // `[('a', '<f4'), ..]` is a record
    let quoted = text
        .strip_prefix('\'')
        .and_then(|text| text.split_once('\''));
    let quoted = quoted.map_or("a record", |(quoted, _)| quoted);
    let (order, name) = match quoted.split_at_checked(1) {
        Some(("<" | "|", name)) => (ByteOrder::Little, name),
        Some((">", name)) => (ByteOrder::Big, name),
        _ => (ByteOrder::Little, quoted),
    };
    let number = match name {
        "b1" => Bool,
        "u1" => U8,
        "i1" => I8,
        "u2" => U16,
        "i2" => I16,
        "u4" => U32,
        "i4" => I32,
        "u8" => U64,
        "i8" => I64,
        "f2" => F16,
        "f4" => F32,
        "f8" => F64,
        _ => {
            return Err(format!(
                "expected elements of type bool, integer or float of up to 64 bits, got {quoted:?}"
            ));
        }
    };
    Ok((number, order))
}

/// The sizes in a text like `(3, 4)` or `(3,)`.
fn sizes(text: &str) -> Option<Vec<usize>> {
    let (sizes, _) = text.strip_prefix('(')?.split_once(')')?;
    let sizes = sizes.split(',').map(str::trim).filter(|s| !s.is_empty());
    sizes.map(|size| size.parse().ok()).collect()
}
