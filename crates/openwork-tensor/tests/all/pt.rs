//! Checkpoints that PyTorch wrote.

use ndarray::{ArrayD, IxDyn};
use openwork_tensor::{PtError, PtFile, PtNode, Tensor};

use crate::zip_file::{checkpoint, dict, pickle, tensor, zip64};
use crate::{data, report};

fn open(name: &str) -> PtFile {
    PtFile::open(data(name)).unwrap_or_else(|e| panic!("{name}: {}", report(&e)))
}

fn names(file: &PtFile) -> Vec<&str> {
    file.names().collect()
}

fn f32(shape: &[usize], values: &[f32]) -> Tensor {
    ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap().into()
}

/// 0, 1, 2, .. in this shape, as `make.py` counts.
fn count(shape: &[usize]) -> ArrayD<f32> {
    let n: usize = shape.iter().product();
    let values = (0..n).map(|i| i as f32).collect();
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
}

#[test]
fn a_plain_state_dict_in_both_protocols() {
    for name in ["plain.pt", "protocol4.pt"] {
        let file = open(name);
        assert_eq!(names(&file), ["bias", "weight"]);
        assert_eq!(file.tensor("bias").unwrap(), f32(&[2], &[-1.5, 0.25]));
        assert_eq!(file.tensor("weight").unwrap(), count(&[2, 3]).into());
    }
}

#[test]
fn a_nested_checkpoint_is_flattened_and_shared_dictionaries_show_twice() {
    let file = open("nested.pt");
    let expected = [
        ("model.also_tied.w", &[2, 2][..]),
        ("model.blocks.0.w", &[2]),
        ("model.blocks.1.w", &[3]),
        ("model.tied.w", &[2, 2]),
        ("optimizer.state.0.exp_avg", &[1]),
    ];
    for (name, shape) in expected {
        assert_eq!(file.tensor(name).unwrap(), count(shape).into(), "{name}");
    }
    let step = file.tensor("optimizer.state.0.step").unwrap();
    assert_eq!(step, f32(&[], &[7.0]));
    assert_eq!(file.names().count(), expected.len() + 1);
}

#[test]
fn every_kind_keeps_its_bits() {
    let file = open("kinds.pt");
    match file.tensor("f32").unwrap() {
        Tensor::F32(a) => {
            assert_eq!(a.mapv(f32::to_bits).into_raw_vec_and_offset().0, [0x7fa0_0001, 0x8000_0000, 1, 0x3f80_0000])
        }
        other => panic!("{other:?}"),
    }
    match file.tensor("f16").unwrap() {
        Tensor::F16(a) => assert_eq!(a.mapv(|x| x.to_bits()).into_raw_vec_and_offset().0, [0x7c01, 0x8000, 1, 0x3c00]),
        other => panic!("{other:?}"),
    }
    match file.tensor("bf16").unwrap() {
        Tensor::Bf16(a) => assert_eq!(a.mapv(|x| x.to_bits()).into_raw_vec_and_offset().0, [0x7f81, 0x8000, 1, 0x3f80]),
        other => panic!("{other:?}"),
    }
    let i64s = ArrayD::from_shape_vec(IxDyn(&[4]), vec![i64::MIN, -1, 0, i64::MAX]).unwrap();
    assert_eq!(file.tensor("i64").unwrap(), i64s.into());
    let u16s = ArrayD::from_shape_vec(IxDyn(&[3]), vec![0u16, 1, 65535]).unwrap();
    assert_eq!(file.tensor("u16").unwrap(), u16s.into());
}

