//! The invariants of each stage, checked after it in debug builds: a wrong plan is found where it
//! is made, not where it corrupts a result. What the `unsafe` code of the executor relies on is
//! here. Groups and schedules check themselves, in their files.

use super::{
    Placed, Plan,
    dag::{Apply, Dag, Kind, Operand, Phase},
    index::{KernelId, ReductionId, Reg, StageId, UpdateId, ValueId},
    kernel::{Code, Fused, Kernel, LineInput, Placement, Read, Register, Step},
    size::Blocks,
    tiling::{MAX_SPAN, MAX_VECTOR_GROUP, PADDED_BLOCK},
};
use crate::index::{Index, IndexVec, each};
use std::collections::{BTreeMap, HashSet};

/// Checks a stage's result in debug builds.
///
/// # Panics
/// If an invariant is broken: then the planner is wrong, not the program that it plans.
pub(super) fn check(stage: &str, invariants: impl FnOnce() -> Result<(), String>) {
    if cfg!(debug_assertions)
        && let Err(broken) = invariants()
    {
        panic!("{stage} made a wrong plan: {broken}");
    }
}

/// An error unless something holds.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

impl Dag<'_> {
    /// Operands are older than their readers and can be seen as they are read; nothing is unused;
    /// the commit phase is read by nothing before it, and cannot fail.
    pub(super) fn verify(&self) -> Result<(), String> {
        let mut uses = IndexVec::filled(0, self.nodes.len());
        let asked_for = self
            .results
            .iter()
            .chain(self.updates.iter().map(|u| &u.value));
        asked_for.for_each(|o| uses[o.node] += 1);
        for (id, node) in self.nodes.enumerate() {
            for &operand in self.operands(id) {
                uses[operand.node] += 1;
                let of = &self.nodes[operand.node];
                ensure(operand.node < id, || {
                    format!("{id:?} reads the younger {operand:?}")
                })?;
                ensure(of.phase <= node.phase, || {
                    format!("{id:?} reads {operand:?} of the commit phase")
                })?;
                ensure(self.fits(id, operand), || {
                    format!("{id:?} cannot read {operand:?}")
                })?;
            }
            let can_commit = matches!(node.kind, Kind::Elementwise(a) if a != Apply::Custom);
            ensure(node.phase == Phase::Compute || can_commit, || {
                format!("{id:?} commits")
            })?;
        }
        for (id, node) in self.nodes.enumerate() {
            ensure(node.uses > 0 && node.uses == uses[id], || {
                format!("{id:?} has {} uses", uses[id])
            })?;
        }
        Ok(())
    }

    /// Whether an operand's shape has the elements of its node and fits its reader.
    fn fits(&self, reader: super::index::DagId, operand: Operand) -> bool {
        let (seen, node) = (self.shape(operand.shape), &self.nodes[reader]);
        let domain = self.shape(node.domain);
        let has_elements = match operand.through {
            Some(through) => self.throughs[through].shape == operand.shape,
            None => seen.count() == self.count(operand.node),
        };
        has_elements
            && (node.kind == Kind::MatMul || !operand.transposed)
            && (operand.through.is_none()
                || matches!(
                    node.kind,
                    Kind::Elementwise(_)
                        | Kind::Broadcast
                        | Kind::Fold(..)
                        | Kind::Line(..)
                        | Kind::MatMul
                ))
            && match node.kind {
                Kind::Elementwise(_) | Kind::Broadcast | Kind::Fold(..) => {
                    seen.count() == 1
                        || seen.count() == domain.count()
                        || seen.broadcasts_to(domain)
                }
                _ => true,
            }
    }
}

