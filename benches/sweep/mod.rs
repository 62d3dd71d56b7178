//! The sweep: many small programs that cover every public operation, to be compared with the same
//! programs of other libraries. The list of cases is `peers/cases.txt`; `peers/sweep` measures them.
//!
//! `cases` reads the list, `ops` and `programs` say what the names mean, and [`Case::prepare`]
//! makes a function of no arguments that runs the case as a user would: compiled once, with the
//! inputs at hand as tensors.

mod cases;
mod ops;
mod programs;

pub use cases::{Case, Mode, all, find, parse};

use autograd::{DType, Graph, Param, Result, Tensor, Var, compile};
use cases::{Input, Layout, Values};
use nn::{Adam, Optimizer, Sgd};
use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The cases that `cargo bench --bench scaling` measures with several numbers of threads.
pub const FOR_SCALING: [&str; 10] = [
    "exp f64 fwd 1000000@-3..3",
    "mul f32 fwd 10000000 10000000",
    "max f32 fwd 1000x1000 axis=0",
    "softmax f32 fwd 1000x1000@-3..3 axis=1",
    "layer_norm f32 grad 1000x768 768 768",
    "matmul f32 fwd 1024x1024 1024x1024",
    "permute f32 fwd 3000x3000 axes=1,0",
    "gather f32 fwd 1000x1000 1000x1000@<1000 axis=1",
    "sort f32 fwd 1000x1000 axis=1",
    "attention_block f32 grad 4x128x256! 256x768@-0.1..0.1 256x256@-0.1..0.1 heads=4",
];

/// A case that is ready to run.
pub struct Run {
    function: Box<dyn Fn() -> Result<Vec<Tensor>> + Send + Sync>,
    /// The size of all inputs. Of a longer array that is read in part, only the part counts.
    pub input_bytes: usize,
}

impl Run {
    /// Runs it once and returns the outputs.
    pub fn call(&self) -> Result<Vec<Tensor>> {
        (self.function)()
    }
}

/// The seed of the weights of the outputs. The inputs have the seeds 0, 1, ..
const WEIGHT_SEED: usize = 100;

impl Case {
    /// Makes the inputs. The function is traced and planned at its first call.
    pub fn prepare(&self) -> Result<Run> {
        let made: Vec<Tensor> = (self.inputs.iter().enumerate())
            .map(|(k, input)| input.tensor(self.dtype, k))
            .collect::<Result<_>>()?;
        let tensors: Vec<Tensor> = [made, self.weights()?].concat();
        let sizes = |(k, t): (usize, &Tensor)| {
            let count = self.inputs.get(k).map_or(t.len(), Input::count);
            count * t.dtype().size()
        };
        let input_bytes = tensors.iter().enumerate().map(sizes).sum();
        let function = match self.inputs.is_empty() {
            true => self.drawn(),
            false => self.compiled(tensors)?,
        };
        Ok(Run {
            function,
            input_bytes,
        })
    }

    /// The kernels of its plan, as text.
    pub fn explain(&self) -> Result<String> {
        let g = Graph::training(0);
        let inputs: Vec<Var<'_>> = (self.inputs.iter().enumerate())
            .map(|(k, input)| Ok(g.input(input.tensor(self.dtype, k)?)))
            .collect::<Result<_>>()?;
        let weights: Vec<Var<'_>> = self.weights()?.iter().map(|x| g.input(x)).collect();
        Ok(g.plan(self.results(&g, &inputs, &weights))?.explain())
    }

    /// For [`Mode::Gradient`]: an array of weights for each output of floats that is not a single
    /// number.
    fn weights(&self) -> Result<Vec<Tensor>> {
        if self.mode != Mode::Gradient {
            return Ok(Vec::new());
        }
        let g = Graph::training(0);
        let stored = |input: &Input| {
            let shape = &input.stored()[..];
            match input.dtype(self.dtype) {
                DType::Bool => g.zeros(shape, DType::F64).eq(1.0),
                dtype => g.zeros(shape, dtype),
            }
        };
        let stored: Vec<Var<'_>> = self.inputs.iter().map(stored).collect();
        let mut weights = Vec::new();
        for y in self.outputs(&g, &stored) {
            let shape = y.shape()?;
            if y.dtype()?.is_float() && shape.rank() > 0 {
                weights.push(cases::uniform(&shape, y.dtype()?, -1.0, 1.0, WEIGHT_SEED)?);
            }
        }
        Ok(weights)
    }

