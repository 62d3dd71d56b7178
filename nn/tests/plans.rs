//! Neither a schedule nor anything else that changes from step to step makes a new plan. In a file of its own: it counts
//! the plans of the process.

use nn::{Activation, Adam, Optimizer, Result, Sgd, Trainer, data, schedule, schedule::Moment};

#[test]
fn a_schedule_never_causes_a_new_plan() -> Result<()> {
    let (train, test) = data::digits()?;
    type Schedule = Box<dyn Fn(&Moment<'_>) -> f64>;
    let schedules: [Schedule; 6] = [
        Box::new(schedule::constant),
        Box::new(schedule::linear),
        Box::new(schedule::warm_up(0.5, schedule::cosine)),
        Box::new(schedule::product(
            schedule::step(1, 0.5),
            schedule::exponential(0.9),
        )),
        Box::new(schedule::reduce_on_plateau(0.5, 0)),
        Box::new(|at: &Moment<'_>| [1.0, 0.0, 2.0][at.step % 3]), // through 1 and 0
    ];
    let mut made = Vec::new();
    for schedule in schedules {
        let model = nn::mlp(&[64, 16, 10], Activation::Relu, 1).dropout(0.1);
        Trainer::new(&model, Adam::new(1e-3).clip_norm(1.0))
            .schedule(schedule)
            .epochs(3)
            .validate(&test)
            .quiet()
            .fit(&train)?;
        made.push(autograd::plans_made());
    }
    // a step of a whole batch, one of the last batch of an epoch, and two of the validation, in the first training
    assert!(made[0] <= 6, "{made:?}");
    assert!(made.iter().all(|&n| n == made[0]), "{made:?}");
    // another structure does
    let model = nn::mlp(&[64, 16, 10], Activation::Relu, 1);
    Trainer::new(&model, Sgd::new(0.1)).quiet().fit(&train)?;
    assert!(autograd::plans_made() > made[0]);
    Ok(())
}
