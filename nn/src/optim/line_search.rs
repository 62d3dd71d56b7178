//! A line search for the strong Wolfe conditions: Nocedal and Wright, Numerical Optimization (2nd
//! edition), algorithms 3.5 and 3.6.
//!
//! A step is good if the value decreases by at least [`DECREASE`] of what the slope at the start
//! promises, and if the slope is flatter than [`CURVATURE`] times that at the start. Close to a minimum,
//! the value changes by less than its rounding errors; then the slope alone decides, as in Hager and Zhang
//! (2005), A new conjugate gradient method with guaranteed descent and an efficient line search.

use crate::error::Result;

const DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
/// The trial steps of one search.
const MAX_TRIALS: usize = 25;
/// The trial steps that may go further and further: by then, a step is up to 10¹² times the first one.
const MAX_EXPANSIONS: usize = 12;
/// How many times the last step the next one is, if it goes further.
const EXPANSION: (f64, f64) = (2.0, 10.0);

/// A point along the direction.
pub(super) struct Trial<P> {
    pub(super) step: f64,
    pub(super) value: f64,
    pub(super) slope: f64,
    /// What the caller needs of it.
    pub(super) at: P,
}

/// What a search found.
pub(super) enum Found<P> {
    /// A point that is better than the start; usually one that meets both conditions.
    Better(P),
    /// None: the slope, or the precision, does not let the value decrease.
    Nothing,
    /// The value decreases, however long the step is. The best point, if one was evaluated.
    Unbounded(Option<P>),
}

/// Searches from a point with this value and this slope, which is negative. Values that differ by
/// `rounding` may be equal. `first` is the first step to try, and `evaluate` gives the point at a step; a value or slope that is not finite is too far away.
pub(super) fn search<P>(
    (value, slope): (f64, f64),
    rounding: f64,
    first: f64,
    evaluate: impl FnMut(f64) -> Result<Trial<P>>,
) -> Result<Found<P>> {
    let search = Search {
        value,
        slope,
        rounding,
        evaluate,
        trials: 0,
    };
    search.bracket(first)
}

struct Search<F> {
    value: f64,
    slope: f64,
    rounding: f64,
    evaluate: F,
    trials: usize,
}

impl<P, F: FnMut(f64) -> Result<Trial<P>>> Search<F> {
    /// Algorithm 3.5: goes further until there is a good step, or an interval that contains one.
    fn bracket(mut self, first: f64) -> Result<Found<P>> {
        let mut last = Trial {
            step: 0.0,
            value: self.value,
            slope: self.slope,
            at: None,
        };
        let mut step = first;
        for _ in 0..MAX_EXPANSIONS {
            let trial = self.trial(step)?;
            if trial.value == f64::NEG_INFINITY {
                return Ok(Found::Unbounded(last.at));
            }
            if self.is_good(&trial) {
                return Ok(better(trial));
            }
            let is_no_better = last.at.is_some() && trial.value >= last.value;
            if !is_finite(&trial) || !self.decreases(&trial) || is_no_better {
                return self.zoom(last, trial);
            }
            if trial.slope >= 0.0 {
                return self.zoom(trial, last);
            }
            // where a slope that changes linearly would be 0
            let change = trial.slope - last.slope;
            let zero = trial.step - trial.slope * (trial.step - last.step) / change;
            let (least, most) = (EXPANSION.0 * trial.step, EXPANSION.1 * trial.step);
            step = match change > 0.0 {
                true => zero.clamp(least, most),
                false => most,
            };
            last = trial;
        }
        Ok(Found::Unbounded(last.at))
    }

    /// Algorithm 3.6: narrows an interval that contains good steps. `low` is the better one of its ends
    /// and decreases enough; the slope there points to `high`.
    fn zoom(mut self, mut low: Trial<Option<P>>, mut high: Trial<Option<P>>) -> Result<Found<P>> {
        let mut last_width = f64::INFINITY;
        while self.trials < MAX_TRIALS {
            let width = (high.step - low.step).abs();
            let step = match width > 0.5 * last_width || !is_finite(&high) {
                true => 0.5 * (low.step + high.step),
                false => interpolate(&low, &high),
            };
            if step == low.step || step == high.step {
                break;
            }
            last_width = width;
            let trial = self.trial(step)?;
            if self.is_good(&trial) {
                return Ok(better(trial));
            }
            if !is_finite(&trial) || !self.decreases(&trial) || trial.value >= low.value {
                high = trial;
                continue;
            }
            if trial.slope * (high.step - low.step) >= 0.0 {
                high = low;
            }
            low = trial;
        }
        Ok(better(low))
    }

    fn trial(&mut self, step: f64) -> Result<Trial<Option<P>>> {
        self.trials += 1;
        let trial = (self.evaluate)(step)?;
        Ok(Trial {
            step: trial.step,
            value: trial.value,
            slope: trial.slope,
            at: Some(trial.at),
        })
    }

