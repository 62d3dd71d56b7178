//! Short programs of many kinds, each in a file that can be copied: `cargo run --release --example gallery`
//! runs all of them, and with names after `--` only these.

mod attention;
mod characters;
mod equation;
mod images;
mod newton;
mod own_layers;
mod own_op;
mod prices;
mod serving;
#[cfg(feature = "sparse")]
mod sparse_fit;
mod trajectory;
mod variational;

use std::process::ExitCode;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A program: its name, what it shows, and the program.
type Program = (&'static str, &'static str, fn() -> Result);

const PROGRAMS: &[Program] = &[
    ("prices", "regression from a table", prices::run),
    ("images", "digits, and mistakes as pictures", images::run),
    (
        "own_layers",
        "layers of one's own: sharing, groups, freezing",
        own_layers::run,
    ),
    (
        "attention",
        "self-attention that learns to reverse a sequence",
        attention::run,
    ),
    (
        "characters",
        "a recurrent network that learns to spell",
        characters::run,
    ),
    (
        "variational",
        "a variational autoencoder that draws digits",
        variational::run,
    ),
    (
        "equation",
        "a network that solves a differential equation",
        equation::run,
    ),
    (
        "trajectory",
        "parameters of a dynamical system from its trajectory",
        trajectory::run,
    ),
    ("newton", "Newton's method with exact Hessians", newton::run),
    #[cfg(feature = "sparse")]
    (
        "sparse_fit",
        "least squares with a sparse Jacobian",
        sparse_fit::run,
    ),
    (
        "own_op",
        "an operation of one's own, in a network",
        own_op::run,
    ),
    (
        "serving",
        "predictions from four threads while a fifth one trains",
        serving::run,
    ),
];

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let is_known = |name: &String| PROGRAMS.iter().any(|(known, ..)| known == name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        eprintln!("there is no program {unknown}. There are:");
        PROGRAMS
            .iter()
            .for_each(|(name, what, _)| eprintln!("  {name:<12} {what}"));
        return ExitCode::from(2);
    }
    for (name, what, run) in PROGRAMS {
        if !names.is_empty() && !names.iter().any(|n| n == name) {
            continue;
        }
        println!("--- {name}: {what}");
        if let Err(e) = run() {
            eprintln!("{name}: {e}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// An error if a program did not get as far as it should.
fn expect(is_good: bool, what: impl Into<String>) -> Result {
    match is_good {
        true => Ok(()),
        false => Err(what.into().into()),
    }
}
