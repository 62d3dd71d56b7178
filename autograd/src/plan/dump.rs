//! What each pass of planning makes of a program, as text: for those who work on the planner, and
//! for the chapter about it. Nothing here is needed to make or run a plan.

use super::{
    Placed, Plan,
    dag::{Apply, Dag, Kind, Operand, Phase},
    fuse::{self, Groups, Work},
    index::{DagId, KernelId, Reg, ValueId},
    kernel::{Code, Fused, Kernel, LineInput, LineStep, Placement, Read, Register, Step},
    lower,
    schedule::Schedule,
    size::Blocks,
};
use crate::{
    index::{Index, each},
    nodes::{self, NodeId, Program, ShapeId},
    op::lowering::LineFunction,
};
use std::fmt::Write;

/// All passes of planning some nodes and updates.
pub(crate) fn passes(p: &Program, wanted: &[NodeId], updates: &[nodes::Update]) -> String {
    let dag = lower::lower(p, wanted, updates);
    let groups = fuse::fuse(&dag);
    let schedule = Schedule::new(&dag, &groups);
    let mut plan = Plan::emit(&dag, &groups, &schedule);
    super::in_place::decide(&mut plan);
    let sections = [
        ("lowered", lowered(&dag)),
        ("groups", fused(&dag, &groups, &schedule)),
        ("stages", scheduled(&schedule)),
        ("kernels", emitted(&plan)),
        ("values", placed(&plan)),
    ];
    let mut text = String::new();
    for (title, lines) in sections {
        let _ = writeln!(text, "{title}"); // writing to a string does not fail
        lines
            .iter()
            .for_each(|line| text.extend(["  ", line, "\n"]));
    }
    text
}

/// Names with commas between them.
fn list<T>(items: impl IntoIterator<Item = T>, name: impl Fn(T) -> String) -> String {
    items.into_iter().map(name).collect::<Vec<_>>().join(", ")
}

fn lowered(dag: &Dag<'_>) -> Vec<String> {
    let operand = |o: &Operand| {
        let own = dag.nodes[o.node].shape;
        let seen = if o.shape == own {
            String::new()
        } else {
            format!(" as {}", dag.shape(o.shape))
        };
        format!(
            "d{}{seen}{}",
            o.node.index(),
            if o.transposed { " transposed" } else { "" }
        )
    };
    let line = |(id, node): (DagId, &super::dag::Node)| {
        let name = match node.kind {
            Kind::Leaf => "leaf".into(),
            _ => format!(
                "{}({})",
                dag.program.op(node.id).name(),
                list(dag.operands(id), operand)
            ),
        };
        let kind = match node.kind {
            Kind::Leaf => "",
            Kind::Elementwise(Apply::Custom) => "elementwise, a user's",
            Kind::Elementwise(_) => "elementwise",
            Kind::Broadcast => "broadcast",
            Kind::Fold(..) => "reduction",
            Kind::Line(..) => "function of lines",
            Kind::MatMul => "product",
            Kind::Permute => "permute",
            Kind::Slice => "slice",
            Kind::Opaque => "opaque",
        };
        let phase = if node.phase == Phase::Commit {
            ", commit phase"
        } else {
            ""
        };
        let ty = format!("{}{}", node.dtype, dag.shape(node.shape));
        format!(
            "{:<4} {ty:<12} {name:<28} {kind}{phase}",
            format!("d{}", id.index())
        )
        .trim_end()
        .into()
    };
    let results = format!("results: {}", list(&dag.results, operand));
    dag.nodes.enumerate().map(line).chain([results]).collect()
}

fn fused(dag: &Dag<'_>, groups: &Groups, schedule: &Schedule) -> Vec<String> {
    let line = |(id, group): (super::index::GroupId, &fuse::Group)| {
        let work = match group.work {
            Work::Single => "single".into(),
            Work::Scalars { dtype } => format!("scalars of {dtype}"),
            Work::Elements {
                domain,
                dtype,
                blocks,
                ..
            } => {
                let lines = match blocks {
                    Blocks::OfColumns(lines) => format!(" in columns of {}", lines.n),
                    _ => blocks
                        .line()
                        .map_or(String::new(), |n| format!(" in lines of {n}")),
                };
                format!("elements of {dtype}{}{lines}", dag.shape(domain))
            }
        };
        let nodes = list(schedule.members.get(id), |node| {
            format!("d{}", node.index())
        });
        format!("g{} level {}, {work}: {nodes}", id.index(), group.level)
    };
    groups.all.enumerate().map(line).collect()
}

