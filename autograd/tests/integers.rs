//! Integers, compared with arithmetic in 128 bits: a result is exact, or the value is an error that
//! names the cause.

use autograd::{DType, Graph, Result, Tensor, Var};
use proptest::{prelude::*, test_runner::RngSeed};

/// Values at the limits of 64-bit integers and of exact integers in floats.
const HOSTILE: [i64; 18] = [
    i64::MIN,
    i64::MIN + 1,
    -(1 << 53) - 1,
    -3_037_000_500,
    -3_037_000_499,
    -7,
    -2,
    -1,
    0,
    1,
    2,
    5,
    1 << 31,
    3_037_000_499,
    3_037_000_500,
    (1 << 53) + 1,
    i64::MAX - 1,
    i64::MAX,
];

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![prop::sample::select(&HOSTILE[..]), -9..9i64, any::<i64>()]
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7),
        ..ProptestConfig::default()
    }
}

const TOO_LARGE: &str = "does not fit in 64 bits";
const BY_ZERO: &str = "divided by zero";

/// The values if all of them exist and fit; else the reason.
fn fitting(
    exact: impl IntoIterator<Item = Option<i128>>,
) -> std::result::Result<Vec<i64>, &'static str> {
    let fit = |v: Option<i128>| i64::try_from(v.ok_or(BY_ZERO)?).map_err(|_| TOO_LARGE);
    exact.into_iter().map(fit).collect()
}

fn agrees(
    what: &str,
    got: Var<'_>,
    expected: &std::result::Result<Vec<i64>, &'static str>,
) -> std::result::Result<(), TestCaseError> {
    match (&got.value(), expected) {
        (Ok(value), Ok(expected)) => {
            let value = value
                .as_slice::<i64>()
                .map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(value, &expected[..], "{}", what);
        }
        (Err(e), Err(why)) => prop_assert!(e.message().contains(why), "{what}: {e}, not {why}"),
        (value, _) => prop_assert!(false, "{what}: {value:?}, not {expected:?}"),
    }
    Ok(())
}

type Ours = for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>;
type Exact = fn(i128, i128) -> Option<i128>;

const ELEMENTWISE: [(&str, Ours, Exact); 14] = [
    ("neg", |a, _| -a, |a, _| Some(-a)),
    ("abs", |a, _| a.abs(), |a, _| Some(a.abs())),
    ("sign", |a, _| a.sign(), |a, _| Some(a.signum())),
    ("square", |a, _| a.square(), |a, _| Some(a * a)),
    ("add", |a, b| a + b, |a, b| Some(a + b)),
    ("sub", |a, b| a - b, |a, b| Some(a - b)),
    ("mul", |a, b| a * b, |a, b| Some(a * b)),
    ("rem", |a, b| a % b, |a, b| a.checked_rem(b)),
    ("maximum", |a, b| a.maximum(b), |a, b| Some(a.max(b))),
    ("minimum", |a, b| a.minimum(b), |a, b| Some(a.min(b))),
    ("clamp", |a, b| a.clamp(b, 5), |a, b| Some(a.max(b).min(5))),
    ("select", |a, b| a.lt(b).select(a, b), |a, b| Some(a.min(b))),
    (
        "eq",
        |a, b| a.eq(b).cast(DType::I64),
        |a, b| Some((a == b).into()),
    ),
    (
        "le",
        |a, b| a.le(b).cast(DType::I64),
        |a, b| Some((a <= b).into()),
    ),
];

