//! Written files are read back bit for bit, by this crate and by others.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{Array2, ArrayD, IxDyn, array};
use openwork_tensor::{
    CsrError, CsrTensor, ReadError, Tensor, TensorFile, WriteError, bf16, f16, write, write_with_csr,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::map;

fn shape() -> impl Strategy<Value = Vec<usize>> {
    vec(0usize..5, 0..4)
}

/// Tensors of every kind with arbitrary bits, NaN payloads included; sometimes in column-major order.
fn tensor() -> impl Strategy<Value = Tensor> {
    fn array<T: Clone>(shape: &[usize], bits: &[u64], transposed: bool, f: fn(u64) -> T) -> ArrayD<T> {
        let n: usize = shape.iter().product();
        let data = bits.iter().cycle().take(n).map(|&b| f(b)).collect();
        let array = ArrayD::from_shape_vec(IxDyn(shape), data).unwrap();
        if transposed { array.reversed_axes() } else { array }
    }
    (shape(), vec(any::<u64>(), 1..130), any::<bool>(), 0..7).prop_map(|(shape, bits, transposed, k)| match k {
        0 => array(&shape, &bits, transposed, |b| f32::from_bits(b as u32)).into(),
        1 => array(&shape, &bits, transposed, |b| f16::from_bits(b as u16)).into(),
        2 => array(&shape, &bits, transposed, |b| bf16::from_bits(b as u16)).into(),
        3 => array(&shape, &bits, transposed, |b| b as i64).into(),
        4 => array(&shape, &bits, transposed, f64::from_bits).into(),
        5 => array(&shape, &bits, transposed, |b| b as i32).into(),
        _ => array(&shape, &bits, transposed, |b| b as u16).into(),
    })
}

fn csr() -> impl Strategy<Value = CsrTensor> {
    let cols = prop_oneof![0usize..9, 65_530usize..65_540, Just(1 << 32)];
    let rows = vec(btree_map(any::<u32>(), any::<u32>(), 0..6), 0..6);
    (rows, cols).prop_map(|(rows, cols)| {
        let mut csr = CsrTensor { rows: rows.len(), cols, row_ptr: vec![0], col_idx: Vec::new(), values: Vec::new() };
        for row in rows {
            let fits = |col: u32| ((u64::from(col) * cols as u64) >> 32) as u32;
            let row: BTreeMap<u32, u32> = row.into_iter().map(|(c, v)| (fits(c), v)).collect();
            for (col, bits) in row.into_iter().filter(|_| cols > 0) {
                csr.col_idx.push(col);
                csr.values.push(f32::from_bits(bits));
            }
            csr.row_ptr.push(csr.col_idx.len() as u32);
        }
        csr
    })
}

fn bits(csr: &CsrTensor) -> (usize, usize, &[u32], &[u32], Vec<u32>) {
    let values = csr.values.iter().map(|v| v.to_bits()).collect();
    (csr.rows, csr.cols, &csr.row_ptr, &csr.col_idx, values)
}

/// The same tensors as the reference implementation writes them. Metadata of at most one entry: it writes
/// more in random order.
fn reference(tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    use safetensors::{Dtype, tensor::TensorView};
    let parts: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| {
            fn raw<T: Clone, B: AsRef<[u8]>>(a: &ArrayD<T>, f: fn(T) -> B) -> Vec<u8> {
                a.iter().flat_map(|x| f(x.clone()).as_ref().to_vec()).collect()
            }
            let (kind, data) = match tensor {
                Tensor::F64(a) => (Dtype::F64, raw(a, f64::to_le_bytes)),
                Tensor::F32(a) => (Dtype::F32, raw(a, f32::to_le_bytes)),
                Tensor::F16(a) => (Dtype::F16, raw(a, f16::to_le_bytes)),
                Tensor::Bf16(a) => (Dtype::BF16, raw(a, bf16::to_le_bytes)),
                Tensor::I64(a) => (Dtype::I64, raw(a, i64::to_le_bytes)),
                Tensor::I32(a) => (Dtype::I32, raw(a, i32::to_le_bytes)),
                Tensor::U16(a) => (Dtype::U16, raw(a, u16::to_le_bytes)),
            };
            (name, kind, tensor.shape().to_vec(), data)
        })
        .collect();
    let views =
        parts.iter().map(|(name, kind, shape, data)| (name, TensorView::new(*kind, shape.clone(), data).unwrap()));
    let metadata: std::collections::HashMap<_, _> = metadata.clone().into_iter().collect();
    safetensors::serialize(views, (!metadata.is_empty()).then_some(metadata)).unwrap()
}