fn scheduled(schedule: &Schedule) -> Vec<String> {
    let line = |(k, range): (usize, std::ops::Range<usize>)| {
        let phase = if k < schedule.compute_stages {
            ""
        } else {
            " (commit)"
        };
        format!(
            "{k}{phase}: {}",
            list(&schedule.order[range], |g| format!("g{}", g.index()))
        )
    };
    schedule.stages().enumerate().map(line).collect()
}

fn emitted(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for stage in plan.stages.iter() {
        for id in each(stage.clone()) {
            lines.extend(kernel(plan, id));
        }
    }
    lines
}

fn kernel(plan: &Plan, id: KernelId) -> Vec<String> {
    let (name, value) = (format!("k{}", id.index()), |v: ValueId| {
        format!("v{}", v.index())
    });
    let shape = |s: ShapeId| plan.shapes[s];
    match &plan.kernels[id] {
        Kernel::Product {
            a,
            b,
            out,
            accesses,
        } => {
            let matrix = |m: &super::kernel::Matrix, k: usize| {
                let is_strided = accesses.as_ref().is_some_and(|both| both[k].is_some());
                let how = match (m.transposed, is_strided) {
                    (true, _) => " transposed",
                    (_, true) => " strided",
                    _ => "",
                };
                format!("{}{}{how}", value(m.view.value), shape(m.view.shape))
            };
            vec![format!(
                "{name} product: {} = {} · {}",
                value(out.value),
                matrix(a, 0),
                matrix(b, 1)
            )]
        }
        Kernel::Opaque {
            op, inputs, out, ..
        } => {
            let inputs = list(inputs, |view| value(view.value));
            vec![format!(
                "{name} op: {} = {}({inputs})",
                value(out.value),
                op.get().name()
            )]
        }
        Kernel::Fused(k) => {
            let head = format!("{name} fused, {} elements of {}:", k.count, k.dtype);
            [head].into_iter().chain(body(k)).collect()
        }
        Kernel::Scalar(k) => {
            let head = format!("{name} scalar, of {}:", k.dtype);
            [head].into_iter().chain(body(k)).collect()
        }
    }
}

/// Registers and steps.
fn body(k: &Fused) -> Vec<String> {
    let mut lines: Vec<String> = k
        .registers
        .enumerate()
        .filter_map(|(r, of)| register(r, of))
        .collect();
    for (id, p) in k.products.enumerate() {
        let matrix = |m: &super::kernel::Matrix| format!("v{}", m.view.value.index());
        let out = p
            .out
            .map_or(String::new(), |out| format!(" -> v{}", out.index()));
        lines.push(format!(
            "  p{} = rows of {} · {}{out}",
            id.index(),
            matrix(&p.a),
            matrix(&p.b)
        ));
    }
    let mut functions = k.line_steps.iter().peekable();
    for at in 0..=k.steps.len() {
        while let Some(function) = functions.next_if(|f| f.after == at) {
            lines.push(format!("  {}", line_step(function)));
        }
        if let Some(of) = k.steps.get(at) {
            lines.push(format!("  {}", step(of, k)));
        }
    }
    for of in &k.line_outputs {
        lines.push(format!(
            "  v{} = one of {} for each line",
            of.value.index(),
            reg(of.from)
        ));
    }
    for of in k.reductions.iter() {
        let Some(value) = of.value else {
            continue; // a function of lines says it
        };
        let from = of.from.map_or("the steps".into(), reg);
        let (n, inner) = (of.lines.n, of.lines.inner);
        lines.push(format!(
            "  v{} = {} of {from} over lines of {n}, {inner} apart",
            value.index(),
            of.fold.name()
        ));
    }
    lines
}

fn reg(r: Reg) -> String {
    format!("r{}", r.index())
}

