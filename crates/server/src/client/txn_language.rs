//! etcdctl's language of transactions: comparisons, a blank line, what to do where all of them hold,
//! a blank line, what to do otherwise.
//!
//! ```text
//! mod("key1") > "0"
//!
//! put key1 "overwrote-key1"
//!
//! put key1 "created-key1"
//! get key1
//! ```

use thiserror::Error;

use crate::proto::etcdserverpb::Compare;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

/// Why a line makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SyntaxError {
    /// A comparison of another shape.
    #[error("{line:?} is no comparison: write e.g. mod(\"key\") > \"0\"")]
    Comparison {
        /// The line.
        line: String,
    },
    /// A comparison of something that keys do not have.
    #[error("{target:?} cannot be compared: version, create, mod, value and lease can")]
    Target {
        /// What was asked for.
        target: String,
    },
    /// An operator that is none.
    #[error("{operator:?} is no comparison: =, !=, < and > are")]
    Operator {
        /// What was written.
        operator: String,
    },
    /// A number was expected.
    #[error("{text:?} is no number, and {target} is compared with one")]
    Number {
        /// What is compared.
        target: String,
        /// With what.
        text: String,
    },
    /// A quotation mark without its match, or a backslash before something else than what it can
    /// stand before.
    #[error("a quoted text in {line:?} does not end, or has a backslash before an unknown letter")]
    Quotes {
        /// The line.
        line: String,
    },
    /// An operation that is none, or whose flags make no sense.
    #[error("{line:?} is no operation of a transaction: {problem}")]
    Operation {
        /// The line.
        line: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The lines of comparisons, of success and of failure. What follows a third blank line is ignored,
/// as etcdctl ignores it.
pub fn sections(text: &str) -> [Vec<&str>; 3] {
    let mut sections: [Vec<&str>; 3] = Default::default();
    let mut current = 0;
    for line in text.lines().map(str::trim) {
        match (line.is_empty(), sections.get_mut(current)) {
            (true, _) => current += 1,
            (false, Some(section)) => section.push(line),
            (false, None) => break,
        }
    }
    sections
}

/// One comparison: `target("key") operator "operand"`.
///
/// # Errors
/// What of the line makes no sense.
pub(crate) fn parse_comparison(line: &str) -> Result<Compare, SyntaxError> {
    let malformed = || SyntaxError::Comparison { line: line.to_owned() };
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = quoted(line, rest.trim_start())?.ok_or_else(malformed)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(malformed)?.trim_start();
    let quote = rest.find('"').ok_or_else(malformed)?;
    let (operator, rest) = rest.split_at(quote);
    let (operand, rest) = quoted(line, rest)?.ok_or_else(malformed)?;
    if !rest.trim().is_empty() {
        return Err(malformed());
    }
    let result = match operator.trim() {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        other => return Err(SyntaxError::Operator { operator: other.to_owned() }),
    };
    let (target, target_union) = comparison_target(target.trim(), operand)?;
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: Default::default(),
        target_union: Some(target_union),
    })
}

fn comparison_target(
    target: &str,
    operand: Vec<u8>,
) -> Result<(CompareTarget, TargetUnion), SyntaxError> {
    let number = |radix| {
        let text = String::from_utf8_lossy(&operand);
        i64::from_str_radix(&text, radix)
            .map_err(|_| SyntaxError::Number { target: target.to_owned(), text: text.into_owned() })
    };
    Ok(match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        // Leases are written in hexadecimal wherever people see them.
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(operand.into())),
        other => return Err(SyntaxError::Target { target: other.to_owned() }),
    })
}

/// The words of an operation: between white space, or quoted.
///
/// # Errors
/// A quotation mark without its match.
pub fn words(line: &str) -> Result<Vec<Vec<u8>>, SyntaxError> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match quoted(line, rest)? {
            Some(found) => found,
            None => literal(line, rest)?,
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// A word between single quotes, as it is, or up to the next white space.
fn literal<'a>(line: &str, text: &'a str) -> Result<(Vec<u8>, &'a str), SyntaxError> {
    if let Some(rest) = text.strip_prefix('\'') {
        let unmatched = || SyntaxError::Quotes { line: line.to_owned() };
        let (word, after) = rest.split_once('\'').ok_or_else(unmatched)?;
        return Ok((word.as_bytes().to_vec(), after));
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    Ok((word.as_bytes().to_vec(), after))
}

/// The text between double quotes at the beginning, its escapes resolved, and what follows; `None`
/// where there are none.
fn quoted<'a>(line: &str, text: &'a str) -> Result<Option<(Vec<u8>, &'a str)>, SyntaxError> {
    let Some(body) = text.strip_prefix('"') else { return Ok(None) };
    let wrong = || SyntaxError::Quotes { line: line.to_owned() };
    let mut word = Vec::new();
    let mut rest = body;
    loop {
        let mut characters = rest.chars();
        match characters.next().ok_or_else(wrong)? {
            '"' => return Ok(Some((word, characters.as_str()))),
            '\\' => {
                let (byte, after) = escape(characters.as_str()).ok_or_else(wrong)?;
                word.push(byte);
                rest = after;
            }
            character => {
                word.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = characters.as_str();
            }
        }
    }
}

