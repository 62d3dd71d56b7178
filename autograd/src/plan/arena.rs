//! Places in one piece of memory, by who is alive when.

use std::collections::BTreeSet;

/// Each place starts at a multiple of this: a line of the cache.
pub(crate) const ALIGN: usize = 64;

/// The free parts of an arena that grows as needed.
#[derive(Default)]
pub(super) struct Arena {
    /// Start and size.
    by_start: BTreeSet<(usize, usize)>,
    /// Size and start.
    by_size: BTreeSet<(usize, usize)>,
    end: usize,
    /// The most that was needed at once; `usize::MAX` if that is more than any memory has. Then
    /// nothing runs, and the places mean nothing.
    pub(super) size: usize,
}

impl Arena {
    /// A place for this many bytes: the smallest free part that is large enough, or new memory at
    /// the end.
    pub(super) fn take(&mut self, bytes: usize) -> usize {
        let bytes = round(bytes);
        // best fit: large ranges are left for large values
        if let Some(&(size, start)) = self.by_size.range((bytes, 0)..).next() {
            self.remove(start, size);
            if size > bytes {
                self.insert(start + bytes, size - bytes);
            }
            return start;
        }
        // a free part at the very end is made longer
        let start = match self.by_start.last() {
            Some(&(start, size)) if start + size == self.end => {
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
        if let Some(&(before, length)) = self.by_start.range(..(start, 0)).next_back()
            && before + length == start
        {
            self.remove(before, length);
            (start, size) = (before, length + size);
        }
        if let Some(&(next, after)) = self.by_start.range((start + size, 0)..).next()
            && next == start + size
        {
            self.remove(next, after);
            size += after;
        }
        self.insert(start, size);
    }

    fn insert(&mut self, start: usize, size: usize) {
        self.by_start.insert((start, size));
        self.by_size.insert((size, start));
    }

    fn remove(&mut self, start: usize, size: usize) {
        self.by_start.remove(&(start, size));
        self.by_size.remove(&(size, start));
    }
}

fn round(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(ALIGN)
}
