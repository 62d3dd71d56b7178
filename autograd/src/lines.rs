//! Lines of the user's program. `#[track_caller]` gives the line of a call only where the compiler
//! knows which function is called. Of a trait object or a function pointer it gives a line of the
//! called function: one of this crate, of `nn`, or of the standard library. Such a line says nothing
//! to a user; this file tells which ones these are, and what to show instead.

use crate::nodes::Source;
use std::{borrow::Cow, cell::Cell, marker::PhantomData, sync::LazyLock};

/// Whether a line belongs to the user: not to this crate, to `nn` or to the standard library.
pub(crate) fn is_users(source: Source) -> bool {
    const STD: [&str; 3] = ["library/core/src", "library/alloc/src", "library/std/src"];
    let file = match source.file() {
        file if file.contains('\\') => Cow::Owned(file.replace('\\', "/")),
        file => Cow::Borrowed(file),
    };
    !STD.iter().any(|folder| file.contains(folder)) && !is_own(&file)
}

/// Whether a file is a source file of this crate, or of `nn`, which lies beside it: in the same
/// workspace, or in the registry, where the names of folders have a version.
fn is_own(file: &str) -> bool {
    /// The folder of this crate, such as `../autograd/`.
    static FOLDER: LazyLock<String> = LazyLock::new(|| {
        let file = file!().replace('\\', "/");
        file.trim_end_matches("src/lines.rs").into()
    });
    let folder = &FOLDER[..];
    let beside = folder.trim_end_matches('/').rfind('/').map_or(0, |k| k + 1);
    let is_source = |path: &str| path.starts_with("src/");
    let is_version = |v: &str| v.starts_with(|c: char| c.is_ascii_digit());
    let of_package = |name: &str| name.strip_prefix("graphgrad-nn-").is_some_and(is_version);
    let is_nn = |name: &str| name == "nn" || of_package(name);
    file.strip_prefix(folder).is_some_and(is_source)
        || file
            .strip_prefix(&folder[..beside])
            .and_then(|path| path.split_once('/'))
            // crates that lie within the folder of `nn` have folders for their sources, too
            .is_some_and(|(name, path)| is_nn(name) && (is_source(path) || path.contains("/src/")))
}

thread_local! {
    /// The line where the user called the library, for what the library calls in turn.
    static ENTRY: Cell<Option<Source>> = const { Cell::new(None) };
}

/// The line where the user called the library, if it is known.
pub(crate) fn entry() -> Option<Source> {
    ENTRY.get()
}

/// This line if it is the user's, else that of the call of the library if there is one.
pub(crate) fn or_entry(source: Source) -> Source {
    match entry() {
        Some(entry) if !is_users(source) => entry,
        _ => source,
    }
}

/// Tells that a line of the user's program called a library function that builds graphs and calls
/// functions of the user's: a training loop, for example. Until the guard is dropped, errors and
/// operations of this thread whose own line lies in the library show this line instead.
///
/// For functions with `#[track_caller]`, which get their caller's line:
///
/// ```
/// use autograd::{Graph, Result, Tensor, Var};
/// use std::panic::Location;
///
/// #[track_caller]
/// fn apply_all(fs: &[fn(Var<'_>) -> Var<'_>], x: &Tensor) -> Result<Vec<Tensor>> {
///     let _call = autograd::called_from(Location::caller());
///     let g = Graph::new();
///     let x = g.constant(x);
///     g.run(fs.iter().map(|f| f(x)).collect::<Vec<_>>())
/// }
/// assert!(apply_all(&[|x| x.matmul(x)], &Tensor::from([1.0])).is_ok());
/// ```
pub fn called_from(line: Source) -> CalledFrom {
    let before = entry();
    if is_users(line) {
        ENTRY.set(Some(line));
    }
    CalledFrom(before, PhantomData)
}

/// The guard that [`called_from`] returns.
#[must_use = "the line is forgotten when this is dropped: bind it to a name"]
pub struct CalledFrom(Option<Source>, PhantomData<*const ()>); // stays on its thread

impl Drop for CalledFrom {
    fn drop(&mut self) {
        ENTRY.set(self.0);
    }
}