/// What the characters after a backslash stand for.
fn escape(text: &str) -> Option<(u8, &str)> {
    let mut characters = text.chars();
    let byte = match characters.next()? {
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        '"' => b'"',
        '\\' => b'\\',
        'x' => {
            let digits = text.get(1..3)?;
            return Some((u8::from_str_radix(digits, 16).ok()?, &text[3..]));
        }
        _ => return None,
    };
    Some((byte, characters.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(
        result: CompareResult,
        target: CompareTarget,
        union: TargetUnion,
    ) -> Result<Compare, SyntaxError> {
        Ok(Compare {
            result: result.into(),
            target: target.into(),
            key: "k 1".into(),
            range_end: Default::default(),
            target_union: Some(union),
        })
    }

    #[test]
    fn every_target_has_its_names() {
        use CompareResult::{Equal, Greater, Less, NotEqual};
        for name in ["ver", "version"] {
            assert_eq!(
                parse_comparison(&format!("{name}(\"k 1\") = \"-1\"")),
                compare(Equal, CompareTarget::Version, TargetUnion::Version(-1))
            );
        }
        for name in ["c", "create"] {
            assert_eq!(
                parse_comparison(&format!("{name}(\"k 1\") != \"2\"")),
                compare(NotEqual, CompareTarget::Create, TargetUnion::CreateRevision(2))
            );
        }
        for name in ["m", "mod"] {
            assert_eq!(
                parse_comparison(&format!(" {name}( \"k 1\" )> \"3\" ")),
                compare(Greater, CompareTarget::Mod, TargetUnion::ModRevision(3))
            );
        }
        for name in ["val", "value"] {
            assert_eq!(
                parse_comparison(&format!("{name}(\"k 1\") < \"a\\\"b\"")),
                compare(Less, CompareTarget::Value, TargetUnion::Value("a\"b".into()))
            );
        }
        assert_eq!(
            parse_comparison("lease(\"k 1\") = \"1f\""),
            compare(Equal, CompareTarget::Lease, TargetUnion::Lease(0x1f))
        );
    }

    #[test]
    fn comparisons_that_make_no_sense_say_why() {
        let problem = |line| parse_comparison(line).unwrap_err();
        for line in ["", "mod", "mod(k) > \"0\"", "mod(\"k\" > \"0\"", "mod(\"k\") > 0"] {
            assert_eq!(problem(line), SyntaxError::Comparison { line: line.to_owned() });
        }
        let trailing = "mod(\"k\") > \"0\" x";
        assert_eq!(problem(trailing), SyntaxError::Comparison { line: trailing.to_owned() });
        assert_eq!(
            problem("size(\"k\") > \"0\""),
            SyntaxError::Target { target: "size".to_owned() }
        );
        assert_eq!(
            problem("mod(\"k\") >= \"0\""),
            SyntaxError::Operator { operator: ">=".to_owned() }
        );
        assert_eq!(
            problem("mod(\"k\") > \"x\""),
            SyntaxError::Number { target: "mod".to_owned(), text: "x".to_owned() }
        );
        assert!(matches!(problem("mod(\"k) > 0"), SyntaxError::Quotes { .. }));
    }

    #[test]
    fn words_are_quoted_or_not() {
        let read = |line| {
            words(line).map(|words| {
                words
                    .iter()
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            read("put key1 \"a b\" --prev-kv").unwrap(),
            ["put", "key1", "a b", "--prev-kv"]
        );
        assert_eq!(read("  put 'a \\ b'\t\"\" ").unwrap(), ["put", "a \\ b", ""]);
        assert_eq!(words("\"\\x00\\xff\\n\\t\\r\\\\\\\"\"").unwrap(), [b"\0\xff\n\t\r\\\""]);
        for wrong in ["\"a", "'a", "\"\\q\"", "\"\\x0\"", "\"\\"] {
            assert!(matches!(words(wrong), Err(SyntaxError::Quotes { .. })), "{wrong}");
        }
    }

    #[test]
    fn blank_lines_part_the_sections() {
        let text = "mod(\"a\") > \"0\"\nmod(\"b\") > \"0\"\n\nput a b\n\nget a\nget b\n\nignored\n";
        assert_eq!(
            sections(text),
            [
                vec!["mod(\"a\") > \"0\"", "mod(\"b\") > \"0\""],
                vec!["put a b"],
                vec!["get a", "get b"],
            ]
        );
        assert_eq!(sections("\nput a b\n"), [vec![], vec!["put a b"], vec![]]);
        assert_eq!(sections(""), [const { Vec::<&str>::new() }; 3]);
    }
}
