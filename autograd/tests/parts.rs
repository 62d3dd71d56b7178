//! Ops by their own `eval`, which run in parts: data movement, order, indices, scans, random
//! numbers, and users' ops. Each is compared with a naive definition, for sizes on both sides of
//! what is worth a second thread, on several numbers of threads.

use autograd::{
    DType, Graph, Op, OpError, Result, Rule, Shape, Split, Tensor, TensorView, TensorViewMut, Type,
    Var,
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{fmt::Debug, sync::LazyLock};

const POOLS: [usize; 4] = [1, 2, 3, 8];

/// Shapes with small and large axes at each place, tiles and rests of tiles, and without elements.
const SHAPES: [&[usize]; 16] = [
    &[1],
    &[7],
    &[100_003],
    &[1, 1],
    &[128, 128],
    &[127, 200],
    &[1025, 65],
    &[3, 20_001],
    &[20_001, 3],
    &[2, 4_000],
    &[33, 1, 500],
    &[5, 70, 90],
    &[40, 2, 300],
    &[3, 4, 5, 6],
    &[0, 5],
    &[3, 0, 7],
];

/// Runs `f` in each pool.
fn in_pools(f: impl Fn() -> Result<()> + Sync) -> Result<()> {
    static ALL: LazyLock<Vec<ThreadPool>> = LazyLock::new(|| {
        let pool = |n: usize| ThreadPoolBuilder::new().num_threads(n).build();
        POOLS.map(|n| pool(n).expect("threads")).into()
    });
    ALL.iter().try_for_each(|pool| pool.install(&f))
}

/// A pseudorandom number below `n`.
fn random(k: usize, n: usize) -> usize {
    let mut x = (k as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((x ^ x >> 32) % n.max(1) as u64) as usize
}

/// Floats with all kinds of special ones and repetitions; integers and booleans like them.
fn tensor(shape: &[usize], dtype: DType) -> Tensor {
    const SPECIAL: [f64; 8] = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1e-310,
        2.5,
        -2.5,
    ];
    let count = shape.iter().product();
    let float = |k: usize| match random(k, 40) {
        0..8 => SPECIAL[random(k, 40)],
        _ => (random(k + 7, 2000) as f64 - 1000.0) * 0.37,
    };
    let all = (0..count).map(float);
    let t = match dtype {
        DType::F32 => Tensor::new(shape, all.map(|v| v as f32).collect()),
        DType::F64 => Tensor::new(shape, all.collect()),
        DType::I64 => Tensor::new(
            shape,
            (0..count).map(|k| random(k, 900) as i64 - 450).collect(),
        ),
        DType::Bool => Tensor::new(shape, (0..count).map(|k| random(k, 3) == 0).collect()),
    };
    t.expect("the sizes agree")
}

fn bits(t: &Tensor) -> Vec<u64> {
    let bits = |v: f64| if v.is_nan() { u64::MAX } else { v.to_bits() };
    t.to_f64s().into_iter().map(bits).collect()
}

/// The position of an index in a tensor of this shape.
fn position(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (k, n)| at * n + k)
}

/// The index of a position.
fn index(mut position: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (k, &n) in shape.iter().enumerate().rev() {
        (index[k], position) = (position % n, position / n);
    }
    index
}

/// Each element of a tensor of a shape, from the element of `x` at an index; 0 if there is none.
fn moved(x: &Tensor, shape: &[usize], from: impl Fn(&[usize]) -> Option<Vec<usize>>) -> Vec<u64> {
    let (bits, count) = (bits(x), shape.iter().product());
    let one = |at: usize| from(&index(at, shape)).map_or(0, |i| bits[position(&i, x.shape())]);
    (0..count).map(one).collect()
}

/// Checks values, and the definition, which is the same code without parts.
fn check(
    name: impl Debug + Sync,
    expected: &[u64],
    f: impl for<'g> Fn(&'g Graph) -> Var<'g> + Sync,
) -> Result<()> {
    let g = Graph::new();
    let defined = bits(&g.reference(&[f(&g)])?[0]);
    assert!(defined == expected, "{name:?} by definition");
    in_pools(|| {
        let y = bits(&f(&Graph::new()).value()?);
        let threads = rayon::current_num_threads();
        assert!(y == expected, "{name:?} on {threads} threads");
        Ok(())
    })
}

/// All shapes and types; of large tensors only those of the smallest and the largest elements.
fn all() -> impl Iterator<Item = (&'static [usize], DType)> {
    let all = SHAPES
        .into_iter()
        .flat_map(|shape| DTYPES.map(|dtype| (shape, dtype)));
    all.filter(|(shape, dtype)| {
        shape.iter().product::<usize>() < 50_000 || matches!(dtype, DType::F32 | DType::Bool)
    })
}

const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::I64, DType::Bool];

