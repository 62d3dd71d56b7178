//! Arrays that are read from disk by rows: what is read, and how much of it.

use autograd::{DType, Tensor};
use nn::{Result, data, data::ArrayFile};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// Numbers that repeat late, from a seed.
fn random(seed: u64) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(seed), |x| {
        Some(
            x.wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407),
        )
    })
    .map(|x| (x >> 33) as usize)
}

fn npy(descr: &str, is_fortran: bool, shape: &str, elements: &[u8]) -> Vec<u8> {
    let fortran = if is_fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    let length = (header.len() as u16).to_le_bytes();
    [
        b"\x93NUMPY\x01\x00",
        &length[..],
        header.as_bytes(),
        elements,
    ]
    .concat()
}

fn idx(code: u8, shape: &[u32], elements: &[u8]) -> Vec<u8> {
    let sizes = shape.iter().flat_map(|d| d.to_be_bytes());
    let start = [0, 0, code, shape.len() as u8].into_iter().chain(sizes);
    start.chain(elements.iter().copied()).collect()
}

fn write(directory: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, bytes).expect("writable");
    path
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// The rows are those of the whole array, for all orders, repetitions, formats and number types.
#[test]
fn rows_are_those_of_the_whole_array() -> Result<()> {
    let directory = directory();
    let bytes: Vec<u8> = random(1).take(30 * 6 * 8).map(|r| r as u8 & 0x3b).collect();
    let mut files = Vec::new();
    for (descr, size) in [
        ("|b1", 1),
        ("|u1", 1),
        (">i2", 2),
        ("<f2", 2),
        ("<i4", 4),
        ("<f4", 4),
        (">f8", 8),
        ("<u8", 8),
    ] {
        let content = npy(descr, false, "(30, 2, 3)", &bytes[..30 * 6 * size]);
        let path = write(&directory, &format!("{size}{}.npy", &descr[1..]), &content);
        files.push((data::read_npy(&path)?, path));
    }
    for (code, size) in [(8, 1), (9, 1), (0xb, 2), (0xc, 4), (0xd, 4), (0xe, 8)] {
        let content = idx(code, &[30, 2, 3], &bytes[..30 * 6 * size]);
        let path = write(&directory, &format!("{code}.idx"), &content);
        files.push((data::read_idx(&path)?.to_tensor()?, path));
    }
    for (whole, path) in files {
        let file = ArrayFile::open(&path)?;
        assert_eq!((file.len(), file.is_empty()), (30, false));
        assert_eq!(
            (file.sample_shape(), file.dtype()),
            (&[2, 3][..], whole.dtype())
        );
        let orders: [Vec<usize>; 6] = [
            (0..30).collect(),
            (0..30).rev().collect(),
            random(7).take(50).map(|r| r % 30).collect(),
            vec![29, 3, 3, 4, 29, 0, 4],
            vec![17],
            vec![],
        ];
        for order in orders {
            let expected = whole.rows(&order)?;
            assert_eq!(file.rows(&order)?, expected, "{}", path.display());
        }
        let e = file.rows(&[1, 30]).expect_err("no such row").to_string();
        assert!(e.ends_with(": there is no row 30: the file has 30"), "{e}");
    }

    // labels, rows without elements, no rows
    let labels = write(&directory, "labels", &idx(8, &[3], &[7, 8, 9]));
    assert_eq!(
        ArrayFile::open(labels)?.rows(&[2, 0])?,
        Tensor::from([9, 7])
    );
    let fortran = npy(
        "<i8",
        true,
        "(2,)",
        &[3i64, 4].map(i64::to_le_bytes).concat(),
    );
    let fortran = ArrayFile::open(write(&directory, "column", &fortran))?;
    assert_eq!(fortran.rows(&[1])?, Tensor::from([4]));
    let empty = ArrayFile::open(write(&directory, "empty", &idx(8, &[5, 0], &[])))?;
    assert_eq!(empty.rows(&[4, 0])?.shape(), [2, 0]);
    let none = ArrayFile::open(write(&directory, "none", &npy("<f4", false, "(0, 4)", &[])))?;
    assert!(none.is_empty() && none.rows(&[]).is_ok() && none.rows(&[0]).is_err());
    Ok(())
}

const ROWS: usize = 1 << 16;
const WIDTH: usize = 1 << 10;

/// A file of 64 MiB: bytes of the shape [65536, 32, 32]. Each row begins with its number.
fn large(directory: &tempfile::TempDir) -> PathBuf {
    let path = directory.path().join("large.idx");
    let file = fs::File::create(&path).expect("writable");
    let mut file = std::io::BufWriter::new(file);
    let header = idx(8, &[ROWS as u32, 32, 32], &[]);
    file.write_all(&header).expect("space");
    let mut row = vec![0; WIDTH];
    for k in 0..ROWS {
        row[..4].copy_from_slice(&(k as u32).to_le_bytes());
        row[4..].fill(k as u8 ^ 0x5a);
        file.write_all(&row).expect("space");
    }
    file.flush().expect("space");
    path
}

fn assert_row(row: &[i64], k: usize) {
    let number: Vec<i64> = (k as u32).to_le_bytes().map(i64::from).to_vec();
    assert_eq!(row[..4], number);
    assert!(
        row[4..].iter().all(|&v| v == i64::from(k as u8 ^ 0x5a)),
        "{k}"
    );
}

