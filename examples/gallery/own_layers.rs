//! Layers of one's own. A block that is used twice shares its weights; the body trains slowly after a
//! pause, the head fast: groups of parameters and gradual unfreezing.

use crate::{Result, expect};
use autograd::Var;
use nn::{
    Activation, Adam, Callback, CallbackContext, LayerNorm, Linear, Module, ParamGroups, Params,
    Trainer, data,
};

/// `x + linear(gelu(norm(x)))`
struct Block {
    norm: LayerNorm,
    linear: Linear,
}

impl Module for Block {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        x + self.linear.forward(self.norm.forward(x).gelu())
    }
    fn params(&self, p: &mut Params) {
        p.module("norm", &self.norm).module("linear", &self.linear);
    }
}

/// One block, applied as often as one likes: the weights are there once.
struct Net {
    first: Linear,
    block: Block,
    head: nn::Mlp,
}

impl Module for Net {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let mut x = self.first.forward(x);
        for _ in 0..3 {
            x = self.block.forward(x);
        }
        self.head.forward(x)
    }
    fn params(&self, p: &mut Params) {
        p.module("first", &self.first)
            .module("block", &self.block)
            .module("head", &self.head);
    }
}

/// Leaves the block as it is for so many steps.
struct Unfreeze<'m>(&'m Block, usize);

impl Callback for Unfreeze<'_> {
    fn on_step_begin(&mut self, context: &CallbackContext<'_>) -> nn::Result<()> {
        self.0.freeze(context.step < self.1);
        Ok(())
    }
}

pub(crate) fn run() -> Result {
    let (train, test) = data::digits()?;
    let net = Net {
        first: Linear::new(64, 48, 1),
        block: Block {
            norm: LayerNorm::new(48),
            linear: Linear::new(48, 48, 2),
        },
        head: nn::mlp(&[48, 10], Activation::Relu, 3),
    };
    let optimizer = ParamGroups::new(Adam::new(1e-3)).module(&net.head, Adam::new(1e-2));
    let before = net.block.linear.weight().value();
    let history = Trainer::new(&net, optimizer)
        .callback(Unfreeze(&net.block, 50))
        .validate(&test)
        .epochs(15)
        .quiet()
        .fit(&train)?;
    let last = history.last().ok_or("no epoch")?;
    println!(
        "{} parameters, the block's once: {last}",
        net.num_parameters()
    );
    expect(
        net.block.linear.weight().value() != before,
        "the block was never trained",
    )?;
    let accuracy = last.validation.and_then(|v| v.accuracy).unwrap_or(0.0);
    expect(accuracy > 0.88, format!("accuracy is only {accuracy}"))
}
