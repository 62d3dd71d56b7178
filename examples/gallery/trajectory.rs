//! Parameters of a dynamical system from a trajectory: predators and prey (Lotka and Volterra). The solver,
//! Runge–Kutta of fourth order, is part of the graph, and the gradient goes back through its 60 steps.

use crate::{Result, expect};
use autograd::{Graph, Var};
use nn::{Adam, Optimizer};

const STEP: f64 = 0.1;
const STEPS: usize = 60;

/// `prey' = a·prey - b·prey·predators`, `predators' = c·prey·predators - d·predators`
fn slope<'g>(state: Var<'g>, rates: Var<'g>) -> Var<'g> {
    let [prey, predators] = [0, 1].map(|k| state.slice(0, k..=k));
    let [a, b, c, d] = [0, 1, 2, 3].map(|k| rates.slice(0, k..=k));
    let meetings = prey * predators;
    state
        .graph()
        .concat(&[a * prey - b * meetings, c * meetings - d * predators], 0)
}

/// The states after each step `[steps, 2]`.
fn trajectory<'g>(start: Var<'g>, rates: Var<'g>) -> Var<'g> {
    let (mut state, mut states) = (start, Vec::new());
    for _ in 0..STEPS {
        let k1 = slope(state, rates);
        let k2 = slope(state + k1 * (STEP / 2.0), rates);
        let k3 = slope(state + k2 * (STEP / 2.0), rates);
        let k4 = slope(state + k3 * STEP, rates);
        state += (k1 + k2 * 2.0 + k3 * 2.0 + k4) * (STEP / 6.0);
        states.push(state);
    }
    start.graph().stack(&states, 0)
}

pub(crate) fn run() -> Result {
    let (start, truth) = ([1.0, 0.6], [1.1, 0.5, 0.4, 0.9]);
    let g = Graph::new();
    let observed = trajectory(g.constant(start), g.constant(truth)).value()?;

    let log_rates = autograd::Param::new([0.0; 4]); // rates are positive
    let adam = Adam::new(0.03);
    let mut last = f64::NAN;
    for _ in 0..300 {
        let g = Graph::new();
        let states = trajectory(g.constant(start), g.param(&log_rates).exp());
        let loss = (states - g.constant(&observed)).square().mean();
        adam.step(loss);
        last = g.run(loss)?.scalar()?;
    }
    let found: Vec<f64> = log_rates
        .value()
        .to_f64s()
        .iter()
        .map(|r| r.exp())
        .collect();
    println!("found {found:.3?}, true {truth:?}, mean squared error {last:.1e}");
    let far = found
        .iter()
        .zip(truth)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    expect(far < 0.02, format!("the rates differ by {far}"))
}