/// A number in a file of `/proc`; none on other systems.
fn from_proc(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(path)).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The bytes that this thread has read from files, and the read calls.
fn reads() -> Option<(u64, u64)> {
    let of = |name| from_proc("thread-self/io", name);
    Some((of("rchar:")?, of("syscr:")?))
}

/// Every row of a large file, in random order: the bytes of each are read once, and the memory holds a
/// batch and not the file.
#[test]
fn a_large_file_is_read_by_rows() -> Result<()> {
    let directory = directory();
    let path = large(&directory);
    let memory = || from_proc("self/status", "VmHWM:");
    let (memory_before, before) = (memory(), reads());
    let own = reads().zip(before).map_or(0, |(a, b)| a.0 - b.0); // what it takes to ask
    let file = ArrayFile::open(&path)?;
    // an odd factor makes all rows of 2^16 come once
    let order: Vec<usize> = (0..ROWS).map(|k| (k * 40_503 + 7) % ROWS).collect();
    for rows in order.chunks(64) {
        let batch = file.rows(rows)?;
        let values = batch.as_slice::<i64>()?;
        for (row, &k) in values.chunks(WIDTH).zip(rows) {
            assert_row(row, k);
        }
    }
    if let (Some(before), Some(after)) = (before, reads()) {
        let bytes = after.0 - before.0 - 2 * own;
        let header = 1 << 17; // what `open` reads at most
        assert!(bytes <= (ROWS * WIDTH) as u64 + header + 4096, "{bytes}");
    }
    if let (Some(before), Some(after)) = (memory_before, memory()) {
        assert!(after - before < 16 << 10, "{} KiB more", after - before);
    }

    // neighbours are read together
    let before = reads();
    let rows: Vec<usize> = (1000..1256).rev().collect();
    let batch = file.rows(&rows)?;
    let after = reads();
    assert_row(&batch.as_slice::<i64>()?[..WIDTH], 1255);
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after.1 - before.1 < 10, "{before:?} {after:?}");
    }

    // several threads share the file
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let file = &file;
            scope.spawn(move || {
                for start in random(seed).take(200) {
                    let rows = [start % ROWS, (start / 3) % ROWS];
                    let batch = file.rows(&rows).expect("rows that exist");
                    let values = batch.as_slice::<i64>().expect("bytes are i64");
                    assert_row(&values[..WIDTH], rows[0]);
                    assert_row(&values[WIDTH..], rows[1]);
                }
            });
        }
    });
    Ok(())
}

#[test]
fn a_file_that_changes_its_size_is_an_error() -> Result<()> {
    let directory = directory();
    let content = idx(0xd, &[4, 2], &[1; 32]);
    for length in [content.len() - 1, content.len() + 1, 0] {
        let path = write(&directory, "array", &content);
        let file = ArrayFile::open(&path)?;
        assert_eq!(file.rows(&[3])?.dtype(), DType::F32);
        let changed = OpenOptions::new().write(true).open(&path);
        changed
            .and_then(|file| file.set_len(length as u64))
            .expect("writable");
        let e = file.rows(&[3]).expect_err("changed").to_string();
        let message = format!("has {length} bytes, and had {} before", content.len());
        assert!(e.contains("array") && e.ends_with(&message), "{e}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_read_by_rows_is_an_error_that_names_the_file() {
    let directory = directory();
    let error = |bytes: &[u8]| {
        let path = write(&directory, "array", bytes);
        let e = ArrayFile::open(path).expect_err("damaged").to_string();
        assert!(e.contains("array: "), "{e}");
        e
    };
    for valid in [
        idx(8, &[3, 2], &[1; 6]),
        npy("<f4", false, "(3, 2)", &[1; 24]),
    ] {
        for length in 0..valid.len() {
            error(&valid[..length]);
        }
        error(&[&valid[..], &[0]].concat());
    }
    assert!(error(&[0x1f, 0x8b, 8, 0]).contains("is gzipped and cannot be read by rows"));
    assert!(error(&npy("<f4", true, "(3, 2)", &[1; 24])).contains("numpy.ascontiguousarray"));
    assert!(error(&idx(8, &[], &[1])).contains("single number"));
    assert!(error(&npy("<f4", false, "()", &[1; 4])).contains("single number"));
    assert!(error(&npy("<c8", false, "(3,)", &[1; 24])).contains("expected elements of type"));
    assert!(error(b"\x89PNG....").contains("is not an IDX file"));
    for shape in [
        &[u32::MAX; 2][..],
        &[u32::MAX; 16],
        &[0, u32::MAX, u32::MAX, u32::MAX],
        &[1; 200],
    ] {
        error(&idx(8, shape, &[1]));
        error(&idx(0xe, shape, &[]));
    }
    for shape in [
        "(0, 4294967296, 4294967296)",
        "(0, 4611686018427387904)",
        "(9999999999999,)",
    ] {
        error(&npy("<f8", false, shape, &[]));
    }
    assert!(ArrayFile::open(directory.path()).is_err());
    assert!(ArrayFile::open(directory.path().join("none")).is_err());
    assert!(error(&idx(8, &[1; 9], &[1])).contains("too many axes"));
    let large = u64::MAX.to_le_bytes();
    let unsigned = write(&directory, "array", &npy("<u8", false, "(1,)", &large));
    let e = ArrayFile::open(unsigned).and_then(|file| file.rows(&[0]));
    assert!(
        e.expect_err("too large")
            .to_string()
            .contains("does not fit into an i64")
    );
}
