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