#[test]
fn permutations() -> Result<()> {
    for (shape, dtype) in all() {
        let (x, rank) = (tensor(shape, dtype), shape.len());
        for (turn, is_swapped) in (0..rank).flat_map(|k| [(k, false), (k, true)]) {
            let mut axes: Vec<usize> = (0..rank).map(|k| (k + turn) % rank).collect();
            if is_swapped {
                axes.swap(0, rank - 1);
            }
            let sizes: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
            let expected = moved(&x, &sizes, |i| {
                let mut from = vec![0; rank];
                axes.iter().zip(i).for_each(|(&a, &i)| from[a] = i);
                Some(from)
            });
            let name = (shape, dtype, &axes);
            check(name, &expected, |g| g.constant(&x).permute(&axes))?;
        }
    }
    Ok(())
}

/// Transposes that are larger than caches, of rows that are whole cache lines or not.
#[test]
fn large_transposes() -> Result<()> {
    for (shape, dtype) in [
        (&[1000, 700][..], DType::F64),
        (&[1040, 1030], DType::F32),
        (&[1001, 601], DType::F64),
        (&[3, 480, 500], DType::F64),
        (&[2048, 2500], DType::Bool),
    ] {
        let (x, rank) = (tensor(shape, dtype), shape.len());
        let from = bits(&x);
        let (m, n) = (shape[rank - 2], shape[rank - 1]);
        let of = |at: usize| {
            let (plane, row, column) = (at / (m * n), at % (m * n) / m, at % m);
            from[(plane * m + column) * n + row]
        };
        let expected: Vec<u64> = (0..from.len()).map(of).collect();
        check((shape, dtype), &expected, |g| g.constant(&x).t())?;
    }
    Ok(())
}

#[test]
fn slices_and_their_gradients() -> Result<()> {
    for ((shape, dtype), step) in all().flat_map(|s| [1isize, 2, 3, -1, -2].map(|k| (s, k))) {
        let x = tensor(shape, dtype);
        for (axis, &n) in shape.iter().enumerate() {
            let n = n as isize;
            for (start, end) in [(0, n), (n / 3, n / 2), (1, n)] {
                let mut places: Vec<usize> = (start..end).map(|k| k as usize).collect();
                if step < 0 {
                    places.reverse();
                }
                let places: Vec<usize> = places.into_iter().step_by(step.unsigned_abs()).collect();
                let mut sizes = shape.to_vec();
                sizes[axis] = places.len();
                let expected = moved(&x, &sizes, |i| {
                    let mut from = i.to_vec();
                    from[axis] = places[i[axis]];
                    Some(from)
                });
                let name = (shape, dtype, axis, (start, end, step));
                check(name, &expected, |g| {
                    g.constant(&x).slice_step(axis as isize, start..end, step)
                })?;
                if !dtype.is_float() {
                    continue;
                }
                // the gradient of Σ y·c is c where y was taken from
                let c = tensor(&sizes, dtype);
                let mut back = vec![None; shape[axis]];
                places
                    .iter()
                    .enumerate()
                    .for_each(|(k, &p)| back[p] = Some(k));
                let expected = moved(&c, shape, |i| {
                    let mut from = i.to_vec();
                    from[axis] = back[i[axis]]?;
                    Some(from)
                });
                check(("gradient", name), &expected, |g| {
                    let v = g.input(&x);
                    let y = v.slice_step(axis as isize, start..end, step) * g.constant(&c);
                    g.grads(y.sum(), &[v])[0]
                })?;
            }
        }
    }
    Ok(())
}

/// Slices of one array that overlap, that are equal, and along several axes.
#[test]
fn gradients_of_many_slices() -> Result<()> {
    let (m, n) = (30, 200);
    let x = tensor(&[m, n], DType::I64).cast(DType::F64)?;
    let places: Vec<(isize, isize, isize)> = (0..300)
        .map(|k| {
            let (axis, size) = [(0, m), (1, n)][random(k, 2)];
            let start = random(k + 1, size) as isize;
            (
                axis,
                start,
                (start + 1 + random(k + 2, 3) as isize).min(size as isize),
            )
        })
        .collect();
    let mut counts = vec![0.0f64; m * n];
    for (k, &(axis, start, end)) in places.iter().enumerate() {
        for (at, count) in counts.iter_mut().enumerate() {
            let i = [at / n, at % n][axis as usize] as isize;
            *count += if (start..end).contains(&i) {
                k as f64
            } else {
                0.0
            };
        }
    }
    let expected: Vec<u64> = counts.into_iter().map(f64::to_bits).collect();
    check("many slices", &expected, |g| {
        let v = g.input(&x);
        let of = |(k, &(axis, start, end)): (usize, &(isize, isize, isize))| {
            v.slice(axis, start..end).sum() * k as f64
        };
        let sum = places.iter().enumerate().map(of).reduce(|a, b| a + b);
        g.grads(sum.expect("some"), &[v])[0]
    })
}

