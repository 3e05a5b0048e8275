//! The configuration: any text is a configuration or a list of problems.

/// Parses `data` as a configuration file.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    if let Err(problems) = millrace_config::parse("fuzz.toml", text) {
        let shown = problems.to_string();
        assert!(!shown.is_empty(), "a refusal says why");
    }
}
