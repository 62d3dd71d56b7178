//! Matrix products against their definition, bit by bit with fused multiply-adds: sizes of all
//! kinds, and all memory layouts of the operands.

mod common;

use autograd::{DType, Graph, Real, Result, Tensor, Var};

/// Pseudorandom values between -1 and 1.
struct Noise(u32);

impl Noise {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % below
    }

    /// A matrix, stored as it is, or stored transposed.
    fn matrix<'g>(
        &mut self,
        g: &'g Graph,
        shape: &[usize],
        dtype: DType,
        transposed: bool,
    ) -> Result<Var<'g>> {
        let (mut shape, rank) = (shape.to_vec(), shape.len());
        if transposed {
            shape.swap(rank - 2, rank - 1);
        }
        let all = (0..shape.iter().product())
            .map(|_| self.next(1 << 20) as f64 / 5e5 - 1.0)
            .collect();
        let stored = g.input(Tensor::new(shape, all)?.cast(dtype)?);
        Ok(if transposed { stored.t() } else { stored })
    }
}

/// The product of two operands of these shapes, in all four layouts and both dtypes.
fn check(noise: &mut Noise, a: &[usize], b: &[usize]) -> Result<()> {
    for way in 0..8 {
        let (a_t, b_t, dtype) = (
            way & 1 != 0,
            way & 2 != 0,
            [DType::F32, DType::F64][way / 4],
        );
        let g = Graph::new();
        let product = noise
            .matrix(&g, a, dtype, a_t)?
            .matmul(noise.matrix(&g, b, dtype, b_t)?);
        let (got, expected) = (product.value()?, &g.reference(&[product])?[0]);
        assert_eq!(got.shape(), expected.shape());
        for (k, (got, expected)) in got.to_f64s().iter().zip(&expected.to_f64s()).enumerate() {
            let same = got.to_bits() == expected.to_bits();
            let near = !common::exact_products() && (got - expected).abs() <= 1e-3;
            assert!(
                same || near,
                "{a:?} x {b:?}, {dtype}, transposed {a_t} {b_t}: element {k} is {got}, expected {expected}"
            );
        }
    }
    Ok(())
}

#[test]
fn products_have_the_bits_of_the_definition() -> Result<()> {
    let noise = &mut Noise(1);
    for _ in 0..150 {
        // small, medium and large sizes, in all combinations
        let mut size = || [noise.next(4), noise.next(40), noise.next(130)][noise.next(3)] + 1;
        let [m, k, n] = [size(), size(), size()];
        check(noise, &[m, k], &[k, n])?;
    }
    // longer than one block of k; rows that map to the same cache lines; a row, a column, a scalar
    for (m, k, n) in [
        (9, 2500, 35),
        (35, 40, 1030),
        (1, 1500, 130),
        (130, 1500, 1),
        (1, 2000, 1),
        (70, 1, 70),
    ] {
        check(noise, &[m, k], &[k, n])?;
    }
    // around one block of k, several, one group of them, several
    for k in [
        255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 8191, 8192, 8193, 10_007,
    ] {
        let (m, n) = [(1, 1), (2, 3), (3, 17), (7, 33), (13, 9), (17, 40)][k % 6];
        check(noise, &[m, k], &[k, n])?;
    }
    // blocks of columns, packed panels, blocks of rows
    for (m, k, n) in [
        (9, 257, 520),
        (40, 257, 700),
        (9, 300, 2048),
        (100, 257, 515),
        (17, 8193, 130),
    ] {
        check(noise, &[m, k], &[k, n])?;
    }
    // longer than one group of blocks, and than 32 groups
    for (m, k, n) in [
        (3, 8193, 5),
        (1, 10_007, 3),
        (40, 8500, 1),
        (1, 100_003, 1),
        (2, 300_000, 2),
    ] {
        check(noise, &[m, k], &[k, n])?;
    }
    check(noise, &[2, 3, 9000], &[2, 9000, 2])
}

/// All numbers of rows and columns that a tile and the remainder beside it can have, and all
/// lengths of sums up to the unrolled ones, in all layouts of the operands.
#[test]
fn all_small_sizes() -> Result<()> {
    if !common::exact_products() {
        return Ok(()); // computed by the matrixmultiply crate
    }
    small_sizes::<f32>(f32::mul_add)?;
    small_sizes::<f64>(f64::mul_add)
}