#[test]
fn joined_padded_and_repeated() -> Result<()> {
    for (shape, dtype) in all() {
        for (axis, &n) in shape.iter().enumerate() {
            let sized = |size: usize| {
                let mut sizes = shape.to_vec();
                sizes[axis] = size;
                sizes
            };
            let parts: Vec<Tensor> = [n, 1, 0, 3, 2 * n].map(|k| tensor(&sized(k), dtype)).into();
            let sizes = sized(parts.iter().map(|p| p.shape()[axis]).sum());
            let all: Vec<Vec<u64>> = parts.iter().map(bits).collect();
            let one = |at: usize| {
                let (mut i, mut part) = (index(at, &sizes), 0);
                while i[axis] >= parts[part].shape()[axis] {
                    i[axis] -= parts[part].shape()[axis];
                    part += 1;
                }
                all[part][position(&i, parts[part].shape())]
            };
            let expected: Vec<u64> = (0..sizes.iter().product()).map(one).collect();
            let name = (shape, dtype, axis);
            check(("concat", name), &expected, |g| {
                let vars: Vec<Var<'_>> = parts.iter().map(|p| g.constant(p)).collect();
                g.concat(&vars, axis as isize)
            })?;
            let times = 3;
            for is_tile in [false, true] {
                let expected = moved(&parts[0], &sized(times * n), |i| {
                    let mut from = i.to_vec();
                    from[axis] = if is_tile {
                        i[axis] % n
                    } else {
                        i[axis] / times
                    };
                    Some(from)
                });
                check(("repeat", is_tile, name), &expected, |g| {
                    let (v, axis) = (g.constant(&parts[0]), axis as isize);
                    if is_tile {
                        v.tile(times, axis)
                    } else {
                        v.repeat(times, axis)
                    }
                })?;
            }
        }
    }
    Ok(())
}

