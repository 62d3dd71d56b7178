//! What the model is made of, measured: computation on one rank, messages between ranks, and whole steps.

use crate::model::{Algorithm, Machine, Network};
use autograd::{Graph, Tensor};
use nn::{
    Activation, Linear, Mlp, Module, Optimizer, Result, Sgd, Trainer,
    data::{Batch, Source},
    loss,
    team::{Alone, GradientSum, Team},
};
use nn_mpi::Mpi;
use std::{
    fmt,
    time::{Duration, Instant},
};

/// The parts of the step of the MNIST network that is measured as a whole.
const BATCH: usize = 1024;
const MICRO: usize = 128;
/// The numbers in a bucket: the network has 101,770.
const BUCKET: usize = 1 << 15;
/// The features of the layers of the large network.
const WIDE: usize = 4096;

/// What was measured, in seconds.
pub(crate) struct Measured {
    ranks: usize,
    /// The MNIST network: forward and backward pass of a part of one sample, and of [`MICRO`].
    mnist: [f64; 2],
    /// The same of a layer of the large one, with one sample and 64.
    wide: [f64; 2],
    pub(crate) update_per_byte: f64,
    pub(crate) latency: f64,
    /// Bytes per second.
    pub(crate) bandwidth: f64,
    /// A step in one run, and in parts on one rank; in parts on all ranks, with sums in order, with
    /// MPI's, and with MPI's in buckets.
    whole: f64,
    parts: f64,
    in_order: f64,
    any_order: f64,
    buckets: f64,
    /// Adding the gradients alone: in order, and by MPI.
    sums: [f64; 2],
    /// Forward and backward pass of a part in one run, and in two: the second one for the gradients of
    /// the first layer.
    split: [f64; 2],
}

/// The shortest of the times of a function: what others do on the machine only adds to it.
fn time(runs: usize, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    f()?; // plans and memory
    let mut times = Vec::new();
    for _ in 0..runs {
        let begin = Instant::now();
        f()?;
        times.push(begin.elapsed());
    }
    Ok(times.iter().min().map_or(0.0, Duration::as_secs_f64))
}

/// Numbers that look like data.
fn numbers(rows: usize, columns: usize) -> Result<Tensor> {
    let number = |k: usize| ((k * 7919 % 1009) as f32) / 1009.0;
    Ok(Tensor::new(
        [rows, columns],
        (0..rows * columns).map(number).collect(),
    )?)
}

fn mnist() -> Mlp {
    nn::mlp(&[784, 128, 10], Activation::Relu, 1)
}

/// Samples that cost nothing: only the first ones are ever given.
struct Fixed {
    whole: Batch,
    part: Batch,
}

/// The steps that are measured.
const STEPS: usize = 40;

impl Fixed {
    fn new() -> Result<Fixed> {
        let batch = |samples: usize| -> Result<Batch> {
            let labels: Vec<i64> = (0..samples).map(|k| k as i64 % 10).collect();
            Ok(Batch::new(numbers(samples, 784)?, labels.into()))
        };
        Ok(Fixed {
            whole: batch(BATCH)?,
            part: batch(MICRO)?,
        })
    }
}

impl Source for Fixed {
    fn len(&self) -> usize {
        STEPS * BATCH
    }
    fn batch(&self, samples: &[usize]) -> Result<Batch> {
        let rows: Vec<usize> = (0..samples.len()).collect();
        Ok(match samples.len() {
            BATCH => self.whole.clone(),
            MICRO => self.part.clone(),
            _ => Batch::new(
                self.whole.inputs[0].rows(&rows)?,
                self.whole.targets[0].rows(&rows)?,
            ),
        })
    }
}

/// Forward and backward pass of so many samples, in one run or in two.
fn gradients(model: &impl Module, inputs: &Tensor, classes: usize, split: bool) -> Result<()> {
    let g = Graph::training(1);
    let labels: Vec<i64> = (0..inputs.shape()[0])
        .map(|k| (k % classes) as i64)
        .collect();
    let loss = loss::cross_entropy(model.forward(g.constant(inputs)), g.constant(labels));
    let all: Vec<_> = nn::gradients(loss)
        .into_iter()
        .map(|d| d.gradient)
        .collect();
    // the gradients of the last layer are ready first
    let (first, last) = all.split_at(if split { all.len() / 2 } else { 0 });
    g.look((loss, last.to_vec()))?;
    if split {
        g.look(first.to_vec())?;
    }
    Ok(())
}