impl Plan {
    /// What the executor relies on: see each of the checks.
    pub(super) fn verify(&self) -> Result<(), String> {
        self.verify_values()?;
        self.verify_arena()?;
        for (id, kernel) in self.kernels.enumerate() {
            if let Kernel::Fused(k) | Kernel::Scalar(k) = kernel {
                let is_scalar = matches!(kernel, Kernel::Scalar(_));
                let checked = k.verify(is_scalar).and_then(|()| self.verify_counts(k));
                checked.map_err(|e| format!("{id:?}: {e}"))?;
            }
            let commits = self.commit_kernels().contains(&id);
            ensure(!commits || !kernel.may_fail(), || {
                format!("{id:?} commits and may fail")
            })?;
        }
        for (id, update) in self.updates.enumerate() {
            let is_safe = update.placed != Placed::InPlace || self.may_overwrite(id);
            ensure(is_safe, || format!("{id:?} cannot be in place"))?;
        }
        Ok(())
    }

    /// Whether an update may be written over the old value: the conditions of
    /// [`in_place`](super::in_place), derived once more, from what each kernel reads.
    fn may_overwrite(&self, update: UpdateId) -> bool {
        let target = self.updates[update].target;
        let is_old = |v: ValueId| {
            self.values[v].node == target && matches!(self.values[v].placement, Placement::Input(_))
        };
        let is_new = |v: ValueId| self.values[v].placement == Placement::Update(update);
        let mut has_written = false;
        for stage in self.stages.iter() {
            let writes_new = |k: &KernelId| {
                let mut writes = false;
                self.kernels[*k].writes(|v| writes |= is_new(v));
                writes
            };
            let reads_old = |k: KernelId| {
                let mut reads = false;
                self.kernels[k].reads(|v| reads |= is_old(v));
                reads
            };
            let writer = each(stage.clone()).find(writes_new);
            let other_reads = each(stage.clone()).any(|k| Some(k) != writer && reads_old(k));
            if (has_written || writer.is_some()) && other_reads {
                return false;
            }
            if let Some(writer) = writer {
                has_written = true;
                let is_safe = match &self.kernels[writer] {
                    Kernel::Fused(k) => k.reads_before_it_writes(&is_old, &is_new),
                    kernel => matches!(kernel, Kernel::Scalar(_)), // reads all, then writes
                };
                if !is_safe {
                    return false;
                }
            }
        }
        has_written
    }

    /// Values have as many elements as kernels read and write.
    fn verify_counts(&self, k: &Fused) -> Result<(), String> {
        let count = |v: ValueId| self.values[v].count;
        for register in k.registers.iter() {
            let fits = match *register {
                Register::Output(value) => count(value) == k.count,
                Register::Source { value, read } => match read {
                    Read::Whole => count(value) == k.count,
                    Read::Constant => count(value) == 1,
                    Read::From(start) => start + k.count <= count(value),
                    Read::Strided(access) => k.accesses[access].is_within(count(value)),
                },
                _ => true,
            };
            ensure(fits, || {
                format!("{register:?} has another number of elements")
            })?;
        }
        for sum in k.reductions.iter() {
            let fits = |value| count(value) * sum.lines.n == k.count;
            let of_line = || k.blocks.whole_lines() == Some(sum.lines);
            let fits = sum.value.map_or_else(of_line, fits);
            ensure(fits, || format!("{sum:?} has another number of elements"))?;
        }
        for line in &k.line_steps {
            let n = k.blocks.whole_lines().map_or(0, |lines| lines.n);
            let fits = |v: ValueId| count(v) * n == k.count;
            let fits = line.value.is_none_or(fits) && line.labels.is_none_or(fits);
            ensure(fits, || format!("{line:?} has another number of lines"))?;
        }
        let fits = k
            .products
            .iter()
            .filter_map(|p| p.out)
            .all(|out| count(out) == k.count);
        ensure(fits, || "a product has another number of elements".into())
    }