fn triangle(v: Var<'_>, k: isize, is_upper: bool) -> Var<'_> {
    if is_upper { v.triu(k) } else { v.tril(k) }
}

/// Triangles, and diagonals as matrices, with their gradients.
#[test]
fn triangles() -> Result<()> {
    for (shape, dtype) in all().filter(|(shape, _)| shape.len() > 1) {
        let x = tensor(shape, dtype);
        let [.., m, n] = *shape else { continue };
        for k in [0, 1, -1, 65, -130, isize::MIN, isize::MAX] {
            for is_upper in [false, true] {
                let expected = moved(&x, shape, |i| {
                    let above = i[i.len() - 1] as isize - i[i.len() - 2] as isize;
                    let is_kept = if is_upper { above >= k } else { above <= k };
                    is_kept.then(|| i.to_vec())
                });
                let name = (shape, dtype, k, is_upper);
                check(name, &expected, |g| triangle(g.constant(&x), k, is_upper))?;
                if dtype.is_float() && m * n > 0 && (-1..=1).contains(&k) {
                    check(("gradient", name), &expected, |g| {
                        let v = g.input(tensor(shape, DType::I64).cast(dtype).expect("a cast"));
                        g.grads((triangle(v, k, is_upper) * g.constant(&x)).sum(), &[v])[0]
                    })?;
                }
            }
        }
    }
    for (n, dtype) in [0, 1, 2, 7, 128, 200]
        .into_iter()
        .flat_map(|n| DTYPES.map(|d| (n, d)))
    {
        let x = tensor(&[n], dtype);
        let expected = moved(&x, &[n, n], |i| (i[0] == i[1]).then(|| vec![i[0]]));
        check(("diag", n, dtype), &expected, |g| g.constant(&x).diag())?;
        if dtype.is_float() {
            check(("gradient of diag", n, dtype), &bits(&x), |g| {
                let v = g.input(tensor(&[n], DType::I64).cast(dtype).expect("a cast"));
                g.grads((v.diag() * g.constant(&x).diag()).sum(), &[v])[0]
            })?;
        }
    }
    Ok(())
}

/// Integers and booleans reduced over all sets of axes, and the positions of extremes.
#[test]
fn reductions_of_integers_and_booleans() -> Result<()> {
    for shape in SHAPES
        .into_iter()
        .chain([&[70, 3, 40, 9][..], &[2, 1030, 700]])
    {
        let (x, y) = (tensor(shape, DType::I64), tensor(shape, DType::Bool));
        // large ones, whose sums over some of the axes would not fit
        let wide = |k: usize| (random(k, 1 << 20) as i64 - (1 << 19)) << 44;
        let count = shape.iter().product();
        let wide = Tensor::new(shape, (0..count).map(wide).collect())?;
        let rank = shape.len();
        for set in 1..1usize << rank {
            let axes: Vec<isize> = (0..rank)
                .filter(|k| set >> k & 1 == 1)
                .map(|k| k as isize)
                .collect();
            let kept: Vec<usize> = (0..rank).filter(|k| set >> k & 1 == 0).collect();
            let sizes: Vec<usize> = kept.iter().map(|&k| shape[k]).collect();
            let groups = |x: &Tensor| {
                let mut groups = vec![Vec::new(); sizes.iter().product()];
                for (at, v) in x.to_f64s().into_iter().enumerate() {
                    let i = index(at, shape);
                    let to: Vec<usize> = kept.iter().map(|&k| i[k]).collect();
                    groups[position(&to, &sizes)].push(v as i64);
                }
                groups
            };
            let [gx, gy, gw] = [&x, &y, &wide].map(groups);
            let of = |x: &[Vec<i64>], f: &dyn Fn(&[i64]) -> i64| -> Vec<u64> {
                x.iter().map(|g| (f(g) as f64).to_bits()).collect()
            };
            let sum = |g: &[i64]| i64::try_from(g.iter().map(|&v| i128::from(v)).sum::<i128>());
            let name = (shape, &axes);
            check(("sum", name), &of(&gx, &|g| sum(g).unwrap_or(0)), |g| {
                g.constant(&x).sum_axis(&axes)
            })?;
            if gw.iter().all(|g| sum(g).is_ok()) {
                let expected = of(&gw, &|g| sum(g).unwrap_or(0));
                check(("wide sum", name), &expected, |g| {
                    g.constant(&wide).sum_axis(&axes)
                })?;
            } else {
                let g = Graph::new();
                let refused = g.constant(&wide).sum_axis(&axes).value();
                assert!(
                    refused.is_err_and(|e| e.message().contains("does not fit")),
                    "{name:?}"
                );
            }
            check(("count", name), &of(&gy, &|g| g.iter().sum()), |g| {
                g.constant(&y).sum_axis(&axes)
            })?;
            check(
                ("all", name),
                &of(&gy, &|g| i64::from(g.iter().all(|v| *v == 1))),
                |g| g.constant(&y).all_axis(&axes),
            )?;
            check(
                ("any", name),
                &of(&gy, &|g| i64::from(g.contains(&1))),
                |g| g.constant(&y).any_axis(&axes),
            )?;
            if gx.iter().all(|g| !g.is_empty()) {
                let largest = |g: &[i64]| *g.iter().max().expect("some");
                let smallest = |g: &[i64]| *g.iter().min().expect("some");
                check(("max", name), &of(&gx, &largest), |g| {
                    g.constant(&x).max_axis(&axes)
                })?;
                check(("min", name), &of(&gx, &smallest), |g| {
                    g.constant(&x).min_axis(&axes)
                })?;
            }
        }
    }
    Ok(())
}

/// The first of the largest or smallest elements, or the first NaN.
#[test]
fn positions_of_extremes() -> Result<()> {
    for ((shape, dtype), is_rare) in all().flat_map(|s| [false, true].map(|rare| (s, rare))) {
        // without NaN and infinities too, and with many equal elements
        let x = match is_rare {
            true => tensor(shape, DType::I64).cast(dtype)?,
            false => tensor(shape, dtype),
        };
        let all = x.to_f64s();
        for (axis, &n) in shape.iter().enumerate().filter(|(_, n)| **n > 0) {
            let mut sizes = shape.to_vec();
            sizes.remove(axis);
            let best = |is_better: fn(f64, f64) -> bool| -> Vec<u64> {
                let one = |at: usize| {
                    let mut i = index(at, &sizes);
                    i.insert(axis, 0);
                    let value = |k: usize| {
                        let mut i = i.clone();
                        i[axis] = k;
                        all[position(&i, shape)]
                    };
                    let better = |best: usize, k: usize| {
                        let (a, b) = (value(k), value(best));
                        if is_better(a, b) || a.is_nan() && !b.is_nan() {
                            k
                        } else {
                            best
                        }
                    };
                    ((0..n).reduce(better).unwrap_or(0) as f64).to_bits()
                };
                (0..sizes.iter().product()).map(one).collect()
            };
            let (name, at) = ((shape, dtype, axis, is_rare), axis as isize);
            check(("argmax", name), &best(|a, b| a > b), |g| {
                g.constant(&x).argmax(at)
            })?;
            check(("argmin", name), &best(|a, b| a < b), |g| {
                g.constant(&x).argmin(at)
            })?;
        }
    }
    // a NaN or the extreme at any place of a line
    for (n, at) in [1, 7, 15, 16, 17, 1023, 1025, 3000]
        .into_iter()
        .flat_map(|n| [0, n / 2, n - 1].map(|at| (n, at)))
    {
        let one = |is: bool| (0..n).map(|k| (k == at) == is).collect::<Vec<bool>>();
        let truth = |is: bool| [u64::from(is) * 1f64.to_bits()];
        check(("any", n, at), &truth(true), |g| {
            g.constant(one(true)).any()
        })?;
        check(("all", n, at), &truth(false), |g| {
            g.constant(one(false)).all()
        })?;
        check(("any", n), &truth(false), |g| {
            g.constant(vec![false; n]).any()
        })?;
        check(("all", n), &truth(true), |g| {
            g.constant(vec![true; n]).all()
        })?;
        for value in [f64::NAN, f64::INFINITY, 1.0] {
            let mut line = vec![-0.0; n];
            (line[at], line[n - 1]) = (value, value);
            let at = vec![(at as f64).to_bits()];
            check((n, &at, value), &at, |g| g.constant(&line[..]).argmax(0))?;
            line.iter_mut().for_each(|v| *v = -*v);
            check((n, &at, -value), &at, |g| g.constant(&line[..]).argmin(0))?;
        }
    }
    Ok(())
}

/// Comparisons, choices and logic, whose operands are as large as the result, rows, columns or single
/// elements.
#[test]
fn comparisons_and_choices() -> Result<()> {
    for (shape, dtype) in all() {
        let rank = shape.len();
        let narrow = |axes: &[usize]| {
            let mut sizes = shape.to_vec();
            axes.iter().for_each(|&k| sizes[k] = sizes[k].min(1));
            sizes
        };
        let others = [
            narrow(&[]),
            narrow(&[0]),
            narrow(&[rank - 1]),
            vec![1; rank],
        ];
        for other in others {
            let (a, b) = (tensor(shape, dtype), tensor(&other, dtype));
            let (c, d) = (tensor(shape, DType::Bool), tensor(&other, DType::Bool));
            let seen = |x: &Tensor| -> Vec<f64> {
                let (all, sizes) = (x.to_f64s(), x.shape().to_vec());
                let one = |at: usize| {
                    let i: Vec<usize> = index(at, shape)
                        .iter()
                        .zip(&sizes)
                        .map(|(i, n)| i % n)
                        .collect();
                    all[position(&i, &sizes)]
                };
                (0..shape.iter().product()).map(one).collect()
            };
            let (p, q, r, s) = (seen(&a), seen(&b), seen(&c), seen(&d));
            let of = |f: &dyn Fn(usize) -> f64| -> Vec<u64> {
                let bits = |v: f64| if v.is_nan() { u64::MAX } else { v.to_bits() };
                (0..p.len()).map(|k| bits(f(k))).collect()
            };
            let truth = |is: bool| f64::from(u8::from(is));
            let name = (shape, &other, dtype);
            check(("eq", name), &of(&|k| truth(p[k] == q[k])), |g| {
                g.constant(&a).eq(g.constant(&b))
            })?;
            check(("ne", name), &of(&|k| truth(p[k] != q[k])), |g| {
                g.constant(&a).ne(g.constant(&b))
            })?;
            check(("lt", name), &of(&|k| truth(p[k] < q[k])), |g| {
                g.constant(&a).lt(g.constant(&b))
            })?;
            check(("ge", name), &of(&|k| truth(p[k] >= q[k])), |g| {
                g.constant(&a).ge(g.constant(&b))
            })?;
            let chosen = of(&|k| if s[k] == 1.0 { p[k] } else { q[k] });
            check(("select", name), &chosen, |g| {
                g.constant(&d).select(g.constant(&a), g.constant(&b))
            })?;
            check(("and", name), &of(&|k| truth(r[k] + s[k] == 2.0)), |g| {
                g.constant(&c) & g.constant(&d)
            })?;
            check(("or", name), &of(&|k| truth(r[k] + s[k] > 0.0)), |g| {
                g.constant(&d) | g.constant(&c)
            })?;
            check(("not", name), &of(&|k| 1.0 - r[k]), |g| !g.constant(&c))?;
        }
    }
    Ok(())
}

/// Positions, of which some count from the end.
fn positions(shape: &[usize], n: usize) -> Tensor {
    let one = |k: usize| random(k, n) as i64 - if k.is_multiple_of(5) { n as i64 } else { 0 };
    Tensor::new(shape, (0..shape.iter().product()).map(one).collect()).expect("the sizes agree")
}

fn resolve(p: f64, n: usize) -> usize {
    if p < 0.0 {
        n - (-p) as usize
    } else {
        p as usize
    }
}

#[test]
fn elements_and_rows_at_positions() -> Result<()> {
    for (shape, dtype) in all() {
        let x = tensor(shape, dtype);
        for (axis, &n) in shape.iter().enumerate().filter(|(_, n)| **n > 0) {
            for count in [1, 5, n, 300] {
                let mut sizes = shape.to_vec();
                sizes[axis] = count;
                if sizes.iter().product::<usize>() > 150_000 {
                    continue;
                }
                let (each, rows) = (positions(&sizes, n), positions(&[count], n));
                let (at_each, at_rows) = (each.to_f64s(), rows.to_f64s());
                let from = |i: &[usize], p: f64| {
                    let mut from = i.to_vec();
                    from[axis] = resolve(p, n);
                    Some(from)
                };
                let name = (shape, dtype, axis, count);
                let expected = moved(&x, &sizes, |i| from(i, at_each[position(i, &sizes)]));
                check(("gather", name), &expected, |g| {
                    g.constant(&x).gather(axis as isize, g.constant(&each))
                })?;
                let expected = moved(&x, &sizes, |i| from(i, at_rows[i[axis]]));
                check(("take", name), &expected, |g| {
                    g.constant(&x).take(g.constant(&rows), axis as isize)
                })?;
            }
        }
    }
    Ok(())
}

/// Terms of one place are added in order: of f32 in f64, of f64 with the rounding errors.
#[test]
fn sums_at_positions_are_in_order() -> Result<()> {
    // of few and of many places, and of rows that are added one by one or all at once
    const CASES: [(&[usize], usize); 7] = [
        (&[100_003], 7),
        (&[100_003], 70_000),
        (&[1025, 3], 200),
        (&[2_000, 20], 100),
        (&[300, 130], 20),
        (&[7, 5_000, 1], 300),
        (&[200, 3, 70], 3_000),
    ];
    for ((shape, n), dtype) in CASES.into_iter().flat_map(|c| DTYPES.map(|d| (c, d))) {
        if !dtype.is_float() {
            continue;
        }
        let axis = usize::from(shape[0] < shape[1.min(shape.len() - 1)]);
        let (mut sizes, x) = (shape.to_vec(), tensor(shape, dtype));
        sizes[axis] = n;
        let (each, rows) = (positions(shape, n), positions(&[shape[axis]], n));
        let (at_each, at_rows) = (each.to_f64s(), rows.to_f64s());
        let expected = |at: &dyn Fn(usize, &[usize]) -> f64| -> Vec<u64> {
            let mut sums = vec![(0.0f64, 0.0f64); sizes.iter().product()];
            for (k, v) in x.to_f64s().into_iter().enumerate() {
                let mut to = index(k, shape);
                to[axis] = resolve(at(k, &to), n);
                let (sum, error) = &mut sums[position(&to, &sizes)];
                let v = if dtype == DType::F64 { v + *error } else { v };
                let lost = v - ((*sum + v) - *sum);
                (*sum, *error) = (*sum + v, if lost.is_finite() { lost } else { 0.0 });
            }
            let of = |(sum, _)| {
                if dtype == DType::F32 {
                    f64::from(sum as f32)
                } else {
                    sum
                }
            };
            let bits = |v: f64| if v.is_nan() { u64::MAX } else { v.to_bits() };
            sums.into_iter().map(|sum| bits(of(sum))).collect()
        };
        let (zeros, name) = (Tensor::zeros(&sizes[..], dtype)?, (shape, dtype, n));
        // the gradients of Σ y·x
        check(("gather", name), &expected(&|k, _| at_each[k]), |g| {
            let table = g.input(&zeros);
            let y = table.gather(axis as isize, g.constant(&each));
            g.grads((y * g.constant(&x)).sum(), &[table])[0]
        })?;
        check(("take", name), &expected(&|_, to| at_rows[to[axis]]), |g| {
            let table = g.input(&zeros);
            let y = table.take(g.constant(&rows), axis as isize);
            g.grads((y * g.constant(&x)).sum(), &[table])[0]
        })?;
    }
    Ok(())
}

/// Whole numbers: their sums are exact in any order.
#[test]
fn sums_at_positions() -> Result<()> {
    for (shape, dtype) in all().filter(|(_, dtype)| dtype.is_float()) {
        let x = tensor(shape, DType::I64);
        let values = x.to_f64s();
        for (axis, n) in (0..shape.len()).flat_map(|axis| [1, 4, 70_000].map(|n| (axis, n))) {
            let mut sizes = shape.to_vec();
            sizes[axis] = n;
            if sizes.iter().product::<usize>() > 400_000 {
                continue;
            }
            let (each, rows) = (positions(shape, n), positions(&[shape[axis]], n));
            let (at_each, at_rows) = (each.to_f64s(), rows.to_f64s());
            let expected = |at: &dyn Fn(usize, &[usize]) -> f64| {
                let mut sums = vec![0.0; sizes.iter().product()];
                for (k, v) in values.iter().enumerate() {
                    let mut to = index(k, shape);
                    to[axis] = resolve(at(k, &to), n);
                    sums[position(&to, &sizes)] += v;
                }
                sums.into_iter().map(f64::to_bits).collect::<Vec<u64>>()
            };
            let (zeros, name) = (Tensor::zeros(&sizes[..], dtype)?, (shape, dtype, axis, n));
            check(("scatter_add", name), &expected(&|k, _| at_each[k]), |g| {
                let (table, v) = (g.constant(&zeros), g.constant(&x).cast(dtype));
                table.scatter_add(axis as isize, g.constant(&each), v)
            })?;
            // the gradient of Σ take(table)·v adds v at the rows
            check(
                ("index_add", name),
                &expected(&|_, to| at_rows[to[axis]]),
                |g| {
                    let (table, v) = (g.input(&zeros), g.constant(&x).cast(dtype));
                    let taken = table.take(g.constant(&rows), axis as isize);
                    g.grads((taken * v).sum(), &[table])[0]
                },
            )?;
        }
    }
    Ok(())
}

/// The first position that is wrong is told, whatever thread comes to it.
#[test]
fn positions_out_of_range() -> Result<()> {
    in_pools(|| {
        for (n, bad) in [(7, 3), (100_003, 60_000)] {
            let mut at: Vec<i64> = (0..n).map(|k| random(k, 50) as i64).collect();
            (at[bad], at[n - 1]) = (50, -51);
            let g = Graph::new();
            let (x, at) = (g.input(Tensor::full(50, 1.0)?), g.constant(at));
            let source = g.constant(Tensor::full(n, 1.0)?);
            for y in [
                x.take(at, 0),
                x.gather(0, at),
                x.scatter_add(0, at, source),
                at.one_hot(50, DType::F32),
            ] {
                let e = y
                    .value()
                    .expect_err("a position is out of range")
                    .to_string();
                assert!(e.contains(&format!("(element {bad})")), "{e}");
            }
        }
        Ok(())
    })
}

/// The order of the lines along an axis, of which the first `size` positions are kept.
fn order(x: &Tensor, axis: usize, largest_first: bool, size: usize) -> Vec<u64> {
    // NaN is larger than everything, both zeros are equal
    let compare = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(&b).expect("numbers"),
        (a, b) => a.cmp(&b),
    };
    let (shape, values) = (x.shape(), x.to_f64s());
    let (mut to, mut lines) = (shape.to_vec(), shape.to_vec());
    (to[axis], lines[axis]) = (size, 1);
    let mut out = vec![0u64; to.iter().product()];
    for line in 0..lines.iter().product() {
        let mut i = index(line, &lines);
        let mut at = Vec::new();
        for k in 0..shape[axis] {
            i[axis] = k;
            at.push((values[position(&i, shape)], k));
        }
        at.sort_by(|a, b| match largest_first {
            true => compare(b.0, a.0),
            false => compare(a.0, b.0),
        });
        for (k, (_, from)) in at.into_iter().take(size).enumerate() {
            i[axis] = k;
            out[position(&i, &to)] = (from as f64).to_bits();
        }
    }
    out
}