/// The seconds of a training step.
fn step(team: &dyn Team, data: &Fixed, micro: usize) -> Result<f64> {
    let model = mnist();
    let mut trainer = Trainer::new(&model, Sgd::new(0.01))
        .loss(loss::unreduced::cross_entropy)
        .batch_size(BATCH)
        .micro_batch(micro)
        .epochs(6)
        .team(team)
        .quiet();
    let history = trainer.fit(data)?;
    let times = history.iter().map(|e| e.time.as_secs_f64() / STEPS as f64);
    Ok(times.fold(f64::INFINITY, f64::min))
}

/// The seconds in which all ranks of a team add the gradients of the network.
fn sum(team: &dyn Team) -> Result<f64> {
    let values = [Tensor::full([101_770], 1f32)?];
    time(100, || {
        let mut mine = GradientSum::new(team.size());
        mine.add(team.rank(), &values)?;
        team.sum(mine).map(drop)
    })
}

impl Measured {
    /// Measures together with the other ranks, which wait while the first one computes alone.
    pub(crate) fn on(mpi: &Mpi) -> Result<Measured> {
        let mut measured = Measured::compute(mpi.rank() == 0)?;
        mpi.all_gather(&[])?;
        let data = Fixed::new()?;
        if mpi.rank() == 0 {
            measured.whole = step(&Alone, &data, BATCH)?;
            measured.parts = step(&Alone, &data, MICRO)?;
        }
        mpi.all_gather(&[])?;
        measured.ranks = mpi.size();
        measured.in_order = step(mpi, &data, MICRO)?;
        measured.any_order = step(&mpi.in_any_order(), &data, MICRO)?;
        let buckets = mpi.in_any_order().buckets_of(BUCKET);
        measured.buckets = step(&buckets, &data, MICRO)?;
        measured.sums = [sum(mpi)?, sum(&mpi.in_any_order())?];
        // of a message, small and large
        let small = time(200, || mpi.all_gather(&[0; 8]).map(drop))?;
        let bytes = 1 << 20;
        let message = vec![0; bytes];
        let large = time(20, || mpi.all_gather(&message).map(drop))?;
        measured.latency = small;
        measured.bandwidth = bytes as f64 / (large - small).max(1e-9);
        Ok(measured)
    }

    fn compute(first: bool) -> Result<Measured> {
        let mut measured = Measured {
            ranks: 1,
            mnist: [0.0; 2],
            wide: [0.0; 2],
            update_per_byte: 0.0,
            latency: 0.0,
            bandwidth: 1.0,
            whole: 0.0,
            parts: 0.0,
            in_order: 0.0,
            any_order: 0.0,
            buckets: 0.0,
            sums: [0.0; 2],
            split: [0.0; 2],
        };
        if !first {
            return Ok(measured);
        }
        let model = mnist();
        for (k, samples) in [1, MICRO].into_iter().enumerate() {
            let inputs = numbers(samples, 784)?;
            measured.mnist[k] = time(100, || gradients(&model, &inputs, 10, false))?;
        }
        let inputs = numbers(MICRO, 784)?;
        for (k, split) in [false, true].into_iter().enumerate() {
            measured.split[k] = time(100, || gradients(&model, &inputs, 10, split))?;
        }
        let wide = Linear::new(WIDE, WIDE, 1);
        for (k, samples) in [1, 64].into_iter().enumerate() {
            let inputs = numbers(samples, WIDE)?;
            measured.wide[k] = time(3, || gradients(&wide, &inputs, WIDE, false))?;
        }
        let bytes = 4.0 * wide.num_parameters() as f64;
        let (sgd, values) = (
            Sgd::new(0.01).momentum(0.9),
            Tensor::full([WIDE, WIDE], 0f32)?,
        );
        let update = time(3, || {
            let g = Graph::new();
            let (_, param) = wide.parameters().swap_remove(0);
            let weight = g.param(&param);
            let gradient = g.constant(&values);
            sgd.update(
                vec![nn::Gradient {
                    param,
                    weight,
                    gradient,
                }],
                1.0,
            );
            g.run(())?;
            Ok(())
        })?;
        measured.update_per_byte = update / bytes;
        Ok(measured)
    }

