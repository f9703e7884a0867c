//! Outputs of commands: checked before the work that they are of, so that none destroys what no command made.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use crate::CURVES_HEADER;

/// Kind of a file that a command writes, and by which a file of that kind is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// Model file.
    Model,
    /// Tensors that are no model, such as activations.
    Tensors,
    /// `tokenizer.json`.
    Tokenizer,
    /// Circuit file.
    Circuit,
    /// Verdict file.
    Verdict,
    /// Pairs that a verdict was made on.
    Pairs,
    /// Certificate.
    Certificate,
    /// Domain that a certificate is over.
    Domain,
    /// HTML page.
    Page,
    /// SVG drawing.
    Drawing,
    /// Table of the curves of scores.
    Curves,
    /// Trace of a tuning.
    Trace,
}

/// Mark in the head of every page: a page without it is somebody else's.
pub const PAGE_MARK: &str = "<meta name=\"generator\" content=\"openwork\"/>";

/// Mark in every drawing, likewise.
pub const DRAWING_MARK: &str = "<metadata>openwork</metadata>";

/// Reason that an output is not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The folder is missing, or takes no files, or the path is a folder.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// The output.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The output is an input.
    #[error("{} is an input of this command; write to another file", path.display())]
    Input {
        /// The output.
        path: PathBuf,
    },
    /// Two outputs are one file.
    #[error("{} is named for two outputs; name two files", path.display())]
    Twice {
        /// The output.
        path: PathBuf,
    },
    /// The file is part of a run or of a published folder.
    #[error("{} belongs to the run or model in its folder and is not replaced; write to another file", path.display())]
    OfARun {
        /// The output.
        path: PathBuf,
    },
    /// The name is kept for what a run has under it.
    #[error("{} is a name that {what} has; write to another file", path.display())]
    Reserved {
        /// The output.
        path: PathBuf,
        /// The holder of the name.
        what: &'static str,
    },
    /// There is a file of this kind already, and what made it may be hours of work.
    #[error("{} is there already; --force replaces it", path.display())]
    Taken {
        /// The output.
        path: PathBuf,
    },
    /// The file is of another kind.
    #[error("{} is there already and is no {kind}; it is not replaced: write to another file, or move it away", path.display())]
    OtherKind {
        /// The output.
        path: PathBuf,
        /// The kind that would be replaced.
        kind: &'static str,
    },
}

impl OutputKind {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model file of this program",
            Self::Tensors => "file of tensors that is no model",
            Self::Tokenizer => "tokenizer",
            Self::Circuit => "circuit",
            Self::Verdict => "verdict",
            Self::Pairs => "file of a verdict's pairs",
            Self::Certificate => "certificate",
            Self::Domain => "domain of a certificate",
            Self::Page => "page of this program",
            Self::Drawing => "drawing of this program",
            Self::Trace => "trace of a tuning",
            Self::Curves => "table of curves of this program",
        }
    }

    /// True if the file that begins with `head` is of this kind.
    fn is(self, head: &[u8]) -> bool {
        let has = |mark: &str| head.windows(mark.len()).any(|window| window == mark.as_bytes());
        // Eight bytes of length, and an object of JSON.
        let safetensors = head.get(8) == Some(&b'{');
        match self {
            Self::Model => safetensors && has("openwork-model "),
            Self::Tensors => safetensors && !has("\"format\":\"openwork-"),
            Self::Tokenizer => has("\"added_tokens\"") && has("\"model\""),
            Self::Circuit => has("\"openwork-circuit "),
            Self::Verdict => has("\"openwork-verdict "),
            Self::Pairs => has("\"openwork-pairs "),
            Self::Certificate => has("\"openwork-certificate "),
            Self::Domain => has("\"openwork-domain "),
            Self::Page => has(PAGE_MARK),
            Self::Drawing => has("<svg") && has(DRAWING_MARK),
            Self::Trace => has("\"openwork-tune "),
            Self::Curves => head.starts_with(CURVES_HEADER.as_bytes()),
        }
    }
}

/// Bytes of a file in which its mark lies: heads of model files name every tensor, and a tokenizer lists its tokens first.
const HEAD: u64 = 1 << 20;

/// Checks outputs before the work that they are of.
///
/// # Errors
/// An output cannot be written, is an input or another output, belongs to a run, or is there and of another kind.
pub fn check_outputs(outputs: &[(OutputKind, &Path)], inputs: &[&Path]) -> Result<(), OutputError> {
    for (i, &(kind, path)) in outputs.iter().enumerate() {
        let owned = || path.to_owned();
        openwork_tensor::check_writable(path).map_err(|source| OutputError::Unwritable { path: owned(), source })?;
        if outputs[..i].iter().any(|(_, other)| same(other, path)) {
            return Err(OutputError::Twice { path: owned() });
        }
        if inputs.iter().any(|input| same(input, path)) {
            return Err(OutputError::Input { path: owned() });
        }
        if let Some(what) = reserved(kind, path) {
            return Err(OutputError::Reserved { path: owned(), what });
        }
        if !path.is_file() {
            continue;
        }
        if is_of_a_run(path) {
            return Err(OutputError::OfARun { path: owned() });
        }
        let mut head = Vec::new();
        let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
        read.map_err(|source| OutputError::Unwritable { path: owned(), source })?;
        if !head.is_empty() && !kind.is(&head) {
            return Err(OutputError::OtherKind { path: owned(), kind: kind.name() });
        }
    }
    Ok(())
}