#[test]
fn orders() -> Result<()> {
    for (shape, dtype) in all() {
        let x = tensor(shape, dtype);
        for (axis, &n) in shape.iter().enumerate() {
            let (name, along) = ((shape, dtype, axis), axis as isize);
            let expected = order(&x, axis, false, n);
            check(("argsort", name), &expected, |g| {
                g.constant(&x).argsort(along)
            })?;
            for k in [0, 1, 2, n / 20, n / 2, n].into_iter().filter(|&k| k <= n) {
                let expected = order(&x, axis, true, k);
                check(("topk", k, name), &expected, |g| {
                    g.constant(&x).topk(k, along).1
                })?;
            }
        }
    }
    Ok(())
}

/// Numbers that differ in few bits, in many, and in the lowest ones only.
#[test]
fn orders_of_bit_patterns() -> Result<()> {
    let masks = [0xFF, u64::MAX, 0xFFFF, 1 << 63 | 1 << 40 | 3, 1 << 63 | 1];
    for (n, mask) in [99, 100, 5_000, 40_000]
        .into_iter()
        .flat_map(|n| masks.map(|m| (n, m)))
    {
        let one = |k: usize| (random(k, usize::MAX) as u64 & mask ^ 1 << 62) as i64;
        let all: Vec<i64> = (0..n).map(one).collect();
        let mut expected: Vec<i64> = (0..n as i64).collect();
        expected.sort_by_key(|&k| all[k as usize]);
        let order = Graph::new().constant(all).argsort(0).value()?;
        assert_eq!(order.as_slice::<i64>()?, expected, "{n} numbers, {mask:x}");
    }
    Ok(())
}

