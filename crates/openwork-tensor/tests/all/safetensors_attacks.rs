//! safetensors files that must be refused, each test named after the attack.

use openwork_tensor::{CsrError, ReadError, TensorFile};

use crate::report;

/// A file with this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

fn refused(bytes: Vec<u8>) -> ReadError {
    TensorFile::from_bytes(bytes).expect_err("the file has to be refused")
}

fn bad_header(bytes: Vec<u8>) {
    let error = refused(bytes);
    assert!(matches!(error, ReadError::BadHeader { .. }), "{}", report(&error));
}

#[test]
fn truncated_header_is_refused() {
    let whole = file(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4);
    for len in 0..whole.len() - 4 {
        let error = refused(whole[..len].to_vec());
        assert!(matches!(error, ReadError::Truncated { .. }), "{len}");
    }
    TensorFile::from_bytes(whole).unwrap();
}

#[test]
fn truncated_data_is_refused() {
    let header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    for len in [0, 3, 5] {
        let error = refused(file(header, len));
        assert!(matches!(error, ReadError::WrongLength { .. }), "{len}");
    }
}

#[test]
fn huge_header_length_is_refused() {
    for len in [100_000_001, u64::MAX] {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        let error = refused(bytes);
        assert!(matches!(error, ReadError::HeaderTooLarge { len: l, .. } if l == len));
    }
}

#[test]
fn wrong_magic_is_refused() {
    let zip = std::fs::read(crate::data("plain.pt")).unwrap();
    let error = refused(zip);
    assert!(matches!(error, ReadError::HeaderTooLarge { .. }));
    bad_header(file("[1, 2, 3]", 0));
    bad_header(file(" {}", 0));
    bad_header(file("{}{}", 0));
    bad_header(file("{", 0));
    bad_header(file("\u{0}\u{0}\u{0}", 0));
}

#[test]
fn header_that_is_no_utf8_is_refused() {
    let mut bytes = file(r#"{"wwww":0}"#, 0);
    bytes[12] = 0xff;
    bad_header(bytes);
}

#[test]
fn deeply_nested_header_does_not_overflow_the_stack() {
    bad_header(file(&format!("{{\"w\":{}", "[".repeat(1_000_000)), 0));
}

#[test]
fn duplicate_names_are_refused() {
    let one = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let header = format!(r#"{{"w":{one},"w":{one}}}"#);
    match refused(file(&header, 4)) {
        ReadError::DuplicateName { name, .. } => assert_eq!(name, "w"),
        other => panic!("{other:?}"),
    }
    let header = r#"{"__metadata__":{"a":"1","a":"2"}}"#;
    match refused(file(header, 0)) {
        ReadError::DuplicateName { name, .. } => assert_eq!(name, "__metadata__.a"),
        other => panic!("{other:?}"),
    }
    let header = r#"{"__metadata__":{"a":"1"},"__metadata__":{"a":"1"}}"#;
    let error = refused(file(header, 0));
    assert!(matches!(error, ReadError::DuplicateName { .. }));
}

#[test]
fn overlapping_gapped_and_backward_offsets_are_refused() {
    for offsets in ["[2,6]", "[5,9]", "[8,4]", "[0,4]"] {
        let header = format!(
            r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{offsets}}}}}"#
        );
        let error = refused(file(&header, 8));
        assert!(matches!(error, ReadError::BadOffsets { .. }), "{offsets}: {}", report(&error));
    }
}

#[test]
fn out_of_range_offsets_are_refused() {
    let header = r#"{"w":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]}}"#;
    let error = refused(file(header, 8));
    assert!(matches!(error, ReadError::WrongLength { .. }));
    for offsets in ["[-4,0]", "[0,1e30]", "[0]", "[0,18446744073709551616]"] {
        let header = format!(r#"{{"w":{{"dtype":"F32","shape":[1],"data_offsets":{offsets}}}}}"#);
        bad_header(file(&header, 4));
    }
}

#[test]
fn a_shape_that_does_not_match_its_bytes_is_refused() {
    let overflow = "[4611686018427387904,4611686018427387904]";
    for shape in ["[2]", "[0]", "[-1]", overflow] {
        let header = format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,4]}}}}"#);
        bad_header(file(&header, 4));
    }
}

#[test]
fn an_empty_tensor_of_impossible_shape_is_refused() {
    let shape = "[0,4611686018427387904,4611686018427387904]";
    let header = format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#);
    let file = TensorFile::from_bytes(file(&header, 0)).unwrap();
    let error = file.tensor("w").unwrap_err();
    assert!(matches!(error, ReadError::WrongShape { .. }));
}

