//! Places in one piece of memory, by who is alive when.

use std::collections::{BTreeMap, BTreeSet};

/// Each place starts at a multiple of this: a line of the cache.
pub(crate) const ALIGN: usize = 64;

/// The free parts of an arena that grows as needed.
#[derive(Default)]
pub(super) struct Arena {
    by_start: BTreeMap<usize, usize>,
    by_size: BTreeSet<(usize, usize)>,
    end: usize,
    /// The most that was needed at once; `usize::MAX` if that is more than any memory has. Then nothing runs, and the places
    /// mean nothing.
    pub(super) size: usize,
}

impl Arena {
    /// A place for this many bytes: the smallest free part that is large enough, or new memory at the end.
    pub(super) fn take(&mut self, bytes: usize) -> usize {
        let bytes = round(bytes);
        if let Some(&(size, start)) = self.by_size.range((bytes, 0)..).next() {
            self.remove(start, size);
            if size > bytes {
                self.insert(start + bytes, size - bytes);
            }
            return start;
        }
        // a free part at the very end is made longer
        let start = match self.by_start.last_key_value() {
            Some((&start, &size)) if start + size == self.end => {
                self.remove(start, size);
                start
            }
            _ => self.end,
        };
        match start.checked_add(bytes) {
            Some(end) => self.end = end,
            None => self.size = usize::MAX,
        }
        self.size = self.size.max(self.end);
        start
    }

    /// Gives a place back; it is joined with free neighbours.
    pub(super) fn free(&mut self, start: usize, bytes: usize) {
        if self.size == usize::MAX {
            return;
        }
        let (mut start, mut size) = (start, round(bytes));
        if let Some((&before, &length)) = self.by_start.range(..start).next_back()
            && before + length == start
        {
            self.remove(before, length);
            (start, size) = (before, length + size);
        }
        if let Some(&after) = self.by_start.get(&(start + size)) {
            self.remove(start + size, after);
            size += after;
        }
        self.insert(start, size);
    }

    fn insert(&mut self, start: usize, size: usize) {
        self.by_start.insert(start, size);
        self.by_size.insert((size, start));
    }

    fn remove(&mut self, start: usize, size: usize) {
        self.by_start.remove(&start);
        self.by_size.remove(&(size, start));
    }
}

fn round(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::Arena;

    #[test]
    fn too_much_for_any_memory_stays_too_much() {
        let (mut arena, half) = (Arena::default(), isize::MAX as usize);
        let starts: Vec<usize> = (0..4).map(|_| arena.take(half)).collect();
        assert_eq!(arena.size, usize::MAX);
        starts.into_iter().for_each(|start| arena.free(start, half));
        arena.take(8);
        assert_eq!(arena.size, usize::MAX);
    }

    #[test]
    fn places_never_overlap_and_are_used_again() {
        let (mut arena, mut live, mut state) = (Arena::default(), Vec::<(usize, usize)>::new(), 1u32);
        for _ in 0..10_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if live.len() > 20 || state >> 31 == 1 && !live.is_empty() {
                let (start, size) = live.swap_remove((state >> 8) as usize % live.len());
                arena.free(start, size);
            } else {
                let size = (state >> 16) as usize % 1000;
                let start = arena.take(size);
                assert!(
                    live.iter().all(|&(s, n)| start + size <= s || s + n.max(1) <= start),
                    "{start} {size} {live:?}"
                );
                live.push((start, size));
            }
        }
        assert!(arena.size < 21 * 1024 * 3);
        live.drain(..).for_each(|(start, size)| arena.free(start, size));
        assert_eq!(arena.by_start.len(), 1);
    }
}