/// Of whole numbers, whose sums are exact.
#[test]
fn cumulative_sums() -> Result<()> {
    for (shape, dtype) in all() {
        let x = match dtype {
            DType::Bool => tensor(shape, dtype),
            _ => tensor(shape, DType::I64).cast(dtype)?,
        };
        let values = x.to_f64s();
        for axis in 0..shape.len() {
            let sums = |back: bool| {
                let (mut sums, count) = (values.clone(), values.len());
                for at in (0..count).map(|k| if back { count - 1 - k } else { k }) {
                    let mut i = index(at, shape);
                    i[axis] = if back {
                        i[axis] + 1
                    } else {
                        i[axis].wrapping_sub(1)
                    };
                    if i[axis] < shape[axis] {
                        sums[at] += sums[position(&i, shape)];
                    }
                }
                sums.iter()
                    .map(|v| (v + 0.0).to_bits())
                    .collect::<Vec<u64>>()
            };
            let (name, along) = ((shape, dtype, axis), axis as isize);
            check(("cumsum", name), &sums(false), |g| {
                g.constant(&x).cumsum(along)
            })?;
            if dtype.is_float() {
                check(("gradient", name), &sums(true), |g| {
                    let v = g.input(&x);
                    g.grads((v.cumsum(along) * v.detach()).sum(), &[v])[0]
                })?;
            }
        }
    }
    Ok(())
}

