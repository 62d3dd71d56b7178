//! Saves and loads parameters as safetensors files.

use crate::{
    error::{Error, Result},
    files,
    module::Module,
    numbers::{ByteOrder, NumberType},
    weights::Weights,
};
use autograd::{DType, Element, Param, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

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
    Weights::of(model).save(path)
}

/// Writes named tensors to a safetensors file, which is replaced atomically: it is never incomplete.
/// A link at the path stays one, and a file keeps its permissions. No two tensors may have the same
/// name.
pub fn write_tensors(path: impl AsRef<Path>, tensors: &[(String, Tensor)]) -> Result<()> {
    write(path.as_ref(), tensors, None)
}

/// Saves all parameters of a module, as [`save`] does, with some texts beside them: what a program needs
/// to make the model again. [`read_texts`] reads them.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let file = directory.path().join("model.safetensors");
/// let model = nn::mlp(&[4, 3, 2], nn::Activation::Relu, 1);
/// nn::save_with(&model, &file, [("sizes".into(), "4,3,2".into())])?;
/// assert_eq!(nn::read_texts(&file)?["sizes"], "4,3,2");
/// nn::load(&model, &file)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save_with(
    model: &(impl Module + ?Sized),
    path: impl AsRef<Path>,
    texts: impl IntoIterator<Item = (String, String)>,
) -> Result<()> {
    let params = model.parameters().into_iter();
    let tensors: Vec<_> = params.map(|(name, param)| (name, param.value())).collect();
    write(path.as_ref(), &tensors, Some(texts.into_iter().collect()))
}

/// The texts in a safetensors file beside its tensors: see [`save_with`].
pub fn read_texts(path: impl AsRef<Path>) -> Result<HashMap<String, String>> {
    Ok(read(path.as_ref())?.1)
}

/// The same, with some texts beside them.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)], texts: Option<Texts>) -> Result<()> {
    let mut names = HashSet::new();
    for (name, _) in tensors {
        if name == METADATA {
            return Err(Error::file(
                path,
                format!("no tensor can be named {METADATA}"),
            ));
        }
        if !names.insert(name) {
            return Err(Error::file(path, format!("two tensors are named {name:?}")));
        }
    }
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
    let bytes = safetensors::serialize(views, texts).map_err(|e| Error::file(path, e))?;
    files::write(path, &bytes)
}

/// Texts by name.
pub(crate) type Texts = HashMap<String, String>;

/// The entry of a safetensors file that holds texts.
const METADATA: &str = "__metadata__";

/// Loads all parameters of a module from a safetensors file. Names and shapes must match; otherwise
/// nothing is changed, and the error says what differs.
///
/// As in PyTorch, floats are converted to the type that the model has, so that a file of f16, bf16, f32
/// or f64 can be loaded into a model of f32 or f64: exactly, except from f64 to f32, where each number is
/// rounded to the nearest one. A number that is too large for f32 is an error. Integers are not floats:
/// they are for buffers of integers.
pub fn load(model: &(impl Module + ?Sized), path: impl AsRef<Path>) -> Result<()> {
    let (path, params) = (path.as_ref(), model.parameters());
    let mut tensors = read_tensors(path)?;
    convert_floats(&params, &mut tensors, path)?;
    set(&params, &mut tensors, path)
}

/// Converts floats to the types of the parameters that they are for.
fn convert_floats(
    params: &[(String, Param)],
    tensors: &mut HashMap<String, Tensor>,
    path: &Path,
) -> Result<()> {
    for (name, param) in params {
        let Some(tensor) = tensors.get_mut(name) else {
            continue;
        };
        let (from, to) = (tensor.dtype(), param.ty().dtype);
        if from == to || !from.is_float() || !to.is_float() {
            continue;
        }
        let converted = tensor.cast(to)?;
        let mut pairs = tensor.to_f64s().into_iter().zip(converted.to_f64s());
        let is_too_large = |(v, c): &(f64, f64)| v.is_finite() && !c.is_finite();
        if let Some((value, _)) = pairs.find(is_too_large) {
            let message = format!("{name}: {value:e} is too large for {to}");
            return Err(Error::file(path, message));
        }
        *tensor = converted;
    }
    Ok(())
}

/// What [`load_partly`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The parameters that were set.
    pub set: Vec<String>,
    /// The parameters that the file does not have, which are as before.
    pub missing: Vec<String>,
    /// The tensors of the file that the model does not have.
    pub unused: Vec<String>,
}

