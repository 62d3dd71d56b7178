//! Stages: kernels that do not depend on each other. Those that are worth it are cut into parts,
//! and the parts of all of them are dealt to the threads together, which meet once at the end.
//! Small stages stay on the caller's thread.
//!
//! How many parts there are follows from the costs that the plan estimates and from the number of
//! threads. It changes no bit: a kernel may be cut only where that is so
//! ([`tiling`](crate::plan::tiling)).

#![allow(unsafe_code)] // scratch memory is divided among the kernels

use super::{
    kernels::{fused, scalar},
    memory::Memory,
    opaque,
    product::{self, Matrix},
    team,
};
use crate::{
    error::{OpError, catch},
    index::{Index, each},
    plan::{
        Plan, Stage,
        cost::Cost,
        index::KernelId,
        kernel::{Fused, Kernel, Matrix as PlannedMatrix},
    },
    scratch::Bytes,
};
use std::sync::{Mutex, PoisonError};

/// A kernel that failed, and why.
pub(super) struct Failure {
    pub(super) kernel: KernelId,
    pub(super) error: OpError,
}

/// How many parts each kernel of a stage has; `None` if one is to run after the other on this
/// thread.
fn split(plan: &Plan, stage: Stage) -> Option<Vec<usize>> {
    let least = Cost::LEAST_PART.nanoseconds();
    let cost: Cost = each(stage.clone()).map(|k| plan.costs[k]).sum();
    let length = team::length_of_parts(cost)?;
    let threads = team::threads();
    let parts_of = |k: KernelId| {
        let cost = plan.costs[k].nanoseconds();
        // of about that length: few, or as many for each thread
        let parts = (cost + length / 2) / length;
        // many parts are dealt evenly; a multiple of the threads gives each as many
        let many = 2 * parts > threads && cost >= threads * least;
        let parts = if many {
            (cost / least).next_multiple_of(threads)
        } else {
            parts
        };
        parts.clamp(1, plan.max_parts(k, threads))
    };
    Some(each(stage).map(parts_of).collect())
}

/// A part of a kernel.
#[derive(Clone, Copy)]
struct Part {
    /// The thread that begins with it.
    queue: usize,
    /// The kernel, counted within the stage.
    task: usize,
    number: usize,
}

/// Which thread begins with which parts. Kernels of many parts give as many to each thread, the
/// same ones each time; others go to the one that has least to do.
fn deal(plan: &Plan, stage: Stage, counts: &[usize]) -> Vec<Part> {
    let threads = team::threads();
    let (mut loads, mut list) = (vec![0; threads], Vec::with_capacity(counts.iter().sum()));
    for (task, (kernel, &count)) in each(stage).zip(counts).enumerate() {
        for number in 0..count {
            let least = || (0..threads).min_by_key(|&queue| loads[queue]).unwrap_or(0);
            // the same parts to the same threads in each run: what they wrote is in their caches
            let is_even = count.is_multiple_of(threads);
            let queue = if is_even {
                number * threads / count
            } else {
                least()
            };
            loads[queue] += plan.costs[kernel].nanoseconds() / count;
            list.push(Part {
                queue,
                task,
                number,
            });
        }
    }
    list.sort_unstable_by_key(|part| (part.queue, part.task, part.number));
    list
}

/// The scratch bytes that a stage needs while it runs.
pub(super) fn scratch_bytes(plan: &Plan, stage: Stage) -> usize {
    scratch_bytes_of(plan, stage.clone(), split(plan, stage).as_deref())
}

fn scratch_bytes_of(plan: &Plan, stage: Stage, counts: Option<&[usize]>) -> usize {
    let bytes = |(k, parts): (KernelId, usize)| plan.kernels[k].scratch_bytes(parts);
    match counts {
        // one after the other: they can use the same memory
        None => each(stage).map(|k| bytes((k, 1))).max().unwrap_or(0),
        Some(counts) => each(stage)
            .zip(counts.iter().copied())
            .map(bytes)
            .fold(0, usize::saturating_add),
    }
}

/// Runs a stage, in scratch memory that is there already if it was reserved.
pub(super) fn run<'r>(
    plan: &'r Plan,
    stage: Stage,
    memory: Memory<'r>,
    scratch: &mut Bytes,
) -> Result<(), Failure> {
    let counts = split(plan, stage.clone());
    let bytes = scratch.reserve(scratch_bytes_of(plan, stage.clone(), counts.as_deref()));
    let bytes = bytes.ok_or_else(|| Failure {
        kernel: stage.start,
        error: "not enough memory for it".into(),
    })?;
    match counts {
        Some(counts) => run_parts(plan, stage, &counts, memory, bytes),
        None => each(stage).try_for_each(|kernel| {
            let done = catch(|| run_alone(plan, kernel, memory, bytes)).and_then(|done| done);
            done.map_err(|error| Failure { kernel, error })
        }),
    }
}

/// Runs one kernel on this thread.
fn run_alone<'r>(
    plan: &'r Plan,
    k: KernelId,
    memory: Memory<'r>,
    scratch: *mut u8,
) -> Result<(), OpError> {
    let task = Task::new(plan, k, memory, 1, scratch);
    task.part(plan, memory, 0)?;
    task.finish();
    Ok(())
}