/// The same numbers for any number of threads, also as a part of longer streams.
#[test]
fn random_numbers_have_their_places() -> Result<()> {
    let draw = |n: usize| -> Result<Vec<Vec<u64>>> {
        let mut all = Vec::new();
        for dtype in [DType::F32, DType::F64] {
            all.push(bits(&Graph::with_seed(3).uniform([n], dtype).value()?));
            all.push(bits(&Graph::with_seed(3).normal([n], dtype).value()?));
        }
        for p in [0.0, 0.3, 1.0] {
            all.push(bits(&Graph::with_seed(3).bernoulli(p, [n]).value()?));
        }
        Ok(all)
    };
    let longest = draw(100_003)?;
    in_pools(|| {
        for n in [1, 7, 255, 256, 257, 1025, 30_001, 100_003] {
            for (k, (all, longest)) in draw(n)?.iter().zip(&longest).enumerate() {
                assert!(all[..] == longest[..n], "{n} numbers of kind {k}");
            }
        }
        Ok(())
    })
}

type OfTwo = for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>;
type OfNumbers = fn(f64, f64) -> f64;

#[test]
fn integers_booleans_and_casts() -> Result<()> {
    let ops: [(OfTwo, OfNumbers); 8] = [
        (|a, b| a + b, |a, b| a + b),
        (|a, b| b - a, |a, b| b - a),
        (|a, b| a * b, |a, b| a * b),
        (|a, b| a.maximum(b), f64::max),
        (|a, b| a.lt(b), |a, b| f64::from(a < b)),
        (|a, b| b.eq(a), |a, b| f64::from(a == b)),
        (|a, b| a.lt(b).select(b, a), f64::max),
        (
            |a, b| a.gt(0).and(b.gt(0)),
            |a, b| f64::from(a > 0.0 && b > 0.0),
        ),
    ];
    let shapes: [(&[usize], &[usize]); 4] = [
        (&[100_003], &[1]),
        (&[300, 400], &[400]),
        (&[300, 400], &[300, 1]),
        (&[3, 2], &[3, 2]),
    ];
    for (shape, other) in shapes {
        let (x, y) = (tensor(shape, DType::I64), tensor(other, DType::I64));
        let (a, b) = (x.to_f64s(), y.to_f64s());
        let at = |k: usize| {
            let i = &index(k, shape)[shape.len() - other.len()..];
            let from: Vec<usize> = i.iter().zip(other).map(|(i, n)| i % n).collect();
            b[position(&from, other)]
        };
        for (k, (op, value)) in ops.iter().enumerate() {
            let all = a.iter().enumerate().map(|(k, &a)| value(a, at(k)) + 0.0);
            let expected: Vec<u64> = all.map(f64::to_bits).collect();
            check(("op", k, shape), &expected, |g| {
                op(g.constant(&x), g.constant(&y))
            })?;
        }
        for dtype in DTYPES {
            let cast = |&a: &f64| {
                if dtype == DType::Bool {
                    f64::from(a != 0.0)
                } else {
                    a
                }
            };
            let expected: Vec<u64> = a.iter().map(|a| cast(a).to_bits()).collect();
            check(("cast", dtype), &expected, |g| g.constant(&x).cast(dtype))?;
            let there = x.cast(dtype)?;
            check(("back", dtype), &expected, |g| {
                g.constant(&there).cast(DType::I64)
            })?;
        }
    }
    Ok(())
}

