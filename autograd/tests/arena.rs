//! The arena offsets that the planner assigns, which the public interface does not show: the source
//! file is compiled into this test.

#[allow(dead_code)] // the planner uses more of it
#[path = "../src/plan/arena.rs"]
mod arena;

use arena::Arena;

#[test]
fn sizes_saturate() {
    let (mut arena, half) = (Arena::default(), isize::MAX as usize);
    let starts: Vec<usize> = (0..4).map(|_| arena.take(half)).collect();
    assert_eq!(arena.size, usize::MAX);
    starts.into_iter().for_each(|start| arena.free(start, half));
    arena.take(8);
    assert_eq!(arena.size, usize::MAX);
}

#[test]
fn offsets_never_overlap_and_are_reused() {
    let (mut arena, mut live, mut state) = (Arena::default(), Vec::<(usize, usize)>::new(), 1u32);
    for _ in 0..10_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if live.len() > 20 || state >> 31 == 1 && !live.is_empty() {
            let (start, size) = live.swap_remove((state >> 8) as usize % live.len());
            arena.free(start, size);
        } else {
            let size = (state >> 16) as usize % 1000;
            let start = arena.take(size);
            let beside = |&(s, n): &(usize, usize)| start + size <= s || s + n.max(1) <= start;
            assert!(live.iter().all(beside), "{start} {size} {live:?}");
            live.push((start, size));
        }
    }
    assert!(arena.size < 21 * 1024 * 3);
    live.drain(..)
        .for_each(|(start, size)| arena.free(start, size));
    // all is one free block again
    let whole = arena.size;
    assert_eq!((arena.take(whole), arena.size), (0, whole));
}
