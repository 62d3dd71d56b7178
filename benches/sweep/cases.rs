//! The list of cases: how it is read, and the numbers that the inputs are filled with.
//! `peers/python/cases.py` does the same.

use autograd::{DType, Result, Tensor};
use std::fmt;

/// The list, with comments that explain it.
const LIST: &str = include_str!("../peers/cases.txt");

/// One program of the sweep. Displays as its line in the list, without the family.
#[derive(Clone, Debug)]
pub struct Case {
    /// The group that it is reported in.
    pub family: String,
    /// What it computes.
    pub op: String,
    /// The type of the inputs, unless their values say something else.
    pub dtype: DType,
    /// What is asked for.
    pub mode: Mode,
    pub(super) inputs: Vec<Input>,
    params: Vec<(String, String)>,
    name: String,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The outputs.
    Forward,
    /// A weighted sum of the outputs and its gradients.
    Gradient,
    /// A loss and an update of all parameters.
    Step,
}

#[derive(Clone, Debug)]
pub(super) struct Input {
    shape: Vec<usize>,
    pub(super) layout: Layout,
    pub(super) values: Values,
    is_constant: bool,
}

/// How an input lies in memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    Contiguous,
    /// The last two axes are exchanged.
    Transposed,
    /// Every second element of the last axis of an array that is twice as long.
    Step,
    /// All but the first 8 and the last 16 elements of the last axis.
    Range,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Values {
    Between(f64, f64),
    Below(usize),
    Bool,
}

/// All cases of the list.
pub fn all() -> Vec<Case> {
    LIST.lines().flat_map(parse).collect()
}

/// The case of the list with this name.
pub fn find(name: &str) -> Option<Case> {
    all().into_iter().find(|case| case.name == name)
}

/// The cases of a line of the list: all combinations of its ops, types and modes. None if it is
/// empty or a comment. Panics with the line if it is wrong.
pub fn parse(line: &str) -> Vec<Case> {
    let line = line.split('#').next().unwrap_or_default();
    let mut fields = line.split_whitespace();
    let Some(family) = fields.next() else {
        return Vec::new();
    };
    let rest: Vec<&str> = fields.collect();
    let [ops, dtypes, modes, rest @ ..] = &rest[..] else {
        panic!("expected a family, ops, types and modes: {line}")
    };
    let mut cases = Vec::new();
    for op in ops.split(',') {
        for dtype in dtypes.split(',') {
            for mode in modes.split(',') {
                cases.push(Case::new(family, op, dtype, mode, rest));
            }
        }
    }
    cases
}

impl Case {
    fn new(family: &str, op: &str, dtype: &str, mode: &str, rest: &[&str]) -> Case {
        let (params, inputs): (Vec<&str>, Vec<&str>) = rest.iter().partition(|f| f.contains('='));
        let dtype_of = |name: &str| match name {
            "f32" => DType::F32,
            "f64" => DType::F64,
            "i64" => DType::I64,
            "bool" => DType::Bool,
            _ => panic!("{op}: unknown type {name}"),
        };
        let key = |field: &str| {
            let (key, value) = field.split_once('=').unwrap_or_default();
            (key.to_string(), value.to_string())
        };
        Case {
            family: family.into(),
            op: op.into(),
            dtype: dtype_of(dtype),
            mode: match mode {
                "fwd" => Mode::Forward,
                "grad" => Mode::Gradient,
                "step" => Mode::Step,
                _ => panic!("{op}: unknown mode {mode}"),
            },
            inputs: (inputs.into_iter().filter(|field| *field != "-"))
                .map(|field| Input::new(field, dtype_of(dtype)))
                .collect(),
            params: params.into_iter().map(key).collect(),
            name: [&[op, dtype, mode], rest].concat().join(" "),
        }
    }

    /// The value of a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let (_, value) = self.params.iter().find(|(name, _)| name == key)?;
        Some(value)
    }

    /// The number of a key.
    pub(super) fn number(&self, key: &str, default: f64) -> f64 {
        let value = self.text(key).and_then(|text| text.parse().ok());
        value.unwrap_or(default)
    }

    /// A list of axes or sizes.
    pub(super) fn list(&self, key: &str) -> Option<Vec<isize>> {
        let number = |text: &str| text.parse().expect("a number");
        self.text(key)
            .map(|text| text.split([',', 'x']).map(number).collect())
    }

    /// The same program with a few elements, for tests.
    pub fn tiny(&self) -> Case {
        let mut tiny = self.clone();
        for input in &mut tiny.inputs {
            input
                .shape
                .iter_mut()
                .for_each(|size| *size = shrink(*size));
            if let Values::Below(n) = &mut input.values {
                *n = shrink(*n);
            }
        }
        for (key, value) in &mut tiny.params {
            if ["k", "classes", "to", "shape"].contains(&&key[..]) && !value.starts_with('f') {
                let sizes = value.split('x').map(|n| n.parse().expect("a number"));
                let sizes: Vec<String> = sizes.map(|n| shrink(n).to_string()).collect();
                *value = sizes.join("x");
            }
        }
        tiny
    }
}