    /// The first condition: the value decreases enough.
    fn decreases<Q>(&self, trial: &Trial<Q>) -> bool {
        trial.value <= self.value + DECREASE * trial.step * self.slope && trial.value < self.value
    }

    /// Both conditions: the value decreases enough, as far as that can be seen, and the slope is flatter.
    fn is_good<Q>(&self, trial: &Trial<Q>) -> bool {
        let is_flat = trial.slope.abs() <= -CURVATURE * self.slope;
        let is_equal = trial.value <= self.value + self.rounding;
        is_finite(trial) && is_flat && (self.decreases(trial) || self.rounding > 0.0 && is_equal)
    }
}

fn better<P>(trial: Trial<Option<P>>) -> Found<P> {
    trial.at.map_or(Found::Nothing, Found::Better)
}

fn is_finite<P>(trial: &Trial<P>) -> bool {
    trial.value.is_finite() && trial.slope.is_finite()
}

/// The minimum of the cubic polynomial with the values and slopes of both ends (equation 3.59), not too
/// close to either.
fn interpolate<P>(a: &Trial<P>, b: &Trial<P>) -> f64 {
    let d1 = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.step - b.step);
    let d2 = (b.step - a.step).signum() * (d1 * d1 - a.slope * b.slope).sqrt();
    let fraction = (b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2);
    let fraction = match fraction.is_finite() {
        true => fraction.clamp(0.1, 0.9),
        false => 0.5,
    };
    b.step - (b.step - a.step) * fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps that were tried, and the one that was found.
    fn steps(f: impl Fn(f64) -> (f64, f64), first: f64) -> (Vec<f64>, Found<f64>) {
        let mut tried = Vec::new();
        let evaluate = |step| {
            tried.push(step);
            let (value, slope) = f(step);
            Ok(Trial {
                step,
                value,
                slope,
                at: step,
            })
        };
        let found = search(f(0.0), 0.0, first, evaluate).expect("no evaluation fails");
        (tried, found)
    }

    /// Both conditions hold, from first steps that are far too short or too long, for functions that
    /// More and Thuente (1994) use to compare searches, and for one that is not defined everywhere.
    #[test]
    fn both_conditions_hold_at_the_step() {
        type Function = fn(f64) -> (f64, f64);
        let functions: [Function; 4] = [
            // their (5.1) with β = 2, (5.2) with β = 0.004, a quadratic
            |a| (-a / (a * a + 2.0), (a * a - 2.0) / (a * a + 2.0).powi(2)),
            |a| {
                let b = a + 0.004;
                (
                    b.powi(5) - 2.0 * b.powi(4),
                    5.0 * b.powi(4) - 8.0 * b.powi(3),
                )
            },
            |a| ((a - 3.0).powi(2), 2.0 * (a - 3.0)),
            // ln is NaN from 2 on
            |a| (-a - 0.01 * (2.0 - a).ln(), -1.0 + 0.01 / (2.0 - a)),
        ];
        for (k, f) in functions.into_iter().enumerate() {
            for first in [1e-3, 1e-1, 1.0, 10.0, 1e3] {
                let (tried, found) = steps(f, first);
                let Found::Better(step) = found else {
                    panic!("function {k} from {first}: nothing found in {tried:?}");
                };
                let ((v0, s0), (v, s)) = (f(0.0), f(step));
                assert!(
                    v <= v0 + DECREASE * step * s0 && s.abs() <= -CURVATURE * s0,
                    "function {k} from {first}: {step} after {tried:?}"
                );
                assert!(tried.len() <= 15, "function {k} from {first}: {tried:?}");
            }
        }
    }

    #[test]
    fn what_has_no_minimum_is_said_to_be_unbounded() {
        let (tried, found) = steps(|a| (-a, -1.0), 1.0);
        assert!(matches!(found, Found::Unbounded(Some(step)) if step >= 1e10));
        assert_eq!(tried.len(), MAX_EXPANSIONS);
        let (_, found) = steps(
            |a| {
                if a < 5.0 {
                    (-a, -1.0)
                } else {
                    (f64::NEG_INFINITY, 0.0)
                }
            },
            1.0,
        );
        assert!(matches!(found, Found::Unbounded(Some(1.0))));
    }

    /// A wrong slope, or values that are equal up to rounding, end the search.
    #[test]
    fn a_search_without_a_better_point_ends() {
        for f in [
            |a: f64| (a, -1.0),
            |_: f64| (1.0, -1e-20),
            |a: f64| (if a > 0.0 { f64::NAN } else { 0.0 }, -1.0),
        ] {
            let (tried, found) = steps(f, 1.0);
            assert!(matches!(found, Found::Nothing));
            assert!(tried.len() <= MAX_TRIALS);
        }
    }
}