    /// Each value has one writer, in a stage before those of its readers; leaves have none. No two
    /// values are the same tensor.
    fn verify_values(&self) -> Result<(), String> {
        let written = self.stages_of_writers()?;
        let mut places = HashSet::new();
        for (id, value) in self.values.enumerate() {
            let is_leaf = matches!(value.placement, Placement::Input(_));
            ensure(written[id].is_none() == is_leaf, || {
                format!("{id:?} is not written once")
            })?;
            if !matches!(value.placement, Placement::Arena(_)) {
                let place = format!("{:?}", value.placement);
                ensure(places.insert(place), || {
                    format!("{:?} is taken twice", value.placement)
                })?;
            }
        }
        for (stage, kernels) in self.stages.enumerate() {
            for kernel in each(kernels.clone()) {
                let mut late = None;
                self.kernels[kernel].reads(|value| {
                    if written[value].is_some_and(|writer| writer >= stage) {
                        late = Some(value);
                    }
                });
                ensure(late.is_none(), || {
                    format!("{kernel:?} reads {late:?} before it is written")
                })?;
            }
        }
        Ok(())
    }

    fn stages_of_writers(&self) -> Result<IndexVec<ValueId, Option<StageId>>, String> {
        let mut written = IndexVec::filled(None, self.values.len());
        let mut twice = None;
        for (stage, kernels) in self.stages.enumerate() {
            for kernel in each(kernels.clone()) {
                self.kernels[kernel].writes(|value| {
                    if written[value].replace(stage).is_some() {
                        twice = Some(value);
                    }
                });
            }
        }
        ensure(twice.is_none(), || format!("{twice:?} is written twice"))?;
        Ok(written)
    }

    /// Values that are alive at the same time do not overlap in the arena. A value lives from the
    /// stage that writes it to that of its last reader.
    fn verify_arena(&self) -> Result<(), String> {
        if self.arena == usize::MAX {
            return Ok(()); // no memory is that large: nothing will run
        }
        let mut last_stage = self.stages_of_writers()?;
        for (stage, kernels) in self.stages.enumerate() {
            each(kernels.clone())
                .for_each(|k| self.kernels[k].reads(|value| last_stage[value] = Some(stage)));
        }
        let mut dying: IndexVec<StageId, Vec<ValueId>> =
            IndexVec::filled(Vec::new(), self.stages.len());
        for value in self.values.indices() {
            if let Some(stage) = last_stage[value] {
                dying[stage].push(value);
            }
        }
        // a sweep over the stages: ranges are inserted when written, and removed after their last
        // read
        let mut live: BTreeMap<usize, usize> = BTreeMap::new(); // ends by starts
        for (stage, kernels) in self.stages.enumerate() {
            let mut overlap = None;
            for kernel in each(kernels.clone()) {
                self.kernels[kernel].writes(|value| {
                    let Placement::Arena(start) = self.values[value].placement else {
                        return;
                    };
                    let end = start + self.values[value].bytes().max(1);
                    let before = live
                        .range(..end)
                        .next_back()
                        .is_some_and(|(_, &other)| other > start);
                    if before || end > self.arena {
                        overlap = Some(value);
                    }
                    live.insert(start, end);
                });
            }
            ensure(overlap.is_none(), || {
                format!("{overlap:?} overlaps with another value")
            })?;
            for &value in &dying[stage] {
                if let Placement::Arena(start) = self.values[value].placement {
                    live.remove(&start);
                }
            }
        }
        Ok(())
    }
}

/// What is in registers and in the accumulator while the steps of a kernel are walked through.
struct State<'k> {
    k: &'k Fused,
    written: IndexVec<Reg, bool>,
    /// The accumulator holds a result that the next step may use.
    has_accumulator: bool,
}

