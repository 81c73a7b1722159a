//! What jobs, labels and environment variables may be called.

/// The most characters of a name.
pub const MAX_NAME: usize = 100;

/// Why a name cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// Nothing is no name.
    #[error("a name must not be empty")]
    Empty,
    /// More than [`MAX_NAME`] characters.
    #[error("a name has at most 100 characters")]
    TooLong,
    /// A character that would mean something in a path, a URL, a shell or a terminal.
    #[error(
        "a name has letters, digits, `.`, `_` and `-` alone, and begins with none of `.` and `-`"
    )]
    Characters,
    /// Not what a shell takes for a variable.
    #[error("the name of a variable has letters, digits and `_` alone, and begins with no digit")]
    Variable,
    /// hgci sets it.
    #[error("hgci sets `CI`, `HGCI` and `HGCI_*` itself")]
    Reserved,
}

const _: () = assert!(MAX_NAME == 100);

/// Whether `name` can be the name of a job or a label: `[A-Za-z0-9_][A-Za-z0-9._-]*`.
pub fn check_name(name: &str) -> Result<(), NotAName> {
    check_length(name)?;
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.starts_with(['.', '-']) || !name.bytes().all(inside) {
        return Err(NotAName::Characters);
    }
    Ok(())
}

/// Whether `name` can be set by a pipeline's `env`.
pub fn check_env_name(name: &str) -> Result<(), NotAName> {
    check_length(name)?;
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(inside) {
        return Err(NotAName::Variable);
    }
    if name == "CI" || name == "HGCI" || name.starts_with("HGCI_") {
        return Err(NotAName::Reserved);
    }
    Ok(())
}

fn check_length(name: &str) -> Result<(), NotAName> {
    match name.len() {
        0 => Err(NotAName::Empty),
        length if length > MAX_NAME => Err(NotAName::TooLong),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_character_that_means_something_elsewhere() {
        for name in ["a", "test-3.13", "x86_64", "_", "0", &"x".repeat(100)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [".", "..", "-f", ".a", "a/b", "a b", "a:b", "é", "a\n", "a\0", "$a", "a,b"] {
            assert_eq!(check_name(name), Err(NotAName::Characters), "{name}");
        }
        assert_eq!(check_name(""), Err(NotAName::Empty));
        assert_eq!(check_name(&"x".repeat(101)), Err(NotAName::TooLong));
    }

    #[test]
    fn variables_that_hgci_sets_cannot_be_set() {
        for name in ["PATH", "_", "a1", "CI_X", "HGCIX", "hgci_node"] {
            assert_eq!(check_env_name(name), Ok(()), "{name}");
        }
        for name in ["CI", "HGCI", "HGCI_NODE", "HGCI_"] {
            assert_eq!(check_env_name(name), Err(NotAName::Reserved), "{name}");
        }
        for name in ["1A", "A-B", "A=B", "A B", "É", "A\0"] {
            assert_eq!(check_env_name(name), Err(NotAName::Variable), "{name}");
        }
    }
}