proptest! {
    #![proptest_config(config())]

    /// With a tensor, and with a scalar, on either side.
    #[test]
    fn elementwise(pairs in prop::collection::vec((number(), number()), 1..4)) {
        let g = Graph::new();
        let (a, b): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
        for (name, ours, exact) in ELEMENTWISE {
            let each = |b: &dyn Fn(usize) -> i64| {
                fitting(a.iter().enumerate().map(|(k, &x)| exact(x.into(), b(k).into())).collect::<Vec<_>>())
            };
            agrees(name, ours(g.constant(a.clone()), g.constant(b.clone())), &each(&|k| b[k]))?;
            agrees(name, ours(g.constant(a.clone()), g.constant(b[0])), &each(&|_| b[0]))?;
        }
        let x = g.constant(a.clone());
        let with = |exact: &dyn Fn(i128) -> Option<i128>| fitting(a.iter().map(|&x| exact(x.into())).collect::<Vec<_>>());
        let n = b[0];
        agrees("add i64", x + n, &with(&|x| Some(x + i128::from(n))))?;
        agrees("rem i64", x % n, &with(&|x| x.checked_rem(n.into())))?;
        agrees("i32 rem", 7 % x, &with(&|x| 7i128.checked_rem(x)))?;
        if let Ok(n) = usize::try_from(n) {
            agrees("mul usize", x * n, &with(&|x| Some(x * n as i128)))?;
        }
    }

    /// Only the sum itself must fit, not the intermediate sums.
    #[test]
    fn sums(x in prop::collection::vec(number(), 12)) {
        let g = Graph::new();
        let cube = g.constant(Tensor::new([2, 3, 2], x.clone())?);
        let at = |i: usize, j: usize, k: usize| i128::from(x[(i * 3 + j) * 2 + k]);
        agrees("all", cube.sum(), &fitting([Some(x.iter().map(|&x| i128::from(x)).sum())]))?;
        let middle = (0..4).map(|e| Some((0..3).map(|j| at(e / 2, j, e % 2)).sum()));
        agrees("the middle axis", cube.sum_axis(1), &fitting(middle))?;
        let outer = (0..3).map(|j| Some((0..4).map(|e| at(e / 2, j, e % 2)).sum()));
        agrees("two axes apart", cube.sum_axis([0, 2]), &fitting(outer))?;
        agrees("no axes", cube.sum_axis([0isize; 0]), &Ok(x.clone()))?;
        let mut sum = 0i128;
        let prefixes = x.iter().map(|&x| { sum += i128::from(x); Some(sum) }).collect::<Vec<_>>();
        agrees("running", g.constant(x.clone()).cumsum(0), &fitting(prefixes))?;
        let (max, min) = (x.iter().max().copied(), x.iter().min().copied());
        agrees("max", cube.max(), &Ok(max.into_iter().collect()))?;
        agrees("min", cube.min(), &Ok(min.into_iter().collect()))?;
        let first = x.iter().position(|&v| Some(v) == max).map(|k| k as i64);
        agrees("argmax", g.constant(x.clone()).argmax(0), &Ok(first.into_iter().collect()))?;
        let positive = x.iter().filter(|&&v| v > 0).count() as i64;
        agrees("count of booleans", cube.gt(0).sum(), &Ok(vec![positive]))?;
    }

    /// Floats become integers only if they fit after truncation.
    #[test]
    fn casts(x in prop_oneof![any::<f64>(), number().prop_map(|n| n as f64), Just(f64::NAN), Just(-9.3e18), Just(9.3e18)]) {
        let g = Graph::new();
        let exact = x.trunc();
        let fits = (-(2f64.powi(63))..2f64.powi(63)).contains(&exact);
        match g.constant(x).cast(DType::I64).value() {
            Ok(value) => prop_assert!(fits && value.as_slice::<i64>()? == [exact as i64]),
            Err(e) => prop_assert!(!fits && e.message().contains("does not fit in a 64-bit integer"), "{e}"),
        }
    }

    /// A position beyond the array behaves as the nearest valid one.
    #[test]
    fn positions_of_any_size(k in number(), j in number(), m in 0usize..4, n in 0usize..4) {
        let g = Graph::new();
        let all = (0..(m * n) as i64).map(|v| v + 1).collect::<Vec<_>>();
        let x = g.constant(Tensor::new([m, n], all.clone())?);
        let kept = |keep: &dyn Fn(i128) -> bool| {
            let of = |(e, &v): (usize, &i64)| if keep((e % n) as i128 - (e / n) as i128) { v } else { 0 };
            Ok(all.iter().enumerate().map(of).collect::<Vec<_>>())
        };
        agrees("tril", x.tril(k as isize), &kept(&|offset| offset <= k.into()))?;
        agrees("triu", x.triu(k as isize), &kept(&|offset| offset >= k.into()))?;
        let line = g.constant((0..7i64).collect::<Vec<_>>());
        let place = |p: i64, below: i64| if p < 0 { (i128::from(p) + 7).max(below.into()) } else { i128::from(p).min(7) };
        let (from, to) = (place(k, 0), place(j, 0));
        let between = (0..7i64).filter(|&v| i128::from(v) >= from && i128::from(v) < to).collect::<Vec<_>>();
        agrees("slice", line.slice(0, k as isize..j as isize), &Ok(between.clone()))?;
        let after = (0..7i64).filter(|&v| i128::from(v) > place(k, -1)).collect::<Vec<_>>();
        let beyond = (std::ops::Bound::Excluded(k as isize), std::ops::Bound::<isize>::Unbounded);
        agrees("slice, excluded start", line.slice(0, beyond), &Ok(after))?;
        if j != 0 {
            let step = usize::try_from(j.unsigned_abs()).unwrap_or(usize::MAX);
            let forward = (0..7i64).step_by(step).collect::<Vec<_>>();
            let expected = if j > 0 { forward } else { forward.iter().map(|v| 6 - v).collect() };
            agrees("slice with a step", line.slice_step(0, .., j as isize), &Ok(expected))?;
        }
    }
}