#[test]
fn a_kind_that_cannot_be_read_is_named_and_the_others_can_be_read() {
    let header = r#"{"d":{"dtype":"U64","shape":[1],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
    let file = TensorFile::from_bytes(file(header, 12)).unwrap();
    assert!(file.tensor("w").is_ok());
    let text = report(&file.tensor("d").unwrap_err());
    assert_eq!(text, "(memory): `d` is of kind U64; F64, F32, F16, BF16, I64, I32 and U16 can be read");
    let text = report(&file.tensor("x").unwrap_err());
    assert_eq!(text, "(memory) has no tensor `x`");
}

#[test]
fn an_unknown_kind_is_refused_by_name() {
    let header = r#"{"w":{"dtype":"F7","shape":[1],"data_offsets":[0,4]}}"#;
    let text = report(&refused(file(header, 4)));
    assert!(text.contains("`F7`"), "{text}");
}

/// A CSR file of 2 × 3 with these parts: shape, row_ptr, col_idx.
fn csr(shape: &[i64], row_ptr: &[i64], col_idx: &[u16], values: usize) -> CsrError {
    let lens = [8 * shape.len(), 8 * row_ptr.len(), 4 * values, 2 * col_idx.len()];
    let kinds = ["I64", "I64", "F32", "U16"];
    let counts = [shape.len(), row_ptr.len(), values, col_idx.len()];
    let (mut header, mut at) = (String::from("{"), 0);
    for (i, part) in ["shape", "row_ptr", "values", "col_idx"].iter().enumerate() {
        let (kind, count, end) = (kinds[i], counts[i], at + lens[i]);
        let comma = if i == 0 { "" } else { "," };
        header +=
            &format!(r#"{comma}"w.csr.{part}":{{"dtype":"{kind}","shape":[{count}],"data_offsets":[{at},{end}]}}"#);
        at = end;
    }
    header += "}";
    let mut bytes = file(&header, 0);
    bytes.extend(shape.iter().chain(row_ptr).flat_map(|n| n.to_le_bytes()));
    bytes.extend(vec![0; 4 * values]);
    bytes.extend(col_idx.iter().flat_map(|n| n.to_le_bytes()));
    match TensorFile::from_bytes(bytes).unwrap().csr("w") {
        Err(ReadError::Csr { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn csr_rules_are_checked() {
    let good: &[i64] = &[0, 1, 3];
    let wrong_ptr = |row| CsrError::RowPtr { row, nnz: 3 };
    let column = CsrError::Column { row: 1, col: 3, cols: 3 };
    assert_eq!(csr(&[2, 3], &[1, 1, 3], &[0, 0, 1], 3), wrong_ptr(0));
    assert_eq!(csr(&[2, 3], &[0, 4, 3], &[0, 0, 1], 3), wrong_ptr(0));
    assert_eq!(csr(&[3, 3], &[0, 2, 1, 3], &[0, 1, 2], 3), wrong_ptr(1));
    assert_eq!(csr(&[2, 3], &[0, 1, 2], &[0, 0, 1], 3), wrong_ptr(2));
    assert_eq!(csr(&[2, 3], good, &[0, 0, 3], 3), column);
    assert_eq!(csr(&[2, 3], good, &[0, 1, 1], 3), CsrError::Order { row: 1, col: 1 });
    assert_eq!(csr(&[2, 3], good, &[0, 0], 3), CsrError::Lengths { col_idx: 2, values: 3 });
    assert_eq!(csr(&[i64::MAX, 3], good, &[0, 0, 1], 3), CsrError::RowPtrLength { found: 3, rows: i64::MAX as usize });
}

#[test]
fn csr_parts_of_wrong_kind_are_refused() {
    let part = |error| match error {
        CsrError::BadPart { part, .. } => part,
        other => panic!("{other:?}"),
    };
    let good: &[i64] = &[0, 1, 3];
    assert_eq!(part(csr(&[2, 3, 1], good, &[0, 0, 1], 3)), ".csr.shape");
    assert_eq!(part(csr(&[-2, 3], good, &[0, 0, 1], 3)), ".csr.shape");
    assert_eq!(part(csr(&[2, 3], &[0, -1, 3], &[0, 0, 1], 3)), ".csr.row_ptr");
    assert_eq!(part(csr(&[2, 3], &[0, 1 << 40, 3], &[0, 0, 1], 3)), ".csr.row_ptr");
    // Wide matrices store their columns as I64.
    assert_eq!(part(csr(&[2, 65537], good, &[0, 0, 1], 3)), ".csr.col_idx");
}