proptest! {
    #[test]
    fn dense_tensors_keep_every_bit(
        tensors in btree_map("[a-z.\"é]{0,6}", tensor(), 0..6),
        metadata in btree_map("\\PC{0,5}", "\\PC{0,9}", 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        write(&path, &tensors, &metadata).unwrap();
        let file = TensorFile::open(&path).unwrap();
        prop_assert_eq!(file.metadata(), &metadata);
        prop_assert!(file.names().eq(tensors.keys()));
        for (name, tensor) in &tensors {
            prop_assert!(file.tensor(name).unwrap().same_bits(tensor));
        }
        let bytes = std::fs::read(&path).unwrap();
        write(&path, &tensors, &metadata).unwrap();
        prop_assert_eq!(&bytes, &std::fs::read(&path).unwrap());
    }

    #[test]
    fn files_equal_those_of_the_reference_implementation(
        tensors in btree_map("[a-z.]{0,6}", tensor(), 0..6),
        metadata in btree_map("[a-z]{1,5}", "\\PC{0,9}", 0..2),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        write(&path, &tensors, &metadata).unwrap();
        prop_assert_eq!(std::fs::read(&path).unwrap(), reference(&tensors, &metadata));
    }

    #[test]
    fn sparse_tensors_keep_every_bit(
        sparse in btree_map("[a-z]{1,3}", csr(), 0..4),
        dense in btree_map("[A-Z]{1,3}", tensor(), 0..3),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        write_with_csr(&path, &dense, &sparse, &BTreeMap::new()).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let mut names: Vec<_> = file.csr_names().collect();
        names.sort_unstable();
        prop_assert!(names.into_iter().eq(sparse.keys()));
        for (name, csr) in &sparse {
            prop_assert!(file.is_csr(name) && !file.contains(name));
            let back = file.csr(name).unwrap();
            prop_assert_eq!(bits(&back), bits(csr));
        }
        for (name, tensor) in &dense {
            prop_assert!(!file.is_csr(name));
            prop_assert!(file.tensor(name).unwrap().same_bits(tensor));
        }
    }

    #[test]
    fn dense_to_sparse_and_back(
        (rows, cols, values) in (0usize..6, 0usize..6).prop_flat_map(|(r, c)| {
            let value = prop_oneof![Just(0.0f32), Just(-0.0), any::<f32>()];
            (Just(r), Just(c), vec(value, r * c))
        }),
    ) {
        let dense = Array2::from_shape_vec((rows, cols), values).unwrap();
        let sparse = CsrTensor::from_dense(dense.view());
        prop_assert_eq!(sparse.check(), Ok(()));
        prop_assert_eq!(sparse.nnz(), dense.iter().filter(|&&v| v != 0.0).count());
        let back = sparse.to_dense();
        prop_assert_eq!(back.dim(), dense.dim());
        for (a, b) in dense.iter().zip(&back) {
            // Zeros of both signs become +0.
            prop_assert_eq!(if *a == 0.0 { 0 } else { a.to_bits() }, b.to_bits());
        }
    }
}

fn in_memory(tensors: BTreeMap<String, Tensor>) -> TensorFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    write(&path, &tensors, &BTreeMap::new()).unwrap();
    TensorFile::from_bytes(std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn typed_access() {
    let half = ArrayD::from_elem(IxDyn(&[2]), f16::from_f32(0.5));
    let file = in_memory(map([
        ("m", array![[1.0f32, 2.0]].into()),
        ("v", half.into()),
        ("c", ArrayD::from_elem(IxDyn(&[1, 1, 1]), 0.0f32).into()),
        ("s", ArrayD::from_elem(IxDyn(&[]), 3.0f32).into()),
        ("i", ArrayD::from_elem(IxDyn(&[2]), -1i64).into()),
        ("u", ArrayD::from_elem(IxDyn(&[2]), 9u16).into()),
    ]));
    assert_eq!(file.matrix("m").unwrap(), array![[1.0, 2.0]]);
    assert_eq!(file.matrix("v").unwrap(), array![[0.5], [0.5]]);
    assert_eq!(file.f32("s").unwrap()[[]], 3.0);
    assert_eq!(file.i64("i").unwrap()[[1]], -1);
    assert_eq!(file.u16("u").unwrap()[[1]], 9);
    assert_eq!(file.shape("c"), Some(&[1, 1, 1][..]));
    assert_eq!(
        file.matrix("c").unwrap_err().to_string(),
        "(memory): `c` has shape [1, 1, 1], not a matrix or a vector"
    );
    assert_eq!(file.matrix("s").unwrap_err().to_string(), "(memory): `s` has shape [], not a matrix or a vector");
    assert_eq!(file.f32("i").unwrap_err().to_string(), "(memory): `i` is of kind I64, not F64, F32, F16 or BF16");
    for error in [file.i64("u").unwrap_err(), file.u16("i").unwrap_err()] {
        assert!(matches!(error, ReadError::WrongDtype { .. }));
    }
    let missing = file.csr("m").unwrap_err();
    assert!(matches!(missing, ReadError::NotFound { .. }));
}

#[test]
fn numbers_that_are_not_finite_are_found_only_when_asked_for() {
    let fine = map([("a", array![1.0f32].into())]);
    assert!(in_memory(fine).check_finite().is_ok());
    let file = in_memory(map([("a", array![1.0f32].into()), ("b", array![[0.0, f32::NAN]].into())]));
    match file.check_finite() {
        Err(ReadError::NotFinite { source, .. }) => {
            assert_eq!((source.name.as_str(), source.index), ("b", vec![0, 1]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_that_clash_are_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let none = BTreeMap::new();
    let csr = || map([("w", CsrTensor::from_dense(array![[1.0]].view()))]);
    for name in ["w", "w.csr.values"] {
        let dense = map([(name, array![1.0f32].into())]);
        match write_with_csr(&path, &dense, &csr(), &none) {
            Err(WriteError::NameTaken { name: taken, .. }) => assert_eq!(taken, name),
            other => panic!("{other:?}"),
        }
    }
    let reserved = map([("__metadata__", array![1.0f32].into())]);
    let error = write(&path, &reserved, &none).unwrap_err();
    assert!(matches!(error, WriteError::ReservedName { .. }));
    let mut broken = csr();
    broken.get_mut("w").unwrap().col_idx[0] = 1;
    match write_with_csr(&path, &BTreeMap::new(), &broken, &none) {
        Err(WriteError::Csr { source, .. }) => {
            assert!(matches!(source, CsrError::Column { .. }));
        }
        other => panic!("{other:?}"),
    }
    let gone = write(Path::new("/nonexistent/t"), &BTreeMap::new(), &none).unwrap_err();
    assert!(matches!(gone, WriteError::Io { .. }));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
#[should_panic(expected = "row 0 has an entry in column 5")]
fn a_broken_matrix_does_not_become_dense() {
    let mut csr = CsrTensor::from_dense(array![[1.0]].view());
    csr.col_idx[0] = 5;
    let _ = csr.to_dense();
}
