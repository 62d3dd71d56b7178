//! Writes files. A file is replaced as a whole: whoever reads it, at any time, sees the old contents
//! or the new ones. What stands at the path keeps what it is: a link stays a link, a file keeps its
//! permissions, and devices and pipes are written to.

use crate::error::{Error, Result};
use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    path::{Path, PathBuf},
};
use tempfile::{Builder, NamedTempFile};

/// What stands at a path, or will.
enum Target {
    /// A file, where links lead to, with its permissions if it is there.
    File(PathBuf, Option<Permissions>),
    /// A device or a pipe.
    Stream,
}

/// As many links lead to a file at most, as on Linux.
const MAX_LINKS: usize = 40;

/// Writes a file at this path, whole or not at all: whoever reads it sees the old contents or the new
/// ones. A link at the path stays one, a file keeps its permissions, and devices and pipes are written
/// to.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("page.html");
/// nn::write_file(&path, b"<p>done")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write(path.as_ref(), bytes)
}

/// The same inside this crate.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = match target(path)? {
        Target::Stream => stream(path, bytes),
        Target::File(file, permissions) => replace(&file, permissions, bytes),
    };
    written.map_err(|e| cannot_be_written(path, e))
}

/// Checks that a file can be written at this path: its directory exists and is writable, and so is
/// the file, if there is one. Call it before a long training.
pub fn check_writable(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let checked = match target(path)? {
        Target::Stream => Ok(()), // to open a pipe could wait for a reader
        Target::File(file, permissions) => {
            let is_there = permissions.map(|_| OpenOptions::new().write(true).open(&file));
            is_there
                .transpose()
                .and_then(|_| temporary(&file).map(drop))
        }
    };
    checked.map_err(|e| cannot_be_written(path, e))
}

/// Makes room for a new file at this path, of which the last `kept` are kept: the present one gets the
/// name with `.1` after it, that one `.2`, and so on. The present one also stays where it is until it
/// is replaced, so that whoever is killed leaves one there.
pub(crate) fn keep_last(path: &Path, kept: usize) -> Result<()> {
    let Target::File(file, Some(_)) = target(path)? else {
        return Ok(()); // nothing to keep, or a stream
    };
    let older = |n: usize| {
        let mut name = file.clone().into_os_string();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    if kept < 2 {
        return Ok(());
    }
    let renamed = (1..kept - 1)
        .rev()
        .try_for_each(|n| match older(n).exists() {
            true => fs::rename(older(n), older(n + 1)),
            false => Ok(()),
        });
    let kept = renamed.and_then(|()| {
        if older(1).exists() {
            fs::remove_file(older(1))?;
        }
        // not every file system has links
        fs::hard_link(&file, older(1)).or_else(|_| fs::copy(&file, older(1)).map(drop))
    });
    kept.map_err(|e| cannot_be_written(&older(1), e))
}

/// Whether two paths lead to the same file, which need not be there.
pub fn is_same_file(a: impl AsRef<Path>, b: impl AsRef<Path>) -> bool {
    let resolved = |path: &Path| match target(path) {
        Ok(Target::File(file, _)) => fs::canonicalize(&file).or(std::path::absolute(&file)).ok(),
        _ => None,
    };
    let (a, b) = (resolved(a.as_ref()), resolved(b.as_ref()));
    a.is_some() && a == b
}

fn cannot_be_written(path: &Path, e: io::Error) -> Error {
    Error::file(path, format!("cannot be written: {e}"))
}

fn target(path: &Path) -> Result<Target> {
    let mut file = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        let Ok(next) = fs::read_link(&file) else {
            break;
        };
        file = directory(&file).join(next);
    }
    match fs::metadata(&file) {
        Ok(of) if of.is_dir() => Err(Error::file(path, "is a directory")),
        Ok(of) if of.is_file() => Ok(Target::File(file, Some(of.permissions()))),
        Ok(_) => Ok(Target::Stream),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if !directory(&file).is_dir() {
                let message = "cannot be written: its directory does not exist";
                return Err(Error::file(path, message));
            }
            // links are resolved in the directory, too, so that paths can be compared
            let name = file.file_name().map(Path::new).unwrap_or(path);
            let directory = fs::canonicalize(directory(&file));
            Ok(Target::File(
                directory.map_or(file.clone(), |directory| directory.join(name)),
                None,
            ))
        }
        Err(e) => Err(cannot_be_written(path, e)),
    }
}

fn directory(file: &Path) -> &Path {
    let directory = file.parent().filter(|d| !d.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

fn stream(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut stream = OpenOptions::new().write(true).open(path)?;
    stream.write_all(bytes)?;
    stream.flush()
}

fn replace(file: &Path, permissions: Option<Permissions>, bytes: &[u8]) -> io::Result<()> {
    let mut new = temporary(file)?;
    new.write_all(bytes)?;
    if let Some(permissions) = permissions {
        new.as_file().set_permissions(permissions)?;
    }
    new.as_file().sync_all()?;
    new.persist(file).map_err(|e| e.error)?;
    // the new name is on the disk when the directory is; not every system can do that
    if let Ok(directory) = fs::File::open(directory(file)) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// A file in the same directory, which can be renamed to `file`. It is deleted if it is not renamed.
/// If the process is killed it stays; its name says that it is not complete.
fn temporary(file: &Path) -> io::Result<NamedTempFile> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.");
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(".incomplete");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // those of any new file: the umask takes away from them
        builder.permissions(Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory(file))
}
