//! The number type of layers: f32 when they are made, and f64 on demand.

use autograd::{DType, Param, Tensor, Var};

/// A parameter with the same value in another number type. What is frozen or a buffer stays so.
pub(super) fn cast(param: &Param, dtype: DType) -> Param {
    if param.ty().dtype == dtype {
        return param.clone();
    }
    // without enough memory it is empty, and the layer fails when it is used
    let value = param.value().cast(dtype);
    let value = value.unwrap_or(Tensor::from(Vec::<f32>::new()));
    if param.is_buffer() {
        return Param::buffer(value);
    }
    let new = Param::new(value);
    new.freeze(!param.is_trained());
    new
}

/// Checks that the weights of a layer are floats; otherwise the weights as a value that fails.
#[track_caller]
pub(super) fn check_floats(weight: Var<'_>) -> Result<(), Var<'_>> {
    match weight.dtype() {
        Ok(dtype) if !dtype.is_float() => {
            Err(weight.fail("the numbers of a layer must be f32 or f64"))
        }
        _ => Ok(()), // what has failed before says why
    }
}

/// Checks that the input of a layer has the number type of its weights; otherwise the input as a value
/// that fails and says what to write. The weights are those of the graph, which may have another type than
/// the parameter: a check of gradients converts them.
#[track_caller]
pub(super) fn check_input<'g>(x: Var<'g>, weight: Var<'g>) -> Result<(), Var<'g>> {
    check_floats(weight)?;
    let (Ok(got), Ok(expected)) = (x.dtype(), weight.dtype()) else {
        return Ok(());
    };
    if got == expected {
        return Ok(());
    }
    let of_layer = match got.is_float() {
        true => format!(", or the layer by .cast(DType::{got:?})"),
        false => String::new(),
    };
    Err(x.fail(&format!(
        "the layer is {expected}: convert its input by .cast(DType::{expected:?}){of_layer}"
    )))
}