/// A register that is more than a place for steps.
fn register(r: Reg, of: &Register) -> Option<String> {
    let what = match of {
        Register::Number(n) => format!("{n}"),
        Register::Source { value, read } => {
            let read = match read {
                Read::Whole => "",
                Read::Constant => ", a number",
                Read::From(start) => &format!(" from element {start}"),
                Read::Strided(_) => ", strided",
            };
            format!("v{}{read}", value.index())
        }
        Register::Product(p) => format!("p{}", p.index()),
        Register::Output(value) => return Some(format!("  {} -> v{}", reg(r), value.index())),
        Register::Temporary | Register::Block | Register::Line => return None,
    };
    Some(format!("  {} <- {what}", reg(r)))
}

/// A step as an assignment; `a` is the accumulator.
fn step(step: &Step, k: &Fused) -> String {
    let x = step.load.map_or("a".into(), reg);
    let call = |name: &str, x: &[Reg]| {
        let mut x: Vec<Reg> = x.to_vec();
        while x.len() > 1 && x.last() == x.first() {
            x.pop(); // the first one fills the places of inputs that an op does not have
        }
        format!("{name}({})", list(x, reg))
    };
    let result = match step.code {
        Code::NoOp => x,
        Code::Add(b) => format!("{x} + {}", reg(b)),
        Code::Sub(b) => format!("{x} - {}", reg(b)),
        Code::Mul(b) => format!("{x} * {}", reg(b)),
        Code::Div(b) => format!("{x} / {}", reg(b)),
        Code::SubFrom(b) => format!("{} - {x}", reg(b)),
        Code::DivInto(b) => format!("{} / {x}", reg(b)),
        Code::AddProduct(b, c) => format!("{x} + {} * {}", reg(b), reg(c)),
        Code::SubProduct(b, c) => format!("{x} - {} * {}", reg(b), reg(c)),
        Code::MulProduct(b, c) => format!("{x} * ({} * {})", reg(b), reg(c)),
        Code::ProductSub(b, c) => format!("{} * {} - {x}", reg(b), reg(c)),
        Code::MulAdd(b, c) => format!("{x} * {} + {}", reg(b), reg(c)),
        Code::SubMul(b, c) => format!("({x} - {}) * {}", reg(b), reg(c)),
        Code::Unary(f) => format!("{f:?}({x})").to_lowercase(),
        Code::Power(n) => format!("{x}^{n}"),
        Code::Fold(of) => {
            let name = k.reductions[of].fold.name();
            return format!("{name} {} takes {x}", of.index());
        }
        Code::SumSquare(of) => return format!("sum {} takes {x}^2", of.index()),
        Code::SumScaledSquare(b, of) => {
            return format!("sum {} takes ({x} * {})^2", of.index(), reg(b));
        }
        Code::Function(f, y) => call(&format!("{f:?}").to_lowercase(), &y),
        Code::Custom(op, y) => call(k.custom[op].get().name(), &y),
    };
    match (step.store, step.code) {
        (Some(store), Code::NoOp) => format!("{} = {result}", reg(store)),
        (Some(store), _) => format!("{} = a = {result}", reg(store)),
        (None, _) => format!("a = {result}"),
    }
}

fn line_step(step: &LineStep) -> String {
    let to = step.to.map(reg).into_iter();
    let to = to.chain(step.value.map(|v| format!("v{}", v.index())));
    let labels = step
        .labels
        .map_or(String::new(), |v| format!(", labels v{}", v.index()));
    let to = to.collect::<Vec<_>>().join(", ");
    let function = match step.function {
        LineFunction::Fold(fold) => fold.name().into(),
        function => format!("{function:?}"),
    };
    match step.from {
        LineInput::Block(from) => {
            format!("{to} = {function} of the lines of {}{labels}", reg(from))
        }
        LineInput::Folded(of) => format!("{to} = {function} {} of the line", of.index()),
    }
}

fn placed(plan: &Plan) -> Vec<String> {
    let line = |(id, value): (ValueId, &super::kernel::Value)| {
        let place = match value.placement {
            Placement::Input(_) => format!("input {}", value.node),
            Placement::Arena(at) => format!("arena at {at}"),
            Placement::Output(output) => format!("output {}", output.index()),
            Placement::Update(update) => match plan.updates[update].placed {
                Placed::InPlace => format!("update {}, in place", update.index()),
                _ => format!("update {}, in a new buffer", update.index()),
            },
        };
        format!(
            "{:<4} {} B, {place}",
            format!("v{}", id.index()),
            value.bytes()
        )
    };
    plan.values.enumerate().map(line).collect()
}