/// Runs the parts of all kernels on all threads.
fn run_parts<'r>(
    plan: &'r Plan,
    stage: Stage,
    counts: &[usize],
    memory: Memory<'r>,
    scratch: *mut u8,
) -> Result<(), Failure> {
    let (mut tasks, mut next) = (Vec::with_capacity(counts.len()), scratch);
    let list = deal(plan, stage.clone(), counts);
    for (k, &count) in each(stage.clone()).zip(counts) {
        tasks.push(Task::new(plan, k, memory, count, next));
        next = next.wrapping_add(plan.kernels[k].scratch_bytes(count));
    }
    // errors and panics of parts are collected here, with their kernel: the team knows parts only
    let (tasks, first_failure) = (
        Tasks {
            plan,
            memory,
            tasks,
        },
        Mutex::new(None::<(usize, OpError)>),
    );
    let part = |k: usize| {
        let Part { task, number, .. } = list[k];
        let done = catch(|| tasks.part(task, number)).and_then(|done| done);
        done.inspect_err(|e| {
            // of several kernels that fail, the first of the stage is told, with its own error
            let mut known = first_failure.lock().unwrap_or_else(PoisonError::into_inner);
            if known.as_ref().is_none_or(|known| task < known.0) {
                *known = Some((task, e.clone()));
            }
        })
    };
    let done = match list.len() {
        // a stage of one large kernel that cannot be cut
        1 => part(0),
        parts => {
            let first = |queue| list.partition_point(|part| part.queue < queue);
            team::parallel_for(parts, first, &part)
        }
    };
    let known = first_failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    done.map_err(|e| {
        let (task, error) = known.unwrap_or((0, e));
        let error = tasks.tasks[task].error(plan, memory, error);
        let kernel = KernelId::new(stage.start.index() + task);
        Failure { kernel, error }
    })?;
    tasks.tasks.iter().for_each(Task::finish);
    Ok(())
}

/// A kernel that is to run in some parts.
enum Task<'r> {
    Fused(fused::Job<'r>),
    Product(product::Job<'r>),
    Scalar(&'r Fused, *mut u8),
    Opaque(opaque::Job<'r>),
}

/// The tasks of a stage.
struct Tasks<'r> {
    plan: &'r Plan,
    memory: Memory<'r>,
    tasks: Vec<Task<'r>>,
}

// SAFETY: the tasks of a stage do not depend on each other: what one writes, none of the others
// reads. The parts of a task write elements, rows and sums of their own, in scratch memory of their
// own.
unsafe impl Sync for Tasks<'_> {}

impl Tasks<'_> {
    fn part(&self, task: usize, part: usize) -> Result<(), OpError> {
        self.tasks[task].part(self.plan, self.memory, part)
    }
}

impl<'r> Task<'r> {
    fn new(
        plan: &'r Plan,
        k: KernelId,
        memory: Memory<'r>,
        parts: usize,
        scratch: *mut u8,
    ) -> Task<'r> {
        match &plan.kernels[k] {
            Kernel::Fused(k) => Task::Fused(fused::Job::new(k, memory, parts, scratch)),
            Kernel::Scalar(k) => Task::Scalar(k, scratch),
            Kernel::Opaque {
                op,
                inputs,
                out,
                how,
            } => Task::Opaque(opaque::Job {
                op: op.get(),
                inputs,
                out: *out,
                how: *how,
                parts,
            }),
            Kernel::Product {
                a,
                b,
                out,
                accesses,
            } => {
                let matrix = |m: &PlannedMatrix, k: usize| {
                    let access = accesses.as_ref().and_then(|both| both[k].as_ref());
                    let shape = plan.shape(m.view);
                    // SAFETY: what it reads was written in an earlier stage, and nothing of this
                    // stage writes it.
                    let view = unsafe {
                        match access {
                            Some(_) => memory.whole(m.view.value, shape),
                            None => memory.view(m.view, shape),
                        }
                    };
                    Matrix {
                        view,
                        transposed: m.transposed,
                        access,
                    }
                };
                // SAFETY: one task is made of each kernel of a stage.
                let out = unsafe { memory.view_mut(*out, plan.shape(*out)) };
                Task::Product(product::Job::new(matrix(a, 0), matrix(b, 1), out, parts))
            }
        }
    }

    fn part(&self, plan: &'r Plan, memory: Memory<'r>, part: usize) -> Result<(), OpError> {
        match self {
            Task::Fused(job) => job.part(part),
            Task::Product(job) => job.part(part),
            Task::Scalar(k, scratch) => {
                // SAFETY: the task was given the scratch memory for it, and has one part.
                unsafe { scalar::run(k, memory, *scratch) };
                Ok(())
            }
            Task::Opaque(job) => job.part(plan, memory, part),
        }
    }

    /// The error to be told, of one that failed in a part: other parts may have failed too, or would
    /// have. Computed as a whole, an op says what is wrong first.
    fn error(&self, plan: &'r Plan, memory: Memory<'r>, of_part: OpError) -> OpError {
        match self {
            Task::Opaque(job) => {
                let whole = catch(|| job.whole(plan, memory)).and_then(|done| done);
                whole.err().unwrap_or(of_part)
            }
            _ => of_part,
        }
    }

    /// What is left to do when all parts are done.
    fn finish(&self) {
        match self {
            Task::Fused(job) => job.finish(),
            Task::Product(job) => job.finish(),
            Task::Scalar(..) | Task::Opaque(..) => {}
        }
    }
}