fn small_sizes<T: Real>(mul_add: fn(T, T, T) -> T) -> Result<()> {
    let noise = |seed: usize, count: usize| {
        (0..count).map(move |k| T::of(((k * 7919 + seed) % 1009) as f64 / 500.0 - 1.0))
    };
    for (m, k) in (1..=19).flat_map(|m| [1, 2, 3, 5, 8, 13].map(|k| (m, k))) {
        let a: Vec<T> = noise(m, m * k).collect();
        for n in 1..=69 {
            let b: Vec<T> = noise(k, k * n).collect();
            let element = |e: usize| {
                (0..k).fold(T::of(0.0), |sum, l| {
                    mul_add(a[e / n * k + l], b[l * n + e % n], sum)
                })
            };
            let expected: Vec<T> = (0..m * n).map(element).collect();
            let way = m + k + n;
            for way in if way % 7 == 0 {
                0..4
            } else {
                way % 4..way % 4 + 1
            } {
                let g = Graph::new();
                let left = matrix(&g, &a, [m, k], way & 1 != 0)?;
                let product = left.matmul(matrix(&g, &b, [k, n], way & 2 != 0)?).value()?;
                let same = product.as_slice::<T>()? == &expected[..];
                assert!(
                    same,
                    "{m} x {k} x {n}, {}, operands {way}: {product} {expected:?}",
                    T::DTYPE
                );
            }
        }
    }
    Ok(())
}

/// A matrix, stored as it is, or stored transposed.
fn matrix<'g, T: Real>(
    g: &'g Graph,
    x: &[T],
    [rows, columns]: [usize; 2],
    transposed: bool,
) -> Result<Var<'g>> {
    if !transposed {
        return Ok(g.input(Tensor::new([rows, columns], x.to_vec())?));
    }
    let flipped = (0..x.len())
        .map(|e| x[e % rows * columns + e / rows])
        .collect();
    Ok(g.input(Tensor::new([columns, rows], flipped)?).t())
}

#[test]
fn batches_of_products() -> Result<()> {
    let noise = &mut Noise(2);
    check(noise, &[3, 5, 7], &[3, 7, 33])?;
    check(noise, &[2, 1, 9, 4], &[5, 4, 17])?;
    check(noise, &[4, 6], &[3, 6, 1])?;
    check(noise, &[3, 0, 4], &[4, 5])?;
    check(noise, &[3, 2, 0], &[0, 5])
}

/// Products with zeros are not skipped: NaN and infinities propagate, and zeros have the right
/// signs.
#[test]
fn special_values_propagate() -> Result<()> {
    let g = Graph::new();
    let inf = f32::INFINITY;
    let a = g.input([[0.0f32, 1.0], [-0.0, 0.0], [inf, 1.0], [f32::NAN, 0.0]]);
    let b = g.input([[inf, 1.0f32, -1.0], [2.0, -0.0, 0.0]]);
    let value = a.matmul(b).value()?.to_f64s();
    let expected = [
        f64::NAN,
        0.0,
        0.0,
        f64::NAN,
        0.0,
        0.0,
        f64::INFINITY,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    for (k, (a, b)) in value.iter().zip(expected).enumerate() {
        assert!(
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
            "element {k} is {a}, expected {b}"
        );
    }
    assert!(value[9..].iter().all(|v| v.is_nan()));
    Ok(())
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}

/// Products of a few vectors and of long ones: rows as lanes, pieces of `k` as lanes, and what is
/// left of both.
#[test]
fn products_with_vectors() -> Result<()> {
    let noise = &mut Noise(3);
    for k in [
        1, 3, 7, 16, 100, 255, 256, 257, 1000, 1025, 2048, 2305, 4100, 8192, 8200,
    ] {
        for rows in [1, 2, 5, 8, 13, 16, 33, 70] {
            check(noise, &[rows, k], &[k, 1])?;
            check(noise, &[1, k], &[k, rows])?;
        }
    }
    // more columns than the sums in the cache, and more than one level of groups
    check(noise, &[1, 300], &[300, 4999])?;
    check(noise, &[1, 100_003], &[100_003, 1])?;
    check(noise, &[20, 20_000], &[20_000, 1])?;
    check(noise, &[1, 20_000], &[20_000, 20])
}

/// Sizes for which products are cut into several parts, by rows, by columns and by both.
#[test]
fn any_number_of_threads() -> Result<()> {
    let noise = &mut Noise(4);
    for (a, b) in [
        (&[1, 2048][..], &[2048, 1500][..]),
        (&[1500, 2048], &[2048, 1]),
        (&[5, 700], &[700, 1111]),
        (&[200, 300], &[300, 700]),
        (&[1025, 260], &[260, 40]),
        (&[7, 60, 80], &[7, 80, 300]),
        (&[1, 100_003], &[100_003, 1]),
    ] {
        for dtype in [DType::F32, DType::F64] {
            let g = Graph::new();
            let a = noise.matrix(&g, a, dtype, false)?.value()?;
            let b = noise.matrix(&g, b, dtype, noise.0 & 512 != 0)?.value()?;
            let product = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                pool.build().expect("threads").install(|| {
                    let g = Graph::new();
                    let product = g.constant(&a).matmul(g.constant(&b));
                    Ok::<_, autograd::Error>([product.value()?, product.relu().value()?])
                })
            };
            let expected = product(1)?;
            for threads in [2, 3, 8, 64] {
                let same = product(threads)? == expected;
                assert!(
                    same,
                    "{:?} x {:?} on {threads} threads",
                    a.shape(),
                    b.shape()
                );
            }
        }
    }
    Ok(())
}