fn message(v: Var<'_>) -> String {
    v.value()
        .map_or_else(|e| e.to_string(), |v| format!("{v:?}"))
}

/// A literal that does not fit is an error; it is never changed.
#[test]
fn literals() -> Result<()> {
    let g = Graph::new();
    let (x, y) = (g.constant([1i64, 2]), g.constant([1.0, 2.0]));
    for v in [
        x + usize::MAX,
        x * (i64::MAX as usize + 1),
        x - 2.5,
        x + f64::NAN,
        x + 1e19,
        x.maximum(usize::MAX),
    ] {
        assert!(
            message(v).contains("does not fit a tensor of i64"),
            "{}",
            message(v)
        );
    }
    assert_eq!(
        (x - i64::MAX as usize).value()?.as_slice::<i64>()?,
        [1 - i64::MAX, 2 - i64::MAX]
    );
    assert_eq!(
        (y * usize::MAX).value()?.to_f64s(),
        [2f64.powi(64), 2f64.powi(65)]
    );
    Ok(())
}

#[test]
fn causes() {
    let g = Graph::new();
    let x = g.constant([5i64, i64::MIN]);
    for (v, cause) in [
        (x % 0, "an integer is divided by zero"),
        (x / 0, "is not defined for i64"),
        (-x, "an integer result does not fit in 64 bits"),
        (x.abs(), "an integer result does not fit in 64 bits"),
        (x.pow(x), "is not defined for i64"),
        (x.powi(2), "is not defined for i64"),
        (x.mean(), "is not defined for i64"),
        (x.slice(0, 0..0).max(), "it has no maximum or minimum"),
        (x.slice(0, 0..0).argmax(0), "it has no maximum or minimum"),
        (
            g.constant([0, -1]).one_hot(3, DType::F32),
            "label -1 (element 1) is not one of the 3 classes 0 to 2",
        ),
        (
            g.constant([0, 3]).one_hot(3, DType::F32),
            "label 3 (element 1) is not one of the 3 classes 0 to 2",
        ),
        (
            g.constant(f64::NAN).cast(DType::I64),
            "NaN does not fit in a 64-bit integer",
        ),
        (g.arange(0.0, f64::NAN, 1.0), "is not a finite sequence"),
        (
            g.arange(0.0, f64::INFINITY, 1.0),
            "is not a finite sequence",
        ),
        (x.pad(0, usize::MAX, 1, 0), "too large"),
        (x.repeat(usize::MAX, 0), "too large"),
        (x.tile(usize::MAX, 0), "too large"),
        (x.split([usize::MAX, 3], 0)[0], "do not add up"),
    ] {
        assert!(message(v).contains(cause), "{}: {cause}", message(v));
    }
}

/// `MIN % -1` is 0, although `MIN / -1` does not fit.
#[test]
fn the_remainder_of_the_smallest_integer() -> Result<()> {
    let g = Graph::new();
    let minus_one = -1;
    assert_eq!(
        (g.constant([i64::MIN, 7]) % minus_one)
            .value()?
            .as_slice::<i64>()?,
        [0, 0]
    );
    Ok(())
}

/// Empty matrices of any size take no memory.
#[test]
fn triangles_and_diagonals_of_empty_matrices() -> Result<()> {
    let g = Graph::new();
    let x = g.constant(Tensor::new([0, 1 << 20], Vec::<f64>::new())?);
    assert_eq!(x.tril(isize::MIN).value()?.shape(), [0, 1 << 20]);
    assert_eq!(x.diagonal().value()?.shape(), [0]);
    let wide = g.constant(Tensor::new([0, 1usize << 58], Vec::<f64>::new())?);
    assert_eq!(wide.diagonal().value()?.shape(), [0]);
    assert_eq!(wide.triu(1).value()?.shape(), [0, 1 << 58]);
    Ok(())
}
