//! JSON of types of ours, with the field in errors.

use std::fmt;

/// Reads a value of a type of ours; an error names the field, such as `groups[0].nodes`, and the line.
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// struct Point { x: Vec<f64> }
/// let error = openwork_circuit::from_json::<Point>(r#"{"x": [1, "2"]}"#).unwrap_err();
/// assert!(error.to_string().starts_with("x[1]: "), "{error}");
/// ```
///
/// # Errors
/// When `text` is not JSON, or not of the type.
pub fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, JsonError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| JsonError { field: error.path().to_string(), source: error.into_inner() })?;
    json.end().map_err(|source| JsonError { field: ".".into(), source })?;
    Ok(value)
}

/// JSON that is not of a type of ours.
#[derive(Debug)]
pub struct JsonError {
    /// The field; `.` for the whole.
    field: String,
    /// The fault and its line.
    source: serde_json::Error,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field[..] {
            "." => self.source.fmt(f),
            field => write!(f, "{field}: {}", self.source),
        }
    }
}

impl std::error::Error for JsonError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_after_a_value_is_an_error() {
        assert_eq!(from_json::<u8>(" 3 ").unwrap(), 3);
        assert!(from_json::<u8>("3 4").is_err());
    }
}