/// Loads those parameters of a module that a safetensors file has, for example into a model with
/// another head. `rename` gives the path of the parameter for the name of each tensor; none if it is
/// not wanted. What is in both must have equal shapes; otherwise nothing is changed. Floats are converted
/// as by [`load`]. The result says what was there and what was not.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let file = directory.path().join("trained.safetensors");
/// use nn::{Activation, Sequential};
/// nn::save(&nn::mlp(&[4, 3, 2], Activation::Relu, 1), &file)?;
/// // the same first layer, in another place, and another head
/// let first = nn::Linear::new(4, 3, 2);
/// let loaded = nn::load_partly(&first, &file, |name| {
///     name.strip_prefix("layers.0.").map(str::to_string)
/// })?;
/// assert_eq!(loaded.set, ["weight", "bias"]);
/// assert_eq!(loaded.unused, ["layers.1.bias", "layers.1.weight"]);
/// assert!(loaded.missing.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_partly(
    model: &(impl Module + ?Sized),
    path: impl AsRef<Path>,
    rename: impl Fn(&str) -> Option<String>,
) -> Result<Loaded> {
    let (path, params) = (path.as_ref(), model.parameters());
    let (mut found, mut loaded) = (HashMap::new(), Loaded::default());
    for (name, value) in read_tensors(path)? {
        let renamed = rename(&name).filter(|to| params.iter().any(|(path, _)| path == to));
        let Some(to) = renamed else {
            loaded.unused.push(name);
            continue;
        };
        if found.insert(to, value).is_some() {
            let message = format!("{name:?} and another tensor are for the same parameter");
            return Err(Error::file(path, message));
        }
    }
    loaded.unused.sort_unstable();
    let (there, missing): (Vec<_>, Vec<_>) = params
        .into_iter()
        .partition(|(path, _)| found.contains_key(path));
    convert_floats(&there, &mut found, path)?;
    set(&there, &mut found, path)?;
    let paths = |params: Vec<(String, Param)>| params.into_iter().map(|(path, _)| path).collect();
    (loaded.set, loaded.missing) = (paths(there), paths(missing));
    Ok(loaded)
}

/// Sets parameters from named tensors: all of them, or none if one does not match.
pub(crate) fn set(
    params: &[(String, Param)],
    from: &mut HashMap<String, Tensor>,
    path: &Path,
) -> Result<()> {
    check(params, from, path)?;
    Ok(Param::set_all(values(params, from))?)
}

/// Parameters with those of the named tensors that are for them.
pub(crate) fn values<'p>(
    params: &'p [(String, Param)],
    from: &mut HashMap<String, Tensor>,
) -> impl Iterator<Item = (&'p Param, Tensor)> {
    params
        .iter()
        .filter_map(|(name, param)| Some((param, from.remove(name)?)))
}

/// Checks that there is a value for each parameter, of its shape and dtype, and no other.
pub(crate) fn check(
    params: &[(String, Param)],
    from: &HashMap<String, Tensor>,
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
    Ok(())
}

/// Reads all tensors of a safetensors file, by name. Integers become i64 (u64 only if all values fit),
/// f16 and bf16 become f32; f32, f64 and bool stay what they are. No value is rounded.
pub fn read_tensors(path: impl AsRef<Path>) -> Result<HashMap<String, Tensor>> {
    Ok(read(path.as_ref())?.0)
}

/// The same, and the texts beside them.
pub(crate) fn read(path: &Path) -> Result<(HashMap<String, Tensor>, Texts)> {
    parse(&read_bytes(path)?, path)
}

pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))
}

/// The same of the bytes of the file.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<(HashMap<String, Tensor>, Texts)> {
    let wrong = |e| Error::file(path, format!("is not a safetensors file: {e}"));
    let file = SafeTensors::deserialize(bytes).map_err(wrong)?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(wrong)?;
    let tensor = |(name, view): (String, TensorView<'_>)| match from_view(&view) {
        Ok(tensor) => Ok((name, tensor)),
        Err(message) => Err(Error::file(path, format!("{name}: {message}"))),
    };
    let tensors: Result<_> = file.tensors().into_iter().map(tensor).collect();
    Ok((tensors?, metadata.metadata().clone().unwrap_or_default()))
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
    let number = match view.dtype() {
        Dtype::BOOL => NumberType::Bool,
        Dtype::U8 => NumberType::U8,
        Dtype::I8 => NumberType::I8,
        Dtype::U16 => NumberType::U16,
        Dtype::I16 => NumberType::I16,
        Dtype::U32 => NumberType::U32,
        Dtype::I32 => NumberType::I32,
        Dtype::U64 => NumberType::U64,
        Dtype::I64 => NumberType::I64,
        Dtype::F16 => NumberType::F16,
        Dtype::BF16 => NumberType::Bf16,
        Dtype::F32 => NumberType::F32,
        Dtype::F64 => NumberType::F64,
        other => return Err(format!("the dtype {other:?} is not supported")),
    };
    let tensor = number.tensor(ByteOrder::Little, view.shape(), view.data());
    tensor.map_err(|e| e.to_string())
}
