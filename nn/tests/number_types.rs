//! The number types of files: models in half precision, floats that are converted, and files that lie.

use autograd::{DType, Param, Tensor};
use nn::{Activation, Linear, Module, Params, Result, Weights};
use std::{fs, path::Path};

/// Writes a safetensors file with tensors of this type, given by their shapes and bytes.
fn write_safetensors(path: &Path, dtype: &str, tensors: &[(&str, Vec<usize>, Vec<u8>)]) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, shape, bytes) in tensors {
        let (start, end) = (data.len(), data.len() + bytes.len());
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        ));
        data.extend(bytes);
    }
    let header = format!("{{{}}}", entries.join(","));
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length, header.as_bytes(), &data].concat()).expect("writable");
}

/// The parameters of a model, each element converted to bytes.
fn write_model(path: &Path, dtype: &str, model: &impl Module, bytes: impl Fn(f64) -> Vec<u8>) {
    let params = model.parameters();
    let tensors = params.iter().map(|(name, p)| {
        let (value, shape) = (p.value(), p.ty().shape.to_vec());
        let bytes = value.to_f64s().into_iter().flat_map(&bytes).collect();
        (name.as_str(), shape, bytes)
    });
    write_safetensors(path, dtype, &tensors.collect::<Vec<_>>());
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn half_precision_models_are_loaded_exactly() -> Result<()> {
    let directory = directory();
    let file = directory.path().join("half.safetensors");
    let source = nn::mlp(&[5, 4, 3], Activation::Tanh, 1);
    let f16 = |v: f64| half::f16::from_f64(v);
    let bf16 = |v: f64| half::bf16::from_f64(v);
    for kind in ["F16", "BF16"] {
        let rounded = |v: f64| match kind {
            "F16" => f16(v).to_f64(),
            _ => bf16(v).to_f64(),
        };
        write_model(&file, kind, &source, |v| match kind {
            "F16" => f16(v).to_le_bytes().to_vec(),
            _ => bf16(v).to_le_bytes().to_vec(),
        });
        let model = nn::mlp(&[5, 4, 3], Activation::Tanh, 2);
        nn::load(&model, &file)?;
        for ((name, p), (_, q)) in model.parameters().iter().zip(source.parameters()) {
            let expected: Vec<f64> = q.value().to_f64s().into_iter().map(rounded).collect();
            assert_eq!(p.value().to_f64s(), expected, "{kind} {name}");
        }
        // a part of it, too
        let first = Linear::new(5, 4, 3);
        let rename = |name: &str| name.strip_prefix("layers.0.").map(str::to_string);
        assert_eq!(
            nn::load_partly(&first, &file, rename)?.set,
            ["weight", "bias"]
        );
        assert_eq!(first.weight().value(), model.parameters()[0].1.value());
    }
    Ok(())
}

#[test]
fn floats_are_rounded_to_the_type_of_the_model_and_nothing_else_is() -> Result<()> {
    let directory = directory();
    let file = directory.path().join("model.safetensors");
    let model = Linear::new(2, 1, 1);
    let write = |dtype, weight: Vec<u8>, bias: Vec<u8>| {
        let tensors = [("weight", vec![2, 1], weight), ("bias", vec![1], bias)];
        write_safetensors(&file, dtype, &tensors);
    };
    let f64s = |values: &[f64]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    write("F64", f64s(&[0.1, -1e-300]), f64s(&[f64::INFINITY]));
    nn::load(&model, &file)?;
    assert_eq!(model.weight().value(), Tensor::from([[0.1f32], [-0.0]]));
    assert_eq!(model.bias().value(), Tensor::from([f32::INFINITY]));

    let before = Weights::of(&model);
    let error = || {
        nn::load(&model, &file)
            .expect_err("does not fit")
            .to_string()
    };
    write("F64", f64s(&[0.1, 1e39]), f64s(&[0.0]));
    assert!(error().ends_with("model.safetensors: weight: 1e39 is too large for f32"));
    write("I64", vec![0; 16], vec![0; 8]);
    assert!(error().ends_with("weight: expected f32, got i64"));
    write("F8_E4M3", vec![0; 2], vec![0; 1]);
    assert!(error().contains("the dtype F8_E4M3 is not supported"));
    write("U64", vec![255; 16], vec![0; 8]);
    assert!(error().contains("weight: element 0 is 18446744073709551615, which does not fit"));
    assert_eq!(Weights::of(&model), before);
    Ok(())
}

/// A model with a buffer of integers and one of booleans.
struct Counted(Param, Param);

impl Module for Counted {
    fn forward<'g>(&self, x: autograd::Var<'g>) -> autograd::Var<'g> {
        x
    }
    fn params(&self, p: &mut Params) {
        p.param("count", &self.0).param("mask", &self.1);
    }
}

