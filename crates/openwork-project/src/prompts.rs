//! Streams of prompts: lines of text, or of JSON.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

/// Form of the lines of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// A line is a prompt.
    Text,
    /// A line is a JSON string, or an object with a string `prompt`.
    Json,
}

/// A prompt and the number of its line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptLine {
    /// Number of the line.
    pub number: usize,
    /// The prompt.
    pub prompt: String,
}

/// Reason that a line is no prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The file cannot be opened.
    #[error("cannot read {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A line cannot be read.
    #[error("{stream}, line {number}")]
    Read {
        /// Name of the stream.
        stream: String,
        /// Number of the line.
        number: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// A line is not JSON.
    #[error("{stream}, line {number}: not JSON")]
    Json {
        /// Name of the stream.
        stream: String,
        /// Number of the line.
        number: usize,
        /// The fault.
        source: serde_json::Error,
    },
    /// A line of JSON holds no prompt.
    #[error("{stream}, line {number}: neither a text nor an object with a text `prompt` that is not empty")]
    NoPrompt {
        /// Name of the stream.
        stream: String,
        /// Number of the line.
        number: usize,
    },
}

/// Prompts of a file, line after line; empty lines are skipped.
///
/// # Errors
/// When the file cannot be opened; every item has the fault of its own line.
pub fn read_prompts(
    path: &Path,
    format: LineFormat,
) -> Result<impl Iterator<Item = Result<PromptLine, PromptError>> + use<>, PromptError> {
    let file = File::open(path).map_err(|source| PromptError::Open { path: path.to_owned(), source })?;
    Ok(prompt_lines(BufReader::new(file).lines(), path.display().to_string(), format))
}

/// Prompts of `lines`, as they come; empty lines are skipped. `stream` names them in errors.
pub fn prompt_lines(
    lines: impl Iterator<Item = io::Result<String>>,
    stream: String,
    format: LineFormat,
) -> impl Iterator<Item = Result<PromptLine, PromptError>> {
    lines.enumerate().filter_map(move |(i, line)| {
        let number = i + 1;
        let stream = || stream.clone();
        match line {
            Ok(line) if line.trim().is_empty() => None,
            Ok(line) => Some(prompt(line, format, number, &stream)),
            Err(source) => Some(Err(PromptError::Read { stream: stream(), number, source })),
        }
    })
}

fn prompt(
    line: String,
    format: LineFormat,
    number: usize,
    stream: &dyn Fn() -> String,
) -> Result<PromptLine, PromptError> {
    if format == LineFormat::Text {
        return Ok(PromptLine { number, prompt: line });
    }
    let json = |source| PromptError::Json { stream: stream(), number, source };
    let value: serde_json::Value = serde_json::from_str(&line).map_err(json)?;
    let text = value.as_str().or_else(|| value.get("prompt").and_then(|p| p.as_str()));
    let text =
        text.filter(|text| !text.is_empty()).ok_or_else(|| PromptError::NoPrompt { stream: stream(), number })?;
    Ok(PromptLine { number, prompt: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str], format: LineFormat) -> Vec<Result<PromptLine, String>> {
        let lines = lines.iter().map(|line| Ok((*line).to_owned())).collect::<Vec<_>>();
        prompt_lines(lines.into_iter(), "s".into(), format).map(|p| p.map_err(|e| e.to_string())).collect()
    }

    fn line(number: usize, prompt: &str) -> Result<PromptLine, String> {
        Ok(PromptLine { number, prompt: prompt.into() })
    }

    #[test]
    fn lines_are_prompts_and_empty_ones_are_skipped_but_counted() {
        assert_eq!(read(&["a", " ", "\"b\""], LineFormat::Text), [line(1, "a"), line(3, "\"b\"")]);
    }

    #[test]
    fn json_lines_are_texts_or_objects_and_faults_name_the_line() {
        let found = read(&["\"a\\nb\"", "{\"prompt\": \"c\"}", "{", "{\"prompt\": \"\"}", "3"], LineFormat::Json);
        assert_eq!(found[..2], [line(1, "a\nb"), line(2, "c")]);
        assert!(found[2].as_ref().unwrap_err().starts_with("s, line 3: not JSON"));
        assert!(found[3].as_ref().unwrap_err().starts_with("s, line 4: neither"));
        assert!(found[4].as_ref().unwrap_err().starts_with("s, line 5: neither"));
    }
}
