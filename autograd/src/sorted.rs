//! One sort for lists of all types: the standard library's would be compiled for each of them, ten kilobytes of machine code
//! each, which only long lists are worth.

/// Sorts by a whole number; elements with the same one stay in their order.
pub(crate) fn sort_by<T>(list: &mut Vec<T>, key: impl Fn(&T) -> i64) {
    let mut order: Vec<(i64, usize)> = list.iter().map(key).zip(0..).collect();
    order.sort_unstable();
    let mut elements: Vec<Option<T>> = std::mem::take(list).into_iter().map(Some).collect();
    list.extend(order.into_iter().filter_map(|(_, k)| elements[k].take()));
}