impl Fused {
    /// Registers are written before they are read, temporaries in the same segment; no step uses
    /// an accumulator that the one before did not leave; outputs are written once; registers
    /// do not overlap.
    pub(super) fn verify(&self, is_scalar: bool) -> Result<(), String> {
        // everything but what steps write is there from the beginning
        let is_given = |r: &Register| {
            !matches!(
                r,
                Register::Temporary | Register::Block | Register::Line | Register::Output(_)
            )
        };
        let mut state = State {
            k: self,
            written: IndexVec::from_vec(self.registers.iter().map(is_given).collect()),
            has_accumulator: false,
        };
        let mut lines = self.line_steps.iter().peekable();
        for at in 0..=self.steps.len() {
            while let Some(line) = lines.next_if(|line| line.after == at) {
                let kind = match line.function.reduces() && self.blocks.has_long_lines() {
                    true => Register::Line,
                    false => Register::Block,
                };
                let is_columns = matches!(self.blocks, Blocks::OfColumns(_));
                let is_read = |to| {
                    self.steps[at..]
                        .iter()
                        .any(|step| step.reads().any(|r| r == to))
                };
                let to_block = line.to.is_none_or(|to| match self.registers[to] {
                    Register::Output(_) => !line.function.reduces() && (is_columns || !is_read(to)),
                    of => of == kind,
                });
                ensure(to_block, || format!("{line:?} writes to no {kind:?}"))?;
                let has_elements = match line.from {
                    LineInput::Block(from) => {
                        self.registers[from].is_block() && state.written[from]
                    }
                    LineInput::Folded(of) => self.is_folded(of, &self.steps[..at]),
                };
                ensure(has_elements, || format!("{line:?} has no elements"))?;
                if let Some(to) = line.to {
                    state.written[to] = true;
                }
                state.next_segment();
            }
            if at < self.steps.len() {
                state.step(at)?;
            }
        }
        for (register, _) in self
            .registers
            .enumerate()
            .filter(|(_, r)| matches!(r, Register::Output(_)))
        {
            ensure(state.written[register], || {
                format!("{register:?} is not written")
            })?;
        }
        for output in &self.line_outputs {
            let of = self.registers[output.from];
            let is_there = state.written[output.from] && (of.is_block() || of == Register::Line);
            ensure(is_there && self.blocks.whole_lines().is_some(), || {
                format!("{output:?} has no numbers of lines")
            })?;
        }
        for sum in self.reductions.iter() {
            let is_there = sum
                .from
                .is_none_or(|from| state.written[from] && self.registers[from].is_block());
            ensure(is_there, || format!("{sum:?} has no block"))?;
        }
        self.verify_cuts()?;
        self.verify_layout(is_scalar)
    }

    /// Whether one of these steps takes a block's only line into a reduction.
    fn is_folded(&self, of: ReductionId, before: &[Step]) -> bool {
        let takes = |step: &&Step| step.code.reduction() == Some(of);
        self.blocks.is_one_line()
            && self.reductions[of].value.is_none()
            && self.steps.iter().filter(takes).count() == 1
            && before.iter().filter(takes).count() == 1
    }

    /// No line that a function goes over is cut, by a block or by a part; and what goes over
    /// elements in their order is not where blocks have another one.
    fn verify_cuts(&self) -> Result<(), String> {
        if let Blocks::InStrips(lines) = self.blocks {
            let is_alike = self.reductions.iter().all(|of| of.lines == lines)
                && self.products.is_empty()
                && self.count.is_multiple_of(lines.n * lines.inner);
            ensure(is_alike, || "strips are of other lines".into())?;
        }
        if self.line_steps.is_empty() {
            return Ok(());
        }
        let Some(lines) = self.blocks.whole_lines() else {
            return Err("functions of lines without blocks of whole lines".into());
        };
        let in_order = lines.inner == 1 || self.reductions.is_empty() && self.products.is_empty();
        ensure(in_order, || {
            "blocks of columns have what goes over elements in order".into()
        })?;
        let line = lines.n;
        let is_whole = |n: usize| n.is_multiple_of(line);
        let cuts = self.layout.cuts;
        let are_whole = is_whole(self.count)
            && is_whole(self.block())
            && cuts.is_none_or(|cuts| is_whole(cuts.period) && is_whole(cuts.grain));
        ensure(are_whole, || format!("lines of {line} are cut: {cuts:?}"))
    }

