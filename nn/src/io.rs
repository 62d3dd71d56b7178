//! Saves and loads parameters as safetensors files. Files are replaced atomically.

use crate::{
    error::{Error, Result},
    module::Module,
};
use autograd::{DType, Element, Param, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{
    collections::{HashMap, HashSet},
    io::Write,
    path::Path,
};
use tempfile::NamedTempFile;

/// Saves all parameters of a module in a safetensors file, under their paths. The file is replaced
/// atomically: it is never incomplete.
///
/// ```
/// let model = nn::mlp(&[4, 3, 2], nn::Activation::Relu, 1);
/// let directory = tempfile::tempdir()?;
/// let file = directory.path().join("model.safetensors");
/// nn::save(&model, &file)?;
/// let other = nn::mlp(&[4, 3, 2], nn::Activation::Relu, 2);
/// nn::load(&other, &file)?;
/// # use nn::Module;
/// assert_eq!(model.parameters()[0].1.value(), other.parameters()[0].1.value());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save(model: &(impl Module + ?Sized), path: impl AsRef<Path>) -> Result<()> {
    let tensors: Vec<_> = model
        .parameters()
        .into_iter()
        .map(|(name, p)| (name, p.value()))
        .collect();
    write_tensors(path, &tensors)
}

/// Writes named tensors to a safetensors file. The file is replaced atomically.
pub fn write_tensors(path: impl AsRef<Path>, tensors: &[(String, Tensor)]) -> Result<()> {
    let path = path.as_ref();
    let mut serialized = Vec::new();
    for (name, tensor) in tensors {
        serialized.push((name.clone(), tensor.shape().to_vec(), to_bytes(tensor)?));
    }
    let views = serialized.iter().map(|(name, shape, (dtype, bytes))| {
        Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?))
    });
    let views: Vec<_> = views
        .collect::<Result<_, safetensors::SafeTensorError>>()
        .map_err(|e| Error::file(path, e))?;
    let bytes = safetensors::serialize(views, None).map_err(|e| Error::file(path, e))?;
    let failed = |e: std::io::Error| Error::file(path, format!("cannot be written: {e}"));
    let mut file = temporary_file_for(path)?;
    file.write_all(&bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// Checks that a file can be written at this path: its directory exists and is writable. Call it
/// before a long training.
pub fn check_writable(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if path.is_dir() {
        return Err(Error::file(path, "is a directory"));
    }
    temporary_file_for(path).map(drop)
}

/// A temporary file in the directory of `path`, so that it can be renamed to `path`. It is deleted
/// if it is not renamed.
fn temporary_file_for(path: &Path) -> Result<NamedTempFile> {
    let directory = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !directory.is_dir() {
        return Err(Error::file(
            path,
            "cannot be written: its directory does not exist",
        ));
    }
    NamedTempFile::new_in(directory)
        .map_err(|e| Error::file(path, format!("cannot be written: {e}")))
}

/// Loads all parameters of a module from a safetensors file. Names, shapes and dtypes must match;
/// otherwise nothing is changed, and the error says what differs.
pub fn load(model: &(impl Module + ?Sized), path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    set(&model.parameters(), &mut read_tensors(path)?, path)
}

/// Sets parameters from named tensors: all of them, or none if one does not match.
pub(crate) fn set(
    params: &[(String, Param)],
    from: &mut HashMap<String, Tensor>,
    path: &Path,
) -> Result<()> {
    let known: HashSet<&str> = params.iter().map(|(name, _)| name.as_str()).collect();
    let extra = from
        .keys()
        .filter(|name| !known.contains(name.as_str()))
        .min();
    if let Some(extra) = extra {
        return Err(Error::file(
            path,
            format!("contains {extra:?}, which the model does not have"),
        ));
    }
    for (name, param) in params {
        let (ty, value) = (param.ty(), from.get(name));
        let value = value.ok_or_else(|| Error::file(path, format!("does not contain {name:?}")))?;
        if value.shape() != &ty.shape[..] {
            let message = format!(
                "{name}: expected shape {}, got {:?}",
                ty.shape,
                value.shape()
            );
            return Err(Error::file(path, message));
        }
        if value.dtype() != ty.dtype {
            return Err(Error::file(
                path,
                format!("{name}: expected {}, got {}", ty.dtype, value.dtype()),
            ));
        }
    }
    for (name, param) in params {
        if let Some(value) = from.remove(name) {
            param.set(value)?;
        }
    }
    Ok(())
}

/// Reads all tensors of a safetensors file, by name.
pub fn read_tensors(path: impl AsRef<Path>) -> Result<HashMap<String, Tensor>> {
    let path = path.as_ref();
    let bytes =
        std::fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| Error::file(path, format!("is not a safetensors file: {e}")))?;
    let tensor = |(name, view): (String, TensorView<'_>)| match from_view(&view) {
        Ok(tensor) => Ok((name, tensor)),
        Err(message) => Err(Error::file(path, format!("{name}: {message}"))),
    };
    file.tensors().into_iter().map(tensor).collect()
}

fn to_bytes(t: &Tensor) -> Result<(Dtype, Vec<u8>)> {
    fn all<T: Element, const N: usize>(
        t: &Tensor,
        bytes: impl Fn(T) -> [u8; N],
    ) -> Result<Vec<u8>> {
        Ok(t.as_slice::<T>()?.iter().flat_map(|&v| bytes(v)).collect())
    }
    Ok(match t.dtype() {
        DType::F32 => (Dtype::F32, all(t, f32::to_le_bytes)?),
        DType::F64 => (Dtype::F64, all(t, f64::to_le_bytes)?),
        DType::I64 => (Dtype::I64, all(t, i64::to_le_bytes)?),
        DType::Bool => (Dtype::BOOL, all(t, |v: bool| [v.into()])?),
    })
}

fn from_view(view: &TensorView<'_>) -> Result<Tensor, String> {
    fn all<T, const N: usize>(view: &TensorView<'_>, from: impl Fn([u8; N]) -> T) -> Vec<T> {
        view.data().as_chunks().0.iter().map(|&b| from(b)).collect()
    }
    let tensor = match view.dtype() {
        Dtype::F32 => Tensor::new(view.shape(), all(view, f32::from_le_bytes)),
        Dtype::F64 => Tensor::new(view.shape(), all(view, f64::from_le_bytes)),
        Dtype::I64 => Tensor::new(view.shape(), all(view, i64::from_le_bytes)),
        Dtype::BOOL => Tensor::new(view.shape(), all(view, |[b]: [u8; 1]| b != 0)),
        other => return Err(format!("the dtype {other:?} is not supported")),
    };
    tensor.map_err(|e| e.to_string())
}
