//! Arrays that are read from disk by rows: IDX and npy files that are larger than the memory.

use super::{idx, npy};
use crate::{
    error::{Error, Result, reserve},
    numbers::{ByteOrder, NumberType},
};
use autograd::{DType, Tensor};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// An array in an IDX or npy file, of which only the rows that are asked for are read.
///
/// It can be shared by threads: a read does not move a position that others use. Integers become i64,
/// float16 becomes f32; float32, float64 and bool stay what they are.
///
/// ```
/// # use nn::data::ArrayFile;
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("x.idx");
/// // bytes of the shape [3, 2]
/// std::fs::write(&path, [0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6])?;
/// let file = ArrayFile::open(&path)?;
/// assert_eq!((file.len(), file.sample_shape()), (3, &[2][..]));
/// assert_eq!(file.rows(&[2, 0])?, autograd::Tensor::from([[5, 6], [1, 2]]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ArrayFile {
    path: PathBuf,
    file: File,
    /// The bytes of the whole file.
    length: u64,
    layout: Layout,
}

/// Where the elements are, and what they are.
#[derive(Debug)]
struct Layout {
    number: NumberType,
    order: ByteOrder,
    rows: usize,
    sample_shape: Vec<usize>,
    row_bytes: usize,
    /// Where the first row begins.
    offset: u64,
}

/// More than any header of an array of numbers has.
const MAX_HEADER: u64 = 1 << 17;
/// Rows that are neighbours are read together, up to this many bytes.
const MAX_READ: usize = 1 << 20;

impl ArrayFile {
    /// Opens a file and reads its header. An error if the file is not as long as its header says, if it
    /// is gzipped, and if its rows are not contiguous (Fortran order).
    pub fn open(path: impl AsRef<Path>) -> Result<ArrayFile> {
        let path = path.as_ref();
        let failed = |e: io::Error| Error::file(path, format!("cannot be read: {e}"));
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Error::file(path, "is no file that can be read by rows"));
        }
        let mut start = Vec::new();
        let mut limited = (&mut file).take(MAX_HEADER);
        limited.read_to_end(&mut start).map_err(failed)?;
        let length = metadata.len();
        let layout = Layout::of(&start, length).map_err(|e| Error::file(path, e))?;
        Ok(ArrayFile {
            path: path.to_path_buf(),
            file,
            length,
            layout,
        })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.layout.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of a row.
    pub fn sample_shape(&self) -> &[usize] {
        &self.layout.sample_shape
    }

    /// The type of the tensors.
    pub fn dtype(&self) -> DType {
        self.layout.number.dtype()
    }

    /// Reads these rows, in this order; rows may repeat. No other row is read, none twice, and they are
    /// read in the order in which they are in the file. An error if a row does not exist, or if the
    /// file has become longer or shorter.
    pub fn rows(&self, rows: &[usize]) -> Result<Tensor> {
        let error = |message: String| Error::file(&self.path, message);
        if let Some(row) = rows.iter().find(|&&row| row >= self.len()) {
            let message = format!("there is no row {row}: the file has {}", self.len());
            return Err(error(message));
        }
        let failed = |e: io::Error| error(format!("cannot be read: {e}"));
        let length = self.file.metadata().map_err(failed)?.len();
        if length != self.length {
            let message = format!("has {length} bytes, and had {} before", self.length);
            return Err(error(message));
        }
        let bytes = self.read(rows)?;
        let Layout { number, order, .. } = self.layout;
        let shape = [&[rows.len()], self.sample_shape()].concat();
        let tensor = number.tensor(order, &shape, &bytes);
        tensor.map_err(|e| error(e.to_string()))
    }

    /// The bytes of rows that exist.
    fn read(&self, rows: &[usize]) -> Result<Vec<u8>> {
        let width = self.layout.row_bytes;
        let count = rows.len().saturating_mul(width);
        let mut bytes = reserve(count)?;
        bytes.resize(count, 0);
        if width == 0 {
            return Ok(bytes);
        }
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by_key(|&k| rows[k]);
        let most = (MAX_READ / width).max(1);
        let mut block = Vec::new();
        let mut rest = &order[..];
        while let Some(&first) = rest.first() {
            let first = rows[first];
            let mut last = first;
            // up to a row that is no neighbour
            let next = rest.iter().take_while(|&&k| {
                let belongs = rows[k] <= last + 1 && rows[k] - first < most;
                last = if belongs { rows[k] } else { last };
                belongs
            });
            let (run, others) = rest.split_at(next.count());
            block.resize((last - first + 1) * width, 0);
            let from = self.layout.offset + first as u64 * width as u64;
            let read = self.read_at(&mut block, from);
            read.map_err(|e| Error::file(&self.path, format!("cannot be read: {e}")))?;
            for &k in run {
                let row = &block[(rows[k] - first) * width..][..width];
                bytes[k * width..][..width].copy_from_slice(row);
            }
            rest = others;
        }
        Ok(bytes)
    }

    #[cfg(unix)]
    fn read_at(&self, to: &mut [u8], from: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, to, from)
    }

    /// Opens the file again, as a position belongs to an open file.
    #[cfg(not(unix))]
    fn read_at(&self, to: &mut [u8], from: u64) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(from))?;
        file.read_exact(to)
    }
}

impl Layout {
    /// That of a file which starts like this and has this many bytes.
    fn of(start: &[u8], length: u64) -> Result<Layout, String> {
        if start.starts_with(&[0x1f, 0x8b]) {
            return Err("is gzipped and cannot be read by rows: unpack it".into());
        }
        let (number, order, shape, offset) = match start.starts_with(npy::MAGIC) {
            true => {
                let header = npy::header(start)?;
                if header.is_fortran && header.shape.len() > 1 {
                    return Err(
                        "is in Fortran order, in which rows are scattered: save it by \
                                numpy.save(path, numpy.ascontiguousarray(x))"
                            .into(),
                    );
                }
                let offset = header.offset as u64;
                (header.number, header.order, header.shape, offset)
            }
            false => {
                let (number, shape) = idx::header(&mut &start[..])?;
                let offset = 4 + 4 * shape.len() as u64;
                (number, ByteOrder::Big, shape, offset)
            }
        };
        let Some((&rows, sample_shape)) = shape.split_first() else {
            return Err("has no rows: it is a single number".into());
        };
        let bytes = npy::byte_count(number, &shape)? as u64;
        if offset.checked_add(bytes) != Some(length) {
            return Err(format!(
                "is damaged: its header says {number} {shape:?}, and it has {length} bytes"
            ));
        }
        Ok(Layout {
            number,
            order,
            rows,
            sample_shape: sample_shape.to_vec(),
            row_bytes: sample_shape.iter().product::<usize>() * number.size(),
            offset,
        })
    }
}