/// Says which value does not fit, the first one.
#[test]
fn casts_that_do_not_fit() -> Result<()> {
    in_pools(|| {
        let mut all: Vec<f64> = (0..100_003).map(|k| k as f64).collect();
        (all[50_000], all[90_000]) = (1e19, f64::NAN);
        let g = Graph::new();
        let e = g
            .constant(all)
            .cast(DType::I64)
            .value()
            .expect_err("too large");
        assert!(
            e.to_string().contains("10000000000000000000 does not fit"),
            "{e}"
        );
        Ok(())
    })
}

/// The mean of each line along the last axis, plus a number of a table that is not cut; an error for
/// a negative mean.
#[derive(Clone, PartialEq, Debug)]
struct Means {
    split: Split,
    may_fail: bool,
}

impl Op for Means {
    const NAME: &'static str = "means";
    fn infer(&self, x: &[Type]) -> std::result::Result<Type, OpError> {
        let outer = &x[0].shape[..x[0].shape.len() - 1];
        Ok(Type::new(DType::F64, Shape::new(outer)?))
    }
    fn eval(
        &self,
        x: &[TensorView<'_>],
        mut out: TensorViewMut<'_>,
    ) -> std::result::Result<(), OpError> {
        let n = x[0].shape()[x[0].shape().len() - 1];
        let table = x[1].slice::<f64>()?;
        for (line, out) in x[0].slice::<f64>()?.chunks(n).zip(out.slice::<f64>()?) {
            *out = line.iter().sum::<f64>() / n as f64 + table[n % table.len()];
            if self.may_fail && *out < 0.0 {
                return Err(OpError::new(format!("{out} is negative")));
            }
        }
        Ok(())
    }
    fn vjp<'g>(&self, _: usize, _: &Rule<'_, 'g>) -> Option<Var<'g>> {
        None
    }
    fn split(&self, _: &[Type]) -> Split {
        self.split
    }
}

#[test]
fn ops_of_users() -> Result<()> {
    in_pools(|| {
        for shape in [
            &[1, 3][..],
            &[700, 30],
            &[1, 900, 30],
            &[2, 3, 400, 20],
            &[2, 2, 2, 3000],
        ] {
            let axes = shape.len() - 1;
            let x = tensor(shape, DType::I64).cast(DType::F64)?;
            let whole = |may_fail: bool, split: Split| {
                let g = Graph::new();
                let all = [
                    g.constant(&x),
                    g.constant([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
                ];
                g.apply(Means { split, may_fail }, &all).value()
            };
            let expected = whole(false, Split::No)?;
            for axes in 1..=axes {
                let split = Split::Leading { axes, inputs: 0b01 };
                assert_eq!(
                    bits(&whole(false, split)?),
                    bits(&expected),
                    "{shape:?}, {axes}"
                );
                // the first line that fails is told
                let (a, b) = (whole(true, split), whole(true, Split::No));
                assert_eq!(
                    a.map_err(|e| e.message().to_string()),
                    b.map_err(|e| e.message().to_string())
                );
            }
        }
        Ok(())
    })
}
