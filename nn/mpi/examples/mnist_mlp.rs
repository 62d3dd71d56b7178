//! The example `mnist_mlp` as an MPI program: each process trains on its share of each batch.
//!
//! `mpirun -n 4 cargo run --release --example mnist_mlp -- --micro-batch 16`, in the directory of this
//! crate. With the same micro-batch, any number of processes gives the same network.

#[path = "../../../examples/mnist_mlp/main.rs"]
mod program;

use nn::team::Team;
use nn_mpi::Mpi;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mpi = match Mpi::start() {
        Ok(mpi) => mpi,
        Err(e) => return program::exit(Err(e), 0),
    };
    let (rank, threads) = (mpi.rank(), mpi.threads());
    let result = threads.and_then(|threads| program::run_as_rank(&mpi, threads));
    program::exit(mpi.end(result), rank)
}