    /// Whether the old value of a parameter is read element by element only, and by no step after
    /// the one that stores the new value.
    fn reads_before_it_writes(
        &self,
        is_old: &dyn Fn(ValueId) -> bool,
        is_new: &dyn Fn(ValueId) -> bool,
    ) -> bool {
        let of_old = |r: Reg| match self.registers[r] {
            Register::Source { value, read } => is_old(value) && read != Read::Constant,
            _ => false,
        };
        let is_whole = |r: &Register| match *r {
            Register::Source { value, read } => {
                !is_old(value) || matches!(read, Read::Whole | Read::Constant)
            }
            _ => true,
        };
        let blocks = self
            .reductions
            .iter()
            .filter_map(|s| s.from)
            .chain(self.line_steps.iter().filter_map(|l| l.from.block()));
        let mut matrices = self
            .products
            .iter()
            .flat_map(|p| [p.a.view.value, p.b.view.value]);
        let stores_new = |step: &Step| {
            let store = step.store.map(|r| self.registers[r]);
            matches!(store, Some(Register::Output(value)) if is_new(value))
        };
        let after = self
            .steps
            .iter()
            .skip_while(|step| !stores_new(step))
            .skip(1);
        self.registers.iter().all(is_whole)
            && !blocks.into_iter().any(of_old)
            && !matrices.any(is_old)
            && !after.flat_map(Step::reads).any(of_old)
    }

    fn verify_layout(&self, is_scalar: bool) -> Result<(), String> {
        let block = self.block_register();
        let mut end = if is_scalar { self.registers.len() } else { 0 };
        for (register, &start) in self.layout.registers.enumerate() {
            ensure(start >= end, || format!("{register:?} overlaps"))?;
            end = start
                + match self.registers[register] {
                    Register::Temporary => self.layout.span,
                    of if of.is_block() => block,
                    _ => MAX_VECTOR_GROUP,
                };
        }
        let span = self.layout.span;
        let is_span = span.is_power_of_two() && (MAX_VECTOR_GROUP..=MAX_SPAN).contains(&span);
        ensure(is_scalar || is_span, || format!("a span of {span}"))?;
        if !self.line_steps.is_empty() {
            let sizes = [block, PADDED_BLOCK, PADDED_BLOCK];
            for (&start, size) in self.layout.line_steps.iter().zip(sizes) {
                ensure(start >= end, || {
                    "memory of functions of lines overlaps".into()
                })?;
                end = start + size;
            }
        }
        for (product, &start) in self.layout.products.enumerate() {
            ensure(start >= end, || format!("rows of {product:?} overlap"))?;
            end = start + self.rows_together() * self.products[product].size.n;
        }
        for panel in &self.layout.panels {
            ensure(panel.start >= end, || format!("{panel:?} overlaps"))?;
            end = panel.start + self.layout.panel.min(self.count);
        }
        let is_complete = is_scalar || self.layout.registers.len() == self.registers.len();
        ensure(is_complete, || "a register has no place".into())?;
        let bytes = end * self.dtype.size();
        ensure(bytes <= self.part_bytes(), || {
            "registers need more memory than there is".into()
        })
    }
}

impl State<'_> {
    fn next_segment(&mut self) {
        self.has_accumulator = false;
        for (register, of) in self.k.registers.enumerate() {
            if *of == Register::Temporary {
                self.written[register] = false;
            }
        }
    }

    fn step(&mut self, at: usize) -> Result<(), String> {
        let step = &self.k.steps[at];
        for register in step.reads() {
            ensure(self.written[register], || {
                format!("step {at} reads {register:?} before it is written")
            })?;
        }
        let is_there = match step.code {
            Code::Custom(op, _) => op.index() < self.k.custom.len(),
            code => code
                .reduction()
                .is_none_or(|of| of.index() < self.k.reductions.len()),
        };
        ensure(is_there, || {
            format!("step {at} names what the kernel does not have")
        })?;
        let has_operand = self.has_accumulator || !step.continues();
        ensure(has_operand, || format!("step {at} has no accumulator"))?;
        if let Some(store) = step.store {
            let of = &self.k.registers[store];
            let is_new = !matches!(of, Register::Output(_)) || !self.written[store];
            let can_store = matches!(
                of,
                Register::Temporary | Register::Block | Register::Line | Register::Output(_)
            );
            ensure(is_new && can_store, || {
                format!("step {at} must not store to {store:?}")
            })?;
            self.written[store] = true;
        }
        self.has_accumulator = true;
        Ok(())
    }
}
