//! Stages: kernels that do not depend on each other. Those that are worth it are split, and the parts of all of them are
//! dealt to the threads together, which meet once at the end. Small stages stay on the caller's thread.

#![allow(unsafe_code)] // scratch memory is divided among the kernels

use super::{
    crew,
    gemm::{self, Matrix},
    kernels::{flat, fused},
    memory::{Bytes, Memory},
};
use crate::{
    error::{OpError, catch},
    op::DynOp,
    plan::{
        MOST_AT_ONCE, Plan,
        kernel::{Flat, Kernel, Operand},
    },
};
use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// A kernel that is to run in some parts.
enum Task<'r> {
    Fused(fused::Job<'r>),
    Product(gemm::Job<'r>),
    Flat(&'r Flat, *mut u8),
    Op(&'r dyn DynOp, &'r [Operand], Operand),
}

/// The tasks of a stage.
struct Stage<'r> {
    plan: &'r Plan,
    memory: Memory<'r>,
    tasks: Vec<Task<'r>>,
}

// SAFETY: the tasks of a stage do not depend on each other: what one writes, none of the others reads. The parts of a task
// write elements, rows and sums of their own, in scratch memory of their own.
unsafe impl Sync for Stage<'_> {}

/// How many parts each kernel of a stage has; `None` if one is to run after the other on this thread.
fn split(plan: &Plan, stage: Range<usize>) -> Option<[usize; MOST_AT_ONCE]> {
    let length = crew::length_of_parts(plan.work[stage.clone()].iter().sum())?;
    let (mut counts, threads) = ([0; MOST_AT_ONCE], crew::threads());
    for (count, k) in counts.iter_mut().zip(stage) {
        let work = plan.work[k];
        // about so long: few, or as many for each thread
        let parts = (work + length / 2) / length;
        let many = 2 * parts > threads && work >= threads * crew::LEAST_PART;
        let parts = if many {
            (work / crew::LEAST_PART).next_multiple_of(threads)
        } else {
            parts
        };
        *count = parts.clamp(1, plan.kernels[k].most_parts(threads));
    }
    Some(counts)
}

/// A part of a kernel.
#[derive(Clone, Copy)]
struct Part {
    /// The thread that begins with it.
    lane: usize,
    kernel: usize,
    number: usize,
}

/// Which thread begins with which parts. Kernels of many parts give as many to each thread, the same ones each time;
/// others go to the one that has least to do.
fn deal(plan: &Plan, stage: Range<usize>, counts: [usize; MOST_AT_ONCE]) -> Vec<Part> {
    let threads = crew::threads().min(crew::LANES);
    let (mut loads, mut list) = ([0; crew::LANES], Vec::with_capacity(counts.iter().sum()));
    for (kernel, count) in stage.zip(counts) {
        for number in 0..count {
            let least = || (0..threads).min_by_key(|&lane| loads[lane]).unwrap_or(0);
            let lane = if count.is_multiple_of(threads) {
                number * threads / count
            } else {
                least()
            };
            loads[lane] += plan.work[kernel] / count;
            list.push(Part {
                lane,
                kernel,
                number,
            });
        }
    }
    list.sort_unstable_by_key(|part| (part.lane, part.kernel, part.number));
    list
}

/// The bytes that a stage needs while it runs.
pub(super) fn room(plan: &Plan, stage: Range<usize>) -> usize {
    room_of(plan, stage.clone(), split(plan, stage))
}

fn room_of(plan: &Plan, stage: Range<usize>, counts: Option<[usize; MOST_AT_ONCE]>) -> usize {
    match counts {
        None => stage.map(|k| plan.kernels[k].room(1)).max().unwrap_or(0),
        Some(counts) => stage
            .zip(counts)
            .map(|(k, count)| plan.kernels[k].room(count))
            .fold(0, usize::saturating_add),
    }
}

/// Runs a stage, in scratch memory that is there already if it was reserved. The number of the kernel that failed, if one
/// did.
pub(super) fn run<'r>(
    plan: &'r Plan,
    stage: Range<usize>,
    memory: Memory<'r>,
    scratch: &mut Bytes,
) -> Result<(), (usize, OpError)> {
    let counts = split(plan, stage.clone());
    let room = scratch.room(room_of(plan, stage.clone(), counts));
    let room = room.ok_or_else(|| (stage.start, "there is no memory for it".into()))?;
    let Some(counts) = counts else {
        let alone = |k| catch(|| alone(plan, k, memory, room)).and_then(|done| done);
        return stage
            .into_iter()
            .try_for_each(|k| alone(k).map_err(|e| (k, e)));
    };
    let (mut tasks, mut next) = (Vec::with_capacity(stage.len()), room);
    let list = deal(plan, stage.clone(), counts);
    for (k, count) in stage.clone().zip(counts) {
        tasks.push(Task::new(plan, k, memory, count, next));
        next = next.wrapping_add(plan.kernels[k].room(count));
    }
    let (this, failed) = (
        Stage {
            plan,
            memory,
            tasks,
        },
        Mutex::new(None),
    );
    let part = |number: usize| {
        let Part { kernel, number, .. } = list[number];
        let done = catch(|| this.part(kernel - stage.start, number)).and_then(|done| done);
        done.inspect_err(|e| {
            note_failure(
                &mut failed.lock().unwrap_or_else(PoisonError::into_inner),
                kernel,
                e,
            )
        })
    };
    let done = match list.len() {
        1 => part(0),
        _ => crew::each(
            list.len(),
            |lane| list.partition_point(|part| part.lane < lane),
            &part,
        ),
    };
    // the kernel and its own error, whichever of several was reported first
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.map_err(|e| failed.unwrap_or((stage.start, e)))?;
    this.tasks.iter().for_each(Task::finish);
    Ok(())
}