    /// The network of the example `mnist_mlp`.
    pub(crate) fn mnist(&self) -> Network {
        let [one, many] = self.mnist;
        let per_sample = (many - one) / (MICRO - 1) as f64;
        Network {
            name: "MNIST MLP, 0.1 M parameters",
            bytes: 4.0 * 101_770.0,
            batch: BATCH,
            batch_per_rank: MICRO,
            fixed: (one - per_sample).max(0.0),
            per_sample,
            layers: 2.0,
        }
    }

    /// Six layers of 4,096 features.
    pub(crate) fn large(&self) -> Network {
        let [one, many] = self.wide;
        let per_sample = (many - one) / 63.0;
        Network {
            name: "MLP of 100 M parameters",
            bytes: 6.0 * 4.0 * (WIDE * WIDE) as f64,
            batch: 8192,
            batch_per_rank: 64,
            fixed: 6.0 * (one - per_sample).max(0.0),
            per_sample: 6.0 * per_sample,
            layers: 6.0,
        }
    }
}

impl Measured {
    /// Prints what the model says about whole steps on this machine, beside what they take. Ranks that
    /// have no core of their own compute in turn.
    pub(crate) fn compare(&self, machine: &Machine) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = (self.ranks as f64 / cores as f64).max(1.0);
        let network = self.mnist();
        let parts = (BATCH / MICRO).div_ceil(self.ranks) as f64;
        let part = network.fixed + MICRO as f64 * network.per_sample;
        // what a step in parts costs on one rank, beside the parts
        let rest = self.parts - (BATCH / MICRO) as f64 * part;
        let sum = machine.sum(Algorithm::Ring, self.ranks, network.bytes);
        let expected = turns * (parts * part + rest) + sum;
        println!(
            "\nWith {} ranks on {cores} cores, the model says {:.2} ms for a step in order; it takes {:.2} ms.",
            self.ranks,
            expected * 1e3,
            self.in_order * 1e3
        );
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ms = |seconds: f64| format!("{:.3} ms", seconds * 1e3);
        let [one, many] = self.mnist;
        writeln!(f, "| measured with one thread per rank | |\n|---|---|")?;
        writeln!(
            f,
            "| MNIST MLP, forward and backward pass, 1 and {MICRO} samples | {} and {} |",
            ms(one),
            ms(many)
        )?;
        let [one, many] = self.wide;
        writeln!(
            f,
            "| a layer of {WIDE} features, 1 and 64 samples | {} and {} |",
            ms(one),
            ms(many)
        )?;
        let gigabytes = 1e-9 / self.update_per_byte;
        writeln!(
            f,
            "| its update (SGD with momentum), GB of weights per second | {gigabytes:.1} |"
        )?;
        let [at_once, in_two] = self.split;
        writeln!(
            f,
            "| MNIST MLP, {MICRO} samples, in one run and in two (last layer first) | {} and {} |",
            ms(at_once),
            ms(in_two)
        )?;
        writeln!(
            f,
            "| step of {BATCH} samples on one rank, in one run | {} |",
            ms(self.whole)
        )?;
        writeln!(f, "| in micro-batches of {MICRO} | {} |", ms(self.parts))?;
        if self.ranks == 1 {
            return Ok(());
        }
        let ranks = self.ranks;
        writeln!(
            f,
            "| on {ranks} ranks, sums in order | {} |",
            ms(self.in_order)
        )?;
        writeln!(
            f,
            "| on {ranks} ranks, `MPI_Allreduce` | {} |",
            ms(self.any_order)
        )?;
        writeln!(
            f,
            "| on {ranks} ranks, `MPI_Allreduce` in buckets of {BUCKET} | {} |",
            ms(self.buckets)
        )?;
        let [in_order, any_order] = self.sums;
        writeln!(
            f,
            "| these ranks add 101,770 gradients: in order, `MPI_Allreduce` | {} and {} |",
            ms(in_order),
            ms(any_order)
        )?;
        writeln!(
            f,
            "| a short message between {ranks} ranks | {:.1} µs |",
            self.latency * 1e6
        )?;
        write!(
            f,
            "| a long one, GB per second | {:.2} |",
            self.bandwidth * 1e-9
        )
    }
}