    /// The outputs of the op for inputs as they are stored.
    fn outputs<'g>(&self, g: &'g Graph, stored: &[Var<'g>]) -> Vec<Var<'g>> {
        let viewed: Vec<Var<'g>> = (stored.iter().zip(&self.inputs))
            .map(|(x, input)| input.view(*x))
            .collect();
        ops::apply(self, g, &viewed)
    }

    /// The weighted sum of all outputs of floats.
    fn loss<'g>(&self, outputs: &[Var<'g>], weights: &[Var<'g>]) -> Option<Var<'g>> {
        let mut weights = weights.iter();
        let is_float = |y: &&Var<'g>| y.dtype().is_ok_and(DType::is_float);
        let term = |y: &Var<'g>| match y.shape().is_ok_and(|s| s.rank() == 0) {
            true => Some(*y),
            false => weights.next().map(|c| (*c * *y).sum()),
        };
        let terms = outputs.iter().filter(is_float).filter_map(term);
        terms.reduce(|a, b| a + b)
    }

    /// Everything that a run computes.
    fn results<'g>(&self, g: &'g Graph, stored: &[Var<'g>], weights: &[Var<'g>]) -> Vec<Var<'g>> {
        let outputs = self.outputs(g, stored);
        if self.mode != Mode::Gradient {
            return outputs;
        }
        let Some(loss) = self.loss(&outputs, weights) else {
            return vec![stored[0].fail("the outputs have no gradient")];
        };
        let wanted: Vec<Var<'g>> = (self.inputs.iter().zip(stored))
            .filter(|(input, _)| input.has_gradient(self.dtype))
            .map(|(_, x)| *x)
            .collect();
        [vec![loss], g.grads(loss, &wanted)].concat()
    }

    /// A case without inputs: random numbers, others in each run.
    fn drawn(&self) -> Box<dyn Fn() -> Result<Vec<Tensor>> + Send + Sync> {
        let (case, seed) = (self.clone(), AtomicU64::new(0));
        Box::new(move || {
            let g = Graph::training(seed.fetch_add(1, Ordering::Relaxed));
            g.run(case.outputs(&g, &[]))
        })
    }

    /// A case with inputs: a compiled function of them.
    fn compiled(
        &self,
        x: Vec<Tensor>,
    ) -> Result<Box<dyn Fn() -> Result<Vec<Tensor>> + Send + Sync>> {
        let program = Program::new(self, x)?;
        let (n, m) = (program.arguments.len(), program.outputs);
        macro_rules! counts {
            ($($n:literal)*) => { match n { $($n => counts!(@ $n: 1 2 3 4 5 6 7),)* _ => None } };
            (@ $n:literal: $($m:literal)*) => {
                match m { $($m => Some(program.function::<$n, $m>()),)* _ => None }
            };
        }
        let function = counts!(1 2 3 4 5 6 7);
        Ok(function.unwrap_or_else(|| panic!("{self}: expected 1 to 7 inputs and outputs")))
    }
}

/// A case with its inputs: some are arguments of the compiled function, others parameters.
struct Program {
    case: Case,
    arguments: Vec<Tensor>,
    /// For [`Mode::Step`]: the inputs that are parameters.
    params: Vec<Option<Param>>,
    optimizer: Option<Box<dyn Optimizer>>,
    outputs: usize,
}

impl Program {
    fn new(case: &Case, x: Vec<Tensor>) -> Result<Program> {
        let is_param = |k: usize| {
            case.mode == Mode::Step
                && (case.inputs.get(k)).is_some_and(|input| input.has_gradient(case.dtype))
        };
        let params = (x.iter().enumerate())
            .map(|(k, x)| is_param(k).then(|| Param::new(x)))
            .collect();
        let arguments = (x.into_iter().enumerate())
            .filter(|(k, _)| !is_param(*k))
            .map(|(_, x)| x)
            .collect();
        let optimizer: Option<Box<dyn Optimizer>> = match case.text("optimizer") {
            Some("adam") => Some(Box::new(Adam::new(1e-3))),
            Some(_) => Some(Box::new(Sgd::new(0.1))),
            None => None,
        };
        let mut program = Program {
            case: case.clone(),
            arguments,
            params,
            optimizer,
            outputs: 0,
        };
        let g = Graph::training(0);
        let arguments: Vec<Var<'_>> = program.arguments.iter().map(|x| g.input(x)).collect();
        program.outputs = program.trace(&g, &arguments).len();
        Ok(program)
    }

