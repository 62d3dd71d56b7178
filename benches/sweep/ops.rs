//! What the names of single operations in the list of cases mean.

use super::{Case, programs};
use autograd::{DType, Graph, Var};

/// The outputs of a case for these inputs; an error in the first one if the name is unknown.
pub(super) fn apply<'g>(case: &Case, g: &'g Graph, x: &[Var<'g>]) -> Vec<Var<'g>> {
    let one = elementwise(&case.op, case, x)
        .or_else(|| reductions(case, x))
        .or_else(|| rows(case, x))
        .or_else(|| matrices(case, g, x))
        .or_else(|| layouts(case, g, x))
        .or_else(|| indices(case, x))
        .or_else(|| random(case, g, x))
        .or_else(|| programs::apply(case, g, x));
    match (one, &case.op[..]) {
        (Some(y), _) => vec![y],
        (None, "split") => {
            let (axis, n) = axis_and_size(case, x[0]);
            x[0].split([n / 2, n - n / 2], axis)
        }
        (None, "topk") => {
            let (values, positions) = x[0].topk(case.number("k", 1.0) as usize, axis(case));
            vec![values, positions]
        }
        (None, name) => vec![g.constant(0.0).fail(&format!("unknown op {name}"))],
    }
}

/// The only axis of a case.
fn axis(case: &Case) -> isize {
    case.number("axis", 0.0) as isize
}

/// The only axis of a case and its size.
fn axis_and_size(case: &Case, x: Var<'_>) -> (isize, usize) {
    let axis = axis(case);
    (axis, x.shape().map_or(0, |s| s[axis as usize]))
}

/// A shape among the keys.
fn shape(case: &Case, key: &str) -> Vec<isize> {
    case.list(key).unwrap_or_default()
}

/// Operations whose name is that of a method without arguments.
macro_rules! named {
    ($name:expr, $x:expr; $($method:ident)*; $($binary:ident)*) => {
        match $name {
            $(stringify!($method) => Some($x[0].$method()),)*
            $(stringify!($binary) => Some($x[0].$binary($x[1])),)*
            _ => None,
        }
    };
}

fn elementwise<'g>(name: &str, case: &Case, x: &[Var<'g>]) -> Option<Var<'g>> {
    let by_name = named! { name, x;
        abs sign square sqrt rsqrt recip exp expm1 ln ln_1p sin cos tan asin acos atan sinh cosh
        tanh sigmoid log_sigmoid softplus relu gelu gelu_tanh silu erf erfc floor ceil round
        is_nan is_finite not flatten diag diagonal trace;
        pow atan2 hypot maximum minimum eq ne lt le gt ge and or dot outer matmul
    };
    by_name.or_else(|| {
        Some(match name {
            "neg" => -x[0],
            "add" => x[0] + x[1],
            "sub" => x[0] - x[1],
            "mul" => x[0] * x[1],
            "div" => x[0] / x[1],
            "rem" => x[0] % x[1],
            "powi" => x[0].powi(3),
            "powf" => x[0].powf(case.number("p", 0.5)),
            "leaky_relu" => x[0].leaky_relu(0.01),
            "elu" => x[0].elu(1.0),
            "clamp" => x[0].clamp(-0.5, 0.5),
            "select" => x[0].select(x[1], x[2]),
            "cast" => x[0].cast(match case.text("to") {
                Some("f64") => DType::F64,
                _ => DType::F32,
            }),
            _ => return None,
        })
    })
}