/// Fails where something is at `path` already, of which `force` replaces what [`check_outputs`] lets be replaced.
///
/// # Errors
/// [`OutputError::Taken`].
pub fn check_free(path: &Path, force: bool) -> Result<(), OutputError> {
    let there = fs::metadata(path).is_ok_and(|file| file.len() > 0);
    if there && !force { Err(OutputError::Taken { path: path.to_owned() }) } else { Ok(()) }
}

/// Holder of a name that is not to be a file of this kind: a folder of a run, or what lies beside circuits.
fn reserved(kind: OutputKind, path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    let beside = [".verdict.json", ".pairs.json", ".certificate.json", ".domain.json"];
    match kind {
        OutputKind::Circuit if beside.iter().any(|ending| name.ends_with(ending)) => Some("a file beside a circuit"),
        _ if ["circuits", "sample"].contains(&name) && !path.is_dir() => Some("a folder of a run"),
        _ => None,
    }
}

/// True if both names are of one file, or will be.
fn same(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| {
        fs::canonicalize(path).ok().or_else(|| {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
        })
    };
    a == b || place(a).is_some_and(|a| Some(a) == place(b))
}

/// True if the file is one of those that make a run or a published model, beside the others.
fn is_of_a_run(path: &Path) -> bool {
    const FILES: [&str; 8] = [
        "model.safetensors",
        "checkpoint.safetensors",
        "means.safetensors",
        "tokenizer.json",
        "recipe.toml",
        "log.jsonl",
        "beeg_config.json",
        "final_model.pt",
    ];
    const RUNS: [&str; 3] = ["recipe.toml", "log.jsonl", "beeg_config.json"];
    let path = fs::canonicalize(path).unwrap_or(path.to_owned());
    let named = path.file_name().is_some_and(|name| FILES.iter().any(|file| name == *file));
    named && path.parent().is_some_and(|folder| RUNS.iter().any(|file| folder.join(file).exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_replaces_a_file_of_its_kind_and_no_other() {
        use OutputKind::*;
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let safetensors = |header: &str| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        let contents = [
            (Model, safetensors("{\"__metadata__\":{\"format\":\"openwork-model 1\"}}")),
            (Tensors, safetensors("{\"logits\":{}}")),
            (Tokenizer, b"{\"added_tokens\": [], \"model\": {}}".to_vec()),
            (Circuit, b"{\"format\": \"openwork-circuit 2\"}".to_vec()),
            (Verdict, b"{\"format\": \"openwork-verdict 6\"}".to_vec()),
            (Page, format!("<!doctype html>{PAGE_MARK}").into_bytes()),
            (Pairs, b"{\"format\": \"openwork-pairs 1\"}".to_vec()),
            (Certificate, b"{\"format\": \"openwork-certificate 2\"}".to_vec()),
            (Domain, b"{\"format\": \"openwork-domain 1\"}".to_vec()),
            (Drawing, format!("<svg xmlns=\"\">{DRAWING_MARK}</svg>").into_bytes()),
            (Trace, b"{\"format\":\"openwork-tune 1\"}".to_vec()),
            (Curves, format!("{CURVES_HEADER}\n").into_bytes()),
        ];
        for (i, (of, content)) in contents.iter().enumerate() {
            let path = file(&format!("{i}"), content);
            for (kind, _) in &contents {
                assert_eq!(check_outputs(&[(*kind, &path)], &[]).is_ok(), kind == of, "{kind:?} over {of:?}");
            }
        }
        let figure = file("figure", b"<svg xmlns=\"\"/>");
        assert!(check_outputs(&[(Drawing, &figure)], &[]).is_err(), "somebody else's drawing");
        let thesis = file("thesis", b"thesis");
        for (kind, _) in contents {
            assert!(matches!(check_outputs(&[(kind, &thesis)], &[]), Err(OutputError::OtherKind { .. })));
            check_outputs(&[(kind, &file("empty", b"")), (kind, &dir.path().join("new"))], &[]).unwrap();
        }
    }

    #[test]
    fn what_is_there_is_replaced_by_force_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        check_free(&path, false).unwrap();
        fs::write(&path, "").unwrap();
        check_free(&path, false).unwrap();
        fs::write(&path, "{}").unwrap();
        assert!(check_free(&path, false).unwrap_err().to_string().contains("--force"));
        check_free(&path, true).unwrap();
    }

    #[test]
    fn inputs_other_outputs_and_files_of_a_run_are_not_outputs() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let page = OutputKind::Page;
        let error = |outputs: &[(OutputKind, &Path)], inputs: &[&Path]| check_outputs(outputs, inputs).unwrap_err();
        let dotted = dir.path().join(".").join("a");
        assert!(matches!(error(&[(page, &path("a")), (page, &dotted)], &[]), OutputError::Twice { .. }));
        assert!(matches!(error(&[(page, &dotted)], &[&path("a")]), OutputError::Input { .. }));
        assert!(matches!(error(&[(page, &path("no/a"))], &[]), OutputError::Unwritable { .. }));
        assert!(matches!(error(&[(page, &path("circuits"))], &[]), OutputError::Reserved { .. }));
        for name in ["a.verdict.json", "a.pairs.json", "a.domain.json"] {
            assert!(
                matches!(error(&[(OutputKind::Circuit, &path(name))], &[]), OutputError::Reserved { .. }),
                "{name}"
            );
        }
        let tokenizer = path("tokenizer.json");
        fs::write(&tokenizer, "{\"added_tokens\": [], \"model\": {}}").unwrap();
        check_outputs(&[(OutputKind::Tokenizer, &tokenizer)], &[]).unwrap();
        fs::write(path("recipe.toml"), "").unwrap();
        assert!(matches!(error(&[(OutputKind::Tokenizer, &tokenizer)], &[]), OutputError::OfARun { .. }));
    }
}