/// A tiny size for each size: the same for the same, and multiples of what the programs divide by.
fn shrink(size: usize) -> usize {
    match size {
        0..=4 => size,
        5..=10 => 5,
        11..=100 => 8,
        _ => match size % 3 {
            0 => 24, // three or four parts of 8
            _ if size == 512 => 32,
            _ => 8,
        },
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Input {
    /// `SHAPE[.LAYOUT][@VALUES][!]`
    fn new(field: &str, dtype: DType) -> Input {
        let (field, is_constant) = match field.strip_suffix('!') {
            Some(rest) => (rest, true),
            None => (field, false),
        };
        let (place, values) = match field.split_once('@') {
            Some((place, values)) => (place, Some(values)),
            None => (field, None),
        };
        let (shape, layout) = match place.split_once('.') {
            Some((shape, "t")) => (shape, Layout::Transposed),
            Some((shape, "s")) => (shape, Layout::Step),
            Some((shape, "r")) => (shape, Layout::Range),
            Some(_) => panic!("unknown layout: {field}"),
            None => (place, Layout::Contiguous),
        };
        let size = |text: &str| text.parse().unwrap_or_else(|_| panic!("no shape: {field}"));
        Input {
            shape: shape.split('x').map(size).collect(),
            layout,
            values: match values {
                None => Values::default_of(dtype),
                Some(text) => Values::new(text).unwrap_or_else(|| panic!("no values: {field}")),
            },
            is_constant,
        }
    }

    /// The type of its elements in a case of this type.
    pub(super) fn dtype(&self, case: DType) -> DType {
        match self.values {
            Values::Between(..) => case,
            Values::Below(_) => DType::I64,
            Values::Bool => DType::Bool,
        }
    }

    pub(super) fn has_gradient(&self, case: DType) -> bool {
        !self.is_constant && self.dtype(case).is_float()
    }

    pub(super) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The shape of the array as it is stored.
    pub(super) fn stored(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        let rank = shape.len();
        match self.layout {
            Layout::Contiguous => {}
            Layout::Transposed => shape.swap(rank - 2, rank - 1),
            Layout::Step => shape[rank - 1] *= 2,
            Layout::Range => shape[rank - 1] += 24,
        }
        shape
    }
}

impl Values {
    fn default_of(dtype: DType) -> Values {
        match dtype {
            DType::Bool => Values::Bool,
            DType::I64 => Values::Below(100),
            DType::F32 | DType::F64 => Values::Between(-1.0, 1.0),
        }
    }

    /// `a..b`, `<n` or `bool`
    fn new(text: &str) -> Option<Values> {
        if text == "bool" {
            return Some(Values::Bool);
        }
        if let Some(n) = text.strip_prefix('<') {
            return n.parse().ok().map(Values::Below);
        }
        let (low, high) = text.split_once("..")?;
        Some(Values::Between(low.parse().ok()?, high.parse().ok()?))
    }
}

/// A number for each index, as if at random (the finalizer of MurmurHash3).
fn hash(index: usize, seed: usize) -> u32 {
    let mut h = (index as u32)
        .wrapping_mul(0x9E37_79B1)
        .wrapping_add((seed as u32).wrapping_mul(0x85EB_CA77));
    h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
    h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
    h ^ (h >> 16)
}

/// Numbers between `low` and `high`, each with 24 random bits.
pub(super) fn uniform(
    shape: &[usize],
    dtype: DType,
    low: f64,
    high: f64,
    seed: usize,
) -> Result<Tensor> {
    let value = |k| low + (high - low) * (f64::from(hash(k, seed) >> 8) / f64::from(1 << 24));
    let count = shape.iter().product();
    match dtype {
        DType::F32 => Tensor::new(shape, (0..count).map(|k| value(k) as f32).collect()),
        _ => Tensor::new(shape, (0..count).map(value).collect()),
    }
}

/// Integers from 0 to `below - 1`.
pub(super) fn integers(shape: &[usize], below: usize, seed: usize) -> Result<Tensor> {
    let value = |k| (hash(k, seed) as usize % below) as i64;
    Tensor::new(shape, (0..shape.iter().product()).map(value).collect())
}

/// `true` and `false`, with the same probability.
pub(super) fn booleans(shape: &[usize], seed: usize) -> Result<Tensor> {
    let value = |k| hash(k, seed) >> 31 == 1;
    Tensor::new(shape, (0..shape.iter().product()).map(value).collect())
}
