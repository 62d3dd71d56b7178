//! Schedules, trial points and other values that change do not need a new plan. This test is in
//! its own file because it counts the plans of the whole process.

use nn::{
    Activation, Adam, Lbfgs, Module, Optimizer, Result, Sgd, Trainer, data, loss, schedule,
    schedule::Context,
};

#[test]
fn schedules_never_need_a_new_plan() -> Result<()> {
    let (train, test) = data::digits()?;
    type Schedule = Box<dyn Fn(&Context<'_>) -> f64>;
    let schedules: [Schedule; 6] = [
        Box::new(schedule::constant),
        Box::new(schedule::linear),
        Box::new(schedule::warm_up(0.5, schedule::cosine)),
        Box::new(schedule::product(
            schedule::step(1, 0.5),
            schedule::exponential(0.9),
        )),
        Box::new(schedule::reduce_on_plateau(0.5, 0)),
        // with the special values 0 and 1
        Box::new(|context: &Context<'_>| [1.0, 0.0, 2.0][context.step % 3]),
    ];
    let mut plan_counts = Vec::new();
    for schedule in schedules {
        let model = nn::mlp(&[64, 16, 10], Activation::Relu, 1).dropout(0.1);
        Trainer::new(&model, Adam::new(1e-3).clip_norm(1.0))
            .schedule(schedule)
            .epochs(3)
            .validate(&test)
            .quiet()
            .fit(&train)?;
        plan_counts.push(autograd::plans_made());
    }
    // plans for a full batch, for the last batch of an epoch, and for two batches of the validation
    assert!(plan_counts[0] <= 6, "{plan_counts:?}");
    assert!(
        plan_counts.iter().all(|&n| n == plan_counts[0]),
        "{plan_counts:?}"
    );
    // another graph structure needs a new plan
    let model = nn::mlp(&[64, 16, 10], Activation::Relu, 1);
    Trainer::new(&model, Sgd::new(0.1)).quiet().fit(&train)?;
    assert!(autograd::plans_made() > plan_counts[0]);

    // nor does another seed of a compiled step
    let (model, sgd) = (
        nn::mlp(&[64, 9, 10], Activation::Relu, 1).dropout(0.3),
        Sgd::new(0.1),
    );
    let step = autograd::compile(|[x, y]| {
        let loss = nn::loss::cross_entropy(model.forward(x), y);
        sgd.step(loss);
        [loss]
    });
    let mut plan_counts = Vec::new();
    for seed in [3, 0, 1, u64::MAX] {
        let (inputs, labels) = train.rows(&[5, 6, 7])?;
        step.train(seed, [inputs, labels])?;
        plan_counts.push(autograd::plans_made());
    }
    assert_eq!(plan_counts, [plan_counts[0]; 4]);
    // trial points of a line search
    let (inputs, labels) = train.rows(&[0, 1, 2, 3])?;
    let minimize = |iterations| {
        let lbfgs = Lbfgs::new().iterations(iterations).tolerance(0.0);
        lbfgs.minimize(&model.parameters(), |g| {
            loss::cross_entropy(model.forward(g.constant(&inputs)), g.constant(&labels))
        })
    };
    minimize(0)?;
    let before = autograd::plans_made();
    assert_eq!(minimize(20)?.iterations, 20);
    assert_eq!(autograd::plans_made(), before);
    Ok(())
}