/// Operands that are views: slices, permutations, broadcasts and all of them are read where they
/// lie.
#[test]
fn operands_that_are_views() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let noise = &mut Noise(5);
        let g = Graph::new();
        let mut input = |shape: &[usize]| noise.matrix(&g, shape, dtype, false);
        let (x, w) = (input(&[300, 70])?, input(&[90, 300])?);
        // heads of an attention: [batch, length, heads, width]
        let (q, k) = (input(&[2, 33, 4, 16])?, input(&[2, 29, 4, 16])?);
        let heads = [q, k].map(|v| v.permute([0, 2, 1, 3]));
        let column = input(&[300, 1])?;
        let products = [
            w.matmul(x.slice(1, 8..61)),
            w.slice(0, 3..50)
                .slice(1, 20..290)
                .matmul(x.slice(0, 20..290)),
            x.slice(1, 5..6).t().matmul(x),
            w.matmul(x.slice(1, 5..6)),
            w.t().slice(0, 9..40).matmul(w),
            heads[0].matmul(heads[1].transpose(-1, -2)),
            heads[0].matmul(k.permute([0, 2, 3, 1])),
            q.permute([3, 0, 2, 1])
                .matmul(q.permute([3, 0, 1, 2]).slice(3, 1..3)),
            w.matmul(column.broadcast_to([300, 20])),
            column.broadcast_to([5, 300, 1]).transpose(-1, -2).matmul(x),
            x.flip(0).t().matmul(x),
        ];
        for (number, product) in products.into_iter().enumerate() {
            let (got, expected) = (product.value()?, &g.reference(&[product])?[0]);
            let same = got == *expected || !common::exact_products();
            assert!(same, "product {number}, {dtype}");
        }
    }
    Ok(())
}

/// A product reads a view without a copy: one kernel.
#[test]
fn views_are_not_copied() -> Result<()> {
    let g = Graph::new();
    let (q, k) = (
        g.input(Tensor::zeros([2, 5, 3, 4], DType::F32)?),
        g.input(Tensor::zeros([2, 5, 3, 4], DType::F32)?),
    );
    let scores = q.permute([0, 2, 1, 3]).matmul(k.permute([0, 2, 3, 1]));
    assert_eq!(g.plan(scores)?.kernels().len(), 1);
    let x = g.input(Tensor::zeros([30, 40], DType::F32)?);
    let part = x
        .slice(0, 2..20)
        .slice(1, 3..9)
        .t()
        .matmul(x.slice(0, 0..18));
    assert_eq!(g.plan(part)?.kernels().len(), 1);
    Ok(())
}

/// NaN and infinities reach exactly the elements whose sums they are in, also from the end of a
/// row that does not fill a vector.
#[test]
fn special_values_stay_in_their_rows_and_columns() -> Result<()> {
    for (m, k, n) in [
        (7, 300, 19),
        (130, 260, 1),
        (1, 260, 130),
        (50, 40, 333),
        (1, 1500, 1),
    ] {
        for (i, j) in [(0, 0), (m - 1, n - 1), (m / 2, n / 2)] {
            let g = Graph::new();
            let (mut a, mut b) = (vec![1.0f32; m * k], vec![1.0f32; k * n]);
            (a[i * k + k - 1], b[(k - 1) * n + j]) = (f32::NAN, f32::INFINITY);
            let (a, b) = (Tensor::new([m, k], a)?, Tensor::new([k, n], b)?);
            let c = g.input(a).matmul(g.input(b)).value()?.to_f64s();
            for (e, c) in c.into_iter().enumerate() {
                let right = match (e / n == i, e % n == j) {
                    (true, _) => c.is_nan(),
                    (_, true) => c == f64::INFINITY,
                    _ => c == k as f64,
                };
                assert!(right, "{m} x {k} x {n} at {e}: {c}");
            }
        }
    }
    Ok(())
}
