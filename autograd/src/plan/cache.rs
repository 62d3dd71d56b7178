//! Plans by the structure of what they compute, shared by all threads, bounded in number and bytes.
//! A hash finds a candidate; it is used only if the whole structure is the same.

use super::Plan;
use crate::{
    error::catch,
    index::{Index, IndexVec, list_bytes},
    nodes::{Kind, Node, NodeId, Program, ShapeId, Update},
    op::DynOp,
    shape::Shape,
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// At most this many plans are cached,
const MAX_PLANS: usize = 256;
/// which together take at most this many bytes, one of them at most half.
const MAX_BYTES: usize = 128 << 20;

/// The number of plans that have been made.
static MADE: AtomicUsize = AtomicUsize::new(0);

static CACHE: Mutex<Cache> = Mutex::new(Cache {
    entries: Vec::new(),
    bytes: 0,
    clock: 0,
});

struct Cache {
    entries: Vec<Slot>,
    bytes: usize,
    clock: u64,
}

struct Slot {
    hash: u64,
    /// When it was used last.
    used: u64,
    entry: Arc<Entry>,
}

/// A plan with the structure that it is for.
struct Entry {
    key: Key,
    plan: Arc<Plan>,
    bytes: usize,
}

/// Everything of a program that a plan depends on.
struct Key {
    nodes: IndexVec<NodeId, Words>,
    spill: Vec<NodeId>,
    shapes: IndexVec<ShapeId, Shape>,
    ops: Vec<Arc<dyn DynOp>>,
    wanted: Vec<NodeId>,
    updates: Vec<Update>,
}

/// A node without source line and scope.
type Words = [u32; 5];

#[inline]
fn words(node: &Node) -> Words {
    let kind = node.kind as u32;
    // where a leaf's value stands says nothing about the structure
    let mask = if node.kind == Kind::Op { u32::MAX } else { 0 };
    [
        node.op.map_or(0, Index::raw),
        node.args[0].raw() & mask,
        node.args[1].raw() & mask,
        node.shape.raw(),
        node.count as u32 | (node.dtype as u32) << 16 | kind << 24,
    ]
}

/// The bytes that all cached plans take, with the structures that they are for.
pub(crate) fn bytes() -> usize {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner).bytes
}

/// Drops all cached plans.
pub(crate) fn clear() {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let entries = std::mem::take(&mut cache.entries);
    cache.bytes = 0;
    drop(cache);
    let _ = catch(|| drop(entries)); // destructors of a user's ops may panic
}

pub(crate) fn made() -> usize {
    MADE.load(Relaxed)
}

/// The plan for a program: an old one if the structure is known, else a new one.
pub(crate) fn plan(p: &Program, wanted: &[NodeId], updates: &[Update]) -> Arc<Plan> {
    let hash = hash(p, wanted, updates);
    if let Some(plan) = find(hash, p, wanted, updates) {
        return plan;
    }
    // without the lock: others run their plans meanwhile, and may even make the same one, once
    let plan = Arc::new(Plan::new(p, wanted, updates));
    MADE.fetch_add(1, Relaxed);
    // what is too large is not copied first
    if plan.bytes() + p.nodes.len() * size_of::<Words>() <= MAX_BYTES / 2 {
        let key = Key {
            nodes: IndexVec::from_vec(p.nodes.iter().map(words).collect()),
            spill: p.spill.clone(),
            shapes: p.shapes.clone(),
            ops: p
                .ops
                .iter()
                .map(|op| op.for_plan().unwrap_or_else(|| op.clone()))
                .collect(),
            wanted: wanted.to_vec(),
            updates: updates.to_vec(),
        };
        let bytes = plan.bytes().saturating_add(key.bytes());
        if bytes <= MAX_BYTES / 2 {
            insert(
                hash,
                Entry {
                    key,
                    plan: plan.clone(),
                    bytes,
                },
            );
        }
    }
    plan
}

fn find(hash: u64, p: &Program, wanted: &[NodeId], updates: &[Update]) -> Option<Arc<Plan>> {
    // several structures may have one hash: the next candidate is tried until none is left
    let mut after = 0;
    loop {
        let candidate = {
            let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
            cache.clock += 1;
            let clock = cache.clock;
            let (k, found) = cache
                .entries
                .iter_mut()
                .enumerate()
                .skip(after)
                .find(|(_, slot)| slot.hash == hash)?;
            after = k + 1;
            found.used = clock;
            found.entry.clone()
        };
        // compared without the lock: another thread may search meanwhile
        if candidate.key.is(p, wanted, updates) {
            return Some(candidate.plan.clone());
        }
    }
}