#[test]
fn small_integers_are_for_integer_buffers() -> Result<()> {
    let directory = directory();
    let file = directory.path().join("counts.safetensors");
    let model = Counted(Param::buffer([0, 0]), Param::buffer([false, false]));
    for (dtype, size) in [("U8", 1), ("I16", 2), ("I32", 4), ("I64", 8), ("U64", 8)] {
        let mut bytes = vec![0; 2 * size];
        (bytes[0], bytes[size]) = (7, 5);
        write_safetensors(&file, dtype, &[("count", vec![2], bytes)]);
        let loaded = nn::load_partly(&model, &file, |name| Some(name.into()))?;
        assert_eq!(loaded.missing, ["mask"]);
        assert_eq!(model.0.value(), Tensor::from([7, 5]), "{dtype}");
    }
    write_safetensors(&file, "BOOL", &[("mask", vec![2], vec![0, 1])]);
    nn::load_partly(&model, &file, |name| Some(name.into()))?;
    assert_eq!(model.1.value(), Tensor::from([false, true]));
    Ok(())
}

/// An npy file of this version with this header and these elements.
fn npy(version: u8, header: &str, elements: &[u8]) -> Vec<u8> {
    let length = match version {
        1 => (header.len() as u16).to_le_bytes().to_vec(),
        _ => (header.len() as u32).to_le_bytes().to_vec(),
    };
    let start = [b"\x93NUMPY", &[version, 0][..], &length].concat();
    [&start, header.as_bytes(), elements].concat()
}

#[test]
fn npy_headers_of_all_versions_and_orders_are_read() -> Result<()> {
    let directory = directory();
    let file = directory.path().join("array.npy");
    let read = |bytes: Vec<u8>| {
        fs::write(&file, bytes).expect("writable");
        nn::data::read_npy(&file)
    };
    let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n";
    for version in [1, 2, 3] {
        let elements = [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 255, 250];
        let expected = Tensor::from([[1, 3, 5], [2, 4, -6]]);
        assert_eq!(read(npy(version, header, &elements))?, expected);
    }
    // as written by hand: other spaces, another order, no comma at the end
    let header = "{'shape':(2,),'fortran_order':False,'descr':'f2'}";
    assert_eq!(
        read(npy(1, header, &[0, 0x3c, 0, 0xc0]))?,
        Tensor::from([1f32, -2.0])
    );
    let empty = "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 3), }";
    let empty = read(npy(1, empty, &[]))?;
    assert_eq!((empty.shape(), empty.dtype()), (&[0, 3][..], DType::F64));
    Ok(())
}

#[test]
fn damaged_npy_files_are_errors_that_name_the_file() {
    let directory = directory();
    let file = directory.path().join("array.npy");
    let error = |bytes: &[u8]| {
        fs::write(&file, bytes).expect("writable");
        let e = nn::data::read_npy(&file).expect_err("damaged").to_string();
        assert!(e.contains("array.npy: "), "{e}");
        e
    };
    let header = |descr: &str, shape: &str| {
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")
    };
    let valid = npy(1, &header("'<f4'", "(2,)"), &[0; 8]);
    for length in 0..valid.len() {
        error(&valid[..length]);
    }
    error(&[&valid[..], &[0]].concat());
    assert!(error(&npy(4, "{}", &[])).contains("its version is 4"));
    for shape in [
        "(3,)",
        "(1000000000000,)",
        "(0, 99999999999999999999)",
        "(0, 4294967296, 4294967296)",
        "(4294967296, 4294967296, 0)",
        "(-2,)",
        "(2",
        "None",
        "(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2)",
    ] {
        error(&npy(1, &header("'<f4'", shape), &[0; 8]));
    }
    for (descr, message) in [
        ("'<c8'", "\"<c8\""),
        ("'<f16'", "\"<f16\""),
        ("'|O'", "\"|O\""),
        ("'\u{e9}'", "\"\u{e9}\""),
        ("[('a', '<f4')]", "\"a record\""),
    ] {
        let e = error(&npy(1, &header(descr, "(2,)"), &[0; 8]));
        assert!(
            e.contains("expected elements of type") && e.contains(message),
            "{e}"
        );
    }
    let lengths = [b"\x93NUMPY\x02\x00", &u32::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(error(&lengths).contains("ends within its header"));
    assert!(error(&npy(1, "{'fortran_order': 1}", &[])).contains("says no descr"));
}
