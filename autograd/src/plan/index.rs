//! The index types of plans, and lists by key.

use crate::index::{Index, index};
use std::{marker::PhantomData, ops::Range};

index! {
    /// A node of the [`Dag`](super::dag::Dag).
    DagId,
    /// A fusion group: the nodes that one kernel computes.
    GroupId,
    /// A kernel, in the order in which they run.
    KernelId,
    /// A stage: kernels that can run at the same time.
    StageId,
    /// A value in memory.
    ValueId,
    /// A leaf that a plan reads.
    InputId,
    /// A tensor that a plan hands out.
    OutputId,
    /// An update of a parameter, in the order of the calls of `assign`.
    UpdateId,
    /// A register of a fused or scalar kernel.
    Reg,
    /// A reduction that a fused kernel computes.
    ReductionId,
    /// A matrix product that a fused kernel computes.
    ProductId,
    /// How a fused kernel reads a source that it does not read one by one.
    AccessId,
    /// How an operand is read that is a slice or a permutation.
    ThroughId,
    /// A user's op among those of a kernel.
    CustomId,
}

/// Items by key, stored one key after the other (the compressed sparse rows of sparse matrices).
pub(crate) struct Csr<K, V> {
    starts: Vec<u32>,
    items: Vec<V>,
    key: PhantomData<fn(K)>,
}

impl<K: Index, V: Copy> Csr<K, V> {
    /// The items of each of `keys` keys, in the order of the pairs.
    pub(crate) fn new(keys: usize, pairs: &[(K, V)]) -> Csr<K, V> {
        let mut starts = vec![0; keys + 1];
        pairs
            .iter()
            .for_each(|&(key, _)| starts[key.index() + 1] += 1);
        (0..keys).for_each(|k| starts[k + 1] += starts[k]);
        let mut next = starts.clone();
        let mut items = Vec::new();
        if let Some(&(_, any)) = pairs.first() {
            items.resize(pairs.len(), any);
        }
        for &(key, item) in pairs {
            let place = &mut next[key.index()];
            items[*place as usize] = item;
            *place += 1;
        }
        Csr {
            starts,
            items,
            key: PhantomData,
        }
    }

    /// The items of a key.
    pub(crate) fn get(&self, key: K) -> &[V] {
        &self.items[self.range(key)]
    }

    fn range(&self, key: K) -> Range<usize> {
        self.starts[key.index()] as usize..self.starts[key.index() + 1] as usize
    }

    /// The bytes that the lists take.
    pub(crate) fn bytes(&self) -> usize {
        crate::index::list_bytes(&self.starts) + crate::index::list_bytes(&self.items)
    }
}

impl<K, V> Default for Csr<K, V> {
    fn default() -> Self {
        Csr {
            starts: vec![0],
            items: Vec::new(),
            key: PhantomData,
        }
    }
}