#[test]
fn a_kind_that_cannot_be_read_is_named_and_the_others_can_be_read() {
    let file = open("kinds.pt");
    for (name, kind) in [("mask", "bool"), ("f8", "float8_e4m3fn")] {
        match file.tensor(name) {
            Err(PtError::UnsupportedDtype { dtype, .. }) => assert_eq!(dtype, kind),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(file.tensor("f64").unwrap().dtype(), openwork_tensor::Dtype::F64);
}

#[test]
fn views_are_gathered() {
    let file = open("views.pt");
    let base = count(&[4, 6]);
    let s = |slice: ndarray::ArrayViewD<'_, f32>| Tensor::from(slice.to_owned());
    let cases = [
        ("base", s(base.view())),
        ("transposed", s(base.t())),
        ("rows", s(base.slice(ndarray::s![1..3, ..]).into_dyn())),
        ("columns", s(base.slice(ndarray::s![.., 2..5]).into_dyn())),
        ("every_other", s(base.slice(ndarray::s![..;2, ..;3]).into_dyn())),
        ("permuted", s(count(&[2, 3, 4]).view().permuted_axes(IxDyn(&[2, 0, 1])))),
        ("scalar", f32(&[], &[23.0])),
        ("empty", f32(&[0, 6], &[])),
        ("empty_columns", f32(&[4, 0], &[])),
    ];
    assert_eq!(file.names().count(), cases.len());
    for (name, expected) in cases {
        assert_eq!(file.tensor(name).unwrap(), expected, "{name}");
    }
}

#[test]
fn parameters_and_bare_tensors() {
    let file = open("parameter.pt");
    assert_eq!(file.tensor("p").unwrap(), count(&[2, 2]).into());
    assert_eq!(file.tensor("frozen").unwrap(), count(&[2]).into());
    let file = open("bare.pt");
    assert_eq!(names(&file), [""]);
    assert_eq!(file.tensor("").unwrap(), count(&[3]).into());
}

#[test]
fn the_test_writer_writes_what_the_reader_reads() {
    let value = tensor(4, 0, &[2, 2], &[1, 2]);
    let bytes: Vec<u8> = (0..4).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let file = checkpoint(&pickle(&dict(&[("w", &value)])), &bytes);
    let file = PtFile::from_bytes(file).unwrap();
    let expected = f32(&[2, 2], &[0.0, 2.0, 1.0, 3.0]);
    assert_eq!(file.tensor("w").unwrap(), expected);
    assert!(matches!(file.tensor("v"), Err(PtError::NotFound { .. })));
}

#[test]
fn the_zip64_form_of_large_checkpoints_is_read() {
    let value = tensor(4, 1, &[3], &[1]);
    let bytes: Vec<u8> = (0..4).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let file = zip64(&checkpoint(&pickle(&dict(&[("w", &value)])), &bytes));
    for len in 0..file.len() {
        assert!(PtFile::from_bytes(file[..len].to_vec()).is_err(), "{len}");
    }
    let file = PtFile::from_bytes(file).unwrap_or_else(|e| panic!("{}", report(&e)));
    let expected = f32(&[3], &[1.0, 2.0, 3.0]);
    assert_eq!(file.tensor("w").unwrap(), expected);
}

#[test]
fn what_we_write_is_read_back_and_the_same_twice() {
    use openwork_tensor::{PtFile, Tensor, write_pt};
    let dir = tempfile::tempdir().unwrap();
    let tensors = crate::map([
        ("a.weight", Tensor::from(ndarray::arr2(&[[1.5_f32, -2.0, 0.0], [f32::MIN, f32::MAX, 1e-40]]))),
        ("b", ndarray::ArrayD::from_elem(vec![3], -7_i64).into()),
        ("c", ndarray::ArrayD::from_elem(vec![2, 0], 1_i32).into()),
        ("d", ndarray::ArrayD::from_elem(vec![1], 0.1_f64).into()),
    ]);
    let paths = ["one.pt", "two.pt"].map(|name| dir.path().join(name));
    paths.iter().for_each(|path| write_pt(path, &tensors).unwrap());
    let file = PtFile::open(&paths[0]).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["a.weight", "b", "c", "d"]);
    for (name, tensor) in &tensors {
        assert!(file.tensor(name).unwrap().same_bits(tensor), "{name}");
    }
    assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
}

#[test]
fn a_nested_value_has_the_tensors_and_whatever_is_beside_them() {
    let file = open("nested.pt");
    let node = PtNode::open(data("nested.pt")).unwrap();
    assert!(!node.entries().is_empty());
    for name in file.names() {
        let mut at = &node;
        for part in name.split('.') {
            let inner = at.entries().iter().find(|(key, _)| match key {
                PtNode::Text(text) => text == part,
                PtNode::Int(number) => number.to_string() == part,
                _ => false,
            });
            at = inner.map_or_else(|| &at.items()[part.parse::<usize>().unwrap()], |(_, value)| value);
        }
        assert_eq!(*at, PtNode::Tensor(file.tensor(name).unwrap()), "{name}");
    }
}
