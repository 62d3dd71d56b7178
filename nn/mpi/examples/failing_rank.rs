//! What a job does when one of its ranks fails, in one of several ways: a program for tests.

use autograd::Tensor;
use nn::{
    Activation, Callback, CallbackContext, ControlFlow, Dataset, Error, Result, Sgd, Trainer,
    team::Team,
};
use nn_mpi::Mpi;

/// A callback that panics at the third step of one rank.
struct Fails(bool);

impl Callback for Fails {
    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        assert!(!self.0 || context.step < 3, "step {}", context.step);
        Ok(ControlFlow::Continue)
    }
}

fn train(mpi: &Mpi, how: &str) -> Result<()> {
    let fails = mpi.rank() == 1;
    match how {
        "before" if fails => return Err(Error::Invalid("no data here".into())),
        "panic" if fails => panic!("on purpose"),
        "exit" if fails => std::process::exit(0),
        _ => (),
    }
    let data = Dataset::new(Tensor::full([64, 4], 0.5f32)?, vec![1i64; 64].into())?;
    let model = nn::mlp(&[4, 8, 2], Activation::Relu, 1);
    Trainer::new(&model, Sgd::new(0.1))
        .batch_size(8)
        .micro_batch(4)
        .seed(u64::from(fails && how == "settings"))
        .callback(Fails(fails && how == "within"))
        .team(mpi)
        .quiet()
        .fit(&data)
        .map(drop)
}

fn main() -> Result<()> {
    let how = std::env::args().nth(1).unwrap_or_default();
    let mpi = Mpi::start()?;
    let result = train(&mpi, &how);
    mpi.end(result)
}
