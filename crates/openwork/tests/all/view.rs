//! `openwork view` and `openwork import-viz`.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{openwork, run, stderr};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").canonicalize().unwrap()
}

/// The program with the models that come with it.
fn view(dir: &Path, args: &[&str]) -> Command {
    let mut command = openwork(dir, args);
    command.env("OPENWORK_MODELS", models());
    command
}

#[test]
fn without_arguments_the_model_that_comes_with_the_program_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let output = view(dir.path(), &["view", "--export", "page.html"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "page.html\n");
    let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
    assert!(page.contains("quickstart-localised") && page.contains("PASS (STRONG)"));
    assert!(page.contains("default-src 'none'") && page.contains("connect-src 'none'"));
    // A page is kept, unless it is to be replaced; what is no page is kept in any case.
    let again = view(dir.path(), &["view", "--export", "page.html"]).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));
    let forced = view(dir.path(), &["view", "--export", "page.html", "--force"]).output().unwrap();
    assert!(forced.status.success(), "{}", stderr(&forced));
    assert_eq!(fs::read_to_string(dir.path().join("page.html")).unwrap(), page, "the same files give the same page");
    fs::write(dir.path().join("notes.html"), "mine").unwrap();
    let other = view(dir.path(), &["view", "--export", "notes.html", "--force"]).output().unwrap();
    assert_eq!(other.status.code(), Some(2));
    assert_eq!(fs::read_to_string(dir.path().join("notes.html")).unwrap(), "mine");
}

#[test]
fn a_page_is_served_under_its_address_until_it_is_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut child =
        view(dir.path(), &["view", "--no-open"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let url = url.trim();
    let parts: Vec<&str> = url.split('/').collect();
    assert!(url.starts_with("http://127.0.0.1:") && parts[3].len() == 32, "{url}");
    let get = |path: &str| {
        let mut stream = TcpStream::connect(parts[2]).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", parts[2]).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(get(&format!("/{}/", parts[3])).starts_with("HTTP/1.1 200"));
    assert!(get("/").starts_with("HTTP/1.1 404"));
    // A port that is taken is named.
    let port = parts[2].rsplit(':').next().unwrap();
    let second = view(dir.path(), &["view", "--no-open", "--port", port]).output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(stderr(&second).contains(&format!("cannot listen on port {port}")), "{}", stderr(&second));
    let ended = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(ended.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_looked_at_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let circuit = models().join("quickstart-localised/circuits/with_as.json");
    fs::copy(circuit, dir.path().join("stray.json")).unwrap();
    fs::write(dir.path().join("weights.pt"), "text").unwrap();
    for (line, expected) in [
        ("view nothing", "nothing"),
        ("view empty", "neither a model file, a finished run's folder"),
        ("view stray.json", "name its model before it"),
        ("view gone.json", "gone.json"),
        ("import-viz weights.pt", "weights.pt"),
        ("import-viz gone.pt", "gone.pt"),
        ("import-viz weights.pt --tokenizer gone.json", "gone.json"),
    ] {
        let output = run(dir.path(), line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(stderr(&output).contains(expected), "{line}: {}", stderr(&output));
    }
    let output = run(dir.path(), "import-viz weights.pt --export weights.pt --force");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_to_string(dir.path().join("weights.pt")).unwrap(), "text");
}