fn reductions<'g>(case: &Case, x: &[Var<'g>]) -> Option<Var<'g>> {
    macro_rules! over_axes {
        ($($all:ident $along:ident ($($more:expr)?);)*) => {
            match (&case.op[..], case.list("axis")) {
                $((stringify!($all), None) => Some(x[0].$all($($more)?)),
                (stringify!($all), Some(axes)) => Some(x[0].$along(&axes[..] $(, $more)?)),)*
                _ => None,
            }
        };
    }
    let several = over_axes! {
        sum sum_axis (); mean mean_axis (); max max_axis (); min min_axis (); norm norm_axis ();
        var var_axis (0); std std_axis (0); all all_axis (); any any_axis ();
    };
    several.or_else(|| match (&case.op[..], case.text("axis")) {
        ("prod", None) => Some(x[0].prod()),
        ("prod", Some(_)) => Some(x[0].prod_axis(axis(case))),
        ("argmax", _) => Some(x[0].argmax(axis(case))),
        ("argmin", _) => Some(x[0].argmin(axis(case))),
        _ => None,
    })
}

fn rows<'g>(case: &Case, x: &[Var<'g>]) -> Option<Var<'g>> {
    let axis = axis(case);
    Some(match &case.op[..] {
        "softmax" => x[0].softmax(axis),
        "log_softmax" => x[0].log_softmax(axis),
        "logsumexp" => x[0].logsumexp(axis),
        "cross_entropy" => nn::loss::cross_entropy(x[0], x[1]),
        "cross_entropy_with" => {
            nn::loss::cross_entropy_with(case.number("smoothing", 0.0), None, None)(x[0], x[1])
        }
        "cumsum" => x[0].cumsum(axis),
        "sort" => x[0].sort(axis),
        "argsort" => x[0].argsort(axis),
        _ => return None,
    })
}

fn matrices<'g>(case: &Case, g: &'g Graph, x: &[Var<'g>]) -> Option<Var<'g>> {
    Some(match &case.op[..] {
        "einsum" => g.einsum(case.text("spec").unwrap_or_default(), x),
        "tril" => x[0].tril(0),
        "triu" => x[0].triu(0),
        _ => return None,
    })
}

fn layouts<'g>(case: &Case, g: &'g Graph, x: &[Var<'g>]) -> Option<Var<'g>> {
    let (axis, times) = (axis(case), case.number("times", 2.0) as usize);
    Some(match &case.op[..] {
        "permute" => x[0].permute(&shape(case, "axes")[..]),
        "flip" => x[0].flip(axis),
        "slice" => {
            let n = axis_and_size(case, x[0]).1 as isize;
            x[0].slice(axis, n / 4..n / 4 * 3)
        }
        "slice_step" => x[0].slice_step(axis, .., case.number("step", 2.0) as isize),
        "pad" => x[0].pad(axis, 3, 5, 1.0),
        "concat" => g.concat(x, axis),
        "stack" => g.stack(x, axis),
        "repeat" => x[0].repeat(times, axis),
        "tile" => x[0].tile(times, axis),
        "broadcast_to" => x[0].broadcast_to(&shape(case, "to")[..]),
        _ => return None,
    })
}

fn indices<'g>(case: &Case, x: &[Var<'g>]) -> Option<Var<'g>> {
    let axis = axis(case);
    Some(match &case.op[..] {
        "take" => x[0].take(x[1], axis),
        "gather" => x[0].gather(axis, x[1]),
        "scatter_add" => x[0].scatter_add(axis, x[1], x[2]),
        "one_hot" => x[0].one_hot(case.number("classes", 1.0) as usize, case.dtype),
        _ => return None,
    })
}

fn random<'g>(case: &Case, g: &'g Graph, x: &[Var<'g>]) -> Option<Var<'g>> {
    let (shape, p) = (shape(case, "shape"), case.number("p", 0.5));
    Some(match &case.op[..] {
        "uniform" => g.uniform(&shape[..], case.dtype),
        "normal" => g.normal(&shape[..], case.dtype),
        "bernoulli" => g.bernoulli(p, &shape[..]),
        "dropout" => {
            let kept = x[0].shape().map(|s| g.bernoulli(1.0 - p, s)).ok()?;
            kept.select(x[0] * (1.0 / (1.0 - p)), 0.0)
        }
        _ => return None,
    })
}
