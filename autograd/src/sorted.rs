//! One sort for lists of all types. The standard library's sort would be compiled for each of them,
//! with ten kilobytes of machine code each; only long lists would profit.

/// A stable sort by an integer key.
pub(crate) fn sort_by<T>(list: &mut Vec<T>, key: impl Fn(&T) -> i64) {
    let mut order: Vec<(i64, usize)> = list.iter().map(key).zip(0..).collect();
    order.sort_unstable();
    let mut elements: Vec<Option<T>> = std::mem::take(list).into_iter().map(Some).collect();
    list.extend(order.into_iter().filter_map(|(_, k)| elements[k].take()));
}