fn insert(hash: u64, entry: Entry) {
    // the least recently used plans make room. They are dropped without the lock: ops of users have
    // destructors, which may ask for plans themselves
    let mut old = Vec::new();
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    while cache.entries.len() >= MAX_PLANS || cache.bytes + entry.bytes > MAX_BYTES {
        let Some(oldest) = (0..cache.entries.len()).min_by_key(|&k| cache.entries[k].used) else {
            break;
        };
        let gone = cache.entries.swap_remove(oldest);
        cache.bytes -= gone.entry.bytes;
        old.push(gone);
    }
    cache.bytes += entry.bytes;
    cache.clock += 1;
    let slot = Slot {
        hash,
        used: cache.clock,
        entry: Arc::new(entry),
    };
    cache.entries.push(slot);
    drop(cache);
    // destructors may panic, too: they belong to other programs, so this one does not fail
    let _ = catch(|| drop(old));
}

impl Key {
    /// The bytes that it takes, with the ops.
    fn bytes(&self) -> usize {
        let Key {
            nodes,
            spill,
            shapes,
            ops,
            wanted,
            updates,
        } = self;
        let lists = nodes.bytes()
            + list_bytes(spill)
            + shapes.bytes()
            + list_bytes(ops)
            + list_bytes(wanted)
            + list_bytes(updates);
        // each op stands behind two counters
        let ops = ops
            .iter()
            .map(|op| op.bytes().saturating_add(2 * size_of::<usize>()));
        ops.fold(size_of::<Entry>() + lists, usize::saturating_add)
    }

    fn is(&self, p: &Program, wanted: &[NodeId], updates: &[Update]) -> bool {
        // differences are gathered, not branched on: several nodes are compared at once
        let equal = |(key, nodes): (&[Words], &[Node])| {
            let differ = |(k, n): (&Words, &Node)| {
                let n = words(n);
                (k[0] ^ n[0]) | (k[1] ^ n[1]) | (k[2] ^ n[2]) | (k[3] ^ n[3]) | (k[4] ^ n[4])
            };
            key.iter().zip(nodes).map(differ).fold(0, |all, d| all | d) == 0
        };
        self.nodes.len() == p.nodes.len()
            && self.wanted.iter().eq(wanted)
            && self.updates.iter().eq(updates)
            && self.ops.len() == p.ops.len()
            && self.spill.iter().eq(&p.spill)
            && self.shapes == p.shapes
            && self.nodes.chunks(64).zip(p.nodes.chunks(64)).all(equal)
            && self.ops.iter().zip(&p.ops).all(|(a, b)| a.same(&**b))
    }
}

fn hash(p: &Program, wanted: &[NodeId], updates: &[Update]) -> u64 {
    const PRIME: u64 = 0x9E37_79B9_7F4A_7C15;
    // four at once: each one's multiplications wait for each other
    let mut lanes = [1u64, 2, 3, 4];
    let mix = |hash: u64, node: &Node| {
        let [op, a, b, shape, kind] = words(node).map(u64::from);
        let word = (op ^ kind << 32).wrapping_add((a | b << 32).wrapping_mul(PRIME)) ^ shape << 16;
        (hash.rotate_left(29) ^ word).wrapping_mul(PRIME)
    };
    let chunks = p.nodes.chunks_exact(4);
    let rest = chunks.remainder();
    for four in chunks {
        for k in 0..4 {
            lanes[k] = mix(lanes[k], &four[k]);
        }
    }
    let mut hash = rest.iter().fold(0, mix);
    let tail = wanted
        .iter()
        .copied()
        .chain(updates.iter().flat_map(|u| [u.target, u.value]))
        .map(|id| id.index() as u64);
    for word in lanes
        .into_iter()
        .chain([p.nodes.len() as u64, p.ops.len() as u64])
        .chain(tail)
    {
        hash = (hash.rotate_left(29) ^ word).wrapping_mul(PRIME);
    }
    hash
}