/// Of several kernels that fail, the first of the stage is told, with its own error.
fn note_failure(failed: &mut Option<(usize, OpError)>, kernel: usize, e: &OpError) {
    if failed.as_ref().is_none_or(|known| kernel < known.0) {
        *failed = Some((kernel, e.clone()));
    }
}

/// Runs one kernel on this thread.
fn alone<'r>(plan: &'r Plan, k: usize, memory: Memory<'r>, room: *mut u8) -> Result<(), OpError> {
    let task = Task::new(plan, k, memory, 1, room);
    task.part(plan, memory, 0)?;
    task.finish();
    Ok(())
}

impl<'r> Stage<'r> {
    fn part(&self, task: usize, part: usize) -> Result<(), OpError> {
        self.tasks[task].part(self.plan, self.memory, part)
    }
}

impl<'r> Task<'r> {
    fn new(plan: &'r Plan, k: usize, memory: Memory<'r>, parts: usize, room: *mut u8) -> Task<'r> {
        match &plan.kernels[k] {
            Kernel::Fused(k) => Task::Fused(fused::Job::new(k, memory, parts, room)),
            Kernel::Product { a, b, out } => {
                // SAFETY: what it reads was written in an earlier stage, and nothing of this stage writes it.
                let view = |operand| unsafe { memory.view(operand, plan.shape(operand)) };
                let matrix = |(operand, transposed)| Matrix {
                    view: view(operand),
                    transposed,
                };
                // SAFETY: one task is made of each kernel of a stage.
                let out = unsafe { memory.view_mut(*out, plan.shape(*out)) };
                Task::Product(gemm::Job::new(matrix(*a), matrix(*b), out, parts))
            }
            Kernel::Flat(k) => Task::Flat(k, room),
            Kernel::Op { op, inputs, out } => Task::Op(op.get(), inputs, *out),
        }
    }

    fn part(&self, plan: &'r Plan, memory: Memory<'r>, part: usize) -> Result<(), OpError> {
        match self {
            Task::Fused(job) => job.part(part),
            Task::Product(job) => job.part(part),
            Task::Flat(k, room) => {
                // SAFETY: the task was given room for it.
                unsafe { flat::run(k, memory, *room) };
                Ok(())
            }
            Task::Op(op, inputs, out) => {
                // SAFETY: what it reads was written in an earlier stage, and nothing of this stage writes it.
                let view = |&operand| unsafe { memory.view(operand, plan.shape(operand)) };
                // SAFETY: such a kernel has one part.
                let out = unsafe { memory.view_mut(*out, plan.shape(*out)) };
                match inputs[..] {
                    [a] => op.eval(&[view(&a)], out),
                    [a, b] => op.eval(&[view(&a), view(&b)], out),
                    _ => op.eval(&inputs.iter().map(view).collect::<Vec<_>>(), out),
                }
            }
        }
    }

    /// What is left to do when all parts are done.
    fn finish(&self) {
        if let Task::Fused(job) = self {
            job.finish();
        }
    }
}