    fn trace<'g>(&self, g: &'g Graph, arguments: &[Var<'g>]) -> Vec<Var<'g>> {
        let mut arguments = arguments.iter().copied();
        let x: Vec<Var<'g>> = (self.params.iter())
            .filter_map(|param| {
                param
                    .as_ref()
                    .map(|p| g.param(p))
                    .or_else(|| arguments.next())
            })
            .collect();
        let (stored, weights) = x.split_at(self.case.inputs.len());
        let results = self.case.results(g, stored, weights);
        if let Some(optimizer) = &self.optimizer {
            optimizer.step(results[0]);
        }
        results
    }

    fn function<const N: usize, const M: usize>(
        self,
    ) -> Box<dyn Fn() -> Result<Vec<Tensor>> + Send + Sync> {
        let program = Arc::new(self);
        let x: [Tensor; N] = array::from_fn(|k| program.arguments[k].clone());
        let f = compile(move |x: [Var<'_>; N]| {
            let results = program.trace(x[0].graph(), &x);
            array::from_fn::<_, M, _>(|k| results[k])
        });
        Box::new(move || f.call(x.each_ref()).map(Vec::from))
    }
}

impl Input {
    /// The array as it is stored.
    fn tensor(&self, dtype: DType, seed: usize) -> Result<Tensor> {
        let shape = &self.stored();
        match (self.values, self.dtype(dtype)) {
            (Values::Between(low, high), dtype) => cases::uniform(shape, dtype, low, high, seed),
            (Values::Below(n), _) => cases::integers(shape, n, seed),
            (Values::Bool, _) => cases::booleans(shape, seed),
        }
    }

    /// The input of the op, from the array as it is stored.
    fn view<'g>(&self, x: Var<'g>) -> Var<'g> {
        match self.layout {
            Layout::Contiguous => x,
            Layout::Transposed => x.t(),
            Layout::Step => x.slice_step(-1, .., 2),
            Layout::Range => {
                let last = self.stored().last().map_or(0, |n| *n as isize);
                x.slice(-1, 8..last - 16)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs_at_a_tiny_size() {
        let cases = all();
        assert!(cases.len() >= 150, "{} cases", cases.len());
        for case in cases {
            let tiny = case.tiny();
            let run = tiny.prepare().unwrap_or_else(|e| panic!("{case}: {e}"));
            for _ in 0..2 {
                let outputs = run.call().unwrap_or_else(|e| panic!("{case}: {e}"));
                let finite = |t: &Tensor| t.to_f64s().iter().all(|v| v.is_finite());
                assert!(outputs.iter().all(finite), "{case}: {outputs:?}");
            }
        }
    }

    /// What `python/cases.py` must do too, or the libraries would get other inputs.
    #[test]
    fn inputs_are_the_same_in_every_language() {
        let values = |t: Result<Tensor>| t.expect("a few elements").to_f64s();
        let uniform = cases::uniform(&[2], DType::F64, -1.0, 1.0, 5);
        assert_eq!(values(uniform), [0.0027904510498046875, 0.4559093713760376]);
        assert_eq!(
            values(cases::integers(&[3], 1000, 1)),
            [797.0, 817.0, 382.0]
        );
        assert_eq!(values(cases::booleans(&[3], 2)), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn the_cases_for_scaling_exist() {
        for name in FOR_SCALING {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn names_are_unique_and_can_be_read_again() {
        let mut names: Vec<String> = all().iter().map(Case::to_string).collect();
        for (case, name) in all().iter().zip(&names) {
            assert_eq!(
                parse(&format!("{} {name}", case.family))[0].to_string(),
                *name
            );
        }
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
