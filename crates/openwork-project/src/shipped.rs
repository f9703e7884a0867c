//! Models that come with the program: folders of its source tree, which every command takes by name.

use std::{
    env, fs, io,
    path::{Component, Path, PathBuf},
};

use crate::{VerdictError, VerdictFile};

/// Name of the environment variable with another folder of models than the source tree's.
pub const MODELS_VARIABLE: &str = "OPENWORK_MODELS";

/// Model that a program opens which is given none.
pub const DEFAULT_MODEL: &str = "quickstart-localised";

/// Folder of the models: `OPENWORK_MODELS`, or `models` in the source tree that the program was built from.
pub fn models_folder() -> PathBuf {
    let own = || {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        dir.canonicalize().unwrap_or(dir)
    };
    env::var_os(MODELS_VARIABLE).filter(|folder| !folder.is_empty()).map_or_else(own, PathBuf::from)
}

/// Folder of the model of a name in `models`, if `path` is nothing but a name and a model lies there.
pub fn shipped_model(models: &Path, path: &Path) -> Option<PathBuf> {
    let mut parts = path.components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else { return None };
    Some(models.join(name)).filter(|dir| dir.join("model.safetensors").is_file())
}

/// Names of the models in a folder, sorted; none where the folder is not there.
///
/// # Errors
/// When it cannot be listed.
pub fn shipped_models(models: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(models) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries?,
    };
    let mut names = vec![];
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(shipped_model(models, Path::new(&name)).map(|_| name));
    }
    names.sort();
    Ok(names)
}

/// Verdicts beside the circuits of a run or a model in `dir`, by the paths of their files; each that cannot be used is its error.
///
/// # Errors
/// When the folder of circuits cannot be listed.
#[allow(clippy::type_complexity, reason = "a path and what was read there")]
pub fn verdicts_in(dir: &Path) -> Result<Vec<(PathBuf, Result<VerdictFile, VerdictError>)>, VerdictError> {
    let circuits = dir.join("circuits");
    let read = |source| VerdictError::Read { path: circuits.clone(), source };
    let entries = match fs::read_dir(&circuits) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(read)?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(read)?;
    paths.retain(|path| path.to_string_lossy().ends_with(".verdict.json"));
    paths.sort();
    Ok(paths.into_iter().map(|path| (path.clone(), VerdictFile::read(&path))).collect())
}

/// Files of the circuits beside a model in `dir`, sorted: the JSON files of its folder `circuits` but those that lie beside a
/// circuit. None where the folder is not there.
///
/// # Errors
/// When the folder cannot be listed.
pub fn circuits_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir.join("circuits")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| is_circuit(path));
    paths.sort();
    Ok(paths)
}

/// True for a JSON file that is none of those that lie beside a circuit.
fn is_circuit(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = [".verdict.json", ".pairs.json", ".certificate.json", ".domain.json"];
    name.ends_with(".json") && !beside.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_that_cannot_be_read_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let circuits = dir.path().join("circuits");
        fs::create_dir(&circuits).unwrap();
        for name in ["b.verdict.json", "a.verdict.json", "a.json"] {
            fs::write(circuits.join(name), b"{").unwrap();
        }
        let found = verdicts_in(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.verdict.json", "b.verdict.json"]);
        assert!(found.iter().all(|(_, verdict)| verdict.is_err()));
        assert!(verdicts_in(&dir.path().join("none")).unwrap().is_empty());
        assert_eq!(circuits_in(dir.path()).unwrap(), [circuits.join("a.json")]);
        assert!(circuits_in(&dir.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn a_model_is_known_by_its_bare_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("model.safetensors"), b"").unwrap();
        }
        fs::create_dir(dir.path().join("no-model")).unwrap();
        let of = |path: &str| shipped_model(dir.path(), Path::new(path));
        assert_eq!(of("a"), Some(dir.path().join("a")));
        for path in ["./a", "a/model.safetensors", "..", "", "no-model", "c", "/a"] {
            assert_eq!(of(path), None, "{path}");
        }
        assert_eq!(shipped_models(dir.path()).unwrap(), ["a", "b"]);
        assert!(shipped_models(&dir.path().join("none")).unwrap().is_empty());
    }
}
